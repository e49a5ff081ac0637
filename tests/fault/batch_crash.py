"""A batch job that dies, at every named point and at random moments, and is resumed until it is complete: nothing lost, nothing twice, no torn file."""
import os
import random
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
from batch_job import SLOW_MODEL, Job  # noqa: E402
from tap import FERMATA, ROOT, Skip, fermata, run, test  # noqa: E402

# These lie before the job begins, where rows come on standard input: tests/e2e/batch_stdin.py.
INPUT_POINTS = ("taking-down", "taken-down")
POINTS = [point for point in re.findall(r'X\([A-Z_]+, "([a-z-]+)"', open(os.path.join(ROOT, "engines/batch/fault.h"), encoding="utf-8").read()) if point not in INPUT_POINTS]
# These lie in a worker: when it dies there, another one takes its place, and the job goes on.
WORKER_POINTS = ("row-written", "before-sync", "before-commit")
SEED = int(os.environ.get("FM_SEED", "1"))
# With a sanitizer a process takes long to begin, and there are hundreds here: each kind of death once shows what there is to be shown.
BRIEF = os.environ.get("FM_SANITIZE", "none") != "none"
COUNTS = (1,) if BRIEF else (1, 3)
SEEDS = range(SEED, SEED + (1 if BRIEF else 3))
KILLS = 15 if BRIEF else 40


def check_visible(job):
    """At any instant: final files are whole, and no input has two lines."""
    ids = [line["id"] for line in job.lines()] + [line["id"] for line in job.lines("errors")]
    assert len(ids) == len(set(ids)), "a row is there twice"
    if (job.out / "_SUCCESS").exists():
        assert (job.out / "_manifest.json").exists()


def finish(job, code=0):
    fermata("batch", job.file, "--resume", "--quiet", code=code)
    job.check_complete()


@test
def a_crash_at_every_point_loses_and_doubles_nothing():
    assert len(POINTS) >= 15
    for point in POINTS:
        if point in WORKER_POINTS:
            continue
        for count in COUNTS:
            with Job(count=30) as job:
                (job.path / "in" / "row-0005").write_bytes(b"")
                first = ["batch", job.file, "--quiet"]
                if point in ("grown-listed", "grown", "reconciled", "discarding"):
                    fermata(*first, code=4)
                    job.add(100, 9)
                    first.append("--restart" if point == "discarding" else "--resume")
                code = fermata_code(*first, "--fault", "%s:%d" % (point, count))
                assert code == -9 or count > 1, "%s was not reached (exit code %d)" % (point, code)
                check_visible(job)
                finish(job, code=4)


@test
def a_worker_that_dies_at_any_point_is_replaced_and_the_job_completes():
    for point in WORKER_POINTS:
        for count in COUNTS:
            with Job(count=30) as job:
                (job.path / "in" / "row-0005").write_bytes(b"")
                _, err = fermata("batch", job.file, "--fault", "%s:%d" % (point, count), code=4)
                assert "worker 1 ended with signal 9" in err, err
                job.check_complete()


@test
def an_error_at_every_point_is_one_clear_message_and_can_be_resumed():
    for point in POINTS:
        with Job(count=30) as job:
            (job.path / "in" / "row-0005").write_bytes(b"")
            first = ["batch", job.file, "--quiet"]
            if point in ("grown-listed", "grown", "reconciled", "discarding"):
                fermata(*first, code=4)
                job.add(100, 9)
                first.append("--restart" if point == "discarding" else "--resume")
            _, err = fermata(*first, "--fault", point + ":1:error", code=6)
            assert err.count("\n") == 1 and "no space" in err and "--resume" in err, err
            check_visible(job)
            finish(job, code=4)


@test
def no_memory_at_every_point_is_one_clear_message_and_can_be_resumed():
    for point in POINTS:
        with Job(count=30) as job:
            (job.path / "in" / "row-0005").write_bytes(b"")
            first = ["batch", job.file, "--quiet"]
            early = point in ("listed", "created", "grown-listed", "grown", "reconciled", "discarding")
            if point in ("grown-listed", "grown", "reconciled", "discarding"):
                fermata(*first, code=4)
                job.add(100, 9)
                first.append("--restart" if point == "discarding" else "--resume")
            if point in ("row-written", "before-sync", "before-commit"):  # in a worker: another one takes its place
                fermata(*first, "--fault", point + ":1:memory", code=4)
                job.check_complete()
                continue
            _, err = fermata(*first, "--fault", point + ":1:memory", code=1 if early else 5)
            assert err.count("\n") == 1 and "out of memory" in err and (early or "--resume" in err), err
            check_visible(job)
            finish(job, code=4)


def fermata_code(*arguments):
    return subprocess.run([FERMATA, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode


def kill_until_complete(job, seed, kills, signals):
    """Kills at random moments; shows its seed when something is wrong."""
    chance = random.Random(seed)
    for attempt in range(2000):
        child = subprocess.Popen([FERMATA, "batch", job.file, "--resume", "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait = chance.uniform(0, 0.25) if attempt < kills else 60
        try:
            _, err = child.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            child.send_signal(chance.choice(signals))
            _, err = child.communicate(timeout=60)
        check_visible(job)
        if child.returncode in (0, 4):
            return attempt
        assert child.returncode in (-9, 130, 143, -2, -15), "seed %d: exit code %d: %s" % (seed, child.returncode, err)
    raise AssertionError("seed %d: never complete" % seed)


@test
def kills_at_random_moments_lose_and_double_nothing():
    for seed in SEEDS:
        with Job(count=300, model=SLOW_MODEL, keys="shard_rows: 11\nrows_in_flight: 12\n") as job:
            (job.path / "in" / "row-0007").write_bytes(b"")
            kills = kill_until_complete(job, seed, KILLS, [9])
            job.check_complete()
            print("# seed %d: complete after %d kills" % (seed, kills))


@test
def kills_and_polite_stops_mixed():
    with Job(count=300, model=SLOW_MODEL, keys="shard_rows: 50\nrows_in_flight: 12\n") as job:
        stops = kill_until_complete(job, SEED, KILLS, [2, 9, 15])
        job.check_complete()
        print("# complete after %d stops" % stops)


@test
def inputs_that_grow_between_kills():
    chance = random.Random(SEED)
    with Job(count=20) as job:
        for step in range(1, 6 if BRIEF else 15):
            job.add(100 * step, chance.randrange(1, 30))
            fermata_code("batch", job.file, "--resume", "--quiet", "--fault", "%s:%d" % (chance.choice(POINTS), chance.randrange(1, 6)))
            check_visible(job)
        finish(job)


@test
def killed_while_inputs_are_still_being_found():
    """Work begins before the list is whole; what was not found yet is new to the next start."""
    with Job(count=0, keys="", input="{files: in}") as job:
        for i in range(60000):
            if i % 1000 == 0:
                (job.path / "in" / ("%02d" % (i // 1000))).mkdir()
            os.symlink("/proc/version", job.path / "in" / ("%02d/%05d" % (i // 1000, i)))
        fermata_code("batch", job.file, "--quiet", "--fault", "grown-listed:1")
        recorded = len(list((job.out / ".fermata").glob("inputs-*")))
        assert recorded == 2, "%d segments: the list was whole before anything had begun" % recorded
        assert not (job.out / "_SUCCESS").exists()
        fermata("batch", job.file, "--resume", "--quiet", "--workers", "2")
        ids = sorted(line["id"] for line in job.lines())
        assert ids == ["%02d/%05d" % (i // 1000, i) for i in range(60000)], len(ids)


@test
def a_full_disk_is_one_error_and_can_be_resumed():
    if os.geteuid() != 0:
        raise Skip("mounting a small tmpfs needs root")
    with Job(count=400, output="{directory: disk, timings: true}", keys="shard_rows: 20\n") as job:
        disk = job.path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            raise Skip("a tmpfs cannot be mounted here")
        try:
            job.out = disk
            filler = disk / "filler"
            filler.write_bytes(b"x" * (390 << 10))
            began = time.monotonic()
            _, err = fermata("batch", job.file, "--quiet", code=6)
            assert "No space left" in err or "full" in err, err
            assert err.count("\n") == 1 and "--resume" in err, err
            assert time.monotonic() - began < 30
            check_visible(job)
            filler.unlink()
            fermata("batch", job.file, "--resume", "--quiet")
            job.check_complete()
        finally:
            subprocess.run(["umount", "-l", disk], check=False)


run()
