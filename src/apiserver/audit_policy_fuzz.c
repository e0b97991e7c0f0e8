#include "apiserver/audit_policy.h"
#include "base/cleanup.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *groups[] = {"g", NULL};
    const struct identity who = {.user = "u", .groups = groups};
    const struct access want = {.verb = STR("get"),
                                .group = STR(""),
                                .resource = STR("pods"),
                                .subresource = STR("log"),
                                .ns = STR("d"),
                                .name = STR("a")};
    struct audit_policy *p = NULL;
    AUTO(error_clear) struct error err = {0};

    if (size > 65536)
        return 0;
    if (audit_policy_parse(str_n((const char *)data, size), &p, &err)) {
        assert(err.kind == ERROR_NONE && p);
        assert(audit_policy_decide(p, &who, &want).level <= AUDIT_REQUEST_RESPONSE);
        audit_policy_free(p);
    } else {
        assert(err.kind != ERROR_NONE && !p);
    }
    return 0;
}
