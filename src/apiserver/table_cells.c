/* apiserver/table_cells - what each kind shows of itself. */
#include "api/jsonpath.h"
#include "api/meta.h"
#include "apiserver/table.h"

static const struct json *text(const struct row *r, const char *path, const char *otherwise)
{
    struct str s = json_str_at(r->object, path);

    return s.n ? json_new_str(r->a, s) : json_new_z(r->a, otherwise);
}

static const struct json *name(const struct row *r)
{
    return json_new_str(r->a, meta_name(r->object));
}

static const struct json *age(const struct row *r)
{
    return cell_age(r, meta_creation(r->object));
}

static const struct json *as_text(const struct row *r, const struct json *v, const char *otherwise)
{
    AUTO(buf_done) struct buf b = {0};

    if (!v)
        return json_new_z(r->a, otherwise);
    if (json_is(v, JSON_STRING))
        return v;
    json_write(&b, v);
    return json_new_str(r->a, buf_str(&b));
}

/* Pods. */

struct pod_state {
    size_t total, ready, restarts;
    const char *reason;
    struct str restarted_at;
};

static void init_containers(const struct row *r, struct pod_state *p, bool *initializing)
{
    const struct json *list = json_at(r->object, "status/initContainerStatuses");
    size_t i = 0, n = json_len(json_at(r->object, "spec/initContainers"));

    json_each_item(c, list) {
        const struct json *t = json_at(c, "state/terminated"), *w = json_at(c, "state/waiting");
        size_t at = i++;

        p->restarts += (size_t)json_i64_at(c, "restartCount", 0);
        if (*initializing || (t && json_i64_at(t, "exitCode", 1) == 0)
            || json_bool_at(c, "started", false))
            continue;
        *initializing = true;
        if (t)
            p->reason = json_str_at(t, "reason").n
                            ? arena_printf(r->a, "Init:" STR_FMT, STR_ARG(json_str_at(t, "reason")))
                            : arena_printf(r->a, "Init:ExitCode:%lld",
                                           (long long)json_i64_at(t, "exitCode", 0));
        else if (json_str_at(w, "reason").n && !str_is(json_str_at(w, "reason"), "PodInitializing"))
            p->reason = arena_printf(r->a, "Init:" STR_FMT, STR_ARG(json_str_at(w, "reason")));
        else
            p->reason = arena_printf(r->a, "Init:%zu/%zu", at, n);
    }
}

static void containers(const struct row *r, struct pod_state *p)
{
    bool running = false;

    json_each_item(c, json_at(r->object, "status/containerStatuses")) {
        const struct json *t = json_at(c, "state/terminated"), *w = json_at(c, "state/waiting");
        struct str at = json_str_at(c, "lastState/terminated/finishedAt");

        p->restarts += (size_t)json_i64_at(c, "restartCount", 0);
        if (at.n && str_cmp(at, p->restarted_at) > 0)
            p->restarted_at = at;
        if (json_str_at(w, "reason").n)
            p->reason = arena_strdup(r->a, json_str_at(w, "reason"));
        else if (t && json_str_at(t, "reason").n)
            p->reason = arena_strdup(r->a, json_str_at(t, "reason"));
        else if (t && json_i64_at(t, "signal", 0))
            p->reason = arena_printf(r->a, "Signal:%lld", (long long)json_i64_at(t, "signal", 0));
        else if (t)
            p->reason =
                arena_printf(r->a, "ExitCode:%lld", (long long)json_i64_at(t, "exitCode", 0));
        else if (json_bool_at(c, "ready", false) && json_at(c, "state/running")) {
            running = true;
            p->ready++;
        }
    }
    if (!strcmp(p->reason, "Completed") && running)
        p->reason = condition_is(r->object, "Ready", "True") ? "Running" : "NotReady";
}

size_t cells_pod(const struct row *r, const struct json **ret)
{
    const struct json *o = r->object, *gates = json_at(o, "spec/readinessGates");
    struct str reason = json_str_at(o, "status/reason"), phase = json_str_at(o, "status/phase");
    struct pod_state p = {.total = json_len(json_at(o, "spec/containers"))};
    bool initializing = false;
    size_t gates_ready = 0;

    p.reason = arena_strdup(r->a, reason.n ? reason : phase);
    if (condition_find(o, "PodScheduled")
        && str_is(json_str_at(condition_find(o, "PodScheduled"), "reason"), "SchedulingGated"))
        p.reason = "SchedulingGated";
    init_containers(r, &p, &initializing);
    if (!initializing)
        containers(r, &p);
    if (meta_deleting(o) && str_is(reason, "NodeLost"))
        p.reason = "Unknown";
    else if (meta_deleting(o) && !str_is(phase, "Succeeded") && !str_is(phase, "Failed"))
        p.reason = "Terminating";
    json_each_item(g, gates) {
        AUTO_FREE char *type = str_dup(json_str_at(g, "conditionType"));

        gates_ready += type && condition_is(o, type, "True");
    }
    ret[0] = name(r);
    ret[1] = json_new_f(r->a, "%zu/%zu", p.ready, p.total);
    ret[2] = json_new_z(r->a, p.reason);
    ret[3] = p.restarted_at.n && p.restarts
                 ? json_new_f(r->a, "%zu (" STR_FMT " ago)", p.restarts,
                              STR_ARG(json_str(cell_age(r, p.restarted_at))))
                 : json_new_f(r->a, "%zu", p.restarts);
    ret[4] = age(r);
    ret[5] = text(r, "status/podIP", "<none>");
    ret[6] = text(r, "spec/nodeName", "<none>");
    ret[7] = text(r, "status/nominatedNodeName", "<none>");
    ret[8] = json_len(gates) ? json_new_f(r->a, "%zu/%zu", gates_ready, json_len(gates))
                             : json_new_z(r->a, "<none>");
    return 9;
}

static const struct json *node_address(const struct row *r, const char *type)
{
    json_each_item(a, json_at(r->object, "status/addresses")) {
        if (str_is(json_str_at(a, "type"), type))
            return as_text(r, json_get(a, "address"), "<none>");
    }
    return json_new_z(r->a, "<none>");
}

size_t cells_node(const struct row *r, const struct json **ret)
{
    AUTO(buf_done) struct buf roles = {0};
    const struct json *ready = condition_find(r->object, "Ready");
    const char *status = !ready                                         ? "Unknown"
                         : str_is(json_str_at(ready, "status"), "True") ? "Ready"
                                                                        : "NotReady";

    json_each_member(l, meta_labels(r->object)) {
        struct str key = json_str(&l->key), role = STR_NONE;

        if (str_starts(key, STR("node-role.kubernetes.io/")))
            role = str_skip(key, strlen("node-role.kubernetes.io/"));
        else if (str_is(key, "kubernetes.io/role"))
            role = json_str(&l->value);
        if (role.n)
            buf_addf(&roles, "%s" STR_FMT, roles.n ? "," : "", STR_ARG(role));
    }
    ret[0] = name(r);
    ret[1] = json_new_f(r->a, "%s%s", status,
                        json_bool_at(r->object, "spec/unschedulable", false) ? ",SchedulingDisabled"
                                                                             : "");
    ret[2] = roles.n ? json_new_str(r->a, buf_str(&roles)) : json_new_z(r->a, "<none>");
    ret[3] = age(r);
    ret[4] = text(r, "status/nodeInfo/kubeletVersion", "");
    ret[5] = node_address(r, "InternalIP");
    ret[6] = node_address(r, "ExternalIP");
    ret[7] = text(r, "status/nodeInfo/osImage", "<unknown>");
    ret[8] = text(r, "status/nodeInfo/kernelVersion", "<unknown>");
    ret[9] = text(r, "status/nodeInfo/containerRuntimeVersion", "<unknown>");
    return 10;
}

size_t cells_namespace(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = text(r, "status/phase", "");
    ret[2] = age(r);
    return 3;
}

/* Either face of an Event. */
static struct str either(const struct row *r, const char *core, const char *other)
{
    struct str s = json_str_at(r->object, core);

    return s.n ? s : json_str_at(r->object, other);
}

size_t cells_event(const struct row *r, const struct json **ret)
{
    struct str last = either(r, "lastTimestamp", "deprecatedLastTimestamp"),
               first = either(r, "firstTimestamp", "deprecatedFirstTimestamp"),
               when = json_str_at(r->object, "eventTime"),
               kind = either(r, "involvedObject/kind", "regarding/kind"),
               object = either(r, "involvedObject/name", "regarding/name"),
               component = either(r, "source/component", "deprecatedSource/component"),
               host = either(r, "source/host", "deprecatedSource/host"),
               part = either(r, "involvedObject/fieldPath", "regarding/fieldPath");
    int64_t count = json_i64_at(r->object, "count", json_i64_at(r->object, "deprecatedCount", 0));
    AUTO_FREE char *k = str_dup(kind.n ? kind : STR(""));

    for (char *c = k; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + 32);
    if (!component.n)
        component = either(r, "reportingComponent", "reportingController");
    if (!first.n)
        first = when;
    if (json_str_at(r->object, "series/lastObservedTime").n)
        last = json_str_at(r->object, "series/lastObservedTime");
    if (!last.n)
        last = first;
    ret[0] = cell_age(r, last);
    ret[1] = text(r, "type", "");
    ret[2] = text(r, "reason", "");
    ret[3] = kind.n ? json_new_f(r->a, "%s/" STR_FMT, k, STR_ARG(object))
                    : json_new_str(r->a, object.p ? object : STR(""));
    ret[4] = json_new_str(r->a, part.p ? part : STR(""));
    ret[5] = host.n ? json_new_f(r->a, STR_FMT ", " STR_FMT, STR_ARG(component), STR_ARG(host))
                    : json_new_str(r->a, component.p ? component : STR(""));
    ret[6] = json_new_str(
        r->a, str_trim(either(r, "message", "note").p ? either(r, "message", "note") : STR("")));
    ret[7] = cell_age(r, first);
    ret[8] = json_new_i64(r->a, count ? count : 1);
    ret[9] = name(r);
    return 10;
}

static const struct json *modes(const struct row *r, const char *path)
{
    static const char *const map[][2] = {
        {"ReadWriteOnce", "RWO"},
        {"ReadOnlyMany", "ROX"},
        {"ReadWriteMany", "RWX"},
        {"ReadWriteOncePod", "RWOP"},
    };
    AUTO(buf_done) struct buf b = {0};

    for (size_t i = 0; i < ARRAY_SIZE(map); i++)
        json_each_item(m, json_at(r->object, path)) {
            if (str_is(json_str(m), map[i][0]))
                buf_addf(&b, "%s%s", b.n ? "," : "", map[i][1]);
        }
    return json_new_str(r->a, b.n ? buf_str(&b) : STR(""));
}

size_t cells_claim(const struct row *r, const struct json **ret)
{
    bool bound = !str_empty(json_str_at(r->object, "spec/volumeName"));

    ret[0] = name(r);
    ret[1] =
        meta_deleting(r->object) ? json_new_z(r->a, "Terminating") : text(r, "status/phase", "");
    ret[2] = text(r, "spec/volumeName", "");
    ret[3] = bound ? as_text(r, json_at(r->object, "status/capacity/storage"), "")
                   : json_new_z(r->a, "");
    ret[4] = bound ? modes(r, "status/accessModes") : json_new_z(r->a, "");
    ret[5] = text(r, "spec/storageClassName", "");
    ret[6] = text(r, "spec/volumeAttributesClassName", "<unset>");
    ret[7] = age(r);
    ret[8] = text(r, "spec/volumeMode", "<unset>");
    return 9;
}

size_t cells_volume(const struct row *r, const struct json **ret)
{
    struct str ns = json_str_at(r->object, "spec/claimRef/namespace"),
               claim = json_str_at(r->object, "spec/claimRef/name");

    ret[0] = name(r);
    ret[1] = as_text(r, json_at(r->object, "spec/capacity/storage"), "");
    ret[2] = modes(r, "spec/accessModes");
    ret[3] = text(r, "spec/persistentVolumeReclaimPolicy", "");
    ret[4] =
        meta_deleting(r->object) ? json_new_z(r->a, "Terminating") : text(r, "status/phase", "");
    ret[5] = claim.n ? json_new_f(r->a, STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(claim))
                     : json_new_z(r->a, "");
    ret[6] = text(r, "spec/storageClassName", "");
    ret[7] = text(r, "spec/volumeAttributesClassName", "<unset>");
    ret[8] = text(r, "status/reason", "");
    ret[9] = age(r);
    ret[10] = text(r, "spec/volumeMode", "<unset>");
    return 11;
}

size_t cells_secret(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = text(r, "type", "Opaque");
    ret[2] = json_new_i64(r->a, (int64_t)json_len(json_get(r->object, "data")));
    ret[3] = age(r);
    return 4;
}

size_t cells_configmap(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = json_new_i64(r->a, (int64_t)(json_len(json_get(r->object, "data"))
                                          + json_len(json_get(r->object, "binaryData"))));
    ret[2] = age(r);
    return 3;
}

size_t cells_account(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = json_new_i64(r->a, (int64_t)json_len(json_get(r->object, "secrets")));
    ret[2] = age(r);
    return 3;
}

size_t cells_lease(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = text(r, "spec/holderIdentity", "");
    ret[2] = age(r);
    return 3;
}

size_t cells_class(const struct row *r, const struct json **ret)
{
    bool is_default =
        str_is(meta_annotation(r->object, "storageclass.kubernetes.io/is-default-class"), "true");

    ret[0] = json_new_f(r->a, STR_FMT "%s", STR_ARG(meta_name(r->object)),
                        is_default ? " (default)" : "");
    ret[1] = text(r, "provisioner", "");
    ret[2] = text(r, "reclaimPolicy", "Delete");
    ret[3] = text(r, "volumeBindingMode", "Immediate");
    ret[4] = json_new_bool(json_bool_at(r->object, "allowVolumeExpansion", false));
    ret[5] = age(r);
    return 6;
}

size_t cells_created(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = json_new_str(r->a, meta_creation(r->object));
    return 2;
}

static const struct json *subjects(const struct row *r, const char *kind)
{
    AUTO(buf_done) struct buf b = {0};

    json_each_item(s, json_get(r->object, "subjects")) {
        if (!str_is(json_str_at(s, "kind"), kind))
            continue;
        buf_addf(&b, "%s", b.n ? ", " : "");
        if (json_str_at(s, "namespace").n)
            buf_addf(&b, STR_FMT "/", STR_ARG(json_str_at(s, "namespace")));
        buf_addstr(&b, json_str_at(s, "name"));
    }
    return json_new_str(r->a, b.n ? buf_str(&b) : STR(""));
}

size_t cells_binding(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = json_new_f(r->a, STR_FMT "/" STR_FMT, STR_ARG(json_str_at(r->object, "roleRef/kind")),
                        STR_ARG(json_str_at(r->object, "roleRef/name")));
    ret[2] = age(r);
    ret[3] = subjects(r, "User");
    ret[4] = subjects(r, "Group");
    ret[5] = subjects(r, "ServiceAccount");
    return 6;
}

size_t cells_revision(const struct row *r, const struct json **ret)
{
    const struct json *c = meta_controller(r->object);
    struct str group = meta_group(json_str_at(c, "apiVersion"), NULL);
    AUTO_FREE char *kind = str_dup(json_str_at(c, "kind").p ? json_str_at(c, "kind") : STR(""));

    for (char *p = kind; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    ret[0] = name(r);
    ret[1] = c ? json_new_f(r->a, "%s%s" STR_FMT "/" STR_FMT, kind, group.n ? "." : "",
                            STR_ARG(group), STR_ARG(json_str_at(c, "name")))
               : json_new_z(r->a, "<none>");
    ret[2] = json_new_i64(r->a, json_i64_at(r->object, "revision", 0));
    ret[3] = age(r);
    return 4;
}

size_t cells_priority(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = json_new_i64(r->a, json_i64_at(r->object, "value", 0));
    ret[2] = json_new_bool(json_bool_at(r->object, "globalDefault", false));
    ret[3] = age(r);
    ret[4] = text(r, "preemptionPolicy", "PreemptLowerPriority");
    return 5;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(json_str(&(*(const struct json_member *const *)a)->key),
                   json_str(&(*(const struct json_member *const *)b)->key));
}

size_t cells_quota(const struct row *r, const struct json **ret)
{
    const struct json *hard = json_at(r->object, "status/hard"),
                      *used = json_at(r->object, "status/used");
    const struct json_member **sorted =
        ARENA_ARRAY(r->a, const struct json_member *, json_len(hard) + 1);
    AUTO(buf_done) struct buf requests = {0}, limits = {0};
    size_t n = 0;

    json_each_member(m, hard)
        sorted[n++] = m;
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) {
        struct str key = json_str(&sorted[i]->key);
        struct buf *b = str_starts(key, STR("limits.")) ? &limits : &requests;

        buf_addf(b, "%s" STR_FMT ": " STR_FMT "/" STR_FMT, b->n ? ", " : "", STR_ARG(key),
                 STR_ARG(json_str(as_text(r, json_get_str(used, key), "0"))),
                 STR_ARG(json_str(as_text(r, &sorted[i]->value, "0"))));
    }
    ret[0] = name(r);
    ret[1] = json_new_str(r->a, requests.n ? buf_str(&requests) : STR(""));
    ret[2] = json_new_str(r->a, limits.n ? buf_str(&limits) : STR(""));
    ret[3] = age(r);
    return 4;
}

size_t cells_webhooks(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = json_new_i64(r->a, (int64_t)json_len(json_get(r->object, "webhooks")));
    ret[2] = age(r);
    return 3;
}

size_t cells_apiservice(const struct row *r, const struct json **ret)
{
    const struct json *available = condition_find(r->object, "Available");

    ret[0] = name(r);
    ret[1] = json_new_z(r->a, "Local");
    ret[2] = as_text(r, json_get(available, "status"), "Unknown");
    ret[3] = age(r);
    return 4;
}

size_t cells_budget(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = as_text(r, json_at(r->object, "spec/minAvailable"), "N/A");
    ret[2] = as_text(r, json_at(r->object, "spec/maxUnavailable"), "N/A");
    ret[3] = json_new_i64(r->a, json_i64_at(r->object, "status/disruptionsAllowed", 0));
    ret[4] = age(r);
    return 5;
}

size_t cells_plain(const struct row *r, const struct json **ret)
{
    ret[0] = name(r);
    ret[1] = age(r);
    return 2;
}

/* One printer column: what upstream's converter makes of the first result. */
static const struct json *column_cell(const struct row *r, const struct kind_column *c)
{
    const struct json *v = jsonpath_first(c->path, r->object, r->a);
    AUTO(error_clear) struct error err = {0};
    int64_t n;

    if (!v || json_is(v, JSON_NULL))
        return json_null();
    if (!strcmp(c->type, "date"))
        return json_is(v, JSON_STRING) ? cell_age(r, json_str(v)) : json_new_z(r->a, "<unknown>");
    if (!strcmp(c->type, "integer")) {
        if (json_i64(v, &n))
            return json_new_i64(r->a, n);
        if (json_is(v, JSON_STRING) && parse_i64(json_str(v), INT64_MIN, INT64_MAX, &n, &err))
            return json_new_i64(r->a, n);
        return json_null();
    }
    if (!strcmp(c->type, "boolean"))
        return json_is(v, JSON_TRUE) || json_is(v, JSON_FALSE) ? v : json_null();
    if (!strcmp(c->type, "number"))
        return json_is(v, JSON_NUMBER) ? v : json_null();
    return as_text(r, v, "");
}

size_t cells_columns(const struct row *r, const struct json **ret)
{
    size_t n = 0;

    ret[n++] = name(r);
    for (size_t i = 0; i < r->k->n_columns && n < TABLE_CELLS_MAX; i++)
        ret[n++] = column_cell(r, &r->k->columns[i]);
    return n;
}
