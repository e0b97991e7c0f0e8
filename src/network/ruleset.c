#include "network/ruleset.h"

#include <sys/socket.h>

#include "base/cleanup.h"
#include "loop/child.h"

void ruleset_host(struct buf *out, const char *bridge, const struct ip *pods)
{
    struct ip net = ip_network(pods);
    char cidr[IP_TEXT + 4];

    ip_prefix_text(&net, cidr);
    ruleset_host_remove(out, bridge);
    buf_addf(out,
             "table inet %s {\n"
             "  chain postrouting {\n"
             "    type nat hook postrouting priority srcnat; policy accept;\n"
             "    ip saddr %s ip daddr != %s oifname != \"%s\" counter masquerade\n"
             "  }\n"
             "  chain forward {\n"
             "    type filter hook forward priority filter; policy accept;\n"
             "    iifname \"%s\" ip saddr != %s counter drop\n"
             "    iifname \"%s\" accept\n"
             "    oifname \"%s\" accept\n"
             "  }\n"
             "}\n",
             bridge, cidr, cidr, bridge, bridge, cidr, bridge, bridge);
}

/* nft has no "delete if it exists" before 1.0.7. */
void ruleset_host_remove(struct buf *out, const char *bridge)
{
    buf_addf(out, "add table inet %s\ndelete table inet %s\n", bridge, bridge);
}

static void add_chain(struct buf *out, const char *family, const char *name, const char *hook, int priority)
{
    if (hook)
        buf_addf(out, "add chain %s nat %s { type nat hook %s priority %d; }\n", family, name, hook, priority);
    else
        buf_addf(out, "add chain %s nat %s\n", family, name);
    buf_addf(out, "flush chain %s nat %s\n", family, name);
}

static void add_inbound(struct buf *out, const char *family, const char *match, const char *guest,
                        const char *loopback, const char *gateway)
{
    buf_addf(out, "add rule %s nat KUBEVIRT_PREINBOUND %scounter dnat to %s\n", family, match, guest);
    buf_addf(out, "add rule %s nat output %s daddr { %s } %scounter dnat to %s\n", family, family, loopback, match, guest);
    buf_addf(out, "add rule %s nat KUBEVIRT_POSTINBOUND %s saddr { %s } %scounter snat to %s\n", family, family, loopback, match,
             gateway);
}

/* Only our chains are flushed, not the table: a service mesh has its own in it. */
void ruleset_masquerade(struct buf *out, const struct ruleset_nat *n)
{
    const char *family = n->guest.family == AF_INET6 ? "ip6" : "ip";
    const char *loopback = n->guest.family == AF_INET6 ? "::1" : "127.0.0.1";
    char guest[IP_TEXT], gateway[IP_TEXT];

    ip_text(&n->guest, guest);
    ip_text(&n->gateway, gateway);
    buf_addf(out, "add table %s nat\n", family);
    add_chain(out, family, "KUBEVIRT_PREINBOUND", NULL, 0);
    add_chain(out, family, "KUBEVIRT_POSTINBOUND", NULL, 0);
    add_chain(out, family, "prerouting", "prerouting", -100);
    add_chain(out, family, "input", "input", 100);
    add_chain(out, family, "output", "output", -100);
    add_chain(out, family, "postrouting", "postrouting", 100);
    buf_addf(out, "add rule %s nat prerouting iifname \"%s\" counter jump KUBEVIRT_PREINBOUND\n", family, n->nic);
    buf_addf(out, "add rule %s nat postrouting %s saddr %s counter masquerade\n", family, family, guest);
    buf_addf(out, "add rule %s nat postrouting oifname \"%s\" counter jump KUBEVIRT_POSTINBOUND\n", family, n->bridge);
    if (n->n_ports == 0)
        add_inbound(out, family, "", guest, loopback, gateway);
    for (size_t i = 0; i < n->n_ports; i++) {
        AUTO(buf_done) struct buf match = {0};

        buf_addf(&match, "%s dport { %u } ", n->ports[i].udp ? "udp" : "tcp", n->ports[i].port);
        add_inbound(out, family, match.p, guest, loopback, gateway);
    }
}

bool ruleset_apply(struct str text, struct error *err)
{
    const struct child_spec spec = {
        .argv = (const char *const[]){"nft", "-f", "-", NULL}, .input = text, .die_with_parent = true};

    if (child_run(&spec, SECONDS(20), NULL, err))
        return true;
    if (err->kind == ERROR_NOT_FOUND)
        return error_set(err, ERROR_UNAVAILABLE, "nft is not installed: apt install nftables");
    return error_wrap(err, "nft rules");
}
