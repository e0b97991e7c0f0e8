/* handler/alive - which processes are a pod's, by their cgroups: the one on a socket, and whether its launcher lives at all. */
#pragma once
#include <sys/types.h>

#include "base/error.h"

/* Is the process inside this pod? `proc` is /proc. */
MUST_CHECK bool alive_in_pod(int proc, pid_t pid, const char *pod_uid, struct error *err);
/* The pod's launcher, if there is one; 0: none. Looks at every process of the machine. */
pid_t alive_launcher(int proc, const char *pod_uid);
