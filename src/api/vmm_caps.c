/* Rows are sorted by path, so a spec is held against all of them in one walk down both: rows that share a prefix are a range, and
 * a member that the spec lacks takes its whole range away with one look-up. Most specs are small, so most rows are never seen. */
#include "api/vmm_caps.h"

#include "api/kv_rules.h"
#include "api/quantity.h"
#include "base/cleanup.h"

const struct vmm_caps *vmm_caps_find(struct str name)
{
    if (!name.n)
        name = STR("qemu");
    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++)
        if (str_is(name, (*v)->name))
            return *v;
    return NULL;
}

static const char *find_text(const struct vmm_caps_pair *t, const char *key)
{
    for (; t->key; t++)
        if (strcmp(t->key, key) == 0)
            return t->value;
    return NULL;
}

const char *vmm_caps_default(const struct vmm_caps *v, const char *key)
{
    return find_text(v->defaults, key);
}

const char *vmm_caps_lacks(const struct vmm_caps *v, const char *device)
{
    return find_text(v->lacks, device);
}

/* --- values ------------------------------------------------------------------------------------------------------------ */

static bool one_of(struct str s, const char *list)
{
    struct str rest = str_of(list), one;

    while (str_next(&rest, '|', &one)) {
        if (one.n && one.p[one.n - 1] == '*' ? str_starts(s, str_take(one, one.n - 1)) : str_eq(s, one))
            return true;
    }
    return false;
}

/* A number's text is its digits. */
static struct str text_of(const struct json *v)
{
    return json_is(v, JSON_NUMBER) ? str_n(v->text, v->n) : json_str(v);
}

static bool compare(const struct json *v, enum vmm_caps_when when, const char *limit)
{
    AUTO(error_clear) struct error ignored = {0};
    struct quantity is, bound;

    if (!kv_read_quantity(v, &is) || !quantity_parse(str_of(limit), &bound, &ignored))
        return false; /* what is no number is refused by its type */
    if (when == VMM_CAPS_UNALIGNED)
        return bound.nano != 0 && is.nano % bound.nano != 0;
    return when == VMM_CAPS_ABOVE ? quantity_cmp(is, bound) > 0 : quantity_cmp(is, bound) < 0;
}

static bool is_set(const struct json *v)
{
    return v && v->type != JSON_NULL && !(json_is(v, JSON_ARRAY) && v->n == 0) && !(json_is(v, JSON_STRING) && v->n == 0);
}

/* v is NULL for a member that an object which is there lacks. */
static bool applies(const struct vmm_caps_row *row, const struct json *v)
{
    const char *value = vmm_caps_text(row->value);
    struct str text = text_of(v);
    uint64_t n = (uint64_t)strtoull(value, NULL, 10);

    switch ((enum vmm_caps_when)row->when) {
    case VMM_CAPS_NONE:
    case VMM_CAPS_SET:
        return is_set(v);
    case VMM_CAPS_TRUE:
        return json_is(v, JSON_TRUE);
    case VMM_CAPS_FALSE:
        return json_is(v, JSON_FALSE);
    case VMM_CAPS_TRUE_OR_ABSENT:
        return !v || v->type == JSON_NULL || json_is(v, JSON_TRUE);
    case VMM_CAPS_ON:
        return kv_enabled(v) && json_bool_at(v, "present", true);
    case VMM_CAPS_IS:
        return text.n && one_of(text, value);
    case VMM_CAPS_NOT:
        return text.n && !one_of(text, value);
    case VMM_CAPS_NOT_PREFIX:
        return text.n && !str_starts(text, str_of(value));
    case VMM_CAPS_ABOVE:
    case VMM_CAPS_BELOW:
    case VMM_CAPS_UNALIGNED:
        return compare(v, (enum vmm_caps_when)row->when, value);
    case VMM_CAPS_LONGER:
        return text.n > n;
    case VMM_CAPS_MORE:
        return json_len(v) > n;
    }
    __builtin_unreachable();
}

/* --- the walk ---------------------------------------------------------------------------------------------------------- */

struct walk {
    const struct vmm_caps *v;
    struct buf at; /* the path so far: "spec.volumes[1]" */
    /* What is asked. Causes: all that is refused; else only whether anything is, and what version is needed. */
    struct arena *a;
    struct schema_causes *causes;
    bool platform; /* rows of the platform count */
    bool refused;
    unsigned version;
};

static void cut(struct buf *b, size_t n)
{
    if (b->p) {
        b->n = n;
        b->p[n] = '\0';
    }
}

static void refuse(struct walk *w, const char *field, const char *who, const char *reason)
{
    w->refused = true;
    if (w->causes)
        schema_cause_add(w->causes, w->a, "FieldValueNotSupported", field, "not supported by %s: %s", who, reason);
}

static void met(struct walk *w, const struct vmm_caps_row *row)
{
    bool own = row->flags & VMM_CAPS_OWN;

    if (row->verdict == VMM_CAPS_HONOURED || row->verdict == VMM_CAPS_PLAYED) {
        if (row->since > w->version)
            w->version = row->since;
        return;
    }
    if (own || w->platform)
        refuse(w, w->causes ? arena_strdup(w->a, buf_str(&w->at)) : "",
               own && row->verdict != VMM_CAPS_NOTYET ? w->v->title : "this release", vmm_caps_text(row->reason));
}

static void name_member(struct walk *w, struct str name)
{
    if (w->causes) { /* nobody asks for the path otherwise */
        buf_addc(&w->at, '.');
        buf_addstr(&w->at, name);
    }
}

static const char *rest_of(const struct walk *w, size_t row, size_t skip)
{
    return vmm_caps_text(w->v->rows[row].path) + skip;
}

static struct str first_part(const char *rest)
{
    return str_n(rest, strcspn(rest, "/"));
}

/* Rows first..end share the first `skip` bytes of their paths, up to a slash or the end, and v is what stands there. */
static void descend(struct walk *w, const struct json *v, size_t first, size_t end, size_t skip)
{
    while (first < end && !*rest_of(w, first, skip)) {
        const struct vmm_caps_row *row = &w->v->rows[first++];

        if (applies(row, v))
            met(w, row);
    }
    if (!v)
        return;
    skip += skip > 0; /* the slash */
    while (first < end) {
        struct str part = first_part(rest_of(w, first, skip));
        size_t next = first + 1, n = w->at.n, i = 0, below = skip + part.n;

        while (next < end && str_eq(first_part(rest_of(w, next, skip)), part))
            next++;
        if (!str_is(part, "*")) {
            const struct json *member = json_get_str(v, part);

            if (member || json_is(v, JSON_OBJECT)) {
                name_member(w, part);
                descend(w, member, first, next, below);
                cut(&w->at, n);
            }
        }
        json_each_item(item, str_is(part, "*") ? v : NULL) {
            if (w->causes)
                buf_addf(&w->at, "[%zu]", i++);
            descend(w, item, first, next, below);
            cut(&w->at, n);
        }
        json_each_member(m, str_is(part, "*") ? v : NULL) {
            name_member(w, json_str(&m->key));
            descend(w, &m->value, first, next, below);
            cut(&w->at, n);
        }
        first = next;
    }
}

/* Processors are limited by their product, wherever the numbers come from. */
static void count_vcpus(struct walk *w, const struct json *spec)
{
    const struct json *cpu = json_at(spec, "domain/cpu"), *from = NULL;
    static const char *const parts[] = {"sockets", "cores", "threads"};
    size_t n = w->at.n;
    int64_t vcpus = 1, each = 1; /* in all, and of a socket */
    struct quantity q;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        int64_t part = json_i64_at(cpu, parts[i], 0);

        vcpus *= part < 1 ? 1 : part > 65535 ? 65535 : part;
        from = part ? cpu : from;
        if (i > 0)
            each *= part < 1 ? 1 : part > 65535 ? 65535 : part;
    }
    if (!from) {
        const char *path = kv_has_at(spec, "domain/resources/limits/cpu") ? "limits" : "requests";

        from = json_get(json_at(spec, strcmp(path, "limits") == 0 ? "domain/resources/limits" : "domain/resources/requests"),
                        "cpu");
        if (from && kv_read_quantity(from, &q))
            vcpus = quantity_value(q);
        buf_addf(&w->at, ".domain.resources.%s.cpu", path);
    } else {
        buf_adds(&w->at, ".domain.cpu");
    }
    if (w->v->max_vcpus && vcpus <= (int64_t)w->v->max_vcpus
        && json_i64_at(cpu, "maxSockets", 0) > (int64_t)w->v->max_vcpus / each) {
        cut(&w->at, n);
        buf_adds(&w->at, ".domain.cpu.maxSockets");
        vcpus = INT64_MAX;
    }
    if (w->v->max_vcpus && vcpus > (int64_t)w->v->max_vcpus)
        refuse(w, w->causes ? arena_strdup(w->a, buf_str(&w->at)) : "", w->v->title, w->v->max_vcpus_reason);
    cut(&w->at, n);
}

/* keys: "a/b", or "a/b|c" */
static bool one_is_set(const struct json *spec, const char *keys)
{
    struct str rest = str_of(keys), key;

    while (str_next(&rest, '|', &key)) {
        const struct json *v = spec;
        struct str name;

        while (v && str_next(&key, '/', &name))
            v = json_get_str(v, name);
        if (is_set(v))
            return true;
    }
    return false;
}

static void walk(struct walk *w, const struct json *spec, const char *path)
{
    w->version = w->v->minimum;
    buf_init(&w->at, 4096);
    buf_adds(&w->at, path);
    descend(w, spec, 0, w->v->n_rows, 0);
    count_vcpus(w, spec);
    for (const struct vmm_caps_pair *t = w->v->required; t->key; t++) {
        size_t n = w->at.n;

        if (one_is_set(spec, t->key))
            continue;
        w->refused = true;
        buf_addc(&w->at, '.');
        for (const char *c = t->key; *c && *c != '|'; c++)
            buf_addc(&w->at, *c == '/' ? '.' : *c);
        if (w->causes)
            schema_cause_add(w->causes, w->a, "FieldValueRequired", arena_strdup(w->a, buf_str(&w->at)), "needed by %s: %s",
                             w->v->title, t->value);
        cut(&w->at, n);
    }
    buf_done(&w->at);
}

void vmm_caps_check(const struct vmm_caps *v, const struct json *spec, const char *path, struct arena *a,
                    struct schema_causes *ret)
{
    struct walk w = {.v = v, .a = a, .causes = ret, .platform = true};

    walk(&w, spec, path);
}

bool vmm_caps_honours(const struct vmm_caps *v, const struct json *spec, bool platform)
{
    struct walk w = {.v = v, .platform = platform};

    walk(&w, spec, "");
    return !w.refused;
}

unsigned vmm_caps_version(const struct vmm_caps *v, const struct json *spec)
{
    struct walk w = {.v = v};

    walk(&w, spec, "");
    return w.version;
}
