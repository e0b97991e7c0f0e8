/* What a simulated node offers: the hypervisors that machines choose, by name and version only. The machine itself is always the fake
 * VMM's. `plays` makes node agents, schedulers' messages and every VMI's Events say what it is. */
#include "sim/launcher.h"
#include "vmm/vmm.h"

#define PLAYS "this node is simulated, nothing runs in its machines"

static bool probed(const char *line, struct vmm_version *ret, struct error *err)
{
    ret->tcg = true;
    return vmm_version_parse(str_of(line), ret, err);
}

static bool probe_qemu(struct vmm_version *ret, struct error *err)
{
    return probed("simulated QEMU 10.0.0", ret, err);
}

static bool probe_cloud_hypervisor(struct vmm_version *ret, struct error *err)
{
    return probed("simulated cloud-hypervisor 60.0.0", ret, err);
}

static bool probe_firecracker(struct vmm_version *ret, struct error *err)
{
    return probed("simulated Firecracker 1.20.0", ret, err);
}

static bool probe_fake(struct vmm_version *ret, struct error *err)
{
    return probed("fake 1.0", ret, err);
}

static const struct vmm_driver qemu = {.name = "qemu", .program = "", .plays = PLAYS, .probe = probe_qemu},
                               microvm = {.name = "qemu-microvm", .program = "", .plays = PLAYS, .probe = probe_qemu},
                               cloud_hypervisor = {.name = "cloud-hypervisor", .program = "", .plays = PLAYS,
                                                   .probe = probe_cloud_hypervisor},
                               firecracker = {.name = "firecracker", .program = "", .plays = PLAYS, .probe = probe_firecracker},
                               fake = {.name = "fake", .program = "", .plays = PLAYS, .probe = probe_fake};

const struct vmm_driver *const sim_drivers[] = {&qemu, &microvm, &cloud_hypervisor, &firecracker, &fake, NULL};

bool sim_plays(struct str vmm)
{
    for (size_t i = 0; sim_drivers[i]; i++)
        if (str_is(vmm, sim_drivers[i]->name))
            return true;
    return false;
}
