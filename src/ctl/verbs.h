/* ctl/verbs - every verb's table entry; each stands in the file of its name or of its family. */
#pragma once
#include "ctl/ctl.h"

extern const struct ctl_verb ctl_start, ctl_stop, ctl_restart;                                   /* power.c */
extern const struct ctl_verb ctl_pause, ctl_unpause, ctl_soft_reboot, ctl_reset;                 /* machine.c */
extern const struct ctl_verb ctl_guestosinfo, ctl_userlist, ctl_fslist;                          /* guest.c */
extern const struct ctl_verb ctl_console;
extern const struct ctl_verb ctl_vnc;
extern const struct ctl_verb ctl_port_forward;
extern const struct ctl_verb ctl_ssh, ctl_scp;
extern const struct ctl_verb ctl_expand;
extern const struct ctl_verb ctl_hypervisors;
extern const struct ctl_verb ctl_version;
extern const struct ctl_verb ctl_create_vm;
