"""A Kubernetes for tests (test/cluster/up), what its cases share: kubectl, our roles, volumes, processes of guests."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "test", "e2e"))
from harness import Failure, until  # noqa: E402

NODES = ["node1", "node2"]
NODE, IMAGE = NODES[0], "docker.io/vireo/launcher:latest"


def output(argv, timeout=60, stdin=None):
    p = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    if p.returncode:
        raise Failure("%s ended with %d" % (" ".join(argv[:8]), p.returncode) + "\n" + (p.stdout + p.stderr)[-2000:])
    return p.stdout


class Cluster:
    def __init__(self, options):
        self.build, self.guest, self.logs = (os.path.abspath(d) for d in (options.build, options.guest, options.logs))
        self.dir = tempfile.mkdtemp(prefix="vireo-cluster-", dir="/var/tmp")
        os.rmdir(self.dir)
        self.roles = {}

    def tool(self, name, *args, timeout=60):
        return output([os.path.join(HERE, name), *args], timeout)

    def inside(self, *argv, timeout=60, stdin=None):
        return output([os.path.join(HERE, "in"), self.dir, *argv], timeout, stdin)

    def on(self, node, *argv, timeout=60, stdin=None):
        return output([os.path.join(HERE, "on"), self.dir, node, *argv], timeout, stdin)

    def stop_part(self, part, node=NODE, kill=False):
        """Ends a process of the cluster itself: apiserver, kubelet, containerd …"""
        self.tool("stop", self.dir, part if node == NODE else node + "-" + part, *(["kill"] if kill else []))

    def start_part(self, part, node=NODE):
        self.tool("start", self.dir, part if node == NODE else node + "-" + part)

    def kubectl(self, *args, timeout=60, stdin=None):
        return self.inside("kubectl", *args, timeout=timeout, stdin=stdin)

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def maybe(self, *args):
        with contextlib.suppress(Failure):
            return self.get(*args)
        return None

    def up(self):
        self.tool("up", "--nodes", str(len(NODES)), self.dir, timeout=800)
        image = os.path.join(self.logs, "launcher.tar")
        print(self.tool("image", "launcher", image, self.build, timeout=300).strip(), flush=True)
        self.tool("load", self.dir, "launcher", image, timeout=120)
        os.unlink(image)
        self.kubectl("apply", "--server-side", "-f", "-", stdin=output([self.build + "/vireo", "crds"]))
        until(30, "the kinds are served", lambda: self.maybe("kubevirts,vms,vmis", "-A"))
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubevirt"}})
        self.apply({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
                    "spec": {"configuration": {"developerConfiguration": {"useEmulation": True}}}})
        self.start("controller")
        for node in NODES:
            self.start("handler", node=node)

    def start(self, role, name=None, node=NODE):
        """One of our roles beside the cluster, on a node as if it were in a privileged pod there."""
        name = name or (role if node == NODE else node + "-" + role)
        args = {"controller": ["--launcher-image", IMAGE], "handler": ["--node-name", node]}[role]
        kubeconfig = self.dir + "/admin.kubeconfig"
        if node != NODE:
            kubeconfig = "%s/%s/admin.kubeconfig" % (self.dir, node)
            with open(kubeconfig, "w", encoding="utf-8") as f:
                f.write(self.tool("kubeconfig", self.dir, "admin", "https://10.244.0.1:6443"))
        with open("%s/%s.log" % (self.dir, name), "a", encoding="utf-8") as log:
            p = subprocess.Popen([HERE + "/on", self.dir, node, self.build + "/vireo", role, "--kubeconfig", kubeconfig, *args],
                                 stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self.roles[name] = p
        with open("%s/run/%s.pid" % (self.dir, name), "w", encoding="utf-8") as f:
            f.write(str(p.pid))

    def kill(self, role):
        self.roles[role].kill()
        self.roles[role].wait()

    def volume(self, name):
        """A PersistentVolume on this machine with the guest's disk, and a claim on it."""
        path = "%s/pv/%s" % (self.dir, name)
        os.makedirs(path)
        shutil.copy(self.guest + "/parts/disk.raw", path + "/disk.img")
        for p in (path, path + "/disk.img"):
            os.chown(p, 107, 107)
        common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
        self.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                    "spec": {**common, "capacity": {"storage": "64Mi"}, "hostPath": {"path": path},
                             "claimRef": {"namespace": "default", "name": name}}},
                   {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
                    "spec": {**common, "volumeName": name, "resources": {"requests": {"storage": "64Mi"}}}})
        until(60, "the claim is bound", lambda: self.get("pvc", name)["status"].get("phase") == "Bound")

    def pod_of(self, vm):
        pods = self.get("pods", "-l", "vmi.kubevirt.io/id=" + vm)["items"]
        return pods[0] if len(pods) == 1 else None

    def log_of(self, vm):
        pod = self.pod_of(vm)
        with contextlib.suppress(Failure):
            return self.kubectl("logs", pod["metadata"]["name"], "-c", "compute") if pod else ""
        return ""

    def say(self, vm):
        return "\n".join([self.kubectl("get", "vm,vmi,pod", "-o", "wide"), json.dumps((self.maybe("vmi", vm) or {}).get("status")),
                          self.kubectl("get", "events"), self.log_of(vm)[-1500:]])

    def phase(self, vm):
        return ((self.maybe("vmi", vm) or {}).get("status") or {}).get("phase")

    def running(self, vm, seconds=240):
        until(seconds, vm + " is Running", lambda: self.phase(vm) == "Running", 0.5, lambda: self.say(vm))

    def qemus(self):
        """{VM: process} of what runs in this cluster's own cgroup."""
        found = {}
        name = os.path.basename(self.tool("name", self.dir).strip())
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/cmdline" % pid, encoding="utf-8", errors="replace") as f:
                    argv = f.read().split("\0")
                if not argv[0].endswith("qemu-system-x86_64"):
                    continue
                with open("/proc/%s/cgroup" % pid, encoding="utf-8") as f:
                    if re.search("/%s(-\\d+)?/" % name, f.read()):
                        found[re.search(r"guest=default_([^,]+)", " ".join(argv)).group(1)] = int(pid)
        return found

    def down(self):
        for p in self.roles.values():
            with contextlib.suppress(OSError):
                p.terminate()
                p.wait(10)
        for name in os.listdir(self.dir) if os.path.isdir(self.dir) else []:
            if name.endswith(".log"):
                shutil.copy(os.path.join(self.dir, name), self.logs)
        self.tool("down", self.dir, timeout=120)


def machine(name, binding="masquerade", node=NODE, **spec):
    """Complete: there is no webhook yet that would fill in what is left out."""
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name, "namespace": "default"},
            "spec": {"runStrategy": "RerunOnFailure", "template": {"spec": {
                "terminationGracePeriodSeconds": 20, "nodeSelector": {"kubernetes.io/hostname": node},
                "domain": {"cpu": {"cores": 1, "sockets": 1, "threads": 1}, "memory": {"guest": "192Mi"}, "machine": {"type": "q35"},
                           "devices": {"autoattachGraphicsDevice": False,
                                       "disks": [{"name": n, "disk": {"bus": "virtio"}} for n in ("root", "scratch", "seed")],
                                       "interfaces": [{"name": "default", "model": "virtio", binding: {}}]}},
                "networks": [{"name": "default", "pod": {}}],
                "volumes": [spec.get("root") or {"name": "root", "persistentVolumeClaim": {"claimName": name}},
                            {"name": "scratch", "emptyDisk": {"capacity": "32Mi"}},
                            {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\nhostname: %s\n" % name}}]}}}}
