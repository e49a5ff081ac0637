"""make install: what lands where, and that a stranger's plug-in compiles against it with nothing but pkg-config."""
import os
import pathlib
import subprocess
import tempfile

from tap import BUILD, ROOT, finish, ok, run

PLUGIN = """
#include <fermata/backend.h>
#include <fermata/operator.h>
const struct fm_backend *mine(void);
const struct fm_backend *mine(void)
{
    static const struct fm_backend table = {.struct_size = sizeof(struct fm_backend), .abi_major = FM_BACKEND_ABI_MAJOR};
    return &table;
}
"""

with tempfile.TemporaryDirectory() as stage:
    status, output = run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", stage)
    ok(status == 0, "installs below DESTDIR", output)
    found = [path.relative_to(stage).as_posix() for path in pathlib.Path(stage).rglob("*")]
    for suffix in ["bin/fermata", "include/fermata/backend.h", "include/fermata/operator.h", "include/fermata/status.h",
                   "include/fermata/tensor.h", "fermata/plugins/libfm_backend_identity.so", "fermata/plugins/libfm_backend_emulated.so",
                   "pkgconfig/libfermata.pc", "libfermata.so.0", "include/fermata/client.h",
                   "pkgconfig/libfermata-client.pc", "libfermata-client.so.0", "libfermata-client.a"]:
        ok(any(path.endswith(suffix) for path in found), f"installs {suffix}", "\n".join(found))
    config = next((path for path in pathlib.Path(stage).rglob("libfermata.pc")), None)
    env = {**os.environ, "PKG_CONFIG_PATH": str(config.parent if config else ""), "PKG_CONFIG_SYSROOT_DIR": stage}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libfermata"], env=env, capture_output=True, text=True, check=False)
    ok(flags.returncode == 0, "pkg-config knows libfermata", flags.stderr)
    source = pathlib.Path(stage) / "mine.c"
    source.write_text(PLUGIN, encoding="utf-8")
    include = [word for word in flags.stdout.split() if word.startswith("-I")]
    status, output = run(*os.environ.get("FM_CC", "cc").split(), "-std=c17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *include,
                         "-o", f"{stage}/mine.so", source, cwd=stage)
    ok(status == 0, "a plug-in compiles against what was installed", output)
    library = next((path.parent for path in pathlib.Path(stage).rglob("libfermata.so")), stage)
    status, output = run(*os.environ.get("FM_CC", "cc").split(), "-std=c17", "-Wall", "-Wextra", "-Werror", *include, "-o", f"{stage}/embed",
                         ROOT / "examples/embed/read_page.c", f"-L{library}", "-lfermata", cwd=stage)
    ok(status == 0 or os.environ.get("FM_SANITIZE", "none") != "none", "the embedding example links against what was installed", output)
    # Alone, as whoever asks a server from elsewhere has it: shared, and without it at run time.
    for name, how in (("shared", []), ("static", ["--static"])):
        words = subprocess.run(["pkg-config", "--libs", *how, "libfermata-client"], env={**env, "PKG_CONFIG_SYSROOT_DIR": ""}, capture_output=True,
                               text=True, check=False)
        ok(words.returncode == 0, f"pkg-config knows libfermata-client, {name}", words.stderr)
        libraries = [f"-L{library}", *(word for word in words.stdout.split() if not word.startswith("-L"))]
        if how:
            libraries = [f"{library}/libfermata-client.a" if word == "-lfermata-client" else word for word in libraries]
        status, output = run(*os.environ.get("FM_CC", "cc").split(), "-std=c17", "-Wall", "-Wextra", "-Werror", *include, "-o", f"{stage}/ask-{name}",
                             ROOT / "examples/client/infer_once.c", *libraries, cwd=stage)
        sanitized = os.environ.get("FM_SANITIZE", "none") != "none"
        ok(status == 0 or sanitized, f"the client's example links against what was installed, {name}", output)
        done = subprocess.run([f"{stage}/ask-{name}", "http://127.0.0.1:1", "m", "x", "1"], env={**os.environ, "LD_LIBRARY_PATH": str(library)},
                              capture_output=True, text=True, check=False) if status == 0 and not sanitized else None
        ok(sanitized or (done is not None and "cannot connect to" in done.stderr), f"the client's example runs, {name}", str(done))
    program = next((path for path in pathlib.Path(stage).rglob("bin/fermata")), "/nonexistent/fermata")
    status, output = run(program, "--version")
    ok(status == 0 and "fermata" in output, "the installed program starts", output)
finish()
