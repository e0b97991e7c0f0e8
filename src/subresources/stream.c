/* Streams through the API server: the client's WebSocket on one side, the node agent's or a TCP connection to the guest on the
 * other. Each side is paused while the other is full, so a slow reader costs one buffer and no more. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "http/websocket.h"
#include "subresources/internal.h"

#define PROTOCOL "plain.kubevirt.io"
#define FULL     (256u << 10)
#define DIAL_NS  SECONDS(10)

/* --- to the node agent ------------------------------------------------------------------------------------------------------ */

struct relay {
    struct exchange *x;            /* until the client's side is accepted */
    struct websocket *client, *agent;
};

static void relay_message(struct websocket *ws, struct str data, bool binary)
{
    struct relay *r = websocket_user(ws);
    struct websocket *other = ws == r->client ? r->agent : r->client;

    if (other && websocket_send(other, data, binary) >= FULL)
        websocket_pause(ws, true);
}

static void relay_writable(struct websocket *ws)
{
    struct relay *r = websocket_user(ws);
    struct websocket *other = ws == r->client ? r->agent : r->client;

    if (other)
        websocket_pause(other, false);
}

static void relay_closed(struct websocket *ws, unsigned code, struct str reason)
{
    struct relay *r = websocket_user(ws);
    AUTO_FREE char *why = str_dup(reason);

    if (ws == r->client)
        r->client = NULL;
    else
        r->agent = NULL;
    if (r->client || r->agent) {
        websocket_close(r->client ? r->client : r->agent, code == 1006 ? 1001 : code, why ? why : "");
        return;
    }
    if (!r->x)
        free(r);
}

static const struct websocket_ops relay_ops = {.message = relay_message, .writable = relay_writable, .closed = relay_closed};

static void relay_connected(struct websocket *ws)
{
    struct relay *r = websocket_user(ws);
    struct exchange *x = r->x;

    r->agent = ws;
    if (!x) { /* the client did not wait */
        websocket_close(ws, 1001, "the client went away");
        return;
    }
    x->closed = NULL;
    r->x = NULL;
    r->client = websocket_accept(x, websocket_offers(x, PROTOCOL) ? PROTOCOL : NULL, &relay_ops, r);
    if (!r->client)
        websocket_close(ws, 1001, "the client cannot be served");
}

static void relay_failed(void *user, const struct error *err, int status, struct str body)
{
    struct relay *r = user;
    struct exchange *x = r->x;

    free(r);
    if (!x)
        return;
    x->closed = NULL;
    if (status >= 400) {
        const struct json *answer;
        AUTO(error_clear) struct error ignored = {0};

        if (!json_parse(body, &x->arena, &answer, &ignored))
            answer = NULL;
        respond_refusal(x, status == 404 ? 404 : 500,
                      json_str_at(answer, "message").n ? arena_strdup(&x->arena, json_str_at(answer, "message")) : error_text(err));
        return;
    }
    apiserver_respond_error(x, err);
}

static void relay_gone(struct exchange *x)
{
    ((struct relay *)x->user)->x = NULL;
}

static bool wants_websocket(struct exchange *x)
{
    if (x->wants_upgrade && str_eq_nocase(exchange_header(x, "upgrade"), STR("websocket")))
        return true;
    respond_refusal(x, 400, "this is a stream: connect by WebSocket (virtctl does)");
    return false;
}

void stream_agent(struct subresources *s, struct exchange *x, const struct json *vmi, const char *action)
{
    static const char *const protocols[] = {PROTOCOL, NULL};
    struct http_client *agent = s->config.agent(s->config.agent_data, json_str_at(vmi, "status/nodeName"));
    struct relay *r;

    if (!agent) {
        respond_refusal(x, 503, "the virtual machine's node has no agent that can be reached");
        return;
    }
    if (!wants_websocket(x))
        return;
    r = NEW(struct relay);
    r->x = x;
    x->user = r;
    x->closed = relay_gone;
    websocket_connect(&(struct websocket_connect){
        .client = agent,
        .path = arena_printf(&x->arena, "/v1/namespaces/" STR_FMT "/virtualmachineinstances/" STR_FMT "/%s",
                             STR_ARG(json_str_at(vmi, "metadata/namespace")), STR_ARG(json_str_at(vmi, "metadata/name")), action),
        .subprotocols = protocols, .ops = &relay_ops, .user = r, .connected = relay_connected, .failed = relay_failed});
}

/* --- to a TCP port of the guest ---------------------------------------------------------------------------------------------------- */

struct forward {
    struct exchange *x; /* until connected */
    struct websocket *ws;
    struct loop *loop;
    int fd;
    struct loop_io io;
    struct loop_timer timeout;
    struct buf out;
    bool paused;
};

static void forward_free(struct forward *f)
{
    loop_io_stop(&f->io);
    loop_timer_stop(&f->timeout);
    fd_close(&f->fd);
    buf_done(&f->out);
    free(f);
}

static void forward_events(struct forward *f)
{
    loop_io_events(&f->io, (f->paused ? EPOLLRDHUP : EPOLLIN) | (f->out.n ? EPOLLOUT : 0u));
}

static void forward_flush(struct forward *f)
{
    while (f->out.n) {
        ssize_t n = send(f->fd, f->out.p, f->out.n, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_consume(&f->out, (size_t)n);
    }
    if (f->out.n < FULL)
        websocket_pause(f->ws, false);
}

static void on_data(struct loop_io *io, uint32_t events)
{
    struct forward *f = container_of(io, struct forward, io);
    char data[32 << 10];
    ssize_t n;

    if (events & EPOLLOUT)
        forward_flush(f);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        n = recv(f->fd, data, sizeof data, 0);
        if (n > 0) {
            f->paused = websocket_send(f->ws, str_n(data, (size_t)n), true) >= FULL;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            loop_io_stop(&f->io);
            websocket_close(f->ws, 1000, "");
            return;
        }
    }
    forward_events(f);
}

static void forward_message(struct websocket *ws, struct str data, bool binary)
{
    struct forward *f = websocket_user(ws);

    (void)binary;
    if (!f->io.loop)
        return;
    buf_addstr(&f->out, data);
    forward_flush(f);
    if (f->out.n >= FULL)
        websocket_pause(ws, true);
    forward_events(f);
}

static void forward_writable(struct websocket *ws)
{
    struct forward *f = websocket_user(ws);

    f->paused = false;
    if (f->io.loop)
        forward_events(f);
}

static void forward_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)code;
    (void)reason;
    forward_free(websocket_user(ws));
}

static const struct websocket_ops forward_ops = {.message = forward_message, .writable = forward_writable, .closed = forward_closed};

static void give_up(struct forward *f, int errnum)
{
    struct exchange *x = f->x;
    const char *why = arena_printf(&x->arena, "dialing the virtual machine: %s", strerror(errnum));

    x->closed = NULL;
    forward_free(f);
    respond_refusal(x, 500, why);
}

static void on_dialed(struct loop_io *io, uint32_t events)
{
    struct forward *f = container_of(io, struct forward, io);
    struct exchange *x = f->x;
    int status = 0;
    socklen_t n = sizeof status;

    (void)events;
    if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &status, &n) < 0)
        status = errno;
    if (status) {
        give_up(f, status);
        return;
    }
    loop_timer_stop(&f->timeout);
    loop_io_stop(&f->io);
    x->closed = NULL;
    f->x = NULL;
    f->ws = websocket_accept(x, websocket_offers(x, PROTOCOL) ? PROTOCOL : NULL, &forward_ops, f);
    if (!f->ws) {
        forward_free(f);
        return;
    }
    loop_io_start(f->loop, &f->io, f->fd, EPOLLIN, on_data);
}

static void on_dial_timeout(struct loop_timer *t)
{
    give_up(container_of(t, struct forward, timeout), ETIMEDOUT);
}

static void on_dial_gone(struct exchange *x)
{
    forward_free(x->user);
}

static bool address_of(struct str ip, unsigned port, struct sockaddr_storage *ret, socklen_t *ret_n)
{
    AUTO_FREE char *text = str_dup(ip);
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof *ret);
    if (text && inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *ret_n = sizeof *v4;
        return true;
    }
    if (text && inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *ret_n = sizeof *v6;
        return true;
    }
    return false;
}

void stream_port(struct subresources *s, struct exchange *x, const struct json *vmi, struct str port, struct str protocol)
{
    struct str ip = json_str_at(json_item(json_at(vmi, "status/interfaces"), 0), "ipAddress");
    AUTO(error_clear) struct error err = {0};
    struct sockaddr_storage address;
    struct forward *f;
    socklen_t n;
    uint64_t number;

    (void)s;
    if (!parse_u64(port, 65535, &number, &err) || number == 0) {
        respond_refusal(x, 400, "the port must be a number from 1 to 65535");
        return;
    }
    if (protocol.n && !str_eq_nocase(protocol, STR("tcp"))) {
        respond_refusal(x, 400, "only tcp ports are forwarded");
        return;
    }
    if (!wants_websocket(x))
        return;
    if (!address_of(ip, (unsigned)number, &address, &n)) {
        respond_refusal(x, 400, "the virtual machine has no address yet");
        return;
    }
    f = NEW(struct forward);
    f->x = x;
    f->loop = x->loop;
    buf_init(&f->out, FULL + 2 * LIMIT_WS_FRAME);
    x->user = f;
    x->closed = on_dial_gone;
    f->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (f->fd < 0 || (connect(f->fd, (struct sockaddr *)&address, n) < 0 && errno != EINPROGRESS)) {
        give_up(f, errno);
        return;
    }
    loop_timer_start(f->loop, &f->timeout, DIAL_NS, on_dial_timeout);
    loop_io_start(f->loop, &f->io, f->fd, EPOLLOUT, on_dialed);
}
