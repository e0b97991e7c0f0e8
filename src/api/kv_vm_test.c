#include "base/base_test.h"
#include "api/kv.h"

#include "base/cleanup.h"

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *copy;

    if (!text)
        return NULL;
    copy = arena_strdup(a, str_of(text));
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(copy), a, &v, &err))
        fail_msg("%s: %s", copy, error_text(&err));
    return v;
}

#define ALWAYS "{'spec':{'runStrategy':'Always'}}"
#define PHASE(p) "{'status':{'phase':'" p "'}}"
#define COND(p, type, status, reason)                                                                                            \
    "{'status':{'phase':'" p "','conditions':[{'type':'" type "','status':'" status "','reason':'" reason "'}]}}"

/* The first that holds, in the order of the reference's §2.2. */
static void printable_status(void **state)
{
    static const struct {
        const char *vm, *vmi;
        bool create_expected;
        const char *word;
    } cases[] = {
        {ALWAYS, NULL, false, "Stopped"},
        {ALWAYS, NULL, true, "Starting"},
        {ALWAYS, "{'status':{}}", false, "Starting"},
        {ALWAYS, PHASE("Pending"), false, "Starting"},
        {ALWAYS, PHASE("Scheduled"), false, "Starting"},
        {ALWAYS, PHASE("Running"), false, "Running"},
        {ALWAYS, COND("Running", "Paused", "True", ""), false, "Paused"},
        {ALWAYS, PHASE("Succeeded"), false, "Stopped"},
        {ALWAYS, PHASE("Failed"), false, "Stopped"},
        {ALWAYS, PHASE("Unknown"), false, "Unknown"},
        {"{'metadata':{'deletionTimestamp':'x'}}", PHASE("Running"), false, "Terminating"},
        {ALWAYS, "{'metadata':{'deletionTimestamp':'x'},'status':{'phase':'Running'}}", false, "Stopping"},
        {ALWAYS, "{'metadata':{'deletionTimestamp':'x'},'status':{'phase':'Failed'}}", false, "Stopped"},
        {ALWAYS, "{'status':{'phase':'Running','migrationState':{'startTimestamp':'x'}}}", false, "Migrating"},
        {ALWAYS, "{'status':{'phase':'Running','migrationState':{'startTimestamp':'x','endTimestamp':'y'}}}", false, "Running"},
        {ALWAYS, COND("Pending", "Synchronized", "False", "FailedPvcNotFound"), false, "ErrorPvcNotFound"},
        {ALWAYS, COND("Scheduling", "PodScheduled", "False", "Unschedulable"), false, "ErrorUnschedulable"},
        {ALWAYS, COND("Pending", "Synchronized", "False", "BlockVolumeUnsupported"), false, "ErrorUnschedulable"},
        {ALWAYS, COND("Scheduling", "Synchronized", "False", "ErrImagePull"), false, "ErrImagePull"},
        {ALWAYS, COND("Scheduling", "Synchronized", "False", "ImagePullBackOff"), false, "ImagePullBackOff"},
        {ALWAYS, "{'status':{'phase':'Pending','volumeStatus':[{'phase':'Pending','persistentVolumeClaimInfo':{}}]}}", false,
         "WaitingForVolumeBinding"},
        {"{'spec':{'runStrategy':'Always'},'status':{'startFailure':{'consecutiveFailCount':1}}}", NULL, false,
         "CrashLoopBackOff"},
        {"{'spec':{'runStrategy':'Manual'},'status':{'startFailure':{'consecutiveFailCount':1}}}", NULL, false, "Stopped"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *got = kv_printable_status(parse(&a, cases[i].vm), parse(&a, cases[i].vmi), cases[i].create_expected);

        if (strcmp(got, cases[i].word) != 0)
            fail_msg("case %zu: %s, not %s", i, got, cases[i].word);
    }
}

static void instance(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vm = parse(&a, "{'metadata':{'name':'v','namespace':'n','uid':'u','generation':3,'labels':{'not':'this'}},"
                                      "'spec':{'template':{'metadata':{'labels':{'a':'b'},'annotations':{'c':'d'}},"
                                      "'spec':{'domain':{'memory':{'guest':'1Gi'}}}}}}");
    const struct json *vmi = kv_vmi_from_vm(vm, &a);
    static const char golden[] =
        "{'apiVersion':'kubevirt.io/v1','kind':'VirtualMachineInstance','metadata':{'name':'v','namespace':'n',"
        "'labels':{'a':'b'},'annotations':{'c':'d','kubevirt.io/vm-generation':'3'},'ownerReferences':[{"
        "'apiVersion':'kubevirt.io/v1','kind':'VirtualMachine','name':'v','uid':'u','controller':true,"
        "'blockOwnerDeletion':true}],'finalizers':['kubevirt.io/virtualMachineControllerFinalize']},"
        "'spec':{'domain':{'memory':{'guest':'1Gi'}}}}";
    struct str uuid = json_str_at(vmi, "spec/domain/firmware/uuid");

    (void)state;
    assert_int_equal(uuid.n, 36);
    assert_true(json_eq(kv_vmi_from_vm(vm, &a), vmi)); /* the same UUID for the same name, always */
    if (!json_eq(json_with_at(&a, vmi, "spec/domain/firmware", NULL), parse(&a, golden))) {
        AUTO_FREE char *text = json_text(vmi);
        fail_msg("%s", text);
    }
}

static void written_uuid_stays(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vmi =
        kv_vmi_from_vm(parse(&a, "{'metadata':{'name':'v'},'spec':{'template':{'spec':{'domain':{'firmware':{'uuid':'mine'}}}}}}"),
                       &a);

    (void)state;
    assert_true(str_is(json_str_at(vmi, "spec/domain/firmware/uuid"), "mine"));
}

/* A request to start paused holds for that start; others do not read it. */
static void paused_start(void **state)
{
    static const struct {
        const char *request;
        bool paused;
    } cases[] = {
        {"{'action':'Start','data':{'paused':'true'}}", true},
        {"{'action':'Start','data':{'paused':'false'}}", false},
        {"{'action':'Start'}", false},
        {"{'action':'Stop','data':{'paused':'true'}}", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *vm = parse(&a, arena_printf(&a, "{'metadata':{'name':'v'},'spec':{'template':{'spec':{}}},"
                                                           "'status':{'stateChangeRequests':[%s]}}",
                                                       cases[i].request));

        assert_int_equal(str_is(json_str_at(kv_vmi_from_vm(vm, &a), "spec/startStrategy"), "Paused"), cases[i].paused);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(printable_status), cmocka_unit_test(instance),
                                       cmocka_unit_test(written_uuid_stays), cmocka_unit_test(paused_start)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
