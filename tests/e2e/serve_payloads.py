"""Recorded requests: `serve --record-payloads` writes what came, perf/serve_load --replay sends it again at the same times, and a second
recording of that says the same. Files are read here with nothing but json and base64."""
import functools
import base64
import json
import os
import resource
import socket
import stat
import struct
import subprocess
import time

import serving
from serving import SLOW, Server, floats, in_threads, metric, tensor, wait_until
from tap import contains, fermata, run, test

LOAD = os.path.join(os.environ["FM_BUILD_ROOT"], "perf", "serve_load")
directory = serving.temporary()
TWO = 'backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,4], s:BYTES[-1,1]"\n  outputs: "y,t"\n'
repo = serving.repository(os.path.join(directory.name, "models"), echo=serving.ECHO, two=TWO,
                          fails=serving.sleeper("1ms", more="  fail_every: 1\n"))


def lines_of(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def requests_of(path):
    """The requests in the order of their times, and the last line."""
    lines = lines_of(path)
    assert lines[0]["format"] == "fermata-payloads/1" and "end_ns" in lines[-1], (lines[0], lines[-1])
    assert lines[-1]["recorded"] == len(lines) - 2, lines[-1]
    return sorted(lines[1:-1], key=lambda line: line["time_ns"]), lines[-1]


def content(request, name):
    return base64.b64decode(request["inputs"][name]["content"]["b64"], validate=True)


def settled(server, count):
    """Waits until that many requests are in the file or left out of it."""
    wait_until(lambda: sum(metric(server, 'fermata_payload_requests_total{outcome="%s"}' % outcome) for outcome in ("recorded", "left_out")) >= count)


def load(*arguments):
    done = subprocess.run([LOAD, *map(str, arguments)], capture_output=True, timeout=120)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def one(model="echo", value=1.0, **more):
    return dict({"inputs": [tensor("x", [1, 2], "FP32", [value, 2])]}, **more)


@test
def what_came_is_in_the_file():
    path = os.path.join(directory.name, "came.jsonl")
    key = "fermata-payloads-%d" % os.getpid()
    with Server(repo, "--record-payloads", path, "--allow-client-shm", "--no-measure") as server:
        begin = time.time_ns()
        server.infer("echo", one(id="n\u00f6", parameters={"timeout": 9000000, "priority": 2}))
        time.sleep(0.1)
        head = {"inputs": [tensor("x", [2, 4], "FP32", binary_data_size=32), tensor("s", [2, 1], "BYTES", ["a", "\u00e4"])],
                "outputs": [{"name": "y", "parameters": {"classification": 2}}]}
        server.infer_binary("two", head, [floats(*range(8))])
        with open("/dev/shm/" + key, "w+b") as memory:
            try:
                memory.write(floats(5, 6))
                memory.flush()
                assert server.request("POST", "/v2/systemsharedmemory/region/r/register", json.dumps({"key": "/" + key, "offset": 0, "byte_size": 8}))[0] == 200
                place = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
                server.infer("echo", {"inputs": [tensor("x", [1, 2], "FP32", **place)]})
            finally:
                os.unlink("/dev/shm/" + key)
        server.infer("fails", {"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]}, 500)
        server.infer("echo", {"inputs": []}, 400)  # nothing that could be sent again
        load("--grpc", server.grpc_port, "--requests", 3, "--shape", "1,4", "--bytes", 16, "--timeout-ms", 8000)
        settled(server, 7)
        log = server.stop()
    contains(log, "payloads_recorded", "requests=7")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert begin - 60e9 < lines_of(path)[0]["start_wall_ns"] < time.time_ns()
    requests, last = requests_of(path)
    assert last["left_out"] == last["sampled_out"] == 0 and len(requests) == 7, last
    first, second, shared, failed = requests[:4]
    assert first["model"] == "echo" and first["version"] == 1 and first["id"] == "n\u00f6" and first["protocol"] == "http", first
    assert first["priority"] == 2 and first["timeout_us"] == 9000000, first
    assert "outputs" not in first and first["inputs"]["x"]["datatype"] == "FP32" and first["inputs"]["x"]["shape"] == [1, 2], first
    assert content(first, "x") == floats(1, 2)
    assert 0.09e9 < second["time_ns"] - first["time_ns"] < 5e9 * SLOW, (first["time_ns"], second["time_ns"])
    assert "id" not in second and "timeout_us" not in second and second["outputs"] == [{"name": "y", "classification": 2}], second
    assert content(second, "x") == floats(*range(8)) and content(second, "s") == b"\1\0\0\0a\2\0\0\0\xc3\xa4", second
    assert content(shared, "x") == floats(5, 6) and failed["model"] == "fails", (shared, failed)
    for request in requests[4:]:
        assert request["protocol"] == "grpc" and 7.9e6 < request["timeout_us"] <= 8e6 and len(content(request, "x")) == 16, request


def record(path, times):
    """Requests at these times (seconds), of two models, each with numbers of its own; some at once."""
    with Server(repo, "--record-payloads", path, "--no-measure", "--loops", "2") as server:
        begin = time.monotonic()

        def send(index, at):
            time.sleep(max(0, begin + at - time.monotonic()))
            if index % 3 == 2:
                server.infer("two", {"inputs": [tensor("x", [1, 4], "FP32", [index] * 4), tensor("s", [1, 1], "BYTES", ["%d" % index])],
                                     "outputs": [{"name": "t"}, {"name": "y"}][:1 + index % 2]})
            else:
                server.infer("echo", one(value=float(index), id=str(index)))

        in_threads(*[functools.partial(send, index, at) for index, at in enumerate(times)])
    return requests_of(path)[0]


@test
def a_replay_sends_the_same_at_the_same_times():
    paths = [os.path.join(directory.name, name + ".jsonl") for name in ("first", "http", "grpc")]
    times = [0, 0, 0.05, 0.3, 0.31, 0.32, 0.7, 0.7, 0.7, 0.9, 1.5, 1.5]
    recorded = record(paths[0], times)
    assert len(recorded) == len(times)
    for path, protocol, speed in ((paths[1], "http", 1), (paths[2], "grpc", 4)):
        with Server(repo, "--record-payloads", path, "--no-measure") as server:
            port = server.port if protocol == "http" else server.grpc_port
            result = load("--" + protocol, port, "--replay", paths[0], "--connections", 4, "--speed", speed)
            assert result["statuses"] == {"200" if protocol == "http" else "0": len(times)}, result
            assert result["counted"] == len(times), result
        again = requests_of(path)[0]
        without = [{key: value for key, value in request.items() if key not in ("time_ns", "protocol")} for request in recorded]
        got = [{key: value for key, value in request.items() if key not in ("time_ns", "protocol")} for request in again]
        assert sorted(map(json.dumps, got)) == sorted(map(json.dumps, without)), (got, without)
        assert {request["protocol"] for request in again} == {protocol}
        for before, after in zip(recorded, again):
            due = (before["time_ns"] - recorded[0]["time_ns"]) / speed
            late = after["time_ns"] - again[0]["time_ns"] - due
            assert abs(late) < 1e9 * SLOW, (due, late)


@test
def answers_of_a_replay_are_checked():
    path = os.path.join(directory.name, "checked.jsonl")
    other = serving.repository(os.path.join(directory.name, "other"), echo=serving.sleeper("1ms").replace(
        "settings:\n", 'settings:\n  inputs: "x:FP32[-1,2]"\n  outputs: "out_x:FP32[-1,2]"\n'))
    with Server(repo, "--record-payloads", path) as server:
        for index in range(5):
            server.infer("echo", one(value=float(index + 1)))
    for models, status in ((repo, "200"), (other, "wrong")):
        with Server(models, "--no-measure") as server:
            assert load("--http", server.port, "--replay", path, "--check")["statuses"] == {status: 5}
    with open(path) as file:
        text = file.read()
    for name, content_, part in (("cut", text[:-60], None), ("broken", text.replace("time_ns", "time", 1), "needs the members"),
                                 ("other", text.split("\n", 1)[1], "first line"), ("newer", text.replace("payloads/1", "payloads/2"), "payloads/2")):
        broken = os.path.join(directory.name, name + ".jsonl")
        with open(broken, "w") as file:
            file.write(content_)
        with Server(repo) as server:
            done = subprocess.run([LOAD, "--http", str(server.port), "--replay", broken], capture_output=True, timeout=60)
        assert (done.returncode == 0) == (part is None), done
        if part is not None:
            contains(done.stderr.decode(), part)


@test
def what_does_not_fit_is_said():
    path = os.path.join(directory.name, "small.jsonl")
    with Server(repo, "--record-payloads", path, "--record-payload-bytes-max", "20k") as server:
        head = {"inputs": [tensor("x", [1, 250], "FP32", binary_data_size=1000)]}
        for index in range(30):
            server.infer_binary("echo", head, [struct.pack("<f", index) * 250])
        contains(server.wait_log("payload_recording_full"), "small.jsonl")
        settled(server, 30)
        assert metric(server, 'fermata_payload_requests_total{outcome="left_out"}') > 10
        log = server.stop()
    assert log.count("payload_recording_full") == 1 and "payloads_left_out" not in log, log
    contains(log, "payloads_recorded")
    requests, last = requests_of(path)
    assert 10 < len(requests) < 20 and last["left_out"] == 30 - len(requests), last
    assert os.path.getsize(path) <= 20000
    error = fermata("serve", repo, "--record-payloads", path, *serving.ANY_PORTS, code=3)[1]
    contains(error, "is there already")
    assert "listening" not in error, error
    assert requests_of(path)[1] == last, "the file that was there is not what it was"
    path = os.path.join(directory.name, "none.jsonl")
    with Server(repo, "--record-payloads", path, "--record-payload-share", "0") as server:
        server.infer("echo", one())
    assert requests_of(path)[1]["sampled_out"] == 1
    contains(fermata("serve", repo, "--record-payload-share", "0.5", code=2)[1], "--record-payloads")


@test
def an_end_by_force_loses_nothing():
    slow = serving.repository(os.path.join(directory.name, "slow"), echo=serving.ECHO, slow=serving.sleeper("1000s"))
    for name, code, words in (("timeout", 1, ("--exit-timeout", "0.2s")), ("forced", 130, ())):
        path, life = (os.path.join(directory.name, name + end) for end in (".jsonl", ".fmrec"))
        with Server(slow, "--record-payloads", path, "--record", life, "--no-measure", "--no-admission", "--slo", "10000s", *words) as server:
            for index in range(20):
                server.infer("echo", one(value=float(index)))
            client = server.connect()
            body = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})
            client.sendall(("POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).encode())
            settled(server, 21)
            server.signal()
            server.wait_log("draining")
            if code == 130:
                server.signal()
            contains(server.ended(code), "payloads_recorded", "requests=21")
            client.close()
        requests, last = requests_of(path)
        assert last["left_out"] == 0 and [request["model"] for request in requests] == ["echo"] * 20 + ["slow"], requests
        contains(fermata("sim", "--replay", life, code=0)[0], "21 requests", "identical")


@test
def a_disk_that_fails_costs_no_request():
    path, life = (os.path.join(directory.name, "full" + end) for end in (".jsonl", ".fmrec"))
    with Server(repo, "--record-payloads", path, "--record", life, "--no-measure") as server:
        server.infer("echo", one())
        settled(server, 1)
        wait_until(lambda: os.path.getsize(life) > 0)  # nothing more happens that could push it there
        # No file may grow any more, as on a full disk.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, 1))
        for index in range(10):
            server.infer("echo", one(value=float(index)))
        server.wait_log(" recording_failed")
        server.wait_log("payload_recording_failed")
        for index in range(10):
            server.infer("echo", one(value=float(index)))
        settled(server, 21)
        log = server.stop()
    assert log.count(" recording_failed") == 1 == log.count("payload_recording_failed"), log
    contains(next(line for line in server.log if " recording_failed" in line), "full.fmrec", "large", "serving without it")
    contains(next(line for line in server.log if "payload_recording_failed" in line), "full.jsonl", "large")
    lines = lines_of(path)
    assert lines[0]["format"] == "fermata-payloads/1" and len(lines) == 2 and content(lines[1], "x") == floats(1, 2), lines
    # A server that cannot start leaves none behind.
    for option in ("--record", "--record-payloads"):
        path = os.path.join(directory.name, "none" + option)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            fermata("serve", repo, option, path, "--http-port", str(taken.getsockname()[1]), *serving.ANY_PORTS[2:], code=6)
        assert not os.path.exists(path), path
        contains(fermata("serve", repo, option, os.path.join(directory.name, "nowhere", "x"), *serving.ANY_PORTS, code=3)[1], "nowhere/x")


run()
