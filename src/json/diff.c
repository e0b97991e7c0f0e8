/* RFC 7386: applying merge patches, and finding them. */
#include "json/index.h"
#include "json/patch.h"

static struct json merge(struct arena *a, const struct json *target, const struct json *patch);

static struct json merge_objects(struct arena *a, const struct json *target, const struct json *patch)
{
    AUTO(json_index_done) struct json_index in_target = {0}, in_patch = {0};
    struct json_member *m = ARENA_ARRAY(a, struct json_member, json_len(target) + patch->n + 1);
    size_t n = 0;

    json_index_init(&in_target, target);
    json_index_init(&in_patch, patch);
    json_each_member (old, target) {
        const struct json_member *change = json_index_get(&in_patch, json_str(&old->key));
        if (!change)
            m[n++] = *old;
        else if (!json_is(&change->value, JSON_NULL))
            m[n++] = (struct json_member){.key = old->key, .value = merge(a, &old->value, &change->value)};
    }
    json_each_member (new, patch) {
        struct str key = json_str(&new->key);
        if (json_is(&new->value, JSON_NULL) || json_index_get(&in_target, key) || json_index_get(&in_patch, key) != new)
            continue;
        m[n++] = (struct json_member){.key = new->key, .value = merge(a, NULL, &new->value)};
    }
    return (struct json){.members = m, .n = (uint32_t)n, .type = JSON_OBJECT};
}

static struct json merge(struct arena *a, const struct json *target, const struct json *patch)
{
    if (!json_is(patch, JSON_OBJECT))
        return *patch;
    if (!json_is(target, JSON_OBJECT))
        target = NULL;
    if (target && patch->n == 0)
        return *target;
    return merge_objects(a, target, patch);
}

const struct json *json_merge_patch(struct arena *a, const struct json *target, const struct json *patch)
{
    struct json *ret;

    if (!patch)
        return target;
    ret = ARENA_NEW(a, struct json);
    *ret = merge(a, target, patch);
    return ret;
}

/* False when the two are equal. */
static bool diff(struct arena *a, const struct json *from, const struct json *to, struct json *ret)
{
    AUTO(json_index_done) struct json_index in_from = {0}, in_to = {0};
    struct json_member *m;
    size_t n = 0;

    if (!json_is(from, JSON_OBJECT) || !json_is(to, JSON_OBJECT)) {
        if (json_eq(from, to))
            return false;
        *ret = *to;
        return true;
    }
    if (from->members == to->members && from->n == to->n)
        return false;
    m = ARENA_ARRAY(a, struct json_member, (size_t)from->n + to->n + 1);
    json_index_init(&in_from, from);
    json_index_init(&in_to, to);
    json_each_member (old, from)
        if (!json_index_get(&in_to, json_str(&old->key)))
            m[n++] = (struct json_member){.key = old->key}; /* null */
    json_each_member (new, to) {
        struct str key = json_str(&new->key);
        const struct json_member *old = json_index_get(&in_from, key);
        if (json_index_get(&in_to, key) != new)
            continue;
        if (diff(a, old ? &old->value : NULL, &new->value, &m[n].value))
            m[n++].key = new->key;
    }
    *ret = (struct json){.members = m, .n = (uint32_t)n, .type = JSON_OBJECT};
    return n > 0;
}

const struct json *json_merge_diff(struct arena *a, const struct json *from, const struct json *to)
{
    struct json *ret = ARENA_NEW(a, struct json);

    if (!diff(a, from, to ? to : json_null(), ret))
        *ret = (struct json){.type = JSON_OBJECT};
    return ret;
}

/* --- RFC 6902 --------------------------------------------------------------------------------------------------------------- */

struct ops {
    struct arena *a;
    const struct json **p;
    size_t n, cap;
};

static void add_op(struct ops *o, const char *op, const char *path, const struct json *value)
{
    if (o->n == o->cap) {
        const struct json **more = ARENA_ARRAY(o->a, const struct json *, 2 * o->cap + 8);

        if (o->n)
            memcpy(more, o->p, o->n * sizeof *more);
        o->p = more;
        o->cap = 2 * o->cap + 8;
    }
    o->p[o->n++] = json_object(o->a, "op", json_new_z(o->a, op), "path", json_new_z(o->a, path), "value", value, NULL);
}

static const char *below(struct ops *o, const char *path, struct str key)
{
    AUTO(buf_done) struct buf b = {0};

    buf_addf(&b, "%s/", path);
    for (size_t i = 0; i < key.n; i++) {
        if (key.p[i] == '~' || key.p[i] == '/')
            buf_adds(&b, key.p[i] == '~' ? "~0" : "~1");
        else
            buf_addc(&b, key.p[i]);
    }
    return arena_strdup(o->a, buf_str(&b));
}

static void find_ops(struct ops *o, const char *path, const struct json *from, const struct json *to);

static void find_in_objects(struct ops *o, const char *path, const struct json *from, const struct json *to)
{
    AUTO(json_index_done) struct json_index in_from = {0}, in_to = {0};

    json_index_init(&in_from, from);
    json_index_init(&in_to, to);
    json_each_member (old, from) {
        const struct json_member *now = json_index_get(&in_to, json_str(&old->key));

        if (json_index_get(&in_from, json_str(&old->key)) != old)
            continue; /* a key that is repeated */
        if (!now)
            add_op(o, "remove", below(o, path, json_str(&old->key)), NULL);
        else if (json_type(&old->value) == JSON_OBJECT || json_type(&old->value) == JSON_ARRAY || !json_eq(&old->value, &now->value))
            find_ops(o, below(o, path, json_str(&old->key)), &old->value, &now->value);
    }
    json_each_member (new, to)
        if (!json_index_get(&in_from, json_str(&new->key)) && json_index_get(&in_to, json_str(&new->key)) == new)
            add_op(o, "add", below(o, path, json_str(&new->key)), &new->value);
}

static void find_ops(struct ops *o, const char *path, const struct json *from, const struct json *to)
{
    if (json_is(from, JSON_OBJECT) && json_is(to, JSON_OBJECT)) {
        find_in_objects(o, path, from, to);
    } else if (json_is(from, JSON_ARRAY) && json_is(to, JSON_ARRAY) && json_len(from) == json_len(to)) {
        for (size_t i = 0; i < json_len(from); i++)
            find_ops(o, arena_printf(o->a, "%s/%zu", path, i), json_item(from, i), json_item(to, i));
    } else if (!json_eq(from, to)) {
        add_op(o, "replace", path, to);
    }
}

const struct json *json_patch_diff(struct arena *a, const struct json *from, const struct json *to)
{
    struct ops o = {.a = a};

    find_ops(&o, "", from, to);
    return json_array_n(a, o.p, o.n);
}
