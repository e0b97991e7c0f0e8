#include "json/yaml.h"
#include "base/cleanup.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* YAML reads as numbers only what fits a float64, and JSON may repeat keys. */
static bool writable(const struct json *v)
{
    double d;

    if (json_is(v, JSON_NUMBER))
        return v->n < 400 && json_double(v, &d);
    json_each_item (it, v)
        if (!writable(it))
            return false;
    json_each_member (m, v)
        if (!writable(&m->value) || json_get_str(v, json_str(&m->key)) != &m->value)
            return false;
    return true;
}

/* What is written reads back, whether it came from YAML or from JSON. */
static void round_trip(const struct json *v, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *again = NULL;

    if (json_is(v, JSON_NULL) || !writable(v))
        return;
    yaml_write(&b, v);
    assert(yaml_parse_one(buf_str(&b), a, &again, &err));
    assert(json_eq(v, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(error_clear) struct error ignored = {0};
    struct str text = str_n((const char *)data, size);
    struct yaml_docs docs = {0};
    const struct json *v;
    bool ok = yaml_parse(text, &a, &docs, &err);

    assert(ok == (err.kind == ERROR_NONE));
    for (size_t i = 0; i < docs.n; i++)
        round_trip(docs.p[i], &a);
    if (json_parse(text, &a, &v, &ignored))
        round_trip(v, &a);
    v = json_new_str(&a, text);
    if (str_valid_utf8(text))
        round_trip(json_object(&a, "s", v, "l", json_array(&a, v, json_array(&a, v, NULL), NULL), "m",
                               json_with_str(&a, NULL, text, v), NULL), &a);
    return 0;
}
