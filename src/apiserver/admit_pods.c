/* apiserver/admit_pods - what a pod gets on its way in: account, priority, class of service; and what of it may change. */
#include "api/meta.h"
#include "apiserver/admit.h"

/* Priority: by the class that is named, else by the one that says it is for all. */

static const struct json *default_class(struct request *r)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *found = NULL;

    if (!store_list(r->s->store, STR("/registry/scheduling.k8s.io/priorityclasses/"), STR_NONE, 0,
                    0, NULL, NULL, &list, &err))
        return NULL;
    for (size_t i = 0; i < list.n; i++) {
        const struct json *c = store_object_json(list.p[i], &r->arena);

        if (json_bool_at(c, "globalDefault", false)
            && (!found || json_i64_at(c, "value", 0) < json_i64_at(found, "value", 0)))
            found = c;
    }
    return found;
}

static const struct json *with_priority(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    struct str name = json_str_at(o, "spec/priorityClassName");
    const struct json *c =
        name.n ? apiserver_peek(r->s, "scheduling.k8s.io", "priorityclasses", STR_NONE, name, a)
               : default_class(r);
    struct str policy = json_str_at(c, "preemptionPolicy");

    if (name.n && !c)
        return o; /* pod_checked() refuses it */
    if (c && !name.n)
        o = json_with_at(a, o, "spec/priorityClassName", json_new_str(a, meta_name(c)));
    if (!json_at(o, "spec/priority"))
        o = json_with_at(a, o, "spec/priority", json_new_i64(a, json_i64_at(c, "value", 0)));
    if (!json_at(o, "spec/preemptionPolicy"))
        o = json_with_at(a, o, "spec/preemptionPolicy",
                         json_new_str(a, policy.n ? policy : STR("PreemptLowerPriority")));
    return o;
}

static bool check_priority(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;
    struct str name = json_str_at(o, "spec/priorityClassName");
    const struct json *c;
    int64_t value;

    c = name.n ? apiserver_peek(r->s, "scheduling.k8s.io", "priorityclasses", STR_NONE, name, a)
               : NULL;
    if (name.n && !c)
        return admit_forbid(
            r, arena_printf(a, "no PriorityClass with name " STR_FMT " was found", STR_ARG(name)));
    value = json_i64_at(c, "value", 0);
    if (json_i64_at(o, "spec/priority", value) == value)
        return true;
    return admit_forbid(
        r, arena_printf(a,
                        "the integer value of priority (%lld) must not be provided in pod spec; "
                        "priority admission controller computed %lld from the given "
                        "PriorityClass name",
                        (long long)json_i64_at(o, "spec/priority", 0), (long long)value));
}

/* The account has to be there ("default" comes with its namespace, a moment later), and its pull secrets are its pods'. */
static bool check_account(struct request *r, const struct json *o)
{
    struct str name = json_str_at(o, "spec/serviceAccountName");

    if (!name.n || str_is(name, "default")
        || apiserver_peek(r->s, "", "serviceaccounts", r->ns, name, &r->arena))
        return true;
    return admit_forbid(r, arena_printf(&r->arena,
                                        "error looking up service account " STR_FMT "/" STR_FMT
                                        ": serviceaccount \"" STR_FMT "\" not found",
                                        STR_ARG(r->ns), STR_ARG(name), STR_ARG(name)));
}

static const struct json *with_pull_secrets(struct request *r, const struct json *o)
{
    const struct json *account =
                          apiserver_peek(r->s, "", "serviceaccounts", r->ns,
                                         json_str_at(o, "spec/serviceAccountName"), &r->arena),
                      *secrets = json_get(account, "imagePullSecrets");

    if (json_len(json_at(o, "spec/imagePullSecrets")) || !json_len(secrets))
        return o;
    return json_with_at(&r->arena, o, "spec/imagePullSecrets", secrets);
}

/* Quality of service, by what the containers ask for. */

static const char *const qos_lists[] = {"containers", "initContainers"};

const char *pod_qos(const struct json *pod, struct arena *a)
{
    static const char *const counted[] = {"cpu", "memory"};
    bool guaranteed = true, any = false;

    (void)a;
    for (size_t i = 0; i < ARRAY_SIZE(qos_lists); i++)
        json_each_item(c, json_get(json_get(pod, "spec"), qos_lists[i])) {
            for (size_t j = 0; j < ARRAY_SIZE(counted); j++) {
                struct quantity request = {0}, limit = {0};
                bool has_request =
                         quantity_of_json(json_get(json_at(c, "resources/requests"), counted[j]),
                                          &request)
                         && !quantity_is_zero(request),
                     has_limit = quantity_of_json(
                                     json_get(json_at(c, "resources/limits"), counted[j]), &limit)
                                 && !quantity_is_zero(limit);

                any |= has_request || has_limit;
                guaranteed &= has_limit && (!has_request || quantity_cmp(request, limit) == 0);
            }
        }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

bool pod_is_best_effort(const struct json *pod)
{
    return !strcmp(pod_qos(pod, NULL), "BestEffort");
}

/* A container that names a limit and no request asks for that much. */
static const struct json *requests_from_limits(struct arena *a, const struct json *o)
{
    for (size_t i = 0; i < ARRAY_SIZE(qos_lists); i++) {
        const struct json *list = json_get(json_get(o, "spec"), qos_lists[i]);
        const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(list) + 1);
        size_t n = 0;

        json_each_item(c, list) {
            const struct json *requests = json_at(c, "resources/requests");
            bool changed = false;

            json_each_member(m, json_at(c, "resources/limits")) {
                if (json_len(json_at(c, "resources/limits")) > POD_RESOURCES_MAX)
                    break; /* refused later; each costs as much as there are */
                if (json_get_str(requests, json_str(&m->key)))
                    continue;
                requests = json_with_str(a, requests ? requests : json_object(a, NULL),
                                         json_str(&m->key), &m->value);
                changed = true;
            }
            p[n++] = changed ? json_with_at(a, c, "resources/requests", requests) : c;
        }
        if (n)
            o = json_with(a, o, "spec",
                          json_with(a, json_get(o, "spec"), qos_lists[i], json_array_n(a, p, n)));
    }
    return o;
}

const struct json *pod_new(struct request *r, const struct json *o)
{
    struct arena *a = &r->arena;

    if (str_empty(json_str_at(o, "spec/serviceAccountName")))
        o = json_with_at(a, o, "spec/serviceAccountName", json_new_z(a, "default"));
    o = with_pull_secrets(r, o);
    o = with_priority(r, o);
    o = requests_from_limits(a, o);
    o = limits_default(r, o);
    o = pod_with_token(r, pod_tolerant(a, pod_decoded(a, o)));
    return json_with(a, o, "status",
                     json_object(a, "phase", json_new_z(a, "Pending"), "qosClass",
                                 json_new_z(a, pod_qos(o, a)), NULL));
}

static const struct json *pod_frozen(struct arena *a, const struct json *o)
{
    static const char *const free_to_change[] = {"activeDeadlineSeconds", "tolerations",
                                                 "terminationGracePeriodSeconds"};
    static const char *const lists[] = {"containers", "initContainers"};
    const struct json *spec = json_get(o, "spec");

    for (size_t i = 0; i < ARRAY_SIZE(free_to_change); i++)
        spec = json_with(a, spec, free_to_change[i], NULL);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        const struct json *list = json_get(spec, lists[i]);
        const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(list) + 1);
        size_t n = 0;

        if (!list)
            continue;
        json_each_item(c, list)
            p[n++] = json_with(a, c, "image", NULL);
        spec = json_with(a, spec, lists[i], json_array_n(a, p, n));
    }
    return spec;
}

static void check_frozen(struct request *r, const struct json *old, const struct json *o,
                         struct schema_causes *c)
{
    if (json_len(json_at(old, "spec/containers")) != json_len(json_at(o, "spec/containers")))
        schema_cause_add(c, &r->arena, "FieldValueForbidden", "spec.containers",
                         "Forbidden: pod updates may not add or remove containers");
    else if (!json_eq(pod_frozen(&r->arena, old), pod_frozen(&r->arena, o)))
        schema_cause_add(
            c, &r->arena, "FieldValueForbidden", "spec",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
            "additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 "
            "if it was "
            "previously negative)");
}

bool pod_checked(struct request *r, enum admission_op op, const struct json *old,
                 const struct json *o, struct schema_causes *c)
{
    if (r->subresource.p)
        return true;
    if (op == ADMIT_CREATE) {
        check_pod_spec(r, o, c);
        return c->n > 0 || (check_account(r, o) && check_priority(r, o) && limits_check(r, o));
    }
    /* What was accepted under older rules stays what it is until its spec changes. */
    old = pod_decoded(&r->arena, old);
    if (json_eq(json_get(old, "spec"), json_get(o, "spec")))
        return true;
    check_pod_spec(r, o, c);
    check_frozen(r, old, o, c);
    return true;
}
