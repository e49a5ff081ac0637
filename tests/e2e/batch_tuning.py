"""fermata batch sets threads, rows in flight and batches while it runs; what the job file says stays."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import OperatorJob, Rows  # noqa: E402
from tap import fermata, run, test  # noqa: E402

CPUS = len(os.sched_getaffinity(0))
WAIT_S = 0.02


def sleepers(count):
    return {i: "sleep %d, row %d" % (1000 * WAIT_S, i) for i in range(count)}


def timed(job):
    start = time.monotonic()
    fermata("batch", job.file)
    seconds = time.monotonic() - start
    job.check_complete()
    return seconds


@test
def operators_that_wait_get_more_threads():
    count = 500 * CPUS  # 10 s with a thread for each CPU
    with OperatorJob(count, rows=sleepers(count)) as job:
        assert timed(job) < 0.7 * count * WAIT_S / CPUS


@test
def what_the_job_file_says_is_not_tuned():
    count = 60
    with OperatorJob(count, rows=sleepers(count), keys="operator_threads: 1\nread_threads: 1\nrows_in_flight: 2\n") as job:
        assert timed(job) >= count * WAIT_S


@test
def batches_that_do_not_pay_become_smaller():
    # 64 rows at once take twenty times as long as eight times eight.
    model = 'backend: emulated\nmax_batch_size: 64\nsettings: {inputs: "x:FP32[-1]", outputs: "y:FP32[-1]", latency: "1:2ms, 8:4ms, 16:80ms, 64:640ms"}\n'
    rows = 4000
    with Rows({"a.csv": "x\n" + "".join("%d\n" % i for i in range(rows))}, given="columns: {x: x}", model=model, keys="") as job:
        # All by 64: 40 s; by 8: 2 s.
        start = time.monotonic()
        fermata("batch", job.file)
        assert time.monotonic() - start < 25
        assert len(job.lines()) == rows


run()
