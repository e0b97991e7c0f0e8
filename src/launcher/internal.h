/* launcher/internal - the launcher's state, shared by its files. */
#pragma once
#include <sys/types.h>

#include "api/types.h"
#include "json/json.h"
#include "launcher/console.h"
#include "launcher/launcher.h"
#include "loop/loop.h"
#include "vmm/proto.h"
#include "vmm/vmm.h"

#define MAX_AGENTS 8 /* connections of node agents at a time */

struct launcher;
struct peer { /* one connection of a node agent */
    struct launcher *launcher;
    struct proto_conn *conn;
    struct loop_defer drop; /* frees it */
    bool subscribed;
};

struct guest_agent;
struct images;
struct launcher {
    const struct launcher_options *options;
    struct loop *loop;
    int public_dirfd, private_dirfd, ephemeral_dirfd, sockets_dirfd,
        own_dirfd; /* own: private/<uid>, the console's log */
    char *private_dir;

    struct images *images; /* NULL: images are volumes of the pod */
    int listen_fd;
    struct loop_io listen_io;
    struct peer *peers[MAX_AGENTS];
    uid_t agent_uid; /* who may connect, as SO_PEERCRED shows it here */
    bool own_uid_too;

    struct arena *vmi_arena; /* owned; holds the VMI of the machine that was started */
    const struct kv_virtual_machine_instance *vmi;
    enum vmm_accelerator accelerator;
    struct vmm *vmm;        /* NULL until the first sync */
    struct vmm_status last; /* of the latest machine, also when its start failed and vmm is gone */
    enum vmm_state logged;  /* the last state that the log tells */
    struct loop_defer retire; /* frees a machine whose start failed */
    struct console *console;
    struct guest_agent *agent;
    struct dhcp_service *dhcp;
    size_t n_dhcp;

    int64_t seq;
    struct loop_signal term, interrupt;
    struct loop_timer grace;     /* a shutdown that was asked for turns into a kill */
    struct loop_timer ask_again; /* a guest that still boots does not see the first request */
    bool ending;                 /* SIGTERM came: without a machine there is nothing to wait for */
    int exit_status;
};

/* launcher.c */
const struct json *launcher_domain(struct launcher *l, struct arena *a);
struct vmm_listener launcher_listener(struct launcher *l);
void launcher_publish(struct launcher *l); /* a domain event to every subscriber */
void launcher_retire(struct launcher *l);
void launcher_shutdown(struct launcher *l, int64_t grace_ns);
const char *launcher_tag(const struct launcher *l); /* "vmi ns/name" for the log */
/* sync.c */
MUST_CHECK bool launcher_sync(struct launcher *l, const struct json *request, int *fds,
                              size_t n_fds, struct error *err);
void launcher_sync_done(struct launcher *l); /* lets go of what sync made */
/* server.c */
MUST_CHECK bool server_start(struct launcher *l, struct error *err);
void server_stop(struct launcher *l);
/* agent.c */
struct guest_agent *agent_new(struct launcher *l, int take_fd);
void agent_free(struct guest_agent *g);
void agent_port_changed(struct guest_agent *g, bool open);
bool agent_connected(const struct guest_agent *g);
const struct json *agent_interfaces(const struct guest_agent *g,
                                    struct arena *a); /* [{"name","mac","ips"}], or NULL */
/* As status.guestOSInfo has it, or NULL: not told yet. */
const struct json *agent_os(const struct guest_agent *g, struct arena *a);
const struct json *agent_info(const struct guest_agent *g,
                              struct arena *a); /* reply of guest-info */
/* dhcp.c */
MUST_CHECK bool dhcp_start(struct launcher *l, const struct json *nic, const struct json *dhcp,
                           int *fds, size_t n_fds, struct error *err);
void dhcp_stop(struct launcher *l);
/* termination.c */
void termination_write(struct launcher *l);
