"""Services and accounts inside the cluster, as our roles need them in pods. Nothing of ours yet: what fails here is the set-up."""
import json

from cases import collector
from harness import check, until

ORDER = 5
case, CASES = collector()


def web(name, node=None):
    """A pod that answers `GET /` with its name, and its Service."""
    page = "/bin/busybox mkdir -p /run/w && echo %s >/run/w/index.html && exec /bin/busybox httpd -f -p 8080 -h /run/w" % name
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"web": name}},
             "spec": {**({"nodeName": node} if node else {}), "terminationGracePeriodSeconds": 0, "containers": [
                 {"name": "web", "image": "docker.io/vireo/pause:latest", "imagePullPolicy": "Never",
                  "command": ["/bin/busybox", "sh", "-c", page]}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default", "labels": {"web": name}},
             "spec": {"selector": {"web": name}, "ports": [{"port": 80, "targetPort": 8080}]}}]


def ask(c, pod, address, port=80):
    return c.kubectl("exec", pod, "--", "/bin/busybox", "sh", "-c",
                     "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 %s %d || true" % (address, port))


@case
def pods_of_both_nodes_reach_services_their_own_and_the_api_server(c):
    c.apply(*web("one", "node1"), *web("two", "node2"))
    until(90, "pods run", lambda: all(p["status"]["phase"] == "Running" for p in c.get("pods", "-l", "web")["items"]), 0.5)
    for name in ("one", "two"):
        address = c.get("svc", name)["spec"]["clusterIP"]
        for pod in ("one", "two"):
            until(20, "%s answers %s at %s" % (name, pod, address), lambda: ask(c, pod, address).rstrip().endswith(name), 0.5)
        until(20, "%s answers the API server's machine" % name,
              lambda: c.inside("sh", "-c", "curl -s -m 5 http://%s/ || true" % address).strip() == name, 0.5)
    check("HTTP/1.0 400" in ask(c, "one", "10.96.0.1", 443), "the API server answers in a pod: this port wants TLS")


@case
def pods_have_a_token_that_the_api_server_knows(c):
    token = c.kubectl("exec", "one", "--", "/bin/busybox", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token").strip()
    who = json.loads(c.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}})))
    check(who["status"].get("user", {}).get("username") == "system:serviceaccount:default:default", "its account", who["status"])
    c.kubectl("delete", "pod,svc", "-l", "web", "--wait=false")
