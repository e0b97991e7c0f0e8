#include "api/crd_parts.h"

#include "api/meta.h"
#include "api/openapi.h"

/* -- defaults and status -------------------------------------------------------------------------- */

const struct json *crd_default(struct arena *a, const struct json *crd)
{
    struct str kind = json_str_at(crd, "spec/names/kind");
    char *lower = arena_strdup(a, kind.p ? kind : STR(""));

    for (char *c = lower; *c; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    if (kind.n && !json_str_at(crd, "spec/names/singular").n)
        crd = json_with_at(a, crd, "spec/names/singular", json_new_z(a, lower));
    if (kind.n && !json_str_at(crd, "spec/names/listKind").n)
        crd = json_with_at(a, crd, "spec/names/listKind", json_new_f(a, STR_FMT "List", STR_ARG(kind)));
    if (!json_at(crd, "spec/conversion"))
        crd = json_with_at(a, crd, "spec/conversion/strategy", json_new_z(a, "None"));
    return crd;
}

const struct json *crd_version(const struct json *crd, struct str name)
{
    json_each_item(it, json_at(crd, "spec/versions")) {
        if (name.p ? str_eq(json_str(json_get(it, "name")), name) : json_bool(json_get(it, "storage")))
            return it;
    }
    return NULL;
}

/* What was ever a storage version may still be in the database. */
const struct json *crd_with_stored(struct arena *a, const struct json *crd)
{
    const struct json *stored = json_at(crd, "status/storedVersions"), *list = json_array(a, NULL);
    const struct json *storage = json_get(crd_version(crd, STR_NONE), "name");

    json_each_item(it, stored) {
        if (json_eq(it, storage))
            return crd;
        list = json_append(a, list, it);
    }
    return storage ? json_with_at(a, crd, "status/storedVersions", json_append(a, list, storage)) : crd;
}

const struct json *crd_fresh_status(struct arena *a, const struct json *crd)
{
    const struct json *names = json_object(a, "plural", json_new_z(a, ""), "kind", json_new_z(a, ""), NULL);

    crd = json_with(a, crd, "status", json_object(a, "conditions", json_null(), "acceptedNames", names, NULL));
    return crd_with_stored(a, crd);
}

/* -- names ---------------------------------------------------------------------------------------- */

static bool taken(const struct crd_names *used, struct str name)
{
    for (size_t i = 0; i < used->n; i++)
        if (str_eq(used->p[i], name))
            return true;
    return false;
}

/* Upstream's names for what is in the way; the last one found is told. */
static void accept_name(struct arena *a, const struct json *wanted, const struct json **accepted, const char *key,
                        const struct crd_names *used, const char *reason, struct condition *ret)
{
    const struct json *name = json_get(wanted, key);

    if (!json_eq(name, json_get(*accepted, key)) && taken(used, json_str(name))) {
        ret->status = "False";
        ret->reason = reason;
        ret->message = arena_printf(a, "\"" STR_FMT "\" is already in use", STR_ARG(json_str(name)));
        return;
    }
    *accepted = json_with(a, *accepted, key, name);
}

static bool in_list(const struct json *list, const struct json *v)
{
    json_each_item(it, list) {
        if (json_eq(it, v))
            return true;
    }
    return false;
}

static void accept_short_names(struct arena *a, const struct json *wanted, const struct json **accepted,
                               const struct crd_names *used, struct condition *ret)
{
    const struct json *list = json_get(wanted, "shortNames"), *had = json_get(*accepted, "shortNames");
    AUTO(buf_done) struct buf b = {.limit = 4096};
    size_t n = 0;

    json_each_item(it, list) {
        if (in_list(had, it) || !taken(used, json_str(it)))
            continue;
        buf_addf(&b, "%s\"" STR_FMT "\" is already in use", n++ ? ", " : "", STR_ARG(json_str(it)));
    }
    if (!n) {
        *accepted = json_with(a, *accepted, "shortNames", list);
        return;
    }
    ret->status = "False";
    ret->reason = "ShortNamesConflict";
    ret->message = n > 1 ? arena_printf(a, "[%s]", b.p) : arena_strdup(a, buf_str(&b));
}

/* In the order of upstream's structure. */
static const struct json *names_ordered(struct arena *a, const struct json *names)
{
    return json_object(a, "plural", json_get(names, "plural"), "singular", json_get(names, "singular"), "shortNames",
                       json_get(names, "shortNames"), "kind", json_get(names, "kind"), "listKind",
                       json_get(names, "listKind"), "categories", json_get(names, "categories"), NULL);
}

static const struct json *with_approval(struct arena *a, const struct json *crd, const char *now)
{
    static const char *const reasons[] = {
        [CRD_APPROVAL_INVALID] = "InvalidAnnotation",
        [CRD_APPROVED] = "ApprovedAnnotation",
        [CRD_APPROVAL_BYPASSED] = "UnapprovedAnnotation",
        [CRD_APPROVAL_MISSING] = "MissingAnnotation",
    };
    struct condition c = {.type = "KubernetesAPIApprovalPolicyConformant"};
    enum crd_approval approval;

    if (!crd_protected_group(json_str_at(crd, "spec/group")))
        return crd;
    approval = crd_approval_of(crd, a, &c.message);
    c.status = approval == CRD_APPROVED ? "True" : "False";
    c.reason = reasons[approval];
    return condition_set(a, crd, &c, now);
}

const struct json *crd_with_status(struct arena *a, const struct json *crd, const struct crd_names *resources,
                                   const struct crd_names *kinds, const char *now)
{
    static const struct crd_names none;
    const struct json *wanted = json_at(crd, "spec/names"), *accepted = json_at(crd, "status/acceptedNames");
    struct condition names = {
        .type = "NamesAccepted", .status = "True", .reason = "NoConflicts", .message = "no conflicts found"};
    struct condition established = {.type = "Established",
                                    .status = "True",
                                    .reason = "InitialNamesAccepted",
                                    .message = "the initial names have been accepted"};

    resources = resources ? resources : &none;
    kinds = kinds ? kinds : &none;
    accept_name(a, wanted, &accepted, "plural", resources, "PluralConflict", &names);
    accept_name(a, wanted, &accepted, "singular", resources, "SingularConflict", &names);
    accept_short_names(a, wanted, &accepted, resources, &names);
    accept_name(a, wanted, &accepted, "kind", kinds, "KindConflict", &names);
    accept_name(a, wanted, &accepted, "listKind", kinds, "ListKindConflict", &names);
    accepted = json_with(a, accepted, "categories", json_get(wanted, "categories"));
    crd = condition_set(a, crd, &names, now);
    if (strcmp(names.status, "True") != 0) {
        established.status = "False";
        established.reason = "NotAccepted";
        established.message = "not all names are accepted";
    }
    /* Once it is, it stays: its objects are there. */
    if (!condition_is(crd, "Established", "True"))
        crd = condition_set(a, crd, &established, now);
    crd = with_approval(a, crd, now);
    crd = json_with_at(a, crd, "status/acceptedNames", names_ordered(a, accepted));
    return crd_with_stored(a, crd);
}

/* -- kinds ---------------------------------------------------------------------------------------- */

static const char *text_of(struct arena *a, const struct json *v)
{
    return json_is(v, JSON_STRING) && v->n ? arena_strdup(a, json_str(v)) : NULL;
}

static const char *const *texts_of(struct arena *a, const struct json *list)
{
    const char **p = ARENA_ARRAY(a, const char *, json_len(list) + 1);
    size_t n = 0;

    json_each_item(it, list) {
        if (json_is(it, JSON_STRING))
            p[n++] = arena_strdup(a, json_str(it));
    }
    return n ? p : NULL;
}

static const struct kind_column *columns_of(struct arena *a, const struct json *version, size_t *ret_n)
{
    static const struct kind_column age = {.name = "Age", .type = "date", .path = ".metadata.creationTimestamp"};
    const struct json *list = json_get(version, "additionalPrinterColumns");
    struct kind_column *p = ARENA_ARRAY(a, struct kind_column, json_len(list));
    size_t n = 0;

    json_each_item(it, list) {
        if (n == CRD_COLUMNS_MAX)
            break;
        p[n++] = (struct kind_column){
            .name = text_of(a, json_get(it, "name")),
            .type = text_of(a, json_get(it, "type")),
            .format = text_of(a, json_get(it, "format")),
            .description = text_of(a, json_get(it, "description")),
            .path = text_of(a, json_get(it, "jsonPath")),
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

int crd_version_compare(const char *a, const char *b)
{
    const char *names[] = {a, b};
    long rank[2][3] = {{0}};

    for (int i = 0; i < 2; i++) {
        unsigned major = 0, minor = 0;
        char stage[8] = "";
        int end = 0, n = sscanf(names[i], "v%8u%n%7[a-z]%8u", &major, &end, stage, &minor);

        if (n == 1 && names[i][end] == '\0')
            rank[i][0] = 3;
        else if (n == 3 && !strcmp(stage, "beta"))
            rank[i][0] = 2;
        else if (n == 3 && !strcmp(stage, "alpha"))
            rank[i][0] = 1;
        rank[i][1] = (long)major;
        rank[i][2] = (long)minor;
    }
    for (int i = 0; i < 3 && (rank[0][0] || rank[1][0]); i++)
        if (rank[0][i] != rank[1][i])
            return rank[0][i] > rank[1][i] ? -1 : 1;
    return strcmp(a, b);
}

static int by_version(const void *x, const void *y)
{
    const char *const *a = x, *const *b = y;

    return crd_version_compare(*a, *b);
}

const char *const *crd_served(struct arena *a, const struct json *crd)
{
    const struct json *versions = json_at(crd, "spec/versions");
    const char **p = ARENA_ARRAY(a, const char *, json_len(versions) + 1);
    size_t n = 0;

    json_each_item(it, versions) {
        if (json_bool(json_get(it, "served")) && json_str(json_get(it, "name")).n)
            p[n++] = arena_strdup(a, json_str(json_get(it, "name")));
    }
    if (n)
        qsort(p, n, sizeof *p, by_version);
    return p;
}

static const char *const *selectable_of(struct arena *a, const struct json *version)
{
    const struct json *fields = json_get(version, "selectableFields");
    const char **p = ARENA_ARRAY(a, const char *, json_len(fields) + 1);
    size_t n = 0;

    json_each_item(it, fields) {
        struct str path = json_str(json_get(it, "jsonPath"));

        p[n++] = arena_strdup(a, str_starts(path, STR(".")) ? str_skip(path, 1) : path);
    }
    return n ? p : NULL;
}

static void name_kind(struct arena *a, struct kind_info *k, const struct json *crd, const struct json *v)
{
    const struct json *accepted = json_at(crd, "status/acceptedNames"), *names;

    /* What another definition has first is not ours, though it is asked for. */
    names = json_str(json_get(accepted, "kind")).n ? accepted : json_at(crd_default(a, crd), "spec/names");
    k->group = text_of(a, json_at(crd, "spec/group"));
    k->version = text_of(a, json_get(v, "name"));
    k->kind = text_of(a, json_get(names, "kind"));
    k->plural = text_of(a, json_at(crd, "spec/names/plural"));
    k->singular = text_of(a, json_get(names, "singular"));
    k->list_kind = text_of(a, json_get(names, "listKind"));
    if (k->kind && !k->list_kind)
        k->list_kind = arena_printf(a, "%sList", k->kind);
    k->short_names = texts_of(a, json_get(names, "shortNames"));
    k->categories = texts_of(a, json_get(names, "categories"));
}

bool crd_kind(struct arena *a, const struct json *crd, const char *version, const struct kind_info **ret,
              struct error *err)
{
    AUTO(crd_check_done) struct crd_check c = {.a = a, .path = {.limit = 64 << 10}};
    const struct json *v = crd_version(crd, str_of(version)), *schema = json_at(v, "schema/openAPIV3Schema");
    struct kind_info *k = ARENA_NEW(a, struct kind_info);
    struct schema_type *t;

    if (!v)
        return error_set(err, ERROR_INVALID, "spec.versions: no such version");
    name_kind(a, k, crd, v);
    if (!k->group || !k->version || !k->kind || !k->plural)
        return error_set(err, ERROR_INVALID, "spec: group, names and versions must be named");
    k->storage_version = text_of(a, json_get(crd_version(crd, STR_NONE), "name"));
    if (!k->storage_version)
        return error_set(err, ERROR_INVALID, "spec.versions: no version is marked as storage version");
    k->versions = crd_served(a, crd);
    k->flags = (str_is(json_str_at(crd, "spec/scope"), "Namespaced") ? KIND_NAMESPACED : 0)
               | (json_at(v, "subresources/status") ? KIND_STATUS : 0)
               | (json_at(v, "subresources/scale") ? KIND_SCALE : 0);
    k->selectable = selectable_of(a, v);
    k->columns = columns_of(a, v, &k->n_columns);
    t = crd_schema(&c, schema, true);
    if (c.too_large)
        return error_set(err, ERROR_INVALID, "spec.versions: the schema is too large");
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
        selectable =
            json_append(a, selectable, json_object(a, "jsonPath", json_new_f(a, ".%s", k->selectable[i]), NULL));
    if (k->flags & KIND_SCALE)
        subresources = json_object(a, "scale",
                                   json_object(a, "labelSelectorPath", json_new_z(a, ".status.labelSelector"),
                                               "specReplicasPath", json_new_z(a, ".spec.replicas"),
                                               "statusReplicasPath", json_new_z(a, ".status.replicas"), NULL),
                                   NULL);
    if (k->flags & KIND_STATUS)
        subresources = json_with(a, subresources, "status", empty);
    return json_object(
        a, "name", json_new_z(a, name), "served", json_new_bool(true), "storage",
        json_new_bool(strcmp(name, k->storage_version) == 0), "deprecated", deprecated ? json_new_bool(true) : NULL,
        "deprecationWarning",
        deprecated ? json_new_f(a, "%s/%s is now deprecated and will be removed in a future release.", k->group, name)
                   : NULL,
        "schema", json_object(a, "openAPIV3Schema", schema, NULL), "subresources", subresources, "selectableFields",
        json_len(selectable) ? selectable : NULL, "additionalPrinterColumns", own_columns(a, k), NULL);
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
        a, "apiVersion", json_new_z(a, "apiextensions.k8s.io/v1"), "kind", json_new_z(a, "CustomResourceDefinition"),
        "metadata", json_object(a, "name", json_new_f(a, "%s.%s", k->plural, k->group), NULL), "spec",
        json_object(a, "group", json_new_z(a, k->group), "names", names, "scope",
                    json_new_z(a, k->flags & KIND_NAMESPACED ? "Namespaced" : "Cluster"), "versions", versions,
                    "conversion", json_object(a, "strategy", json_new_z(a, "None"), NULL), NULL),
        NULL);
    return crd_with_status(a, crd, NULL, NULL, now);
}
