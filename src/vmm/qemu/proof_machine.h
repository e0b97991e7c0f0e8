/* vmm/qemu/proof_machine - the board: memory, clock, firmware, identity, how it starts and ends. */
#pragma once
#include "vmm/qemu/proof.h"

#define D "domain/"
#define DEV "domain/devices/"
#define FW "domain/firmware/"
#define CHASSIS "domain/chassis/"

static const struct proof_ask machine_bare[] = {
    {D "memory/guest", "query-memory-size-summary base-memory", "33554432"},
    {NULL, "qom /machine memory max-size", "absent"},
    {D "machine/type", "type /machine", "~q35-"},
    {D "features/acpi/enabled", "qom /machine acpi", "on"},
    {D "features/smm/enabled", "qom /machine smm", "auto"},
    {NULL, "qom /machine hpet", "false"},
    {NULL, "qom /machine pit", "auto"},
    {NULL, "qom /machine graphics", "true"},
    {"startStrategy", "state", "paused"},
    {"startStrategy", "query-status status", "prelaunch"},
    {NULL, "rtc", "0"},
    {D "clock/timer/rtc/track", "rtc moves", "yes"},
    {NULL, "count info qtree|lost_tick_policy = \"slew\"", "0"},
    {FW "uuid", "query-uuid UUID", "00000000-0000-0000-0000-000000000000"},
    {NULL, "query-iothreads #", "0"},
    {NULL, "count info qtree|dev: cfi.pflash01", "0"},
    {NULL, "count info qtree|secure = true", "0"},
    {D "rebootPolicy", "reset", "runs again"},
    {0},
};

static const struct proof_ask machine_written[] = {
    {D "memory/guest", "query-memory-size-summary base-memory", "100663296"},
    {D "memory/maxGuest", "qom /machine memory max-size", "268435456"},
    {D "machine/type", "type /machine", "pc-q35-6.2-machine"},
    {D "features/acpi/enabled", "qom /machine acpi", "off"},
    {D "features/smm/enabled", "qom /machine smm", "on"},
    {D "clock/timer/hpet/present", "qom /machine hpet", "true"},
    {D "clock/timer/pit/present", "qom /machine pit", "off"},
    {D "clock/utc/offsetSeconds", "rtc", "-90"},
    {D "clock/timer/rtc/track", "rtc moves", "no"},
    {D "clock/timer/rtc/tickPolicy", "count info qtree|lost_tick_policy = \"slew\"", "1"},
    {FW "uuid", "query-uuid UUID", "5d307ca9-b3ef-428c-8861-06e72d69f223"},
    {D "rebootPolicy", "reset", "ended"},
    {0},
};

static const struct proof_ask machine_no_rtc[] = {
    {NULL, "start", "~rtc.present"},
    {0},
};

static const struct proof_ask machine_rtc[] = {
    {NULL, "start", "ok"},
    {0},
};

static const struct proof_ask machine_requests[] = {
    {D "features/smm/enabled", "qom /machine smm", "off"},
    {D "resources/requests/*", "query-memory-size-summary base-memory", "50331648"},
    {D "clock/timezone", "rtc", "540"},
    {"startStrategy", "state", "running"},
    {"startStrategy", "query-status status", "running"},
    {0},
};

static const struct proof_ask machine_limits[] = {
    {D "resources/limits/*", "query-memory-size-summary base-memory", "41943040"},
    {0},
};

/* What SeaBIOS laid out in the guest's memory: it runs here. */
static const struct proof_ask machine_identity[] = {
    {FW "serial", "memory serial-of-the-board", "yes"},
    {FW "uuid", "memory uuid:5d307ca9-b3ef-428c-8861-06e72d69f223", "yes"},
    {CHASSIS "manufacturer", "memory maker-of-the-chassis", "yes"},
    {CHASSIS "version", "memory version-of-the-chassis", "yes"},
    {CHASSIS "serial", "memory serial-of-the-chassis", "yes"},
    {CHASSIS "asset", "memory asset,of=the-chassis", "yes"},
    {CHASSIS "sku", "memory sku-of-the-chassis", "yes"},
    {FW "bootloader/bios/useSerial", "serial SeaBIOS", "no"},
    {0},
};

static const struct proof_ask machine_nameless[] = {
    {NULL, "serial SeaBIOS", "yes"}, /* useSerial; the firmware has run, so its tables are there */
    {NULL, "memory serial-of-the-board", "no"},
    {NULL, "memory uuid:5d307ca9-b3ef-428c-8861-06e72d69f223", "no"},
    {NULL, "memory maker-of-the-chassis", "no"},
    {NULL, "memory version-of-the-chassis", "no"},
    {NULL, "memory serial-of-the-chassis", "no"},
    {NULL, "memory asset,of=the-chassis", "no"},
    {NULL, "memory sku-of-the-chassis", "no"},
    {FW "bootloader/bios/useSerial", "qom /machine graphics", "false"},
    {0},
};

static const struct proof_ask machine_efi[] = {
    {FW "bootloader/efi/secureBoot", "count info qtree|dev: cfi.pflash01", "2"},
    {FW "bootloader/efi/secureBoot", "count info qtree|secure = true", "0"},
    {FW "bootloader/efi/secureBoot", "qom /machine smm", "auto"},
    {0},
};

static const struct proof_ask machine_secure[] = {
    {FW "bootloader/efi/secureBoot", "count info qtree|secure = true", "2"},
    {FW "bootloader/efi/secureBoot", "qom /machine smm", "on"},
    {0},
};

static const struct proof_machine proof_machines[] = {
    {"machine-bare", PROOF_QEMU, 0, "{}", machine_bare},
    {"machine-written", PROOF_QEMU, 0,
     "{'domain':{'memory':{'guest':'96Mi','maxGuest':'256Mi'},'machine':{'type':'pc-q35-6.2'},'rebootPolicy':'Terminate',"
     "'features':{'acpi':{'enabled':false},'smm':{}},'firmware':{'uuid':'5d307ca9-b3ef-428c-8861-06e72d69f223'},"
     "'clock':{'utc':{'offsetSeconds':-5400},'timer':{'hpet':{'present':true},'pit':{'present':false},'rtc':{'track':'guest','"
     "tickPolicy':'catchup'}}}}}",
     machine_written},
    {"machine-no-rtc", PROOF_QEMU, 0, "{'domain':{'clock':{'utc':{},'timer':{'rtc':{'present':false}}}}}", machine_no_rtc},
    {"machine-rtc", PROOF_QEMU, 0, "{'domain':{'clock':{'utc':{},'timer':{'rtc':{'present':true}}}}}", machine_rtc},
    {"machine-requests", PROOF_QEMU, 0,
     "{'startStrategy':'','domain':{'memory':{},'features':{'smm':{'enabled':false}},'resources':{'requests':{'memory':'48Mi'}}"
     ",'clock':{'timezone':'Asia/Tokyo'}}}",
     machine_requests},
    {"machine-limits", PROOF_BOTH, 0, "{'domain':{'memory':{},'resources':{'limits':{'memory':'40Mi'}}}}", machine_limits},
    {"machine-nameless", PROOF_QEMU, 0, "{'startStrategy':'','domain':{'firmware':{'bootloader':{'bios':{'useSerial':true}}}}}",
     machine_nameless},
    {"machine-identity", PROOF_QEMU, 0,
     "{'startStrategy':'','domain':{'firmware':{'serial':'serial-of-the-board','uuid':'5d307ca9-b3ef-428c-8861-06e72d69f223'},"
     "'chassis':{'manufacturer':'maker-of-the-chassis','version':'version-of-the-chassis','serial':'serial-of-the-chassis',"
     "'asset':'asset,of=the-chassis','sku':'sku-of-the-chassis'}}}",
     machine_identity},
    {"machine-efi", PROOF_QEMU, NEED_OVMF, "{'domain':{'firmware':{'bootloader':{'efi':{'secureBoot':false}}}}}", machine_efi},
    {"machine-secure", PROOF_QEMU, NEED_OVMF, "{'domain':{'features':{'smm':{}},'firmware':{'bootloader':{'efi':{}}}}}",
     machine_secure},
    {0},
};
#undef D
#undef DEV
