"""What tools/check does, once the packages are there: runs every kind of test, tells each by a line, and counts."""
import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
COUNT = {"ok": 0, "FAIL": 0, "skip": 0}
LINE = re.compile(r"^(ok|FAIL|skip)\s+\S")
LOCK = threading.Lock()
TOTAL = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")


def report(verdict, name, text="", tail=25):
    lines = [line for line in text.strip().split("\n") if line.strip()]
    if verdict == "skip":
        said = ["skip %s: %s" % (name, lines[-1].strip() if lines else "no reason given")]
    else:
        said = ["%-4s %s" % (verdict, name)] + ["     " + line for line in (lines[-tail:] if verdict == "FAIL" else [])]
    with LOCK:
        COUNT[verdict] += 1
        print("\n".join(said), flush=True)


def shell(argv, timeout, env=None):
    """(exit code, output); 124 when it took too long."""
    try:
        p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT,
                           timeout=timeout, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, check=False)
        return p.returncode, p.stdout
    except subprocess.TimeoutExpired as e:
        out = e.stdout.decode(errors="replace") if isinstance(e.stdout, bytes) else e.stdout or ""
        return 124, out + "\ntook longer than %d s" % timeout
    except OSError as e:
        return 127, str(e)


def step(name, argv, timeout, env=None):
    begun = time.monotonic()
    code, out = shell(argv, timeout, env)
    if code == 77:
        report("skip", name, out)
    else:
        report("FAIL" if code else "ok", "%s (%.0f s)" % (name, time.monotonic() - begun), out)
    return code == 0


def setup(folder, options, env=None):
    """A build directory, made anew when it is broken or of other options."""
    note = os.path.join(ROOT, folder, ".options")
    with contextlib.suppress(OSError):
        with open(note, encoding="utf-8") as f:
            if f.read() == " ".join(options) and os.path.exists(os.path.join(ROOT, folder, "build.ninja")):
                return True
    code, out = shell(["rm", "-rf", folder], 60)
    code, out = shell(["meson", "setup", folder, *options], 300, env)
    if code:
        report("FAIL", "meson setup " + folder, out)
        return False
    with open(note, "w", encoding="utf-8") as f:
        f.write(" ".join(options))
    return True


# ---- unit and room tests: meson runs the programs, their cases are counted one by one ----

def unit_tests(folder):
    log = os.path.join(ROOT, folder, "meson-logs", "testlog.json")
    with contextlib.suppress(OSError):
        os.unlink(log)
    code, out = shell(["meson", "test", "-C", folder, "--no-rebuild", "--timeout-multiplier", "2"], 1200,
                      {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
    if not os.path.exists(log):
        report("FAIL", "meson test", out)
        return
    with open(log, encoding="utf-8") as f:
        for line in f:
            one_program(json.loads(line))


def one_program(t):
    name, out = t["name"].replace("vireo:", ""), t.get("stdout") or ""
    text = out + (t.get("stderr") or "")
    if t["result"] == "SKIP":
        report("skip", name, text)
        return
    # What a program under test prints in between must not hide a case.
    cases = re.findall(r"\[ +(OK|FAILED|SKIPPED) +\] (\S+)$", out, re.M)
    seen, failed = set(), 0
    for verdict, case in cases:
        if case in seen or case.endswith(":"):
            continue
        seen.add(case)
        failed += verdict == "FAILED"
        report({"OK": "ok", "FAILED": "FAIL", "SKIPPED": "skip"}[verdict], "%s: %s" % (name, case.replace("_", " ")),
               about(text, case) if verdict != "OK" else "")
    if t["result"] not in ("OK", "EXPECTEDFAIL") and not failed:
        begun = [c for c in re.findall(r"\[ RUN +\] (\S+)", out) if c not in seen]
        report("FAIL", "%s%s (%s)" % (name, ": " + begun[-1].replace("_", " ") if begun else "", t["result"].lower()), text)
    elif not seen:
        report("ok", name)


def about(text, case):
    """The part of a program's output that belongs to a case."""
    m = re.search(r"\[ RUN +\] %s\n(.*?)\[ +(?:FAILED|SKIPPED)" % re.escape(case), text, re.S)
    part = m.group(1) if m else ""
    m = re.search(r"\[ +ERROR +\] --- .*?(?=\[ +(?:FAILED|RUN|OK)|\Z)", text, re.S)
    return part + (m.group(0) if m and m.group(0) not in part else "") or text[-1500:]


# ---- fuzz targets ----

def fuzz(folder, seconds):
    targets = sorted(p for p in glob.glob(os.path.join(ROOT, folder, "*-fuzz")) if os.access(p, os.X_OK) and os.path.isfile(p))
    if not targets:
        report("skip", "fuzz targets", "none were built")

    def one(path):
        name = os.path.basename(path)
        corpus = os.path.join(ROOT, folder, "corpus", name)
        os.makedirs(corpus, exist_ok=True)
        seeds = [d for d in (os.path.join(ROOT, "test", "corpus", name[:-len("-fuzz")]),) if os.path.isdir(d)]
        argv = [path, "-max_total_time=%d" % seconds, "-timeout=10", "-rss_limit_mb=2560", "-print_final_stats=1", "-verbosity=0",
                "-artifact_prefix=%s/" % corpus, corpus, *seeds]
        return name, shell(argv, seconds + 120, {"ASAN_OPTIONS": "detect_leaks=1",
                                                "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, (code, out) in pool.map(one, targets):
            runs = re.search(r"number_of_executed_units: (\d+)", out)
            report("FAIL" if code else "ok", "%s, %s inputs" % (name, runs.group(1) if runs else "some"), out)


# ---- programs that speak our own form: lines of ok, FAIL, skip, and a total at the end ----

def relay(name, argv, timeout, env=None):
    begun = time.monotonic()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT,
                         env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, start_new_session=True)
    counted, total = {"ok": 0, "FAIL": 0, "skip": 0}, None

    def end():
        p.terminate() # its own clean-up comes first
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.wait(120)
        with contextlib.suppress(OSError):
            os.killpg(p.pid, signal.SIGKILL)
    late = threading.Timer(timeout, end)
    late.daemon = True
    late.start()
    try:
        for line in p.stdout:
            line = line.rstrip("\n")
            m = LINE.match(line)
            total = TOTAL.match(line)
            if m:
                counted[m.group(1)] += 1
            if not total:
                print(line, flush=True)
        code = p.wait()
    finally:
        late.cancel()
        if p.poll() is None: # it is us who are ended
            end()
    for k, v in counted.items():
        COUNT[k] += v
    if code and not counted["FAIL"]:
        slow = time.monotonic() - begun > timeout
        report("FAIL", "%s ended with %d%s" % (name, code, ": took longer than %d s" % timeout if slow else "" if total else " before its end"))
    elif not code and not any(counted.values()):
        report("skip", name, "it has no tests")


def fast():
    if setup("build-asan", ["-Db_sanitize=address,undefined", "--buildtype=debug", "-Doptimization=1"]):
        if step("build with gcc, ASan and UBSan, -Werror", ["ninja", "-C", "build-asan", "--quiet"], 1500):
            unit_tests("build-asan")
            symbols("build-asan")
    step("rooms include only what their arrows allow", ["tools/check-rooms"], 300)
    step("roles of a cluster grant what is needed and no more", ["tools/check-rbac"], 300)
    step("one machine and a cluster differ in nothing but what has its reason", ["tools/check-modes"], 300)
    if os.access(os.path.join(ROOT, "build-asan/src/cmd/vireo"), os.X_OK):
        step("flags, metrics and links of the documents are there", ["tools/check-docs", "build-asan"], 300)
    schema = step_schema()
    return schema


def symbols(folder):
    """A program that is linked with two rooms would take one's function for the other's, without a word from the linker."""
    places = {}
    for library in sorted(glob.glob(os.path.join(ROOT, folder, "lib*.a"))):
        for line in shell(["nm", "-g", "--defined-only", library], 60)[1].splitlines():
            m = re.match(r"[0-9a-f]+ [TDBR] (\w+)$", line)
            if m and not m.group(1).startswith("__"):
                places.setdefault(m.group(1), []).append(os.path.basename(library))
    double = ["%s: %s" % (name, " ".join(where)) for name, where in sorted(places.items()) if len(set(where)) > 1]
    report("FAIL" if double or not places else "ok", "no name belongs to two rooms", "\n".join(double) or "no symbols were found")


def step_schema():
    # meson ran it as a test of its own where the build came so far.
    if COUNT["ok"] > 20:
        return True
    return step("schema agrees with the recorded APIs", ["tools/check-schema", "schema", os.environ.get("VIREO_DATA", "../shared/data")], 120)


def contract():
    """Every driver against every scenario, those that wait for a bound of time too."""
    args = ["build-asan/test/vmm/contract", os.path.join(ROOT, "test", "vmm", "bin"),
            os.path.join(os.environ.get("VIREO_DATA") or "../shared/data", "vmm-api"), "build-asan/test/vmm/contract-guest"]
    with tempfile.TemporaryDirectory() as recorded:
        step("drivers keep their contract, with their VMMs' faults", args, 1800, {"VIREO_CONTRACT_SLOW": "1", "VIREO_RECORD": recorded})
        step("what drivers sent, changed, is caught", ["/usr/bin/python3", "test/vmm/mutate.py", recorded], 900)


def robust():
    """All points of the store under faults; the unit tests ran an eighth of them."""
    begun = time.monotonic()
    soak = bool(os.environ.get("VIREO_SOAK"))
    code, out = shell(["build-asan/test/robust/store-robust"], 3600 if soak else 1200, {"VIREO_POINTS": "all"})
    totals = [line.strip() for line in out.splitlines() if " faults injected, " in line]
    report("FAIL" if code else "ok", "store under faults (%.0f s)%s" % (time.monotonic() - begun, ": " + totals[-1] if totals else ""), out)


def priority(pid, nice):
    """Of a session that was started. Where the kernel groups processes by session, nice itself counts within a session only: two
    sessions that work have half of the processors each, however nice one of them is."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, nice)
    with contextlib.suppress(OSError), open("/proc/%d/autogroup" % pid, "w", encoding="ascii") as f:
        f.write(str(nice))


class Kubernetes:
    """A real one for test/cluster, built from Debian's source where it is missing: ten minutes of two cores, once. It is made beside the
    other stages with the lowest priority: many of them wait more than they work."""

    def __init__(self):
        self.log = tempfile.TemporaryFile("w+")
        # Packages first: two who install at once are in each other's way.
        code, out = shell([os.path.join(ROOT, "test", "cluster", "build"), "packages"], 900)
        self.process, self.code = None, code
        self.log.write(out)
        if not code:
            self.process = subprocess.Popen(["test/cluster/build"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                            start_new_session=True)
            priority(self.process.pid, 19)

    def wait(self, seconds):
        """Why there is none; empty: it is there."""
        if self.process:
            priority(self.process.pid, 0)
            try:
                self.code = self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.end()
                return "it was not built within %d s more than everything else took" % seconds
        if not self.code:
            return ""
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        if self.code != 77:
            report("FAIL", "build of Kubernetes for test/cluster", "\n".join(lines))
        return lines[-1] if lines else "test/cluster/build ended with %d" % self.code

    def end(self):
        if self.process and self.process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def cluster(kubernetes):
    why = kubernetes.wait(1200)
    if why:
        report("skip", "test/cluster", why)
    else:
        relay("test/cluster", ["test/cluster/run", "--build", "build"], 2700)


def manifests():
    """With the chart, for which the unit tests of a bare machine have no helm: test/e2e has brought it."""
    helm, name = os.path.join(ROOT, "build", "tools", "helm"), "manifests and the chart are what Kubernetes takes"
    if os.path.exists(helm):
        step(name, ["tools/check-manifests", "build/vireo", os.environ.get("VIREO_DATA") or "../shared/data"], 300, {"HELM": helm})
    else:
        report("skip", name, "no helm: npm could not bring it")


def deep(seconds_of_fuzz):
    kubernetes = Kubernetes()
    try:
        stages(seconds_of_fuzz, kubernetes)
    finally:
        kubernetes.end()


def stages(seconds_of_fuzz, kubernetes):
    waits = None
    if os.path.exists(os.path.join(ROOT, "build-asan", "test", "robust", "store-robust")):
        robust()
        # It waits for bounds of time far more than it works: something else may work in the meantime.
        waits = threading.Thread(target=contract)
        waits.start()
        step("the fields of the VMI, asked of running QEMUs", ["build-asan/vmm-qemu-proof-test"], 600, {"VIREO_PROOFS": "all"})
    clang = {"CC": "clang"}
    if setup("build-clang", ["-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false", "--buildtype=debug",
                             "-Doptimization=1"], clang):
        if step("build with clang, -Werror, fuzz targets", ["ninja", "-C", "build-clang", "--quiet"], 1500):
            fuzz("build-clang", seconds_of_fuzz)
    if waits:
        waits.join()
    if step("make build", ["make", "--no-print-directory", "build", "BUILD=build"], 1500):
        relay("test/e2e", ["test/e2e/run", "--build", "build"], 2700)
        manifests()
        relay("test/docs", ["test/docs/run", "--build", "build"], 900)
        relay("test/image", ["test/image/run", "--build", "build"], 600)
        if step("build of the API server alone", ["ninja", "-C", "build", "--quiet", "test/api/test-apiserver"], 900):
            relay("hostile clients", [sys.executable, "test/api/hostile.py", "build/test/api/test-apiserver"]
                  + (["--soak"] if os.environ.get("VIREO_SOAK") else []), 1200)
            relay("test/cluster/faults-alone", ["test/cluster/faults-alone", "--build", "build"], 1200,
                  {"KUBECTL": os.path.join(ROOT, "build", "tools", "kubectl-1.20")})
        cluster(kubernetes) # last: its Kubernetes is built beside all others


def main():
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)) # what runs is ended too, and cleans up
    which = sys.argv[1] if len(sys.argv) > 1 else "all"
    if os.environ.get("VIREO_CHECK_FAILED"):
        COUNT["FAIL"] += 1
    if which == "soak":
        os.environ["VIREO_SOAK"] = "1"
    fast()
    if which != "fast":
        deep(5 if which == "all" else 300)
    print("%.0f s" % (time.monotonic() - begun))
    print("%d passed, %d failed" % (COUNT["ok"], COUNT["FAIL"]) + (", %d skipped" % COUNT["skip"] if COUNT["skip"] else ""), flush=True)
    return 1 if COUNT["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
