#include "apiserver/hooks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What a webhook answers, read as an answer to a fixed question. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char uid[] = "00000000-0000-4000-8000-000000000000";
    struct request r = {0};
    struct hook h = {.mutating = true, .name = "fuzz.example.com"};
    struct hook_outcome o;
    const struct json *object = json_object(
        &r.arena, "metadata", json_object(&r.arena, "name", json_new_z(&r.arena, "a"), NULL), NULL);

    hook_answer(&r, &h, uid, str_n((const char *)data, n), object, &o);
    switch (o.verdict) {
    case HOOK_ALLOWED:
        if (o.message || o.status || (o.patched && !json_is(o.patched, JSON_OBJECT)))
            __builtin_trap();
        break;
    case HOOK_DENIED:
        if (!o.status || o.patched || json_i64_at(o.status, "code", 0) < 400)
            __builtin_trap();
        break;
    case HOOK_FAILED:
    case HOOK_BROKE:
    case HOOK_UNCLEAR:
        if (!o.message || o.patched)
            __builtin_trap();
        break;
    }
    arena_done(&r.arena);
    return 0;
}
