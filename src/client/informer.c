#include "client/informer.h"

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"

#define PAGE 500 /* objects per list request, as client-go's reflector */
#define RETRY_FIRST_NS MILLIS(50)
#define RETRY_MAX_NS SECONDS(10)
#define INDEX_VALUES 4

struct entry {
    char *key;
    char *text; /* the object, compact */
    size_t n;
    int64_t revision;
    unsigned round; /* of the list that has seen it */
    char *index[INDEX_VALUES];
    size_t n_index;
};

struct bucket {
    VEC(struct entry *) entries;
};

struct informer {
    struct informer_config config; /* texts owned */
    char *ns, *label_selector, *field_selector;
    struct map entries, buckets;
    struct client_call *list;
    struct client_watch *watch;
    struct loop_timer retry;
    int64_t retry_ns;
    int64_t revision; /* the newest that was delivered */
    int64_t list_revision;
    unsigned round;
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

static void retry(struct informer *i)
{
    int64_t in_ns = i->retry_ns;

    i->retry_ns = in_ns == 0 ? RETRY_FIRST_NS : in_ns * 2 < RETRY_MAX_NS ? in_ns * 2 : RETRY_MAX_NS;
    loop_timer_start(i->config.client->loop, &i->retry, in_ns, on_retry);
}

struct informer *informer_new(const struct informer_config *c)
{
    struct informer *i = NEW(struct informer);

    i->config = *c;
    i->ns = str_dup(c->ns);
    i->label_selector = str_dup(c->label_selector);
    i->field_selector = str_dup(c->field_selector);
    i->relist = true;
    go(i);
    return i;
}

static void index_drop(struct informer *i, struct entry *e)
{
    for (size_t k = 0; k < e->n_index; k++) {
        struct bucket *b = map_get(&i->buckets, str_of(e->index[k]));

        for (size_t j = 0; b && j < b->entries.n; j++)
            if (b->entries.p[j] == e) {
                vec_remove(&b->entries, j);
                break;
            }
        if (b && b->entries.n == 0) {
            map_del(&i->buckets, str_of(e->index[k]));
            vec_done(&b->entries);
            free(b);
        }
        free(e->index[k]);
    }
    e->n_index = 0;
}

static void index_add(struct informer *i, struct entry *e, const struct json *object)
{
    struct str values[INDEX_VALUES];
    size_t n = i->config.index ? i->config.index(object, values) : 0;

    for (size_t k = 0; k < n && k < INDEX_VALUES; k++) {
        struct bucket *b = map_get(&i->buckets, values[k]);

        if (!b) {
            b = NEW(struct bucket);
            map_set(&i->buckets, values[k], b);
        }
        vec_push(&b->entries, e);
        e->index[e->n_index++] = str_dup(values[k]);
    }
}

static void entry_free(void *p)
{
    struct entry *e = p;

    for (size_t k = 0; k < e->n_index; k++)
        free(e->index[k]);
    free(e->text);
    free(e->key);
    free(e);
}

static void bucket_free(void *p)
{
    struct bucket *b = p;

    vec_done(&b->entries);
    free(b);
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
    map_done_with(&i->buckets, bucket_free);
    map_done_with(&i->entries, entry_free);
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
    struct buf text;

    if (e && round && e->revision == revision) { /* a list that tells nothing new */
        e->round = round;
        return;
    }
    if (!e) {
        e = NEW(struct entry);
        e->key = str_dup(key);
        map_set(&i->entries, key, e);
    }
    index_drop(i, e);
    free(e->text);
    buf_init(&text, LIMIT_BUF_DEFAULT);
    json_write(&text, object);
    e->n = text.n;
    e->text = xrealloc(buf_detach(&text), e->n + 1, 1);
    e->revision = revision;
    e->round = round ? round : i->round;
    index_add(i, e, object);
    i->config.changed(i->config.user, key, object, false);
}

static void drop_object(struct informer *i, struct entry *e, const struct json *object)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};

    map_del(&i->entries, str_of(e->key));
    index_drop(i, e);
    if (!object && !json_parse_borrowed(str_n(e->text, e->n), &a, &object, &err))
        object = json_object(&a, NULL); /* cannot be: we have written it */
    i->config.changed(i->config.user, str_of(e->key), object, true);
    entry_free(e);
}

/* Lists */

static void list_failed(struct informer *i, const struct error *err)
{
    log_warning(i->config.plural, "list: %s, retrying", error_text(err));
    i->relist = true;
    if (i->retry_ns == 0)
        i->retry_ns = RETRY_FIRST_NS;
    retry(i);
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

    if (i->revision < i->list_revision)
        i->revision = i->list_revision;
    i->relist = false;
    i->retry_ns = 0;
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
    buf_addf(&query, "limit=%d", PAGE);
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

    i->watch = NULL;
    if (err->kind == ERROR_GONE)
        i->relist = true;
    else if (err->kind != ERROR_NONE)
        log_debug(i->config.plural, "watch: %s", error_text(err));
    retry(i);
}

static void watch_start(struct informer *i)
{
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

/* Readers */

bool informer_synced(const struct informer *i)
{
    return i->synced;
}

const struct json *informer_get(struct informer *i, struct str key, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    struct entry *e = map_get(&i->entries, key);
    const struct json *object = NULL;

    return e && json_parse(str_n(e->text, e->n), a, &object, &err) ? object : NULL;
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
        if (!fn(user, str_of(((struct entry *)value)->key)))
            return;
}

void informer_by_index(struct informer *i, struct str value, bool (*fn)(void *user, struct str key),
                       void *user)
{
    struct bucket *b = map_get(&i->buckets, value);

    for (size_t k = 0; b && k < b->entries.n; k++)
        if (!fn(user, str_of(b->entries.p[k]->key)))
            return;
}

size_t informer_count(const struct informer *i)
{
    return i->entries.n;
}
