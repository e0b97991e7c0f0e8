/* Who is at the other end of a launcher's socket. Whoever may create pods can make one that looks like a launcher's, with a socket of
 * their own in it: what is made for it must not reach beyond that pod. */
#include <errno.h>
#include <sys/stat.h>

#include "handler/internal.h"

/* In a pod with hostNetwork the interfaces that are bridged and translated would be the node's own. */
bool peer_network(int netns, struct error *err)
{
    static const char *const others[] = {"/proc/1/ns/net", "/proc/self/ns/net"}; /* the host's, and the agent's */
    struct stat given, other;

    if (fstat(netns, &given) < 0)
        return error_errno(err, errno, "network namespace of the launcher");
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        if (stat(others[i], &other) < 0) {
            if (errno == EACCES || errno == EPERM)
                continue; /* a node that is a container itself: its first process is out of reach, and so is that network */
            return error_errno(err, errno, "%s, to tell the pod's network from the host's", others[i]);
        }
        if (given.st_dev == other.st_dev && given.st_ino == other.st_ino)
            return error_set(err, ERROR_FORBIDDEN, "the launcher is in the host's network (hostNetwork), where no machine is connected: "
                                                   "the pod is not one that virt-controller made");
    }
    return true;
}
