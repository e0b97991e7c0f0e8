#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/rest.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

/* A peer that accepts one connection, reads a request to the end of its headers (and `body` bytes more), says its text and
 * closes, or (stays) waits until the other side does. */
struct peer {
    pthread_t thread;
    char dir[64];
    int dirfd, listen_fd;
    const char *answer;
    size_t answer_n, body;
    bool stays, silent;
    char got[4096];
    size_t got_n;
    int fd_got; /* the first descriptor that came along */
    size_t n_fds;
};

static void take_fds(struct peer *p, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        int fds[8];
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
        p->fd_got = fds[0];
        for (size_t i = 1; i < n; i++)
            close(fds[i]);
        p->n_fds += n;
    }
}

static void *run(void *arg)
{
    struct peer *p = arg;
    AUTO_CLOSE int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    char *end = NULL;
    char byte;

    while (!p->silent) {
        char control[CMSG_SPACE(8 * sizeof(int))];
        struct iovec iov = {p->got + p->got_n, sizeof p->got - 1 - p->got_n};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

        if (n <= 0)
            return NULL;
        take_fds(p, &msg);
        p->got_n += (size_t)n;
        end = strstr(p->got, "\n\n");
        if (!end)
            end = strstr(p->got, "\r\n\r\n");
        if (strncmp(p->got, "CONNECT", 7) == 0 || (end && p->got_n >= (size_t)(end + 4 - p->got) + p->body))
            break;
    }
    for (size_t sent = 0; sent < p->answer_n;) { /* in two pieces */
        size_t n = sent ? p->answer_n - sent : (p->answer_n + 1) / 2;
        ssize_t done = send(fd, p->answer + sent, n, MSG_NOSIGNAL);

        if (done <= 0)
            return NULL;
        sent += (size_t)done;
    }
    if (p->stays)
        while (recv(fd, &byte, 1, 0) > 0) {
        }
    return NULL;
}

static void listen_at(struct peer *p)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    snprintf(p->dir, sizeof p->dir, "/tmp/rest-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    p->dirfd = open(p->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/api", p->dir);
    assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(p->listen_fd, 8), 0);
}

static void start(struct peer *p, const char *answer, size_t n)
{
    listen_at(p);
    p->answer = answer;
    p->answer_n = n;
    p->fd_got = -1;
    assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
}

static void gone(struct peer *p)
{
    char path[128];

    fd_close(&p->listen_fd);
    fd_close(&p->dirfd);
    fd_close(&p->fd_got);
    snprintf(path, sizeof path, "%s/api", p->dir);
    unlink(path);
    rmdir(p->dir);
}

static void stop(struct peer *p)
{
    pthread_join(p->thread, NULL);
    gone(p);
}

static struct rest api(const struct peer *p)
{
    return (struct rest){.at = p->dirfd, .name = "api", .who = "vmm"};
}

#define OK(headers, body) "HTTP/1.1 200 OK\r\n" headers "\r\n" body

struct row {
    const char *answer;
    unsigned status; /* 0: an error of this kind, whose text has these words */
    const char *words;
    enum error_kind kind;
};
static const struct row rows[] = {
    {OK("Content-Length: 8\r\n", "{\"a\": 5}"), 200, "{\"a\": 5}", ERROR_NONE},
    {OK("content-length:8\r\nServer: x\r\n", "{\"a\": 5}"), 200, "{\"a\": 5}", ERROR_NONE},
    {"HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n", 204, "", ERROR_NONE},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, "", ERROR_NONE},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", ERROR_NONE},
    {"HTTP/1.1 503\r\nContent-Length: 2\r\n\r\n{}", 503, "{}", ERROR_NONE},
    {"HTTP/1.1 500 \r\nContent-Length: 13\r\n\r\nVM not booted", 500, "VM not booted", ERROR_NONE}, /* plain text: v46 */
    {"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", 404, "", ERROR_NONE},
    {OK("Transfer-Encoding: chunked\r\n", "3\r\n{\"a\r\nA;x=y\r\n\": \"bcdef\"\r\n1\r\n}\r\n0\r\nTrailer: t\r\n\r\n"), 200,
     "{\"a\": \"bcdef\"}", ERROR_NONE},
    /* what is no answer */
    {"", 0, "without an answer", ERROR_UNAVAILABLE},
    {"HTTP/1.1 200 OK\r\nContent-Le", 0, "in the middle of its answer", ERROR_UNAVAILABLE},
    {OK("Content-Length: 8\r\n", "{\"a\""), 0, "in the middle of its answer", ERROR_UNAVAILABLE},
    {OK("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n"), 0, "in the middle of its answer", ERROR_UNAVAILABLE},
    {"HTTP/1.1 100 Continue\r\n\r\n", 0, "in the middle of its answer", ERROR_UNAVAILABLE},
    {"{\"QMP\": {}}\r\n", 0, "status line", ERROR_INTERNAL},
    {"HTTP/2 200\r\n\r\n", 0, "status line", ERROR_INTERNAL},
    {"HTTP/1.1 2000 OK\r\n\r\n", 0, "no status", ERROR_INTERNAL},
    {"HTTP/1.1 2x0 OK\r\n\r\n", 0, "no status", ERROR_INTERNAL},
    {"HTTP/1.1 101 Switching\r\n\r\n", 0, "protocol", ERROR_INTERNAL},
    {"HTTP/1.1 200 OK\n\n", 0, "CR LF", ERROR_INTERNAL},
    {OK("", "{}"), 0, "its length is not told", ERROR_INTERNAL},
    {OK("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), 0, "not clear", ERROR_INTERNAL},
    {OK("Content-Length: -1\r\n", "{}"), 0, "not clear", ERROR_INTERNAL},
    {OK("Content-Length: 99999999999999999999\r\n", "{}"), 0, "not clear", ERROR_INTERNAL},
    {OK("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 0, "told twice", ERROR_INTERNAL},
    {OK("Transfer-Encoding: gzip\r\n", ""), 0, "encoding", ERROR_INTERNAL},
    {OK("no colon\r\n", ""), 0, "no name", ERROR_INTERNAL},
    {OK("Bad Name: 1\r\n", ""), 0, "no name", ERROR_INTERNAL},
    {OK("Transfer-Encoding: chunked\r\n", "x\r\n"), 0, "no size", ERROR_INTERNAL},
    {OK("Transfer-Encoding: chunked\r\n", "2\r\n{}}\r\n"), 0, "longer than its size", ERROR_INTERNAL},
    {OK("Content-Length: 1\r\n", "{}"), 0, "more follows", ERROR_INTERNAL},
    {"HTTP/1.1 204 \r\nContent-Length: 2\r\n\r\n{}", 0, "has a body", ERROR_INTERNAL},
    {OK("Content-Length: 4194305\r\n", ""), 0, "longer than", ERROR_TOO_LARGE},
    {OK("Transfer-Encoding: chunked\r\n", "7fffffffffffffff\r\n"), 0, "longer than", ERROR_TOO_LARGE},
    {OK("Content-Length: 5\r\n", "plain"), 0, "no JSON", ERROR_INTERNAL},
};

static void check(const struct row *row, bool ok, const struct rest_answer *answer, const struct error *err)
{
    if (ok != (row->status != 0))
        fail_msg("'%s': %s", row->answer, ok ? "is accepted" : error_text(err));
    if (ok) {
        assert_int_equal(answer->status, row->status);
        if (!str_is(answer->text, row->words))
            fail_msg("'%s' gives '" STR_FMT "'", row->answer, STR_ARG(answer->text));
        return;
    }
    assert_int_equal(err->kind, row->kind);
    if (!strstr(err->msg, row->words) || !strstr(err->msg, "vmm: GET /a"))
        fail_msg("'%s': %s", row->answer, err->msg);
}

static void answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct rest_answer answer = {0};
        struct peer p = {0};

        start(&p, rows[i].answer, strlen(rows[i].answer));
        struct rest r = api(&p);
        bool ok = rest_call(&r, &(struct rest_request){.method = "GET", .path = "/a"}, &a, &answer, &err);
        check(&rows[i], ok, &answer, &err);
        stop(&p);
    }
}

struct heard {
    const struct row *row;
    int calls;
};

static void heard(void *user, const struct rest_answer *answer, struct error *err)
{
    struct heard *h = user;

    h->calls++;
    check(h->row, answer != NULL, answer, err);
}

static void answers_on_the_loop(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(error_clear) struct error err = {0};
        struct heard h = {.row = &rows[i]};
        struct peer p = {0};
        struct loop *l = loop_new(NULL);

        start(&p, rows[i].answer, strlen(rows[i].answer));
        struct rest r = api(&p);
        assert_non_null(rest_begin(l, &r, &(struct rest_request){.method = "GET", .path = "/a"}, heard, &h, &err));
        assert_int_equal(h.calls, 0);
        while (h.calls == 0)
            loop_turn(l, SECONDS(1));
        stop(&p);
        loop_free(l);
    }
}

static void request_and_descriptors(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct rest_answer answer;
    struct peer p = {.body = 13};
    struct stat ours, theirs;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    start(&p, rows[0].answer, strlen(rows[0].answer));
    struct rest r = api(&p);
    assert_true(rest_call(&r,
                          &(struct rest_request){.method = "PUT",
                                                 .path = "/vm.add-net",
                                                 .body = json_object(&a, "id", json_new_z(&a, "net0"), NULL),
                                                 .fds = fds,
                                                 .n_fds = 2},
                          &a, &answer, &err));
    assert_int_equal(json_i64_at(answer.json, "a", 0), 5);
    pthread_join(p.thread, NULL);
    assert_string_equal(p.got, "PUT /vm.add-net HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
                               "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"id\":\"net0\"}");
    assert_int_equal(p.n_fds, 2);
    fstat(fds[0], &ours);
    fstat(p.fd_got, &theirs);
    assert_int_equal(ours.st_ino, theirs.st_ino);
    gone(&p);
    close(fds[0]);
    close(fds[1]);
}

static void a_long_answer_is_cut(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct rest_answer answer;
    size_t n = LIMIT_REST_HEADERS + 100;
    AUTO_FREE char *text = xcalloc(n + 1, 1);
    struct peer p = {0};

    (void)state;
    memset(text, 'x', n);
    memcpy(text, "HTTP/1.1 200 OK\r\nA: ", 20);
    start(&p, text, n);
    struct rest r = api(&p);
    assert_false(rest_call(&r, &(struct rest_request){.method = "GET", .path = "/a"}, &a, &answer, &err));
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    stop(&p);
}

static int64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECONDS(1) + ts.tv_nsec;
}

static void timed_out(void *user, const struct rest_answer *answer, struct error *err)
{
    assert_null(answer);
    assert_int_equal(err->kind, ERROR_TIMEOUT);
    ++*(int *)user;
}

/* Neither a peer that says nothing nor one that says half an answer holds the caller beyond its deadline. */
static void silence_ends_at_the_deadline(void **state)
{
    static const char *const said[] = {"", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"};
    const struct rest_request q = {.method = "GET", .path = "/a", .timeout_ns = MILLIS(40)};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        struct rest_answer answer;
        struct peer p = {.stays = true}, again = {.stays = true};
        struct loop *l = loop_new(NULL);
        int64_t from = clock_ns();
        int calls = 0;

        start(&p, said[i], strlen(said[i]));
        struct rest r = api(&p);
        assert_false(rest_call(&r, &q, &a, &answer, &err));
        assert_int_equal(err.kind, ERROR_TIMEOUT);
        assert_true(clock_ns() - from >= MILLIS(40));
        assert_true(clock_ns() - from < SECONDS(5));
        stop(&p);

        start(&again, said[i], strlen(said[i]));
        r = api(&again);
        assert_non_null(rest_begin(l, &r, &q, timed_out, &calls, &err));
        while (calls == 0)
            loop_turn(l, SECONDS(1));
        stop(&again);
        loop_free(l);
    }
}

static void never(void *user, const struct rest_answer *answer, struct error *err)
{
    (void)user;
    (void)answer;
    (void)err;
    fail_msg("%s", "an abandoned call is heard of");
}

static void abandoned(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct peer p = {.stays = true};
    struct loop *l = loop_new(NULL);

    (void)state;
    start(&p, rows[0].answer, strlen(rows[0].answer));
    struct rest r = api(&p);
    struct rest_pending *c = rest_begin(l, &r, &(struct rest_request){.method = "GET", .path = "/a"}, never, NULL, &err);
    assert_non_null(c);
    rest_abandon(c);
    stop(&p); /* it sees the connection closed */
    loop_turn(l, 0);
    loop_free(l);
}

static void nobody_there(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct rest_answer answer;
    struct peer p = {0};
    struct loop *l = loop_new(NULL);
    int ends[2];

    (void)state;
    listen_at(&p);
    struct rest r = api(&p);
    assert_true(rest_await(&r, -1, SECONDS(1), &err));
    fd_close(&p.listen_fd); /* a socket whose owner has died */
    assert_false(rest_call(&r, &(struct rest_request){.method = "GET", .path = "/a"}, &a, &answer, &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    assert_null(rest_begin(l, &r, &(struct rest_request){.method = "GET", .path = "/a"}, never, NULL, &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    assert_false(rest_await(&r, -1, MILLIS(20), &err));
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_int_equal(pipe(ends), 0);
    close(ends[1]); /* stands for a process that has ended */
    assert_false(rest_await(&r, ends[0], SECONDS(10), &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    close(ends[0]);
    gone(&p);
    loop_free(l);
}

/* A socket can be reached by its inode alone: nothing with a name is left for anybody else to find. */
static void a_socket_without_a_name(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct rest_answer answer;
    struct peer p = {0};
    char path[128];

    (void)state;
    start(&p, rows[0].answer, strlen(rows[0].answer));
    AUTO_CLOSE int inode = openat(p.dirfd, "api", O_PATH | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/api", p.dir);
    assert_int_equal(unlink(path), 0);
    struct rest r = {.at = inode, .name = "", .who = "vmm"};
    if (!rest_call(&r, &(struct rest_request){.method = "GET", .path = "/a"}, &a, &answer, &err))
        fail_msg("%s", error_text(&err));
    stop(&p);
}

static void hybrid_vsock(void **state)
{
    static const struct {
        const char *answer, *words;
        enum error_kind kind;
    } table[] = {
        {"OK 1073741824\nhello", NULL, ERROR_NONE},
        {"", "nobody in the guest listens", ERROR_UNAVAILABLE},
        {"OK 1", "nobody in the guest listens", ERROR_UNAVAILABLE},
        {"ERR\n", "no 'OK'", ERROR_INTERNAL},
        {"OK aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "no 'OK'", ERROR_INTERNAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO(error_clear) struct error err = {0};
        AUTO_CLOSE int fd = -1;
        struct peer p = {0};
        char text[8] = "";

        start(&p, table[i].answer, strlen(table[i].answer));
        struct rest r = api(&p);
        bool ok = rest_vsock_connect(&r, 1024, SECONDS(5), &fd, &err);
        pthread_join(p.thread, NULL);
        if (table[i].words) {
            assert_false(ok);
            assert_int_equal(err.kind, table[i].kind);
            if (!strstr(err.msg, table[i].words))
                fail_msg("%s", err.msg);
        } else {
            if (!ok)
                fail_msg("%s", err.msg);
            assert_string_equal(p.got, "CONNECT 1024\n");
            assert_int_equal(recv(fd, text, sizeof text, MSG_WAITALL), 5); /* the stream begins behind the line */
            assert_string_equal(text, "hello");
        }
        gone(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(answers_on_the_loop),
        cmocka_unit_test(request_and_descriptors),
        cmocka_unit_test(a_long_answer_is_cut),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(abandoned),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(a_socket_without_a_name),
        cmocka_unit_test(hybrid_vsock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
