"""`fermata serve`: every request that it accepted is answered exactly once, whatever ends it: drains under load, streams, both protocols.

The gRPC halves run under /usr/bin/python3 where this interpreter has no grpcio, and are left out without either.
"""
import json
import os
import queue
import re
import signal
import threading
import time

import serving
import tap
from hostile import INFER, STREAM, infer_message, member
from serving import ECHO, SLOW, Server, floats, sleeper, tensor
from tap import test
from with_grpc import grpc

DRAINS = 10
directory = serving.temporary()
repo = serving.repository(os.path.join(directory.name, "models"), echo=ECHO, slow=sleeper("50ms", batch=8))
BODY = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})


class Load:
    """Clients that go on until they are turned away. A request is `sent` when all of it is on the way; each has to be answered, or refused
    whole: by a reset or a closed connection before a byte of the answer."""

    def __init__(self, server):
        self.server, self.lock = server, threading.Lock()
        self.good, self.refused, self.broken = 0, 0, []
        self.ends = threading.Event()
        self.threads = [threading.Thread(target=self.http, args=(i,)) for i in range(8)]
        if grpc is not None:
            self.threads += [threading.Thread(target=self.unary) for _ in range(3)] + [threading.Thread(target=self.stream) for _ in range(3)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client still waits for an answer"

    def count(self, good=0, refused=0, broken=None):
        with self.lock:
            self.good, self.refused = self.good + good, self.refused + refused
            if broken is not None:
                self.broken.append(broken)

    def http(self, number):
        """Keep-alive, one request at a time; half of them pipeline three."""
        depth = 1 + number % 2 * 2
        text = ("POST /v2/models/%s/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % ("slow" if number % 4 else "echo", len(BODY), BODY)).encode()
        while not self.ends.is_set():
            try:
                client = self.server.connect(30)
            except OSError:
                return
            with client:
                file = client.makefile("rb")
                while not self.ends.is_set():
                    try:
                        client.sendall(text * depth)
                    except OSError:
                        break
                    got = 0
                    while got < depth:
                        state = self.answer(file)
                        if state != "kept" and state != "last":
                            break
                        got += 1
                        if state == "last":
                            break
                    if got < depth:
                        self.count(refused=1)
                        break

    def answer(self, file):
        """One answer off the connection: kept, last (the server closes behind it), none, or broken."""
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
        except OSError as error:
            self.count(broken=repr(error))
            return "broken"
        status = int(line.split()[1])
        if len(body) != length or not line.startswith(b"HTTP/1.1 ") or status not in (200, 503):
            self.count(broken=(line, body[:200]))
            return "broken"
        self.count(good=status == 200, refused=status != 200)
        return "last" if last else "kept"

    def unary(self):
        with grpc.insecure_channel("127.0.0.1:%d" % self.server.grpc_port, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(INFER)
            while not self.ends.is_set():
                futures = [infer.future(infer_message("slow", [1, 4], floats(1, 2, 3, 4)), timeout=60) for _ in range(16)]
                for future in futures:
                    code = future.code().name
                    if code == "OK":
                        self.count(good=1)
                    elif code in ("UNAVAILABLE",):
                        self.count(refused=1)
                    else:
                        self.count(broken=(code, future.details()))
                if any(future.code().name != "OK" for future in futures):
                    return

    def stream(self):
        """Ids out, ids in: the same ones, once each, in order; what is missing was sent after the server had closed the stream."""
        with grpc.insecure_channel("127.0.0.1:%d" % self.server.grpc_port, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            asked, turn = [], threading.Semaphore(8)

            def messages():
                while not self.ends.is_set():
                    turn.acquire()
                    asked.append("n%d" % len(asked))
                    yield infer_message("slow", [1, 4], floats(1, 2, 3, 4), more=member(3, asked[-1]))

            got = []
            try:
                for answer in channel.stream_stream(STREAM)(messages(), timeout=60):
                    got += re.findall(rb"\x1a.(n\d+)", answer)
                    turn.release()
            except grpc.RpcError as error:
                if error.code().name not in ("UNAVAILABLE", "CANCELLED"):
                    self.count(broken=(error.code(), error.details()))
            turn.release()
            got = [one.decode() for one in got]
            if got != asked[:len(got)]:
                self.count(broken=("answers of a stream", got[-5:], asked[:3], len(got)))
            self.count(good=len(got), refused=len(asked) - len(got))


@test
def drains_under_load():
    for turn in range(DRAINS):
        with Server(repo, "--loops", str(1 + turn % 4)) as server:
            load = Load(server)
            load.start()
            time.sleep(0.3 + 0.1 * (turn % 3))
            start = time.monotonic()
            server.signal(signal.SIGTERM if turn % 2 else signal.SIGINT)
            log = server.ended(0, 40)
            took = time.monotonic() - start
            load.ends.set()
            load.join()
            assert not load.broken, load.broken[:3]
            assert load.good > 20, load.good
            assert took < 6 * SLOW, took
            print("# drain %d: %d answered, %d refused whole, %.2f s" % (turn, load.good, load.refused, took))
            assert "sanitizer" not in log.lower(), log


@test
def what_was_accepted_before_the_signal_is_answered():
    """No client is turned away whose request had been read: 40 wait for a model of a second when the signal comes."""
    models = serving.repository(os.path.join(directory.name, "second"), second=sleeper("1s", batch=8))
    with Server(models, "--slo", "30s", "--no-admission", "--loops", "3") as server:
        answers, lock = [], threading.Lock()

        def one():
            status, _, _ = server.request("POST", "/v2/models/second/infer", BODY)
            with lock:
                answers.append(status)

        def other():
            with grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                future = channel.unary_unary(INFER).future(infer_message("second", [1, 4], floats(1, 2, 3, 4)), timeout=60)
                with lock:
                    answers.append(200 if future.code().name == "OK" else (future.code(), future.details()))

        threads = [threading.Thread(target=one if i % 2 or grpc is None else other) for i in range(40)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 20
        while 'fermata_model_requests_in_flight{model="second",version="1"} 40' not in server.request("GET", "/metrics")[2].decode():
            assert time.monotonic() < end and not answers, server.request("GET", "/metrics")[2].decode()[-3000:]
        start = time.monotonic()
        server.stop(0, 60)
        took = time.monotonic() - start
        for thread in threads:
            thread.join()
        assert answers == [200] * 40, answers
        # 40 of them are five batches of a second: none of those is held for the 30 s that it might be.
        assert took < 15, took


tap.run()
