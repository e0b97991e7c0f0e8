#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/qemu/qmp.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* QEMU's side is written before the call: ids count from 1, so the answers are known. */

struct told {
    char names[256];
    int closed;
};

static void event(void *user, struct str name, const struct json *data)
{
    struct told *t = user;
    size_t n = strlen(t->names);

    (void)data;
    snprintf(t->names + n, sizeof t->names - n, STR_FMT " ", STR_ARG(name));
}

static void closed(void *user)
{
    ((struct told *)user)->closed++;
}

static const struct qmp_handlers handlers = {event, closed};

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

struct fixture {
    struct loop *loop;
    struct qmp *q;
    struct told told;
    int peer;
};

static void start(struct fixture *f)
{
    int fds[2];

    memset(f, 0, sizeof *f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    f->loop = loop_new(NULL);
    f->q = qmp_new(f->loop, fds[0], &handlers, &f->told);
    f->peer = fds[1];
}

static void stop(struct fixture *f)
{
    qmp_free(f->q);
    close(f->peer);
    loop_free(f->loop);
}

/* What came in one piece with the reply is told without another byte from QEMU. */
static void event_behind_a_reply(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct fixture f;

    (void)state;
    start(&f);
    say(f.peer, "{\"return\": {}, \"id\": 1}\r\n{\"event\": \"SHUTDOWN\", \"data\": {}}\r\n");
    assert_true(qmp_call(f.q, "system_powerdown", NULL, &a, NULL, &err));
    loop_turn(f.loop, 0);
    assert_string_equal(f.told.names, "SHUTDOWN ");
    stop(&f);
}

static void greeting_and_machine(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct fixture f;
    struct str machine;

    (void)state;
    start(&f);
    say(f.peer,
        "{\"QMP\": {\"version\": {}}}\r\n{\"return\": {}, \"id\": 1}\r\n{\"event\": \"RESUME\"}\r\n"
        "{\"return\": \"pc-q35-7.2-machine\", \"id\": 2}\r\n");
    assert_true(qmp_hello(f.q, SECONDS(1), &a, &machine, &err));
    assert_true(str_is(machine, "pc-q35-7.2-machine"));
    assert_string_equal(f.told.names, ""); /* not from inside the call */
    loop_turn(f.loop, 0);
    assert_string_equal(f.told.names, "RESUME ");
    stop(&f);
}

static void replies_among_events(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;
    struct fixture f;

    (void)state;
    start(&f);
    /* An event without a name (a guest that took QEMU over) is rubbish, too. */
    say(f.peer, "{\"event\": 2}\n{\"event\": \"STOP\"}\n{\"return\": 9, \"id\": 77}\nrubbish\n{\"event\": "
                "\"RESET\"}\n{\"return\": {\"x\": 5}, \"id\": 1}\n"
                "{\"event\": \"RESUME\"}\n{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": "
                "\"no such\"}, \"id\": 2}\n");
    assert_true(qmp_call(f.q, "a", NULL, &a, &v, &err));
    assert_int_equal(json_i64_at(v, "x", 0), 5);
    assert_false(qmp_call(f.q, "device_del", NULL, &a, &v, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_string_equal(err.msg, "device_del: no such");
    loop_turn(f.loop, 0);
    assert_string_equal(f.told.names, "STOP RESET RESUME ");
    stop(&f);
}

static void death_fails_at_once(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct fixture f;

    (void)state;
    start(&f);
    say(f.peer, "{\"event\": \"SHUTDOWN\"}\n{\"return\": {}, \"id\"");
    shutdown(f.peer, SHUT_RDWR);
    assert_false(qmp_call(f.q, "a", NULL, &a, NULL, &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    loop_turn(f.loop, 0);
    assert_string_equal(f.told.names, "SHUTDOWN ");
    assert_int_equal(f.told.closed, 1);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(event_behind_a_reply),
        cmocka_unit_test(greeting_and_machine),
        cmocka_unit_test(replies_among_events),
        cmocka_unit_test(death_fails_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
