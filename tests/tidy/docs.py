"""Links, paths and names in the documents and everywhere else."""
from tap import ROOT, clean, finish, verdict

# In pieces, so that this file does not name what it tests for.
REGISTRY = "registry.npm" + "js.org"
HOST = "https" + "://somewhere" + ".net/x"
HOME = "/ro" + "ot/build"


def doc(text, expected, name):
    verdict("check-docs", {"docs/a.md": text, "docs/b.md": "# Two words\n\n## `c` and d\n", "core/util/x.c": "", "core/util/x.h": ""}, expected, name)


clean("the tree's documents are right", ROOT / "tools/check-docs")
doc("[b](b.md) [b](b.md#two-words) [b](b.md#c-and-d) `core/util/x.{c,h}` `core/util/*.h`\n", None, "good links and paths")
doc("[b](c.md)\n", "no such file", "a link to nothing")
doc("[b](b.md#three-words)\n", "no such heading", "a link to a heading that is not there")
doc("see `core/util/y.c`\n", "no such file", "a path that is not there")
doc("see `core/util/x.{c,d}`\n", "no such file", "one of two paths that is not there")
doc(f"see {HOST}\n", "names the host", "a host's name")
doc("see http://127.0.0.1:8000/v2 and http://localhost:8000\n", None, "this machine's own address")
doc(f"npm config set registry {REGISTRY}\n", "package registry", "a registry's name")
doc(f"cd {HOME}/x\n", "path of one machine", "a path of one machine")
finish()
