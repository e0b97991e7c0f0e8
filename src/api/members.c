#include "api/members.h"

#define MAP_FROM 24

static void map_all(struct members *m)
{
    if (m->mapped || m->n < MAP_FROM)
        return;
    m->mapped = true;
    for (size_t i = 0; i < m->n; i++)
        if (m->p[i].key.type == JSON_STRING)
            map_set(&m->at, json_str(&m->p[i].key), (void *)(uintptr_t)(i + 1));
}

void members_init(struct members *m, struct arena *a, const struct json *object, size_t spare)
{
    size_t n = json_is(object, JSON_OBJECT) ? object->n : 0;

    *m = (struct members){.a = a, .n = n, .cap = n + spare};
    m->p = ARENA_ARRAY(a, struct json_member, m->cap);
    if (n)
        memcpy(m->p, object->members, n * sizeof *m->p);
    map_all(m);
}

void members_done(struct members *m) { map_done(&m->at); }

static size_t find(const struct members *m, struct str name) /* index + 1 */
{
    if (m->mapped)
        return (size_t)(uintptr_t)map_get(&m->at, name);
    for (size_t i = m->n; i-- > 0;)
        if (m->p[i].key.type == JSON_STRING && str_eq(json_str(&m->p[i].key), name))
            return i + 1;
    return 0;
}

const struct json *members_get(const struct members *m, struct str name)
{
    size_t i = find(m, name);

    return i ? &m->p[i - 1].value : NULL;
}

void members_set(struct members *m, struct str name, const struct json *value)
{
    size_t i = find(m, name);

    if (!value) {
        if (i) {
            m->p[i - 1].key.type = JSON_NULL;
            if (m->mapped)
                map_del(&m->at, name);
        }
        return;
    }
    if (i) {
        m->p[i - 1].value = *value;
        return;
    }
    if (m->n == m->cap) {
        struct json_member *bigger = ARENA_ARRAY(m->a, struct json_member, m->cap ? m->cap * 2 : 8);

        if (m->n)
            memcpy(bigger, m->p, m->n * sizeof *bigger);
        m->p = bigger;
        m->cap = m->cap ? m->cap * 2 : 8;
    }
    m->p[m->n++] = json_member_of(m->a, name, value);
    if (m->mapped)
        map_set(&m->at, name, (void *)(uintptr_t)m->n);
    else
        map_all(m);
}

const struct json *members_object(struct members *m)
{
    struct json *v = ARENA_NEW(m->a, struct json);
    size_t n = 0;

    for (size_t i = 0; i < m->n; i++)
        if (m->p[i].key.type == JSON_STRING)
            m->p[n++] = m->p[i];
    *v = (struct json){.members = m->p, .n = (uint32_t)n, .type = JSON_OBJECT};
    members_done(m);
    m->mapped = false;
    return v;
}
