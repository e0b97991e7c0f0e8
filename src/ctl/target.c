#include "ctl/target.h"

#include "base/alloc.h"
#include "base/cleanup.h"

static const struct {
    const char *word;
    enum target_kind kind;
} words[] = {
    {"vm", TARGET_VM},   {"vms", TARGET_VM},   {"virtualmachine", TARGET_VM},          {"virtualmachines", TARGET_VM},
    {"vmi", TARGET_VMI}, {"vmis", TARGET_VMI}, {"virtualmachineinstance", TARGET_VMI}, {"virtualmachineinstances", TARGET_VMI},
};

void target_done(struct target *t)
{
    free(t->name);
    free(t->ns);
    free(t->user);
    *t = (struct target){0};
}

const char *target_kind_name(enum target_kind k)
{
    return k == TARGET_VM ? "vm" : "vmi";
}
const char *target_plural(enum target_kind k)
{
    return k == TARGET_VM ? "virtualmachines" : "virtualmachineinstances";
}
const char *target_title(enum target_kind k)
{
    return k == TARGET_VM ? "VirtualMachine" : "VirtualMachineInstance";
}

/* A DNS subdomain as far as it matters here: such a name is one path segment and no option of another program. */
static bool name_ok(struct str s)
{
    if (!s.n || s.n > 253 || s.p[0] == '-' || s.p[0] == '.' || s.p[s.n - 1] == '.')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!(s.p[i] >= 'a' && s.p[i] <= 'z') && !(s.p[i] >= '0' && s.p[i] <= '9') && s.p[i] != '-' && s.p[i] != '.')
            return false;
    return true;
}

static bool user_ok(struct str s)
{
    if (!s.n || s.p[0] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

static bool kind_of(struct str word, enum target_kind *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (str_eq_nocase(word, str_of(words[i].word))) {
            *ret = words[i].kind;
            return true;
        }
    return false;
}

static bool make(enum target_kind kind, struct str name, struct str ns, struct str user, struct target *ret,
                 struct error *err)
{
    if (!name_ok(name))
        return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "' is no name of a virtual machine", STR_ARG(name));
    if (!name_ok(ns))
        return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "' is no name of a namespace", STR_ARG(ns));
    *ret = (struct target){.kind = kind, .name = str_dup(name), .ns = str_dup(ns), .user = str_dup(user)};
    return true;
}

bool target_parse(struct str text, const enum target_kind *otherwise, bool with_user, const char *ns,
                  struct target *ret, struct error *err)
{
    struct str user = STR_NONE, rest = text, type, name, space = STR_NONE;
    enum target_kind kind = TARGET_VM;

    if (with_user && str_has(text, '@')) {
        str_rcut(text, '@', &user, &rest);
        if (!user_ok(user))
            return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "': bad user name in front of '@'", STR_ARG(text));
    }
    if (!str_cut(rest, '/', &type, &name)) {
        if (!otherwise)
            return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "' lacks its type: vm/" STR_FMT " or vmi/" STR_FMT " is wanted",
                             STR_ARG(text), STR_ARG(rest), STR_ARG(rest));
        return make(*otherwise, rest, str_of(ns), user, ret, err);
    }
    if (!kind_of(type, &kind))
        return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "': unknown type '" STR_FMT "', vm or vmi is wanted",
                         STR_ARG(text), STR_ARG(type));
    if (!str_cut(name, '/', &name, &space))
        space = str_of(ns);
    return make(kind, name, space, user, ret, err);
}

bool target_of_args(const char *const *args, size_t n, const enum target_kind *otherwise, const char *ns,
                    struct target *ret, struct error *err)
{
    enum target_kind kind;

    if (n == 1)
        return target_parse(str_of(args[0]), otherwise, false, ns, ret, err);
    if (!kind_of(str_of(args[0]), &kind))
        return error_set(err, ERROR_BAD_REQUEST, "unknown type '%s', vm or vmi is wanted", args[0]);
    return make(kind, str_of(args[1]), str_of(ns), STR_NONE, ret, err);
}

char *target_subresource(const struct target *t, const char *action)
{
    return xasprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/%s/%s/%s", t->ns, target_plural(t->kind), t->name, action);
}

char *target_object_path(enum target_kind k, const struct target *t)
{
    return xasprintf("/apis/kubevirt.io/v1/namespaces/%s/%s/%s", t->ns, target_plural(k), t->name);
}
