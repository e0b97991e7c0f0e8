/* sim/launcher - a launcher that is played: the launcher's protocol (vmm/proto.h) in this process, over a machine of the fake VMM.
 *
 * It speaks with its node agent over a pair of connected sockets, as the real one does over its socket in the pod, and ends as that:
 * 0 after a shutdown, 1 after a crash. What would take time in a real one takes the time that it is told. */
#pragma once
#include "json/json.h"
#include "loop/loop.h"

struct proto_client;
struct vmm_driver;
struct sim_launcher;
struct sim_launcher_config {
    struct loop *loop;
    int64_t start_ns;                /* from the order to the running guest */
    void (*ended)(void *user, int exit_code); /* once; sim_launcher_free() is its user's */
    void *user;
};
struct sim_launcher *sim_launcher_new(const struct sim_launcher_config *c);
void sim_launcher_free(struct sim_launcher *l);
/* A node agent connects; the one before it is cut off. */
MUST_CHECK bool sim_launcher_connect(struct sim_launcher *l, struct proto_client **ret, struct error *err);
bool sim_launcher_ended(const struct sim_launcher *l);
const struct json *sim_launcher_domain(const struct sim_launcher *l, struct arena *a);
/* SIGTERM: the guest gets its grace. SIGKILL: crash. */
void sim_launcher_terminate(struct sim_launcher *l, int64_t grace_ns);
void sim_launcher_crash(struct sim_launcher *l, const char *why);

/* What nodes offer: the names of real hypervisors; NULL-terminated. All machines are the fake VMM's. */
extern const struct vmm_driver *const sim_drivers[];
bool sim_plays(struct str vmm);
#define SIM_DRIVERS "qemu,qemu-microvm,cloud-hypervisor,firecracker,fake"
