/* The view of a PodDisruptionBudget: the pods of its namespace that it selects. */
#include "api/labels.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "controller/engine.h"
#include "controller/pdb_plan.h"

struct find_pods {
    struct controllers *c;
    struct arena *a;
    struct str ns;
    const struct label_selector *selector;
    VEC(const struct json *) found;
};

static bool pick(void *user, struct str key)
{
    struct find_pods *f = user;
    const struct json *pod;

    if (!str_starts(key, f->ns) || key.p[f->ns.n] != '/')
        return true;
    pod = object_of(f->c, RESOURCE_POD, key, f->a);
    if (pod && label_selector_match(f->selector, meta_labels(pod)))
        vec_push(&f->found, pod);
    return true;
}

void pdb_make_plan(struct controllers *c, struct key_state *k, struct plan *p)
{
    struct pdb_view v = {.budget = object_of(c, RESOURCE_PDB, str_of(k->key), p->a),
                         .now_unix_ns = loop_unix_ns(c->loop)};
    struct label_selector selector = {0};
    struct find_pods f = {.c = c, .a = p->a, .selector = &selector};
    AUTO(error_clear) struct error err = {0};

    if (!v.budget)
        return;
    f.ns = meta_namespace(v.budget);
    if (label_selector_from(json_at(v.budget, "spec/selector"), p->a, &selector, &err))
        informer_each(c->informers[RESOURCE_POD], pick, &f);
    else
        v.error = arena_strdup(p->a, str_of(error_text(&err)));
    v.pods = json_array_n(p->a, f.found.p, f.found.n);
    pdb_plan(&v, p);
    vec_done(&f.found);
}

struct concern {
    struct controllers *c;
    struct str ns;
};

static bool add_concerned(void *user, struct str key)
{
    struct concern *x = user;

    if (str_starts(key, x->ns) && key.p[x->ns.n] == '/')
        engine_add(&x->c->pdb, key);
    return true;
}

/* A pod of the namespace has come, changed or gone: few namespaces have a budget, and one plan is cheap. */
void pdb_pod_changed(struct controllers *c, struct str key)
{
    struct concern x = {.c = c};
    struct str name;

    if (c->informers[RESOURCE_PDB] && informer_count(c->informers[RESOURCE_PDB])
        && str_cut(key, '/', &x.ns, &name))
        informer_each(c->informers[RESOURCE_PDB], add_concerned, &x);
}
