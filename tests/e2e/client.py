"""The client library's examples, programs that know only its installed header, against the real server: REST, gRPC, Unix sockets, TLS, tokens, limits."""
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
import threading

import certificates
from serving import ECHO, Server, echo, repository, sleeper
from tap import Skip, contains, run, test

PROGRAMS = pathlib.Path(os.environ["FM_BUILD_ROOT"]) / "examples/client"
folder = None


def example(program, *arguments, code=0, stdin=None):
    done = subprocess.run([PROGRAMS / program, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stdout} {done.stderr}"
    return done.stdout, done.stderr


def path(name):
    return os.path.join(folder, name)


def urls(server, scheme=""):
    return [f"http{scheme}://localhost:{server.port}", f"grpc{scheme}://localhost:{server.grpc_port}"]


@test
def every_example_over_both_protocols():
    models = repository(path("models"), numbers=ECHO, words=echo("x:BYTES[1]"))
    with Server(models, "--unix-socket", path("http.socket"), "--grpc-unix-socket", path("grpc.socket")) as server:
        sockets = ["unix:" + path("http.socket"), "grpc+unix:" + path("grpc.socket")]
        for url in urls(server) + sockets:
            out, _ = example("infer_once", url, "numbers", "x", 1, 2.5, -3)
            assert out == "out_x: 1 2.5 -3\n", out
            out, _ = example("infer_once", "--ask", url, "numbers")
            assert out == "input x FP32 [-1,-1]\noutput out_x FP32 [-1,-1]\n", out
            out, _ = example("keep_busy", url, "numbers", "x", 256, 32, 2000)
            assert re.fullmatch(r"2000 answers, \d+ a second\n", out), out
        out, _ = example("infer_once", "--json", urls(server)[0], "numbers", "x", 1, 2.5)
        assert out == "out_x: 1 2.5\n", out
        statistics = server.get("/v2/models/numbers/stats")["model_stats"][0]
        assert statistics["inference_count"] == 4 * 2001 + 1, statistics
        lines = ["line %d" % i for i in range(500)]
        for url in (urls(server)[1], sockets[1]):
            out, _ = example("talk", url, "words", "x", stdin="\n".join(lines))
            assert sorted(out.splitlines()) == sorted("%d: %s" % (i + 1, line) for i, line in enumerate(lines)), out
        out, _ = example("talk", urls(server)[1], "wrods", "x", stdin="a\nb\n", code=1)
        contains(out, "1: streaming inference at grpc://", "2: streaming inference", "'wrods' is not found")


@test
def mistakes_are_told():
    models = repository(path("models"), numbers=ECHO)
    with Server(models) as server:
        for url in urls(server):
            _, err = example("infer_once", url, "nubmers", "x", 1, 2, code=1)
            contains(err, "inference of model 'nubmers' at " + url, "not found")
            _, err = example("infer_once", url, "numbers", "y", 1, 2, code=1)
            contains(err, "inference of model 'numbers' at " + url, "'y'")
            assert len(err.splitlines()) == 1, err
        contains(example("talk", urls(server)[0], "numbers", "x", code=1, stdin="")[1], "REST has no streams")
        contains(example("infer_once", "localhost:1", "m", "x", 1, 2, code=1)[1], "localhost:1", "http://")
        closed = urls(server)
    for url in closed:
        contains(example("infer_once", url, "numbers", "x", 1, 2, code=1)[1], "cannot connect to " + url, "refused")
    for program in ("infer_once", "keep_busy", "talk"):
        contains(example(program, code=2)[1], "usage:")


@test
def limits_are_kept():
    models = repository(path("slow"), slow=sleeper("500ms", more="  inputs: 'x:FP32[-1,2]'\n"))
    with Server(models, "--no-admission") as server:
        for url in urls(server):
            _, err = example("infer_once", "--timeout-ms", 50, url, "slow", "x", 1, 2, code=1)
            contains(err, "inference of model 'slow' at " + url)
            assert re.search("time limit|deadline|in time|timed? ?out|too late", err), err
            example("infer_once", "--timeout-ms", 60000, url, "slow", "x", 1, 2)


@test
def tls_and_certificates_of_both_sides():
    """Names of the server's certificate are compared, too: 127.0.0.1 is none of them."""
    if not certificates.here():
        raise Skip("this machine has no openssl")
    certificates.usual(folder)
    certificates.certificate(folder, "server", "authority", names="DNS:localhost")
    models = repository(path("models"), numbers=ECHO)
    with Server(models, "--tls-cert", path("server.pem"), "--tls-key", path("server.key"), "--tls-client-ca", path("authority.pem")) as server:
        mine = ["--ca", path("authority.pem"), "--certificate", path("client.pem"), "--key", path("client.key")]
        for url in urls(server, "s"):
            out, _ = example("infer_once", *mine, url, "numbers", "x", 1, 2)
            assert out == "out_x: 1 2\n", out
            # Neither side trusts whom it does not know.
            _, err = example("infer_once", "--ca", path("other.pem"), *mine[2:], url, "numbers", "x", 1, 2, code=1)
            contains(err, "inference of model 'numbers' at " + url, "certificate")
            example("infer_once", "--ca", path("authority.pem"), url, "numbers", "x", 1, 2, code=1)
            _, err = example("infer_once", *mine, url.replace("localhost", "127.0.0.1"), "numbers", "x", 1, 2, code=1)
            contains(err, "127.0.0.1", "certificate")
            example("infer_once", url.replace("s://", "://"), "numbers", "x", 1, 2, code=1)
        contains(example("infer_once", "--ca", path("nothing.pem"), urls(server, "s")[0], "numbers", "x", 1, 2, code=1)[1], "nothing.pem")


def says_and_leaves(listener, context, properly):
    """One HTTPS answer that ends with its connection, with or without the close_notify of TLS."""
    body = b'{"model_name":"m","model_version":null,"outputs":[{"name":"y","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
    with listener.accept()[0] as plain:
        plain.settimeout(60)
        with context.wrap_socket(plain, server_side=True) as connection:
            request = b""
            while not request.endswith(b"}"):
                request += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
            if properly:
                try:
                    connection.unwrap()
                except OSError:
                    pass  # the client need not wait for that


@test
def an_answer_cut_off_over_tls_is_no_answer():
    if not certificates.here():
        raise Skip("this machine has no openssl")
    certificates.usual(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path("server.pem"), path("server.key"))
    for properly in (True, False):
        with socket.create_server(("localhost", 0)) as listener:
            thread = threading.Thread(target=says_and_leaves, args=(listener, context, properly))
            thread.start()
            out, err = example("infer_once", "--json", "--ca", path("authority.pem"), "https://localhost:%d" % listener.getsockname()[1], "m", "x", 1, 2,
                               code=0 if properly else 1)
            thread.join()
            if properly:
                assert out == "y: 1 2\n", out
            else:
                contains(err, "the connection broke in the middle of the answer")


@test
def tokens():
    models = repository(path("models"), numbers=ECHO)
    with open(path("tokens"), "w") as file:
        file.write("somebody a-token-of-somebody-that-is-long infer read\n")
    os.chmod(path("tokens"), 0o600)
    with Server(models, "--token-file", path("tokens")) as server:
        for url in urls(server):
            out, _ = example("infer_once", "--token", "a-token-of-somebody-that-is-long", url, "numbers", "x", 1, 2)
            assert out == "out_x: 1 2\n", out
            for wrong in ([], ["--token", "another-token-that-nobody-ever-had"]):
                _, err = example("infer_once", *wrong, url, "numbers", "x", 1, 2, code=1)
                contains(err, "token")
                assert "another-token" not in err, err


with tempfile.TemporaryDirectory(prefix="fermata-client-") as folder:
    run()
