/* Frames from a hostile server: the client's end of a WebSocket after a good handshake, which is made here. */
#include "base/cleanup.h"
#include "http/client.h"
#include "http/websocket.h"

#include <assert.h>
#include <openssl/evp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct loop *loop;
static int listener = -1;
static char path[64];
static unsigned opened, failed, ended;

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

static void on_connected(struct websocket *ws)
{
    (void)ws;
    opened++;
}

static void on_failed(void *user, const struct error *err, int status, struct str body)
{
    (void)user;
    (void)status;
    (void)body;
    assert(err->kind != ERROR_NONE);
    failed++;
}

static void set_up(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    loop = loop_new_fake();
    snprintf(path, sizeof path, "/tmp/websocket-fuzz-%d", (int)getpid());
    memcpy(un.sun_path, path, strlen(path) + 1);
    unlink(path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&un, sizeof un) != 0 || listen(listener, 64) != 0)
        abort();
}

/* Answers the request that waits at fd as RFC 6455 §4.2.2 has it. */
static void shake_hands(int fd)
{
    static const char field[] = "sec-websocket-key: ";
    AUTO(buf_done) struct buf text = {0}, accept = {0};
    unsigned char digest[EVP_MAX_MD_SIZE];
    char head[4096], *key = NULL;
    unsigned n = 0;
    ssize_t got = recv(fd, head, sizeof head - 1, MSG_DONTWAIT);

    if (got > 0) {
        head[got] = '\0';
        key = strcasestr(head, field);
    }
    assert(key);
    buf_addf(&text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + sizeof field - 1);
    EVP_Digest(text.p, text.n, digest, &n, EVP_sha1(), NULL);
    buf_add_base64(&accept, digest, n);
    dprintf(fd,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
            "Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
            accept.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const struct websocket_ops ops = {on_message, NULL, on_closed};
    struct http_client_config c = {.unix_path = path};
    struct websocket_connect q = {
        .path = "/", .ops = &ops, .connected = on_connected, .failed = on_failed};
    char b[4096];
    int fd;

    if (n > 16384)
        return 0;
    if (!loop)
        set_up();
    c.loop = loop;
    opened = failed = ended = 0;
    q.client = http_client_new(&c);
    websocket_connect(&q);
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0);
    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0);
    shake_hands(fd);
    send(fd, p, n / 2, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    assert(opened == 1);
    send(fd, p + n / 2, n - n / 2, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    while (recv(fd, b, sizeof b, MSG_DONTWAIT) > 0)
        ;
    close(fd);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    http_client_free(q.client);
    loop_turn(loop, 0);
    assert(failed == 0);
    assert(ended <= 1);
    return 0;
}
