/* pause, unpause, soft-reboot, reset: requests to a running VirtualMachineInstance. */
#include "base/cleanup.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

static const enum target_kind vmi = TARGET_VMI;

static bool request(struct ctl *c, const char *verb, const char *action, const struct target *t, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO_FREE char *path = target_subresource(t, action);
    const struct json *body = json_object(&a, NULL);

    if (flags_bool(&c->flags, "dry-run")) {
        ctl_print(c, "Dry Run execution\n");
        body = json_object(&a, "dryRun", json_array(&a, json_new_z(&a, "All"), NULL), NULL);
    }
    if (!ctl_call(c, HTTP_PUT, path, body, NULL, err)) {
        if (err->kind == ERROR_NOT_FOUND) {
            error_clear(err);
            error_set(err, ERROR_NOT_FOUND, "it does not run (kubectl get vm,vmi -n %s; virtctl start starts a VM)", t->ns);
        }
        return error_wrap(err, "cannot %s VirtualMachineInstance %s/%s", verb, t->ns, t->name);
    }
    ctl_print(c, "VMI %s was scheduled to %s\n", t->name, verb);
    return true;
}

/* A VM is asked for first, so that a name that does not exist is told from one that does not run. */
static bool typed_request(struct ctl *c, const char *verb, struct error *err)
{
    AUTO(target_done) struct target t = {0};

    if (!ctl_load_config(c, err) || !target_of_args(c->args, c->n_args, NULL, c->config.ns, &t, err))
        return false;
    if (t.kind == TARGET_VM) {
        AUTO_FREE char *path = target_object_path(TARGET_VM, &t);

        if (!ctl_call(c, HTTP_GET, path, NULL, NULL, err))
            return error_wrap(err, "cannot %s VirtualMachine %s/%s", verb, t.ns, t.name);
        t.kind = TARGET_VMI;
    }
    return request(c, verb, verb, &t, err);
}

static bool plain_request(struct ctl *c, const char *verb, const char *action, struct error *err)
{
    AUTO(target_done) struct target t = {0};

    if (!ctl_load_config(c, err) || !target_of_args(c->args, c->n_args, &vmi, c->config.ns, &t, err))
        return false;
    t.kind = TARGET_VMI; /* a VM and its instance have one name */
    return request(c, verb, action, &t, err);
}

static bool run_pause(struct ctl *c, struct error *err)
{
    return typed_request(c, "pause", err);
}
static bool run_unpause(struct ctl *c, struct error *err)
{
    return typed_request(c, "unpause", err);
}
static bool run_soft_reboot(struct ctl *c, struct error *err)
{
    return plain_request(c, "soft-reboot", "softreboot", err);
}
static bool run_reset(struct ctl *c, struct error *err)
{
    return plain_request(c, "reset", "reset", err);
}

static const struct flag dry_run[] = {
    {"dry-run", 0, FLAG_BOOL, NULL, "ask the server to check the request and do nothing"},
};

const struct ctl_verb ctl_pause = {
    .name = "pause", .args = "vm|vmi NAME", .min_args = 1, .max_args = 2, .summary = "Stop a virtual machine's CPUs, keeping its memory",
    .examples = "# pause the virtual machine 'myvm'\npause vm myvm\n# the same\npause vm/myvm",
    .flags = {dry_run, ARRAY_SIZE(dry_run)}, .run = run_pause,
};
const struct ctl_verb ctl_unpause = {
    .name = "unpause", .args = "vm|vmi NAME", .min_args = 1, .max_args = 2, .summary = "Let a paused virtual machine go on",
    .examples = "# unpause the virtual machine 'myvm'\nunpause vm myvm",
    .flags = {dry_run, ARRAY_SIZE(dry_run)}, .run = run_unpause,
};
const struct ctl_verb ctl_soft_reboot = {
    .name = "soft-reboot", .args = "VMI", .min_args = 1, .max_args = 2, .summary = "Ask the guest to reboot, by its agent or ACPI",
    .examples = "# reboot the guest of 'myvm'\nsoft-reboot myvm",
    .flags = {dry_run, ARRAY_SIZE(dry_run)}, .run = run_soft_reboot,
};
const struct ctl_verb ctl_reset = {
    .name = "reset", .args = "VMI", .min_args = 1, .max_args = 2, .summary = "Press the reset button: the guest is not asked",
    .examples = "# reset 'myvm'\nreset myvm",
    .flags = {dry_run, ARRAY_SIZE(dry_run)}, .run = run_reset,
};
