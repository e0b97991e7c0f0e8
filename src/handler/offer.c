/* What the Node says of accelerators and hypervisors: labels for schedulers, conditions and a report for people and programs,
 * device capacities for pods. All of it follows from vmm/host.h; nothing here is remembered. */
#include "handler/internal.h"

#include "api/kv.h"
#include "api/meta.h"
#include "base/cleanup.h"

static bool works(const struct host_device *d)
{
    return d->s.known && d->r.verdict == PROBE_WORKS;
}

/* --- labels ---------------------------------------------------------------------------------------------------------------- */

struct labels {
    struct arena *a;
    const struct json *list;
    bool patch; /* what is not so any more has to be taken away */
};

static void label(struct labels *l, const char *key, const char *value)
{
    if (value)
        l->list = json_with(l->a, l->list, key, json_new_z(l->a, value));
    else if (l->patch)
        l->list = json_with(l->a, l->list, key, json_null());
}

static void label_vmm(struct labels *l, const struct handler *h, const struct host_vmm *v)
{
    struct arena *a = l->a;
    const struct vmm_version *b = &v->version;
    const char *name = v->driver->name;
    struct host_verdict j;
    bool usable;

    host_judge(h->host, v, str_of(h->allowed), &j);
    usable = j.state == HOST_USABLE;
    label(l, arena_printf(a, KV_LABEL_VMM("%s"), name), usable ? "true" : NULL);
    label(l, arena_printf(a, KV_LABEL_VMM("%s") "-version", name),
          usable ? arena_printf(a, "%u.%u.%u", b->major, b->minor, b->patch) : NULL);
    label(l, arena_printf(a, KV_LABEL_VMM("%s") "-level", name), usable ? arena_printf(a, "%u", host_level(b)) : NULL);
}

const struct json *offer_labels(const struct handler *h, const struct json *labels, bool patch, struct arena *a)
{
    struct labels l = {a, labels, patch};
    char ignored[256];

    for (size_t i = 0; i < h->host->n_vmms; i++)
        label_vmm(&l, h, &h->host->vmms[i]);
    label(&l, KV_LABEL_ACCELERATOR("kvm"), works(&h->host->kvm) ? "true" : NULL);
    label(&l, KV_LABEL_ACCELERATOR("mshv"), works(&h->host->mshv) ? "true" : NULL);
    label(&l, KV_LABEL_ACCELERATOR("tcg"), host_tcg(h->host, ignored, sizeof ignored) == PROBE_WORKS ? "true" : NULL);
    if (h->host->kvm.s.known)
        label(&l, "vireo.io/kvm", probe_verdict_name(h->host->kvm.r.verdict));
    return l.list;
}

const struct json *offer_annotations(const struct handler *h, const struct json *annotations, struct arena *a)
{
    AUTO_FREE char *text = json_text(host_report(h->host, str_of(h->allowed), str_of(h->answered), a));

    return json_with(a, annotations, KV_ANNOTATION_REPORT, json_new_z(a, text));
}

/* --- capacities ------------------------------------------------------------------------------------------------------------ */

/* As upstream's device plugins: kvm always, so that a pod that asks for it in vain is told so; mshv where there is one. */
const struct json *offer_resources(const struct handler *h, const struct json *resources, const char *slots, struct arena *a)
{
    const struct host_device *mshv = &h->host->mshv;

    resources = json_with(a, resources, "devices.kubevirt.io/kvm", json_new_z(a, works(&h->host->kvm) ? slots : "0"));
    if (mshv->s.known && mshv->r.verdict != PROBE_ABSENT)
        resources = json_with(a, resources, "devices.kubevirt.io/mshv", json_new_z(a, works(mshv) ? slots : "0"));
    return resources;
}

/* --- conditions ------------------------------------------------------------------------------------------------------------ */

struct offer_condition offer_kvm(const struct handler *h, struct arena *a)
{
    const struct host_device *d = &h->host->kvm;
    const char *verdict = d->s.known ? probe_verdict_name(d->r.verdict) : "probing", *fix = probe_kvm_fix(d->r.verdict);
    struct offer_condition c = {.type = "KVMWorks", .status = "Unknown", .message = "the accelerator probe is still running"};

    c.reason = arena_printf(a, "KVM%c%s", verdict[0] - 'a' + 'A', verdict + 1);
    if (!d->s.known)
        return c;
    c.message = arena_printf(a, "%s%s%s", d->r.reason, fix[0] ? "; " : "", fix);
    if (d->r.verdict != PROBE_INCONCLUSIVE)
        c.status = d->r.verdict == PROBE_WORKS ? "True" : "False";
    return c;
}

/* One condition for all: which can be used, then what keeps the others from it. */
struct offer_condition offer_hypervisors(const struct handler *h, struct arena *a)
{
    AUTO(buf_done) struct buf can = {0}, cannot = {0};
    bool waits = false;

    for (size_t i = 0; i < h->host->n_vmms; i++) {
        const struct host_vmm *v = &h->host->vmms[i];
        struct host_verdict j;

        host_judge(h->host, v, str_of(h->allowed), &j);
        waits |= j.state == HOST_UNKNOWN;
        if (j.state == HOST_USABLE)
            buf_addf(&can, "%s%s %u.%u.%u (%s%s%s)", can.n ? ", " : "", v->driver->name, v->version.major, v->version.minor,
                     v->version.patch, j.kvm ? "kvm" : "", j.mshv ? " mshv" : "", !j.tcg ? "" : j.kvm || j.mshv ? " tcg" : "tcg");
        else
            buf_addf(&cannot, "; not %s: %s", v->driver->name, j.reason);
    }
    return (struct offer_condition){
        .type = "HypervisorsUsable",
        .status = can.n ? "True" : waits ? "Unknown" : "False",
        .reason = can.n ? "HypervisorsFound" : waits ? "HypervisorsProbing" : "NoHypervisor",
        .message = arena_printf(a, "%s%s", can.n ? can.p : waits ? "they are being probed" : "none can be used",
                                cannot.n ? cannot.p : "")};
}
