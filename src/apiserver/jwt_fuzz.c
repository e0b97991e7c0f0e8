/* Tokens of strangers: as they come, and with claims of the fuzzer's own under our signature, cut at a place of its choice. */
#include "apiserver/jwt.h"
#include "base/cleanup.h"
#include "http/tls.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct jwt_key *key;

static bool opens(struct str token, struct arena *a, const struct json **ret)
{
    AUTO(error_clear) struct error err = {0};
    bool ok = jwt_open(key, token, a, ret, &err);

    assert(ok == (err.kind == ERROR_NONE));
    assert(ok || err.kind == ERROR_UNAUTHORIZED);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf token = {0};
    const struct json *claims = NULL, *back = NULL;

    if (!key) {
        AUTO(cert_pair_done) struct cert_pair pair = {0};
        if (!cert_make_ca("t", 1700000000, 1000, &pair, &err) || !(key = jwt_key_new(pair.key_pem, &err)))
            abort();
    }
    assert(!opens(str_n((const char *)data, size), &a, &back)); /* nobody but us has the key */
    if (size < 2 || size > 4096 || !json_parse(str_n((const char *)data + 1, size - 1), &a, &claims, &err))
        return 0;
    if (!json_is(claims, JSON_OBJECT) || !jwt_sign(key, claims, &token))
        return 0;
    if (opens(buf_str(&token), &a, &back))
        assert(json_eq(claims, back));
    token.p[data[0] % token.n] ^= 1 << (data[0] & 7);
    if (opens(buf_str(&token), &a, &back)) /* base64 has spare bits at its ends */
        assert(json_eq(claims, back));
    return 0;
}
