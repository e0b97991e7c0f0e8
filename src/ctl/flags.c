#include "ctl/flags.h"

#include <assert.h>

#include "base/cleanup.h"

static const struct flag *find(const struct flags *f, struct str name, char letter)
{
    for (size_t s = 0; s < ARRAY_SIZE(f->sets); s++)
        for (size_t i = 0; i < f->sets[s].n; i++) {
            const struct flag *flag = &f->sets[s].p[i];

            if (letter ? flag->letter == letter : str_is(name, flag->name))
                return flag;
        }
    return NULL;
}

static bool is_bool(struct str s, bool *ret)
{
    static const char *const yes[] = {"true", "1", "t", "T", "True", "TRUE"};
    static const char *const no[] = {"false", "0", "f", "F", "False", "FALSE"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
        if (str_is(s, yes[i]) || str_is(s, no[i])) {
            *ret = str_is(s, yes[i]);
            return true;
        }
    return false;
}

static bool add(struct flags *f, const struct flag *flag, const char *value, struct error *err)
{
    AUTO(error_clear) struct error why = {0};
    int64_t number;
    bool on;

    if (flag->type == FLAG_BOOL && !is_bool(str_of(value), &on))
        return error_set(err, ERROR_BAD_REQUEST, "--%s is true or false, not '%s'", flag->name, value);
    if (flag->type == FLAG_INT && !parse_i64(str_of(value), INT32_MIN, INT32_MAX, &number, &why))
        return error_set(err, ERROR_BAD_REQUEST, "--%s wants a whole number, not '%s'", flag->name, value);
    vec_push(&f->given, ((struct flag_value){flag, value}));
    return true;
}

/* "--name", "--name=value"; a value of its own stands in argv[*at + 1]. */
static bool parse_long(struct flags *f, int argc, char **argv, int *at, struct error *err)
{
    struct str name, value;
    const char *text;
    bool joined = str_cut(str_of(argv[*at] + 2), '=', &name, &value);
    const struct flag *flag = find(f, name, 0);

    if (!flag)
        return error_set(err, ERROR_BAD_REQUEST, "unknown flag --" STR_FMT " (--help lists them)", STR_ARG(name));
    if (joined)
        text = value.p;
    else if (flag->type == FLAG_BOOL)
        text = "true";
    else if (*at + 1 < argc)
        text = argv[++*at];
    else
        return error_set(err, ERROR_BAD_REQUEST, "--%s wants a value", flag->name);
    return add(f, flag, text, err);
}

/* "-r", "-rp", "-n value", "-nvalue", "-n=value" */
static bool parse_short(struct flags *f, int argc, char **argv, int *at, bool *ret_help, struct error *err)
{
    for (const char *p = argv[*at] + 1; *p; p++) {
        const struct flag *flag = find(f, STR_NONE, *p);

        if (!flag && *p == 'h') {
            *ret_help = true;
            return true;
        }
        if (!flag)
            return error_set(err, ERROR_BAD_REQUEST, "unknown flag -%c in '%s' (--help lists them)", *p, argv[*at]);
        if (flag->type == FLAG_BOOL) {
            if (!add(f, flag, "true", err))
                return false;
            continue;
        }
        if (p[1])
            return add(f, flag, p[1] == '=' ? p + 2 : p + 1, err);
        if (*at + 1 >= argc)
            return error_set(err, ERROR_BAD_REQUEST, "-%c wants a value", *p);
        return add(f, flag, argv[++*at], err);
    }
    return true;
}

bool flags_parse(struct flags *f, int argc, char **argv, bool *ret_help, struct error *err)
{
    bool only_args = false;

    *ret_help = false;
    for (int i = 0; i < argc && !*ret_help; i++) {
        const char *a = argv[i];

        if (only_args || a[0] != '-' || !a[1]) {
            vec_push(&f->args, a);
        } else if (strcmp(a, "--") == 0) {
            only_args = true;
        } else if (strcmp(a, "--help") == 0) {
            *ret_help = true;
        } else if (a[1] == '-') {
            if (!parse_long(f, argc, argv, &i, err))
                return false;
        } else if (!parse_short(f, argc, argv, &i, ret_help, err)) {
            return false;
        }
    }
    return true;
}

void flags_done(struct flags *f)
{
    vec_done(&f->given);
    vec_done(&f->args);
}

static const char *last(const struct flags *f, const char *name, bool *ret_given)
{
    const struct flag *flag = find(f, str_of(name), 0);
    const char *text;

    assert(flag);
    text = flag->otherwise;
    *ret_given = false;
    for (size_t i = 0; i < f->given.n; i++)
        if (f->given.p[i].flag == flag) {
            text = f->given.p[i].text;
            *ret_given = true;
        }
    return text ? text : "";
}

bool flags_given(const struct flags *f, const char *name)
{
    bool given;

    last(f, name, &given);
    return given;
}

const char *flags_str(const struct flags *f, const char *name)
{
    bool given;

    return last(f, name, &given);
}

bool flags_bool(const struct flags *f, const char *name)
{
    bool on = false;

    return is_bool(str_of(flags_str(f, name)), &on) && on;
}

int64_t flags_int(const struct flags *f, const char *name)
{
    AUTO(error_clear) struct error ignored = {0}; /* the text was checked when it came */
    int64_t v;

    return parse_i64(str_of(flags_str(f, name)), INT32_MIN, INT32_MAX, &v, &ignored) ? v : 0;
}

const char *flags_item(const struct flags *f, const char *name, size_t i)
{
    const struct flag *flag = find(f, str_of(name), 0);

    assert(flag);
    for (size_t k = 0; k < f->given.n; k++)
        if (f->given.p[k].flag == flag && i-- == 0)
            return f->given.p[k].text;
    return NULL;
}

void flags_help(const struct flag_set *set, struct buf *out)
{
    static const char *const kinds[] = {
        [FLAG_STRING] = " TEXT", [FLAG_BOOL] = "", [FLAG_INT] = " N", [FLAG_LIST] = " TEXT"};

    for (size_t i = 0; i < set->n; i++) {
        const struct flag *f = &set->p[i];
        size_t from = out->n, width;

        if (f->letter)
            buf_addf(out, "  -%c, --%s%s", f->letter, f->name, kinds[f->type]);
        else
            buf_addf(out, "      --%s%s", f->name, kinds[f->type]);
        width = out->n - from;
        if (width > 34)
            buf_addf(out, "\n%36s%s", "", f->help);
        else
            buf_addf(out, "%*s%s", (int)(36 - width), "", f->help);
        if (f->otherwise && f->otherwise[0])
            buf_addf(out, " (%s)", f->otherwise);
        if (f->type == FLAG_LIST)
            buf_adds(out, "; may be given more than once");
        buf_addc(out, '\n');
    }
}
