/* hypervisors: what the cluster allows, what its nodes can run, and why not; what each hypervisor makes of a field. */
#include <stdio.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "ctl/hypervisors.h"
#include "ctl/verbs.h"
#include "json/yaml.h"

#define NODES "/api/v1/nodes"
#define PROBE_PATIENCE SECONDS(60)
#define PROBE_LOOK MILLIS(250)

/* --- what the server says -------------------------------------------------------------------------------------------------- */

static const struct json *report_of(const struct json *node, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *report = NULL;

    return json_parse(meta_annotation(node, KV_ANNOTATION_REPORT), a, &report, &err) ? report : NULL;
}

static bool get_nodes(struct ctl *c, const char *name, struct ctl_reply *reply, const struct json **ret, struct error *err)
{
    AUTO_FREE char *path = name ? xasprintf(NODES "/%s", name) : xstrdup(NODES);

    if (!ctl_call(c, HTTP_GET, path, NULL, reply, err))
        return name ? error_wrap(err, "no node %s", name) : error_wrap(err, "no list of nodes");
    *ret = name ? json_array(&reply->arena, reply->body, NULL) : json_get(reply->body, "items");
    return true;
}

/* --- --probe --------------------------------------------------------------------------------------------------------------- */

static bool request_probe(struct ctl *c, const char *node, const char *request, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO_FREE char *path = xasprintf(NODES "/%s", node);

    return ctl_call(c, HTTP_PATCH, path,
                    json_object(&a, "metadata",
                                json_object(&a, "annotations", json_object(&a, KV_ANNOTATION_PROBE, json_new_z(&a, request), NULL), NULL),
                                NULL),
                    NULL, err)
           || error_wrap(err, "cannot ask node %s for a probe", node);
}

struct pause {
    struct loop_timer timer;
    bool over;
};

static void on_pause(struct loop_timer *t)
{
    container_of(t, struct pause, timer)->over = true;
}

static void take_a_break(struct ctl *c)
{
    struct pause p = {0};

    loop_timer_start(c->loop, &p.timer, PROBE_LOOK, on_pause);
    ctl_wait(c, &p.over);
}

static bool wait_for_probe(struct ctl *c, const char *node, const char *request, struct error *err)
{
    int64_t until = loop_now_ns(c->loop) + PROBE_PATIENCE;

    for (;;) {
        AUTO(ctl_reply_done) struct ctl_reply reply = {0};
        const struct json *list;

        if (!get_nodes(c, node, &reply, &list, err))
            return false;
        if (str_is(json_str_at(report_of(json_item(list, 0), &reply.arena), "requested"), request))
            return true;
        if (loop_now_ns(c->loop) > until)
            return error_set(err, ERROR_TIMEOUT, "node %s has not answered within %d s: does its agent run?", node,
                             (int)(PROBE_PATIENCE / SECONDS(1)));
        take_a_break(c);
    }
}

/* All nodes are asked before the first is waited for. */
static bool probe(struct ctl *c, const struct json *nodes, struct error *err)
{
    AUTO_FREE char *request = xasprintf("virtctl-%lld-%d", (long long)loop_unix_ns(c->loop), (int)getpid());

    for (int round = 0; round < 2; round++)
        json_each_item(node, nodes) {
            AUTO_FREE char *name = str_dup(meta_name(node));

            if (!(round == 0 ? request_probe(c, name, request, err) : wait_for_probe(c, name, request, err)))
                return false;
        }
    return true;
}

/* --- the verb -------------------------------------------------------------------------------------------------------------- */

static bool print_as(struct ctl *c, const char *form, const struct json *v, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, LIMIT_HTTP_BODY);
    if (strcmp(form, "json") == 0) {
        json_write_pretty(&b, v, 4);
        buf_addc(&b, '\n');
    } else {
        yaml_write(&b, v);
    }
    return ctl_print_buf(c, &b, err);
}

static bool show(struct ctl *c, const char *node, struct error *err)
{
    const char *form = flags_str(&c->flags, "output");
    AUTO(ctl_reply_done) struct ctl_reply nodes = {0}, kubevirts = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    const struct json *list, *report;

    if (!get_nodes(c, node, &nodes, &list, err))
        return false;
    if (flags_bool(&c->flags, "probe")) {
        if (!probe(c, list, err))
            return false;
        ctl_reply_done(&nodes);
        nodes = (struct ctl_reply){0};
        if (!get_nodes(c, node, &nodes, &list, err))
            return false;
    }
    if (node) {
        report = report_of(json_item(list, 0), &a);
        if (!report)
            return error_set(err, ERROR_NOT_FOUND, "node %s has not said what it can run: does its agent run?", node);
        if (*form)
            return print_as(c, form, report, err);
        hypervisors_node_table(report, &b);
        return ctl_print_buf(c, &b, err);
    }
    if (!ctl_call(c, HTTP_GET, "/apis/kubevirt.io/v1/kubevirts", NULL, &kubevirts, err))
        return error_wrap(err, "no KubeVirt object");
    report = hypervisors_of_cluster(list, json_item(json_get(kubevirts.body, "items"), 0), &a);
    if (*form)
        return print_as(c, form, report, err);
    hypervisors_table(report, &b);
    return ctl_print_buf(c, &b, err);
}

static bool explain(struct ctl *c, struct error *err)
{
    const char *form = flags_str(&c->flags, "output");
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    const struct json *all = json_array(&a, NULL);

    if (c->n_args == 1)
        return error_set(err, ERROR_BAD_REQUEST, "hypervisors explain wants fields, as spec.domain.devices.tpm");
    for (size_t i = 1; i < c->n_args; i++) {
        const struct json *v = NULL;

        if (!hypervisors_explain(c->args[i], &a, &v, err))
            return false;
        all = json_append(&a, all, v);
    }
    if (*form)
        return print_as(c, form, json_len(all) == 1 ? json_item(all, 0) : all, err);
    buf_init(&b, LIMIT_HTTP_BODY);
    json_each_item(v, all)
        hypervisors_explain_table(v, &b);
    return ctl_print_buf(c, &b, err);
}

static bool run(struct ctl *c, struct error *err)
{
    const char *form = flags_str(&c->flags, "output");

    if (*form && strcmp(form, "yaml") != 0 && strcmp(form, "json") != 0)
        return error_set(err, ERROR_BAD_REQUEST, "--output is yaml or json, not '%s'", form);
    if (c->n_args && strcmp(c->args[0], "explain") == 0)
        return explain(c, err);
    if (c->n_args > 1)
        return error_set(err, ERROR_BAD_REQUEST, "hypervisors: '%s' is one argument too many: one node, or explain FIELD…", c->args[1]);
    return show(c, c->n_args ? c->args[0] : NULL, err);
}

static const struct flag flags[] = {
    {"output", 'o', FLAG_STRING, NULL, "yaml or json; otherwise a table"},
    {"probe", 0, FLAG_BOOL, NULL, "have the node, or all of them, find out anew first"},
};

const struct ctl_verb ctl_hypervisors = {
    .name = "hypervisors", .args = "[NODE | explain FIELD…]", .max_args = UINT32_MAX,
    .summary = "Show which hypervisors can be used, where, and what each makes of a field",
    .examples = "# of the cluster\nhypervisors\n# of node 'n1', found out anew\nhypervisors n1 --probe\n# what each does with a field "
                "(no server is needed)\nhypervisors explain spec.domain.devices.tpm",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
