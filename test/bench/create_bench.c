/* create_bench - how long a virtual machine takes from its creation to Running, as a client sees it.
 *
 *   create_bench -k KUBECONFIG [-n COUNT] [-i INTERVAL_MS] [-m MEMORY] [-d] [-P] [-p PREFIX] [-H]
 *
 * Without -i one at a time: created, Running, deleted, gone, then the next. With -i one is created every INTERVAL_MS
 * whether or not those before it run, and all are deleted at the end. A guest has firmware only, -m memory and no graphics;
 * -d: nothing but the memory is said, all else is as the defaults say; -P: it starts paused, so no guest code takes time.
 * -H: once all run "running" is printed, and they are held until a line or the end comes on stdin.
 *
 * Time runs from before the request is written to when the watch brings the phase; both in this process, on a monotonic clock
 * (object timestamps have whole seconds). Prints one line of JSON. */
#include <getopt.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "api.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#define INSTANCES "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
#define PODS      "/api/v1/namespaces/default/pods"

/* What is seen of one instance, in the order in which it should come. */
enum mark { SENT, ANSWERED, POD, POD_BOUND, POD_RUNNING, SCHEDULING, SCHEDULED, RUNNING, GONE, MARKS };
static const char *const mark_names[MARKS] = {"sent", "answered", "pod_created", "pod_bound", "pod_running",
                                              "scheduling", "scheduled", "running", "gone"};

struct bench;
struct guest {
    struct bench *bench;
    int64_t at[MARKS]; /* 0: not yet */
    unsigned events;
};

struct watch {
    struct bench *bench;
    const char *path;
    bool pods, open;
    struct http_client *http;
    struct buf line;
};

struct bench {
    struct api api;
    struct loop *loop;
    struct http_client *http;
    struct watch instances, pods;
    struct guest *guests;
    unsigned count, running, gone, answered, created;
    int64_t interval_ns, deadline_ns;
    const char *prefix, *memory;
    bool defaults, paused, hold;
    struct loop_timer tick;
};

static struct guest *guest_of(struct bench *b, struct str name)
{
    struct error err = {0};
    struct str digits;
    uint64_t n = 0;

    if (!str_starts(name, str_of(b->prefix)))
        return NULL;
    digits = str_skip(name, strlen(b->prefix));
    return parse_u64(digits, b->count - 1, &n, &err) ? &b->guests[n] : (error_clear(&err), NULL);
}

static void mark(struct guest *g, enum mark m, int64_t now)
{
    if (g->at[m] == 0)
        g->at[m] = now;
}

static void on_pod(struct bench *b, const struct json *pod, int64_t now)
{
    struct guest *g = guest_of(b, json_str_at(pod, "metadata/ownerReferences/0/name"));

    if (!g)
        return;
    mark(g, POD, now);
    if (json_at(pod, "spec/nodeName"))
        mark(g, POD_BOUND, now);
    if (str_is(json_str_at(pod, "status/phase"), "Running"))
        mark(g, POD_RUNNING, now);
}

static void on_instance(struct bench *b, const struct json *vmi, struct str type, int64_t now)
{
    struct str name = json_str_at(vmi, "metadata/name"), phase = json_str_at(vmi, "status/phase");
    struct guest *g = guest_of(b, name);

    if (!g)
        return;
    g->events++;
    if (str_is(type, "DELETED")) {
        b->gone += g->at[GONE] == 0;
        mark(g, GONE, now);
    } else if (str_is(phase, "Scheduling")) {
        mark(g, SCHEDULING, now);
    } else if (str_is(phase, "Scheduled")) {
        mark(g, SCHEDULED, now);
    } else if (str_is(phase, "Running")) {
        b->running += g->at[RUNNING] == 0;
        mark(g, RUNNING, now);
    } else if (str_is(phase, "Failed") || str_is(phase, "Succeeded")) {
        if (g->at[RUNNING] == 0)
            bench_die(STR_FMT " ended before it ran: %s", STR_ARG(name), json_text(json_get(vmi, "status")));
    }
}

static void on_line(struct watch *w, struct str line, int64_t now)
{
    AUTO(arena_done) struct arena a = {0};
    struct error err = {0};
    const struct json *v;
    struct str type;

    if (!json_parse(line, &a, &v, &err))
        bench_die("watch %s: %s", w->path, error_text(&err));
    type = json_str_at(v, "type");
    if (str_is(type, "ERROR"))
        bench_die("watch %s: " STR_FMT, w->path, STR_ARG(line));
    if (w->pods)
        on_pod(w->bench, json_get(v, "object"), now);
    else
        on_instance(w->bench, json_get(v, "object"), type, now);
}

static void on_data(void *user, struct str data)
{
    struct watch *w = user;
    int64_t now = bench_now_ns();
    struct str line, rest;
    size_t used = 0;

    buf_addstr(&w->line, data);
    for (rest = buf_str(&w->line); str_cut(rest, '\n', &line, &rest); used += line.n + 1)
        if (line.n)
            on_line(w, line, now);
    buf_consume(&w->line, used);
}

static void on_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct watch *w = user;

    (void)headers;
    (void)n;
    if (status != 200)
        bench_die("watch %s: %d", w->path, status);
    w->open = true;
}

static void on_watch_end(void *user, int status, struct str body, const struct error *err)
{
    struct watch *w = user;

    (void)body;
    bench_die("watch %s ended: %d %s", w->path, status, err->kind != ERROR_NONE ? error_text(err) : "");
}

static void open_watch(struct bench *b, struct watch *w, const char *path, bool pods)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf list = {0};
    struct error err = {0};
    const struct json *v;
    char target[200];

    *w = (struct watch){.bench = b, .path = path, .pods = pods, .http = api_connect(&b->api)};
    buf_init(&list, 64u << 20);
    buf_init(&w->line, 64u << 20);
    if (api_call(&b->api, w->http, HTTP_GET, path, NULL, &list) != 200 || !json_parse(buf_str(&list), &a, &v, &err))
        bench_die("list %s: " STR_FMT, path, STR_ARG(buf_str(&list)));
    snprintf(target, sizeof target, "%s?watch=1&resourceVersion=" STR_FMT, path,
             STR_ARG(json_str_at(v, "metadata/resourceVersion")));
    http_client_call(w->http, &(struct http_request){.method = HTTP_GET, .path = str_of(target), .timeout_ns = -1,
                                                     .stream = true, .head = on_head, .data = on_data,
                                                     .done = on_watch_end, .user = w});
    while (!w->open)
        loop_turn(b->loop, MILLIS(100));
}

static void on_created(void *user, int status, struct str body, const struct error *err)
{
    struct guest *g = user;

    if (err->kind != ERROR_NONE)
        bench_die("create: %s", error_text(err));
    if (status != 201)
        bench_die("create: %d " STR_FMT, status, STR_ARG(body));
    mark(g, ANSWERED, bench_now_ns());
    g->bench->answered++;
}

static void create(struct bench *b)
{
    AUTO(buf_done) struct buf body = {0};
    struct guest *g = &b->guests[b->created];

    g->bench = b;
    buf_addf(&body, "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"VirtualMachineInstance\",\"metadata\":{\"name\":\"%s%u\"},"
                    "\"spec\":{\"terminationGracePeriodSeconds\":0,%s\"domain\":{",
             b->prefix, b->created++, b->paused ? "\"startStrategy\":\"Paused\"," : "");
    if (!b->defaults)
        buf_adds(&body, "\"devices\":{\"autoattachGraphicsDevice\":false},");
    buf_addf(&body, "\"memory\":{\"guest\":\"%s\"}}}}", b->memory);
    g->at[SENT] = bench_now_ns();
    http_client_call(b->http, &(struct http_request){.method = HTTP_POST, .path = STR(INSTANCES), .body = buf_str(&body),
                                                     .content_type = STR("application/json"), .done = on_created,
                                                     .user = g});
}

static void on_deleted(void *user, int status, struct str body, const struct error *err)
{
    (void)user;
    if (err->kind != ERROR_NONE)
        bench_die("delete: %s", error_text(err));
    if (status != 200 && status != 202 && status != 404)
        bench_die("delete: %d " STR_FMT, status, STR_ARG(body));
}

static void destroy(struct bench *b, unsigned i)
{
    char path[200];

    snprintf(path, sizeof path, INSTANCES "/%s%u", b->prefix, i);
    http_client_call(b->http, &(struct http_request){.method = HTTP_DELETE, .path = str_of(path), .done = on_deleted});
}

/* Pumps until *counter has reached n. A bench that hangs says on what, and ends. */
static void until(struct bench *b, const unsigned *counter, unsigned n, const char *what)
{
    while (*counter < n) {
        loop_turn(b->loop, MILLIS(100));
        if (bench_now_ns() > b->deadline_ns)
            bench_die("timeout: %u of %u %s", *counter, n, what);
    }
}

static void on_tick(struct loop_timer *t)
{
    struct bench *b = container_of(t, struct bench, tick);

    /* Due times are of the schedule, not of the last wake-up: a late tick does not shift those after it. */
    create(b);
    if (b->created < b->count)
        loop_timer_start(b->loop, t, b->guests[0].at[SENT] + b->created * b->interval_ns - bench_now_ns(), on_tick);
}

static void one_at_a_time(struct bench *b)
{
    for (unsigned i = 0; i < b->count; i++) {
        create(b);
        until(b, &b->running, i + 1, "running");
        until(b, &b->answered, i + 1, "answered");
        destroy(b, i);
        until(b, &b->gone, i + 1, "gone");
    }
}

static void on_stdin(struct loop_io *io, uint32_t events)
{
    (void)events;
    loop_io_stop(io);
}

static void hold(struct bench *b)
{
    struct loop_io in = {0};

    printf("running\n");
    fflush(stdout);
    loop_io_start(b->loop, &in, STDIN_FILENO, EPOLLIN, on_stdin);
    while (in.loop)
        loop_turn(b->loop, MILLIS(100));
    b->deadline_ns = bench_now_ns() + SECONDS(90);
}

static void at_intervals(struct bench *b)
{
    on_tick(&b->tick);
    until(b, &b->running, b->count, "running");
    until(b, &b->answered, b->count, "answered");
    if (b->hold)
        hold(b);
    for (unsigned i = 0; i < b->count; i++)
        destroy(b, i);
    until(b, &b->gone, b->count, "gone");
}

static void print(struct bench *b)
{
    printf("{\"count\": %u, \"interval_ms\": %lld, \"memory\": \"%s\", \"defaults\": %s, \"paused\": %s, \"marks\": {", b->count,
           (long long)(b->interval_ns / 1000000), b->memory, b->defaults ? "true" : "false",
           b->paused ? "true" : "false");
    for (enum mark m = ANSWERED; m < MARKS; m++) {
        struct samples s = {0};

        for (unsigned i = 0; i < b->count; i++)
            if (b->guests[i].at[m])
                samples_add(&s, b->guests[i].at[m] - b->guests[i].at[SENT]);
        printf("%s\"%s\": {\"n\": %zu, \"p50_ms\": %.1f, \"p95_ms\": %.1f, \"worst_ms\": %.1f}", m == ANSWERED ? "" : ", ",
               mark_names[m], s.n, samples_ms(&s, 0.50), samples_ms(&s, 0.95), samples_ms(&s, 1));
        samples_done(&s);
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    struct bench b = {.count = 30, .prefix = "null-", .memory = "32Mi"};
    const char *kubeconfig = NULL;
    int c;

    while ((c = getopt(argc, argv, "k:n:i:m:dPp:H")) != -1) {
        switch (c) {
        case 'k': kubeconfig = optarg; break;
        case 'n': b.count = bench_number(optarg, 1, 100000); break;
        case 'i': b.interval_ns = MILLIS(bench_number(optarg, 1, 100000)); break;
        case 'm': b.memory = optarg; break;
        case 'd': b.defaults = true; break;
        case 'p': b.prefix = optarg; break;
        case 'P': b.paused = true; break;
        case 'H': b.hold = true; break;
        default: kubeconfig = NULL; optind = argc; break;
        }
    }
    if (!kubeconfig) {
        fprintf(stderr, "usage: create_bench -k KUBECONFIG [-n COUNT] [-i INTERVAL_MS] [-m MEMORY] [-d] [-P] [-p PREFIX] [-H]\n");
        return 2;
    }
    b.loop = loop_new(NULL);
    b.guests = xcalloc(b.count, sizeof *b.guests);
    b.deadline_ns = bench_now_ns() + SECONDS(120);
    api_open(&b.api, b.loop, kubeconfig);
    b.http = api_connect(&b.api);
    open_watch(&b, &b.instances, INSTANCES, false);
    open_watch(&b, &b.pods, PODS, true);
    if (b.interval_ns)
        at_intervals(&b);
    else
        one_at_a_time(&b);
    print(&b);
    fflush(stdout);
    _exit(0); /* the watches end with their connections */
}
