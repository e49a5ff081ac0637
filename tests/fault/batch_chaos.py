"""A batch job on three hosts (network namespaces) under everything at once: killed workers, killed masters, workers stopped for longer than their leases,
cut links, a full disk, corrupt rows. What comes out is what an undisturbed run gives, byte for byte after sorting, and no file is ever seen that is not
whole.

Short by default. Longer: FM_CHAOS_KILLS=300 FM_CHAOS_ROWS=200000 FM_CHAOS_ROW_MS=6 (see CONTRIBUTING.md). Without root or `ip`, or where namespaces or mounts are not allowed, hosts
are processes on this one, links are not cut and the disk is not full; what was left out is said.
"""
import hashlib
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
from batch_job import Rows, signalled, wait_for, workers_of  # noqa: E402
from tap import FERMATA, fermata, run, test  # noqa: E402

SEED = int(os.environ.get("FM_SEED", "1"))
KILLS = int(os.environ.get("FM_CHAOS_KILLS", "12"))
ROWS = int(os.environ.get("FM_CHAOS_ROWS", "12000"))
ROW_MS = float(os.environ.get("FM_CHAOS_ROW_MS", "2"))  # what the model takes for a row
HOSTS = 3
LEASE_S = 5
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


class Disk:
    """A small file system that can be full; or none."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir()
        self.own = os.geteuid() == 0 and quietly("mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", str(path))
        self.ballast = path / "ballast"

    def fill(self):
        with open(self.ballast, "wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(1 << 16))
            except OSError:
                pass

    def free(self):
        self.ballast.unlink(missing_ok=True)

    def close(self):
        if self.own:
            quietly("umount", "-l", str(self.path))


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
        self.counts = {"worker": 0, "master": 0, "stopped": 0, "cut": 0, "full": 0}

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
        """Each kind once, then at random."""
        kinds = list(self.counts)
        kind = kinds[self.strikes] if self.strikes < len(kinds) else chance.choices(kinds, [60, 20, 6, 10, 4])[0]
        self.strikes += 1
        if kind == "worker":
            signalled(self.victim(chance), signal.SIGKILL)
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
        else:
            if not self.disk.own:
                return
            self.disk.fill()
            self.rest(chance.uniform(0.2, 1))
            self.disk.free()
        self.counts[kind] += 1

    def kills(self):
        return self.counts["worker"] + self.counts["master"]

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


@test
def everything_at_once_and_nothing_is_lost_or_twice():
    chance = random.Random(SEED)
    files = 10
    hosts = [Host(i) for i in range(HOSTS)]
    texts = {"%02d.csv" % i: table(i * ROWS // files, ROWS // files) for i in range(files)}
    with Rows(texts, given="columns: {x: [a, b]}, id: id", output="{directory: disk/out, passthrough: [b]}", model=MODEL % ROW_MS, keys="") as job:
        job.out = job.path / "disk" / "out"
        disk = Disk(job.path / "disk", (32 << 20) + 400 * ROWS)
        calm_run(job)
        cluster = Cluster(job, hosts, disk)
        watcher = Watcher(job.out)
        watcher.start()
        try:
            cluster.keep_up()
            wait_for(lambda: list(job.out.glob("stage/part-*")))
            while cluster.kills() < KILLS and cluster.keep_up():
                cluster.rest(chance.uniform(0, 0.6))
                cluster.strike(chance)
            while cluster.keep_up():
                time.sleep(0.05)
            torn = watcher.verdict()
            fermata("job", "verify", job.out, code=4)
            assert torn == [], torn
            assert sorted_lines(job.out) == sorted_lines(job.path / "calm")
            assert sorted_lines(job.out, "errors") == sorted_lines(job.path / "calm", "errors")
            assert len(sorted_lines(job.out, "errors")) == ROWS // 1000 + (ROWS % 1000 > 7)
            assert os.listdir(job.out / "stage") == []
            assert cluster.kills() >= (KILLS if "FM_CHAOS_KILLS" in os.environ else 8), cluster.counts
        except BaseException:
            sys.stderr.write(pathlib.Path(job.path / "log").read_text(errors="replace")[-4000:])
            raise
        finally:
            watcher.ending.set()
            cluster.close()
            disk.close()
            for host in hosts:
                host.close()
        print("# %d rows, seed %d: %s; %s" % (ROWS, SEED, ", ".join("%s %d" % pair for pair in cluster.counts.items()),
                                             "hosts in namespaces" if all(host.own for host in hosts) else "no namespaces here"))


run()
