/* apiserver/order - members in the order of kube-apiserver's structs, so that texts read alike.
 *
 * For a core kind that order is nearly that of the protobuf numbers; types to which members were added in the middle
 * have a list of their own. Custom resources keep the order in which their members came, behind kind, apiVersion and metadata. */
#include "apiserver/internal.h"
#include "apiserver/protobuf.h"

static const char *const meta_keys[] = {
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
};

static const struct {
    const char *type, *order;
} otherwise[] = {
    {"io.k8s.api.core.v1.Container",
     "name,image,command,args,workingDir,ports,envFrom,env,resources,resizePolicy,restartPolicy,"
     "restartPolicyRules,volumeMounts,volumeDevices,livenessProbe,readinessProbe,startupProbe,"
     "lifecycle,terminationMessagePath,terminationMessagePolicy,imagePullPolicy,securityContext,"
     "stdin,stdinOnce,tty"},
    {"io.k8s.api.core.v1.ConfigMapProjection", "name,items,optional"},
    {"io.k8s.api.core.v1.SecretProjection", "name,items,optional"},
    {"io.k8s.api.core.v1.PodCondition",
     "type,observedGeneration,status,lastProbeTime,lastTransitionTime,reason,message"},
    {"io.k8s.api.core.v1.PodSpec",
     "volumes,initContainers,containers,ephemeralContainers,restartPolicy,"
     "terminationGracePeriodSeconds,activeDeadlineSeconds,dnsPolicy,nodeSelector,"
     "serviceAccountName,serviceAccount,automountServiceAccountToken,nodeName,hostNetwork,hostPID,"
     "hostIPC,shareProcessNamespace,securityContext,imagePullSecrets,hostname,subdomain,affinity,"
     "schedulerName,tolerations,hostAliases,priorityClassName,priority,dnsConfig,readinessGates,"
     "runtimeClassName,enableServiceLinks,preemptionPolicy,overhead,topologySpreadConstraints,"
     "setHostnameAsFQDN,os,hostUsers,schedulingGates,resourceClaims,resources,hostnameOverride"},
    {"io.k8s.api.core.v1.PodStatus",
     "observedGeneration,phase,conditions,message,reason,nominatedNodeName,hostIP,hostIPs,podIP,"
     "podIPs,startTime,initContainerStatuses,containerStatuses,qosClass,"
     "ephemeralContainerStatuses,resize,resourceClaimStatuses"},
    {"io.k8s.api.core.v1.VolumeMount",
     "name,readOnly,recursiveReadOnly,mountPath,subPath,mountPropagation,subPathExpr"},
};

static const char *order_of(const struct schema_type *t)
{
    for (size_t i = 0; t->name && i < ARRAY_SIZE(otherwise); i++)
        if (!strcmp(t->name, otherwise[i].type))
            return otherwise[i].order;
    return t->name && schema_is_core(t) ? protobuf_numbers(str_of(t->name)) : NULL;
}

static const struct json *items(struct arena *a, const struct schema_type *t, const struct json *v)
{
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(v) + 1);
    bool changed = false;

    for (size_t i = 0; i < json_len(v); i++) {
        p[i] = order_members(a, t, json_item(v, i));
        changed |= p[i] != json_item(v, i);
    }
    return changed ? json_array_n(a, p, json_len(v)) : v;
}

const struct json *order_members(struct arena *a, const struct schema_type *t, const struct json *v)
{
    const char *order;
    struct str rest, name;
    struct json_member *m;
    size_t n = 0;

    if (t && t->kind == SCHEMA_LIST && t->item->kind == SCHEMA_OBJECT && json_is(v, JSON_ARRAY))
        return items(a, t->item, v);
    if (!t || t->kind != SCHEMA_OBJECT || !json_is(v, JSON_OBJECT) || !v->n
        || !(order = order_of(t)))
        return v;
    m = ARENA_ARRAY(a, struct json_member, v->n);
    for (size_t i = 0; i < v->n; i++) {
        const struct schema_field *f = schema_field(t, json_str(&v->members[i].key));

        m[i] = v->members[i];
        m[i].value = *order_members(a, f ? f->type : NULL, &v->members[i].value);
    }
    /* Each member that the order names goes behind those that it named before. */
    rest = str_of(order);
    while (str_next(&rest, ',', &name))
        for (size_t i = n; i < v->n; i++) {
            struct json_member here = m[i];

            if (!str_eq(json_str(&here.key), name))
                continue;
            memmove(&m[n + 1], &m[n], (i - n) * sizeof *m);
            m[n++] = here;
            break;
        }
    return json_object_n(a, m, v->n);
}

static bool is_empty(const struct json *v)
{
    return json_is(v, JSON_NULL)
           || ((json_is(v, JSON_OBJECT) || json_is(v, JSON_ARRAY)) && v->n == 0)
           || (json_is(v, JSON_STRING) && v->n == 0);
}

const struct json *object_order(struct arena *a, const struct kind_info *k,
                                const struct json *object)
{
    const struct json *meta = json_get(object, "metadata");
    struct json_member m[ARRAY_SIZE(meta_keys)], *top;
    size_t n = 0, t = 0;
    const char *group = k->group, *version = k->storage_version ? k->storage_version : k->version;

    if (kind_is(k, "events.k8s.io", "events"))
        group = "";
    else
        object = order_members(a, k->type, object);
    top = ARENA_ARRAY(a, struct json_member, json_len(object) + 4);
    for (size_t i = 0; i < ARRAY_SIZE(meta_keys); i++) {
        const struct json *v = json_get(meta, meta_keys[i]);

        if (v && !is_empty(v))
            m[n++] = json_member_of(a, str_of(meta_keys[i]), v);
    }
    top[t++] = json_member_of(a, STR("kind"), json_new_z(a, k->kind));
    top[t++] =
        json_member_of(a, STR("apiVersion"), json_new_z(a, group_version(group, version, a)));
    top[t++] = json_member_of(a, STR("metadata"), json_object_n(a, m, n));
    json_each_member(it, object) {
        struct str key = json_str(&it->key);

        if (!str_is(key, "kind") && !str_is(key, "apiVersion") && !str_is(key, "metadata"))
            top[t++] = *it;
    }
    return json_object_n(a, top, t);
}
