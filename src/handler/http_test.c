/* Who may ask a node's agent for consoles. */
#include "base/base_test.h"

#include "handler/handler.h"

static void only_the_apis_certificate_is_trusted(void **state)
{
    static char good[] = HANDLER_CLIENT, api[] = "kubevirt.io:system:client:virt-api", longer[] = HANDLER_CLIENT "x",
                shorter[] = "kubevirt.io:system:client:virt-handle", empty[] = "", upper[] = "Kubevirt.io:system:client:virt-handler";
    static const struct {
        struct http_peer peer;
        bool trusted;
    } rows[] = {
        {{.tls = true, .cert_cn = good, .cert_until_unix_s = 101}, true},
        {{.tls = true, .cert_cn = good, .cert_until_unix_s = 100}, false}, /* it has ended meanwhile */
        {{.tls = true, .cert_cn = good}, false},
        {{.tls = false, .cert_cn = good, .cert_until_unix_s = 101}, false},
        {{.tls = true, .cert_cn = NULL, .cert_until_unix_s = 101}, false},
        {{.tls = true, .cert_cn = NULL, .cert_until_unix_s = 101, .cert_bad = true}, false},
        {{.tls = true, .cert_cn = api, .cert_until_unix_s = 101}, false},
        {{.tls = true, .cert_cn = longer, .cert_until_unix_s = 101}, false},
        {{.tls = true, .cert_cn = shorter, .cert_until_unix_s = 101}, false},
        {{.tls = true, .cert_cn = empty, .cert_until_unix_s = 101}, false},
        {{.tls = true, .cert_cn = upper, .cert_until_unix_s = 101}, false},
        {{.local = true, .uid = 0}, false}, /* root of the host has other ways */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (handler_trusts(&rows[i].peer, SECONDS(100)) != rows[i].trusted)
            fail_msg("row %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_the_apis_certificate_is_trusted)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
