/* store_bench - what the store does on this machine: durable writes by N clients in flight, and with -o
 * memory, list and start with that many live objects.
 *
 *   store_bench [-d DIR] [-c CLIENTS] [-s BYTES] [-t SECONDS] [-o OBJECTS [-e EVENTS] [-f TEMPLATE]…]
 *
 * With -f objects are made from recorded ones (a list's first item counts), taken in turn: names are numbered and
 * every hexadecimal digit of what looks like a uid or hash, and every digit of a time, is drawn anew.
 * Every client writes an object of its own, waits for the answer (so for the fsync) and writes again. */
#include "base/alloc.h"
#include "base/file.h"
#include "loop/loop.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct loop *loop;
static struct store *store;
static struct arena values;
static size_t size = 4096;
static int64_t end_ns;
static uint32_t *latencies_us;
static size_t n_latencies, max_latencies;
static int in_flight;

struct client {
    char key[80];
    int64_t sent_ns;
    unsigned writes;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return SECONDS(t.tv_sec) + t.tv_nsec;
}

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "store_bench: %s: %s\n", what, error_text(err));
    exit(1);
}

/* Bytes that compress about as objects do: words of a small vocabulary, then noise in base64. */
static const char *filler(size_t n)
{
    static unsigned seed = 42;
    char *p = arena_alloc(&values, n + 1);
    size_t at = 0;

    while (at < n) {
        static const char *const words[] = {"containers", "volumeMounts", "readOnly", "default", "kubevirt.io/"};
        unsigned r = (unsigned)rand_r(&seed);
        const char *w = words[r % 5];

        if (r & 0x100)
            for (size_t i = 0; w[i] && at < n; i++)
                p[at++] = w[i];
        for (int i = 0; i < 10 && at < n; i++)
            p[at++] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[(unsigned)rand_r(&seed) >> 7 & 31];
    }
    return p;
}

static const struct json *make(struct arena *a, const char *name, const char *text)
{
    return json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "ConfigMap"), "metadata",
        json_object(a, "name", json_new_z(a, name), "namespace", json_new_z(a, "default"), "uid",
                    json_new_f(a, "0f9a7c1e-1111-2222-3333-%012d", rand() % 1000000), NULL),
        "data", json_object(a, "text", json_new_z(a, text), NULL), NULL);
}

static void next(struct client *c);

static void answered(void *user, struct store_object *o, const struct error *err)
{
    struct client *c = user;
    int64_t now = now_ns();

    (void)o;
    if (err)
        die("write", err);
    in_flight--;
    if (n_latencies < max_latencies)
        latencies_us[n_latencies++] = (uint32_t)((now - c->sent_ns) / 1000);
    if (now < end_ns)
        next(c);
}

static void next(struct client *c)
{
    static const char *texts[16];
    struct arena a = {0};
    struct error err = {0};
    const char **text = &texts[c->writes++ % 16];

    if (!*text)
        *text = filler(size - 180);
    c->sent_ns = now_ns();
    in_flight++;
    if (!store_put(store, &(struct store_write){.key = str_of(c->key), .value = make(&a, c->key, *text), .done = answered,
            .user = c}, &err))
        die("write", &err);
    arena_done(&a);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void bench_writes(int clients, int seconds)
{
    struct client *c = xcalloc((size_t)clients, sizeof *c);
    struct store_stats before, after;
    int64_t start = now_ns();

    max_latencies = 10u << 20;
    latencies_us = xcalloc(max_latencies, sizeof *latencies_us);
    end_ns = start + SECONDS(seconds);
    store_stats(store, &before);
    for (int i = 0; i < clients; i++) {
        snprintf(c[i].key, sizeof c[i].key, "/registry/core/configmaps/default/client-%04d", i);
        next(&c[i]);
    }
    while (in_flight > 0)
        loop_turn(loop, MILLIS(10));
    store_stats(store, &after);
    qsort(latencies_us, n_latencies, sizeof *latencies_us, compare);
    printf("writes: %d clients, %zu bytes: %.0f/s, p50 %.2f ms, p99 %.2f ms, worst %.2f ms, %.1f per commit\n", clients,
           size, (double)n_latencies / ((double)(now_ns() - start) / 1e9), latencies_us[n_latencies / 2] / 1e3,
           latencies_us[n_latencies * 99 / 100] / 1e3, latencies_us[n_latencies - 1] / 1e3,
           (double)(after.writes - before.writes) / (double)(after.commits - before.commits));
    free(latencies_us);
    free(c);
}

static size_t resident(void)
{
    AUTO(buf_done) struct buf b = {0};
    struct error err = {0};
    struct str rest, word;
    uint64_t pages = 0;

    if (!file_read(AT_FDCWD, "/proc/self/statm", &b, &err))
        die("statm", &err);
    rest = buf_str(&b);
    (void)str_next(&rest, ' ', &word);
    (void)str_next(&rest, ' ', &word);
    if (!parse_u64(word, UINT64_MAX, &pages, &err))
        die("statm", &err);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int left;

static void counted(void *user, struct store_object *o, const struct error *err)
{
    (void)user;
    (void)o;
    if (err)
        die("write", err);
    left--;
}

static const char *const kinds[] = {"kubevirt.io/virtualmachines", "kubevirt.io/virtualmachineinstances", "core/pods",
                                    "apps/controllerrevisions"};

static const struct json *templates[8];
static int n_templates;

static void read_template(const char *path)
{
    AUTO(buf_done) struct buf b = {0};
    struct error err = {0};
    const struct json *v, *item;

    if (n_templates == (int)ARRAY_SIZE(templates) || !file_read(AT_FDCWD, path, &b, &err)
        || !json_parse(buf_str(&b), &values, &v, &err))
        die(path, &err);
    item = json_item(json_get(v, "items"), 0);
    templates[n_templates++] = item ? item : v;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-';
}

/* Runs of eight and more hexadecimal digits and dashes: uids, hashes, dates. */
static void draw_anew(char *p, size_t n)
{
    for (size_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && is_hex(p[end]); end++)
            ;
        for (size_t k = i; end - i >= 8 && k < end; k++)
            if (p[k] != '-')
                p[k] = (n == 20 && p[n - 1] == 'Z' ? "0123456789" : "0123456789abcdef")[rand() % (p[n - 1] == 'Z' ? 10 : 16)];
    }
}

static const struct json *vary(struct arena *a, const struct json *v)
{
    if (json_is(v, JSON_STRING)) {
        char *p = arena_strdup(a, json_str(v));

        draw_anew(p, strlen(p));
        return json_new_z(a, p);
    }
    if (json_is(v, JSON_ARRAY)) {
        const struct json **items = ARENA_ARRAY(a, const struct json *, json_len(v) + 1);

        for (size_t i = 0; i < json_len(v); i++)
            items[i] = vary(a, json_item(v, i));
        return json_array_n(a, items, json_len(v));
    }
    if (json_is(v, JSON_OBJECT)) {
        struct json_member *members = ARENA_ARRAY(a, struct json_member, json_len(v) + 1);

        for (size_t i = 0; i < json_len(v); i++)
            members[i] = json_member_of(a, json_str(&v->members[i].key), vary(a, &v->members[i].value));
        return json_object_n(a, members, json_len(v));
    }
    return v;
}

/* Objects that differ in names and some values, as VMs from one template do. */
static const struct json *invent(struct arena *a, int i)
{
    const struct json *list = json_array(a, NULL);

    for (int k = 0; k < 24; k++)
        list = json_append(a, list, json_object(a,
            "name", json_new_f(a, "%s-item-%d", kinds[i % 4], k), "mountPath", json_new_f(a, "/var/run/%d/private", k),
            "image", json_new_f(a, "registry.example.org/images/%s:%d", kinds[i % 4], k), "address",
            json_new_f(a, "10.%d.%d.%d", k, i / 250 % 250, i % 250), "hash", json_new_f(a, "%08x", (unsigned)rand()),
            "readOnly", json_new_bool(k % 2), NULL));
    return json_object(a, "kind", json_new_z(a, kinds[i % 4]), "metadata", json_object(a, "uid",
        json_new_f(a, "%08x-1111-2222-3333-%012d", (unsigned)rand(), i), NULL), "spec", list, NULL);
}

static void put_one(const char *key, const struct json *value)
{
    struct error err = {0};

    if (!store_put(store, &(struct store_write){.key = str_of(key), .done = counted, .value = value}, &err))
        die("write", &err);
}

static void fill(int objects)
{
    left = objects;
    for (int i = 0; i < objects; i++) {
        struct arena a = {0};
        const struct json *v = n_templates ? vary(&a, templates[i % n_templates]) : invent(&a, i);
        char key[120];

        snprintf(key, sizeof key, "/registry/%s/ns-%d/vm-%05d", kinds[i % 4], i % 20, i / 4);
        put_one(key, json_with_at(&a, v, "metadata/name", json_new_f(&a, "vm-%05d", i / 4)));
        while (objects - left < i - 2000)
            loop_turn(loop, MILLIS(10));
        arena_done(&a);
    }
    while (left > 0)
        loop_turn(loop, MILLIS(10));
}

static void fill_events(int events)
{
    struct error err = {0};

    left = events;
    for (int i = 0; i < events; i++) {
        struct arena a = {0};
        char key[120];

        snprintf(key, sizeof key, "/registry/core/events/ns-%d/vm-%05d.%016x", i % 20, i / 5, (unsigned)rand());
        put_one(key, json_object(&a, "kind", json_new_z(&a, "Event"), "metadata", json_object(&a, "name",
            json_new_z(&a, strrchr(key, '/') + 1), "uid", json_new_f(&a, "%08x-1111-2222-3333-%012d", (unsigned)rand(), i),
            NULL), "reason", json_new_z(&a, "SuccessfulCreate"), "message",
            json_new_f(&a, "Created virtual machine instance vm-%05d, padding of a usual message %d", i / 5, rand()),
            "involvedObject", json_object(&a, "kind", json_new_z(&a, "VirtualMachine"), "name",
            json_new_f(&a, "vm-%05d", i / 5), "uid", json_new_f(&a, "%08x-4444", (unsigned)rand()), NULL),
            "source", json_object(&a, "component", json_new_z(&a, "virtualmachine-controller"), NULL), NULL));
        if (!store_ttl_set(store, str_of(key), SECONDS(3600), &err))
            die("ttl", &err);
        while (events - left < i - 2000)
            loop_turn(loop, MILLIS(10));
        arena_done(&a);
    }
    while (left > 0)
        loop_turn(loop, MILLIS(10));
}

static void print_memory(const char *when)
{
    struct store_stats st;

    malloc_trim(0);
    store_stats(store, &st);
    printf("%s: %llu objects, %.1f MB in the store (%.0f bytes each), %llu events of history, process resident %.1f MB\n", when,
           (unsigned long long)st.objects, (double)st.bytes_in_memory / 1e6,
           (double)st.bytes_in_memory / (double)st.objects, (unsigned long long)st.history, (double)resident() / 1e6);
}

static void bench_objects(int objects, int events, struct store_config *config)
{
    AUTO(buf_done) struct buf out = {0};
    struct error err = {0};
    struct store_list list;
    int64_t start = now_ns();

    fill(objects);
    printf("fill: %d objects in %.2f s\n", objects, (double)(now_ns() - start) / 1e9);
    print_memory("after filling");
    if (events > 0) {
        fill_events(events);
        print_memory("with events");
    }
    store_close(store);
    start = now_ns();
    if (!(store = store_open(config, &err)))
        die("open", &err);
    printf("start: %.0f ms\n", (double)(now_ns() - start) / 1e6);
    print_memory("after start");
    for (int i = 0; i < 3; i++) {
        start = now_ns();
        if (!store_list(store, STR("/registry/kubevirt.io/virtualmachineinstances/"), STR_NONE, 0, 0, NULL, NULL, &list, &err))
            die("list", &err);
        buf_clear(&out);
        for (size_t k = 0; k < list.n; k++)
            store_object_text(list.p[k], &out);
        printf("list: %zu objects, %.1f MB of text in %.1f ms\n", list.n, (double)out.n / 1e6,
               (double)(now_ns() - start) / 1e6);
        store_list_done(&list);
    }
}

int main(int argc, char **argv)
{
    const char *dir = "/tmp/vireo-store-bench";
    int clients = 64, seconds = 5, objects = 0, events = 0, c;
    struct store_config config = {0};
    struct error err = {0};

    while ((c = getopt(argc, argv, "d:c:s:t:o:e:f:")) != -1) {
        switch (c) {
        case 'd':
            dir = optarg;
            break;
        case 'c':
            clients = (int)strtol(optarg, NULL, 10);
            break;
        case 's':
            size = (size_t)strtoul(optarg, NULL, 10);
            break;
        case 't':
            seconds = (int)strtol(optarg, NULL, 10);
            break;
        case 'o':
            objects = (int)strtol(optarg, NULL, 10);
            break;
        case 'e':
            events = (int)strtol(optarg, NULL, 10);
            break;
        case 'f':
            read_template(optarg);
            break;
        default:
            fprintf(stderr, "usage: store_bench [-d DIR] [-c CLIENTS] [-s BYTES] [-t SECONDS]"
                            " [-o OBJECTS [-e EVENTS] [-f TEMPLATE]…]\n");
            return 2;
        }
    }
    if (clients < 1 || clients > 100000 || size < 256 || size > 1000000 || seconds < 1) {
        fprintf(stderr, "store_bench: clients 1…100000, bytes 256…1000000, seconds ≥ 1\n");
        return 2;
    }
    if (!file_remove_tree(AT_FDCWD, dir, &err))
        die(dir, &err);
    if (mkdir(dir, 0700) != 0 || (config.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        error_errno(&err, errno, "create");
        die(dir, &err);
    }
    loop = config.loop = loop_new(NULL);
    if (!(store = store_open(&config, &err)))
        die("open", &err);
    if (objects > 0)
        bench_objects(objects, events, &config);
    else
        bench_writes(clients, seconds);
    store_close(store);
    loop_free(loop);
    arena_done(&values);
    fd_close(&config.dirfd);
    if (!file_remove_tree(AT_FDCWD, dir, &err))
        die(dir, &err);
    return 0;
}
