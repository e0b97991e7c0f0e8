/* cmd/thrift - a role that runs for months gives back what only its start, or something rare, needed. */
#pragma once
#include "loop/loop.h"

struct thrift {
    struct loop *loop;
    struct loop_timer timer;
};
void thrift_start(struct thrift *t, struct loop *l);
void thrift_stop(struct thrift *t);
/* Lets go of the pages of programs and libraries that were looked at and not written: code that ran at the start and is not needed
 * again. What is, comes back from the page cache by itself. Returns how many bytes were let go of. */
size_t thrift_code(void);
