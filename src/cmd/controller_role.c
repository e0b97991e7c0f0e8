/* vireo controller: the controllers, against a Kubernetes API server that is somewhere else. */
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"
#include "client/lease.h"
#include "cmd/role.h"
#include "controller/controller.h"

#define RELEASE_PATIENCE SECONDS(2)

static const char usage[] =
    "usage: vireo controller --launcher-image IMAGE [--kubeconfig FILE] [--namespace NS] [--debug] [--log-json]\n"
    "The controllers of a Kubernetes cluster. Of several one works at a time, by the Lease virt-controller in NS (kubevirt).\n"
    "Being built: not for use yet.\n";

struct options {
    const char *kubeconfig, *image, *ns;
    bool debug, json;
};

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option flags[] = {
        {"kubeconfig", required_argument, NULL, 'k'}, {"launcher-image", required_argument, NULL, 'l'},
        {"namespace", required_argument, NULL, 'n'},  {"debug", no_argument, NULL, 'd'},
        {"log-json", no_argument, NULL, 'j'},         {0}};
    int c;

    *o = (struct options){.ns = "kubevirt"};
    optind = 1;
    while ((c = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (c) {
        case 'k':
            o->kubeconfig = optarg;
            break;
        case 'l':
            o->image = optarg;
            break;
        case 'n':
            o->ns = optarg;
            break;
        case 'd':
            o->debug = true;
            break;
        case 'j':
            o->json = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc && o->image && o->image[0];
}

/* Of all controllers of a cluster one works, and the others wait for its Lease. Who has lost it ends: what it knows is of the past. */
struct leader {
    struct role role;
    struct lease *lease;
    struct controllers *controllers;
    const struct options *options;
    struct loop_timer patience;
    int status;
};

static void on_elected(void *user)
{
    struct leader *l = user;

    l->controllers =
        controllers_new(&(struct controllers_config){.client = l->role.client, .launcher_image = l->options->image});
    controllers_start(l->controllers);
}

static void on_lost(void *user)
{
    struct leader *l = user;

    l->status = 1;
    loop_quit(l->role.loop);
}

static void on_released(void *user)
{
    loop_quit(((struct leader *)user)->role.loop);
}

static void on_patience(struct loop_timer *t)
{
    loop_quit(container_of(t, struct leader, patience)->role.loop);
}

/* No two who ever ask have the same, and a person sees which machine it is. */
static char *identity(void)
{
    char host[256] = "", uuid[UUID_LEN + 1];

    gethostname(host, sizeof host - 1);
    ident_uuid4(uuid);
    return xasprintf("%s_%s", host, uuid);
}

static bool lead(struct leader *l, struct error *err)
{
    AUTO_FREE char *who = identity();
    const struct options *o = l->options;

    if (!role_open(&l->role, o->kubeconfig, "vireo-controller/" VIREO_VERSION, err))
        return false;
    l->lease = lease_new(&(struct lease_config){.client = l->role.client,
                                                .ns = o->ns,
                                                .name = "virt-controller",
                                                .identity = who,
                                                .elected = on_elected,
                                                .lost = on_lost,
                                                .user = l});
    loop_run(l->role.loop);
    controllers_free(l->controllers);
    if (lease_held(l->lease)) {
        lease_release(l->lease, on_released);
        loop_timer_start(l->role.loop, &l->patience, RELEASE_PATIENCE, on_patience);
        loop_run(l->role.loop);
        loop_timer_stop(&l->patience);
    }
    lease_free(l->lease);
    return true;
}

int controller_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct options o;
    struct leader l = {.options = &o};

    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    log_setup("controller", o.debug ? LOG_DEBUG : LOG_INFO, o.json);
    if (!lead(&l, &err)) {
        l.status = 1;
        fprintf(stderr, "vireo controller: %s\n", error_text(&err));
    }
    role_close(&l.role);
    return l.status;
}
