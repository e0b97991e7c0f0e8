/* base/thrift - memory of a process that waits most of the time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Once, at the start: large pieces of heap come from the system one by one and go back to it, so that what is kept for long does not lie
 * between them, and threads share one heap. */
void thrift_begin(void);
/* Pages of programs and libraries that were needed once (their start, a handshake, a full list) are let go of; what is needed again
 * comes back from the page cache, by a fault. Returns the bytes that such mappings held. Free heap above `slack` goes, too. */
size_t thrift_give_back(size_t slack);
