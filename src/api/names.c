#include "api/names.h"

#define LABEL_MAX 63
#define SUBDOMAIN_MAX 253
#define STRINGIZE_(x) #x
#define STRINGIZE(x) STRINGIZE_(x)
#define TOO_LONG(max) "must be no more than " STRINGIZE(max) " bytes"

#define QUALIFIED_REGEX "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
#define QUALIFIED                                                                                   \
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "     \
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '" \
    QUALIFIED_REGEX "')"
#define SUBDOMAIN                                                                                   \
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', " \
    "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "    \
    "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
#define LABEL                                                                                       \
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must " \
    "start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "  \
    "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"

static bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
static bool alphanumeric(char c) { return lower_or_digit(c) || (c >= 'A' && c <= 'Z'); }

static bool dns_label_form(struct str s)
{
    if (!s.n || !lower_or_digit(s.p[0]) || !lower_or_digit(s.p[s.n - 1]))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!lower_or_digit(s.p[i]) && s.p[i] != '-')
            return false;
    return true;
}

static bool qualified_form(struct str s)
{
    if (!s.n || !alphanumeric(s.p[0]) || !alphanumeric(s.p[s.n - 1]))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!alphanumeric(s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.')
            return false;
    return true;
}

static bool subdomain_form(struct str s)
{
    struct str part;

    if (!s.n)
        return false;
    for (bool more = true; more;) {
        struct str rest;

        more = str_cut(s, '.', &part, &rest);
        if (!dns_label_form(part))
            return false;
        s = rest;
    }
    return true;
}

const char *name_dns1123_label(struct str s)
{
    if (s.n > LABEL_MAX)
        return TOO_LONG(63);
    return dns_label_form(s) ? NULL : LABEL;
}

const char *name_dns1123_subdomain(struct str s)
{
    if (s.n > SUBDOMAIN_MAX)
        return TOO_LONG(253);
    return subdomain_form(s) ? NULL : SUBDOMAIN;
}

const char *name_dns1035_label(struct str s)
{
    if (s.n > LABEL_MAX)
        return TOO_LONG(63);
    if (dns_label_form(s) && !(s.p[0] >= '0' && s.p[0] <= '9'))
        return NULL;
    return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
           "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
           "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
}

const char *name_label_value(struct str s)
{
    if (s.n > LABEL_MAX)
        return TOO_LONG(63);
    if (s.n == 0 || qualified_form(s))
        return NULL;
    return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
           "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
           "for validation is '(" QUALIFIED_REGEX ")?')";
}

const char *name_qualified(struct str s, struct arena *a)
{
    struct str prefix, name, before, after;

    if (str_cut(s, '/', &prefix, &name)) {
        const char *why;

        if (str_cut(name, '/', &before, &after))
            return "a qualified name " QUALIFIED " with an optional DNS subdomain prefix and '/' (e.g. "
                   "'example.com/MyName')";
        if (prefix.n == 0)
            return "prefix part must be non-empty";
        why = name_dns1123_subdomain(prefix);
        if (why)
            return arena_printf(a, "prefix part %s", why);
    } else {
        name = s;
    }
    if (name.n == 0)
        return "name part must be non-empty";
    if (name.n > LABEL_MAX)
        return "name part " TOO_LONG(63);
    return qualified_form(name) ? NULL : "name part " QUALIFIED;
}

const char *name_path_segment(struct str s, struct arena *a)
{
    if (str_is(s, ".") || str_is(s, ".."))
        return arena_printf(a, "may not be '" STR_FMT "'", STR_ARG(s));
    if (str_has(s, '/'))
        return "may not contain '/'";
    if (str_has(s, '\0'))
        return "may not contain a NUL";
    return str_has(s, '%') ? "may not contain '%'" : NULL;
}
