#include "network/dhcp.h"
#include "base/cleanup.h"
#include <assert.h>

/* The first byte says how much of the input is configuration; the rest is a packet. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const fallback = "{\"address\":\"10.0.2.2/24\",\"gateway\":\"10.0.2.1\",\"server\":\"10.0.2.1\",\"search\":"
                                        "[\"a.b\"],\"hostname\":\"vm\",\"mtu\":1500,\"routes\":[{\"to\":\"0.0.0.0/0\",\"via\":"
                                        "\"10.0.2.1\"}]}";
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf reply = {0};
    struct dhcp_config c;
    const struct json *v;
    size_t n = size ? data[0] : 0;
    bool ok;

    if (size == 0 || n > size - 1)
        n = 0;
    ok = json_parse(n ? str_n((const char *)data + 1, n) : str_of(fallback), &a, &v, &err) && dhcp_config_parse(v, &a, &c, &err);
    assert(ok == (err.kind == ERROR_NONE));
    assert(ok || n > 0);
    if (!ok)
        return 0;
    buf_init(&reply, 1500);
    if (size > 0 && dhcp_reply(&c, str_n((const char *)data + 1 + n, size - 1 - n), &reply))
        assert(reply.n >= 300 && reply.n <= 1240 && !reply.overflow);
    else
        assert(reply.n == 0);
    return 0;
}
