/* apiserver/testing - a whole API server in a test: store in a directory of its own, the client of this process, and clients over
 * HTTP for those who want them. Only for tests. */
#pragma once
#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "api/meta.h"
#include "apiserver/internal.h"
#include "apiserver/local.h"
#include "base/file.h"
#include "http/server.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct store *store;
    struct apiserver *api;
    struct http_server *http;
    struct client *c;
    char dir[64];
    int dirfd;
    bool ready;
    /* of the last call */
    bool done;
    int status;
    struct arena arena;
    const struct json *body;
    enum error_kind kind;
};
static struct world w;

static inline void world_ready(void *user, const struct error *err)
{
    (void)user;
    assert_int_equal(err->kind, ERROR_NONE);
    w.ready = true;
}

/* What a test wants of its server; 0: nothing special. */
struct world_wants {
    struct loop *loop; /* owned from then on; NULL: one of real time */
    size_t history_max;
    bool anonymous_health;
    void (*handle)(struct exchange *x, void *data); /* serves HTTP with this */
};

static inline void world_open_api(const struct world_wants *wants)
{
    struct error err = {0};
    struct apiserver_config ac = {.loop = w.loop,
                                  .store = w.store,
                                  .issuer = "https://kubernetes.default.svc",
                                  .node_name = "n1",
                                  .ca_cert_pem = "PEM",
                                  .anonymous_health = wants->anonymous_health};

    w.api = apiserver_new(&ac, &err);
    assert_non_null(w.api);
    w.c = apiserver_client(w.api, "system:test", (const char *const[]){"system:masters", NULL});
}

static inline int world_open(const struct world_wants *wants)
{
    struct error err = {0};
    struct store_config sc = {0};

    w = (struct world){.dirfd = -1};
    snprintf(w.dir, sizeof w.dir, "/tmp/vireo-apiserver-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    assert_true(file_open_dir(AT_FDCWD, w.dir, &w.dirfd, &err));
    w.loop = wants->loop ? wants->loop : loop_new(NULL);
    sc = (struct store_config){.loop = w.loop, .dirfd = w.dirfd, .history_max = wants->history_max};
    w.store = store_open(&sc, &err);
    assert_non_null(w.store);
    world_open_api(wants);
    apiserver_bootstrap(w.api, world_ready, &w);
    if (wants->handle)
        w.http =
            http_server_new(&(struct http_server_config){.loop = w.loop, .handle = wants->handle});
    while (!w.ready)
        loop_turn(w.loop, SECONDS(5));
    return 0;
}

static inline int world_setup(void **state)
{
    (void)state;
    return world_open(&(struct world_wants){0});
}

static inline int world_teardown(void **state)
{
    struct error err = {0};

    (void)state;
    client_free(w.c);
    apiserver_free(w.api);
    http_server_free(
        w.http); /* after it, as in a program: exchanges still hold seats, lists are on their way */
    store_close(w.store);
    loop_free(w.loop);
    arena_done(&w.arena);
    fd_close(&w.dirfd);
    assert_true(file_remove_tree(AT_FDCWD, w.dir, &err));
    return 0;
}

/* The client's end of a new connection. */
static inline int world_connect(void)
{
    AUTO(error_clear) struct error err = {0};
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
    if (!http_server_add(w.http, sv[0], NULL, &err))
        fail_msg("%s", error_text(&err));
    return sv[1];
}

static inline void world_answered(void *user, const struct client_response *r)
{
    (void)user;
    w.done = true;
    w.status = r->status;
    w.kind = r->err->kind;
    w.body = r->body ? json_copy(&w.arena, r->body) : NULL;
}

/* Waits for the answer; its code. */
static inline int call(enum client_verb verb, const char *group, const char *plural,
                       const char *name, const char *sub, const char *body)
{
    struct error err = {0};
    struct client_request q = {
        .verb = verb,
        .group = group,
        .version = "v1",
        .plural = plural,
        .ns = STR("default"),
        .name = str_of(name),
        .subresource = sub,
    };

    arena_clear(&w.arena);
    if (body)
        assert_true(json_parse(str_of(body), &w.arena, &q.body, &err));
    w.done = false;
    client_call(w.c, &q, world_answered, NULL);
    assert_false(w.done); /* never from within the call */
    while (!w.done)
        loop_turn(w.loop, SECONDS(5));
    return w.status;
}

static inline void settle(int64_t ns)
{
    int64_t until = loop_now_ns(w.loop) + ns;

    while (loop_now_ns(w.loop) < until)
        loop_turn(w.loop, until - loop_now_ns(w.loop));
}
