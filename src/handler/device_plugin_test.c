/* Device plugins against a scripted kubelet: a directory of its own, a /dev of files that are links to /dev/null. */
#include "base/base_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "handler/device_plugin.h"
#include "handler/grpc.h"
#include "http/server.h"
#include "json/proto.h"

#define PLUGIN "/v1beta1.DevicePlugin/"

struct watch {
    struct http_client *client;
    struct http_call *call;
    char *resource;
    struct buf in;
    unsigned lists;          /* that have come */
    unsigned devices, healthy; /* of the last */
    bool over;
};

static struct {
    struct loop *loop;
    char dir[40], root[48], kubelet_dir[64];
    struct http_server *kubelet;
    struct device_plugins *plugins;
    struct watch watches[16];
    unsigned registered, changed;
    int refuse; /* so many registrations */
    char bad[128];
} w;

static bool pump_until(bool (*cond)(void))
{
    for (int i = 0; i < 3000 && !cond(); i++)
        loop_turn(w.loop, MILLIS(10));
    return cond();
}

/* --- the kubelet ----------------------------------------------------------------------------------------------------------------- */

static void take_list(struct watch *v, struct str message)
{
    AUTO(error_clear) struct error err = {0};
    struct proto_field f;

    v->devices = v->healthy = 0;
    for (struct proto_reader r = {message}; proto_next(&r, &f, &err);) {
        struct proto_field g;

        v->devices++;
        for (struct proto_reader inner = {f.bytes}; proto_next(&inner, &g, &err);)
            v->healthy += g.number == 2 && str_is(g.bytes, "Healthy");
    }
    assert_int_equal(err.kind, ERROR_NONE);
    v->lists++;
}

static void on_list_data(void *user, struct str data)
{
    struct watch *v = user;
    const unsigned char *p;

    buf_addstr(&v->in, data);
    for (;;) {
        size_t n;

        p = (const unsigned char *)v->in.p;
        if (v->in.n < 5)
            return;
        n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (v->in.n < 5 + n)
            return;
        take_list(v, str_n(v->in.p + 5, n));
        buf_consume(&v->in, 5 + n);
    }
}

static void on_list_done(void *user, int status, struct str body, const struct error *err)
{
    (void)status;
    (void)body;
    (void)err;
    ((struct watch *)user)->over = true;
    ((struct watch *)user)->call = NULL;
}

static void call_back(struct str endpoint, struct str resource)
{
    struct watch *v = &w.watches[w.registered++ % 16];
    char path[128];

    snprintf(path, sizeof path, "%s/" STR_FMT, w.kubelet_dir, STR_ARG(endpoint));
    *v = (struct watch){.resource = str_dup(resource)};
    v->client = http_client_new(&(struct http_client_config){.loop = w.loop, .unix_path = path});
    v->call = http_client_call(v->client, &(struct http_request){.method = HTTP_POST, .path = STR(PLUGIN "ListAndWatch"),
                                                                 .body = {"\0\0\0\0\0", 5}, .content_type = STR("application/grpc"),
                                                                 .stream = true, .timeout_ns = -1, .data = on_list_data,
                                                                 .done = on_list_done, .user = v});
}

static void on_kubelet(struct exchange *x, void *data)
{
    AUTO(error_clear) struct error err = {0};
    struct str message, fields[4] = {{0}};
    struct proto_field f;

    (void)data;
    assert_true(grpc_accept(x));
    assert_string_equal(x->path.p, "/v1beta1.Registration/Register");
    assert_true(grpc_message(x->body, &message, &err));
    if (w.refuse > 0) {
        w.refuse--;
        grpc_refuse(x, GRPC_FAILED_PRECONDITION, "not now");
        return;
    }
    for (struct proto_reader r = {message}; proto_next(&r, &f, &err);)
        if (f.number < 4)
            fields[f.number] = f.bytes;
    if (!str_is(fields[1], "v1beta1"))
        snprintf(w.bad, sizeof w.bad, "version " STR_FMT, STR_ARG(fields[1]));
    call_back(fields[2], fields[3]);
    grpc_answer(x, STR(""));
}

static void start_kubelet(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    AUTO(error_clear) struct error err = {0};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(un.sun_path, sizeof un.sun_path, "%s/kubelet.sock", w.kubelet_dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 16), 0);
    w.kubelet = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = on_kubelet, .any_authority = true});
    assert_true(http_server_listen(w.kubelet, fd, NULL, &err));
}

static void stop_kubelet(void)
{
    for (size_t i = 0; i < 16; i++) {
        if (w.watches[i].call)
            http_call_cancel(w.watches[i].call);
        http_client_free(w.watches[i].client);
        buf_done(&w.watches[i].in);
        free(w.watches[i].resource);
        w.watches[i] = (struct watch){0};
    }
    w.registered = 0;
    http_server_free(w.kubelet);
    w.kubelet = NULL;
}

static struct watch *watch_of(const char *name)
{
    struct watch *found = NULL;

    for (size_t i = 0; i < 16; i++)
        if (w.watches[i].resource && strcmp(w.watches[i].resource + strlen("devices.kubevirt.io/"), name) == 0 && !w.watches[i].over)
            found = &w.watches[i];
    return found;
}

/* --- the world ------------------------------------------------------------------------------------------------------------------- */

static void add_device(const char *node)
{
    AUTO_FREE char *path = xasprintf("%s%s", w.root, node);

    assert_int_equal(symlink("/dev/null", path), 0);
}

static void remove_device(const char *node)
{
    AUTO_FREE char *path = xasprintf("%s%s", w.root, node);

    assert_int_equal(unlink(path), 0);
}

static void on_changed(void *user)
{
    (void)user;
    w.changed++;
}

static void start_plugins(void)
{
    AUTO(error_clear) struct error err = {0};

    w.plugins = device_plugins_new(&(struct device_plugins_config){.loop = w.loop, .dir = w.kubelet_dir, .host_root = w.root,
                                                                    .max_devices = 3, .changed = on_changed}, &err);
    assert_string_equal(error_text(&err), error_text(&(struct error){0}));
    assert_non_null(w.plugins);
}

static int setup(void **state)
{
    AUTO_FREE char *dev = NULL;

    (void)state;
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/device-plugin-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.root, sizeof w.root, "%s/root", w.dir);
    snprintf(w.kubelet_dir, sizeof w.kubelet_dir, "%s/kubelet", w.dir);
    dev = xasprintf("mkdir -p %s/dev/net %s", w.root, w.kubelet_dir);
    assert_int_equal(system(dev), 0);
    w.loop = loop_new(NULL);
    add_device("/dev/kvm");
    add_device("/dev/net/tun");
    start_kubelet();
    return 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    device_plugins_free(w.plugins);
    stop_kubelet();
    loop_free(w.loop);
    assert_true(file_remove_tree(AT_FDCWD, w.dir, &err));
    return 0;
}

static bool all_watched(void)
{
    static const char *const names[] = {"kvm", "tun", "vhost-net", "vhost-vsock"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!watch_of(names[i]) || !watch_of(names[i])->lists)
            return false;
    return true;
}

static void expect(const char *name, unsigned healthy)
{
    assert_non_null(watch_of(name));
    assert_int_equal(watch_of(name)->devices, 3);
    assert_int_equal(watch_of(name)->healthy, healthy);
}

/* --- tests ----------------------------------------------------------------------------------------------------------------------- */

static void every_device_is_told_with_its_health(void **state)
{
    (void)state;
    start_plugins();
    assert_false(device_plugins_ready(w.plugins));
    assert_true(pump_until(all_watched));
    assert_string_equal(w.bad, "");
    assert_true(device_plugins_ready(w.plugins));
    assert_int_equal(w.registered, 4);
    expect("kvm", 0); /* nobody has said yet that it works */
    expect("tun", 3);
    expect("vhost-net", 0); /* the host has none: registered, and nothing healthy */
    expect("vhost-vsock", 0);
}

static bool kvm_healthy(void)
{
    return watch_of("kvm")->healthy == 3;
}
static bool kvm_ill(void)
{
    return watch_of("kvm")->healthy == 0;
}

static void a_verdict_changes_health(void **state)
{
    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    device_plugins_judge(w.plugins, "kvm", NULL);
    assert_true(pump_until(kvm_healthy));
    device_plugins_judge(w.plugins, "kvm", "guests hang in it");
    assert_true(pump_until(kvm_ill));
    expect("tun", 3);
    assert_int_equal(watch_of("kvm")->lists, 3);
    device_plugins_judge(w.plugins, "kvm", "guests hang in another way");
    for (int i = 0; i < 10; i++)
        loop_turn(w.loop, MILLIS(1));
    assert_int_equal(watch_of("kvm")->lists, 3); /* nothing new for the kubelet */
}

static bool vhost_healthy(void)
{
    return watch_of("vhost-net")->healthy == 3;
}
static bool tun_ill(void)
{
    return watch_of("tun")->healthy == 0;
}

static void devices_come_and_go(void **state)
{
    unsigned before;

    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    before = w.changed;
    add_device("/dev/vhost-net");
    assert_true(pump_until(vhost_healthy));
    remove_device("/dev/net/tun");
    assert_true(pump_until(tun_ill));
    assert_true(w.changed >= before + 2);
}

static bool registered_twice(void)
{
    return w.registered == 8 && all_watched();
}

/* As a kubelet does when it starts: all sockets are removed, its own comes. */
static void a_kubelet_that_starts_again_is_registered_with_again(void **state)
{
    AUTO_FREE char *clean = xasprintf("rm -f %s/*", w.kubelet_dir);

    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    stop_kubelet();
    assert_int_equal(system(clean), 0);
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_false(device_plugins_ready(w.plugins));
    start_kubelet();
    assert_true(pump_until(all_watched));
    assert_true(device_plugins_ready(w.plugins));
    expect("tun", 3);
}

static void a_kubelet_that_refuses_is_asked_again(void **state)
{
    (void)state;
    w.refuse = 2;
    start_plugins();
    assert_true(pump_until(all_watched)); /* after a second */
    assert_int_equal(w.registered, 4);
}

static void a_lost_stream_leads_to_another_registration(void **state)
{
    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    for (size_t i = 0; i < 4; i++) {
        http_call_cancel(w.watches[i].call);
        w.watches[i].call = NULL;
        w.watches[i].over = true;
    }
    assert_true(pump_until(registered_twice));
}

/* --- calls ----------------------------------------------------------------------------------------------------------------------- */

struct reply {
    bool done;
    struct buf text;
    char error[256];
};

static void on_reply(void *user, struct str answer, const struct error *err)
{
    struct reply *r = user;

    r->done = true;
    if (answer.n)
        buf_addstr(&r->text, answer);
    if (err->kind != ERROR_NONE)
        snprintf(r->error, sizeof r->error, "%s", error_text(err));
}

static struct reply call(const char *plugin, const char *method, struct str message)
{
    AUTO_FREE char *unix_path = xasprintf("%s/kubevirt-%s.sock", w.kubelet_dir, plugin);
    AUTO_FREE char *path = xasprintf(PLUGIN "%s", method);
    struct http_client *c = http_client_new(&(struct http_client_config){.loop = w.loop, .unix_path = unix_path});
    struct reply r = {0};

    assert_non_null(grpc_call(c, path, message, SECONDS(20), on_reply, &r));
    for (int i = 0; i < 2000 && !r.done; i++)
        loop_turn(w.loop, MILLIS(10));
    assert_true(r.done);
    http_client_free(c);
    return r;
}

/* {1: {1: id, 1: id …}} */
static void request(struct buf *out, const char *const *ids)
{
    AUTO(buf_done) struct buf one = {0};

    for (; *ids; ids++)
        proto_bytes(&one, 1, str_of(*ids));
    proto_bytes(out, 1, buf_str(&one));
}

static void allocations_give_the_node_of_the_device(void **state)
{
    AUTO(buf_done) struct buf two = {0}, wrong = {0}, spec = {0}, want = {0}, one = {0};
    struct reply r;

    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    request(&two, (const char *const[]){"tun0", NULL});
    request(&two, (const char *const[]){"tun1", "tun2", NULL});
    r = call("tun", "Allocate", buf_str(&two));
    assert_string_equal(r.error, "");
    proto_bytes(&spec, 1, STR("/dev/net/tun"));
    proto_bytes(&spec, 2, STR("/dev/net/tun"));
    proto_bytes(&spec, 3, STR("rw"));
    proto_bytes(&one, 3, buf_str(&spec));
    proto_bytes(&want, 1, buf_str(&one));
    proto_bytes(&want, 1, buf_str(&one));
    assert_int_equal(r.text.n, want.n);
    assert_memory_equal(r.text.p, want.p, want.n);
    buf_done(&r.text);

    request(&wrong, (const char *const[]){"tun3", NULL});
    r = call("tun", "Allocate", buf_str(&wrong));
    assert_string_equal(r.error, "gRPC status 3: no such device of devices.kubevirt.io/tun");
    r = call("tun", "Allocate", STR("\x0a\x05"));
    assert_string_equal(r.error, "gRPC status 3: protobuf: field 1 ends behind the message");
    r = call("tun", "Allocate", STR("\x08\x05"));
    assert_string_equal(r.error, "gRPC status 3: container_requests is no message");
}

static void what_is_ill_is_not_allocated(void **state)
{
    AUTO(buf_done) struct buf kvm = {0}, vsock = {0};
    struct reply r;

    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    request(&kvm, (const char *const[]){"kvm0", NULL});
    request(&vsock, (const char *const[]){"vhost-vsock0", NULL});
    device_plugins_judge(w.plugins, "kvm", "guests hang in it");
    r = call("kvm", "Allocate", buf_str(&kvm));
    assert_string_equal(r.error, "gRPC status 9: /dev/kvm of this node cannot be used: guests hang in it");
    r = call("vhost-vsock", "Allocate", buf_str(&vsock));
    assert_string_equal(r.error, "gRPC status 9: /dev/vhost-vsock of this node is not there");
}

static void the_other_methods_answer(void **state)
{
    AUTO(buf_done) struct buf prefer = {0}, one = {0}, want = {0}, inner = {0};
    struct reply r;

    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    r = call("tun", "GetDevicePluginOptions", STR(""));
    assert_string_equal(r.error, "");
    assert_int_equal(r.text.n, 0);
    r = call("tun", "PreStartContainer", STR(""));
    assert_string_equal(r.error, "");
    r = call("tun", "Explode", STR(""));
    assert_string_equal(r.error, "gRPC status 12: no such method");
    proto_bytes(&one, 1, STR("tun0"));
    proto_bytes(&one, 1, STR("tun1"));
    proto_bytes(&one, 2, STR("tun2"));
    proto_varint(&one, 3, 2);
    proto_bytes(&prefer, 1, buf_str(&one));
    r = call("tun", "GetPreferredAllocation", buf_str(&prefer));
    assert_string_equal(r.error, "");
    proto_bytes(&inner, 1, STR("tun2"));
    proto_bytes(&inner, 1, STR("tun0"));
    proto_bytes(&want, 1, buf_str(&inner));
    assert_int_equal(r.text.n, want.n);
    assert_memory_equal(r.text.p, want.p, want.n);
    buf_done(&r.text);
}

static void an_end_leaves_no_socket(void **state)
{
    AUTO_FREE char *left = xasprintf("test \"$(ls %s)\" = kubelet.sock", w.kubelet_dir);

    (void)state;
    start_plugins();
    assert_true(pump_until(all_watched));
    device_plugins_free(w.plugins);
    w.plugins = NULL;
    assert_int_equal(system(left), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_device_is_told_with_its_health, setup, teardown),
        cmocka_unit_test_setup_teardown(a_verdict_changes_health, setup, teardown),
        cmocka_unit_test_setup_teardown(devices_come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kubelet_that_starts_again_is_registered_with_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kubelet_that_refuses_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_stream_leads_to_another_registration, setup, teardown),
        cmocka_unit_test_setup_teardown(allocations_give_the_node_of_the_device, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_ill_is_not_allocated, setup, teardown),
        cmocka_unit_test_setup_teardown(the_other_methods_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_leaves_no_socket, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
