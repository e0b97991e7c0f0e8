/* Both ends of the way of a disk image from its container to the machine: the program that runs there, and the launcher's side with the
 * storage room behind it. */
#include "base/base_test.h"
#include "launcher/images.h"
#include "storage/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/types.h"
#include "base/cleanup.h"
#include "base/file.h"

static const char *program; /* the one under test */

struct place {
    char dir[64];
    struct loop *loop;
    struct images *images;
    struct storage_place at;
    int sockets;
};

static const char *path_of(const struct place *p, const char *name)
{
    static char text[4][256];
    static int at;

    at = (at + 1) % 4;
    snprintf(text[at], sizeof text[at], "%s/%s", p->dir, name);
    return text[at];
}

static int setup(void **state)
{
    static struct place p;
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;

    snprintf(p.dir, sizeof p.dir, "/tmp/vireo-images-XXXXXX");
    if (!mkdtemp(p.dir) || chmod(p.dir, 0755) != 0)
        return -1;
    p.loop = loop_new(NULL);
    fd = open(p.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &p;
    return file_make_dirs(fd, "sockets", 0755, &p.sockets, &err)
                   && file_make_dirs(fd, "public", 0755, &p.at.public_dirfd, &err)
                   && file_make_dirs(fd, "private", 0755, &p.at.private_dirfd, &err)
                   && file_make_dirs(fd, "ephemeral", 0755, &p.at.ephemeral_dirfd, &err)
               ? 0
               : -1;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct place *p = *state;

    images_free(p->images);
    p->images = NULL;
    loop_free(p->loop);
    fd_close(&p->sockets);
    fd_close(&p->at.public_dirfd);
    fd_close(&p->at.private_dirfd);
    fd_close(&p->at.ephemeral_dirfd);
    return file_remove_tree(AT_FDCWD, p->dir, &err) ? 0 : -1;
}

static void listen_now(struct place *p)
{
    AUTO(error_clear) struct error err = {0};

    p->images = images_new(p->loop, p->sockets, &err);
    if (!p->images)
        fail_msg("%s", error_text(&err));
}

/* The program in its container, which is a chroot where `jail` is given. */
static pid_t run(const char *jail, const char *exe, const char *const *argv)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (jail && (chroot(jail) != 0 || chdir("/") != 0))
            _exit(99);
        execv(exe, (char *const *)argv);
        _exit(98);
    }
    assert_true(pid > 0);
    return pid;
}

static pid_t serve(struct place *p, const char *name, const char *root)
{
    const char *const argv[] = {
        "container-disk", "serve", name, path_of(p, "sockets/" KV_IMAGE_SOCKET), root, NULL};

    return run(NULL, program, argv);
}

/* The exit status; -1: it still runs after so many milliseconds. */
static int status_within(pid_t pid, int ms)
{
    int status;

    for (int waited = 0;; waited += 5) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
        if (waited >= ms)
            return -1;
        usleep(5000);
    }
}

static void end(struct place *p, pid_t pid)
{
    images_free(p->images);
    p->images = NULL;
    assert_int_equal(status_within(pid, 20000), 0);
}

static void arrives(struct place *p, const char *name)
{
    AUTO(error_clear) struct error err = {0};
    struct str names[] = {str_of(name)};

    if (!images_wait(p->images, names, 1, SECONDS(20), &err))
        fail_msg("%s", error_text(&err));
    assert_true(images_root(p->images, names[0]) >= 0);
}

static void put(struct place *p, const char *path, const char *text)
{
    int fd = open(path_of(p, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void folder(struct place *p, const char *path)
{
    assert_int_equal(mkdir(path_of(p, path), 0755), 0);
}

static const struct kv_virtual_machine_instance *machine(struct arena *a, const char *path)
{
    AUTO(error_clear) struct error err = {0};
    struct kv_virtual_machine_instance *vmi = ARENA_NEW(a, struct kv_virtual_machine_instance);
    const struct json *v = NULL;
    const char *text = arena_printf(
        a,
        "{\"metadata\":{\"name\":\"v\",\"uid\":\"u\"},\"spec\":{\"domain\":{\"devices\":{\"disks\":"
        "[{\"name\":"
        "\"d\"}]}},\"volumes\":[{\"name\":\"d\",\"containerDisk\":{\"image\":\"i\"%s%s%s}}]}}",
        path ? ",\"path\":\"" : "", path ? path : "", path ? "\"" : "");

    if (!json_parse(str_of(text), a, &v, &err)
        || !schema_decode(&schema_type_kv_virtual_machine_instance, v, a, vmi, &err))
        fail_msg("%s: %s", text, error_text(&err));
    return vmi;
}

/* What storage says of the image; "": it is a disk. */
static const char *prepared(struct place *p, const char *path, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};
    struct storage_image image = {STR("d"), images_root(p->images, STR("d"))};

    p->at.images = &image;
    p->at.n_images = 1;
    if (!storage_prepare(machine(a, path), &p->at, NULL, 0, a, &disks, &err))
        return arena_strdup(a, str_of(error_text(&err)));
    assert_int_equal(disks.n, 1);
    assert_string_equal(disks.p[0].backing_format, "raw");
    assert_int_equal(fcntl(disks.p[0].backing_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    return "";
}

static void a_disk_comes_out_of_its_container(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct place *p = *state;
    pid_t pid;

    folder(p, "image");
    folder(p, "image/disk");
    put(p, "image/disk/any.img", "a disk");
    pid = serve(p, "d", path_of(p, "image")); /* before anybody listens: it waits */
    assert_int_equal(status_within(pid, 100), -1);
    listen_now(p);
    arrives(p, "d");
    assert_string_equal(prepared(p, NULL, &a), "");
    assert_string_equal(prepared(p, "/disk/any.img", &a), "");
    end(p, pid);
}

/* The same words as where images are volumes: it is the same code. */
static void what_is_wrong_with_an_image_is_told(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct place *p = *state;
    pid_t pid;

    folder(p, "image");
    pid = serve(p, "d", path_of(p, "image"));
    listen_now(p);
    arrives(p, "d");
    assert_string_equal(
        prepared(p, NULL, &a),
        "volume 'd': the image has no folder /disk: open disk: No such file or directory");
    folder(p, "image/disk");
    assert_string_equal(prepared(p, NULL, &a), "volume 'd': the image's folder /disk has no file");
    folder(p, "image/disk/d");
    assert_string_equal(prepared(p, NULL, &a), "volume 'd': disk/d is not a regular file");
    put(p, "image/disk/e", "x");
    assert_string_equal(prepared(p, NULL, &a),
                        "volume 'd': the image's folder /disk has more than one file");
    assert_string_equal(prepared(p, "/other", &a),
                        "volume 'd': open other: No such file or directory");
    assert_int_equal(symlink("/etc/hostname", path_of(p, "image/link")), 0);
    assert_string_equal(prepared(p, "/link", &a),
                        "volume 'd': open link: Too many levels of symbolic links");
    assert_int_equal(symlink("../..", path_of(p, "image/up")), 0);
    assert_string_equal(prepared(p, "/up/etc/hostname", &a),
                        "volume 'd': open up/etc/hostname: Too many levels of symbolic links");
    assert_string_equal(prepared(p, "../../etc/hostname", &a),
                        "volume 'd': open ../../etc/hostname: Invalid cross-device link");
    assert_int_equal(mkfifo(path_of(p, "image/fifo"), 0644), 0);
    assert_string_equal(prepared(p, "/fifo", &a), "volume 'd': fifo is not a regular file");
    end(p, pid);
}

/* /proc, /dev and the pod's volumes are mounted in the container, too, and are none of the image. */
static void what_is_mounted_in_the_container_is_not_the_images(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct place *p = *state;
    pid_t pid = serve(p, "d", "/");

    listen_now(p);
    arrives(p, "d");
    assert_string_equal(prepared(p, "/proc/self/status", &a),
                        "volume 'd': open proc/self/status: Invalid cross-device link");
    assert_string_equal(prepared(p, "/proc/version", &a),
                        "volume 'd': open proc/version: Invalid cross-device link");
    end(p, pid);
}

static void who_ends_it_and_when(void **state)
{
    struct place *p = *state;
    pid_t pid;

    folder(p, "image");
    pid = serve(p, "d", path_of(p, "image"));
    usleep(50000);
    kill(pid, SIGTERM); /* the pod goes before there was a launcher */
    assert_int_equal(status_within(pid, 20000), 0);
    pid = serve(p, "d", path_of(p, "image"));
    listen_now(p);
    arrives(p, "d");
    kill(pid, SIGTERM); /* the guest is still shutting down */
    assert_int_equal(status_within(pid, 200), -1);
    end(p, pid);
    /* Who comes after the launcher has ended: its socket is there, and nobody listens. */
    assert_int_equal(status_within(serve(p, "d", path_of(p, "image")), 20000), 0);
    assert_int_equal(status_within(serve(p, "d", path_of(p, "none")), 20000), 1);
    assert_int_equal(status_within(serve(p, "", path_of(p, "image")), 20000), 1);
    assert_int_equal(
        status_within(run(NULL, program, (const char *const[]){"x", "serve", NULL}), 20000), 2);
}

static void a_name_is_taken_once(void **state)
{
    struct place *p = *state;
    struct stat first, now;
    pid_t one, two;

    folder(p, "image");
    folder(p, "other");
    listen_now(p);
    one = serve(p, "d", path_of(p, "image"));
    arrives(p, "d");
    assert_int_equal(fstat(images_root(p->images, STR("d")), &first), 0);
    two = serve(p, "d", path_of(p, "other"));
    for (int i = 0; i < 200 && status_within(two, 0) < 0; i++)
        loop_turn(p->loop, MILLIS(10));
    assert_int_equal(fstat(images_root(p->images, STR("d")), &now), 0);
    assert_int_equal(first.st_ino, now.st_ino);
    end(p, one);
}

/* What anybody in the pod may send. Each is answered by the end of the connection. */
static void refusals(void **state)
{
    static const struct {
        const char *name;
        size_t n_fds;
        const char *file;
        bool taken;
    } rows[] = {
        {"good", 1, "/", true},       {"none", 0, NULL, false},        {"two", 2, "/", false},
        {"a/b", 1, "/", false},       {"file", 1, "/dev/null", false}, {"", 1, "/", false},
        {"new\nline", 1, "/", false},
    };
    struct place *p = *state;
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    listen_now(p);
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path_of(p, "sockets/" KV_IMAGE_SOCKET));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        AUTO_CLOSE int file = open(rows[i].file ? rows[i].file : "/", O_RDONLY | O_CLOEXEC);
        union {
            struct cmsghdr head;
            char bytes[CMSG_SPACE(sizeof(int) * 2)];
        } control = {0};
        struct iovec text = {(char *)rows[i].name, strlen(rows[i].name)};
        struct msghdr m = {
            .msg_iov = &text, .msg_iovlen = 1, .msg_control = rows[i].n_fds ? &control : NULL};
        int both[2] = {file, file};
        char byte = '?';
        ssize_t n = -1;

        m.msg_controllen = rows[i].n_fds ? CMSG_SPACE(sizeof(int) * rows[i].n_fds) : 0;
        control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * rows[i].n_fds),
                                        .cmsg_level = SOL_SOCKET,
                                        .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), both, sizeof(int) * rows[i].n_fds);
        assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof sun), 0);
        assert_true(sendmsg(fd, &m, 0) >= 0);
        for (int k = 0; k < 200 && n < 0; k++) {
            loop_turn(p->loop, MILLIS(10));
            n = recv(fd, &byte, 1, 0);
        }
        if (rows[i].taken != (n == 1 && byte == '+') || (!rows[i].taken && n != 0))
            fail_msg("row %zu: %zd", i, n);
        assert_int_equal(images_root(p->images, str_of(rows[i].name)) >= 0, rows[i].taken);
    }
    /* More connections than there is room for are ended, and those that end make room. */
    for (int round = 0; round < 2; round++) {
        int fds[IMAGES_MAX + 5];

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
            fds[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            assert_int_equal(connect(fds[i], (struct sockaddr *)&sun, sizeof sun), 0);
            loop_turn(p->loop, MILLIS(1));
        }
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
            close(fds[i]);
        for (int i = 0; i < 200; i++)
            loop_turn(p->loop, 0);
    }
    assert_true(images_root(p->images, STR("good")) >= 0);
}

static void what_does_not_come_is_named(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct place *p = *state;
    struct str names[] = {STR("there"), STR("missing")};
    pid_t pid;

    folder(p, "image");
    pid = serve(p, "there", path_of(p, "image"));
    listen_now(p);
    assert_false(images_wait(p->images, names, 2, SECONDS(1), &err));
    assert_int_equal(err.kind, ERROR_UNAVAILABLE);
    assert_string_equal(error_text(&err), "the container of image 'missing' has not handed it over "
                                          "within 1 s: see that container's status in the pod");
    assert_true(images_root(p->images, STR("there")) >= 0);
    end(p, pid);
}

/* As in an image made from scratch: the copy that the first container of a pod makes is all that there is. */
static void it_needs_nothing_but_itself(void **state)
{
    struct place *p = *state;
    const char *const install[] = {"x", "install", path_of(p, "image/container-disk"), NULL};
    const char *const argv[] = {"x", "serve", "d", "/s/" KV_IMAGE_SOCKET, NULL};
    AUTO(error_clear) struct error err = {0};
    struct stat st;
    pid_t pid;

    folder(p, "image");
    for (int i = 0; i < 2; i++) /* a pod's first containers may run again */
        assert_int_equal(status_within(run(NULL, program, install), 20000), 0);
    assert_int_equal(stat(install[2], &st), 0);
    assert_int_equal(st.st_mode & 07777, 0555);
    assert_true(st.st_size < 16384);
    assert_int_equal(
        status_within(
            run(NULL, program, (const char *const[]){"x", "install", "/nowhere/at/all", NULL}),
            20000),
        1);
    if (geteuid() != 0)
        skip();
    folder(p, "image/s");
    fd_close(&p->sockets);
    if (!file_open_dir(AT_FDCWD, path_of(p, "image/s"), &p->sockets, &err))
        fail_msg("%s", error_text(&err));
    listen_now(p);
    pid = run(path_of(p, "image"), "/container-disk", argv);
    arrives(p, "d");
    end(p, pid);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_disk_comes_out_of_its_container, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_wrong_with_an_image_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_mounted_in_the_container_is_not_the_images, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_ends_it_and_when, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_taken_once, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_come_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(it_needs_nothing_but_itself, setup, teardown),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: container-disk-test PROGRAM\n");
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
