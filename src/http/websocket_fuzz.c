/* Frames from a hostile peer: the server's end of a WebSocket after a good handshake. */
#include "base/cleanup.h"
#include "http/server.h"
#include "http/websocket.h"

#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct loop *loop;
static unsigned opened, ended;

static void on_message(struct websocket *ws, struct str data, bool binary)
{
    if (data.n > 0 && data.p[0] == 'p')
        websocket_pause(ws, true);
    if (data.n > 0 && data.p[0] == 'c')
        websocket_close(ws, 1000, "as asked");
    websocket_send(ws, data, binary);
}

static void on_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)ws;
    (void)reason;
    assert(code != 0);
    ended++;
}

static const struct websocket_ops ops = {on_message, NULL, on_closed};

static void handle(struct exchange *x, void *data)
{
    (void)data;
    opened += websocket_accept(x, NULL, &ops, NULL) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char head[] =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct http_server_config c = {.handle = handle};
    AUTO(error_clear) struct error err = {0};
    char b[4096];
    int sv[2];

    if (n > 16384)
        return 0;
    if (!loop)
        loop = loop_new_fake();
    c.loop = loop;
    opened = ended = 0;
    struct http_server *s = http_server_new(&c);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) != 0
        || !http_server_add(s, sv[0], NULL, &err))
        abort();
    if (send(sv[1], head, sizeof head - 1, MSG_NOSIGNAL) < 0)
        abort();
    send(sv[1], p, n / 2, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    send(sv[1], p + n / 2, n - n / 2, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    while (recv(sv[1], b, sizeof b, MSG_DONTWAIT) > 0)
        ;
    assert(opened == 1);
    http_server_free(s);
    close(sv[1]);
    loop_turn(loop, 0);
    assert(ended == opened);
    return 0;
}
