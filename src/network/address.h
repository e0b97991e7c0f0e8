/* network/address - IP and MAC addresses: text, arithmetic, overlap. Pure. */
#pragma once
#include "base/str.h"

struct ip {
    int family; /* AF_INET, AF_INET6; 0: none */
    unsigned prefix;
    uint8_t b[16]; /* network byte order; IPv4 uses the first four */
};

#define IP_TEXT 46
/* "10.0.2.2" (prefix 32) or "10.0.2.1/24"; likewise IPv6. */
MUST_CHECK bool ip_parse(struct str text, struct ip *ret, struct error *err);
MUST_CHECK bool ip_parse_prefix(struct str text, struct ip *ret, struct error *err); /* the prefix must be written */
void ip_text(const struct ip *a, char ret[IP_TEXT]);              /* without the prefix */
void ip_prefix_text(const struct ip *a, char ret[IP_TEXT + 4]);   /* with it */
unsigned ip_bits(const struct ip *a);                             /* 32 or 128 */
struct ip ip_network(const struct ip *a);                         /* host bits cleared */
struct ip ip_plus(const struct ip *a, unsigned n);
bool ip_same(const struct ip *a, const struct ip *b);             /* address only */
bool ip_overlap(const struct ip *a, const struct ip *b);          /* the two networks share an address */
uint32_t ip_v4(const struct ip *a);                               /* host byte order */

#define MAC_TEXT 18
bool mac_parse(struct str text, uint8_t ret[6]); /* "02:00:00:00:00:01", or with '-' */
void mac_text(const uint8_t mac[6], char ret[MAC_TEXT]);
