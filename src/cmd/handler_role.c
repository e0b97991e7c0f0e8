/* vireo handler: the node agent of a cluster's node. The pods are the kubelet's, the launchers in them are ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/role.h"
#include "handler/handler.h"

#define PODS "/var/lib/kubelet/pods"
#define NOBODY 65534

static const char usage[] =
    "usage: vireo handler --node-name NAME [--pods-dir DIR] [options]\n"
    "The node agent of one node of a Kubernetes cluster. Being built: not for use yet.\n\n"
    "  --node-name NAME    the Node that this machine is\n"
    "  --pods-dir DIR      the kubelet's pods (" PODS ")\n" ROLE_FLAGS_USAGE;

struct options {
    struct role_flags common;
    const char *node_name, *pods_dir;
};

static bool parse(int argc, char **argv, struct options *o)
{
    const struct role_option own[] = {
        {.name = "node-name", .text = &o->node_name}, {.name = "pods-dir", .text = &o->pods_dir}, {0}};

    *o = (struct options){.pods_dir = PODS};
    return role_parse(argc, argv, &o->common, own) && o->node_name && o->node_name[0];
}

static char *boot_id(void)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};

    buf_init(&text, 64);
    if (!file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, &err))
        log_warning(NULL, "%s: reboots will not be noticed, ignoring", error_text(&err));
    return str_dup(str_trim(buf_str(&text)));
}

static bool run(const struct options *o, struct role *r, struct error *err)
{
    AUTO_FREE char *boot = boot_id();
    const struct host_options host = {.boot_id = boot, .uid = NOBODY, .dirfd = -1};
    AUTO_CLOSE int pods = -1;
    struct handler *h;

    if (geteuid() != 0)
        return error_set(err, ERROR_FORBIDDEN, "it has to be root: it enters the network namespaces of pods");
    if (!file_open_dir(AT_FDCWD, o->pods_dir, &pods, err))
        return error_wrap(err, "the kubelet's pods, --pods-dir %s", o->pods_dir);
    if (!role_open(r, &o->common, "vireo-handler/" VIREO_VERSION, err))
        return false;
    h = handler_new(
        &(struct handler_config){
            .client = r->client, .node_name = o->node_name, .pods_dirfd = pods, .boot_id = boot, .host = &host},
        err);
    if (!h)
        return false;
    if (!role_serve(r, &(struct role_server){.trust_ca = true}, err)) {
        handler_free(h);
        return false;
    }
    handler_start(h);
    loop_run(r->loop);
    handler_free(h);
    return true;
}

int handler_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct role role = {0};
    struct options o;
    bool ok;

    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    log_setup("handler", o.common.debug ? LOG_DEBUG : LOG_INFO, o.common.json);
    ok = run(&o, &role, &err);
    role_close(&role);
    if (!ok)
        fprintf(stderr, "vireo handler: %s\n", error_text(&err));
    return ok ? 0 : 1;
}
