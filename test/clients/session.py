#!/usr/bin/env python3
"""A day of kubectl: runs test/clients/session.in and compares what it prints with what a real API server made it print.

session.py KUBECTL KUBECONFIG RECORDING     compares; exit status 1 where the output differs
session.py --record KUBECTL KUBECONFIG RECORDING     writes the recording, from a real cluster

Ages, UIDs, revisions, times and generated names are normalized. Lines of session.accepted name what may differ, a reason each:
"<number of the command> <kubectl's version or *> <reason>"."""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def steps():
    found = []
    with open(os.path.join(HERE, "session.in"), encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("|"):
                found[-1][1].append(line[2:])
    return [(command, "\n".join(text) + "\n" if text else "") for command, text in found]


def normal(text):
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID", text)
    text = re.sub(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
    text = re.sub(r"\b\d+(m\d+)?s\b(?= |$)", "AGE", text, flags=re.M)
    text = re.sub(r'(resourceVersion"?: )"\d+"', r'\1"N"', text)
    text = re.sub(r"\bgen-[a-z0-9]{5}\b", "gen-X", text)
    text = re.sub(r"(manager\"?: \"?)kubectl[-\w]*", r"\1kubectl", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "SERVER", text)
    text = re.sub(r"[ \t]+", " ", text)
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def play(kubectl, kubeconfig):
    with tempfile.TemporaryDirectory() as tmp:
        os.symlink(os.path.abspath(kubectl), tmp + "/kubectl")
        with open(kubeconfig, encoding="utf-8") as f:
            text = f.read()
        # a namespace of its own by the context, as people have it
        with open(tmp + "/config", "w", encoding="utf-8") as f:
            f.write(text)
        env = {**os.environ, "PATH": tmp + ":" + os.environ["PATH"], "KUBECONFIG": tmp + "/config", "HOME": tmp, "TZ": "UTC", "LANG": "C"}
        subprocess.run(["kubectl", "config", "set-context", "--current", "--namespace=session"], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        for command, text in steps():
            try:
                p = subprocess.run(["sh", "-c", command], input=text, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", timeout=90, check=False)
                out = p.stdout
            except subprocess.TimeoutExpired:
                out = "did not end within 90 s\n"
            yield command, normal(out)


def recorded(path):
    with open(path, encoding="utf-8") as f:
        parts = re.split(r"^\$ (.*)\n", f.read(), flags=re.M)
    return [(parts[i], parts[i + 1].strip("\n")) for i in range(1, len(parts), 2)]


def accepted(version):
    found = {}
    path = os.path.join(HERE, "session.accepted")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    which, versions, reason = line.strip().split(" ", 2)
                    if versions in ("*", version):
                        found[int(which)] = reason
    return found


def main():
    record = sys.argv[1] == "--record"
    kubectl, kubeconfig, recording = sys.argv[2 if record else 1:]
    if record:
        with open(recording, "w", encoding="utf-8") as f:
            for command, out in play(kubectl, kubeconfig):
                f.write("$ %s\n%s\n" % (command, out + "\n" if out else ""))
        return 0
    want = recorded(recording)
    fine = accepted(re.search(r"session-(.*)\.out", recording).group(1))
    if [c for c, _ in want] != [c for c, _ in steps()]:
        print("the recording is of another session.in: record it again")
        return 1
    bad = 0
    for number, ((command, expected), (_, got)) in enumerate(zip(want, play(kubectl, kubeconfig)), 1):
        if got == expected:
            if number in fine:
                print("%d: $ %s\n  is alike now: take it out of session.accepted" % (number, command))
                bad += 1
            continue
        if number in fine:
            continue
        bad += 1
        print("%d: $ %s\n  want: %s\n  got:  %s" % (number, command, expected.replace("\n", "\n        "), got.replace("\n", "\n        ")))
    print("%d commands, %d differ, %d accepted" % (len(want), bad, len(fine)))
    return 1 if bad else 0


sys.exit(main())
