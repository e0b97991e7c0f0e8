"""What needs two nodes: machines on the second, drain, anti-affinity, a node that is lost and found."""
from cases import collector
from cluster import NODES, machine
from harness import check, until

ORDER = 20
case, CASES = collector()


def null(name, node=None, **more):
    """Firmware that finds nothing to boot."""
    o = machine(name, node=node or NODES[1])
    o["spec"]["runStrategy"] = "Always"
    spec = o["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"], spec["volumes"], spec["domain"]["devices"]["disks"] = 0, [], []
    spec["domain"]["memory"]["guest"] = "32Mi"
    if not node:
        del spec["nodeSelector"]
    spec.update(more)
    return o


def node_of(c, name):
    return ((c.maybe("vmi", name) or {}).get("status") or {}).get("nodeName")


@case
def a_machine_runs_on_the_second_node_and_the_first_reaches_it(c):
    c.apply(null("far", NODES[1]))
    c.running("far", 90)
    pod = c.pod_of("far")
    check(pod["spec"]["nodeName"] == NODES[1] and pod["status"]["podIP"].startswith("10.244.1."), "it is elsewhere", pod["status"])
    check(node_of(c, "far") == NODES[1] and c.get("vmi", "far")["metadata"]["labels"].get("kubevirt.io/nodeName") == NODES[1],
          "the VMI names its node", c.get("vmi", "far")["metadata"])


@case
def machines_that_keep_apart_are_on_two_nodes(c):
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"apart": "yes"}}, "topologyKey": "kubernetes.io/hostname"}]}}
    objects = [null(name, affinity=apart) for name in ("left", "right", "over")]
    for o in objects:
        o["spec"]["template"]["metadata"] = {"labels": {"apart": "yes"}}
    c.apply(*objects[:2])
    for name in ("left", "right"):
        c.running(name, 90)
    check({node_of(c, "left"), node_of(c, "right")} == set(NODES), "they share a node")
    c.apply(objects[2])
    until(60, "there is no third node, and the third says so",
          lambda: (c.get("vm", "over").get("status") or {}).get("printableStatus") == "ErrorUnschedulable", 0.5, lambda: c.say("over"))
    c.kubectl("delete", "vm", "left", "right", "over", timeout=120)


@case
def a_drained_nodes_machines_start_on_the_other(c):
    c.apply(null("moves", evictionStrategy="None", affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODES[1]]}]}}]}}))
    c.running("moves", 90)
    check(node_of(c, "moves") == NODES[1], "it prefers the second node")
    uid = c.get("vmi", "moves")["metadata"]["uid"]
    c.kubectl("delete", "vm", "far", timeout=120) # its selector would keep it from starting again
    try:
        c.kubectl("drain", NODES[1], "--ignore-daemonsets", "--delete-emptydir-data", "--force",
                  "--pod-selector=kubevirt.io=virt-launcher", "--timeout=100s", timeout=120)
        until(90, "it runs on the first node", lambda: node_of(c, "moves") == NODES[0] and c.phase("moves") == "Running", 0.5,
              lambda: c.say("moves"))
        check(c.get("vmi", "moves")["metadata"]["uid"] != uid, "another instance")
        check(len(c.qemus()) == len(c.get("vmis")["items"]), "one process for each instance", c.qemus())
    finally:
        c.kubectl("uncordon", NODES[1])
    c.kubectl("delete", "vm", "moves", timeout=120)


@case
def a_node_that_is_lost_and_found_keeps_its_machines_and_none_runs_twice(c):
    c.apply(null("lost", NODES[1]))
    c.running("lost", 90)
    uid, process = c.get("vmi", "lost")["metadata"]["uid"], c.qemus()["lost"]

    def ready():
        return [x["status"] for x in c.get("node", NODES[1])["status"]["conditions"] if x["type"] == "Ready"] == ["True"]
    c.inside("ip", "link", "set", NODES[1], "down")
    try:
        until(90, "the node is lost", lambda: not ready(), 1)
        check(len(c.get("pods", "-l", "vmi.kubevirt.io/id=lost")["items"]) == 1, "a second pod for the instance")
    finally:
        c.inside("ip", "link", "set", NODES[1], "up")
    until(90, "the node is back", ready, 1)
    until(60, "the machine is still Running", lambda: c.phase("lost") == "Running", 1, lambda: c.say("lost"))
    check(c.get("vmi", "lost")["metadata"]["uid"] == uid and c.qemus().get("lost") == process, "it is another one", c.qemus())
    c.kubectl("delete", "vm", "lost", timeout=120)
