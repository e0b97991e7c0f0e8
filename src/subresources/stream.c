/* Streams through the API server: the client's WebSocket on one side, the node agent's or a TCP connection to the guest on the
 * other. Each side is paused while the other is full. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "http/pump.h"
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
        websocket_close(r->client ? r->client : r->agent, code, why ? why : "");
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
    r->client = websocket_accept(x, PROTOCOL, &relay_ops, r);
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
    if (status >= 400)
        respond_agent_refusal(x, status, body, error_text(err));
    else
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

struct dial {
    struct exchange *x;
    int fd;
    struct loop_io io;
    struct loop_timer timeout;
};

static void dial_free(struct dial *d)
{
    loop_io_stop(&d->io);
    loop_timer_stop(&d->timeout);
    fd_close(&d->fd);
    free(d);
}

static void give_up(struct dial *d, int errnum)
{
    struct exchange *x = d->x;
    const char *why = arena_printf(&x->arena, "dialing the virtual machine: %s", strerror(errnum));

    x->closed = NULL;
    dial_free(d);
    respond_refusal(x, 500, why);
}

static void on_dialed(struct loop_io *io, uint32_t events)
{
    struct dial *d = container_of(io, struct dial, io);
    struct exchange *x = d->x;
    int status = 0, fd;
    socklen_t n = sizeof status;

    (void)events;
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &status, &n) < 0)
        status = errno;
    if (status) {
        give_up(d, status);
        return;
    }
    x->closed = NULL;
    loop_io_stop(&d->io); /* before the descriptor moves on */
    fd = TAKE_FD(d->fd);
    dial_free(d);
    pump_start(x, PROTOCOL, fd);
}

static void on_dial_timeout(struct loop_timer *t)
{
    give_up(container_of(t, struct dial, timeout), ETIMEDOUT);
}

static void on_dial_gone(struct exchange *x)
{
    dial_free(x->user);
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

void stream_port(struct exchange *x, const struct json *vmi, struct str port, struct str protocol)
{
    struct str ip = json_str_at(json_item(json_at(vmi, "status/interfaces"), 0), "ipAddress");
    AUTO(error_clear) struct error err = {0};
    struct sockaddr_storage address;
    struct dial *d;
    socklen_t n;
    uint64_t number;

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
    d = NEW(struct dial);
    d->x = x;
    x->user = d;
    x->closed = on_dial_gone;
    d->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0 || (connect(d->fd, (struct sockaddr *)&address, n) < 0 && errno != EINPROGRESS)) {
        give_up(d, errno);
        return;
    }
    loop_timer_start(x->loop, &d->timeout, DIAL_NS, on_dial_timeout);
    loop_io_start(x->loop, &d->io, d->fd, EPOLLOUT, on_dialed);
}
