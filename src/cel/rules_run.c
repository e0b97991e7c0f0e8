/* cel/rules_run - an object against the rules of its kind.
 *
 * The walk goes over the object beside the tree of rules, with the value before an update beside it as far as the two
 * can be told to belong together: by name, and in lists by their keys. A rule without oldSelf that fails about a value
 * which did not change does not stop the update (ratcheting): a rule that came later must not lock objects up. */
#include "cel/rules_tree.h"

#define MESSAGE_MAX 5120
#define PATH_MAX_BYTES (64 << 10)

/* A place and the same one before; what is above it, to see whether an ancestor stayed the same. */
struct pair {
    const struct json *now, *old;
    bool related; /* old is what `now` was */
    const struct pair *up;
};
struct enforcer {
    struct arena *a, scratch;
    struct schema_causes *causes;
    const struct json **warnings;
    struct buf path;
    uint64_t budget;
    bool over;
};

static const char *where(const struct enforcer *e)
{
    return e->path.n ? e->path.p : "<nil>";
}

static bool unchanged(const struct pair *p)
{
    for (; p; p = p->up)
        if (p->related)
            return json_eq(p->now, p->old);
    return false;
}

static const char *words_of(const char *reason)
{
    if (!reason || strcmp(reason, "FieldValueInvalid") == 0)
        return "Invalid value";
    return strcmp(reason, "FieldValueForbidden") == 0  ? "Forbidden"
           : strcmp(reason, "FieldValueRequired") == 0 ? "Required value"
                                                       : "Duplicate value";
}

static void say(struct enforcer *e, const struct rule *r, const char *detail, const struct pair *p)
{
    const char *field = where(e), *reason = r->reason ? r->reason : "FieldValueInvalid", *message;

    if (r->field_path && *r->field_path)
        field = e->path.n ? arena_printf(e->a, "%s%s%s", e->path.p,
                                         *r->field_path == '[' ? "" : ".", r->field_path)
                          : r->field_path;
    message = strcmp(reason, "FieldValueDuplicate") == 0
                  ? "Duplicate value"
                  : arena_printf(e->a, "%s: %s", words_of(reason), detail);
    if (r->uses_old || !unchanged(p))
        schema_cause_add(e->causes, e->a, reason, field, "%s", message);
    else if (e->warnings)
        *e->warnings = json_append(e->a, *e->warnings, json_new_f(e->a, "%s: %s", field, message));
}

/* Trouble with the evaluation itself. */
static void trouble(struct enforcer *e, const char *detail)
{
    schema_cause_add(e->causes, e->a, "FieldValueInvalid", where(e), "Invalid value: %s", detail);
}

static const char *rule_words(const struct rule *r)
{
    return r->message ? r->message : r->rule;
}

static void out_of_budget(struct enforcer *e)
{
    trouble(e, "validation failed due to running out of cost budget, no further validation rules "
               "will be run");
    e->over = true;
}

/* What is done beside evaluations is paid for too, so that long lists end. */
static bool spend(struct enforcer *e)
{
    if (e->budget)
        e->budget--;
    else if (!e->over)
        out_of_budget(e);
    return !e->over;
}

/* NULL: the message that is written is to be used. */
static const char *computed_message(struct enforcer *e, const struct rule *r,
                                    const struct cel_value *values)
{
    AUTO(error_clear) struct error err = {0};
    struct cel_value v;
    struct str s;

    if (!r->message_program)
        return NULL;
    if (!cel_eval(r->message_program, values, &e->scratch, &e->budget, &v, &err)) {
        if (err.kind == ERROR_TOO_LARGE)
            out_of_budget(e);
        return NULL;
    }
    s = v.kind == CEL_STRING ? str_trim(v.s) : STR_NONE;
    if (!s.n || s.n > MESSAGE_MAX || str_has(s, '\n'))
        return NULL;
    return arena_strdup(e->a, s);
}

static void failed(struct enforcer *e, const struct rule *r, const struct cel_value *values,
                   const struct pair *p)
{
    const char *detail = computed_message(e, r, values);

    if (e->over)
        return;
    if (!detail)
        detail = r->message ? r->message : arena_printf(e->a, "failed rule: %s", r->rule);
    say(e, r, detail, p);
}

static void evaluation_error(struct enforcer *e, const struct rule *r, const struct error *err)
{
    if (err->kind == ERROR_TOO_LARGE) {
        if (e->budget == 0) {
            out_of_budget(e);
            return;
        }
        trouble(e, arena_printf(e->a,
                                "'%s': no further validation rules will be run due to call cost "
                                "exceeds limit for rule: %s",
                                error_text(err), rule_words(r)));
        e->over = true;
    } else if (str_starts(str_of(error_text(err)), STR("no such overload"))) {
        trouble(e, arena_printf(e->a,
                                "'%s': call arguments did not match a supported operator, function "
                                "or macro signature for "
                                "rule: %s",
                                error_text(err), rule_words(r)));
    } else {
        trouble(e, arena_printf(e->a, "%s evaluating rule: %s", error_text(err), rule_words(r)));
    }
}

static void enforce(struct enforcer *e, const struct cel_rules *at, const struct rule *r,
                    const struct pair *p, const struct json *old)
{
    AUTO(error_clear) struct error err = {0};
    struct cel_value values[2], was;
    bool ok;

    if (r->error)
        trouble(e, arena_printf(e->a, "rule compile error: %s", r->error));
    if (!r->program || (r->uses_old && !old && !r->optional_old))
        return;
    if (!spend(e))
        return;
    values[0] = cel_of_json(p->now, at->type);
    was = old ? cel_of_json(old, at->type) : cel_absent();
    values[1] = !r->optional_old ? was
                : old            ? (struct cel_value){.kind = CEL_OPTIONAL, .some = &was}
                                 : cel_v_none();
    if (!cel_eval_bool(r->program, values, &e->scratch, &e->budget, &ok, &err))
        evaluation_error(e, r, &err);
    else if (!ok)
        failed(e, r, values, p);
    arena_clear(&e->scratch);
}

/* -- the walk ------------------------------------------------------------------------------------- */

static void walk(struct enforcer *e, const struct cel_rules *at, const struct json *old,
                 const struct pair *p);

static void leave(struct enforcer *e, size_t before)
{
    if (e->path.p) {
        e->path.n = before;
        e->path.p[before] = '\0';
    }
}

static bool same_keys(const struct json *a, const struct json *b, const char *const *keys)
{
    for (; *keys; keys++) {
        const struct json *x = json_get(a, *keys), *y = json_get(b, *keys);

        if (x && y ? !json_eq(x, y) : x || y)
            return false;
    }
    return true;
}

/* The item with the same keys: mostly at the same place. */
static const struct json *was_at(struct enforcer *e, const struct json *list, size_t place,
                                 const struct json *item, const char *const *keys)
{
    const struct json *here = json_item(list, place);

    if (here && same_keys(here, item, keys))
        return here;
    json_each_item(it, list) {
        if (!spend(e))
            return NULL;
        if (same_keys(it, item, keys))
            return it;
    }
    return NULL;
}

static void walk_list(struct enforcer *e, const struct cel_rules *at, const struct json *old,
                      const struct pair *p)
{
    size_t i = 0;

    json_each_item(it, p->now) {
        size_t before = e->path.n;
        const struct json *was = at->list_keys ? was_at(e, old, i, it, at->list_keys) : NULL;
        struct pair inner = {it, was, was != NULL && p->related, p};

        if (e->over)
            return;
        buf_addf(&e->path, "[%zu]", i++);
        walk(e, at->items, was, &inner);
        leave(e, before);
    }
}

static void walk_member(struct enforcer *e, const struct cel_rules *rules,
                        const struct json_member *m, const struct json *old, const struct pair *p,
                        bool named)
{
    const struct json *was = json_get_str(old, json_str(&m->key));
    struct pair inner = {&m->value, was, was != NULL && p->related, p};
    size_t before = e->path.n;

    if (named)
        buf_addf(&e->path, "%s" STR_FMT, before ? "." : "", STR_ARG(json_str(&m->key)));
    else
        buf_addf(&e->path, "[" STR_FMT "]", STR_ARG(json_str(&m->key)));
    walk(e, rules, was, &inner);
    leave(e, before);
}

static const struct cel_rules *field_rules(const struct cel_rules *at, struct str name)
{
    size_t lo = 0, hi = at->n_fields;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = str_cmp(name, str_of(at->fields[mid].name));

        if (order == 0)
            return at->fields[mid].rules;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static void walk_object(struct enforcer *e, const struct cel_rules *at, const struct json *old,
                        const struct pair *p)
{
    const struct cel_rules *field;

    json_each_member(m, p->now) {
        if (e->over)
            return;
        if (at->values)
            walk_member(e, at->values, m, old, p, false);
        field = field_rules(at, json_str(&m->key));
        if (field)
            walk_member(e, field, m, old, p, true);
    }
}

static void walk(struct enforcer *e, const struct cel_rules *at, const struct json *old,
                 const struct pair *p)
{
    if (json_is(p->now, JSON_NULL) || e->over)
        return;
    if (json_is(old, JSON_NULL))
        old = NULL;
    for (size_t i = 0; i < at->n_rules && !e->over; i++)
        enforce(e, at, &at->rules[i], p, old);
    for (size_t i = 0; i < at->n_all_of && !e->over; i++)
        walk(e, at->all_of[i], old, p);
    if (at->items && json_is(p->now, JSON_ARRAY))
        walk_list(e, at, old, p);
    else if (json_is(p->now, JSON_OBJECT))
        walk_object(e, at, old, p);
}

void cel_rules_validate(const struct cel_rules *rules, const struct json *object,
                        const struct json *old, struct arena *a, struct schema_causes *causes,
                        const struct json **warnings)
{
    struct enforcer e = {.a = a,
                         .causes = causes,
                         .warnings = warnings,
                         .path = {.limit = PATH_MAX_BYTES},
                         .budget = CEL_REQUEST_BUDGET};
    struct pair root = {object, old, old != NULL, NULL};

    if (!rules)
        return;
    walk(&e, rules, old, &root);
    buf_done(&e.path);
    arena_done(&e.scratch);
}

void cel_rules_enforce_at(const struct cel_rules *rules, const struct json *value, const char *path,
                          struct arena *a, struct schema_causes *causes)
{
    struct enforcer e = {
        .a = a, .causes = causes, .path = {.limit = PATH_MAX_BYTES}, .budget = CEL_REQUEST_BUDGET};
    struct pair root = {value, NULL, false, NULL};

    buf_adds(&e.path, path);
    walk(&e, rules, NULL, &root);
    buf_done(&e.path);
    arena_done(&e.scratch);
}
