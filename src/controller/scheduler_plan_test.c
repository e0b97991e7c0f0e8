#include "base/base_test.h"
#include "controller/scheduler_words.h"

#include "base/cleanup.h"

static const struct json *parse(const char *text, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *o = NULL;

    if (!json_parse(str_of(text), a, &o, &err))
        fail_msg("%s: %s", error_text(&err), text);
    return o;
}

#define NODE(name, more)                                                                           \
    "{\"metadata\":{\"name\":\"" name "\",\"labels\":{\"zone\":\"a\",\"n\":\"" name                \
    "\"}},\"spec\":{" more "},\"status\":{"                                                        \
    "\"allocatable\":{\"cpu\":\"2\",\"memory\":\"4Gi\",\"pods\":\"10\"}}}"
#define POD(more)                                                                                  \
    "{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"500m\",\"memory\":"        \
    "\"1Gi\"}}}]" more "}}"
#define AFFINE(expr)                                                                               \
    ",\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{"        \
    "\"nodeSelectorTerms\":[" expr "]}}}"

#define VMM_POD(name) POD(",\"nodeSelector\":{\"vireo.io/vmm-" name "\":\"true\"}")
#define ALLOCATABLE "\"status\":{\"allocatable\":{\"cpu\":\"2\",\"memory\":\"4Gi\",\"pods\":\"10\"}}}"
#define REPORTING(name, reason)                                                                    \
    "{\"metadata\":{\"name\":\"" name                                                            \
    "\",\"annotations\":{\"vireo.io/hypervisor-report\":\"{\\\"vmms\\\":[{\\\"name\\\":"        \
    "\\\"firecracker\\\",\\\"reason\\\":\\\"" reason "\\\"}]}\"}}," ALLOCATABLE
#define OFFERING(name, vmm, level)                                                                 \
    "{\"metadata\":{\"name\":\"" name "\",\"labels\":{\"vireo.io/vmm-" vmm                         \
    "\":\"true\",\"vireo.io/vmm-" vmm "-level\":\"" level "\"}}," ALLOCATABLE

static void chooses_or_says_why(void **state)
{
    static const struct {
        const char *pod, *nodes[3];
        const char *answer; /* "" : no node, any message */
    } cases[] = {
        {POD(""), {NODE("x", "")}, "x"},
        {POD(""), {NODE("y", ""), NODE("x", "")}, "x"},
        {POD(""), {NODE("x", "\"unschedulable\":true"), NODE("y", "")}, "y"},
        {POD(""), {NULL}, "no nodes available to schedule pods"},
        /* 8Ei and 8Ei and a bit do not come round to less than nothing. */
        {"{\"spec\":{\"overhead\":{\"memory\":\"8Ei\",\"cpu\":\"8Ei\"},\"containers\":[{"
         "\"resources\":{"
         "\"requests\":{\"cpu\":\"8Ei\",\"memory\":\"8Ei\"}}},{\"resources\":{\"requests\":{"
         "\"memory\":"
         "\"8Ei\"}}}]}}",
         {NODE("x", "")},
         ""},
        {POD(",\"nodeSelector\":{\"n\":\"y\"}"), {NODE("x", ""), NODE("y", "")}, "y"},
        {POD(",\"nodeSelector\":{\"n\":\"z\"}"),
         {NODE("x", ""), NODE("y", "\"unschedulable\":true")},
         "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) "
         "were unschedulable."},
        {POD(""),
         {NODE("x", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}]")},
         "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}."},
        {POD(",\"tolerations\":[{\"key\":\"k\",\"operator\":\"Exists\"}]"),
         {NODE("x", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}]")},
         "x"},
        {POD(",\"tolerations\":[{\"key\":\"k\",\"value\":\"w\"}]"),
         {NODE("x", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoExecute\"}]")},
         ""},
        {POD(""), {NODE("x", "\"taints\":[{\"key\":\"k\",\"effect\":\"PreferNoSchedule\"}]")}, "x"},
        {POD(AFFINE(
             "{\"matchExpressions\":[{\"key\":\"n\",\"operator\":\"In\",\"values\":[\"y\"]}]}")),
         {NODE("x", ""), NODE("y", "")},
         "y"},
        {POD(AFFINE("{\"matchExpressions\":[{\"key\":\"gone\",\"operator\":\"Exists\"}]},{"
                    "\"matchFields\":[{\"key\":"
                    "\"metadata.name\",\"operator\":\"In\",\"values\":[\"y\"]}]}")),
         {NODE("x", ""), NODE("y", "")},
         "y"},
        {POD(AFFINE(
             "{\"matchExpressions\":[{\"key\":\"n\",\"operator\":\"NotIn\",\"values\":[\"x\"]}]}")),
         {NODE("x", "")},
         ""},
        {POD(AFFINE("{}")), {NODE("x", "")}, ""},
        /* what is only preferred, and neighbours that one node cannot be chosen by, keep no pod waiting */
        {POD(",\"affinity\":{\"nodeAffinity\":{\"preferredDuringSchedulingIgnoredDuringExecution\":"
             "[{\"weight\":1,"
             "\"preference\":{\"matchExpressions\":[{\"key\":\"gone\",\"operator\":\"Exists\"}]}}]}"
             ",\"podAffinity\":{"
             "\"preferredDuringSchedulingIgnoredDuringExecution\":[{\"weight\":1,"
             "\"podAffinityTerm\":{\"topologyKey\":"
             "\"gone\"}}]}}"),
         {NODE("x", "")},
         "x"},
        {POD(",\"topologySpreadConstraints\":[{\"maxSkew\":1,\"topologyKey\":\"zone\","
             "\"whenUnsatisfiable\":"
             "\"DoNotSchedule\",\"labelSelector\":{},\"matchLabelKeys\":[\"a\"],\"minDomains\":1,"
             "\"nodeAffinityPolicy\":\"Honor\",\"nodeTaintsPolicy\":\"Ignore\"}]"),
         {NODE("x", "")},
         "x"},
        {POD(",\"topologySpreadConstraints\":[{\"maxSkew\":1,\"topologyKey\":\"gone\","
             "\"whenUnsatisfiable\":"
             "\"DoNotSchedule\"}]"),
         {NODE("x", "")},
         "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing "
         "required label)."},
        {POD(",\"topologySpreadConstraints\":[{\"maxSkew\":1,\"topologyKey\":\"gone\","
             "\"whenUnsatisfiable\":"
             "\"ScheduleAnyway\"}]"),
         {NODE("x", "")},
         "x"},
        {"{\"spec\":{\"containers\":[{\"resources\":{\"limits\":{\"memory\":\"8Gi\"}}}]}}",
         {NODE("x", "")},
         "0/1 nodes are available: 1 Insufficient memory. The pod needs 8192Mi of memory; node x "
         "has 4096Mi left of 4096Mi."},
        {"{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"3\",\"memory\":"
         "\"8Gi\"}}}]}}",
         {NODE("x", "")},
         "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. The pod needs 3000m "
         "of cpu; node x has 2000 left of "
         "2000. The pod needs 8192Mi of memory; node x has 4096Mi left of 4096Mi."},
        {"{\"spec\":{\"containers\":[{\"resources\":{\"limits\":{\"devices.kubevirt.io/"
         "kvm\":\"1\"}}}]}}",
         {NODE("x", "")},
         "0/1 nodes are available: 1 Insufficient devices.kubevirt.io/kvm. No node has a /dev/kvm "
         "that works: let the KubeVirt "
         "object's developerConfiguration.useEmulation be unset or true to run without."},
        {"{\"spec\":{\"containers\":[{\"resources\":{\"limits\":{\"devices.kubevirt.io/"
         "vhost-vsock\":\"1\"}}}]}}",
         {NODE("x", "")},
         "0/1 nodes are available: 1 Insufficient devices.kubevirt.io/vhost-vsock. No node has a "
         "/dev/vhost-vsock, which this hypervisor's vsock (autoattachVSOCK) needs: load the module "
         "vhost_vsock there (modprobe vhost_vsock), or choose cloud-hypervisor or firecracker by "
         "the annotation vireo.io/hypervisor."},
        /* a hypervisor that no node offers: the nodes say why */
        {VMM_POD("firecracker"),
         {REPORTING("x", "firecracker needs KVM, which hangs")},
         "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. The "
         "machine needs hypervisor firecracker, "
         "which no node offers: node x: firecracker needs KVM, which hangs. Mend that, or let the "
         "annotation vireo.io/hypervisor name "
         "another one."},
        {VMM_POD("firecracker"),
         {NODE("x", ""), REPORTING("y", "")},
         "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. The "
         "machine needs hypervisor firecracker, "
         "which no node offers: node x: its node agent has not said what it offers; node y: its "
         "node agent does not know this "
         "hypervisor. Mend that, or let the annotation vireo.io/hypervisor name another one."},
        {VMM_POD("qemu-microvm"),
         {REPORTING("x", "firecracker needs KVM, which hangs")},
         "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. The "
         "machine needs hypervisor qemu-microvm, "
         "which no node offers: node x: its node agent does not know this hypervisor. Mend that, "
         "or let the annotation "
         "vireo.io/hypervisor name another one."},
        {POD(AFFINE("{\"matchExpressions\":[{\"key\":\"vireo.io/"
                    "vmm-qemu-level\",\"operator\":\"Gt\",\"values\":[\"900\"]}]}")),
         {OFFERING("x", "qemu", "702")},
         "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. The "
         "machine needs hypervisor qemu, which no "
         "node offers: node x: it has version 7.2, and what is written needs 9.1 or newer. Mend "
         "that, or let the annotation "
         "vireo.io/hypervisor name another one."},
        {VMM_POD("qemu"), {OFFERING("x", "qemu", "702")}, "x"},
        {"{\"spec\":{\"containers\":[{}],\"initContainers\":[{\"resources\":{\"requests\":{"
         "\"memory\":\"5Gi\"}}}]}}",
         {NODE("x", "")},
         ""},
        {"{\"spec\":{\"containers\":\"x\",\"tolerations\":5,\"affinity\":[]}}",
         {NODE("x", "\"taints\":{}")},
         "x"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct candidate nodes[3] = {0};
        const char *message = NULL;
        size_t n = 0;
        int at;

        for (; n < 3 && cases[i].nodes[n]; n++) {
            nodes[n].node = parse(cases[i].nodes[n], &a);
            nodes[n].has = amounts_of_list(json_at(nodes[n].node, "status/allocatable"), &a);
        }
        at = schedule(parse(cases[i].pod, &a), nodes, n, &a, &message);
        if (at < 0 && !cases[i].answer[0])
            continue;
        if (strcmp(at >= 0 ? arena_strdup(&a, meta_name(nodes[at].node)) : message, cases[i].answer)
            != 0)
            fail_msg("case %zu: %d %s", i, at, at < 0 ? message : "");
    }
}

static void what_is_used_counts(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct candidate nodes[2] = {0};
    const struct json *pod = parse(POD(""), &a);
    const char *message;
    int got[9];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        nodes[i].node = parse(i ? NODE("y", "") : NODE("x", ""), &a);
        nodes[i].has = amounts_of_list(json_at(nodes[i].node, "status/allocatable"), &a);
    }
    for (size_t i = 0; i < 9; i++) {
        got[i] = schedule(pod, nodes, 2, &a, &message);
        if (got[i] >= 0) {
            amounts_add(&nodes[got[i]].used, "cpu", 500);
            amounts_add(&nodes[got[i]].used, "memory", 1LL << 30);
            amounts_add(&nodes[got[i]].used, "pods", 1);
        }
    }
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(got[i], i % 2); /* spread */
    assert_int_equal(got[8], -1);
}

#define AGENT(annotations) "{\"metadata\":{\"name\":\"x\",\"annotations\":{\"kubevirt.io/heartbeat\":\"t\"" annotations "}}," ALLOCATABLE
#define STATE(name, state)                                                                         \
    ",\"vireo.io/hypervisor-report\":\"{\\\"vmms\\\":[{\\\"name\\\":\\\"" name                      \
    "\\\",\\\"state\\\":\\\"" state "\\\"}]}\""

/* While a node is still finding out what it has, nobody is told that there is nothing. */
static void a_node_that_does_not_know_yet(void **state)
{
    static const struct {
        const char *pod, *node;
        bool unknown;
    } cases[] = {
        {VMM_POD("qemu"), AGENT(""), true},
        {VMM_POD("qemu"), AGENT(STATE("qemu", "unknown")), true},
        {VMM_POD("qemu"), AGENT(STATE("qemu", "absent")), false},
        {VMM_POD("qemu"), AGENT(STATE("firecracker", "unknown")), false},
        {VMM_POD("qemu"), NODE("x", ""), false}, /* none of our agents */
        {VMM_POD("qemu"), OFFERING("x", "qemu", "702"), false},
        {POD(""), AGENT(""), false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct candidate node = {.node = parse(cases[i].node, &a)};

        if (scheduler_hypervisor_unknown(parse(cases[i].pod, &a), &node, 1) != cases[i].unknown)
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chooses_or_says_why),
                                       cmocka_unit_test(what_is_used_counts),
                                       cmocka_unit_test(a_node_that_does_not_know_yet)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
