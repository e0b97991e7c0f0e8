#include "sim/launcher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/types.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "vmm/proto.h"
#include "vmm/vmm.h"

struct sim_launcher {
    struct sim_launcher_config config;
    struct proto_conn *conn; /* to the node agent; NULL: none is there */
    struct loop_defer drop;  /* frees a connection that was closed */
    struct proto_conn *dropped;
    bool subscribed, ended;
    int64_t seq;
    struct vmm *vmm;
    struct arena vmi_arena; /* until the machine has started */
    const struct kv_virtual_machine_instance *vmi;
    enum vmm_accelerator accelerator;
    int64_t sync_id;          /* of the order that waits for its machine */
    struct loop_timer starting, grace;
    struct vmm_status *last; /* after the machine's end */
};

/* ---- the machine ---- */

static const struct vmm_status *status_of(const struct sim_launcher *l)
{
    static const struct vmm_status none = {.state = VMM_NONE};

    return l->last ? l->last : l->vmm ? vmm_status(l->vmm) : &none;
}

const struct json *sim_launcher_domain(const struct sim_launcher *l, struct arena *a)
{
    const struct vmm_status *s = status_of(l);

    return json_object(a, "state", json_new_z(a, vmm_state_name(s->state)), "reason", json_new_z(a, vmm_reason_name(s->reason)),
                       "message", json_new_z(a, s->message), "since_ns", json_new_i64(a, s->since_ns), "pid", json_new_i64(a, 0),
                       "machine", json_new_z(a, s->machine), "accelerator", json_new_z(a, vmm_accelerator_name(l->accelerator)),
                       "reboots", json_new_i64(a, s->reboots), "agent", json_new_bool(false), "interfaces", json_array(a, NULL), NULL);
}

static void publish(struct sim_launcher *l)
{
    AUTO(arena_done) struct arena a = {0};

    if (l->conn && l->subscribed)
        proto_send(l->conn,
                   json_object(&a, "event", json_new_z(&a, "domain"), "seq", json_new_i64(&a, ++l->seq), "domain",
                               sim_launcher_domain(l, &a), NULL),
                   NULL, 0);
}

/* The process ends: its connection closes, and what it knows last stays. */
static void end(struct sim_launcher *l)
{
    if (l->ended)
        return;
    if (!l->last)
        l->last = xmemdup(status_of(l), sizeof *l->last);
    publish(l);
    l->ended = true;
    loop_timer_stop(&l->starting);
    loop_timer_stop(&l->grace);
    proto_free(l->conn);
    l->conn = NULL;
    l->config.ended(l->config.user, l->last->state == VMM_CRASHED ? 1 : 0);
}

static void on_machine(void *user)
{
    struct sim_launcher *l = user;
    enum vmm_state state = vmm_status(l->vmm)->state;

    if (state == VMM_SHUTDOWN || state == VMM_CRASHED)
        end(l);
    else
        publish(l);
}

bool sim_launcher_ended(const struct sim_launcher *l)
{
    return l->ended;
}

/* ---- answers ---- */

static void reply(struct sim_launcher *l, int64_t id, const struct json *ok)
{
    AUTO(arena_done) struct arena a = {0};

    if (l->conn)
        proto_send(l->conn, json_object(&a, "id", json_new_i64(&a, id), "ok", ok ? ok : json_object(&a, NULL), NULL), NULL, 0);
}

static void reply_error(struct sim_launcher *l, int64_t id, const struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *e = json_object(&a, "kind", json_new_z(&a, error_kind_name(err->kind)), "message",
                                       json_new_z(&a, error_text(err)), NULL);

    if (l->conn)
        proto_send(l->conn, json_object(&a, "id", json_new_i64(&a, id), "error", e, NULL), NULL, 0);
}

static void reply_domain(struct sim_launcher *l, int64_t id)
{
    AUTO(arena_done) struct arena a = {0};

    reply(l, id, json_object(&a, "domain", sim_launcher_domain(l, &a), NULL));
}

/* ---- calls ---- */

static bool start(struct sim_launcher *l, struct error *err)
{
    struct str name = str_map_get(&l->vmi->metadata->annotations, STR(KV_ANNOTATION_VMM));
    const struct vmm_listener listener = {.changed = on_machine, .user = l};
    const struct vmm_machine m = {.vmi = l->vmi, .accelerator = l->accelerator, .kernel_fd = -1, .initrd_fd = -1,
                                  .private_dirfd = -1, .vhost_vsock_fd = -1};
    bool ok;

    if (name.n && !sim_plays(name))
        return error_set(err, ERROR_UNSUPPORTED, KV_ANNOTATION_VMM ": a simulated node plays no '" STR_FMT "'", STR_ARG(name));
    l->vmm = vmm_new(vmm_driver_find(STR("fake")), l->config.loop, &listener);
    ok = vmm_start(l->vmm, &m, err);
    l->vmi = NULL;
    arena_done(&l->vmi_arena);
    return ok;
}

static void on_start(struct loop_timer *t)
{
    struct sim_launcher *l = container_of(t, struct sim_launcher, starting);
    AUTO(error_clear) struct error err = {0};

    if (start(l, &err)) {
        reply_domain(l, l->sync_id);
        return;
    }
    reply_error(l, l->sync_id, &err);
    vmm_free(l->vmm);
    l->vmm = NULL;
}

/* Nobody would ever look at a serial port, and thousands of them are descriptors. */
static bool decode(struct sim_launcher *l, const struct json *object, struct error *err)
{
    struct arena *a = &l->vmi_arena;
    struct kv_virtual_machine_instance *vmi;

    arena_clear(a);
    object = json_with_at(a, json_copy(a, object), "spec/domain/devices/autoattachSerialConsole", json_new_bool(false));
    vmi = ARENA_NEW(a, struct kv_virtual_machine_instance);
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, object, a, vmi, err))
        return false;
    if (!vmi->metadata || !vmi->spec || !vmi->spec->domain || !vmi->spec->domain->devices)
        return error_set(err, ERROR_BAD_REQUEST, "vmi: metadata or spec.domain.devices is missing");
    l->vmi = vmi;
    return true;
}

static void call_sync(struct sim_launcher *l, int64_t id, const struct json *msg)
{
    AUTO(error_clear) struct error err = {0};

    if (l->vmm) {
        reply_domain(l, id);
        return;
    }
    if (!decode(l, json_get(msg, "vmi"), &err)
        || !vmm_accelerator_parse(json_str_at(msg, "accelerator"), &l->accelerator, &err)) {
        reply_error(l, id, &err);
        return;
    }
    l->sync_id = id;
    loop_timer_start(l->config.loop, &l->starting, l->config.start_ns, on_start);
}

static const struct json *counters(const struct vmm_counters *c, size_t n, struct arena *a)
{
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < n; i++)
        list = json_append(a, list, json_object(a, "name", json_new_z(a, c[i].name), NULL));
    return list;
}

static bool call_stats(struct sim_launcher *l, int64_t id, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO_FREE struct vmm_stats *s = NEW(struct vmm_stats);

    if (!vmm_alive(l->vmm))
        return error_set(err, ERROR_CONFLICT, "the machine does not run");
    if (!vmm_read_stats(l->vmm, s, err))
        return false;
    reply(l, id,
          json_object(&a, "cpu_ns", json_new_i64(&a, 0), "memory",
                      json_object(&a, "guest_bytes", json_new_i64(&a, (int64_t)s->guest_bytes), NULL), "block",
                      counters(s->block, s->n_block, &a), "net", counters(s->net, s->n_net, &a), NULL));
    return true;
}

static bool pause_machine(struct vmm *v, struct error *err) { return vmm_pause(v, err); }
static bool resume(struct vmm *v, struct error *err) { return vmm_resume(v, err); }
static bool reset(struct vmm *v, struct error *err) { return vmm_reset(v, err); }
static bool soft_reboot(struct vmm *v, struct error *err) { return vmm_soft_reboot(v, err); }

static const struct {
    const char *name;
    bool (*fn)(struct vmm *v, struct error *err);
} machine_calls[] = {{"pause", pause_machine}, {"unpause", resume}, {"reset", reset}, {"soft-reboot", soft_reboot}};

static bool on_machine_call(struct sim_launcher *l, int64_t id, struct str call, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(machine_calls); i++)
        if (str_is(call, machine_calls[i].name)) {
            if (!vmm_alive(l->vmm))
                return error_set(err, ERROR_CONFLICT, "the machine does not run");
            if (!machine_calls[i].fn(l->vmm, err))
                return false;
            reply(l, id, NULL);
            return true;
        }
    return error_set(err, ERROR_UNSUPPORTED, "'" STR_FMT "' is not played: this machine is simulated", STR_ARG(call));
}

static void on_message(struct proto_conn *c, const struct json *msg, int *fds, size_t n_fds)
{
    struct sim_launcher *l = proto_user(c);
    AUTO(error_clear) struct error err = {0};
    struct str call = json_str_at(msg, "call");
    int64_t id = json_i64_at(msg, "id", 0);

    (void)fds;
    (void)n_fds;
    if (str_is(call, "subscribe")) {
        l->subscribed = true;
        reply_domain(l, id);
    } else if (str_is(call, "sync")) {
        call_sync(l, id, msg);
    } else if (str_is(call, "shutdown")) {
        reply(l, id, NULL);
        sim_launcher_terminate(l, MILLIS(json_i64_at(msg, "grace_ms", 0)));
    } else if (str_is(call, "kill")) {
        reply(l, id, NULL);
        sim_launcher_terminate(l, 0);
    } else if (!(str_is(call, "stats") ? call_stats(l, id, &err) : on_machine_call(l, id, call, &err))) {
        reply_error(l, id, &err);
    }
}

/* ---- its end ---- */

static void on_grace(struct loop_timer *t)
{
    vmm_kill(container_of(t, struct sim_launcher, grace)->vmm, true);
}

void sim_launcher_terminate(struct sim_launcher *l, int64_t grace_ns)
{
    AUTO(error_clear) struct error err = {0};

    if (l->ended)
        return;
    if (!vmm_alive(l->vmm)) {
        end(l);
        return;
    }
    if (grace_ns <= 0) {
        vmm_kill(l->vmm, true);
        return;
    }
    if (!loop_timer_active(&l->grace) || l->grace.due_ns > loop_now_ns(l->config.loop) + grace_ns)
        loop_timer_start(l->config.loop, &l->grace, grace_ns, on_grace);
    if (!vmm_powerdown(l->vmm, &err))
        vmm_kill(l->vmm, true);
}

void sim_launcher_crash(struct sim_launcher *l, const char *why)
{
    if (l->ended)
        return;
    l->last = xmemdup(status_of(l), sizeof *l->last);
    l->last->state = VMM_CRASHED;
    l->last->reason = VMM_REASON_VMM_KILLED;
    snprintf(l->last->message, sizeof l->last->message, "%s", why);
    end(l);
}

/* ---- connections ---- */

static void drop(struct loop_defer *d)
{
    struct sim_launcher *l = container_of(d, struct sim_launcher, drop);

    proto_free(l->dropped);
    l->dropped = NULL;
}

static void on_closed(struct proto_conn *c, const struct error *why)
{
    struct sim_launcher *l = proto_user(c);

    (void)why;
    l->conn = NULL;
    l->subscribed = false;
    l->dropped = c;
    loop_defer(l->config.loop, &l->drop, drop);
}

static const struct proto_handlers handlers = {on_message, on_closed};

bool sim_launcher_connect(struct sim_launcher *l, struct proto_client **ret, struct error *err)
{
    int pair[2];

    if (l->ended)
        return error_set(err, ERROR_UNAVAILABLE, "the launcher has ended");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return error_errno(err, errno, "a played launcher's socket");
    proto_free(l->conn);
    l->subscribed = false;
    l->conn = proto_new(l->config.loop, pair[0], &handlers, l);
    *ret = proto_client_new(l->config.loop, pair[1]);
    return true;
}

struct sim_launcher *sim_launcher_new(const struct sim_launcher_config *c)
{
    struct sim_launcher *l = NEW(struct sim_launcher);

    l->config = *c;
    l->accelerator = VMM_TCG;
    return l;
}

void sim_launcher_free(struct sim_launcher *l)
{
    if (!l)
        return;
    loop_timer_stop(&l->starting);
    loop_timer_stop(&l->grace);
    loop_defer_cancel(&l->drop);
    proto_free(l->dropped);
    proto_free(l->conn);
    vmm_free(l->vmm);
    arena_done(&l->vmi_arena);
    free(l->last);
    free(l);
}
