/* test/api/server - the API server by itself, for clients to be tried against: store, plain HTTP and TLS on loopback.
 *
 * test-apiserver DIR PLAIN_PORT TLS_PORT [AUDIT_POLICY]: keeps its data in DIR, writes DIR/admin.kubeconfig, and notes requests
 * in DIR/audit.log if a policy is given. Port 0 is one that is free; both are printed, in one line, when they are listened on.
 * Plain HTTP is served as the local node's agent would be (no credentials), so it is only for tests. */
#include "apiserver/apiserver.h"
#include "apiserver/audit.h"
#include "apiserver/local.h"
#include "base/file.h"
#include "base/log.h"
#include "http/server.h"
#include "http/tls.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

struct server {
    struct http_server *plain, *secure;
    int draining;
    struct loop_signal term, interrupt;
    struct loop *loop;
    struct apiserver *api;
    struct http_peer admin;
};

/* Plain connections have no identity of their own: they act as the administrator. */
static void handle_plain(struct exchange *x, void *data)
{
    struct server *s = data;

    memcpy(s->admin.address, x->peer->address, sizeof s->admin.address);
    x->peer = &s->admin;
    apiserver_handle(x, s->api);
}

static void handle_tls(struct exchange *x, void *data)
{
    apiserver_handle(x, ((struct server *)data)->api);
}

static void ready(void *user, const struct error *err)
{
    struct server *s = user;

    if (err->kind != ERROR_NONE)
        log_error(NULL, "%s", error_text(err));
    apiserver_health(s->api, "bootstrap", err->kind != ERROR_NONE ? error_text(err) : NULL);
    log_info(NULL, "ready");
}

static void drained(void *data)
{
    struct server *s = data;

    if (--s->draining == 0)
        loop_quit(s->loop);
}

static void drain(struct server *s)
{
    if (s->draining)
        return;
    s->draining = 2;
    apiserver_drain(s->api);
    http_server_drain(s->plain, SECONDS(3), drained, s);
    http_server_drain(s->secure, SECONDS(3), drained, s);
}

static void on_term(struct loop_signal *sig)
{
    drain(container_of(sig, struct server, term));
}

static void on_interrupt(struct loop_signal *sig)
{
    drain(container_of(sig, struct server, interrupt));
}

static bool kubeconfig(int dirfd, const struct cert_pair *ca, const struct cert_pair *admin,
                       int port, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    buf_addf(
        &b,
        "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n"
        "    server: https://127.0.0.1:%d\n    certificate-authority-data: ",
        port);
    buf_add_base64(&b, ca->cert_pem, strlen(ca->cert_pem));
    buf_adds(&b, "\ncontexts:\n- name: test\n  context: {cluster: test, user: admin}\nusers:\n- "
                 "name: admin\n  user:\n"
                 "    client-certificate-data: ");
    buf_add_base64(&b, admin->cert_pem, strlen(admin->cert_pem));
    buf_adds(&b, "\n    client-key-data: ");
    buf_add_base64(&b, admin->key_pem, strlen(admin->key_pem));
    buf_addc(&b, '\n');
    return file_write(dirfd, "admin.kubeconfig", buf_str(&b), 0600, err);
}

static bool open_audit(const char *policy_file, int dirfd, struct audit **ret, struct error *err)
{
    AUTO(buf_done) struct buf policy = {0};
    struct audit_config c = {.log = {.dirfd = dirfd, .name = "audit.log"}};

    if (!policy_file)
        return true;
    if (!file_read(AT_FDCWD, policy_file, &policy, err))
        return false;
    c.policy = buf_str(&policy);
    return audit_new(&c, ret, err);
}

static bool listen_on(struct http_server *server, const char *port, const struct http_tls *tls,
                      int *ret_port, struct error *err)
{
    struct sockaddr_in where = {0};
    socklen_t n = sizeof where;
    char address[64];
    int fd;

    snprintf(address, sizeof address, "127.0.0.1:%s", port);
    if (!http_listen_tcp(address, &fd, err))
        return false;
    if (getsockname(fd, (struct sockaddr *)&where, &n) != 0) {
        close(fd);
        return error_errno(err, errno, "port of %s", address);
    }
    *ret_port = ntohs(where.sin_port);
    return http_server_listen(server, fd, tls, err);
}

static bool serve(const char *dir, const char *plain_port, const char *tls_port, const char *policy,
                  struct error *err)
{
    AUTO_CLOSE int dirfd = -1;
    AUTO(cert_pair_done) struct cert_pair ca = {0}, own = {0}, admin = {0};
    static char group[] = "system:masters", name[] = "admin", *masters[] = {group, NULL};
    struct server s = {.admin = {.cert_cn = name, .cert_orgs = masters}};
    int64_t now = time(NULL);
    struct cert_request server = {.common_name = "apiserver",
                                  .dns_names = (const char *const[]){"localhost", NULL},
                                  .ip_addresses = (const char *const[]){"127.0.0.1", NULL},
                                  .server = true,
                                  .now_unix_s = now,
                                  .valid_s = 86400},
                        client = {.common_name = "admin",
                                  .organizations = (const char *const *)masters,
                                  .client = true,
                                  .now_unix_s = now,
                                  .valid_s = 86400};
    struct store_config sc = {0};
    struct apiserver_config ac = {0};
    struct http_server_config hc = {0};
    struct http_server *plain, *secure;
    struct http_tls *tls;
    struct audit *audit = NULL;
    int bound[2];

    if (!file_make_dirs(AT_FDCWD, dir, 0700, &dirfd, err)
        || !cert_make_ca("test", now - 60, 86400, &ca, err) || !cert_issue(&ca, &server, &own, err)
        || !cert_issue(&ca, &client, &admin, err)
        || !file_write(dirfd, "ca.crt", str_of(ca.cert_pem), 0600, err)
        || !file_write(dirfd, "ca.key", str_of(ca.key_pem), 0600, err)) /* tests issue their own */
        return false;
    if (!open_audit(policy, dirfd, &audit, err))
        return false;
    s.loop = loop_new(NULL);
    sc = (struct store_config){.loop = s.loop, .dirfd = dirfd};
    ac = (struct apiserver_config){.loop = s.loop,
                                   .store = store_open(&sc, err),
                                   .ca_cert_pem = ca.cert_pem,
                                   .service_account_key_pem = own.key_pem,
                                   .issuer = "https://kubernetes.default.svc",
                                   .node_name = "test",
                                   .audit = audit,
                                   .anonymous_health = true};
    if (!ac.store)
        return false;
    s.api = apiserver_new(&ac, err);
    if (!s.api)
        return false;
    apiserver_health(s.api, "bootstrap", "not done yet");
    apiserver_bootstrap(s.api, ready, &s);
    tls = http_tls_new(&(struct http_tls_config){.cert_pem = own.cert_pem,
                                                 .key_pem = own.key_pem,
                                                 .ca_pem = ca.cert_pem,
                                                 .server = true},
                       err);
    if (!tls)
        return false;
    hc = (struct http_server_config){.loop = s.loop, .handle = handle_plain, .data = &s};
    plain = http_server_new(&hc);
    hc.handle = handle_tls;
    secure = http_server_new(&hc);
    if (!listen_on(plain, plain_port, NULL, &bound[0], err)
        || !listen_on(secure, tls_port, tls, &bound[1], err)
        || !kubeconfig(dirfd, &ca, &admin, bound[1], err))
        return false;
    printf("%d %d\n", bound[0], bound[1]);
    fflush(stdout);
    s.plain = plain;
    s.secure = secure;
    if (!loop_signal_start(s.loop, &s.term, SIGTERM, on_term, err)
        || !loop_signal_start(s.loop, &s.interrupt, SIGINT, on_interrupt, err))
        return false;
    loop_run(s.loop);
    apiserver_free(s.api);
    http_server_free(plain);
    http_server_free(secure);
    store_close(ac.store);
    audit_free(audit);
    http_tls_free(tls);
    loop_signal_stop(&s.term);
    loop_signal_stop(&s.interrupt);
    loop_free(s.loop);
    return true;
}

int main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};

    log_setup("test-apiserver", LOG_INFO, false);
    http_server_claim_descriptors();
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: test-apiserver DIR PLAIN_PORT TLS_PORT [AUDIT_POLICY]\n");
        return 2;
    }
    if (!serve(argv[1], argv[2], argv[3], argv[4], &err)) {
        log_error(NULL, "%s", error_text(&err));
        return 1;
    }
    return 0;
}
