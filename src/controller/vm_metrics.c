#include "controller/vm_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/metric.h"

enum group { STARTING, RUNNING, MIGRATING, NON_RUNNING, FAULTY, UNKNOWN };

struct vm {
    enum group group;
    int64_t since, created; /* Unix seconds */
    char *id, *info;        /* labels: name and namespace; and the others of kubevirt_vm_info */
};

struct vmi {
    bool evictable;
    char *id, *info;  /* labels: node, namespace, name; and the others of kubevirt_vmi_info */
    char *addresses;  /* whole label sets, a line each; NULL: none */
    char *phase;      /* the key in phases */
    char uid[];
};

struct count {
    size_t n;
};

static const struct {
    const char *status;
    enum group group;
} groups[] = {
    {"Provisioning", STARTING}, {"Starting", STARTING}, {"WaitingForVolumeBinding", STARTING}, {"Running", RUNNING},
    {"Migrating", MIGRATING}, {"Stopped", NON_RUNNING}, {"Paused", NON_RUNNING}, {"Stopping", NON_RUNNING},
    {"Terminating", NON_RUNNING}, {"CrashLoopBackOff", FAULTY}, {"Unknown", FAULTY}, {"ErrorUnschedulable", FAULTY},
    {"ErrImagePull", FAULTY}, {"ImagePullBackOff", FAULTY}, {"ErrorPvcNotFound", FAULTY}, {"DataVolumeError", FAULTY},
};
static const char *const group_names[] = {"starting", "running", "migrating", "non_running", "error", "<unknown>"};

/* --- labels --- */

static void label(struct buf *b, const char *name, struct str value)
{
    if (!value.n)
        return;
    buf_addf(b, "%s%s=\"", b->n > 0 && b->p[b->n - 1] != '\n' ? "," : "", name);
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == '"' || value.p[i] == '\\')
            buf_addc(b, '\\');
        if (value.p[i] == '\n')
            buf_adds(b, "\\n");
        else
            buf_addc(b, value.p[i]);
    }
    buf_addc(b, '"');
}

static void described(struct buf *b, const struct json *meta)
{
    label(b, "os", json_str_at(meta, "annotations/vm.kubevirt.io~1os"));
    label(b, "workload", json_str_at(meta, "annotations/vm.kubevirt.io~1workload"));
    label(b, "flavor", json_str_at(meta, "annotations/vm.kubevirt.io~1flavor"));
}

static char *taken(struct buf *b)
{
    char *text = str_dup(buf_str(b));

    buf_done(b);
    return text;
}

static int64_t seconds(struct str time)
{
    AUTO(error_clear) struct error err = {0};
    int64_t ns = 0;

    return time.n && ident_parse_time(time, &ns, &err) ? ns / 1000000000 : 0;
}

/* --- virtual machines --- */

static void vm_free(void *p)
{
    struct vm *v = p;

    if (!v)
        return;
    free(v->id);
    free(v->info);
    free(v);
}

static int64_t last_transition(const struct json *vm)
{
    static const char *const types[] = {"Ready", "Failure", "Paused"};
    int64_t last = 0;

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        int64_t at = seconds(json_str_at(condition_find(vm, types[i]), "lastTransitionTime"));

        last = at > last ? at : last;
    }
    return last;
}

void vm_metrics_vm(struct vm_metrics *m, struct str key, const struct json *vm, bool deleted)
{
    struct str status = json_str_at(vm, "status/printableStatus");
    struct buf id = {0}, info = {0};
    struct vm *v;

    vm_free(map_del(&m->vms, key));
    if (deleted)
        return;
    v = NEW(struct vm);
    v->group = UNKNOWN;
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
        if (str_is(status, groups[i].status))
            v->group = groups[i].group;
    v->since = last_transition(vm);
    v->created = seconds(json_str_at(vm, "metadata/creationTimestamp"));
    label(&id, "name", meta_name(vm));
    label(&id, "namespace", meta_namespace(vm));
    described(&info, json_at(vm, "spec/template/metadata"));
    label(&info, "machine_type", json_str_at(vm, "spec/template/spec/domain/machine/type"));
    label(&info, "status", status);
    label(&info, "status_group", str_of(group_names[v->group]));
    v->id = taken(&id);
    v->info = taken(&info);
    map_set(&m->vms, key, v);
}

/* --- instances --- */

static void vmi_free(void *p)
{
    struct vmi *v = p;

    if (!v)
        return;
    free(v->id);
    free(v->info);
    free(v->addresses);
    free(v->phase);
    free(v);
}

static void count(struct vm_metrics *m, const char *phase, bool more)
{
    struct count *c = map_get(&m->phases, str_of(phase));

    if (!c) {
        c = NEW(struct count);
        map_set(&m->phases, str_of(phase), c);
    }
    c->n = more ? c->n + 1 : c->n - 1;
    if (c->n == 0)
        free(map_del(&m->phases, str_of(phase)));
}

/* Who is to be migrated when its node is drained, and cannot be, keeps it from being drained. */
static bool evictable(const struct json *vmi)
{
    return !str_is(json_str_at(vmi, "spec/evictionStrategy"), "LiveMigrate") || condition_is(vmi, "LiveMigratable", "True");
}

static char *lower(struct str s)
{
    char *text = str_dup(s.p ? s : STR(""));

    for (char *p = text; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p |= 0x20;
    return text;
}

static char *addresses(const struct json *vmi, const char *id)
{
    struct buf b = {0};

    json_each_item(i, json_at(vmi, "status/interfaces")) {
        struct str name = json_str_at(i, "name"), device = json_str_at(i, "interfaceName"), ip = json_str_at(i, "ipAddress");

        if (!ip.n && !name.n && !device.n)
            continue;
        buf_adds(&b, id);
        label(&b, "vnic_name", name);
        label(&b, "interface_name", device);
        label(&b, "address", ip);
        label(&b, "type", ip.n ? STR("ExternalInterface") : STR("SystemInterface"));
        buf_addc(&b, '\n');
    }
    return b.n ? taken(&b) : NULL;
}

static char *vmi_info(const struct json *vmi, struct str phase)
{
    const struct json *guest = json_at(vmi, "status/guestOSInfo");
    struct buf b = {0};

    label(&b, "phase", phase);
    described(&b, json_get(vmi, "metadata"));
    label(&b, "guest_os_kernel_release", json_str_at(guest, "kernelRelease"));
    label(&b, "guest_os_machine", json_str_at(vmi, "status/machine/type"));
    label(&b, "guest_os_arch", json_str_at(guest, "machine"));
    label(&b, "guest_os_name", json_str_at(guest, "name"));
    label(&b, "guest_os_version_id", json_str_at(guest, "versionId"));
    label(&b, "evictable", evictable(vmi) ? STR("true") : STR("false"));
    label(&b, "outdated", json_at(vmi, "metadata/labels/kubevirt.io~1outdatedLauncherImage") ? STR("true") : STR("false"));
    return taken(&b);
}

void vm_metrics_vmi(struct vm_metrics *m, struct str key, const struct json *vmi, bool deleted)
{
    AUTO_FREE char *phase = lower(json_str_at(vmi, "status/phase"));
    struct str uid = meta_uid(vmi), node = json_str_at(vmi, "status/nodeName");
    struct vmi *v = map_del(&m->vmis, key);
    struct buf id = {0}, at = {0};

    if (v)
        count(m, v->phase, false);
    vmi_free(v);
    if (deleted)
        return;
    v = xcalloc(1, sizeof *v + uid.n + 1);
    memcpy(v->uid, uid.p ? uid.p : "", uid.n);
    v->evictable = evictable(vmi);
    label(&id, "node", node);
    label(&id, "namespace", meta_namespace(vmi));
    label(&id, "name", meta_name(vmi));
    label(&at, "node", node);
    label(&at, "phase", str_of(phase));
    v->info = vmi_info(vmi, str_of(phase));
    v->id = taken(&id);
    v->phase = taken(&at);
    v->addresses = addresses(vmi, v->id);
    count(m, v->phase, true);
    map_set(&m->vmis, key, v);
}

/* --- the text --- */

static void write_vms(const struct map *vms, struct buf *b)
{
    static const struct {
        const char *name, *help;
        enum group group;
    } times[] = {
        {"kubevirt_vm_starting_status_last_transition_timestamp_seconds", "Virtual Machine last transition timestamp to starting status.", STARTING},
        {"kubevirt_vm_running_status_last_transition_timestamp_seconds", "Virtual Machine last transition timestamp to running status.", RUNNING},
        {"kubevirt_vm_migrating_status_last_transition_timestamp_seconds", "Virtual Machine last transition timestamp to migrating status.", MIGRATING},
        {"kubevirt_vm_non_running_status_last_transition_timestamp_seconds", "Virtual Machine last transition timestamp to paused/stopped status.", NON_RUNNING},
        {"kubevirt_vm_error_status_last_transition_timestamp_seconds", "Virtual Machine last transition timestamp to error status.", FAULTY},
    };
    struct str key;
    void *value;

    metric_family(b, "kubevirt_vm_info", "gauge", "Information about Virtual Machines.");
    for (size_t at = 0; map_next(vms, &at, &key, &value);)
        buf_addf(b, "kubevirt_vm_info{%s,%s} 1\n", ((struct vm *)value)->id, ((struct vm *)value)->info);
    metric_family(b, "kubevirt_vm_create_date_timestamp_seconds", "gauge", "Virtual Machine creation timestamp.");
    for (size_t at = 0; map_next(vms, &at, &key, &value);)
        buf_addf(b, "kubevirt_vm_create_date_timestamp_seconds{%s} %lld\n", ((struct vm *)value)->id,
                 (long long)((struct vm *)value)->created);
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        metric_family(b, times[i].name, "counter", times[i].help);
        for (size_t at = 0; map_next(vms, &at, &key, &value);) {
            const struct vm *v = value;
            bool is = v->group == times[i].group || (v->group == UNKNOWN && times[i].group == FAULTY);

            buf_addf(b, "%s{%s} %lld\n", times[i].name, v->id, is ? (long long)v->since : 0LL);
        }
    }
}

static void each_line(const char *lines, const char *name, struct buf *b)
{
    struct str rest = str_of(lines), line;

    while (rest.n && str_cut(rest, '\n', &line, &rest))
        buf_addf(b, "%s{" STR_FMT "} 1\n", name, STR_ARG(line));
}

static void write_vmis(const struct map *vmis, struct str (*pod_of)(void *user, struct str uid), void *user, struct buf *b)
{
    struct str key;
    void *value;

    metric_family(b, "kubevirt_vmi_info", "gauge", "Information about VirtualMachineInstances.");
    for (size_t at = 0; map_next(vmis, &at, &key, &value);) {
        const struct vmi *v = value;

        buf_addf(b, "kubevirt_vmi_info{%s,%s", v->id, v->info);
        label(b, "vmi_pod", pod_of(user, str_of(v->uid)));
        buf_adds(b, "} 1\n");
    }
    metric_family(b, "kubevirt_vmi_non_evictable", "gauge",
                  "Indication for a VirtualMachine that its eviction strategy is set to Live Migration but is not migratable.");
    for (size_t at = 0; map_next(vmis, &at, &key, &value);)
        buf_addf(b, "kubevirt_vmi_non_evictable{%s} %d\n", ((struct vmi *)value)->id, !((struct vmi *)value)->evictable);
    metric_family(b, "kubevirt_vmi_status_addresses", "gauge",
                  "The addresses of a VirtualMachineInstance: 'address' of an available network interface, 'type' of address, such as internal IP.");
    for (size_t at = 0; map_next(vmis, &at, &key, &value);)
        if (((struct vmi *)value)->addresses)
            each_line(((struct vmi *)value)->addresses, "kubevirt_vmi_status_addresses", b);
}

void vm_metrics_write(const struct vm_metrics *m, struct str (*pod_of)(void *user, struct str uid), void *user, struct buf *b)
{
    struct str key;
    void *value;

    metric_family(b, "kubevirt_vmi_phase_count", "gauge", "Sum of VMIs per phase and node.");
    for (size_t at = 0; map_next(&m->phases, &at, &key, &value);)
        buf_addf(b, "kubevirt_vmi_phase_count{" STR_FMT "} %zu\n", STR_ARG(key), ((struct count *)value)->n);
    write_vms(&m->vms, b);
    write_vmis(&m->vmis, pod_of, user, b);
}

void vm_metrics_done(struct vm_metrics *m)
{
    map_done_with(&m->vms, vm_free);
    map_done_with(&m->vmis, vmi_free);
    map_done_with(&m->phases, free);
}
