"""Another version takes the place of this one, and this one of the other, under machines that run: none of them notices.

The other version is this build under another name: in a copy of the programs the version's text is another one of the same length, so images,
pods and processes are others, and each says who it is."""
import functools
import json
import os
import re
import shutil
import socket
import threading
import time

from backend import ClusterServer
from cases import collector
from cluster import NODES, ROOT, machine, output
from harness import Failure, Skip, check, until

LONG = True
ORDER = 92 # behind those who count machines, before the operator is taken away
collect, CASES = collector()
NS, OPERATOR = "kubevirt", ROOT + "/deploy/vireo-operator.yaml"
IMAGES = {"vireo": "docker.io/vireo/vireo", "launcher": "docker.io/vireo/launcher"}


def case(fn):
    @functools.wraps(fn)
    def in_pods(c):
        if c.outside:
            raise Skip("nothing was installed by an operator: --roles pods")
        fn(c)
    return collect(in_pods)


# --- two versions ---------------------------------------------------------------------------------------------------------------

def version():
    with open(ROOT + "/meson.build", encoding="utf-8") as f:
        return re.search(r"^ *version: '(.*)',$", f.read(), re.M).group(1)


def other():
    """Newer, and written as long."""
    v = version()
    return v[:-1] + ("8" if v[-1] == "9" else chr(ord(v[-1]) + 1))


def load_other(c):
    """The images of the other version, as docker.io/vireo/NAME:vOTHER on both nodes; the present ones also as :vVERSION."""
    build, (old, new) = c.dir + "/other-build", (version().encode(), other().encode())
    os.makedirs(build, exist_ok=True)
    for name in ("vireo", "vireo-launcher", "container-disk"):
        with open(os.path.realpath(c.build + "/" + name), "rb") as f:
            data = f.read()
        check(name == "container-disk" or old in data, name + " says its version")
        with open(build + "/" + name, "wb") as f:
            f.write(data.replace(old, new))
        os.chmod(build + "/" + name, 0o755)
    said = output([build + "/vireo", "version"])
    check(other() in said, "the other version says so", said)
    for name, image in IMAGES.items():
        archive = "%s/%s.tar" % (build, name)
        output([ROOT + "/deploy/image", name, archive, build], 300)
        c.tool("load", c.dir, "other/" + name, archive, timeout=240)
        for node in NODES:
            ctr = ["ctr", "-a", (c.dir if node == NODES[0] else c.dir + "/" + node) + "/run/containerd.sock", "-n", "k8s.io", "images", "tag", "--force"]
            output(ctr + ["docker.io/vireo/other/%s:latest" % name, "%s:v%s" % (image, other())])
            output(ctr + [image + ":latest", "%s:v%s" % (image, version())])
    shutil.rmtree(build)


def manifest(tag):
    """deploy/vireo-operator.yaml as a release has it: with images of its version."""
    with open(OPERATOR, encoding="utf-8") as f:
        return re.sub(r"(docker\.io/vireo/(?:vireo|launcher)):latest", r"\1:" + tag, f.read())


# --- what goes on meanwhile -------------------------------------------------------------------------------------------------------

class Asker(threading.Thread):
    """The same question again and again, every 50 ms if it can be: how many answers were wrong, and the longest time without a right one."""

    def __init__(self, what, ask, every=0.05):
        super().__init__(daemon=True)
        self.what, self.ask, self.every, self.stopping = what, ask, every, threading.Event()
        self.asked, self.wrong, self.slowest, self.gap = 0, [], 0.0, 0.0

    def run(self):
        good = time.monotonic()
        while not self.stopping.is_set():
            begun = time.monotonic()
            try:
                bad = self.ask()
            except (OSError, ValueError, EOFError, Failure) as e:
                bad = repr(e)
            now = time.monotonic()
            self.asked, self.slowest = self.asked + 1, max(self.slowest, now - begun)
            if bad:
                self.wrong.append(str(bad)[-600:])
            else:
                self.gap, good = max(self.gap, now - good), now
            self.stopping.wait(max(0.0, self.every - (now - begun)))
        self.gap = max(self.gap, time.monotonic() - good)

    def said(self):
        return "%s: %d asked, %d wrong, longest without an answer %.2f s, slowest %.2f s" % (self.what, self.asked, len(self.wrong), self.gap, self.slowest)


class Watch:
    """Asks through the API server for as long as its block takes, and says how that went."""

    def __init__(self, c):
        server = ClusterServer(c)
        vm = machine("dry", root={"name": "root", "emptyDisk": {"capacity": "32Mi"}})

        def expect(status, *request):
            got, text = server.request(*request, raw=True)
            return None if got == status else "%d %s" % (got, text)
        base = "/apis/subresources.kubevirt.io/v1"
        self.askers = [
            Asker("subresources", lambda: expect(200, "GET", base + "/version")),
            Asker("webhooks", lambda: expect(201, "POST", "/apis/kubevirt.io/v1/namespaces/default/virtualmachines?dryRun=All", json.dumps(vm))),
            Asker("consoles, from the node agent", lambda: agent(server), 0.25)]

    def __enter__(self):
        for a in self.askers:
            a.start()
        return {a.what: a for a in self.askers}

    def __exit__(self, *_):
        for a in self.askers:
            a.stopping.set()
        for a in self.askers:
            a.join()
            print("     " + a.said(), flush=True)
            for text in sorted(set(a.wrong))[:3]:
                print("       %d × %s" % (a.wrong.count(text), text), flush=True)


def agent(server):
    """What only the agent of the machine's node can give: the stream of a console."""
    with server.console("holds"):
        return None


class Echo:
    """A connection through masquerade to `nc` in the guest, which stays open: what goes in comes back."""

    def __init__(self, ip, port):
        self.s = socket.create_connection((ip, port), timeout=20)
        self.n = 0

    def says(self):
        self.n += 1
        line = b"line %d\n" % self.n
        self.s.sendall(line)
        got = b""
        while not got.endswith(b"\n"):
            data = self.s.recv(100)
            check(data, "the connection was closed")
            got += data
        check(got == line, "what went in came back", got, line)


NAMES = ("keeps", "disks", "holds")


def facts(c):
    """What of machines would change if they were touched."""
    qemus, found = c.qemus(), {}
    for name in NAMES:
        vmi, pod = c.get("vmi", name), c.pod_of(name)
        with open("/proc/%d/stat" % qemus[name], encoding="ascii") as f:
            started = f.read().rsplit(")", 1)[1].split()[19]
        found[name] = {"qemu": (qemus[name], started), "vmi": vmi["metadata"]["uid"], "phase": vmi["status"]["phase"],
                       "node": vmi["status"]["nodeName"], "migration": vmi["status"].get("migrationState"), "pod": pod["metadata"]["uid"],
                       "image": [s["imageID"] for s in pod["status"]["containerStatuses"]],
                       "restarts": [s["restartCount"] for s in pod["status"]["containerStatuses"]],
                       "ready": {x["type"]: x["status"] for x in vmi["status"]["conditions"]}.get("Ready"),
                       "vm": c.get("vm", name)["status"].get("printableStatus")}
    return found


def kubevirt(c):
    return c.maybe("kubevirt", "kubevirt", "-n", NS) or {}


def conditions(c):
    return {x["type"]: x for x in kubevirt(c).get("status", {}).get("conditions", [])}


def deployed(c, tag, seconds=240):
    def there():
        s = kubevirt(c).get("status", {})
        return s.get("observedKubeVirtVersion") == tag and s.get("phase") == "Deployed" and s["observedDeploymentID"] == s["targetDeploymentID"] \
            and conditions(c).get("Progressing", {}).get("status") == "False"
    until(seconds, "version %s is Deployed" % tag, there, 0.5, c.role_logs)


def images_are(c, tag):
    """Every process of ours that is not a machine's runs from the images of one version."""
    for what in ("deployment/virt-api", "deployment/virt-controller", "daemonset/virt-handler"):
        o = c.get(what, "-n", NS)
        image = o["spec"]["template"]["spec"]["containers"][0]["image"]
        check(image.endswith(":" + tag), what + " is of that version", image)
    pods = [p for p in c.get("pods", "-n", NS)["items"] if not p["metadata"].get("deletionTimestamp")]
    check(all(p["spec"]["containers"][0]["image"].endswith(":" + tag) or p["metadata"]["labels"]["kubevirt.io"] == "virt-operator" for p in pods),
          "all pods are of that version", [(p["metadata"]["name"], p["spec"]["containers"][0]["image"]) for p in pods])


SAME, STATE = [None], {}


def untouched(c):
    now = facts(c)
    for name in NAMES:
        check(now[name] == SAME[0][name], name + " is as it was", SAME[0][name], now[name])
    STATE["echo"].says()


# --- cases ------------------------------------------------------------------------------------------------------------------------

@case
def machines_of_several_kinds_run_before_an_upgrade(c):
    load = threading.Thread(target=load_other, args=(c,))
    load.start()
    try:
        c.tool("load", c.dir, "tiny", c.guest + "/tiny.tar", timeout=120)
        c.volume("keeps")
        c.apply(machine("keeps"), machine("holds", binding="bridge", node=NODES[1], root={"name": "root", "emptyDisk": {"capacity": "32Mi"}}),
                machine("disks", node=NODES[1], root={"name": "root", "containerDisk": {"image": "docker.io/vireo/tiny:latest", "imagePullPolicy": "IfNotPresent"}}))
        for name in NAMES:
            c.running(name)
        with ClusterServer(c).console("keeps") as console:
            console.login(240)
            STATE["boot"] = console.run("cat /proc/sys/kernel/random/boot_id").strip()
            console.run("(nc -l -p 7 -e cat >/dev/null 2>&1 &)")
        STATE["echo"] = Echo(c.pod_of("keeps")["status"]["podIP"], 7)
        STATE["echo"].says()
        until(60, "all are ready", lambda: all(f["ready"] == "True" for f in facts(c).values()), 0.5)
        SAME[0] = facts(c)
    finally:
        load.join()


@case
def the_operators_new_manifest_brings_a_new_version_and_no_machine_notices(c):
    tag, seen = "v" + other(), set()

    def watching():
        while not done.is_set():
            s = kubevirt(c).get("status", {})
            seen.add((s.get("phase"), s.get("targetKubeVirtVersion"), conditions(c).get("Progressing", {}).get("reason")))
            done.wait(0.3)
    done = threading.Event()
    watcher = threading.Thread(target=watching)
    begun = time.monotonic()
    with Watch(c) as asked:
        watcher.start()
        try:
            c.kubectl("apply", "-f", "-", stdin=manifest(tag))
            deployed(c, tag)
            print("     deployed in %.0f s" % (time.monotonic() - begun), flush=True)
            time.sleep(6) # the last of virt-api's old processes ends
        finally:
            done.set()
            watcher.join()
    images_are(c, tag)
    untouched(c)
    seen = {s for s in seen if s[0]}
    check({(tag, "UpdateInProgress"), (tag, "AllComponentsReady")} <= {s[1:] for s in seen} and {s[0] for s in seen} == {"Deployed"},
          "its status told of the way, and that what was there works on", seen)
    check(not asked["subresources"].wrong and not asked["webhooks"].wrong, "the API was never away", [a.said() for a in asked.values()])


@case
def the_image_tag_leads_back_and_an_operator_killed_in_the_middle_does_not_matter(c):
    tag = "v" + version()
    with Watch(c) as asked:
        c.kubectl("patch", "kubevirt", "kubevirt", "-n", NS, "--type=merge", "-p", json.dumps({"spec": {"imageTag": tag}}))
        until(60, "it has begun", lambda: conditions(c).get("Progressing", {}).get("status") == "True", 0.2)
        time.sleep(2)
        c.kill("operator")
        deployed(c, tag)
        time.sleep(6)
    images_are(c, tag)
    untouched(c)
    check(not asked["subresources"].wrong and not asked["webhooks"].wrong, "the API was never away", [a.said() for a in asked.values()])


@case
def the_old_operator_takes_over_and_machines_end_as_they_are_told(c):
    with ClusterServer(c).console("keeps") as console:
        console.login(120)
        check(console.run("cat /proc/sys/kernel/random/boot_id").strip() == STATE["boot"], "the guest is in the same boot")
    STATE["echo"].s.close()
    c.kubectl("patch", "kubevirt", "kubevirt", "-n", NS, "--type=merge", "-p", '{"spec":{"imageTag":null}}')
    c.kubectl("apply", "-f", OPERATOR)
    deployed(c, "v" + version())
    images_are(c, "latest")
    c.kubectl("patch", "vm", "holds", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}')
    until(90, "an agent that found a machine shuts it down", lambda: c.phase("holds") is None and "holds" not in c.qemus(), 0.5, lambda: c.say("holds"))
    c.kubectl("delete", "vm", *NAMES, timeout=120)
