/* What a cloud-hypervisor that has been taken over writes into its event monitor. */
#include "base/cleanup.h"
#include "vmm/cloud_hypervisor/ch.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(buf_done) struct buf words = {0};
    size_t found = 0;

    if (size > 65536)
        return 0;
    for (size_t at = 0; at < size; at += 7) { /* in pieces, as a pipe gives them */
        struct str one;

        buf_add(&b, data + at, size - at < 7 ? size - at : 7);
        while (ch_events_next(&b, &one)) {
            AUTO(arena_done) struct arena a = {0};
            AUTO(error_clear) struct error err = {0};
            const struct json *v = NULL;
            bool ok = json_parse(one, &a, &v, &err);

            assert(ok == (err.kind == ERROR_NONE) && one.n >= 2 && one.p[0] == '{' && one.p[one.n - 1] == '}');
            found += one.n;
            buf_consume(&b, (size_t)(one.p + one.n - b.p));
        }
        assert(b.n <= (16u << 10) + 7);
    }
    assert(found <= size);
    ch_last_words(str_n((const char *)data, size), &words);
    assert(words.n <= size + 2);
    return 0;
}
