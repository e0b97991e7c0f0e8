/* vmm/qemu/firmware - UEFI images: which files, and the machine's own copy of the variables; a microvm's BIOS. */
#pragma once
#include "vmm/qemu/cmdline.h"

/* What the machine does not need stays -1. The caller closes them. */
MUST_CHECK bool firmware_open(const struct vmm_machine *m, bool microvm, struct qemu_firmware *ret,
                              struct error *err);
