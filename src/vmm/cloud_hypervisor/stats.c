/* Counters. */
#include "vmm/cloud_hypervisor/ch.h"

#include <stdio.h>

static uint64_t number(const struct json *v, const char *key)
{
    int64_t n = json_i64_at(v, key, 0);

    return n > 0 ? (uint64_t)n : 0;
}

static void read_device(struct str id, const struct json *v, struct vmm_stats *ret)
{
    bool disk = str_starts(id, STR("disk-")), nic = str_starts(id, STR("net-"));
    struct vmm_counters *k;

    if ((!disk && !nic) || (disk ? ret->n_block : ret->n_net) == VMM_MAX_DEVICES)
        return;
    k = disk ? &ret->block[ret->n_block++] : &ret->net[ret->n_net++];
    id = str_skip(id, strlen(disk ? "disk-" : "net-"));
    snprintf(k->name, sizeof k->name, STR_FMT, STR_ARG(id));
    k->read_bytes = number(v, disk ? "read_bytes" : "rx_bytes");
    k->write_bytes = number(v, disk ? "write_bytes" : "tx_bytes");
    k->read_ops = number(v, disk ? "read_ops" : "rx_frames");
    k->write_ops = number(v, disk ? "write_ops" : "tx_frames");
}

bool ch_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    struct ch *c = ch_of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *counters = NULL, *info = NULL;

    memset(ret, 0, sizeof *ret);
    vmm_stats_of_process(c->child.pid, ret);
    ret->vcpus = c->sizes.vcpus;
    ret->guest_bytes = c->sizes.memory + c->plugged_memory;
    if (!c->booted || c->moving || c->migration.state == VMM_MIGRATION_RUNS)
        return true; /* it counts nothing then */
    if (!ch_call(c, &(struct ch_call){.name = "GET vm.counters"}, &a, &counters, err)
        || !ch_call(c, &(struct ch_call){.name = "GET vm.info"}, &a, &info, err))
        return false;
    json_each_member(m, counters)
        read_device(json_str(&m->key), &m->value, ret);
    if (number(info, "memory_actual_size"))
        ret->guest_bytes = number(info, "memory_actual_size");
    return true;
}
