/* The guest agent's client against a scripted agent at the other end of the port. */
#include "base/base_test.h"
#include "launcher/internal.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct fixture {
    struct launcher l;
    int guest; /* the agent's end */
    struct buf in;
    const char *os, *interfaces;
};

static int setup(void **state)
{
    static struct fixture f;
    int fds[2];

    memset(&f, 0, sizeof f);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -1;
    f.l.loop = loop_new(NULL);
    f.guest = fds[1];
    f.l.agent = agent_new(&f.l, fds[0]);
    buf_init(&f.in, 1 << 20);
    f.os = f.interfaces = "[]";
    *state = &f;
    return f.l.loop ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    agent_free(f->l.agent);
    loop_free(f->l.loop);
    close(f->guest);
    buf_done(&f->in);
    return 0;
}

static void say(struct fixture *f, const char *text)
{
    assert_int_equal(write(f->guest, text, strlen(text)), (ssize_t)strlen(text));
}

/* One question, answered as a real agent would. */
static void answer(struct fixture *f, struct str question)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;
    struct str command;

    assert_true(json_parse(question, &a, &v, &err));
    command = json_str_at(v, "execute");
    if (str_is(command, "guest-sync"))
        say(f, arena_printf(&a, "left over\n{\"return\": %lld}\n", (long long)json_i64_at(v, "arguments/id", -1)));
    else if (str_is(command, "guest-info"))
        say(f, "{\"return\":{\"version\":\"7.2\"}}\n");
    else if (str_is(command, "guest-get-osinfo"))
        say(f, arena_printf(&a, "{\"return\":%s}\n", f->os));
    else if (str_is(command, "guest-network-get-interfaces"))
        say(f, arena_printf(&a, "{\"return\":%s}\n", f->interfaces));
    else
        say(f, "{\"error\":{\"class\":\"CommandNotFound\"}}\n");
}

static void converse(struct fixture *f)
{
    for (int quiet = 0; quiet < 20; quiet++) {
        char data[4096], *nl;
        ssize_t n;

        loop_turn(f->l.loop, MILLIS(5));
        while ((n = read(f->guest, data, sizeof data)) > 0)
            buf_add(&f->in, data, (size_t)n);
        while (f->in.n && (nl = memchr(f->in.p, '\n', f->in.n))) {
            answer(f, str_n(f->in.p, (size_t)(nl - f->in.p)));
            buf_consume(&f->in, (size_t)(nl - f->in.p) + 1);
            quiet = 0;
        }
    }
}

static void told(struct fixture *f, const char *want_os, const char *want_interfaces)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *domain = launcher_domain(&f->l, &a);
    AUTO_FREE char *os = json_text(json_get(domain, "guestOSInfo") ? json_get(domain, "guestOSInfo") : json_null());
    AUTO_FREE char *interfaces = json_text(json_get(domain, "interfaces"));

    assert_string_equal(os, want_os);
    assert_string_equal(interfaces, want_interfaces);
}

static void system_and_interfaces(void **state)
{
    struct fixture *f = *state;

    told(f, "null", "[]");
    f->os = "{\"id\":\"debian\",\"name\":\"Debian GNU/Linux\",\"pretty-name\":\"Debian 12\",\"version-id\":\"12\","
            "\"kernel-release\":\"6.1\",\"machine\":\"x86_64\",\"variant\":\"x\",\"version\":7}";
    f->interfaces = "[{\"name\":\"lo\",\"ip-addresses\":[{\"ip-address\":\"127.0.0.1\"}]},{\"name\":\"enp1s0\","
                    "\"hardware-address\":\"02:00:00:00:00:01\",\"ip-addresses\":[{\"ip-address\":\"10.0.2.2\",\"prefix\":24},"
                    "{\"ip-address\":\"fe80::1\"}]}]";
    agent_port_changed(f->l.agent, true);
    converse(f);
    assert_true(agent_connected(f->l.agent));
    told(f,
         "{\"name\":\"Debian GNU/Linux\",\"kernelRelease\":\"6.1\",\"prettyName\":\"Debian 12\",\"versionId\":\"12\","
         "\"machine\":\"x86_64\",\"id\":\"debian\"}",
         "[{\"name\":\"enp1s0\",\"mac\":\"02:00:00:00:00:01\",\"ips\":[\"10.0.2.2\",\"fe80::1\"]}]");
    agent_port_changed(f->l.agent, false);
    assert_false(agent_connected(f->l.agent));
    told(f, "null", "[]");
}

/* The guest says what it likes: nothing of it ends the launcher or is believed. */
static void nonsense(void **state)
{
    static const char *const shapes[] = {"7", "\"x\"", "[]", "{}", "null", "[7,{},{\"name\":7,\"ip-addresses\":{}}]",
                                         "[{\"name\":{},\"hardware-address\":[],\"ip-addresses\":[7,{\"ip-address\":9}]}]"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        AUTO(arena_done) struct arena a = {0};

        f->os = f->interfaces = shapes[i];
        agent_port_changed(f->l.agent, true);
        converse(f);
        assert_true(agent_connected(f->l.agent));
        assert_null(json_get(launcher_domain(&f->l, &a), "guestOSInfo"));
        json_each_item(nic, json_get(launcher_domain(&f->l, &a), "interfaces")) {
            assert_false(json_get(nic, "name"));
            assert_false(json_get(nic, "mac"));
            assert_int_equal(json_len(json_get(nic, "ips")), 0);
        }
        agent_port_changed(f->l.agent, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(system_and_interfaces, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
