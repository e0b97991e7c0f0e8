/* apiserver/apiservices - APIServices: the groups and versions that are served, as objects that tools look at. They follow what
 * is served; other servers are not asked, so nobody else writes them (admit.c). */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

struct apiservices {
    struct apiserver *s;
    uint64_t generation; /* of the kinds that were looked at last */
    struct loop_timer timer;
};

static const struct {
    const char *group;
    int rank;
} ranks[] = {
    {"", 18000},
    {"apps", 17800},
    {"events.k8s.io", 17750},
    {"authentication.k8s.io", 17700},
    {"authorization.k8s.io", 17600},
    {"policy", 17400},
    {"rbac.authorization.k8s.io", 17000},
    {"storage.k8s.io", 16800},
    {"apiextensions.k8s.io", 16700},
    {"admissionregistration.k8s.io", 16700},
    {"scheduling.k8s.io", 16600},
    {"coordination.k8s.io", 16500},
};

static void told(void *user, const struct client_response *r)
{
    (void)user;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_EXISTS && r->err->kind != ERROR_CONFLICT)
        log_warning("apiservices", "%s", error_text(r->err));
}

static void ask(struct apiservices *p, enum client_verb verb, struct str name,
                const struct json *body)
{
    struct client_request q = {.verb = verb,
                               .group = "apiregistration.k8s.io",
                               .version = "v1",
                               .plural = "apiservices",
                               .name = name,
                               .body = body};

    client_call(p->s->self, &q, told, NULL);
}

static const char *name_of(struct arena *a, const char *group, const char *version)
{
    return arena_printf(a, "%s.%s", version, group);
}

static const struct json *service_of(struct apiservices *p, const char *group, const char *version,
                                     bool dynamic, size_t at, struct arena *a)
{
    int rank = 1000;
    const struct json *available =
        json_object(a, "type", json_new_z(a, "Available"), "status", json_new_z(a, "True"),
                    "lastTransitionTime", json_new_z(a, now_text(p->s, false, a)), "reason",
                    json_new_z(a, "Local"), "message",
                    json_new_z(a, "Local APIServices are always available"), NULL);

    for (size_t i = 0; i < ARRAY_SIZE(ranks); i++)
        if (!strcmp(ranks[i].group, group))
            rank = ranks[i].rank;
    return json_object(
        a, "metadata",
        json_object(a, "name", json_new_z(a, name_of(a, group, version)), "labels",
                    json_object(a, "kube-aggregator.kubernetes.io/automanaged",
                                json_new_z(a, dynamic ? "true" : "onstart"), NULL),
                    NULL),
        "spec",
        json_object(a, "group", *group ? json_new_z(a, group) : NULL, "groupPriorityMinimum",
                    json_new_i64(a, rank), "version", json_new_z(a, version), "versionPriority",
                    json_new_i64(a, rank == 18000 ? 1
                                    : rank > 1000 ? 15 - (int64_t)at
                                                  : 100 - (int64_t)at),
                    NULL),
        "status", json_object(a, "conditions", json_array(a, available, NULL), NULL), NULL);
}

static void look(struct apiservices *p)
{
    struct apiserver *s = p->s;
    struct arena a = {0};
    struct map served = {0};
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct kind_info *k = s->kinds.p[i]->info;
        const char *const one[] = {k->version, NULL}, *const *versions =
                                                          k->versions ? k->versions : one;

        for (size_t j = 0; versions[j] && strcmp(k->group, "apiregistration.k8s.io") != 0; j++) {
            struct str name = str_of(name_of(&a, k->group, versions[j]));

            if (map_get(&served, name))
                continue;
            map_set(&served, name, p);
            if (!apiserver_peek(s, "apiregistration.k8s.io", "apiservices", STR_NONE, name, &a))
                ask(p, CLIENT_CREATE, STR_NONE,
                    service_of(p, k->group, versions[j],
                               s->kinds.p[i]->dynamic || (k->flags & KIND_CRD), j, &a));
        }
    }
    if (store_list(s->store, STR("/registry/apiregistration.k8s.io/apiservices/"), STR_NONE, 0, 0,
                   NULL, NULL, &list, &err))
        for (size_t i = 0; i < list.n; i++) {
            struct str name = meta_name(store_object_json(list.p[i], &a));

            if (!map_get(&served, name))
                ask(p, CLIENT_DELETE, name, NULL);
        }
    map_done(&served);
    arena_done(&a);
}

static void due(struct loop_timer *t)
{
    struct apiservices *p = container_of(t, struct apiservices, timer);

    if (p->generation == p->s->kinds_generation)
        return;
    p->generation = p->s->kinds_generation;
    look(p);
}

void apiservices_changed(struct apiserver *s)
{
    if (s->apiservices && !s->closing)
        loop_timer_start(s->loop, &s->apiservices->timer, MILLIS(100), due);
}

struct apiservices *apiservices_new(struct apiserver *s)
{
    struct apiservices *p = NEW(struct apiservices);

    p->s = s;
    loop_timer_start(s->loop, &p->timer, MILLIS(100), due);
    return p;
}

void apiservices_free(struct apiservices *p)
{
    if (!p)
        return;
    loop_timer_stop(&p->timer);
    free(p);
}
