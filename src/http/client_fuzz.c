/* A client against a server that answers with arbitrary bytes: HTTP/1.1, HTTP/2 by prior knowledge, WebSocket. */
#include "base/cleanup.h"
#include "http/client.h"
#include "http/websocket.h"

#include <assert.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct loop *loop;
static int listener = -1;
static char path[64];
static unsigned done;

static void on_done(void *user, int status, struct str body, const struct error *err)
{
    (void)user;
    (void)body;
    assert(err->kind != ERROR_NONE || (status >= 200 && status <= 999));
    done++;
}

static void on_data(void *user, struct str data)
{
    (void)user;
    assert(data.n > 0);
}

static void set_up(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    loop = loop_new_fake();
    snprintf(path, sizeof path, "/tmp/http-client-fuzz-%d", (int)getpid());
    memcpy(un.sun_path, path, strlen(path) + 1);
    unlink(path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&un, sizeof un) != 0 || listen(listener, 64) != 0)
        abort();
}

static void talk(const uint8_t *p, size_t n, int fds[static 8], size_t *n_fds)
{
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0);
    for (int fd;
         *n_fds < 8 && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        fds[(*n_fds)++] = fd;
        send(fd, p, n / 2, MSG_NOSIGNAL);
        loop_turn(loop, 0);
        send(fd, p + n / 2, n - n / 2, MSG_NOSIGNAL);
    }
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct http_client_config c = {.unix_path = path};
    struct http_request q = {.path = STR("/a"), .done = on_done, .body_limit = 1000};
    int fds[8];
    size_t n_fds = 0;

    if (n < 1 || n > 16384)
        return 0;
    if (!loop)
        set_up();
    c.loop = loop;
    c.http1_only = p[0] & 1;
    done = 0;
    struct http_client *client = http_client_new(&c);
    http_client_call(client, &q);
    q.method = HTTP_POST;
    q.body = STR("body");
    q.stream = true;
    q.data = on_data;
    http_client_call(client, &q);
    talk(p + 1, n - 1, fds, &n_fds);
    talk(p + 1, n - 1, fds, &n_fds);
    for (size_t i = 0; i < n_fds; i++)
        close(fds[i]);
    if (p[0] & 2)
        loop_fake_advance(loop, SECONDS(100));
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0);
    http_client_free(client);
    assert(done == 2);
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
        close(fd);
    loop_turn(loop, 0);
    return 0;
}
