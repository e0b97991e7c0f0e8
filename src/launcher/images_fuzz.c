/* Containers that hand over what they like: each byte of the input is a step of one of eight connections (the lower three bits), and texts
 * for names come out of the bytes behind it. Whatever they do, an image's root is a directory, its name is one, and no descriptor stays. */
#include "launcher/images.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/kv.h"
#include "base/cleanup.h"

enum { CONNECTIONS = 8, DESCRIPTORS = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static int folder_fd, file_fd, here_fd;

static void remove_all(void)
{
    (void)!unlinkat(folder_fd, KV_IMAGE_SOCKET, 0);
    (void)!unlinkat(folder_fd, "file", 0);
    rmdir(folder);
}

static void set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/images-fuzz-%d", (int)getpid());
    if (mkdir(folder, 0700) != 0)
        abort();
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file_fd = openat(folder_fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    here_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0 || file_fd < 0 || here_fd < 0)
        abort();
    atexit(remove_all);
}

static unsigned count_open(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int connected(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    snprintf(sun.sun_path, sizeof sun.sun_path, "%s/" KV_IMAGE_SOCKET, folder);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0)
        abort();
    return fd;
}

static void say(int fd, struct str text, const int *fds, size_t n)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * 12)];
    } control = {0};
    struct iovec from = {(void *)text.p, text.n};
    struct msghdr m = {.msg_iov = &from, .msg_iovlen = 1};

    if (n) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * n);
    }
    (void)!sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A step: what is done, with which connection; ret_used: of the text behind it. */
static void step(uint8_t op, int fds[CONNECTIONS], struct str rest, size_t *ret_used)
{
    static const uint8_t how_many[] = {1, 1, 0, 2, 12};
    int *fd = &fds[op & 7], given[12];
    size_t n = rest.n ? (uint8_t)rest.p[0] : 0;
    bool directory = op >> 3 & 1;

    *ret_used = 0;
    if (op >> 4 == 15) {
        fd_close(fd);
        return;
    }
    if (*fd < 0)
        *fd = connected();
    for (size_t i = 0; i < ARRAY_SIZE(given); i++)
        given[i] = directory ? folder_fd : file_fd;
    n = op >> 4 == 14 ? 2 * n : n; /* longer than any name */
    n = n < rest.n ? n : rest.n > 0 ? rest.n - 1 : 0;
    say(*fd, str_n(rest.p + (rest.n > 0), n), given, how_many[(op >> 4) % ARRAY_SIZE(how_many)]);
    *ret_used = rest.n ? n + 1 : 0;
}

static void holds(struct images *im, struct str name)
{
    struct stat st;
    int root = images_root(im, name);

    if (root < 0)
        return;
    assert(fstat(root, &st) == 0 && S_ISDIR(st.st_mode));
    assert(name.n > 0 && name.n <= 253 && !memchr(name.p, '/', name.n)
           && !memchr(name.p, '\0', name.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(error_clear) struct error err = {0};
    struct str text = str_n((const char *)data, size);
    int fds[CONNECTIONS] = {-1, -1, -1, -1, -1, -1, -1, -1};
    struct loop *loop;
    struct images *im;
    unsigned before;

    if (size > 4096)
        return 0;
    if (!folder[0])
        set_up();
    before = count_open();
    loop = loop_new_fake();
    im = images_new(loop, folder_fd, &err);
    if (!im || fchdir(here_fd) != 0) /* the corpus may have been named from here */
        abort();
    for (size_t at = 0, used; at < size; at += 1 + used) {
        step(data[at], fds, str_skip(text, at + 1), &used);
        while (loop_turn(loop, 0))
            ;
        if (used > 0)
            holds(im, str_n(text.p + at + 2, used - 1));
    }
    images_free(im);
    loop_free(loop);
    for (size_t i = 0; i < CONNECTIONS; i++)
        fd_close(&fds[i]);
    assert(count_open() == before);
    return 0;
}
