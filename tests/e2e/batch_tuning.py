"""fermata batch sets threads, rows in flight and batches while it runs; what the job file says stays."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import OperatorJob, Rows  # noqa: E402
from tap import contains, fermata, run, test  # noqa: E402

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


@test
def models_that_do_not_say_their_batch_get_larger_ones():
    model = 'backend: emulated\ninstances: 1\nsettings: {inputs: "x:FP32[-1]", outputs: "y:FP32[-1]", alpha: 0ms, beta: 40ms}\n'
    files = {"a.csv": "x\n" + "".join("%d\n" % i for i in range(2000))}  # 250 batches of 8: 10 s; 32 of 64: 1.3 s
    with Rows(files, given="columns: {x: x}", model=model, keys="") as job:
        start = time.monotonic()
        fermata("batch", job.file)
        assert time.monotonic() - start < 7
        assert len(job.lines()) == 2000
    with Rows(files, given="columns: {x: x}", model=model, keys="max_batch_size: 0\n") as job:
        _, err = fermata("batch", job.file, code=3)
        contains(err, "max_batch_size", "from 1 to 1024")


run()
