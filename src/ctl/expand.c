/* expand: a VirtualMachine with its instance type and preference written out. */
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "json/yaml.h"

static bool read_manifest(const struct ctl *c, const char *name, struct arena *a, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, LIMIT_HTTP_BODY);
    if (!(strcmp(name, "-") == 0 ? file_read_fd(c->io.in, &b, err) : file_read(AT_FDCWD, name, &b, err)))
        return error_wrap(err, "%s", name);
    if (!yaml_parse_one(buf_str(&b), a, ret, err))
        return error_wrap(err, "%s", name);
    *ret = json_copy(a, *ret);
    if (!str_is(json_str_at(*ret, "kind"), "VirtualMachine"))
        return error_set(err, ERROR_BAD_REQUEST, "%s: not the manifest of a VirtualMachine", name);
    return true;
}

static bool ask(struct ctl *c, struct ctl_reply *reply, struct error *err)
{
    const enum target_kind kind = TARGET_VM;
    const char *vm = flags_str(&c->flags, "vm"), *file = flags_str(&c->flags, "file");
    AUTO(arena_done) struct arena a = {0};
    AUTO(target_done) struct target t = {0};
    AUTO_FREE char *path = NULL;
    const struct json *manifest;

    if (!vm[0] == !file[0])
        return error_set(err, ERROR_BAD_REQUEST, "expand wants either --vm NAME or -f FILE");
    if (!ctl_load_config(c, err))
        return false;
    if (vm[0]) {
        if (!target_parse(str_of(vm), &kind, false, c->config.ns, &t, err))
            return false;
        path = target_subresource(&t, "expand-spec");
        return ctl_call(c, HTTP_GET, path, NULL, reply, err)
               || error_wrap(err, "cannot expand VirtualMachine %s/%s", t.ns, t.name);
    }
    if (!read_manifest(c, file, &a, &manifest, err) || !target_parse(STR("any"), &kind, false, c->config.ns, &t, err))
        return false;
    path = xasprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/expand-vm-spec", t.ns);
    if (ctl_call(c, HTTP_PUT, path, manifest, reply, err))
        return true;
    if (err->kind == ERROR_NOT_FOUND) {
        error_clear(err);
        error_set(err, ERROR_UNSUPPORTED, "this server expands no manifests: create the VirtualMachine there and use --vm");
    }
    return error_wrap(err, "cannot expand the VirtualMachine of %s", file);
}

static bool run(struct ctl *c, struct error *err)
{
    const char *form = flags_str(&c->flags, "output");
    AUTO(ctl_reply_done) struct ctl_reply reply = {0};
    AUTO(buf_done) struct buf b = {0};

    if (strcmp(form, "yaml") != 0 && strcmp(form, "json") != 0)
        return error_set(err, ERROR_BAD_REQUEST, "--output is yaml or json, not '%s'", form);
    if (!ask(c, &reply, err))
        return false;
    if (!reply.body)
        return error_set(err, ERROR_INTERNAL, "expand: the server's answer is no JSON");
    if (strcmp(form, "json") == 0) {
        json_write_pretty(&b, reply.body, 4);
        buf_addc(&b, '\n');
    } else {
        yaml_write(&b, reply.body);
    }
    return ctl_print_buf(c, &b, err);
}

static const struct flag flags[] = {
    {"vm", 0, FLAG_STRING, NULL, "name of a VirtualMachine on the server"},
    {"file", 'f', FLAG_STRING, NULL, "manifest of a VirtualMachine; - is standard input"},
    {"output", 'o', FLAG_STRING, "yaml", "yaml or json"},
};

const struct ctl_verb ctl_expand = {
    .name = "expand", .args = "", .summary = "Show a virtual machine with its instance type and preference written out",
    .examples = "# of one on the server\nexpand --vm myvm\n# of a manifest\nexpand -f myvm.yaml -o json",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
