/* vmm/rest - the REST API of a VMM: HTTP/1.1 with JSON over a unix socket.
 *
 * rest_call() connects, writes the request, reads until the answer is whole, the deadline or the VMM's death, so sequences
 * read top to bottom. rest_begin() does the same on the loop, for the few calls that take as long as they take (a migration).
 * Every call has a connection of its own: nothing of a call that failed half-way can reach the next, and a server that serves
 * few connections at a time is never kept by an idle one.
 *
 * Only a whole and well-formed answer counts, whatever its status: the driver reads that. Everything else is an error:
 * ERROR_UNAVAILABLE (nobody answers, or closed before the end), ERROR_TIMEOUT, ERROR_TOO_LARGE, ERROR_INTERNAL (no HTTP, or
 * a success whose body is no JSON). The peer is trusted with nothing: a guest may have taken it over. */
#pragma once
#include "json/json.h"
#include "loop/loop.h"

struct rest { /* where it answers; all borrowed */
    int at;   /* descriptor of the socket's directory; with name "": O_PATH descriptor of the socket itself */
    const char *name;
    const char *who; /* "cloud-hypervisor", for messages */
};

#define REST_TIMEOUT_NS SECONDS(10)
#define REST_NO_TIMEOUT (-1)
#define REST_MAX_FDS 64

struct rest_request {
    const char *method, *path;
    const struct json *body; /* NULL: none */
    const int *fds;          /* borrowed; ride on the request */
    size_t n_fds;
    int64_t timeout_ns; /* 0: REST_TIMEOUT_NS */
};
struct rest_answer { /* lives in the call's arena */
    unsigned status;
    struct str text;         /* the body as it came; empty: none */
    const struct json *json; /* NULL: no body, or (of a refusal) one that is no JSON */
};
static inline bool rest_ok(const struct rest_answer *a)
{
    return a->status >= 200 && a->status < 300;
}

MUST_CHECK bool rest_call(const struct rest *r, const struct rest_request *q, struct arena *a, struct rest_answer *ret,
                          struct error *err);

/* The same without waiting. done() is called once, from the loop, with the answer or (NULL) the error, and the call is gone
 * after it; after rest_abandon() it is not called, and what the VMM does with the request is its own affair. */
struct rest_pending;
typedef void (*rest_done_fn)(void *user, const struct rest_answer *answer, struct error *err);
struct rest_pending *rest_begin(struct loop *l, const struct rest *r, const struct rest_request *q, rest_done_fn done,
                                void *user, struct error *err); /* NULL: not even sent */
void rest_abandon(struct rest_pending *p);

/* Waits until somebody accepts connections there. pidfd: of the VMM's process; its end ends the waiting (-1: unknown). */
MUST_CHECK bool rest_await(const struct rest *r, int pidfd, int64_t timeout_ns, struct error *err);

/* A stream to a socket of the VMM's that speaks no HTTP. Does not block. */
MUST_CHECK bool rest_connect(const struct rest *r, int64_t timeout_ns, int *ret_fd, struct error *err);
/* Whether the answer to a call of rest_begin()'s has come (or will not come), for who cannot wait for the loop to say so. */
bool rest_answered(struct rest_pending *p);
/* Its end without done(), once it is answered. */
MUST_CHECK bool rest_finish(struct rest_pending *take_p, struct arena *a, struct rest_answer *ret, struct error *err);

/* A stream to a port of the guest through a VMM's "hybrid" vsock: a unix socket that is told "CONNECT <port>". */
MUST_CHECK bool rest_vsock_connect(const struct rest *r, unsigned port, int64_t timeout_ns, int *ret_fd, struct error *err);

/* rest_parse.c: an answer, from any pieces. Feeding past the end of the answer is an error: its length was a lie. */
struct rest_parse {
    int state;
    unsigned status;
    bool has_length, chunked, done;
    uint64_t left;       /* of the body or of the chunk */
    size_t header_bytes; /* so far, chunk lines and trailers included */
    struct buf line, body;
};
void rest_parse_init(struct rest_parse *p);
void rest_parse_done(struct rest_parse *p);
MUST_CHECK bool rest_parse_feed(struct rest_parse *p, struct str bytes, struct error *err);
