#!/usr/bin/env python3
"""Fields of the VMI, proved by what a guest sees of them: two guests whose specs differ in every field, asked the same questions.

A row proves its fields only if the two guests answer differently, so a field that gets lost on the way fails it.
Run as a program with --list, it prints the fields that are proved, one a line with the VMM in front, and starts nothing."""
import base64
import json
import re
import sys
import time
from collections import namedtuple

from cases import TIME, collector, linux_vm, null_vm
from harness import check, free_port, until

case, CASES = collector(machine=TIME)

Row = namedtuple("Row", "fields question one other")
VMMS = ("qemu", "qemu-microvm")
DISK = "domain/devices/disks/*/"
NIC = "domain/devices/interfaces/*/"
BOOT = "domain/firmware/kernelBoot/"
CLOUD = "volumes/*/cloudInit"

# In the guest: the device of a serial number, an ISO's label, and its files.
HELPERS = r"""
d() { for x in /sys/block/*; do [ "$(cat $x/serial 2>/dev/null)" = "$1" ] && echo ${x##*/}; done; }
label() { dd if=/dev/$1 bs=1 skip=32808 count=32 2>/dev/null | sed 's/ *$//'; }
files() { mkdir -p /m && mount -t iso9660 -o ro /dev/$1 /m && (cd /m && find . -type f | sort | while read f; do echo "$f=$(cat $f | tr '\n' ' ')"; done); umount /m; }
"""

ROWS = [
    Row("domain/firmware/uuid", "cat /sys/class/dmi/id/product_uuid", "5d307ca9-b3ef-428c-8861-06e72d69f223", "11111111-2222-4333-8444-555555555555"),
    Row("domain/firmware/serial", "cat /sys/class/dmi/id/product_serial", "serial-one", "serial-other"),
    Row("domain/chassis/manufacturer", "cat /sys/class/dmi/id/chassis_vendor", "maker-one", "maker-other"),
    Row("domain/chassis/version", "cat /sys/class/dmi/id/chassis_version", "version-one", "version-other"),
    Row("domain/chassis/serial", "cat /sys/class/dmi/id/chassis_serial", "chassis-one", "chassis-other"),
    Row("domain/chassis/asset", "cat /sys/class/dmi/id/chassis_asset_tag", "asset-one", "asset-other"),
    Row(BOOT + "kernelArgs " + BOOT + "container/image " + BOOT + "container/kernelPath " + BOOT + "container/initrdPath",
        "grep -o 'seen=[a-z]*' /proc/cmdline", "seen=one", "seen=other"),
    Row("domain/clock/utc/offsetSeconds domain/clock/timezone", "@clock", "72", "9"),
    Row("domain/cpu/cores domain/cpu/sockets", "nproc; cat /sys/devices/system/cpu/cpu1/topology/physical_package_id", "2\n0", "2\n1"),
    Row("domain/cpu/model", "grep -m1 'model name' /proc/cpuinfo", "~Haswell", "~Opteron"),
    Row("domain/cpu/features/*/name domain/cpu/features/*/policy", "grep -m1 flags /proc/cpuinfo | grep -ow 'aes\\|bmi1' | sort | tr '\\n' ' '; true", "bmi1", "aes"),
    Row("domain/memory/guest", "awk '/MemTotal/{print ($2 > 180000)}' /proc/meminfo", "1", "0"),
    Row(NIC + "macAddress", "cat /sys/class/net/eth0/address", "02:00:00:aa:00:01", "02:00:00:aa:00:02"),
    Row("domain/devices/networkInterfaceMultiqueue", "ls -d /sys/class/net/eth0/queues/rx-* | wc -l", "2", "1"),
    Row(NIC + "dhcpOptions/bootFileName", "@dhcp bootfile", "file-one", "file-other"),
    Row(NIC + "dhcpOptions/tftpServerName", "@dhcp tftp", "tftp-one", "tftp-other"),
    Row(NIC + "dhcpOptions/ntpServers/*", "@dhcp ntpsrv", "192.0.2.1", "192.0.2.2"),
    Row(NIC + "dhcpOptions/privateOptions/*/option " + NIC + "dhcpOptions/privateOptions/*/value", "@dhcp opt240", "~6f6e65", ""),
    Row("networks/*/pod/vmNetworkCIDR", "ip -4 addr show eth0 | awk '/inet/{print $2}'", "10.77.0.2/24", "10.0.2.2/24"),
    Row("dnsPolicy dnsConfig/nameservers/* dnsConfig/searches/* subdomain", "cat /etc/resolv.conf", "~nameserver 192.0.2.53", "~nameserver 192.0.2.54"),
    Row("dnsConfig/searches/*", "grep search /etc/resolv.conf", "~one.example", "~other.example"),
    Row("subdomain", "grep search /etc/resolv.conf", "~sub-one", "~sub-other"),
    Row("hostname", "@dhcp hostname", "host-one", "host-other"),
    Row("domain/devices/rng", "cat /sys/class/misc/hw_random/rng_available", "~virtio_rng", "!virtio_rng"),
    Row("domain/devices/watchdog/name", "@pci", "~8086:25ab", "!8086:25ab"),
    Row("domain/devices/sound/model domain/devices/sound/name", "@pci", "~8086:293e", "~8086:2415"),
    Row("domain/devices/autoattachMemBalloon", "@pci", "~1af4:1045", "!1af4:1045"),
    Row("domain/devices/inputs/*/bus", "@pci", "~1af4:1052", "!1af4:1052"),
    Row(DISK + "serial volumes/*/emptyDisk/capacity " + DISK + "disk/bus", "cat /sys/block/$(d first)/size", "16384", "32768"),
    Row(DISK + "disk/readonly", "cat /sys/block/$(d first)/ro", "1", "0"),
    Row(DISK + "blockSize/custom/logical", "cat /sys/block/$(d first)/queue/logical_block_size", "512", "4096"),
    Row(DISK + "blockSize/custom/physical", "cat /sys/block/$(d first)/queue/physical_block_size", "512", "4096"),
    Row("volumes/*/configMap/name", "files $(d map)", "./key=value-one", "./key=value-other"),
    Row("volumes/*/configMap/volumeLabel", "label $(d map)", "MAPONE", "cfgdata"),
    Row("volumes/*/secret/secretName", "files $(d sec)", "./key=value-one", "./key=value-other"),
    Row("volumes/*/secret/volumeLabel", "label $(d sec)", "SECONE", "cfgdata"),
    Row("volumes/*/configMap/optional volumes/*/secret/optional", "files $(d map2); files $(d sec2)", "", "./key=value-other\n./key=value-other"),
    Row("volumes/*/sysprep/configMap/name volumes/*/sysprep/secret/name", "files $(d prep) | tr A-Z a-z", "~value-one", "~value-other"),
    Row(CLOUD + "NoCloud/userDataBase64 " + CLOUD + "NoCloud/networkData " + CLOUD + "ConfigDrive/userData " + CLOUD + "ConfigDrive/networkDataBase64",
        "files $(d seed) | grep -o '[a-z-]*-data-[a-z]*' | sort -u | tr '\\n' ' '", "net-data-one user-data-one", "net-data-other user-data-other"),
    Row(CLOUD + "NoCloud/userDataBase64 " + CLOUD + "ConfigDrive/userData", "label $(d seed) | tr A-Z a-z", "cidata", "config-2"),
]


def rows(vmm):
    """A microvm has neither PCI nor SMBIOS."""
    return [r for r in ROWS if vmm == "qemu" or (r.question != "@pci" and "/dmi/" not in r.question)]


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def name_of(word, vmm):
    return "proof-%s%s" % (word, "-micro" if vmm == "qemu-microvm" else "")


def guest(name, strategy="Once"):
    vm = linux_vm(name, strategy=strategy)
    spec = vm["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 0
    return vm, spec, spec["domain"]


def disk(spec, name, source, bus="virtio", **more):
    target = {"bus": bus}
    target.update(more.pop("target", {}))
    spec["domain"]["devices"]["disks"].append({"name": name, "serial": name, "disk": target, **more})
    spec["volumes"].append({"name": name, **source})


def filled(word, one, vmm):
    """A guest with every field written; `word` is in its texts."""
    vm, spec, domain = guest(name_of(word, vmm))
    devices = domain["devices"]
    spec["hostname"], spec["subdomain"] = "host-" + word, "sub-" + word
    spec["dnsPolicy"] = "None"
    spec["dnsConfig"] = {"nameservers": ["192.0.2.53" if one else "192.0.2.54"], "searches": [word + ".example"]}
    domain["memory"] = {"guest": "224Mi" if one else "176Mi"}
    domain["firmware"]["kernelBoot"]["kernelArgs"] += " seen=" + word
    domain["firmware"].update(uuid="5d307ca9-b3ef-428c-8861-06e72d69f223" if one else "11111111-2222-4333-8444-555555555555", serial="serial-" + word)
    domain["chassis"] = {"manufacturer": "maker-" + word, "version": "version-" + word, "serial": "chassis-" + word, "asset": "asset-" + word}
    domain["clock"] = {"utc": {"offsetSeconds": 72 * 3600}} if one else {"timezone": "Asia/Tokyo"}
    domain["cpu"] = {"cores": 2, "model": "Haswell", "features": [{"name": "aes", "policy": "disable"}]} if one else {
        "sockets": 2, "model": "Opteron_G3", "features": [{"name": "aes", "policy": "require"}]}
    devices["autoattachMemBalloon"] = one
    devices["networkInterfaceMultiqueue"] = one
    devices["sound"] = {"name": "sound", "model": "ich9" if one else "ac97"}
    devices["inputs"] = [{"name": "tablet", "type": "tablet", "bus": "virtio" if one else "usb"}]
    if one:
        devices["watchdog"] = {"name": "dog", "i6300esb": {}}
        spec["networks"][0]["pod"] = {"vmNetworkCIDR": "10.77.0.0/24"}
    else:
        del devices["rng"]
    devices["interfaces"][0].update(macAddress="02:00:00:aa:00:0%d" % (1 if one else 2),
                                    dhcpOptions={"bootFileName": "file-" + word, "tftpServerName": "tftp-" + word,
                                                 "ntpServers": ["192.0.2.1" if one else "192.0.2.2"],
                                                 "privateOptions": [{"option": 240 if one else 241, "value": word}]})
    if one:
        disk(spec, "first", {"emptyDisk": {"capacity": "8Mi"}}, target={"readonly": True})
        disk(spec, "seed", {"cloudInitNoCloud": {"userDataBase64": encoded("#user-data-one\n"), "networkData": "#net-data-one\n"}})
        disk(spec, "prep", {"sysprep": {"configMap": {"name": "proof-prep-one"}}})
    else:
        disk(spec, "first", {"emptyDisk": {"capacity": "16Mi"}}, blockSize={"custom": {"logical": 4096, "physical": 4096}})
        disk(spec, "seed", {"cloudInitConfigDrive": {"userData": "#user-data-other\n", "networkDataBase64": encoded("#net-data-other\n")}})
        disk(spec, "prep", {"sysprep": {"secret": {"name": "proof-prep-other"}}})
    labels = {"map": {"volumeLabel": "MAPONE"}, "sec": {"volumeLabel": "SECONE"}} if one else {"map": {}, "sec": {}}
    disk(spec, "map", {"configMap": {"name": "proof-" + word, **labels["map"]}})
    disk(spec, "sec", {"secret": {"secretName": "proof-" + word, **labels["sec"]}})
    missing = "proof-missing" if one else "proof-" + word
    disk(spec, "map2", {"configMap": {"name": missing, "optional": True}})
    disk(spec, "sec2", {"secret": {"secretName": missing, "optional": True}})
    if vmm == "qemu-microvm":
        vm["metadata"]["annotations"] = {"vireo.io/hypervisor": vmm}
        for what in ("sound", "inputs", "watchdog"):
            devices.pop(what, None)
        del domain["chassis"], domain["firmware"]["uuid"], domain["firmware"]["serial"]
    return vm


def contents(word):
    """What the volumes refer to."""
    text = {"key": "value-" + word}
    prep = {"autounattend.xml": "value-" + word}
    meta = {"apiVersion": "v1"}
    return [{**meta, "kind": "ConfigMap", "metadata": {"name": "proof-" + word}, "data": text},
            {**meta, "kind": "Secret", "metadata": {"name": "proof-" + word}, "stringData": text},
            {**meta, "kind": "ConfigMap" if word == "one" else "Secret", "metadata": {"name": "proof-prep-" + word},
             "data" if word == "one" else "stringData": prep}]


def answer(c, question):
    if question == "@clock":  # hours from here to there
        return str(round((int(c.run("date -u +%s")) - time.time()) / 3600))
    if question == "@pci":
        return c.run("for x in /sys/bus/pci/devices/*; do echo $(cut -c3- $x/vendor):$(cut -c3- $x/device); done")
    if question.startswith("@dhcp"):
        return re.sub(r"^#\s*$", "", c.run("sed -n 's/^%s=//p' /run/dhcp" % question.split()[1]))
    return re.sub(r"^#\s*$", "", c.run(question))


def agrees(got, wanted):
    if wanted[:1] == "~":
        return wanted[1:] in got
    if wanted[:1] == "!":
        return wanted[1:] not in got
    return got.strip().lower() == wanted.lower()


def ask(t, word, index, vmm):
    wrong = []
    with t.server.console(name_of(word, vmm)) as c:
        c.login(150)
        for line in HELPERS.strip().split("\n"):
            c.run(line)
        c.run("printf '#!/bin/sh\\n[ $1 = bound ] && env >/run/dhcp; true\\n' >/run/keep; chmod 755 /run/keep; "
              "udhcpc -q -n -i eth0 -O bootfile -O tftp -O ntpsrv -O 240 -O 241 -s /run/keep >/run/dhcp.log 2>&1; "
              "[ -e /run/dhcp ] || { cat /run/dhcp.log; ip addr; cat /proc/interrupts; false; }", 60)
        for row in rows(vmm):
            got = answer(c, row.question)
            if not agrees(got, row[2 + index]):
                wrong.append("%s: %s says %r, not %r" % (row.fields, row.question, got, row[2 + index]))
    return wrong


@case(each=VMMS)
def two_guests_see_every_field_that_a_guest_can_see(t, vmm):
    s = t.server
    for word in ("one", "other"):
        s.apply(*contents(word))
        s.apply(filled(word, word == "one", vmm))
    wrong = []
    for index, word in enumerate(("one", "other")):
        vmi = s.wait_phase(name_of(word, vmm), seconds=90)
        check(("microvm" in vmi["status"]["machine"]["type"]) == (vmm == "qemu-microvm"), "another VMM", vmi["status"]["machine"])
        wrong += ask(t, word, index, vmm)
    check(not wrong, "%d of %d answers are wrong" % (len(wrong), 2 * len(rows(vmm))), *wrong)
    for word in ("one", "other"):
        s.delete("vm", name_of(word, vmm))


CLAIM = "volumes/*/persistentVolumeClaim/"
# What two guests in turn show, and what a watchdog does: the fields of the case below.
IN_TURN = (CLAIM + "claimName " + CLAIM + "readOnly volumes/*/ephemeral/persistentVolumeClaim/claimName volumes/*/ephemeral/persistentVolumeClaim/readOnly "
           + CLOUD + "NoCloud/secretRef/name " + CLOUD + "NoCloud/networkDataSecretRef/name " + CLOUD + "NoCloud/userData "
           "volumes/*/containerDisk/image volumes/*/containerDisk/path " + NIC + "state domain/devices/watchdog/i6300esb/action")


def claim(name):
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "vireo-local", "resources": {"requests": {"storage": "16Mi"}}}}


def writer():
    vm, spec, domain = guest("proof-writer")
    domain["devices"]["watchdog"] = {"name": "dog", "i6300esb": {}} # reset
    disk(spec, "a", {"persistentVolumeClaim": {"claimName": "proof-a"}})
    disk(spec, "b", {"persistentVolumeClaim": {"claimName": "proof-b"}})
    disk(spec, "image", {"containerDisk": {"image": "oci:tiny"}})
    disk(spec, "seed", {"cloudInitNoCloud": {"userData": "#inline\n"}})
    return vm


def reader():
    vm, spec, domain = guest("proof-reader")
    domain["devices"]["watchdog"] = {"name": "dog", "i6300esb": {"action": "poweroff"}}
    domain["devices"]["interfaces"][0]["state"] = "down"
    disk(spec, "a", {"ephemeral": {"persistentVolumeClaim": {"claimName": "proof-a"}}})
    disk(spec, "b", {"persistentVolumeClaim": {"claimName": "proof-b", "readOnly": True}})
    disk(spec, "image", {"containerDisk": {"image": "oci:tiny", "path": "/boot/vmlinuz"}})
    disk(spec, "seed", {"cloudInitNoCloud": {"secretRef": {"name": "proof-user"}, "networkDataSecretRef": {"name": "proof-net"}}})
    return vm


def helped(c):
    c.login(150)
    for line in HELPERS.strip().split("\n"):
        c.run(line)
    c.run("first() { dd if=/dev/$(d $1) bs=1 count=$2 2>/dev/null; }")
    return c


def bark(c):
    """Arms the i6300esb, for which Debian's cloud kernel has no driver, with half a second for each of its two stages."""
    c.run("p=$(dirname $(grep -l 0x25ab /sys/bus/pci/devices/*/device)); echo 1 >$p/enable; b=$(head -1 $p/resource | cut -d' ' -f1)")
    c.run("w() { devmem $((b + 12)) 16 0x80 && devmem $((b + 12)) 16 0x86 && devmem $((b + $1)) 32 0x200; }; w 0; w 4")
    c.send("printf '\\002' | dd of=$p/config bs=1 seek=104 conv=notrunc\r")


@case
def claims_images_and_secrets_are_what_their_names_say_and_a_watchdog_does_what_it_should(t):
    s = t.server
    s.apply(claim("proof-a"), claim("proof-b"), writer(),
            *[{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "proof-" + n}, "stringData": {k: "#from-" + n + "\n"}}
              for n, k in (("user", "userdata"), ("net", "networkdata"))])
    s.wait_phase("proof-writer", seconds=90)
    with s.console("proof-writer") as c:
        helped(c)
        for name in ("a", "b"):
            check(c.run("cat /sys/block/$(d %s)/ro" % name) == "0", "the writer's claim cannot be written")
            c.run("printf kept-%s >/dev/$(d %s) && sync" % (name, name))
        check(c.run("cat /sys/class/net/eth0/carrier") == "1", "state is up, and there is no carrier")
        check("eb 58 90" in c.run("first image 3 | od -An -tx1"), "the image's one disk is no FAT file system", c.run("first image 16 | od -An -tx1"))
        check("inline" in c.run("files $(d seed)"), "user data", c.run("files $(d seed)"))
        bark(c)
        c.expect("login: $", 120)
        helped(c)
        check(c.run("first a 6") == "kept-a", "after the watchdog's reset", c.run("first a 6"))
    check(s.phase("proof-writer") == "Running", "the watchdog's reset ended the instance")
    s.delete("vm", "proof-writer")
    s.apply(reader())
    s.wait_phase("proof-reader", seconds=90)
    with s.console("proof-reader") as c:
        helped(c)
        check(c.run("first a 6; first b 6") == "kept-akept-b", "other claims than those written", c.run("first a 6; first b 6"))
        check(c.run("cat /sys/block/$(d a)/ro /sys/block/$(d b)/ro") == "0\n1", "which of both may be written")
        c.run("printf gone-a >/dev/$(d a) && sync")
        check(c.run("cat /sys/class/net/eth0/carrier") == "0", "state is down, and there is a carrier")
        check("4d 5a" in c.run("first image 2 | od -An -tx1"), "not the file at that path", c.run("first image 16 | od -An -tx1"))
        out = c.run("files $(d seed)")
        check("#from-user" in out and "#from-net" in out, "cloud-init's data are not the Secrets'", out)
        bark(c)
        until(60, "the watchdog turns the guest off", lambda: s.phase("proof-reader") in ("Succeeded", "Failed"), every=0.5)
    s.delete("vm", "proof-reader")
    s.apply(writer())
    s.wait_phase("proof-writer", seconds=90)
    with s.console("proof-writer") as c:
        check(helped(c).run("first a 6") == "kept-a", "what was written to an ephemeral disk lasted")
    s.delete("vm", "proof-writer")


# ---- what the platform does; test/vmm/platform.proofs names these cases for their fields ----

@case
def logSerialConsole_and_autoattachPodInterface_leave_out_what_is_not_wanted(t):
    s = t.server
    speaks = {"domain": {"memory": {"guest": "32Mi"}, "firmware": {"bootloader": {"bios": {"useSerial": True}}}, "devices": {}}}
    for name, wanted in (("loud", True), ("still", False)):
        vm = null_vm(name, **json.loads(json.dumps(speaks)))
        devices = vm["spec"]["template"]["spec"]["domain"]["devices"]
        devices["logSerialConsole"] = devices["autoattachPodInterface"] = wanted
        s.apply(vm)
    for name, wanted in (("loud", True), ("still", False)):
        s.wait_phase(name)
        interfaces = s.get("vmi", name)["spec"].get("networks", [])
        check(bool(interfaces) == wanted, "networks of " + name, interfaces)

    def log(name):
        return s.kubectl("logs", s.pod_of(name)["metadata"]["name"]).out
    until(60, "the firmware's words are in the log", lambda: "SeaBIOS" in log("loud"), every=0.5, explain=lambda: log("loud"))
    check("SeaBIOS" not in log("still"), "the console is logged all the same")
    for name in ("loud", "still"):
        s.delete("vm", name)


@case
def imagePullPolicy_decides_who_asks_a_registry(t):
    """Nobody listens at that port: who asks hears so, who never asks says that."""
    s = t.server
    image = "localhost:%d/nothing:1" % free_port()
    said = {}
    for name, where, policy in (("disk-never", "disk", "Never"), ("disk-missing", "disk", "IfNotPresent"), ("disk-always", "disk", "Always"),
                                ("boot-never", "boot", "Never"), ("boot-missing", "boot", "IfNotPresent")):
        vm = null_vm(name)
        spec = vm["spec"]["template"]["spec"]
        if where == "disk":
            spec["domain"]["devices"]["disks"] = [{"name": "root", "disk": {"bus": "virtio"}}]
            spec["volumes"] = [{"name": "root", "containerDisk": {"image": image, "imagePullPolicy": policy}}]
        else:
            spec["domain"]["firmware"] = {"kernelBoot": {"container": {"image": image, "imagePullPolicy": policy, "kernelPath": "/k"}}}
        s.apply(vm)
        said[name] = policy
    for name, policy in said.items():
        def words(name=name):
            return " ".join(e["message"] for e in s.events(name) if e["type"] == "Warning" and "nothing:1" in e["message"])
        until(60, name + " says what is missing", words, every=0.5, explain=lambda name=name: s.describe("vmi", name))
        asked = "onnect" in words() or "refused" in words()
        check(asked == (policy != "Never"), "%s: %s" % (name, words()))
        s.delete("vm", name, wait=0)


def proved(vmm):
    fields = set(IN_TURN.split()) if vmm == "qemu" else set()
    for row in rows(vmm):
        fields.update(row.fields.split())
    return sorted(fields)


def main():
    bad = [r.question for r in ROWS if r.one == r.other]
    if bad:
        print("one answer for both guests: " + "; ".join(bad), file=sys.stderr)
        return 1
    for vmm in VMMS:
        for field in proved(vmm):
            print(vmm + " " + field)
    return 0


if __name__ == "__main__":
    sys.exit(main())
