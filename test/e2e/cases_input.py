"""What is wrong gets one clear line that names it and what to do."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile

import harness
from cases import EMBEDDED, collector, null_vm
from harness import Failure, Skip, check, run, until

case, CASES = collector()


def one_line(p, *words, code=None):
    """The program refused, in at most two lines, with these words, and without a trace of its inside."""
    check(p.returncode != 0 if code is None else p.returncode == code, "it ended with %d" % p.returncode, p.text)
    text = p.err.strip()
    for w in words:
        check(re.search(w, text, re.I), "its message does not say /%s/" % w, text)
    check(text.count("\n") <= 1, "more than two lines", text)


@case(each=("old", "new!"), machine=EMBEDDED)
def an_unknown_field_is_refused_by_name(t, version):
    vm = null_vm("typo", strategy="Halted")
    vm["spec"]["template"]["spec"]["domain"]["cpu"] = {"coers": 2}
    p = t.server.kubectl("apply", "-f", "-", stdin=json.dumps(vm), version=version, ok=False)
    check(p.returncode != 0 and "coers" in p.text and "unknown field" in p.text, "kubectl apply", p.text)
    check(t.server.get("vm", "typo") is None, "it was stored")


@case(each=("old", "new!"), machine=EMBEDDED)
def a_wrong_type_is_refused_by_path(t, version):
    vm = null_vm("wrong", strategy="Halted")
    vm["spec"]["template"]["spec"]["domain"]["cpu"] = {"cores": "four"}
    p = t.server.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(vm), version=version, ok=False)
    check(p.returncode != 0 and "cores" in p.text, "no path in the refusal", p.text)
    vm["spec"]["template"]["spec"]["domain"]["cpu"] = {"cores": 1}
    vm["spec"]["template"]["spec"]["domain"]["memory"] = {"guest": "a lot"}
    p = t.server.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(vm), version=version, ok=False)
    check(p.returncode != 0 and "memory" in p.text, "no path in the refusal", p.text)


@case
def a_VM_against_KubeVirts_rules_is_refused_in_its_words(t):
    vm = null_vm("both", strategy="Always")
    vm["spec"]["running"] = True
    p = t.server.kubectl("apply", "-f", "-", stdin=json.dumps(vm), ok=False)
    check(p.returncode != 0 and "running" in p.text.lower() and "mutually exclusive" in p.text, "running and runStrategy", p.text)
    vm = null_vm("no-volume")
    vm["spec"]["template"]["spec"]["domain"]["devices"] = {"disks": [{"name": "lost", "disk": {"bus": "virtio"}}]}
    p = t.server.kubectl("apply", "-f", "-", stdin=json.dumps(vm), ok=False)
    check(p.returncode != 0 and "spec.template.spec.domain.devices.disks[0].name" in p.text and "lost" in p.text, "a disk without volume", p.text)


@case(machine=EMBEDDED)
def an_ordinary_pod_is_refused_with_the_reason(t):
    for version in ("old", "new"):
        p = t.server.kubectl("run", "web", "--image=nginx", version=version, ok=False)
        check(p.returncode != 0 and re.search("virtual machine|VM", p.text), "kubectl run", p.text)
    check(t.server.get("pod", "web") is None, "it was stored")


@case(machine="the node's containerd fetches images on a cluster, and names what is missing")
def a_missing_image_is_named_on_the_VM_and_in_an_Event(t):
    s = t.server
    vm = null_vm("no-image")
    vm["spec"]["template"]["spec"]["domain"]["devices"] = {"disks": [{"name": "d", "disk": {"bus": "virtio"}}]}
    vm["spec"]["template"]["spec"]["volumes"] = [{"name": "d", "containerDisk": {"image": "oci:not-there"}}]
    s.apply(vm)
    until(60, "the VM says ErrImagePull or ImagePullBackOff",
          lambda: s.get("vm", "no-image").get("status", {}).get("printableStatus") in ("ErrImagePull", "ImagePullBackOff"),
          explain=lambda: s.describe("vm", "no-image"))
    pods = [p["metadata"]["name"] for p in s.get("pod")["items"] if "no-image" in p["metadata"]["name"]]
    until(30, "an Event names the image", lambda: any(
        "not-there" in e["message"] for n in pods + ["no-image"] for e in s.events(n) if e["type"] == "Warning"))
    # It appears, and nothing more is to be done.
    path = os.path.join(t.config.guest, "not-there")
    try:
        shutil.copytree(os.path.join(t.config.guest, "tiny"), path, copy_function=os.link)
        s.wait_phase("no-image", seconds=30)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    s.delete("vm", "no-image")


@case(machine="the node's containerd fetches images on a cluster, and names what is missing")
def a_registry_that_does_not_answer_is_named(t):
    s = t.server
    vm = null_vm("no-registry")
    address = "localhost:%d/nothing:1" % harness.free_port()
    vm["spec"]["template"]["spec"]["domain"]["devices"] = {"disks": [{"name": "d", "disk": {"bus": "virtio"}}]}
    vm["spec"]["template"]["spec"]["volumes"] = [{"name": "d", "containerDisk": {"image": address}}]
    s.apply(vm)

    def named():
        pods = [p["metadata"]["name"] for p in s.get("pod")["items"] if "no-registry" in p["metadata"]["name"]]
        return [m for n in pods + ["no-registry"] for e in s.events(n) for m in [e["message"]] if address.split("/")[0] in m and e["type"] == "Warning"]
    until(60, "an Event names the registry", named, explain=lambda: s.describe("vmi", "no-registry"))
    s.delete("vm", "no-registry")


@case
def a_missing_claim_is_named(t):
    s = t.server
    vm = null_vm("no-claim")
    vm["spec"]["template"]["spec"]["domain"]["devices"] = {"disks": [{"name": "d", "disk": {"bus": "virtio"}}]}
    vm["spec"]["template"]["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "nowhere"}}]
    s.apply(vm)
    s.wait_status("no-claim", "ErrorPvcNotFound")
    until(30, "an Event names the claim", lambda: any("nowhere" in e["message"] for e in s.events("no-claim")),
          explain=lambda: s.describe("vmi", "no-claim"))
    s.delete("vm", "no-claim")


@case(machine=EMBEDDED)
def a_port_in_use_a_directory_in_use_and_a_wrong_flag_are_one_line_each(t):
    s = t.server
    argv = s.argv("serve")
    folder = tempfile.mkdtemp(prefix="vireo-e2e-second-")
    try:
        argv[argv.index("--data-dir") + 1] = folder
        one_line(run(argv, 20), re.escape(s.listen), "in use", "--listen", code=1)
        argv = s.argv("serve")
        argv[argv.index("--listen") + 1] = "127.0.0.1:%d" % harness.free_port()
        one_line(run(argv, 20), re.escape(s.dir), "in use", code=1)
        one_line(run([argv[0], "serve", "--nonsense"], 20), "--nonsense", "--help", code=2)
        shown = run([argv[0], "serve", "--help"], 20)
        check(shown.returncode == 0 and "--audit-policy-file" in shown.text, "vireo serve --help names its options")
        one_line(run([argv[0], "sevre"], 20), "sevre", "--help", code=2)
        one_line(run([argv[0], "serve", "--data-dir", folder, "--listen", "nowhere"], 20), "nowhere")
        one_line(run([argv[0], "serve", "--data-dir", folder, "--listen", "127.0.0.1:%d" % harness.free_port(), "--pod-cidr", "10.300.0.0/16"], 20),
                 "10.300.0.0", "--pod-cidr")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@case(machine=EMBEDDED)
def without_root_serve_says_sudo(t):
    s = t.own_server("nobody")
    argv = s.argv("serve")
    s.sweep()

    def drop():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        p = subprocess.run(argv, capture_output=True, text=True, timeout=20, preexec_fn=drop, cwd="/", check=False)
    except PermissionError as e:
        raise Skip("nobody cannot read the build directory") from e
    p.out, p.err, p.text = p.stdout, p.stderr, p.stdout + p.stderr
    if "Permission denied" in p.text:
        raise Skip("nobody cannot read the build directory: " + p.text.strip())
    one_line(p, "root", "sudo", code=1)


@case(machine=EMBEDDED)
def a_pod_range_that_overlaps_the_hosts_is_named_with_the_flag(t):
    s = t.own_server("overlap")
    link = "e2eov%d" % (os.getpid() % 100000)
    p = run(["ip", "link", "add", link, "type", "dummy"])
    if p.returncode:
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", link + "p"])
    try:
        run(["ip", "addr", "add", s.cidr.replace(".0/24", ".77/25"), "dev", link])
        run(["ip", "link", "set", link, "up"])
        p = run([w for w in s.argv("doctor")])
        check(p.returncode != 0 and s.cidr in p.text and "--pod-cidr" in p.text, "vireo doctor", p.text)
        try:
            p = run(s.argv("serve"), 5)
            one_line(p, re.escape(s.cidr), "--pod-cidr")
        except Failure as e:
            # run() killed it after 5 s: it serves on with a network that cannot work.
            raise Failure("vireo serve starts with a pod range that is the host's\n" + str(e)) from None
    finally:
        run(["ip", "link", "del", link])
        s.sweep()


@case(machine=EMBEDDED)
def without_QEMU_doctor_and_the_VM_say_what_to_install(t):
    hidden = tempfile.mkdtemp(prefix="vireo-e2e-hidden-")
    # In a mount namespace of the server's, /usr is a copy-on-write layer without QEMU.
    script = ('mount -t tmpfs tmpfs "%s" && mkdir "%s/u" "%s/w" && '
              'mount -t overlay -o lowerdir=/usr,upperdir="%s/u",workdir="%s/w" overlay /usr && rm /usr/bin/qemu-system-x86_64'
              % ((hidden,) * 5))
    try:
        p = run(["unshare", "-m", "sh", "-c", script])
        if p.returncode:
            raise Skip("QEMU cannot be hidden here: " + p.text.strip())
        s = t.own_server("noqemu", before=script)
        p = run(["unshare", "-m", "sh", "-c", script + ' && exec "$@"', "sh", *s.argv("doctor")])
        check(p.returncode != 0 and re.search(r"FAIL +qemu-system-x86_64.*apt-get install qemu-system-x86", p.text), "vireo doctor", p.text)
        with s:
            s.start()
            s.apply(null_vm("nothing"))
            until(60, "an Event names qemu-system-x86_64", lambda: any(
                "qemu-system-x86_64" in e["message"] for e in s.get("event")["items"]), explain=lambda: s.describe("vmi", "nothing"))
            s.delete("vm", "nothing")
    finally:
        os.rmdir(hidden)


@case(machine=EMBEDDED)
def doctor_finds_this_machine_fit(t):
    s = t.own_server("doctor")
    p = run(s.argv("doctor"))
    s.sweep()
    check(p.returncode == 0 and "ready for `vireo serve`" in p.text and "FAIL" not in p.text, "vireo doctor", p.text)


@case
def what_this_release_cannot_do_is_refused_by_path_not_dropped(t):
    vm = null_vm("sev", strategy="Halted")
    vm["spec"]["template"]["spec"]["domain"]["launchSecurity"] = {"sev": {}}
    p = t.server.kubectl("apply", "-f", "-", stdin=json.dumps(vm), ok=False)
    check(p.returncode != 0 and "launchSecurity" in p.text, "launchSecurity.sev", p.text)


@case(machine=EMBEDDED)
def kubectl_explain_and_the_refusal_say_what_a_hypervisor_does_of_a_field(t):
    s = t.server
    for path, text in (("vmi.spec.domain.devices.disks.disk.bus", "firecracker: only virtio."),
                       ("vm.spec.template.spec.domain.devices.sound", "Hypervisors: qemu."),
                       ("vmi.spec.livenessProbe", "Hypervisors: none yet.")):
        out = " ".join(s.kubectl("explain", path).out.split())
        check(text in out, "explain %s" % path, out)
    vm = null_vm("small", strategy="Halted")
    vm["metadata"]["annotations"] = {"vireo.io/hypervisor": "firecracker"}
    spec = vm["spec"]["template"]["spec"]
    spec["domain"]["devices"]["sound"] = {"name": "s"}
    vmi = {"apiVersion": vm["apiVersion"], "kind": "VirtualMachineInstance", "metadata": vm["metadata"], "spec": spec}
    for o, at in ((vm, "spec.template.spec"), (vmi, "spec")):
        p = s.kubectl("create", "-f", "-", stdin=json.dumps(o), ok=False)
        for text in (at + ".domain.devices.sound: not supported by Firecracker: it has no sound card",
                     at + ".domain.firmware.kernelBoot: needed by Firecracker: "):
            check(p.returncode != 0 and text in p.text, "the refusal does not say: " + text, p.text)


@case(machine=EMBEDDED)
def hostile_requests_do_not_end_the_server(t):
    import socket
    s = t.server
    control = s.child("control")
    host, port = s.listen.split(":")
    for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\x16\x03\x01\xff\xff" + b"A" * 70000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as c:
            c.sendall(data)
            c.settimeout(0.3)
            c.recv(100)
    deep = "[" * 100000
    for body in (deep, '{"a":' * 5000, '{"kind":"VirtualMachine"}', "null", '"x"', "\0" * 100):
        with contextlib.suppress(OSError, json.JSONDecodeError):
            status, _ = s.request("POST", "/apis/kubevirt.io/v1/namespaces/default/virtualmachines", body)
            check(400 <= status < 500, "status %d for %r" % (status, body[:20]))
    with contextlib.suppress(OSError):  # it may hang up before it has read all
        status, _ = s.request("POST", "/api/v1/namespaces/default/configmaps", "x" * (8 << 20), raw=True)
        check(status in (400, 413), "8 MiB of nonsense: %d" % status)
    check(s.child("control") == control, "the control process is another one")
