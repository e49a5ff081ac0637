"""TAP for tests in Python: register functions with @test, end with run()."""
import json
import os
import subprocess
import sys
import traceback

FERMATA = os.environ["FERMATA"]
ROOT = os.environ["FM_SOURCE_ROOT"]
MODELS = os.environ.get("FM_MODELS", "")
tests = []


class Skip(Exception):
    """Raised by a test that cannot run here; the text says why."""


def test(function):
    tests.append(function)
    return function


def fermata(*arguments, code=0, stdin=b"", env=None, timeout=240, cwd=None):
    """Runs the program, checks its exit code (None: any), and returns (stdout, stderr) as text."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run([FERMATA, *map(str, arguments)], input=stdin, capture_output=True, env=environment, timeout=timeout, cwd=cwd)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert code is None or done.returncode == code, "fermata %s: exit code %d, expected %d\nstdout: %s\nstderr: %s" % (
        " ".join(map(str, arguments)), done.returncode, code, out[-2000:], err[-2000:])
    return out, err


def fermata_json(*arguments, **options):
    return json.loads(fermata(*arguments, **options)[0])


def contains(text, *parts):
    for part in parts:
        assert part in text, "%r is not in:\n%s" % (part, text)


def run():
    failed = 0
    for number, function in enumerate(tests, 1):
        name = function.__name__
        try:
            function()
            print("ok %d - %s" % (number, name), flush=True)
        except Skip as reason:
            print("ok %d - %s # SKIP %s" % (number, name, reason), flush=True)
        except Exception:
            failed += 1
            for line in traceback.format_exc().splitlines():
                print("# " + line)
            print("not ok %d - %s" % (number, name), flush=True)
    print("1..%d" % len(tests))
    sys.exit(1 if failed else 0)
