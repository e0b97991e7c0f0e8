/* The QEMU guest agent's client: one command at a time over the guest's port, answers bounded, nothing trusted.
 *
 * The port says when a program in the guest opens it. Then a guest-sync finds the stream's beginning, guest-info tells what
 * the agent can do, and each kind of information is asked for again at its own interval. An answer that does not come in
 * time, or is larger than any sane one, ends the connection; it is tried again while the port stays open. */
#include "launcher/internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/buf.h"

#define MAX_ANSWER (256u << 10)
#define TIMEOUT_NS SECONDS(10)
#define RETRY_NS SECONDS(5)
#define MAX_INTERFACES 32
#define MAX_IPS 32
#define MAX_TEXT 256

enum item {
    ITEM_INFO,
    ITEM_OS,
    ITEM_HOSTNAME,
    ITEM_TIMEZONE,
    ITEM_INTERFACES,
    ITEM_USERS,
    ITEM_FILESYSTEMS,
    N_ITEMS
};
static const struct {
    const char *command, *name;
    int64_t every_ns;
} items[N_ITEMS] = {
    [ITEM_INFO] = {"guest-info", "info", SECONDS(300)},
    [ITEM_OS] = {"guest-get-osinfo", "osinfo", SECONDS(120)},
    [ITEM_HOSTNAME] = {"guest-get-host-name", "hostname", SECONDS(120)},
    [ITEM_TIMEZONE] = {"guest-get-timezone", "timezone", SECONDS(120)},
    [ITEM_INTERFACES] = {"guest-network-get-interfaces", "interfaces", SECONDS(20)},
    [ITEM_USERS] = {"guest-get-users", "users", SECONDS(10)},
    [ITEM_FILESYSTEMS] = {"guest-get-fsinfo", "filesystems", SECONDS(300)},
};

enum stage { STAGE_CLOSED, STAGE_SYNCING, STAGE_READY };

struct guest_agent {
    struct launcher *launcher;
    struct loop_io io;
    struct loop_timer timer; /* the answer's deadline, or the next question */
    int fd;
    enum stage stage;
    bool asked;     /* an answer is awaited */
    enum item item; /* … to this, in STAGE_READY */
    int64_t sync_id;
    struct buf in;
    bool skipping; /* an oversized line: dropped up to its end */
    struct buf out;
    char *answers[N_ITEMS]; /* owned JSON text of the last answer, or NULL */
    int64_t due_ns[N_ITEMS];
    bool published;
};

static void ask_next(struct guest_agent *g);
static void timer_fired(struct loop_timer *t);

static bool known(const struct guest_agent *g)
{
    return g->stage == STAGE_READY && g->answers[ITEM_INFO];
}

bool agent_connected(const struct guest_agent *g)
{
    return g && known(g);
}

static void publish_if_changed(struct guest_agent *g, bool changed)
{
    bool now = known(g);

    if (now != g->published || (now && changed)) {
        g->published = now;
        launcher_publish(g->launcher);
    }
}

static void flush(struct guest_agent *g)
{
    while (g->out.n > 0) {
        ssize_t n = send(g->fd, g->out.p, g->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            buf_consume(&g->out, (size_t)n);
        else if (errno != EINTR)
            break;
    }
    if (g->io.loop)
        loop_io_events(&g->io, EPOLLIN | (g->out.n ? (uint32_t)EPOLLOUT : 0u));
}

static void ask(struct guest_agent *g, const char *text)
{
    g->asked = true;
    buf_adds(&g->out, text);
    buf_addc(&g->out, '\n');
    flush(g);
    loop_timer_start(g->launcher->loop, &g->timer, TIMEOUT_NS, timer_fired);
}

static void synchronize(struct guest_agent *g)
{
    AUTO_FREE char *text = NULL;

    g->stage = STAGE_SYNCING;
    g->sync_id++;
    buf_clear(&g->out);
    text = xasprintf("{\"execute\":\"guest-sync\",\"arguments\":{\"id\":%lld}}",
                     (long long)g->sync_id);
    ask(g, text);
}

static void forget(struct guest_agent *g)
{
    for (int i = 0; i < N_ITEMS; i++) {
        free(TAKE(g->answers[i]));
        g->due_ns[i] = 0;
    }
    g->asked = false;
    loop_timer_stop(&g->timer);
}

static void timer_fired(struct loop_timer *t)
{
    struct guest_agent *g = container_of(t, struct guest_agent, timer);

    if (g->stage == STAGE_CLOSED)
        return;
    if (!g->asked && g->stage == STAGE_READY) {
        ask_next(g);
        return;
    }
    forget(g); /* no answer: start over */
    synchronize(g);
    publish_if_changed(g, false);
}

static void ask_next(struct guest_agent *g)
{
    int64_t now = loop_now_ns(g->launcher->loop), next = INT64_MAX;

    for (int i = 0; i < N_ITEMS; i++) {
        if (g->due_ns[i] <= now) {
            AUTO_FREE char *text = xasprintf("{\"execute\":\"%s\"}", items[i].command);

            g->item = (enum item)i;
            g->due_ns[i] = now + items[i].every_ns;
            ask(g, text);
            return;
        }
        if (g->due_ns[i] < next)
            next = g->due_ns[i];
    }
    g->asked = false;
    loop_timer_start(g->launcher->loop, &g->timer, next - now, timer_fired);
}

static void take_answer(struct guest_agent *g, struct str line)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v, *value;
    int64_t id;

    while (line.n > 0 && (unsigned char)line.p[0] == 0xff)
        line = str_skip(line, 1);
    if (!g->asked || !json_parse(line, &a, &v, &err))
        return; /* left-overs of a conversation before ours */
    value = json_get(v, "return");
    if (g->stage == STAGE_SYNCING) {
        if (!json_i64(value, &id) || id != g->sync_id)
            return;
        g->stage = STAGE_READY;
        ask_next(g);
        return;
    }
    if (value || json_get(v, "error")) {
        char *text = value ? json_text(value) : NULL; /* an error: this agent lacks the command */
        bool changed = (text != NULL) != (g->answers[g->item] != NULL)
                       || (text && strcmp(text, g->answers[g->item]) != 0);

        free(g->answers[g->item]);
        g->answers[g->item] = text;
        publish_if_changed(g, changed && (g->item == ITEM_INTERFACES || g->item == ITEM_INFO || g->item == ITEM_OS));
        ask_next(g);
    }
}

static void readable(struct loop_io *io, uint32_t events)
{
    struct guest_agent *g = container_of(io, struct guest_agent, io);
    char text[4096], *nl;
    ssize_t n;

    (void)events;
    flush(g);
    n = recv(g->fd, text, sizeof text, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        loop_io_stop(&g->io);
        agent_port_changed(g, false);
        return;
    }
    if (n < 0 || g->stage == STAGE_CLOSED)
        return;
    buf_add(&g->in, text, (size_t)n);
    if (g->in.overflow) {
        buf_clear(&g->in);
        g->skipping = true;
    }
    while (g->in.n > 0 && (nl = memchr(g->in.p, '\n', g->in.n))) {
        size_t len = (size_t)(nl - g->in.p);

        if (!g->skipping)
            take_answer(g, str_n(g->in.p, len));
        g->skipping = false;
        buf_consume(&g->in, len + 1);
    }
}

void agent_port_changed(struct guest_agent *g, bool open)
{
    if (open == (g->stage != STAGE_CLOSED))
        return;
    if (open) {
        synchronize(g);
        return;
    }
    g->stage = STAGE_CLOSED;
    forget(g);
    buf_clear(&g->in);
    buf_clear(&g->out);
    g->published = false; /* the machine's own change is being published */
}

static const struct json *answer(const struct guest_agent *g, enum item item, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    if (!g->answers[item] || !json_parse(str_of(g->answers[item]), a, &v, &err))
        return NULL;
    return v;
}

/* What becomes part of the VMI's status: short texts, whatever the guest sends. */
static const struct json *short_text(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);

    return json_is(v, JSON_STRING) && v->n <= MAX_TEXT ? v : NULL;
}

const struct json *agent_interfaces(const struct guest_agent *g, struct arena *a)
{
    const struct json *list[MAX_INTERFACES];
    size_t n = 0;

    json_each_item(nic, answer(g, ITEM_INTERFACES, a)) {
        const struct json *ips[MAX_IPS];
        size_t n_ips = 0;

        if (str_is(json_str_at(nic, "name"), "lo") || n == MAX_INTERFACES)
            continue;
        json_each_item(ip, json_get(nic, "ip-addresses"))
            if (n_ips < MAX_IPS && short_text(ip, "ip-address"))
                ips[n_ips++] = short_text(ip, "ip-address");
        list[n++] =
            json_object(a, "name", short_text(nic, "name"), "mac", short_text(nic, "hardware-address"),
                        "ips", json_array_n(a, ips, n_ips), NULL);
    }
    return json_array_n(a, list, n);
}

const struct json *agent_os(const struct guest_agent *g, struct arena *a)
{
    static const struct {
        const char *ours, *agents;
    } names[] = {{"name", "name"},
                 {"kernelRelease", "kernel-release"},
                 {"version", "version"},
                 {"prettyName", "pretty-name"},
                 {"versionId", "version-id"},
                 {"kernelVersion", "kernel-version"},
                 {"machine", "machine"},
                 {"id", "id"}};
    const struct json *told = answer(g, ITEM_OS, a), *v = json_object(a, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        v = json_with(a, v, names[i].ours, short_text(told, names[i].agents));
    return json_len(v) ? v : NULL;
}

const struct json *agent_info(const struct guest_agent *g, struct arena *a)
{
    const struct json *v = json_object(a, NULL);

    for (int i = 0; i < N_ITEMS; i++)
        v = json_with(a, v, items[i].name, answer(g, (enum item)i, a));
    return v;
}

struct guest_agent *agent_new(struct launcher *l, int take_fd)
{
    struct guest_agent *g = NEW(struct guest_agent);

    g->launcher = l;
    g->fd = take_fd;
    buf_init(&g->in, MAX_ANSWER);
    buf_init(&g->out, 16u << 10);
    loop_io_start(l->loop, &g->io, g->fd, EPOLLIN, readable);
    return g;
}

void agent_free(struct guest_agent *g)
{
    if (!g)
        return;
    forget(g);
    loop_io_stop(&g->io);
    fd_close(&g->fd);
    buf_done(&g->in);
    buf_done(&g->out);
    free(g);
}
