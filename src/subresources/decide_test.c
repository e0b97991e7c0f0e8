#include "json/json_test.h"
#include "subresources/decide.h"

#include "base/cleanup.h"

static void same(struct arena *a, const char *what, size_t i, const struct json *got, const char *want)
{
    AUTO_FREE char *text = got ? json_text(got) : NULL;

    if (want ? !json_eq(got, parse_quoted(a, want)) : got != NULL)
        fail_msg("case %zu, %s: got %s, want %s", i, what, text ? text : "nothing", want ? want : "nothing");
}

struct decide_case {
    const char *vm, *vmi, *body;
    int status;
    const char *message, *spec, *request, *grace;
    bool delete_pod;
};
typedef void (*decide_fn)(const struct json *, const struct json *, const struct json *, struct arena *, struct decision *);

/* `request` is what is put on the VM's status, whatever the patch that carries it looks like. */
static const struct json *requests_of(const struct decision *d)
{
    json_each_item(op, d->status_patch) {
        if (str_is(json_str_at(op, "path"), "/status"))
            return json_at(op, "value/stateChangeRequests");
        if (str_is(json_str_at(op, "path"), "/status/stateChangeRequests") && !str_is(json_str_at(op, "op"), "test"))
            return json_get(op, "value");
    }
    return NULL;
}

static void check(decide_fn fn, const struct decide_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct decide_case *c = &cases[i];
        struct decision d;

        fn(parse_quoted(&a, c->vm), parse_quoted(&a, c->vmi), parse_quoted(&a, c->body), &a, &d);
        if (d.status != c->status || strcmp(d.message ? d.message : "", c->message ? c->message : "") != 0)
            fail_msg("case %zu: %d %s, want %d %s", i, d.status, d.message, c->status, c->message);
        same(&a, "spec", i, d.spec_patch, c->spec);
        same(&a, "request", i, requests_of(&d), c->request);
        same(&a, "grace", i, d.vmi_patch, c->grace);
        assert_int_equal(d.delete_pod, c->delete_pod);
    }
}

#define VM(strategy) "{'spec':{'runStrategy':'" strategy "'},'status':{}}"
#define LIVE         "{'metadata':{'uid':'u'},'spec':{'terminationGracePeriodSeconds':30},'status':{'phase':'Running'}}"
#define FAILED       "{'metadata':{'uid':'u'},'status':{'phase':'Failed'}}"
#define SUCCEEDED    "{'metadata':{'uid':'u'},'status':{'phase':'Succeeded'}}"
#define START        "{'action':'Start'}"
#define STOP         "{'action':'Stop','uid':'u'}"
#define TO(was, is)                                                                                                              \
    "[{'op':'test','path':'/spec/runStrategy','value':'" was "'},{'op':'replace','path':'/spec/runStrategy','value':'" is "'}]"
#define UNDERWAY "unable to complete request: stop/start already underway"

static void start(void **state)
{
    static const struct decide_case cases[] = {
        {VM("Halted"), NULL, NULL, .spec = TO("Halted", "Always")},
        {VM("Halted"), SUCCEEDED, NULL, .spec = TO("Halted", "Always")},
        {VM("Halted"), NULL, "{'paused':true}", .request = "[{'action':'Start','data':{'paused':'true'}}]"},
        {VM("Halted"), LIVE, NULL, 409, "VM is already running"},
        {VM("Always"), LIVE, NULL, 409, "VM is already running"},
        {VM("Always"), NULL, NULL, 409, "Always does not support manual start requests"},
        {VM("Once"), NULL, NULL, 409, "Once does not support manual start requests"},
        {VM("Manual"), NULL, NULL, .request = "[" START "]"},
        {VM("Manual"), NULL, "{'paused':true}", .request = "[{'action':'Start','data':{'paused':'true'}}]"},
        {VM("Manual"), SUCCEEDED, NULL, .request = "[" STOP "," START "]"},
        {VM("Manual"), FAILED, NULL, .request = "[" STOP "," START "]"},
        {VM("RerunOnFailure"), NULL, NULL, .request = "[" START "]"},
        {VM("RerunOnFailure"), SUCCEEDED, NULL, .request = "[" STOP "," START "]"},
        {VM("RerunOnFailure"), FAILED, NULL, 409, "RerunOnFailure does not support starting VM from failed state"},
        {"{'spec':{'running':false}}", NULL, NULL,
         .spec = "[{'op':'test','path':'/spec/running','value':false},{'op':'replace','path':'/spec/running','value':true}]"},
        {"{'spec':{}}", NULL, NULL,
         .spec = "[{'op':'test','path':'/spec/running','value':null},{'op':'add','path':'/spec/running','value':true}]"},
        {"{'spec':{'runStrategy':'Manual'}}", NULL, NULL, .request = "[" START "]"}, /* no status at all yet */
        {"{'spec':{'runStrategy':'Manual'},'status':{'stateChangeRequests':[" START "]}}", NULL, NULL, 500, UNDERWAY},
        {"{'spec':{'runStrategy':'Manual'},'status':{'conditions':[{'type':'ManualRecoveryRequired','status':'True'}]}}", NULL,
         NULL, 409, "VM recovery required"},
    };

    (void)state;
    check(decide_start, cases, ARRAY_SIZE(cases));
}

static void stop(void **state)
{
    static const struct decide_case cases[] = {
        {VM("Always"), LIVE, NULL, .spec = TO("Always", "Halted")},
        {VM("Always"), NULL, NULL, .spec = TO("Always", "Halted")},
        {VM("Once"), LIVE, NULL, .spec = TO("Once", "Halted")},
        {VM("Always"), LIVE, "{'gracePeriod':5}", .spec = TO("Always", "Halted"),
         .grace = "{'spec':{'terminationGracePeriodSeconds':5}}"},
        {VM("Always"), LIVE, "{'gracePeriod':-1}", 400, "gracePeriod has to be greater or equal to 0"},
        {VM("Halted"), LIVE, NULL, 409, "Halted only supports manual stop requests with a shorter graceperiod"},
        {VM("Halted"), LIVE, "{'gracePeriod':30}", 409, "Halted only supports manual stop requests with a shorter graceperiod"},
        {VM("Halted"), LIVE, "{'gracePeriod':0}", .request = "[" STOP "]", .grace = "{'spec':{'terminationGracePeriodSeconds':0}}"},
        {VM("Halted"), NULL, NULL, 409, "VM is not running"},
        {VM("Manual"), NULL, "{'gracePeriod':0}", 409, "VM is not running"},
        {VM("Manual"), SUCCEEDED, NULL, 409, "VM is not running"},
        {VM("Manual"), LIVE, NULL, .request = "[" STOP "]"},
        {VM("RerunOnFailure"), LIVE, NULL, .request = "[" STOP "]"},
        {VM("RerunOnFailure"), FAILED, NULL, 409, "VM is not running"},
        {"{'spec':{'runStrategy':'Manual'},'status':{'stateChangeRequests':[" START "]}}", LIVE, NULL,
         .request = "[" STOP "]"}, /* a lone stop replaces what waits */
        {"{'spec':{'running':true}}", LIVE, NULL,
         .spec = "[{'op':'test','path':'/spec/running','value':true},{'op':'replace','path':'/spec/running','value':false}]"},
    };

    (void)state;
    check(decide_stop, cases, ARRAY_SIZE(cases));
}

static void restart(void **state)
{
    static const struct decide_case cases[] = {
        {VM("Always"), LIVE, NULL, .request = "[" STOP "," START "]"},
        {VM("Manual"), LIVE, NULL, .request = "[" STOP "," START "]"},
        {VM("RerunOnFailure"), LIVE, "{}", .request = "[" STOP "," START "]"},
        {VM("Always"), LIVE, "{'gracePeriodSeconds':0}", .request = "[" STOP "," START "]", .delete_pod = true},
        {VM("Always"), LIVE, "{'gracePeriodSeconds':3}", 400, "For force restart, only gracePeriod=0 is supported for now"},
        {VM("Always"), LIVE, "{'gracePeriodSeconds':-1}", 400, "gracePeriod has to be greater or equal to 0"},
        {VM("Halted"), LIVE, NULL, 409, "RunStategy Halted does not support manual restart requests"},
        {VM("Once"), LIVE, NULL, 409, "RunStategy Once does not support manual restart requests"},
        {VM("Always"), NULL, NULL, 409, "VM is not running: Halted"},
        {VM("Always"), SUCCEEDED, NULL, 409, "VM is not running: Halted"},
        {"{'spec':{'runStrategy':'Always'},'status':{'stateChangeRequests':[" STOP "]}}", LIVE, "{'gracePeriodSeconds':0}", 500,
         UNDERWAY},
    };

    (void)state;
    check(decide_restart, cases, ARRAY_SIZE(cases));
}

/* A request by hand starts the count of failures anew; a refused one touches nothing. */
static void failures_are_forgotten(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vm = parse_quoted(&a, "{'spec':{'runStrategy':'Manual'},'status':{'startFailure':{'consecutiveFailCount':3}}}");
    const struct json *last;
    struct decision d;

    (void)state;
    decide_start(vm, NULL, NULL, &a, &d);
    last = json_item(d.status_patch, json_len(d.status_patch) - 1);
    assert_true(str_is(json_str_at(last, "op"), "remove"));
    assert_true(str_is(json_str_at(last, "path"), "/status/startFailure"));
    decide_stop(vm, NULL, NULL, &a, &d);
    assert_int_equal(d.status, 409);
    assert_null(d.status_patch);
}

#define PHASE(phase) "{'status':{'phase':'" phase "'}}"
#define PAUSED       "{'status':{'phase':'Running','conditions':[{'type':'Paused','status':'True'}]}}"
#define AGENT        "{'status':{'phase':'Running','conditions':[{'type':'AgentConnected','status':'True'}]}}"

#define HAS_VSOCK "'spec':{'domain':{'devices':{'autoattachVSOCK':true}}}"
#define VSOCK(phase) "{" HAS_VSOCK ",'status':{'phase':'" phase "'}}"
#define VSOCK_PAUSED                                                                               \
    "{" HAS_VSOCK ",'status':{'phase':'Running','conditions':[{'type':'Paused','status':'True'}]}" \
                  "}"

static void vsock_query(void **state)
{
    static const char range[] = "the guest's port must be a number from 0 to 4294967294";
    static const struct {
        const char *port, *tls;
        int status;
        const char *message;
    } cases[] = {
        {"22", "false", 0, ""},
        {"0", "0", 0, ""},
        {"4294967294", "False", 0, ""},
        {"4294967295", "false", 400, range}, /* any port */
        {"-1", "false", 400, range},
        {"22x", "false", 400, range},
        {"99999999999999999999", "false", 400, range},
        {NULL, "false", 400, range},
        {"22", "true", 501, "tls=true: TLS to the guest is not part of this release"},
        {"22", NULL, 501,
         "tls=true (the default): TLS to the guest"}, /* never in clear without being asked */
        {"22", "no", 501, "tls=no: TLS to the guest"},
        {"x", NULL, 400, "port=x: "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct decision d;

        decide_vsock(cases[i].port ? str_of(cases[i].port) : STR_NONE,
                     cases[i].tls ? str_of(cases[i].tls) : STR_NONE, &a, &d);
        if (d.status != cases[i].status || (d.message && !strstr(d.message, cases[i].message))
            || !d.message != !d.status)
            fail_msg("case %zu: %d %s", i, d.status, d.message);
    }
}

static void action(void **state)
{
    static const struct {
        const char *action, *vmi;
        int status;
        const char *message;
    } cases[] = {
        {"pause", PHASE("Running"), 0, NULL},
        {"pause", PAUSED, 409, "VMI is already paused"},
        {"pause", PHASE("Scheduled"), 409, "VM is not running"},
        {"pause", "{'spec':{'livenessProbe':{}},'status':{'phase':'Running'}}", 403,
         "Pausing VMIs with LivenessProbe is currently not supported"},
        {"unpause", PAUSED, 0, NULL},
        {"unpause", PHASE("Running"), 409, "VMI is not paused"},
        {"unpause", PHASE("Failed"), 409, "VMI is not running"},
        {"freeze", AGENT, 0, NULL},
        {"freeze", PHASE("Running"), 409, "VMI does not have guest agent connected"},
        {"guestosinfo", AGENT, 0, NULL},
        {"userlist", PHASE("Running"), 409, "VMI does not have guest agent connected"},
        {"filesystemlist", PHASE("Succeeded"), 409, "VM is not running"},
        {"softreboot", PHASE("Running"), 0, NULL},
        {"softreboot", PAUSED, 409, "VMI is paused"},
        {"softreboot",
         "{'spec':{'domain':{'features':{'acpi':{'enabled':false}}}},'status':{'phase':'Running'}}",
         409, "VMI neither have the agent connected nor the ACPI feature enabled"},
        {"reset", PHASE("Running"), 0, NULL},
        {"reset", PHASE("Scheduled"), 409,
         "Failed to reset non-running VMI with phase Scheduled: it does not run"},
        {"console", PHASE("Running"), 0, NULL},
        {"console", PHASE("Failed"), 409, "VMI is in failed status"},
        {"console", PHASE("Scheduling"), 400, "VMI is not running"},
        {"console",
         "{'spec':{'domain':{'devices':{'autoattachSerialConsole':false}}},'status':{'phase':'"
         "Running'}}",
         400, "No serial consoles are present."},
        {"vnc", PHASE("Running"), 0, NULL},
        {"vnc",
         "{'spec':{'domain':{'devices':{'autoattachGraphicsDevice':false}}},'status':{'phase':'"
         "Running'}}",
         400, "No graphics devices are present."},
        {"portforward", PHASE("Running"), 400, "no network interfaces are present"},
        {"portforward", "{'status':{'phase':'Running','interfaces':[{'ipAddress':'10.0.0.2'}]}}", 0,
         NULL},
        {"portforward", PAUSED, 409, "VMI is paused"},
        {"vsock", VSOCK("Running"), 0, NULL},
        {"vsock", PHASE("Running"), 400, "VSOCK is not attached."},
        {"vsock", PHASE("Scheduled"), 400, "VSOCK is not attached."},
        {"vsock", VSOCK("Scheduled"), 400, "VMI is not running"},
        {"vsock", VSOCK_PAUSED, 409, "VMI is paused"},
        {"something else", PHASE("Failed"), 0, NULL}, /* the routes decide what exists */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct decision d;

        decide_action(cases[i].action, parse_quoted(&a, cases[i].vmi), &a, &d);
        if (d.status != cases[i].status || strcmp(d.message ? d.message : "", cases[i].message ? cases[i].message : "") != 0)
            fail_msg("case %zu: %d %s", i, d.status, d.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start),   cmocka_unit_test(stop),
        cmocka_unit_test(restart), cmocka_unit_test(failures_are_forgotten),
        cmocka_unit_test(action),  cmocka_unit_test(vsock_query),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
