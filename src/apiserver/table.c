/* apiserver/table - meta.k8s.io Tables: what `kubectl get` prints. */
#include "apiserver/table.h"
#include "api/meta.h"
#include "base/ident.h"

struct column {
    const char *name, *type, *format, *description;
    int priority;
};

struct table_kind {
    const char *group, *plural;
    const struct column *columns;
    size_t n;
    table_cells_fn cells;
};

#define NAME                                                                                       \
    {                                                                                              \
        "Name", "string", "name", "The object's name, unique in its namespace.", 0                 \
    }
#define AGE                                                                                        \
    {                                                                                              \
        "Age", "string", "", "Time since the object was created.", 0                               \
    }
#define CREATED                                                                                    \
    {                                                                                              \
        "Created At", "date", "", "When the object was created.", 0                                \
    }

static const struct column pods[] = {
    NAME,
    {"Ready", "string", "", "Containers that are ready, of all.", 0},
    {"Status", "string", "", "What the pod's containers are doing.", 0},
    {"Restarts", "string", "", "How often containers were restarted, and when last.", 0},
    AGE,
    {"IP", "string", "", "Address of the pod.", 1},
    {"Node", "string", "", "Node that the pod runs on.", 1},
    {"Nominated Node", "string", "", "Node that is being cleared for the pod.", 1},
    {"Readiness Gates", "string", "", "Further conditions of readiness that hold, of all.", 1},
};
static const struct column nodes[] = {
    NAME,
    {"Status", "string", "", "Whether the node takes pods.", 0},
    {"Roles", "string", "", "The node's roles.", 0},
    AGE,
    {"Version", "string", "", "Version of the node's agent.", 0},
    {"Internal-IP", "string", "", "Address within the cluster.", 1},
    {"External-IP", "string", "", "Address outside.", 1},
    {"OS-Image", "string", "", "Operating system.", 1},
    {"Kernel-Version", "string", "", "Kernel.", 1},
    {"Container-Runtime", "string", "", "What runs pods.", 1},
};
static const struct column namespaces[] = {
    NAME, {"Status", "string", "", "Phase of the namespace.", 0}, AGE};
static const struct column events[] = {
    {"Last Seen", "string", "", "When it was seen last.", 0},
    {"Type", "string", "", "Normal or Warning.", 0},
    {"Reason", "string", "", "Why, in one word.", 0},
    {"Object", "string", "", "What it is about.", 0},
    {"Subobject", "string", "", "The part that it is about.", 1},
    {"Source", "string", "", "Who reports it.", 1},
    {"Message", "string", "", "What happened.", 0},
    {"First Seen", "string", "", "When it was seen first.", 1},
    {"Count", "string", "", "How often it was seen.", 1},
    {"Name", "string", "name", "The event's name.", 1},
};
static const struct column claims[] = {
    NAME,
    {"Status", "string", "", "Phase of the claim.", 0},
    {"Volume", "string", "", "Volume that is bound to it.", 0},
    {"Capacity", "string", "", "Size of the volume.", 0},
    {"Access Modes", "string", "", "How it may be mounted.", 0},
    {"StorageClass", "string", "", "Class of storage.", 0},
    {"VolumeAttributesClass", "string", "", "Class of volume attributes.", 0},
    AGE,
    {"VolumeMode", "string", "", "Filesystem or Block.", 1},
};
static const struct column volumes[] = {
    NAME,
    {"Capacity", "string", "", "Size of the volume.", 0},
    {"Access Modes", "string", "", "How it may be mounted.", 0},
    {"Reclaim Policy", "string", "", "What becomes of it when it is released.", 0},
    {"Status", "string", "", "Phase of the volume.", 0},
    {"Claim", "string", "", "Claim that it is bound to.", 0},
    {"StorageClass", "string", "", "Class of storage.", 0},
    {"VolumeAttributesClass", "string", "", "Class of volume attributes.", 0},
    {"Reason", "string", "", "Why it is in this phase.", 0},
    AGE,
    {"VolumeMode", "string", "", "Filesystem or Block.", 1},
};
static const struct column secrets[] = {
    NAME,
    {"Type", "string", "", "Type of the secret.", 0},
    {"Data", "string", "", "Number of keys.", 0},
    AGE,
};
static const struct column configmaps[] = {NAME, {"Data", "string", "", "Number of keys.", 0}, AGE};
static const struct column accounts[] = {
    NAME, {"Secrets", "string", "", "Number of secrets.", 0}, AGE};
static const struct column leases[] = {NAME, {"Holder", "string", "", "Who holds it.", 0}, AGE};
static const struct column classes[] = {
    NAME,
    {"Provisioner", "string", "", "Who makes its volumes.", 0},
    {"ReclaimPolicy", "string", "", "What becomes of released volumes.", 0},
    {"VolumeBindingMode", "string", "", "When volumes are bound.", 0},
    {"AllowVolumeExpansion", "string", "", "Whether volumes may grow.", 0},
    AGE,
};
static const struct column created[] = {NAME, CREATED};
static const struct column bindings[] = {
    NAME,
    {"Role", "string", "", "The role that is given.", 0},
    AGE,
    {"Users", "string", "", "To these users.", 1},
    {"Groups", "string", "", "To these groups.", 1},
    {"ServiceAccounts", "string", "", "To these service accounts.", 1},
};
static const struct column revisions[] = {
    NAME,
    {"Controller", "string", "", "Whose state it is.", 0},
    {"Revision", "string", "", "Its number.", 0},
    AGE,
};
static const struct column priorities[] = {
    NAME,
    {"Value", "integer", "", "The priority.", 0},
    {"Global-Default", "boolean", "", "Whether pods without a class get it.", 0},
    AGE,
    {"PreemptionPolicy", "string", "", "Whether such pods displace others.", 1},
};
static const struct column quotas[] = {
    NAME,
    {"Request", "string", "", "What is used and what is allowed, of requests and numbers.", 0},
    {"Limit", "string", "", "The same of limits.", 0},
    AGE,
};
static const struct column webhooks[] = {
    NAME,
    {"Webhooks", "integer", "", "Number of webhooks.", 0},
    AGE,
};
static const struct column apiservices[] = {
    NAME,
    {"Service", "string", "", "Who serves it.", 0},
    {"Available", "string", "", "Whether it can be used.", 0},
    AGE,
};
static const struct column budgets[] = {
    NAME,
    {"Min Available", "string", "", "Pods that must stay.", 0},
    {"Max Unavailable", "string", "", "Pods that may be away.", 0},
    {"Allowed Disruptions", "integer", "", "Pods that may go now.", 0},
    AGE,
};
static const struct column plain[] = {NAME,
                                      {"Age", "date", "", "Time since the object was created.", 0}};

#define KIND(group, plural, columns, cells)                                                        \
    {                                                                                              \
        group, plural, columns, ARRAY_SIZE(columns), cells                                         \
    }
static const struct table_kind kinds[] = {
    KIND("", "pods", pods, cells_pod),
    KIND("", "nodes", nodes, cells_node),
    KIND("", "namespaces", namespaces, cells_namespace),
    KIND("", "events", events, cells_event),
    KIND("events.k8s.io", "events", events, cells_event),
    KIND("", "persistentvolumeclaims", claims, cells_claim),
    KIND("", "persistentvolumes", volumes, cells_volume),
    KIND("", "secrets", secrets, cells_secret),
    KIND("", "configmaps", configmaps, cells_configmap),
    KIND("", "serviceaccounts", accounts, cells_account),
    KIND("coordination.k8s.io", "leases", leases, cells_lease),
    KIND("storage.k8s.io", "storageclasses", classes, cells_class),
    KIND("rbac.authorization.k8s.io", "roles", created, cells_created),
    KIND("rbac.authorization.k8s.io", "clusterroles", created, cells_created),
    KIND("rbac.authorization.k8s.io", "rolebindings", bindings, cells_binding),
    KIND("rbac.authorization.k8s.io", "clusterrolebindings", bindings, cells_binding),
    KIND("apiextensions.k8s.io", "customresourcedefinitions", created, cells_created),
    KIND("apps", "controllerrevisions", revisions, cells_revision),
    KIND("scheduling.k8s.io", "priorityclasses", priorities, cells_priority),
    KIND("", "resourcequotas", quotas, cells_quota),
    KIND("", "limitranges", created, cells_created),
    KIND("admissionregistration.k8s.io", "validatingwebhookconfigurations", webhooks,
         cells_webhooks),
    KIND("admissionregistration.k8s.io", "mutatingwebhookconfigurations", webhooks, cells_webhooks),
    KIND("apiregistration.k8s.io", "apiservices", apiservices, cells_apiservice),
    KIND("policy", "poddisruptionbudgets", budgets, cells_budget),
};

static const struct table_kind *table_of(const struct kind_info *k)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (kind_is(k, kinds[i].group, kinds[i].plural))
            return &kinds[i];
    return NULL;
}

void age_text(int64_t ns, char *ret, size_t size)
{
    long long s = ns / 1000000000, m = s / 60, h = m / 60;

    if (s < -1)
        snprintf(ret, size, "<invalid>");
    else if (s < 0)
        snprintf(ret, size, "0s");
    else if (s < 120)
        snprintf(ret, size, "%llds", s);
    else if (m < 10)
        s % 60 ? snprintf(ret, size, "%lldm%llds", m, s % 60) : snprintf(ret, size, "%lldm", m);
    else if (m < 180)
        snprintf(ret, size, "%lldm", m);
    else if (h < 8)
        m % 60 ? snprintf(ret, size, "%lldh%lldm", h, m % 60) : snprintf(ret, size, "%lldh", h);
    else if (h < 48)
        snprintf(ret, size, "%lldh", h);
    else if (h < 192)
        h % 24 ? snprintf(ret, size, "%lldd%lldh", h / 24, h % 24)
               : snprintf(ret, size, "%lldd", h / 24);
    else if (h < 24 * 365 * 2)
        snprintf(ret, size, "%lldd", h / 24);
    else if (h < 24 * 365 * 8)
        h / 24 % 365 ? snprintf(ret, size, "%lldy%lldd", h / 24 / 365, h / 24 % 365)
                     : snprintf(ret, size, "%lldy", h / 24 / 365);
    else
        snprintf(ret, size, "%lldy", h / 24 / 365);
}

const struct json *cell_age(const struct row *r, struct str time)
{
    AUTO(error_clear) struct error err = {0};
    int64_t at;
    char text[32];

    if (str_empty(time) || !ident_parse_time(time, &at, &err))
        return json_new_z(r->a, "<unknown>");
    age_text(r->now_ns - at, text, sizeof text);
    return json_new_z(r->a, text);
}

static const struct json *definition(struct arena *a, const char *name, const char *type,
                                     const char *format, const char *description, int priority)
{
    return json_object(a, "name", json_new_z(a, name), "type", json_new_z(a, type), "format",
                       json_new_z(a, format ? format : ""), "description",
                       json_new_z(a, description ? description : ""), "priority",
                       json_new_i64(a, priority), NULL);
}

const struct json *table_columns(const struct kind_info *k, struct arena *a)
{
    const struct table_kind *t = table_of(k);
    const struct column *c = t ? t->columns : plain;
    size_t n = t ? t->n : ARRAY_SIZE(plain);
    const struct json **p;

    if (!t && k->n_columns) {
        p = ARENA_ARRAY(a, const struct json *, k->n_columns + 1);
        p[0] =
            definition(a, plain[0].name, plain[0].type, plain[0].format, plain[0].description, 0);
        for (size_t i = 0; i < k->n_columns; i++) {
            const struct kind_column *col = &k->columns[i];

            p[i + 1] = definition(
                a, col->name, col->type, col->format,
                col->description && *col->description
                    ? col->description
                    : arena_printf(a, "Custom resource definition column (in JSONPath format): %s",
                                   col->path),
                col->priority);
        }
        return json_array_n(a, p, k->n_columns + 1);
    }
    p = ARENA_ARRAY(a, const struct json *, n);
    for (size_t i = 0; i < n; i++)
        p[i] = definition(a, c[i].name, c[i].type, c[i].format, c[i].description, c[i].priority);
    return json_array_n(a, p, n);
}

const struct json *table_row(struct apiserver *s, const struct kind_info *k,
                             const struct json *object, struct str include, bool v1beta1,
                             struct arena *a)
{
    const struct table_kind *t = table_of(k);
    struct row row = {.object = object, .a = a, .now_ns = loop_unix_ns(s->loop), .k = k};
    const struct json *cell[TABLE_CELLS_MAX], *shown;
    size_t n;

    if (t)
        n = t->cells(&row, cell);
    else if (k->n_columns)
        n = cells_columns(&row, cell);
    else
        n = cells_plain(&row, cell);
    if (str_is(include, "None"))
        shown = json_null();
    else if (str_is(include, "Object"))
        shown = object;
    else
        shown = partial_object(object, v1beta1, a);
    return json_object(a, "cells", json_array_n(a, cell, n), "object", shown, NULL);
}

const struct json *table_value(struct apiserver *s, const struct kind_info *k,
                               const struct json *list_meta, const struct json *const *objects,
                               size_t n, struct str include, bool v1beta1, struct arena *a)
{
    const struct json **rows = ARENA_ARRAY(a, const struct json *, n + 1);

    for (size_t i = 0; i < n; i++)
        rows[i] = table_row(s, k, objects[i], include, v1beta1, a);
    return json_object(a, "kind", json_new_z(a, "Table"), "apiVersion",
                       json_new_z(a, v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1"),
                       "metadata", list_meta, "columnDefinitions", table_columns(k, a), "rows",
                       json_array_n(a, rows, n), NULL);
}
