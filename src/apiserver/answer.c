/* apiserver/answer - every way a request ends: objects, Status, Table, YAML. */
#include "api/meta.h"
#include "apiserver/fairness.h"
#include "apiserver/internal.h"
#include "api/status.h"
#include "apiserver/local_call.h"
#include "apiserver/protobuf.h"
#include "base/log.h"
#include "json/yaml.h"

const struct json *status_value(struct arena *a, int code, const char *reason, const char *message,
                                const struct json *details)
{
    return json_object(a, "kind", json_new_z(a, "Status"), "apiVersion", json_new_z(a, "v1"),
                       "metadata", json_object(a, NULL), "status",
                       json_new_z(a, code < 400 ? "Success" : "Failure"), "message",
                       json_new_z(a, message), "reason", json_new_z(a, reason), "details", details,
                       "code", code == 200 ? NULL : json_new_i64(a, code), NULL);
}

const struct json *status_of_error(struct arena *a, const struct error *err, int *ret_code)
{
    *ret_code = status_code(err->kind);
    return status_value(a, *ret_code, status_reason(err->kind), error_text(err), NULL);
}

void request_finished(struct request *r, int code)
{
    fairness_answered(r);
    metrics_count(r->s->metrics, r, code, loop_now_ns(r->s->loop) - r->started_ns);
}

static void head(struct request *r)
{
    struct exchange *x = r->x;

    exchange_set_header(x, "Cache-Control",
                        r->cache_public ? STR("public") : STR("no-cache, private"));
    for (size_t i = 0; i < r->n_warnings; i++) {
        AUTO(buf_done) struct buf b = {0};

        buf_adds(&b, "299 - \"");
        for (const char *p = r->warnings[i]; *p; p++) {
            if (*p == '"' || *p == '\\')
                buf_addc(&b, '\\');
            buf_addc(&b, *p < ' ' && *p >= 0 ? ' ' : *p);
        }
        buf_addc(&b, '"');
        exchange_add_header(x, "Warning", buf_str(&b));
    }
}

void answer_text(struct request *r, int code, const char *content_type, struct str body)
{
    struct exchange *x = r->x;

    request_finished(r, code);
    if (x) {
        head(r);
        if (content_type && str_starts(str_of(content_type), STR("text/plain;"))
            && !str_starts(str_of(content_type), STR("text/plain; version")))
            exchange_set_header(x, "X-Content-Type-Options", STR("nosniff"));
        x->user = NULL;
        x->closed = NULL;
        exchange_respond(x, code, content_type, body);
        r->x = NULL;
    } else if (r->local) {
        local_answer(r, code, NULL);
    }
    request_free(r);
}

static int by_key(const void *a, const void *b)
{
    const struct json_member *x = a, *y = b;

    return str_cmp(json_str(&x->key), json_str(&y->key));
}

static const struct json *sorted(struct arena *a, const struct json *v)
{
    if (json_is(v, JSON_OBJECT)) {
        struct json_member *m = ARENA_ARRAY(a, struct json_member, v->n + 1);

        for (size_t i = 0; i < v->n; i++) {
            m[i].key = v->members[i].key;
            m[i].value = *sorted(a, &v->members[i].value);
        }
        qsort(m, v->n, sizeof *m, by_key);
        return json_object_n(a, m, v->n);
    }
    if (json_is(v, JSON_ARRAY)) {
        const struct json **p = ARENA_ARRAY(a, const struct json *, v->n + 1);

        for (size_t i = 0; i < v->n; i++)
            p[i] = sorted(a, &v->items[i]);
        return json_array_n(a, p, v->n);
    }
    return v;
}

void json_to_yaml(struct arena *a, struct buf *b, const struct json *v)
{
    yaml_write(b, sorted(a, v));
}

/* Sends text that is a JSON object of the API. */
void answer_api_text(struct request *r, int code, struct buf *b)
{
    struct exchange *x = r->x;

    request_finished(r, code);
    head(r);
    x->user = NULL;
    x->closed = NULL;
    if (b->overflow)
        exchange_respond(x, 500, "text/plain; charset=utf-8", STR("the answer is too large"));
    else
        exchange_respond(x, code,
                         r->accept.yaml       ? "application/yaml"
                         : r->accept.protobuf ? "application/vnd.kubernetes.protobuf"
                                              : "application/json",
                         buf_str(b));
    r->x = NULL;
    request_free(r);
}

/* The same text, made as it is sent. */
void answer_source(struct request *r, int code, struct body_source *take_source, size_t about)
{
    struct exchange *x = r->x;

    request_finished(r, code);
    head(r);
    x->user = NULL;
    x->closed = NULL;
    r->x = NULL;
    exchange_respond_source(x, code, "application/json", take_source, about);
    request_free(r);
}

void answer_json(struct request *r, int code, const struct json *value)
{
    AUTO(buf_done) struct buf b = {0};

    audit_response(r, code, value);
    if (!r->x) {
        request_finished(r, code);
        if (r->local)
            local_answer(r, code, value);
        request_free(r);
        return;
    }
    buf_init(&b, 1u << 30);
    if (r->accept.protobuf && !protobuf_write(value, &b)) {
        r->accept.protobuf = false;
        buf_clear(&b);
    }
    if (r->accept.protobuf) {
        /* written */
    } else if (r->accept.yaml) {
        json_to_yaml(&r->arena, &b, value);
    } else if (r->pretty) {
        json_write_pretty(&b, value, 2);
    } else {
        json_write(&b, value);
        buf_addc(&b, '\n');
    }
    answer_api_text(r, code, &b);
}

void answer_status(struct request *r, int code, const char *reason, const char *message,
                   const struct json *details)
{
    if (code == 406)
        r->pretty = true;
    /* A budget says nothing of when to come again; nor does a full disk, which somebody has to see. */
    if (r->x
        && ((code == 429 && !json_get(details, "causes"))
            || (code == 503 && !store_low_space(r->s->store)) || code == 504))
        exchange_set_header(r->x, "Retry-After", STR("1"));
    answer_json(r, code, status_value(&r->arena, code, reason, message, details));
}

/* {"name":…,"group":…,"kind":…}, as far as they are known. */
static const struct json *details(struct request *r, const char *name, const char *group,
                                  const char *kind, const struct json *causes)
{
    struct arena *a = &r->arena;

    return json_object(a, "name", name && *name ? json_new_z(a, name) : NULL, "group",
                       group && *group ? json_new_z(a, group) : NULL, "kind", json_new_z(a, kind),
                       "causes", causes, NULL);
}

static const char *name_z(struct request *r)
{
    return r->name.p ? arena_strdup(&r->arena, r->name) : "";
}

/* "configmaps" or "virtualmachines.kubevirt.io" */
static const char *qualified(struct request *r)
{
    const struct kind_info *k = r->kind->info;

    return *k->group ? arena_printf(&r->arena, "%s.%s", k->plural, k->group) : k->plural;
}

static const struct json *resource_details(struct request *r)
{
    if (!r->kind)
        return NULL;
    return details(r, name_z(r), r->kind->info->group, r->kind->info->plural, NULL);
}

void answer_error(struct request *r, const struct error *err)
{
    int code = status_code(err->kind);
    const struct json *d = NULL;

    switch (err->kind) {
    case ERROR_NOT_FOUND:
    case ERROR_EXISTS:
    case ERROR_CONFLICT:
    case ERROR_FORBIDDEN:
    case ERROR_INVALID:
        d = resource_details(r);
        break;
    case ERROR_NONE:
    case ERROR_BAD_REQUEST:
    case ERROR_UNAUTHORIZED:
    case ERROR_NOT_ALLOWED:
    case ERROR_NOT_ACCEPTABLE:
    case ERROR_GONE:
    case ERROR_TOO_LARGE:
    case ERROR_UNSUPPORTED:
    case ERROR_TOO_MANY:
    case ERROR_TIMEOUT:
    case ERROR_UNAVAILABLE:
    case ERROR_INTERNAL:
        break;
    }
    if (code >= 500)
        log_warning(NULL, STR_FMT ": %s", STR_ARG(r->path), error_text(err));
    answer_status(r, code, status_reason(err->kind),
                  arena_strdup(&r->arena, str_of(error_text(err))), d);
}

void answer_not_found(struct request *r)
{
    answer_status(
        r, 404, "NotFound",
        arena_printf(&r->arena, "%s \"" STR_FMT "\" not found", qualified(r), STR_ARG(r->name)),
        resource_details(r));
}

void answer_unknown_resource(struct request *r)
{
    answer_status(r, 404, "NotFound", "the server could not find the requested resource",
                  json_object(&r->arena, NULL));
}

void answer_method(struct request *r)
{
    answer_status(r, 405, "MethodNotAllowed",
                  "the server does not allow this method on the requested resource",
                  json_object(&r->arena, NULL));
}

void answer_conflict(struct request *r)
{
    answer_status(
        r, 409, "Conflict",
        arena_printf(
            &r->arena,
            "Operation cannot be fulfilled on %s \"" STR_FMT
            "\": the object has been modified; please apply your changes to the latest version "
            "and try again",
            qualified(r), STR_ARG(r->name)),
        resource_details(r));
}

void answer_invalid(struct request *r, const char *kind, const char *group, const char *name,
                    const struct schema_causes *causes)
{
    answer_json(r, 422, status_invalid(&r->arena, causes, group, kind, name));
}

void answer_invalid_one(struct request *r, const char *kind, const char *group, const char *name,
                        const char *reason, const char *field, const char *message)
{
    struct schema_causes c = {0};

    schema_cause_add(&c, &r->arena, reason, field, "%s", message);
    answer_invalid(r, kind, group, name, &c);
}

/* An object of a definition that has changed since: what was the default of its version then and now, and without what
 * the version that is asked for does not have. */
static const struct json *as_defined(const struct kind_info *k, const struct json *object, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct kind_info *stored = k;
    struct str version;
    int64_t revision = 0;

    if (parse_i64(meta_resource_version(object), 0, INT64_MAX, &revision, &err) && revision > k->since)
        return k->siblings ? schema_prune(k->type, object, a, NULL) : object;
    (void)meta_group(meta_api_version(object), &version);
    for (size_t i = 0; k->siblings && k->siblings[i]; i++)
        if (str_is(version, k->siblings[i]->version))
            stored = k->siblings[i];
    return schema_prune(k->type, schema_default(stored->type, object, a), a, NULL);
}

const struct json *present_as(const struct kind_info *k, const char *version,
                              const struct json *object, struct arena *a)
{
    const char *gv = group_version(k->group, version, a);

    if (kind_is(k, "events.k8s.io", "events"))
        return event_from_core(a, object);
    if (k->since || k->siblings)
        object = as_defined(k, object, a);
    if (!str_is(json_str_at(object, "apiVersion"), gv) && json_get(object, "apiVersion"))
        return json_with(a, object, "apiVersion", json_new_z(a, gv));
    return object;
}

const struct json *present(const struct request *r, const struct json *object)
{
    return present_as(r->kind->info, r->version, object, &((struct request *)(uintptr_t)r)->arena);
}

const struct json *partial_object(const struct json *object, bool v1beta1, struct arena *a)
{
    return json_object(a, "kind", json_new_z(a, "PartialObjectMetadata"), "apiVersion",
                       json_new_z(a, v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1"),
                       "metadata", order_metadata(a, json_get(object, "metadata")), NULL);
}

void answer_value(struct request *r, int code, const struct json *object)
{
    struct arena *a = &r->arena;

    if (r->is_local || !r->kind) {
        answer_json(r, code, r->kind ? present(r, object) : object);
        return;
    }
    switch (r->accept.form) {
    case FORM_OBJECT:
        answer_json(r, code, present(r, object));
        return;
    case FORM_PARTIAL:
        answer_json(r, code, partial_object(object, r->accept.v1beta1, a));
        return;
    case FORM_TABLE: {
        const struct json *shown = present(r, object);
        const struct json *meta =
            json_object(a, "resourceVersion", json_at(object, "metadata/resourceVersion"), NULL);

        answer_json(r, code,
                    table_value(r->s, r->kind->info, meta, &shown, 1, query_get(r, "includeObject"),
                                r->accept.v1beta1, a));
        return;
    }
    }
}

/* The common case leaves the object as text: nothing is parsed. */
void answer_object(struct request *r, int code, struct store_object *o)
{
    AUTO(buf_done) struct buf b = {0};

    if (!r->x || r->accept.form != FORM_OBJECT || r->accept.yaml || r->accept.protobuf || r->pretty
        || audit_wants_response(r)
        || strcmp(r->version,
                  r->kind->info->storage_version ? r->kind->info->storage_version : r->version)
               != 0
        || r->kind->info->siblings || store_object_revision(o) <= r->kind->info->since
        || kind_is(r->kind->info, "events.k8s.io", "events")) {
        answer_value(r, code, store_object_json(o, &r->arena));
        return;
    }
    audit_response(r, code, NULL);
    buf_init(&b, LIMIT_BUF_DEFAULT);
    store_object_text(o, &b);
    buf_addc(&b, '\n');
    answer_api_text(r, code, &b);
}
