/* vmm/qemu/qmp - QEMU's monitor protocol, blocking style.
 *
 * qmp_call() writes a command and reads the socket itself until the reply, the deadline or QEMU's death, so sequences read
 * top to bottom. Events that arrive meanwhile are kept and handed out from the loop, in order, never from inside a call.
 * Once the peer is gone every call fails at once with ERROR_UNAVAILABLE, and closed() is called from the loop. */
#pragma once
#include "json/json.h"
#include "loop/loop.h"

struct qmp;
struct qmp_handlers {
    void (*event)(void *user, struct str name, const struct json *data);
    void (*closed)(void *user);
};

/* Takes over a connected socket. Nothing is read or written yet. */
struct qmp *qmp_new(struct loop *l, int take_fd, const struct qmp_handlers *h, void *user);
void qmp_free(struct qmp *q);
/* Hands out every event that has arrived, at once: for the end, when the process is known to be gone. */
void qmp_drain(struct qmp *q);

/* Waits for the greeting and negotiates. With type_arena, asks also (in the same write, so at no cost) for the type of
 * the /machine object: "pc-q35-7.2-machine". */
MUST_CHECK bool qmp_hello(struct qmp *q, int64_t timeout_ns, struct arena *a,
                          struct str *ret_machine, struct error *err);

/* ret may be NULL; the value lives in a. args may be NULL. QEMU's own refusals are ERROR_INTERNAL "<command>: <desc>"
 * (ERROR_NOT_FOUND for its class DeviceNotFound). */
MUST_CHECK bool qmp_call(struct qmp *q, const char *command, const struct json *args,
                         struct arena *a, const struct json **ret, struct error *err);
/* The same with a descriptor riding on the command (getfd, add-fd). */
MUST_CHECK bool qmp_call_fd(struct qmp *q, const char *command, const struct json *args, int fd,
                            struct arena *a, const struct json **ret, struct error *err);

#define QMP_TIMEOUT_NS SECONDS(10)
#define QMP_MAX_EVENTS 1024 /* waiting to be handed out; a flood beyond loses the oldest */
