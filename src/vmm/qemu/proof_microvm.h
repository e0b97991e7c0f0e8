/* vmm/qemu/proof_microvm - the board microvm, where the other tables' machines do not fit it. */
#pragma once
#include "vmm/qemu/proof.h"

#define D "domain/"
#define DEV "domain/devices/"
#define DISK "domain/devices/disks/*/"
#define NIC "domain/devices/interfaces/*/"
#define P "/machine/peripheral/"

static const struct proof_ask microvm_bare[] = {
    {NULL, "type /machine", "microvm-machine"},
    {D "features/acpi/enabled", "qom /machine acpi", "on"},
    {D "clock/timer/rtc/present", "qom /machine rtc", "on"},
    {D "clock/timer/pit/present", "qom /machine pit", "auto"},
    {NULL, "rtc", "0"},
    {"startStrategy", "state", "paused"},
    {D "clock/timer/rtc/track", "rtc moves", "yes"},
    {NULL, "count info qtree|lost_tick_policy = \"slew\"", "0"},
    {DEV "autoattachMemBalloon", "type " P "balloon0", "virtio-balloon-device"},
    {DEV "autoattachSerialConsole", "stream serial", "yes"},
    {NULL, "type " P "rng0", "none"},
    {NULL, "type " P "ua-a", "none"},
    {NULL, "qom /machine append", ""},
    {NULL, "query-iothreads #", "0"},
    {D "machine/type " DEV "disableHotplug", "start", "ok"}, /* false, as true: nothing is ever plugged into this board */
    {D "rebootPolicy", "reset", "runs again"},
    {0},
};

static const struct proof_ask microvm_written[] = {
    {D "memory/guest", "query-memory-size-summary base-memory", "100663296"},
    {D "features/acpi/enabled", "qom /machine acpi", "off"},
    {D "clock/timer/rtc/track", "rtc moves", "no"},
    {D "clock/timer/rtc/tickPolicy", "count info qtree|lost_tick_policy = \"slew\"", "1"},
    {D "clock/utc/offsetSeconds", "rtc", "-90"},
    {DEV "autoattachMemBalloon", "type " P "balloon0", "none"},
    {DEV "autoattachSerialConsole", "stream serial", "no"},
    {DEV "rng", "type " P "rng0", "virtio-rng-device"},
    {D "firmware/kernelBoot/kernelArgs", "qom /machine append", "~of=the,user"},
    {D "rebootPolicy", "reset", "ended"},
    {0},
};

static const struct proof_ask microvm_timers[] = {
    {NULL, "rtc", "absent"}, /* without an RTC there is no clock to set */
    {D "clock/timer/rtc/present", "qom /machine rtc", "off"},
    {0},
};

static const struct proof_ask microvm_zone[] = {
    {"startStrategy", "state", "running"},
    {D "clock/timezone", "rtc", "540"},
    {0},
};

static const struct proof_ask microvm_pit[] = {
    {D "clock/timer/pit/present", "qom /machine pit", "off"},
    {0},
};

static const struct proof_ask microvm_threads[] = {
    {DISK "dedicatedIOThread", "qom " P "ua-b iothread", "/objects/iothread2"},
    {D "ioThreadsPolicy", "query-iothreads #", "2"},
    {0},
};

static const struct proof_ask microvm_emulated_threads[] = {
    {NULL, "start", "~needs KVM for threads"},
    {0},
};

static const struct proof_ask microvm_other_board[] = {
    {D "machine/type", "start", "~machine type but microvm"},
    {0},
};

#define BLOCK "virtio-blk-device"

static const struct proof_ask microvm_disks[] = {
    {DISK "name volumes/*/name", "type " P "ua-b", BLOCK},
    {DISK "disk/bus", "start", "ok"},
    {DISK "disk/readonly", "query-block qdev=ua-b/inserted/ro", "false"},
    {NULL, "type " P "ua-c", "none"},
    {NULL, "qom " P "ua-b serial", ""},
    {DISK "bootOrder", "qom " P "ua-a bootindex", "1"}, /* the first disk, where no order is written */
    {NULL, "qom " P "ua-b bootindex", "-1"},
    {NULL, "qom " P "ua-b logical_block_size", "512"},
    {NULL, "qom " P "ua-b physical_block_size", "512"},
    {NULL, "qom " P "ua-b discard_granularity", "4294967295"},
    {NULL, "qom " P "ua-b share-rw", "false"},
    {NULL, "qom " P "ua-b iothread", ""},
    {DISK "errorPolicy", "qom " P "ua-b werror", "stop"},
    {NULL, "qom " P "ua-b num-queues", "1"},
    {NULL, "query-block qdev=ua-b/inserted/cache/writeback", "true"},
    {NULL, "query-named-block-nodes node-name=d1f/cache/direct", "true"},
    {NULL, "maps [aio]", "no"},
    {0},
};

static const struct proof_ask microvm_disks_written[] = {
    {DISK "disk/readonly", "query-block qdev=ua-b/inserted/ro", "true"},
    {DISK "serial", "qom " P "ua-b serial", "ser,ial=1"},
    {DISK "bootOrder", "qom " P "ua-a bootindex", "-1"},
    {DISK "bootOrder", "qom " P "ua-b bootindex", "3"}, /* what SeaBIOS makes of it: boot_test */
    {DISK "blockSize/custom/logical", "qom " P "ua-b logical_block_size", "1024"},
    {DISK "blockSize/custom/physical", "qom " P "ua-b physical_block_size", "4096"},
    {DISK "blockSize/custom/discardGranularity", "qom " P "ua-b discard_granularity", "8192"},
    {DISK "shareable", "qom " P "ua-b share-rw", "true"},
    {DISK "errorPolicy", "qom " P "ua-b werror", "enospc"},
    {DISK "cache", "query-block qdev=ua-b/inserted/cache/writeback", "false"},
    {DISK "cache", "query-named-block-nodes node-name=d1f/cache/direct", "false"},
    {DISK "io", "maps [aio]", "yes"},
    {DEV "blockMultiQueue", "qom " P "ua-b num-queues", "4"},
    {NULL, "type " P "ua-c", BLOCK},
    {0},
};

static const struct proof_ask microvm_sata[] = {
    {DISK "disk/bus", "start", "~buses for disks but virtio"},
    {0},
};
static const struct proof_ask microvm_no_disk[] = {
    {NULL, "type " P "ua-b", "none"},
    {NULL, "query-block qdev=ua-b/inserted/cache/writeback", "absent"},
    {0},
};

static const struct proof_ask microvm_nics[] = {
    {NIC "name networks/*/name", "type " P "ua-a", "virtio-net-device"},
    {NIC "state", "type " P "ua-b", "none"},
    {NULL, "qom " P "ua-a mac", "~52:54:00"},
    {NULL, "qom " P "ua-a mq", "false"},
    {NIC "model", "start", "ok"},
    {0},
};

static const struct proof_ask microvm_nics_written[] = {
    {NIC "macAddress", "qom " P "ua-a mac", "02:00:00:00:00:0a"},
    {DEV "networkInterfaceMultiqueue", "qom " P "ua-a mq", "true"},
    {NIC "state", "type " P "ua-b", "virtio-net-device"},
    {0},
};

static const struct proof_ask microvm_e1000[] = {
    {NIC "model", "start", "~model of interface but virtio"},
    {0},
};

#define VOLUMES(...) "'volumes':[" __VA_ARGS__ "]"

static const struct proof_machine proof_microvm[] = {
    {"microvm-bare", PROOF_MICROVM, 0, "{'domain':{'machine':{'type':'microvm'},'devices':{'disableHotplug':true}}}",
     microvm_bare},
    {"microvm-written", PROOF_MICROVM, NEED_KERNEL,
     "{'domain':{'memory':{'guest':'96Mi'},'rebootPolicy':'Terminate','features':{'acpi':{'enabled':false}},'firmware':{'"
     "kernelBoot':{'kernelArgs':'args of=the,user',"
     "'container':{'image':'x','kernelPath':'/k'}}},"
     "'clock':{'utc':{'offsetSeconds':-5400},'timer':{'rtc':{'track':'guest','tickPolicy':'catchup'}}},"
     "'devices':{'rng':{},'autoattachMemBalloon':false,'autoattachSerialConsole':false}}}",
     microvm_written},
    {"microvm-timers", PROOF_MICROVM, 0, "{'domain':{'clock':{'utc':{},'timer':{'rtc':{'present':false}}}}}", microvm_timers},
    {"microvm-zone", PROOF_MICROVM, 0, "{'startStrategy':'','domain':{'clock':{'timezone':'Asia/Tokyo'}}}", microvm_zone},
    {"microvm-pit", PROOF_MICROVM, NEED_KVM,
     "{'domain':{'cpu':{'model':'Nehalem'},'clock':{'utc':{},'timer':{'pit':{'present':false}}}}}", microvm_pit},
    {"microvm-threads", PROOF_MICROVM, NEED_KVM,
     "{'domain':{'ioThreadsPolicy':'shared','cpu':{'model':'Nehalem'},'devices':{'disks':[{'name':'a','disk':{'bus':'virtio'}},"
     "{'name':'b','disk':{'bus':'virtio'},'dedicatedIOThread':true}]}},'volumes':[{'name':'a'},{'name':'b'}]}",
     microvm_threads},
    {"microvm-emulated-threads", PROOF_MICROVM, 0, "{'domain':{'ioThreadsPolicy':'shared'}}", microvm_emulated_threads},
    {"microvm-other-board", PROOF_MICROVM, 0, "{'domain':{'machine':{'type':'q35'}}}", microvm_other_board},
    {"microvm-disks", PROOF_MICROVM, 0,
     "{'domain':{'devices':{'disks':[{'name':'a','disk':{'bus':'virtio'}},{'name':'b','disk':{'bus':'virtio'}}]}}," VOLUMES(
         "{'name':'a'},{'name':'b'}") "}",
     microvm_disks},
    {"microvm-disks-written", PROOF_MICROVM, 0,
     "{'domain':{'cpu':{'cores':4},'devices':{'blockMultiQueue':true,'disks':[{'name':'a','disk':{'bus':'virtio'},'cache':'"
     "none','io':'native'},"
     "{'name':'b','disk':{'bus':'virtio','readonly':true},'bootOrder':3,'serial':'ser,ial=1','shareable':true,"
     "'errorPolicy':'enospace','cache':'writethrough','blockSize':{'custom':{'logical':1024,'physical':4096,'"
     "discardGranularity':8192}}},"
     "{'name':'c','disk':{'bus':'virtio'}}]}}," VOLUMES("{'name':'a'},{'name':'b'},{'name':'c'}") "}",
     microvm_disks_written},
    {"microvm-no-disk", PROOF_MICROVM, 0, "{'domain':{'devices':{}}}", microvm_no_disk},
    {"microvm-sata", PROOF_MICROVM, 0,
     "{'domain':{'devices':{'disks':[{'name':'a','disk':{'bus':'sata'}}]}}," VOLUMES("{'name':'a'}") "}", microvm_sata},
    {"microvm-nics", PROOF_MICROVM, NEED_TAP,
     "{'domain':{'devices':{'interfaces':[{'name':'a','model':'virtio'},{'name':'b','state':'absent'}]}},'networks':[{'name':'"
     "a','pod':{}},{'name':'b','pod':{}}]}",
     microvm_nics},
    {"microvm-nics-written", PROOF_MICROVM, NEED_TAP,
     "{'domain':{'cpu':{'cores':2},'devices':{'networkInterfaceMultiqueue':true,'interfaces':[{'name':'a','macAddress':'02:00:"
     "00:00:00:0a'},{'name':'b'}]}},"
     "'networks':[{'name':'a','pod':{}},{'name':'b','pod':{}}]}",
     microvm_nics_written},
    {"microvm-e1000", PROOF_MICROVM, NEED_TAP,
     "{'domain':{'devices':{'interfaces':[{'name':'a','model':'e1000'}]}},'networks':[{'name':'a','pod':{}}]}", microvm_e1000},
    {0},
};
#undef D
#undef DEV
#undef DISK
#undef NIC
#undef P
