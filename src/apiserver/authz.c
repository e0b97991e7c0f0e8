/* apiserver/authz - may they?
 *
 * In this order, and the first that says yes decides: system:masters may everything; the node rules (nodes.c) for the node's own
 * identity; RBAC. A refusal carries what the deciders had to say, as upstream's does: a binding to a role that is not there is
 * named in the 403. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "apiserver/nodes.h"
#include "apiserver/rbac.h"

bool identity_in(const struct identity *who, const char *group)
{
    for (size_t i = 0; who->groups && who->groups[i]; i++)
        if (!strcmp(who->groups[i], group))
            return true;
    return false;
}

struct search {
    const struct access *want;
    struct arena *a; /* NULL: nobody reads the reason */
    const char *reason;
    struct buf missing; /* roles that are bound and not there */
    size_t n_missing;
    bool allowed;
};

static const char *allowed_by(struct arena *a, const struct binding *b, const struct json *subject)
{
    bool account = str_is(json_str_at(subject, "kind"), "ServiceAccount");
    struct str ns = json_str_at(subject, "namespace");

    if (account && !ns.n)
        ns = b->ns;
    return arena_printf(a,
                        "RBAC: allowed by %s \"" STR_FMT "%s" STR_FMT "\" of " STR_FMT " \"" STR_FMT
                        "\" to " STR_FMT " \"" STR_FMT "%s" STR_FMT "\"",
                        b->ns.p ? "RoleBinding" : "ClusterRoleBinding", STR_ARG(b->name),
                        b->ns.p ? "/" : "", STR_ARG(b->ns), STR_ARG(b->role_kind),
                        STR_ARG(b->role_name), STR_ARG(json_str_at(subject, "kind")),
                        STR_ARG(json_str_at(subject, "name")), account ? "/" : "",
                        STR_ARG(account ? ns : STR("")));
}

static bool look(void *user, const struct binding *b, const struct json *subject,
                 const struct json *rule, const char *missing)
{
    struct search *s = user;

    if (!rule) {
        if (s->a) {
            buf_addf(&s->missing, "%s%s", s->n_missing ? ", " : "", missing);
            s->n_missing++;
        }
        return true;
    }
    if (!rule_allows(rule, s->want))
        return true;
    s->allowed = true;
    if (s->a)
        s->reason = allowed_by(s->a, b, subject);
    return false;
}

static bool rbac_allows(struct apiserver *s, const struct identity *who, const struct access *want,
                        struct arena *a, const char **ret_reason)
{
    struct search f = {.want = want, .a = a, .reason = ""};

    rbac_visit(s->rbac, who, want->path.p ? STR_NONE : want->ns, look, &f);
    if (!f.allowed && f.n_missing)
        f.reason = f.n_missing == 1 ? arena_printf(a, "RBAC: %s", f.missing.p)
                                    : arena_printf(a, "RBAC: [%s]", f.missing.p);
    buf_done(&f.missing);
    *ret_reason = f.reason;
    return f.allowed;
}

bool authorize(struct apiserver *s, const struct identity *who, const struct access *want,
               struct arena *a, const char **ret_reason)
{
    const char *node = "", *rbac = "";

    *ret_reason = "";
    if (identity_in(who, "system:masters") || node_allows(s, who, want, a, &node))
        return true;
    if (rbac_allows(s, who, want, a, &rbac)) {
        *ret_reason = rbac;
        return true;
    }
    *ret_reason = a && *node && *rbac ? arena_printf(a, "%s\n%s", node, rbac) : *node ? node : rbac;
    return false;
}

bool apiserver_authorized(struct apiserver *s, const struct identity *who, const char *verb,
                          const char *group, const char *resource, const char *subresource,
                          struct str ns, struct str name)
{
    const struct access want = {.verb = str_of(verb),
                                .group = str_of(group),
                                .resource = str_of(resource),
                                .subresource = str_of(subresource),
                                .ns = ns,
                                .name = name};
    const char *reason;

    return authorize(s, who, &want, NULL, &reason);
}

/* What probes of a machine may ask without credentials, and nothing else. */
bool open_path(struct str path)
{
    return str_is(path, "/livez") || str_is(path, "/readyz") || str_is(path, "/version");
}

const char *forbidden_text(struct arena *a, const struct identity *who, const struct access *w,
                           const char *reason)
{
    AUTO(buf_done) struct buf b = {0};

    if (w->path.p) {
        buf_addf(&b, "forbidden: User \"%s\" cannot " STR_FMT " path \"" STR_FMT "\"", who->user,
                 STR_ARG(w->verb), STR_ARG(w->path));
    } else {
        buf_addf(&b, STR_FMT "%s" STR_FMT, STR_ARG(w->resource), w->group.n ? "." : "",
                 STR_ARG(w->group));
        if (w->name.n)
            buf_addf(&b, " \"" STR_FMT "\"", STR_ARG(w->name));
        buf_addf(&b,
                 " is forbidden: User \"%s\" cannot " STR_FMT " resource \"" STR_FMT "%s" STR_FMT,
                 who->user, STR_ARG(w->verb), STR_ARG(w->resource), w->subresource.n ? "/" : "",
                 STR_ARG(w->subresource));
        buf_addf(&b, "\" in API group \"" STR_FMT "\" ", STR_ARG(w->group));
        if (w->ns.n)
            buf_addf(&b, "in the namespace \"" STR_FMT "\"", STR_ARG(w->ns));
        else
            buf_adds(&b, "at the cluster scope");
    }
    if (*reason)
        buf_addf(&b, ": %s", reason);
    return arena_strdup(a, buf_str(&b));
}

void answer_forbidden(struct request *r, const struct identity *who, const struct access *w,
                      const char *reason)
{
    struct arena *a = &r->arena;
    const struct json *details = json_object(a, NULL);

    if (!w->path.p)
        details = json_object(a, "name", w->name.n ? json_new_str(a, w->name) : NULL, "group",
                              w->group.n ? json_new_str(a, w->group) : NULL, "kind",
                              json_new_str(a, w->resource), NULL);
    if (r->x)
        exchange_set_header(r->x, "X-Content-Type-Options", STR("nosniff"));
    answer_status(r, 403, "Forbidden", forbidden_text(a, who, w, reason), details);
}

struct listing {
    struct arena *a;
    const struct json *rules, *paths;
    struct buf missing;
    size_t n_missing;
};

static bool list_rule(void *user, const struct binding *b, const struct json *subject,
                      const struct json *rule, const char *missing)
{
    static const char *const keys[] = {"verbs", "apiGroups", "resources", "resourceNames"};
    struct listing *l = user;
    struct arena *a = l->a;
    const struct json *one = json_object(a, NULL);

    (void)b;
    (void)subject;
    if (!rule) {
        buf_addf(&l->missing, "%s%s", l->n_missing ? ", " : "", missing);
        l->n_missing++;
        return true;
    }
    if (json_len(json_get(rule, "resources"))) {
        for (size_t j = 0; j < ARRAY_SIZE(keys); j++)
            one = json_with(a, one, keys[j], json_get(rule, keys[j]));
        l->rules = json_append(a, l->rules, json_copy(a, one));
    }
    if (json_len(json_get(rule, "nonResourceURLs")))
        l->paths = json_append(
            a, l->paths,
            json_copy(a, json_object(a, "verbs", json_get(rule, "verbs"), "nonResourceURLs",
                                     json_get(rule, "nonResourceURLs"), NULL)));
    return true;
}

const struct json *authorize_rules(struct apiserver *s, const struct identity *who, struct str ns,
                                   struct arena *a)
{
    struct listing l = {.a = a, .rules = json_array(a, NULL), .paths = json_array(a, NULL)};
    const char *error = NULL;
    bool node = node_of(who).n > 0;

    rbac_visit(s->rbac, who, ns, list_rule, &l);
    if (node && l.n_missing)
        error = arena_printf(a, "[node authorizer does not support user rule resolution, %s]",
                             l.missing.p);
    else if (node)
        error = "node authorizer does not support user rule resolution";
    else if (l.n_missing)
        error = l.n_missing == 1 ? arena_strdup(a, buf_str(&l.missing))
                                 : arena_printf(a, "[%s]", l.missing.p);
    buf_done(&l.missing);
    return json_object(a, "resourceRules", l.rules, "nonResourceRules", l.paths, "incomplete",
                       json_new_bool(node || l.n_missing > 0), "evaluationError",
                       json_new_z(a, error), NULL);
}
