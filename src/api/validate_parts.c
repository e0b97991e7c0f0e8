/* Lists with keys and objects within objects: upstream checks each in a walk of its own, after the values. */
#include "api/validate_parts.h"

#include "api/names.h"
#include "base/cleanup.h"

#define CAUSES_MAX 100
#define SHOWN_MAX 2048

struct walk {
    struct arena *a;
    struct schema_causes *causes;
    struct buf path;
};

static const char *here(struct walk *w)
{
    return w->path.p && w->path.n ? w->path.p : "";
}

static size_t enter(struct walk *w, struct str key)
{
    size_t before = w->path.n;

    if (before)
        buf_addc(&w->path, '.');
    buf_addstr(&w->path, key);
    return before;
}

static size_t enter_key(struct walk *w, struct str key)
{
    size_t before = w->path.n;

    buf_addf(&w->path, "[" STR_FMT "]", STR_ARG(key));
    return before;
}

static size_t enter_index(struct walk *w, size_t i)
{
    size_t before = w->path.n;

    buf_addf(&w->path, "[%zu]", i);
    return before;
}

static void leave(struct walk *w, size_t before)
{
    if (w->path.p) {
        w->path.n = before;
        w->path.p[before] = '\0';
    }
}

static const char *canonical(struct walk *w, const struct json *v, size_t limit)
{
    AUTO(buf_done) struct buf b = {.limit = limit};

    json_write_sorted(&b, v ? v : json_null());
    return arena_strdup(w->a, b.p ? buf_str(&b) : STR(""));
}

/* -- lists ---------------------------------------------------------------------------------------- */

/* Elements are compared through their canonical texts in a sorted table, so that a long list costs n log n. */
struct keyed {
    const char *text;
    size_t i;
};

static int by_text(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = strcmp(x->text, y->text);

    return order ? order : (x->i > y->i) - (x->i < y->i);
}

static int by_index(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    return (x->i > y->i) - (x->i < y->i);
}

static const struct json *keys_of(struct walk *w, const char *const *names, const struct json *item)
{
    const struct json *keys = json_object(w->a, NULL);

    for (size_t i = 0; names && names[i]; i++)
        if (json_get(item, names[i]))
            keys = json_with(w->a, keys, names[i], json_get(item, names[i]));
    return keys;
}

static bool objects_only(struct walk *w, const struct json *value)
{
    size_t i = 0;

    json_each_item(it, value) {
        if (!json_is(it, JSON_OBJECT) && !json_is(it, JSON_NULL)) {
            size_t before = enter_index(w, i);

            schema_cause_add(w->causes, w->a, "FieldValueInvalid", here(w),
                             "Invalid value: %s: must be an object for an array of list-type map",
                             canonical(w, it, SHOWN_MAX));
            leave(w, before);
            return false;
        }
        i++;
    }
    return true;
}

/* The second of several that are the same is told, and no other. */
static void check_duplicates(struct walk *w, uint8_t list, const char *const *names,
                             const struct json *value)
{
    size_t n = json_len(value), dups = 0, run = 0;
    struct keyed *k, *out;

    if ((list == SCHEMA_LIST_MAP && !objects_only(w, value)) || n < 2)
        return;
    k = ARENA_ARRAY(w->a, struct keyed, n);
    out = ARENA_ARRAY(w->a, struct keyed, n);
    for (size_t i = 0; i < n; i++) {
        const struct json *item = json_item(value, i);

        k[i].text = canonical(w, list == SCHEMA_LIST_MAP ? keys_of(w, names, item) : item,
                              LIMIT_BUF_DEFAULT);
        k[i].i = i;
    }
    qsort(k, n, sizeof *k, by_text);
    for (size_t i = 1; i < n; i++) {
        run = strcmp(k[i].text, k[i - 1].text) == 0 ? run + 1 : 0;
        if (run == 1)
            out[dups++] = k[i];
    }
    if (dups)
        qsort(out, dups, sizeof *out, by_index);
    for (size_t i = 0; i < dups; i++) {
        size_t before = enter_index(w, out[i].i);

        schema_cause_add(w->causes, w->a, "FieldValueDuplicate", here(w), "Duplicate value: %s",
                         out[i].text);
        leave(w, before);
    }
}

static void walk_lists(struct walk *w, const struct schema_type *t, const struct schema_field *f,
                       const struct json *v)
{
    uint8_t list = f ? f->list : t->rules ? t->rules->list : SCHEMA_LIST_ATOMIC;
    const char *const *names = f ? f->list_keys : t->rules ? t->rules->list_keys : NULL;
    size_t i = 0;

    if (w->causes->n >= CAUSES_MAX)
        return;
    if (t->kind == SCHEMA_LIST && json_is(v, JSON_ARRAY)) {
        if (list != SCHEMA_LIST_ATOMIC)
            check_duplicates(w, list, names, v);
        if (t->item->kind != SCHEMA_OBJECT && t->item->kind != SCHEMA_MAP
            && t->item->kind != SCHEMA_LIST)
            return;
        json_each_item(it, v) {
            size_t before = enter_index(w, i++);

            walk_lists(w, t->item, NULL, it);
            leave(w, before);
        }
    } else if (t->kind == SCHEMA_OBJECT || t->kind == SCHEMA_MAP) {
        json_each_member(m, v) {
            const struct schema_field *field =
                t->kind == SCHEMA_OBJECT ? schema_field(t, json_str(&m->key)) : NULL;
            size_t before;

            /* metadata of the whole has rules of its own */
            if ((t->kind == SCHEMA_OBJECT && !field)
                || (!w->path.n && str_is(json_str(&m->key), "metadata")))
                continue;
            before = field ? enter(w, json_str(&m->key)) : enter_key(w, json_str(&m->key));
            walk_lists(w, field ? field->type : t->item, field, &m->value);
            leave(w, before);
        }
    }
}

void schema_check_lists(const struct schema_type *t, const struct json *old, const struct json *v,
                        struct arena *a, struct schema_causes *ret)
{
    struct schema_causes found = {0}, was = {0};
    struct walk w = {.a = a, .causes = &found, .path = {.limit = 64 << 10}};

    walk_lists(&w, t, NULL, v);
    if (found.n && old) {
        w.causes = &was;
        walk_lists(&w, t, NULL, old);
    }
    buf_done(&w.path);
    for (size_t i = 0; i < found.n && !was.n; i++)
        schema_cause_add(ret, a, found.p[i].reason, found.p[i].field, "%s", found.p[i].message);
}

/* -- objects within objects ----------------------------------------------------------------------- */

static void embedded_fault(struct walk *w, const char *key, const struct json *v, const char *why)
{
    size_t before = enter(w, str_of(key));

    if (v)
        schema_cause_add(w->causes, w->a, "FieldValueInvalid", here(w), "Invalid value: %s: %s",
                         canonical(w, v, SHOWN_MAX), why);
    else
        schema_cause_add(w->causes, w->a, "FieldValueRequired", here(w), "Required value");
    leave(w, before);
}

static const char *lower(struct walk *w, struct str s)
{
    char *p = arena_strdup(w->a, s);

    for (char *q = p; *q; q++)
        *q = (char)(*q >= 'A' && *q <= 'Z' ? *q + 32 : *q);
    return p;
}

static void check_type_meta(struct walk *w, const struct json *v)
{
    const struct json *version = json_get(v, "apiVersion"), *kind = json_get(v, "kind");
    struct str group, rest;
    const char *why;

    if (!version || !json_is(version, JSON_STRING))
        embedded_fault(w, "apiVersion", version, "must be a string");
    else if (!version->n)
        embedded_fault(w, "apiVersion", version, "must not be empty");
    else if (str_cut(json_str(version), '/', &group, &rest) && str_has(rest, '/'))
        embedded_fault(w, "apiVersion", version,
                       arena_printf(w->a, "unexpected GroupVersion string: " STR_FMT,
                                    STR_ARG(json_str(version))));
    if (!kind || !json_is(kind, JSON_STRING))
        embedded_fault(w, "kind", kind, "must be a string");
    else if (!kind->n)
        embedded_fault(w, "kind", kind, "must not be empty");
    else if ((why = name_dns1035_label(str_of(lower(w, json_str(kind))))))
        embedded_fault(
            w, "kind", kind,
            arena_printf(w->a, "may have mixed case, but should otherwise match: %s", why));
}

static void check_meta(struct walk *w, const struct json *meta)
{
    struct str name = json_str(json_get(meta, "name")), ns = json_str(json_get(meta, "namespace"));
    const char *why = name.n ? name_path_segment(name, w->a) : NULL;
    size_t before;

    if (why)
        embedded_fault(w, "name", json_get(meta, "name"), why);
    why = ns.n ? name_dns1123_label(ns) : NULL;
    if (why)
        embedded_fault(w, "namespace", json_get(meta, "namespace"), why);
    json_each_member(m, json_get(meta, "labels")) {
        why = name_qualified(json_str(&m->key), w->a);
        if (why)
            embedded_fault(w, "labels", &m->key, why);
        why = name_label_value(json_str(&m->value));
        if (why)
            embedded_fault(w, "labels", &m->value, why);
    }
    before = enter(w, STR("annotations"));
    json_each_member(m, json_get(meta, "annotations")) {
        why = name_qualified(str_of(lower(w, json_str(&m->key))), w->a);
        if (why)
            schema_cause_add(w->causes, w->a, "FieldValueInvalid", here(w), "Invalid value: %s: %s",
                             canonical(w, &m->key, SHOWN_MAX), why);
    }
    leave(w, before);
}

static void walk_embedded(struct walk *w, const struct schema_type *t, const struct json *v)
{
    size_t i = 0;

    if (w->causes->n >= CAUSES_MAX || !(t->flags & SCHEMA_FROM_CRD))
        return;
    if (t->flags & SCHEMA_EMBEDDED && json_is(v, JSON_OBJECT)) {
        const struct json *meta = json_get(v, "metadata");

        check_type_meta(w, v);
        if (json_is(meta, JSON_OBJECT)) {
            size_t before = enter(w, STR("metadata"));

            check_meta(w, meta);
            leave(w, before);
        }
    }
    if (t->kind == SCHEMA_LIST) {
        json_each_item(it, v) {
            size_t before = enter_index(w, i++);

            walk_embedded(w, t->item, it);
            leave(w, before);
        }
    } else if (t->kind == SCHEMA_OBJECT || t->kind == SCHEMA_MAP) {
        json_each_member(m, v) {
            const struct schema_field *field =
                t->kind == SCHEMA_OBJECT ? schema_field(t, json_str(&m->key)) : NULL;
            size_t before;

            if (t->kind == SCHEMA_OBJECT && !field)
                continue;
            before = field ? enter(w, json_str(&m->key)) : enter_key(w, json_str(&m->key));
            walk_embedded(w, field ? field->type : t->item, &m->value);
            leave(w, before);
        }
    }
}

void schema_check_embedded(const struct schema_type *t, const struct json *v, struct arena *a,
                           struct schema_causes *ret)
{
    struct walk w = {.a = a, .causes = ret, .path = {.limit = 64 << 10}};

    walk_embedded(&w, t, v);
    buf_done(&w.path);
}
