/* apiserver/pod_rules - what a pod's spec has to be: names, images, ports, variables, volumes and their mounts, resources.
 *
 * Rules are looked at in upstream's order, so that the causes stand in the same order. Fields that only say something to a
 * container runtime (probes, security contexts, affinity) are left to whoever runs the pod. */
#include "api/names.h"
#include "apiserver/admit.h"
#include "base/map.h"

struct rules {
    struct request *r;
    struct schema_causes *c;
};

static void invalid(const struct rules *u, const char *field, struct str value, const char *why)
{
    if (why)
        schema_cause_add(u->c, &u->r->arena, "FieldValueInvalid", field,
                         "Invalid value: \"" STR_FMT "\": %s", STR_ARG(value), why);
}

static void invalid_number(const struct rules *u, const char *field, int64_t value, const char *why)
{
    schema_cause_add(u->c, &u->r->arena, "FieldValueInvalid", field, "Invalid value: %lld: %s",
                     (long long)value, why);
}

static void duplicate(const struct rules *u, const char *field, struct str value)
{
    schema_cause_add(u->c, &u->r->arena, "FieldValueDuplicate", field,
                     "Duplicate value: \"" STR_FMT "\"", STR_ARG(value));
}

static void required(const struct rules *u, const char *field, const char *why)
{
    cause_required(u->r, u->c, field, why);
}

/* True the second time that a name comes. */
static bool repeated(struct map *seen, struct str name)
{
    return map_set_borrowed(seen, name, (void *)name.p) != NULL;
}

static void check_name(const struct rules *u, const char *field, struct str name)
{
    if (str_empty(name))
        required(u, field, "");
    else
        invalid(u, field, name, name_dns1123_label(name));
}

/* Ports. */

static const char *bad_port_name(struct str s)
{
    bool letter = false;

    if (s.n > 15)
        return "must be no more than 15 bytes";
    for (size_t i = 0; i < s.n; i++) {
        bool lower = s.p[i] >= 'a' && s.p[i] <= 'z';

        if (!lower && !(s.p[i] >= '0' && s.p[i] <= '9') && s.p[i] != '-')
            return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        letter |= lower;
    }
    if (!letter)
        return "must contain at least one letter (a-z)";
    for (size_t i = 1; i < s.n; i++)
        if (s.p[i] == '-' && s.p[i - 1] == '-')
            return "must not contain consecutive hyphens";
    if (s.p[0] == '-' || s.p[s.n - 1] == '-')
        return "must not begin or end with a hyphen";
    return NULL;
}

static void check_port_number(const struct rules *u, const char *field, int64_t port)
{
    if (port < 1 || port > 65535)
        invalid_number(u, field, port, "must be between 1 and 65535, inclusive");
}

static void check_ports(const struct rules *u, const struct json *ports, const char *at)
{
    static const char *const protocols[] = {"SCTP", "TCP", "UDP", NULL};
    AUTO(map_done) struct map seen = {0};
    struct arena *a = &u->r->arena;
    size_t i = 0;

    json_each_item(port, ports) {
        const char *field = arena_printf(a, "%s[%zu]", at, i++);
        struct str name = json_str_at(port, "name");
        int64_t number = json_i64_at(port, "containerPort", 0),
                host = json_i64_at(port, "hostPort", 0);
        const char *why = str_empty(name) ? NULL : bad_port_name(name);

        invalid(u, arena_printf(a, "%s.name", field), name, why);
        if (!str_empty(name) && !why && repeated(&seen, name))
            duplicate(u, arena_printf(a, "%s.name", field), name);
        if (number == 0)
            required(u, arena_printf(a, "%s.containerPort", field), "");
        else
            check_port_number(u, arena_printf(a, "%s.containerPort", field), number);
        if (host)
            check_port_number(u, arena_printf(a, "%s.hostPort", field), host);
        cause_unless_one_of(u->r, u->c, arena_printf(a, "%s.protocol", field),
                            json_str_at(port, "protocol"), protocols);
    }
}

static const char *host_port(struct arena *a, const struct json *port)
{
    int64_t number = json_i64_at(port, "hostPort", 0);

    return number ? arena_printf(a, STR_FMT "/" STR_FMT "/%lld",
                                 STR_ARG(json_str_at(port, "protocol")),
                                 STR_ARG(json_str_at(port, "hostIP")), (long long)number)
                  : NULL;
}

/* Two containers cannot have the same port of the node. */
static void check_host_ports(const struct rules *u, const struct json *containers, const char *at)
{
    AUTO(map_done) struct map seen = {0};
    struct arena *a = &u->r->arena;
    size_t i = 0;

    json_each_item(c, containers) {
        size_t j = 0;

        json_each_item(port, json_get(c, "ports")) {
            const char *text = host_port(a, port);
            const char *field = arena_printf(a, "%s[%zu].ports[%zu].hostPort", at, i, j++);

            if (text && repeated(&seen, str_of(text)))
                duplicate(u, field, str_of(text));
        }
        i++;
    }
}

/* Variables. */

static void check_value_from(const struct rules *u, const struct json *env, const char *field)
{
    static const char *const sources[] = {"fieldRef", "resourceFieldRef", "configMapKeyRef",
                                          "secretKeyRef", "fileKeyRef"};
    const struct json *from = json_get(env, "valueFrom");
    const char *at = arena_printf(&u->r->arena, "%s.valueFrom", field);
    size_t n = 0;

    if (!from)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
        n += json_get(from, sources[i]) != NULL;
    if (n == 0)
        invalid(u, at, STR(""),
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
                "`secretKeyRef` or `fileKeyRef`");
    else if (json_str_at(env, "value").n)
        invalid(u, at, STR(""), "may not be specified when `value` is not empty");
    else if (n > 1)
        invalid(u, at, STR(""), "may not have more than one field specified at a time");
}

static void check_env(const struct rules *u, const struct json *list, const char *at)
{
    struct arena *a = &u->r->arena;
    size_t i = 0;

    json_each_item(env, list) {
        const char *field = arena_printf(a, "%s[%zu]", at, i++),
                   *name_at = arena_printf(a, "%s.name", field);
        struct str name = json_str_at(env, "name");

        if (str_empty(name))
            required(u, name_at, "");
        for (size_t j = 0; j < name.n; j++)
            if (name.p[j] < ' ' || name.p[j] > '~' || name.p[j] == '=') {
                invalid(u, name_at, name,
                        "a valid environment variable name must consist only of printable ASCII "
                        "characters other than '='");
                break;
            }
        check_value_from(u, env, field);
    }
}

/* Volumes and where they are mounted. */

static void check_volume_source(const struct rules *u, const struct json *volume, const char *field)
{
    static const struct {
        const char *source, *needed;
    } needs[] = {{"hostPath", "path"},
                 {"secret", "secretName"},
                 {"configMap", "name"},
                 {"persistentVolumeClaim", "claimName"}};
    struct arena *a = &u->r->arena;
    size_t n = 0;

    json_each_member(m, volume) {
        if (str_is(json_str(&m->key), "name"))
            continue;
        if (n++ == 1)
            schema_cause_add(u->c, a, "FieldValueForbidden",
                             arena_printf(a, "%s." STR_FMT, field, STR_ARG(json_str(&m->key))),
                             "Forbidden: may not specify more than 1 volume type");
    }
    for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
        const struct json *source = json_get(volume, needs[i].source);

        if (source && str_empty(json_str_at(source, needs[i].needed)))
            required(u, arena_printf(a, "%s.%s.%s", field, needs[i].source, needs[i].needed), "");
    }
}

static void check_volumes(const struct rules *u, const struct json *volumes, struct map *ret_names)
{
    struct arena *a = &u->r->arena;
    size_t i = 0;

    json_each_item(v, volumes) {
        const char *field = arena_printf(a, "spec.volumes[%zu]", i++),
                   *name_at = arena_printf(a, "%s.name", field);
        struct str name = json_str_at(v, "name");

        check_volume_source(u, v, field);
        check_name(u, name_at, name);
        if (!str_empty(name) && repeated(ret_names, name))
            duplicate(u, name_at, name);
    }
}

static const char *bad_sub_path(struct str path)
{
    struct str rest = path, part;

    if (str_starts(path, STR("/")))
        return "must be a relative path";
    while (str_next(&rest, '/', &part))
        if (str_is(part, ".."))
            return "must not contain '..'";
    return NULL;
}

static void check_mounts(const struct rules *u, const struct json *container,
                         const struct map *volumes, const char *at)
{
    AUTO(map_done) struct map seen = {0};
    struct arena *a = &u->r->arena;
    size_t i = 0;

    json_each_item(m, json_get(container, "volumeMounts")) {
        const char *field = arena_printf(a, "%s.volumeMounts[%zu]", at, i++),
                   *name_at = arena_printf(a, "%s.name", field),
                   *path_at = arena_printf(a, "%s.mountPath", field);
        struct str name = json_str_at(m, "name"), path = json_str_at(m, "mountPath"),
                   sub = json_str_at(m, "subPath");

        if (str_empty(name))
            required(u, name_at, "");
        if (!name.n || !map_get(volumes, name))
            schema_cause_add(u->c, a, "FieldValueNotFound", name_at, "Not found: \"" STR_FMT "\"",
                             STR_ARG(name));
        if (str_empty(path))
            required(u, path_at, "");
        else if (repeated(&seen, path))
            invalid(u, path_at, path, "must be unique");
        if (!str_empty(sub))
            invalid(u, arena_printf(a, "%s.subPath", field), sub, bad_sub_path(sub));
    }
}

/* Resources: what may be asked for, and never more than the limit. */

static void check_resource_name(const struct rules *u, const char *field, struct str name)
{
    static const char *const standard[] = {"cpu", "memory", "ephemeral-storage"};
    const char *why = name_qualified(name, &u->r->arena);
    bool known = str_starts(name, STR("hugepages-"));

    invalid(u, field, name, why);
    if (why || str_has(name, '/'))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(standard); i++)
        known |= str_is(name, standard[i]);
    if (known)
        return;
    invalid(u, field, name, "must be a standard resource type or fully qualified");
    invalid(u, field, name, "must be a standard resource for containers");
}

/* Processors, memory and disk space may be promised more than once. Others are there or not. */
static bool overcommittable(struct str name)
{
    return !str_starts(name, STR("hugepages-"))
           && (!str_has(name, '/') || str_starts(name, STR("kubernetes.io/")));
}

static void check_request(const struct rules *u, const struct json *limits, struct str name,
                          const struct json *value, const char *at)
{
    struct arena *a = &u->r->arena;
    const char *field = arena_printf(a, "%s.requests", at);
    const struct json *over = json_get_str(limits, name);
    struct quantity request, limit;
    bool exact = !overcommittable(name);

    if (!check_quantity(u->r, u->c, arena_printf(a, "%s[" STR_FMT "]", field, STR_ARG(name)), value,
                        &request))
        return;
    if (!over && exact)
        required(u, arena_printf(a, "%s.limits", at),
                 "Limit must be set for non overcommitable resources");
    if (!over || !quantity_of_json(over, &limit))
        return;
    if (exact ? quantity_cmp(request, limit) != 0 : quantity_cmp(request, limit) > 0)
        invalid(u, field, str_of(quantity_text(a, request)),
                arena_printf(a, "must be %s " STR_FMT " limit of %s",
                             exact ? "equal to" : "less than or equal to", STR_ARG(name),
                             quantity_text(a, limit)));
}

static void check_resources(const struct rules *u, const struct json *resources, const char *at)
{
    struct arena *a = &u->r->arena;
    const struct json *limits = json_get(resources, "limits");
    struct quantity ignored;

    if (json_len(limits) > POD_RESOURCES_MAX
        || json_len(json_get(resources, "requests")) > POD_RESOURCES_MAX) {
        schema_cause_add(u->c, a, "FieldValueTooMany", at, "Too many: must have at most %d items",
                         POD_RESOURCES_MAX);
        return;
    }
    json_each_member(m, limits) {
        struct str name = json_str(&m->key);
        const char *field = arena_printf(a, "%s.limits[" STR_FMT "]", at, STR_ARG(name));

        check_resource_name(u, field, name);
        (void)check_quantity(u->r, u->c, field, &m->value, &ignored);
    }
    json_each_member(m, json_get(resources, "requests")) {
        struct str name = json_str(&m->key);

        check_resource_name(u, arena_printf(a, "%s.requests[" STR_FMT "]", at, STR_ARG(name)),
                            name);
        check_request(u, limits, name, &m->value, at);
    }
}

/* Containers. */

static void check_container(const struct rules *u, const struct json *c, const struct map *volumes,
                            const char *at)
{
    static const char *const messages[] = {"FallbackToLogsOnError", "File", NULL};
    static const char *const policies[] = {"Always", "IfNotPresent", "Never", NULL};
    struct arena *a = &u->r->arena;
    struct str image = json_str_at(c, "image");
    const char *image_at = arena_printf(a, "%s.image", at);

    check_name(u, arena_printf(a, "%s.name", at), json_str_at(c, "name"));
    if (str_empty(image))
        required(u, image_at, "");
    else if (!str_eq(str_trim(image), image))
        invalid(u, image_at, image, "must not have leading or trailing whitespace");
    cause_unless_one_of(u->r, u->c, arena_printf(a, "%s.terminationMessagePolicy", at),
                        json_str_at(c, "terminationMessagePolicy"), messages);
    check_ports(u, json_get(c, "ports"), arena_printf(a, "%s.ports", at));
    check_env(u, json_get(c, "env"), arena_printf(a, "%s.env", at));
    check_mounts(u, c, volumes, at);
    cause_unless_one_of(u->r, u->c, arena_printf(a, "%s.imagePullPolicy", at),
                        json_str_at(c, "imagePullPolicy"), policies);
    check_resources(u, json_get(c, "resources"), arena_printf(a, "%s.resources", at));
}

/* Names are unique over all of a pod's containers. */
static void check_containers(const struct rules *u, const struct json *spec, const char *list,
                             const struct map *volumes, struct map *names)
{
    struct arena *a = &u->r->arena;
    const struct json *containers = json_get(spec, list);
    size_t i = 0;

    json_each_item(c, containers) {
        const char *at = arena_printf(a, "spec.%s[%zu]", list, i++);
        struct str name = json_str_at(c, "name");

        check_container(u, c, volumes, at);
        if (!str_empty(name) && repeated(names, name))
            duplicate(u, arena_printf(a, "%s.name", at), name);
    }
    check_host_ports(u, containers, arena_printf(a, "spec.%s", list));
}

/* The pod as a whole. */

static void check_toleration(const struct rules *u, const struct json *t, const char *at)
{
    static const char *const effects[] = {"NoSchedule", "PreferNoSchedule", "NoExecute", NULL};
    static const char *const operators[] = {"Equal", "Exists", "Gt", "Lt", NULL};
    struct arena *a = &u->r->arena;
    struct str key = json_str_at(t, "key"), op = json_str_at(t, "operator"),
               effect = json_str_at(t, "effect"), value = json_str_at(t, "value");
    const char *op_at = arena_printf(a, "%s.operator", at);

    if (key.n)
        invalid(u, arena_printf(a, "%s.key", at), key, name_qualified(key, a));
    else if (!str_is(op, "Exists"))
        invalid(u, op_at, op,
                "operator must be Exists when `key` is empty, which means \"match all values and "
                "all keys\"");
    if (json_get(t, "tolerationSeconds") && !str_is(effect, "NoExecute"))
        invalid(u, arena_printf(a, "%s.effect", at), effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set");
    if (op.n)
        cause_unless_one_of(u->r, u->c, op_at, op, operators);
    if (str_is(op, "Exists") && value.n)
        invalid(u, op_at, value, "value must be empty when `operator` is 'Exists'");
    else if ((!op.n || str_is(op, "Equal")) && value.n)
        invalid(u, op_at, value, name_label_value(value));
    if (effect.n)
        cause_unless_one_of(u->r, u->c, arena_printf(a, "%s.effect", at), effect, effects);
}

static void check_node_selector(const struct rules *u, const struct json *selector)
{
    json_each_member(m, selector) {
        invalid(u, "spec.nodeSelector", json_str(&m->key),
                name_qualified(json_str(&m->key), &u->r->arena));
        invalid(u, "spec.nodeSelector", json_str(&m->value), name_label_value(json_str(&m->value)));
    }
}

static void check_names(const struct rules *u, const struct json *spec)
{
    static const struct {
        const char *key, *field;
        const char *(*check)(struct str s);
    } names[] = {
        {"serviceAccountName", "spec.serviceAccountName", name_dns1123_subdomain},
        {"nodeName", "spec.nodeName", name_dns1123_subdomain},
        {"hostname", "spec.hostname", name_dns1123_label},
        {"subdomain", "spec.subdomain", name_dns1123_label},
        {"priorityClassName", "spec.priorityClassName", name_dns1123_subdomain},
        {"runtimeClassName", "spec.runtimeClassName", name_dns1123_subdomain},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct str v = json_str_at(spec, names[i].key);

        if (v.n)
            invalid(u, names[i].field, v, names[i].check(v));
    }
}

void check_pod_spec(struct request *r, const struct json *o, struct schema_causes *c)
{
    static const char *const restarts[] = {"Always", "OnFailure", "Never", NULL};
    static const char *const dns[] = {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None",
                                      NULL};
    AUTO(map_done) struct map volumes = {0};
    AUTO(map_done) struct map names = {0};
    const struct rules u = {r, c};
    const struct json *spec = json_get(o, "spec");
    int64_t deadline = json_i64_at(spec, "activeDeadlineSeconds", 1);
    size_t i = 0;

    check_volumes(&u, json_get(spec, "volumes"), &volumes);
    if (!json_len(json_get(spec, "containers")))
        required(&u, "spec.containers", "");
    check_containers(&u, spec, "containers", &volumes, &names);
    check_containers(&u, spec, "initContainers", &volumes, &names);
    cause_unless_one_of(r, c, "spec.restartPolicy", json_str_at(spec, "restartPolicy"), restarts);
    cause_unless_one_of(r, c, "spec.dnsPolicy", json_str_at(spec, "dnsPolicy"), dns);
    check_node_selector(&u, json_get(spec, "nodeSelector"));
    if (str_is(json_str_at(spec, "dnsPolicy"), "None")
        && !json_len(json_at(spec, "dnsConfig/nameservers")))
        required(&u, "spec.dnsConfig.nameservers",
                 "must provide at least one DNS nameserver when `dnsPolicy` is None");
    if (deadline < 1 || deadline > INT32_MAX)
        invalid_number(&u, "spec.activeDeadlineSeconds", deadline,
                       "must be between 1 and 2147483647, inclusive");
    check_names(&u, spec);
    json_each_item(t, json_get(spec, "tolerations"))
        check_toleration(&u, t, arena_printf(&r->arena, "spec.tolerations[%zu]", i++));
}
