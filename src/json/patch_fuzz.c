#include "json/patch.h"
#include "base/cleanup.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A merge patch cannot say null. */
static bool has_null(const struct json *v)
{
    bool found = json_is(v, JSON_NULL);

    json_each_member (m, v)
        found = found || has_null(&m->value) || json_get_str(v, json_str(&m->key)) != &m->value;
    return found;
}

/* Names of members with a NUL are cut where a path is made of them, and repeated ones are what they are. Nothing that is stored has
 * either. */
static bool has_nul(const struct json *v)
{
    bool found = false;

    json_each_member (m, v)
        found = found || memchr(json_str(&m->key).p, 0, json_str(&m->key).n) || has_nul(&m->value) || json_get_str(v, json_str(&m->key)) != &m->value;
    json_each_item (it, v)
        found = found || has_nul(it);
    return found;
}

/* Two lines: the target and the patch. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(error_clear) struct error failed = {0};
    AUTO(buf_done) struct buf b = {0};
    const struct json *target, *patch, *merged, *patched = NULL, *again;
    struct str first, second;
    bool ok;

    str_cut(str_n((const char *)data, size), '\n', &first, &second);
    if (!json_parse(first, &a, &target, &err) || !json_parse(second, &a, &patch, &err))
        return 0;
    merged = json_merge_patch(&a, target, patch);
    json_write(&b, merged);
    assert(json_parse(buf_str(&b), &a, &again, &err));
    if (json_is(target, JSON_OBJECT) && json_is(patch, JSON_OBJECT) && !has_null(target) && !has_null(patch))
        assert(json_eq(json_merge_patch(&a, target, json_merge_diff(&a, target, patch)), patch));
    if (json_len(json_patch_diff(&a, target, patch)) <= 100 && !has_nul(target) && !has_nul(patch)) {
        if (json_patch(&a, target, json_patch_diff(&a, target, patch), &patched, &failed))
            assert(json_eq(patched, patch));
        else
            assert(failed.kind == ERROR_TOO_LARGE);
        error_clear(&failed);
        patched = NULL;
    }
    ok = json_patch(&a, target, patch, &patched, &failed);
    assert(ok == (failed.kind == ERROR_NONE));
    if (ok) { /* the result is within the parser's bounds */
        buf_clear(&b);
        json_write(&b, patched);
        assert(json_parse(buf_str(&b), &a, &again, &err) && json_eq(patched, again));
    }
    return 0;
}
