/* How the YAML reader works. libyaml turns text into events; finished values wait on a stack as in parse.c,
 * here with what they weigh, so that an alias (which only shares its target's arrays) is charged with every node
 * that a reader of the tree will meet. Anchors live as long as their document. */
#include "json/yaml.h"
#include "json/index.h"
#include "json/yaml_scalar.h"
#include <yaml.h>

struct item {
    struct json v;
    size_t nodes; /* with everything below, aliases expanded */
    size_t depth; /* 0 for a scalar */
    size_t line;  /* where it begins, from 0 */
    bool merge;   /* the plain key "<<" */
};

struct anchor {
    struct item item;
    bool open; /* its value has not ended yet */
};

struct level {
    size_t start; /* height of the stack at its beginning */
    bool mapping;
    struct anchor *anchor; /* to fill at its end; NULL without one */
};

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    struct arena *a;
    struct item *stack; /* owned */
    size_t n, cap;
    struct level levels[LIMIT_JSON_DEPTH];
    size_t depth;
    struct map anchors; /* name → struct anchor */
    size_t nodes, alias_nodes;
    struct error *err;
};

static void reader_done(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
    map_done(&r->anchors);
    free(r->stack);
}

static bool fail(struct reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(struct reader *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vset(r->err, ERROR_BAD_REQUEST, fmt, ap);
    va_end(ap);
    return error_wrap(r->err, "yaml: line %zu", r->event.start_mark.line + 1);
}

static bool next_event(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        const yaml_parser_t *p = &r->parser;
        size_t line = p->problem_mark.line ? p->problem_mark.line : p->context_mark.line;
        return error_set(r->err, ERROR_BAD_REQUEST, "yaml: line %zu: %s", line + 1,
                         p->problem ? p->problem : "cannot be read");
    }
    r->has_event = true;
    return true;
}

static bool push(struct reader *r, struct item item)
{
    r->nodes += item.nodes;
    if (r->nodes > LIMIT_JSON_NODES)
        return fail(r, "too many values");
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->stack = xrealloc(r->stack, r->cap, sizeof *r->stack);
    }
    r->stack[r->n++] = item;
    return true;
}

static bool in_key_position(const struct reader *r)
{
    const struct level *l = r->depth > 0 ? &r->levels[r->depth - 1] : NULL;

    return l && l->mapping && (r->n - l->start) % 2 == 0;
}

static struct anchor *open_anchor(struct reader *r, const yaml_char_t *name)
{
    struct anchor *anchor;

    if (!name)
        return NULL;
    anchor = ARENA_NEW(r->a, struct anchor);
    anchor->open = true;
    map_set(&r->anchors, str_of((const char *)name), anchor);
    return anchor;
}

static bool finish(struct reader *r, struct item item, struct anchor *anchor)
{
    if (anchor)
        *anchor = (struct anchor){.item = item};
    return push(r, item);
}

/* The tag decides what a scalar may be: NULL and "!" leave it to the form. */
static bool tagged_scalar(struct reader *r, const char *tag, bool plain, struct str text, struct json *ret)
{
    static const struct {
        const char *tag;
        uint8_t types; /* bits by enum json_type */
    } tags[] = {
        {YAML_NULL_TAG, 1 << JSON_NULL}, {YAML_BOOL_TAG, 1 << JSON_TRUE | 1 << JSON_FALSE},
        {YAML_INT_TAG, 1 << JSON_NUMBER}, {YAML_FLOAT_TAG, 1 << JSON_NUMBER},
    };

    *ret = (struct json){.text = text.p, .n = (uint32_t)text.n, .type = JSON_STRING};
    if (!tag) {
        if (plain)
            *ret = yaml_plain(r->a, text);
        return true;
    }
    if (strcmp(tag, YAML_STR_TAG) == 0 || strcmp(tag, "!") == 0)
        return true;
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if (strcmp(tag, tags[i].tag) == 0) {
            *ret = yaml_plain(r->a, text);
            return (tags[i].types >> ret->type & 1) || fail(r, "cannot decode '" STR_FMT "' as %s", STR_ARG(text), tag);
        }
    return fail(r, "unsupported tag %s", tag);
}

/* Keys are strings in JSON: numbers and booleans become their text. */
static bool key_of(struct reader *r, struct json *v)
{
    switch (json_type(v)) {
    case JSON_STRING:
        return true;
    case JSON_NUMBER:
        v->type = JSON_STRING;
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *v = (struct json){.text = v->type == JSON_TRUE ? "true" : "false", .n = v->type == JSON_TRUE ? 4 : 5,
                           .type = JSON_STRING};
        return true;
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return fail(r, "a map key must be a string, number or boolean");
}

static bool read_scalar(struct reader *r)
{
    const char *tag = (const char *)r->event.data.scalar.tag;
    struct str text = arena_str(r->a, str_n((const char *)r->event.data.scalar.value, r->event.data.scalar.length));
    struct anchor *anchor = open_anchor(r, r->event.data.scalar.anchor);
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    struct item item = {.nodes = 1, .line = r->event.start_mark.line};

    if (text.n > UINT32_MAX || !tagged_scalar(r, tag, plain, text, &item.v))
        return text.n <= UINT32_MAX ? false : fail(r, "scalar is too long");
    if (in_key_position(r)) {
        item.merge = plain && !tag && str_is(text, "<<");
        if (!key_of(r, &item.v))
            return false;
    }
    return finish(r, item, anchor);
}

static bool read_alias(struct reader *r)
{
    const char *name = (const char *)r->event.data.alias.anchor;
    const struct anchor *anchor = map_get(&r->anchors, str_of(name));
    struct item item;

    if (!anchor)
        return fail(r, "unknown anchor '%s' referenced", name);
    if (anchor->open)
        return fail(r, "anchor '%s' value contains itself", name);
    item = anchor->item;
    item.merge = false;
    r->alias_nodes += item.nodes;
    if (r->alias_nodes > LIMIT_YAML_ALIAS_NODES)
        return fail(r, "document contains excessive aliasing");
    if (r->depth + item.depth > LIMIT_JSON_DEPTH)
        return fail(r, "exceeded max depth");
    if (in_key_position(r) && !key_of(r, &item.v))
        return false;
    return push(r, item);
}

static bool read_start(struct reader *r, bool mapping, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (tag && strcmp((const char *)tag, mapping ? YAML_MAP_TAG : YAML_SEQ_TAG) != 0 && strcmp((const char *)tag, "!") != 0)
        return fail(r, "unsupported tag %s", (const char *)tag);
    if (in_key_position(r))
        return fail(r, "a map key must be a string, number or boolean");
    if (r->depth == LIMIT_JSON_DEPTH)
        return fail(r, "exceeded max depth");
    r->levels[r->depth++] = (struct level){.start = r->n, .mapping = mapping, .anchor = open_anchor(r, anchor)};
    return true;
}

/* Adds the members of a merged mapping that are not there yet. */
static bool merge_mapping(struct reader *r, const struct json *from, struct map *seen, struct json_member *m, size_t *n)
{
    static char here;

    if (!json_is(from, JSON_OBJECT))
        return fail(r, "map merge requires map or sequence of maps as the value");
    json_each_member (member, from)
        if (!map_get(seen, json_str(&member->key))) {
            map_set(seen, json_str(&member->key), &here);
            m[(*n)++] = *member;
        }
    return true;
}

/* Members that "<<" can add at most. */
static size_t merged_max(const struct item *items, size_t n)
{
    size_t max = 0;

    for (size_t i = 0; i < n; i += 2) {
        if (!items[i].merge)
            continue;
        max += json_len(&items[i + 1].v);
        json_each_item (it, &items[i + 1].v)
            max += json_len(it);
    }
    return max;
}

static bool build_mapping(struct reader *r, const struct item *items, size_t n, struct json *ret)
{
    AUTO(map_done) struct map seen = {0};
    size_t merged = merged_max(items, n), out = 0;
    struct json_member *m = ARENA_ARRAY(r->a, struct json_member, n / 2 + merged + 1);
    bool large = n > 32 || merged > 0;
    static char here;

    for (size_t i = 0; i < n; i += 2) {
        struct str key = json_str(&items[i].v);
        bool again = false;
        if (items[i].merge)
            continue;
        if (large)
            again = map_set(&seen, key, &here) != NULL;
        for (size_t k = 0; !large && k < out && !again; k++)
            again = str_eq(json_str(&m[k].key), key);
        if (again)
            return error_set(r->err, ERROR_BAD_REQUEST, "yaml: line %zu: key \"" STR_FMT "\" already set in map",
                             items[i].line + 1, STR_ARG(key));
        m[out++] = (struct json_member){.key = items[i].v, .value = items[i + 1].v};
    }
    for (size_t i = 0; i < n; i += 2) {
        if (!items[i].merge)
            continue;
        json_each_item (it, &items[i + 1].v)
            if (!merge_mapping(r, it, &seen, m, &out))
                return false;
        if (!json_is(&items[i + 1].v, JSON_ARRAY) && !merge_mapping(r, &items[i + 1].v, &seen, m, &out))
            return false;
    }
    *ret = (struct json){.members = m, .n = (uint32_t)out, .type = JSON_OBJECT};
    return true;
}

static void build_sequence(struct reader *r, const struct item *items, size_t n, struct json *ret)
{
    struct json *to = ARENA_ARRAY(r->a, struct json, n + 1);

    for (size_t i = 0; i < n; i++)
        to[i] = items[i].v;
    *ret = (struct json){.items = to, .n = (uint32_t)n, .type = JSON_ARRAY};
}

static bool read_end(struct reader *r)
{
    struct level level = r->levels[--r->depth];
    const struct item *items = r->stack ? r->stack + level.start : NULL;
    size_t n = r->n - level.start;
    struct item whole = {.nodes = 1};

    for (size_t i = 0; i < n; i++) {
        whole.nodes += items[i].nodes;
        if (items[i].depth > whole.depth)
            whole.depth = items[i].depth;
    }
    whole.depth++;
    if (!level.mapping)
        build_sequence(r, items, n, &whole.v);
    else if (!build_mapping(r, items, n, &whole.v))
        return false;
    r->nodes -= whole.nodes - 1; /* counted already; push() counts the whole again */
    r->n = level.start;
    return finish(r, whole, level.anchor);
}

static bool add_document(struct reader *r, struct yaml_docs *docs, size_t *cap)
{
    struct json *v;
    bool empty = r->n == 0 || json_is(&r->stack[0].v, JSON_NULL);

    r->n = 0;
    map_done(&r->anchors);
    r->anchors = (struct map){0};
    if (empty)
        return true;
    if (docs->n == *cap) {
        const struct json **more = ARENA_ARRAY(r->a, const struct json *, *cap ? *cap * 2 : 4);
        for (size_t i = 0; i < docs->n; i++)
            more[i] = docs->p[i];
        docs->p = more;
        *cap = *cap ? *cap * 2 : 4;
    }
    v = ARENA_NEW(r->a, struct json);
    *v = r->stack[0].v;
    docs->p[docs->n++] = v;
    return true;
}

static bool read_stream(struct reader *r, struct yaml_docs *docs)
{
    size_t cap = 0;

    for (bool ok = true; ok;) {
        if (!next_event(r))
            return false;
        switch (r->event.type) {
        case YAML_STREAM_END_EVENT:
            return true;
        case YAML_DOCUMENT_END_EVENT:
            ok = add_document(r, docs, &cap);
            break;
        case YAML_SCALAR_EVENT:
            ok = read_scalar(r);
            break;
        case YAML_ALIAS_EVENT:
            ok = read_alias(r);
            break;
        case YAML_SEQUENCE_START_EVENT:
            ok = read_start(r, false, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag);
            break;
        case YAML_MAPPING_START_EVENT:
            ok = read_start(r, true, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag);
            break;
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
            ok = read_end(r);
            break;
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_START_EVENT:
            break;
        }
    }
    return false;
}

/* Most "YAML" on the wire is JSON, which our own parser reads ten times faster. What it refuses
 * (comments, single quotes, a second document …) may still be YAML. */
static bool try_json(struct str text, struct arena *a, struct yaml_docs *ret)
{
    AUTO(error_clear) struct error ignored = {0};
    struct json_dups dups = {0};
    const struct json *v, **p;

    if (str_trim(text).n == 0 || str_trim(text).p[0] != '{' || !json_parse_strict(text, a, &dups, &v, &ignored)
        || dups.n > 0)
        return false;
    p = ARENA_NEW(a, const struct json *);
    p[0] = v;
    *ret = (struct yaml_docs){.p = p, .n = 1};
    return true;
}

bool yaml_parse(struct str text, struct arena *a, struct yaml_docs *ret, struct error *err)
{
    AUTO(reader_done) struct reader r = {.a = a, .err = err};
    struct yaml_docs docs = {0};

    if (text.n > LIMIT_BUF_DEFAULT)
        return error_set(err, ERROR_TOO_LARGE, "yaml: text of %zu bytes is too large", text.n);
    if (try_json(text, a, ret))
        return true;
    if (!yaml_parser_initialize(&r.parser))
        return error_set(err, ERROR_INTERNAL, "yaml: cannot start the parser");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    if (!read_stream(&r, &docs))
        return false;
    *ret = docs;
    return true;
}

bool yaml_parse_one(struct str text, struct arena *a, const struct json **ret, struct error *err)
{
    struct yaml_docs docs;

    if (!yaml_parse(text, a, &docs, err))
        return false;
    if (docs.n != 1)
        return error_set(err, ERROR_BAD_REQUEST, "yaml: expected one document, found %zu", docs.n);
    *ret = docs.p[0];
    return true;
}
