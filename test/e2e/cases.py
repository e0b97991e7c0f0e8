"""How a test is written down: a function with @case above it; its name is the promise it holds.

There is one list of cases for two back ends: one machine (`vireo serve`; test/e2e/run) and a Kubernetes cluster (test/cluster/run). What
is not run on the cluster says why: `@case(machine=REASON)`, or `collector(machine=REASON)` for a whole file, of which
`@case(machine="")` takes a case out again. `test/e2e/run --list` shows both. In a case nothing may be asked of the server that
harness.Client does not have, unless the case is for one machine."""
import importlib
from collections import namedtuple

Case = namedtuple("Case", "title fn machine")  # machine: why it runs on one machine only; empty: on both

# In the order in which they run.
FILES = ("kubectl", "lifecycle", "guest", "hypervisors", "nodes", "faults", "backup", "input", "clients", "proof", "scale", "demo")

EMBEDDED = "it tests the embedded API server or node, of which a cluster has its own"
TIME = "what it tests is the same code on both, and the cluster's part of the tests is to be short"


def collector(machine=""):
    found = []

    def case(fn=None, each=(), machine=machine):
        def add(f):
            name = f.__name__.replace("_", " ")
            for value in each:
                found.append(Case("%s [%s]" % (name, value), lambda t, value=value: f(t, value), machine))
            if not each:
                found.append(Case(name, f, machine))
            return f
        return add(fn) if fn else add
    return case, found


def load():
    """All cases, of both back ends."""
    return [c for name in FILES for c in importlib.import_module("cases_" + name).CASES]


class Images:
    """Where the tiny guest's image is: its file on one machine; what its containerd has got on a cluster."""
    tiny = "oci:tiny"


def null_vm(name, ns=None, strategy="Always", memory="32Mi", **more):
    """Firmware that finds nothing to boot: runs at once, costs next to nothing."""
    spec = {"terminationGracePeriodSeconds": 0, "domain": {"memory": {"guest": memory}, "devices": {}}}
    spec.update(more)
    meta = {"name": name}
    if ns:
        meta["namespace"] = ns
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": meta,
            "spec": {"runStrategy": strategy, "template": {"metadata": {"labels": {"e2e": name}}, "spec": spec}}}


def linux_vm(name, strategy="Always", user_data=None, volumes=(), ports=(), image=None):
    """The tiny guest by kernelBoot, on the pod network, with NoCloud data. volumes: (name, source) pairs."""
    disks, sources = [], []
    if user_data:
        disks.append({"name": "seed", "disk": {"bus": "virtio"}})
        sources.append({"name": "seed", "cloudInitNoCloud": {"userData": user_data}})
    for volume, source in volumes:
        disks.append({"name": volume, "serial": volume, "disk": {"bus": "virtio"}})
        sources.append({"name": volume, **source})
    nic = {"name": "default", "masquerade": {}}
    if ports:
        nic["ports"] = [{"name": "p%d" % p, "port": p} for p in ports]
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
            "spec": {"runStrategy": strategy, "template": {"metadata": {"labels": {"e2e": name}}, "spec": {
                "terminationGracePeriodSeconds": 20,
                "domain": {"memory": {"guest": "192Mi"},
                           "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet no_timer_check", "container": {
                               "image": image or Images.tiny, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"}}},
                           "devices": {"rng": {}, "disks": disks, "interfaces": [nic]}},
                "networks": [{"name": "default", "pod": {}}],
                "volumes": sources}}}}
