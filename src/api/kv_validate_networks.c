/* Rules of spec.networks and spec.domain.devices.interfaces. */
#include "api/kv_rules.h"

#include <arpa/inet.h>

#include "base/cleanup.h"

#define BRIDGE_MAC "02:00:00:00:00:00" /* of the bridge inside the pod */

bool kv_pod_network(const struct json *spec)
{
    json_each_item(n, json_get(spec, "networks"))
        if (kv_has(n, "pod"))
            return true;
    return false;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "0000:81:01.0": domain, bus, slot below 0x20, function below 8 */
bool kv_pci_address(struct str s)
{
    static const char form[] = "hhhh:hh:hh.h";

    if (s.n != sizeof form - 1)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (form[i] == 'h' ? hex(s.p[i]) < 0 : s.p[i] != form[i])
            return false;
    return hex(s.p[8]) < 2 && hex(s.p[11]) < 8;
}

/* Pairs of hex digits between colons or dashes. Returns how many bytes, 0 when malformed. */
static size_t mac_bytes(struct str s)
{
    char between = s.n > 2 ? s.p[2] : ':';

    if ((between != ':' && between != '-') || (s.n + 1) % 3)
        return 0;
    for (size_t i = 0; i < s.n; i++)
        if (i % 3 == 2 ? s.p[i] != between : hex(s.p[i]) < 0)
            return 0;
    return (s.n + 1) / 3;
}

/* ---- networks -------------------------------------------------------------------------------------------------------------- */

static void check_networks(struct rules *r)
{
    static const char *const kinds[] = {"multus", "pod", NULL};
    const struct json *networks = json_get(r->spec, "networks");
    size_t i = 0, defaults = 0;
    bool pod = false;

    json_each_item(n, networks) {
        struct str name = json_str_at(n, "name");
        const char *at = rules_at(r, "networks[%zu]", i),
                   *name_at = arena_printf(r->a, "%s.name", at);

        if (kv_named(networks, name) != n)
            rules_invalid(r, name_at,
                          "Network with name \"" STR_FMT
                          "\" already exists, every network must have a unique name",
                          STR_ARG(name));
        if (kv_count(n, kinds, NULL) == 0)
            rules_required(r, at, "should have a network type");
        else if (kv_count(n, kinds, NULL) > 1)
            rules_required(r, at, "should have only one network type");
        if (kv_has(n, "multus") && !json_str_at(n, "multus/networkName").n)
            rules_required(r, at, "CNI delegating plugin must have a networkName");
        defaults += json_bool_at(n, "multus/default", false);
        pod |= kv_has(n, "pod");
        if (!kv_named(json_get(r->devices, "interfaces"), name))
            rules_invalid(r, name_at, "%s '" STR_FMT "' not found.", name_at, STR_ARG(name));
        i++;
    }
    if (defaults > 1)
        rules_invalid(r, rules_at(r, "networks"),
                      "Multus CNI should only have one default network");
    if (defaults && pod)
        rules_invalid(r, rules_at(r, "networks"),
                      "Pod network cannot be defined when Multus default network is defined");
}

/* ---- interfaces ------------------------------------------------------------------------------------------------------------ */

static bool name_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'
              || c == '_'))
            return false;
    }
    return s.n > 0;
}

static void check_binding(struct rules *r, const struct json *iface, const struct json *network,
                          const char *at)
{
    static const struct {
        const char *key, *name;
    } gone[] = {{"slirp", "Slirp interface support"},
                {"macvtap", "Macvtap network binding"},
                {"passt", "Passt network binding"}};
    static const char *const core[] = {"bridge", "masquerade", "passtBinding", "sriov", NULL};
    struct str name = json_str_at(iface, "name");
    size_t n = kv_count(iface, core, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
        if (kv_has(iface, gone[i].key))
            rules_invalid(r, arena_printf(r->a, "%s.%s", at, gone[i].key),
                          "%s has been discontinued since v1.3", gone[i].name);
    if (kv_has(iface, "binding") && n)
        rules_invalid(r, arena_printf(r->a, "%s.binding", at),
                      "logical " STR_FMT
                      " interface cannot have both binding plugin and interface binding method",
                      STR_ARG(name));
    if (n > 1)
        rules_invalid(r, at, "logical " STR_FMT " interface can only have one binding method",
                      STR_ARG(name));
    if (kv_has(iface, "masquerade") && network && !kv_has(network, "pod"))
        rules_invalid(r, arena_printf(r->a, "%s.name", at),
                      "Masquerade interface only implemented with pod network");
    if (kv_has(iface, "masquerade")
        && str_eq_nocase(json_str_at(iface, "macAddress"), STR(BRIDGE_MAC)))
        rules_invalid(r, arena_printf(r->a, "%s.macAddress", at),
                      "The requested MAC address is reserved for the in-pod bridge. Please choose "
                      "another one.");
    if (kv_has(iface, "bridge") && kv_has(network, "pod") && !r->c->permit_bridge_on_pod_network)
        rules_invalid(r, arena_printf(r->a, "%s.name", at),
                      "Bridge on pod network configuration is not enabled under kubevirt-config");
    if (kv_has(iface, "passtBinding") && !kv_gate(r->c, "PasstBinding"))
        rules_invalid(r, arena_printf(r->a, "%s.passtBinding", at),
                      "PasstBinding feature gate is not enabled");
}

static void check_ports(struct rules *r, const struct json *iface, const char *at)
{
    const struct json *ports = json_get(iface, "ports");
    size_t i = 0;

    json_each_item(p, ports) {
        const char *field = arena_printf(r->a, "%s.ports[%zu]", at, i++);
        struct str protocol = json_str_at(p, "protocol"), name = json_str_at(p, "name");
        int64_t port = json_i64_at(p, "port", 0);

        if (port == 0)
            rules_required(r, field, "Port field is mandatory.");
        else if (port < 0 || port > 65535)
            rules_invalid(r, field, "Port field must be in range 0 < x < 65536.");
        if (protocol.n && !str_is(protocol, "TCP") && !str_is(protocol, "UDP"))
            rules_invalid(r, arena_printf(r->a, "%s.protocol", field),
                          "Unknown protocol, only TCP or UDP allowed");
        if (name.n && kv_named(ports, name) != p)
            rules_invalid(r, arena_printf(r->a, "%s.name", field),
                          "Duplicate name of the port: " STR_FMT, STR_ARG(name));
    }
}

static bool is_ipv4(struct str s)
{
    unsigned char raw[4];
    char text[INET_ADDRSTRLEN];

    if (s.n == 0 || s.n >= sizeof text)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return inet_pton(AF_INET, text, raw) == 1;
}

static void check_dhcp(struct rules *r, const struct json *options, const char *at)
{
    const struct json *list = json_get(options, "privateOptions");
    bool seen[256] = {false};
    size_t i = 0;

    json_each_item(server, json_get(options, "ntpServers"))
        if (!is_ipv4(json_str(server)))
            rules_invalid(r, arena_printf(r->a, "%s.dhcpOptions.ntpServers", at),
                          "NTP servers must be a list of valid IPv4 addresses.");
    json_each_item(o, list) {
        const char *field = arena_printf(r->a, "%s.dhcpOptions.privateOptions[%zu]", at, i++);
        int64_t number = json_i64_at(o, "option", 0);

        if (number < 224 || number > 254) {
            rules_invalid(
                r, field,
                "provided DHCPPrivateOptions are out of range, must be in range 224 to 254");
            continue;
        }
        if (seen[number])
            rules_invalid(r, field,
                          "Found Duplicates: you have provided duplicate DHCPPrivateOptions");
        seen[number] = true;
        if (json_str_at(o, "value").n > 255)
            rules_invalid(r, field,
                          "provided DHCPPrivateOptions are too long, must be at most 255 bytes");
    }
}

static void check_addresses(struct rules *r, const struct json *iface, const char *at)
{
    struct str name = json_str_at(iface, "name"), mac = json_str_at(iface, "macAddress"),
               pci = json_str_at(iface, "pciAddress");

    if (mac.n && mac_bytes(mac) != 6)
        rules_invalid(r, arena_printf(r->a, "%s.macAddress", at),
                      "interface " STR_FMT " has %s MAC address (" STR_FMT ").", STR_ARG(name),
                      mac_bytes(mac) > 6 ? "too long" : "malformed", STR_ARG(mac));
    if (pci.n && !kv_pci_address(pci))
        rules_invalid(r, arena_printf(r->a, "%s.pciAddress", at),
                      "interface " STR_FMT " has malformed PCI address (" STR_FMT ").",
                      STR_ARG(name), STR_ARG(pci));
}

static void check_state(struct rules *r, const struct json *iface, const struct json *network,
                        const char *at)
{
    static const char *const states[] = {"up", "down", "absent", NULL};
    struct str state = json_str_at(iface, "state"), name = json_str_at(iface, "name");
    const char *field = arena_printf(r->a, "%s.state", at);

    if (!state.n)
        return;
    if (!kv_one_of(state, states))
        rules_invalid(r, field,
                      "logical " STR_FMT " interface state value is unsupported: " STR_FMT,
                      STR_ARG(name), STR_ARG(state));
    else if (!str_is(state, "up") && kv_has(iface, "sriov"))
        rules_invalid(r, field,
                      "logical " STR_FMT " interface state \"" STR_FMT
                      "\" is not supported for SR-IOV",
                      STR_ARG(name), STR_ARG(state));
    else if (str_is(state, "absent")
             && (!kv_has(iface, "bridge") || kv_has(network, "pod")
                 || json_bool_at(network, "multus/default", false)))
        rules_invalid(
            r, field,
            "logical " STR_FMT
            " interface state absent is only supported for secondary networks with bridge binding",
            STR_ARG(name));
}

void rules_networks(struct rules *r)
{
    static const char *const models[] = {"virtio", "virtio-non-transitional",
                                         "e1000",  "e1000e",
                                         "igb",    "ne2k_pci",
                                         "pcnet",  "rtl8139",
                                         NULL};
    const struct json *interfaces = json_get(r->devices, "interfaces");
    size_t i = 0, on_pod = 0;

    check_networks(r);
    json_each_item(iface, interfaces) {
        struct str name = json_str_at(iface, "name"), model = json_str_at(iface, "model");
        const char *at = rules_at(r, "domain.devices.interfaces[%zu]", i++),
                   *name_at = arena_printf(r->a, "%s.name", at);
        const struct json *network = kv_named(json_get(r->spec, "networks"), name);

        if (!network)
            rules_invalid(r, name_at, "%s '" STR_FMT "' not found.", name_at, STR_ARG(name));
        if (kv_named(interfaces, name) != iface)
            rules_invalid(r, name_at,
                          "Only one interface can be connected to one specific network");
        if (!name_ok(name))
            rules_invalid(r, name_at,
                          "Network interface name can only contain alphabetical characters, "
                          "numbers, dashes (-) or underscores (_)");
        if (model.n && !kv_one_of(model, models))
            rules_not_supported(r, arena_printf(r->a, "%s.model", at),
                                "interface " STR_FMT " uses model " STR_FMT
                                " that is not supported.",
                                STR_ARG(name), STR_ARG(model));
        on_pod += kv_has(network, "pod");
        check_binding(r, iface, network, at);
        check_ports(r, iface, at);
        check_addresses(r, iface, at);
        check_dhcp(r, json_get(iface, "dhcpOptions"), at);
        check_state(r, iface, network, at);
    }
    if (on_pod > 1)
        rules_invalid(r, rules_at(r, "domain.devices.interfaces"),
                      "more than one interface is connected to a pod network in %s",
                      rules_at(r, "domain.devices.interfaces"));
}
