/* Definitions of users have rules for null too: a value that is null and may not be becomes its default, or goes if it
 * has none (in lists it stays, and is found invalid). Objects of built-in kinds come here without nulls. */
#include "api/rules.h"

/* Returns false, with *ret untouched, when nothing changed. */
static bool fill(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret);

static const struct json *default_of(struct arena *a, const char *text)
{
    const struct json *v = NULL;
    struct error err = {0};

    if (!text || !json_parse_borrowed(str_of(text), a, &v, &err))
        v = NULL; /* the generator and crd.c have both checked the text */
    error_clear(&err);
    return v;
}

static const struct json_member *member(const struct json *v, size_t n, const char *name)
{
    struct str key = str_of(name);

    for (size_t i = n; i-- > 0;)
        if (str_eq(json_str(&v->members[i].key), key))
            return &v->members[i];
    return NULL;
}

static bool lonely_null(const struct json *v, const struct schema_type *t, unsigned flags)
{
    return json_is(v, JSON_NULL) && !((t->flags | flags) & SCHEMA_NULLABLE);
}

/* Members that the definition makes nothing of: gone from `m`, which holds *n of them. */
static void drop_nulls(const struct schema_type *t, struct json_member *m, size_t *n)
{
    size_t kept = 0;

    for (size_t i = 0; i < *n; i++) {
        const struct schema_field *f = schema_field(t, json_str(&m[i].key));

        if (!f || !lonely_null(&m[i].value, f->type, f->flags) || !(f->type->flags & SCHEMA_FROM_CRD))
            m[kept++] = m[i];
    }
    *n = kept;
}

static bool has_lonely_null(const struct schema_type *t, const struct json *v)
{
    json_each_member(m, v) {
        const struct schema_field *f = json_is(&m->value, JSON_NULL) ? schema_field(t, json_str(&m->key)) : NULL;

        if (f && f->type->flags & SCHEMA_FROM_CRD && lonely_null(&m->value, f->type, f->flags))
            return true;
    }
    return false;
}

static bool fill_object(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    bool nulls = t->flags & SCHEMA_FROM_CRD && has_lonely_null(t, v);
    struct json_member *out = NULL;
    size_t n = v->n;

    if (nulls) {
        out = ARENA_ARRAY(a, struct json_member, v->n + t->n_fields);
        memcpy(out, v->members, v->n * sizeof *out);
    }
    for (size_t i = 0; i < t->n_fields; i++) {
        const struct schema_field *f = &t->fields[i];
        const struct json_member *m = member(v, v->n, f->name);
        const struct json *value = m ? &m->value : NULL, *given = NULL;
        struct json now;
        bool changed;

        if (!value || lonely_null(value, f->type, f->flags))
            given = default_of(a, f->default_json);
        if (given)
            value = given;
        if (!value)
            continue;
        changed = fill(a, f->type, value, &now);
        if (!given && !changed)
            continue;
        if (!out) {
            out = ARENA_ARRAY(a, struct json_member, v->n + t->n_fields);
            if (v->n > 0)
                memcpy(out, v->members, v->n * sizeof *out);
        }
        if (m) {
            out[m - v->members].value = changed ? now : *value;
        } else {
            out[n].key = (struct json){.text = f->name, .n = (uint32_t)strlen(f->name), .type = JSON_STRING};
            out[n++].value = changed ? now : *value;
        }
    }
    if (!out)
        return false;
    if (nulls)
        drop_nulls(t, out, &n);
    *ret = (struct json){.members = out, .n = (uint32_t)n, .type = JSON_OBJECT};
    return true;
}

/* An element that is null: its default, or what is in it filled. */
static bool fill_item(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    const struct json *given = t->rules && lonely_null(v, t->item, 0) ? default_of(a, t->rules->item_default) : NULL;

    if (!given)
        return fill(a, t->item, v, ret);
    if (!fill(a, t->item, given, ret))
        *ret = *given;
    return true;
}

static bool fill_map(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json_member *out = NULL;
    size_t n = 0;

    for (size_t i = 0; i < v->n; i++) {
        struct json now;
        bool changed = fill_item(a, t, &v->members[i].value, &now);
        bool drop = !changed && t->item->flags & SCHEMA_FROM_CRD && lonely_null(&v->members[i].value, t->item, 0);

        if ((changed || drop) && !out) {
            out = ARENA_ARRAY(a, struct json_member, v->n);
            memcpy(out, v->members, i * sizeof *out);
            n = i;
        }
        if (!out || drop)
            continue;
        out[n] = v->members[i];
        if (changed)
            out[n].value = now;
        n++;
    }
    if (!out)
        return false;
    *ret = (struct json){.members = out, .n = (uint32_t)n, .type = JSON_OBJECT};
    return true;
}

static bool fill_list(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json *out = NULL;

    for (size_t i = 0; i < v->n; i++) {
        struct json now;

        if (!fill_item(a, t, &v->items[i], &now))
            continue;
        if (!out) {
            out = ARENA_ARRAY(a, struct json, v->n);
            memcpy(out, v->items, v->n * sizeof *out);
        }
        out[i] = now;
    }
    if (!out)
        return false;
    *ret = (struct json){.items = out, .n = v->n, .type = JSON_ARRAY};
    return true;
}

static bool fill(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    if (t->kind == SCHEMA_OBJECT && json_is(v, JSON_OBJECT))
        return fill_object(a, t, v, ret);
    if (t->kind == SCHEMA_MAP && json_is(v, JSON_OBJECT))
        return fill_map(a, t, v, ret);
    if (t->kind == SCHEMA_LIST && json_is(v, JSON_ARRAY))
        return fill_list(a, t, v, ret);
    return false;
}

const struct json *schema_default(const struct schema_type *t, const struct json *v, struct arena *a)
{
    struct json now;

    if (v && fill(a, t, v, &now)) {
        struct json *out = ARENA_NEW(a, struct json);

        *out = now;
        return out;
    }
    return v;
}
