/* vireo-launcher: one per VM, in its pod. See launcher/launcher.h. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/str.h"
#include "launcher/launcher.h"

static const char usage[] =
    "Usage: vireo-launcher --name NAME --uid UID --namespace NAMESPACE [--grace-period-seconds N] [--image-containers]\n"
    "Runs one virtual machine. Started by the node agent inside the machine's pod; not meant for "
    "people.\n";

enum {
    OPT_NAME = 1,
    OPT_UID,
    OPT_NAMESPACE,
    OPT_GRACE,
    OPT_IMAGES,
    OPT_ROOT,
    OPT_DEBUG,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"name", required_argument, NULL, OPT_NAME},
    {"uid", required_argument, NULL, OPT_UID},
    {"namespace", required_argument, NULL, OPT_NAMESPACE},
    {"grace-period-seconds", required_argument, NULL, OPT_GRACE},
    {"image-containers", no_argument, NULL, OPT_IMAGES},
    {"root", required_argument, NULL, OPT_ROOT}, /* tests: in front of /var/run/… */
    {"debug", no_argument, NULL, OPT_DEBUG},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

#define MAX_GRACE_S (365ll * 24 * 3600) /* a manifest may ask for more; it is the same to it */

static bool plain_name(const char *s) /* they become parts of paths */
{
    return s && s[0] && s[0] != '.' && !strchr(s, '/') && strlen(s) <= 253;
}

/* It is the first process of its container, where a signal that nobody handles yet is lost, unless it is blocked: the loop takes it
 * up when it is there. */
static void ends_are_kept(void)
{
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
}

int main(int argc, char **argv)
{
    struct launcher_options o = {.grace_ns = SECONDS(30), .root = ""};
    AUTO(error_clear) struct error err = {0};
    enum log_level level = LOG_INFO;
    uint64_t grace;
    int opt, status = 1;

    ends_are_kept();
    /* The node agent's haste is not the guest's. */
    if (getpriority(PRIO_PROCESS, 0) < 0)
        setpriority(PRIO_PROCESS, 0, 0);
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case OPT_NAME:
            o.name = optarg;
            break;
        case OPT_UID:
            o.uid = optarg;
            break;
        case OPT_NAMESPACE:
            o.namespace_ = optarg;
            break;
        case OPT_GRACE:
            if (!parse_u64(str_of(optarg), UINT64_MAX, &grace, &err)) {
                fprintf(stderr, "vireo-launcher: --grace-period-seconds: %s\n", error_text(&err));
                return 2;
            }
            o.grace_ns = SECONDS(grace > MAX_GRACE_S ? MAX_GRACE_S : (int64_t)grace);
            break;
        case OPT_IMAGES:
            o.image_containers = true;
            break;
        case OPT_ROOT:
            o.root = optarg;
            break;
        case OPT_DEBUG:
            level = LOG_DEBUG;
            break;
        case OPT_HELP:
            fputs(usage, stdout);
            return 0;
        case OPT_VERSION:
            puts(VIREO_VERSION);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind != argc || !plain_name(o.name) || !plain_name(o.uid) || !plain_name(o.namespace_)) {
        fputs(usage, stderr);
        return 2;
    }
    log_setup("vireo-launcher", level, false);
    if (!launcher_run(&o, &status, &err)) {
        log_error(NULL, "%s", error_text(&err));
        return 1;
    }
    return status;
}
