/* cel/lib_net - IP addresses and CIDRs. As Kubernetes' library: no zones, no IPv4 addresses in IPv6 clothes. */
#include "cel/internal.h"

#include <arpa/inet.h>

#define FN(name)                                                                                   \
    static struct cel_value name(struct cel_run *r, const struct cel_node *call,                   \
                                 const struct cel_value *v, size_t n)
#define UNUSED ((void)r, (void)call, (void)v, (void)n)

struct address {
    uint8_t b[16];
    uint8_t n;    /* 4 or 16 */
    uint8_t bits; /* of a CIDR */
};

/* NULL, or what is wrong. */
static const char *ip_parse(struct str s, struct address *ret)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    char z[64];

    *ret = (struct address){0};
    if (!s.n || s.n >= sizeof z || memchr(s.p, '\0', s.n))
        return "unable to parse IP";
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    if (inet_pton(AF_INET, z, ret->b) == 1) {
        ret->n = 4;
        ret->bits = 32;
        return NULL;
    }
    if (str_has(s, '%'))
        return "IP address with zone value is not allowed";
    if (inet_pton(AF_INET6, z, ret->b) != 1)
        return "unable to parse IP";
    ret->n = 16;
    ret->bits = 128;
    return memcmp(ret->b, mapped, sizeof mapped) == 0 ? "IPv4-mapped IPv6 address is not allowed"
                                                      : NULL;
}

static const char *cidr_parse(struct str s, struct address *ret)
{
    AUTO(error_clear) struct error err = {0};
    struct str ip, bits;
    uint64_t k;
    const char *why;

    if (!str_rcut(s, '/', &ip, &bits))
        return "no '/'";
    why = ip_parse(ip, ret);
    if (why)
        return why;
    if (!parse_u64(bits, ret->n * 8u, &k, &err) || (bits.n > 1 && bits.p[0] == '0'))
        return "bad bits after slash";
    ret->bits = (uint8_t)k;
    return NULL;
}

/* RFC 5952, as Go writes it. */
static struct str ip_text(struct arena *a, const struct address *ip)
{
    AUTO(buf_done) struct buf b = {.limit = 128};
    int best = -1, best_n = 1;

    if (ip->n == 4)
        return str_of(arena_printf(a, "%u.%u.%u.%u", ip->b[0], ip->b[1], ip->b[2], ip->b[3]));
    for (int i = 0; i < 8; i++) {
        int k = i;

        while (k < 8 && ip->b[2 * k] == 0 && ip->b[2 * k + 1] == 0)
            k++;
        if (k - i > best_n) {
            best = i;
            best_n = k - i;
        }
    }
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            buf_adds(&b, "::");
            i += best_n - 1;
            continue;
        }
        if (i && i != best + best_n)
            buf_addc(&b, ':');
        else if (i && best < 0)
            buf_addc(&b, ':');
        buf_addf(&b, "%x", (unsigned)(ip->b[2 * i] << 8 | ip->b[2 * i + 1]));
    }
    return arena_str(a, buf_str(&b));
}

static struct cel_value made(struct cel_run *r, enum cel_kind kind, const struct address *ip)
{
    struct address *copy = ARENA_NEW(r->a, struct address);

    *copy = *ip;
    return (struct cel_value){.kind = (uint8_t)kind, .opaque = copy};
}

bool cel_equal_address(const void *a, const void *b)
{
    const struct address *x = a, *y = b;

    return x->n == y->n && x->bits == y->bits && memcmp(x->b, y->b, x->n) == 0;
}

FN(ip)
{
    struct address x;
    const char *why;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    why = ip_parse(v[0].s, &x);
    if (why)
        return cel_fail(r,
                        "IP Address \"" STR_FMT "\" parse error during conversion from string: %s",
                        STR_ARG(v[0].s), why);
    return made(r, CEL_IP, &x);
}

FN(is_ip)
{
    struct address x;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    return cel_v_bool(!ip_parse(v[0].s, &x));
}

FN(is_canonical)
{
    struct address x;
    const char *why;

    UNUSED;
    cel_charge_text(r, 2 * v[0].s.n);
    why = ip_parse(v[0].s, &x);
    if (why)
        return cel_fail(r,
                        "IP Address \"" STR_FMT "\" parse error during conversion from string: %s",
                        STR_ARG(v[0].s), why);
    return cel_v_bool(str_eq(ip_text(r->a, &x), v[0].s));
}

FN(family)
{
    const struct address *x = v[0].opaque;

    UNUSED;
    return cel_v_int(x->n == 4 ? 4 : 6);
}

static bool all_zero(const struct address *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x->b[i])
            return false;
    return true;
}

static bool is(const struct address *x, struct str what)
{
    bool v4 = x->n == 4;
    bool loopback = v4 ? x->b[0] == 127 : all_zero(x, 15) && x->b[15] == 1;
    bool link_local =
        v4 ? x->b[0] == 169 && x->b[1] == 254 : x->b[0] == 0xfe && (x->b[1] & 0xc0) == 0x80;
    bool multicast = v4 ? (x->b[0] & 0xf0) == 0xe0 : x->b[0] == 0xff;

    if (str_is(what, "isUnspecified"))
        return all_zero(x, x->n);
    if (str_is(what, "isLoopback"))
        return loopback;
    if (str_is(what, "isLinkLocalMulticast"))
        return v4 ? x->b[0] == 224 && x->b[1] == 0 && x->b[2] == 0
                  : x->b[0] == 0xff && (x->b[1] & 0x0f) == 2;
    if (str_is(what, "isLinkLocalUnicast"))
        return link_local;
    return !all_zero(x, x->n) && !loopback && !link_local && !multicast
           && !(v4 && x->b[0] == 255 && x->b[1] == 255 && x->b[2] == 255 && x->b[3] == 255);
}

FN(ip_is)
{
    UNUSED;
    return cel_v_bool(is(v[0].opaque, call->name));
}

FN(ip_string)
{
    UNUSED;
    return cel_v_str(ip_text(r->a, v[0].opaque));
}

FN(cidr)
{
    struct address x;
    const char *why;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    why = cidr_parse(v[0].s, &x);
    if (why)
        return cel_fail(r,
                        "network address parse error during conversion from string: "
                        "netip.ParsePrefix(\"" STR_FMT "\"): %s",
                        STR_ARG(v[0].s), why);
    return made(r, CEL_CIDR, &x);
}

FN(is_cidr)
{
    struct address x;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    return cel_v_bool(!cidr_parse(v[0].s, &x));
}

static struct address masked_of(const struct address *x)
{
    struct address ret = *x;

    for (unsigned i = 0; i < x->n; i++) {
        unsigned keep = x->bits > i * 8 ? (x->bits - i * 8 > 8 ? 8 : x->bits - i * 8) : 0;

        ret.b[i] &= (uint8_t)(0xff00u >> keep);
    }
    return ret;
}

static bool within(const struct address *net, const struct address *ip)
{
    struct address a = masked_of(net), b = *ip;

    if (net->n != ip->n)
        return false;
    b.bits = net->bits;
    b = masked_of(&b);
    return memcmp(a.b, b.b, a.n) == 0;
}

FN(contains_ip)
{
    const struct address *x = v[1].opaque;
    struct address parsed;
    const char *why = NULL;

    UNUSED;
    cel_charge(r, 4);
    if (v[1].kind == CEL_STRING) {
        why = ip_parse(v[1].s, &parsed);
        x = &parsed;
    }
    if (why)
        return cel_fail(r,
                        "IP Address \"" STR_FMT "\" parse error during conversion from string: %s",
                        STR_ARG(v[1].s), why);
    return cel_v_bool(within(v[0].opaque, x));
}

FN(contains_cidr)
{
    const struct address *net = v[0].opaque, *x = v[1].opaque;
    struct address parsed;
    const char *why = NULL;

    UNUSED;
    cel_charge(r, 6);
    if (v[1].kind == CEL_STRING) {
        why = cidr_parse(v[1].s, &parsed);
        x = &parsed;
    }
    if (why)
        return cel_fail(r,
                        "network address parse error during conversion from string: "
                        "netip.ParsePrefix(\"" STR_FMT "\"): %s",
                        STR_ARG(v[1].s), why);
    return cel_v_bool(x->bits >= net->bits && within(net, x));
}

FN(cidr_ip)
{
    struct address x = *(const struct address *)v[0].opaque;

    UNUSED;
    x.bits = (uint8_t)(x.n * 8);
    return made(r, CEL_IP, &x);
}

FN(masked)
{
    struct address x = masked_of(v[0].opaque);

    UNUSED;
    return made(r, CEL_CIDR, &x);
}

FN(prefix_length)
{
    const struct address *x = v[0].opaque;

    UNUSED;
    return cel_v_int(x->bits);
}

FN(cidr_string)
{
    const struct address *x = v[0].opaque;

    UNUSED;
    return cel_v_str(str_of(arena_printf(r->a, STR_FMT "/%u", STR_ARG(ip_text(r->a, x)), x->bits)));
}

static const struct cel_overload nets[] = {
    {"ip", "s:I", false, ip},
    {"isIP", "s:b", false, is_ip},
    {"ip.isCanonical", "s:b", false, is_canonical},
    {"family", "I:i", true, family},
    {"isUnspecified", "I:b", true, ip_is},
    {"isLoopback", "I:b", true, ip_is},
    {"isLinkLocalMulticast", "I:b", true, ip_is},
    {"isLinkLocalUnicast", "I:b", true, ip_is},
    {"isGlobalUnicast", "I:b", true, ip_is},
    {"string", "I:s", false, ip_string},
    {"cidr", "s:C", false, cidr},
    {"isCIDR", "s:b", false, is_cidr},
    {"containsIP", "CI:b", true, contains_ip},
    {"containsIP", "Cs:b", true, contains_ip},
    {"containsCIDR", "CC:b", true, contains_cidr},
    {"containsCIDR", "Cs:b", true, contains_cidr},
    {"ip", "C:I", true, cidr_ip},
    {"masked", "C:C", true, masked},
    {"prefixLength", "C:i", true, prefix_length},
    {"string", "C:s", false, cidr_string},
};
const struct cel_library cel_lib_net = {nets, ARRAY_SIZE(nets)};
