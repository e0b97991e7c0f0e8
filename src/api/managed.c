#include "api/managed.h"

#include "api/fieldset.h"
#include "api/members.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "base/vec.h"

#define UPDATERS_MAX 10 /* as kube-apiserver: older ones become one entry */
#define ANCIENT "ancient-changes"
#define BEFORE_APPLY "before-first-apply"

struct owner {
    struct str manager, operation, api_version, subresource, time;
    struct fieldset set;
};
struct owners {
    struct owner *p;
    size_t n, cap;
};

static void owners_done(struct owners *o) { vec_done(o); }

/* What the server sets or what names the object is nobody's. */
static struct fieldset strip(struct arena *a, const struct fieldset *s)
{
    static const char text[] = "{\"f:apiVersion\":{},\"f:kind\":{},\"f:metadata\":{\".\":{},\"f:name\":{},\"f:namespace\":{},"
                               "\"f:creationTimestamp\":{},\"f:selfLink\":{},\"f:uid\":{},\"f:clusterName\":{},"
                               "\"f:generation\":{},\"f:managedFields\":{},\"f:resourceVersion\":{}}}";
    const struct json *v = NULL;
    struct error err = {0};
    struct fieldset own;

    if (!json_parse_borrowed(str_n(text, sizeof text - 1), a, &v, &err))
        error_clear(&err);
    own = fieldset_read(a, v);
    return fieldset_minus(a, s, &own);
}

static const struct json *without_fields(struct arena *a, const struct json *o)
{
    const struct json *meta = json_get(o, "metadata");

    if (!json_get(meta, "managedFields"))
        return o;
    return json_with(a, o, "metadata", json_with(a, meta, "managedFields", NULL));
}

static void read_owners(struct arena *a, const struct json *o, struct owners *ret)
{
    json_each_item(it, json_at(o, "metadata/managedFields")) {
        struct owner w = {
            .manager = json_str(json_get(it, "manager")),
            .operation = json_str(json_get(it, "operation")),
            .api_version = json_str(json_get(it, "apiVersion")),
            .subresource = json_str(json_get(it, "subresource")),
            .time = json_str(json_get(it, "time")),
            .set = fieldset_read(a, json_get(it, "fieldsV1")),
        };

        if (w.operation.n)
            vec_push(ret, w);
    }
}

static int text_order(struct str a, struct str b) { return str_cmp(a, b); }

/* Apply before Update, then by time (none first), manager, version, subresource. */
static int by_rank(const void *x, const void *y)
{
    const struct owner *a = x, *b = y;
    int order = text_order(a->operation, b->operation);

    order = order ? order : text_order(a->time, b->time);
    order = order ? order : text_order(a->manager, b->manager);
    order = order ? order : text_order(a->api_version, b->api_version);
    return order ? order : text_order(a->subresource, b->subresource);
}

static struct owner *find(struct owners *o, const char *operation, const struct managed_request *r)
{
    const char *subresource = r->subresource ? r->subresource : "";

    for (size_t i = 0; i < o->n; i++)
        if (str_is(o->p[i].manager, r->manager) && str_is(o->p[i].operation, operation)
            && str_is(o->p[i].api_version, r->api_version) && str_is(o->p[i].subresource, subresource))
            return &o->p[i];
    return NULL;
}

/* The entry of the request; may move the array. Apply entries of one manager are one, whatever their version. */
static struct owner *find_or_add(struct owners *o, const char *operation, const struct managed_request *r)
{
    struct owner *w = find(o, operation, r);

    for (size_t i = 0; !w && operation[0] == 'A' && i < o->n; i++)
        if (str_is(o->p[i].manager, r->manager) && str_is(o->p[i].operation, operation)
            && str_is(o->p[i].subresource, r->subresource ? r->subresource : "")) {
            w = &o->p[i];
            w->api_version = str_of(r->api_version);
        }
    if (w)
        return w;
    vec_push(o, (struct owner){.manager = str_of(r->manager),
                               .operation = str_of(operation),
                               .api_version = str_of(r->api_version),
                               .subresource = str_of(r->subresource ? r->subresource : "")});
    return &o->p[o->n - 1];
}

static void drop_empty(struct owners *o)
{
    size_t n = 0;

    for (size_t i = 0; i < o->n; i++)
        if (!fieldset_empty(&o->p[i].set))
            o->p[n++] = o->p[i];
    o->n = n;
}

/* The union of many, by halves: one after the other would copy what has been gathered once for each. `except`: left out. */
static struct fieldset union_of(struct arena *a, const struct owner *p, size_t n, const struct owner *except)
{
    struct fieldset left, right;

    if (n == 1)
        return p == except ? (struct fieldset){0} : p->set;
    if (n == 0)
        return (struct fieldset){0};
    left = union_of(a, p, n / 2, except);
    right = union_of(a, p + n / 2, n - n / 2, except);
    return fieldset_union(a, &left, &right);
}

/* Keeps the number of Update entries bounded: the oldest become one. */
static void cap_updaters(struct arena *a, struct owners *o)
{
    size_t updaters = 0;

    for (size_t i = 0; i < o->n; i++)
        updaters += str_is(o->p[i].operation, "Update");
    if (updaters <= UPDATERS_MAX)
        return;
    qsort(o->p, o->n, sizeof *o->p, by_rank);
    for (size_t i = 0, last; i < o->n && updaters > UPDATERS_MAX; i = last + 1) {
        last = i;
        if (!str_is(o->p[i].operation, "Update"))
            continue;
        for (; last + 1 < o->n && updaters > UPDATERS_MAX
               && str_eq(o->p[last].api_version, o->p[last + 1].api_version);
             last++)
            updaters--;
        if (last == i)
            continue;
        o->p[last].set = union_of(a, &o->p[i], last - i + 1, NULL);
        o->p[last].manager = STR(ANCIENT);
        o->p[last].subresource = STR("");
        for (size_t j = i; j < last; j++)
            o->p[j].set = (struct fieldset){0};
    }
    drop_empty(o);
}

static const struct json *write_owners(struct arena *a, struct owners *o)
{
    const struct json **p = ARENA_ARRAY(a, const struct json *, o->n);

    drop_empty(o);
    cap_updaters(a, o);
    if (o->n == 0)
        return NULL;
    qsort(o->p, o->n, sizeof *o->p, by_rank);
    for (size_t i = 0; i < o->n; i++) {
        const struct owner *w = &o->p[i];

        p[i] = json_object(a, "manager", json_new_str(a, w->manager), "operation", json_new_str(a, w->operation),
                           "apiVersion", json_new_str(a, w->api_version), "time",
                           w->time.n ? json_new_str(a, w->time) : NULL, "fieldsType", json_new_z(a, "FieldsV1"),
                           "fieldsV1", fieldset_write(a, &w->set), "subresource",
                           w->subresource.n ? json_new_str(a, w->subresource) : NULL, NULL);
    }
    return json_array_n(a, p, o->n);
}

static const struct json *with_owners(struct arena *a, const struct json *object, struct owners *o)
{
    return json_with(a, object, "metadata",
                     json_with(a, json_get(object, "metadata"), "managedFields", write_owners(a, o)));
}

static struct fieldset_changes changes(struct arena *a, const struct schema_type *t, const struct json *live,
                                       const struct json *now)
{
    struct fieldset_changes c = fieldset_compare(a, (struct fieldset_place){t, NULL}, live, now);

    return (struct fieldset_changes){strip(a, &c.added), strip(a, &c.modified), strip(a, &c.removed)};
}

const struct json *managed_update(struct arena *a, const struct schema_type *t, const struct json *live,
                                  const struct json *object, const struct managed_request *r)
{
    AUTO(owners_done) struct owners o = {0};
    const struct json *sent = json_at(object, "metadata/managedFields");
    const struct json *plain = without_fields(a, object), *before = without_fields(a, live);
    struct fieldset_changes c;
    struct fieldset mine;
    struct owner *w;

    if (json_len(sent) == 1 && json_len(json_item(sent, 0)) == 0)
        return plain; /* [{}]: stop tracking */
    read_owners(a, json_len(sent) ? object : live, &o);
    if (live && o.n == 0)
        return plain; /* nobody has asked for tracking yet */
    c = changes(a, t, before, plain);
    mine = fieldset_union(a, &c.modified, &c.added);
    for (size_t i = 0; i < o.n; i++) {
        o.p[i].set = fieldset_minus(a, &o.p[i].set, &c.removed);
        if (&o.p[i] != find(&o, "Update", r))
            o.p[i].set = fieldset_minus(a, &o.p[i].set, &mine);
    }
    if (!fieldset_empty(&mine)) {
        w = find_or_add(&o, "Update", r);
        w->set = fieldset_union(a, &w->set, &mine);
        w->time = str_of(r->now);
    }
    return with_owners(a, plain, &o);
}

/* -- apply ---------------------------------------------------------------------------------------- */

static const struct json *merge(struct arena *a, struct fieldset_place at, const struct json *live,
                                const struct json *applied);

static const struct json *merge_items(struct arena *a, struct fieldset_place at, const struct json *live,
                                      const struct json *applied)
{
    size_t n = 0, live_n = json_len(live);
    const struct json **p = ARENA_ARRAY(a, const struct json *, live_n + json_len(applied));
    struct fieldset_place item = fieldset_item_place(at);
    struct map there = {0};

    json_each_item(it, live) {
        p[n++] = it;
        map_set(&there, fieldset_item_element(a, at, it), (void *)(uintptr_t)n);
    }
    json_each_item(it, applied) {
        struct str element = fieldset_item_element(a, at, it);
        size_t i = (size_t)(uintptr_t)map_get(&there, element);

        if (i) {
            p[i - 1] = merge(a, item, p[i - 1], it);
        } else {
            p[n++] = it;
            map_set(&there, element, (void *)(uintptr_t)n);
        }
    }
    map_done(&there);
    return json_array_n(a, p, n);
}

static const struct json *merge(struct arena *a, struct fieldset_place at, const struct json *live,
                                const struct json *applied)
{
    enum fieldset_form form = fieldset_form(at, applied), live_form = fieldset_form(at, live);
    struct members out;

    if (live && live_form == form && (form == FORM_LIST_MAP || form == FORM_SET))
        return merge_items(a, at, live, applied);
    /* An empty container adds nothing to what is there. */
    if (form == FORM_LEAF && live_form != FORM_LEAF && json_type(live) == json_type(applied)
        && json_len(applied) == 0)
        return live;
    if (form != FORM_OBJECT || live_form != FORM_OBJECT)
        return applied;
    members_init(&out, a, live, json_len(applied));
    json_each_member(m, applied) {
        struct str name = json_str(&m->key);

        members_set(&out, name, merge(a, fieldset_member_place(at, name), members_get(&out, name), &m->value));
    }
    return members_object(&out);
}

/* Takes out what is in `gone` and neither itself nor with something below it in `keep`. NULL: nothing is left. */
static const struct json *take_out(struct arena *a, struct fieldset_place at, const struct json *v,
                                   const struct fieldset *gone, const struct fieldset *keep)
{
    static const struct fieldset none;
    enum fieldset_form form = fieldset_form(at, v);
    struct members out;
    const struct json **items = ARENA_ARRAY(a, const struct json *, json_len(v));
    size_t n = 0;

    if (form == FORM_LEAF)
        return v;
    members_init(&out, a, form == FORM_OBJECT ? v : NULL, 0);
    for (size_t i = 0; i < json_len(v); i++) {
        const struct json_member *m = form == FORM_OBJECT ? &v->members[i] : NULL;
        const struct json *child = m ? &m->value : json_item(v, i), *left = child;
        struct str element = m ? fieldset_name_element(a, json_str(&m->key)) : fieldset_item_element(a, at, child);
        const struct fieldset_child *g = fieldset_find(gone, element), *k = fieldset_find(keep, element);
        struct fieldset_place below = m ? fieldset_member_place(at, json_str(&m->key)) : fieldset_item_place(at);

        if (g && g->member && !k)
            left = NULL;
        else if (g && g->below.n)
            left = take_out(a, below, child, &g->below, k ? &k->below : &none);
        if (!left && k && k->member)
            left = json_is(child, JSON_ARRAY) ? json_array(a, NULL) : json_object(a, NULL);
        if (left)
            items[n++] = left;
        if (m && left != child)
            members_set(&out, json_str(&m->key), left);
    }
    if (n == 0) {
        members_done(&out);
        return NULL;
    }
    return form == FORM_OBJECT ? members_object(&out) : json_array_n(a, items, n);
}

static void add_conflicts(struct arena *a, const struct owner *w, const struct fieldset *set, struct buf *text,
                          struct schema_causes *ret)
{
    AUTO(buf_done) struct buf who = {0};
    struct schema_causes paths = {0};

    json_write_string(&who, w->manager);
    if (w->subresource.n) {
        buf_adds(&who, " with subresource ");
        json_write_string(&who, w->subresource);
    }
    if (str_is(w->operation, "Update"))
        buf_addf(&who, " using " STR_FMT, STR_ARG(w->api_version));
    fieldset_paths(a, set, &paths, "FieldManagerConflict", arena_printf(a, "conflict with %s", who.p));
    buf_addf(text, "%sconflicts with %s:", text->n ? "\n" : "", who.p);
    for (size_t i = 0; i < paths.n; i++) {
        buf_addf(text, "\n- %s", paths.p[i].field);
        schema_cause_add(ret, a, "FieldManagerConflict", paths.p[i].field, "%s", paths.p[i].message);
    }
}

/* Fields of others that this apply changes: taken over by force, else they are conflicts. */
static bool settle(struct arena *a, struct owners *o, const struct owner *me, const struct fieldset *changed,
                   bool force, const struct fieldset *allowed, struct schema_causes *conflicts, struct error *err)
{
    AUTO(buf_done) struct buf text = {.limit = 1 << 20};

    /* What client-side apply had set is taken over, if nothing else stands in the way. */
    for (size_t i = 0; !force && i < o->n; i++) {
        struct fieldset hit = fieldset_common(a, &o->p[i].set, changed);

        hit = fieldset_minus(a, &hit, allowed);
        if (&o->p[i] != me && !fieldset_empty(&hit))
            add_conflicts(a, &o->p[i], &hit, &text, conflicts);
    }

    for (size_t i = 0; i < o->n; i++) {
        struct fieldset hit = fieldset_common(a, &o->p[i].set, changed);

        if (&o->p[i] == me || fieldset_empty(&hit))
            continue;
        if (!text.n)
            o->p[i].set = fieldset_minus(a, &o->p[i].set, &hit);
    }
    if (!text.n)
        return true;
    if (conflicts->n == 1)
        return error_set(err, ERROR_CONFLICT, "Apply failed with 1 conflict: %s: %s", conflicts->p[0].message,
                         conflicts->p[0].field);
    return error_set(err, ERROR_CONFLICT, "Apply failed with %zu conflicts: %s", conflicts->n, text.p);
}

static bool owners_same(struct arena *a, const struct json *live, struct owners *o)
{
    const struct json *before = json_at(live, "metadata/managedFields");
    struct owners copy = {0};
    bool same;

    for (size_t i = 0; i < o->n; i++)
        vec_push(&copy, o->p[i]);
    same = json_eq(before, write_owners(a, &copy)) && before;
    owners_done(&copy);
    return same;
}

bool managed_apply(struct arena *a, const struct schema_type *t, const struct json *live, const struct json *applied,
                   const struct managed_request *r, const struct json **ret, struct schema_causes *conflicts,
                   struct error *err)
{
    AUTO(owners_done) struct owners o = {0};
    struct fieldset_place root = {t, NULL};
    const struct json *before = without_fields(a, live), *now;
    struct fieldset set, gone, others, keep, changed, allowed = {0};
    struct fieldset_changes c;
    struct owner *me;

    if (json_type(json_at(applied, "metadata/managedFields")) != JSON_NULL)
        return error_set(err, ERROR_BAD_REQUEST, "metadata.managedFields must be nil");
    read_owners(a, live, &o);
    if (live && o.n == 0) {
        struct fieldset all = fieldset_of_all(a, root, before);

        vec_push(&o, (struct owner){.manager = STR(BEFORE_APPLY),
                                    .operation = STR("Update"),
                                    .api_version = str_of(r->api_version),
                                    .time = str_of(r->now),
                                    .set = strip(a, &all)});
    }
    me = find_or_add(&o, "Apply", r);
    set = fieldset_of(a, root, applied);
    set = strip(a, &set);
    others = union_of(a, o.p, o.n, me);
    keep = fieldset_union(a, &others, &set);
    gone = fieldset_minus(a, &me->set, &set);
    gone = fieldset_minus(a, &gone, &others);

    now = live ? merge(a, root, before, applied) : applied;
    now = take_out(a, root, now, &gone, &keep);
    c = changes(a, t, before, now);
    changed = fieldset_union(a, &c.modified, &c.added);
    if (r->last_applied)
        allowed = fieldset_of(a, root, r->last_applied);
    if (!settle(a, &o, me, &changed, r->force, &allowed, conflicts, err))
        return false;
    for (size_t i = 0; i < o.n; i++)
        if (&o.p[i] != me)
            o.p[i].set = fieldset_minus(a, &o.p[i].set, &c.removed);
    me->set = set;
    if (live && json_eq(before, now)) {
        *ret = owners_same(a, live, &o) ? live : with_owners(a, before, &o);
        return true;
    }
    me->time = str_of(r->now);
    *ret = with_owners(a, now, &o);
    return true;
}
