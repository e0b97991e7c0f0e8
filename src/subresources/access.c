#include "subresources/access.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/map.h"

#define KEPT_MAX 1024
#define KEY_MAX  4096 /* an identity with thousands of groups is asked about each time */

struct access {
    struct client *client;
    struct map kept; /* question → struct yes */
    struct list questions;
};

struct yes {
    int64_t until_ns;
};

struct access_question {
    struct list node;
    struct access *access;
    struct client_call *call;
    struct loop_defer at_once;
    struct arena arena;
    struct str key;
    const char *refusal;
    access_done_fn done;
    void *user;
};

struct access *access_new(struct client *c)
{
    struct access *a = NEW(struct access);

    a->client = c;
    list_init(&a->questions);
    return a;
}

void access_cancel(struct access_question *q)
{
    if (!q)
        return;
    if (q->call)
        client_cancel(q->access->client, q->call);
    loop_defer_cancel(&q->at_once);
    list_remove(&q->node);
    arena_done(&q->arena);
    free(q);
}

void access_free(struct access *a)
{
    if (!a)
        return;
    while (!list_empty(&a->questions))
        access_cancel(list_entry(a->questions.next, struct access_question, node));
    map_done_with(&a->kept, free);
    free(a);
}

static const struct json *texts(struct arena *a, const char *const *list)
{
    const struct json *ret = json_array(a, NULL);

    for (size_t i = 0; list && list[i]; i++)
        ret = json_append(a, ret, json_new_z(a, list[i]));
    return ret;
}

static const struct json *text(struct arena *a, struct str s)
{
    return s.n ? json_new_str(a, s) : NULL;
}

static const struct json *spec_of(struct arena *a, const struct identity *who, const struct access_attributes *w)
{
    return json_object(a, "resourceAttributes",
                       json_object(a, "namespace", text(a, w->ns), "verb", json_new_z(a, w->verb), "group", json_new_z(a, w->group),
                                   "version", text(a, w->version), "resource", text(a, w->resource), "subresource",
                                   text(a, w->subresource), "name", text(a, w->name), NULL),
                       "user", json_new_z(a, who->user), "groups", texts(a, who->groups), "extra", who->extra, "uid",
                       json_new_z(a, who->uid), NULL);
}

/* In the words of an API server, for authorizers that give no reason. */
static const char *refusal_of(struct arena *a, const struct identity *who, const struct access_attributes *w)
{
    return arena_printf(a, "User \"%s\" cannot %s resource \"" STR_FMT "%s" STR_FMT "\" in API group \"%s\" in the namespace \"" STR_FMT "\"",
                        who->user, w->verb, STR_ARG(w->resource), w->subresource.n ? "/" : "", STR_ARG(w->subresource), w->group,
                        STR_ARG(w->ns));
}

static void end(struct access_question *q, const struct error *err)
{
    access_done_fn done = q->done;
    void *user = q->user;

    q->call = NULL;
    list_remove(&q->node);
    done(user, err);
    arena_done(&q->arena);
    free(q);
}

static void keep(struct access_question *q)
{
    struct access *a = q->access;
    struct yes *y;

    if (q->key.n > KEY_MAX)
        return;
    if (a->kept.n >= KEPT_MAX) {
        map_done_with(&a->kept, free);
        a->kept = (struct map){0};
    }
    y = NEW(struct yes);
    y->until_ns = loop_now_ns(a->client->loop) + ACCESS_KEPT;
    free(map_set(&a->kept, q->key, y));
}

static void on_reviewed(void *user, const struct client_response *r)
{
    struct access_question *q = user;
    AUTO(error_clear) struct error err = {0};
    struct str reason = json_str_at(r->body, "status/reason");

    if (r->err->kind != ERROR_NONE)
        error_set(&err, ERROR_INTERNAL, "internal server error: SubjectAccessReview: %s", error_text(r->err));
    else if (json_bool_at(r->body, "status/allowed", false) && !json_bool_at(r->body, "status/denied", false))
        keep(q);
    else if (reason.n)
        error_set(&err, ERROR_UNAUTHORIZED, STR_FMT, STR_ARG(reason));
    else
        error_set(&err, ERROR_UNAUTHORIZED, "%s", q->refusal);
    end(q, &err);
}

static void on_known(struct loop_defer *d)
{
    struct error none = {0};

    end(container_of(d, struct access_question, at_once), &none);
}

struct access_question *access_ask(struct access *a, const struct identity *who, const struct access_attributes *what,
                                   access_done_fn done, void *user)
{
    struct access_question *q = NEW(struct access_question);
    AUTO(buf_done) struct buf key = {0};
    const struct json *spec = spec_of(&q->arena, who, what);
    const struct yes *y;

    json_write_sorted(&key, spec); /* injective, whatever the texts hold */
    q->access = a;
    q->key = arena_str(&q->arena, buf_str(&key));
    q->refusal = refusal_of(&q->arena, who, what);
    q->done = done;
    q->user = user;
    list_add_tail(&a->questions, &q->node);
    y = map_get(&a->kept, q->key);
    if (y && y->until_ns > loop_now_ns(a->client->loop)) {
        loop_defer(a->client->loop, &q->at_once, on_known);
        return q;
    }
    q->call = client_call(a->client,
                          &(struct client_request){
                              .verb = CLIENT_CREATE, .group = "authorization.k8s.io", .version = "v1", .plural = "subjectaccessreviews",
                              .body = json_object(&q->arena, "apiVersion", json_new_z(&q->arena, "authorization.k8s.io/v1"), "kind",
                                                  json_new_z(&q->arena, "SubjectAccessReview"), "spec", spec, NULL)},
                          on_reviewed, q);
    return q;
}
