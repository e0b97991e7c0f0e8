/* apiserver/bootstrap - what every cluster has, from schema/bootstrap/.
 *
 * Objects are made when missing and left alone when there. Kubernetes' default roles and bindings are reconciled at every start as
 * kube-apiserver does it: rules, subjects, labels that are missing are added, what others added stays, and the annotation
 * rbac.authorization.kubernetes.io/autoupdate: "false" keeps an object as it is. KubeVirt's roles are put back to what they
 * should be, as its operator does it. */
#include "api/crd.h"
#include "api/meta.h"
#include "apiserver/internal.h"
#include "apiserver/rules.h"
#include "base/log.h"
#include "json/yaml.h"

#define AUTOUPDATE "rbac.authorization.kubernetes.io/autoupdate"

extern const char bootstrap_objects[], bootstrap_kubernetes[],
    bootstrap_kubevirt[]; /* tools/embed */

enum origin { ORIGIN_PLAIN, ORIGIN_KUBERNETES, ORIGIN_KUBEVIRT };

struct bootstrap {
    struct apiserver *s;
    size_t left;
    bool starting;
    struct error first;
    void (*ready)(void *user, const struct error *err);
    void *user;
    struct loop_defer done;
};

static void finish(struct loop_defer *d)
{
    struct bootstrap *b = container_of(d, struct bootstrap, done);
    void (*ready)(void *, const struct error *) = b->ready;
    void *user = b->user;
    AUTO(error_clear) struct error err = TAKE(b->first);

    b->s->bootstrap = NULL;
    free(b);
    if (ready)
        ready(user, &err);
}

static void made(void *user, const struct client_response *r)
{
    struct bootstrap *b = user;

    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_EXISTS && r->err->kind != ERROR_CONFLICT
        && b->first.kind == ERROR_NONE)
        error_set(&b->first, r->err->kind, "bootstrap: %s", error_text(r->err));
    if (--b->left == 0 && !b->starting)
        loop_defer(b->s->loop, &b->done, finish);
}

/* What the files leave out because it is the same for all of them. */
static const struct json *completed(const struct json *o, enum origin from, struct arena *a)
{
    if (from == ORIGIN_PLAIN)
        return o;
    o = json_with(a, o, "apiVersion", json_new_z(a, "rbac.authorization.k8s.io/v1"));
    if (json_get(o, "roleRef"))
        o = json_with_at(a, o, "roleRef/apiGroup", json_new_z(a, "rbac.authorization.k8s.io"));
    if (from == ORIGIN_KUBERNETES) {
        o = meta_with_label(a, o, "kubernetes.io/bootstrapping", STR("rbac-defaults"));
        return meta_with_annotation(a, o, AUTOUPDATE, STR("true"));
    }
    o = meta_with_label(a, o, "app.kubernetes.io/component", STR("kubevirt"));
    return meta_with_label(a, o, "kubevirt.io", STR(""));
}

static const struct json *plus_members(struct arena *a, const struct json *there,
                                       const struct json *wanted, const char *path)
{
    const struct json *map = json_at(there, path);

    json_each_member(m, json_at(wanted, path)) {
        if (!json_get_str(map, json_str(&m->key)))
            map = json_with_str(a, map ? map : json_object(a, NULL), json_str(&m->key), &m->value);
    }
    return map && map != json_at(there, path) ? json_with_at(a, there, path, map) : there;
}

static bool same_subject(const struct json *x, const struct json *y)
{
    return str_eq(json_str_at(x, "kind"), json_str_at(y, "kind"))
           && str_eq(json_str_at(x, "name"), json_str_at(y, "name"))
           && str_eq(json_str_at(x, "namespace"), json_str_at(y, "namespace"));
}

static const struct json *plus_items(struct arena *a, const struct json *list,
                                     const struct json *wanted,
                                     bool (*same)(const struct json *, const struct json *))
{
    json_each_item(w, wanted) {
        bool found = false;

        json_each_item(it, list)
            found |= same(it, w);
        if (!found)
            list = json_append(a, list ? list : json_array(a, NULL), w);
    }
    return list;
}

/* What the object should be now: `there` itself when it may stay, NULL when its roleRef is another and it has to be made anew. */
static const struct json *reconciled(struct arena *a, const struct json *there,
                                     const struct json *wanted, enum origin from)
{
    const struct json *o = there, *rules = json_get(there, "rules"), *list;

    if (from == ORIGIN_PLAIN || str_is(meta_annotation(there, AUTOUPDATE), "false"))
        return there;
    if (json_get(wanted, "roleRef")
        && !json_eq(json_get(there, "roleRef"), json_get(wanted, "roleRef")))
        return NULL;
    o = plus_members(a, o, wanted, "metadata/labels");
    o = plus_members(a, o, wanted, "metadata/annotations");
    if (from == ORIGIN_KUBEVIRT && json_get(wanted, "rules"))
        return json_eq(rules, json_get(wanted, "rules"))
                   ? o
                   : json_with(a, o, "rules", json_get(wanted, "rules"));
    if (json_get(wanted, "rules")) {
        list = rules_missing(rules, json_get(wanted, "rules"), a);
        if (json_len(list))
            o = json_with(a, o, "rules", plus_items(a, rules, list, json_eq));
    }
    list = json_at(wanted, "aggregationRule/clusterRoleSelectors");
    if (list) {
        const struct json *mine = json_at(there, "aggregationRule/clusterRoleSelectors"),
                          *all = plus_items(a, mine, list, json_eq);

        if (all != mine)
            o = json_with_at(a, o, "aggregationRule/clusterRoleSelectors", all);
    }
    list = plus_items(a, json_get(there, "subjects"), json_get(wanted, "subjects"), same_subject);
    if (list != json_get(there, "subjects"))
        o = json_with(a, o, "subjects", list);
    return o;
}

static void send(struct bootstrap *b, const struct client_request *q)
{
    b->left++;
    client_call(b->s->self, q, made, b);
}

static void create(struct bootstrap *b, const struct json *o, enum origin from)
{
    struct arena a = {0};
    struct str version, group = meta_group(json_str_at(o, "apiVersion"), &version);
    struct served *k = catalog_by_kind(b->s, group, json_str_at(o, "kind"));
    struct client_request q = {
        .verb = CLIENT_CREATE, .body = o, .ns = json_str_at(o, "metadata/namespace")};
    const struct json *there, *next;

    if (!k)
        return;
    q.group = k->info->group;
    q.version = k->info->versions ? k->info->versions[0] : k->info->version;
    q.plural = k->info->plural;
    there = apiserver_peek(b->s, q.group, q.plural, q.ns, json_str_at(o, "metadata/name"), &a);
    if (there) {
        q.name = json_str_at(o, "metadata/name");
        if (kind_is(k->info, "apiextensions.k8s.io", "customresourcedefinitions"))
            next = json_eq(json_get(there, "spec"), json_get(o, "spec")) ? there : o;
        else
            next = reconciled(&a, there, o, from);
        if (next) {
            q.verb = CLIENT_UPDATE;
            q.body = next;
        } else { /* a roleRef cannot change */
            q.verb = CLIENT_DELETE;
            q.body = NULL;
            send(b, &q);
            q = (struct client_request){.verb = CLIENT_CREATE,
                                        .group = q.group,
                                        .version = q.version,
                                        .plural = q.plural,
                                        .ns = q.ns,
                                        .body = o};
        }
        if (next == there) {
            arena_done(&a);
            return;
        }
    }
    send(b, &q);
    arena_done(&a);
}

void apiserver_bootstrap(struct apiserver *s, void (*ready)(void *user, const struct error *err),
                         void *user)
{
    static const struct {
        const char *text;
        enum origin from;
    } files[] = {{bootstrap_objects, ORIGIN_PLAIN},
                 {bootstrap_kubernetes, ORIGIN_KUBERNETES},
                 {bootstrap_kubevirt, ORIGIN_KUBEVIRT}};
    struct bootstrap *b = NEW(struct bootstrap);

    *b = (struct bootstrap){.s = s, .ready = ready, .user = user, .starting = true};
    s->bootstrap = b;
    for (size_t f = 0; f < ARRAY_SIZE(files); f++) {
        struct arena a = {0};
        struct yaml_docs docs = {0};

        if (yaml_parse(str_of(files[f].text), &a, &docs, &b->first))
            for (size_t i = 0; i < docs.n; i++)
                create(b, completed(docs.p[i], files[f].from, &a), files[f].from);
        arena_done(&a);
    }
    for (size_t i = 0; schema_kinds[i]; i++) {
        struct arena one = {0};

        if (schema_kinds[i]->flags & KIND_CRD)
            create(b, crd_of_kind(&one, schema_kinds[i], now_text(s, false, &one)), ORIGIN_PLAIN);
        arena_done(&one);
    }
    b->starting = false;
    if (b->left == 0)
        loop_defer(s->loop, &b->done, finish);
}

void bootstrap_free(struct bootstrap *b)
{
    if (!b)
        return;
    loop_defer_cancel(&b->done);
    error_clear(&b->first);
    free(b);
}
