/* apiserver/metrics - request counts, latencies and watches, under kube-apiserver's names. */
#include "apiserver/fairness.h"
#include "apiserver/internal.h"
#include "base/metric.h"

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

    snprintf(labels, sizeof labels,
             "component=\"apiserver\",dry_run=\"%s\",group=\"%s\",resource=\"%s\",scope=\"%s\","
             "subresource=\"%s\",verb=\"%s\",version=\"%s\"",
             r->dry_run ? "All" : "", k ? k->group : "", k ? k->plural : "", scope, sub, verb,
             k ? r->version : "");
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

/* Writing, in the text format: each family once, with HELP and TYPE. */

static void write_requests(const struct metrics *m, struct buf *b)
{
    struct str key;
    void *value;
    size_t at = 0;

    metric_family(b, "apiserver_request_total", "counter",
           "Requests by verb, dry run, group, version, resource, scope, component and HTTP code.");
    while (map_next(&m->requests, &at, &key, &value))
        buf_addf(b, "apiserver_request_total{" STR_FMT "} %llu\n", STR_ARG(key),
                 (unsigned long long)((struct counter *)value)->n);
    metric_family(b, "apiserver_request_duration_seconds", "histogram",
           "Response latency in seconds by verb, dry run, group, version, resource, subresource, "
           "scope and component.");
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
        buf_addf(b, "apiserver_request_duration_seconds_sum{" STR_FMT "} %.9g\n", STR_ARG(key),
                 h->sum);
        buf_addf(b, "apiserver_request_duration_seconds_count{" STR_FMT "} %llu\n", STR_ARG(key),
                 (unsigned long long)h->n);
    }
}

static void write_in_flight(struct apiserver *s, struct buf *b)
{
    size_t mutating = 0, reading = 0;

    list_each_safe(n, &s->requests) {
        const struct request *r = list_entry(n, struct request, node);

        switch (r->verb) {
        case VERB_CREATE:
        case VERB_UPDATE:
        case VERB_PATCH:
        case VERB_DELETE:
        case VERB_DELETE_ALL:
            mutating += !r->is_local;
            break;
        case VERB_GET:
        case VERB_LIST:
            reading += !r->is_local;
            break;
        case VERB_WATCH:
        case VERB_CONNECT:
            break;
        }
    }
    metric_family(b, "apiserver_current_inflight_requests", "gauge",
           "Requests that are being answered, without watches.");
    buf_addf(b,
             "apiserver_current_inflight_requests{request_kind=\"mutating\"} %zu\n"
             "apiserver_current_inflight_requests{request_kind=\"readOnly\"} %zu\n",
             mutating, reading);
}

/* What is counted kind by kind. */
enum per_kind { LONG_RUNNING, REGISTERED, EVENTS, OBJECTS_OLD, OBJECTS };

static void write_kinds(struct apiserver *s, enum per_kind what, struct buf *b)
{
    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct served *k = s->kinds.p[i];
        const struct kind_info *info = k->info;
        struct arena a = {0};
        size_t n = info->flags & KIND_NO_STORE
                       ? 0
                       : store_count(s->store, kind_prefix(info, STR_NONE, &a));

        arena_done(&a);
        switch (what) {
        case LONG_RUNNING:
            if (k->watchers)
                buf_addf(b,
                         "apiserver_longrunning_requests{component=\"apiserver\",group=\"%s\","
                         "resource=\"%s\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\","
                         "version=\"%s\"} %llu\n",
                         info->group, info->plural, info->version,
                         (unsigned long long)k->watchers);
            break;
        case REGISTERED:
            if (k->watchers)
                buf_addf(b,
                         "apiserver_registered_watchers{group=\"%s\",kind=\"%s\",version=\"%s\"} "
                         "%llu\n",
                         info->group, info->kind, info->version, (unsigned long long)k->watchers);
            break;
        case EVENTS:
            if (k->watch_events)
                buf_addf(b,
                         "apiserver_watch_events_total{group=\"%s\",resource=\"%s\","
                         "version=\"%s\"} %llu\n",
                         info->group, info->plural, info->version,
                         (unsigned long long)k->watch_events);
            break;
        case OBJECTS_OLD:
            if (!(info->flags & KIND_NO_STORE))
                buf_addf(b, "apiserver_storage_objects{resource=\"%s%s%s\"} %zu\n", info->plural,
                         *info->group ? "." : "", info->group, n);
            break;
        case OBJECTS:
            if (!(info->flags & KIND_NO_STORE))
                buf_addf(b, "apiserver_resource_objects{group=\"%s\",resource=\"%s\"} %zu\n",
                         info->group, info->plural, n);
            break;
        }
    }
}

void metrics_write(struct apiserver *s, struct buf *b)
{
    struct store_stats stats;

    write_requests(s->metrics, b);
    write_in_flight(s, b);
    metric_family(b, "apiserver_longrunning_requests", "gauge", "Watches that are open.");
    write_kinds(s, LONG_RUNNING, b);
    metric_family(b, "apiserver_registered_watchers", "gauge", "Watchers of a kind that are open.");
    write_kinds(s, REGISTERED, b);
    metric_family(b, "apiserver_watch_events_total", "counter", "Events sent to watchers.");
    write_kinds(s, EVENTS, b);
    metric_family(b, "apiserver_storage_objects", "gauge", "Stored objects by kind.");
    write_kinds(s, OBJECTS_OLD, b);
    metric_family(b, "apiserver_resource_objects", "gauge", "Stored objects by group and resource.");
    write_kinds(s, OBJECTS, b);
    fairness_write(s->fairness, b);
    store_stats(s->store, &stats);
    metric_family(b, "apiserver_storage_size_bytes", "gauge", "Size of the database files in bytes.");
    buf_addf(b, "apiserver_storage_size_bytes{storage_cluster_id=\"vireo\"} %llu\n",
             (unsigned long long)stats.file_bytes);
    metric_family(b, "kubernetes_build_info", "gauge", "The version that is served, as a label.");
    buf_adds(b, "kubernetes_build_info{build_date=\"\",compiler=\"cc\",git_commit=\"\","
                "git_tree_state=\"clean\",git_version=\"v1.36.0+vireo-" VIREO_VERSION
                "\",go_version=\"none\",major=\"1\",minor=\"36\",platform=\"linux\"} 1\n");
    metric_process(b);
    audit_metrics(s->config.audit, b);
    metric_one(b, "vireo_store_writes_total", "counter", "Writes.", (double)stats.writes);
    metric_one(b, "vireo_store_commits_total", "counter", "Transactions, each with its fsync.",
        (double)stats.commits);
    metric_one(b, "vireo_store_failed_commits_total", "counter", "Transactions that failed (EIO, ENOSPC); nothing of them happened.",
        (double)stats.failed_commits);
    metric_one(b, "vireo_store_low_space", "gauge", "1 while the disk is full and only what makes objects fewer or smaller is taken.",
        stats.low_space ? 1 : 0);
    metric_one(b, "vireo_store_memory_bytes", "gauge", "Memory of objects, index and history.",
        (double)stats.bytes_in_memory);
    metric_one(b, "vireo_store_watchers", "gauge", "Watches of the store, our controllers' among them.",
        (double)stats.watchers);
    metric_one(b, "vireo_store_revision", "gauge", "The newest revision.",
        (double)store_revision(s->store));
    if (s->more_metrics)
        s->more_metrics(s->more_metrics_data, b);
}

void apiserver_add_metrics(struct apiserver *s, void (*write)(void *data, struct buf *b), void *data)
{
    s->more_metrics = write;
    s->more_metrics_data = data;
}
