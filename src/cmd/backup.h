/* cmd/backup - `vireo backup` and `vireo restore`, and what the supervisor does for the latter. */
#pragma once
#include "store/image.h"
#include <sys/types.h>

int backup_main(int argc, char **argv);
int restore_main(int argc, char **argv);

/* What is staged in DIR/restore takes the place of database and keys; those go to DIR/replaced-<time>, whose name is
 * *ret_aside (owned). Nobody may have the database open. Broken off anywhere, it is finished by the next call.
 * ERROR_NOT_FOUND: nothing is staged. */
MUST_CHECK bool restore_apply(int dirfd, char **ret_aside, struct error *err);

/* Runs fn in a process that has this uid and nothing else: what reads a database is not root. It ends with the caller,
 * and does not hold lock_fd (-1: none): a lock must not outlive a caller that is killed. */
MUST_CHECK bool backup_as(uid_t uid, int lock_fd,
                          bool (*fn)(void *user, struct store_image *ret, struct error *err),
                          void *user, struct store_image *ret, struct error *err);
/* A file without a name: in dirfd's file system, else in memory. */
MUST_CHECK bool backup_scratch(int dirfd, int *ret_fd, struct error *err);
