#include "launcher/internal.h"
#include "launcher/images.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "api/kv.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"

#define ASK_AGAIN_NS SECONDS(10)

const char *launcher_tag(const struct launcher *l)
{
    static char tag[160]; /* one launcher to a process */

    if (!tag[0])
        snprintf(tag, sizeof tag, "vmi %s/%s", l->options->namespace_, l->options->name);
    return tag;
}

/* ---- the domain ---- */

static const struct json *interfaces(struct launcher *l, struct arena *a)
{
    return agent_connected(l->agent) ? agent_interfaces(l->agent, a) : NULL;
}

const struct json *launcher_domain(struct launcher *l, struct arena *a)
{
    const struct vmm_status *s = &l->last;
    const struct json *list = interfaces(l, a);

    return json_object(a, "state", json_new_z(a, vmm_state_name(s->state)), "reason",
                       json_new_z(a, vmm_reason_name(s->reason)), "message",
                       json_new_z(a, s->message), "since_ns", json_new_i64(a, s->since_ns), "pid",
                       json_new_i64(a, s->pid), "machine", json_new_z(a, s->machine), "accelerator",
                       json_new_z(a, vmm_accelerator_name(l->accelerator)), "reboots",
                       json_new_i64(a, s->reboots), "agent",
                       json_new_bool(agent_connected(l->agent)), "interfaces",
                       list ? list : json_array(a, NULL), "guestOSInfo",
                       agent_connected(l->agent) ? agent_os(l->agent, a) : NULL, NULL);
}

void launcher_publish(struct launcher *l)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *event;

    event = json_object(&a, "event", json_new_z(&a, "domain"), "seq", json_new_i64(&a, ++l->seq),
                        "domain", launcher_domain(l, &a), NULL);
    for (size_t i = 0; i < MAX_AGENTS; i++)
        if (l->peers[i] && l->peers[i]->subscribed)
            proto_send(l->peers[i]->conn, event, NULL, 0);
}

static void end(struct launcher *l)
{
    log_info(launcher_tag(l), "ended: %s%s%s%s%s", vmm_state_name(l->last.state),
             l->last.reason ? ", " : "", vmm_reason_name(l->last.reason),
             l->last.message[0] ? ": " : "", l->last.message);
    l->exit_status = l->last.state == VMM_CRASHED ? 1 : 0;
    termination_write(l);
    launcher_publish(l);
    loop_quit(l->loop);
}

/* Lets a machine whose start failed go; the next sync makes a new one. Never from inside the machine's own callbacks. */
void launcher_retire(struct launcher *l)
{
    loop_defer_cancel(&l->retire);
    vmm_free(l->vmm);
    l->vmm = NULL;
    launcher_sync_done(l);
}

static void retire(struct loop_defer *d)
{
    launcher_retire(container_of(d, struct launcher, retire));
}

/* The driver's listener. */
static void machine_changed(void *user)
{
    struct launcher *l = user;

    l->last = *vmm_status(l->vmm);
    if (l->agent)
        agent_port_changed(l->agent, l->last.agent_port);
    if (l->last.state != l->logged)
        log_info(launcher_tag(l), "machine is %s%s%s", vmm_state_name(l->last.state),
                 l->last.reason ? ", " : "", vmm_reason_name(l->last.reason));
    l->logged = l->last.state;
    if (l->last.reason == VMM_REASON_START_FAILED) {
        launcher_publish(l);
        loop_defer(l->loop, &l->retire, retire);
        if (l->ending)
            end(l);
    } else if (l->last.state == VMM_SHUTDOWN || l->last.state == VMM_CRASHED) {
        end(l);
    } else {
        launcher_publish(l);
    }
}

struct vmm_listener launcher_listener(struct launcher *l)
{
    return (struct vmm_listener){machine_changed, l};
}

/* ---- ending it ---- */

static void ask_again(struct loop_timer *t)
{
    struct launcher *l = container_of(t, struct launcher, ask_again);
    AUTO(error_clear) struct error err = {0};

    if (vmm_alive(l->vmm) && !vmm_powerdown(l->vmm, &err))
        log_warning(launcher_tag(l), "asking the guest to shut down: %s, retrying",
                    error_text(&err));
    loop_timer_start(l->loop, &l->ask_again, ASK_AGAIN_NS, ask_again);
}

static void grace_over(struct loop_timer *t)
{
    struct launcher *l = container_of(t, struct launcher, grace);

    log_info(launcher_tag(l), "the guest did not shut down in time");
    loop_timer_stop(&l->ask_again);
    vmm_kill(l->vmm, false);
}

void launcher_shutdown(struct launcher *l, int64_t grace_ns)
{
    AUTO(error_clear) struct error err = {0};

    if (!vmm_alive(l->vmm)) {
        end(l); /* nothing runs, and nothing will: what was asked for is the machine's end */
        return;
    }
    if (grace_ns <= 0) {
        loop_timer_stop(&l->grace);
        loop_timer_stop(&l->ask_again);
        vmm_kill(l->vmm, false);
        return;
    }
    /* A second request may shorten the time that is left, never lengthen it. */
    if (!loop_timer_active(&l->grace) || l->grace.due_ns > loop_now_ns(l->loop) + grace_ns)
        loop_timer_start(l->loop, &l->grace, grace_ns, grace_over);
    if (loop_timer_active(&l->ask_again))
        return;
    if (!vmm_powerdown(l->vmm, &err))
        log_warning(launcher_tag(l), "asking the guest to shut down: %s, retrying",
                    error_text(&err));
    loop_timer_start(l->loop, &l->ask_again, ASK_AGAIN_NS, ask_again);
}

static void terminated(struct launcher *l)
{
    l->ending = true;
    if (vmm_alive(l->vmm)) {
        log_info(launcher_tag(l), "asked to end; the guest has %lld s",
                 (long long)(l->options->grace_ns / SECONDS(1)));
    }
    launcher_shutdown(l, l->options->grace_ns);
}

static void got_term(struct loop_signal *s)
{
    terminated(container_of(s, struct launcher, term));
}

static void got_interrupt(struct loop_signal *s)
{
    terminated(container_of(s, struct launcher, interrupt));
}

/* ---- set-up ---- */

static bool open_place(struct launcher *l, const char *path, bool make, int *ret, struct error *err)
{
    AUTO_FREE char *full = xasprintf("%s%s", l->options->root, path);

    if (make)
        return file_make_dirs(AT_FDCWD, full, 0755, ret, err);
    return file_open_dir(AT_FDCWD, full, ret, err);
}

static bool start_images(struct launcher *l, struct error *err)
{
    AUTO_CLOSE int dir = -1;

    if (!l->options->image_containers)
        return true;
    if (!open_place(l, KV_DIR_CONTAINER_DISK, l->options->root[0] != '\0', &dir, err))
        return false;
    l->images = images_new(l->loop, dir, err);
    return l->images;
}

static bool setup(struct launcher *l, struct error *err)
{
    bool test = l->options->root[0] != '\0'; /* in a pod these are volumes and must be there */

    l->private_dir = xasprintf("%s%s", l->options->root, KV_DIR_PRIVATE);
    if (!open_place(l, KV_DIR_PUBLIC, test, &l->public_dirfd, err)
        || !open_place(l, KV_DIR_PRIVATE, test, &l->private_dirfd, err)
        || !open_place(l, KV_DIR_EPHEMERAL, test, &l->ephemeral_dirfd, err)
        || !open_place(l, KV_DIR_SOCKETS, test, &l->sockets_dirfd, err))
        return false;
    if (!file_make_dirs(l->private_dirfd, l->options->uid, 0755, &l->own_dirfd, err))
        return false;
    if (!loop_signal_start(l->loop, &l->term, SIGTERM, got_term, err)
        || !loop_signal_start(l->loop, &l->interrupt, SIGINT, got_interrupt, err))
        return false;
    return start_images(l, err) && server_start(l, err);
}

static void teardown(struct launcher *l)
{
    server_stop(l);
    images_free(l->images);
    l->images = NULL;
    loop_timer_stop(&l->grace);
    loop_timer_stop(&l->ask_again);
    loop_defer_cancel(&l->retire);
    vmm_free(l->vmm);
    l->vmm = NULL;
    launcher_sync_done(l);
    loop_signal_stop(&l->term);
    loop_signal_stop(&l->interrupt);
    fd_close(&l->public_dirfd);
    fd_close(&l->private_dirfd);
    fd_close(&l->ephemeral_dirfd);
    fd_close(&l->sockets_dirfd);
    fd_close(&l->own_dirfd);
    free(l->private_dir);
    loop_free(l->loop);
}

/* Nothing in the pod may look into us or gain rights through us; a write to a closed socket is an error, not our end. */
static bool harden(struct error *err)
{
    signal(SIGPIPE, SIG_IGN);
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_errno(err, errno, "prctl");
    return true;
}

bool launcher_run(const struct launcher_options *o, int *ret_status, struct error *err)
{
    struct launcher l = {.options = o,
                         .public_dirfd = -1,
                         .private_dirfd = -1,
                         .ephemeral_dirfd = -1,
                         .sockets_dirfd = -1,
                         .own_dirfd = -1,
                         .listen_fd = -1,
                         .accelerator = VMM_TCG};
    bool ok;

    if (!harden(err))
        return false;
    l.loop = loop_new(NULL);
    ok = setup(&l, err);
    if (ok) {
        loop_run(l.loop);
        *ret_status = l.exit_status;
    }
    teardown(&l);
    return ok;
}
