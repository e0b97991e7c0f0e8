/* write_bench - durable writes through the whole API: TLS, HTTP/2, authentication, admission, store, fsync.
 *
 *   write_bench -k KUBECONFIG [-c CLIENTS] [-x CONNECTIONS] [-s BYTES] [-t SECONDS]
 *
 * Every client creates a ConfigMap of its own, waits for the answer (so for the fsync) and creates the next. Clients
 * share CONNECTIONS TLS connections. Prints one line of JSON. */
#include <getopt.h>
#include <stdio.h>

#include "api.h"
#include "base/alloc.h"
#include "base/cleanup.h"

struct writer {
    struct bench *bench;
    struct http_client *http;
    unsigned number, writes;
    int64_t sent_ns;
};

struct bench {
    struct api api;
    struct samples latencies;
    unsigned size, in_flight, run;
    int64_t end_ns;
    char *filler; /* twice the size: every object starts elsewhere in it */
};

/* Bytes that compress about as objects do: words of a small vocabulary, then noise. */
static char *make_filler(size_t n)
{
    static const char *const words[] = {"containers", "volumeMounts", "readOnly", "default", "kubevirt.io/"};
    unsigned seed = 42;
    AUTO(buf_done) struct buf b = {0};

    while (b.n < n) {
        unsigned r = (unsigned)rand_r(&seed);

        if (r & 0x100)
            buf_adds(&b, words[r % 5]);
        for (int i = 0; i < 10; i++)
            buf_addc(&b, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[(unsigned)rand_r(&seed) >> 7 & 31]);
    }
    return buf_detach(&b);
}

static void next(struct writer *w);

static void written(void *user, int status, struct str body, const struct error *err)
{
    struct writer *w = user;
    struct bench *b = w->bench;
    int64_t now = bench_now_ns();

    if (err->kind != ERROR_NONE)
        bench_die("write: %s", error_text(err));
    if (status != 201)
        bench_die("write: %d " STR_FMT, status, STR_ARG(body));
    samples_add(&b->latencies, now - w->sent_ns);
    b->in_flight--;
    if (now < b->end_ns)
        next(w);
}

static void next(struct writer *w)
{
    struct bench *b = w->bench;
    char head[200];
    AUTO(buf_done) struct buf body = {0};
    int n = snprintf(head, sizeof head,
                     "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"w-%u-%u-%u\"},\"data\":{\"text\":\"",
                     b->run, w->number, w->writes++);
    size_t left = b->size > (unsigned)n + 3 ? b->size - (unsigned)n - 3 : 1;

    buf_add(&body, head, (size_t)n);
    buf_add(&body, b->filler + (w->number * 131 + w->writes * 17) % b->size, left);
    buf_adds(&body, "\"}}");
    w->sent_ns = bench_now_ns();
    b->in_flight++;
    http_client_call(w->http, &(struct http_request){.method = HTTP_POST,
                                                     .path = STR("/api/v1/namespaces/default/configmaps"),
                                                     .body = buf_str(&body), .content_type = STR("application/json"),
                                                     .done = written, .user = w});
}

int main(int argc, char **argv)
{
    struct bench b = {.size = 4096, .run = (unsigned)(bench_now_ns() / 1000000 % 100000)};
    unsigned clients = 64, connections = 64, seconds = 5;
    const char *kubeconfig = NULL;
    int c;

    while ((c = getopt(argc, argv, "k:c:x:s:t:")) != -1) {
        switch (c) {
        case 'k': kubeconfig = optarg; break;
        case 'c': clients = bench_number(optarg, 1, 10000); break;
        case 'x': connections = bench_number(optarg, 1, 1000); break;
        case 's': b.size = bench_number(optarg, 256, 1000000); break;
        case 't': seconds = bench_number(optarg, 1, 3600); break;
        default: kubeconfig = NULL; optind = argc; break;
        }
    }
    if (!kubeconfig) {
        fprintf(stderr, "usage: write_bench -k KUBECONFIG [-c CLIENTS] [-x CONNECTIONS] [-s BYTES] [-t SECONDS]\n");
        return 2;
    }
    struct loop *loop = loop_new(NULL);
    struct writer *writers = xcalloc(clients, sizeof *writers);
    struct http_client **https = xcalloc(connections, sizeof(struct http_client *));

    api_open(&b.api, loop, kubeconfig);
    b.filler = make_filler(b.size * 2 + 64);
    for (unsigned i = 0; i < connections; i++)
        https[i] = api_connect(&b.api);

    int64_t start = bench_now_ns();
    b.end_ns = start + SECONDS(seconds);
    for (unsigned i = 0; i < clients; i++) {
        writers[i] = (struct writer){.bench = &b, .http = https[i % connections], .number = i};
        next(&writers[i]);
    }
    while (b.in_flight > 0)
        loop_turn(loop, MILLIS(100));

    double took = (double)(bench_now_ns() - start) / 1e9;
    printf("{\"clients\": %u, \"connections\": %u, \"bytes\": %u, \"writes\": %zu, \"per_second\": %.0f, "
           "\"p50_ms\": %.2f, \"p99_ms\": %.2f, \"worst_ms\": %.2f}\n",
           clients, connections, b.size, b.latencies.n, (double)b.latencies.n / took, samples_ms(&b.latencies, 0.50),
           samples_ms(&b.latencies, 0.99), samples_ms(&b.latencies, 1));
    for (unsigned i = 0; i < connections; i++)
        http_client_free(https[i]);
    samples_done(&b.latencies);
    free(https);
    free(writers);
    free(b.filler);
    api_done(&b.api);
    loop_free(loop);
    return 0;
}
