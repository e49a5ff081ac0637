"""Clients that keep `fermata serve` busy, over both protocols, while something happens to it."""
import re
import threading

from hostile import STREAM, infer_message, member
from serving import floats
from with_grpc import grpc


class Clients:
    """Threads that ask on and on, each in a function of its own, until `ends`; whatever such a function raises is in `broken`."""

    def __init__(self, server):
        self.server, self.lock = server, threading.Lock()
        self.ends, self.broken, self.threads = threading.Event(), [], []

    def add(self, run, *arguments):
        def guarded():
            try:
                run(*arguments)
            except Exception as error:
                self.wrong((run.__name__, repr(error)))

        self.threads.append(threading.Thread(target=guarded))

    def wrong(self, what):
        with self.lock:
            self.broken.append(what)

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client still waits for an answer"
        assert not self.broken, self.broken[:3]

    def channel(self):
        """A connection of its own, for gRPC."""
        return grpc.insecure_channel("127.0.0.1:%d" % self.server.grpc_port, [("grpc.use_local_subchannel_pool", 1)])

    def answers(self, channel, model, names, at_once=8):
        """The ids of a stream's answers, as they come, for requests of these ids, so many of them under way at a time."""
        turn = threading.Semaphore(at_once)

        def messages():
            for name in names:
                turn.acquire()
                yield infer_message(model, [1, 4], floats(1, 2, 3, 4), more=member(3, name))

        try:
            for answer in channel.stream_stream(STREAM)(messages(), timeout=60):
                for name in re.findall(rb"\x1a.(\w\d+)", answer):
                    yield name.decode()
                turn.release()
        finally:
            turn.release()  # who makes the messages may wait
