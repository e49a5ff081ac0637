"""The check that a test reaches every .c file, on a product of three files: one reached, one linked and never called, one not built."""
import os
import subprocess
import tempfile

from tap import ROOT, finish, ok, run, write

FILES = {
    "core/util/reached.c": "int reached(void);\nint reached(void)\n{\n    return 1;\n}\n",
    "core/util/idle.c": "int idle(void);\nint idle(void)\n{\n    return 2;\n}\n",
    "main.c": "int reached(void);\nint idle(void);\nint main(int argc, char **argv)\n{\n    (void)argv;\n    return argc > 9 ? idle() : reached() - 1;\n}\n",
}
COMPILER = [word for word in os.environ.get("FM_CC", "cc").split() if word]


def covered(root, extra):
    write(root, {**FILES, **extra})
    build = f"{root}/build"
    os.mkdir(build)
    for name in ["core/util/reached", "core/util/idle", "main"]:
        subprocess.run([*COMPILER, "--coverage", "-c", "-o", f"{build}/{name.replace('/', '_')}.o", f"../{name}.c"], cwd=build, check=True)
    objects = [f"{build}/{name}.o" for name in ["core_util_reached", "core_util_idle", "main"]]
    subprocess.run([*COMPILER, "--coverage", "-o", f"{build}/main", *objects], cwd=build, check=True)
    return build


if "clang" in COMPILER[0]:
    print("1..0 # SKIP gcov reads gcc's counters")
    raise SystemExit(0)

with tempfile.TemporaryDirectory() as root:
    build = covered(root, {"core/util/dead.c": "int dead(void);\nint dead(void)\n{\n    return 3;\n}\n"})
    status, output = run(ROOT / "tools/check-reach", build, root)
    ok(status == 1 and "no counters" in output, "no counters are a problem", output)
    subprocess.run([f"{build}/main"], check=True)
    status, output = run(ROOT / "tools/check-reach", build, root)
    ok(status == 1, "unreached files are a problem", output)
    ok("core/util/idle.c: no test" in output, "a file that is linked and never called counts as unreached", output)
    ok("core/util/dead.c: no test" in output, "a file that is not built counts as unreached", output)
    ok("core/util/reached.c: no test" not in output, "a file whose function ran counts as reached", output)
    os.remove(f"{root}/core/util/dead.c")
    subprocess.run([f"{build}/main", *"123456789"], check=False)
    status, output = run(ROOT / "tools/check-reach", build, root)
    ok(status == 0 and "0 not reached" in output, "all reached is no problem", output)
finish()
