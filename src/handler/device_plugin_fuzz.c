/* A device plugin's socket that is told arbitrary bytes: HTTP/2, gRPC and protobuf. The first byte says whether they are a whole
 * connection, or the message of a call that is well made. */
#include "base/cleanup.h"
#include "handler/device_plugin.h"
#include "handler/grpc.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct loop *loop;
static struct device_plugins *plugins;
static struct http_client *client;
static char dir[64], path[96];
static bool done;

static void remove_all(void)
{
    device_plugins_free(plugins);
    http_client_free(client);
    rmdir(dir);
}

static void set_up(void)
{
    AUTO(error_clear) struct error err = {0};

    loop = loop_new(NULL);
    snprintf(dir, sizeof dir, "/tmp/device-plugin-fuzz-%d", (int)getpid());
    if (mkdir(dir, 0700) != 0)
        abort();
    plugins = device_plugins_new(&(struct device_plugins_config){.loop = loop, .dir = dir, .host_root = "", .max_devices = 4}, &err);
    if (!plugins)
        abort();
    device_plugins_judge(plugins, "kvm", NULL);
    snprintf(path, sizeof path, "%s/kubevirt-kvm.sock", dir);
    client = http_client_new(&(struct http_client_config){.loop = loop, .unix_path = path});
    atexit(remove_all);
}

static void on_done(void *user, struct str answer, const struct error *err)
{
    (void)user;
    assert(err->kind != ERROR_NONE || answer.n < (1u << 20));
    done = true;
}

static void call(struct str message)
{
    static const char *const methods[] = {"/v1beta1.DevicePlugin/Allocate", "/v1beta1.DevicePlugin/GetPreferredAllocation"};

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        done = false;
        grpc_call(client, methods[i], message, SECONDS(20), on_done, NULL);
        while (!done)
            loop_turn(loop, MILLIS(50));
    }
}

static void talk(const uint8_t *p, size_t n)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&un, sizeof un) != 0)
        abort();
    send(fd, p, n / 2, MSG_NOSIGNAL);
    loop_turn(loop, 0);
    send(fd, p + n / 2, n - n / 2, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
    close(fd);
    for (int i = 0; i < 2; i++)
        loop_turn(loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (!loop)
        set_up();
    if (n == 0)
        return 0;
    if (p[0] & 1)
        call(str_n((const char *)p + 1, n - 1));
    else
        talk(p + 1, n - 1);
    return 0;
}
