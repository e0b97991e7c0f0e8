/* apiserver/admit_policy - limit ranges, quotas, disruption budgets, priorities, leases and events: the rules of these objects
 * themselves. What they do to others is in limits.c, quota.c and pods.c. */
#include "api/labels.h"
#include "api/meta.h"
#include "api/names.h"
#include "apiserver/admit.h"

/* LimitRange. */

static const struct json *fill_from(struct arena *a, const struct json *into,
                                    const struct json *from)
{
    json_each_member(m, from)
        if (!json_get_str(into, json_str(&m->key)))
            into =
                json_with_str(a, into ? into : json_object(a, NULL), json_str(&m->key), &m->value);
    return into;
}

const struct json *limit_range_default(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    const struct json *limits = json_at(o, "spec/limits");
    const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(limits) + 1);
    size_t n = 0;

    json_each_item(item, limits) {
        const struct json *limit = json_get(item, "default"),
                          *request = json_get(item, "defaultRequest");

        p[n] = item;
        if (str_is(json_str_at(item, "type"), "Container")) {
            limit = fill_from(a, limit, json_get(item, "max"));
            request = fill_from(a, request, limit);
            request = fill_from(a, request, json_get(item, "min"));
            p[n] = json_with(a, json_with(a, item, "default", limit), "defaultRequest", request);
        }
        n++;
    }
    return n ? json_with_at(a, o, "spec/limits", json_array_n(a, p, n)) : o;
}

/* Two bounds of one resource that have to be in order. */
struct order {
    const char *low, *high; /* members of the item */
    const char *field;      /* where it is said */
    const char *low_is, *high_is;
};
static const struct order orders[] = {
    {"min", "max", "min", "min value", "max value"},
    {"min", "defaultRequest", "defaultRequest", "min value", "default request value"},
    {"defaultRequest", "max", "defaultRequest", "default request value", "max value"},
    {"defaultRequest", "default", "defaultRequest", "default request value", "default limit value"},
    {"min", "default", "default", "min value", "default value"},
    {"default", "max", "default", "default value", "max value"},
};

static void check_orders(struct request *r, const struct json *item, const char *at,
                         struct schema_causes *c)
{
    struct arena *a = &r->arena;

    for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
        const struct order *w = &orders[i];

        json_each_member(m, json_get(item, w->low)) {
            struct quantity low, high, said;
            struct str key = json_str(&m->key);

            if (!quantity_of_json(&m->value, &low)
                || !quantity_of_json(json_get_str(json_get(item, w->high), key), &high)
                || quantity_cmp(low, high) <= 0)
                continue;
            said = strcmp(w->field, w->low) == 0 ? low : high;
            schema_cause_add(c, a, "FieldValueInvalid",
                             arena_printf(a, "%s.%s[" STR_FMT "]", at, w->field, STR_ARG(key)),
                             "Invalid value: \"%s\": %s %s is greater than %s %s",
                             quantity_text(a, said), w->low_is, quantity_text(a, low), w->high_is,
                             quantity_text(a, high));
        }
    }
    json_each_member(m, json_get(item, "maxLimitRequestRatio")) {
        struct quantity q;

        if (quantity_of_json(&m->value, &q)
            && quantity_cmp(q, quantity_of(1, QUANTITY_DECIMAL_SI)) < 0)
            schema_cause_add(c, a, "FieldValueInvalid",
                             arena_printf(a, "%s.maxLimitRequestRatio[" STR_FMT "]", at,
                                          STR_ARG(json_str(&m->key))),
                             "Invalid value: \"%s\": ratio %s is less than 1", quantity_text(a, q),
                             quantity_text(a, q));
    }
}

static void check_limit_item(struct request *r, const struct json *item, const char *at,
                             struct schema_causes *c)
{
    static const char *const lists[] = {"max", "min", "default", "defaultRequest",
                                        "maxLimitRequestRatio"};
    static const char *const types[] = {"Pod", "Container", "PersistentVolumeClaim"};
    struct arena *a = &r->arena;
    struct str type = json_str_at(item, "type");
    bool known = str_has(type, '/');

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        known |= str_is(type, types[i]);
    if (!known)
        schema_cause_add(c, a, "FieldValueInvalid", arena_printf(a, "%s.type", at),
                         "Invalid value: \"" STR_FMT
                         "\": must be a standard limit type or fully qualified",
                         STR_ARG(type));
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        json_each_member(m, json_get(item, lists[i])) {
            const char *field =
                arena_printf(a, "%s.%s[" STR_FMT "]", at, lists[i], STR_ARG(json_str(&m->key)));
            const char *why = name_qualified(json_str(&m->key), a);
            struct quantity q;

            if (why)
                schema_cause_add(c, a, "FieldValueInvalid", field,
                                 "Invalid value: \"" STR_FMT "\": %s", STR_ARG(json_str(&m->key)),
                                 why);
            else
                (void)check_quantity(r, c, field, &m->value, &q);
        }
    for (size_t i = 2; i < 4 && str_is(type, "Pod"); i++)
        if (json_len(json_get(item, lists[i])))
            schema_cause_add(c, a, "FieldValueForbidden", arena_printf(a, "%s.%s", at, lists[i]),
                             "Forbidden: may not be specified when `type` is 'Pod'");
    if (str_is(type, "PersistentVolumeClaim") && !json_at(item, "min/storage")
        && !json_at(item, "max/storage"))
        cause_required(r, c, arena_printf(a, "%s.limits", at),
                       "either minimum or maximum storage value is required, but neither was "
                       "provided");
    check_orders(r, item, at, c);
}

void check_limit_range(struct request *r, const struct json *o, struct schema_causes *c)
{
    const struct json *limits = json_at(o, "spec/limits");
    struct arena *a = &r->arena;
    size_t i = 0;

    json_each_item(item, limits) {
        for (size_t j = 0; j < i; j++)
            if (str_eq(json_str_at(json_item(limits, j), "type"), json_str_at(item, "type")))
                schema_cause_add(
                    c, a, "FieldValueDuplicate", arena_printf(a, "spec.limits[%zu].type", i),
                    "Duplicate value: \"" STR_FMT "\"", STR_ARG(json_str_at(item, "type")));
        check_limit_item(r, item, arena_printf(a, "spec.limits[%zu]", i), c);
        i++;
    }
}

/* ResourceQuota. */

static const char *const quota_names[] = {"cpu",
                                          "memory",
                                          "ephemeral-storage",
                                          "requests.cpu",
                                          "requests.memory",
                                          "requests.storage",
                                          "requests.ephemeral-storage",
                                          "limits.cpu",
                                          "limits.memory",
                                          "limits.ephemeral-storage",
                                          "pods",
                                          "resourcequotas",
                                          "services",
                                          "replicationcontrollers",
                                          "secrets",
                                          "persistentvolumeclaims",
                                          "configmaps",
                                          "services.nodeports",
                                          "services.loadbalancers"};
#define FIRST_WHOLE 10 /* from here on they count things */

static const char *const scope_names[] = {"BestEffort",
                                          "CrossNamespacePodAffinity",
                                          "NotBestEffort",
                                          "NotTerminating",
                                          "PriorityClass",
                                          "Terminating",
                                          "VolumeAttributesClass",
                                          NULL};

static void check_hard(struct request *r, const struct json *hard, const char *at,
                       struct schema_causes *c)
{
    struct arena *a = &r->arena;

    json_each_member(m, hard) {
        struct str name = json_str(&m->key);
        const char *field = arena_printf(a, "%s[" STR_FMT "]", at, STR_ARG(name));
        const char *why = name_qualified(name, a);
        bool known = str_has(name, '/') || str_starts(name, STR("hugepages-"))
                     || str_starts(name, STR("requests.hugepages-")),
             whole = str_starts(name, STR("count/"));
        struct quantity q;
        int64_t n;

        for (size_t i = 0; i < ARRAY_SIZE(quota_names); i++)
            if (str_is(name, quota_names[i])) {
                known = true;
                whole |= i >= FIRST_WHOLE;
            }
        if (why || !known)
            schema_cause_add(c, a, "FieldValueInvalid", field, "Invalid value: \"" STR_FMT "\": %s",
                             STR_ARG(name), why ? why : "must be a standard resource for quotas");
        else if (check_quantity(r, c, field, &m->value, &q) && whole && !quantity_exact(q, &n))
            schema_cause_add(c, a, "FieldValueInvalid", field,
                             "Invalid value: \"%s\": must be an integer", quantity_text(a, q));
    }
}

static bool has_scope(const struct json *scopes, const char *name)
{
    json_each_item(s, scopes)
        if (str_is(json_str(s), name))
            return true;
    return false;
}

/* Which resources may be limited under a scope: those of the pods that it tells apart. */
static bool scope_fits(const char *scope, struct str resource)
{
    if (str_is(resource, "pods") || str_is(resource, "count/pods"))
        return strcmp(scope, "VolumeAttributesClass") != 0;
    if (!strcmp(scope, "BestEffort"))
        return false;
    if (!strcmp(scope, "VolumeAttributesClass"))
        return str_is(resource, "persistentvolumeclaims") || str_is(resource, "requests.storage")
               || str_is(resource, "count/persistentvolumeclaims");
    return str_is(resource, "cpu") || str_is(resource, "memory")
           || str_is(resource, "ephemeral-storage") || str_starts(resource, STR("requests."))
           || str_starts(resource, STR("limits.")) || str_starts(resource, STR("hugepages-"));
}

static void check_scopes(struct request *r, const struct json *o, struct schema_causes *c)
{
    const struct json *scopes = json_at(o, "spec/scopes");
    struct arena *a = &r->arena;
    AUTO(buf_done) struct buf text = {0};

    json_each_item(s, scopes) {
        const char *scope = arena_strdup(a, json_str(s));

        if (!cause_unless_one_of(r, c, "spec.scopes", json_str(s), scope_names))
            continue;
        json_each_member(m, json_at(o, "spec/hard"))
            if (!scope_fits(scope, json_str(&m->key)))
                schema_cause_add(c, a, "FieldValueInvalid", "spec.scopes",
                                 "Invalid value: \"%s\": unsupported scope applied to resource",
                                 scope);
    }
    if ((has_scope(scopes, "BestEffort") && has_scope(scopes, "NotBestEffort"))
        || (has_scope(scopes, "Terminating") && has_scope(scopes, "NotTerminating"))) {
        json_write(&text, scopes);
        schema_cause_add(c, a, "FieldValueInvalid", "spec.scopes",
                         "Invalid value: " STR_FMT ": conflicting scopes", STR_ARG(buf_str(&text)));
    }
}

static void check_scope_selector(struct request *r, const struct json *o, struct schema_causes *c)
{
    static const char *const operators[] = {"DoesNotExist", "Exists", "In", "NotIn", NULL};
    struct arena *a = &r->arena;
    size_t i = 0;

    json_each_item(e, json_at(o, "spec/scopeSelector/matchExpressions")) {
        const char *at = arena_printf(a, "spec.scopeSelector.matchExpressions[%zu]", i++);
        struct str op = json_str_at(e, "operator"), scope = json_str_at(e, "scopeName");
        bool listed = str_is(op, "In") || str_is(op, "NotIn"),
             values = str_is(scope, "PriorityClass") || str_is(scope, "VolumeAttributesClass");

        cause_unless_one_of(r, c, arena_printf(a, "%s.scopeName", at), scope, scope_names);
        if (!cause_unless_one_of(r, c, arena_printf(a, "%s.operator", at), op, operators))
            continue;
        if (!values && !str_is(op, "Exists"))
            schema_cause_add(
                c, a, "FieldValueInvalid", arena_printf(a, "%s.operator", at),
                "Invalid value: \"" STR_FMT
                "\": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                "ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity",
                STR_ARG(op));
        if (listed && !json_len(json_get(e, "values")))
            cause_required(
                r, c, arena_printf(a, "%s.values", at),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope "
                "selector");
        if (!listed && json_len(json_get(e, "values")))
            schema_cause_add(c, a, "FieldValueInvalid", arena_printf(a, "%s.values", at),
                             "Invalid value: must be no value when `operator` is 'Exist' or "
                             "'DoesNotExist' for scope selector");
    }
}

void check_quota(struct request *r, const struct json *old, const struct json *o,
                 struct schema_causes *c)
{
    check_hard(r, json_at(o, "spec/hard"), "spec.hard", c);
    check_scopes(r, o, c);
    check_scope_selector(r, o, c);
    if (old)
        check_immutable(r, c, old, o, "spec/scopes", "spec.scopes");
}

/* PodDisruptionBudget. */

static void check_share(struct request *r, const struct json *v, const char *field,
                        struct schema_causes *c)
{
    struct arena *a = &r->arena;
    struct str s = json_str(v);
    AUTO(error_clear) struct error err = {0};
    uint64_t percent = 0;
    int64_t n;

    if (!v)
        return;
    if (json_i64(v, &n)) {
        if (n < 0)
            schema_cause_add(c, a, "FieldValueInvalid", field,
                             "Invalid value: %lld: must be greater than or equal to 0",
                             (long long)n);
        return;
    }
    if (!s.n || s.p[s.n - 1] != '%' || !parse_u64(str_take(s, s.n - 1), 1000000, &percent, &err))
        schema_cause_add(c, a, "FieldValueInvalid", field,
                         "Invalid value: \"" STR_FMT
                         "\": a valid percent string must be a numeric followed by an ending '%%' "
                         "(e.g. '1%%',  or '93%%', regex used for validation is '[0-9]+%%')",
                         STR_ARG(s));
    else if (percent > 100)
        schema_cause_add(c, a, "FieldValueInvalid", field,
                         "Invalid value: \"" STR_FMT "\": must not be greater than 100%%",
                         STR_ARG(s));
}

void check_budget(struct request *r, const struct json *old, const struct json *o,
                  struct schema_causes *c)
{
    static const char *const policies[] = {"AlwaysAllow", "IfHealthyBudget", NULL};
    const struct json *spec = json_get(o, "spec");

    (void)old;
    if (json_get(spec, "minAvailable") && json_get(spec, "maxUnavailable"))
        schema_cause_add(c, &r->arena, "FieldValueInvalid", "spec",
                         "Invalid value: minAvailable and maxUnavailable cannot be both set");
    check_share(r, json_get(spec, "minAvailable"), "spec.minAvailable", c);
    check_share(r, json_get(spec, "maxUnavailable"), "spec.maxUnavailable", c);
    cause_unless_one_of(r, c, "spec.unhealthyPodEvictionPolicy",
                        json_str_at(spec, "unhealthyPodEvictionPolicy"), policies);
    check_label_selector(r, json_get(spec, "selector"), "spec.selector", c);
}

/* PriorityClass. */

#define HIGHEST_OF_USERS 1000000000

static bool only_default(struct request *r, const struct json *o)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (!json_bool_at(o, "globalDefault", false)
        || !store_list(r->s->store, STR("/registry/scheduling.k8s.io/priorityclasses/"), STR_NONE,
                       0, 0, NULL, NULL, &list, &err))
        return true;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *other = store_object_json(list.p[i], &r->arena);

        if (json_bool_at(other, "globalDefault", false) && !str_eq(meta_name(other), r->name))
            return admit_forbid(r, arena_printf(&r->arena,
                                                "PriorityClass " STR_FMT
                                                " is already marked as default. Only one default "
                                                "can exist",
                                                STR_ARG(meta_name(other))));
    }
    return true;
}

bool check_priority_class(struct request *r, const struct json *old, const struct json *o,
                          struct schema_causes *c)
{
    static const char *const policies[] = {"Never", "PreemptLowerPriority", NULL};
    struct arena *a = &r->arena;
    int64_t value = json_i64_at(o, "value", 0);
    bool system =
        str_is(r->name, "system-cluster-critical") || str_is(r->name, "system-node-critical");

    if (str_starts(r->name, STR("system-")) && !system)
        schema_cause_add(c, a, "FieldValueForbidden", "metadata.name",
                         "Forbidden: priority class names with 'system-' prefix are reserved for "
                         "system use only. error: " STR_FMT " is not a known system priority class",
                         STR_ARG(r->name));
    else if (value > HIGHEST_OF_USERS && !system)
        schema_cause_add(c, a, "FieldValueForbidden", "value",
                         "Forbidden: maximum allowed value of a user defined priority is %d",
                         HIGHEST_OF_USERS);
    cause_unless_one_of(r, c, "preemptionPolicy", json_str_at(o, "preemptionPolicy"), policies);
    if (old && json_i64_at(old, "value", 0) != value)
        schema_cause_add(c, a, "FieldValueForbidden", "value",
                         "Forbidden: may not be changed in an update.");
    if (old)
        check_immutable(r, c, old, o, "preemptionPolicy", "preemptionPolicy");
    return c->n || only_default(r, o);
}

/* Leases and Events. */

void check_lease(struct request *r, const struct json *o, struct schema_causes *c)
{
    int64_t seconds, times;

    if (json_i64(json_at(o, "spec/leaseDurationSeconds"), &seconds) && seconds <= 0)
        schema_cause_add(c, &r->arena, "FieldValueInvalid", "spec.leaseDurationSeconds",
                         "Invalid value: %lld: must be greater than 0", (long long)seconds);
    if (json_i64(json_at(o, "spec/leaseTransitions"), &times) && times < 0)
        schema_cause_add(c, &r->arena, "FieldValueInvalid", "spec.leaseTransitions",
                         "Invalid value: %lld: must be greater than or equal to 0",
                         (long long)times);
}

/* The object is in the core group's form, the field names are those of the request's group. */
void check_event(struct request *r, const struct json *old, const struct json *o,
                 struct schema_causes *c)
{
    static const struct {
        const char *path, *field;
    } needed[] = {
        {"reportingComponent", "reportingController"},
        {"reportingInstance", "reportingInstance"},
        {"action", "action"},
        {"reason", "reason"},
    };
    struct arena *a = &r->arena;
    struct str ns = json_str_at(o, "involvedObject/namespace"), type = json_str_at(o, "type");
    bool fits = ns.n ? str_eq(ns, r->ns) : str_is(r->ns, "default") || str_is(r->ns, "kube-system");

    if (!fits)
        schema_cause_add(c, a, "FieldValueInvalid", "involvedObject.namespace",
                         "Invalid value: \"" STR_FMT "\": does not match event.namespace",
                         STR_ARG(ns));
    if (old || !kind_is(r->kind->info, "events.k8s.io", "events"))
        return;
    if (!json_is(json_get(o, "eventTime"), JSON_STRING))
        cause_required(r, c, "eventTime", "");
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (str_empty(json_str_at(o, needed[i].path)))
            cause_required(r, c, needed[i].field, "");
    if (!str_is(type, "Normal") && !str_is(type, "Warning"))
        schema_cause_add(c, a, "FieldValueInvalid", "type",
                         "Invalid value: \"\": has invalid value: " STR_FMT, STR_ARG(type));
}
