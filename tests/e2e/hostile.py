"""What hostile clients of `fermata serve` are made of: gRPC messages by hand (their frames: http2.py), and what is looked at afterwards."""
import json
import os
import re
import socket
import threading
import time

import serving

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def member(number, value):
    """A field of a protobuf message: an int is a varint, all else bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def parameter(name, kind, value):
    return member(4, member(1, name) + member(2, member(kind, value)))


def infer_message(model, shape, data, datatype="FP32", name="x", more=b"", raw=True):
    tensor = member(1, name) + member(2, datatype) + member(3, b"".join(varint(axis) for axis in shape))
    return member(1, model) + more + member(5, tensor) + (member(7, data) if raw else b"")


def settled(server, seconds=20 * serving.SLOW):
    """Waits until nothing is in flight, nothing queued."""
    def busy():
        text = server.request("GET", "/metrics")[2].decode()
        return [line for line in text.splitlines()
                if re.match(r"(fermata_loop_requests_in_flight|fermata_model_requests_in_flight|nv_inference_pending_request_count|"
                            r"fermata_scheduler_queued)", line) and not line.endswith(" 0")]

    serving.wait_until(lambda: not busy(), busy, seconds)


def rss(server):
    """Resident KiB."""
    with open("/proc/%d/status" % server.process.pid) as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def descriptors(server):
    return len(os.listdir("/proc/%d/fd" % server.process.pid))


class Prober:
    """Another client, all the while: every answer must be right, and soon."""

    def __init__(self, server, model="echo", most=1.0, refusals=False):
        self.server, self.model, self.most = server, model, most * serving.SLOW
        self.refusals = refusals  # 503 is an answer, too: the others are more than the server can take
        self.worst, self.count, self.wrong, self.ends = 0.0, 0, [], False
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.ends:
            start = time.monotonic()
            try:
                document = {"inputs": [serving.tensor("x", [1, 2], "FP32", [self.count % 1000, 7])]}
                status, _, body = self.server.request("POST", "/v2/models/%s/infer" % self.model, json.dumps(document))
                right = status == 200 and json.loads(body)["outputs"][0]["data"] == [self.count % 1000, 7]
                if not right and not (status == 503 and self.refusals):
                    self.wrong.append((status, body))
            except Exception as error:
                self.wrong.append(repr(error))
            self.worst = max(self.worst, time.monotonic() - start)
            self.count += 1
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.ends = True
        self.thread.join()
        if kind is None:
            assert not self.wrong, self.wrong[:3]
            assert self.count > 0 and self.worst < self.most, "another client waited for %.2f s" % self.worst


def closed(client, seconds):
    """Whether the server closes the connection in that time; what it sends before is read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.settimeout(max(0.01, end - time.monotonic()))
        try:
            if not client.recv(65536):
                return True
        except socket.timeout:
            return False
        except OSError:
            return True
    return False
