"""perf/batch_resume: the measurement of resuming still runs (nothing is judged here)."""
import json
import os
import subprocess

from tap import FERMATA, ROOT, Skip, run, test

BUILD = os.path.dirname(os.path.abspath(FERMATA))


@test
def resuming():
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("measuring says nothing here, and takes long")
    done = subprocess.run([os.path.join(ROOT, "perf/batch_resume"), BUILD, "--quick", "--json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])}
    assert sum("bar" in row for row in rows.values()) == 3, rows
    assert rows["first results of a resumed one"]["value"] > 0 and rows["rows done twice, in shards"]["value"] >= 0, rows


run()
