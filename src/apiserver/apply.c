/* apiserver/apply - server-side apply, and managedFields of all other writes. */
#include "apiserver/apply.h"
#include "api/managed.h"
#include "api/meta.h"
#include "json/yaml.h"

static struct managed_request managed_of(struct request *r)
{
    return (struct managed_request){
        .manager = request_manager(r),
        .api_version = group_version(r->kind->info->group, r->version, &r->arena),
        .subresource = r->subresource.p ? arena_strdup(&r->arena, r->subresource) : "",
        .now = now_text(r->s, false, &r->arena),
        .force = query_true(r, "force"),
    };
}

/* What the server itself fills in has no owner: the status that this request may not write, a namespace's finalizers, who
 * reports an Event if nobody says so. */
static const struct json *owned_part(struct request *r, const struct json *v)
{
    static const char *const said_by[] = {"reportingComponent", "reportingInstance"};
    const struct kind_info *k = r->kind->info;

    if (v && !r->subresource.p && (k->flags & KIND_STATUS) && json_get(v, "status"))
        v = json_with(&r->arena, v, "status", NULL);
    if (v && kind_is(k, "", "namespaces"))
        v = json_with(&r->arena, v, "spec", NULL);
    if (v && kind_is(k, "", "events"))
        for (size_t i = 0; i < ARRAY_SIZE(said_by); i++)
            if (json_get(v, said_by[i]) && str_empty(json_str_at(v, said_by[i])))
                v = json_with(&r->arena, v, said_by[i], NULL);
    return v;
}

const struct json *fields_updated(struct request *r, const struct json *old,
                                  const struct json *next)
{
    const struct kind_info *k = r->kind->info;
    struct managed_request m = managed_of(r);
    const struct json *owned;

    /* A change of scale takes the number of replicas from whom owned it, and does not say when; what nobody owned stays so. */
    if (str_is(r->subresource, "scale")) {
        if (!scale_owned(r, old))
            return json_with_at(&r->arena, next, "metadata/managedFields",
                                json_at(old, "metadata/managedFields"));
        m.now = "";
    }
    owned = managed_update(&r->arena, k->type, owned_part(r, old ? present(r, old) : NULL),
                           owned_part(r, next), &m);
    return json_with_at(&r->arena, next, "metadata/managedFields",
                        json_at(owned, "metadata/managedFields"));
}

static bool read_applied(struct request *r, const struct json **ret)
{
    AUTO(error_clear) struct error err = {0};
    struct arena *a = &r->arena;
    const struct kind_info *k = r->kind->info;
    const struct json *v;
    struct str gv, kind;

    if (r->body_json) {
        v = json_copy(a, r->body_json);
    } else if (!yaml_parse_one(r->body, a, &v, &err)) {
        answer_status(r, 400, "BadRequest",
                      arena_printf(a, "error decoding YAML: %s", error_text(&err)), NULL);
        return false;
    }
    if (json_len(json_at(v, "metadata/managedFields"))) {
        answer_status(r, 400, "BadRequest", "metadata.managedFields must be nil", NULL);
        return false;
    }
    gv = json_str_at(v, "apiVersion");
    kind = json_str_at(v, "kind");
    if (!str_is(kind, k->kind) || !str_is(gv, group_version(k->group, r->version, a))) {
        struct str group, version;

        if (!str_cut(gv, '/', &group, &version)) {
            version = group;
            group = STR("");
        }
        answer_status(r, 400, "BadRequest",
                      arena_printf(a, "invalid object type: " STR_FMT "/" STR_FMT ", Kind=" STR_FMT,
                                   STR_ARG(group), STR_ARG(version), STR_ARG(kind)),
                      NULL);
        return false;
    }
    *ret = v;
    return true;
}

static void answer_conflicts(struct request *r, const struct error *err,
                             const struct schema_causes *c)
{
    struct arena *a = &r->arena;
    const struct json **items = ARENA_ARRAY(a, const struct json *, c->n + 1);

    for (size_t i = 0; i < c->n; i++)
        items[i] = json_object(a, "reason", json_new_z(a, c->p[i].reason), "message",
                               json_new_z(a, c->p[i].message), "field",
                               json_new_z(a, c->p[i].field), NULL);
    answer_status(r, 409, "Conflict", arena_strdup(a, str_of(error_text(err))),
                  json_object(a, "causes", json_array_n(a, items, c->n), NULL));
}

/* The applied object as it would be read: unknown fields reported, types checked, nothing defaulted. */
static bool check_applied(struct request *r, const struct json *applied)
{
    const struct json *typed;
    struct json_dups none = {0};

    return object_typed(r, applied, &none, false, &typed);
}

#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

/* kubectl that applied on its own side so far and now lets the server do it: what it had set is its own, and the note of
 * it is kept up for kubectls that still read it. */
static const struct json *last_applied(struct request *r, const struct json *live)
{
    struct str text = meta_annotation(live, LAST_APPLIED);
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!text.n || strcmp(request_manager(r), "kubectl") != 0
        || !json_parse(text, &r->arena, &v, &err))
        return NULL;
    return str_eq(json_str_at(v, "apiVersion"), json_str_at(live, "apiVersion")) ? v : NULL;
}

static const struct json *note_applied(struct request *r, const struct json *next,
                                       const struct json *applied)
{
    struct arena *a = &r->arena;
    const struct json *notes = json_at(applied, "metadata/annotations");
    AUTO(buf_done) struct buf b = {0};

    if (notes) {
        notes = json_with(a, notes, LAST_APPLIED, NULL);
        applied = json_with_at(a, applied, "metadata/annotations", json_len(notes) ? notes : NULL);
    }
    json_write_sorted(&b, applied);
    buf_addc(&b, '\n');
    return meta_with_annotation(a, next, LAST_APPLIED, buf_str(&b));
}

void apply_request(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct managed_request m;
    struct schema_causes conflicts = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *applied, *live = NULL, *next;
    struct json_dups none = {0};
    struct store_object *o;

    if (str_empty(query_get(r, "fieldManager")) && !r->is_local) {
        answer_invalid_one(r, "PatchOptions", "meta.k8s.io", "", "FieldValueRequired",
                           "fieldManager", "Required value: is required for apply patch");
        return;
    }
    if (!read_applied(r, &applied) || !check_applied(r, applied))
        return;
    applied = schema_prune(k->type, applied, a, NULL);
    m = managed_of(r);
    o = store_get_pending(r->s->store, kind_key(k, r->ns, r->name, a));
    if (o)
        live = store_object_json(o, a);
    m.last_applied = live ? last_applied(r, live) : NULL;
    if (!o && r->subresource.p) {
        answer_not_found(r);
        return;
    }
    if (!json_at(applied, "metadata/name"))
        applied = json_with_at(a, applied, "metadata/name", json_new_str(a, r->name));
    if (!managed_apply(a, k->type, live ? present(r, live) : NULL, applied, &m, &next, &conflicts,
                       &err)) {
        store_object_unref(o);
        if (err.kind == ERROR_CONFLICT)
            answer_conflicts(r, &err, &conflicts);
        else
            answer_error(r, &err);
        return;
    }
    if (m.last_applied)
        next = note_applied(r, next, applied);
    r->applied = true;
    if (!object_typed(r, next, &none, true, &next)) {
        store_object_unref(o);
        return;
    }
    if (live)
        update_commit(r, o, live, next);
    else
        create_object(r, next);
    store_object_unref(o);
}
