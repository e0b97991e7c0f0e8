"""The shell blocks of documents: which they are, a shell that runs them, and what they have to print. test/docs/run has the rules."""
import contextlib
import os
import re
import select
import signal
import subprocess
import time


class Failure(Exception):
    """What a document says is not so."""


def blocks(text, run="run", expect="expect"):
    """(line number, wanted to fail, script, expected text or None), in order. `run` and `expect` are the words that mark them."""
    rule = re.compile(r"^```(sh %s fails|sh %s|text %s)[ \t]*\n(.*?)^```[ \t]*$|^<!-- (%s|%s)\n(.*?)^-->[ \t]*$" % (run, run, expect, run, expect), re.M | re.S)
    found = []
    for m in rule.finditer(text):
        kind, body = (m[1], m[2]) if m[1] else ({run: "sh run", expect: "text " + expect}[m[3]], m[4])
        line = text.count("\n", 0, m.start()) + 1
        if kind == "text " + expect:
            if not found or found[-1][3] is not None:
                raise Failure("line %d: an expect block without a run block before it" % line)
            found[-1] = found[-1][:3] + (body,)
        else:
            found.append((line, kind.endswith("fails"), body, None))
    return found


def pattern(line):
    """One expected line as a regular expression."""
    out = []
    for word in line.split():
        word = re.sub(r"-[a-z0-9]{5}$", "-\x01", word) if re.search(r"launcher-.*-[a-z0-9]{5}$", word) else word
        word = re.escape(word).replace("…", ".*")
        word = re.sub(r"(?:\d+(?:\\\.\d+)+|\d+(?:d|h|m|s)(?:\d+(?:h|m|s))*|\d+)", "\0", word)
        out.append(word.replace("\0", r"\d[\d.dhms]*").replace("\x01", "[a-z0-9]{5}"))
    return re.compile(r"\s*" + r"\s+".join(out).replace(r"\s+.*\s+", r"\s*.*\s*").replace(r".*\s+", r".*\s*"))


def compare(expected, output):
    lines = output.splitlines()
    at = 0
    for want in filter(str.strip, expected.splitlines()):
        rule = pattern(want)
        here = at
        while here < len(lines) and not rule.search(lines[here]):
            here += 1
        if here == len(lines):
            raise Failure("not printed: %s\n--- printed:\n%s" % (want, "\n".join(lines[-25:])))
        at = here + 1


class Shell:
    """One bash; each script's output and exit status are told apart by a line that only we know."""

    def __init__(self, env, cwd):
        self.mark = "--docs-%d-" % os.getpid()
        self.p = subprocess.Popen(["bash", "--norc", "--noprofile"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env=env, cwd=cwd, start_new_session=True)

    def run(self, script, timeout):
        # A subshell would lose exports; `set -e` would end the shell: so the block runs by eval, and fails with its last command.
        text = "eval %s\nprintf '\\n%s%%d\\n' $?\n" % (quote(script), self.mark)
        self.p.stdin.write(text.encode())
        self.p.stdin.flush()
        out, end = b"", time.monotonic() + timeout
        tail = re.compile(re.escape(self.mark).encode() + rb"(\d+)\n$")
        while True:
            m = tail.search(out)
            if m:
                return int(m[1]), out[:m.start()].decode(errors="replace").strip("\n")
            if time.monotonic() > end:
                raise Failure("not ended after %d s\n%s" % (timeout, out.decode(errors="replace")[-2000:]))
            if select.select([self.p.stdout], [], [], 0.5)[0]:
                data = os.read(self.p.stdout.fileno(), 65536)
                if not data:
                    raise Failure("the shell ended\n" + out.decode(errors="replace")[-2000:])
                out += data

    def close(self):
        with contextlib.suppress(OSError):
            os.killpg(self.p.pid, signal.SIGKILL)
        self.p.wait()


def quote(s):
    return "'" + s.replace("'", "'\\''") + "'"


def checked(script):
    """Each line of a block has to succeed, not only the last; what spans lines is left to bash."""
    return "__docs() { set -o pipefail; trap 'return 1' ERR; set -E\n" + script + "\n}; __docs </dev/null; __r=$?; trap - ERR; set +E; set +o pipefail; (exit $__r)"
