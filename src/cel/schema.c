/* cel/schema - see schema.h. Sizes are counted as upstream does, because the costs of rules depend on them: what has no
 * bound of its own is bounded by what fits into one request. */
#include "cel/schema.h"
#include "cel/internal.h"

#define REQUEST_MAX INT64_C(3145728)

static bool reserved(struct str s)
{
    static const char *const words[] = {
        "true",     "false",   "null",      "in",       "as",  "break",  "const",
        "continue", "else",    "for",       "function", "if",  "import", "let",
        "loop",     "package", "namespace", "return",   "var", "void",   "while"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (str_is(s, words[i]))
            return true;
    return false;
}

const char *cel_escape(struct arena *a, struct str name)
{
    AUTO(buf_done) struct buf b = {.limit = 8192};

    if (!name.n || (name.p[0] >= '0' && name.p[0] <= '9'))
        return NULL;
    if (reserved(name))
        return arena_printf(a, "__" STR_FMT "__", STR_ARG(name));
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (c == '_' && i + 1 < name.n && name.p[i + 1] == '_') {
            buf_adds(&b, "__underscores__");
            i++;
        } else if (c == '.') {
            buf_adds(&b, "__dot__");
        } else if (c == '-') {
            buf_adds(&b, "__dash__");
        } else if (c == '/') {
            buf_adds(&b, "__slash__");
        } else if (c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
            buf_addc(&b, c);
        } else {
            return NULL;
        }
    }
    return b.overflow ? NULL : arena_strdup(a, buf_str(&b));
}

static struct cel_type *declared(struct arena *a, enum cel_kind kind, uint64_t max,
                                 int64_t min_size)
{
    struct cel_type *t = ARENA_NEW(a, struct cel_type);

    t->kind = kind;
    t->declared = true;
    t->max_elements = max;
    t->min_size = min_size;
    return t;
}

static bool limit(const struct json *s, const char *key, uint64_t *ret)
{
    int64_t n;

    if (!json_i64(json_get(s, key), &n))
        return false;
    *ret = n < 0 ? 0 : (uint64_t)n;
    return true;
}

/* maxLength counts characters of up to four bytes. */
static uint64_t longest_text(const struct json *s)
{
    const struct json *values = json_get(s, "enum");
    uint64_t n;

    if (limit(s, "maxLength", &n))
        return n > UINT64_MAX / 4 ? UINT64_MAX : n * 4;
    if (!json_len(values) || json_bool(json_get(s, "x-kubernetes-int-or-string")))
        return REQUEST_MAX - 2;
    n = 0;
    json_each_item(it, values) {
        if (json_is(it, JSON_STRING) && it->n > n)
            n = it->n;
    }
    return n;
}

static const struct cel_type *text_type(struct arena *a, const struct json *s)
{
    struct str format = json_str(json_get(s, "format"));
    uint64_t n;

    if (str_is(format, "byte"))
        return declared(a, CEL_BYTES, limit(s, "maxLength", &n) ? n : REQUEST_MAX - 2, 2);
    if (str_is(format, "duration"))
        return declared(a, CEL_DURATION, 32, 4);
    if (str_is(format, "date"))
        return declared(a, CEL_TIMESTAMP, 12, 12);
    if (str_is(format, "date-time"))
        return declared(a, CEL_TIMESTAMP, 37, 21);
    return declared(a, CEL_STRING, longest_text(s), 2);
}

static const char *const *keys_of(struct arena *a, const struct json *s)
{
    const struct json *keys = json_get(s, "x-kubernetes-list-map-keys");
    const char **p = ARENA_ARRAY(a, const char *, json_len(keys) + 1);
    size_t n = 0;

    json_each_item(it, keys) {
        if (json_is(it, JSON_STRING))
            p[n++] = arena_strdup(a, json_str(it));
    }
    return n ? p : NULL;
}

static const struct cel_type *list_type(struct arena *a, const struct json *s)
{
    const struct json *items = json_get(s, "items");
    struct str list = json_str(json_get(s, "x-kubernetes-list-type"));
    const struct cel_type *elem;
    struct cel_type *t;
    uint64_t n;

    elem = items ? cel_type_of_schema(a, items,
                                      json_bool(json_get(items, "x-kubernetes-embedded-resource")))
                 : NULL;
    if (!elem)
        return NULL;
    if (!limit(s, "maxItems", &n))
        n = (uint64_t)((REQUEST_MAX - 2) / (elem->min_size + 1));
    t = declared(a, CEL_LIST, n, 2);
    t->elem = elem;
    t->list = str_is(list, "set")   ? CEL_LIST_SET
              : str_is(list, "map") ? CEL_LIST_MAP
                                    : CEL_LIST_ATOMIC;
    t->list_keys = t->list == CEL_LIST_MAP ? keys_of(a, s) : NULL;
    return t;
}

static const struct cel_type *map_type(struct arena *a, const struct json *s,
                                       const struct json *values)
{
    const struct cel_type *elem = cel_type_of_schema(
        a, values, json_bool(json_get(values, "x-kubernetes-embedded-resource")));
    struct cel_type *t;
    uint64_t n;

    if (!elem)
        return NULL;
    if (!limit(s, "maxProperties", &n))
        n = (uint64_t)((REQUEST_MAX - 2) / (elem->min_size + 6));
    t = declared(a, CEL_MAP, n, 2);
    t->key = declared(a, CEL_STRING, REQUEST_MAX - 2, 2);
    t->elem = elem;
    return t;
}

static int by_name(const void *x, const void *y)
{
    const struct cel_field *a = x, *b = y;

    return strcmp(a->name, b->name);
}

struct fields {
    struct cel_field *p;
    size_t n;
};

static void add_field(struct fields *f, const char *name, const char *key, const struct cel_type *t)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->p[i].key, key) == 0) {
            f->p[i].type = t;
            return;
        }
    f->p[f->n++] = (struct cel_field){name, key, t};
}

static const struct cel_type *meta_type(struct arena *a)
{
    struct cel_type *t = declared(a, CEL_OBJECT, 0, 2);
    struct cel_field *f = ARENA_ARRAY(a, struct cel_field, 2);

    f[0] = (struct cel_field){"generateName", "generateName",
                              declared(a, CEL_STRING, REQUEST_MAX - 2, 2)};
    f[1] = (struct cel_field){"name", "name", f[0].type};
    t->fields = f;
    t->n_fields = 2;
    return t;
}

static bool required(const struct json *s, struct str name)
{
    json_each_item(it, json_get(s, "required")) {
        if (str_eq(json_str(it), name))
            return true;
    }
    return false;
}

static const struct cel_type *object_type(struct arena *a, const struct json *s, bool root)
{
    const struct json *properties = json_get(s, "properties");
    struct cel_type *t = declared(a, CEL_OBJECT, 0, 2);
    struct fields f = {ARENA_ARRAY(a, struct cel_field, json_len(properties) + 3), 0};

    json_each_member(m, properties) {
        bool embedded = json_bool(json_get(&m->value, "x-kubernetes-embedded-resource"));
        const struct cel_type *type = cel_type_of_schema(a, &m->value, embedded);
        const char *name = cel_escape(a, json_str(&m->key));

        if (!type)
            continue;
        /* What expressions cannot name has a type all the same: values of it are compared. */
        add_field(&f, name ? name : "", arena_strdup(a, json_str(&m->key)), type);
        if (required(s, json_str(&m->key)) && !json_get(&m->value, "default"))
            t->min_size += (int64_t)m->key.n + type->min_size + 4;
    }
    if (root) {
        const struct cel_type *text = declared(a, CEL_STRING, REQUEST_MAX - 2, 2);

        add_field(&f, "apiVersion", "apiVersion", text);
        add_field(&f, "kind", "kind", text);
        add_field(&f, "metadata", "metadata", meta_type(a));
    }
    if (f.n)
        qsort(f.p, f.n, sizeof *f.p, by_name);
    t->fields = f.p;
    t->n_fields = f.n;
    return t;
}

const struct cel_type *cel_type_of_schema(struct arena *a, const struct json *s, bool root)
{
    struct str type = json_str(json_get(s, "type"));
    const struct json *values = json_get(s, "additionalProperties");

    if (json_bool(json_get(s, "x-kubernetes-int-or-string")))
        return declared(a, CEL_DYN, longest_text(s), 1);
    if (str_is(type, "array"))
        return list_type(a, s);
    if (str_is(type, "object"))
        return json_is(values, JSON_OBJECT) ? map_type(a, s, values) : object_type(a, s, root);
    if (str_is(type, "string"))
        return text_type(a, s);
    if (str_is(type, "boolean"))
        return declared(a, CEL_BOOL, 0, 4);
    if (str_is(type, "integer"))
        return declared(a, CEL_INT, 0, 1);
    if (str_is(type, "number"))
        return declared(a, CEL_DOUBLE, 0, 1);
    return NULL;
}
