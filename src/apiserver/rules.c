#include "apiserver/rules.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include <stdlib.h>

static bool has(const struct json *list, struct str wanted)
{
    json_each_item(it, list) {
        if (str_eq(json_str(it), wanted))
            return true;
    }
    return false;
}

static bool has_or_all(const struct json *list, struct str wanted)
{
    return has(list, STR("*")) || has(list, wanted);
}

static bool has_subresource_of_all(const struct json *list, struct str sub)
{
    json_each_item(it, list) {
        struct str s = json_str(it);

        if (s.n == sub.n + 2 && str_starts(s, STR("*/")) && str_ends(s, sub))
            return true;
    }
    return false;
}

static bool resource_allowed(const struct json *list, struct str resource, struct str sub)
{
    if (has(list, STR("*")))
        return true;
    if (!sub.n)
        return has(list, resource);
    json_each_item(it, list) {
        struct str left, right;

        if (str_cut(json_str(it), '/', &left, &right) && str_eq(right, sub)
            && (str_is(left, "*") || str_eq(left, resource)))
            return true;
    }
    return false;
}

bool url_covers(struct str pattern, struct str path)
{
    struct str stem = pattern;

    if (str_eq(pattern, path))
        return true;
    if (!str_ends(pattern, STR("*")))
        return false;
    while (str_ends(stem, STR("*")))
        stem = str_take(stem, stem.n - 1);
    return str_starts(path, stem);
}

bool rule_allows(const struct json *rule, const struct access *w)
{
    const struct json *names;

    if (!has_or_all(json_get(rule, "verbs"), w->verb))
        return false;
    if (w->path.p) {
        json_each_item(it, json_get(rule, "nonResourceURLs")) {
            if (str_is(json_str(it), "*") || url_covers(json_str(it), w->path))
                return true;
        }
        return false;
    }
    names = json_get(rule, "resourceNames");
    return has_or_all(json_get(rule, "apiGroups"), w->group)
           && resource_allowed(json_get(rule, "resources"), w->resource, w->subresource)
           && (!json_len(names) || has(names, w->name.p ? w->name : STR("")));
}

/* One verb on one resource, name or path: what remains of a rule when it is taken apart. */
struct atom {
    struct str verb, group, resource, name, url; /* absent: the rule has none */
};

static bool resource_covered(const struct json *list, struct str path)
{
    struct str left, sub;

    if (has_or_all(list, path))
        return true;
    return str_cut(path, '/', &left, &sub) && has_subresource_of_all(list, sub);
}

static bool atom_covered(const struct json *rule, const struct atom *m)
{
    const struct json *names = json_get(rule, "resourceNames");

    if (!has_or_all(json_get(rule, "verbs"), m->verb))
        return false;
    if (m->url.p) {
        json_each_item(it, json_get(rule, "nonResourceURLs")) {
            if (url_covers(json_str(it), m->url))
                return true;
        }
        return false;
    }
    return has_or_all(json_get(rule, "apiGroups"), m->group)
           && resource_covered(json_get(rule, "resources"), m->resource)
           && (!json_len(names) || (m->name.p && has(names, m->name)));
}

/* A rule of long lists has more atoms than anybody can compare; what is over the budget counts as not covered. */
enum { ATOMS_MAX = 200000, MISSING_MAX = 2000 };
struct cover {
    const struct json *owned;
    size_t left; /* atoms that may still be looked at */
};

static bool covered(struct cover *c, const struct atom *m)
{
    if (!c->left)
        return false;
    c->left--;
    json_each_item(rule, c->owned) {
        if (atom_covered(rule, m))
            return true;
    }
    return false;
}

static bool all_in(const struct json *lists, const char *key, const struct json *owned_rule)
{
    const struct json *mine = json_get(owned_rule, key);

    if (has(mine, STR("*")))
        return true;
    json_each_item(it, json_get(lists, key)) {
        if (!has(mine, json_str(it)))
            return false;
    }
    return true;
}

/* The common case in one step: some rule has all of it. */
static bool whole_covered(const struct json *owned, const struct json *rule)
{
    if (json_len(json_get(rule, "nonResourceURLs")))
        return false;
    json_each_item(mine, owned) {
        if (!json_len(json_get(mine, "resourceNames")) && all_in(rule, "verbs", mine)
            && all_in(rule, "apiGroups", mine) && all_in(rule, "resources", mine))
            return true;
    }
    return false;
}

struct atoms {
    struct atom *p;
    size_t n, cap;
};

static void missing(struct cover *c, const struct atom *m, struct atoms *out)
{
    if (out->n < MISSING_MAX && !covered(c, m))
        vec_push(out, *m);
}

static void uncovered(struct cover *c, const struct json *rule, struct atoms *out)
{
    const struct json *names = json_get(rule, "resourceNames");

    if (whole_covered(c->owned, rule))
        return;
    json_each_item(verb, json_get(rule, "verbs")) {
        struct atom m = {.verb = json_str(verb)};

        json_each_item(group, json_get(rule, "apiGroups")) {
            json_each_item(resource, json_get(rule, "resources")) {
                m.group = json_str(group);
                m.resource = json_str(resource);
                m.name = STR_NONE;
                if (out->n >= MISSING_MAX)
                    return;
                if (!json_len(names))
                    missing(c, &m, out);
                json_each_item(name, names) {
                    m.name = json_str(name);
                    missing(c, &m, out);
                }
            }
        }
        m = (struct atom){.verb = json_str(verb)};
        json_each_item(url, json_get(rule, "nonResourceURLs")) {
            m.url = json_str(url);
            missing(c, &m, out);
        }
    }
}

const struct json *rules_missing(const struct json *owned, const struct json *wanted,
                                 struct arena *a)
{
    const struct json *out = json_array(a, NULL);

    json_each_item(rule, wanted) {
        struct atoms left = {0};
        struct cover c = {owned, ATOMS_MAX};

        uncovered(&c, rule, &left);
        if (left.n)
            out = json_append(a, out, rule);
        vec_done(&left);
    }
    return out;
}

/* Go's %q for what can stand in a rule. */
static void quoted(struct buf *b, struct str s)
{
    json_write_string(b, s);
}

void quoted_list(struct buf *b, const struct json *list)
{
    bool first = true;

    buf_addc(b, '[');
    json_each_item(it, list) {
        if (!first)
            buf_addc(b, ' ');
        first = false;
        quoted(b, json_str(it));
    }
    buf_addc(b, ']');
}

static void part(struct buf *b, const char *name, struct str value)
{
    if (!value.p)
        return;
    buf_addf(b, "%s%s:[", b->p[b->n - 1] == '{' ? "" : ", ", name);
    quoted(b, value);
    buf_addc(b, ']');
}

static bool same_but_verb(const struct atom *x, const struct atom *y)
{
    return str_eq(x->group, y->group) && str_eq(x->resource, y->resource)
           && str_eq(x->name, y->name) && !x->url.p && !y->url.p && !x->name.p == !y->name.p;
}

/* {APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}: verbs of one resource together, paths by themselves. */
static char *line(const struct atoms *all, size_t at, struct arena *a)
{
    const struct atom *m = &all->p[at];
    AUTO(buf_done) struct buf b = {0};

    buf_addc(&b, '{');
    part(&b, "APIGroups", m->group);
    part(&b, "Resources", m->resource);
    part(&b, "NonResourceURLs", m->url);
    part(&b, "ResourceNames", m->name);
    buf_adds(&b, ", Verbs:[");
    quoted(&b, m->verb);
    for (size_t i = at + 1; i < all->n; i++)
        if (same_but_verb(m, &all->p[i])) {
            buf_addc(&b, ' ');
            quoted(&b, all->p[i].verb);
        }
    buf_adds(&b, "]}");
    return arena_strdup(a, buf_str(&b));
}

static int by_text(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

bool rules_cover(const struct json *owned, const struct json *wanted, struct arena *a,
                 const char **ret_missing)
{
    struct atoms left = {0};
    struct cover c = {owned, ATOMS_MAX};
    AUTO(buf_done) struct buf b = {0};
    const char **lines;
    size_t n = 0;

    json_each_item(rule, wanted)
        uncovered(&c, rule, &left);
    if (!left.n)
        return true;
    lines = ARENA_ARRAY(a, const char *, left.n);
    for (size_t i = 0; i < left.n; i++) {
        bool told = false;

        for (size_t j = 0; j < i && !told; j++)
            told = same_but_verb(&left.p[j], &left.p[i]);
        if (!told)
            lines[n++] = line(&left, i, a);
    }
    vec_done(&left);
    qsort(lines, n, sizeof *lines, by_text);
    for (size_t i = 0; i < n; i++) {
        if (i && !strcmp(lines[i - 1], lines[i]))
            continue;
        buf_addf(&b, "%s%s", i ? "\n" : "", lines[i]);
    }
    *ret_missing = arena_strdup(a, buf_str(&b));
    return false;
}
