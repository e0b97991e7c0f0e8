"""docs/cluster.md: its blocks ` ```sh cluster `, in order, in one shell, as their reader would run them beside the tree.

As in the other documents (test/docs/run): each line has to succeed, `sh cluster fails` has to end with an error, ` ```text shows ` behind a block
is what it has to print, `<!-- cluster … -->` runs without being shown. The image that readers would have pushed to registry.example is on
the nodes already."""
import functools
import os
import shutil
import sys
import tempfile

from cases import collector
from cluster import HERE, NODES, ROOT, output
from harness import Failure, Skip

sys.path.insert(0, os.path.join(ROOT, "test", "docs"))
import blocks as docs  # noqa: E402

ORDER = 89 # behind the machines of the others, before they are cleared away
collect, CASES = collector()
DOCUMENT, TIMEOUT = "docs/cluster.md", 400
reader = {}


def shell(c):
    """One bash, in a folder that looks like the tree; the process is in the cluster's network already."""
    if not reader:
        c.tool("load", c.dir, "tiny", c.guest + "/tiny.tar", timeout=120)
        for node in NODES:
            output(["bash", "-c", '. "$0/names" "$1"; exec ctr -a "$(files_of "$2")/run/containerd.sock" -n k8s.io images tag --force '
                    "docker.io/vireo/tiny:latest registry.example/vireo/tiny:1.0", HERE, c.dir, node])
        work = tempfile.mkdtemp(prefix="vireo-docs-cluster-")
        for name in ("examples", "tools", "deploy"):
            os.symlink(os.path.join(ROOT, name), os.path.join(work, name))
        os.symlink(c.build, work + "/build")
        os.makedirs(work + "/bin")
        os.symlink(os.environ["KUBECTL"], work + "/bin/kubectl")
        env = {**os.environ, "KUBECONFIG": c.dir + "/admin.kubeconfig", "HOME": work, "PATH": "%s/bin:%s:%s" % (work, c.build, os.environ["PATH"])}
        reader.update(work=work, shell=docs.Shell(env, work))
    return reader["shell"]


def run(c, fails, script, expected, last):
    if c.outside:
        raise Skip("it is about what the operator installs: --roles pods")
    try:
        status, out = shell(c).run(docs.checked(script), TIMEOUT)
        if (status != 0) != fails:
            raise Failure("ended with %d\n%s" % (status, out[-3000:]))
        if expected is not None:
            docs.compare(expected, out)
    except docs.Failure as e:
        raise Failure(str(e)) from e
    finally:
        if last and reader:
            reader["shell"].close()
            shutil.rmtree(reader["work"], ignore_errors=True)
            reader.clear()


with open(os.path.join(ROOT, DOCUMENT), encoding="utf-8") as text:
    found = docs.blocks(text.read(), "cluster", "shows")
for at, (where, wrong, lines, shown) in enumerate(found):
    step = functools.partial(run, fails=wrong, script=lines, expected=shown, last=at == len(found) - 1)
    step.__name__ = "%s:%d: %s" % (DOCUMENT, where, next((s for s in lines.splitlines() if s.strip()), "")[:70])
    collect(step)
