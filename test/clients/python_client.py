#!/usr/bin/env python3
"""The official Python client (python3-kubernetes) against a server: python_client.py KUBECONFIG. One line per promise."""
import datetime
import os
import queue
import sys
import tempfile
import threading
import time
import traceback

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

NS = "python"
CASES = []
CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "gadgets.python.example"},
       "spec": {"group": "python.example", "scope": "Namespaced", "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
                "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                                                     "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}}}]}}


def case(fn):
    CASES.append(fn)
    return fn


def until(seconds, probe, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if probe():
            return
        time.sleep(0.05)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"suite": "python"}), data=data)


@case
def typed_objects_are_made_read_changed_and_deleted(core):
    made = core.create_namespaced_config_map(NS, config_map("typed", a="1"))
    assert made.metadata.uid and isinstance(made.metadata.creation_timestamp, datetime.datetime)
    made.data["a"] = "2"
    changed = core.replace_namespaced_config_map("typed", NS, made)
    assert changed.data == {"a": "2"} and changed.metadata.resource_version != made.metadata.resource_version
    try:
        core.replace_namespaced_config_map("typed", NS, made)
        raise AssertionError("a stale replacement was taken")
    except ApiException as e:
        assert e.status == 409 and "the object has been modified" in e.body, e.body
    assert core.patch_namespaced_config_map("typed", NS, {"data": {"b": "3"}}).data == {"a": "2", "b": "3"}
    gone = core.delete_namespaced_config_map("typed", NS)
    assert gone.status == "Success", gone
    try:
        core.read_namespaced_config_map("typed", NS)
        raise AssertionError("it is still there")
    except ApiException as e:
        assert e.status == 404


@case
def errors_carry_the_status_object(core):
    import json
    try:
        core.create_namespaced_config_map(NS, config_map("Not A Name"))
        raise AssertionError("a bad name was taken")
    except ApiException as e:
        body = json.loads(e.body)
        assert e.status == 422 and body["kind"] == "Status" and body["details"]["causes"][0]["field"] == "metadata.name", body


@case
def lists_page_by_continue_and_keep_their_revision(core):
    for i in range(7):
        core.create_namespaced_config_map(NS, config_map("page-%d" % i))
    names, token, revisions = [], None, set()
    while True:
        page = core.list_namespaced_config_map(NS, limit=3, _continue=token, label_selector="suite=python")
        names += [o.metadata.name for o in page.items]
        revisions.add(page.metadata.resource_version)
        token = page.metadata._continue
        if not token:
            break
        core.create_namespaced_config_map(NS, config_map("page-between-%d" % len(names)))
    assert names == ["page-%d" % i for i in range(7)], names
    assert len(revisions) == 1, revisions
    core.delete_collection_namespaced_config_map(NS, label_selector="suite=python")
    assert not core.list_namespaced_config_map(NS, label_selector="suite=python").items


@case
def an_informer_loop_misses_and_repeats_nothing(core):
    """List, watch from the list's revision, change from another thread: the cache follows to the same state."""
    seen, cache, stop = queue.Queue(), {}, threading.Event()
    for i in range(5):
        core.create_namespaced_config_map(NS, config_map("inf-%d" % i, n="0"))
    listed = core.list_namespaced_config_map(NS, label_selector="suite=python")
    for o in listed.items:
        cache[o.metadata.name] = o.data["n"]

    def follow():
        w, revision = watch.Watch(), listed.metadata.resource_version
        while not stop.is_set():
            for e in w.stream(core.list_namespaced_config_map, NS, label_selector="suite=python", resource_version=revision,
                              timeout_seconds=2, allow_watch_bookmarks=True):
                o = e["raw_object"]
                revision = o["metadata"]["resourceVersion"]
                if e["type"] != "BOOKMARK":
                    seen.put((e["type"], o["metadata"]["name"], o.get("data", {}).get("n"), int(revision)))
                if stop.is_set():
                    w.stop()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for n in range(1, 41):
        core.patch_namespaced_config_map("inf-%d" % (n % 5), NS, {"data": {"n": str(n)}})
    core.delete_namespaced_config_map("inf-0", NS)
    core.create_namespaced_config_map(NS, config_map("inf-9", n="9"))
    last, counts = 0, {}

    def drained():
        nonlocal last
        while not seen.empty():
            kind, name, n, revision = seen.get()
            assert revision > last, "revision %d behind %d" % (revision, last)
            last = revision
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "DELETED":
                cache.pop(name)
            else:
                cache[name] = n
        return "inf-9" in cache
    until(15, drained, "the last event")
    stop.set()
    thread.join(10)
    truth = {o.metadata.name: o.data["n"] for o in core.list_namespaced_config_map(NS, label_selector="suite=python").items}
    assert cache == truth and counts == {"MODIFIED": 40, "DELETED": 1, "ADDED": 1}, (cache, truth, counts)
    core.delete_collection_namespaced_config_map(NS, label_selector="suite=python")


@case
def a_watch_from_a_lost_revision_ends_with_410(core):
    w = watch.Watch()
    try:
        for _ in w.stream(core.list_namespaced_config_map, NS, resource_version="1", timeout_seconds=3):
            pass
        # A young server still has all of its history.
    except ApiException as e:
        assert e.status == 410, e


@case
def the_dynamic_client_discovers_kinds_and_applies(core):
    d = dynamic.DynamicClient(core.api_client)
    api = d.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dyn", "namespace": NS}, "data": {"a": "1"}}
    api.create(body=body, namespace=NS)
    assert api.get(name="dyn", namespace=NS).data.a == "1"
    api.patch(body={"metadata": {"name": "dyn"}, "data": {"b": "2"}}, namespace=NS, content_type="application/merge-patch+json", name="dyn")
    for e in api.watch(namespace=NS, timeout=1):
        assert e["type"] == "ADDED" and e["object"].kind == "ConfigMap"
    api.delete(name="dyn", namespace=NS)

    crds = d.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    crds.create(body=CRD)
    until(10, lambda: any(c["type"] == "Established" and c["status"] == "True"
                          for c in (crds.get(name=CRD["metadata"]["name"]).status or {}).get("conditions") or []), "Established")
    d = dynamic.DynamicClient(core.api_client)
    gadgets = d.resources.get(api_version="python.example/v1", kind="Gadget")
    gadgets.create(body={"apiVersion": "python.example/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 3}}, namespace=NS)
    assert gadgets.get(namespace=NS).items[0].spec.size == 3
    try:
        gadgets.create(body={"apiVersion": "python.example/v1", "kind": "Gadget", "metadata": {"name": "h"}, "spec": {"size": "x"}}, namespace=NS)
        raise AssertionError("a wrong type was taken")
    except dynamic.exceptions.UnprocessibleEntityError:
        pass
    gadgets.status.patch(name="g", namespace=NS, body={"status": {"ok": True}}, content_type="application/merge-patch+json")
    assert gadgets.get(name="g", namespace=NS).status.ok is True
    crds.delete(name=CRD["metadata"]["name"])


@case
def create_from_yaml_takes_several_documents(core):
    text = """
apiVersion: v1
kind: Secret
metadata: {name: from-yaml}
stringData: {a: b}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: from-yaml}}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: from-yaml}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}
"""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(text)
        f.flush()
        made = utils.create_from_yaml(core.api_client, f.name, namespace=NS)
    flat = [o for group in made for o in (group if isinstance(group, list) else [group])]
    assert len(flat) >= 3, made
    assert core.read_namespaced_secret("from-yaml", NS).data == {"a": "Yg=="}
    assert client.RbacAuthorizationV1Api(core.api_client).read_namespaced_role("from-yaml", NS).rules[0].resources == ["pods"]


@case
def custom_objects_of_kubevirt_are_served(core):
    if not os.environ.get("VIREO_KUBEVIRT"):
        return "skip no KubeVirt kinds on this server"
    api = client.CustomObjectsApi(core.api_client)
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "halted"}, "spec": {
        "runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}}}
    made = api.create_namespaced_custom_object("kubevirt.io", "v1", NS, "virtualmachines", vm)
    assert made["metadata"]["uid"]
    until(10, lambda: api.get_namespaced_custom_object("kubevirt.io", "v1", NS, "virtualmachines", "halted")
          .get("status", {}).get("printableStatus") == "Stopped", "Stopped")
    assert len(api.list_namespaced_custom_object("kubevirt.io", "v1", NS, "virtualmachines")["items"]) == 1
    api.delete_namespaced_custom_object("kubevirt.io", "v1", NS, "virtualmachines", "halted")
    return None


@case
def reviews_tokens_and_versions_answer(core):
    auth = client.AuthorizationV1Api(core.api_client)
    review = auth.create_self_subject_access_review({"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": NS}}})
    assert review.status.allowed
    core.create_namespaced_service_account(NS, {"metadata": {"name": "token"}})
    token = core.create_namespaced_service_account_token("token", NS, {"spec": {"audiences": [], "expirationSeconds": 600}})
    configuration = client.Configuration.get_default_copy()
    configuration.cert_file = configuration.key_file = None
    configuration.api_key = {"authorization": "Bearer " + token.status.token}
    as_account = client.CoreV1Api(client.ApiClient(configuration))
    try:
        as_account.list_namespaced_secret(NS)
        raise AssertionError("an account without roles reads secrets")
    except ApiException as e:
        assert e.status == 403 and "system:serviceaccount:%s:token" % NS in e.body, (e.status, e.body)
    assert client.VersionApi(core.api_client).get_code().major == "1"
    assert any(g.name == "rbac.authorization.k8s.io" for g in client.ApisApi(core.api_client).get_api_versions().groups)


def main():
    config.load_kube_config(sys.argv[1])
    core = client.CoreV1Api()
    core.create_namespace({"metadata": {"name": NS}})
    failed = 0
    for fn in CASES:
        title = "python client: " + fn.__name__.replace("_", " ")
        try:
            said = fn(core)
            print(said and "skip %s: %s" % (title, said.partition(" ")[2]) or "ok   " + title, flush=True)
        except Exception as e:  # a test's end is told, whatever it is
            failed += 1
            print("FAIL %s: %s" % (title, str(e).replace("\n", " ")[:600]), flush=True)
            traceback.print_exc(limit=3, file=sys.stderr)
    core.delete_namespace(NS)
    until(30, lambda: NS not in [n.metadata.name for n in core.list_namespace().items], "the namespace is gone")
    return 1 if failed else 0


sys.exit(main())
