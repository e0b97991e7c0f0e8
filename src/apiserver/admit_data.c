/* apiserver/admit_data - ConfigMaps and Secrets: keys, sizes, what a Secret of each type has to hold. */
#include "api/meta.h"
#include "apiserver/admit.h"

#define DATA_MAX (1u << 20)

const struct json *secret_data(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    const struct json *plain = json_get(o, "stringData"), *data = json_get(o, "data");

    if (!plain)
        return o;
    json_each_member(m, plain) {
        AUTO(buf_done) struct buf b = {0};
        struct str text = json_str(&m->value);

        buf_add_base64(&b, text.p ? text.p : "", text.n);
        data = json_with_str(a, data ? data : json_object(a, NULL), json_str(&m->key),
                             json_new_str(a, b.n ? buf_str(&b) : STR("")));
    }
    return json_with(a, json_with(a, o, "stringData", NULL), "data", data);
}

static void check_texts(struct request *r, const struct json *old, const struct json *o,
                        struct schema_causes *c)
{
    static const char *const maps[] = {"data", "binaryData"};
    struct arena *a = &r->arena;
    bool secret = kind_is(r->kind->info, "", "secrets");
    size_t total = 0;

    for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
        json_each_member(m, json_get(o, maps[i])) {
            struct str key = json_str(&m->key);
            bool ok = key.n > 0 && key.n <= 253 && !str_is(key, ".") && !str_is(key, "..");

            for (size_t j = 0; j < key.n; j++)
                ok &= (key.p[j] >= 'a' && key.p[j] <= 'z') || (key.p[j] >= 'A' && key.p[j] <= 'Z')
                      || (key.p[j] >= '0' && key.p[j] <= '9') || key.p[j] == '-' || key.p[j] == '_'
                      || key.p[j] == '.';
            if (!ok)
                schema_cause_add(c, a, "FieldValueInvalid",
                                 arena_printf(a, "%s[" STR_FMT "]", maps[i], STR_ARG(key)),
                                 "Invalid value: \"" STR_FMT
                                 "\": a valid config key must consist of alphanumeric characters, "
                                 "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
                                 "'key-name', regex used for validation "
                                 "is '[-._a-zA-Z0-9]+')",
                                 STR_ARG(key));
            total += secret || i == 1 ? m->value.n / 4 * 3 : m->value.n;
        }
    if (total > DATA_MAX)
        schema_cause_add(c, a, "FieldValueTooLong", secret ? "data" : "[]",
                         "Too long: may not be more than 1048576 bytes");
    if (old && json_bool_at(old, "immutable", false)) {
        for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
            if (!json_eq(json_get(old, maps[i]), json_get(o, maps[i])))
                schema_cause_add(c, a, "FieldValueForbidden", maps[i],
                                 "Forbidden: field is immutable when `immutable` is set");
        if (!json_bool_at(o, "immutable", false))
            schema_cause_add(c, a, "FieldValueForbidden", "immutable",
                             "Forbidden: field is immutable when `immutable` is set");
    }
    if (secret && old && !str_eq(json_str_at(old, "type"), json_str_at(o, "type")))
        schema_cause_add(c, a, "FieldValueInvalid", "type",
                         "Invalid value: \"" STR_FMT "\": field is immutable",
                         STR_ARG(json_str_at(o, "type")));
}

/* What a secret of each type has to hold. */
static const struct {
    const char *type, *keys[2];
    bool any; /* one of them is enough */
} secret_types[] = {
    {"kubernetes.io/tls", {"tls.crt", "tls.key"}, false},
    {"kubernetes.io/dockercfg", {".dockercfg"}, false},
    {"kubernetes.io/dockerconfigjson", {".dockerconfigjson"}, false},
    {"kubernetes.io/basic-auth", {"username", "password"}, true},
    {"kubernetes.io/ssh-auth", {"ssh-privatekey"}, false},
};

static void check_docker(struct request *r, const struct json *data, const char *key,
                         struct schema_causes *c)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v, *encoded = json_get(data, key);

    if (!encoded
        || (buf_add_base64_decoded(&text, json_str(encoded), &err)
            && json_parse(buf_str(&text), &r->arena, &v, &err)))
        return;
    schema_cause_add(c, &r->arena, "FieldValueInvalid", arena_printf(&r->arena, "data[%s]", key),
                     "Invalid value: \"<secret contents redacted>\": %s", error_text(&err));
}

static void check_secret_type(struct request *r, const struct json *o, struct schema_causes *c)
{
    struct str type = json_str_at(o, "type");
    const struct json *data = json_get(o, "data");
    struct arena *a = &r->arena;

    if (str_is(type, "kubernetes.io/service-account-token")
        && str_empty(meta_annotation(o, "kubernetes.io/service-account.name")))
        cause_required(r, c, "metadata.annotations[kubernetes.io/service-account.name]", "");
    for (size_t i = 0; i < ARRAY_SIZE(secret_types); i++) {
        bool found = false;

        if (!str_is(type, secret_types[i].type))
            continue;
        for (size_t j = 0; j < 2 && secret_types[i].keys[j]; j++)
            found |= json_get(data, secret_types[i].keys[j]) != NULL;
        for (size_t j = 0; j < 2 && secret_types[i].keys[j]; j++) {
            const char *key = secret_types[i].keys[j];

            if (secret_types[i].any ? !found : !json_get(data, key))
                cause_required(r, c, arena_printf(a, "data[%s]", key), "");
        }
        if (strstr(secret_types[i].type, "docker"))
            check_docker(r, data, secret_types[i].keys[0], c);
    }
}

void check_data(struct request *r, const struct json *old, const struct json *o,
                struct schema_causes *c)
{
    check_texts(r, old, o, c);
    if (kind_is(r->kind->info, "", "secrets"))
        check_secret_type(r, o, c);
}
