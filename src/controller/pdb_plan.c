/* Upstream asks the controllers of the pods how many pods they want, so that a budget in percent keeps its meaning while pods are
 * missing. Here every pod is a machine's, and a machine wants one: what is expected is the number of pods that have not ended.
 * An eviction that was granted is noted in status.disruptedPods by the API server, together with one disruption less; it counts
 * as gone from then on, until the pod is gone or two minutes have passed without it going. */
#include "controller/pdb_plan.h"

#include "base/cleanup.h"
#include "base/ident.h"
#include "loop/loop.h"

#define GRANTED_FOR SECONDS(120)

static bool ended(const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");

    return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

/* A number, or a share of `of`, rounded up. */
static int64_t share(const struct json *v, int64_t of)
{
    struct str s = json_str(v);
    AUTO(error_clear) struct error err = {0};
    int64_t n = 0;

    if (json_i64(v, &n))
        return n;
    if (!s.n || !parse_i64(str_take(s, s.n - 1), 0, 100, &n, &err))
        return 0;
    return (n * of + 99) / 100;
}

/* The grants that still count: of pods that are there, are not going yet, and not too long ago. */
static const struct json *grants(const struct pdb_view *v, struct plan *p)
{
    const struct json *kept = NULL;
    struct arena *a = p->a;

    json_each_member(m, json_at(v->budget, "status/disruptedPods")) {
        AUTO(error_clear) struct error err = {0};
        int64_t at = 0;

        json_each_item(pod, v->pods) {
            if (!str_eq(meta_name(pod), json_str(&m->key)) || meta_deleting(pod))
                continue;
            if (!ident_parse_time(json_str(&m->value), &at, &err)
                || at + GRANTED_FOR <= v->now_unix_ns)
                continue;
            kept =
                json_with_str(a, kept ? kept : json_object(a, NULL), json_str(&m->key), &m->value);
            plan_again(p, at + GRANTED_FOR - v->now_unix_ns);
        }
    }
    return kept;
}

void pdb_plan(const struct pdb_view *v, struct plan *p)
{
    struct arena *a = p->a;
    const struct json *spec = json_get(v->budget, "spec"), *next = v->budget,
                      *granted = grants(v, p), *max = json_get(spec, "maxUnavailable"),
                      *min = json_get(spec, "minAvailable");
    int64_t expected = 0, healthy = 0, desired, allowed;
    struct condition c = {.type = "DisruptionAllowed",
                          .observed_generation = meta_generation(v->budget),
                          .message = ""};

    p->about = v->budget;
    json_each_item(pod, v->pods) {
        if (ended(pod))
            continue;
        expected++;
        healthy += condition_is(pod, "Ready", "True") && !meta_deleting(pod)
                   && !json_get_str(granted, meta_name(pod));
    }
    desired = max ? expected - share(max, expected) : share(min, expected);
    desired = desired < 0 ? 0 : desired;
    allowed = expected == 0 || healthy < desired || v->error ? 0 : healthy - desired;
    c.status = allowed > 0 ? "True" : "False";
    c.reason = v->error ? "SyncFailed" : allowed > 0 ? "SufficientPods" : "InsufficientPods";
    if (v->error)
        c.message = v->error;
    next = json_with_at(a, next, "status/disruptionsAllowed", json_new_i64(a, allowed));
    next = json_with_at(a, next, "status/currentHealthy", json_new_i64(a, healthy));
    next = json_with_at(a, next, "status/desiredHealthy", json_new_i64(a, desired));
    next = json_with_at(a, next, "status/expectedPods", json_new_i64(a, expected));
    next = json_with_at(a, next, "status/observedGeneration",
                        json_new_i64(a, meta_generation(v->budget)));
    next = json_with_at(a, next, "status/disruptedPods", granted);
    next = condition_set(a, next, &c, time_text(a, v->now_unix_ns));
    plan_patch(p, RESOURCE_PDB, v->budget, next, true);
}
