/* apiserver/create - new objects: names, identity, what the server fills in. */
#include "api/names.h"
#include "apiserver/admit.h"
#include "apiserver/quota.h"
#include "base/ident.h"

bool name_valid_for(const struct kind_info *k, struct str name, struct arena *a,
                    const char **ret_why)
{
    /* "v1." is the name of the core group's APIService. */
    if (!strcmp(k->group, "rbac.authorization.k8s.io")
        || !strcmp(k->group, "apiregistration.k8s.io"))
        *ret_why = name_path_segment(name, a);
    else if (kind_is(k, "", "namespaces"))
        *ret_why = name_dns1123_label(name);
    else
        *ret_why = name_dns1123_subdomain(name);
    return *ret_why == NULL;
}

/* What creation drops from metadata, whoever wrote it there. */
static const struct json *fresh_meta(struct request *r, const struct json *meta, const char *name)
{
    static const char *const drop[] = {"selfLink", "deletionTimestamp",
                                       "deletionGracePeriodSeconds", "resourceVersion"};
    struct arena *a = &r->arena;
    const struct kind_info *k = r->kind->info;
    char uid[UUID_LEN + 1];

    for (size_t i = 0; i < ARRAY_SIZE(drop); i++)
        if (json_get(meta, drop[i]))
            meta = json_with(a, meta, drop[i], NULL);
    ident_uuid4(uid);
    meta = json_with(a, meta, "name", json_new_z(a, name));
    meta = json_with(a, meta, "namespace", kind_namespaced(k) ? json_new_str(a, r->ns) : NULL);
    meta = json_with(a, meta, "uid", json_new_z(a, uid));
    meta = json_with(a, meta, "creationTimestamp", json_new_z(a, now_text(r->s, false, a)));
    return json_with(a, meta, "generation",
                     kind_has_generation(k, r->kind->dynamic) ? json_new_i64(a, 1) : NULL);
}

static void forbid_terminating(struct request *r, const char *name)
{
    struct arena *a = &r->arena;
    const struct kind_info *k = r->kind->info;
    const struct json *cause =
        json_object(a, "reason", json_new_z(a, "NamespaceTerminating"), "message",
                    json_new_f(a, "namespace " STR_FMT " is being terminated", STR_ARG(r->ns)),
                    "field", json_new_z(a, "metadata.namespace"), NULL);

    answer_status(
        r, 403, "Forbidden",
        arena_printf(
            a,
            "%s%s%s \"%s\" is forbidden: unable to create new content in namespace " STR_FMT
            " because it is being terminated",
            k->plural, *k->group ? "." : "", k->group, name, STR_ARG(r->ns)),
        json_object(a, "name", *name ? json_new_z(a, name) : NULL, "group",
                    *k->group ? json_new_z(a, k->group) : NULL, "kind", json_new_z(a, k->plural),
                    "causes", json_array(a, cause, NULL), NULL));
}

/* The namespace has to be there and alive. */
static bool namespace_open(struct request *r, const char *name)
{
    const struct json *ns;

    if (!kind_namespaced(r->kind->info))
        return true;
    ns = apiserver_peek(r->s, "", "namespaces", STR_NONE, r->ns, &r->arena);
    if (!ns) {
        answer_status(
            r, 404, "NotFound",
            arena_printf(&r->arena, "namespaces \"" STR_FMT "\" not found", STR_ARG(r->ns)),
            json_object(&r->arena, "name", json_new_str(&r->arena, r->ns), "kind",
                        json_new_z(&r->arena, "namespaces"), NULL));
        return false;
    }
    if (json_get(json_get(ns, "metadata"), "deletionTimestamp")) {
        forbid_terminating(r, name);
        return false;
    }
    return true;
}

static bool choose_name(struct request *r, const struct json *meta, const char **ret)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str name = json_str_at(meta, "name"), prefix = json_str_at(meta, "generateName");
    char suffix[6];
    const char *why;

    if (!str_empty(name)) {
        *ret = arena_strdup(a, name);
    } else if (!str_empty(prefix)) {
        for (int tries = 0; tries < 8; tries++) {
            struct store_object *o;

            ident_suffix(suffix, 5);
            *ret = arena_printf(a, STR_FMT "%s", STR_ARG(str_take(prefix, 58)), suffix);
            o = store_get_pending(r->s->store, kind_key(k, r->ns, str_of(*ret), a));
            if (!o)
                break;
            store_object_unref(o);
        }
    } else {
        answer_invalid_one(r, k->kind, k->group, "", "FieldValueRequired", "metadata.name",
                           "Required value: name or generateName is required");
        return false;
    }
    /* The name as it came: a copy would end at a NUL in it. */
    if (!name_valid_for(k, str_empty(name) ? str_of(*ret) : name, a, &why)) {
        answer_invalid_one(r, k->kind, k->group, *ret, "FieldValueInvalid", "metadata.name",
                           arena_printf(a, "Invalid value: \"%s\": %s", *ret, why));
        return false;
    }
    return true;
}

bool within_quota(struct request *r, const struct json *old, const struct json *object)
{
    AUTO(error_clear) struct error err = {0};

    return r->subresource.p
           || quota_admit(r->s->quotas, r->kind->info, r->ns, old, object, r->dry_run, &r->claim,
                          &err)
           || admit_forbid(r, error_text(&err));
}

/* Kinds of which builtin_mutate() does what upstream's decoder does: labels of namespaces, stringData, defaults of limit ranges and CRDs. */
bool filled_in_decoding(const struct kind_info *k)
{
    return kind_is(k, "", "namespaces") || kind_is(k, "", "secrets")
           || kind_is(k, "", "limitranges")
           || kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions");
}

static void create_admitted(struct request *r, const struct json *object);

void create_object(struct request *r, const struct json *object)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json *meta = json_get(object, "metadata");
    struct str ns = json_str_at(meta, "namespace");
    const char *name;

    if (kind_namespaced(k)) {
        if (!r->ns.p)
            r->ns = ns.p ? ns : STR("default");
        if (!str_empty(ns) && !str_eq(ns, r->ns)) {
            answer_status(r, 400, "BadRequest",
                          "the namespace of the provided object does not match the namespace sent "
                          "on the request",
                          NULL);
            return;
        }
    }
    if (!str_empty(json_str_at(meta, "resourceVersion"))) {
        answer_status(r, 400, "BadRequest",
                      "resourceVersion should not be set on objects to be created", NULL);
        return;
    }
    if (!meta)
        meta = json_object(a, NULL);
    if (!namespace_open(r, json_str_at(meta, "name").p ? arena_strdup(a, json_str_at(meta, "name"))
                                                       : ""))
        return;
    if (!choose_name(r, meta, &name))
        return;
    if (r->name.p && !str_is(r->name, name)) {
        answer_status(r, 400, "BadRequest",
                      "the name of the object does not match the name on the URL", NULL);
        return;
    }
    r->name = str_of(name);
    object = json_with(a, object, "metadata", fresh_meta(r, meta, name));
    if ((k->flags & KIND_STATUS) && (k->flags & KIND_CRD || r->kind->dynamic))
        object = json_with(a, object, "status", NULL);
    /* What admission fills in is nobody's, but for what upstream does while decoding. */
    r->owned = object;
    admit(r, ADMIT_CREATE, NULL, object, create_admitted);
}

static void create_admitted(struct request *r, const struct json *object)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json *owned = r->owned;

    /* Webhooks take their time: the namespace may be gone by now. */
    if (r->was_parked && !namespace_open(r, arena_strdup(a, r->name)))
        return;
    if (r->verb == VERB_CREATE) {
        owned = filled_in_decoding(k) ? object : owned;
        owned = fields_updated(r, NULL, object_order(a, k, owned));
        object = json_with_at(a, object, "metadata/managedFields",
                              json_at(owned, "metadata/managedFields"));
    }
    object = object_order(a, k, object);
    if (within_quota(r, NULL, object))
        commit(r, kind_key(k, r->ns, r->name, a), object, -1, 201);
}

void rest_create(struct request *r)
{
    const struct json *object;

    if (body_object(r, &object))
        create_object(r, object);
}
