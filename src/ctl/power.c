/* start, stop, restart: requests to a VirtualMachine. */
#include "base/cleanup.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

static const enum target_kind kind = TARGET_VM;

/* What the server says that has a remedy gets it said. */
static bool explain(struct error *err, const struct target *t, const char *verb)
{
    if (err->kind == ERROR_NOT_FOUND) {
        AUTO_FREE char *what = TAKE(err->msg);

        error_set(err, ERROR_NOT_FOUND, "%s (kubectl get %s -n %s lists those that exist)", what ? what : "not found",
                  target_kind_name(t->kind), t->ns);
    }
    return error_wrap(err, "cannot %s %s %s/%s", verb, target_title(t->kind), t->ns, t->name);
}

/* ret_grace < 0: not given. --force and a grace period only make sense together, as upstream. */
static bool read_force(const struct ctl *c, int64_t *ret_grace, struct error *err)
{
    bool force = flags_bool(&c->flags, "force"), given = flags_given(&c->flags, "grace-period");

    *ret_grace = -1;
    if (force != given)
        return error_set(err, ERROR_BAD_REQUEST, "--force and --grace-period go together: --force --grace-period=0");
    if (given)
        *ret_grace = flags_int(&c->flags, "grace-period");
    if (given && *ret_grace < 0)
        return error_set(err, ERROR_BAD_REQUEST, "--grace-period cannot be negative");
    return true;
}

static bool request(struct ctl *c, const char *verb, const struct json *extra, struct arena *a, struct error *err)
{
    AUTO(target_done) struct target t = {0};
    AUTO_FREE char *path = NULL;
    bool dry_run = flags_bool(&c->flags, "dry-run");
    const struct json *body = extra;

    if (!ctl_load_config(c, err) || !target_of_args(c->args, c->n_args, &kind, c->config.ns, &t, err))
        return false;
    if (t.kind != TARGET_VM)
        return error_set(err, ERROR_BAD_REQUEST, "cannot %s a VirtualMachineInstance: name its VirtualMachine", verb);
    if (dry_run) {
        ctl_print(c, "Dry Run execution\n");
        body = json_with(a, body, "dryRun", json_array(a, json_new_z(a, "All"), NULL));
    }
    path = target_subresource(&t, verb);
    if (!ctl_call(c, HTTP_PUT, path, body, NULL, err))
        return explain(err, &t, verb);
    ctl_print(c, "VM %s was scheduled to %s\n", t.name, verb);
    return true;
}

static bool run_start(struct ctl *c, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    bool paused = flags_bool(&c->flags, "paused");

    return request(c, "start", json_object(&a, "paused", paused ? json_new_bool(true) : NULL, NULL), &a, err);
}

static bool run_ending(struct ctl *c, const char *verb, const char *member, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    int64_t grace;

    if (!read_force(c, &grace, err))
        return false;
    return request(c, verb, json_object(&a, member, grace >= 0 ? json_new_i64(&a, grace) : NULL, NULL), &a, err);
}

static bool run_stop(struct ctl *c, struct error *err)
{
    return run_ending(c, "stop", "gracePeriod", err);
}

static bool run_restart(struct ctl *c, struct error *err)
{
    return run_ending(c, "restart", "gracePeriodSeconds", err);
}

#define DRY_RUN {"dry-run", 0, FLAG_BOOL, NULL, "ask the server to check the request and do nothing"}

static const struct flag start_flags[] = {
    {"paused", 0, FLAG_BOOL, NULL, "start it paused; `unpause` lets it go on"},
    DRY_RUN,
};
static const struct flag end_flags[] = {
    {"force", 0, FLAG_BOOL, NULL, "do not wait for the guest; needs --grace-period=0"},
    {"grace-period", 0, FLAG_INT, "-1", "seconds that the guest gets to shut down; only with --force"},
    DRY_RUN,
};

const struct ctl_verb ctl_start = {
    .name = "start", .args = "VM", .min_args = 1, .max_args = 1, .summary = "Start a virtual machine",
    .examples = "# start 'myvm'\nstart myvm\n# start it paused, to look at its first instructions\nstart myvm --paused",
    .flags = {start_flags, ARRAY_SIZE(start_flags)}, .run = run_start,
};
const struct ctl_verb ctl_stop = {
    .name = "stop", .args = "VM", .min_args = 1, .max_args = 1, .summary = "Stop a virtual machine",
    .examples = "# shut 'myvm' down\nstop myvm\n# pull its plug\nstop myvm --force --grace-period=0",
    .flags = {end_flags, ARRAY_SIZE(end_flags)}, .run = run_stop,
};
const struct ctl_verb ctl_restart = {
    .name = "restart", .args = "VM", .min_args = 1, .max_args = 1, .summary = "Restart a virtual machine",
    .examples = "# restart 'myvm'\nrestart myvm\n# without waiting for the guest\nrestart myvm --force --grace-period=0",
    .flags = {end_flags, ARRAY_SIZE(end_flags)}, .run = run_restart,
};
