#include "json/json_test.h"

#include "api/meta.h"
#include "operator/status.h"

static const struct install in = {.version = "v1.1.0", .registry = "r.example", .id = "new", .config_json = "{}"};

static const char *conditions(struct arena *a, const struct json *kv)
{
    const char *text = "";

    json_each_item(c, json_at(kv, "status/conditions"))
        text = arena_printf(a, "%s" STR_FMT "=" STR_FMT ":" STR_FMT " ", text, STR_ARG(json_str_at(c, "type")),
                            STR_ARG(json_str_at(c, "status")), STR_ARG(json_str_at(c, "reason")));
    return text;
}

static const struct {
    const char *name, *status;
    struct status_facts facts;
    const char *phase, *want;
} rows[] = {
    {"new",
     "null",
     {.now = STATUS_DEPLOYING},
     "Deploying",
     "Available=False:DeploymentInProgress Progressing=True:DeploymentInProgress Degraded=False:DeploymentInProgress "},
    {"all there",
     "{'phase':'Deploying'}",
     {.now = STATUS_DEPLOYING, .created = true},
     "Deploying",
     "Available=False:DeploymentInProgress Progressing=True:DeploymentInProgress Degraded=False:DeploymentInProgress "
     "Created=True:AllResourcesCreated "},
    {"a pod does not start",
     "{'phase':'Deploying'}",
     {.now = STATUS_DEPLOYING, .trouble = "pod x: ErrImagePull"},
     "Deploying",
     "Available=False:DeploymentInProgress Progressing=True:DeploymentInProgress Degraded=True:DeploymentFailed "},
    {"ready",
     "{'phase':'Deploying'}",
     {.now = STATUS_READY, .created = true},
     "Deployed",
     "Created=True:AllResourcesCreated Available=True:AllComponentsReady Progressing=False:AllComponentsReady "
     "Degraded=False:AllComponentsReady "},
    {"upgrading",
     "{'phase':'Deployed','observedKubeVirtVersion':'v1.0.0','conditions':[{'type':'Created','status':'True'}]}",
     {.now = STATUS_UPDATING},
     "Deployed",
     "Available=True:UpdateInProgress Progressing=True:UpdateInProgress Degraded=True:UpdateInProgress "},
    {"refused",
     "null",
     {.now = STATUS_FAILED, .error = "no"},
     "Deploying",
     "Synchronized=False:DeploymentFailed Available=False:DeploymentFailed Progressing=False:DeploymentFailed "
     "Degraded=True:DeploymentFailed "},
    {"a second one",
     "null",
     {.now = STATUS_SECOND, .error = "There is an active KubeVirt deployment"},
     "",
     "Synchronized=False:ExistingDeployment "},
    {"blocked: it goes on working",
     "{'phase':'Deployed','conditions':[{'type':'Available','status':'True','reason':'AllComponentsReady'}]}",
     {.now = STATUS_BLOCKED, .error = "VirtualMachine a/b"},
     "Deleting",
     "Available=True:AllComponentsReady Synchronized=False:DeletionFailed "},
    {"going",
     "{'phase':'Deployed','conditions':[{'type':'Created','status':'True'}]}",
     {.now = STATUS_DELETING},
     "Deleting",
     "Available=False:DeletionInProgress Progressing=False:DeletionInProgress Degraded=True:DeletionInProgress "},
    {"gone",
     "{'phase':'Deleting'}",
     {.now = STATUS_DELETED},
     "Deleted",
     "Available=False:DeletionInProgress Progressing=False:DeletionInProgress Degraded=True:DeletionInProgress "},
};

static void conditions_as_upstream(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *kv = json_object(&a, "metadata", parse(&a, "{\"name\":\"kubevirt\",\"generation\":3}"), "status",
                                            parse_quoted(&a, rows[i].status), NULL),
                          *got;
        struct status_facts f = rows[i].facts;
        struct str phase;

        f.install = &in;
        f.operator_version = "v9";
        got = status_with(&a, kv, &f, "2026-01-01T00:00:00Z");
        phase = json_str_at(got, "status/phase");
        if (!str_is(phase.p ? phase : STR(""), rows[i].phase) || strcmp(conditions(&a, got), rows[i].want) != 0)
            fail_msg("%s: " STR_FMT " %s", rows[i].name, STR_ARG(phase), conditions(&a, got));
        /* Nothing changes by being said again. */
        assert_ptr_equal(status_with(&a, got, &f, "2027-01-01T00:00:00Z"), got);
    }
}

static void versions_of_target_and_of_what_is_there(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct status_facts f = {.now = STATUS_DEPLOYING, .install = &in, .operator_version = "v9"};
    const struct json *kv = status_with(&a, parse(&a, "{\"metadata\":{\"generation\":3}}"), &f, "2026-01-01T00:00:00Z");

    (void)state;
    assert_text(json_at(kv, "status/targetKubeVirtVersion"), "\"v1.1.0\"");
    assert_text(json_at(kv, "status/targetDeploymentID"), "\"new\"");
    assert_text(json_at(kv, "status/operatorVersion"), "\"v9\"");
    assert_null(json_at(kv, "status/observedKubeVirtVersion"));
    assert_null(json_at(kv, "status/observedGeneration"));
    assert_text(json_at(condition_find(kv, "Available"), "message"), "\"Deploying version v1.1.0 with registry r.example\"");
    f.now = STATUS_READY;
    kv = status_with(&a, kv, &f, "2026-01-01T00:00:01Z");
    assert_text(json_at(kv, "status/observedKubeVirtVersion"), "\"v1.1.0\"");
    assert_text(json_at(kv, "status/observedDeploymentID"), "\"new\"");
    assert_text(json_at(kv, "status/observedGeneration"), "3");
    assert_text(json_at(condition_find(kv, "Available"), "lastTransitionTime"), "\"2026-01-01T00:00:01Z\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_as_upstream),
        cmocka_unit_test(versions_of_target_and_of_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
