"""Whatever is killed, frozen or cut off: no machine is lost, and none runs twice (proof.py). Kubernetes and storage help here with nothing:
volumes are directories that every node sees, and two pods may open one at once."""
import contextlib
import json
import os
import random
import signal
import time

from cases import collector
from cluster import NODES
from harness import Failure, Skip, check, until
from proof import Observer, claims, frozen, never_two, part_pid, plain, records, writer, writes_on

ORDER = 66
case, CASES = collector()
FAR = NODES[1]
SOAK_SECONDS = 60


def pods_of(c, vm):
    return c.get("pods", "-l", "vmi.kubevirt.io/id=" + vm)["items"]


def ready_reason(c, vm):
    conditions = ((c.maybe("vmi", vm) or {}).get("status") or {}).get("conditions", [])
    return next((x.get("reason") for x in conditions if x["type"] == "Ready"), None)


def node_ready(c, node):
    return [x["status"] for x in c.get("node", node)["status"]["conditions"] if x["type"] == "Ready"] == ["True"]


def restarted(c, o, vm, before, seconds=240):
    until(seconds, vm + " runs again, in another process", lambda: o.pid(vm) not in (None, before) and c.phase(vm) == "Running", 0.5,
          lambda: c.say(vm) + "\n" + c.role_logs())


def forced(c, vm):
    """kubectl delete pod --force; returns the VMI's UID."""
    pod = c.pod_of(vm)
    c.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0", "--wait=false")
    until(30, "the pod's object is gone", lambda: not pods_of(c, vm), 0.3)
    return c.get("vmi", vm)["metadata"]["uid"]


def proof_runs(c):
    """The machine of the proof: made once, and Running on the second node when a case begins."""
    if c.outside:
        raise Skip("it kills what runs in pods: --roles pods")
    until(120, "both nodes are ready", lambda: all(node_ready(c, n) for n in NODES), 1)
    if not c.maybe("vm", "proof"):
        c.volume("proof-root")
        c.apply(*claims(c, "ledger"), writer("proof", "ledger"))
    c.running("proof", 240)


@case
def two_launchers_on_two_nodes_never_have_one_disk_open(c):
    if c.outside:
        raise Skip("both nodes are needed: --roles pods")
    c.apply(*claims(c, "shared"), *claims(c, "shared", "shared-too"), plain("holds", "shared", NODES[0]))
    c.running("holds", 120)
    with Observer(c) as o:
        c.apply(plain("waits", "shared-too", NODES[1]))

        def why():
            conditions = ((c.maybe("vmi", "waits") or {}).get("status") or {}).get("conditions", [])
            return next((x.get("message", "") for x in conditions if x["type"] == "Synchronized" and x["status"] == "False"), "")
        until(120, "the second one says why it waits", lambda: "lock" in why(), 0.5, lambda: why() + c.say("waits"))
        check(c.phase("waits") != "Running" and o.pid("holds"), "only the first runs", c.say("waits"))
        c.kubectl("delete", "vm", "holds", timeout=120)
        c.running("waits", 120)
        o.check()
    c.kubectl("delete", "vm", "waits", timeout=120)


@case
def a_machine_outlives_every_process_that_is_above_it(c):
    proof_runs(c)
    writes_on(c, "ledger", 300, lambda: c.say("proof"))
    with Observer(c) as o:
        before, boots = o.pid("proof"), len(records(c, "ledger")[0])
        node = c.get("vmi", "proof")["status"]["nodeName"]
        for role, where in (("controller", None), ("api", None), ("operator", None), ("handler", node)):
            for pid in c.role_pids(role, where):
                os.kill(pid, signal.SIGKILL)
        for part, where in (("apiserver", NODES[0]), ("kubelet", node), ("containerd", node)):
            c.stop_part(part, where, kill=True)
        time.sleep(2)
        for part, where in (("apiserver", NODES[0]), ("containerd", node), ("kubelet", node)):
            c.start_part(part, where)
        etcd = part_pid(c, "etcd", NODES[0])
        os.kill(etcd, signal.SIGSTOP)
        time.sleep(12)
        os.kill(etcd, signal.SIGCONT)
        until(180, "everything is back", lambda: c.maybe("nodes") and node_ready(c, node) and c.deployed(), 1, c.role_logs)
        writes_on(c, "ledger")
        check(o.pid("proof") == before and o.ever["proof"] == {before}, "the same process", o.ever)
        check(len(records(c, "ledger")[0]) == boots, "the same boot", records(c, "ledger"))
        o.check()
    never_two(c, "ledger")


@case
def a_launcher_a_shim_or_qemu_that_is_killed_is_followed_by_one_other(c):
    proof_runs(c)
    with Observer(c) as o:
        for victim in ("qemu", "launcher", "shim"):
            before = until(60, "it runs", lambda: o.pid("proof"), 0.2)
            with open("/proc/%d/stat" % before, encoding="utf-8") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
            pid = {"qemu": before, "launcher": parent, "shim": shim_of(c, "proof")}[victim]
            os.kill(pid, signal.SIGKILL)
            restarted(c, o, "proof", before)
        o.check()
    never_two(c, "ledger")


def shim_of(c, vm):
    """containerd's process above a pod."""
    uid = c.pod_of(vm)["metadata"]["uid"]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open("/proc/%s/cgroup" % pid, encoding="utf-8") as f:
                if uid not in f.read():
                    continue
            with open("/proc/%s/stat" % pid, encoding="utf-8") as f:
                parent = f.read().rsplit(")", 1)[1].split()[1]
            with open("/proc/%s/cmdline" % parent, encoding="utf-8") as f:
                if "containerd-shim" in f.read():
                    return int(parent)
    raise Failure("no shim is above the pod of " + vm)


@case
def a_pod_deleted_by_force_on_a_frozen_node_starts_no_second_machine(c):
    proof_runs(c)
    with Observer(c) as o:
        before, node = until(30, "it runs", lambda: o.pid("proof"), 0.2), c.get("vmi", "proof")["status"]["nodeName"]
        with frozen(c, node):
            uid = forced(c, "proof")
            until(30, "the instance says why it waits", lambda: ready_reason(c, "proof") == "LauncherMayRun", 0.5, lambda: c.say("proof"))
            c.kill("controller") # whose successor has seen nothing of what was
            time.sleep(40)
            check(not pods_of(c, "proof") and c.get("vmi", "proof")["metadata"]["uid"] == uid, "nothing was started", c.say("proof"))
            check(o.pid("proof") == before and c.phase("proof") == "Running", "the machine runs on", c.say("proof"))
            check("out-of-service" in c.kubectl("get", "events"), "an Event says what to do")
        restarted(c, o, "proof", before)
        o.check()
    never_two(c, "ledger")


@case
def a_frozen_node_that_is_declared_dead_gives_its_machines_away(c):
    proof_runs(c)
    with Observer(c) as o:
        before, node = until(30, "it runs", lambda: o.pid("proof"), 0.2), c.get("vmi", "proof")["status"]["nodeName"]
        with frozen(c, node):
            forced(c, "proof")
            until(30, "it waits", lambda: ready_reason(c, "proof") == "LauncherMayRun", 0.5, lambda: c.say("proof"))
            with open("/proc/%d/stat" % before, encoding="utf-8") as f: # the node is switched off
                os.kill(int(f.read().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
            until(30, "the guest is gone", lambda: not o.now.get("proof"), 0.2)
            time.sleep(7)
            check(not pods_of(c, "proof"), "nobody knows that yet")
            c.kubectl("taint", "node", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoSchedule")
            try:
                restarted(c, o, "proof", before)
                check(c.get("vmi", "proof")["status"]["nodeName"] != node, "elsewhere")
            finally:
                c.kubectl("taint", "node", node, "node.kubernetes.io/out-of-service-")
        until(120, "the node is back", lambda: node_ready(c, node), 1)
        o.check()
    never_two(c, "ledger")


@case
def a_machine_deleted_while_its_agent_is_frozen_goes_by_the_kubelet_s_word(c):
    if c.outside:
        raise Skip("it freezes what runs in pods: --roles pods")
    c.apply(*claims(c, "brief"), plain("brief", "brief", NODES[0]))
    c.running("brief", 120)
    with Observer(c) as o:
        pids = c.role_pids("handler", NODES[0])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            c.kubectl("delete", "vm", "brief", "--wait=false")
            until(120, "it is gone, and its process", lambda: not c.maybe("vmi", "brief") and not o.now.get("brief"), 0.5, lambda: c.say("brief"))
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        o.check()


def agents(c, away):
    """Takes the node agents away (the operator, which would bring them back, first), or brings them back."""
    if away:
        c.kubectl("scale", "deployment", "-n", "kubevirt", "virt-operator", "--replicas=0")
        until(60, "no operator is left", lambda: not c.role_pids("operator"), 0.5)
    c.kubectl("patch", "ds", "-n", "kubevirt", "virt-handler", "--type=merge", "-p",
              json.dumps({"spec": {"template": {"spec": {"nodeSelector": {"vireo.test/away": "yes" if away else None}}}}}))
    if away:
        until(90, "no agent is left", lambda: not c.role_pids("handler"), 0.5)
    else:
        c.kubectl("scale", "deployment", "-n", "kubevirt", "virt-operator", "--replicas=2")
        until(180, "all is as it was", lambda: len(c.role_pids("handler")) == len(NODES) and c.deployed(), 1, c.role_logs)


@case
def what_happens_while_the_agents_are_away_for_long_is_caught_up(c):
    """One machine's guest ends, one is stopped, one deleted, one left alone. The short form is in cases_node.py."""
    if not os.environ.get("VIREO_SOAK"):
        raise Skip("it takes ten minutes: make soak")
    if c.outside:
        raise Skip("agents in pods: --roles pods")
    names = ["away-ends", "away-stopped", "away-deleted", "away-alone"]
    for i, vm in enumerate(names):
        c.apply(*claims(c, vm), plain(vm, vm, NODES[i % 2]))
    for vm in names:
        c.running(vm, 120)
    with Observer(c) as o:
        before = {vm: until(30, "it runs", lambda vm=vm: o.pid(vm), 0.2) for vm in names}
        agents(c, True)
        try:
            os.kill(before["away-ends"], signal.SIGKILL)
            c.kubectl("patch", "vm", "away-stopped", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}')
            c.kubectl("delete", "vm", "away-deleted", "--wait=false")
            time.sleep(600)
            check(o.pid("away-alone") == before["away-alone"], "one that nobody touched runs on")
        finally:
            agents(c, False)
        restarted(c, o, "away-ends", before["away-ends"])
        until(120, "the stopped one is off", lambda: not c.maybe("vmi", "away-stopped") and not o.now.get("away-stopped"), 0.5,
              lambda: c.say("away-stopped"))
        until(120, "the deleted one is gone", lambda: not c.maybe("vm", "away-deleted") and not o.now.get("away-deleted"), 0.5,
              lambda: c.say("away-deleted"))
        check(o.pid("away-alone") == before["away-alone"] and c.phase("away-alone") == "Running", "the last one has not noticed")
        o.check()
    c.kubectl("delete", "vm", "away-ends", "away-stopped", "away-alone", timeout=180)


# --- at random ----------------------------------------------------------------------------------------------------------------

def kill_role(role):
    def fault(c, rnd):
        for pid in c.role_pids(role):
            if role != "controller" or rnd.random() < 0.7:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    fault.__name__ = "kill " + role
    return fault


def freeze_controller(c, rnd):
    pids = c.role_pids("controller")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(rnd.choice((3, 18)))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def restart_part(part):
    def fault(c, rnd):
        node = NODES[0] if part == "apiserver" else rnd.choice(NODES)
        c.stop_part(part, node, kill=True)
        time.sleep(rnd.uniform(0, 4))
        c.start_part(part, node)
    fault.__name__ = "kill " + part
    return fault


def kill_machine(c, rnd):
    qemus = c.qemus()
    if qemus:
        with contextlib.suppress(ProcessLookupError):
            os.kill(qemus[rnd.choice(sorted(qemus))], signal.SIGKILL)


def force_pod(c, rnd):
    pods = [p["metadata"]["name"] for vm in machines(c) for p in pods_of(c, vm)]
    if pods:
        c.kubectl("delete", "pod", rnd.choice(pods), "--force", "--grace-period=0", "--wait=false")


def freeze_node(c, rnd):
    with frozen(c, rnd.choice(NODES)):
        if rnd.random() < 0.6:
            force_pod(c, rnd)
        time.sleep(rnd.uniform(1, 8))


def stop_etcd(c, rnd):
    etcd = part_pid(c, "etcd", NODES[0])
    os.kill(etcd, signal.SIGSTOP)
    time.sleep(rnd.uniform(1, 6))
    os.kill(etcd, signal.SIGCONT)


FAULTS = [kill_role("controller"), kill_role("api"), kill_role("operator"), kill_role("handler"), freeze_controller, restart_part("kubelet"),
          restart_part("containerd"), restart_part("apiserver"), kill_machine, force_pod, freeze_node, stop_etcd]


def machines(c):
    return ["soak-%d" % i for i in range(3)]


def check_pods(c):
    """At most one pod of each machine that has not ended and is not told to: asked of the API server at one moment."""
    found = {}
    for p in (c.maybe("pods", "-l", "kubevirt.io=virt-launcher") or {"items": []})["items"]:
        if p["status"].get("phase") not in ("Failed", "Succeeded") and not p["metadata"].get("deletionTimestamp"):
            found.setdefault(p["metadata"]["labels"].get("vmi.kubevirt.io/id"), []).append(p["metadata"]["name"])
    check(all(len(names) == 1 for names in found.values()), "one pod for each machine", found)


@case
def faults_at_random_lose_no_machine_and_run_none_twice(c):
    if c.outside:
        raise Skip("it kills what runs in pods: --roles pods")
    seconds = int(os.environ.get("VIREO_CHAOS_SECONDS") or (1800 if os.environ.get("VIREO_SOAK") else SOAK_SECONDS))
    seed = int(os.environ.get("VIREO_CHAOS_SEED") or random.randrange(1 << 32))
    rnd, done = random.Random(seed), []
    for i, vm in enumerate(machines(c)):
        c.apply(*claims(c, vm), plain(vm, vm, prefers=NODES[i % 2]))
    for vm in machines(c):
        c.running(vm, 120)
    with Observer(c) as o:
        def told():
            return "VIREO_CHAOS_SEED=%d: %s\n%s\n%s" % (seed, ", ".join(done), "".join(c.say(vm) for vm in machines(c)), c.role_logs())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = rnd.choice(FAULTS)
            done.append(fault.__name__)
            with contextlib.suppress(Failure): # the API server may be what was killed
                fault(c, rnd)
            time.sleep(rnd.uniform(0.5, 4))
            check_pods(c)
            o.check()
        until(240, "the cluster is whole", lambda: c.maybe("nodes") and all(node_ready(c, n) for n in NODES) and c.deployed(), 1, told)
        until(360, "all machines run", lambda: all(o.pid(vm) and c.phase(vm) == "Running" for vm in machines(c)), 1, told)
        o.check()
        check_pods(c)
        c.kubectl("delete", "vm", *machines(c), timeout=180)
        until(120, "nothing of them is left", lambda: not any(o.now.get(vm) for vm in machines(c)) and not [
            v for v in c.get("vmis")["items"] if v["metadata"]["name"].startswith("soak-")] and not any(pods_of(c, vm) for vm in machines(c)), 1, told)
    print("     seed %d: %d faults, %d looks, %d processes" % (seed, len(done), o.looks, sum(len(v) for v in o.ever.values())), flush=True)


@case
def the_machine_of_the_proof_has_written_it_down(c):
    if not c.maybe("vm", "proof"):
        raise Skip("it was not made")
    c.kubectl("delete", "vm", "proof", timeout=120)
    boots = never_two(c, "ledger")
    check(boots, "it has booted")
    print("     %d boots, %d seconds written" % (len(boots), sum(b[3] for b in boots)), flush=True)
