/* launcher/launcher - one process per VM: drives its VMM, consoles and guest agent, and serves the node agent.
 *
 * The node agent sends the VMI (`sync`); the launcher prepares the disks, starts the machine by the VMM's driver and reports
 * every change as a domain event. When the machine has ended it writes the termination record and exits: 0 after a shutdown,
 * 1 after a crash. A start that fails does not end it: the agent may sync again. Losing the agent changes nothing. */
#pragma once
#include "base/error.h"
#include "loop/loop.h"

struct launcher_options {
    const char *name, *namespace_, *uid; /* of the VMI */
    int64_t grace_ns;                    /* for SIGTERM */
    bool image_containers; /* images come from containers beside this one (launcher/images.h) */
    const char *root; /* in front of /var/run/…: "" in a pod; tests give a directory */
};
/* Until the machine ended. Returns the exit status. */
MUST_CHECK bool launcher_run(const struct launcher_options *o, int *ret_status, struct error *err);
