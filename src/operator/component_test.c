#include "json/json_test.h"

#include "api/meta.h"
#include "operator/component.h"
#include "operator/health.h"

static const struct install_env env = {.ns = "vm-platform",
                                       .image = "r.example/vireo:1",
                                       .launcher_image = "r.example/launcher:1",
                                       .version = "1.0.0",
                                       .webhook = true};

static void make(struct arena *a, const char *spec, const struct install_cluster *c, struct install *i, struct components *all)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *kv = json_object(a, "spec", parse_quoted(a, spec), NULL);

    if (!install_of(kv, &env, c, STR("PEM"), a, i, &err) || !components_make(i, a, all, &err))
        fail_msg("%s: %s", spec, error_text(&err));
}

static const struct component *find(const struct components *all, enum managed_id kind, const char *key)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->p[i].kind == kind && strcmp(all->p[i].key, key) == 0)
            return &all->p[i];
    return NULL;
}

static const struct install_cluster today = {.nodes = 3, .admission_policies = true, .match_conditions = true};

static void every_object_is_marked_and_filled_in(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct install i;
    struct components all;

    (void)state;
    make(&a, "{'productName':'x','productVersion':'7'}", &today, &i, &all);
    assert_true(all.n > 30);
    for (size_t k = 0; k < all.n; k++) {
        const struct json *o = all.p[k].object;
        AUTO_FREE char *text = json_text(o);

        assert_true(str_is(meta_label(o, LABEL_OWNER), "vm-platform"));
        assert_true(str_is(meta_label(o, LABEL_MANAGED_BY), "virt-operator"));
        assert_true(str_is(meta_label(o, "app.kubernetes.io/part-of"), "x"));
        assert_true(meta_annotation(o, ANNOTATION_HASH).n > 0);
        if (strstr(text, "${"))
            fail_msg("%s: %s", all.p[k].title, strstr(text, "${"));
        if (managed_kinds[all.p[k].kind].namespaced && !str_is(meta_namespace(o), "vm-platform"))
            fail_msg("%s", all.p[k].title);
    }
    assert_non_null(find(&all, MANAGED_CRD, "virtualmachines.kubevirt.io"));
    assert_null(find(&all, MANAGED_CRD, "kubevirts.kubevirt.io")); /* it came with the operator, and goes with it */
    assert_non_null(find(&all, MANAGED_DAEMON_SET, "vm-platform/virt-handler"));
    assert_text(json_at(find(&all, MANAGED_API_SERVICE, "v1.subresources.kubevirt.io")->object, "spec/caBundle"), "\"UEVN\"");
}

static void old_servers_get_what_they_know(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct install i;
    struct components all;

    (void)state;
    make(&a, "{}", &(struct install_cluster){.nodes = 1, .old_budgets = true}, &i, &all);
    assert_text(json_get(find(&all, MANAGED_PDB, "vm-platform/virt-api-pdb")->object, "apiVersion"), "\"policy/v1beta1\"");
    for (size_t k = 0; k < all.n; k++) {
        AUTO_FREE char *text = json_text(all.p[k].object);

        assert_null(strstr(text, "matchConditions"));
        assert_true(all.p[k].kind != MANAGED_POLICY && all.p[k].kind != MANAGED_POLICY_BINDING);
    }
}

static void placement_pull_secrets_and_policy(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct install i;
    struct components all;
    const struct json *api, *handler;

    (void)state;
    make(&a,
         "{'infra':{'replicas':5,'nodePlacement':{'nodeSelector':{'role':'infra'},'tolerations':[{'key':'t','operator':'Exists'"
         "}]}},"
         "'workloads':{'nodePlacement':{'nodeSelector':{'role':'vms'}}},'imagePullSecrets':[{'name':'s'}],'imagePullPolicy':'"
         "Always'}",
         &today, &i, &all);
    api = find(&all, MANAGED_DEPLOYMENT, "vm-platform/virt-api")->object;
    handler = find(&all, MANAGED_DAEMON_SET, "vm-platform/virt-handler")->object;
    assert_text(json_at(api, "spec/replicas"), "5");
    assert_text(json_at(api, "spec/template/spec/nodeSelector"), "{\"kubernetes.io/os\":\"linux\",\"role\":\"infra\"}");
    assert_int_equal(json_len(json_at(api, "spec/template/spec/tolerations")), 2);
    assert_text(json_at(api, "spec/template/spec/imagePullSecrets"), "[{\"name\":\"s\"}]");
    assert_text(json_at(api, "spec/template/spec/containers/0/imagePullPolicy"), "\"Always\"");
    assert_text(json_at(handler, "spec/template/spec/nodeSelector/role"), "\"vms\"");
    assert_text(json_at(handler, "spec/template/spec/containers/0/image"), "\"r.example/launcher:1\"");
}

static void parameters_bring_no_structure(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *params = parse_quoted(&a, "{'A':'x\\\", \\\"y\\\": \\\"z','N':3,'L':[1]}"), *got;

    (void)state;
    assert_true(
        component_fill(&a, parse_quoted(&a, "{'a':'${A}','b':'-${A}-','n':'${N}','l':'${L}','c':'${CA_BUNDLE}','d':'$X {}'}"),
                       params, &got, &err));
    assert_text(got,
                "{\"a\":\"x\\\", \\\"y\\\": \\\"z\",\"b\":\"-x\\\", \\\"y\\\": \\\"z-\",\"n\":3,\"l\":[1],\"d\":\"$X {}\"}");
    assert_false(component_fill(&a, parse_quoted(&a, "{'a':['${NOT_THERE}']}"), params, &got, &err));
    assert_string_equal(error_text(&err), "a: there is no parameter ${NOT_THERE}");
    assert_false(component_fill(&a, parse_quoted(&a, "{'a':'${A'}"), params, &got, &err));
    assert_string_equal(error_text(&err), "a: '${A' has no '}'");
}

/* customizeComponents, and the first of virt-api's and virt-controller's containers, or an error. */
static const struct {
    const char *spec, *path, *want;
} customs[] = {
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'strategic','patch':"
     "'{\\\"spec\\\":{\\\"template\\\":{\\\"spec\\\":{\\\"containers\\\":[{\\\"name\\\":\\\"virt-api\\\",\\\"resources\\\":{"
     "\\\"limits\\\":"
     "{\\\"cpu\\\":\\\"1\\\"}}}]}}}}'}]}",
     "spec/template/spec/containers/0/resources/limits/cpu", "\"1\""},
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'strategic','patch':"
     "'{\\\"spec\\\":{\\\"replicas\\\":4,\\\"template\\\":{\\\"spec\\\":{\\\"containers\\\":[{\\\"name\\\":\\\"virt-api\\\","
     "\\\"env\\\":[{\\\"name\\\":\\\"A\\\",\\\"value\\\":\\\"b\\\"}]}]}}}}'}]}",
     "spec/template/spec/containers/0/command/1", "\"api\""}, /* what the patch does not name is still there */
    {"{'patches':[{'resourceName':'*','resourceType':'deployments','type':'merge','patch':'{\\\"metadata\\\":{\\\"labels\\\":"
     "{\\\"a\\\":\\\"b\\\"}}}'}]}",
     "metadata/labels/a", "\"b\""},
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'json','patch':'[{\\\"op\\\":\\\"replace\\\","
     "\\\"path\\\":"
     "\\\"/spec/replicas\\\",\\\"value\\\":9}]'}]}",
     "spec/replicas", "9"},
    {"{'patches':[{'resourceName':'virt-handler','resourceType':'DaemonSet','type':'merge','patch':'{\\\"spec\\\":null}'}]}",
     "spec/template/spec/containers/0/name", "\"virt-api\""},
    /* What is ours stays ours. */
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'merge','patch':'{\\\"metadata\\\":{"
     "\\\"name\\\":"
     "\\\"x\\\",\\\"labels\\\":{\\\"vireo.io/operator\\\":\\\"other\\\"}}}'}]}",
     "metadata/labels/vireo.io~1operator", "\"vm-platform\""},
    {"{'flags':{'api':{'debug':'','listen':':1'}}}", "spec/template/spec/containers/0/args", "[\"--debug\",\"--listen=:1\"]"},
    {"{'flags':{'controller':{'debug':''}}}", "spec/template/spec/containers/0/args", ""},
    {"{'flags':{'api':{'--debug':''}}}", NULL,
     "spec.customizeComponents.flags.api: '--debug' is no name of a flag: leave out the --"},
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'json','patch':'{}'}]}", NULL,
     "spec.customizeComponents.patches[0].patch: a json patch is a list of operations"},
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'sed','patch':'{}'}]}", NULL,
     "spec.customizeComponents.patches[0].type: 'sed' is none of json, merge, strategic"},
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'merge','patch':'{'}]}", NULL,
     "spec.customizeComponents.patches[0].patch: "},
    {"{'patches':[{'resourceName':'virt-api','resourceType':'Deployment','type':'merge','patch':'{\\\"metadata\\\":null}'}]}",
     NULL, "spec.customizeComponents.patches[0].patch: takes the metadata away"},
};

static void customized(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(customs); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *kv = json_with_at(&a, NULL, "spec/customizeComponents", parse_quoted(&a, customs[i].spec));
        struct install in;
        struct components all;

        assert_true(install_of(kv, &env, &today, STR_NONE, &a, &in, &err));
        if (!components_make(&in, &a, &all, &err)) {
            if (customs[i].path || err.kind != ERROR_INVALID || !strstr(error_text(&err), customs[i].want))
                fail_msg("%zu: %s", i, error_text(&err));
            continue;
        }
        const struct json *got =
            customs[i].path ? json_at(find(&all, MANAGED_DEPLOYMENT, "vm-platform/virt-api")->object, customs[i].path) : NULL;
        AUTO_FREE char *text = json_text(got);

        if (!customs[i].path || strcmp(got ? text : "", customs[i].want) != 0)
            fail_msg("%zu: %s", i, text);
    }
}

static void drift(void **state)
{
    static const struct {
        const char *want, *live, *where; /* NULL: none */
    } rows[] = {
        {"{'a':1}", "{'a':1,'b':2}", NULL},
        {"{'a':{'b':[1,{'c':2}]}}", "{'a':{'b':[1,{'c':2,'d':3}]}}", NULL},
        {"{'a':{'b':[1,{'c':2}]}}", "{'a':{'b':[1,{'c':3}]}}", "a.b[1].c"},
        {"{'a':[1]}", "{'a':[1,2]}", "a"},
        {"{'a':{}}", "{}", NULL},
        {"{'a':'x'}", "{}", "a"},
        {"{'a':1}", "{'a':1.0}", NULL},
        {"{'a':1}", "{'a':'1'}", "a"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *got = component_difference(parse_quoted(&a, rows[i].want), parse_quoted(&a, rows[i].live), &a);

        if (got != rows[i].where && (!got || !rows[i].where || strcmp(got, rows[i].where) != 0))
            fail_msg("%s: %s", rows[i].live, got ? got : "none");
    }
}

static void health(void **state)
{
    static const char pods[] =
        "[{'metadata':{'name':'other','labels':{'kubevirt.io':'virt-api'}},'status':{}},"
        "{'metadata':{'name':'p','labels':{'kubevirt.io':'virt-controller'}},'status':{'containerStatuses':[{'state':"
        "{'waiting':{'reason':'CrashLoopBackOff','message':'back-off'}},'lastState':{'terminated':{'message':"
        "'vireo: no\\n'}}}]}},"
        "{'metadata':{'name':'a1','labels':{'kubevirt.io':'virt-handler'}},'spec':{'nodeName':'near'},'status':{'phase':'Running',"
        "'conditions':[{'type':'Ready','status':'False'},{'type':'ContainersReady','status':'False'}]}},"
        "{'metadata':{'name':'a2','labels':{'kubevirt.io':'virt-handler'}},'spec':{'nodeName':'far'},'status':{'phase':'Running',"
        "'conditions':[{'type':'Ready','status':'False'},{'type':'ContainersReady','status':'True'}]}}]";
    static const char spec[] =
        "'metadata':{'generation':2},'spec':{'replicas':2,'selector':{'matchLabels':{'kubevirt.io':'virt-controller'}}}";
    static const struct {
        enum managed_id kind;
        const char *status;
        bool ready;
        const char *why;
    } rows[] = {
        {MANAGED_DEPLOYMENT, "{'observedGeneration':2,'replicas':2,'updatedReplicas':2,'availableReplicas':2}", true, NULL},
        {MANAGED_DEPLOYMENT, "{'observedGeneration':1,'replicas':2,'updatedReplicas':2,'availableReplicas':2}", false,
         "pod p: CrashLoopBackOff: vireo: no"},
        {MANAGED_DEPLOYMENT, "{'observedGeneration':2,'replicas':3,'updatedReplicas':2,'availableReplicas':3}", false,
         "pod p: CrashLoopBackOff: vireo: no"},
        {MANAGED_DAEMON_SET,
         "{'observedGeneration':2,'desiredNumberScheduled':3,'updatedNumberScheduled':3,'numberAvailable':1}", false,
         "pod p: CrashLoopBackOff: vireo: no"},
        {MANAGED_DAEMON_SET, "{'observedGeneration':2,'desiredNumberScheduled':0}", true,
         "without the nodes that do not answer, whose agents follow when they are back: far"},
        {MANAGED_DAEMON_SET,
         "{'observedGeneration':2,'desiredNumberScheduled':3,'updatedNumberScheduled':2,'numberAvailable':2}", true,
         "without the nodes that do not answer, whose agents follow when they are back: far"},
        {MANAGED_DAEMON_SET,
         "{'observedGeneration':2,'desiredNumberScheduled':3,'updatedNumberScheduled':1,'numberAvailable':2}", false,
         "pod p: CrashLoopBackOff: vireo: no"},
        {MANAGED_CRD, "{'conditions':[{'type':'Established','status':'True'}]}", true, NULL},
        {MANAGED_CRD, "{}", false, NULL},
        {MANAGED_API_SERVICE,
         "{'conditions':[{'type':'Available','status':'False','reason':'MissingEndpoints','message':'none'}]}", false,
         "MissingEndpoints: none"},
        {MANAGED_API_SERVICE, "{'conditions':[{'type':'Available','status':'True'}]}", true, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *why, *text = arena_printf(&a, "{%s,'status':%s}", spec, rows[i].status);
        bool ready = health_of(rows[i].kind, parse_quoted(&a, text), parse_quoted(&a, pods), &a, &why);

        if (ready != rows[i].ready || (why == NULL) != (rows[i].why == NULL) || (why && strcmp(why, rows[i].why) != 0))
            fail_msg("%zu: %s", i, why ? why : "nothing is told");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_object_is_marked_and_filled_in),
        cmocka_unit_test(old_servers_get_what_they_know),
        cmocka_unit_test(placement_pull_secrets_and_policy),
        cmocka_unit_test(parameters_bring_no_structure),
        cmocka_unit_test(customized),
        cmocka_unit_test(drift),
        cmocka_unit_test(health),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
