"""The cluster as the back end of the cases that test/e2e runs against `vireo serve` (test/e2e/cases.py says which)."""
import base64
import ctypes
import os
import shutil
import tempfile

from cases import Images
from harness import Client, Failure, Skip

CLONE_NEWNET = 0x40000000


def enter_network(name):
    """This process and all that it starts from now on are in the cluster's network, with its pods and Services."""
    with open("/run/netns/" + name, encoding="ascii") as f:
        if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns " + name)


class Config:
    def __init__(self, cluster):
        self.build, self.guest, self.logs, self.tools = cluster.build, cluster.guest, cluster.logs, cluster.build + "/tools"
        self.keep = False
        self.home = tempfile.mkdtemp(prefix="vireo-cluster-home-")

    def kubectl(self, version):
        new, old = self.tools + "/kubectl-1.35", self.tools + "/kubectl-1.20"
        if version == "new!" and not os.path.exists(new):
            raise Skip("no kubectl 1.35: npm could not bring it")
        return new if version.startswith("new") and os.path.exists(new) else old

    def virtctl(self):
        return self.build + "/virtctl"


class ClusterServer(Client):
    policy, cidr, listen = "policy/v1beta1", "10.244.0.0/16", "127.0.0.1:6443"

    def __init__(self, cluster):
        self.cluster, self.config, self.dir, self.name = cluster, Config(cluster), cluster.dir, cluster.name
        self.kubeconfig = cluster.dir + "/whole.kubeconfig"
        pki = cluster.dir + "/pki/"

        def data(name):
            with open(pki + name, "rb") as f:
                return base64.b64encode(f.read()).decode()
        with open(self.kubeconfig, "w", encoding="utf-8") as f:
            f.write("""apiVersion: v1
kind: Config
clusters:
- name: c
  cluster:
    server: https://%s
    certificate-authority-data: %s
users:
- name: admin
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts: [{name: c, context: {cluster: c, user: admin}}]
current-context: c
""" % (self.listen, data("ca.crt"), data("admin.crt"), data("admin.key")))

    def log_tail(self, lines=15):
        return self.cluster.role_logs(lines)

    def claim(self, name, megabytes):
        """A PersistentVolume on this machine, one directory for both nodes, with an empty disk.img; and the claim."""
        path = "%s/pv/%s" % (self.dir, name)
        os.makedirs(path, exist_ok=True)
        with open(path + "/disk.img", "ab") as f:
            f.truncate(megabytes << 20)
        for p in (path, path + "/disk.img"):
            os.chown(p, 107, 107)
        common, size = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}, "%dMi" % megabytes
        return [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                 "spec": {**common, "capacity": {"storage": size}, "hostPath": {"path": path}, "claimRef": {"namespace": "default", "name": name}}},
                {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
                 "spec": {**common, "volumeName": name, "resources": {"requests": {"storage": size}}}}]

    def volume(self, claim):
        return "%s/pv/%s" % (self.dir, claim["spec"]["volumeName"])


class Context:
    """What cases of test/e2e are given: the one cluster, which is there already."""

    def __init__(self, cluster):
        Images.tiny = "docker.io/vireo/tiny:1" # a case may make its manifest before it asks for the server
        self.cluster, self.marks, self._server, self.why = cluster, {}, None, None

    @property
    def config(self):
        return self.server.config

    @property
    def server(self):
        if self.why is None:
            self.why = lacking(self.cluster)
        if self.why:
            raise Skip(self.why)
        if self._server is None:
            self.cluster.tool("load", self.cluster.dir, "tiny", self.cluster.guest + "/tiny.tar", timeout=120)
            self._server = ClusterServer(self.cluster)
        return self._server

    def close(self):
        if self._server:
            shutil.rmtree(self.config.home, ignore_errors=True)

    def own_server(self, name, **more):
        raise Failure("there is one cluster for all: this case is for one machine, and should say so")


def lacking(cluster):
    """Why the cases cannot be run; empty: they can."""
    services = cluster.maybe("apiservices", "v1.subresources.kubevirt.io")
    if not services:
        return "virt-api is not installed on this cluster: its APIService is not there"
    conditions = {c["type"]: c for c in services["status"].get("conditions", [])}
    if conditions.get("Available", {}).get("status") != "True":
        raise Failure("virt-api does not answer: %s" % conditions)
    return ""
