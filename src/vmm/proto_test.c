#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/proto.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct seen { /* what the echoing server saw */
    int messages, closed;
    char why[128];
};

static void echo(struct proto_conn *c, const struct json *msg, int *fds, size_t n_fds)
{
    struct seen *s = proto_user(c);
    AUTO(arena_done) struct arena a = {0};
    int64_t id = json_i64_at(msg, "id", 0);

    s->messages++;
    if (str_is(json_str_at(msg, "call"), "silence"))
        return;
    if (str_is(json_str_at(msg, "call"), "refuse"))
        proto_send(
            c,
            json_object(&a, "id", json_new_i64(&a, id), "error",
                        json_object(&a, "kind", json_new_z(&a, error_kind_name(ERROR_CONFLICT)),
                                    "message", json_new_z(&a, "no"), NULL),
                        NULL),
            NULL, 0);
    else
        proto_send(c, json_object(&a, "id", json_new_i64(&a, id), "ok", json_copy(&a, msg), NULL),
                   fds, n_fds);
}

static void echo_closed(struct proto_conn *c, const struct error *why)
{
    struct seen *s = proto_user(c);

    s->closed++;
    snprintf(s->why, sizeof s->why, "%s", error_text(why));
}

static const struct proto_handlers echo_handlers = {echo, echo_closed};

static void raw_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void turns(struct loop *l, int n)
{
    while (n-- > 0)
        loop_turn(l, MILLIS(20));
}

static void frames_in_pieces(void **state)
{
    static const char frame[] = "\0\0\0\0{\"v\":1,\"call\":\"a\",\"id\":7}";
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    int fds[2];
    char back[256];

    (void)state;
    raw_pair(fds);
    struct proto_conn *c = proto_new(l, fds[0], &echo_handlers, &s);
    for (size_t i = 0; i < sizeof frame - 1; i++) {
        char ch = i == 0 ? (char)(sizeof frame - 1 - 4) : frame[i];

        assert_int_equal(write(fds[1], &ch, 1), 1);
        turns(l, 1);
    }
    turns(l, 2);
    assert_int_equal(s.messages, 1);
    assert_true(read(fds[1], back, sizeof back) > 20);
    proto_free(c);
    close(fds[1]);
    loop_free(l);
}

static void hostile_frames_close(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } table[] = {
        {"\0\0\0\0", 4},         /* empty */
        {"\xff\xff\xff\x7f", 4}, /* 2 GiB */
        {"\x02\0\0\0[]", 6},     /* no object */
        {"\x03\0\0\0{x}", 7},    /* no JSON */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct loop *l = loop_new(NULL);
        struct seen s = {0};
        int fds[2];

        raw_pair(fds);
        struct proto_conn *c = proto_new(l, fds[0], &echo_handlers, &s);
        assert_int_equal(write(fds[1], table[i].bytes, table[i].n), table[i].n);
        turns(l, 4);
        assert_int_equal(s.closed, 1);
        assert_int_equal(s.messages, 0);
        proto_free(c);
        close(fds[1]);
        loop_free(l);
    }
}

struct answer {
    int calls;
    enum error_kind kind;
    bool ok;
    int fd;
};

static void answered(void *user, const struct json *ok, int *fds, size_t n_fds,
                     const struct error *err)
{
    struct answer *a = user;

    a->calls++;
    a->ok = ok != NULL;
    a->kind = err ? err->kind : ERROR_NONE;
    a->fd = n_fds ? TAKE_FD(fds[0]) : -1;
}

/* A listening socket in a folder of its own, and the server's end of the one connection that comes. */
static struct proto_client *connect_client(struct loop *l, struct seen *s,
                                           struct proto_conn **ret_server, uid_t uid,
                                           struct error *err)
{
    char dir[] = "/tmp/proto-test-XXXXXX", path[108];
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct proto_client *c = NULL;
    int dirfd, listener;

    assert_non_null(mkdtemp(dir));
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s/%s", dir, SOCKET_NAME);
    snprintf(path, sizeof path, "%s", sun.sun_path);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&sun, sizeof sun), 0);
    assert_int_equal(listen(listener, 1), 0);
    dirfd = open(dir, O_RDONLY | O_DIRECTORY);
    *ret_server = NULL;
    if (proto_client_connect(l, dirfd, uid, &c, err))
        *ret_server = proto_new(l, accept(listener, NULL, NULL), &echo_handlers, s);
    close(listener);
    close(dirfd);
    unlink(path);
    rmdir(dir);
    return c;
}

static void calls_carry_descriptors(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    struct answer got = {0};
    struct proto_conn *server;
    struct proto_client *c = connect_client(l, &s, &server, geteuid(), &err);
    struct stat st1, st2;
    int fd = open("/dev/null", O_RDONLY);

    (void)state;
    assert_non_null(c);
    assert_int_equal(proto_client_pid(c), getpid());
    proto_client_call(c, "echo", json_object(&a, "x", json_new_i64(&a, 5), NULL), &fd, 1,
                      SECONDS(5), answered, &got);
    turns(l, 6);
    assert_int_equal(got.calls, 1);
    assert_true(got.ok && got.fd >= 0 && got.fd != fd);
    fstat(fd, &st1);
    fstat(got.fd, &st2);
    assert_int_equal(st1.st_ino, st2.st_ino);
    close(got.fd);
    proto_client_call(c, "refuse", NULL, NULL, 0, SECONDS(5), answered, &got);
    turns(l, 6);
    assert_int_equal(got.calls, 2);
    assert_int_equal(got.kind, ERROR_CONFLICT);
    close(fd);
    proto_client_free(c);
    proto_free(server);
    loop_free(l);
}

static void calls_end_with_time_and_connection(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    struct answer late = {0}, lost = {0}, after = {0};
    struct proto_conn *server;
    struct proto_client *c = connect_client(l, &s, &server, geteuid(), &err);

    (void)state;
    assert_non_null(c);
    proto_client_call(c, "silence", NULL, NULL, 0, MILLIS(1), answered, &late);
    proto_client_call(c, "silence", NULL, NULL, 0, SECONDS(60), answered, &lost);
    turns(l, 6);
    assert_int_equal(late.kind, ERROR_TIMEOUT);
    proto_free(server);
    turns(l, 6);
    assert_int_equal(lost.calls, 1);
    assert_int_equal(lost.kind, ERROR_UNAVAILABLE);
    proto_client_call(c, "silence", NULL, NULL, 0, SECONDS(60), answered, &after);
    assert_int_equal(after.calls, 0); /* never from inside the call */
    turns(l, 2);
    assert_int_equal(after.calls, 1);
    proto_client_free(c);
    loop_free(l);
}

static void calls_that_wait_are_told_of_a_free(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    struct answer first = {0}, second = {0};
    struct proto_conn *server;
    struct proto_client *c = connect_client(l, &s, &server, geteuid(), &err);

    (void)state;
    assert_non_null(c);
    proto_client_call(c, "silence", NULL, NULL, 0, SECONDS(60), answered, &first);
    proto_client_call(c, "silence", NULL, NULL, 0, 0, answered, &second);
    proto_client_free(c);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.kind, ERROR_UNAVAILABLE);
    proto_free(server);
    loop_free(l);
}

static void another_users_socket_is_refused(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    struct proto_conn *server;

    (void)state;
    assert_null(connect_client(l, &s, &server, geteuid() + 1, &err));
    assert_int_equal(err.kind, ERROR_FORBIDDEN);
    loop_free(l);
}

/* A launcher lives through upgrades and downgrades of its agent. */
static void both_sides_speak_the_newest_that_both_know(void **state)
{
    static const struct {
        int64_t oldest, newest, their_oldest, their_newest, common;
    } table[] = {
        {1, 1, 1, 1, 1}, {1, 2, 1, 1, 1}, {1, 1, 1, 2, 1}, {2, 3, 1, 2, 2}, {1, 2, 2, 3, 2}, {2, 3, 2, 3, 3}, {3, 4, 1, 2, 0}, {1, 2, 3, 4, 0},
    };
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new(NULL);
    struct proto_conn *server;
    struct seen s = {0};
    struct proto_client *c = connect_client(l, &s, &server, geteuid(), &err);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        assert_int_equal(proto_common(table[i].oldest, table[i].newest, table[i].their_oldest, table[i].their_newest), table[i].common);
    assert_non_null(c);
    assert_true(proto_client_agree(c, json_object(&a, NULL), &err)); /* the first launchers did not say theirs */
    assert_true(proto_client_agree(c, json_object(&a, "v", json_new_i64(&a, PROTO_VERSION + 1), "oldest", json_new_i64(&a, PROTO_VERSION), NULL),
                                   &err));
    assert_false(proto_client_agree(
        c, json_object(&a, "v", json_new_i64(&a, PROTO_VERSION + 2), "oldest", json_new_i64(&a, PROTO_VERSION + 1), NULL), &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    proto_client_free(c);
    proto_free(server);
    loop_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_in_pieces),
        cmocka_unit_test(hostile_frames_close),
        cmocka_unit_test(calls_carry_descriptors),
        cmocka_unit_test(calls_end_with_time_and_connection),
        cmocka_unit_test(calls_that_wait_are_told_of_a_free),
        cmocka_unit_test(another_users_socket_is_refused),
        cmocka_unit_test(both_sides_speak_the_newest_that_both_know),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
