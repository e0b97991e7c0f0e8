/* apiserver/pod_defaults - what a pod has besides what was written: fields that follow from others, members that are there even
 * when they say nothing, tolerations for nodes that are away for a moment, the token of its account. */
#include "api/kv_config.h"
#include "apiserver/admit.h"
#include "base/ident.h"

#define TOKEN_PATH "/var/run/secrets/kubernetes.io/serviceaccount"

static const char *const container_lists[] = {"initContainers", "containers"};

/* A list of the spec or the status with every item changed. */
static const struct json *each(struct arena *a, const struct json *parent, const char *list,
                               const struct json *(*change)(struct arena *a, const struct json *v))
{
    const struct json *items = json_get(parent, list);
    const struct json **p;
    size_t n = 0;
    bool changed = false;

    if (!json_len(items))
        return parent;
    p = ARENA_ARRAY(a, const struct json *, json_len(items));
    json_each_item(it, items) {
        p[n] = change(a, it);
        changed |= p[n++] != it;
    }
    return changed ? json_with(a, parent, list, json_array_n(a, p, n)) : parent;
}

static const struct json *container_full(struct arena *a, const struct json *c)
{
    if (json_get(c, "imagePullPolicy"))
        return c;
    return json_with(a, c, "imagePullPolicy",
                     json_new_str(a, kv_pull_policy(json_str_at(c, "image"))));
}

/* A volume without a source is an empty directory. */
static const struct json *volume_full(struct arena *a, const struct json *v)
{
    json_each_member(m, v) {
        if (!str_is(json_str(&m->key), "name"))
            return v;
    }
    return json_with(a, v, "emptyDir", json_object(a, NULL));
}

static const struct json *condition_full(struct arena *a, const struct json *c)
{
    static const char *const times[] = {"lastProbeTime", "lastTransitionTime"};

    for (size_t i = 0; i < ARRAY_SIZE(times); i++)
        if (!json_get(c, times[i]))
            c = json_with(a, c, times[i], json_null());
    return c;
}

static const struct json *status_full(struct arena *a, const struct json *s)
{
    static const char *const states[] = {"state", "lastState"};

    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (!json_get(s, states[i]))
            s = json_with(a, s, states[i], json_object(a, NULL));
    return s;
}

const struct json *pod_decoded(struct arena *a, const struct json *o)
{
    const struct json *spec = json_get(o, "spec"), *status = json_get(o, "status"), *was = spec;
    const struct json *account = json_get(spec, "serviceAccountName");

    if (json_is(spec, JSON_OBJECT)) {
        /* Two names of one field. */
        if (str_empty(json_str(account)) && json_get(spec, "serviceAccount")) {
            account = json_get(spec, "serviceAccount");
            spec = json_with(a, spec, "serviceAccountName", account);
        } else if (account && !json_eq(account, json_get(spec, "serviceAccount"))) {
            spec = json_with(a, spec, "serviceAccount", account);
        }
        for (size_t i = 0; i < ARRAY_SIZE(container_lists); i++)
            spec = each(a, spec, container_lists[i], container_full);
        spec = each(a, spec, "volumes", volume_full);
        if (spec != was)
            o = json_with(a, o, "spec", spec);
    }
    was = status;
    if (json_is(status, JSON_OBJECT)) {
        status = each(a, status, "conditions", condition_full);
        status = each(a, status, "initContainerStatuses", status_full);
        status = each(a, status, "containerStatuses", status_full);
        if (status != was)
            o = json_with(a, o, "status", status);
    }
    return o;
}

/* Tolerations. */

static bool tolerates(const struct json *pod, const char *taint)
{
    json_each_item(t, json_at(pod, "spec/tolerations")) {
        struct str key = json_str_at(t, "key"), effect = json_str_at(t, "effect");

        if ((!key.n || str_is(key, taint)) && (!effect.n || str_is(effect, "NoExecute")))
            return true;
    }
    return false;
}

const struct json *pod_tolerant(struct arena *a, const struct json *o)
{
    static const char *const taints[] = {"node.kubernetes.io/not-ready",
                                         "node.kubernetes.io/unreachable"};
    const struct json *list = json_at(o, "spec/tolerations");

    for (size_t i = 0; i < ARRAY_SIZE(taints); i++)
        if (!tolerates(o, taints[i]))
            list = json_append(a, list ? list : json_array(a, NULL),
                               json_object(a, "key", json_new_z(a, taints[i]), "operator",
                                           json_new_z(a, "Exists"), "effect",
                                           json_new_z(a, "NoExecute"), "tolerationSeconds",
                                           json_new_i64(a, 300), NULL));
    return list == json_at(o, "spec/tolerations") ? o
                                                  : json_with_at(a, o, "spec/tolerations", list);
}

/* The token. */

static bool wants_token(struct request *r, const struct json *o)
{
    const struct json *account = apiserver_peek(
        r->s, "", "serviceaccounts", r->ns, json_str_at(o, "spec/serviceAccountName"), &r->arena);

    return json_bool_at(o, "spec/automountServiceAccountToken",
                        json_bool_at(account, "automountServiceAccountToken", true));
}

static bool has_token_path(const struct json *container)
{
    json_each_item(m, json_get(container, "volumeMounts")) {
        if (str_is(json_str_at(m, "mountPath"), TOKEN_PATH))
            return true;
    }
    return false;
}

static const struct json *file(struct arena *a, const char *key, const char *path)
{
    return json_object(a, "key", json_new_z(a, key), "path", json_new_z(a, path), NULL);
}

static const struct json *token_volume(struct arena *a, const char *name)
{
    const struct json *token =
        json_object(a, "serviceAccountToken",
                    json_object(a, "expirationSeconds", json_new_i64(a, 3607), "path",
                                json_new_z(a, "token"), NULL),
                    NULL);
    const struct json *ca =
        json_object(a, "configMap",
                    json_object(a, "name", json_new_z(a, "kube-root-ca.crt"), "items",
                                json_array(a, file(a, "ca.crt", "ca.crt"), NULL), NULL),
                    NULL);
    const struct json *ns =
        json_object(a, "path", json_new_z(a, "namespace"), "fieldRef",
                    json_object(a, "apiVersion", json_new_z(a, "v1"), "fieldPath",
                                json_new_z(a, "metadata.namespace"), NULL),
                    NULL);
    const struct json *down =
        json_object(a, "downwardAPI", json_object(a, "items", json_array(a, ns, NULL), NULL), NULL);

    return json_object(a, "name", json_new_z(a, name), "projected",
                       json_object(a, "sources", json_array(a, token, ca, down, NULL),
                                   "defaultMode", json_new_i64(a, 420), NULL),
                       NULL);
}

static const struct json *mounted(struct arena *a, const struct json *spec, const char *list,
                                  const struct json *mount)
{
    const struct json *containers = json_get(spec, list);
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(containers) + 1);
    size_t n = 0;
    bool changed = false;

    json_each_item(c, containers) {
        const struct json *mounts = json_get(c, "volumeMounts");
        bool has = has_token_path(c);

        changed |= !has;
        mounts = json_append(a, mounts ? mounts : json_array(a, NULL), mount);
        p[n++] = has ? c : json_with(a, c, "volumeMounts", mounts);
    }
    return changed ? json_with(a, spec, list, json_array_n(a, p, n)) : spec;
}

const struct json *pod_with_token(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    const struct json *spec = json_get(o, "spec"), *mount;
    char suffix[6];
    const char *name;

    if (!wants_token(r, o))
        return o;
    ident_suffix(suffix, 5);
    name = arena_printf(a, "kube-api-access-%s", suffix);
    mount = json_object(a, "name", json_new_z(a, name), "readOnly", json_new_bool(true),
                        "mountPath", json_new_z(a, TOKEN_PATH), NULL);
    for (size_t i = 0; i < ARRAY_SIZE(container_lists); i++)
        spec = mounted(a, spec, container_lists[i], mount);
    if (spec == json_get(o, "spec"))
        return o;
    spec = json_with(
        a, spec, "volumes",
        json_append(a, json_get(spec, "volumes") ? json_get(spec, "volumes") : json_array(a, NULL),
                    token_volume(a, name)));
    return json_with(a, o, "spec", spec);
}
