#include "base/base_test.h"
#include "controller/vm_plan.h"

#include "api/kv.h"

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "json/patch.h"

/* The whole of reference/api-and-lifecycle.md §2.1's table. */
static void steps(void **state)
{
    static const struct {
        struct vm_case c;
        enum vm_step step;
    } cases[] = {
        {{VM_ALWAYS, VMI_NONE, VM_NO_REQUEST, false}, VM_CREATE},
        {{VM_ALWAYS, VMI_NONE, VM_START, true}, VM_CREATE},
        {{VM_ALWAYS, VMI_PENDING, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_ALWAYS, VMI_RUNNING, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_ALWAYS, VMI_RUNNING, VM_STOP, true}, VM_DELETE},
        {{VM_ALWAYS, VMI_SUCCEEDED, VM_NO_REQUEST, true}, VM_DELETE},
        {{VM_ALWAYS, VMI_FAILED, VM_NO_REQUEST, true}, VM_DELETE},
        {{VM_RERUN_ON_FAILURE, VMI_NONE, VM_NO_REQUEST, false}, VM_CREATE},
        {{VM_RERUN_ON_FAILURE, VMI_NONE, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_RERUN_ON_FAILURE, VMI_NONE, VM_START, true}, VM_CREATE},
        {{VM_RERUN_ON_FAILURE, VMI_RUNNING, VM_STOP, true}, VM_DELETE},
        {{VM_RERUN_ON_FAILURE, VMI_RUNNING, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_RERUN_ON_FAILURE, VMI_SUCCEEDED, VM_NO_REQUEST, true}, VM_DELETE},
        {{VM_RERUN_ON_FAILURE, VMI_FAILED, VM_NO_REQUEST, true}, VM_PUSH_START},
        {{VM_RERUN_ON_FAILURE, VMI_FAILED, VM_START, true}, VM_DELETE},
        {{VM_RERUN_ON_FAILURE, VMI_FAILED, VM_STOP, true}, VM_DELETE},
        {{VM_MANUAL, VMI_NONE, VM_NO_REQUEST, false}, VM_STAY},
        {{VM_MANUAL, VMI_NONE, VM_START, true}, VM_CREATE},
        {{VM_MANUAL, VMI_RUNNING, VM_STOP, true}, VM_DELETE},
        {{VM_MANUAL, VMI_SUCCEEDED, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_MANUAL, VMI_FAILED, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_MANUAL, VMI_FAILED, VM_STOP, true}, VM_DELETE},
        {{VM_HALTED, VMI_NONE, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_HALTED, VMI_NONE, VM_START, true}, VM_SPEC_ALWAYS},
        {{VM_HALTED, VMI_RUNNING, VM_NO_REQUEST, true}, VM_DELETE},
        {{VM_HALTED, VMI_SUCCEEDED, VM_NO_REQUEST, true}, VM_DELETE},
        {{VM_ONCE, VMI_NONE, VM_NO_REQUEST, false}, VM_CREATE},
        {{VM_ONCE, VMI_SUCCEEDED, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_ONCE, VMI_FAILED, VM_NO_REQUEST, true}, VM_STAY},
        {{VM_WAIT_AS_RECEIVER, VMI_NONE, VM_NO_REQUEST, false}, VM_STAY},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (vm_step(&cases[i].c) != cases[i].step)
            fail_msg("case %zu: %d", i, vm_step(&cases[i].c));
}

static void backoff_grows_to_five_minutes(void **state)
{
    static const struct {
        int64_t failures;
        uint64_t random;
        int64_t seconds;
    } cases[] = {{1, 0, 10}, {1, 5, 15},  {1, 6, 10},    {2, 0, 40},  {2, 20, 60},
                 {3, 0, 90}, {5, 0, 250}, {5, 125, 300}, {6, 0, 300}, {1000000000000, 7, 300}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(vm_backoff_seconds(cases[i].failures, cases[i].random), cases[i].seconds);
}

/* Actions and the status they write, as one line each. */
static char *plan_text(const char *vm, const char *vmi, struct arena *a)
{
    static const char *const kinds[] = {"create", "patch", "status", "condition", "bind", "delete"};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {0};
    struct vm_view v = {.now_unix_ns = 1767225600000000000};
    struct plan p = {.a = a};

    if (!json_parse(str_of(vm), a, &v.vm, &err)
        || (vmi && !json_parse(str_of(vmi), a, &v.vmi, &err)))
        fail_msg("%s", error_text(&err));
    vm_plan(&v, &p);
    for (size_t i = 0; i < p.n_actions; i++) {
        const struct action *act = &p.actions[i];

        buf_addf(&b, "%s %s", kinds[act->kind], resources[act->resource].plural);
        if (act->kind == ACTION_PATCH_STATUS)
            buf_addf(&b, " " STR_FMT,
                     STR_ARG(json_str_at(json_merge_patch(a, v.vm, act->body),
                                         "status/printableStatus")));
        buf_adds(&b, "; ");
    }
    if (p.again_ns)
        buf_addf(&b, "again %llds", (long long)(p.again_ns / 1000000000));
    return arena_strdup(a, b.n ? buf_str(&b) : STR(""));
}

#define META                                                                                       \
    "\"metadata\":{\"name\":\"v\",\"namespace\":\"n\",\"uid\":\"1\",\"resourceVersion\":\"5\","    \
    "\"generation\":1"
#define FINAL ",\"finalizers\":[\"kubevirt.io/virtualMachineControllerFinalize\"]"
#define SPEC(s) "\"spec\":{" s ",\"template\":{\"spec\":{}}}"
#define OURS                                                                                       \
    META ",\"ownerReferences\":[{\"uid\":\"1\",\"controller\":true}],\"annotations\":{\"kubevirt." \
         "io/vm-generation\":\"1\"}"

static void plans(void **state)
{
    static const struct {
        const char *vm, *vmi, *plan;
    } cases[] = {
        /* running: true and false */
        {"{" META "}," SPEC("\"running\":true") "}", NULL,
         "patch virtualmachines; create controllerrevisions; create virtualmachineinstances; "},
        {"{" META FINAL "}," SPEC("\"running\":false") "}", NULL,
         "status virtualmachines Stopped; "},
        /* a backoff that has 30 s to go */
        {"{" META FINAL "}," SPEC(
             "\"runStrategy\":\"Always\"") ",\"status\":{\"startFailure\":{"
                                           "\"consecutiveFailCount\":2,"
                                           "\"retryAfterTimestamp\":\"2026-01-01T00:00:30Z\"}}}",
         NULL, "status virtualmachines CrashLoopBackOff; again 30s"},
        /* a failure is written down before its instance goes */
        {"{" META FINAL "}," SPEC("\"runStrategy\":\"Always\"") "}",
         "{" OURS "},\"status\":{\"phase\":\"Failed\"}}",
         "status virtualmachines CrashLoopBackOff; "},
        {"{" META FINAL "}," SPEC(
             "\"runStrategy\":\"Always\"") ",\"status\":{\"startFailure\":{"
                                           "\"consecutiveFailCount\":1,"
                                           "\"lastFailedVMIUID\":\"1\",\"retryAfterTimestamp\":"
                                           "\"2026-01-01T00:00:30Z\"}}}",
         "{" OURS "},\"status\":{\"phase\":\"Failed\"}}", "delete virtualmachineinstances; "},
        /* deleting: the instance, then our finalizer */
        {"{" META FINAL
         ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"}," SPEC("\"running\":true") "}",
         "{" OURS "},\"status\":{\"phase\":\"Running\"}}",
         "delete virtualmachineinstances; status virtualmachines Terminating; "},
        {"{" META FINAL
         ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"}," SPEC("\"running\":true") "}",
         NULL, "patch virtualmachines; "},
        /* kubectl delete --cascade=orphan */
        {"{" META ",\"finalizers\":[\"kubevirt.io/"
                  "virtualMachineControllerFinalize\",\"orphan\"],\"deletionTimestamp\":"
         "\"2026-01-01T00:00:00Z\"}," SPEC("\"running\":true") "}",
         "{" OURS "},\"status\":{\"phase\":\"Running\"}}", "patch virtualmachines; "},
        /* a stop for an instance that is not there any more */
        {"{" META FINAL
         "}," SPEC("\"runStrategy\":\"Manual\"") ",\"status\":{\"stateChangeRequests\":[{"
                                                 "\"action\":\"Stop\","
                                                 "\"uid\":\"9\"},{\"action\":\"Start\"}]}}",
         NULL,
         "create controllerrevisions; create virtualmachineinstances; status virtualmachines "
         "Starting; "},
        /* nonsense that admission would have refused */
        {"{" META FINAL
         "},\"spec\":7,\"status\":{\"stateChangeRequests\":{\"a\":1},\"conditions\":\"no\"}}",
         "{" OURS "}}", "delete virtualmachineinstances; "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        char *got = plan_text(cases[i].vm, cases[i].vmi, &a);

        if (strcmp(got, cases[i].plan) != 0)
            fail_msg("case %zu: %s", i, got);
    }
}

/* On a cluster no webhook is asked about what we make: it is made whole. */
static void an_instance_is_completed_where_nobody_else_does_it(void **state)
{
    static const char vm[] = "{" META FINAL "},\"spec\":{\"runStrategy\":\"Always\",\"template\":{\"spec\":{\"domain\":{"
                             "\"devices\":{},\"memory\":{\"guest\":\"64Mi\"}}}}}}";
    struct kv_config *config = kv_config_new(NULL);

    (void)state;
    for (int cluster = 0; cluster < 2; cluster++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct vm_view v = {.now_unix_ns = 1767225600000000000, .config = config, .on_cluster = cluster};
        struct plan p = {.a = &a};
        const struct json *vmi = NULL;

        assert_true(json_parse(str_of(vm), &a, &v.vm, &err));
        vm_plan(&v, &p);
        for (size_t i = 0; i < p.n_actions; i++)
            if (p.actions[i].resource == RESOURCE_VMI)
                vmi = p.actions[i].body;
        assert_non_null(vmi);
        assert_int_equal(json_at(vmi, "spec/domain/machine/type") != NULL, cluster);
        assert_int_equal(str_is(json_str_at(vmi, "status/phase"), "Pending"), cluster);
        assert_int_equal(str_is(json_str_at(json_item(json_at(vmi, "status/phaseTransitionTimestamps"), 0),
                                            "phaseTransitionTimestamp"),
                                "2026-01-01T00:00:00Z"),
                         cluster);
        assert_true(json_str_at(vmi, "status/virtualMachineRevisionName").n > 0);
    }
    kv_config_free(config);
}

/* What the rules refuse is not made, and neither is its revision; the VM says why, in a server's words. */
static void an_instance_that_the_rules_refuse_is_not_made(void **state)
{
    static const struct {
        const char *annotations, *domain, *why;
    } cases[] = {
        {",\"annotations\":{\"vireo.io/vmm\":\"bochs\"}", "\"memory\":{\"guest\":\"64Mi\"}", "Unsupported value: \"bochs\""},
        {",\"annotations\":{\"vireo.io/vmm\":\"qemu-microvm\"}", "\"memory\":{\"guest\":\"64Mi\"}", "qemu-microvm is not among the hypervisors"},
        {"", "\"cpu\":{\"cores\":1}", "no memory requested"},
        {"", "\"memory\":{\"guest\":\"64Mi\"},\"devices\":{\"tpm\":{}}", "not supported by this release"},
    };
    AUTO(arena_done) struct arena all = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *kubevirt;
    struct kv_config *config;

    (void)state;
    assert_true(json_parse(STR("{\"spec\":{\"configuration\":{\"hypervisors\":[{\"name\":\"qemu\"}]}}}"), &all, &kubevirt, &err));
    config = kv_config_new(kubevirt);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct vm_view v = {.now_unix_ns = 1767225600000000000, .config = config};
        struct plan p = {.a = &a};
        const struct json *status;

        assert_true(json_parse(str_of(arena_printf(&a, "{" META FINAL "%s},\"spec\":{\"runStrategy\":\"Always\",\"template\":{\"spec\":{\"domain\":{%s}}}}}",
                                                   cases[i].annotations, cases[i].domain)), &a, &v.vm, &err));
        vm_plan(&v, &p);
        assert_int_equal(p.n_actions, 1);
        assert_int_equal(p.actions[0].kind, ACTION_PATCH_STATUS);
        assert_int_equal(p.n_notices, 1);
        status = condition_find(p.actions[0].body, "Failure");
        if (!strstr(p.notices[0].message, cases[i].why) || !str_is(json_str_at(status, "message"), p.notices[0].message))
            fail_msg("case %zu: %s", i, p.notices[0].message);
    }
    for (int cluster = 0; cluster < 2; cluster++) {
        AUTO(arena_done) struct arena a = {0};
        struct vm_view v = {.now_unix_ns = 1767225600000000000, .config = config, .on_cluster = cluster};
        struct plan p = {.a = &a};

        assert_true(json_parse(STR("{" META FINAL "},\"spec\":{\"runStrategy\":\"Always\",\"template\":{\"spec\":{\"schedulerName\":\"mine\",\"domain\":{"
                                   "\"memory\":{\"guest\":\"64Mi\"}}}}}}"), &a, &v.vm, &err));
        vm_plan(&v, &p);
        assert_int_equal(p.n_notices, cluster ? 0 : 1);
        assert_int_equal(p.actions[0].kind, cluster ? ACTION_CREATE : ACTION_PATCH_STATUS);
    }
    kv_config_free(config);
}

#define ON(vmm) ",\"annotations\":{\"vireo.io/vmm\":\"" vmm "\"}"
#define RUNNING_ON(vmm)                                                                            \
    "{" META ",\"ownerReferences\":[{\"uid\":\"1\",\"controller\":true}]" vmm                     \
    "},\"status\":{\"phase\":\"Running\"}}"

/* Chosen again, the hypervisor changes at the next start, and the machine says so. */
static void another_hypervisor_needs_a_restart(void **state)
{
    static const struct {
        const char *vm, *vmi;
        const char *message; /* NULL: none needed */
    } cases[] = {
        {"{" META FINAL "}," SPEC("\"running\":true") "}", RUNNING_ON(""), NULL},
        {"{" META FINAL ON("qemu") "}," SPEC("\"running\":true") "}", RUNNING_ON(""), NULL},
        {"{" META FINAL ON("firecracker") "}," SPEC("\"running\":true") "}", RUNNING_ON(ON("firecracker")), NULL},
        {"{" META FINAL ON("firecracker") "}," SPEC("\"running\":true") "}", RUNNING_ON(""),
         "the hypervisor was chosen again: it runs on qemu until it is restarted, then on firecracker"},
        {"{" META FINAL "}," SPEC("\"running\":true") "}", RUNNING_ON(ON("firecracker")),
         "the hypervisor was chosen again: it runs on firecracker until it is restarted, then on qemu"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct vm_view v = {.now_unix_ns = 1767225600000000000};
        struct plan p = {.a = &a};
        const struct json *vm, *c = NULL;

        if (!json_parse(str_of(cases[i].vm), &a, &v.vm, &err) || !json_parse(str_of(cases[i].vmi), &a, &v.vmi, &err))
            fail_msg("%s", error_text(&err));
        vm = v.vm;
        vm_plan(&v, &p);
        for (size_t k = 0; k < p.n_actions; k++)
            if (p.actions[k].kind == ACTION_PATCH_STATUS)
                vm = json_merge_patch(&a, v.vm, p.actions[k].body);
        assert_ptr_not_equal(vm, v.vm);
        json_each_item(item, json_at(vm, "status/conditions"))
            if (str_is(json_str_at(item, "type"), "RestartRequired"))
                c = item;
        if (cases[i].message ? !str_is(json_str_at(c, "message"), cases[i].message) : c != NULL)
            fail_msg("case %zu: " STR_FMT, i, STR_ARG(json_str_at(c, "message")));
    }
}

/* A recorded life: for every state of the instance, what we say of the VM is what upstream's controller said soon after. */
static const char *data_arg;

struct recorded {
    const struct json *vm, *vmi;
    bool is_vm;
};

static size_t read_recording(struct arena *a, struct buf *text, struct recorded *ret, size_t max)
{
    AUTO(error_clear) struct error err = {0};
    const char *data = getenv("VIREO_DATA") ? getenv("VIREO_DATA") : data_arg;
    const struct json *vm = NULL, *vmi = NULL;
    struct str rest, line;
    size_t n = 0;

    buf_init(text, LIMIT_BUF_DEFAULT);
    if (!data
        || !file_read(AT_FDCWD, arena_printf(a, "%s/kubevirt-live/vm-life.jsonl", data), text,
                      &err)) {
        print_message("skipped: no recordings: %s\n",
                      data ? error_text(&err) : "VIREO_DATA is not set");
        return 0;
    }
    rest = buf_str(text);
    while (str_next(&rest, '\n', &line) && n < max) {
        const struct json *event, *object;
        bool gone;

        if (!line.n || !json_parse(line, a, &event, &err))
            continue;
        object = json_get(event, "object");
        gone = str_is(json_str_at(event, "type"), "DELETED");
        if (str_is(meta_kind(object), "VirtualMachine"))
            vm = gone ? NULL : object;
        else if (str_is(meta_kind(object), "VirtualMachineInstance"))
            vmi = gone ? NULL : object;
        else
            continue;
        ret[n++] = (struct recorded){vm, vmi, str_is(meta_kind(object), "VirtualMachine")};
    }
    return n;
}

static struct str said_by_plan(const struct recorded *r, struct arena *a)
{
    struct vm_view v = {.vm = r->vm, .vmi = r->vmi, .now_unix_ns = 1795311000000000000};
    struct plan p = {.a = a};

    vm_plan(&v, &p);
    for (size_t i = 0; i < p.n_actions; i++)
        if (p.actions[i].kind == ACTION_PATCH_STATUS)
            return json_str_at(json_merge_patch(a, r->vm, p.actions[i].body),
                               "status/printableStatus");
    return json_str_at(r->vm, "status/printableStatus");
}

static void as_upstream_says(void **state)
{
    static struct recorded all[200];
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    size_t n = read_recording(&a, &text, all, ARRAY_SIZE(all)), looked_at = 0;

    (void)state;
    if (n == 0)
        skip();
    for (size_t i = 0; i < n; i++) {
        struct str said;
        bool found = false;
        size_t ahead = 0;

        if (all[i].is_vm || !all[i].vm || !all[i].vmi
            || json_len(json_at(all[i].vm, "metadata/finalizers")) == 0)
            continue;
        said = said_by_plan(&all[i], &a);
        /* It may have been said before: one write of theirs can tell of two states. */
        found = str_eq(said, json_str_at(all[i].vm, "status/printableStatus"));
        for (size_t k = i + 1; k < n && ahead < 3; k++) {
            if (!all[k].is_vm || !all[k].vm)
                continue;
            ahead++;
            found |= str_eq(said, json_str_at(all[k].vm, "status/printableStatus"));
        }
        looked_at++;
        if (!found && ahead == 3)
            fail_msg("record %zu: we say '" STR_FMT "' of a VM whose instance is " STR_FMT, i,
                     STR_ARG(said), STR_ARG(json_str_at(all[i].vmi, "status/phase")));
    }
    assert_true(looked_at > 20);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(backoff_grows_to_five_minutes),
        cmocka_unit_test(plans),
        cmocka_unit_test(an_instance_is_completed_where_nobody_else_does_it),
        cmocka_unit_test(an_instance_that_the_rules_refuse_is_not_made),
        cmocka_unit_test(another_hypervisor_needs_a_restart),
        cmocka_unit_test(as_upstream_says),
    };

    data_arg = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
