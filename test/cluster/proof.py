"""The proof that a machine never runs twice, from both sides. In the guest: each boot writes its own record to a disk that every launcher
of the machine can open, once a second, and reads everybody else's; whoever sees another's record change has met a second writer and writes
that down. On the host: a thread that looks many times a second which QEMU processes a machine has, on both nodes together."""
import contextlib
import os
import re
import signal
import threading
import time

from cluster import NODES, machine
from harness import check, until

SECTORS = 2048
# Sector 0 is for who has met another; each boot's own sector comes from its random boot id.
GUEST = r"""#!/bin/sh
d=/dev/vdb
id=$(cat /proc/sys/kernel/random/boot_id)
n=$((0x$(echo "$id" | cut -c1-4) % 2040 + 1))
begin=$(date +%s)
seq=0
others() { dd if=$d bs=64k iflag=direct 2>/dev/null | tr -d '\0' | grep -v "$id"; }
last=$(others)
while :; do
    seq=$((seq + 1))
    printf '%-511s\n' "BOOT $id $begin $(date +%s) $seq" | dd of=$d bs=512 seek=$n oflag=direct conv=notrunc 2>/dev/null
    now=$(others)
    [ "$now" = "$last" ] || printf '%-511s\n' "SECOND $id $seq" | dd of=$d bs=512 oflag=direct conv=notrunc 2>/dev/null
    last=$now
    sleep 1
done
"""


def claims(c, name, claim=None):
    """A volume that both nodes see, a directory of this machine, and its claim. Nothing below us keeps two pods from opening it."""
    path = "%s/pv/%s" % (c.dir, name)
    os.makedirs(path, exist_ok=True)
    with open(path + "/disk.img", "ab") as f:
        f.truncate(SECTORS * 512)
    for p in (path, path + "/disk.img"):
        os.chown(p, 107, 107)
    claim = claim or name
    common, size = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}, "1Mi"
    return [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim},
             "spec": {**common, "capacity": {"storage": size}, "hostPath": {"path": path}, "claimRef": {"namespace": "default", "name": claim}}},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim, "namespace": "default"},
             "spec": {**common, "volumeName": claim, "resources": {"requests": {"storage": size}}}}]


def plain(name, ledger, node=None, prefers=None):
    """Firmware that finds nothing to boot, with the disk: what is asked of it is only whether it runs."""
    o = machine(name, node=node or NODES[1])
    o["spec"]["runStrategy"] = "Always"
    spec = o["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 0
    spec["domain"]["memory"]["guest"] = "32Mi"
    spec["volumes"] = [{"name": "ledger", "persistentVolumeClaim": {"claimName": ledger}}]
    spec["domain"]["devices"]["disks"] = [{"name": "ledger", "disk": {"bus": "virtio"}}]
    if not node:
        del spec["nodeSelector"]
    if prefers:
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [prefers]}]}}]}}
    return o


def writer(name, ledger, prefers=NODES[1]):
    """The guest that writes who it is."""
    o = plain(name, ledger, prefers=prefers)
    spec = o["spec"]["template"]["spec"]
    spec["domain"]["memory"]["guest"] = "128Mi"
    spec["volumes"] = [{"name": "root", "persistentVolumeClaim": {"claimName": name + "-root"}}, spec["volumes"][0],
                       {"name": "seed", "cloudInitNoCloud": {"userData": GUEST}}]
    spec["domain"]["devices"]["disks"] = [{"name": n, "disk": {"bus": "virtio"}} for n in ("root", "ledger", "seed")]
    return o


def records(c, ledger):
    """([(boot id, begin, last, seq)], [who met another]) on the disk, oldest first."""
    boots, met = [], []
    with open("%s/pv/%s/disk.img" % (c.dir, ledger), "rb") as f:
        for line in f.read().replace(b"\0", b"").decode("ascii", "replace").splitlines():
            words = line.split()
            if words[:1] == ["BOOT"] and len(words) == 5:
                boots.append((words[1], *map(int, words[2:])))
            elif words[:1] == ["SECOND"]:
                met.append(line.strip())
    return sorted(boots, key=lambda b: b[1]), met


def writes_on(c, ledger, seconds=300, explain=None):
    """Waits until the newest boot writes, and has written more than once since we came."""
    before = {b[0]: b[3] for b in records(c, ledger)[0]}
    until(seconds, "a guest writes", lambda: any(b[3] > before.get(b[0], 1) for b in records(c, ledger)[0]), 0.5, explain)


def never_two(c, ledger):
    boots, met = records(c, ledger)
    check(not met, "no guest has met another on its disk", (met, boots))
    for a, b in zip(boots, boots[1:]):
        check(a[2] <= b[1] + 1, "one boot's last word is before the next one's first", boots)
    return boots


class Observer:
    """Which QEMU processes there are of each machine, in both nodes' cgroups, looked at up to twenty times a second (less where the host is busy)."""

    def __init__(self, c):
        self.cgroup = re.compile(r"/%s(-\d+)?/" % c.name)
        self.known, self.now, self.twice, self.looks, self.ever = {}, {}, [], 0, {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def identify(self, pid):
        """The machine that a process is QEMU of; None: not one of the cluster's."""
        with open("/proc/%s/cmdline" % pid, encoding="utf-8", errors="replace") as f:
            argv = f.read()
        if not argv.split("\0", 1)[0].endswith("qemu-system-x86_64"):
            return None
        with open("/proc/%s/cgroup" % pid, encoding="utf-8") as f:
            if not self.cgroup.search(f.read()):
                return None
        found = re.search(r"guest=default_([^,\0]+)", argv)
        return found and found.group(1)

    def look(self):
        now = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                # A process that is being replaced by exec keeps its number, and one that is over has no memory: asked each time, cheaply.
                with open("/proc/%s/stat" % pid, encoding="utf-8", errors="replace") as f:
                    stat = f.read()
                name, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
                if not name.startswith("qemu-system") or rest[0] in "ZX":
                    continue
                key = (pid, rest[19])
                if key not in self.known:
                    self.known[key] = self.identify(pid)
                if self.known[key]:
                    now.setdefault(self.known[key], []).append(int(pid))
        for vm, pids in now.items():
            self.ever.setdefault(vm, set()).update(pids)
            if len(pids) > 1:
                self.twice.append((round(time.monotonic(), 2), vm, pids))
        self.now, self.looks = now, self.looks + 1

    def run(self):
        while not self.over.wait(0.05):
            self.look()

    def pid(self, vm):
        pids = self.now.get(vm, [])
        return pids[0] if len(pids) == 1 else None

    def __enter__(self):
        self.look()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def check(self):
        check(not self.twice, "never two processes of one machine", self.twice[:10])
        check(self.looks > 1, "it was looked at", self.looks)


def part_pid(c, part, node):
    with open("%s/run/%s.pid" % (c.dir, part if node == NODES[0] else node + "-" + part), encoding="ascii") as f:
        return int(f.read())


@contextlib.contextmanager
def frozen(c, node=NODES[1]):
    """The node as others see it when it hangs or is cut off: kubelet, containerd and the node agent stand still; guests run on."""
    pids = [part_pid(c, "kubelet", node), part_pid(c, "containerd", node), *c.role_pids("handler", node)]
    check(len(pids) == 3, "kubelet, containerd and node agent", pids)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
