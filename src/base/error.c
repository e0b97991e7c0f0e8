#include "base/error.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>

static char *format(const char *fmt, va_list ap) PRINTF_LIKE(1, 0);

static char *format(const char *fmt, va_list ap)
{
    char *text;

    return vasprintf(&text, fmt, ap) < 0 ? xstrdup(fmt) : text;
}

bool error_vset(struct error *e, enum error_kind kind, const char *fmt, va_list ap)
{
    char *msg = format(fmt, ap); /* before the old one goes: the arguments may point into it */

    free(e->msg);
    e->msg = msg;
    e->kind = kind;
    return false;
}

bool error_set(struct error *e, enum error_kind kind, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vset(e, kind, fmt, ap);
    va_end(ap);
    return false;
}

bool error_wrap(struct error *e, const char *fmt, ...)
{
    AUTO_FREE char *context = NULL;
    va_list ap;

    va_start(ap, fmt);
    context = format(fmt, ap);
    va_end(ap);
    if (e->kind == ERROR_NONE)
        e->kind = ERROR_INTERNAL;
    return error_set(e, e->kind, "%s: %s", context, e->msg ? e->msg : error_kind_name(e->kind));
}

static enum error_kind kind_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return ERROR_NOT_FOUND;
    case EEXIST:
        return ERROR_EXISTS;
    case EACCES:
    case EPERM:
        return ERROR_FORBIDDEN;
    case ENOSPC:
        return ERROR_UNAVAILABLE;
    default:
        return ERROR_INTERNAL;
    }
}

bool error_errno(struct error *e, int errnum, const char *fmt, ...)
{
    AUTO_FREE char *context = NULL;
    const char *why = strerrordesc_np(errnum); /* static: strerror() is not safe in threads */
    va_list ap;

    va_start(ap, fmt);
    context = format(fmt, ap);
    va_end(ap);
    if (!why)
        return error_set(e, kind_of_errno(errnum), "%s: error %d", context, errnum);
    return error_set(e, kind_of_errno(errnum), "%s: %s", context, why);
}

bool error_move(struct error *to, struct error *from)
{
    if (to != from) {
        error_clear(to);
        *to = TAKE(*from);
    }
    return false;
}

void error_clear(struct error *e)
{
    free(e->msg);
    *e = (struct error){0};
}

const char *error_text(const struct error *e)
{
    return e->msg ? e->msg : error_kind_name(e->kind);
}

const char *error_kind_name(enum error_kind kind)
{
    switch (kind) {
    case ERROR_NONE:
        return "no error";
    case ERROR_INVALID:
        return "invalid";
    case ERROR_BAD_REQUEST:
        return "bad request";
    case ERROR_UNAUTHORIZED:
        return "unauthorized";
    case ERROR_FORBIDDEN:
        return "forbidden";
    case ERROR_NOT_FOUND:
        return "not found";
    case ERROR_NOT_ALLOWED:
        return "not allowed";
    case ERROR_NOT_ACCEPTABLE:
        return "not acceptable";
    case ERROR_EXISTS:
        return "exists";
    case ERROR_CONFLICT:
        return "conflict";
    case ERROR_GONE:
        return "gone";
    case ERROR_TOO_LARGE:
        return "too large";
    case ERROR_UNSUPPORTED:
        return "unsupported";
    case ERROR_TOO_MANY:
        return "too many";
    case ERROR_TIMEOUT:
        return "timeout";
    case ERROR_UNAVAILABLE:
        return "unavailable";
    case ERROR_INTERNAL:
        return "internal";
    }
    return "unknown";
}
