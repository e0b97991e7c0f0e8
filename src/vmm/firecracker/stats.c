/* Counters. Firecracker writes what it has counted since it last did, on demand and each minute by itself; so every line counts,
 * and they are added up here, over all boots of the machine. */
#include <stdio.h>

#include "base/log.h"
#include "vmm/firecracker/firecracker.h"

static uint64_t number(const struct json *v, const char *path)
{
    int64_t n = json_i64_at(v, path, 0);

    return n > 0 ? (uint64_t)n : 0;
}

static void add_block(struct vmm_counters *to, const struct json *v)
{
    to->read_bytes += number(v, "read_bytes");
    to->write_bytes += number(v, "write_bytes");
    to->read_ops += number(v, "read_count");
    to->write_ops += number(v, "write_count");
    to->read_ns += number(v, "read_agg/sum_us") * 1000;
    to->write_ns += number(v, "write_agg/sum_us") * 1000;
    to->flush_ops += number(v, "flush_count");
}

static void add_net(struct vmm_counters *to, const struct json *v)
{
    to->read_bytes += number(v, "rx_bytes_count");
    to->write_bytes += number(v, "tx_bytes_count");
    to->read_ops += number(v, "rx_packets_count");
    to->write_ops += number(v, "tx_packets_count");
}

void fc_metrics_line(struct fc *f, struct str line)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;
    char key[24];

    if (str_trim(line).n == 0)
        return;
    if (!json_parse(line, &a, &v, &err)) {
        if (f->refused_lines++ == 0)
            log_warning("firecracker", "a line of its metrics is no JSON, ignoring: %s", error_text(&err));
        return;
    }
    for (size_t i = 0; i < f->config.disks.n && i < VMM_MAX_DEVICES; i++) {
        snprintf(key, sizeof key, "block_disk%zu", i);
        add_block(&f->counted.block[i], json_get(v, key));
    }
    for (size_t i = 0; i < f->config.nics.n && i < VMM_MAX_DEVICES; i++) {
        snprintf(key, sizeof key, "net_net%zu", i);
        add_net(&f->counted.net[i], json_get(v, key));
    }
}

/* A guest without the driver tells nothing: the numbers stay unknown. */
static void read_balloon(struct fc *f, struct vmm_stats *ret)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!f->config.balloon || !fc_request(f, "GET", "/balloon/statistics", NULL, NULL, &a, &v, &err))
        return;
    ret->guest_total = number(v, "total_memory");
    ret->guest_free = number(v, "free_memory");
    ret->guest_available = number(v, "available_memory");
    uint64_t taken = number(v, "actual_mib") << 20;
    if (taken < ret->guest_bytes)
        ret->guest_bytes -= taken;
}

static uint64_t plugged(struct fc *f)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!f->config.hotplug || !fc_request(f, "GET", "/hotplug/memory", NULL, NULL, &a, &v, &err))
        return 0;
    return number(v, "plugged_size_mib") << 20;
}

bool fc_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    struct fc *f = fc_of(v);

    if (f->now.booted && !fc_action(f, "FlushMetrics", err))
        return false;
    fc_process_drain(f); /* it is written before the answer */
    *ret = f->counted;
    ret->n_block = f->config.disks.n < VMM_MAX_DEVICES ? f->config.disks.n : VMM_MAX_DEVICES;
    ret->n_net = f->config.nics.n < VMM_MAX_DEVICES ? f->config.nics.n : VMM_MAX_DEVICES;
    for (size_t i = 0; i < ret->n_block; i++)
        snprintf(ret->block[i].name, sizeof ret->block[i].name, "%s", f->config.disks.p[i]);
    for (size_t i = 0; i < ret->n_net; i++)
        snprintf(ret->net[i].name, sizeof ret->net[i].name, "%s", f->config.nics.p[i]);
    ret->vcpus = f->config.vcpus;
    ret->guest_bytes = f->config.memory;
    if (f->now.booted) {
        ret->guest_bytes += plugged(f);
        read_balloon(f, ret);
    }
    vmm_stats_of_process(f->now.child.pid, ret);
    return true;
}
