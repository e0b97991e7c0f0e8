#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "apiserver/jwt.h"
#include "base/cleanup.h"
#include "http/tls.h"
#include <openssl/evp.h>
#include <openssl/pem.h>

static struct jwt_key *key(bool rsa)
{
    struct error err = {0};
    EVP_PKEY *k = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    long n;
    AUTO_FREE char *pem = NULL;
    struct jwt_key *out;

    assert_int_equal(PEM_write_bio_PrivateKey(bio, k, NULL, NULL, 0, NULL, NULL), 1);
    n = BIO_get_mem_data(bio, &text);
    pem = str_dup(str_n(text, (size_t)n));
    BIO_free(bio);
    EVP_PKEY_free(k);
    out = jwt_key_new(pem, &err);
    assert_non_null(out);
    return out;
}

static bool opens(struct jwt_key *k, struct str token)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *claims;

    if (jwt_open(k, token, &a, &claims, &err))
        return true;
    assert_int_equal(err.kind, ERROR_UNAUTHORIZED);
    return false;
}

static void sign(const struct jwt_key *k, struct buf *out)
{
    AUTO(arena_done) struct arena a = {0};

    assert_true(jwt_sign(k, json_object(&a, "sub", json_new_z(&a, "x"), NULL), out));
}

static void tokens_open_with_their_key_only(void **state)
{
    struct jwt_key *keys[] = {key(false), key(false), key(true), key(true)};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        AUTO(buf_done) struct buf t = {0};

        sign(keys[i], &t);
        for (size_t j = 0; j < ARRAY_SIZE(keys); j++)
            assert_int_equal(opens(keys[j], buf_str(&t)), i == j);
    }
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        jwt_key_free(keys[i]);
}

/* Every token that differs in one byte is another token: no part of it is beyond the signature or read loosely. */
static void one_changed_byte_is_refused(void **state)
{
    struct jwt_key *k = key(false);
    AUTO(buf_done) struct buf t = {0};
    size_t opened = 0;

    (void)state;
    sign(k, &t);
    for (size_t i = 0; i < t.n; i++) {
        char was = t.p[i];

        t.p[i] = was == 'A' ? 'B' : 'A';
        opened += opens(k, buf_str(&t));
        t.p[i] = '\0';
        opened += opens(k, buf_str(&t));
        t.p[i] = was;
    }
    for (size_t n = 0; n < t.n; n++)
        opened += opens(k, str_n(t.p, n));
    /* The last letter of base64 without padding has bits that mean nothing; a strict reader refuses them, too. */
    assert_int_equal(opened, 0);
    assert_true(opens(k, buf_str(&t)));
    jwt_key_free(k);
}

static void a_refused_token_costs_one_verification(void **state)
{
    struct jwt_key *k = key(false);
    AUTO(buf_done) struct buf t = {0}, other = {0};
    size_t at;

    (void)state;
    sign(k, &t);
    sign(k, &other);
    at = t.n - 20; /* in the signature */
    t.p[at] = t.p[at] == 'A' ? 'B' : 'A';
    for (int i = 0; i < 50; i++)
        assert_false(opens(k, buf_str(&t)));
    assert_int_equal(jwt_verified(k), 1);
    assert_true(opens(k, buf_str(&other)));
    assert_int_equal(jwt_verified(k), 2);
    for (int i = 0; i < 1000; i++) { /* they push each other out, and nothing else happens */
        t.p[at] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[i % 32];
        t.p[at - 1] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[i / 32];
        (void)opens(k, buf_str(&t));
    }
    assert_true(jwt_verified(k) > 900);
    assert_true(opens(k, buf_str(&other)));
    jwt_key_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_refused_token_costs_one_verification),
                                       cmocka_unit_test(tokens_open_with_their_key_only),
                                       cmocka_unit_test(one_changed_byte_is_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
