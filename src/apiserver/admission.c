/* apiserver/admission - the chain that a write goes through: what the server fills in and what plugins change, webhooks that
 * change, the rules, webhooks that check. What follows (`next`) runs at once where no webhook is asked; see hooks.c. */
#include "apiserver/admit.h"
#include "apiserver/crds.h"
#include "apiserver/hooks.h"
#include "apiserver/validations.h"

static struct admission admission_of(const struct admission_run *run, char *sub)
{
    struct request *r = run->r;

    return (struct admission){
        .op = run->op,
        .kind = r->kind->info,
        .subresource = sub,
        .ns = r->ns,
        .name = r->name,
        .who = &r->who,
        .is_local = r->is_local,
        .old = run->old,
        .object = run->object,
        .dry_run = r->dry_run,
        .arena = &r->arena,
        .server = r->s,
    };
}

/* Warnings, refusals and causes of a round; false: answered. */
static bool settled(struct request *r, struct admission *a, bool ok, const struct error *err)
{
    for (size_t i = 0; i < a->warnings.n && i < ARRAY_SIZE(a->warnings.p); i++)
        request_warn(r, "%s", a->warnings.p[i]);
    if (!ok) {
        answer_error(r, err);
        return false;
    }
    if (a->causes.n) {
        struct str name = r->name.p ? r->name : json_str_at(a->object, "metadata/name");

        answer_invalid(r, a->kind->kind, a->kind->group,
                       name.p ? arena_strdup(&r->arena, name) : "", &a->causes);
        return false;
    }
    return true;
}

static bool mutate(struct admission_run *run)
{
    struct request *r = run->r;
    AUTO_FREE char *sub = str_dup(r->subresource);
    struct admission a = admission_of(run, sub);
    AUTO(error_clear) struct error err = {0};
    bool ok = true;

    if (a.object)
        a.object = builtin_mutate(r, run->op, run->old, a.object);
    for (size_t i = 0; i < r->s->plugins.n && ok; i++) {
        const struct admission_plugin *p = &r->s->plugins.p[i];

        if (p->mutate && (!p->group || !strcmp(p->group, a.kind->group)))
            ok = p->mutate(p->data, &a, &err);
    }
    run->object = a.object;
    return settled(r, &a, ok, &err);
}

static bool validate(struct admission_run *run)
{
    struct request *r = run->r;
    AUTO_FREE char *sub = str_dup(r->subresource);
    struct admission a = admission_of(run, sub);
    AUTO(error_clear) struct error err = {0};
    bool ok = true;

    if ((r->kind->info->flags & KIND_CRD || r->kind->dynamic) && a.object)
        crds_check_object(r, run->old, a.object, &a.causes);
    if (a.object)
        validations_enforce(r, run->old, a.object, &a.causes);
    if (!builtin_validate(r, run->op, run->old, a.object, &a.causes))
        return false;
    for (size_t i = 0; i < r->s->plugins.n && ok; i++) {
        const struct admission_plugin *p = &r->s->plugins.p[i];

        if (p->validate && (!p->group || !strcmp(p->group, a.kind->group)))
            ok = p->validate(p->data, &a, &err);
    }
    return settled(r, &a, ok, &err);
}

static void checked(struct admission_run *run)
{
    run->next(run->r, run->object);
}

static void changed(struct admission_run *run)
{
    /* What webhooks have changed is filled in and defaulted once more. */
    if (run->changed && !mutate(run))
        return;
    if (validate(run))
        hooks_ask(run, false, checked);
}

void admit(struct request *r, enum admission_op op, const struct json *old,
           const struct json *object, void (*next)(struct request *r, const struct json *object))
{
    struct admission_run *run = ARENA_NEW(&r->arena, struct admission_run);

    *run = (struct admission_run){.r = r, .op = op, .old = old, .object = object, .next = next};
    if (mutate(run))
        hooks_ask(run, true, changed);
}
