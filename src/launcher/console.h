/* launcher/console - the guest's serial port, shared by its log and by one person at a time.
 *
 * The port is always read, whether anyone looks or not, so the guest never stalls on it. What it says goes to a bounded log
 * file, line by line to our own stdout (the pod's log), and to whoever holds the console. A new holder ends the old one's
 * session, as upstream. Everything here is guest input: lengths and rates have bounds. */
#pragma once
#include "base/error.h"
#include "loop/loop.h"

struct console;
/* Takes over the port. log_dirfd: where "virt-serial0-log" is kept, -1: no log and nothing on stdout. */
struct console *console_new(struct loop *l, int take_port_fd, int log_dirfd);
void console_free(struct console *c);
/* A connected stream for a new holder. */
MUST_CHECK bool console_attach(struct console *c, int *ret_fd, struct error *err);
/* Ends the current session. */
void console_detach(struct console *c);
