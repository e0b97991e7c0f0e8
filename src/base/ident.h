/* base/ident - identifiers: UUIDs, generated name suffixes, RFC 3339 times. */
#pragma once
#include "base/buf.h"

#define UUID_LEN 36
void ident_uuid4(char ret[UUID_LEN + 1]);
/* RFC 4122 version 5 (SHA-1) of name in the namespace given as text. */
void ident_uuid5(const char *ns_uuid, struct str name, char ret[UUID_LEN + 1]);
bool ident_is_uuid(struct str s);
/* n characters of Kubernetes' name alphabet bcdfghjklmnpqrstvwxz2456789 (apimachinery util/rand). */
void ident_suffix(char *ret, size_t n); /* ret has n + 1 bytes */
void ident_suffix_from(uint64_t hash, char *ret, size_t n); /* the same alphabet, deterministic */

#define TIME_TEXT_LEN 30
/* "2026-11-22T01:27:21Z" and, with micro, "2026-11-22T01:27:21.123456Z"; input is ns since the epoch. */
void ident_time(int64_t unix_ns, bool micro, char ret[TIME_TEXT_LEN + 1]);
MUST_CHECK bool ident_parse_time(struct str s, int64_t *ret_unix_ns, struct error *err);
