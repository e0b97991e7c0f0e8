#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/kv_config.h"
#include "api/quantity.h"
#include "api/types.h"
#include "api/vmm_caps.h"
#include "base/alloc.h"
#include "base/cleanup.h"

/* The tables are judged from outside here: by the schema's own tables and by what admission says of VMIs that are made from
 * each row. How the tables are made (tools/gen-caps) is not looked at. */

/* --- the schema's leaves ----------------------------------------------------------------------------------------------- */

struct node {
    char path[256]; /* "domain/devices/disks/·/disk/bus", with a star */
    const struct schema_type *type;
    bool leaf;
};
static struct node nodes[2048];
static size_t n_nodes;

static void walk_schema(const struct schema_type *t, const char *path, unsigned depth)
{
    struct node *n = &nodes[n_nodes++];

    assert_true(n_nodes < ARRAY_SIZE(nodes) && depth < 24);
    snprintf(n->path, sizeof n->path, "%s", path);
    n->type = t;
    n->leaf = t->kind == SCHEMA_OBJECT ? t->n_fields == 0 : t->kind != SCHEMA_LIST && t->kind != SCHEMA_MAP;
    if (t->kind == SCHEMA_LIST || t->kind == SCHEMA_MAP) {
        AUTO_FREE char *below = xasprintf("%s/*", path);

        walk_schema(t->item, below, depth + 1);
    }
    for (size_t i = 0; t->kind == SCHEMA_OBJECT && i < t->n_fields; i++) {
        AUTO_FREE char *below = xasprintf("%s%s%s", path, *path ? "/" : "", t->fields[i].name);

        walk_schema(t->fields[i].type, below, depth + 1);
    }
}

/* Whether a pattern names the path, or (with `below`) something above it. */
static bool names(const char *pattern, const char *path, bool below)
{
    struct str p = str_of(pattern), q = str_of(path), one, other;

    while (str_next(&p, '/', &one))
        if (!str_next(&q, '/', &other) || (!str_is(one, "*") && !str_eq(one, other)))
            return false;
    return below || !str_next(&q, '/', &other);
}

static bool row_names(const struct vmm_caps_row *r, const char *path)
{
    return names(vmm_caps_text(r->path), path, r->flags & VMM_CAPS_SUBTREE);
}

static bool taken(const struct vmm_caps_row *r)
{
    return r->verdict == VMM_CAPS_HONOURED || r->verdict == VMM_CAPS_PLAYED;
}

static bool whole(const struct vmm_caps_row *r) /* it refuses all that differs from leaving the field out */
{
    return !taken(r) && r->when >= VMM_CAPS_SET && r->when <= VMM_CAPS_ON;
}

static size_t parts(const struct vmm_caps_row *r)
{
    size_t n = 0;

    for (const char *c = vmm_caps_text(r->path); *c; c++)
        n += *c == '/';
    return n;
}

/* A leaf's verdict. More than one is a contradiction, but that of two honoured ones the nearer speaks, and that what the
 * platform honours a VMM may lack. */
static bool verdict_of(const struct vmm_caps *v, const char *path, enum vmm_caps_verdict *ret)
{
    const struct vmm_caps_row *base = NULL, *refusal = NULL;
    bool limit = false;

    for (size_t i = 0; i < v->n_rows; i++) {
        const struct vmm_caps_row *r = &v->rows[i];

        if (!row_names(r, path))
            continue;
        if (whole(r)) {
            if (refusal) {
                print_error("%s %s: refused by two rows\n", v->name, path);
                return false;
            }
            refusal = r;
        } else if (!taken(r)) {
            limit = true;
        } else if (r->when == VMM_CAPS_NONE && (!base || parts(r) > parts(base) || (r->flags & VMM_CAPS_OWN))) {
            base = r;
        }
    }
    if (!base && !refusal && !limit) {
        print_error("%s %s: no verdict\n", v->name, path);
        return false;
    }
    if (base && refusal && base->verdict != VMM_CAPS_PLAYED /* what nobody gets here is not played either */
        && ((base->flags & VMM_CAPS_OWN) || !(refusal->flags & VMM_CAPS_OWN))) {
        print_error("%s %s: honoured and refused\n", v->name, path);
        return false;
    }
    *ret = refusal ? (enum vmm_caps_verdict)refusal->verdict : limit ? VMM_CAPS_LIMIT : VMM_CAPS_HONOURED;
    return true;
}

static void every_leaf_has_one_verdict(void **state)
{
    unsigned bad = 0, leaves = 0, vmms = 0;

    (void)state;
    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++, vmms++) {
        unsigned counts[4] = {0};

        for (size_t i = 0; i < n_nodes; i++) {
            enum vmm_caps_verdict verdict;

            if (!nodes[i].leaf)
                continue;
            if (verdict_of(*v, nodes[i].path, &verdict))
                counts[verdict]++;
            else
                bad++;
            leaves++;
        }
        print_message("%-17s honoured %u, with a limit %u, never %u, not yet %u\n", (*v)->name, counts[VMM_CAPS_HONOURED],
                      counts[VMM_CAPS_LIMIT], counts[VMM_CAPS_NEVER], counts[VMM_CAPS_NOTYET]);
    }
    print_message("%u leaves × %u VMMs = %u verdicts\n", leaves / vmms, vmms, leaves);
    assert_true(leaves / vmms > 350);
    assert_int_equal(bad, 0);
}

/* --- what is made from a row ------------------------------------------------------------------------------------------- */

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    assert_true(json_parse(str_of(text), a, &v, &err));
    return v;
}

/* Something of the type that is no null, no empty list and no empty text. */
static const struct json *sample(struct arena *a, const struct schema_type *t)
{
    switch (t->kind) {
    case SCHEMA_OBJECT:
        return parse(a, "{}");
    case SCHEMA_MAP:
        return json_object(a, "k", sample(a, t->item), NULL);
    case SCHEMA_LIST:
        return json_array(a, sample(a, t->item), NULL);
    case SCHEMA_BOOL:
        return json_new_bool(true);
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_NUMBER:
        return json_new_i64(a, 1);
    case SCHEMA_STRING:
    case SCHEMA_BYTES:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_DURATION:
    case SCHEMA_ANY:
        return json_new_z(a, "1");
    }
    return NULL;
}

static const struct json *number(struct arena *a, const struct schema_type *t, const char *bound, int off)
{
    AUTO(error_clear) struct error err = {0};
    struct quantity q;
    int64_t v;

    assert_true(quantity_parse(str_of(bound), &q, &err));
    v = quantity_value(q) + off;
    return t->kind == SCHEMA_QUANTITY ? json_new_f(a, "%lld", (long long)v) : json_new_i64(a, v);
}

static const struct json *repeated(struct arena *a, const struct schema_type *t, const char *n, size_t more)
{
    const struct json *list = json_array(a, NULL);
    size_t count = strtoul(n, NULL, 10) + more;

    if (t->kind != SCHEMA_LIST) {
        char *text = ARENA_ARRAY(a, char, count + 1);

        memset(text, 'x', count);
        return json_new_str(a, str_n(text, count));
    }
    while (count--)
        list = json_append(a, list, sample(a, t->item));
    return list;
}

/* Values of which the row speaks (in), and others of the same type (not in); JSON, at most 8 of each. ABSENT: the member is left out. */
static const struct json absent_value;
#define ABSENT (&absent_value)

struct values {
    const struct json *in[8], *out[8];
    size_t n_in, n_out;
};

static void each_of(struct arena *a, const char *list, const struct json **ret, size_t *n)
{
    struct str rest = str_of(list), one;

    while (str_next(&rest, '|', &one) && *n < 8)
        ret[(*n)++] = one.p[one.n - 1] == '*' ? json_new_f(a, STR_FMT "x", (int)one.n - 1, one.p) : json_new_str(a, one);
}

static void values_of(struct arena *a, const struct vmm_caps_row *r, const struct schema_type *t, struct values *ret)
{
    const char *value = vmm_caps_text(r->value);
    const char *member = t->kind == SCHEMA_OBJECT && schema_field(t, STR("present")) ? "present" : "enabled";

#define IN(v) ret->in[ret->n_in++] = (v)
#define OUT(v) ret->out[ret->n_out++] = (v)
    *ret = (struct values){0};
    switch ((enum vmm_caps_when)r->when) {
    case VMM_CAPS_NONE:
        return;
    case VMM_CAPS_SET:
        IN(sample(a, t));
        OUT(ABSENT);
        if (t->kind == SCHEMA_LIST)
            OUT(parse(a, "[]"));
        if (t->kind == SCHEMA_STRING)
            OUT(json_new_z(a, ""));
        return;
    case VMM_CAPS_TRUE:
        IN(json_new_bool(true));
        OUT(json_new_bool(false));
        return;
    case VMM_CAPS_FALSE:
        IN(json_new_bool(false));
        OUT(json_new_bool(true));
        return;
    case VMM_CAPS_TRUE_OR_ABSENT:
        IN(json_new_bool(true));
        IN(ABSENT);
        OUT(json_new_bool(false));
        return;
    case VMM_CAPS_ON:
        IN(parse(a, "{}"));
        IN(json_object(a, member, json_new_bool(true), NULL));
        OUT(json_object(a, member, json_new_bool(false), NULL));
        return;
    case VMM_CAPS_IS:
        each_of(a, value, ret->in, &ret->n_in);
        OUT(json_new_z(a, "another-text"));
        return;
    case VMM_CAPS_NOT:
        IN(json_new_z(a, "another-text"));
        each_of(a, value, ret->out, &ret->n_out);
        return;
    case VMM_CAPS_NOT_PREFIX:
        IN(json_new_z(a, "another-text"));
        OUT(json_new_f(a, "%sx", value));
        return;
    case VMM_CAPS_ABOVE:
        IN(number(a, t, value, 1));
        OUT(number(a, t, value, 0));
        return;
    case VMM_CAPS_BELOW:
        IN(number(a, t, value, -1));
        OUT(number(a, t, value, 0));
        return;
    case VMM_CAPS_UNALIGNED:
        IN(number(a, t, value, 1));
        OUT(number(a, t, value, 0));
        return;
    case VMM_CAPS_LONGER:
    case VMM_CAPS_MORE:
        IN(repeated(a, t, value, 1));
        OUT(repeated(a, t, value, 0));
        return;
    }
}

/* A spec that has `value` at the path and nothing else; and the field's name as messages have it. */
static const struct json *wrap(struct arena *a, const struct schema_type *t, struct str path, const struct json *value,
                               struct buf *name)
{
    struct str part, rest = path;
    const struct json *below;

    if (!str_next(&rest, '/', &part))
        return value;
    if (t->kind == SCHEMA_LIST) {
        buf_adds(name, "[0]");
        below = wrap(a, t->item, rest, value, name);
        return below == ABSENT ? json_array(a, NULL) : json_array(a, below, NULL);
    }
    if (t->kind == SCHEMA_MAP)
        part = STR("k");
    buf_addf(name, ".%.*s", STR_ARG(part));
    below = wrap(a, t->kind == SCHEMA_MAP ? t->item : schema_field(t, part)->type, rest, value, name);
    return below == ABSENT ? parse(a, "{}") : json_with_str(a, parse(a, "{}"), part, below);
}

static const struct json *merged(struct arena *a, const struct json *base, const struct json *over)
{
    if (!json_is(base, JSON_OBJECT) || !json_is(over, JSON_OBJECT))
        return over;
    json_each_member(m, over)
        base = json_with_str(a, base, json_str(&m->key), merged(a, json_get_str(base, json_str(&m->key)), &m->value));
    return base;
}

/* What this VMM asks for, so that only the row can be what is refused. */
static const struct json *good(struct arena *a, const struct vmm_caps *v)
{
    const struct json *spec = parse(a, "{\"domain\":{\"devices\":{}}}");

    for (const struct vmm_caps_pair *t = v->required; t->key; t++) {
        AUTO(buf_done) struct buf ignored = {0};
        struct str first = str_n(t->key, strcspn(t->key, "|"));

        for (size_t i = 0; i < n_nodes; i++)
            if (str_is(first, nodes[i].path))
                spec = merged(a, spec, wrap(a, nodes[0].type, first, sample(a, nodes[i].type), &ignored));
    }
    return spec;
}

static const char *judge(struct arena *a, const struct vmm_caps *v, const struct json *spec, const char *at)
{
    static struct kv_config *config;
    struct schema_causes causes = {0};
    AUTO(buf_done) struct buf b = {0};

    if (!config) {
        config = kv_config_new(NULL);
        config->architecture = STR("1"); /* the sample of a text */
    }
    kv_unsupported(spec, str_of(v->name), at, config, a, &causes);
    for (size_t i = 0; i < causes.n; i++)
        buf_addf(&b, "%s%s: %s", i ? "\n" : "", causes.p[i].field, causes.p[i].message);
    return b.n ? arena_strdup(a, buf_str(&b)) : "";
}

/* Where a switch counts as on unless it is written, a spec that is to differ in something else has to write it. */
static const struct json *switched_off(struct arena *a, const struct vmm_caps *v, const struct vmm_caps_row *but,
                                       const char *path, const struct json *spec)
{
    for (size_t i = 0; i < v->n_rows; i++) {
        AUTO(buf_done) struct buf ignored = {0};
        const char *row = vmm_caps_text(v->rows[i].path),
                   *parent = arena_strdup(a, str_take(str_of(row), strrchr(row, '/') ? (size_t)(strrchr(row, '/') - row) : 0));

        if (v->rows[i].when == VMM_CAPS_TRUE_OR_ABSENT && &v->rows[i] != but && names(parent, path, true))
            spec = merged(a, spec, wrap(a, nodes[0].type, str_of(row), json_new_bool(false), &ignored));
    }
    return spec;
}

static void fixed_uuid(void *data, char ret[37])
{
    (void)data;
    memcpy(ret, "5d307ca9-b3ef-428c-8861-06e72d69f223", 37);
}

/* The same through all that admission does before: the choice of the VMM by name, defaults in layers. Nothing of it may take away
 * what was written, or add what is refused. */
static const char *admitted(struct arena *a, const struct vmm_caps *v, const struct json *spec, bool vm)
{
    const struct kv_random random = {.uuid = fixed_uuid};
    struct schema_causes causes = {0};
    struct kv_config *c = kv_config_new(NULL);
    struct kv_offers offers = {.n = 1, .p[0].level = 9999};
    AUTO(buf_done) struct buf b = {0};
    const struct json *wish = json_object(a, "name", json_new_z(a, "x"), "annotations",
                                          json_object(a, KV_ANNOTATION_HYPERVISOR, json_new_z(a, v->name), NULL), NULL);
    const struct json *o;

    snprintf(offers.p[0].vmm, sizeof offers.p[0].vmm, "%s", v->name);
    c->architecture = STR("amd64");
    spec = json_with(a, spec, "architecture", NULL);
    spec = merged(a, parse(a, "{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}"), spec);
    if (vm) {
        o = json_object(
            a, "metadata", wish, "spec",
            json_object(a, "runStrategy", json_new_z(a, "Halted"), "template", json_object(a, "spec", spec, NULL), NULL), NULL);
        o = kv_vm_choose(o, NULL, c, &offers, a, &causes);
        o = kv_vm_default(o, c, &random, a);
        kv_unsupported(json_at(o, "spec/template/spec"), kv_vmm(o), "spec.template.spec", c, a, &causes);
    } else {
        o = json_object(a, "metadata", wish, "spec", spec, NULL);
        o = kv_vmi_choose(o, NULL, c, &offers, false, a, &causes);
        o = kv_vmi_default(o, c, &random, a);
        kv_unsupported(json_get(o, "spec"), kv_vmm(o), "spec", c, a, &causes);
    }
    kv_config_free(c);
    for (size_t i = 0; i < causes.n; i++)
        buf_addf(&b, "%s%s: %s", i ? "\n" : "", causes.p[i].field, causes.p[i].message);
    return b.n ? arena_strdup(a, buf_str(&b)) : "";
}

/* One row × one field that it names × one value, as a VMI and in a VM's template. */
static unsigned try_value(struct arena *a, const struct vmm_caps *v, const struct vmm_caps_row *r, const struct node *n,
                          const struct json *value, bool refused)
{
    static const char *const places[] = {"spec", "spec.template.spec"};
    unsigned bad = 0;

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        AUTO(buf_done) struct buf name = {0};
        const struct json *spec;
        const char *is, *want = "", *who;

        buf_adds(&name, places[i]);
        spec = merged(a, good(a, v), wrap(a, nodes[0].type, str_of(n->path), value, &name));
        spec = switched_off(a, v, r, n->path, spec);
        who = (r->flags & VMM_CAPS_OWN) && r->verdict != VMM_CAPS_NOTYET ? v->title : "this release";
        if (refused)
            want = arena_printf(a, "%s: not supported by %s: %s", name.p, who, vmm_caps_text(r->reason));
        is = judge(a, v, spec, places[i]);
        if (strcmp(is, want) == 0 && vmm_caps_honours(v, spec, true) == !refused) {
            if (!v->built || strcmp(is = admitted(a, v, spec, i == 1), want) == 0)
                continue;
        }
        AUTO_FREE char *text = json_text(spec);
        print_error("%s: %s\nis     %s\nwanted %s\n\n", v->name, text, is, want);
        bad++;
    }
    return bad;
}

static void every_row_refuses_what_it_says(void **state)
{
    unsigned bad = 0, refused = 0, passed = 0;

    (void)state;
    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++) {
        for (size_t i = 0; i < (*v)->n_rows; i++) {
            const struct vmm_caps_row *r = &(*v)->rows[i];
            unsigned fields = 0;

            for (size_t k = 0; k < n_nodes; k++) {
                AUTO(arena_done) struct arena a = {0};
                struct values values;

                if (!names(vmm_caps_text(r->path), nodes[k].path, false))
                    continue;
                fields++;
                if (taken(r))
                    continue;
                assert_true(r->reason != 0);
                values_of(&a, r, nodes[k].type, &values);
                assert_true(values.n_in > 0 && values.n_out > 0);
                for (size_t n = 0; n < values.n_in; n++, refused++)
                    bad += try_value(&a, *v, r, &nodes[k], values.in[n], true);
                for (size_t n = 0; n < values.n_out; n++, passed++)
                    bad += try_value(&a, *v, r, &nodes[k], values.out[n], false);
            }
            if (!fields) {
                print_error("%s: %s: no field is there\n", (*v)->name, vmm_caps_text(r->path));
                bad++;
            }
        }
    }
    print_message("%u values refused by path and reason, %u within the limits\n", refused, passed);
    assert_int_equal(bad, 0);
}

/* A leaf that is honoured is not refused when it is written; of one that is refused, the refusal is of its own path or above. */
static void what_is_honoured_passes(void **state)
{
    unsigned bad = 0, n = 0;

    (void)state;
    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++) {
        for (size_t k = 0; k < n_nodes; k++) {
            AUTO(arena_done) struct arena a = {0};
            AUTO(buf_done) struct buf name = {0};
            enum vmm_caps_verdict verdict;
            const struct json *spec;
            const char *is;

            if (!nodes[k].leaf || !verdict_of(*v, nodes[k].path, &verdict) || verdict != VMM_CAPS_HONOURED)
                continue;
            buf_adds(&name, "spec");
            spec = merged(&a, good(&a, *v), wrap(&a, nodes[0].type, str_of(nodes[k].path), sample(&a, nodes[k].type), &name));
            spec = switched_off(&a, *v, NULL, nodes[k].path, spec);
            is = judge(&a, *v, spec, "spec");
            n++;
            if (!*is)
                continue;
            print_error("%s %s: honoured, and refused: %s\n", (*v)->name, nodes[k].path, is);
            bad++;
        }
    }
    print_message("%u honoured leaves pass\n", n);
    assert_int_equal(bad, 0);
}

/* --- heads ------------------------------------------------------------------------------------------------------------- */

static void heads(void **state)
{
    unsigned weight = 0;

    (void)state;
    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *spec = good(&a, *v);

        assert_ptr_equal(vmm_caps_find(str_of((*v)->name)), *v);
        assert_true((*v)->weight >= weight); /* lightest first */
        weight = (*v)->weight;
        assert_true((*v)->accelerators && (*v)->overhead.base && (*v)->overhead.vcpu);
        assert_int_equal(vmm_caps_version(*v, spec), (*v)->minimum);
        for (const struct vmm_caps_pair *t = (*v)->required; t->key; t++) {
            const char *is = judge(&a, *v, parse(&a, "{\"domain\":{\"devices\":{}}}"), "spec");

            assert_non_null(strstr(is, arena_printf(&a, ": needed by %s: %s", (*v)->title, t->value)));
        }
        for (const struct vmm_caps_pair *t = (*v)->required; t->key; t++) /* either of two is enough */
            if (strchr(t->key, '|')) {
                assert_non_null(strstr(t->key, "|volumes"));
                assert_string_equal(judge(&a, *v, parse(&a, "{\"domain\":{\"devices\":{}},\"volumes\":[{\"name\":\"d\"}]}"), "spec"), "");
                assert_non_null(strstr(judge(&a, *v, parse(&a, "{\"domain\":{\"devices\":{}},\"volumes\":[]}"), "spec"), "needed by"));
            }
        if ((*v)->max_vcpus > 32) { /* room to grow beyond what it can have */
            const char *is = judge(&a, *v, json_with_at(&a, spec, "domain/cpu", parse(&a, "{\"cores\":2,\"maxSockets\":128}")), "spec");

            assert_string_equal(is, arena_printf(&a, "spec.domain.cpu.maxSockets: not supported by %s: %s", (*v)->title,
                                                 (*v)->max_vcpus_reason));
            assert_string_equal(judge(&a, *v, json_with_at(&a, spec, "domain/cpu", parse(&a, "{\"cores\":2,\"maxSockets\":127}")), "spec"), "");
        }
        if ((*v)->max_vcpus) {
            const char *too_many = arena_printf(&a, "not supported by %s: %s", (*v)->title, (*v)->max_vcpus_reason);
            unsigned max = (*v)->max_vcpus;

            assert_string_equal(judge(&a, *v, json_with_at(&a, spec, "domain/cpu/cores", json_new_i64(&a, max)), "spec"), "");
            assert_string_equal(judge(&a, *v, json_with_at(&a, spec, "domain/cpu/cores", json_new_i64(&a, max + 1)), "spec"),
                                arena_printf(&a, "spec.domain.cpu: %s", too_many));
            assert_string_equal(
                judge(&a, *v, json_with_at(&a, spec, "domain/resources/limits/cpu", json_new_i64(&a, max + 1)), "spec"),
                arena_printf(&a, "spec.domain.resources.limits.cpu: %s", too_many));
        }
    }
    assert_ptr_equal(vmm_caps_find(STR_NONE), vmm_caps_find(STR("qemu")));
    assert_null(vmm_caps_find(STR("xen")));
    assert_string_equal(vmm_caps_default(vmm_caps_find(STR("firecracker")), "domain/devices/disks/*/disk/bus"), "virtio");
    assert_null(vmm_caps_default(vmm_caps_find(STR("qemu")), "domain/devices/disks/*/disk/bus"));
    assert_non_null(vmm_caps_lacks(vmm_caps_find(STR("firecracker")), "graphics"));
    assert_null(vmm_caps_lacks(vmm_caps_find(STR("qemu")), "graphics"));
}

static void a_value_may_need_a_version(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct vmm_caps *qemu = vmm_caps_find(STR("qemu"));
    const struct json *igb = parse(&a, "{\"domain\":{\"devices\":{\"interfaces\":[{},{\"model\":\"igb\"}]}}}");
    const struct json *other = parse(&a, "{\"domain\":{\"devices\":{\"interfaces\":[{\"model\":\"e1000\"}]}}}");

    (void)state;
    assert_int_equal(vmm_caps_version(qemu, igb), 800);
    assert_int_equal(vmm_caps_version(qemu, other), qemu->minimum);
}

/* kubectl explain shows descriptions. */
static const char *description(const struct schema_type *t, const char *field)
{
    const struct schema_field *f = schema_field(t, str_of(field));

    assert_non_null(f);
    return f->description;
}

static void descriptions_name_the_hypervisors(void **state)
{
    (void)state;
    assert_non_null(strstr(description(&schema_type_kv_disk_target, "bus"), "Hypervisors: qemu; "));
    assert_non_null(strstr(description(&schema_type_kv_disk_target, "bus"), "firecracker: only virtio."));
    assert_non_null(strstr(description(&schema_type_kv_devices, "gpus"), "Hypervisors: "));
    assert_null(strstr(description(&schema_type_kv_disk, "name"), "Hypervisors"));
    /* what is not only a VMI's stays as it is */
    assert_null(strstr(description(&schema_type_core_toleration, "key"), "Hypervisors"));
}

static void an_unknown_vmm_is_refused(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct schema_causes causes = {0};
    struct kv_config *c = kv_config_new(NULL);

    (void)state;
    kv_unsupported(parse(&a, "{}"), STR("xen"), "spec", c, &a, &causes);
    kv_config_free(c);
    assert_int_equal(causes.n, 1);
    assert_string_equal(causes.p[0].field, "metadata.annotations.vireo.io/vmm");
}

/* What has the wrong type is refused by its type; here nothing may crash or be made up. */
static void wrong_types_are_not_ours(void **state)
{
    static const char *const specs[] = {
        "null",
        "[]",
        "\"x\"",
        "{\"domain\":[]}",
        "{\"volumes\":{\"name\":\"private\"}}",
        "{\"domain\":{\"cpu\":{\"cores\":\"x\",\"sockets\":1e30},\"devices\":{\"disks\":\"x\"}}}",
        "{\"domain\":{\"memory\":{\"guest\":{}}}}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        AUTO(arena_done) struct arena a = {0};

        for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++)
            judge(&a, *v, parse(&a, specs[i]), "spec");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_leaf_has_one_verdict),        cmocka_unit_test(every_row_refuses_what_it_says),
        cmocka_unit_test(what_is_honoured_passes),           cmocka_unit_test(heads),
        cmocka_unit_test(a_value_may_need_a_version),        cmocka_unit_test(an_unknown_vmm_is_refused),
        cmocka_unit_test(descriptions_name_the_hypervisors), cmocka_unit_test(wrong_types_are_not_ours),
    };

    walk_schema(&schema_type_kv_virtual_machine_instance_spec, "", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
