/* apiserver/scale - the scale subresource: autoscaling/v1 Scale seen through an object's own fields. */
#include "api/labels.h"
#include "apiserver/internal.h"
#include "json/patch.h"

struct scale_paths {
    const char *spec, *status, *selector;
};

/* ".spec.replicas" as json_at() takes it. */
static const char *slashed(struct arena *a, struct str path)
{
    char *p = arena_strdup(a, str_starts(path, STR(".")) ? str_skip(path, 1) : path);

    for (char *c = p; *c; c++)
        if (*c == '.')
            *c = '/';
    return p;
}

static struct scale_paths paths_of(struct request *r)
{
    struct scale_paths p = {"spec/replicas", "status/replicas", "status/labelSelector"};

    json_each_item(v, json_get(r->kind->crd, "versions")) {
        const struct json *scale = json_at(v, "subresources/scale");

        if (!str_is(json_str_at(v, "name"), r->version) || !scale)
            continue;
        p.spec = slashed(&r->arena, json_str_at(scale, "specReplicasPath"));
        p.status = slashed(&r->arena, json_str_at(scale, "statusReplicasPath"));
        p.selector = json_str_at(scale, "labelSelectorPath").n
                         ? slashed(&r->arena, json_str_at(scale, "labelSelectorPath"))
                         : NULL;
    }
    return p;
}

bool scale_owned(struct request *r, const struct json *object)
{
    struct arena *a = &r->arena;
    struct scale_paths p = paths_of(r);
    const char *gv = group_version(r->kind->info->group, r->version, a);
    struct str rest = str_of(p.spec), name;
    const char *path = NULL;

    while (str_next(&rest, '/', &name))
        path = arena_printf(a, "%s%sf:" STR_FMT, path ? path : "", path ? "/" : "", STR_ARG(name));
    json_each_item(it, json_at(object, "metadata/managedFields")) {
        if (str_is(json_str_at(it, "apiVersion"), gv) && json_at(json_get(it, "fieldsV1"), path))
            return true;
    }
    return false;
}

static const struct json *scale_of(struct request *r, const struct json *v,
                                   const struct scale_paths *p)
{
    struct arena *a = &r->arena;
    static const char *const keys[] = {"name", "namespace", "uid", "resourceVersion",
                                       "creationTimestamp"};
    const struct json *meta = json_object(a, NULL);
    int64_t wanted = json_i64_at(v, p->spec, 0);

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        meta = json_with(a, meta, keys[i], json_get(json_get(v, "metadata"), keys[i]));
    return json_object(a, "kind", json_new_z(a, "Scale"), "apiVersion",
                       json_new_z(a, "autoscaling/v1"), "metadata", meta, "spec",
                       json_object(a, "replicas", wanted ? json_new_i64(a, wanted) : NULL, NULL),
                       "status",
                       json_object(a, "replicas", json_new_i64(a, json_i64_at(v, p->status, 0)),
                                   "selector", p->selector ? json_at(v, p->selector) : NULL, NULL),
                       NULL);
}

static void answer_scale(struct request *r, struct store_object *o)
{
    struct scale_paths p = paths_of(r);

    answer_json(r, 200, scale_of(r, store_object_json(o, &r->arena), &p));
}

const struct json *scale_shown(struct request *r, const struct json *object)
{
    struct scale_paths p = paths_of(r);

    return scale_of(r, object, &p);
}

const struct json *scale_taken(struct request *r, const struct json *object,
                               const struct json *scale)
{
    struct scale_paths p = paths_of(r);
    int64_t replicas = json_i64_at(scale, "spec/replicas", 0);

    return json_with_at(&r->arena, object, p.spec, json_new_i64(&r->arena, replicas));
}

static void answer_absent(struct request *r, const char *path)
{
    struct arena *a = &r->arena;
    char *dotted = arena_printf(a, ".%s", path);
    const char *why;

    for (char *c = dotted; *c; c++)
        *c = *c == '/' ? '.' : *c;
    why = arena_printf(a, "the spec replicas field \"%s\" does not exist", dotted);
    answer_status(
        r, 500, "InternalError", arena_printf(a, "Internal error occurred: %s", why),
        json_object(a, "causes",
                    json_array(a, json_object(a, "message", json_new_z(a, why), NULL), NULL),
                    NULL));
}

void rest_scale(struct request *r)
{
    struct scale_paths p = paths_of(r);
    struct arena *a = &r->arena;
    struct store_object *o =
        store_get_pending(r->s->store, kind_key(r->kind->info, r->ns, r->name, a));
    const struct json *v, *body, *scale;
    struct json_dups dups = {0};
    AUTO(error_clear) struct error err = {0};
    int64_t replicas = 0;

    if (!o) {
        answer_not_found(r);
        return;
    }
    v = store_object_json(o, a);
    if (r->verb == VERB_GET) {
        store_object_unref(o);
        if (!json_at(v, p.spec)) {
            answer_absent(r, p.spec);
            return;
        }
        answer_json(r, 200, scale_of(r, v, &p));
        return;
    }
    if (r->verb != VERB_UPDATE && r->verb != VERB_PATCH) {
        store_object_unref(o);
        answer_method(r);
        return;
    }
    scale = scale_of(r, v, &p);
    if (r->verb == VERB_PATCH && !r->body_json) {
        const struct json *patch;

        if (!json_parse(r->body, a, &patch, &err)
            || (media_is(r->content_type, "application/json-patch+json")
                && !json_patch(a, scale, patch, &body, &err))) {
            store_object_unref(o);
            answer_error(r, &err);
            return;
        }
        if (!media_is(r->content_type, "application/json-patch+json"))
            body = json_merge_patch(a, scale, patch);
    } else if (r->verb == VERB_PATCH) {
        body = json_merge_patch(a, scale, r->body_json);
    } else if (!body_parse(r, r->kind->info, &body, &dups)) {
        store_object_unref(o);
        return;
    }
    if (json_at(body, "spec/replicas") && !json_i64(json_at(body, "spec/replicas"), &replicas)) {
        store_object_unref(o);
        answer_status(r, 400, "BadRequest", "spec.replicas is not a whole number", NULL);
        return;
    }
    if (replicas < 0) {
        store_object_unref(o);
        answer_invalid_one(r, "Scale", "autoscaling", arena_strdup(a, r->name), "FieldValueInvalid",
                           "spec.replicas",
                           arena_printf(a, "Invalid value: %lld: should be a non-negative integer",
                                        (long long)replicas));
        return;
    }
    v = json_with_at(a, v, p.spec, json_new_i64(a, replicas));
    /* Without a version it is the current one that is meant. */
    if (!str_empty(json_str_at(body, "metadata/resourceVersion")))
        v = json_with_at(a, v, "metadata/resourceVersion",
                         json_at(body, "metadata/resourceVersion"));
    r->answer_with = answer_scale;
    update_commit(r, o, store_object_json(o, a), v);
    store_object_unref(o);
}
