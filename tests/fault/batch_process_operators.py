"""A batch job with a process operator whose processes are killed at random moments: every row has its result."""
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
from batch_job import Job, wait_for  # noqa: E402
from process_job import all_gone, pipeline_write, processes_of  # noqa: E402
from tap import FERMATA, fermata, run, test  # noqa: E402

SEED = int(os.environ.get("FM_SEED", "1"))


def job_make(count, more):
    job = Job(count=count, keys="shard_rows: 25\nrows_in_flight: 16\noperator_threads: 4\n")
    pipeline_write(job.path / "pipe", "pipeline.yaml", more=more)
    job.file.write_text(job.file.read_text().replace("pipeline: model", "pipeline: pipe/pipeline.yaml"))
    for i in range(count):
        # Some take long enough to be killed in the middle.
        (job.path / "in" / ("row-%04d" % i)).write_text("sleep 0.02" if i % 3 == 0 else "row %d" % i)
    return job


def wait_for_work(job, process):
    """Until a worker has loaded the pipeline: a process that is killed while it loads is no row's matter, but ends the job."""
    wait_for(lambda: process.poll() is not None or any((job.out / "stage").glob("*")))


def age_s(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as file:
            ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def kill_at_random(chance, job, process, limit):
    """Mostly those that work: where five in a row are killed while they start, nobody takes that for chance, and the items fail."""
    kills = 0
    while process.poll() is None and kills < limit:
        time.sleep(chance.uniform(0, 0.2))
        alive = processes_of(job.path / "pipe")
        if chance.random() < 0.9:
            alive = [pid for pid in alive if age_s(pid) > 0.5]
        if alive and process.poll() is None:
            try:
                os.kill(chance.choice(alive), chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))
                kills += 1
            except ProcessLookupError:
                pass
    return kills


@test
def processes_killed_at_random_moments_cost_no_row():
    for seed in range(SEED, SEED + 2):
        chance = random.Random(seed)
        with job_make(1500, "processes: 4\n      attempts: 10") as job:
            process = subprocess.Popen([FERMATA, "batch", job.file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            wait_for_work(job, process)
            kills = kill_at_random(chance, job, process, 30)
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0 and kills > 5, "seed %d: exit code %d after %d kills: %s" % (seed, process.returncode, kills, err[-2000:])
            job.check_complete()
            all_gone(job.path / "pipe")


@test
def with_the_master_killed_too():
    chance = random.Random(SEED)
    with job_make(300, "processes: 2\n      attempts: 10") as job:
        for _ in range(4):
            process = subprocess.Popen([FERMATA, "batch", job.file, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            kill_at_random(chance, job, process, 4)
            process.kill()
            process.wait(60)
            all_gone(job.path / "pipe")
        fermata("batch", job.file, "--resume")
        job.check_complete()


run()
