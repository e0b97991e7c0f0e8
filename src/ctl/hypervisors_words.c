#include "ctl/hypervisors.h"

#include "api/kv.h"
#include "api/meta.h"
#include "api/vmm_caps.h"
#include "base/cleanup.h"

/* --- the cluster ----------------------------------------------------------------------------------------------------------- */

static const struct json *report_of(const struct json *node, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *report = NULL;

    return json_parse(meta_annotation(node, KV_ANNOTATION_REPORT), a, &report, &err) ? report : NULL;
}

static bool has(const struct json *list, struct str text)
{
    json_each_item(v, list)
        if (str_eq(json_str(v), text))
            return true;
    return false;
}

static const struct json *with_new(struct arena *a, const struct json *list, struct str text)
{
    return !text.n || has(list, text) ? list : json_append(a, list, json_new_str(a, text));
}

struct tally {
    int64_t nodes, usable;
    const struct json *accelerators, *versions, *reasons, *note;
};

static void count(struct tally *t, const struct json *node, const struct json *vmm, struct arena *a)
{
    struct str reason = json_str_at(vmm, "reason");

    t->nodes++;
    if (json_bool_at(vmm, "usable", false)) {
        t->usable++;
        t->note = json_str_at(vmm, "reason").n ? json_get(vmm, "reason") : t->note;
        t->versions = with_new(a, t->versions, json_str_at(vmm, "version"));
        json_each_item(x, json_get(vmm, "accelerators"))
            t->accelerators = with_new(a, t->accelerators, json_str(x));
        return;
    }
    t->reasons = json_append(a, t->reasons,
                             json_object(a, "node", json_new_str(a, meta_name(node)), "reason",
                                         vmm ? json_new_str(a, reason) : json_new_z(a, "its node agent has not said anything of it"), NULL));
}

static const struct json *of_vmm(struct str name, const char *title, const struct json *nodes, const struct kv_config *kv, struct arena *a)
{
    struct tally t = {.accelerators = json_array(a, NULL), .versions = json_array(a, NULL), .reasons = json_array(a, NULL)};

    json_each_item(node, nodes) {
        const struct json *found = NULL;

        json_each_item(v, json_get(report_of(node, a), "vmms"))
            if (str_eq(json_str_at(v, "name"), name))
                found = v;
        count(&t, node, found, a);
    }
    return json_object(a, "name", json_new_str(a, name), "title", json_new_z(a, title), "default",
                       json_new_bool(str_eq(kv_vmm_default(kv), name)), "allowed", json_new_bool(kv_vmm_allowed(kv, name)), "nodes",
                       json_new_i64(a, t.nodes), "usable", json_new_i64(a, t.usable), "accelerators", t.accelerators, "versions",
                       t.versions, "note", t.note, "reasons", t.reasons, NULL);
}

const struct json *hypervisors_of_cluster(const struct json *nodes, const struct json *kubevirt, struct arena *a)
{
    struct kv_config *kv = kv_config_new(kubevirt);
    const struct json *out = json_array(a, NULL), *names = out;
    const struct vmm_caps *known;

    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++) {
        if ((*v)->hidden) /* it is shown where a node offers it */
            continue;
        names = json_append(a, names, json_new_z(a, (*v)->name));
        out = json_append(a, out, of_vmm(str_of((*v)->name), (*v)->title, nodes, kv, a));
    }
    json_each_item(node, nodes) /* a server of another release may know more */
        json_each_item(v, json_get(report_of(node, a), "vmms")) {
            struct str name = json_str_at(v, "name");

            if (!name.n || has(names, name))
                continue;
            names = json_append(a, names, json_new_str(a, name));
            known = vmm_caps_find(name);
            out = json_append(a, out, of_vmm(name, known ? known->title : NULL, nodes, kv, a));
        }
    kv_config_free(kv);
    return out;
}

/* --- tables ---------------------------------------------------------------------------------------------------------------- */

#define COLUMNS 8
#define ROWS 128

struct table {
    const char *cells[ROWS][COLUMNS];
    size_t rows, columns;
};

/* The last column is as long as it likes. */
static void print_table(const struct table *t, struct buf *b)
{
    size_t width[COLUMNS] = {0};

    for (size_t r = 0; r < t->rows; r++)
        for (size_t k = 0; k + 1 < t->columns; k++)
            if (strlen(t->cells[r][k]) > width[k])
                width[k] = strlen(t->cells[r][k]);
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t k = 0; k + 1 < t->columns; k++)
            buf_addf(b, "%-*s   ", (int)width[k], t->cells[r][k]);
        buf_addf(b, "%s\n", t->cells[r][t->columns - 1]);
    }
}

static const char *joined(const struct json *list, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};

    json_each_item(v, list)
        buf_addf(&b, "%s" STR_FMT, b.n ? "," : "", STR_ARG(json_str(v)));
    return b.n ? arena_strdup(a, buf_str(&b)) : "-";
}

static const char *or_dash(struct str s, struct arena *a)
{
    return s.n ? arena_strdup(a, s) : "-";
}

static const char *first_reason(const struct json *v, struct arena *a)
{
    const struct json *reasons = json_get(v, "reasons"), *first = json_item(reasons, 0);
    size_t more = json_len(reasons);

    if (!json_bool_at(v, "allowed", true))
        return "the KubeVirt object's spec.configuration.hypervisors does not name it";
    if (json_str_at(v, "note").n) /* that nothing runs goes before what other nodes lack */
        return arena_strdup(a, json_str_at(v, "note"));
    if (!first)
        return "";
    return more == 1 ? arena_printf(a, STR_FMT ": " STR_FMT, STR_ARG(json_str_at(first, "node")), STR_ARG(json_str_at(first, "reason")))
                     : arena_printf(a, STR_FMT ": " STR_FMT " (and %zu more)", STR_ARG(json_str_at(first, "node")),
                                    STR_ARG(json_str_at(first, "reason")), more - 1);
}

void hypervisors_table(const struct json *list, struct buf *b)
{
    AUTO(arena_done) struct arena a = {0};
    struct table *t = ARENA_NEW(&a, struct table);

    *t = (struct table){.rows = 1, .columns = 6, .cells = {{"NAME", "ALLOWED", "NODES", "ACCELERATORS", "VERSIONS", "REASON"}}};
    json_each_item(v, list) {
        const char **row = t->cells[t->rows];

        if (t->rows == ROWS)
            break;
        row[0] = or_dash(json_str_at(v, "name"), &a);
        row[1] = json_bool_at(v, "default", false) ? "default" : json_bool_at(v, "allowed", false) ? "yes" : "no";
        row[2] = arena_printf(&a, "%lld/%lld", (long long)json_i64_at(v, "usable", 0), (long long)json_i64_at(v, "nodes", 0));
        row[3] = joined(json_get(v, "accelerators"), &a);
        row[4] = joined(json_get(v, "versions"), &a);
        row[5] = first_reason(v, &a);
        t->rows++;
    }
    print_table(t, b);
}

void hypervisors_node_table(const struct json *report, struct buf *b)
{
    AUTO(arena_done) struct arena a = {0};
    struct table *t = ARENA_NEW(&a, struct table), *u = ARENA_NEW(&a, struct table);

    *t = (struct table){.rows = 1, .columns = 3, .cells = {{"ACCELERATOR", "VERDICT", "REASON"}}};
    json_each_item(v, json_get(report, "accelerators")) {
        const char **row = t->cells[t->rows];
        struct str fix = json_str_at(v, "fix");

        if (t->rows == ROWS)
            break;
        row[0] = or_dash(json_str_at(v, "name"), &a);
        row[1] = or_dash(json_str_at(v, "verdict"), &a);
        row[2] = arena_printf(&a, STR_FMT "%s" STR_FMT, STR_ARG(json_str_at(v, "reason")), fix.n ? "; " : "", STR_ARG(fix));
        t->rows++;
    }
    print_table(t, b);
    buf_addc(b, '\n');
    *u = (struct table){.rows = 1, .columns = 6, .cells = {{"NAME", "STATE", "VERSION", "MINIMUM", "ACCELERATORS", "REASON"}}};
    json_each_item(v, json_get(report, "vmms")) {
        const char **row = u->cells[u->rows];

        if (u->rows == ROWS)
            break;
        row[0] = or_dash(json_str_at(v, "name"), &a);
        row[1] = or_dash(json_str_at(v, "state"), &a);
        row[2] = or_dash(json_str_at(v, "version"), &a);
        row[3] = or_dash(json_str_at(v, "minimum"), &a);
        row[4] = joined(json_get(v, "accelerators"), &a);
        row[5] = arena_strdup(&a, json_str_at(v, "reason").n ? json_str_at(v, "reason") : json_str_at(v, "path"));
        u->rows++;
    }
    print_table(u, b);
}

/* --- explain --------------------------------------------------------------------------------------------------------------- */

/* The field without what is before the VMI's spec, and without items: "domain/devices/disks/disk/bus". */
static char *plain_path(const char *field, struct arena *a)
{
    static const char *const before[] = {"vm.", "vmi.", "spec.template.spec.", "spec.template.", "template.spec.", "spec."};
    struct str s = str_of(field), part;
    AUTO(buf_done) struct buf b = {0};

    for (size_t i = 0; i < ARRAY_SIZE(before); i++)
        if (str_starts(s, str_of(before[i])))
            s = str_skip(s, strlen(before[i]));
    while (str_next(&s, '.', &part)) {
        struct str name, rest;

        str_cut(part, '[', &name, &rest);
        if (name.n && !str_is(name, "*"))
            buf_addf(&b, "%s" STR_FMT, b.n ? "/" : "", STR_ARG(name));
    }
    return arena_strdup(a, buf_str(&b));
}

/* How a row's path and a field's lie to each other, items of lists left out of the first. */
enum relation { APART, SAME, BELOW, ABOVE }; /* the row is below the field, or speaks of all that is below it */

static enum relation relation_of(const struct vmm_caps_row *row, const char *field)
{
    struct str path = str_of(vmm_caps_text(row->path)), want = str_of(field), p, w;

    for (;;) {
        bool more_p, more_w;

        do
            more_p = str_next(&path, '/', &p);
        while (more_p && str_is(p, "*"));
        if (more_p && str_is(p, "**"))
            more_p = false;
        more_w = str_next(&want, '/', &w);
        if (!more_p)
            return !more_w ? SAME : row->flags & VMM_CAPS_SUBTREE ? ABOVE : APART;
        if (!more_w)
            return BELOW;
        if (!str_eq(p, w))
            return APART;
    }
}

static const char *condition_of(const struct vmm_caps_row *row, struct arena *a)
{
    const char *value = vmm_caps_text(row->value);

    switch ((enum vmm_caps_when)row->when) {
    case VMM_CAPS_NONE:
        return NULL;
    case VMM_CAPS_SET:
        return row->verdict == VMM_CAPS_HONOURED || row->verdict == VMM_CAPS_LIMIT ? "any value" : NULL;
    case VMM_CAPS_TRUE:
        return "true";
    case VMM_CAPS_FALSE:
        return "false";
    case VMM_CAPS_TRUE_OR_ABSENT:
        return "true, or left out";
    case VMM_CAPS_ON:
        return "switched on";
    case VMM_CAPS_IS:
        return arena_printf(a, "one of %s", value);
    case VMM_CAPS_NOT:
        return arena_printf(a, "other than %s", value);
    case VMM_CAPS_NOT_PREFIX:
        return arena_printf(a, "not beginning with %s", value);
    case VMM_CAPS_ABOVE:
        return arena_printf(a, "above %s", value);
    case VMM_CAPS_BELOW:
        return arena_printf(a, "below %s", value);
    case VMM_CAPS_UNALIGNED:
        return arena_printf(a, "no multiple of %s", value);
    case VMM_CAPS_LONGER:
        return arena_printf(a, "longer than %s bytes", value);
    case VMM_CAPS_MORE:
        return arena_printf(a, "more than %s", value);
    }
    return NULL;
}

static const char *verdict_name(const struct vmm_caps_row *row)
{
    switch ((enum vmm_caps_verdict)row->verdict) {
    case VMM_CAPS_HONOURED:
        return "honoured";
    case VMM_CAPS_LIMIT:
        return "limited";
    case VMM_CAPS_NEVER:
        return "never";
    case VMM_CAPS_NOTYET:
        return "not yet";
    case VMM_CAPS_PLAYED:
        return "played";
    }
    return "";
}

static const char *dotted(struct str path, struct arena *a)
{
    char *text = arena_strdup(a, path);

    for (char *p = text; *p; p++)
        if (*p == '/')
            *p = '.';
    return text;
}

static const struct json *row_of(const struct vmm_caps *v, const struct vmm_caps_row *row, struct arena *a)
{
    unsigned since = row->since ? row->since : v->minimum;
    const char *reason = vmm_caps_text(row->reason);

    return json_object(a, "path", json_new_f(a, "spec.%s", dotted(str_of(vmm_caps_text(row->path)), a)), "verdict", json_new_z(a, verdict_name(row)), "refused",
                       row->verdict == VMM_CAPS_HONOURED ? NULL : json_new_z(a, condition_of(row, a)), "needs",
                       row->verdict == VMM_CAPS_HONOURED ? json_new_z(a, condition_of(row, a)) : NULL, "since",
                       row->verdict == VMM_CAPS_HONOURED || row->verdict == VMM_CAPS_LIMIT ? json_new_f(a, "%u.%u", since / 100, since % 100)
                                                                                           : NULL,
                       "reason", *reason ? json_new_z(a, reason) : NULL, NULL);
}

/* Rows of the field itself, or below it; else what is said of what it is in. */
static const struct json *rows_of(const struct vmm_caps *v, const char *field, struct arena *a)
{
    const struct json *own = json_array(a, NULL), *above = own;
    size_t longest = 0;

    for (size_t i = 0; i < v->n_rows; i++) {
        const char *path = vmm_caps_text(v->rows[i].path);

        switch (relation_of(&v->rows[i], field)) {
        case APART:
            continue;
        case SAME:
        case BELOW:
            own = json_append(a, own, row_of(v, &v->rows[i], a));
            continue;
        case ABOVE: /* the nearest speaks */
            if (strlen(path) > longest)
                above = json_array(a, NULL);
            if (strlen(path) >= longest)
                above = json_append(a, above, row_of(v, &v->rows[i], a));
            longest = strlen(path) > longest ? strlen(path) : longest;
            continue;
        }
    }
    return json_len(own) ? own : above;
}

bool hypervisors_explain(const char *field, struct arena *a, const struct json **ret, struct error *err)
{
    const char *path = plain_path(field, a);
    const struct json *list = json_array(a, NULL);
    bool any = false;

    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++) {
        const struct json *rows = *path ? rows_of(*v, path, a) : json_array(a, NULL);

        if ((*v)->hidden)
            continue;
        any |= json_len(rows) > 0;
        list = json_append(a, list, json_object(a, "name", json_new_z(a, (*v)->name), "rows", rows, NULL));
    }
    if (!any)
        return error_set(err, ERROR_NOT_FOUND, "no field '%s' below a VirtualMachineInstance's spec: kubectl explain vmi.spec shows them", field);
    *ret = json_object(a, "field", json_new_z(a, field), "hypervisors", list, NULL);
    return true;
}

void hypervisors_explain_table(const struct json *v, struct buf *b)
{
    AUTO(arena_done) struct arena a = {0};

    buf_addf(b, STR_FMT "\n", STR_ARG(json_str_at(v, "field")));
    json_each_item(h, json_get(v, "hypervisors")) {
        const struct json *rows = json_get(h, "rows");

        if (!json_len(rows))
            buf_addf(b, "  %-17s nothing is said of it\n", arena_strdup(&a, json_str_at(h, "name")));
        json_each_item(r, rows) {
            struct str refused = json_str_at(r, "refused"), needs = json_str_at(r, "needs"), reason = json_str_at(r, "reason");

            buf_addf(b, "  %-17s " STR_FMT ": " STR_FMT, arena_strdup(&a, json_str_at(h, "name")), STR_ARG(json_str_at(r, "path")),
                     STR_ARG(json_str_at(r, "verdict")));
            if (json_str_at(r, "since").n)
                buf_addf(b, ", since version " STR_FMT "%s" STR_FMT, STR_ARG(json_str_at(r, "since")), needs.n ? " for " : "",
                         STR_ARG(needs));
            if (refused.n)
                buf_addf(b, "; refused: " STR_FMT, STR_ARG(refused));
            if (reason.n)
                buf_addf(b, refused.n ? " (" STR_FMT ")" : ": " STR_FMT, STR_ARG(reason));
            buf_addc(b, '\n');
        }
    }
}
