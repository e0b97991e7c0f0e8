#include "admission/rules.h"

#include "api/meta.h"
#include "base/cleanup.h"
#include "base/ident.h"

bool rules_our_account(struct str user, struct str install_ns)
{
    static const char *const names[] = {"kubevirt-controller", "kubevirt-handler", "kubevirt-apiserver", "kubevirt-operator"};
    struct str rest = user, ns;

    if (!str_starts(user, STR("system:serviceaccount:")))
        return false;
    rest = str_skip(user, strlen("system:serviceaccount:"));
    if (!str_cut(rest, ':', &ns, &rest) || !install_ns.n || !str_eq(ns, install_ns))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (str_is(rest, names[i]))
            return true;
    return false;
}

static void random_uuid(void *data, char ret[37])
{
    (void)data;
    ident_uuid4(ret);
}

/* A client that writes another record than the one that is kept should hear of it. */
static void warn_kept(struct review *r, const struct json *wrote)
{
    struct str wanted = meta_annotation(wrote, KV_ANNOTATION_VMM), is = meta_annotation(r->object, KV_ANNOTATION_VMM);

    if (!r->old || str_eq(wanted, is) || !str_eq(is, meta_annotation(r->old, KV_ANNOTATION_VMM))
        || r->warnings.n == ARRAY_SIZE(r->warnings.p))
        return;
    r->warnings.p[r->warnings.n++] =
        arena_printf(r->arena, "annotation " KV_ANNOTATION_VMM " stays \"" STR_FMT "\": it records which hypervisor was chosen; to "
                     "have another one, change " KV_ANNOTATION_HYPERVISOR ", or give " KV_ANNOTATION_DECIDE " a new text",
                     STR_ARG(is));
}

/* Before any default: the choice goes by what was written. */
static void choose(const struct admission_rules *rules, struct review *r)
{
    const struct json *wrote = r->object;

    if (str_is(r->plural, "virtualmachines"))
        r->object = kv_vm_choose(wrote, r->old, rules->config, &rules->offers, r->arena, &r->causes);
    else
        r->object = kv_vmi_choose(wrote, r->old, rules->config, &rules->offers, r->by_platform, r->arena, &r->causes);
    warn_kept(r, wrote);
}

bool rules_mutate(const struct admission_rules *rules, struct review *r, struct error *err)
{
    const struct kv_random random = {.uuid = random_uuid};
    bool vm = str_is(r->plural, "virtualmachines"), vmi = str_is(r->plural, "virtualmachineinstances");

    (void)err;
    if (!vm && !vmi)
        return true;
    choose(rules, r);
    if (r->op == REVIEW_CREATE)
        r->object = vm ? kv_vm_default(r->object, rules->config, &random, r->arena)
                       : kv_vmi_default(r->object, rules->config, &random, r->arena);
    else if (vmi && !r->by_platform)
        /* A VMI has no status subresource: what users write there is put back (reference §1.1). */
        r->object = json_with(r->arena, r->object, "status", json_get(r->old, "status"));
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

static void warn_unread(struct review *r)
{
    json_each_member(m, json_at(r->object, "spec/configuration")) {
        struct str name = json_str(&m->key);

        if (is_read(name) || r->warnings.n == ARRAY_SIZE(r->warnings.p)
            || json_eq(&m->value, json_get_str(json_at(r->old, "spec/configuration"), name)))
            continue;
        r->warnings.p[r->warnings.n++] = arena_printf(r->arena, "spec.configuration." STR_FMT
                                                      " is kept, but nothing in this release of Vireo reads it", STR_ARG(name));
    }
}

/* Where pods are the cluster's to place, what our own scheduler lacks is no reason to refuse a machine. */
static const struct json *ours_to_judge(const struct admission_rules *rules, const struct json *spec, struct arena *a)
{
    return rules->placed_by_cluster ? kv_without_placing(spec, a) : spec;
}

static void validate_vm(const struct admission_rules *rules, struct review *r)
{
    kv_vm_validate(r->object, r->old, rules->config, r->arena, &r->causes);
    if (r->causes.n == 0)
        kv_unsupported(ours_to_judge(rules, json_at(r->object, "spec/template/spec"), r->arena), kv_vmm(r->object), "spec.template.spec",
                       rules->config, r->arena, &r->causes);
    kv_vm_choice_hint(r->object, r->old, rules->config, &rules->offers, r->arena, &r->causes);
}

static void validate_vmi(const struct admission_rules *rules, struct review *r)
{
    kv_vmi_validate(r->object, r->old, rules->config, r->by_platform, r->arena, &r->causes);
    if (r->causes.n == 0 && r->op == REVIEW_CREATE)
        kv_unsupported(ours_to_judge(rules, json_get(r->object, "spec"), r->arena), kv_vmm(r->object), "spec", rules->config, r->arena,
                       &r->causes);
}

bool rules_validate(const struct admission_rules *rules, struct review *r, struct error *err)
{
    /* What is going away must be able to lose its finalizers, whatever today's rules say of it. */
    bool deleting = json_at(r->object, "metadata/deletionTimestamp") != NULL;

    if (str_is(r->plural, "virtualmachines") && !deleting) {
        validate_vm(rules, r);
    } else if (str_is(r->plural, "virtualmachineinstances") && !deleting) {
        validate_vmi(rules, r);
    } else if (str_is(r->plural, "kubevirts")) {
        warn_unread(r);
        kv_kubevirt_validate(r->object, r->arena, &r->causes);
        if (r->op != REVIEW_CREATE || !rules->other_kubevirt(rules->data, r->ns, r->name))
            return true;
        return error_set(err, ERROR_FORBIDDEN,
                         "there is a KubeVirt object already, and one configures the whole installation: change that one instead");
    }
    return true;
}

struct str rules_machine_of(const struct json *pod)
{
    const struct json *owner = meta_controller(pod);

    return str_is(json_str_at(owner, "kind"), "VirtualMachineInstance") ? json_str_at(owner, "name") : STR_NONE;
}

bool rules_evict(const struct json *vmi, struct error *err)
{
    struct str strategy = json_str_at(vmi, "spec/evictionStrategy");

    if (str_is(strategy, "LiveMigrate") || str_is(strategy, "External"))
        return error_set(err, ERROR_TOO_MANY, "VMI " STR_FMT " is configured with an eviction strategy but is not live-migratable",
                         STR_ARG(meta_name(vmi)));
    return true;
}
