"""`make demo`: the shortest way from nothing to a guest's console, twice, and back."""
import os
import re
import time

import harness
from cases import collector
from harness import ROOT, Skip, check, run

case, CASES = collector(machine="the demo is one machine")


@case
def make_demo_shows_a_guests_login_twice_and_demo_down_leaves_nothing(t):
    if os.path.exists(ROOT + "/.demo"):
        raise Skip("a demo is up (or was not ended): make demo-down")
    if t.config.build != ROOT + "/build":
        raise Skip("the demo uses build/, and the test another build")
    server = t.own_server("demo")  # only its free port and range
    env = {"VIREO_DEMO_LISTEN": server.listen, "VIREO_DEMO_POD_CIDR": server.cidr}
    server.sweep()
    probe = harness.Server.__new__(harness.Server)
    try:
        p = run([ROOT + "/tools/demo", "up"], 300, env=env)
        check(p.returncode == 0 and "Vireo tiny guest" in p.out, "make demo", p.text[-2500:])
        check(re.search(r"^ +\d+s  ", p.out, re.M), "its progress has no seconds", p.text)
        for command in re.findall(r"^    (export KUBECONFIG=\S+)", p.out, re.M):
            check(os.path.exists(command.split("=")[1]), "the kubeconfig that it names is not there", command)
        begun = time.monotonic()
        p = run([ROOT + "/tools/demo", "up"], 120, env=env)
        check(p.returncode == 0 and time.monotonic() - begun < 60, "the second make demo took %.0f s" % (time.monotonic() - begun), p.text)
    finally:
        p = run([ROOT + "/tools/demo", "down"], 120, env=env)
    check(p.returncode == 0 and not os.path.exists(ROOT + "/.demo"), "make demo-down", p.text)
    probe.dir, probe.links = ROOT + "/.demo/data", set()
    probe.name = harness.instance_name(probe.dir)
    probe.bridge = "vireo-" + probe.name
    left = probe.leftovers()
    check(not left, "left behind: " + "; ".join(left))
