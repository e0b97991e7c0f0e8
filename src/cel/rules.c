/* cel/rules - see rules.h: the rules of a schema are found, compiled and priced here; rules_run.c enforces them. */
#include "cel/rules_tree.h"

#define FAULTS_MAX 100 /* more are not told */

struct compiler {
    struct arena *a;
    struct schema_causes *faults;
    const struct json **ignored;
    uint64_t total;
    bool too_costly; /* one rule alone is */
    struct {
        const char *path;
        uint64_t cost;
    } dearest[4];
};
struct place {
    const char *path;
    uint64_t cardinality; /* how often it can be in one object */
    bool unbounded;
    /* the list within which old and new values cannot be told to belong together, or NULL */
    const char *uncorrelated;
};

static void fault(struct compiler *c, const char *reason, const char *path, const char *message)
{
    schema_cause_add(c->faults, c->a, reason, path, "%s", message);
}

static const char *below(struct compiler *c, const char *path, size_t i, const char *member)
{
    return arena_printf(c->a, "%s.x-kubernetes-validations[%zu].%s", path, i, member);
}

/* A string as Go's encoder writes it into JSON, with what HTML minds escaped. */
static void go_string(struct buf *b, struct str s)
{
    AUTO(buf_done) struct buf plain = {.limit = 256 << 10};

    json_write_string(&plain, s.p ? s : STR(""));
    for (size_t i = 0; i < plain.n; i++) {
        char ch = plain.p[i];

        if (ch == '<' || ch == '>' || ch == '&')
            buf_addf(b, "\\u%04x", (unsigned)ch);
        else
            buf_addc(b, ch);
    }
}

/* The rule as the message about it shows it. */
static const char *shown(struct compiler *c, const struct json *rule)
{
    static const char *const members[][2] = {{"Rule", "rule"},
                                             {"Message", "message"},
                                             {"MessageExpression", "messageExpression"},
                                             {"Reason", "reason"},
                                             {"FieldPath", "fieldPath"}};
    AUTO(buf_done) struct buf b = {.limit = 512 << 10};
    const struct json *optional = json_get(rule, "optionalOldSelf");

    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        const struct json *v = json_get(rule, members[i][1]);

        buf_addf(&b, "%s\"%s\":", i ? "," : "{", members[i][0]);
        if (i == 3 && !v)
            buf_adds(&b, "null");
        else
            go_string(&b, json_str(v));
    }
    buf_addf(&b, ",\"OptionalOldSelf\":%s}",
             !optional             ? "null"
             : json_bool(optional) ? "true"
                                   : "false");
    return arena_strdup(c->a, buf_str(&b));
}

static const char *text(struct compiler *c, const struct json *rule, const char *member)
{
    struct str s = str_trim(json_str(json_get(rule, member)));

    return s.n ? arena_strdup(c->a, s) : NULL;
}

static void invalid(struct compiler *c, const char *path, struct str value, const char *why)
{
    AUTO(buf_done) struct buf b = {.limit = 256 << 10};

    json_write_string(&b, value.p ? value : STR(""));
    fault(c, "FieldValueInvalid", path, arena_printf(c->a, "Invalid value: %s: %s", b.p, why));
}

/* -- field paths ---------------------------------------------------------------------------------- */

/* One step of a fieldPath: ".name" or "['name']". */
static bool path_step(struct str *rest, struct arena *a, struct str *ret, const char **ret_why)
{
    AUTO(buf_done) struct buf name = {.limit = 4096};
    size_t i;

    if (rest->p[0] == '.') {
        for (i = 1; i < rest->n && !strchr(".[]", rest->p[i]); i++)
            ;
        *ret = str_n(rest->p + 1, i - 1);
        *rest = str_skip(*rest, i);
        *ret_why = "unexpected end of JSON path";
        return ret->n > 0;
    }
    if (rest->p[0] != '[') {
        for (i = 0; i < rest->n && !strchr(".[]", rest->p[i]); i++)
            ;
        *ret_why = arena_printf(a, "expected [ or . but got: %.*s", (int)(i ? i : 1), rest->p);
        return false;
    }
    *ret_why = "expected single quoted string";
    if (rest->n < 2 || rest->p[1] != '\'')
        return false;
    for (i = 2; i < rest->n && rest->p[i] != '\''; i++) {
        if (rest->p[i] == '\\' && i + 1 < rest->n)
            i++;
        buf_addc(&name, rest->p[i]);
    }
    *ret_why = "unexpected end of JSON path";
    if (i + 1 >= rest->n || rest->p[i + 1] != ']')
        return false;
    *ret = arena_str(a, name.n ? buf_str(&name) : STR(""));
    *rest = str_skip(*rest, i + 2);
    return true;
}

/* The path as messages have it ("spec.map[key]"), or NULL with the reason. */
static const char *field_path(struct compiler *c, struct str path, const struct json *schema,
                              const char **ret_why)
{
    AUTO(buf_done) struct buf b = {.limit = 8192};

    while (path.n) {
        struct str name;
        const struct json *properties = json_get(schema, "properties"),
                          *values = json_get(schema, "additionalProperties");

        if (!path_step(&path, c->a, &name, ret_why))
            return NULL;
        *ret_why = "does not refer to a valid field";
        if (properties) {
            schema = json_get_str(properties, name);
            buf_addf(&b, "%s" STR_FMT, b.n ? "." : "", STR_ARG(name));
        } else {
            schema = json_is(values, JSON_OBJECT) ? values : NULL;
            buf_addf(&b, "[" STR_FMT "]", STR_ARG(name));
        }
        if (!schema)
            return NULL;
    }
    return arena_strdup(c->a, b.n ? buf_str(&b) : STR(""));
}

/* -- one rule ------------------------------------------------------------------------------------- */

static bool has_break(const char *s)
{
    return s && strchr(s, '\n');
}

static void check_words(struct compiler *c, const struct json *rule, const char *path, size_t i,
                        struct rule *r)
{
    static const char *const reasons[] = {"FieldValueDuplicate", "FieldValueForbidden",
                                          "FieldValueInvalid", "FieldValueRequired"};
    struct str message = json_str(json_get(rule, "message")),
               expression = json_str(json_get(rule, "messageExpression"));
    struct str reason = json_str(json_get(rule, "reason"));
    bool known = !json_get(rule, "reason");

    if (!r->rule)
        fault(c, "FieldValueRequired", below(c, path, i, "rule"),
              "Required value: rule is not specified");
    else if (message.n && !r->message)
        invalid(c, below(c, path, i, "message"), message, "message must be non-empty if specified");
    else if (has_break(r->message))
        invalid(c, below(c, path, i, "message"), message, "message must not contain line breaks");
    else if (has_break(r->rule) && !r->message)
        fault(c, "FieldValueRequired", below(c, path, i, "message"),
              "Required value: message must be specified if rule contains line breaks");
    if (expression.n && !r->message_text)
        fault(c, "FieldValueRequired", below(c, path, i, "messageExpression"),
              "Required value: must be non-empty if specified");
    for (size_t k = 0; k < ARRAY_SIZE(reasons); k++)
        if (str_is(reason, reasons[k])) {
            known = true;
            r->reason = reasons[k];
        }
    if (!known)
        fault(c, "FieldValueNotSupported", below(c, path, i, "reason"),
              arena_printf(c->a,
                           "Unsupported value: \"" STR_FMT
                           "\": supported values: \"FieldValueDuplicate\", "
                           "\"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
                           STR_ARG(reason)));
}

static void check_field_path(struct compiler *c, const struct json *rule, const struct json *schema,
                             const char *path, size_t i, struct rule *r)
{
    struct str given = json_str(json_get(rule, "fieldPath")), trimmed = str_trim(given);
    const char *why = "";

    if (!given.n)
        return;
    if (!trimmed.n)
        invalid(c, below(c, path, i, "fieldPath"), given, "must be non-empty if specified");
    else if (str_has(given, '\n'))
        invalid(c, below(c, path, i, "fieldPath"), given, "must not contain line breaks");
    else if (!(r->field_path = field_path(c, trimmed, schema, &why)))
        invalid(c, below(c, path, i, "fieldPath"), given,
                arena_printf(c->a, "fieldPath must be a valid path: %s", why));
}

static const char *factor_text(struct compiler *c, const char *what, uint64_t cost, uint64_t max)
{
    double factor = (double)cost / (double)max;

    return arena_printf(
        c->a,
        "Forbidden: %s exceeds budget by factor of %s (try simplifying the rule, or adding "
        "maxItems, "
        "maxProperties, and maxLength where arrays, maps, and strings are declared)",
        what, factor > 100 ? "more than 100x" : arena_printf(c->a, "%.1fx", factor));
}

static void count_cost(struct compiler *c, const char *path, const char *what, uint64_t cost)
{
    size_t least = 0;

    if (cost > CEL_RULE_COST_MAX) {
        c->too_costly = true;
        fault(c, "FieldValueForbidden", path, factor_text(c, what, cost, CEL_RULE_COST_MAX));
    }
    if (__builtin_add_overflow(c->total, cost, &c->total))
        c->total = UINT64_MAX;
    for (size_t i = 1; i < ARRAY_SIZE(c->dearest); i++)
        if (c->dearest[i].cost < c->dearest[least].cost)
            least = i;
    if (cost > CEL_CRD_COST_MAX / 100 && cost > c->dearest[least].cost) {
        c->dearest[least].path = path;
        c->dearest[least].cost = cost;
    }
}

static uint64_t in_all(const struct place *p, const struct cel_type *t, uint64_t cost)
{
    uint64_t often = p->unbounded ? (uint64_t)(3145728 / (t->min_size + 1)) : p->cardinality, all;

    return __builtin_mul_overflow(cost, often, &all) ? UINT64_MAX : all;
}

/* True when it is compiled; a function that is not here is a note instead of a fault where that is asked for. */
static bool compiled(struct compiler *c, const struct cel_env *env, const char *expression,
                     const char *prefix, const struct json *rule, const char *path,
                     const struct cel_program **ret, const char **ret_error)
{
    AUTO(error_clear) struct error err = {0};

    if (cel_compile(c->a, env, str_of(expression), ret, &err))
        return true;
    *ret = NULL;
    if (err.kind == ERROR_UNSUPPORTED && c->ignored) {
        *c->ignored = json_append(
            c->a, *c->ignored,
            json_new_f(c->a, "%s: this rule is not enforced: %s", path, error_text(&err)));
        return false;
    }
    *ret_error = arena_strdup(c->a, str_of(error_text(&err)));
    fault(c, "FieldValueInvalid", path,
          arena_printf(c->a, "Invalid value: %s: %s%s", shown(c, rule), prefix, error_text(&err)));
    return false;
}

static void compile_message(struct compiler *c, const struct cel_env *env, const struct json *rule,
                            const struct place *p, size_t i, struct rule *r)
{
    const char *path = below(c, p->path, i, "messageExpression"), *error = NULL;

    if (!r->message_text
        || !compiled(c, env, r->message_text, "messageExpression compilation failed: ", rule, path,
                     &r->message_program, &error))
        return;
    if (cel_result(r->message_program)->kind != CEL_STRING) {
        fault(c, "FieldValueInvalid", path,
              arena_printf(c->a, "Invalid value: %s: messageExpression must evaluate to a string",
                           shown(c, rule)));
        r->message_program = NULL;
        return;
    }
    count_cost(c, path, "estimated messageExpression cost", cel_max_cost(r->message_program));
}

static void compile_rule(struct compiler *c, const struct json *rule, const struct cel_rules *at,
                         const struct place *p, size_t i, struct rule *r)
{
    const char *path = below(c, p->path, i, "rule");
    struct cel_variable vars[2] = {{"self", at->type}, {"oldSelf", at->type}};
    const struct cel_env env = {vars, 2};

    if (r->optional_old)
        vars[1].type = cel_optional_of(c->a, at->type);
    if (!r->rule
        || !compiled(c, &env, r->rule, "compilation failed: ", rule, path, &r->program, &r->error))
        return;
    if (cel_result(r->program)->kind != CEL_BOOL) {
        r->error = "cel expression must evaluate to a bool";
        r->program = NULL;
        fault(c, "FieldValueInvalid", path,
              arena_printf(c->a, "Invalid value: %s: %s", shown(c, rule), r->error));
        return;
    }
    count_cost(c, path, "estimated rule cost", in_all(p, at->type, cel_max_cost(r->program)));
    compile_message(c, &env, rule, p, i, r);
    r->uses_old = cel_uses(r->program, "oldSelf")
                  || (r->message_program && cel_uses(r->message_program, "oldSelf"));
    if (r->uses_old && p->uncorrelated)
        invalid(c, path, str_of(r->rule),
                arena_printf(
                    c->a,
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within %s",
                    p->uncorrelated));
    if (!r->uses_old && json_get(rule, "optionalOldSelf"))
        fault(c, "FieldValueInvalid", below(c, p->path, i, "optionalOldSelf"),
              arena_printf(c->a, "Invalid value: %s: may not be set if oldSelf is not used in rule",
                           r->optional_old ? "true" : "false"));
}

static void compile_rules(struct compiler *c, const struct json *schema, const struct json *list,
                          const struct place *p, struct cel_rules *at)
{
    size_t i = 0;

    if (!json_len(list) || c->faults->n >= FAULTS_MAX)
        return;
    if (!at->type) {
        fault(c, "FieldValueInvalid", arena_printf(c->a, "%s.x-kubernetes-validations", p->path),
              arena_printf(
                  c->a,
                  "Internal error: rule declared on schema that does not support validation rules "
                  "type: '" STR_FMT "' x-kubernetes-preserve-unknown-fields: '%s'",
                  STR_ARG(json_str(json_get(schema, "type"))),
                  json_bool(json_get(schema, "x-kubernetes-preserve-unknown-fields")) ? "true"
                                                                                      : "false"));
        return;
    }
    at->rules = ARENA_ARRAY(c->a, struct rule, json_len(list));
    json_each_item(it, list) {
        struct rule *r = &at->rules[i];

        r->rule = text(c, it, "rule");
        r->message = text(c, it, "message");
        r->message_text = text(c, it, "messageExpression");
        r->optional_old = json_bool(json_get(it, "optionalOldSelf"));
        check_words(c, it, p->path, i, r);
        check_field_path(c, it, schema, p->path, i, r);
        compile_rule(c, it, at, p, i, r);
        at->uses_old |= r->uses_old;
        i++;
    }
    at->n_rules = i;
}

/* -- schemas -------------------------------------------------------------------------------------- */

static struct cel_rules *walk(struct compiler *c, const struct json *schema,
                              const struct cel_type *type, const struct place *p, bool root);

static struct place multiplied(const struct place *p, const struct json *schema, const char *limit)
{
    struct place ret = *p;
    int64_t n;

    if (!json_i64(json_get(schema, limit), &n) || n < 0)
        ret.unbounded = true;
    else if (__builtin_mul_overflow(ret.cardinality, (uint64_t)n, &ret.cardinality))
        ret.cardinality = UINT64_MAX;
    return ret;
}

static int by_name(const void *x, const void *y)
{
    const struct rules_field *a = x, *b = y;

    return strcmp(a->name, b->name);
}

static void walk_properties(struct compiler *c, const struct json *schema,
                            const struct cel_type *type, const struct place *p,
                            struct cel_rules *at)
{
    const struct json *properties = json_get(schema, "properties");

    at->fields = ARENA_ARRAY(c->a, struct rules_field, json_len(properties) + 1);
    json_each_member(m, properties) {
        struct place inner = *p;
        const struct cel_type *t = NULL;
        bool embedded = json_bool(json_get(&m->value, "x-kubernetes-embedded-resource"));
        struct cel_rules *r;

        for (size_t i = 0; type && i < type->n_fields && !t; i++)
            if (str_is(json_str(&m->key), type->fields[i].key))
                t = type->fields[i].type;
        inner.path =
            arena_printf(c->a, "%s.properties[" STR_FMT "]", p->path, STR_ARG(json_str(&m->key)));
        r = walk(c, &m->value, t ? t : cel_type_of_schema(c->a, &m->value, embedded), &inner,
                 embedded);
        if (r)
            at->fields[at->n_fields++] =
                (struct rules_field){arena_strdup(c->a, json_str(&m->key)), r};
    }
    if (at->n_fields)
        qsort(at->fields, at->n_fields, sizeof *at->fields, by_name);
}

static void walk_items(struct compiler *c, const struct json *schema, const struct cel_type *type,
                       const struct place *p, struct cel_rules *at)
{
    const struct json *items = json_get(schema, "items");
    struct place inner = multiplied(p, schema, "maxItems");
    bool embedded = json_bool(json_get(items, "x-kubernetes-embedded-resource"));

    if (!items)
        return;
    inner.path = arena_printf(c->a, "%s.items", p->path);
    if (!str_is(json_str(json_get(schema, "x-kubernetes-list-type")), "map") && !inner.uncorrelated)
        inner.uncorrelated = p->path;
    at->items = walk(c, items, type ? type->elem : cel_type_of_schema(c->a, items, embedded),
                     &inner, embedded);
}

static void walk_values(struct compiler *c, const struct json *schema, const struct cel_type *type,
                        const struct place *p, struct cel_rules *at)
{
    const struct json *values = json_get(schema, "additionalProperties");
    struct place inner = multiplied(p, schema, "maxProperties");
    bool embedded = json_bool(json_get(values, "x-kubernetes-embedded-resource"));

    if (!json_is(values, JSON_OBJECT))
        return;
    inner.path = arena_printf(c->a, "%s.additionalProperties", p->path);
    at->values = walk(c, values, type ? type->elem : cel_type_of_schema(c->a, values, embedded),
                      &inner, embedded);
}

/* Rules within anyOf, oneOf and not would hold or not with their branch: structural schemas have none. */
static void forbid_within(struct compiler *c, const struct json *schema, const char *path)
{
    if (json_len(json_get(schema, "x-kubernetes-validations")))
        fault(c, "FieldValueForbidden", arena_printf(c->a, "%s.x-kubernetes-validations", path),
              "Forbidden: must be empty to be structural");
}

static void walk_branches(struct compiler *c, const struct json *schema,
                          const struct cel_type *type, const struct place *p, struct cel_rules *at)
{
    static const char *const words[] = {"allOf", "anyOf", "oneOf"};

    for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
        const struct json *list = json_get(schema, words[w]);
        size_t i = 0;

        if (w == 0)
            at->all_of = ARENA_ARRAY(c->a, const struct cel_rules *, json_len(list) + 1);
        json_each_item(it, list) {
            struct place inner = *p;
            const struct cel_rules *r;

            inner.path = arena_printf(c->a, "%s.%s[%zu]", p->path, words[w], i++);
            if (w) {
                forbid_within(c, it, inner.path);
                continue;
            }
            r = walk(c, it, type, &inner, false);
            if (r)
                at->all_of[at->n_all_of++] = r;
        }
    }
    forbid_within(c, json_get(schema, "not"), arena_printf(c->a, "%s.not", p->path));
}

static struct cel_rules *walk(struct compiler *c, const struct json *schema,
                              const struct cel_type *type, const struct place *p, bool root)
{
    struct cel_rules *at = ARENA_NEW(c->a, struct cel_rules);
    struct str list = json_str(json_get(schema, "x-kubernetes-list-type"));
    size_t before = c->faults->n;

    (void)root;
    at->type = type;
    compile_rules(c, schema, json_get(schema, "x-kubernetes-validations"), p, at);
    walk_branches(c, schema, type, p, at);
    walk_properties(c, schema, type, p, at);
    walk_items(c, schema, type, p, at);
    walk_values(c, schema, type, p, at);
    if (str_is(list, "map") && type)
        at->list_keys = type->list_keys;
    if (json_get(schema, "default") && c->faults->n == before)
        cel_rules_enforce_at(at, json_get(schema, "default"),
                             arena_printf(c->a, "%s.default", p->path), c->a, c->faults);
    return at->n_rules || at->n_fields || at->n_all_of || at->items || at->values ? at : NULL;
}

/* Most schemas have no rules at all: then nothing is built. */
static bool any_rules(const struct json *v)
{
    if (json_is(v, JSON_OBJECT)) {
        json_each_member(m, v) {
            if (str_is(json_str(&m->key), "x-kubernetes-validations") ? json_len(&m->value) > 0
                                                                      : any_rules(&m->value))
                return true;
        }
    }
    json_each_item(it, v) {
        if (any_rules(it))
            return true;
    }
    return false;
}

const struct cel_rules *cel_rules_compile(struct arena *a, const struct json *schema,
                                          const char *path, struct schema_causes *faults,
                                          const struct json **ignored)
{
    struct compiler c = {.a = a, .faults = faults, .ignored = ignored};
    struct place root = {.path = path, .cardinality = 1};
    const struct cel_rules *ret;

    if (!any_rules(schema))
        return NULL;
    ret = walk(&c, schema, cel_type_of_schema(a, schema, true), &root, true);
    if (c.total > CEL_CRD_COST_MAX && !c.too_costly) {
        for (size_t i = 0; i < ARRAY_SIZE(c.dearest); i++)
            if (c.dearest[i].path)
                fault(&c, "FieldValueForbidden", c.dearest[i].path,
                      "Forbidden: contributed to estimated rule cost total exceeding cost limit "
                      "for entire OpenAPIv3 "
                      "schema");
        fault(&c, "FieldValueForbidden", path,
              factor_text(
                  &c,
                  "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema",
                  c.total, CEL_CRD_COST_MAX));
    }
    return ret;
}
