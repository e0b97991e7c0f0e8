/* apiserver/local_call - the way an answer takes to a caller in this process. */
#pragma once
#include "apiserver/internal.h"

/* Queues the answer (callbacks never come from within a call); `value` is copied as far as it must be. */
void local_answer(struct request *r, int status, const struct json *value);
void local_forget(struct request *r); /* the request ends without an answer */
