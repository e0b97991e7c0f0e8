#!/usr/bin/env python3
"""test/bench/objects.py --kubeconfig FILE --from A --to B [--namespace NS] [--workers N]

Puts the objects of running virtual machines A … B-1 on an API server, as a controller finds them there: a VirtualMachine, its
instance, its ControllerRevision and its launcher pod, each with the texts that such objects have on real clusters. Nothing runs: it is for
measuring what a controller costs that only looks. The kinds have to be served. No kubelet, no service accounts, are needed; a kube-apiserver
is started with --disable-admission-plugins ServiceAccount for it."""
import argparse
import http.client
import json
import re
import ssl
import threading
import uuid

NOW = "2026-01-01T00:00:00Z"


def connection(path):
    import yaml # noqa: only on machines that have it (Debian's python3-yaml, of the tests' packages)
    with open(path, encoding="utf-8") as f:
        k = yaml.safe_load(f)
    server, user = k["clusters"][0]["cluster"], k["users"][0]["user"]
    tls = ssl.create_default_context(cafile=server["certificate-authority"])
    tls.load_cert_chain(user["client-certificate"], user["client-key"])
    host, port = re.match(r"https://([^:/]+):(\d+)", server["server"]).groups()
    return lambda: http.client.HTTPSConnection(host, int(port), context=tls, timeout=60)


class Api:
    def __init__(self, connect):
        self.c = connect()

    def call(self, method, path, body, kind="application/json", ok=(200, 201)):
        self.c.request(method, path, json.dumps(body), {"Content-Type": kind})
        r = self.c.getresponse()
        text = r.read()
        if r.status not in ok:
            raise SystemExit("%s %s: %d %s" % (method, path, r.status, text[:300]))
        return json.loads(text)


def vmi_spec(name, i):
    return {"architecture": "amd64", "evictionStrategy": "None", "terminationGracePeriodSeconds": 30,
            "domain": {"cpu": {"cores": 1, "maxSockets": 4, "model": "host-model", "sockets": 1, "threads": 1},
                       "firmware": {"serial": str(uuid.uuid4()), "uuid": str(uuid.uuid4())}, "machine": {"type": "q35"},
                       "features": {"acpi": {"enabled": True}}, "memory": {"guest": "2Gi", "maxGuest": "8Gi"},
                       "resources": {"requests": {"memory": "2Gi"}},
                       "devices": {"disks": [{"disk": {"bus": "virtio"}, "name": "root"}, {"disk": {"bus": "virtio"}, "name": "seed"}],
                                   "interfaces": [{"masquerade": {}, "name": "default", "model": "virtio",
                                                   "macAddress": "02:00:00:%02x:%02x:%02x" % (i >> 16, i >> 8 & 255, i & 255)}]}},
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": name}},
                        {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\nhostname: %s\nssh_authorized_keys:\n- ssh-ed25519 %s\n"
                                                              % (name, uuid.uuid4().hex * 2)}}]}


def conditions(*types):
    return [{"type": t, "status": "True", "lastProbeTime": None, "lastTransitionTime": NOW} for t in types]


def owner(kind, o):
    return [{"apiVersion": "kubevirt.io/v1", "kind": kind, "name": o["metadata"]["name"], "uid": o["metadata"]["uid"], "controller": True,
             "blockOwnerDeletion": True}]


def make(api, ns, i, image):
    name = "vm-%05d" % i
    crs = "/apis/kubevirt.io/v1/namespaces/%s/" % ns
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
          "metadata": {"name": name, "namespace": ns, "finalizers": ["kubevirt.io/virtualMachineControllerFinalize"],
                       "annotations": {"kubevirt.io/latest-observed-api-version": "v1", "kubevirt.io/storage-observed-api-version": "v1"}},
          "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"app": "a%d" % (i % 7)}}, "spec": vmi_spec(name, i)}}}
    vm["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json.dumps({k: vm[k] for k in ("apiVersion", "kind", "spec")})
    made = api.call("POST", crs + "virtualmachines?fieldManager=kubectl-client-side-apply", vm)
    revision = "revision-start-vm-%s-1" % made["metadata"]["uid"]
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
           "metadata": {"name": name, "namespace": ns, "ownerReferences": owner("VirtualMachine", made),
                        "finalizers": ["kubevirt.io/virtualMachineControllerFinalize", "kubevirt.io/foregroundDeleteVirtualMachine"],
                        "annotations": {"kubevirt.io/latest-observed-api-version": "v1", "kubevirt.io/storage-observed-api-version": "v1",
                                        "kubevirt.io/vm-generation": "1"},
                        "labels": {"app": "a%d" % (i % 7), "kubevirt.io/nodeName": "node-%03d" % (i % 50)}},
           "spec": made["spec"]["template"]["spec"]}
    vmi = api.call("POST", crs + "virtualmachineinstances?fieldManager=virt-controller", vmi)
    uid = vmi["metadata"]["uid"]
    api.call("POST", "/apis/apps/v1/namespaces/%s/controllerrevisions" % ns,
             {"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {"spec": made["spec"]},
              "metadata": {"name": revision, "namespace": ns, "ownerReferences": owner("VirtualMachine", made)}})
    mounts = [{"name": n, "mountPath": "/var/run/" + n} for n in ("private", "public", "sockets", "hotplug-disks", "libvirt-runtime")]
    pod = {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": "virt-launcher-%s-%s" % (name, uid[:5]), "namespace": ns, "ownerReferences": owner("VirtualMachineInstance", vmi),
                        "labels": {"app": "a%d" % (i % 7), "kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid,
                                   "vm.kubevirt.io/name": name, "vmi.kubevirt.io/id": name},
                        "annotations": {"kubevirt.io/domain": name, "kubectl.kubernetes.io/default-container": "compute",
                                        "kubevirt.io/migrationTransportUnix": "true"}},
           "spec": {"nodeName": "node-%03d" % (i % 50), "restartPolicy": "Never", "automountServiceAccountToken": False,
                    "enableServiceLinks": False, "hostname": name, "securityContext": {"runAsUser": 107, "runAsNonRoot": True, "fsGroup": 107},
                    "nodeSelector": {"kubernetes.io/arch": "amd64", "kubevirt.io/schedulable": "true"},
                    "containers": [{"name": "compute", "image": image, "command": ["/usr/bin/vireo-launcher", "--name", name, "--uid", uid],
                                    "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                                    "resources": {"requests": {"cpu": "100m", "memory": "2204Mi"}},
                                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                                    "volumeMounts": mounts}],
                    "volumes": [{"name": m["name"], "emptyDir": {}} for m in mounts]}}
    pod = api.call("POST", "/api/v1/namespaces/%s/pods?fieldManager=virt-controller" % ns, pod)
    merge = "application/merge-patch+json"
    api.call("PATCH", "/api/v1/namespaces/%s/pods/%s/status?fieldManager=kubelet" % (ns, pod["metadata"]["name"]),
             {"status": {"phase": "Running", "hostIP": "10.0.0.%d" % (i % 50), "podIP": "10.%d.%d.%d" % (i >> 16 & 255, i >> 8 & 255, i & 255),
                         "podIPs": [{"ip": "10.%d.%d.%d" % (i >> 16 & 255, i >> 8 & 255, i & 255)}], "startTime": NOW,
                         "conditions": conditions("Initialized", "Ready", "ContainersReady", "PodScheduled"),
                         "containerStatuses": [{"name": "compute", "image": image, "imageID": "sha256:" + "ab" * 32, "ready": True, "started": True,
                                                "restartCount": 0, "containerID": "containerd://" + uuid.uuid4().hex * 2,
                                                "state": {"running": {"startedAt": NOW}}}]}}, merge)
    status = {"phase": "Running", "nodeName": "node-%03d" % (i % 50), "activePods": {pod["metadata"]["uid"]: "node-%03d" % (i % 50)},
              "launcherContainerImageVersion": image, "qosClass": "Burstable", "virtualMachineRevisionName": revision,
              "migrationTransport": "Unix", "machine": {"type": "pc-q35-7.2"}, "memory": {"guestAtBoot": "2Gi", "guestCurrent": "2Gi"},
              "currentCPUTopology": {"cores": 1, "sockets": 1, "threads": 1}, "migrationMethod": "BlockMigration",
              "phaseTransitionTimestamps": [{"phase": p, "phaseTransitionTimestamp": NOW} for p in ("Pending", "Scheduling", "Scheduled", "Running")],
              "interfaces": [{"name": "default", "podInterfaceName": "eth0", "infoSource": "domain", "mac": "02:00:00:00:00:01", "queueCount": 1,
                              "ipAddress": pod["status"].get("podIP", "10.1.1.1"), "ipAddresses": ["10.1.1.1"]}],
              "volumeStatus": [{"name": n, "target": t} for n, t in (("root", "vda"), ("seed", "vdb"))],
              "conditions": conditions("Ready", "LiveMigratable", "StorageLiveMigratable")}
    vmi["status"] = status
    api.call("PATCH", crs + "virtualmachineinstances/%s?fieldManager=virt-handler" % name, {"status": status}, merge)
    api.call("PATCH", crs + "virtualmachines/%s/status?fieldManager=virt-controller" % name,
             {"status": {"created": True, "ready": True, "printableStatus": "Running", "runStrategy": "Always", "observedGeneration": 1,
                         "desiredGeneration": 1, "conditions": conditions("Ready", "LiveMigratable", "StorageLiveMigratable")}}, merge)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kubeconfig", required=True)
    p.add_argument("--from", dest="first", type=int, default=0)
    p.add_argument("--to", type=int, required=True)
    p.add_argument("--namespace", default="default")
    p.add_argument("--image", default="docker.io/vireo/launcher:latest")
    p.add_argument("--workers", type=int, default=8)
    o = p.parse_args()
    connect = connection(o.kubeconfig)

    def work(w):
        api = Api(connect)
        for i in range(o.first + w, o.to, o.workers):
            make(api, o.namespace, i, o.image)
    threads = [threading.Thread(target=work, args=(w,)) for w in range(o.workers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


if __name__ == "__main__":
    main()
