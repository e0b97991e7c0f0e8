/* apiserver/admit_webhooks - the rules of webhook configurations: what cannot be called is refused when it is written. */
#include "api/meta.h"
#include "api/names.h"
#include "apiserver/admit.h"
#include "apiserver/hooks.h"

#define CONDITIONS_MAX 64

struct place {
    struct request *r;
    struct schema_causes *c;
    const char *at; /* webhooks[0] */
};

static const char *below(const struct place *p, const char *field)
{
    return arena_printf(&p->r->arena, "%s.%s", p->at, field);
}

static void invalid(const struct place *p, const char *field, const char *value, const char *why)
{
    schema_cause_add(p->c, &p->r->arena, "FieldValueInvalid", below(p, field),
                     "Invalid value: %s: %s", value, why);
}

static const char *quoted(const struct place *p, struct str s)
{
    return arena_printf(&p->r->arena, "\"" STR_FMT "\"", STR_ARG(s));
}

static const char *as_json(const struct place *p, const struct json *v)
{
    AUTO(buf_done) struct buf b = {0};

    json_write(&b, v);
    return arena_strdup(&p->r->arena, buf_str(&b));
}

static void check_name(const struct place *p, struct str name)
{
    size_t dots = 0;

    if (!name.n) {
        cause_required(p->r, p->c, below(p, "name"), "");
        return;
    }
    if (name_dns1123_subdomain(name)) {
        invalid(p, "name", quoted(p, name), name_dns1123_subdomain(name));
        return;
    }
    for (size_t i = 0; i < name.n; i++)
        dots += name.p[i] == '.';
    if (dots < 2)
        invalid(p, "name", quoted(p, name),
                "should be a domain with at least three segments separated by dots");
}

/* A list that must say something, and "*" only by itself. */
static void check_list(const struct place *p, const struct json *list, const char *field,
                       const char *others)
{
    bool star = false;

    if (!json_len(list))
        cause_required(p->r, p->c, below(p, field), "");
    json_each_item(v, list)
        star |= str_is(json_str(v), "*");
    if (star && json_len(list) > 1)
        invalid(p, field, as_json(p, list),
                arena_printf(&p->r->arena, "if '*' is present, must not specify other %s", others));
}

static void check_rule(const struct place *hook, const struct json *rule, size_t i)
{
    static const char *const operations[] = {"*", "CONNECT", "CREATE", "DELETE", "UPDATE", NULL};
    static const char *const scopes[] = {"*", "Cluster", "Namespaced", NULL};
    struct request *r = hook->r;
    struct place p = {r, hook->c, arena_printf(&r->arena, "%s.rules[%zu]", hook->at, i)};
    size_t n = 0;

    check_list(&p, json_get(rule, "operations"), "operations", "operations");
    json_each_item(v, json_get(rule, "operations"))
        cause_unless_one_of(r, p.c, arena_printf(&r->arena, "%s.operations[%zu]", p.at, n++),
                            json_str(v), operations);
    check_list(&p, json_get(rule, "apiGroups"), "apiGroups", "API groups");
    check_list(&p, json_get(rule, "apiVersions"), "apiVersions", "API versions");
    n = 0;
    json_each_item(v, json_get(rule, "apiVersions")) {
        if (!json_str(v).n)
            cause_required(r, p.c, arena_printf(&r->arena, "%s.apiVersions[%zu]", p.at, n), "");
        n++;
    }
    n = 0;
    if (!json_len(json_get(rule, "resources")))
        cause_required(r, p.c, below(&p, "resources"), "");
    json_each_item(v, json_get(rule, "resources")) {
        if (!json_str(v).n)
            cause_required(r, p.c, arena_printf(&r->arena, "%s.resources[%zu]", p.at, n), "");
        n++;
    }
    cause_unless_one_of(r, p.c, below(&p, "scope"), json_str_at(rule, "scope"), scopes);
}

#define WANTED "; desired format: https://host[/path]"

static void check_url(const struct place *p, struct str url)
{
    struct str scheme, rest, host;

    if (!str_cut(url, ':', &scheme, &rest) || !str_is(scheme, "https")) {
        invalid(p, "clientConfig.url", quoted(p, rest.p ? scheme : STR("")),
                "'https' is the only allowed URL scheme" WANTED);
        return;
    }
    rest = str_starts(rest, STR("//")) ? str_skip(rest, 2) : STR("");
    host = rest;
    for (size_t i = 0; i < rest.n && host.n == rest.n; i++)
        if (rest.p[i] == '/' || rest.p[i] == '?' || rest.p[i] == '#')
            host = str_take(rest, i);
    if (!host.n)
        invalid(p, "clientConfig.url", "\"\"", "host must be specified" WANTED);
    if (str_has(host, '@'))
        invalid(p, "clientConfig.url", quoted(p, url),
                "user information is not permitted in the URL");
    if (str_has(rest, '#'))
        invalid(p, "clientConfig.url", quoted(p, url), "fragments are not permitted in the URL");
    if (str_has(rest, '?'))
        invalid(p, "clientConfig.url", quoted(p, url),
                "query parameters are not permitted in the URL");
}

static void check_client(const struct place *p, const struct json *hook, bool mutating)
{
    const struct json *client = json_get(hook, "clientConfig");
    struct str url = json_str_at(client, "url");
    size_t before = p->c->n;
    struct hook *probe;

    if ((url.p != NULL) == (json_get(client, "service") != NULL)) {
        cause_required(p->r, p->c, below(p, "clientConfig"),
                       "exactly one of url or service is required");
        return;
    }
    if (!url.p) {
        schema_cause_add(p->c, &p->r->arena, "FieldValueForbidden",
                         below(p, "clientConfig.service"),
                         "Forbidden: this server has no Services that a webhook could be reached "
                         "by: use clientConfig.url with an address of this machine or network");
        return;
    }
    check_url(p, url);
    if (p->c->n > before)
        return;
    probe = hook_new(hook, STR("probe"), mutating, p->r->s->loop);
    if (probe->broken)
        invalid(p, json_str_at(client, "caBundle").n ? "clientConfig.caBundle" : "clientConfig.url",
                json_str_at(client, "caBundle").n ? "<certificates>" : quoted(p, url),
                arena_strdup(&p->r->arena, str_of(probe->broken)));
    hook_unref(probe);
}

static void check_versions(const struct place *p, const struct json *versions)
{
    bool known = false;

    if (!json_len(versions)) {
        cause_required(p->r, p->c, below(p, "admissionReviewVersions"),
                       "must specify one of v1, v1beta1");
        return;
    }
    json_each_item(v, versions)
        known |= str_is(json_str(v), "v1");
    if (!known)
        invalid(p, "admissionReviewVersions", as_json(p, versions),
                "must include v1: no other version of AdmissionReview is sent here");
}

static void check_conditions(const struct place *p, const struct json *list)
{
    struct arena *a = &p->r->arena;
    size_t i = 0;

    if (json_len(list) > CONDITIONS_MAX)
        schema_cause_add(p->c, a, "FieldValueTooMany", below(p, "matchConditions"),
                         "Too many: %zu: must have at most %d items", json_len(list),
                         CONDITIONS_MAX);
    json_each_item(v, list) {
        struct place q = {p->r, p->c, arena_printf(a, "%s.matchConditions[%zu]", p->at, i)};
        struct str name = json_str_at(v, "name"), text = str_trim(json_str_at(v, "expression"));
        const struct cel_program *program;
        AUTO(error_clear) struct error err = {0};

        if (!name.n)
            cause_required(p->r, p->c, below(&q, "name"), "");
        else if (name_qualified(name, a))
            invalid(&q, "name", quoted(&q, name), name_qualified(name, a));
        for (size_t j = 0; j < i; j++)
            if (str_eq(json_str_at(json_item(list, j), "name"), name))
                schema_cause_add(p->c, a, "FieldValueDuplicate", below(&q, "name"),
                                 "Duplicate value: \"" STR_FMT "\"", STR_ARG(name));
        if (!text.n)
            cause_required(p->r, p->c, below(&q, "expression"), "");
        else if (!cel_compile(a, &hook_env, text, &program, &err))
            invalid(&q, "expression", quoted(&q, text),
                    arena_printf(a, "compilation failed: %s", error_text(&err)));
        else if (cel_result(program)->kind != CEL_BOOL && cel_result(program)->kind != CEL_DYN)
            invalid(&q, "expression", quoted(&q, text), "must evaluate to bool");
        i++;
    }
}

static void check_hook(const struct place *p, const struct json *hook, bool mutating)
{
    static const char *const failure[] = {"Fail", "Ignore", NULL};
    static const char *const match[] = {"Equivalent", "Exact", NULL};
    static const char *const effects[] = {"None", "NoneOnDryRun", NULL};
    static const char *const again[] = {"IfNeeded", "Never", NULL};
    struct request *r = p->r;
    int64_t seconds = json_i64_at(hook, "timeoutSeconds", 10);
    size_t i = 0;

    check_name(p, json_str_at(hook, "name"));
    json_each_item(rule, json_get(hook, "rules"))
        check_rule(p, rule, i++);
    cause_unless_one_of(r, p->c, below(p, "failurePolicy"), json_str_at(hook, "failurePolicy"),
                        failure);
    cause_unless_one_of(r, p->c, below(p, "matchPolicy"), json_str_at(hook, "matchPolicy"), match);
    if (!json_str_at(hook, "sideEffects").p)
        cause_required(r, p->c, below(p, "sideEffects"), "must specify one of None, NoneOnDryRun");
    else
        cause_unless_one_of(r, p->c, below(p, "sideEffects"), json_str_at(hook, "sideEffects"),
                            effects);
    cause_unless_one_of(r, p->c, below(p, "reinvocationPolicy"),
                        json_str_at(hook, "reinvocationPolicy"), again);
    if (seconds < 1 || seconds > HOOK_SECONDS_MAX)
        invalid(p, "timeoutSeconds", arena_printf(&r->arena, "%lld", (long long)seconds),
                "the timeout value must be between 1 and 30 seconds");
    check_label_selector(r, json_get(hook, "namespaceSelector"), below(p, "namespaceSelector"),
                         p->c);
    check_label_selector(r, json_get(hook, "objectSelector"), below(p, "objectSelector"), p->c);
    check_versions(p, json_get(hook, "admissionReviewVersions"));
    check_conditions(p, json_get(hook, "matchConditions"));
    check_client(p, hook, mutating);
}

void check_webhooks(struct request *r, const struct json *o, struct schema_causes *c)
{
    bool mutating = !strcmp(r->kind->info->plural, "mutatingwebhookconfigurations");
    const struct json *hooks = json_get(o, "webhooks");
    struct arena *a = &r->arena;
    size_t i = 0;

    json_each_item(hook, hooks) {
        struct place p = {r, c, arena_printf(a, "webhooks[%zu]", i)};

        for (size_t j = 0; j < i; j++)
            if (str_eq(json_str_at(json_item(hooks, j), "name"), json_str_at(hook, "name")))
                schema_cause_add(c, a, "FieldValueDuplicate", below(&p, "name"),
                                 "Duplicate value: \"" STR_FMT "\"",
                                 STR_ARG(json_str_at(hook, "name")));
        check_hook(&p, hook, mutating);
        i++;
    }
}
