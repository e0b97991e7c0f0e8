/* RFC 6902. How hostile patches are kept cheap:
 *
 * Values are immutable, so an operation copies the arrays and objects on its path, and a patch may have
 * 10,000 operations on an object of megabytes. "copy" can double a value with each operation, and "copy" and
 * "move" can stack a value ever deeper. Therefore each patch has a budget of nodes that it may copy or look
 * at, and the depth of what it builds is held to what the parser would accept. */
#include "json/patch.h"
#include "base/cleanup.h"

enum { WORK_MAX = 4 << 20, COPIED_TEXT_MAX = LIMIT_HTTP_BODY };

struct patch {
    struct arena *a;
    const struct json *root;
    size_t work;   /* nodes copied or visited so far */
    size_t copied; /* text that "copy" has added so far */
    size_t depth;  /* no value in root is deeper */
    struct error *err;
};

static bool spend(struct patch *p, size_t nodes)
{
    p->work += nodes + 1;
    if (p->work > WORK_MAX)
        return error_set(p->err, ERROR_TOO_LARGE, "the JSON patch takes too much work to apply");
    return true;
}

struct measure {
    size_t depth, text, nodes;
};

/* Adds up; stops early, with nodes beyond max_nodes, when it is more than that. */
static void measure(const struct json *v, size_t depth, size_t max_nodes, struct measure *m)
{
    m->nodes++;
    m->text += 8 + (json_is(v, JSON_STRING) || json_is(v, JSON_NUMBER) ? v->n : 0);
    if (json_is(v, JSON_ARRAY) || json_is(v, JSON_OBJECT)) {
        if (++depth > m->depth)
            m->depth = depth;
        json_each_item (it, v)
            if (m->nodes <= max_nodes)
                measure(it, depth, max_nodes, m);
        json_each_member (member, v)
            if (m->nodes <= max_nodes) {
                m->text += member->key.n;
                measure(&member->value, depth, max_nodes, m);
            }
    }
}

static bool measured(struct patch *p, const struct json *v, struct measure *m)
{
    *m = (struct measure){0};
    measure(v, 0, WORK_MAX - p->work, m);
    return spend(p, m->nodes);
}

/* Holds the depth of root to the parser's limit when v comes to lie below `tokens` steps. */
static bool check_depth(struct patch *p, size_t tokens, const struct json *v)
{
    struct measure m;

    if (!measured(p, v, &m))
        return false;
    if (tokens + m.depth > p->depth)
        p->depth = tokens + m.depth;
    if (p->depth > LIMIT_JSON_DEPTH)
        return error_set(p->err, ERROR_INVALID, "the JSON patch makes the object too deep");
    return true;
}

/* A JSON pointer, split: "/a/b" is 2 tokens, "" is none. */
struct pointer {
    struct str text;
    struct str tokens[LIMIT_JSON_DEPTH];
    size_t n;
};

static bool missing_path(struct patch *p, const char *op, const char *which, struct str path)
{
    return error_set(p->err, ERROR_INVALID, "%s operation does not apply: doc is missing %s: \"" STR_FMT
                     "\": missing value", op, which, STR_ARG(path));
}

static bool read_pointer(struct patch *p, const char *op, const char *which, struct str text, struct pointer *ret)
{
    struct str rest = text, token;

    *ret = (struct pointer){.text = text};
    if (text.n == 0)
        return true;
    if (text.p[0] != '/')
        return missing_path(p, op, which, text);
    rest = str_skip(text, 1);
    for (bool more = true; more;) {
        more = str_cut(rest, '/', &token, &rest);
        if (ret->n == LIMIT_JSON_DEPTH)
            return missing_path(p, op, which, text);
        ret->tokens[ret->n++] = json_pointer_token(p->a, token);
    }
    return true;
}

/* An array index; false unless it is plain digits below `end`. */
static bool read_index(struct str token, size_t end, size_t *ret)
{
    size_t v = 0;

    if (token.n == 0 || token.n > 9 || (token.n > 1 && token.p[0] == '0'))
        return false;
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] < '0' || token.p[i] > '9')
            return false;
        v = v * 10 + (size_t)(token.p[i] - '0');
    }
    *ret = v;
    return v < end;
}

static const struct json *child(const struct json *v, struct str token)
{
    size_t i;

    if (json_is(v, JSON_ARRAY))
        return read_index(token, v->n, &i) ? &v->items[i] : NULL;
    return json_get_str(v, token);
}

/* The value `n` tokens down, or NULL. */
static bool find(struct patch *p, const struct pointer *at, size_t n, const struct json **ret)
{
    const struct json *v = p->root;

    for (size_t i = 0; i < n && v; i++) {
        if (!spend(p, json_is(v, JSON_OBJECT) ? v->n : 1))
            return false;
        v = child(v, at->tokens[i]);
    }
    *ret = v;
    return true;
}

static const struct json *array_new(struct arena *a, const struct json *old, size_t at, size_t drop,
                                    const struct json *insert)
{
    size_t add = insert ? 1 : 0, tail = old->n - at - drop;
    struct json *items = ARENA_ARRAY(a, struct json, at + add + tail + 1);
    struct json *v = ARENA_NEW(a, struct json);

    if (at > 0)
        memcpy(items, old->items, at * sizeof *items);
    if (insert)
        items[at] = *insert;
    if (tail > 0)
        memcpy(items + at + add, old->items + at + drop, tail * sizeof *items);
    *v = (struct json){.items = items, .n = (uint32_t)(at + add + tail), .type = JSON_ARRAY};
    return v;
}

/* root with `value` in the place of what lies `n` tokens down, which exists. */
static bool rebuild(struct patch *p, const struct pointer *at, size_t n, const struct json *value)
{
    const struct json *way[LIMIT_JSON_DEPTH];
    const struct json *v = p->root;
    size_t index = 0;

    for (size_t i = 0; i < n; i++) {
        way[i] = v;
        if (!spend(p, json_len(v)))
            return false;
        v = child(v, at->tokens[i]);
    }
    for (size_t i = n; i > 0; i--) {
        struct str token = at->tokens[i - 1];
        if (json_is(way[i - 1], JSON_ARRAY) && read_index(token, way[i - 1]->n, &index))
            value = array_new(p->a, way[i - 1], index, 1, value);
        else
            value = json_with_str(p->a, way[i - 1], token, value);
    }
    p->root = value;
    return true;
}

/* The array or object that holds the last token. */
static bool find_holder(struct patch *p, const char *op, const char *which, const struct pointer *at,
                        const struct json **ret)
{
    if (at->n > 0 && !find(p, at, at->n - 1, ret))
        return false;
    if (at->n == 0 || (!json_is(*ret, JSON_OBJECT) && !json_is(*ret, JSON_ARRAY)))
        return missing_path(p, op, which, at->text);
    return spend(p, json_len(*ret));
}

static bool bad_index(struct patch *p, const char *op, const struct pointer *at)
{
    struct str token = at->tokens[at->n - 1];

    return error_set(p->err, ERROR_INVALID, "error in %s for path: '" STR_FMT "': Unable to access invalid index: "
                     STR_FMT ": invalid index referenced", op, STR_ARG(at->text), STR_ARG(token));
}

static bool add(struct patch *p, const char *op, const struct pointer *at, const struct json *value)
{
    const struct json *holder = NULL;
    size_t index = 0;

    if (!check_depth(p, at->n, value))
        return false;
    if (at->n == 0) {
        p->root = value;
        return true;
    }
    if (!find_holder(p, op, "path", at, &holder))
        return false;
    if (json_is(holder, JSON_OBJECT))
        return rebuild(p, at, at->n - 1, json_with_str(p->a, holder, at->tokens[at->n - 1], value));
    if (str_is(at->tokens[at->n - 1], "-"))
        index = holder->n;
    else if (!read_index(at->tokens[at->n - 1], (size_t)holder->n + 1, &index))
        return bad_index(p, op, at);
    return rebuild(p, at, at->n - 1, array_new(p->a, holder, index, 0, value));
}

static bool take_out(struct patch *p, const char *op, const char *which, const struct pointer *at)
{
    const struct json *holder = NULL;
    struct str token = at->n > 0 ? at->tokens[at->n - 1] : STR("");
    size_t index = 0;

    if (!find_holder(p, op, which, at, &holder))
        return false;
    if (json_is(holder, JSON_OBJECT)) {
        if (!json_get_str(holder, token))
            return error_set(p->err, ERROR_INVALID, "error in %s for path: '" STR_FMT
                             "': Unable to remove nonexistent key: " STR_FMT ": missing value", op,
                             STR_ARG(at->text), STR_ARG(token));
        return rebuild(p, at, at->n - 1, json_with_str(p->a, holder, token, NULL));
    }
    if (!read_index(token, holder->n, &index))
        return bad_index(p, op, at);
    return rebuild(p, at, at->n - 1, array_new(p->a, holder, index, 1, NULL));
}

static bool replace(struct patch *p, const struct pointer *at, const struct json *value)
{
    const struct json *holder = NULL;

    if (at->n > 0) {
        if (!find_holder(p, "replace", "path", at, &holder))
            return false;
        if (!child(holder, at->tokens[at->n - 1]))
            return json_is(holder, JSON_ARRAY) ? bad_index(p, "replace", at)
                                               : missing_path(p, "replace", "key", at->text);
    }
    return check_depth(p, at->n, value) && rebuild(p, at, at->n, value);
}

/* An absent member passes for null. */
static bool test(struct patch *p, const struct pointer *at, const struct json *value)
{
    const struct json *holder = NULL, *v;
    struct measure m;

    if (at->n > 0 && !find_holder(p, "test", "path", at, &holder))
        return false;
    v = at->n > 0 ? child(holder, at->tokens[at->n - 1]) : p->root;
    if (!v && json_is(holder, JSON_ARRAY))
        return bad_index(p, "test", at);
    if (!measured(p, value, &m))
        return false;
    if (v ? json_eq(v, value) : json_is(value, JSON_NULL))
        return true;
    return error_set(p->err, ERROR_INVALID, "testing value " STR_FMT " failed: test failed", STR_ARG(at->text));
}

static bool move_or_copy(struct patch *p, const char *op, struct str from_text, const struct pointer *at)
{
    struct pointer from;
    const struct json *v = NULL;
    struct measure m;

    if (!from_text.p)
        return error_set(p->err, ERROR_INVALID, "%s operation failed to decode from: missing value", op);
    if (!read_pointer(p, op, "from path", from_text, &from) || !find(p, &from, from.n, &v))
        return false;
    if (!v)
        return missing_path(p, op, "from path", from_text);
    if (strcmp(op, "move") == 0)
        return take_out(p, op, "from path", &from) && add(p, op, at, v);
    if (!measured(p, v, &m))
        return false;
    p->copied += m.text;
    if (p->copied > COPIED_TEXT_MAX)
        return error_set(p->err, ERROR_TOO_LARGE, "Unable to complete the copy, the accumulated size increase of "
                         "copy is %zu, exceeding the limit %d", p->copied, COPIED_TEXT_MAX);
    return add(p, op, at, v);
}

enum op_kind { OP_ADD, OP_REMOVE, OP_REPLACE, OP_TEST, OP_MOVE, OP_COPY, OP_KINDS };
static const char *const op_names[OP_KINDS] = {"add", "remove", "replace", "test", "move", "copy"};

static bool apply(struct patch *p, const struct json *op)
{
    struct str name = json_str(json_get(op, "op")), path = json_str(json_get(op, "path"));
    const struct json *value = json_get(op, "value");
    enum op_kind kind = OP_ADD;
    struct pointer at;

    while (kind < OP_KINDS && !str_is(name, op_names[kind]))
        kind++;
    if (kind == OP_KINDS)
        return error_set(p->err, ERROR_INVALID, "Unexpected kind: " STR_FMT, STR_ARG(name.p ? name : STR("unknown")));
    if (!path.p)
        return error_set(p->err, ERROR_INVALID, "%s operation failed to decode path: missing value", op_names[kind]);
    if (!read_pointer(p, op_names[kind], "path", path, &at))
        return false;
    if (!value)
        value = json_null();
    switch (kind) {
    case OP_ADD:
        return add(p, "add", &at, value);
    case OP_REMOVE:
        return take_out(p, "remove", "path", &at);
    case OP_REPLACE:
        return replace(p, &at, value);
    case OP_TEST:
        return test(p, &at, value);
    case OP_MOVE:
    case OP_COPY:
        return move_or_copy(p, op_names[kind], json_str(json_get(op, "from")), &at);
    case OP_KINDS:
        break;
    }
    __builtin_unreachable();
}

static const char *go_kind(const struct json *v)
{
    switch (json_type(v)) {
    case JSON_NULL: return "null";
    case JSON_FALSE:
    case JSON_TRUE: return "bool";
    case JSON_NUMBER: return "number";
    case JSON_STRING: return "string";
    case JSON_ARRAY: return "array";
    case JSON_OBJECT: return "object";
    }
    __builtin_unreachable();
}

/* The wording is the API server's, whose clients print it. */
static bool check_form(const struct json *ops, struct error *err)
{
    static const char *const fields[] = {"op", "from", "path"};

    if (!json_is(ops, JSON_ARRAY) && !json_is(ops, JSON_NULL))
        return error_set(err, ERROR_BAD_REQUEST, "error decoding patch: json: cannot unmarshal %s into Go value of "
                         "type []handlers.jsonPatchOp", go_kind(ops));
    json_each_item (op, ops) {
        if (!json_is(op, JSON_OBJECT) && !json_is(op, JSON_NULL))
            return error_set(err, ERROR_BAD_REQUEST, "error decoding patch: json: cannot unmarshal %s into Go value "
                             "of type handlers.jsonPatchOp", go_kind(op));
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
            const struct json *v = json_get(op, fields[i]);
            if (v && !json_is(v, JSON_STRING) && !json_is(v, JSON_NULL))
                return error_set(err, ERROR_BAD_REQUEST, "error decoding patch: json: cannot unmarshal %s into Go "
                                 "struct field jsonPatchOp.%s of type string", go_kind(v), fields[i]);
        }
    }
    if (json_len(ops) > LIMIT_PATCH_OPS)
        return error_set(err, ERROR_TOO_LARGE, "The allowed maximum operations in a JSON patch is %d, got %zu",
                         LIMIT_PATCH_OPS, json_len(ops));
    return true;
}

bool json_patch(struct arena *a, const struct json *target, const struct json *ops, const struct json **ret,
                struct error *err)
{
    struct patch p = {.a = a, .root = target ? target : json_null(), .err = err};

    if (!check_form(ops, err) || !check_depth(&p, 0, p.root))
        return false;
    json_each_item (op, ops)
        if (!apply(&p, op))
            return false;
    *ret = p.root;
    return true;
}
