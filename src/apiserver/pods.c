/* apiserver/pods - subresources of pods: binding, eviction, log. */
#include "api/meta.h"
#include "apiserver/admit.h"

static const struct json *pod_of(struct request *r, struct store_object **ret)
{
    *ret = store_get_pending(r->s->store, kind_key(r->kind->info, r->ns, r->name, &r->arena));
    if (!*ret) {
        answer_not_found(r);
        return NULL;
    }
    return store_object_json(*ret, &r->arena);
}

static void bind_admitted(struct request *r, const struct json *body);

void pods_binding(struct request *r)
{
    struct json_dups dups = {0};
    const struct json *body;

    if (!body_parse(r, r->kind->info, &body, &dups))
        return;
    admit(r, ADMIT_CREATE, NULL, body, bind_admitted);
}

static void bind_admitted(struct request *r, const struct json *body)
{
    struct arena *a = &r->arena;
    const struct json *pod, *conditions;
    struct store_object *o;
    struct str node;
    struct condition scheduled = {.type = "PodScheduled", .status = "True"};

    pod = pod_of(r, &o);
    if (!pod)
        return;
    node = json_str_at(body, "target/name");
    if (str_empty(node)) {
        store_object_unref(o);
        answer_invalid_one(r, "Binding", "", arena_strdup(a, r->name), "FieldValueRequired",
                           "target.name", "Required value");
        return;
    }
    if (meta_deleting(pod) || !str_empty(json_str_at(pod, "spec/nodeName"))) {
        const char *why =
            meta_deleting(pod)
                ? arena_printf(a, "pod " STR_FMT " is being deleted, cannot be assigned to a host",
                               STR_ARG(r->name))
                : arena_printf(a, "pod " STR_FMT " is already assigned to node \"" STR_FMT "\"",
                               STR_ARG(r->name), STR_ARG(json_str_at(pod, "spec/nodeName")));

        store_object_unref(o);
        answer_status(
            r, 409, "Conflict",
            arena_printf(a, "Operation cannot be fulfilled on pods/binding \"" STR_FMT "\": %s",
                         STR_ARG(r->name), why),
            json_object(a, "name", json_new_str(a, r->name), "kind", json_new_z(a, "pods/binding"),
                        NULL));
        return;
    }
    pod = json_with_at(a, pod, "spec/nodeName", json_new_str(a, node));
    conditions =
        conditions_set(a, json_at(pod, "status/conditions"), &scheduled, now_text(r->s, false, a));
    pod = pod_decoded(a, json_with_at(a, pod, "status/conditions", conditions));
    json_each_member(m, json_at(body, "metadata/annotations")) {
        AUTO_FREE char *key = str_dup(json_str(&m->key));

        pod = meta_with_annotation(a, pod, key, json_str(&m->value));
    }
    r->answer_plain = true;
    commit(r, kind_key(r->kind->info, r->ns, r->name, a), object_order(a, r->kind->info, pod),
           store_object_revision(o), 201);
    store_object_unref(o);
}

/* From what the pod and its budget are now: webhooks may have taken their time. */
static void evict_admitted(struct request *r, const struct json *body)
{
    struct arena *a = &r->arena;
    const struct json *pod, *marked;
    struct store_object *o;
    struct delete_options options = {0};
    int64_t revision;

    pod = pod_of(r, &o);
    if (!pod)
        return;
    revision = store_object_revision(o);
    store_object_unref(o);
    options.has_grace = json_i64(json_at(body, "deleteOptions/gracePeriodSeconds"), &options.grace);
    if (!budget_allows(r, pod))
        return;
    marked = delete_mark(r->s, r->kind->info, pod, &options, a);
    r->answer_plain = true;
    if (marked == pod) {
        answer_status(r, 201, NULL, NULL, NULL);
        return;
    }
    commit(r, kind_key(r->kind->info, r->ns, r->name, a),
           marked ? object_order(a, r->kind->info, marked) : NULL, revision, 201);
}

void pods_eviction(struct request *r)
{
    struct json_dups dups = {0};
    const struct json *body, *pod;
    struct store_object *o;
    struct str name;

    if (!body_parse(r, r->kind->info, &body, &dups))
        return;
    pod = pod_of(r, &o);
    if (!pod)
        return;
    store_object_unref(o);
    name = json_str_at(body, "metadata/name");
    if (name.n && !str_eq(name, r->name)) {
        answer_status(r, 400, "BadRequest", "name in URL does not match name in Eviction object",
                      NULL);
        return;
    }
    /* The plugin chain may refuse: evicting a VM's pod means migrating it, which is the VMI's business. */
    admit(r, ADMIT_CREATE, pod, body, evict_admitted);
}

void pods_log(struct request *r)
{
    struct store_object *o =
        store_get(r->s->store, kind_key(r->kind->info, r->ns, r->name, &r->arena));
    struct exchange *x = r->x;
    const struct json *pod;

    if (!o) {
        answer_not_found(r);
        return;
    }
    if (!x || !r->s->config.pod_log) {
        store_object_unref(o);
        answer_status(r, 501, "NotImplemented", "this server has no access to the logs of pods",
                      NULL);
        return;
    }
    pod = store_object_json(o, &x->arena);
    store_object_unref(o);
    x->user = NULL;
    x->closed = NULL;
    r->x = NULL;
    request_finished(r, 200);
    {
        struct apiserver *s = r->s;

        request_free(r);
        s->config.pod_log(s->config.pod_log_data, x, pod);
    }
}
