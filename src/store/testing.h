/* store/testing - what the tests of this room share: a store in a directory of its own, writes that wait. */
#pragma once
#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/alloc.h"
#include "base/file.h"
#include "base/vec.h"
#include "store/store.h"
#include <fcntl.h>
#include <unistd.h>

struct bench_dir {
    char path[64];
    int fd;
};

static inline void dir_make(struct bench_dir *d)
{
    snprintf(d->path, sizeof d->path, "/tmp/vireo-store-test-XXXXXX");
    assert_non_null(mkdtemp(d->path));
    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(d->fd >= 0);
}

static inline void dir_remove(struct bench_dir *d)
{
    struct error err = {0};

    fd_close(&d->fd);
    assert_true(file_remove_tree(AT_FDCWD, d->path, &err));
}

static inline struct store *open_store(struct loop *l, int dirfd)
{
    struct error err = {0};
    struct store *s = store_open(&(struct store_config){.loop = l, .dirfd = dirfd}, &err);

    if (!s)
        fail_msg("open: %s", error_text(&err));
    return s;
}

struct answer {
    bool come, ok;
    int64_t revision;
    enum error_kind kind;
};

static inline void take_answer(void *user, struct store_object *o, const struct error *err)
{
    struct answer *a = user;

    a->come = true;
    a->ok = o != NULL;
    a->revision = o ? store_object_revision(o) : 0;
    a->kind = err ? err->kind : ERROR_NONE;
}

/* An object of about `size` bytes. */
static inline const struct json *make_value(struct arena *a, const char *name, const char *text, size_t size)
{
    char *pad = arena_alloc(a, size + 1);
    static unsigned seed = 1;

    for (size_t i = 0; i < size; i++)
        pad[i] = (char)('a' + (rand_r(&seed) >> 4) % 26);
    return json_object(a, "kind", json_new_z(a, "Thing"), "metadata",
        json_object(a, "name", json_new_z(a, name), "uid", json_new_f(a, "uid-of-%s", name), "resourceVersion",
                    json_new_z(a, "99999"), NULL),
        "text", json_new_z(a, text), "pad", size ? json_new_z(a, pad) : NULL, NULL);
}

static inline bool start_put(struct store *s, const char *key, const char *text, size_t size, int64_t if_revision,
                             struct answer *answer, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    *answer = (struct answer){0};
    return store_put(s, &(struct store_write){.key = str_of(key), .if_revision = if_revision, .done = take_answer,
        .user = answer, .value = text ? make_value(&a, strrchr(key, '/') ? strrchr(key, '/') + 1 : key, text, size) : NULL}, err);
}

static inline void await(struct loop *l, const bool *flag)
{
    for (int i = 0; !*flag && i < 20000; i++)
        loop_turn(l, MILLIS(1));
    assert_true(*flag);
}

/* Revision, or 0 with *ret_kind set. */
static inline int64_t put_kind(struct loop *l, struct store *s, const char *key, const char *text, int64_t if_revision,
                               enum error_kind *ret_kind)
{
    AUTO(error_clear) struct error err = {0};
    struct answer answer;

    if (!start_put(s, key, text, 0, if_revision, &answer, &err)) {
        *ret_kind = err.kind;
        return 0;
    }
    assert_false(answer.come);
    await(l, &answer.come);
    *ret_kind = answer.kind;
    return answer.revision;
}

static inline int64_t put(struct loop *l, struct store *s, const char *key, const char *text)
{
    enum error_kind kind;
    int64_t revision = put_kind(l, s, key, text, 0, &kind);

    assert_int_equal(kind, ERROR_NONE);
    return revision;
}

static inline void check_text(struct store_object *take_o, const char *text)
{
    AUTO(arena_done) struct arena a = {0};
    char revision[32];
    const struct json *v;

    assert_non_null(take_o);
    snprintf(revision, sizeof revision, "%lld", (long long)store_object_revision(take_o));
    v = store_object_json(take_o, &a);
    assert_true(str_is(json_str_at(v, "text"), text));
    assert_true(str_is(json_str_at(v, "metadata/resourceVersion"), revision));
    assert_true(str_eq(json_str_at(v, "metadata/uid"), store_object_uid(take_o)));
    store_object_unref(take_o);
}
