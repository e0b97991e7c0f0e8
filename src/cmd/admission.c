#include "cmd/admission.h"

#include "api/meta.h"
#include "base/cleanup.h"

/* Our own components on one machine. */
static bool by_platform(const struct identity *who)
{
    static const struct str prefixes[] = {STR_INIT("system:node:"), STR_INIT("system:vireo:"),
                                          STR_INIT("system:serviceaccount:kubevirt:")};

    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (who->user && str_starts(str_of(who->user), prefixes[i]))
            return true;
    return false;
}

static bool is_kind(const struct admission *a, const char *plural)
{
    return strcmp(a->kind->plural, plural) == 0;
}

/* One of the rules' functions, for what they are about: objects themselves. */
static bool ask(bool (*rule)(const struct admission_rules *, struct review *, struct error *), const struct admission_rules *rules,
                struct admission *a, struct error *err)
{
    struct review r = {.op = a->op == ADMIT_CREATE ? REVIEW_CREATE : REVIEW_UPDATE,
                       .plural = str_of(a->kind->plural),
                       .ns = a->ns,
                       .name = a->name,
                       .by_platform = by_platform(a->who),
                       .old = a->old,
                       .object = a->object,
                       .arena = a->arena,
                       .causes = a->causes};
    bool ok;

    if ((a->op != ADMIT_CREATE && a->op != ADMIT_UPDATE) || a->subresource)
        return true;
    ok = rule(rules, &r, err);
    a->object = r.object;
    a->causes = r.causes;
    for (size_t i = 0; i < r.warnings.n && a->warnings.n < ARRAY_SIZE(a->warnings.p); i++)
        a->warnings.p[a->warnings.n++] = r.warnings.p[i];
    return ok;
}

static bool mutate(void *data, struct admission *a, struct error *err)
{
    return ask(rules_mutate, data, a, err);
}

static bool validate(void *data, struct admission *a, struct error *err)
{
    return ask(rules_validate, data, a, err);
}

static bool evict(void *data, struct admission *a, struct error *err)
{
    struct str machine;

    (void)data;
    if (a->op != ADMIT_CREATE || !a->subresource || strcmp(a->subresource, "eviction") != 0 || !is_kind(a, "pods"))
        return true;
    machine = rules_machine_of(a->old);
    return !machine.n
           || rules_evict(apiserver_peek(a->server, "kubevirt.io", "virtualmachineinstances", a->ns, machine, a->arena), err);
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
    apiserver_add_admission(s, &(struct admission_plugin){.name = "kubevirt-eviction", .group = "", .validate = evict});
    apiserver_add_admission(s, &(struct admission_plugin){.name = "kubevirt-pods", .group = "", .validate = pods});
}
