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
