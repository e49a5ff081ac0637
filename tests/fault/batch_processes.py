"""Processes of a batch job that hang, leak and run out of memory: what they cost, what becomes of their rows, what is counted and told."""
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
from batch_job import Job, OperatorJob, end_of, signalled, start, wait_for, workers_of  # noqa: E402
from tap import FERMATA, Skip, fermata, run, test  # noqa: E402

NO_RESTARTS = {"crash": 0, "hang": 0, "out_of_memory": 0, "recycled": 0, "lost": 0}


def end_event(out):
    end = json.loads(out.splitlines()[-1])
    assert end["event"] == "end", end
    return end


def without_sanitizers():
    """They map terabytes for themselves, so that no limit on memory can be set."""
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("sanitizers map more memory than any limit")


@test
def a_stage_that_hangs_costs_its_process_and_the_row_is_found():
    with OperatorJob(60, {21: "hang, and that is that", 50: "stubborn"}, "shard_rows: 16\nlimits: {stage_time: 400ms}\n") as job:
        out, err = fermata("batch", job.file, "--workers", "2", code=4)
        job.check_complete()
        letters = job.lines("errors")
        assert sorted(letter["id"] for letter in letters) == ["row-0021", "row-0050"], letters
        for letter in letters:
            assert letter["stage"] == "crash" and letter["code"] == "EDEADLINE", letter
            assert "limits.stage_time" in letter["message"] and "0.4 s" in letter["message"], letter
        # Twice for its shard and once for each of four halvings; the second is in a shard of 12 rows. Fewer where a worker without work had taken over a part.
        hangs = err.count("was hanging: stage 'crash' hangs with row")
        assert 9 <= hangs <= 12, err
        assert "workers started again: %d (%d hang)" % (hangs, hangs) in out, out


@test
def a_hang_in_a_batch_of_a_model_is_found():
    model = """backend: emulated
max_batch_size: 4
instances: 1
settings: {inputs: "x:BYTES[-1,1]", outputs: "y:FP32[-1,2]", alpha: 1ms, beta: 60s}
"""
    with Job(count=2, model=model, keys="limits: {stage_time: 300ms}\nerrors: {max_ratio: 1}\n") as job:
        out, _ = fermata("batch", job.file, "--json", code=4)
        assert end_event(out)["restarts"]["hang"] > 0
        job.check_complete()
        assert all(letter["stage"] == "model" and letter["code"] == "EDEADLINE" for letter in job.lines("errors")), job.lines("errors")


@test
def a_hang_that_has_no_limit_ends_with_the_job():
    with OperatorJob(8, {3: "stubborn hang"}, "rows_in_flight: 1\n") as job:
        process = start(job)
        workers = wait_for(lambda: workers_of(process))
        wait_for(lambda: list((job.out / "stage").glob("part-*")) if (job.out / "stage").exists() else [])
        process.kill()
        process.communicate()
        wait_for(lambda: not any(os.path.exists("/proc/%d" % worker) for worker in workers), 20)


@test
def a_worker_that_hangs_before_it_asks_for_work_is_ended():
    """As a model does that never finishes loading; the next one may do better."""
    with OperatorJob(20, keys="limits: {begin_time: 1500ms}\n") as job:
        stopper = job.path / "hangs"
        stopper.write_text("")
        os.environ["FM_TEST_HANG_FILE"] = str(stopper)
        try:
            process = start(job)
            first = wait_for(lambda: workers_of(process))[0]
            wait_for(lambda: first not in workers_of(process))
            stopper.unlink()
            out, err = end_of(process, 0)
        finally:
            del os.environ["FM_TEST_HANG_FILE"]
        job.check_complete()
        assert "was hanging: it had not asked for work after 1.5 s (limits.begin_time)" in err, err
        assert " hang)" in out, out


@test
def workers_that_never_begin_end_the_job():
    with OperatorJob(20, keys="limits: {begin_time: 1s}\n") as job:
        (job.path / "hangs").write_text("")
        _, err = fermata("batch", job.file, code=5, env={"FM_TEST_HANG_FILE": str(job.path / "hangs")})
        assert "3 workers in a row could not begin to work; the last one: it had not asked for work after 1.0 s" in err, err
        fermata("batch", job.file, "--resume")
        job.check_complete()
        job.file.write_text(job.file.read_text().replace("begin_time: 1s", "begin_time: 10ms"))
        assert "'begin_time' must be 1s or more" in fermata("batch", job.file, "--restart", code=3)[1]


@test
def a_worker_that_is_stopped_for_long_is_ended_and_replaced():
    with OperatorJob(2, {1: "hang"}, "shard_rows: 1\nrows_in_flight: 1\n") as job:
        process = start(job)
        worker = wait_for(lambda: workers_of(process))[0]
        wait_for(job.lines)  # the first row is there: the worker is at the second
        signalled(worker, signal.SIGSTOP)
        (job.path / "in" / "row-0001").write_text("a row like others")
        out, err = end_of(process, 0)
        assert "workers started again: 1 (1 hang)" in out, out
        assert "not heard of for 30 s" in err, err
        job.check_complete()


@test
def a_process_that_leaks_is_recycled_in_time():
    without_sanitizers()
    rows = {i: "leak 10 take 1" for i in range(50)}
    with OperatorJob(50, rows, "operator_threads: 1\nrows_in_flight: 2\nworkers: {memory: 256MiB}\n") as job:
        out, _ = fermata("batch", job.file, "--json")
        job.check_complete()
        end = end_event(out)
        assert end["restarts"] == dict(NO_RESTARTS, recycled=end["restarts"]["recycled"]) and end["restarts"]["recycled"] >= 1, end
        assert end["worker_memory_peak_bytes"] < 256 << 20, end
        out, err = fermata("batch", job.file, "--restart")
        assert "recycled)" in out and "was recycled: its memory has grown to" in err and "of 256 MiB" in err, (out, err)


@test
def a_fast_leak_loses_nothing_either():
    without_sanitizers()
    with OperatorJob(60, {i: "leak 20" for i in range(60)}, "shard_rows: 16\n") as job:
        out, _ = fermata("batch", job.file, "--json", "--worker-memory", "256MiB")
        job.check_complete()
        end = end_event(out)
        assert end["restarts"]["out_of_memory"] + end["restarts"]["recycled"] >= 4, end


@test
def rows_that_do_not_fit_together_are_done_with_fewer_at_once():
    without_sanitizers()
    keys = "shard_rows: 16\nrows_in_flight: 16\noperator_threads: 8\n"
    with OperatorJob(40, {i: "take 70" for i in range(40)}, keys) as job:
        out, _ = fermata("batch", job.file, "--json", "--worker-memory", "300MiB", "--workers", "2")
        job.check_complete()
        end = end_event(out)
        assert 1 <= end["memory_halvings"] <= 4, end
        assert end["restarts"]["out_of_memory"] >= 1 and end["restarts"]["crash"] == end["restarts"]["lost"] == 0, end


@test
def a_row_that_does_not_fit_alone_becomes_a_dead_letter_and_no_other():
    without_sanitizers()
    with OperatorJob(40, {7: "take 9000"}, "shard_rows: 16\nrows_in_flight: 16\nworkers: {memory: 300MiB}\n") as job:
        out, _ = fermata("batch", job.file, "--json", "--workers", "2", code=4)
        job.check_complete()
        letters = job.lines("errors")
        assert [(letter["id"], letter["stage"], letter["code"]) for letter in letters] == [("row-0007", "crash", "ENOMEM")], letters
        end = end_event(out)
        assert end["memory_halvings"] == 4 and end["restarts"]["out_of_memory"] >= 4, end


@test
def a_crash_near_to_the_limit_is_lack_of_memory():
    without_sanitizers()
    with OperatorJob(10, {3: "collapse 430"}, "shard_rows: 2\nrows_in_flight: 4\noperator_threads: 1\nworkers: {memory: 512MiB}\n") as job:
        out, _ = fermata("batch", job.file, "--json", code=4)
        job.check_complete()
        letters = job.lines("errors")
        assert [(letter["id"], letter["stage"], letter["code"]) for letter in letters] == [("row-0003", "process", "ENOMEM")], letters
        end = end_event(out)
        assert end["memory_halvings"] == 2 and end["restarts"]["crash"] == 0 and end["restarts"]["out_of_memory"] >= 4, end


@test
def models_that_do_not_fit_are_one_clear_message():
    without_sanitizers()
    with OperatorJob(4, keys="operator_threads: 64\nworkers: {memory: 64MiB}\n") as job:
        _, err = fermata("batch", job.file, "--quiet", code=6)
        assert "64 MiB that a worker may have (workers.memory)" in err and "operator thread" in err and err.count("\n") == 1, err


@test
def the_kernel_ends_a_process_for_lack_of_memory():
    """With a memory group of its own around the job, as a container has one."""
    without_sanitizers()
    group = "/sys/fs/cgroup/memory/fermata-test-%d" % os.getpid()
    try:
        os.mkdir(group)
    except OSError:
        raise Skip("a memory group cannot be made here")
    try:
        with open(group + "/memory.limit_in_bytes", "w", encoding="ascii") as limit:
            limit.write(str(200 << 20))
        with OperatorJob(24, {i: "take 70" for i in range(24)}, "shard_rows: 8\nrows_in_flight: 8\noperator_threads: 8\n") as job:
            process = subprocess.Popen(["sh", "-c", "echo $$ > %s/cgroup.procs && exec \"$@\"" % group, "sh", FERMATA, "batch", job.file],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            out, err = end_of(process, 0)
            job.check_complete()
            assert "out_of_memory)" in out and "lost" not in out, (out, err)
            assert "ran out of memory (signal 9 (Killed))" in err, err
    finally:
        wait_for(lambda: not open(group + "/cgroup.procs", encoding="ascii").read())
        os.rmdir(group)


run()
