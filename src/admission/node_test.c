/* The rules of admission/node.c and the policies of operator/components/node-policy.yaml, which are evaluated here as an API server does
 * it (variables first, each validation in turn): on every row both say the same, in the same words. */
#include "admission/node.h"
#include "base/base_test.h"

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cel/cel.h"
#include "json/json_test.h"
#include "json/yaml.h"

#define NODE "'apiVersion':'v1','kind':'Node'"
#define VMI "'apiVersion':'kubevirt.io/v1','kind':'VirtualMachineInstance'"
#define BASE "'name':'n1','uid':'u','labels':{'kubernetes.io/os':'linux','kubevirt.io/schedulable':'true'},'annotations':{'x':'y'}"
#define ON_N1 "'status':{'nodeName':'n1','phase':'Scheduled'}"

static const struct row {
    const char *plural, *node, *old, *object, *want; /* want NULL: allowed */
} rows[] = {
    {"nodes", "n1", "{" NODE ",'metadata':{" BASE "}}", "{" NODE ",'metadata':{" BASE "}}", NULL},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','labels':{'vireo.io/kvm':'works'},"
     "'annotations':{'kubevirt.io/heartbeat':'now'}}}", NULL},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1','labels':{'cpu-model.node.kubevirt.io/X':'true'}}}", "{" NODE ",'metadata':{'name':'n1'}}", NULL},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1','resourceVersion':'1','managedFields':[]},'spec':{'podCIDR':'c'},'status':{'a':1}}",
     "{" NODE ",'metadata':{'name':'n1','resourceVersion':'2','managedFields':[{}]},'spec':{'podCIDR':'c'},'status':{'a':2}}", NULL},
    {"nodes", "n2", "{" NODE ",'metadata':{" BASE "}}", "{" NODE ",'metadata':{" BASE "}}", "a node agent may change no node but its own"},
    {"nodes", "", "{" NODE ",'metadata':{" BASE "}}", "{" NODE ",'metadata':{" BASE "}}", "a node agent may change no node but its own"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'},'spec':{}}", "{" NODE ",'metadata':{'name':'n1'},'spec':{'unschedulable':true}}",
     "a node agent may not change the node's spec"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'},'spec':{'taints':[]}}", "{" NODE ",'metadata':{'name':'n1'}}",
     "a node agent may not change the node's spec"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','finalizers':['x/y']}}",
     "a node agent may change of the node's metadata only labels and annotations"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1','ownerReferences':[{}]}}", "{" NODE ",'metadata':{'name':'n1'}}",
     "a node agent may change of the node's metadata only labels and annotations"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','labels':{'node-role.kubernetes.io/master':''}}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1','labels':{'zone':'a'}}}", "{" NODE ",'metadata':{'name':'n1','labels':{'zone':'b'}}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1','labels':{'zone':'a'}}}", "{" NODE ",'metadata':{'name':'n1'}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    /* A domain, not a text somewhere in the key. */
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','labels':{'kubevirt.io.example/x':''}}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','labels':{'notkubevirt.io/x':''}}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','labels':{'example.com/kubevirt.io':''}}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1'}}", "{" NODE ",'metadata':{'name':'n1','labels':{'kubevirt.io':''}}}",
     "a node agent may change only labels of kubevirt.io and vireo.io"},
    {"nodes", "n1", "{" NODE ",'metadata':{'name':'n1','annotations':{'csi.volume.kubernetes.io/nodeid':'1'}}}",
     "{" NODE ",'metadata':{'name':'n1','annotations':{'csi.volume.kubernetes.io/nodeid':'2'}}}",
     "a node agent may change only annotations of kubevirt.io and vireo.io"},

    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v','generation':1},'spec':{'a':1}," ON_N1 "}",
     "{" VMI ",'metadata':{'name':'v','generation':2,'annotations':{'vireo.io/accelerator':'tcg'}},'spec':{'a':1},"
     "'status':{'nodeName':'n1','phase':'Running'}}", NULL},
    {"virtualmachineinstances", "n2", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}",
     "a node agent may change no virtual machine instance but those on its node"},
    {"virtualmachineinstances", "", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}",
     "a node agent may change no virtual machine instance but those on its node"},
    {"virtualmachineinstances", "", "{" VMI ",'metadata':{'name':'v'},'spec':{},'status':{'nodeName':''}}",
     "{" VMI ",'metadata':{'name':'v'},'spec':{},'status':{'nodeName':''}}",
     "a node agent may change no virtual machine instance but those on its node"},
    /* Nobody's yet: it cannot take it, neither. */
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v'},'spec':{}}", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}",
     "a node agent may change no virtual machine instance but those on its node"},
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}",
     "{" VMI ",'metadata':{'name':'v'},'spec':{},'status':{'nodeName':'n2'}}", "a node agent may not move a virtual machine instance to another node"},
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}", "{" VMI ",'metadata':{'name':'v'},'spec':{}}",
     "a node agent may not move a virtual machine instance to another node"},
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v'},'spec':{'a':1}," ON_N1 "}",
     "{" VMI ",'metadata':{'name':'v'},'spec':{'a':2}," ON_N1 "}", "a node agent may not change the spec of a virtual machine instance"},
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v','finalizers':['f/g']},'spec':{}," ON_N1 "}",
     "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}", "a node agent may change of the metadata of a virtual machine instance only annotations"},
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v','labels':{'kubevirt.io/nodeName':'n1'}},'spec':{}," ON_N1 "}",
     "{" VMI ",'metadata':{'name':'v','labels':{'kubevirt.io/nodeName':'n2'}},'spec':{}," ON_N1 "}",
     "a node agent may change of the metadata of a virtual machine instance only annotations"},
    {"virtualmachineinstances", "n1", "{" VMI ",'metadata':{'name':'v'},'spec':{}," ON_N1 "}",
     "{" VMI ",'metadata':{'name':'v','annotations':{'other/x':'1'}},'spec':{}," ON_N1 "}",
     "a node agent may change only annotations of kubevirt.io and vireo.io"},
};

static const char *policies; /* path */

/* --- the policy, as an API server evaluates it --- */

static const struct json *policy_of(struct arena *a, const char *plural)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct yaml_docs docs;

    buf_init(&text, 1 << 20);
    assert_true(file_read(AT_FDCWD, policies, &text, &err));
    assert_true(yaml_parse(arena_str(a, buf_str(&text)), a, &docs, &err));
    for (size_t i = 0; i < docs.n; i++)
        json_each_item(rule, json_at(docs.p[i], "spec/matchConstraints/resourceRules"))
            json_each_item(r, json_get(rule, "resources"))
                if (str_is(json_str(r), plural))
                    return docs.p[i];
    return NULL;
}

enum { VARIABLES = 16 };
struct evaluation {
    struct arena *a;
    struct cel_variable vars[4];
    struct cel_value values[4];
    struct cel_entry variables[VARIABLES];
    size_t n;
};

static struct cel_value eval(struct evaluation *e, struct str text)
{
    const struct cel_env env = {e->vars, 4};
    AUTO(error_clear) struct error err = {0};
    const struct cel_program *p;
    struct cel_value v = {0};
    uint64_t budget = CEL_EXPRESSION_BUDGET;

    e->values[3] = (struct cel_value){.kind = CEL_MAP, .map = {e->variables, e->n}};
    if (!cel_compile(e->a, &env, text, &p, &err) || !cel_eval(p, e->values, e->a, &budget, &v, &err))
        fail_msg(STR_FMT "\n%s", STR_ARG(text), error_text(&err));
    return v;
}

static const char *by_policy(struct arena *a, const struct row *r)
{
    const struct json *spec = json_get(policy_of(a, r->plural), "spec");
    const struct json *user = *r->node ? json_object(a, "extra", json_object(a, "authentication.kubernetes.io/node-name",
                                                                             json_array(a, json_new_z(a, r->node), NULL), NULL), NULL)
                                       : json_object(a, NULL);
    struct evaluation e = {.a = a, .vars = {{"request", NULL}, {"oldObject", NULL}, {"object", NULL}, {"variables", NULL}}};

    assert_non_null(spec);
    user = json_with(a, user, "username", json_new_z(a, "system:serviceaccount:kubevirt:kubevirt-handler"));
    e.values[0] = cel_of_json(json_object(a, "userInfo", user, NULL), NULL);
    e.values[1] = cel_of_json(parse_quoted(a, r->old), NULL);
    e.values[2] = cel_of_json(parse_quoted(a, r->object), NULL);
    json_each_item(v, json_get(spec, "variables")) {
        struct cel_value value = eval(&e, json_str_at(v, "expression"));

        assert_true(e.n < VARIABLES);
        e.variables[e.n++] = (struct cel_entry){cel_of_json(json_get(v, "name"), NULL), value};
    }
    json_each_item(v, json_get(spec, "validations")) {
        struct cel_value value = eval(&e, json_str_at(v, "expression"));

        assert_int_equal(value.kind, CEL_BOOL);
        if (!value.b)
            return arena_strdup(a, json_str_at(v, "message"));
    }
    return NULL;
}

static const char *by_rules(struct arena *a, const struct row *r)
{
    AUTO(error_clear) struct error err = {0};

    if (node_agent_may(str_of(r->node), str_of(r->plural), parse_quoted(a, r->old), parse_quoted(a, r->object), &err))
        return NULL;
    assert_int_equal(err.kind, ERROR_FORBIDDEN);
    return arena_strdup(a, str_of(error_text(&err)));
}

static void test_rows(void **state)
{
    size_t failed = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *want = rows[i].want ? rows[i].want : "allowed", *rule = by_rules(&a, &rows[i]), *policy = by_policy(&a, &rows[i]);

        rule = rule ? rule : "allowed";
        policy = policy ? policy : "allowed";
        if (strcmp(rule, want) != 0 || strcmp(policy, want) != 0) {
            print_error("row %zu\n  want   %s\n  rules  %s\n  policy %s\n", i, want, rule, policy);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

static void test_nothing_else(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *o = parse_quoted(&a, "{'metadata':{'name':'n1'}}");

    (void)state;
    assert_false(node_agent_may(STR("n1"), STR("pods"), o, o, &err));
    assert_int_equal(err.kind, ERROR_FORBIDDEN);
}

static void test_who_asks(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct node_agent who;

    (void)state;
    assert_true(node_agent_of(parse_quoted(&a, "{'userInfo':{'username':'system:serviceaccount:kv:kubevirt-handler','extra':{"
                                               "'authentication.kubernetes.io/node-name':['n1'],'authentication.kubernetes.io/pod-name':['p'],"
                                               "'authentication.kubernetes.io/pod-uid':['u']}}}"), STR("kv"), &who));
    assert_true(str_is(who.node, "n1") && str_is(who.pod_name, "p") && str_is(who.pod_uid, "u"));
    assert_true(node_agent_of(parse_quoted(&a, "{'userInfo':{'username':'system:serviceaccount:kv:kubevirt-handler'}}"), STR("kv"), &who));
    assert_true(!who.node.n && !who.pod_name.n);
    assert_false(node_agent_of(parse_quoted(&a, "{'userInfo':{'username':'system:serviceaccount:kv2:kubevirt-handler'}}"), STR("kv"), &who));
    assert_false(node_agent_of(parse_quoted(&a, "{'userInfo':{'username':'system:serviceaccount:kv:kubevirt-handler2'}}"), STR("kv"), &who));
    assert_false(node_agent_of(parse_quoted(&a, "{}"), STR("kv"), &who));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_nothing_else), cmocka_unit_test(test_who_asks)};

    policies = argc > 1 ? argv[1] : "src/operator/components/node-policy.yaml";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
