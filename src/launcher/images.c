#include "launcher/images.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/kv.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"

#define NAME_MAX_LEN 253
#define FRESH_NAME KV_IMAGE_SOCKET ".new"

struct image {
    struct images *images; /* NULL: the place is free */
    int fd;                /* the connection; -1 when it has ended */
    int root;              /* -1: it has said nothing yet */
    char name[NAME_MAX_LEN + 1];
    struct loop_io io;
};

struct images {
    struct loop *loop;
    int listen_fd;
    struct loop_io listen_io;
    struct image p[IMAGES_MAX];
};

static void hang_up(struct image *i)
{
    loop_io_stop(&i->io);
    fd_close(&i->fd);
}

static void drop(struct image *i)
{
    hang_up(i);
    fd_close(&i->root);
    i->images = NULL;
}

int images_root(const struct images *im, struct str name)
{
    for (size_t i = 0; im && i < IMAGES_MAX; i++)
        if (im->p[i].images && im->p[i].root >= 0 && str_is(name, im->p[i].name))
            return im->p[i].root;
    return -1;
}

/* One message: the name, and one descriptor. Returns what came: >0, 0 at the end, <0 with errno. */
static ssize_t receive(int fd, char *text, size_t size, int *ret_root)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct iovec to = {text, size};
    struct msghdr m = {
        .msg_iov = &to, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    size_t n_fds = 0;
    ssize_t n;

    *ret_root = -1;
    do
        n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        size_t count = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
                           ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
                           : 0;

        for (size_t k = 0; k < count; k++, n_fds++) {
            int got;

            memcpy(&got, CMSG_DATA(c) + k * sizeof got, sizeof got);
            if (n_fds == 0)
                *ret_root = got;
            else
                close(got);
        }
    }
    if (n > 0 && (n_fds != 1 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))) {
        fd_close(ret_root);
        errno = EBADMSG;
        return -1;
    }
    return n;
}

static const char *unfit(struct images *im, struct str name, int root)
{
    struct stat st;

    for (size_t i = 0; i < name.n; i++)
        if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= 'A' && name.p[i] <= 'Z')
              || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-' || name.p[i] == '.'))
            return "its name is none";
    if (images_root(im, name) >= 0)
        return "an image of that name is there";
    if (fstat(root, &st) != 0 || !S_ISDIR(st.st_mode))
        return "what came is no directory";
    return NULL;
}

static void image_ready(struct loop_io *io, uint32_t events)
{
    struct image *i = container_of(io, struct image, io);
    char text[NAME_MAX_LEN + 2];
    AUTO_CLOSE int root = -1;
    ssize_t n = receive(i->fd, text, sizeof text, &root);
    const char *why;

    (void)events;
    if (n < 0 && errno == EAGAIN)
        return;
    if (i->root >= 0) { /* it has said what it had to say: it ends, or is not ours */
        hang_up(i);
        return;
    }
    why = n < 0              ? strerror(errno)
          : n == 0           ? "it said nothing"
          : n > NAME_MAX_LEN ? "its name is too long"
                             : unfit(i->images, str_n(text, (size_t)n), root);
    if (!why && send(i->fd, "+", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        why = "it is gone";
    if (why) {
        log_warning(NULL, "images: refused a container: %s", why);
        drop(i);
        return;
    }
    memcpy(i->name, text, (size_t)n);
    i->root = TAKE_FD(root);
}

static void accept_ready(struct loop_io *io, uint32_t events)
{
    struct images *im = container_of(io, struct images, listen_io);
    AUTO_CLOSE int fd = accept4(im->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred cred;
    socklen_t n = sizeof cred;
    struct image *i = im->p;

    (void)events;
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || cred.uid != geteuid()) {
        log_warning(NULL, "images: refused a connection of another user");
        return;
    }
    while (i < im->p + IMAGES_MAX && i->images)
        i++;
    if (i == im->p + IMAGES_MAX) {
        log_warning(NULL, "images: more than %d connections, ignoring one more", IMAGES_MAX);
        return;
    }
    i->images = im;
    i->root = -1;
    i->fd = TAKE_FD(fd);
    loop_io_start(im->loop, &i->io, i->fd, EPOLLIN, image_ready);
}

/* The socket gets its name once it is listened on. bind(2) takes short paths only: so from inside the folder. */
static bool listen_in(int dirfd, int fd, struct error *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX, .sun_path = FRESH_NAME};
    mode_t mask;
    bool bound;

    if (fchdir(dirfd) != 0)
        return error_errno(err, errno, "images: folder of the socket");
    unlink(FRESH_NAME);
    mask = umask(0177);
    bound = bind(fd, (struct sockaddr *)&sun, sizeof sun) == 0;
    umask(mask);
    if (!bound || listen(fd, IMAGES_MAX) != 0 || rename(FRESH_NAME, KV_IMAGE_SOCKET) != 0)
        return error_errno(err, errno, "images: socket " KV_IMAGE_SOCKET);
    if (chdir("/") != 0)
        return error_errno(err, errno, "chdir /");
    return true;
}

struct images *images_new(struct loop *l, int dirfd, struct error *err)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct images *im;

    if (fd < 0) {
        error_errno(err, errno, "images: socket");
        return NULL;
    }
    if (!listen_in(dirfd, fd, err))
        return NULL;
    im = NEW(struct images);
    im->loop = l;
    im->listen_fd = TAKE_FD(fd);
    for (size_t i = 0; i < IMAGES_MAX; i++)
        im->p[i].fd = im->p[i].root = -1;
    loop_io_start(l, &im->listen_io, im->listen_fd, EPOLLIN, accept_ready);
    return im;
}

void images_free(struct images *im)
{
    if (!im)
        return;
    loop_io_stop(&im->listen_io);
    fd_close(&im->listen_fd);
    for (size_t i = 0; i < IMAGES_MAX; i++)
        drop(&im->p[i]);
    free(im);
}

static const struct str *missing(const struct images *im, const struct str *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (images_root(im, names[i]) < 0)
            return &names[i];
    return NULL;
}

/* Only of these descriptors: everything else of the launcher's waits as long. */
static void pump(struct images *im, int64_t for_ns)
{
    struct pollfd fds[IMAGES_MAX + 1] = {{.fd = im->listen_fd, .events = POLLIN}};
    struct image *of[IMAGES_MAX + 1];
    nfds_t n = 1;

    for (size_t i = 0; i < IMAGES_MAX; i++)
        if (im->p[i].images && im->p[i].fd >= 0) {
            of[n] = &im->p[i];
            fds[n++] = (struct pollfd){.fd = im->p[i].fd, .events = POLLIN};
        }
    if (poll(fds, n, (int)(for_ns / MILLIS(1)) + 1) <= 0)
        return;
    for (nfds_t i = 1; i < n; i++)
        if (fds[i].revents)
            image_ready(&of[i]->io, 0);
    if (fds[0].revents)
        accept_ready(&im->listen_io, 0);
}

bool images_wait(struct images *im, const struct str *names, size_t n, int64_t patience_ns,
                 struct error *err)
{
    int64_t end = loop_now_ns(im->loop) + patience_ns, left;
    const struct str *name;

    while ((name = missing(im, names, n))) {
        left = end - loop_now_ns(im->loop);
        if (left <= 0)
            return error_set(err, ERROR_UNAVAILABLE,
                             "the container of image '" STR_FMT
                             "' has not handed it over within %lld s: see that container's status "
                             "in the pod",
                             STR_ARG(*name), (long long)(patience_ns / SECONDS(1)));
        pump(im, left);
    }
    return true;
}
