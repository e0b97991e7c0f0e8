#include "api/schema.h"

/* Returns false, with *ret untouched, when nothing changed. */
static bool fill(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret);

static const struct json *default_of(struct arena *a, const struct schema_field *f)
{
    const struct json *v = NULL;
    struct error err = {0};

    if (!f->default_json || !json_parse_borrowed(str_of(f->default_json), a, &v, &err))
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

static bool fill_object(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json_member *out = NULL;
    size_t n = v->n;

    for (size_t i = 0; i < t->n_fields; i++) {
        const struct schema_field *f = &t->fields[i];
        const struct json_member *m = member(v, v->n, f->name);
        const struct json *value = m ? &m->value : NULL, *given = NULL;
        struct json now;
        bool changed;

        if (!value || (json_is(value, JSON_NULL) && !(f->flags & SCHEMA_NULLABLE)))
            given = default_of(a, f);
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
    *ret = (struct json){.members = out, .n = (uint32_t)n, .type = JSON_OBJECT};
    return true;
}

static bool fill_map(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json_member *out = NULL;

    for (size_t i = 0; i < v->n; i++) {
        struct json now;

        if (!fill(a, t->item, &v->members[i].value, &now))
            continue;
        if (!out) {
            out = ARENA_ARRAY(a, struct json_member, v->n);
            memcpy(out, v->members, v->n * sizeof *out);
        }
        out[i].value = now;
    }
    if (!out)
        return false;
    *ret = (struct json){.members = out, .n = v->n, .type = JSON_OBJECT};
    return true;
}

static bool fill_list(struct arena *a, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json *out = NULL;

    for (size_t i = 0; i < v->n; i++) {
        struct json now;

        if (!fill(a, t->item, &v->items[i], &now))
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
