#include "api/schema.h"

#include "api/views.h"

const struct schema_field *schema_field(const struct schema_type *t, struct str name)
{
    size_t low = 0, high = t->n_fields;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = str_cmp(name, str_of(t->fields[middle].name));

        if (order == 0)
            return &t->fields[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct kind_info *schema_kind_find(struct str group, struct str plural)
{
    for (size_t i = 0; schema_kinds[i]; i++)
        if (str_is(plural, schema_kinds[i]->plural) && str_is(group, schema_kinds[i]->group))
            return schema_kinds[i];
    return NULL;
}

const struct kind_info *schema_kind_by_name(struct str group, struct str kind)
{
    for (size_t i = 0; schema_kinds[i]; i++)
        if (str_is(kind, schema_kinds[i]->kind) && str_is(group, schema_kinds[i]->group))
            return schema_kinds[i];
    return NULL;
}

struct str str_map_get(const struct str_map *m, struct str key)
{
    for (size_t i = 0; i < m->n; i++)
        if (str_eq(m->p[i].key, key))
            return m->p[i].value;
    return STR_NONE;
}
