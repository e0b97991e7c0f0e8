#include "operator/customize.h"

#include "api/meta.h"
#include "api/strategic.h"
#include "base/cleanup.h"
#include "json/patch.h"

/* What makes an object this one, and ours, is not a patch's to change. */
static const struct json *same_object(struct arena *a, const struct json *from, const struct json *to)
{
    static const char *const kept[] = {"apiVersion", "kind", "metadata/name", "metadata/namespace"};

    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (json_at(from, kept[i]))
            to = json_with_at(a, to, kept[i], json_at(from, kept[i]));
    return to;
}

/* Deployments and DaemonSets have no type of their own in our schema. Their lists that have keys (containers, env, volumes, mounts) are in the
 * template of their pods, which is a Pod's metadata and spec; all else of them merges alike either way. */
static bool merge_workload(struct arena *a, const struct json *o, const struct json *patch, const struct json **ret, struct error *err)
{
    const struct kind_info *pods = schema_kind_find(STR(""), STR("pods"));
    const struct json *template = json_at(o, "spec/template"), *change = json_at(patch, "spec/template");

    if (json_is(change, JSON_OBJECT)) {
        if (!strategic_merge(a, pods->type, template, change, &template, err))
            return false;
        patch = json_with_at(a, patch, "spec/template", NULL);
    }
    o = json_merge_patch(a, o, patch);
    *ret = json_is(change, JSON_OBJECT) ? json_with_at(a, o, "spec/template", template) : o;
    return true;
}

static bool apply_patch(const struct managed *m, const struct json *o, struct str type, const struct json *patch,
                        struct arena *a, const struct json **ret, struct error *err)
{
    const struct kind_info *k = schema_kind_find(str_of(m->group), str_of(m->plural));

    if (str_is(type, "json"))
        return json_patch(a, o, patch, ret, err);
    if (str_is(type, "strategic") && k)
        return strategic_merge(a, k->type, o, patch, ret, err);
    if (str_is(type, "strategic") && (m == &managed_kinds[MANAGED_DEPLOYMENT] || m == &managed_kinds[MANAGED_DAEMON_SET]))
        return merge_workload(a, o, patch, ret, err);
    *ret = json_merge_patch(a, o, patch);
    return true;
}

static bool patches(const struct json *list, enum managed_id kind, const struct json **o, struct arena *a, struct error *err)
{
    const struct managed *m = &managed_kinds[kind];
    size_t n = 0;

    json_each_item(p, list) {
        struct str name = json_str_at(p, "resourceName"), type = json_str_at(p, "type"), on = json_str_at(p, "resourceType");
        const char *field = arena_printf(a, "spec.customizeComponents.patches[%zu]", n++);
        const struct json *patch, *patched;

        if (!str_is(type, "json") && !str_is(type, "merge") && !str_is(type, "strategic"))
            return error_set(err, ERROR_INVALID, "%s.type: '" STR_FMT "' is none of json, merge, strategic", field,
                             STR_ARG(str_take(type, 32)));
        if (!json_parse(json_str_at(p, "patch"), a, &patch, err)) {
            err->kind = ERROR_INVALID;
            return error_wrap(err, "%s.patch", field);
        }
        if (!json_is(patch, str_is(type, "json") ? JSON_ARRAY : JSON_OBJECT))
            return error_set(err, ERROR_INVALID, "%s.patch: a %s patch is %s", field, str_is(type, "json") ? "json" : "merge",
                             str_is(type, "json") ? "a list of operations" : "an object");
        if (!str_eq_nocase(on, str_of(m->kind)) && !str_eq_nocase(on, str_of(m->plural)))
            continue;
        if (!str_is(name, "*") && !str_eq(name, meta_name(*o)))
            continue;
        if (!apply_patch(m, *o, type, patch, a, &patched, err)) {
            err->kind = ERROR_INVALID;
            return error_wrap(err, "%s.patch: %s " STR_FMT, field, m->kind, STR_ARG(meta_name(*o)));
        }
        if (!json_is(json_get(patched, "metadata"), JSON_OBJECT))
            return error_set(err, ERROR_INVALID, "%s.patch: takes the metadata away", field);
        *o = same_object(a, *o, patched);
    }
    return true;
}

/* flags: {api: {name: value}} */
static bool flags(const struct json *all, const struct json **o, struct arena *a, struct error *err)
{
    static const struct {
        const char *object, *name;
    } roles[] = {{"virt-api", "api"}, {"virt-controller", "controller"}, {"virt-handler", "handler"}};
    const struct json *of = NULL, *container = json_item(json_at(*o, "spec/template/spec/containers"), 0), *args;
    const char *role = "";

    for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
        if (str_is(meta_name(*o), roles[i].object))
            of = json_get(all, role = roles[i].name);
    if (!json_len(of))
        return true;
    args = json_get(container, "args") ? json_get(container, "args") : json_array(a, NULL);
    json_each_member(m, of) {
        struct str name = json_str(&m->key), value = json_str(&m->value);

        if (!name.n || name.p[0] == '-' || str_has(name, '=') || str_has(name, ' '))
            return error_set(err, ERROR_INVALID,
                             "spec.customizeComponents.flags.%s: '" STR_FMT "' is no name of a flag: leave out the --", role,
                             STR_ARG(str_take(name, 64)));
        args = json_append(a, args,
                           value.n ? json_new_f(a, "--" STR_FMT "=" STR_FMT, STR_ARG(name), STR_ARG(value))
                                   : json_new_f(a, "--" STR_FMT, STR_ARG(name)));
    }
    *o = json_with_at(a, *o, "spec/template/spec/containers/0/args", args);
    return true;
}

bool customize(const struct json *kubevirt, enum managed_id kind, const struct json *object, struct arena *a,
               const struct json **ret, struct error *err)
{
    const struct json *c = json_at(kubevirt, "spec/customizeComponents"), *o = object;

    if (!patches(json_get(c, "patches"), kind, &o, a, err))
        return false;
    if ((kind == MANAGED_DEPLOYMENT || kind == MANAGED_DAEMON_SET) && !flags(json_get(c, "flags"), &o, a, err))
        return false;
    *ret = o;
    return true;
}
