/* vmm/qemu/proof_disks - disks: bus, cache, errors, sizes, order, threads. */
#pragma once
#include "vmm/qemu/proof.h"

#define DISK "domain/devices/disks/*/"
#define UA "/machine/peripheral/ua-"
#define VOLUME(name) "{'name':'" name "'}"

static const struct proof_ask disks_bare[] = {
    {DISK "name volumes/*/name", "type " UA "a", "ide-hd"}, /* the bus that upstream has by default */
    {DISK "disk/bus", "type " UA "b", "virtio-blk-pci"},
    {DISK "disk/bus", "type " UA "c", "scsi-hd"},
    {DISK "disk/bus", "type " UA "d", "usb-storage"},
    {DISK "cdrom/bus", "type " UA "e", "ide-cd"},
    {DISK "cdrom/bus", "type " UA "f", "scsi-cd"},
    {DISK "cdrom/bus", "type " UA "g", "scsi-cd"},
    {DISK "cdrom/bus", "query-block qdev=ua-g/removable", "true"},
    {DISK "lun/bus", "type " UA "h", "scsi-hd"},
    {DISK "lun/bus", "type " UA "i", "ide-hd"},
    {NULL, "type " UA "i2", "none"},
    {DISK "disk/readonly", "query-block qdev=ua-b/inserted/ro", "false"},
    {DISK "cdrom/readonly", "query-block qdev=ua-e/inserted/ro", "true"},
    {DISK "lun/readonly", "query-block qdev=ua-i/inserted/ro", "false"},
    {NULL, "qom " UA "a bootindex", "1"}, /* the first disk, where no order is written */
    {NULL, "qom " UA "b bootindex", "-1"},
    {NULL, "qom " UA "b serial", ""},
    {NULL, "qom " UA "b num-queues", "2"},
    {NULL, "qom " UA "b logical_block_size", "512"},
    {NULL, "qom " UA "b physical_block_size", "512"},
    {NULL, "qom " UA "b discard_granularity", "4294967295"},
    {NULL, "qom " UA "b share-rw", "false"},
    {NULL, "qom " UA "b iothread", ""},
    {DISK "errorPolicy", "qom " UA "b werror", "stop"},
    {DISK "errorPolicy", "qom " UA "b rerror", "stop"},
    {NULL, "query-block qdev=ua-b/inserted/cache/writeback", "true"},
    {NULL, "query-named-block-nodes node-name=d1f/cache/direct", "true"},
    {DISK "cdrom/tray", "start", "ok"},         /* tray: closed */
    {NULL, "count info usb|QEMU USB MSD", "2"}, /* d and g: both are plugged in */
    {NULL, "maps [aio]", "no"},
    {"domain/devices/disableHotplug", "type /machine/peripheral/scsi0", "virtio-scsi-pci"},
    {NULL, "query-iothreads #", "0"},
    {NULL, "query-pci 0/devices/qdev_id=ua-p/slot", "absent"}, /* behind a port */
    {0},
};

static const struct proof_ask disks_written[] = {
    {DISK "disk/readonly", "query-block qdev=ua-b/inserted/ro", "true"},
    {DISK "cdrom/readonly", "query-block qdev=ua-e/inserted/ro", "false"},
    {DISK "lun/readonly", "query-block qdev=ua-i/inserted/ro", "true"},
    {DISK "lun/bus", "type " UA "i", "virtio-blk-pci"},
    {DISK "lun/bus", "type " UA "h", "ide-hd"},
    {DISK "cdrom/bus", "type " UA "e", "scsi-cd"},
    {DISK "name", "type " UA "c", "none"},
    {NULL, "type " UA "d", "none"},
    {NULL, "type " UA "f", "none"},
    {NULL, "type " UA "g", "none"},
    {NULL, "query-block qdev=ua-g/removable", "absent"},
    {NULL, "count info usb|QEMU USB MSD", "0"},
    {DISK "bootOrder", "qom " UA "a bootindex", "-1"},
    {DISK "bootOrder", "qom " UA "b bootindex", "3"},
    {DISK "serial", "qom " UA "b serial", "ser,ial=1"},
    {"domain/devices/blockMultiQueue", "qom " UA "b num-queues", "1"},
    {DISK "blockSize/custom/logical", "qom " UA "b logical_block_size", "1024"},
    {DISK "blockSize/custom/physical", "qom " UA "b physical_block_size", "4096"},
    {DISK "blockSize/custom/discardGranularity", "qom " UA "b discard_granularity", "8192"},
    {DISK "shareable", "qom " UA "b share-rw", "true"},
    {DISK "dedicatedIOThread", "qom " UA "b iothread", "/objects/iothread2"},
    {DISK "errorPolicy", "qom " UA "b werror", "enospc"},
    {DISK "errorPolicy", "qom " UA "b rerror", "report"},
    {DISK "cache", "query-block qdev=ua-b/inserted/cache/writeback", "false"}, /* writethrough */
    {DISK "cache", "query-named-block-nodes node-name=d1f/cache/direct", "false"},
    {DISK "io", "maps [aio]", "yes"},
    {"domain/ioThreadsPolicy", "query-iothreads #", "2"},
    {DISK "disk/pciAddress", "query-pci 0/devices/qdev_id=ua-p/slot", "10"},
    {0},
};

static const struct proof_ask disks_other[] = {
    {DISK "errorPolicy", "qom " UA "b werror", "ignore"},
    {DISK "cache", "query-block qdev=ua-b/inserted/cache/writeback", "true"}, /* writeback */
    {DISK "cache", "query-named-block-nodes node-name=d1f/cache/direct", "false"},
    {"domain/devices/blockMultiQueue", "qom " UA "b num-queues", "4"},
    {"domain/ioThreadsPolicy", "query-iothreads #", "3"}, /* auto: a thread for each disk, up to two for each processor */
    {"domain/devices/disableHotplug", "type /machine/peripheral/scsi0", "none"},
    {"domain/devices/useVirtioTransitional", "type " UA "b", "virtio-blk-pci-transitional"},
    {"domain/devices/useVirtioTransitional", "type /machine/peripheral/balloon0", "virtio-balloon-pci-transitional"},
    {"domain/devices/useVirtioTransitional", "type /machine/peripheral/rng0", "virtio-rng-pci-transitional"},
    {"domain/devices/useVirtioTransitional", "type /machine/peripheral/virtio-serial0", "virtio-serial-pci-transitional"},
    {0},
};

static const struct proof_ask disks_read_only_sata[] = {
    {NULL, "start", "~a SATA disk cannot be read-only"},
    {0},
};

static const struct proof_ask disks_open_tray[] = {
    {DISK "cdrom/tray", "start", "~trays are closed at start"},
    {0},
};

static const struct proof_machine proof_disks[] = {
    {"disks-bare", PROOF_QEMU, 0,
     "{'domain':{'cpu':{'cores':2},'devices':{'disks':[{'name':'a','disk':{}},{'name':'b','disk':{'bus':'virtio'}},{'name':'c',"
     "'disk':{'bus':'scsi'}},"
     "{'name':'d','disk':{'bus':'usb'}},{'name':'e','cdrom':{'bus':'sata','tray':'closed'}},{'name':'f','cdrom':{'bus':'scsi'}}"
     ",{'name':'g','"
     "cdrom':{'bus':'usb'}},"
     "{'name':'h','lun':{'bus':'scsi'}},{'name':'i','lun':{'bus':'sata'}}]}},"
     "'volumes':[" VOLUME("a") "," VOLUME("b") "," VOLUME("c") "," VOLUME("d") "," VOLUME("e") "," VOLUME("f") "," VOLUME(
         "g") "," VOLUME("h") "," VOLUME("i") "]}",
     disks_bare},
    {"disks-written", PROOF_QEMU, 0,
     "{'domain':{'ioThreadsPolicy':'shared','cpu':{'cores':4},'devices':{'blockMultiQueue':false,'disks':[{'name':'a','disk':{'"
     "bus':'virtio'},'cache':'none','io':'native'},"
     "{'name':'b','disk':{'bus':'virtio','readonly':true},'bootOrder':3,'serial':'ser,ial=1','shareable':true,'"
     "dedicatedIOThread':true,"
     "'errorPolicy':'enospace','cache':'writethrough','blockSize':{'custom':{'logical':1024,'physical':4096,'"
     "discardGranularity':8192}}},"
     "{'name':'e','cdrom':{'bus':'scsi','readonly':false}},{'name':'h','lun':{'bus':'sata'}},{'name':'i','lun':{'bus':'virtio',"
     "'readonly':true}},"
     "{'name':'p','disk':{'bus':'virtio','pciAddress':'0000:00:0a.0'}}]}},"
     "'volumes':[" VOLUME("a") "," VOLUME("b") "," VOLUME("e") "," VOLUME("h") "," VOLUME("i") "," VOLUME("p") "]}",
     disks_written},
    {"disks-other", PROOF_QEMU, 0,
     "{'domain':{'ioThreadsPolicy':'auto','cpu':{'cores':4},'devices':{'disableHotplug':true,'rng':{},'useVirtioTransitional':true,'"
     "blockMultiQueue':true,'disks':["
     "{'name':'a','disk':{'bus':'virtio'}},{'name':'b','disk':{'bus':'virtio'},'errorPolicy':'ignore','cache':'writeback'},{'"
     "name':'c','disk':{'bus':'virtio'}}]}},"
     "'volumes':[" VOLUME("a") "," VOLUME("b") "," VOLUME("c") "]}",
     disks_other},
    {"disks-open-tray", PROOF_QEMU, 0,
     "{'domain':{'devices':{'disks':[{'name':'e','cdrom':{'bus':'sata','tray':'open'}}]}},'volumes':[" VOLUME("e") "]}",
     disks_open_tray},
    {"disks-read-only-sata", PROOF_QEMU, 0,
     "{'domain':{'devices':{'disks':[{'name':'a','disk':{'readonly':true}}]}},'volumes':[" VOLUME("a") "]}",
     disks_read_only_sata},
    {0},
};
