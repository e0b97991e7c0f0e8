/* apiserver/token_secrets - Secrets of type kubernetes.io/service-account-token: filled with a token of their account when they
 * come, and gone with it. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/log.h"

#define TYPE "kubernetes.io/service-account-token"
#define OF "kubernetes.io/service-account.name"
#define UID "kubernetes.io/service-account.uid"

struct token_secrets {
    struct apiserver *s;
    struct store_watch *secrets, *accounts;
};

static void told(void *user, const struct client_response *r)
{
    (void)user;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND
        && r->err->kind != ERROR_CONFLICT)
        log_warning("token secrets", "%s", error_text(r->err));
}

static void ask(struct token_secrets *t, enum client_verb verb, const struct json *secret,
                const struct json *body)
{
    struct client_request q = {.verb = verb,
                               .group = "",
                               .version = "v1",
                               .plural = "secrets",
                               .ns = meta_namespace(secret),
                               .name = meta_name(secret),
                               .body = body};

    client_call(t->s->self, &q, told, NULL);
}

static void drop(struct token_secrets *t, const struct json *secret, struct arena *a)
{
    ask(t, CLIENT_DELETE, secret,
        json_object(a, "preconditions",
                    json_object(a, "uid", json_new_str(a, meta_uid(secret)), NULL), NULL));
}

static const struct json *base64(struct arena *a, struct str text)
{
    AUTO(buf_done) struct buf b = {0};

    buf_add_base64(&b, text.p, text.n);
    return json_new_str(a, buf_str(&b));
}

static void fill(struct token_secrets *t, const struct json *secret, const struct json *account,
                 struct arena *a)
{
    AUTO(buf_done) struct buf token = {0};
    const struct json *data;

    if (!token_legacy_make(t->s, meta_namespace(secret), meta_name(secret), account, &token))
        return;
    data =
        json_object(a, "token", base64(a, buf_str(&token)), "ca.crt",
                    t->s->config.ca_cert_pem ? base64(a, str_of(t->s->config.ca_cert_pem)) : NULL,
                    "namespace", base64(a, meta_namespace(secret)), NULL);
    ask(t, CLIENT_PATCH_MERGE, secret,
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

static bool secret_changed(void *user, const struct store_event *e)
{
    struct token_secrets *t = user;
    struct arena a = {0};
    const struct json *secret = store_object_json(e->object, &a), *account;
    struct str uid = meta_annotation(secret, UID);

    if (e->type != STORE_DELETED && is_token(secret)) {
        account = apiserver_peek(t->s, "", "serviceaccounts", meta_namespace(secret),
                                 meta_annotation(secret, OF), &a);
        if (!account || (uid.n && !str_eq(uid, meta_uid(account))))
            drop(t, secret, &a);
        else if (!json_at(secret, "data/token") || !uid.n)
            fill(t, secret, account, &a);
    }
    arena_done(&a);
    return true;
}

static bool account_changed(void *user, const struct store_event *e)
{
    struct token_secrets *t = user;
    struct arena a = {0};
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *account;

    if (e->type != STORE_DELETED)
        return true;
    account = store_object_json(e->object, &a);
    if (store_list(t->s->store,
                   str_of(arena_printf(&a, "/registry/core/secrets/" STR_FMT "/",
                                       STR_ARG(meta_namespace(account)))),
                   STR_NONE, 0, 0, NULL, NULL, &list, &err))
        for (size_t i = 0; i < list.n; i++) {
            const struct json *secret = store_object_json(list.p[i], &a);

            if (is_token(secret) && str_eq(meta_annotation(secret, OF), meta_name(account)))
                drop(t, secret, &a);
        }
    arena_done(&a);
    return true;
}

/* What came while no server ran needs no look: a Secret is filled in the turn after its write, or found by the first change. */
struct token_secrets *token_secrets_new(struct apiserver *s)
{
    struct token_secrets *t = NEW(struct token_secrets);
    AUTO(error_clear) struct error err = {0};
    int64_t now = store_revision(s->store);

    t->s = s;
    t->secrets =
        store_watch_start(s->store, STR("/registry/core/secrets/"), now, secret_changed, t, &err);
    t->accounts = store_watch_start(s->store, STR("/registry/core/serviceaccounts/"), now,
                                    account_changed, t, &err);
    if (!t->secrets || !t->accounts)
        log_error("token secrets", "%s", error_text(&err));
    return t;
}

void token_secrets_free(struct token_secrets *t)
{
    if (!t)
        return;
    store_watch_stop(t->secrets);
    store_watch_stop(t->accounts);
    free(t);
}
