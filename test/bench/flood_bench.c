/* flood_bench - VirtualMachines created as fast as the API server takes them, and when they run.
 *
 *   flood_bench -k KUBECONFIG [-n COUNT] [-f FIRST] [-w WINDOW] [-b BACKLOG] [-p PREFIX] [-t SECONDS] [-q]
 *
 * WINDOW requests are under way at a time; with -b so many at most are created that do not run yet. Each is a whole VirtualMachine with
 * a disk and an interface, for simulated nodes (`vireo sim`). Ends when all run, with one line of JSON: seconds from the first request to
 * the last answer and to the last Running, and how long single machines took, as a watch of instances shows it. */
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "api.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#define INSTANCES "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
#define MACHINES  "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"

struct flood;
struct machine {
    struct flood *flood;
    int64_t sent, answered, running;
};
struct flood {
    struct api api;
    struct loop *loop;
    struct http_client *http, *watch_http;
    struct machine *machines;
    struct buf line;
    unsigned count, first, window, backlog, created, answered, running;
    const char *prefix;
    bool watching, quiet, gone;
    int watch_status;
    char revision[32]; /* of the watch's newest event: where the next one begins when the server ends it */
    unsigned watches;
    struct loop_timer again;
    int64_t deadline_ns, report_ns;
};

static struct machine *machine_of(struct flood *f, struct str name)
{
    AUTO(error_clear) struct error err = {0};
    uint64_t n = 0;

    if (!str_starts(name, str_of(f->prefix)) || !parse_u64(str_skip(name, strlen(f->prefix)), UINT32_MAX, &n, &err) || n < f->first
        || n >= f->first + f->count)
        return NULL;
    return &f->machines[n - f->first];
}

static void seen(struct flood *f, const struct json *vmi, int64_t now)
{
    struct machine *m = machine_of(f, json_str_at(vmi, "metadata/name"));
    struct str phase = json_str_at(vmi, "status/phase");

    if (!m || m->running)
        return;
    if (str_is(phase, "Failed") || str_is(phase, "Succeeded"))
        bench_die(STR_FMT " ended before it ran", STR_ARG(json_str_at(vmi, "metadata/name")));
    if (str_is(phase, "Running")) {
        m->running = now;
        f->running++;
    }
}

static void on_line(struct flood *f, struct str line, int64_t now)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;
    struct str revision;

    if (!json_parse(line, &a, &v, &err))
        bench_die("watch: %s", error_text(&err));
    if (str_is(json_str_at(v, "type"), "ERROR")) {
        f->gone = true; /* of old age: what is there is read anew when the stream has ended */
        return;
    }
    revision = json_str_at(v, "object/metadata/resourceVersion");
    if (revision.n)
        snprintf(f->revision, sizeof f->revision, STR_FMT, STR_ARG(revision));
    seen(f, json_get(v, "object"), now);
}

static void on_data(void *user, struct str data)
{
    struct flood *f = user;
    int64_t now = bench_now_ns();
    struct str line, rest;
    size_t used = 0;

    if (f->watch_status != 200)
        return; /* why it was refused: on_watch_end() says it */
    buf_addstr(&f->line, data);
    for (rest = buf_str(&f->line); str_cut(rest, '\n', &line, &rest); used += line.n + 1)
        if (line.n)
            on_line(f, line, now);
    buf_consume(&f->line, used);
}

static void on_head(void *user, int status, const struct http_header *headers, size_t n)
{
    struct flood *f = user;

    (void)headers;
    (void)n;
    f->watch_status = status;
    f->watching = status == 200;
}

static void watch_on(struct flood *f);

static void on_watch_timer(struct loop_timer *t)
{
    watch_on(container_of(t, struct flood, again));
}

/* Under load a server ends watches before their time, or refuses them for a while. */
static void on_watch_end(void *user, int status, struct str body, const struct error *err)
{
    struct flood *f = user;

    (void)body;
    if (++f->watches > 1000)
        bench_die("the watch ended: %d %s", status, err->kind != ERROR_NONE ? error_text(err) : "");
    if (!f->quiet)
        fprintf(stderr, "the watch ended at revision %s (%d %s), and goes on\n", f->revision, status,
                err->kind != ERROR_NONE ? error_text(err) : "");
    f->gone = f->gone || status == 410;
    f->watching = false;
    buf_clear(&f->line);
    loop_timer_start(f->loop, &f->again, MILLIS(200), on_watch_timer);
}

/* All of them, or one: for where the watch begins. */
static void list(struct flood *f, bool all)
{
    AUTO_FREE char *token = xstrdup("");

    do {
        AUTO(arena_done) struct arena a = {0};
        AUTO(buf_done) struct buf page = {0};
        AUTO(error_clear) struct error err = {0};
        AUTO_FREE char *target = xasprintf(INSTANCES "?limit=%d&continue=%s", all ? 500 : 1, token);
        const struct json *v;

        buf_init(&page, 64u << 20);
        if (api_call(&f->api, f->watch_http, HTTP_GET, target, NULL, &page) != 200 || !json_parse(buf_str(&page), &a, &v, &err))
            bench_die("list: " STR_FMT, STR_ARG(buf_str(&page)));
        snprintf(f->revision, sizeof f->revision, STR_FMT, STR_ARG(json_str_at(v, "metadata/resourceVersion")));
        json_each_item(vmi, json_get(v, "items"))
            seen(f, vmi, bench_now_ns());
        free(token);
        token = str_dup(json_str_at(v, "metadata/continue"));
    } while (all && token && *token);
}

static void watch_on(struct flood *f)
{
    char target[200];

    if (f->gone)
        list(f, true);
    f->gone = false;
    snprintf(target, sizeof target, INSTANCES "?watch=1&allowWatchBookmarks=true&timeoutSeconds=7200&resourceVersion=%s", f->revision);
    http_client_call(f->watch_http, &(struct http_request){.method = HTTP_GET, .path = str_of(target), .timeout_ns = -1, .stream = true,
                                                           .head = on_head, .data = on_data, .done = on_watch_end, .user = f});
}

static void watch(struct flood *f)
{
    f->watch_http = api_connect(&f->api);
    buf_init(&f->line, 64u << 20);
    list(f, false);
    watch_on(f);
    while (!f->watching)
        loop_turn(f->loop, MILLIS(100));
}

static void on_created(void *user, int status, struct str body, const struct error *err)
{
    struct machine *m = user;

    if (err->kind != ERROR_NONE)
        bench_die("create: %s", error_text(err));
    if (status != 201)
        bench_die("create: %d " STR_FMT, status, STR_ARG(body));
    m->answered = bench_now_ns();
    m->flood->answered++;
}

static void create(struct flood *f)
{
    AUTO(buf_done) struct buf body = {0};
    struct machine *m = &f->machines[f->created];

    m->flood = f;
    buf_addf(&body,
             "{\"apiVersion\":\"kubevirt.io/v1\",\"kind\":\"VirtualMachine\",\"metadata\":{\"name\":\"%s%u\"},\"spec\":{"
             "\"runStrategy\":\"Always\",\"template\":{\"spec\":{\"nodeSelector\":{\"vireo.io/simulated\":\"true\"},"
             "\"terminationGracePeriodSeconds\":0,\"domain\":{\"cpu\":{\"cores\":1,\"sockets\":1,\"threads\":1},"
             "\"memory\":{\"guest\":\"128Mi\"},\"machine\":{\"type\":\"q35\"},\"devices\":{\"autoattachGraphicsDevice\":false,"
             "\"disks\":[{\"name\":\"root\",\"disk\":{\"bus\":\"virtio\"}}],"
             "\"interfaces\":[{\"name\":\"default\",\"model\":\"virtio\",\"masquerade\":{}}]}},"
             "\"networks\":[{\"name\":\"default\",\"pod\":{}}],"
             "\"volumes\":[{\"name\":\"root\",\"emptyDisk\":{\"capacity\":\"1Gi\"}}]}}}}",
             f->prefix, f->first + f->created++);
    m->sent = bench_now_ns();
    http_client_call(f->http, &(struct http_request){.method = HTTP_POST, .path = STR(MACHINES), .body = buf_str(&body),
                                                     .content_type = STR("application/json"), .done = on_created, .user = m});
}

static void run(struct flood *f)
{
    while (f->running < f->count) {
        int64_t now = bench_now_ns();

        while (f->created < f->count && f->created - f->answered < f->window && f->created - f->running < f->backlog)
            create(f);
        loop_turn(f->loop, MILLIS(100));
        if (now > f->deadline_ns)
            bench_die("timeout: %u created, %u of %u run", f->answered, f->running, f->count);
        if (now > f->report_ns && !f->quiet) {
            fprintf(stderr, "%u created, %u run\n", f->answered, f->running);
            f->report_ns = now + SECONDS(10);
        }
    }
}

static void print(struct flood *f)
{
    struct samples s = {0};
    int64_t begun = f->machines[0].sent, answered = begun, running = begun;

    for (unsigned i = 0; i < f->count; i++) {
        struct machine *m = &f->machines[i];

        samples_add(&s, m->running - m->sent);
        answered = m->answered > answered ? m->answered : answered;
        running = m->running > running ? m->running : running;
    }
    printf("{\"count\": %u, \"created_s\": %.2f, \"running_s\": %.2f, \"per_s\": %.2f, \"p50_ms\": %.1f, \"p95_ms\": %.1f, "
           "\"worst_ms\": %.1f}\n",
           f->count, (double)(answered - begun) / 1e9, (double)(running - begun) / 1e9,
           f->count / ((double)(running - begun) / 1e9), samples_ms(&s, 0.5), samples_ms(&s, 0.95), samples_ms(&s, 1));
    samples_done(&s);
}

int main(int argc, char **argv)
{
    struct flood f = {.count = 100, .window = 32, .backlog = UINT32_MAX, .prefix = "flood-"};
    const char *kubeconfig = NULL;
    unsigned seconds = 1800;
    int c;

    while ((c = getopt(argc, argv, "k:n:f:w:b:p:t:q")) != -1) {
        switch (c) {
        case 'k': kubeconfig = optarg; break;
        case 'n': f.count = bench_number(optarg, 1, 100000); break;
        case 'f': f.first = bench_number(optarg, 0, 100000); break;
        case 'w': f.window = bench_number(optarg, 1, 1000); break;
        case 'b': f.backlog = bench_number(optarg, 1, 100000); break;
        case 'p': f.prefix = optarg; break;
        case 't': seconds = bench_number(optarg, 1, 100000); break;
        case 'q': f.quiet = true; break;
        default: kubeconfig = NULL; optind = argc; break;
        }
    }
    if (!kubeconfig) {
        fputs("usage: flood_bench -k KUBECONFIG [-n COUNT] [-f FIRST] [-w WINDOW] [-b BACKLOG] [-p PREFIX] [-t SECONDS] [-q]\n", stderr);
        return 2;
    }
    f.loop = loop_new(NULL);
    api_open(&f.api, f.loop, kubeconfig);
    f.http = api_connect(&f.api);
    f.machines = xcalloc(f.count, sizeof *f.machines);
    f.deadline_ns = bench_now_ns() + SECONDS(seconds);
    watch(&f);
    run(&f);
    print(&f);
    fflush(stdout);
    _exit(0); /* a watch that ends would be an error */
}
