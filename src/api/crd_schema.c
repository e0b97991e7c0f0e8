/* From a schema as it is written to tables: the same structures that schema/ makes for the built-in kinds. */
#include "api/crd_parts.h"

#include "api/formats.h"
#include "api/rules.h"
#include "api/types.h"

static struct schema_type *build(struct crd_check *c, const struct json *s, bool branch);

static const char *text_of(struct crd_check *c, const struct json *v)
{
    return json_is(v, JSON_STRING) && v->n ? arena_strdup(c->a, json_str(v)) : NULL;
}

static const char *const *texts_of(struct crd_check *c, const struct json *list)
{
    const char **p = ARENA_ARRAY(c->a, const char *, json_len(list) + 1);
    size_t n = 0;

    json_each_item(it, list) {
        if (json_is(it, JSON_STRING))
            p[n++] = arena_strdup(c->a, json_str(it));
    }
    return n ? p : NULL;
}

static bool count(const struct json *s, const char *key, int64_t *ret)
{
    return json_i64(json_get(s, key), ret) && *ret >= 0;
}

static const struct schema_type *const *branches(struct crd_check *c, const struct json *list,
                                                 const char *word)
{
    const struct schema_type **p =
        ARENA_ARRAY(c->a, const struct schema_type *, json_len(list) + 1);
    size_t n = 0;

    json_each_item(it, list) {
        size_t before = crd_enter(c, ".%s[%zu]", word, n);

        p[n++] = build(c, it, true);
        crd_leave(c, before);
    }
    return n ? p : NULL;
}

static void build_pattern(struct crd_check *c, const struct json *s, struct schema_rules *r)
{
    AUTO(error_clear) struct error err = {0};

    r->pattern = text_of(c, json_get(s, "pattern"));
    if (!r->pattern || c->too_large)
        return;
    if (!regex_compile(c->a, str_of(r->pattern), &r->regex, &err))
        r->regex = NULL; /* crd_structural() has told it */
    else if ((c->program += regex_size(r->regex)) > CRD_PROGRAM_MAX)
        c->too_large = true;
}

/* What a list is besides atomic; "" and false where it is none. */
static void build_list_rules(struct crd_check *c, const struct json *s, struct schema_rules *r)
{
    struct str list = json_str(json_get(s, "x-kubernetes-list-type"));

    r->list = str_is(list, "set")   ? SCHEMA_LIST_SET
              : str_is(list, "map") ? SCHEMA_LIST_MAP
                                    : SCHEMA_LIST_ATOMIC;
    r->list_keys =
        r->list == SCHEMA_LIST_MAP ? texts_of(c, json_get(s, "x-kubernetes-list-map-keys")) : NULL;
}

static const struct schema_rules *build_rules(struct crd_check *c, const struct json *s)
{
    struct schema_rules r = {0}, *ret;
    static const struct schema_rules none;

    r.has_minimum = json_double(json_get(s, "minimum"), &r.minimum);
    r.has_maximum = json_double(json_get(s, "maximum"), &r.maximum);
    r.has_multiple_of = json_double(json_get(s, "multipleOf"), &r.multiple_of);
    r.exclusive_minimum = json_bool(json_get(s, "exclusiveMinimum"));
    r.exclusive_maximum = json_bool(json_get(s, "exclusiveMaximum"));
    r.has_min_length = count(s, "minLength", &r.min_length);
    r.has_max_length = count(s, "maxLength", &r.max_length);
    r.has_min_items = count(s, "minItems", &r.min_items);
    r.has_max_items = count(s, "maxItems", &r.max_items);
    r.has_min_properties = count(s, "minProperties", &r.min_properties);
    r.has_max_properties = count(s, "maxProperties", &r.max_properties);
    build_pattern(c, s, &r);
    build_list_rules(c, s, &r);
    r.format = text_of(c, json_get(s, "format"));
    r.enums = json_len(json_get(s, "enum")) ? json_get(s, "enum") : NULL;
    r.all_of_text = json_get(s, "allOf");
    r.any_of_text = json_get(s, "anyOf");
    r.one_of_text = json_get(s, "oneOf");
    r.not_text = json_get(s, "not");
    r.cel = json_len(json_get(s, "x-kubernetes-validations"))
                ? json_get(s, "x-kubernetes-validations")
                : NULL;
    r.all_of = branches(c, r.all_of_text, "allOf");
    r.any_of = branches(c, r.any_of_text, "anyOf");
    r.one_of = branches(c, r.one_of_text, "oneOf");
    if (json_is(r.not_text, JSON_OBJECT)) {
        size_t before = crd_enter(c, ".not");

        r.not_ = build(c, r.not_text, true);
        crd_leave(c, before);
    }
    if (memcmp(&r, &none, sizeof r) == 0)
        return NULL;
    ret = ARENA_NEW(c->a, struct schema_rules);
    *ret = r;
    return ret;
}

/* The rules of a type that is still being built, to write into. */
static struct schema_rules *own_rules(struct crd_check *c, struct schema_type *t)
{
    struct schema_rules *r = ARENA_NEW(c->a, struct schema_rules);

    if (t->rules)
        *r = *t->rules;
    t->rules = r;
    return r;
}

/* -- defaults ------------------------------------------------------------------------------------- */

/* A default has to be an object that could come in: nothing unknown in it, and valid. */
static void check_default(struct crd_check *c, const struct schema_type *t,
                          const struct json *deflt)
{
    struct schema_causes causes = {0};
    struct json_dups unknown = {0};
    size_t before = crd_enter(c, ".default");

    (void)schema_prune(t, deflt, c->a, &unknown);
    if (unknown.n)
        crd_invalid(c, "", deflt, "must not have unknown fields");
    schema_validate_part(t, deflt, c->a, &causes);
    for (size_t i = 0; i < causes.n; i++) {
        bool below = *causes.p[i].field && strcmp(causes.p[i].field, "<nil>") != 0;

        schema_cause_add(c->causes, c->a, causes.p[i].reason,
                         arena_printf(c->a, STR_FMT "%s%s", STR_ARG(buf_str(&c->path)),
                                      below && causes.p[i].field[0] != '[' ? "." : "",
                                      below ? causes.p[i].field : ""),
                         "%s", causes.p[i].message);
    }
    crd_leave(c, before);
}

static const char *default_of(struct crd_check *c, const struct schema_type *t,
                              const struct json *s)
{
    const struct json *deflt = json_get(s, "default");
    AUTO_FREE char *text = deflt && !json_is(deflt, JSON_NULL) ? json_text(deflt) : NULL;

    if (!text)
        return NULL;
    if (c->causes)
        check_default(c, t, deflt);
    return arena_strdup(c->a, str_of(text));
}

/* -- objects, maps, lists ------------------------------------------------------------------------- */

static int by_name(const void *x, const void *y)
{
    const struct schema_field *a = x, *b = y;

    return strcmp(a->name, b->name);
}

static void build_field(struct crd_check *c, struct schema_field *f, const struct json *s,
                        bool branch)
{
    f->type = build(c, s, branch);
    f->description = text_of(c, json_get(s, "description"));
    f->offset = UINT32_MAX;
    f->flags |= f->type->flags & (SCHEMA_NULLABLE | SCHEMA_GRANULAR_ATOMIC);
    if (f->type->kind == SCHEMA_LIST && f->type->rules) {
        f->list = f->type->rules->list;
        f->list_keys = f->type->rules->list_keys;
    }
    if (!branch)
        f->default_json = default_of(c, f->type, s);
}

/* apiVersion, kind and metadata of a whole object are what they are everywhere, whatever the schema says of them. */
static void add_field(struct schema_field *fields, size_t *n, const char *name,
                      const struct schema_type *t)
{
    size_t at = 0;

    while (at < *n && strcmp(fields[at].name, name) != 0)
        at++;
    *n += at == *n;
    fields[at] = (struct schema_field){.name = name, .type = t, .offset = UINT32_MAX};
}

static int by_text(const void *x, const void *y)
{
    const char *const *a = x, *const *b = y;

    return strcmp(*a, *b);
}

/* Names that must be there: marked on the fields, or kept beside them where no field has the name. */
static void build_required(struct crd_check *c, struct schema_type *t, struct schema_field *fields,
                           const struct json *must)
{
    const char **extra = ARENA_ARRAY(c->a, const char *, json_len(must) + 1);
    size_t n = 0;

    json_each_item(it, must) {
        const struct schema_field *f =
            json_is(it, JSON_STRING) ? schema_field(t, json_str(it)) : NULL;

        if (f)
            fields[f - t->fields].flags |= SCHEMA_REQUIRED;
        else if (json_is(it, JSON_STRING))
            extra[n++] = arena_strdup(c->a, json_str(it));
    }
    if (n) {
        qsort(extra, n, sizeof *extra, by_text);
        own_rules(c, t)->required = extra;
    }
}

static void build_object(struct crd_check *c, struct schema_type *t, const struct json *s,
                         bool branch, bool whole)
{
    static const struct schema_type text = {.kind = SCHEMA_STRING};
    const struct json *properties = json_get(s, "properties");
    struct schema_field *f = ARENA_ARRAY(c->a, struct schema_field, json_len(properties) + 3);
    size_t n = 0;

    json_each_member(m, properties) {
        size_t before = crd_enter(c, ".properties[" STR_FMT "]", STR_ARG(json_str(&m->key)));

        f[n].name = arena_strdup(c->a, json_str(&m->key));
        build_field(c, &f[n], &m->value, branch);
        if (whole && !strcmp(f[n].name, "metadata") && f[n].type->n_fields)
            own_rules(c, t)->metadata = f[n].type;
        crd_leave(c, before);
        n++;
    }
    if (whole) {
        add_field(f, &n, "apiVersion", &text);
        add_field(f, &n, "kind", &text);
        add_field(f, &n, "metadata", &schema_type_meta_object_meta);
    }
    if (n)
        qsort(f, n, sizeof *f, by_name);
    t->fields = f;
    t->n_fields = n;
    build_required(c, t, f, json_get(s, "required"));
}

static void build_map(struct crd_check *c, struct schema_type *t, const struct json *s, bool branch)
{
    /* additionalProperties: true keeps scalars; objects in it lose all fields, as upstream prunes them. */
    static const struct schema_type scalars = {.kind = SCHEMA_ANY,
                                               .flags = SCHEMA_FROM_CRD | SCHEMA_NULLABLE};
    const struct json *more = json_get(s, "additionalProperties");

    t->kind = SCHEMA_MAP;
    t->item = &scalars;
    if (json_is(more, JSON_OBJECT)) {
        size_t before = crd_enter(c, ".additionalProperties");
        const char *deflt;

        t->item = build(c, more, branch);
        deflt = branch ? NULL : default_of(c, t->item, more);
        if (deflt)
            own_rules(c, t)->item_default = deflt;
        crd_leave(c, before);
    }
    if (json_len(json_get(s, "required"))) {
        static struct schema_field none[1];

        build_required(c, t, none, json_get(s, "required"));
    }
}

static void build_items(struct crd_check *c, struct schema_type *t, const struct json *s,
                        bool branch)
{
    static const struct schema_type any = {.kind = SCHEMA_ANY,
                                           .flags = SCHEMA_FROM_CRD | SCHEMA_PRESERVE_UNKNOWN};
    const struct json *items = json_get(s, "items");
    struct schema_type *item;
    const char *deflt;
    size_t before;

    t->kind = SCHEMA_LIST;
    t->item = &any;
    if (!json_is(items, JSON_OBJECT))
        return;
    before = crd_enter(c, ".items");
    t->item = item = build(c, items, branch);
    if (t->flags & SCHEMA_PRESERVE_UNKNOWN)
        item->flags |= SCHEMA_PRESERVE_UNKNOWN;
    deflt = branch ? NULL : default_of(c, item, items);
    if (deflt)
        own_rules(c, t)->item_default = deflt;
    crd_leave(c, before);
}

static bool is_map(const struct json *s)
{
    const struct json *more = json_get(s, "additionalProperties");

    return (json_is(more, JSON_OBJECT) || json_bool(more)) && !json_len(json_get(s, "properties"));
}

static uint16_t flags_of(const struct json *s, bool branch)
{
    unsigned flags = SCHEMA_FROM_CRD;

    if (json_bool(json_get(s, "x-kubernetes-preserve-unknown-fields")) || branch)
        flags |= SCHEMA_PRESERVE_UNKNOWN;
    if (json_bool(json_get(s, "nullable")))
        flags |= SCHEMA_NULLABLE;
    if (json_bool(json_get(s, "x-kubernetes-embedded-resource")))
        flags |= SCHEMA_EMBEDDED;
    if (branch && !crd_type(s).n)
        flags |= SCHEMA_UNTYPED;
    if (crd_is(s, "x-kubernetes-map-type", "atomic")
        || crd_is(s, "x-kubernetes-list-type", "atomic"))
        flags |= SCHEMA_GRANULAR_ATOMIC;
    return (uint16_t)flags;
}

/* A branch without a type says what holds if the value is of a type. */
static bool untyped_object(const struct json *s)
{
    return json_len(json_get(s, "properties")) || json_len(json_get(s, "required"));
}

static struct schema_type *build(struct crd_check *c, const struct json *s, bool branch)
{
    struct schema_type *t = ARENA_NEW(c->a, struct schema_type);
    struct str type = crd_type(s);
    bool untyped = branch && !type.n;

    t->kind = SCHEMA_ANY;
    if (++c->nodes > CRD_NODES_MAX)
        c->too_large = true;
    if (c->too_large)
        return t;
    t->description = text_of(c, json_get(s, "description"));
    t->flags = flags_of(s, branch);
    t->rules = build_rules(c, s);
    if (json_bool(json_get(s, "x-kubernetes-int-or-string")))
        t->kind = SCHEMA_INT_OR_STRING;
    else if (str_is(type, "object") && is_map(s))
        build_map(c, t, s, branch);
    else if (str_is(type, "object") || (untyped && untyped_object(s))) {
        t->kind = SCHEMA_OBJECT;
        if (json_bool(json_get(s, "additionalProperties")))
            t->flags |= SCHEMA_PRESERVE_UNKNOWN;
        build_object(c, t, s, branch, t->flags & SCHEMA_EMBEDDED);
    } else if (str_is(type, "array") || (untyped && json_get(s, "items")))
        build_items(c, t, s, branch);
    else if (str_is(type, "string"))
        t->kind = SCHEMA_STRING;
    else if (str_is(type, "integer"))
        t->kind = SCHEMA_INT64;
    else if (str_is(type, "number"))
        t->kind = SCHEMA_NUMBER;
    else if (str_is(type, "boolean"))
        t->kind = SCHEMA_BOOL;
    return t;
}

struct schema_type *crd_schema(struct crd_check *c, const struct json *schema, bool whole)
{
    struct schema_type *t;

    if (!whole)
        return build(c, schema, false);
    t = ARENA_NEW(c->a, struct schema_type);
    t->description = text_of(c, json_get(schema, "description"));
    t->flags = flags_of(schema, false);
    t->rules = build_rules(c, schema);
    t->kind = SCHEMA_OBJECT;
    build_object(c, t, schema, false, true);
    return t;
}
