/* port-forward: local TCP ports, or standard input and output, to a port of the guest. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "ctl/listen.h"
#include "ctl/pump.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

#define LINGER      SECONDS(10) /* a WebSocket cannot be half closed: so long answers may come after our side's end */
#define MAX_TUNNELS 512

struct forward {
    struct forwarder *all;
    struct loop_io io;
    int fd;
    unsigned local, target;
    char *path;
};
struct forwarder {
    struct ctl *c;
    struct list tunnels;
    size_t n_tunnels;
    VEC(struct forward *) ports;
};
struct tunnel { /* one accepted connection */
    struct list node;
    struct forwarder *all;
    struct pump pump;
    struct loop_defer gone;
    int in, out; /* one socket, twice */
};

/* "[proto/]local[:target]" */
static bool parse_port(struct str text, unsigned *ret_local, unsigned *ret_target, struct error *err)
{
    AUTO(error_clear) struct error why = {0};
    struct str protocol, rest = text, local, target;
    uint64_t a, b;

    if (str_cut(text, '/', &protocol, &rest)) {
        if (str_is(protocol, "udp"))
            return error_set(err, ERROR_UNSUPPORTED, "'" STR_FMT "': only tcp ports are forwarded by this release", STR_ARG(text));
        if (!str_is(protocol, "tcp"))
            return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "': unknown protocol", STR_ARG(text));
    } else {
        rest = text;
    }
    if (!str_cut(rest, ':', &local, &target))
        target = local;
    if (!parse_u64(local, 65535, &a, &why) || !parse_u64(target, 65535, &b, &why) || b == 0)
        return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "': LOCAL[:TARGET], ports from 1 to 65535, is wanted", STR_ARG(text));
    *ret_local = (unsigned)a;
    *ret_target = (unsigned)b;
    return true;
}

static char *port_path(const struct target *t, unsigned port)
{
    AUTO_FREE char *action = xasprintf("portforward/%u/tcp", port);

    return target_subresource(t, action);
}

/* --- one connection -------------------------------------------------------------------------------------------------------- */

static void tunnel_free(struct tunnel *t)
{
    list_remove(&t->node);
    t->all->n_tunnels--;
    loop_defer_cancel(&t->gone);
    pump_done(&t->pump);
    fd_close(&t->in);
    fd_close(&t->out);
    free(t);
}

static void on_gone(struct loop_defer *d)
{
    tunnel_free(container_of(d, struct tunnel, gone));
}

static void on_connected(struct pump *p)
{
    struct tunnel *t = container_of(p, struct tunnel, pump);

    pump_begin(p, t->in, t->out);
}

static void on_failed(struct pump *p, int status, const struct error *err)
{
    struct tunnel *t = container_of(p, struct tunnel, pump);
    const struct linger abort_it = {.l_onoff = 1};

    (void)status;
    ctl_notice(t->all->c, "forwarding failed: %s\n", error_text(err));
    setsockopt(t->in, SOL_SOCKET, SO_LINGER, &abort_it, sizeof abort_it); /* the client sees a reset, not an empty answer */
    loop_defer(p->loop, &t->gone, on_gone);
}

static void on_ended(struct pump *p)
{
    tunnel_free(container_of(p, struct tunnel, pump));
}

static void on_accept(struct loop_io *io, uint32_t events)
{
    struct forward *f = container_of(io, struct forward, io);
    struct forwarder *all = f->all;
    AUTO_CLOSE int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    AUTO_CLOSE int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct tunnel *t;

    (void)events;
    if (fd < 0 || again < 0)
        return;
    if (all->n_tunnels >= MAX_TUNNELS) {
        ctl_notice(all->c, "more than %d connections at once: one is refused\n", MAX_TUNNELS);
        return;
    }
    t = NEW(struct tunnel);
    t->all = all;
    t->in = TAKE_FD(fd);
    t->out = TAKE_FD(again);
    t->pump = (struct pump){.loop = all->c->loop, .linger_ns = LINGER, .connected = on_connected, .failed = on_failed,
                            .ended = on_ended};
    list_add_tail(&all->tunnels, &t->node);
    all->n_tunnels++;
    pump_connect(&t->pump, all->c, f->path);
}

/* --- all of them ------------------------------------------------------------------------------------------------------------- */

static void forwarder_done(struct forwarder *all)
{
    for (size_t i = 0; i < all->ports.n; i++) {
        struct forward *f = all->ports.p[i];

        loop_io_stop(&f->io);
        fd_close(&f->fd);
        free(f->path);
        free(f);
    }
    vec_done(&all->ports);
    ctl_disconnect(all->c);
    list_each_safe (it, &all->tunnels)
        tunnel_free(list_entry(it, struct tunnel, node));
}

static bool add_port(struct forwarder *all, const struct target *t, const char *text, struct error *err)
{
    const char *address = flags_str(&all->c->flags, "address");
    struct forward *f = NEW(struct forward);

    f->all = all;
    f->fd = -1;
    vec_push(&all->ports, f);
    if (!parse_port(str_of(text), &f->local, &f->target, err) || !listen_local(address, &f->local, &f->fd, err))
        return false;
    f->path = port_path(t, f->target);
    loop_io_start(all->c->loop, &f->io, f->fd, EPOLLIN, on_accept);
    ctl_notice(all->c, "forwarding tcp %s:%u to %u\n", address, f->local, f->target);
    return true;
}

static bool forward_ports(struct ctl *c, const struct target *t, struct error *err)
{
    AUTO(forwarder_done) struct forwarder all = {.c = c};
    const bool never = false;

    list_init(&all.tunnels);
    if (!ctl_connect(c, err))
        return false;
    for (size_t i = 1; i < c->n_args; i++)
        if (!add_port(&all, t, c->args[i], err))
            return false;
    ctl_wait(c, &never); /* until a signal ends the program */
    return true;
}

struct stdio {
    struct pump pump;
    bool done;
};

static void on_stdio_ended(struct pump *p)
{
    container_of(p, struct stdio, pump)->done = true;
}

static bool forward_stdio(struct ctl *c, const struct target *t, struct error *err)
{
    struct stdio s = {.pump = {.loop = c->loop, .linger_ns = LINGER, .ended = on_stdio_ended}};
    AUTO_FREE char *path = NULL;
    unsigned local, target;
    int status;

    if (c->n_args != 2)
        return error_set(err, ERROR_BAD_REQUEST, "--stdio forwards one port");
    if (!parse_port(str_of(c->args[1]), &local, &target, err))
        return false;
    path = port_path(t, target);
    if (!pump_open(&s.pump, c, path, &status, err))
        return false;
    pump_begin(&s.pump, c->io.in, c->io.out);
    ctl_wait(c, &s.done);
    ctl_disconnect(c);
    pump_done(&s.pump);
    return true;
}

static bool run(struct ctl *c, struct error *err)
{
    AUTO(target_done) struct target t = {0};
    bool ok;

    if (!ctl_load_config(c, err) || !target_parse(str_of(c->args[0]), NULL, false, c->config.ns, &t, err))
        return false;
    ok = flags_bool(&c->flags, "stdio") ? forward_stdio(c, &t, err) : forward_ports(c, &t, err);
    return ok || error_wrap(err, "port-forward to %s %s/%s", target_title(t.kind), t.ns, t.name);
}

static const struct flag flags[] = {
    {"stdio", 0, FLAG_BOOL, NULL, "forward standard input and output instead of a local port"},
    {"address", 0, FLAG_STRING, "127.0.0.1", "local address to listen on"},
};

const struct ctl_verb ctl_port_forward = {
    .name = "port-forward", .args = "vm|vmi/NAME[/NAMESPACE] [tcp/]LOCAL[:TARGET] …", .min_args = 2, .max_args = 64,
    .summary = "Forward local ports to ports of a guest",
    .examples = "# local port 8080 to port 80 of 'myvm'\nport-forward vm/myvm 8080:80\n"
                "# several ports, reachable from other machines\nport-forward vm/myvm 8080:80 2222:22 --address 0.0.0.0\n"
                "# as ssh's ProxyCommand: ssh -o 'ProxyCommand=virtctl port-forward --stdio=true vm/myvm 22' user@myvm\n"
                "port-forward --stdio=true vm/myvm 22",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
