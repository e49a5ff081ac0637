"""The messages between a batch master and its workers, against Google's protobuf with classes made from proto/batch.proto: what that
writes we read, what we write again it reads, and nothing is lost or changed in between. Also that the field numbers are the same.

batch_messages_echo.c reads and writes. Runs under /usr/bin/python3 where this interpreter lacks protobuf; skips without.
"""
import os
import random
import struct
import subprocess
import sys
import tempfile

import with_grpc

with_grpc.skip_without("google.protobuf")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tap import ROOT, contains, run, test

ECHO = os.environ["FM_BUILD_ROOT"] + "/tests/e2e/batch_messages_echo"
UINT64_MAX = 2**64 - 1
NUMBERS = [0, 1, 127, 128, 2**32, 2**63, UINT64_MAX]
TEXTS = ["", "a", "\u00e9t\u00e9", "x" * 127, "x" * 200]


def load_messages():
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/messages"
        subprocess.run(["protoc", "--proto_path", ROOT + "/proto", "--descriptor_set_out", path, "batch.proto"], check=True)
        with open(path, "rb") as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for one in files.file:
        pool.Add(one)
    return pool


try:
    pool = load_messages()
except FileNotFoundError:
    print("1..0 # SKIP there is no protoc (Debian: protobuf-compiler)")
    sys.exit(0)


def message_class(name):
    descriptor = pool.FindMessageTypeByName("fermata.batch.v1." + name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


CLASSES = {b"w": message_class("WorkerMessage"), b"m": message_class("MasterMessage"), b"s": message_class("Status")}


class Echo:
    """The program, as long as a test asks it."""

    def __enter__(self):
        self.process = subprocess.Popen([ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        assert code == 0, code

    def ask(self, kind, data):
        """(kind of the answer, its bytes)"""
        self.process.stdin.write(kind + struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        answer, size = struct.unpack("<cI", self.process.stdout.read(5))
        return answer, self.process.stdout.read(size)

    def back(self, kind, data):
        answer, back = self.ask(kind, data)
        assert answer == kind, back
        return CLASSES[kind].FromString(back)


def holdings(rng):
    result = []
    for number in rng.sample(range(2**40), rng.randrange(17)):
        done = rng.choice(NUMBERS)
        result.append({"number": number, "epoch": rng.randrange(1, 300), "rows_done": done, "rows_bad": min(done, rng.choice(NUMBERS))})
    return result


def lease(rng):
    return {"number": rng.choice(NUMBERS), "epoch": rng.choice(NUMBERS[1:])}


def tuned(rng):
    numbers = {name: rng.choice([0, 1, 2**32 - 1]) for name in ("read_threads", "operator_threads", "rows_in_flight")}
    memory = {"memory_" + name: rng.choice(NUMBERS) for name in ("budget", "base", "used", "most", "rows")}
    return {**numbers, "batches": rng.choice(TEXTS), "accelerators": rng.choice(TEXTS), **memory, "stages": stages(rng)}


def stages(rng):
    return [{"name": rng.choice([text for text in TEXTS if text]), "busy": rng.choice([0, 1, rng.random()])} for _ in range(rng.choice([0, 1, 3, 16]))]


def random_worker(rng):
    kind = rng.choice(["join", "hello", "beat", "done", "failed", "released", "trimmed", "leave"])
    fields = {
        "join": lambda: {"protocol_version": rng.choice([1, 2, 2**32 - 1]), "fermata_version": rng.choice(TEXTS), "host": rng.choice(TEXTS),
                         "process": rng.choice([0, 1, 2**32 - 1]), "name": rng.choice(TEXTS)},
        "hello": lambda: {"worker": rng.choice(NUMBERS[1:]), "shards_max": rng.randrange(1, 17), "holdings": holdings(rng), "single": rng.random() < 0.5},
        "beat": lambda: {"holdings": holdings(rng), "memory_bytes": rng.choice(NUMBERS), "slowest_stage": rng.choice(TEXTS),
                         "slowest_share": rng.choice([0, 1, rng.random()]), "rows_per_minute": rng.choice(NUMBERS),
                         "last_error": rng.choice(TEXTS), "long_stage": rng.choice(TEXTS), "long_ns": rng.choice(NUMBERS), **tuned(rng)},
        "done": lambda: {**lease(rng), "rows_out": rng.choice(NUMBERS[:-1]), "dead_letters": rng.randrange(1, 300), "part_bytes": rng.choice(NUMBERS),
                         "part_checksum": rng.choice(NUMBERS), "letters_bytes": rng.choice(NUMBERS), "letters_checksum": rng.choice(NUMBERS)},
        "failed": lambda: {**lease(rng), "failure": rng.randrange(2), "reason": rng.choice(TEXTS)},
        "released": lambda: lease(rng),
        "trimmed": lambda: {**lease(rng), "keep_rows": rng.choice(NUMBERS[1:])},
        "leave": lambda: {"status": rng.choice([0, -1, 2**31 - 1, -2**31]), "reason": rng.choice(TEXTS), "cause": rng.randrange(4)},
    }[kind]()
    return {kind: fields}


def random_row(rng):
    row = {"id": rng.choice([b"pages/1.jpg", b"\xFF\x00", b"i" * 130])}
    size = rng.choice([None, 0, 1, UINT64_MAX - 1])
    row = row if size is None else {**row, "size": size}
    if rng.random() < 0.5:
        return row
    first = rng.choice(NUMBERS[:3])
    return {**row, "row_count": rng.choice([1, 2, 40]), "first_row": first, "point_row": rng.randrange(first + 1),
            "point_offset": rng.choice(NUMBERS), "point_line": rng.choice(NUMBERS)}


def random_grant(rng):
    rows = [random_row(rng) for _ in range(rng.choice([1, 1, 2, 40]))]
    count = sum(row.get("row_count", 1) for row in rows)
    shard = {"number": rng.choice(NUMBERS), "first_row": rng.choice(NUMBERS[:-1]), "row_count": count, "epoch": rng.choice(NUMBERS[1:])}
    mood = rng.choice([None, "suspect", "condemned" if count == 1 else "suspect"])
    return {"shard": {**shard, mood: True} if mood else shard, "reason": rng.choice(TEXTS), "rows": rows}


def random_master(rng):
    kind = rng.choice(["welcome", "grant", "committed", "refused", "trim", "stop", "end"])
    fields = {
        "welcome": lambda: {"protocol_version": 1, "job": rng.choice(TEXTS), "job_file": rng.choice(TEXTS), "job_text": rng.randbytes(rng.randrange(999)),
                            "output": rng.choice(TEXTS), "beat_ns": 10**9, "give_up_ns": rng.choice(NUMBERS[1:]), "lease_ns": UINT64_MAX,
                            "base": rng.choice(TEXTS), "facts": [{"key": "k%d" % i, "value": rng.choice(TEXTS)} for i in range(rng.randrange(9))],
                            "memory_bytes": rng.choice(NUMBERS), "halvings": rng.randrange(21),
                            "sharers": rng.choice([0, 1, 300])},
        "grant": lambda: random_grant(rng),
        "committed": lambda: lease(rng),
        "refused": lambda: lease(rng),
        "trim": lambda: {**lease(rng), "keep_rows": rng.choice(NUMBERS)},
        "stop": lambda: {"drop": rng.random() < 0.5, "again": rng.random() < 0.5},
        "end": lambda: {"status": rng.choice([0, -1, -2**31]), "reason": rng.choice(TEXTS)},
    }[kind]()
    return {kind: fields}


def check_same(kind, random_fields):
    rng = random.Random(1)
    seen = set()
    with Echo() as echo:
        for _ in range(2000):
            fields = random_fields(rng)
            message = CLASSES[kind](**fields)
            back = echo.back(kind, message.SerializeToString())
            assert back == message, "%s became %s" % (message, back)
            assert back.WhichOneof("message") == next(iter(fields))
            seen.add(back.WhichOneof("message"))
    assert seen == {one.name for one in CLASSES[kind].DESCRIPTOR.oneofs_by_name["message"].fields}, seen


@test
def what_a_worker_says():
    check_same(b"w", random_worker)


@test
def what_a_master_says():
    check_same(b"m", random_master)


@test
def how_a_job_stands():
    rng = random.Random(1)

    def worker():
        return {"worker": rng.choice(NUMBERS), "name": rng.choice(TEXTS), "host": rng.choice(TEXTS), "process": rng.choice([0, 2**32 - 1]),
                "connected": rng.random() < 0.5, "shards": rng.choice([0, 16]), "rows_in_work": rng.choice(NUMBERS), "rows_committed": rng.choice(NUMBERS),
                "rows_per_minute": rng.choice(NUMBERS), "memory_bytes": rng.choice(NUMBERS), "slowest_stage": rng.choice(TEXTS),
                "slowest_share": rng.choice([0, 1, rng.random()]), "last_error": rng.choice(TEXTS), "silent_ns": rng.choice(NUMBERS), **tuned(rng)}

    with Echo() as echo:
        for _ in range(1000):
            fields = {"job": rng.choice(TEXTS), "version": rng.choice(TEXTS), "process": rng.choice([0, 7]), "paused": rng.random() < 0.5,
                      "stopping": rng.random() < 0.5, "cancelled": rng.random() < 0.5, "rows_total": rng.choice(NUMBERS), "rows_committed": rng.choice(NUMBERS),
                      "rows_done": rng.choice(NUMBERS), "dead_letters": rng.choice(NUMBERS), "rows_in_work": rng.choice(NUMBERS),
                      "rows_per_s": rng.choice([0, rng.random()]), "running_ns": rng.choice(NUMBERS), "workers": [worker() for _ in range(rng.randrange(4))]}
            if rng.random() < 0.7:
                fields["rest_ns"] = rng.choice(NUMBERS[:-1])
            message = CLASSES[b"s"](**fields)
            assert echo.back(b"s", message.SerializeToString()) == message
        for damage in (b"\x08\x01", b"\x0a", b"\x72\x02\x12", b"\x72\x02\x0a\x00", b"\x18\xff\xff\xff\xff\xff\x01"):
            assert echo.ask(b"s", damage)[0] == b"e", damage
        assert echo.ask(b"s", CLASSES[b"s"](job="x" * 256).SerializeToString())[0] == b"e"
        assert echo.ask(b"s", CLASSES[b"s"](workers=[{}] * 4097).SerializeToString())[0] == b"e"


@test
def a_size_that_is_not_known():
    with Echo() as echo:
        rows = [{"id": b"a"}, {"id": b"b", "size": 0}, {"id": b"c", "size": UINT64_MAX}]
        message = CLASSES[b"m"](grant={"shard": {"row_count": 3, "epoch": 1}, "rows": rows})
        back = echo.back(b"m", message.SerializeToString())
        assert [row.HasField("size") for row in back.grant.rows] == [False, True, False], back


@test
def the_last_kind_counts_for_both():
    with Echo() as echo:
        one = CLASSES[b"w"](released={"number": 1, "epoch": 1}).SerializeToString()
        other = CLASSES[b"w"](trimmed={"number": 2, "epoch": 1, "keep_rows": 1}).SerializeToString()
        back = echo.back(b"w", one + other)
        assert back == CLASSES[b"w"].FromString(one + other), back
        assert back.WhichOneof("message") == "trimmed", back


@test
def a_large_grant():
    with Echo() as echo:
        rows = [{"id": b"pages/%07d.jpg" % number, "size": number} for number in range(100000)]
        message = CLASSES[b"m"](grant={"shard": {"row_count": len(rows), "epoch": 1}, "rows": rows})
        assert echo.back(b"m", message.SerializeToString()) == message


@test
def errors_are_told_in_words():
    with Echo() as echo:
        for kind, message, words in [
            (b"w", {}, "has no kind"),
            (b"w", {"hello": {"worker": 1, "shards_max": 17}}, "up to 17 shards at once: 1 to 16 are possible"),
            (b"w", {"failed": {"epoch": 1, "failure": 2}}, "the failure 2"),
            (b"m", {"grant": {"shard": {"row_count": 2, "epoch": 1}, "rows": [{"id": b"a"}]}}, "names 1 rows of a shard that has 2"),
        ]:
            answer, text = echo.ask(kind, CLASSES[kind](**message).SerializeToString())
            assert answer == b"e", (answer, text)
            contains(text.decode(), words)


run()
