/* read_bench - what reading costs, of any Kubernetes API server.
 *
 *   read_bench gets  -k KUBECONFIG -p PATH [-n COUNT] [-c IN_FLIGHT]     GETs on one HTTP/2 connection
 *   read_bench list  -k KUBECONFIG -p PATH [-x CONNECTIONS] [-n ROUNDS] [-a ACCEPT]
 *                    the same list on every connection at once
 *   read_bench watch -k KUBECONFIG [-w WATCHERS] [-x CONNECTIONS] [-n WRITES]
 *                    ConfigMaps are watched, one is written: when does the last watcher know?
 *   read_bench put   -k KUBECONFIG [-n COUNT] [-b BYTES] [-f FILE -p PATH]
 *                    makes ConfigMaps for the others to read, or what FILE says: "@@@" in it becomes the number
 *
 * Prints one line of JSON. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "api.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

struct bench {
    struct api api;
    const char *path, *accept, *file;
    unsigned count, in_flight, connections, watchers, bytes;
    struct http_client **https;
    struct samples latencies;
    /* gets, put */
    unsigned started, running;
    /* watch */
    unsigned told, open;
    int64_t sent_ns;
    struct samples answered;
};

struct one {
    struct bench *b;
    int64_t sent_ns;
    size_t bytes;
    unsigned number;
    bool done;
};

/* gets */

static void get_next(struct bench *b);

static void got(void *user, int status, struct str body, const struct error *err)
{
    struct one *o = user;
    struct bench *b = o->b;

    if (err->kind != ERROR_NONE)
        bench_die("GET: %s", error_text(err));
    if (status != 200)
        bench_die("GET %s: %d " STR_FMT, b->path, status, STR_ARG(body));
    b->bytes = (unsigned)body.n;
    samples_add(&b->latencies, bench_now_ns() - o->sent_ns);
    free(o);
    b->running--;
    get_next(b);
}

static void get_next(struct bench *b)
{
    struct one *o;

    if (b->started == b->count)
        return;
    b->started++;
    b->running++;
    o = NEW(struct one);
    *o = (struct one){.b = b, .sent_ns = bench_now_ns()};
    http_client_call(b->https[0], &(struct http_request){.method = HTTP_GET, .path = str_of(b->path), .done = got, .user = o});
}

static void many_gets(struct bench *b)
{
    int64_t start = bench_now_ns();
    double took;

    for (unsigned i = 0; i < b->in_flight; i++)
        get_next(b);
    while (b->running > 0)
        loop_turn(b->api.loop, MILLIS(100));
    took = (double)(bench_now_ns() - start) / 1e9;
    printf("{\"gets\": %u, \"in_flight\": %u, \"bytes\": %u, \"per_second\": %.0f, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n",
           b->count, b->in_flight, b->bytes, b->count / took, samples_ms(&b->latencies, 0.5), samples_ms(&b->latencies, 0.99));
}

/* list */

static void list_data(void *user, struct str data)
{
    ((struct one *)user)->bytes += data.n;
}

static void list_done(void *user, int status, struct str body, const struct error *err)
{
    struct one *o = user;

    if (err->kind != ERROR_NONE)
        bench_die("LIST: %s", error_text(err));
    if (status != 200)
        bench_die("LIST %s: %d " STR_FMT, o->b->path, status, STR_ARG(body));
    o->done = true;
    samples_add(&o->b->latencies, bench_now_ns() - o->sent_ns);
    o->b->running--;
}

static void list(struct bench *b)
{
    struct http_header accept = {STR("accept"), str_of(b->accept)};
    struct one *all = xcalloc(b->connections, sizeof *all);
    int64_t longest = 0;

    for (unsigned round = 0; round < b->count; round++) {
        int64_t start = bench_now_ns(), took;

        for (unsigned i = 0; i < b->connections; i++) {
            all[i] = (struct one){.b = b, .sent_ns = start};
            b->running++;
            http_client_call(b->https[i], &(struct http_request){.method = HTTP_GET, .path = str_of(b->path), .headers = &accept,
                .n_headers = 1, .stream = true, .body_limit = 1u << 30, .data = list_data, .done = list_done, .user = &all[i]});
        }
        while (b->running > 0)
            loop_turn(b->api.loop, MILLIS(100));
        took = bench_now_ns() - start;
        longest = took > longest ? took : longest;
    }
    printf("{\"lists\": %u, \"rounds\": %u, \"bytes\": %zu, \"best_ms\": %.1f, \"p50_ms\": %.1f, \"worst_ms\": %.1f}\n", b->connections,
           b->count, all[0].bytes, samples_ms(&b->latencies, 0), samples_ms(&b->latencies, 0.5), (double)longest / 1e6);
    free(all);
}

/* put */

static void put_done(void *user, int status, struct str body, const struct error *err)
{
    struct bench *b = user;

    if (err->kind != ERROR_NONE || (status != 201 && status != 409))
        bench_die("POST: %d %s " STR_FMT, status, error_text(err), STR_ARG(body));
    b->running--;
}

static void put_one(struct bench *b, struct str body)
{
    b->running++;
    http_client_call(b->https[0], &(struct http_request){.method = HTTP_POST,
        .path = b->path ? str_of(b->path) : STR("/api/v1/namespaces/default/configmaps"), .body = body,
        .content_type = STR("application/json"), .done = put_done, .user = b});
    while (b->running >= 64)
        loop_turn(b->api.loop, MILLIS(100));
}

static struct str from_template(struct buf *ret, struct str template, unsigned number)
{
    size_t at;

    for (; str_find(template, STR("@@@"), &at); template = str_skip(template, at + 3)) {
        buf_addstr(ret, str_take(template, at));
        buf_addf(ret, "%05u", number);
    }
    buf_addstr(ret, template);
    return buf_str(ret);
}

static void put(struct bench *b)
{
    unsigned seed = 7;
    AUTO(buf_done) struct buf template = {0};
    AUTO(error_clear) struct error err = {0};

    if (b->file && !file_read(AT_FDCWD, b->file, &template, &err))
        bench_die("%s", error_text(&err));
    for (unsigned i = 0; i < b->count; i++) {
        AUTO(buf_done) struct buf body = {0};

        if (b->file) {
            put_one(b, from_template(&body, buf_str(&template), i));
            continue;
        }
        buf_addf(&body, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"read-%05u\",\"labels\":{\"app\":\"bench\"}},"
                        "\"data\":{", i);
        for (unsigned k = 0; body.n + 100 < b->bytes; k++)
            buf_addf(&body, "%s\"line-%u\":\"some text that is alike in all of them, and a number that is not: %08x\"", k ? "," : "", k,
                     (unsigned)rand_r(&seed));
        buf_adds(&body, "}}");
        put_one(b, buf_str(&body));
    }
    while (b->running > 0)
        loop_turn(b->api.loop, MILLIS(100));
    printf("{\"objects\": %u}\n", b->count);
}

/* watch */

static void watch_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct one *o = user;

    (void)headers;
    (void)n;
    if (status != 200)
        bench_die("watch: %d", status);
    o->b->open++;
}

static void watch_data(void *user, struct str data)
{
    struct one *o = user;
    size_t at;
    char want[32];

    /* An event fits into one piece or is cut at any place: its number is looked for where it is whole. */
    snprintf(want, sizeof want, "\"write\":\"%u\"", o->b->started);
    if (o->number != o->b->started && str_find(data, str_of(want), &at)) {
        o->number = o->b->started;
        o->b->told++;
    }
}

static void watch_done(void *user, int status, struct str body, const struct error *err)
{
    (void)user;
    bench_die("a watch has ended: %d %s " STR_FMT, status, error_text(err), STR_ARG(body));
}

static void write_done(void *user, int status, struct str body, const struct error *err)
{
    struct bench *b = user;

    if (err->kind != ERROR_NONE || status != 200)
        bench_die("PATCH: %d %s " STR_FMT, status, error_text(err), STR_ARG(body));
    samples_add(&b->answered, bench_now_ns() - b->sent_ns);
    b->running--;
}

static void watch(struct bench *b)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct one *all = xcalloc(b->watchers, sizeof *all);
    struct http_client *writer = api_connect(&b->api);
    const struct json *list;
    AUTO_FREE char *path = NULL;
    int status;

    status = api_call(&b->api, writer, HTTP_POST, "/api/v1/namespaces/default/configmaps",
                      "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"watched\"}}", NULL);
    if (status != 201 && status != 409)
        bench_die("POST: %d", status);
    if (api_call(&b->api, writer, HTTP_GET, "/api/v1/namespaces/default/configmaps?limit=1", NULL, &text) != 200
        || !json_parse(buf_str(&text), &a, &list, &err))
        bench_die("LIST: %s", error_text(&err));
    path = xasprintf("/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=" STR_FMT,
                     STR_ARG(json_str_at(list, "metadata/resourceVersion")));
    for (unsigned i = 0; i < b->watchers; i++) {
        all[i] = (struct one){.b = b};
        http_client_call(b->https[i % b->connections], &(struct http_request){.method = HTTP_GET, .path = str_of(path),
            .timeout_ns = -1, .stream = true, .head = watch_head, .data = watch_data, .done = watch_done, .user = &all[i]});
    }
    while (b->open < b->watchers)
        loop_turn(b->api.loop, MILLIS(100));
    for (unsigned i = 1; i <= b->count; i++) {
        char body[100];

        snprintf(body, sizeof body, "{\"data\":{\"write\":\"%u\"}}", i);
        b->started = i;
        b->told = 0;
        b->sent_ns = bench_now_ns();
        b->running++;
        http_client_call(writer, &(struct http_request){.method = HTTP_PATCH,
            .path = STR("/api/v1/namespaces/default/configmaps/watched"), .body = str_of(body),
            .content_type = STR("application/merge-patch+json"), .done = write_done, .user = b});
        while (b->told < b->watchers || b->running > 0)
            loop_turn(b->api.loop, MILLIS(100));
        samples_add(&b->latencies, bench_now_ns() - b->sent_ns);
    }
    printf("{\"watchers\": %u, \"connections\": %u, \"writes\": %u, \"last_told_p50_ms\": %.2f, \"last_told_p99_ms\": %.2f, "
           "\"worst_ms\": %.2f, \"answered_p50_ms\": %.2f}\n", b->watchers, b->connections, b->count, samples_ms(&b->latencies, 0.5),
           samples_ms(&b->latencies, 0.99), samples_ms(&b->latencies, 1), samples_ms(&b->answered, 0.5));
    fflush(stdout);
    _exit(0); /* the watches go with the process */
}

static const struct {
    const char *name;
    void (*run)(struct bench *b);
} modes[] = {{"gets", many_gets}, {"list", list}, {"watch", watch}, {"put", put}};

int main(int argc, char **argv)
{
    struct bench b = {.accept = "application/json", .count = 100, .in_flight = 100, .connections = 1, .watchers = 1000, .bytes = 6000};
    const char *kubeconfig = NULL;
    size_t mode = 0;
    int c;

    while (argc > 1 && mode < ARRAY_SIZE(modes) && strcmp(argv[1], modes[mode].name) != 0)
        mode++;
    optind = 2;
    while (argc > 1 && (c = getopt(argc, argv, "k:p:n:c:x:a:w:b:f:")) != -1) {
        switch (c) {
        case 'k': kubeconfig = optarg; break;
        case 'p': b.path = optarg; break;
        case 'n': b.count = bench_number(optarg, 1, 10000000); break;
        case 'c': b.in_flight = bench_number(optarg, 1, 10000); break;
        case 'x': b.connections = bench_number(optarg, 1, 2000); break;
        case 'a': b.accept = optarg; break;
        case 'f': b.file = optarg; break;
        case 'w': b.watchers = bench_number(optarg, 1, 100000); break;
        case 'b': b.bytes = bench_number(optarg, 256, 1000000); break;
        default: kubeconfig = NULL; optind = argc; break;
        }
    }
    if (!kubeconfig || mode == ARRAY_SIZE(modes) || (mode < 2 && !b.path)) {
        fprintf(stderr, "usage: read_bench gets|list|watch|put -k KUBECONFIG [-p PATH] [-n COUNT] [-c IN_FLIGHT] [-x CONNECTIONS]"
                        " [-a ACCEPT] [-w WATCHERS] [-b BYTES] [-f FILE]\n");
        return 2;
    }
    api_open(&b.api, loop_new(NULL), kubeconfig);
    b.https = xcalloc(b.connections, sizeof(struct http_client *));
    for (unsigned i = 0; i < b.connections; i++)
        b.https[i] = api_connect(&b.api);
    modes[mode].run(&b);
    for (unsigned i = 0; i < b.connections; i++)
        http_client_free(b.https[i]);
    samples_done(&b.latencies);
    samples_done(&b.answered);
    free(b.https);
    api_done(&b.api);
    loop_free(b.api.loop);
    return 0;
}
