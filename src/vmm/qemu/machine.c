/* The machine without its devices: board, processors, memory, clock, identity, what it boots. */
#include "vmm/qemu/cmdline.h"

#include <stdio.h>
#include <time.h>

#include "api/quantity.h"
#include "api/types.h"

static bool state_on(const struct kv_feature_state *s)
{
    return s && opt_not_false(s->enabled);
}

static bool has_timer(const struct qemu_cmd *c)
{
    return c->domain->clock && c->domain->clock->timer;
}

bool qemu_acpi(const struct qemu_cmd *c)
{
    const struct kv_features *f = c->domain->features;

    return !(f && f->acpi) || opt_not_false(f->acpi->enabled);
}

static bool timer_off(const struct opt_bool present)
{
    return !opt_not_false(present);
}

/* ACPI gives the power button, and tells the guest where its devices are; without it the kernel's command line does. No PIC:
 * boot loaders that find one hang, and no kernel needs it. The PIT stays unless it is written away: where there is no clock of
 * KVM's a kernel calibrates by it. */
static void add_microvm(struct qemu_cmd *c)
{
    const struct kv_timer *t = has_timer(c) ? c->domain->clock->timer : NULL;

    cmd_opt(c, "-machine", "microvm");
    cmd_kvz(c, "usb", "off");
    cmd_kvz(c, "pcie", "off");
    cmd_kvz(c, "graphics", "off");
    cmd_kvz(c, "dump-guest-core", "off");
    cmd_kvb(c, "acpi", qemu_acpi(c));
    cmd_kvz(c, "isa-serial", "off"); /* the serial port is a device of its own, with its name */
    cmd_kvz(c, "pic", "off");
    cmd_kvb(c, "rtc", !(t && t->rtc && timer_off(t->rtc->present)));
    if (t && t->pit && timer_off(t->pit->present))
        cmd_kvz(c, "pit", "off");
    if (c->domain->memory && c->domain->memory->hugepages)
        cmd_kvz(c, "memory-backend", "pc.ram");
    cmd_end(c);
    cmd_pair(c, "-global", "virtio-mmio.force-legacy=false");
}

static void add_machine(struct qemu_cmd *c)
{
    const struct kv_features *f = c->domain->features;
    const struct kv_machine *machine = c->domain->machine;
    struct str type = machine && machine->type.n ? machine->type : STR("q35");
    const struct kv_hpet_timer *hpet = has_timer(c) ? c->domain->clock->timer->hpet : NULL;
    const struct kv_pit_timer *pit = has_timer(c) ? c->domain->clock->timer->pit : NULL;
    const struct kv_bootloader *boot = c->domain->firmware ? c->domain->firmware->bootloader : NULL;
    const struct kv_bios *bios = boot ? boot->bios : NULL;
    bool secure = boot && boot->efi && opt_not_false(boot->efi->secure_boot);

    cmd_opt(c, "-machine", NULL);
    cmd_kv(c, "type", c->type_name ? str_of(c->type_name) : type);
    cmd_kvz(c, "usb", "off");
    cmd_kvz(c, "vmport", "off");
    cmd_kvz(c, "dump-guest-core", "off");
    cmd_kvb(c, "acpi", qemu_acpi(c));
    cmd_kvb(c, "hpet", hpet && opt_not_false(hpet->present));
    if (pit && !opt_not_false(pit->present))
        cmd_kvz(c, "pit", "off");
    if (secure || (f && f->smm)) /* unset: QEMU's own choice */
        cmd_kvb(c, "smm", secure || state_on(f->smm));
    if (bios && opt_true(bios->use_serial))
        cmd_kvz(c, "graphics", "off"); /* SeaBIOS then speaks on the serial port */
    if (c->efi) {
        cmd_kvz(c, "pflash0", "pflash0");
        cmd_kvz(c, "pflash1", "pflash1");
    }
    if (c->domain->memory && c->domain->memory->hugepages)
        cmd_kvz(c, "memory-backend", "pc.ram");
    cmd_end(c);
}

void qemu_add_base(struct qemu_cmd *c)
{
    const struct meta_object_meta *meta = c->m->vmi->metadata;

    cmd_opt(c, "-name", NULL);
    cmd_kvf(c, "guest", STR_FMT "_" STR_FMT, STR_ARG(meta ? meta->namespace : STR_NONE),
            STR_ARG(meta ? meta->name : STR_NONE));
    cmd_kvz(c, "debug-threads", "on");
    cmd_end(c);
    cmd_flag(c, "-nodefaults");
    cmd_flag(c, "-no-user-config");
    cmd_pair(c, "-display", "none");
    cmd_pair(c, "-sandbox",
             "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    if (c->domain->firmware && c->domain->firmware->uuid.n)
        cmd_text(c, "-uuid", c->domain->firmware->uuid);
    if (c->board == QEMU_MICROVM)
        add_microvm(c);
    else
        add_machine(c);
    if (c->m->accelerator == VMM_TCG)
        cmd_pair(c, "-accel", arena_printf(c->a, "tcg,tb-size=%d", VMM_TCG_BUFFER_MIB));
    else
        cmd_pair(c, "-accel", vmm_accelerator_name(c->m->accelerator));
    cmd_pair(c, "-overcommit", "mem-lock=off");
    const char *pm = c->board == QEMU_PC ? "PIIX4_PM" : "ICH9-LPC";
    for (int i = 3; i <= 4 && c->board != QEMU_MICROVM; i++)
        cmd_pair(c, "-global", arena_printf(c->a, "%s.disable_s%d=1", pm, i));
    if (str_is(c->domain->reboot_policy, "Terminate"))
        cmd_pair(c, "-action", "reboot=shutdown");
}

static void hyperv(struct qemu_cmd *c, const struct kv_feature_hyperv *h)
{
    const struct {
        const struct kv_feature_state *state;
        const char *flag;
    } plain[] = {
        {h->relaxed, "hv-relaxed"},
        {h->vapic, "hv-vapic"},
        {h->vpindex, "hv-vpindex"},
        {h->runtime, "hv-runtime"},
        {h->synic, "hv-synic"},
        {h->reset, "hv-reset"},
        {h->frequencies, "hv-frequencies"},
        {h->reenlightenment, "hv-reenlightenment"},
        {h->ipi, "hv-ipi"},
        {h->evmcs, "hv-evmcs"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
        if (state_on(plain[i].state))
            cmd_kvz(c, plain[i].flag, "on");
    if (h->spinlocks && opt_not_false(h->spinlocks->enabled))
        cmd_kvf(c, "hv-spinlocks", "0x%llx",
                (unsigned long long)opt_or(h->spinlocks->spinlocks, 4096));
    if (h->synictimer && opt_not_false(h->synictimer->enabled)) {
        cmd_kvz(c, "hv-stimer", "on");
        if (state_on(h->synictimer->direct))
            cmd_kvz(c, "hv-stimer-direct", "on");
    }
    if (h->tlbflush && opt_not_false(h->tlbflush->enabled)) {
        cmd_kvz(c, "hv-tlbflush", "on");
        if (state_on(h->tlbflush->direct))
            cmd_kvz(c, "hv-tlbflush-direct", "on");
        if (state_on(h->tlbflush->extended))
            cmd_kvz(c, "hv-tlbflush-ext", "on");
    }
    if (h->vendorid && opt_not_false(h->vendorid->enabled) && h->vendorid->vendorid.n)
        cmd_kv(c, "hv-vendor-id", h->vendorid->vendorid);
}

/* Feature names come from tenants and stand where an option's key stands. */
static bool feature_name(struct str n)
{
    for (size_t i = 0; i < n.n; i++) {
        char ch = n.p[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9')
              || ch == '-' || ch == '_' || ch == '.'))
            return false;
    }
    return n.n > 0 && n.n < 64;
}

static void add_model(struct qemu_cmd *c)
{
    const struct kv_cpu *cpu = c->domain->cpu;
    const struct kv_features *f = c->domain->features;
    const struct kv_timer *timer = has_timer(c) ? c->domain->clock->timer : NULL;
    struct str model = cpu && cpu->model.n ? cpu->model : STR("host-model");
    bool host = str_is(model, "host-model") || str_is(model, "host-passthrough"),
         kvm = c->m->accelerator == VMM_KVM;
    bool invtsc = false, mpx = false;

    for (size_t i = 0; cpu && i < cpu->features.n; i++) {
        const struct kv_cpu_feature *feature = &cpu->features.p[i];

        invtsc |= str_is(feature->name, "invtsc") && !str_is(feature->policy, "disable")
                  && !str_is(feature->policy, "forbid");
        mpx |= str_is(feature->name, "mpx");
    }
    if (!host && !feature_name(model))
        cmd_fail(c, ERROR_INVALID, "spec.domain.cpu.model: '" STR_FMT "' is no model name",
                 STR_ARG(model));
    cmd_opt(c, "-cpu", host ? c->m->accelerator == VMM_TCG ? "max" : "host" : arena_strdup(c->a, model));
    if (host && kvm)
        cmd_kvb(c, "migratable", !invtsc);
    if (!host && !mpx)
        cmd_kvz(c, "mpx", "off");
    for (size_t i = 0; cpu && i < cpu->features.n; i++) {
        const struct kv_cpu_feature *feature = &cpu->features.p[i];
        bool off = str_is(feature->policy, "disable") || str_is(feature->policy, "forbid");

        if (!feature_name(feature->name)) {
            cmd_fail(c, ERROR_INVALID, "spec.domain.cpu.features: '" STR_FMT "' is no feature name",
                     STR_ARG(feature->name));
            continue;
        }
        if (str_is(feature->policy, "optional") && !kvm)
            continue; /* "if the host has it": an emulated model already has all that can be emulated */
        cmd_kvz(c, arena_strdup(c->a, feature->name), off ? "off" : "on");
    }
    if (f && f->kvm && opt_true(f->kvm->hidden))
        cmd_kvz(c, "kvm", "off");
    if (f && f->pvspinlock)
        cmd_kvb(c, "kvm-pv-unhalt", opt_not_false(f->pvspinlock->enabled));
    if (cpu && cpu->realtime)
        cmd_kvz(c, "pmu", "off");
    if (cpu && opt_true(cpu->dedicated_cpu_placement) && kvm)
        cmd_kvz(c, "kvm-hint-dedicated", "on");
    if (timer && timer->kvm)
        cmd_kvb(c, "kvmclock", opt_not_false(timer->kvm->present));
    if (timer && timer->hyperv)
        cmd_kvb(c, "hv-time", opt_not_false(timer->hyperv->present));
    bool hv_passthrough = f && f->hyperv_passthrough && opt_not_false(f->hyperv_passthrough->enabled);
    if (hv_passthrough)
        cmd_kvz(c, "hv-passthrough", "on");
    if (f && (f->hyperv || hv_passthrough) && !kvm)
        cmd_fail(c, ERROR_UNSUPPORTED,
                 "spec.domain.features.hyperv needs KVM; this machine is emulated");
    if (f && f->hyperv)
        hyperv(c, f->hyperv);
    for (size_t i = 0; i < c->devices->panic_devices.n; i++)
        if (str_is(c->devices->panic_devices.p[i].model, "hyperv"))
            cmd_kvz(c, "hv-crash", "on");
    const struct kv_virtual_machine_instance_status *st = c->m->vmi->status;
    bool pinned = invtsc || (f && f->hyperv && state_on(f->hyperv->reenlightenment));
    if (pinned && st && st->topology_hints && st->topology_hints->tsc_frequency.set)
        cmd_kvu(c, "tsc-frequency", (uint64_t)st->topology_hints->tsc_frequency.v);
    cmd_end(c);
}

/* A part of the topology: unset or zero counts as one; absurd values are refused, so that their product cannot overflow. */
static unsigned part(struct qemu_cmd *c, struct opt_int v, const char *what)
{
    int64_t n = opt_or(v, 0) == 0 ? 1 : v.v;

    if (n < 1 || n > 4096) {
        cmd_fail(c, ERROR_INVALID, "spec.domain.cpu.%s: %lld is out of range", what, (long long)n);
        return 1;
    }
    return (unsigned)n;
}

void qemu_add_cpu(struct qemu_cmd *c)
{
    static const struct kv_cpu none;
    const struct kv_cpu *cpu = c->domain->cpu ? c->domain->cpu : &none;
    unsigned sockets = part(c, cpu->sockets, "sockets"), cores = part(c, cpu->cores, "cores");
    unsigned threads = part(c, cpu->threads, "threads"),
             max = part(c, cpu->max_sockets, "maxSockets");
    uint64_t total;

    if (max < sockets || c->board == QEMU_MICROVM) /* it can plug none */
        max = sockets;
    total = (uint64_t)max * cores * threads;
    c->vcpus = sockets * cores * threads;
    if (total > 4096 || c->vcpus == 0) {
        cmd_fail(c, ERROR_INVALID, "spec.domain.cpu: %llu vCPUs are more than a machine can have",
                 (unsigned long long)total);
        c->vcpus = 1;
        return;
    }
    add_model(c);
    cmd_opt(c, "-smp", arena_printf(c->a, "%u", c->vcpus));
    cmd_kvu(c, "sockets", max);
    cmd_kvu(c, "cores", cores);
    cmd_kvu(c, "threads", threads);
    cmd_kvu(c, "maxcpus", total);
    cmd_end(c);
}

bool qemu_quantity(struct str text, uint64_t *ret, struct error *err)
{
    struct quantity q;
    int64_t v;

    if (!quantity_parse(text, &q, err))
        return false;
    /* Upstream rounds what is no whole number down: Value() - 1. */
    v = quantity_value(q);
    if (!quantity_exact(q, &v))
        v--;
    if (v < 0)
        return error_set(err, ERROR_INVALID, "'" STR_FMT "' is less than nothing", STR_ARG(text));
    *ret = (uint64_t)v;
    return true;
}

/* memory.guest, or what admission would have filled in from the resources. */
static struct str guest_memory(const struct qemu_cmd *c)
{
    const struct kv_memory *mem = c->domain->memory;
    const struct kv_resource_requirements *res = c->domain->resources;
    struct str s = mem ? mem->guest : STR_NONE;

    if (!s.n && res)
        s = str_map_get(&res->requests, STR("memory"));
    if (!s.n && res)
        s = str_map_get(&res->limits, STR("memory"));
    if (!s.n && mem && mem->hugepages)
        s = mem->hugepages->page_size;
    return s;
}

void qemu_add_memory(struct qemu_cmd *c)
{
    const struct kv_memory *mem = c->domain->memory;
    uint64_t bytes = 0, max = 0, page = 0;

    if (cmd_failed(c))
        return;
    if (!qemu_quantity(guest_memory(c), &bytes, &c->err)) {
        error_wrap(&c->err, "spec.domain.memory.guest");
        return;
    }
    if (bytes < (1u << 20))
        cmd_fail(c, ERROR_INVALID, "spec.domain.memory.guest: less than 1Mi");
    c->memory = c->memory_max = bytes;
    cmd_opt(c, "-m", NULL);
    cmd_kvf(c, "size", "%lluB", (unsigned long long)bytes);
    if (c->board != QEMU_MICROVM && mem && mem->max_guest.n && qemu_quantity(mem->max_guest, &max, &c->err) && max > bytes) {
        cmd_kvu(c, "slots", 16);
        cmd_kvf(c, "maxmem", "%lluB", (unsigned long long)max);
        c->memory_max = max;
    }
    cmd_end(c);
    if (mem && mem->hugepages) {
        if (!qemu_quantity(mem->hugepages->page_size, &page, &c->err)) {
            error_wrap(&c->err, "spec.domain.memory.hugepages.pageSize");
            return;
        }
        if (page == 0 || bytes % page)
            cmd_fail(c, ERROR_INVALID,
                     "spec.domain.memory.guest: not a multiple of the huge page size");
        cmd_opt(c, "-object", "memory-backend-memfd");
        cmd_kvz(c, "id", "pc.ram");
        cmd_kvz(c, "hugetlb", "on");
        cmd_kvu(c, "hugetlbsize", page);
        cmd_kvu(c, "size", bytes);
        cmd_kvz(c, "share", "on");
        cmd_kvz(c, "prealloc", "on");
        cmd_end(c);
    }
}

void qemu_add_clock(struct qemu_cmd *c)
{
    const struct kv_clock *clock = c->domain->clock;
    const struct kv_timer *timer = has_timer(c) ? clock->timer : NULL;

    cmd_opt(c, "-rtc", NULL);
    if (clock && clock->timezone.n) {
        cmd_kvz(c, "base", "localtime");
        if (feature_name(clock->timezone) || !str_has(clock->timezone, '.'))
            vec_push(&c->env, arena_printf(c->a, "TZ=" STR_FMT, STR_ARG(clock->timezone)));
    } else if (clock && clock->utc && opt_or(clock->utc->offset_seconds, 0) != 0) {
        time_t at = time(NULL) + (time_t)clock->utc->offset_seconds.v;
        struct tm tm;
        char text[32] = "utc";

        if (gmtime_r(&at, &tm))
            strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
        cmd_kvz(c, "base", text);
    } else {
        cmd_kvz(c, "base", "utc");
    }
    if (timer && timer->rtc && str_is(timer->rtc->track, "guest"))
        cmd_kvz(c, "clock", "vm");
    if (timer && timer->rtc && str_is(timer->rtc->tick_policy, "catchup"))
        cmd_kvz(c, "driftfix", "slew");
    cmd_end(c);
    if (timer && timer->pit && timer->pit->tick_policy.n && c->m->accelerator == VMM_KVM) {
        cmd_opt(c, "-global", NULL);
        cmd_kv(c, "kvm-pit.lost_tick_policy", timer->pit->tick_policy);
        cmd_end(c);
    }
}

void qemu_add_smbios(struct qemu_cmd *c)
{
    const struct kv_firmware *fw = c->domain->firmware;
    const struct kv_chassis *ch = c->domain->chassis;

    if (c->board == QEMU_MICROVM)
        return; /* it has no SMBIOS */
    cmd_opt(c, "-smbios", "type=1");
    cmd_kvz(c, "manufacturer", "KubeVirt");
    cmd_kvz(c, "product", "None");
    if (fw && fw->serial.n)
        cmd_kv(c, "serial", fw->serial);
    if (fw && fw->uuid.n)
        cmd_kv(c, "uuid", fw->uuid);
    cmd_kvz(c, "family", "KubeVirt");
    cmd_end(c);
    if (ch) {
        cmd_opt(c, "-smbios", "type=3");
        cmd_kv(c, "manufacturer", ch->manufacturer);
        cmd_kv(c, "version", ch->version);
        cmd_kv(c, "serial", ch->serial);
        cmd_kv(c, "asset", ch->asset);
        cmd_kv(c, "sku", ch->sku);
        cmd_end(c);
    }
}

/* How a kernel under emulation learns how fast its clock goes. A microvm has no timer that it could compare with but the PIT,
 * whose counter it reads in a hurry; on a host that has more to do that fails, and then the kernel waits for ever for its first
 * tick. So it is told, by the command line where that is ours to write. Behind a boot loader time goes by instructions instead
 * (-icount), which no other load of the host disturbs; that costs speed, and more than one processor at a time. */
static void emulated_time(struct qemu_cmd *c, struct str *args)
{
    size_t at;

    if (c->m->kernel_fd < 0) {
        cmd_pair(c, "-icount", "shift=auto");
        return;
    }
    if (c->tsc_khz == 0 || str_find(*args, STR("tsc_early_khz="), &at))
        return;
    *args = str_of(arena_printf(c->a, STR_FMT "%stsc_early_khz=%u", STR_ARG(*args), args->n ? " " : "", c->tsc_khz));
}

void qemu_add_boot(struct qemu_cmd *c, int bios_fd)
{
    const struct kv_firmware *fw = c->domain->firmware;
    bool paused = str_is(c->m->vmi->spec->start_strategy, "Paused") || c->m->restore_dir;

    if (paused)
        cmd_flag(c, "-S");
    bool menu = paused && !c->m->restore_dir;
    cmd_pair(c, "-boot", menu ? "strict=on,menu=on,splash-time=10000" : "strict=on");
    if (bios_fd >= 0)
        cmd_pair(c, "-bios", cmd_fd_path(c, bios_fd));
    else if (c->board == QEMU_MICROVM)
        cmd_pair(c, "-bios", "qboot.rom"); /* it knows one thing: to enter a kernel */
    if (c->m->kernel_fd >= 0)
        cmd_pair(c, "-kernel", cmd_fd_path(c, c->m->kernel_fd));
    if (c->m->initrd_fd >= 0)
        cmd_pair(c, "-initrd", cmd_fd_path(c, c->m->initrd_fd));
    struct str args = fw && fw->kernel_boot ? fw->kernel_boot->kernel_args : STR_NONE;
    if (c->board == QEMU_MICROVM && c->m->accelerator == VMM_TCG)
        emulated_time(c, &args);
    if (args.n)
        cmd_text(c, "-append", args);
}
