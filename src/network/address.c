#include "network/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/cleanup.h"

unsigned ip_bits(const struct ip *a)
{
    return a->family == AF_INET6 ? 128 : 32;
}

static bool parse(struct str text, bool prefix_needed, struct ip *ret, struct error *err)
{
    AUTO(error_clear) struct error why = {0};
    struct str address, prefix;
    struct ip ip = {0};
    char z[IP_TEXT];
    uint64_t bits;

    str_cut(text, '/', &address, &prefix);
    if (address.n == 0 || address.n >= sizeof z || memchr(address.p, 0, address.n))
        return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "' is not an IP address", STR_ARG(str_take(text, 64)));
    memcpy(z, address.p, address.n);
    z[address.n] = 0;
    ip.family = str_has(address, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(ip.family, z, ip.b) != 1)
        return error_set(err, ERROR_BAD_REQUEST, "'%s' is not an IP address", z);
    ip.prefix = ip_bits(&ip);
    if (prefix.p || prefix_needed) {
        if (!prefix.p || !parse_u64(prefix, ip_bits(&ip), &bits, &why))
            return error_set(err, ERROR_BAD_REQUEST, "'" STR_FMT "' has no prefix length between 0 and %u",
                             STR_ARG(str_take(text, 64)), ip_bits(&ip));
        ip.prefix = (unsigned)bits;
    }
    *ret = ip;
    return true;
}

bool ip_parse(struct str text, struct ip *ret, struct error *err)
{
    return parse(text, false, ret, err);
}

bool ip_parse_prefix(struct str text, struct ip *ret, struct error *err)
{
    return parse(text, true, ret, err);
}

void ip_text(const struct ip *a, char ret[IP_TEXT])
{
    if (!a->family || !inet_ntop(a->family, a->b, ret, IP_TEXT))
        ret[0] = 0;
}

void ip_prefix_text(const struct ip *a, char ret[IP_TEXT + 4])
{
    char text[IP_TEXT];

    ip_text(a, text);
    snprintf(ret, IP_TEXT + 4, "%s/%u", text, a->prefix % 1000);
}

struct ip ip_network(const struct ip *a)
{
    struct ip net = *a;

    for (unsigned i = 0; i < sizeof net.b; i++) {
        unsigned kept = net.prefix > i * 8 ? net.prefix - i * 8 : 0;

        net.b[i] &= kept >= 8 ? 0xff : (uint8_t)(0xff00 >> kept);
    }
    return net;
}

struct ip ip_plus(const struct ip *a, unsigned n)
{
    struct ip sum = *a;

    for (unsigned i = ip_bits(a) / 8; i-- > 0 && n;) {
        n += sum.b[i];
        sum.b[i] = (uint8_t)n;
        n >>= 8;
    }
    return sum;
}

bool ip_same(const struct ip *a, const struct ip *b)
{
    return a->family == b->family && memcmp(a->b, b->b, ip_bits(a) / 8) == 0;
}

bool ip_overlap(const struct ip *a, const struct ip *b)
{
    struct ip x = *a, y = *b;

    if (a->family != b->family)
        return false;
    x.prefix = y.prefix = a->prefix < b->prefix ? a->prefix : b->prefix;
    x = ip_network(&x);
    y = ip_network(&y);
    return ip_same(&x, &y);
}

uint32_t ip_v4(const struct ip *a)
{
    return (uint32_t)a->b[0] << 24 | (uint32_t)a->b[1] << 16 | (uint32_t)a->b[2] << 8 | a->b[3];
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool mac_parse(struct str text, uint8_t ret[6])
{
    uint8_t mac[6];

    if (text.n != 17)
        return false;
    for (size_t i = 0; i < 6; i++) {
        int high = hex_digit(text.p[i * 3]), low = hex_digit(text.p[i * 3 + 1]);

        if (high < 0 || low < 0 || (i < 5 && text.p[i * 3 + 2] != ':' && text.p[i * 3 + 2] != '-'))
            return false;
        mac[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret, mac, 6);
    return true;
}

void mac_text(const uint8_t mac[6], char ret[MAC_TEXT])
{
    snprintf(ret, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}
