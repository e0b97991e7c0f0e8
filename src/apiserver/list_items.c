/* apiserver/list_items - the items of a list, written as its reader takes them.
 *
 * A list of 8,000 objects of 6 KB is 48 MB of text; its objects are held by the store anyway, compressed. What a list
 * holds is a reference to each of them and one piece of text: an item is unpacked, and for tables and metadata
 * parsed, when there is room to send it. So 16 such lists at once cost hundreds of KiB each, and no turn of the
 * loop is longer than a piece takes.
 *
 * A short list (128 KiB) is answered whole, with its length. Selectors are judged in turns, too, before the answer begins, as
 * the continue token of a page comes before its items.
 *
 * What changes meanwhile stays in memory for the lists that have yet to send it. Its sum is looked at every second; over
 * LIMIT_LIST_PINNED the list that holds most of it is broken off. */
#include "apiserver/list_items.h"
#include "apiserver/fairness.h"

#define WHOLE_BYTES (128u << 10) /* a list of so many is answered at once */
#define PIECE_BYTES (16u << 10)
#define TREE_ITEMS 16           /* in one piece, when each is parsed */
#define SCAN_BYTES (256u << 10) /* of text that a selector looks at in one turn */
#define LOOK_NS SECONDS(1)

struct list_items {
    struct body_source base;
    struct list node; /* apiserver.lists */
    struct apiserver *s;
    struct arena arena, item;
    struct served *kind; /* a reference */
    const char *version;
    struct str head, tail, include;
    struct str stored, shown; /* the beginning of an item as it is stored and as it is shown */
    struct accept accept;
    bool trees, bare, begun, pretty;
    struct store_list list;
    size_t at;
    struct buf first; /* what was written when the answer began */
};

static const struct json *shown_tree(struct list_items *l, struct store_object *o)
{
    const struct kind_info *k = l->kind->info;
    struct arena *a = &l->item;
    const struct json *v = present_as(k, l->version, store_object_json(o, a), a);

    switch (l->accept.form) {
    case FORM_OBJECT:
        return l->bare ? json_with(a, json_with(a, v, "kind", NULL), "apiVersion", NULL) : v;
    case FORM_TABLE:
        return table_row(l->s, k, v, l->include, l->accept.v1beta1, a);
    case FORM_PARTIAL:
        return partial_object(v, l->accept.v1beta1, a);
    }
    __builtin_unreachable();
}

/* Text straight from the store: nothing is parsed, unless it begins in another way than what is stored now does. */
static void write_text(struct list_items *l, struct store_object *o, struct buf *out)
{
    size_t at = out->n, old = l->stored.n, new = l->shown.n;

    store_object_text(o, out);
    if (out->overflow || str_eq(l->stored, l->shown))
        return;
    if (!str_starts(str_skip(buf_str(out), at), l->stored)) {
        out->n = at;
        json_write(out, shown_tree(l, o));
        arena_clear(&l->item);
        return;
    }
    if (new > old && !buf_reserve(out, new - old)) {
        out->overflow = true;
        return;
    }
    memmove(out->p + at + new, out->p + at + old, out->n - at - old);
    memcpy(out->p + at, l->shown.p, new);
    out->n = out->n - old + new;
    out->p[out->n] = '\0';
}

/* An item two levels deep. */
static void write_pretty(struct buf *out, const struct json *v)
{
    AUTO(buf_done) struct buf b = {0};
    struct str rest, line;

    json_write_pretty(&b, v, 2);
    rest = buf_str(&b);
    while (str_next(&rest, '\n', &line)) {
        buf_adds(out, "\n    ");
        buf_addstr(out, line);
    }
}

/* Items until `out` has `limit` bytes, or enough work was done; false: it is whole. */
static bool write_items(struct list_items *l, struct buf *out, size_t limit)
{
    size_t trees = 0;

    if (!l->begun)
        buf_addstr(out, l->head);
    while (l->at < l->list.n) {
        struct store_object *o = l->list.p[l->at];

        if (out->n >= limit || (l->trees && trees++ >= TREE_ITEMS))
            return true;
        if (l->begun)
            buf_addc(out, ',');
        l->begun = true;
        if (l->trees) {
            if (l->pretty)
                write_pretty(out, shown_tree(l, o));
            else
                json_write(out, shown_tree(l, o));
            arena_clear(&l->item);
        } else {
            write_text(l, o, out);
        }
        store_object_unref(o);
        l->list.p[l->at++] = NULL;
    }
    l->begun = true;
    if (l->pretty && l->list.n)
        buf_adds(out, "\n  ");
    buf_addstr(out, l->tail);
    return false;
}

static bool make(struct body_source *b, struct buf *out)
{
    struct list_items *l = container_of(b, struct list_items, base);

    if (l->first.n > 0) {
        buf_addstr(out, buf_str(&l->first));
        buf_done(&l->first);
        return true;
    }
    return write_items(l, out, PIECE_BYTES);
}

static void list_free(struct body_source *b)
{
    struct list_items *l = container_of(b, struct list_items, base);

    list_remove(&l->node);
    store_list_done(&l->list);
    served_unref(l->kind);
    buf_done(&l->first);
    arena_done(&l->item);
    arena_done(&l->arena);
    free(l);
}

/* What changes meanwhile. */

static size_t pinned(const struct list_items *l)
{
    size_t n = 0;

    for (size_t i = l->at; i < l->list.n; i++)
        n += store_object_pinned(l->list.p[i]);
    return n;
}

static void look(struct loop_timer *t)
{
    struct apiserver *s = container_of(t, struct apiserver, lists_timer);
    struct list_items *worst = NULL;
    size_t sum = 0, most = 0;

    list_each(n, &s->lists) {
        struct list_items *l = list_entry(n, struct list_items, node);
        size_t is = l->base.cut ? 0 : pinned(l);

        sum += is;
        if (is > most) {
            most = is;
            worst = l;
        }
    }
    if (worst && sum > LIMIT_LIST_PINNED)
        worst->base.cut = true;
    if (!list_empty(&s->lists))
        loop_timer_start(s->loop, &s->lists_timer, LOOK_NS, look);
}

void lists_close(struct apiserver *s)
{
    loop_timer_stop(&s->lists_timer);
    list_each_safe(n, &s->lists) { /* their connections may outlive us */
        list_remove(n);
        list_entry(n, struct list_items, node)->base.cut = true;
    }
}

/* What stands around the items. Behind those of custom resources come kind and metadata: their lists are sorted, too. */
static void list_frame(struct request *r, const struct json *meta, struct list_items *l)
{
    const struct kind_info *k = r->kind->info;
    AUTO(buf_done) struct buf b = {0}, pretty = {0};
    AUTO(error_clear) struct error err = {0};
    const char *meta_version = r->accept.v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1";
    bool table = r->accept.form == FORM_TABLE, partial = r->accept.form == FORM_PARTIAL;
    bool sorted = kind_custom(k) && !table && !partial;
    const char *api =
        table || partial ? meta_version : group_version(k->group, r->version, &r->arena);
    struct str text, mark = STR("\"items\":[");
    const struct json *v = NULL;
    size_t at;

    if (sorted)
        buf_addf(&b, "{\"apiVersion\":\"%s\",\"items\":[],\"kind\":\"%s\",\"metadata\":", api,
                 k->list_kind);
    else
        buf_addf(&b, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":",
                 table     ? "Table"
                 : partial ? "PartialObjectMetadataList"
                           : k->list_kind,
                 api);
    json_write(&b, meta);
    if (table) {
        buf_adds(&b, ",\"columnDefinitions\":");
        json_write(&b, table_columns(k, &r->arena));
    }
    buf_adds(&b, sorted ? "}" : table ? ",\"rows\":[]}" : ",\"items\":[]}");
    if (r->pretty) {
        if (!json_parse(buf_str(&b), &r->arena, &v, &err))
            v = json_object(&r->arena, NULL); /* cannot be: it is ours */
        json_write_pretty(&pretty, v, 2);
        mark = STR("\"items\": [");
    } else {
        buf_addc(&b, '\n');
    }
    text = arena_str(&r->arena, buf_str(r->pretty ? &pretty : &b));
    if (sorted)
        at = str_find(text, mark, &at) ? at + mark.n : text.n;
    else
        at = text.n > 3 ? text.n - 3 : 0; /* "]}" and a line's end, or these in another order */
    l->head = str_take(text, at);
    l->tail = str_skip(text, at);
}

static struct list_items *list_items_new(struct request *r, const struct json *meta,
                                         struct store_list *take_list)
{
    const struct kind_info *k = r->kind->info;
    struct list_items *l = NEW(struct list_items);
    struct arena *a = &r->arena;
    bool custom = kind_custom(k);

    l->base = (struct body_source){.make = make, .free = list_free};
    l->s = r->s;
    l->kind = served_ref(r->kind);
    l->version = r->version;
    l->accept = r->accept;
    l->include = query_get(r, "includeObject");
    list_frame(r, meta, l);
    l->bare = !custom;
    l->pretty = r->pretty;
    l->trees = r->pretty || r->accept.form != FORM_OBJECT || kind_is(k, "events.k8s.io", "events")
               || k->since || k->siblings;
    if (custom) {
        l->stored = str_of(arena_printf(
            a, "{\"apiVersion\":\"%s\",",
            group_version(k->group, k->storage_version ? k->storage_version : k->version, a)));
        l->shown = str_of(
            arena_printf(a, "{\"apiVersion\":\"%s\",", group_version(k->group, r->version, a)));
    } else {
        l->stored = str_of(arena_printf(
            a, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",", k->kind,
            group_version(k->group, k->storage_version ? k->storage_version : k->version, a)));
        l->shown = STR("{");
    }
    l->list = TAKE(*take_list);
    list_add_tail(&r->s->lists, &l->node);
    if (!loop_timer_active(&r->s->lists_timer))
        loop_timer_start(r->s->loop, &r->s->lists_timer, LOOK_NS, look);
    return l;
}

void answer_list_items(struct request *r, const struct json *meta, struct store_list *take_list)
{
    struct list_items *l = list_items_new(r, meta, take_list);
    bool more;

    do
        more = write_items(l, &l->first, WHOLE_BYTES + 1);
    while (more && l->first.n <= WHOLE_BYTES && l->trees && l->at < 4 * TREE_ITEMS);
    if (!more) {
        answer_api_text(r, 200, &l->first);
        list_free(&l->base);
        return;
    }
    l->arena = TAKE(r->arena);
    answer_source(r, 200, &l->base, l->first.n / (l->at ? l->at : 1) * l->list.n);
}

/* Selectors. */

struct list_scan {
    struct request *r;
    struct loop_defer defer;
    struct store_list list;
    size_t at, kept, limit;
    struct arena arena;
    const struct selection *sel;
    void (*done)(struct request *r, struct store_list *list);
};

void list_scan_forget(struct list_scan *s)
{
    if (!s)
        return;
    loop_defer_cancel(&s->defer);
    store_list_done(&s->list);
    arena_done(&s->arena);
    free(s);
}

bool list_match(struct request *r, const struct selection *sel, const struct store_object *o,
                struct arena *a)
{
    AUTO(buf_done) struct buf text = {0};
    const struct json *v;
    bool ok;

    /* Most objects fail at this, and a parse costs ten times as much. */
    store_object_text(o, &text);
    if (!selection_may_match(sel, buf_str(&text)))
        return false;
    v = store_object_json(o, a);
    ok = selection_matches(sel, present_as(r->kind->info, r->version, v, a));

    arena_clear(a);
    return ok;
}

static void scan_over(struct list_scan *s)
{
    struct request *r = s->r;
    struct store_list list = TAKE(s->list);

    if (s->at < list.n) {
        list.next_key = str_dup(store_object_key(list.p[s->at]));
        list.remaining = -1;
    }
    for (size_t i = s->at; i < list.n; i++)
        store_object_unref(list.p[i]);
    list.n = s->kept;
    r->scan = NULL;
    s->done(r, &list);
    list_scan_forget(s);
    store_list_done(&list);
}

static void scan_turn(struct loop_defer *d)
{
    struct list_scan *s = container_of(d, struct list_scan, defer);
    struct loop *l = s->r->s->loop;
    int64_t begun = loop_now_ns(l);
    size_t looked = 0;

    while (s->at < s->list.n && (s->limit == 0 || s->kept < s->limit)) {
        struct store_object *o = s->list.p[s->at];

        if (looked >= SCAN_BYTES) {
            fairness_spent(s->r, loop_now_ns(l) - begun);
            loop_defer(s->r->s->loop, &s->defer, scan_turn);
            return;
        }
        looked += store_object_size(o);
        s->list.p[s->at++] = NULL;
        if (list_match(s->r, s->sel, o, &s->arena))
            s->list.p[s->kept++] = o;
        else
            store_object_unref(o);
    }
    scan_over(s);
}

void list_scan(struct request *r, const struct selection *sel, size_t limit,
               struct store_list *take_list,
               void (*done)(struct request *r, struct store_list *list))
{
    struct list_scan *s = NEW(struct list_scan);

    s->r = r;
    s->sel = sel;
    s->limit = limit;
    s->list = TAKE(*take_list);
    s->done = done;
    r->scan = s;
    scan_turn(&s->defer);
}
