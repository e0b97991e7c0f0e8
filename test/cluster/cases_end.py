"""The last cases of all: what is left."""
from cases import collector
from harness import check, until

ORDER = 91
case, CASES = collector()


@case
def deleted_machines_leave_nothing(c):
    c.kubectl("delete", "vm", "--all", timeout=120)
    until(60, "no pod and no process is left", lambda: not c.get("pods")["items"] and not c.qemus(), 0.5)
    check(not c.get("vmis")["items"], "no VMI is left")
