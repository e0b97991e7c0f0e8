#include "api/formats.h"

#include "api/regex.h"
#include "api/regex_tree.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include <arpa/inet.h>
#include <ctype.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool digits(struct str s, size_t at, size_t n, int *ret)
{
    *ret = 0;
    if (at + n > s.n)
        return false;
    for (size_t i = at; i < at + n; i++) {
        if (!is_digit(s.p[i]))
            return false;
        *ret = *ret * 10 + (s.p[i] - '0');
    }
    return true;
}

static size_t digits_from(struct str s, size_t at)
{
    size_t n = 0;

    while (at + n < s.n && is_digit(s.p[at + n]))
        n++;
    return n;
}

/* -- times ---------------------------------------------------------------------------------------- */

static bool is_date(struct str s)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;

    return s.n == 10 && digits(s, 0, 4, &y) && s.p[4] == '-' && digits(s, 5, 2, &m) && s.p[7] == '-'
           && digits(s, 8, 2, &d) && m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1]
           && (m != 2 || d != 29 || (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)));
}

/* 2006-01-02T15:04:05[.999]Z or ±hh:mm, T and Z in either case */
static bool is_date_time(struct str s)
{
    int h, m, sec, unused;
    size_t at = 19;

    if (s.n < 20 || !is_date(str_take(s, 10)) || (s.p[10] | 0x20) != 't' || !digits(s, 11, 2, &h) || s.p[13] != ':'
        || !digits(s, 14, 2, &m) || s.p[16] != ':' || !digits(s, 17, 2, &sec) || h > 23 || m > 59 || sec > 59)
        return false;
    if (s.p[at] == '.') {
        size_t n = digits_from(s, at + 1);

        if (!n)
            return false;
        at += n + 1;
    }
    if (at + 1 == s.n)
        return (s.p[at] | 0x20) == 'z';
    return at + 6 == s.n && (s.p[at] == '+' || s.p[at] == '-') && digits(s, at + 1, 2, &unused) && s.p[at + 3] == ':'
           && digits(s, at + 4, 2, &unused);
}

/* As Go's time.ParseDuration: -1.5h2m, "0". */
static bool is_go_duration(struct str s)
{
    static const char *const units[] = {"ns", "us", "\xc2\xb5s", "\xce\xbcs", "ms", "s", "m", "h"};

    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_skip(s, 1);
    if (str_is(s, "0"))
        return true;
    if (!s.n)
        return false;
    while (s.n) {
        size_t whole = digits_from(s, 0), part = 0, best = 0;

        if (whole > 18)
            return false;
        s = str_skip(s, whole);
        if (s.n && s.p[0] == '.') {
            part = digits_from(s, 1);
            s = str_skip(s, 1 + part);
        }
        if (!whole && !part)
            return false;
        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
            if (str_starts(s, str_of(units[i])) && strlen(units[i]) > best)
                best = strlen(units[i]);
        if (!best)
            return false;
        s = str_skip(s, best);
    }
    return true;
}

static bool is_scala_unit(struct str word)
{
    static const char *const exact[] = {"ns", "us", "\xc2\xb5s", "ms", "s", "m", "h", "hr", "d", "w", "wk"};
    static const char *const prefix[] = {"nano", "micro", "milli", "sec", "min", "hour", "day", "week"};

    for (size_t i = 0; i < ARRAY_SIZE(exact); i++)
        if (str_eq_nocase(word, str_of(exact[i])))
            return true;
    for (size_t i = 0; i < ARRAY_SIZE(prefix); i++)
        if (str_eq_nocase(str_take(word, strlen(prefix[i])), str_of(prefix[i])))
            return true;
    return false;
}

/* What Go does not take may have a number with a unit in it somewhere: "22 minutes", "1 day". */
static bool is_duration(struct str s)
{
    if (is_go_duration(s))
        return true;
    for (size_t i = 0; i < s.n;) {
        size_t n = digits_from(s, i), from;

        if (!n) {
            i++;
            continue;
        }
        if (n > 18)
            return false;
        i += n;
        while (i < s.n && isspace((unsigned char)s.p[i]))
            i++;
        from = i;
        while (i < s.n && (is_letter(s.p[i]) || (unsigned char)s.p[i] >= 0x80))
            i++;
        if (i > from && is_scala_unit(str_n(s.p + from, i - from)))
            return true;
    }
    return false;
}

/* -- addresses ------------------------------------------------------------------------------------ */

/* Leading zeros are borne, as upstream bears them. */
static bool is_ipv4(struct str s)
{
    struct str part;
    int n = 0;

    while (str_next(&s, '.', &part)) {
        int v = 0;

        if (!part.n || digits_from(part, 0) != part.n || ++n > 4)
            return false;
        for (size_t i = 0; i < part.n && v <= 255; i++)
            v = v * 10 + (part.p[i] - '0');
        if (v > 255)
            return false;
    }
    return n == 4;
}

static bool is_ipv6(struct str s)
{
    char z[64];
    struct in6_addr unused;

    if (s.n >= sizeof z || !str_has(s, ':'))
        return false;
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    return strlen(z) == s.n && inet_pton(AF_INET6, z, &unused) == 1;
}

static bool is_cidr(struct str s)
{
    struct str address, length;
    int bits;

    if (!str_cut(s, '/', &address, &length) || !length.n || length.n > 3 || !digits(length, 0, length.n, &bits))
        return false;
    return (is_ipv4(address) && bits <= 32) || (is_ipv6(address) && bits <= 128);
}

/* 6, 8 or 20 bytes: aa:bb:…, aa-bb-…, aabb.ccdd.… */
static bool is_mac(struct str s)
{
    size_t group = s.n > 4 && s.p[4] == '.' ? 4 : 2, n = 0;
    char mark = s.n > group ? s.p[group] : '\0';

    if (mark != (group == 4 ? '.' : ':') && !(group == 2 && mark == '-'))
        return false;
    for (size_t i = 0; i < s.n; i += group + 1) {
        if (i + group > s.n || (i + group < s.n && s.p[i + group] != mark))
            return false;
        for (size_t k = 0; k < group; k++)
            if (!is_hex(s.p[i + k]))
                return false;
        if (i + group + 1 == s.n)
            return false;
        n += group / 2;
    }
    return n == 6 || n == 8 || n == 20;
}

static bool percents_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' && (i + 2 >= s.n || !is_hex(s.p[i + 1]) || !is_hex(s.p[i + 2])))
            return false;
    return true;
}

static bool authority_ok(struct str s)
{
    struct str user, host, name, port;

    if (!str_rcut(s, '@', &user, &host))
        host = s;
    if (str_starts(host, STR("["))) {
        if (!str_cut(str_skip(host, 1), ']', &name, &port))
            return false;
        return !port.n || (port.p[0] == ':' && digits_from(port, 1) == port.n - 1);
    }
    if (str_rcut(host, ':', &name, &port) && digits_from(port, 0) != port.n)
        return false;
    for (size_t i = 0; i < host.n; i++)
        if (strchr(" <>\"\\^`{|}", host.p[i]) && host.p[i])
            return false;
    return true;
}

/* As Go's url.ParseRequestURI: an absolute address or an absolute path. */
static bool is_uri(struct str s)
{
    struct str scheme, after = s, authority, path, query;
    bool has_scheme = false;

    if (!s.n)
        return false;
    if (str_is(s, "*"))
        return true;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    if (s.p[0] == ':')
        return false;
    if (is_letter(s.p[0]) && str_cut(s, ':', &scheme, &after)) {
        has_scheme = true;
        for (size_t i = 0; has_scheme && i < scheme.n; i++)
            has_scheme = is_letter(scheme.p[i]) || is_digit(scheme.p[i]) || strchr("+-.", scheme.p[i]);
        if (!has_scheme)
            return false;
    }
    if (!str_starts(after, STR("/")))
        return has_scheme;
    if (has_scheme && str_starts(after, STR("//"))) {
        size_t end = 2;

        while (end < after.n && after.p[end] != '/' && after.p[end] != '?')
            end++;
        authority = str_n(after.p + 2, end - 2);
        after = str_skip(after, end);
        if (!authority_ok(authority) || !percents_ok(authority))
            return false;
    }
    (void)str_cut(after, '?', &path, &query);
    return percents_ok(path);
}

/* -- names ---------------------------------------------------------------------------------------- */

static bool in_category(uint32_t c, const char *name)
{
    for (const struct regex_category *k = regex_categories; k->name; k++) {
        size_t low = 0, high = k->n;

        if (strcmp(k->name, name) != 0)
            continue;
        while (low < high) {
            size_t middle = low + (high - low) / 2;

            if (c < k->ranges[middle].low)
                high = middle;
            else if (c > k->ranges[middle].high)
                low = middle + 1;
            else
                return true;
        }
    }
    return false;
}

/* The next character of valid UTF-8. */
static uint32_t next_character(struct str *s)
{
    unsigned char first = (unsigned char)s->p[0];
    size_t n = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? first : first & (0x7fu >> n);

    for (size_t i = 1; i < n && i < s->n; i++)
        c = c << 6 | ((unsigned char)s->p[i] & 0x3fu);
    *s = str_skip(*s, n < s->n ? n : s->n);
    return c;
}

/* Letters, digits and symbols of any script; dashes are looked at by the callers. */
static bool is_host_character(uint32_t c)
{
    return (c < 0x80 && (is_letter((char)c) || is_digit((char)c))) || in_category(c, "S") || in_category(c, "L");
}

static bool is_host_label(struct str label)
{
    uint32_t c = '-';
    size_t n = 0;

    while (label.n) {
        c = next_character(&label);
        n++;
        if (!is_host_character(c) && (c != '-' || n == 1))
            return false;
    }
    return n >= 1 && n <= 63 && c != '-';
}

/* A name without a dot: upstream's expression allows one dash, behind the first character. */
static bool is_host_word(struct str s)
{
    size_t n = 0;

    if (!s.n || !is_host_character(next_character(&s)))
        return false;
    if (s.n && s.p[0] == '-')
        s = str_skip(s, 1);
    while (s.n) {
        if (!is_host_character(next_character(&s)) || ++n > 62)
            return false;
    }
    return true;
}

static bool is_hostname(struct str s)
{
    struct str labels, top, label;
    size_t n = 0;

    if (s.n > 255 || !str_valid_utf8(s))
        return false;
    if (!str_rcut(s, '.', &labels, &top))
        return s.n <= 63 && is_host_word(s);
    if (top.n > 63)
        return false;
    for (struct str rest = top; rest.n; n++) {
        uint32_t c = next_character(&rest);

        if (!(c < 0x80 ? is_letter((char)c) : in_category(c, "L")))
            return false;
    }
    if (n < 2)
        return false;
    while (str_next(&labels, '.', &label))
        if (label.n > 63 || !is_host_label(label))
            return false;
    return true;
}

static bool is_atext(char c)
{
    return is_letter(c) || is_digit(c) || (unsigned char)c >= 0x80 || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool is_dot_atom(struct str s)
{
    struct str part;

    if (!s.n)
        return false;
    while (str_next(&s, '.', &part)) {
        if (!part.n)
            return false;
        for (size_t i = 0; i < part.n; i++)
            if (!is_atext(part.p[i]))
                return false;
    }
    return true;
}

/* local@domain; the local part plain or quoted, the domain plain or in brackets. */
static bool is_address(struct str s)
{
    struct str local, domain;

    if (!str_rcut(s, '@', &local, &domain))
        return false;
    if (str_starts(domain, STR("["))) {
        struct str inner = str_ends(domain, STR("]")) ? str_n(domain.p + 1, domain.n - 2) : STR("");

        if (str_starts(inner, STR("IPv6:")))
            inner = str_skip(inner, 5);
        if (!is_ipv4(inner) && !is_ipv6(inner))
            return false;
    } else if (!is_dot_atom(domain)) {
        return false;
    }
    if (local.n >= 2 && local.p[0] == '"' && local.p[local.n - 1] == '"') {
        for (size_t i = 1; i + 1 < local.n; i++) {
            if (local.p[i] == '\\')
                i++;
            else if (local.p[i] == '"' || (unsigned char)local.p[i] < 0x20)
                return false;
        }
        return true;
    }
    return is_dot_atom(local);
}

/* As Go's mail.ParseAddress: an address, or a name with an address in angle brackets. */
static bool is_email(struct str s)
{
    struct str name, inner;

    s = str_trim(s);
    if (!str_ends(s, STR(">")))
        return is_address(s);
    if (!str_rcut(str_take(s, s.n - 1), '<', &name, &inner))
        return false;
    name = str_trim(name);
    if (name.n >= 2 && name.p[0] == '"' && name.p[name.n - 1] == '"')
        return is_address(inner);
    for (size_t i = 0; i < name.n; i++)
        if (!is_atext(name.p[i]) && name.p[i] != ' ' && name.p[i] != '.')
            return false;
    return is_address(inner);
}

/* -- numbers -------------------------------------------------------------------------------------- */

/* Digits alone; `drop` are borne between them. false: something else is in it, or too much. */
static bool squeeze(struct str s, const char *drop, char *ret, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (drop && s.p[i] && strchr(drop, s.p[i]))
            continue;
        if (!drop && !is_digit(s.p[i]))
            continue;
        if (n + 1 >= size)
            return false;
        ret[n++] = s.p[i];
    }
    ret[n] = '\0';
    return true;
}

static bool is_isbn10(struct str s)
{
    char d[16];
    int sum = 0;

    if (!squeeze(s, " \t\n\f\r-", d, sizeof d) || strlen(d) != 10)
        return false;
    for (int i = 0; i < 10; i++) {
        bool ten = i == 9 && d[i] == 'X';

        if (!is_digit(d[i]) && !ten)
            return false;
        sum += (i + 1) * (ten ? 10 : d[i] - '0');
    }
    return sum % 11 == 0;
}

static bool is_isbn13(struct str s)
{
    char d[16];
    int sum = 0;

    if (!squeeze(s, " \t\n\f\r-", d, sizeof d) || strlen(d) != 13)
        return false;
    for (int i = 0; i < 13; i++) {
        if (!is_digit(d[i]))
            return false;
        sum += (d[i] - '0') * (i % 2 ? 3 : 1);
    }
    return sum % 10 == 0;
}

static bool is_isbn(struct str s)
{
    return is_isbn10(s) || is_isbn13(s);
}

static bool is_credit_card(struct str s)
{
    char d[24];
    int sum = 0;
    size_t n;

    if (!squeeze(s, NULL, d, sizeof d)
        || !regex_match("^(4\\d{12}(\\d{3})?|5[1-5]\\d{14}|(222[1-9]|22[3-9]\\d|2[3-6]\\d\\d|27[01]\\d|2720)\\d{12}"
                        "|6(011|5\\d\\d)\\d{12}|3[47]\\d{13}|3(0[0-5]|[68]\\d)\\d{11}|(2131|1800|35\\d{3})\\d{11}"
                        "|6[27]\\d{14})$",
                        str_of(d)))
        return false;
    n = strlen(d);
    for (size_t i = 0; i < n; i++) {
        int v = (d[n - 1 - i] - '0') * (i % 2 ? 2 : 1);

        sum += v > 9 ? v - 9 : v;
    }
    return sum % 10 == 0;
}

/* -- the rest ------------------------------------------------------------------------------------- */

/* 8-4-4-4-12 hex digits, each dash optional; `version` 0: any. */
static bool is_uuid_of(struct str s, char version)
{
    static const int groups[] = {8, 4, 4, 4, 12};
    size_t at = 0;

    for (size_t g = 0; g < ARRAY_SIZE(groups); g++) {
        if (g && at < s.n && s.p[at] == '-')
            at++;
        if (at + (size_t)groups[g] > s.n || (version && g == 2 && s.p[at] != version)
            || (version > '3' && g == 3 && !strchr("89abAB", s.p[at])))
            return false;
        for (int i = 0; i < groups[g]; i++)
            if (!is_hex(s.p[at++]))
                return false;
    }
    return at == s.n;
}

static bool is_uuid(struct str s)
{
    return is_uuid_of(s, '\0');
}
static bool is_uuid3(struct str s)
{
    return is_uuid_of(s, '3');
}
static bool is_uuid4(struct str s)
{
    return is_uuid_of(s, '4');
}
static bool is_uuid5(struct str s)
{
    return is_uuid_of(s, '5');
}

static bool is_object_id(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_hex(s.p[i]))
            return false;
    return s.n == 24;
}

/* Standard alphabet, padded; nothing at all is none. */
static bool is_base64(struct str s)
{
    size_t padding = str_ends(s, STR("==")) ? 2 : str_ends(s, STR("=")) ? 1 : 0;

    if (!s.n || s.n % 4)
        return false;
    for (size_t i = 0; i < s.n - padding; i++)
        if (!is_letter(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '+' && s.p[i] != '/')
            return false;
    return true;
}

static bool is_name_part(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(s.p[i] >= 'a' && s.p[i] <= 'z') && !is_digit(s.p[i]) && (s.p[i] != '-' || i == 0 || i + 1 == s.n))
            return false;
    return s.n > 0;
}

static bool is_short_name(struct str s)
{
    return s.n <= 63 && is_name_part(s);
}

static bool is_long_name(struct str s)
{
    struct str part;

    if (!s.n || s.n > 253)
        return false;
    while (str_next(&s, '.', &part))
        if (!is_name_part(part))
            return false;
    return true;
}

static bool is_ssn(struct str s)
{
    return s.n == 11 && regex_match("^\\d{3}[- ]?\\d{2}[- ]?\\d{4}$", s);
}
static bool is_hexcolor(struct str s)
{
    return regex_match("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", s);
}

static bool is_rgbcolor(struct str s)
{
    return regex_match("^rgb\\(\\s*((0|[1-9]\\d?|1\\d\\d?|2[0-4]\\d|25[0-5])\\s*,\\s*){2}"
                       "(0|[1-9]\\d?|1\\d\\d?|2[0-4]\\d|25[0-5])\\s*\\)$",
                       s);
}

static bool is_anything(struct str s)
{
    (void)s;
    return true;
}

static bool is_any_ipv4(struct str s)
{
    return is_ipv4(s) || (str_has(s, '.') && is_ipv6(s));
}

static const struct {
    const char *name; /* without dashes */
    bool (*fits)(struct str s);
} formats[] = {
    {"bsonobjectid", is_object_id},
    {"byte", is_base64},
    {"cidr", is_cidr},
    {"creditcard", is_credit_card},
    {"date", is_date},
    {"datetime", is_date_time},
    {"duration", is_duration},
    {"email", is_email},
    {"hexcolor", is_hexcolor},
    {"hostname", is_hostname},
    {"ipv4", is_any_ipv4},
    {"ipv6", is_ipv6},
    {"isbn", is_isbn},
    {"isbn10", is_isbn10},
    {"isbn13", is_isbn13},
    {"k8slongname", is_long_name},
    {"k8sshortname", is_short_name},
    {"mac", is_mac},
    {"password", is_anything},
    {"rgbcolor", is_rgbcolor},
    {"ssn", is_ssn},
    {"uri", is_uri},
    {"uuid", is_uuid},
    {"uuid3", is_uuid3},
    {"uuid4", is_uuid4},
    {"uuid5", is_uuid5},
};

static bool same_name(struct str format, const char *name)
{
    size_t at = 0;

    for (size_t i = 0; i < format.n; i++) {
        if (format.p[i] == '-')
            continue;
        if (format.p[i] != name[at] || !name[at])
            return false;
        at++;
    }
    return name[at] == '\0';
}

bool format_known(struct str format)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (same_name(format, formats[i].name))
            return true;
    return false;
}

bool format_fits(struct str format, struct str text)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (same_name(format, formats[i].name))
            return formats[i].fits(text.p ? text : STR(""));
    return true;
}
