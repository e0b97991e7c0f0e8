"""A process that pretends to be Firecracker v1.16.1: see contract.py. Its document is firecracker-v1.16.1.yaml; which request
is allowed before and after the start, and the messages, are those of src/vmm/src/rpc_interface.rs and its neighbours."""
import datetime
import json
import os
import re
import sys
import time

import guest as g
from contract import Api, Document, Loop, Problem, Refused, Vmm

VERSION = "1.16.1"
# src/firecracker/src/main.rs: option → takes a value.
OPTIONS = {name: True for name in """api-sock id seccomp-filter start-time-us start-time-cpu-us parent-cpu-time-us config-file metadata
    log-path level module metrics-path describe-snapshot http-api-max-payload-size mmds-size-limit""".split()}
OPTIONS.update({name: False for name in "no-seccomp no-api show-level show-log-origin boot-timer version snapshot-version enable-pci help".split()})
PRE = "The requested operation is not supported before starting the microVM."
POST = "The requested operation is not supported after starting the microVM."


def defs(doc):
    return doc["definitions"]


def fix_patch_machine(doc):
    """PATCH takes a subset."""
    part = dict(defs(doc)["MachineConfiguration"])
    part.pop("required")
    defs(doc)["MachineConfigurationUpdate"] = part
    doc["paths"]["/machine-config"]["patch"]["parameters"][0]["schema"] = {"$ref": "#/definitions/MachineConfigurationUpdate"}


def fix_delete(doc):
    for path in ("/drives/{drive_id}", "/pmem/{id}", "/network-interfaces/{iface_id}"):
        doc["paths"][path]["delete"] = {"parameters": []}


def fix_numbers(doc):
    for name, field, more in (("MachineConfiguration", "mem_size_mib", dict(minimum=1)), ("Balloon", "amount_mib", dict(format="uint32")),
                              ("Balloon", "stats_polling_interval_s", dict(format="uint16")), ("BalloonUpdate", "amount_mib", dict(format="uint32")),
                              ("BalloonStatsUpdate", "stats_polling_interval_s", dict(format="uint16")), ("Vsock", "guest_cid", dict(format="uint32")),
                              ("MemoryHotplugConfig", "total_size_mib", dict(minimum=128))):
        defs(doc)[name]["properties"][field].update(more)


def fix_texts(doc):
    defs(doc)["NetworkInterface"]["properties"]["guest_mac"]["pattern"] = "(?i)([0-9a-f]{2}:){5}[0-9a-f]{2}"
    levels = defs(doc)["Logger"]["properties"]["level"]
    levels.pop("enum")
    levels["pattern"] = "(?i)error|warn|warning|info|debug|trace|off"


def fix_required(doc):
    for name, fields in {"MemoryHotplugConfig": ["total_size_mib"], "MemoryHotplugSizeUpdate": ["requested_size_mib"]}.items():
        defs(doc)[name]["required"] = fields
    for path, method in (("/machine-config", "put"), ("/machine-config", "patch"), ("/metrics", "put"), ("/entropy", "put"), ("/serial", "put"),
                         ("/logger", "put"), ("/hotplug/memory", "put"), ("/hotplug/memory", "patch"), ("/cpu-config", "put"), ("/mmds", "put"), ("/mmds", "patch")):
        doc["paths"][path][method]["parameters"][0]["required"] = True


CORRECTIONS = [
    (fix_patch_machine, "machine_config.rs MachineConfigUpdate: every field is an Option"),
    (fix_delete, "parsed_request.rs: DELETE of drives, pmem and network-interfaces (device hot-unplug)"),
    (fix_numbers, "the Rust types of vmm_config; machine_config.rs InvalidMemorySize; memory_hotplug.rs"),
    (fix_texts, "net.rs guest_mac is a MacAddr; logging.rs LevelFilter::from_str takes any case, and Warn"),
    (fix_required, "memory_hotplug.rs: no Option; parsed_request.rs: 'Empty PUT request.', 'Empty PATCH request.'"),
]
BEFORE_START = {("PUT", p) for p in ("/boot-source", "/cpu-config", "/logger", "/metrics", "/mmds/config", "/entropy", "/serial", "/hotplug/memory",
                                     "/vsock", "/balloon", "/machine-config", "/snapshot/load")} | {("PATCH", "/machine-config")}
AFTER_START = {("GET", "/balloon/statistics"), ("GET", "/balloon/hinting/status"), ("GET", "/hotplug/memory"), ("PUT", "/snapshot/create")} | {
    (m, p) for m in ("PATCH", "DELETE") for p in ("/balloon", "/balloon/statistics", "/balloon/hinting/start", "/balloon/hinting/stop",
                                                  "/drives/{drive_id}", "/pmem/{id}", "/network-interfaces/{iface_id}", "/vm", "/hotplug/memory")}
NO_BOOT = {("PUT", "/logger"), ("PUT", "/metrics")}  # what may come before a snapshot is loaded


class Firecracker(Vmm):
    NAME, SERVER, PREFIX, BODY_LIMIT, BLOCKS, NOT_FOUND = "firecracker", "Firecracker API", "", 51200, True, 400
    DOC = None

    def __init__(self, folder, loop, instance="anonymous-instance", log=None, pci=False):
        if Firecracker.DOC is None:
            Firecracker.DOC = Document("firecracker-v1.16.1.yaml", CORRECTIONS)
        super().__init__(folder, loop)
        self.id, self.logfile, self.pci, self.state = instance, log, pci, "Not started"
        self.machine = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}
        self.boot, self.drives, self.nets, self.pmem = None, {}, {}, {}
        self.single = {}  # balloon, vsock, entropy, serial, memory-hotplug, mmds-config, logger, metrics
        self.mmds, self.touched, self.guest, self.vsock, self.wire, self.metrics, self.told = {}, False, None, None, None, None, {}
        self.fds, self.plugged, self.wanted = [], 0, 0
        self.exit = lambda code: None

    def note(self, text):
        """Its log: standard output until told otherwise, where the guest's console goes too."""
        line = "%s [%s:main] %s\n" % (datetime.datetime.now().strftime("%Y-%m-%dT%H:%M:%S.%f000"), self.id, text)
        if self.logfile is not None:
            os.write(self.logfile, line.encode())

    def error_body(self, p):
        return {"fault_message": p.text}

    def unknown(self, r):
        return "Invalid request method and/or path: %s %s." % (r.method, r.path.strip("/").split("/")[0])

    def bad_json(self, text):
        return "An error occurred when deserializing the json body of a request: %s." % text

    # ---- requests ----

    def act(self, r, template, params, value):
        if r.fds:
            raise Problem(400, "descriptors mean nothing here")
        for key, ident in params.items():
            if not re.fullmatch(r"\w+", ident):
                raise Problem(400, "The ID cannot be empty." if not ident else
                              "API Resource IDs can only contain alphanumeric characters and underscores.")
            if value is not None and value.get(key) != ident:
                raise Problem(400, "The id from the path does not match the id from the body!")
        started = self.state != "Not started"
        key = (r.method, template)
        if started and key in BEFORE_START:
            raise Problem(400, POST)
        if not started and key in AFTER_START:
            raise Problem(400, PRE)
        self.note('The API server received a %s request on "%s".' % (r.method.capitalize(), r.path))
        name = "%s_%s" % (r.method.lower(), re.sub(r"[/-]", "_", re.sub(r"/\{.*", "", template)).strip("_"))
        if not started and r.method == "PUT" and key not in NO_BOOT and template not in ("/snapshot/load", "/actions"):
            self.touched = True
        return getattr(self, name)(value, *params.values())

    def get_(self, _v):
        return {"app_name": "Firecracker", "id": self.id, "state": self.state, "vmm_version": VERSION}

    def get_version(self, _v):
        return {"firecracker_version": VERSION}

    def get_machine_config(self, _v):
        return self.machine

    def put_machine_config(self, v):
        base = {"smt": False, "track_dirty_pages": False, "huge_pages": "None"}
        self.set_machine({**base, **v})

    def patch_machine_config(self, v):
        if not v:
            raise Problem(400, "Empty PATCH request.")
        self.set_machine({**self.machine, **v})

    def set_machine(self, m):
        if m["smt"] and m["vcpu_count"] != 1 and m["vcpu_count"] % 2:
            raise Problem(400, "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
                               "number if SMT is enabled.")
        if m["huge_pages"] == "2M" and m["mem_size_mib"] % 2:
            raise Problem(400, "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.")
        if self.single.get("balloon", {}).get("amount_mib", 0) > m["mem_size_mib"]:
            raise Problem(400, "Machine config error: The memory size (MiB) is smaller than the previously set balloon device target size.")
        self.machine = m

    def opened(self, path, write, what):
        try:
            fd = g.open_file(path, write)
        except OSError as e:
            raise Refused(400, "%s: %s (os error %d)" % (what, e.strerror, e.errno)) from e
        self.fds.append(fd)
        return fd

    def put_boot_source(self, v):
        fd = self.opened(v["kernel_image_path"], False, "Boot source error: The kernel file cannot be opened")
        if "initrd_path" in v:
            self.opened(v["initrd_path"], False, "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions.")
        if len(v.get("boot_args", "")) > 2048:
            raise Problem(400, "Boot source error: The kernel command line is invalid: too large")
        self.boot, self.kernel_fd = v, fd

    def put_drives(self, v, ident):
        self.hotplug_allowed(self.drives, ident)
        if "socket" in v:
            if "path_on_host" in v or "is_read_only" in v or "io_engine" in v or "rate_limiter" in v:
                raise Problem(400, "Drive config error: a vhost-user drive with the fields of a virtio one")
            raise Refused(400, "Drive config error: Unable to create the vhost-user block device: no backend is served here")
        if "path_on_host" not in v:
            raise Problem(400, "Drive config error: path_on_host is missing")
        if v["is_root_device"] and any(d["is_root_device"] for k, d in self.drives.items() if k != ident):
            raise Problem(400, "Drive config error: A root block device already exists!")
        what = "Drive config error: Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file"
        fd = self.opened(v["path_on_host"], not v.get("is_read_only", False), what)
        try:
            g.disk_size(fd)
        except OSError as e:
            raise Refused(400, "%s: %s" % (what, e)) from e
        if g.qcow2_head(fd) is not None:
            raise Problem(400, "a qcow2 image: a drive is raw, the guest would see the head of the format")
        self.drives[ident] = self.DOC.with_defaults({"is_read_only": False, **v}, self.DOC.schema("Drive"))

    def hotplug_allowed(self, table, ident):
        """Before the start a PUT replaces; afterwards it plugs, which needs PCI."""
        if self.state == "Not started":
            return
        if not self.pci:
            raise Problem(400, "PCI is not enabled")
        if ident in table:
            raise Problem(400, "Device ID in use")

    def patch_drives(self, v, ident):
        if ident not in self.drives:
            raise Problem(400, "Drive config error: Unable to patch the block device: device not found. Please verify the request arguments.")
        if "path_on_host" in v:
            self.opened(v["path_on_host"], not self.drives[ident]["is_read_only"], "Drive config error: Unable to patch the block device")
        self.drives[ident].update({k: x for k, x in v.items() if k != "drive_id"})

    def unplug(self, table, ident):
        if not self.pci:
            raise Problem(400, "PCI is not enabled")
        if ident not in table:
            raise Problem(400, "Device not found")
        if table[ident].get("is_root_device") or table[ident].get("root_device"):
            raise Problem(400, "Cannot unplug root device")
        del table[ident]

    def delete_drives(self, _v, ident):
        self.unplug(self.drives, ident)

    def delete_pmem(self, _v, ident):
        self.unplug(self.pmem, ident)

    def delete_network_interfaces(self, _v, ident):
        self.unplug(self.nets, ident)

    def put_network_interfaces(self, v, ident):
        self.hotplug_allowed(self.nets, ident)
        mac = v.get("guest_mac", "").lower()
        if mac and any(n.get("guest_mac", "").lower() == mac for k, n in self.nets.items() if k != ident):
            raise Problem(400, "Network config error: The MAC address is already in use: %s" % mac)
        self.attach(v["host_dev_name"])
        self.nets[ident] = v

    def attach(self, name):
        if os.environ.get("VIREO_CONTRACT_NO_TAPS"):
            return
        try:
            self.fds.append(g.open_tap(name, g.IFF_TAP | g.IFF_NO_PI | g.IFF_VNET_HDR))
        except OSError as e:
            raise Refused(400, "Network config error: Cannot open/create the tap device: Open tap device failed: Error while creating ifreq "
                          "structure: %s (os error %d). Invalid TUN/TAP Backend provided by %s. Check our documentation on setting up the "
                          "network devices." % (e.strerror, e.errno, name)) from e

    def patch_network_interfaces(self, v, ident):
        if ident not in self.nets:
            raise Problem(400, "Network config error: Unable to update the net device: not found")
        self.nets[ident].update(v)

    def put_pmem(self, v, ident):
        self.hotplug_allowed(self.pmem, ident)
        self.opened(v["path_on_host"], not v.get("read_only", False), "Pmem config error: Error backing file")
        self.pmem[ident] = v

    def patch_pmem(self, v, ident):
        if ident not in self.pmem:
            raise Problem(400, "Device not found")
        self.pmem[ident].update(v)

    def put_vsock(self, v):
        if self.vsock:
            self.vsock.close()
            self.vsock = None
        try:
            self.vsock = g.Vsock(self.loop, v["uds_path"], lambda: self.guest or NOBODY)
        except OSError as e:
            raise Refused(400, "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: %s (os error %d)"
                          % (e.strerror, e.errno)) from e
        self.single["vsock"] = v

    def put_balloon(self, v):
        if v["amount_mib"] > self.machine["mem_size_mib"]:
            raise Problem(400, "Balloon config error: Amount of pages requested is too large.")
        self.single["balloon"] = {"stats_polling_interval_s": 0, "free_page_hinting": False, "free_page_reporting": False, **v}

    def balloon(self):
        if "balloon" not in self.single:
            raise Problem(400, "Balloon config error: No balloon device found.")
        return self.single["balloon"]

    def get_balloon(self, _v):
        return self.balloon()

    def patch_balloon(self, v):
        if v["amount_mib"] > self.machine["mem_size_mib"]:
            raise Problem(400, "Balloon update error: Amount of pages requested is too large.")
        self.balloon()["amount_mib"] = v["amount_mib"]

    def get_balloon_statistics(self, _v):
        b = self.balloon()
        if not b["stats_polling_interval_s"]:
            raise Problem(400, "Internal VMM error: Balloon statistics are not enabled")
        pages = b["amount_mib"] * 256
        total = self.machine["mem_size_mib"] << 20
        return {"target_pages": pages, "actual_pages": pages, "target_mib": b["amount_mib"], "actual_mib": b["amount_mib"],
                "free_memory": total // 2, "total_memory": total, "available_memory": total // 2 + total // 8, "disk_caches": 1 << 20}

    def patch_balloon_statistics(self, v):
        b = self.balloon()
        if bool(b["stats_polling_interval_s"]) != bool(v["stats_polling_interval_s"]):
            raise Problem(400, "Balloon update error: Cannot enable/disable the statistics after boot.")
        b["stats_polling_interval_s"] = v["stats_polling_interval_s"]

    def hinting(self):
        if not self.balloon()["free_page_hinting"]:
            raise Problem(400, "Balloon update error: free page hinting is not enabled")

    def patch_balloon_hinting_start(self, _v):
        self.hinting()

    def patch_balloon_hinting_stop(self, _v):
        self.hinting()

    def get_balloon_hinting_status(self, _v):
        self.hinting()
        return {"host_cmd": 0, "guest_cmd": 0}

    def put_logger(self, v):
        if "log_path" in v:
            self.logfile = self.to_write(v["log_path"], "Logger error: Failed to open target file")
        self.single["logger"] = v

    def put_metrics(self, v):
        if self.metrics is not None:
            raise Problem(400, "Metrics error: Cannot initialize metrics: already initialized")
        self.metrics = self.to_write(v["metrics_path"], "Metrics error: Cannot initialize metrics")
        self.single["metrics"] = v
        self.loop.later(60, self.flush)

    def to_write(self, path, what):
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise Refused(400, "%s: %s (os error %d)" % (what, e.strerror, e.errno)) from e

    def put_serial(self, v):
        self.single["serial"] = v

    def put_entropy(self, v):
        self.single["entropy"] = v

    def put_cpu_config(self, v):
        self.single["cpu-config"] = v

    def put_mmds(self, v):
        self.mmds = v

    def patch_mmds(self, v):
        self.mmds.update(v)

    def get_mmds(self, _v):
        return self.mmds

    def put_mmds_config(self, v):
        for n in v["network_interfaces"]:
            if n not in self.nets:
                raise Problem(400, "MMDS config error: %s is no interface" % n)
        self.single["mmds-config"] = v

    def put_hotplug_memory(self, v):
        v = self.DOC.with_defaults(v, self.DOC.schema("MemoryHotplugConfig"))
        for text, bad in (("Block size must be a power of 2", v["block_size_mib"] & (v["block_size_mib"] - 1)),
                          ("Slot size must be a multiple of block size", v["slot_size_mib"] % v["block_size_mib"]),
                          ("Total size must not be lower than slot size", v["total_size_mib"] < v["slot_size_mib"]),
                          ("Total size must be a multiple of slot size", v["total_size_mib"] % v["slot_size_mib"])):
            if bad:
                raise Problem(400, "Memory hotplug config error: " + text)
        self.single["memory-hotplug"] = v

    def hotplug(self):
        if "memory-hotplug" not in self.single:
            raise Problem(400, "Memory hotplug update error: no hotpluggable memory")
        return self.single["memory-hotplug"]

    def patch_hotplug_memory(self, v):
        h = self.hotplug()
        if v["requested_size_mib"] > h["total_size_mib"] or v["requested_size_mib"] % h["block_size_mib"]:
            raise Problem(400, "Memory hotplug update error: requested size")
        self.wanted = v["requested_size_mib"]
        self.loop.later(0.05, self.plug)

    def plug(self):
        if self.guest and self.guest.running:
            self.plugged = self.wanted

    def get_hotplug_memory(self, _v):
        return {**self.hotplug(), "plugged_size_mib": self.plugged, "requested_size_mib": self.wanted}

    def get_vm_config(self, _v):
        out = {"machine-config": self.machine, "drives": list(self.drives.values()), "network-interfaces": list(self.nets.values()),
               "pmem": list(self.pmem.values())}
        if self.boot:
            out["boot-source"] = self.boot
        out.update({k: v for k, v in self.single.items() if k not in ("serial",)})
        return out

    def put_actions(self, v):
        action, started = v["action_type"], self.state != "Not started"
        if action == "InstanceStart":
            if started:
                raise Problem(400, POST)
            self.start()
        elif not started:
            raise Problem(400, PRE)
        elif action == "FlushMetrics":
            self.flush(False)
        else:
            self.loop.later(0.01, lambda: self.guest and self.guest.power_button())

    def start(self):
        if not self.boot:
            raise Problem(400, "Start microvm error: Cannot start microvm without kernel configuration.")
        if not g.is_elf(self.kernel_fd):
            raise Problem(400, "Start microvm error: Cannot load kernel due to invalid memory configuration or invalid kernel image: "
                               "Invalid ELF magic number")
        self.run_guest()
        self.state = "Running"
        self.book.config(self.get_vm_config(None))

    def patch_vm(self, v):
        # pause_vm() and resume_vm() do nothing to a machine that is so already
        self.guest.running = v["state"] == "Resumed"
        self.state = "Running" if self.guest.running else "Paused"

    # ---- snapshots ----

    def put_snapshot_create(self, v):
        if self.state != "Paused":
            raise Problem(400, "Create snapshot error: Cannot save the microVM state: the microVM is not paused")
        if v["snapshot_path"] == v["mem_file_path"]:
            raise Problem(400, "one file for two things")
        if v.get("snapshot_type") == "Diff" and not self.machine["track_dirty_pages"]:
            raise Problem(400, "Create snapshot error: Cannot get dirty bitmap")
        try:
            with open(v["mem_file_path"], "wb") as f:
                f.truncate(self.machine["mem_size_mib"] << 20)
            with open(v["snapshot_path"], "w", encoding="utf-8") as f:
                json.dump({"magic": "vireo contract", "config": self.get_vm_config(None), "guest": self.guest.count,
                           "boot_args": (self.boot or {}).get("boot_args", "")}, f)
        except OSError as e:
            raise Refused(400, "Create snapshot error: Cannot perform open on the snapshot backing file: %s" % e.strerror) from e

    def put_snapshot_load(self, v):
        if self.touched:
            raise Problem(400, "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.")
        if ("mem_backend" in v) == ("mem_file_path" in v):
            raise Problem(400, "Load snapshot error: Exactly one of mem_backend and mem_file_path")
        if "enable_diff_snapshots" in v or "mem_file_path" in v:
            raise Problem(400, "a deprecated field")
        try:
            self.load(v)
        except (Problem, Refused, OSError, ValueError, KeyError) as e:
            self.after.append(lambda: self.exit(1))  # the process is too dirty to go on
            if isinstance(e, Problem):
                raise
            raise Refused(400, "Load snapshot error: Failed to restore from snapshot: %s" % getattr(e, "text", e)) from e

    def load(self, v):
        with open(v["snapshot_path"], encoding="utf-8") as f:
            saved = json.load(f)
        config = saved["config"]
        if v["mem_backend"]["backend_type"] == "Uffd":
            raise Refused(400, "no user fault handler is served here")
        fd = self.opened(v["mem_backend"]["backend_path"], False, "memory")
        if os.fstat(fd).st_size != config["machine-config"]["mem_size_mib"] << 20:
            raise Refused(400, "the memory file has another size")
        self.machine = {**config["machine-config"], "smt": False}
        for d in config["drives"]:
            self.opened(d["path_on_host"], not d["is_read_only"], "drive %s" % d["drive_id"])
            self.drives[d["drive_id"]] = d
        names = {o["iface_id"]: o["host_dev_name"] for o in v.get("network_overrides", [])}
        for n in config["network-interfaces"]:
            n["host_dev_name"] = names.pop(n["iface_id"], n["host_dev_name"])
            self.attach(n["host_dev_name"])
            self.nets[n["iface_id"]] = n
        if names:
            raise Problem(400, "network_overrides: no interface %s" % ", ".join(names))
        if "vsock_override" in v and "vsock" not in config:
            raise Problem(400, "vsock_override: there is no vsock")
        if "vsock" in config:
            self.put_vsock({**config["vsock"], **v.get("vsock_override", {})})
        for k in ("balloon", "entropy", "memory-hotplug", "mmds-config"):
            if k in config:
                self.single[k] = config[k]
        self.run_guest(saved["guest"], saved["boot_args"])
        self.guest.running, self.state = bool(v.get("resume_vm")), "Running" if v.get("resume_vm") else "Paused"

    # ---- the machine ----

    def run_guest(self, count=None, args=None):
        self.wire = g.Wire(self.loop, lambda data: self.guest and self.guest.type(data))
        path = self.single.get("serial", {}).get("serial_out_path")
        if path:  # device_manager: then nothing is read from standard input
            self.wire.to_file(self.to_write(path, "Start microvm error: serial"))
        else:
            self.wire.from_stdin()
        args = (self.boot or {}).get("boot_args", "") if args is None else args
        out = self.wire.out if "console=ttyS0" in args else lambda data: None
        self.guest = g.Guest(self.loop, self, out, count or 0, quiet=count is not None)
        self.note("The microVM runs.")

    def guest_off(self):
        self.guest.end()
        self.note("Vmm is stopping.")
        self.note("Firecracker exiting successfully. exit_code=0")
        self.exit(0)

    guest_reset = guest_off  # "process exits when the guest resets": it has no reset of its own

    def guest_panicked(self):
        """Linux halts, unless its command line says panic=N: then it resets, which ends the process."""
        if re.search(r"\bpanic=-?[1-9]", (self.boot or {}).get("boot_args", "")):
            self.guest_off()
        else:
            self.guest.running = False

    # ---- metrics: each line tells what was added since the line before ----

    def flush(self, again=True):
        if self.metrics is None:
            return
        n = self.guest.count + self.guest.moved if self.guest else 0
        now = {}
        for d in self.drives:
            now["block_" + d] = {"read_bytes": n * 512, "write_bytes": n * 256, "read_count": n, "write_count": n, "flush_count": n // 4,
                                 "queue_event_count": n, "update_count": 0}
        for d in self.nets:
            now["net_" + d] = {"rx_bytes_count": n * 64, "rx_packets_count": n, "tx_bytes_count": n * 32, "tx_packets_count": n}
        line = {"utc_timestamp_ms": int(time.time() * 1000), "api_server": {"process_startup_time_us": 0}}
        for name, values in now.items():
            line[name] = {k: v - self.told.get((name, k), 0) for k, v in values.items()}
            self.told.update({(name, k): v for k, v in values.items()})
        for kind in ("block", "net"):
            total = {}
            for name, values in line.items():
                if name.startswith(kind + "_"):
                    for k, v in values.items():
                        total[k] = total.get(k, 0) + v
            line[kind] = total
        try:
            os.write(self.metrics, json.dumps(line).encode() + b"\n")
        except OSError as e:
            self.book.log("metrics: %s" % e)
        if again:
            self.loop.later(60, self.flush)


class Nobody:
    alive = False
    owner = None


NOBODY = Nobody()


def complain(text, code, debug=None):
    """Its log line on standard output, Rust's debug form of the error on standard error, as main.rs has it."""
    sys.stdout.write("%s [anonymous-instance:main] %s\n" % (datetime.datetime.now().strftime("%Y-%m-%dT%H:%M:%S.%f000"), text))
    sys.stderr.write("Error: %s\n" % (debug or text))
    sys.exit(code)


def parse(argv):
    out, i = {}, 0
    tail = "\n\nFor more information try --help."
    while i < len(argv):
        word = argv[i]
        i += 1
        name = word[2:] if word.startswith("--") else ""
        if name not in OPTIONS:
            complain("Arguments parsing error: Found argument '%s' which wasn't expected, or isn't valid in this context.%s" % (word, tail), 153,
                     'ParseArguments(UnexpectedArgument("%s"))' % word)
        if name in out:
            complain("Arguments parsing error: The argument '%s' was provided more than once.%s" % (name, tail), 153,
                     'ParseArguments(DuplicateArgument("%s"))' % name)
        if OPTIONS[name]:
            if i == len(argv) or argv[i].startswith("--"):
                complain("Arguments parsing error: The argument '%s' requires a value, but none was supplied.%s" % (name, tail), 153,
                         'ParseArguments(MissingValue("%s"))' % name)
            out[name] = argv[i]
            i += 1
        else:
            out[name] = True
    if "no-seccomp" in out and "seccomp-filter" in out:
        complain("Arguments parsing error: Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.%s" % tail, 153)
    if "no-api" in out and "config-file" not in out:
        complain("Arguments parsing error: Argument 'config-file' required, but not found.%s" % tail, 153)
    return out


def main(argv, folder):
    options = parse(argv)
    if options.get("version"):
        print("Firecracker v%s\n" % VERSION)
        return 0
    if options.get("snapshot-version"):
        print("v9.0.0")
        return 0
    loop = Loop()
    ident = options.get("id", "anonymous-instance")
    vmm = Firecracker(folder, loop, ident, 1, "enable-pci" in options)
    code = [0]

    def leave(n):
        code[0], loop.over = n, True
    vmm.exit = leave
    if not re.fullmatch("[A-Za-z0-9-]{1,64}", ident):
        vmm.book.violation("command line", "--id %s" % ident)
        return 134  # it panics
    for name in ("config-file", "no-api", "metadata", "no-seccomp"):
        if name in options:
            vmm.book.violation("command line", "--%s: the machine is made through the API here, and confined" % name)
    if "level" in options and options["level"].lower() not in ("error", "warn", "warning", "info", "debug", "trace", "off"):
        vmm.book.violation("command line", "--level %s" % options["level"])
        complain("Invalid value for logger level: %s.Possible values: [Error, Warning, Info, Debug]" % options["level"], 152)
    fault = vmm.faults.find("", "start") or {}
    if fault.get("do") == "exit":
        sys.stderr.write(fault.get("text", ""))
        return fault.get("code", 1)
    if "log-path" in options:
        vmm.logfile = vmm.to_write(options["log-path"], "log")
    if "metrics-path" in options:
        vmm.put_metrics({"metrics_path": options["metrics-path"]})
    if fault.get("do") == "no-socket":
        time.sleep(600)
    if fault.get("do") == "late-socket":
        time.sleep(fault["seconds"])
    vmm.note("Running Firecracker v%s" % VERSION)
    path = options.get("api-sock", "/run/firecracker.socket")
    try:
        listener = g.listen(path)
    except OSError:
        vmm.book.violation("command line", "--api-sock %s cannot be bound" % path)
        complain("RunWithApiError error: Failed to open the API socket at: %s. Check that it is not already used." % path, 1)
    vmm.note("Listening on API socket (%s)." % path)
    Api(vmm, loop, listener)
    vmm.note("API server started.")
    loop.run()
    os.unlink(path)
    return code[0]
