/* apiserver/crds - CustomResourceDefinitions: admission of them, and the kinds that they bring.
 *
 * KubeVirt's own definitions are objects like any other (clients list them and wait for them), but their kinds are
 * built in. A user's definition is checked at admission, so that what is stored can be served. When the write is visible
 * its names are compared with those of the others of its group; if they are free the kind is served at once, and the
 * status that says so is written (upstream serves after that write). Each version is a kind of its own with its own
 * tables; in the catalog is the stored one. A change makes new kinds and ends the watches of the old. A definition that is
 * deleted takes no more objects, deletes those that it has, then goes. */
#include "apiserver/crds.h"
#include "api/crd.h"
#include "api/meta.h"
#include "apiserver/validations.h"
#include "base/log.h"

#define FINALIZER "customresourcecleanup.apiextensions.k8s.io"
#define BEGIN_NS MILLIS(500) /* who watches sees that a definition is going before its objects go */
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

/* -- admission ------------------------------------------------------------------------------------ */

/* Upstream's definitions of our kinds may be applied over ours: labels and annotations are kept, the rest stays as it
 * is, and the client is told so. */
static const struct json *mutate_builtin(struct request *r, const struct json *old,
                                         const struct json *o)
{
    if (r->is_local || !old)
        return o;
    if (!json_eq(json_get(old, "spec"), json_get(o, "spec")))
        request_warn(
            r,
            STR_FMT
            ": this definition is part of the server: what is given as its spec has no effect",
            STR_ARG(meta_name(o)));
    return json_with(&r->arena, o, "spec", json_get(old, "spec"));
}

const struct json *crds_mutate(struct request *r, const struct json *old, const struct json *o)
{
    struct arena *a = &r->arena;

    if (crds_builtin(meta_name(o)))
        return mutate_builtin(r, old, o);
    o = crd_default(a, o);
    return old ? crd_with_stored(a, o) : crd_fresh_status(a, o);
}

/* Groups of Kubernetes itself, and those whose paths are served in another way, take no more kinds. */
static void check_group(struct request *r, const struct json *o, struct schema_causes *c)
{
    struct str group = json_str_at(o, "spec/group");
    bool ours = false;

    for (size_t i = 0; schema_kinds[i] && !ours; i++)
        ours = str_is(group, schema_kinds[i]->group) && !(schema_kinds[i]->flags & KIND_CRD);
    for (size_t i = 0; i < r->s->virtuals.n && !ours; i++)
        ours = str_is(group, r->s->virtuals.p[i].group);
    if (ours)
        schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec.group",
                         "Forbidden: \"" STR_FMT "\" is a group of the server itself",
                         STR_ARG(group));
}

void crds_check(struct request *r, const struct json *old, const struct json *o,
                struct schema_causes *c)
{
    struct json_dups warnings = {0};

    if (crds_builtin(meta_name(o))) {
        if (!r->is_local && !old)
            schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec",
                             "Forbidden: this definition is part of the server");
        return;
    }
    crd_validate(old, o, &r->arena, c);
    if (!old)
        check_group(r, o, c);
    if (!c->n)
        validations_check(r, o, c);
    if (c->n)
        return;
    crd_warnings(old, o, &r->arena, &warnings);
    for (size_t i = 0; i < warnings.n; i++)
        request_warn(r, "%s", warnings.paths[i]);
}

/* ".spec.replicas" as json_at() takes it. */
static const char *slashed(struct arena *a, struct str path)
{
    char *p = arena_strdup(a, str_starts(path, STR(".")) ? str_skip(path, 1) : path);

    for (char *q = p; *q; q++)
        *q = *q == '.' ? '/' : *q;
    return p;
}

/* What scale reads has to be a number that it can show. */
static void check_scale(struct request *r, const struct json *scale, const char *key,
                        const struct json *o, struct schema_causes *c)
{
    struct arena *a = &r->arena;
    struct str path = json_str_at(scale, key);
    const struct json *v = json_at(o, slashed(a, path));
    int64_t n = 0;

    if (!path.n || !json_i64(v, &n))
        return;
    if (n < 0)
        schema_cause_add(c, a, "FieldValueInvalid", arena_strdup(a, path),
                         "Invalid value: %lld: should be a non-negative integer", (long long)n);
    else if (n > INT32_MAX)
        schema_cause_add(c, a, "FieldValueInvalid", arena_strdup(a, path),
                         "Invalid value: %lld: should be less than or equal to 2147483647",
                         (long long)n);
}

void crds_check_object(struct request *r, const struct json *old, const struct json *o,
                       struct schema_causes *c)
{
    const struct kind_info *k = r->kind->info;

    if (old)
        schema_validate_update(k->type, old, o, &r->arena, c);
    else
        schema_validate(k->type, o, &r->arena, c);
    json_each_item(v, json_get(r->kind->crd, "versions")) {
        if (!str_is(json_str_at(v, "name"), k->version))
            continue;
        if (!str_is(r->subresource, "status"))
            check_scale(r, json_at(v, "subresources/scale"), "specReplicasPath", o, c);
        check_scale(r, json_at(v, "subresources/scale"), "statusReplicasPath", o, c);
    }
}

const struct json *crds_mark(struct apiserver *s, struct arena *a, const struct json *o)
{
    const struct condition c = {
        .type = "Terminating",
        .status = "True",
        .reason = "InstanceDeletionPending",
        .message =
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    };

    if (crds_builtin(meta_name(o)) || meta_deleting(o))
        return o;
    return condition_set(a, meta_add_finalizer(a, o, FINALIZER), &c, now_text(s, false, a));
}

/* -- the kinds ------------------------------------------------------------------------------------ */

static struct served *by_name(struct crds *c, struct str name)
{
    for (size_t i = 0; i < c->s->kinds.n; i++)
        if (c->s->kinds.p[i]->crd_name && str_is(name, c->s->kinds.p[i]->crd_name))
            return c->s->kinds.p[i];
    return NULL;
}

/* "ex.io/v1beta1 Widget is deprecated; use ex.io/v1 Widget" */
static const char *warning_of(struct arena *a, const struct json *crd, const struct kind_info *k)
{
    const struct json *v = crd_version(crd, str_of(k->version));
    struct str own = json_str(json_get(v, "deprecationWarning"));

    if (!json_bool(json_get(v, "deprecated")))
        return NULL;
    if (own.n)
        return arena_strdup(a, own);
    for (size_t i = 0; k->versions[i] && strcmp(k->versions[i], k->version) != 0; i++)
        if (!json_bool(json_get(crd_version(crd, str_of(k->versions[i])), "deprecated")))
            return arena_printf(a, "%s/%s %s is deprecated; use %s/%s %s", k->group, k->version,
                                k->kind, k->group, k->versions[i], k->kind);
    return arena_printf(a, "%s/%s %s is deprecated", k->group, k->version, k->kind);
}

static bool one_schema(const struct json *crd)
{
    const struct json *versions = json_at(crd, "spec/versions"),
                      *first = json_get(json_item(versions, 0), "schema");

    json_each_item(it, versions) {
        if (!json_eq(json_get(it, "schema"), first))
            return false;
    }
    return true;
}

/* A kind as one version has it; `base` NULL: the stored one. */
static struct served *served_of(const struct json *own, const char *version, struct served *base,
                                struct error *err)
{
    struct served *k = NEW(struct served);
    struct arena *a = base ? &base->arena : &k->arena;

    k->refs = 1;
    if (!base)
        k->definition = own = json_copy(a, own);
    if (!crd_kind(a, own, version, &k->info, err)) {
        served_unref(k);
        return NULL;
    }
    k->dynamic = true;
    k->crd = json_get(own, "spec");
    k->crd_name = str_dup(meta_name(own));
    k->crd_generation = meta_generation(own);
    k->terminating = meta_deleting(own);
    k->warning = warning_of(a, own, k->info);
    if (base)
        k->base = served_ref(base);
    return k;
}

/* Kinds are constant for all but who makes them. */
static void put_history(struct served *k, const struct kind_info *const *siblings, int64_t since)
{
    struct kind_info *info = ARENA_NEW(k->base ? &k->base->arena : &k->arena, struct kind_info);

    *info = *k->info;
    info->siblings = siblings;
    info->since = since;
    k->info = info;
}

static bool add_versions(struct served *k, const struct json *own, int64_t since, struct error *err)
{
    const struct json *versions = json_at(own, "spec/versions");
    const struct kind_info **all =
        ARENA_ARRAY(&k->arena, const struct kind_info *, json_len(versions) + 1);
    bool several = json_len(versions) > 1 && !one_schema(own);
    size_t n = 0;

    k->versions = xcalloc(json_len(versions) + 1, sizeof *k->versions);
    put_history(k, several ? all : NULL, since);
    all[n++] = k->info;
    json_each_item(it, versions) {
        AUTO_FREE char *name = str_dup(json_str(json_get(it, "name")));
        struct served *v;

        if (!name || strcmp(name, k->info->version) == 0)
            continue;
        v = served_of(own, name, k, err);
        if (!v)
            return false;
        put_history(v, several ? all : NULL, since);
        all[n++] = v->info;
        k->versions[k->n_versions++] = v;
    }
    return true;
}

static void unserve(struct crds *c, struct served *k)
{
    watchers_of(c->s, k);
    catalog_remove(c->s, k);
}

static void serve(struct crds *c, const struct json *definition, int64_t revision)
{
    struct served *old = by_name(c, meta_name(definition)), *k;
    AUTO(error_clear) struct error err = {0};
    int64_t generation = meta_generation(definition);
    /* Whatever was stored before a change of the definition was stored under another one. */
    int64_t since = generation > 1 ? revision : 0;

    if (old && old->crd_generation == generation) {
        old->terminating = meta_deleting(definition);
        for (size_t i = 0; i < old->n_versions; i++)
            old->versions[i]->terminating = old->terminating;
        return;
    }
    k = served_of(definition, NULL, NULL, &err);
    if (k && !add_versions(k, k->definition, since, &err)) {
        catalog_add(c->s, k);
        catalog_remove(c->s, k); /* lets go of what refers to it */
        k = NULL;
    }
    if (!k) {
        AUTO_FREE char *name = str_dup(meta_name(definition));

        log_warning(name, "not served: %s", error_text(&err));
        return;
    }
    if (old)
        unserve(c, old);
    catalog_add(c->s, k);
}

/* -- names and status ----------------------------------------------------------------------------- */

struct used {
    VEC(struct str) resources, kinds;
};

static void used_add(struct used *u, const struct json *names)
{
    static const char *const resources[] = {"plural", "singular"}, *const kinds[] = {"kind",
                                                                                     "listKind"};

    for (size_t i = 0; i < 2; i++) {
        if (json_str(json_get(names, resources[i])).n)
            vec_push(&u->resources, json_str(json_get(names, resources[i])));
        if (json_str(json_get(names, kinds[i])).n)
            vec_push(&u->kinds, json_str(json_get(names, kinds[i])));
    }
    json_each_item(it, json_get(names, "shortNames")) {
        vec_push(&u->resources, json_str(it));
    }
}

/* What others of the group are called: those that are stored, ours among them. */
static void used_names(struct crds *c, const struct json *crd, struct arena *a, struct used *ret)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (!store_list(c->s->store, STR(PREFIX), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        return;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *o;

        if (!str_ends(
                store_object_key(list.p[i]),
                str_of(arena_printf(a, "." STR_FMT, STR_ARG(json_str_at(crd, "spec/group"))))))
            continue;
        o = store_object_json(list.p[i], a);
        if (str_eq(json_str_at(o, "spec/group"), json_str_at(crd, "spec/group"))
            && !str_eq(meta_uid(o), meta_uid(crd)))
            used_add(ret, json_at(o, "status/acceptedNames"));
    }
}

static void ignore(void *user, const struct client_response *r);

static void write_status(struct crds *c, const struct json *crd, const struct json *status,
                         struct arena *a)
{
    const struct json *meta =
        json_object(a, "resourceVersion", json_at(crd, "metadata/resourceVersion"), NULL);
    struct client_request q = {
        .verb = CLIENT_PATCH_MERGE,
        .group = "apiextensions.k8s.io",
        .version = "v1",
        .plural = "customresourcedefinitions",
        .name = meta_name(crd),
        .subresource = "status",
        .body = json_object(a, "metadata", meta, "status", status, NULL),
        .query = STR("fieldManager=kube-apiserver"),
    };

    client_call(c->s->self, &q, ignore, NULL);
}

/* The definition as it will be when its status is written; writes it when that is another than it has. */
static const struct json *with_status(struct crds *c, const struct json *crd, struct arena *a)
{
    AUTO_FREE char *now = str_dup(str_of(now_text(c->s, false, a)));
    struct used used = {0};
    struct crd_names resources, kinds;
    const struct json *next;

    used_names(c, crd, a, &used);
    resources = (struct crd_names){used.resources.p, used.resources.n};
    kinds = (struct crd_names){used.kinds.p, used.kinds.n};
    next = crd_with_status(a, crd, &resources, &kinds, arena_strdup(a, str_of(now)));
    vec_done(&used.resources);
    vec_done(&used.kinds);
    if (!json_eq(json_get(next, "status"), json_get(crd, "status")))
        write_status(c, crd, json_get(next, "status"), a);
    return next;
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
                .version = kind_some_version(k->info),
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

static void see(struct crds *c, const struct json *o, int64_t revision, struct arena *a)
{
    struct str name = meta_name(o);

    if (crds_builtin(name))
        return;
    if (!meta_deleting(o))
        o = with_status(c, o, a);
    /* What has been served stays so, though it asks for another name that is taken. */
    if (condition_is(o, "Established", "True") || condition_is(o, "NamesAccepted", "True"))
        serve(c, o, revision);
    if (meta_deleting(o) && !map_get(&c->dying, name)) {
        static const struct condition going = {
            .type = "Terminating",
            .status = "True",
            .reason = "InstanceDeletionInProgress",
            .message = "CustomResource deletion is in progress",
        };
        const char *now = now_text(c->s, false, a);

        write_status(c, o, json_get(condition_set(a, o, &going, now), "status"), a);
        map_set(&c->dying, name, NEW(char));
        if (c->dying.n == 1) /* else it runs: those before must not wait for those behind */
            loop_timer_start(c->s->loop, &c->timer, BEGIN_NS, due);
    }
}

/* All definitions once more: a name has become free. */
static void see_all(struct crds *c)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (!store_list(c->s->store, STR(PREFIX), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        return;
    for (size_t i = 0; i < list.n; i++) {
        struct arena a = {0};
        const struct json *o = store_object_json(list.p[i], &a);

        if (!condition_is(o, "NamesAccepted", "True"))
            see(c, o, store_object_revision(list.p[i]), &a);
        arena_done(&a);
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
            unserve(c, k);
        see_all(c);
    } else {
        see(c, o, store_object_revision(e->object), &a);
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

            see(c, store_object_json(list.p[i], &a), store_object_revision(list.p[i]), &a);
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
