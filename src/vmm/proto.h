/* vmm/proto - what node agent and launcher say to each other, and how.
 *
 * The launcher listens on SOCKET_NAME (AF_UNIX, SOCK_STREAM) in the pod's "sockets" volume; it is created as
 * "launcher-init-sock" and renamed when the launcher is ready. A frame is a 4-byte little-endian length and that many
 * bytes of JSON (≤ LIMIT_PROTO_MESSAGE); descriptors ride on the frame's first byte (SCM_RIGHTS, ≤ PROTO_MAX_FDS) and are
 * named in the JSON by their index. Several agents' connections may be open; only peers with uid 0 of the parent user
 * namespace are served (SO_PEERCRED), and the agent in turn checks the launcher's uid and cgroup.
 *
 * Request:  {"v":1,"id":7,"call":"sync", …parameters…}
 * Reply:    {"id":7,"ok":{…}}  or  {"id":7,"error":{"kind":"Unavailable","message":"…"}}   (kind: error_kind_name())
 * Event:    {"event":"domain","seq":3,"domain":{…}}     to every connection that said "subscribe"
 *
 * Versions: a launcher lives as long as its machine, the agent is replaced under it by a newer or an older one. Each side speaks the last two
 * versions. "hello" and "subscribe" are understood under every version and answer {"v":…,"oldest":…} of the launcher; from then on the agent
 * speaks the newest that both know (proto_client_agree). What is further apart is refused, by name: the machine runs on, unattended.
 *
 * calls:
 *   hello      → {"v":1,"oldest":1,"launcher":"<version>","uid":"<VMI uid>","namespace":…,"name":…,"pid":…}
 *   subscribe  → {"v":1,"oldest":1,"domain":{…}}; then events
 *   sync       {"vmi":{object},"accelerator":"kvm"|"tcg"|"mshv","nics":[nic…],"disks":[disk…],"vsock":vsock} → {"domain":{…}}. Starts the machine
 *              if there is none, else brings what can change in line (start strategy, pause does not belong here). Idempotent.
 *   pause, unpause, reset, soft-reboot → {}
 *   shutdown   {"grace_ms":N} → {}: asks the guest (ACPI), kills after the grace; 0 kills at once; without a machine the launcher ends
 *   kill       → {}
 *   console    {"port":"serial0"} → {} with one descriptor: a connected stream of the console. The previous holder's is shut down.
 *   vnc        → {} with one descriptor: a connected RFB stream (several may be open)
 *   vsock      {"port":N} → {} with one descriptor: a stream to a port on which the guest listens by vsock
 *   stats      → {"cpu_ns":…,"memory":{…},"block":[…],"net":[…]}
 *   guest-info → agent data when an agent is connected (guestosinfo, users, filesystems, interfaces)
 *
 * nic:  {"name":"default","fds":[i…],"mac":"02:…","mtu":1500,"dhcp":{"fd":i,"address":"10.0.2.2/24","gateway":"10.0.2.1",
 *        "server":"10.0.2.1","dns":["…"],"search":["…"],"hostname":"…","mtu":1450}}   dhcp may be missing
 * disk: {"volume":"data","fd":i,"read_only":false,"format":"raw"}   for what only the agent can open; volumes that are mounted
 *        into the pod are found by the launcher itself at upstream's paths (reference/storage-and-network.md "Launcher paths")
 * vsock: {"cid":N,"fd":i}   may be missing: the machine has none; fd, /dev/vhost-vsock, only for VMMs whose vsock is the kernel's
 * domain: {"state":"none|starting|running|paused|shutdown|crashed","reason":"…","message":"…","since_ns":…,"pid":…,
 *        "machine":"pc-q35-7.2","accelerator":"tcg","reboots":0,"agent":false,"interfaces":[{"name","mac","ips":[…]}]}
 *        reasons: user|io-error|guest-panic|guest-shutdown|host-shutdown|destroyed|vmm-killed|start-failed
 *
 * Before it exits the launcher writes TERMINATION_NAME into the "private" volume, fsynced: the last domain, so that the
 * agent knows the end even if it was not there to hear it.
 */
#pragma once
#include "json/json.h"
#include "loop/loop.h"

#define PROTO_VERSION    1
#define PROTO_OLDEST     (PROTO_VERSION > 1 ? PROTO_VERSION - 1 : 1)
#define PROTO_MAX_FDS    32
#define SOCKET_NAME      "launcher-sock"
#define SOCKET_INIT_NAME "launcher-init-sock"
#define TERMINATION_NAME "termination.json"

/* One connection, either side; non-blocking, on the loop. */
struct proto_conn;
struct proto_handlers {
    /* fds are the receiver's: taken over by clearing the slot to -1, the rest is closed afterwards. msg borrowed. */
    void (*message)(struct proto_conn *c, const struct json *msg, int *fds, size_t n_fds);
    void (*closed)(struct proto_conn *c, const struct error *why); /* once; then proto_free() is the owner's */
};
struct proto_conn *proto_new(struct loop *l, int take_fd, const struct proto_handlers *h, void *user);
void *proto_user(struct proto_conn *c);
/* Queues a frame; the descriptors are dup'ed. A peer that does not read is cut off at 4 × LIMIT_PROTO_MESSAGE. */
void proto_send(struct proto_conn *c, const struct json *msg, const int *fds, size_t n_fds);
void proto_free(struct proto_conn *c);

/* The agent's side of calls: done is called once (err is never NULL; kind ERROR_NONE is success), also after timeout_ns and when
 * the connection dies or is freed (ERROR_UNAVAILABLE): whoever waits for an answer gets one. */
typedef void (*proto_done_fn)(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err);
struct proto_client;
/* dirfd: the opened "sockets" volume; connects beneath it without following links. expect_uid: the launcher's host uid. */
MUST_CHECK bool proto_client_connect(struct loop *l, int dirfd, uid_t expect_uid, struct proto_client **ret, struct error *err);
/* Over a connected socket, to a launcher that is nobody to be wary of: it is in this process. */
struct proto_client *proto_client_new(struct loop *l, int take_fd);
pid_t proto_client_pid(const struct proto_client *c); /* SO_PEERCRED: callers check its cgroup */
void proto_client_call(struct proto_client *c, const char *call, const struct json *params, const int *fds, size_t n_fds,
                       int64_t timeout_ns, proto_done_fn done, void *user);
/* From the answer to "subscribe": which version is spoken from now on; false: there is none. Launchers that do not say theirs speak the first. */
MUST_CHECK bool proto_client_agree(struct proto_client *c, const struct json *subscribed, struct error *err);
/* The same decision between two ranges: the newest version that both know, 0: none. */
int64_t proto_common(int64_t oldest, int64_t newest, int64_t their_oldest, int64_t their_newest);
void proto_client_on_event(struct proto_client *c, void (*fn)(void *user, const struct json *event),
                           void (*closed)(void *user, const struct error *why), void *user);
void proto_client_free(struct proto_client *c); /* calls that wait fail in here; they must not use c any more */
