"""Who may connect, ask, and how often: TLS and certificates of clients on every port, tokens and scopes, rates, Host and Origin, shared memory.

Runs under /usr/bin/python3 where this interpreter has no grpcio; the parts with gRPC skip without either.
"""
import functools
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile

import certificates
from serving import ECHO, Server, in_threads, repository, sleeper, wait_until
from tap import FERMATA, Skip, contains, run, test
from with_grpc import grpc

INFER = "/v2/models/echo/infer"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]})
ALICE, ROOT, PROM, SLOW = "alice-token-0123456789", "root-token-0123456789", "prom-token-0123456789", "slow-token-0123456789"
folder = None


def path(name):
    return os.path.join(folder, name)


def token_file(text, name="tokens", mode=0o600):
    with open(path(name), "w") as file:
        file.write(text)
    os.chmod(path(name), mode)
    return path(name)


def tokens(name="tokens"):
    return token_file("# who may what\nalice %s\nroot sha256:%s all\nprom %s observe\nslow %s infer rate=1/h:2\n" %
                      (ALICE, hashlib.sha256(ROOT.encode()).hexdigest(), PROM, SLOW), name)


def context(client=None, version=None):
    one = ssl.create_default_context(cafile=path("authority.pem"))
    if client:
        one.load_cert_chain(path(client + ".pem"), path(client + ".key"))
    if version:
        one.maximum_version = version
    return one


def ask(port, target="/v2", method="GET", body=None, headers=None, tls=None):
    """(status, headers, body); None when the connection was refused."""
    connection = (http.client.HTTPSConnection("localhost", port, timeout=30, context=tls) if tls else
                  http.client.HTTPConnection("127.0.0.1", port, timeout=30))
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return None
    finally:
        connection.close()


def bearer(token):
    return {"Authorization": "Bearer " + token}


def status(*arguments, **keywords):
    answer = ask(*arguments, **keywords)
    return answer and answer[0]


def metric(page, name):
    return float(re.search(r"^%s (\S+)$" % re.escape(name), page, re.M).group(1))


# --- gRPC by hand: the messages are short enough ---

def bytes_field(number, data):
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def infer_request(model="echo"):
    tensor = bytes_field(1, b"x") + bytes_field(2, b"FP32") + bytes_field(3, b"\x01\x02")
    return bytes_field(1, model.encode()) + bytes_field(5, tensor) + bytes_field(7, b"\0\0\x80\x3f\0\0\0\x40")


def call(channel, method, data=b"", kind="unary_unary", service="inference.GRPCInferenceService", **keywords):
    function = getattr(channel, kind)("/%s/%s" % (service, method), request_serializer=None, response_deserializer=None)
    return function(data, timeout=30, **keywords)


def code(channel, method, data=b"", **keywords):
    try:
        call(channel, method, data, **keywords)
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        return error.code()


def need_grpc():
    if grpc is None:
        raise Skip("this machine has no grpcio (Debian: python3-grpcio)")


def secure_channel(port, client=None):
    def read(name):
        with open(path(name), "rb") as file:
            return file.read()

    return grpc.secure_channel("localhost:%d" % port, grpc.ssl_channel_credentials(
        read("authority.pem"), *((read(client + ".key"), read(client + ".pem")) if client else (None, None))))



def serve(*options):
    return Server(path("models"), *options)


CERT = lambda name="server": ("--tls-cert", path(name + ".pem"), "--tls-key", path(name + ".key"))


@test
def tls_on_every_port():
    with serve(*CERT(), "--tls-min-version", "1.3") as server:
        for port, target in ((server.port, "/v2"), (server.metrics_port, "/metrics")):
            assert status(port, target, tls=context()) == 200
            assert status(port, target, tls=context(version=ssl.TLSVersion.TLSv1_2)) is None
            assert ask(port, target)[0] == 400, "without TLS"
        server.wait_log("https://")
        if shutil.which("curl"):
            done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--cacert", path("authority.pem"), "-d", BODY,
                                   "https://localhost:%d%s" % (server.port, INFER)], capture_output=True, timeout=60)
            assert json.loads(done.stdout)["outputs"][0]["data"] == [1, 2], done
        if grpc is not None:
            with secure_channel(server.grpc_port) as channel:
                contains(call(channel, "ModelInfer", infer_request()), b"echo")
    with serve(*CERT()) as server:
        assert status(server.port, tls=context(version=ssl.TLSVersion.TLSv1_2)) == 200


@test
def certificates_of_clients_are_required():
    with serve(*CERT(), "--tls-client-ca", path("authority.pem")) as server:
        for port, target in ((server.port, "/v2"), (server.metrics_port, "/metrics")):
            assert status(port, target, tls=context("client")) == 200
            assert status(port, target, tls=context()) is None, "none"
            assert status(port, target, tls=context("stranger")) is None, "of another authority"
            assert status(port, target, tls=context("expired")) is None, "expired"
        if grpc is not None:
            for client, good in (("client", True), (None, False), ("stranger", False), ("expired", False)):
                with secure_channel(server.grpc_port, client) as channel:
                    got = code(channel, "ServerLive")
                    assert got == (grpc.StatusCode.OK if good else grpc.StatusCode.UNAVAILABLE), (client, got)
    with serve(*CERT(), "--tls-client-ca", path("authority.pem"), "--tls-client-auth", "optional") as server:
        assert status(server.port, tls=context()) == 200
        assert status(server.port, tls=context("client")) == 200
        assert status(server.port, tls=context("stranger")) is None


@test
def files_that_cannot_be_used_end_the_start():
    tokens()
    token_file("alice %s\n" % ALICE, "open", 0o640)
    token_file("alice short\n", "short")
    for options, exit_code, words in (
            (("--tls-cert", "/nowhere/c.pem", "--tls-key", path("server.key")), 3, ("/nowhere/c.pem", "no such file")),
            (("--tls-cert", path("server.pem"), "--tls-key", path("client.key")), 3, ("does not belong to the certificate",)),
            (CERT("expired"), 3, ("expired on", "expired.pem")),
            ((*CERT(), "--tls-client-ca", "/nowhere/ca"), 3, ("/nowhere/ca",)),
            (("--tls-cert", path("server.pem")), 2, ("--tls-key", "go together")),
            (("--tls-client-ca", path("authority.pem")), 2, ("--tls-cert only",)),
            (("--tls-client-auth", "require"), 2, ("--tls-client-ca only",)),
            (("--auth-health",), 2, ("--token-file only",)),
            (("--client-rate", "fast"), 2, ("is no rate", "100/s")),
            (("--cors-origin", "example.com"), 2, ("is no origin",)),
            (("--allowed-host", "http://example.com"), 2, ("is no name of a machine",)),
            (("--token-file", "/nowhere/tokens"), 3, ("/nowhere/tokens",)),
            (("--token-file", path("open")), 3, ("chmod 600", "640")),
            (("--token-file", path("short")), 3, ("line 1", "16 to 512"))):
        done = subprocess.run([FERMATA, "serve", path("models"), "--http-port", "0", "--no-grpc", "--no-metrics", *options], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == exit_code, (options, done)
        contains(done.stderr, *words)
        assert ALICE not in done.stderr


@test
def certificates_are_reloaded_under_way():
    for kind in ("pem", "key"):
        shutil.copy(path("server." + kind), path("live." + kind))
    with serve(*CERT("live")) as server:
        def connect():
            connection = http.client.HTTPSConnection("localhost", server.port, timeout=30, context=context())
            connection.connect()
            return connection, dict(pair[0] for pair in connection.sock.getpeercert()["subject"])["commonName"]

        def get(connection):
            connection.request("GET", "/v2")
            return connection.getresponse().read()

        before, name = connect()
        assert name == "first" and get(before)
        for kind in ("pem", "key"):
            shutil.copy(path("renewed." + kind), path("live." + kind))
        server.signal(signal.SIGHUP)
        server.wait_log("reloaded what=certificates")
        after, name = connect()
        assert name == "second" and get(after) and get(before), "the connection of before goes on"
        shutil.copy(path("client.key"), path("live.key"))
        server.signal(signal.SIGHUP)
        contains(server.wait_log("reload_failed"), "what=certificates", "does not belong", "going on with what was read before")
        third, name = connect()
        assert name == "second" and get(third) and get(before)
        for connection in (before, after, third):
            connection.close()


@test
def tokens_and_scopes_over_http():
    with serve("--token-file", tokens()) as server:
        answer = ask(server.port)
        assert answer[0] == 401 and answer[1]["WWW-Authenticate"] == 'Bearer realm="fermata"', answer
        contains(json.loads(answer[2])["error"], "wants a token")
        answer = ask(server.port, headers=bearer("wrong-token-0123456789"))
        assert answer[0] == 401
        contains(answer[1]["WWW-Authenticate"], "invalid_token")
        assert status(server.port, headers={"Authorization": "Basic " + ALICE}) == 401
        for target, method, body, allowed in (("/v2", "GET", None, "ar"), ("/v2/models/echo", "GET", None, "ar"), ("/v2/models/stats", "GET", None, "ar"),
                                              (INFER, "POST", BODY, "ar"), ("/v2/repository/index", "POST", "{}", "ar"),
                                              ("/v2/systemsharedmemory/unregister", "POST", "", "r"), ("/v2/logging", "POST", "{}", "r"),
                                              ("/v2/logging", "GET", None, "ar"), ("/v2/repository/models/echo/load", "POST", "", "r"),
                                              ("/metrics", "GET", None, "pr"), ("/debug/state", "GET", None, "pr"), ("/debug/trace", "GET", None, "pr")):
            for letter, token in (("a", ALICE), ("r", ROOT), ("p", PROM)):
                for headers in (bearer(token), {"X-API-Key": token}, {"authorization": "bearer  " + token}):
                    got = ask(server.port, target, method, body, headers)
                    assert (got[0] == 403) == (letter not in allowed) and got[0] != 401, (target, letter, got)
                    if got[0] == 403:
                        contains(got[1]["WWW-Authenticate"], "insufficient_scope")
            assert status(server.port, target, method, body) == 401
        for target in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready", "/", "/try"):
            assert status(server.port, target) == 200, target
        assert status(server.port, "/nothing") == 401
        assert status(server.metrics_port, "/metrics") == 401
        page = ask(server.metrics_port, "/metrics", headers=bearer(PROM))[2].decode()
        assert metric(page, 'fermata_access_refused_total{reason="no_token"}') >= 13
        assert metric(page, 'fermata_access_refused_total{reason="bad_token"}') >= 1
        assert metric(page, 'fermata_access_refused_total{reason="no_scope"}') >= 10
        assert metric(page, "fermata_access_tokens") == 4
        log = server.stop()
        assert len(re.findall("access_refused client=alice ", log)) == 1, "once in a while for each client:\n" + log
        for token in (ALICE, ROOT, PROM, "wrong-token"):
            assert token not in log
    with serve("--token-file", tokens(), "--auth-health") as server:
        assert status(server.port, "/v2/health/ready") == 401
        assert status(server.port, "/v2/health/ready", headers=bearer(ALICE)) == 200
        assert status(server.port, "/v2/health/ready", headers=bearer(PROM)) == 403


@test
def tokens_and_scopes_over_grpc():
    need_grpc()
    with serve("--token-file", tokens()) as server, grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port) as channel:
        codes = grpc.StatusCode
        assert code(channel, "ServerLive") == codes.OK
        assert code(channel, "Check", service="grpc.health.v1.Health") == codes.OK
        assert code(channel, "ServerMetadata") == codes.UNAUTHENTICATED
        assert code(channel, "ModelInfer", infer_request(), metadata=[("authorization", "Bearer wrong-token-0123456789")]) == codes.UNAUTHENTICATED
        for key, value in (("authorization", "Bearer " + ALICE), ("x-api-key", ALICE)):
            assert code(channel, "ServerMetadata", metadata=[(key, value)]) == codes.OK
            assert code(channel, "ModelInfer", infer_request(), metadata=[(key, value)]) == codes.OK
            assert code(channel, "SystemSharedMemoryUnregister", metadata=[(key, value)]) == codes.PERMISSION_DENIED
        assert code(channel, "SystemSharedMemoryUnregister", metadata=[("x-api-key", ROOT)]) == codes.OK
        assert code(channel, "ModelInfer", infer_request(), metadata=[("x-api-key", PROM)]) == codes.PERMISSION_DENIED
        # The rate of the token's own, over both protocols together.
        assert status(server.port, INFER, "POST", BODY, bearer(SLOW)) == 200
        assert code(channel, "ModelInfer", infer_request(), metadata=[("x-api-key", SLOW)]) == codes.OK
        assert code(channel, "ModelInfer", infer_request(), metadata=[("x-api-key", SLOW)]) == codes.RESOURCE_EXHAUSTED
        answer = ask(server.port, INFER, "POST", BODY, bearer(SLOW))
        assert answer[0] == 429 and 0 < int(answer[1]["Retry-After"]) <= 3600, answer


@test
def tokens_are_reloaded():
    name = tokens("changing")
    with serve("--token-file", name) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

        def get(token):
            connection.request("GET", "/v2", headers=bearer(token))
            answer = connection.getresponse()
            answer.read()
            return answer.status

        assert get(ALICE) == 200
        token_file("alice %s\nalice %s\n" % (ALICE, ROOT), "changing")
        server.signal(signal.SIGHUP)
        contains(server.wait_log("reload_failed"), "what=tokens", "line 2")
        assert get(ALICE) == 200 and get(ROOT) == 200
        token_file("carol carol-token-0123456789\n", "changing")
        server.signal(signal.SIGHUP)
        server.wait_log("reloaded what=tokens")
        assert get(ALICE) == 401 and get("carol-token-0123456789") == 200
        connection.close()


@test
def a_rate_for_each_client():
    with serve("--client-rate", "1/h:5", "--loops", "3") as server:
        got = [status(server.port, INFER, "POST", BODY) for _ in range(9)]
        assert got == [200] * 5 + [429] * 4, got
        assert status(server.port, "/v2/health/ready") == 200, "health does not count"
        assert status(server.port, "/") == 200, "nor do pages"
        if grpc is not None:
            with grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port) as channel:
                try:
                    call(channel, "ModelInfer", infer_request())
                    assert False
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 1000
                answers = list(call(channel, "ModelStreamInfer", iter([infer_request()] * 2), "stream_stream"))
                assert len(answers) == 2
                for answer in answers:
                    contains(answer, b"more requests than this client may send")
    with serve("--client-rate", "50/s:1") as server:
        assert status(server.port) == 200
        wait_until(lambda: status(server.port) == 200)


@test
def inferences_at_once_for_each_client():
    repository(path("slow"), slow=sleeper("400ms", 4))
    with Server(path("slow"), "--client-inflight-max", "2", "--accelerators", "4", "--emulated", "--slo", "20s") as server:
        inputs = json.loads(ask(server.port, "/v2/models/slow")[2])["inputs"]
        one = inputs[0]
        shape = [1 if size < 0 else size for size in one["shape"]]
        count = 1
        for size in shape:
            count *= size
        body = json.dumps({"inputs": [{"name": one["name"], "shape": shape, "datatype": one["datatype"], "data": [0] * count}]})
        got = in_threads(*[functools.partial(status, server.port, "/v2/models/slow/infer", "POST", body)] * 6)
        assert set(got) == {200, 429}, got
        assert got.count(200) >= 2
        assert status(server.port, "/v2/models/slow/infer", "POST", body) == 200, "all were given back"


@test
def pages_from_elsewhere():
    with serve("--cors-origin", "https://app.example", "--allowed-host", "dash.example") as server:
        own = "127.0.0.1:%d" % server.port
        for host, page in (("localhost", 200), (own, 200), ("[::1]:80", 200), ("dash.example", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)):
            assert status(server.port, "/", headers={"Host": host}) == page, host
            assert status(server.port, "/debug/state", headers={"Host": host}) == page, host
        assert status(server.port, "/v2", headers={"Host": "evil.example"}) == 200, "programs may use any name"
        assert status(server.port, "/v2", headers={"Host": "evil.example", "Origin": "http://evil.example"}) == 403, "browsers may not"
        assert status(server.port, INFER, "POST", BODY, {"Origin": "http://evil.example"}) == 403
        assert status(server.port, INFER, "POST", BODY, {"Origin": "null"}) == 403
        assert status(server.port, INFER, "POST", BODY, {"Origin": "http://" + own}) == 200
        answer = ask(server.port, INFER, "POST", BODY, {"Origin": "https://app.example"})
        assert answer[0] == 200 and answer[1]["Access-Control-Allow-Origin"] == "https://app.example" and "Origin" in answer[1].get_all("Vary")
        answer = ask(server.port, INFER, "OPTIONS", None, {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"})
        assert answer[0] == 200 and "POST" in answer[1]["Access-Control-Allow-Methods"] and "X-API-Key" in answer[1]["Access-Control-Allow-Headers"]
        answer = ask(server.port, INFER, "OPTIONS", None, {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
        assert answer[0] == 403 and "Access-Control-Allow-Origin" not in answer[1]
        assert ask(server.port, "/debug/state", headers={"Origin": "https://app.example"})[0] == 403, "the dashboard's numbers are for its own pages"
        answer = ask(server.port, "/")
        assert answer[1]["X-Content-Type-Options"] == "nosniff" and answer[1]["X-Frame-Options"] == "DENY"
        contains(answer[1]["Content-Security-Policy"], "'self'")


@test
def shared_memory_is_off_unless_allowed():
    request = json.dumps({"key": "/none", "offset": 0, "byte_size": 64})
    with serve() as server:
        answer = ask(server.port, "/v2/systemsharedmemory/region/r/register", "POST", request)
        assert answer[0] == 403
        contains(json.loads(answer[2])["error"], "--allow-client-shm")
        assert json.loads(ask(server.port, "/v2/systemsharedmemory/status")[2]) == []
        assert status(server.port, "/v2/systemsharedmemory/unregister", "POST", "") == 200
        if grpc is not None:
            with grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port) as channel:
                data = bytes_field(1, b"r") + bytes_field(2, b"/none") + b"\x20\x40"
                assert code(channel, "SystemSharedMemoryRegister", data) == grpc.StatusCode.PERMISSION_DENIED
    with serve("--allow-client-shm") as server:
        assert status(server.port, "/v2/systemsharedmemory/region/r/register", "POST", request) == 404


@test
def warnings_about_being_open():
    with serve("--host", "0.0.0.0") as server:
        server.wait_log("open_to_all")
    with serve("--host", "0.0.0.0", "--token-file", tokens()) as server:
        server.wait_log("tokens_in_the_clear")
    for options in (("--host", "0.0.0.0", "--insecure"), ("--host", "127.0.0.1"), ("--host", "0.0.0.0", "--token-file", tokens(), *CERT())):
        server = Server(path("models"), *options)
        log = server.stop()
        assert "open_to_all" not in log and "tokens_in_the_clear" not in log


with tempfile.TemporaryDirectory(prefix="fermata-access-") as folder:
    if not certificates.here():
        print("1..0 # SKIP this machine has no openssl")
        sys.exit(0)
    repository(path("models"), echo=ECHO)
    certificates.usual(folder)
    certificates.certificate(folder, "expired", "authority", days=-1)
    run()
