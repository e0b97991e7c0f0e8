#include "admission/webhook.h"
#include "base/base_test.h"

#include "base/cleanup.h"
#include "json/patch.h"

static bool other;
static bool other_kubevirt(void *data, struct str ns, struct str name)
{
    (void)data;
    return other && ns.n && name.n;
}

static bool ask_about_agents, placed_by_cluster;
static struct str node_of_agent(void *data, const struct node_agent *who)
{
    (void)data;
    return str_is(who->pod_name, "virt-handler-1") && str_is(who->pod_uid, "u1") ? STR("n1") : STR_NONE;
}

/* ' stands for ". */
static struct str quoted(struct arena *a, const char *text)
{
    char *copy = arena_strdup(a, str_of(text));

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    return str_of(copy);
}

static const struct json *ask(struct arena *a, const char *path, const char *body)
{
    struct admission_rules rules = {.config = kv_config_new(NULL), .other_kubevirt = other_kubevirt};
    AUTO(error_clear) struct error err = {0};
    struct webhook w;
    const struct json *answer = NULL;
    bool allowed;

    rules.placed_by_cluster = placed_by_cluster;
    rules.node_of_agent = ask_about_agents ? node_of_agent : NULL;
    rules.offers = (struct kv_offers){.p = {{"qemu", 700}}, .n = 1};
    if (webhook_read(webhook_path(str_of(path)), quoted(a, body), STR("kubevirt"), a, &w, &err))
        answer = webhook_answer(&w, &rules, &allowed);
    else
        answer = json_object(a, "error", json_new_z(a, error_text(&err)), NULL);
    kv_config_free(rules.config);
    return answer;
}

#define REVIEW(op, user, resource, more)                                                                                          \
    "{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{'uid':'u1','operation':'" op "','namespace':'n',"     \
    "'name':'vm','userInfo':{'username':'" user "'},'resource':{'group':'kubevirt.io','version':'v1','resource':'" resource "'}"   \
    more "}}"
#define SPEC                                                                                                                      \
    "'domain':{'devices':{'disks':[{'name':'d','disk':{}}],'interfaces':[{'name':'default','masquerade':{}}]},"                   \
    "'memory':{'guest':'64Mi'}},'networks':[{'name':'default','pod':{}}],'volumes':[{'name':'d','emptyDisk':{'capacity':'1Gi'}}]"
#define VM(spec)                                                                                                                  \
    "{'apiVersion':'kubevirt.io/v1','kind':'VirtualMachine','metadata':{'name':'vm','namespace':'n'},"                            \
    "'spec':{'runStrategy':'Halted','template':{'spec':{" spec "}}}}"
#define VMI(status)                                                                                                               \
    "{'apiVersion':'kubevirt.io/v1','kind':'VirtualMachineInstance','metadata':{'name':'vm','namespace':'n'},'spec':{" SPEC "},"   \
    "'status':{'phase':'" status "'}}"

static const struct json *patched(struct arena *a, const struct json *answer, const char *object)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};
    const struct json *from, *ops, *ret = NULL;

    if (!json_parse(quoted(a, object), a, &from, &err)
        || !buf_add_base64_decoded(&text, json_str_at(answer, "response/patch"), &err)
        || !json_parse(buf_str(&text), a, &ops, &err) || !json_patch(a, from, ops, &ret, &err))
        fail_msg("%s", error_text(&err));
    return ret;
}

static void a_machine_is_completed(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *answer, *vm;

    (void)state;
    answer = ask(&a, "/virtualmachines-mutate", REVIEW("CREATE", "alice", "virtualmachines", ",'object':" VM(SPEC)));
    assert_true(json_bool(json_at(answer, "response/allowed")));
    assert_true(str_is(json_str_at(answer, "response/uid"), "u1"));
    assert_true(str_is(json_str_at(answer, "response/patchType"), "JSONPatch"));
    vm = patched(&a, answer, VM(SPEC));
    assert_true(str_is(json_str_at(vm, "spec/template/spec/domain/machine/type"), "q35"));
    assert_true(json_str_at(vm, "spec/template/spec/domain/firmware/uuid").n == 36);
}

static void what_breaks_a_rule_is_refused_in_the_servers_words(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *answer, *status;

    (void)state;
    answer = ask(&a, "/virtualmachines-validate",
                 REVIEW("CREATE", "alice", "virtualmachines", ",'object':" VM("'domain':{'devices':{'disks':[{'name':'x'}]}}")));
    status = json_at(answer, "response/status");
    assert_false(json_bool(json_at(answer, "response/allowed")));
    assert_null(json_at(answer, "response/patch"));
    assert_int_equal(json_i64_at(status, "code", 0), 422);
    assert_true(str_is(json_str_at(status, "reason"), "Invalid"));
    assert_true(str_starts(json_str_at(status, "message"), STR("VirtualMachine.kubevirt.io \"vm\" is invalid: ")));
    assert_true(str_is(json_str_at(json_item(json_at(status, "details/causes"), 0), "field"),
                       "spec.template.spec.domain.devices.disks[0].name"));
}

static void where_a_cluster_places_pods_its_scheduler_has_the_say(void **state)
{
#define TERM "{'labelSelector':{'matchLabels':{'a':'b'}},'topologyKey':'kubernetes.io/hostname'}"
    static const char *const specs[] = {
        SPEC ",'affinity':{'podAntiAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':[" TERM "]}}",
        SPEC ",'affinity':{'podAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':[" TERM "]}}",
        SPEC ",'schedulerName':'mine'",
        SPEC ",'tolerations':[{'key':'k','operator':'Exists','effect':'NoExecute','tolerationSeconds':5}]",
        SPEC ",'livenessProbe':{'tcpSocket':{'port':22}}", /* that is not about placing */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
        for (int cluster = 0; cluster < 2; cluster++) {
            AUTO(arena_done) struct arena a = {0};
            const struct json *answer;

            placed_by_cluster = cluster;
            answer = ask(&a, "/virtualmachines-validate",
                         arena_printf(&a, REVIEW("CREATE", "alice", "virtualmachines", ",'object':" VM("%s")), specs[i]));
            placed_by_cluster = false;
            if (json_bool(json_at(answer, "response/allowed")) != (cluster && i < 4))
                fail_msg("row %zu, %s", i, cluster ? "on a cluster" : "on one machine");
        }
#undef TERM
}

/* Only our own accounts write a status, and their names are told whole. */
static void a_status_is_put_back_unless_it_is_ours(void **state)
{
    static const struct {
        const char *user;
        bool ours;
    } cases[] = {
        {"system:serviceaccount:kubevirt:kubevirt-handler", true},
        {"system:serviceaccount:kubevirt:kubevirt-controller", true},
        {"system:serviceaccount:kubevirt:kubevirt-apiserver", true},
        {"system:serviceaccount:kubevirt:kubevirt-operator", true},
        {"system:serviceaccount:kubevirt:default", false},
        {"system:serviceaccount:kubevirt:kubevirt-handler2", false},
        {"system:serviceaccount:kubevirt2:kubevirt-handler", false},
        {"system:serviceaccount:kubevirt:kubevirt-handler:x", false},
        {"system:serviceaccount::kubevirt-handler", false},
        {"kubevirt-handler", false},
        {"system:node:n1", false},
        {"system:vireo:control", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *answer;
        char *body = arena_printf(&a, REVIEW("UPDATE", "%s", "virtualmachineinstances", ",'object':%s,'oldObject':%s"), cases[i].user,
                                  VMI("Running"), VMI("Scheduled"));

        answer = ask(&a, "/virtualmachineinstances-mutate", body);
        assert_true(json_bool(json_at(answer, "response/allowed")));
        if (cases[i].ours)
            assert_null(json_at(answer, "response/patch"));
        else
            assert_true(str_is(json_str_at(patched(&a, answer, VMI("Running")), "status/phase"), "Scheduled"));
        assert_int_equal(rules_our_account(str_of(cases[i].user), STR("kubevirt")), cases[i].ours);
    }
}

static void one_kubevirt_object_and_warnings(void **state)
{
    static const char body[] = REVIEW("CREATE", "alice", "kubevirts",
                                      ",'object':{'metadata':{'name':'vm','namespace':'n'},'spec':{'configuration':{'smbios':{}}}}");
    AUTO(arena_done) struct arena a = {0};
    const struct json *answer;

    (void)state;
    other = false;
    answer = ask(&a, "/kubevirt-validate-create", body);
    assert_true(json_bool(json_at(answer, "response/allowed")));
    assert_true(str_starts(json_str(json_item(json_at(answer, "response/warnings"), 0)), STR("spec.configuration.smbios is kept")));
    other = true;
    answer = ask(&a, "/kubevirt-validate-create", body);
    assert_int_equal(json_i64_at(answer, "response/status/code", 0), 403);
    assert_true(str_is(json_str_at(answer, "response/status/details/kind"), "kubevirts"));
}

static void what_no_rule_is_about_is_allowed(void **state)
{
    static const char *const bodies[] = {
        REVIEW("DELETE", "alice", "virtualmachines", ",'object':null,'oldObject':" VM(SPEC)),
        REVIEW("UPDATE", "alice", "virtualmachines", ",'subResource':'status','object':{},'oldObject':{}"),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *answer = ask(&a, "/virtualmachines-mutate", bodies[i]);

        assert_true(json_bool(json_at(answer, "response/allowed")));
        assert_null(json_at(answer, "response/patch"));
    }
}

static void what_is_no_review_is_an_error_in_words(void **state)
{
    static const struct {
        const char *body, *says;
    } cases[] = {
        {"", "the body must be an AdmissionReview: "},
        {"[]", "the body must be an AdmissionReview of admission.k8s.io/v1, not \"\" of \"\""},
        {"{'apiVersion':'admission.k8s.io/v1beta1','kind':'AdmissionReview','request':{}}", "not \"AdmissionReview\" of \"admission.k8s.io/v1beta1\""},
        {"{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview'}", "has no request"},
        {"{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':[]}", "has no request"},
        {"{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{'uid':7}}", "request.uid must be"},
        {"{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{'uid':'u'}}", "a webhook configuration names the wrong path"},
        {REVIEW("CREATE", "a", "kubevirts", ""), "answers about virtualmachines.kubevirt.io, not about \"kubevirts\" of group \"kubevirt.io\""},
        {REVIEW("CREATE", "a", "virtualmachines", ""), "request.object must be"},
        {REVIEW("CREATE", "a", "virtualmachines", ",'object':'text'"), "request.object must be"},
        {REVIEW("UPDATE", "a", "virtualmachines", ",'object':{}"), "request.oldObject must be"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct str text = json_str_at(ask(&a, "/virtualmachines-validate", cases[i].body), "error");
        size_t at;

        if (!str_find(text, str_of(cases[i].says), &at))
            fail_msg("%zu: " STR_FMT, i, STR_ARG(text));
    }
}

static void an_eviction_is_refused_for_a_machine_that_must_move(void **state)
{
    static const struct {
        const char *strategy;
        bool allowed;
    } cases[] = {{"None", true}, {"LiveMigrateIfPossible", true}, {"LiveMigrate", false}, {"External", false}, {"", true}};
    static const char body[] =
        "{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{'uid':'u1','operation':'CREATE','namespace':'n',"
        "'name':'virt-launcher-vm-x','subResource':'eviction','resource':{'group':'','version':'v1','resource':'pods'}}}";

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0}, none = {0};
        const struct json *vmi =
            json_object(&a, "metadata", json_object(&a, "name", json_new_z(&a, "vm"), NULL), "spec",
                        json_object(&a, "evictionStrategy", json_new_z(&a, cases[i].strategy), NULL), NULL);
        struct webhook w;
        const struct json *answer;
        bool allowed;

        assert_true(webhook_read(webhook_path(STR("/pod-eviction-validate")), quoted(&a, body), STR("kubevirt"), &a, &w, &none));
        assert_true(w.applies && str_is(w.review.name, "virt-launcher-vm-x"));
        assert_int_equal(rules_evict(vmi, &err), cases[i].allowed);
        answer = webhook_verdict(&w, &err, &allowed);
        assert_int_equal(allowed, cases[i].allowed);
        assert_int_equal(json_i64_at(answer, "response/status/code", 0), cases[i].allowed ? 0 : 429);
    }
    assert_null(webhook_path(STR("/virtualmachines")));
}

#define AGENT(uid, resource, group, object)                                                                                       \
    "{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{'uid':'u1','operation':'UPDATE','name':'n1',"         \
    "'userInfo':{'username':'system:serviceaccount:kubevirt:kubevirt-handler','extra':{"                                          \
    "'authentication.kubernetes.io/pod-name':['virt-handler-1'],'authentication.kubernetes.io/pod-uid':['" uid "']}},"            \
    "'resource':{'group':'" group "','version':'v1','resource':'" resource "'},'object':" object ",'oldObject':" object "}}"

/* Where the server has no policy for it: an agent is known by its pod, and that by name and UID. */
static void an_agent_changes_its_own_node_and_the_machines_on_it(void **state)
{
    static const struct {
        const char *path, *body;
        bool allowed;
    } cases[] = {
        {"/nodes-validate-update", AGENT("u1", "nodes", "", "{'metadata':{'name':'n1'}}"), true},
        {"/nodes-validate-update", AGENT("u1", "nodes", "", "{'metadata':{'name':'n2'}}"), false},
        {"/nodes-validate-update", AGENT("u2", "nodes", "", "{'metadata':{'name':'n1'}}"), false},
        {"/virtualmachineinstances-validate-update",
         AGENT("u1", "virtualmachineinstances", "kubevirt.io", "{'metadata':{'name':'v'},'spec':{'domain':{}},'status':{'nodeName':'n1'}}"), true},
        {"/virtualmachineinstances-validate-update",
         AGENT("u1", "virtualmachineinstances", "kubevirt.io", "{'metadata':{'name':'v'},'spec':{'domain':{}},'status':{'nodeName':'n2'}}"), false},
        {"/nodes-validate-update", REVIEW("UPDATE", "alice", "nodes", ""), false}, /* no review of nodes */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (int policies = 0; policies < 2; policies++) {
            AUTO(arena_done) struct arena a = {0};
            const struct json *answer;

            ask_about_agents = policies == 0;
            answer = ask(&a, cases[i].path, cases[i].body);
            ask_about_agents = false;
            if (i == 5)
                assert_non_null(json_get(answer, "error"));
            else if (json_bool(json_at(answer, "response/allowed")) != (cases[i].allowed || policies))
                fail_msg("row %zu, %s", i, policies ? "with policies" : "without");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_is_completed),
        cmocka_unit_test(what_breaks_a_rule_is_refused_in_the_servers_words),
        cmocka_unit_test(where_a_cluster_places_pods_its_scheduler_has_the_say),
        cmocka_unit_test(a_status_is_put_back_unless_it_is_ours),
        cmocka_unit_test(one_kubevirt_object_and_warnings),
        cmocka_unit_test(what_no_rule_is_about_is_allowed),
        cmocka_unit_test(what_is_no_review_is_an_error_in_words),
        cmocka_unit_test(an_agent_changes_its_own_node_and_the_machines_on_it),
        cmocka_unit_test(an_eviction_is_refused_for_a_machine_that_must_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
