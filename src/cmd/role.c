#include "cmd/role.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thrift.h"
#include "http/client.h"
#include "http/server.h"
#include "http/tls.h"

#define ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"
#define ACCOUNT_AGAIN SECONDS(60)
#define FILE_LIMIT (1u << 20)

/* --- options -------------------------------------------------------------------------------------------------------------- */

bool role_parse(int argc, char **argv, struct role_flags *f, const struct role_option *own)
{
    const struct role_option common[] = {{.name = "kubeconfig", .text = &f->kubeconfig},
                                         {.name = "namespace", .text = &f->ns},
                                         {.name = "listen", .text = &f->listen},
                                         {.name = "tls-dir", .text = &f->tls_dir},
                                         {.name = "ca", .text = &f->ca},
                                         {.name = "debug", .flag = &f->debug},
                                         {.name = "log-json", .flag = &f->json}};
    struct role_option all[ARRAY_SIZE(common) + ROLE_OPTIONS_MAX];
    struct option flags[ARRAY_SIZE(all) + 1] = {0};
    size_t n = 0;
    int c, which = 0;

    *f = (struct role_flags){.ns = "kubevirt"};
    for (size_t i = 0; i < ARRAY_SIZE(common); i++)
        all[n++] = common[i];
    for (; own && own->name && n < ARRAY_SIZE(all); own++)
        all[n++] = *own;
    for (size_t i = 0; i < n; i++)
        flags[i] =
            (struct option){all[i].name, all[i].text ? required_argument : no_argument, NULL, 1};
    optind = 1;
    while ((c = getopt_long(argc, argv, "", flags, &which)) == 1) {
        if (all[which].text)
            *all[which].text = optarg;
        else
            *all[which].flag = true;
    }
    return c == -1 && optind == argc && f->ns[0];
}

/* --- who we are ------------------------------------------------------------------------------------------------------------ */

static bool read_text(const char *path, char **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, FILE_LIMIT);
    if (!file_read(AT_FDCWD, path, &b, err))
        return error_wrap(err, "%s", path);
    *ret = str_dup(str_trim(buf_str(&b)));
    if (!**ret || strlen(*ret) != str_trim(buf_str(&b)).n)
        return error_set(err, ERROR_BAD_REQUEST, "%s: no text in it", path);
    return true;
}

/* A token that cannot be read or is the same changes nothing. */
static void renew_token(struct role *r)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *token = NULL;

    if (!r->account.token_file)
        return;
    if (!read_text(r->account.token_file, &token, &err)) {
        log_warning(NULL, "%s: the token stays as it is", error_text(&err));
    } else if (!r->account.token || strcmp(token, r->account.token) != 0) {
        http_client_set_token(r->http, token);
        free(r->account.token);
        r->account.token = TAKE(token);
    }
}

static void renew_ca(struct role *r)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *ca = NULL;
    struct http_tls *tls;

    if (!r->account.ca_file)
        return;
    if (!read_text(r->account.ca_file, &ca, &err)) {
        log_warning(NULL, "%s: the API server's authority stays as it is", error_text(&err));
        return;
    }
    if (strcmp(ca, r->account.ca_pem) == 0)
        return;
    tls = http_tls_new(&(struct http_tls_config){.ca_pem = ca}, &err);
    if (!tls) {
        log_warning(NULL, "%s: %s", r->account.ca_file, error_text(&err));
        return;
    }
    http_client_set_tls(r->http, tls);
    http_tls_free(r->tls);
    r->tls = tls;
    free(r->account.ca_pem);
    r->account.ca_pem = TAKE(ca);
}

static void on_account_again(struct loop_timer *t)
{
    struct role *r = container_of(t, struct role, account.again);

    renew_token(r);
    renew_ca(r);
    loop_timer_start(r->loop, t, ACCOUNT_AGAIN, on_account_again);
}

/* As every pod finds it: address in the environment, token and authority in files. */
static bool in_pod(struct role *r, struct kubeconfig *k, struct error *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    AUTO_FREE char *url = NULL;

    if (!host || !host[0] || !port || !port[0])
        return error_set(
            err, ERROR_BAD_REQUEST,
            "no API server is named: give --kubeconfig FILE (this is no pod of a cluster: "
            "KUBERNETES_SERVICE_HOST is not set)");
    url = xasprintf(strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host, port);
    r->account.token_file = xstrdup(ACCOUNT_DIR "/token");
    r->account.ca_file = xstrdup(ACCOUNT_DIR "/ca.crt");
    return kubeconfig_server(str_of(url), k, err)
           && read_text(r->account.ca_file, &r->account.ca_pem, err)
           && read_text(r->account.token_file, &r->account.token, err);
}

static bool account(struct role *r, const struct role_flags *f, struct kubeconfig *k,
                    struct error *err)
{
    const struct kubeconfig_flags flags = {.kubeconfig = f->kubeconfig,
                                           .env = getenv("KUBECONFIG")};

    if (!f->kubeconfig && !flags.env)
        return in_pod(r, k, err);
    if (!kubeconfig_load(&flags, k, err))
        return false;
    r->account.token = k->token ? xstrdup(k->token) : NULL;
    r->account.token_file = k->token_file ? xstrdup(k->token_file) : NULL;
    return true;
}

static bool connect_api(struct role *r, const struct kubeconfig *k, const char *user_agent,
                        struct error *err)
{
    const char *ca = r->account.ca_pem ? r->account.ca_pem : k->ca_pem;

    if (k->tls) {
        r->tls = http_tls_new(&(struct http_tls_config){.cert_pem = k->cert_pem,
                                                        .key_pem = k->key_pem,
                                                        .ca_pem = ca,
                                                        .insecure = k->insecure,
                                                        .server_name = k->tls_server_name},
                              err);
        if (!r->tls)
            return false;
    }
    r->http = http_client_new(&(struct http_client_config){.loop = r->loop,
                                                           .host = k->host,
                                                           .port = k->port,
                                                           .path_prefix = k->prefix,
                                                           .tls = r->tls,
                                                           .bearer_token = r->account.token,
                                                           .user_agent = user_agent});
    r->client = client_http_new(r->loop, r->http);
    log_info(NULL, "API server http%s://%s:%u%s", k->tls ? "s" : "", k->host, k->port,
             k->prefix ? k->prefix : "");
    return true;
}

/* --- its end ---------------------------------------------------------------------------------------------------------------- */

#define DRAIN_NS SECONDS(3) /* consoles and slow readers are cut off then */

static void drained(void *data)
{
    loop_quit(((struct role *)data)->loop);
}

static void on_linger(struct loop_timer *t)
{
    struct role *r = container_of(t, struct role, linger);

    http_server_drain(r->server, DRAIN_NS, drained, r);
}

/* Asked twice, it does not wait. */
static void stop(struct role *r)
{
    bool again = r->stopping;

    r->stopping = true;
    if (!r->server || again) {
        loop_quit(r->loop);
        return;
    }
    role_health(r, "shutdown", "the process is ending");
    http_server_wind_down(r->server);
    loop_timer_start(r->loop, &r->linger, r->serves.linger_ns, on_linger);
}

static void on_term(struct loop_signal *s)
{
    stop(container_of(s, struct role, term));
}

static void on_interrupt(struct loop_signal *s)
{
    stop(container_of(s, struct role, interrupt));
}

/* --- its memory ------------------------------------------------------------------------------------------------------------- */

#define THRIFT_FIRST SECONDS(5) /* the start is over, and what only it needed */
#define THRIFT_AGAIN SECONDS(15)
#define THRIFT_SLACK (64u << 10)

static void on_thrift(struct loop_timer *t)
{
    struct role *r = container_of(t, struct role, thrift);

    thrift_give_back(THRIFT_SLACK);
    loop_timer_start(r->loop, t, THRIFT_AGAIN, on_thrift);
}

bool role_open(struct role *r, const struct role_flags *f, const char *user_agent,
               struct error *err)
{
    AUTO(kubeconfig_done) struct kubeconfig k = {0};

    r->flags = *f;
    thrift_begin();
    r->loop = loop_new(NULL);
    if (!account(r, f, &k, err) || !loop_signal_start(r->loop, &r->term, SIGTERM, on_term, err)
        || !loop_signal_start(r->loop, &r->interrupt, SIGINT, on_interrupt, err)
        || !connect_api(r, &k, user_agent, err))
        return false;
    loop_timer_start(r->loop, &r->account.again, ACCOUNT_AGAIN, on_account_again);
    loop_timer_start(r->loop, &r->thrift, THRIFT_FIRST, on_thrift);
    return true;
}

void role_close(struct role *r)
{
    http_server_free(r->server);
    http_tls_free(r->server_tls);
    cert_files_free(r->certs);
    client_free(r->client);
    if (r->loop) {
        loop_timer_stop(&r->linger);
        loop_timer_stop(&r->thrift);
        loop_timer_stop(&r->account.again);
        loop_signal_stop(&r->term);
        loop_signal_stop(&r->interrupt);
        loop_free(r->loop);
    }
    http_tls_free(r->tls);
    map_done_with(&r->unready, free);
    free(r->trusted);
    free(r->account.token_file);
    free(r->account.ca_file);
    free(r->account.token);
    free(r->account.ca_pem);
    *r = (struct role){0};
}
