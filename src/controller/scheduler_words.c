#include "controller/scheduler_words.h"

#include "api/kv.h"
#include "api/vmm_caps.h"
#include "base/cleanup.h"

#define PREFIX "vireo.io/vmm-" /* KV_LABEL_VMM */
#define LEVEL "-level"
#define NAMED 3 /* nodes whose reasons are told; of the others their number */
#define REASON_BYTES 300

#define TERMS "spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"

/* "vireo.io/vmm-firecracker-level Gt 115": 1.16 or newer. */
static struct str level_of(const struct json *e, unsigned *ret)
{
    struct str key = json_str_at(e, "key"), value = json_str(json_item(json_get(e, "values"), 0));
    AUTO(error_clear) struct error err = {0};
    uint64_t level;

    if (!str_starts(key, STR(PREFIX)) || !str_ends(key, STR(LEVEL)) || !str_is(json_str_at(e, "operator"), "Gt")
        || !parse_u64(value, 99999, &level, &err))
        return STR_NONE;
    *ret = (unsigned)level + 1;
    return str_skip(str_take(key, key.n - strlen(LEVEL)), strlen(PREFIX));
}

struct str scheduler_hypervisor(const struct json *pod, unsigned *ret_level)
{
    struct str name = STR_NONE;

    *ret_level = 0;
    json_each_member(m, json_at(pod, "spec/nodeSelector"))
        if (str_starts(json_str(&m->key), STR(PREFIX)) && str_is(json_str(&m->value), "true"))
            name = str_skip(json_str(&m->key), strlen(PREFIX));
    json_each_item(term, json_at(pod, TERMS))
        json_each_item(e, json_get(term, "matchExpressions")) {
            struct str of = level_of(e, ret_level);

            if (of.n)
                return of;
        }
    return name;
}

static const struct json *label(const struct json *node, struct str name, const char *suffix, struct arena *a)
{
    return json_get(meta_labels(node), arena_printf(a, PREFIX STR_FMT "%s", STR_ARG(name), suffix));
}

static unsigned offered_level(const struct json *node, struct str name, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    uint64_t level;

    return parse_u64(json_str(label(node, name, LEVEL, a)), 99999, &level, &err) ? (unsigned)level : 0;
}

static bool offers(const struct json *node, struct str name, unsigned level, struct arena *a)
{
    return str_is(json_str(label(node, name, "", a)), "true") && offered_level(node, name, a) >= level;
}

/* The report is the node agent's text; a node that has none, or a foreign one, is told as such. */
static const char *reason_of(const struct json *node, struct str name, unsigned level, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    unsigned has = offered_level(node, name, a);
    const struct json *report;

    if (has && has < level)
        return arena_printf(a, "it has version %u.%u, and what is written needs %u.%u or newer", has / 100, has % 100, level / 100, level % 100);
    if (!json_parse(meta_annotation(node, KV_ANNOTATION_REPORT), a, &report, &err))
        return "its node agent has not said what it offers";
    json_each_item(v, json_get(report, "vmms"))
        if (str_eq(json_str_at(v, "name"), name) && json_str_at(v, "reason").n)
            return arena_strdup(a, str_take(json_str_at(v, "reason"), REASON_BYTES));
    return "its node agent does not know this hypervisor";
}

bool scheduler_hypervisor_unknown(const struct json *pod, const struct candidate *nodes, size_t n)
{
    AUTO(arena_done) struct arena a = {0};
    unsigned level;
    struct str name = scheduler_hypervisor(pod, &level);

    for (size_t i = 0; name.n && i < n; i++) {
        AUTO(error_clear) struct error err = {0};
        struct str text = meta_annotation(nodes[i].node, KV_ANNOTATION_REPORT);
        const struct json *report;

        if (offers(nodes[i].node, name, level, &a))
            continue;
        if (!text.n && meta_annotation(nodes[i].node, "kubevirt.io/heartbeat").n)
            return true;
        if (!json_parse(text, &a, &report, &err))
            continue;
        json_each_item(v, json_get(report, "vmms"))
            if (str_eq(json_str_at(v, "name"), name) && str_is(json_str_at(v, "state"), "unknown"))
                return true;
    }
    return false;
}

void scheduler_explain_hypervisor(struct buf *b, const struct json *pod, const struct candidate *nodes, size_t n)
{
    AUTO(arena_done) struct arena a = {0};
    unsigned level;
    struct str name = scheduler_hypervisor(pod, &level);

    if (!name.n)
        return;
    for (size_t i = 0; i < n; i++)
        if (offers(nodes[i].node, name, level, &a))
            return;
    buf_addf(b, " The machine needs hypervisor " STR_FMT ", which no node offers:", STR_ARG(name));
    for (size_t i = 0; i < n && i < NAMED; i++)
        buf_addf(b, "%s node " STR_FMT ": %s", i ? ";" : "", STR_ARG(meta_name(nodes[i].node)), reason_of(nodes[i].node, name, level, &a));
    if (n > NAMED)
        buf_addf(b, "; and %zu more (virtctl hypervisors)", n - NAMED);
    buf_adds(b, ". Mend that, or let the annotation " KV_ANNOTATION_HYPERVISOR " name another one.");
}

bool scheduler_needs_kvm(const struct json *pod)
{
    unsigned level;
    struct str name = scheduler_hypervisor(pod, &level);
    const struct vmm_caps *v = name.n ? vmm_caps_find(name) : NULL;

    return v && !(v->accelerators & VMM_CAPS_TCG);
}
