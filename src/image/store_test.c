#include "base/base_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
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
    w.store = image_store_new(&(struct image_store_config){.loop = w.loop, .dirfd = w.dirfd, .oci_dirfd = -1, .fetcher = self}, &err);
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

static bool root_there(struct world *w)
{
    char name[128];

    snprintf(name, sizeof name, "images/roots/%064d", 7);
    return faccessat(w->dirfd, name, F_OK, 0) == 0;
}

static void an_image_that_nobody_uses_goes(void **state)
{
    struct world *w = *state;
    const char *const nobody[] = {NULL};
    char digest[80];
    const char *const somebody[] = {"sha256:00", digest, NULL};
    struct statvfs fs;
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf index = {0};

    if (statvfs(w->dir, &fs) == 0 && fs.f_bavail < fs.f_blocks / 5) {
        print_message("skipped: the disk is nearly full\n");
        skip();
    }
    snprintf(digest, sizeof digest, "sha256:%064d", 7);
    pull(w, "localhost/a:x");
    turns(w, 1);
    assert_true(root_there(w));
    image_store_prune(w->store, nobody);
    assert_true(root_there(w)); /* asked for just now */
    loop_fake_advance(w->loop, SECONDS(3000));
    pull(w, "localhost/a:x");
    turns(w, 2);
    loop_fake_advance(w->loop, SECONDS(3000));
    image_store_prune(w->store, nobody);
    assert_true(root_there(w)); /* the hour counts from the last time */
    loop_fake_advance(w->loop, SECONDS(3000));
    image_store_prune(w->store, somebody);
    assert_true(root_there(w));
    pull(w, "localhost/slow:x");
    loop_turn(w->loop, 0);
    image_store_prune(w->store, nobody);
    assert_true(root_there(w)); /* not while something is fetched */
    loop_fake_advance(w->loop, SECONDS(3 * 3600));
    turns(w, 3);
    image_store_prune(w->store, nobody);
    assert_false(root_there(w));
    assert_true(file_read(w->dirfd, "images/index.json", &index, &err));
    assert_string_equal(index.p, "{\"references\":{}}");
    image_store_prune(w->store, nobody);
    w->done = 0;
    pull(w, "localhost/a:x"); /* and it comes back when it is wanted */
    turns(w, 1);
    assert_true(root_there(w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_that_nobody_uses_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_registry_that_trickles_keeps_nobody_elses_image_waiting, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
