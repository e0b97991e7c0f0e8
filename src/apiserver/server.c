/* apiserver/server - life of the server, and the way of a request from its line to its verb. */
#include "api/labels.h"
#include "apiserver/fairness.h"
#include "apiserver/internal.h"
#include "apiserver/jwt.h"
#include "apiserver/local.h"
#include "apiserver/quota.h"
#include "apiserver/hooks.h"
#include "apiserver/rbac.h"
#include "base/ident.h"
#include "base/log.h"

struct apiserver *apiserver_new(const struct apiserver_config *c, struct error *err)
{
    struct apiserver *s = NEW(struct apiserver);

    s->config = *c;
    s->loop = c->loop;
    s->store = c->store;
    list_init(&s->requests);
    list_init(&s->lists);
    list_init(&s->watchers);
    s->metrics = metrics_new();
    s->fairness = fairness_new(s);
    catalog_init(s);
    if (!tokens_init(s, err)) {
        apiserver_free(s);
        return NULL;
    }
    s->rbac = rbac_new(s->store);
    s->self =
        apiserver_client(s, "system:apiserver", (const char *const[]){"system:masters", NULL});
    s->crds = crds_new(s);
    s->aggregation = aggregation_new(s);
    s->secrets = secrets_new(s);
    s->quotas = quotas_new(s);
    s->hooks = hooks_new(s);
    s->apiservices = apiservices_new(s);
    s->gc = gc_new(s);
    s->nsctl = nsctl_new(s); /* the last: what namespaces lack is created at once */
    return s;
}

void apiserver_free(struct apiserver *s)
{
    if (!s)
        return;
    s->closing = true;
    list_each_safe(n, &s->requests) {
        struct request *r = list_entry(n, struct request, node);

        if (r->parked)
            hooks_cancel(r->parked);
    }
    hooks_free(s->hooks);
    bootstrap_free(s->bootstrap);
    apiservices_free(s->apiservices);
    quotas_free(s->quotas);
    s->quotas = NULL;
    nsctl_free(s->nsctl);
    gc_free(s->gc);
    aggregation_free(s->aggregation);
    secrets_free(s->secrets);
    nodes_free(s->nodes);
    s->nodes = NULL;
    crds_free(s->crds);
    client_free(s->self);
    watchers_close(s);
    lists_close(s);
    list_each_safe(n, &s->requests) {
        struct request *r = list_entry(n, struct request, node);

        fairness_forget(r);
        if (r->x)
            answer_status(r, 503, "ServiceUnavailable", "the server is shutting down", NULL);
        else
            r->local = NULL; /* its write still calls back: the store frees it by an answer */
    }
    loop_timer_stop(&s->bookmarks);
    rbac_free(s->rbac);
    jwt_key_free(s->tokens);
    documents_free(s->documents);
    for (size_t i = 0; i < s->virtuals.n; i++)
        free((void *)(uintptr_t)s->virtuals.p[i].group);
    vec_done(&s->virtuals);
    vec_done(&s->plugins);
    map_done_with(&s->health, free);
    list_each_safe(n, &s->requests)
        request_free(list_entry(n, struct request, node));
    catalog_done(s);
    fairness_free(s->fairness);
    metrics_free(s->metrics);
    free(s->ca_pem);
    free(s);
}

void apiserver_add_admission(struct apiserver *s, const struct admission_plugin *p)
{
    vec_push(&s->plugins, *p);
}

void apiserver_add_virtual_group(struct apiserver *s, const struct virtual_group *g)
{
    struct virtual_group copy = *g;

    copy.group = xstrdup(g->group);
    vec_push(&s->virtuals, copy);
    s->kinds_generation++;
}

const struct json *apiserver_peek(struct apiserver *s, const char *group, const char *plural,
                                  struct str ns, struct str name, struct arena *a)
{
    struct served *k = catalog_find(s, str_of(group), STR_NONE, str_of(plural));
    struct store_object *o;
    const struct json *v;

    if (!k)
        return NULL;
    o = store_get_pending(s->store, kind_key(k->info, ns, name, a));
    if (!o)
        return NULL;
    v = store_object_json(o, a);
    store_object_unref(o);
    return v;
}

/* The path below /api/v1 or /apis/<group>/<version>, cut into its parts. */
static bool cut_resource(struct request *r, struct str rest, struct str *ret_extra)
{
    struct str part[4] = {STR_NONE, STR_NONE, STR_NONE, STR_NONE}, piece;
    size_t n = 0;

    *ret_extra = STR_NONE;
    if (str_starts(rest, STR("namespaces/"))) {
        struct str after = str_skip(rest, strlen("namespaces/")), ns, more;

        str_cut(after, '/', &ns, &more);
        if (str_empty(ns))
            return false;
        if (!str_empty(more) && !str_is(more, "status") && !str_is(more, "finalize")) {
            r->ns = ns;
            rest = more;
        }
    }
    while (n < 3 && rest.p && str_next(&rest, '/', &piece))
        part[n++] = piece;
    if (rest.p)
        *ret_extra = rest;
    if (n == 0 || str_empty(part[0]) || (n > 1 && str_empty(part[1]))
        || (n > 2 && str_empty(part[2])))
        return false;
    r->resource = part[0];
    r->name = part[1];
    r->subresource = part[2];
    return true;
}

static bool method_verb(struct request *r, enum http_method m)
{
    switch (m) {
    case HTTP_GET:
    case HTTP_HEAD:
        r->verb = r->name.p ? VERB_GET : VERB_LIST;
        if ((query_true(r, "watch") || r->old_watch) && (!r->subresource.p))
            r->verb = VERB_WATCH;
        return true;
    case HTTP_POST:
        r->verb = VERB_CREATE;
        return true;
    case HTTP_PUT:
        r->verb = VERB_UPDATE;
        return true;
    case HTTP_PATCH:
        r->verb = VERB_PATCH;
        return true;
    case HTTP_DELETE:
        r->verb = r->name.p ? VERB_DELETE : VERB_DELETE_ALL;
        return true;
    case HTTP_OPTIONS:
    case HTTP_CONNECT:
        return false;
    }
    return false;
}

static bool allowed_method(const struct request *r)
{
    bool named = r->name.p != NULL;

    switch (r->verb) {
    case VERB_CREATE:
        return !named || r->subresource.p;
    case VERB_UPDATE:
    case VERB_PATCH:
        return named;
    case VERB_GET:
    case VERB_LIST:
    case VERB_WATCH:
    case VERB_DELETE:
    case VERB_DELETE_ALL:
    case VERB_CONNECT:
        return true;
    }
    return true;
}

/* A list or watch of one name (fieldSelector=metadata.name=x) is one of that object, for rules with resourceNames. */
static struct str selected_name(struct request *r)
{
    struct str text = query_get(r, "fieldSelector");
    AUTO(error_clear) struct error err = {0};
    struct field_selector fs;

    if (!text.n || (r->verb != VERB_LIST && r->verb != VERB_WATCH)
        || !field_selector_parse(text, &r->arena, &fs, &err))
        return STR_NONE;
    return field_selector_value(&fs, "metadata.name");
}

struct access request_access(struct request *r)
{
    struct access w = {.verb = str_of(verb_name(r->verb)),
                       .group = str_of(r->group),
                       .resource = r->resource,
                       .subresource = r->subresource,
                       .ns = r->ns,
                       .name = r->name.p ? r->name : selected_name(r)};

    if (!w.ns.p && w.name.p && str_is(w.resource, "namespaces") && !w.group.n)
        w.ns = w.name; /* a namespace counts as within itself */
    return w;
}

/* False: answered. */
static bool authorized(struct request *r, const struct access *want)
{
    const char *reason;

    bool ok = authorize(r->s, &r->who, want, &r->arena, &reason);

    audit_annotate(r, "authorization.k8s.io/decision", ok ? "allow" : "forbid");
    audit_annotate(r, "authorization.k8s.io/reason", reason);
    if (!ok)
        answer_forbidden(r, &r->who, want, reason);
    return ok;
}

/* Roles name a virtual group's deeper subresources whole ("evacuate/cancel"); either spelling will do. */
static bool authorized_virtual(struct request *r, struct str extra)
{
    struct access want = request_access(r), deep = want;
    const char *reason;

    if (extra.n && r->subresource.p) {
        deep.subresource = str_n(r->subresource.p, r->subresource.n + extra.n + 1);
        if (authorize(r->s, &r->who, &deep, NULL, &reason))
            return authorized(r, &deep); /* which says so to the audit log */
    }
    return authorized(r, &want);
}

/* subresources.kubevirt.io and its like: handed over with the exchange. */
static bool virtual_handle(struct request *r, struct str group, struct str version, struct str rest)
{
    for (size_t i = 0; i < r->s->virtuals.n; i++) {
        struct virtual_group *g = &r->s->virtuals.p[i];
        struct exchange *x = r->x;
        struct virtual_request *v;
        struct str extra;
        bool known = false;

        if (!str_is(group, g->group))
            continue;
        for (size_t j = 0; g->versions[j]; j++)
            known |= str_is(version, g->versions[j]);
        if (!known || str_empty(rest))
            return false;
        r->group = g->group;
        if (!cut_resource(r, rest, &extra) || !method_verb(r, x->method)) {
            answer_unknown_resource(r);
            return true;
        }
        if (!authorized_virtual(r, extra))
            return true;
        v = ARENA_NEW(&x->arena, struct virtual_request);
        v->x = x;
        v->version = arena_str(&x->arena, version);
        if (r->ns.p) {
            v->ns = arena_str(&x->arena, r->ns);
            v->resource = arena_str(&x->arena, r->resource);
            v->name = r->name.p ? arena_str(&x->arena, r->name) : STR_NONE;
            v->rest = r->subresource.p ? arena_str(
                          &x->arena,
                          str_n(r->subresource.p, r->subresource.n + (extra.p ? extra.n + 1 : 0)))
                                       : STR_NONE;
        } else {
            v->rest = arena_str(&x->arena, rest);
        }
        struct identity *who = ARENA_NEW(&x->arena, struct identity);
        size_t n = 0;
        const char **groups;

        while (r->who.groups && r->who.groups[n])
            n++;
        groups = ARENA_ARRAY(&x->arena, const char *, n + 1);
        for (size_t j = 0; j < n; j++)
            groups[j] = arena_strdup(&x->arena, str_of(r->who.groups[j]));
        who->user = arena_strdup(&x->arena, str_of(r->who.user));
        who->uid = r->who.uid ? arena_strdup(&x->arena, str_of(r->who.uid)) : NULL;
        who->groups = groups;
        who->extra = r->who.extra ? json_copy(&x->arena, r->who.extra) : NULL;
        v->who = who;
        x->user = NULL;
        x->closed = NULL;
        r->x = NULL;
        request_finished(r, 0);
        request_free(r);
        g->handle(g->data, v);
        return true;
    }
    return false;
}

static void warn_deprecated(struct request *r)
{
    const struct kind_info *k = r->kind->info;

    if (r->kind->warning)
        request_warn(r, "%s", r->kind->warning);
    for (size_t i = 0; k->deprecated && k->deprecated[i]; i++)
        if (!strcmp(r->version, k->deprecated[i]))
            request_warn(r, "%s/%s is now deprecated and will be removed in a future release.",
                         k->group, r->version);
}

static void not_found_page(struct request *r)
{
    answer_text(r, 404, "text/plain; charset=utf-8", STR("404 page not found\n"));
}

/* Groups in code say that they have no such resource; of others, and of those that definitions make, there is no page. */
static void answer_no_kind(struct request *r, struct str group, struct str version)
{
    for (size_t i = 0; i < r->s->kinds.n; i++) {
        const struct served *k = r->s->kinds.p[i];

        if (str_is(group, k->info->group) && served_has_version(k, version)
            && !kind_custom(k->info)) {
            answer_unknown_resource(r);
            return;
        }
    }
    not_found_page(r);
}

static void resource_request(struct request *r, struct str group, struct str version,
                             struct str rest)
{
    struct str extra;
    struct access want;

    r->group = arena_strdup(&r->arena, group);
    r->version = arena_strdup(&r->arena, version);
    if (!cut_resource(r, rest, &extra) || !method_verb(r, r->x->method)) {
        answer_unknown_resource(r);
        return;
    }
    want = request_access(r);
    if (!authorized(r, &want))
        return;
    r->kind = catalog_find(r->s, group, version, r->resource);
    if (r->kind)
        served_ref(r->kind);
    /* Custom resources have no protobuf form but for their metadata: what else does the client take? */
    if (r->accept.protobuf && r->accept.form != FORM_PARTIAL
        && (!r->kind || !kind_speaks_protobuf(r->kind)))
        accept_parse(exchange_header(r->x, "accept"), false, &r->accept);
    if (!r->kind) {
        answer_no_kind(r, group, version);
        return;
    }
    if (extra.p || (kind_namespaced(r->kind->info) ? (r->name.p && !r->ns.p) : r->ns.p != NULL)) {
        answer_unknown_resource(r);
        return;
    }
    if (!allowed_method(r)) {
        answer_method(r);
        return;
    }
    warn_deprecated(r);
    rest_handle(r);
}

/* The verb of what is no resource: the method in lower case. */
static struct str method_name(struct request *r)
{
    char *name = arena_strdup(&r->arena, str_of(http_method_name(r->x->method)));

    for (char *p = name; *p; p++)
        *p |= 'a' - 'A';
    return str_of(name);
}

/* /api/v1/watch/namespaces/x/pods[/name]: how watches were asked for before ?watch=1. */
static struct str old_watch(struct request *r, struct str rest)
{
    if (!str_starts(rest, STR("watch/")))
        return rest;
    r->old_watch = true;
    return str_skip(rest, strlen("watch/"));
}

static void route(struct request *r)
{
    struct str path = r->path, rest, group, version;
    struct access want;

    if (str_starts(path, STR("/api/v1/")) && path.n > 8) {
        resource_request(r, STR(""), STR("v1"), old_watch(r, str_skip(path, 8)));
        return;
    }
    if (str_starts(path, STR("/apis/"))) {
        rest = str_skip(path, 6);
        if (str_cut(rest, '/', &group, &rest) && str_cut(rest, '/', &version, &rest)
            && !str_empty(rest)) {
            if (virtual_handle(r, group, version, rest))
                return;
            resource_request(r, group, version, old_watch(r, rest));
            return;
        }
    }
    want = (struct access){.verb = method_name(r), .path = path};
    if (!(r->s->config.anonymous_health && open_path(path)) && !authorized(r, &want))
        return;
    if (health_handle(r) || discovery_handle(r) || documents_handle(r) || jwks_handle(r))
        return;
    not_found_page(r);
}

/* What the audit log notes before anything is known of the request but its line: nothing here answers. */
static struct access asked_for(struct request *r)
{
    struct str path = r->path, group = STR(""), version, rest, extra;

    if (str_starts(path, STR("/api/"))) {
        rest = str_skip(path, 5);
    } else if (str_starts(path, STR("/apis/"))) {
        rest = str_skip(path, 6);
        if (!str_cut(rest, '/', &group, &rest))
            rest = STR_NONE;
    } else {
        rest = STR_NONE;
    }
    if (rest.p && str_cut(rest, '/', &version, &rest) && rest.n && cut_resource(r, rest, &extra)
        && method_verb(r, r->x->method)) {
        r->group = arena_strdup(&r->arena, group);
        r->version = arena_strdup(&r->arena, version);
        return request_access(r);
    }
    return (struct access){.verb = method_name(r), .path = path};
}

/* Nobody that we know. */
static void refuse(struct request *r)
{
    struct access want = {0};

    if (r->s->config.audit)
        want = asked_for(r);
    audit_refused(r, &want);
    answer_status(r, 401, "Unauthorized", "Unauthorized", NULL);
}

static void exchange_closed(struct exchange *x)
{
    struct request *r = x->user;

    if (!r)
        return;
    r->x = NULL;
    if (fairness_forget(r)) {
        request_free(r);
        return;
    }
    r->seat = NULL;
    if (r->parked) { /* nobody is there to be told: nothing is written */
        hooks_cancel(r->parked);
        answer_status(r, 504, "Timeout", "the client has gone", NULL);
    }
}

void apiserver_handle(struct exchange *x, void *data)
{
    struct apiserver *s = data;
    struct request *r = request_new(s);
    struct str accept = exchange_header(x, "accept"), agent = exchange_header(x, "user-agent");
    struct access want = {0};
    int64_t begun;

    r->x = x;
    x->user = r;
    x->closed = exchange_closed;
    r->path = arena_str(&r->arena, x->path);
    query_parse(x->query, &r->arena, &r->query, &r->n_query);
    accept_parse(accept, true, &r->accept);
    r->content_type = exchange_header(x, "content-type");
    if (r->content_type.p)
        r->content_type = arena_str(&r->arena, r->content_type);
    r->body = x->body;
    r->user_agent = agent.p ? arena_str(&r->arena, agent) : STR("");
    r->audit_id = arena_strdup(&r->arena, exchange_header(x, "audit-id"));
    if (!*r->audit_id) {
        char *id = arena_alloc_bytes(&r->arena, 37);

        ident_uuid4(id);
        r->audit_id = id;
    }
    exchange_set_header(x, "Audit-Id", str_of(r->audit_id));
    r->pretty = query_get(r, "pretty").p ? query_true(r, "pretty")
                                         : str_starts(r->user_agent, STR("curl/"))
                                               || str_starts(r->user_agent, STR("Wget/"));
    if (s->closing) {
        answer_status(r, 503, "ServiceUnavailable", "the server is shutting down", NULL);
        return;
    }
    begun = loop_now_ns(s->loop);
    if (!authenticate(r)) {
        fairness_refuse(r, loop_now_ns(s->loop) - begun, refuse);
        return;
    }
    if (s->config.audit)
        want = asked_for(r);
    audit_begin(r, &want);
    if (!impersonate(r))
        return;
    audit_impersonated(r);
    if (x->wants_upgrade && str_starts(exchange_header(x, "upgrade"), STR("SPDY"))) {
        answer_status(r, 501, "NotImplemented",
                      "SPDY is not served, nor are exec, attach, cp and port-forward of pods, "
                      "which run virtual machines: use virtctl console, ssh or port-forward (they "
                      "upgrade to WebSocket)",
                      NULL);
        return;
    }
    fairness_admit(r, route);
}

/* For virtual groups and hooks, which hold an exchange and no request. */
void apiserver_respond_status(struct exchange *x, int code, const struct json *status)
{
    apiserver_respond_json(x, code, status);
}

void apiserver_respond_json(struct exchange *x, int code, const struct json *object)
{
    AUTO(buf_done) struct buf b = {0};
    struct accept accept;

    accept_parse(exchange_header(x, "accept"), false, &accept);
    exchange_set_header(x, "Cache-Control", STR("no-cache, private"));
    if (accept.yaml) {
        json_to_yaml(&x->arena, &b, object);
    } else {
        json_write(&b, object);
        buf_addc(&b, '\n');
    }
    exchange_respond(x, code, accept.yaml ? "application/yaml" : "application/json", buf_str(&b));
}

void apiserver_respond_error(struct exchange *x, const struct error *err)
{
    int code;
    const struct json *status = status_of_error(&x->arena, err, &code);

    apiserver_respond_json(x, code, status);
}

void apiserver_health(struct apiserver *s, const char *check, const char *reason)
{
    free(map_set(&s->health, str_of(check), xstrdup(reason ? reason : "")));
}
