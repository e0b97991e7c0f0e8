/* apiserver/secrets - Secrets that are tokens. Bootstrap tokens go when their time has come. Those of type
 * kubernetes.io/service-account-token are filled with a token of their account when they come, and go with it. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

#define SECRETS "/registry/core/secrets/"
#define ACCOUNTS "/registry/core/serviceaccounts/"
#define TYPE "kubernetes.io/service-account-token"
#define OF "kubernetes.io/service-account.name"
#define UID "kubernetes.io/service-account.uid"

struct secrets {
    struct apiserver *s;
    struct store_watch *watch, *accounts;
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

/* -- bootstrap tokens --------------------------------------------------------------------- */

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

static void look_at_bootstrap_token(struct secrets *k, const struct json *secret, struct arena *a)
{
    int64_t at;

    if (!str_is(meta_namespace(secret), "kube-system") || !bootstrap_token_expiry(secret, a, &at))
        return;
    if (at <= loop_unix_ns(k->s->loop))
        drop(k, secret, a);
    else
        expect(k, secret, a);
}

static void look_all(struct loop_timer *t)
{
    struct secrets *k = container_of(t, struct secrets, expiry);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};

    if (!store_list(k->s->store, STR(SECRETS), STR_NONE, 0, 0, NULL, NULL, &list, &err))
        return;
    for (size_t i = 0; i < list.n; i++) {
        struct arena a = {0};

        look_at_bootstrap_token(k, store_object_json(list.p[i], &a), &a);
        arena_done(&a);
    }
}

/* -- tokens of service accounts ----------------------------------------------------------- */

static const struct json *base64(struct arena *a, struct str text)
{
    AUTO(buf_done) struct buf b = {0};

    buf_add_base64(&b, text.p, text.n);
    return json_new_str(a, buf_str(&b));
}

static void fill(struct secrets *k, const struct json *secret, const struct json *account,
                 struct arena *a)
{
    AUTO(buf_done) struct buf token = {0};
    const struct json *data;

    if (!token_legacy_make(k->s, meta_namespace(secret), meta_name(secret), account, &token))
        return;
    data =
        json_object(a, "token", base64(a, buf_str(&token)), "ca.crt",
                    k->s->config.ca_cert_pem ? base64(a, str_of(k->s->config.ca_cert_pem)) : NULL,
                    "namespace", base64(a, meta_namespace(secret)), NULL);
    call(k, CLIENT_PATCH_MERGE, secret,
         json_object(a, "metadata",
                     json_object(a, "uid", json_new_str(a, meta_uid(secret)), "annotations",
                                 json_object(a, UID, json_new_str(a, meta_uid(account)), NULL),
                                 NULL),
                     "data", data, NULL));
}

static bool is_token(const struct json *secret)
{
    return str_is(json_str_at(secret, "type"), TYPE) && !meta_deleting(secret);
}

static void look_at_account_token(struct secrets *k, const struct json *secret, struct arena *a)
{
    const struct json *account;
    struct str uid = meta_annotation(secret, UID);

    if (!is_token(secret))
        return;
    account = apiserver_peek(k->s, "", "serviceaccounts", meta_namespace(secret),
                             meta_annotation(secret, OF), a);
    if (!account || (uid.n && !str_eq(uid, meta_uid(account))))
        drop(k, secret, a);
    else if (!json_at(secret, "data/token") || !uid.n)
        fill(k, secret, account, a);
}

static bool account_changed(void *user, const struct store_event *e)
{
    struct secrets *k = user;
    struct arena a = {0};
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *account;

    if (e->type != STORE_DELETED)
        return true;
    account = store_object_json(e->object, &a);
    if (store_list(k->s->store,
                   str_of(arena_printf(&a, SECRETS STR_FMT "/", STR_ARG(meta_namespace(account)))),
                   STR_NONE, 0, 0, NULL, NULL, &list, &err))
        for (size_t i = 0; i < list.n; i++) {
            const struct json *secret = store_object_json(list.p[i], &a);

            if (is_token(secret) && str_eq(meta_annotation(secret, OF), meta_name(account)))
                drop(k, secret, &a);
        }
    arena_done(&a);
    return true;
}

/* -- both ------------------------------------------------------------------------------- */

static bool changed(void *user, const struct store_event *e)
{
    struct secrets *k = user;
    struct arena a = {0};
    const struct json *secret;

    if (e->type != STORE_DELETED) {
        secret = store_object_json(e->object, &a);
        look_at_bootstrap_token(k, secret, &a);
        look_at_account_token(k, secret, &a);
    }
    arena_done(&a);
    return true;
}

/* Of service accounts' tokens, what came while no server ran needs no look: a Secret is filled in the turn after its write, or
 * found by the first change. */
struct secrets *secrets_new(struct apiserver *s)
{
    struct secrets *k = NEW(struct secrets);
    AUTO(error_clear) struct error err = {0};
    int64_t now = store_revision(s->store);

    k->s = s;
    k->watch = store_watch_start(s->store, STR(SECRETS), now, changed, k, &err);
    k->accounts = store_watch_start(s->store, STR(ACCOUNTS), now, account_changed, k, &err);
    if (!k->watch || !k->accounts)
        log_error("token secrets", "%s", error_text(&err));
    loop_timer_start(s->loop, &k->expiry, SECONDS(1), look_all);
    return k;
}

void secrets_free(struct secrets *k)
{
    if (!k)
        return;
    loop_timer_stop(&k->expiry);
    store_watch_stop(k->watch);
    store_watch_stop(k->accounts);
    free(k);
}
