/* One guest, one address: the server has no state. DISCOVER gets an OFFER, REQUEST an ACK; all options are sent whatever the
 * client asks for, as upstream's server does. RFC 2131, 2132, 3397 (search list), 3442 (routes). */
#include "network/dhcp.h"

#include <sys/socket.h>

#include "base/cleanup.h"
#include "network/address.h"

#define BOOTP_SIZE   236
#define MIN_REPLY    300  /* BOOTP's: some relays and clients drop less */
#define OPTIONS_MAX  1000 /* with the header it stays below the least MTU of IPv6, so never in fragments */
#define LEASE        (999u * 24 * 3600)

enum { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5 };
enum {
    OPT_NETMASK = 1, OPT_ROUTER = 3, OPT_DNS = 6, OPT_HOSTNAME = 12, OPT_DOMAIN = 15, OPT_MTU = 26, OPT_NTP = 42, OPT_LEASE = 51,
    OPT_TYPE = 53, OPT_SERVER = 54, OPT_TFTP = 66, OPT_BOOTFILE = 67, OPT_SEARCH = 119, OPT_ROUTES = 121,
    OPT_PRIVATE = 224, OPT_PRIVATE_END = 254,
};

/* Writing options */

static void add_u32(struct buf *b, uint32_t v)
{
    buf_add(b, (uint8_t[]){(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v}, 4);
}

static void add_head(struct buf *b, unsigned code, size_t n)
{
    buf_add(b, (uint8_t[]){(uint8_t)code, (uint8_t)n}, 2);
}

static void add_option_u32(struct buf *b, unsigned code, uint32_t v)
{
    add_head(b, code, 4);
    add_u32(b, v);
}

static void add_option_str(struct buf *b, unsigned code, struct str s)
{
    if (s.n == 0 || s.n > 255)
        return;
    add_head(b, code, s.n);
    buf_addstr(b, s);
}

static bool encode_name(struct str name, struct buf *out)
{
    struct str rest = name, label;
    size_t start = out->n;

    if (name.n > 0 && name.p[name.n - 1] == '.')
        rest.n--;
    if (rest.n == 0)
        return false;
    while (str_next(&rest, '.', &label)) {
        if (label.n == 0 || label.n > 63)
            return false;
        for (size_t i = 0; i < label.n; i++) {
            char c = label.p[i];

            if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
                return false;
        }
        buf_addc(out, (char)label.n);
        buf_addstr(out, label);
    }
    buf_addc(out, 0);
    return out->n - start <= 255;
}

static bool encode_search(const char *const *search, struct buf *out, struct error *err)
{
    for (; search && *search; search++)
        if (!encode_name(str_of(*search), out))
            return error_set(err, ERROR_INVALID, "search domain '%.80s' is not a domain name", *search);
    if (out->overflow || out->n > 255)
        return error_set(err, ERROR_INVALID, "search domains take more than the 255 bytes that DHCP has for them");
    return true;
}

static void add_routes(struct buf *b, const struct dhcp_config *c)
{
    AUTO(buf_done) struct buf list = {0};

    buf_init(&list, 1024);
    for (unsigned i = 0; i < c->n_routes; i++) {
        const struct dhcp_route *r = &c->routes[i];

        buf_addc(&list, (char)r->prefix);
        for (unsigned byte = 0; byte < (r->prefix + 7) / 8; byte++)
            buf_addc(&list, (char)(r->network >> (24 - 8 * byte)));
        add_u32(&list, r->gateway);
    }
    add_option_str(b, OPT_ROUTES, buf_str(&list));
}

static void add_options(struct buf *b, const struct dhcp_config *c, int type)
{
    AUTO(buf_done) struct buf search = {0};
    AUTO(error_clear) struct error err = {0};

    add_head(b, OPT_TYPE, 1);
    buf_addc(b, (char)type);
    add_option_u32(b, OPT_SERVER, c->server);
    add_option_u32(b, OPT_LEASE, c->lease_s);
    add_option_u32(b, OPT_NETMASK, c->netmask);
    if (c->gateway)
        add_option_u32(b, OPT_ROUTER, c->gateway);
    if (c->n_dns > 0) {
        add_head(b, OPT_DNS, 4 * (size_t)c->n_dns);
        for (unsigned i = 0; i < c->n_dns; i++)
            add_u32(b, c->dns[i]);
    }
    add_option_str(b, OPT_HOSTNAME, str_of(c->hostname));
    add_option_str(b, OPT_DOMAIN, str_of(c->domain));
    if (c->mtu) {
        add_head(b, OPT_MTU, 2);
        buf_add(b, (uint8_t[]){(uint8_t)(c->mtu >> 8), (uint8_t)c->mtu}, 2);
    }
    buf_init(&search, 512);
    if (encode_search(c->search, &search, &err))
        add_option_str(b, OPT_SEARCH, buf_str(&search));
    add_routes(b, c);
    for (unsigned i = 0; i < c->n_options; i++)
        add_option_str(b, c->options[i].code, c->options[i].value);
    buf_addc(b, (char)0xff);
}

/* Reading a packet */

struct request {
    int type;
    uint32_t server; /* 0: none named */
};

static bool read_options(const uint8_t *p, size_t n, struct request *r)
{
    for (size_t i = 0; i < n;) {
        unsigned code = p[i++];
        size_t len;

        if (code == 0)
            continue;
        if (code == 255)
            return r->type != 0;
        if (i == n)
            return false;
        len = p[i++];
        if (len > n - i)
            return false;
        if (code == OPT_TYPE && len == 1)
            r->type = p[i];
        else if (code == OPT_SERVER && len == 4)
            r->server = (uint32_t)p[i] << 24 | (uint32_t)p[i + 1] << 16 | (uint32_t)p[i + 2] << 8 | p[i + 3];
        i += len;
    }
    return r->type != 0; /* without an end mark: old clients, and harmless */
}

bool dhcp_reply(const struct dhcp_config *c, struct str packet, struct buf *reply)
{
    static const uint8_t magic[4] = {99, 130, 83, 99};
    const uint8_t *p = (const uint8_t *)packet.p;
    uint8_t head[BOOTP_SIZE] = {2, 1, 6};
    struct request r = {0};
    size_t start = reply->n;

    if (packet.n < BOOTP_SIZE + 4 || p[0] != 1 || p[1] != 1 || p[2] != 6 || memcmp(p + BOOTP_SIZE, magic, 4) != 0)
        return false;
    if (!c->any_mac && memcmp(p + 28, c->mac, 6) != 0)
        return false;
    if (!read_options(p + BOOTP_SIZE + 4, packet.n - BOOTP_SIZE - 4, &r))
        return false;
    if ((r.type != DISCOVER && r.type != REQUEST) || (r.server && r.server != c->server))
        return false;

    memcpy(head + 4, p + 4, 4);   /* xid */
    memcpy(head + 10, p + 10, 2); /* flags */
    if (r.type == REQUEST)
        memcpy(head + 12, p + 12, 4); /* ciaddr */
    for (int i = 0; i < 4; i++) {
        head[16 + i] = (uint8_t)(c->address >> (24 - 8 * i));
        head[20 + i] = (uint8_t)(c->server >> (24 - 8 * i));
    }
    memcpy(head + 24, p + 24, 4);  /* giaddr */
    memcpy(head + 28, p + 28, 16); /* chaddr */
    buf_add(reply, head, sizeof head);
    buf_add(reply, magic, sizeof magic);
    add_options(reply, c, r.type == DISCOVER ? OFFER : ACK);
    while (reply->n - start < MIN_REPLY && !reply->overflow)
        buf_addc(reply, 0);
    return !reply->overflow;
}

/* Configuration */

static bool v4_at(const struct json *v, const char *key, bool needed, uint32_t *ret, struct error *err)
{
    struct str text = json_str_at(v, key);
    struct ip ip;

    if (!text.p && !needed)
        return true;
    if (!ip_parse(text, &ip, err))
        return error_wrap(err, "%s", key);
    if (ip.family != AF_INET)
        return error_set(err, ERROR_INVALID, "%s: '" STR_FMT "' is not an IPv4 address", key, STR_ARG(text));
    *ret = ip_v4(&ip);
    return true;
}

static bool parse_address(const struct json *v, struct dhcp_config *c, struct error *err)
{
    struct ip ip;

    if (!ip_parse_prefix(json_str_at(v, "address"), &ip, err))
        return error_wrap(err, "address");
    if (ip.family != AF_INET)
        return error_set(err, ERROR_INVALID, "address: not IPv4");
    c->address = ip_v4(&ip);
    c->netmask = ip.prefix ? (uint32_t)(0xffffffffull << (32 - ip.prefix)) : 0;
    return v4_at(v, "server", true, &c->server, err) && v4_at(v, "gateway", false, &c->gateway, err);
}

static bool parse_names(const struct json *v, struct arena *a, struct dhcp_config *c, struct error *err)
{
    AUTO(buf_done) struct buf encoded = {0};
    struct str hostname = json_str_at(v, "hostname"), domain = json_str_at(v, "domain");
    const struct json *search = json_get(v, "search");
    const char **list = ARENA_ARRAY(a, const char *, json_len(search) + 1);
    size_t n = 0;

    buf_init(&encoded, 4096);
    if (hostname.n > 0 && (hostname.n > 63 || !encode_name(hostname, &encoded)))
        return error_set(err, ERROR_INVALID, "hostname '" STR_FMT "' is not a host name", STR_ARG(str_take(hostname, 80)));
    if (domain.n > 0 && !encode_name(domain, &encoded))
        return error_set(err, ERROR_INVALID, "domain '" STR_FMT "' is not a domain name", STR_ARG(str_take(domain, 80)));
    json_each_item(item, search)
        list[n++] = arena_strdup(a, json_str(item).p ? json_str(item) : STR(""));
    c->hostname = hostname.n ? arena_strdup(a, hostname) : NULL;
    c->domain = domain.n ? arena_strdup(a, domain) : NULL;
    c->search = n ? list : NULL;
    buf_clear(&encoded);
    return encode_search(c->search, &encoded, err);
}

static bool parse_routes(const struct json *v, struct dhcp_config *c, struct error *err)
{
    json_each_item(item, json_get(v, "routes")) {
        struct dhcp_route *r = &c->routes[c->n_routes];
        struct ip dst;

        if (c->n_routes == ARRAY_SIZE(c->routes))
            return error_set(err, ERROR_INVALID, "more than %zu routes", ARRAY_SIZE(c->routes));
        if (!ip_parse_prefix(json_str_at(item, "to"), &dst, err) || !v4_at(item, "via", true, &r->gateway, err))
            return error_wrap(err, "routes");
        if (dst.family != AF_INET)
            return error_set(err, ERROR_INVALID, "routes: not IPv4");
        dst = ip_network(&dst);
        r->network = ip_v4(&dst);
        r->prefix = dst.prefix;
        c->n_routes++;
    }
    return true;
}

/* {"code":67,"text":"pxelinux.0"}; NTP servers are addresses: {"code":42,"text":"10.0.0.1,10.0.0.2"} */
static bool parse_option(const struct json *item, struct arena *a, struct dhcp_option *o, struct error *err)
{
    int64_t code = json_i64_at(item, "code", 0);
    struct str text = json_str_at(item, "text"), rest = text, one;
    AUTO(buf_done) struct buf bytes = {0};

    if (code != OPT_NTP && code != OPT_TFTP && code != OPT_BOOTFILE && (code < OPT_PRIVATE || code > OPT_PRIVATE_END))
        return error_set(err, ERROR_INVALID, "DHCP option %lld cannot be set", (long long)code);
    buf_init(&bytes, 256);
    while (code == OPT_NTP && str_next(&rest, ',', &one)) {
        struct ip ip;

        if (!ip_parse(one, &ip, err))
            return error_wrap(err, "DHCP option 42");
        if (ip.family != AF_INET)
            return error_set(err, ERROR_INVALID, "DHCP option 42: not IPv4");
        add_u32(&bytes, ip_v4(&ip));
    }
    if (code != OPT_NTP)
        buf_addstr(&bytes, text);
    if (bytes.overflow || bytes.n == 0 || bytes.n > 255)
        return error_set(err, ERROR_INVALID, "DHCP option %lld must have 1 to 255 bytes", (long long)code);
    *o = (struct dhcp_option){.code = (uint8_t)code, .value = arena_str(a, buf_str(&bytes))};
    return true;
}

bool dhcp_config_parse(const struct json *dhcp, struct arena *a, struct dhcp_config *ret, struct error *err)
{
    AUTO(buf_done) struct buf trial = {0};
    struct str mac = json_str_at(dhcp, "mac");
    struct dhcp_config c = {.any_mac = !mac.p, .lease_s = LEASE};
    int64_t mtu = json_i64_at(dhcp, "mtu", 0);

    if (!parse_address(dhcp, &c, err) || !parse_names(dhcp, a, &c, err) || !parse_routes(dhcp, &c, err))
        return false;
    if (mac.p && !mac_parse(mac, c.mac))
        return error_set(err, ERROR_INVALID, "mac '" STR_FMT "' is not a MAC address", STR_ARG(str_take(mac, 40)));
    if (mtu != 0 && (mtu < 68 || mtu > 65535))
        return error_set(err, ERROR_INVALID, "mtu %lld is out of range", (long long)mtu);
    c.mtu = (unsigned)mtu;
    json_each_item(item, json_get(dhcp, "dns")) {
        struct ip ip;

        if (c.n_dns == ARRAY_SIZE(c.dns))
            break; /* resolvers use three */
        if (!ip_parse(json_str(item), &ip, err))
            return error_wrap(err, "dns");
        if (ip.family == AF_INET)
            c.dns[c.n_dns++] = ip_v4(&ip);
    }
    json_each_item(item, json_get(dhcp, "options")) {
        if (c.n_options == ARRAY_SIZE(c.options))
            return error_set(err, ERROR_INVALID, "more than %zu DHCP options", ARRAY_SIZE(c.options));
        if (!parse_option(item, a, &c.options[c.n_options], err))
            return false;
        c.n_options++;
    }
    buf_init(&trial, OPTIONS_MAX);
    add_options(&trial, &c, ACK);
    if (trial.overflow)
        return error_set(err, ERROR_INVALID, "DHCP options take more than %d bytes", OPTIONS_MAX);
    *ret = c;
    return true;
}
