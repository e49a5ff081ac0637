"""`fermata serve`: every request that it accepted is answered exactly once, whatever ends it: drains under load, streams, both protocols.

The gRPC halves run under /usr/bin/python3 where this interpreter has no grpcio, and are left out without either.
"""
import json
import os
import signal
import time

import serving
import tap
from clients import Clients
from hostile import INFER, infer_message
from serving import ECHO, SLOW, Server, beside, floats, sleeper, tensor, wait_in_flight, wait_until
from tap import test
from with_grpc import grpc

DRAINS = 10
directory = serving.temporary()
repo = serving.repository(os.path.join(directory.name, "models"), echo=ECHO, slow=sleeper("50ms", batch=8))
BODY = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})


class Load(Clients):
    """Clients that go on until they are turned away. A request is `sent` when all of it is on the way; each has to be answered, or refused
    whole: as the protocols let a server do, and not before it was told to end."""

    def __init__(self, server):
        super().__init__(server)
        self.good, self.refused, self.told = 0, 0, None
        for i in range(8):
            self.add(self.http, i)
        if grpc is not None:
            for run in (self.unary, self.stream) * 3:
                self.add(run)

    def tell(self, number):
        self.told = time.monotonic()
        self.server.signal(number)

    def count(self, good=0, refused=0):
        with self.lock:
            self.good, self.refused = self.good + good, self.refused + refused

    def refuse(self, sent, count, why):
        """What was sent then is not answered. What was on its way before the signal is there when the server hears of it, and is owed an answer."""
        if self.told is None or sent < self.told:
            self.wrong((why, count, sent, self.told))
        self.count(refused=count)

    def http(self, number):
        """Keep-alive, one request at a time; half of them pipeline three."""
        depth = 1 + number % 2 * 2
        text = ("POST /v2/models/%s/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % ("slow" if number % 4 else "echo", len(BODY), BODY)).encode()
        while not self.ends.is_set():
            try:
                client = self.server.connect(30)
            except OSError:
                self.refuse(time.monotonic(), 0, "no connection")
                return
            with client:
                file, state = client.makefile("rb"), "kept"
                while state == "kept" and not self.ends.is_set():
                    try:
                        client.sendall(text * depth)
                        sent = time.monotonic()
                    except OSError:
                        self.refuse(time.monotonic(), 0, "the connection ended without a word")
                        break
                    for got in range(depth):
                        state = self.answer(file)
                        if state == "none":
                            self.refuse(sent, depth - got, "no answer")
                        if state != "kept":
                            break
                    if state == "last":  # said so: what was pipelined behind it may be sent again
                        self.count(refused=depth - got - 1)

    def answer(self, file):
        """One answer off the connection: kept, last (the server closes behind it), none, or broken, which is told."""
        try:
            line = file.readline()
            if not line:
                return "none"
            length, last = 0, False
            while True:
                field = file.readline()
                if field in (b"\r\n", b""):
                    break
                length = int(field.split(b":")[1]) if field.lower().startswith(b"content-length") else length
                last = last or field.lower().replace(b" ", b"") == b"connection:close\r\n"
            body = file.read(length)
        except ConnectionResetError:
            return "none"
        status = int(line.split()[1])
        if len(body) != length or not line.startswith(b"HTTP/1.1 ") or status not in (200, 503):
            self.wrong((line, body[:200]))
            return "broken"
        self.count(good=status == 200, refused=status != 200)
        return "last" if last else "kept"

    def unary(self):
        with self.channel() as channel:
            infer, refused = channel.unary_unary(INFER), False
            while not self.ends.is_set() and not refused:
                begun = time.monotonic()
                futures = [infer.future(infer_message("slow", [1, 4], floats(1, 2, 3, 4)), timeout=60) for _ in range(16)]
                codes = [future.code().name for future in futures]
                refused = "UNAVAILABLE" in codes
                assert set(codes) <= {"OK", "UNAVAILABLE"}, [future.details() for future in futures]
                self.count(good=codes.count("OK"), refused=codes.count("UNAVAILABLE"))
                # When gRPC's own threads send a call is not known; what is certain: before the signal nothing is refused.
                if refused and self.told is None:
                    self.wrong(("calls refused", begun, [future.details() for future in futures]))

    def stream(self):
        """Ids out, ids in: the same ones, once each, in order; what is missing was sent after the server had closed the stream."""
        with self.channel() as channel:
            asked, got = [], []

            def names():
                while not self.ends.is_set():
                    asked.append("n%d" % len(asked))
                    yield asked[-1]

            try:
                for name in self.answers(channel, "slow", names()):
                    got.append(name)
                self.wrong("a stream ended well")
            except grpc.RpcError as error:
                if self.told is None or error.code().name != "UNAVAILABLE":
                    self.wrong((error.code(), error.details()))
            if got != asked[:len(got)] or len(asked) - len(got) > 9:  # no more than were under way, and one that was not sent any more
                self.wrong(("answers of a stream", got[-5:], asked[-10:], len(got)))
            self.count(good=len(got), refused=len(asked) - len(got))


@test
def drains_under_load():
    for turn in range(DRAINS):
        with Server(repo, "--loops", str(1 + turn % 4)) as server:
            load = Load(server)
            load.start()
            wait_until(lambda: load.good > 100 + 50 * (turn % 3) or load.broken)
            load.tell(signal.SIGTERM if turn % 2 else signal.SIGINT)
            log = server.ended(0, 40)
            took = time.monotonic() - load.told
            load.ends.set()
            load.join()
            assert " cancelled=0 " in log, log
            assert took < 6 * SLOW, took
            print("# drain %d: %d answered, %d refused whole, %.2f s" % (turn, load.good, load.refused, took))
            assert "sanitizer" not in log.lower(), log


@test
def what_was_accepted_before_the_signal_is_answered():
    """No client is turned away whose request had been read: 40 wait for a model of a second when the signal comes."""
    models = serving.repository(os.path.join(directory.name, "second"), second=sleeper("1s", batch=8))
    with Server(models, "--slo", "30s", "--no-admission", "--loops", "3") as server:
        def one():
            server.infer("second", BODY)

        def other():
            with Clients(server).channel() as channel:
                channel.unary_unary(INFER)(infer_message("second", [1, 4], floats(1, 2, 3, 4)), timeout=60)

        join = beside(*[one if i % 2 or grpc is None else other for i in range(40)])
        wait_in_flight(server, "second", 40)
        start = time.monotonic()
        server.stop(0, 60)
        took = time.monotonic() - start
        join()
        # 40 of them are five batches of a second: none of those is held for the 30 s that it might be.
        assert took < 15, took


tap.run()
