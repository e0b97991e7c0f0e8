/* apiserver/patch - JSON, merge and strategic merge patches, and server-side apply. */
#include "json/patch.h"
#include "api/strategic.h"
#include "apiserver/apply.h"
#include "apiserver/internal.h"
#include "json/yaml.h"

static void unsupported(struct request *r)
{
    bool custom = (r->kind->info->flags & KIND_CRD) || r->kind->dynamic;

    if (custom && media_is(r->content_type, "application/strategic-merge-patch+json"))
        answer_status(
            r, 415, "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, "
            "application/apply-patch+yaml",
            NULL);
    else
        answer_status(r, 415, "UnsupportedMediaType", "415: Unsupported Media Type",
                      json_object(&r->arena, NULL));
}

static bool read_patch(struct request *r, const struct json **ret, struct json_dups *dups)
{
    AUTO(error_clear) struct error err = {0};

    if (r->body_json) {
        *ret = json_copy(&r->arena, r->body_json);
        return true;
    }
    if (json_parse_strict(r->body, &r->arena, dups, ret, &err))
        return true;
    answer_status(r, 400, "BadRequest",
                  arena_printf(&r->arena, "error decoding patch: %s", error_text(&err)), NULL);
    return false;
}

static bool apply_patch(struct request *r, const struct json *old, const struct json *patch,
                        const struct json **ret)
{
    AUTO(error_clear) struct error err = {0};
    struct arena *a = &r->arena;
    const struct json *target = present(r, old);

    if (media_is(r->content_type, "application/json-patch+json")) {
        if (!json_is(patch, JSON_ARRAY)) {
            answer_status(
                r, 400, "BadRequest",
                "error decoding patch: json: cannot unmarshal object into Go value of type "
                "[]handlers.jsonPatchOp",
                NULL);
            return false;
        }
        if (json_patch(a, target, patch, ret, &err))
            return true;
        if (err.kind == ERROR_INVALID) {
            answer_status(r, 422, "Invalid",
                          "the server rejected our request due to an error in our request",
                          json_object(a, NULL));
            return false;
        }
    } else if (!json_is(patch, JSON_OBJECT)) {
        answer_status(r, 400, "BadRequest", "error decoding patch: an object is wanted", NULL);
        return false;
    } else if (media_is(r->content_type, "application/merge-patch+json")) {
        *ret = json_merge_patch(a, target, patch);
        return true;
    } else if (strategic_merge(a, r->kind->info->type, target, patch, ret, &err)) {
        return true;
    }
    answer_error(r, &err);
    return false;
}

void rest_patch(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    bool custom = (k->flags & KIND_CRD) || r->kind->dynamic;
    const struct json *patch, *old, *next;
    struct json_dups dups = {0};
    struct store_object *o;

    if (media_is(r->content_type, "application/apply-patch+yaml")) {
        apply_request(r);
        return;
    }
    if (!media_is(r->content_type, "application/json-patch+json")
        && !media_is(r->content_type, "application/merge-patch+json")
        && (custom || !media_is(r->content_type, "application/strategic-merge-patch+json"))) {
        unsupported(r);
        return;
    }
    if (query_get(r, "force").p) {
        answer_invalid_one(r, "PatchOptions", "meta.k8s.io", "", "FieldValueForbidden", "force",
                           "Forbidden: may not be specified for non-apply patch");
        return;
    }
    if (!read_patch(r, &patch, &dups))
        return;
    o = store_get_pending(r->s->store, kind_key(k, r->ns, r->name, &r->arena));
    if (!o) {
        answer_not_found(r);
        return;
    }
    old = store_object_json(o, &r->arena);
    if (apply_patch(r, old, patch, &next) && object_typed(r, next, &dups, false, &next))
        update_commit(r, o, old, next);
    store_object_unref(o);
}
