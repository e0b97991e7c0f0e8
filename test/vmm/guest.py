"""What stands behind a contract server instead of a guest, and the host's things that a VMM has to open.

The guest speaks the same words on its serial console as test/vmm/guest.c does on a real VMM: it says "guest up", counts
while it runs, and obeys lines: `say TEXT`, `count`, `poweroff`, `reboot`, `panic`, `deaf` (from then on it ignores the power
button), `work` (moves data through its disks and interfaces)."""
import fcntl
import os
import socket
import stat
import struct

from contract import Refused

TICK = 0.02
TUNSETIFF, TUNGETIFF = 0x400454CA, 0x800454D2
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 2, 0x1000, 0x4000, 0x100


class Guest:
    """owner: the VMM; it has guest_off(), guest_reset(), guest_panicked()."""

    def __init__(self, loop, owner, out, count=0, quiet=False):
        self.loop, self.owner, self.out, self.count = loop, owner, out, count
        self.running, self.alive, self.deaf, self.line, self.pending = True, True, False, b"", b""
        self.moved = 0  # bytes through each device
        if not quiet:
            self.say("guest up")
        loop.later(TICK, self.tick)

    def end(self):
        self.alive = False

    def say(self, text):
        self.out(text.encode() + b"\r\n")

    def tick(self):
        if not self.alive:
            return
        if self.running:
            self.count += 1
            pending, self.pending = self.pending, b""
            self.hear(pending)
        if self.alive:
            self.loop.later(TICK, self.tick)

    def type(self, data):
        """From the host's end of the serial line. A guest that is stopped hears it later."""
        self.pending += data

    def hear(self, data):
        for b in data:
            if b not in b"\r\n":
                self.line += bytes([b])
                continue
            line, self.line = self.line.decode("utf-8", "replace"), b""
            if line:
                self.obey(line)
            if not self.alive or not self.running:
                return

    def obey(self, line):
        if line.startswith("say "):
            self.say("said " + line[4:])
        elif line == "count":
            self.say("count %d" % self.count)
        elif line == "deaf":
            self.deaf = True
            self.say("deaf")
        elif line == "work":
            self.moved += 4096
            self.say("worked")
        elif line == "poweroff":
            self.say("off")
            self.owner.guest_off()
        elif line == "reboot":
            self.say("again")
            self.owner.guest_reset()
        elif line == "panic":
            self.say("Kernel panic - not syncing: asked to")
            self.owner.guest_panicked()
        else:
            self.say("what? " + line)

    def power_button(self):
        if self.alive and self.running and not self.deaf:
            self.say("power button")
            self.owner.guest_off()


class Wire:
    """A serial line: bytes of the guest go to whoever is connected; what nobody reads yet is kept, up to 1 MiB."""

    def __init__(self, loop, typed):
        self.loop, self.typed, self.kept = loop, typed, b""
        self.to, self.listener, self.path, self.conn, self.file = None, None, None, None, None

    def out(self, data):
        if self.file is not None:
            os.write(self.file, data)
        elif self.conn is not None:
            try:
                self.conn.setblocking(True)
                self.conn.sendall(data)
            except OSError:
                self.hang_up()
        elif self.listener is not None:
            self.kept = (self.kept + data)[-(1 << 20):]

    def to_file(self, fd):
        self.file = fd

    def from_stdin(self):
        """A terminal: what comes on descriptor 0 is typed."""
        self.file = 1
        self.stdin = os.fdopen(os.dup(0), "rb", buffering=0)

        def typed():
            try:
                data = os.read(self.stdin.fileno(), 4096)
            except OSError:
                data = b""
            if data:
                self.typed(data)
            else:
                self.loop.forget(self.stdin)
        try:
            self.loop.watch(self.stdin, typed)
        except (PermissionError, OSError):  # a regular file or /dev/null as stdin has nothing to say
            pass

    def listen(self, path):
        self.listener, self.path = listen(path), path
        self.loop.watch(self.listener, self.accept)

    def accept(self):
        conn, _ = self.listener.accept()
        self.hang_up()  # the newest client has the line
        self.conn = conn
        self.loop.watch(conn, self.readable)
        kept, self.kept = self.kept, b""
        if kept:
            self.out(kept)

    def readable(self):
        try:
            data = self.conn.recv(4096)
        except OSError:
            data = b""
        if data:
            self.typed(data)
        else:
            self.hang_up()

    def hang_up(self):
        if self.conn is not None:
            self.loop.forget(self.conn)
            self.conn.close()
            self.conn = None

    def close(self):
        self.hang_up()
        if self.listener is not None:
            self.loop.forget(self.listener)
            self.listener.close()
            try:
                os.unlink(self.path)
            except OSError:
                pass
            self.listener = None


class Vsock:
    """The hybrid socket of both VMMs: the host says "CONNECT <port>\\n" and hears "OK <its port>\\n". In the guest port 1024
    gives back what it gets; nothing else listens, and such a connection is closed without a word."""
    PORT = 1024

    def __init__(self, loop, path, guest):
        self.loop, self.path, self.guest, self.next, self.conns = loop, path, guest, 1073741824, []
        self.listener = listen(path)
        loop.watch(self.listener, self.accept)

    def accept(self):
        conn, _ = self.listener.accept()
        state = {"line": b"", "open": False}
        self.conns.append(conn)
        self.loop.watch(conn, lambda: self.readable(conn, state))

    def readable(self, conn, state):
        try:
            data = conn.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.drop(conn)
            return
        if not state["open"]:
            state["line"] += data
            if b"\n" not in state["line"] and len(state["line"]) < 64:
                return
            line, _, data = state["line"].partition(b"\n")
            word, _, port = line.partition(b" ")
            if word.upper() != b"CONNECT" or not port.isdigit() or int(port) != self.PORT or not self.guest().alive:
                if word.upper() != b"CONNECT" or not port.isdigit():
                    self.guest().owner.book.violation("vsock", "%r is no request to connect" % line)
                self.drop(conn)
                return
            state["open"] = True
            self.next += 1
            conn.sendall(b"OK %d\n" % self.next)
        if data:
            conn.sendall(data)

    def drop(self, conn):
        self.loop.forget(conn)
        conn.close()
        if conn in self.conns:
            self.conns.remove(conn)

    def close(self):
        for c in list(self.conns):
            self.drop(c)
        self.loop.forget(self.listener)
        self.listener.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass


def listen(path):
    """Binds in a directory that is entered first: a path may be longer than a socket address holds. Never replaces a file."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    if len(path.encode()) < 108:
        s.bind(path)
    else:
        raise Refused(500, "path must be shorter than SUN_LEN", "path must be shorter than SUN_LEN")
    s.listen(16)
    return s


def open_file(path, write):
    """Opens what the VMM would open, as it would; the descriptor."""
    return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)


def disk_size(fd):
    st = os.fstat(fd)
    if stat.S_ISREG(st.st_mode):
        return st.st_size
    if stat.S_ISBLK(st.st_mode):
        return os.lseek(fd, 0, os.SEEK_END)
    raise OSError(22, "neither a regular file nor a block device")


def qcow2_head(fd):
    """None unless it is qcow2; else the name of the backing file, "" without."""
    head = os.pread(fd, 24, 0)
    if len(head) < 24 or head[:4] != b"QFI\xfb":
        return None
    offset, size = struct.unpack(">QI", head[8:20])
    return os.pread(fd, min(size, 1023), offset).decode("utf-8", "replace") if offset else ""


def is_elf(fd):
    return os.pread(fd, 4, 0) == b"\x7fELF"


def is_bzimage(fd):
    return os.pread(fd, 4, 0x202) == b"HdrS"


def tap_name(fd):
    """The interface behind a descriptor of /dev/net/tun; None when it is none."""
    try:
        r = fcntl.ioctl(fd, TUNGETIFF, b"\0" * 40)
    except OSError:
        return None
    if not struct.unpack_from("H", r, 16)[0] & IFF_TAP:
        return None
    return r[:16].rstrip(b"\0").decode()


def open_tap(name, flags):
    """Attaches to a tap by its name, as a VMM does; the descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError:
        os.close(fd)
        raise
    return fd
