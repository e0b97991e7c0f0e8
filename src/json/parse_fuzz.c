#include "json/json.h"
#include "base/cleanup.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf once = {0};
    AUTO(buf_done) struct buf twice = {0};
    struct str text = str_n((const char *)data, size);
    const struct json *v = NULL, *borrowed = NULL, *again = NULL;
    struct json_dups dups = {0};
    bool ok = json_parse_strict(text, &a, &dups, &v, &err);

    assert(ok == (err.kind == ERROR_NONE));
    error_clear(&err);
    assert(json_parse_borrowed(text, &a, &borrowed, &err) == ok);
    if (!ok)
        return 0;
    assert(json_eq(v, borrowed));
    json_write(&once, v);
    assert(json_parse(buf_str(&once), &a, &again, &err));
    json_write(&twice, json_copy(&a, again));
    assert(str_eq(buf_str(&once), buf_str(&twice)));
    buf_clear(&twice);
    json_write_sorted(&twice, v);
    assert(json_parse(buf_str(&twice), &a, &again, &err));
    assert(dups.n > 0 || json_eq(v, again));
    buf_clear(&twice);
    json_write_pretty(&twice, v, 2);
    assert(json_parse(buf_str(&twice), &a, &again, &err) && json_eq(v, again));
    return 0;
}
