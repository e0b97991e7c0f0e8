#include "client/informer.h"

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"

#define PAGE 100 /* objects per list request: their trees are in memory together. Halved where they are too much for one answer */
#define RETRY_FIRST_NS MILLIS(50)
#define RETRY_MAX_NS SECONDS(30)
#define RELIST_FIRST_NS MILLIS(200)
#define STEADY_NS SECONDS(10) /* a watch that has lasted for so long was none that fails at once */
#define DOUBT_NS SECONDS(10)
#define FAILURES_MAX 5 /* of watches, one after another: perhaps it is the revision that they start from */
#define INDEX_VALUES 4

struct entry {
    struct client_kept object;
    int64_t revision;
    unsigned round; /* of the list that has seen it */
    uint32_t key_n;
    struct place *places; /* in the index */
    char key[];
};

/* One of an object's values in the index: objects of the same value hang together. */
struct place {
    struct entry *entry;
    struct place *more;        /* of the same object */
    struct place *next, *prev; /* of the same value; the map holds the first */
    size_t n;
    char value[];
};

struct informer {
    struct informer_config config; /* texts owned */
    char *ns, *label_selector, *field_selector;
    struct keeper *keeper;
    struct map entries, places; /* both borrow their keys */
    struct client_call *list;
    struct client_watch *watch;
    struct loop_timer retry;
    int64_t retry_ns;
    int64_t watch_since_ns, doubted_ns;
    unsigned failures; /* of watches since one brought something, but for those of a server that is away */
    int64_t revision; /* the newest that was delivered */
    int64_t list_revision;
    unsigned round, page;
    bool synced, relist;
};

static void list_start(struct informer *i, struct str token);
static void watch_start(struct informer *i);

static void go(struct informer *i)
{
    if (i->relist)
        list_start(i, STR_NONE);
    else
        watch_start(i);
}

static void on_retry(struct loop_timer *t)
{
    go(container_of(t, struct informer, retry));
}

/* Between three quarters of the wait and five: of many controllers, and of one's many informers, not all come at the same moment. */
static int64_t jitter(int64_t ns)
{
    uint32_t chance;

    file_random(&chance, sizeof chance);
    return ns / 4 * 3 + (int64_t)((double)chance / UINT32_MAX * (double)ns / 2);
}

static void retry(struct informer *i)
{
    int64_t in_ns = i->retry_ns;

    i->retry_ns = in_ns == 0 ? RETRY_FIRST_NS : in_ns * 2 < RETRY_MAX_NS ? in_ns * 2 : RETRY_MAX_NS;
    loop_timer_start(i->config.client->loop, &i->retry, jitter(in_ns), on_retry);
}

static void relist(struct informer *i)
{
    i->relist = true;
    if (i->retry_ns < RELIST_FIRST_NS)
        i->retry_ns = RELIST_FIRST_NS;
    retry(i);
}

struct informer *informer_new(const struct informer_config *c)
{
    struct informer *i = NEW(struct informer);

    i->config = *c;
    i->ns = str_dup(c->ns);
    i->label_selector = str_dup(c->label_selector);
    i->field_selector = str_dup(c->field_selector);
    i->keeper = keeper_new(c->client, c->group, c->version, c->plural);
    i->page = PAGE;
    i->relist = true;
    go(i);
    return i;
}

static struct str entry_key(const struct entry *e)
{
    return str_n(e->key, e->key_n);
}

static void index_drop(struct informer *i, struct entry *e)
{
    for (struct place *p = e->places, *more; p; p = more) {
        more = p->more;
        if (p->next)
            p->next->prev = p->prev;
        if (p->prev)
            p->prev->next = p->next;
        else if (p->next)
            map_set_borrowed(&i->places, str_n(p->next->value, p->n), p->next);
        else
            map_del(&i->places, str_n(p->value, p->n));
        free(p);
    }
    e->places = NULL;
}

static void index_add(struct informer *i, struct entry *e, const struct json *object)
{
    struct str values[INDEX_VALUES];
    size_t n = i->config.index ? i->config.index(object, values) : 0;

    for (size_t k = 0; k < n && k < INDEX_VALUES; k++) {
        struct place *p = xcalloc(1, sizeof *p + values[k].n + 1),
                     *first = map_get(&i->places, values[k]);

        p->entry = e;
        p->n = values[k].n;
        memcpy(p->value, values[k].p, values[k].n);
        p->more = e->places;
        e->places = p;
        if (first) {
            p->prev = first;
            p->next = first->next;
            first->next = p;
            if (p->next)
                p->next->prev = p;
        } else {
            map_set_borrowed(&i->places, str_n(p->value, p->n), p);
        }
    }
}

static void entry_free(void *p)
{
    struct entry *e = p;

    for (struct place *place = e->places, *more; place; place = more) {
        more = place->more;
        free(place);
    }
    client_kept_done(&e->object);
    free(e);
}

void informer_free(struct informer *i)
{
    if (!i)
        return;
    if (i->list)
        client_cancel(i->config.client, i->list);
    if (i->watch)
        client_watch_stop(i->config.client, i->watch);
    loop_timer_stop(&i->retry);
    map_done(&i->places);
    map_done_with(&i->entries, entry_free);
    keeper_free(i->keeper);
    free(i->ns);
    free(i->label_selector);
    free(i->field_selector);
    free(i);
}

static int64_t revision_of(const struct json *object)
{
    AUTO(error_clear) struct error err = {0};
    int64_t revision = 0;

    return parse_i64(meta_resource_version(object), 0, INT64_MAX, &revision, &err) ? revision : 0;
}

static void store_object(struct informer *i, struct str key, const struct json *object,
                         unsigned round)
{
    struct entry *e = map_get(&i->entries, key);
    int64_t revision = revision_of(object);

    if (e && round && e->revision == revision) { /* a list that tells nothing new */
        e->round = round;
        return;
    }
    if (!e) {
        e = xcalloc(1, sizeof *e + key.n + 1);
        e->key_n = (uint32_t)key.n;
        memcpy(e->key, key.p, key.n);
        map_set_borrowed(&i->entries, entry_key(e), e);
    }
    index_drop(i, e);
    client_kept_done(&e->object);
    e->object = keeper_keep(i->keeper, object);
    e->revision = revision;
    e->round = round ? round : i->round;
    index_add(i, e, object);
    i->config.changed(i->config.user, key, object, false);
}

static void drop_object(struct informer *i, struct entry *e, const struct json *object)
{
    AUTO(arena_done) struct arena a = {0};

    map_del(&i->entries, entry_key(e));
    index_drop(i, e);
    if (!object)
        object = client_kept_json(&e->object, &a);
    i->config.changed(i->config.user, entry_key(e), object, true);
    entry_free(e);
}

/* Lists */

static void list_failed(struct informer *i, const struct error *err)
{
    if (err->kind == ERROR_TOO_LARGE && i->page > 1)
        i->page /= 2;
    log_warning(i->config.plural, "list: %s, retrying", error_text(err));
    relist(i);
}

static void list_ended(struct informer *i)
{
    VEC(struct entry *) gone = {0};
    struct str key;
    size_t at = 0;
    void *value;

    while (map_next(&i->entries, &at, &key, &value))
        if (((struct entry *)value)->round != i->round)
            vec_push(&gone, value);
    for (size_t k = 0; k < gone.n; k++)
        drop_object(i, gone.p[k], NULL);
    vec_done(&gone);

    /* Also back: an API server that was restored from a backup would never send what is newer than its newest. */
    if (i->list_revision > 0)
        i->revision = i->list_revision;
    i->relist = false; /* what a watch has failed by is forgotten only when one works */
    if (!i->synced) {
        i->synced = true;
        if (i->config.synced)
            i->config.synced(i->config.user);
    }
    watch_start(i);
}

static void on_list(void *user, const struct client_response *r)
{
    struct informer *i = user;
    AUTO(arena_done) struct arena a = {0};
    struct str kind = json_str_at(r->body, "kind"),
               token = json_str_at(r->body, "metadata/continue");
    const struct json *item_kind, *version = json_get(r->body, "apiVersion");

    i->list = NULL;
    if (r->err->kind != ERROR_NONE) {
        list_failed(i, r->err);
        return;
    }
    /* Items of a list do not say what they are. */
    item_kind = str_ends(kind, STR("List")) ? json_new_str(&a, str_take(kind, kind.n - 4)) : NULL;
    i->list_revision = revision_of(r->body);
    json_each_item(it, json_get(r->body, "items")) {
        const struct json *object = it;

        if (!json_get(object, "kind") && item_kind)
            object = json_with(&a, json_with(&a, object, "apiVersion", version), "kind", item_kind);
        store_object(i, str_of(meta_key(object, &a)), object, i->round);
    }
    if (token.n > 0)
        list_start(i, token);
    else
        list_ended(i);
}

static void add_query(struct buf *b, const char *name, struct str value)
{
    if (!value.p)
        return;
    buf_addf(b, "%s%s=", b->n ? "&" : "", name);
    buf_add_escaped(b, value);
}

static void list_start(struct informer *i, struct str token)
{
    AUTO(buf_done) struct buf query = {0};

    if (!token.p && ++i->round == 0)
        i->round = 1;
    buf_addf(&query, "limit=%u", i->page);
    add_query(&query, "continue", token);
    add_query(&query, "labelSelector", str_of(i->label_selector));
    add_query(&query, "fieldSelector", str_of(i->field_selector));
    i->list = client_call(i->config.client,
                          &(struct client_request){.verb = CLIENT_LIST,
                                                   .group = i->config.group,
                                                   .version = i->config.version,
                                                   .plural = i->config.plural,
                                                   .ns = str_of(i->ns),
                                                   .query = buf_str(&query)},
                          on_list, i);
}

/* Watches */

static void on_event(void *user, enum client_event_type type, const struct json *object)
{
    struct informer *i = user;
    AUTO(arena_done) struct arena a = {0};
    int64_t revision = revision_of(object);
    struct entry *e;
    struct str key;

    i->retry_ns = 0;
    i->failures = 0;
    if (revision > i->revision)
        i->revision = revision;
    if (type == CLIENT_BOOKMARK)
        return;
    key = str_of(meta_key(object, &a));
    e = map_get(&i->entries, key);
    switch (type) {
    case CLIENT_ADDED:
    case CLIENT_MODIFIED:
        if (!e || e->revision < revision) /* resuming may repeat what is known */
            store_object(i, key, object, 0);
        break;
    case CLIENT_DELETED:
        if (e && e->revision <= revision)
            drop_object(i, e, object);
        break;
    case CLIENT_BOOKMARK:
        break;
    }
}

static void on_ended(void *user, const struct error *err)
{
    struct informer *i = user;

    bool away = err->kind == ERROR_UNAVAILABLE || err->kind == ERROR_TIMEOUT || err->kind == ERROR_TOO_MANY;

    i->watch = NULL;
    if (loop_now_ns(i->config.client->loop) - i->watch_since_ns >= STEADY_NS) {
        i->retry_ns = 0;
        i->failures = 0;
    }
    if (err->kind != ERROR_NONE)
        log_debug(i->config.plural, "watch: %s", error_text(err));
    if (err->kind != ERROR_NONE && !away)
        i->failures++;
    if (err->kind == ERROR_GONE || i->failures >= FAILURES_MAX) {
        i->failures = 0;
        relist(i);
    } else {
        retry(i);
    }
}

static void watch_start(struct informer *i)
{
    i->watch_since_ns = loop_now_ns(i->config.client->loop);
    i->watch =
        client_watch(i->config.client,
                     &(struct client_watch_request){.group = i->config.group,
                                                    .version = i->config.version,
                                                    .plural = i->config.plural,
                                                    .ns = str_of(i->ns),
                                                    .label_selector = str_of(i->label_selector),
                                                    .field_selector = str_of(i->field_selector),
                                                    .from_revision = i->revision,
                                                    .event = on_event,
                                                    .ended = on_ended,
                                                    .user = i});
}

void informer_doubt(struct informer *i)
{
    int64_t now = i ? loop_now_ns(i->config.client->loop) : 0;

    if (!i || !i->watch || now - i->watch_since_ns < DOUBT_NS || (i->doubted_ns && now - i->doubted_ns < DOUBT_NS))
        return;
    log_info(i->config.plural, "watch: silent where an event should have come, asking again from revision %lld", (long long)i->revision);
    i->doubted_ns = now;
    client_watch_stop(i->config.client, i->watch);
    i->watch = NULL;
    retry(i);
}

/* Readers */

bool informer_synced(const struct informer *i)
{
    return i->synced;
}

const struct json *informer_get(struct informer *i, struct str key, struct arena *a)
{
    struct entry *e = map_get(&i->entries, key);

    return e ? client_kept_json(&e->object, a) : NULL;
}

int64_t informer_revision_of(struct informer *i, struct str key)
{
    struct entry *e = map_get(&i->entries, key);

    return e ? e->revision : 0;
}

int64_t informer_revision(const struct informer *i)
{
    return i->revision;
}

void informer_each(struct informer *i, bool (*fn)(void *user, struct str key), void *user)
{
    struct str key;
    size_t at = 0;
    void *value;

    while (map_next(&i->entries, &at, &key, &value))
        if (!fn(user, key))
            return;
}

void informer_by_index(struct informer *i, struct str value, bool (*fn)(void *user, struct str key),
                       void *user)
{
    for (const struct place *p = map_get(&i->places, value); p; p = p->next)
        if (!fn(user, entry_key(p->entry)))
            return;
}

bool informer_older(const struct json *a, const struct json *b)
{
    int order = b ? str_cmp(meta_creation(a), meta_creation(b)) : -1;

    return order < 0 || (order == 0 && str_cmp(meta_uid(a), meta_uid(b)) < 0);
}

const struct json *informer_oldest(struct informer *i, struct arena *a)
{
    const struct json *best = NULL;
    struct str key;
    size_t at = 0;
    void *value;

    while (map_next(&i->entries, &at, &key, &value)) {
        const struct json *o = client_kept_json(&((struct entry *)value)->object, a);

        if (informer_older(o, best))
            best = o;
    }
    return best;
}

struct collect {
    struct informer *informer;
    struct arena *a;
    VEC(const struct json *) list;
};

static bool collect(void *user, struct str key)
{
    struct collect *x = user;
    const struct json *o = informer_get(x->informer, key, x->a);

    if (o)
        vec_push(&x->list, o);
    return true;
}

const struct json *informer_list(struct informer *i, struct str value, struct arena *a)
{
    struct collect x = {.informer = i, .a = a};
    const struct json *list;

    if (i && value.p)
        informer_by_index(i, value, collect, &x);
    else if (i)
        informer_each(i, collect, &x);
    list = json_array_n(a, x.list.p, x.list.n);
    vec_done(&x.list);
    return list;
}

size_t informer_count(const struct informer *i)
{
    return i->entries.n;
}
