"""perf/ledger: the measurement of the batch ledger still runs (nothing is judged here)."""
import json
import os
import subprocess

from tap import FERMATA, ROOT, Skip, run, test

BUILD = os.path.dirname(os.path.abspath(FERMATA))


@test
def the_ledger():
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("measuring says nothing here, and takes long")
    done = subprocess.run([os.path.join(ROOT, "perf/ledger"), BUILD, "--quick", "--json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])}
    assert all(row["value"] >= 0 for row in rows.values()), rows
    assert sum("bar" in row for row in rows.values()) == 3, rows
    assert rows["pairs per transaction, one put for each decision"]["value"] == 0.5, rows


run()
