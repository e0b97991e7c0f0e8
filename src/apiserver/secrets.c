/* apiserver/secrets - bootstrap tokens go when their time has come. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

#define SECRETS "/registry/core/secrets/"

struct secrets {
    struct apiserver *s;
    struct store_watch *watch;
    struct loop_timer expiry;
};

static void told(void *user, const struct client_response *r)
{
    (void)user;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT)
        log_warning(NULL, "token Secret: %s, ignoring", error_text(r->err));
}

static void call(struct secrets *k, enum client_verb verb, const struct json *secret,
                 const struct json *body)
{
    struct client_request q = {.verb = verb,
                               .group = "",
                               .version = "v1",
                               .plural = "secrets",
                               .ns = meta_namespace(secret),
                               .name = meta_name(secret),
                               .body = body};

    client_call(k->s->self, &q, told, NULL);
}

static void drop(struct secrets *k, const struct json *secret, struct arena *a)
{
    call(k, CLIENT_DELETE, secret,
         json_object(a, "kind", json_new_z(a, "DeleteOptions"), "apiVersion", json_new_z(a, "v1"),
                     "preconditions",
                     json_object(a, "uid", json_new_str(a, meta_uid(secret)), NULL), NULL));
}

static void look_all(struct loop_timer *t);

/* The timer waits for the token that ends first. */
static void expect(struct secrets *k, const struct json *secret, struct arena *a)
{
    int64_t at, in;

    if (!bootstrap_token_expiry(secret, a, &at))
        return;
    in = at - loop_unix_ns(k->s->loop);
    if (in < MILLIS(10))
        in = MILLIS(10);
    if (in > SECONDS(3600))
        in = SECONDS(3600); /* clocks are set */
    if (!loop_timer_active(&k->expiry) || k->expiry.due_ns > loop_now_ns(k->s->loop) + in)
        loop_timer_start(k->s->loop, &k->expiry, in, look_all);
}

static void look(struct secrets *k, const struct json *secret, struct arena *a)
{
    int64_t at;

    if (!str_is(meta_namespace(secret), "kube-system") || !bootstrap_token_expiry(secret, a, &at))
        return;
    if (at <= loop_unix_ns(k->s->loop))
        drop(k, secret, a);
    else
        expect(k, secret, a);
}

static void look_below(struct secrets *k, const char *prefix)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (!store_list(k->s->store, str_of(prefix), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        return;
    for (size_t i = 0; i < list.n; i++) {
        struct arena a = {0};

        look(k, store_object_json(list.p[i], &a), &a);
        arena_done(&a);
    }
}

static void look_all(struct loop_timer *t)
{
    look_below(container_of(t, struct secrets, expiry), SECRETS);
}

static bool changed(void *user, const struct store_event *e)
{
    struct secrets *k = user;
    struct arena a = {0};

    if (e->type != STORE_DELETED)
        look(k, store_object_json(e->object, &a), &a);
    arena_done(&a);
    return true;
}

struct secrets *secrets_new(struct apiserver *s)
{
    struct secrets *k = NEW(struct secrets);
    AUTO(error_clear) struct error err = {0};

    k->s = s;
    k->watch =
        store_watch_start(s->store, STR(SECRETS), store_revision(s->store), changed, k, &err);
    loop_timer_start(s->loop, &k->expiry, SECONDS(1), look_all);
    return k;
}

void secrets_free(struct secrets *k)
{
    if (!k)
        return;
    loop_timer_stop(&k->expiry);
    store_watch_stop(k->watch);
    free(k);
}
