"""`vireo api` behind a real API server: webhooks, the aggregated API, consoles through both.

Where the operator has installed everything there is nothing to set up. Elsewhere this file does what it would: certificates, service
accounts with their roles, Services (with addresses by hand), webhook configurations without matchConditions, which 1.20 does not know,
and an APIService. The processes run as their service accounts, since the webhooks know our writes by those."""
import base64
import json
import os
import subprocess
import time

from cases import collector
from cluster import HERE, IMAGE, NODE, NODES, ROOT, machine, output
from harness import Console, Failure, Terminal, check, until

ORDER = 85 # from here on roles that others start anew would have to be our accounts, too
collect, CASES = collector()
NS, HOST, API_PORT, HANDLER_PORT = "kubevirt", "10.244.0.1", 8444, 8443


# --- set-up -----------------------------------------------------------------------------------------------------------------------

def certificate(directory, name, subject, names=""):
    os.makedirs("%s/%s" % (directory, name), exist_ok=True)
    key, crt, ca = ("%s/%s" % (directory, f) for f in (name + "/tls.key", name + "/tls.crt", "ca"))
    output(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])
    if name == "authority":
        output(["openssl", "req", "-x509", "-new", "-key", key, "-out", crt, "-days", "30", "-subj", subject])
        with open(crt, "rb") as f, open(ca, "wb") as t:
            t.write(f.read())
        return
    output(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", directory + "/request"])
    with open(directory + "/names", "w", encoding="utf-8") as f:
        f.write("extendedKeyUsage=%s\n" % ("serverAuth" if names else "clientAuth") + ("subjectAltName=" + names if names else ""))
    output(["openssl", "x509", "-req", "-in", directory + "/request", "-CA", directory + "/authority/tls.crt", "-CAkey",
            directory + "/authority/tls.key", "-CAcreateserial", "-days", "30", "-out", crt, "-extfile", directory + "/names"])


def component(name):
    with open("%s/src/operator/%s" % (ROOT, name), encoding="utf-8") as f:
        return f.read().replace("${NAMESPACE}", NS)


def account_kubeconfig(c, account):
    """A kubeconfig with the token that the controller manager made for a service account. Every node reaches the server there."""
    def secret():
        names = [s["name"] for s in c.get("sa", "-n", NS, account).get("secrets", [])]
        return c.get("secret", "-n", NS, names[0])["data"]["token"] if names else None
    token = base64.b64decode(until(30, account + " has a token", secret)).decode()
    path = "%s/%s.kubeconfig" % (c.dir, account)
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": token}}],
                   "clusters": [{"name": "c", "cluster": {"server": "https://%s:6443" % HOST, "certificate-authority": c.dir + "/pki/ca.crt"}}],
                   "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}, f)
    return path


def role(c, what, account, *args, node=NODE):
    """Like Cluster.start, under an account of its own, and in the place of the one that runs."""
    name = what if node == NODE else node + "-" + what
    if name in c.roles and c.roles[name].poll() is None:
        c.roles[name].terminate()
        c.roles[name].wait(20)
    with open("%s/%s.log" % (c.dir, name), "a", encoding="utf-8") as log:
        c.roles[name] = subprocess.Popen([HERE + "/on", c.dir, node, c.build + "/vireo", what, "--kubeconfig", account_kubeconfig(c, account),
                                          *args], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    with open("%s/run/%s.pid" % (c.dir, name), "w", encoding="utf-8") as f:
        f.write(str(c.roles[name].pid))


def service(name, port):
    common = {"metadata": {"name": name, "namespace": NS}, "apiVersion": "v1"}
    return [{**common, "kind": "Service", "spec": {"ports": [{"name": "main", "port": 443, "targetPort": port}]}},
            {**common, "kind": "Endpoints", "subsets": [{"addresses": [{"ip": HOST}], "ports": [{"name": "main", "port": port}]}]}]


def start_api(c):
    pki = c.dir + "/vireo-pki"
    role(c, "api", "kubevirt-apiserver", "--listen", "%s:%d" % (HOST, API_PORT), "--tls-dir", pki + "/api", "--ca", pki + "/ca",
         "--handler-client-dir", pki + "/handler-client")
    until(30, "virt-api is ready", lambda: direct(c, "/readyz", "-o", "/dev/null", "-w", "%{http_code}") == "200", 0.3)


def install(c):
    pki = c.dir + "/vireo-pki"
    os.makedirs(pki, exist_ok=True)
    certificate(pki, "authority", "/CN=kubevirt.io")
    certificate(pki, "api", "/CN=virt-api", "DNS:virt-api.%s.svc" % NS)
    certificate(pki, "handler", "/CN=virt-handler", "DNS:virt-handler.%s.svc" % NS)
    certificate(pki, "handler-client", "/CN=kubevirt.io:system:client:virt-handler")
    for f in ("components/rbac.yaml", "components/rbac-users.yaml"):
        c.kubectl("apply", "-f", "-", stdin=component(f))
    c.kubectl("apply", "-f", "-", stdin=component("operator-rbac.yaml").rsplit("\n---\n", 1)[1])
    # Agents in pods of their own (cases_node.py) have another authority's certificates, and a node has one agent.
    c.kubectl("delete", "daemonset", "-n", NS, "virt-handler", "--ignore-not-found", timeout=120)
    until(60, "no other agent is left", lambda: not c.get("pods", "-n", NS, "-l", "kubevirt.io=virt-handler")["items"], 0.5)
    addresses = {n["metadata"]["name"]: [x["address"] for x in n["status"]["addresses"] if x["type"] == "InternalIP"][0]
                 for n in c.get("nodes")["items"]}
    c.apply(*service("virt-api", API_PORT))
    role(c, "controller", "kubevirt-controller", "--launcher-image", IMAGE)
    for node in NODES:
        # What the agent of a node is found by: its pod, here one that sleeps, in the host's network.
        c.apply({"apiVersion": "v1", "kind": "Pod",
                 "metadata": {"name": "virt-handler-" + node, "namespace": NS, "labels": {"kubevirt.io": "virt-handler"}},
                 "spec": {"hostNetwork": True, "nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [
                     {"name": "virt-handler", "image": "docker.io/vireo/pause:latest", "imagePullPolicy": "IfNotPresent"}]}})
        role(c, "handler", "kubevirt-handler", "--node-name", node, "--listen", "%s:%d" % (addresses[node], HANDLER_PORT), "--tls-dir",
             pki + "/handler", "--ca", pki + "/ca", node=node)
    start_api(c)
    with open(pki + "/ca", "rb") as f:
        bundle = base64.b64encode(f.read()).decode()
    mine = component("components/webhooks.yaml").replace("${CA_BUNDLE}", bundle).split("\n---\n")[:2]
    c.kubectl("apply", "--validate=false", "-f", "-", stdin="\n---\n".join(mine))
    c.apply(*({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": v + ".subresources.kubevirt.io"},
               "spec": {"group": "subresources.kubevirt.io", "version": v, "caBundle": bundle, "groupPriorityMinimum": 1000,
                        "versionPriority": 15, "service": {"name": "virt-api", "namespace": NS, "port": 443}}} for v in ("v1", "v1alpha3")))


def available(c, version="v1"):
    conditions = (c.get("apiservice", version + ".subresources.kubevirt.io").get("status") or {}).get("conditions") or []
    return any(x["type"] == "Available" and x["status"] == "True" for x in conditions)


# --- who asks -----------------------------------------------------------------------------------------------------------------------

def virtctl(c, *args, user=None, timeout=60):
    argv = [HERE + "/in", c.dir, c.build + "/virtctl", *args]
    env = dict(os.environ)
    if user:
        argv = [HERE + "/in", c.dir, "env", "KUBECONFIG=" + user, c.build + "/virtctl", *args]
    p = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, env=env)
    return p.returncode, p.stdout + p.stderr


def good(c, *args, **how):
    code, text = virtctl(c, *args, **how)
    check(code == 0, "virtctl " + " ".join(args), text)
    return text


def user(c, name):
    """A kubeconfig of a user without any role."""
    if not os.path.exists("%s/pki/%s.crt" % (c.dir, name)):
        pki = c.dir + "/pki"
        output(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "%s/%s.key" % (pki, name)])
        output(["openssl", "req", "-new", "-key", "%s/%s.key" % (pki, name), "-subj", "/CN=" + name, "-out", pki + "/request"])
        output(["openssl", "x509", "-req", "-in", pki + "/request", "-CA", pki + "/ca.crt", "-CAkey", pki + "/ca.key", "-CAcreateserial", "-days",
                "30", "-out", "%s/%s.crt" % (pki, name)])
    path = "%s/%s.kubeconfig" % (c.dir, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(output([HERE + "/kubeconfig", c.dir, name]))
    return path


def address(c):
    """Where virt-api itself listens, past the API server."""
    e = c.get("endpoints", "-n", NS, "virt-api")["subsets"][0]
    return e["addresses"][0]["ip"], e["ports"][0]["port"]


def direct(c, path, *args):
    ip, port = address(c)
    return c.inside("curl", "-sk", "-m", "10", "https://%s:%d%s" % (ip, port, path), *args)


def identity(c, name):
    return ["--cert", "%s/pki/%s.crt" % (c.dir, name), "--key", "%s/pki/%s.key" % (c.dir, name)]


SUBRESOURCE = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/api/start"
AS_ADMIN = ["-H", "X-Remote-User: admin", "-H", "X-Remote-Group: system:masters"]


def refused(c, body, *words):
    p = subprocess.run([HERE + "/in", c.dir, "kubectl", "apply", "-f", "-"], input=json.dumps(body), capture_output=True, text=True, timeout=60,
                       check=False)
    check(p.returncode != 0 and all(w in p.stderr for w in words), "refused with " + " and ".join(words), p.stdout, p.stderr)


def case(fn):
    """A case of this file alone (--only) sets up what it needs."""
    def prepared(c):
        if not c.maybe("apiservice", "v1.subresources.kubevirt.io"):
            install(c)
        until(60, "the aggregated API is available", lambda: available(c), 0.5,
              lambda: c.kubectl("get", "apiservice", "v1.subresources.kubevirt.io", "-o", "yaml"))
        fn(c)
    prepared.__name__ = fn.__name__
    return collect(prepared)


# --- cases --------------------------------------------------------------------------------------------------------------------------

@case
def the_api_server_takes_webhooks_and_the_aggregated_api(c):
    until(60, "the older version, too", lambda: available(c, "v1alpha3"), 0.5)
    def discovered(): # the API server routes to us a moment after it has found us available
        try:
            return [r["name"] for r in json.loads(c.kubectl("get", "--raw", "/apis/subresources.kubevirt.io/v1"))["resources"]]
        except Failure:
            return None
    names = until(30, "discovery goes through", discovered, 0.5)
    check("virtualmachines/start" in names and "virtualmachineinstances/console" in names, "discovery", names)
    check("v1.8" in good(c, "version"), "virtctl version asks the server")
    paths = until(90, "the API server's OpenAPI has the paths",
                  lambda: [p for p in json.loads(c.kubectl("get", "--raw", "/openapi/v2"))["paths"] if p.endswith("/start")], 2)
    check(len(paths) == 2, "one for each version", paths)


@case
def a_webhook_fills_in_what_a_user_leaves_out(c):
    c.volume("api")
    vm = machine("api")
    vm["spec"]["runStrategy"] = "Halted"
    domain = vm["spec"]["template"]["spec"]["domain"]
    for name in ("cpu", "machine"):
        del domain[name]
    c.apply(vm)
    made = c.get("vm", "api")["spec"]["template"]["spec"]
    check(made["domain"]["machine"]["type"] == "q35" and made["domain"]["firmware"]["uuid"], "defaults", made)
    check(made["architecture"] == "amd64", "defaults", made)


@case
def what_breaks_the_rules_is_refused_with_the_words_of_one_machine(c):
    vm = machine("bad")
    vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["name"] = "nowhere"
    # kubectl makes its words from the causes, which the webhook hands on.
    refused(c, vm, 'The VirtualMachine "bad" is invalid: ', "spec.template.spec.domain.devices.disks[0].Name 'nowhere' not found.")
    vm = machine("bad")
    vm["spec"]["template"]["spec"]["domain"]["launchSecurity"] = {"sev": {}}
    refused(c, vm, 'The VirtualMachine "bad" is invalid: ', "spec.template.spec.domain.launchSecurity")
    check(not c.maybe("vm", "bad"), "nothing was made")
    # A dry run is asked about, too, and leaves nothing.
    out = c.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps({**machine("dry"), "spec": {
        **machine("dry")["spec"], "runStrategy": "Halted"}}))
    check(json.loads(out)["spec"]["template"]["spec"]["domain"]["firmware"]["uuid"] and not c.maybe("vm", "dry"), "dry run", out)


@case
def virtctl_starts_a_machine_and_its_console_is_a_terminal(c):
    good(c, "start", "api")
    c.running("api")
    code, text = virtctl(c, "start", "api")
    check(code != 0 and "already running" in text, "a second start", text)
    with Console(Terminal([HERE + "/in", c.dir, c.build + "/virtctl", "console", "api"], {})) as console:
        console.expect("login:", 300, nudge=b"\n")
        console.stream.write(b"\x1d")
        until(30, "virtctl console ends", lambda: console.stream.process.poll() is not None)


@case
def a_status_that_a_user_writes_is_put_back(c):
    c.kubectl("patch", "vmi", "api", "--type=merge", "-p", '{"status":{"nodeName":"elsewhere"},"metadata":{"labels":{"seen":"yes"}}}')
    vmi = c.get("vmi", "api")
    check(vmi["status"]["nodeName"] == NODE and vmi["metadata"]["labels"]["seen"] == "yes", "status", vmi["status"])


@case
def an_eviction_of_a_machine_that_must_move_is_refused(c):
    pod = c.pod_of("api")["metadata"]["name"]
    path = "/api/v1/namespaces/default/pods/%s/eviction" % pod
    body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}, "deleteOptions": {
        "dryRun": ["All"]}}

    def evict():
        p = subprocess.run([HERE + "/in", c.dir, "kubectl", "create", "--raw", path, "-f", "-"], input=json.dumps(body), capture_output=True,
                           text=True, timeout=60, check=False)
        return p.returncode, p.stdout + p.stderr
    code, text = evict()
    check(code == 0, "without a strategy it may go (dry run)", text)
    c.kubectl("create", "-f", "-", stdin=json.dumps({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "stays", "namespace": "default"},
        "spec": {**machine("stays")["spec"]["template"]["spec"], "evictionStrategy": "LiveMigrate", "volumes": [
            {"name": n, "emptyDisk": {"capacity": "16Mi"}} for n in ("root", "scratch", "seed")]}}))
    pod = until(60, "it has a pod", lambda: c.pod_of("stays"))["metadata"]["name"]
    path, body["metadata"]["name"] = "/api/v1/namespaces/default/pods/%s/eviction" % pod, pod
    code, text = evict()
    check(code != 0 and "VMI stays is configured with an eviction strategy but is not live-migratable" in text, "refused", code, text)
    c.kubectl("delete", "vmi", "stays", "--wait=false")


@case
def who_has_no_rights_is_refused_and_who_has_them_is_not(c):
    mallory = user(c, "mallory")
    code, text = virtctl(c, "stop", "api", user=mallory)
    check(code != 0 and 'User "mallory" cannot update resource "virtualmachines/stop" in API group "subresources.kubevirt.io"' in text,
          "the API server's words", text)
    c.kubectl("create", "rolebinding", "mallory", "-n", "default", "--clusterrole=kubevirt.io:edit", "--user=mallory")
    good(c, "pause", "vmi", "api", user=mallory)
    until(20, "it is paused", lambda: any(x["type"] == "Paused" for x in c.get("vmi", "api")["status"]["conditions"]))
    good(c, "unpause", "vmi", "api", user=mallory)


@case
def who_is_not_the_API_server_cannot_say_who_asks(c):
    def status(*args):
        return direct(c, SUBRESOURCE, "-X", "PUT", "-w", " %{http_code}", *args)
    said = {"nobody's certificate": status(*AS_ADMIN), "an administrator's certificate": status(*identity(c, "admin"), *AS_ADMIN),
            "the scheduler's": status(*identity(c, "scheduler"), *AS_ADMIN)}
    for who, text in said.items():
        check(text.endswith(" 401") and "request is not authenticated" in text, who, text)
    proxy = identity(c, "front-proxy")
    text = status(*proxy)
    check(text.endswith(" 401") and "a valid user header is required" in text, "the front proxy without a user", text)
    text = status(*proxy, *AS_ADMIN, "-H", "X-Remote-User: system:admin")
    check(text.endswith(" 401") and "twice" in text, "two users", text)
    text = status(*proxy, *AS_ADMIN, "--http1.1", "-H", "Connection: x-remote-group")
    check(text.endswith(" 401") and "Connection" in text, "a header that Connection names", text)
    text = status(*proxy, "-H", "X-Remote-User: nobody", "-H", "X-Remote-Group: system:authenticated")
    check(text.endswith(" 401") and 'User \\"nobody\\" cannot update resource \\"virtualmachines/start\\"' in text, "without rights", text)
    text = status(*proxy, *AS_ADMIN)
    check(text.endswith(" 409") and "VM is already running" in text, "the front proxy itself", text)
    # Through the API server such headers are nobody's: it takes them out and puts its own in.
    mallory = c.inside("curl", "-sk", *identity(c, "mallory"), "-X", "PUT", "https://127.0.0.1:6443" + SUBRESOURCE.replace("default", "kube-system"),
                       *AS_ADMIN, "-w", " %{http_code}")
    check(mallory.endswith(" 403") and "mallory" in mallory, "forged to the API server", mallory)


@case
def what_is_no_review_gets_an_answer_in_words(c):
    for body, code, words in (("{", "400", "must be an AdmissionReview"), ("[]", "400", "must be an AdmissionReview"),
                              ("{\"a\":" * 300, "400", "")):
        path = c.dir + "/body"
        with open(path, "w", encoding="utf-8") as f:
            f.write(body)
        text = direct(c, "/virtualmachines-validate", "--data-binary", "@" + path, "-H", "Content-Type: application/json", "-w", " %{http_code}")
        check(text.endswith(" " + code) and words in text, "answer to " + body[:20], text[-300:])
    check(direct(c, "/readyz") == "ok", "it goes on")


@case
def virt_api_started_anew_goes_on(c):
    if "api" not in c.roles:
        return # the operator's pods: cases of their own
    c.roles["api"].terminate()
    begun = time.monotonic()
    check(c.roles["api"].wait(20) == 0, "asked to end, it ends")
    check(time.monotonic() - begun < 12, "and soon")
    start_api(c)

    def stopped():
        code, text = virtctl(c, "stop", "api")
        if code:
            raise Failure(text)
        return True
    until(30, "virtctl stop", stopped, 1)
    until(120, "the machine is stopped", lambda: c.phase("api") is None, 0.5, lambda: c.say("api"))
    text = direct(c, "/metrics")
    check('vireo_subresource_requests_total{verb="update",resource="virtualmachines",subresource="stop"} 1' in text, "metrics", text[-2000:])
    with open("/proc/%s/status" % process_of(c), encoding="utf-8") as f:
        rss = int([line for line in f if line.startswith("VmRSS")][0].split()[1])
    print("     virt-api: %.1f MiB resident" % (rss / 1024), flush=True)
    check(rss < 16 * 1024, "resident memory of virt-api, KiB", rss)


def process_of(c):
    """`in` has become the program by exec."""
    return c.roles["api"].pid
