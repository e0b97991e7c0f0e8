/* vireo controller: the controllers, against a Kubernetes API server that is somewhere else. */
#include <getopt.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/role.h"
#include "controller/controller.h"

static const char usage[] = "usage: vireo controller --launcher-image IMAGE [--kubeconfig FILE] [--debug] [--log-json]\n"
                            "The controllers of a Kubernetes cluster. Being built: not for use yet.\n";

struct options {
    const char *kubeconfig, *image;
    bool debug, json;
};

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option flags[] = {{"kubeconfig", required_argument, NULL, 'k'},
                                          {"launcher-image", required_argument, NULL, 'l'},
                                          {"debug", no_argument, NULL, 'd'},
                                          {"log-json", no_argument, NULL, 'j'},
                                          {0}};
    int c;

    *o = (struct options){0};
    optind = 1;
    while ((c = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (c) {
        case 'k':
            o->kubeconfig = optarg;
            break;
        case 'l':
            o->image = optarg;
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

int controller_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct role role = {0};
    struct controllers *controllers;
    struct options o;
    bool ok;

    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    log_setup("controller", o.debug ? LOG_DEBUG : LOG_INFO, o.json);
    ok = role_open(&role, o.kubeconfig, "vireo-controller/" VIREO_VERSION, &err);
    if (ok) {
        controllers = controllers_new(&(struct controllers_config){.client = role.client, .launcher_image = o.image});
        controllers_start(controllers);
        loop_run(role.loop);
        controllers_free(controllers);
    }
    role_close(&role);
    if (!ok)
        fprintf(stderr, "vireo controller: %s\n", error_text(&err));
    return ok ? 0 : 1;
}
