#include "client/fake_client.h"

#include <assert.h>
#include <stdio.h>

#include "api/labels.h"
#include "api/meta.h"
#include "api/strategic.h"
#include "api/status.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/list.h"
#include "base/map.h"
#include "base/vec.h"
#include "json/patch.h"

struct object {
    char *text;
};

struct fake_client;

/* What is still to be told: an answer, an event or a watch's end. */
struct task {
    struct list node;
    struct client_call *call;
    struct client_watch *watch;
    enum client_event_type type;
    int status;
    char *text;
    struct error err;
};

struct client_call {
    client_done_fn done;
    void *user;
};

struct client_watch {
    struct list node;
    char *plural;
    struct client_watch_request request;
    bool ended, deaf;
};

struct fake_client {
    struct client base;
    struct map objects; /* "plural|key" */
    struct list tasks, watches;
    struct loop_defer run;
    int64_t revision;
    unsigned uids;
    struct buf log, lists, last_list;
    struct {
        char *plural;
        enum client_verb verb;
        unsigned n;
        enum error_kind kind;
        char *message;
    } fail;
};

static struct fake_client *fake_of(struct client *c)
{
    return container_of(c, struct fake_client, base);
}

static void task_free(struct task *t)
{
    list_remove(&t->node);
    error_clear(&t->err);
    free(t->text);
    free(t);
}

static void run_task(struct fake_client *f, struct task *t)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *body = NULL;

    (void)f;
    if (t->text) {
        bool parsed = json_parse(str_of(t->text), &a, &body, &err);
        assert(parsed);
        (void)parsed;
    }
    if (t->call) {
        t->call->done(t->call->user,
                      &(struct client_response){.status = t->status, .body = body, .err = &t->err});
        free(t->call);
    } else if (t->watch && body) {
        t->watch->request.event(t->watch->request.user, t->type, body);
    } else if (t->watch) {
        struct client_watch *w = t->watch;

        list_remove(&w->node);
        w->request.ended(w->request.user, &t->err);
        free(w->plural);
        free(w);
    }
}

static void run(struct loop_defer *d)
{
    struct fake_client *f = container_of(d, struct fake_client, run);
    struct task *t;

    if (list_empty(&f->tasks))
        return;
    t = list_entry(f->tasks.next, struct task, node);
    list_remove(&t->node);
    run_task(f, t);
    task_free(t);
    if (!list_empty(&f->tasks))
        loop_defer(f->base.loop, &f->run, run);
}

static struct task *task_add(struct fake_client *f)
{
    struct task *t = NEW(struct task);

    list_add_tail(&f->tasks, &t->node);
    loop_defer(f->base.loop, &f->run, run);
    return t;
}

static char *object_key(const char *plural, struct str ns, struct str name, struct arena *a)
{
    return ns.n ? arena_printf(a, "%s|" STR_FMT "/" STR_FMT, plural, STR_ARG(ns), STR_ARG(name))
                : arena_printf(a, "%s|" STR_FMT, plural, STR_ARG(name));
}

static const struct json *load(struct fake_client *f, const char *full, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *o = NULL;
    char *text = map_get(&f->objects, str_of(full));

    return text && json_parse(str_of(text), a, &o, &err) ? o : NULL;
}

/* Whether a list or a watch is about the object. Selectors as plain text; absent: no matter which. */
static bool selected(struct str ns, struct str labels, struct str fields, const struct json *o)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct label_selector l = {0};
    struct field_selector f = {0};

    if ((labels.n && !label_selector_parse(labels, &a, &l, &err)) || (fields.n && !field_selector_parse(fields, &a, &f, &err))) {
        fprintf(stderr, "fake client: %s\n", error_text(&err));
        abort();
    }
    return (!ns.n || str_eq(ns, meta_namespace(o))) && label_selector_match(&l, meta_labels(o)) && field_selector_match(&f, o);
}

static unsigned hex(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

/* A parameter of a list's query, decoded; absent when missing. */
static struct str parameter(struct str query, const char *name, struct arena *a)
{
    struct str part, key, value;

    while (str_next(&query, '&', &part)) {
        char *text;
        size_t n = 0;

        if (!str_cut(part, '=', &key, &value) || !str_is(key, name))
            continue;
        text = arena_alloc_bytes(a, value.n + 1);
        for (size_t i = 0; i < value.n; i++) {
            if (value.p[i] == '%' && i + 2 < value.n) {
                text[n++] = (char)(hex(value.p[i + 1]) << 4 | hex(value.p[i + 2]));
                i += 2;
            } else {
                text[n++] = value.p[i];
            }
        }
        return str_n(text, n);
    }
    return STR_NONE;
}

static void tell(struct fake_client *f, const char *plural, enum client_event_type type,
                 const struct json *o)
{
    list_each(it, &f->watches) {
        struct client_watch *w = list_entry(it, struct client_watch, node);
        struct task *t;

        if (w->ended || w->deaf || strcmp(w->plural, plural) != 0)
            continue;
        bool about = selected(w->request.ns, w->request.label_selector, w->request.field_selector, o);

        if (!about && type == CLIENT_ADDED)
            continue;
        t = task_add(f);
        t->watch = w;
        t->type = about ? type : CLIENT_DELETED; /* it may have been selected before */
        t->text = json_text(o);
    }
}

static const struct json *set(struct arena *a, const struct json *o, const char *path,
                              const struct json *v)
{
    return json_with_at(a, o, path, v);
}

static const struct json *save(struct fake_client *f, const char *plural, const char *full,
                               const struct json *o, enum client_event_type type, struct arena *a);

static void collect_garbage(struct fake_client *f, struct str uid)
{
    AUTO(arena_done) struct arena a = {0};
    VEC(const char *) keys = {0};
    size_t at = 0;
    struct str key;
    void *value;

    while (map_next(&f->objects, &at, &key, &value))
        vec_push(&keys, arena_strdup(&a, key));
    for (size_t i = 0; i < keys.n; i++) {
        const struct json *o = load(f, keys.p[i], &a);
        struct str plural, rest;

        if (!o || !meta_owned_by(o, uid) || meta_deleting(o))
            continue;
        str_cut(str_of(keys.p[i]), '|', &plural, &rest);
        fake_delete(&f->base, arena_strdup(&a, plural), arena_strdup(&a, rest));
    }
    vec_done(&keys);
}

/* Writes with the next revision; an object that is going and has no finalizer left, goes. */
static const struct json *save(struct fake_client *f, const char *plural, const char *full,
                               const struct json *o, enum client_event_type type, struct arena *a)
{
    char revision[24];

    snprintf(revision, sizeof revision, "%lld", (long long)++f->revision);
    o = set(a, o, "metadata/resourceVersion", json_new_z(a, revision));
    if (meta_deleting(o) && json_len(json_at(o, "metadata/finalizers")) == 0
        && json_i64_at(o, "metadata/deletionGracePeriodSeconds", 0) == 0) {
        free(map_del(&f->objects, str_of(full)));
        tell(f, plural, CLIENT_DELETED, o);
        collect_garbage(f, meta_uid(o));
        return o;
    }
    free(map_set(&f->objects, str_of(full), json_text(o)));
    tell(f, plural, type, o);
    return o;
}

static const char *now_text(struct fake_client *f, struct arena *a)
{
    char now[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(f->base.loop), false, now);
    return arena_strdup(a, str_of(now));
}

static const struct json *do_create(struct fake_client *f, const char *plural, const struct json *o,
                                    struct arena *a, struct error *err)
{
    char *full = object_key(plural, meta_namespace(o), meta_name(o), a);

    if (map_get(&f->objects, str_of(full))) {
        error_set(err, ERROR_EXISTS, "%s already exists", full);
        return NULL;
    }
    o = set(a, o, "metadata/uid", json_new_f(a, "00000000-0000-4000-8000-%012u", ++f->uids));
    o = set(a, o, "metadata/creationTimestamp", json_new_z(a, now_text(f, a)));
    o = set(a, o, "metadata/generation", json_new_i64(a, 1));
    if (strcmp(plural, "pods") == 0)
        o = set(a, o, "status",
                json_object(a, "phase", json_new_z(a, "Pending"), "qosClass",
                            json_new_z(a, "Burstable"), NULL));
    if (strcmp(plural, "virtualmachineinstances") == 0 && !json_at(o, "status/phase"))
        o = set(a, o, "status/phase", json_new_z(a, "Pending"));
    return save(f, plural, full, o, CLIENT_ADDED, a);
}

static const struct json *merge_conditions(struct arena *a, const struct json *old,
                                           const struct json *patch)
{
    json_each_item(c, json_at(patch, "status/conditions")) {
        const struct json *list = json_at(old, "status/conditions"), *out = json_array(a, NULL);
        bool found = false;

        json_each_item(have, list) {
            bool same = str_eq(json_str_at(have, "type"), json_str_at(c, "type"));

            out = json_append(a, out, same ? json_merge_patch(a, have, c) : have);
            found |= same;
        }
        if (!found)
            out = json_append(a, out, c);
        old = set(a, old, "status/conditions", out);
    }
    return old;
}

/* Which resources keep their status apart. */
static bool has_status(const char *plural)
{
    return strcmp(plural, "virtualmachineinstances") != 0;
}

static const struct json *do_patch(struct fake_client *f, const struct client_request *r,
                                   const char *full, struct arena *a, struct error *err)
{
    const struct json *old = load(f, full, a), *new = NULL;
    struct str revision;

    if (!old) {
        error_set(err, ERROR_NOT_FOUND, "%s not found", full);
        return NULL;
    }
    if (r->verb == CLIENT_PATCH_JSON) {
        if (!json_patch(a, old, r->body, &new, err))
            return NULL;
    } else if (r->verb == CLIENT_PATCH_STRATEGIC) {
        const struct kind_info *k = schema_kind_find(str_of(r->group), str_of(r->plural));

        if (!k)
            error_set(err, ERROR_UNSUPPORTED, "%s has no strategic merge", r->plural);
        if (!k || !strategic_merge(a, k->type, old, r->body, &new, err))
            return NULL;
    } else {
        revision = json_str_at(r->body, "metadata/resourceVersion");
        if (revision.p && !str_eq(revision, meta_resource_version(old))) {
            error_set(err, ERROR_CONFLICT, "%s has been modified", full);
            return NULL;
        }
        new = json_merge_patch(a, old, r->body);
    }
    if (r->subresource) /* as upstream: labels and annotations go with a Node's status */
        new = set(a, set(a, set(a, old, "status", json_get(new, "status")), "metadata/labels", json_at(new, "metadata/labels")),
                  "metadata/annotations", json_at(new, "metadata/annotations"));
    else if (has_status(r->plural))
        new = set(a, new, "status", json_get(old, "status"));
    new = set(a, new, "metadata/resourceVersion", json_at(old, "metadata/resourceVersion"));
    if (json_eq(old, new))
        return old;
    if (!json_eq(json_get(old, "spec"), json_get(new, "spec")))
        new = set(a, new, "metadata/generation", json_new_i64(a, meta_generation(old) + 1));
    return save(f, r->plural, full, new, CLIENT_MODIFIED, a);
}

/* As far as one writer goes: what it says is laid over what is there. */
static const struct json *do_apply(struct fake_client *f, const struct client_request *r, const char *full, struct arena *a,
                                   struct error *err)
{
    struct client_request patch = *r;

    if (!load(f, full, a))
        return do_create(f, r->plural, r->body, a, err);
    patch.verb = CLIENT_PATCH_MERGE;
    return do_patch(f, &patch, full, a, err);
}

static const struct json *do_delete(struct fake_client *f, const char *plural, const char *full,
                                    const struct json *options, struct arena *a, struct error *err)
{
    const struct json *o = load(f, full, a);
    struct str uid = json_str_at(options, "preconditions/uid");
    int64_t grace;

    if (!o) {
        error_set(err, ERROR_NOT_FOUND, "%s not found", full);
        return NULL;
    }
    if (uid.p && !str_eq(uid, meta_uid(o))) {
        error_set(err, ERROR_CONFLICT, "%s: the UID in the precondition does not match", full);
        return NULL;
    }
    if (meta_deleting(o))
        return o;
    grace = strcmp(plural, "pods") == 0 && json_at(o, "spec/nodeName") ? json_i64_at(options, "gracePeriodSeconds", 30) : 0;
    o = set(a, o, "metadata/deletionTimestamp", json_new_z(a, now_text(f, a)));
    if (grace > 0)
        o = set(a, o, "metadata/deletionGracePeriodSeconds", json_new_i64(a, grace));
    return save(f, plural, full, o, CLIENT_MODIFIED, a);
}

static const struct json *do_bind(struct fake_client *f, const struct client_request *r,
                                  const char *full, struct arena *a, struct error *err)
{
    const struct json *o = load(f, full, a);
    const struct json *c = json_object(a, "type", json_new_z(a, "PodScheduled"), "status",
                                       json_new_z(a, "True"), NULL);

    if (!o) {
        error_set(err, ERROR_NOT_FOUND, "%s not found", full);
        return NULL;
    }
    o = set(a, o, "spec/nodeName", json_at(r->body, "target/name"));
    o = merge_conditions(
        a, o,
        json_object(a, "status", json_object(a, "conditions", json_array(a, c, NULL), NULL), NULL));
    save(f, r->plural, full, o, CLIENT_MODIFIED, a);
    return json_object(a, "kind", json_new_z(a, "Status"), "status", json_new_z(a, "Success"),
                       NULL);
}

static const struct json *do_list(struct fake_client *f, const struct client_request *r,
                                  struct arena *a)
{
    const struct json *items = json_array(a, NULL);
    char *prefix = arena_printf(a, "%s|", r->plural);
    size_t at = 0;
    struct str key;
    void *value;

    struct str labels = parameter(r->query, "labelSelector", a), fields = parameter(r->query, "fieldSelector", a);

    while (map_next(&f->objects, &at, &key, &value)) {
        const struct json *o = str_starts(key, str_of(prefix)) ? load(f, arena_strdup(a, key), a) : NULL;

        if (o && selected(r->ns, labels, fields, o))
            items = json_append(a, items, o);
    }
    return json_object(
        a, "kind", json_new_z(a, "List"), "metadata",
        json_object(a, "resourceVersion", json_new_f(a, "%lld", (long long)f->revision), NULL),
        "items", items, NULL);
}

static const struct json *serve(struct fake_client *f, const struct client_request *r,
                                struct arena *a, struct error *err)
{
    char *full = object_key(r->plural, r->ns, r->name, a);
    const struct json *o;

    switch (r->verb) {
    case CLIENT_GET:
        o = load(f, full, a);
        if (!o)
            error_set(err, ERROR_NOT_FOUND, "%s not found", full);
        return o;
    case CLIENT_LIST:
        return do_list(f, r, a);
    case CLIENT_CREATE:
        return r->subresource ? do_bind(f, r, full, a, err)
                              : do_create(f, r->plural, r->body, a, err);
    case CLIENT_APPLY:
        return do_apply(f, r, full, a, err);
    case CLIENT_UPDATE:
        error_set(err, ERROR_NOT_ALLOWED, "the fake has no such verb");
        return NULL;
    case CLIENT_PATCH_JSON:
    case CLIENT_PATCH_MERGE:
    case CLIENT_PATCH_STRATEGIC:
        return do_patch(f, r, full, a, err);
    case CLIENT_DELETE:
        return do_delete(f, r->plural, full, r->body, a, err);
    }
    __builtin_unreachable();
}

static void note(struct fake_client *f, const struct client_request *r)
{
    static const char *const names[] = {"get",   "list",  "create", "update", "patch",
                                        "patch", "patch", "apply",  "delete"};
    struct str name = r->name.n ? r->name : meta_name(r->body);

    if (r->verb == CLIENT_LIST) {
        buf_addf(&f->lists, "%s\n", r->plural);
        buf_clear(&f->last_list);
        buf_addstr(&f->last_list, r->query);
    }
    if (r->verb == CLIENT_GET || r->verb == CLIENT_LIST || strcmp(r->plural, "events") == 0)
        return;
    buf_addf(&f->log, "%s %s%s%s " STR_FMT "\n", names[r->verb], r->plural,
             r->subresource ? "/" : "", r->subresource ? r->subresource : "", STR_ARG(name));
}

static struct client_call *fake_call(struct client *c, const struct client_request *r,
                                     client_done_fn done, void *user)
{
    struct fake_client *f = fake_of(c);
    AUTO(arena_done) struct arena a = {0};
    struct client_call *call = NEW(struct client_call);
    const struct json *body;
    struct task *t;

    *call = (struct client_call){done, user};
    note(f, r);
    t = task_add(f); /* first, so that the answer comes before the event */
    t->call = call;
    if (f->fail.n > 0 && f->fail.verb == r->verb && strcmp(f->fail.plural, r->plural) == 0) {
        f->fail.n--;
        error_set(&t->err, f->fail.kind, "%s", f->fail.message);
        t->status = status_code(f->fail.kind);
        return call;
    }
    body = serve(f, r, &a, &t->err);
    t->status = t->err.kind != ERROR_NONE ? status_code(t->err.kind) : 200;
    t->text = body ? json_text(body) : NULL;
    return call;
}

static void fake_cancel(struct client *c, struct client_call *call)
{
    struct fake_client *f = fake_of(c);

    list_each(it, &f->tasks) {
        struct task *t = list_entry(it, struct task, node);

        if (t->call == call) {
            task_free(t);
            free(call);
            return;
        }
    }
}

static struct client_watch *fake_watch(struct client *c, const struct client_watch_request *r)
{
    struct fake_client *f = fake_of(c);
    struct client_watch *w = NEW(struct client_watch);
    AUTO(arena_done) struct arena a = {0};
    char *prefix = arena_printf(&a, "%s|", r->plural);
    size_t at = 0;
    struct str key;
    void *value;

    w->plural = xstrdup(r->plural);
    w->request = *r;
    list_add_tail(&f->watches, &w->node);
    /* What has changed since; deletions in between are lost, as tests break watches with GONE for those. */
    while (map_next(&f->objects, &at, &key, &value)) {
        const struct json *o =
            str_starts(key, str_of(prefix)) ? load(f, arena_strdup(&a, key), &a) : NULL;
        struct task *t;

        if (!o || strtoll(arena_strdup(&a, meta_resource_version(o)), NULL, 10) <= r->from_revision
            || !selected(r->ns, r->label_selector, r->field_selector, o))
            continue;
        t = task_add(f);
        t->watch = w;
        t->type = CLIENT_MODIFIED;
        t->text = json_text(o);
    }
    return w;
}

static void fake_stop(struct client *c, struct client_watch *w)
{
    struct fake_client *f = fake_of(c);

    list_each_safe(it, &f->tasks) {
        struct task *t = list_entry(it, struct task, node);

        if (t->watch == w)
            task_free(t);
    }
    list_remove(&w->node);
    free(w->plural);
    free(w);
}

static void fake_free(struct client *c)
{
    struct fake_client *f = fake_of(c);

    loop_defer_cancel(&f->run);
    list_each_safe(it, &f->tasks) {
        struct task *t = list_entry(it, struct task, node);

        free(t->call);
        task_free(t);
    }
    while (!list_empty(&f->watches))
        fake_stop(c, list_entry(f->watches.next, struct client_watch, node));
    map_done_with(&f->objects, free);
    buf_done(&f->log);
    buf_done(&f->lists);
    buf_done(&f->last_list);
    free(f->fail.plural);
    free(f->fail.message);
    free(f);
}

static const struct client_ops fake_ops = {.call = fake_call,
                                           .cancel = fake_cancel,
                                           .watch = fake_watch,
                                           .stop = fake_stop,
                                           .free = fake_free};

struct client *fake_client_new(struct loop *l)
{
    struct fake_client *f = NEW(struct fake_client);

    f->base = (struct client){.ops = &fake_ops, .loop = l};
    list_init(&f->tasks);
    list_init(&f->watches);
    return &f->base;
}

const struct json *fake_get(struct client *c, const char *plural, const char *key, struct arena *a)
{
    return load(fake_of(c), arena_printf(a, "%s|%s", plural, key), a);
}

static const struct json *parse(const char *text, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *o = NULL;

    if (!json_parse(str_of(text), a, &o, &err)) {
        fprintf(stderr, "%s: %s\n", error_text(&err), text);
        abort();
    }
    return o;
}

static void must(const struct error *err)
{
    if (err->kind == ERROR_NONE)
        return;
    fprintf(stderr, "fake client: %s\n", error_text(err));
    abort();
}

void fake_create(struct client *c, const char *plural, const char *json)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};

    do_create(fake_of(c), plural, parse(json, &a), &a, &err);
    must(&err);
}

void fake_merge(struct client *c, const char *plural, const char *key, const char *patch_json)
{
    struct fake_client *f = fake_of(c);
    AUTO(arena_done) struct arena a = {0};
    char *full = arena_printf(&a, "%s|%s", plural, key);
    const struct json *old = load(f, full, &a),
                      *new = json_merge_patch(&a, old, parse(patch_json, &a));

    assert(old);
    if (!json_eq(json_get(old, "spec"), json_get(new, "spec")))
        new = set(&a, new, "metadata/generation", json_new_i64(&a, meta_generation(old) + 1));
    save(f, plural, full, new, CLIENT_MODIFIED, &a);
}

void fake_delete(struct client *c, const char *plural, const char *key)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};

    do_delete(fake_of(c), plural, arena_printf(&a, "%s|%s", plural, key), NULL, &a, &err);
    must(&err);
}

void fake_remove(struct client *c, const char *plural, const char *key)
{
    struct fake_client *f = fake_of(c);
    AUTO(arena_done) struct arena a = {0};
    char *full = arena_printf(&a, "%s|%s", plural, key);
    const struct json *o = load(f, full, &a);

    assert(o);
    o = set(&a, set(&a, o, "metadata/finalizers", NULL), "metadata/deletionGracePeriodSeconds",
            NULL);
    save(f, plural, full, set(&a, o, "metadata/deletionTimestamp", json_new_z(&a, now_text(f, &a))),
         CLIENT_MODIFIED, &a);
}

size_t fake_count(struct client *c, const char *plural)
{
    AUTO(arena_done) struct arena a = {0};

    return json_len(
        json_get(do_list(fake_of(c), &(struct client_request){.plural = plural}, &a), "items"));
}

bool fake_event_says(struct client *c, const char *text)
{
    AUTO(arena_done) struct arena a = {0};
    size_t at;

    json_each_item(e, json_get(do_list(fake_of(c), &(struct client_request){.plural = "events"}, &a), "items"))
        if (str_find(json_str_at(e, "message"), str_of(text), &at) || str_find(json_str_at(e, "note"), str_of(text), &at))
            return true;
    return false;
}
const char *fake_only(struct client *c, const char *plural, struct arena *a)
{
    const struct json *items =
        json_get(do_list(fake_of(c), &(struct client_request){.plural = plural}, a), "items");

    return json_len(items) == 1 ? meta_key(json_item(items, 0), a) : NULL;
}

const char *fake_last_list(struct client *c)
{
    return fake_of(c)->last_list.p;
}

size_t fake_lists(struct client *c, const char *plural)
{
    AUTO_FREE char *line = xasprintf("%s\n", plural);
    size_t n = 0;

    for (const char *p = fake_of(c)->lists.p; p && (p = strstr(p, line)); p += strlen(line))
        n++;
    return n;
}

size_t fake_writes(struct client *c, const char *plural)
{
    struct str rest = buf_str(&fake_of(c)->log), line;
    size_t n = 0;

    while (str_next(&rest, '\n', &line)) {
        struct str verb, what, before, after;

        if (!line.n)
            continue;
        str_cut(line, ' ', &verb, &what);
        str_cut(what, ' ', &before, &after);
        str_cut(before, '/', &what, &after);
        n += !plural || str_is(what, plural);
    }
    return n;
}

const char *fake_log(struct client *c)
{
    return fake_of(c)->log.p ? fake_of(c)->log.p : "";
}
void fake_log_clear(struct client *c)
{
    buf_clear(&fake_of(c)->log);
}

void fake_fail(struct client *c, const char *plural, enum client_verb verb, unsigned n,
               enum error_kind kind, const char *message)
{
    struct fake_client *f = fake_of(c);

    free(f->fail.plural);
    free(f->fail.message);
    f->fail.plural = xstrdup(plural);
    f->fail.message = xstrdup(message);
    f->fail.verb = verb;
    f->fail.n = n;
    f->fail.kind = kind;
}

void fake_deafen_watches(struct client *c)
{
    list_each(it, &fake_of(c)->watches)
        list_entry(it, struct client_watch, node)->deaf = true;
}

void fake_break_watches(struct client *c, enum error_kind kind)
{
    struct fake_client *f = fake_of(c);

    list_each(it, &f->watches) {
        struct client_watch *w = list_entry(it, struct client_watch, node);
        struct task *t;

        if (w->ended)
            continue;
        w->ended = true;
        t = task_add(f);
        t->watch = w;
        if (kind != ERROR_NONE)
            error_set(&t->err, kind, "the watch is broken");
    }
}
