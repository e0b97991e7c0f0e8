#include "api.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "json/yaml.h"

int64_t bench_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return SECONDS(t.tv_sec) + t.tv_nsec;
}

void bench_die(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    fputs("bench: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

unsigned bench_number(const char *text, unsigned min, unsigned max)
{
    struct error err = {0};
    uint64_t n = 0;

    if (!parse_u64(str_of(text), max, &n, &err) || n < min)
        bench_die("'%s': a number from %u to %u is wanted", text, min, max);
    return (unsigned)n;
}

/* From "…-data", or from the file that the name without it gives. */
static char *pem(const struct json *v, const char *path)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *without = str_dup(str_take(str_of(path), strlen(path) - strlen("-data")));
    AUTO_FREE char *file = str_dup(json_str_at(v, without));
    struct error err = {0};

    if (file && *file) {
        if (!file_read(AT_FDCWD, file, &b, &err))
            bench_die("kubeconfig: %s: %s", without, error_text(&err));
        return buf_detach(&b);
    }
    if (!buf_add_base64_decoded(&b, json_str_at(v, path), &err))
        bench_die("kubeconfig: %s: %s", path, error_text(&err));
    return buf_detach(&b);
}

void api_open(struct api *api, struct loop *l, const char *kubeconfig_path)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    struct error err = {0};
    const struct json *v;
    struct str server, rest, port;
    uint64_t number = 0;

    if (!file_read(AT_FDCWD, kubeconfig_path, &text, &err) || !yaml_parse_one(buf_str(&text), &a, &v, &err))
        bench_die("%s: %s", kubeconfig_path, error_text(&err));
    server = json_str_at(v, "clusters/0/cluster/server");
    if (!str_starts(server, STR("https://")) || !str_rcut(str_skip(server, 8), ':', &rest, &port)
        || !parse_u64(port, 65535, &number, &err))
        bench_die("%s: server '" STR_FMT "' is not https://HOST:PORT", kubeconfig_path, STR_ARG(server));

    AUTO_FREE char *ca = pem(v, "clusters/0/cluster/certificate-authority-data");
    AUTO_FREE char *cert = pem(v, "users/0/user/client-certificate-data");
    AUTO_FREE char *key = pem(v, "users/0/user/client-key-data");

    api->loop = l;
    api->host = str_dup(rest);
    api->port = (unsigned)number;
    api->tls = http_tls_new(&(struct http_tls_config){.cert_pem = cert, .key_pem = key, .ca_pem = ca}, &err);
    if (!api->tls)
        bench_die("%s: %s", kubeconfig_path, error_text(&err));
}

void api_done(struct api *api)
{
    http_tls_free(api->tls);
    free(api->host);
}

struct http_client *api_connect(struct api *api)
{
    struct http_client *c = http_client_new(&(struct http_client_config){
        .loop = api->loop, .host = api->host, .port = api->port, .tls = api->tls, .user_agent = "vireo-bench"});

    if (api_call(api, c, HTTP_GET, "/version", NULL, NULL) != 200)
        bench_die("https://%s:%u/version does not answer 200", api->host, api->port);
    return c;
}

struct answer {
    bool came;
    int status;
    struct buf *body;
};

static void answered(void *user, int status, struct str body, const struct error *err)
{
    struct answer *a = user;

    if (err->kind != ERROR_NONE)
        bench_die("request: %s", error_text(err));
    a->came = true;
    a->status = status;
    if (a->body)
        buf_addstr(a->body, body);
}

int api_call(struct api *api, struct http_client *c, enum http_method m, const char *path, const char *body,
             struct buf *ret_body)
{
    struct answer a = {.body = ret_body};

    http_client_call(c, &(struct http_request){.method = m, .path = str_of(path), .body = str_of(body),
                                               .content_type = body ? STR("application/json") : STR_NONE,
                                               .body_limit = 64u << 20, .done = answered, .user = &a});
    while (!a.came)
        loop_turn(api->loop, MILLIS(100));
    return a.status;
}

void samples_add(struct samples *s, int64_t ns)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->us = xrealloc(s->us, s->cap, sizeof *s->us);
    }
    s->us[s->n++] = (uint32_t)(ns / 1000);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

double samples_ms(struct samples *s, double quantile)
{
    size_t at = (size_t)((double)s->n * quantile);

    if (s->n == 0)
        return 0;
    qsort(s->us, s->n, sizeof *s->us, compare);
    return s->us[at < s->n ? at : s->n - 1] / 1e3;
}

void samples_done(struct samples *s)
{
    free(s->us);
    *s = (struct samples){0};
}
