/* The structural form: every field's type is known without looking into allOf, anyOf, oneOf and not, so that pruning and
 * defaulting are decided by the outer schema alone. Two walks, as upstream makes them: one for what may stand where, one
 * for whether all that is asked of a value is a field with a type of its own. */
#include "api/crd_parts.h"

#include "api/regex.h"

enum level { LEVEL_ROOT, LEVEL_ITEM, LEVEL_FIELD };

bool crd_is(const struct json *s, const char *key, const char *text)
{
    return str_is(json_str(json_get(s, key)), text);
}
struct str crd_type(const struct json *s)
{
    return json_str(json_get(s, "type"));
}

static bool is_set(const struct json *s, const char *key)
{
    const struct json *v = json_get(s, key);

    return v && !json_is(v, JSON_NULL);
}

/* -- what may stand where ------------------------------------------------------------------------- */

static void nested(struct crd_check *c, const struct json *v, bool skip_any_of);

/* [{type: integer}, {type: string}], and nothing else in them */
static bool int_or_string(const struct json *any_of)
{
    const struct json *one = json_item(any_of, 0), *two = json_item(any_of, 1);

    return json_len(any_of) == 2 && json_len(one) == 1 && json_len(two) == 1
           && crd_is(one, "type", "integer") && crd_is(two, "type", "string");
}

static void check_pattern(struct crd_check *c, const struct json *s)
{
    const struct json *pattern = json_get(s, "pattern");
    AUTO(arena_done) struct arena scratch = {0};
    AUTO(error_clear) struct error err = {0};
    const struct regex *re;

    if (json_str(pattern).n && !regex_compile(&scratch, json_str(pattern), &re, &err))
        crd_invalid(c, ".pattern", pattern,
                    arena_printf(c->a, "must be a valid regular expression, but isn't: %s",
                                 error_text(&err)));
}

static void each_nested(struct crd_check *c, const struct json *list, const char *word,
                        bool skip_first_any_of)
{
    size_t i = 0;

    json_each_item(it, list) {
        size_t before = crd_enter(c, ".%s[%zu]", word, i);

        nested(c, it, skip_first_any_of && i == 0);
        crd_leave(c, before);
        i++;
    }
}

/* What a schema asks of values, at any place. */
static void value_rules(struct crd_check *c, const struct json *s, bool skip_any_of,
                        bool skip_first_any_of)
{
    if (!skip_any_of)
        each_nested(c, json_get(s, "anyOf"), "anyOf", false);
    each_nested(c, json_get(s, "allOf"), "allOf", skip_first_any_of);
    each_nested(c, json_get(s, "oneOf"), "oneOf", false);
    if (json_is(json_get(s, "not"), JSON_OBJECT)) {
        size_t before = crd_enter(c, ".not");

        nested(c, json_get(s, "not"), false);
        crd_leave(c, before);
    }
    check_pattern(c, s);
}

static void nested_children(struct crd_check *c, const struct json *v)
{
    const struct json *items = json_get(v, "items");
    size_t before;

    if (json_is(items, JSON_OBJECT)) {
        before = crd_enter(c, ".items");
        nested(c, items, false);
        crd_leave(c, before);
    }
    json_each_member(m, json_get(v, "properties")) {
        before = crd_enter(c, ".properties[" STR_FMT "]", STR_ARG(json_str(&m->key)));
        nested(c, &m->value, false);
        crd_leave(c, before);
    }
}

/* A schema within allOf, anyOf, oneOf or not may say what values have to be, and nothing about what they are. */
static void nested(struct crd_check *c, const struct json *v, bool skip_any_of)
{
    static const struct {
        const char *key, *why;
        enum { TEXT, YES, ANY, FULL } how;
    } forbidden[] = {
        {"type", "must be empty to be structural", TEXT},
        {"additionalProperties", "must be undefined to be structural", ANY},
        {"default", "must be undefined to be structural", ANY},
        {"title", "must be empty to be structural", TEXT},
        {"description", "must be empty to be structural", TEXT},
        {"nullable", "must be false to be structural", YES},
        {"x-kubernetes-preserve-unknown-fields", "must be false to be structural", YES},
        {"x-kubernetes-embedded-resource", "must be false to be structural", YES},
        {"x-kubernetes-int-or-string", "must be false to be structural", YES},
        {"x-kubernetes-list-map-keys", "must be empty to be structural", FULL},
        {"x-kubernetes-list-type", "must be undefined to be structural", ANY},
        {"x-kubernetes-map-type", "must be undefined to be structural", ANY},
        {"x-kubernetes-validations", "must be empty to be structural", FULL},
    };

    value_rules(c, v, skip_any_of, false);
    nested_children(c, v);
    for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
        const struct json *there = json_get(v, forbidden[i].key);
        bool is = forbidden[i].how == TEXT  ? json_str(there).n > 0
                  : forbidden[i].how == YES ? json_bool(there)
                  : forbidden[i].how == FULL
                      ? json_len(there) > 0
                      : is_set(v, forbidden[i].key) && !json_is(there, JSON_FALSE);

        if (is)
            crd_forbidden(c, arena_printf(c->a, ".%s", forbidden[i].key), forbidden[i].why);
    }
    if (json_get(json_get(v, "properties"), "metadata"))
        crd_forbidden(c, ".properties[metadata]", "must not be specified in a nested context");
}

static void check_extensions(struct crd_check *c, const struct json *s)
{
    if (!json_bool(json_get(s, "x-kubernetes-int-or-string")))
        return;
    if (json_bool(json_get(s, "x-kubernetes-preserve-unknown-fields")))
        crd_invalid(c, ".x-kubernetes-preserve-unknown-fields", json_new_bool(true),
                    "must be false if x-kubernetes-int-or-string is true");
    if (json_bool(json_get(s, "x-kubernetes-embedded-resource")))
        crd_invalid(c, ".x-kubernetes-embedded-resource", json_new_bool(true),
                    "must be false if x-kubernetes-int-or-string is true");
}

static void check_type(struct crd_check *c, const struct json *s, enum level level)
{
    static const char *const missing[] = {
        [LEVEL_ROOT] = "must not be empty at the root",
        [LEVEL_ITEM] = "must not be empty for specified array items",
        [LEVEL_FIELD] = "must not be empty for specified object fields",
    };
    bool embedded = json_bool(json_get(s, "x-kubernetes-embedded-resource"));
    struct str type = crd_type(s);

    if (embedded && !str_is(type, "object")) {
        const char *why = "must be object if x-kubernetes-embedded-resource is true";

        if (type.n)
            crd_invalid(c, ".type", json_get(s, "type"), why);
        else
            crd_required(c, ".type", why);
    } else if (!type.n && !json_bool(json_get(s, "x-kubernetes-int-or-string"))
               && !json_bool(json_get(s, "x-kubernetes-preserve-unknown-fields"))) {
        crd_required(c, ".type", missing[level]);
    }
    if (embedded && is_set(s, "additionalProperties"))
        crd_forbidden(c, ".additionalProperties",
                      "must not be used if x-kubernetes-embedded-resource is set");
    if (level == LEVEL_ROOT && type.n && !str_is(type, "object"))
        crd_invalid(c, ".type", json_get(s, "type"), "must be object at the root");
}

/* metadata of the root: its type and what names have to look like, nothing else. */
static bool names_only(const struct json *metadata)
{
    static const char *const borne[] = {"type", "properties", "default"};

    json_each_member(m, metadata) {
        bool ok = json_is(&m->value, JSON_NULL) || json_is(&m->value, JSON_FALSE)
                  || (json_is(&m->value, JSON_STRING) && m->value.n == 0);

        for (size_t i = 0; i < ARRAY_SIZE(borne); i++)
            ok |= str_is(json_str(&m->key), borne[i]);
        if (!ok)
            return false;
    }
    json_each_member(m, json_get(metadata, "properties")) {
        if (!str_is(json_str(&m->key), "name") && !str_is(json_str(&m->key), "generateName"))
            return false;
    }
    return true;
}

static void check_meta_fields(struct crd_check *c, const struct json *s, enum level level)
{
    static const char *const texts[] = {"kind", "apiVersion"};
    bool embedded = json_bool(json_get(s, "x-kubernetes-embedded-resource")),
         checked = level == LEVEL_ROOT || embedded;
    const struct json *properties = json_get(s, "properties"),
                      *metadata = json_get(properties, "metadata");

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        const struct json *f = json_get(properties, texts[i]);

        if (f && checked && !str_is(crd_type(f), "string"))
            crd_invalid(c, arena_printf(c->a, ".properties[%s].type", texts[i]),
                        json_new_str(c->a, crd_type(f)), "must be string");
    }
    if (metadata && checked && !str_is(crd_type(metadata), "object"))
        crd_invalid(c, ".properties[metadata].type", json_new_str(c->a, crd_type(metadata)),
                    "must be object");
    if (metadata && level == LEVEL_ROOT && !names_only(metadata))
        crd_forbidden(c, ".properties[metadata]",
                      "must not specify anything other than name and generateName, but metadata is "
                      "implicitly specified");
    if (embedded && !json_bool(json_get(s, "x-kubernetes-preserve-unknown-fields"))
        && !json_len(properties))
        crd_required(c, ".properties",
                     "must not be empty if x-kubernetes-embedded-resource is true without "
                     "x-kubernetes-preserve-unknown-fields");
}

static void invariants(struct crd_check *c, const struct json *s, enum level level)
{
    const struct json *items = json_get(s, "items"), *more = json_get(s, "additionalProperties");
    size_t before;

    if (++c->nodes > CRD_NODES_MAX || c->too_large) {
        c->too_large = true;
        return;
    }
    if (str_is(crd_type(s), "array") && !json_is(items, JSON_OBJECT))
        crd_required(c, ".items", "must be specified");
    if (json_is(items, JSON_OBJECT)) {
        before = crd_enter(c, ".items");
        invariants(c, items, LEVEL_ITEM);
        crd_leave(c, before);
    }
    json_each_member(m, json_get(s, "properties")) {
        before = crd_enter(c, ".properties[" STR_FMT "]", STR_ARG(json_str(&m->key)));
        invariants(c, &m->value, LEVEL_FIELD);
        crd_leave(c, before);
    }
    if (is_set(s, "additionalProperties") && level == LEVEL_ROOT)
        crd_forbidden(c, ".additionalProperties", "must not be used at the root");
    if (json_is(more, JSON_OBJECT)) {
        before = crd_enter(c, ".additionalProperties");
        invariants(c, more, LEVEL_FIELD);
        crd_leave(c, before);
    }
    check_extensions(c, s);
    value_rules(c, s, int_or_string(json_get(s, "anyOf")),
                int_or_string(json_get(json_item(json_get(s, "allOf"), 0), "anyOf")));
    check_type(c, s, level);
    check_meta_fields(c, s, level);
}

/* -- completeness --------------------------------------------------------------------------------- */

/* `v` asks something of the value that `s` is the structural schema of. The path is that of `s`; that of `v` is
 * `where`. */
static void complete(struct crd_check *c, const struct json *v, const struct json *s,
                     struct buf *where, bool outer);

static size_t where_enter(struct buf *where, const char *word, struct str key)
{
    size_t before = where->n;

    if (key.p)
        buf_addf(where, ".%s[" STR_FMT "]", word, STR_ARG(key));
    else
        buf_addf(where, ".%s", word);
    return before;
}

static void where_leave(struct buf *where, size_t before)
{
    where->n = before;
    if (where->p)
        where->p[before] = '\0';
}

static void because(struct crd_check *c, const struct buf *where)
{
    crd_required(c, "",
                 arena_printf(c->a, "because it is defined in " STR_FMT, STR_ARG(buf_str(where))));
}

static void complete_field(struct crd_check *c, const struct json_member *m, const struct json *s,
                           struct buf *where)
{
    struct str key = json_str(&m->key);
    const struct json *field = json_get_str(json_get(s, "properties"), key);
    size_t before = crd_enter(c, ".properties[" STR_FMT "]", STR_ARG(key)),
           at = where_enter(where, "properties", key);

    if (field)
        complete(c, &m->value, field, where, false);
    else
        because(c, where);
    where_leave(where, at);
    crd_leave(c, before);
}

static void complete_lists(struct crd_check *c, const struct json *v, const struct json *s,
                           struct buf *where)
{
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    size_t at;

    if (json_is(json_get(v, "not"), JSON_OBJECT)) {
        at = where_enter(where, "not", STR_NONE);
        complete(c, json_get(v, "not"), s, where, false);
        where_leave(where, at);
    }
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        size_t n = 0;

        json_each_item(it, json_get(v, lists[i])) {
            at = where->n;
            buf_addf(where, ".%s[%zu]", lists[i], n++);
            complete(c, it, s, where, false);
            where_leave(where, at);
        }
    }
}

static void complete(struct crd_check *c, const struct json *v, const struct json *s,
                     struct buf *where, bool outer)
{
    const struct json *items = json_get(v, "items"), *own = json_get(s, "items");

    if (++c->nodes > CRD_NODES_MAX) {
        c->too_large = true;
        return;
    }
    complete_lists(c, v, s, where);
    if (outer)
        return;
    if (json_is(items, JSON_OBJECT)) {
        size_t before = crd_enter(c, ".items"), at = where_enter(where, "items", STR_NONE);

        if (json_is(own, JSON_OBJECT))
            complete(c, items, own, where, false);
        else
            because(c, where);
        where_leave(where, at);
        crd_leave(c, before);
    }
    json_each_member(m, json_get(v, "properties")) {
        complete_field(c, m, s, where);
    }
}

static int by_text(const void *x, const void *y)
{
    const struct schema_cause *a = x, *b = y;
    int order = strcmp(a->field, b->field);

    return order ? order : strcmp(a->message, b->message);
}

bool crd_structural(struct crd_check *c, const struct json *schema)
{
    AUTO(buf_done) struct buf where = {.limit = 64 << 10};
    size_t before = c->causes->n;

    invariants(c, schema, LEVEL_ROOT);
    buf_addstr(&where, buf_str(&c->path));
    complete(c, schema, schema, &where, true);
    if (c->causes->n > before)
        qsort(c->causes->p + before, c->causes->n - before, sizeof *c->causes->p, by_text);
    return c->causes->n == before && !c->too_large;
}
