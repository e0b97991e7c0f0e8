"""Clients that are not ours: recorded sessions of both kubectls, the official Python and JavaScript clients, a thousand watches."""
import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import time
import urllib.request

from cases import EMBEDDED, collector
from harness import ROOT, Background, Skip, check, free_port, run, until

case, CASES = collector(machine=EMBEDDED)
BOTH = ("old", "new!")


@case(each=BOTH)
def a_recorded_session_of_kubectl_prints_the_same(t, version):
    name = "1.20" if version == "old" else "1.35"
    with t.own_server("session") as s:
        s.start()
        p = run([sys.executable, ROOT + "/test/clients/session.py", t.config.kubectl(version), s.kubeconfig,
                 ROOT + "/test/clients/session-%s.out" % name], timeout=300)
        check(p.returncode == 0, "the session differs from its recording", p.text[-6000:])


def relay(t, argv, env):
    """A client's program tells one line per promise: all of them have to hold."""
    p = run(argv, timeout=240, env={**env, "VIREO_KUBEVIRT": "1"})
    bad = [line for line in p.out.split("\n") if line.startswith("FAIL")]
    check(p.returncode == 0 and not bad, "; ".join(bad) or "it ended with %d" % p.returncode, p.text[-3000:])
    check(p.out.count("ok  ") >= 6, "it tried less than it should", p.text[-3000:])


@case
def the_official_python_client_does_all_it_can(t):
    python = "/usr/bin/python3"  # the distribution's, whose packages the client is one of
    if run([python, "-c", "import kubernetes"]).returncode:
        raise Skip("python3-kubernetes is not installed")
    relay(t, [python, ROOT + "/test/clients/python_client.py", t.server.kubeconfig], t.server.env())


@case
def the_official_javascript_client_does_all_it_can(t):
    where = t.config.tools + "/js"
    p = run([ROOT + "/tools/js-client", where], timeout=300)
    if p.returncode:
        raise Skip("no JavaScript client: " + p.text.strip()[-200:])
    version = run(["node", "--version"]).out.strip()
    if int(re.match(r"v(\d+)", version).group(1)) < 20:
        raise Skip("the JavaScript client needs Node.js 20, here is " + version)
    relay(t, ["node", ROOT + "/test/clients/js_client.mjs", t.server.kubeconfig], {**t.server.env(), "JS_CLIENT_DIR": where})


@case(each=BOTH)
def proxy_serves_the_api_on_loopback(t, version):
    port = free_port()
    with Background([t.config.kubectl(version), "proxy", "--port=%d" % port], t.server.env()) as proxy:
        proxy.expect("Starting to serve")
        with urllib.request.urlopen("http://127.0.0.1:%d/api/v1/namespaces/default" % port, timeout=10) as r:
            check(json.load(r)["metadata"]["name"] == "default", "the proxy answers something else")
        with urllib.request.urlopen("http://127.0.0.1:%d/openapi/v2" % port, timeout=10) as r:
            check(json.load(r)["swagger"] == "2.0", "no OpenAPI document by the proxy")


@case
def rights_are_listed_and_identities_told(t):
    k = t.server.kubectl
    out = k("auth", "can-i", "--list").out
    check(re.search(r"\*\.\* +\[\] +\[\] +\[\*\]", out), "the administrator's rights", out)
    out = k("auth", "can-i", "--list", "--as=nobody", "-n", "default").out
    check("selfsubjectaccessreviews.authorization.k8s.io" in out and "*.*" not in out, "a stranger's rights", out)
    out = k("auth", "whoami").out
    check("system:masters" in out and "system:authenticated" in out, "whoami", out)
    k("create", "serviceaccount", "told")
    token = k("create", "token", "told", "--duration=10m").out.strip()
    out = k("--token", token, "auth", "whoami", env={"KUBECONFIG": bare_config(t)}).out
    check("system:serviceaccount:default:told" in out, "whoami by token", out)
    k("delete", "serviceaccount", "told")


def bare_config(t):
    """A kubeconfig with the server and no credentials."""
    path = os.path.join(t.config.home, "bare.kubeconfig")
    with open(t.server.kubeconfig, encoding="utf-8") as f:
        text = re.sub(r"^ *client-(certificate|key)-data:.*\n", "", f.read(), flags=re.M)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


@case
def events_are_listed_by_both_verbs(t):
    s, k = t.server, t.server.kubectl
    body = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "told.1", "namespace": "default"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "e2e", "reportingInstance": "e2e-0", "action": "Telling",
            "reason": "Told", "note": "it was told", "type": "Normal", "regarding": {"kind": "Namespace", "name": "default", "apiVersion": "v1"}}
    status, answer = s.request("POST", "/apis/events.k8s.io/v1/namespaces/default/events", body)
    check(status == 201, "POST events.k8s.io: %d" % status, answer)
    out = k("events", "-n", "default", "--for", "namespace/default").out
    check("Told" in out and "it was told" in out, "kubectl events --for", out)
    out = k("events", "-n", "default", "--types=Warning").out
    check("Told" not in out, "kubectl events --types", out)
    out = k("get", "events", "--field-selector", "reason=Told", "-o", "jsonpath={.items[0].message}").out
    check(out == "it was told", "the same by the core group", out)
    k("delete", "event", "told.1")


@case(each=BOTH)
def objects_of_a_definition_live_as_built_in_ones_do(t, version):
    """What the recorded session cannot hold: the API server that was recorded breaks on objects of definitions."""
    k, tag = t.server.kubectl, "old" if version == "old" else "new"
    group = "%s.e2e.example" % tag
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets." + group}, "spec": {
        "group": group, "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
        "versions": [{"name": "v1", "served": True, "storage": True,
                      "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                      "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                                                   {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1}],
                      "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                          "spec": {"type": "object", "required": ["size"], "properties": {
                              "size": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How large it is."},
                              "color": {"type": "string", "enum": ["red", "green"], "default": "red"}, "replicas": {"type": "integer"},
                              "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                              "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"], "items": {
                                  "type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "count": {"type": "integer"}}}}},
                              "x-kubernetes-validations": [{"rule": "!has(self.replicas) || self.replicas <= self.size * 2", "message": "too many for its size"}]},
                          "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}}]}}
    k("apply", "-f", "-", stdin=json.dumps(crd), version=version)
    k("wait", "--for=condition=Established", "crd/widgets." + group, "--timeout=60s", version=version)

    def widget(called, **spec):
        return json.dumps({"apiVersion": group + "/v1", "kind": "Widget", "metadata": {"name": called}, "spec": spec})
    out = k("apply", "-f", "-", stdin=widget("w1", size=3, parts=[{"id": "a", "count": 1}]), version=version).out
    check(out.strip() == "widget.%s/w1 created" % group, "apply", out)
    out = k("get", "wd", version=version).out
    check(out.split() == ["NAME", "SIZE", "w1", "3"], "columns", out)
    out = k("get", "widgets", "-o", "wide", "--no-headers", version=version).out
    check(out.split() == ["w1", "3", "red"], "wide columns and the default", out)
    for name, spec, said in (
            ("w2", {"size": 11}, "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
            ("w2", {"size": 1, "color": "blue"}, 'spec.color: Unsupported value: "blue": supported values: "red", "green"'),
            ("w2", {}, "spec.size: Required value"),
            ("w2", {"size": 1, "name": "TOOLONG"}, "spec.name: Too long: may not be more than 5 bytes"),
            ("w2", {"size": "x"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
            ("w2", {"size": 1, "parts": [{"id": "a"}, {"id": "a"}]}, 'spec.parts[1]: Duplicate value: {"id":"a"}'),
            ("w2", {"size": 1, "replicas": 9}, "too many for its size")):
        p = k("create", "--validate=false", "-f", "-", stdin=widget(name, **spec), ok=False, version=version)
        check(p.returncode != 0 and said in p.text, "no refusal with %r of %r" % (said, spec), p.text)
    k("scale", "widget", "w1", "--replicas=4", version=version)
    out = k("get", "widget", "w1", "-o", "jsonpath={.spec.replicas} {.metadata.generation}", version=version).out
    check(out == "4 2", "scale", out)
    p = k("scale", "widget", "w1", "--replicas=40", ok=False, version=version)
    check("too many for its size" in p.text, "a scale past the rule", p.text)
    k("apply", "-f", "-", stdin=widget("w1", size=5, parts=[{"id": "b", "count": 2}]), version=version)
    out = k("get", "widget", "w1", "-o", "jsonpath={.spec.parts[*].id}", version=version).out
    check(out == "b", "apply of a list map", out)
    check("How large it is." in k("explain", "widget.spec.size", version=version).out, "explain")
    check("widget.%s/w1" % group in k("get", "all", "-o", "name", version=version).out, "the category")
    check("widgets" in k("api-resources", "--api-group=" + group, version=version).out, "api-resources")
    k("delete", "crd", "widgets." + group, version=version)
    p = until(60, "the kind is gone", lambda: k("get", "widgets." + group, ok=False, version=version).returncode)
    check(t.server.request("GET", "/apis/%s/v1/widgets" % group, raw=True)[0] == 404, "the kind is still served")


@case
def a_thousand_watches_see_every_change_once_and_in_order(t):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1500:
        raise Skip("no 1,500 descriptors for one process: the limit is %d" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    s, count, rounds = t.server, 1000, 10
    host, port = s.listen.split(":")
    context, socks = s._context(), []
    target = "/api/v1/namespaces/default/configmaps?watch=1&labelSelector=watched%3Dyes&resourceVersion="
    status, listed = s.request("GET", "/api/v1/namespaces/default/configmaps?labelSelector=watched%3Dyes")
    revision = listed["metadata"]["resourceVersion"]
    try:
        for _ in range(count):
            c = context.wrap_socket(socket.create_connection((host, int(port)), 20), server_hostname=host)
            c.sendall(("GET %s%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, revision, s.listen)).encode())
            c.setblocking(False)
            socks.append(c)
        got = {c.fileno(): b"" for c in socks}
        by_fd = {c.fileno(): c for c in socks}
        poll = select.epoll()
        for c in socks:
            poll.register(c.fileno(), select.EPOLLIN)

        def read(seconds, wanted):
            end = time.monotonic() + seconds
            while time.monotonic() < end and any(x.count(b'"type"') < wanted for x in got.values()):
                for fd, _ in poll.poll(0.2):
                    while True:
                        try:
                            data = by_fd[fd].recv(65536)
                        except OSError:
                            break
                        if not data:
                            poll.unregister(fd)
                            break
                        got[fd] += data
        for n in range(rounds):
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "watched-%d" % n, "labels": {"watched": "yes"}}, "data": {"n": str(n)}}
            status, answer = s.request("POST", "/api/v1/namespaces/default/configmaps", body)
            check(status == 201, "a write beside 1,000 watches: %d" % status, answer)
        read(60, rounds)
        for text in got.values():
            seen = re.findall(rb'"type":"(\w+)".*?"name":"watched-(\d+)"', text)
            check(seen == [(b"ADDED", b"%d" % n) for n in range(rounds)], "a watch saw something else", seen[:20], text[:300])
    finally:
        for c in socks:
            c.close()
        s.request("DELETE", "/api/v1/namespaces/default/configmaps?labelSelector=watched%3Dyes")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
