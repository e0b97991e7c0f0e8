/* base/error - why an operation failed, in terms its caller can act on. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_CHECK             __attribute__((warn_unused_result))

/* Each kind maps to one HTTP code and Status reason (apiserver/status.c). */
enum error_kind {
    ERROR_NONE,
    ERROR_INVALID,      /* 422 Invalid: an object whose content breaks a rule */
    ERROR_BAD_REQUEST,  /* 400 BadRequest: not even understood */
    ERROR_UNAUTHORIZED, /* 401 */
    ERROR_FORBIDDEN,    /* 403 */
    ERROR_NOT_FOUND,    /* 404 */
    ERROR_NOT_ALLOWED,  /* 405 MethodNotAllowed */
    ERROR_NOT_ACCEPTABLE, /* 406 */
    ERROR_EXISTS,       /* 409 AlreadyExists */
    ERROR_CONFLICT,     /* 409 Conflict */
    ERROR_GONE,         /* 410 Expired / Gone */
    ERROR_TOO_LARGE,    /* 413 RequestEntityTooLarge */
    ERROR_UNSUPPORTED,  /* 415 UnsupportedMediaType, or a feature that is refused */
    ERROR_TOO_MANY,     /* 429 */
    ERROR_TIMEOUT,      /* 504 Timeout */
    ERROR_UNAVAILABLE,  /* 503 ServiceUnavailable: try again */
    ERROR_INTERNAL,     /* 500 */
};

struct error {
    enum error_kind kind;
    char *msg; /* owned; complete enough to print as is; no trailing dot or newline */
};

/* All return false, so a failing function can say: return error_set(err, …); `e` is never NULL and
 * is left untouched by functions that succeed. Setting an error that is already set replaces it. */
bool error_set(struct error *e, enum error_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool error_vset(struct error *e, enum error_kind kind, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);
/* "context: " in front of the message; the kind stays. */
bool error_wrap(struct error *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* From errno: ": <strerror>" behind the message, the kind chosen from the number
 * (ENOENT → NOT_FOUND, EEXIST → EXISTS, EACCES/EPERM → FORBIDDEN, ENOSPC → UNAVAILABLE, else INTERNAL). */
bool error_errno(struct error *e, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Moves *from into *to (to's old content is released, from is cleared). Returns false. */
bool error_move(struct error *to, struct error *from);
void error_clear(struct error *e);
const char *error_text(const struct error *e); /* never NULL */
const char *error_kind_name(enum error_kind kind);
