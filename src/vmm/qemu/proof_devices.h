/* vmm/qemu/proof_devices - interfaces, consoles, graphics, inputs and the small devices. */
#pragma once
#include "vmm/qemu/proof.h"

#define DEV "domain/devices/"
#define NIC "domain/devices/interfaces/*/"
#define P "/machine/peripheral/"

static const struct proof_ask devices_bare[] = {
    {NULL, "type " P "rng0", "none"},
    {DEV "autoattachGraphicsDevice", "type " P "video0", "VGA"},
    {DEV "autoattachMemBalloon", "type " P "balloon0", "virtio-balloon-pci"},
    {DEV "autoattachSerialConsole", "stream serial", "yes"},
    {DEV "autoattachGraphicsDevice", "stream vnc", "yes"},
    {NULL, "type " P "virtio-serial0", "virtio-serial-pci"},
    {NULL, "type " P "ua-w", "none"},
    {NULL, "type " P "ua-s", "none"},
    {NULL, "type " P "ua-t", "none"},
    {NULL, "type " P "ua-v", "none"},
    {NULL, "count info qtree|dev: pvpanic-pci", "0"},
    {NULL, "count info qtree|dev: pvpanic,", "0"},
    {NULL, "query-mice #", "1"},
    {0},
};

static const struct proof_ask devices_written[] = {
    {DEV "rng", "type " P "rng0", "virtio-rng-pci"},
    {DEV "video/type", "type " P "video0", "virtio-vga"},
    {DEV "watchdog/name", "type " P "ua-w", "i6300esb"},
    {DEV "sound/name", "type " P "ua-s", "ich9-intel-hda"},
    {DEV "inputs/*/name " DEV "inputs/*/bus", "type " P "ua-t", "usb-tablet"},
    {DEV "inputs/*/name " DEV "inputs/*/bus", "type " P "ua-v", "virtio-tablet-pci"},
    {DEV "inputs/*/type", "query-mice #", "3"},
    {DEV "panicDevices/*/model", "count info qtree|dev: pvpanic-pci", "1"},
    {DEV "panicDevices/*/model", "count info qtree|dev: pvpanic,", "0"},
    {0},
};

static const struct proof_ask devices_none[] = {
    {DEV "autoattachGraphicsDevice", "type " P "video0", "none"},
    {DEV "autoattachGraphicsDevice", "stream vnc", "no"},
    {DEV "autoattachMemBalloon", "type " P "balloon0", "none"},
    {DEV "autoattachSerialConsole", "stream serial", "no"},
    {DEV "sound/model", "type " P "ua-s", "AC97"},
    {DEV "panicDevices/*/model", "count info qtree|dev: pvpanic,", "1"},
    {0},
};

static const struct proof_ask devices_input[] = {
    {DEV "autoattachInputDevice", "type " P "ua-default-0", "usb-tablet"},
    {DEV "autoattachInputDevice", "query-mice #", "2"},
    {0},
};
static const struct proof_ask devices_no_input[] = {
    {DEV "autoattachInputDevice", "type " P "ua-default-0", "none"},
    {0},
};

/* Another number than any default; and without the node's device there is no machine, rather than one without a vsock. */
static const struct proof_ask devices_vsock[] = {
    {DEV "autoattachVSOCK", "type " P "vsock0", "vhost-vsock-pci", PROOF_QEMU},
    {DEV "autoattachVSOCK", "type " P "vsock0", "vhost-vsock-device", PROOF_MICROVM},
    {DEV "autoattachVSOCK", "qom " P "vsock0 guest-cid", "4021177"},
    {0},
};
static const struct proof_ask devices_no_vsock[] = {
    {NULL, "type " P "vsock0", "none"},
    {NULL, "qom " P "vsock0 guest-cid", "absent"},
    {0},
};
static const struct proof_ask devices_vsock_missing[] = {
    {NULL, "start", "~load the module vhost_vsock"}, {0}};

static const struct proof_ask devices_cirrus[] = {{DEV "video/type", "type " P "video0", "cirrus-vga"}, {0}};
static const struct proof_ask devices_bochs[] = {{DEV "video/type", "type " P "video0", "bochs-display"}, {0}};
static const struct proof_ask devices_ramfb[] = {{DEV "video/type", "type " P "video0", "ramfb"}, {0}};

static const struct proof_ask nics_bare[] = {
    {NIC "name networks/*/name", "type " P "ua-a", "virtio-net-pci"},
    {NULL, "type " P "ua-b", "none"},
    {NULL, "type " P "ua-c", "none"},
    {NULL, "qom " P "ua-a mac", "~52:54:00"},
    {NULL, "qom " P "ua-a bootindex", "-1"},
    {NULL, "qom " P "ua-a acpi-index", "0"},
    {NIC "pciAddress", "query-pci 0/devices/qdev_id=ua-a/slot", "absent"},
    {DEV "networkInterfaceMultiqueue", "qom " P "ua-a mq", "false"},
    {0},
};

static const struct proof_ask nics_written[] = {
    {NIC "macAddress", "qom " P "ua-a mac", "02:00:00:00:00:0a"},
    {NIC "bootOrder", "qom " P "ua-a bootindex", "2"},
    {NIC "acpiIndex", "qom " P "ua-a acpi-index", "7"},
    {NIC "pciAddress", "query-pci 0/devices/qdev_id=ua-a/slot", "11"},
    {0},
};

static const struct proof_ask nics_queues[] = {
    {DEV "networkInterfaceMultiqueue", "qom " P "ua-a mq", "true"},
    {0},
};

static const struct proof_ask nics_models[] = {
    {NIC "model", "type " P "ua-b", "e1000e"},
    {NIC "model", "type " P "ua-c", "rtl8139"},
    {NIC "state", "type " P "ua-d", "none"},
    {0},
};

static const struct proof_ask nics_old[] = {
    {NIC "model", "type " P "ua-a", "virtio-net-pci-transitional"},
    {DEV "useVirtioTransitional", "type " P "ua-a", "virtio-net-pci-transitional"},
    {NIC "model", "type " P "ua-b", "e1000"},
    {NIC "model", "type " P "ua-c", "pcnet"},
    {NIC "state", "type " P "ua-d", "ne2k_pci"},
    {0},
};

#define NET(name) "{'name':'" name "','pod':{}}"

static const struct proof_machine proof_devices[] = {
    {"devices-bare", PROOF_QEMU, 0, "{}", devices_bare},
    {"devices-written", PROOF_QEMU, 0,
     "{'domain':{'devices':{'rng':{},'video':{'type':'virtio'},'watchdog':{'name':'w','i6300esb':{}"
     "},'sound':{'name':'s'},"
     "'inputs':[{'name':'t','type':'tablet'},{'name':'v','type':'tablet','bus':'virtio'}],'"
     "panicDevices':[{'model':'pvpanic'}]}"
     "}}",
     devices_written},
    {"devices-none", PROOF_QEMU, 0,
     "{'domain':{'devices':{'autoattachGraphicsDevice':false,'autoattachMemBalloon':false,'"
     "autoattachSerialConsole':false,'"
     "sound':{'name':'s','model':'ac97'},"
     "'panicDevices':[{'model':'isa'}]}}}",
     devices_none},
    {"devices-input", PROOF_QEMU, AS_ADMITTED,
     "{'domain':{'devices':{'autoattachInputDevice':true,'autoattachPodInterface':false}}}",
     devices_input},
    {"devices-no-input", PROOF_QEMU, AS_ADMITTED,
     "{'domain':{'devices':{'autoattachInputDevice':false,'autoattachPodInterface':false}}}",
     devices_no_input},
    {"devices-vsock", PROOF_BOTH, NEED_VSOCK | MAY_LACK,
     "{'domain':{'devices':{'autoattachVSOCK':true}}}", devices_vsock},
    {"devices-no-vsock", PROOF_BOTH, 0, "{'domain':{'devices':{'autoattachVSOCK':false}}}",
     devices_no_vsock},
    {"devices-vsock-missing", PROOF_BOTH, 0, "{'domain':{'devices':{'autoattachVSOCK':true}}}",
     devices_vsock_missing},
    {"devices-cirrus", PROOF_QEMU, 0, "{'domain':{'devices':{'video':{'type':'cirrus'}}}}",
     devices_cirrus},
    {"devices-bochs", PROOF_QEMU, 0, "{'domain':{'devices':{'video':{'type':'bochs'}}}}",
     devices_bochs},
    {"devices-ramfb", PROOF_QEMU, 0, "{'domain':{'devices':{'video':{'type':'ramfb'}}}}",
     devices_ramfb},
    {"nics-bare", PROOF_QEMU, NEED_TAP,
     "{'domain':{'devices':{'interfaces':[{'name':'a','masquerade':{}}]}},'networks':[" NET(
         "a") "]}",
     nics_bare},
    {"nics-written", PROOF_QEMU, NEED_TAP,
     "{'domain':{'cpu':{'cores':2},'devices':{'interfaces':[{'name':'a','macAddress':'02:00:00:00:"
     "00:0a','bootOrder':2,'"
     "acpiIndex':7,"
     "'pciAddress':'0000:00:0b.0','masquerade':{}}]}},'networks':[" NET("a") "]}",
     nics_written},
    {"nics-queues", PROOF_QEMU, NEED_TAP | MAY_LACK,
     "{'domain':{'cpu':{'cores':2},'devices':{'networkInterfaceMultiqueue':true,'interfaces':[{'"
     "name':'a'}]}},'networks':[" NET("a") "]}",
     nics_queues},
    {"nics-models", PROOF_QEMU, NEED_TAP,
     "{'domain':{'devices':{'interfaces':[{'name':'a'},{'name':'b','model':'e1000e'},{'name':'c','"
     "model':'rtl8139'},{'name':'d'"
     ",'state':'absent'}]}},"
     "'networks':[" NET("a") "," NET("b") "," NET("c") "," NET("d") "]}",
     nics_models},
    {"nics-old", PROOF_QEMU, NEED_TAP,
     "{'domain':{'devices':{'useVirtioTransitional':true,'interfaces':[{'name':'a'},{'name':'b','"
     "model':'e1000'},{'name':'c','"
     "model':'pcnet'},{'name':'d','model':'ne2k_pci'}]}},"
     "'networks':[" NET("a") "," NET("b") "," NET("c") "," NET("d") "]}",
     nics_old},
    {0},
};
#undef DEV
#undef P
