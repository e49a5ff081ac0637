"""core <- host <- engines <- cmd, and who wraps what."""
from tap import HEAD, ROOT, clean, finish, verdict

GOOD = {"core/util/a.h": HEAD, "core/sched/a.h": HEAD, "core/tensor/a.h": HEAD, "host/os/a.h": HEAD, "engines/serve/a.h": HEAD,
        "engines/batch/a.h": HEAD, "include/fermata/a.h": HEAD}


def includes(path, line, expected, name):
    verdict("check-layers", {**GOOD, path: HEAD + f"#include {line}\n"}, expected, name)


clean("the tree keeps its layers", ROOT / "tools/check-layers")
includes("core/sched/b.c", '"core/util/a.h"', None, "core on core below")
includes("cmd/b.c", '"engines/serve/a.h"', None, "cmd on an engine")
includes("core/util/b.c", '"host/os/a.h"', "core/util may include only", "core on host")
includes("core/util/b.c", '"core/sched/a.h"', "core/util may include only", "core on core above")
includes("core/sched/b.c", '"core/tensor/a.h"', "core/sched may include only", "the scheduler on tensors")
includes("core/util/b.c", "<time.h>", "not a header of the C language", "core on the clock")
includes("core/util/b.c", "<malloc.h>", "not a header of the C language", "core on the allocator")
includes("core/util/memory.c", "<malloc.h>", None, "the one file of core that may")
includes("host/os/b.c", '"engines/serve/a.h"', "host may include only", "host on an engine")
includes("engines/serve/b.c", '"engines/batch/a.h"', "an engine may include only itself", "an engine on another")
includes("host/store/b.c", "<unistd.h>", "asks the kernel", "kernel headers outside host/os")
includes("engines/serve/b.c", "<sqlite3.h>", "is wrapped by host/store", "a library outside its module")
includes("host/runtime/backends/x/b.c", '"host/os/a.h"', "a plug-in knows core", "a plug-in on the host")
includes("include/fermata/b.h", '"core/util/a.h"', "an installed header", "an installed header on the tree")
includes("host/os/b.c", '"a.h"', "not a file named from the root", "a name that is not from the root")
finish()
