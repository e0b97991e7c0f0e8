/* A whole API server and its administrator's requests: paths, queries, selectors, continue tokens, Accept, the three patches and
 * apply, JSON, YAML and protobuf, tables. The input is a request as it goes over the wire; the first byte picks some of its
 * lines, so that the fuzzer need not find them. What was made is deleted again from time to time. */
#include "apiserver/apiserver.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "http/server.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct apiserver *api;
static struct http_server *http;
static bool is_ready;

static void handle(struct exchange *x, void *data)
{
    static char group[] = "system:masters", name[] = "admin", *masters[] = {group, NULL};
    static struct http_peer admin = {.cert_cn = name, .cert_orgs = masters};

    (void)data;
    x->peer = &admin;
    apiserver_handle(x, api);
}

static void ready(void *user, const struct error *err)
{
    (void)user;
    assert(err->kind == ERROR_NONE);
    is_ready = true;
}

static void set_up(void)
{
    AUTO(error_clear) struct error err = {0};
    static char dir[] = "/tmp/requests-fuzz-XXXXXX";
    struct apiserver_config c = {.issuer = "https://kubernetes.default.svc", .node_name = "n", .ca_cert_pem = "PEM"};
    int dirfd;

    log_setup("fuzz", LOG_ERROR, false);
    if (!mkdtemp(dir) || !file_open_dir(AT_FDCWD, dir, &dirfd, &err))
        abort();
    loop = c.loop = loop_new(NULL);
    c.store = store_open(&(struct store_config){.loop = loop, .dirfd = dirfd}, &err);
    api = c.store ? apiserver_new(&c, &err) : NULL;
    if (!api)
        abort();
    http = http_server_new(&(struct http_server_config){.loop = loop, .handle = handle});
    apiserver_bootstrap(api, ready, NULL);
    while (!is_ready)
        loop_turn(loop, SECONDS(1));
}

/* True: an answer has begun. */
static bool talk(struct str request, char *ret, size_t n)
{
    AUTO(error_clear) struct error err = {0};
    ssize_t got = -1;
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) != 0
        || !http_server_add(http, sv[0], NULL, &err))
        abort();
    if (send(sv[1], request.p, request.n, MSG_NOSIGNAL) < 0)
        abort();
    shutdown(sv[1], SHUT_WR);
    for (int i = 0; i < 3000 && got < 0; i++) {
        loop_turn(loop, MILLIS(1));
        got = recv(sv[1], ret, n - 1, MSG_DONTWAIT);
    }
    ret[got > 0 ? got : 0] = '\0';
    close(sv[1]);
    loop_turn(loop, 0);
    return got > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#define CM "/api/v1/namespaces/default/configmaps"
    static const char *const starts[] = {
        "GET /api/v1/configmaps?labelSelector=", "GET " CM "?limit=1&continue=", "GET /api/v1/pods?fieldSelector=",
        "GET /version HTTP/1.1\r\nHost: a\r\nAccept: ", "GET /apis", "GET /openapi/v3/",
    };
    static const struct {
        const char *line, *type;
    } bodies[] = {
        {"POST " CM, "application/json"},
        {"POST " CM, "application/yaml"},
        {"POST " CM, "application/vnd.kubernetes.protobuf"},
        {"PATCH " CM "/a", "application/json-patch+json"},
        {"PATCH " CM "/a", "application/merge-patch+json"},
        {"PATCH " CM "/a", "application/strategic-merge-patch+json"},
        {"PATCH " CM "/a?fieldManager=f&force=true", "application/apply-patch+yaml"},
        {"PUT " CM "/a", "application/json"},
        {"DELETE " CM "/a", "application/json"},
        {"POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All", "application/yaml"},
        {"POST /apis/rbac.authorization.k8s.io/v1/clusterroles?dryRun=All", "application/yaml"},
        {"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "application/json"},
    };
    static unsigned runs;
    AUTO(buf_done) struct buf b = {0};
    char answer[4096];
    unsigned kind;

    if (size < 2 || size > 32768)
        return 0;
    if (!loop)
        set_up();
    kind = data[0] % (ARRAY_SIZE(starts) + ARRAY_SIZE(bodies) + 3);
    data++;
    size--;
    if (kind < ARRAY_SIZE(starts)) {
        buf_adds(&b, starts[kind]);
        buf_add(&b, data, size);
        buf_adds(&b, " HTTP/1.1\r\nHost: a\r\n\r\n");
    } else if (kind < ARRAY_SIZE(starts) + ARRAY_SIZE(bodies)) {
        kind -= ARRAY_SIZE(starts);
        buf_addf(&b, "%s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", bodies[kind].line,
                 bodies[kind].type, size);
        buf_add(&b, data, size);
    } else if (kind == ARRAY_SIZE(starts) + ARRAY_SIZE(bodies)) {
        buf_add(&b, data, size);
    } else { /* the inside of a continue token, and a query of any bytes */
        buf_adds(&b, "GET " CM "?");
        if (kind % 2) {
            buf_adds(&b, "limit=1&continue=");
            buf_add_base64url(&b, data, size);
        } else {
            for (size_t i = 0; i < size; i++)
                buf_addf(&b, strchr("&=;+", data[i]) && data[i] ? "%c" : "%%%02x", data[i]);
        }
        buf_adds(&b, " HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    if (talk(buf_str(&b), answer, sizeof answer)) {
        assert(strncmp(answer, "HTTP/1.1 ", 9) == 0);
        if (strncmp(answer + 9, "500", 3) == 0) {
            fprintf(stderr, "%s\n", answer);
            abort(); /* no request is our own mistake */
        }
    }
    if (++runs % 500 == 0)
        talk(STR("DELETE " CM " HTTP/1.1\r\nHost: a\r\n\r\n"), answer, sizeof answer);
    return 0;
}
