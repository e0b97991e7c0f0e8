#include "store/impl.h"
#include "base/log.h"
#include <assert.h>

static atomic_size_t total_bytes;

/* What a form has in front of the key. */
static size_t front(enum object_form form)
{
    switch (form) {
    case OBJECT_PLAIN:
    case OBJECT_ZSTD:
        return 0;
    case OBJECT_DICT:
        return sizeof(struct dict *);
    case OBJECT_ALIAS:
        return sizeof(struct store_object *);
    case OBJECT_COLD:
        return sizeof(struct object_cold);
    }
    __builtin_unreachable();
}

static struct store_object *alias_base(const struct store_object *o)
{
    struct store_object *base;

    memcpy(&base, o->data, sizeof base);
    return base;
}

static struct dict *own_dict(const struct store_object *o)
{
    struct dict *d;

    memcpy(&d, o->data, sizeof d);
    return d;
}

/* The object that has key, uid and bytes. */
static const struct store_object *origin(const struct store_object *o)
{
    return o->form == OBJECT_ALIAS ? alias_base(o) : o;
}

static const char *key_of(const struct store_object *o)
{
    return o->data + front(o->form);
}

size_t object_size(const struct store_object *o)
{
    if (o->form == OBJECT_ALIAS)
        return sizeof *o + front(OBJECT_ALIAS);
    return sizeof *o + front(o->form) + o->key_n + o->uid_n + (o->form == OBJECT_COLD ? 0 : o->body_n);
}

size_t object_total_bytes(void)
{
    return atomic_load_explicit(&total_bytes, memory_order_relaxed);
}

static struct store_object *make(const struct object_spec *spec, enum object_form form, size_t body_n)
{
    size_t inline_n = form == OBJECT_COLD ? 0 : body_n;
    size_t n = sizeof(struct store_object) + front(form) + spec->key.n + spec->uid.n + inline_n;
    struct store_object *o = xcalloc(1, n);
    char *at = o->data + front(form);

    assert(spec->key.n <= UINT16_MAX && spec->uid.n <= UINT8_MAX);
    atomic_init(&o->refs, 1);
    o->hole = spec->hole;
    o->revision = spec->revision;
    o->id = spec->id;
    o->text_n = spec->text_n;
    o->body_n = (uint32_t)body_n;
    o->key_n = (uint16_t)spec->key.n;
    o->uid_n = (uint8_t)spec->uid.n;
    o->form = (uint8_t)form;
    memcpy(at, spec->key.p, spec->key.n);
    if (spec->uid.n)
        memcpy(at + spec->key.n, spec->uid.p, spec->uid.n);
    if (inline_n)
        memcpy(at + spec->key.n + spec->uid.n, spec->body.p, inline_n);
    atomic_fetch_add_explicit(&total_bytes, n, memory_order_relaxed);
    return o;
}

struct store_object *object_new(const struct object_spec *spec)
{
    struct store_object *o = make(spec, spec->form, spec->body.n);

    if (spec->form == OBJECT_DICT) {
        struct dict *d = dict_ref(spec->dict);

        memcpy(o->data, &d, sizeof d);
    }
    return o;
}

struct store_object *object_new_deleted(struct store_object *of, int64_t revision)
{
    const struct store_object *base = origin(of);
    struct store_object *o = xcalloc(1, sizeof *o + front(OBJECT_ALIAS));
    struct store_object *ref = store_object_ref((struct store_object *)(uintptr_t)base);

    atomic_init(&o->refs, 1);
    o->hole = base->hole;
    o->revision = revision;
    o->id = base->id;
    o->text_n = base->text_n;
    o->key_n = base->key_n;
    o->form = OBJECT_ALIAS;
    o->ttl = of->ttl;
    o->deleted = true;
    memcpy(o->data, &ref, sizeof ref);
    atomic_fetch_add_explicit(&total_bytes, object_size(o), memory_order_relaxed);
    return o;
}

struct store_object *object_new_cold(struct store *s, const struct object_spec *spec, size_t body_n)
{
    struct store_object *o = make(spec, OBJECT_COLD, body_n);
    struct object_cold *c = object_cold(o);

    c->s = s;
    c->form = (uint8_t)spec->form;
    c->dict = spec->form == OBJECT_DICT ? dict_ref(spec->dict) : NULL;
    o->ttl = true;
    list_add_tail(&s->cold, &c->node);
    return o;
}

struct store_object *store_object_ref(struct store_object *o)
{
    if (o)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void store_object_unref(struct store_object *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    atomic_fetch_sub_explicit(&total_bytes, object_size(o), memory_order_relaxed);
    if (o->form == OBJECT_ALIAS) {
        store_object_unref(alias_base(o));
    } else if (o->form == OBJECT_DICT) {
        dict_unref(own_dict(o));
    } else if (o->form == OBJECT_COLD) {
        struct object_cold *c = object_cold(o);

        list_remove(&c->node);
        free(c->body);
        dict_unref(c->dict);
    }
    free(o);
}

struct str store_object_key(const struct store_object *o)
{
    const struct store_object *b = origin(o);

    return str_n(key_of(b), b->key_n);
}

struct str store_object_uid(const struct store_object *o)
{
    const struct store_object *b = origin(o);

    return str_n(key_of(b) + b->key_n, b->uid_n);
}

size_t store_object_size(const struct store_object *o)
{
    return o->text_n;
}

size_t store_object_pinned(const struct store_object *o)
{
    size_t n = object_size(o);

    if (!o->past)
        return 0;
    if (o->form == OBJECT_COLD && object_cold(o)->body)
        n += o->body_n;
    return n / atomic_load_explicit(&o->refs, memory_order_relaxed);
}

int64_t store_object_revision(const struct store_object *o)
{
    return o->revision;
}

struct str object_body(const struct store_object *o, enum object_form *ret_form, struct dict **ret_dict)
{
    const struct store_object *b = origin(o);

    assert(b->form != OBJECT_COLD);
    *ret_form = (enum object_form)b->form;
    *ret_dict = b->form == OBJECT_DICT ? own_dict(b) : NULL;
    return str_n(key_of(b) + b->key_n + b->uid_n, b->body_n);
}

struct store_object *object_compact(struct store_object *o, struct dict *dict)
{
    enum object_form form;
    struct dict *none;
    struct str text;
    char *packed;
    struct store_object *ret = NULL;
    size_t n;

    if (o->form != OBJECT_PLAIN || o->text_n < (dict ? 256u : 1024u))
        return store_object_ref(o);
    text = object_body(o, &form, &none);
    packed = xcalloc(1, text.n);
    /* It has to save an eighth at least, or reading it costs more than it keeps. */
    n = zstd_pack(dict, text, packed, text.n - text.n / 8);
    if (n > 0)
        ret = object_new(&(struct object_spec){.key = store_object_key(o), .uid = store_object_uid(o),
            .body = str_n(packed, n), .form = dict ? OBJECT_DICT : OBJECT_ZSTD, .hole = o->hole, .text_n = o->text_n,
            .revision = o->revision, .id = o->id, .dict = dict});
    free(packed);
    return ret ? ret : store_object_ref(o);
}

/* Text. */

enum { REVISION_DIGITS = 20 };

size_t object_text_max(const struct store_object *o)
{
    return (size_t)o->text_n + REVISION_DIGITS;
}

static bool unpack(enum object_form form, struct dict *dict, struct str body, char *to, size_t n)
{
    if (form != OBJECT_PLAIN)
        return zstd_unpack(dict, body, to, n);
    if (body.n != n)
        return false;
    memcpy(to, body.p, n);
    return true;
}

static bool fill_text(const struct store_object *o, char *to)
{
    const struct store_object *b = origin(o);
    enum object_form form;
    struct dict *dict;
    struct str body;

    if (b->form == OBJECT_COLD) {
        AUTO(buf_done) struct buf read = {0};
        const struct object_cold *c = object_cold(b);

        if (!ttl_read(b, &read))
            return false;
        return unpack((enum object_form)c->form, c->dict, buf_str(&read), to, b->text_n);
    }
    body = object_body(b, &form, &dict);
    return unpack(form, dict, body, to, b->text_n);
}

size_t object_fill(const struct store_object *o, char *to)
{
    char digits[REVISION_DIGITS + 1];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)o->revision);

    if (!fill_text(o, to)) {
        struct str key = store_object_key(o);

        /* Memory or disk damaged behind a good checksum: readers get an object, the operator the reason. */
        log_error(NULL, "store: '" STR_FMT "' revision %lld cannot be read back", STR_ARG(key), (long long)o->revision);
        memcpy(to, "{}", 2);
        return 2;
    }
    memmove(to + o->hole + n, to + o->hole, o->text_n - o->hole);
    memcpy(to + o->hole, digits, n);
    return o->text_n + n;
}

void store_object_text(const struct store_object *o, struct buf *out)
{
    char *to = buf_reserve(out, object_text_max(o));

    if (to)
        buf_commit(out, object_fill(o, to));
    else
        out->overflow = true;
}

bool store_object_mentions(const struct store_object *o, struct str bytes)
{
    AUTO(buf_done) struct buf text = {0};

    store_object_text(o, &text);
    return memmem(text.p, text.n, bytes.p, bytes.n) != NULL;
}

const struct json *store_object_json(const struct store_object *o, struct arena *a)
{
    char *to = arena_alloc_bytes(a, object_text_max(o) + 1);
    size_t n = object_fill(o, to);
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    to[n] = '\0';
    if (!json_parse_borrowed(str_n(to, n), a, &v, &err)) {
        struct str key = store_object_key(o);

        log_error(NULL, "store: '" STR_FMT "' cannot be parsed: %s", STR_ARG(key), error_text(&err));
        return json_object(a, NULL);
    }
    return v;
}

/* Readers parse what is stored, so it has to be within the parser's limits; edits can build deeper values. */
static bool within_limits(const struct json *v, int depth, size_t *nodes, struct error *err)
{
    if (depth > LIMIT_JSON_DEPTH || ++*nodes > LIMIT_JSON_NODES)
        return error_set(err, ERROR_TOO_LARGE, "object is nested deeper than %d levels or has more than %u values",
                         LIMIT_JSON_DEPTH, LIMIT_JSON_NODES);
    json_each_item(it, v) if (!within_limits(it, depth + 1, nodes, err)) return false;
    json_each_member(m, v) if (!within_limits(&m->value, depth + 1, nodes, err)) return false;
    return true;
}

static void write_key(struct buf *b, bool *first, struct str key)
{
    if (!*first)
        buf_addc(b, ',');
    *first = false;
    json_write_string(b, key);
    buf_addc(b, ':');
}

static void write_hole(struct buf *b, bool *first, uint32_t *ret_hole)
{
    write_key(b, first, STR("resourceVersion"));
    buf_adds(b, "\"\"");
    *ret_hole = (uint32_t)b->n - 1;
}

/* A new object has no resourceVersion yet: it comes behind the uid, or before it where the members are sorted by name. */
static void write_metadata(struct buf *b, const struct json *metadata, uint32_t *ret_hole)
{
    const struct json *uid = json_get(metadata, "uid");
    const struct json *rv = json_get(metadata, "resourceVersion");
    bool first = true, written = false, sorted = uid && uid == &metadata->members[metadata->n - 1].value;

    buf_addc(b, '{');
    json_each_member(m, metadata) {
        struct str key = json_str(&m->key);
        bool is_rv = str_eq(key, STR("resourceVersion"));

        if (sorted && !rv && &m->value == uid) {
            write_hole(b, &first, ret_hole);
            written = true;
        }
        if (!is_rv) {
            write_key(b, &first, key);
            json_write(b, &m->value);
        }
        if (!written && (is_rv || (!rv && &m->value == uid))) {
            write_hole(b, &first, ret_hole);
            written = true;
        }
    }
    if (!written)
        write_hole(b, &first, ret_hole);
    buf_addc(b, '}');
}

bool object_write_text(const struct json *value, struct buf *b, uint32_t *ret_hole, struct error *err)
{
    const struct json *metadata = json_get(value, "metadata");
    uint32_t hole = 0;
    size_t nodes = 0;
    bool first = true;

    if (!json_is(value, JSON_OBJECT) || (metadata && !json_is(metadata, JSON_OBJECT)))
        return error_set(err, ERROR_INVALID, "only JSON objects with an object as metadata can be stored");
    if (!within_limits(value, 1, &nodes, err))
        return false;
    buf_addc(b, '{');
    json_each_member(m, value) {
        struct str key = json_str(&m->key);
        bool is_metadata = str_eq(key, STR("metadata"));

        if (is_metadata && &m->value != metadata)
            continue; /* a duplicate key: the last one counts */
        write_key(b, &first, key);
        if (is_metadata)
            write_metadata(b, &m->value, &hole);
        else
            json_write(b, &m->value);
    }
    if (!metadata) {
        write_key(b, &first, STR("metadata"));
        write_metadata(b, NULL, &hole);
    }
    buf_addc(b, '}');
    if (!buf_ok(b, "object", err))
        return false;
    *ret_hole = hole;
    return true;
}
