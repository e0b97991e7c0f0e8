/* controller/controller_test - the controllers together, on an API server in memory; the test plays node, pod runtime and agent. */
#pragma once
#include "base/base_test.h"
#include "client/fake_client.h"
#include "controller/controller.h"
#include "controller/engine.h"

#include <stdio.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"

struct world {
    struct loop *loop;
    struct client *client;
    struct controllers *controllers;
    struct arena a;
};

static inline void turns(struct world *w)
{
    while (loop_turn(w->loop, 0))
        ;
}

/* Enough for retries and batched events; no backoff of a VM. */
static inline void settle(struct world *w)
{
    turns(w);
    for (int i = 0; i < 20; i++) {
        loop_fake_advance(w->loop, MILLIS(50));
        turns(w);
    }
}

static inline void add_node(struct world *w, const char *name, const char *memory)
{
    char now[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(w->loop), false, now);
    fake_create(
        w->client, "nodes",
        arena_printf(
            &w->a,
            "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\",\"labels\":{"
            "\"vireo.io/vmm-qemu\":\"true\","
            "\"kubernetes.io/arch\":\"amd64\",\"kubevirt.io/"
            "schedulable\":\"true\"},\"annotations\":{"
            "\"kubevirt.io/"
            "heartbeat\":\"%s\"}},\"status\":{\"allocatable\":{\"cpu\":\"4\",\"memory\":\"%s\","
            "\"pods\":\"110\",\"ephemeral-storage\":\"100Gi\",\"devices.kubevirt.io/"
            "kvm\":\"1000\",\"devices.kubevirt.io/tun\":\"1000\","
            "\"devices.kubevirt.io/vhost-net\":\"1000\"}}}",
            name, now, memory));
}

static inline int setup_on(void **state, bool embedded)
{
    struct world *w = NEW(struct world);

    w->loop = loop_new_fake();
    w->client = fake_client_new(w->loop);
    w->controllers =
        controllers_new(&(struct controllers_config){.client = w->client,
                                                     .embedded = embedded,
                                                     .image_volumes = true,
                                                     .launcher_image = "vireo.io/launcher:test",
                                                     .data_volumes_path = "/data/volumes"});
    fake_create(
        w->client, "storageclasses",
        "{\"apiVersion\":\"storage.k8s.io/"
        "v1\",\"kind\":\"StorageClass\",\"metadata\":{\"name\":\"vireo-local\"},"
        "\"provisioner\":\"vireo.io/local\",\"volumeBindingMode\":\"WaitForFirstConsumer\"}");
    controllers_start(w->controllers);
    settle(w);
    *state = w;
    return 0;
}

static inline int setup(void **state)
{
    return setup_on(state, true);
}

static inline int setup_cluster(void **state)
{
    return setup_on(state, false);
}

static inline int teardown(void **state)
{
    struct world *w = *state;

    controllers_free(w->controllers);
    client_free(w->client);
    loop_free(w->loop);
    arena_done(&w->a);
    free(w);
    return 0;
}

/* As admission puts it on; without, the controller does. */
static const char *finalizer = "";

static inline void add_vm(struct world *w, const char *strategy, const char *memory, const char *more)
{
    fake_create(w->client, "virtualmachines",
                arena_printf(&w->a,
                             "{\"apiVersion\":\"kubevirt.io/"
                             "v1\",\"kind\":\"VirtualMachine\",\"metadata\":{\"name\":\"vm\","
                             "\"namespace\":\"x\"%s},\"spec\":{\"runStrategy\":\"%s\",\"template\":"
                             "{\"metadata\":{\"labels\":{"
                             "\"app\":\"a\"}},\"spec\":{\"domain\":{\"cpu\":{\"cores\":1},"
                             "\"devices\":{\"interfaces\":[{\"name\":\"default\",\"masquerade\":{}}]},\"memory\":{\"guest\":"
                             "\"%s\"}},\"networks\":[{\"name\":\"default\",\"pod\":{}}]%s}}}}",
                             finalizer, strategy, memory, more));
}

static inline const struct json *get(struct world *w, const char *plural)
{
    const char *key = strcmp(plural, "pods") == 0 ? fake_only(w->client, plural, &w->a) : "x/vm";

    return key ? fake_get(w->client, plural, key, &w->a) : NULL;
}

static inline const char *text(struct world *w, const char *plural, const char *path)
{
    struct str s = json_str_at(get(w, plural), path);

    return s.p ? arena_strdup(&w->a, s) : "-";
}

#define VM(path) text(w, "virtualmachines", path)
#define VMI(path) text(w, "virtualmachineinstances", path)

static inline void pod_runs(struct world *w)
{
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
               "{\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"compute\","
               "\"ready\":true}],\"conditions\":[{"
               "\"type\":\"Ready\",\"status\":\"True\"},{\"type\":\"PodScheduled\",\"status\":"
               "\"True\"}]}}");
    turns(w);
}

/* As the node agent reports. */
static inline void guest(struct world *w, const char *phase)
{
    const struct json *list =
        json_at(get(w, "virtualmachineinstances"), "status/phaseTransitionTimestamps");
    AUTO_FREE char *times = NULL;

    list = json_append(&w->a, list, json_object(&w->a, "phase", json_new_z(&w->a, phase), NULL));
    times = json_text(list);
    fake_merge(
        w->client, "virtualmachineinstances", "x/vm",
        arena_printf(&w->a,
                     "{\"status\":{\"phase\":\"%s\",\"phaseTransitionTimestamps\":%s,"
                     "\"conditions\":[{\"type\":\"Ready\","
                     "\"status\":\"%s\"},{\"type\":\"LiveMigratable\",\"status\":\"True\"}]}}",
                     phase, times, strcmp(phase, "Running") == 0 ? "True" : "False"));
    turns(w);
}

static inline void start(struct world *w)
{
    add_node(w, "n1", "8Gi");
    turns(w);
    fake_log_clear(w->client);
}

static inline void run_vm(struct world *w, const char *strategy)
{
    start(w);
    add_vm(w, strategy, "64Mi", "");
    turns(w);
    pod_runs(w);
    assert_string_equal(VMI("status/phase"), "Scheduled");
    guest(w, "Running");
    assert_string_equal(VM("status/printableStatus"), "Running");
}

static inline void pod_goes(struct world *w)
{
    fake_remove(w->client, "pods", fake_only(w->client, "pods", &w->a));
    turns(w);
}

static inline void request(struct world *w, const char *requests)
{
    fake_merge(w->client, "virtualmachines", "x/vm",
               arena_printf(&w->a, "{\"status\":{\"stateChangeRequests\":%s}}", requests));
    turns(w);
}
