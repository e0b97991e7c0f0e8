/* guestosinfo, userlist, fslist: what the guest's agent says, as JSON. */
#include "base/cleanup.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

static const enum target_kind vmi = TARGET_VMI;

static bool show(struct ctl *c, const char *action, struct error *err)
{
    AUTO(target_done) struct target t = {0};
    AUTO(ctl_reply_done) struct ctl_reply reply = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *path = NULL;

    if (!ctl_load_config(c, err) || !target_of_args(c->args, c->n_args, &vmi, c->config.ns, &t, err))
        return false;
    t.kind = TARGET_VMI; /* a VM and its instance have one name */
    path = target_subresource(&t, action);
    if (!ctl_call(c, HTTP_GET, path, NULL, &reply, err))
        return error_wrap(err, "no %s of VirtualMachineInstance %s/%s", action, t.ns, t.name);
    if (!reply.body)
        return error_set(err, ERROR_INTERNAL, "the server's answer about VirtualMachineInstance %s/%s is no JSON", t.ns, t.name);
    json_write_pretty(&b, reply.body, 2);
    buf_addc(&b, '\n');
    return ctl_print_buf(c, &b, err);
}

static bool run_guestosinfo(struct ctl *c, struct error *err)
{
    return show(c, "guestosinfo", err);
}
static bool run_userlist(struct ctl *c, struct error *err)
{
    return show(c, "userlist", err);
}
static bool run_fslist(struct ctl *c, struct error *err)
{
    return show(c, "filesystemlist", err);
}

const struct ctl_verb ctl_guestosinfo = {
    .name = "guestosinfo", .args = "VMI", .min_args = 1, .max_args = 2,
    .summary = "Show what the guest agent knows of the operating system", .examples = "# of 'myvm'\nguestosinfo myvm",
    .run = run_guestosinfo,
};
const struct ctl_verb ctl_userlist = {
    .name = "userlist", .args = "VMI", .min_args = 1, .max_args = 2, .summary = "Show who is logged in to the guest",
    .examples = "# of 'myvm'\nuserlist myvm", .run = run_userlist,
};
const struct ctl_verb ctl_fslist = {
    .name = "fslist", .args = "VMI", .min_args = 1, .max_args = 2, .summary = "Show the guest's file systems",
    .examples = "# of 'myvm'\nfslist myvm", .run = run_fslist,
};
