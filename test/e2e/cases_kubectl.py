"""What real kubectls do all day: Debian's 1.20, which wants OpenAPI v2 as protobuf, and today's."""
import json
import os
import re
import stat

from cases import EMBEDDED, collector, null_vm
from harness import Background, check, until

case, CASES = collector(machine=EMBEDDED)
BOTH = ("old", "new!")


def columns(text):
    return text.split("\n")[0].split()


@case(each=BOTH)
def get_nodes_shows_this_machine_ready(t, version):
    out = t.server.kubectl("get", "nodes", "-o", "wide", version=version).out
    check(re.search(r"\bReady\b", out), "the node is not Ready", out)
    check(columns(out)[:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"], "columns of nodes", out)
    t.server.kubectl("version", version=version)


@case(each=BOTH)
def api_resources_lists_kinds_short_names_and_verbs(t, version):
    out = t.server.kubectl("api-resources", "-o", "wide", version=version).out
    for pattern in (r"virtualmachines +vm,vms +kubevirt.io/v1 +true +VirtualMachine ",
                    r"virtualmachineinstances +vmi,vmis +kubevirt.io/v1 +true +VirtualMachineInstance ",
                    r"pods +po +v1 +true +Pod ", r"persistentvolumeclaims +pvc +v1 +true", r"storageclasses +sc +storage.k8s.io/v1 +false",
                    r"kubevirts +kv,kvs +kubevirt.io/v1", r"customresourcedefinitions +crd,crds"):
        check(re.search(pattern, out), "api-resources lacks /%s/" % pattern, out)


@case(each=BOTH)
def explain_describes_fields_in_our_own_words(t, version):
    for path, fields in (("vm.spec.template.spec.domain", ("cpu", "memory", "devices", "firmware")), ("vm", ("spec", "status")),
                         ("vmi.spec.domain.cpu.cores", ()), ("pods.spec", ("containers", "volumes")), ("pvc.spec", ("accessModes",))):
        out = t.server.kubectl("explain", path, version=version).out
        check("DESCRIPTION:" in out or "description" in out.lower(), "explain %s has no description" % path, out)
        check("<empty>" not in out, "explain %s has empty descriptions" % path, out)
        for field in fields:
            check(re.search(r"^ +%s\b" % field, out, re.M), "explain %s lacks %s" % (path, field), out)


@case(each=BOTH)
def namespaces_come_and_go(t, version):
    k = t.server.kubectl
    name = "made-by-" + version.strip("!")
    k("create", "namespace", name, version=version)
    k("-n", name, "create", "configmap", "inside", "--from-literal=a=b", version=version)
    check("Active" in k("get", "ns", name, version=version).out, "namespace is not Active")
    k("delete", "namespace", name, "--wait", "--timeout=60s", version=version)
    check(t.server.get("namespace", name, ns=None) is None, "namespace is still there after delete --wait")


@case(each=BOTH, machine="")
def apply_get_wait_describe_logs_and_delete_follow_a_vm(t, version):
    s, k, name = t.server, t.server.kubectl, "life-" + version.strip("!")
    out = k("apply", "-f", "-", stdin=json.dumps(null_vm(name)), version=version).out
    check("virtualmachine.kubevirt.io/%s created" % name in out, "apply does not say created", out)
    k("wait", "--for=condition=Ready", "vm/" + name, "--timeout=60s", version=version)
    k("wait", "--for=condition=Ready", "vmi/" + name, "--timeout=60s", version=version)

    out = k("get", "vm", name, "-o", "wide", version=version).out
    check(columns(out) == ["NAME", "AGE", "STATUS", "READY"] and "Running" in out, "get vm -o wide", out)
    out = k("get", "vmi", name, "-o", "wide", version=version).out
    check(columns(out) == "NAME AGE PHASE IP NODENAME READY LIVE-MIGRATABLE PAUSED".split(), "get vmi -o wide", out)
    out = k("get", "vm,vmi,pods", "-o", "wide", version=version).out
    check(out.count("virt-launcher-" + name) == 1 and re.search(r"1/1 +Running", out), "get vm,vmi,pods -o wide", out)
    pod = s.pod_of(name)["metadata"]["name"]

    out = k("describe", "vm", name, version=version).out
    check("SuccessfulCreate" in out and "Events:" in out, "describe vm shows no Event", out[-1500:])
    out = k("describe", "vmi", name, version=version).out
    for reason in ("SuccessfulCreate", "Created", "Started"):
        check(reason in out, "describe vmi: no Event " + reason, out[-1500:])
    for thing in ("pod/" + pod, "node"):
        k("describe", *thing.split("/"), version=version)
    out = k("logs", pod, version=version).out
    check(out.strip(), "the launcher's log is empty")
    check(k("logs", pod, "--tail=1", version=version).out.count("\n") <= 1, "logs --tail=1 has more than a line")
    with Background([t.config.kubectl(version), "logs", "-f", pod], s.env()) as follow:
        follow.expect(r"\S")
        out = k("delete", "vm", name, "--wait", "--timeout=60s", version=version).out
        until(60, "logs -f ends with its pod", lambda: follow.process.poll() is not None)
    check("deleted" in out, "delete says something else", out)
    check(s.get("vm", name) is None and s.get("vmi", name) is None, "the VM or its instance outlives delete --wait")
    until(60, "the launcher pod is gone", lambda: s.get("pod", pod) is None, explain=lambda: s.describe("pod", pod))


@case(each=BOTH, machine="")
def a_watch_prints_each_state_on_the_way_to_Running(t, version):
    name = "watched-" + version.strip("!")
    with Background([t.config.kubectl(version), "get", "vm", "-w"], t.server.env()) as watch:
        t.server.apply(null_vm(name))
        watch.expect(name + r" .*Starting")
        watch.expect(name + r" .*Running +True")
        t.server.delete("vm", name)
        watch.expect(name + r" .*Terminating")


@case(each=BOTH, machine="")
def yaml_goes_out_and_comes_back_unchanged(t, version):
    k, name = t.server.kubectl, "round-" + version.strip("!")
    t.server.apply(null_vm(name, strategy="Halted"))
    t.server.wait_status(name, "Stopped")
    out = k("apply", "-f", "-", stdin=json.dumps(null_vm(name, strategy="Halted")), version=version).out
    check("unchanged" in out, "a second apply says other than unchanged", out)
    text = k("get", "vm", name, "-o", "yaml", version=version).out
    check("kind: VirtualMachine" in text and "resourceVersion" in text, "get -o yaml", text)
    k("replace", "-f", "-", stdin=text, version=version)
    before = t.server.get("vm", name)
    status, after = t.server.request("PUT", "/apis/kubevirt.io/v1/namespaces/default/virtualmachines/" + name, before)
    check(status == 200 and after == before, "a replacement by itself makes another object", after)
    check(k("get", "vm", name, "-o", "jsonpath={.spec.template.spec.domain.memory.guest}", version=version).out == "32Mi", "jsonpath")
    t.server.delete("vm", name)


@case(each=BOTH, machine="")
def edit_patch_label_and_annotate_change_what_they_name(t, version):
    s, k, name = t.server, t.server.kubectl, "changed-" + version.strip("!")
    s.apply(null_vm(name, strategy="Halted"))
    script = os.path.join(t.config.home, "editor")
    with open(script, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\nsed -i 's/guest: 32Mi/guest: 48Mi/' \"$1\"\n")
    os.chmod(script, stat.S_IRWXU)
    out = k("edit", "vm", name, version=version, env={"KUBE_EDITOR": script, "EDITOR": script}).text
    check("edited" in out, "kubectl edit", out)

    def guest():
        return s.get("vm", name)["spec"]["template"]["spec"]["domain"]["memory"]["guest"]
    check(guest() == "48Mi", "the edit is not there", guest())
    k("patch", "vm", name, "--type=merge", "-p", '{"spec":{"template":{"spec":{"domain":{"memory":{"guest":"40Mi"}}}}}}', version=version)
    check(guest() == "40Mi", "the merge patch is not there", guest())
    k("patch", "vm", name, "--type=json", "-p", '[{"op":"test","path":"/spec/template/spec/domain/memory/guest","value":"40Mi"},'
      '{"op":"replace","path":"/spec/template/spec/domain/memory/guest","value":"36Mi"}]', version=version)
    check(guest() == "36Mi", "the JSON patch is not there", guest())
    k("label", "vm", name, "tier=test", version=version)
    k("annotate", "vm", name, "e2e/note=hello", version=version)
    check(name in k("get", "vm", "-l", "tier=test,tier!=other", version=version).out, "the label does not select")
    check(name not in k("get", "vm", "-l", "tier in (other)", version=version).text, "a selector selects too much")
    k("label", "vm", name, "tier-", version=version)
    check("tier" not in s.get("vm", name)["metadata"].get("labels", {}), "the label stays")
    s.delete("vm", name)


@case(each=BOTH)
def strategic_patches_merge_lists_by_key(t, version):
    s, k, name = t.server, t.server.kubectl, "account-" + version.strip("!")
    k("create", "serviceaccount", name, version=version)
    for secret in ("one", "two"):
        k("patch", "serviceaccount", name, "-p", json.dumps({"secrets": [{"name": secret}]}), version=version)
    status, account = s.request("GET", "/api/v1/namespaces/default/serviceaccounts/" + name)
    check(status == 200 and sorted(x["name"] for x in account["secrets"]) == ["one", "two"], "strategic merge", account)
    k("delete", "serviceaccount", name, version=version)


@case
def server_side_apply_owns_fields_and_names_conflicts(t):
    s, k = t.server, t.server.kubectl
    vm = null_vm("owned", strategy="Halted")
    k("apply", "--server-side", "--field-manager=first", "-f", "-", stdin=json.dumps(vm))
    vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "64Mi"
    p = k("apply", "--server-side", "--field-manager=second", "-f", "-", stdin=json.dumps(vm), ok=False)
    check(p.returncode != 0 and "conflict" in p.text and "first" in p.text, "no conflict named", p.text)
    k("apply", "--server-side", "--field-manager=second", "--force-conflicts", "-f", "-", stdin=json.dumps(vm))
    check(s.get("vm", "owned")["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "64Mi", "forced value is not there")
    s.delete("vm", "owned")


@case(machine="")
def diff_and_dry_run_change_nothing(t):
    s, k = t.server, t.server.kubectl
    s.apply(null_vm("dry", strategy="Halted"))
    vm = null_vm("dry", strategy="Halted", memory="99Mi")
    p = k("diff", "-f", "-", stdin=json.dumps(vm), ok=False)
    check(p.returncode == 1 and "99Mi" in p.out, "kubectl diff", p.text)
    k("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(vm))
    check(s.get("vm", "dry")["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "32Mi", "a dry run changed it")
    k("delete", "vm", "dry", "--dry-run=server")
    check(s.get("vm", "dry"), "a dry run deleted it")
    s.delete("vm", "dry")


@case(machine="")
def who_may_do_what_is_answered(t):
    k = t.server.kubectl
    check("yes" in k("auth", "can-i", "delete", "vms").out, "the admin may not")
    k("create", "serviceaccount", "guest")
    p = k("auth", "can-i", "delete", "vms", "--as=system:serviceaccount:default:guest", ok=False)
    check("no" in p.out, "a plain service account may delete VMs", p.text)
    p = k("get", "vms", "--as=system:serviceaccount:default:guest", ok=False)
    check("forbidden" in p.text and "virtualmachines" in p.text, "no clear refusal", p.text)
    k("create", "rolebinding", "viewer", "--clusterrole=kubevirt.io:view", "--serviceaccount=default:guest")
    until(30, "the role works", lambda: k("get", "vms", "--as=system:serviceaccount:default:guest", ok=False).returncode == 0)
    k("delete", "rolebinding", "viewer")
    k("delete", "serviceaccount", "guest")


@case(machine="")
def a_chart_of_helm_is_installed_and_removed(t):
    from harness import Skip, run
    helm = t.config.tools + "/helm"
    if not os.path.exists(helm):
        raise Skip("no helm: npm could not bring it")
    chart = os.path.join(t.config.home, "chart")
    os.makedirs(chart + "/templates", exist_ok=True)
    with open(chart + "/Chart.yaml", "w", encoding="utf-8") as f:
        f.write("apiVersion: v2\nname: vms\nversion: 0.1.0\n")
    with open(chart + "/templates/vm.yaml", "w", encoding="utf-8") as f:
        vm = null_vm("from-chart")
        f.write(json.dumps(vm).replace('"from-chart"', '"{{ .Release.Name }}-vm"'))
    env = t.server.env()
    # Without --wait: helm takes an object that has no status yet for one that is ready, and gives up when the status then says
    # that it is not – now and then, with any controller.
    p = run([helm, "install", "rel", chart], env=env)
    check(p.returncode == 0 and t.server.get("vm", "rel-vm"), "helm install", p.text)
    t.server.wait_phase("rel-vm")
    p = run([helm, "uninstall", "rel", "--wait"], env=env)
    check(p.returncode == 0 and t.server.get("vm", "rel-vm") is None, "helm uninstall", p.text)
