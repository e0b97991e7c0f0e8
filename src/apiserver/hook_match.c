/* apiserver/hook_match - which webhooks an operation concerns, and what each is told of it. */
#include "api/meta.h"
#include "apiserver/hooks.h"

/* What makes webhooks is never held up by webhooks: a bad one could not be taken away any more. */
bool hooks_exempt(const struct kind_info *k)
{
    return !strcmp(k->group, "admissionregistration.k8s.io");
}

static bool has(const struct json *list, const char *value)
{
    json_each_item(v, list)
        if (str_is(json_str(v), "*") || str_is(json_str(v), value))
            return true;
    return false;
}

static const char *operation(enum admission_op op)
{
    switch (op) {
    case ADMIT_CREATE:
        return "CREATE";
    case ADMIT_UPDATE:
        return "UPDATE";
    case ADMIT_DELETE:
        return "DELETE";
    case ADMIT_CONNECT:
        return "CONNECT";
    }
    __builtin_unreachable();
}

static bool resource_listed(const struct json *list, const struct request *r)
{
    json_each_item(v, list) {
        struct str resource, sub;

        if (!str_cut(json_str(v), '/', &resource, &sub))
            sub = STR("");
        if ((str_is(resource, "*") || str_is(resource, r->kind->info->plural))
            && (str_is(sub, "*") || str_eq(sub, r->subresource.p ? r->subresource : STR(""))))
            return true;
    }
    return false;
}

static bool scope_fits(struct str scope, const struct request *r)
{
    bool cluster = kind_is(r->kind->info, "", "namespaces") || !r->ns.p;

    return !scope.n || str_is(scope, "*") || str_is(scope, cluster ? "Cluster" : "Namespaced");
}

/* By the version of the request, else, for Equivalent, by another one of the same resource. */
const char *hook_version(const struct admission_run *run, const struct hook *h)
{
    const struct request *r = run->r;
    const struct kind_info *k = r->kind->info;

    for (int other = 0; other < (h->exact ? 1 : 2); other++)
        json_each_item(rule, json_get(h->spec, "rules")) {
            if (!has(json_get(rule, "operations"), operation(run->op))
                || !has(json_get(rule, "apiGroups"), k->group)
                || !resource_listed(json_get(rule, "resources"), r)
                || !scope_fits(json_str_at(rule, "scope"), r))
                continue;
            if (!other) {
                if (has(json_get(rule, "apiVersions"), r->version))
                    return r->version;
                continue;
            }
            for (size_t i = 0; k->versions && k->versions[i]; i++)
                if (has(json_get(rule, "apiVersions"), k->versions[i]))
                    return k->versions[i];
        }
    return NULL;
}

static bool namespace_fits(const struct admission_run *run, const struct hook *h)
{
    const struct request *r = run->r;
    const struct json *ns;

    if (!h->namespaces.n && !h->namespaces.nothing)
        return true;
    if (kind_is(r->kind->info, "", "namespaces"))
        ns = run->object && !r->subresource.p ? run->object : run->old;
    else if (r->ns.p)
        ns = apiserver_peek(r->s, "", "namespaces", STR_NONE, r->ns, &run->r->arena);
    else
        return true;
    return label_selector_match(&h->namespaces, meta_labels(ns));
}

static bool object_fits(const struct admission_run *run, const struct hook *h)
{
    if (!h->objects.n && !h->objects.nothing)
        return true;
    return (run->object && label_selector_match(&h->objects, meta_labels(run->object)))
           || (run->old && label_selector_match(&h->objects, meta_labels(run->old)));
}

bool hook_matches(const struct admission_run *run, const struct hook *h)
{
    return hook_version(run, h) && namespace_fits(run, h);
}

/* What is told. */

static const struct json *gvk(struct arena *a, const char *group, const char *version,
                              const char *key, const char *kind)
{
    return json_object(a, "group", json_new_z(a, group), "version", json_new_z(a, version), key,
                       json_new_z(a, kind), NULL);
}

static const struct json *kind_of(const struct request *r, const char *version, struct arena *a)
{
    if (str_is(r->subresource, "scale"))
        return gvk(a, "autoscaling", "v1", "kind", "Scale");
    if (str_is(r->subresource, "eviction"))
        return gvk(a, "policy", "v1", "kind", "Eviction");
    if (str_is(r->subresource, "binding"))
        return gvk(a, "", "v1", "kind", "Binding");
    return gvk(a, r->kind->info->group, version, "kind", r->kind->info->kind);
}

static const struct json *options_of(const struct admission_run *run, struct arena *a)
{
    static const char *const kinds[] = {"CreateOptions", "UpdateOptions", "DeleteOptions",
                                        "PodExecOptions"};
    const struct request *r = run->r;
    struct str manager = query_get(r, "fieldManager"), fv = query_get(r, "fieldValidation");

    return json_object(a, "kind", json_new_z(a, kinds[run->op]), "apiVersion",
                       json_new_z(a, "meta.k8s.io/v1"), "dryRun",
                       r->dry_run ? json_array(a, json_new_z(a, "All"), NULL) : NULL,
                       "fieldManager", manager.n ? json_new_str(a, manager) : NULL,
                       "fieldValidation", fv.n ? json_new_str(a, fv) : NULL, NULL);
}

/* An object of the request's kind, as a version has it; of a subresource with a body of its own, that body. */
static const struct json *shown(const struct admission_run *run, const struct json *o,
                                const char *version)
{
    const struct request *r = run->r;
    struct arena *a = &run->r->arena;

    if (!o)
        return json_null();
    if (str_is(r->subresource, "scale"))
        return scale_shown(run->r, o);
    if (str_is(r->subresource, "eviction") || str_is(r->subresource, "binding"))
        return o;
    return present_as(r->kind->info, version, object_order(a, r->kind->info, o), a);
}

const struct json *hook_review(const struct admission_run *run, const struct hook *h,
                               const char *uid, const char *version)
{
    const struct request *r = run->r;
    const struct kind_info *k = r->kind->info;
    struct arena *a = &run->r->arena;
    bool body_only = str_is(r->subresource, "eviction") || str_is(r->subresource, "binding");
    struct str ns = kind_is(k, "", "namespaces") ? r->name : r->ns;
    const struct json *sub = r->subresource.p ? json_new_str(a, r->subresource) : NULL;
    const struct json *request = json_object(
        a, "uid", json_new_z(a, uid), "kind", kind_of(r, version, a), "resource",
        gvk(a, k->group, version, "resource", k->plural), "subResource", sub, "requestKind",
        kind_of(r, r->version, a), "requestResource",
        gvk(a, k->group, r->version, "resource", k->plural), "requestSubResource", sub, "name",
        r->name.n ? json_new_str(a, r->name) : NULL, "namespace", ns.n ? json_new_str(a, ns) : NULL,
        "operation", json_new_z(a, operation(run->op)), "userInfo", user_info(a, &r->who), "object",
        shown(run, run->object, version), "oldObject",
        shown(run, body_only ? NULL : run->old, version), "dryRun", json_new_bool(r->dry_run),
        "options", options_of(run, a), NULL);

    (void)h;
    return json_object(a, "kind", json_new_z(a, "AdmissionReview"), "apiVersion",
                       json_new_z(a, "admission.k8s.io/v1"), "request", request, NULL);
}

/* matchConditions: all must be true. One that is false settles it, whatever others do; one that cannot be evaluated fails the
 * request, or skips the webhook, by its failurePolicy. */
enum hook_interest hook_interest(const struct admission_run *run, const struct hook *h,
                                 const char **ret_why)
{
    struct arena *a = &run->r->arena;
    uint64_t budget = CEL_REQUEST_BUDGET;
    struct cel_value values[HOOK_VARIABLES];
    const struct json *request = NULL;

    *ret_why = NULL;
    if (!object_fits(run, h))
        return HOOK_PASSES;
    for (size_t i = 0; i < h->n_conditions; i++) {
        const struct hook_condition *c = &h->conditions[i];
        uint64_t each = budget < CEL_EXPRESSION_BUDGET ? budget : CEL_EXPRESSION_BUDGET,
                 left = each;
        AUTO(error_clear) struct error err = {0};
        bool yes = false;

        if (!request)
            request = json_get(hook_review(run, h, "", run->r->version), "request");
        values[0] = cel_of_json(json_get(request, "object"), NULL);
        values[1] = cel_of_json(json_get(request, "oldObject"), NULL);
        values[2] = cel_of_json(
            json_with(a, json_with(a, request, "object", NULL), "oldObject", NULL), NULL);
        if (cel_eval_bool(c->program, values, a, &left, &yes, &err)) {
            if (!yes)
                return HOOK_PASSES;
        } else if (!*ret_why) {
            *ret_why =
                arena_printf(a, "expression '%s' resulted in error: %s", c->text, error_text(&err));
        }
        budget -= each - left;
    }
    if (!*ret_why)
        return HOOK_WANTS;
    return h->ignore_failure ? HOOK_PASSES : HOOK_CANNOT_TELL;
}
