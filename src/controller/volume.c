/* The view of a PersistentVolumeClaim: its class, its volume, and whether a pod names it. */
#include "controller/engine.h"
#include "controller/volume_plan.h"

#include "base/alloc.h"
#include "base/cleanup.h"

struct find_default {
    struct controllers *c;
    struct arena *a;
    const struct json *found;
};

static bool is_default(void *user, struct str key)
{
    struct find_default *f = user;
    const struct json *class = object_of(f->c, RESOURCE_CLASS, key, f->a);

    if (str_is(meta_annotation(class, "storageclass.kubernetes.io/is-default-class"), "true"))
        f->found = class;
    return !f->found;
}

static const struct json *class_of(struct controllers *c, const struct json *claim, struct arena *a)
{
    struct str name = json_str_at(claim, "spec/storageClassName");
    struct find_default f = {.c = c, .a = a};

    if (name.n)
        return object_of(c, RESOURCE_CLASS, name, a);
    if (!name.p) /* "" is a choice, too: none */
        informer_each(c->informers[RESOURCE_CLASS], is_default, &f);
    return f.found;
}

bool volume_is_ours(struct controllers *c, const struct json *claim, struct arena *a)
{
    return volume_class_ours(class_of(c, claim, a));
}

struct find_user {
    struct controllers *c;
    const struct json *claim;
    bool found;
};

static bool uses(void *user, struct str key)
{
    struct find_user *f = user;
    AUTO(arena_done) struct arena a = {0};
    const struct json *pod;
    struct str phase;

    if (!str_starts(key, meta_namespace(f->claim)) || key.p[meta_namespace(f->claim).n] != '/')
        return true;
    pod = object_of(f->c, RESOURCE_POD, key, &a);
    phase = json_str_at(pod, "status/phase");
    if (str_is(phase, "Failed") || str_is(phase, "Succeeded"))
        return true;
    json_each_item(v, json_at(pod, "spec/volumes"))
        if (str_eq(json_str_at(v, "persistentVolumeClaim/claimName"), meta_name(f->claim)))
            f->found = true;
    return !f->found;
}

void volume_consumed(struct controllers *c, const char *key, bool gone)
{
    const struct json *claim;
    AUTO(arena_done) struct arena a = {0};

    if (map_get(&c->claims_wanted, str_of(key)) && !gone) {
        /* Pods change often; only the end of one that holds up a deletion matters. */
        claim = object_of(c, RESOURCE_PVC, str_of(key), &a);
        if (!claim || !meta_deleting(claim))
            return;
    } else if (!gone) {
        map_set(&c->claims_wanted, str_of(key), xstrdup(key));
    }
    engine_add(&c->volume, str_of(key));
}

void volume_make_plan(struct controllers *c, struct key_state *k, struct plan *p)
{
    struct arena *a = p->a;
    struct volume_view v = {.claim = object_of(c, RESOURCE_PVC, str_of(k->key), a),
                            .path = c->data_volumes_path};

    if (!v.claim)
        return;
    v.class = class_of(c, v.claim, a);
    v.volume = object_of(c, RESOURCE_PV, str_of(volume_name(v.claim, a)), a);
    v.wanted = map_get(&c->claims_wanted, str_of(k->key)) != NULL;
    if (meta_deleting(v.claim)) {
        struct find_user f = {.c = c, .claim = v.claim};

        informer_each(c->informers[RESOURCE_POD], uses, &f);
        v.used = f.found;
    }
    volume_plan(&v, p);
}
