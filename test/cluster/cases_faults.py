"""An API server that behaves badly (faults.py), between which and the controllers nothing may be lost or made twice. The machines run on
simulated nodes: what is tried is the controllers."""
import contextlib
import glob
import json
import os
import re
import subprocess
import sys
import time

from cases import collector
from cluster import HERE, NODE
from harness import Skip, check, until

ORDER = 70
case, CASES = collector()
PORT, MACHINES = 6444, 4


def start(c, name, *argv):
    with open("%s/%s.log" % (c.dir, name), "a", encoding="utf-8") as log:
        p = subprocess.Popen([HERE + "/on", c.dir, NODE, *argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    c.roles[name] = p
    with open("%s/run/%s.pid" % (c.dir, name), "w", encoding="utf-8") as f:
        f.write(str(p.pid))


def end(c, name):
    p = c.roles.pop(name, None)
    if p:
        p.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.wait(10)
        if p.poll() is None:
            p.kill()


def faulty_controller(c, name, *within):
    start(c, name, *within, c.build + "/vireo", "controller", "--kubeconfig", c.dir + "/faulty.kubeconfig", "--launcher-image",
          "docker.io/vireo/launcher:latest", "--debug")


def asked_for(c):
    """They wait for minutes, and `make check` has them by test/cluster/faults-alone."""
    if c.webhooks and not os.environ.get("VIREO_SOAK"):
        raise Skip("test/cluster/faults-alone runs it in less time; on a cluster with VIREO_SOAK=1")


def world(c):
    """Once: simulated nodes, the proxy, and in place of the controllers that work through no proxy one that does."""
    asked_for(c)
    if "faults" in c.roles:
        return
    with open(c.dir + "/faulty.kubeconfig", "w", encoding="utf-8") as f:
        f.write(c.controllers_kubeconfig("https://127.0.0.1:%d" % PORT))
    start(c, "sim", c.build + "/vireo", "sim", "--kubeconfig", c.dir + "/admin.kubeconfig", "--nodes", "2", *([] if c.webhooks else ["--agents-as", ""]))
    start(c, "faults", sys.executable, HERE + "/faults.py", c.dir + "/pki", str(PORT), str(getattr(c, "api_port", 6443)))
    until(60, "the proxy answers", lambda: faults(c) is not None, 0.5)
    for name in ("controller", "spare"):
        end(c, name)
    c.send_away("controller")
    faulty_controller(c, "faulty")
    until(60, "the simulated nodes are ready", lambda: sum(
        any(x["type"] == "Ready" and x["status"] == "True" for x in n["status"]["conditions"])
        for n in c.get("nodes")["items"] if n["metadata"]["name"].startswith("sim-")) == 2, 0.5)


def faults(c, *rules):
    """Orders these faults, and only these; without any, says what became of the last."""
    pki = c.dir + "/pki/"
    argv = ["curl", "-sf", "-m", "20", "--cacert", pki + "ca.crt", "https://127.0.0.1:%d/faults" % PORT]
    with contextlib.suppress(Exception):
        return json.loads(c.inside(*argv, *(["-X", "PUT", "-d", json.dumps(rules)] if rules else [])))
    return None


def machine(name):
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name, "namespace": "default"},
            "spec": {"runStrategy": "Always", "template": {"spec": {
                "terminationGracePeriodSeconds": 1, "nodeSelector": {"vireo.io/simulated": "true"},
                "domain": {"cpu": {"cores": 1, "sockets": 1, "threads": 1}, "memory": {"guest": "64Mi"}, "machine": {"type": "q35"},
                           "devices": {"interfaces": [{"name": "default", "model": "virtio", "masquerade": {}}]}},
                "networks": [{"name": "default", "pod": {}}]}}}}


def launchers(c):
    """{VM: UIDs of all launcher pods that its instance has had, since the watch began}"""
    with open(c.dir + "/pods.seen", encoding="utf-8") as f:
        found = {}
        for line in f.read().splitlines():
            if line.count(" ") == 1:
                vm, uid = line.split()
                found.setdefault(vm, set()).add(uid)
        return found


def start_under(c, name, seconds, *rules, then=None):
    """Machines are started while the API server does that; then it is well again, and all of them run, each with one pod."""
    world(c)
    names = ["%s-%d" % (name, i) for i in range(MACHINES)]
    start(c, "pods-" + name, "sh", "-c", "exec kubectl get pods -w -o 'jsonpath={.metadata.labels.vmi\\.kubevirt\\.io/id} {.metadata.uid}{\"\\n\"}' "
          ">>%s/pods.seen 2>/dev/null".replace("kubectl", os.environ["KUBECTL"], 1) % c.dir)
    try:
        faults(c, *rules)
        c.apply(*[machine(n) for n in names])
        time.sleep(seconds)
        if then:
            then()
        told = faults(c)
        faults(c, {"match": "^$", "do": "down"})
        for n in names:
            c.running(n, 120)
        time.sleep(1)
        seen = launchers(c)
        check(all(len(seen.get(n, ())) == 1 for n in names), "each has had one launcher pod", seen)
        check(all(r["applied"] for r in told["rules"]), "each fault was there", told["rules"])
        for n in names:
            vmi = c.get("vmi", n)
            check(len(vmi["status"]["activePods"]) == 1, "the instance knows one pod", vmi["status"])
        return told
    finally:
        end(c, "pods-" + name)
        c.kubectl("delete", "vm", "--wait=false", *names)
        until(60, "they are gone", lambda: not [v for v in c.get("vmis")["items"] if v["metadata"]["name"] in names], 0.5)


WRITE = "^(POST|PATCH|PUT|DELETE) (?!.*leases)"


@case
def machines_start_though_the_api_server_says_429_and_is_asked_again_when_it_wishes(c):
    told = start_under(c, "f429", 8, {"match": WRITE, "do": "status", "arg": 429, "chance": 0.6})
    writes = [s for s in told["seen"] if re.search(WRITE, s)]
    check(len(writes) < 200, "nobody hammers it", len(writes))


@case
def machines_start_though_the_api_server_says_500_and_503(c):
    start_under(c, "f500", 8, {"match": WRITE, "do": "status", "arg": 500, "chance": 0.4}, {"match": WRITE, "do": "status", "arg": 503, "chance": 0.3})


@case
def machines_start_though_the_api_server_is_slow(c):
    start_under(c, "fslow", 10, {"match": "^(GET|POST|PATCH) (?!.*leases)", "do": "slow", "arg": 2})


@case
def writes_whose_answers_are_lost_are_not_done_twice(c):
    start_under(c, "flost", 10, {"match": WRITE, "do": "lost", "chance": 0.5})


@case
def watches_that_are_cut_amid_an_event_go_on_where_they_were(c):
    world(c)
    before = faults(c, {"match": "^WATCH", "do": "cut"})
    check(before is not None, "the proxy takes orders")
    # The ones that are open are cut by their own end: a new controller's are all new.
    end(c, "faulty")
    faulty_controller(c, "faulty")
    told = start_under(c, "fcut", 10, {"match": "^WATCH", "do": "cut"})
    lists = [s for s in told["seen"] if re.search(r"^GET .*\?limit=", s)]
    check(len(lists) <= 14, "they are resumed, not listed again and again", lists)


@case
def watches_that_say_410_are_one_list_each_and_no_storm(c):
    def again():
        end(c, "faulty")
        faulty_controller(c, "faulty")
        time.sleep(20)
    told = start_under(c, "fgone", 1, {"match": "^WATCH", "do": "gone", "chance": 0.7}, then=again)
    lists = [s for s in told["seen"] if re.search(r"^GET .*\?limit=", s)]
    check(lists and len(lists) < 90, "lists come slower and slower", len(lists))


@case
def lists_that_break_off_are_taken_again(c):
    def again():
        end(c, "faulty")
        faulty_controller(c, "faulty")
        time.sleep(8)
    start_under(c, "fhalf", 1, {"match": r"^GET .*\?limit=", "do": "truncate", "times": 6}, then=again)


@case
def an_api_server_that_is_away_for_half_a_minute_costs_the_lease_and_nothing_else(c):
    start_under(c, "fdown", 30, {"match": ".", "do": "down"},
                then=lambda: faulty_controller(c, "faulty") if c.roles["faulty"].poll() is not None else None)


@case
def a_controller_that_was_stopped_for_longer_than_its_lease_does_not_write_on(c):
    world(c)
    until(40, "one leads", lambda: holder(c), 0.5)
    old, first = c.roles["faulty"], holder(c)
    pid = children(old.pid)
    os.kill(pid, 19)
    faulty_controller(c, "second")
    until(60, "the other one leads", lambda: holder(c) not in (None, "", first), 0.5)
    c.apply(machine("stale"))
    time.sleep(2)
    os.kill(pid, 18)
    until(20, "it ends by itself", lambda: old.poll() is not None, 0.5)
    check(old.poll() == 1, "and says that it has lost", old.poll())
    c.running("stale", 60)
    check(c.pod_of("stale") is not None, "one pod")
    c.roles["faulty"] = c.roles.pop("second")
    c.kubectl("delete", "vm", "--wait=false", "stale")


@case
def wall_clocks_that_jump_by_an_hour_cost_no_lease_and_no_machine(c):
    """That of the leader, and that of a controller which waits for the lease and would see it an hour old; forth, and back."""
    world(c)
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)
    if not library:
        raise Skip("no libfaketime here, which moves a process's clock")

    def set_clock(name, offset):
        with open("%s/%s.clock.new" % (c.dir, name), "w", encoding="utf-8") as f:
            f.write(offset)
        os.rename("%s/%s.clock.new" % (c.dir, name), "%s/%s.clock" % (c.dir, name))

    def start_with_clock(name):
        set_clock(name, "+0")
        faulty_controller(c, name, "env", "LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=%s/%s.clock" % (c.dir, name), "FAKETIME_NO_CACHE=1",
                          "FAKETIME_DONT_FAKE_MONOTONIC=1")

    def jump():
        for name, offset in (("faulty", "+3600"), ("second", "+3600"), ("faulty", "+0"), ("second", "+0")):
            set_clock(name, offset)
            time.sleep(4)
            renewed.append(c.get("lease", "-n", "kubevirt", "virt-controller")["spec"]["renewTime"])

    renewed = []
    end(c, "faulty")
    before = holder(c)
    start_with_clock("faulty")
    until(60, "it leads", lambda: holder(c) not in (None, "", before), 0.5)
    first = holder(c)
    start_with_clock("second")
    try:
        start_under(c, "fclock", 1, {"match": "leases", "do": "slow", "arg": 0}, then=jump)
        check(c.roles["faulty"].poll() is None and c.roles["second"].poll() is None, "nobody has ended")
        check(holder(c) == first, "who led leads", holder(c), first)
        check(max(renewed) > time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3000)), "its clock has jumped", renewed)
    finally:
        end(c, "second")
        end(c, "faulty")
        faulty_controller(c, "faulty")


def children(pid):
    """The role itself, beneath what entered the node's namespaces (which may have become it)."""
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="utf-8") as f:
        below = f.read().split()
    return children(int(below[0])) if below else pid


def holder(c):
    who = (c.maybe("lease", "-n", "kubevirt", "virt-controller") or {}).get("spec", {}).get("holderIdentity")
    return who


@case
def after_the_faults_the_controllers_work_through_no_proxy_again(c):
    asked_for(c)
    for name in ("faulty", "second", "faults"):
        end(c, name)
    end(c, "sim")
    for n in [x["metadata"]["name"] for x in c.get("nodes")["items"] if x["metadata"]["name"].startswith("sim-")]:
        c.kubectl("delete", "node", n)
    c.start("controller")
    until(40, "one leads", lambda: holder(c), 0.5)
