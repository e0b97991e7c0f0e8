/* What the API server asks of this node: streams to consoles and screens, and one-shot actions on running machines. */
#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "handler/internal.h"
#include "http/pump.h"

#define PREFIX      "/v1/namespaces/"
#define ASK_TIMEOUT SECONDS(10)

static void answer_error(struct exchange *x, const struct error *err)
{
    AUTO(buf_done) struct buf text = {0};

    json_write(&text, status_of(&x->arena, err, NULL));
    exchange_respond(x, status_code(err->kind), "application/json", buf_str(&text));
}

/* --- a stream: a WebSocket here, a descriptor from the launcher ------------------------------------------------------------- */

struct ask {
    struct exchange *x; /* NULL: the client went away meanwhile */
};

static void on_ask_gone(struct exchange *x)
{
    ((struct ask *)x->user)->x = NULL;
}

/* The exchange that is to be answered, or NULL; the question is done with. */
static struct exchange *ask_end(struct ask *q)
{
    struct exchange *x = q->x;

    if (x)
        x->closed = NULL;
    free(q);
    return x;
}

static void ask(struct vm *v, struct exchange *x, const char *call, const struct json *params, proto_done_fn done)
{
    struct ask *q = NEW(struct ask);

    q->x = x;
    x->user = q;
    x->closed = on_ask_gone;
    proto_client_call(v->launcher, call, params, NULL, 0, ASK_TIMEOUT, done, q);
}

static void on_stream_fd(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct exchange *x = ask_end(user);
    AUTO(error_clear) struct error e = {0};

    (void)ok;
    if (!x)
        return;
    if (err->kind != ERROR_NONE)
        answer_error(x, err);
    else if (n_fds != 1)
        answer_error(x, (error_set(&e, ERROR_INTERNAL, "the launcher sent no stream"), &e));
    else if (!file_set_nonblock(fds[0], &e))
        answer_error(x, &e);
    else
        pump_start(x, "plain.kubevirt.io", TAKE_FD(fds[0]));
}

/* --- one question, one answer ------------------------------------------------------------------------------------------------ */

static void on_answer(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct exchange *x = ask_end(user);
    AUTO(buf_done) struct buf text = {0};

    (void)fds;
    (void)n_fds;
    if (!x)
        return;
    if (err->kind != ERROR_NONE) {
        answer_error(x, err);
        return;
    }
    json_write(&text, ok);
    exchange_respond(x, 200, "application/json", buf_str(&text));
}

/* Path segment → method and launcher call. */
static const struct {
    const char *name;
    enum http_method method;
    const char *call;
    bool stream;
} actions[] = {
    {"console", HTTP_GET, "console", true},
    {"vnc", HTTP_GET, "vnc", true},
    {"vsock", HTTP_GET, "vsock", true},
    {"pause", HTTP_PUT, "pause", false},
    {"unpause", HTTP_PUT, "unpause", false},
    {"reset", HTTP_PUT, "reset", false},
    {"softreboot", HTTP_PUT, "soft-reboot", false},
    {"guestosinfo", HTTP_GET, "guest-info", false},
    {"userlist", HTTP_GET, "guest-info", false},
    {"filesystemlist", HTTP_GET, "guest-info", false},
    {"stats", HTTP_GET, "stats", false},
};

/* What the launcher has to know to open a stream. A port that is no number stays a text, which it refuses. */
static const struct json *stream_params(struct exchange *x, struct str action)
{
    AUTO(error_clear) struct error ignored = {0};
    struct str port = exchange_query(x, "port");
    uint64_t n;

    if (!str_is(action, "vsock"))
        return json_object(&x->arena, "port", json_new_z(&x->arena, "serial0"), NULL);
    if (parse_u64(port, UINT32_MAX, &n, &ignored))
        return json_object(&x->arena, "port", json_new_i64(&x->arena, (int64_t)n), NULL);
    return json_object(&x->arena, "port", json_new_str(&x->arena, port.p ? port : STR("")), NULL);
}

bool handler_trusts(const struct http_peer *peer, int64_t now_unix_ns)
{
    return peer->tls && peer->cert_cn && strcmp(peer->cert_cn, HANDLER_CLIENT) == 0
           && peer->cert_until_unix_s > now_unix_ns / SECONDS(1);
}

void handler_serve(struct handler *h, struct exchange *x)
{
    AUTO(error_clear) struct error err = {0};

    if (!handler_trusts(x->peer, loop_unix_ns(h->loop)))
        error_set(&err, ERROR_FORBIDDEN, "only virt-api is served: a client certificate of this installation with the name " HANDLER_CLIENT);
    else if (!handler_http(h, x))
        error_set(&err, ERROR_NOT_FOUND, "the server could not find the requested resource");
    if (err.kind != ERROR_NONE)
        answer_error(x, &err);
}

bool handler_http(struct handler *h, struct exchange *x)
{
    struct str rest, ns, kind, name, action;
    AUTO(error_clear) struct error err = {0};
    struct vm *v;

    if (!str_starts(x->path, STR(PREFIX)))
        return false;
    rest = str_skip(x->path, sizeof PREFIX - 1);
    if (!str_next(&rest, '/', &ns) || !str_next(&rest, '/', &kind) || !str_is(kind, "virtualmachineinstances")
        || !str_next(&rest, '/', &name) || !str_next(&rest, '/', &action))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (!str_is(action, actions[i].name) || x->method != actions[i].method)
            continue;
        v = vm_find(h, ns, name);
        if (!v || !v->launcher || v->stage != VM_LIVE) {
            error_set(&err, v ? ERROR_UNAVAILABLE : ERROR_NOT_FOUND, "VMI " STR_FMT "/" STR_FMT " %s on node %s", STR_ARG(ns),
                      STR_ARG(name), v ? "is not connected yet" : "does not run", h->node_name);
            answer_error(x, &err);
        } else if (actions[i].stream) {
            ask(v, x, actions[i].call, stream_params(x, action), on_stream_fd);
        } else {
            ask(v, x, actions[i].call, NULL, on_answer);
        }
        return true;
    }
    return false;
}
