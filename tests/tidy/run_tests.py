"""The counting of tools/run-tests: what the last line of ./test.sh rests on."""
import importlib.machinery
import importlib.util
import json
import os
import tempfile

from tap import ROOT, finish, ok, run

TOOL = ROOT / "tools/run-tests"
loader = importlib.machinery.SourceFileLoader("run_tests", str(TOOL))
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_tests", loader))
loader.exec_module(module)


def counted(tests):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as log:
        for name, result, stdout in tests:
            log.write(json.dumps({"name": name, "result": result, "stdout": stdout, "returncode": 1}) + "\n")
        log.flush()
        passed, failures, skips = module.count_log(log.name)
        return passed, len(failures), len(skips)


for name, tests, expected in [
    ("counts subtests", [("a", "OK", "1..2\nok 1 - x\nok 2 - y\n"), ("b", "OK", "ok 1 - z\n1..1\n")], (3, 0, 0)),
    ("counts failures", [("a", "FAIL", "ok 1 - x\nnot ok 2 - y\n1..2\n")], (1, 1, 0)),
    ("counts skips with a reason", [("a", "OK", "ok 1 - x # SKIP no device\nok 2 - y\n1..2\n")], (1, 0, 1)),
    ("counts a test skipped as a whole", [("a", "SKIP", "1..0 # SKIP no compiler\n")], (0, 0, 1)),
    ("a crash after good subtests is one failure", [("a", "ERROR", "ok 1 - x\n")], (1, 1, 0)),
    ("a time limit is one failure", [("a", "TIMEOUT", "")], (0, 1, 0)),
    ("what is not TAP is not counted", [("a", "OK", "okay\nnot okay\n# ok 3\nok 1\n1..1\n")], (1, 0, 0)),
]:
    result = counted(tests)
    ok(result == expected, name, f"expected {expected}, got {result}")

with tempfile.TemporaryDirectory() as folder:
    totals = os.path.join(folder, "totals")
    ok(run(TOOL, "--totals", totals, "--sum") == (1, "0 passed, 0 failed, 0 skipped\n"), "nothing run is not a success")
    run(TOOL, "--totals", totals, "--count", "good", "--", "true")
    ok(run(TOOL, "--totals", totals, "--sum") == (0, "1 passed, 0 failed, 0 skipped\n"), "one good command")
    status, _ = run(TOOL, "--totals", totals, "--count", "bad", "--", "false")
    ok(status == 1, "a bad command's status is passed on")
    ok(run(TOOL, "--totals", totals, "--sum") == (1, "1 passed, 1 failed, 0 skipped\n"), "one failure fails the sum")
finish()
