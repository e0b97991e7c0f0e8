/* A VM's network inside its pod: reads what the VMI asks for, lets binding.c build it in a forked child, and hands the
 * descriptors over. */
#include "network/binding.h"
#include "network/dhcp.h"
#include "network/network.h"
#include "network/worker.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "api/quantity.h"
#include "base/alloc.h"
#include "base/cleanup.h"

#define MAX_NICS  8
#define MAX_PORTS 256
#define POD_NIC   "eth0"

static_assert(BINDING_MAX_TAPS == sizeof((struct network_nic){0}.tap_fds) / sizeof(int), "as many queues as network.h has room for");
static_assert(MAX_NICS * (BINDING_MAX_TAPS + 1) <= WORKER_MAX_FDS, "all descriptors fit into one report");

struct vm_job {
    int netns_fd;
    const struct json *vmi;
    struct str resolv_conf;
    uid_t owner;
};

/* What the VMI asks for */

static unsigned queues_of(const struct json *vmi)
{
    const struct json *domain = json_at(vmi, "spec/domain");
    int64_t n = 1;

    if (!json_bool_at(domain, "devices/networkInterfaceMultiqueue", false))
        return 1;
    if (json_at(domain, "cpu/cores") || json_at(domain, "cpu/sockets") || json_at(domain, "cpu/threads")) {
        for (size_t i = 0; i < 3 && n <= BINDING_MAX_TAPS; i++) {
            int64_t factor = json_i64_at(domain, (const char *const[]){"cpu/cores", "cpu/sockets", "cpu/threads"}[i], 1);

            n *= factor > 0 && factor <= BINDING_MAX_TAPS ? factor : BINDING_MAX_TAPS;
        }
    } else {
        struct str cpu = json_str_at(domain, "resources/limits/cpu");

        n = (quantity_millis(cpu.p ? cpu : json_str_at(domain, "resources/requests/cpu"), 1000) + 999) / 1000;
    }
    return n < 1 ? 1 : n > BINDING_MAX_TAPS ? BINDING_MAX_TAPS : (unsigned)n;
}

static const struct json *network_of(const struct json *vmi, struct str name)
{
    json_each_item(n, json_at(vmi, "spec/networks"))
        if (str_eq(json_str_at(n, "name"), name))
            return n;
    return NULL;
}

static bool parse_ports(const struct json *interface, struct arena *a, struct binding_spec *s, struct error *err)
{
    const struct json *list = json_get(interface, "ports");
    struct ruleset_port *ports = ARENA_ARRAY(a, struct ruleset_port, MAX_PORTS);

    if (json_len(list) > MAX_PORTS)
        return error_set(err, ERROR_INVALID, "more than %d ports", MAX_PORTS);
    json_each_item(p, list) {
        int64_t port = json_i64_at(p, "port", 0);
        struct str protocol = json_str_at(p, "protocol");

        if (port < 1 || port > 65535)
            return error_set(err, ERROR_INVALID, "port %lld is out of range", (long long)port);
        if (protocol.n > 0 && !str_eq_nocase(protocol, STR("TCP")) && !str_eq_nocase(protocol, STR("UDP")))
            return error_set(err, ERROR_INVALID, "port %lld: protocol must be TCP or UDP", (long long)port);
        ports[s->n_ports++] = (struct ruleset_port){str_eq_nocase(protocol, STR("UDP")), (uint16_t)port};
    }
    s->ports = ports;
    return true;
}

static bool parse_range(const struct json *network, const char *key, const char *otherwise, unsigned longest, struct ip *ret,
                        struct error *err)
{
    struct str text = json_str_at(json_get(network, "pod"), key);

    if (!ip_parse_prefix(text.n ? text : str_of(otherwise), ret, err))
        return error_wrap(err, "%s", key);
    if (ret->prefix > longest || ip_bits(ret) != longest + 2)
        return error_set(err, ERROR_INVALID, "%s " STR_FMT " has no room for a gateway and a guest", key, STR_ARG(text));
    return true;
}

static bool unsupported(const struct json *interface, const struct json *network, struct error *err)
{
    static const char *const others[] = {"sriov", "passtBinding", "passt", "slirp", "macvtap", "binding"};

    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (json_get(interface, others[i]))
            return error_set(err, ERROR_UNSUPPORTED, "binding %s is not available in this release: write masquerade: {} or bridge: {}",
                             others[i]);
    if (!network)
        return error_set(err, ERROR_INVALID, "spec.networks has no network of that name");
    if (!json_get(network, "pod"))
        return error_set(err, ERROR_UNSUPPORTED, "networks other than pod: {} are not available in this release: give it pod: {}");
    return true;
}

static bool read_spec(const struct vm_job *j, const struct json *interface, struct arena *a, struct binding_spec *s,
                      struct error *err)
{
    const struct json *network = network_of(j->vmi, json_str_at(interface, "name"));

    *s = (struct binding_spec){.index = s->index, .nic = POD_NIC, .bridge = "k6t-" POD_NIC, .tap = "tap0", .owner = j->owner,
                               .queues = queues_of(j->vmi)};
    return unsupported(interface, network, err) && parse_ports(interface, a, s, err)
           && parse_range(network, "vmNetworkCIDR", "10.0.2.0/24", 30, &s->cidr4, err)
           && parse_range(network, "vmIPv6NetworkCIDR", "fd10:0:2::/120", 126, &s->cidr6, err);
}

/* What the guest's DHCP server tells it */

struct resolver {
    const struct json *dns, *search;
    struct str longest, longest_svc; /* search domains */
};

static bool next_word(struct str *line, struct str *ret)
{
    size_t n = 0;

    *line = str_trim(*line);
    while (n < line->n && line->p[n] != ' ' && line->p[n] != '\t')
        n++;
    *ret = str_take(*line, n);
    *line = str_skip(*line, n);
    return n > 0;
}

static void read_search(struct str line, struct arena *a, struct resolver *r)
{
    struct str domain;
    size_t at;

    r->search = NULL;
    r->longest = r->longest_svc = STR_NONE;
    while (next_word(&line, &domain)) {
        if (str_is(domain, "."))
            continue;
        r->search = json_append(a, r->search, json_new_str(a, domain));
        if (domain.n > r->longest.n)
            r->longest = domain;
        if (str_find(domain, STR(".svc."), &at) && domain.n > r->longest_svc.n)
            r->longest_svc = domain;
    }
}

/* A name server on the pod's loopback is out of the guest's reach. */
static bool reachable(struct str server)
{
    AUTO(error_clear) struct error err = {0};
    struct ip ip;

    return ip_parse(server, &ip, &err) && ip.family == AF_INET && ip.b[0] != 127;
}

static void read_resolv_conf(struct str text, struct arena *a, struct resolver *r)
{
    struct str line, word;

    while (str_next(&text, '\n', &line)) {
        if (!next_word(&line, &word))
            continue;
        if (str_is(word, "nameserver")) {
            if (next_word(&line, &word) && reachable(word))
                r->dns = json_append(a, r->dns, json_new_str(a, word));
        } else if (str_is(word, "search")) {
            read_search(line, a, r);
        }
    }
    if (!r->dns)
        r->dns = json_array(a, json_new_z(a, "8.8.8.8"), NULL);
    if (!r->search)
        read_search(STR("cluster.local"), a, r);
}

static struct str hostname_of(const struct json *vmi)
{
    struct str name = json_str_at(vmi, "spec/hostname"), first, rest;

    if (name.n == 0)
        name = json_str_at(vmi, "metadata/name");
    str_cut(name, '.', &first, &rest);
    return str_take(first, 63);
}

static const struct json *add_option(struct arena *a, const struct json *list, int64_t code, struct str text)
{
    if (text.n == 0)
        return list;
    return json_append(a, list, json_object(a, "code", json_new_i64(a, code), "text", json_new_str(a, text), NULL));
}

static const struct json *custom_options(const struct json *interface, struct arena *a)
{
    const struct json *o = json_get(interface, "dhcpOptions"), *list = NULL;
    AUTO(buf_done) struct buf ntp = {0};

    json_each_item(server, json_get(o, "ntpServers"))
        buf_addf(&ntp, "%s" STR_FMT, ntp.n ? "," : "", STR_ARG(json_str(server)));
    list = add_option(a, list, 42, buf_str(&ntp));
    list = add_option(a, list, 66, json_str_at(o, "tftpServerName"));
    list = add_option(a, list, 67, json_str_at(o, "bootFileName"));
    json_each_item(p, json_get(o, "privateOptions"))
        list = add_option(a, list, json_i64_at(p, "option", 0), json_str_at(p, "value"));
    return list;
}

static const struct json *routes_of(const struct binding *b, struct arena *a, struct ip *ret_gateway)
{
    const struct json *list = NULL;

    for (size_t i = 0; i < b->n_routes; i++) {
        char to[IP_TEXT + 4], via[IP_TEXT];

        ip_prefix_text(&b->routes[i].to, to);
        ip_text(&b->routes[i].via, via);
        if (b->routes[i].via.family)
            *ret_gateway = b->routes[i].via; /* the default route is last, and wins */
        list = json_append(a, list, json_object(a, "to", json_new_z(a, to), "via", json_new_z(a, via[0] ? via : "0.0.0.0"), NULL));
    }
    return list;
}

static bool make_dhcp(const struct vm_job *j, const struct json *interface, const struct binding *b, bool masquerade,
                      const char *guest_mac, struct arena *a, const struct json **ret, struct error *err)
{
    struct resolver r = {0};
    struct str subdomain = json_str_at(j->vmi, "spec/subdomain");
    struct ip gateway = masquerade ? b->server : (struct ip){0};
    char address[IP_TEXT + 4], server[IP_TEXT], gateway_text[IP_TEXT];
    struct dhcp_config trial;

    read_resolv_conf(j->resolv_conf, a, &r);
    if (subdomain.n > 0) {
        struct str of_namespace = r.longest_svc; /* of a cluster's DNS; without one, as it would be named */
        if (!of_namespace.n)
            of_namespace = str_of(arena_printf(a, STR_FMT ".svc.cluster.local", STR_ARG(json_str_at(j->vmi, "metadata/namespace"))));
        const struct json *own = json_new_f(a, STR_FMT "." STR_FMT, STR_ARG(subdomain), STR_ARG(of_namespace));
        const struct json *list = json_array(a, own, NULL);

        json_each_item(domain, r.search)
            list = json_append(a, list, domain);
        r.search = list;
        r.longest = json_str(own);
    }
    const struct json *routes = routes_of(b, a, &gateway);

    ip_prefix_text(&b->guest, address);
    ip_text(&b->server, server);
    ip_text(&gateway, gateway_text);
    *ret = json_object(a, "address", json_new_z(a, address), "gateway", gateway_text[0] ? json_new_z(a, gateway_text) : NULL,
                       "server", json_new_z(a, server), "dns", r.dns, "search", r.search, "domain", json_new_str(a, r.longest),
                       "hostname", json_new_str(a, hostname_of(j->vmi)), "mtu", json_new_i64(a, b->mtu), "mac",
                       masquerade ? NULL : json_new_z(a, guest_mac), "routes", routes, "options", custom_options(interface, a), NULL);
    return dhcp_config_parse(*ret, a, &trial, err) || error_wrap(err, "DHCP");
}

/* In the child */

static const struct json *give_fd(struct worker_report *r, int *fd)
{
    r->fds[r->n_fds] = TAKE_FD(*fd);
    return json_new_i64(r->a, (int64_t)r->n_fds++);
}

static bool nic_mac(const struct json *interface, const struct binding *b, char ret[MAC_TEXT], struct error *err)
{
    struct str text = json_str_at(interface, "macAddress");
    uint8_t mac[6];

    memcpy(mac, b->mac, 6);
    if (text.n > 0 && !mac_parse(text, mac))
        return error_set(err, ERROR_INVALID, "macAddress '" STR_FMT "'", STR_ARG(str_take(text, 40)));
    mac_text(mac, ret);
    return true;
}

static bool build(const struct vm_job *j, struct netlink *nl, const struct json *interface, unsigned index,
                  struct worker_report *r, const struct json **ret, struct error *err)
{
    AUTO(binding_done) struct binding b = {.dhcp_fd = -1};
    bool masquerade = json_get(interface, "masquerade") != NULL;
    const struct json *ips = NULL, *taps = NULL, *dhcp = NULL;
    struct binding_spec s = {.index = index};
    char mac[MAC_TEXT];

    if (!read_spec(j, interface, r->a, &s, err)
        || !(masquerade ? binding_masquerade(nl, &s, &b, err) : binding_bridge(nl, &s, &b, err))
        || !nic_mac(interface, &b, mac, err))
        return false;
    if (b.dhcp_fd >= 0 && !make_dhcp(j, interface, &b, masquerade, mac, r->a, &dhcp, err))
        return false;
    for (size_t i = 0; i < b.n_ips; i++) {
        char text[IP_TEXT];

        ip_text(&b.ips[i], text);
        ips = json_append(r->a, ips, json_new_z(r->a, text));
    }
    for (size_t i = 0; i < b.n_taps; i++)
        taps = json_append(r->a, taps, give_fd(r, &b.taps[i]));
    *ret = json_object(r->a, "name", json_get(interface, "name"), "mac", json_new_z(r->a, mac), "mtu", json_new_i64(r->a, b.mtu),
                       "ips", ips, "taps", taps, "dhcpFd", b.dhcp_fd >= 0 ? give_fd(r, &b.dhcp_fd) : NULL, "dhcp", dhcp, NULL);
    return true;
}

static bool setup_in_child(void *job, struct worker_report *r, struct error *err)
{
    const struct vm_job *j = job;
    AUTO(netlink_close_p) struct netlink *nl = NULL;
    const struct json *list = json_array(r->a, NULL);
    unsigned index = 0;
    bool pod_taken = false;

    if (setns(j->netns_fd, CLONE_NEWNET) < 0)
        return error_errno(err, errno, "enter the pod's network namespace");
    nl = netlink_open(err);
    if (!nl)
        return false;
    json_each_item(interface, json_at(j->vmi, "spec/domain/devices/interfaces")) {
        struct str name = json_str_at(interface, "name");
        const struct json *nic;

        if (str_is(json_str_at(interface, "state"), "absent"))
            continue;
        if (index == MAX_NICS)
            return error_set(err, ERROR_UNSUPPORTED, "more than %d interfaces", MAX_NICS);
        if (pod_taken && json_get(network_of(j->vmi, name), "pod"))
            return error_set(err, ERROR_INVALID, "interface " STR_FMT ": another has the pod network", STR_ARG(name));
        if (!build(j, nl, interface, index, r, &nic, err))
            return error_wrap(err, "interface " STR_FMT, STR_ARG(name));
        pod_taken = true;
        list = json_append(r->a, list, nic);
        index++;
    }
    r->json = json_object(r->a, "nics", list, NULL);
    return true;
}

/* In the parent */

struct vm_call {
    struct arena *a;
    void (*done)(void *user, struct network_vm *v, const struct error *err);
    void *user;
};

static int take_fd(const struct json *index, int *fds, size_t n_fds)
{
    int64_t i;

    return json_i64(index, &i) && i >= 0 && (uint64_t)i < n_fds ? TAKE_FD(fds[i]) : -1;
}

static void read_nic(const struct json *v, int *fds, size_t n_fds, struct arena *a, struct network_nic *ret)
{
    *ret = (struct network_nic){.dhcp_fd = take_fd(json_get(v, "dhcpFd"), fds, n_fds),
                                .mtu = (unsigned)json_i64_at(v, "mtu", 0),
                                .dhcp = json_get(v, "dhcp") ? json_copy(a, json_get(v, "dhcp")) : NULL};
    snprintf(ret->name, sizeof ret->name, STR_FMT, STR_ARG(json_str_at(v, "name")));
    snprintf(ret->mac, sizeof ret->mac, STR_FMT, STR_ARG(json_str_at(v, "mac")));
    json_each_item(ip, json_get(v, "ips"))
        if (ret->n_ips < ARRAY_SIZE(ret->ips))
            snprintf(ret->ips[ret->n_ips++], sizeof ret->ips[0], STR_FMT, STR_ARG(json_str(ip)));
    json_each_item(tap, json_get(v, "taps"))
        if (ret->n_taps < ARRAY_SIZE(ret->tap_fds))
            ret->tap_fds[ret->n_taps++] = take_fd(tap, fds, n_fds);
}

static void finished(void *user, const struct json *ok, int *fds, size_t n_fds, const struct error *err)
{
    struct vm_call *c = user;
    struct network_vm vm = {0};
    const struct error none = {0};

    json_each_item(nic, json_get(ok, "nics"))
        if (vm.n < ARRAY_SIZE(vm.nics))
            read_nic(nic, fds, n_fds, c->a, &vm.nics[vm.n++]);
    c->done(c->user, err ? NULL : &vm, err ? err : &none);
    network_vm_done(&vm);
    free(c);
}

void network_vm_done(struct network_vm *v)
{
    if (!v)
        return;
    for (unsigned i = 0; i < v->n; i++) {
        for (unsigned t = 0; t < v->nics[i].n_taps; t++)
            fd_close(&v->nics[i].tap_fds[t]);
        fd_close(&v->nics[i].dhcp_fd);
    }
    *v = (struct network_vm){0};
}

void network_vm_setup(struct loop *l, int netns_fd, const struct json *vmi, struct str resolv_conf, uid_t owner, struct arena *a,
                      void (*done)(void *, struct network_vm *, const struct error *), void *user)
{
    struct vm_job job = {.netns_fd = netns_fd, .vmi = vmi, .resolv_conf = resolv_conf, .owner = owner};
    struct vm_call *c = NEW(struct vm_call);

    c->a = a;
    c->done = done;
    c->user = user;
    worker_start(l, setup_in_child, &job, finished, c);
}
