"""Disks that come out of images, on a cluster without image volumes: containers beside the launcher hand them over (launcher/images.h)."""
import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time

from cases import collector
from cluster import machine, output
from harness import Skip, check, until

ORDER = 20
case, CASES = collector()
TINY = "docker.io/vireo/tiny:latest"


def archive(path, entries):
    """An OCI archive of one layer. Entries: (name, what): bytes are a file, a text is a link to it, None a folder, "|" a FIFO."""
    raw, blobs = io.BytesIO(), {}
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, what in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if what is None else 0o644
            if what is None:
                info.type = tarfile.DIRTYPE
            elif what == "|":
                info.type = tarfile.FIFOTYPE
            elif isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
            else:
                info.size = len(what)
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)

    def blob(data, media):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs["blobs/sha256/" + digest[7:]] = data
        return {"mediaType": media, "digest": digest, "size": len(data)}
    oci = "application/vnd.oci.image."
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()]}}
    manifest = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
                "config": blob(json.dumps(config).encode(), oci + "config.v1+json"),
                "layers": [blob(gzip.compress(raw.getvalue(), 1, mtime=0), oci + "layer.v1.tar+gzip")]}
    top = blob(json.dumps(manifest).encode(), oci + "manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    with tarfile.open(path, "w") as tar:
        for name, data in sorted(blobs.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def load(c, name, entries):
    path = "%s/%s.tar" % (c.dir, name)
    archive(path, entries)
    c.tool("load", c.dir, name, path, timeout=120)
    return "docker.io/vireo/%s:latest" % name


def disk(image, **more):
    return {"name": "root", "containerDisk": {"image": image, "imagePullPolicy": "IfNotPresent", **more}}


def once(name, **over):
    """A machine that is started once: its instance and pod stay as they ended."""
    vm = machine(name, **over)
    vm["spec"]["runStrategy"] = "Once"
    return vm, vm["spec"]["template"]["spec"]


def helpers(c, pod):
    """{container's name: process} of the containers of images in a pod."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open("/proc/%s/cmdline" % pid, encoding="utf-8", errors="replace") as f:
                argv = f.read().split("\0")
            with open("/proc/%s/cgroup" % pid, encoding="utf-8") as f:
                if argv[0].endswith("container-disk") and argv[1:2] == ["serve"] and pod["metadata"]["uid"] in f.read():
                    found[argv[2]] = int(pid)
    return found


def says(c, name, what, seconds=60):
    def told():
        conditions = ((c.maybe("vmi", name) or {}).get("status") or {}).get("conditions") or []
        return [x for x in conditions if x["type"] == "Synchronized" and x["status"] == "False" and what in x.get("message", "")]
    until(seconds, "the VMI says: " + what, told, 0.5, lambda: c.say(name))


@case
def a_container_disk_boots_in_a_pod_of_the_kubelet(c):
    c.tool("load", c.dir, "tiny", c.guest + "/tiny.tar", timeout=120)
    c.apply(machine("disk", root=disk(TINY)))
    c.running("disk")
    until(300, "the guest's login prompt in the pod's log", lambda: "Vireo tiny guest disk" in c.log_of("disk"), 1, lambda: c.say("disk"))
    pod = c.pod_of("disk")
    check([x["name"] for x in pod["spec"]["containers"]] == ["compute", "volumeroot"], "upstream's names", pod["spec"]["containers"])
    check([x["name"] for x in pod["spec"]["initContainers"]] == ["container-disk-binary"], "and of the first", pod["spec"]["initContainers"])
    check(all(s["ready"] for s in pod["status"]["containerStatuses"]), "all are ready", pod["status"])
    check(pod["status"]["qosClass"] == "Burstable", "the class of service is the machine's", pod["status"]["qosClass"])


@case
def the_container_of_an_image_has_no_rights_and_next_to_no_memory(c):
    found = helpers(c, c.pod_of("disk"))
    check(list(found) == ["root"], "one such process", found)
    with open("/proc/%d/status" % found["root"], encoding="utf-8") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    check(status["Uid"].split()[0] == "107" and int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1",
          "user 107, no capability, no new privileges", status)
    with open("/proc/%d/smaps_rollup" % found["root"], encoding="utf-8") as f:
        pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    with open("/proc/%d/cgroup" % found["root"], encoding="utf-8") as f:
        groups = dict((line.rstrip("\n").split(":", 2)[1], line.rstrip("\n").split(":", 2)[2]) for line in f)
    group = "/sys/fs/cgroup" + ("/memory" + groups["memory"] if "memory" in groups else groups.get("", ""))
    charged = 0
    for name in ("memory.usage_in_bytes", "memory.current"):
        with contextlib.suppress(OSError):
            with open("%s/%s" % (group, name), encoding="utf-8") as f:
                charged = int(f.read()) // 1024
    print("     the container of an image: %d KiB Pss, its cgroup holds %d KiB" % (pss, charged), flush=True)
    check(pss < 128, "less than 128 KiB", pss)


@case
def a_machine_that_is_halted_takes_the_containers_of_its_images_along(c):
    pod = c.pod_of("disk")
    c.kubectl("patch", "vm", "disk", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}')
    until(90, "the pod is gone, and all in it", lambda: not c.pod_of("disk") and not helpers(c, pod) and "disk" not in c.qemus(), 0.5,
          lambda: c.say("disk"))
    c.kubectl("delete", "vm", "disk")


@case
def kernel_and_initrd_come_out_of_an_image(c):
    vm, spec = once("kernel", root={"name": "root", "emptyDisk": {"capacity": "32Mi"}})
    spec["domain"]["firmware"] = {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet no_timer_check", "container": {
        "image": TINY, "imagePullPolicy": "IfNotPresent", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"}}}
    c.apply(vm)
    c.running("kernel")
    until(300, "the guest's login prompt in the pod's log", lambda: "Vireo tiny guest kernel" in c.log_of("kernel"), 1, lambda: c.say("kernel"))
    check(c.pod_of("kernel")["spec"]["containers"][1]["name"] == "volumekernel-boot-volume", "upstream's name", c.pod_of("kernel")["spec"])


@case
def a_launcher_that_is_killed_ends_its_pod_as_a_whole(c):
    pod = c.pod_of("kernel")
    with open("/proc/%d/stat" % c.qemus()["kernel"], encoding="utf-8") as f:
        launcher = int(f.read().rsplit(")", 1)[1].split()[1])
    os.kill(launcher, signal.SIGKILL)
    until(60, "the pod has failed", lambda: (c.pod_of("kernel") or {"status": {}})["status"].get("phase") == "Failed", 0.5, lambda: c.say("kernel"))
    check(not helpers(c, pod) and "kernel" not in c.qemus(), "and nothing of it runs")
    ends = {s["name"]: s["state"]["terminated"]["exitCode"] for s in c.pod_of("kernel")["status"]["containerStatuses"]}
    check(ends["volumekernel-boot-volume"] == 0 and ends["compute"] != 0, "the verdict is the launcher's", ends)
    c.kubectl("delete", "vm", "kernel", timeout=90)


@case
def an_image_that_holds_no_disk_is_told_as_on_one_machine(c):
    bad = {
        "nodisk": ([("boot", None)], "the image has no folder /disk"),
        "twodisks": ([("disk", None), ("disk/a", b"a"), ("disk/b", b"b")], "the image's folder /disk has more than one file"),
        "folderdisk": ([("disk", None), ("disk/a", None)], "disk/a is not a regular file"),
        "linkdisk": ([("disk", None), ("disk/a", "/proc/1/environ")], "Too many levels of symbolic links"),
        "fifodisk": ([("disk", None), ("disk/a", "|")], "disk/a is not a regular file"),
        # A qcow2 image whose head names a backing file.
        "chaindisk": ([("disk", None), ("disk/a", b"QFI\xfb\0\0\0\3" + b"\0\0\0\0\0\0\0\x68\0\0\0\x0b\0\0\0\x10" + b"\0\0\0\0\0\x10\0\0" + bytes(68) + b"\0\0\0\x68"
                        + b"/etc/passwd" + bytes(4000))], "backing"),
    }
    for name, (entries, _) in bad.items():
        c.apply(once(name, root=disk(load(c, name, entries)))[0])
    for name, (_, text) in bad.items():
        says(c, name, text, 120)
    c.apply(once("procdisk", root=disk(TINY, path="/proc/version"))[0])
    says(c, "procdisk", "cross-device", 120)
    c.kubectl("delete", "vm", *bad, "procdisk", timeout=120)


@case
def an_image_that_cannot_be_had_is_told_as_the_kubelet_tells_it(c):
    c.apply(machine("nowhere", root=disk("registry.invalid/disk:1")))
    until(120, "the VM says so", lambda: (c.get("vm", "nowhere").get("status") or {}).get("printableStatus") in ("ErrImagePull", "ImagePullBackOff"),
          0.5, lambda: c.say("nowhere"))
    begun = time.monotonic()
    c.kubectl("delete", "vm", "nowhere", timeout=60)
    until(30, "it goes at once", lambda: not c.pod_of("nowhere"), 0.5, lambda: c.say("nowhere"))
    check(time.monotonic() - begun < 25, "before its grace period is over", time.monotonic() - begun)


@case
def a_machine_that_is_deleted_while_its_pod_starts_leaves_nothing(c):
    c.apply(once("early", root=disk(TINY))[0])
    until(60, "its pod is there", lambda: c.pod_of("early"), 0.2)
    c.kubectl("delete", "vm", "early", timeout=120)
    until(30, "it goes", lambda: not c.pod_of("early") and "early" not in c.qemus(), 0.5, lambda: c.say("early"))


LOOK = """#!/bin/sh
for d in /dev/vd?; do
    l=$(dd if=$d bs=1 skip=32808 count=16 2>/dev/null | tr -d ' ')
    case $l in cfgdata | config-2) ;; *) continue ;; esac
    mkdir -p /mnt/x
    mount -t iso9660 -o ro $d /mnt/x || continue
    find /mnt/x -type f | while read -r f; do echo "FILE $l ${f#/mnt/x/}: $(head -c 40 "$f" | tr '\\n' ' ')"; done
    umount /mnt/x
done >/dev/ttyS0
echo scribble | dd of=/dev/vda bs=512 conv=notrunc 2>/dev/null
sync
echo "DISKS $(cat /sys/block/vde/size)" >/dev/ttyS0
"""


@case
def volumes_of_other_kinds_reach_the_guest(c):
    c.volume("base")
    c.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"}, "data": {"colour": "green"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"}, "stringData": {"word": "open sesame"}})
    vm, spec = once("kinds", root={"name": "root", "ephemeral": {"persistentVolumeClaim": {"claimName": "base"}}})
    more = [{"name": "map", "configMap": {"name": "settings"}}, {"name": "secret", "secret": {"secretName": "login"}},
            {"name": "empty", "emptyDisk": {"capacity": "48Mi"}},
            {"name": "drive", "cloudInitConfigDrive": {"userData": "#cloud-config\nhostname: driven\n"}}]
    spec["volumes"] = [spec["volumes"][0], {"name": "seed", "cloudInitNoCloud": {"userData": LOOK}}, *more]
    spec["domain"]["devices"]["disks"] = [{"name": v["name"], "disk": {"bus": "virtio"}} for v in spec["volumes"]]
    with open("%s/pv/base/disk.img" % c.dir, "rb") as f:
        before = hashlib.sha256(f.read()).hexdigest()
    c.apply(vm)
    c.running("kinds")
    until(300, "the guest has looked", lambda: "DISKS " in c.log_of("kinds"), 1, lambda: c.say("kinds"))
    log = c.log_of("kinds")
    for line in ("FILE cfgdata colour: green", "FILE cfgdata word: open sesame", "FILE config-2 openstack/latest/user_data: #cloud-config"):
        check(line in log, line, log)
    check("openstack/latest/meta_data.json" in log, "the drive has data of the machine", log)
    check("DISKS 98304" in log, "48 MiB are empty", log)
    with open("%s/pv/base/disk.img" % c.dir, "rb") as f:
        check(hashlib.sha256(f.read()).hexdigest() == before, "what the guest wrote is not in the claim of an ephemeral disk")
    c.kubectl("delete", "vm", "kinds", timeout=90)


def lost(sent, got, path=""):
    """What of `sent` is not in `got`."""
    if isinstance(sent, dict):
        for k, v in sent.items():
            if not isinstance(got, dict) or k not in got:
                yield "%s.%s" % (path, k)
            else:
                yield from lost(v, got[k], "%s.%s" % (path, k))
    elif isinstance(sent, list):
        for i, v in enumerate(sent):
            if not isinstance(got, list) or i >= len(got):
                yield "%s[%d]" % (path, i)
            else:
                yield from lost(v, got[i], "%s[%d]" % (path, i))
    elif sent != got and not (isinstance(sent, str) and isinstance(got, str) and ("requests." in path or "limits." in path)):
        yield "%s: %r became %r" % (path, sent, got)


@case
def nothing_of_a_launchers_pod_is_unknown_to_the_api_server(c):
    program = c.build + "/api-kv_pod_schema-test"
    if not os.path.exists(c.build + "/build.ninja"):
        raise Skip("%s is no directory of a build" % c.build)
    subprocess.run(["ninja", "-C", c.build, "--quiet", "api-kv_pod_schema-test"], check=True, capture_output=True, timeout=300)
    pods = json.loads(output([program, "--print"]))["items"]
    without = [p for p in pods if not any("image" in v for v in p["spec"]["volumes"])]
    check(len(without) > 80, "many pods", len(without))
    for p in without:
        p["metadata"].pop("ownerReferences") # of VMIs that there are not
        p["spec"].pop("priorityClassName", None)
    text = c.kubectl("create", "--dry-run=server", "--validate=false", "-o", "json", "-f", "-", timeout=120,
                     stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": without})).strip()
    back = []
    while text: # one document after the other
        pod, end = json.JSONDecoder().raw_decode(text)
        back.append(pod)
        text = text[end:].lstrip()
    check(len(back) == len(without), "all were taken", len(back))
    away = sorted({w for sent, got in zip(without, back) for w in lost(sent["spec"], got["spec"], "spec")})
    check(not away, "nothing is lost", away[:20])
