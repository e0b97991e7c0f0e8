#include "subresources/aggregated.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/metric.h"
#include "subresources/access.h"
#include "subresources/documents.h"
#include "subresources/internal.h"

#define GROUP  "subresources.kubevirt.io"
#define PREFIX "/apis/" GROUP "/"

struct count {
    const char *verb; /* NULL: none yet */
    const char *resource, *subresource;
    uint64_t n;
};

struct aggregated {
    struct aggregated_config config;
    struct virtual_group group;
    struct access *access;
    struct list waiting;
    struct count counts[128]; /* of what is served: bounded by the table of routes */
};

/* A request whose user's rights are being asked about. */
struct wait {
    struct list node;
    struct aggregated *g;
    struct exchange *x;
    struct access_question *question;
    struct virtual_request r;
    struct identity who;
    const char *verb;
};

struct aggregated *aggregated_new(const struct aggregated_config *c)
{
    struct aggregated *g = NEW(struct aggregated);

    g->config = *c;
    subresources_group(c->subresources, &g->group);
    g->access = access_new(c->client);
    list_init(&g->waiting);
    return g;
}

static void forget(struct wait *w)
{
    list_remove(&w->node);
    if (w->x) {
        w->x->closed = NULL;
        w->x->user = NULL;
    }
    free(w);
}

void aggregated_free(struct aggregated *g)
{
    if (!g)
        return;
    while (!list_empty(&g->waiting)) {
        struct wait *w = list_entry(g->waiting.next, struct wait, node);

        access_cancel(w->question);
        forget(w);
    }
    access_free(g->access);
    free(g);
}

/* --- what is asked ------------------------------------------------------------------------------------------------------------ */

/* As upstream maps methods; every path here names an object, or is no list. */
static const char *verb_of(enum http_method m)
{
    switch (m) {
    case HTTP_GET:
    case HTTP_HEAD:
        return "get";
    case HTTP_POST:
        return "create";
    case HTTP_PUT:
        return "update";
    case HTTP_PATCH:
        return "patch";
    case HTTP_DELETE:
        return "delete";
    case HTTP_OPTIONS:
    case HTTP_CONNECT:
        return NULL;
    }
    __builtin_unreachable();
}

static bool known_version(const struct aggregated *g, struct str version)
{
    for (size_t i = 0; g->group.versions[i]; i++)
        if (str_is(version, g->group.versions[i]))
            return true;
    return false;
}

/* namespaces/NS/RESOURCE[/NAME[/REST]]; anything else is a path at the root of the version. */
static bool cut_path(struct str rest, struct virtual_request *r)
{
    struct str piece;

    if (!str_starts(rest, STR("namespaces/"))) {
        r->rest = rest;
        return true;
    }
    rest = str_skip(rest, strlen("namespaces/"));
    if (!str_next(&rest, '/', &r->ns) || !r->ns.n || !rest.p || !str_next(&rest, '/', &r->resource) || !r->resource.n)
        return false;
    if (!rest.p)
        return true;
    if (!str_next(&rest, '/', &piece) || !piece.n || !rest.p || !rest.n)
        return false;
    r->name = piece;
    r->rest = rest;
    return true;
}

static void count(struct aggregated *g, const char *verb, const struct virtual_request *r)
{
    struct str sub = r->rest, rest = r->rest;
    const char *resource = NULL, *subresource = NULL;

    str_next(&rest, '/', &sub);
    if (r->name.n ? !subresources_served(r->resource, sub, &resource, &subresource) : !str_is(r->resource, "expand-vm-spec"))
        return; /* a name that anybody may make up is no label */
    if (!r->name.n) {
        resource = "expand-vm-spec";
        subresource = "";
    }
    for (size_t i = 0; i < ARRAY_SIZE(g->counts); i++) {
        struct count *c = &g->counts[i];

        if (c->verb && (strcmp(c->verb, verb) != 0 || strcmp(c->resource, resource) != 0 || strcmp(c->subresource, subresource) != 0))
            continue;
        *c = (struct count){.verb = verb, .resource = resource, .subresource = subresource, .n = c->n + 1};
        return;
    }
}

void aggregated_metrics(const struct aggregated *g, struct buf *b)
{
    metric_family(b, "vireo_subresource_requests_total", "counter", "Calls of subresources that were let through.");
    for (size_t i = 0; i < ARRAY_SIZE(g->counts) && g->counts[i].verb; i++)
        buf_addf(b, "vireo_subresource_requests_total{verb=\"%s\",resource=\"%s\",subresource=\"%s\"} %llu\n", g->counts[i].verb,
                 g->counts[i].resource, g->counts[i].subresource, (unsigned long long)g->counts[i].n);
}

/* --- whether they may --------------------------------------------------------------------------------------------------------- */

static void on_gone(struct exchange *x)
{
    struct wait *w = x->user;

    access_cancel(w->question);
    w->x = NULL;
    forget(w);
}

static void go_on(struct wait *w)
{
    struct aggregated *g = w->g;
    struct virtual_request r = w->r;
    const char *verb = w->verb;

    forget(w);
    count(g, verb, &r);
    g->group.handle(g->group.data, &r);
}

static void on_access(void *user, const struct error *err)
{
    struct wait *w = user;
    struct exchange *x = w->x;

    w->question = NULL;
    if (err->kind == ERROR_NONE) {
        go_on(w);
        return;
    }
    forget(w);
    respond_refusal(x, err->kind == ERROR_UNAUTHORIZED ? 401 : 500, arena_strdup(&x->arena, str_of(error_text(err))));
}

/* Roles name deeper subresources by their first part, as an API server itself authorizes them. */
static void ask(struct aggregated *g, struct virtual_request *r, const char *verb, const struct identity *who)
{
    struct wait *w = NEW(struct wait);
    struct str sub = r->rest, rest = r->rest;

    str_next(&rest, '/', &sub);
    w->g = g;
    w->x = r->x;
    w->who = *who;
    w->r = *r;
    w->r.who = ARENA_NEW(&r->x->arena, struct identity);
    *(struct identity *)(uintptr_t)w->r.who = *who;
    w->verb = verb;
    list_add_tail(&g->waiting, &w->node);
    r->x->user = w;
    r->x->closed = on_gone;
    w->question = access_ask(g->access, who,
                             &(struct access_attributes){.verb = verb, .group = GROUP, .version = r->version, .ns = r->ns,
                                                         .resource = r->resource, .name = r->name, .subresource = sub},
                             on_access, w);
}

static bool is_open(struct str rest)
{
    return str_is(rest, "version") || str_is(rest, "guestfs") || str_is(rest, "healthz");
}

static void handle(struct aggregated *g, struct exchange *x, struct str version, struct str rest)
{
    struct virtual_request r = {.x = x, .version = version};
    AUTO(error_clear) struct error err = {0};
    const char *verb = verb_of(x->method);
    struct identity who;

    if (!known_version(g, version) || !cut_path(rest, &r)) {
        respond_refusal(x, 404, "the server could not find the requested resource");
        return;
    }
    if (!r.ns.n && is_open(r.rest)) {
        g->group.handle(g->group.data, &r);
        return;
    }
    if (!front_proxy_identity(g->config.proxy, x, &who, &err)) {
        respond_refusal(x, 401, arena_strdup(&x->arena, str_of(error_text(&err))));
        return;
    }
    if (!verb)
        respond_refusal(x, 401, arena_printf(&x->arena, "unknown http verb in request: %s", http_method_name(x->method)));
    else if (!r.ns.n)
        respond_refusal(x, 401, arena_printf(&x->arena, "unknown api endpoint: " STR_FMT, STR_ARG(x->path)));
    else
        ask(g, &r, verb, &who);
}

bool aggregated_handle(struct aggregated *g, struct exchange *x)
{
    struct str rest, version;

    if ((x->method == HTTP_GET || x->method == HTTP_HEAD) && aggregated_documents(&g->group, x))
        return true;
    if (!str_starts(x->path, STR(PREFIX)))
        return false;
    rest = arena_str(&x->arena, str_skip(x->path, strlen(PREFIX)));
    str_cut(rest, '/', &version, &rest);
    handle(g, x, version, rest);
    return true;
}
