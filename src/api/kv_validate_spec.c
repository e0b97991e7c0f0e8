/* Rules of the VMI's spec beside domain, volumes and networks. */
#include "api/kv_rules.h"

#include <arpa/inet.h>

#include "api/names.h"
#include "base/cleanup.h"

static void check_names(struct rules *r)
{
    struct str hostname = json_str_at(r->spec, "hostname"),
               subdomain = json_str_at(r->spec, "subdomain");
    const char *why;

    if (hostname.n && (why = name_dns1123_label(hostname)))
        rules_invalid(r, rules_at(r, "hostname"),
                      "%s does not conform to the kubernetes DNS_LABEL rules : %s",
                      rules_at(r, "hostname"), why);
    if (subdomain.n && (why = name_dns1123_subdomain(subdomain)))
        rules_invalid(r, rules_at(r, "subdomain"),
                      "%s does not conform to the kubernetes DNS_SUBDOMAIN rules : %s",
                      rules_at(r, "subdomain"), why);
}

static void check_strategies(struct rules *r)
{
    static const char *const evictions[] = {"None", "LiveMigrate", "LiveMigrateIfPossible",
                                            "External", NULL};
    struct str start = json_str_at(r->spec, "startStrategy"),
               eviction = json_str_at(r->spec, "evictionStrategy");
    const char *field = rules_at(r, "startStrategy");

    if (kv_has(r->spec, "startStrategy") && !str_is(start, "Paused"))
        rules_invalid(r, field, "%s is set with an unrecognized option: " STR_FMT, field,
                      STR_ARG(start));
    else if (str_is(start, "Paused") && kv_has(r->spec, "livenessProbe"))
        rules_invalid(
            r, field,
            "either %s or %s should be provided.Pausing VMI with LivenessProbe is not supported",
            field, rules_at(r, "livenessProbe"));
    field = rules_at(r, "evictionStrategy");
    if (kv_has(r->spec, "evictionStrategy") && !kv_one_of(eviction, evictions))
        rules_invalid(r, field, "%s is set with an unrecognized option: " STR_FMT, field,
                      STR_ARG(eviction));
    if (json_i64_at(r->spec, "terminationGracePeriodSeconds", 0) < 0)
        rules_invalid(r, rules_at(r, "terminationGracePeriodSeconds"),
                      "%s must be greater than or equal to 0.",
                      rules_at(r, "terminationGracePeriodSeconds"));
}

static void check_probe(struct rules *r, const char *name)
{
    static const char *const kinds[] = {"exec", "guestAgentPing", "httpGet", "tcpSocket", NULL};
    static const char *const networked[] = {"httpGet", "tcpSocket"};
    const struct json *probe = json_get(r->spec, name);
    const char *field = rules_at(r, "%s", name);
    size_t n = kv_count(probe, kinds, NULL);

    if (!kv_has(r->spec, name))
        return;
    if (n > 1)
        rules_invalid(r, field, "%s must have exactly one probe type set", field);
    else if (n == 0)
        rules_required(
            r, field, "either %s.tcpSocket, %s.exec or %s.httpGet must be set if a %s is specified",
            field, field, field, field);
    for (size_t i = 0; i < ARRAY_SIZE(networked); i++)
        if (kv_has(probe, networked[i]) && !kv_pod_network(r->spec))
            rules_invalid(r, arena_printf(r->a, "%s.%s", field, networked[i]),
                          "%s.%s is only allowed if the Pod Network is attached", field,
                          networked[i]);
}

static bool is_ip(struct str s)
{
    unsigned char raw[16];
    char text[INET6_ADDRSTRLEN];

    if (s.n == 0 || s.n >= sizeof text)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return inet_pton(AF_INET, text, raw) == 1 || inet_pton(AF_INET6, text, raw) == 1;
}

#define MAX_NAMESERVERS 3
#define MAX_SEARCHES 6
#define MAX_SEARCH_TEXT 256

static void check_dns(struct rules *r)
{
    static const char *const policies[] = {"ClusterFirst", "ClusterFirstWithHostNet", "Default",
                                           "None", NULL};
    const struct json *config = json_get(r->spec, "dnsConfig"),
                      *servers = json_get(config, "nameservers");
    const struct json *searches = json_get(config, "searches");
    struct str policy = json_str_at(r->spec, "dnsPolicy");
    size_t i = 0, text = 0;

    if (policy.n && !kv_one_of(policy, policies))
        rules_not_supported(
            r, rules_at(r, "dnsPolicy"),
            "DNSPolicy: " STR_FMT
            " is not supported, valid values: [ClusterFirstWithHostNet ClusterFirst Default None ]",
            STR_ARG(policy));
    if (str_is(policy, "None") && !kv_has(r->spec, "dnsConfig"))
        rules_required(r, rules_at(r, "dnsConfig"),
                       "must provide `dnsConfig` when `dnsPolicy` is None");
    else if (str_is(policy, "None") && json_len(servers) == 0)
        rules_required(r, rules_at(r, "dnsConfig.nameservers"),
                       "must provide at least one DNS nameserver when `dnsPolicy` is None");
    if (json_len(servers) > MAX_NAMESERVERS)
        rules_invalid(r, rules_at(r, "dnsConfig.nameservers"),
                      "must not have more than %d nameservers: %zu", MAX_NAMESERVERS,
                      json_len(servers));
    json_each_item(server, servers) {
        if (!is_ip(json_str(server)))
            rules_invalid(r, rules_at(r, "dnsConfig.nameservers[%zu]", i),
                          "must be valid IP address: " STR_FMT, STR_ARG(json_str(server)));
        i++;
    }
    if (json_len(searches) > MAX_SEARCHES)
        rules_invalid(r, rules_at(r, "dnsConfig.searches"),
                      "must not have more than %d search paths", MAX_SEARCHES);
    i = 0;
    json_each_item(search, searches) {
        struct str s = json_str(search);
        const char *why = name_dns1123_subdomain(str_ends(s, STR(".")) ? str_take(s, s.n - 1) : s);

        if (why)
            rules_invalid(r, rules_at(r, "dnsConfig.searches[%zu]", i), "%s", why);
        text += s.n + 1;
        i++;
    }
    if (text > MAX_SEARCH_TEXT + 1)
        rules_invalid(r, rules_at(r, "dnsConfig.searches"),
                      "must not have more than %d characters (including spaces) in the search list",
                      MAX_SEARCH_TEXT);
    i = 0;
    json_each_item(option, json_get(config, "options")) {
        if (!json_str_at(option, "name").n)
            rules_required(r, rules_at(r, "dnsConfig.options[%zu]", i),
                           "Option.Name must not be empty for value: " STR_FMT,
                           STR_ARG(json_str_at(option, "value")));
        i++;
    }
}

static bool has_volume_of(const struct json *spec, const char *source)
{
    json_each_item(v, json_get(spec, "volumes"))
        if (kv_has(v, source))
            return true;
    return false;
}

static void check_credential(struct rules *r, const struct json *credential, size_t i)
{
    static const char *const kinds[] = {"sshPublicKey", "userPassword", NULL}, *const sources[] = {
                                                                                   "secret", NULL};
    static const char *const methods[] = {"configDrive", "noCloud", "qemuGuestAgent", NULL};
    static const struct {
        const char *method, *source;
    } table[] = {{"noCloud", "cloudInitNoCloud"}, {"configDrive", "cloudInitConfigDrive"}};
    const char *field = rules_at(r, "accessCredentials[%zu]", i), *kind = NULL, *deep;
    const struct json *method;

    if (kv_count(credential, kinds, &kind) != 1) {
        rules_invalid(r, field, "%s must have exactly one access credential type set", field);
        return;
    }
    deep = arena_printf(r->a, "%s.%s", field, kind);
    method = json_at(json_get(credential, kind), "propagationMethod");
    if (kv_count(json_at(json_get(credential, kind), "source"), sources, NULL) != 1)
        rules_invalid(r, arena_printf(r->a, "%s.source", deep),
                      "%s.source must have exactly one source set", deep);
    if (kv_count(method, methods, NULL) != 1) {
        rules_invalid(r, arena_printf(r->a, "%s.propagationMethod", deep),
                      "%s.propagationMethod must have exactly one propagationMethod set", deep);
        return;
    }
    for (size_t k = 0; k < ARRAY_SIZE(table); k++)
        if (kv_has(method, table[k].method) && !has_volume_of(r->spec, table[k].source))
            rules_invalid(r, arena_printf(r->a, "%s.propagationMethod", deep),
                          "%s.propagationMethod requires a %s volume to exist when the %s "
                          "propagationMethod is in use.",
                          deep, table[k].method, table[k].method);
    if (strcmp(kind, "sshPublicKey") == 0 && kv_has(method, "qemuGuestAgent")
        && json_len(json_at(method, "qemuGuestAgent/users")) == 0)
        rules_invalid(r, arena_printf(r->a, "%s.propagationMethod.qemuGuestAgent.users", deep),
                      "%s.propagationMethod.qemuGuestAgent.users requires at least one user to be "
                      "present in the users list",
                      deep);
}

void rules_spec(struct rules *r)
{
    size_t i = 0;

    check_names(r);
    check_strategies(r);
    check_probe(r, "readinessProbe");
    check_probe(r, "livenessProbe");
    check_dns(r);
    json_each_item(credential, json_get(r->spec, "accessCredentials"))
        check_credential(r, credential, i++);
    if (json_len(json_get(r->spec, "utilityVolumes")))
        rules_invalid(r, rules_at(r, "utilityVolumes"), "%s",
                      kv_gate(r->c, "UtilityVolumes")
                          ? "cannot create VMI with utility volumes in spec, utility volumes can "
                            "only be added via hotplug"
                          : "UtilityVolumes feature gate is not enabled");
}
