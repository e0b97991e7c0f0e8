/* What a QEMU that has been taken over says to its launcher: greeting, replies, events. */
#include "base/cleanup.h"
#include "vmm/qemu/qmp.h"

#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(void *user, struct str name, const struct json *data)
{
    (void)user;
    (void)data;
    assert(name.p);
}

static void on_closed(void *user)
{
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct qmp_handlers handlers = {on_event, on_closed};
    AUTO(error_clear) struct error err = {0};
    AUTO(error_clear) struct error failed = {0};
    AUTO(arena_done) struct arena a = {0};
    const struct json *value = NULL;
    struct str machine = STR_NONE;
    struct loop *l;
    int sv[2];

    if (size > 65536)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) != 0)
        abort();
    l = loop_new(NULL);
    struct qmp *q = qmp_new(l, sv[0], &handlers, NULL);
    if (size > 0 && send(sv[1], data, size, MSG_NOSIGNAL) < 0)
        abort();
    shutdown(sv[1], SHUT_WR); /* its end, so that nothing waits for more */
    bool ok = qmp_hello(q, MILLIS(50), &a, &machine, &err);
    assert(ok == (err.kind == ERROR_NONE));
    if (ok) {
        ok = qmp_call(q, "query-status", NULL, &a, &value, &failed);
        assert(ok == (failed.kind == ERROR_NONE));
    }
    loop_turn(l, 0);
    qmp_drain(q);
    qmp_free(q);
    close(sv[1]);
    loop_free(l);
    return 0;
}
