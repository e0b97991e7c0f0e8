/* ctl/ctl - virtctl: one run of one verb.
 *
 * A verb is a table entry and a function that reads its flags, talks to the API server through ctl_call() or a WebSocket
 * (both pump the loop until their answer is there) and prints. Everything is released when ctl_run() returns. */
#pragma once
#include "ctl/flags.h"
#include "ctl/kubeconfig.h"
#include "http/client.h"
#include "loop/loop.h"

struct ctl_io {
    int in, out, err; /* borrowed descriptors */
};
/* Returns the exit code. argv[0] is the program. */
int ctl_run(struct loop *l, const struct ctl_io *io, int argc, char **argv);

struct ctl {
    struct loop *loop;
    struct ctl_io io;
    struct flags flags;
    size_t n_args;
    const char *const *args;
    struct kubeconfig config;
    struct http_tls *tls;
    struct http_client *http; /* NULL until ctl_connect() */
    int exit_code;            /* of a verb that succeeded */
};

struct ctl_verb {
    const char *name; /* "start", "create vm" */
    const char *args; /* "VM", as help shows them */
    unsigned min_args, max_args;
    const char *summary;
    const char *examples; /* lines without the program's name in front, each "# comment" or a command; NULL: absent verb */
    struct flag_set flags;
    bool (*run)(struct ctl *c, struct error *err); /* NULL: known to KubeVirt, not to this release */
};
extern const struct ctl_verb *const ctl_verbs[]; /* NULL-terminated */
extern const struct flag ctl_global_flags[];
extern const size_t ctl_n_global_flags;

/* Loads the kubeconfig and makes the HTTP client; no connection is opened yet. */
MUST_CHECK bool ctl_connect(struct ctl *c, struct error *err);
void ctl_disconnect(struct ctl *c); /* running calls and streams end; their callbacks come from here */
MUST_CHECK bool ctl_load_config(struct ctl *c, struct error *err); /* the first half: needs no server */

/* Owned. */
struct ctl_reply {
    int status;
    struct buf text;
    struct arena arena;
    const struct json *body; /* NULL unless JSON came */
};
void ctl_reply_done(struct ctl_reply *r);
/* One request. `path` starts behind the server's prefix; `body` may be NULL. Any status ≥ 400 is an error in the
 * server's words. ret may be NULL. */
MUST_CHECK bool ctl_call(struct ctl *c, enum http_method method, const char *path, const struct json *body,
                         struct ctl_reply *ret, struct error *err);
/* The error that an answer with a status ≥ 400 tells (a Status, or plain text). Returns false. */
bool ctl_status_error(struct error *err, int status, struct str body);
/* Turns the loop until *flag. */
void ctl_wait(struct ctl *c, const bool *flag);

void ctl_print(struct ctl *c, const char *fmt, ...) PRINTF_LIKE(2, 3);  /* to out */
void ctl_notice(struct ctl *c, const char *fmt, ...) PRINTF_LIKE(2, 3); /* to err */
MUST_CHECK bool ctl_print_buf(struct ctl *c, const struct buf *b, struct error *err);
