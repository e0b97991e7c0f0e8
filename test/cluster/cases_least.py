"""Least privilege: what our accounts may do, and whether they do it; what launchers may do."""
import datetime
import glob
import json
import os
import re
import subprocess

import yaml
from cases import collector
from cluster import NODE, ROOT
from harness import Failure, Skip, check, until

ORDER = 90 # when everybody has done what they do
case, CASES = collector()
NS = "kubevirt"
ACCOUNTS = {"controller": "kubevirt-controller", "handler": "kubevirt-handler", "api": "kubevirt-apiserver", "operator": "kubevirt-operator"}

# Rights that a run of these cases does not use, each with the reason why it is granted nevertheless.
UNUSED = {
    ("kubevirt-controller", "kubevirt.io", "virtualmachines/finalizers", "update"): "asked by the admission plugin OwnerReferencesPermissionEnforcement "
                                                                                "(OpenShift), which never shows in an audit log",
    ("kubevirt-controller", "kubevirt.io", "virtualmachineinstances/finalizers", "update"): "the same",
    ("kubevirt-controller", "", "nodes", "patch"): "a node whose agent was silent for five minutes",
    ("kubevirt-controller", "", "events", "patch"): "an Event that is repeated",
    ("kubevirt-handler", "", "events", "patch"): "the same",
    ("kubevirt-controller", "apps", "controllerrevisions", "delete"): "the revision of a VM's spec before the last but one",
    ("kubevirt-controller", "coordination.k8s.io", "leases", "create"): "once in the life of an installation",
    ("kubevirt-apiserver", "", "pods", "get"): "an eviction",
    ("kubevirt-apiserver", "", "pods", "list"): "a restart with a grace period of 0",
    ("kubevirt-apiserver", "", "pods", "delete"): "the same",
    ("kubevirt-apiserver", "kubevirt.io", "virtualmachineinstances", "get"): "every subresource of an instance",
    ("kubevirt-apiserver", "kubevirt.io", "virtualmachineinstances", "patch"): "a subresource that changes an instance",
    ("kubevirt-apiserver", "kubevirt.io", "virtualmachines", "get"): "start, stop and their kin",
    ("kubevirt-apiserver", "kubevirt.io", "virtualmachines", "patch"): "stop of a VM whose run strategy says Always",
    ("kubevirt-apiserver", "kubevirt.io", "virtualmachines/status", "patch"): "start and restart",
    ("kubevirt-apiserver", "authorization.k8s.io", "subjectaccessreviews", "create"): "every subresource",
}


def manifests():
    """The components that the operator installs, of which this cluster gets the roles."""
    objects = []
    for path in [*sorted(glob.glob(ROOT + "/src/operator/components/rbac*.yaml")), ROOT + "/src/operator/operator-rbac.yaml"]:
        with open(path, encoding="utf-8") as f:
            objects += [d for d in yaml.safe_load_all(f.read().replace("${NAMESPACE}", NS)) if d]
    return objects


def rights(objects, account, ns=None):
    """{(group, resource, verb, name or "")} that an account has in the whole cluster, and beyond that in a namespace."""
    roles = {(o["kind"], o["metadata"]["name"]): o for o in objects if o["kind"] in ("ClusterRole", "Role")}
    found = set()
    for o in objects:
        if o["kind"] not in ("ClusterRoleBinding", "RoleBinding") or not any(s.get("name") == account for s in o["subjects"]):
            continue
        if o["kind"] == "RoleBinding" and o["metadata"]["namespace"] != ns:
            continue
        for rule in roles[o["roleRef"]["kind"], o["roleRef"]["name"]]["rules"]:
            found |= {(g, r, v, n) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]
                      for n in rule.get("resourceNames", [""])}
    return found


def raw(c, method, path, body, *more):
    pki = c.dir + "/pki/"
    return json.loads(c.inside("curl", "-sS", "--cacert", pki + "ca.crt", "--cert", pki + "admin.crt", "--key", pki + "admin.key", "-X", method,
                               "-H", "Content-Type: application/json", "-d", json.dumps(body), *more, "https://127.0.0.1:6443" + path))


def token(c, account):
    """As the kubelet asks for one for a pod; this one is bound to none."""
    answer = raw(c, "POST", "/api/v1/namespaces/%s/serviceaccounts/%s/token" % (NS, account),
                 {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}})
    check("status" in answer and "token" in answer["status"], "a token of " + account, answer)
    return answer["status"]["token"]


def kubeconfig(c, account, server="https://127.0.0.1:6443"):
    name = "%s/%s%s.kubeconfig" % (c.dir, account, "" if "127.0.0.1" in server else "-other")
    with open(name, "w", encoding="utf-8") as f:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                   "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": c.dir + "/pki/ca.crt"}}],
                   "users": [{"name": "u", "user": {"token": token(c, account)}}]}, f)
    return name


def as_account(c, account, *args):
    """What kubectl answers to an account, also when that is a refusal."""
    try:
        return c.kubectl("--kubeconfig", kubeconfig(c, account), *args)
    except Failure as e:
        return str(e)


def audited(c):
    """[(account, group, resource/subresource, verb, namespace, name, code, "allow" or "forbid" as RBAC said, seconds)] of all requests that our roles made."""
    found = []
    with open(c.dir + "/audit.json", encoding="utf-8") as f:
        for line in f:
            event = json.loads(line)
            o = event.get("objectRef")
            if not o or not o.get("resource") or event.get("userAgent", "").startswith(("kubectl", "curl")):
                continue  # discovery; and what cases ask in an account's name
            found.append((event["user"]["username"].rpartition(":")[2], o.get("apiGroup", ""), "/".join(filter(None, [o["resource"], o.get("subresource")])),
                          event["verb"], o.get("namespace", ""), o.get("name", ""), event.get("responseStatus", {}).get("code", 0),
                          event.get("annotations", {}).get("authorization.k8s.io/decision", ""),
                          datetime.datetime.fromisoformat(event["requestReceivedTimestamp"][:19]).timestamp()))
    return found


SPARED = 60 # seconds


def refused(events, there):
    """Those that lacked a right, or that an admission refused; `there` are the namespaces that nobody is deleting, for in others nothing may
    be made, whoever asks. An API server that has just started answers before it has read its roles, and so do roles that have just
    been made: who asks then is refused what is allowed within the next minute, and has lacked nothing. A watch that is allowed is in the
    log only when it ends; one that is not allowed is refused again and again, without a pause."""
    allowed, watches, objects = {}, {}, manifests()
    whole = {account: rights(objects, account, NS) for account in ACCOUNTS.values()}
    for e in events:
        if e[7] == "allow":
            allowed.setdefault(e[:6], []).append(e[8])
            allowed.setdefault(e[:4], []).append(e[8])
        elif e[6] == 403 and e[3] == "watch":
            watches.setdefault(e[:6], []).append(e[8])

    def spared(e):
        if e[3] != "watch":
            # The object itself may be gone by then. What is granted for all of its kind is allowed for another one.
            same = e[:4] if (*e[1:4], "") in whole.get(e[0], ()) else e[:6]
            return any(0 <= t - e[8] <= SPARED for t in allowed.get(same, ()))
        first = last = e[8]
        for t in sorted(watches[e[:6]]):
            if last < t <= last + SPARED:
                last = t
        return last - first <= SPARED / 2 and max(x[8] for x in events) > last + SPARED
    return {e[:8] for e in events if e[6] == 403 and (e[7] != "forbid" or not spared(e)) and not (e[3] == "create" and e[4] and e[4] not in there)}


def mini(name, memory="64Mi"):
    """Firmware that finds nothing to boot."""
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name, "namespace": "default"},
            "spec": {"runStrategy": "RerunOnFailure", "template": {"spec": {
                "terminationGracePeriodSeconds": 0, "nodeSelector": {"kubernetes.io/hostname": NODE},
                "domain": {"cpu": {"cores": 1, "sockets": 1, "threads": 1}, "memory": {"guest": memory}, "machine": {"type": "q35"},
                           "devices": {"autoattachGraphicsDevice": False, "autoattachPodInterface": False, "disks": [{"name": "scratch", "disk": {"bus": "virtio"}}]}},
                "volumes": [{"name": "scratch", "emptyDisk": {"capacity": "32Mi"}}]}}}}


def work_under_accounts(c):
    """Beside the cluster our roles run as its administrator."""
    c.apply(*[o for o in manifests() if o["kind"] == "ServiceAccount"])
    c.apply(*[o for o in manifests() if o["kind"] != "ServiceAccount"])
    for name, process in list(c.roles.items()):
        role = name.rpartition("-")[2]
        argv = list(process.args)
        if process.poll() is not None or role not in ACCOUNTS or "--kubeconfig" not in argv:
            continue
        at = argv.index("--kubeconfig") + 1
        here = argv[at] == c.dir + "/admin.kubeconfig"
        argv[at] = kubeconfig(c, ACCOUNTS[role], "https://127.0.0.1:6443" if here else "https://10.244.0.1:6443")
        c.kill(name)
        with open("%s/%s.log" % (c.dir, name), "a", encoding="utf-8") as log:
            c.roles[name] = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        with open("%s/run/%s.pid" % (c.dir, name), "w", encoding="utf-8") as f:
            f.write(str(c.roles[name].pid))


@case
def our_roles_work_under_their_own_accounts(c):
    if c.outside:
        work_under_accounts(c)
    else:
        pods = c.get("pods", "-n", NS)["items"]
        found = {p["metadata"]["labels"].get("kubevirt.io"): p["spec"]["serviceAccountName"] for p in pods}
        check(found == {"virt-" + role: account for role, account in ACCOUNTS.items()}, "a pod for each role, under its account", found)
    c.apply(mini("least"))
    c.running("least")
    c.kubectl("patch", "vm", "least", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}')
    until(60, "it is stopped", lambda: c.phase("least") is None, 0.5, lambda: c.say("least"))
    c.kubectl("patch", "vm", "least", "--type=merge", "-p", '{"spec":{"runStrategy":"RerunOnFailure"}}')
    c.running("least")


@case
def a_launcher_has_the_rights_of_nobody(c):
    if not c.maybe("vmi", "least"):
        c.apply(mini("least"))
    c.running("least")
    pod = c.pod_of("least")
    pid = c.qemus()["least"]
    with open("/proc/%d/status" % pid, encoding="utf-8") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    check(status["Uid"].split() == ["107"] * 4 and status["CapBnd"].strip("0") == "" and status["Seccomp"] == "2" and status["NoNewPrivs"] == "1",
          "user 107, no capabilities, a list of system calls, no new privileges", status)
    with open("/proc/%d/mountinfo" % pid, encoding="utf-8") as f:
        root = next(line.split() for line in f if line.split()[4] == "/")
    check("ro" in root[5].split(","), "its root is read-only", root)
    spec = pod["spec"]
    check(spec["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}, "the pod says so", spec["securityContext"])
    check(spec["containers"][0]["securityContext"].get("readOnlyRootFilesystem") is True, "and so", spec["containers"][0])
    check(not any("serviceAccountToken" in json.dumps(v) or "default-token" in json.dumps(v) for v in spec["volumes"]), "it has no token", spec["volumes"])


@case
def what_is_installed_grants_what_the_manifests_say_and_nothing_else(c):
    """`kubectl auth can-i --list` of each account, less what everybody has who may log in."""
    def listed(user):
        lines = c.kubectl("auth", "can-i", "--list", "-n", NS, "--no-headers", *user).splitlines()
        found = set()
        for line in lines:
            if line[:1].isspace():
                continue  # paths that are no resources
            resource, urls, names, verbs = re.match(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]$", line.strip()).groups()
            check(not urls, "a resource", line)
            found |= {(resource, name, verb) for name in names.split() or [""] for verb in verbs.split()}
        return found

    everybody = listed(["--as", "nobody-at-all", "--as-group", "system:authenticated"])
    objects = manifests()
    for account in ACCOUNTS.values():
        want = set()
        for group, resource, verb, name in rights(objects, account, NS):
            base, _, sub = resource.partition("/")
            want.add((".".join(filter(None, [base, group])) + ("/" + sub if sub else ""), name, verb))
        want = {w for w in want if w not in everybody}
        got = listed(["--as", "system:serviceaccount:%s:%s" % (NS, account), "--as-group", "system:authenticated",
                      "--as-group", "system:serviceaccounts"]) - everybody
        check(got == want, account + " has exactly what it should", "more: %s" % sorted(got - want), "less: %s" % sorted(want - got))


@case
def secrets_and_other_peoples_objects_are_refused(c):
    for account in ("kubevirt-handler", "kubevirt-controller", "kubevirt-apiserver"):
        for argv in (["get", "secrets", "-A"], ["get", "secret", "-n", NS, "kubevirt-ca"], ["get", "configmaps", "-n", "kube-system"],
                     ["create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=x"],
                     ["delete", "node", NODE], ["get", "serviceaccounts", "-n", NS]):
            said = as_account(c, account, *argv)
            check("orbidden" in said, "%s: %s is forbidden" % (account, " ".join(argv)), said)
    said = as_account(c, "kubevirt-handler", "delete", "pod", "-n", "default", "--all")
    check("orbidden" in said, "an agent deletes no pods", said)
    said = as_account(c, "kubevirt-operator", "get", "secrets", "-n", "default")
    check("orbidden" in said, "the operator reads secrets in its own namespace only", said)
    said = as_account(c, "kubevirt-operator", "create", "clusterrole", "mine", "--verb=*", "--resource=*")
    check("orbidden" in said, "the operator makes no roles but ours", said)


@case
def what_is_granted_is_used_and_nothing_was_refused(c):
    if not os.path.exists(c.dir + "/audit.json"):
        raise Skip("the API server writes no audit log")
    c.kubectl("delete", "vm", "least", "--ignore-not-found", timeout=60)
    until(60, "its instance is gone", lambda: c.phase("least") is None, 0.5)
    events = audited(c)
    there = {n["metadata"]["name"] for n in c.get("namespaces")["items"] if n["status"].get("phase") == "Active"}
    forbidden = sorted(refused(events, there))
    check(not forbidden, "no request of our roles was refused", *forbidden[:20])
    speaking = {e[0] for e in events}
    check({"kubevirt-controller", "kubevirt-handler"} <= speaking, "controller and handler were heard", speaking)
    used = {e[:4] for e in events if e[6] < 500}
    used |= {(a, g, r, "watch") for a, g, r, verb in used if verb == "list"}  # the log has a watch only when it ends
    objects = manifests()
    granted = {(account, *right[:3]) for account in speaking for right in rights(objects, account, NS)}
    # What the operator hands on it never uses; check-rbac holds that it is no more than that. Its own depends on what is installed.
    lazy = sorted(g for g in granted - used if g not in UNUSED and g[0] != "kubevirt-operator")
    check(not lazy, "every right is used, or UNUSED in cases_least.py says why not", *lazy)
    stale = sorted(k for k in UNUSED if k[0] in speaking and k not in granted)
    check(not stale, "UNUSED names rights that exist", *stale)
