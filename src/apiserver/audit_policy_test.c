#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "apiserver/audit_policy.h"
#include "base/cleanup.h"

#define HEAD "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

static void mistakes_are_named_by_path(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", "an object is wanted: apiVersion: audit.k8s.io/v1, kind: Policy, rules: …"},
        {"[]", "an object is wanted: apiVersion: audit.k8s.io/v1, kind: Policy, rules: …"},
        {"kind: Policy", "apiVersion: \"audit.k8s.io/v1\" is wanted"},
        {"apiVersion: audit.k8s.io/v1beta1\nkind: Policy",
         "apiVersion: \"audit.k8s.io/v1\" is wanted"},
        {"apiVersion: audit.k8s.io/v1", "kind: \"Policy\" is wanted"},
        {HEAD, "rules: Required value: a policy without rules notes nothing"},
        {HEAD "rule: []", "rule: no such field"},
        {HEAD "rules: x", "rules: a list of objects is wanted"},
        {HEAD "rules: [x]", "rules: a list of objects is wanted"},
        {HEAD "rules: [{}]", "rules[0].level: Required value"},
        {HEAD "rules: [{level: metadata}]",
         "rules[0].level: Unsupported value: \"metadata\": supported values: \"Metadata\", "
         "\"None\", \"Request\", \"RequestResponse\""},
        {HEAD "rules: [{level: None}, {level: None, users: a}]",
         "rules[1].users: a list of strings is wanted"},
        {HEAD "rules: [{level: None, verbs: [1]}]", "rules[0].verbs: a list of strings is wanted"},
        {HEAD "rules: [{level: None, omitManagedFields: maybe}]",
         "rules[0].omitManagedFields: true or false is wanted"},
        {HEAD "rules: [{level: None, nonResourceURLs: [x]}]",
         "rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin "
         "with a '/' character"},
        {HEAD "rules: [{level: None, nonResourceURLs: [/a, /*/b]}]",
         "rules[0].nonResourceURLs[1]: Invalid value: \"/*/b\": non-resource URL wildcards '*' "
         "must be the final character of the rule"},
        {HEAD "rules: [{level: None, nonResourceURLs: [/a], namespaces: [x]}]",
         "rules[0].nonResourceURLs: rules cannot apply to both regular resources and non-resource "
         "URLs"},
        {HEAD "rules: [{level: None, resources: [{groups: ['']}]}]",
         "rules[0].resources[0].groups: no such field"},
        {HEAD "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
         "rules[0].resources[0].resourceNames: using resourceNames requires at least one resource"},
        {HEAD "rules: [{level: None, omitStages: [Begin]}]",
         "rules[0].omitStages[0]: Invalid value: \"Begin\": allowed stages are "
         "RequestReceived,ResponseStarted,ResponseComplete,Panic"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct audit_policy *p;
        struct error err = {0};

        assert_false(audit_policy_parse(str_of(rows[i].text), &p, &err));
        if (*rows[i].text)
            assert_string_equal(error_text(&err), rows[i].error);
        error_clear(&err);
    }
}

#define RES(verb_, group_, resource_, sub_, ns_, name_)                                            \
    {                                                                                              \
        STR_INIT(verb_), STR_INIT(group_), STR_INIT(resource_), STR_INIT(sub_), STR_INIT(ns_),     \
            STR_INIT(name_),                                                                       \
        {                                                                                          \
            NULL, 0                                                                                \
        }                                                                                          \
    }
#define PATH(verb_, path_)                                                                         \
    {                                                                                              \
        STR_INIT(verb_), {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, STR_INIT(path_)    \
    }

static void the_first_match_decides(void **state)
{
    static const char policy[] = HEAD
        "omitStages: [RequestReceived]\nrules:\n"
        "- {level: None, users: [quiet]}\n"
        "- {level: Metadata, userGroups: [g], verbs: [get]}\n"
        "- {level: Request, resources: [{group: '', resources: [pods, pods/log]}]}\n"
        "- {level: RequestResponse, resources: [{group: '', resources: ['*/status', 'nodes/*']}]}\n"
        "- {level: Metadata, resources: [{group: '', resources: [configmaps], resourceNames: "
        "[a]}]}\n"
        "- {level: Request, resources: [{group: apps}], namespaces: [x]}\n"
        "- {level: Metadata, namespaces: [''], omitStages: [Panic]}\n"
        "- {level: Request, nonResourceURLs: [/api*, /version]}\n";
    static const struct {
        const char *user, *group;
        struct access want;
        enum audit_level level;
    } rows[] = {
        {"quiet", "g", RES("get", "", "pods", "", "d", "a"), AUDIT_NONE},
        {"u", "g", RES("get", "", "pods", "", "d", "a"), AUDIT_METADATA},
        {"u", "h", RES("get", "", "pods", "", "d", "a"), AUDIT_REQUEST},
        {"u", "g", RES("list", "", "pods", "", "d", "a"), AUDIT_REQUEST},
        {"u", "h", RES("get", "", "pods", "log", "d", "a"), AUDIT_REQUEST},
        {"u", "h", RES("get", "", "pods", "exec", "d", "a"), AUDIT_NONE},
        {"u", "h", RES("get", "", "pods", "status", "d", "a"), AUDIT_REQUEST_RESPONSE},
        {"u", "h", RES("get", "", "nodes", "proxy", "", "a"), AUDIT_REQUEST_RESPONSE},
        {"u", "h", RES("get", "", "nodes", "", "", "a"),
         AUDIT_REQUEST_RESPONSE}, /* as upstream reads nodes/ with a star */
        {"u", "h", RES("get", "", "persistentvolumes", "", "", "a"), AUDIT_METADATA},
        {"u", "h", RES("get", "", "configmaps", "", "d", "a"), AUDIT_METADATA},
        {"u", "h", RES("get", "", "configmaps", "", "d", "b"), AUDIT_NONE},
        {"u", "h", RES("get", "apps", "anything", "", "x", "b"), AUDIT_REQUEST},
        {"u", "h", RES("get", "apps", "anything", "", "y", "b"), AUDIT_NONE},
        {"u", "h", PATH("get", "/apis"), AUDIT_REQUEST},
        {"u", "h", PATH("get", "/version"), AUDIT_REQUEST},
        {"u", "h", PATH("get", "/metrics"), AUDIT_NONE},
        {NULL, NULL, RES("get", "", "pods", "", "d", "a"), AUDIT_REQUEST},
    };
    struct audit_policy *p;
    struct error err = {0};

    (void)state;
    assert_true(audit_policy_parse(str_of(policy), &p, &err));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *groups[] = {rows[i].group, NULL};
        struct identity who = {.user = rows[i].user, .groups = groups};
        struct audit_decision d = audit_policy_decide(p, rows[i].user ? &who : NULL, &rows[i].want);

        assert_string_equal(audit_level_name(d.level), audit_level_name(rows[i].level));
        assert_true(d.omit & 1u << AUDIT_RECEIVED);
    }
    {
        static const struct access node = RES("get", "", "persistentvolumes", "", "", "a");

        assert_true(audit_policy_decide(p, NULL, &node).omit & 1u << AUDIT_PANIC);
    }
    audit_policy_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mistakes_are_named_by_path),
                                       cmocka_unit_test(the_first_match_decides)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
