/* Events wait for FLUSH_NS before they are written: what repeats within that time is one write, and the writes of many
 * objects come in one turn and share a commit. An event that repeats later is counted up in the object made first. One that
 * cannot be written because the API server is away waits for it. */
#include "client/recorder.h"

#include <stdio.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/map.h"
#include "json/patch.h"

#define FLUSH_NS MILLIS(100)
#define AGAIN_NS SECONDS(2)
#define SAME_NS SECONDS(600)
#define ENTRIES_MAX 4096 /* remembered events; the least recent one goes first */
#define MESSAGE_MAX 1024 /* as core/v1 allows */

struct entry {
    struct recorder *recorder;
    char *key; /* what makes two events equal */
    char *name, *ns;
    char *object; /* the Event to be created, as text; NULL once it exists */
    unsigned count;
    int64_t last_unix_ns;
    struct client_call *call;
    bool dirty;
    struct list used; /* in recorder.used, most recent last */
};

struct recorder {
    struct client *client;
    char *component, *node;
    struct map entries;
    struct list used;
    struct loop_timer flush;
};

struct recorder *recorder_new(struct client *c, const char *component, const char *node)
{
    struct recorder *r = NEW(struct recorder);

    r->client = c;
    r->component = xstrdup(component);
    r->node = node ? xstrdup(node) : NULL;
    list_init(&r->used);
    return r;
}

static void entry_free(void *p)
{
    struct entry *e = p;

    if (e->call)
        client_cancel(e->recorder->client, e->call);
    list_remove(&e->used);
    free(e->key);
    free(e->name);
    free(e->ns);
    free(e->object);
    free(e);
}

void recorder_free(struct recorder *r)
{
    if (!r)
        return;
    loop_timer_stop(&r->flush);
    map_done_with(&r->entries, entry_free);
    free(r->component);
    free(r->node);
    free(r);
}

static void entry_write(struct entry *e);
static void on_flush(struct loop_timer *t);

/* Nothing is wrong with the event: there was nobody to take it. */
static bool away(enum error_kind k)
{
    return k == ERROR_UNAVAILABLE || k == ERROR_TIMEOUT || k == ERROR_TOO_MANY;
}

static void on_written(void *user, const struct client_response *r)
{
    struct entry *e = user;

    e->call = NULL;
    if (away(r->err->kind)) {
        e->dirty = true;
        if (!loop_timer_active(&e->recorder->flush))
            loop_timer_start(e->recorder->client->loop, &e->recorder->flush, AGAIN_NS, on_flush);
        return;
    }
    if (r->err->kind != ERROR_NONE && !(e->object && r->err->kind == ERROR_EXISTS)) {
        /* Gone by its time to live, or its namespace is going: the next equal event starts anew. */
        if (r->err->kind != ERROR_NOT_FOUND && r->err->kind != ERROR_FORBIDDEN)
            log_debug(e->name, "event: %s, ignoring", error_text(r->err));
        map_del(&e->recorder->entries, str_of(e->key));
        entry_free(e);
        return;
    }
    free(e->object); /* it exists, perhaps by a write whose answer was lost */
    e->object = NULL;
    if (e->dirty)
        entry_write(e);
}

static const struct json *count_patch(const struct entry *e, struct arena *a)
{
    char now[TIME_TEXT_LEN + 1];

    ident_time(e->last_unix_ns, false, now);
    return json_object(a, "count", json_new_i64(a, e->count), "lastTimestamp", json_new_z(a, now),
                       NULL);
}

static void entry_write(struct entry *e)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct client_request request = {
        .group = "", .version = "v1", .plural = "events", .ns = str_of(e->ns)};
    const struct json *object;

    e->dirty = false;
    if (!e->object) {
        request.verb = CLIENT_PATCH_MERGE;
        request.name = str_of(e->name);
        request.body = count_patch(e, &a);
    } else {
        if (!json_parse_borrowed(str_of(e->object), &a, &object, &err))
            return; /* cannot be: we have written it */
        request.verb = CLIENT_CREATE;
        request.body = json_merge_patch(&a, object, count_patch(e, &a));
    }
    e->call = client_call(e->recorder->client, &request, on_written, e);
}

static void on_flush(struct loop_timer *t)
{
    struct recorder *r = container_of(t, struct recorder, flush);

    list_each(it, &r->used) {
        struct entry *e = list_entry(it, struct entry, used);

        if (e->dirty && !e->call)
            entry_write(e);
    }
}

static const struct json *event_object(struct recorder *r, struct arena *a,
                                       const struct json *about, const char *type,
                                       const char *reason, struct str message,
                                       const struct entry *e)
{
    char now[TIME_TEXT_LEN + 1];

    ident_time(e->last_unix_ns, false, now);
    return json_object(
        a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Event"), "metadata",
        json_object(a, "name", json_new_z(a, e->name), "namespace", json_new_z(a, e->ns), NULL),
        "involvedObject",
        json_object(a, "kind", json_get(about, "kind"), "namespace",
                    json_at(about, "metadata/namespace"), "name", json_at(about, "metadata/name"),
                    "uid", json_at(about, "metadata/uid"), "apiVersion",
                    json_get(about, "apiVersion"), "resourceVersion",
                    json_at(about, "metadata/resourceVersion"), NULL),
        "reason", json_new_z(a, reason), "message", json_new_str(a, message), "source",
        json_object(a, "component", json_new_z(a, r->component), "host", json_new_z(a, r->node),
                    NULL),
        "firstTimestamp", json_new_z(a, now), "lastTimestamp", json_new_z(a, now), "count",
        json_new_i64(a, 1), "type", json_new_z(a, type), "eventTime", json_null(),
        "reportingComponent", json_new_z(a, r->component), "reportingInstance",
        json_new_z(a, r->node ? r->node : ""), NULL);
}

static struct entry *entry_new(struct recorder *r, const char *key, const struct json *about)
{
    struct str ns = meta_namespace(about), name = meta_name(about);
    struct entry *e = NEW(struct entry);
    char tail[5];

    e->recorder = r;
    e->key = xstrdup(key);
    e->last_unix_ns = loop_unix_ns(r->client->loop);
    /* As client-go names them; a random tail keeps two recorders apart. */
    ident_suffix(tail, sizeof tail - 1);
    name = str_take(name, 253 - 22);
    e->name =
        xasprintf(STR_FMT ".%016llx%s", STR_ARG(name), (unsigned long long)e->last_unix_ns, tail);
    e->ns = ns.n ? str_dup(ns) : xstrdup("default");
    map_set(&r->entries, str_of(key), e);
    if (r->entries.n > ENTRIES_MAX) {
        struct entry *old = list_entry(r->used.next, struct entry, used);

        map_del(&r->entries, str_of(old->key));
        entry_free(old);
    }
    return e;
}

void recorder_event(struct recorder *r, const struct json *about, const char *type,
                    const char *reason, const char *fmt, ...)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf message = {0};
    int64_t now = loop_unix_ns(r->client->loop);
    struct str uid = meta_uid(about);
    struct entry *e;
    const char *key;
    va_list ap;

    buf_init(&message, LIMIT_OBJECT_BYTES);
    va_start(ap, fmt);
    buf_vaddf(&message, fmt, ap);
    va_end(ap);
    key = arena_printf(&a, STR_FMT "|%s|%s|" STR_FMT, STR_ARG(uid), type, reason,
                       STR_ARG(buf_str(&message)));

    e = map_get(&r->entries, str_of(key));
    if (e && now - e->last_unix_ns > SAME_NS) {
        map_del(&r->entries, str_of(e->key));
        entry_free(e);
        e = NULL;
    }
    if (!e) {
        struct str text = buf_str(&message);

        if (text.n > MESSAGE_MAX) {
            text.n = MESSAGE_MAX;
            while (text.n > 0
                   && ((unsigned char)text.p[text.n] & 0xc0) == 0x80) /* not within a character */
                text.n--;
        }
        e = entry_new(r, key, about);
        e->object = json_text(event_object(r, &a, about, type, reason, text, e));
    }
    list_remove(&e->used);
    list_add_tail(&r->used, &e->used);
    e->count++;
    e->last_unix_ns = now;
    e->dirty = true;
    if (!loop_timer_active(&r->flush))
        loop_timer_start(r->client->loop, &r->flush, FLUSH_NS, on_flush);
}
