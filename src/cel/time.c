/* cel/time - timestamps, durations and numbers as text, as Go reads and writes them; and the functions on times.
 *
 * A timestamp is seconds and nanoseconds since 1970 in the years 1 to 9999, a duration is nanoseconds in 64 bits. Time
 * zones are offsets ("-08:00") and UTC: names would need a database of zones. */
#include "cel/internal.h"

#include <errno.h>
#include <math.h>

#define SECOND INT64_C(1000000000)
#define SEC_MIN INT64_C(-62135596800) /* 0001-01-01 */
#define SEC_MAX INT64_C(253402300799) /* 9999-12-31 */
#define FN(name)                                                                                   \
    static struct cel_value name(struct cel_run *r, const struct cel_node *call,                   \
                                 const struct cel_value *v, size_t n)
#define UNUSED ((void)r, (void)call, (void)v, (void)n)

/* -- the calendar --------------------------------------------------------------------------------- */

struct civil {
    int64_t year;
    int month, day, weekday, yearday, hour, minute,
        second; /* month 1…, weekday 0 is Sunday, yearday 0… */
};

static int64_t days_of(int64_t y, int m, int d)
{
    int64_t era, yoe, doy, doe;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = y - era * 400;
    doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static struct civil civil_of(int64_t sec)
{
    int64_t days = sec / 86400, rest = sec % 86400, era, doe, yoe, doy, mp;
    struct civil c;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    c.weekday = (int)(((days + 4) % 7 + 7) % 7);
    c.hour = (int)(rest / 3600);
    c.minute = (int)(rest / 60 % 60);
    c.second = (int)(rest % 60);
    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = days - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2);
    c.yearday = (int)(days - 719468 - days_of(c.year, 1, 1));
    return c;
}

/* -- text ----------------------------------------------------------------------------------------- */

static bool digits(struct str *s, size_t n, int *ret)
{
    *ret = 0;
    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        *ret = *ret * 10 + (s->p[i] - '0');
    }
    *s = str_skip(*s, n);
    return true;
}

static bool expect(struct str *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = str_skip(*s, 1);
    return true;
}

static int month_days(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[m - 1] + (m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
}

static bool parse_offset(struct str *s, int *ret)
{
    int sign, h, m;

    if (expect(s, 'Z') || expect(s, 'z')) {
        *ret = 0;
        return true;
    }
    if (!s->n || (s->p[0] != '+' && s->p[0] != '-'))
        return false;
    sign = s->p[0] == '-' ? -1 : 1;
    *s = str_skip(*s, 1);
    if (!digits(s, 2, &h) || !expect(s, ':') || !digits(s, 2, &m) || h > 23 || m > 59)
        return false;
    *ret = sign * (h * 3600 + m * 60);
    return true;
}

bool cel_parse_timestamp(struct str s, bool date_only, struct cel_value *ret)
{
    int y, mo, d, h = 0, mi = 0, sec = 0, offset = 0;
    int32_t ns = 0;
    int64_t at;

    if (!digits(&s, 4, &y) || !expect(&s, '-') || !digits(&s, 2, &mo) || !expect(&s, '-')
        || !digits(&s, 2, &d) || mo < 1 || mo > 12 || d < 1 || d > month_days(y, mo))
        return false;
    if (!(date_only && s.n == 0)) {
        if ((!expect(&s, 'T') && !expect(&s, 't')) || !digits(&s, 2, &h) || !expect(&s, ':')
            || !digits(&s, 2, &mi) || !expect(&s, ':') || !digits(&s, 2, &sec) || h > 23 || mi > 59
            || sec > 59)
            return false;
        if (expect(&s, '.')) {
            int32_t unit = 100000000;
            size_t k = 0;

            for (; k < s.n && s.p[k] >= '0' && s.p[k] <= '9'; k++, unit /= 10)
                ns += (s.p[k] - '0') * unit;
            if (k == 0)
                return false;
            s = str_skip(s, k);
        }
        if (!parse_offset(&s, &offset) || s.n)
            return false;
    }
    at = days_of(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - offset;
    if (at < SEC_MIN || at > SEC_MAX)
        return false;
    *ret = (struct cel_value){.kind = CEL_TIMESTAMP};
    ret->time.sec = at;
    ret->time.ns = ns;
    return true;
}

struct str cel_timestamp_text(struct arena *a, const struct cel_value *v)
{
    struct civil c = civil_of(v->time.sec);
    char fraction[16] = "";
    size_t n;

    if (v->time.ns) {
        n = (size_t)snprintf(fraction, sizeof fraction, ".%09d", (int)v->time.ns);
        while (n && fraction[n - 1] == '0')
            fraction[--n] = '\0';
    }
    return str_of(arena_printf(a, "%04lld-%02d-%02dT%02d:%02d:%02d%sZ", (long long)c.year, c.month,
                               c.day, c.hour, c.minute, c.second, fraction));
}

/* One number with a unit: "1.5h". */
static bool duration_part(struct str *s, uint64_t *total)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ns", 1},       {"us", 1000},       {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000},
                 {"ms", 1000000}, {"s", 1000000000u}, {"m", 60000000000u}, {"h", 3600000000000u}};
    uint64_t whole = 0, part = 0, scale = 1;
    bool any = false;

    for (; s->n && s->p[0] >= '0' && s->p[0] <= '9'; *s = str_skip(*s, 1), any = true)
        if (__builtin_mul_overflow(whole, (uint64_t)10, &whole)
            || __builtin_add_overflow(whole, (uint64_t)(s->p[0] - '0'), &whole))
            return false;
    if (expect(s, '.'))
        for (; s->n && s->p[0] >= '0' && s->p[0] <= '9'; *s = str_skip(*s, 1), any = true)
            if (scale < 1000000000000000u) {
                part = part * 10 + (uint64_t)(s->p[0] - '0');
                scale *= 10;
            }
    if (!any)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        size_t len = strlen(units[i].name);
        uint64_t ns;

        if (!str_starts(*s, str_of(units[i].name))
            || (s->n > len && s->p[len] != '.' && !(s->p[len] >= '0' && s->p[len] <= '9')))
            continue;
        *s = str_skip(*s, len);
        return !__builtin_mul_overflow(whole, units[i].ns, &ns)
               && !__builtin_add_overflow(
                   ns, (uint64_t)((double)part * ((double)units[i].ns / (double)scale)), &ns)
               && !__builtin_add_overflow(*total, ns, total);
    }
    return false;
}

bool cel_parse_duration(struct str s, struct cel_value *ret)
{
    bool negative = s.n && s.p[0] == '-';
    uint64_t total = 0;

    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_skip(s, 1);
    if (s.n == 0)
        return false;
    if (!str_is(s, "0"))
        while (s.n)
            if (!duration_part(&s, &total))
                return false;
    if (total > (uint64_t)INT64_MAX)
        return false;
    *ret =
        (struct cel_value){.kind = CEL_DURATION, .i = negative ? -(int64_t)total : (int64_t)total};
    return true;
}

struct str cel_duration_text(struct arena *a, const struct cel_value *v)
{
    uint64_t ns = v->i < 0 ? 0 - (uint64_t)v->i : (uint64_t)v->i;
    char fraction[16] = "";
    size_t n;

    if (ns % (uint64_t)SECOND) {
        n = (size_t)snprintf(fraction, sizeof fraction, ".%09llu",
                             (unsigned long long)(ns % (uint64_t)SECOND));
        while (n && fraction[n - 1] == '0')
            fraction[--n] = '\0';
    }
    return str_of(arena_printf(a, "%s%llu%ss", v->i < 0 ? "-" : "",
                               (unsigned long long)(ns / (uint64_t)SECOND), fraction));
}

struct str cel_double_text(struct arena *a, double d)
{
    char text[40], digits_of[24];
    size_t n = 0;
    int exponent;

    if (isnan(d))
        return STR("NaN");
    if (isinf(d))
        return d > 0 ? STR("+Inf") : STR("-Inf");
    if (d == 0)
        return signbit(d) ? STR("-0") : STR("0");
    for (int p = 0; p < 17; p++) {
        snprintf(text, sizeof text, "%.*e", p, fabs(d));
        if (strtod(text, NULL) == fabs(d))
            break;
    }
    for (const char *c = text; *c && *c != 'e'; c++)
        if (*c != '.')
            digits_of[n++] = *c;
    digits_of[n] = '\0';
    exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 6)
        return str_of(arena_printf(a, "%s%c%s%se%c%02d", d < 0 ? "-" : "", digits_of[0],
                                   n > 1 ? "." : "", digits_of + 1, exponent < 0 ? '-' : '+',
                                   abs(exponent)));
    if (exponent < 0)
        return str_of(
            arena_printf(a, "%s0.%.*s%s", d < 0 ? "-" : "", -exponent - 1, "000", digits_of));
    if ((int)n <= exponent + 1)
        return str_of(arena_printf(a, "%s%s%.*s", d < 0 ? "-" : "", digits_of,
                                   exponent + 1 - (int)n, "0000000000000000000000"));
    return str_of(arena_printf(a, "%s%.*s.%s", d < 0 ? "-" : "", exponent + 1, digits_of,
                               digits_of + exponent + 1));
}

bool cel_parse_double(struct str s, double *ret)
{
    char z[512], *end;

    if (s.n == 0 || s.n >= sizeof z)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789+-.eEinfatyINFATYxXpPabcdABCD", s.p[i]) || s.p[i] == '\0')
            return false;
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    errno = 0;
    *ret = strtod(z, &end);
    return *end == '\0' && !(errno == ERANGE && isinf(*ret));
}

/* -- functions ------------------------------------------------------------------------------------ */

FN(to_timestamp)
{
    struct cel_value t = {.kind = CEL_TIMESTAMP};

    UNUSED;
    if (v[0].kind == CEL_STRING) {
        if (!cel_parse_timestamp(v[0].s, false, &t))
            return cel_fail(
                r, "parsing time \"" STR_FMT "\" as \"2006-01-02T15:04:05Z07:00\": cannot parse",
                STR_ARG(v[0].s));
        return t;
    }
    if (v[0].kind != CEL_INT)
        return v[0];
    if (v[0].i < SEC_MIN || v[0].i > SEC_MAX)
        return cel_fail(r, "timestamp overflow");
    t.time.sec = v[0].i;
    t.time.ns = 0;
    return t;
}

FN(to_duration)
{
    struct cel_value d;

    UNUSED;
    if (v[0].kind == CEL_STRING) {
        if (!cel_parse_duration(v[0].s, &d))
            return cel_fail(r, "time: invalid duration \"" STR_FMT "\"", STR_ARG(v[0].s));
        return d;
    }
    d = v[0];
    d.kind = CEL_DURATION;
    return d;
}

static struct cel_value moved(struct cel_run *r, const struct cel_value *t, int64_t by, int sign)
{
    struct cel_value ret = *t;
    int64_t sec = by / SECOND, ns = by % SECOND;

    ret.time.sec += sign * sec;
    ns = ret.time.ns + sign * ns;
    if (ns < 0) {
        ns += SECOND;
        ret.time.sec--;
    } else if (ns >= SECOND) {
        ns -= SECOND;
        ret.time.sec++;
    }
    ret.time.ns = (int32_t)ns;
    return ret.time.sec < SEC_MIN || ret.time.sec > SEC_MAX ? cel_fail(r, "timestamp overflow")
                                                            : ret;
}

FN(add_times)
{
    struct cel_value ret = {.kind = CEL_DURATION};

    UNUSED;
    if (v[0].kind == CEL_TIMESTAMP)
        return moved(r, &v[0], v[1].i, 1);
    if (v[1].kind == CEL_TIMESTAMP)
        return moved(r, &v[1], v[0].i, 1);
    return __builtin_add_overflow(v[0].i, v[1].i, &ret.i) ? cel_fail(r, "duration overflow") : ret;
}

FN(sub_times)
{
    struct cel_value ret = {.kind = CEL_DURATION};
    int64_t ns;

    UNUSED;
    if (v[0].kind == CEL_TIMESTAMP && v[1].kind == CEL_DURATION)
        return moved(r, &v[0], v[1].i, -1);
    if (v[0].kind == CEL_DURATION)
        return __builtin_sub_overflow(v[0].i, v[1].i, &ret.i) ? cel_fail(r, "duration overflow")
                                                              : ret;
    if (__builtin_mul_overflow(v[0].time.sec - v[1].time.sec, SECOND, &ns)
        || __builtin_add_overflow(ns, (int64_t)v[0].time.ns - v[1].time.ns, &ret.i))
        return cel_fail(r, "timestamp overflow");
    return ret;
}

FN(neg_duration)
{
    struct cel_value ret = v[0];

    UNUSED;
    if (v[0].i == INT64_MIN)
        return cel_fail(r, "duration overflow");
    ret.i = -ret.i;
    return ret;
}

static bool zone(struct str s, int *ret)
{
    struct str rest = s;
    int h, m, sign = 1;

    if (s.n == 0 || str_is(s, "UTC")) {
        *ret = 0;
        return true;
    }
    if (rest.p[0] == '-' || rest.p[0] == '+') {
        sign = rest.p[0] == '-' ? -1 : 1;
        rest = str_skip(rest, 1);
    }
    if (!digits(&rest, 2, &h) || !expect(&rest, ':') || !digits(&rest, 2, &m) || rest.n || h > 23
        || m > 59)
        return false;
    *ret = sign * (h * 3600 + m * 60);
    return true;
}

FN(part_of_time)
{
    struct civil c;
    int offset = 0;

    UNUSED;
    if (n > 1 && !zone(v[1].s, &offset))
        return cel_fail(r, "unknown time zone " STR_FMT, STR_ARG(v[1].s));
    c = civil_of(v[0].time.sec + offset);
    if (str_is(call->name, "getFullYear"))
        return cel_v_int(c.year);
    if (str_is(call->name, "getMonth"))
        return cel_v_int(c.month - 1);
    if (str_is(call->name, "getDate"))
        return cel_v_int(c.day);
    if (str_is(call->name, "getDayOfMonth"))
        return cel_v_int(c.day - 1);
    if (str_is(call->name, "getDayOfWeek"))
        return cel_v_int(c.weekday);
    if (str_is(call->name, "getDayOfYear"))
        return cel_v_int(c.yearday);
    if (str_is(call->name, "getHours"))
        return cel_v_int(c.hour);
    if (str_is(call->name, "getMinutes"))
        return cel_v_int(c.minute);
    if (str_is(call->name, "getSeconds"))
        return cel_v_int(c.second);
    return cel_v_int(v[0].time.ns / 1000000);
}

FN(part_of_duration)
{
    UNUSED;
    if (str_is(call->name, "getHours"))
        return cel_v_int(v[0].i / (3600 * SECOND));
    if (str_is(call->name, "getMinutes"))
        return cel_v_int(v[0].i / (60 * SECOND));
    if (str_is(call->name, "getSeconds"))
        return cel_v_int(v[0].i / SECOND);
    return cel_v_int(v[0].i / 1000000 % 1000);
}

#define PART(name)                                                                                 \
    {name, "t:i", true, part_of_time},                                                             \
    {                                                                                              \
        name, "ts:i", true, part_of_time                                                           \
    }
static const struct cel_overload times[] = {
    {"timestamp", "t:t", false, to_timestamp},
    {"timestamp", "s:t", false, to_timestamp},
    {"timestamp", "i:t", false, to_timestamp},
    {"duration", "r:r", false, to_duration},
    {"duration", "s:r", false, to_duration},
    {"duration", "i:r", false, to_duration},
    {"_+_", "tr:t", false, add_times},
    {"_+_", "rt:t", false, add_times},
    {"_+_", "rr:r", false, add_times},
    {"_-_", "tt:r", false, sub_times},
    {"_-_", "tr:t", false, sub_times},
    {"_-_", "rr:r", false, sub_times},
    {"-_", "r:r", false, neg_duration},
    PART("getFullYear"),
    PART("getMonth"),
    PART("getDate"),
    PART("getDayOfMonth"),
    PART("getDayOfWeek"),
    PART("getDayOfYear"),
    PART("getHours"),
    PART("getMinutes"),
    PART("getSeconds"),
    PART("getMilliseconds"),
    {"getHours", "r:i", true, part_of_duration},
    {"getMinutes", "r:i", true, part_of_duration},
    {"getSeconds", "r:i", true, part_of_duration},
    {"getMilliseconds", "r:i", true, part_of_duration},
};
const struct cel_library cel_lib_time = {times, ARRAY_SIZE(times)};
