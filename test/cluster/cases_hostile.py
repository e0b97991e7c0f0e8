"""What a clumsy user and a tenant with bad intentions try."""
import json
import time

from cases import collector
from cluster import machine
from harness import Failure, check, until

ORDER = 55
case, CASES = collector()
CLAIM = [{"name": "disk", "persistentVolumeClaim": {"claimName": "not-there"}}]


def null(name, volumes=()):
    """Firmware that finds nothing to boot, wherever there is room."""
    o = machine(name)
    o["spec"]["runStrategy"], spec = "Always", o["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"], spec["volumes"] = 0, list(volumes)
    spec["domain"]["devices"]["disks"] = [{"name": v["name"], "disk": {"bus": "virtio"}} for v in volumes]
    spec["domain"]["memory"]["guest"] = "32Mi"
    del spec["nodeSelector"]
    return o


def refused(c, *argv, stdin=None):
    try:
        c.kubectl(*argv, stdin=stdin)
    except Failure as e:
        return str(e)
    raise Failure("it was let through: kubectl " + " ".join(argv))


def forged(c, vmi, **spec):
    """A pod as whoever may create pods can make it: with a machine as its owner, and a launcher in it."""
    uid = c.get("vmi", vmi)["metadata"]["uid"]
    names = {"private": "kubevirt-private", "public": "kubevirt", "sockets": "kubevirt/sockets", "disks": "kubevirt-ephemeral-disks"}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "likeness", "namespace": "default", "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid},
                         "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": vmi, "uid": uid,
                                              "controller": True}]},
            "spec": {"terminationGracePeriodSeconds": 0, "securityContext": {"runAsUser": 107, "runAsGroup": 107}, **spec,
                     "containers": [{"name": "compute", "image": "docker.io/vireo/launcher:latest", "imagePullPolicy": "IfNotPresent",
                                     "command": ["/opt/vireo/vireo-launcher", "--name", vmi, "--uid", uid, "--namespace", "default",
                                                 "--grace-period-seconds", "15"],
                                     "volumeMounts": [{"name": n, "mountPath": "/var/run/" + p} for n, p in names.items()]}],
                     "volumes": [{"name": n, "emptyDir": {}} for n in names]}}


@case
def a_pod_in_a_launchers_likeness_gets_no_machine(c):
    """With hostNetwork, the node agent would otherwise connect a machine to the node's own interfaces."""
    c.apply(null("coveted", CLAIM))
    until(30, "it waits for its claim", lambda: c.phase("coveted") == "Pending", 0.5, lambda: c.say("coveted"))
    c.apply(forged(c, "coveted", hostNetwork=True))
    until(60, "the likeness runs", lambda: ((c.maybe("pod", "likeness") or {}).get("status") or {}).get("phase") == "Running", 0.5)
    time.sleep(4)
    status = c.get("vmi", "coveted")["status"]
    check(status["phase"] == "Pending" and not status.get("activePods") and not status.get("nodeName"), "nobody looked at it", status)
    c.kubectl("delete", "pod", "likeness", "--grace-period=0", "--force")
    c.kubectl("delete", "vm", "coveted")


@case
def a_machine_with_a_long_name_runs(c):
    """The kubelet names a directory by namespace, pod and UID: the pod's name leaves room for that."""
    name = "n" * 253
    c.apply(null(name))
    c.running(name, 90)
    c.kubectl("delete", "vm", name)


@case
def a_kubevirt_object_that_would_take_virt_api_away_is_refused(c):
    for spec, words in (({"infra": {"replicas": 0}}, "spec.infra.replicas"), ({"imageTag": "../x y"}, "spec.imageTag"),
                        ({"imageRegistry": "evil.example/x;y"}, "spec.imageRegistry"),
                        ({"certificateRotateStrategy": {"selfSigned": {"ca": {"duration": "1s"}}}},
                         "spec.certificateRotateStrategy.selfSigned.ca.duration")):
        said = refused(c, "patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p", json.dumps({"spec": spec}))
        check(words in said, "it names the field", said)


@case
def the_same_manifest_twice_changes_nothing(c):
    """What GitOps does every minute."""
    o = null("steady")
    c.apply(o)
    c.running("steady", 90)
    before = c.get("vm", "steady")["metadata"]
    c.apply(o)
    after = c.get("vm", "steady")["metadata"]
    check((before["generation"], before["resourceVersion"]) == (after["generation"], after["resourceVersion"]), "no write", (before, after))
    c.kubectl("delete", "vm", "steady")
