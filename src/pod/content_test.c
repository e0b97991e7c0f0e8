/* What is in a pod: volumes, logs, images. */
#include "pod/pod_test.h"

static void test_volumes(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct fixture *f = *state;
    AUTO_FREE char *log = NULL;
    struct stat st;

    NEEDS_CRUN();
    image_root = xasprintf("%s/image", f->dir);
    assert_int_equal(mkdirat(f->dirfd, "image", 0755), 0);
    assert_int_equal(mkdirat(f->dirfd, "image/disk", 0755), 0);
    write_file(f, "image/disk/guest.img", "from-image\n");
    assert_int_equal(mkdirat(f->dirfd, "volumes", 0711), 0);
    assert_int_equal(mkdirat(f->dirfd, "volumes/pv-1", 0700), 0);
    write_file(f, "volumes/pv-1/disk.img", "disk");
    fake_create(f->client, "secrets", "{\"metadata\":{\"namespace\":\"default\",\"name\":\"s\"},\"data\":{\"key\":\"c2VjcmV0Cg==\"}}");
    fake_create(f->client, "configmaps",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"m\"},\"data\":{\"k\":\"from-map\\n\"}}");
    fake_create(f->client, "persistentvolumeclaims",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"c\"},\"spec\":{\"volumeName\":\"pv-1\",\"accessModes\":"
                "[\"ReadWriteOnce\"]},\"status\":{\"phase\":\"Bound\"}}");
    create_pod(f, "p", "vmi-1", "\"look\"",
               "{\"name\":\"private\",\"emptyDir\":{}},{\"name\":\"public\",\"emptyDir\":{}},{\"name\":\"s\",\"secret\":"
               "{\"secretName\":\"s\"}},{\"name\":\"m\",\"configMap\":{\"name\":\"m\",\"items\":[{\"key\":\"k\",\"path\":"
               "\"sub/file\"}]}},{\"name\":\"i\",\"image\":{\"reference\":\"x\"}},{\"name\":\"d\",\"persistentVolumeClaim\":"
               "{\"claimName\":\"c\"}}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"},{\"name\":\"public\",\"mountPath\":\"" KV_DIR_PUBLIC
               "\"},{\"name\":\"private\",\"mountPath\":\"" KV_DIR_PRIVATE "\"},{\"name\":\"s\",\"mountPath\":\"" KV_DIR_SECRET
               "/s\"},{\"name\":\"m\",\"mountPath\":\"" KV_DIR_CONFIG_MAP "/m\"},{\"name\":\"d\",\"mountPath\":\"" KV_DIR_PVC
               "/d\"}");
    await_phase(f, "p", "Failed");
    log = read_log(f, known(f, "p")->rec.uid);
    print_message("%s", log);
    assert_non_null(strstr(log, "107\n"));
    assert_non_null(strstr(log, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(log, "CapBnd:\t0000000000000000"));
    assert_non_null(strstr(log, "NoNewPrivs:\t1"));
    assert_non_null(strstr(log, "Seccomp:\t2"));
    assert_non_null(strstr(log, "secret\nfrom-map\nfrom-image\n"));
    assert_non_null(strstr(log, "written\n"));
    if (access("/dev/net/tun", R_OK | W_OK) == 0) {
        assert_non_null(strstr(log, "has-tun\n"));
        assert_null(strstr(log, "made-a-tap"));
    }
    assert_non_null(strstr(log, "refused"));
    assert_true(str_is(json_str_at(get_pod(f, "p", &a), "status/containerStatuses/0/state/terminated/message"), "told\n"));
    assert_int_equal(fstatat(f->dirfd, "volumes/pv-1/disk.img", &st, 0), 0);
    assert_int_equal(st.st_uid, UID_BASE + 1);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_int_equal(st.st_uid, 0);
}

/* ---- logs ---- */

static struct buf reply;
static int reply_fd = -1;

static void handle(struct exchange *x, void *data)
{
    struct fixture *f = data;

    if (!pod_runtime_http(f->runtime, x))
        exchange_respond(x, 404, "text/plain", STR("not its path"));
}

static bool read_reply(struct fixture *f)
{
    char bytes[4096];
    ssize_t n;

    (void)f;
    while ((n = recv(reply_fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        buf_add(&reply, bytes, (size_t)n);
    return n == 0;
}

static const char *wait_text;

static bool has_text(struct fixture *f)
{
    read_reply(f);
    return reply.n && strstr(reply.p, wait_text);
}

static void ask_log(struct http_server *server, const char *target)
{
    AUTO_FREE char *request = xasprintf("GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", target);
    struct error err = {0};
    int ends[2];

    buf_clear(&reply);
    fd_close(&reply_fd);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    reply_fd = ends[0];
    assert_true(http_server_add(server, ends[1], NULL, &err));
    assert_int_equal(write(reply_fd, request, strlen(request)), (ssize_t)strlen(request));
}

static void test_log(void **state)
{
    struct fixture *f = *state;
    struct http_server *server;
    AUTO_FREE char *path = NULL;
    AUTO_CLOSE int fd = -1;

    NEEDS_CRUN();
    server = http_server_new(&(struct http_server_config){.loop = f->loop, .handle = handle, .data = f});
    create_pod(f, "p", "vmi-1", "\"count\"", "", "");
    await_phase(f, "p", "Running");
    ask_log(server, "/v1/pods/default/p/log?follow=true&container=compute");
    wait_text = "line 3";
    turn_until(f, has_text, "what is written while it is followed");
    await_phase(f, "p", "Succeeded");
    turn_until(f, read_reply, "the end of a followed log");
    assert_non_null(strstr(reply.p, "line 1"));
    assert_non_null(strstr(reply.p, "line 6"));

    ask_log(server, "/v1/pods/default/p/log?tailLines=2");
    turn_until(f, read_reply, "tail");
    assert_null(strstr(reply.p, "line 4"));
    assert_non_null(strstr(reply.p, "line 5\nline 6\n"));

    ask_log(server, "/v1/pods/default/p/log?limitBytes=10");
    turn_until(f, read_reply, "limit");
    assert_non_null(strstr(reply.p, "line 1\nlin"));
    assert_null(strstr(reply.p, "line 2"));

    /* A file that its writer made seem endless does not keep the node process reading. */
    path = xasprintf("pods/%s/" LOG_NAME, known(f, "p")->rec.uid);
    fd = openat(f->dirfd, path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)1 << 42), 0);
    ask_log(server, "/v1/pods/default/p/log?tailLines=3&limitBytes=1");
    turn_until(f, read_reply, "tail of an endless file");
    assert_int_equal(ftruncate(fd, 0), 0);
    fd_close(&fd);

    ask_log(server, "/v1/pods/default/p/log?tailLines=x");
    turn_until(f, read_reply, "bad number");
    assert_non_null(strstr(reply.p, "400"));
    ask_log(server, "/v1/pods/default/none/log");
    turn_until(f, read_reply, "no such pod");
    assert_non_null(strstr(reply.p, "404"));
    fd_close(&reply_fd);
    buf_done(&reply);
    http_server_free(server);
}

static void test_log_is_bounded(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = NULL, *old = NULL, *text = NULL;
    struct stat st;
    int fd;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "", "");
    await_phase(f, "p", "Running");
    path = xasprintf("pods/%s/" LOG_NAME, known(f, "p")->rec.uid);
    old = xasprintf("pods/%s/" LOG_OLD_NAME, known(f, "p")->rec.uid);
    fd = openat(f->dirfd, path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, LIMIT_LOG_FILE + 4096), 0);
    assert_int_equal(write(fd, "last\n", 5), 5);
    f->runtime->log_timer.fn(&f->runtime->log_timer);
    assert_int_equal(write(fd, "next\n", 5), 5);
    close(fd);
    assert_int_equal(fstatat(f->dirfd, old, &st, 0), 0);
    assert_int_equal(st.st_size, LIMIT_LOG_FILE);
    text = read_log(f, known(f, "p")->rec.uid);
    assert_string_equal(text, "next\n");
}

static void test_image_missing(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    create_pod(f, "p", "vmi-1", "\"run\"", "{\"name\":\"i\",\"image\":{\"reference\":\"x\"}}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"}");
    wait_reason = "ErrImagePull";
    turn_until(f, has_reason, "ErrImagePull");
    image_root = xstrdup("/usr/share");
    await_phase(f, "p", "Running");
}

static bool is_synced(struct fixture *f) { return f->runtime->synced; }

/* What a running pod's record names is kept, also by a runtime that was started again; what no pod uses is not. */
static void test_images_in_use(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    image_root = xstrdup("/usr/share");
    create_pod(f, "p", "vmi-1", "\"run\"",
               "{\"name\":\"i\",\"image\":{\"reference\":\"x\"}},{\"name\":\"j\",\"image\":{\"reference\":\"x\"}}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"}");
    await_phase(f, "p", "Running");
    prune_now(f->runtime);
    assert_string_equal(pruned, "sha256:00 .");
    restart(f);
    pruned[0] = 0;
    prune_now(f->runtime); /* not before all pods are known */
    assert_string_equal(pruned, "");
    turn_until(f, is_synced, "synced");
    prune_now(f->runtime);
    assert_string_equal(pruned, "sha256:00 .");
}

/* Pull secrets of the pod's namespace: both forms count, what is missing or of another type is told and not waited for. */
static void test_pull_secrets(void **state)
{
    struct fixture *f = *state;

    NEEDS_CRUN();
    image_root = xstrdup("/usr/share");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"new\"},\"type\":\"kubernetes.io/dockerconfigjson\",\"data\":{"
                "\".dockerconfigjson\":\"eyJhdXRocyI6eyJhIjp7InVzZXJuYW1lIjoidSIsInBhc3N3b3JkIjoicCJ9fX0=\"}}");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"old\"},\"type\":\"kubernetes.io/dockercfg\",\"data\":{"
                "\".dockercfg\":\"eyJhIjp7InVzZXJuYW1lIjoieCJ9LCJiIjp7ImF1dGgiOiJ6In19\"}}");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"opaque\"},\"type\":\"Opaque\",\"data\":{"
                "\".dockerconfigjson\":\"eyJhdXRocyI6eyJjIjp7fX19\"}}");
    fake_create(f->client, "secrets",
                "{\"metadata\":{\"namespace\":\"default\",\"name\":\"broken\"},\"type\":\"kubernetes.io/dockerconfigjson\",\"data\":{"
                "\".dockerconfigjson\":\"e3t7\"}}");
    create_pod(f, "p", "vmi-1", "\"run\"",
               "{\"name\":\"i\",\"image\":{\"reference\":\"x\"}}],\"imagePullSecrets\":[{\"name\":\"new\"},{\"name\":\"missing\"},"
               "{\"name\":\"opaque\"},{\"name\":\"broken\"},{\"name\":\"old\"}",
               "{\"name\":\"i\",\"mountPath\":\"" KV_DIR_CONTAINER_DISK "/i\"}");
    await_phase(f, "p", "Running");
    assert_string_equal(image_auths, "{\"a\":{\"username\":\"u\",\"password\":\"p\"},\"b\":{\"auth\":\"z\"}}");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_volumes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_image_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_images_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pull_secrets, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
