#include "api/crd.h"

#include "api/meta.h"
#include "api/names.h"
#include "api/openapi.h"
#include "api/regex.h"
#include "api/rules.h"
#include "api/types.h"
#include "base/cleanup.h"

#define PROPERTIES_MAX 4096 /* of one object; lookups among them are linear */

struct builder {
    struct arena *a;
    struct schema_causes *causes; /* NULL: only build */
};

static const char *text_of(struct builder *b, const struct json *v)
{
    return json_is(v, JSON_STRING) && v->n ? arena_strdup(b->a, json_str(v)) : NULL;
}

static const char *const *texts_of(struct builder *b, const struct json *list)
{
    const char **p = ARENA_ARRAY(b->a, const char *, json_len(list) + 1);
    size_t n = 0;

    json_each_item(it, list) {
        if (json_is(it, JSON_STRING))
            p[n++] = arena_strdup(b->a, json_str(it));
    }
    return n ? p : NULL;
}

static void complain(struct builder *b, const char *reason, const char *path, const char *below, const char *message)
{
    if (b->causes)
        schema_cause_add(b->causes, b->a, reason, arena_printf(b->a, "%s%s", path, below), "%s", message);
}

static void required(struct builder *b, const char *path, const char *below, const char *why)
{
    complain(b, "FieldValueRequired", path, below, arena_printf(b->a, "Required value%s%s", *why ? ": " : "", why));
}

static void forbidden(struct builder *b, const char *path, const char *below, const char *why)
{
    complain(b, "FieldValueForbidden", path, below, arena_printf(b->a, "Forbidden: %s", why));
}

static void invalid(struct builder *b, const char *path, const char *below, const struct json *v, const char *why)
{
    AUTO(buf_done) struct buf shown = {.limit = 2048};

    json_write_sorted(&shown, v ? v : json_null());
    complain(b, "FieldValueInvalid", path, below, arena_printf(b->a, "Invalid value: %s: %s", shown.p ? shown.p : "", why));
}

/* -- schemas -------------------------------------------------------------------------------------- */

static struct schema_type *build(struct builder *b, const struct json *s, const char *path, bool branch);

static bool count(const struct json *s, const char *key, int64_t *ret)
{
    return json_i64(json_get(s, key), ret) && *ret >= 0;
}

static const struct schema_type *const *branches(struct builder *b, const struct json *list, const char *path,
                                                 const char *word)
{
    const struct schema_type **p = ARENA_ARRAY(b->a, const struct schema_type *, json_len(list) + 1);
    size_t n = 0;

    json_each_item(it, list) {
        p[n] = build(b, it, arena_printf(b->a, "%s.%s[%zu]", path, word, n), true);
        n++;
    }
    return n ? p : NULL;
}

static void build_pattern(struct builder *b, const struct json *s, const char *path, struct schema_rules *r)
{
    AUTO(error_clear) struct error err = {0};

    r->pattern = text_of(b, json_get(s, "pattern"));
    if (r->pattern && !regex_compile(b->a, str_of(r->pattern), &r->regex, &err))
        invalid(b, path, ".pattern", json_get(s, "pattern"),
                arena_printf(b->a, "must be a valid regular expression, but isn't: %s", error_text(&err)));
}

static const struct schema_rules *build_rules(struct builder *b, const struct json *s, const char *path)
{
    struct schema_rules r = {0}, *ret;
    static const struct schema_rules none;

    r.has_minimum = json_double(json_get(s, "minimum"), &r.minimum);
    r.has_maximum = json_double(json_get(s, "maximum"), &r.maximum);
    r.has_multiple_of = json_double(json_get(s, "multipleOf"), &r.multiple_of);
    r.exclusive_minimum = json_bool(json_get(s, "exclusiveMinimum"));
    r.exclusive_maximum = json_bool(json_get(s, "exclusiveMaximum"));
    r.has_min_length = count(s, "minLength", &r.min_length);
    r.has_max_length = count(s, "maxLength", &r.max_length);
    r.has_min_items = count(s, "minItems", &r.min_items);
    r.has_max_items = count(s, "maxItems", &r.max_items);
    r.has_min_properties = count(s, "minProperties", &r.min_properties);
    r.has_max_properties = count(s, "maxProperties", &r.max_properties);
    build_pattern(b, s, path, &r);
    r.format = text_of(b, json_get(s, "format"));
    r.enums = json_is(json_get(s, "enum"), JSON_ARRAY) ? json_get(s, "enum") : NULL;
    r.cel = json_len(json_get(s, "x-kubernetes-validations")) ? json_get(s, "x-kubernetes-validations") : NULL;
    r.all_of_text = json_get(s, "allOf");
    r.any_of_text = json_get(s, "anyOf");
    r.one_of_text = json_get(s, "oneOf");
    r.not_text = json_get(s, "not");
    r.all_of = branches(b, r.all_of_text, path, "allOf");
    r.any_of = branches(b, r.any_of_text, path, "anyOf");
    r.one_of = branches(b, r.one_of_text, path, "oneOf");
    if (json_is(r.not_text, JSON_OBJECT))
        r.not_ = build(b, r.not_text, arena_printf(b->a, "%s.not", path), true);
    if (memcmp(&r, &none, sizeof r) == 0)
        return NULL;
    ret = ARENA_NEW(b->a, struct schema_rules);
    *ret = r;
    return ret;
}

static int by_name(const void *x, const void *y)
{
    const struct schema_field *a = x, *c = y;

    return strcmp(a->name, c->name);
}

static void build_list(struct builder *b, struct schema_field *f, const struct json *s, const char *path)
{
    struct str list = json_str(json_get(s, "x-kubernetes-list-type"));

    f->list_keys = texts_of(b, json_get(s, "x-kubernetes-list-map-keys"));
    if (str_is(list, "set"))
        f->list = SCHEMA_LIST_SET;
    else if (str_is(list, "map"))
        f->list = SCHEMA_LIST_MAP;
    else if (str_is(list, "atomic"))
        f->flags |= SCHEMA_GRANULAR_ATOMIC;
    if (f->list == SCHEMA_LIST_MAP && !f->list_keys)
        required(b, path, ".x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map");
    for (size_t i = 0; f->list_keys && f->list_keys[i]; i++)
        if (f->type->kind != SCHEMA_LIST || f->type->item->kind != SCHEMA_OBJECT
            || !schema_field(f->type->item, str_of(f->list_keys[i])))
            invalid(b, path, ".x-kubernetes-list-map-keys", json_get(s, "x-kubernetes-list-map-keys"),
                    "entries must all be names of item properties");
}

static void build_default(struct builder *b, struct schema_field *f, const struct json *s, const char *path)
{
    const struct json *deflt = json_get(s, "default");
    AUTO_FREE char *text = deflt ? json_text(deflt) : NULL;
    struct schema_causes causes = {0};

    if (!text)
        return;
    f->default_json = arena_strdup(b->a, str_of(text));
    schema_validate(f->type, deflt, b->a, &causes);
    if (causes.n && !(json_is(deflt, JSON_NULL) && f->flags & SCHEMA_NULLABLE))
        invalid(b, path, ".default", deflt, causes.p[0].message);
}

static void build_field(struct builder *b, struct schema_field *f, const struct json *s, const char *path, bool branch)
{
    f->type = build(b, s, path, branch);
    f->description = text_of(b, json_get(s, "description"));
    f->offset = UINT32_MAX;
    if (json_bool(json_get(s, "nullable")))
        f->flags |= SCHEMA_NULLABLE;
    if (f->type->flags & SCHEMA_GRANULAR_ATOMIC)
        f->flags |= SCHEMA_GRANULAR_ATOMIC;
    build_list(b, f, s, path);
    build_default(b, f, s, path);
}

static void add_field(struct builder *b, struct schema_field *fields, size_t *n, const char *name,
                      const struct schema_type *t)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(fields[i].name, name) == 0) {
            fields[i] = (struct schema_field){.name = name, .type = t, .offset = UINT32_MAX};
            return;
        }
    (void)b;
    fields[(*n)++] = (struct schema_field){.name = name, .type = t, .offset = UINT32_MAX};
}

static bool named_in(const struct json *list, const char *name)
{
    json_each_item(it, list) {
        if (str_is(json_str(it), name))
            return true;
    }
    return false;
}

/* Fields of an object; `whole`: with apiVersion, kind and metadata of its own. */
static void build_object(struct builder *b, struct schema_type *t, const struct json *s, const char *path, bool branch,
                         bool whole)
{
    static const struct schema_type text = {.kind = SCHEMA_STRING};
    const struct json *properties = json_get(s, "properties"), *must = json_get(s, "required");
    struct schema_field *f = ARENA_ARRAY(b->a, struct schema_field, json_len(properties) + 3);
    const char **extra = ARENA_ARRAY(b->a, const char *, json_len(must) + 1);
    size_t n = 0, n_extra = 0;

    if (json_len(properties) > PROPERTIES_MAX || json_len(must) > PROPERTIES_MAX) {
        complain(b, "FieldValueTooMany", path, ".properties", "Too many: must have at most 4096 items");
        return;
    }
    json_each_member(m, properties) {
        f[n].name = arena_strdup(b->a, json_str(&m->key));
        build_field(b, &f[n], &m->value, arena_printf(b->a, "%s.properties[%s]", path, f[n].name), branch);
        n++;
    }
    if (whole) {
        add_field(b, f, &n, "apiVersion", &text);
        add_field(b, f, &n, "kind", &text);
        add_field(b, f, &n, "metadata", &schema_type_meta_object_meta);
    }
    if (n)
        qsort(f, n, sizeof *f, by_name);
    t->fields = f;
    t->n_fields = n;
    for (size_t i = 0; i < n; i++)
        if (named_in(must, f[i].name))
            f[i].flags |= SCHEMA_REQUIRED;
    json_each_item(it, must) {
        if (json_is(it, JSON_STRING) && !schema_field(t, json_str(it)))
            extra[n_extra++] = arena_strdup(b->a, json_str(it));
    }
    if (n_extra) {
        struct schema_rules *r = ARENA_NEW(b->a, struct schema_rules);

        if (t->rules)
            *r = *t->rules;
        r->required = extra;
        t->rules = r;
    }
}

static void build_container(struct builder *b, struct schema_type *t, const struct json *s, const char *path,
                            bool branch, bool whole)
{
    const struct json *more = json_get(s, "additionalProperties"), *properties = json_get(s, "properties");
    static const struct schema_type any = {.kind = SCHEMA_ANY};

    if (more && json_len(properties))
        forbidden(b, path, ".additionalProperties", "additionalProperties and properties are mutual exclusive");
    if (json_is(more, JSON_OBJECT) || json_bool(more)) {
        t->kind = SCHEMA_MAP;
        t->item = json_is(more, JSON_OBJECT) && json_len(more)
                      ? build(b, more, arena_printf(b->a, "%s.additionalProperties", path), branch)
                      : &any;
        return;
    }
    t->kind = SCHEMA_OBJECT;
    build_object(b, t, s, path, branch, whole);
}

static void refuse_unsupported(struct builder *b, const struct json *s, const char *path)
{
    if (json_get(s, "$ref"))
        forbidden(b, path, ".$ref", "$ref is not supported");
    if (json_bool(json_get(s, "uniqueItems")))
        forbidden(b, path, ".uniqueItems",
                  "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
}

static struct schema_type *build(struct builder *b, const struct json *s, const char *path, bool branch)
{
    struct schema_type *t = ARENA_NEW(b->a, struct schema_type);
    struct str type = json_str(json_get(s, "type"));
    bool open = json_bool(json_get(s, "x-kubernetes-preserve-unknown-fields"));
    bool embedded = json_bool(json_get(s, "x-kubernetes-embedded-resource"));
    bool shaped = json_len(json_get(s, "properties")) || json_len(json_get(s, "required"));

    t->kind = SCHEMA_ANY;
    t->description = text_of(b, json_get(s, "description"));
    t->flags = (uint16_t)(SCHEMA_FROM_CRD | (open || branch ? SCHEMA_PRESERVE_UNKNOWN : 0)
                          | (json_bool(json_get(s, "nullable")) ? SCHEMA_NULLABLE : 0)
                          | (embedded ? SCHEMA_EMBEDDED : 0) | (branch && !type.n ? SCHEMA_UNTYPED : 0)
                          | (str_is(json_str(json_get(s, "x-kubernetes-map-type")), "atomic") ? SCHEMA_GRANULAR_ATOMIC
                                                                                              : 0));
    refuse_unsupported(b, s, path);
    t->rules = build_rules(b, s, path);
    if (json_bool(json_get(s, "x-kubernetes-int-or-string"))) {
        t->kind = SCHEMA_INT_OR_STRING;
    } else if (str_is(type, "object") || (branch && !type.n && shaped)) {
        build_container(b, t, s, path, branch, embedded);
    } else if (str_is(type, "array")) {
        const struct json *items = json_get(s, "items");

        t->kind = SCHEMA_LIST;
        t->item = build(b, items, arena_printf(b->a, "%s.items", path), branch);
        if (!items)
            required(b, path, ".items", "must be specified");
    } else if (str_is(type, "string")) {
        t->kind = SCHEMA_STRING;
    } else if (str_is(type, "integer")) {
        t->kind = SCHEMA_INT64;
    } else if (str_is(type, "number")) {
        t->kind = SCHEMA_NUMBER;
    } else if (str_is(type, "boolean")) {
        t->kind = SCHEMA_BOOL;
    } else if (type.n) {
        complain(b, "FieldValueNotSupported", path, ".type",
                 arena_printf(b->a, "Unsupported value: \"" STR_FMT "\": supported values: \"array\", \"boolean\", "
                                    "\"integer\", \"number\", \"object\", \"string\"", STR_ARG(type)));
    } else if (!branch && !open) {
        required(b, path, ".type", str_ends(str_of(path), STR(".items")) ? "must not be empty for specified array items"
                                                                          : "must not be empty for specified object fields");
    }
    return t;
}

/* -- definitions ---------------------------------------------------------------------------------- */

static const struct json *version_named(const struct json *crd, const char *name)
{
    json_each_item(it, json_at(crd, "spec/versions")) {
        if (name ? str_is(json_str(json_get(it, "name")), name) : json_bool(json_get(it, "storage")))
            return it;
    }
    return NULL;
}

static void check_names(struct builder *b, const struct json *crd)
{
    static const char *const labels[] = {"plural", "singular"};
    const struct json *names = json_at(crd, "spec/names"), *group = json_at(crd, "spec/group");
    struct str plural = json_str(json_get(names, "plural")), g = json_str(group);
    const char *want = arena_printf(b->a, STR_FMT "." STR_FMT, STR_ARG(plural), STR_ARG(g)), *why;

    if (!str_is(meta_name(crd), want))
        invalid(b, "metadata.name", "", json_at(crd, "metadata/name"), "must be spec.names.plural+\".\"+spec.group");
    why = g.n ? name_dns1123_subdomain(g) : NULL;
    if (!g.n)
        required(b, "spec.group", "", "");
    else if (why)
        invalid(b, "spec.group", "", group, why);
    else if (!str_has(g, '.'))
        invalid(b, "spec.group", "", group, "should be a domain with at least one dot");
    for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
        const struct json *v = json_get(names, labels[i]);

        why = json_str(v).n ? name_dns1035_label(json_str(v)) : NULL;
        if (!json_str(v).n && i == 0)
            required(b, "spec.names.plural", "", "");
        else if (why)
            invalid(b, arena_printf(b->a, "spec.names.%s", labels[i]), "", v, why);
    }
    if (!json_str(json_get(names, "kind")).n)
        required(b, "spec.names.kind", "", "");
    if (!str_is(json_str_at(crd, "spec/scope"), "Namespaced") && !str_is(json_str_at(crd, "spec/scope"), "Cluster"))
        complain(b, "FieldValueNotSupported", "spec.scope", "",
                 arena_printf(b->a, "Unsupported value: \"" STR_FMT "\": supported values: \"Cluster\", \"Namespaced\"",
                              STR_ARG(json_str_at(crd, "spec/scope"))));
    if (str_is(json_str_at(crd, "spec/conversion/strategy"), "Webhook"))
        forbidden(b, "spec.conversion.strategy", "", "conversion by webhook is not supported by this server");
}

static bool same_schemas(const struct json *versions)
{
    const struct json *first = json_get(json_item(versions, 0), "schema");

    json_each_item(it, versions) {
        if (!json_eq(json_get(it, "schema"), first))
            return false;
    }
    return true;
}

static void check_versions(struct builder *b, const struct json *crd)
{
    const struct json *versions = json_at(crd, "spec/versions");
    bool same = same_schemas(versions);
    size_t stored = 0;

    json_each_item(it, versions) {
        stored += json_bool(json_get(it, "storage"));
    }
    if (stored != 1)
        invalid(b, "spec.versions", "", versions, "must have exactly one version marked as storage version");
    for (size_t i = 0; i < json_len(versions) && (i == 0 || !same); i++) {
        const struct json *schema = json_at(json_item(versions, i), "schema/openAPIV3Schema");
        const char *path = same ? "spec.validation.openAPIV3Schema"
                                : arena_printf(b->a, "spec.versions[%zu].schema.openAPIV3Schema", i);
        const char *why = name_dns1035_label(json_str(json_get(json_item(versions, i), "name")));

        if (why)
            invalid(b, arena_printf(b->a, "spec.versions[%zu].name", i), "", json_get(json_item(versions, i), "name"),
                    why);
        if (!json_is(schema, JSON_OBJECT)) {
            required(b, arena_printf(b->a, "spec.versions[%zu].schema.openAPIV3Schema", i), "",
                     "schemas are required");
            continue;
        }
        if (!json_str(json_get(schema, "type")).n)
            required(b, path, ".type", "must not be empty at the root");
        else if (!str_is(json_str(json_get(schema, "type")), "object"))
            invalid(b, path, ".type", json_get(schema, "type"), "must be object at the root");
        else
            build(b, schema, path, false);
    }
}

void crd_validate(const struct json *crd, struct arena *a, struct schema_causes *ret)
{
    struct builder b = {a, ret};

    check_names(&b, crd);
    check_versions(&b, crd);
}

const struct json *crd_default(struct arena *a, const struct json *crd)
{
    struct str kind = json_str_at(crd, "spec/names/kind");
    char *lower = arena_strdup(a, kind.p ? kind : STR(""));

    for (char *c = lower; *c; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    if (!json_str_at(crd, "spec/names/singular").n)
        crd = json_with_at(a, crd, "spec/names/singular", json_new_z(a, lower));
    if (!json_str_at(crd, "spec/names/listKind").n)
        crd = json_with_at(a, crd, "spec/names/listKind", json_new_f(a, STR_FMT "List", STR_ARG(kind)));
    if (!json_at(crd, "spec/conversion"))
        crd = json_with_at(a, crd, "spec/conversion/strategy", json_new_z(a, "None"));
    return crd;
}

const struct json *crd_with_status(struct arena *a, const struct json *crd, const char *now)
{
    const struct json *stored = json_at(crd, "status/storedVersions");
    const struct json *storage = json_get(version_named(crd, NULL), "name");
    struct condition names = {.type = "NamesAccepted", .status = "True", .reason = "NoConflicts",
                              .message = "no conflicts found"};
    struct condition established = {.type = "Established", .status = "True", .reason = "InitialNamesAccepted",
                                    .message = "the initial names have been accepted"};
    bool known = false;

    json_each_item(it, stored) {
        known |= json_eq(it, storage);
    }
    crd = condition_set(a, crd, &names, now);
    crd = condition_set(a, crd, &established, now);
    crd = json_with_at(a, crd, "status/acceptedNames", json_at(crd, "spec/names"));
    return known || !storage ? crd : json_with_at(a, crd, "status/storedVersions", json_append(a, stored, storage));
}

static const struct kind_column *columns_of(struct builder *b, const struct json *version, size_t *ret_n)
{
    static const struct kind_column age = {.name = "Age", .type = "date", .path = ".metadata.creationTimestamp"};
    const struct json *list = json_get(version, "additionalPrinterColumns");
    struct kind_column *p = ARENA_ARRAY(b->a, struct kind_column, json_len(list));
    size_t n = 0;

    json_each_item(it, list) {
        p[n++] = (struct kind_column){
            .name = text_of(b, json_get(it, "name")),
            .type = text_of(b, json_get(it, "type")),
            .format = text_of(b, json_get(it, "format")),
            .description = text_of(b, json_get(it, "description")),
            .path = text_of(b, json_get(it, "jsonPath")),
            .priority = (int)json_i64_at(it, "priority", 0),
        };
    }
    *ret_n = n ? n : 1;
    return n ? p : &age;
}

/* "ex.io" and "v1" and "Widget" → "io.ex.v1.Widget" */
static const char *definition_name(struct arena *a, struct str group, const char *version, const char *kind)
{
    AUTO(buf_done) struct buf b = {.limit = 4096};
    struct str rest = group, part;

    while (rest.n && str_rcut(rest, '.', &rest, &part))
        buf_addf(&b, STR_FMT ".", STR_ARG(part));
    buf_addf(&b, STR_FMT ".%s.%s", STR_ARG(rest), version, kind);
    return arena_strdup(a, buf_str(&b));
}

bool crd_kind(struct arena *a, const struct json *crd, const char *version, const struct kind_info **ret,
              struct error *err)
{
    struct builder b = {.a = a};
    const struct json *v = version_named(crd, version), *names = json_at(crd, "spec/names");
    const struct json *selectable = json_get(v, "selectableFields"), *served = json_array(a, NULL);
    struct kind_info *k = ARENA_NEW(a, struct kind_info);
    const char **paths = ARENA_ARRAY(a, const char *, json_len(selectable) + 1);
    struct schema_causes causes = {0};
    struct schema_type *t;
    size_t n = 0;

    crd_validate(crd, a, &causes);
    if (causes.n || !v)
        return error_set(err, ERROR_INVALID, "%s: %s", causes.n ? causes.p[0].field : "spec.versions",
                         causes.n ? causes.p[0].message : "no such version");
    json_each_item(it, json_at(crd, "spec/versions")) {
        if (json_bool(json_get(it, "served")))
            served = json_append(a, served, json_get(it, "name"));
    }
    json_each_item(it, selectable) {
        struct str path = json_str(json_get(it, "jsonPath"));

        paths[n++] = arena_strdup(a, str_starts(path, STR(".")) ? str_skip(path, 1) : path);
    }
    k->group = text_of(&b, json_at(crd, "spec/group"));
    k->version = text_of(&b, json_get(v, "name"));
    k->kind = text_of(&b, json_get(names, "kind"));
    k->plural = text_of(&b, json_get(names, "plural"));
    k->singular = text_of(&b, json_get(names, "singular"));
    k->list_kind = text_of(&b, json_get(names, "listKind"));
    if (!k->singular)
        k->singular = text_of(&b, json_at(crd_default(a, crd), "spec/names/singular"));
    if (!k->list_kind)
        k->list_kind = arena_printf(a, "%sList", k->kind);
    k->short_names = texts_of(&b, json_get(names, "shortNames"));
    k->categories = texts_of(&b, json_get(names, "categories"));
    k->versions = texts_of(&b, served);
    k->storage_version = text_of(&b, json_get(version_named(crd, NULL), "name"));
    k->flags = (str_is(json_str_at(crd, "spec/scope"), "Namespaced") ? KIND_NAMESPACED : 0)
               | (json_at(v, "subresources/status") ? KIND_STATUS : 0)
               | (json_at(v, "subresources/scale") ? KIND_SCALE : 0);
    k->selectable = n ? paths : NULL;
    k->columns = columns_of(&b, v, &k->n_columns);
    t = build(&b, json_at(v, "schema/openAPIV3Schema"), "", false);
    build_object(&b, t, json_at(v, "schema/openAPIV3Schema"), "", false, true);
    t->kind = SCHEMA_OBJECT;
    t->name = definition_name(a, str_of(k->group), k->version, k->kind);
    k->type = t;
    *ret = k;
    return true;
}

/* -- our own -------------------------------------------------------------------------------------- */

static const struct json *own_columns(struct arena *a, const struct kind_info *k)
{
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < k->n_columns; i++) {
        const struct kind_column *c = &k->columns[i];

        list = json_append(a, list,
                           json_object(a, "name", json_new_z(a, c->name), "type", json_new_z(a, c->type), "format",
                                       json_new_z(a, c->format), "description", json_new_z(a, c->description),
                                       "priority", c->priority ? json_new_i64(a, c->priority) : NULL, "jsonPath",
                                       json_new_z(a, c->path), NULL));
    }
    return json_len(list) ? list : NULL;
}

static const struct json *own_texts(struct arena *a, const char *const *p)
{
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; p && p[i]; i++)
        list = json_append(a, list, json_new_z(a, p[i]));
    return json_len(list) ? list : NULL;
}

static const struct json *own_version(struct arena *a, const struct kind_info *k, const char *name,
                                      const struct json *schema)
{
    const struct json *subresources = NULL, *empty = json_object(a, NULL), *selectable = json_array(a, NULL);
    bool deprecated = false;

    for (size_t i = 0; k->deprecated && k->deprecated[i]; i++)
        deprecated |= strcmp(k->deprecated[i], name) == 0;
    for (size_t i = 0; k->selectable && k->selectable[i]; i++)
        selectable = json_append(a, selectable,
                                 json_object(a, "jsonPath", json_new_f(a, ".%s", k->selectable[i]), NULL));
    if (k->flags & KIND_SCALE)
        subresources = json_object(a, "scale",
                                   json_object(a, "labelSelectorPath", json_new_z(a, ".status.labelSelector"),
                                               "specReplicasPath", json_new_z(a, ".spec.replicas"),
                                               "statusReplicasPath", json_new_z(a, ".status.replicas"), NULL),
                                   NULL);
    if (k->flags & KIND_STATUS)
        subresources = json_with(a, subresources, "status", empty);
    return json_object(a, "name", json_new_z(a, name), "served", json_new_bool(true), "storage",
                       json_new_bool(strcmp(name, k->storage_version) == 0), "deprecated",
                       deprecated ? json_new_bool(true) : NULL, "schema",
                       json_object(a, "openAPIV3Schema", schema, NULL), "subresources", subresources,
                       "selectableFields", json_len(selectable) ? selectable : NULL, "additionalPrinterColumns",
                       own_columns(a, k), NULL);
}

const struct json *crd_of_kind(struct arena *a, const struct kind_info *k, const char *now)
{
    const struct json *schema = openapi_crd_schema(a, k->type), *versions = json_array(a, NULL), *names, *crd;

    for (size_t i = 0; k->versions && k->versions[i]; i++)
        versions = json_append(a, versions, own_version(a, k, k->versions[i], schema));
    names = json_object(a, "plural", json_new_z(a, k->plural), "singular", json_new_z(a, k->singular), "shortNames",
                        own_texts(a, k->short_names), "kind", json_new_z(a, k->kind), "listKind",
                        json_new_z(a, k->list_kind), "categories", own_texts(a, k->categories), NULL);
    crd = json_object(
        a, "apiVersion", json_new_z(a, "apiextensions.k8s.io/v1"), "kind",
        json_new_z(a, "CustomResourceDefinition"), "metadata",
        json_object(a, "name", json_new_f(a, "%s.%s", k->plural, k->group), NULL), "spec",
        json_object(a, "group", json_new_z(a, k->group), "names", names, "scope",
                    json_new_z(a, k->flags & KIND_NAMESPACED ? "Namespaced" : "Cluster"), "versions", versions,
                    "conversion", json_object(a, "strategy", json_new_z(a, "None"), NULL), NULL),
        NULL);
    return crd_with_status(a, crd, now);
}
