#include "ctl/verbs.h"

/* Of KubeVirt's virtctl; each says that this release does not serve it. */
#define ABSENT(words) &(const struct ctl_verb){.name = words, .args = "", .max_args = UINT32_MAX}

const struct ctl_verb *const ctl_verbs[] = {
    &ctl_start, &ctl_stop, &ctl_restart, &ctl_pause, &ctl_unpause, &ctl_soft_reboot, &ctl_reset,
    &ctl_console, &ctl_vnc, &ctl_port_forward, &ctl_ssh, &ctl_scp,
    &ctl_guestosinfo, &ctl_userlist, &ctl_fslist, &ctl_expand, &ctl_create_vm, &ctl_hypervisors, &ctl_version,
    ABSENT("migrate"), ABSENT("migrate-cancel"), ABSENT("evacuate-cancel"), ABSENT("addvolume"), ABSENT("removevolume"),
    ABSENT("memory-dump"), ABSENT("image-upload"), ABSENT("vmexport"), ABSENT("expose"), ABSENT("usbredir"),
    ABSENT("guestfs"), ABSENT("credentials"), ABSENT("permitted-devices"), ABSENT("objectgraph"), ABSENT("adm"),
    ABSENT("template"), ABSENT("create instancetype"), ABSENT("create preference"), ABSENT("create clone"),
    ABSENT("vnc screenshot"),
    NULL,
};
