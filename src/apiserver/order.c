/* apiserver/order - members in the order of kube-apiserver's structs, so that texts read alike.
 *
 * For a core kind that order is nearly that of the protobuf numbers; types to which members were added in the middle
 * have a list of their own. Custom resources have no struct upstream: their members are sorted by name, at every depth. It
 * is what is stored that is in order, so that reading costs nothing; objects that an older version stored stay as they are. */
#include "apiserver/internal.h"
#include "apiserver/protobuf.h"

#define CRD_GROUP "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
#define META_GROUP "io.k8s.apimachinery.pkg.apis.meta.v1."

static const char meta_order[] =
    "name,generateName,namespace,uid,resourceVersion,generation,creationTimestamp,"
    "deletionTimestamp,deletionGracePeriodSeconds,labels,annotations,ownerReferences,finalizers,"
    "managedFields";

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
    {META_GROUP "ObjectMeta", meta_order},
    {META_GROUP "ManagedFieldsEntry",
     "manager,operation,apiVersion,time,fieldsType,fieldsV1,subresource"},
    {META_GROUP "OwnerReference", "apiVersion,kind,name,uid,controller,blockOwnerDeletion"},
    {CRD_GROUP "CustomResourceDefinition", "kind,apiVersion,metadata,spec,status"},
    {CRD_GROUP "CustomResourceDefinitionSpec",
     "group,names,scope,versions,conversion,preserveUnknownFields"},
    {CRD_GROUP "CustomResourceDefinitionNames",
     "plural,singular,shortNames,kind,listKind,categories"},
    {CRD_GROUP "CustomResourceDefinitionVersion",
     "name,served,storage,deprecated,deprecationWarning,schema,subresources,"
     "additionalPrinterColumns,selectableFields"},
    {CRD_GROUP "CustomResourceDefinitionStatus",
     "conditions,acceptedNames,storedVersions,observedGeneration"},
    {CRD_GROUP "CustomResourceDefinitionCondition",
     "type,status,lastTransitionTime,reason,message,observedGeneration"},
    {CRD_GROUP "CustomResourceColumnDefinition", "name,type,format,description,priority,jsonPath"},
    {CRD_GROUP "CustomResourceSubresources", "status,scale"},
    {CRD_GROUP "CustomResourceSubresourceScale",
     "specReplicasPath,statusReplicasPath,labelSelectorPath"},
    {CRD_GROUP "JSONSchemaProps",
     "id,$schema,$ref,description,type,format,title,default,maximum,exclusiveMaximum,minimum,"
     "exclusiveMinimum,maxLength,minLength,pattern,maxItems,minItems,uniqueItems,multipleOf,enum,"
     "maxProperties,minProperties,required,items,allOf,oneOf,anyOf,not,properties,"
     "additionalProperties,patternProperties,dependencies,additionalItems,definitions,externalDocs,"
     "example,nullable,x-kubernetes-preserve-unknown-fields,x-kubernetes-embedded-resource,"
     "x-kubernetes-int-or-string,x-kubernetes-list-map-keys,x-kubernetes-list-type,"
     "x-kubernetes-map-type,x-kubernetes-validations"},
    {CRD_GROUP "ValidationRule", "rule,message,messageExpression,reason,fieldPath,optionalOldSelf"},
};

static const char *order_of(const struct schema_type *t)
{
    for (size_t i = 0; t->name && i < ARRAY_SIZE(otherwise); i++)
        if (!strcmp(t->name, otherwise[i].type))
            return otherwise[i].order;
    return t->name && schema_is_core(t) ? protobuf_numbers(str_of(t->name)) : NULL;
}

bool kind_custom(const struct kind_info *k)
{
    return (k->flags & KIND_CRD) || (k->type && (k->type->flags & SCHEMA_FROM_CRD));
}

static const struct json *items(struct arena *a, const struct schema_type *t, const struct json *v)
{
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(v) + 1);
    bool changed = false;

    for (size_t i = 0; i < json_len(v); i++) {
        p[i] = t ? order_members(a, t, json_item(v, i)) : order_sorted(a, json_item(v, i));
        changed |= p[i] != json_item(v, i);
    }
    return changed ? json_array_n(a, p, json_len(v)) : v;
}

/* Of equal names the last stays last: it is the one that counts. */
static int by_name(const void *x, const void *y)
{
    const struct json_member *a = *(const struct json_member *const *)x,
                             *b = *(const struct json_member *const *)y;
    int order = str_cmp(json_str(&a->key), json_str(&b->key));

    return order ? order : (a > b) - (a < b);
}

/* An object whose members are sorted; what is below them is ordered by `t`, or sorted too. */
static const struct json *sorted(struct arena *a, const struct schema_type *t, const struct json *v)
{
    const struct json_member **by = ARENA_ARRAY(a, const struct json_member *, v->n + 1);
    struct json_member *m;
    bool changed = false;

    for (size_t i = 0; i < v->n; i++) {
        by[i] = &v->members[i];
        changed |= i && str_cmp(json_str(&by[i - 1]->key), json_str(&by[i]->key)) > 0;
    }
    if (changed)
        qsort(by, v->n, sizeof *by, by_name);
    m = ARENA_ARRAY(a, struct json_member, v->n + 1);
    for (size_t i = 0; i < v->n; i++) {
        const struct json *w =
            t ? order_members(a, t, &by[i]->value) : order_sorted(a, &by[i]->value);

        changed |= w != &by[i]->value;
        m[i].key = by[i]->key;
        m[i].value = *w;
    }
    return changed ? json_object_n(a, m, v->n) : v;
}

const struct json *order_sorted(struct arena *a, const struct json *v)
{
    if (json_is(v, JSON_ARRAY) && v->n)
        return items(a, NULL, v);
    return json_is(v, JSON_OBJECT) && v->n ? sorted(a, NULL, v) : v;
}

/* Each member that the order names goes behind those that it named before; the others stay behind them. */
static void arrange(struct json_member *m, size_t n, const char *order)
{
    struct str rest = str_of(order), name;
    size_t done = 0;

    while (str_next(&rest, ',', &name))
        for (size_t i = done; i < n; i++) {
            struct json_member here = m[i];

            if (!str_eq(json_str(&here.key), name))
                continue;
            memmove(&m[done + 1], &m[done], (i - done) * sizeof *m);
            m[done++] = here;
            break;
        }
}

/* What is below one member. In a schema, values of any form are written as Go's maps are, but for what is a schema in most
 * cases and something else in others. */
static const struct json *order_below(struct arena *a, const struct schema_type *t,
                                      const struct json_member *m)
{
    struct str key = json_str(&m->key);
    const struct schema_field *f = schema_field(t, key);
    const struct schema_type *below = f ? f->type : NULL;

    if (!below || below->kind != SCHEMA_ANY || !t->name
        || !str_is(str_of(t->name), CRD_GROUP "JSONSchemaProps"))
        return order_members(a, below, &m->value);
    if (str_is(key, "items") || str_is(key, "additionalProperties"))
        return order_members(a, t, &m->value);
    return order_sorted(a, &m->value);
}

const struct json *order_members(struct arena *a, const struct schema_type *t, const struct json *v)
{
    const char *order;
    struct json_member *m;

    if (!t || !v)
        return v;
    if (t->kind == SCHEMA_LIST && t->item->kind == SCHEMA_OBJECT && json_is(v, JSON_ARRAY))
        return items(a, t->item, v);
    if (t->kind == SCHEMA_MAP && json_is(v, JSON_OBJECT) && v->n)
        return sorted(a, t->item, v);
    if (t->kind != SCHEMA_OBJECT || !json_is(v, JSON_OBJECT) || !v->n)
        return v;
    order = order_of(t);
    if (!order && !schema_is_core(t))
        return v;
    m = ARENA_ARRAY(a, struct json_member, v->n);
    for (size_t i = 0; i < v->n; i++) {
        m[i].key = v->members[i].key;
        m[i].value = *order_below(a, t, &v->members[i]);
    }
    if (order)
        arrange(m, v->n, order);
    return json_object_n(a, m, v->n);
}

const struct json *order_metadata(struct arena *a, const struct json *meta)
{
    static const struct {
        const char *key, *order;
    } lists[] = {
        {"ownerReferences", "apiVersion,kind,name,uid,controller,blockOwnerDeletion"},
        {"managedFields", "manager,operation,apiVersion,time,fieldsType,fieldsV1,subresource"}};
    struct json_member *m = ARENA_ARRAY(a, struct json_member, json_len(meta) + 1);
    size_t n = 0;

    json_each_member(it, meta) {
        m[n++] = *it;
    }
    arrange(m, n, meta_order);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < ARRAY_SIZE(lists); j++) {
            size_t len = json_len(&m[i].value), at = 0;
            const struct json **p = ARENA_ARRAY(a, const struct json *, len + 1);

            if (!str_is(json_str(&m[i].key), lists[j].key))
                continue;
            json_each_item(it, &m[i].value) {
                struct json_member *c = ARENA_ARRAY(a, struct json_member, json_len(it) + 1);

                if (json_len(it) && json_is(it, JSON_OBJECT))
                    memcpy(c, it->members, json_len(it) * sizeof *c);
                else
                    continue;
                arrange(c, json_len(it), lists[j].order);
                p[at++] = json_object_n(a, c, json_len(it));
            }
            m[i].value = *json_array_n(a, p, at);
        }
    return json_object_n(a, m, n);
}

static bool is_empty(const struct json *v)
{
    return json_is(v, JSON_NULL)
           || ((json_is(v, JSON_OBJECT) || json_is(v, JSON_ARRAY)) && v->n == 0)
           || (json_is(v, JSON_STRING) && v->n == 0);
}

/* Go's structs leave out what is empty. */
static const struct json *filled(struct arena *a, const struct json *meta)
{
    struct json_member *m = ARENA_ARRAY(a, struct json_member, json_len(meta) + 1);
    struct str rest = str_of(meta_order), name;
    size_t n = 0;

    while (str_next(&rest, ',', &name)) {
        const struct json *v = json_get_str(meta, name);

        if (v && !is_empty(v))
            m[n++] = json_member_of(a, name, v);
    }
    return json_object_n(a, m, n);
}

const struct json *object_order(struct arena *a, const struct kind_info *k,
                                const struct json *object)
{
    struct json_member *top;
    size_t t = 0;
    const char *group = k->group, *version = k->storage_version ? k->storage_version : k->version;
    bool custom = kind_custom(k);

    if (kind_is(k, "events.k8s.io", "events"))
        group = "";
    else if (!custom)
        object = order_members(a, k->type, object);
    top = ARENA_ARRAY(a, struct json_member, json_len(object) + 4);
    top[t++] = json_member_of(a, STR("kind"), json_new_z(a, k->kind));
    top[t++] =
        json_member_of(a, STR("apiVersion"), json_new_z(a, group_version(group, version, a)));
    top[t++] = json_member_of(a, STR("metadata"), filled(a, json_get(object, "metadata")));
    json_each_member(it, object) {
        struct str key = json_str(&it->key);

        if (!str_is(key, "kind") && !str_is(key, "apiVersion") && !str_is(key, "metadata"))
            top[t++] = *it;
    }
    object = json_object_n(a, top, t);
    return custom ? order_sorted(a, object) : object;
}
