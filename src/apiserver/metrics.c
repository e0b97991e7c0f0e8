/* apiserver/metrics - request counts, latencies and watches, under kube-apiserver's names. */
#include "apiserver/internal.h"

static const double bounds[] = {0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1,  1.25, 1.5, 2,
                                3,     4,     5,    6,   8,   10,  15,  20,  30, 45,   60};

struct counter {
    uint64_t n;
};
struct histogram {
    uint64_t bucket[ARRAY_SIZE(bounds) + 1], n;
    double sum;
};
struct metrics {
    struct map requests;  /* labels → struct counter */
    struct map durations; /* labels → struct histogram */
    struct map watches;   /* labels → struct counter */
    uint64_t in_flight;
};

struct metrics *metrics_new(void)
{
    return NEW(struct metrics);
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    map_done_with(&m->requests, free);
    map_done_with(&m->durations, free);
    map_done_with(&m->watches, free);
    free(m);
}

static void *slot(struct map *m, const char *labels, size_t size)
{
    void *v = map_get(m, str_of(labels));

    if (!v) {
        v = xcalloc(1, size);
        map_set(m, str_of(labels), v);
    }
    return v;
}

void metrics_count(struct metrics *m, const struct request *r, int code, int64_t ns)
{
    char labels[512];
    const char *scope = r->name.p ? "resource" : r->ns.p ? "namespace" : r->kind ? "cluster" : "";
    const struct kind_info *k = r->kind ? r->kind->info : NULL;
    const char *verb =
        r->verb == VERB_CREATE   ? "POST"
        : r->verb == VERB_UPDATE ? "PUT"
        : r->verb == VERB_DELETE ? "DELETE"
        : r->verb == VERB_PATCH
            ? (media_is(r->content_type, "application/apply-patch+yaml") ? "APPLY" : "PATCH")
        : r->verb == VERB_LIST       ? (k ? "LIST" : "GET")
        : r->verb == VERB_WATCH      ? "WATCH"
        : r->verb == VERB_DELETE_ALL ? "DELETECOLLECTION"
                                     : "GET";
    /* Only words of the catalog become labels: a client cannot make the map grow. */
    const char *sub = r->subresource.p && k ? (str_is(r->subresource, "status")  ? "status"
                                               : str_is(r->subresource, "scale") ? "scale"
                                                                                 : "other")
                                            : "";
    struct counter *c;
    struct histogram *h;
    double s = (double)ns / 1e9;
    size_t i = 0;

    snprintf(
        labels, sizeof labels,
        "group=\"%s\",resource=\"%s\",scope=\"%s\",subresource=\"%s\",verb=\"%s\",version=\"%s\"",
        k ? k->group : "", k ? k->plural : "", scope, sub, verb, k ? r->version : "");
    if (r->verb != VERB_WATCH) {
        h = slot(&m->durations, labels, sizeof *h);
        while (i < ARRAY_SIZE(bounds) && s > bounds[i])
            i++;
        h->bucket[i]++;
        h->n++;
        h->sum += s;
    }
    {
        char with_code[600];

        snprintf(with_code, sizeof with_code, "code=\"%d\",%s", code, labels);
        c = slot(&m->requests, with_code, sizeof *c);
        c->n++;
    }
}

void metrics_watch(struct metrics *m, const struct kind_info *k, int change)
{
    char labels[300];
    struct counter *c;

    snprintf(labels, sizeof labels, "group=\"%s\",resource=\"%s\",version=\"%s\"", k->group,
             k->plural, k->version);
    c = slot(&m->watches, labels, sizeof *c);
    c->n = change > 0 ? c->n + 1 : c->n - (c->n > 0);
}

void metrics_write(struct apiserver *s, struct buf *b)
{
    struct metrics *m = s->metrics;
    struct store_stats stats;
    struct str key;
    void *value;
    size_t at = 0;

    buf_adds(b, "# HELP apiserver_request_total Requests by verb, resource and HTTP code.\n"
                "# TYPE apiserver_request_total counter\n");
    while (map_next(&m->requests, &at, &key, &value))
        buf_addf(b, "apiserver_request_total{" STR_FMT "} %llu\n", STR_ARG(key),
                 (unsigned long long)((struct counter *)value)->n);
    buf_adds(b, "# HELP apiserver_request_duration_seconds Response latency.\n"
                "# TYPE apiserver_request_duration_seconds histogram\n");
    for (at = 0; map_next(&m->durations, &at, &key, &value);) {
        const struct histogram *h = value;
        uint64_t sum = 0;

        for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
            sum += h->bucket[i];
            buf_addf(b, "apiserver_request_duration_seconds_bucket{" STR_FMT ",le=\"%g\"} %llu\n",
                     STR_ARG(key), bounds[i], (unsigned long long)sum);
        }
        buf_addf(b, "apiserver_request_duration_seconds_bucket{" STR_FMT ",le=\"+Inf\"} %llu\n",
                 STR_ARG(key), (unsigned long long)h->n);
        buf_addf(b, "apiserver_request_duration_seconds_sum{" STR_FMT "} %g\n", STR_ARG(key),
                 h->sum);
        buf_addf(b, "apiserver_request_duration_seconds_count{" STR_FMT "} %llu\n", STR_ARG(key),
                 (unsigned long long)h->n);
    }
    buf_adds(b, "# HELP apiserver_longrunning_requests Watches that are open.\n# TYPE "
                "apiserver_longrunning_requests gauge\n");
    for (at = 0; map_next(&m->watches, &at, &key, &value);)
        buf_addf(b, "apiserver_longrunning_requests{" STR_FMT ",verb=\"WATCH\"} %llu\n",
                 STR_ARG(key), (unsigned long long)((struct counter *)value)->n);
    buf_adds(b, "# HELP apiserver_storage_objects Stored objects.\n# TYPE "
                "apiserver_storage_objects gauge\n");
    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct kind_info *k = s->kinds.p[i]->info;
        struct arena a = {0};

        if (!(k->flags & KIND_NO_STORE))
            buf_addf(b, "apiserver_storage_objects{resource=\"%s%s%s\"} %zu\n", k->plural,
                     *k->group ? "." : "", k->group,
                     store_count(s->store, kind_prefix(k, STR_NONE, &a)));
        arena_done(&a);
    }
    store_stats(s->store, &stats);
    buf_addf(b,
             "# TYPE vireo_store_writes_total counter\nvireo_store_writes_total %llu\n"
             "# TYPE vireo_store_commits_total counter\nvireo_store_commits_total %llu\n"
             "# TYPE vireo_store_memory_bytes gauge\nvireo_store_memory_bytes %llu\n"
             "# TYPE vireo_store_watchers gauge\nvireo_store_watchers %llu\n"
             "# TYPE vireo_store_revision counter\nvireo_store_revision %lld\n",
             (unsigned long long)stats.writes, (unsigned long long)stats.commits,
             (unsigned long long)stats.bytes_in_memory, (unsigned long long)stats.watchers,
             (long long)store_revision(s->store));
}
