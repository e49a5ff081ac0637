"""Batch jobs on three hosts (network namespaces) under everything at once: killed workers, killed masters, workers stopped for longer than their leases,
cut links, a full disk, a slow disk, corrupt rows. One is over rows of CSV and an emulated model, one over page images and the OCR pipeline with its real models. What
comes out is what an undisturbed run gives, byte for byte after sorting, and no file is ever seen that is not whole.

Short by default. Longer: FM_CHAOS_KILLS=300 FM_CHAOS_ROWS=200000 FM_CHAOS_ROW_MS=6, and FM_CHAOS_PAGES=300 FM_CHAOS_PAGE_KILLS=100 FM_CHAOS_PAGE_LINES=10 (see CONTRIBUTING.md).
Without root or `ip`, or where namespaces or mounts are not allowed, hosts are processes on this one, links are not cut and the disk is neither full nor slow; what was left out is said.
"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
from batch_job import Job, Rows, signalled, wait_for, workers_of  # noqa: E402
from tap import FERMATA, MODELS, ROOT, Skip, fermata, run, test  # noqa: E402

SEED = int(os.environ.get("FM_SEED", "1"))
KILLS = int(os.environ.get("FM_CHAOS_KILLS", "12"))
ROWS = int(os.environ.get("FM_CHAOS_ROWS", "12000"))
ROW_MS = float(os.environ.get("FM_CHAOS_ROW_MS", "2.5"))  # what the model takes for a row
PAGES = int(os.environ.get("FM_CHAOS_PAGES", "8"))
PAGE_KILLS = int(os.environ.get("FM_CHAOS_PAGE_KILLS", "5"))
PAGE_LINES = int(os.environ.get("FM_CHAOS_PAGE_LINES", "2"))
HOSTS = 3
LEASE_S = 5
WORDS = "river stone window paper garden silver morning letter harbour engine bridge winter candle music forest number pencil travel butter market orange".split()
# The quick ones come first, so that a short job sees many.
FIRST = ["worker", "child", "slow", "master", "worker", "full", "child", "worker", "worker", "master", "cut", "stopped"]
MODEL = """backend: emulated
max_batch_size: 16
instances: 1
settings: {inputs: "x:FP32[-1,2]", outputs: "y:FP32[-1,1]", alpha: %gms, beta: 2ms}
"""


def quietly(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Host:
    """A network namespace with a link to this one; or, where there is none to be had, this host."""

    def __init__(self, number):
        self.name = "fm-%d-%d" % (os.getpid(), number)
        self.link = "fm%dh%d" % (os.getpid() % 100000, number)
        self.address = "10.213.%d.1" % number
        ip = shutil.which("ip")
        self.own = (os.geteuid() == 0 and ip is not None and quietly("ip", "netns", "add", self.name)
                    and quietly("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
                    and quietly("ip", "addr", "add", self.address + "/30", "dev", self.link) and quietly("ip", "link", "set", self.link, "up")
                    and quietly("ip", "-n", self.name, "addr", "add", "10.213.%d.2/30" % number, "dev", "eth0")
                    and quietly("ip", "-n", self.name, "link", "set", "eth0", "up"))
        if not self.own:
            self.close()
            self.address = "127.0.0.1"

    def command(self, *arguments):
        return (["ip", "netns", "exec", self.name] if self.own else []) + [*arguments]

    def cut(self, yes):
        if self.own:
            quietly("ip", "link", "set", self.link, "down" if yes else "up")

    def close(self):
        if os.geteuid() == 0 and shutil.which("ip") is not None:
            quietly("ip", "netns", "del", self.name)
            quietly("ip", "link", "del", self.link)


# Thaws it again whatever becomes of the test, because nothing that waits for a frozen disk can be killed.
SLOW = """trap '' INT TERM HUP; for i in 1 2 3; do fsfreeze -f "$1" && { sleep 0.4; fsfreeze -u "$1"; }; sleep 0.1; done"""


class Disk:
    """A small file system that can be full and, where one in a file can be mounted, slow; or none."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir()
        self.image = path.with_suffix(".img")
        root = os.geteuid() == 0
        with open(self.image, "wb") as file:
            file.truncate(size)
        self.slows = (root and shutil.which("fsfreeze") is not None and quietly("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
                      and quietly("mount", "-o", "loop,noatime", str(self.image), str(path)))
        self.own = self.slows or (root and quietly("mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", str(path)))
        self.ballast = path / "ballast"
        self.slowing = None

    def fill(self):
        with open(self.ballast, "wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(1 << 16))
            except OSError:
                pass

    def free(self):
        self.ballast.unlink(missing_ok=True)

    def slow(self):
        """For a second and a half whatever is written takes up to 0.4 s."""
        self.slowing = subprocess.Popen(["sh", "-c", SLOW, "sh", str(self.path)], stderr=subprocess.DEVNULL, start_new_session=True)

    def close(self):
        if self.slowing is not None:
            self.slowing.wait()
        if self.own:
            quietly("umount", "-l", str(self.path))
        self.image.unlink(missing_ok=True)


class Watcher(threading.Thread):
    """Looks at what readers see: every part is whole when it appears, and stays as it was."""

    def __init__(self, out):
        super().__init__()
        self.out, self.seen, self.torn, self.ending = out, {}, [], threading.Event()

    def look(self):
        for part in [*self.out.glob("part-*.jsonl"), *self.out.glob("errors/part-*.jsonl")]:
            if part not in self.seen:
                text = part.read_bytes()
                self.seen[part] = hashlib.sha256(text).digest()
                if text and not text.endswith(b"\n"):
                    self.torn.append("%s ends in the middle of a line" % part)

    def run(self):
        while not self.ending.wait(0.05):
            self.look()

    def verdict(self):
        self.ending.set()
        self.join()
        self.look()
        for part, digest in self.seen.items():
            if not part.exists():
                self.torn.append("%s was there, and is no more" % part)
            elif hashlib.sha256(part.read_bytes()).digest() != digest:
                self.torn.append("%s has changed" % part)
        return self.torn


def free_port():
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        return listener.getsockname()[1]


class Cluster:
    """A master, one worker of its own, and a worker on every host; whoever ends is started again, as a cluster would."""

    def __init__(self, job, hosts, disk):
        self.job, self.hosts, self.disk = job, hosts, disk
        self.port = free_port()
        self.token = job.path / "token"
        self.token.write_text("%032x\n" % random.getrandbits(128))
        self.workers = [None] * len(hosts)
        self.master = None
        self.log = open(job.path / "log", "ab")
        self.strikes = 0
        self.counts = {"worker": 0, "child": 0, "master": 0, "stopped": 0, "cut": 0, "full": 0, "slow": 0}

    def keep_up(self):
        """False: the job has come to its end."""
        if self.master is not None and self.master.poll() is not None and self.master.returncode in (0, 4):
            return False
        if self.master is None or self.master.poll() is not None:
            self.master = subprocess.Popen([FERMATA, "batch", self.job.file, "--resume", "--listen", "0.0.0.0:%d" % self.port, "--token-file", self.token,
                                            "--workers", "1"], stdout=self.log, stderr=self.log)
        for i, host in enumerate(self.hosts):
            if self.workers[i] is None or self.workers[i].poll() is not None:
                self.workers[i] = subprocess.Popen(host.command(FERMATA, "worker", "--join", "grpc://%s:%d" % (host.address, self.port), "--token-file",
                                                                str(self.token), "--quiet"), stdout=self.log, stderr=self.log)
        return True

    def rest(self, seconds):
        end = time.monotonic() + seconds
        while self.keep_up() and time.monotonic() < end:
            time.sleep(0.02)

    def victim(self, chance):
        """One of the workers, wherever it is."""
        return chance.choice([worker.pid for worker in self.workers] + workers_of(self.master))

    def strike(self, chance):
        """Every kind once or more, then at random."""
        kind = FIRST[self.strikes] if self.strikes < len(FIRST) else chance.choices(list(self.counts), [45, 15, 20, 6, 8, 3, 3])[0]
        self.strikes += 1
        if kind == "worker":
            signalled(chance.choice(self.workers).pid, signal.SIGKILL)
        elif kind == "child":
            children = workers_of(self.master)
            if not children:
                return
            signalled(chance.choice(children), signal.SIGKILL)
        elif kind == "master":
            self.master.kill()
            self.master.wait()
        elif kind == "stopped":
            pid = self.victim(chance)
            signalled(pid, signal.SIGSTOP)
            self.rest(LEASE_S + chance.uniform(0.5, 2))
            signalled(pid, signal.SIGCONT)
        elif kind == "cut":
            host = chance.choice(self.hosts)
            if not host.own:
                return
            host.cut(True)
            self.rest(chance.uniform(0.5, LEASE_S + 3))
            host.cut(False)
        elif kind == "full":
            if not self.disk.own:
                return
            self.disk.fill()
            self.rest(chance.uniform(0.2, 1))
            self.disk.free()
        else:
            if not self.disk.slows:
                return
            self.disk.slow()
            while self.disk.slowing.poll() is None and self.keep_up():
                time.sleep(0.02)
            self.disk.slowing.wait()
        self.counts[kind] += 1

    def kills(self):
        return self.counts["worker"] + self.counts["child"] + self.counts["master"]

    def close(self):
        for process in [self.master, *self.workers]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.log.close()


def table(first, count):
    lines = ["id,a,b"]
    for i in range(first, first + count):
        lines.append("r%d,%s,%d" % (i, "broken" if i % 1000 == 7 else i % 97, i))
    return "\n".join(lines) + "\n"


def sorted_lines(out, folder=""):
    return sorted(line for part in (out / folder).glob("part-*.jsonl") for line in part.read_bytes().splitlines())


def calm_run(job):
    """The same rows through the same model, which is quicker here, into calm/."""
    shutil.copytree(job.path / "model", job.path / "quick")
    (job.path / "quick" / "model.yaml").write_text(MODEL % 0.1)
    quick = job.path / "calm.yaml"
    quick.write_text(job.file.read_text().replace("pipeline: model", "pipeline: quick").replace("disk/out", "calm"))
    fermata("batch", quick, "--quiet", code=4)


def storm(job, chance, kills, pause_s, disk_size, calm):
    """Everything at once until so many are killed, then the rest of the job. calm(job) makes what has to come out, in calm/. Returns how many were killed, what
    came out, and the dead letters."""
    hosts = [Host(i) for i in range(HOSTS)]
    job.out = job.path / "disk" / "out"
    disk = Disk(job.path / "disk", disk_size)
    cluster = watcher = None
    try:
        calm(job)
        cluster = Cluster(job, hosts, disk)
        watcher = Watcher(job.out)
        watcher.start()
        cluster.keep_up()
        wait_for(lambda: list(job.out.glob("stage/part-*")))
        while cluster.kills() < kills and cluster.keep_up():
            cluster.rest(chance.uniform(0, pause_s))
            cluster.strike(chance)
        while cluster.keep_up():
            time.sleep(0.05)
        torn = watcher.verdict()
        fermata("job", "verify", job.out, code=4)
        assert torn == [], torn
        for folder in ("", "errors"):
            assert sorted_lines(job.out, folder) == sorted_lines(job.path / "calm", folder)
        assert os.listdir(job.out / "stage") == []
        results, letters = sorted_lines(job.out), sorted_lines(job.out, "errors")
    except BaseException:
        if cluster is not None:
            sys.stderr.write(pathlib.Path(job.path / "log").read_text(errors="replace")[-4000:])
        raise
    finally:
        if watcher is not None:
            watcher.ending.set()
        if cluster is not None:
            cluster.close()
        disk.close()
        for host in hosts:
            host.close()
    words = ", ".join("%s %d" % pair for pair in cluster.counts.items())
    print("# seed %d: %s; %s; %s" % (SEED, words, "hosts in namespaces" if all(host.own for host in hosts) else "no namespaces here",
                                     "a disk in a file" if disk.slows else "a disk in memory, never slow" if disk.own else "no disk of its own"))
    return cluster.kills(), results, letters


@test
def everything_at_once_and_nothing_is_lost_or_twice():
    files = 10
    texts = {"%02d.csv" % i: table(i * ROWS // files, ROWS // files) for i in range(files)}
    with Rows(texts, given="columns: {x: [a, b]}, id: id", output="{directory: disk/out, passthrough: [b]}", model=MODEL % ROW_MS, keys="") as job:
        kills, _, letters = storm(job, random.Random(SEED), KILLS, 0.6, (32 << 20) + 400 * ROWS, calm_run)
        assert len(letters) == ROWS // 1000 + (ROWS % 1000 > 7)
        assert kills >= (KILLS if "FM_CHAOS_KILLS" in os.environ else 8), kills


def page(chance, lines):
    """A PDF of one page with lines of words."""
    text = "BT /F1 14 Tf 18 TL 40 %d Td %s ET" % (40 + 18 * lines, " ".join("(%s) Tj T*" % " ".join(chance.choices(WORDS, k=5)) for _ in range(lines)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
               "<</Type/Page/Parent 2 0 R/MediaBox[0 0 420 %d]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>" % (80 + 18 * lines),
               "<</Length %d>>stream\n%s\nendstream" % (len(text), text), "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    out, places = "%PDF-1.4\n", []
    for number, item in enumerate(objects, 1):
        places.append(len(out))
        out += "%d 0 obj\n%s\nendobj\n" % (number, item)
    table_of_places = "".join("%010d 00000 n \n" % place for place in places)
    return (out + "xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (table_of_places, len(out))).encode()


def calm_pages(job):
    quiet = job.path / "calm.yaml"
    quiet.write_text(job.file.read_text().replace("disk/out", "calm"))
    fermata("batch", quiet, "--quiet", code=4, timeout=3600)


@test
def pages_through_the_ocr_pipeline_likewise():
    if not os.path.exists(os.path.join(MODELS, "ocr", "rec", "1", "model.onnx")) or not shutil.which("pdftoppm"):
        raise Skip("the OCR models are not in .deps/models (tools/setup), or there is no pdftoppm")
    chance = random.Random(SEED)
    with Job(count=0, keys="shard_rows: 2\nrows_in_flight: 2\n", output="{directory: disk/out, timings: false}") as job:
        pipeline = os.path.join(ROOT, "examples", "ocr", "pipeline.yaml")
        job.file.write_text(job.file.read_text().replace("pipeline: model", "pipeline: %s" % pipeline))
        for i in range(PAGES):
            name = job.path / "in" / ("%04d" % i)
            subprocess.run(["pdftoppm", "-jpeg", "-r", "110", "-singlefile", "-", name], input=page(chance, PAGE_LINES), check=True)
            image = name.with_suffix(".jpg")
            if i % 8 == 5:  # damaged: its head is gone
                image.write_bytes(bytes(600) + image.read_bytes()[600:])
        kills, results, letters = storm(job, chance, PAGE_KILLS, 0.8, 64 << 20, calm_pages)
        read = [json.loads(line)["text"] for line in results]
        damaged = len(range(5, PAGES, 8))
        assert len(letters) == damaged and len(read) == PAGES - damaged
        assert sum(word in text for text in read for word in WORDS) > 3 * len(read), read  # they are read, not just passed
        assert kills >= (PAGE_KILLS if "FM_CHAOS_PAGE_KILLS" in os.environ else 1), kills  # a few pages are soon read: the first strike is a kill


run()
