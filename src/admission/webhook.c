#include "admission/webhook.h"

#include "api/meta.h"
#include "api/status.h"
#include "base/cleanup.h"
#include "json/patch.h"

#define GROUP "kubevirt.io"
#define UID_MAX 128 /* of a review: a UUID, where an API server asks */

const struct webhook_path webhook_paths[] = {
    {"/virtualmachines-mutate", GROUP, "virtualmachines", NULL, true},
    {"/virtualmachines-validate", GROUP, "virtualmachines", NULL, false},
    {"/virtualmachineinstances-mutate", GROUP, "virtualmachineinstances", NULL, true},
    {"/virtualmachineinstances-validate-create", GROUP, "virtualmachineinstances", NULL, false},
    {"/virtualmachineinstances-validate-update", GROUP, "virtualmachineinstances", NULL, false},
    {"/kubevirt-validate-create", GROUP, "kubevirts", NULL, false},
    {"/kubevirt-validate-update", GROUP, "kubevirts", NULL, false},
    {"/nodes-validate-update", "", "nodes", NULL, false}, /* not upstream's: it has a policy only */
    {"/pod-eviction-validate", "", "pods", "eviction", false},
    {0},
};

const struct webhook_path *webhook_path(struct str path)
{
    for (const struct webhook_path *p = webhook_paths; p->path; p++)
        if (str_is(path, p->path))
            return p;
    return NULL;
}

static bool is_review(const struct json *v, struct error *err)
{
    struct str version = meta_api_version(v), kind = meta_kind(v);

    if (!str_is(kind, "AdmissionReview") || !str_is(version, "admission.k8s.io/v1"))
        return error_set(err, ERROR_BAD_REQUEST, "the body must be an AdmissionReview of admission.k8s.io/v1, not \"" STR_FMT "\" of \""
                         STR_FMT "\"", STR_ARG(str_take(kind, 64)), STR_ARG(str_take(version, 64)));
    if (!json_is(json_get(v, "request"), JSON_OBJECT))
        return error_set(err, ERROR_BAD_REQUEST, "the AdmissionReview has no request");
    return true;
}

static bool is_about(const struct webhook_path *p, const struct json *request, struct error *err)
{
    struct str group = json_str_at(request, "resource/group"), plural = json_str_at(request, "resource/resource"),
               sub = json_str_at(request, "subResource");

    if (!str_is(group.p ? group : STR(""), p->group) || !str_is(plural, p->plural))
        return error_set(err, ERROR_BAD_REQUEST, "request.resource: %s answers about %s%s%s, not about \"" STR_FMT "\" of group \"" STR_FMT
                         "\": a webhook configuration names the wrong path", p->path, p->plural, *p->group ? "." : "", p->group,
                         STR_ARG(str_take(plural, 64)), STR_ARG(str_take(group, 64)));
    if (p->subresource && !str_is(sub, p->subresource))
        return error_set(err, ERROR_BAD_REQUEST, "request.subResource: %s answers about %s/%s, not about \"" STR_FMT "\"", p->path,
                         p->plural, p->subresource, STR_ARG(str_take(sub, 64)));
    return true;
}

static bool read_objects(const struct json *request, bool update, struct review *r, struct error *err)
{
    r->object = json_get(request, "object");
    r->old = update ? json_get(request, "oldObject") : NULL;
    if (!json_is(r->object, JSON_OBJECT))
        return error_set(err, ERROR_BAD_REQUEST, "request.object must be the object that is written");
    if (update && !json_is(r->old, JSON_OBJECT))
        return error_set(err, ERROR_BAD_REQUEST, "request.oldObject must be the object as it is, for an UPDATE");
    return true;
}

bool webhook_read(const struct webhook_path *p, struct str body, struct str install_ns, struct arena *a, struct webhook *ret,
                  struct error *err)
{
    const struct json *v, *request;
    struct webhook w = {.path = p};
    struct str op;

    if (!json_parse(body, a, &v, err))
        return error_wrap(err, "the body must be an AdmissionReview");
    if (!is_review(v, err))
        return false;
    request = json_get(v, "request");
    w.uid = json_str_at(request, "uid");
    if (!w.uid.n || w.uid.n > UID_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "request.uid must be a text of 1 to %d bytes", UID_MAX);
    if (!is_about(p, request, err))
        return false;
    op = json_str_at(request, "operation");
    w.review = (struct review){.op = str_is(op, "UPDATE") ? REVIEW_UPDATE : REVIEW_CREATE,
                               .plural = str_of(p->plural),
                               .ns = json_str_at(request, "namespace"),
                               .name = json_str_at(request, "name"),
                               .by_platform = rules_our_account(json_str_at(request, "userInfo/username"), install_ns),
                               .arena = a};
    w.applies = p->subresource ? str_is(op, "CREATE")
                               : (str_is(op, "CREATE") || str_is(op, "UPDATE")) && !json_str_at(request, "subResource").n;
    if (w.applies && !p->subresource && !read_objects(request, str_is(op, "UPDATE"), &w.review, err))
        return false;
    w.sent = w.review.object;
    w.by_agent = node_agent_of(request, install_ns, &w.agent);
    if (!w.review.name.n)
        w.review.name = meta_name(w.sent);
    *ret = w;
    return true;
}

/* --- the answer --------------------------------------------------------------------------------------------------------------- */

static const char *text(struct arena *a, struct str s)
{
    return s.n ? arena_strdup(a, s) : NULL;
}

/* The Status of a refusal is the one that the embedded server would answer with (apiserver/answer). */
static const struct json *refusal(const struct webhook *w, const struct error *err)
{
    struct arena *a = w->review.arena;
    const struct status_details of = {.name = text(a, w->review.name), .group = w->path->group, .kind = w->path->plural};

    return status_of(a, err, err->kind == ERROR_TOO_MANY ? NULL : &of);
}

static const struct json *invalid(const struct webhook *w)
{
    struct arena *a = w->review.arena;
    const struct kind_info *k = schema_kind_find(str_of(w->path->group), str_of(w->path->plural));
    const char *name = text(a, w->review.name);

    return status_invalid(a, &w->review.causes, w->path->group, k ? k->kind : w->path->plural, name ? name : "");
}

static const struct json *patch(const struct webhook *w)
{
    struct arena *a = w->review.arena;
    const struct json *ops = json_patch_diff(a, w->sent, w->review.object);
    AUTO(buf_done) struct buf plain = {0}, coded = {0};

    if (!json_len(ops))
        return NULL;
    json_write(&plain, ops);
    buf_add_base64(&coded, plain.p, plain.n);
    return plain.overflow || coded.overflow ? NULL : json_new_str(a, buf_str(&coded));
}

static const struct json *answer(const struct webhook *w, const struct json *refused)
{
    struct arena *a = w->review.arena;
    const struct json *warnings = json_array(a, NULL), *change = w->path->mutates && w->applies && !refused ? patch(w) : NULL;

    for (size_t i = 0; i < w->review.warnings.n; i++)
        warnings = json_append(a, warnings, json_new_z(a, w->review.warnings.p[i]));
    return json_object(a, "apiVersion", json_new_z(a, "admission.k8s.io/v1"), "kind", json_new_z(a, "AdmissionReview"), "response",
                       json_object(a, "uid", json_new_str(a, w->uid), "allowed", json_new_bool(!refused), "status", refused, "patchType",
                                   change ? json_new_z(a, "JSONPatch") : NULL, "patch", change, "warnings",
                                   json_len(warnings) ? warnings : NULL, NULL),
                       NULL);
}

const struct json *webhook_verdict(struct webhook *w, const struct error *err, bool *ret_allowed)
{
    *ret_allowed = err->kind == ERROR_NONE && !w->review.causes.n;
    return answer(w, err->kind != ERROR_NONE ? refusal(w, err) : w->review.causes.n ? invalid(w) : NULL);
}

/* Changes by node agents where the server has no policies for them (admission/node.h). */
static bool agent_may(const struct webhook *w, const struct admission_rules *rules, struct error *err)
{
    struct str node = w->agent.node;

    if (!w->by_agent || !w->applies || w->path->mutates || !rules->node_of_agent || w->review.op != REVIEW_UPDATE)
        return true;
    if (!node.n && !w->agent.pod_name.n)
        return true; /* a server before 1.21, whose tokens are bound to no pod: nobody knows which agent it is */
    if (!node.n)
        node = rules->node_of_agent(rules->data, &w->agent);
    return node_agent_may(node, w->review.plural, w->review.old, w->review.object, err);
}

const struct json *webhook_answer(struct webhook *w, const struct admission_rules *rules, bool *ret_allowed)
{
    AUTO(error_clear) struct error err = {0};

    if (!agent_may(w, rules, &err))
        return webhook_verdict(w, &err, ret_allowed);
    /* A server with matchConditions does not ask about our own writes. One without them gets the same answer. */
    if (w->applies && !w->review.by_platform && !(w->path->mutates ? rules_mutate(rules, &w->review, &err) : rules_validate(rules, &w->review, &err))
        && err.kind == ERROR_NONE)
        error_set(&err, ERROR_INTERNAL, "refused without a reason");
    return webhook_verdict(w, &err, ret_allowed);
}
