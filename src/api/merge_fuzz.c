/* Strategic merge patches, server-side apply and managedFields, on kinds with lists of every sort. Three lines: the live
 * object, the patch, and what is applied afterwards. */
#include "api/managed.h"
#include "api/strategic.h"
#include "api/types.h"
#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct json *merged(const struct schema_type *t, const struct json *live,
                                 const struct json *patch, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *ret = NULL;
    bool ok = strategic_merge(a, t, live, patch, &ret, &err);

    assert(ok == (err.kind == ERROR_NONE) && ok == (ret != NULL));
    return ok ? ret : live;
}

static const struct json *applied(const struct schema_type *t, const struct json *live,
                                  const struct json *object, bool force, struct arena *a)
{
    const struct managed_request r = {
        .manager = "b", .api_version = "v1", .now = "2024-01-01T00:00:00Z", .force = force};
    AUTO(error_clear) struct error err = {0};
    struct schema_causes conflicts = {0};
    const struct json *ret = NULL;
    bool ok = managed_apply(a, t, live, object, &r, &ret, &conflicts, &err);

    assert(ok == (err.kind == ERROR_NONE));
    assert(ok || err.kind == ERROR_CONFLICT || err.kind == ERROR_BAD_REQUEST);
    assert(!force || ok || err.kind == ERROR_BAD_REQUEST);
    return ok ? ret : live;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct schema_type *const types[] = {
        &schema_type_core_pod, &schema_type_core_config_map, &schema_type_core_service_account};
    const struct managed_request r = {
        .manager = "a", .api_version = "v1", .now = "2024-01-01T00:00:00Z"};
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *live, *patch, *object, *next;
    struct str rest = str_n((const char *)data, size), line, second, third;
    const struct schema_type *t;

    if (size < 2 || size > 65536)
        return 0;
    t = types[data[0] % ARRAY_SIZE(types)];
    str_cut(str_skip(rest, 1), '\n', &line, &rest);
    str_cut(rest, '\n', &second, &third);
    if (!json_parse(line, &a, &live, &err) || !json_parse(second, &a, &patch, &err)
        || !json_parse(third, &a, &object, &err))
        return 0;
    if (!json_is(live, JSON_OBJECT) || !json_is(patch, JSON_OBJECT)
        || !json_is(object, JSON_OBJECT))
        return 0;
    next = managed_update(&a, t, live, merged(t, live, patch, &a), &r);
    next = applied(t, next, object, data[0] & 8, &a);
    /* The same once more changes nothing. */
    if (data[0] & 8 && next != live)
        assert(json_eq(json_at(applied(t, next, object, true, &a), "data"), json_at(next, "data")));
    return 0;
}
