#include "api/openapi.h"

#include "api/members.h"
#include "api/rules.h"
#include "base/cleanup.h"
#include "base/vec.h"

#define DEPTH_MAX 64
#define LIST_META "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"

enum style { STYLE_V2, STYLE_V3, STYLE_CRD };
struct doc {
    struct arena *a;
    enum style style;
    struct map seen;      /* names that are in the document or in the queue */
    VEC(const struct schema_type *) queue;
};

static const struct json *z(struct doc *d, const char *text) { return json_new_z(d->a, text); }
static const struct json *yes(void) { return json_new_bool(true); }

static const struct json *texts(struct doc *d, const char *const *p)
{
    const struct json *list = json_array(d->a, NULL);

    for (size_t i = 0; p && p[i]; i++)
        list = json_append(d->a, list, z(d, p[i]));
    return list;
}

static const struct json *type_z(struct doc *d, const char *type, const char *format)
{
    return json_object(d->a, "type", z(d, type), "format", z(d, format), NULL);
}

static const struct json *either(struct doc *d, const char *word, const char *format, const char *one,
                                 const char *other)
{
    return json_object(d->a, "format", z(d, format), word,
                       json_array(d->a, type_z(d, one, NULL), type_z(d, other, NULL), NULL), NULL);
}

static const struct json *type_schema(struct doc *d, const struct schema_type *t, int depth);
static const struct json *field_schema(struct doc *d, const struct schema_field *f, int depth);

static const struct json *reference(struct doc *d, const struct schema_type *t)
{
    const char *where = d->style == STYLE_V2 ? "#/definitions/" : "#/components/schemas/";

    if (!map_get(&d->seen, str_of(t->name))) {
        map_set(&d->seen, str_of(t->name), (void *)t);
        vec_push(&d->queue, t);
    }
    return json_object(d->a, "$ref", z(d, arena_printf(d->a, "%s%s", where, t->name)), NULL);
}

static void put(struct doc *d, const struct json **o, const char *key, const struct json *value)
{
    if (value)
        *o = json_with(d->a, *o, key, value);
}

static const struct json *object_schema(struct doc *d, const struct schema_type *t, int depth)
{
    struct members properties;
    const struct json *o = json_object(d->a, "description", z(d, t->description), NULL);
    const struct json *required = json_array(d->a, NULL);

    members_init(&properties, d->a, NULL, t->n_fields);
    for (size_t i = 0; i < t->n_fields; i++) {
        if (t->fields[i].flags & SCHEMA_REQUIRED)
            required = json_append(d->a, required, z(d, t->fields[i].name));
        members_set(&properties, str_of(t->fields[i].name), field_schema(d, &t->fields[i], depth + 1));
    }
    for (size_t i = 0; t->rules && t->rules->required && t->rules->required[i]; i++)
        required = json_append(d->a, required, z(d, t->rules->required[i]));
    put(d, &o, "type", z(d, "object"));
    put(d, &o, "required", json_len(required) ? required : NULL);
    if (t->n_fields)
        put(d, &o, "properties", members_object(&properties));
    else
        members_done(&properties);
    if (t->flags & SCHEMA_PRESERVE_UNKNOWN)
        put(d, &o, "x-kubernetes-preserve-unknown-fields", yes());
    if (t->flags & SCHEMA_EMBEDDED)
        put(d, &o, "x-kubernetes-embedded-resource", yes());
    if (t->flags & SCHEMA_GRANULAR_ATOMIC)
        put(d, &o, "x-kubernetes-map-type", z(d, "atomic"));
    return o;
}

static const struct json *parsed(struct doc *d, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    return json_parse(str_of(text), d->a, &v, &err) ? v : NULL;
}

static void put_rules(struct doc *d, const struct json **o, const struct schema_rules *r)
{
    const struct {
        const char *name;
        bool has;
        double v;
    } numbers[] = {
        {"minimum", r->has_minimum, r->minimum},
        {"maximum", r->has_maximum, r->maximum},
        {"multipleOf", r->has_multiple_of, r->multiple_of},
        {"minLength", r->has_min_length, (double)r->min_length},
        {"maxLength", r->has_max_length, (double)r->max_length},
        {"minItems", r->has_min_items, (double)r->min_items},
        {"maxItems", r->has_max_items, (double)r->max_items},
        {"minProperties", r->has_min_properties, (double)r->min_properties},
        {"maxProperties", r->has_max_properties, (double)r->max_properties},
    };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        if (numbers[i].has)
            put(d, o, numbers[i].name, json_new_double(d->a, numbers[i].v));
    put(d, o, "exclusiveMinimum", r->exclusive_minimum ? yes() : NULL);
    put(d, o, "exclusiveMaximum", r->exclusive_maximum ? yes() : NULL);
    put(d, o, "pattern", z(d, r->pattern));
    put(d, o, "format", z(d, r->format));
    put(d, o, "enum", r->enums);
    if (d->style != STYLE_V2) { /* v2 has no place for these */
        put(d, o, "allOf", r->all_of_text);
        put(d, o, "anyOf", json_get(*o, "anyOf") ? NULL : r->any_of_text);
        put(d, o, "oneOf", json_get(*o, "oneOf") ? NULL : r->one_of_text);
        put(d, o, "not", r->not_text);
    }
    put(d, o, "x-kubernetes-validations", r->cel_text ? parsed(d, r->cel_text) : r->cel);
}

static const struct json *plain_schema(struct doc *d, const struct schema_type *t, int depth)
{
    bool crd = d->style == STYLE_CRD;

    switch (t->kind) {
    case SCHEMA_OBJECT:
        if (t->name && !crd)
            return reference(d, t);
        if (depth > DEPTH_MAX)
            return json_object(d->a, "type", z(d, "object"), "x-kubernetes-preserve-unknown-fields", yes(), NULL);
        return object_schema(d, t, depth);
    case SCHEMA_MAP:
        return json_object(d->a, "type", z(d, "object"), "additionalProperties", type_schema(d, t->item, depth + 1),
                           NULL);
    case SCHEMA_LIST:
        return json_object(d->a, "type", z(d, "array"), "items", type_schema(d, t->item, depth + 1), NULL);
    case SCHEMA_STRING:
    case SCHEMA_DURATION:
        return type_z(d, "string", NULL);
    case SCHEMA_BYTES:
        return type_z(d, "string", "byte");
    case SCHEMA_BOOL:
        return type_z(d, "boolean", NULL);
    case SCHEMA_INT32:
        return type_z(d, "integer", "int32");
    case SCHEMA_INT64:
        return type_z(d, "integer", "int64");
    case SCHEMA_NUMBER:
        return type_z(d, "number", NULL);
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
        return type_z(d, "string", "date-time");
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
        if (crd)
            return json_with(d->a, either(d, "anyOf", NULL, "integer", "string"), "x-kubernetes-int-or-string",
                             yes());
        if (d->style == STYLE_V2)
            return type_z(d, "string", t->kind == SCHEMA_QUANTITY ? NULL : "int-or-string");
        return t->kind == SCHEMA_QUANTITY ? either(d, "oneOf", NULL, "string", "number")
                                          : either(d, "oneOf", "int-or-string", "integer", "string");
    case SCHEMA_ANY:
        return crd ? json_object(d->a, "x-kubernetes-preserve-unknown-fields", yes(), NULL) : json_object(d->a, NULL);
    }
    return json_object(d->a, NULL);
}

static const struct json *type_schema(struct doc *d, const struct schema_type *t, int depth)
{
    const struct json *o = plain_schema(d, t, depth);

    if (t->rules)
        put_rules(d, &o, t->rules);
    return o;
}

static void put_lists(struct doc *d, const struct json **o, const struct schema_field *f)
{
    static const char *const names[] = {
        [SCHEMA_LIST_ATOMIC] = "atomic", [SCHEMA_LIST_SET] = "set", [SCHEMA_LIST_MAP] = "map"};

    if (f->type->kind == SCHEMA_LIST && f->list != SCHEMA_LIST_ATOMIC)
        put(d, o, "x-kubernetes-list-type", z(d, names[f->list]));
    if (f->list_keys)
        put(d, o, "x-kubernetes-list-map-keys", texts(d, f->list_keys));
    if (f->flags & SCHEMA_GRANULAR_ATOMIC)
        put(d, o, f->type->kind == SCHEMA_LIST ? "x-kubernetes-list-type" : "x-kubernetes-map-type", z(d, "atomic"));
    if (d->style == STYLE_CRD)
        return;
    put(d, o, "x-kubernetes-patch-merge-key", z(d, f->patch_merge_key));
    if (f->flags & (SCHEMA_PATCH_MERGE | SCHEMA_PATCH_RETAIN_KEYS))
        put(d, o, "x-kubernetes-patch-strategy",
            z(d, !(f->flags & SCHEMA_PATCH_RETAIN_KEYS) ? "merge"
                 : f->flags & SCHEMA_PATCH_MERGE        ? "merge,retainKeys"
                                                        : "retainKeys"));
}

static const struct json *with_enums(struct doc *d, const struct schema_field *f, const struct json *o)
{
    const char *below = f->type->kind == SCHEMA_LIST ? "items" : "additionalProperties";

    if (!f->enums)
        return o;
    if (f->type->kind != SCHEMA_LIST && f->type->kind != SCHEMA_MAP)
        return json_with(d->a, o, "enum", texts(d, f->enums));
    return json_with(d->a, o, below, json_with(d->a, json_get(o, below), "enum", texts(d, f->enums)));
}

static const struct json *field_schema(struct doc *d, const struct schema_field *f, int depth)
{
    const struct json *o, *deflt = NULL;
    struct error err = {0};

    if (d->style == STYLE_CRD && f->flags & SCHEMA_PRESERVE_UNKNOWN && f->type->kind == SCHEMA_OBJECT)
        o = json_object(d->a, "type", z(d, "object"), "x-kubernetes-preserve-unknown-fields", yes(), NULL);
    else
        o = type_schema(d, f->type, depth);
    if (json_get(o, "$ref") && d->style == STYLE_V3 && f->description)
        o = json_object(d->a, "allOf", json_array(d->a, o, NULL), NULL);
    if (f->description)
        o = json_with(d->a, o, "description", z(d, f->description));
    if (f->default_json && !json_parse(str_of(f->default_json), d->a, &deflt, &err))
        error_clear(&err);
    if (d->style != STYLE_V2)
        put(d, &o, "default", deflt);
    o = with_enums(d, f, o);
    if (f->flags & SCHEMA_NULLABLE && d->style == STYLE_CRD)
        put(d, &o, "nullable", yes());
    if (f->flags & SCHEMA_EMBEDDED)
        put(d, &o, "x-kubernetes-embedded-resource", yes());
    put_lists(d, &o, f);
    return o;
}

const struct json *openapi_crd_schema(struct arena *a, const struct schema_type *t)
{
    struct doc d = {.a = a, .style = STYLE_CRD};
    const struct json *o = object_schema(&d, t, 0);

    return json_with_at(a, o, "properties/metadata", type_z(&d, "object", NULL));
}

/* -- kinds ---------------------------------------------------------------------------------------- */

static const struct json *gvk(struct doc *d, const struct kind_info *k, const char *version, const char *kind)
{
    return json_object(d->a, "group", z(d, k->group), "kind", z(d, kind), "version", z(d, version), NULL);
}

/* A kind that came with a user's definition is none of ours. */
static bool is_dynamic(const struct kind_info *k)
{
    return schema_kind_find(str_of(k->group), str_of(k->plural)) != k;
}

/* Each version of a user's kind is described by a kind_info of its own; ours share one. */
static bool serves(const struct kind_info *k, const char *version)
{
    if (is_dynamic(k) && strcmp(k->version, version) != 0)
        return false;
    for (size_t i = 0; k->versions && k->versions[i]; i++)
        if (strcmp(k->versions[i], version) == 0)
            return true;
    return !k->versions && strcmp(k->version, version) == 0;
}

static const char *list_name(struct doc *d, const struct kind_info *k)
{
    return arena_printf(d->a, "%sList", k->type->name ? k->type->name : k->kind);
}

static const struct schema_type *type_named(const char *name)
{
    for (size_t i = 0; schema_types[i]; i++)
        if (schema_types[i]->name && strcmp(schema_types[i]->name, name) == 0)
            return schema_types[i];
    return NULL;
}

static const struct json *list_schema(struct doc *d, const struct kind_info *k, const struct json *gvks)
{
    const struct schema_type *meta = type_named(LIST_META);
    const struct json *properties = json_object(
        d->a, "apiVersion", type_z(d, "string", NULL), "items",
        json_object(d->a, "type", z(d, "array"), "items", reference(d, k->type), NULL), "kind",
        type_z(d, "string", NULL), "metadata", meta ? reference(d, meta) : type_z(d, "object", NULL), NULL);

    return json_object(d->a, "description", z(d, arena_printf(d->a, "A list of %s.", k->plural)), "type",
                       z(d, "object"), "required", json_array(d->a, z(d, "items"), NULL), "properties", properties,
                       "x-kubernetes-group-version-kind", gvks, NULL);
}

/* Versions of the kind that the document is about; NULL version: all of them. */
static const struct json *gvks_of(struct doc *d, const struct kind_info *k, const char *version, const char *kind)
{
    const struct json *list = json_array(d->a, NULL);

    if (version || !k->versions || is_dynamic(k))
        return json_append(d->a, list, gvk(d, k, version ? version : k->version, kind));
    for (size_t i = 0; k->versions[i]; i++)
        list = json_append(d->a, list, gvk(d, k, k->versions[i], kind));
    return list;
}

static void put_kind(struct doc *d, struct members *schemas, const struct kind_info *k, const char *version)
{
    if (!k->type->name)
        return;
    reference(d, k->type);
    if (!(k->flags & KIND_NO_STORE))
        members_set(schemas, str_of(list_name(d, k)), list_schema(d, k, gvks_of(d, k, version, k->list_kind)));
}

/* Everything in the queue, and what that refers to. */
static void drain(struct doc *d, struct members *schemas)
{
    for (size_t i = 0; i < d->queue.n; i++) {
        const struct schema_type *t = d->queue.p[i];

        members_set(schemas, str_of(t->name), object_schema(d, t, 0));
    }
}

static void put_gvks(struct doc *d, struct members *schemas, const struct kind_info *k, const char *version)
{
    const struct json *o = k->type->name ? members_get(schemas, str_of(k->type->name)) : NULL;

    if (o)
        members_set(schemas, str_of(k->type->name),
                    json_with(d->a, o, "x-kubernetes-group-version-kind", gvks_of(d, k, version, k->kind)));
}

/* -- paths ---------------------------------------------------------------------------------------- */

static const struct json *parameter(struct doc *d, const char *name, const char *in, const char *type,
                                    const char *description)
{
    bool path = strcmp(in, "path") == 0;

    if (d->style == STYLE_V3)
        return json_object(d->a, "name", z(d, name), "in", z(d, in), "description", z(d, description), "required",
                           path ? yes() : NULL, "schema", type_z(d, type, NULL), NULL);
    return json_object(d->a, "type", z(d, type), "description", z(d, description), "name", z(d, name), "in",
                       z(d, in), "required", path ? yes() : NULL, NULL);
}

static const struct json *write_parameters(struct doc *d, bool patch)
{
    return json_array(d->a, parameter(d, "dryRun", "query", "string", "All: nothing is stored."),
                      parameter(d, "fieldManager", "query", "string", "Who owns the fields that are set."),
                      parameter(d, "fieldValidation", "query", "string", "Ignore, Warn or Strict: unknown fields."),
                      patch ? parameter(d, "force", "query", "boolean", "Apply: take over the fields of others.")
                            : NULL,
                      NULL);
}

static const struct json *answer(struct doc *d, const struct json *ref)
{
    const struct json *schema = json_object(d->a, "schema", ref, NULL);

    if (d->style == STYLE_V2)
        return json_object(d->a, "200", json_object(d->a, "description", z(d, "OK"), "schema", ref, NULL), NULL);
    return json_object(d->a, "200",
                       json_object(d->a, "description", z(d, "OK"), "content",
                                   json_object(d->a, "application/json", schema, NULL), NULL),
                       NULL);
}

static const struct json *with_body(struct doc *d, const struct json *o, const struct json *ref, bool patch, bool custom)
{
    static const char *const patches[] = {"application/apply-patch+yaml", "application/json-patch+json",
                                          "application/merge-patch+json", "application/strategic-merge-patch+json"};
    const struct json *content = json_object(d->a, NULL), *any = json_object(d->a, "type", z(d, "object"), NULL);
    const struct json *body;

    if (d->style == STYLE_V2) {
        body = json_object(d->a, "name", z(d, "body"), "in", z(d, "body"), "required", yes(), "schema",
                           patch ? any : ref, NULL);
        return json_with(d->a, o, "parameters", json_append(d->a, json_get(o, "parameters"), body));
    }
    /* kubectl reads from here whether it may send a strategic patch; custom resources do not take one. */
    for (size_t i = 0; patch && i < ARRAY_SIZE(patches) - custom; i++)
        content = json_with(d->a, content, patches[i], json_object(d->a, "schema", any, NULL));
    if (!patch)
        content = json_object(d->a, "application/json", json_object(d->a, "schema", ref, NULL), NULL);
    return json_with(d->a, o, "requestBody", json_object(d->a, "content", content, "required", yes(), NULL));
}

static bool has_verb(const struct kind_info *k, const char *verb)
{
    for (size_t i = 0; k->verbs && k->verbs[i]; i++)
        if (strcmp(k->verbs[i], verb) == 0)
            return true;
    return !k->verbs;
}

static void put_operation(struct doc *d, const struct json **item, const struct kind_info *k, const char *version,
                          const char *method, const char *action, const char *below)
{
    bool patch = strcmp(method, "patch") == 0, body = patch || strcmp(method, "post") == 0 || !strcmp(method, "put");
    bool list = strcmp(action, "list") == 0, custom = (k->flags & KIND_CRD) || is_dynamic(k);
    const char *target = list ? list_name(d, k) : k->type->name;
    const struct json *ref = json_object(
        d->a, "$ref",
        z(d, arena_printf(d->a, "%s%s", d->style == STYLE_V2 ? "#/definitions/" : "#/components/schemas/", target)),
        NULL);
    const struct json *o = json_object(
        d->a, "description", z(d, arena_printf(d->a, "%s %s%s", action, k->plural, below)), "operationId",
        z(d, arena_printf(d->a, "%s_%s_%s_%s%s%s", action, *k->group ? k->group : "core", version, k->plural,
                          *below ? "_" : "", *below ? below + 1 : "")),
        "parameters", body ? write_parameters(d, patch) : NULL, "responses", answer(d, ref), "x-kubernetes-action",
        z(d, action), "x-kubernetes-group-version-kind", gvk(d, k, version, k->kind), NULL);

    if (!has_verb(k, strcmp(action, "post") == 0 ? "create" : strcmp(action, "put") == 0 ? "update" : action))
        return;
    *item = json_with(d->a, *item, method, body ? with_body(d, o, ref, patch, custom) : o);
}

static const struct json *path_parameters(struct doc *d, bool namespaced, bool named)
{
    return json_array(d->a, named ? parameter(d, "name", "path", "string", "Name of the object.") : NULL,
                      namespaced ? parameter(d, "namespace", "path", "string", "Namespace of the object.") : NULL,
                      NULL);
}

static const struct json *with_parameters(struct doc *d, const struct json *item, const struct json *more)
{
    return json_len(more) && json_len(item) ? json_with(d->a, item, "parameters", more) : item;
}

static void put_paths(struct doc *d, struct members *paths, const struct kind_info *k, const char *version)
{
    static const char *const below[] = {"", "/status"};
    const char *root = *k->group ? arena_printf(d->a, "/apis/%s/%s", k->group, version)
                                 : arena_printf(d->a, "/api/%s", version);
    bool namespaced = k->flags & KIND_NAMESPACED;
    const char *all = arena_printf(d->a, "%s/%s%s", root, namespaced ? "namespaces/{namespace}/" : "", k->plural);
    const struct json *item = json_object(d->a, NULL);

    if (!k->type->name)
        return;
    put_operation(d, &item, k, version, "get", "list", "/allnamespaces");
    if (namespaced && json_len(item))
        members_set(paths, str_of(arena_printf(d->a, "%s/%s", root, k->plural)), item);
    item = json_object(d->a, NULL);
    put_operation(d, &item, k, version, "get", "list", "");
    put_operation(d, &item, k, version, "post", "post", "");
    put_operation(d, &item, k, version, "delete", "deletecollection", "");
    members_set(paths, str_of(all), with_parameters(d, item, path_parameters(d, namespaced, false)));
    for (size_t i = 0; i < (k->flags & KIND_STATUS ? 2u : 1u); i++) {
        item = json_object(d->a, NULL);
        put_operation(d, &item, k, version, "get", "get", below[i]);
        put_operation(d, &item, k, version, "put", "put", below[i]);
        put_operation(d, &item, k, version, "patch", "patch", below[i]);
        if (i == 0)
            put_operation(d, &item, k, version, "delete", "delete", below[i]);
        if (json_len(item))
            members_set(paths, str_of(arena_printf(d->a, "%s/{name}%s", all, below[i])),
                        with_parameters(d, item, path_parameters(d, namespaced, true)));
    }
}

static const struct json *info(struct doc *d)
{
    return json_object(d->a, "title", z(d, "Kubernetes"), "version", z(d, VIREO_VERSION), NULL);
}

const struct json *openapi_v3(struct arena *a, const char *group, const char *version,
                              const struct kind_info *const *kinds, size_t n)
{
    struct doc d = {.a = a, .style = STYLE_V3};
    struct members schemas, paths;
    const struct json *ret;

    members_init(&schemas, a, NULL, 64);
    members_init(&paths, a, NULL, 64);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            if (strcmp(kinds[i]->group, group) != 0 || !serves(kinds[i], version))
                continue;
            if (pass == 0) {
                put_kind(&d, &schemas, kinds[i], version);
                put_paths(&d, &paths, kinds[i], version);
            } else {
                put_gvks(&d, &schemas, kinds[i], version);
            }
        }
        drain(&d, &schemas);
        vec_done(&d.queue);
    }
    map_done(&d.seen);
    ret = json_object(a, "openapi", json_new_z(a, "3.0.0"), "info", info(&d), "paths", members_object(&paths),
                      "components", json_object(a, "schemas", members_object(&schemas), NULL), NULL);
    return ret;
}

const struct json *openapi_v2(struct arena *a, const struct kind_info *const *kinds, size_t n)
{
    struct doc d = {.a = a, .style = STYLE_V2};
    struct members schemas, paths;

    members_init(&schemas, a, NULL, 1024);
    members_init(&paths, a, NULL, 512);
    for (size_t i = 0; i < n; i++) {
        if (is_dynamic(kinds[i]) && !serves(kinds[i], kinds[i]->version))
            continue;
        put_kind(&d, &schemas, kinds[i], NULL);
        for (size_t k = 0; kinds[i]->versions && kinds[i]->versions[k]; k++)
            if (serves(kinds[i], kinds[i]->versions[k]))
                put_paths(&d, &paths, kinds[i], kinds[i]->versions[k]);
    }
    drain(&d, &schemas);
    for (size_t i = 0; i < n; i++)
        put_gvks(&d, &schemas, kinds[i], NULL);
    vec_done(&d.queue);
    map_done(&d.seen);
    return json_object(a, "swagger", json_new_z(a, "2.0"), "info", info(&d), "paths", members_object(&paths),
                       "definitions", members_object(&schemas), NULL);
}
