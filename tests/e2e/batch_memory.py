"""fermata batch keeps the memory of the rows in work within workers.memory_budget, whatever they are, and tells how much it is."""
import functools
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import Job, OperatorJob, Rows, end_of, start, wait_for  # noqa: E402
from batch_remote_job import NO_STORE, Remote  # noqa: E402
from object_server import Server  # noqa: E402
from tap import FERMATA, run, test  # noqa: E402

MIB = 1 << 20
SANITIZED = os.environ.get("FM_SANITIZE", "none") != "none"

# Everything that is decoded is thrown away but for one pixel.
IMAGES = """name: images
inputs:
  - {name: image, dtype: BYTES, shape: [1]}
stages:
  - {name: decode, operator: image_decode, inputs: image, parameters: {channels: rgb}}
  - {name: shrink, operator: image_tensor, inputs: decode.image, parameters: {width: 16, height: 16}}
outputs: {pixels: shrink.tensor}
"""

ALL_MAY_FAIL = "errors: {max_ratio: 1}\n"


def png(width, height, noise):
    """A picture whose bytes say how large it is (noise), or not (a plain one)."""
    row = random.Random(width * height).randbytes(3 * width) if noise else bytes(3 * width)
    rows = b"".join(b"\0" + row[i % 97:] + row[:i % 97] for i in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 0 if noise else 9)) + chunk(b"IEND", b""))


class Images(Job):
    def __init__(self, files, keys, **options):
        super().__init__(count=0, keys=keys, **options)
        (self.path / "pipeline.yaml").write_text(IMAGES)
        self.file.write_text(self.file.read_text().replace("pipeline: model", "pipeline: pipeline.yaml"))
        first = {}
        for name, picture in files.items():
            if picture in first:
                os.link(first[picture], self.path / "in" / name)
            else:
                first[picture] = self.path / "in" / name
                first[picture].write_bytes(picture)


def resident(process):
    with open("/proc/%d/statm" % process, encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def children(process):
    with open("/proc/%d/task/%d/children" % (process, process), encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


class Watched:
    """The resident memory of the job's worker, every 5 ms; and what the job says of it."""

    def __init__(self, job, rows=None, code=0):
        self.samples = []
        self.said = []
        command = subprocess.Popen([FERMATA, "batch", job.file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **NO_STORE})
        socket_there, looked = False, 0
        while command.poll() is None:
            for child in children(command.pid) if os.path.exists("/proc/%d" % command.pid) else []:
                try:
                    self.samples.append(resident(child))
                except (OSError, IndexError):
                    pass
            now = time.monotonic()
            socket_there = socket_there or (job.out / ".fermata").exists()
            if socket_there and now - looked > 0.1:
                looked = now
                shown = subprocess.run([FERMATA, "job", "show", job.out, "--json"], capture_output=True, text=True, check=False)
                if shown.returncode == 0 and json.loads(shown.stdout).get("master"):
                    self.said += json.loads(shown.stdout)["master"]["workers"]
            time.sleep(0.005)
        self.events = [json.loads(line) for line in command.stdout]
        assert command.returncode == code, (command.returncode, command.stderr.read())
        if rows is None:
            job.check_complete()
        else:
            assert len(job.lines()) == rows
        told = [worker["memory"] for worker in self.said if worker.get("memory")]
        assert told, "nothing was told of the memory"
        self.base = told[-1]["base_bytes"]
        self.most = max(self.samples) - self.base
        self.told_most = max(one["most_bytes"] for one in told)
        print("# base %.1f MiB, most above it %.1f MiB, as told %.1f MiB, %d looks, %.1f s" %
              (self.base / MIB, self.most / MIB, self.told_most / MIB, len(self.samples), 0.005 * len(self.samples)))

    def check(self, budget):
        tuned = [event["tuned"] for event in self.events if event["event"] == "progress" and event["tuned"]["read_threads"] > 0]
        assert all(one["memory_budget_bytes"] == budget and one["read_threads"] == 4 for one in tuned), tuned
        if not SANITIZED:  # their shadow is resident, too
            assert self.most <= 1.1 * budget, "%.1f MiB above the base, of a budget of %.1f" % (self.most / MIB, budget / MIB)


def within(files, budget_mib, keys=""):
    keys = "shard_rows: 1000\nread_threads: 4\noperator_threads: 4\nrows_in_flight: 64\nworkers: {memory_budget: %dMiB}\n%s" % (budget_mib, keys)
    with Images(files, keys) as job:
        Watched(job).check(budget_mib * MIB)


@test
def one_large_picture_in_a_hundred():
    small = png(40, 40, True)
    large = png(1200, 1000, True)  # 3.6 MB as a file and as pixels
    within({"%04d.png" % i: large if i % 100 == 50 else small for i in range(8000)}, 48)


@test
def small_and_large_pictures_by_turns():
    small = png(40, 40, True)
    large = png(1200, 1000, True)
    within({"%04d.png" % i: large if i % 2 else small for i in range(1800)}, 48)


@functools.lru_cache
def growing(step):
    return png(40 + 8 * step, 40 + 6 * step, True)


@test
def pictures_that_grow():
    within({"%04d.png" % i: growing(i // 12) for i in range(1800)}, 64)


@test
def large_pictures_all_at_once():
    small = png(40, 40, True)
    large = png(1600, 1200, True)  # 5.8 MB
    within({"%04d.png" % i: large if 3000 <= i < 3150 else small for i in range(4000)}, 64)


@test
def pictures_whose_bytes_do_not_say_how_large_they_are():
    # Until the first plain one is through nobody knows; four are decoded at once.
    small = png(64, 64, True)
    plain = png(1600, 1200, False)
    assert len(plain) < 2 * len(small)
    within({"%04d.png" % i: plain if i % 40 == 39 else small for i in range(8000)}, 48)


@test
def records_of_which_some_are_large():
    large = "x" * (3 << 20)
    lines = "".join('{"name": "%s"}\n' % (large if i % 150 == 75 else "row %d" % i) for i in range(3000))
    keys = "read_threads: 4\nrows_in_flight: 512\nworkers: {memory_budget: 96MiB}\n"
    model = 'backend: emulated\nmax_batch_size: 16\ninstances: 1\nsettings: {inputs: "name:BYTES[-1,1]", outputs: "y:FP32[-1,1]", alpha: 0ms, beta: 15ms}\n'
    with Rows({"a.jsonl": lines}, given="columns: {name: name}", model=model, keys=keys) as job:
        Watched(job, rows=3000).check(96 * MIB)


@test
def a_picture_larger_than_the_budget_goes_alone():
    small = png(40, 40, True)
    huge = png(3000, 2500, True)  # 22 MB as a file
    with Images({"%04d.png" % i: huge if i % 500 == 300 else small for i in range(4000)}, "workers: {memory_budget: 16MiB}\n") as job:
        watched = Watched(job)
        assert SANITIZED or watched.most < 22.5 * MIB * 4


@test
def addresses_of_which_nothing_is_there():
    """Nobody knows their size, and none of them runs: one after the other they would take 20 s."""
    with Server({}, delay=0.1) as server:
        with Remote(["%s/%d" % (server.url, i) for i in range(200)], keys=ALL_MAY_FAIL + "read_threads: 2\nworkers: {memory_budget: 32MiB}\n") as job:
            before = time.monotonic()
            job.run(code=4)
            took = time.monotonic() - before
            assert len(job.letters()) == 200
            assert server.most_at_once > 8, server.most_at_once
            assert took < 12, "%.1f s" % took


@test
def large_pictures_behind_dead_addresses():
    """As many as there were dead ones at once are fetched, and go on as they have room: small as files, 14 MB and more when they run."""
    plain = png(2400, 2000, False)
    with Server({"/%04d.png" % i: plain for i in range(100, 200)}, delay=0.02) as server:
        keys = ALL_MAY_FAIL + "shard_rows: 1000\nread_threads: 4\noperator_threads: 8\nworkers: {memory_budget: 64MiB}\n"
        with Images({}, keys, input="{list: list.txt, tensor: image}") as job:
            (job.path / "list.txt").write_text("".join("%s/%04d.png\n" % (server.url, i) for i in range(200)))
            watched = Watched(job, rows=100, code=4)
            assert server.most_at_once > 8, server.most_at_once
            assert SANITIZED or watched.most <= 1.1 * 64 * MIB, watched.most / MIB


@test
def objects_of_which_some_say_their_size():
    """Those of the store have one before they are fetched: they go on while others of unknown size, which came before them, wait for room."""
    plain = png(2400, 2000, False)
    objects = {"/%s/%04d.png" % (folder, i): plain for folder in ("data/a", "data/c", "data/d") for i in range(20)}
    with Server(objects, delay=0.02) as server:
        keys = ALL_MAY_FAIL + "shard_rows: 1000\nread_threads: 4\noperator_threads: 8\nworkers: {memory_budget: 48MiB}\n"
        absent, there = (", ".join("'s3://data/%s/%04d.png'" % (folder, i) for i in range(count)) for folder, count in (("b", 40), ("c", 20)))
        with Images({}, keys, input="{files: ['s3://data/a/', %s, %s, 's3://data/d/'], tensor: image}" % (absent, there)) as job:
            subprocess.run([FERMATA, "batch", job.file, "--quiet"], env={**os.environ, **NO_STORE, **server.environment()}, timeout=60, check=False)
            assert len(job.lines()) == 60 and len(job.lines("errors")) == 40


def budget_of(workers, *arguments):
    """Of all workers together, where the job does not say it."""
    rows = {i: "sleep 100, row %d" % i for i in range(60 * workers)}
    with OperatorJob(len(rows), rows=rows, keys="shard_rows: 5\noperator_threads: 2\n") as job:
        done = subprocess.run([FERMATA, "batch", job.file, "--json", *arguments], capture_output=True, text=True, check=True)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        told = [event["tuned"]["memory_budget_bytes"] for event in events if event["event"] == "progress" and event["workers"] == workers]
        assert told and max(told) > 0, events
        return max(told)


@test
def workers_of_one_machine_share_its_memory():
    alone = budget_of(1)
    together = budget_of(3, "--workers", "3")
    some = budget_of(1, "--workers", "1..4")
    print("# %.0f MiB for one, %.0f MiB for three, %.0f MiB for one of up to four" % (alone / MIB, together / MIB, some / MIB))
    assert together < 1.5 * alone, "three times as much would be more than there is"
    assert some < 0.5 * alone, "there may be four"


@test
def a_worker_can_be_told_how_many_share_its_machine():
    rows = {i: "sleep 100, row %d" % i for i in range(200)}
    with OperatorJob(len(rows), rows=rows, keys="shard_rows: 5\noperator_threads: 2\n") as job:
        process = start(job)
        path = job.out / ".fermata" / "master.sock"
        wait_for(path.exists)
        helper = subprocess.Popen([FERMATA, "worker", "--join", "unix:%s" % path, "--sharers", "1000"], stderr=subprocess.PIPE)

        def both():
            shown = subprocess.run([FERMATA, "job", "show", job.out, "--json"], capture_output=True, text=True, check=True)
            workers = (json.loads(shown.stdout)["master"] or {"workers": []})["workers"]
            budgets = [worker["memory"]["budget_bytes"] for worker in workers if worker.get("memory") and worker["memory"]["budget_bytes"]]
            return budgets if len(budgets) == 2 else None

        budgets = wait_for(both)
        assert min(budgets) < max(budgets) / 100, budgets
        end_of(process, 0)
        helper.communicate(timeout=60)


def sample_of(job):
    done = subprocess.run([FERMATA, "batch", job.file, "--dry-run", "--sample", "60", "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["sample"]


@test
def a_sample_keeps_to_the_budget_of_a_worker():
    large = png(1600, 1200, True)
    files = {"%04d.png" % i: large for i in range(60)}
    keys = "operator_threads: 1\nrows_in_flight: 32\n"
    with Images(files, keys + "workers: {memory_budget: 0}\n") as job:
        free = sample_of(job)
    with Images(files, keys + "workers: {memory_budget: 24MiB}\n") as job:
        held = sample_of(job)
    print("# %.1f MiB without a budget, %.1f MiB with one" % (free["worker_memory_bytes"] / MIB, held["worker_memory_bytes"] / MIB))
    assert free["rows"] == held["rows"] == 60
    assert SANITIZED or held["worker_memory_bytes"] < 0.5 * free["worker_memory_bytes"]
    with Rows({"a.csv": "x\n" + "1\n" * 500}, given="columns: {x: x}", keys="workers: {memory_budget: 1MiB}\n",
              model='backend: emulated\nsettings: {inputs: "x:FP32[-1]", outputs: "y:FP32[-1]", latency: "1:1ms"}\n') as job:
        assert sample_of(job)["rows"] == 60
        shown = subprocess.run([FERMATA, "batch", job.file, "--preview", "5", "--json"], capture_output=True, text=True, check=True)
        assert len(shown.stdout.splitlines()) == 5


run()
