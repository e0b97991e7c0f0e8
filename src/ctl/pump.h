/* ctl/pump - bytes between a WebSocket and two descriptors: console, VNC, forwarded ports.
 *
 * pump_connect() opens the WebSocket, paused; pump_begin() lets bytes flow. Each side stops being read while the other is
 * full. Descriptors may block (a terminal's flags are shared with the shell, so they stay as they are): they are written
 * only when the loop says so, and then in pieces that a pipe takes whole.
 *
 * A WebSocket has no half close. Our input's end is therefore kept to ourselves, and the peer may go on for `linger`. */
#pragma once
#include "ctl/ctl.h"
#include "http/websocket.h"

#define PUMP_ESCAPE 0x1d /* Ctrl+] and Ctrl+5 */

struct pump {
    struct loop *loop;
    bool escape;       /* PUMP_ESCAPE in the input leaves */
    int64_t linger_ns; /* how long the peer may go on after our input's end; < 0: as long as it likes */
    void (*connected)(struct pump *p);
    void (*failed)(struct pump *p, int status, const struct error *err); /* nothing follows */
    void (*ended)(struct pump *p); /* once, after `connected`: the stream is over and all output written; may free p */
    void *user;

    bool left;         /* we went: the escape, or nobody reads our output */
    unsigned code;     /* the peer's; 1006: the connection just went away */
    struct buf reason;

    struct websocket *ws; /* the rest is private */
    int in, out;
    struct loop_io in_io, out_io;
    struct loop_timer linger;
    struct loop_defer end;
    struct buf waiting; /* for the output; the first `written` bytes are out */
    size_t written;
    bool started, no_output, over;
};

/* p is zeroed but for the settings above. `path` stands behind the server's prefix. */
void pump_connect(struct pump *p, struct ctl *c, const char *path);
/* The same, waiting for the outcome; *ret_status is the HTTP status of a refusal, or 0. */
MUST_CHECK bool pump_open(struct pump *p, struct ctl *c, const char *path, int *ret_status, struct error *err);
/* Borrowed, two different descriptors. */
void pump_begin(struct pump *p, int in, int out);
void pump_leave(struct pump *p); /* closes the stream from here; `ended` follows */
/* Before p goes away: the stream must be over, or never connected, or its http_client be freed. */
void pump_done(struct pump *p);
