"""Kill -9 anything; restart, reboot and force-delete: nothing is lost, nothing runs twice."""
import base64
import contextlib
import glob
import http.client
import json
import os
import random
import tempfile
import time

import harness
from cases import collector, linux_vm, null_vm
from cases_guest import one, shell
from harness import Failure, Skip, check, run, until

case, CASES = collector(machine="it kills processes of `vireo serve`; test/cluster kills a cluster's own")


def uptime(t):
    """Of guest one, by a console opened now: so the console is reachable, too."""
    def probe():
        with contextlib.suppress(Failure, OSError):
            with shell(t, "one", 30) as c:
                return float(c.run("cut -d' ' -f1 /proc/uptime"))
    return until(40, "guest one answers on its console", probe, every=0.5)


def goes_on(t, what, act):
    """The guest's and every object's identity before and after."""
    one(t)
    s = t.server
    before, begun = uptime(t), time.monotonic()
    vmi, vm = s.get("vmi", "one"), s.get("vm", "one")
    qemu = s.qemu(s.pod_of("one")["metadata"]["uid"])
    s.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "witness"}, "data": {"at": str(begun)}})
    act(s)
    s.wait_ready()
    check(s.get("configmap", "witness")["data"]["at"] == str(begun), "what was written just before is lost")
    check(s.get("vm", "one")["metadata"]["uid"] == vm["metadata"]["uid"], "another VM object")
    after = uptime(t)
    check(after >= before + (time.monotonic() - begun) * 0.5, "the guest's uptime went from %.0f to %.0f s" % (before, after))
    check(s.qemu(s.pod_of("one")["metadata"]["uid"]) == qemu, "another QEMU after %s" % what)
    now = s.get("vmi", "one")
    check(now["metadata"]["uid"] == vmi["metadata"]["uid"] and now["status"]["phase"] == "Running", "the instance changed",
          s.describe("vmi", "one"))
    # And it is governed, not only left alone.
    s.subresource("vmi", "one", "pause")
    s.wait_status("one", "Paused")
    s.subresource("vmi", "one", "unpause")
    s.wait_status("one", "Running")
    s.delete("configmap", "witness")


def killed_child(verb):
    def act(s):
        pid = until(30, verb + " runs", lambda: s.child(verb))
        harness.kill(pid)
        until(60, verb + " runs anew", lambda: s.child(verb) not in (None, pid))
    return act


@case
def the_control_process_killed_nothing_is_lost_and_guests_go_on(t):
    goes_on(t, "kill -9 of control", killed_child("control"))


@case
def the_node_process_killed_guests_go_on_and_are_governed_again(t):
    goes_on(t, "kill -9 of node", killed_child("node"))


@case
def the_supervisor_killed_guests_go_on_and_the_next_serve_adopts_them(t):
    def act(s):
        control, node = s.child("control"), s.child("node")
        s.kill()
        until(30, "its processes end with it", lambda: not harness.alive(control) and not harness.alive(node))
        s.start()
    goes_on(t, "kill -9 of the supervisor", act)


@case
def vireo_stop_and_serve_is_an_upgrade_that_guests_do_not_notice(t):
    def act(s):
        s.stop(all_machines=False)
        check(s.qemu(), "vireo stop without --all ended VMs")
        s.start()
    goes_on(t, "stop and serve", act)


@case
def acknowledged_writes_survive_kills_of_the_control_process(t):
    s = t.server
    s.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counter"}, "data": {"n": "0"}})
    for n in range(1, 21 if os.environ.get("VIREO_SOAK") else 6):
        s.patch("configmap", "counter", {"data": {"n": str(n)}})
        harness.kill(until(60, "control runs", lambda: s.child("control")))
        s.wait_ready()
        check(s.get("configmap", "counter")["data"]["n"] == str(n), "an acknowledged write is lost")
    s.delete("configmap", "counter")


@case
def a_killed_launcher_ends_its_VM_Failed_and_never_leaves_two(t):
    s = t.server
    s.apply(null_vm("headless"))
    uid = s.wait_phase("headless")["metadata"]["uid"]
    pod = s.pod_of("headless")["metadata"]["uid"]
    qemu = s.qemu(pod)
    for pid in s.launchers(pod):
        harness.kill(pid)
    until(60, "its QEMU ends, too", lambda: not any(harness.alive(p) for p in qemu))
    s.wait_phase("headless", uid_not=uid)
    check(len([p for p in s.get("pod")["items"] if p["metadata"]["name"].startswith("virt-launcher-headless")
               and p["status"]["phase"] == "Running"]) == 1, "two launcher pods run")
    s.delete("vm", "headless")


@case
def delete_pod_force_never_makes_a_VM_run_twice(t):
    s = t.server
    s.apply(null_vm("forced", terminationGracePeriodSeconds=5))
    vmi = s.wait_phase("forced")
    pod = s.pod_of("forced")
    old = s.qemu(pod["metadata"]["uid"])
    s.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    end, most = time.monotonic() + 60, 0
    back = None
    mine = {pod["metadata"]["uid"]}
    while time.monotonic() < end and not back:
        for p in s.get("pod")["items"]:
            if p["metadata"]["name"].startswith("virt-launcher-forced"):
                mine.add(p["metadata"]["uid"])
        running = [q for u in mine for q in s.qemu(u)]
        most = max(most, len(running))
        now = s.get("vmi", "forced")
        if now and now["metadata"]["uid"] != vmi["metadata"]["uid"] and now.get("status", {}).get("phase") == "Running":
            back = now
        time.sleep(0.05)
    check(most == 1, "%d QEMUs of one VM at a time" % most)
    check(back, "the VM did not come back", s.describe("vm", "forced"))
    check(not any(harness.alive(p) for p in old), "the old QEMU lives")
    s.delete("vm", "forced")


@case
def a_claim_of_one_writer_is_not_given_to_two_VMs_at_once(t):
    s = t.server
    claim = s.claim("single", 32)[0]
    volume = {"disks": [{"name": "d", "disk": {"bus": "virtio"}}]}, [{"name": "d", "persistentVolumeClaim": {"claimName": "single"}}]
    vms = []
    for name in ("writer-a", "writer-b"):
        vm = null_vm(name)
        vm["spec"]["template"]["spec"]["domain"]["devices"] = volume[0]
        vm["spec"]["template"]["spec"]["volumes"] = volume[1]
        vms.append(vm)
    s.apply(claim, vms[0])
    s.wait_phase("writer-a")
    s.apply(vms[1])
    time.sleep(4)
    both = [n for n in ("writer-a", "writer-b") if s.phase(n) == "Running"]
    # One machine: ReadWriteOnce lets two pods of a node share it, as upstream; then QEMU's image lock must hold.
    check(both == ["writer-a"], "two VMs write one disk", s.describe("vmi", "writer-b"))
    events = [e["message"] for n in ["writer-b"] + [p["metadata"]["name"] for p in s.get("pod")["items"]] for e in s.events(n) if e["type"] == "Warning"]
    check(events, "no Event says why the second does not start", s.describe("vmi", "writer-b"))
    s.delete("vm", "writer-a")
    s.wait_phase("writer-b", seconds=90)
    s.delete("vm", "writer-b")
    s.delete("pvc", "single")


@case
def random_kills_while_VMs_come_and_go_lose_nothing_and_run_nothing_twice(t):
    """Twenty seconds of it; in make soak ten minutes. The seed is told, so a failure can be had again."""
    seed = int(os.environ.get("VIREO_SEED", time.time_ns() % 100000))
    dice, seconds = random.Random(seed), 600 if os.environ.get("VIREO_SOAK") else 20
    names, wanted = ["dice-%d" % n for n in range(4)], {}
    with t.own_server("dice") as s:
        s.start()

        def patiently(act):
            """What a client does whose server is away for a moment."""
            def probe():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    act()
                    return True
            until(60, "the API answers (seed %d)" % seed, probe, explain=s.log_tail)

        def twice():
            slots = {}
            for pid in s.qemu():
                args = harness.proc_text(pid, "cmdline")
                name = next((n for n in names if "default_" + n in args or "default/" + n in args), None)
                slots.setdefault(name or pid, []).append(pid)
            return {k: v for k, v in slots.items() if len(v) > 1}
        for n in names:
            s.apply(null_vm(n, strategy="Halted", memory="16Mi"))
            wanted[n] = "Halted"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for n in dice.sample(names, 2):
                wanted[n] = dice.choice(["Always", "Always", "Halted"])
                patiently(lambda n=n: s.patch("vm", n, {"spec": {"runStrategy": wanted[n]}}))
            time.sleep(dice.random() * 0.6)
            victim = dice.choice(["control", "node", "serve", "launcher", "qemu", "nobody"])
            if victim in ("control", "node"):
                pid = s.child(victim)
                if pid:
                    harness.kill(pid)
            elif victim == "serve":
                orphans = [p for p in (s.child("control"), s.child("node")) if p]
                s.kill()
                until(30, "its processes end with it", lambda: not any(harness.alive(p) for p in orphans), every=0.01)
                s.start(ready=False)
            elif victim != "nobody":
                for pid in dice.sample(found := s.launchers() if victim == "launcher" else s.qemu(), k=min(1, len(found))):
                    harness.kill(pid)
            time.sleep(dice.random() * 0.6)
            check(not twice(), "two QEMUs of one VM (seed %d)" % seed, twice())
        s.wait_ready(30)
        for n in names:
            s.wait_status(n, "Running" if wanted[n] == "Always" else "Stopped", 400 if os.environ.get("VIREO_SOAK") else 90)
        running = sum(1 for n in names if wanted[n] == "Always")
        until(60, "%d QEMUs run (seed %d)" % (running, seed), lambda: len(s.qemu()) == running, explain=s.log_tail)


def remove_cgroups(s):
    for pattern in ("/sys/fs/cgroup/*%s*", "/sys/fs/cgroup/*/*%s*"):
        for top in glob.glob(pattern % s.name):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


@case
def after_a_reboot_of_the_host_old_instances_end_run_strategies_act_and_claims_are_kept(t):
    """Another boot id, all processes gone, bridge, table and cgroups gone: what a host's reboot leaves is the directory."""
    with t.own_server("reboot") as s:
        s.start()
        s.apply(*s.claim("keep", 32), linux_vm("always", volumes=[("keep", {"persistentVolumeClaim": {"claimName": "keep"}})]),
                null_vm("once", strategy="Once"), null_vm("manual", strategy="Manual"), null_vm("rerun", strategy="RerunOnFailure"))
        s.subresource("vm", "manual", "start")
        uids = {n: s.wait_phase(n)["metadata"]["uid"] for n in ("always", "once", "manual", "rerun")}
        with s.console("always") as c:
            c.login()
            c.run("mke2fs /dev/vda >/dev/null 2>&1; mount /dev/vda /mnt && echo kept >/mnt/f && sync && umount /mnt && sync")
        # The power goes.
        for pid in s.qemu() + s.launchers():
            harness.kill(pid)
        s.kill()
        s.note_links()
        for pid in harness.pids():
            if s.name in harness.proc_text(pid, "cgroup"):
                harness.kill(pid)
        time.sleep(0.5)
        for link in s.links | {s.bridge}:
            run(["ip", "link", "del", link])
        for family in ("inet", "ip"):
            run(["nft", "delete", "table", family, s.bridge])
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            for mount in [line.split()[4] for line in f]:
                if mount.startswith(s.dir + "/"):
                    run(["umount", "-l", mount])
        remove_cgroups(s)
        records = glob.glob(s.dir + "/pods/*/sandbox.json")
        check(len(records) == 4, "%d records of sandboxes for 4 VMs" % len(records))
        for path in records:
            with open(path, encoding="utf-8") as f:
                record = json.load(f)
            record["bootID"] = "00000000-0000-4000-8000-000000000000"
            with open(path, "w", encoding="utf-8") as f:
                json.dump(record, f)
        s.start()
        s.wait_phase("always", seconds=60, uid_not=uids["always"])
        s.wait_phase("rerun", seconds=60, uid_not=uids["rerun"])
        for name in ("once", "manual"):
            s.wait_phase(name, "Failed")
            check(s.get("vmi", name)["metadata"]["uid"] == uids[name], name + " ran again")
        with s.console("always") as c:
            c.login(120)
            check(c.run("mount /dev/vda /mnt && cat /mnt/f") == "kept", "the file is lost")


@case
def VMs_are_in_cgroups_of_their_own_so_that_a_units_restart_does_not_reach_them(t):
    s = t.server
    s.apply(null_vm("apart"))
    s.wait_phase("apart")
    pod = s.pod_of("apart")["metadata"]["uid"]
    for pid in s.qemu(pod) + s.launchers(pod):
        # "5:pids:/vireo-<instance>/<pod>": every controller, and systemd's own hierarchy or version 2's.
        for line in harness.proc_text(pid, "cgroup").split("\n"):
            number, names, path = (line.split(":", 2) + ["", ""])[:3]
            if names in ("pids", "memory", "cpu,cpuacct", "name=systemd") or number == "0" and not os.path.exists("/sys/fs/cgroup/pids"):
                check(path.startswith("/vireo-%s/" % s.name), "cgroup %s of a VM's process" % line)
        check(harness.parent_of(pid) not in (s.supervisor(), s.child("control")), "a VM's process is the server's child")
    s.delete("vm", "apart")


def fill_disk(folder):
    """To the last byte: a file of one filesystem block is the least that is left."""
    for n in range(100):
        path = "%s/filler-%d" % (folder, n)
        if not os.path.exists(path):
            break
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as f:
        while True:
            f.write(b"\0" * 65536)
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as f:
        while True:
            f.write(b"\0" * 512)


@case
def a_full_disk_refuses_growth_at_once_and_serves_reads_and_deletions_across_restarts(t):
    folder = tempfile.mkdtemp(prefix="vireo-e2e-full-")
    if run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder]).returncode:
        os.rmdir(folder)
        raise Skip("no tmpfs can be mounted")
    configmaps = "/api/v1/namespaces/default/configmaps"

    def create(s, name, size=15000):
        return s.request("POST", configmaps, {"metadata": {"name": name}, "data": {"a": base64.b64encode(os.urandom(size)).decode()}})

    def answers(s, path, status):
        got, text = s.request("GET", path, raw=True)
        check(got == status, "%s: %d" % (path, got), text)
        return text
    try:
        with t.own_server("full", data_dir=folder + "/d") as s:
            s.start()
            for n in range(100):
                check(create(s, "before-%d" % n)[0] == 201, "a write while there is room")
            control = s.child("control")
            fill_disk(folder)
            for n in range(1000):
                status, answer = create(s, "more-%d" % n)
                if status != 201:
                    break
            check(status == 503 and "no space left" in answer["message"], "no write was refused for the full disk, or not clearly", answer)
            begun = time.monotonic()
            p = s.kubectl("create", "configmap", "refused", "--from-literal=a=" + "x" * 5000, ok=False)
            check(p.returncode != 0 and "no space left" in p.text, "kubectl create", p.text)
            check(time.monotonic() - begun < 8, "kubectl tries again and again for %.0f s" % (time.monotonic() - begun))
            # Not ready, and says why; but live, or whoever watches it would start it again and again.
            check("no space left" in answers(s, "/readyz", 500), "/readyz does not say why")
            answers(s, "/livez", 200)
            check(len(s.get("configmap")["items"]) >= 100, "reads fail, too")
            # It starts on a disk that has not a byte left, after a stop and after a kill.
            for end in (lambda: s.stop(all_machines=False), s.kill):
                end()
                fill_disk(folder)
                s.start(ready=False)
                until(60, "it serves reads", lambda: serves(s, configmaps + "/before-0"), explain=s.log_tail)
                until(30, "its log says that it serves on a full disk", lambda: "not ready: no space left" in s.log_text().split("stopped")[-1],
                      explain=s.log_tail)
                answers(s, "/livez", 200)
            begun, there = time.monotonic(), len(s.get("configmap")["items"])
            control = s.child("control")
            p = s.kubectl("delete", "configmap", "--all", timeout=60)
            check(p.text.count("deleted") == there, "kubectl delete --all", p.text[-500:])
            check(time.monotonic() - begun < 30, "deleting %d objects takes %.0f s" % (there, time.monotonic() - begun))
            check(len(s.get("configmap")["items"]) <= 1, "deleted objects are there")
            check(s.child("control") == control, "the control process was started again")
            for path in glob.glob(folder + "/filler-*"):
                os.unlink(path)
            s.wait_ready()
            check(create(s, "after")[0] == 201, "writes do not work again")
            check(s.child("control") == control, "the control process was started again")
    finally:
        run(["umount", "-l", folder])
        os.rmdir(folder)


def serves(s, path):
    with contextlib.suppress(OSError, http.client.HTTPException, Failure):
        return s.request("GET", path)[0] == 200
    return False
