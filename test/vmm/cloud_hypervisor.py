"""A process that pretends to be cloud-hypervisor v53.0: see contract.py. Its document is
cloud-hypervisor-v53.0.yaml; states and error chains are those of vmm/src/lib.rs, vm.rs and api/mod.rs of that project."""
import json
import os
import re
import socket
import sys
import time

import guest as g
from contract import Api, Document, Later, Loop, Problem, Refused, Vmm

VERSION = "v53.0.0"
# main.rs get_cli_options_sorted(): option → takes how many values ("+": one or more, 0: a switch).
OPTIONS = {name: 1 for name in """api-socket balloon cmdline console cpus debug-console event-monitor firmware fw-cfg-config gdb igvm
    initramfs kernel log-file log-format memory platform restore rng seccomp serial tpm vsock host-data ivshmem""".split()}
OPTIONS.update({name: "+" for name in """device disk fs generic-vhost-user landlock-rules memory-zone net numa pci-segment pmem
    rate-limit-group user-device vdpa""".split()})
OPTIONS.update({name: 0 for name in "landlock no-shutdown pvpanic rtc version watchdog".split()})
FOR_VM = set(OPTIONS) - {"api-socket", "event-monitor", "gdb", "log-file", "log-format", "no-shutdown", "restore", "seccomp", "version"}


def schemas(doc):
    return doc["components"]["schemas"]


def prop(doc, name, field, **more):
    schemas(doc)[name]["properties"].setdefault(field, {}).update(more)


MAC = "(?i)([0-9a-f]{2}:){5}[0-9a-f]{2}"
QUEUE = dict(format="uint16", minimum=1, maximum=32768)


def fix_generic(doc):
    p = schemas(doc)["VmConfig"]["properties"]
    p["generic_vhost_user"] = p.pop("generic-vhost-user")


def fix_restore(doc):
    prop(doc, "RestoreConfig", "net_fds", type="array", items={
        "type": "object", "required": ["id", "num_fds"],
        "properties": {"id": {"type": "string"}, "num_fds": {"type": "integer", "minimum": 1}}})


def fix_numbers(doc):
    prop(doc, "NetConfig", "mtu", format="uint16", minimum=1280)
    prop(doc, "NetConfig", "num_queues", minimum=2)
    prop(doc, "NetConfig", "queue_size", **QUEUE)
    prop(doc, "DiskConfig", "queue_size", **dict(QUEUE, minimum=3))
    prop(doc, "DiskConfig", "num_queues", minimum=1)
    prop(doc, "CpusConfig", "boot_vcpus", format="uint32")
    prop(doc, "CpusConfig", "max_vcpus", format="uint32")
    prop(doc, "CpusConfig", "max_phys_bits", format="uint8")
    for f in ("threads_per_core", "cores_per_die", "dies_per_package", "packages"):
        prop(doc, "CpuTopology", f, format="uint16", minimum=1)
    prop(doc, "CpuTopology", "threads_per_core", maximum=2)
    prop(doc, "VsockConfig", "cid", format="uint32")
    prop(doc, "MemoryConfig", "size", minimum=1)


def fix_texts(doc):
    prop(doc, "NetConfig", "mac", pattern=MAC)
    prop(doc, "NetConfig", "host_mac", pattern=MAC)
    prop(doc, "MemoryConfig", "hotplug_method", enum=["Acpi", "VirtioMem"])
    prop(doc, "DiskConfig", "serial", pattern="(?s).{0,20}")
    prop(doc, "NetConfig", "vhost_mode", enum=["Client", "Server"])
    for name, s in schemas(doc).items():
        if name.endswith("Config") and "id" in s.get("properties", {}):
            prop(doc, name, "id", pattern="(?!__)(?s:.+)")


def fix_required(doc):
    for name, fields in {"VmRemoveDevice": ["id"], "VmResizeDisk": ["id", "desired_size"], "VmResizeZone": ["id", "desired_ram"],
                         "VmSnapshotConfig": ["destination_url"]}.items():
        schemas(doc)[name]["required"] = fields


def fix_user_device(doc):
    schemas(doc)["VmAddUserDevice"] = schemas(doc)["UserDeviceConfig"]


CORRECTIONS = [
    (fix_generic, "the serde field of VmConfig is generic_vhost_user (vm_config.rs); the later document has it so"),
    (fix_restore, "config.rs RestoreConfig.net_fds and http_endpoint.rs: descriptors by SCM_RIGHTS, num_fds for each id"),
    (fix_numbers, "the Rust types of vm_config.rs, and config.rs: InvalidMtu, VnetQueueLowerThan2, BlockQueueSizeTooSmall, "
                  "CpuTopologyZeroPart, CpuTopologyThreadsPerCore"),
    (fix_texts, "vm_config.rs enums; config.rs InvalidSerialLength (20 bytes), InvalidIdentifier (empty, or begins with __)"),
    (fix_required, "api/mod.rs: these fields are no Option, so serde demands them"),
    (fix_user_device, "http_endpoint.rs deserializes vm.add-user-device into UserDeviceConfig, which has an id"),
]
BENCH = "/tmp/vireo-bench-[A-Za-z0-9]{6}"
DEVICE_LISTS = {"disks": "_disk", "net": "_net", "fs": "_fs", "pmem": "_pmem", "vdpa": "_vdpa", "user_devices": "_vfio_user",
                "devices": "_vfio", "generic_vhost_user": "_generic_vhost_user"}
ADDS = {"/vm.add-disk": ("disks", "The disk could not be added to the VM"),
        "/vm.add-net": ("net", "The network device could not be added to the VM"),
        "/vm.add-fs": ("fs", "The fs could not be added to the VM"),
        "/vm.add-pmem": ("pmem", "The pmem device could not be added to the VM"),
        "/vm.add-vdpa": ("vdpa", "The vDPA device could not be added to the VM"),
        "/vm.add-device": ("devices", "The device could not be added to the VM"),
        "/vm.add-user-device": ("user_devices", "The user device could not be added to the VM"),
        "/vm.add-generic-vhost-user": ("generic_vhost_user", "The generic vhost-user device could not be added to the VM")}
# What the API says first when an action fails (api/mod.rs ApiError).
TOP = {"/vm.create": "The VM could not be created", "/vm.boot": "The VM could not boot", "/vm.pause": "The VM could not be paused",
       "/vm.resume": "The VM could not resume", "/vm.shutdown": "The VM could not shutdown", "/vm.reboot": "The VM could not reboot",
       "/vm.delete": "The VM could not be deleted", "/vm.info": "The VM info is not available", "/vm.counters": "The VM info is not available",
       "/vm.resize": "The VM could not be resized", "/vm.resize-disk": "The disk could not be resized",
       "/vm.resize-zone": "The memory zone could not be resized", "/vm.remove-device": "The device could not be removed from the VM",
       "/vm.snapshot": "The VM could not be snapshotted", "/vm.restore": "The VM could not be restored",
       "/vm.receive-migration": "Error receiving migration", "/vm.send-migration": "Error dispatching the migration worker",
       "/vm.power-button": "Error triggering power button", "/vm.nmi": "Error triggering NMI", "/vm.coredump": "The VM could not be coredumped",
       "/vm.add-vsock": "The vsock device could not be added to the VM", **{k: v[1] for k, v in ADDS.items()}}


class CloudHypervisor(Vmm):
    NAME, SERVER, PREFIX, BODY_LIMIT, BLOCKS = "cloud-hypervisor", "Cloud Hypervisor API", "/api/v1", 4 << 20, True
    DOC = None

    def __init__(self, folder, loop, monitor=None, no_shutdown=False):
        if CloudHypervisor.DOC is None:
            CloudHypervisor.DOC = Document("cloud-hypervisor-v53.0.yaml", CORRECTIONS)
        super().__init__(folder, loop)
        self.config, self.state, self.guest, self.wire, self.vsock = None, None, None, None, None
        self.fds, self.opened, self.monitor, self.no_shutdown, self.begun = {}, [], monitor, no_shutdown, time.monotonic()
        self.plugged, self.migration, self.receiver = 0, None, None
        self.exit = lambda code: None

    # ---- what it tells ----

    def event(self, source, event, /, **properties):
        """As event_monitor/src/lib.rs: pretty JSON, an empty line between two."""
        t = time.monotonic() - self.begun
        text = json.dumps({"timestamp": {"secs": int(t), "nanos": int(t % 1 * 1e9)}, "source": source, "event": event,
                           "properties": properties or None}, indent=2)
        if self.monitor is not None:
            try:
                os.write(self.monitor, text.encode() + b"\n\n")
            except OSError as e:
                self.book.log("event monitor: %s" % e)
        self.book.log("event %s %s" % (source, event))

    def error_body(self, p):
        return [p.text] if not p.chain else [p.text, *p.chain]

    def unknown(self, r):
        return "Not Found"

    def empty(self, r):
        return "Bad Request"

    def bad_json(self, text):
        return "Failed to deserialize JSON: " + text

    def wrong(self, template, text, status=500):
        return Problem(status, TOP[template], *text.split(": "))

    def refuse(self, template, *texts):
        return Refused(500, TOP[template], *texts)

    # ---- requests ----

    def act(self, r, template, _params, value):
        if r.fds and template not in ("/vm.add-net", "/vm.restore", "/vm.add-device"):
            raise Problem(400, "Bad Request: %s takes no descriptors" % template)
        name = template[1:].replace(".", "_").replace("-", "_")
        if template in ADDS:
            return self.add(r, template, *ADDS[template], value)
        return getattr(self, "do_" + name)(r, template, value)

    def need(self, template, *states):
        if self.config is None:
            # lib.rs: some actions look at the VM, others at its configuration
            if template in ("/vm.pause", "/vm.resume", "/vm.snapshot", "/vm.shutdown", "/vm.counters", "/vm.power-button", "/vm.nmi"):
                raise self.wrong(template, "VM is not running")
            raise self.wrong(template, "VM config is missing" if template == "/vm.boot" else "VM is not created", 404)
        if self.migration and template != "/vm.info":
            raise self.wrong(template, "VM is currently migrating and can't be modified")
        if states and self.state not in states:
            raise self.wrong(template, "VM is not running" if self.state == "Created" else
                             "invalid VM state transition: %s" % self.state)

    def do_vmm_ping(self, _r, _t, _v):
        return {"build_version": VERSION, "version": VERSION[1:], "pid": os.getpid(), "features": ["kvm", "io_uring"]}

    def do_vmm_shutdown(self, _r, _t, _v):
        self.stop_vm()
        self.event("vmm", "shutdown")
        self.after.append(lambda: self.exit(0))

    def do_vm_create(self, r, template, value):
        if self.config is not None:
            raise self.wrong(template, "VM is already created")
        self.validate(template, value)
        self.config = self.DOC.with_defaults(value, self.DOC.schema("VmConfig"))
        # vm_config.rs: Default of the parts that were not given
        self.config.setdefault("cpus", {"boot_vcpus": 1, "max_vcpus": 1})
        self.config.setdefault("memory", {"size": 512 << 20})
        self.config.setdefault("serial", {"mode": "Null"})
        self.config.setdefault("console", {"mode": "Tty"})
        self.config.setdefault("rng", {"src": "/dev/urandom"})
        for part in ("cpus", "memory"):
            self.config[part] = self.DOC.with_defaults(self.config[part], self.DOC.schema("VmConfig")["properties"][part])
        self.state = "Created"
        self.open_wire(template)

    def do_vm_boot(self, _r, template, _v):
        self.need(template, "Created", "Shutdown")
        self.event("vm", "booting")
        if self.wire is None:  # it was shut down: the consoles are made anew (lib.rs vm_boot)
            self.open_wire(template)
        self.open_all(template)
        self.name_devices()
        self.run_guest()
        self.state = "Running"
        self.book.config(self.config)
        self.event("vm", "booted")

    def do_vm_pause(self, _r, template, _v):
        self.need(template, "Running")
        self.event("vm", "pausing")
        self.state, self.guest.running = "Paused", False
        self.event("vm", "paused")

    def do_vm_resume(self, _r, template, _v):
        self.need(template, "Paused")
        self.event("vm", "resuming")
        self.state, self.guest.running = "Running", True
        self.event("vm", "resumed")

    def do_vm_shutdown(self, _r, template, _v):
        self.need(template, "Running", "Paused")
        self.stop_guest()
        self.state = "Created"  # the configuration stays (lib.rs vm_info)
        self.event("vm", "shutdown")

    def do_vm_reboot(self, _r, template, _v):
        self.need(template, "Running", "Paused")
        self.reboot()

    def do_vm_delete(self, _r, template, _v):
        if self.config is None:
            return  # lib.rs vm_delete: nothing to do is no error
        self.need(template)
        self.stop_vm()
        self.event("vm", "deleted")

    def do_vm_power_button(self, _r, template, _v):
        self.need(template, "Running", "Paused")
        self.loop.later(0.01, lambda: self.guest and self.guest.power_button())

    def do_vm_nmi(self, _r, template, _v):
        self.need(template, "Running", "Paused")

    def do_vm_info(self, _r, template, _v):
        self.need(template)
        size = self.config["memory"]["size"] + self.plugged
        running = self.state in ("Running", "Paused")
        out = {"config": self.config, "state": self.state,
               "memory_actual_size": size - (self.config.get("balloon", {}).get("size", 0) if running else 0)}
        if running:
            out["device_tree"] = {d["id"]: {"id": d["id"], "resources": [], "children": [], "pci_bdf": d.get("bdf", "0000:00:02.0")}
                                  for d in self.devices()}
        return out

    def do_vm_counters(self, _r, template, _v):
        self.need(template, "Running", "Paused")
        n, out = self.guest.moved + self.guest.count, {}
        for d in self.config.get("disks", []):
            out[d["id"]] = {"read_bytes": n * 512, "write_bytes": n * 256, "read_ops": n, "write_ops": n,
                            **{"%s_latency_%s" % (a, b): 100 for a in ("read", "write") for b in ("min", "max", "avg")}}
        for d in self.config.get("net", []):
            out[d["id"]] = {"rx_bytes": n * 64, "rx_frames": n, "tx_bytes": n * 32, "tx_frames": n}
        return out

    def do_vm_resize(self, _r, template, value):
        self.need(template)
        if not value:
            raise self.wrong(template, "a resize to nothing", 400)
        cpus, memory = self.config["cpus"], self.config["memory"]
        self.event("vm", "resizing")
        if "desired_vcpus" in value:
            if value["desired_vcpus"] > cpus["max_vcpus"]:
                raise self.wrong(template, "Error from CPU manager: desired %d vCPUs exceed max %d" % (value["desired_vcpus"], cpus["max_vcpus"]))
            cpus["boot_vcpus"] = value["desired_vcpus"]
        if "desired_ram" in value:
            want = value["desired_ram"]
            now = memory["size"] + self.plugged
            if self.state == "Created":
                memory["size"] = want
            elif want > memory["size"] + memory.get("hotplug_size", 0):
                raise self.wrong(template, "Memory manager error: no room to grow to %d" % want)
            elif memory.get("hotplug_method", "Acpi") == "VirtioMem":
                # memory_manager.rs resize(): from the size at boot on, in blocks of 2 MiB
                if want < memory["size"] or want % (2 << 20):
                    raise self.wrong(template, "Memory manager error: cannot resize to %d" % want)
                self.plugged = memory["hotplugged_size"] = want - memory["size"]
            elif want > now:
                if (want - now) % (128 << 20):
                    raise self.wrong(template, "Memory manager error: hotplugged memory is not a multiple of 128 MiB")
                memory["hotplug_size"] = memory.get("hotplug_size", 0) - (want - now)
                memory["size"] = want
        if "desired_balloon" in value:
            if "balloon" not in self.config:
                raise self.wrong(template, "Error from device manager: no balloon")
            if value["desired_balloon"] > memory["size"]:
                raise self.wrong(template, "Balloon size (%d) greater than RAM (%d)" % (value["desired_balloon"], memory["size"]))
            self.config["balloon"]["size"] = value["desired_balloon"]
        self.event("vm", "resized")

    def do_vm_resize_disk(self, _r, template, value):
        self.need(template, "Running", "Paused")
        if not any(d["id"] == value["id"] for d in self.config.get("disks", [])):
            raise self.wrong(template, "Failed resizing a disk image")

    def do_vm_resize_zone(self, _r, template, value):
        self.need(template)
        if not any(z["id"] == value["id"] for z in self.config["memory"].get("zones", [])):
            raise self.wrong(template, "Failed resizing a memory zone")

    def do_vm_coredump(self, _r, template, _v):
        raise Problem(404, "Not Found: built without guest_debug")

    def add(self, r, template, kind, _top, value):
        self.need(template)
        trial = dict(self.config)
        trial[kind] = list(self.config.get(kind, [])) + [value]
        self.validate(template, trial)
        if kind == "net":
            self.taps(r, template, value)
        value = self.DOC.with_defaults(value, self.DOC.find("PUT", template)[2][0])
        if self.state in ("Running", "Paused"):
            if kind == "disks":
                self.open_disk(template, value)
            self.config.setdefault(kind, []).append(value)
            self.name_devices()
            self.fds[value["id"]] = self.fds.pop(None, [])
            return {"id": value["id"], "bdf": value["bdf"]}
        self.config.setdefault(kind, []).append(value)
        if kind == "net":
            value["id"] = value.get("id") or self.free_id("net")
            self.fds[value["id"]] = self.fds.pop(None, [])
        return None

    def taps(self, r, template, value):
        """Descriptors that came along are the queues of the tap: num_queues counts both directions."""
        if "tap" in value and r.fds:
            raise self.wrong(template, "both a tap's name and descriptors", 400)
        if "tap" not in value and not r.fds and "vhost_socket" not in value:
            raise self.wrong(template, "neither tap nor descriptors: it would make a tap of its own", 400)
        if r.fds and len(r.fds) * 2 != value.get("num_queues", 2):
            raise self.wrong(template, "Number of queues (%d) to virtio_net does not match the number of FDs (%d)"
                             % (value.get("num_queues", 2), len(r.fds) * 2), 400)
        for fd in r.fds:
            if g.tap_name(fd) is None and not os.environ.get("VIREO_CONTRACT_NO_TAPS"):
                raise self.wrong(template, "descriptor %d is no tap" % fd)
        if "tap" in value:
            try:
                os.close(g.open_tap(value["tap"], g.IFF_TAP | g.IFF_NO_PI | g.IFF_VNET_HDR))
            except OSError as e:
                raise self.refuse(template, "Error from device manager", "Open tap %s: %s" % (value["tap"], e)) from e
        self.fds[None] = [os.dup(fd) for fd in r.fds]

    def do_vm_add_vsock(self, _r, template, value):
        self.need(template)
        if "vsock" in self.config:
            raise self.wrong(template, "Too many virtio-vsock devices")
        self.config["vsock"] = value
        if self.state == "Created":
            return None
        self.open_vsock(template)
        self.name_devices()
        return {"id": value["id"], "bdf": value["bdf"]}

    def do_vm_remove_device(self, _r, template, value):
        self.need(template)
        for kind in DEVICE_LISTS:
            for d in self.config.get(kind, []):
                if d.get("id") != value["id"]:
                    continue
                if self.state == "Created":
                    self.config[kind].remove(d)
                else:  # the guest has to let go of it
                    self.loop.later(0.05, lambda: self.eject(kind, d))
                return None
        raise self.wrong(template, 'No device with id "%s" to remove' % value["id"], 404)

    def eject(self, kind, d):
        if not self.guest or not self.guest.running:
            if self.guest:
                self.loop.later(0.05, lambda: self.eject(kind, d))
            return
        if d in self.config.get(kind, []):
            self.config[kind].remove(d)
            self.event("vm", "device-removed", id=d["id"], bdf=d.get("bdf", ""))

    # ---- snapshots and migration ----

    def do_vm_snapshot(self, _r, template, value):
        self.need(template, "Paused")
        folder = self.folder_of(template, value["destination_url"], self.wrong)
        self.event("vm", "snapshotting")
        try:
            for name, text in self.saved().items():
                with open(os.path.join(folder, name), "x", encoding="utf-8") as f:
                    f.write(text)
        except FileExistsError as e:
            raise self.wrong(template, "Cannot send VM snapshot: %s" % e) from e
        except OSError as e:
            raise self.refuse(template, "Cannot send VM snapshot", str(e)) from e
        self.event("vm", "snapshotted")

    def folder_of(self, template, url, error):
        if not url.startswith("file://"):
            raise error(template, "Could not extract path from URL: " + url)
        if not os.path.isdir(url[7:]):
            raise error(template, "Destination is not a directory: " + url[7:])
        return url[7:]

    def saved(self):
        return {"config.json": json.dumps(self.config), "state.json": json.dumps({"guest": self.guest.count, "plugged": self.plugged}),
                "memory-ranges": "\0" * 4096}

    def do_vm_restore(self, r, template, value):
        if self.config is not None:
            raise self.wrong(template, "VM is already created")
        folder = self.folder_of(template, value["source_url"], self.wrong)
        if value.get("prefault") and value.get("memory_restore_mode") == "OnDemand":
            raise self.wrong(template, "'prefault' cannot be combined with 'memory_restore_mode=ondemand'", 400)
        nets = value.get("net_fds", [])
        if sum(n["num_fds"] for n in nets) != len(r.fds):
            raise self.wrong(template, "Expected %d FDs, received %d" % (sum(n["num_fds"] for n in nets), len(r.fds)), 400)
        try:
            texts = {}
            for name in ("config.json", "state.json", "memory-ranges"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    texts[name] = f.read()
        except OSError as e:
            raise self.refuse(template, "Cannot restore VM", str(e)) from e
        self.event("vm", "restoring")
        self.adopt(template, texts, {n["id"]: n["num_fds"] for n in nets}, list(r.fds))
        self.event("vm", "restored")
        if value.get("resume"):
            self.do_vm_resume(r, "/vm.resume", None)

    def adopt(self, template, texts, num_fds, fds):
        """Becomes the machine that was saved: paused, with the disks opened anew."""
        config, state = json.loads(texts["config.json"]), json.loads(texts["state.json"])
        known = {n["id"] for n in config.get("net", [])}
        for name in num_fds:
            if name not in known:
                raise self.wrong(template, "no interface %s in the snapshot" % name, 400)
        for n in config.get("net", []):
            if "tap" not in n and num_fds.get(n["id"], 0) * 2 != n.get("num_queues", 2):
                raise self.wrong(template, "Net id %s is associated with FDs and is required" % n["id"], 400)
        for name, count in num_fds.items():
            mine, fds = fds[:count], fds[count:]
            if any(g.tap_name(fd) is None for fd in mine) and not os.environ.get("VIREO_CONTRACT_NO_TAPS"):
                raise self.wrong(template, "a descriptor for %s is no tap" % name)
            self.fds[name] = [os.dup(fd) for fd in mine]
        self.config, self.state = config, "Created"
        try:
            self.open_wire(template)
            self.open_all(template, opened=True)
        except (Problem, Refused):
            self.config = self.state = None
            raise
        self.plugged = state["plugged"]
        self.run_guest(state["guest"])
        self.guest.running, self.state = False, "Paused"

    def do_vm_receive_migration(self, _r, template, value):
        if self.config is not None:
            raise self.wrong(template, "Can't receive a migration when a VM is already created")
        if self.receiver is not None:
            raise self.wrong(template, "There is already an ongoing migration")
        url = value["receiver_url"]
        if not url.startswith("unix:") or "tls_dir" in value:
            raise self.wrong(template, "Invalid receive migration configuration")
        try:
            self.receiver = listener = g.listen(url[5:])
        except OSError as e:
            raise self.refuse(template, "Error binding to UNIX socket", str(e)) from e
        self.event("vm", "migration-receive-ready")
        later = Later()

        def accepted():
            self.loop.forget(listener)
            conn, _ = listener.accept()
            listener.close()
            self.receiver = None
            self.event("vm", "migration-receive-started")
            data = [b""]

            def readable():
                piece = conn.recv(1 << 16)
                data[0] += piece
                if piece and not data[0].endswith(b"\n"):
                    return
                self.loop.forget(conn)
                try:
                    if not piece:
                        raise Refused(500, TOP[template], "Migration was aborted")
                    sent = json.loads(data[0])
                    # Two nodes share a file system here: what bench.c made for one pod has another name in the other.
                    mine = re.match(BENCH, url[5:])
                    if mine:
                        sent["files"]["config.json"] = re.sub(BENCH, mine[0], sent["files"]["config.json"])
                    self.adopt(template, sent["files"], {}, [])
                    if sent["running"]:
                        self.do_vm_resume(None, "/vm.resume", None)
                    conn.sendall(b"ok\n")
                    self.event("vm", "migration-receive-finished")
                    later.finish()
                except (Problem, Refused, ValueError, OSError) as e:
                    self.event("vm", "migration-receive-failed")
                    later.fail(e if isinstance(e, (Problem, Refused)) else Refused(500, TOP[template], str(e)))
                finally:
                    conn.close()
            self.loop.watch(conn, readable)
        self.loop.watch(listener, accepted)
        return later

    def do_vm_send_migration(self, _r, template, value):
        if self.state not in ("Running", "Paused"):
            raise self.wrong(template, "VM is not running")
        if self.migration:
            raise self.wrong(template, "There is already an ongoing migration")
        url = value["destination_url"]
        if not url.startswith(("unix:", "tcp:")) or (url.startswith("unix:") and value.get("connections", 1) != 1):
            raise self.wrong(template, "Invalid send migration configuration")
        memory = self.config["memory"]
        if value.get("local") and not (memory.get("shared") or memory.get("hugepages")):
            raise self.wrong(template, "Local migration requires shared memory or hugepages enabled")
        self.migration = value
        self.event("vm", "migration-started")
        self.loop.later(0.05, lambda: self.send_all(url))  # since v53 the answer does not wait for it

    def send_all(self, url):
        was = self.state
        try:
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.settimeout(10)
            s.connect(url[5:])
            self.event("vm", "migration-memory-iteration", id="0")
            self.guest.running = False
            s.sendall(json.dumps({"files": self.saved(), "running": was == "Running"}).encode() + b"\n")
            if s.recv(16) != b"ok\n":
                raise OSError("the target refused")
        except OSError as e:
            self.book.log("migration: %s" % e)
            self.guest.running, self.migration = was == "Running", None
            self.event("vm", "migration-failed")
            return
        self.event("vm", "migration-finished")
        self.stop_vm()
        self.event("vmm", "shutdown")
        self.exit(0)

    # ---- the machine ----

    def validate(self, template, c):
        """config.rs validate(): what a document cannot say."""
        payload, cpus, memory = c["payload"], c.get("cpus", {"boot_vcpus": 1, "max_vcpus": 1}), c.get("memory", {"size": 512 << 20})
        bad = lambda text: self.wrong(template, "Failed to validate config: " + text, 400)
        if not any(k in payload for k in ("kernel", "firmware", "igvm")):
            raise bad("Payload configuration is not bootable")
        if "kernel" in payload and "firmware" in payload:
            raise bad("Payload configuration is not bootable: both a kernel and firmware")
        if cpus["max_vcpus"] < cpus["boot_vcpus"]:
            raise bad("Max CPUs (%d) lower than boot CPUs (%d)" % (cpus["max_vcpus"], cpus["boot_vcpus"]))
        t = cpus.get("topology")
        if t:
            product = 1
            for f in ("threads_per_core", "cores_per_die", "dies_per_package", "packages"):
                product *= t.get(f, 1)
            if product != cpus["max_vcpus"]:
                raise bad("Product of CPU topology parts does not match maximum vCPU")
        if "hugepage_size" in memory and not memory.get("hugepages"):
            raise bad("Huge page size specified but huge pages not enabled")
        if memory.get("hugepage_size", 1) & (memory.get("hugepage_size", 1) - 1):
            raise bad("Huge page size is not power of 2")
        if memory.get("mergeable") and memory.get("shared"):
            raise bad("Invalid to set both 'mergeable' and 'shared' for memory")
        for part in ("serial", "console"):
            mode = c.get(part, {}).get("mode")
            if mode == "File" and "file" not in c[part]:
                raise bad("Path missing when using file console mode")
            if mode == "Socket" and ("socket" not in c[part] or part == "console"):
                raise bad("Path missing when using socket console mode")
        if c.get("balloon", {}).get("size", 0) > memory["size"]:
            raise bad("Balloon size greater than RAM")
        seen = set()
        for kind in DEVICE_LISTS:
            for d in c.get(kind, []):
                if d.get("id") in seen and d.get("id"):
                    raise self.wrong(template, "Failed to validate config: Identifier %s is not unique" % d["id"], 409)
                seen.add(d.get("id"))
                limit = cpus["boot_vcpus"] * (2 if kind == "net" else 1)
                if kind in ("disks", "net") and d.get("num_queues", 2 if kind == "net" else 1) > limit:
                    raise bad("Queue count (%d) must not exceed boot vCPUs (%d)" % (d.get("num_queues", 2), cpus["boot_vcpus"]))
                if d.get("queue_size", 1) & (d.get("queue_size", 1) - 1):
                    raise bad("Queue size must be a power of 2: %d" % d["queue_size"])
                if kind == "net" and d.get("num_queues", 2) % 2:
                    raise bad("an odd number of queues: %d" % d["num_queues"])
                if kind == "net" and ("mask" in d) != ("ip" in d):
                    raise bad("IP provided without a mask")
                if kind == "disks" and ("path" in d) == ("vhost_socket" in d):
                    raise bad("a disk has a path or a vhost socket")
                if kind == "disks" and "path" in d and d.get("image_type", "Unknown") == "Unknown":
                    # Not the document's: a guest can write another format's head into a raw disk and be believed.
                    raise bad("image_type is left to detection, which a guest can deceive")
                if kind == "net" and template == "/vm.create" and "tap" not in d and "vhost_socket" not in d:
                    # http_endpoint.rs VmCreate: descriptors are not accepted here, so it would make a tap of its own
                    raise bad("an interface without a tap")
        for n in c.get("net", []) if template == "/vm.create" else []:
            if "tap" in n:
                self.taps(NO_FDS, template, n)

    def devices(self):
        for kind in DEVICE_LISTS:
            yield from self.config.get(kind, [])
        for part in ("vsock", "balloon", "rng"):
            if "id" in self.config.get(part, {}):
                yield self.config[part]

    def free_id(self, kind):
        n = 0
        while any(d.get("id") == "%s%d" % (DEVICE_LISTS[kind], n) for d in self.config.get(kind, [])):
            n += 1
        return "%s%d" % (DEVICE_LISTS[kind], n)

    def name_devices(self):
        slot = 2
        for kind in DEVICE_LISTS:
            for d in self.config.get(kind, []):
                d["id"] = d.get("id") or self.free_id(kind)
                d["bdf"] = "0000:00:%02x.0" % slot
                slot += 1
        for part in ("balloon", "rng", "vsock"):
            if part in self.config:
                self.config[part].setdefault("id", "__" + part if part != "vsock" else "_vsock0")
                self.config[part].setdefault("bdf", "0000:00:%02x.0" % slot)
                slot += 1

    def typed(self, data):
        if self.guest:
            self.guest.type(data)

    def open_wire(self, template):
        serial = self.config["serial"]
        self.wire = g.Wire(self.loop, self.typed)
        try:
            if serial["mode"] == "Socket":
                self.wire.listen(serial["socket"])
            elif serial["mode"] == "File":
                self.wire.to_file(os.open(serial["file"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            elif serial["mode"] == "Tty":
                self.wire.from_stdin()
        except OSError as e:
            self.config = self.state = None
            raise self.refuse(template, "Error creating console devices", "Error creating console device", str(e)) from e

    def open_disk(self, template, d):
        if "path" not in d:
            return
        try:
            fd = g.open_file(d["path"], not d.get("readonly"))
            g.disk_size(fd)
        except OSError as e:
            raise self.refuse(template, "Error from device manager", "Failed to open disk path %s" % d["path"], str(e)) from e
        self.opened.append(fd)
        head = g.qcow2_head(fd)
        if d["image_type"] == "Qcow2" and head is None:
            raise self.wrong(template, "Error from device manager: %s is not qcow2" % d["path"])
        if head and d["image_type"] == "Qcow2" and not d.get("backing_files"):
            raise self.wrong(template, "Error from device manager: %s has a backing file and backing_files is off" % d["path"])
        if head and d["image_type"] == "Qcow2":
            try:
                self.opened.append(g.open_file(head, False))
            except (OSError, ValueError) as e:
                raise self.wrong(template, "Error from device manager: the backing file %r of %s: %s" % (head, d["path"], e)) from e
        if d["image_type"] not in ("Qcow2", "Raw"):
            raise self.refuse(template, "Error from device manager", "%s is not served here" % d["image_type"])

    def open_all(self, template, opened=False):
        payload = self.config["payload"]
        for field, check in (("kernel", lambda fd: g.is_elf(fd) or g.is_bzimage(fd)), ("initramfs", None), ("firmware", None)):
            if field not in payload or opened:
                continue
            try:
                fd = g.open_file(payload[field], False)
            except OSError as e:
                raise self.refuse(template, "Cannot open %s file" % field, str(e)) from e
            self.opened.append(fd)
            if check and not check(fd):
                raise self.refuse(template, "Cannot load the kernel into memory", "Kernel lacks PVH header")
        for d in self.config.get("disks", []):
            self.open_disk(template, d)
        self.open_vsock(template)

    def open_vsock(self, template):
        if "vsock" in self.config:
            try:
                self.vsock = g.Vsock(self.loop, self.config["vsock"]["socket"], lambda: self.guest)
            except OSError as e:
                raise self.refuse(template, "Error from device manager", "Cannot create virtio-vsock backend", str(e)) from e

    def run_guest(self, count=None):
        self.guest = g.Guest(self.loop, self, self.wire.out, count or 0, quiet=count is not None)

    def stop_guest(self):
        if self.guest:
            self.guest.end()
        if self.vsock:
            self.vsock.close()
        if self.wire:
            self.wire.close()
        for fd in self.opened:
            os.close(fd)
        self.guest, self.vsock, self.wire, self.opened = None, None, None, []

    def stop_vm(self):
        self.stop_guest()
        self.config = self.state = self.migration = None

    def reboot(self):
        self.event("vm", "rebooting")
        self.stop_guest()
        self.open_wire("/vm.reboot")
        self.open_all("/vm.reboot", opened=False)
        self.run_guest()
        self.state = "Running"
        self.event("vm", "rebooted")

    # ---- what the guest does ----

    def guest_off(self):
        if self.no_shutdown:
            self.stop_guest()
            self.state = "Created"
            self.event("vm", "shutdown")
            return
        self.stop_guest()
        self.event("vm", "shutdown")
        self.event("vm", "deleted")
        self.event("vmm", "shutdown")
        self.exit(0)

    def guest_reset(self):
        self.guest.end()
        self.loop.later(0, self.reboot)

    def guest_panicked(self):
        if self.config.get("pvpanic"):
            self.event("guest", "panic", event="panic")
        if self.guest:
            self.guest.running = False  # it halts; the VMM does not


class NoFds:
    fds = ()


NO_FDS = NoFds()


# ---- the command line ----

def usage(text):
    """clap's way."""
    sys.stderr.write("error: %s\n\nUsage: cloud-hypervisor [OPTIONS]\n\nFor more information, try '--help'.\n" % text)
    sys.exit(2)


def parse(argv):
    out, i = {}, 0
    while i < len(argv):
        word = argv[i]
        i += 1
        if word in ("-V", "--version"):
            out["version"] = True
            continue
        if re.fullmatch("-v+", word):
            continue
        if not word.startswith("--"):
            usage("unexpected argument '%s' found" % word)
        name, eq, value = word[2:].partition("=")
        if name not in OPTIONS:
            usage("unexpected argument '--%s' found" % name)
        if OPTIONS[name] == 0:
            if eq:
                usage("unexpected value '%s' for '--%s' found; no more were expected" % (value, name))
            out[name] = True
        else:
            if not eq:
                if i == len(argv) or argv[i].startswith("--"):
                    usage("a value is required for '--%s <%s>' but none was supplied" % (name, name))
                value = argv[i]
                i += 1
                while OPTIONS[name] == "+" and i < len(argv) and not argv[i].startswith("-"):
                    i += 1
            if name in out:
                usage("the argument '--%s <%s>' cannot be used multiple times" % (name, name))
            out[name] = value
    if out.get("seccomp", "true") not in ("true", "false", "log", "errno"):
        usage("invalid value '%s' for '--seccomp <seccomp>'\n  [possible values: true, false, log, errno]" % out["seccomp"])
    return out


def where(text, option):
    """path=… or fd=…, or a bare path for the API socket (main.rs)."""
    parts = dict(p.partition("=")[::2] for p in text.split(","))
    if "fd" in parts:
        return None, int(parts["fd"])
    if "path" in parts:
        return parts["path"], None
    if option == "api-socket":
        return text, None
    sys.stderr.write("Error: Cloud Hypervisor exited with the following chain of errors:\n"
                     "  0: Error parsing --event-monitor: path or fd required\n")
    sys.exit(1)


def main(argv, folder):
    options = parse(argv)
    if options.get("version"):
        print("cloud-hypervisor %s" % VERSION)
        print("Migration Protocol Versions: 0")
        return 0
    if not argv:
        usage("no arguments")
    loop, monitor = Loop(), None
    os.umask(0o077)
    if "log-file" in options:
        os.close(os.open(options["log-file"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    if "event-monitor" in options:
        path, monitor = where(options["event-monitor"], "event-monitor")
        if path:
            monitor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.set_blocking(monitor, False)  # set_monitor()
    vmm = CloudHypervisor(folder, loop, monitor, options.get("no-shutdown", False))
    vmm.exit = lambda code: setattr(loop, "over", True)
    for name in sorted(FOR_VM & set(options)):
        vmm.book.violation("command line", "--%s: a machine is made through the API here" % name)
    if "api-socket" not in options:
        vmm.book.violation("command line", "no --api-socket")
        return 1
    fault = vmm.faults.find("", "start") or {}
    if fault.get("do") == "exit":
        sys.stderr.write(fault.get("text", ""))
        return fault.get("code", 1)
    if fault.get("do") == "no-socket":
        time.sleep(600)
    if fault.get("do") == "late-socket":
        time.sleep(fault["seconds"])
    path, fd = where(options["api-socket"], "api-socket")
    if path:
        try:
            os.unlink(path)
        except OSError:
            pass
        listener = g.listen(path)
    else:
        listener = socket.socket(fileno=fd)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            vmm.book.violation("command line", "--api-socket fd=%d does not listen" % fd)
            return 1
    vmm.event("vmm", "starting")
    Api(vmm, loop, listener)
    loop.run()
    if path:
        os.unlink(path)
    return 0
