/* A role whose API server is its own server: what it says as a client is seen there. */
#include "base/base_test.h"
#include "cmd/role.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "http/client.h"
#include "http/tls.h"

struct world {
    char dir[32], address[32], kubeconfig[64], ca[64];
    unsigned port;
    struct cert_pair authority;
    struct role role;
    char *authorization, *path, *peer; /* of the last request */
    int status;
    char *answer;
    bool answered;
};
static struct world w;

static void put(const char *name, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    char path[64];

    snprintf(path, sizeof path, "%s/%s", w.dir, name);
    assert_true(file_write(AT_FDCWD, path, str_of(text), 0600, &err));
}

static void issue(const char *cert, const char *key)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(cert_pair_done) struct cert_pair p = {0};
    const char *const ips[] = {"127.0.0.1", NULL};

    assert_true(cert_issue(&w.authority,
                           &(struct cert_request){.common_name = "role", .ip_addresses = ips, .server = true, .client = true,
                                                  .now_unix_s = time(NULL), .valid_s = 3600},
                           &p, &err));
    put(cert, p.cert_pem);
    put(key, p.key_pem);
}

static unsigned free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    return ntohs(a.sin_port);
}

static int setup(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};

    (void)state;
    w = (struct world){.dir = "/tmp/role-XXXXXX", .port = free_port()};
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.address, sizeof w.address, "127.0.0.1:%u", w.port);
    snprintf(w.kubeconfig, sizeof w.kubeconfig, "%s/kubeconfig", w.dir);
    snprintf(w.ca, sizeof w.ca, "%s/ca", w.dir);
    assert_true(cert_make_ca("authority", time(NULL), 3600, &w.authority, &err));
    put("ca", w.authority.cert_pem);
    put("token", "first\n");
    issue("tls.crt", "tls.key");
    buf_addf(&text, "{\"clusters\": [{\"name\": \"c\", \"cluster\": {\"server\": \"https://%s/behind/it\", "
                    "\"certificate-authority\": \"ca\"}}], \"users\": [{\"name\": \"u\", \"user\": {\"tokenFile\": \"token\"}}], "
                    "\"contexts\": [{\"name\": \"x\", \"context\": {\"cluster\": \"c\", \"user\": \"u\"}}], "
                    "\"current-context\": \"x\"}", w.address);
    put("kubeconfig", text.p);
    return 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    role_close(&w.role);
    cert_pair_done(&w.authority);
    free(w.authorization);
    free(w.path);
    free(w.peer);
    free(w.answer);
    assert_true(file_remove_tree(AT_FDCWD, w.dir, &err));
    return 0;
}

static void handle(struct exchange *x, void *data)
{
    struct str token = exchange_header(x, "authorization");

    (void)data;
    free(w.authorization);
    free(w.path);
    free(w.peer);
    w.authorization = token.p ? str_dup(token) : NULL;
    w.path = str_dup(x->path);
    w.peer = x->peer->cert_cn ? xstrdup(x->peer->cert_cn) : NULL;
    exchange_respond(x, 200, "application/json", STR("{}"));
}

static void metrics(void *data, struct buf *b)
{
    (void)data;
    buf_adds(b, "own 1\n");
}

static void open_role(void)
{
    AUTO(error_clear) struct error err = {0};
    const struct role_flags f = {.kubeconfig = w.kubeconfig, .ns = "kubevirt", .listen = w.address, .tls_dir = w.dir, .ca = w.ca};

    if (!role_open(&w.role, &f, "test", &err)
        || !role_serve(&w.role, &(struct role_server){.handle = handle, .metrics = metrics, .trust_ca = true}, &err))
        fail_msg("%s", error_text(&err));
}

static void on_answer(void *user, int status, struct str body, const struct error *err)
{
    (void)user;
    w.status = err->kind == ERROR_NONE ? status : -1;
    free(w.answer);
    w.answer = str_dup(err->kind == ERROR_NONE ? body : str_of(error_text(err)));
    w.answered = true;
}

static void get(struct http_client *c, const char *path)
{
    w.answered = false;
    http_client_call(c, &(struct http_request){.method = HTTP_GET, .path = str_of(path), .timeout_ns = SECONDS(20), .done = on_answer});
    for (int i = 0; i < 2000 && !w.answered; i++)
        loop_turn(w.role.loop, MILLIS(20));
    assert_true(w.answered);
}

static void on_got(void *user, const struct client_response *r)
{
    (void)user;
    w.status = r->status;
    w.answered = true;
}

static void ask_api(void)
{
    w.answered = false;
    client_call(w.role.client,
                &(struct client_request){.verb = CLIENT_GET, .group = "", .version = "v1", .plural = "nodes", .name = STR("n")}, on_got,
                NULL);
    for (int i = 0; i < 2000 && !w.answered; i++)
        loop_turn(w.role.loop, MILLIS(20));
    assert_true(w.answered);
}

static void the_token_file_and_the_servers_path_are_followed(void **state)
{
    (void)state;
    open_role();
    ask_api();
    assert_int_equal(w.status, 200);
    assert_string_equal(w.path, "/behind/it/api/v1/nodes/n");
    assert_string_equal(w.authorization, "Bearer first");
    put("token", "second\n");
    ask_api();
    assert_string_equal(w.authorization, "Bearer first");
    w.role.account.again.fn(&w.role.account.again);
    ask_api();
    assert_string_equal(w.authorization, "Bearer second");
    put("token", "");
    w.role.account.again.fn(&w.role.account.again);
    ask_api();
    assert_string_equal(w.authorization, "Bearer second");
}

static struct http_client *visitor(bool with_cert)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf cert = {0}, key = {0};
    char path[64];
    struct http_client *c;
    struct http_tls *tls;

    snprintf(path, sizeof path, "%s/tls.crt", w.dir);
    assert_true(file_read(AT_FDCWD, path, &cert, &err));
    snprintf(path, sizeof path, "%s/tls.key", w.dir);
    assert_true(file_read(AT_FDCWD, path, &key, &err));
    tls = http_tls_new(&(struct http_tls_config){.ca_pem = w.authority.cert_pem, .cert_pem = with_cert ? cert.p : NULL,
                                                 .key_pem = with_cert ? key.p : NULL},
                       &err);
    assert_non_null(tls);
    c = http_client_new(&(struct http_client_config){.loop = w.role.loop, .host = "127.0.0.1",
                                                     .port = w.port, .tls = tls});
    http_tls_free(tls);
    return c;
}

static void health_and_metrics_are_served(void **state)
{
    struct http_client *c;

    (void)state;
    open_role();
    c = visitor(false);
    get(c, "/healthz");
    assert_int_equal(w.status, 200);
    get(c, "/readyz");
    assert_int_equal(w.status, 200);
    role_health(&w.role, "informers", "not synced");
    get(c, "/readyz");
    assert_int_equal(w.status, 503);
    assert_string_equal(w.answer, "[-]informers: not synced\n");
    get(c, "/livez");
    assert_int_equal(w.status, 200);
    role_health(&w.role, "informers", NULL);
    get(c, "/readyz");
    assert_int_equal(w.status, 200);
    get(c, "/metrics");
    assert_non_null(strstr(w.answer, "\nown 1\n"));
    assert_non_null(strstr(w.answer, "\nprocess_resident_memory_bytes "));
    http_client_free(c);
}

static void who_calls_is_told_by_its_certificate(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(cert_pair_done) struct cert_pair other = {0};
    struct http_client *c;

    (void)state;
    open_role();
    c = visitor(true);
    get(c, "/whatever");
    assert_int_equal(w.status, 200);
    assert_string_equal(w.peer, "role");
    http_client_free(c);
    /* Another authority is trusted from now on. */
    assert_true(cert_make_ca("other", time(NULL), 3600, &other, &err));
    assert_true(role_trust(&w.role, other.cert_pem, &err));
    c = visitor(true);
    get(c, "/whatever");
    assert_null(w.peer);
    assert_false(role_trust(&w.role, "nonsense", &err));
    http_client_free(c);
}

static void a_renewed_certificate_is_served(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct http_client *c;

    (void)state;
    open_role();
    cert_pair_done(&w.authority);
    assert_true(cert_make_ca("the next", time(NULL), 3600, &w.authority, &err));
    issue("tls.crt", "tls.key");
    c = visitor(false);
    get(c, "/healthz");
    assert_int_equal(w.status, -1); /* still of the old authority */
    http_client_free(c);
    for (time_t end = time(NULL) + 30; w.status != 200 && time(NULL) < end;) {
        loop_turn(w.role.loop, MILLIS(200));
        c = visitor(false);
        get(c, "/healthz");
        http_client_free(c);
    }
    assert_int_equal(w.status, 200);
}

static void options_are_read(void **state)
{
    const char *image = NULL;
    bool loud = false;
    const struct role_option own[] = {{.name = "image", .text = &image}, {.name = "loud", .flag = &loud}, {0}};
    /* getopt_long() may change the order of what it is given, not the texts. */
    static char x[] = "x", flag[] = "--image", i[] = "i", ns[] = "--namespace=here", switch_[] = "--loud", debug[] = "--debug",
                what[] = "--what", more[] = "more", nothing[] = "--namespace=";
    char *good[] = {x, flag, i, ns, switch_, debug, NULL}, *unknown[] = {x, what, NULL}, *left[] = {x, more, NULL},
         *empty[] = {x, nothing, NULL};
    struct role_flags f;

    (void)state;
    assert_true(role_parse(6, good, &f, own));
    assert_string_equal(image, "i");
    assert_string_equal(f.ns, "here");
    assert_true(loud && f.debug && !f.json);
    assert_false(role_parse(2, unknown, &f, own));
    assert_false(role_parse(2, left, &f, NULL));
    assert_false(role_parse(2, empty, &f, NULL));
}

static void outside_of_a_cluster_it_says_what_is_missing(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    unsetenv("KUBECONFIG");
    unsetenv("KUBERNETES_SERVICE_HOST");
    assert_false(role_open(&w.role, &(struct role_flags){.ns = "kubevirt"}, "test", &err));
    assert_non_null(strstr(error_text(&err), "--kubeconfig"));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {T(the_token_file_and_the_servers_path_are_followed), T(health_and_metrics_are_served),
                                       T(who_calls_is_told_by_its_certificate), T(a_renewed_certificate_is_served),
                                       T(options_are_read), T(outside_of_a_cluster_it_says_what_is_missing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
