"""`fermata serve` from start to end: bad paths and ports, loading, strictness, drain, second signal, exit timeout, the log's format."""
import functools
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import serving
import tap
from serving import ANY_PORTS, ECHO, Server, beside, in_threads, sleeper, tensor, wait_in_flight, wait_until
from tap import contains, fermata, test

directory = serving.temporary()
repo = serving.repository(os.path.join(directory.name, "good"), echo=ECHO, slow=sleeper("1s", instances=8, batch=1),
                          hang=sleeper("1ms", more="  hang_every: 1\n"))
mixed = serving.repository(os.path.join(directory.name, "mixed"), echo=ECHO, bad="backend: nosuch\nmax_batch_size: 1\n")
only_bad = serving.repository(os.path.join(directory.name, "bad"), bad="backend: nosuch\nmax_batch_size: 1\n")
# As many at once as the sleeping models are meant to have, and none that hangs when it is loaded.
POOL = ["--accelerators", "8", "--emulated", "--no-measure", "--slo", "60s"]
BODY = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})


@test
def paths_that_cannot_be_served():
    contains(fermata("serve", os.path.join(directory.name, "absent"), *ANY_PORTS, code=3)[1], "absent")
    empty = os.path.join(directory.name, "empty")
    os.makedirs(empty)
    contains(fermata("serve", empty, *ANY_PORTS, code=3)[1], "empty")
    contains(fermata("serve", repo, "--model", "nothing", *ANY_PORTS, code=3)[1], "nothing")
    contains(fermata("serve", repo, repo, *ANY_PORTS, code=3)[1], "names must be unique")
    fermata("serve", code=2)
    fermata("serve", repo, "--http-port", "99999", code=2)
    for option, value in [("--http-port", "-1"), ("--http-port", "99999999999999999999"), ("--max-body", "0"), ("--max-body", "-1"), ("--id", ""), ("--id", "two\nlines"),
                          ("--max-body", "5 parsecs"), ("--max-body", "99999999999999999999GiB"), ("--max-connections", "0"),
                          ("--requests-max", "0"), ("--idle-timeout", "0s"), ("--idle-timeout", "-1s"), ("--exit-timeout", "soon"),
                          ("--accelerators", "0"), ("--threads", "1025"), ("--operator-threads", "0")]:
        said = fermata("serve", repo, "%s=%s" % (option, value), code=2)[1]
        contains(said, option)
        assert "unknown option" not in said, said


@test
def addresses_that_cannot_be_used():
    with Server(repo, *POOL) as server:
        contains(fermata("serve", repo, "--http-port", server.port, "--grpc-port", "0", "--metrics-port", "0", code=6)[1], "another program uses this port")
    contains(fermata("serve", repo, *ANY_PORTS, "--host", "no.such.host.invalid", code=6)[1], "no.such.host.invalid")


@test
def sockets_that_cannot_be_used():
    def refused(path, *words):
        contains(fermata("serve", repo, *ANY_PORTS, "--unix-socket", path, code=6)[1], "cannot listen on socket", *words)

    refused(os.path.join(directory.name, "s" * 108), "107", "shorter")
    assert not [name for name in os.listdir(directory.name) if name.startswith("sss")]
    path = os.path.join(directory.name, "precious")
    with open(path, "w") as file:
        file.write("keep me")
    refused(path, "it is a file and no socket")
    with open(path) as file:
        assert file.read() == "keep me"
    refused(directory.name, "it is a directory")
    path = os.path.join(directory.name, "live.sock")
    with Server(repo, *POOL, "--unix-socket", path):
        refused(path, "another server uses it")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    refused(path, "died and left it")
    assert os.path.exists(path)


@test
def strict_ends_when_a_model_does_not_load():
    contains(fermata("serve", mixed, "--strict", *ANY_PORTS, code=3)[1], "model 'bad' does not load", "nosuch")
    contains(fermata("serve", only_bad, *ANY_PORTS, code=3)[1], "nothing to serve")
    path = serving.repository(os.path.join(directory.name, "path"), path='backend: "/x/y.so"\nmax_batch_size: 1\n')
    error = fermata("serve", path, *ANY_PORTS, code=3)[1]
    contains(error, "'/x/y.so' is no name of a backend")
    assert error.count("y.so") == 1, error
    with Server(mixed) as server:
        assert server.get("/v2/health/ready") == {"ready": True}
        server.get("/v2/models/bad/ready", 400)


@test
def only_the_models_asked_for_are_served():
    with Server(repo, *POOL, "--model", "echo") as server:
        server.get("/v2/models/slow", 404)
        assert server.get("/v2/models/echo")["name"] == "echo"


@test
def a_drain_answers_everything_in_flight():
    with Server(repo, *POOL, "--loops", "3") as server:
        join = beside(*[functools.partial(server.infer, "slow", BODY)] * 16)
        wait_in_flight(server, "slow", 16)
        server.signal()
        server.wait_log("draining")
        join()
        log = server.ended(0)
        contains(log, "requests_in_flight=16", "stopped", "requests=16")


@test
def a_drain_loses_no_request_of_busy_clients():
    """Clients send one request after the other; whatever was sent is answered, and the connection is closed only where it was announced."""
    with Server(repo, *POOL) as server:
        lost = []
        done = []
        stop = threading.Event()

        def one():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            while not stop.is_set():
                try:
                    connection.request("POST", "/v2/models/echo/infer", BODY)
                    answer = connection.getresponse()
                    answer.read()
                    done.append(answer.status)
                    if answer.getheader("Connection") == "close":
                        return
                except ConnectionRefusedError:
                    return
                except (OSError, http.client.HTTPException) as problem:
                    lost.append(repr(problem))
                    return

        join = beside(*[one] * 8)
        wait_until(lambda: len(done) > 50 or lost, lambda: done)
        server.signal(signal.SIGINT)
        server.ended(0)
        stop.set()
        join()
        assert lost == [], lost
        assert set(done) == {200}, set(done)


@test
def not_ready_while_it_drains():
    with Server(repo, *POOL) as server:
        join = beside(functools.partial(server.infer, "slow", BODY))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.connect()
        wait_in_flight(server, "slow", 1)
        server.signal()
        server.wait_log("draining")
        connection.request("GET", "/v2/health/ready")
        answer = connection.getresponse()
        assert answer.status == 400 and answer.getheader("Connection") == "close" and json.loads(answer.read()) == {"ready": False}
        join()
        server.ended(0)


@test
def a_second_signal_ends_at_once():
    with Server(repo, *POOL) as server:
        client = server.connect()
        client.sendall(("POST /v2/models/hang/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)).encode())
        wait_in_flight(server, "hang", 1)
        server.signal()
        server.wait_log("draining")
        start = time.monotonic()
        server.signal()
        contains(server.ended(130), "second_signal", "requests_in_flight=1")
        assert time.monotonic() - start < 5
        client.close()


@test
def an_interrupt_then_a_termination_end_at_once():
    with Server(repo, *POOL) as server:
        client = server.connect()
        client.sendall(("POST /v2/models/hang/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)).encode())
        wait_in_flight(server, "hang", 1)
        server.signal(signal.SIGINT)
        server.wait_log("draining")
        server.signal(signal.SIGTERM)
        contains(server.ended(130), "second_signal")
        client.close()


@test
def two_terminations_together_end_it():
    """The kernel may merge them: drained, or ended at once."""
    with Server(repo, *POOL) as server:
        server.signal()
        server.signal()
        assert server.process.wait(30) in (0, 130)


@test
def a_signal_while_models_load_ends_it():
    many = serving.repository(os.path.join(directory.name, "many"), **{"m%03d" % i: ECHO for i in range(300)})
    with Server(many, wait=False) as server:
        server.signal()
        contains(server.ended(0, 30), "draining", "stopped")


@test
def the_exit_timeout_ends_a_server_whose_model_hangs():
    with Server(repo, *POOL, "--exit-timeout", "0.5s") as server:
        client = server.connect()
        client.sendall(("POST /v2/models/hang/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)).encode())
        wait_in_flight(server, "hang", 1)
        server.signal()
        contains(server.ended(1), "exit_timeout", "requests_in_flight=1")
        client.close()


@test
def why_it_ends_is_said_also_while_a_model_loads():
    """One model does not load, and the other one is measured for longer than the end may take."""
    # In the order of their names: the second one gives the first the time to begin.
    models = serving.repository(os.path.join(directory.name, "stuck"), along=sleeper("30s"), amid=sleeper("100ms"), bad="backend: nosuch\nmax_batch_size: 1\n")
    with Server(models, "--strict", "--load-threads", "2", "--exit-timeout", "0.5s", wait=False) as server:
        contains(server.ended(1), "exit_timeout", "serve_failed", "model 'bad' does not load", "nosuch")
    with Server(models, "--strict", "--load-threads", "2", wait=False) as server:
        def refuses():
            try:
                server.connect().close()
            except ConnectionRefusedError:
                return True
            return False

        # It ends by itself. The first signal is the first one all the same.
        wait_until(refuses, "it goes on listening")
        server.signal()
        contains(server.wait_log(re.compile("draining|second_signal")), "draining")
        server.signal()
        contains(server.ended(130), "second_signal", "serve_failed", "model 'bad' does not load")


@test
def json_log_lines():
    with Server(repo, *POOL, "--log-format", "json", wait=False) as server:
        server.wait_log('"event":"ready"')
        server.stop()
        records = [json.loads(line) for line in server.log if line != "END"]
    events = [record["event"] for record in records]
    assert events[0] == "listening" and events[-1] == "stopped", events
    assert all(record["time"].endswith("Z") and record["level"] == "info" for record in records), records
    assert records[0]["url"] == "http://127.0.0.1:%d" % server.port


class Manager:
    """A service manager's end of the notification socket."""

    def __init__(self):
        self.path = os.path.join(directory.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(30)

    def wait(self, part):
        while True:
            text = self.socket.recv(1000).decode()
            if part in text:
                return text

    def close(self):
        self.socket.close()
        os.unlink(self.path)


@test
def a_service_manager_is_told():
    manager = Manager()
    with Server(repo, *POOL, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}) as server:
        contains(manager.wait("READY=1"), "STATUS=", "models ready")
        for _ in range(4):
            manager.wait("WATCHDOG=1")
        server.signal(signal.SIGHUP)
        contains(manager.wait("RELOADING=1"), "MONOTONIC_USEC=")
        manager.wait("READY=1")
        server.signal()
        manager.wait("STOPPING=1")
        server.ended(0)
    manager.close()


@test
def a_socket_that_is_open_already():
    """As a service manager hands it over: number 3, its process id in a variable, and clients that came before the server."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    early = socket.create_connection(listener.getsockname(), 60)
    early.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    script = 'exec 3<&%d; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$0" serve "$1" --http-port 1 --grpc-port 0 --metrics-port 0 --no-measure' % listener.fileno()
    process = subprocess.Popen(["sh", "-c", script, tap.FERMATA, repo], pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
    try:
        contains(early.recv(1000).decode(), "200 OK", "live")
        late = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
        late.request("GET", "/v2")
        assert late.getresponse().status == 200
        late.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    early.close()
    listener.close()


@test
def what_the_scheduler_decides_is_recorded():
    """Replayed, the same scheduler in virtual time decides the same, byte for byte."""
    path = os.path.join(directory.name, "life.fmrec")
    with Server(repo, *POOL, "--record", path) as server:
        def many():
            for _ in range(40):
                server.infer("echo", BODY)

        in_threads(*[many] * 4)
        server.stop()
    contains(fermata("sim", "--replay", path, code=0)[0], "160 requests", "identical")
    contains(fermata("serve", repo, *ANY_PORTS, "--loops", "3", "--record", path, code=3)[1], "life.fmrec", "is there already")
    absent = os.path.join(directory.name, "nowhere", "life.fmrec")
    contains(fermata("serve", repo, *ANY_PORTS, "--record", absent, code=3)[1], "nowhere/life.fmrec")


@test
def an_idle_server_stops_within_a_second():
    with Server(repo, *POOL) as server:
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 1 * serving.SLOW


tap.run()
