#include "base/alloc.h"
#include "base/cleanup.h"
#include "http/h1_parse.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Success and error agree, and every view lies inside the text. */
static void parse(const uint8_t *p, size_t n, bool request)
{
    AUTO_FREE char *text = xmemdup(p, n);
    AUTO(error_clear) struct error err = {0};
    struct h1_head head;
    int status = 0;
    bool ok = request ? h1_parse_request(text, n, &head, &status, &err)
                      : h1_parse_response(text, n, &head, &err);

    assert(ok == (err.kind == ERROR_NONE));
    if (!ok) {
        assert(!request || status >= 400);
        return;
    }
    assert(!(head.chunked && head.has_length));
    for (size_t i = 0; i < head.n_headers; i++) {
        struct http_header h = head.headers[i];
        assert(h.name.n > 0 && h.name.p >= text && h.value.p + h.value.n <= text + n);
        assert(!str_has(h.value, '\r') && !str_has(h.value, '\n') && !str_has(h.value, '\0'));
    }
}

/* A body decodes the same, however it was cut. */
static bool decode(const uint8_t *p, size_t n, size_t step, struct buf *out, bool *ret_done)
{
    AUTO(error_clear) struct error err = {0};
    struct h1_body b;

    h1_body_init(&b, H1_BODY_CHUNKED, 0);
    for (size_t at = 0; at < n && !b.done; at += step) {
        struct str in = str_n((const char *)p + at, n - at < step ? n - at : step), data;
        while (in.n > 0 && !b.done) {
            if (!h1_body_feed(&b, &in, &data, &err))
                return false;
            buf_addstr(out, data);
        }
    }
    *ret_done = b.done;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    AUTO(buf_done) struct buf whole = {0}, bytes = {0};
    bool done_whole = false, done_bytes = false;
    size_t at = 0, again = 0;

    if (n == 0)
        return 0;
    enum h1_scan r = h1_scan_head(str_n((const char *)p, n), &at);
    h1_scan_head(str_n((const char *)p, n / 2), &again);
    if (r == H1_COMPLETE)
        assert(at <= n && at >= 4);
    parse(p, n, true);
    parse(p, n, false);
    bool a = decode(p, n, n, &whole, &done_whole), b = decode(p, n, 1, &bytes, &done_bytes);
    assert(a == b
           && (!a || (done_whole == done_bytes && str_eq(buf_str(&whole), buf_str(&bytes)))));
    return 0;
}
