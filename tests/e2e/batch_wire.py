"""The stream of a batch worker byte by byte, from a worker that says what ours never would, or at the wrong moment.

The protocol is in docs/batch-protocol.md; the messages are written by hand.
"""
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
import http2  # noqa: E402
from batch_job import SLOW_MODEL, Job, end_of, listening, start, wait_for, workers_of  # noqa: E402
from tap import FERMATA, contains, fermata, run, test  # noqa: E402

TOKEN = "0123456789abcdef0123456789abcdef"
MASTER_KINDS = {1: "welcome", 2: "grant", 3: "committed", 4: "refused", 5: "trim", 6: "stop", 7: "end"}


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def part(number, value):
    """A field: a number, a text, or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & 2**64 - 1)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def join(process=1, name="by hand", host="here"):
    return part(1, part(1, 1) + part(3, host) + part(4, process) + part(5, name))


def beat(stage, batches, error):
    return part(3, part(3, stage) + part(6, error) + part(9, 1) + part(11, 1) + part(12, batches))


def hello(number, holdings=b""):
    return part(2, b"\x09" + number.to_bytes(8, "little") + part(2, 1) + holdings)


def fields(data):
    """{number: the last value} of a message: numbers and bytes."""
    found, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 2:
            size = number()
            found[tag >> 3], at = data[at:at + size], at + size
        else:
            found[tag >> 3] = number()
    return found


def leave(status, reason, cause=0):
    return part(8, part(1, status) + part(2, reason) + part(3, cause))


class UnixSocket(socket.socket):
    def setsockopt(self, *_):
        pass  # those that are set are of TCP


class Worker(http2.Client):
    """One stream to a master: over TCP with the token, or over its Unix socket."""

    service = "/fermata.batch.v1.Ledger/"

    def __init__(self, port=None, path=None):
        plain = socket.create_connection
        if path is not None:
            local = UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.settimeout(20)
            local.connect(str(path))
            http2.socket.create_connection = lambda *_, **__: local
        try:
            super().__init__(port)
        finally:
            http2.socket.create_connection = plain
        self.data = b""
        self.stream = self.begin("Work", ("authorization", "Bearer " + TOKEN))

    def say(self, data):
        self.send(http2.frame(http2.DATA, 0, self.stream, http2.message(data)))

    def hear(self, kind):
        """The next message of a kind; those before it are forgotten."""
        while True:
            while len(self.data) >= 5 and len(self.data) >= 5 + int.from_bytes(self.data[1:5], "big"):
                size = int.from_bytes(self.data[1:5], "big")
                one, self.data = self.data[5:5 + size], self.data[5 + size:]
                if MASTER_KINDS[one[0] >> 3] == kind:
                    return one
            self.data += self.until(http2.DATA, self.stream)[3]

    def trailer(self):
        while True:
            one = self.until(http2.HEADERS, self.stream)
            if "grpc-status" in one[3]:
                return one[3]


def job_with_token(**keywords):
    job = Job(**keywords)
    (job.path / "token").write_text(TOKEN + "\n")
    return job


def begun(job, *more):
    """A master that listens, and its port."""
    process = start(job, "--listen", "127.0.0.1:0", "--token-file", str(job.path / "token"), *more)
    return process, int(listening(process).rsplit(":", 1)[1])


@test
def the_older_stream_of_a_worker_is_ended():
    with job_with_token(count=60, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 8\n") as job:
        process, port = begun(job)
        older = Worker(port)
        older.say(join())
        older.hear("welcome")
        older.say(hello(7))
        older.hear("grant")
        newer = Worker(port)
        newer.say(join())
        newer.hear("welcome")
        newer.say(hello(7))  # the grant did not arrive, as far as this one knows
        trailer = older.trailer()
        assert trailer["grpc-status"] == "1" and "another stream" in trailer["grpc-message"], trailer
        newer.hear("grant")
        newer.say(leave(0, ""))
        end_of(process, 0)
        job.check_complete()


@test
def who_is_a_child_is_not_for_the_worker_to_say():
    with job_with_token(count=60, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 8\n") as job:
        process = start(job)
        path = job.out / ".fermata" / "master.sock"
        child = wait_for(lambda: workers_of(process) and path.exists() and workers_of(process)[0])
        stranger = Worker(path=path)
        stranger.say(join(process=child, name="a stranger"))
        stranger.hear("welcome")
        stranger.say(hello(7))
        stranger.say(leave(-9, "the disk is full"))  # of a child, this would end the job
        _, err = end_of(process, 0)
        assert "the worker a stranger left: the disk is full" in err, err
        job.check_complete()


@test
def what_a_worker_says_of_itself_steers_no_terminal():
    with job_with_token(count=60, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 8\n") as job:
        process, port = begun(job, "--workers", "0")
        worker = Worker(port)
        evil = ["%s\x1b[31m\x9b1m\x07" % word for word in ("name", "host", "stage", "batches", "error")]
        worker.say(join(name=evil[0], host=evil[1]))
        worker.hear("welcome")
        worker.say(hello(7))
        worker.hear("grant")
        worker.say(beat(*evil[2:]))
        out = wait_for(lambda: (lambda text: "batches" in text and text)(fermata("job", "show", job.out)[0]))
        for word in ("name", "host", "stage", "batches", "error"):
            contains(out, word + "?[31m??1m?")
        assert not any(ord(c) < 0x20 and c != "\n" or 0x7f <= ord(c) < 0xa0 for c in out), repr(out)
        worker.say(leave(0, ""))
        process.terminate()
        process.communicate(timeout=60)


@test
def a_worker_of_another_host_without_memory_makes_all_of_them_careful():
    with job_with_token(count=80, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 8\n") as job:
        process, port = begun(job, "--workers", "0")
        for halvings in range(4):
            worker = Worker(port)
            worker.say(join())
            welcome = fields(fields(worker.hear("welcome"))[1])
            assert welcome.get(12, 0) == halvings, welcome
            worker.say(hello(7 + halvings))
            worker.hear("grant")
            worker.say(leave(-8, "out of memory", 3))
            worker.send(http2.frame(http2.DATA, http2.END_STREAM, worker.stream))
            assert worker.trailer()["grpc-status"] == "0"
        helper = subprocess.Popen([FERMATA, "worker", "--join", "grpc://127.0.0.1:%d" % port, "--token-file", str(job.path / "token")], stderr=subprocess.PIPE)
        _, err = end_of(process, 0)
        helper.communicate(timeout=60)
        assert err.count("the worker by hand left: out of memory") == 4, err
        job.check_complete()


@test
def workers_are_told_how_many_share_their_machine():
    with job_with_token(count=60, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 8\n") as job:
        process, port = begun(job, "--workers", "1..3")
        strangers = []

        def told(process, host):
            strangers.append(Worker(port))
            strangers[-1].say(join(process=process, host=host))
            return fields(fields(strangers[-1].hear("welcome"))[1]).get(13, 0)

        assert [told(1, "here"), told(2, "here"), told(1, "there")] == [1, 2, 1]
        assert told(2, "here") == 2, "a stream that was lost does not count"
        ours = socket.gethostname()
        assert [told(1, ours), told(2, ours)] == [4, 5], "three that may be children of the master, and those that came"
        for stranger in strangers:
            stranger.say(leave(0, ""))
        end_of(process, 0)
        job.check_complete()


@test
def a_failure_is_answered():
    with job_with_token(count=30, keys="shard_rows: 30\n") as job:
        process, port = begun(job, "--workers", "0")
        worker = Worker(port)
        worker.say(join())
        worker.hear("welcome")
        worker.say(hello(7))
        shard = fields(fields(fields(worker.hear("grant"))[2])[1])
        epoch = shard[4]
        assert shard[3] == 30, shard
        worker.say(part(5, part(1, 0) + part(2, epoch) + part(3, 1) + part(4, "[EDEADLINE somewhere] it hangs")))
        assert fields(fields(worker.hear("refused"))[4])[2] == epoch
        worker.say(leave(0, ""))
        helper = subprocess.Popen([FERMATA, "worker", "--join", "grpc://127.0.0.1:%d" % port, "--token-file", str(job.path / "token")], stderr=subprocess.PIPE)
        end_of(process, 0)
        helper.communicate(timeout=60)
        job.check_complete()


run()
