/* From the launcher's report to the status of a VirtualMachineInstance: reference/api-and-lifecycle.md §3.1–§3.3. */
#include "handler/internal.h"

#include "api/meta.h"

#define MAX_INTERFACES 64 /* a guest tells of as many as it likes */

bool vm_phase_final(struct str phase)
{
    return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

/* What the guest's end means: shutdown is success, also after we asked for it; being destroyed while ACPI could have been
 * obeyed means that the grace period ran out. */
static const char *phase_of(const struct json *vmi, const struct vm_report *r)
{
    struct str state = json_str_at(r->domain, "state"), reason = json_str_at(r->domain, "reason");
    struct str now = json_str_at(vmi, "status/phase");

    if (vm_phase_final(now))
        return NULL;
    if (str_is(state, "running") || str_is(state, "paused"))
        return r->launcher_lost ? "Failed" : "Running";
    /* A start that failed is tried again in the same pod: not an end of a guest that has never begun. */
    if (str_is(state, "crashed") && str_is(reason, "start-failed") && !r->launcher_lost && !str_is(now, "Running"))
        return NULL;
    if (str_is(state, "crashed"))
        return "Failed";
    if (str_is(state, "shutdown")) {
        bool acpi = json_bool_at(vmi, "spec/domain/features/acpi/enabled", true);

        if (str_is(reason, "destroyed") && acpi && json_i64_at(vmi, "spec/terminationGracePeriodSeconds", 30) != 0)
            return "Failed";
        return "Succeeded";
    }
    return r->launcher_lost ? "Failed" : NULL;
}

static const struct json *with_phase(const struct json *vmi, const char *phase, const char *now, struct arena *a)
{
    const struct json *transition = json_object(a, "phase", json_new_z(a, phase), "phaseTransitionTimestamp",
                                                json_new_z(a, now), NULL);

    vmi = json_with_at(a, vmi, "status/phase", json_new_z(a, phase));
    return json_with_at(a, vmi, "status/phaseTransitionTimestamps",
                        json_append(a, json_at(vmi, "status/phaseTransitionTimestamps"), transition));
}

static const struct json *paused(const struct json *vmi, const struct json *domain, const char *now, struct arena *a)
{
    struct str reason = json_str_at(domain, "reason");
    struct condition c = {.type = "Paused", .status = "True", .reason = "PausedByUser", .message = "VMI was paused by user",
                          .probe_time = now};

    if (!str_is(json_str_at(domain, "state"), "paused"))
        return condition_remove(a, vmi, "Paused");
    if (str_is(reason, "io-error")) {
        c.reason = "PausedIOError";
        c.message = "VMI was paused, low-level IO error detected";
    }
    if (condition_is(vmi, "Paused", "True")
        && str_is(json_str_at(condition_find(vmi, "Paused"), "reason"), c.reason))
        return vmi;
    return condition_set(a, vmi, &c, now);
}

static const struct json *told_by_agent(const struct json *domain, struct str mac)
{
    json_each_item(i, json_get(domain, "interfaces"))
        if (str_eq_nocase(json_str_at(i, "mac"), mac))
            return i;
    return NULL;
}

/* An interface that only the guest knows of: made in it, or a device that it was given by other means. */
static const struct json *found_in_guest(const struct json *told, struct arena *a)
{
    const struct json *ips = json_get(told, "ips");

    return json_object(a, "interfaceName", json_get(told, "name"), "mac", json_get(told, "mac"), "ipAddress", json_item(ips, 0),
                       "ipAddresses", json_len(ips) ? ips : NULL, "infoSource", json_new_z(a, "guest-agent"), NULL);
}

static bool has_mac(const struct json *list, struct str mac)
{
    json_each_item(nic, list)
        if (str_eq_nocase(json_str_at(nic, "mac"), mac))
            return true;
    return false;
}

/* What the network was set up with, completed by what the guest agent says of the interface with that MAC address. */
static const struct json *interfaces(const struct json *vmi, const struct vm_report *r, struct arena *a)
{
    const struct json *list = r->nics ? r->nics : json_at(vmi, "status/interfaces"), *out = json_array(a, NULL);

    json_each_item(nic, list) {
        const struct json *told = told_by_agent(r->domain, json_str_at(nic, "mac")), *v = nic;

        if (told && json_str_at(told, "name").n) {
            v = json_with(a, v, "interfaceName", json_get(told, "name"));
            v = json_with(a, v, "infoSource", json_new_z(a, "domain, guest-agent"));
        }
        out = json_append(a, out, v);
    }
    json_each_item(told, json_get(r->domain, "interfaces"))
        if (json_len(list) && json_len(out) < MAX_INTERFACES && json_str_at(told, "mac").n && !has_mac(list, json_str_at(told, "mac")))
            out = json_append(a, out, found_in_guest(told, a));
    return json_len(out) && !json_eq(out, json_at(vmi, "status/interfaces")) ? json_with_at(a, vmi, "status/interfaces", out) : vmi;
}

/* The device name of a disk as upstream's domain has it: letters in the order of the spec, counted per prefix. Guests name
 * their disks by themselves; most agree. */
static const struct json *target_of(const struct json *vmi, struct str volume, struct arena *a)
{
    unsigned vd = 0, sd = 0;

    json_each_item(disk, json_at(vmi, "spec/domain/devices/disks")) {
        static const char *const kinds[] = {"disk/bus", "cdrom/bus", "lun/bus"};
        struct str bus = STR_NONE;
        unsigned *n, at;

        for (size_t i = 0; i < ARRAY_SIZE(kinds) && !bus.n; i++)
            bus = json_str_at(disk, kinds[i]);
        n = str_is(bus, "virtio") ? &vd : &sd;
        at = (*n)++;
        if (!str_eq(json_str_at(disk, "name"), volume))
            continue;
        if (at >= 26)
            return json_new_f(a, "%s%c%c", n == &vd ? "vd" : "sd", 'a' + (at / 26 - 1) % 26, 'a' + at % 26);
        return json_new_f(a, "%s%c", n == &vd ? "vd" : "sd", 'a' + at);
    }
    return json_new_z(a, "");
}

static const struct json *volumes(const struct json *vmi, struct arena *a)
{
    const struct json *out = json_array(a, NULL);

    json_each_item(v, json_at(vmi, "status/volumeStatus"))
        out = json_append(a, out, json_with(a, v, "target", target_of(vmi, json_str_at(v, "name"), a)));
    return json_len(out) && !json_eq(out, json_at(vmi, "status/volumeStatus")) ? json_with_at(a, vmi, "status/volumeStatus", out)
                                                                               : vmi;
}

static const struct json *agent(const struct json *vmi, const struct json *domain, const char *now, struct arena *a)
{
    bool connected = json_bool_at(domain, "agent", false);
    const struct json *os = json_get(domain, "guestOSInfo");

    if (os && !json_eq(os, json_at(vmi, "status/guestOSInfo")))
        vmi = json_with_at(a, vmi, "status/guestOSInfo", os);
    if (!connected)
        return condition_remove(a, vmi, "AgentConnected");
    if (condition_is(vmi, "AgentConnected", "True"))
        return vmi;
    return condition_set(a, vmi, &(struct condition){.type = "AgentConnected", .status = "True", .probe_time = now}, now);
}

/* Written once, when the machine runs: nothing here migrates yet, and the condition says so instead of promising. */
static const struct json *migratable(const struct json *vmi, const char *now, struct arena *a)
{
    static const struct condition c = {.type = "LiveMigratable", .status = "False", .reason = "NotImplemented",
                                       .message = "this release of Vireo does not migrate virtual machines"};

    return condition_find(vmi, c.type) ? vmi : condition_set(a, vmi, &c, now);
}

static const struct json *machine(const struct json *vmi, const struct json *domain, struct arena *a)
{
    struct str type = json_str_at(domain, "machine"), accelerator = json_str_at(domain, "accelerator");

    if (type.n)
        vmi = json_with_at(a, vmi, "status/machine", json_object(a, "type", json_new_str(a, type), NULL));
    if (accelerator.n && !str_eq(meta_annotation(vmi, "vireo.io/accelerator"), accelerator))
        vmi = meta_with_annotation(a, vmi, "vireo.io/accelerator", accelerator);
    return vmi;
}

static const struct json *synchronized(const struct json *vmi, const struct vm_report *r, struct arena *a)
{
    struct condition c = {.type = "Synchronized", .status = "False", .reason = "Synchronizing with the Domain failed.",
                          .message = r->sync_error, .probe_time = r->now};
    const struct json *old = condition_find(vmi, c.type);

    if (!r->sync_error) /* controllers' own reasons are theirs to remove */
        return str_is(json_str_at(old, "reason"), c.reason) ? condition_remove(a, vmi, c.type) : vmi;
    if (str_is(json_str_at(old, "message"), r->sync_error))
        return vmi;
    return condition_set(a, vmi, &c, r->now);
}

static const struct json *ready(const struct json *vmi, const char *phase, const char *now, struct arena *a)
{
    struct condition up = {.type = "Ready", .status = "True"};
    struct condition down = {.type = "Ready", .status = "False", .reason = "GuestNotRunning",
                             .message = "Guest VM is not reported as running"};

    /* The pod was ready when the VMI was handed to us. What its readiness probes say later is the controller's to copy:
     * a False with another reason is not ours, and taking it back would be answered without end. */
    if (strcmp(phase, "Running") == 0) {
        const struct json *old = condition_find(vmi, "Ready");

        if (old && !str_is(json_str_at(old, "reason"), down.reason))
            return vmi;
        return condition_set(a, vmi, &up, now);
    }
    return condition_is(vmi, "Ready", "False") ? vmi : condition_set(a, vmi, &down, now);
}

const struct json *vm_status(const struct json *vmi, const struct vm_report *r, struct arena *a)
{
    const char *phase = phase_of(vmi, r);
    const struct json *v = vmi;

    if (vm_phase_final(json_str_at(vmi, "status/phase")))
        return vmi;
    if (phase && !str_is(json_str_at(v, "status/phase"), phase))
        v = with_phase(v, phase, r->now, a);
    v = synchronized(v, r, a);
    if (!phase)
        return v;
    v = ready(v, phase, r->now, a);
    v = machine(v, r->domain, a);
    if (strcmp(phase, "Running") == 0) {
        v = paused(v, r->domain, r->now, a);
        v = volumes(v, a);
        v = interfaces(v, r, a);
        v = agent(v, r->domain, r->now, a);
        v = migratable(v, r->now, a);
    } else {
        v = condition_remove(a, v, "Paused");
        v = condition_remove(a, v, "AgentConnected");
    }
    return v;
}
