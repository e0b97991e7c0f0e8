#include "operator/webhook.h"

#include "api/kv.h"
#include "api/meta.h"
#include "base/buf.h"
#include "base/cleanup.h"

static const struct json *answer(struct arena *a, const struct json *review, int code, const char *reason, const char *message,
                                 const struct json *details, const struct json *warnings)
{
    const struct json *status = NULL;

    if (message)
        status = json_object(a, "status", json_new_z(a, "Failure"), "code", json_new_i64(a, code), "reason",
                             json_new_z(a, reason), "message", json_new_z(a, message), "details", details, NULL);
    return json_object(a, "apiVersion", json_new_z(a, "admission.k8s.io/v1"), "kind", json_new_z(a, "AdmissionReview"),
                       "response",
                       json_object(a, "uid", json_at(review, "request/uid"), "allowed", json_new_bool(!message), "status",
                                   status, "warnings", json_len(warnings) ? warnings : NULL, NULL),
                       NULL);
}

bool webhook_needs_kubevirts(struct str path)
{
    return str_is(path, WEBHOOK_CREATE);
}

bool webhook_needs_workloads(struct str path, const struct json *review)
{
    return str_is(path, WEBHOOK_DELETE)
           && !str_is(json_str_at(review, "request/oldObject/spec/uninstallStrategy"), "RemoveWorkloads");
}

/* An object that installs nothing (a second one) goes without questions. */
static bool is_installed(const struct json *kubevirt)
{
    return meta_has_finalizer(kubevirt, "foregroundDeleteKubeVirt");
}

static const struct json *on_delete(const struct json *review, const struct webhook_facts *f, struct arena *a)
{
    const struct json *old = json_at(review, "request/oldObject");
    bool asked = webhook_needs_workloads(STR(WEBHOOK_DELETE), review) && (!old || is_installed(old));

    if (asked && f->error)
        return answer(a, review, 500, "InternalError", f->error, NULL, NULL);
    if (asked && f->workloads)
        return answer(
            a, review, 403, "Forbidden",
            arena_printf(
                a,
                "Rejecting the uninstall request, since there are still machines present: %s. Delete them first, or set "
                "spec.uninstallStrategy to RemoveWorkloads, which deletes them with everything else",
                f->workloads),
            NULL, NULL);
    return answer(a, review, 0, NULL, NULL, NULL, NULL);
}

/* What is stored and does nothing here. */
static const struct json *warnings(const struct json *kubevirt, struct arena *a)
{
    static const struct {
        const char *path, *words;
    } ignored[] = {
        {"spec/monitorNamespace",
         "spec.monitorNamespace: no ServiceMonitor is made; scrape /metrics of the pods with the label "
         "prometheus.kubevirt.io"},
        {"spec/serviceMonitorNamespace",
         "spec.serviceMonitorNamespace: no ServiceMonitor is made; scrape /metrics of the pods with the "
         "label prometheus.kubevirt.io"},
        {"spec/monitorAccount", "spec.monitorAccount: no ServiceMonitor is made, and nobody is given rights to scrape"},
        {"spec/synchronizationPort", "spec.synchronizationPort: machines do not migrate between clusters here"},
        {"spec/workloadUpdateStrategy",
         "spec.workloadUpdateStrategy: running machines keep their launcher until they are started again"},
    };
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++) {
        const struct json *v = json_at(kubevirt, ignored[i].path);

        if (v && (!json_is(v, JSON_OBJECT) || json_len(v)))
            list = json_append(a, list, json_new_z(a, ignored[i].words));
    }
    return list;
}

static const struct json *on_spec(const struct json *review, struct arena *a)
{
    const struct json *kubevirt = json_at(review, "request/object"), *list = json_array(a, NULL);
    struct schema_causes causes = {0};
    AUTO(buf_done) struct buf message = {0};

    if (meta_deleting(kubevirt)) /* finalizers have to go, whatever the spec says */
        return answer(a, review, 0, NULL, NULL, NULL, NULL);
    install_validate(kubevirt, a, &causes);
    kv_kubevirt_validate(kubevirt, a, &causes);
    if (!causes.n)
        return answer(a, review, 0, NULL, NULL, NULL, warnings(kubevirt, a));
    for (size_t i = 0; i < causes.n; i++) {
        buf_addf(&message, "%s%s: %s", i ? ", " : "", causes.p[i].field, causes.p[i].message);
        list = json_append(a, list,
                           json_object(a, "reason", json_new_z(a, causes.p[i].reason), "message",
                                       json_new_z(a, causes.p[i].message), "field", json_new_z(a, causes.p[i].field), NULL));
    }
    return answer(a, review, 422, "Invalid", arena_strdup(a, buf_str(&message)), json_object(a, "causes", list, NULL), NULL);
}

static const struct json *on_create(const struct json *review, const struct webhook_facts *f, struct arena *a)
{
    if (f->error)
        return answer(a, review, 500, "InternalError", f->error, NULL, NULL);
    json_each_item(k, f->kubevirts)
        return answer(a, review, 403, "Forbidden",
                      arena_printf(a, "KubeVirt is already created: " STR_FMT "/" STR_FMT " configures this cluster",
                                   STR_ARG(meta_namespace(k)), STR_ARG(meta_name(k))),
                      NULL, NULL);
    return on_spec(review, a);
}

bool webhook_review(struct str path, const struct json *review, const struct webhook_facts *f, struct arena *a,
                    const struct json **ret, struct error *err)
{
    if (!str_is(json_str_at(review, "kind"), "AdmissionReview") || !json_str_at(review, "request/uid").n)
        return error_set(err, ERROR_BAD_REQUEST, "the body is no AdmissionReview with a request");
    if (str_is(path, WEBHOOK_DELETE))
        *ret = on_delete(review, f, a);
    else if (str_is(path, WEBHOOK_CREATE))
        *ret = on_create(review, f, a);
    else if (str_is(path, WEBHOOK_UPDATE))
        *ret = on_spec(review, a);
    else
        return error_set(err, ERROR_NOT_FOUND, "there is no webhook " STR_FMT, STR_ARG(path));
    return true;
}
