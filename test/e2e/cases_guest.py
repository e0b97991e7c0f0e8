"""Real Linux guests: boot paths, cloud-init, disks, network, consoles, and what the guest does by itself.

The first test starts what boots slowly; those after it find it booting. Guest "one" is used, changed and rebooted by several tests in
the order of this file."""
import contextlib
import os
import re
import shutil
import tempfile
import threading
import time

from cases import TIME, Images, collector, linux_vm
from harness import ROOT, Background, Console, Failure, Skip, Terminal, check, free_port, run, until

case, CASES = collector()

PULL = "the node's containerd fetches images on a cluster, and knows registries and passwords"
USER_DATA = """#cloud-config
hostname: first-guest
runcmd:
  - echo "it ran as $(id -un)" > /run/greeting
  - while true; do { printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; hostname; } | nc -l -p 8080; done &
  - while true; do nc -l -p 8081 -e /bin/cat; done &
"""


def one(t):
    """The guest that most tests look at, made on first use."""
    if "one" not in t.marks:
        vm = linux_vm("one", user_data=USER_DATA, ports=(22, 8080, 8081), volumes=[
            ("keep", {"persistentVolumeClaim": {"claimName": "keep"}}), ("scratch", {"emptyDisk": {"capacity": "24Mi"}})])
        vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 60
        t.server.apply(*t.server.claim("keep", 32), vm)
        t.marks["one"] = True
        t.server.wait_phase("one")
    return "one"


@contextlib.contextmanager
def shell(t, name, seconds=90):
    """A logged-in console; whatever the test before left on it is no matter."""
    with t.server.console(name) as c:
        yield c.login(seconds)


def disk(console, serial):
    out = console.run("for d in /sys/block/*; do [ \"$(cat $d/serial 2>/dev/null)\" = %s ] && basename $d; done; true" % serial)
    check(re.match(r"^[sv]d[a-z]$", out), "no disk with serial " + serial, console.run("grep . /sys/block/*/serial /proc/partitions; true"))
    return "/dev/" + out


@case
def a_kernelBoot_guest_reaches_its_login_prompt_on_the_console(t):
    one(t)
    # The next ones boot while this one is looked at.
    t.server.apply(linux_disk_vm("layout", Images.tiny))
    with t.server.console("one") as c:
        c.expect(r"first-guest login: $", 90, nudge=b"\r")
        c.send("root\r")
        c.expect("# $", 20)


def linux_disk_vm(name, image, strategy="Always"):
    vm = linux_vm(name, strategy=strategy)
    spec = vm["spec"]["template"]["spec"]
    del spec["domain"]["firmware"]
    spec["domain"]["devices"]["disks"] = [{"name": "root", "disk": {"bus": "virtio"}}]
    spec["volumes"] = [{"name": "root", "containerDisk": {"image": image}}]
    return vm


@case
def cloud_init_sets_the_host_name_and_runs_its_commands(t):
    one(t)
    with shell(t, "one") as c:
        check(c.run("hostname") == "first-guest", "host name", c.run("hostname"))
        out = c.run("cat /run/greeting")
        check(out == "it ran as root", "runcmd did not run", out)


@case
def a_containerDisk_boots_from_a_local_OCI_layout(t):
    if t.server.get("vm", "layout") is None:
        t.server.apply(linux_disk_vm("layout", Images.tiny))
    t.server.wait_phase("layout")
    with shell(t, "layout") as c:
        check("vfat" in c.run("mkdir -p /mnt && mount -t vfat /dev/vda /mnt && mount | grep /mnt && touch /mnt/x"),
              "the container disk is not there")
    t.server.delete("vm", "layout")


@case(machine=PULL)
def a_containerDisk_comes_from_an_archive_and_from_a_registry_on_localhost(t):
    s = t.server
    s.apply(linux_disk_vm("archive", "oci-archive:tiny.tar"))
    for tool in ("docker-registry", "skopeo"):
        if not shutil.which(tool):
            raise Skip(tool + " is not installed")
    with registry(t) as address:
        s.apply(linux_disk_vm("pulled", address + "/tiny:latest"))
        s.wait_phase("pulled")
    s.wait_phase("archive")
    for name in ("archive", "pulled"):
        with s.console(name) as c:
            c.expect(r"login: $", 90, nudge=b"\r")
        s.delete("vm", name)


@case(machine=PULL)
def a_registry_that_wants_a_password_gets_that_of_the_imagePullSecret(t):
    s = t.server
    for tool in ("docker-registry", "skopeo"):
        if not shutil.which(tool):
            raise Skip(tool + " is not installed")
    with registry(t, password=True) as address:
        vm = linux_disk_vm("private", address + "/tiny:latest")
        vm["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["imagePullSecret"] = "of-registry"
        s.apply(vm)
        until(60, "what is missing is named",
              lambda: any("imagePullSecret" in e["message"] for e in s.events("private") if e["type"] == "Warning"),
              explain=lambda: s.describe("vmi", "private"))
        s.kubectl("create", "secret", "docker-registry", "of-registry", "--docker-server=" + address, "--docker-username=pull",
                  "--docker-password=s3cret")
        s.wait_phase("private")
        # What one tenant's password brought does not serve others.
        s.apply(linux_disk_vm("rider", address + "/tiny:latest"))
        until(60, "who has no password gets no image",
              lambda: any("wants credentials" in e["message"] for e in s.events("rider") if e["type"] == "Warning"),
              explain=lambda: s.describe("vmi", "rider"))
    s.delete("vm", "rider")
    s.delete("vm", "private")


@contextlib.contextmanager
def registry(t, password=False):
    port, folder = free_port(), tempfile.mkdtemp(prefix="vireo-e2e-registry-")
    config = os.path.join(folder, "config.yml")
    with open(config, "w", encoding="utf-8") as f:
        f.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: 127.0.0.1:%d}\n" % (folder, port))
        if password:
            f.write("auth: {htpasswd: {realm: private, path: %s/htpasswd}}\n" % folder)
    with open(folder + "/htpasswd", "w", encoding="utf-8") as f:
        f.write("pull:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n") # s3cret, by bcrypt
    with Background(["docker-registry", "serve", config]) as r:
        try:
            until(60, "the registry answers", lambda: run(["curl", "-s", "http://127.0.0.1:%d/v2/" % port]).returncode == 0)
            p = run(["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", *(["--dest-creds=pull:s3cret"] if password else []), "oci:%s/tiny:latest" % t.config.guest,
                     "docker://127.0.0.1:%d/tiny:latest" % port], timeout=120)
            check(p.returncode == 0, "skopeo copy", p.text, r.text[-500:])
            yield "localhost:%d" % port
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@case
def an_emptyDisk_has_its_size_and_takes_writes(t):
    one(t)
    with shell(t, "one") as c:
        d = disk(c, "scratch")
        check(c.run("blockdev --getsize64 " + d) == str(24 << 20), "size", c.run("blockdev --getsize64 " + d))
        c.run("mke2fs %s >/dev/null 2>&1 && mkdir -p /scratch && mount %s /scratch && echo gone-soon >/scratch/f && sync" % (d, d))


def keep(c):
    """The file that lasts, on the claim's disk."""
    d = disk(c, "keep")
    c.run("mke2fs %s >/dev/null 2>&1 && mkdir -p /keep && mount %s /keep && echo for-ever >/keep/f && sync && umount /keep" % (d, d))


@case
def a_file_on_a_claims_disk_is_written(t):
    one(t)
    s = t.server
    claim = s.get("pvc", "keep")
    check(claim["status"]["phase"] == "Bound", "the claim is not Bound", s.describe("pvc", "keep"))
    with shell(t, "one") as c:
        keep(c)
    path = s.volume(claim)
    check(os.path.isdir(path) and os.listdir(path), "no directory of the host behind the claim: " + path)


@case
def the_guest_gets_its_address_by_DHCP_and_the_pods_is_reported(t):
    one(t)
    with shell(t, "one") as c:
        out = c.run("ip -4 addr show eth0; ip route; cat /etc/resolv.conf; true")
        check("10.0.2.2/24" in out, "no 10.0.2.2 by DHCP", out)
        check(re.search(r"default via 10\.0\.2\.1", out), "no default route", out)
        check("nameserver" in out or "nameserver" not in open("/etc/resolv.conf", encoding="utf-8").read(), "no resolver", out)
    ip = t.server.get("vmi", "one")["status"]["interfaces"][0]["ipAddress"]
    check(t.server.is_pod_address(ip), "the instance's address is not the pod's: " + ip)


@contextlib.contextmanager
def outside_world():
    """A network namespace beyond this host, with a web server that tells who asks: it knows no way back to pods."""
    name, mine, theirs = "e2e-out-%d" % os.getpid(), "e2eo%d" % (os.getpid() % 100000), "e2ep%d" % (os.getpid() % 100000)
    server = ("import http.server,sys\n"
              "class H(http.server.BaseHTTPRequestHandler):\n"
              "    def do_GET(self):\n"
              "        b=('you are '+self.client_address[0]).encode()\n"
              "        self.send_response(200); self.send_header('Content-Length',str(len(b))); self.end_headers(); self.wfile.write(b)\n"
              "    def log_message(self,*a): pass\n"
              "http.server.HTTPServer(('',8000),H).serve_forever()\n")
    known = run(["ip", "-4", "route", "show", "table", "all"]).out
    net = next((n for n in ("198.51.100", "203.0.113", "192.0.2") if n + "." not in known), None)
    if not net:
        raise Skip("all documentation ranges are in use on this host")
    p = run(["ip", "netns", "add", name])
    if p.returncode:
        raise Skip("no network namespace can be made: " + p.text.strip())
    try:
        for argv in (["ip", "link", "add", mine, "type", "veth", "peer", "name", theirs, "netns", name],
                     ["ip", "addr", "add", net + ".1/30", "dev", mine], ["ip", "link", "set", mine, "up"],
                     ["ip", "-n", name, "addr", "add", net + ".2/30", "dev", theirs], ["ip", "-n", name, "link", "set", theirs, "up"],
                     ["ip", "-n", name, "link", "set", "lo", "up"]):
            p = run(argv)
            if p.returncode:
                raise Skip("%s: %s" % (" ".join(argv), p.text.strip()))
        with Background(["ip", "netns", "exec", name, "python3", "-c", server]):
            until(60, "the server outside answers", lambda: run(["curl", "-sf", "-m", "2", "http://%s.2:8000/" % net]).returncode == 0)
            yield net + ".2:8000", net + ".1"
    finally:
        run(["ip", "link", "del", mine])
        run(["ip", "netns", "del", name])


@case(machine="the world outside hangs on one host, and a cluster's guest may run on another node")
def the_guest_reaches_a_server_beyond_the_host_through_masquerade(t):
    one(t)
    with outside_world() as (address, host), shell(t, "one") as c:
        out = c.run("timeout 10 wget -q -O - http://%s/" % address, 30)
        check(out == "you are " + host, "the outside sees another address", out)


@case
def a_port_of_the_pods_address_leads_into_the_guest_and_others_do_not(t):
    one(t)
    ip = t.server.get("vmi", "one")["status"]["interfaces"][0]["ipAddress"]
    until(60, "port 8080 answers", lambda: run(["curl", "-s", "-m", "3", "http://%s:8080/" % ip]).out.strip() == "first-guest", every=0.5)
    check(run(["curl", "-s", "-m", "2", "http://%s:9090/" % ip]).returncode != 0, "a port that is not listed answers")


@case
def virtctl_port_forward_carries_bytes_both_ways(t):
    import socket
    one(t)
    t.config.virtctl()
    port = free_port()
    with Background([t.config.virtctl(), "port-forward", "vm/one", "%d:8081" % port], t.server.env()) as forward:
        def connect():
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), 5)
        with until(60, "the forwarded port listens", connect, explain=lambda: forward.text) as c:
            c.settimeout(10)
            text = b"there and back " * 4000
            threading.Thread(target=c.sendall, args=(text,), daemon=True).start()
            got = b""
            while len(got) < len(text):
                more = c.recv(65536)
                check(more, "the connection ended after %d of %d bytes" % (len(got), len(text)), forward.text)
                got += more
            check(got == text, "other bytes came back")


@case
def virtctl_ssh_runs_a_command_in_the_guest(t):
    one(t)
    t.config.virtctl()
    if not shutil.which("ssh"):
        raise Skip("no ssh client")
    options = ["--local-ssh-opts=-o StrictHostKeyChecking=no", "--local-ssh-opts=-o UserKnownHostsFile=/dev/null",
               "--local-ssh-opts=-o BatchMode=no"]
    with shell(t, "one"):
        pass # it is up
    p = t.server.virtctl("ssh", "root@vm/one", *options, "--command", "hostname", timeout=60, ok=False)
    check(p.returncode == 0 and p.out.strip() == "first-guest", "virtctl ssh", p.text)


@case
def virtctl_console_is_a_terminal_that_Ctrl_closing_bracket_leaves(t):
    one(t)
    with Console(Terminal([t.config.virtctl(), "console", "one"], t.server.env())) as c:
        c.login()
        check(c.run("hostname") == "first-guest", "virtctl console")
        c.stream.write(b"\x1d")
        until(30, "virtctl console ends", lambda: c.stream.process.poll() is not None)
        check(c.stream.process.returncode == 0, "virtctl console ended with %d" % c.stream.process.returncode)


@case
def a_second_console_takes_over_from_the_first(t):
    one(t)
    with t.server.console("one") as first:
        first.login()
        with t.server.console("one") as second:
            until(60, "the first session ends", lambda: first.stream.read(0.2) is None, every=0)
            second.login()


@case
def the_consoles_text_is_in_the_launchers_log(t):
    one(t)
    pod = t.server.pod_of("one")["metadata"]["name"]
    out = t.server.kubectl("logs", pod).out
    check("Vireo tiny guest" in out, "the boot is not in the pod's log", out[-800:])


@case
def a_paused_guest_stands_still_and_goes_on(t):
    one(t)
    s = t.server
    with shell(t, "one") as c:
        before = float(c.run("cut -d' ' -f1 /proc/uptime"))
        begun = time.monotonic()
        s.subresource("vmi", "one", "pause")
        s.wait_status("one", "Paused")
        time.sleep(6)
        s.subresource("vmi", "one", "unpause")
        s.wait_status("one", "Running")
        after = float(c.run("cut -d' ' -f1 /proc/uptime", 60))
        passed = time.monotonic() - begun
        check(after - before < passed - 4, "%.1f s passed in the guest, %.1f s outside" % (after - before, passed))


@case
def a_reboot_from_inside_keeps_the_instance(t):
    one(t)
    uid = t.server.get("vmi", "one")["metadata"]["uid"]
    with shell(t, "one") as c:
        c.run("touch /run/before")
        c.send("reboot\r")
        c.expect(r"first-guest login: $", 120)
        c.login()
        check(float(c.run("cut -d' ' -f1 /proc/uptime")) < 60, "it did not reboot")
        c.run("[ ! -e /run/before ]")
    vmi = t.server.get("vmi", "one")
    check(vmi["metadata"]["uid"] == uid and vmi["status"]["phase"] == "Running", "another instance, or not Running")


@case
def stop_gives_the_guest_its_time_and_a_claims_file_is_there_after_start(t):
    one(t)
    s = t.server
    with shell(t, "one") as c: # it is up, and listens to its power button
        keep(c)
    uid = s.get("vmi", "one")["metadata"]["uid"]
    begun = time.monotonic()
    s.subresource("vm", "one", "stop")
    s.wait_status("one", "Stopped")
    took = time.monotonic() - begun
    check(took < 58, "the guest did not react to the power button: it took %.1f s" % took)
    s.subresource("vm", "one", "start")
    s.wait_phase("one", uid_not=uid)
    with shell(t, "one", 120) as c:
        d = disk(c, "keep")
        check(c.run("mkdir -p /keep && mount %s /keep && cat /keep/f && umount /keep" % d) == "for-ever", "the file is not there")
        check(c.run("mount -t ext2 %s /mnt 2>&1; true" % disk(c, "scratch")) != "", "the emptyDisk outlived its instance")


@case
def poweroff_from_inside_is_noticed_and_Always_starts_it_again(t):
    one(t)
    s = t.server
    uid = s.get("vmi", "one")["metadata"]["uid"]
    with shell(t, "one") as c:
        with contextlib.suppress(Failure):
            c.run("poweroff", 5)
    s.wait_phase("one", uid_not=uid, seconds=90)


@case
def runStrategy_Once_and_RerunOnFailure_stay_off_after_a_clean_poweroff(t):
    s = t.server
    off = "#!/bin/sh\necho bye >/dev/ttyS0\npoweroff\n"
    s.apply(linux_vm("once", strategy="Once", user_data=off), linux_vm("rerun", strategy="RerunOnFailure", user_data=off))
    s.wait_phase("once", "Succeeded", 90)
    s.wait_status("once", "Stopped")
    s.wait_status("rerun", "Stopped", 90)
    time.sleep(3)
    check(s.phase("once") == "Succeeded", "Once ran again")
    check(s.phase("rerun") in (None, "Succeeded"), "RerunOnFailure ran again after success")
    for name in ("once", "rerun"):
        s.delete("vm", name)


@case(machine=TIME)
def a_key_from_a_Secret_lets_ssh_in(t):
    s = t.server
    for tool in ("ssh-keygen", "ssh"):
        if not shutil.which(tool):
            raise Skip("no " + tool)
    key = os.path.join(t.config.home, "id_e2e")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    s.kubectl("create", "secret", "generic", "my-key", "--from-file=key=" + key + ".pub")
    vm = linux_vm("keyed", user_data="#cloud-config\nhostname: keyed\n", ports=(22,))
    vm["spec"]["template"]["spec"]["accessCredentials"] = [
        {"sshPublicKey": {"source": {"secret": {"secretName": "my-key"}}, "propagationMethod": {"noCloud": {}}}}]
    s.apply(vm)
    ip = s.wait_phase("keyed")["status"]["interfaces"][0]["ipAddress"]
    with shell(t, "keyed") as c:
        check("ssh-ed25519" in c.run("cat /root/.ssh/authorized_keys"), "the key is not in the guest")
        c.run("sed -i 's/^root::/root:*:/' /etc/shadow /etc/passwd; sed -i 's/^root:[^:]*:19/root:*:19/' /etc/shadow")

    def login():
        return run(["ssh", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                    "-o", "ConnectTimeout=5", "root@" + ip, "hostname"], timeout=40)
    p = until(40, "ssh with the key", lambda: (lambda p: p if p.returncode == 0 else None)(login()), every=1, explain=lambda: login().text)
    check(p.out.strip() == "keyed", "another host", p.out)
    s.delete("vm", "keyed")
    s.kubectl("delete", "secret", "my-key")


@case(machine=TIME)
def every_example_does_what_it_says(t):
    s, k = t.server, t.server.kubectl
    files = [ROOT + "/examples/" + n for n in ("demo.yaml", "container-disk.yaml", "pvc.yaml", "two-namespaces.yaml", "cloud-init-ssh.yaml", "once.yaml", "lightest.yaml")]
    k("create", "secret", "generic", "my-key", "--from-literal=key=ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample example")
    for path in files:
        k("apply", "-f", path)
    s.subresource("vm", "keeper", "start")
    for name, ns in (("demo", "default"), ("from-image", "default"), ("keeper", "default"), ("with-key", "default"), ("twin", "blue"), ("twin", "green"), ("lightest", "default")):
        s.wait_phase(name, ns=ns, seconds=90)
    s.wait_phase("job", "Succeeded", 120)
    out = k("logs", "-l", "vm.kubevirt.io/name=job", "--tail=-1").out
    check("six times seven is 42" in out, "the job's result is not in its pod's log", out[-600:])
    with s.console("demo") as c:
        c.login(120)
        check(c.run("hostname; cat /run/greeting") == "demo\nstarted by cloud-init", "demo's cloud-init")
    with s.console("with-key") as c:
        c.login(120)
        check("Example" in c.run("cat /root/.ssh/authorized_keys"), "the key is not in the guest")
    with s.console("keeper") as c:
        c.login(120)
        c.run("mke2fs /dev/vda >/dev/null 2>&1 && mount /dev/vda /mnt && date > /mnt/when && sync")
    for path in files:
        k("delete", "-f", path, "--wait", "--timeout=60s", timeout=90)
    k("delete", "secret", "my-key")
