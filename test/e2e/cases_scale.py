"""Many machines in which nothing runs: the fake VMM, offered by `vireo serve --offer-vmm fake`."""
import json
import time

from cases import collector, null_vm
from harness import Server, check, proc_text, until

case, CASES = collector(machine="fake machines are the embedded node's; a cluster has simulated nodes")

MANY = 200
WISH = "vireo.io/hypervisor"


def fake_vm(name, **more):
    vm = null_vm(name, **more)
    vm["metadata"]["annotations"] = {WISH: "fake"}
    vm["spec"]["template"]["spec"]["domain"]["resources"] = {"requests": {"memory": "1Mi"}}
    return vm


def pss_kib(pid):
    return next(int(line.split()[1]) for line in proc_text(pid, "smaps_rollup").split("\n") if line.startswith("Pss:"))


def running(s):
    return sum((o.get("status") or {}).get("phase") == "Running" for o in s.get("vmi")["items"])


@case
def fake_is_offered_where_the_node_is_told_to_and_nowhere_else(t):
    s = t.server
    s.apply(fake_vm("nowhere"))
    try:
        until(30, "the VM says that no node offers fake", lambda: "fake" in s.describe("vm", "nowhere")
              and (s.get("vm", "nowhere").get("status") or {}).get("printableStatus") == "ErrorUnschedulable",
              explain=lambda: s.describe("vm", "nowhere"))
        check("fake" not in s.virtctl("hypervisors").text, "virtctl hypervisors shows what nobody offers")
    finally:
        s.delete("vm", "nowhere")


@case
def two_hundred_fake_machines_run_in_one_server(t):
    with Server(t.config, "scale", extra=("--offer-vmm", "fake")) as s:
        s.start()
        s.patch("kubevirt", "kubevirt", {"spec": {"configuration": {"developerConfiguration": {"cpuAllocationRatio": 1000}}}},
                ns="kubevirt")
        until(30, "the node offers fake", lambda: s.get("node", ns=None)["items"][0]["metadata"]["labels"].get("vireo.io/vmm-fake") == "true")
        begun = time.monotonic()
        s.apply(*[fake_vm("m%d" % i) for i in range(MANY)])
        until(200, "all of them run", lambda: running(s) == MANY, every=0.5, explain=lambda: "%d run" % running(s))
        took = time.monotonic() - begun
        launchers = s.launchers()
        check(len(launchers) >= MANY, "launchers", len(launchers))
        check(not s.qemu(), "a QEMU runs")
        pss = sorted(pss_kib(pid) for pid in launchers[::4])
        print("     %d fake machines run after %.1f s; a launcher has %d KiB (Pss, p50; most %d)" % (MANY, took, pss[len(pss) // 2], pss[-1]))
        check(pss[-1] <= 1536, "a launcher is too large", pss)

        s.wait_status("m7", "Running")
        check(any("nothing runs in this machine" in e["message"] for e in s.events("m7")), "no Event says that nothing runs", s.events("m7"))
        shown = s.virtctl("hypervisors").text
        check("nothing runs in this machine" in shown, "virtctl hypervisors does not say that nothing runs", shown)
        with s.console("m7") as c:
            c.send("say hello\r")
            c.expect(r"said hello")
            s.subresource("vmi", "m7", "pause")
            until(20, "it is paused", lambda: any(x["type"] == "Paused" and x["status"] == "True"
                                                  for x in s.get("vmi", "m7")["status"]["conditions"]))
            c.send("say later\r")
            s.subresource("vmi", "m7", "unpause")
            c.expect(r"said later")
            c.send("poweroff\r")
        begun = time.monotonic()
        s.kubectl("delete", "vm", "--all", "--wait=false")
        until(200, "all of them are gone", lambda: not s.get("vmi")["items"], every=0.5, explain=lambda: len(s.get("vmi")["items"]))
        print("     and are gone %.1f s after they were deleted" % (time.monotonic() - begun))
        until(60, "their launchers are gone", lambda: not s.launchers(), every=0.5)


def machine_on_simulated(name):
    vm = null_vm(name)
    vm["spec"]["template"]["spec"]["nodeSelector"] = {"vireo.io/simulated": "true"}
    vm["spec"]["template"]["spec"]["domain"]["resources"] = {"requests": {"memory": "1Mi"}}
    return vm


@case
def two_hundred_machines_run_on_twenty_simulated_nodes(t):
    with Server(t.config, "simulated", extra=("--sim-nodes", "20")) as s:
        s.start()
        until(30, "the nodes are Ready", lambda: sum(n["metadata"]["name"].startswith("sim-") and any(
            c["type"] == "Ready" and c["status"] == "True" for c in n["status"]["conditions"]) for n in s.get("node", ns=None)["items"]) == 20)
        begun = time.monotonic()
        s.apply(*[machine_on_simulated("m%d" % i) for i in range(MANY)])
        until(120, "all of them run", lambda: running(s) == MANY, every=0.5, explain=lambda: "%d run" % running(s))
        print("     %d machines run on 20 simulated nodes after %.1f s" % (MANY, time.monotonic() - begun))
        on = [v["status"]["nodeName"] for v in s.get("vmi")["items"]]
        check(all(on.count("sim-%d" % i) == MANY // 20 for i in range(20)), "they are spread evenly", sorted(on))
        check(not s.launchers() and not s.qemu(), "a process runs for them")
        check(any("this node is simulated" in e["message"] for e in s.events("m7")), "no Event says that it is simulated", s.events("m7"))

        s.kubectl("annotate", "node", "sim-3", "vireo.io/sim=silent")
        lost = next(v for v in s.get("vmi")["items"] if v["status"]["nodeName"] == "sim-3")["metadata"]["name"]
        s.kubectl("delete", "vm", lost, "--wait=false")
        time.sleep(3)
        check(s.get("vmi", lost)["status"]["phase"] == "Running", "a silent node's agent says something")
        s.kubectl("annotate", "node", "sim-3", "vireo.io/sim-")
        until(30, "it is heard again, and shuts the machine down", lambda: not any(v["metadata"]["name"] == lost for v in s.get("vmi")["items"]))

        s.kubectl("delete", "vm", "--all", "--wait=false")
        until(120, "all of them are gone", lambda: not s.get("vmi")["items"] and not s.get("pod")["items"], every=0.5,
              explain=lambda: len(s.get("vmi")["items"]))
