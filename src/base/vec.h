/* base/vec - a growing array of any type: struct vec_x { T *p; size_t n, cap; } by VEC(T). */
#pragma once
#include "base/alloc.h"
#include <stdlib.h>

#define VEC(T)                                                                                     \
    struct {                                                                                       \
        T *p;                                                                                      \
        size_t n, cap;                                                                             \
    }
#define vec_reserve(v, want)                                                                       \
    do {                                                                                           \
        if ((v)->cap < (want)) {                                                                   \
            size_t vec_cap_ = (v)->cap ? (v)->cap * 2 : 8;                                         \
            while (vec_cap_ < (want))                                                              \
                vec_cap_ *= 2;                                                                     \
            (v)->p = xrealloc((v)->p, vec_cap_, sizeof *(v)->p);                                   \
            (v)->cap = vec_cap_;                                                                   \
        }                                                                                          \
    } while (0)
#define vec_push(v, ...)                                                                           \
    do {                                                                                           \
        vec_reserve((v), (v)->n + 1);                                                              \
        (v)->p[(v)->n++] = (__VA_ARGS__);                                                          \
    } while (0)
#define vec_remove(v, i) /* keeps the order */                                                     \
    do {                                                                                           \
        memmove(&(v)->p[i], &(v)->p[(i) + 1], ((v)->n - (i)-1) * sizeof *(v)->p);                  \
        (v)->n--;                                                                                  \
    } while (0)
#define vec_done(v)                                                                                \
    do {                                                                                           \
        free((v)->p);                                                                              \
        (v)->p = NULL;                                                                             \
        (v)->n = (v)->cap = 0;                                                                     \
    } while (0)
