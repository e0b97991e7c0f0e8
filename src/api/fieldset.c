#include "api/fieldset.h"

#include "base/cleanup.h"
#include "base/map.h"

/* -- places --------------------------------------------------------------------------------------- */

static bool atomic(struct fieldset_place at)
{
    return (at.field && at.field->flags & SCHEMA_GRANULAR_ATOMIC)
           || (at.type && at.type->flags & SCHEMA_GRANULAR_ATOMIC);
}

enum fieldset_form fieldset_form(struct fieldset_place at, const struct json *v)
{
    if (json_is(v, JSON_OBJECT))
        return atomic(at) || json_len(v) == 0 ? FORM_LEAF : FORM_OBJECT;
    if (!json_is(v, JSON_ARRAY) || !at.field || !at.type || at.type->kind != SCHEMA_LIST || json_len(v) == 0)
        return FORM_LEAF;
    if (at.field->list == SCHEMA_LIST_MAP) {
        json_each_item(it, v) {
            if (!json_is(it, JSON_OBJECT))
                return FORM_LEAF;
        }
        return FORM_LIST_MAP;
    }
    if (at.field->list == SCHEMA_LIST_SET) {
        json_each_item(it, v) {
            if (json_is(it, JSON_OBJECT) || json_is(it, JSON_ARRAY))
                return FORM_LEAF;
        }
        return FORM_SET;
    }
    return FORM_LEAF;
}

struct fieldset_place fieldset_member_place(struct fieldset_place at, struct str name)
{
    struct fieldset_place below = {0};

    if (at.type && at.type->kind == SCHEMA_OBJECT) {
        below.field = schema_field(at.type, name);
        below.type = below.field ? below.field->type : NULL;
    } else if (at.type && at.type->kind == SCHEMA_MAP) {
        below.type = at.type->item;
    }
    return below;
}

struct fieldset_place fieldset_item_place(struct fieldset_place at)
{
    return (struct fieldset_place){at.type ? at.type->item : NULL, NULL};
}

struct str fieldset_name_element(struct arena *a, struct str name)
{
    char *p = arena_alloc_bytes(a, name.n + 3);

    memcpy(p, "f:", 2);
    if (name.n)
        memcpy(p + 2, name.p, name.n);
    p[name.n + 2] = '\0';
    return str_n(p, name.n + 2);
}

struct str fieldset_item_element(struct arena *a, struct fieldset_place at, const struct json *item)
{
    AUTO(buf_done) struct buf b = {0};

    if (at.field->list == SCHEMA_LIST_SET) {
        buf_adds(&b, "v:");
        json_write_sorted(&b, item);
    } else {
        const struct json *key = json_object(a, NULL);

        for (size_t i = 0; at.field->list_keys && at.field->list_keys[i]; i++) {
            const char *name = at.field->list_keys[i];
            const struct json *v = json_get(item, name);
            struct fieldset_place below = fieldset_member_place(fieldset_item_place(at), str_of(name));

            if (!v && below.field && below.field->default_json) {
                struct error err = {0};

                if (!json_parse_borrowed(str_of(below.field->default_json), a, &v, &err))
                    error_clear(&err);
            }
            if (v)
                key = json_with(a, key, name, v);
        }
        buf_adds(&b, "k:");
        json_write_sorted(&b, key);
    }
    return arena_str(a, buf_str(&b));
}

/* -- building ------------------------------------------------------------------------------------- */

static int by_element(const void *x, const void *y)
{
    const struct fieldset_child *a = x, *b = y;

    return str_cmp(a->element, b->element);
}

/* Sorts and joins equal elements. Takes the array. */
static struct fieldset sorted(struct arena *a, struct fieldset_child *p, size_t n)
{
    size_t out = 0;

    if (n)
        qsort(p, n, sizeof *p, by_element);
    for (size_t i = 0; i < n; i++) {
        if (out && str_eq(p[out - 1].element, p[i].element)) {
            p[out - 1].member |= p[i].member;
            p[out - 1].below = fieldset_union(a, &p[out - 1].below, &p[i].below);
        } else {
            p[out++] = p[i];
        }
    }
    return (struct fieldset){p, out};
}

struct fieldset fieldset_read(struct arena *a, const struct json *v)
{
    struct fieldset_child *p = ARENA_ARRAY(a, struct fieldset_child, json_len(v));
    size_t n = 0;

    json_each_member(m, v) {
        struct str element = json_str(&m->key);

        if (element.n < 2 || element.p[1] != ':' || !json_is(&m->value, JSON_OBJECT))
            continue; /* "." is seen by the level above */
        p[n].element = element;
        p[n].member = json_len(&m->value) == 0 || json_get(&m->value, ".");
        p[n].below = fieldset_read(a, &m->value);
        n++;
    }
    return sorted(a, p, n);
}

static const struct json *write_child(struct arena *a, const struct fieldset_child *c);

static const struct json *write_set(struct arena *a, const struct fieldset *s, bool member)
{
    struct json_member *p = ARENA_ARRAY(a, struct json_member, s->n + 1);
    size_t n = 0;

    if (member)
        p[n++] = json_member_of(a, STR("."), json_object(a, NULL));
    for (size_t i = 0; i < s->n; i++)
        p[n++] = json_member_of(a, s->p[i].element, write_child(a, &s->p[i]));
    return json_object_n(a, p, n);
}

static const struct json *write_child(struct arena *a, const struct fieldset_child *c)
{
    return write_set(a, &c->below, c->member && c->below.n);
}

const struct json *fieldset_write(struct arena *a, const struct fieldset *s) { return write_set(a, s, false); }

bool fieldset_empty(const struct fieldset *s) { return s->n == 0; }

bool fieldset_eq(const struct fieldset *a, const struct fieldset *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (a->p[i].member != b->p[i].member || !str_eq(a->p[i].element, b->p[i].element)
            || !fieldset_eq(&a->p[i].below, &b->p[i].below))
            return false;
    return true;
}

enum operation { UNION, MINUS, COMMON };

static struct fieldset combine(struct arena *a, const struct fieldset *x, const struct fieldset *y, enum operation op)
{
    struct fieldset_child *p = ARENA_ARRAY(a, struct fieldset_child, x->n + y->n);
    size_t i = 0, k = 0, n = 0;

    while (i < x->n || k < y->n) {
        int order = i >= x->n ? 1 : k >= y->n ? -1 : str_cmp(x->p[i].element, y->p[k].element);
        struct fieldset_child c;

        if (order == 0) {
            const struct fieldset_child *l = &x->p[i++], *r = &y->p[k++];

            c = *l;
            c.member = op == UNION ? l->member || r->member : op == MINUS ? l->member && !r->member
                                                                          : l->member && r->member;
            c.below = combine(a, &l->below, &r->below, op);
        } else if (order < 0) {
            c = x->p[i++];
            if (op == COMMON)
                continue;
        } else {
            c = y->p[k++];
            if (op != UNION)
                continue;
        }
        if (c.member || c.below.n)
            p[n++] = c;
    }
    return (struct fieldset){p, n};
}

struct fieldset fieldset_union(struct arena *a, const struct fieldset *x, const struct fieldset *y)
{
    return !x->n ? *y : !y->n ? *x : combine(a, x, y, UNION);
}

struct fieldset fieldset_minus(struct arena *a, const struct fieldset *x, const struct fieldset *y)
{
    return !x->n || !y->n ? *x : combine(a, x, y, MINUS);
}

struct fieldset fieldset_common(struct arena *a, const struct fieldset *x, const struct fieldset *y)
{
    return !x->n || !y->n ? (struct fieldset){0} : combine(a, x, y, COMMON);
}

const struct fieldset_child *fieldset_find(const struct fieldset *s, struct str element)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = str_cmp(element, s->p[middle].element);

        if (order == 0)
            return &s->p[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* -- paths ---------------------------------------------------------------------------------------- */

static void write_element(struct arena *a, struct buf *b, struct str element)
{
    struct str rest = str_skip(element, 2);
    const struct json *v = NULL;
    struct error err = {0};
    bool first = true;

    if (element.p[0] == 'f') {
        buf_addc(b, '.');
        buf_addstr(b, rest);
        return;
    }
    if (element.p[0] == 'i' || !json_parse(rest, a, &v, &err)) {
        error_clear(&err);
        buf_addf(b, "[" STR_FMT "]", STR_ARG(rest));
        return;
    }
    buf_addc(b, '[');
    if (element.p[0] == 'v') {
        buf_addc(b, '=');
        json_write(b, v);
    }
    json_each_member(m, element.p[0] == 'k' ? v : NULL) {
        if (!first)
            buf_addc(b, ',');
        first = false;
        buf_addstr(b, json_str(&m->key));
        buf_addc(b, '=');
        json_write(b, &m->value);
    }
    buf_addc(b, ']');
}

static void add_paths(struct arena *a, const struct fieldset *s, struct buf *path, struct schema_causes *ret,
                      const char *reason, const char *message)
{
    /* Of each level the members first, then what is below them. */
    for (int below = 0; below < 2; below++) {
        for (size_t i = 0; i < s->n; i++) {
            size_t before = path->n;

            write_element(a, path, s->p[i].element);
            if (below)
                add_paths(a, &s->p[i].below, path, ret, reason, message);
            else if (s->p[i].member)
                schema_cause_add(ret, a, reason, path->p, "%s", message);
            path->n = before;
            path->p[before] = '\0';
        }
    }
}

void fieldset_paths(struct arena *a, const struct fieldset *s, struct schema_causes *ret, const char *reason,
                    const char *message)
{
    AUTO(buf_done) struct buf path = {0};

    add_paths(a, s, &path, ret, reason, message);
}

/* -- from objects --------------------------------------------------------------------------------- */

static struct fieldset walk(struct arena *a, struct fieldset_place at, const struct json *v, bool containers)
{
    enum fieldset_form form = fieldset_form(at, v);
    struct fieldset_child *p;
    size_t n = 0;

    if (form == FORM_LEAF)
        return (struct fieldset){0};
    p = ARENA_ARRAY(a, struct fieldset_child, json_len(v));
    json_each_member(m, form == FORM_OBJECT ? v : NULL) {
        struct fieldset_place below = fieldset_member_place(at, json_str(&m->key));

        p[n].element = fieldset_name_element(a, json_str(&m->key));
        p[n].below = walk(a, below, &m->value, containers);
        p[n].member = containers || fieldset_form(below, &m->value) == FORM_LEAF;
        n++;
    }
    json_each_item(it, form == FORM_OBJECT ? NULL : v) {
        p[n].element = fieldset_item_element(a, at, it);
        p[n].member = true;
        p[n].below = walk(a, fieldset_item_place(at), it, containers);
        n++;
    }
    return sorted(a, p, n);
}

struct fieldset fieldset_of(struct arena *a, struct fieldset_place at, const struct json *v)
{
    return walk(a, at, v, false);
}

struct fieldset fieldset_of_all(struct arena *a, struct fieldset_place at, const struct json *v)
{
    return walk(a, at, v, true);
}

/* -- comparison ----------------------------------------------------------------------------------- */

struct triple { /* children under construction */
    struct fieldset_child *added, *modified, *removed;
    size_t n_added, n_modified, n_removed;
};

/* A Go struct that is no pointer is always there, so its coming into being is no news. The schema does not know pointers;
 * these names are never pointers in Kubernetes' own groups. */
static bool always_there(struct fieldset_place owner, struct fieldset_place at)
{
    static const char *const names[] = {"metadata", "spec", "status", "template", "strategy", "names",
                                        "source"};

    if (!owner.type || !schema_is_core(owner.type) || !at.field || !at.type)
        return false;
    if (at.type->kind == SCHEMA_LIST || at.type->kind == SCHEMA_MAP)
        return at.field->flags & SCHEMA_REQUIRED;
    if (at.type->kind != SCHEMA_OBJECT)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(at.field->name, names[i]) == 0)
            return true;
    return false;
}

static bool same_container(const struct json *old, const struct json *now)
{
    bool list = json_is(now, JSON_ARRAY) || json_is(now, JSON_OBJECT);

    return json_type(old) == json_type(now) || (list && json_is(old, JSON_NULL)); /* null: one that is empty */
}

/* Members by name; large objects through a map. */
struct lookup {
    const struct json *object;
    struct map map;
};

static void lookup_init(struct lookup *l, const struct json *object)
{
    *l = (struct lookup){.object = object};
    if (json_len(object) > 32)
        json_each_member(m, object) {
            map_set(&l->map, json_str(&m->key), (void *)&m->value);
        }
}

static void lookup_done(struct lookup *l) { map_done(&l->map); }

static const struct json *lookup(const struct lookup *l, struct str name)
{
    return json_len(l->object) > 32 ? map_get(&l->map, name) : json_get_str(l->object, name);
}

static void compare_child(struct arena *a, struct fieldset_place owner, struct fieldset_place at, struct str element,
                          const struct json *old, const struct json *now, struct triple *t)
{
    struct fieldset_changes below;
    bool granular = (!old || fieldset_form(at, old) != FORM_LEAF) && (!now || fieldset_form(at, now) != FORM_LEAF);
    bool ghost = granular && always_there(owner, at);

    if (old && now && old == now)
        return;
    if (!old && ghost) {
        const struct json *empty = json_is(now, JSON_ARRAY) ? json_array(a, NULL) : json_object(a, NULL);

        t->added[t->n_added++] = (struct fieldset_child){element, false, fieldset_compare(a, at, empty, now).added};
        return;
    }
    if (!old) {
        t->added[t->n_added++] = (struct fieldset_child){element, true, fieldset_of_all(a, at, now)};
        return;
    }
    if (!now) {
        t->removed[t->n_removed++] = (struct fieldset_child){element, true, fieldset_of_all(a, at, old)};
        return;
    }
    if (!granular) {
        /* An empty container that gets content, or loses it, is no change of its own. */
        struct fieldset in = fieldset_of_all(a, at, now), out = fieldset_of_all(a, at, old);

        if (in.n && same_container(old, now))
            t->added[t->n_added++] = (struct fieldset_child){element, false, in};
        else if (out.n && same_container(old, now))
            t->removed[t->n_removed++] = (struct fieldset_child){element, false, out};
        else if (!json_eq(old, now))
            t->modified[t->n_modified++] = (struct fieldset_child){element, true, {0}};
        return;
    }
    below = fieldset_compare(a, at, old, now);
    if (below.added.n)
        t->added[t->n_added++] = (struct fieldset_child){element, false, below.added};
    if (below.modified.n)
        t->modified[t->n_modified++] = (struct fieldset_child){element, false, below.modified};
    if (below.removed.n)
        t->removed[t->n_removed++] = (struct fieldset_child){element, false, below.removed};
}

static void compare_items(struct arena *a, struct fieldset_place at, const struct json *old, const struct json *now,
                          struct triple *t)
{
    struct map there = {0};
    struct fieldset_place item = fieldset_item_place(at);

    json_each_item(it, old) {
        map_set(&there, fieldset_item_element(a, at, it), (void *)it);
    }
    json_each_item(it, now) {
        struct str element = fieldset_item_element(a, at, it);
        const struct json *before = map_del(&there, element);

        compare_child(a, at, item, element, before, it, t);
    }
    json_each_item(it, old) {
        struct str element = fieldset_item_element(a, at, it);

        if (map_del(&there, element))
            compare_child(a, at, item, element, it, NULL, t);
    }
    map_done(&there);
}

struct fieldset_changes fieldset_compare(struct arena *a, struct fieldset_place at, const struct json *old,
                                         const struct json *now)
{
    size_t n = json_len(old) + json_len(now);
    struct triple t = {.added = ARENA_ARRAY(a, struct fieldset_child, n),
                       .modified = ARENA_ARRAY(a, struct fieldset_child, n),
                       .removed = ARENA_ARRAY(a, struct fieldset_child, n)};

    if (json_is(now, JSON_ARRAY) || json_is(old, JSON_ARRAY)) {
        compare_items(a, at, old, now, &t);
    } else {
        AUTO(lookup_done) struct lookup before, after;

        lookup_init(&before, old);
        lookup_init(&after, now);
        json_each_member(m, now) {
            struct str name = json_str(&m->key);

            compare_child(a, at, fieldset_member_place(at, name), fieldset_name_element(a, name),
                          lookup(&before, name), &m->value, &t);
        }
        json_each_member(m, old) {
            struct str name = json_str(&m->key);

            if (!lookup(&after, name))
                compare_child(a, at, fieldset_member_place(at, name), fieldset_name_element(a, name), &m->value, NULL,
                              &t);
        }
    }
    return (struct fieldset_changes){sorted(a, t.added, t.n_added), sorted(a, t.modified, t.n_modified),
                                     sorted(a, t.removed, t.n_removed)};
}
