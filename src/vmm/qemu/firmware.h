/* vmm/qemu/firmware - UEFI images: which files, and the machine's own copy of the variables. */
#pragma once
#include "vmm/qemu/cmdline.h"

/* Without spec.domain.firmware.bootloader.efi both descriptors are -1. The caller closes them. */
MUST_CHECK bool firmware_open(const struct vmm_machine *m, struct qemu_firmware *ret,
                              struct error *err);
