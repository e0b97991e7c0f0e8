#include "base/base_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "image/image.h"

/* In the fetcher's place: hangs where the reference says so, and otherwise has an empty image. */
#define FETCHER                                                                                                                  \
    "#!/bin/sh\n"                                                                                                                \
    "case $(cat /proc/self/fd/3) in *slow*) exec sleep 600;; esac\n"                                                             \
    "mkdir -p /proc/self/fd/4/root\n"                                                                                            \
    "printf '{\"digest\":\"sha256:%064d\",\"bytes\":0}\\n' 7\n"

struct world {
    char dir[32];
    int dirfd;
    struct loop *loop;
    struct image_store *store;
    unsigned done, failed;
};

static void pulled(void *user, int root_fd, const char *root_path, const char *digest, const struct error *err)
{
    struct world *w = user;

    (void)root_path;
    (void)digest;
    fd_close(&root_fd);
    w->done++;
    w->failed += err->kind == ERROR_TIMEOUT;
}

static void pull(struct world *w, const char *reference)
{
    image_store_pull(w->store, &(struct image_pull){.reference = reference, .policy = "Always", .done = pulled, .user = w});
}

static void turns(struct world *w, unsigned wanted)
{
    for (int i = 0; i < 100 && w->done < wanted; i++) {
        loop_turn(w->loop, 0);
        usleep(20000);
    }
}

static int setup(void **state)
{
    static struct world w;
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;
    char self[64];

    w = (struct world){.dir = "/tmp/image-store-XXXXXX"};
    assert_non_null(mkdtemp(w.dir));
    w.dirfd = open(w.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fd = openat(w.dirfd, "fetcher", O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_true(file_write_all(fd, STR(FETCHER), &err));
    fd_close(&fd);
    snprintf(self, sizeof self, "%s/fetcher", w.dir);
    w.loop = loop_new_fake();
    w.store = image_store_new(&(struct image_store_config){.loop = w.loop, .dirfd = w.dirfd, .oci_dirfd = -1, .self = self}, &err);
    assert_non_null(w.store);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    AUTO(error_clear) struct error err = {0};

    image_store_free(w->store);
    loop_free(w->loop);
    fd_close(&w->dirfd);
    return file_remove_tree(AT_FDCWD, w->dir, &err) ? 0 : -1;
}

static void a_registry_that_trickles_keeps_nobody_elses_image_waiting(void **state)
{
    struct world *w = *state;
    char name[32];

    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "localhost/slow%d:x", i);
        pull(w, name);
    }
    pull(w, "localhost/quick:x");
    turns(w, 1);
    assert_int_equal(w->done, 0); /* four at a time */
    loop_fake_advance(w->loop, SECONDS(30));
    turns(w, 1);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->failed, 0);
    for (int i = 0; i < 4; i++) { /* nothing runs for ever */
        loop_fake_advance(w->loop, SECONDS(3 * 3600));
        turns(w, 7);
    }
    assert_int_equal(w->done, 7);
    assert_int_equal(w->failed, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_registry_that_trickles_keeps_nobody_elses_image_waiting, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
