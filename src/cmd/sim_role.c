/* vireo sim: simulated nodes of a Kubernetes cluster, or of a `vireo serve`. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"
#include "cmd/role.h"
#include "sim/sim.h"

const char sim_usage[] =
    "usage: vireo sim --nodes N [options]\n"
    "Simulated nodes: kubelets, node agents and launchers that are played, for tests of scale. Nothing runs in their machines.\n"
    "Nodes get the label " SIM_MARK "=true; one of the same name without it is left alone. At the end (SIGTERM) the nodes\n"
    "stay, not ready. The annotation " SIM_WISH "=silent takes a node away until it is removed; on a pod, crash or evict end it.\n"
    "  --prefix sim-       their names: sim-0, sim-1 …\n"
    "  --cpu 32, --memory 128Gi, --pods 250   what each of them has\n"
    "  --pod-start-ms 100  from a pod's containers being made to their running\n"
    "  --guest-start-ms 50 from the order to a machine's running\n"
    "  --lease-seconds 40  of the nodes' Leases, which are renewed after a quarter of it\n"
    "  --play-all          pods run that are no machines', too; otherwise they stay Pending and say why\n"
    "  --silent A,B        nodes that say nothing once they are made\n"
    "  --agents-as USER    in whose name node agents write VMIs (system:serviceaccount:NS:kubevirt-handler; '': our own): the\n"
    "                      kubeconfig's user has to have the right to impersonate it\n"
    "  --remove            delete the nodes at the end\n" ROLE_FLAGS_USAGE;

struct options {
    struct sim_config sim;
    struct role_flags role;
    const char *nodes, *pod_start, *guest_start, *lease, *silent, *agents_as;
    bool remove;
    char *silent_text, *as_text;
    VEC(const char *) silent_names;
};

/* Absent: as it is. */
static bool number(const char *flag, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    AUTO(error_clear) struct error err = {0};

    if (!text)
        return true;
    if (parse_u64(str_of(text), max, ret, &err) && *ret >= min)
        return true;
    fprintf(stderr, "vireo sim: --%s: '%s' is no number from %llu to %llu\n", flag, text, (unsigned long long)min,
            (unsigned long long)max);
    return false;
}

static bool numbers(struct options *o)
{
    uint64_t nodes = 0, pod_ms = 100, guest_ms = 50, lease_s = 40;
    bool ok = number("nodes", o->nodes, 1, SIM_MAX_NODES, &nodes) && number("pod-start-ms", o->pod_start, 0, 600000, &pod_ms)
              && number("guest-start-ms", o->guest_start, 0, 50000, &guest_ms)
              && number("lease-seconds", o->lease, 4, 3600, &lease_s);

    o->sim.nodes = (unsigned)nodes;
    o->sim.pod_start_ns = MILLIS((int64_t)pod_ms);
    o->sim.guest_start_ns = MILLIS((int64_t)guest_ms);
    o->sim.lease_s = (unsigned)lease_s;
    return ok && nodes > 0;
}

static void names(struct options *o)
{
    char *rest, *name;

    o->silent_text = xstrdup(o->silent ? o->silent : "");
    for (rest = o->silent_text; (name = strsep(&rest, ","));)
        if (name[0])
            vec_push(&o->silent_names, (const char *)name);
    vec_push(&o->silent_names, NULL);
    o->sim.silent = o->silent_names.p;
}

static bool parse(int argc, char **argv, struct options *o)
{
    const struct role_option own[] = {{.name = "nodes", .text = &o->nodes},
                                      {.name = "prefix", .text = &o->sim.prefix},
                                      {.name = "cpu", .text = &o->sim.cpu},
                                      {.name = "memory", .text = &o->sim.memory},
                                      {.name = "pods", .text = &o->sim.pods},
                                      {.name = "pod-start-ms", .text = &o->pod_start},
                                      {.name = "guest-start-ms", .text = &o->guest_start},
                                      {.name = "lease-seconds", .text = &o->lease},
                                      {.name = "play-all", .flag = &o->sim.play_all},
                                      {.name = "silent", .text = &o->silent},
                                      {.name = "agents-as", .text = &o->agents_as},
                                      {.name = "remove", .flag = &o->remove},
                                      {0}};

    if (!role_parse(argc, argv, &o->role, own) || !numbers(o))
        return false;
    names(o);
    o->as_text = o->agents_as ? xstrdup(o->agents_as) : xasprintf("system:serviceaccount:%s:kubevirt-handler", o->role.ns);
    o->sim.agents_as = o->as_text[0] ? o->as_text : NULL;
    return true;
}

/* A machine takes two descriptors: the two ends between its launcher and its node agent. */
static void raise_descriptors(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_max < 20000)
            log_warning(NULL, "at most %llu descriptors: enough for half as many machines", (unsigned long long)r.rlim_max);
    }
}

struct run {
    struct role role;
    int status;
};

static void on_failed(void *user, const struct error *err)
{
    struct run *r = user;

    fprintf(stderr, "vireo sim: %s\n", error_text(err));
    r->status = 1;
    loop_quit(r->role.loop);
}

static void on_stopped(void *user)
{
    loop_quit(((struct run *)user)->role.loop);
}

static void metrics(void *data, struct buf *b)
{
    struct sim_count c = sim_count(data);

    buf_addf(b,
             "# HELP vireo_sim_nodes Simulated nodes that are there.\n# TYPE vireo_sim_nodes gauge\nvireo_sim_nodes %zu\n"
             "# HELP vireo_sim_pods Pods on them, by state.\n# TYPE vireo_sim_pods gauge\n"
             "vireo_sim_pods{state=\"bound\"} %zu\nvireo_sim_pods{state=\"running\"} %zu\n",
             c.nodes, c.pods, c.running);
}

static bool run(struct run *r, struct options *o, struct error *err)
{
    struct sim *s;

    if (!role_open(&r->role, &o->role, "vireo-sim/" VIREO_VERSION, err))
        return false;
    o->sim.client = r->role.client;
    o->sim.failed = on_failed;
    o->sim.user = r;
    if (!sim_new(&o->sim, &s, err))
        return false;
    if (!role_serve(&r->role, &(struct role_server){.metrics = metrics, .data = s}, err)) {
        sim_free(s);
        return false;
    }
    raise_descriptors();
    sim_start(s);
    loop_run(r->role.loop);
    sim_stop(s, o->remove, on_stopped, r);
    loop_run(r->role.loop);
    sim_free(s);
    return true;
}

int sim_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct options o = {0};
    struct run r = {0};

    if (!parse(argc, argv, &o)) {
        fputs(sim_usage, stderr);
        return 2;
    }
    log_setup("sim", o.role.debug ? LOG_DEBUG : LOG_INFO, o.role.json);
    if (!run(&r, &o, &err)) {
        fprintf(stderr, "vireo sim: %s\n", error_text(&err));
        r.status = 1;
    }
    role_close(&r.role);
    vec_done(&o.silent_names);
    free(o.silent_text);
    free(o.as_text);
    return r.status;
}
