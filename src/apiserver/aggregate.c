/* apiserver/aggregate - writes into a ClusterRole with an aggregationRule the rules of the roles that it selects.
 *
 * Any change of a ClusterRole, its labels included, makes all aggregated roles be looked at again a moment later: there are few. A
 * role that selects an aggregated role follows it in the next round. What is written is what anybody reads: the authorizer knows
 * nothing of aggregation. */
#include "api/labels.h"
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

#define PREFIX "/registry/rbac.authorization.k8s.io/clusterroles/"
#define SOON MILLIS(10)
#define RETRY SECONDS(1)

struct aggregation {
    struct apiserver *s;
    struct store_watch *watch;
    struct loop_timer timer;
};

static void written(void *user, const struct client_response *r)
{
    struct aggregation *g = user;

    if (r->err->kind == ERROR_NONE || r->err->kind == ERROR_NOT_FOUND)
        return;
    log_warning(NULL, "aggregated ClusterRole: %s, retrying", error_text(r->err));
    loop_timer_start(g->s->loop, &g->timer, RETRY, g->timer.fn);
}

static bool selected(const struct json *selector, const struct json *role, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    struct label_selector ls;

    return label_selector_from(selector, a, &ls, &err)
           && label_selector_match(&ls, meta_labels(role));
}

static bool contains(const struct json *rules, const struct json *rule)
{
    json_each_item(it, rules) {
        if (json_eq(it, rule))
            return true;
    }
    return false;
}

static const struct json *gathered(const struct json *const *roles, size_t n,
                                   const struct json *into, struct arena *a)
{
    const struct json *out = json_array(a, NULL);

    json_each_item(selector, json_at(into, "aggregationRule/clusterRoleSelectors")) {
        for (size_t i = 0; i < n; i++) {
            if (roles[i] == into || !selected(selector, roles[i], a))
                continue;
            json_each_item(rule, json_get(roles[i], "rules")) {
                if (!contains(out, rule))
                    out = json_append(a, out, rule);
            }
        }
    }
    return out;
}

static void apply(struct aggregation *g, struct str name, const struct json *rules)
{
    struct arena a = {0};
    struct client_request q = {.verb = CLIENT_APPLY,
                               .group = "rbac.authorization.k8s.io",
                               .version = "v1",
                               .plural = "clusterroles",
                               .name = name,
                               .query = STR("fieldManager=clusterrole-aggregation-controller"
                                            "&force=true")};

    q.body =
        json_object(&a, "apiVersion", json_new_z(&a, "rbac.authorization.k8s.io/v1"), "kind",
                    json_new_z(&a, "ClusterRole"), "metadata",
                    json_object(&a, "name", json_new_str(&a, name), NULL), "rules", rules, NULL);
    client_call(g->s->self, &q, written, g);
    arena_done(&a);
}

static void look(struct loop_timer *t)
{
    struct aggregation *g = container_of(t, struct aggregation, timer);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    struct arena a = {0};
    const struct json **roles;

    if (!store_list(g->s->store, STR(PREFIX), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        return;
    roles = ARENA_ARRAY(&a, const struct json *, list.n + 1);
    for (size_t i = 0; i < list.n; i++)
        roles[i] = store_object_json(list.p[i], &a);
    for (size_t i = 0; i < list.n; i++) {
        const struct json *rules, *now = json_get(roles[i], "rules");

        if (!json_is(json_get(roles[i], "aggregationRule"), JSON_OBJECT) || meta_deleting(roles[i]))
            continue;
        rules = gathered(roles, list.n, roles[i], &a);
        if ((json_len(rules) || json_len(now)) && !json_eq(rules, now))
            apply(g, meta_name(roles[i]), rules);
    }
    arena_done(&a);
}

static bool changed(void *user, const struct store_event *e)
{
    struct aggregation *g = user;

    (void)e;
    if (!loop_timer_active(&g->timer))
        loop_timer_start(g->s->loop, &g->timer, SOON, look);
    return true;
}

struct aggregation *aggregation_new(struct apiserver *s)
{
    struct aggregation *g = NEW(struct aggregation);
    AUTO(error_clear) struct error err = {0};

    g->s = s;
    g->watch = store_watch_start(s->store, STR(PREFIX), store_revision(s->store), changed, g, &err);
    loop_timer_start(s->loop, &g->timer, SOON, look);
    return g;
}

void aggregation_free(struct aggregation *g)
{
    if (!g)
        return;
    loop_timer_stop(&g->timer);
    store_watch_stop(g->watch);
    free(g);
}
