/* apiserver/pods - subresources of pods: binding, eviction, log. */
#include "api/labels.h"
#include "api/meta.h"
#include "apiserver/internal.h"

static const struct json *pod_of(struct request *r, struct store_object **ret)
{
    *ret = store_get_pending(r->s->store, kind_key(r->kind->info, r->ns, r->name, &r->arena));
    if (!*ret) {
        answer_not_found(r);
        return NULL;
    }
    return store_object_json(*ret, &r->arena);
}

void pods_binding(struct request *r)
{
    struct arena *a = &r->arena;
    struct json_dups dups = {0};
    const struct json *body, *pod, *conditions;
    struct store_object *o;
    struct str node;
    struct condition scheduled = {.type = "PodScheduled", .status = "True"};

    if (!body_parse(r, r->kind->info, &body, &dups))
        return;
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
    pod = json_with_at(a, pod, "status/conditions", conditions);
    json_each_member(m, json_at(body, "metadata/annotations")) {
        AUTO_FREE char *key = str_dup(json_str(&m->key));

        pod = meta_with_annotation(a, pod, key, json_str(&m->value));
    }
    r->answer_plain = true;
    commit(r, kind_key(r->kind->info, r->ns, r->name, a), object_order(a, r->kind->info, pod),
           store_object_revision(o), 201);
    store_object_unref(o);
}

/* Does a budget stand in the way? Its status is kept by the disruption controller. */
static bool budget_allows(struct request *r, const struct json *pod)
{
    struct served *k = catalog_find(r->s, STR("policy"), STR("v1"), STR("poddisruptionbudgets"));
    struct arena *a = &r->arena;
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (!k
        || !store_list(r->s->store, kind_prefix(k->info, r->ns, a), STR_NONE, 0, 0, NULL, NULL,
                       &list, &err))
        return true;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *pdb = store_object_json(list.p[i], a), *cause;
        struct label_selector sel;

        if (!label_selector_from(json_at(pdb, "spec/selector"), a, &sel, &err)) {
            error_clear(&err);
            continue;
        }
        if (!label_selector_match(&sel, meta_labels(pod))
            || json_i64_at(pdb, "status/disruptionsAllowed", 0) > 0)
            continue;
        cause = json_object(a, "reason", json_new_z(a, "DisruptionBudget"), "message",
                            json_new_f(a,
                                       "The disruption budget " STR_FMT
                                       " needs %lld healthy pods and has %lld currently",
                                       STR_ARG(meta_name(pdb)),
                                       (long long)json_i64_at(pdb, "status/desiredHealthy", 0),
                                       (long long)json_i64_at(pdb, "status/currentHealthy", 0)),
                            NULL);
        answer_status(r, 429, "TooManyRequests",
                      "Cannot evict pod as it would violate the pod's disruption budget.",
                      json_object(a, "causes", json_array(a, cause, NULL), NULL));
        return false;
    }
    return true;
}

void pods_eviction(struct request *r)
{
    struct arena *a = &r->arena;
    struct json_dups dups = {0};
    const struct json *body, *pod, *marked;
    struct store_object *o;
    struct delete_options options = {0};
    int64_t revision;

    if (!body_parse(r, r->kind->info, &body, &dups))
        return;
    pod = pod_of(r, &o);
    if (!pod)
        return;
    revision = store_object_revision(o);
    store_object_unref(o);
    options.has_grace = json_i64(json_at(body, "deleteOptions/gracePeriodSeconds"), &options.grace);
    /* The plugin chain may refuse: evicting a VM's pod means migrating it, which is the VMI's business. */
    if (!budget_allows(r, pod) || !admit(r, ADMIT_CREATE, pod, &body))
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
