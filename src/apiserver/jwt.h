/* apiserver/jwt - JSON web tokens signed by one key: ES256 for EC P-256, RS256 for RSA. No other algorithm exists here. */
#pragma once
#include "json/json.h"

#define LIMIT_TOKEN 16384

struct jwt_key;
struct jwt_key *jwt_key_new(const char *private_pem, struct error *err);
void jwt_key_free(struct jwt_key *k);
const char *jwt_key_alg(const struct jwt_key *k);
const char *jwt_key_set(const struct jwt_key *k); /* the public half as a JWKS document */

MUST_CHECK bool jwt_sign(const struct jwt_key *k, const struct json *claims, struct buf *out);
/* Claims of a token that this key signed; nothing else is checked. ERROR_UNAUTHORIZED otherwise. */
MUST_CHECK bool jwt_open(struct jwt_key *k, struct str token, struct arena *a,
                         const struct json **ret_claims, struct error *err);
uint64_t jwt_verified(const struct jwt_key *k); /* how often a signature was calculated for that */
