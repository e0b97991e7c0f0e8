/* base/cleanup - scope-bound release: one exit path and no label ladder. */
#pragma once
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* AUTO(fn) T x: runs fn(&x) when x leaves its scope. */
#define AUTO(fn) __attribute__((cleanup(fn)))
#define AUTO_FREE AUTO(cleanup_free_p)
#define AUTO_CLOSE AUTO(cleanup_close_p)

/* Moves a value out of x and leaves zero behind (for descriptors use TAKE_FD). */
#define TAKE(x)                                                                                    \
    __extension__({                                                                                \
        __typeof__(x) *take_p_ = &(x);                                                             \
        __typeof__(x) take_v_ = *take_p_;                                                          \
        memset(take_p_, 0, sizeof *take_p_);                                                       \
        take_v_;                                                                                   \
    })
#define TAKE_FD(fd)                                                                                \
    __extension__({                                                                                \
        int *take_fd_p_ = &(fd);                                                                   \
        int take_fd_v_ = *take_fd_p_;                                                              \
        *take_fd_p_ = -1;                                                                          \
        take_fd_v_;                                                                                \
    })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

void cleanup_free_p(void *pointer_to_pointer);
void cleanup_close_p(int *fd);                     /* closes when >= 0, keeps errno, leaves -1 */
void fd_close(int *fd);                            /* the same, by name */
