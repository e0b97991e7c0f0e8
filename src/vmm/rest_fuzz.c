/* What a VMM that has been taken over answers: whole or byte by byte, it is understood the same way, or refused. */
#include "base/cleanup.h"
#include "vmm/rest.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(rest_parse_done) struct rest_parse whole;
    AUTO(rest_parse_done) struct rest_parse pieces;
    AUTO(error_clear) struct error err = {0};
    AUTO(error_clear) struct error same = {0};
    bool ok, again = true;

    if (size > 65536)
        return 0;
    rest_parse_init(&whole);
    rest_parse_init(&pieces);
    ok = rest_parse_feed(&whole, str_n((const char *)data, size), &err);
    assert(ok == (err.kind == ERROR_NONE));
    for (size_t i = 0; i < size && again; i++)
        again = rest_parse_feed(&pieces, str_n((const char *)data + i, 1), &same);
    assert(ok == again && err.kind == same.kind);
    if (ok) {
        assert(whole.done == pieces.done && whole.status == pieces.status);
        assert(str_eq(buf_str(&whole.body), buf_str(&pieces.body)));
        assert(whole.body.n <= LIMIT_REST_BODY && (!whole.done || whole.status >= 200));
    }
    return 0;
}
