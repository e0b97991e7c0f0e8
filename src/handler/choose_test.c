/* Which accelerator: every combination of what the configuration says and what the machine can. */
#include "base/base_test.h"

#include <stdio.h>

#include "base/cleanup.h"
#include "handler/choose.h"

enum { UNKNOWN, BROKEN, WORKS };

static void device(struct host_device *d, int state, const char *why)
{
    d->s.known = state != UNKNOWN;
    d->r.verdict = state == WORKS ? PROBE_WORKS : PROBE_BROKEN;
    snprintf(d->r.reason, sizeof d->r.reason, "%s", why);
}

static const struct vmm_driver qemu = {.name = "qemu"}, firecracker = {.name = "firecracker"}, player = {.name = "player", .plays = "Nothing."};

#define ANY KV_EMULATION_AUTO
#define NO KV_EMULATION_NO
#define YES KV_EMULATION_YES

static const struct row {
    const char *what;
    const struct vmm_driver *driver;
    int vmm, kvm, mshv; /* what is known */
    enum kv_emulation emulation;
    bool embedded, no_kvm, no_mshv; /* no_: not allowed by the KubeVirt object */
    const char *allowed;
    enum choose_answer answer;
    const char *result; /* accelerator, or part of the error */
} rows[] = {
    {"KVM first", &qemu, WORKS, WORKS, WORKS, ANY, true, false, false, NULL, CHOOSE_TAKEN, "kvm"},
    {"emulated where it is broken", &qemu, WORKS, BROKEN, BROKEN, ANY, true, false, false, NULL, CHOOSE_TAKEN, "tcg"},
    {"… not in a cluster that does not say so", &qemu, WORKS, BROKEN, BROKEN, ANY, false, false, false, NULL, CHOOSE_REFUSED,
     "useEmulation of the KubeVirt object is not set"},
    {"useEmulation true", &qemu, WORKS, WORKS, BROKEN, YES, true, false, false, NULL, CHOOSE_TAKEN, "tcg"},
    {"… waits for no verdict on KVM", &qemu, WORKS, UNKNOWN, BROKEN, YES, true, false, false, NULL, CHOOSE_TAKEN, "tcg"},
    {"useEmulation false", &qemu, WORKS, BROKEN, BROKEN, NO, true, false, false, NULL, CHOOSE_REFUSED,
     "KVM cannot be used on node n1 (it hangs), and spec.configuration.developerConfiguration.useEmulation of the KubeVirt object is "
     "false: set it to true, or use a node where KVM works"},
    {"useEmulation false, KVM works", &qemu, WORKS, WORKS, BROKEN, NO, true, false, false, NULL, CHOOSE_TAKEN, "kvm"},
    {"KVM is being probed", &qemu, WORKS, UNKNOWN, BROKEN, ANY, true, false, false, NULL, CHOOSE_WAIT, "node n1 is finding out whether KVM works"},
    {"MSHV in KVM's stead", &qemu, WORKS, BROKEN, WORKS, ANY, true, false, false, NULL, CHOOSE_TAKEN, "mshv"},
    {"MSHV only", &qemu, WORKS, WORKS, WORKS, ANY, true, true, false, NULL, CHOOSE_TAKEN, "mshv"},
    {"MSHV only, and broken", &qemu, WORKS, WORKS, BROKEN, NO, true, true, false, NULL, CHOOSE_REFUSED,
     "MSHV cannot be used on node n1 (no partition)"},
    {"MSHV only, and broken, emulated", &qemu, WORKS, WORKS, BROKEN, ANY, true, true, false, NULL, CHOOSE_TAKEN, "tcg"},
    {"MSHV is being probed", &qemu, WORKS, BROKEN, UNKNOWN, ANY, true, true, false, NULL, CHOOSE_WAIT, "MSHV"},
    {"no MSHV allowed", &qemu, WORKS, BROKEN, WORKS, ANY, true, false, true, NULL, CHOOSE_TAKEN, "tcg"},
    {"firecracker with KVM", &firecracker, WORKS, WORKS, BROKEN, ANY, true, false, false, NULL, CHOOSE_TAKEN, "kvm"},
    {"… is not to be emulated", &firecracker, WORKS, WORKS, BROKEN, YES, true, false, false, NULL, CHOOSE_TAKEN, "kvm"},
    {"… and never is", &firecracker, WORKS, BROKEN, BROKEN, YES, true, false, false, NULL, CHOOSE_REFUSED,
     "hypervisor firecracker cannot be used on node n1: firecracker needs KVM, which does not work here: it hangs"},
    {"the VMM is being probed", &qemu, UNKNOWN, WORKS, BROKEN, ANY, true, false, false, NULL, CHOOSE_WAIT, "whether qemu works"},
    {"it is broken", &qemu, BROKEN, WORKS, BROKEN, ANY, true, false, false, NULL, CHOOSE_REFUSED, "on node n1: it says nothing"},
    {"it is withheld", &qemu, WORKS, WORKS, BROKEN, ANY, true, false, false, "firecracker", CHOOSE_REFUSED,
     "vireo.io/hypervisors (\"firecracker\") leaves qemu out"},
    {"it is not withheld", &qemu, WORKS, WORKS, BROKEN, ANY, true, false, false, "firecracker, qemu", CHOOSE_TAKEN, "kvm"},
    {"nothing to accelerate", &player, WORKS, BROKEN, BROKEN, NO, false, false, false, NULL, CHOOSE_TAKEN, "tcg"},
    {"there is no such driver", NULL, WORKS, WORKS, BROKEN, ANY, true, false, false, NULL, CHOOSE_REFUSED, "has no driver for hypervisor 'bochs'"},
};

static void table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *r = &rows[i];
        AUTO(error_clear) struct error err = {0};
        struct host host = {0};
        struct host_vmm vmm = {.driver = r->driver, .reason = "it says nothing"};
        struct choose_view v = {.host = &host, .vmm = r->driver ? &vmm : NULL, .name = str_of(r->driver ? r->driver->name : "bochs"),
                                .node = "n1", .allowed = str_of(r->allowed), .emulation = r->emulation, .embedded = r->embedded,
                                .kvm_allowed = !r->no_kvm, .mshv_allowed = !r->no_mshv};
        enum vmm_accelerator a = VMM_TCG;
        enum choose_answer answer;
        const char *result;

        device(&host.kvm, r->kvm, "it hangs");
        device(&host.mshv, r->mshv, "no partition");
        vmm.s.known = r->vmm != UNKNOWN;
        vmm.verdict = r->vmm == WORKS ? PROBE_WORKS : PROBE_BROKEN;
        vmm.version = (struct vmm_version){.major = 99, .kvm = true, .tcg = r->driver == &qemu, .mshv = r->driver == &qemu};
        answer = choose_accelerator(&v, &a, &err);
        result = answer == CHOOSE_TAKEN ? vmm_accelerator_name(a) : error_text(&err);
        if (answer != r->answer || !strstr(result, r->result))
            fail_msg("%s: %d, %s", r->what, (int)answer, result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
