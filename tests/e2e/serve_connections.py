"""`fermata serve` against clients of every kind: pipelining, many at once, slow, half closed, leaving, too many, a Unix socket."""
import functools
import http.client
import json
import os
import socket
import time

import serving
import tap
from serving import ECHO, Server, in_threads, sleeper, tensor, wait_in_flight
from tap import contains, test

directory = serving.temporary()
repo = serving.repository(directory.name, echo=ECHO, slow=sleeper("300ms", instances=4, batch=1), long=sleeper("2s", instances=1, batch=1))
socket_path = os.path.join(directory.name, "s.sock")
server = Server(repo, "--unix-socket", socket_path, "--max-connections", "300")


def infer_text(model, values, more=""):
    body = json.dumps({"inputs": [tensor("x", [1, len(values)], "FP32", values)]})
    return ("POST /v2/models/%s/infer HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (model, more, len(body), body)).encode()


def answers(data):
    """The final answers in a byte stream, as (status, JSON); interim ones are skipped."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            data = rest
            continue
        length = int([line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")][0].split(b":")[1])
        found.append((status, json.loads(rest[:length]) if length else None))
        data = rest[length:]
    return found


@test
def pipelined_requests_are_answered_in_order():
    with server.connect() as client:
        client.sendall(b"".join(infer_text("slow" if i % 3 == 0 else "echo", [i, 0, 0, 0]) for i in range(9)) +
                       b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = answers(serving.read_all(client))
    assert [status for status, _ in got] == [200] * 10, got
    assert [row["model_name"] for _, row in got[:-1]] == ["slow", "echo", "echo"] * 3
    assert [row["outputs"][0]["data"][0] for _, row in got[:-1] if row["model_name"] == "echo"] == [1, 2, 4, 5, 7, 8]


@test
def a_hundred_clients_at_once():
    def one(i):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        good = 0
        for k in range(10):
            connection.request("POST", "/v2/models/echo/infer", json.dumps({"id": "%d-%d" % (i, k), "inputs": [tensor("x", [1, 2], "FP32", [i, k])]}))
            answer = connection.getresponse()
            document = json.loads(answer.read())
            good += answer.status == 200 and document["outputs"][0]["data"] == [i, k] and document["id"] == "%d-%d" % (i, k)
        connection.close()
        return good

    assert in_threads(*[functools.partial(one, i) for i in range(100)]) == [10] * 100


@test
def a_slow_client_gets_its_answer_and_holds_up_nobody():
    text = infer_text("echo", [1, 2], "Connection: close\r\n")
    with server.connect() as client:
        for i in range(0, len(text), 7):
            client.sendall(text[i:i + 7])
            assert i % 70 or server.get("/v2/health/live")
        got = answers(serving.read_all(client))
    assert got[0][0] == 200 and got[0][1]["outputs"][0]["data"] == [1, 2], got


@test
def chunked_bodies():
    body = json.dumps({"inputs": [tensor("x", [1, 2], "FP32", [3, 4])]}).encode()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 5]), body[i:i + 5]) for i in range(0, len(body), 5))
    got = answers(serving.raw(server, b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
                              pieces + b"0\r\n\r\n"))
    assert got[0][0] == 200 and got[0][1]["outputs"][0]["data"] == [3, 4], got


@test
def a_client_that_closes_its_half_gets_its_answer():
    with server.connect() as client:
        client.sendall(infer_text("slow", [1, 2, 3, 4]))
        client.shutdown(socket.SHUT_WR)
        got = answers(serving.read_all(client))
    assert [status for status, _ in got] == [200], got


@test
def a_client_that_leaves_has_its_work_dropped():
    """The model takes 2 s. Four requests wait in its queue; their clients leave; a fifth must not wait for them."""
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        client.sendall(infer_text("long", [1, 2, 3, 4]))
    wait_in_flight(server, "long", 5)
    for client in clients:
        client.close()
    start = time.monotonic()
    server.infer("long", {"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})
    assert time.monotonic() - start < 6, "work for clients that left was done: %.1f s" % (time.monotonic() - start)


@test
def malformed_http():
    for text, status in [(b"GARBAGE\r\n\r\n", 400), (b"GET /v2 HTTP/1.1\r\n\r\n", 400), (b"GET /v2 HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n", 400), (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
                         (b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40000 + b"\r\n\r\n", 431),
                         (b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 200 + b"\r\n", 431),
                         (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
                         (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400)]:
        got = answers(serving.raw(server, text))
        assert got[0][0] == status and got[0][1]["error"], (text[:40], got)


@test
def expect_continue():
    text = infer_text("echo", [5, 6], "Expect: 100-continue\r\nConnection: close\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    with server.connect() as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert answers(serving.read_all(client))[0][1]["outputs"][0]["data"] == [5, 6]


@test
def a_unix_socket_serves_too():
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(socket_path)
        client.sendall(infer_text("echo", [7, 8], "Connection: close\r\n"))
        assert answers(serving.read_all(client))[0][1]["outputs"][0]["data"] == [7, 8]


@test
def idle_connections_make_room_for_new_ones():
    idle = [server.connect() for _ in range(320)]
    assert server.get("/v2/health/live") == {"live": True}
    for client in idle:
        client.close()


@test
def large_tensors():
    values = list(range(100000))
    answer = server.infer("echo", {"inputs": [tensor("x", [1, len(values)], "FP32", values)]})
    assert answer["outputs"][0]["data"] == values
    data = os.urandom(4 * 2000000).replace(b"\x7f", b"\x00").replace(b"\xff", b"\x00")
    document = {"inputs": [tensor("x", [1, 2000000], "FP32", binary_data_size=len(data))], "parameters": {"binary_data_output": True}}
    answer, tail = server.infer_binary("echo", document, [data])
    assert tail == data


@test
def it_ends_cleanly_and_removes_its_socket():
    contains(server.stop(), "stopped")
    assert not os.path.exists(socket_path)


tap.run()
