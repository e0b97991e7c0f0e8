/* base/log - what the operator reads. Only top-level code logs: request handlers, reconcile loops, main.
 *
 * error = someone must act; warning = "…, ignoring" or "…, retrying"; info = a state changed;
 * debug = anything. Secrets never reach a format string. Thread-safe; one write(2) per line to stderr. */
#pragma once
#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_setup(const char *role, enum log_level level, bool json); /* role is borrowed for ever */
enum log_level log_level(void);
void log_write(enum log_level level, const char *object, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* `object` names what it is about ("vmi default/a"), or is NULL. */
#define log_error(object, ...)   log_write(LOG_ERROR, object, __VA_ARGS__)
#define log_warning(object, ...) log_write(LOG_WARNING, object, __VA_ARGS__)
#define log_info(object, ...)    log_write(LOG_INFO, object, __VA_ARGS__)
#define log_debug(object, ...)   (log_level() >= LOG_DEBUG ? log_write(LOG_DEBUG, object, __VA_ARGS__) : (void)0)
