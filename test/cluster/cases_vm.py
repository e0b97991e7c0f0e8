"""Virtual machines in pods: the first ones, on which later cases build."""
import time

from cases import collector
from cluster import NODE, machine
from harness import Skip, check, until

ORDER = 10
case, CASES = collector()


@case
def a_virtual_machine_boots_in_a_pod_of_the_kubelet(c):
    c.volume("first")
    c.apply(machine("first"))
    c.running("first")
    until(300, "the guest's login prompt in the pod's log", lambda: "Vireo tiny guest first" in c.log_of("first"), 1, lambda: c.say("first"))
    vm = c.get("vm", "first")
    check(vm["status"]["printableStatus"] == "Running" and vm["status"].get("ready"), "the VM says it runs", vm["status"])


@case
def cloud_init_and_the_pods_network_reach_the_guest(c):
    log = c.log_of("first")
    check("nocloud: first from /dev/vdc" in log, "cloud-init's data are the third disk", log)
    check("network: eth0 10.0.2.2/24" in log, "DHCP gave the guest its address behind the pod", log)


@case
def the_vmi_tells_the_pods_address_and_node(c):
    vmi, pod = c.get("vmi", "first"), c.pod_of("first")
    check(vmi["status"]["nodeName"] == NODE and vmi["status"]["interfaces"][0]["ipAddress"] == pod["status"]["podIP"],
          "node and address are the pod's", vmi["status"], pod["status"])


@case
def a_connection_to_the_pods_address_reaches_the_guest(c):
    ip = c.pod_of("first")["status"]["podIP"]
    until(60, "the guest's SSH server answers at " + ip,
          lambda: "SSH-2.0" in c.inside("sh", "-c", "exec 2>&1; curl -s -m 5 --http0.9 http://%s:22/ | head -c 60; true" % ip), 1)


@case
def launcher_and_qemu_have_no_rights(c):
    pid = c.qemus().get("first")
    check(pid, "QEMU is in the pod's cgroup")
    with open("/proc/%d/status" % pid, encoding="utf-8") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    check(status["Uid"].split()[0] == "107", "it is user 107", status["Uid"])
    check(int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0, "it has no capability", status["CapEff"], status["CapBnd"])
    check(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", "no new privileges, and a list of system calls", status)
    pod = c.pod_of("first")
    check(not any(v.get("hostPath") for v in pod["spec"]["volumes"]), "no volume of the host", pod["spec"]["volumes"])
    check(pod["spec"].get("automountServiceAccountToken") is False, "no service account's token")


@case
def the_node_says_what_it_can_run(c):
    labels = c.get("node", NODE)["metadata"]["labels"]
    check(labels.get("vireo.io/vmm-qemu") == "true" and labels.get("kubevirt.io/schedulable") == "true", "labels of the node", labels)
    check("node-role.kubernetes.io/control-plane" not in labels, "its roles are not ours to write", labels)


@case
def the_agent_killed_comes_back_to_a_running_machine(c):
    before = c.qemus()["first"]
    c.kill("handler")
    time.sleep(1)
    check(c.qemus().get("first") == before, "the machine runs on without it")
    c.start("handler")
    c.kubectl("patch", "vm", "first", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}')
    until(60, "the new agent shuts it down", lambda: c.phase("first") is None and "first" not in c.qemus(), 0.5, lambda: c.say("first"))


@case
def the_controllers_killed_go_on_where_they_were(c):
    c.kill("controller")
    c.kubectl("patch", "vm", "first", "--type=merge", "-p", '{"spec":{"runStrategy":"RerunOnFailure"}}')
    if c.outside:
        time.sleep(1)
        check(c.phase("first") is None, "nobody starts it meanwhile")
    c.start("controller")
    c.running("first") # once the Lease of the one that was killed has run out
    check(len(c.get("pods", "-l", "vmi.kubevirt.io/id=first")["items"]) == 1, "one machine, one pod")


def holder(c):
    return c.get("lease", "-n", "kubevirt", "virt-controller")["spec"].get("holderIdentity")


@case
def of_two_controllers_one_works_and_the_other_follows(c):
    if not c.outside:
        raise Skip("in pods it is the Deployment that starts and ends controllers")
    first = holder(c)
    c.start("controller", "spare")
    time.sleep(5)
    check(first and holder(c) == first, "who comes later waits", first, holder(c))
    c.roles["controller"].terminate()
    check(c.roles["controller"].wait(10) == 0, "asked to end, it ends")
    # It gave the Lease up: nobody waits for it to run out. The machines of the next cases are the spare's work.
    until(8, "the spare holds the Lease", lambda: holder(c) not in ("", None, first), 0.5)


@case
def a_bridged_guest_has_the_pods_own_address(c):
    c.volume("second")
    c.apply(machine("second", "bridge"))
    c.running("second")
    ip = c.pod_of("second")["status"]["podIP"]
    until(300, "the guest takes %s by DHCP" % ip, lambda: "network: eth0 %s/24" % ip in c.log_of("second"), 1, lambda: c.say("second"))
