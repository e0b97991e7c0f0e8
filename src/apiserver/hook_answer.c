/* apiserver/hook_answer - reading what a webhook answered: nothing in it is believed before it is checked. */
#include "apiserver/hooks.h"
#include "json/patch.h"

static void failed(struct request *r, struct hook_outcome *ret, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static void failed(struct request *r, struct hook_outcome *ret, const char *fmt, ...)
{
    AUTO(buf_done) struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    *ret = (struct hook_outcome){.verdict = HOOK_FAILED,
                                 .message = arena_strdup(&r->arena, buf_str(&b))};
}

/* The Status that refuses, as upstream completes it: at least 400, and the webhook's name in front. */
static const struct json *denial(struct request *r, const struct hook *h, const struct json *status)
{
    struct arena *a = &r->arena;
    struct str message = json_str_at(status, "message"), reason = json_str_at(status, "reason");
    int64_t code = json_i64_at(status, "code", 0);
    const char *text = message.n  ? arena_printf(a, ": " STR_FMT, STR_ARG(message))
                       : reason.n ? arena_printf(a, ": " STR_FMT, STR_ARG(reason))
                                  : " without explanation";

    if (code < 400 || code > 599)
        code = 400;
    return json_object(
        a, "code", json_new_i64(a, code), "reason", reason.n ? json_new_str(a, reason) : NULL,
        "message", json_new_f(a, "admission webhook \"%s\" denied the request%s", h->name, text),
        "details",
        json_is(json_get(status, "details"), JSON_OBJECT) ? json_get(status, "details") : NULL,
        NULL);
}

static void broke(struct request *r, struct hook_outcome *ret, const struct error *err)
{
    *ret = (struct hook_outcome){.verdict = HOOK_BROKE,
                                 .message = arena_strdup(&r->arena, str_of(error_text(err)))};
}

static void apply(struct request *r, struct str text, const struct json *object,
                  struct hook_outcome *ret)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf decoded = {.limit = LIMIT_HTTP_BODY};
    const struct json *ops, *patched;

    if (!buf_add_base64_decoded(&decoded, text, &err)
        || !json_parse(buf_str(&decoded), &r->arena, &ops, &err)
        || !json_patch(&r->arena, object, ops, &patched, &err)) {
        broke(r, ret, &err);
        return;
    }
    if (!json_is(patched, JSON_OBJECT)) {
        error_set(&err, ERROR_INVALID, "the patch leaves no object");
        broke(r, ret, &err);
        return;
    }
    ret->patched = patched;
}

void hook_answer(struct request *r, const struct hook *h, const char *uid, struct str body,
                 const struct json *object, struct hook_outcome *ret)
{
    struct arena *a = &r->arena;
    AUTO(error_clear) struct error err = {0};
    const struct json *v, *response;
    struct str gv, kind, patch, type;

    *ret = (struct hook_outcome){.verdict = HOOK_ALLOWED};
    if (!json_parse(body, a, &v, &err)) {
        failed(r, ret, "failed to call webhook: couldn't get version/kind; json parse error: %s",
               error_text(&err));
        return;
    }
    gv = json_str_at(v, "apiVersion");
    kind = json_str_at(v, "kind");
    response = json_get(v, "response");
    if (!str_is(gv, "admission.k8s.io/v1") || !str_is(kind, "AdmissionReview")) {
        failed(r, ret,
               "received invalid webhook response: expected webhook response of "
               "admission.k8s.io/v1, Kind=AdmissionReview, got " STR_FMT ", Kind=" STR_FMT,
               STR_ARG(gv), STR_ARG(kind));
        return;
    }
    if (!json_is(response, JSON_OBJECT)) {
        failed(r, ret, "received invalid webhook response: webhook response was absent");
        return;
    }
    if (!str_is(json_str_at(response, "uid"), uid)) {
        failed(r, ret,
               "received invalid webhook response: expected response.uid=\"%s\", got \"" STR_FMT
               "\"",
               uid, STR_ARG(json_str_at(response, "uid")));
        return;
    }
    patch = json_str_at(response, "patch");
    type = json_str_at(response, "patchType");
    if (type.p && !str_is(type, "JSONPatch")) {
        failed(r, ret,
               "received invalid webhook response: webhook returned invalid response.patchType of "
               "\"" STR_FMT "\"",
               STR_ARG(type));
        return;
    }
    if (patch.n && !type.p) {
        failed(r, ret,
               "received invalid webhook response: webhook returned response.patch but not "
               "response.patchType");
        return;
    }
    if (!patch.n && type.p) {
        failed(r, ret,
               "received invalid webhook response: webhook returned response.patchType but not "
               "response.patch");
        return;
    }
    if (patch.n && !h->mutating) {
        failed(r, ret,
               "received invalid webhook response: validating webhooks may not return a patch");
        return;
    }
    json_each_item(warning, json_get(response, "warnings"))
        if (json_str(warning).n)
            request_warn(r, STR_FMT, STR_ARG(str_take(json_str(warning), 256)));
    json_each_member(note, json_get(response, "auditAnnotations"))
        audit_annotate(
            r, arena_printf(a, "%s/" STR_FMT, h->name, STR_ARG(json_str(&note->key))),
            arena_strdup(a, json_str(&note->value).p ? json_str(&note->value) : STR("")));
    if (!json_is(json_get(response, "allowed"), JSON_TRUE)) {
        ret->verdict = HOOK_DENIED;
        ret->status = denial(r, h, json_get(response, "status"));
        return;
    }
    if (patch.n && object)
        apply(r, patch, object, ret);
}
