/* apiserver/rest - the verbs on stored kinds: dispatch, reading bodies, writing objects. */
#include "apiserver/admit.h"
#include "apiserver/internal.h"
#include "apiserver/rbac.h"
#include "apiserver/local_call.h"
#include "apiserver/protobuf.h"
#include "apiserver/quota.h"
#include "base/ident.h"
#include "json/yaml.h"

/* A write that is being flushed; outlives the request when the server goes first. */
struct pending {
    struct request *r;
    struct list node;
    struct quota_claim *claim;
};

const char *now_text(struct apiserver *s, bool micro, struct arena *a)
{
    char text[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(s->loop), micro, text);
    return arena_strdup(a, str_of(text));
}

bool kind_has_generation(const struct kind_info *k, bool dynamic)
{
    return dynamic || (k->flags & KIND_CRD) || kind_is(k, "", "pods")
           || kind_is(k, "policy", "poddisruptionbudgets")
           || kind_is(k, "apiextensions.k8s.io", "customresourcedefinitions");
}

static bool options_ok(struct request *r)
{
    struct str dry = query_get(r, "dryRun"), fv = query_get(r, "fieldValidation");
    const char *what = r->verb == VERB_PATCH    ? "PatchOptions"
                       : r->verb == VERB_CREATE ? "CreateOptions"
                       : r->verb == VERB_UPDATE ? "UpdateOptions"
                                                : "DeleteOptions";

    if (dry.p && !str_is(dry, "All")) {
        answer_invalid_one(r, what, "meta.k8s.io", "", "FieldValueNotSupported", "dryRun",
                           arena_printf(&r->arena,
                                        "Unsupported value: [\"" STR_FMT
                                        "\"]: supported values: \"All\"",
                                        STR_ARG(dry)));
        return false;
    }
    r->dry_run = dry.p != NULL;
    if (fv.p && fv.n && !str_is(fv, "Ignore") && !str_is(fv, "Warn") && !str_is(fv, "Strict")) {
        answer_invalid_one(
            r, what, "meta.k8s.io", "", "FieldValueNotSupported", "fieldValidation",
            arena_printf(&r->arena,
                         "Unsupported value: \"" STR_FMT
                         "\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
                         STR_ARG(fv)));
        return false;
    }
    return true;
}

static void rest_get(struct request *r)
{
    struct store_object *o =
        store_get(r->s->store, kind_key(r->kind->info, r->ns, r->name, &r->arena));
    int64_t wanted;

    if (!read_revision(r, query_get(r, "resourceVersion"), &wanted)) {
        store_object_unref(o);
        return;
    }
    if (!o) {
        answer_not_found(r);
        return;
    }
    answer_object(r, 200, o);
    store_object_unref(o);
}

static bool subresource_is(const struct request *r, const char *name)
{
    return str_is(r->subresource, name);
}

/* Subresources of single kinds; true when handled. */
static bool special(struct request *r)
{
    const struct kind_info *k = r->kind->info;

    if (kind_is(k, "", "pods")) {
        if (subresource_is(r, "binding") && r->verb == VERB_CREATE)
            pods_binding(r);
        else if (subresource_is(r, "eviction") && r->verb == VERB_CREATE)
            pods_eviction(r);
        else if (subresource_is(r, "log") && r->verb == VERB_GET)
            pods_log(r);
        else if (subresource_is(r, "exec") || subresource_is(r, "attach")
                 || subresource_is(r, "portforward"))
            answer_status(r, 501, "NotImplemented",
                          "pods of this server run virtual machines: use virtctl console, ssh or "
                          "port-forward",
                          NULL);
        else
            return false;
        return true;
    }
    if (kind_is(k, "", "serviceaccounts") && subresource_is(r, "token") && r->verb == VERB_CREATE) {
        tokens_request(r);
        return true;
    }
    if (k->flags & KIND_SCALE && subresource_is(r, "scale")) {
        rest_scale(r);
        return true;
    }
    return false;
}

void rest_handle(struct request *r)
{
    const struct kind_info *k = r->kind->info;
    bool write = r->verb == VERB_CREATE || r->verb == VERB_UPDATE || r->verb == VERB_PATCH
                 || r->verb == VERB_DELETE || r->verb == VERB_DELETE_ALL;

    if (!r->accept.ok) {
        answer_status(
            r, 406, "NotAcceptable",
            kind_speaks_protobuf(r->kind)
                ? "406: Not Acceptable\n\nAvailable representations: application/json, "
                  "application/yaml, application/vnd.kubernetes.protobuf"
                : "406: Not Acceptable\n\nAvailable representations: application/json, "
                  "application/yaml",
            json_object(&r->arena, NULL));
        return;
    }
    if (write && !options_ok(r))
        return;
    if (r->subresource.p && special(r))
        return;
    if (r->subresource.p && !(subresource_is(r, "status") && (k->flags & KIND_STATUS))
        && !(subresource_is(r, "finalize") && kind_is(k, "", "namespaces"))) {
        answer_unknown_resource(r);
        return;
    }
    if (r->subresource.p && r->verb != VERB_GET && r->verb != VERB_UPDATE
        && r->verb != VERB_PATCH) {
        answer_method(r);
        return;
    }
    if (!r->subresource.p && !served_has_verb(r->kind, verb_name(r->verb))) {
        answer_method(r);
        return;
    }
    if (k->flags & KIND_NO_STORE) {
        reviews_create(r);
        return;
    }
    if (kind_namespaced(k) && !r->ns.p && write && !r->is_local) {
        answer_method(r);
        return;
    }
    switch (r->verb) {
    case VERB_GET:
        rest_get(r);
        return;
    case VERB_LIST:
        rest_list(r);
        return;
    case VERB_WATCH:
        rest_watch(r);
        return;
    case VERB_CREATE:
        rest_create(r);
        return;
    case VERB_UPDATE:
        rest_update(r);
        return;
    case VERB_PATCH:
        rest_patch(r);
        return;
    case VERB_DELETE:
        rest_delete(r);
        return;
    case VERB_DELETE_ALL:
        rest_delete_all(r);
        return;
    case VERB_CONNECT:
        answer_method(r);
        return;
    }
}

/* Bodies. */

/* "json: line 1 column 28: unexpected end …": Go's decoder does not say where. */
static const char *without_place(const char *message)
{
    const char *at = strstr(message, " column ");

    at = at ? strstr(at, ": ") : NULL;
    return at ? at + 2 : message;
}

bool body_parse(struct request *r, const struct kind_info *k, const struct json **ret,
                struct json_dups *dups)
{
    AUTO(error_clear) struct error err = {0};
    struct arena *a = &r->arena;

    if (r->body_json) {
        *ret = json_copy(a, r->body_json);
        return true;
    }
    if (str_empty(r->content_type) || media_is(r->content_type, "application/json")) {
        if (json_parse_strict(r->body, a, dups, ret, &err))
            return true;
        answer_status(
            r, 400, "BadRequest",
            arena_printf(a,
                         "the object provided is unrecognized (must be of type %s): couldn't get "
                         "version/kind; json parse error: %s (" STR_FMT ")",
                         k->kind,
                         r->body.n ? without_place(error_text(&err))
                                   : "unexpected end of JSON input",
                         STR_ARG(r->body.n ? str_take(r->body, 100) : STR("<empty>"))),
            NULL);
        return false;
    }
    if (media_is(r->content_type, "application/yaml") || media_is(r->content_type, "text/yaml")
        || media_is(r->content_type, "application/x-yaml")) {
        if (yaml_parse_one(r->body, a, ret, &err))
            return true;
        answer_status(r, 400, "BadRequest",
                      arena_printf(a, "error converting YAML to JSON: yaml: %s", error_text(&err)),
                      NULL);
        return false;
    }
    if (media_is(r->content_type, "application/vnd.kubernetes.protobuf")) {
        if (protobuf_object(r->body, a, ret, &err))
            return true;
        if (err.kind == ERROR_BAD_REQUEST) {
            answer_error(r, &err);
            return false;
        }
    }
    answer_status(
        r, 415, "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        NULL);
    return false;
}

/* apiVersion and kind of a body against the kind of its path. */
static bool kind_matches(struct request *r, const struct json *v)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct str kind = json_str_at(v, "kind"), gv = json_str_at(v, "apiVersion");
    const char *want = group_version(k->group, r->version, a);

    if (!json_is(v, JSON_OBJECT)) {
        answer_status(
            r, 400, "BadRequest",
            arena_printf(
                a,
                "%s in version \"%s\" cannot be handled as a %s: json: cannot unmarshal into "
                "Go value of type %s: an object is wanted",
                k->kind, r->version, k->kind, k->kind),
            NULL);
        return false;
    }
    if (!str_empty(kind) && !str_is(kind, k->kind)) {
        answer_status(
            r, 400, "BadRequest",
            arena_printf(a,
                         STR_FMT
                         " in version \"%s\" cannot be handled as a %s: converting (%s." STR_FMT
                         ") to (%s.%s): unknown conversion",
                         STR_ARG(kind), r->version, k->kind, r->version, STR_ARG(kind),
                         *k->group ? k->group : "core", k->kind),
            NULL);
        return false;
    }
    if (!str_empty(gv) && !str_is(gv, want)) {
        struct str group, version;

        if (!str_cut(gv, '/', &group, &version)) {
            version = group;
            group = STR("");
        }
        if (!str_is(group, k->group) || !served_has_version(r->kind, version)) {
            answer_status(r, 400, "BadRequest",
                          arena_printf(a,
                                       "the API version in the data (" STR_FMT
                                       ") does not match the expected API version (%s)",
                                       STR_ARG(gv), want),
                          NULL);
            return false;
        }
    }
    return true;
}

/* null is what Go's decoder makes of an absent field; lists keep theirs. */
static const struct json *without_nulls(struct arena *a, const struct json *v)
{
    if (json_is(v, JSON_OBJECT)) {
        struct json_member *m = ARENA_ARRAY(a, struct json_member, v->n + 1);
        size_t n = 0;
        bool changed = false;

        for (size_t i = 0; i < v->n; i++) {
            const struct json *w;

            if (json_is(&v->members[i].value, JSON_NULL)) {
                changed = true;
                continue;
            }
            w = without_nulls(a, &v->members[i].value);
            changed |= w != &v->members[i].value;
            m[n].key = v->members[i].key;
            m[n++].value = *w;
        }
        return changed ? json_object_n(a, m, n) : v;
    }
    if (json_is(v, JSON_ARRAY)) {
        const struct json **p = ARENA_ARRAY(a, const struct json *, v->n + 1);
        bool changed = false;

        for (size_t i = 0; i < v->n; i++) {
            p[i] = without_nulls(a, &v->items[i]);
            changed |= p[i] != &v->items[i];
        }
        return changed ? json_array_n(a, p, v->n) : v;
    }
    return v;
}

/* Unknown and duplicate fields: an error, warnings or nothing, as fieldValidation says. */
static bool fields_known(struct request *r, const struct json_dups *dups,
                         const struct json_dups *unknown)
{
    struct str fv = query_get(r, "fieldValidation");
    AUTO(buf_done) struct buf b = {0};

    if (str_is(fv, "Ignore") || (!dups->n && !unknown->n))
        return true;
    if (!str_is(fv, "Strict")) {
        for (size_t i = 0; i < unknown->n; i++)
            request_warn(r, "unknown field \"%s\"", unknown->paths[i]);
        for (size_t i = 0; i < dups->n; i++)
            request_warn(r, "duplicate field \"%s\"", dups->paths[i]);
        return true;
    }
    for (size_t i = 0; i < unknown->n; i++)
        buf_addf(&b, "%sunknown field \"%s\"", b.n ? ", " : "", unknown->paths[i]);
    for (size_t i = 0; i < dups->n; i++)
        buf_addf(&b, "%sduplicate field \"%s\"", b.n ? ", " : "", dups->paths[i]);
    if (r->verb == VERB_PATCH && !media_is(r->content_type, "application/apply-patch+yaml")) {
        AUTO(buf_done) struct buf text = {0};

        buf_adds(&text, "Invalid value: ");
        json_write_string(&text, r->body.n ? str_take(r->body, 4096) : STR(""));
        buf_addf(&text, ": strict decoding error: " STR_FMT, STR_ARG(buf_str(&b)));
        answer_invalid_one(r, "", "", "", "FieldValueInvalid", "patch",
                           arena_strdup(&r->arena, buf_str(&text)));
        return false;
    }
    answer_status(
        r, 400, "BadRequest",
        arena_printf(
            &r->arena,
            "%s in version \"%s\" cannot be handled as a %s: strict decoding error: " STR_FMT,
            r->kind->info->kind, r->version, r->kind->info->kind, STR_ARG(buf_str(&b))),
        NULL);
    return false;
}

bool object_typed(struct request *r, const struct json *in, const struct json_dups *dups,
                  bool stored, const struct json **ret)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    struct json_dups unknown = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = in, *meta;

    if (!kind_matches(r, v))
        return false;
    if (!r->kind->dynamic)
        v = without_nulls(a, v);
    meta = json_get(v, "metadata");
    if (meta)
        v = json_with(a, v, "metadata", without_nulls(a, meta));
    if (!(k->flags & KIND_CRD) && !r->kind->dynamic && k->type->view_size) {
        void *view = arena_alloc(a, k->type->view_size);

        if (!schema_decode(k->type, v, a, view, &err)) {
            answer_status(r, 400, "BadRequest",
                          arena_printf(a, "%s in version \"%s\" cannot be handled as a %s: %s",
                                       k->kind, r->version, k->kind, error_text(&err)),
                          NULL);
            return false;
        }
    }
    v = schema_prune(k->type, v, a, &unknown);
    if (!stored && !fields_known(r, dups, &unknown))
        return false;
    v = schema_default(k->type, v, a);
    if (kind_is(k, "", "pods"))
        v = pod_decoded(a, v);
    if (kind_is(k, "events.k8s.io", "events"))
        v = event_to_core(a, v);
    *ret = v;
    return true;
}

bool body_object(struct request *r, const struct json **ret)
{
    struct json_dups dups = {0};
    const struct json *v;

    if (!body_parse(r, r->kind->info, &v, &dups))
        return false;
    return object_typed(r, v, &dups, false, ret);
}

/* Writing. */

static void written(void *user, struct store_object *o, const struct error *err)
{
    struct pending *p = user;
    struct request *r = p->r;

    quota_claim_done(p->claim, !err || err->kind == ERROR_NONE);
    free(p);
    if (!r)
        return;
    if (o)
        rbac_note(r->s->rbac, store_object_key(o)); /* a binding holds from the next request on */
    r->pending = NULL;
    if (err && err->kind != ERROR_NONE) {
        answer_error(r, err);
    } else if (r->answer_status) {
        const struct kind_info *k = r->kind->info;

        answer_status(r, 200, NULL, NULL,
                      json_object(&r->arena, "name", json_new_str(&r->arena, r->name), "group",
                                  *k->group ? json_new_z(&r->arena, k->group) : NULL, "kind",
                                  json_new_z(&r->arena, k->plural), "uid",
                                  json_new_str(&r->arena, store_object_uid(o)), NULL));
    } else if (r->answer_plain) {
        answer_status(r, r->success_code, NULL, NULL, NULL);
    } else if (r->answer_with) {
        r->answer_with(r, o);
    } else if (r->deleted) {
        answer_value(r, r->success_code, r->deleted);
    } else {
        answer_object(r, r->success_code, o);
    }
}

void pending_forget(struct pending *p)
{
    if (p)
        p->r = NULL;
}

/* While webhooks were asked, somebody else has written: the request starts anew, unless it says which state it means, which
 * then is the conflict that it finds. */
static bool once_more(struct request *r, enum error_kind why)
{
    bool create = r->verb == VERB_CREATE && !r->subresource.p;

    if (!r->was_parked || create || r->tries >= 5
        || (why != ERROR_CONFLICT && why != ERROR_NOT_FOUND && why != ERROR_EXISTS))
        return false;
    r->tries++;
    r->applied = r->answer_status = r->answer_plain = false;
    r->answer_with = NULL;
    r->deleted = NULL;
    rest_handle(r);
    return true;
}

void commit(struct request *r, struct str key, const struct json *value, int64_t if_revision,
            int code)
{
    AUTO(error_clear) struct error err = {0};
    struct pending *p;
    struct store_write w;

    r->success_code = code;
    if (r->dry_run) {
        if (r->answer_status)
            answer_status(r, 200, NULL, NULL,
                          json_object(&r->arena, "name", json_new_str(&r->arena, r->name), "group",
                                      *r->kind->info->group
                                          ? json_new_z(&r->arena, r->kind->info->group)
                                          : NULL,
                                      "kind", json_new_z(&r->arena, r->kind->info->plural), "uid",
                                      r->deleted ? json_at(r->deleted, "metadata/uid") : NULL, NULL));
        else if (r->answer_plain)
            answer_status(r, code, NULL, NULL, NULL);
        else
            answer_value(r, code, value ? value : r->deleted);
        return;
    }
    p = NEW(struct pending);
    p->r = r;
    p->claim = TAKE(r->claim);
    r->pending = p;
    w = (struct store_write){
        .key = key, .value = value, .if_revision = if_revision, .done = written, .user = p};
    if (store_put(r->s->store, &w, &err)) {
        if (p->claim) {
            struct store_object *o = store_get_pending(r->s->store, key);

            quota_claim_put(p->claim, store_object_revision(o));
            store_object_unref(o);
        }
        if (value
            && (kind_is(r->kind->info, "", "events")
                || kind_is(r->kind->info, "events.k8s.io", "events"))
            && !store_ttl_set(r->s->store, key, SECONDS(3600), &err))
            error_clear(&err);
        return;
    }
    r->pending = NULL;
    quota_claim_done(p->claim, false);
    free(p);
    if (once_more(r, err.kind))
        return;
    switch (err.kind) {
    case ERROR_EXISTS:
        answer_status(
            r, 409, "AlreadyExists",
            arena_printf(&r->arena, "%s%s%s \"" STR_FMT "\" already exists", r->kind->info->plural,
                         *r->kind->info->group ? "." : "", r->kind->info->group, STR_ARG(r->name)),
            json_object(&r->arena, "name", json_new_str(&r->arena, r->name), "group",
                        *r->kind->info->group ? json_new_z(&r->arena, r->kind->info->group) : NULL,
                        "kind", json_new_z(&r->arena, r->kind->info->plural), NULL));
        return;
    case ERROR_NOT_FOUND:
        answer_not_found(r);
        return;
    case ERROR_CONFLICT:
        answer_conflict(r);
        return;
    case ERROR_NONE:
    case ERROR_INVALID:
    case ERROR_BAD_REQUEST:
    case ERROR_UNAUTHORIZED:
    case ERROR_FORBIDDEN:
    case ERROR_NOT_ALLOWED:
    case ERROR_NOT_ACCEPTABLE:
    case ERROR_GONE:
    case ERROR_TOO_LARGE:
    case ERROR_UNSUPPORTED:
    case ERROR_TOO_MANY:
    case ERROR_TIMEOUT:
    case ERROR_UNAVAILABLE:
    case ERROR_INTERNAL:
        answer_error(r, &err);
        return;
    }
}
