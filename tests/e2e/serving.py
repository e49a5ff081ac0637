"""What the serve tests share: model repositories on the fly, the server as a process, raw sockets, HTTP with http.client, waiting, threads."""
import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

from tap import FERMATA

SLOW = float(4 if os.environ.get("FM_SANITIZE", "none") != "none" else 1)


def repository(directory, **models):
    """Writes <directory>/<name>/model.yaml for each name=text."""
    for name, text in models.items():
        os.makedirs(os.path.join(directory, name), exist_ok=True)
        with open(os.path.join(directory, name, "model.yaml"), "w") as file:
            file.write(text)
    return directory


ECHO = 'backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,-1]"\n'


def echo(inputs, batch=0):
    return 'backend: identity\nmax_batch_size: %d\nsettings:\n  inputs: "%s"\n' % (batch, inputs)


def sleeper(latency, instances=1, batch=4, more=""):
    return ('backend: emulated\nmax_batch_size: %d\ninstances: %d\nsettings:\n  latency: "1:%s, 8:%s"\n%s' %
            (batch, instances, latency, latency, more))


def wait_until(holds, what="it did not come to be", seconds=60):
    """What `holds` gives, once that counts as true; `what`, a text or what gives one, says what is missing when it never does."""
    end = time.monotonic() + seconds
    while not (got := holds()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)
    return got


def metric(server, name):
    """A metric's value; `name` is all of it, with its labels. None where there is none."""
    found = re.search(r"^%s (\S+)$" % re.escape(name), server.request("GET", "/metrics", port=server.metrics_port)[2].decode(), re.M)
    return found and float(found.group(1))


def wait_in_flight(server, model, count, seconds=60):
    """Until the model (of version 1) has exactly so many requests."""
    name = 'fermata_model_requests_in_flight{model="%s",version="1"}' % model
    wait_until(lambda: metric(server, name) == count, lambda: "%d requests of %s, %s" % (count, model, metric(server, name)), seconds)


def beside(*calls):
    """Starts each of the calls in a thread of its own. What is returned waits for them: it returns their results, in order, or raises what one
    of them raised."""
    pool = concurrent.futures.ThreadPoolExecutor(len(calls))
    futures = [pool.submit(call) for call in calls]

    def join():
        pool.shutdown()
        return [future.result() for future in futures]

    return join


def in_threads(*calls):
    """The results of the calls, made at the same time; what one of them raises is raised here when all have ended."""
    return beside(*calls)()


ANY_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


class Server:
    """`fermata serve` on a free port (or on its own ones: ports=[]). Use as a context manager; .stop() drains and checks the exit code."""

    def __init__(self, *arguments, wait=True, env=None, program=FERMATA, ports=ANY_PORTS):
        self.log = []
        self.lines = threading.Condition()
        self.process = subprocess.Popen([program, "serve", *map(str, arguments), *ports], stderr=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.port = self._port("http")
        if wait:
            self.wait_log(" ready models=")

    def _port(self, protocol):
        """The port that a protocol is spoken on, from the log."""
        line = self.wait_log(self._listening(protocol))
        return int(re.search(r":(\d+)\b[^:]*$", re.search(r'url"?[=:]"?(\S+)', line).group(1).split('"')[0]).group(1))

    @staticmethod
    def _listening(protocol):
        return re.compile(r"\burl\b.*\bfor\b\W+%s\b" % protocol)

    @property
    def grpc_port(self):
        return self._port("grpc")

    @property
    def metrics_port(self):
        return self._port("metrics")

    def _read(self):
        for line in self.process.stderr:
            with self.lines:
                self.log.append(line.decode(errors="replace").rstrip("\n"))
                self.lines.notify_all()
        with self.lines:
            self.log.append("END")
            self.lines.notify_all()

    def wait_log(self, part, seconds=60):
        """The first line of the log that holds `part`, which may be a compiled pattern."""
        end = time.monotonic() + seconds
        with self.lines:
            while True:
                for line in self.log:
                    if part.search(line) if isinstance(part, re.Pattern) else part in line:
                        return line
                assert self.log[-1:] != ["END"], "the server ended without %r:\n%s" % (part, "\n".join(self.log))
                assert self.lines.wait(end - time.monotonic()), "no %r in the log:\n%s" % (part, "\n".join(self.log))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            if kind is None:
                self.stop()
            else:
                self.process.kill()
                self.process.wait()

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def stop(self, code=0, seconds=60):
        if self.process.poll() is None:
            self.signal()
        return self.ended(code, seconds)

    def ended(self, code=0, seconds=60):
        got = self.process.wait(seconds)
        self.reader.join(10)
        assert got == code, "exit code %s, expected %s\n%s" % (got, code, "\n".join(self.log))
        return "\n".join(self.log)

    def connect(self, timeout=60):
        client = socket.create_connection(("127.0.0.1", self.port), timeout)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def request(self, method, path, body=None, headers=None, port=None):
        """(status, headers, body bytes) on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path, status=200):
        got, headers, body = self.request("GET", path)
        assert got == status, (path, got, body)
        return json.loads(body)

    def infer(self, model, document, status=200):
        """JSON in, JSON out. A document may be a string, sent as it is."""
        body = document if isinstance(document, (str, bytes)) else json.dumps(document)
        got, headers, answer = self.request("POST", "/v2/models/%s/infer" % model, body, {"Content-Type": "application/json"})
        assert got == status, (got, answer)
        return json.loads(answer)

    def infer_binary(self, model, document, tensors, status=200):
        """(JSON, bytes behind it)."""
        head = json.dumps(document).encode()
        got, headers, answer = self.request("POST", "/v2/models/%s/infer" % model, head + b"".join(tensors),
                                            {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"})
        assert got == status, (got, answer)
        if "Inference-Header-Content-Length" not in headers:
            return json.loads(answer), b""
        length = int(headers["Inference-Header-Content-Length"])
        return json.loads(answer[:length]), answer[length:]


def tensor(name, shape, datatype, data=None, **parameters):
    result = {"name": name, "shape": shape, "datatype": datatype}
    if data is not None:
        result["data"] = data
    if parameters:
        result["parameters"] = parameters
    return result


def floats(*values):
    return struct.pack("<%df" % len(values), *values)


def raw(server, text, timeout=60):
    """Sends bytes, returns all that comes back until the server closes."""
    with server.connect(timeout) as client:
        client.sendall(text)
        return read_all(client)


def read_all(client):
    parts = []
    while True:
        try:
            part = client.recv(65536)
        except ConnectionResetError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def temporary():
    return tempfile.TemporaryDirectory(prefix="fermata-serve-")
