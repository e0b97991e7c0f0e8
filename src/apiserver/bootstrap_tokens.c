/* apiserver/bootstrap_tokens - tokens by which a machine that has nothing yet introduces itself: "abcdef.0123456789abcdef", kept as
 * Secrets of type bootstrap.kubernetes.io/token in kube-system. Whoever shows one is system:bootstrap:<id> in
 * system:bootstrappers and in the groups that the Secret adds, until its expiration. */
#include "api/meta.h"
#include "apiserver/internal.h"
#include "base/ident.h"
#include <openssl/crypto.h>

#define TYPE "bootstrap.kubernetes.io/token"
#define GROUP "system:bootstrappers"
enum { ID_LEN = 6, SECRET_LEN = 16, GROUPS_MAX = 64 };

static bool lower_alnum(struct str s, size_t n)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9')))
            return false;
    return s.n == n;
}

static struct str data_of(const struct json *secret, const char *key, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    if (!buf_add_base64_decoded(&b, json_str(json_get(json_get(secret, "data"), key)), &err))
        return STR("");
    return b.n ? arena_str(a, buf_str(&b)) : STR("");
}

/* One that cannot be read has expired. */
bool bootstrap_token_expiry(const struct json *secret, struct arena *a, int64_t *ret_unix_ns)
{
    struct str text = data_of(secret, "expiration", a);
    AUTO(error_clear) struct error err = {0};

    if (!str_is(json_str_at(secret, "type"), TYPE) || !text.n)
        return false;
    if (!ident_parse_time(text, ret_unix_ns, &err))
        *ret_unix_ns = 0;
    return true;
}

static bool group_good(struct str g)
{
    struct str rest = str_skip(g, strlen(GROUP ":"));

    if (!str_starts(g, STR(GROUP ":")) || !rest.n || rest.n > 256)
        return false;
    for (size_t i = 0; i < rest.n; i++) {
        char c = rest.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (!alnum && (i + 1 == rest.n || (c != '-' && c != ':')))
            return false;
    }
    return true;
}

static int by_text(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static bool groups_of(const struct json *secret, struct arena *a, const char *const **ret)
{
    const char **groups = ARENA_ARRAY(a, const char *, GROUPS_MAX + 3);
    struct str rest = data_of(secret, "auth-extra-groups", a), one;
    size_t n = 0, kept = 0;

    groups[n++] = GROUP;
    while (rest.n && str_next(&rest, ',', &one)) {
        if (!group_good(one) || n > GROUPS_MAX)
            return false;
        groups[n++] = arena_strdup(a, one);
    }
    qsort(groups, n, sizeof *groups, by_text);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(groups[kept - 1], groups[i]) != 0)
            groups[kept++] = groups[i];
    groups[kept++] = "system:authenticated";
    groups[kept] = NULL;
    *ret = groups;
    return true;
}

bool bootstrap_token_verify(struct apiserver *s, struct str token, struct arena *a,
                            struct identity *ret)
{
    struct str id, given, kept;
    const struct json *secret;
    const char *const *groups;
    int64_t expiry;

    if (!str_cut(token, '.', &id, &given) || !lower_alnum(id, ID_LEN)
        || !lower_alnum(given, SECRET_LEN))
        return false;
    secret = apiserver_peek(s, "", "secrets", STR("kube-system"),
                            str_of(arena_printf(a, "bootstrap-token-" STR_FMT, STR_ARG(id))), a);
    if (!secret || meta_deleting(secret) || !str_is(json_str_at(secret, "type"), TYPE))
        return false;
    kept = data_of(secret, "token-secret", a);
    if (kept.n != given.n || CRYPTO_memcmp(kept.p, given.p, given.n) != 0
        || !str_eq(data_of(secret, "token-id", a), id)
        || !str_is(data_of(secret, "usage-bootstrap-authentication", a), "true"))
        return false;
    if (bootstrap_token_expiry(secret, a, &expiry) && expiry <= loop_unix_ns(s->loop))
        return false;
    if (!groups_of(secret, a, &groups))
        return false;
    *ret = (struct identity){.user = arena_printf(a, "system:bootstrap:" STR_FMT, STR_ARG(id)),
                             .groups = groups};
    return true;
}
