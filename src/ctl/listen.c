#include "ctl/listen.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "http/server.h"

bool listen_local(const char *address, unsigned *port, int *ret_fd, struct error *err)
{
    bool bare_v6 = strchr(address, ':') && address[0] != '[';
    bool named = strcmp(address, "localhost") == 0;
    AUTO_FREE char *text = xasprintf(bare_v6 ? "[%s]:%u" : "%s:%u", named ? "127.0.0.1" : address, *port);
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    AUTO_CLOSE int fd = -1;

    if (!http_listen_tcp(text, &fd, err) || !file_set_nonblock(fd, err))
        return false;
    if (getsockname(fd, (struct sockaddr *)&at, &n) < 0)
        return error_set(err, ERROR_INTERNAL, "the listener has no address");
    *port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port : ((struct sockaddr_in *)&at)->sin_port);
    *ret_fd = TAKE_FD(fd);
    return true;
}
