#include "base/base_test.h"
#include "controller/vm_metrics.h"

#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"

static struct str pod_of(void *user, struct str uid)
{
    return user && str_is(uid, "u-1") ? STR("virt-launcher-a-1") : STR_NONE;
}

static const struct json *parsed(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!json_parse(str_of(text), a, &v, &err))
        fail_msg("%s", error_text(&err));
    return v;
}

#define VMI(phase, more)                                                                                                          \
    "{\"metadata\":{\"namespace\":\"x\",\"name\":\"a\",\"uid\":\"u-1\",\"annotations\":{\"vm.kubevirt.io/os\":\"say \\\"hi\\\"\"}},"  \
    "\"spec\":{\"evictionStrategy\":\"LiveMigrate\"},\"status\":{\"phase\":\"" phase "\",\"nodeName\":\"n1\"" more "}}"

static void instances(void **state)
{
    struct vm_metrics m = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    vm_metrics_vmi(&m, STR("x/a"), parsed(&a, VMI("Scheduled", "")), false);
    vm_metrics_vmi(&m, STR("x/b"), parsed(&a, "{\"metadata\":{\"namespace\":\"x\",\"name\":\"b\",\"uid\":\"u-2\"},\"status\":{\"phase\":\"Pending\"}}"), false);
    vm_metrics_vmi(&m, STR("x/a"), parsed(&a, VMI("Running",
        ",\"conditions\":[{\"type\":\"LiveMigratable\",\"status\":\"False\"}],\"machine\":{\"type\":\"q35\"},"
        "\"interfaces\":[{\"name\":\"default\",\"ipAddress\":\"10.0.0.1\"},{\"interfaceName\":\"lo\"},{}]")), false);
    vm_metrics_write(&m, pod_of, &m, &b);
    assert_non_null(strstr(b.p, "\n# TYPE kubevirt_vmi_info gauge\n"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_phase_count{node=\"n1\",phase=\"running\"} 1\n"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_phase_count{phase=\"pending\"} 1\n"));
    assert_null(strstr(b.p, "scheduled"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_info{node=\"n1\",namespace=\"x\",name=\"a\",phase=\"running\",os=\"say \\\"hi\\\"\","
                                "guest_os_machine=\"q35\",evictable=\"false\",outdated=\"false\",vmi_pod=\"virt-launcher-a-1\"} 1\n"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_info{namespace=\"x\",name=\"b\",phase=\"pending\",evictable=\"true\",outdated=\"false\"} 1\n"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_non_evictable{node=\"n1\",namespace=\"x\",name=\"a\"} 1\n"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_non_evictable{namespace=\"x\",name=\"b\"} 0\n"));
    assert_non_null(strstr(b.p, "\nkubevirt_vmi_status_addresses{node=\"n1\",namespace=\"x\",name=\"a\",vnic_name=\"default\","
                                "address=\"10.0.0.1\",type=\"ExternalInterface\"} 1\n"));
    assert_non_null(strstr(b.p, "interface_name=\"lo\",type=\"SystemInterface\"} 1\n"));
    vm_metrics_vmi(&m, STR("x/a"), parsed(&a, VMI("Running", "")), true);
    vm_metrics_vmi(&m, STR("x/b"), parsed(&a, VMI("Running", "")), true);
    buf_clear(&b);
    vm_metrics_write(&m, pod_of, &m, &b);
    assert_null(strstr(b.p, "} "));
    vm_metrics_done(&m);
}

static void machines(void **state)
{
    static const struct {
        const char *status, *group, *family;
    } cases[] = {
        {"Running", "running", "running"}, {"Provisioning", "starting", "starting"}, {"Stopped", "non_running", "non_running"},
        {"ErrorUnschedulable", "error", "error"}, {"WaitingForReceiver", "<unknown>", "error"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vm_metrics m = {0};
        AUTO(arena_done) struct arena a = {0};
        AUTO(buf_done) struct buf b = {0};

        vm_metrics_vm(&m, STR("x/a"), parsed(&a, arena_printf(&a,
            "{\"metadata\":{\"namespace\":\"x\",\"name\":\"a\",\"creationTimestamp\":\"2026-01-01T00:00:00Z\"},\"status\":{\"printableStatus\":\"%s\","
            "\"conditions\":[{\"type\":\"Ready\",\"lastTransitionTime\":\"2026-01-01T00:00:05Z\"}]}}", cases[i].status)), false);
        vm_metrics_write(&m, pod_of, NULL, &b);
        assert_non_null(strstr(b.p, arena_printf(&a, "kubevirt_vm_info{name=\"a\",namespace=\"x\",status=\"%s\",status_group=\"%s\"} 1\n",
                                                 cases[i].status, cases[i].group)));
        assert_non_null(strstr(b.p, "kubevirt_vm_create_date_timestamp_seconds{name=\"a\",namespace=\"x\"} 1767225600\n"));
        assert_non_null(strstr(b.p, arena_printf(&a, "kubevirt_vm_%s_status_last_transition_timestamp_seconds{name=\"a\",namespace=\"x\"} 1767225605\n",
                                                 cases[i].family)));
        vm_metrics_done(&m);
    }
}

/* The bound is 50 ms of CPU at 2,000 machines, with the server around it. */
static void a_scrape_copies(void **state)
{
    enum { N = 2000 };
    struct vm_metrics m = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    const struct json *vmi = parsed(&a, VMI("Running", ",\"interfaces\":[{\"name\":\"default\",\"ipAddress\":\"10.0.0.1\"}]"));
    struct timespec from, to;

    (void)state;
    for (int i = 0; i < N; i++) {
        struct str key = str_of(arena_printf(&a, "x/vm-%d", i));

        vm_metrics_vmi(&m, key, vmi, false);
        vm_metrics_vm(&m, key, vmi, false);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    vm_metrics_write(&m, pod_of, &m, &b);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    printf("%zu bytes in %.1f ms\n", b.n, (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6);
    assert_false(b.overflow);
    vm_metrics_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instances),
        cmocka_unit_test(machines),
        cmocka_unit_test(a_scrape_copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
