"""A Kubernetes for tests (test/cluster/up), what its cases share: kubectl, our roles, volumes, processes of guests."""
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

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
        self.outside = options.roles == "outside"
        self.webhooks = not self.outside # which know our accounts
        self.dir = options.use
        if not self.dir:
            self.dir = tempfile.mkdtemp(prefix="vireo-cluster-", dir="/var/tmp")
            os.rmdir(self.dir)
        self.roles, self.away = {}, set()
        self.name = self.tool("name", self.dir).strip()

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
        return json.loads(self.kubectl("get", *args, *([] if "--raw" in args else ["-o", "json"])))

    def maybe(self, *args):
        with contextlib.suppress(Failure):
            return self.get(*args)
        return None

    def up(self):
        names, failed = ["launcher"] + ([] if self.outside else ["vireo"]), []

        def images():
            for name in names:
                try:
                    print(self.tool("image", name, "%s/%s.tar" % (self.logs, name), self.build, timeout=600).strip(), flush=True)
                except Failure as e:
                    failed.append(e)
        beside = threading.Thread(target=images)
        beside.start()
        try:
            self.tool("up", "--nodes", str(len(NODES)), self.dir, timeout=800)
        finally:
            beside.join()
        if failed:
            raise failed[0]
        for name in names:
            self.tool("load", self.dir, name, "%s/%s.tar" % (self.logs, name), timeout=240)
            os.unlink("%s/%s.tar" % (self.logs, name))
        if self.outside:
            self.run_beside()
        else:
            self.install()

    def install(self):
        """As users do. Guests are emulated: on machines for tests KVM is not to be trusted."""
        argv = ["apply", "-f", ROOT + "/deploy/vireo-operator.yaml", "-f", ROOT + "/deploy/vireo-cr.yaml"]

        def applied():
            with contextlib.suppress(Failure):
                return self.kubectl(*argv)
            return None
        if not applied(): # the second file's kind is in the first
            until(60, "kubectl apply of the operator and its object", applied, 1)
        until(60, "the KubeVirt object is there", lambda: self.maybe("kubevirt", "kubevirt", "-n", "kubevirt"), 0.5, self.role_logs)
        self.kubectl("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p",
                     json.dumps({"spec": {"configuration": {"developerConfiguration": {"useEmulation": True}}}}))
        until(180, "the KubeVirt object says Deployed", self.deployed, 1, self.role_logs)
        until(60, "virt-api answers", lambda: self.maybe("--raw", "/apis/subresources.kubevirt.io/v1"), 0.5, self.role_logs)

    def deployed(self):
        status = (self.maybe("kubevirt", "kubevirt", "-n", "kubevirt") or {}).get("status") or {}
        available = [c for c in status.get("conditions", []) if c["type"] == "Available" and c["status"] == "True"]
        return status.get("phase") == "Deployed" and available

    def run_beside(self):
        """Controller and node agents as processes beside the cluster, without the operator: the quick way, without virt-api."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=output([self.build + "/vireo", "crds"]))
        until(30, "the kinds are served", lambda: self.maybe("kubevirts,vms,vmis", "-A"))
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubevirt"}})
        self.apply({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
                    "spec": {"configuration": {"developerConfiguration": {"useEmulation": True}}}})
        self.start("controller")
        for node in NODES:
            self.start("handler", node=node)

    def start(self, role, name=None, node=NODE):
        """One of our roles beside the cluster, on a node as if it were in a privileged pod there. What runs in pods the kubelet starts."""
        if not self.outside:
            if role in self.away:
                self.away.remove(role)
                self.scale("virt-" + role, 2)
                self.scale("virt-operator", 2)
            until(120, role + " is back", lambda: self.role_pids(role, node if role == "handler" else None), 0.5, self.role_logs)
            return
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

    def role_pids(self, role, node=None):
        """Processes `vireo ROLE` in pods of the cluster, or of one node."""
        found, groups = [], {None: r"/%s(-\d+)?/", NODES[0]: "/%s/"}.get(node, "/%%s-%s/" % (node or "")[4:]) % self.name
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/cmdline" % pid, encoding="utf-8", errors="replace") as f:
                    argv = f.read().split("\0")
                if not argv[0].endswith("/vireo") or argv[1:2] != [role]:
                    continue
                with open("/proc/%s/cgroup" % pid, encoding="utf-8") as f:
                    if re.search(groups, f.read()):
                        found.append(int(pid))
        return found

    def kill(self, role, node=NODE):
        """kill -9. A controller: all of them."""
        if self.outside:
            name = role if node == NODE else node + "-" + role
            self.roles[name].kill()
            self.roles[name].wait()
            return
        pids = self.role_pids(role, node if role == "handler" else None)
        if not pids:
            raise Failure("no process `vireo %s` runs in a pod" % role)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def controllers_kubeconfig(self, server):
        """Of what a controller beside the cluster is for the webhooks: their account, or nobody in particular where there are none."""
        if self.outside:
            return self.tool("kubeconfig", self.dir, "admin", server)
        secret = self.get("sa", "kubevirt-controller", "-n", "kubevirt")["secrets"][0]["name"]
        token = base64.b64decode(self.get("secret", secret, "-n", "kubevirt")["data"]["token"]).decode()
        return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                           "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": self.dir + "/pki/ca.crt"}}],
                           "users": [{"name": "u", "user": {"token": token}}]})

    def scale(self, deployment, replicas):
        self.kubectl("scale", "deployment", deployment, "-n", "kubevirt", "--replicas=%d" % replicas)
        if not replicas:
            until(60, "no pod of %s is left" % deployment,
                  lambda: not self.get("pods", "-n", "kubevirt", "-l", "kubevirt.io=" + deployment)["items"], 0.5, self.role_logs)

    def send_away(self, role):
        """Nobody of a Deployment works until start(role). The operator, who would bring them back, goes first."""
        if not self.outside and role not in self.away:
            self.scale("virt-operator", 0)
            self.scale("virt-" + role, 0)
            self.away.add(role)

    def role_logs(self, lines=25):
        """The last words of our roles."""
        if self.outside:
            text = []
            for name in self.roles:
                with open("%s/%s.log" % (self.dir, name), encoding="utf-8", errors="replace") as f:
                    text.append("%s:\n%s" % (name, "".join(f.readlines()[-lines:])))
            return "\n".join(text)
        text = []
        for argv in (["get", "kubevirt,pods,deployments,daemonsets", "-n", "kubevirt", "-o", "wide"], ["get", "events", "-n", "kubevirt"],
                     ["get", "kubevirt", "kubevirt", "-n", "kubevirt", "-o", "jsonpath={.status}"],
                     ["logs", "-n", "kubevirt", "-l", "kubevirt.io", "--tail=%d" % lines, "--prefix", "--ignore-errors"]):
            with contextlib.suppress(Failure):
                text.append(self.kubectl(*argv))
        return "\n".join(text)

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
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/cmdline" % pid, encoding="utf-8", errors="replace") as f:
                    argv = f.read().split("\0")
                if not argv[0].endswith("qemu-system-x86_64"):
                    continue
                with open("/proc/%s/cgroup" % pid, encoding="utf-8") as f:
                    guest = re.search(r"guest=default_([^,]+)", " ".join(argv)) # an agent that looks what its QEMU can has no guest
                    if guest and re.search(r"/%s(-\d+)?/" % self.name, f.read()):
                        found[guest.group(1)] = int(pid)
        return found

    def down(self):
        if not self.outside:
            with open(self.logs + "/roles.log", "w", encoding="utf-8") as f:
                f.write(self.role_logs(2000))
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
