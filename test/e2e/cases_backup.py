"""Backup and restore as an operator has them: live, stopped, to another machine, refused, and killed in the middle."""
import base64
import contextlib
import ctypes
import glob
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time

import harness
from cases import collector, null_vm
from harness import check, run, until

case, CASES = collector(machine="backup and restore are of the embedded store")


# ---- what the tests are made of ----

def vireo(s, verb, *args, data_dir=None, timeout=60):
    return run([os.path.join(s.config.build, "vireo"), verb, *args, "--data-dir", data_dir or s.dir], timeout=timeout)


def back_up(s, path, *args):
    p = vireo(s, "backup", path, *args)
    check(p.returncode == 0, "vireo backup", p.text, s.log_tail())
    check(os.stat(path).st_mode & 0o777 == 0o600, "the backup's mode is not 0600")
    return path


def restore(s, path, *args, data_dir=None):
    p = vireo(s, "restore", path, *args, data_dir=data_dir)
    check(p.returncode == 0, "vireo restore", p.text, s.process and s.log_tail())
    s._ssl = None
    return p


def put(s, name, value, **data):
    status, answer = s.request("PUT", "/api/v1/namespaces/default/configmaps/" + name,
                               {"metadata": {"name": name}, "data": {"at": value, **data}})
    if status == 404:
        status, answer = s.request("POST", "/api/v1/namespaces/default/configmaps",
                                   {"metadata": {"name": name}, "data": {"at": value, **data}})
    check(status in (200, 201), "writing configmap %s: %d" % (name, status), answer)
    return int(answer["metadata"]["resourceVersion"])


def fill(s, objects=60):
    """Some MiB that do not compress, so that reading and writing them takes a while."""
    for n in range(objects):
        put(s, "load-%d" % n, "x", text=base64.b64encode(os.urandom(50000)).decode())


def value(s, name):
    o = s.get("configmap", name)
    return o and o["data"]["at"]


def names(s):
    return {o["metadata"]["name"] for o in s.get("configmap")["items"]}


def fingerprint(folder):
    """Of everything that a refused restore must leave as it is; what a running server changes all the time is left out."""
    found = {}
    for top in ("control", "pki"):
        for path in sorted(glob.glob(os.path.join(folder, top, "*"))):
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = hashlib.sha256(f.read()).hexdigest()
    for pattern in ("restore*", "replaced-*"):
        found.update((os.path.relpath(path, folder), "there") for path in glob.glob(os.path.join(folder, pattern)))
    return found


def with_token(s, token, path):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = s.listen.split(":")
    c = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    try:
        c.request("GET", path, headers={"Authorization": "Bearer " + token})
        r = c.getresponse()
        return r.status, r.read().decode(errors="replace")
    finally:
        c.close()


def make_token(s):
    status, answer = s.request("POST", "/api/v1/namespaces/default/serviceaccounts/default/token",
                               {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}})
    check(status == 201, "no token: %d" % status, answer)
    return answer["status"]["token"]


def known(s, token):
    """Whether the token is somebody's here: what it may do is another question."""
    status, text = with_token(s, token, "/api/v1/namespaces/default/configmaps")
    return status == 403 and "system:serviceaccount:default:default" in text


class Watch:
    """What a client that lists and watches has: events as they come, and the end."""

    def __init__(self, s, revision):
        host, port = s.listen.split(":")
        self.c = http.client.HTTPSConnection(host, int(port), context=s._context(), timeout=20)
        self.c.request("GET", "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=%d" % revision)
        self.r = self.c.getresponse()

    def gone(self):
        """410, as a status or as the stream's first event."""
        if self.r.status == 410:
            return True
        line = self.r.readline() if self.r.status == 200 else b""
        return b'"ERROR"' in line and b"410" in line

    def ends(self):
        """Reads to the stream's end: a restore must not leave a watcher waiting for a past that is gone."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            while self.r.readline():
                pass
            return True
        return True

    def close(self):
        self.c.close()


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="vireo-e2e-backup-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---- archives, taken apart ----

def zstd(data, pack):
    lib = ctypes.CDLL("libzstd.so.1")
    for f in ("ZSTD_compress", "ZSTD_decompress", "ZSTD_compressBound", "ZSTD_isError"):
        getattr(lib, f).restype = ctypes.c_size_t
    room = lib.ZSTD_compressBound(ctypes.c_size_t(len(data))) if pack else 256 << 20
    to = ctypes.create_string_buffer(room)
    if pack:
        n = lib.ZSTD_compress(to, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data)), 3)
    else:
        n = lib.ZSTD_decompress(to, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data)))
    check(not lib.ZSTD_isError(ctypes.c_size_t(n)), "zstd")
    return to.raw[:n]


def unpacked(path):
    with open(path, "rb") as f, tarfile.open(fileobj=io.BytesIO(zstd(f.read(), False))) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]


def packed(members, path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
    # Exactly two blocks of zeros: Python pads to 20.
    data = out.getvalue().rstrip(b"\0")
    data += b"\0" * (-len(data) % 512) + b"\0" * 1024
    with open(path, "wb") as f:
        f.write(zstd(data, True))
    return path


def changed(members, path, database=None, **manifest):
    """The same backup with another manifest or another database, with sums that fit: only what is meant is wrong."""
    members = [list(m) for m in members]
    m = json.loads(members[0][1])
    m.update(manifest)
    if database:
        with tempfile.NamedTemporaryFile() as f:
            f.write(members[1][1])
            f.flush()
            with contextlib.closing(sqlite3.connect(f.name)) as c:
                c.executescript(database)
            with open(f.name, "rb") as again:
                members[1][1] = again.read()
        m["files"][0].update(size=len(members[1][1]), sha256=hashlib.sha256(members[1][1]).hexdigest())
    members[0][1] = json.dumps(m).encode()
    return packed(members, path)


def bad_backups(good, into):
    """(path, what the message has to say) of files that no restore may take."""
    with open(good, "rb") as f:
        data = f.read()

    def write(name, content):
        with open(os.path.join(into, name), "wb") as f:
            f.write(content)
        return os.path.join(into, name)
    for n in (0, 1, 100, len(data) // 2, len(data) - 1):
        yield write("truncated-%d" % n, data[:n]), "damaged|no backup|ends in the middle"
    # Not the few bits of zstd's head that no decoder looks at: all that is restored has sums of its own.
    for at in (2, 40, len(data) // 3, len(data) // 2, len(data) - 3):
        yield write("flipped-%d" % at, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]), "damaged|no backup"
    yield write("longer", data + b"x"), "damaged"
    yield write("foreign", b"#!/bin/sh\necho hello\n" * 100), "no backup"
    yield packed([("hello.txt", b"hello")], os.path.join(into, "tar")), "no backup"
    members = unpacked(good)
    manifest = json.loads(members[0][1])
    yield changed(members, os.path.join(into, "format"), formatVersion=99), "newer release"
    yield changed(members, os.path.join(into, "schema"), "pragma user_version=99", schema=99), "newer release"
    yield changed(members, os.path.join(into, "revision"), revision=manifest["revision"] + 7), "revision"
    yield changed(members, os.path.join(into, "database"), "pragma application_id=5"), "some other program"
    yield changed(members, os.path.join(into, "object"), "update object set rev=rev-1 where id=(select max(id) from object)"), "damaged"
    yield packed([*members, ("pki/../../evil", b"x")], os.path.join(into, "evil")), "damaged|more files"
    yield into, "not a regular file"
    yield os.path.join(into, "absent"), "No such file"


# ---- live ----

@case
def a_live_restore_is_the_backups_state_with_new_revisions_and_what_runs_goes_on(t):
    with folder() as d, t.own_server("backup") as s:
        s.start()
        s.apply(null_vm("kept"))
        kept = s.wait_phase("kept")
        qemu = s.qemu(s.pod_of("kept")["metadata"]["uid"])
        check(len(qemu) == 1, "%d QEMUs" % len(qemu))
        put(s, "witness", "backup")
        put(s, "removed-later", "backup")
        token = make_token(s)
        old_kubeconfig = os.path.join(d, "kubeconfig")
        shutil.copy(s.kubeconfig, old_kubeconfig)
        with writing(s) as seen:
            until(60, "writes go on", lambda: len(seen) > 5)
            file = back_up(s, os.path.join(d, "b.tar.zst"))
            done = len(seen)
            until(60, "writes go on after it", lambda: len(seen) > done + 5)
        # After the backup: another value, a new object, one gone, a VM more.
        put(s, "witness", "later")
        put(s, "new", "later")
        s.delete("configmap", "removed-later")
        s.apply(null_vm("extra"))
        s.wait_phase("extra")
        extra = s.qemu(s.pod_of("extra")["metadata"]["uid"])
        newest = int(s.get("configmap")["metadata"]["resourceVersion"])
        watch = Watch(s, newest)
        p = vireo(s, "backup", file)
        check(p.returncode != 0 and "exists" in p.text, "a second backup of that name is not refused", p.text)

        p = restore(s, file)
        check("the server is ready" in p.text, "vireo restore does not say that the server is ready", p.text)
        check(value(s, "witness") == "backup" and value(s, "removed-later") == "backup" and not s.get("configmap", "new"),
              "the state is not the backup's", names(s))
        check(watch.ends(), "the watch goes on")
        watch.close()
        now = int(s.get("configmap")["metadata"]["resourceVersion"])
        check(now > newest, "revision %d after the restore, %d before" % (now, newest))
        check(put(s, "witness", "restored") > newest, "a write's revision is one that was seen")
        watch = Watch(s, newest)
        check(watch.gone(), "a watch from before is not answered 410")
        watch.close()
        p = s.kubectl("get", "configmap", "witness", "-o", "jsonpath={.data.at}", env={"KUBECONFIG": old_kubeconfig})
        check(p.out == "restored", "the old kubeconfig", p.text)
        check(known(s, token), "the service account's token is nobody's", with_token(s, token, "/api"))
        # What runs and is in it goes on and is governed; what runs and is not in it is ended.
        check(s.qemu(s.pod_of("kept")["metadata"]["uid"]) == qemu, "another QEMU runs VM kept")
        check(s.get("vmi", "kept")["metadata"]["uid"] == kept["metadata"]["uid"], "another instance of VM kept")
        s.subresource("vmi", "kept", "pause")
        s.wait_status("kept", "Paused")
        until(60, "the VM that the backup does not know is ended", lambda: not any(harness.alive(q) for q in extra), explain=s.log_tail)
        check(s.get("vm", "extra") is None, "VM extra is there")
        aside = glob.glob(s.dir + "/replaced-*")
        check(len(aside) == 1 and os.path.exists(aside[0] + "/control/state.db"), "what was replaced is not kept", aside)
        check(not glob.glob(s.dir + "/restore*"), "staged files are left", glob.glob(s.dir + "/restore*"))


@contextlib.contextmanager
def writing(s):
    """A client that goes on writing; yields the revisions it was given."""
    seen, end, failed = [], threading.Event(), []

    def go():
        try:
            while not end.is_set():
                seen.append(put(s, "busy-%d" % (len(seen) % 7), str(len(seen))))
        except Exception as e:
            failed.append(e)
    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join(20)
    check(not failed, "a write failed while a backup was taken: %s" % failed)


@case
def restore_works_on_a_stopped_server_and_into_a_fresh_directory_of_another_machine(t):
    with folder() as d, t.own_server("stopped") as s:
        s.start()
        put(s, "witness", "backup")
        token = make_token(s)
        old_kubeconfig = os.path.join(d, "kubeconfig")
        shutil.copy(s.kubeconfig, old_kubeconfig)
        live = back_up(s, os.path.join(d, "live.tar.zst"))
        put(s, "witness", "later")
        newest = int(s.get("configmap")["metadata"]["resourceVersion"])
        s.stop()
        later = back_up(s, os.path.join(d, "later.tar.zst"))  # of a stopped server
        restore(s, live)
        s.start()
        check(value(s, "witness") == "backup", "restored on a stopped server: %s" % value(s, "witness"))
        check(put(s, "witness", "again") > newest, "revisions do not go on above what was seen")
        # The other machine: another directory, another port, nothing of the first one.
        with t.own_server("fresh") as other:
            os.rmdir(other.dir)
            restore(other, later)
            other.start()
            check(value(other, "witness") == "later", "in a fresh directory: %s" % value(other, "witness"))
            check(known(other, token), "the token is nobody's on the other machine", with_token(other, token, "/api"))
            p = other.kubectl("--server", "https://" + other.listen, "get", "configmap", "witness", "-o", "jsonpath={.data.at}",
                              env={"KUBECONFIG": old_kubeconfig})
            check(p.out == "later", "the old kubeconfig on the other machine", p.text)


@case
def damaged_foreign_and_newer_backups_are_refused_and_nothing_is_lost(t):
    with folder() as d, t.own_server("refused") as s:
        s.start()
        put(s, "witness", "kept")
        good = back_up(s, os.path.join(d, "good.tar.zst"))
        bad = os.path.join(d, "bad")
        os.mkdir(bad)
        control, tried = s.child("control"), list(bad_backups(good, bad))
        for path, why in tried:
            p = vireo(s, "restore", path)
            check(p.returncode == 1 and "vireo restore: " in p.err, "%s is taken by a running server" % path, p.text)
            check(re.search(why, p.err), "%s: the message does not say /%s/" % (path, why), p.err)
        check(s.child("control") == control and value(s, "witness") == "kept", "a refused restore touched the running server")
        check(not glob.glob(s.dir + "/re[sp]*"), "a refused restore left", glob.glob(s.dir + "/re[sp]*"))
        s.stop()
        before = fingerprint(s.dir)
        for path, _ in tried:
            p = vireo(s, "restore", path)
            check(p.returncode == 1, "%s is taken" % path, p.text)
            check(fingerprint(s.dir) == before, "a refused restore of %s changed the data directory" % path)
        check(vireo(s, "restore", "--check", good).returncode == 0, "a whole backup is not found whole")
        s.start()
        check(value(s, "witness") == "kept", "something was lost")


# ---- killed in the middle ----

def killed(argv, after):
    """Whether it was really killed, and had not ended before."""
    p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    time.sleep(after)
    p.kill()
    return p.wait() == -signal.SIGKILL


def timed(act):
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


@case
def a_backup_killed_at_any_moment_leaves_a_whole_file_or_none(t):
    with folder() as d, t.own_server("killbackup") as s:
        s.start()
        fill(s)
        takes = timed(lambda: back_up(s, os.path.join(d, "first")))
        hits = 0
        for n in range(12):
            path = os.path.join(d, "b-%d" % n)
            after = takes * (n + 0.5) / 12
            hit = killed([os.path.join(s.config.build, "vireo"), "backup", path, "--data-dir", s.dir], after)
            hits, takes = hits + hit, takes if hit else after # the machine was busier when it was timed
            if os.path.exists(path):
                check(vireo(s, "restore", "--check", path).returncode == 0, "a killed backup left a file that is not whole")
            rest = [f for f in os.listdir(d) if f not in ("first", "b-%d" % n, ".b-%d.part" % n)]
            check(not rest, "a killed backup left %s" % rest)
            back_up(s, path, "--overwrite")
            os.unlink(path)
            check(os.listdir(d) == ["first"], "left: %s" % os.listdir(d))
        check(hits >= 3, "only %d of 12 were killed before their end (one takes %.2f s)" % (hits, takes))
        check(put(s, "after", "x"), "the server does not take writes")


@case
def a_restore_killed_at_any_moment_is_none_or_whole(t):
    with folder() as d, t.own_server("killrestore") as s:
        s.start()
        fill(s)
        put(s, "witness", "backup")
        file = back_up(s, os.path.join(d, "b"))
        put(s, "witness", "later")
        takes = timed(lambda: restore(s, file))
        argv = [os.path.join(s.config.build, "vireo"), "restore", file, "--data-dir", s.dir]
        hits, seen = 0, set()
        for n in range(6):
            live = n % 2 == 0
            put(s, "witness", "later")
            if not live:
                s.stop()
            after = takes * (n + 1) / 7
            hit = killed(argv, after)
            hits, takes = hits + hit, takes if hit else after # the machine was busier when it was timed
            if not live:
                s.start()
            staged = os.path.join(s.dir, "restore")
            if live and os.path.exists(staged):
                time.sleep(1)
                if os.path.exists(staged):  # it was killed before it could say so: the next start does it
                    s.stop(all_machines=False)
                    s.start()
            s.wait_ready()
            check(not os.path.exists(staged), "a staged restore stays", s.log_tail())
            seen.add(value(s, "witness"))
            check(seen <= {"backup", "later"}, "neither state: %s" % seen)
            check(len([x for x in names(s) if x.startswith("load-")]) == 60, "objects are missing")
        check(hits >= 2, "only %d of 6 were killed before their end (one takes %.2f s)" % (hits, takes))
        put(s, "witness", "later")
        restore(s, file)
        check(value(s, "witness") == "backup", "a restore after killed ones")
        check(not os.path.exists(s.dir + "/restore.part"), "restore.part is left")


@case
def a_server_that_starts_finishes_a_restore_that_was_staged(t):
    with folder() as d, t.own_server("staged") as s:
        s.start()
        put(s, "witness", "backup")
        file = back_up(s, os.path.join(d, "b"))
        put(s, "witness", "later")
        newest = int(s.get("configmap")["metadata"]["resourceVersion"])
        # A supervisor that does not get round to it, then the power goes.
        os.kill(s.supervisor(), signal.SIGSTOP)
        children = [s.child("control"), s.child("node")]
        p = subprocess.Popen([os.path.join(s.config.build, "vireo"), "restore", file, "--data-dir", s.dir],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(60, "it is staged", lambda: os.path.exists(s.dir + "/restore"))
        finally:
            p.kill()
            p.wait()
        s.kill()
        until(30, "its processes end with it", lambda: not any(harness.alive(c) for c in children if c))
        s.start()
        check("a backup was restored" in s.log_text(), "the log does not say it", s.log_tail())
        check(value(s, "witness") == "backup", "the staged restore was not finished: %s" % value(s, "witness"))
        check(not os.path.exists(s.dir + "/restore"), "it is still staged")
        check(put(s, "witness", "on") > newest, "revisions do not go on above what was seen")
