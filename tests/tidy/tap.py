"""TAP for the checks of the tree: each check is run over the tree and then shown, on a small tree of its own, that it can fail."""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("FM_SOURCE_ROOT", pathlib.Path(__file__).parent.parent.parent)).resolve()
BUILD = pathlib.Path(os.environ.get("FM_BUILD_ROOT", ROOT / "build")).resolve()
HEAD = "/* A file of the self-test. */\n"
count = 0
failed = 0


def ok(passed, name, detail=""):
    global count, failed
    count += 1
    failed += 0 if passed else 1
    if not passed:
        print("".join(f"# {line}\n" for line in detail.splitlines()), end="")
    print(f"{'ok' if passed else 'not ok'} {count} - {name}", flush=True)


def skip(name, reason):
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {reason}", flush=True)


def run(*command, **options):
    options.setdefault("cwd", ROOT)
    try:
        result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                errors="replace", check=False, **options)
    except FileNotFoundError as error:
        return 127, str(error)
    return result.returncode, result.stdout


def clean(name, *command):
    """The check finds nothing."""
    status, output = run(*command)
    ok(status == 0, name, output)


def write(root, files):
    for path, text in files.items():
        file = pathlib.Path(root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def verdict(tool, files, expected, name):
    """Runs tool over a tree made of `files`; `expected` is a piece of the complaint it must make, or None when it must not complain."""
    with tempfile.TemporaryDirectory() as root:
        write(root, files)
        status, output = run(ROOT / "tools" / tool, root)
        if expected is None:
            ok(status == 0, f"accepts {name}", output)
        else:
            ok(status == 1 and expected in output, f"rejects {name}", f"status {status}, expected: {expected}\n{output}")


def finish():
    print(f"1..{count}")
    sys.exit(1 if failed else 0)
