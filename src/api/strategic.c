/* Lists are joined through hash maps of their keys, so that a long list costs its length and not its square.
 * The order of a merged list: items of the patch in the patch's order (or that of $setElementOrder), items that only the
 * server has in the server's order, interleaved so that the server's order holds where both are known to it. */
#include "api/strategic.h"

#include "api/members.h"
#include "base/cleanup.h"
#include "base/map.h"

#define SET_ORDER "$setElementOrder/"
#define DELETE_FROM "$deleteFromPrimitiveList/"

struct merger {
    struct arena *a;
    struct error *err;
};
struct items { /* a list under work, and where each key is in it */
    const struct json **p;
    size_t n;
    struct map at; /* canonical key → index + 1 */
};

static void items_done(struct items *l) { map_done(&l->at); }

static bool merge_object(struct merger *m, const struct schema_type *t, const struct json *target,
                         const struct json *patch, const struct json **ret);

/* An item's identity: the merge key's value, or the item itself for lists of scalars. */
static struct str identity(struct merger *m, const struct json *item, const char *key)
{
    AUTO(buf_done) struct buf b = {0};

    const struct json *what = key ? json_get(item, key) : item;

    if (what)
        json_write_sorted(&b, what);
    return arena_str(m->a, b.p ? buf_str(&b) : STR(""));
}

static size_t find(const struct items *l, struct str id) /* index + 1, or 0 */
{
    return (size_t)(uintptr_t)map_get(&l->at, id);
}

static void put(struct items *l, struct str id, const struct json *item)
{
    l->p[l->n++] = item;
    if (!find(l, id))
        map_set(&l->at, id, (void *)(uintptr_t)l->n);
}

static void load(struct merger *m, struct items *l, const struct json *list, const char *key, size_t spare)
{
    l->p = ARENA_ARRAY(m->a, const struct json *, json_len(list) + spare);
    json_each_item(it, list) {
        put(l, identity(m, it, key), it);
    }
}

struct ranked {
    const struct json *item;
    size_t rank, i;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static const struct json *ordered(struct merger *m, const struct json *merged, const struct json *order,
                                  const struct json *server, const char *key)
{
    AUTO(items_done) struct items wanted = {0}, before = {0};
    size_t n = json_len(merged), n_left = 0, n_right = 0, i = 0, k = 0, n_out = 0;
    struct ranked *left = ARENA_ARRAY(m->a, struct ranked, n), *right = ARENA_ARRAY(m->a, struct ranked, n);
    const struct json **out = ARENA_ARRAY(m->a, const struct json *, n);

    load(m, &wanted, order, key, 0);
    load(m, &before, server, key, 0);
    for (size_t j = 0; j < n; j++) {
        const struct json *item = json_item(merged, j);
        struct str id = identity(m, item, key);
        size_t rank = find(&wanted, id);

        if (rank)
            right[n_right++] = (struct ranked){item, rank, j};
        else
            left[n_left++] = (struct ranked){item, find(&before, id), j};
    }
    qsort(right, n_right, sizeof *right, by_rank);
    for (size_t j = 0; j < n_right; j++) /* from here on: the place at the server */
        right[j].rank = find(&before, identity(m, right[j].item, key));
    while (i < n_left || k < n_right) {
        bool both = i < n_left && k < n_right && left[i].rank && right[k].rank;

        if (k >= n_right || (both && left[i].rank < right[k].rank))
            out[n_out++] = left[i++].item;
        else
            out[n_out++] = right[k++].item;
    }
    return json_array_n(m->a, out, n_out);
}

static bool bad_directive(struct merger *m, struct str directive)
{
    return error_set(m->err, ERROR_BAD_REQUEST, "unrecognized type: " STR_FMT, STR_ARG(directive));
}

/* Applies the patch's special items to `list` and collects the plain ones. */
static bool special_items(struct merger *m, struct items *list, const struct json *patch, const char *key,
                          struct items *plain, bool *replace)
{
    json_each_item(it, patch) {
        const struct json *directive = json_get(it, "$patch");
        struct str word = json_str(directive);

        if (!directive) {
            plain->p[plain->n++] = it;
        } else if (str_is(word, "replace")) {
            *replace = true;
        } else if (str_is(word, "delete")) {
            size_t at;

            if (!json_get(it, key))
                return error_set(m->err, ERROR_BAD_REQUEST, "delete patch type with no merge key defined");
            at = find(list, identity(m, it, key));
            if (at)
                list->p[at - 1] = NULL;
        } else if (!str_is(word, "merge")) {
            return bad_directive(m, word);
        }
    }
    return true;
}

static bool merge_objects(struct merger *m, const struct schema_field *f, const struct json *target,
                          const struct json *patch, const struct json **ret)
{
    AUTO(items_done) struct items list = {0};
    struct items plain = {.p = ARENA_ARRAY(m->a, const struct json *, json_len(patch))};
    const char *key = f->patch_merge_key;
    bool replace = false;
    size_t kept = 0;

    load(m, &list, target, key, json_len(patch));
    if (!special_items(m, &list, patch, key, &plain, &replace))
        return false;
    if (replace)
        list.n = 0;
    for (size_t i = 0; i < plain.n; i++) {
        struct str id = identity(m, plain.p[i], key);
        const struct json *item;
        size_t at;

        if (!json_is(plain.p[i], JSON_OBJECT) || !json_get(plain.p[i], key))
            return error_set(m->err, ERROR_BAD_REQUEST, "map: does not contain declared merge key: %s", key);
        at = replace ? 0 : find(&list, id);
        if (!merge_object(m, f->type->item, at ? list.p[at - 1] : NULL, plain.p[i], &item))
            return false;
        if (at)
            list.p[at - 1] = item;
        else
            put(&list, id, item);
    }
    for (size_t i = 0; i < list.n; i++)
        if (list.p[i])
            list.p[kept++] = list.p[i];
    *ret = ordered(m, json_array_n(m->a, list.p, kept), json_array_n(m->a, plain.p, plain.n), target, key);
    return true;
}

static const struct json *merge_scalars(struct merger *m, const struct json *target, const struct json *patch)
{
    AUTO(items_done) struct items list = {0};

    list.p = ARENA_ARRAY(m->a, const struct json *, json_len(target) + json_len(patch));
    for (int side = 0; side < 2; side++) {
        json_each_item(it, side ? patch : target) {
            struct str id = identity(m, it, NULL);

            if (!find(&list, id))
                put(&list, id, it);
        }
    }
    return ordered(m, json_array_n(m->a, list.p, list.n), patch, target, NULL);
}

static bool merge_value(struct merger *m, const struct schema_field *f, const struct schema_type *t,
                        const struct json *target, const struct json *patch, const struct json **ret)
{
    bool merges = f && f->flags & SCHEMA_PATCH_MERGE;

    if (json_is(patch, JSON_OBJECT))
        return merge_object(m, t, json_is(target, JSON_OBJECT) ? target : NULL, patch, ret);
    if (json_is(patch, JSON_ARRAY) && merges && t && t->kind == SCHEMA_LIST) {
        if (f->patch_merge_key)
            return merge_objects(m, f, target, patch, ret);
        *ret = merge_scalars(m, target, patch);
        return true;
    }
    *ret = patch;
    return true;
}

/* Members of the target that $retainKeys does not name go; the patch may set only what is retained. */
static bool retain_keys(struct merger *m, const struct json *keys, const struct json *patch, struct members *target)
{
    struct map named = {0};
    bool all = true;

    if (!json_is(keys, JSON_ARRAY))
        return error_set(m->err, ERROR_BAD_REQUEST, "invalid patch format of $retainKeys");
    json_each_item(it, keys) {
        map_set(&named, json_str(it).p ? json_str(it) : STR(""), (void *)it);
    }
    for (size_t i = 0; i < target->n; i++) {
        struct str name = json_str(&target->p[i].key);

        if (name.p && !map_get(&named, name))
            members_set(target, name, NULL);
    }
    json_each_member(p, patch) {
        all &= (p->key.n && p->key.text[0] == '$') || map_get(&named, json_str(&p->key));
    }
    map_done(&named);
    return all || error_set(m->err, ERROR_BAD_REQUEST, "$retainKeys does not contain all the keys of the patch");
}

static bool delete_from(struct merger *m, struct str name, const struct json *values, struct members *target)
{
    const struct json *list = members_get(target, name);
    const struct json **p = ARENA_ARRAY(m->a, const struct json *, json_len(list));
    AUTO(items_done) struct items gone = {0};
    size_t n = 0;

    if (!json_is(values, JSON_ARRAY))
        return error_set(m->err, ERROR_BAD_REQUEST, "invalid patch format of $deleteFromPrimitiveList");
    if (!list)
        return true;
    load(m, &gone, values, NULL, 0);
    json_each_item(it, list) {
        if (!find(&gone, identity(m, it, NULL)))
            p[n++] = it;
    }
    members_set(target, name, json_array_n(m->a, p, n));
    return true;
}

static bool set_order(struct merger *m, const struct schema_type *t, struct str name, const struct json *order,
                      const struct json *server, struct members *target)
{
    const struct schema_field *f = t && t->kind == SCHEMA_OBJECT ? schema_field(t, name) : NULL;
    const struct json *list = members_get(target, name);
    const char *key = f ? f->patch_merge_key : NULL;

    if (!json_is(order, JSON_ARRAY))
        return error_set(m->err, ERROR_BAD_REQUEST, "invalid patch format of $setElementOrder");
    if (!json_is(list, JSON_ARRAY) || !f || !(f->flags & SCHEMA_PATCH_MERGE))
        return true;
    members_set(target, name, ordered(m, list, order, json_get_str(server, name), key));
    return true;
}

static bool merge_members(struct merger *m, const struct schema_type *t, const struct json *patch,
                          struct members *target)
{
    json_each_member(p, patch) {
        struct str name = json_str(&p->key);
        const struct schema_field *f = t && t->kind == SCHEMA_OBJECT ? schema_field(t, name) : NULL;
        const struct schema_type *below = f ? f->type : t && t->kind == SCHEMA_MAP ? t->item : NULL;
        const struct json *value = NULL;

        if (str_starts(name, STR("$patch")) || str_starts(name, STR("$retainKeys"))
            || str_starts(name, STR(SET_ORDER)) || str_starts(name, STR(DELETE_FROM)))
            continue;
        if (!json_is(&p->value, JSON_NULL)
            && !merge_value(m, f, below, members_get(target, name), &p->value, &value))
            return false;
        members_set(target, name, value);
    }
    return true;
}

static bool merge_object(struct merger *m, const struct schema_type *t, const struct json *target,
                         const struct json *patch, const struct json **ret)
{
    const struct json *directive = json_get(patch, "$patch"), *retain = json_get(patch, "$retainKeys");
    struct str word = json_str(directive);
    AUTO(members_done) struct members out;

    members_init(&out, m->a, directive && str_is(word, "replace") ? NULL : target, json_len(patch));
    if (directive && str_is(word, "delete")) {
        *ret = json_object(m->a, NULL);
        return true;
    }
    if (directive && !str_is(word, "replace") && !str_is(word, "merge"))
        return bad_directive(m, word);
    if (retain && !retain_keys(m, retain, patch, &out))
        return false;
    json_each_member(p, patch) {
        struct str name = json_str(&p->key);

        if (str_starts(name, STR(DELETE_FROM))
            && !delete_from(m, str_skip(name, strlen(DELETE_FROM)), &p->value, &out))
            return false;
    }
    if (!merge_members(m, t, patch, &out))
        return false;
    json_each_member(p, patch) {
        struct str name = json_str(&p->key);

        if (str_starts(name, STR(SET_ORDER))
            && !set_order(m, t, str_skip(name, strlen(SET_ORDER)), &p->value, target, &out))
            return false;
    }
    *ret = members_object(&out);
    return true;
}

bool strategic_merge(struct arena *a, const struct schema_type *t, const struct json *target,
                     const struct json *patch, const struct json **ret, struct error *err)
{
    struct merger m = {a, err};

    if (!json_is(patch, JSON_OBJECT))
        return error_set(err, ERROR_BAD_REQUEST, "json: cannot unmarshal %s into Go value of type map[string]interface {}",
                         json_is(patch, JSON_ARRAY) ? "array" : "value");
    return merge_object(&m, t, target, patch, ret);
}
