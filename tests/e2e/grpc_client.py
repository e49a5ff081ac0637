"""The gRPC server through Debian's gRPC client: calls of every kind, large messages, deadlines, cancels, compression, drain.

The server is grpc_echo (grpc_echo.c). Runs under /usr/bin/python3 where this interpreter has no grpcio; skips without either.
"""
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

import with_grpc
from serving import beside, wait_until
from tap import contains, run, test

with_grpc.skip_without("grpc")
import grpc

ECHO = os.environ["FM_BUILD_ROOT"] + "/tests/e2e/grpc_echo"
MIB = 1 << 20
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Server:
    def __init__(self, *options):
        self.process = subprocess.Popen([ECHO, *options], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.out = None

    def channel(self, *options, **keywords):
        return grpc.insecure_channel("127.0.0.1:%d" % self.port, [*UNLIMITED, *options], **keywords)

    def stats(self):
        with self.channel() as channel:
            return json.loads(call(channel, "Stats")(b""))

    def drain(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        """What it said, drained; also when asked again."""
        if self.out is None:
            self.out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, self.process.returncode
        return self.out


@contextlib.contextmanager
def server(*options):
    one = Server(*options)
    try:
        yield one
        one.drain()
        contains(one.end(), "drained", "in_flight 0 message_bytes 0")
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def call(channel, method, kind="unary_unary"):
    return getattr(channel, kind)("/test.Echo/" + method, request_serializer=None, response_deserializer=None)


def fails(code, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError("the call succeeded")


@test
def unary_calls_echo_what_they_get():
    with server() as one, one.channel() as channel:
        unary = call(channel, "Unary")
        for size in (0, 1, 5, 511, 512, 513, 1024, 16384 - 5, 16384, 65535, 65536, 300000, MIB, 16 * MIB):
            data = os.urandom(size)
            assert unary(data) == data, size
        assert unary(b"x", wait_for_ready=True) == b"x"


@test
def large_messages_are_copied_once():
    with server() as one, one.channel() as channel:
        call(channel, "Unary")(b"x")
        before = one.stats()["copied"]
        data = os.urandom(16 * MIB)
        assert call(channel, "Unary")(data) == data
        copied = one.stats()["copied"] - before
        assert 16 * MIB <= copied < 16 * MIB + 4096, copied


@test
def messages_end_aligned():
    with server() as it, it.channel() as channel:
        for size in [*range(1, 40), 70000, 1000001]:
            assert call(channel, "Ending")(bytes(size)) == b"0", size


@test
def many_calls_at_once():
    with server() as one, one.channel() as channel:
        unary = call(channel, "Unary")
        futures = [(unary.future(b"%d" % i * (i % 300)), b"%d" % i * (i % 300)) for i in range(3000)]
        for future, data in futures:
            assert future.result(timeout=30) == data
        later = call(channel, "Later")
        futures = [(later.future(b"%d" % i), b"%d" % i) for i in range(200)]
        for future, data in futures:
            assert future.result(timeout=30) == data


@test
def streams_in_both_directions():
    with server() as one, one.channel() as channel:
        stream = call(channel, "Stream", "stream_stream")
        sent = [os.urandom(i * 37 % 5000) for i in range(1000)]
        assert list(stream(iter(sent))) == sent
        assert list(stream(iter([]))) == []
        large = [os.urandom(4 * MIB) for _ in range(8)]
        assert list(stream(iter(large))) == large
        # One at a time: each answer comes before the next message is sent.
        turn = threading.Semaphore(1)

        def slowly():
            for i in range(50):
                turn.acquire()
                yield b"%d" % i

        for i, answer in enumerate(stream(slowly())):
            assert answer == b"%d" % i
            turn.release()
        many = call(channel, "Many", "unary_stream")
        answers = list(many(b"5000 100"))
        assert len(answers) == 5000 and all(answer == b"x" * 100 for answer in answers)
        assert sum(map(len, many(b"10 4000000"))) == 40000000


@test
def status_message_and_trailers():
    with server() as one, one.channel() as channel:
        status = call(channel, "Status")
        error = fails(grpc.StatusCode.NOT_FOUND, status, "5:größe 100% \n\tnot found ✓".encode())
        assert error.details() == "größe 100% \n\tnot found ✓", error.details()
        assert dict(error.trailing_metadata()) == {"x-one": "first", "x-two": "second"}, error.trailing_metadata()
        error = fails(grpc.StatusCode.DATA_LOSS, status, b"15:")
        assert error.details() == ""
        long = fails(grpc.StatusCode.ABORTED, status, b"10:" + b"m" * 5000).details()
        assert long == "m" * 2048, len(long)
        cut = fails(grpc.StatusCode.ABORTED, status, b"10:" + "ü".encode() * 5000).details()
        assert cut == "ü" * (2048 // 6), len(cut)
        fails(grpc.StatusCode.UNAVAILABLE, call(channel, "Refuse"), b"x")
        contains(fails(grpc.StatusCode.UNIMPLEMENTED, call(channel, "Nothing"), b"x").details(), "no such method")
        fails(grpc.StatusCode.UNAVAILABLE, call(channel, "Refuse"), b"x" * MIB)


@test
def metadata_and_deadlines():
    with server("metadata_bytes_max=4096") as one, one.channel() as channel:
        get = call(channel, "Metadata")
        assert get(b"x-mine", metadata=[("x-mine", "yes")]) == b"yes"
        assert get(b"x-mine") == b"(none)"
        many = [("x-%d" % i, "v%d" % i) for i in range(40)]
        assert get(b"x-39", metadata=many) == b"v39"
        error = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, get, b"x", metadata=[("x-large", "v" * 4500)])
        assert "metadata" in error.details(), error.details()
        left = call(channel, "Deadline")
        assert left(b"") == b"none"
        # The client rounds up.
        assert 59e9 < int(left(b"", timeout=60)) <= 66e9
        assert 3599e9 < int(left(b"", timeout=3600)) <= 3960e9


@test
def cancelled_and_expired_calls():
    with server() as one, one.channel() as channel:
        hold = call(channel, "Hold")
        fails(grpc.StatusCode.DEADLINE_EXCEEDED, hold, b"x", timeout=0.2)
        wait_until(lambda: one.stats()["told"] == 1)
        future = hold.future(b"x")
        wait_until(lambda: one.stats()["in_flight"] == 2)
        future.cancel()
        wait_until(lambda: one.stats()["told"] == 2)
        futures = [hold.future(b"x") for _ in range(100)]
        wait_until(lambda: one.stats()["in_flight"] == 101)
        channel.close()
        wait_until(lambda: one.stats()["told"] == 102)
        assert one.stats()["cancelled"] == 102 and one.stats()["in_flight"] == 1


@test
def compressed_messages():
    with server("message_bytes_max=1000000") as one:
        data = b"all work and no play " * 20000
        for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            with one.channel(compression=algorithm) as channel:
                before = one.stats()
                assert call(channel, "Unary")(data) == data
                assert call(channel, "Compressed")(data) == data
                assert call(channel, "Compressed")(b"") == b""
                after = one.stats()
                assert after["bytes_received"] - before["bytes_received"] < 40000, "it came compressed"
                assert after["bytes_sent"] - before["bytes_sent"] < len(data) + 40000, "one answer left compressed"
                stream = call(channel, "Compressed", "stream_stream")
                assert list(stream(iter([data, b"x", data]))) == [data, b"x", data]
                # A bomb: a little that becomes too much.
                error = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, call(channel, "Unary"), bytes(1000001))
                contains(error.details(), "1000000 bytes", "decompressed")
        with one.channel() as channel:
            assert call(channel, "Compressed")(data) == data
            error = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, call(channel, "Unary"), bytes(1000001))
            contains(error.details(), "a message of 1000001 bytes", "1000000 bytes")


@test
def slow_handlers_hold_their_client_up():
    with server("unhandled_max=4", "stream_window_bytes=65536") as one, one.channel() as channel:
        sent = [0]

        def endless():
            while sent[0] < 5000:
                sent[0] += 1
                yield b"m" * 1000

        answers = call(channel, "Ignore", "stream_stream")(endless())
        wait_until(lambda: one.stats()["received"] >= 4)
        time.sleep(0.3)
        stats = one.stats()
        # Four were given; the window's 64 KiB are held; the client's own buffers have the rest.
        assert stats["message_bytes"] <= 65536 + 1000, stats
        assert sent[0] < 1000, sent
        answers.cancel()
        wait_until(lambda: one.stats()["told"] == 1)


@test
def slow_readers_hold_themselves_up():
    with server("unsent_max=4", "stream_window_bytes=65536", "write_timeout_ns=500000000") as one, one.channel() as channel:
        sent = [0]

        def endless():
            yield b"40 1000000"  # more than windows and sockets take, and nobody reads
            while sent[0] < 5000:
                sent[0] += 1
                yield b"1 1".ljust(1000)

        answers = call(channel, "Many", "stream_stream")(endless())
        wait_until(lambda: one.stats()["received"] > 4)
        assert call(channel, "Unary")(b"others go on") == b"others go on"
        # What it sends is not taken either, beyond its window; and in the end it is cut off.
        wait_until(lambda: one.stats()["told"] == 1)
        assert 0 < sent[0] < 1000, sent
        fails(grpc.StatusCode.CANCELLED, lambda: list(answers))
        assert call(channel, "Unary")(b"others go on") == b"others go on"


@test
def limits_on_bytes_and_connections():
    with server("message_bytes_total_max=1000000", "message_bytes_max=4000000") as one, one.channel() as channel:
        error = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, call(channel, "Unary"), bytes(1000001))
        contains(error.details(), "as many request bytes as it may")
        assert len(call(channel, "Unary")(bytes(900000))) == 900000
        assert len(call(channel, "Unary")(bytes(900000))) == 900000
    with server("connections_max=2") as one:
        own = [("grpc.use_local_subchannel_pool", 1)]
        first, second, third = one.channel(*own), one.channel(*own), one.channel(*own)
        held = [call(first, "Hold").future(b"x"), call(second, "Hold").future(b"x")]
        assert call(first, "Unary")(b"x") == b"x" and call(second, "Unary")(b"x") == b"x"
        fails(grpc.StatusCode.UNAVAILABLE, call(third, "Unary"), b"x")
        second.close()
        wait_until(lambda: json.loads(call(first, "Stats")(b""))["connections"] <= 1)
        assert call(third, "Unary")(b"x", wait_for_ready=True, timeout=20) == b"x"
        first.close()
        third.close()
        assert len(held) == 2


@test
def drain_finishes_what_began():
    one = Server()
    with one.channel() as channel:
        turns = threading.Semaphore(0)

        def messages():
            for i in range(3):
                turns.acquire()
                yield b"%d" % i

        answers = iter(call(channel, "Stream", "stream_stream")(messages()))
        turns.release()
        assert next(answers) == b"0"
        one.drain()
        time.sleep(0.3)
        turns.release()
        assert next(answers) == b"1"
        turns.release()
        assert list(answers) == [b"2"]
        fails(grpc.StatusCode.UNAVAILABLE, call(channel, "Unary"), b"x")
    contains(one.end(), "drained", "calls 1 ")


@test
def drain_under_load_loses_nothing():
    for _ in range(3):
        one = Server()
        with one.channel() as channel:
            unary = call(channel, "Later")
            assert unary(b"x") == b"x"
            answered, refused = [0], [0]

            def work():
                while True:
                    try:
                        unary(b"y")
                        answered[0] += 1
                    except grpc.RpcError as error:
                        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                        refused[0] += 1
                        return

            join = beside(*[work] * 8)
            wait_until(lambda: answered[0] > 100)
            one.drain()
            join()
            calls = int(one.end().split("calls ")[1].split()[0])
            assert refused[0] == 8 and calls == answered[0] + 1, (calls, answered, refused)


@test
def several_loops_share_a_port_and_a_socket():
    with server("loops=4") as one:
        channels = [one.channel(("grpc.use_local_subchannel_pool", 1), ("n", i)) for i in range(40)]
        for channel in channels:
            assert call(channel, "Unary")(b"x") == b"x"
        for channel in channels:
            channel.close()
        one.drain()
        used = int(one.end().split("lanes_used ")[1].split()[0])
        assert used > 1, used
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        with server("loops=2", "unix=" + path) as one:
            for _ in range(10):
                with grpc.insecure_channel("unix:" + path, UNLIMITED) as channel:
                    assert call(channel, "Unary")(b"x") == b"x"
        assert not os.path.exists(path)
    with server("host=::1") as one, grpc.insecure_channel("[::1]:%d" % one.port) as channel:
        assert call(channel, "Unary")(b"x") == b"x"


@test
def a_port_in_use_is_an_error_also_where_it_could_be_shared():
    with server("loops=2") as one:
        second = subprocess.run([ECHO, "loops=2", "port=%d" % one.port], capture_output=True, text=True, timeout=30)
        assert second.returncode == 6
        contains(second.stderr, "cannot listen on 127.0.0.1 port %d" % one.port, "another program uses this port")


run()
