"""Parquet and CSV under kills at random moments: no part is ever seen torn, and what is there in the end is what an undisturbed job writes."""
import os
import random
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
from batch_job import Rows, read_back, signalled, start, workers_of  # noqa: E402
from tap import contains, fermata, run, test  # noqa: E402

SEED = int(os.environ.get("FM_SEED", "1"))
MODEL = """backend: emulated
max_batch_size: 4
instances: 2
settings: {inputs: "x:FP32[-1,3]", outputs: "y:FP32[-1,2]", alpha: 1ms, beta: 5ms}
"""
ROWS = 600
TABLE = "user,a,b,c,label\n" + "".join("u%d,%d,%s,3,l%d\n" % (i, i, "oops" if i % 97 == 5 else "2", i) for i in range(ROWS))
BAD = sorted("u%d" % i for i in range(ROWS) if i % 97 == 5)


def job_of(sink):
    return Rows({"1.csv": TABLE}, given="columns: {x: [a, b, c]}, id: user", model=MODEL, output="{directory: out, format: %s, passthrough: [label]}" % sink,
                keys="shard_rows: 20\n")


def check_visible(job):
    """Whatever was killed: what is wrong is that something is missing, and nothing else."""
    if not (job.out / ".fermata" / "ledger.db").exists():
        return
    out, _ = fermata("job", "verify", job.out, code=None)
    for line in out.splitlines():
        if line.startswith("wrong: "):
            assert re.search(r"the job is not complete|is committed and lies in stage|the ledger '.*' is empty", line), out


@test
def kills_at_random_moments_leave_the_undisturbed_output():
    for sink in ("parquet", "csv"):
        with job_of(sink) as job:
            fermata("batch", job.file, "--quiet", code=4)
            expected = read_back(job, sink, ["label", "y"])
            assert len(expected) == ROWS - len(BAD)
        for seed in range(SEED, SEED + 2):
            chance = random.Random(seed)
            with job_of(sink) as job:
                kills = 0
                code = -9
                while code == -9:
                    process = start(job, "--resume", "--quiet", "--workers", "2")
                    end = time.monotonic() + chance.uniform(0.1, 1)
                    while process.poll() is None and (time.monotonic() < end or kills >= 12):
                        time.sleep(chance.uniform(0.02, 0.2))
                        workers = workers_of(process)
                        if workers and kills < 12 and chance.random() < 0.5:
                            signalled(chance.choice(workers), signal.SIGKILL)
                            kills += 1
                    if process.poll() is None:
                        process.kill()
                        kills += 1
                    _, err = process.communicate()
                    code = process.returncode
                    check_visible(job)
                assert code == 4, err
                contains(fermata("job", "verify", job.out, code=4)[0], "%d rows in, %d results + %d dead letters" % (ROWS, ROWS - len(BAD), len(BAD)))
                assert read_back(job, sink, ["label", "y"]) == expected
                assert sorted(job.letters()) == BAD and os.listdir(job.out / "stage") == []
                print("# %s, seed %d: complete after %d kills" % (sink, seed, kills))


run()
