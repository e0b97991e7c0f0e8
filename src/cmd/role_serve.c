/* The server of a role: health, metrics, and what the role hangs behind them. */
#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/metric.h"
#include "cmd/role.h"
#include "http/server.h"
#include "http/tls.h"

#define METRICS_LIMIT (64u << 20)

static void answer_ready(struct role *r, struct exchange *x)
{
    AUTO(buf_done) struct buf text = {0};
    struct str name;
    void *why;

    for (size_t at = 0; map_next(&r->unready, &at, &name, &why);)
        buf_addf(&text, "[-]" STR_FMT ": %s\n", STR_ARG(name), (const char *)why);
    if (text.n)
        exchange_respond(x, 503, "text/plain; charset=utf-8", buf_str(&text));
    else
        exchange_respond(x, 200, "text/plain; charset=utf-8", STR("ok"));
}

static void answer_metrics(struct role *r, struct exchange *x)
{
    AUTO(buf_done) struct buf text = {0};

    buf_init(&text, METRICS_LIMIT);
    metric_family(&text, "vireo_build_info", "gauge", "The version that runs, as a label.");
    buf_adds(&text, "vireo_build_info{version=\"" VIREO_VERSION "\"} 1\n");
    metric_process(&text);
    if (r->serves.metrics)
        r->serves.metrics(r->serves.data, &text);
    exchange_respond(x, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&text));
}

static void answer_not_found(struct exchange *x)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};

    error_set(&err, ERROR_NOT_FOUND, "the server could not find the requested resource");
    json_write(&text, status_of(&x->arena, &err, NULL));
    exchange_respond(x, status_code(err.kind), "application/json", buf_str(&text));
}

static void handle(struct exchange *x, void *data)
{
    struct role *r = data;

    if (x->method == HTTP_GET || x->method == HTTP_HEAD) {
        if (str_is(x->path, "/healthz") || str_is(x->path, "/livez")) {
            exchange_respond(x, 200, "text/plain; charset=utf-8", STR("ok"));
            return;
        }
        if (str_is(x->path, "/readyz")) {
            answer_ready(r, x);
            return;
        }
        if (str_is(x->path, "/metrics")) {
            answer_metrics(r, x);
            return;
        }
    }
    if (r->serves.handle)
        r->serves.handle(x, r->serves.data);
    else
        answer_not_found(x);
}

static bool renew(void *user, struct error *err)
{
    struct role *r = user;
    const char *ca = r->trusted ? r->trusted : r->serves.trust_ca ? cert_files_ca(r->certs) : NULL;
    struct http_tls *tls = http_tls_new(&(struct http_tls_config){.server = true,
                                                                  .cert_pem = cert_files_cert(r->certs),
                                                                  .key_pem = cert_files_key(r->certs),
                                                                  .ca_pem = ca},
                                        err);

    if (!tls)
        return false;
    if (r->server)
        http_server_replace_tls(r->server, r->server_tls, tls);
    http_tls_free(r->server_tls);
    r->server_tls = tls;
    return true;
}

bool role_serve(struct role *r, const struct role_server *s, struct error *err)
{
    int fd = -1;

    r->serves = *s;
    if (!r->flags.listen)
        return true;
    if (!r->flags.tls_dir)
        return error_set(err, ERROR_BAD_REQUEST,
                         "--listen needs --tls-dir DIR, with tls.crt and tls.key in it");
    if (s->trust_ca && !r->flags.ca)
        return error_set(err, ERROR_BAD_REQUEST,
                         "--listen needs --ca FILE: whose clients are to be let in");
    r->certs = cert_files_new(&(struct cert_files_config){.loop = r->loop,
                                                .dir = r->flags.tls_dir,
                                                .ca_file = r->flags.ca,
                                                .changed = renew,
                                                .user = r},
                         err);
    if (!r->certs || !renew(r, err) || !http_listen_tcp(r->flags.listen, &fd, err))
        return false;
    r->server = http_server_new(&(struct http_server_config){
        .loop = r->loop, .handle = handle, .data = r, .body_limit = s->body_limit});
    log_info(NULL, "serving on %s", r->flags.listen);
    return http_server_listen(r->server, fd, r->server_tls, err);
}

bool role_trust(struct role *r, const char *ca_pem, struct error *err)
{
    char *before = r->trusted;

    r->trusted = xstrdup(ca_pem);
    if (r->certs && !renew(r, err)) {
        free(r->trusted);
        r->trusted = before;
        return false;
    }
    free(before);
    return true;
}

void role_health(struct role *r, const char *name, const char *why)
{
    free(map_del(&r->unready, str_of(name)));
    if (why)
        map_set(&r->unready, str_of(name), xstrdup(why));
}

bool role_ready(const struct role *r)
{
    return r->unready.n == 0;
}
