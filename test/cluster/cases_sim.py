"""Simulated nodes (`vireo sim`) beside the real one: for kube-scheduler, node controller and our roles they are nodes like others."""
import json
import os
import subprocess

from cases import collector
from cluster import HERE
from harness import check, until

ORDER = 70
case, CASES = collector()
N = 20


def machine(name):
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name, "namespace": "default"},
            "spec": {"runStrategy": "Always", "template": {"spec": {
                "nodeSelector": {"vireo.io/simulated": "true"}, "terminationGracePeriodSeconds": 0,
                "domain": {"cpu": {"cores": 1, "sockets": 1, "threads": 1}, "memory": {"guest": "64Mi"}, "machine": {"type": "q35"},
                           "devices": {"autoattachGraphicsDevice": False,
                                       "interfaces": [{"name": "default", "model": "virtio", "masquerade": {}}]}},
                "networks": [{"name": "default", "pod": {}}]}}}}


def phases(c):
    return [(v.get("status") or {}).get("phase") for v in c.get("vmis")["items"] if v["metadata"]["name"].startswith("simulated-")]


@case
def simulated_nodes_run_machines_and_are_gone_at_the_end(c):
    with open(c.dir + "/sim.log", "a", encoding="utf-8") as log:
        sim = subprocess.Popen([HERE + "/in", c.dir, c.build + "/vireo", "sim", "--kubeconfig", c.dir + "/admin.kubeconfig", "--nodes", "3",
                                "--prefix", "simulated-", "--remove"], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        until(60, "the simulated nodes are Ready", lambda: sum(
            any(x["type"] == "Ready" and x["status"] == "True" for x in n["status"]["conditions"])
            for n in c.get("nodes", "-l", "vireo.io/simulated=true")["items"]) == 3)
        c.apply(*[machine("simulated-%d" % i) for i in range(N)])
        until(180, "all machines run", lambda: phases(c).count("Running") == N, 1, lambda: json.dumps(phases(c)))
        events = c.kubectl("get", "events", "--field-selector", "involvedObject.name=simulated-0")
        check("this node is simulated" in events, "an Event of the VMI says what it is", events)
        c.kubectl("delete", "vm", *["simulated-%d" % i for i in range(N)], timeout=180)
        until(60, "no machine and no pod is left", lambda: not phases(c) and not c.get("pods", "--field-selector", "spec.nodeName=simulated-0")["items"], 1)
    finally:
        sim.terminate()
        sim.wait(20)
    check(sim.returncode == 0, "it ends well", sim.returncode)
    check(not c.get("nodes", "-l", "vireo.io/simulated=true")["items"], "with --remove no node is left")
    check(os.path.getsize(c.dir + "/sim.log") > 0, "and it has said what it did")
