/* apiserver/fairness - whose request is next: classes, users, their shares of the loop's time. */
#pragma once
#include "base/buf.h"
#include <stdint.h>

struct apiserver;
struct request;
struct fairness;

struct fairness *fairness_new(struct apiserver *s);
void fairness_free(struct fairness *f);
/* Calls `run` now or when it is the user's turn, or answers 429. Over HTTP only, after authentication. */
void fairness_admit(struct request *r, void (*run)(struct request *r));
/* The same for one that proved to be nobody's, which took `spent_ns` to find out: its address pays, in the least class. */
void fairness_refuse(struct request *r, int64_t spent_ns, void (*run)(struct request *r));
/* The request waits no longer, if it did (then true). */
bool fairness_forget(struct request *r);
/* The answer is given; only its reader is waited for. */
void fairness_answered(struct request *r);
/* Time that a request took outside of `run`: its user pays. */
void fairness_spent(struct request *r, int64_t ns);
void fairness_write(const struct fairness *f, struct buf *b); /* apiserver_flowcontrol_* */
