#include "handler/grpc.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define HEAD         5
#define ANSWER_LIMIT (64u << 10)
#define TYPE         "application/grpc"

void grpc_frame(struct buf *out, struct str message)
{
    size_t n = message.n;
    const unsigned char head[HEAD] = {0, (unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n};

    buf_add(out, head, sizeof head);
    buf_addstr(out, message);
}

bool grpc_message(struct str body, struct str *ret, struct error *err)
{
    const unsigned char *p = (const unsigned char *)body.p;
    size_t n;

    if (body.n < HEAD)
        return error_set(err, ERROR_BAD_REQUEST, "gRPC: %zu bytes are no message", body.n);
    if (p[0] != 0)
        return error_set(err, ERROR_UNSUPPORTED, "gRPC: compressed messages are not supported");
    n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (n != body.n - HEAD)
        return error_set(err, ERROR_BAD_REQUEST, "gRPC: a message of %zu bytes in a body of %zu", n, body.n);
    *ret = str_skip(body, HEAD);
    return true;
}

/* --- server ------------------------------------------------------------------------------------------------------------------ */

static void set_status(struct exchange *x, enum grpc_code code)
{
    exchange_set_trailer(x, "grpc-status", str_of(arena_printf(&x->arena, "%d", (int)code)));
}

/* grpc-message: printable ASCII as it is, all else and '%' as %XX. */
static struct str escaped(struct arena *a, const char *text)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, 8192);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p >= 0x20 && *p < 0x7f && *p != '%')
            buf_addc(&b, (char)*p);
        else
            buf_addf(&b, "%%%02X", *p);
    }
    return arena_str(a, buf_str(&b));
}

void grpc_answer(struct exchange *x, struct str message)
{
    AUTO(buf_done) struct buf b = {0};

    grpc_frame(&b, message);
    exchange_start(x, 200, TYPE);
    exchange_write(x, buf_str(&b));
    set_status(x, GRPC_OK);
    exchange_end(x);
}

void grpc_refuse(struct exchange *x, enum grpc_code code, const char *why)
{
    exchange_set_trailer(x, "grpc-message", escaped(&x->arena, why));
    set_status(x, code);
    exchange_start(x, 200, TYPE);
    exchange_end(x);
}

bool grpc_accept(struct exchange *x)
{
    struct str type = exchange_header(x, "content-type");

    if (!x->http2 || x->method != HTTP_POST || !str_starts(type, STR(TYPE))) {
        exchange_respond(x, 415, "text/plain", STR("gRPC over HTTP/2 is spoken here\n"));
        return false;
    }
    if (!str_is(type, TYPE) && !str_is(type, TYPE "+proto")) {
        grpc_refuse(x, GRPC_UNIMPLEMENTED, "messages are protobuf");
        return false;
    }
    return true;
}

void grpc_stream(struct exchange *x)
{
    exchange_start(x, 200, TYPE);
}

void grpc_send(struct exchange *x, struct str message)
{
    AUTO(buf_done) struct buf b = {0};

    grpc_frame(&b, message);
    exchange_write(x, buf_str(&b));
}

/* --- client ------------------------------------------------------------------------------------------------------------------ */

struct grpc_call {
    struct http_call *call;
    int code;         /* -1: none has come */
    char *message;    /* or NULL */
    void (*done)(void *user, struct str answer, const struct error *err);
    void *user;
};

static void call_free(struct grpc_call *q)
{
    free(q->message);
    free(q);
}

static char *unescaped(struct str text)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, 4096);
    for (size_t i = 0; i < text.n; i++) {
        char hex[3] = {0}, *end = hex;
        long c = 0;

        if (text.p[i] == '%' && text.n - i > 2) {
            hex[0] = text.p[i + 1];
            hex[1] = text.p[i + 2];
            c = strtol(hex, &end, 16);
        }
        i += *end == '\0' && end != hex ? 2 : 0;
        c = *end == '\0' && end != hex ? c : (unsigned char)text.p[i];
        buf_addc(&b, c >= 0x20 && c != 0x7f ? (char)c : ' '); /* it ends in a log */
    }
    return str_dup(buf_str(&b));
}

/* The status stands behind the body, or, where there is none, in the only head. */
static void look_for_status(struct grpc_call *q, const struct http_header *headers, size_t n)
{
    AUTO(error_clear) struct error ignored = {0};
    uint64_t code;

    for (size_t i = 0; i < n; i++) {
        if (str_is(headers[i].name, "grpc-status") && parse_u64(headers[i].value, 1000, &code, &ignored)) {
            q->code = (int)code;
        } else if (str_is(headers[i].name, "grpc-message")) {
            free(q->message);
            q->message = unescaped(headers[i].value);
        }
    }
}

static void on_head(void *user, int status, const struct http_header *headers, size_t n)
{
    (void)status;
    look_for_status(user, headers, n);
}

static void on_trailers(void *user, const struct http_header *headers, size_t n)
{
    look_for_status(user, headers, n);
}

static bool judge(const struct grpc_call *q, int status, struct str body, struct str *ret, struct error *err)
{
    if (status != 200)
        return error_set(err, ERROR_UNAVAILABLE, "gRPC: HTTP status %d", status);
    if (q->code < 0)
        return error_set(err, ERROR_UNAVAILABLE, "gRPC: the answer has no status");
    if (q->code != GRPC_OK)
        return error_set(err, q->code == GRPC_UNIMPLEMENTED ? ERROR_UNSUPPORTED : ERROR_UNAVAILABLE, "gRPC status %d: %s", q->code,
                         q->message ? q->message : "no reason given");
    return grpc_message(body, ret, err);
}

static void on_done(void *user, int status, struct str body, const struct error *err)
{
    struct grpc_call *q = user;
    AUTO(error_clear) struct error why = {0};
    struct str answer = STR_NONE;

    if (err->kind != ERROR_NONE)
        q->done(q->user, STR_NONE, err);
    else if (judge(q, status, body, &answer, &why))
        q->done(q->user, answer, err);
    else
        q->done(q->user, STR_NONE, &why);
    call_free(q);
}

struct grpc_call *grpc_call(struct http_client *c, const char *path, struct str message, int64_t timeout_ns,
                            void (*done)(void *user, struct str answer, const struct error *err), void *user)
{
    const struct http_header te = {STR("te"), STR("trailers")};
    AUTO(buf_done) struct buf body = {0};
    struct grpc_call *q = NEW(struct grpc_call);

    q->code = -1;
    q->done = done;
    q->user = user;
    grpc_frame(&body, message);
    q->call = http_client_call(c, &(struct http_request){.method = HTTP_POST, .path = str_of(path), .headers = &te, .n_headers = 1,
                                                         .body = buf_str(&body), .content_type = STR(TYPE), .timeout_ns = timeout_ns,
                                                         .body_limit = ANSWER_LIMIT, .head = on_head, .trailers = on_trailers,
                                                         .done = on_done, .user = q});
    return q;
}

void grpc_cancel(struct grpc_call *call)
{
    if (!call)
        return;
    http_call_cancel(call->call);
    call_free(call);
}
