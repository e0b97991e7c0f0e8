/* apiserver/budgets - PodDisruptionBudgets: which evictions they let through. Their status is kept by a controller; a grant is
 * noted in it here, in the same turn as the pod's delete, so that two evictions cannot both have the last disruption. */
#include "api/labels.h"
#include "api/meta.h"
#include "apiserver/admit.h"
#include "base/log.h"

#define GRANTS_MAX 2000

static void refuse_eviction(struct request *r, const struct json *pdb, int retry_after,
                            const char *why)
{
    struct arena *a = &r->arena;
    const struct json *cause = json_object(
        a, "reason", json_new_z(a, "DisruptionBudget"), "message",
        json_new_f(a, "The disruption budget " STR_FMT " %s", STR_ARG(meta_name(pdb)), why), NULL);

    answer_status(r, 429, "TooManyRequests",
                  "Cannot evict pod as it would violate the pod's disruption budget.",
                  json_object(a, "causes", json_array(a, cause, NULL), "retryAfterSeconds",
                              retry_after ? json_new_i64(a, retry_after) : NULL, NULL));
}

/* The one budget that the pod falls under, or NULL; more than one: answered. */
static bool budget_of(struct request *r, const struct json *pod, const struct json **ret)
{
    struct served *k = catalog_find(r->s, STR("policy"), STR("v1"), STR("poddisruptionbudgets"));
    struct arena *a = &r->arena;
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    *ret = NULL;
    if (!store_list(r->s->store, kind_prefix(k->info, r->ns, a), STR_NONE, 0, 0, NULL, NULL, &list,
                    &err))
        return true;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *pdb = store_object_json(list.p[i], a);
        struct label_selector sel;

        if (!label_selector_from(json_at(pdb, "spec/selector"), a, &sel, &err)) {
            error_clear(&err);
            continue;
        }
        if (!label_selector_match(&sel, meta_labels(pod)))
            continue;
        if (*ret) {
            answer_status(r, 500, "InternalError",
                          "Internal error occurred: This pod has more than one "
                          "PodDisruptionBudget, which the eviction subresource does not support.",
                          NULL);
            return false;
        }
        /* Grants of this very moment count, too. */
        *ret = apiserver_peek(r->s, "policy", "poddisruptionbudgets", r->ns, meta_name(pdb), a);
    }
    return true;
}

static void grant_written(void *user, struct store_object *o, const struct error *err)
{
    (void)user;
    (void)o;
    if (err && err->kind != ERROR_NONE)
        log_warning("eviction", "%s", error_text(err)); /* the pod's own write fails with it */
}

/* Notes the grant in the budget's status: one disruption less, and the pod counts as gone. */
static bool take_disruption(struct request *r, const struct json *pdb)
{
    struct arena *a = &r->arena;
    const struct json *granted = json_at(pdb, "status/disruptedPods"), *next;
    struct served *k = catalog_find(r->s, STR("policy"), STR("v1"), STR("poddisruptionbudgets"));
    int64_t allowed = json_i64_at(pdb, "status/disruptionsAllowed", 0), revision = 0;
    AUTO(error_clear) struct error err = {0};
    struct store_write w = {.key = kind_key(k->info, r->ns, meta_name(pdb), a)};

    if (json_i64_at(pdb, "status/observedGeneration", 0) < meta_generation(pdb)) {
        refuse_eviction(r, pdb, 10, "is still being processed by the server.");
        return false;
    }
    if (allowed <= 0) {
        refuse_eviction(r, pdb, 0,
                        arena_printf(a, "needs %lld healthy pods and has %lld currently",
                                     (long long)json_i64_at(pdb, "status/desiredHealthy", 0),
                                     (long long)json_i64_at(pdb, "status/currentHealthy", 0)));
        return false;
    }
    if (json_len(granted) > GRANTS_MAX)
        return admit_forbid(r,
                            "DisruptedPods map too big - too many evictions not confirmed by PDB "
                            "controller");
    if (r->dry_run)
        return true;
    next = json_with_at(a, pdb, "status/disruptionsAllowed", json_new_i64(a, allowed - 1));
    next = json_with_at(a, next, "status/disruptedPods",
                        json_with_str(a, granted ? granted : json_object(a, NULL), r->name,
                                      json_new_z(a, now_text(r->s, false, a))));
    if (!json_i64(json_at(pdb, "metadata/resourceVersion"), &revision)
        && !parse_i64(meta_resource_version(pdb), 0, INT64_MAX, &revision, &err)) {
        answer_error(r, &err);
        return false;
    }
    w.value = object_order(a, k->info, next);
    w.if_revision = revision;
    w.done = grant_written;
    if (store_put(r->s->store, &w, &err))
        return true;
    answer_error(r, &err);
    return false;
}

bool budget_allows(struct request *r, const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase"), policy;
    const struct json *pdb;
    int64_t healthy, desired;

    /* What does not run, or is going, is no disruption. */
    if (meta_deleting(pod) || str_is(phase, "Succeeded") || str_is(phase, "Failed")
        || str_is(phase, "Pending"))
        return true;
    if (!budget_of(r, pod, &pdb))
        return false;
    if (!pdb)
        return true;
    policy = json_str_at(pdb, "spec/unhealthyPodEvictionPolicy");
    healthy = json_i64_at(pdb, "status/currentHealthy", 0);
    desired = json_i64_at(pdb, "status/desiredHealthy", 0);
    if (!condition_is(pod, "Ready", "True")
        && (str_is(policy, "AlwaysAllow") || (desired > 0 && healthy >= desired)))
        return true;
    return take_disruption(r, pdb);
}
