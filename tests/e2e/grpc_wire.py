"""The gRPC server byte by byte: what a well-behaved client never sends, and what it may send in unusual ways.

The client is http2.py. The server is grpc_echo (grpc_echo.c).
"""
import contextlib
import gzip
import json
import os
import signal
import struct
import subprocess
import time
import zlib

import http2
from http2 import (ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR,
                   FRAME_SIZE_ERROR, GOAWAY, HEADERS, NO_ERROR, PADDED, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM,
                   SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, field, frame, message)
from serving import wait_until
from tap import contains, run, test

ECHO = os.environ["FM_BUILD_ROOT"] + "/tests/e2e/grpc_echo"
MIB = 1 << 20


def head(method, *more, **replaced):
    return http2.head(Client.service + method, *more, **replaced)


class Client(http2.Client):
    service = "/test.Echo/"

    def alive(self):
        assert self.call("Unary", b"alive")[0] == message(b"alive")


class Server:
    def __init__(self, *options):
        # Memory that is not used must not be touched by the allocator's own checks.
        environment = {key: value for key, value in os.environ.items() if key != "MALLOC_PERTURB_"}
        self.process = subprocess.Popen([ECHO, *options], stdout=subprocess.PIPE, text=True, env=environment)
        self.port = int(self.process.stdout.readline().split()[1])

    def client(self, *arguments, **keywords):
        return Client(self.port, *arguments, **keywords)

    def stats(self):
        client = self.client()
        data = client.call("Stats", b"")[0]
        client.close()
        return json.loads(data[5:])


@contextlib.contextmanager
def server(*options):
    one = Server(*options)
    try:
        yield one
        other = one.client()
        other.alive()
        other.close()
        one.process.send_signal(signal.SIGTERM)
        out, _ = one.process.communicate(timeout=30)
        assert one.process.returncode == 0, one.process.returncode
        contains(out, "drained", "in_flight 0 message_bytes 0")
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@test
def a_call_cut_at_every_byte():
    with server() as one:
        whole = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, head("Stream")) + frame(
            DATA, 0, 1, message(b"first") + message(b"")) + frame(DATA, END_STREAM, 1, message(b"last"))
        for cut in range(1, len(whole), 3):
            client = one.client(preface=False)
            client.send(whole[:cut])
            time.sleep(0.001)
            client.send(whole[cut:])
            data, first, last = client.answer(1)
            assert data == message(b"first") + message(b"") + message(b"last"), (cut, data)
            assert first == {":status": "200", "content-type": "application/grpc"} and last == {"grpc-status": "0"}, (first, last)
            client.close()
        client = one.client(preface=False)
        for i in range(len(whole)):
            client.send(whole[i:i + 1])
        assert client.answer(1)[0] == message(b"first") + message(b"") + message(b"last")
        client.close()


@test
def messages_across_frames():
    with server() as one:
        client = one.client()
        sent = b"".join(message(b"m" * i) for i in range(40))
        for size in (1, 2, 3, 4, 5, 6, 7, 100):
            stream = client.begin("Stream")
            pieces = [sent[i:i + size] for i in range(0, len(sent), size)]
            client.send(b"".join(frame(DATA, 0, stream, piece) for piece in pieces) + frame(DATA, END_STREAM, stream))
            assert client.answer(stream)[0] == sent, size
        # Padded frames, of which some are nothing but padding.
        stream = client.begin("Stream")
        for i in range(0, len(sent), 50):
            client.send(frame(DATA, PADDED, stream, bytes([i % 256]) + sent[i:i + 50] + bytes(i % 256)))
            client.send(frame(DATA, PADDED, stream, b"\x03\0\0\0"))
        client.send(frame(DATA, END_STREAM | PADDED, stream, b"\0"))
        assert client.answer(stream)[0] == sent
        # Ended by trailers instead of data; a head in three frames.
        stream, client.next_stream = client.next_stream, client.next_stream + 2
        block = head("Stream")
        client.send(frame(HEADERS, 0, stream, block[:10]) + frame(CONTINUATION, 0, stream, block[10:20]) + frame(
            CONTINUATION, END_HEADERS, stream, block[20:]))
        client.send(frame(DATA, 0, stream, sent) + frame(HEADERS, END_HEADERS | END_STREAM, stream, field("x-trailer", "y")))
        assert client.answer(stream)[0] == sent
        client.close()


@test
def messages_that_are_wrong():
    with server("message_bytes_max=100000") as one:
        client = one.client()
        for body, code, words in (
                (b"\0\0\0\0\x05abc", "13", "inside%20a%20message"), (b"\0\0\0", "13", "inside"), (b"\2\0\0\0\1a", "13", "begins"),
                (b"\1\0\0\0\1a", "13", "grpc-encoding"), (struct.pack(">BI", 0, 100001), "8", "100001"),
                (b"\0\xff\xff\xff\xff", "8", "4294967295")):
            stream = client.begin("Unary")
            client.send(frame(DATA, END_STREAM, stream, body))
            data, _, last = client.answer(stream)
            assert last["grpc-status"] == code and words.replace("%20", " ") in last["grpc-message"], (body, last)
        for encoding, body in (("gzip", b"no gzip"), ("deflate", b"no deflate"), ("gzip", gzip.compress(b"x" * 100)[:-3]),
                               ("gzip", gzip.compress(b"x") + b"more"), ("deflate", zlib.compress(b"x")[:-1])):
            stream = client.begin("Unary", ("grpc-encoding", encoding))
            client.send(frame(DATA, END_STREAM, stream, message(body, 1)))
            last = client.answer(stream)[2]
            assert last["grpc-status"] == "13" and "no valid " + encoding in last["grpc-message"], last
        bomb = gzip.compress(bytes(50 * MIB))
        stream = client.begin("Unary", ("grpc-encoding", "gzip"))
        client.send(frame(DATA, END_STREAM, stream, message(bomb, 1)))
        assert client.answer(stream)[2]["grpc-status"] == "8"
        stream = client.begin("Unary", ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity,gzip"))
        client.send(frame(DATA, END_STREAM, stream, message(gzip.compress(b"good"), 1)))
        assert client.answer(stream)[0] == message(b"good")
        stream = client.begin("Unary", ("grpc-encoding", "snappy"))
        last = client.answer(stream)[2]
        assert last["grpc-status"] == "12" and last["grpc-accept-encoding"] == "identity,deflate,gzip", last
        stats = one.stats()
        assert stats["in_flight"] == 1 and stats["message_bytes"] == 0, stats
        client.close()


@test
def a_length_that_lies_costs_nothing():
    with server("message_bytes_max=1000000000") as one:
        client = one.client()
        for _ in range(200):
            client.send(frame(DATA, 0, client.begin("Unary"), struct.pack(">BI", 0, 1000000000) + b"x"))
        wait_until(lambda: one.stats()["in_flight"] == 201)
        with open("/proc/%d/status" % one.process.pid) as status:
            resident = int(status.read().split("VmRSS:")[1].split()[0])
        # A sanitizer's shadow has a size of its own.
        assert resident < 60000 or os.environ.get("FM_SANITIZE", "none") != "none", resident
        assert one.stats()["message_bytes"] <= 201
        client.close()


@test
def requests_that_are_no_grpc():
    with server() as one:
        client = one.client()
        for replaced in ({"content_type": "application/json"}, {"content_type": "application/grpc-web"}, {"content_type": "application/grpc+json"},
                         {"without": ("content-type",)}):
            stream = client.begin("Unary", **replaced)
            assert client.answer(stream)[2][":status"] == "415", replaced
        for content_type in ("application/grpc+proto", "application/grpc; charset=x", "Application/GRPC"):
            assert client.call("Unary", b"x", content_type=content_type)[0] == message(b"x")
        assert client.answer(client.begin("Unary", **{":method": "GET"}))[2][":status"] == "405"
        assert client.call("Unary", b"x", without=("te",))[0] == message(b"x")
        for timeout in ("", "m", "1", "123456789m", "1x", "-1m", "1mm", "1 m"):
            last = client.answer(client.begin("Deadline", ("grpc-timeout", timeout)))[2]
            assert last["grpc-status"] == "3" and "grpc-timeout" in last["grpc-message"], (timeout, last)
        for timeout, most in (("99999999H", 1 << 64), ("1M", 60e9), ("10S", 10e9), ("5000m", 5e9), ("5000000u", 5e9), ("99999999n", 1e8), ("0m", 0)):
            stream = client.begin("Deadline", ("grpc-timeout", timeout))
            client.send(frame(DATA, END_STREAM, stream, message(b"")))
            left = int(client.answer(stream)[0][5:])
            assert most * 0.5 - 1e9 < left <= most, (timeout, left)
        client.close()


@test
def what_is_not_http2_is_told_so():
    with server("handshake_timeout_ns=300000000") as one:
        for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v2/models/x/infer HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PUT"):
            client = one.client(preface=False)
            client.send(text)
            answer = b""
            while data := client.socket.recv(65536):
                answer += data
            head_text, body = answer.split(b"\r\n\r\n")
            assert head_text.startswith(b"HTTP/1.1 400 ") and b"Content-Length: %d" % len(body) in head_text and b"gRPC" in body, answer
            client.close()
        for text in (b"\x16\x03\x01\x02\x00\x01\x00", b"\0", b"get", b"", PREFACE[:10], PREFACE):
            client = one.client(preface=False)
            client.send(text)
            began = time.monotonic()
            assert client.ended() is None
            assert time.monotonic() - began < 5
            client.close()
        assert one.stats()["failed"] == 10


@test
def broken_frames_end_the_connection():
    settings = frame(SETTINGS, 0, 0)
    with server() as one:
        for what, sent, code in (
                ("first frame is no SETTINGS", None, PROTOCOL_ERROR), ("DATA on an idle stream", frame(DATA, 0, 5, b"x"), PROTOCOL_ERROR),
                ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 5, struct.pack(">I", 8)), PROTOCOL_ERROR),
                ("DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR), ("HEADERS on stream 0", frame(HEADERS, 4, 0, b"\x82"), PROTOCOL_ERROR),
                ("HEADERS on an even stream", frame(HEADERS, 4, 2, head("Unary")), PROTOCOL_ERROR),
                ("a larger frame than allowed", frame(DATA, 0, 1, bytes(MIB)), FRAME_SIZE_ERROR),
                ("PING of 7 bytes", frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR), ("PING on a stream", frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
                ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
                ("SETTINGS with a window beyond 2^31", frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), FLOW_CONTROL_ERROR),
                ("SETTINGS with a frame size too small", frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 100)), PROTOCOL_ERROR),
                ("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
                ("window beyond 2^31", frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fffffff)) * 2, FLOW_CONTROL_ERROR),
                ("PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, struct.pack(">I", 2)), PROTOCOL_ERROR),
                ("CONTINUATION without HEADERS", frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL_ERROR),
                ("PING inside HEADERS", frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
                ("header fields that do not decode", frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
                ("padding longer than the frame", frame(HEADERS, 4, 1, head("Stream")) + frame(DATA, PADDED, 1, b"\x09abc"), PROTOCOL_ERROR)):
            client = one.client(preface=False)
            client.send(PREFACE + (settings + sent if sent is not None else frame(PING, 0, 0, bytes(8))))
            got = client.ended()
            assert got == code, "%s: %r" % (what, got)
            client.close()
        # A stream used again means nothing.
        client = one.client()
        client.alive()
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, head("Unary")))
        client.alive()
        client.close()


@test
def broken_requests_end_the_stream():
    with server() as one:
        client = one.client()
        for what, block in (("an upper-case name", head("Unary") + field("X-Upper", "x")), ("no :path", head("Unary", without=(":path",))),
                            ("a connection header", head("Unary") + field("connection", "close")),
                            ("a pseudo-field behind others", head("Unary", without=(":path",)) + field(":path", "/x")),
                            ("an unknown pseudo-field", field(":unknown", "x") + head("Unary")), ("te: gzip", head("Unary", te="gzip")),
                            ("a line break in a value", head("Unary") + field("x-y", "a\nb"))):
            stream, client.next_stream = client.next_stream, client.next_stream + 2
            client.send(frame(HEADERS, END_HEADERS, stream, block))
            one_frame = client.until(RST_STREAM, stream)
            assert struct.unpack(">I", one_frame[3])[0] == PROTOCOL_ERROR, what
        client.alive()
        # Data behind the end of a stream.
        stream = client.begin("Hold")
        client.send(frame(DATA, END_STREAM, stream, message(b"x")) + frame(DATA, 0, stream, b"y"))
        assert client.ended() == STREAM_CLOSED or struct.unpack(">I", client.until(RST_STREAM, stream)[3])[0] == STREAM_CLOSED
        client.close()
        wait_until(lambda: one.stats()["in_flight"] == 1)


@test
def windows_are_kept():
    with server("stream_window_bytes=65535", "unhandled_max=1") as one:
        client = one.client()
        client.until(SETTINGS)
        stream = client.begin("Ignore")
        client.send(frame(DATA, 0, stream, message(b"a") + message(bytes(60000))[:10000]) + b"".join(frame(DATA, 0, stream, bytes(10000)) for _ in range(6)))
        assert struct.unpack(">I", client.until(RST_STREAM, stream)[3])[0] == FLOW_CONTROL_ERROR
        client.alive()
        client.close()
        wait_until(lambda: one.stats()["in_flight"] == 1)
    with server() as one:
        # A client's small windows: one byte at a time, and none at all until it says so.
        client = one.client([(4, 1)])
        stream = client.begin("Unary")
        client.send(frame(DATA, END_STREAM, stream, message(b"abcdef")))
        data = b""
        client.until(HEADERS, stream)
        while len(data) < 11:
            kind, flags, where, payload = client.until(DATA, stream)
            assert len(payload) == 1
            data += payload
            if len(data) < 11:
                client.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1)))
        assert data == message(b"abcdef") and client.until(HEADERS, stream)[3] == {"grpc-status": "0"}
        client.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        stream = client.begin("Unary")
        client.send(frame(DATA, END_STREAM, stream, message(b"abcdef")))
        client.until(HEADERS, stream)
        client.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 3)))
        assert client.until(DATA, stream)[3] == message(b"abcdef")[:3]
        client.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1000)))
        assert client.answer(stream)[0] == message(b"abcdef")[3:]
        client.close()


@test
def sixteen_mebibytes_and_large_frames():
    with server() as one:
        client = one.client([(4, 0x7fffffff), (5, 0xffffff)])
        client.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fff0000)))
        client.until(SETTINGS)
        data = os.urandom(16 * MIB)
        for size in (262144, 16384):
            stream = client.begin("Unary")
            whole = message(data)
            for i in range(0, len(whole), size):
                client.send(frame(DATA, END_STREAM if i + size >= len(whole) else 0, stream, whole[i:i + size]))
            got, _, last = client.answer(stream)
            assert got == whole and last["grpc-status"] == "0"
        client.close()


@test
def calls_beyond_the_limit_are_refused():
    with server("calls_max=3") as one:
        client = one.client()
        client.until(SETTINGS)
        held = [client.begin("Hold") for _ in range(3)]
        refused = client.begin("Unary")
        got = client.read()
        while got is not None and got[0] not in (RST_STREAM, GOAWAY):
            got = client.read()
        assert got[0] == GOAWAY or (got[2] == refused and struct.unpack(">I", got[3])[0] == REFUSED_STREAM), got
        client.close()
        wait_until(lambda: one.stats()["in_flight"] == 1)
        assert len(held) == 3 and one.stats()["told"] == 3
        # Once one is over, there is room.
        client = one.client()
        client.until(SETTINGS)
        held = [client.begin("Hold") for _ in range(3)]
        client.send(frame(RST_STREAM, 0, held[0], struct.pack(">I", CANCEL)))
        assert client.call("Unary", b"x")[0] == message(b"x")
        client.close()


@test
def floods_are_stopped():
    calm = (ENHANCE_YOUR_CALM, None)
    with server("resets_per_second_max=100", "control_frames_per_second_max=200") as one:
        def flood(sent, count=20000):
            client = one.client()
            client.until(SETTINGS)
            try:
                for i in range(count):
                    client.send(sent(i))
            except ConnectionError:
                pass
            code = client.ended()
            client.close()
            return code

        reset = struct.pack(">I", CANCEL)
        assert flood(lambda i: frame(HEADERS, END_HEADERS, 2 * i + 1, head("Hold")) + frame(RST_STREAM, 0, 2 * i + 1, reset)) in calm
        assert flood(lambda i: frame(PING, 0, 0, bytes(8))) in calm
        assert flood(lambda i: frame(SETTINGS, 0, 0)) in calm
        assert flood(lambda i: frame(PRIORITY, 0, 2 * i + 1, bytes(5))) in calm
        opened = []

        def empty(i):
            begin = b"" if opened else frame(HEADERS, END_HEADERS, 1, head("Hold"))
            opened.append(i)
            return begin + frame(DATA, 0, 1)

        assert flood(empty) in calm
        # A head that never ends.
        assert flood(lambda i: frame(CONTINUATION if i else HEADERS, 0, 1, field("x", "y") * 50)) in (*calm, PROTOCOL_ERROR, 2)
        # A few bytes that decode into many.
        large = b"\x40" + field("x-large", "v" * 3900)[1:]
        assert flood(lambda i: frame(HEADERS, END_HEADERS, 2 * i + 1, head("Hold") + large + b"\xbe" * 10000), 50) in (*calm, 2)
        wait_until(lambda: one.stats()["in_flight"] == 1)
        assert one.stats()["connections"] <= 2


@test
def those_who_do_not_read_or_write_are_left():
    with server("write_timeout_ns=300000000", "message_timeout_ns=300000000") as one:
        # A window that stays shut.
        client = one.client([(4, 0)])
        stream = client.begin("Unary")
        client.send(frame(DATA, END_STREAM, stream, message(b"x")))
        assert struct.unpack(">I", client.until(RST_STREAM, stream)[3])[0] == CANCEL
        # A message that does not come to its end.
        stream = client.begin("Unary")
        client.send(frame(DATA, 0, stream, message(b"xyz")[:-1]))
        last = client.answer(stream)[2]
        assert last["grpc-status"] == "1" and "in time" in last["grpc-message"], last
        client.close()
        # A socket that nobody reads.
        client = one.client([(4, 0x7fffffff)])
        client.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fff0000)))
        stream = client.begin("Many")
        client.send(frame(DATA, END_STREAM, stream, message(b"100 1000000")))
        wait_until(lambda: one.stats()["failed"] == 1)
        client.close()
    with server("idle_timeout_ns=200000000") as one:
        client = one.client()
        client.alive()
        assert client.ended() == NO_ERROR
        client.close()
    with server("keepalive_ns=100000000", "keepalive_timeout_ns=200000000") as one:
        client = one.client()
        stream = client.begin("Hold")
        while (got := client.read()) is not None and got[0] != PING:
            pass
        client.send(frame(PING, ACK, 0, got[3]))
        while (got := client.read()) is not None and got[0] != PING:
            pass
        assert client.ended() is None
        client.close()
        wait_until(lambda: one.stats()["told"] == 1)


@test
def drain_says_goodbye_twice():
    one = Server()
    client = one.client()
    client.alive()
    held = client.begin("Stream")
    client.send(frame(DATA, 0, held, message(b"a")))
    assert client.until(DATA, held)[3] == message(b"a")
    one.process.send_signal(signal.SIGTERM)
    first = client.until(GOAWAY)[3]
    assert struct.unpack(">II", first) == (0x7fffffff, NO_ERROR), first
    # What is on its way is taken ...
    client.alive()
    second = client.until(GOAWAY)[3]
    assert struct.unpack(">II", second) == (5, NO_ERROR), second
    # ... and later calls are not, but what began goes on.
    late = client.begin("Unary")
    client.send(frame(DATA, END_STREAM, late, message(b"late")) + frame(DATA, END_STREAM, held, message(b"b")))
    assert client.answer(held)[0] == message(b"b")
    assert not any(got[2] == late for got in client.seen)
    assert client.ended() is None
    client.close()
    out, _ = one.process.communicate(timeout=30)
    assert one.process.returncode == 0
    contains(out, "drained", "calls 3 ")


@test
def small_answers_leave_together():
    with server() as one:
        client = one.client()
        client.until(SETTINGS)
        before = one.stats()
        block = head("Unary")
        calls, client.next_stream = range(1, 401, 2), 401
        client.send(b"".join(frame(HEADERS, END_HEADERS, i, block) + frame(DATA, END_STREAM, i, message(b"x" * 100)) for i in calls))
        for i in calls:
            if not any(got[2] == i and got[0] == DATA for got in client.seen):
                client.until(HEADERS, i)
        after = one.stats()
        assert after["writes"] - before["writes"] < 20, (before, after)
        client.close()


run()
