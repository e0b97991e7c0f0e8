"""The operator, which installed everything by its manifests, in pods: what it keeps, what it refuses, and from there to an empty cluster and back."""
import contextlib
import functools
import json
import os
import re
import shutil
import time

from cases import collector
from cluster import ROOT, output
from harness import Failure, Skip, check, until

# They install and remove everything once more.
LONG = ("a cluster in which somebody elses kubevirt lives is left as it is", "it goes with its machines when told",
        "a kustomization installs it and takes it away", "the helm chart installs it and takes it away")
ORDER = 95 # behind everybody else: it takes away what the others work with
collect, CASES = collector()


def case(fn):
    @functools.wraps(fn)
    def in_pods(c):
        if c.outside:
            raise Skip("nothing was installed by an operator: --roles pods")
        fn(c)
    return collect(in_pods)


OPERATOR, CR = ROOT + "/deploy/vireo-operator.yaml", ROOT + "/deploy/vireo-cr.yaml"
NS = "kubevirt"
KINDS = "crd,clusterrole,clusterrolebinding,apiservice,validatingwebhookconfiguration,mutatingwebhookconfiguration,priorityclass"
INSIDE = "deployment,daemonset,pod,service,secret,configmap,serviceaccount,role,rolebinding,pdb"


def kubevirt(c):
    return c.maybe("kubevirt", "kubevirt", "-n", NS) or {}


def conditions(c):
    return {x["type"]: (x["status"], x["reason"], x["message"]) for x in kubevirt(c).get("status", {}).get("conditions", [])}


def say(c):
    text = [json.dumps(kubevirt(c).get("status"))]
    for args in (("get", "pods", "-n", NS, "-o", "wide"), ("logs", "-n", NS, "-l", "kubevirt.io=virt-operator", "--tail", "20")):
        with contextlib.suppress(Failure):
            text.append(c.kubectl(*args))
    return "\n".join(text)


def deployed(c, seconds=240):
    until(seconds, "the KubeVirt object is Deployed",
          lambda: kubevirt(c).get("status", {}).get("phase") == "Deployed" and conditions(c).get("Available", "")[0] == "True", 1,
          lambda: say(c))


def marked(c):
    """{kind/name: resourceVersion} of everything that carries the operator's mark."""
    found = {}
    for args in ((KINDS,), (INSIDE, "-n", NS)):
        for o in c.get(*args, "-l", "vireo.io/operator=" + NS)["items"]:
            found[o["kind"] + "/" + o["metadata"]["name"]] = o["metadata"]["resourceVersion"]
    return found


def patch(c, what):
    c.kubectl("patch", "kubevirt", "kubevirt", "-n", NS, "--type=merge", "-p", json.dumps(what))


def refused(c, *args, stdin=None):
    try:
        c.kubectl(*args, stdin=stdin)
    except Failure as e:
        return str(e)
    raise Failure("kubectl %s was let through" % " ".join(args))


def gone(c):
    """Nothing is left, nor of the operator; of definitions, at most that of KubeVirt, with what the API server makes for it (helm keeps it)."""
    def left():
        return [o["kind"] + "/" + o["metadata"]["name"] for o in c.get(KINDS)["items"]
                if "kubevirt" in o["metadata"]["name"] and o["metadata"]["name"] != "kubevirts.kubevirt.io"
                and "kube-aggregator.kubernetes.io/automanaged" not in o["metadata"].get("labels", {})]
    until(60, "nothing is left", lambda: not marked(c) and not left(), 0.5, lambda: "%s %s" % (marked(c), left()))


def let_in(c, vm):
    def applied():
        with contextlib.suppress(Failure):
            c.apply(vm)
            return True
    until(60, "the webhooks let a machine in", applied, 2, lambda: say(c))


@case
def what_one_command_installed_says_what_it_is(c):
    deployed(c)
    got = conditions(c)
    want = {"Available": ("True", "AllComponentsReady"), "Progressing": ("False", "AllComponentsReady"),
            "Degraded": ("False", "AllComponentsReady"), "Created": ("True", "AllResourcesCreated")}
    check({t: s[:2] for t, s in got.items()} == want, "upstream's conditions", got)
    status, meta = kubevirt(c)["status"], kubevirt(c)["metadata"]
    check(status["observedKubeVirtVersion"] == status["targetKubeVirtVersion"] and status["observedGeneration"] == meta["generation"]
          and status["observedDeploymentID"] == status["targetDeploymentID"], "what was asked for is what is there", status)
    check(meta["finalizers"] == ["foregroundDeleteKubeVirt"], "upstream's finalizer", meta)


@case
def at_rest_the_operator_writes_nothing(c):
    deployed(c)
    time.sleep(3)
    before = marked(c), kubevirt(c)["metadata"]["resourceVersion"]
    time.sleep(12)
    after = marked(c), kubevirt(c)["metadata"]["resourceVersion"]
    # Pods, Deployments and the node agent's heartbeat have statuses of others.
    still = {k for k, v in before[0].items() if after[0].get(k) != v}
    check(not still and before[1] == after[1], "every revision is as it was", still)


@case
def what_somebody_changes_or_deletes_comes_back(c):
    c.kubectl("delete", "service", "virt-api", "-n", NS)
    c.kubectl("patch", "clusterrole", "kubevirt.io:view", "--type=json", "-p", '[{"op":"remove","path":"/rules/0"}]')
    c.kubectl("patch", "deployment", "virt-controller", "-n", NS, "--type=merge", "-p", '{"spec":{"template":{"spec":{"priorityClassName":""}}}}')
    until(60, "the Service is there again", lambda: c.maybe("service", "virt-api", "-n", NS))
    until(60, "the role has its rules", lambda: len(c.get("clusterrole", "kubevirt.io:view")["rules"]) > 5)
    until(60, "the pods' class is back",
          lambda: c.get("deployment", "virt-controller", "-n", NS)["spec"]["template"]["spec"].get("priorityClassName") == "kubevirt-cluster-critical")
    deployed(c)


@case
def a_bad_spec_is_refused_at_the_door_and_a_second_object_too(c):
    for spec, words in (({"imageTag": "two words"}, "spec.imageTag"), ({"imageTag": "x" * 5000}, "spec.imageTag"),
                        ({"uninstallStrategy": "Burn"}, "spec.uninstallStrategy"),
                        ({"certificateRotateStrategy": {"selfSigned": {"ca": {"duration": "1s"}}}}, "ca.duration"),
                        ({"customizeComponents": {"patches": [{"resourceName": "a\"b", "resourceType": "Deployment", "type": "merge",
                                                               "patch": "{"}]}}, "customizeComponents.patches[0]")):
        out = refused(c, "patch", "kubevirt", "kubevirt", "-n", NS, "--type=merge", "-p", json.dumps({"spec": spec}))
        check(words in out, words + " is named", out[-500:])
    c.kubectl("create", "namespace", "elsewhere")
    second = json.dumps({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "second", "namespace": "elsewhere"}, "spec": {}})
    out = refused(c, "apply", "-f", "-", stdin=second)
    check("kubevirt/kubevirt" in out, "the first is named", out[-500:])
    deployed(c)


@case
def an_image_that_is_not_there_is_named_and_going_back_heals(c):
    patch(c, {"spec": {"imageTag": "v9.9.9"}})
    until(120, "the condition names pod and reason",
          lambda: any(w in conditions(c).get("Degraded", ("", "", ""))[2] for w in ("ErrImagePull", "ImagePullBackOff")), 1, lambda: say(c))
    got = conditions(c)
    check(got["Degraded"][0] == "True" and "virt-handler" in got["Degraded"][2], "the agents go first in an upgrade", got)
    check(got["Available"][:2] == ("True", "UpdateInProgress"), "what was there works on", got)
    images = [c.get("deployment", d, "-n", NS)["spec"]["template"]["spec"]["containers"][0]["image"] for d in ("virt-api", "virt-controller")]
    check(all(i.endswith(":latest") for i in images), "virt-api and controllers wait for the agents", images)
    patch(c, {"spec": {"imageTag": None}})
    deployed(c)


@case
def certificates_are_renewed_and_everybody_follows(c):
    def bundles():
        hooks = c.get("validatingwebhookconfiguration", "virt-api-validator")["webhooks"]
        return {h["clientConfig"]["caBundle"] for h in hooks} | {c.get("apiservice", "v1.subresources.kubevirt.io")["spec"]["caBundle"]}
    old, leaf = bundles(), c.get("secret", "kubevirt-virt-api-certs", "-n", NS)["data"]["tls.crt"]
    check(len(old) == 1, "one bundle for all", len(old))
    c.kubectl("delete", "secret", "kubevirt-ca", "-n", NS)
    until(60, "a new CA is in every bundle", lambda: len(bundles()) == 1 and bundles() != old, 1, lambda: say(c))
    check(c.get("secret", "kubevirt-virt-api-certs", "-n", NS)["data"]["tls.crt"] == leaf, "what the old one signed serves on, as both are trusted")
    c.kubectl("get", "--raw", "/apis/subresources.kubevirt.io/v1")
    c.kubectl("delete", "secret", "kubevirt-virt-api-certs", "-n", NS)
    until(60, "the deleted one is made anew", lambda: (c.maybe("secret", "kubevirt-virt-api-certs", "-n", NS) or {}).get("data", {}).get("tls.crt") not in (None, leaf))
    deployed(c)


@case
def the_leader_killed_another_operator_goes_on(c):
    def leader():
        return c.get("lease", "virt-operator", "-n", NS)["spec"].get("holderIdentity", "")
    first = leader()
    check(first, "one leads")
    c.kubectl("delete", "pod", first.split("_")[0], "-n", NS, "--force", "--grace-period=0")
    until(60, "another leads", lambda: leader() not in ("", first), 0.5)
    c.kubectl("delete", "service", "kubevirt-prometheus-metrics", "-n", NS)
    until(60, "and works", lambda: c.maybe("service", "kubevirt-prometheus-metrics", "-n", NS), 0.5, lambda: say(c))


@case
def while_machines_exist_it_is_not_deleted(c):
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "stays", "namespace": "default"},
          "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}}}
    let_in(c, vm)
    said = []

    def told(): # an operator that has just begun may be asked before it has its certificate: then the API server refuses in its own words
        said.append(refused(c, "delete", "kubevirt", "kubevirt", "-n", NS))
        return "default/stays" in said[-1] and "uninstallStrategy" in said[-1]
    until(30, "the machine and the way out are named", told, 1, lambda: said[-1][-500:])
    check(not kubevirt(c)["metadata"].get("deletionTimestamp"), "nothing has begun")
    # Somebody who goes around the webhook finds the finalizer.
    c.kubectl("scale", "deployment", "virt-operator", "-n", NS, "--replicas=0")
    until(60, "no operator", lambda: not c.get("pods", "-n", NS, "-l", "kubevirt.io=virt-operator")["items"], 0.5)
    c.kubectl("delete", "validatingwebhookconfiguration", "virt-operator-validator")
    c.kubectl("delete", "kubevirt", "kubevirt", "-n", NS, "--wait=false")
    c.kubectl("scale", "deployment", "virt-operator", "-n", NS, "--replicas=2")
    until(90, "it says why it stays", lambda: "default/stays" in conditions(c).get("Synchronized", ("", "", ""))[2], 1, lambda: say(c))
    check(c.get("vm", "stays") and c.get("deployment", "virt-api", "-n", NS)["status"].get("readyReplicas"), "everything works on")


@case
def without_machines_everything_goes_and_nothing_is_left(c):
    c.kubectl("delete", "vm", "stays")
    until(180, "the KubeVirt object is gone", lambda: not kubevirt(c), 1, lambda: say(c))
    left = marked(c)
    check(not left, "nothing with the operator's mark", left)
    names = [o["metadata"]["name"] for o in c.get("crd")["items"] if "kubevirt" in o["metadata"]["name"]]
    check(names == ["kubevirts.kubevirt.io"], "of the definitions, the one that came with the operator", names)
    check(c.get("namespace", NS) and not c.maybe("configmap", "vireo-cr", "-n", NS), "the namespace stays, the ConfigMap of the object goes")
    pods = [p["metadata"]["name"] for p in c.get("pods", "-n", NS)["items"] if not p["metadata"]["name"].startswith("virt-operator")]
    check(not pods, "no pod but the operator's", pods)


def foreign(name, kind, group="kubevirt.io"):
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "%s.%s" % (name, group), "labels": {"app.kubernetes.io/managed-by": "virt-operator"}},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": name, "singular": kind.lower()},
                     "versions": [{"name": "v1", "served": True, "storage": True,
                                   "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}


@case
def a_cluster_in_which_somebody_elses_kubevirt_lives_is_left_as_it_is(c):
    c.apply(foreign("virtualmachines", "VirtualMachine"), foreign("virtualmachineinstances", "VirtualMachineInstance"),
            {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.subresources.kubevirt.io"},
             "spec": {"group": "subresources.kubevirt.io", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
                      "insecureSkipTLSVerify": True, "service": {"name": "theirs", "namespace": "default"}}})
    before = {o["metadata"]["name"]: o["metadata"]["generation"] for o in c.get("crd")["items"]}
    c.kubectl("apply", "-f", CR)
    until(60, "the KubeVirt object says what is in the way",
          lambda: "virtualmachines.kubevirt.io" in conditions(c).get("Degraded", ("", "", ""))[2], 0.5, lambda: say(c))
    words = conditions(c)["Degraded"]
    check(words[0] == "True" and "nothing was changed" in words[2] and "v1.subresources.kubevirt.io" in words[2]
          and "virtualmachineinstances.kubevirt.io" in words[2] and "managed-by=virt-operator" in words[2], "all are named, and whose they are", words)
    check(not marked(c), "nothing was made", marked(c))
    after = {o["metadata"]["name"]: o["metadata"]["generation"] for o in c.get("crd")["items"]}
    check(before == after, "their definitions are as they were", before, after)
    until(30, "an Event says so", lambda: any("virtualmachines.kubevirt.io" in e["message"] for e in c.get("events", "-n", NS)["items"]), 1)
    c.kubectl("delete", "apiservice", "v1.subresources.kubevirt.io")
    c.kubectl("delete", "crd", "virtualmachines.kubevirt.io", "virtualmachineinstances.kubevirt.io", timeout=60)
    deployed(c, 120) # by itself: what was in the way is gone


@case
def it_goes_with_its_machines_when_told(c):
    patch(c, {"spec": {"uninstallStrategy": "RemoveWorkloads", "configuration": {"developerConfiguration": {"useEmulation": True}}}})
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "goes", "namespace": "default"},
          "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}}}
    let_in(c, vm)
    c.kubectl("delete", "kubevirt", "kubevirt", "-n", NS, timeout=180)
    check(not marked(c), "nothing is left", marked(c))
    c.kubectl("delete", "-f", OPERATOR, timeout=180)
    gone(c)


@case
def a_kustomization_installs_it_and_takes_it_away(c):
    def applied():
        with contextlib.suppress(Failure):
            return c.kubectl("apply", "-k", ROOT + "/deploy")
        return None
    until(60, "kubectl apply -k deploy", applied, 1) # once for the kind, once for the object of that kind
    deployed(c)
    c.kubectl("delete", "-f", CR, timeout=180)
    until(180, "the KubeVirt object is gone", lambda: not kubevirt(c), 1, lambda: say(c)) # by the operator, which has to be there for it
    c.kubectl("delete", "-k", ROOT + "/deploy", "--ignore-not-found", timeout=180)
    gone(c)


@case
def the_helm_chart_installs_it_and_takes_it_away(c):
    helm = os.environ.get("HELM") or next((p for p in (c.build + "/tools/helm", "/usr/local/bin/helm", "/usr/bin/helm") if os.access(p, os.X_OK)), None)
    if not helm:
        raise Skip("no helm here: HELM names one")
    chart = c.dir + "/chart"
    shutil.copytree(ROOT + "/deploy/chart", chart, dirs_exist_ok=True)
    with open(chart + "/Chart.yaml", "r+", encoding="utf-8") as f: # the Kubernetes that test/cluster/build makes says that it is v0.0.0
        text = re.sub(r"^kubeVersion:.*\n", "", f.read(), flags=re.M)
        f.seek(0)
        f.truncate()
        f.write(text)
    c.inside(helm, "install", "vireo", chart, "--namespace", NS, "--create-namespace", timeout=120)
    deployed(c)
    c.kubectl("delete", "kubevirt", "kubevirt", "-n", NS, timeout=240)
    c.inside(helm, "uninstall", "vireo", "--namespace", NS, timeout=120)
    gone(c)
