#include "operator/operator_plan.h"

#include "base/buf.h"
#include "base/cleanup.h"

#define FOREIGN_NAMED 20 /* of those in our way so many are named */

enum rollout rollout_of(struct str from_id, struct str to_id, struct str from_version, struct str to_version)
{
    int order;

    if (!from_id.n)
        return ROLLOUT_INSTALL;
    if (str_eq(from_id, to_id))
        return ROLLOUT_NONE;
    /* As upstream: what cannot be compared counts as newer. */
    return install_version_compare(from_version, to_version, &order) && order >= 0 ? ROLLOUT_INSTALL : ROLLOUT_UPGRADE;
}

static const char *foreign(const struct install_view *v, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};
    size_t n = 0;

    for (size_t i = 0; i < v->components->n; i++) {
        if (v->live[i].state != LIVE_FOREIGN)
            continue;
        if (n++ < FOREIGN_NAMED)
            buf_addf(&b, "%s%s (%s)", b.n ? ", " : "", v->components->p[i].title,
                     v->live[i].owner ? v->live[i].owner : "unmarked");
    }
    if (n > FOREIGN_NAMED)
        buf_addf(&b, " and %zu more", n - FOREIGN_NAMED);
    return n ? arena_strdup(a, buf_str(&b)) : NULL;
}

static bool settled(const struct live *l)
{
    return l->state == LIVE_SAME || l->held;
}

/* The turns, each a set of stages. */
static const unsigned *turns_of(enum rollout r)
{
#define BIT(stage) (1u << (stage))
    static const unsigned install[STAGES + 1] = {BIT(STAGE_CRD), BIT(STAGE_BASE), BIT(STAGE_API), BIT(STAGE_ADMISSION),
                                                 BIT(STAGE_CONTROLLER) | BIT(STAGE_HANDLER)};
    static const unsigned upgrade[STAGES + 1] = {BIT(STAGE_CRD),        BIT(STAGE_BASE), BIT(STAGE_HANDLER),
                                                 BIT(STAGE_CONTROLLER), BIT(STAGE_API),  BIT(STAGE_ADMISSION)};
    static const unsigned repair[STAGES + 1] = {(1u << STAGES) - 1};

    switch (r) {
    case ROLLOUT_NONE:
        return repair;
    case ROLLOUT_INSTALL:
        return install;
    case ROLLOUT_UPGRADE:
        return upgrade;
    }
    __builtin_unreachable();
#undef BIT
}

void install_make_plan(const struct install_view *v, struct arena *a, struct install_plan *ret)
{
    struct install_plan p = {.foreign = foreign(v, a), .created = true, .ready = true, .steady = true};
    const unsigned *turn = turns_of(v->rollout);
    bool open = !p.foreign;

    p.apply = ARENA_ARRAY(a, size_t, v->components->n + 1);
    for (; *turn; turn++) {
        bool through = true;

        for (size_t i = 0; i < v->components->n; i++) {
            const struct live *l = &v->live[i];

            if (!(*turn & (1u << v->components->p[i].stage)))
                continue;
            p.steady = p.steady && l->ready;
            if (l->ready && l->why && !p.note)
                p.note = arena_printf(a, "%s: %s", v->components->p[i].title, l->why);
            if (!settled(l)) {
                p.created = through = false;
                if (open)
                    p.apply[p.n_apply++] = i;
            }
            if (!l->ready || !settled(l)) {
                p.ready = through = false;
                if (!p.waiting_for && open)
                    p.waiting_for = v->components->p[i].title;
                if (!p.trouble && l->why)
                    p.trouble = arena_printf(a, "%s: %s", v->components->p[i].title, l->why);
            }
        }
        open = open && through;
    }
    *ret = p;
}

/* -- removal ------------------------------------------------------------------------------------------------ */

static unsigned removal_turn(enum managed_id kind)
{
    switch (kind) {
    case MANAGED_VALIDATING:
    case MANAGED_MUTATING:
    case MANAGED_API_SERVICE:
        return 0;
    case MANAGED_CRD:
        return 1;
    case MANAGED_DEPLOYMENT:
    case MANAGED_DAEMON_SET:
    case MANAGED_PDB:
        return 2;
    case MANAGED_SERVICE:
    case MANAGED_POLICY:
    case MANAGED_POLICY_BINDING:
    case MANAGED_PRIORITY_CLASS:
    case MANAGED_SERVICE_ACCOUNT:
    case MANAGED_CLUSTER_ROLE:
    case MANAGED_CLUSTER_ROLE_BINDING:
    case MANAGED_ROLE:
    case MANAGED_ROLE_BINDING:
    case MANAGED_CONFIG_MAP:
    case MANAGED_SECRET:
        return 3;
    }
    __builtin_unreachable();
}

void removal_make_plan(const struct removal_view *v, struct arena *a, struct removal_plan *ret)
{
    struct removal_plan p = {.done = v->n == 0};
    unsigned turn = 4;

    p.remove = ARENA_ARRAY(a, size_t, v->n + 1);
    for (size_t i = 0; i < v->n; i++)
        if (removal_turn(v->items[i].kind) < turn)
            turn = removal_turn(v->items[i].kind);
    p.blocked = v->workloads && !v->remove_workloads && turn <= 1;
    for (size_t i = 0; i < v->n && !p.blocked; i++) {
        if (removal_turn(v->items[i].kind) != turn)
            continue;
        if (!p.waiting_for)
            p.waiting_for = v->items[i].title;
        if (!v->items[i].deleting)
            p.remove[p.n_remove++] = i;
    }
    *ret = p;
}
