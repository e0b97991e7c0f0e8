#include "api/schema.h"

#include "base/cleanup.h"

#define PATHS_MAX 100 /* more unknown fields than this are not listed */

struct pruner {
    struct arena *a;
    struct json_dups *unknown;
    struct buf path; /* built only when somebody wants it */
};

static void note_unknown(struct pruner *p, struct str key)
{
    struct json_dups *u = p->unknown;

    if (!u || u->n >= PATHS_MAX)
        return;
    if ((u->n & (u->n - 1)) == 0) { /* full at every power of two */
        const char **bigger = ARENA_ARRAY(p->a, const char *, u->n ? u->n * 2 : 1);

        if (u->n)
            memcpy(bigger, u->paths, u->n * sizeof *bigger);
        u->paths = bigger;
    }
    u->paths[u->n++] =
        arena_printf(p->a, STR_FMT "%s" STR_FMT, STR_ARG(buf_str(&p->path)), p->path.n ? "." : "", STR_ARG(key));
}

static size_t enter_key(struct pruner *p, struct str key)
{
    size_t before = p->path.n;

    if (p->unknown) {
        if (before)
            buf_addc(&p->path, '.');
        buf_addstr(&p->path, key);
    }
    return before;
}

static size_t enter_index(struct pruner *p, size_t i)
{
    size_t before = p->path.n;

    if (p->unknown)
        buf_addf(&p->path, "[%zu]", i);
    return before;
}

static void leave(struct pruner *p, size_t before)
{
    if (p->unknown && p->path.p) {
        p->path.n = before;
        p->path.p[before] = '\0';
    }
}

static bool prune(struct pruner *p, const struct schema_type *t, const struct json *v, struct json *ret);

/* The three below return false, with *ret untouched, when nothing changed. */
static bool prune_object(struct pruner *p, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json_member *kept = NULL;
    size_t n = 0;

    for (size_t i = 0; i < v->n; i++) {
        const struct json_member *m = &v->members[i];
        struct str key = json_str(&m->key);
        const struct schema_field *f = schema_field(t, key);
        struct json_member now = *m;
        bool drop = false, changed = false;

        if (!f) {
            drop = !(t->flags & SCHEMA_PRESERVE_UNKNOWN);
            if (drop)
                note_unknown(p, key);
        } else if (m->value.type == JSON_NULL) {
            drop = schema_is_core(t) && /* Go structs forget nulls; objects of CRDs keep them */
                   f->type->kind != SCHEMA_ANY;
        } else if (!(f->flags & SCHEMA_PRESERVE_UNKNOWN)) {
            size_t before = enter_key(p, key);

            changed = prune(p, f->type, &m->value, &now.value);
            leave(p, before);
        }
        if ((drop || changed) && !kept) {
            kept = ARENA_ARRAY(p->a, struct json_member, v->n);
            memcpy(kept, v->members, i * sizeof *kept);
            n = i;
        }
        if (kept && !drop)
            kept[n++] = now;
    }
    if (!kept)
        return false;
    *ret = (struct json){.members = kept, .n = (uint32_t)n, .type = JSON_OBJECT};
    return true;
}

static bool prune_map(struct pruner *p, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json_member *kept = NULL;

    for (size_t i = 0; i < v->n; i++) {
        struct json now;
        size_t before = enter_key(p, json_str(&v->members[i].key));
        bool changed = prune(p, t->item, &v->members[i].value, &now);

        leave(p, before);
        if (!changed)
            continue;
        if (!kept) {
            kept = ARENA_ARRAY(p->a, struct json_member, v->n);
            memcpy(kept, v->members, v->n * sizeof *kept);
        }
        kept[i].value = now;
    }
    if (!kept)
        return false;
    *ret = (struct json){.members = kept, .n = v->n, .type = JSON_OBJECT};
    return true;
}

static bool prune_list(struct pruner *p, const struct schema_type *t, const struct json *v, struct json *ret)
{
    struct json *kept = NULL;

    for (size_t i = 0; i < v->n; i++) {
        struct json now;
        size_t before = enter_index(p, i);
        bool changed = prune(p, t->item, &v->items[i], &now);

        leave(p, before);
        if (!changed)
            continue;
        if (!kept) {
            kept = ARENA_ARRAY(p->a, struct json, v->n);
            memcpy(kept, v->items, v->n * sizeof *kept);
        }
        kept[i] = now;
    }
    if (!kept)
        return false;
    *ret = (struct json){.items = kept, .n = v->n, .type = JSON_ARRAY};
    return true;
}

static bool prune(struct pruner *p, const struct schema_type *t, const struct json *v, struct json *ret)
{
    if (t->kind == SCHEMA_OBJECT && json_is(v, JSON_OBJECT))
        return prune_object(p, t, v, ret);
    if (t->kind == SCHEMA_MAP && json_is(v, JSON_OBJECT))
        return prune_map(p, t, v, ret);
    if (t->kind == SCHEMA_LIST && json_is(v, JSON_ARRAY))
        return prune_list(p, t, v, ret);
    /* What a definition says nothing about, and does not say to keep, is empty. */
    if (t->kind == SCHEMA_ANY && t->flags & SCHEMA_FROM_CRD && !(t->flags & SCHEMA_PRESERVE_UNKNOWN)) {
        static const struct schema_type nothing = {.kind = SCHEMA_OBJECT},
                                        many = {.kind = SCHEMA_LIST, .item = &nothing};

        if (json_is(v, JSON_OBJECT))
            return prune_object(p, &nothing, v, ret);
        if (json_is(v, JSON_ARRAY))
            return prune_list(p, &many, v, ret);
    }
    return false;
}

static int by_path(const void *x, const void *y)
{
    const char *const *a = x, *const *b = y;

    return strcmp(*a, *b);
}

const struct json *schema_prune(const struct schema_type *t, const struct json *v, struct arena *a,
                                struct json_dups *unknown)
{
    struct pruner p = {.a = a, .unknown = unknown, .path = {.limit = 64 << 10}};
    struct json now;
    const struct json *ret = v;

    if (v && prune(&p, t, v, &now)) {
        struct json *out = ARENA_NEW(a, struct json);

        *out = now;
        ret = out;
    }
    buf_done(&p.path);
    if (unknown && unknown->n > 1)
        qsort(unknown->paths, unknown->n, sizeof *unknown->paths, by_path);
    return ret;
}
