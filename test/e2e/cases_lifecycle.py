"""From a manifest to Running and back: run strategies, verbs of virtctl, what does not fit. Null guests: firmware only."""
import json
import time

from cases import collector, null_vm
import harness
from harness import ROOT, Background, check, until

case, CASES = collector()


def memory_of_host_gib():
    with open("/proc/meminfo", encoding="utf-8") as f:
        return int(f.readline().split()[1]) >> 20


@case
def legacy_app_vm_is_admitted_and_reaches_Running_or_says_why_not(t):
    s = t.server
    s.kubectl("apply", "-f", ROOT + "/examples/legacy-app-vm.yaml", version="old")
    vm = s.get("vm", "legacy-app-vm")
    check(vm["spec"].get("running") is True and "runStrategy" not in vm["spec"], "spec.running was rewritten", json.dumps(vm["spec"]))
    if memory_of_host_gib() >= 12:
        s.wait_status("legacy-app-vm", "Running")
        cpu = s.get("vmi", "legacy-app-vm")["spec"]["domain"]["cpu"]
        check(cpu["cores"] == 4, "cores", json.dumps(cpu))
    else:
        s.wait_status("legacy-app-vm", "ErrorUnschedulable")
    s.delete("vm", "legacy-app-vm", wait=0)  # firmware takes no notice of the power button: it has its 30 s


@case
def a_vm_too_big_for_this_machine_has_a_condition_and_an_Event_that_say_so(t):
    s = t.server
    s.apply(null_vm("giant", memory="4Ti"))
    vm = s.wait_status("giant", "ErrorUnschedulable")
    found = [c for c in vm["status"]["conditions"] if c["type"] == "PodScheduled" and c["status"] == "False"]
    check(found and "memory" in found[0].get("message", "").lower(), "no condition names the memory", json.dumps(vm["status"]))
    until(30, "an Event names the memory", lambda: [e for e in s.get("event")["items"] if "giant" in e["involvedObject"].get("name", "") and "nsufficient memory" in e["message"]],
          explain=lambda: s.describe("vmi", "giant"))
    s.delete("vm", "giant")


@case
def start_stop_restart_pause_and_unpause_by_virtctl(t):
    s, v = t.server, t.server.virtctl
    t.config.virtctl()
    s.apply(null_vm("lever", strategy="Halted"))
    s.wait_status("lever", "Stopped")
    v("start", "lever")
    first = s.wait_phase("lever")["metadata"]["uid"]
    check(s.get("vm", "lever")["spec"]["runStrategy"] == "Always", "start of a Halted VM makes it Always")
    p = v("start", "lever", ok=False)
    check(p.returncode != 0 and "already running" in p.text, "a second start", p.text)
    v("pause", "vm", "lever")
    s.wait_status("lever", "Paused")
    out = s.kubectl("get", "vmi", "lever", "-o", "wide").out
    check("True" in out.split("\n")[1].split()[-1], "column PAUSED", out)
    v("unpause", "vm", "lever")
    s.wait_status("lever", "Running")
    v("restart", "lever")
    s.wait_phase("lever", uid_not=first)
    v("stop", "lever")
    s.wait_status("lever", "Stopped")
    until(60, "the instance is gone", lambda: s.get("vmi", "lever") is None)
    p = v("pause", "vm", "lever", ok=False)
    check(p.returncode != 0 and "not" in p.text, "pause of a stopped VM", p.text)
    p = v("start", "nobody", ok=False)
    check(p.returncode != 0 and "nobody" in p.text and "not found" in p.text, "start of a VM that is not there", p.text)
    s.delete("vm", "lever")


@case
def a_guest_that_does_not_react_is_killed_after_terminationGracePeriodSeconds(t):
    s = t.server
    s.apply(null_vm("deaf", terminationGracePeriodSeconds=4))
    s.wait_phase("deaf")
    begun = time.monotonic()
    s.subresource("vm", "deaf", "stop")
    s.wait_status("deaf", "Stopped")
    took = time.monotonic() - begun
    check(3.5 < took < 28, "4 s of grace, and it took %.1f s" % took)
    s.delete("vm", "deaf")


@case
def an_eviction_does_what_the_evictionStrategy_says(t):
    s = t.server
    s.apply(null_vm("stays", evictionStrategy="LiveMigrate"), null_vm("goes", evictionStrategy="None"))
    first = s.wait_phase("goes")["metadata"]["uid"]
    s.wait_phase("stays")
    for name, wanted in (("stays", 429), ("goes", 201)):
        pod = s.pod_of(name)["metadata"]["name"]
        status, answer = s.evict(pod)
        check(status == wanted, "eviction of %s: %d" % (name, status), answer)
    s.wait_phase("goes", uid_not=first)
    check(s.get("vmi", "stays")["status"]["phase"] == "Running", "it was to stay")
    s.delete("vm", "stays")
    s.delete("vm", "goes")


@case
def runStrategy_Manual_starts_and_stops_only_when_asked(t):
    s = t.server
    s.apply(null_vm("manual", strategy="Manual"))
    time.sleep(1)
    check(s.get("vmi", "manual") is None, "it started by itself")
    s.subresource("vm", "manual", "start")
    s.wait_phase("manual")
    s.subresource("vm", "manual", "stop")
    s.wait_status("manual", "Stopped")
    check(s.get("vm", "manual")["spec"]["runStrategy"] == "Manual", "the strategy was rewritten")
    s.delete("vm", "manual")


@case
def runStrategy_Halted_and_Always_act_on_a_change_of_the_spec(t):
    s = t.server
    s.apply(null_vm("switch", strategy="Halted"))
    s.patch("vm", "switch", {"spec": {"runStrategy": "Always"}})
    s.wait_status("switch", "Running")
    s.patch("vm", "switch", {"spec": {"runStrategy": "Halted"}})
    s.wait_status("switch", "Stopped")
    until(60, "the instance is gone", lambda: s.get("vmi", "switch") is None)
    s.delete("vm", "switch")


@case
def a_killed_QEMU_ends_Failed_and_each_runStrategy_does_what_upstream_does(t):
    s = t.server
    wanted = {"Always": "again", "RerunOnFailure": "again", "Once": "stays", "Manual": "stays"}
    for strategy in wanted:
        s.apply(null_vm("killed-" + strategy.lower(), strategy=strategy))
    s.subresource("vm", "killed-manual", "start")
    uids = {}
    for strategy in wanted:
        uids[strategy] = s.wait_phase("killed-" + strategy.lower())["metadata"]["uid"]
    for strategy in wanted:
        pod = s.pod_of("killed-" + strategy.lower())
        qemu = s.qemu(pod["metadata"]["uid"])
        check(len(qemu) == 1, "%d QEMUs for one VM" % len(qemu))
        harness.kill(qemu[0])
    for strategy, then in wanted.items():
        name = "killed-" + strategy.lower()
        if then == "stays":
            vmi = s.wait_phase(name, "Failed")
            check(vmi["metadata"]["uid"] == uids[strategy], "another instance")
            s.wait_status(name, "Stopped")
        else:
            s.wait_phase(name, "Running", 40, uid_not=uids[strategy])
    time.sleep(2)
    for strategy, then in wanted.items():
        if then == "stays":
            check(s.phase("killed-" + strategy.lower()) == "Failed", strategy + ": it did not stay Failed")
        events = [e["reason"] for e in s.events("killed-" + strategy.lower())]
        check("Stopped" in events, "%s: no Event Stopped" % strategy, events)
        s.delete("vm", "killed-" + strategy.lower())


@case
def an_instance_without_a_VM_lives_and_is_deleted_by_itself(t):
    s = t.server
    vm = null_vm("lonely")
    s.apply({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "lonely"},
             "spec": vm["spec"]["template"]["spec"]})
    s.wait_phase("lonely")
    s.kubectl("delete", "vmi", "lonely", "--wait", "--timeout=150s", timeout=180)
    check(s.get("vmi", "lonely") is None, "still there")


@case
def an_instance_deleted_under_a_VM_comes_back(t):
    s = t.server
    s.apply(null_vm("phoenix"))
    uid = s.wait_phase("phoenix")["metadata"]["uid"]
    s.kubectl("delete", "vmi", "phoenix", "--wait=false")
    s.wait_phase("phoenix", uid_not=uid)
    s.delete("vm", "phoenix")


@case
def a_second_VM_of_the_same_name_in_another_namespace_is_another_VM(t):
    s = t.server
    s.kubectl("create", "namespace", "blue")
    s.apply(null_vm("twin"), null_vm("twin", ns="blue"))
    a = s.wait_phase("twin")["metadata"]["uid"]
    b = s.wait_phase("twin", ns="blue")["metadata"]["uid"]
    check(a != b, "one instance for two VMs")
    ips = {p["status"]["podIP"] for ns in ("default", "blue") for p in s.get("pod", ns=ns)["items"] if "-twin-" in p["metadata"]["name"]}
    check(len(ips) == 2, "they share an address", ips)
    s.kubectl("delete", "namespace", "blue", "--wait", "--timeout=150s", timeout=180)
    check(s.phase("twin") == "Running", "deleting the one's namespace ended the other")
    check(s.get("vm", "twin", ns="blue") is None, "VM outlives its namespace")
    s.delete("vm", "twin")


@case
def every_example_is_admitted_by_both_kubectls_unchanged(t):
    import glob
    until(60, "the example of another test is gone", lambda: t.server.get("vm", "legacy-app-vm") is None)
    for path in sorted(glob.glob(ROOT + "/examples/*.yaml")):
        for version in ("old", "new"):
            p = t.server.kubectl("apply", "--dry-run=server", "-f", path, version=version, ok=False)
            # An object in a namespace that the same file makes cannot pass a dry run.
            check(p.returncode == 0 or 'namespaces "' in p.text, "%s by %s kubectl" % (path, version), p.text)
            check("Warning" not in p.err, "%s gives a warning" % path, p.err)


@case
def virtctl_says_its_version_and_helps(t):
    v = t.server.virtctl
    out = v("version").text
    check("Client" in out and "Server" in out, "virtctl version", out)
    check("start" in v("--help").text, "virtctl --help")
    p = v("strat", "x", ok=False)
    check(p.returncode != 0 and "strat" in p.text, "an unknown verb", p.text)


@case
def vnc_by_virtctl_proxy_only_speaks_RFB(t):
    import re
    import socket
    s = t.server
    t.config.virtctl()
    s.apply(null_vm("screen"))
    s.wait_phase("screen")
    with Background([t.config.virtctl(), "vnc", "screen", "--proxy-only"], s.env()) as proxy:
        port = int(proxy.expect(r'"port": *(\d+)').group(1))
        with socket.create_connection(("127.0.0.1", port), 10) as c:
            c.settimeout(10)
            hello = c.recv(12)
            check(re.match(rb"RFB 003\.00\d\n", hello), "no RFB greeting", hello)
            c.sendall(hello)
            check(c.recv(64), "the server says nothing after the greeting")
    s.delete("vm", "screen")


@case
def ten_null_guests_at_once_all_run_and_all_go(t):
    s = t.server
    names = ["swarm-%d" % i for i in range(10)]
    begun = time.monotonic()
    s.apply(*[null_vm(n, memory="16Mi") for n in names])
    for n in names:
        s.wait_phase(n, seconds=90)
    took = time.monotonic() - begun
    pods = [s.pod_of(n)["metadata"]["uid"] for n in names]
    check(len({s.get("vmi", n)["status"]["interfaces"][0]["ipAddress"] for n in names}) == 10, "addresses are shared")
    s.kubectl("delete", "vm", *names, "--wait", "--timeout=150s", timeout=180)
    until(60, "all QEMUs are gone", lambda: not any(s.qemu(pod) for pod in pods))
    check(took < 90, "it took %.1f s" % took)
