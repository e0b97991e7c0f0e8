#include "controller/node_metrics.h"

#include "api/kv.h"
#include "api/meta.h"
#include "base/cleanup.h"

/* The node agents' own texts, still: a label's value is quoted, and short. */
static void value(struct buf *b, const char *label, struct str text)
{
    text = str_take(text, 128);
    buf_addf(b, "%s=\"", label);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '"' || text.p[i] == '\\')
            buf_addc(b, '\\');
        buf_addc(b, text.p[i] == '\n' ? ' ' : text.p[i]);
    }
    buf_addc(b, '"');
}

static void accelerators(struct str node, const struct json *report, struct buf *b)
{
    json_each_item(v, json_get(report, "accelerators")) {
        buf_adds(b, "vireo_node_accelerator{");
        value(b, "node", node);
        value(b, ",accelerator", json_str_at(v, "name"));
        value(b, ",verdict", json_str_at(v, "verdict"));
        buf_addf(b, "} %d\n", str_is(json_str_at(v, "verdict"), "works"));
    }
}

static void vmms(struct str node, const struct json *report, struct buf *b)
{
    json_each_item(v, json_get(report, "vmms")) {
        bool usable = json_bool_at(v, "usable", false);

        buf_adds(b, "vireo_node_vmm_info{");
        value(b, "node", node);
        value(b, ",vmm", json_str_at(v, "name"));
        value(b, ",version", json_str_at(v, "version"));
        value(b, ",state", json_str_at(v, "state"));
        buf_addf(b, ",usable=\"%s\"} 1\n", usable ? "true" : "false");
    }
}

static void each(const struct json *nodes, void (*write)(struct str node, const struct json *report, struct buf *b), struct buf *b)
{
    json_each_item(node, nodes) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *report;

        if (json_parse(meta_annotation(node, KV_ANNOTATION_REPORT), &a, &report, &err))
            write(meta_name(node), report, b);
    }
}

void node_metrics_write(const struct json *nodes, struct buf *b)
{
    buf_adds(b, "# HELP vireo_node_accelerator Whether an accelerator of a node works, with the verdict of its probe.\n"
                "# TYPE vireo_node_accelerator gauge\n");
    each(nodes, accelerators, b);
    buf_adds(b, "# HELP vireo_node_vmm_info Hypervisors of a node: version, state, and whether machines can use them.\n"
                "# TYPE vireo_node_vmm_info gauge\n");
    each(nodes, vmms, b);
}
