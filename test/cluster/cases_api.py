"""virt-api behind a real API server: webhooks, the aggregated API, consoles through both."""
import json
import os
import subprocess
import time

from cases import collector
from cluster import HERE, NODE, machine, output
from harness import Console, Failure, Terminal, check, until

ORDER = 50
PODS = True # of what the operator has installed
case, CASES = collector()
NS = "kubevirt"


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


def addresses(c):
    """Where the pods of virt-api themselves listen, past the API server."""
    return ["%s:%d" % (a["ip"], part["ports"][0]["port"]) for part in c.get("endpoints", "-n", NS, "virt-api").get("subsets") or []
            for a in part.get("addresses") or []]


def direct(c, path, *args, at=None):
    return c.inside("curl", "-sk", "-m", "10", "https://%s%s" % (at or addresses(c)[0], path), *args)


def identity(c, name):
    return ["--cert", "%s/pki/%s.crt" % (c.dir, name), "--key", "%s/pki/%s.key" % (c.dir, name)]


SUBRESOURCE = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/api/start"
AS_ADMIN = ["-H", "X-Remote-User: admin", "-H", "X-Remote-Group: system:masters"]


def refused(c, body, *words):
    p = subprocess.run([HERE + "/in", c.dir, "kubectl", "apply", "-f", "-"], input=json.dumps(body), capture_output=True, text=True, timeout=60,
                       check=False)
    check(p.returncode != 0 and all(w in p.stderr for w in words), "refused with " + " and ".join(words), p.stdout, p.stderr)


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
def virt_api_killed_comes_back_and_goes_on(c):
    before = c.role_pids("api")
    c.kill("api")
    until(120, "as many are back", lambda: len(addresses(c)) == len(before), 0.5, c.role_logs)
    check(not set(before) & set(c.role_pids("api")), "they are others")
    until(60, "the aggregated API is available", lambda: available(c), 0.5, c.role_logs)

    def stopped():
        code, text = virtctl(c, "stop", "api")
        if code and "already" not in text:
            return None
        return True
    until(60, "virtctl stop", stopped, 1, c.role_logs)
    until(120, "the machine is stopped", lambda: c.phase("api") is None, 0.5, lambda: c.say("api"))
    metric = 'vireo_subresource_requests_total{verb="update",resource="virtualmachines",subresource="stop"} 1'
    texts = [direct(c, "/metrics", at=at) for at in addresses(c)]
    check(any(metric in t for t in texts), "one of them counted it", *[t[-2000:] for t in texts])
    for pid in c.role_pids("api"):
        with open("/proc/%d/status" % pid, encoding="utf-8") as f:
            rss = int([line for line in f if line.startswith("VmRSS")][0].split()[1])
        print("     virt-api: %.1f MiB resident" % (rss / 1024), flush=True)
        check(rss < 16 * 1024, "resident memory of virt-api, KiB", rss)
    c.kubectl("delete", "vm", "api", timeout=60)
