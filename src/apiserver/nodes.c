/* apiserver/nodes - see nodes.h.
 *
 * What upstream's Node authorizer and NodeRestriction are for a kubelet, these rules are for the node process, which is
 * kubelet and virt-handler in one. A Secret, ConfigMap or claim is readable when a pod that is bound to the node names it. Which
 * are named is counted by a watch on pods, begun with the first question: a server without questions pays nothing. */
#include "apiserver/nodes.h"
#include "api/meta.h"
#include "apiserver/internal.h"

#define PODS "/registry/core/pods/"

struct named { /* what one pod names, with the node it is bound to */
    size_t n;
    char *keys[]; /* owned: "<node>\n<plural>\n<namespace>\n<name>" */
};

struct nodes {
    struct store *store;
    struct store_watch *watch;
    struct map pods;  /* key → struct named, owned; pods that name something */
    struct map count; /* key of a thing → owned size_t */
};

struct str node_of(const struct identity *who)
{
    static const char prefix[] = "system:node:";
    struct str user = str_of(who->user);

    if (!str_starts(user, str_of(prefix)) || user.n == strlen(prefix)
        || !identity_in(who, "system:nodes"))
        return STR_NONE;
    return str_skip(user, strlen(prefix));
}

static void forget(struct nodes *g, struct str pod)
{
    struct named *old = map_del(&g->pods, pod);

    for (size_t i = 0; old && i < old->n; i++) {
        size_t *count = map_get(&g->count, str_of(old->keys[i]));

        if (count && --*count == 0)
            free(map_del(&g->count, str_of(old->keys[i])));
        free(old->keys[i]);
    }
    free(old);
}

struct names {
    char **p;
    size_t n, cap;
};

static void name_one(struct names *out, const struct json *pod, const char *plural, struct str name)
{
    if (name.n)
        vec_push(out, xasprintf(STR_FMT "\n%s\n" STR_FMT "\n" STR_FMT,
                                STR_ARG(json_str_at(pod, "spec/nodeName")), plural,
                                STR_ARG(meta_namespace(pod)), STR_ARG(name)));
}

static void name_volume(struct names *out, const struct json *pod, const struct json *v)
{
    name_one(out, pod, "secrets", json_str_at(v, "secret/secretName"));
    name_one(out, pod, "configmaps", json_str_at(v, "configMap/name"));
    name_one(out, pod, "persistentvolumeclaims", json_str_at(v, "persistentVolumeClaim/claimName"));
    json_each_item(source, json_at(v, "projected/sources")) {
        name_one(out, pod, "secrets", json_str_at(source, "secret/name"));
        name_one(out, pod, "configmaps", json_str_at(source, "configMap/name"));
    }
}

static void name_environment(struct names *out, const struct json *pod, const char *list)
{
    json_each_item(c, json_at(pod, list)) {
        json_each_item(e, json_get(c, "env")) {
            name_one(out, pod, "secrets", json_str_at(e, "valueFrom/secretKeyRef/name"));
            name_one(out, pod, "configmaps", json_str_at(e, "valueFrom/configMapKeyRef/name"));
        }
        json_each_item(e, json_get(c, "envFrom")) {
            name_one(out, pod, "secrets", json_str_at(e, "secretRef/name"));
            name_one(out, pod, "configmaps", json_str_at(e, "configMapRef/name"));
        }
    }
}

static void learn(struct nodes *g, struct str key, const struct json *pod)
{
    struct names all = {0};
    struct named *named;

    json_each_item(v, json_at(pod, "spec/volumes"))
        name_volume(&all, pod, v);
    json_each_item(s, json_at(pod, "spec/imagePullSecrets"))
        name_one(&all, pod, "secrets", json_str_at(s, "name"));
    name_environment(&all, pod, "spec/containers");
    name_environment(&all, pod, "spec/initContainers");
    if (!all.n)
        return;
    named = xcalloc(1, sizeof *named + all.n * sizeof(char *));
    for (size_t i = 0; i < all.n; i++) {
        size_t *count = map_get(&g->count, str_of(all.p[i]));

        if (!count) {
            count = NEW(size_t);
            map_set(&g->count, str_of(all.p[i]), count);
        }
        ++*count;
        named->keys[named->n++] = all.p[i];
    }
    vec_done(&all);
    map_set(&g->pods, key, named);
}

static void look(struct nodes *g, struct store_object *o)
{
    struct arena a = {0};
    const struct json *pod = store_object_json(o, &a);

    forget(g, store_object_key(o));
    if (json_str_at(pod, "spec/nodeName").n)
        learn(g, store_object_key(o), pod);
    arena_done(&a);
}

static bool changed(void *user, const struct store_event *e)
{
    if (e->type == STORE_DELETED)
        forget(user, store_object_key(e->object));
    else
        look(user, e->object);
    return true;
}

static struct nodes *nodes_of(struct apiserver *s)
{
    struct nodes *g = s->nodes;
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (g)
        return g;
    g = s->nodes = NEW(struct nodes);
    g->store = s->store;
    g->watch = store_watch_start(s->store, STR(PODS), store_revision(s->store), changed, g, &err);
    if (store_list(s->store, STR(PODS), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        for (size_t i = 0; i < list.n; i++)
            look(g, list.p[i]);
    return g;
}

static void named_free(void *p)
{
    struct named *named = p;

    for (size_t i = 0; i < named->n; i++)
        free(named->keys[i]);
    free(named);
}

void nodes_free(struct nodes *g)
{
    if (!g)
        return;
    store_watch_stop(g->watch);
    map_done_with(&g->pods, named_free);
    map_done_with(&g->count, free);
    free(g);
}

enum rule {
    ANY,       /* allowed */
    OWN_NAME,  /* the object is called as the node */
    OWN_POD,   /* a pod that is bound to the node */
    OWN_VMI,   /* a machine that runs on the node */
    NAMED,     /* a pod that is bound to the node names it */
    RELEASING, /* an object that is being deleted: its finalizer goes */
};

static const struct {
    const char *group, *resource, *verbs; /* "get list", with spaces around */
    enum rule rule;
} rules[] = {
    {"", "nodes", " get list watch create ", ANY},
    {"", "nodes", " patch update ", OWN_NAME},
    {"", "nodes/status", " patch update ", OWN_NAME},
    {"", "pods", " get list watch ", ANY},
    {"", "pods", " delete ", OWN_POD},
    {"", "pods/status", " patch update ", OWN_POD},
    {"", "secrets", " get ", NAMED},
    {"", "configmaps", " get ", NAMED},
    {"", "persistentvolumeclaims", " get ", NAMED},
    {"", "persistentvolumes", " get list watch ", ANY},
    {"", "persistentvolumes", " patch ", RELEASING},
    {"", "events", " create patch update ", ANY},
    {"events.k8s.io", "events", " create patch update ", ANY},
    {"coordination.k8s.io", "leases", " get create patch update delete ", OWN_NAME},
    {"kubevirt.io", "kubevirts", " get list watch ", ANY},
    {"kubevirt.io", "virtualmachineinstances", " get list watch ", ANY},
    {"kubevirt.io", "virtualmachineinstances", " patch update ", OWN_VMI},
};

static bool on_node(struct apiserver *s, const char *group, const char *plural, const char *field,
                    const struct access *w, struct str node)
{
    struct arena a = {0};
    const struct json *o = apiserver_peek(s, group, plural, w->ns, w->name, &a);
    bool yes =
        !o || str_eq(json_str_at(o, field), node); /* what is not there is 404, as for everybody */

    arena_done(&a);
    return yes;
}

static bool releasing(struct apiserver *s, const struct access *w)
{
    struct arena a = {0};
    const struct json *o = apiserver_peek(s, "", "persistentvolumes", STR_NONE, w->name, &a);
    bool yes = !o || meta_deleting(o);

    arena_done(&a);
    return yes;
}

static bool is_named(struct apiserver *s, const struct access *w, struct str node)
{
    AUTO_FREE char *key = xasprintf(STR_FMT "\n" STR_FMT "\n" STR_FMT "\n" STR_FMT, STR_ARG(node),
                                    STR_ARG(w->resource), STR_ARG(w->ns), STR_ARG(w->name));

    return map_get(&nodes_of(s)->count, str_of(key)) != NULL;
}

static bool holds(struct apiserver *s, enum rule rule, const struct access *w, struct str node)
{
    switch (rule) {
    case ANY:
        return true;
    case OWN_NAME:
        return str_eq(w->name, node);
    case OWN_POD:
        return w->name.n && on_node(s, "", "pods", "spec/nodeName", w, node);
    case OWN_VMI:
        return w->name.n
               && on_node(s, "kubevirt.io", "virtualmachineinstances",
                          "metadata/labels/kubevirt.io~1nodeName", w, node);
    case NAMED:
        return w->name.n && is_named(s, w, node);
    case RELEASING:
        return w->name.n && releasing(s, w);
    }
    return false;
}

static bool verb_in(const char *verbs, struct str verb)
{
    struct str rest = str_of(verbs), one;

    while (str_next(&rest, ' ', &one))
        if (one.n && str_eq(one, verb))
            return true;
    return false;
}

bool node_allows(struct apiserver *s, const struct identity *who, const struct access *w,
                 struct arena *a, const char **ret_reason)
{
    struct str node = node_of(who), resource, sub;
    bool known = false;

    *ret_reason = "";
    if (!node.n || w->path.p)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        str_cut(str_of(rules[i].resource), '/', &resource, &sub);
        if (!str_is(w->group, rules[i].group) || !str_eq(w->resource, resource)
            || (sub.n ? !str_eq(w->subresource, sub) : w->subresource.n > 0)
            || !verb_in(rules[i].verbs, w->verb))
            continue;
        if (holds(s, rules[i].rule, w, node))
            return true;
        known = true;
    }
    if (known && a)
        *ret_reason = arena_printf(
            a, "no relationship found between node '" STR_FMT "' and this object", STR_ARG(node));
    return false;
}
