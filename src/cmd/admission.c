#include "cmd/admission.h"

#include "api/meta.h"
#include "base/cleanup.h"
#include "base/ident.h"

/* Our own components may do what users may not: write a VMI's status and spec. */
static bool by_platform(const struct identity *who)
{
    static const struct str prefixes[] = {STR_INIT("system:node:"), STR_INIT("system:vireo:"),
                                          STR_INIT("system:serviceaccount:kubevirt:")};

    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (who->user && str_starts(str_of(who->user), prefixes[i]))
            return true;
    return false;
}

static void random_uuid(void *data, char ret[37])
{
    (void)data;
    ident_uuid4(ret);
}

static bool is_kind(const struct admission *a, const char *plural)
{
    return strcmp(a->kind->plural, plural) == 0;
}

/* A client that writes another record than the one that is kept should hear of it. */
static void warn_kept(struct admission *a, const struct json *wrote)
{
    struct str wanted = meta_annotation(wrote, KV_ANNOTATION_VMM), is = meta_annotation(a->object, KV_ANNOTATION_VMM);

    if (!a->old || str_eq(wanted, is) || !str_eq(is, meta_annotation(a->old, KV_ANNOTATION_VMM))
        || a->warnings.n == ARRAY_SIZE(a->warnings.p))
        return;
    a->warnings.p[a->warnings.n++] =
        arena_printf(a->arena, "annotation " KV_ANNOTATION_VMM " stays \"" STR_FMT "\": it records which hypervisor was chosen; to "
                     "have another one, change " KV_ANNOTATION_HYPERVISOR ", or give " KV_ANNOTATION_DECIDE " a new text",
                     STR_ARG(is));
}

/* Before any default: the choice goes by what was written. */
static void choose(struct admission_rules *rules, struct admission *a)
{
    const struct json *wrote = a->object;

    if (is_kind(a, "virtualmachines"))
        a->object = kv_vm_choose(wrote, a->old, rules->config, &rules->offers, a->arena, &a->causes);
    else if (is_kind(a, "virtualmachineinstances"))
        a->object = kv_vmi_choose(wrote, a->old, rules->config, &rules->offers, by_platform(a->who), a->arena, &a->causes);
    else
        return;
    warn_kept(a, wrote);
}

static bool mutate(void *data, struct admission *a, struct error *err)
{
    struct admission_rules *rules = data;
    const struct kv_random random = {.uuid = random_uuid};

    (void)err;
    if ((a->op != ADMIT_CREATE && a->op != ADMIT_UPDATE) || a->subresource)
        return true;
    choose(rules, a);
    if (a->op != ADMIT_CREATE)
        return true;
    if (is_kind(a, "virtualmachines"))
        a->object = kv_vm_default(a->object, rules->config, &random, a->arena);
    else if (is_kind(a, "virtualmachineinstances"))
        a->object = kv_vmi_default(a->object, rules->config, &random, a->arena);
    return true;
}

/* A VMI has no status subresource: what users write there is put back (reference §1.1). */
static bool keep_status(void *data, struct admission *a, struct error *err)
{
    (void)data;
    (void)err;
    if (a->op == ADMIT_UPDATE && !a->subresource && is_kind(a, "virtualmachineinstances") && !by_platform(a->who))
        a->object = json_with(a->arena, a->object, "status", json_get(a->old, "status"));
    return true;
}

/* What of the KubeVirt object's configuration this release reads (api/kv_config.c). */
static bool is_read(struct str name)
{
    static const char *const names[] = {"developerConfiguration", "machineType", "architectureConfiguration", "cpuModel",
                                        "cpuRequest", "network", "evictionStrategy", "liveUpdateConfiguration",
                                        "additionalGuestMemoryOverheadRatio", "vmRolloutStrategy", "hypervisors",
                                        "hypervisorBackend"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (str_is(name, names[i]))
            return true;
    return false;
}

static void warn_unread(struct admission *a)
{
    json_each_member(m, json_at(a->object, "spec/configuration")) {
        struct str name = json_str(&m->key);

        if (is_read(name) || a->warnings.n == ARRAY_SIZE(a->warnings.p)
            || json_eq(&m->value, json_get_str(json_at(a->old, "spec/configuration"), name)))
            continue;
        a->warnings.p[a->warnings.n++] = arena_printf(a->arena, "spec.configuration." STR_FMT
                                                      " is kept, but nothing in this release of Vireo reads it", STR_ARG(name));
    }
}

static bool validate(void *data, struct admission *a, struct error *err)
{
    struct admission_rules *rules = data;

    if ((a->op != ADMIT_CREATE && a->op != ADMIT_UPDATE) || a->subresource)
        return true;
    if (is_kind(a, "virtualmachines")) {
        /* A VM that is going away must be able to lose its finalizers, whatever today's rules say of it. */
        if (json_at(a->object, "metadata/deletionTimestamp"))
            return true;
        kv_vm_validate(a->object, a->old, rules->config, a->arena, &a->causes);
        if (a->causes.n == 0)
            kv_unsupported(json_at(a->object, "spec/template/spec"), kv_vmm(a->object), "spec.template.spec", rules->config,
                           a->arena, &a->causes);
        kv_vm_choice_hint(a->object, a->old, rules->config, &rules->offers, a->arena, &a->causes);
    } else if (is_kind(a, "virtualmachineinstances")) {
        if (json_at(a->object, "metadata/deletionTimestamp"))
            return true;
        kv_vmi_validate(a->object, a->old, rules->config, by_platform(a->who), a->arena, &a->causes);
        if (a->causes.n == 0 && a->op == ADMIT_CREATE)
            kv_unsupported(json_get(a->object, "spec"), kv_vmm(a->object), "spec", rules->config, a->arena, &a->causes);
    } else if (is_kind(a, "kubevirts")) {
        warn_unread(a);
        kv_kubevirt_validate(a->object, a->arena, &a->causes);
        if (a->op != ADMIT_CREATE || !rules->other_kubevirt(rules->data, a->ns, a->name))
            return true;
        return error_set(err, ERROR_FORBIDDEN,
                         "there is a KubeVirt object already, and one configures the whole installation: change that one instead");
    }
    return true;
}

/* Evicting a VM's pod means moving the VM: a VM that asks for that is not ended instead (reference §5, pods/eviction webhook). */
static bool evict(void *data, struct admission *a, struct error *err)
{
    const struct json *owner, *vmi;
    struct str strategy;

    (void)data;
    if (a->op != ADMIT_CREATE || !a->subresource || strcmp(a->subresource, "eviction") != 0 || !is_kind(a, "pods"))
        return true;
    owner = meta_controller(a->old);
    if (!str_is(json_str_at(owner, "kind"), "VirtualMachineInstance"))
        return true;
    vmi = apiserver_peek(a->server, "kubevirt.io", "virtualmachineinstances", a->ns, json_str_at(owner, "name"), a->arena);
    strategy = json_str_at(vmi, "spec/evictionStrategy");
    if (str_is(strategy, "LiveMigrate") || str_is(strategy, "External"))
        return error_set(err, ERROR_TOO_MANY, "VMI " STR_FMT " is configured with an eviction strategy but is not live-migratable",
                         STR_ARG(meta_name(vmi)));
    return true;
}

/* The runtime takes this label for the machine that a pod runs, and starts no second pod for that one. */
#define LABEL_RUNS "kubevirt.io/created-by"

/* Whose owner is a living VMI, or whose maker is one of our controllers. */
static bool pod_of_machine(const struct admission *a)
{
    struct str runs = meta_label(a->object, LABEL_RUNS);

    if (a->is_local)
        return true;
    /* Who may name the node, the mounts and the launcher's arguments is past every check that a VMI goes through. */
    if (!identity_in(a->who, "system:masters"))
        return false;
    json_each_item(ref, json_at(a->object, "metadata/ownerReferences")) {
        const struct json *vmi;

        if (!str_is(json_str_at(ref, "kind"), "VirtualMachineInstance")
            || !str_is(meta_group(json_str_at(ref, "apiVersion"), NULL), "kubevirt.io"))
            continue;
        vmi = apiserver_peek(a->server, "kubevirt.io", "virtualmachineinstances", a->ns, json_str_at(ref, "name"), a->arena);
        if (vmi && str_eq(meta_uid(vmi), json_str_at(ref, "uid")) && (!runs.n || str_eq(runs, meta_uid(vmi))))
            return true;
    }
    return false;
}

/* Pods are how machines run, not a service of their own. */
static bool pods(void *data, struct admission *a, struct error *err)
{
    (void)data;
    if (!is_kind(a, "pods"))
        return true;
    if (a->op == ADMIT_CREATE && !a->subresource && !pod_of_machine(a))
        return error_set(err, ERROR_FORBIDDEN,
                         "pods \"" STR_FMT "\" is forbidden: this server runs only the pods of virtual machines: create a "
                         "VirtualMachine instead (kubectl explain vm), or use a Kubernetes cluster for containers",
                         STR_ARG(a->name));
    if (a->op == ADMIT_UPDATE && !a->is_local && !str_eq(meta_label(a->object, LABEL_RUNS), meta_label(a->old, LABEL_RUNS)))
        return error_set(err, ERROR_FORBIDDEN, "pods \"" STR_FMT "\" is forbidden: label " LABEL_RUNS
                         " says which machine the pod runs, and stays", STR_ARG(a->name));
    return true;
}

void admission_register(struct apiserver *s, struct admission_rules *rules)
{
    apiserver_add_admission(s, &(struct admission_plugin){.name = "kubevirt-defaults", .group = "kubevirt.io",
                                                          .mutate = mutate, .validate = validate, .data = rules});
    apiserver_add_admission(s, &(struct admission_plugin){.name = "kubevirt-status", .group = "kubevirt.io",
                                                          .mutate = keep_status, .data = rules});
    apiserver_add_admission(s, &(struct admission_plugin){.name = "kubevirt-eviction", .group = "", .validate = evict});
    apiserver_add_admission(s, &(struct admission_plugin){.name = "kubevirt-pods", .group = "", .validate = pods});
}
