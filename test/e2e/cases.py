"""How a test is written down: a function with @case above it; its name is the promise it holds."""
from collections import namedtuple

Case = namedtuple("Case", "title fn")


def collector():
    found = []

    def case(fn=None, **over):
        def add(f):
            if "each" in over:
                for value in over["each"]:
                    found.append(Case("%s [%s]" % (f.__name__.replace("_", " "), value), lambda t, value=value: f(t, value)))
            else:
                found.append(Case(f.__name__.replace("_", " "), f))
            return f
        return add(fn) if fn else add
    return case, found


def null_vm(name, ns=None, strategy="Always", memory="32Mi", **more):
    """Firmware that finds nothing to boot: runs at once, costs next to nothing."""
    spec = {"terminationGracePeriodSeconds": 0, "domain": {"memory": {"guest": memory}, "devices": {}}}
    spec.update(more)
    meta = {"name": name}
    if ns:
        meta["namespace"] = ns
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": meta,
            "spec": {"runStrategy": strategy, "template": {"metadata": {"labels": {"e2e": name}}, "spec": spec}}}


def linux_vm(name, strategy="Always", user_data=None, volumes=(), ports=(), image="oci:tiny"):
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
                               "image": image, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"}}},
                           "devices": {"rng": {}, "disks": disks, "interfaces": [nic]}},
                "networks": [{"name": "default", "pod": {}}],
                "volumes": sources}}}}
