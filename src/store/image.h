/* store/image - a whole database as bytes: copied from a live one, checked through and through, given another revision.
 * Blocking; for `vireo backup`, `restore` and `check`, in a process of their own. */
#pragma once
#include "base/error.h"
#include <stdint.h>

struct store_image {
    int64_t revision, schema, objects, bytes;
};
/* A consistent copy of the database in dirfd, whoever has it open, checked and written to to_fd. Nothing there is changed. */
MUST_CHECK bool store_image_take(int dirfd, int to_fd, struct store_image *ret, struct error *err);
/* Checks the image in fd: every page, index and object. */
MUST_CHECK bool store_image_check(int fd, struct store_image *ret, struct error *err);
/* As check; and to_fd gets it with its counter of revisions at least there. */
MUST_CHECK bool store_image_raise(int fd, int64_t revision, int to_fd, struct store_image *ret,
                                  struct error *err);
/* How far writes to the database in dirfd were acknowledged; 0: unknown. */
int64_t store_image_mark(int dirfd);
