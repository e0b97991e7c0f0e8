/* bench/api - how the measuring programs reach a `vireo serve`: its admin.kubeconfig, connections, requests on a
 * monotonic clock. They end the program on any failure: a number measured beside an error is none. */
#pragma once
#include "http/client.h"
#include "http/tls.h"
#include "json/json.h"

struct api {
    struct loop *loop;
    struct http_tls *tls;
    char *host;
    unsigned port;
};

int64_t bench_now_ns(void);
_Noreturn void bench_die(const char *fmt, ...) PRINTF_LIKE(1, 2);
unsigned bench_number(const char *text, unsigned min, unsigned max);

void api_open(struct api *api, struct loop *l, const char *kubeconfig_path);
void api_done(struct api *api);
/* A connection pool of its own, with its first connection made. */
struct http_client *api_connect(struct api *api);
/* Sends, and pumps the loop until the answer; returns the status. ret_body may be NULL. */
int api_call(struct api *api, struct http_client *c, enum http_method m, const char *path, const char *body,
             struct buf *ret_body);

/* Latencies in microseconds: added, then asked for quantiles. */
struct samples {
    uint32_t *us;
    size_t n, cap;
};
void samples_add(struct samples *s, int64_t ns);
double samples_ms(struct samples *s, double quantile); /* sorts */
void samples_done(struct samples *s);
