#include "admission/webhook.h"
#include "base/cleanup.h"
#include "json/patch.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool other(void *data, struct str ns, struct str name)
{
    (void)data;
    return ns.n > name.n;
}

/* What is patched is what the rules made, and a mutation that is allowed leaves an object. */
static void check_answer(const struct webhook *w, const struct json *answer, bool allowed)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};
    const struct json *response = json_get(answer, "response"), *ops, *made;
    struct str patch = json_str_at(response, "patch");

    assert(str_eq(json_str_at(response, "uid"), w->uid) && json_bool(json_get(response, "allowed")) == allowed);
    assert(allowed == (json_get(response, "status") == NULL));
    assert(allowed || (json_i64_at(response, "status/code", 0) >= 400 && !patch.n));
    if (!patch.n)
        return;
    assert(w->path->mutates && str_is(json_str_at(response, "patchType"), "JSONPatch"));
    assert(buf_add_base64_decoded(&text, patch, &err) && json_parse(buf_str(&text), &a, &ops, &err));
    if (json_len(ops) <= 1000 && json_patch(&a, w->sent, ops, &made, &err))
        assert(json_is(made, JSON_OBJECT));
}

/* The first byte says at which path; the rest is the body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct admission_rules rules = {.config = kv_config_new(NULL), .other_kubevirt = other};
    const struct webhook_path *p = webhook_paths;
    struct webhook w;
    bool ok, allowed;

    for (unsigned i = n ? data[0] % 16 : 0; i > 0 && p[1].path; i--)
        p++;
    ok = webhook_read(p, str_n((const char *)data + (n ? 1 : 0), n ? n - 1 : 0), STR("kubevirt"), &a, &w, &err);
    assert(ok == (err.kind == ERROR_NONE));
    if (ok)
        check_answer(&w, p->subresource ? webhook_verdict(&w, &err, &allowed) : webhook_answer(&w, &rules, &allowed), allowed);
    kv_config_free(rules.config);
    return 0;
}
