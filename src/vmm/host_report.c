/* Judgement and words of vmm/host.h: what of all that was seen makes a VMM usable here, and how that is told. Pure. */
#include "vmm/host.h"

#include <stdio.h>

#include "api/vmm_caps.h"
#include "base/cleanup.h"
#include "base/ident.h"

#define REPORT_VERSION 1

const char *host_state_name(enum host_state s)
{
    switch (s) {
    case HOST_USABLE:
        return "usable";
    case HOST_UNKNOWN:
        return "unknown";
    case HOST_ABSENT:
        return "absent";
    case HOST_DENIED:
        return "denied";
    case HOST_BROKEN:
        return "broken";
    case HOST_INCONCLUSIVE:
        return "inconclusive";
    case HOST_OLD:
        return "too-old";
    case HOST_UNACCELERATED:
        return "no-accelerator";
    case HOST_WITHHELD:
        return "withheld";
    }
    return "unknown";
}

unsigned host_level(const struct vmm_version *v)
{
    return v->major * 100 + (v->minor < 99 ? v->minor : 99);
}

/* ---- judgement ---- */

static void say(struct host_verdict *v, enum host_state s, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct host_verdict *v, enum host_state s, const char *fmt, ...)
{
    va_list ap;

    v->state = s;
    va_start(ap, fmt);
    vsnprintf(v->reason, sizeof v->reason, fmt, ap);
    va_end(ap);
}

static bool listed(struct str names, const char *name)
{
    struct str one;

    while (str_next(&names, ',', &one))
        if (str_is(str_trim(one), name))
            return true;
    return false;
}

static bool works(const struct host_device *d)
{
    return d->s.known && d->r.verdict == PROBE_WORKS;
}

/* The version from which on what the capability table promises is true; 0: any. */
static unsigned minimum_of(const char *name)
{
    const struct vmm_caps *c = vmm_caps_find(str_of(name));

    return c ? c->minimum : 0;
}

static bool old(const struct host_vmm *v, struct host_verdict *ret)
{
    unsigned minimum = minimum_of(v->driver->name), is = host_level(&v->version);

    if (is >= minimum)
        return false;
    say(ret, HOST_OLD, "%s is version %u.%u, and %s needs %u.%u or newer: upgrade it", v->path[0] ? v->path : v->driver->name,
        is / 100, is % 100, v->driver->name, minimum / 100, minimum % 100);
    return true;
}

/* It answers, and is new enough: what is missing is what would run its guests. */
static void judge_accelerators(const struct host *h, const struct host_vmm *v, struct host_verdict *ret)
{
    const struct vmm_version *b = &v->version;
    AUTO(buf_done) struct buf why = {0};

    ret->kvm = b->kvm && works(&h->kvm);
    ret->mshv = b->mshv && works(&h->mshv);
    ret->tcg = b->tcg || v->driver->plays;
    if (ret->kvm || ret->mshv || ret->tcg) {
        say(ret, HOST_USABLE, "%s", "");
        return;
    }
    if ((b->kvm && !h->kvm.s.known) || (b->mshv && !h->mshv.s.known)) {
        say(ret, HOST_UNKNOWN, "what %s needs to run guests is being probed", v->driver->name);
        return;
    }
    if (b->kvm)
        buf_addf(&why, " %s%s needs KVM, which does not work here: %s", v->driver->name, b->mshv ? " without MSHV" : "", h->kvm.r.reason);
    if (b->mshv)
        buf_addf(&why, "%s %s%s needs MSHV, which does not work here: %s", b->kvm ? ";" : "", v->driver->name, b->kvm ? " without KVM" : "",
                 h->mshv.r.reason);
    if (!why.n)
        buf_addf(&why, " this build of %s has no accelerator that Vireo knows", v->driver->name);
    say(ret, HOST_UNACCELERATED, "%s", why.p + 1);
}

void host_judge(const struct host *h, const struct host_vmm *v, struct str allowed, struct host_verdict *ret)
{
    memset(ret, 0, sizeof *ret);
    if (allowed.p && !listed(allowed, v->driver->name)) {
        say(ret, HOST_WITHHELD,
            "the Node's annotation vireo.io/hypervisors (\"" STR_FMT "\") leaves %s out: add it there, or remove the annotation",
            STR_ARG(str_take(allowed, 128)), v->driver->name);
        return;
    }
    if (!v->s.known) {
        say(ret, HOST_UNKNOWN, "whether %s can run here is being found out", v->driver->name);
        return;
    }
    switch (v->verdict) {
    case PROBE_ABSENT:
        say(ret, HOST_ABSENT, "%s", v->reason);
        return;
    case PROBE_DENIED:
        say(ret, HOST_DENIED, "%s", v->reason);
        return;
    case PROBE_BROKEN:
        say(ret, HOST_BROKEN, "%s", v->reason);
        return;
    case PROBE_INCONCLUSIVE:
        say(ret, HOST_INCONCLUSIVE, "%s", v->reason);
        return;
    case PROBE_WORKS:
        if (!old(v, ret))
            judge_accelerators(h, v, ret);
        return;
    }
}

enum probe_verdict host_tcg(const struct host *h, char *reason, size_t size)
{
    bool waits = false;

    for (size_t i = 0; i < h->n_vmms; i++) {
        const struct host_vmm *v = &h->vmms[i];

        if (v->driver->plays)
            continue; /* it emulates nothing */
        waits |= !v->s.known;
        if (v->s.known && v->verdict == PROBE_WORKS && v->version.tcg) {
            snprintf(reason, size, "%s emulates processors", v->version.text[0] ? v->version.text : v->driver->name);
            return PROBE_WORKS;
        }
    }
    snprintf(reason, size, waits ? "the programs of hypervisors are being probed" : "no hypervisor that emulates processors is usable here");
    return waits ? PROBE_INCONCLUSIVE : PROBE_ABSENT;
}

/* ---- the report ---- */

static const struct json *time_of(const struct host_subject *s, struct arena *a)
{
    char text[TIME_TEXT_LEN + 1];

    if (!s->known)
        return NULL;
    ident_time(s->probed_unix_ns, false, text);
    return json_new_z(a, text);
}

static const struct json *text_or_none(const char *text, struct arena *a)
{
    return text[0] ? json_new_z(a, text) : NULL;
}

static const struct json *number_or_none(int64_t n, struct arena *a)
{
    return n ? json_new_i64(a, n) : NULL;
}

static const struct json *split(const char *list, struct arena *a)
{
    const struct json *out = json_array(a, NULL);
    struct str rest = str_of(list), one;

    while (list[0] && str_next(&rest, ',', &one))
        out = json_append(a, out, json_new_str(a, one));
    return json_len(out) ? out : NULL;
}

static const struct json *device(const struct host_device *d, const char *name, const char *fix, struct arena *a)
{
    const struct json *caps = json_object(a, NULL);

    for (unsigned i = 0; i < d->r.n_caps; i++)
        caps = json_with(a, caps, d->r.caps[i].name, json_new_i64(a, d->r.caps[i].value));
    return json_object(a, "name", json_new_z(a, name), "verdict", json_new_z(a, d->s.known ? probe_verdict_name(d->r.verdict) : "probing"),
                       "reason", text_or_none(d->s.known ? d->r.reason : "", a), "fix", text_or_none(d->s.known ? fix : "", a),
                       "apiVersion", number_or_none(d->r.api_version, a), "nsPerIteration",
                       d->r.ns_per_iteration > 0 ? json_new_i64(a, (int64_t)(d->r.ns_per_iteration + 0.999)) : NULL, "maxVCPUs",
                       number_or_none(d->r.max_vcpus, a), "recommendedVCPUs", number_or_none(d->r.recommended_vcpus, a), "capabilities",
                       json_len(caps) ? caps : NULL, "probed", time_of(&d->s, a), NULL);
}

static const struct json *accelerators(bool kvm, bool tcg, bool mshv, struct arena *a)
{
    const struct json *out = json_array(a, NULL);

    if (kvm)
        out = json_append(a, out, json_new_z(a, vmm_accelerator_name(VMM_KVM)));
    if (mshv)
        out = json_append(a, out, json_new_z(a, vmm_accelerator_name(VMM_MSHV)));
    if (tcg)
        out = json_append(a, out, json_new_z(a, vmm_accelerator_name(VMM_TCG)));
    return out;
}

static const struct json *version_text(const struct vmm_version *v, struct arena *a)
{
    return v->text[0] ? json_new_f(a, "%u.%u.%u", v->major, v->minor, v->patch) : NULL;
}

static const struct json *minimum_text(const char *name, struct arena *a)
{
    unsigned minimum = minimum_of(name);

    return minimum ? json_new_f(a, "%u.%u", minimum / 100, minimum % 100) : NULL;
}

static const struct json *vmm(const struct host *h, const struct host_vmm *v, struct str allowed, struct arena *a)
{
    const struct vmm_version *b = &v->version;
    const char *program = v->driver->program ? v->driver->program : v->driver->name;
    struct host_verdict j;
    const char *reason;

    host_judge(h, v, allowed, &j);
    reason = j.reason[0] || !v->driver->plays ? j.reason : v->driver->plays;
    return json_object(a, "name", json_new_z(a, v->driver->name), "usable", json_new_bool(j.state == HOST_USABLE), "state",
                       json_new_z(a, host_state_name(j.state)), "reason", text_or_none(reason, a), "program", text_or_none(program, a),
                       "path", text_or_none(v->path, a), "version", version_text(b, a), "versionText", text_or_none(b->text, a),
                       "minimum", minimum_text(v->driver->name, a), "accelerators", accelerators(j.kvm, j.tcg, j.mshv, a), "builtWith",
                       b->text[0] ? accelerators(b->kvm, b->tcg, b->mshv, a) : NULL, "machines", split(b->machines, a), "devices",
                       split(b->devices, a), "probed", time_of(&v->s, a), NULL);
}

const struct json *host_report(const struct host *h, struct str allowed, struct str requested, struct arena *a)
{
    const struct json *vmms = json_array(a, NULL);
    enum probe_verdict tcg;
    char reason[256];

    tcg = host_tcg(h, reason, sizeof reason);
    for (size_t i = 0; i < h->n_vmms; i++)
        vmms = json_append(a, vmms, vmm(h, &h->vmms[i], allowed, a));
    return json_object(a, "version", json_new_i64(a, REPORT_VERSION), "kernel", json_new_z(a, h->kernel), "requested",
                       requested.n ? json_new_str(a, requested) : NULL, "accelerators",
                       json_array(a, device(&h->kvm, "kvm", probe_kvm_fix(h->kvm.r.verdict), a),
                                  device(&h->mshv, "mshv", probe_mshv_fix(h->mshv.r.verdict), a),
                                  json_object(a, "name", json_new_z(a, "tcg"), "verdict", json_new_z(a, probe_verdict_name(tcg)), "reason",
                                              json_new_z(a, reason), NULL),
                                  NULL),
                       "vmms", vmms, NULL);
}

/* ---- the file ---- */

static const struct json *subject_to_file(const struct host_subject *s, const struct json *v, struct arena *a)
{
    v = json_with(a, v, "key", json_new_z(a, s->key));
    return json_with(a, v, "probedNs", json_new_i64(a, s->probed_unix_ns));
}

/* Only verdicts are kept: what was inconclusive is asked again by the next start. */
static bool kept(const struct host_subject *s, enum probe_verdict v)
{
    return s->known && v != PROBE_INCONCLUSIVE;
}

static const struct json *device_to_file(const struct host_device *d, struct arena *a)
{
    if (!kept(&d->s, d->r.verdict))
        return NULL;
    return subject_to_file(&d->s, json_with(a, device(d, "", "", a), "ns", json_new_double(a, d->r.ns_per_iteration)), a);
}

static const struct json *vmm_to_file(const struct host_vmm *v, struct arena *a)
{
    const struct vmm_version *b = &v->version;

    return subject_to_file(
        &v->s,
        json_object(a, "name", json_new_z(a, v->driver->name), "verdict", json_new_z(a, probe_verdict_name(v->verdict)), "reason",
                    json_new_z(a, v->reason), "path", json_new_z(a, v->path), "text", json_new_z(a, b->text), "major",
                    json_new_i64(a, b->major), "minor", json_new_i64(a, b->minor), "patch", json_new_i64(a, b->patch), "kvm",
                    json_new_bool(b->kvm), "tcg", json_new_bool(b->tcg), "mshv", json_new_bool(b->mshv), "machines",
                    json_new_z(a, b->machines), "devices", json_new_z(a, b->devices), NULL),
        a);
}

const struct json *host_to_file(const struct host *h, struct arena *a)
{
    const struct json *vmms = json_array(a, NULL);

    for (size_t i = 0; i < h->n_vmms; i++)
        if (kept(&h->vmms[i].s, h->vmms[i].verdict))
            vmms = json_append(a, vmms, vmm_to_file(&h->vmms[i], a));
    return json_object(a, "version", json_new_i64(a, REPORT_VERSION), "vireo", json_new_z(a, VIREO_VERSION), "kernel",
                       json_new_z(a, h->kernel), "bootID", json_new_z(a, h->boot_id), "kvm", device_to_file(&h->kvm, a), "mshv",
                       device_to_file(&h->mshv, a), "vmms", vmms, NULL);
}

static void copy(struct str from, char *to, size_t size)
{
    snprintf(to, size, STR_FMT, STR_ARG(from));
}

static unsigned small(const struct json *v, const char *path)
{
    int64_t n = json_i64_at(v, path, 0);

    return n < 0 || n > INT32_MAX ? 0 : (unsigned)n;
}

static bool subject_from_file(const struct json *v, struct host_subject *s, enum probe_verdict *verdict)
{
    struct str key = json_str_at(v, "key");

    if (!key.n || key.n >= sizeof s->key || !probe_verdict_parse(json_str_at(v, "verdict"), verdict))
        return false;
    copy(key, s->key, sizeof s->key);
    s->probed_unix_ns = json_i64_at(v, "probedNs", 0);
    s->known = true;
    return true;
}

static void device_from_file(const struct json *v, struct host_device *d)
{
    enum probe_verdict verdict;

    if (!subject_from_file(v, &d->s, &verdict))
        return;
    memset(&d->r, 0, sizeof d->r);
    d->r.verdict = verdict;
    copy(json_str_at(v, "reason"), d->r.reason, sizeof d->r.reason);
    d->r.api_version = (int)small(v, "apiVersion");
    d->r.max_vcpus = small(v, "maxVCPUs");
    d->r.recommended_vcpus = small(v, "recommendedVCPUs");
    if (!json_double(json_get(v, "ns"), &d->r.ns_per_iteration))
        d->r.ns_per_iteration = 0;
    json_each_member(m, json_get(v, "capabilities")) {
        struct probe_cap *c = &d->r.caps[d->r.n_caps];
        int64_t n;

        if (d->r.n_caps == PROBE_MAX_CAPS || !json_i64(&m->value, &n))
            break;
        copy(json_str(&m->key), c->name, sizeof c->name);
        c->value = (int)n;
        d->r.n_caps++;
    }
}

static void vmm_from_file(const struct json *e, struct host_vmm *v)
{
    struct vmm_version *b = &v->version;

    if (!subject_from_file(e, &v->s, &v->verdict))
        return;
    copy(json_str_at(e, "reason"), v->reason, sizeof v->reason);
    copy(json_str_at(e, "path"), v->path, sizeof v->path);
    copy(json_str_at(e, "text"), b->text, sizeof b->text);
    copy(json_str_at(e, "machines"), b->machines, sizeof b->machines);
    copy(json_str_at(e, "devices"), b->devices, sizeof b->devices);
    b->major = small(e, "major");
    b->minor = small(e, "minor");
    b->patch = small(e, "patch");
    b->kvm = json_bool_at(e, "kvm", false);
    b->tcg = json_bool_at(e, "tcg", false);
    b->mshv = json_bool_at(e, "mshv", false);
}

void host_from_file(struct host *h, const struct json *file)
{
    if (json_i64_at(file, "version", 0) != REPORT_VERSION || !str_is(json_str_at(file, "vireo"), VIREO_VERSION)
        || !str_is(json_str_at(file, "kernel"), h->kernel) || !str_is(json_str_at(file, "bootID"), h->boot_id))
        return;
    device_from_file(json_get(file, "kvm"), &h->kvm);
    device_from_file(json_get(file, "mshv"), &h->mshv);
    json_each_item(e, json_get(file, "vmms"))
        for (size_t i = 0; i < h->n_vmms; i++)
            if (str_is(json_str_at(e, "name"), h->vmms[i].driver->name))
                vmm_from_file(e, &h->vmms[i]);
}
