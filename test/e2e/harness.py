"""e2e harness: one `vireo serve` on a directory, port and pod range of its own; kubectl, consoles, processes; and what is left
of it on the host when it has gone. Standard library only."""
import base64
import contextlib
import glob
import http.client
import ipaddress
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Skip(Exception):
    """The machine lacks what the test needs."""


class Failure(Exception):
    """What was promised is not so."""


def check(condition, message, *details):
    if not condition:
        text = "\n".join(str(d) for d in details)
        raise Failure(message + ("\n" + text.strip() if text.strip() else ""))


PATIENCE = [1] # a back end that is slower than one machine multiplies all bounds


def until(seconds, what, probe, every=0.1, explain=None):
    """Calls probe() until it returns something true; that is the result."""
    seconds *= PATIENCE[0]
    end = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > end:
            details = ""
            if explain:
                with contextlib.suppress(Exception):
                    details = explain()
            raise Failure("not within %g s: %s" % (seconds, what) + ("\n" + str(details) if details else ""))
        time.sleep(every)


def run(argv, timeout=60, stdin=None, env=None, merge=False):
    """A finished process; .out and .err as text."""
    try:
        p = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout,
                           env={**os.environ, **(env or {})})
    except subprocess.TimeoutExpired as e:
        raise Failure("did not end within %g s: %s" % (timeout, " ".join(argv)), ) from e
    except FileNotFoundError as e:
        raise Skip("%s is not there" % argv[0]) from e
    p.out, p.err = p.stdout, p.stderr
    p.text = p.stdout + p.stderr
    return p


# ---- processes ----

def proc_text(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def alive(pid):
    stat = proc_text(pid, "stat")
    return bool(stat) and stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def parent_of(pid):
    stat = proc_text(pid, "stat")
    return int(stat.rpartition(")")[2].split()[1]) if stat else 0


def kill(pid, signo=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signo)


# ---- host network ----

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_range():
    """A /24 for pods that nothing on this host uses."""
    routes = run(["ip", "-4", "route", "show", "table", "all"]).out
    for n in range(256):
        octet = (os.getpid() + n) % 256
        if "10.199.%d." % octet not in routes:
            return "10.199.%d.0/24" % octet
    raise Skip("no free address range below 10.199.0.0/16")


# ---- an API server with Vireo's kinds, and what there is to ask of it ----

class Client:
    """What tests may know of both back ends: config, listen, kubeconfig, dir; name: of its groups of processes."""
    policy = "policy/v1"
    _ssl = None

    # the API, without kubectl

    def _context(self):
        if not self._ssl:
            with open(self.kubeconfig, encoding="utf-8") as f:
                text = f.read()
            found = {k: base64.b64decode(v) for k, v in re.findall(r"(\S+)-data: *(\S+)", text)}
            c = ssl.create_default_context(cadata=found["certificate-authority"].decode())
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(found["client-certificate"] + b"\n" + found["client-key"])
                pair.flush()
                c.load_cert_chain(pair.name)
            self._ssl = c
        return self._ssl

    def request(self, method, path, body=None, content_type="application/json", raw=False, timeout=20):
        if not os.path.exists(self.kubeconfig):
            raise Failure("no admin.kubeconfig yet")
        host, port = self.listen.split(":")
        c = http.client.HTTPSConnection(host, int(port), context=self._context(), timeout=timeout)
        try:
            data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
            c.request(method, path, data, {"Content-Type": content_type} if data is not None else {})
            r = c.getresponse()
            text = r.read()
            return r.status, text.decode(errors="replace") if raw else (json.loads(text) if text else None)
        finally:
            c.close()

    def get(self, kind, name=None, ns="default"):
        """The object or list, None when there is none."""
        group, plural = KINDS[kind]
        base = ("/apis/" + group if "/" in group else "/api/" + group) + ("/namespaces/" + ns if ns else "") + "/" + plural
        status, body = self.request("GET", base + ("/" + name if name else ""))
        if status == 404:
            return None
        check(status == 200, "GET %s %s: %d" % (kind, name, status), body)
        return body

    def patch(self, kind, name, body, ns="default"):
        group, plural = KINDS[kind]
        base = ("/apis/" + group if "/" in group else "/api/" + group) + ("/namespaces/" + ns if ns else "") + "/" + plural
        status, answer = self.request("PATCH", base + "/" + name, body, "application/merge-patch+json")
        check(status == 200, "PATCH %s %s: %d" % (kind, name, status), answer)
        return answer

    def delete(self, kind, name, ns="default", wait=60):
        group, plural = KINDS[kind]
        base = ("/apis/" + group if "/" in group else "/api/" + group) + ("/namespaces/" + ns if ns else "") + "/" + plural
        self.request("DELETE", base + "/" + name)
        if wait:
            until(wait, "%s %s is deleted" % (kind, name), lambda: self.get(kind, name, ns) is None,
                  explain=lambda: self.describe(kind, name, ns))

    def subresource(self, kind, name, verb, body=None, ns="default"):
        """PUT on a subresource of KubeVirt's; what virtctl does."""
        path = "/apis/subresources.kubevirt.io/v1/namespaces/%s/%s/%s/%s" % (ns, KINDS[kind][1], name, verb)
        status, answer = self.request("PUT", path, json.dumps(body if body is not None else {}), raw=True)
        check(status in (200, 202), "%s %s %s: %d" % (verb, kind, name, status), answer)

    # waiting

    def phase(self, name, ns="default"):
        vmi = self.get("vmi", name, ns)
        return vmi and vmi.get("status", {}).get("phase")

    def describe(self, kind, name, ns="default"):
        o = self.get(kind, name, ns)
        events = [e for e in self.get("event", ns=ns)["items"] if e["involvedObject"].get("name", "").startswith(name)
                  or name in e["involvedObject"].get("name", "")]
        lines = ["status of %s %s: %s" % (kind, name, json.dumps((o or {}).get("status"))[:1500])]
        lines += ["event %s %s %s: %s" % (e["type"], e["involvedObject"]["kind"], e["reason"], e["message"]) for e in events[-8:]]
        return "\n".join(lines) + "\n" + self.log_tail(6)

    def wait_phase(self, name, phase="Running", seconds=90, ns="default", uid_not=None):
        def probe():
            vmi = self.get("vmi", name, ns)
            return vmi if vmi and vmi.get("status", {}).get("phase") == phase and vmi["metadata"]["uid"] != uid_not else None
        return until(seconds, "instance %s is %s" % (name, phase), probe, explain=lambda: self.describe("vmi", name, ns))

    def wait_status(self, name, wanted, seconds=90, ns="default"):
        def probe():
            vm = self.get("vm", name, ns)
            return vm if vm and vm.get("status", {}).get("printableStatus") == wanted else None
        return until(seconds, "VM %s is %s" % (name, wanted), probe, explain=lambda: self.describe("vm", name, ns))

    def pod_of(self, name, ns="default"):
        """The launcher pod that belongs to the instance of that name."""
        vmi = self.get("vmi", name, ns)
        if not vmi:
            return None
        for pod in self.get("pod", ns=ns)["items"]:
            if any(o["uid"] == vmi["metadata"]["uid"] for o in pod["metadata"].get("ownerReferences", [])):
                return pod
        return None

    def events(self, name, ns="default"):
        return [e for e in self.get("event", ns=ns)["items"] if e["involvedObject"].get("name") == name]

    # tools

    def env(self):
        return {"KUBECONFIG": self.kubeconfig, "HOME": self.config.home}

    def kubectl(self, *args, version="new", stdin=None, timeout=90, ok=True, env=None):
        p = run([self.config.kubectl(version), *args], timeout=timeout, stdin=stdin, env={**self.env(), **(env or {})})
        if ok:
            check(p.returncode == 0, "kubectl %s ended with %d" % (" ".join(args), p.returncode), p.text)
        return p

    def virtctl(self, *args, timeout=60, ok=True, stdin=None):
        p = run([self.config.virtctl(), *args], timeout=timeout, env=self.env(), stdin=stdin)
        if ok:
            check(p.returncode == 0, "virtctl %s ended with %d" % (" ".join(args), p.returncode), p.text)
        return p

    def apply(self, *objects, ns=None):
        text = "\n---\n".join(o if isinstance(o, str) else json.dumps(o) for o in objects)
        return self.kubectl("apply", *(["-n", ns] if ns else []), "-f", "-", stdin=text)

    def evict(self, pod, ns="default"):
        """(status, answer)"""
        body = {"apiVersion": self.policy, "kind": "Eviction", "metadata": {"name": pod, "namespace": ns}}
        return self.request("POST", "/api/v1/namespaces/%s/pods/%s/eviction" % (ns, pod), json.dumps(body), raw=True)

    def console(self, name, ns="default"):
        return Console(WebSocket(self, "/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/console" % (ns, name)))

    # what is on this host

    def of_pods(self, comm, pod_uid=""):
        """Processes of that name in the instance's cgroups."""
        found = []
        for pid in pids():
            if proc_text(pid, "comm").strip()[:15] == comm[:15] and self.name in proc_text(pid, "cgroup") \
                    and pod_uid in proc_text(pid, "cgroup") and alive(pid):
                found.append(pid)
        return found

    def qemu(self, pod_uid=""):
        return self.of_pods("qemu-system-x86_64", pod_uid)

    def launchers(self, pod_uid=""):
        return self.of_pods("vireo-launcher", pod_uid)

    def log_tail(self, lines=15):
        """The last words of our processes."""
        raise NotImplementedError

    def claim(self, name, megabytes):
        """What to apply for a claim of that size."""
        raise NotImplementedError

    def volume(self, claim):
        """The directory of this host behind a bound claim."""
        raise NotImplementedError

    def is_pod_address(self, ip):
        return ipaddress.ip_address(ip) in ipaddress.ip_network(self.cidr)


# ---- the server ----

def instance_name(folder):
    """What an instance's host objects are named after (cmd/instance.c)."""
    return uuid.uuid5(uuid.NAMESPACE_OID, os.path.realpath(folder)).hex[:8]


class Server(Client):
    """One instance of Vireo. Use as a context: it is stopped with all its VMs at the end, and what stays is an error."""

    def __init__(self, config, name="main", data_dir=None, extra=(), before=None):
        self.config = config
        self.dir = data_dir or tempfile.mkdtemp(prefix="vireo-e2e-%s-" % name)
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        self.listen = "127.0.0.1:%d" % free_port()
        self.cidr = free_range()
        self.extra, self.before = list(extra), before  # before: shell commands in a mount namespace of its own
        self.log_path = os.path.join(config.logs, os.path.basename(self.dir) + ".log")
        self.kubeconfig = os.path.join(self.dir, "admin.kubeconfig")
        self.process = None
        self.name = instance_name(self.dir)
        self.bridge = "vireo-" + self.name
        self.links = set()  # of pods, noted before they are to go

    # life

    def argv(self, verb, *more):
        return [os.path.join(self.config.build, "vireo"), verb, "--data-dir", self.dir, "--listen", self.listen, "--pod-cidr",
                self.cidr, "--oci-dir", self.config.guest, *self.extra, *more]

    def start(self, ready=True):
        argv = self.argv("serve")
        if self.before:
            argv = ["unshare", "-m", "sh", "-c", self.before + ' && exec "$@"', "sh", *argv]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=60):
        def probe():
            if self.process and self.process.poll() is not None:
                raise Failure("vireo serve ended with %d" % self.process.returncode + "\n" + self.log_tail())
            with contextlib.suppress(OSError, http.client.HTTPException, Failure):
                return self.request("GET", "/readyz", raw=True)[0] == 200
            return False
        until(seconds, "vireo serve is ready", probe, every=0.02, explain=self.log_tail)

    def stop(self, all_machines=True, expect=0):
        self.note_links()
        inside = ["nsenter", "-t", str(self.process.pid), "-m"] if self.before and self.process else []
        p = run(inside + self.argv("stop", *(["--all"] if all_machines else [])), timeout=150)
        if self.process:
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise Failure("vireo serve did not end with vireo stop\n" + p.text + self.log_tail()) from None
            self.process = None
        check(p.returncode == expect, "vireo stop ended with %d" % p.returncode, p.text)
        return p

    def note_links(self):
        with contextlib.suppress(OSError):
            self.links |= set(os.listdir("/sys/class/net/%s/brif" % self.bridge))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        left = []
        if not (kind and self.config.keep):
            with contextlib.suppress(Exception):
                self.stop()
            left = self.leftovers()
            self.sweep()
        if kind is None and left:
            raise Failure("left behind: " + "; ".join(left))

    # what it is made of on this host

    def child(self, verb):
        for pid in pids():
            words = proc_text(pid, "cmdline").split()
            if len(words) >= 2 and words[1] == verb and parent_of(pid) == self.supervisor() and alive(pid):
                return pid
        return None

    def supervisor(self):
        return self.process.pid

    def leftovers(self):
        left = []
        for pid in pids():
            if pid != os.getpid() and (self.name in proc_text(pid, "cgroup") or self.dir + " " in proc_text(pid, "cmdline") + " ") \
                    and alive(pid):
                left.append("process %d (%s)" % (pid, proc_text(pid, "cmdline").strip()[:100]))
        if os.path.exists("/sys/class/net/" + self.bridge):
            left.append("bridge " + self.bridge)
        left += ["link " + name for name in sorted(self.links) if os.path.exists("/sys/class/net/" + name)]
        if self.bridge in run(["nft", "list", "tables"]).out or self.name in run(["nft", "list", "tables"]).out:
            left.append("nft table of " + self.name)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.split()[4].startswith(self.dir + "/") or self.name in line.split()[4]:
                    left.append("mount " + line.split()[4])
        for pattern in ("/sys/fs/cgroup/*%s*", "/sys/fs/cgroup/*/*%s*", "/sys/fs/cgroup/*/*/*%s*"):
            left += ["cgroup " + p for p in glob.glob(pattern % self.name)]
        left += ["netns " + p for p in glob.glob("/run/netns/*%s*" % self.name)]
        return left

    def sweep(self):
        """Removes what a broken instance left, so that the next test is not its victim."""
        for pid in pids():
            if self.name in proc_text(pid, "cgroup") or (self.process and pid == self.process.pid):
                kill(pid)
        if self.process:
            self.process.wait()
            self.process = None
        run(["ip", "link", "del", self.bridge])
        run(["nft", "delete", "table", "inet", self.bridge])
        run(["nft", "delete", "table", "ip", self.bridge])
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
            mounts = [line.split()[4] for line in f]
        for m in reversed([m for m in mounts if m.startswith(self.dir + "/")]):
            run(["umount", "-l", m])
        time.sleep(0.1)
        for pattern in ("/sys/fs/cgroup/*%s*", "/sys/fs/cgroup/*/*%s*"):
            for top in glob.glob(pattern % self.name):
                for folder, _, _ in os.walk(top, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
        if not self.config.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def log_tail(self, lines=15):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    # a claim's volume

    def claim(self, name, megabytes):
        return [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
                 "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "vireo-local",
                          "resources": {"requests": {"storage": "%dMi" % megabytes}}}}]

    def volume(self, claim):
        return os.path.join(self.dir, "volumes", claim["spec"]["volumeName"])


KINDS = {
    "vm": ("kubevirt.io/v1", "virtualmachines"), "vmi": ("kubevirt.io/v1", "virtualmachineinstances"),
    "kubevirt": ("kubevirt.io/v1", "kubevirts"), "pod": ("v1", "pods"), "node": ("v1", "nodes"), "event": ("v1", "events"),
    "pvc": ("v1", "persistentvolumeclaims"), "pv": ("v1", "persistentvolumes"), "configmap": ("v1", "configmaps"),
    "secret": ("v1", "secrets"), "namespace": ("v1", "namespaces"),
}


# ---- consoles ----

class WebSocket:
    """As much of RFC 6455 as a client of KubeVirt's streams needs."""

    def __init__(self, server, path, protocol="plain.kubevirt.io"):
        host, port = server.listen.split(":")
        raw = socket.create_connection((host, int(port)), 10)
        self.sock = server._context().wrap_socket(raw, server_hostname=host)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n" % (path, server.listen, key, protocol)).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.sock.recv(4096)
            if not more:
                break
            head += more
        head, _, self.buffer = head.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode(errors="replace")
        if " 101 " not in status + " ":
            rest = self.buffer
            with contextlib.suppress(OSError):
                self.sock.settimeout(1)
                rest += self.sock.recv(4096)
            raise Failure("WebSocket %s: %s %s" % (path, status, rest.decode(errors="replace")[:300]))
        self.sock.settimeout(None)
        self.closed = False

    def _frame(self, opcode, data):
        mask = os.urandom(4)
        n = len(data)
        head = bytes([0x80 | opcode]) + (bytes([0x80 | n]) if n < 126 else bytes([0xfe]) + n.to_bytes(2, "big") if n < 65536
                                         else bytes([0xff]) + n.to_bytes(8, "big"))
        self.sock.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def write(self, data):
        self._frame(2, data)

    def _take(self):
        b = self.buffer
        if len(b) < 2:
            return None
        n, at = b[1] & 0x7f, 2
        if n == 126:
            n, at = int.from_bytes(b[2:4], "big"), 4
        elif n == 127:
            n, at = int.from_bytes(b[2:10], "big"), 10
        if len(b) < at or len(b) < at + n:
            return None
        opcode, data = b[0] & 0xf, b[at:at + n]
        self.buffer = b[at + n:]
        return opcode, data

    def read(self, timeout):
        """Some bytes; b"" when nothing came, None at the end."""
        end = time.monotonic() + timeout
        while True:
            frame = self._take()
            if frame:
                opcode, data = frame
                if opcode == 8:
                    self.closed = True
                    return None
                if opcode == 9:
                    self._frame(10, data)
                elif opcode in (0, 1, 2) and data:
                    return data
                continue
            left = end - time.monotonic()
            if left <= 0:
                return b""
            if not self.sock.pending() and not select.select([self.sock], [], [], left)[0]:
                return b""
            try:
                more = self.sock.recv(65536)
            except OSError:
                more = b""
            if not more:
                self.closed = True
                return None
            self.buffer += more

    def close(self):
        with contextlib.suppress(OSError):
            self._frame(8, b"\x03\xe8")
        with contextlib.suppress(OSError):
            self.sock.close()


class Terminal:
    """A program on a terminal of its own, as a person has it."""

    def __init__(self, argv, env):
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **env}, start_new_session=True)
        os.close(slave)

    def write(self, data):
        os.write(self.master, data)

    def read(self, timeout):
        if not select.select([self.master], [], [], timeout)[0]:
            return b""
        try:
            return os.read(self.master, 65536) or None
        except OSError:
            return None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.master)


ESCAPES = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]")


class Console:
    """A guest's serial line: wait for text, log in, run commands."""

    def __init__(self, stream):
        self.stream = stream
        self.text = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def expect(self, pattern, seconds=60, nudge=None):
        """Reads until the pattern comes; what was read up to its end is taken away. nudge: sent every 2 s."""
        end = time.monotonic() + seconds
        next_nudge = time.monotonic() + 2
        while True:
            m = re.search(pattern, self.text)
            if m:
                self.text = self.text[m.end():]
                return m
            left = end - time.monotonic()
            if left <= 0:
                raise Failure("console: no /%s/ within %g s; last:\n%s" % (pattern, seconds, self.text[-600:]))
            if nudge and time.monotonic() > next_nudge:
                self.stream.write(nudge)
                next_nudge = time.monotonic() + 2
            data = self.stream.read(min(left, 0.5))
            if data is None:
                raise Failure("console: closed while waiting for /%s/; last:\n%s" % (pattern, self.text[-600:]))
            self.text = ESCAPES.sub("", self.text + data.decode(errors="replace"))

    def login(self, seconds=90):
        """From wherever the guest is – booting, at the login, in a shell – to a shell's prompt."""
        for _ in range(5):
            if "login" not in self.expect(r"login: $|[#$] $", seconds, nudge=b"\r").group():
                break
            self.stream.write(b"root\r")  # getty may forget it: it drops what was typed before it began
        else:
            raise Failure("console: root is not let in")
        self.run("stty -echo 2>/dev/null; PS1='# '")
        return self

    def run(self, command, seconds=60, ok=True):
        """The command's output."""
        self.text = ""
        self.stream.write(("%s; echo EN''D:$?\r" % command).encode())
        m = self.expect(r"(?s)(.*?)EN?D:(\d+)", seconds)
        out = m.group(1).replace("\r", "")
        out = "\n".join(line for line in out.split("\n") if "EN''D" not in line).strip()
        if out.startswith("# "):
            out = out[2:]
        if ok:
            check(m.group(2) == "0", "in the guest: %s ended with %s" % (command, m.group(2)), out)
        return out

    def send(self, text):
        self.stream.write(text.encode())


# ---- watching a program's output while it runs ----

class Background:
    """A program that goes on while the test does something; its output is at hand."""

    def __init__(self, argv, env=None, stdin=False):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True)
        self.text = ""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while True:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return
            self.text += data.decode(errors="replace")

    def expect(self, pattern, seconds=20):
        return until(seconds, "output of %s has /%s/" % (" ".join(self.process.args[:6]), pattern),
                     lambda: re.search(pattern, self.text), explain=lambda: self.text[-800:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.thread.join(2)
        self.process.stdout.close()


def quote(text):
    return urllib.parse.quote(text, safe="")
