#include "json/json_test.h"
#include "handler/internal.h"

#include "api/meta.h"
#include "base/cleanup.h"

#define NOW "2026-03-01T10:00:00Z"

static const struct json *status(struct arena *a, const char *vmi, const char *domain, bool lost)
{
    return vm_status(parse_quoted(a, vmi), &(struct vm_report){.domain = parse_quoted(a, domain), .launcher_lost = lost, .now = NOW}, a);
}

#define SCHEDULED "{'spec':{},'status':{'phase':'Scheduled'}}"
#define RUNNING   "{'spec':{},'status':{'phase':'Running'}}"
#define NO_ACPI   "{'spec':{'domain':{'features':{'acpi':{'enabled':false}}}},'status':{'phase':'Running'}}"
#define NO_GRACE  "{'spec':{'terminationGracePeriodSeconds':0},'status':{'phase':'Running'}}"

/* What the launcher says, and whether it is gone → the phase. */
static void phases(void **state)
{
    static const struct {
        const char *vmi, *domain;
        bool lost;
        const char *phase;
    } cases[] = {
        {SCHEDULED, NULL, false, "Scheduled"},
        {SCHEDULED, "{'state':'none'}", false, "Scheduled"},
        {SCHEDULED, "{'state':'starting'}", false, "Scheduled"},
        {SCHEDULED, "{'state':'running'}", false, "Running"},
        {SCHEDULED, "{'state':'paused'}", false, "Running"},
        {SCHEDULED, NULL, true, "Failed"},
        {SCHEDULED, "{'state':'none'}", true, "Failed"},
        {RUNNING, "{'state':'running'}", false, "Running"},
        {RUNNING, "{'state':'running'}", true, "Failed"}, /* no last word */
        {RUNNING, "{'state':'crashed'}", false, "Failed"},
        {SCHEDULED, "{'state':'crashed','reason':'start-failed'}", false, "Scheduled"},
        {SCHEDULED, "{'state':'crashed','reason':'start-failed'}", true, "Failed"},
        {RUNNING, "{'state':'crashed'}", true, "Failed"},
        {RUNNING, "{'state':'shutdown','reason':'guest-shutdown'}", true, "Succeeded"},
        {RUNNING, "{'state':'shutdown','reason':'shutdown'}", true, "Succeeded"},
        {RUNNING, "{'state':'shutdown','reason':'destroyed'}", true, "Failed"}, /* the grace period ran out */
        {NO_ACPI, "{'state':'shutdown','reason':'destroyed'}", true, "Succeeded"},
        {NO_GRACE, "{'state':'shutdown','reason':'destroyed'}", true, "Succeeded"},
        {"{'status':{'phase':'Succeeded'}}", "{'state':'running'}", false, "Succeeded"}, /* an end is an end */
        {"{'status':{'phase':'Failed'}}", "{'state':'shutdown'}", true, "Failed"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *v = status(&a, cases[i].vmi, cases[i].domain, cases[i].lost);
        struct str phase = json_str_at(v, "status/phase");

        if (!str_is(phase, cases[i].phase))
            fail_msg("case %zu: " STR_FMT, i, STR_ARG(phase));
    }
}

static const struct json *find(const struct json *vmi, const char *type)
{
    return condition_find(vmi, type);
}

static void first_running(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = status(&a, SCHEDULED, "{'state':'running','machine':'pc-q35-7.2','accelerator':'tcg'}", false);
    const struct json *stamp;

    (void)state;
    assert_true(condition_is(v, "Ready", "True"));
    assert_true(condition_is(v, "LiveMigratable", "False"));
    assert_null(find(v, "Paused"));
    assert_null(find(v, "AgentConnected"));
    assert_null(find(v, "Synchronized"));
    assert_true(str_is(json_str_at(v, "status/machine/type"), "pc-q35-7.2"));
    assert_true(str_is(meta_annotation(v, "vireo.io/accelerator"), "tcg"));
    stamp = json_item(json_at(v, "status/phaseTransitionTimestamps"), 0);
    assert_true(str_is(json_str_at(stamp, "phase"), "Running"));
    assert_true(str_is(json_str_at(stamp, "phaseTransitionTimestamp"), NOW));
}

/* What is written already is not written again: a report without news costs no request. */
static void no_news_is_the_same_object(void **state)
{
    static const char *const domains[] = {
        "{'state':'running'}",
        "{'state':'running','machine':'pc-q35-7.2','accelerator':'kvm'}",
        "{'state':'paused','reason':'user'}",
        "{'state':'running','agent':true,'interfaces':[{'name':'eth0','mac':'02:00:00:00:00:01','ips':['10.0.2.2']}]}",
        "{'state':'shutdown','reason':'guest-shutdown'}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(domains); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *nics = parse_quoted(&a, "[{'name':'default','mac':'02:00:00:00:00:01','ipAddress':'10.0.2.2'}]");
        struct vm_report r = {.domain = parse_quoted(&a, domains[i]), .nics = nics, .now = NOW};
        const struct json *once = vm_status(parse_quoted(&a, SCHEDULED), &r, &a);

        r.now = "2026-03-01T10:00:07Z";
        if (!json_eq(vm_status(once, &r, &a), once))
            fail_msg("%s: written again", domains[i]);
    }
}

static void pausing(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = status(&a, RUNNING, "{'state':'paused','reason':'user'}", false);

    (void)state;
    assert_true(condition_is(v, "Paused", "True"));
    assert_true(str_is(json_str_at(find(v, "Paused"), "reason"), "PausedByUser"));
    assert_true(str_is(json_str_at(v, "status/phase"), "Running"));
    v = vm_status(v, &(struct vm_report){.domain = parse_quoted(&a, "{'state':'paused','reason':'io-error'}"), .now = NOW}, &a);
    assert_true(str_is(json_str_at(find(v, "Paused"), "reason"), "PausedIOError"));
    v = vm_status(v, &(struct vm_report){.domain = parse_quoted(&a, "{'state':'running'}"), .now = NOW}, &a);
    assert_null(find(v, "Paused"));
    v = status(&a, "{'status':{'phase':'Running','conditions':[{'type':'Paused','status':'True'},"
                   "{'type':'AgentConnected','status':'True'}]}}",
               "{'state':'shutdown','reason':'guest-shutdown'}", true);
    assert_null(find(v, "Paused"));
    assert_null(find(v, "AgentConnected"));
    assert_true(condition_is(v, "Ready", "False"));
    assert_true(str_is(json_str_at(find(v, "Ready"), "reason"), "GuestNotRunning"));
}

/* What readiness probes say is the controller's: a False with its reason stays. */
static void ready_of_others_stays(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = status(&a,
                                  "{'status':{'phase':'Running','conditions':[{'type':'Ready','status':'False',"
                                  "'reason':'ContainersNotReady'}]}}",
                                  "{'state':'running'}", false);

    (void)state;
    assert_true(condition_is(v, "Ready", "False"));
    assert_true(str_is(json_str_at(find(v, "Ready"), "reason"), "ContainersNotReady"));
    v = status(&a, "{'status':{'phase':'Scheduled','conditions':[{'type':'Ready','status':'False','reason':'GuestNotRunning'}]}}",
               "{'state':'running'}", false);
    assert_true(condition_is(v, "Ready", "True"));
}

static void errors_of_synchronizing(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *v = parse_quoted(&a, SCHEDULED), *other;

    (void)state;
    v = vm_status(v, &(struct vm_report){.sync_error = "no such disk", .now = NOW}, &a);
    assert_true(condition_is(v, "Synchronized", "False"));
    assert_true(str_is(json_str_at(find(v, "Synchronized"), "message"), "no such disk"));
    assert_true(str_is(json_str_at(v, "status/phase"), "Scheduled"));
    assert_ptr_equal(vm_status(v, &(struct vm_report){.sync_error = "no such disk", .now = "2026-03-01T10:00:09Z"}, &a), v);
    v = vm_status(v, &(struct vm_report){.domain = parse_quoted(&a, "{'state':'running'}"), .now = NOW}, &a);
    assert_null(find(v, "Synchronized"));
    other = parse_quoted(&a, "{'status':{'phase':'Scheduled','conditions':[{'type':'Synchronized','status':'False',"
                      "'reason':'FailedPvcNotFound'}]}}");
    assert_ptr_equal(vm_status(other, &(struct vm_report){.now = NOW}, &a), other);
}

static void agent_and_interfaces(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *nics = parse_quoted(&a, "[{'name':'default','mac':'02:00:00:00:00:0a','ipAddress':'10.0.2.2'},"
                                        "{'name':'second','mac':'02:00:00:00:00:0b'}]");
    struct vm_report r = {.nics = nics, .now = NOW};
    const struct json *v, *nic;

    (void)state;
    r.domain = parse_quoted(&a, "{'state':'running','agent':true,'guestOSInfo':{'id':'debian'},"
                         "'interfaces':[{'name':'enp1s0','mac':'02:00:00:00:00:0A'},{'name':'docker0','mac':'02:42:00:00:00:01','ips':['172.17.0.1']}]}");
    v = vm_status(parse_quoted(&a, SCHEDULED), &r, &a);
    assert_true(condition_is(v, "AgentConnected", "True"));
    assert_true(str_is(json_str_at(v, "status/guestOSInfo/id"), "debian"));
    assert_int_equal(json_len(json_at(v, "status/interfaces")), 3);
    nic = json_item(json_at(v, "status/interfaces"), 2);
    assert_true(str_is(json_str_at(nic, "interfaceName"), "docker0"));
    assert_true(str_is(json_str_at(nic, "infoSource"), "guest-agent"));
    assert_true(str_is(json_str_at(nic, "ipAddress"), "172.17.0.1"));
    nic = json_item(json_at(v, "status/interfaces"), 0);
    assert_true(str_is(json_str_at(nic, "interfaceName"), "enp1s0"));
    assert_true(str_is(json_str_at(nic, "infoSource"), "domain, guest-agent"));
    assert_false(json_str_at(json_item(json_at(v, "status/interfaces"), 1), "interfaceName").n);
    r.domain = parse_quoted(&a, "{'state':'running'}");
    r.nics = NULL; /* an agent that was started again does not know how the network was made: what is written stays */
    v = vm_status(v, &r, &a);
    assert_null(find(v, "AgentConnected"));
    assert_int_equal(json_len(json_at(v, "status/interfaces")), 3);
}

static void targets(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf disks = {0}, volumes = {0};
    static const char *const buses[] = {"'disk':{'bus':'virtio'}", "'cdrom':{'bus':'sata'}", "'disk':{'bus':'scsi'}",
                                        "'lun':{'bus':'scsi'}", "'disk':{'bus':'virtio'}", "'disk':{'bus':'usb'}"};
    static const char *const want[] = {"vda", "sda", "sdb", "sdc", "vdb", "sdd"};
    const struct json *v;

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        buf_addf(&disks, "%s{'name':'d%u',%s}", i ? "," : "", i, i < 6 ? buses[i] : buses[0]);
        buf_addf(&volumes, "{'name':'d%u','target':''},", i);
    }
    v = status(&a,
               arena_printf(&a,
                            "{'spec':{'domain':{'devices':{'disks':[%s]}}},'status':{'phase':'Scheduled','volumeStatus':[%s"
                            "{'name':'no-disk','target':'','persistentVolumeClaimInfo':{'claimName':'c'}}]}}",
                            disks.p, volumes.p),
               "{'state':'running'}", false);
    v = json_at(v, "status/volumeStatus");
    for (unsigned i = 0; i < 6; i++)
        assert_true(str_is(json_str_at(json_item(v, i), "target"), want[i]));
    assert_true(str_is(json_str_at(json_item(v, 29), "target"), "vdz"));
    assert_true(str_is(json_str_at(json_item(v, 30), "target"), "vdaa"));
    assert_true(str_is(json_str_at(json_item(v, 40), "target"), ""));
    assert_true(str_is(json_str_at(json_item(v, 40), "persistentVolumeClaimInfo/claimName"), "c"));
}

/* A launcher's report is an outsider's text: any shape of it is answered, none believed. */
static void shapes_of_strangers(void **state)
{
    static const char *const domains[] = {
        "[]", "7", "null", "'running'", "{'state':7}", "{'state':'running','interfaces':7,'guestOSInfo':[],'agent':'yes'}",
        "{'state':'running','interfaces':[7,[],{'mac':7}],'machine':[]}", "{'state':'paused','reason':{}}", "{}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(domains); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct vm_report r = {.domain = parse_quoted(&a, domains[i]), .nics = parse_quoted(&a, "[{'mac':'02:00:00:00:00:01'}]"), .now = NOW};

        assert_non_null(vm_status(parse_quoted(&a, SCHEDULED), &r, &a));
        r.launcher_lost = true;
        assert_non_null(vm_status(parse_quoted(&a, RUNNING), &r, &a));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases),
        cmocka_unit_test(first_running),
        cmocka_unit_test(no_news_is_the_same_object),
        cmocka_unit_test(pausing),
        cmocka_unit_test(ready_of_others_stays),
        cmocka_unit_test(errors_of_synchronizing),
        cmocka_unit_test(agent_and_interfaces),
        cmocka_unit_test(targets),
        cmocka_unit_test(shapes_of_strangers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
