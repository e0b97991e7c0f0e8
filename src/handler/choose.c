#include "handler/choose.h"

#define EMULATION "spec.configuration.developerConfiguration.useEmulation"

static enum choose_answer wait_for(const struct choose_view *v, const char *what, struct error *err)
{
    error_set(err, ERROR_UNAVAILABLE, "node %s is finding out whether %s works there; the machine starts when it knows", v->node, what);
    return CHOOSE_WAIT;
}

/* The VMM as such cannot run here. */
static enum choose_answer unusable(const struct choose_view *v, const struct host_verdict *j, struct error *err)
{
    error_set(err, ERROR_UNSUPPORTED,
              "hypervisor " STR_FMT " cannot be used on node %s: %s. Or choose another one by the annotation " KV_ANNOTATION_HYPERVISOR,
              STR_ARG(v->name), v->node, j->reason);
    return CHOOSE_REFUSED;
}

/* It could run, but not with the hardware's help, and without it is not allowed. */
static enum choose_answer no_hardware(const struct choose_view *v, struct error *err)
{
    const struct host *h = v->host;

    if (!v->kvm_allowed)
        error_set(err, ERROR_UNSUPPORTED,
                  "MSHV cannot be used on node %s (%s), and the KubeVirt object's spec.configuration.hypervisors allows " STR_FMT
                  " nothing else: add {name: kvm} there, or use a node where MSHV works",
                  v->node, h->mshv.r.reason, STR_ARG(v->name));
    else
        error_set(err, ERROR_UNSUPPORTED,
                  "KVM cannot be used on node %s (%s), and " EMULATION " of the KubeVirt object is %s: set it to true, or use a node "
                  "where KVM works",
                  v->node, h->kvm.r.reason, v->emulation == KV_EMULATION_NO ? "false" : "not set");
    return CHOOSE_REFUSED;
}

static enum choose_answer take(enum vmm_accelerator a, enum vmm_accelerator *ret)
{
    *ret = a;
    return CHOOSE_TAKEN;
}

enum choose_answer choose_accelerator(const struct choose_view *v, enum vmm_accelerator *ret, struct error *err)
{
    bool may_emulate = v->emulation == KV_EMULATION_YES || (v->emulation == KV_EMULATION_AUTO && v->embedded);
    const struct vmm_version *b;
    struct host_verdict j;

    if (!v->vmm) {
        error_set(err, ERROR_UNSUPPORTED, KV_ANNOTATION_VMM ": node %s has no driver for hypervisor '" STR_FMT "'", v->node, STR_ARG(v->name));
        return CHOOSE_REFUSED;
    }
    host_judge(v->host, v->vmm, v->allowed, &j);
    if (j.state == HOST_UNKNOWN)
        return wait_for(v, v->vmm->driver->name, err);
    if (j.state != HOST_USABLE)
        return unusable(v, &j, err);
    if (v->vmm->driver->plays)
        return take(VMM_TCG, ret); /* there is nothing to accelerate */
    b = &v->vmm->version;
    if (v->emulation == KV_EMULATION_YES && j.tcg)
        return take(VMM_TCG, ret);
    if (b->kvm && v->kvm_allowed && !v->host->kvm.s.known)
        return wait_for(v, "KVM", err);
    if (j.kvm && v->kvm_allowed)
        return take(VMM_KVM, ret);
    if (b->mshv && v->mshv_allowed && !v->host->mshv.s.known)
        return wait_for(v, "MSHV", err);
    if (j.mshv && v->mshv_allowed)
        return take(VMM_MSHV, ret);
    if (may_emulate && j.tcg)
        return take(VMM_TCG, ret);
    return no_hardware(v, err);
}
