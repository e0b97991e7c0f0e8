#include "base/base_test.h"
#include "controller/vm_plan.h"

#include "base/cleanup.h"
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
    } cases[] = {{1, 0, 10}, {1, 5, 15}, {1, 6, 10}, {2, 0, 40}, {2, 20, 60}, {3, 0, 90}, {5, 0, 250}, {5, 125, 300},
                 {6, 0, 300}, {1000000000000, 7, 300}};

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

    if (!json_parse(str_of(vm), a, &v.vm, &err) || (vmi && !json_parse(str_of(vmi), a, &v.vmi, &err)))
        fail_msg("%s", error_text(&err));
    vm_plan(&v, &p);
    for (size_t i = 0; i < p.n_actions; i++) {
        const struct action *act = &p.actions[i];

        buf_addf(&b, "%s %s", kinds[act->kind], resources[act->resource].plural);
        if (act->kind == ACTION_PATCH_STATUS)
            buf_addf(&b, " " STR_FMT, STR_ARG(json_str_at(json_merge_patch(a, v.vm, act->body), "status/printableStatus")));
        buf_adds(&b, "; ");
    }
    if (p.again_ns)
        buf_addf(&b, "again %llds", (long long)(p.again_ns / 1000000000));
    return arena_strdup(a, b.n ? buf_str(&b) : STR(""));
}

#define META   "\"metadata\":{\"name\":\"v\",\"namespace\":\"n\",\"uid\":\"1\",\"resourceVersion\":\"5\",\"generation\":1"
#define FINAL  ",\"finalizers\":[\"kubevirt.io/virtualMachineControllerFinalize\"]"
#define SPEC(s) "\"spec\":{" s ",\"template\":{\"spec\":{}}}"
#define OURS   META ",\"ownerReferences\":[{\"uid\":\"1\",\"controller\":true}],\"annotations\":{\"kubevirt.io/vm-generation\":\"1\"}"

static void plans(void **state)
{
    static const struct {
        const char *vm, *vmi, *plan;
    } cases[] = {
        /* running: true and false */
        {"{" META "}," SPEC("\"running\":true") "}", NULL,
         "patch virtualmachines; create controllerrevisions; create virtualmachineinstances; "},
        {"{" META FINAL "}," SPEC("\"running\":false") "}", NULL, "status virtualmachines Stopped; "},
        /* a backoff that has 30 s to go */
        {"{" META FINAL "}," SPEC("\"runStrategy\":\"Always\"") ",\"status\":{\"startFailure\":{\"consecutiveFailCount\":2,"
         "\"retryAfterTimestamp\":\"2026-01-01T00:00:30Z\"}}}", NULL, "status virtualmachines CrashLoopBackOff; again 30s"},
        /* a failure is written down before its instance goes */
        {"{" META FINAL "}," SPEC("\"runStrategy\":\"Always\"") "}", "{" OURS "},\"status\":{\"phase\":\"Failed\"}}",
         "status virtualmachines CrashLoopBackOff; "},
        {"{" META FINAL "}," SPEC("\"runStrategy\":\"Always\"") ",\"status\":{\"startFailure\":{\"consecutiveFailCount\":1,"
         "\"lastFailedVMIUID\":\"1\",\"retryAfterTimestamp\":\"2026-01-01T00:00:30Z\"}}}",
         "{" OURS "},\"status\":{\"phase\":\"Failed\"}}",
         "delete virtualmachineinstances; "},
        /* deleting: the instance, then our finalizer */
        {"{" META FINAL ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"}," SPEC("\"running\":true") "}",
         "{" OURS "},\"status\":{\"phase\":\"Running\"}}",
         "delete virtualmachineinstances; status virtualmachines Terminating; "},
        {"{" META FINAL ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"}," SPEC("\"running\":true") "}", NULL,
         "patch virtualmachines; "},
        /* kubectl delete --cascade=orphan */
        {"{" META ",\"finalizers\":[\"kubevirt.io/virtualMachineControllerFinalize\",\"orphan\"],\"deletionTimestamp\":"
         "\"2026-01-01T00:00:00Z\"}," SPEC("\"running\":true") "}",
         "{" OURS "},\"status\":{\"phase\":\"Running\"}}", "patch virtualmachines; "},
        /* a stop for an instance that is not there any more */
        {"{" META FINAL "}," SPEC("\"runStrategy\":\"Manual\"") ",\"status\":{\"stateChangeRequests\":[{\"action\":\"Stop\","
         "\"uid\":\"9\"},{\"action\":\"Start\"}]}}", NULL,
         "create controllerrevisions; create virtualmachineinstances; status virtualmachines Starting; "},
        /* nonsense that admission would have refused */
        {"{" META FINAL "},\"spec\":7,\"status\":{\"stateChangeRequests\":{\"a\":1},\"conditions\":\"no\"}}", "{" OURS "}}",
         "delete virtualmachineinstances; "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        char *got = plan_text(cases[i].vm, cases[i].vmi, &a);

        if (strcmp(got, cases[i].plan) != 0)
            fail_msg("case %zu: %s", i, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(backoff_grows_to_five_minutes),
        cmocka_unit_test(plans),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
