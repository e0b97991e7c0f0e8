/* Snapshots and live migration.
 *
 * A NIC's descriptors can be given anew to a machine that comes from a snapshot (net_fds), but not to one that comes by live
 * migration: no cloud-hypervisor up to v53 takes them there. So a machine with NICs is not moved, and is told why. */
#include "vmm/cloud_hypervisor/ch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "api/types.h"
#include "base/log.h"

#define MEMORY_NS SECONDS(300) /* for all of the guest's memory to or from a disk */
#define READY_NS SECONDS(10)

/* No URL for all its looks: cloud-hypervisor takes what stands after "file://" as it is (vmm/src/migration.rs, url_to_path). */
static const struct json *file_url(struct arena *a, const char *dir)
{
    return json_new_f(a, "file://%s", dir);
}

bool ch_snapshot(struct vmm *v, const char *dir, struct error *err)
{
    struct ch *c = ch_of(v);
    AUTO(arena_done) struct arena a = {0};

    if (!c->booted)
        return error_set(err, ERROR_CONFLICT, "cannot write a snapshot: the machine has not begun to run");
    return ch_call(c,
                   &(struct ch_call){.name = "vm.snapshot",
                                     .body = json_object(&a, "destination_url", file_url(&a, dir), NULL),
                                     .timeout_ns = MEMORY_NS},
                   &a, NULL, err);
}

bool ch_restore(struct ch *c, const struct vmm_machine *m, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *nets = json_array(&a, NULL);
    int fds[REST_MAX_FDS];
    size_t n = 0;

    for (size_t i = 0; i < m->n_nics; i++) {
        const struct vmm_nic *r = &m->nics[i];

        if (n + r->n_fds > REST_MAX_FDS)
            return error_set(err, ERROR_TOO_LARGE, "the machine's NICs have more than %d queues", REST_MAX_FDS);
        memcpy(fds + n, r->fds, r->n_fds * sizeof *fds);
        n += r->n_fds;
        nets = json_append(&a, nets,
                           json_object(&a, "id", json_new_f(&a, "net-" STR_FMT, STR_ARG(r->name)), "num_fds",
                                       json_new_i64(&a, (int64_t)r->n_fds), NULL));
    }
    if (!ch_call(c,
                 &(struct ch_call){
                     .name = "vm.restore",
                     .body = json_object(&a, "source_url", file_url(&a, m->restore_dir), "net_fds", n ? nets : NULL, NULL),
                     .fds = fds,
                     .n_fds = n,
                     .timeout_ns = MEMORY_NS},
                 &a, NULL, err)
        || !ch_serial_connect(&c->serial, SECONDS(5), err))
        return false;
    c->booted = true;
    vmm_set(&c->base, VMM_PAUSED, VMM_REASON_USER, "%s", "");
    return true;
}

/* ---- the target ---- */

static void arrived(struct ch *c)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    c->booted = true;
    if (!ch_serial_connect(&c->serial, SECONDS(1), &err) || !ch_call(c, &(struct ch_call){.name = "GET vm.info"}, &a, &v, &err))
        log_warning(NULL, "the machine that came: %s, ignoring", error_text(&err));
    bool paused = str_is(json_str_at(v, "state"), "Paused");
    vmm_set(&c->base, paused ? VMM_PAUSED : VMM_RUNNING, paused ? VMM_REASON_USER : VMM_REASON_NONE, "%s", "");
}

static void received(void *user, const struct rest_answer *answer, struct error *err)
{
    struct ch *c = user;
    AUTO(error_clear) struct error why = {0};

    c->moving = NULL;
    if (c->destroying || !vmm_alive(&c->base))
        return;
    if (answer && rest_ok(answer)) {
        arrived(c);
        return;
    }
    if (answer)
        ch_refused(answer, "vm.receive-migration", &why);
    else
        error_move(&why, err);
    vmm_set(&c->base, VMM_CRASHED, VMM_REASON_START_FAILED, "%s", error_text(&why));
    child_kill(&c->child, SIGKILL);
}

bool ch_receive(struct ch *c, const struct vmm_machine *m, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *body = json_object(&a, "receiver_url", json_new_f(&a, "unix:%s", m->incoming), NULL);
    struct pollfd p = {.fd = c->child.pidfd, .events = POLLIN};
    struct rest_answer answer;

    if (m->n_nics > 0)
        return error_set(err, ERROR_UNSUPPORTED, "cloud-hypervisor cannot take NICs over from another node: detach them first");
    c->moving = ch_begin(c, &(struct ch_call){.name = "vm.receive-migration", .body = body, .timeout_ns = REST_NO_TIMEOUT},
                         received, err);
    if (!c->moving)
        return false;
    /* No connecting to see whether it listens: the first connection is the machine. */
    for (int64_t waited = 0; !c->ready_for_migration && access(m->incoming, F_OK) != 0; waited += MILLIS(2)) {
        ch_events_drain(c);
        if (rest_answered(c->moving)) {
            struct rest_pending *over = c->moving;

            c->moving = NULL;
            return rest_finish(over, &a, &answer, err) ? ch_refused(&answer, "vm.receive-migration", err) : false;
        }
        if (waited >= READY_NS || poll(&p, 1, 2) > 0)
            return error_set(err, waited >= READY_NS ? ERROR_TIMEOUT : ERROR_UNAVAILABLE,
                             "cloud-hypervisor does not listen for the machine");
    }
    vmm_set(&c->base, VMM_PAUSED, VMM_REASON_NONE, "%s", "");
    return true;
}

/* ---- the source ---- */

static void failed(struct ch *c, const char *why)
{
    c->migration.state = c->called_off ? VMM_MIGRATION_CANCELLED : VMM_MIGRATION_FAILED;
    snprintf(c->migration.message, sizeof c->migration.message, "%s", c->called_off ? "" : why);
    c->migration.done_bytes = c->relay.bytes;
    ch_relay_done(&c->relay);
    vmm_changed(&c->base);
}

static void finished(struct ch *c)
{
    c->moved = true; /* it ends by itself */
    c->migration.state = VMM_MIGRATION_DONE;
    c->migration.done_bytes = c->relay.bytes;
    vmm_changed(&c->base);
}

/* Since v53 the answer says that it has begun, before that it was done. */
static void sent(void *user, const struct rest_answer *answer, struct error *err)
{
    struct ch *c = user;
    AUTO(error_clear) struct error why = {0};

    c->moving = NULL;
    ch_events_drain(c); /* before v53 it may end before it answers; the event says how it went */
    if (c->migration.state != VMM_MIGRATION_RUNS)
        return;
    if (answer && rest_ok(answer)) {
        if (c->version < 53)
            finished(c);
        return;
    }
    if (answer)
        ch_refused(answer, "vm.send-migration", &why);
    else
        error_move(&why, err);
    failed(c, error_text(&why));
}

void ch_migration_event(struct ch *c, struct str event)
{
    AUTO(buf_done) struct buf words = {0};

    if (str_is(event, "migration-receive-ready")) {
        c->ready_for_migration = true;
    } else if (str_is(event, "migration-finished") && c->migration.state == VMM_MIGRATION_RUNS) {
        finished(c);
    } else if (str_is(event, "migration-failed") && c->migration.state == VMM_MIGRATION_RUNS) {
        ch_last_words(buf_str(&c->err_text), &words);
        failed(c, words.n ? words.p : "cloud-hypervisor does not say why");
    }
}

bool ch_migrate(struct vmm *v, const struct vmm_migration *m, struct error *err)
{
    struct ch *c = ch_of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *body;

    if (c->n_nics > 0)
        return error_set(
            err, ERROR_UNSUPPORTED,
            "cloud-hypervisor cannot move a machine with network interfaces: it has no way to give their descriptors to the "
            "other side; stop the machine and start it elsewhere, or use hypervisor qemu");
    if (m->post_copy || m->bandwidth)
        return error_set(err, ERROR_UNSUPPORTED, "cloud-hypervisor %s",
                         m->post_copy ? "cannot change to post-copy on the way" : "cannot limit a migration's bandwidth");
    if (!c->booted || c->migration.state == VMM_MIGRATION_RUNS)
        return error_set(err, ERROR_CONFLICT, c->booted ? "the machine migrates already" : "the machine has not begun to run");
    body = json_object(&a, "destination_url", json_new_z(&a, "unix:" CH_PLACES "/move.sock"), "downtime_ms",
                       json_new_i64(&a, m->downtime_ms ? m->downtime_ms : 300), "timeout_s",
                       m->timeout_s ? json_new_i64(&a, m->timeout_s) : NULL, "timeout_strategy",
                       json_new_z(&a, m->timeout_s ? "Cancel" : "Ignore"), NULL);
    if (!ch_relay_start(&c->relay, v->loop, c->dir_fd, m->path, err))
        return false;
    c->called_off = false;
    c->migration = (struct vmm_migration_status){.state = VMM_MIGRATION_RUNS};
    c->moving =
        ch_begin(c, &(struct ch_call){.name = "vm.send-migration", .body = body, .timeout_ns = REST_NO_TIMEOUT}, sent, err);
    if (!c->moving)
        c->migration.state = VMM_MIGRATION_FAILED;
    return c->moving != NULL;
}

/* Its stream breaks, and it goes on here; the event tells. What has arrived whole by now is gone all the same. */
bool ch_migrate_cancel(struct vmm *v, struct error *err)
{
    struct ch *c = ch_of(v);

    if (c->migration.state != VMM_MIGRATION_RUNS)
        return error_set(err, ERROR_CONFLICT, "the machine does not migrate");
    c->called_off = true;
    ch_relay_done(&c->relay);
    return true;
}

bool ch_migrate_status(struct vmm *v, struct vmm_migration_status *ret, struct error *err)
{
    struct ch *c = ch_of(v);

    (void)err;
    *ret = c->migration;
    if (ret->state == VMM_MIGRATION_RUNS)
        ret->done_bytes = c->relay.bytes;
    if (ret->state == VMM_MIGRATION_RUNS && !vmm_alive(v)) {
        ret->state = VMM_MIGRATION_FAILED;
        snprintf(ret->message, sizeof ret->message, "cloud-hypervisor ended");
    }
    return true;
}
