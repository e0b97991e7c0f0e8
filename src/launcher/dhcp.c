/* DHCP for the guest: the agent hands over a socket that is bound to port 67 on the pod's bridge, we answer on it. */
#include "launcher/internal.h"
#include "network/dhcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/alloc.h"

#define MAX_SERVICES 16
#define MAX_PACKET 1500
#define MAX_A_TURN 16 /* a guest that floods us waits its turn */

struct dhcp_service {
    struct dhcp_service *next;
    struct loop_io io;
    int fd;
    struct arena arena;
    struct dhcp_config config;
};

static void packet_ready(struct loop_io *io, uint32_t events)
{
    struct dhcp_service *s = container_of(io, struct dhcp_service, io);
    const struct sockaddr_in everyone = {
        .sin_family = AF_INET, .sin_port = htons(68), .sin_addr.s_addr = INADDR_BROADCAST};

    (void)events;
    for (int i = 0; i < MAX_A_TURN; i++) {
        AUTO(buf_done) struct buf answer = {0};
        char packet[MAX_PACKET];
        ssize_t n = recv(s->fd, packet, sizeof packet, MSG_DONTWAIT);

        if (n < 0)
            return;
        buf_init(&answer, MAX_PACKET);
        if (dhcp_reply(&s->config, str_n(packet, (size_t)n), &answer) && !answer.overflow
            && sendto(s->fd, answer.p, answer.n, MSG_DONTWAIT, (const struct sockaddr *)&everyone,
                      sizeof everyone)
                   < 0)
            return; /* the guest asks again */
    }
}

bool dhcp_start(struct launcher *l, const struct json *nic, const struct json *dhcp, int *fds,
                size_t n_fds, struct error *err)
{
    struct dhcp_service *s;
    int64_t i = json_i64_at(dhcp, "fd", -1);

    (void)nic;
    if (i < 0 || (uint64_t)i >= n_fds || fds[i] < 0)
        return error_set(err, ERROR_BAD_REQUEST, "dhcp: its descriptor did not come along");
    if (l->n_dhcp >= MAX_SERVICES)
        return error_set(err, ERROR_BAD_REQUEST, "dhcp: more than %d services", MAX_SERVICES);
    s = NEW(struct dhcp_service);
    s->next = l->dhcp;
    l->dhcp = s;
    l->n_dhcp++;
    s->fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    if (s->fd < 0)
        return error_errno(err, errno, "dhcp");
    if (!dhcp_config_parse(json_copy(&s->arena, dhcp), &s->arena, &s->config, err))
        return error_wrap(err, "dhcp");
    loop_io_start(l->loop, &s->io, s->fd, EPOLLIN, packet_ready);
    return true;
}

void dhcp_stop(struct launcher *l)
{
    while (l->dhcp) {
        struct dhcp_service *s = l->dhcp;

        l->dhcp = s->next;
        loop_io_stop(&s->io);
        fd_close(&s->fd);
        arena_done(&s->arena);
        free(s);
    }
    l->n_dhcp = 0;
}
