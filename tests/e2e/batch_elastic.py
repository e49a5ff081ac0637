"""A job that has as many workers as it wants: it grows while that pays or until it finishes in time, shrinks, says why, and survives kills."""
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import Job, end_of, signalled, start, wait_for, workers_of  # noqa: E402
from tap import FERMATA, contains, fermata, run, test  # noqa: E402

# One row at a time: what a worker brings does not depend on the machine.
MODEL = """backend: emulated
max_batch_size: 1
instances: 1
settings: {inputs: "x:BYTES[-1,1]", outputs: "y:FP32[-1,2]", alpha: 25ms}
"""
KEYS = "rows_in_flight: 4\n"


def progress_of(out):
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "end", events[-1]
    return [event for event in events if event["event"] == "progress"], events[-1]


@test
def it_begins_with_the_least_and_grows_while_that_pays():
    with Job(count=1200, model=MODEL, keys=KEYS) as job:
        out, _ = fermata("batch", job.file, "--workers", "1..4", "--json", timeout=300)
        job.check_complete()
        progress, end = progress_of(out)
        wanted = [event["workers_wanted"] for event in progress]
        assert wanted[0] == 1 and max(wanted) == 4, wanted
        assert [a for a, b in zip([0] + wanted, wanted) if b < a] == [] or wanted[-1] < 4, wanted
        assert any("measuring" in (event["workers_wanted_why"] or "") for event in progress)
        assert any("more workers bring more" in (event["workers_wanted_why"] or "") and "rows/s per worker" in event["workers_wanted_why"] for event in progress)
        assert max(event["workers"] for event in progress) == 4
        # 30 s of work for one: more of them have helped, however busy the machine.
        assert end["seconds"] < 30 and end["finish_by"] is None and end["late"] is False, end
        assert sum(end["restarts"].values()) == 0, end


@test
def as_many_as_finish_in_time_and_no_more():
    with Job(count=1600, model=MODEL, keys=KEYS + "finish_by: 30s\n") as job:
        out, _ = fermata("batch", job.file, "--workers", "1..8", "--json", timeout=300)
        progress, end = progress_of(out)
        job.check_complete()
        wanted = [event["workers_wanted"] for event in progress]
        assert 2 <= max(wanted) <= 5, wanted  # 40 s of work
        assert any("finish_by in 0:" in event["workers_wanted_why"] for event in progress)
        assert end["late"] is False and end["finish_by"].endswith("Z"), end


@test
def what_cannot_be_finished_in_time_is_said_once_and_in_the_end():
    with Job(count=600, model=MODEL, keys=KEYS) as job:
        out, err = fermata("batch", job.file, "--workers", "1", "--finish-by", "10s", timeout=300)
        job.check_complete()
        assert err.count("cannot be met: ") == 1, err
        contains(err, "rows left at", "rows/s per worker, with 1 workers")
        contains(out, "to be finished by 20", " late")
        out, _ = fermata("batch", job.file, "--resume")
        assert "to be finished by" not in out, "it was finished by an earlier run: %s" % out
        end = json.loads(fermata("batch", job.file, "--resume", "--json")[0].splitlines()[-1])
        assert end["late"] is False and end["finish_by"], end


@test
def workers_that_get_no_more_work_go():
    """The last rows take very long: those who have none of them are not wanted any more."""
    model = MODEL.replace("alpha: 25ms", "alpha: 20ms, hang_every: 400, hang: 9s")
    with Job(count=1600, model=model, keys=KEYS + "limits: {stage_time: 60s}\n") as job:
        process = start(job, "--workers", "1..4", "--json")
        wait_for(lambda: len(workers_of(process)) == 4, 120)
        out, _ = end_of(process, 0, 300)
        job.check_complete()
        progress, end = progress_of(out)
        assert sum(end["restarts"].values()) == 0, end
        full = max(i for i, event in enumerate(progress) if event["workers"] == 4)
        assert min(event["workers"] for event in progress[full:]) < 4, [event["workers"] for event in progress]


@test
def kills_meanwhile_lose_nothing():
    chance = random.Random(11)
    with Job(count=1500, model=MODEL, keys=KEYS) as job:
        events = job.path / "events"  # a pipe that nobody reads meanwhile would hold the master up
        with open(events, "wb") as file:
            process = subprocess.Popen([FERMATA, "batch", job.file, "--workers", "1..5", "--json"], stdout=file, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 200
        kills = 0
        while process.poll() is None and time.monotonic() < end:
            workers = workers_of(process)
            if workers and kills < 12 and chance.random() < 0.3:
                kills += 1
                signalled(chance.choice(workers), signal.SIGKILL)
            try:
                process.wait(0.8)
            except subprocess.TimeoutExpired:
                pass
        assert process.wait(120) == 0
        job.check_complete()
        progress, end = progress_of(events.read_text())
        assert all(1 <= event["workers_wanted"] <= 5 for event in progress)
        assert end["restarts"]["lost"] > 0, end


@test
def a_resumed_job_keeps_its_time():
    with Job(count=400, model=MODEL, keys=KEYS) as job:
        process = start(job, "--workers", "1", "--json", "--finish-by", "2h")
        wait_for(lambda: job.lines() if job.out.exists() else [])
        signalled(process.pid, signal.SIGTERM)
        _, first = progress_of(end_of(process, 143)[0])
        _, second = progress_of(fermata("batch", job.file, "--resume", "--json", "--limit", "400")[0])
        assert first["finish_by"] == second["finish_by"] is not None, (first, second)
        job.add(400, 2)
        _, third = progress_of(fermata("batch", job.file, "--resume", "--json", "--finish-by", "2030-01-01T01:00+01:00")[0])
        assert third["finish_by"].startswith("2030-01-01T00:00:00"), third
        job.add(402, 2)
        _, fourth = progress_of(fermata("batch", job.file, "--resume", "--json", "--finish-by", "none")[0])
        assert fourth["finish_by"] is None, fourth
        job.check_complete()


@test
def wrong_times_and_numbers_are_told():
    with Job(count=2) as job:
        for workers in ("..", "3..2", "1..257", "0..3", "many", "1..", "-1"):
            contains(fermata("batch", job.file, "--workers=" + workers, code=2)[1], "--workers: ")
        contains(fermata("batch", job.file, "--finish-by", "soon", code=2)[1], "'soon' is no time to finish by")
        job.file.write_text(job.file.read_text() + "finish_by: 2026-11-23T06:00:00\n")
        contains(fermata("batch", job.file, code=3)[1], "job.yaml:7:", "is no time to finish by")


run()
