/* What a definition has to be, rule by rule as kube-apiserver checks it and in its order and words.
 *
 * What all versions share (or the only one has) upstream lifts out of the versions before it checks, so a fault in the
 * schema of a definition with one version is told at spec.validation and not at spec.versions[0]. */
#include "api/crd_parts.h"

#include "api/formats.h"
#include "api/meta.h"
#include "api/names.h"
#include <ctype.h>

#define SHOWN_MAX 4096
#define SELECTABLE_MAX 8
#define VERSIONS_MAX 100
#define APPROVED "api-approved.kubernetes.io"

/* -- telling -------------------------------------------------------------------------------------- */

void crd_check_done(struct crd_check *c)
{
    buf_done(&c->path);
}

size_t crd_enter(struct crd_check *c, const char *fmt, ...)
{
    size_t before = c->path.n;
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&c->path, fmt, ap);
    va_end(ap);
    return before;
}

void crd_leave(struct crd_check *c, size_t before)
{
    c->path.n = before;
    if (c->path.p)
        c->path.p[before] = '\0';
}

static void tell(struct crd_check *c, const char *reason, const char *below, const char *message)
{
    const char *at = below;
    struct str path = buf_str(&c->path);

    if (!c->causes)
        return;
    if (path.n)
        at = arena_printf(c->a, STR_FMT "%s", STR_ARG(path), below);
    schema_cause_add(c->causes, c->a, reason, at, "%s", message);
}

void crd_required(struct crd_check *c, const char *below, const char *why)
{
    tell(c, "FieldValueRequired", below, arena_printf(c->a, "Required value%s%s", *why ? ": " : "", why));
}

void crd_forbidden(struct crd_check *c, const char *below, const char *why)
{
    tell(c, "FieldValueForbidden", below, arena_printf(c->a, "Forbidden: %s", why));
}

void crd_invalid(struct crd_check *c, const char *below, const struct json *v, const char *why)
{
    AUTO(buf_done) struct buf shown = {.limit = SHOWN_MAX};

    json_write_sorted(&shown, v ? v : json_null());
    tell(c, "FieldValueInvalid", below,
         arena_printf(c->a, "Invalid value: %s: %s", shown.p && !shown.overflow ? shown.p : "{…}", why));
}

void crd_unsupported(struct crd_check *c, const char *below, struct str v, const char *const *values)
{
    AUTO(buf_done) struct buf b = {.limit = SHOWN_MAX};

    buf_adds(&b, "Unsupported value: ");
    json_write_string(&b, str_take(v.p ? v : STR(""), 256));
    buf_adds(&b, ": supported values: ");
    for (size_t i = 0; values[i]; i++) {
        buf_adds(&b, i ? ", " : "");
        json_write_string(&b, str_of(values[i]));
    }
    tell(c, "FieldValueNotSupported", below, b.p ? b.p : "");
}

static const struct json *text(struct crd_check *c, struct str s)
{
    return json_new_str(c->a, s.p ? s : STR(""));
}

/* -- parts of versions ---------------------------------------------------------------------------- */

/* Whether all versions have the same of something, so that upstream sees it at the top. */
static bool lifted(const struct json *versions, const char *key)
{
    const struct json *first = json_get(json_item(versions, 0), key);

    if (!json_len(first) && !json_is(first, JSON_OBJECT))
        return false;
    json_each_item(it, versions) {
        if (!json_eq(json_get(it, key), first))
            return false;
    }
    return true;
}

static const struct json *part_of(const struct json *version, const char *key)
{
    return json_get(version, key);
}

static bool has_status(const struct json *version)
{
    return json_at(version, "subresources/status") != NULL;
}

static void check_path(struct crd_check *c, const char *below, const struct json *path, const char *const *starts,
                       const char *should)
{
    struct str s = json_str(path);

    if (!s.n) {
        crd_required(c, below, "");
        return;
    }
    if (s.p[0] != '.') {
        crd_invalid(c, below, path, "must be a simple json path starting with .");
        return;
    }
    for (size_t i = 0; starts[i]; i++)
        if (str_starts(s, str_of(starts[i])))
            return;
    if (starts[0])
        crd_invalid(c, below, path, should);
}

static void check_subresources(struct crd_check *c, const struct json *subresources)
{
    static const char *const spec[] = {".spec.", NULL}, *const status[] = {".status.", NULL},
                             *const both[] = {".spec.", ".status.", NULL};
    const struct json *scale = json_get(subresources, "scale");

    if (!json_is(scale, JSON_OBJECT))
        return;
    check_path(c, ".scale.specReplicasPath", json_get(scale, "specReplicasPath"), spec,
               "should be a json path under .spec");
    check_path(c, ".scale.statusReplicasPath", json_get(scale, "statusReplicasPath"), status,
               "should be a json path under .status");
    if (json_str(json_get(scale, "labelSelectorPath")).n)
        check_path(c, ".scale.labelSelectorPath", json_get(scale, "labelSelectorPath"), both,
                   "should be a json path under either .spec or .status");
}

static void one_of(struct crd_check *c, const char *below, const struct json *v, const char *const *words,
                   const char *list, bool needed)
{
    struct str s = json_str(v);
    bool known = false;

    for (size_t i = 0; words[i]; i++)
        known |= str_is(s, words[i]);
    if (!s.n && needed)
        crd_required(c, below, arena_printf(c->a, "must be one of %s", list));
    else if (s.n && !known)
        crd_invalid(c, below, v, arena_printf(c->a, "must be one of %s", list));
}

static void check_columns(struct crd_check *c, const struct json *columns)
{
    static const char *const types[] = {"boolean", "date", "integer", "number", "string", NULL};
    static const char *const formats[] = {"byte",  "date",  "date-time", "double", "float",
                                          "int32", "int64", "password",  NULL};
    static const char *const none[] = {NULL};
    size_t i = 0;

    if (json_len(columns) > CRD_COLUMNS_MAX) {
        tell(c, "FieldValueTooMany", "",
             arena_printf(c->a, "Too many: %zu: must have at most %d items", json_len(columns), CRD_COLUMNS_MAX));
        return;
    }
    json_each_item(it, columns) {
        size_t before = crd_enter(c, "[%zu]", i++);

        if (!json_str(json_get(it, "name")).n)
            crd_required(c, ".name", "");
        one_of(c, ".type", json_get(it, "type"), types, "boolean,date,integer,number,string", true);
        one_of(c, ".format", json_get(it, "format"), formats, "byte,date,date-time,double,float,int32,int64,password",
               false);
        check_path(c, ".JSONPath", json_get(it, "jsonPath"), none, "");
        crd_leave(c, before);
    }
}

/* ".spec.color" through the schema; why it is no good, or NULL and the schema of the field. */
static const char *follow(struct crd_check *c, struct str path, const struct json *schema, const struct json **ret)
{
    struct str part;

    if (str_has(path, '['))
        return "array notation is not allowed";
    if (!str_starts(path, STR(".")))
        return arena_printf(c->a, "expected [ or . but got: " STR_FMT, STR_ARG(str_take(path, 200)));
    path = str_skip(path, 1);
    while (str_next(&path, '.', &part)) {
        const struct json *properties = json_get(schema, "properties");

        if (!part.n)
            return "unexpected end of JSON path";
        schema = json_len(properties) ? json_get_str(properties, part) : json_get(schema, "additionalProperties");
        if (!json_is(schema, JSON_OBJECT))
            return "does not refer to a valid field";
    }
    *ret = schema;
    return NULL;
}

static void check_selectable(struct crd_check *c, const struct json *fields, const struct json *schema)
{
    size_t i = 0, unique = 0;

    json_each_item(it, fields) {
        const struct json *path = json_get(it, "jsonPath"), *found = NULL;
        struct str s = json_str(path), type;
        size_t before;
        const char *why;
        bool again = false;

        if (i >= CRD_COLUMNS_MAX)
            break;
        for (size_t k = 0; k < i; k++)
            again |= json_eq(path, json_get(json_item(fields, k), "jsonPath"));
        before = crd_enter(c, "[%zu]", i++);
        why = s.n ? follow(c, s, schema, &found) : NULL;
        type = crd_type(found);
        if (!s.n)
            crd_required(c, ".jsonPath", "");
        else if (why)
            crd_invalid(c, ".jsonPath", path, arena_printf(c->a, "is an invalid path: %s", why));
        if (found && (str_starts(s, STR(".metadata.")) || str_is(s, ".metadata")))
            crd_invalid(c, ".jsonPath", path, "must not point to fields in metadata");
        if (found && !str_is(type, "string") && !str_is(type, "boolean") && !str_is(type, "integer"))
            crd_invalid(c, ".jsonPath", path,
                        "must point to a field of type string, boolean or integer. Enum string fields and strings with "
                        "formats are allowed.");
        if (found && again) {
            AUTO(buf_done) struct buf shown = {.limit = SHOWN_MAX};

            json_write_string(&shown, s);
            tell(c, "FieldValueDuplicate", ".jsonPath",
                 arena_printf(c->a, "Duplicate value: %s", shown.p ? shown.p : ""));
        }
        unique += found && !again;
        crd_leave(c, before);
    }
    if (unique > SELECTABLE_MAX)
        tell(c, "FieldValueTooMany", "",
             arena_printf(c->a, "Too many: %zu: must have at most %d items", unique, SELECTABLE_MAX));
}

/* -- schemas -------------------------------------------------------------------------------------- */

/* With status apart, the root may say only what is not lost when status is validated alone. */
static void check_root(struct crd_check *c, const struct json *schema)
{
    static const char *const allowed[] = {
        "description",
        "type",
        "format",
        "title",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "multipleOf",
        "required",
        "items",
        "properties",
        "externalDocs",
        "example",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    };

    json_each_member(m, schema) {
        bool zero = json_is(&m->value, JSON_NULL) || json_is(&m->value, JSON_FALSE), ok = zero;

        for (size_t i = 0; i < ARRAY_SIZE(allowed) && !ok; i++)
            ok = str_is(json_str(&m->key), allowed[i]);
        if (ok)
            continue;
        crd_invalid(c, "", schema,
                    "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength "
                    "MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs "
                    "Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the "
                    "status subresource is enabled");
        return;
    }
}

/* The path is that of openAPIV3Schema. */
static void check_schema(struct crd_check *c, const struct json *schema, bool status)
{
    struct schema_causes *causes = c->causes;
    size_t before = causes->n;

    c->nodes = c->program = 0;
    if (status && crd_type(schema).n && !crd_is(schema, "type", "object"))
        crd_invalid(c, ".type", json_get(schema, "type"),
                    "only \"object\" is allowed as the type at the root of the schema if the status subresource is "
                    "enabled");
    else if (status)
        check_root(c, schema);
    if (json_bool(json_get(schema, "nullable")))
        crd_forbidden(c, ".nullable", "nullable cannot be true at the root");
    if (crd_structural(c, schema)) {
        c->nodes = 0;
        (void)crd_schema(c, schema, true); /* judges the defaults */
    }
    if (!c->too_large)
        crd_rules(c, schema);
    if (c->too_large && causes->n == before)
        tell(c, "FieldValueTooLong", "",
             "Too long: a definition may hold 100000 schemas and patterns that compile to a million instructions");
}

static bool printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return true;
}

static void check_deprecation(struct crd_check *c, const struct json *version)
{
    const struct json *warning = json_get(version, "deprecationWarning");
    struct str s = json_str(warning);

    if (!json_is(warning, JSON_STRING))
        return;
    if (!json_bool(json_get(version, "deprecated"))) {
        crd_invalid(c, ".deprecationWarning", warning, "can only be set for deprecated versions");
        return;
    }
    if (s.n > 256)
        crd_invalid(c, ".deprecationWarning", warning, "must be <= 256 characters long");
    if (!s.n)
        crd_invalid(c, ".deprecationWarning", warning, "must not be an empty string");
    for (size_t i = 0; i < s.n; i++)
        if (!printable(str_n(s.p + i, 1))) {
            crd_invalid(c, ".deprecationWarning", warning,
                        arena_printf(c->a,
                                     "must only contain printable UTF-8 characters; non-printable character found at "
                                     "index %zu",
                                     i));
            return;
        }
}

/* What is not lifted out of a version. */
static void check_version(struct crd_check *c, const struct json *versions, const struct json *v, bool schema_lifted)
{
    const struct json *schema = json_at(v, "schema/openAPIV3Schema");
    size_t before;

    check_deprecation(c, v);
    if (!schema_lifted && json_is(schema, JSON_OBJECT)) {
        before = crd_enter(c, ".schema.openAPIV3Schema");
        check_schema(c, schema, has_status(v));
        crd_leave(c, before);
    }
    if (!lifted(versions, "subresources")) {
        before = crd_enter(c, ".subresources");
        check_subresources(c, part_of(v, "subresources"));
        crd_leave(c, before);
    }
    if (!lifted(versions, "additionalPrinterColumns")) {
        before = crd_enter(c, ".additionalPrinterColumns");
        check_columns(c, part_of(v, "additionalPrinterColumns"));
        crd_leave(c, before);
    }
    if (!lifted(versions, "selectableFields")) {
        before = crd_enter(c, ".selectableFields");
        check_selectable(c, part_of(v, "selectableFields"), schema);
        crd_leave(c, before);
    }
}

static void check_lifted(struct crd_check *c, const struct json *versions, bool schema_lifted)
{
    const struct json *v = json_item(versions, 0);
    bool status = false;
    size_t before;

    json_each_item(it, versions) {
        status |= has_status(it);
    }
    if (schema_lifted && json_is(json_at(v, "schema/openAPIV3Schema"), JSON_OBJECT)) {
        before = crd_enter(c, "spec.validation.openAPIV3Schema");
        check_schema(c, json_at(v, "schema/openAPIV3Schema"), status);
        crd_leave(c, before);
    }
    if (lifted(versions, "subresources")) {
        before = crd_enter(c, "spec.subresources");
        check_subresources(c, part_of(v, "subresources"));
        crd_leave(c, before);
    }
    if (lifted(versions, "additionalPrinterColumns")) {
        before = crd_enter(c, "spec.additionalPrinterColumns");
        check_columns(c, part_of(v, "additionalPrinterColumns"));
        crd_leave(c, before);
    }
    if (lifted(versions, "selectableFields")) {
        before = crd_enter(c, "spec.selectableFields");
        check_selectable(c, part_of(v, "selectableFields"), json_at(v, "schema/openAPIV3Schema"));
        crd_leave(c, before);
    }
}

/* Versions as upstream's own structures print. */
static const struct json *shown_versions(struct crd_check *c, const struct json *versions)
{
    static const char *const parts[][2] = {
        {"Schema", "schema"},
        {"Subresources", "subresources"},
        {"AdditionalPrinterColumns", "additionalPrinterColumns"},
        {"SelectableFields", "selectableFields"},
    };
    const struct json *list = json_array(c->a, NULL);

    json_each_item(it, versions) {
        const struct json *warning = json_get(it, "deprecationWarning");
        const struct json *v = json_object(c->a, "Name", text(c, json_str(json_get(it, "name"))), "Served",
                                           json_new_bool(json_bool(json_get(it, "served"))), "Storage",
                                           json_new_bool(json_bool(json_get(it, "storage"))), "Deprecated",
                                           json_new_bool(json_bool(json_get(it, "deprecated"))), "DeprecationWarning",
                                           warning ? warning : json_null(), NULL);

        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
            const struct json *p = json_get(it, parts[i][1]);

            v = json_with(c->a, v, parts[i][0], p && !lifted(versions, parts[i][1]) ? p : json_null());
        }
        list = json_append(c->a, list, v);
    }
    return list;
}

/* In the order of the structure's fields, not sorted. */
static void invalid_versions(struct crd_check *c, const struct json *versions, const char *why)
{
    AUTO(buf_done) struct buf b = {.limit = SHOWN_MAX};

    json_write(&b, shown_versions(c, versions));
    tell(c, "FieldValueInvalid", "spec.versions",
         arena_printf(c->a, "Invalid value: %s: %s", b.p && !b.overflow ? b.p : "[…]", why));
}

static void check_versions(struct crd_check *c, const struct json *crd)
{
    const struct json *versions = json_at(crd, "spec/versions");
    bool schema_lifted = lifted(versions, "schema"), unique = true;
    size_t stored = 0, i = 0;

    if (json_len(versions) > VERSIONS_MAX) {
        tell(c, "FieldValueTooMany", "spec.versions",
             arena_printf(c->a, "Too many: %zu: must have at most %d items", json_len(versions), VERSIONS_MAX));
        return;
    }
    json_each_item(it, versions) {
        if (!json_is(json_at(it, "schema/openAPIV3Schema"), JSON_OBJECT))
            crd_required(c, arena_printf(c->a, "spec.versions[%zu].schema.openAPIV3Schema", i), "");
        i++;
    }
    i = 0;
    json_each_item(it, versions) {
        struct str name = json_str(json_get(it, "name"));
        const char *why = name_dns1035_label(name);
        size_t before = crd_enter(c, "spec.versions[%zu]", i);

        stored += json_bool(json_get(it, "storage"));
        for (size_t k = 0; k < i; k++)
            unique &= !str_eq(name, json_str(json_get(json_item(versions, k), "name")));
        if (why)
            crd_invalid(c, ".name", text(c, name), why);
        check_version(c, versions, it, schema_lifted);
        crd_leave(c, before);
        i++;
    }
    if (!unique)
        invalid_versions(c, versions, "must contain unique version names");
    if (stored != 1)
        invalid_versions(c, versions, "must have exactly one version marked as storage version");
}

/* -- names ---------------------------------------------------------------------------------------- */

static const char *lower(struct crd_check *c, struct str s)
{
    char *p = arena_strdup(c->a, s);

    for (char *q = p; *q; q++)
        *q = (char)tolower((unsigned char)*q);
    return p;
}

static void check_name(struct crd_check *c, const struct json *names, const char *key, bool mixed)
{
    struct str s = json_str(json_get(names, key));
    const char *why = s.n ? name_dns1035_label(mixed ? str_of(lower(c, s)) : s) : NULL;

    if (why)
        crd_invalid(c, arena_printf(c->a, ".%s", key), text(c, s),
                    mixed ? arena_printf(c->a, "may have mixed case, but should otherwise match: %s", why) : why);
}

static void check_name_list(struct crd_check *c, const struct json *names, const char *key)
{
    size_t i = 0;

    json_each_item(it, json_get(names, key)) {
        const char *why = name_dns1035_label(json_str(it));

        if (why)
            crd_invalid(c, arena_printf(c->a, ".%s[%zu]", key, i), it, why);
        i++;
    }
}

static void check_names(struct crd_check *c, const struct json *names)
{
    static const char *const needed[] = {"plural", "singular", "kind", "listKind"};
    struct str kind = json_str(json_get(names, "kind")), list = json_str(json_get(names, "listKind"));
    size_t before = crd_enter(c, "spec.names");

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (!json_str(json_get(names, needed[i])).n)
            crd_required(c, arena_printf(c->a, ".%s", needed[i]), "");
    check_name(c, names, "plural", false);
    check_name(c, names, "singular", false);
    check_name(c, names, "kind", true);
    check_name(c, names, "listKind", true);
    check_name_list(c, names, "shortNames");
    if (kind.n && str_eq(kind, list))
        crd_invalid(c, ".listKind", text(c, list), "kind and listKind may not be the same");
    check_name_list(c, names, "categories");
    crd_leave(c, before);
}

static void check_group(struct crd_check *c, const struct json *crd)
{
    static const char *const scopes[] = {"Cluster", "Namespaced", NULL};
    struct str group = json_str_at(crd, "spec/group"), scope = json_str_at(crd, "spec/scope");
    const char *why = group.n ? name_dns1123_subdomain(group) : NULL;

    if (!group.n)
        crd_required(c, "spec.group", "");
    else if (why)
        crd_invalid(c, "spec.group", text(c, group), why);
    else if (!str_has(group, '.'))
        crd_invalid(c, "spec.group", text(c, group), "should be a domain with at least one dot");
    if (!scope.n)
        crd_required(c, "spec.scope", "");
    else if (!str_is(scope, "Cluster") && !str_is(scope, "Namespaced"))
        crd_unsupported(c, "spec.scope", scope, scopes);
}

static void check_own_name(struct crd_check *c, const struct json *crd)
{
    struct str name = meta_name(crd);
    const char *why = name_dns1123_subdomain(name);

    if (why)
        crd_invalid(c, "metadata.name", text(c, name), why);
    if (!str_is(name, arena_printf(c->a, STR_FMT "." STR_FMT, STR_ARG(json_str_at(crd, "spec/names/plural")),
                                   STR_ARG(json_str_at(crd, "spec/group")))))
        crd_invalid(c, "metadata.name", text(c, name), "must be spec.names.plural+\".\"+spec.group");
}

/* -- the rest of it ------------------------------------------------------------------------------- */

static void check_conversion(struct crd_check *c, const struct json *crd)
{
    static const char *const strategies[] = {"None", "Webhook", NULL};
    const struct json *conversion = json_at(crd, "spec/conversion");
    struct str strategy = json_str(json_get(conversion, "strategy"));

    if (!conversion)
        return;
    if (!strategy.n)
        crd_required(c, "spec.conversion.strategy", "");
    else if (str_is(strategy, "Webhook"))
        crd_forbidden(c, "spec.conversion.strategy",
                      "this server calls no webhook for conversion: use None, with schemas that fit the objects of "
                      "every version");
    else if (!str_is(strategy, "None"))
        crd_unsupported(c, "spec.conversion.strategy", strategy, strategies);
    else if (json_get(conversion, "webhook"))
        crd_forbidden(c, "spec.conversion.webhookClientConfig",
                      "should not be set when strategy is not set to Webhook");
}

static void check_stored(struct crd_check *c, const struct json *crd)
{
    const struct json *stored = json_at(crd, "status/storedVersions"), *versions = json_at(crd, "spec/versions");
    size_t i = 0;

    if (!json_len(stored)) {
        crd_invalid(c, "status.storedVersions", stored ? stored : json_null(), "must have at least one stored version");
        return;
    }
    json_each_item(v, versions) {
        bool known = false;

        json_each_item(it, stored) {
            known |= json_eq(it, json_get(v, "name"));
        }
        if (json_bool(json_get(v, "storage")) && !known)
            crd_invalid(
                c, "status.storedVersions", stored,
                arena_printf(c->a, "must have the storage version " STR_FMT, STR_ARG(json_str(json_get(v, "name")))));
    }
    json_each_item(it, stored) {
        bool there = false;

        json_each_item(v, versions) {
            there |= json_eq(it, json_get(v, "name"));
        }
        if (!there)
            crd_invalid(c, arena_printf(c->a, "status.storedVersions[%zu]", i), it,
                        arena_printf(c->a,
                                     "missing from spec.versions; " STR_FMT
                                     " was previously a storage version, and must remain in spec.versions until a "
                                     "storage migration ensures no data remains persisted in " STR_FMT
                                     " and removes " STR_FMT " from status.storedVersions",
                                     STR_ARG(json_str(it)), STR_ARG(json_str(it)), STR_ARG(json_str(it))));
        i++;
    }
}

bool crd_protected_group(struct str group)
{
    return str_is(group, "k8s.io") || str_ends(group, STR(".k8s.io")) || str_is(group, "kubernetes.io")
           || str_ends(group, STR(".kubernetes.io"));
}

enum crd_approval crd_approval_of(const struct json *crd, struct arena *a, const char **ret_why)
{
    struct str text = meta_annotation(crd, APPROVED), scheme, rest;

    if (!text.n) {
        *ret_why = "protected groups must have approval annotation \"" APPROVED
                   "\", see https://github.com/kubernetes/enhancements/pull/1111";
        return CRD_APPROVAL_MISSING;
    }
    if (str_starts(text, STR("unapproved"))) {
        *ret_why = arena_printf(a, "not approved: \"" STR_FMT "\"", STR_ARG(text));
        return CRD_APPROVAL_BYPASSED;
    }
    if (format_fits(STR("uri"), text) && str_cut(text, ':', &scheme, &rest) && str_starts(rest, STR("//")) && rest.n > 2
        && rest.p[2] != '/') {
        *ret_why = arena_printf(a, "approved in " STR_FMT, STR_ARG(text));
        return CRD_APPROVED;
    }
    *ret_why = "protected groups must have approval annotation \"" APPROVED
               "\" with either a URL or a reason starting with \"unapproved\", see "
               "https://github.com/kubernetes/enhancements/pull/1111";
    return CRD_APPROVAL_INVALID;
}

static void check_approval(struct crd_check *c, const struct json *old, const struct json *crd)
{
    static const char at[] = "metadata.annotations[" APPROVED "]";
    const char *why, *was;
    enum crd_approval now;

    if (!crd_protected_group(json_str_at(crd, "spec/group")))
        return;
    now = crd_approval_of(crd, c->a, &why);
    if (old && crd_approval_of(old, c->a, &was) == now)
        return;
    if (now == CRD_APPROVAL_MISSING)
        crd_required(c, at, why);
    else if (now == CRD_APPROVAL_INVALID)
        crd_invalid(c, at, text(c, meta_annotation(crd, APPROVED)), why);
}

static void check_immutable(struct crd_check *c, const struct json *old, const struct json *crd)
{
    static const struct {
        const char *path, *field;
        bool established;
    } fields[] = {
        {"spec/scope", "spec.scope", true},
        {"spec/names/kind", "spec.names.kind", true},
        {"spec/group", "spec.group", false},
        {"spec/names/plural", "spec.names.plural", false},
    };
    bool established = condition_is(old, "Established", "True");

    for (size_t i = 0; old && i < ARRAY_SIZE(fields); i++)
        if ((established || !fields[i].established)
            && !json_eq(json_at(old, fields[i].path), json_at(crd, fields[i].path)))
            crd_invalid(c, fields[i].field, json_at(crd, fields[i].path), "field is immutable");
}

void crd_validate(const struct json *old, const struct json *crd, struct arena *a, struct schema_causes *ret)
{
    AUTO(crd_check_done) struct crd_check c = {.a = a, .causes = ret, .path = {.limit = 64 << 10}};
    const struct json *versions = json_at(crd, "spec/versions");

    if (!old)
        check_own_name(&c, crd);
    check_group(&c, crd);
    check_versions(&c, crd);
    check_names(&c, json_at(crd, "spec/names"));
    if (json_len(versions) <= VERSIONS_MAX)
        check_lifted(&c, versions, lifted(versions, "schema"));
    check_conversion(&c, crd);
    check_immutable(&c, old, crd);
    check_stored(&c, crd);
    check_approval(&c, old, crd);
    if (json_bool(json_at(crd, "spec/preserveUnknownFields")))
        crd_invalid(&c, "spec.preserveUnknownFields", json_new_bool(true),
                    "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema "
                    "instead");
}

/* -- warnings ------------------------------------------------------------------------------------- */

/* Formats that are stored and not enforced, and sets that no tool handles; each once. */
static void warn(struct arena *a, const struct json *s, struct json_dups *ret, int depth)
{
    struct str format = json_str(json_get(s, "format")), type = crd_type(s), item = crd_type(json_get(s, "items"));
    const char *text = NULL;
    bool enforced = !type.n || str_is(type, "string") ? format_known(format)
                    : str_is(type, "integer")         ? str_is(format, "int32") || str_is(format, "int64")
                    : str_is(type, "number")          ? str_is(format, "float") || str_is(format, "double")
                                                      : false;

    if (depth > 256)
        return;
    if (format.n && !enforced)
        text = arena_printf(a, "unrecognized format \"" STR_FMT "\"", STR_ARG(str_take(format, 100)));
    else if (crd_is(s, "x-kubernetes-list-type", "set") && (str_is(item, "object") || str_is(item, "array")))
        text = arena_printf(a,
                            "x-kubernetes-list-type: set for items of type \"" STR_FMT
                            "\" is not supported by server-side apply or CEL validation rules",
                            STR_ARG(item));
    for (size_t i = 0; text && i < ret->n; i++)
        if (strcmp(ret->paths[i], text) == 0)
            text = NULL;
    if (text && ret->n < CRD_WARNINGS_MAX)
        ret->paths[ret->n++] = text;
    json_each_member(m, s) {
        if (str_is(json_str(&m->key), "default") || str_is(json_str(&m->key), "enum"))
            continue;
        if (json_is(&m->value, JSON_OBJECT))
            warn(a, &m->value, ret, depth + 1);
        json_each_item(it, &m->value) {
            warn(a, it, ret, depth + 1);
        }
    }
}

void crd_warnings(const struct json *old, const struct json *crd, struct arena *a, struct json_dups *ret)
{
    struct json_dups was = {.paths = ARENA_ARRAY(a, const char *, CRD_WARNINGS_MAX)};
    struct json_dups now = {.paths = ARENA_ARRAY(a, const char *, CRD_WARNINGS_MAX)};

    json_each_item(it, json_at(old, "spec/versions")) {
        warn(a, json_at(it, "schema/openAPIV3Schema"), &was, 0);
    }
    json_each_item(it, json_at(crd, "spec/versions")) {
        warn(a, json_at(it, "schema/openAPIV3Schema"), &now, 0);
    }
    *ret = (struct json_dups){.paths = ARENA_ARRAY(a, const char *, CRD_WARNINGS_MAX)};
    for (size_t i = 0; i < now.n; i++) {
        bool known = false;

        for (size_t k = 0; k < was.n; k++)
            known |= strcmp(was.paths[k], now.paths[i]) == 0;
        if (!known)
            ret->paths[ret->n++] = now.paths[i];
    }
}
