/* Rules of spec.domain.devices beside disks and interfaces; most are fields behind a feature gate. */
#include "api/kv_rules.h"

#include "base/cleanup.h"

static void check_inputs(struct rules *r)
{
    size_t i = 0;

    json_each_item(input, json_get(r->devices, "inputs")) {
        struct str bus = json_str_at(input, "bus"), type = json_str_at(input, "type");
        const char *at = rules_at(r, "domain.devices.inputs[%zu]", i++);

        if (bus.n && !str_is(bus, "virtio") && !str_is(bus, "usb"))
            rules_invalid(r, arena_printf(r->a, "%s.bus", at),
                          "Input device can have only virtio or usb bus.");
        if (!str_is(type, "tablet"))
            rules_invalid(r, arena_printf(r->a, "%s.type", at),
                          "Input device can have only tablet type.");
    }
}

static void check_sound(struct rules *r)
{
    static const char *const models[] = {"ich9", "ac97", NULL};
    const struct json *sound = json_get(r->devices, "sound");
    struct str model = json_str_at(sound, "model");
    const char *field = rules_at(r, "domain.devices.sound");

    if (!kv_has(r->devices, "sound"))
        return;
    if (model.n && !kv_one_of(model, models))
        rules_invalid(r, field, "Sound device type is not supported. Options: 'ich9' or 'ac97'");
    if (!json_str_at(sound, "name").n)
        rules_invalid(r, field, "Sound device requires a name field.");
    if (str_is(json_str_at(r->spec, "architecture"), "arm64"))
        rules_not_supported(r, field, "Arm64 not support sound device");
}

static void check_video(struct rules *r)
{
    static const char *const amd64[] = {"vga", "cirrus", "virtio", "ramfb", "bochs", NULL};
    static const char *const arm64[] = {"virtio", "ramfb", NULL}, *const s390x[] = {"virtio", NULL};
    struct str arch = json_str_at(r->spec, "architecture"),
               type = json_str_at(r->devices, "video/type");

    if (!kv_has(r->devices, "video"))
        return;
    if (!kv_gate(r->c, "VideoConfig"))
        rules_invalid(
            r, rules_at(r, "domain.devices.video"),
            "Video configuration is specified but the VideoConfig feature gate is not enabled");
    else if (type.n
             && !kv_one_of(type, str_is(arch, "arm64")   ? arm64
                                 : str_is(arch, "s390x") ? s390x
                                                         : amd64))
        rules_not_supported(r, rules_at(r, "domain.devices.video.type"),
                            "video model '" STR_FMT "' is not supported on " STR_FMT
                            " architecture",
                            STR_ARG(type), STR_ARG(arch));
}

static void check_watchdog(struct rules *r)
{
    static const char *const actions[] = {"reset", "poweroff", "shutdown", NULL};
    const struct json *watchdog = json_get(r->devices, "watchdog");
    struct str arch = json_str_at(r->spec, "architecture"),
               action = json_str_at(watchdog, "i6300esb/action");
    const char *field = rules_at(r, "domain.devices.watchdog");

    if (!kv_has(r->devices, "watchdog"))
        return;
    if (str_is(arch, "amd64") && !kv_has(watchdog, "i6300esb"))
        rules_not_supported(r, field, "amd64 only supports I6300ESB watchdog device");
    else if (str_is(arch, "s390x") && !kv_has(watchdog, "diag288"))
        rules_not_supported(r, field, "s390x only supports Diag288 watchdog device");
    else if (str_is(arch, "arm64"))
        rules_not_supported(r, field, "Arm64 not support Watchdog device");
    if (action.n && !kv_one_of(action, actions))
        rules_invalid(r, rules_at(r, "domain.devices.watchdog.i6300esb.action"),
                      "%s has invalid value '" STR_FMT "'",
                      rules_at(r, "domain.devices.watchdog.i6300esb.action"), STR_ARG(action));
}

static void check_panic(struct rules *r)
{
    static const char *const models[] = {"isa", "hyperv", "pvpanic", NULL};
    size_t i = 0;

    if (json_len(json_get(r->devices, "panicDevices")) == 0)
        return;
    if (!kv_gate(r->c, "PanicDevices"))
        rules_invalid(r, rules_at(r, "domain.devices.panicDevices"),
                      "Panic Devices feature gate is not enabled in kubevirt-config");
    json_each_item(device, json_get(r->devices, "panicDevices")) {
        struct str model = json_str_at(device, "model");
        const char *field = rules_at(r, "domain.devices.panicDevices[%zu].model", i++);

        if (model.n && !kv_one_of(model, models))
            rules_invalid(r, field, "%s is set with an unrecognized option: " STR_FMT, field,
                          STR_ARG(model));
    }
}

/* Devices of every kind share one name space in the machine ("ua-<name>", as libvirt's aliases have it): two of one name
 * would pass here and be refused by the VMM, at every start. */
static void check_names(struct rules *r)
{
    static const char *const lists[] = {"disks", "interfaces", "inputs"}, *const ones[] = {"watchdog", "sound"};
    const struct json *seen = json_object(r->a, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(lists) + ARRAY_SIZE(ones); i++) {
        bool list = i < ARRAY_SIZE(lists);
        const char *kind = list ? lists[i] : ones[i - ARRAY_SIZE(lists)];
        const struct json *of = json_get(r->devices, kind);
        size_t n = list ? json_len(of) : kv_has(r->devices, kind);

        for (size_t k = 0; k < n; k++) {
            struct str name = json_str_at(list ? json_item(of, k) : of, "name"), other = json_str(json_get_str(seen, name));

            if (name.n && other.n && !str_is(other, kind))
                rules_invalid(r, list ? rules_at(r, "domain.devices.%s[%zu].name", kind, k) : rules_at(r, "domain.devices.%s.name", kind),
                              "devices of one machine need different names: '" STR_FMT "' is also one of its " STR_FMT, STR_ARG(name),
                              STR_ARG(other));
            else if (name.n)
                seen = json_with_str(r->a, seen, name, json_new_z(r->a, kind));
        }
    }
}

void rules_devices(struct rules *r)
{
    check_names(r);
    check_inputs(r);
    check_sound(r);
    check_video(r);
    check_watchdog(r);
    check_panic(r);
    if (json_len(json_get(r->devices, "hostDevices")) && !kv_gate(r->c, "HostDevices"))
        rules_invalid(r, rules_at(r, "domain.devices.hostDevices"),
                      "Host Devices feature gate is not enabled in kubevirt-config");
    if (kv_has(r->devices, "downwardMetrics") && !kv_gate(r->c, "DownwardMetrics"))
        rules_invalid(r, rules_at(r, "domain.devices.downwardMetrics"),
                      "downwardMetrics virtio serial is not allowed: DownwardMetrics feature gate "
                      "is not enabled");
    if (json_bool_at(r->devices, "autoattachVSOCK", false) && !kv_gate(r->c, "VSOCK"))
        rules_invalid(r, rules_at(r, "domain.devices.autoattachVSOCK"),
                      "VSOCK feature gate is not enabled in kubevirt-config");
}
