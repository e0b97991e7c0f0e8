"""The node agents in their pods: what they need of a node, whom they serve, what they tell the kubelet, and who may be away for a while."""
import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import time

from cases import collector
from cluster import HERE, NODE, NODES, machine, output
from harness import Failure, check, until

ORDER = 60
case, CASES = collector()

PODS = True # of what the operator has installed
SLOTS = ("1000", "1k") # as a quantity is written
CLIENT = "kubevirt.io:system:client:virt-handler"


def certificates(c):
    """The operator's authority, virt-api's certificate as a client of agents, and one of the same authority for somebody else."""
    d = c.dir + "/handler-pki"
    if os.path.exists(d + "/other.crt"):
        return d
    os.makedirs(d, exist_ok=True)
    for name, secret in (("ca", "kubevirt-ca"), ("client", "kubevirt-virt-handler-certs")):
        data = c.get("secret", "-n", "kubevirt", secret)["data"]
        for end in ("crt", "key"):
            with open("%s/%s.%s" % (d, name, end), "wb") as f:
                f.write(base64.b64decode(data["tls." + end]))
    with open(d + "/ext", "w", encoding="utf-8") as f:
        f.write("extendedKeyUsage=clientAuth\n")
    output(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", d + "/other.key",
            "-subj", "/CN=kubevirt.io:system:client:virt-api", "-out", d + "/request"])
    output(["openssl", "x509", "-req", "-in", d + "/request", "-CA", d + "/ca.crt", "-CAkey", d + "/ca.key", "-CAcreateserial",
            "-days", "2", "-out", d + "/other.crt", "-extfile", d + "/ext"])
    return d


def text_of(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def agent(c, node=NODE):
    """The agent's pod on a node, or None while there is not exactly one that lives."""
    pods = [p for p in c.get("pods", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler")["items"]
            if p["spec"].get("nodeName") == node and not p["metadata"].get("deletionTimestamp")]
    return pods[0] if len(pods) == 1 else None


def is_ready(c, node=NODE):
    pod = agent(c, node)
    return pod and any(x["type"] == "Ready" and x["status"] == "True" for x in pod["status"].get("conditions", []))


def pid_of(c, node=NODE):
    """The agent's process, by the pod's UID in its cgroup."""
    uid = agent(c, node)["metadata"]["uid"]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if uid in text_of("/proc/%s/cgroup" % pid) and "handler" in text_of("/proc/%s/cmdline" % pid).split("\0"):
                return int(pid)
    return None


def words(c):
    return "\n".join([c.kubectl("get", "pods", "-A", "-o", "wide"), c.kubectl("get", "events", "-A")[-3000:],
                      c.kubectl("logs", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler", "--tail=40")])


def ask(c, path, who=None, method="GET", node=NODE):
    """(status, body) of the agent's own server."""
    d = certificates(c) + "/"
    ip = agent(c, node)["status"]["podIP"]
    host = "virt-handler.kubevirt.svc:8443"
    out = c.inside("sh", "-c", "exec curl -s -m 20 -o - -w '\\n%{http_code}' \"$@\" || true", "sh", "--cacert", d + "ca.crt", "--connect-to",
                   "%s:%s:8443" % (host, ip), "-X", method, *(["--cert", "%s%s.crt" % (d, who), "--key", "%s%s.key" % (d, who)] if who else []),
                   "https://%s%s" % (host, path))
    body, _, code = out.rpartition("\n")
    return int(code), body


@case
def the_node_agents_are_ready_on_both_nodes(c):
    for node in NODES:
        until(120, "the agent of %s is ready" % node, lambda: is_ready(c, node), 0.5, lambda: words(c))
    subject = output(["openssl", "x509", "-noout", "-subject", "-in", certificates(c) + "/client.crt"])
    check(CLIENT in subject, "virt-api has a certificate for them", subject)


@case
def the_kubelet_offers_devices_and_the_node_says_so(c):
    for node in NODES:
        def offered():
            n = c.get("node", node)
            got = n["status"]["allocatable"]
            # This machine's /dev/kvm opens and hangs guests, or it has none; vhost's modules may be absent: then nothing is healthy.
            return got.get("devices.kubevirt.io/tun") in SLOTS and all("devices.kubevirt.io/" + d in got for d in ("kvm", "vhost-net", "vhost-vsock"))
        until(60, "devices of " + node, offered, 0.5, lambda: json.dumps(c.get("node", node)["status"]["allocatable"]))
        n = c.get("node", node)
        check(n["metadata"]["labels"].get("kubevirt.io/schedulable") == "true", "machines may be scheduled", n["metadata"]["labels"])
        check(n["metadata"]["labels"].get("vireo.io/vmm-qemu") == "true", "QEMU of the image is found", n["metadata"]["labels"])
        check("kubevirt.io/heartbeat" in n["metadata"]["annotations"], "a heartbeat")
        kvm, works = n["status"]["allocatable"]["devices.kubevirt.io/kvm"], n["metadata"]["labels"].get("vireo.io/kvm") == "works"
        check((kvm in SLOTS) == works, "KVM is offered where it works", kvm, n["metadata"]["labels"])


@case
def a_node_whose_kvm_hangs_says_why_pods_wait_for_it(c):
    if c.get("node", NODE)["metadata"]["labels"].get("vireo.io/kvm") in ("works", "absent"):
        return
    until(30, "an Event", lambda: any(e["reason"] == "KVMUnusable" and e["involvedObject"]["name"] == NODE for e in c.get("events", "-A")["items"]),
          0.5, lambda: c.kubectl("get", "events", "-A"))


@case
def the_agent_keeps_only_the_capabilities_that_it_needs(c):
    status = dict(line.split(":\t", 1) for line in text_of("/proc/%d/status" % pid_of(c)).splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        bits = {i for i in range(64) if int(status[name], 16) >> i & 1}
        check(bits <= {0, 1, 5, 6, 7, 10, 12, 13, 19, 21}, name, sorted(bits))
    check(status["NoNewPrivs"] == "1", "no new privileges")


@case
def an_agent_without_machines_is_small(c):
    """How much of the libraries is resident depends on what the kernel reads ahead, so there is room for it."""
    def held(what):
        return int(re.search(what + r":\s+(\d+)", text_of("/proc/%d/status" % pid_of(c))).group(1))
    until(60, "at most 4 MiB of its own, and 10 MB with its libraries",
          lambda: held("RssAnon") <= 4096 and held("VmRSS") <= 10 * 1000 * 1000 / 1024, 1, lambda: text_of("/proc/%d/status" % pid_of(c)))
    print("     virt-handler: %.1f MB resident, %.1f MB of its own" % (held("VmRSS") / 976.6, held("RssAnon") / 976.6), flush=True)


@case
def a_machine_runs_by_an_agent_in_a_pod(c):
    c.volume("podded")
    c.apply(machine("podded"))
    c.running("podded")
    until(300, "the guest's login prompt", lambda: "Vireo tiny guest podded" in c.log_of("podded"), 1, lambda: c.say("podded"))
    check("network: eth0 10.0.2.2/24" in c.log_of("podded"), "the guest has its network", c.log_of("podded"))
    limits = c.pod_of("podded")["spec"]["containers"][0]["resources"]["limits"]
    check(limits.get("devices.kubevirt.io/tun") == "1", "its pod has asked for a device", limits)


@case
def only_virt_apis_certificate_is_served(c):
    path = "/v1/namespaces/default/virtualmachineinstances/podded/"
    for probe in ("/healthz", "/readyz", "/metrics"):
        check(ask(c, probe)[0] == 200, probe + " needs no certificate")
    for who in (None, "other"):
        code, body = ask(c, path + "pause", who, "PUT")
        check(code == 403 and "only virt-api is served" in body, "refused: %s" % who, code, body)
    code, body = ask(c, path + "pause", "client", "PUT")
    check(code == 200, "virt-api's is served", code, body)

    def paused():
        return any(x["type"] == "Paused" and x["status"] == "True" for x in c.get("vmi", "podded")["status"].get("conditions", []))
    until(30, "the machine is paused", paused, 0.5, lambda: c.say("podded"))
    check(ask(c, path + "unpause", "client", "PUT")[0] == 200, "and goes on")
    until(30, "the machine runs", lambda: not paused(), 0.5, lambda: c.say("podded"))
    check(ask(c, path.replace("podded", "nobody") + "pause", "client", "PUT")[0] == 404, "a machine that is not here")


@case
def a_kubelet_that_starts_again_is_told_of_the_devices_again(c):
    before = c.qemus()["podded"]
    c.stop_part("kubelet", kill=True)
    time.sleep(1)
    c.start_part("kubelet")

    def taken():
        with contextlib.suppress(Failure): # the kubelet is who reads logs
            return c.kubectl("logs", "-n", "kubevirt", agent(c)["metadata"]["name"], "--since=60s").rfind("has taken them") >= 0
        return False
    until(90, "the kubelet has the devices", taken, 1, lambda: words(c))
    until(90, "the node offers them", lambda: c.get("node", NODE)["status"]["allocatable"].get("devices.kubevirt.io/tun") in SLOTS, 1)
    until(60, "machines may be scheduled", lambda: c.get("node", NODE)["metadata"]["labels"].get("kubevirt.io/schedulable") == "true", 1)
    check(c.qemus().get("podded") == before and c.phase("podded") == "Running", "the machine has not noticed")


@case
def a_containerd_that_starts_again_ends_no_machine(c):
    before = c.qemus()["podded"]
    c.stop_part("containerd", kill=True)
    time.sleep(1)
    c.start_part("containerd")
    until(120, "the agent is ready", lambda: is_ready(c), 1, lambda: words(c))
    check(c.qemus().get("podded") == before and c.phase("podded") == "Running", "the machine has not noticed")


@case
def a_new_agent_finds_the_machine_that_runs(c):
    before, old = c.qemus()["podded"], agent(c)["metadata"]["name"]
    c.kubectl("delete", "pod", "-n", "kubevirt", old, "--wait=false")
    until(120, "another agent is ready", lambda: is_ready(c) and agent(c)["metadata"]["name"] != old, 0.5, lambda: words(c))
    check(c.qemus().get("podded") == before and c.phase("podded") == "Running", "the machine has not noticed")
    until(30, "it answers for it", lambda: ask(c, "/v1/namespaces/default/virtualmachineinstances/podded/stats", "client")[0] == 200, 0.5,
          lambda: words(c))


@case
def what_happened_while_the_agent_was_away_is_caught_up(c):
    agents, before = pid_of(c), c.qemus()["podded"]
    os.kill(agents, signal.SIGSTOP)
    try:
        os.kill(before, signal.SIGKILL)
        time.sleep(3)
        check(not c.qemus().get("podded"), "its process was killed, and nobody starts it twice")
    finally:
        os.kill(agents, signal.SIGKILL) # what it had not read goes with it: the next one has to look
    until(120, "another agent", lambda: pid_of(c) not in (None, agents) and is_ready(c), 0.5, lambda: words(c))
    until(240, "it was started again", lambda: c.phase("podded") == "Running" and c.qemus().get("podded") not in (None, before), 1,
          lambda: c.say("podded"))
    until(60, "one pod", lambda: len([p for p in c.get("pods", "-l", "vmi.kubevirt.io/id=podded")["items"]
                                      if p["status"]["phase"] == "Running"]) == 1, 1)


@case
def a_launcher_that_is_evicted_asks_its_guest_to_shut_down(c):
    until(300, "the guest's login prompt", lambda: "Vireo tiny guest podded" in c.log_of("podded"), 1, lambda: c.say("podded"))
    pod = c.pod_of("podded")["metadata"]["name"]
    c.kubectl("patch", "vm", "podded", "--type=merge", "-p", '{"spec":{"runStrategy":"Once"}}')
    # Followed: of a pod that is being deleted the kubelet takes the log away at once.
    with open(c.dir + "/evicted.log", "w+", encoding="utf-8", errors="replace") as told, \
            subprocess.Popen([HERE + "/in", c.dir, "kubectl", "logs", "-f", pod], stdout=told, stderr=told, stdin=subprocess.DEVNULL) as follow:
        try:
            until(30, "its log is followed", lambda: os.fstat(told.fileno()).st_size, 0.2)
            c.kubectl("delete", "pod", pod, "--wait=false")
            until(90, "the guest is gone", lambda: "podded" not in c.qemus(), 0.3, lambda: c.say("podded"))
            follow.wait(60)
        finally:
            follow.kill()
        told.seek(0)
        log = told.read()
    check("reboot: Power down" in log or "shutdown" in log or "System halted" in log, "it went by itself", log[-1500:])
    until(60, "the machine has ended well", lambda: c.phase("podded") in ("Succeeded", None), 0.5, lambda: c.say("podded"))


@case
def machines_of_the_agents_leave_nothing(c):
    c.kubectl("delete", "vm", "podded", timeout=120)
    until(60, "no pod and no process is left", lambda: not c.pod_of("podded") and "podded" not in c.qemus(), 0.5)
