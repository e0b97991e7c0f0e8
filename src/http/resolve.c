#include "http/resolve.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Shared with the thread. It only knows the job and the writing end of a pipe, so the loop may go first. */
struct job {
    atomic_uint refs;
    char *host;
    char port[12];
    int write_fd;
    int result;
    size_t n;
    struct sockaddr_storage addresses[RESOLVE_MAX];
    socklen_t lengths[RESOLVE_MAX];
};

struct resolve {
    struct job *job;
    struct loop_io io;
    int read_fd;
    void (*done)(void *user);
    void *user;
};

static void job_unref(struct job *j)
{
    if (atomic_fetch_sub(&j->refs, 1) != 1)
        return;
    free(j->host);
    free(j);
}

static void look_up(struct job *j, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV},
                    *list = NULL;

    j->result = getaddrinfo(j->host, j->port, &hints, &list);
    if (j->result != 0)
        return;
    for (struct addrinfo *a = list; a && j->n < RESOLVE_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof j->addresses[0])
            continue;
        memcpy(&j->addresses[j->n], a->ai_addr, a->ai_addrlen);
        j->lengths[j->n++] = a->ai_addrlen;
    }
    freeaddrinfo(list);
}

static void *run(void *arg)
{
    struct job *j = arg;

    if (j->n == 0)
        look_up(j, AI_ADDRCONFIG);
    close(j->write_fd); /* the other end reads EOF: done */
    job_unref(j);
    return NULL;
}

static void ready(struct loop_io *io, uint32_t events)
{
    struct resolve *r = container_of(io, struct resolve, io);

    (void)events;
    loop_io_stop(&r->io);
    r->done(r->user);
}

struct resolve *resolve_start(struct loop *l, const char *host, unsigned port,
                              void (*done)(void *user), void *user)
{
    struct resolve *r = NEW(struct resolve);
    struct job *j = NEW(struct job);
    int fds[2] = {-1, -1};
    pthread_t thread;
    pthread_attr_t attr;

    atomic_init(&j->refs, 2);
    j->host = xstrdup(host);
    snprintf(j->port, sizeof j->port, "%u", port);
    r->job = j;
    r->done = done;
    r->user = user;
    look_up(j, AI_NUMERICHOST); /* an address needs no thread */
    if (pipe2(fds, O_CLOEXEC) != 0) {
        j->result = EAI_SYSTEM;
        j->n = 0;
        fds[0] = eventfd(1, EFD_CLOEXEC);
    }
    r->read_fd = fds[0];
    j->write_fd = fds[1];
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (j->n > 0 || fds[1] < 0 || pthread_create(&thread, &attr, run, j) != 0) {
        if (j->n == 0 && fds[1] >= 0)
            j->result = EAI_AGAIN;
        if (fds[1] >= 0)
            close(fds[1]);
        job_unref(j);
    }
    pthread_attr_destroy(&attr);
    loop_io_start(l, &r->io, r->read_fd, EPOLLIN, ready);
    return r;
}

size_t resolve_count(const struct resolve *r)
{
    return r->job->n;
}

const struct sockaddr *resolve_address(const struct resolve *r, size_t i, socklen_t *ret_n)
{
    *ret_n = r->job->lengths[i];
    return (const struct sockaddr *)&r->job->addresses[i];
}

const char *resolve_error(const struct resolve *r)
{
    return r->job->n > 0 ? NULL : gai_strerror(r->job->result);
}

void resolve_free(struct resolve *r)
{
    if (!r)
        return;
    loop_io_stop(&r->io);
    fd_close(&r->read_fd);
    job_unref(r->job);
    free(r);
}
