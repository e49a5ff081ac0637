"""perf/batch_flat: the measurement of what does not grow with a job still runs (nothing is judged here)."""
import json
import os
import subprocess

from tap import FERMATA, ROOT, Skip, run, test

BUILD = os.path.dirname(os.path.abspath(FERMATA))


@test
def large_and_small_jobs():
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("measuring says nothing here, and takes long")
    done = subprocess.run([os.path.join(ROOT, "perf/batch_flat"), BUILD, "--quick", "--json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])}
    assert sum("bar" in row for row in rows.values()) == 5, rows
    assert rows["peak of the worker, 100000 rows"]["value"] > 1 and rows["first results, one file"]["value"] > 0, rows


run()
