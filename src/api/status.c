#include "api/status.h"

#include "base/cleanup.h"

static const struct {
    int code;
    const char *reason;
} table[] = {
    [ERROR_NONE] = {200, ""},
    [ERROR_INVALID] = {422, "Invalid"},
    [ERROR_BAD_REQUEST] = {400, "BadRequest"},
    [ERROR_UNAUTHORIZED] = {401, "Unauthorized"},
    [ERROR_FORBIDDEN] = {403, "Forbidden"},
    [ERROR_NOT_FOUND] = {404, "NotFound"},
    [ERROR_NOT_ALLOWED] = {405, "MethodNotAllowed"},
    [ERROR_NOT_ACCEPTABLE] = {406, "NotAcceptable"},
    [ERROR_EXISTS] = {409, "AlreadyExists"},
    [ERROR_CONFLICT] = {409, "Conflict"},
    [ERROR_GONE] = {410, "Expired"},
    [ERROR_TOO_LARGE] = {413, "RequestEntityTooLarge"},
    [ERROR_UNSUPPORTED] = {415, "UnsupportedMediaType"},
    [ERROR_TOO_MANY] = {429, "TooManyRequests"},
    [ERROR_TIMEOUT] = {504, "Timeout"},
    [ERROR_UNAVAILABLE] = {503, "ServiceUnavailable"},
    [ERROR_INTERNAL] = {500, "InternalError"},
};

int status_code(enum error_kind kind) { return table[kind].code; }
const char *status_reason(enum error_kind kind) { return table[kind].reason; }

static const struct json *text(struct arena *a, const char *z) { return z && *z ? json_new_z(a, z) : NULL; }

static const struct json *details_of(struct arena *a, const struct status_details *d, const struct json *causes)
{
    if (!d && !causes)
        return NULL;
    return json_object(a, "name", d ? text(a, d->name) : NULL, "group", d ? text(a, d->group) : NULL, "kind",
                       d ? text(a, d->kind) : NULL, "uid", d ? text(a, d->uid) : NULL, "causes", causes,
                       "retryAfterSeconds",
                       d && d->retry_after_seconds ? json_new_i64(a, d->retry_after_seconds) : NULL, NULL);
}

const struct json *status_failure(struct arena *a, int code, const char *reason, const char *message,
                                  const struct status_details *details, const struct json *causes)
{
    return json_object(a, "kind", json_new_z(a, "Status"), "apiVersion", json_new_z(a, "v1"), "metadata",
                       json_object(a, NULL), "status", json_new_z(a, "Failure"), "message", text(a, message),
                       "reason", text(a, reason), "details", details_of(a, details, causes), "code",
                       json_new_i64(a, code), NULL);
}

const struct json *status_of(struct arena *a, const struct error *e, const struct status_details *details)
{
    const char *message = error_text(e);

    if (e->kind == ERROR_INTERNAL) { /* kube-apiserver repeats the cause in details */
        const struct json *cause = json_object(a, "message", json_new_z(a, message), NULL);

        return status_failure(a, 500, "InternalError", arena_printf(a, "Internal error occurred: %s", message),
                              details, json_array(a, cause, NULL));
    }
    return status_failure(a, status_code(e->kind), status_reason(e->kind), message, details, NULL);
}

const struct json *status_causes(struct arena *a, const struct schema_causes *causes)
{
    const struct json **p = ARENA_ARRAY(a, const struct json *, causes->n);

    for (size_t i = 0; i < causes->n; i++)
        p[i] = json_object(a, "reason", text(a, causes->p[i].reason), "message", text(a, causes->p[i].message),
                           "field", text(a, causes->p[i].field), NULL);
    return json_array_n(a, p, causes->n);
}

void status_write_causes(struct buf *b, const struct schema_causes *causes)
{
    if (causes->n > 1)
        buf_addc(b, '[');
    for (size_t i = 0; i < causes->n; i++) {
        if (i)
            buf_adds(b, ", ");
        if (causes->p[i].field && *causes->p[i].field)
            buf_addf(b, "%s: ", causes->p[i].field);
        buf_adds(b, causes->p[i].message);
    }
    if (causes->n > 1)
        buf_addc(b, ']');
}

char *status_resource(struct arena *a, const char *group, const char *plural)
{
    return group && *group ? arena_printf(a, "%s.%s", plural, group) : arena_strdup(a, str_of(plural));
}

const struct json *status_invalid(struct arena *a, const struct schema_causes *causes, const char *group,
                                  const char *kind, const char *name)
{
    AUTO(buf_done) struct buf b = {.limit = 1 << 20};
    struct status_details details = {.name = name, .group = group, .kind = kind};

    buf_addf(&b, "%s \"%s\" is invalid: ", status_resource(a, group, kind), name ? name : "");
    status_write_causes(&b, causes);
    return status_failure(a, 422, "Invalid", b.p, &details, status_causes(a, causes));
}

static bool about(struct error *err, enum error_kind kind, const char *before, const char *group, const char *plural,
                  struct str name, const char *after)
{
    return error_set(err, kind, "%s%s%s%s \"" STR_FMT "\"%s", before, plural, group && *group ? "." : "",
                     group ? group : "", STR_ARG(name), after);
}

bool status_not_found(struct error *err, const char *group, const char *plural, struct str name)
{
    return about(err, ERROR_NOT_FOUND, "", group, plural, name, " not found");
}
