/* A whole server against arbitrary bytes: HTTP/1.1 and HTTP/2 by preface. The first byte of the input asks for the
 * preface, so that the fuzzer need not find it; some handlers answer at once, some later, some stream. */
#include "base/cleanup.h"
#include "http/server.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct loop *loop;
static struct exchange *held[64];
static size_t n_held;

static void forget(struct exchange *x)
{
    for (size_t i = 0; i < n_held; i++)
        if (held[i] == x)
            held[i] = NULL;
}

static void handle(struct exchange *x, void *data)
{
    struct str name, value;

    (void)data;
    for (size_t at = 0; exchange_query_next(x, &at, &name, &value);)
        exchange_add_header(x, "x-query", value);
    if (x->path.n > 1 && x->path.p[1] == 's' && n_held < ARRAY_SIZE(held)) {
        x->closed = forget;
        exchange_start(x, 200, "text/plain");
        exchange_write(x, x->target);
        held[n_held++] = x;
    } else if (x->path.n > 1 && x->path.p[1] == 'h' && n_held < ARRAY_SIZE(held)) {
        x->closed = forget;
        held[n_held++] = x;
    } else if (x->path.n > 1 && x->path.p[1] == 'a') {
        exchange_abort(x);
    } else {
        exchange_respond(x, 200, "application/json", x->body);
    }
}

static void drain(int fd)
{
    char b[4096];
    while (recv(fd, b, sizeof b, MSG_DONTWAIT) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct http_server_config c = {.handle = handle, .body_limit = 1000};
    AUTO(error_clear) struct error err = {0};
    int sv[2];

    if (n < 2 || n > 16384)
        return 0;
    if (!loop)
        loop = loop_new_fake();
    c.loop = loop;
    n_held = 0;
    struct http_server *s = http_server_new(&c);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) != 0)
        abort();
    if (!http_server_add(s, sv[0], NULL, &err))
        abort();
    if ((p[0] & 1) && send(sv[1], preface, sizeof preface - 1, MSG_NOSIGNAL) < 0)
        abort();
    size_t half = p[0] & 2 ? n / 2 : n;
    send(sv[1], p + 1, half - 1, MSG_NOSIGNAL);
    for (int i = 0; i < 6; i++)
        loop_turn(loop, 0);
    drain(sv[1]);
    send(sv[1], p + half, n - half, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    for (size_t i = 0; i < n_held; i++) {
        if (held[i] && (p[0] & 4)) {
            struct exchange *x = held[i];
            held[i] = NULL;
            if (x->path.p[1] == 's')
                exchange_end(x);
            else
                exchange_respond(x, 404, NULL, STR("x"));
        }
    }
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    if (p[0] & 8)
        loop_fake_advance(loop, SECONDS(400));
    drain(sv[1]);
    close(sv[1]);
    if (p[0] & 16)
        loop_turn(loop, 0);
    http_server_free(s);
    loop_turn(loop, 0);
    return 0;
}
