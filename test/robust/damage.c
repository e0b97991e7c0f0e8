/* A damaged database: bits flipped, pieces cut off, files gone, in every page of the database and of its log. It must be
 * refused with its name, or hold exactly what it held: a bit that nobody reads may flip. */
#include "base/log.h"
#include "disk.h"
#include "seams.h"
#include "store/testing.h"
#include <errno.h>

enum { OBJECTS = 260, TTLS = 20 };

static struct bench_dir dir;
static struct loop *loop;
static struct disk_image *closed, *killed; /* after an orderly end, and after none: with a log */
static int64_t newest;
static struct {
    int64_t revision;
    char *text;
} held[OBJECTS];

static const char *key_name(int i, char buf[64])
{
    snprintf(buf, 64, "/registry/core/%s/d/%03d", i < TTLS ? "events" : "pods", i);
    return buf;
}

static char *text_of(struct store *s, int i, int64_t *ret_revision)
{
    AUTO(buf_done) struct buf b = {0};
    char key[64];
    struct store_object *o = store_get(s, str_of(key_name(i, key)));

    if (!o)
        return NULL;
    store_object_text(o, &b);
    *ret_revision = store_object_revision(o);
    store_object_unref(o);
    return buf_detach(&b);
}

static void run(struct store *s)
{
    while (thread_turn(s) || loop_turn(loop, 0)) {
    }
}

static void write_all(struct store *s, int from, int to)
{
    for (int i = from; i < to; i++) {
        AUTO(error_clear) struct error err = {0};
        struct answer a;
        char key[64];

        assert_true(start_put(s, key_name(i, key), "v", i % 9 ? 700 : 9000, 0, &a, &err));
        if (i < TTLS)
            assert_true(store_ttl_set(s, str_of(key), SECONDS(100000), &err));
        run(s);
        assert_true(a.ok);
    }
}

static void make_images(void)
{
    struct store *s;

    disk_reset();
    s = open_store(loop, dir.fd);
    write_all(s, 0, OBJECTS - 40);
    store_close(s);
    s = open_store(loop, dir.fd);
    write_all(s, OBJECTS - 40, OBJECTS);
    for (int i = 0; i < OBJECTS; i++)
        held[i].text = text_of(s, i, &held[i].revision);
    newest = store_revision(s);
    killed = disk_save();
    store_close(s);
    closed = disk_save();
}

/* Opens what is on the disk; true when that is all that was there. */
static bool same(struct store *s, char why[256])
{
    for (int i = 0; i < OBJECTS; i++) {
        int64_t revision = 0;
        AUTO_FREE char *text = text_of(s, i, &revision);

        /* What expires is read when it is asked for: then a damaged one is told of, and is empty. */
        if (i < TTLS && text && strcmp(text, "{}") == 0)
            continue;
        if (!text || revision != held[i].revision || strcmp(text, held[i].text) != 0) {
            snprintf(why, 256, "object %d is %s at revision %lld", i,
                     text ? "other text" : "absent", (long long)revision);
            return false;
        }
    }
    return store_revision(s) == newest && store_count(s, STR("/")) == OBJECTS;
}

static bool opens(const char *what, int64_t at)
{
    AUTO(error_clear) struct error err = {0};
    struct store *s = store_open(&(struct store_config){.loop = loop, .dirfd = dir.fd}, &err);
    char why[256] = "revision or count";
    bool ok;

    if (!s) {
        if (!strstr(err.msg, "state.db") || strlen(err.msg) < 30)
            fail_msg("%s at %lld: refused with '%s'", what, (long long)at, err.msg);
        return false;
    }
    ok = same(s, why);
    store_close(s);
    if (!ok)
        fail_msg("%s at %lld: opened with other content: %s", what, (long long)at, why);
    return true;
}

static void start_from(const struct disk_image *image)
{
    AUTO_CLOSE int lock = -1;

    disk_load(image);
    lock = openat(dir.fd, "state.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    mark_write(lock, newest);
}

static void flip_all(const struct disk_image *image, const char *name, int per_page)
{
    unsigned seed = 5;
    size_t size, pages;
    unsigned char *p;
    int refused = 0, n = 0;

    disk_load(image);
    assert_true(disk_file(name, &p, &size));
    pages = (size + 4095) / 4096;
    for (size_t page = 0; page < pages; page++) {
        for (int k = 0; k < per_page; k++, n++) {
            /* heads of pages are small and matter most */
            size_t at = page * 4096
                        + (k % 3 == 0 ? (size_t)rand_r(&seed) % 32 : (size_t)rand_r(&seed) % 4096);
            int bit = rand_r(&seed) % 8;

            start_from(image);
            assert_true(disk_file(name, &p, &size));
            if (at >= size)
                continue;
            p[at] ^= (unsigned char)(1 << bit);
            refused += !opens(name, (int64_t)at * 8 + bit);
        }
    }
    print_message(
        "           %s: %d bits flipped in %zu pages, %d refused, the others changed nothing\n",
        name, n, pages, refused);
    assert_true(refused > n / 10);
}

static void bits_of_the_database(void **state)
{
    (void)state;
    flip_all(closed, "state.db", getenv("VIREO_SOAK") ? 60 : 6);
}

static void bits_of_the_log(void **state)
{
    (void)state;
    flip_all(killed, "state.db-wal", getenv("VIREO_SOAK") ? 60 : 6);
}

static void cut_all(const struct disk_image *image, const char *name)
{
    size_t size;
    unsigned char *p;
    int n = 0, opened = 0;

    disk_load(image);
    assert_true(disk_file(name, &p, &size));
    for (size_t to = 0; to < size; to += size / 40 + 1, n++) {
        AUTO_FREE unsigned char *part = NULL;

        start_from(image);
        assert_true(disk_file(name, &p, &size));
        part = xmemdup(p, to + 1);
        assert_true(disk_set_file(name, part, to));
        opened += opens(name, (int64_t)to);
    }
    print_message("           %s: cut off at %d places, %d of them opened whole\n", name, n,
                  opened);
    assert_int_equal(opened, 0);
}

static void pieces_cut_off(void **state)
{
    (void)state;
    cut_all(closed, "state.db");
    cut_all(killed, "state.db-wal");
}

static void files_gone(void **state)
{
    (void)state;
    start_from(killed);
    disk_set_file("state.db-wal", NULL, 0);
    assert_false(opens("no log", 0));
    start_from(closed);
    disk_set_file("state.db", NULL, 0);
    assert_false(opens("no database", 0));
    start_from(killed);
    disk_set_file("state.db", NULL, 0);
    assert_false(opens("only a log", 0));
    /* Nobody acknowledged anything here: a first start. */
    disk_reset();
    (void)unlinkat(dir.fd, "state.lock", 0);
    store_close(open_store(loop, dir.fd));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_of_the_database),
        cmocka_unit_test(bits_of_the_log),
        cmocka_unit_test(pieces_cut_off),
        cmocka_unit_test(files_gone),
    };
    static const int64_t never;
    int fd, rc;

    disk_install();
    log_setup("damage", LOG_ERROR, false);
    seams.moment = &never;
    loop = loop_new(NULL);
    dir_make(&dir);
    fd = openat(dir.fd, "state.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1) /* the one on the disk is meant */
        return 1;
    close(fd);
    make_images();
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < OBJECTS; i++)
        free(held[i].text);
    disk_image_free(closed);
    disk_image_free(killed);
    disk_reset();
    seams_reset();
    loop_free(loop);
    dir_remove(&dir);
    return rc;
}
