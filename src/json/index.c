#include "json/index.h"

enum { LINEAR_MAX = 24 };

static struct str key_of(const struct json_member *m) { return str_n(m->key.text, m->key.n); }

void json_index_init(struct json_index *x, const struct json *object)
{
    *x = (struct json_index){.object = object};
    if (json_len(object) <= LINEAR_MAX)
        return;
    json_each_member (m, object)
        map_set(&x->map, key_of(m), (void *)(uintptr_t)m);
}

void json_index_done(struct json_index *x) { map_done(&x->map); }

const struct json_member *json_index_get(const struct json_index *x, struct str key)
{
    if (x->map.n > 0)
        return map_get(&x->map, key);
    if (!json_is(x->object, JSON_OBJECT))
        return NULL;
    for (size_t i = x->object->n; i > 0; i--)
        if (str_eq(key_of(&x->object->members[i - 1]), key))
            return &x->object->members[i - 1];
    return NULL;
}
