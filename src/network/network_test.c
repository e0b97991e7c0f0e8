/* The whole room on a real kernel, in network and mount namespaces of its own: nothing of the host is touched. */
#include "base/base_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "loop/child.h"
#include "network/dhcp.h"
#include "network/internal.h"

#define CNI_DIR "/usr/lib/cni"

static const char *reason; /* why it cannot run here */

struct world {
    struct loop *loop;
    struct network *n;
    char dir[64];
    int dirfd;
};

/* Commands */

static char *shell(const char *script)
{
    AUTO(error_clear) struct error err = {0};
    struct buf out = {0};

    buf_init(&out, 1u << 20);
    if (!child_run(&(struct child_spec){.argv = (const char *const[]){"sh", "-c", script, NULL}}, SECONDS(30), &out, &err))
        fail_msg("%s: %s", script, error_text(&err));
    return buf_detach(&out);
}

static char *shell_in(const char *netns, const char *script)
{
    AUTO_FREE char *all = xasprintf("nsenter --net='%s' bash -c '%s'", netns, script);

    return shell(all);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in:\n%s", part, text);
}

/* Callbacks */

struct answer {
    bool over, ok;
    char why[512];
    struct network_pod pod;
    struct network_vm vm;
};

static void note(struct answer *a, const struct error *err)
{
    a->over = true;
    a->ok = err->kind == ERROR_NONE;
    if (!a->ok)
        snprintf(a->why, sizeof a->why, "%s", error_text(err));
}

static void added(void *user, const struct network_pod *p, const struct error *err)
{
    struct answer *a = user;

    note(a, err);
    if (p)
        a->pod = *p;
}

static void removed(void *user, const struct error *err)
{
    note(user, err);
}

static void vm_ready(void *user, struct network_vm *v, const struct error *err)
{
    struct answer *a = user;

    note(a, err);
    if (v) {
        a->vm = *v;
        *v = (struct network_vm){0};
    }
}

static void wait_for(struct world *w, struct answer *a, bool ok)
{
    while (!a->over)
        loop_turn(w->loop, SECONDS(1));
    if (a->ok != ok)
        fail_msg("%s", ok ? a->why : "worked, but should not have");
}

/* The world */

static struct network_config config_of(struct world *w)
{
    return (struct network_config){.loop = w->loop, .instance = "0a1b2c3d", .pod_cidr = "10.88.0.0/16", .cni_bin_dir = CNI_DIR,
                                   .dirfd = w->dirfd};
}

static struct network *open_network(struct world *w)
{
    AUTO(error_clear) struct error err = {0};
    struct network_config c = config_of(w);
    struct network *n = network_new(&c, &err);

    if (!n)
        fail_msg("%s", error_text(&err));
    if (!network_setup(n, &err))
        fail_msg("%s", error_text(&err));
    return n;
}

static int set_up(void **state)
{
    struct world *w = NEW(struct world);

    w->loop = loop_new(NULL);
    snprintf(w->dir, sizeof w->dir, "/tmp/network-test-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    w->dirfd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    AUTO_FREE char *rm = xasprintf("umount -q '%s'/pod-* || true; rm -rf '%s'", w->dir, w->dir);

    free(shell(rm));
    network_free(w->n);
    close(w->dirfd);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void add(struct world *w, const char *uid, struct answer *a)
{
    AUTO_FREE char *path = xasprintf("%s/%s", w->dir, uid);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    close(fd);
    *a = (struct answer){0};
    network_pod_add(w->n, uid, "default", "pod", path, added, a);
}

#define SKIP_UNLESS_POSSIBLE()                                                                     \
    do {                                                                                           \
        if (reason) {                                                                              \
            print_message("skipped: %s\n", reason);                                                \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static void pods_reach_each_other_and_leave_nothing(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(error_clear) struct error err = {0};
    const char *look = "ip -o link | sed 's/:.*@/@/' | sort; nft list tables";
    AUTO_FREE char *before = shell(look), *a_path = xasprintf("%s/pod-a", w->dir), *b_path = xasprintf("%s/pod-b", w->dir);
    struct answer a = {0}, b = {0}, again = {0}, gone = {0};
    double t0;

    w->n = open_network(w);
    if (!network_setup(w->n, &err)) /* twice is once */
        fail_msg("%s", error_text(&err));
    t0 = now_ms();
    add(w, "pod-a", &a);
    wait_for(w, &a, true);
    print_message("pod add: %.1f ms\n", now_ms() - t0);
    add(w, "pod-b", &b);
    wait_for(w, &b, true);
    assert_string_equal(a.pod.ip, "10.88.0.2");
    assert_string_equal(b.pod.ip, "10.88.0.3");
    assert_string_equal(a.pod.gateway, "10.88.0.1");
    assert_int_equal(a.pod.prefix, 16);
    assert_int_equal(a.pod.mtu, 1500);

    AUTO_FREE char *ping = shell_in(a_path, "ip -o addr show lo; busybox ping -c 1 -W 2 10.88.0.3; busybox ping -c 1 -W 2 10.88.0.1");
    assert_has(ping, "127.0.0.1/8");

    /* Another network object, as after a restart. */
    network_free(w->n);
    w->n = open_network(w);
    add(w, "pod-a", &again);
    wait_for(w, &again, true);
    assert_memory_equal(&again.pod, &a.pod, sizeof a.pod);

    AUTO_FREE char *rules = shell("nft list table inet vireo-0a1b2c3d");
    assert_has(rules, "ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 oifname != \"vireo-0a1b2c3d\" counter");

    /* Someone removed the bridge. */
    free(shell("ip link del vireo-0a1b2c3d"));
    if (!network_setup(w->n, &err))
        fail_msg("%s", error_text(&err));
    free(shell_in(a_path, "busybox ping -c 1 -W 2 10.88.0.3"));

    network_pod_del(w->n, "pod-a", a_path, removed, &gone);
    wait_for(w, &gone, true);
    assert_false(is_netns(a_path));
    gone = (struct answer){0};
    network_pod_del(w->n, "pod-a", a_path, removed, &gone);
    wait_for(w, &gone, true);

    if (!network_teardown(w->n, &err) || !network_teardown(w->n, &err))
        fail_msg("%s", error_text(&err));
    assert_false(is_netns(b_path));
    usleep(200000); /* the namespace's end is the kernel's own time */
    AUTO_FREE char *after = shell(look);
    assert_string_equal(before, after);
}

static void bad_plugin_dir_is_said(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(error_clear) struct error err = {0};
    struct network_config c = config_of(w);
    struct answer a;

    c.cni_bin_dir = "/nonexistent";
    w->n = network_new(&c, &err);
    assert_non_null(w->n);
    assert_true(network_setup(w->n, &err));
    add(w, "pod-a", &a);
    wait_for(w, &a, false);
    assert_has(a.why, "containernetworking-plugins");
    add(w, "../x", &a);
    wait_for(w, &a, false);
    assert_true(network_teardown(w->n, &err));
}

static void overlapping_range_is_refused(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(error_clear) struct error err = {0};
    struct network_config c = config_of(w);

    free(shell("ip link add lan type bridge; ip link set lan up; ip addr add 10.88.3.7/24 dev lan"));
    assert_null(network_new(&c, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_string_equal(err.msg, "the range of pods 10.88.0.0/16 overlaps 10.88.3.7/24 (address of lan): choose another by --pod-cidr");
    free(shell("ip addr flush dev lan; ip addr add 192.168.7.1/24 dev lan; ip route add 10.0.0.0/8 via 192.168.7.2"));
    assert_null(network_new(&c, &err));
    assert_has(err.msg, "10.0.0.0/8 (route by lan)");
    free(shell("ip route del 10.0.0.0/8; ip route add default via 192.168.7.2; ip route add 0.0.0.0/1 via 192.168.7.2"));
    error_clear(&err);
    w->n = network_new(&c, &err);
    assert_non_null(w->n);
    free(shell("ip link del lan"));
}

/* VMs */

static const char *const vmi_text =
    "{\"metadata\":{\"name\":\"alpha.x\",\"namespace\":\"default\"},\"spec\":{\"subdomain\":\"sub\",\"domain\":{\"devices\":{\"interfaces\":"
    "[{\"name\":\"default\",%s}]}},\"networks\":[{\"name\":\"default\",%s}]}}";
static const char *const resolv_conf = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\n";

static void vm_setup(struct world *w, const char *uid, const char *binding, const char *network, struct arena *a,
                     struct answer *ret)
{
    AUTO_FREE char *path = xasprintf("%s/%s", w->dir, uid);
    AUTO(error_clear) struct error err = {0};
    int netns = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(buf_done) struct buf text = {0};
    const struct json *vmi;
    struct str before = str_of(vmi_text), after;
    size_t at;

    while (str_find(before, STR("%s"), &at)) {
        buf_add(&text, before.p, at);
        buf_adds(&text, strstr(text.p, "networks") ? network : binding);
        before = str_skip(before, at + 2);
    }
    after = before;
    buf_addstr(&text, after);
    if (!json_parse(buf_str(&text), a, &vmi, &err))
        fail_msg("%s", error_text(&err));
    *ret = (struct answer){0};
    network_vm_setup(w->loop, netns, vmi, str_of(resolv_conf), 107, a, vm_ready, ret);
    while (!ret->over)
        loop_turn(w->loop, SECONDS(1));
    close(netns);
}

/* Reads frames from the tap until one has the bytes; the first 10 are the virtio header. */
static bool tap_gets(int tap, const void *needle, size_t n)
{
    uint8_t frame[2048];

    for (int i = 0; i < 50; i++) {
        struct pollfd p = {.fd = tap, .events = POLLIN};
        ssize_t got;

        if (poll(&p, 1, 2000) <= 0)
            return false;
        got = read(tap, frame, sizeof frame);
        if (got > 0 && memmem(frame, (size_t)got, needle, n))
            return true;
    }
    return false;
}

/* An Ethernet frame with a DHCP DISCOVER, as a guest would write it. */
static void tap_discover(int tap, const uint8_t mac[6])
{
    uint8_t f[10 + 14 + 20 + 8 + 300] = {0};
    uint8_t *eth = f + 10, *ip = eth + 14, *udp = ip + 20, *dhcp = udp + 8;
    uint32_t sum = 0;

    memset(eth, 0xff, 6);
    memcpy(eth + 6, mac, 6);
    eth[12] = 8;
    ip[0] = 0x45;
    ip[2] = (20 + 8 + 300) >> 8;
    ip[3] = (20 + 8 + 300) & 0xff;
    ip[8] = 64;
    ip[9] = 17;
    memset(ip + 16, 0xff, 4);
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
    udp[1] = 68;
    udp[3] = 67;
    udp[4] = 308 >> 8;
    udp[5] = 308 & 0xff;
    dhcp[0] = dhcp[1] = 1;
    dhcp[2] = 6;
    memcpy(dhcp + 4, "XID!", 4);
    memcpy(dhcp + 28, mac, 6);
    memcpy(dhcp + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
    assert_int_equal(write(tap, f, sizeof f), sizeof f);
}

/* What the launcher does with the socket. */
static void answer_dhcp(const struct network_nic *nic)
{
    const struct sockaddr_in everyone = {.sin_family = AF_INET, .sin_port = htons(68), .sin_addr.s_addr = INADDR_BROADCAST};
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf reply = {0};
    struct pollfd p = {.fd = nic->dhcp_fd, .events = POLLIN};
    struct dhcp_config c;
    char packet[1500];
    ssize_t n;

    assert_int_equal(poll(&p, 1, 3000), 1);
    n = recv(nic->dhcp_fd, packet, sizeof packet, 0);
    if (!dhcp_config_parse(nic->dhcp, &a, &c, &err))
        fail_msg("%s", error_text(&err));
    assert_true(n > 0 && dhcp_reply(&c, str_n(packet, (size_t)n), &reply));
    assert_int_equal(sendto(nic->dhcp_fd, reply.p, reply.n, 0, (const struct sockaddr *)&everyone, sizeof everyone), reply.n);
}

static void masquerade(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *a_path = xasprintf("%s/pod-a", w->dir), *b_path = xasprintf("%s/pod-b", w->dir);
    const char *binding = "\"masquerade\":{},\"macAddress\":\"02:00:00:00:00:07\",\"ports\":[{\"name\":\"ssh\",\"port\":22},{\"protocol\":\"UDP\",\"port\":9999}]";
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7}, arp_for_guest[] = {10, 0, 2, 2};
    struct answer pod, other, vm, again;
    double t0;

    w->n = open_network(w);
    add(w, "pod-a", &pod);
    wait_for(w, &pod, true);
    add(w, "pod-b", &other);
    wait_for(w, &other, true);

    t0 = now_ms();
    vm_setup(w, "pod-a", binding, "\"pod\":{}", &a, &vm);
    wait_for(w, &vm, true);
    print_message("vm setup: %.1f ms\n", now_ms() - t0);
    assert_int_equal(vm.vm.n, 1);
    struct network_nic *nic = &vm.vm.nics[0];
    AUTO_FREE char *dhcp = json_text(nic->dhcp);
    assert_string_equal(nic->name, "default");
    assert_string_equal(nic->mac, "02:00:00:00:00:07");
    assert_int_equal(nic->mtu, 1500);
    assert_int_equal(nic->n_taps, 1);
    assert_int_equal(nic->n_ips, 1);
    assert_string_equal(nic->ips[0], "10.88.0.2");
    assert_string_equal(dhcp,
                        "{\"address\":\"10.0.2.2/24\",\"gateway\":\"10.0.2.1\",\"server\":\"10.0.2.1\",\"dns\":[\"10.96.0.10\"],"
                        "\"search\":[\"sub.default.svc.cluster.local\",\"default.svc.cluster.local\",\"svc.cluster.local\","
                        "\"cluster.local\"],\"domain\":\"sub.default.svc.cluster.local\",\"hostname\":\"alpha\",\"mtu\":1500}");

    AUTO_FREE char *links = shell_in(a_path, "ip -o addr show k6t-eth0; ip -o link show k6t-eth0; ip -d -o link show tap0; ip -o addr show eth0");
    assert_has(links, "10.0.2.1/24");
    assert_has(links, "02:00:00:00:00:00");
    assert_has(links, "master k6t-eth0");
    assert_has(links, "persist on");
    assert_has(links, "user 107");
    assert_has(links, "10.88.0.2/16");
    AUTO_FREE char *sysctls = shell_in(a_path, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/k6t-eth0/route_localnet");
    assert_string_equal(sysctls, "1\n1\n");

    /* The guest asks, the server answers through the bridge. */
    tap_discover(nic->tap_fds[0], mac);
    answer_dhcp(nic);
    assert_true(tap_gets(nic->tap_fds[0], "XID!", 4));
    /* A datagram to the pod's address from the other pod comes to the guest: the first sign is the bridge asking for it. */
    free(shell_in(b_path, "echo hello >/dev/udp/10.88.0.2/9999"));
    assert_true(tap_gets(nic->tap_fds[0], arp_for_guest, 4));

    /* While the tap is held it stays its holder's; afterwards it is found again. */
    vm_setup(w, "pod-a", binding, "\"pod\":{}", &a, &again);
    wait_for(w, &again, true);
    assert_int_equal(again.vm.nics[0].n_taps, 0);
    assert_int_equal(again.vm.nics[0].dhcp_fd, -1);
    network_vm_done(&again.vm);
    network_vm_done(&vm.vm);
    vm_setup(w, "pod-a", binding, "\"pod\":{}", &a, &again);
    wait_for(w, &again, true);
    assert_int_equal(again.vm.nics[0].n_taps, 1);
    assert_true(again.vm.nics[0].dhcp_fd >= 0);
    network_vm_done(&again.vm);

    AUTO_FREE char *rules = shell_in(a_path, "nft list table ip nat | sed \"s/counter packets [0-9]* bytes [0-9]* /counter /; s/^\\t*//\"");
    assert_string_equal(rules,
                        "table ip nat {\n"
                        "chain KUBEVIRT_PREINBOUND {\n"
                        "tcp dport 22 counter dnat to 10.0.2.2\n"
                        "udp dport 9999 counter dnat to 10.0.2.2\n"
                        "}\n\n"
                        "chain KUBEVIRT_POSTINBOUND {\n"
                        "ip saddr 127.0.0.1 tcp dport 22 counter snat to 10.0.2.1\n"
                        "ip saddr 127.0.0.1 udp dport 9999 counter snat to 10.0.2.1\n"
                        "}\n\n"
                        "chain prerouting {\n"
                        "type nat hook prerouting priority dstnat; policy accept;\n"
                        "iifname \"eth0\" counter jump KUBEVIRT_PREINBOUND\n"
                        "}\n\n"
                        "chain input {\n"
                        "type nat hook input priority 100; policy accept;\n"
                        "}\n\n"
                        "chain output {\n"
                        "type nat hook output priority -100; policy accept;\n"
                        "ip daddr 127.0.0.1 tcp dport 22 counter dnat to 10.0.2.2\n"
                        "ip daddr 127.0.0.1 udp dport 9999 counter dnat to 10.0.2.2\n"
                        "}\n\n"
                        "chain postrouting {\n"
                        "type nat hook postrouting priority srcnat; policy accept;\n"
                        "ip saddr 10.0.2.2 counter masquerade\n"
                        "oifname \"k6t-eth0\" counter jump KUBEVIRT_POSTINBOUND\n"
                        "}\n"
                        "}\n");
    assert_true(network_teardown(w->n, &err));
}

/* A guest in a namespace of its own in place of a machine, and a host beyond the uplink. */
static void masqueraded_traffic(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *a_path = xasprintf("%s/pod-a", w->dir), *b_path = xasprintf("%s/pod-b", w->dir);
    AUTO_FREE char *guest = xasprintf("%s/pod-guest", w->dir), *outside = xasprintf("%s/pod-outside", w->dir);
    AUTO_FREE char *make = xasprintf("touch %s %s; unshare --net=%s true; unshare --net=%s true; "
                                     "ip link add up0 type veth peer name eth0 netns %s; ip addr add 192.0.2.1/24 dev up0; "
                                     "ip link set up0 up; ip route add default via 192.0.2.2",
                                     guest, outside, guest, outside, outside);
    struct answer pod, other, vm;

    free(shell(make));
    free(shell_in(outside, "ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip link set lo up"));
    w->n = open_network(w);
    add(w, "pod-a", &pod);
    wait_for(w, &pod, true);
    add(w, "pod-b", &other);
    wait_for(w, &other, true);
    vm_setup(w, "pod-a", "\"masquerade\":{},\"ports\":[{\"port\":8080}]", "\"pod\":{}", &a, &vm);
    wait_for(w, &vm, true);
    AUTO_FREE char *plug = xasprintf("ip link add guest0 type veth peer name eth0 netns %s; ip link set guest0 master k6t-eth0 up", guest);
    free(shell_in(a_path, plug));
    free(shell_in(guest, "ip addr add 10.0.2.2/24 dev eth0; ip link set eth0 up; ip link set lo up; ip route add default via 10.0.2.1"));

    /* Out: twice masqueraded, so the world beyond needs no route back. */
    free(shell_in(guest, "busybox ping -c 1 -W 3 192.0.2.2"));
    /* In: the pod's address at the given port is the guest; from another pod, from the host, from the pod's loopback. */
    AUTO_FREE char *serve = xasprintf("nsenter --net=%s socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:\"echo guest \\$SOCAT_PEERADDR\" "
                                      ">/dev/null 2>&1 & echo $!", guest);
    AUTO_FREE char *pid = shell(serve), *end = xasprintf("kill %s", pid);
    usleep(300000);
    const char *ask = "exec 3<>/dev/tcp/10.88.0.2/8080 && cat <&3";
    AUTO_FREE char *from_pod = shell_in(b_path, ask), *from_host = shell_in("/proc/self/ns/net", ask);
    AUTO_FREE char *from_loopback = shell_in(a_path, "exec 3<>/dev/tcp/127.0.0.1/8080 && cat <&3");
    AUTO_FREE char *closed = shell_in(b_path, "(exec 3<>/dev/tcp/10.88.0.2/8081) 2>/dev/null || echo closed");
    free(shell(end));
    assert_string_equal(from_pod, "guest 10.88.0.3\n");
    assert_string_equal(from_host, "guest 10.88.0.1\n");
    assert_string_equal(from_loopback, "guest 10.0.2.1\n");
    assert_string_equal(closed, "closed\n");
    /* No pod speaks with an address that is not its own network's. */
    free(shell_in(b_path, "ip addr add 203.0.113.9/32 dev lo; ! busybox ping -c 1 -W 1 -I 203.0.113.9 192.0.2.2"));
    AUTO_FREE char *forward = shell("nft list chain inet vireo-0a1b2c3d forward");
    assert_null(strstr(forward, "packets 0 "));
    network_vm_done(&vm.vm);
    assert_true(network_teardown(w->n, &err));
    free(shell("ip link del up0"));
}

static void many_pods_at_once(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(error_clear) struct error err = {0};
    static struct answer a[12];

    w->n = open_network(w);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
        AUTO_FREE char *uid = xasprintf("pod-%zu", i);

        add(w, uid, &a[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
        wait_for(w, &a[i], true);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(a[i].pod.ip, a[j].pod.ip);
    }
    assert_true(network_teardown(w->n, &err));
}

/* A range of 8 addresses has 5 for pods: the sixth is told, and gets one when another goes. */
static void addresses_run_out_and_come_back(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(error_clear) struct error err = {0};
    struct network_config c = config_of(w);
    AUTO_FREE char *path = xasprintf("%s/pod-3", w->dir);
    struct answer a;

    c.pod_cidr = "10.88.0.0/29";
    w->n = network_new(&c, &err);
    assert_non_null(w->n);
    assert_true(network_setup(w->n, &err));
    for (int i = 0; i < 6; i++) {
        AUTO_FREE char *uid = xasprintf("pod-%d", i);

        add(w, uid, &a);
        wait_for(w, &a, i < 5);
    }
    assert_has(a.why, "network of pod default/pod: CNI bridge: ");
    assert_has(a.why, "no IP addresses available");
    a = (struct answer){0};
    network_pod_del(w->n, "pod-3", path, removed, &a);
    wait_for(w, &a, true);
    add(w, "pod-5", &a);
    wait_for(w, &a, true);
    /* The range changed while pods run. */
    network_free(w->n);
    c.pod_cidr = "10.88.0.0/16";
    w->n = network_new(&c, &err);
    assert_non_null(w->n);
    assert_false(network_setup(w->n, &err));
    assert_has(err.msg, "vireo stop --all");
    error_clear(&err);
    if (!network_teardown(w->n, &err) || !network_setup(w->n, &err) || !network_teardown(w->n, &err))
        fail_msg("%s", error_text(&err));
}

static void both_families_and_queues(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *a_path = xasprintf("%s/pod-a", w->dir);
    static const char network[] = "\"pod\":{\"vmNetworkCIDR\":\"172.31.9.0/28\",\"vmIPv6NetworkCIDR\":\"fd10:9::/120\"}";
    const char *queues = "\"masquerade\":{},\"dhcpOptions\":{\"bootFileName\":\"b\",\"tftpServerName\":\"t\",\"ntpServers\":["
                         "\"1.2.3.4\",\"5.6.7.8\"],\"privateOptions\":[{\"option\":240,\"value\":\"x\"}]}}],\"networkInterfaceMultiqueue\":true},\"cpu\":{\"cores\":2,\"sockets\":2},\"x\":{\"y\":[{\"z\":1";
    struct answer pod, vm;

    w->n = open_network(w);
    add(w, "pod-a", &pod);
    wait_for(w, &pod, true);
    free(shell_in(a_path, "ip addr add fd77::5/64 dev eth0 nodad"));
    vm_setup(w, "pod-a", queues, network, &a, &vm);
    wait_for(w, &vm, true);
    assert_int_equal(vm.vm.nics[0].n_taps, 4);
    assert_int_equal(vm.vm.nics[0].n_ips, 2);
    assert_string_equal(vm.vm.nics[0].ips[1], "fd77::5");
    assert_true(str_is(json_str_at(vm.vm.nics[0].dhcp, "address"), "172.31.9.2/28"));
    AUTO_FREE char *options = json_text(json_get(vm.vm.nics[0].dhcp, "options"));
    assert_string_equal(options, "[{\"code\":42,\"text\":\"1.2.3.4,5.6.7.8\"},{\"code\":66,\"text\":\"t\"},{\"code\":67,\"text\":\"b\"},"
                                 "{\"code\":240,\"text\":\"x\"}]");
    AUTO_FREE char *shown = shell_in(a_path, "ip -o addr show k6t-eth0; nft list table ip6 nat; cat /proc/sys/net/ipv6/conf/all/forwarding");
    assert_has(shown, "fd10:9::1/120");
    assert_has(shown, "172.31.9.1/28");
    assert_has(shown, "dnat to fd10:9::2");
    assert_has(shown, "}\n1\n");
    network_vm_done(&vm.vm);
    vm_setup(w, "pod-a", queues, network, &a, &vm);
    wait_for(w, &vm, true);
    assert_int_equal(vm.vm.nics[0].n_taps, 4);
    network_vm_done(&vm.vm);
    assert_true(network_teardown(w->n, &err));
}

static void bridge(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *a_path = xasprintf("%s/pod-a", w->dir);
    static const uint8_t arp_for_guest[] = {10, 88, 0, 2};
    struct answer pod, vm, again;
    uint8_t mac[6];

    w->n = open_network(w);
    add(w, "pod-a", &pod);
    wait_for(w, &pod, true);
    vm_setup(w, "pod-a", "\"bridge\":{}", "\"pod\":{}", &a, &vm);
    wait_for(w, &vm, true);
    struct network_nic *nic = &vm.vm.nics[0];
    assert_string_equal(nic->mac, pod.pod.mac);
    assert_string_equal(nic->ips[0], "10.88.0.2");
    AUTO_FREE char *dhcp = json_text(nic->dhcp), *mac_part = xasprintf("\"mac\":\"%s\"", pod.pod.mac);
    assert_has(dhcp, "\"address\":\"10.88.0.2/16\",\"gateway\":\"10.88.0.1\",\"server\":\"169.254.75.10\"");
    assert_has(dhcp, "\"routes\":[{\"to\":\"0.0.0.0/0\",\"via\":\"10.88.0.1\"}]");
    assert_has(dhcp, mac_part);
    AUTO_FREE char *links = shell_in(a_path, "ip -o -d link show eth0; ip -o -d link show eth0-nic; ip -o addr; bridge -d link show dev eth0-nic");
    assert_true(strstr(links, "dummy") || strstr(links, ": eth0: <BROADCAST"));
    assert_has(links, "master k6t-eth0");
    assert_has(links, "169.254.75.10/32");
    assert_has(links, "learning off");

    assert_true(mac_parse(str_of(nic->mac), mac));
    tap_discover(nic->tap_fds[0], mac);
    answer_dhcp(nic);
    assert_true(tap_gets(nic->tap_fds[0], "XID!", 4));
    free(shell("busybox ping -c 1 -W 1 10.88.0.2 || true")); /* nobody answers, but the question gets through */
    assert_true(tap_gets(nic->tap_fds[0], arp_for_guest, 4));
    network_vm_done(&vm.vm);

    vm_setup(w, "pod-a", "\"bridge\":{}", "\"pod\":{}", &a, &again);
    wait_for(w, &again, true);
    AUTO_FREE char *same = json_text(again.vm.nics[0].dhcp);
    assert_string_equal(same, dhcp);
    assert_string_equal(again.vm.nics[0].mac, pod.pod.mac);
    network_vm_done(&again.vm);
    assert_true(network_teardown(w->n, &err));
}

static void what_cannot_be_done_is_said(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    static const struct {
        const char *binding, *network, *error;
    } cases[] = {
        {"\"passtBinding\":{}", "\"pod\":{}", "interface default: binding passtBinding is not available"},
        {"\"sriov\":{}", "\"multus\":{}", "interface default: binding sriov is not available"},
        {"\"bridge\":{}", "\"multus\":{\"networkName\":\"x\"}", "give it pod: {}"},
        {"\"masquerade\":{}", "\"pod\":{\"vmNetworkCIDR\":\"10.0.2.0/31\"}", "no room"},
        {"\"masquerade\":{},\"ports\":[{\"port\":70000}]", "\"pod\":{}", "out of range"},
        {"\"masquerade\":{},\"macAddress\":\"xx\"", "\"pod\":{}", "macAddress 'xx'"},
    };
    struct world *w = *state;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct answer pod, vm;

    w->n = open_network(w);
    add(w, "pod-a", &pod);
    wait_for(w, &pod, true);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        vm_setup(w, "pod-a", cases[i].binding, cases[i].network, &a, &vm);
        wait_for(w, &vm, false);
        assert_has(vm.why, cases[i].error);
    }
    assert_true(network_teardown(w->n, &err));
}

static void collect_finding(void *user, bool fatal, const char *text)
{
    buf_addf(user, "%s: %s\n", fatal ? "fatal" : "warn", text);
}

static void doctor(void **state)
{
    SKIP_UNLESS_POSSIBLE();
    struct world *w = *state;
    AUTO(buf_done) struct buf found = {0};
    struct network_config c = config_of(w);

    network_doctor(&c, collect_finding, &found);
    assert_string_equal(found.p ? found.p : "", "");
    free(shell("nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; add chain "
               "ip filter DOCKER-USER'; ip link add vpn type bridge; ip addr add 10.88.9.1/24 dev vpn"));
    c.cni_bin_dir = "/nonexistent";
    network_doctor(&c, collect_finding, &found);
    assert_has(found.p, "warn: Docker drops");
    assert_has(found.p, "iptables -I DOCKER-USER -i vireo-0a1b2c3d -j ACCEPT");
    assert_has(found.p, "fatal: CNI plugin /nonexistent/bridge is missing");
    assert_has(found.p, "fatal: the range of pods 10.88.0.0/16 overlaps 10.88.9.1/24 (address of vpn)");
    buf_clear(&found);
    free(shell("nft add rule ip filter DOCKER-USER iifname vireo-0a1b2c3d accept; ip link del vpn"));
    c.cni_bin_dir = CNI_DIR;
    network_doctor(&c, collect_finding, &found);
    assert_string_equal(found.p, "");
    free(shell("nft delete table ip filter"));
}

static const char *enter(void)
{
    if (geteuid() != 0)
        return "must run as root: it makes network namespaces";
    if (access(CNI_DIR "/bridge", X_OK) < 0 || access(CNI_DIR "/host-local", X_OK) < 0)
        return "no CNI plugins in " CNI_DIR;
    if (access("/dev/net/tun", R_OK | W_OK) < 0)
        return "no /dev/net/tun";
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
        || mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
        return "no namespaces here";
    return NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pods_reach_each_other_and_leave_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_plugin_dir_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(overlapping_range_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(masquerade, set_up, tear_down),
        cmocka_unit_test_setup_teardown(masqueraded_traffic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_pods_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(addresses_run_out_and_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(both_families_and_queues, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bridge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_done_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(doctor, set_up, tear_down),
    };

    reason = enter();
    if (!reason)
        free(shell("ip link set lo up"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
