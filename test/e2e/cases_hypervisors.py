"""Which hypervisor runs a machine: who chooses, what is recorded, and that the choice really runs."""
import copy
import json
import re

from cases import collector, linux_vm, null_vm
from cases_guest import disk, linux_disk_vm
from harness import Skip, check, until

case, CASES = collector(machine="of the hypervisors a cluster's node image has QEMU alone")

WISH, RECORD, AGAIN, LEFT = "vireo.io/hypervisor", "vireo.io/vmm", "vireo.io/hypervisor-decide", "vireo.io/left-out"


def wishing(vm, wish):
    vm["metadata"].setdefault("annotations", {})[WISH] = wish
    return vm


def annotation(o, name):
    return (o["metadata"].get("annotations") or {}).get(name)


def offered(t):
    """VMMs that the node has, when its agent has told which."""
    def told():
        for node in t.server.get("node", ns=None)["items"]:
            names = [m.group(1) for k, v in node["metadata"]["labels"].items()
                     if v == "true" and (m := re.fullmatch(r"vireo\.io/vmm-((?!.*-(?:version|level)$)[a-z-]+)", k))]
            if names:
                return names
        return None
    return until(60, "the node says which hypervisors it has", told)


def need(t, vmm):
    if vmm not in offered(t):
        raise Skip("this node has no %s" % vmm)


def known(t, vmm):
    p = t.server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(wishing(null_vm("x"), "no-such-thing")), ok=False)
    if '"%s"' % vmm not in p.text:
        raise Skip("this build has no driver for %s" % vmm)


def refused(t, o, *texts):
    p = t.server.kubectl("apply", "-f", "-", stdin=json.dumps(o), ok=False)
    check(p.returncode != 0, "it was taken", p.text)
    for text in texts:
        check(text in p.text, "the refusal does not say: " + text, p.text)


@case
def a_machine_without_a_wish_is_as_it_was(t):
    s = t.server
    s.apply(null_vm("plain", strategy="Halted"))
    vm = s.get("vm", "plain")
    check(annotation(vm, RECORD) is None and annotation(vm, WISH) is None, "something was recorded", vm["metadata"])
    check(vm["spec"]["template"]["spec"]["domain"]["machine"] == {"type": "q35"}, "another board", vm["spec"])
    s.subresource("vm", "plain", "start")
    s.wait_phase("plain")
    vmi = s.get("vmi", "plain")
    check(annotation(vmi, RECORD) is None and annotation(vmi, LEFT) is None, "the instance has a record", vmi["metadata"])
    check(vmi["status"]["machine"]["type"].startswith("pc-q35-"), "another board runs", vmi["status"]["machine"])
    s.delete("vm", "plain")


@case
def a_machine_on_qemu_microvm_boots_without_a_PCI_bus_and_says_what_it_lacks(t):
    s = t.server
    need(t, "qemu-microvm")
    s.apply(wishing(linux_vm("micro", user_data="#cloud-config\nhostname: micro\n"), "qemu-microvm"))
    s.wait_phase("micro")
    vmi = s.get("vmi", "micro")
    check(annotation(vmi, RECORD) == "qemu-microvm", "the record", vmi["metadata"])
    check("graphics (" in (annotation(vmi, LEFT) or ""), "what was left out is not said", vmi["metadata"])
    check("microvm" in vmi["status"]["machine"]["type"], "the machine's type", vmi["status"]["machine"])
    with s.console("micro") as c:
        c.login(120)
        check(c.run("ls /sys/bus/pci/devices 2>/dev/null | wc -l") == "0", "it has a PCI bus")
        check(c.run("hostname") == "micro", "cloud-init's disk was not read")
    s.delete("vm", "micro")


@case
def a_disk_image_boots_on_qemu_microvm_from_an_image_and_from_a_claim(t):
    s = t.server
    need(t, "qemu-microvm")
    vm = wishing(linux_disk_vm("quick", "oci:tiny"), "qemu-microvm")
    spec = vm["spec"]["template"]["spec"]
    spec["domain"]["devices"]["disks"] = [{"name": "root", "serial": "root", "disk": {}}, {"name": "data", "serial": "data", "disk": {}}]
    spec["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "quick"}})
    auto = wishing(linux_disk_vm("careful", "oci:tiny", strategy="Halted"), "auto")
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "quick"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "32Mi"}}}}
    s.apply(claim, vm, auto)
    check(annotation(s.get("vm", "careful"), RECORD) == "qemu", "auto counts on virtio-mmio in an image", s.get("vm", "careful")["metadata"])
    s.delete("vm", "careful")
    s.wait_phase("quick")
    check("microvm" in s.get("vmi", "quick")["status"]["machine"]["type"], "the machine's type", s.get("vmi", "quick")["status"]["machine"])
    with s.console("quick") as c:
        c.login(180)
        check(c.run("ls /sys/bus/pci/devices 2>/dev/null | wc -l") == "0", "it has a PCI bus")
        check((disk(c, "root"), disk(c, "data")) == ("/dev/vda", "/dev/vdb"), "disks are found in another order than the spec's",
              [disk(c, "root"), disk(c, "data")])
        # Without bootOrder the first disk boots, which is an overlay of a qcow2; its copy on the claim is raw.
        c.run("dd if=%s of=%s bs=1M && sync" % (disk(c, "root"), disk(c, "data")), 120)
    # The claim first: by the boot order, although the image comes first.
    vm = s.get("vm", "quick")
    spec = vm["spec"]["template"]["spec"]
    spec["domain"]["devices"]["disks"] = [{"name": "scratch", "serial": "scratch", "disk": {}}, {"name": "data", "bootOrder": 1, "disk": {}}]
    spec["volumes"] = [{"name": "scratch", "emptyDisk": {"capacity": "8Mi"}}, {"name": "data", "persistentVolumeClaim": {"claimName": "quick"}}]
    s.kubectl("replace", "-f", "-", stdin=json.dumps(vm))
    uid = s.get("vmi", "quick")["metadata"]["uid"]
    s.subresource("vm", "quick", "restart")
    s.wait_phase("quick", uid_not=uid)
    with s.console("quick") as c:
        c.login(180)
        size = c.run("cat /sys/block/%s/size" % disk(c, "scratch").rsplit("/")[-1])
        check(size == "16384", "the empty disk", size)
    s.delete("vm", "quick")
    s.delete("pvc", "quick")
    refused(t, wishing(null_vm("nothing"), "qemu-microvm"), "spec.template.spec.domain.firmware.kernelBoot", "there is nothing to boot")


@case
def auto_takes_the_lightest_that_is_there_and_does_all_that_is_written(t):
    s = t.server
    need(t, "qemu-microvm")
    s.apply(wishing(linux_vm("light", strategy="Halted"), "auto"))
    check(annotation(s.get("vm", "light"), RECORD) in ("qemu-microvm", "firecracker", "cloud-hypervisor"), "the record",
          s.get("vm", "light")["metadata"])
    heavy = wishing(linux_vm("heavy", strategy="Halted", volumes=[("d", {"emptyDisk": {"capacity": "8Mi"}})]), "auto")
    heavy["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["disk"]["bus"] = "sata"
    s.apply(heavy)
    check(annotation(s.get("vm", "heavy"), RECORD) == "qemu", "a SATA disk on", s.get("vm", "heavy")["metadata"])
    s.subresource("vm", "light", "start")
    s.wait_phase("light")
    s.delete("vm", "heavy")
    # An update that the record is in the way of says so, and how to go on.
    sata = s.get("vm", "light")
    spec = sata["spec"]["template"]["spec"]
    spec["domain"]["devices"]["disks"] = [{"name": "d", "disk": {"bus": "sata"}}]
    spec["volumes"] = [{"name": "d", "emptyDisk": {"capacity": "8Mi"}}]
    p = s.kubectl("replace", "-f", "-", stdin=json.dumps(sata), ok=False)
    check(p.returncode != 0 and "disks[0].disk.bus" in p.text and AGAIN in p.text, "the refusal", p.text)
    sata["metadata"]["annotations"][AGAIN] = "for the sake of SATA"
    s.kubectl("replace", "-f", "-", stdin=json.dumps(sata))
    check(annotation(s.get("vm", "light"), RECORD) == "qemu", "it was not decided again", s.get("vm", "light")["metadata"])

    def told():
        c = [c for c in s.get("vm", "light")["status"]["conditions"] if c["type"] == "RestartRequired" and c["status"] == "True"]
        return c and "then on qemu" in c[0]["message"]
    until(60, "RestartRequired names the hypervisors", told)
    check(annotation(s.get("vmi", "light"), RECORD) != "qemu", "the running instance changed its record")
    uid = s.get("vmi", "light")["metadata"]["uid"]
    s.subresource("vm", "light", "restart")
    s.wait_phase("light", uid_not=uid)
    check(s.get("vmi", "light")["status"]["machine"]["type"].startswith("pc-q35-"), "after the restart", s.get("vmi", "light")["status"])
    s.delete("vm", "light")


@case
def the_record_outlives_apply_replace_and_those_who_write_it(t):
    s, k = t.server, t.server.kubectl
    need(t, "qemu-microvm")
    manifest = wishing(linux_vm("kept", strategy="Halted"), "auto")
    text = json.dumps(manifest)
    k("apply", "-f", "-", stdin=text)
    record = annotation(s.get("vm", "kept"), RECORD)
    check(record not in (None, "qemu"), "the record", s.get("vm", "kept")["metadata"])
    more = copy.deepcopy(manifest)
    more["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "224Mi"
    for step in (["apply"], ["replace"], ["apply", "--server-side", "--force-conflicts"], ["apply"]):
        for body in (json.dumps(more), text):
            k(*step, "-f", "-", stdin=body)
            check(annotation(s.get("vm", "kept"), RECORD) == record, "after kubectl %s" % " ".join(step), s.get("vm", "kept")["metadata"])
    for change in (RECORD + "=qemu", RECORD + "-"):
        p = k("annotate", "--overwrite", "vm", "kept", change)
        check("stays" in p.text and record in p.text, "no warning of annotate " + change, p.text)
        check(annotation(s.get("vm", "kept"), RECORD) == record, "after annotate " + change)
    k("annotate", "--overwrite", "vm", "kept", WISH + "=qemu")
    vm = s.get("vm", "kept")
    check(annotation(vm, RECORD) == "qemu", "another wish", vm["metadata"])
    check(vm["spec"]["template"]["spec"]["domain"]["machine"]["type"] == "q35", "QEMU's board", vm["spec"])
    k("annotate", "--overwrite", "vm", "kept", WISH + "=auto")
    check(annotation(s.get("vm", "kept"), RECORD) == record, "what had been filled in for QEMU kept it there", s.get("vm", "kept"))
    s.delete("vm", "kept")


@case
def what_is_written_and_cannot_be_done_is_refused_by_its_path(t):
    s = t.server
    known(t, "qemu-microvm")
    vm = linux_vm("no", volumes=[("d", {"emptyDisk": {"capacity": "8Mi"}})])
    vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["disk"]["bus"] = "sata"
    path = "spec.template.spec.domain.devices.disks[0].disk.bus"
    refused(t, wishing(copy.deepcopy(vm), "qemu-microvm"), path, "not supported by QEMU microvm")
    refused(t, wishing(copy.deepcopy(vm), "qemo"), "metadata.annotations." + WISH, '"auto"', '"qemu"')
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "no"},
           "spec": vm["spec"]["template"]["spec"]}
    refused(t, wishing(vmi, "qemu-microvm"), "spec.domain.devices.disks[0].disk.bus")
    check(s.get("vm", "no") is None and s.get("vmi", "no") is None, "it is there all the same")


@case
def a_written_SATA_disk_is_refused_for_firecracker(t):
    known(t, "firecracker")
    vm = linux_vm("no", volumes=[("d", {"emptyDisk": {"capacity": "8Mi"}})])
    vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0] = {"name": "d", "disk": {"bus": "sata"}}
    refused(t, wishing(vm, "firecracker"), "spec.template.spec.domain.devices.disks[0].disk.bus", "not supported by Firecracker")


@case
def a_machine_whose_hypervisor_no_node_has_says_so(t):
    s = t.server
    known(t, "firecracker")
    if "firecracker" in offered(t):
        raise Skip("this node has it")
    s.apply(wishing(linux_vm("homeless"), "firecracker"))

    def told():
        vm = s.get("vm", "homeless")
        c = [c for c in vm.get("status", {}).get("conditions", []) if c["type"] == "PodScheduled" and c["status"] == "False"]
        return vm.get("status", {}).get("printableStatus") == "ErrorUnschedulable" and c and c[0]["message"]
    message = until(60, "it is unschedulable", told, explain=lambda: s.describe("vm", "homeless"))
    check("firecracker" in message.lower() or "node affinity/selector" in message, "the reason", message)
    s.delete("vm", "homeless")


@case
def a_vsock_needs_its_gate_and_for_QEMU_the_nodes_device(t):
    s, k = t.server, t.server.kubectl

    def gates(names):
        k("-n", "kubevirt", "patch", "kubevirt", "kubevirt", "--type=merge", "-p",
          json.dumps({"spec": {"configuration": {"developerConfiguration": {"featureGates": names}}}}))
    before = ((s.get("kubevirt", "kubevirt", ns="kubevirt")["spec"].get("configuration") or {}).get("developerConfiguration") or {}).get("featureGates")
    vm = null_vm("talker")
    vm["spec"]["template"]["spec"]["domain"].setdefault("devices", {})["autoattachVSOCK"] = True
    refused(t, vm, "spec.template.spec.domain.devices.autoattachVSOCK", "VSOCK feature gate is not enabled in kubevirt-config")
    path = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/talker/vsock"
    try:
        gates((before or []) + ["VSOCK"])
        s.apply(vm)
        node = s.get("node", ns=None)["items"][0]
        room = node["status"]["allocatable"]["devices.kubevirt.io/vhost-vsock"]
        if room == "0":
            def told():
                conditions = (s.get("vmi", "talker") or {}).get("status", {}).get("conditions", [])
                c = [c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"]
                return c and c[0]["message"]
            message = until(20, "it is unschedulable", told, explain=lambda: s.describe("vmi", "talker"))
            check("1 Insufficient devices.kubevirt.io/vhost-vsock" in message and "modprobe vhost_vsock" in message, "the reason", message)
            check("VSOCKCID" not in s.get("vmi", "talker")["status"], "a context ID for what does not run", s.get("vmi", "talker")["status"])
            wanted, words = 400, "VMI is not running"
        else:
            s.wait_phase("talker")
            check(3 <= s.get("vmi", "talker")["status"]["VSOCKCID"] <= 0xfffffffe, "its context ID", s.get("vmi", "talker")["status"])
            status, answer = s.request("GET", path + "?port=x&tls=false", raw=True)
            check(status == 400 and "must be a number" in str(answer), "a port that is none: %d" % status, answer)
            wanted, words = 501, "tls=false"
        status, answer = s.request("GET", path + "?port=1024", raw=True)
        check(status == wanted and words in str(answer), "the stream: %d" % status, answer)
    finally:
        s.delete("vm", "talker")
        gates(before)
    s.apply(null_vm("mute"))
    s.wait_phase("mute")
    status, answer = s.request("GET", path.replace("talker", "mute") + "?port=1024&tls=false", raw=True)
    check(status == 400 and "VSOCK is not attached." in str(answer), "a machine without: %d" % status, answer)
    s.delete("vm", "mute")


@case
def the_KubeVirt_object_says_what_may_be_used(t):
    s, k = t.server, t.server.kubectl
    known(t, "qemu-microvm")

    def configure(body, ok=True):
        return k("-n", "kubevirt", "patch", "kubevirt", "kubevirt", "--type=merge", "-p", json.dumps({"spec": {"configuration": body}}), ok=ok)
    p = configure({"hypervisors": [{"name": "kvm"}, {"name": "zen"}]}, ok=False)
    check(p.returncode != 0 and "spec.configuration.hypervisors[1].name" in p.text, "an unknown name", p.text)
    p = configure({"hypervisors": [{"name": "kvm"}], "hypervisorBackend": {"name": "qemu-microvm"}}, ok=False)
    check("hypervisorBackend.name" in p.text and "hypervisors[0].name" in p.text, "a contradiction", p.text)
    try:
        p = configure({"hypervisorBackend": {"name": "kvm", "featureGates": ["HypervisorAbstractionLayer"]}})
        check("Warning" not in p.text, "a warning", p.text)
        refused(t, wishing(linux_vm("narrow", strategy="Halted"), "qemu-microvm"), "metadata.annotations." + WISH,
                "spec.configuration.hypervisorBackend")
        configure({"hypervisorBackend": None, "hypervisors": [{"name": "qemu-microvm"}, {"name": "kvm"}]})
        s.apply(linux_vm("narrow", strategy="Halted"))
        check(annotation(s.get("vm", "narrow"), RECORD) == "qemu-microvm", "the first is not the default", s.get("vm", "narrow")["metadata"])
        configure({"hypervisors": [{"name": "kvm"}]})
        s.subresource("vm", "narrow", "start")
        until(60, "the start says that the choice is not allowed any more",
              lambda: "qemu-microvm is not among" in json.dumps(s.get("vm", "narrow").get("status", {})),
              explain=lambda: s.describe("vm", "narrow"))
    finally:
        configure({"hypervisorBackend": None, "hypervisors": None})
    s.wait_phase("narrow", seconds=90)
    s.delete("vm", "narrow")


@case
def an_instance_keeps_the_hypervisor_that_it_was_made_with(t):
    s, k = t.server, t.server.kubectl
    vmi = null_vm("single")
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "single", "annotations": {WISH: "auto"}},
           "spec": vmi["spec"]["template"]["spec"]}
    s.apply(vmi)
    check(annotation(s.get("vmi", "single"), RECORD) == "qemu", "firmware needs QEMU", s.get("vmi", "single")["metadata"])
    s.wait_phase("single")
    p = k("annotate", "--overwrite", "vmi", "single", WISH + "=qemu", ok=False)
    check(p.returncode != 0 and "is chosen when the machine is made" in p.text, "the wish was changed", p.text)
    k("annotate", "--overwrite", "vmi", "single", RECORD + "=fake", LEFT + "=all")
    now = s.get("vmi", "single")
    check(annotation(now, RECORD) == "qemu" and annotation(now, LEFT) is None, "users wrote the record", now["metadata"])
    s.delete("vmi", "single")
