#!/usr/bin/python3
"""mutate.py [FOLDER]: proves that the contract servers catch wrong requests.

Correct sequences of requests (written from the documents, and those in FOLDER that drivers sent: contract.c writes them
there with VIREO_RECORD) are played to a
server in this process and must pass without a violation. Then each is changed in one place – a field renamed, taken away where
it is required, of another type, out of its range or enumeration; another method or path; a request left out, repeated, swapped
with its neighbour; a descriptor more or less; broken HTTP – and every such mutant must be caught. A mutant that is rightly
no mistake stands in EQUAL, with its reason."""
import copy
import glob
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True
os.environ["VIREO_CONTRACT_NO_TAPS"] = "1"  # any descriptor is a tap here; contract.c brings real ones
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contract  # noqa: E402

if not os.path.isdir(contract.DATA):
    print("no %s (set VIREO_DATA)" % contract.DATA)
    sys.exit(77)
import cloud_hypervisor  # noqa: E402
import firecracker  # noqa: E402

TMP = tempfile.TemporaryDirectory(prefix="vireo-mutate-")
SYSTEMS = {"cloud-hypervisor": cloud_hypervisor.CloudHypervisor, "firecracker": firecracker.Firecracker}


def at(name):
    return os.path.join(TMP.name, name)


def files():
    for name, text in (("raw", b"\0" * 65536), ("qcow2", b"QFI\xfb\0\0\0\3" + b"\0" * 65528), ("kernel", b"\x7fELF" + b"\0" * 1024), ("initrd", b"0" * 512),
                       ("overlay", b"QFI\xfb\0\0\0\3" + b"\0" * 7 + b"\x80\0\0\0" + bytes([len(at("raw"))]) + b"\0" * 108 + at("raw").encode() + b"\0" * 65400)):
        with open(at(name), "wb") as f:
            f.write(text)


CH = "/api/v1/vm."
SHUTDOWN = "/api/v1/vmm.shutdown"
MACHINE = {
    "cpus": {"boot_vcpus": 2, "max_vcpus": 4, "topology": {"threads_per_core": 1, "cores_per_die": 4, "dies_per_package": 1, "packages": 1}},
    "memory": {"size": 268435456, "hotplug_size": 268435456, "hotplug_method": "Acpi", "shared": True},
    "payload": {"kernel": "kernel", "cmdline": "console=ttyS0", "initramfs": "initrd"},
    "disks": [{"path": "raw", "readonly": False, "direct": False, "id": "root", "serial": "s1", "num_queues": 1, "queue_size": 128, "image_type": "Raw"},
              {"path": "qcow2", "readonly": True, "id": "data", "image_type": "Qcow2"}],
    "serial": {"mode": "Socket", "socket": "serial.sock"}, "console": {"mode": "Off"}, "rng": {"src": "/dev/urandom"},
    "balloon": {"size": 0, "deflate_on_oom": True, "free_page_reporting": False}, "vsock": {"cid": 5, "socket": "vsock.sock", "id": "vsock"},
    "platform": {"system_uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "system_serial_number": "x", "oem_strings": ["a"]},
    "watchdog": True, "pvpanic": True,
}
LIMIT = {"bandwidth": {"size": 1000, "refill_time": 100, "one_time_burst": 5}, "ops": {"size": 10, "refill_time": 100}}
SEQUENCES = [
    ("cloud-hypervisor", "life", [
        ("GET", "/api/v1/vmm.ping", None, 0), ("PUT", CH + "create", MACHINE, 0),
        ("PUT", CH + "add-net", {"id": "default", "mac": "02:00:00:00:00:01", "mtu": 1450, "num_queues": 2, "queue_size": 256}, 1),
        ("PUT", CH + "boot", None, 0), ("GET", CH + "info", None, 0), ("GET", CH + "counters", None, 0), ("PUT", CH + "pause", None, 0),
        ("PUT", CH + "resume", None, 0), ("PUT", CH + "power-button", None, 0), ("PUT", CH + "reboot", None, 0),
        ("PUT", CH + "shutdown", None, 0), ("PUT", CH + "delete", None, 0), ("PUT", "/api/v1/vmm.shutdown", None, 0)]),
    ("cloud-hypervisor", "plug", [
        ("PUT", CH + "create", MACHINE, 0), ("PUT", CH + "boot", None, 0),
        ("PUT", CH + "add-disk", {"path": "raw", "id": "more", "image_type": "Raw", "rate_limiter_config": LIMIT}, 0),
        ("PUT", CH + "add-net", {"id": "second", "num_queues": 4, "offload_tso": True}, 2),
        ("PUT", CH + "resize", {"desired_vcpus": 3, "desired_ram": 402653184, "desired_balloon": 33554432}, 0),
        ("PUT", CH + "remove-device", {"id": "data"}, 0), ("PUT", CH + "resize-disk", {"id": "root", "desired_size": 131072}, 0),
        ("PUT", "/api/v1/vmm.shutdown", None, 0)]),
    ("cloud-hypervisor", "save", [
        ("PUT", CH + "create", MACHINE, 0), ("PUT", CH + "boot", None, 0), ("PUT", CH + "pause", None, 0),
        ("PUT", CH + "snapshot", {"destination_url": "file://snapshot"}, 0), ("PUT", "/api/v1/vmm.shutdown", None, 0)]),
    ("cloud-hypervisor", "restore", [
        ("PUT", CH + "restore", {"source_url": "file://saved", "memory_restore_mode": "Copy", "prefault": False,
                                 "net_fds": [{"id": "default", "num_fds": 1}]}, 1), ("PUT", CH + "resume", None, 0), ("GET", CH + "info", None, 0)]),
    ("cloud-hypervisor", "send", [
        ("PUT", CH + "create", MACHINE, 0), ("PUT", CH + "boot", None, 0),
        ("PUT", CH + "send-migration", {"destination_url": "unix:target.sock", "local": True, "downtime_ms": 300, "timeout_s": 60,
                                        "timeout_strategy": "Cancel", "connections": 1, "memory_mode": "Precopy"}, 0)]),
    ("cloud-hypervisor", "receive", [("PUT", CH + "receive-migration", {"receiver_url": "unix:incoming.sock", "memory_mode": "Precopy"}, 0)]),
    ("firecracker", "life", [
        ("GET", "/", None, 0), ("GET", "/version", None, 0),
        ("PUT", "/logger", {"level": "Warning", "log_path": "log", "show_level": True}, 0), ("PUT", "/metrics", {"metrics_path": "metrics"}, 0),
        ("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256, "smt": False, "track_dirty_pages": True, "huge_pages": "None"}, 0),
        ("PATCH", "/machine-config", {"mem_size_mib": 512}, 0),
        ("PUT", "/boot-source", {"kernel_image_path": "kernel", "boot_args": "console=ttyS0 panic=1", "initrd_path": "initrd"}, 0),
        ("PUT", "/drives/root", {"drive_id": "root", "path_on_host": "raw", "is_root_device": False, "is_read_only": False, "cache_type": "Writeback",
                                 "io_engine": "Sync", "rate_limiter": LIMIT}, 0),
        ("PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "02:00:00:00:00:02", "mtu": 1450}, 0),
        ("PUT", "/vsock", {"guest_cid": 7, "uds_path": "vsock.sock"}, 0),
        ("PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1}, 0), ("PUT", "/entropy", {"rate_limiter": LIMIT}, 0),
        ("PUT", "/hotplug/memory", {"total_size_mib": 1024, "slot_size_mib": 128, "block_size_mib": 2}, 0),
        ("PUT", "/actions", {"action_type": "InstanceStart"}, 0), ("GET", "/vm/config", None, 0), ("GET", "/machine-config", None, 0),
        ("PUT", "/actions", {"action_type": "FlushMetrics"}, 0), ("PATCH", "/balloon", {"amount_mib": 64}, 0), ("GET", "/balloon", None, 0),
        ("GET", "/balloon/statistics", None, 0), ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 5}, 0),
        ("PATCH", "/hotplug/memory", {"requested_size_mib": 256}, 0), ("GET", "/hotplug/memory", None, 0),
        ("PATCH", "/drives/root", {"drive_id": "root", "path_on_host": "raw"}, 0), ("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", "rx_rate_limiter": LIMIT}, 0),
        ("PATCH", "/vm", {"state": "Paused"}, 0), ("PUT", "/snapshot/create", {"snapshot_path": "state.out", "mem_file_path": "mem.out", "snapshot_type": "Full"}, 0),
        ("PATCH", "/vm", {"state": "Resumed"}, 0), ("PUT", "/actions", {"action_type": "SendCtrlAltDel"}, 0)]),
    ("firecracker", "restore", [
        ("PUT", "/snapshot/load", {"snapshot_path": "state", "mem_backend": {"backend_type": "File", "backend_path": "mem"}, "track_dirty_pages": False, "resume_vm": False,
                                   "network_overrides": [{"iface_id": "eth0", "host_dev_name": "tap1"}], "vsock_override": {"uds_path": "vsock.sock"}}, 0),
        ("PATCH", "/vm", {"state": "Resumed"}, 0), ("GET", "/machine-config", None, 0)]),
]


def is_read(r):
    return r[0] == "GET"


def is_setting(r):
    """Firecracker, before the start: a PUT makes or replaces one thing."""
    return r[1].split("/")[1] in ("logger", "metrics", "machine-config", "boot-source", "drives", "network-interfaces", "vsock", "balloon", "entropy",
                                  "serial", "cpu-config", "mmds", "pmem") and r[0] == "PUT" or r[:2] in (("PUT", "/hotplug/memory"), ("PATCH", "/machine-config"))


def is_change(r):
    """Of a running machine; each is complete in itself."""
    return r[1] in [CH + x for x in ("resize", "resize-disk", "resize-zone", "remove-device", "power-button", "nmi", "reboot")] \
        or r[0] in ("PATCH", "DELETE") and r[1] not in ("/vm", "/machine-config") or (r[2] or {}).get("action_type") in ("FlushMetrics", "SendCtrlAltDel")


def is_add(r):
    return r[1].startswith(CH + "add-")


def free(r):
    return is_read(r) or is_setting(r) or is_change(r) or is_add(r)


# (what was done, test on (sequence, index, request), why it is no mistake). Everything else has to be caught.
EQUAL = [
    (("left out", "repeated"), lambda s, i, r: is_read(r), "reading changes nothing"),
    (("left out",), lambda s, i, r: i == len(s) - 1, "a sequence may end earlier"),
    (("left out",), lambda s, i, r: is_setting(r) and r[1] != "/boot-source", "a setting or device that nothing later names"),
    (("repeated",), lambda s, i, r: is_setting(r), "before the start a PUT replaces what was there"),
    (("left out", "repeated"), lambda s, i, r: is_change(r), "a change of a running machine is complete in itself"),
    (("left out",), lambda s, i, r: is_add(r), "a device that nothing later names"),
    (("swapped",), lambda s, i, r: free(r) and free(s[i + 1]), "neither depends on the other"),
    (("swapped",), lambda s, i, r: is_add(s[i + 1]) and r[1] == CH + "boot" or is_add(r) and s[i + 1][1] == CH + "boot",
     "devices are added before the boot or after it"),
    (("swapped",), lambda s, i, r: is_read(r) or is_read(s[i + 1]), "reading is allowed on both sides of it"),
    (("swapped",), lambda s, i, r: r[1] == CH + "resume" and is_change(s[i + 1]) or r[:2] == ("PATCH", "/vm") and is_change(s[i + 1])
     or is_change(r) and s[i + 1][:2] == ("PATCH", "/vm"), "it may be asked of a paused machine"),
    (("left out",), lambda s, i, r: r[1] == CH + "boot" and all(is_add(x) or is_read(x) or x[1] in (CH + "resize", CH + "remove-device", SHUTDOWN) for x in s[i + 1:]),
     "devices and sizes may be changed before the boot, too"),
    (("swapped",), lambda s, i, r: r[1] == CH + "boot" and s[i + 1][1] in (CH + "resize", CH + "remove-device"), "devices and sizes may be changed before the boot, too"),
    (("left out",), lambda s, i, r: r[1] == CH + "pause" and all(x[1] in (SHUTDOWN, CH + "shutdown", CH + "delete") or is_read(x) for x in s[i + 1:]),
     "a machine that runs ends as one that is paused"),
    (("left out",), lambda s, i, r: r[1] in (CH + "resume", CH + "shutdown", CH + "delete"), "what follows does as much by itself, or may come to a paused machine"),
    (("repeated",), lambda s, i, r: r[1] == CH + "delete", "to delete what is not there is no error (lib.rs vm_delete)"),
    (("left out", "repeated"), lambda s, i, r: r[:2] == ("PATCH", "/vm") and not any(x[1] == "/snapshot/create" for x in s[i:i + 2 if r[2]["state"] == "Paused" else i]),
     "to pause what is paused does nothing, nor to resume what runs (lib.rs pause_vm)"),
    (("repeated", "swapped"), lambda s, i, r: r[:2] == ("PATCH", "/vm") == s[min(i + 1, len(s) - 1)][:2], "to resume what runs does nothing (lib.rs resume_vm)"),
    (("repeated",), lambda s, i, r: r[:2] == ("PATCH", "/vm"), "to pause what is paused does nothing (lib.rs pause_vm)"),
    (("left out", "repeated"), lambda s, i, r: r[1] == "/snapshot/create", "a snapshot changes nothing, and overwrites"),
    (("left out",), lambda s, i, r: r[1] == CH + "snapshot", "a snapshot changes nothing"),
]


# ---- playing ----

# Fields that name something on the host: what this process has instead. The drivers' own names mean nothing here.
HOST_FIELDS = {"kernel": "kernel", "initramfs": "initrd", "kernel_image_path": "kernel", "initrd_path": "initrd", "socket": None, "uds_path": "vsock.sock",
               "log_path": "log", "metrics_path": "metrics", "path_on_host": "raw", "backend_path": "mem", "mem_file_path": "mem.out", "serial_out_path": "serial.out"}


def localize(value, recorded):
    """A body with this process's files in it."""
    if isinstance(value, list):
        return [localize(v, recorded) for v in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for k, v in value.items():
        if not isinstance(v, str):
            out[k] = localize(v, recorded)
        elif k in ("destination_url", "source_url", "receiver_url"):
            kind, _, rest = v.partition(":")
            if recorded:
                rest = "//" + at("snapshot" if k == "destination_url" else "saved") if kind == "file" else at("incoming.sock")
            elif rest.startswith("//") and not rest.startswith("///"):
                rest = "//" + at(rest[2:])
            elif kind == "unix" and not rest.startswith("/"):
                rest = at(rest)
            out[k] = kind + ":" + rest
        elif k == "snapshot_path":
            out[k] = at(v if not recorded else "state" if "mem_backend" in value else "state.out")
        elif k == "path" and ("image_type" in value or not recorded) and v:
            name = v if not recorded else "raw" if value.get("image_type") != "Qcow2" else "overlay" if value.get("backing_files") else "qcow2"
            out[k] = at(name)
        elif k in HOST_FIELDS and v:
            out[k] = at((HOST_FIELDS[k] or "%s.sock" % ("vsock" if "cid" in value else "serial")) if recorded else v)
        else:
            out[k] = v
    return out


def prepare(vmm, sequence):
    """What a restore needs: a machine that was saved."""
    for name in os.listdir(TMP.name):
        if name.endswith((".sock", ".out")) or name in ("log", "metrics"):
            os.unlink(at(name))
    os.makedirs(at("snapshot"), exist_ok=True)
    for name in os.listdir(at("snapshot")):
        os.unlink(os.path.join(at("snapshot"), name))
    if any("restore" in r[1] for r in sequence) and not os.path.exists(at("saved")):
        os.makedirs(at("saved"))
        with_net = next((q for v, n, q in SEQUENCES if v == vmm and n == "life"))
        play(vmm, with_net[1:4] + [("PUT", CH + "pause", None, 0), ("PUT", CH + "snapshot", {"destination_url": "file://saved"}, 0)])
    if any("snapshot/load" in r[1] for r in sequence) and not os.path.exists(at("mem")):
        full = next(q for v, n, q in SEQUENCES if v == vmm and n == "life")
        play(vmm, full[:full.index(("PATCH", "/vm", {"state": "Resumed"}, 0))])
        os.rename(at("state.out"), at("state"))
        os.rename(at("mem.out"), at("mem"))


def encode(r, raw=None):
    method, path, body, _ = r
    text = b"" if body is None else json.dumps(body).encode()
    if raw is not None:
        text = raw
    head = "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n" % (method, path)
    if text or method in ("PUT", "PATCH"):
        head += "Content-Type: application/json\r\nContent-Length: %d\r\n" % len(text)
    return head.encode() + b"\r\n" + text


def play(vmm, sequence, data=None, recorded=False):
    """Violations. data: {index: bytes to send instead}."""
    prepare(vmm, sequence)
    loop = contract.Loop()
    system = SYSTEMS[vmm](None, loop)
    parser = contract.Parser(system.BODY_LIMIT)
    try:
        for i, r in enumerate(sequence):
            text = (data or {}).get(i) or encode((r[0], r[1], None if r[2] is None else localize(r[2], recorded), r[3]))
            parser.fds += [os.dup(0) for _ in range(r[3])]
            try:
                requests = parser.feed(text)
            except contract.Problem as p:
                return [p.text]
            if len(requests) != 1:
                return ["%d requests" % len(requests)]
            if system.after:
                return ["a request after the end of the process"]
            system.serve(requests[0])
            if system.book.violations:
                break
        return system.book.violations
    finally:
        if vmm == "cloud-hypervisor":
            system.stop_vm()
        elif system.vsock:
            system.vsock.close()
        for fd in getattr(system, "opened", []) if vmm == "cloud-hypervisor" else system.fds:
            try:
                os.close(fd)
            except OSError:
                pass
        for fds in system.fds.values() if vmm == "cloud-hypervisor" else []:
            contract.close_all(fds)
        if vmm == "firecracker":
            contract.close_all([fd for fd in (system.metrics, system.logfile) if fd is not None])
        loop.selector.close()


# ---- mutants ----

def walk(doc, schema, value, path=()):
    """(path, value, schema, required) of every field."""
    schema = doc.resolve(schema)
    if isinstance(value, dict):
        for k, v in value.items():
            inner = schema.get("properties", {}).get(k, {})
            yield path + (k,), v, doc.resolve(inner), k in schema.get("required", [])
            yield from walk(doc, inner, v, path + (k,))
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from walk(doc, schema.get("items", {}), v, path + (i,))


def change(body, path, fn):
    body = copy.deepcopy(body)
    at_ = body
    for p in path[:-1]:
        at_ = at_[p]
    fn(at_, path[-1])
    return body


def wrong_values(value, schema):
    kind = schema.get("type")
    if kind == "integer":
        low, high = schema.get("minimum", 0), schema.get("maximum", (1 << contract.WIDTH[schema.get("format")]) - 1)
        yield from (("below its range", low - 1), ("above its range", high + 1), ("text", "7"), ("a fraction", 1.5), ("a boolean", True))
    elif kind == "string":
        yield from (("a number", 7), ("a list", [value]))
        if "enum" in schema:
            yield from (("not of its list", "Bogus"), ("in another case", value.swapcase() if value.swapcase() not in schema["enum"] else "bogus"))
        elif "pattern" in schema:
            yield "not of its form", "__" + "x" * 64
    elif kind == "boolean":
        yield from (("text", "true"), ("a number", 1))
    elif kind == "array":
        yield "an object", {}
    elif kind == "object" or "properties" in schema:
        yield "a list", []
    else:
        return
    yield "null", None


def body_mutants(system, r):
    template, _, (schema, _required) = system.DOC.find(r[0], r[1][len(system.PREFIX):])
    del template
    if schema is None or r[2] is None:
        return
    for path, value, inner, required in walk(system.DOC, schema, r[2]):
        name = ".".join(map(str, path))

        def rename(at_, k):
            at_[k + "x"] = at_.pop(k)
        yield "field renamed", name, change(r[2], path, rename)
        if required:
            yield "required field taken away", name, change(r[2], path, lambda at_, k: at_.pop(k))
        for how, bad in wrong_values(value, inner):
            yield "value " + how, name, change(r[2], path, lambda at_, k, bad=bad: at_.__setitem__(k, bad))
    for path in [()] + [p for p, v, _, _ in walk(system.DOC, schema, r[2]) if isinstance(v, dict)]:
        yield "unknown field", ".".join(map(str, path)) or "the body", change({"": r[2]}, ("",) + path, lambda at_, k: at_[k].__setitem__("bogus", 1))[""]


def line_mutants(r):
    for method in ("GET", "PUT", "PATCH", "POST", "DELETE"):
        if method != r[0]:
            yield "another method", method, (method,) + r[1:]
    for how, path in (("typo", r[1] + "x"), ("slash at the end", r[1] + "/"), ("upper case", r[1].upper()), ("query", r[1] + "?a=b"), ("doubled slash", "/" + r[1])):
        if path != r[1] and not (r[1] == "/" and how in ("slash at the end",)):
            yield "another path", how, (r[0], path) + r[2:]
    yield "descriptors", "one more", r[:3] + (r[3] + 1,)
    if r[3]:
        yield "descriptors", "one less", r[:3] + (r[3] - 1,)
    if r[2] is None:
        yield "body", "where none belongs", (r[0], r[1], {"a": 1}, r[3])
    else:
        yield "body", "none", (r[0], r[1], None, r[3])


def raw_mutants(r):
    good = encode(r)
    yield "no Host", good.replace(b"Host: localhost\r\n", b"")
    yield "HTTP/1.0", good.replace(b"HTTP/1.1", b"HTTP/1.0")
    yield "bare LF", good.replace(b"\r\n", b"\n")
    yield "space in a name", good.replace(b"Host:", b"Ho st:")
    yield "space before the colon", good.replace(b"Host:", b"Host :")
    yield "Host twice", good.replace(b"Host: localhost", b"Host: localhost\r\nHost: localhost")
    yield "chunked", good.replace(b"Host: localhost", b"Host: localhost\r\nTransfer-Encoding: chunked")
    yield "a long line", good.replace(b"localhost", b"l" * 2000)
    yield "absolute target", good.replace(b" /", b" http://localhost/", 1)
    yield "accepts HTML", good.replace(b"Accept: application/json", b"Accept: text/html")
    yield "nothing", b"\r\n" + good
    if r[2] is not None:
        text = json.dumps(r[2]).encode()
        yield "length too great", good.replace(b"Content-Length: %d" % len(text), b"Content-Length: %d" % (len(text) + 5))
        yield "length too small", good.replace(b"Content-Length: %d" % len(text), b"Content-Length: %d" % (len(text) - 1))
        yield "length negative", good.replace(b"Content-Length: ", b"Content-Length: -")
        yield "no length", good.replace(b"Content-Length: %d\r\n" % len(text), b"")
        yield "huge length", good.replace(b"Content-Length: %d" % len(text), b"Content-Length: 99999999")
        yield "a form", good.replace(b"Content-Type: application/json", b"Content-Type: application/x-www-form-urlencoded")
        yield "JSON cut", encode(r, text[:-1])
        yield "JSON and more", encode(r, text + b" x")
        if b'"' in text:
            yield "not UTF-8", encode(r, text.replace(b'"', b'"\xff', 1))
        if text.startswith(b'{"'):
            first = text[1:text.index(b":") + 1]
            yield "field twice", encode(r, b"{" + first + json.dumps(next(iter(r[2].values()))).encode() + b", " + text[1:])


def order_mutants(sequence):
    for i, r in enumerate(sequence):
        yield "left out", i, r, sequence[:i] + sequence[i + 1:]
        yield "repeated", i, r, sequence[:i + 1] + sequence[i:]
        if i + 1 < len(sequence):
            yield "swapped", i, r, sequence[:i] + [sequence[i + 1], r] + sequence[i + 2:]


def equal(kind, vmm, sequence, i, r):
    del vmm
    for kinds, test, why in EQUAL:
        if kind in kinds and test(sequence, i, r):
            return why
    return None


class Count:
    def __init__(self):
        self.n, self.bad, self.even = {}, [], {}

    def add(self, kind, name, caught, why=None):
        group = self.n.setdefault(kind, [0, 0])
        group[0] += 1
        group[1] += bool(caught)
        if why and not caught:
            self.even[why] = self.even.get(why, 0) + 1
        elif not caught:
            self.bad.append("%s: %s is not caught" % (name, kind))


def run(vmm, name, sequence, recorded, count):
    wrong = play(vmm, sequence, recorded=recorded)
    if wrong:
        count.bad.append("%s %s: the correct sequence is refused: %s" % (vmm, name, "; ".join(wrong)))
        return
    system = SYSTEMS[vmm](None, contract.Loop())
    for i, r in enumerate(sequence):
        where = "%s %s, request %d %s %s" % (vmm, name, i + 1, r[0], r[1])
        before = sequence[:i]
        for kind, what, body in body_mutants(system, r):
            caught = play(vmm, before + [(r[0], r[1], body, r[3])], recorded=recorded)
            count.add(kind, where + " " + what, caught, excuse(vmm, kind, what, r))
        for kind, what, other in line_mutants(r):
            count.add(kind, where + " " + what, play(vmm, before + [other], recorded=recorded), excuse(vmm, kind, what, other))
        local = (r[0], r[1], None if r[2] is None else localize(r[2], recorded), r[3])
        for what, text in raw_mutants(local):
            data = {i: text}
            # A request that never ends, or whose rest begins the next one, is seen when the connection goes on.
            caught = play(vmm, before + [r, ("GET", "/", None, 0)], data, recorded=recorded)
            count.add("broken HTTP or JSON", where + " " + what, caught)
    for kind, i, r, mutant in order_mutants(sequence):
        where = "%s %s, request %d %s %s" % (vmm, name, i + 1, r[0], r[1])
        count.add(kind, where, play(vmm, mutant, recorded=recorded), equal(kind, vmm, sequence, i, r))


def excuse(vmm, kind, what, r):
    """Mutants of one request that are other, correct requests."""
    if vmm == "firecracker" and kind == "another method" and what == "PATCH" and r[1] == "/machine-config":
        return "PATCH /machine-config takes the whole as well"
    return None


def recordings(folder):
    """What drivers sent: one sequence for each process, each kind of sequence once. Those that begin with another's machine (a
    snapshot, a migration) are left out: that machine is not there any more."""
    seen = set()
    for path in sorted(glob.glob(os.path.join(folder, "*.jsonl"))):
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        for pid in dict.fromkeys(x["pid"] for x in lines):
            mine = [x for x in lines if x["pid"] == pid]
            sequence = [(x["method"], x["path"], json.loads(x["body"]) if x["body"] else None, x["fds"]) for x in mine]
            shape = json.dumps([(m, p, sorted(b) if b else None) for m, p, b, _ in sequence])
            boots = sum(r[1] in (CH + "boot",) for r in sequence)  # twice: the guest turned itself off in between
            if shape in seen or boots > 1 or any(w in r[1] for r in sequence for w in ("restore", "receive", "snapshot/load")):
                continue
            seen.add(shape)
            yield mine[0]["vmm"], "%s[%d]" % (os.path.basename(path)[:-6], pid), sequence


def main():
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # where a Firecracker's guest has its console
    os.dup2(1, 0)
    files()
    count = Count()
    for vmm, name, sequence in SEQUENCES:
        run(vmm, name, sequence, False, count)
    recorded = list(recordings(sys.argv[1])) if len(sys.argv) > 1 else []
    for vmm, name, sequence in recorded:
        run(vmm, "recorded " + name, sequence, True, count)
    print("%d sequences, %d recorded ones" % (len(SEQUENCES), len(recorded)))
    total = caught = 0
    for kind, (n, c) in sorted(count.n.items()):
        print("%-28s %5d mutants, %5d caught" % (kind, n, c))
        total, caught = total + n, caught + c
    for why, n in sorted(count.even.items()):
        print("equal: %4d × %s" % (n, why))
    for line in count.bad:
        print("FAIL %s" % line)
    print("%d mutants, %d caught, %d equal, %d missed" % (total, caught, sum(count.even.values()), len(count.bad)))
    return 1 if count.bad else 0


if __name__ == "__main__":
    sys.exit(main())
