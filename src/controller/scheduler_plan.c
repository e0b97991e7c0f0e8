#include "controller/scheduler_plan.h"

#include "controller/scheduler_words.h"

#include <stdio.h>

#include "api/labels.h"
#include "api/quantity.h"
#include "base/cleanup.h"

/* Amounts */

int64_t amounts_get(const struct amounts *x, const char *name)
{
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->p[i].name, name) == 0)
            return x->p[i].n;
    return 0;
}

/* Quantities are tenants' text: two of 8Ei are still more than any node has. */
static int64_t sum_of(int64_t a, int64_t b)
{
    int64_t sum;

    return !__builtin_add_overflow(a, b, &sum) ? sum : a < 0 ? INT64_MIN : INT64_MAX;
}

void amounts_add(struct amounts *x, const char *name, int64_t n)
{
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->p[i].name, name) == 0) {
            x->p[i].n = sum_of(x->p[i].n, n);
            return;
        }
    if (x->n < AMOUNTS)
        x->p[x->n++] = (struct amount){name, n};
}

static int64_t amount_of(struct str name, struct str text)
{
    return str_is(name, "cpu") ? quantity_millis(text, 0) : quantity_bytes(text, 0);
}

struct amounts amounts_of_list(const struct json *list, struct arena *a)
{
    struct amounts x = {0};

    json_each_member(m, list)
        amounts_add(&x, arena_strdup(a, json_str(&m->key)),
                    amount_of(json_str(&m->key), json_str(&m->value)));
    return x;
}

/* A limit without a request is the request, as the API server would fill in. */
static struct amounts amounts_of_container(const struct json *container, struct arena *a)
{
    const struct json *requests = json_at(container, "resources/requests");
    struct amounts x = amounts_of_list(requests, a);

    json_each_member(m, json_at(container, "resources/limits"))
        if (!json_get_str(requests, json_str(&m->key)))
            amounts_add(&x, arena_strdup(a, json_str(&m->key)),
                        amount_of(json_str(&m->key), json_str(&m->value)));
    return x;
}

static void add_all(struct amounts *to, const struct amounts *from)
{
    for (size_t i = 0; i < from->n; i++)
        amounts_add(to, from->p[i].name, from->p[i].n);
}

/* Containers and side-cars add up; of the other init containers, which run one by one before, the greediest counts. */
struct amounts amounts_of_pod(const struct json *pod, struct arena *a)
{
    struct amounts sum = {0}, overhead = amounts_of_list(json_at(pod, "spec/overhead"), a);

    json_each_item(c, json_at(pod, "spec/containers")) {
        struct amounts x = amounts_of_container(c, a);

        add_all(&sum, &x);
    }
    json_each_item(c, json_at(pod, "spec/initContainers"))
        if (str_is(json_str_at(c, "restartPolicy"), "Always")) {
            struct amounts x = amounts_of_container(c, a);

            add_all(&sum, &x);
        }
    json_each_item(c, json_at(pod, "spec/initContainers")) {
        struct amounts x = amounts_of_container(c, a);

        for (size_t i = 0; i < x.n; i++)
            if (x.p[i].n > amounts_get(&sum, x.p[i].name))
                amounts_add(&sum, x.p[i].name, x.p[i].n - amounts_get(&sum, x.p[i].name));
    }
    add_all(&sum, &overhead);
    amounts_add(&sum, "pods", 1);
    return sum;
}

/* Filters: each says in kube-scheduler's words why not, or NULL. */

static bool tolerates(const struct json *toleration, const struct json *taint)
{
    struct str key = json_str_at(toleration, "key"), effect = json_str_at(toleration, "effect");
    bool exists = str_is(json_str_at(toleration, "operator"), "Exists");

    if (effect.n && !str_eq(effect, json_str_at(taint, "effect")))
        return false;
    if (!key.n)
        return exists;
    if (!str_eq(key, json_str_at(taint, "key")))
        return false;
    return exists || str_eq(json_str_at(toleration, "value"), json_str_at(taint, "value"));
}

static bool tolerated(const struct json *pod, const struct json *taint)
{
    json_each_item(t, json_at(pod, "spec/tolerations"))
        if (tolerates(t, taint))
            return true;
    return false;
}

static const char *tainted(const struct json *pod, const struct json *node, struct arena *a)
{
    json_each_item(taint, json_at(node, "spec/taints")) {
        struct str effect = json_str_at(taint, "effect");

        if ((str_is(effect, "NoSchedule") || str_is(effect, "NoExecute")) && !tolerated(pod, taint))
            return arena_printf(a, "node(s) had untolerated taint {" STR_FMT ": " STR_FMT "}",
                                STR_ARG(json_str_at(taint, "key")),
                                STR_ARG(json_str_at(taint, "value")));
    }
    return NULL;
}

static bool requirement(const struct json *e, struct str value, struct arena *a)
{
    static const char *const names[] = {[LABEL_IN] = "In",         [LABEL_NOT_IN] = "NotIn",
                                        [LABEL_EXISTS] = "Exists", [LABEL_ABSENT] = "DoesNotExist",
                                        [LABEL_GREATER] = "Gt",    [LABEL_LESS] = "Lt"};
    const struct json *values = json_get(e, "values");
    struct label_requirement r = {.key = json_str_at(e, "key")};
    struct str *texts = ARENA_ARRAY(a, struct str, json_len(values) + 1);

    for (size_t i = 0; i < json_len(values); i++)
        texts[r.n++] = json_str(json_item(values, i));
    r.values = texts;
    for (size_t op = 0; op < ARRAY_SIZE(names); op++)
        if (str_is(json_str_at(e, "operator"), names[op])) {
            r.op = (enum label_op)op;
            return label_requirement_match(&r, value);
        }
    return false;
}

static bool term_matches(const struct json *term, const struct json *node, struct arena *a)
{
    if (!json_len(json_get(term, "matchExpressions")) && !json_len(json_get(term, "matchFields")))
        return false; /* an empty term matches nothing */
    json_each_item(e, json_get(term, "matchExpressions"))
        if (!requirement(e, json_str(json_get_str(meta_labels(node), json_str_at(e, "key"))), a))
            return false;
    json_each_item(e, json_get(term, "matchFields"))
        if (!str_is(json_str_at(e, "key"), "metadata.name") || !requirement(e, meta_name(node), a))
            return false;
    return true;
}

static const char *unselected(const struct json *pod, const struct json *node, struct arena *a)
{
    static const char why[] = "node(s) didn't match Pod's node affinity/selector";
    const struct json *terms =
        json_at(pod, "spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/"
                     "nodeSelectorTerms");

    json_each_member(m, json_at(pod, "spec/nodeSelector"))
        if (!str_eq(json_str(json_get_str(meta_labels(node), json_str(&m->key))),
                    json_str(&m->value)))
            return why;
    if (!terms)
        return NULL;
    json_each_item(t, terms)
        if (term_matches(t, node, a))
            return NULL;
    return why;
}

/* Spread over nodes or zones: a node that is in none of those that a constraint counts is no choice. With one node there is one
 * zone, and nothing to be uneven to. */
static const char *unspread(const struct json *pod, const struct json *node)
{
    json_each_item(t, json_at(pod, "spec/topologySpreadConstraints"))
        if (!str_is(json_str_at(t, "whenUnsatisfiable"), "ScheduleAnyway")
            && !json_get_str(meta_labels(node), json_str_at(t, "topologyKey")))
            return "node(s) didn't match pod topology spread constraints (missing required label)";
    return NULL;
}

static const char *unready(const struct json *node)
{
    const struct json *ready = condition_find(node, "Ready");

    if (json_bool_at(node, "spec/unschedulable", false))
        return "node(s) were unschedulable";
    return ready && !str_is(json_str_at(ready, "status"), "True") ? "node(s) were not ready" : NULL;
}

/* Reasons and how many nodes gave them. */
struct reasons {
    struct {
        const char *text;
        unsigned n;
    } p[32];
    size_t n;
};

static void add_reason(struct reasons *r, const char *text)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->p[i].text, text) == 0) {
            r->p[i].n++;
            return;
        }
    if (r->n < ARRAY_SIZE(r->p)) {
        r->p[r->n].text = text;
        r->p[r->n++].n = 1;
    }
}

static bool fits(const struct amounts *want, const struct candidate *c, struct arena *a,
                 struct reasons *r)
{
    bool all = true;

    for (size_t i = 0; i < want->n; i++) {
        const struct amount *x = &want->p[i];

        if (x->n <= 0
            || sum_of(x->n, amounts_get(&c->used, x->name)) <= amounts_get(&c->has, x->name))
            continue;
        all = false;
        add_reason(r, strcmp(x->name, "pods") == 0 ? "Too many pods"
                                                   : arena_printf(a, "Insufficient %s", x->name));
    }
    return all;
}

/* The least loaded node: most of its memory left, then fewest pods, then by name, so that the same view gives the same answer. */
static bool better(const struct candidate *x, const struct candidate *y)
{
    double mx =
        (double)amounts_get(&x->used, "memory") / (double)(amounts_get(&x->has, "memory") + 1);
    double my =
        (double)amounts_get(&y->used, "memory") / (double)(amounts_get(&y->has, "memory") + 1);
    int64_t px = amounts_get(&x->used, "pods"), py = amounts_get(&y->used, "pods");

    if (mx < my || mx > my)
        return mx < my;
    return px != py ? px < py : str_cmp(meta_name(x->node), meta_name(y->node)) < 0;
}

/* What the numbers are: the largest room that any node has for what is short everywhere. */
static void explain(struct buf *b, const struct json *pod, const struct amounts *want,
                    const struct candidate *nodes, size_t n)
{
    for (size_t i = 0; i < want->n; i++) {
        const char *name = want->p[i].name;
        const struct candidate *most = NULL;
        int64_t left = INT64_MIN;

        for (size_t k = 0; k < n; k++) {
            int64_t room =
                sum_of(amounts_get(&nodes[k].has, name), -amounts_get(&nodes[k].used, name));

            if (room > left) {
                left = room;
                most = &nodes[k];
            }
        }
        if (!most || left >= want->p[i].n || strcmp(name, "pods") == 0)
            continue;
        if (strcmp(name, "memory") == 0)
            buf_addf(
                b, " The pod needs %lldMi of memory; node " STR_FMT " has %lldMi left of %lldMi.",
                (long long)sum_of(want->p[i].n, (1 << 20) - 1) >> 20, STR_ARG(meta_name(most->node)),
                (long long)left >> 20, (long long)amounts_get(&most->has, name) >> 20);
        else if (strcmp(name, "devices.kubevirt.io/kvm") == 0 && amounts_get(&most->has, name) == 0)
            buf_adds(b, scheduler_needs_kvm(pod) ? "" : " No node has a /dev/kvm that works: let the KubeVirt object's "
                        "developerConfiguration.useEmulation be unset or true to run without.");
        else if (strcmp(name, "devices.kubevirt.io/vhost-vsock") == 0
                 && amounts_get(&most->has, name) == 0)
            buf_adds(b, " No node has a /dev/vhost-vsock, which this hypervisor's vsock "
                        "(autoattachVSOCK) needs: load the module vhost_vsock there (modprobe "
                        "vhost_vsock), or choose cloud-hypervisor or firecracker by the annotation "
                        "vireo.io/hypervisor.");
        else
            buf_addf(b, " The pod needs %lld%s %s; node " STR_FMT " has %lld left of %lld.",
                     (long long)want->p[i].n, strcmp(name, "cpu") == 0 ? "m of" : "", name,
                     STR_ARG(meta_name(most->node)), (long long)left,
                     (long long)amounts_get(&most->has, name));
    }
}

static int by_text(const void *x, const void *y)
{
    const char *const *a = x, *const *b = y;

    return strcmp(*a, *b);
}

int schedule(const struct json *pod, const struct candidate *nodes, size_t n, struct arena *a,
             const char **ret_message)
{
    AUTO(buf_done) struct buf b = {0};
    struct amounts want = amounts_of_pod(pod, a);
    struct reasons reasons = {0};
    const char *lines[ARRAY_SIZE(reasons.p)];
    int best = -1;

    for (size_t i = 0; i < n; i++) {
        const char *why = unready(nodes[i].node);

        if (!why)
            why = tainted(pod, nodes[i].node, a);
        if (!why)
            why = unselected(pod, nodes[i].node, a);
        if (!why)
            why = unspread(pod, nodes[i].node);
        if (why)
            add_reason(&reasons, why);
        else if (fits(&want, &nodes[i], a, &reasons)
                 && (best < 0 || better(&nodes[i], &nodes[best])))
            best = (int)i;
    }
    if (best >= 0)
        return best;
    if (n == 0) {
        *ret_message = "no nodes available to schedule pods";
        return -1;
    }
    for (size_t i = 0; i < reasons.n; i++)
        lines[i] = arena_printf(a, "%u %s", reasons.p[i].n, reasons.p[i].text);
    qsort(lines, reasons.n, sizeof *lines, by_text);
    buf_addf(&b, "0/%zu nodes are available: ", n);
    for (size_t i = 0; i < reasons.n; i++)
        buf_addf(&b, "%s%s", i ? ", " : "", lines[i]);
    buf_addc(&b, '.');
    scheduler_explain_hypervisor(&b, pod, nodes, n);
    explain(&b, pod, &want, nodes, n);
    *ret_message = arena_strdup(a, buf_str(&b));
    return -1;
}
