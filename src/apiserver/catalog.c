/* apiserver/catalog - the kinds that are served: those of schema/ and those of CustomResourceDefinitions. */
#include "apiserver/internal.h"
#include "apiserver/protobuf.h"

struct served *served_ref(struct served *k)
{
    k->refs++;
    return k;
}

/* Versions hold what they are versions of, so the catalog lets go of them first. */
static void versions_drop(struct served *k)
{
    for (size_t i = 0; i < k->n_versions; i++)
        served_unref(k->versions[i]);
    free(k->versions);
    k->versions = NULL;
    k->n_versions = 0;
}

void served_unref(struct served *k)
{
    if (!k || --k->refs > 0)
        return;
    versions_drop(k);
    served_unref(k->base);
    arena_done(&k->arena);
    free(k->crd_name);
    free(k);
}

void catalog_init(struct apiserver *s)
{
    for (size_t i = 0; schema_kinds[i]; i++) {
        struct served *k = NEW(struct served);

        k->info = schema_kinds[i];
        k->refs = 1;
        vec_push(&s->kinds, k);
    }
    s->kinds_generation = 1;
}

void catalog_done(struct apiserver *s)
{
    for (size_t i = 0; i < s->kinds.n; i++) {
        versions_drop(s->kinds.p[i]);
        served_unref(s->kinds.p[i]);
    }
    vec_done(&s->kinds);
}

const char *kind_some_version(const struct kind_info *k)
{
    return k->versions && k->versions[0] ? k->versions[0] : k->version;
}

bool served_has_version(const struct served *k, struct str version)
{
    for (size_t i = 0; k->info->versions && k->info->versions[i]; i++)
        if (str_is(version, k->info->versions[i]))
            return true;
    return !k->info->versions && str_is(version, k->info->version);
}

bool served_has_verb(const struct served *k, const char *verb)
{
    if (!k->info->verbs)
        return !(k->info->flags & KIND_NO_STORE) || !strcmp(verb, "create");
    for (size_t i = 0; k->info->verbs[i]; i++)
        if (!strcmp(k->info->verbs[i], verb))
            return true;
    return false;
}

static struct served *in_version(struct served *k, struct str version)
{
    for (size_t i = 0; i < k->n_versions; i++)
        if (str_is(version, k->versions[i]->info->version))
            return k->versions[i];
    return k;
}

struct served *catalog_find(struct apiserver *s, struct str group, struct str version,
                            struct str plural)
{
    for (size_t i = 0; i < s->kinds.n; i++) {
        struct served *k = s->kinds.p[i];

        if (str_is(plural, k->info->plural) && str_is(group, k->info->group)
            && (!version.p || served_has_version(k, version)))
            return version.p ? in_version(k, version) : k;
    }
    return NULL;
}

size_t catalog_versions(struct apiserver *s, const struct kind_info ***ret)
{
    size_t n = 0, room = 1;

    for (size_t i = 0; i < s->kinds.n; i++)
        room += 1 + s->kinds.p[i]->n_versions;
    *ret = xcalloc(room, sizeof **ret);
    for (size_t i = 0; i < s->kinds.n; i++) {
        struct served *k = s->kinds.p[i];

        (*ret)[n++] = k->info;
        for (size_t v = 0; v < k->n_versions; v++)
            (*ret)[n++] = k->versions[v]->info;
    }
    return n;
}

struct served *catalog_by_kind(struct apiserver *s, struct str group, struct str kind)
{
    for (size_t i = 0; i < s->kinds.n; i++) {
        struct served *k = s->kinds.p[i];

        if (str_is(kind, k->info->kind) && str_is(group, k->info->group))
            return k;
    }
    return NULL;
}

void catalog_add(struct apiserver *s, struct served *take_kind)
{
    take_kind->refs += take_kind->refs == 0;
    vec_push(&s->kinds, take_kind);
    s->kinds_generation++;
    apiservices_changed(s);
}

void catalog_remove(struct apiserver *s, struct served *kind)
{
    for (size_t i = 0; i < s->kinds.n; i++)
        if (s->kinds.p[i] == kind) {
            vec_remove(&s->kinds, i);
            s->kinds_generation++;
            versions_drop(kind);
            apiservices_changed(s);
            served_unref(kind);
            return;
        }
}

/* Both groups of Event are one set of objects; it is stored in the core group's form. */
static const char *store_group(const struct kind_info *k)
{
    if (!*k->group || kind_is(k, "events.k8s.io", "events"))
        return "core";
    return k->group;
}

struct str kind_prefix(const struct kind_info *k, struct str ns, struct arena *a)
{
    if (!kind_namespaced(k))
        return str_of(arena_printf(a, "/registry/%s/%s/-/", store_group(k), k->plural));
    if (!ns.p)
        return str_of(arena_printf(a, "/registry/%s/%s/", store_group(k), k->plural));
    return str_of(
        arena_printf(a, "/registry/%s/%s/" STR_FMT "/", store_group(k), k->plural, STR_ARG(ns)));
}

struct str kind_key(const struct kind_info *k, struct str ns, struct str name, struct arena *a)
{
    struct str prefix = kind_prefix(k, kind_namespaced(k) ? (ns.p ? ns : STR("")) : STR_NONE, a);

    return str_of(arena_printf(a, STR_FMT STR_FMT, STR_ARG(prefix), STR_ARG(name)));
}

const char *group_version(const char *group, const char *version, struct arena *a)
{
    return *group ? arena_printf(a, "%s/%s", group, version) : arena_strdup(a, str_of(version));
}

bool kind_speaks_protobuf(const struct served *k)
{
    return !k->dynamic && !(k->info->flags & KIND_CRD) && protobuf_speaks(k->info->type);
}
