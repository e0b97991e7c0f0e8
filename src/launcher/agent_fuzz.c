/* What a guest writes to the agent's port: any bytes, cut anywhere, and answers in the form of the protocol, so that the
 * conversation goes on. The first byte says which; what was told must become a domain within its bounds. */
#include "base/cleanup.h"
#include "launcher/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Answers everything that is asked: a synchronization as it must be, all else with `text`. */
static void converse(struct loop *loop, int guest, struct str text)
{
    char asked[4096], *id;
    ssize_t n;

    for (int i = 0; i < 12; i++) {
        n = recv(guest, asked, sizeof asked - 1, MSG_DONTWAIT);
        if (n > 0) {
            asked[n] = '\0';
            id = strstr(asked, "\"id\":");
            if (id)
                dprintf(guest, "{\"return\": %ld}\n", strtol(id + 5, NULL, 10));
            else
                dprintf(guest, "{\"return\": " STR_FMT "}\n", STR_ARG(text));
        }
        loop_turn(loop, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct launcher l = {0};
    const struct json *domain, *v;
    int sv[2];

    if (size < 1 || size > 65536)
        return 0;
    if (!loop)
        loop = loop_new_fake();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) != 0)
        abort();
    l.loop = loop;
    l.agent = agent_new(&l, sv[0]);
    agent_port_changed(l.agent, true);
    if (data[0] & 1) {
        converse(loop, sv[1], str_n((const char *)data + 1, size - 1));
        if (json_parse(str_n((const char *)data + 1, size - 1), &a, &v, &err)
            && !memchr(data + 1, '\n', size - 1))
            assert(agent_connected(l.agent));
    } else {
        for (size_t at = 1; at < size; at += 1 + data[0] * 16u) {
            size_t n = 1 + data[0] * 16u;

            (void)!send(sv[1], data + at, at + n > size ? size - at : n,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
            loop_turn(loop, 0);
        }
        loop_fake_advance(loop, SECONDS(11)); /* it begins again, in the middle of our line */
        converse(loop, sv[1], STR("[]"));
    }
    domain = launcher_domain(&l, &a);
    assert(json_len(json_get(domain, "interfaces")) <= 32);
    (void)agent_info(l.agent, &a);
    agent_free(l.agent);
    close(sv[1]);
    return 0;
}
