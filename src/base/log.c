#include "base/log.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ident.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define LINE_LIMIT 16384u

static const char *log_role = "vireo";
static enum log_level log_max = LOG_INFO;
static bool log_json;

void log_setup(const char *role, enum log_level level, bool json)
{
    log_role = role;
    log_max = level;
    log_json = json;
}

enum log_level log_level(void)
{
    return log_max;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARNING:
        return "warning";
    case LOG_INFO:
        return "info";
    case LOG_DEBUG:
        return "debug";
    }
    return "?";
}

/* Names and messages carry tenants' text: a line must stay one line, and a terminal a terminal. */
static void add_text(struct buf *line, const char *z)
{
    for (; *z; z++) {
        if ((unsigned char)*z < 0x20 || *z == 0x7f)
            buf_addf(line, "\\x%02x", (unsigned char)*z);
        else
            buf_addc(line, *z);
    }
}

static void add_json(struct buf *line, const char *name, const char *z)
{
    bool utf8 = str_valid_utf8(str_of(z));

    buf_addf(line, "%s\"%s\":\"", line->n > 1 ? "," : "", name);
    for (; *z; z++) {
        unsigned char c = (unsigned char)*z;

        if (c == '"' || c == '\\')
            buf_add(line, (char[]){'\\', *z}, 2);
        else if (c == '\n')
            buf_adds(line, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_addf(line, "\\u%04x", c);
        else if (c >= 0x80 && !utf8)
            buf_adds(line, "\\ufffd");
        else
            buf_addc(line, *z);
    }
    buf_addc(line, '"');
}

void log_write(enum log_level level, const char *object, const char *fmt, ...)
{
    AUTO_FREE char *msg = NULL;
    AUTO(buf_done) struct buf line = {.limit = LINE_LIMIT * 8};
    char when[TIME_TEXT_LEN + 1];
    struct timespec now;
    struct error err = {0};
    int saved = errno;
    va_list ap;

    if (level > log_max)
        return;
    va_start(ap, fmt);
    if (vasprintf(&msg, fmt, ap) < 0)
        msg = NULL;
    va_end(ap);
    if (msg && strlen(msg) > LINE_LIMIT)
        msg[LINE_LIMIT] = '\0';
    clock_gettime(CLOCK_REALTIME, &now);
    ident_time((int64_t)now.tv_sec * 1000000000 + now.tv_nsec, true, when);
    if (log_json) {
        buf_addc(&line, '{');
        add_json(&line, "time", when);
        add_json(&line, "level", level_name(level));
        add_json(&line, "role", log_role);
        if (object)
            add_json(&line, "object", object);
        add_json(&line, "msg", msg ? msg : fmt);
        buf_addc(&line, '}');
    } else {
        buf_addf(&line, "%s %s %s: ", when, level_name(level), log_role);
        if (object) {
            add_text(&line, object);
            buf_adds(&line, ": ");
        }
        add_text(&line, msg ? msg : fmt);
    }
    buf_addc(&line, '\n');
    if (!file_write_all(STDERR_FILENO, buf_str(&line), &err))
        error_clear(&err); /* nowhere left to say it */
    errno = saved;
}
