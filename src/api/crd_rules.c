/* What holds for every schema of a definition, structural or not: words that are not supported, lists and maps, defaults
 * where there may be none. One walk over all that is a schema. */
#include "api/crd_parts.h"

static const char *const types[] = {"array",  "boolean", "integer", "number",
                                    "object", "string",  NULL};

/* How the place lies in the whole. */
struct place {
    const char *no_default; /* why there may be no default here; NULL: there may */
    bool root, in_meta;
};

static void walk(struct crd_check *c, const struct json *s, struct place at);

static bool is_set(const struct json *s, const char *key)
{
    const struct json *v = json_get(s, key);

    return v && !json_is(v, JSON_NULL);
}

static void check_words(struct crd_check *c, const struct json *s, const struct place *at)
{
    static const char *const unsupported[] = {"id",          "additionalItems", "patternProperties",
                                              "definitions", "dependencies",    "$ref"};
    struct str type = crd_type(s);
    bool known = !type.n;

    for (size_t i = 0; types[i]; i++)
        known |= str_is(type, types[i]);
    if (!known)
        crd_unsupported(c, ".type", type, types);
    if (is_set(s, "default") && at->no_default)
        crd_forbidden(c, ".default", arena_printf(c->a, "must not be set %s", at->no_default));
    for (size_t i = 0; i < ARRAY_SIZE(unsupported); i++) {
        const struct json *v = json_get(s, unsupported[i]);

        if (is_set(s, unsupported[i]) && (i == 1 || i == 5 || json_len(v) || json_str(v).n))
            crd_forbidden(c, arena_printf(c->a, ".%s", unsupported[i]),
                          arena_printf(c->a, "%s is not supported", unsupported[i]));
    }
    if (str_is(type, "null"))
        crd_forbidden(c, ".type", "type cannot be set to null, use nullable as an alternative");
    if (json_is(json_get(s, "items"), JSON_ARRAY) && json_len(json_get(s, "items")))
        crd_forbidden(c, ".items", "items must be a schema object and not an array");
    if (at->in_meta && json_bool(json_get(s, "x-kubernetes-embedded-resource")))
        crd_forbidden(c, ".x-kubernetes-embedded-resource",
                      "must not be used inside of resource meta");
    if (json_bool(json_get(s, "uniqueItems")))
        crd_forbidden(
            c, ".uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
}

/* -- lists and maps ------------------------------------------------------------------------------- */

static void needs_type(struct crd_check *c, const struct json *s, const char *type,
                       const char *because)
{
    const char *why = arena_printf(c->a, "must be %s if %s is specified", type, because);

    if (crd_type(s).n)
        crd_invalid(c, ".type", json_get(s, "type"), why);
    else
        crd_required(c, ".type", why);
}

static void check_set(struct crd_check *c, const struct json *items)
{
    static const char why[] = "must be atomic as item of a list with x-kubernetes-list-type=set";
    const struct json *list = json_get(items, "x-kubernetes-list-type");

    if (crd_is(items, "type", "array") && list
        && !crd_is(items, "x-kubernetes-list-type", "atomic"))
        crd_invalid(c, ".items.x-kubernetes-list-type", list, why);
    if (crd_is(items, "type", "object") && !crd_is(items, "x-kubernetes-map-type", "atomic"))
        crd_invalid(c, ".items.x-kubernetes-map-type", list, why);
}

static bool named(const struct json *list, struct str name)
{
    json_each_item(it, list) {
        if (str_eq(json_str(it), name))
            return true;
    }
    return false;
}

static void check_key(struct crd_check *c, const struct json *items, const struct json *keys,
                      struct str key, size_t i)
{
    const struct json *f = json_get_str(json_get(items, "properties"), key);

    if (!f)
        crd_invalid(c, ".x-kubernetes-list-map-keys", keys,
                    "entries must all be names of item properties");
    else if (crd_is(f, "type", "array") || crd_is(f, "type", "object"))
        crd_invalid(c, arena_printf(c->a, ".items.properties[" STR_FMT "].type", STR_ARG(key)),
                    json_get(items, "type"),
                    "must be a scalar type if parent array's x-kubernetes-list-type is map");
    for (size_t k = 0; k < i; k++)
        if (str_eq(json_str(json_item(keys, k)), key)) {
            crd_invalid(c, ".x-kubernetes-list-map-keys", keys,
                        "must not contain duplicate entries");
            break;
        }
}

static void check_map_list(struct crd_check *c, const struct json *s)
{
    const struct json *items = json_get(s, "items"),
                      *keys = json_get(s, "x-kubernetes-list-map-keys");
    size_t i = 0;

    if (!json_len(keys))
        crd_required(c, ".x-kubernetes-list-map-keys",
                     "must not be empty if x-kubernetes-list-type is map");
    if (!items)
        crd_required(c, ".items", "must have a schema if x-kubernetes-list-type is map");
    if (!json_is(items, JSON_OBJECT))
        return;
    if (!crd_is(items, "type", "object")) {
        crd_invalid(c, ".items.type",
                    json_new_str(c->a, crd_type(items).p ? crd_type(items) : STR("")),
                    "must be object if parent array's x-kubernetes-list-type is map");
        return;
    }
    json_each_item(it, keys) {
        if (i < 64) /* more keys than that are no longer keys */
            check_key(c, items, keys, json_str(it), i);
        i++;
    }
}

/* Keys have to be there, or be given. */
static void check_map_keys(struct crd_check *c, const struct json *s)
{
    const struct json *items = json_get(s, "items");
    size_t i = 0;

    json_each_item(it, json_get(s, "x-kubernetes-list-map-keys")) {
        struct str key = json_str(it);
        const struct json *f = json_get_str(json_get(items, "properties"), key);

        if (!f || ++i > 64)
            continue;
        if (!named(json_get(items, "required"), key) && !is_set(f, "default"))
            crd_required(c,
                         arena_printf(c->a, ".items.properties[" STR_FMT "].default", STR_ARG(key)),
                         "this property is in x-kubernetes-list-map-keys, so it must have a "
                         "default or be a required "
                         "property");
        if (json_bool(json_get(f, "nullable")))
            crd_forbidden(
                c, arena_printf(c->a, ".items.properties[" STR_FMT "].nullable", STR_ARG(key)),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
    }
}

static void check_lists(struct crd_check *c, const struct json *s)
{
    static const char *const lists[] = {"atomic", "set", "map", NULL}, *const maps[] = {"atomic",
                                                                                        "granular",
                                                                                        NULL};
    const struct json *list = json_get(s, "x-kubernetes-list-type"),
                      *map = json_get(s, "x-kubernetes-map-type");
    const struct json *items = json_get(s, "items");
    struct str kind = json_str(list);
    bool of_set = str_is(kind, "set"), of_map = str_is(kind, "map");

    if (map && !crd_is(s, "type", "object"))
        needs_type(c, s, "object", "x-kubernetes-map-type");
    if (map && !str_is(json_str(map), "atomic") && !str_is(json_str(map), "granular"))
        crd_unsupported(c, ".x-kubernetes-map-type", json_str(map), maps);
    if (list && !crd_is(s, "type", "array"))
        needs_type(c, s, "array", "x-kubernetes-list-type");
    else if (of_set && json_is(items, JSON_OBJECT))
        check_set(c, items);
    if (list && !of_set && !of_map && !str_is(kind, "atomic"))
        crd_unsupported(c, ".x-kubernetes-list-type", kind, lists);
    if (json_len(json_get(s, "x-kubernetes-list-map-keys")) && !of_map) {
        if (list)
            crd_invalid(c, ".x-kubernetes-list-type", list,
                        "must be map if x-kubernetes-list-map-keys is non-empty");
        else
            crd_required(c, ".x-kubernetes-list-type",
                         "must be map if x-kubernetes-list-map-keys is non-empty");
    }
    if (of_map)
        check_map_list(c, s);
    if ((of_map || of_set) && json_bool(json_get(items, "nullable")))
        crd_forbidden(c, ".items.nullable",
                      arena_printf(c->a,
                                   "cannot be nullable when x-kubernetes-list-type is " STR_FMT,
                                   STR_ARG(kind)));
    if (of_map && json_is(items, JSON_OBJECT))
        check_map_keys(c, s);
}

/* -- the walk ------------------------------------------------------------------------------------- */

static bool is_meta_field(struct str key)
{
    return str_is(key, "metadata") || str_is(key, "kind") || str_is(key, "apiVersion");
}

static void walk_properties(struct crd_check *c, const struct json *s, struct place at)
{
    bool whole = at.root || json_bool(json_get(s, "x-kubernetes-embedded-resource"));

    json_each_member(m, json_get(s, "properties")) {
        struct place below = {.no_default = at.no_default, .in_meta = at.in_meta};
        struct str key = json_str(&m->key);
        size_t before;

        if (whole && is_meta_field(key)) {
            below.in_meta = true;
            if (at.root)
                below.no_default = arena_printf(c->a, "in top-level " STR_FMT, STR_ARG(key));
        }
        before = crd_enter(c, ".properties[" STR_FMT "]", STR_ARG(key));
        walk(c, &m->value, below);
        crd_leave(c, before);
    }
}

static void walk_list(struct crd_check *c, const struct json *s, const char *word, struct place at)
{
    size_t n = 0;

    json_each_item(it, json_get(s, word)) {
        size_t before = crd_enter(c, ".%s[%zu]", word, n++);

        walk(c, it, at);
        crd_leave(c, before);
    }
}

static void walk_one(struct crd_check *c, const struct json *s, const char *word, struct place at)
{
    size_t before;

    if (!json_is(json_get(s, word), JSON_OBJECT))
        return;
    before = crd_enter(c, ".%s", word);
    walk(c, json_get(s, word), at);
    crd_leave(c, before);
}

static void walk(struct crd_check *c, const struct json *s, struct place at)
{
    struct place below = {.no_default = at.no_default, .in_meta = at.in_meta}, more = below;

    if (!json_is(s, JSON_OBJECT) || ++c->nodes > 4 * CRD_NODES_MAX)
        return;
    check_words(c, s, &at);
    if (is_set(s, "additionalProperties") && json_len(json_get(s, "properties"))
        && !json_bool(json_get(s, "additionalProperties")))
        crd_forbidden(c, ".additionalProperties",
                      "additionalProperties and properties are mutual exclusive");
    if (at.in_meta)
        more.no_default = "inside additionalProperties applying to object metadata";
    walk_one(c, s, "additionalProperties", more);
    walk_properties(c, s, at);
    walk_one(c, s, "not", below);
    walk_list(c, s, "allOf", below);
    walk_list(c, s, "oneOf", below);
    walk_list(c, s, "anyOf", below);
    walk_one(c, s, "items", below);
    if (json_is(json_get(s, "x-kubernetes-preserve-unknown-fields"), JSON_FALSE))
        crd_invalid(c, ".x-kubernetes-preserve-unknown-fields", json_new_bool(false),
                    "must be true or undefined");
    check_lists(c, s);
}

void crd_rules(struct crd_check *c, const struct json *schema)
{
    c->nodes = 0;
    walk(c, schema, (struct place){.root = true});
}
