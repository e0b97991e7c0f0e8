/* Counters. */
#include "vmm/qemu/qemu.h"

#include <stdio.h>

static uint64_t number(const struct json *v, const char *path)
{
    int64_t n = json_i64_at(v, path, 0);

    return n > 0 ? (uint64_t)n : 0; /* the guest's driver may say -1 for "unknown" */
}

static void read_balloon(struct qemu *q, struct vmm_stats *ret)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *path = json_new_z(&a, "/machine/peripheral/balloon0"), *v = NULL;

    if (!q->balloon_polls) {
        q->balloon_polls = qmp_call(q->qmp, "qom-set",
                                    json_object(&a, "path", path, "property",
                                                json_new_z(&a, "guest-stats-polling-interval"),
                                                "value", json_new_i64(&a, 10), NULL),
                                    &a, NULL, &err);
    } else if (qmp_call(
                   q->qmp, "qom-get",
                   json_object(&a, "path", path, "property", json_new_z(&a, "guest-stats"), NULL),
                   &a, &v, &err)) {
        ret->guest_total = number(v, "stats/stat-total-memory");
        ret->guest_free = number(v, "stats/stat-free-memory");
        ret->guest_available = number(v, "stats/stat-available-memory");
    }
    error_clear(&err);
    if (qmp_call(q->qmp, "query-balloon", NULL, &a, &v, &err))
        ret->guest_bytes = number(v, "actual");
}

bool qemu_stats(struct vmm *v, struct vmm_stats *ret, struct error *err)
{
    struct qemu *q = qemu_of(v);
    AUTO(arena_done) struct arena a = {0};
    const struct json *blocks;

    memset(ret, 0, sizeof *ret);
    if (!qmp_call(q->qmp, "query-blockstats", NULL, &a, &blocks, err))
        return false;
    json_each_item(b, blocks) {
        struct str qdev = json_str_at(b, "qdev"), id = qdev;
        const struct json *s = json_get(b, "stats");
        size_t at;

        /* "/machine/peripheral/ua-name/virtio-backend" or "ua-name" */
        if (str_find(qdev, STR("/ua-"), &at))
            id = str_skip(qdev, at + 1);
        if (!str_starts(id, STR("ua-")) || ret->n_block == VMM_MAX_DEVICES)
            continue;
        id = str_skip(id, 3);
        str_cut(id, '/', &id, &qdev);
        struct vmm_counters *k = &ret->block[ret->n_block++];
        snprintf(k->name, sizeof k->name, STR_FMT, STR_ARG(id));
        k->read_bytes = number(s, "rd_bytes");
        k->write_bytes = number(s, "wr_bytes");
        k->read_ops = number(s, "rd_operations");
        k->write_ops = number(s, "wr_operations");
        k->read_ns = number(s, "rd_total_time_ns");
        k->write_ns = number(s, "wr_total_time_ns");
        k->flush_ops = number(s, "flush_operations");
        k->flush_ns = number(s, "flush_total_time_ns");
    }
    if (!qmp_call(q->qmp, "query-cpus-fast", NULL, &a, &blocks, err)) /* it disturbs no vCPU */
        return false;
    ret->vcpus = json_len(blocks);
    read_balloon(q, ret);
    vmm_stats_of_process(q->child.pid, ret);
    vmm_taps_read(&q->taps, ret);
    return true;
}
