"""`fermata serve` replaced by a new process while it serves (SIGUSR2): under load no request is lost or answered twice, what clients
made of the server is still there, and a new process that cannot serve changes nothing.

The gRPC clients run under /usr/bin/python3 where this interpreter has no grpcio, and are left out without either.
"""
import os
import base64
import ctypes
import functools
import http.client
import json
import re
import shutil
import signal
import socket
import threading
import time

import serving
import tap
from clients import Clients
from hostile import INFER, STREAM, infer_message, member
from serving import ECHO, SLOW, beside, floats, sleeper, tensor, wait_in_flight, wait_until
from tap import test
from with_grpc import grpc

UPGRADES = 10 if SLOW == 1 else 3
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
directory = serving.temporary()
repo = serving.repository(os.path.join(directory.name, "models"), echo=ECHO, slow=sleeper("5ms", batch=8))
POOL = ("--no-measure", "--no-admission", "--slo", "60s", "--exit-timeout", "60s")
BODY = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})


class Server(serving.Server):
    """One that is upgraded: `current` is the process that serves. This process inherits those whose parents are gone."""

    def __init__(self, *arguments, program=None, **more):
        self.program = program or os.path.join(directory.name, "fermata")
        self.install()
        super().__init__(*arguments, program=self.program, **more)
        self.current = self.process.pid
        self.before = []

    def install(self, script=None, copy=False):
        """Puts a program in the place of the one that was started."""
        fresh = self.program + ".new"
        if copy:
            shutil.copy2(tap.FERMATA, fresh)
        elif script is None:
            os.symlink(tap.FERMATA, fresh)
        else:
            with open(fresh, "w") as file:
                file.write(script)
            os.chmod(fresh, 0o755)
        os.replace(fresh, self.program)

    def seen(self, part):
        with self.lines:
            return [line for line in self.log if part in line]

    def wait_count(self, part, count, seconds=60):
        """The last of so many lines."""
        wait_until(lambda: len(self.seen(part)) >= count, lambda: "no %d times %r in the log:\n%s" % (count, part, "\n".join(self.log)), seconds)
        return self.seen(part)[-1]

    def ask(self):
        os.kill(self.current, signal.SIGUSR2)

    def upgrade(self):
        self.ask()
        pid = int(re.search(r"process=(\d+)", self.wait_count(" upgraded ", len(self.before) + 1)).group(1))
        assert pid != self.current
        self.before.append(self.current)
        self.current = pid
        return pid

    def signal(self, number=signal.SIGTERM):
        os.kill(self.current, number)

    def ended(self, code=0, seconds=60):
        """All of them have, well; the current one with that code."""
        for pid in [*self.before, self.current]:
            got = self.process.wait(seconds) if pid == self.process.pid else self.reap(pid, seconds)
            wanted = code if pid == self.current else 0
            assert got == wanted, "process %d: exit code %s, expected %s\n%s" % (pid, got, wanted, "\n".join(self.log))
        self.reader.join(10)
        log = "\n".join(self.log)
        assert "sanitizer" not in log.lower() and "runtime error" not in log, log
        return log

    @staticmethod
    def reap(pid, seconds):
        end = time.monotonic() + seconds
        while True:
            got, status = os.waitpid(pid, os.WNOHANG)
            if got == pid:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, "process %d does not end" % pid
            time.sleep(0.01)

    def stop(self, code=0, seconds=60):
        self.signal()
        return self.ended(code, seconds)

    def __exit__(self, kind, value, trace):
        if kind is None and self.process.returncode is None:
            self.stop()
        elif kind is None and self.current != self.process.pid and is_there(self.current):
            self.signal()
            assert self.reap(self.current, 60) == 0, "\n".join(self.log)
        elif kind is not None:
            for pid in [*self.before, self.current]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


class Load(Clients):
    """Clients that send on and on and check every answer: that it is theirs, and that it comes. Nothing may be refused."""

    def __init__(self, server, unix_path):
        super().__init__(server)
        self.counts = {}
        for i in range(5):
            self.add(self.rest, unix_path if i == 4 else None, i)
        if grpc is not None:
            for run in (self.unary, self.stream) * 2:
                self.add(run)

    def count(self, kind, answers=1):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + answers

    def connect(self, unix_path):
        if unix_path is None:
            return self.server.connect(60)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(unix_path)
        return client

    def rest(self, unix_path, number):
        """Keep-alive: a connection is used until an answer says that it is the last."""
        turn = 0
        while not self.ends.is_set():
            connection = http.client.HTTPConnection("127.0.0.1")
            connection.sock = self.connect(unix_path)
            last = False
            while not last and not self.ends.is_set():
                turn += 1
                name = "c%d-%d" % (number, turn)
                connection.request("POST", "/v2/models/%s/infer" % ("slow" if number % 2 else "echo"), json.dumps(dict(json.loads(BODY), id=name)))
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200 and json.loads(body)["id"] == name, (name, answer.status, body)
                last = answer.headers.get("Connection", "").lower() == "close"
                self.count("unix" if unix_path else "rest")
            connection.close()

    def unary(self):
        with self.channel() as channel:
            infer, turn = channel.unary_unary(INFER), 0
            while not self.ends.is_set():
                names = ["u%d" % (turn + i) for i in range(8)]
                turn += 8
                futures = [infer.future(infer_message("slow", [1, 4], floats(1, 2, 3, 4), more=member(3, name)), timeout=60) for name in names]
                for name, future in zip(names, futures):
                    assert future.code().name == "OK", (name, future.code(), future.details())
                    assert re.findall(rb"\x1a.(u\d+)", future.result()) == [name.encode()], (name, future.result())
                self.count("unary", 8)

    def stream(self):
        """Streams of 40 requests, 8 of them under way at a time; across upgrades, all of them answered, in order."""
        with self.channel() as channel:
            while not self.ends.is_set():
                names = ["n%d" % i for i in range(40)]
                got = list(self.answers(channel, "slow", names))
                assert got == names, got
                self.count("stream", 40)

    def grown(self, before):
        with self.lock:
            return self.broken or all(count > before.get(kind, 0) for kind, count in self.counts.items())

    def go_on(self):
        """Waits until every kind of client has had another answer."""
        with self.lock:
            before = dict(self.counts)
        wait_until(lambda: self.grown(before), lambda: "no answers: %r" % self.counts)
        assert not self.broken, self.broken[:3]

    def __enter__(self):
        self.start()
        kinds = 2 if grpc is None else 4
        wait_until(lambda: len(self.counts) == kinds or self.broken, lambda: "no answers: %r" % self.counts)
        return self

    def __exit__(self, kind, *_):
        self.ends.set()
        if kind is None:
            self.join()


@test
def upgrades_under_load():
    path = os.path.join(directory.name, "http.sock")
    with Server(repo, *POOL, "--loops", "2", "--unix-socket", path) as server:
        with Load(server, path) as load:
            for turn in range(UPGRADES):
                server.install(copy=turn % 2 == 0)
                pid = server.upgrade()
                program = os.readlink("/proc/%d/exe" % pid)
                assert program == os.path.realpath(server.program), "the program that was there before runs: " + program
                load.go_on()
        print("# %d upgrades, answered: %s" % (UPGRADES, load.counts))
        server.stop()
        assert not os.path.exists(path), "the socket's name is left"


@test
def who_is_idle_or_streams_has_time():
    """Until half of the exit timeout the old process answers over connections that it has; a stream that goes on is ended then."""
    with Server(repo, "--no-measure", "--no-admission", "--exit-timeout", "10s") as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        idle.request("GET", "/v2/health/ready")
        assert idle.getresponse().read() == b'{"ready":true}'
        forgotten = server.connect()
        asked, go, answers = [], threading.Semaphore(1), None

        def messages():
            while True:
                go.acquire()
                asked.append("s%d" % len(asked))
                yield infer_message("echo", [1, 4], floats(1, 2, 3, 4), more=member(3, asked[-1]))

        if grpc is not None:
            channel = grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port)
            answers = channel.stream_stream(STREAM)(messages(), timeout=60)
            assert b"s0" in next(answers)
        server.upgrade()
        idle.request("GET", "/v2/health/ready")
        answer = idle.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, "close"), (answer.status, answer.headers)
        if answers is not None:
            go.release()
            assert b"s1" in next(answers)
            try:
                got = next(answers)
                assert False, got
            except grpc.RpcError as error:
                assert error.code().name == "UNAVAILABLE", error
            go.release()
            channel.close()
        assert forgotten.recv(1) == b""
        assert server.process.wait(60) == 0
        assert server.request("GET", "/v2/health/ready")[0] == 200


def load(server, model, status=200, action="load", **parameters):
    got, _, body = server.request("POST", "/v2/repository/models/%s/%s" % (model, action), json.dumps({"parameters": parameters}))
    assert got == status, (got, body)
    return body.decode()


CONFIG = {"backend": "emulated", "max_batch_size": 8,
          "parameters": {"fermata.latency": {"string_value": "1:0.1ms"}, "fermata.inputs": {"string_value": "x:FP32[-1,2]"},
                         "fermata.outputs": {"string_value": "y:FP32[-1,7]"}}}


@test
def what_clients_made_is_there():
    """Models that they loaded, with configurations and files, and regions of shared memory, across two upgrades; unloading holds, too."""
    models = serving.repository(os.path.join(directory.name, "explicit"), echo=ECHO, slow=sleeper("1ms"), other=sleeper("1ms"))
    key = "fermata-upgrade-%d" % os.getpid()
    with open("/dev/shm/" + key, "wb") as file:
        file.write(floats(1, 2, 3, 4) + bytes(4080))
    try:
        with Server(models, *POOL, "--model-control-mode", "explicit", "--load-model", "other", "--allow-client-shm") as server:
            load(server, "echo")
            load(server, "other", action="unload")
            config = dict(CONFIG, default_model_filename="m.txt", max_batch_size=2)
            load(server, "fresh", **{"config": json.dumps(config), "file:3/m.txt": base64.b64encode(b"content").decode()})
            load(server, "slow", config=json.dumps(dict(CONFIG, max_batch_size=3)))
            status, _, body = server.request("POST", "/v2/systemsharedmemory/region/r/register", json.dumps({"key": "/" + key, "offset": 0, "byte_size": 64}))
            assert status == 200, body

            def state():
                index = json.loads(server.request("POST", "/v2/repository/index", '{"ready": true}')[2])
                return (sorted((one["name"], one.get("version")) for one in index), server.get("/v2/models/slow/config")["max_batch_size"],
                        server.get("/v2/models/fresh/config")["max_batch_size"], server.get("/v2/systemsharedmemory/status"))

            before = state()
            assert [name for name, _ in before[0]] == ["echo", "fresh", "slow"] and before[1:3] == (3, 2) and len(before[3]) == 1, before
            for _ in range(2):
                server.upgrade()
                assert state() == before, (state(), before)
                shared = tensor("x", [1, 4], "FP32", shared_memory_region="r", shared_memory_byte_size=16)
                assert server.infer("echo", {"inputs": [shared]})["outputs"][0]["data"] == [1, 2, 3, 4]
            load(server, "other")
    finally:
        os.unlink("/dev/shm/" + key)


@test
def a_new_process_that_cannot_serve_changes_nothing():
    models = serving.repository(os.path.join(directory.name, "failing"), echo=ECHO, second=ECHO)
    path = os.path.join(directory.name, "failing.sock")
    with Server(models, *POOL, "--upgrade-timeout", "30s", "--unix-socket", path) as server:
        failures = 0

        def fails(*reasons):
            nonlocal failures
            failures += 1
            server.ask()
            line = server.wait_count(" upgrade_failed ", failures)
            for reason in (*reasons, 'next="serving as before"'):
                assert reason in line, (reason, line)
            assert server.infer("second", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]
            assert server.process.poll() is None

        server.install("#!/bin/sh\nexit 3\n")
        fails("ended before it was ready", "exit code 3")
        server.install("this is no program\n")
        fails("cannot run", "Exec format error")
        os.unlink(server.program)
        fails("cannot run", "No such file")
        server.install("#!/bin/sh\nkill -9 $$\n")
        fails("killed by signal 9")
        server.install()
        serving.repository(models, second="backend: nothing\n")
        fails("answers for model 'second'", "nothing")
        serving.repository(models, second=ECHO)
        assert os.path.exists(path), "a failed process removed the socket's name"
        server.upgrade()
        assert server.infer("second", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]


@test
def a_new_process_that_ends_with_a_load_under_way_says_why():
    models = serving.repository(os.path.join(directory.name, "stuck"), echo=ECHO)
    with Server(models, "--strict", "--load-threads", "2", "--exit-timeout", "0.5s") as server:
        # In the order of their names: the second one gives the first the time to begin.
        serving.repository(models, along=sleeper("30s"), amid=sleeper("100ms"), bad="backend: nosuch\n")
        server.ask()
        line = server.wait_count(" upgrade_failed ", 1)
        assert "cannot serve: model 'bad' does not load" in line, line
        server.wait_log(" exit_timeout ")
        assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]


@test
def one_that_is_never_ready_is_given_up():
    with Server(repo, *POOL, "--upgrade-timeout", "1s") as server:
        server.install("#!/bin/sh\nexec sleep 1000\n")
        server.ask()
        line = server.wait_count(" upgrade_failed ", 1)
        assert "not ready after" in line, line
        assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]


HANGS = '#!/bin/sh\necho $$ > "%s"\nexec sleep 1000\n'


def hanging(server, name):
    """Its number, when it runs."""
    path = os.path.join(directory.name, name)
    server.install(HANGS % path)
    server.ask()
    wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 0, "the new program does not run")
    with open(path) as file:
        return int(file.read())


def is_there(pid):
    return os.path.exists("/proc/%d" % pid)


@test
def one_at_a_time():
    """A second request is refused, and so is what would make the two differ."""
    models = serving.repository(os.path.join(directory.name, "twice"), echo=ECHO)
    with Server(models, *POOL, "--model-control-mode", "explicit", "--load-model", "*") as server:
        pid = hanging(server, "twice.pid")
        server.ask()
        assert "one is under way" in server.wait_log(" upgrade_refused ")
        assert "being replaced" in load(server, "echo", 503)
        assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]
        os.kill(pid, signal.SIGKILL)
        server.wait_log(" upgrade_failed ")
        load(server, "echo")
        server.install()
        server.upgrade()


@test
def the_end_during_an_upgrade():
    with Server(repo, *POOL) as server:
        pid = hanging(server, "end.pid")
        log = server.stop(0)
        assert not is_there(pid), "the new process is left behind"
        assert " stopped " in log, log


def many_models(name):
    """A server of one model whose next process has 601 to load; and that process, stopped while it does."""
    models = serving.repository(os.path.join(directory.name, name), echo=ECHO)
    server = Server(models, *POOL, "--load-threads", "1")
    serving.repository(models, **{"m%03d" % i: ECHO for i in range(600)})
    path = os.path.join(directory.name, name + ".pid")
    server.install('#!/bin/sh\necho $$ > "%s"\nexec "%s" "$@"\n' % (path, tap.FERMATA))
    server.ask()
    server.wait_count(" model_ready ", 2)
    with open(path) as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGSTOP)
    assert not server.seen(" upgraded "), "it was faster than this test"
    return server, pid


@test
def the_new_process_is_told_to_end():
    server, pid = many_models("told")
    with server:
        os.kill(pid, signal.SIGUSR2)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        line = server.wait_log(" upgrade_failed ")
        assert "it was told to end" in line, line
        assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]


@test
def a_region_without_its_object_is_lost():
    key = "fermata-lost-%d" % os.getpid()
    shared = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", shared_memory_region="r", shared_memory_byte_size=16)]})
    with open("/dev/shm/" + key, "wb") as file:
        file.write(floats(1, 2, 3, 4))
    try:
        with Server(repo, *POOL, "--allow-client-shm") as server:
            status, _, body = server.request("POST", "/v2/systemsharedmemory/region/r/register", json.dumps({"key": "/" + key, "offset": 0, "byte_size": 16}))
            assert status == 200, body
            os.unlink("/dev/shm/" + key)
            assert server.infer("echo", shared)["outputs"][0]["data"] == [1, 2, 3, 4]
            server.upgrade()
            tap.contains(server.wait_log(" region_lost "), "region=r", key, "refused")
            tap.contains(server.infer("echo", shared, 400)["error"], "'r'")
            assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]
    finally:
        if os.path.exists("/dev/shm/" + key):
            os.unlink("/dev/shm/" + key)


@test
def why_a_model_of_a_client_does_not_load():
    models = serving.repository(os.path.join(directory.name, "why"), echo=ECHO)
    content = os.path.join(models, "own", "1", "m.txt")
    os.makedirs(os.path.dirname(content))
    with open(content, "w") as file:
        file.write("content")
    with Server(models, *POOL, "--model-control-mode", "explicit") as server:
        load(server, "echo")
        load(server, "own", config=json.dumps(dict(CONFIG, default_model_filename="m.txt")))
        os.unlink(content)
        server.ask()
        line = server.wait_log(" upgrade_failed ")
        tap.contains(line, "cannot load", "failed to load 'own'", "m.txt")
        assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]


@test
def the_old_process_is_gone_before_the_new_one_is_ready():
    """Nobody said that it should take over: it ends, and nothing is left behind."""
    server, pid = many_models("gone")
    with server:
        server.signal(signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)
        assert server.process.wait(60) == -signal.SIGKILL
        assert server.reap(pid, 60) != 0
        server.wait_log("has gone, or does not want it any more")


@test
def a_termination_while_it_leaves():
    """A client that has been idle is not waited for; what is in flight is."""
    models = serving.repository(os.path.join(directory.name, "leaves"), echo=ECHO, second=sleeper("1s"))
    with Server(models, *POOL) as server:
        idle = server.connect()
        idle.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        join = beside(functools.partial(server.infer, "second", BODY))
        wait_in_flight(server, "second", 1)
        server.upgrade()
        server.process.send_signal(signal.SIGTERM)
        assert join()[0]["outputs"][0]["shape"] == [1, 4]
        while idle.recv(1000):
            pass
        assert server.process.wait(60) == 0
        assert server.infer("echo", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]


@test
def a_termination_after_the_time_to_leave():
    """The old process has begun to end by itself: a signal then is the first one, and what is in flight is answered."""
    models = serving.repository(os.path.join(directory.name, "late"), echo=ECHO, late=sleeper("6s", batch=1))
    with Server(models, "--no-measure", "--no-admission", "--slo", "60s", "--exit-timeout", "8s") as server:
        clients = [server.connect(), server.connect()]
        for client in clients:
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        idle, busy = clients
        server.upgrade()
        busy.sendall(("POST /v2/models/late/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)).encode())
        assert idle.recv(1000) == b""
        server.process.send_signal(signal.SIGTERM)
        assert serving.read_all(busy).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(60) == 0
        assert server.seen(" draining ") and not server.seen(" second_signal "), server.log


@test
def recordings_go_on_beside():
    paths = [os.path.join(directory.name, name) for name in ("life.fmrec", "load.jsonl")]
    with Server(repo, *POOL, "--record", paths[0], "--record-payloads", paths[1]) as server:
        for count in range(3):
            if count > 0:
                server.upgrade()
            server.infer("echo", BODY)
        server.stop()
    for end in ("", ".2", ".3"):
        tap.contains(tap.fermata("sim", "--replay", paths[0] + end, code=0)[0], "identical")
        with open(paths[1] + end) as file:
            last = json.loads(file.readlines()[-1])
        assert "end_ns" in last and last["left_out"] == 0 and last["recorded"] == 1, (end, last)


@test
def a_service_manager_follows():
    path = os.path.join(directory.name, "notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    manager.settimeout(60)

    def wait(part):
        while True:
            text = manager.recv(1000).decode()
            if part in text:
                return text

    with Server(repo, *POOL, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}) as server:
        wait("READY=1")
        server.install("#!/bin/sh\nexit 3\n")
        server.ask()
        wait("RELOADING=1")
        wait("READY=1")
        server.install()
        pid = server.upgrade()
        text = wait("MAINPID=")
        assert "MAINPID=%d\n" % pid in text and "READY=1" in text, text
        server.process.wait(60)
        for _ in range(3):
            wait("WATCHDOG=1")
        server.signal()
        wait("STOPPING=1")
        server.ended()
    manager.close()


tap.run()
