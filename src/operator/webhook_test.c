#include "json/json_test.h"

#include "operator/webhook.h"

/* A path, the objects of a review, the facts: "allowed", "allowed, warns", or code and message. */
static const struct {
    const char *path, *object, *old, *kubevirts, *workloads, *error, *want;
} rows[] = {
    {WEBHOOK_DELETE, NULL, "{'metadata':{'finalizers':['foregroundDeleteKubeVirt']},'spec':{}}", NULL, NULL, NULL, "allowed"},
    {WEBHOOK_DELETE, NULL, "{'metadata':{'finalizers':['foregroundDeleteKubeVirt']},'spec':{}}", NULL, "VirtualMachine a/b",
     NULL,
     "403 Rejecting the uninstall request, since there are still machines present: VirtualMachine a/b. Delete them first, or "
     "set "
     "spec.uninstallStrategy to RemoveWorkloads, which deletes them with everything else"},
    {WEBHOOK_DELETE, NULL,
     "{'metadata':{'finalizers':['foregroundDeleteKubeVirt']},'spec':{'uninstallStrategy':'RemoveWorkloads'}}", NULL,
     "VirtualMachine a/b", NULL, "allowed"},
    /* One that installs nothing goes. */
    {WEBHOOK_DELETE, NULL, "{'metadata':{'name':'second'},'spec':{}}", NULL, "VirtualMachine a/b", NULL, "allowed"},
    {WEBHOOK_DELETE, NULL, "{'metadata':{'finalizers':['foregroundDeleteKubeVirt']}}", NULL, NULL,
     "machines cannot be listed: no", "500 machines cannot be listed: no"},
    {WEBHOOK_CREATE, "{'metadata':{'name':'x'},'spec':{}}", NULL, "[]", NULL, NULL, "allowed"},
    {WEBHOOK_CREATE, "{'metadata':{'name':'x'},'spec':{}}", NULL, "[{'metadata':{'namespace':'kubevirt','name':'kubevirt'}}]",
     NULL, NULL, "403 KubeVirt is already created: kubevirt/kubevirt configures this cluster"},
    {WEBHOOK_CREATE, "{'metadata':{'name':'x'},'spec':{'imageTag':'a b'}}", NULL, "[]", NULL, NULL,
     "422 spec.imageTag: 'a b' is no tag: letters, digits, '_', '.' and '-', at most 128, or sha256:DIGEST"},
    {WEBHOOK_UPDATE, "{'metadata':{'name':'x'},'spec':{'uninstallStrategy':'Burn'}}", "{}", NULL, NULL, NULL,
     "422 spec.uninstallStrategy: 'Burn' is neither RemoveWorkloads nor BlockUninstallIfWorkloadsExist"},
    {WEBHOOK_UPDATE, "{'metadata':{'name':'x'},'spec':{'monitorNamespace':'m'}}", "{}", NULL, NULL, NULL, "allowed, warns"},
    {WEBHOOK_UPDATE, "{'metadata':{'name':'x'},'spec':{'monitorAccount':'m'}}", "{}", NULL, NULL, NULL, "allowed, warns"},
    {WEBHOOK_UPDATE, "{'metadata':{'name':'x'},'spec':{'infra':{'replicas':255}}}", "{}", NULL, NULL, NULL, "allowed"},
    {WEBHOOK_UPDATE, "{'metadata':{'name':'x'},'spec':{'infra':{'replicas':256}}}", "{}", NULL, NULL, NULL,
     "422 spec.infra.replicas: must be at most 255"},
    /* A broken spec does not keep finalizers from going. */
    {WEBHOOK_UPDATE, "{'metadata':{'deletionTimestamp':'2026-01-01T00:00:00Z'},'spec':{'imageTag':'a b'}}", "{}", NULL, NULL,
     NULL, "allowed"},
    {WEBHOOK_UPDATE,
     "{'spec':{'customizeComponents':{'patches':[{'resourceName':'*','resourceType':'Deployment','type':'merge',"
     "'patch':'no'}]}}}",
     "{}", NULL, NULL, NULL, "422 spec.customizeComponents.patches[0].patch: "},
};

static void verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *review = json_object(&a, "kind", json_new_z(&a, "AdmissionReview"), "request",
                                                json_object(&a, "uid", json_new_z(&a, "u-1"), "object",
                                                            parse_quoted(&a, rows[i].object), "oldObject",
                                                            parse_quoted(&a, rows[i].old), NULL),
                                                NULL),
                          *answer, *r;
        const struct webhook_facts f = {parse_quoted(&a, rows[i].kubevirts), rows[i].workloads, rows[i].error};
        const char *got;

        assert_true(webhook_review(str_of(rows[i].path), review, &f, &a, &answer, &err));
        r = json_get(answer, "response");
        assert_text(json_get(r, "uid"), "\"u-1\"");
        if (json_bool(json_get(r, "allowed")))
            got = json_get(r, "warnings") ? "allowed, warns" : "allowed";
        else
            got = arena_printf(&a, "%lld " STR_FMT, (long long)json_i64_at(r, "status/code", 0),
                               STR_ARG(json_str_at(r, "status/message")));
        if (strncmp(got, rows[i].want, strlen(rows[i].want)) != 0)
            fail_msg("%zu: %s", i, got);
    }
}

static void what_is_no_review(void **state)
{
    static const char *const bodies[] = {"{}",
                                         "[]",
                                         "null",
                                         "{'kind':'AdmissionReview'}",
                                         "{'kind':'AdmissionReview','request':{'uid':7}}",
                                         "{'kind':'Pod','request':{'uid':'x'}}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *answer;

        assert_false(
            webhook_review(STR(WEBHOOK_DELETE), parse_quoted(&a, bodies[i]), &(struct webhook_facts){0}, &a, &answer, &err));
        assert_int_equal(err.kind, ERROR_BAD_REQUEST);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(verdicts), cmocka_unit_test(what_is_no_review)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
