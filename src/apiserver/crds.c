/* apiserver/crds - CustomResourceDefinitions: admission of them, and the kinds that they bring.
 *
 * KubeVirt's own definitions are objects like any other (clients list them and wait for them), but their kinds are
 * built in. A user's definition is checked and established at admission, so that what is stored can be served; the kind
 * appears when the write is visible. One that is deleted first deletes its objects, then goes. */
#include "apiserver/crds.h"
#include "api/crd.h"
#include "api/meta.h"
#include "apiserver/validations.h"
#include "base/log.h"

#define FINALIZER "customresourcecleanup.apiextensions.k8s.io"
#define PREFIX "/registry/apiextensions.k8s.io/customresourcedefinitions/"

struct crds {
    struct apiserver *s;
    struct store_watch *watch;
    struct map dying; /* name → owned mark */
    struct loop_timer timer;
};

const struct kind_info *crds_builtin(struct str name)
{
    struct str plural, group;

    if (!str_cut(name, '.', &plural, &group))
        return NULL;
    for (size_t i = 0; schema_kinds[i]; i++)
        if ((schema_kinds[i]->flags & KIND_CRD) && str_is(plural, schema_kinds[i]->plural)
            && str_is(group, schema_kinds[i]->group))
            return schema_kinds[i];
    return NULL;
}

const struct json *crds_mutate(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    struct schema_causes causes = {0};

    if (crds_builtin(meta_name(o)))
        return o;
    o = crd_default(a, o);
    /* A definition with faults is refused below; its status is of no use. */
    crd_validate(o, a, &causes);
    if (causes.n)
        return o;
    o = crd_with_status(a, o, now_text(r->s, false, a));
    return meta_deleting(o) ? o : meta_add_finalizer(a, o, FINALIZER);
}

static bool same_name(const struct json *names, const char *key, const char *value)
{
    return value && str_is(json_str_at(names, key), value);
}

/* Names that another kind of the group has. */
static void check_names(struct request *r, const struct json *o, struct schema_causes *c)
{
    const struct json *names = json_at(o, "spec/names");
    struct str group = json_str_at(o, "spec/group");

    for (size_t i = 0; i < r->s->kinds.n; i++) {
        const struct served *k = r->s->kinds.p[i];

        if (!str_is(group, k->info->group) || (k->crd_name && str_is(meta_name(o), k->crd_name)))
            continue;
        if (!k->dynamic)
            schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec.group",
                             "Forbidden: \"%s\" is a group of the server itself", k->info->group);
        else if (same_name(names, "kind", k->info->kind)
                 || same_name(names, "plural", k->info->plural))
            schema_cause_add(c, &r->arena, "FieldValueInvalid", "spec.names.kind",
                             "Invalid value: \"" STR_FMT "\": is in use by %s",
                             STR_ARG(json_str_at(names, "kind")), k->crd_name);
        else
            continue;
        return;
    }
    for (size_t i = 0; i < r->s->virtuals.n; i++)
        if (str_is(group, r->s->virtuals.p[i].group))
            schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec.group",
                             "Forbidden: \"%s\" is a group of the server itself",
                             r->s->virtuals.p[i].group);
}

void crds_check(struct request *r, const struct json *old, const struct json *o,
                struct schema_causes *c)
{
    (void)old;
    if (crds_builtin(meta_name(o))) {
        if (!r->is_local)
            schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec",
                             "Forbidden: this definition is part of the server");
        return;
    }
    crd_validate(o, &r->arena, c);
    if (!c->n)
        validations_check(r, o, c);
    check_names(r, o, c);
}

static struct served *by_name(struct crds *c, struct str name)
{
    for (size_t i = 0; i < c->s->kinds.n; i++)
        if (c->s->kinds.p[i]->crd_name && str_is(name, c->s->kinds.p[i]->crd_name))
            return c->s->kinds.p[i];
    return NULL;
}

static void serve(struct crds *c, const struct json *definition)
{
    struct served *old = by_name(c, meta_name(definition)), *k;
    AUTO(error_clear) struct error err = {0};
    int64_t generation = meta_generation(definition);
    const struct json *own;

    if (old && old->crd_revision == generation)
        return;
    k = NEW(struct served);
    own = json_copy(&k->arena, definition);
    if (!crd_kind(&k->arena, own, NULL, &k->info, &err)) {
        AUTO_FREE char *name = str_dup(meta_name(definition));

        log_warning(name, "not served: %s", error_text(&err));
        arena_done(&k->arena);
        free(k);
        return;
    }
    k->dynamic = true;
    k->crd = json_get(own, "spec");
    k->crd_name = str_dup(meta_name(definition));
    k->crd_revision = generation;
    if (old)
        catalog_remove(c->s, old);
    catalog_add(c->s, k);
}

static void ignore(void *user, const struct client_response *r)
{
    (void)user;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT)
        log_warning("crd", "%s", error_text(r->err));
}

/* Asks the objects of a dying kind to go; true when none is left. */
static bool emptied(struct crds *c, struct served *k)
{
    struct arena a = {0};
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    bool empty = false;

    if (store_list(c->s->store, kind_prefix(k->info, STR_NONE, &a), STR_NONE, 0, 0, NULL, NULL,
                   &list, &err)) {
        empty = list.n == 0;
        for (size_t i = 0; i < list.n; i++) {
            const struct json *o = store_object_json(list.p[i], &a);
            struct client_request q = {
                .verb = CLIENT_DELETE,
                .group = k->info->group,
                .version = k->info->version,
                .plural = k->info->plural,
                .ns = meta_namespace(o),
                .name = meta_name(o),
            };

            if (!meta_deleting(o))
                client_call(c->s->self, &q, ignore, NULL);
        }
    }
    arena_done(&a);
    return empty;
}

static void release(struct crds *c, struct str name)
{
    struct arena a = {0};
    const struct json *o = apiserver_peek(c->s, "apiextensions.k8s.io", "customresourcedefinitions",
                                          STR_NONE, name, &a);
    const struct json *left = json_array(&a, NULL);
    struct client_request q = {
        .verb = CLIENT_PATCH_MERGE,
        .group = "apiextensions.k8s.io",
        .version = "v1",
        .plural = "customresourcedefinitions",
        .name = name,
    };

    json_each_item(f, json_at(o, "metadata/finalizers")) {
        if (!str_is(json_str(f), FINALIZER))
            left = json_append(&a, left, f);
    }
    q.body =
        json_object(&a, "metadata",
                    json_object(&a, "finalizers", json_len(left) ? left : json_null(), NULL), NULL);
    client_call(c->s->self, &q, ignore, NULL);
    arena_done(&a);
}

static void due(struct loop_timer *t)
{
    struct crds *c = container_of(t, struct crds, timer);
    struct str name;
    void *mark;
    size_t at = 0;

    while (map_next(&c->dying, &at, &name, &mark)) {
        struct served *k = by_name(c, name);

        if (!k || emptied(c, k))
            release(c, name);
    }
    if (c->dying.n)
        loop_timer_start(c->s->loop, &c->timer, MILLIS(200), due);
}

static void see(struct crds *c, const struct json *o)
{
    struct str name = meta_name(o);

    if (crds_builtin(name))
        return;
    serve(c, o);
    if (meta_deleting(o) && !map_get(&c->dying, name)) {
        map_set(&c->dying, name, NEW(char));
        loop_timer_start(c->s->loop, &c->timer, 0, due);
    }
}

static bool crd_changed(void *user, const struct store_event *e)
{
    struct crds *c = user;
    struct arena a = {0};
    const struct json *o = store_object_json(e->object, &a);

    if (e->type == STORE_DELETED) {
        struct served *k = by_name(c, meta_name(o));

        free(map_del(&c->dying, meta_name(o)));
        if (k)
            catalog_remove(c->s, k);
    } else {
        see(c, o);
    }
    arena_done(&a);
    return true;
}

struct crds *crds_new(struct apiserver *s)
{
    struct crds *c = NEW(struct crds);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    c->s = s;
    if (store_list(s->store, STR(PREFIX), STR_NONE, 0, 0, NULL, NULL, &list, &err)) {
        for (size_t i = 0; i < list.n; i++) {
            struct arena a = {0};

            see(c, store_object_json(list.p[i], &a));
            arena_done(&a);
        }
        c->watch = store_watch_start(s->store, STR(PREFIX), list.revision, crd_changed, c, &err);
    }
    if (!c->watch)
        log_error("crd", "%s", error_text(&err));
    return c;
}

void crds_free(struct crds *c)
{
    if (!c)
        return;
    store_watch_stop(c->watch);
    loop_timer_stop(&c->timer);
    map_done_with(&c->dying, free);
    free(c);
}
