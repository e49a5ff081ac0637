"""Compressed bodies over HTTP/1.1: requests with Content-Encoding, answers as Accept-Encoding wants them, bombs and broken ones.

The server is grpc_echo (grpc_echo.c) with http=1, which gives back every body.
"""
import gzip
import http.client
import os
import signal
import subprocess
import zlib

from tap import contains, run, test

ECHO = os.environ["FM_BUILD_ROOT"] + "/tests/e2e/grpc_echo"
TEXT = b"all work and no play makes a dull text. " * 5000


class Server:
    def __enter__(self):
        self.process = subprocess.Popen([ECHO, "http=1", "message_bytes_max=1000000"], stdout=subprocess.PIPE, text=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", int(self.process.stdout.readline().split()[3]), timeout=30)
        return self

    def __exit__(self, kind, *_):
        self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        if kind is None:
            assert self.process.returncode == 0, self.process.returncode
            contains(out, "drained", "in_flight 0 message_bytes 0")

    def post(self, body, method="POST", **headers):
        self.connection.request(method, "/", body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()


@test
def requests():
    with Server() as server:
        for encoding, body in (("gzip", gzip.compress(TEXT)), ("x-gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT)), ("identity", TEXT),
                               ("GZIP", gzip.compress(TEXT)), ("gzip", b"")):
            status, headers, answer = server.post(body, Content_Encoding=encoding)
            assert status == 200 and answer == (TEXT if body else b"") and "Content-Encoding" not in headers, encoding


@test
def answers():
    with Server() as server:
        for accepted, encoding, unpack in (("gzip", "gzip", gzip.decompress), ("gzip, deflate, br", "gzip", gzip.decompress),
                                           ("deflate", "deflate", zlib.decompress), ("gzip;q=0, deflate;q=0.5", "deflate", zlib.decompress),
                                           ("br", None, bytes), ("identity", None, bytes), ("gzip;q=0", None, bytes)):
            status, headers, answer = server.post(TEXT, Accept_Encoding=accepted)
            assert status == 200 and headers["Content-Encoding"] == encoding and unpack(answer) == TEXT, accepted
            assert (len(answer) < len(TEXT) // 20) == (encoding is not None) and headers["Vary"] == "Accept-Encoding"
        # Not worth it: little, or what does not get smaller.
        for body in (b"x" * 1000, os.urandom(100000)):
            status, headers, answer = server.post(body, Accept_Encoding="gzip")
            assert answer == body and headers["Content-Encoding"] is None
        # The head of what GET would give.
        status, headers, answer = server.post(TEXT, method="HEAD", Accept_Encoding="gzip")
        assert status == 200 and answer == b"" and headers["Content-Encoding"] == "gzip" and int(headers["Content-Length"]) < 10000


@test
def what_is_refused():
    with Server() as server:
        for encoding, body, expected, words in (
                ("gzip", gzip.compress(bytes(1000001)), 413, "once decompressed"), ("gzip", gzip.compress(bytes(100 << 20)), 413, "once decompressed"),
                ("gzip", b"no gzip", 400, "Content-Encoding"), ("gzip", gzip.compress(TEXT)[:-1], 400, "Content-Encoding"),
                ("gzip", gzip.compress(b"x") + b"y", 400, "Content-Encoding"), ("deflate", gzip.compress(b"x"), 400, "Content-Encoding"),
                ("br", b"x", 415, "gzip, deflate or identity"), ("gzip, gzip", b"x", 415, "gzip, deflate or identity")):
            status, _, answer = server.post(body, Content_Encoding=encoding)
            assert status == expected, (encoding, status, answer)
            contains(answer.decode(), words)
        assert server.post(gzip.compress(bytes(1000000)), Content_Encoding="gzip")[0] == 200


run()
