/* Which VMM runs a machine.
 *
 * The wish is an annotation (vireo.io/hypervisor); the choice is made once, at admission, from what the user WROTE: before any
 * default, since upstream's defaults (q35, SATA, a display) are what the small VMMs lack and would make everything a QEMU machine.
 * Defaults are then those of the VMM that was chosen (kv_default.c).
 *
 * The choice is recorded (vireo.io/vmm) and belongs to the server, as a status does: what a client writes there, or leaves out –
 * `kubectl replace`, a controller that applies from Git – changes nothing. It is made again when the user asks: by another wish, or
 * by a new text in vireo.io/hypervisor-decide. Where nothing is recorded the VMM is qemu, so objects that never chose, and those
 * from before there was a choice, are what they were.
 *
 * A machine of a VirtualMachine runs on what its VirtualMachine has recorded. One without is decided for itself, at its creation.
 *
 * auto takes the lightest VMM that honours everything written (one whose devices an image of a disk may have no drivers for only if
 * the machine brings its kernel); of these, one that some node offers goes before one that none does,
 * as a lighter VMM that nobody has would leave the machine pending for ever. */
#include "api/kv_choice.h"

#include <stdio.h>

#include "api/meta.h"
#include "api/vmm_caps.h"
#include "base/buf.h"
#include "base/cleanup.h"

#define PLAIN STR("qemu")

/* --- what nodes offer ----------------------------------------------------------------------------------------------------- */

void kv_offers_add(struct kv_offers *o, const struct json *node)
{
    json_each_member(m, json_at(node, "metadata/labels")) {
        AUTO(error_clear) struct error ignored = {0};
        struct str key = json_str(&m->key), prefix = STR(KV_LABEL_VMM("")), name;
        char label[96];
        uint64_t level = 0;
        size_t i = 0;

        if (!str_starts(key, prefix) || !str_is(json_str(&m->value), "true"))
            continue;
        name = str_n(key.p + prefix.n, key.n - prefix.n);
        if (name.n >= sizeof o->p[0].vmm)
            continue;
        snprintf(label, sizeof label, "metadata/labels/vireo.io~1vmm-" STR_FMT "-level", STR_ARG(name));
        if (!parse_u64(json_str_at(node, label), 1u << 20, &level, &ignored) || level == 0)
            level = 1; /* there, whatever it is */
        while (i < o->n && !str_is(name, o->p[i].vmm))
            i++;
        if (i == ARRAY_SIZE(o->p))
            continue;
        if (i == o->n) {
            o->p[o->n++] = (struct kv_offer){.level = 0};
            snprintf(o->p[i].vmm, sizeof o->p[i].vmm, STR_FMT, STR_ARG(name));
        }
        if (level > o->p[i].level)
            o->p[i].level = (unsigned)level;
    }
}

unsigned kv_offered(const struct kv_offers *o, struct str vmm)
{
    for (size_t i = 0; o && i < o->n; i++)
        if (str_is(vmm, o->p[i].vmm))
            return o->p[i].level;
    return 0;
}

/* --- the names ------------------------------------------------------------------------------------------------------------ */

bool kv_vmm_known(struct str name)
{
    const struct vmm_caps *v = vmm_caps_find(name);

    return v && v->built;
}

void kv_vmm_names(struct buf *b)
{
    const char *separator = "";

    for (const struct vmm_caps *const *v = vmm_caps_all; *v; v++)
        if ((*v)->built && !(*v)->hidden) {
            buf_addf(b, "%s\"%s\"", separator, (*v)->name);
            separator = ", ";
        }
}

struct str kv_vmm(const struct json *object)
{
    struct str name = meta_annotation(object, KV_ANNOTATION_VMM);

    return name.n ? name : PLAIN;
}

/* --- deciding ------------------------------------------------------------------------------------------------------------- */

struct decision {
    struct arena *a;
    const struct kv_config *c;
    const struct kv_offers *offers;
    struct schema_causes *ret;
    const struct json *spec; /* as written */
    struct str wish;         /* absent: none */
    const char *field;       /* where the wish stands */
};

static bool needs_hardware(const struct vmm_caps *v)
{
    return !(v->accelerators & VMM_CAPS_TCG);
}

/* What nothing honours here is no reason against one of them. A boot from a disk counts as one against those that auto takes with a
 * kernel only: where nothing else is allowed it is taken all the same. */
static size_t refusals(const struct decision *d, const struct vmm_caps *v)
{
    struct schema_causes causes = {0};

    size_t unasked = v->automatic == VMM_CAPS_AUTO_KERNEL && !json_is(json_at(d->spec, "domain/firmware/kernelBoot"), JSON_OBJECT);

    if (vmm_caps_honours(v, d->spec, false))
        return unasked;
    vmm_caps_check(v, d->spec, "spec", d->a, &causes);
    return causes.n + unasked;
}

static const struct vmm_caps *lightest(const struct decision *d)
{
    const struct vmm_caps *best = NULL, *usual = vmm_caps_find(kv_vmm_default(d->c)), *closest = NULL;
    bool best_offered = false;
    size_t fewest = SIZE_MAX;

    /* From light to heavy. */
    for (const struct vmm_caps *const *p = vmm_caps_all; *p; p++) {
        const struct vmm_caps *v = *p;
        unsigned level = vmm_caps_version(v, d->spec), offered = kv_offered(d->offers, str_of(v->name));
        bool there = offered > 0 && (level <= v->minimum || offered >= level);
        size_t n;

        if (!v->built || v->automatic == VMM_CAPS_AUTO_NEVER || !kv_vmm_allowed(d->c, str_of(v->name))
            || (needs_hardware(v) && kv_emulation(d->c) == KV_EMULATION_YES))
            continue;
        n = refusals(d, v);
        if (n <= fewest) {
            fewest = n;
            closest = v; /* of those that lack as little, the heaviest */
        }
        if (n == 0 && (!best || (there && !best_offered) || (!there && !best_offered && v == usual))) {
            best = v;
            best_offered = there;
        }
    }
    return best ? best : closest; /* what the closest lacks is said by validation, path by path */
}

static const char *refused(struct decision *d, const char *reason, const char *fmt, ...) PRINTF_LIKE(3, 4);
static const char *refused(struct decision *d, const char *reason, const char *fmt, ...)
{
    AUTO(buf_done) struct buf b = {0};
    va_list ap;

    buf_init(&b, 4096);
    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    schema_cause_add(d->ret, d->a, reason, d->field, STR_FMT, STR_ARG(buf_str(&b)));
    return NULL;
}

/* As much of a wish as a message has room for, in whole characters. */
static struct str shown(struct str wish)
{
    size_t n = 64;

    if (wish.n <= n)
        return wish;
    while (n > 0 && ((unsigned char)wish.p[n] & 0xc0) == 0x80)
        n--;
    return str_take(wish, n);
}

static const char *by_name(struct decision *d)
{
    const struct vmm_caps *v = vmm_caps_find(d->wish);
    AUTO(buf_done) struct buf names = {0};
    struct str wish = shown(d->wish);

    if (!kv_vmm_known(d->wish)) {
        buf_init(&names, 1024);
        kv_vmm_names(&names);
        return refused(d, "FieldValueNotSupported", "Unsupported value: \"" STR_FMT "%s\": supported values: \"auto\", " STR_FMT,
                       STR_ARG(wish), wish.n < d->wish.n ? "…" : "", STR_ARG(buf_str(&names)));
    }
    if (!kv_vmm_allowed(d->c, d->wish))
        return refused(d, "FieldValueNotSupported",
                       STR_FMT " is not among the hypervisors that the KubeVirt object's %s allows: choose one of those, "
                       "or have it added there",
                       STR_ARG(d->wish), kv_hypervisors_field(d->c));
    if (needs_hardware(v) && kv_emulation(d->c) == KV_EMULATION_YES)
        return refused(d, "FieldValueNotSupported",
                       "%s cannot emulate, and the KubeVirt object's "
                       "spec.configuration.developerConfiguration.useEmulation is true: choose qemu or qemu-microvm",
                       v->name);
    return v->name;
}

/* The name of a VMM, or NULL after a refusal. */
static const char *decide(struct decision *d)
{
    const struct vmm_caps *v;

    if (!d->wish.n)
        return arena_strdup(d->a, kv_vmm_default(d->c));
    if (!str_is(d->wish, "auto"))
        return by_name(d);
    v = lightest(d);
    if (!v)
        return refused(d, "FieldValueNotSupported", "the KubeVirt object's %s allows no hypervisor that auto could choose",
                       kv_hypervisors_field(d->c));
    return v->name;
}

/* --- on objects ----------------------------------------------------------------------------------------------------------- */

/* What has the wrong type is left for validation to find. */
static bool room_for(const struct json *v)
{
    return !v || v->type == JSON_NULL || json_is(v, JSON_OBJECT);
}

static const struct json *with_annotation(struct arena *a, const struct json *o, const char *name, const struct json *value)
{
    if (!value && !json_get(json_at(o, "metadata/annotations"), name))
        return o;
    if (!room_for(json_get(o, "metadata")) || !room_for(json_at(o, "metadata/annotations")))
        return o;
    return json_with(a, o, "metadata",
                     json_with(a, json_get(o, "metadata"), "annotations",
                               json_with(a, json_at(o, "metadata/annotations"), name, value)));
}

static const struct json *kept(struct arena *a, const struct json *o, const struct json *old, const char *name)
{
    return with_annotation(a, o, name, json_get(json_at(old, "metadata/annotations"), name));
}

/* Nothing is recorded of who wrote nothing and gets QEMU: such objects are as upstream's. */
static const struct json *recorded(struct arena *a, const struct json *o, struct str wish, const char *vmm)
{
    bool plain = !vmm || (!wish.n && str_is(PLAIN, vmm));

    return with_annotation(a, o, KV_ANNOTATION_VMM, plain ? NULL : json_new_z(a, vmm));
}

/* The template's word goes before the machine's. */
static struct str vm_wish(const struct json *vm, const char **ret_field)
{
    struct str wish = meta_annotation(json_at(vm, "spec/template"), KV_ANNOTATION_HYPERVISOR);

    *ret_field = "spec.template.metadata.annotations." KV_ANNOTATION_HYPERVISOR;
    if (wish.n)
        return wish;
    *ret_field = "metadata.annotations." KV_ANNOTATION_HYPERVISOR;
    return meta_annotation(vm, KV_ANNOTATION_HYPERVISOR);
}

static bool asks_again(const struct json *vm, const struct json *old)
{
    struct str now = meta_annotation(vm, KV_ANNOTATION_DECIDE);
    const char *ignored;

    return !str_eq(vm_wish(vm, &ignored), vm_wish(old, &ignored))
           || (now.n && !str_eq(now, meta_annotation(old, KV_ANNOTATION_DECIDE)));
}

/* What admission fills into a VirtualMachine belongs to no writer (metadata.managedFields), and so is known later for what it is. */
static const struct {
    const char *path, *owned; /* below spec/template/spec */
} fills[] = {{"domain/machine/type", "f:domain/f:machine/f:type"},
             {"domain/firmware/uuid", "f:domain/f:firmware/f:uuid"},
             {"domain/firmware/serial", "f:domain/f:firmware/f:serial"}};

static bool owned(const struct json *vm, const char *path, struct arena *a)
{
    json_each_item(entry, json_at(vm, "metadata/managedFields"))
        if (json_at(json_get(entry, "fieldsV1"), arena_printf(a, "f:spec/f:template/f:spec/%s", path)))
            return true;
    return false;
}

static bool changed(const struct json *now, const struct json *before)
{
    return now && before ? !json_eq(now, before) : now != before;
}

/* The template's spec without what was filled in when the VM was made. */
static const struct json *written_spec(const struct json *vm, const struct json *old, struct arena *a)
{
    const struct json *spec = json_at(vm, "spec/template/spec"), *before = json_at(old, "spec/template/spec");

    for (size_t i = 0; old && i < ARRAY_SIZE(fills); i++)
        if (json_at(spec, fills[i].path) && !owned(old, fills[i].owned, a)
            && !changed(json_at(spec, fills[i].path), json_at(before, fills[i].path)))
            spec = json_with_at(a, spec, fills[i].path, NULL);
    return spec;
}

/* A template has no say in what the server writes onto its instances. */
static const struct json *template_cleaned(struct arena *a, const struct json *vm)
{
    static const char *const names[] = {KV_ANNOTATION_VMM, KV_ANNOTATION_LEFT_OUT};
    const struct json *template = json_at(vm, "spec/template"), *clean = template;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        clean = with_annotation(a, clean, names[i], NULL);
    return clean == template ? vm : json_with_at(a, vm, "spec/template", clean);
}

/* Another VMM has other defaults: the old ones go, but what tells guests apart stays where it can. */
static const struct json *refilled(const struct json *vm, const struct json *written, const char *vmm, const struct kv_config *c,
                                   struct arena *a)
{
    const struct json *spec = json_at(vm, "spec/template/spec");
    const char *own = kv_own_default(vmm_caps_find(str_of(vmm)), "domain/machine/type");
    struct str type = own ? str_of(own) : kv_machine_type(c, json_str_at(spec, "architecture"));

    spec = json_with_at(a, spec, "domain/machine/type", json_at(written, "domain/machine/type"));
    if (type.n && !json_str_at(spec, "domain/machine/type").n)
        spec = json_with_at(a, spec, "domain/machine/type", json_new_str(a, type));
    else if (json_is(json_at(spec, "domain/machine"), JSON_OBJECT) && !json_len(json_at(spec, "domain/machine"))
             && !json_at(written, "domain/machine/type"))
        spec = json_with_at(a, spec, "domain/machine", NULL);
    if (!str_is(PLAIN, vmm))
        spec = kv_spec_without_unhonoured(spec, written, str_of(vmm), a);
    return json_with_at(a, vm, "spec/template/spec", spec);
}

const struct json *kv_vm_choose(const struct json *vm, const struct json *old, const struct kv_config *c, const struct kv_offers *o,
                                struct arena *a, struct schema_causes *ret)
{
    struct decision d = {.a = a, .c = c, .offers = o, .ret = ret};
    const char *vmm;

    if (!json_is(json_at(vm, "spec/template"), JSON_OBJECT))
        return vm;
    vm = template_cleaned(a, vm);
    if (old && (json_at(vm, "metadata/deletionTimestamp") || !asks_again(vm, old)))
        return kept(a, vm, old, KV_ANNOTATION_VMM);
    d.spec = written_spec(vm, old, a);
    d.wish = vm_wish(vm, &d.field);
    vmm = decide(&d);
    if (!vmm)
        return vm;
    if (old && !str_eq(kv_vmm(old), str_of(vmm)))
        vm = refilled(vm, d.spec, vmm, c, a);
    return recorded(a, vm, d.wish, vmm);
}

void kv_vm_choice_hint(const struct json *vm, const struct json *old, const struct kv_config *c, const struct kv_offers *o,
                       struct arena *a, struct schema_causes *ret)
{
    struct decision d = {.a = a, .c = c, .offers = o, .ret = ret, .spec = written_spec(vm, old, a),
                         .field = "metadata.annotations." KV_ANNOTATION_VMM};
    const char *ignored;
    const struct vmm_caps *better;

    if (ret->n == 0 || !old || !str_is(vm_wish(vm, &ignored), "auto"))
        return;
    better = lightest(&d);
    if (better && !str_is(kv_vmm(vm), better->name) && vmm_caps_honours(better, d.spec, false))
        refused(&d, "FieldValueInvalid",
                STR_FMT " was chosen for this machine before, and stays; %s could do what is written now: to have the choice made "
                        "again, give the annotation " KV_ANNOTATION_DECIDE " a new text in the same change",
                STR_ARG(kv_vmm(vm)), better->name);
}

static bool of_vm(const struct json *vmi)
{
    return str_is(json_str_at(meta_controller(vmi), "kind"), "VirtualMachine");
}

const struct json *kv_vmi_choose(const struct json *vmi, const struct json *old, const struct kv_config *c,
                                 const struct kv_offers *o, bool by_platform, struct arena *a, struct schema_causes *ret)
{
    struct decision d = {.a = a, .c = c, .offers = o, .ret = ret, .spec = json_get(vmi, "spec"),
                         .field = "metadata.annotations." KV_ANNOTATION_HYPERVISOR};

    if (old)
        return kept(a, kept(a, vmi, old, KV_ANNOTATION_VMM), old, KV_ANNOTATION_LEFT_OUT);
    vmi = with_annotation(a, vmi, KV_ANNOTATION_LEFT_OUT, NULL);
    d.wish = meta_annotation(vmi, KV_ANNOTATION_HYPERVISOR);
    if (!by_platform || !of_vm(vmi))
        return recorded(a, vmi, d.wish, decide(&d));
    d.field = "metadata.annotations." KV_ANNOTATION_VMM;
    d.wish = kv_vmm(vmi); /* of its VirtualMachine: still there, still allowed? */
    by_name(&d);
    return vmi;
}
