#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "ctl/kubeconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Two files, cut at the first NUL. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0}, server_err = {0};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};
    struct kubeconfig_source s[2] = {{.dir = "/a", .name = "a"}, {.dir = "/b", .name = "b"}};
    const struct kubeconfig_flags flags = {0};
    struct kubeconfig_choice c;
    bool ok;

    str_cut(str_n((const char *)data, n), '\0', &s[0].text, &s[1].text);
    ok = kubeconfig_choose(s, 2, &flags, &a, &c, &err);
    assert(ok == (err.kind == ERROR_NONE));
    if (ok && json_str_at(c.cluster, "server").p) {
        ok = kubeconfig_server(json_str_at(c.cluster, "server"), &k, &server_err);
        assert(ok == (server_err.kind == ERROR_NONE));
        assert(!ok || (k.host && k.host[0] && k.port > 0 && k.port < 65536));
    }
    return 0;
}
