#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/backup.h"
#include "cmd/instance.h"
#include "cmd/role.h"

static int control_verb(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return control_main();
}

static int node_verb(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return node_main();
}

static int version_verb(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("vireo %s (KubeVirt API 1.8)\n", VIREO_VERSION);
    return 0;
}

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *help;  /* NULL: started by serve, not by people */
    const char *usage; /* of `vireo VERB --help`; NULL: the usage below */
} verbs[] = {
    {"serve", serve_main, "run the Kubernetes API and virtual machines on this machine"},
    {"stop", stop_main, "stop a running `vireo serve`; with --all its virtual machines and all traces, too"},
    {"backup", backup_main, "write database and keys to one file, also while `vireo serve` runs"},
    {"restore", restore_main, "put a backup back, also while `vireo serve` runs; virtual machines go on"},
    {"doctor", doctor_main, "check whether this machine can run virtual machines, and what to do if not"},
    {"api", api_main, "on a Kubernetes cluster: webhooks, consoles and the other subresources", api_usage},
    {"controller", controller_main, "on a Kubernetes cluster: the controllers", controller_usage},
    {"handler", handler_main, "on a Kubernetes cluster: the node agent", handler_usage},
    {"operator", operator_main, "on a Kubernetes cluster: install what the KubeVirt object asks for, and keep it", operator_usage},
    {"crds", crds_main, "print the CustomResourceDefinitions that a cluster needs", crds_usage},
    {"sim", sim_main, "simulated nodes, for tests of scale: kubelets, node agents and launchers that are played", sim_usage},
    {"version", version_verb, "print the version"},
    {"control", control_verb, NULL},
    {"node", node_verb, NULL},
};

static int usage(FILE *to)
{
    fprintf(to, "vireo: virtual machines from KubeVirt manifests\n\nusage: vireo VERB [options]\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
        if (verbs[i].help)
            fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].help);
    fprintf(to,
            "\nvireo ROLE --help has the options of api, controller, handler, operator, sim; pods of the operator have them set\n"
            "\noptions of serve, stop and doctor\n"
            "  --data-dir DIR        everything it keeps (" INSTANCE_DEFAULT_DIR ")\n"
            "  --listen ADDR:PORT    the API (" INSTANCE_DEFAULT_LISTEN ")\n"
            "  --pod-cidr CIDR       addresses of virtual machines' pods (" INSTANCE_DEFAULT_CIDR ")\n"
            "  --node-name NAME      name of this machine's Node (its host name)\n"
            "  --oci-dir DIR         local image layouts, as oci:NAME in a containerDisk (DATA-DIR/oci)\n"
            "  --cni-dir DIR         CNI plugins (/usr/lib/cni)\n"
            "  --launcher FILE       vireo-launcher (beside this program)\n"
            "  --offer-vmm NAME      serve: offer a hypervisor in whose machines nothing runs, for tests of scale\n"
            "  --sim-nodes N         serve: N simulated nodes beside this one, for tests of scale (vireo sim)\n"
            "  --log-json, --debug   how and how much is logged\n"
            "\noptions of serve alone: the audit log\n"
            "  --audit-policy-file FILE, --audit-log-path FILE|-   what is noted, and where\n"
            "  --audit-log-maxsize MiB, --audit-log-maxbackup N, --audit-log-maxage DAYS   rotation\n"
            "\noptions of backup FILE|DIR and restore FILE\n"
            "  --data-dir DIR        as above\n"
            "  --overwrite           backup: replace a file of that name\n"
            "  --without-keys        leave certificates and keys out\n"
            "  --check               restore: only say whether the backup is whole\n"
            "\nthen: export KUBECONFIG=DATA-DIR/admin.kubeconfig and use kubectl\n");
    return to == stdout ? 0 : 2;
}

static int help(const char *of_role)
{
    return !of_role ? usage(stdout) : fputs(of_role, stdout) == EOF ? 2 : 0;
}

int main(int argc, char **argv)
{
    /* A reader that went away - of a console, or of our own log - is an error like others. Programs that we start get it back. */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
        return usage(stdout);
    if (strcmp(argv[1], "--version") == 0)
        return version_verb(argc, argv);
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return argc > 2 && strcmp(argv[2], "--help") == 0 ? help(verbs[i].usage) : verbs[i].fn(argc - 1, argv + 1);
    fprintf(stderr, "vireo: unknown verb '%s' (see vireo --help)\n", argv[1]);
    return 2;
}
