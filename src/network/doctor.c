/* What stands in the way of VMs' packets on a real host. Another's firewall is not ours to change: we name it and the fix. */
#include "network/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "json/json.h"
#include "loop/child.h"

struct doctor {
    const char *bridge;
    void (*finding)(void *user, bool fatal, const char *text);
    void *user;
};

PRINTF_LIKE(3, 4) static void say(const struct doctor *d, bool fatal, const char *fmt, ...)
{
    AUTO(buf_done) struct buf text = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    d->finding(d->user, fatal, text.p);
}

static bool output_of(const char *const *argv, struct buf *out, struct error *err)
{
    buf_init(out, 8u << 20);
    return child_run(&(struct child_spec){.argv = argv}, SECONDS(10), out, err);
}

static void check_plugins(const struct doctor *d, const char *dir)
{
    static const char *const names[] = {"bridge", "host-local"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, names[i]);

        if (access(path, X_OK) < 0)
            say(d, true, "CNI plugin %s is missing: apt install containernetworking-plugins, or say where by --cni-dir", path);
    }
}

static void check_forwarding(const struct doctor *d)
{
    if (!sysctl_is("net/ipv4/ip_forward", "1") && access("/proc/sys/net/ipv4/ip_forward", W_OK) < 0)
        say(d, true, "IP forwarding is off and cannot be turned on here: sysctl -w net.ipv4.ip_forward=1 on the host");
}

static void check_range(const struct doctor *d, const char *cidr)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(netlink_close_p) struct netlink *nl = netlink_open(&err);
    struct ip pods;

    if (!nl || !network_range_parse(cidr, &pods, &err) || !network_overlap(nl, &pods, d->bridge, &err))
        say(d, true, "%s", error_text(&err));
}

/* Does a table's text let our bridge through by name? Whoever followed an earlier advice hears nothing. */
static bool mentions(const struct doctor *d, struct str family, struct str table)
{
    AUTO_FREE char *f = str_dup(family), *t = str_dup(table);
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    size_t at;

    return output_of((const char *const[]){"nft", "list", "table", f, t, NULL}, &text, &err)
           && str_find(buf_str(&text), str_of(d->bridge), &at);
}

static bool has_chain(const struct json *list, struct str family, struct str table, const char *name)
{
    json_each_item(item, list) {
        const struct json *c = json_get(item, "chain");

        if (str_is(json_str_at(c, "name"), name) && str_eq(json_str_at(c, "family"), family)
            && str_eq(json_str_at(c, "table"), table))
            return true;
    }
    return false;
}

static void dropped_by(const struct doctor *d, const struct json *list, struct str family, struct str table)
{
    const char *b = d->bridge;

    if (has_chain(list, family, table, "DOCKER-USER"))
        say(d, false, "Docker drops what it does not forward itself, VMs' packets too: iptables -I DOCKER-USER -i %s -j ACCEPT && "
                      "iptables -I DOCKER-USER -o %s -j ACCEPT", b, b);
    else if (has_chain(list, family, table, "ufw-before-forward"))
        say(d, false, "ufw drops forwarded packets, VMs' too: ufw route allow in on %s && ufw route allow out on %s", b, b);
    else
        say(d, false, "the firewall table " STR_FMT " " STR_FMT " drops forwarded packets by policy, VMs' too: accept those from and to "
                      "interface %s in its forward chain", STR_ARG(family), STR_ARG(table), b);
}

/* A packet has to pass every table: one accept does not make good another's drop. */
static void check_firewalls(const struct doctor *d)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v, *list;

    if (!output_of((const char *const[]){"nft", "-j", "list", "chains", NULL}, &text, &err)
        || !json_parse(buf_str(&text), &a, &v, &err)) {
        if (err.kind == ERROR_NOT_FOUND)
            say(d, true, "nft is not installed: apt install nftables");
        else if (geteuid() == 0)
            say(d, true, "nft does not work here: %s (is nf_tables in this kernel?)", error_text(&err));
        return;
    }
    list = json_get(v, "nftables");
    json_each_item(item, list) {
        const struct json *c = json_get(item, "chain");
        struct str family = json_str_at(c, "family"), table = json_str_at(c, "table");

        if (!str_is(json_str_at(c, "hook"), "forward") || str_is(family, "ip6") || str_is(family, "bridge"))
            continue;
        if (str_is(table, "firewalld")) {
            if (str_is(json_str_at(c, "name"), "filter_FORWARD") && !mentions(d, family, table))
                say(d, false, "firewalld refuses what no zone forwards, VMs' packets too: firewall-cmd --permanent --zone=trusted "
                              "--add-interface=%s && firewall-cmd --reload", d->bridge);
        } else if (str_is(json_str_at(c, "policy"), "drop") && !mentions(d, family, table)) {
            dropped_by(d, list, family, table);
        }
    }
}

/* The old iptables keep rules where nft does not see them. */
static void check_legacy(const struct doctor *d)
{
    AUTO(buf_done) struct buf names = {0};
    AUTO(buf_done) struct buf rules = {0};
    AUTO(error_clear) struct error err = {0};
    size_t at;

    if (!file_read(AT_FDCWD, "/proc/net/ip_tables_names", &names, &err) || !str_find(buf_str(&names), STR("filter"), &at))
        return;
    if (!output_of((const char *const[]){"iptables-legacy", "-S", NULL}, &rules, &err)) {
        say(d, false, "legacy iptables rules are in force and cannot be read (%s): if VMs reach nothing, accept interface %s in their "
                      "FORWARD chain", error_text(&err), d->bridge);
    } else if (str_find(buf_str(&rules), STR("-P FORWARD DROP"), &at) && !str_find(buf_str(&rules), str_of(d->bridge), &at)) {
        bool docker = str_find(buf_str(&rules), STR("-N DOCKER-USER"), &at);
        const char *chain = docker ? "DOCKER-USER" : "FORWARD";

        say(d, false, "%s drops forwarded packets, VMs' too: iptables-legacy -I %s -i %s -j ACCEPT && iptables-legacy -I %s -o %s -j "
                      "ACCEPT", docker ? "Docker" : "iptables", chain, d->bridge, chain, d->bridge);
    }
}

void network_doctor(const struct network_config *c, void (*finding)(void *user, bool fatal, const char *text), void *user)
{
    char bridge[LINK_NAME];
    const struct doctor d = {.bridge = bridge, .finding = finding, .user = user};

    network_bridge_name(c->instance, bridge);
    check_plugins(&d, c->cni_bin_dir);
    check_range(&d, c->pod_cidr);
    check_forwarding(&d);
    check_firewalls(&d);
    check_legacy(&d);
}
