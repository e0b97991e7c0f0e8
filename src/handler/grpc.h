/* handler/grpc - as much of gRPC as the kubelet speaks with device plugins: calls with one answer, streams from the server. No compression.
 *
 * A call is a POST over HTTP/2; each message is a flag, a length of four bytes and protobuf; the status comes behind the body. */
#pragma once
#include "http/client.h"

enum grpc_code {
    GRPC_OK = 0,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_UNIMPLEMENTED = 12,
};

void grpc_frame(struct buf *out, struct str message);
/* The one message that a body holds; it points into the body. */
MUST_CHECK bool grpc_message(struct str body, struct str *ret, struct error *err);

/* --- server --- */

/* Is it a call at all? One that is none has been answered. */
MUST_CHECK bool grpc_accept(struct exchange *x);
void grpc_answer(struct exchange *x, struct str message); /* both consume the exchange */
void grpc_refuse(struct exchange *x, enum grpc_code code, const char *why);
void grpc_stream(struct exchange *x); /* begins one; grpc_send() as often as need be, then exchange_abort() */
void grpc_send(struct exchange *x, struct str message);

/* --- client --- */

struct grpc_call;
/* done comes once, unless it was cancelled: the answer's message, or why there is none. Never from inside this call. */
struct grpc_call *grpc_call(struct http_client *c, const char *path, struct str message, int64_t timeout_ns,
                            void (*done)(void *user, struct str answer, const struct error *err), void *user);
void grpc_cancel(struct grpc_call *call); /* NULL is fine */
