#include "vmm/proto.h"

#include <sys/socket.h>
#include <unistd.h>

/* Whatever arrives: no crash, no descriptor left open, and the connection ends when the peer goes. */
static void message(struct proto_conn *c, const struct json *msg, int *fds, size_t n_fds)
{
    (void)fds;
    (void)n_fds;
    proto_send(c, msg, NULL, 0);
}

static void closed(struct proto_conn *c, const struct error *why)
{
    (void)why;
    *(bool *)proto_user(c) = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct proto_handlers handlers = {message, closed};
    struct loop *l = loop_new(NULL);
    bool ended = false;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return 0;
    struct proto_conn *c = proto_new(l, fds[0], &handlers, &ended);
    if (n > 65536 || send(fds[1], data, n, MSG_DONTWAIT) < 0)
        n = 0;
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 64 && !ended; i++)
        loop_turn(l, 0);
    proto_free(c);
    close(fds[1]);
    loop_free(l);
    return 0;
}
