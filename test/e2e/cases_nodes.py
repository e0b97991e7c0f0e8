"""What a node finds out about its accelerators and hypervisors: told on the Node, in metrics and by virtctl; obeyed by VMs."""
import json
import os
import re
import tempfile
import time

from cases import EMBEDDED, collector, null_vm
from harness import Skip, check, run, until

case, CASES = collector(machine=EMBEDDED)

REPORT, REQUEST, OFFERS = "vireo.io/hypervisor-report", "vireo.io/probe-requested", "vireo.io/hypervisors"


def node_of(s):
    return s.get("node", ns=None)["items"][0]


def report_of(s):
    return json.loads(node_of(s)["metadata"].get("annotations", {}).get(REPORT) or "{}")


def settled(s):
    """The report, when there is a verdict on everything."""
    def probe():
        r = report_of(s)
        known = r.get("vmms") and all(v["state"] != "unknown" for v in r["vmms"]) and all(
            a["verdict"] != "probing" for a in r["accelerators"])
        return r if known else None
    return until(60, "the node knows what it can run", probe, explain=lambda: report_of(s))


def vmm(report, name):
    return next((v for v in report["vmms"] if v["name"] == name), None) or {}


def kvm_works(report):
    return report["accelerators"][0]["verdict"] == "works"


@case
def the_node_tells_what_it_can_run_in_labels_conditions_report_and_metrics(t):
    s = t.server
    report, node = settled(s), node_of(s)
    labels = node["metadata"]["labels"]
    qemu = vmm(report, "qemu")
    check(qemu["usable"] and re.fullmatch(r"\d+\.\d+\.\d+", qemu["version"]) and "q35" in qemu["machines"], "QEMU", qemu)
    major, minor = qemu["version"].split(".")[:2]
    check(labels.get("vireo.io/vmm-qemu") == "true" and labels.get("vireo.io/vmm-qemu-version") == qemu["version"]
          and labels.get("vireo.io/vmm-qemu-level") == str(int(major) * 100 + int(minor)), "labels", labels)
    check(labels.get("vireo.io/accelerator-tcg") == "true", "labels", labels)
    check((labels.get("vireo.io/accelerator-kvm") == "true") == kvm_works(report), "labels", labels, report)
    check(("1000" if kvm_works(report) else "0") == node["status"]["capacity"]["devices.kubevirt.io/kvm"], "capacity", node["status"])
    conditions = {c["type"]: c for c in node["status"]["conditions"]}
    check(conditions["HypervisorsUsable"]["status"] == "True" and "qemu " + qemu["version"] in conditions["HypervisorsUsable"]["message"],
          "condition", conditions)
    check(conditions["KVMWorks"]["status"] in ("True", "False", "Unknown") and conditions["KVMWorks"]["message"], "condition", conditions)
    for v in report["vmms"]:
        check(v["usable"] or v["reason"], "a hypervisor is not usable, and nobody says why", v)
        check((labels.get("vireo.io/vmm-" + v["name"]) == "true") == v["usable"], "label and report differ", v, labels)
    metrics = s.kubectl("get", "--raw", "/metrics").out
    check(re.search(r'^vireo_node_accelerator\{node="[^"]+",accelerator="kvm",verdict="%s"\} %d$'
                    % (report["accelerators"][0]["verdict"], kvm_works(report)), metrics, re.M), "metrics", metrics[-1500:])
    check(re.search(r'^vireo_node_vmm_info\{[^}]*vmm="qemu",version="%s",state="usable",usable="true"\} 1$' % re.escape(qemu["version"]),
                    metrics, re.M), "metrics", metrics[-1500:])


@case
def a_probe_on_request_answers_and_an_idle_node_probes_nothing(t):
    s = t.server
    before = settled(s)
    name = node_of(s)["metadata"]["name"]
    time.sleep(1.1)  # times in the report are whole seconds
    s.kubectl("annotate", "node", name, "--overwrite", REQUEST + "=e2e-%d" % time.time())
    wish = node_of(s)["metadata"]["annotations"][REQUEST]
    after = until(60, "the report answers the request", lambda: (r := report_of(s)).get("requested") == wish and r)
    check(vmm(after, "qemu")["probed"] > vmm(before, "qemu")["probed"], "nothing was probed", after)
    check(vmm(after, "qemu")["usable"], "the verdict is another one", after)
    out = s.virtctl("hypervisors", name, "--probe").out
    check("qemu" in out and "ACCELERATOR" in out, "virtctl hypervisors NODE --probe", out)
    check(report_of(s)["requested"].startswith("virtctl-"), "virtctl asked for nothing", report_of(s))
    # A restart takes what is known from the file.
    probed = vmm(report_of(s), "qemu")["probed"]
    s.stop(all_machines=False)
    s.start()
    check(vmm(settled(s), "qemu")["probed"] == probed, "a restart probed again")


@case
def virtctl_and_kubectl_virt_show_hypervisors(t):
    s = t.server
    settled(s)
    out = s.virtctl("hypervisors").out
    check(re.search(r"^qemu +default +1/1 +\S*tcg", out, re.M), "virtctl hypervisors", out)
    every = json.loads(s.virtctl("hypervisors", "-o", "json").out)
    check({"qemu", "firecracker", "cloud-hypervisor"} <= {v["name"] for v in every}, "-o json", every)
    check("accelerators:" in s.virtctl("hypervisors", node_of(s)["metadata"]["name"], "-o", "yaml").out, "-o yaml")
    tpm = s.virtctl("hypervisors", "explain", "spec.domain.devices.tpm").out
    check(re.search(r"firecracker +\S*tpm\S*: never", tpm), "explain", tpm)
    p = s.virtctl("hypervisors", "explain", "spec.no.such", ok=False)
    check(p.returncode != 0 and "spec.no.such" in p.text, "an unknown field", p.text)
    p = s.virtctl("hypervisors", "no-such-node", ok=False)
    check(p.returncode != 0 and "no-such-node" in p.text, "an unknown node", p.text)
    check("--probe" in s.virtctl("hypervisors", "--help").out, "help")
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(s.config.virtctl(), os.path.join(folder, "kubectl-virt"))
        out = s.kubectl("virt", "hypervisors", env={"PATH": folder + ":" + os.environ["PATH"]}).out
        check("firecracker" in out, "kubectl virt hypervisors", out)


@case
def what_the_administrator_withholds_is_not_offered_and_not_started(t):
    s = t.server
    settled(s)
    name = node_of(s)["metadata"]["name"]
    s.kubectl("annotate", "node", name, "--overwrite", OFFERS + "=firecracker")
    try:
        until(60, "the label goes", lambda: "vireo.io/vmm-qemu" not in node_of(s)["metadata"]["labels"])
        check(vmm(report_of(s), "qemu")["state"] == "withheld", "report", report_of(s))
        s.apply(null_vm("withheld"))
        begun = time.monotonic()
        until(60, "the VMI says why", lambda: any(OFFERS in c.get("message", "") for c in (s.get("vmi", "withheld") or {}).get(
            "status", {}).get("conditions", [])), explain=lambda: s.describe("vmi", "withheld"))
        print("   refused after %.1f s" % (time.monotonic() - begun))
    finally:
        s.kubectl("annotate", "node", name, OFFERS + "-")
    s.wait_phase("withheld")  # and runs as soon as it may
    s.delete("vm", "withheld")


STUB = """#!/bin/sh
case "$1" in
--version) echo "Firecracker v1.16.1"; echo; exit 0;;
esac
exit 1
"""


@case
def a_program_that_only_says_a_version_is_not_offered_where_KVM_is_broken(t):
    hidden = tempfile.mkdtemp(prefix="vireo-e2e-stub-")
    stub = os.path.join(hidden, "stub")
    with open(stub, "w", encoding="ascii") as f:
        f.write(STUB)
    os.chmod(stub, 0o755)
    layer = os.path.join(hidden, "layer")
    os.mkdir(layer)
    script = ('mount -t tmpfs tmpfs "{0}" && mkdir "{0}/u" "{0}/w" && '
              'mount -t overlay -o lowerdir=/usr,upperdir="{0}/u",workdir="{0}/w" overlay /usr && '
              'cp "{1}" /usr/local/bin/firecracker && chmod 755 /usr/local/bin/firecracker').format(layer, stub)
    try:
        p = run(["unshare", "-m", "sh", "-c", script])
        if p.returncode:
            raise Skip("no layer over /usr here: " + p.text.strip())
        s = t.own_server("stub", before=script)
        with s:
            s.start()
            report = settled(s)
            fc = vmm(report, "firecracker")
            if not fc:
                raise Skip("this build has no driver for firecracker")
            check(fc["version"] == "1.16.1", "the stub was not asked", fc)
            if kvm_works(report):
                raise Skip("KVM works here")
            check(not fc["usable"] and fc["state"] == "no-accelerator" and "needs KVM" in fc["reason"], "it is offered", fc)
            vm = null_vm("small")
            vm["metadata"]["annotations"] = {"vireo.io/hypervisor": "firecracker"}
            vm["spec"]["template"]["spec"]["domain"]["firmware"] = {"kernelBoot": {"container": {
                "image": "oci:tiny", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"}}}
            vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "128Mi"
            begun = time.monotonic()
            s.apply(vm)
            s.wait_status("small", "ErrorUnschedulable")
            took = time.monotonic() - begun
            print("   unschedulable after %.1f s" % took)
            said = s.kubectl("describe", "vmi", "small").out
            for text in ("Unschedulable", "didn't match Pod's node affinity/selector", "hypervisor firecracker", "needs KVM"):
                check(text in said, "kubectl describe does not say: " + text, said)
            check("ErrorUnschedulable" in s.kubectl("get", "vm", "small").out, "kubectl get vm")
            out = s.virtctl("hypervisors").out
            check(re.search(r"^firecracker +yes +0/1 .*needs KVM", out, re.M), "virtctl hypervisors", out)
            s.delete("vm", "small")
    finally:
        os.unlink(stub)
        os.rmdir(layer)
        os.rmdir(hidden)
