#include "vmm/tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/file.h"

void vmm_taps_add(struct vmm_taps *t, struct str nic, int fd)
{
    struct ifreq ifr = {0};

    if (t->n == ARRAY_SIZE(t->p) || ioctl(fd, TUNGETIFF, &ifr) != 0)
        return;
    snprintf(t->p[t->n].nic, sizeof t->p[t->n].nic, STR_FMT, STR_ARG(nic));
    snprintf(t->p[t->n].tap, sizeof t->p[t->n].tap, "%.*s", (int)sizeof t->p[t->n].tap - 1, ifr.ifr_name);
    t->n++;
}

void vmm_taps_remove(struct vmm_taps *t, struct str nic)
{
    for (size_t i = 0; i < t->n; i++)
        if (str_is(nic, t->p[i].nic)) {
            t->p[i] = t->p[--t->n];
            return;
        }
}

/* A line of /proc/net/dev: name: bytes packets errs drop fifo frame compressed multicast, then the same of what was sent. */
static void line_counters(const struct vmm_taps *t, struct str line, struct vmm_stats *ret)
{
    struct str name, rest;
    unsigned long long in_bytes, in_packets, out_bytes, out_packets;

    if (!str_cut(line, ':', &name, &rest))
        return;
    name = str_trim(name);
    for (size_t i = 0; i < t->n && ret->n_net < VMM_MAX_DEVICES; i++) {
        char text[512];

        if (!str_is(name, t->p[i].tap) || rest.n >= sizeof text)
            continue;
        memcpy(text, rest.p, rest.n);
        text[rest.n] = '\0';
        if (sscanf(text, " %llu %llu %*u %*u %*u %*u %*u %*u %llu %llu", &in_bytes, &in_packets, &out_bytes, &out_packets) != 4)
            return;
        struct vmm_counters *k = &ret->net[ret->n_net++];
        *k = (struct vmm_counters){.read_bytes = out_bytes,
                                   .read_ops = out_packets,
                                   .write_bytes = in_bytes,
                                   .write_ops = in_packets};
        snprintf(k->name, sizeof k->name, "%s", t->p[i].nic);
        return;
    }
}

void vmm_taps_read(const struct vmm_taps *t, struct vmm_stats *ret)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    struct str rest, line;

    ret->n_net = 0;
    if (t->n == 0 || !file_read(AT_FDCWD, "/proc/self/net/dev", &b, &err))
        return;
    rest = buf_str(&b);
    while (str_next(&rest, '\n', &line))
        line_counters(t, line, ret);
}
