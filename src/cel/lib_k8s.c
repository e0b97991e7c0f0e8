/* cel/lib_k8s - Kubernetes' own types: quantities, URLs, named formats, semantic versions. */
#include "api/names.h"
#include "base/ident.h"
#include "cel/internal.h"

#define FN(name)                                                                                   \
    static struct cel_value name(struct cel_run *r, const struct cel_node *call,                   \
                                 const struct cel_value *v, size_t n)
#define UNUSED ((void)r, (void)call, (void)v, (void)n)

/* -- quantities ----------------------------------------------------------------------------------- */

static struct cel_value of_quantity(struct cel_run *r, struct quantity q)
{
    struct quantity *copy = ARENA_NEW(r->a, struct quantity);

    *copy = q;
    return (struct cel_value){.kind = CEL_QUANTITY, .quantity = copy};
}

FN(quantity)
{
    AUTO(error_clear) struct error err = {0};
    struct quantity q;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    if (!quantity_parse(v[0].s, &q, &err))
        return cel_fail(r, "%s", error_text(&err));
    return of_quantity(r, q);
}

FN(is_quantity)
{
    AUTO(error_clear) struct error err = {0};
    struct quantity q;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    return cel_v_bool(quantity_parse(v[0].s, &q, &err));
}

FN(quantity_is_integer)
{
    int64_t i;

    UNUSED;
    return cel_v_bool(quantity_exact(*v[0].quantity, &i));
}

FN(quantity_as_integer)
{
    int64_t i;

    UNUSED;
    return quantity_exact(*v[0].quantity, &i) ? cel_v_int(i)
                                              : cel_fail(r, "cannot convert value to integer");
}

FN(quantity_as_float)
{
    UNUSED;
    return cel_v_double((double)v[0].quantity->nano / 1e9);
}

FN(quantity_sign)
{
    UNUSED;
    return cel_v_int((v[0].quantity->nano > 0) - (v[0].quantity->nano < 0));
}

static struct quantity operand(const struct cel_value *v)
{
    return v->kind == CEL_INT ? quantity_of(v->i, QUANTITY_DECIMAL_SI) : *v->quantity;
}

FN(quantity_plus)
{
    UNUSED;
    return of_quantity(r, quantity_add(*v[0].quantity, operand(&v[1])));
}

FN(quantity_minus)
{
    struct quantity b = operand(&v[1]);

    UNUSED;
    b.nano = -b.nano;
    return of_quantity(r, quantity_add(*v[0].quantity, b));
}

FN(quantity_compare)
{
    UNUSED;
    return cel_v_int(quantity_cmp(*v[0].quantity, *v[1].quantity));
}

FN(quantity_less)
{
    UNUSED;
    return cel_v_bool(quantity_cmp(*v[0].quantity, *v[1].quantity) < 0);
}

FN(quantity_greater)
{
    UNUSED;
    return cel_v_bool(quantity_cmp(*v[0].quantity, *v[1].quantity) > 0);
}

/* -- URLs ----------------------------------------------------------------------------------------- */

struct url {
    struct str scheme, host, path, query;
};

static bool alpha(char c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}
static bool digit(char c)
{
    return c >= '0' && c <= '9';
}
static int hex(char c)
{
    return digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static bool escapes_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' && (i + 2 >= s.n || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0))
            return false;
    return true;
}

static bool host_ok(struct str host)
{
    struct str port = STR_NONE, name = host;
    size_t close;

    if (host.n && host.p[0] == '[') {
        if (!str_find(host, STR("]"), &close))
            return false;
        port = str_skip(host, close + 1);
        if (port.n && port.p[0] != ':')
            return false;
        port = str_skip(port, 1);
        name = str_take(str_skip(host, 1), close - 1);
    } else {
        str_rcut(host, ':', &name, &port);
        if (str_has(name, ':'))
            return false;
    }
    for (size_t i = 0; i < port.n; i++)
        if (!digit(port.p[i]))
            return false;
    for (size_t i = 0; i < name.n; i++)
        if (strchr(" \"<>\\^`{|}#", name.p[i]) && host.p[0] != '[')
            return false;
    return escapes_ok(name);
}

/* As Go's ParseRequestURI: absolute, or a path from the root. NULL, or what is wrong. */
static const char *url_parse(struct str s, struct url *ret)
{
    struct str rest = s;
    size_t i;

    *ret = (struct url){0};
    for (i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return "net/url: invalid control character in URL";
    if (!s.n)
        return "empty url";
    for (i = 0; i < s.n && (alpha(s.p[i]) || (i && (digit(s.p[i]) || strchr("+-.", s.p[i])))); i++)
        ;
    if (i < s.n && s.p[i] == ':') {
        if (i == 0)
            return "missing protocol scheme";
        ret->scheme = str_take(s, i);
        rest = str_skip(s, i + 1);
    }
    if (!rest.n || rest.p[0] != '/')
        return ret->scheme.n ? NULL : "invalid URI for request";
    str_cut(rest, '?', &rest, &ret->query);
    if (ret->scheme.n && str_starts(rest, STR("//"))) {
        rest = str_skip(rest, 2);
        for (i = 0; i < rest.n && rest.p[i] != '/'; i++)
            ;
        ret->host = str_take(rest, i);
        rest = str_skip(rest, i);
        for (i = ret->host.n; i > 0; i--) /* without user and password */
            if (ret->host.p[i - 1] == '@') {
                ret->host = str_skip(ret->host, i);
                break;
            }
        if (!host_ok(ret->host))
            return "invalid character in host name or port";
    }
    ret->path = rest;
    return escapes_ok(rest) ? NULL : "invalid URL escape";
}

FN(url)
{
    struct cel_value ret = v[0];
    struct url u;
    const char *why = url_parse(v[0].s, &u);

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    if (why)
        return cel_fail(r,
                        "URL parse error during conversion from string: parse \"" STR_FMT "\": %s",
                        STR_ARG(v[0].s), why);
    ret.kind = CEL_URL;
    return ret;
}

FN(is_url)
{
    struct url u;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    return cel_v_bool(!url_parse(v[0].s, &u));
}

static void host_parts(struct str host, struct str *name, struct str *port)
{
    size_t close;

    *port = STR_NONE;
    *name = host;
    if (host.n && host.p[0] == '[' && str_find(host, STR("]"), &close)) {
        *name = str_take(str_skip(host, 1), close - 1);
        *port = str_skip(host, close + 2);
    } else {
        str_rcut(host, ':', name, port);
    }
}

static struct cel_value escaped_path(struct cel_run *r, struct str path)
{
    AUTO(buf_done) struct buf b = {.limit = 4u << 20};

    cel_charge_text(r, path.n);
    for (size_t i = 0; i < path.n; i++) {
        char c = path.p[i];

        if (alpha(c) || digit(c) || (c && strchr("-_.~/%$&+,:;=@!'()*[]", c)))
            buf_addc(&b, c);
        else
            buf_addf(&b, "%%%02X", (unsigned char)c);
    }
    return cel_v_str(arena_str(r->a, b.n ? buf_str(&b) : STR("")));
}

FN(url_part)
{
    struct str name, port;
    struct url u;

    UNUSED;
    if (url_parse(v[0].s, &u))
        u = (struct url){0};
    host_parts(u.host, &name, &port);
    if (str_is(call->name, "getScheme"))
        return cel_v_str(u.scheme);
    if (str_is(call->name, "getHost"))
        return cel_v_str(u.host);
    if (str_is(call->name, "getHostname"))
        return cel_v_str(name);
    if (str_is(call->name, "getPort"))
        return cel_v_str(port);
    return escaped_path(r, u.path);
}

static struct cel_value unescaped(struct cel_run *r, struct str s)
{
    char *p = arena_alloc_bytes(r->a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%' && i + 2 < s.n && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            p[n++] = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            i += 2;
        } else {
            p[n++] = s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return cel_v_str(str_n(p, n));
}

/* A map of lists: "a=1&a=2" */
FN(url_query)
{
    struct cel_value ret = {.kind = CEL_MAP};
    struct cel_entry *entries;
    struct cel_items *lists;
    struct str rest, pair, key, value;
    struct url u;
    size_t pairs = 1, made = 0;

    UNUSED;
    if (url_parse(v[0].s, &u) || !u.query.n)
        return ret;
    for (size_t i = 0; i < u.query.n; i++)
        pairs += u.query.p[i] == '&';
    cel_charge(r, u.query.n / 10 + pairs * pairs / 4);
    if (r->stop)
        return cel_fail(r, "out of budget");
    entries = ARENA_ARRAY(r->a, struct cel_entry, pairs);
    lists = ARENA_ARRAY(r->a, struct cel_items, pairs);
    for (rest = u.query; str_next(&rest, '&', &pair);) {
        struct cel_value k;
        size_t i;

        if (!pair.n)
            continue;
        str_cut(pair, '=', &key, &value);
        k = unescaped(r, key);
        for (i = 0; i < made && !str_eq(entries[i].key.s, k.s); i++)
            ;
        if (i == made)
            entries[made++].key = k;
        cel_items_add(r, &lists[i], unescaped(r, value));
        entries[i].value = cel_v_list(lists[i].p, lists[i].n);
    }
    ret.map.entries = entries;
    ret.map.n = made;
    return ret;
}

/* -- named formats -------------------------------------------------------------------------------- */

struct format {
    const char *name;
    const char *(*check)(struct str s, struct arena *a);
};

static struct str masked(struct str s, struct arena *a)
{
    char *p;

    if (s.n < 2 || s.p[s.n - 1] != '-')
        return s;
    p = arena_strdup(a, s);
    p[s.n - 2] = 'a';
    return str_n(p, s.n - 1);
}

static const char *dns1123_label(struct str s, struct arena *a)
{
    return (void)a, name_dns1123_label(s);
}
static const char *dns1123_subdomain(struct str s, struct arena *a)
{
    return (void)a, name_dns1123_subdomain(s);
}
static const char *dns1035_label(struct str s, struct arena *a)
{
    return (void)a, name_dns1035_label(s);
}
static const char *dns1123_label_prefix(struct str s, struct arena *a)
{
    return name_dns1123_label(masked(s, a));
}
static const char *dns1123_subdomain_prefix(struct str s, struct arena *a)
{
    return name_dns1123_subdomain(masked(s, a));
}
static const char *dns1035_label_prefix(struct str s, struct arena *a)
{
    return name_dns1035_label(masked(s, a));
}
static const char *label_value(struct str s, struct arena *a)
{
    return (void)a, name_label_value(s);
}

static const char *uri(struct str s, struct arena *a)
{
    struct url u;

    (void)a;
    return url_parse(s, &u);
}

static const char *uuid(struct str s, struct arena *a)
{
    return (void)a, ident_is_uuid(s) ? NULL : "does not match the UUID format";
}

static const char *byte(struct str s, struct arena *a)
{
    AUTO(buf_done) struct buf b = {.limit = LIMIT_OBJECT_BYTES};
    AUTO(error_clear) struct error err = {0};

    (void)a;
    return buf_add_base64_decoded(&b, s, &err) ? NULL : "invalid base64";
}

static const char *date(struct str s, struct arena *a)
{
    struct cel_value v;

    (void)a;
    return s.n == 10 && cel_parse_timestamp(s, true, &v) ? NULL : "invalid date";
}

static const char *date_time(struct str s, struct arena *a)
{
    struct cel_value v;

    (void)a;
    return cel_parse_timestamp(s, false, &v) ? NULL : "invalid datetime";
}

static const struct format formats[] = {
    {"dns1123Label", dns1123_label},
    {"dns1123Subdomain", dns1123_subdomain},
    {"dns1035Label", dns1035_label},
    {"qualifiedName", name_qualified},
    {"dns1123LabelPrefix", dns1123_label_prefix},
    {"dns1123SubdomainPrefix", dns1123_subdomain_prefix},
    {"dns1035LabelPrefix", dns1035_label_prefix},
    {"labelValue", label_value},
    {"uri", uri},
    {"uuid", uuid},
    {"byte", byte},
    {"date", date},
    {"datetime", date_time},
};

static const struct format *format_named(struct str name)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (str_is(name, formats[i].name))
            return &formats[i];
    return NULL;
}

FN(named)
{
    const struct format *f = format_named(v[0].s);

    UNUSED;
    return f ? cel_v_some(r, (struct cel_value){.kind = CEL_FORMAT, .opaque = f}) : cel_v_none();
}

/* format.dns1123Label() */
FN(format_itself)
{
    UNUSED;
    return (struct cel_value){.kind = CEL_FORMAT,
                              .opaque = format_named(str_skip(call->name, strlen("format.")))};
}

FN(validate)
{
    const struct format *f = v[0].opaque;
    struct cel_items l = {0};
    const char *why;

    UNUSED;
    cel_charge_text(r, v[1].s.n);
    why = f->check(v[1].s, r->a);
    if (!why)
        return cel_v_none();
    cel_items_add(r, &l, cel_v_str(arena_str(r->a, str_of(why))));
    return cel_v_some(r, cel_v_list(l.p, l.n));
}

/* -- versions ------------------------------------------------------------------------------------- */

struct semver {
    uint64_t n[3];
    struct str pre;
};

static bool identifiers_ok(struct str s, bool numeric)
{
    struct str part;

    if (!s.n)
        return false;
    while (str_next(&s, '.', &part)) {
        bool number = part.n > 0;

        for (size_t i = 0; i < part.n; i++) {
            if (!alpha(part.p[i]) && !digit(part.p[i]) && part.p[i] != '-')
                return false;
            number &= digit(part.p[i]);
        }
        if (!part.n || (numeric && number && part.n > 1 && part.p[0] == '0'))
            return false;
    }
    return true;
}

/* Normalized: "v1.2" is 1.2.0, "01.1.1" is 1.1.1. */
static bool semver_parse(struct str s, bool normalize, struct semver *ret)
{
    AUTO(error_clear) struct error err = {0};
    struct str build, pre, rest, part;
    bool has_pre, has_build;
    size_t k = 0;

    *ret = (struct semver){0};
    if (normalize && s.n && s.p[0] == 'v')
        s = str_skip(s, 1);
    has_build = str_cut(s, '+', &rest, &build);
    has_pre = str_cut(rest, '-', &rest, &pre);
    if ((has_build && !identifiers_ok(build, false)) || (has_pre && !identifiers_ok(pre, true)))
        return false;
    while (str_next(&rest, '.', &part)) {
        if (k == 3 || (!normalize && part.n > 1 && part.p[0] == '0')
            || !parse_u64(part, UINT64_MAX, &ret->n[k], &err))
            return false;
        k++;
    }
    ret->pre = has_pre ? pre : STR_NONE;
    return k == 3 || (normalize && k > 0 && !has_pre && !has_build);
}

static int pre_cmp(struct str a, struct str b)
{
    struct str x, y;

    if (!a.n || !b.n)
        return (int)(a.n == 0) - (int)(b.n == 0);
    for (;;) {
        bool more_a = str_next(&a, '.', &x), more_b = str_next(&b, '.', &y), na = true, nb = true;
        int order;

        if (!more_a || !more_b)
            return (int)more_a - (int)more_b;
        for (size_t i = 0; i < x.n; i++)
            na &= digit(x.p[i]);
        for (size_t i = 0; i < y.n; i++)
            nb &= digit(y.p[i]);
        if (na != nb)
            return na ? -1 : 1;
        order = na && x.n != y.n ? (x.n > y.n ? 1 : -1) : str_cmp(x, y);
        if (order)
            return order > 0 ? 1 : -1;
    }
}

static int semver_cmp(const struct semver *a, const struct semver *b)
{
    for (size_t i = 0; i < 3; i++)
        if (a->n[i] != b->n[i])
            return a->n[i] > b->n[i] ? 1 : -1;
    return pre_cmp(a->pre, b->pre);
}

FN(semver)
{
    struct semver *s = ARENA_NEW(r->a, struct semver);

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    if (!semver_parse(v[0].s, n > 1 && v[1].b, s))
        return cel_fail(r, "invalid semantic version: \"" STR_FMT "\"", STR_ARG(v[0].s));
    return (struct cel_value){.kind = CEL_SEMVER, .opaque = s};
}

FN(is_semver)
{
    struct semver s;

    UNUSED;
    cel_charge_text(r, v[0].s.n);
    return cel_v_bool(semver_parse(v[0].s, n > 1 && v[1].b, &s));
}

FN(semver_part)
{
    const struct semver *s = v[0].opaque;

    UNUSED;
    return cel_v_int((int64_t)s->n[str_is(call->name, "major")   ? 0
                                   : str_is(call->name, "minor") ? 1
                                                                 : 2]);
}

FN(semver_compare)
{
    UNUSED;
    return cel_v_int(semver_cmp(v[0].opaque, v[1].opaque));
}

FN(semver_less)
{
    UNUSED;
    return cel_v_bool(semver_cmp(v[0].opaque, v[1].opaque) < 0);
}

FN(semver_greater)
{
    UNUSED;
    return cel_v_bool(semver_cmp(v[0].opaque, v[1].opaque) > 0);
}

bool cel_equal_opaque(const struct cel_value *a, const struct cel_value *b)
{
    if (a->kind == CEL_SEMVER)
        return semver_cmp(a->opaque, b->opaque) == 0;
    if (a->kind == CEL_IP || a->kind == CEL_CIDR)
        return cel_equal_address(a->opaque, b->opaque);
    return a->opaque == b->opaque;
}

#define FORMAT(name)                                                                               \
    {                                                                                              \
        "format." name, ":F", false, format_itself                                                 \
    }
static const struct cel_overload own[] = {
    {"quantity", "s:q", false, quantity},
    {"isQuantity", "s:b", false, is_quantity},
    {"isInteger", "q:b", true, quantity_is_integer},
    {"asInteger", "q:i", true, quantity_as_integer},
    {"asApproximateFloat", "q:d", true, quantity_as_float},
    {"sign", "q:i", true, quantity_sign},
    {"add", "qq:q", true, quantity_plus},
    {"add", "qi:q", true, quantity_plus},
    {"sub", "qq:q", true, quantity_minus},
    {"sub", "qi:q", true, quantity_minus},
    {"compareTo", "qq:i", true, quantity_compare},
    {"isLessThan", "qq:b", true, quantity_less},
    {"isGreaterThan", "qq:b", true, quantity_greater},
    {"url", "s:U", false, url},
    {"isURL", "s:b", false, is_url},
    {"getScheme", "U:s", true, url_part},
    {"getHost", "U:s", true, url_part},
    {"getHostname", "U:s", true, url_part},
    {"getPort", "U:s", true, url_part},
    {"getEscapedPath", "U:s", true, url_part},
    {"getQuery", "U:{s[s", true, url_query},
    {"format.named", "s:?F", false, named},
    FORMAT("dns1123Label"),
    FORMAT("dns1123Subdomain"),
    FORMAT("dns1035Label"),
    FORMAT("qualifiedName"),
    FORMAT("dns1123LabelPrefix"),
    FORMAT("dns1123SubdomainPrefix"),
    FORMAT("dns1035LabelPrefix"),
    FORMAT("labelValue"),
    FORMAT("uri"),
    FORMAT("uuid"),
    FORMAT("byte"),
    FORMAT("date"),
    FORMAT("datetime"),
    {"validate", "Fs:?[s", true, validate},
    {"semver", "s:V", false, semver},
    {"semver", "sb:V", false, semver},
    {"isSemver", "s:b", false, is_semver},
    {"isSemver", "sb:b", false, is_semver},
    {"major", "V:i", true, semver_part},
    {"minor", "V:i", true, semver_part},
    {"patch", "V:i", true, semver_part},
    {"compareTo", "VV:i", true, semver_compare},
    {"isLessThan", "VV:b", true, semver_less},
    {"isGreaterThan", "VV:b", true, semver_greater},
};
const struct cel_library cel_lib_k8s = {own, ARRAY_SIZE(own)};
