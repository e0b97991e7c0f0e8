#include "operator/component.h"

#include "api/crd.h"
#include "api/meta.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/vec.h"
#include "json/yaml.h"
#include "operator/customize.h"

const struct managed managed_kinds[MANAGED] = {
    [MANAGED_CRD] = {"apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"},
    [MANAGED_PRIORITY_CLASS] = {"scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses"},
    [MANAGED_SERVICE_ACCOUNT] = {"", "v1", "ServiceAccount", "serviceaccounts", .namespaced = true},
    [MANAGED_CLUSTER_ROLE] = {"rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"},
    [MANAGED_CLUSTER_ROLE_BINDING] = {"rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"},
    [MANAGED_ROLE] = {"rbac.authorization.k8s.io", "v1", "Role", "roles", .namespaced = true},
    [MANAGED_ROLE_BINDING] = {"rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", .namespaced = true},
    [MANAGED_CONFIG_MAP] = {"", "v1", "ConfigMap", "configmaps", .namespaced = true},
    [MANAGED_SECRET] = {"", "v1", "Secret", "secrets", .namespaced = true},
    [MANAGED_SERVICE] = {"", "v1", "Service", "services", .namespaced = true},
    [MANAGED_PDB] = {"policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", .namespaced = true, .older = "v1beta1"},
    [MANAGED_POLICY] = {"admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies",
                        .optional = true},
    [MANAGED_POLICY_BINDING] = {"admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding",
                                "validatingadmissionpolicybindings", .optional = true},
    [MANAGED_DEPLOYMENT] = {"apps", "v1", "Deployment", "deployments", .namespaced = true},
    [MANAGED_DAEMON_SET] = {"apps", "v1", "DaemonSet", "daemonsets", .namespaced = true},
    [MANAGED_VALIDATING] = {"admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration",
                            "validatingwebhookconfigurations"},
    [MANAGED_MUTATING] = {"admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration",
                          "mutatingwebhookconfigurations"},
    [MANAGED_API_SERVICE] = {"apiregistration.k8s.io", "v1", "APIService", "apiservices"},
};

bool managed_of(const struct json *object, enum managed_id *ret)
{
    struct str group = meta_group(meta_api_version(object), NULL), kind = meta_kind(object);

    for (size_t i = 0; i < MANAGED; i++)
        if (str_is(group, managed_kinds[i].group) && str_is(kind, managed_kinds[i].kind)) {
            *ret = (enum managed_id)i;
            return true;
        }
    return false;
}

/* -- parameters ---------------------------------------------------------------------------------------- */

/* The value of the parameter whose name ends before '}'; *rest is what is behind. */
static bool parameter(struct str at, const struct json *params, const struct json **ret, struct str *rest, struct error *err)
{
    struct str name;

    if (!str_cut(at, '}', &name, rest))
        return error_set(err, ERROR_INVALID, "'${" STR_FMT "' has no '}'", STR_ARG(str_take(at, 40)));
    *ret = json_get_str(params, name);
    if (!*ret && !str_is(name, "CA_BUNDLE"))
        return error_set(err, ERROR_INVALID, "there is no parameter ${" STR_FMT "}", STR_ARG(str_take(name, 40)));
    return true;
}

static bool fill_text(struct arena *a, struct str text, const struct json *params, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    struct str rest = text, behind;
    const struct json *value;
    size_t at;

    if (str_starts(text, STR("${")) && str_ends(text, STR("}")) && !str_find(str_skip(text, 2), STR("${"), &at)) {
        if (!parameter(str_skip(text, 2), params, &value, &behind, err))
            return false;
        if (!behind.n) {
            *ret = value;
            return true;
        }
    }
    while (str_find(rest, STR("${"), &at)) {
        buf_addstr(&b, str_take(rest, at));
        if (!parameter(str_skip(rest, at + 2), params, &value, &rest, err))
            return false;
        buf_addstr(&b, json_str(value));
    }
    buf_addstr(&b, rest);
    *ret = json_new_str(a, buf_str(&b));
    return true;
}

bool component_fill(struct arena *a, const struct json *v, const struct json *params, const struct json **ret,
                    struct error *err)
{
    const struct json *filled = v, *one;

    if (json_is(v, JSON_STRING))
        return fill_text(a, json_str(v), params, ret, err);
    if (json_is(v, JSON_OBJECT)) {
        filled = json_object(a, NULL);
        json_each_member(m, v) {
            if (!component_fill(a, &m->value, params, &one, err))
                return error_wrap(err, STR_FMT, STR_ARG(json_str(&m->key)));
            filled = json_with_str(a, filled, json_str(&m->key), one);
        }
    } else if (json_is(v, JSON_ARRAY)) {
        filled = json_array(a, NULL);
        json_each_item(it, v) {
            if (!component_fill(a, it, params, &one, err))
                return false;
            if (one)
                filled = json_append(a, filled, one);
        }
    }
    *ret = filled;
    return true;
}

/* -- one object ------------------------------------------------------------------------------------------ */

struct str component_hash(struct arena *a, const struct json *v)
{
    AUTO(buf_done) struct buf text = {0};
    char uuid[UUID_LEN + 1];

    json_write_sorted(&text, v);
    ident_uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", buf_str(&text), uuid);
    return arena_str(a, str_of(uuid));
}

const struct json *component_crd(struct arena *a, const struct kind_info *k)
{
    const struct json *crd = json_with(a, crd_of_kind(a, k, "1970-01-01T00:00:00Z"), "status", NULL);
    const struct json *metadata =
        json_object(a, "name", json_at(crd, "metadata/name"), "labels", json_at(crd, "metadata/labels"), "annotations",
                    json_at(crd, "metadata/annotations"), NULL);

    return json_with(a, crd, "metadata", metadata); /* status and times are the server's to fill in */
}

static enum stage stage_of(enum managed_id kind, const struct json *object)
{
    switch (kind) {
    case MANAGED_CRD:
        return STAGE_CRD;
    case MANAGED_DEPLOYMENT:
        return str_is(meta_name(object), "virt-api") ? STAGE_API : STAGE_CONTROLLER;
    case MANAGED_DAEMON_SET:
        return STAGE_HANDLER;
    case MANAGED_VALIDATING:
        return str_is(meta_name(object), "virt-operator-validator") ? STAGE_BASE : STAGE_ADMISSION;
    case MANAGED_MUTATING:
    case MANAGED_API_SERVICE:
        return STAGE_ADMISSION;
    case MANAGED_PRIORITY_CLASS:
    case MANAGED_SERVICE_ACCOUNT:
    case MANAGED_CLUSTER_ROLE:
    case MANAGED_CLUSTER_ROLE_BINDING:
    case MANAGED_ROLE:
    case MANAGED_ROLE_BINDING:
    case MANAGED_CONFIG_MAP:
    case MANAGED_SECRET:
    case MANAGED_SERVICE:
    case MANAGED_PDB:
    case MANAGED_POLICY:
    case MANAGED_POLICY_BINDING:
        return STAGE_BASE;
    }
    __builtin_unreachable();
}

/* Labels of the product, which the KubeVirt object names. */
static const struct json *with_product(const struct install *i, struct arena *a, const struct json *o)
{
    struct str name = json_str_at(i->kubevirt, "spec/productName"), version = json_str_at(i->kubevirt, "spec/productVersion");
    struct str part = json_str_at(i->kubevirt, "spec/productComponent");

    o = meta_with_label(a, o, "app.kubernetes.io/component", part.n ? part : STR("kubevirt"));
    if (name.n)
        o = meta_with_label(a, o, "app.kubernetes.io/part-of", name);
    if (version.n)
        o = meta_with_label(a, o, "app.kubernetes.io/version", version);
    return o;
}

struct component component_of(const struct install *i, struct arena *a, enum managed_id kind, const struct json *object)
{
    struct component c = {.kind = kind};

    if (managed_kinds[kind].namespaced)
        object = json_with_at(a, object, "metadata/namespace", json_new_z(a, i->ns));
    object = with_product(i, a, object);
    object = meta_with_label(a, object, LABEL_MANAGED_BY, STR("virt-operator"));
    object = meta_with_label(a, object, LABEL_OWNER, str_of(i->ns));
    object = meta_with_annotation(a, object, ANNOTATION_VERSION, str_of(i->version));
    object = meta_with_annotation(a, object, "kubevirt.io/install-strategy-registry", str_of(i->registry));
    object = meta_with_annotation(a, object, "kubevirt.io/install-strategy-identifier", str_of(i->id));
    c.hash = component_hash(a, object);
    c.object = meta_with_annotation(a, object, ANNOTATION_HASH, c.hash);
    c.key = meta_key(c.object, a);
    c.stage = stage_of(kind, c.object);
    c.title = arena_printf(a, "%s %s", managed_kinds[kind].kind, c.key);
    return c;
}

/* -- placement ---------------------------------------------------------------------------------------------- */

/* nodeSelector and affinity are laid over what stands there, tolerations behind it. */
static const struct json *placed(const struct json *pod, const struct json *placement, struct arena *a)
{
    json_each_member(m, json_get(placement, "nodeSelector"))
        pod = json_with(a, pod, "nodeSelector", json_with_str(a, json_get(pod, "nodeSelector"), json_str(&m->key), &m->value));
    json_each_member(m, json_get(placement, "affinity"))
        pod = json_with(a, pod, "affinity", json_with_str(a, json_get(pod, "affinity"), json_str(&m->key), &m->value));
    json_each_item(t, json_get(placement, "tolerations"))
        pod = json_with(a, pod, "tolerations", json_append(a, json_get(pod, "tolerations"), t));
    return pod;
}

static const struct json *with_pod(const struct install *i, enum managed_id kind, const struct json *o, struct arena *a)
{
    const struct json *template = json_at(o, "spec/template"), *pod = json_get(template, "spec");
    const struct json *secrets = json_at(i->kubevirt, "spec/imagePullSecrets");
    const char *who = kind == MANAGED_DAEMON_SET ? "spec/workloads/nodePlacement" : "spec/infra/nodePlacement";

    pod = placed(pod, json_at(i->kubevirt, who), a);
    if (json_len(secrets))
        pod = json_with(a, pod, "imagePullSecrets", secrets);
    template = with_product(i, a, json_with(a, template, "spec", pod));
    return json_with_at(a, o, "spec/template", template);
}

/* -- all --------------------------------------------------------------------------------------------------------- */

struct list {
    VEC(struct component) v;
};
static void list_done(struct list *l)
{
    vec_done(&l->v);
}

/* Conditions of webhooks are for servers that know them. */
static const struct json *for_server(const struct install *i, enum managed_id kind, const struct json *o, struct arena *a)
{
    const struct json *hooks = json_array(a, NULL);

    if (i->cluster.match_conditions || (kind != MANAGED_VALIDATING && kind != MANAGED_MUTATING))
        return o;
    json_each_item(h, json_get(o, "webhooks"))
        hooks = json_append(a, hooks, json_with(a, h, "matchConditions", NULL));
    return json_with(a, o, "webhooks", hooks);
}

static bool wanted(const struct install *i, enum managed_id kind, const struct json *o)
{
    if (managed_kinds[kind].optional && !i->cluster.admission_policies)
        return false;
    if (str_is(meta_name(o), "virt-handler-restriction"))
        return !i->cluster.admission_policies;
    return i->webhook || !str_is(meta_name(o), "virt-operator-validator");
}

static bool add(struct list *l, const struct install *i, const struct json *o, struct arena *a, struct error *err)
{
    enum managed_id kind;

    if (!managed_of(o, &kind))
        return error_set(err, ERROR_INVALID, "the operator does not install objects of " STR_FMT " " STR_FMT,
                         STR_ARG(meta_api_version(o)), STR_ARG(meta_kind(o)));
    if (!wanted(i, kind, o))
        return true;
    o = for_server(i, kind, o, a);
    if (kind == MANAGED_DEPLOYMENT || kind == MANAGED_DAEMON_SET)
        o = with_pod(i, kind, o, a);
    if (!customize(i->kubevirt, kind, o, a, &o, err))
        return false;
    vec_push(&l->v, component_of(i, a, kind, o));
    return true;
}

/* A List counts as its items. */
static bool add_document(struct list *l, const struct install *i, const struct json *doc, struct arena *a, struct error *err)
{
    if (!component_fill(a, doc, i->params, &doc, err))
        return false;
    if (!str_is(meta_kind(doc), "List"))
        return add(l, i, doc, a, err);
    json_each_item(it, json_get(doc, "items"))
        if (!add(l, i, it, a, err))
            return false;
    return true;
}

static int by_kind(const void *x, const void *y)
{
    const struct component *c = x, *d = y;

    return c->kind != d->kind ? (int)c->kind - (int)d->kind : strcmp(c->key, d->key);
}

bool components_make(const struct install *i, struct arena *a, struct components *ret, struct error *err)
{
    AUTO(list_done) struct list l = {0};

    for (size_t k = 0; schema_kinds[k]; k++)
        if (schema_kinds[k]->flags & KIND_CRD && strcmp(schema_kinds[k]->kind, "KubeVirt") != 0
            && !add(&l, i, component_crd(a, schema_kinds[k]), a, err))
            return false;
    for (const struct component_file *f = component_files; f->name; f++) {
        struct yaml_docs docs;

        if (!yaml_parse(str_of(f->text), a, &docs, err))
            return error_wrap(err, "components/%s", f->name);
        for (size_t d = 0; d < docs.n; d++)
            if (!add_document(&l, i, docs.p[d], a, err)) /* a fault of the KubeVirt object's names its field */
                return str_starts(str_of(error_text(err)), STR("spec.")) ? false : error_wrap(err, "components/%s", f->name);
    }
    qsort(l.v.p, l.v.n, sizeof *l.v.p, by_kind);
    ret->p = ARENA_ARRAY(a, struct component, l.v.n);
    memcpy(ret->p, l.v.p, l.v.n * sizeof *l.v.p);
    ret->n = l.v.n;
    return true;
}

/* -- drift ----------------------------------------------------------------------------------------------------------- */

/* A server leaves out what is empty. */
static bool nothing(const struct json *v)
{
    return !v || json_is(v, JSON_NULL) || ((json_is(v, JSON_OBJECT) || json_is(v, JSON_ARRAY)) && json_len(v) == 0);
}

const char *component_difference(const struct json *want, const struct json *live, struct arena *a)
{
    const char *below;

    if (nothing(want) && nothing(live))
        return NULL;
    if (json_is(want, JSON_OBJECT) && json_is(live, JSON_OBJECT)) {
        json_each_member(m, want) {
            below = component_difference(&m->value, json_get_str(live, json_str(&m->key)), a);
            if (below)
                return arena_printf(a, STR_FMT "%s%s", STR_ARG(json_str(&m->key)), below[0] && below[0] != '[' ? "." : "",
                                    below);
        }
        return NULL;
    }
    if (json_is(want, JSON_ARRAY) && json_is(live, JSON_ARRAY) && json_len(want) == json_len(live)) {
        for (size_t i = 0; i < json_len(want); i++) {
            below = component_difference(json_item(want, i), json_item(live, i), a);
            if (below)
                return arena_printf(a, "[%zu]%s%s", i, below[0] && below[0] != '[' ? "." : "", below);
        }
        return NULL;
    }
    return json_eq(want, live) ? NULL : "";
}
