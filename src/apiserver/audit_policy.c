#include "apiserver/audit_policy.h"
#include "api/names.h"
#include "base/cleanup.h"
#include "base/alloc.h"
#include "json/yaml.h"
#include <stdlib.h>

struct audit_policy {
    struct arena arena;
    const struct json *rules;
    unsigned omit;
    bool omit_managed_fields;
};

static const char *const levels[] = {"None", "Metadata", "Request", "RequestResponse"};
static const char *const stages[] = {"RequestReceived", "ResponseStarted", "ResponseComplete",
                                     "Panic"};

const char *audit_level_name(enum audit_level l)
{
    return levels[l];
}

const char *audit_stage_name(enum audit_stage s)
{
    return stages[s];
}

static int index_of(const char *const *names, size_t n, struct str s)
{
    for (size_t i = 0; i < n; i++)
        if (str_is(s, names[i]))
            return (int)i;
    return -1;
}

/* What may stand in an object, and what it has to be. */
struct member {
    const char *name;
    enum { TEXT, TEXTS, BOOLEAN, OBJECTS, ANY } type;
};

static bool is_texts(const struct json *v)
{
    json_each_item(it, v) {
        if (!json_is(it, JSON_STRING))
            return false;
    }
    return json_is(v, JSON_ARRAY);
}

static bool fits(const struct json *v, const struct member *m)
{
    if (json_is(v, JSON_NULL))
        return true;
    switch (m->type) {
    case TEXT:
        return json_is(v, JSON_STRING);
    case TEXTS:
        return is_texts(v);
    case BOOLEAN:
        return json_is(v, JSON_TRUE) || json_is(v, JSON_FALSE);
    case OBJECTS:
        json_each_item(it, v) {
            if (!json_is(it, JSON_OBJECT))
                return false;
        }
        return json_is(v, JSON_ARRAY);
    case ANY:
        return true;
    }
    return false;
}

static bool check_members(const struct json *o, const char *path, const struct member *known,
                          size_t n, struct error *err)
{
    static const char *const wanted[] = {"a string", "a list of strings", "true or false",
                                         "a list of objects", ""};

    json_each_member(m, o) {
        struct str name = json_str(&m->key);
        const struct member *k = NULL;

        for (size_t i = 0; i < n; i++)
            if (str_is(name, known[i].name))
                k = &known[i];
        if (!k)
            return error_set(err, ERROR_INVALID, "%s" STR_FMT ": no such field", path,
                             STR_ARG(name));
        if (!fits(&m->value, k))
            return error_set(err, ERROR_INVALID, "%s" STR_FMT ": %s is wanted", path, STR_ARG(name),
                             wanted[k->type]);
    }
    return true;
}

static bool check_stages(const struct json *list, const char *path, unsigned *ret_omit,
                         struct error *err)
{
    size_t i = 0;

    json_each_item(it, list) {
        int at = index_of(stages, ARRAY_SIZE(stages), json_str(it));

        if (at < 0)
            return error_set(
                err, ERROR_INVALID,
                "%somitStages[%zu]: Invalid value: \"" STR_FMT
                "\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
                path, i, STR_ARG(json_str(it)));
        *ret_omit |= 1u << at;
        i++;
    }
    return true;
}

static bool check_urls(const struct json *list, const char *path, struct error *err)
{
    size_t i = 0;

    json_each_item(it, list) {
        struct str url = json_str(it);
        const char *why = NULL;

        if (!str_is(url, "*") && !str_starts(url, STR("/")))
            why = "non-resource URL rules must begin with a '/' character";
        else if (url.n > 1 && str_has(str_take(url, url.n - 1), '*'))
            why = "non-resource URL wildcards '*' must be the final character of the rule";
        if (why)
            return error_set(err, ERROR_INVALID,
                             "%snonResourceURLs[%zu]: Invalid value: \"" STR_FMT "\": %s", path, i,
                             STR_ARG(url), why);
        i++;
    }
    return true;
}

static bool check_resources(const struct json *list, const char *path, struct error *err)
{
    static const struct member known[] = {
        {"group", TEXT}, {"resources", TEXTS}, {"resourceNames", TEXTS}};
    size_t i = 0;

    json_each_item(it, list) {
        char at[128];
        struct str group = json_str_at(it, "group");

        snprintf(at, sizeof at, "%sresources[%zu].", path, i++);
        if (!check_members(it, at, known, ARRAY_SIZE(known), err))
            return false;
        if (group.n && name_dns1123_subdomain(group))
            return error_set(err, ERROR_INVALID, "%sgroup: Invalid value: \"" STR_FMT "\": %s", at,
                             STR_ARG(group), name_dns1123_subdomain(group));
        if (json_len(json_get(it, "resourceNames")) && !json_len(json_get(it, "resources")))
            return error_set(err, ERROR_INVALID,
                             "%sresourceNames: using resourceNames requires at least one resource",
                             at);
    }
    return true;
}

static bool check_rule(const struct json *rule, size_t i, struct error *err)
{
    static const struct member known[] = {{"level", TEXT},
                                          {"users", TEXTS},
                                          {"userGroups", TEXTS},
                                          {"verbs", TEXTS},
                                          {"resources", OBJECTS},
                                          {"namespaces", TEXTS},
                                          {"nonResourceURLs", TEXTS},
                                          {"omitStages", TEXTS},
                                          {"omitManagedFields", BOOLEAN}};
    char path[64];
    struct str level = json_str_at(rule, "level");
    unsigned omit = 0;

    snprintf(path, sizeof path, "rules[%zu].", i);
    if (!check_members(rule, path, known, ARRAY_SIZE(known), err))
        return false;
    if (!level.n)
        return error_set(err, ERROR_INVALID, "%slevel: Required value", path);
    if (index_of(levels, ARRAY_SIZE(levels), level) < 0)
        return error_set(
            err, ERROR_INVALID,
            "%slevel: Unsupported value: \"" STR_FMT
            "\": supported values: \"Metadata\", \"None\", \"Request\", \"RequestResponse\"",
            path, STR_ARG(level));
    if (json_len(json_get(rule, "nonResourceURLs"))
        && (json_len(json_get(rule, "resources")) || json_len(json_get(rule, "namespaces"))))
        return error_set(
            err, ERROR_INVALID,
            "%snonResourceURLs: rules cannot apply to both regular resources and non-resource URLs",
            path);
    return check_urls(json_get(rule, "nonResourceURLs"), path, err)
           && check_resources(json_get(rule, "resources"), path, err)
           && check_stages(json_get(rule, "omitStages"), path, &omit, err);
}

static bool check(struct audit_policy *p, const struct json *doc, struct error *err)
{
    static const struct member known[] = {{"apiVersion", TEXT},  {"kind", TEXT},
                                          {"metadata", ANY},     {"rules", OBJECTS},
                                          {"omitStages", TEXTS}, {"omitManagedFields", BOOLEAN}};
    size_t i = 0;

    if (!json_is(doc, JSON_OBJECT))
        return error_set(
            err, ERROR_INVALID,
            "an object is wanted: apiVersion: audit.k8s.io/v1, kind: Policy, rules: …");
    if (!str_is(json_str_at(doc, "apiVersion"), "audit.k8s.io/v1"))
        return error_set(err, ERROR_INVALID, "apiVersion: \"audit.k8s.io/v1\" is wanted");
    if (!str_is(json_str_at(doc, "kind"), "Policy"))
        return error_set(err, ERROR_INVALID, "kind: \"Policy\" is wanted");
    if (!check_members(doc, "", known, ARRAY_SIZE(known), err)
        || !check_stages(json_get(doc, "omitStages"), "", &p->omit, err))
        return false;
    p->rules = json_get(doc, "rules");
    p->omit_managed_fields = json_bool_at(doc, "omitManagedFields", false);
    if (!json_len(p->rules))
        return error_set(err, ERROR_INVALID,
                         "rules: Required value: a policy without rules notes nothing");
    json_each_item(rule, p->rules) {
        if (!check_rule(rule, i++, err))
            return false;
    }
    return true;
}

bool audit_policy_parse(struct str text, struct audit_policy **ret, struct error *err)
{
    struct audit_policy *p = NEW(struct audit_policy);
    const struct json *doc;

    if (yaml_parse_one(text, &p->arena, &doc, err) && check(p, doc, err)) {
        *ret = p;
        return true;
    }
    audit_policy_free(p);
    return false;
}

void audit_policy_free(struct audit_policy *p)
{
    if (!p)
        return;
    arena_done(&p->arena);
    free(p);
}

static bool has(const struct json *list, struct str wanted)
{
    json_each_item(it, list) {
        if (str_eq(json_str(it), wanted))
            return true;
    }
    return false;
}

static bool in_groups(const struct json *groups, const struct identity *who)
{
    for (size_t i = 0; who && who->groups && who->groups[i]; i++)
        if (has(groups, str_of(who->groups[i])))
            return true;
    return false;
}

/* "pods", "pods/log", "*", "*" with "/status", "pods" with "/" and "*". */
static bool resource_matches(const struct json *entry, const struct access *w)
{
    const struct json *names = json_get(entry, "resourceNames"),
                      *resources = json_get(entry, "resources");

    if (!str_eq(json_str_at(entry, "group"), w->group))
        return false;
    if (!json_len(resources))
        return true;
    if (json_len(names) && !has(names, w->name))
        return false;
    json_each_item(it, resources) {
        struct str s = json_str(it), left, right;

        if (str_is(s, "*"))
            return true;
        if (!str_cut(s, '/', &left, &right)) {
            if (!w->subresource.n && str_eq(s, w->resource))
                return true;
        } else if ((str_is(left, "*") && w->subresource.n && str_eq(right, w->subresource))
                   || (str_eq(left, w->resource)
                       && (str_is(right, "*")
                           || (w->subresource.n && str_eq(right, w->subresource))))) {
            return true;
        }
    }
    return false;
}

static bool matches_resource(const struct json *rule, const struct access *w)
{
    const struct json *spaces = json_get(rule, "namespaces"),
                      *resources = json_get(rule, "resources");

    if (w->path.p || (json_len(spaces) && !has(spaces, w->ns)))
        return false;
    if (!json_len(resources))
        return true;
    json_each_item(it, resources) {
        if (resource_matches(it, w))
            return true;
    }
    return false;
}

static bool matches(const struct json *rule, const struct identity *who, const struct access *w)
{
    const struct json *users = json_get(rule, "users"), *groups = json_get(rule, "userGroups"),
                      *verbs = json_get(rule, "verbs"), *urls = json_get(rule, "nonResourceURLs");

    if (json_len(users) && !(who && has(users, str_of(who->user))))
        return false;
    if (json_len(groups) && !in_groups(groups, who))
        return false;
    if (json_len(verbs) && !has(verbs, w->verb))
        return false;
    if (json_len(json_get(rule, "namespaces")) || json_len(json_get(rule, "resources")))
        return matches_resource(rule, w);
    if (!json_len(urls))
        return true;
    json_each_item(it, urls) {
        if (w->path.p && url_covers(json_str(it), w->path))
            return true;
    }
    return false;
}

struct audit_decision audit_policy_decide(const struct audit_policy *p, const struct identity *who,
                                          const struct access *w)
{
    struct audit_decision d = {.level = AUDIT_NONE, .omit = p->omit};

    json_each_item(rule, p->rules) {
        AUTO(error_clear) struct error err = {0};

        if (!matches(rule, who, w))
            continue;
        d.level =
            (enum audit_level)index_of(levels, ARRAY_SIZE(levels), json_str_at(rule, "level"));
        if (!check_stages(json_get(rule, "omitStages"), "", &d.omit, &err))
            return d; /* it was checked when it was read */
        d.omit_managed_fields = json_bool_at(rule, "omitManagedFields", p->omit_managed_fields);
        return d;
    }
    return d;
}
