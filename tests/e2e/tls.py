"""TLS of both servers: certificates, mutual authentication, ALPN, reload, what is refused, odd pieces. Certificates are made by openssl.

The server is grpc_echo (grpc_echo.c). Calls are made by Debian's gRPC client where it is installed; the rest needs only Python's ssl and curl.
"""
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings

import certificates
from tap import Skip, contains, run, test
from with_grpc import grpc

ECHO = os.environ["FM_BUILD_ROOT"] + "/tests/e2e/grpc_echo"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
folder = None


def path(name):
    return folder + "/" + name


@contextlib.contextmanager
def server(*options, certificate="server"):
    process = subprocess.Popen([ECHO, "http=1", "cert=" + path(certificate + ".pem"), "key=" + path(certificate + ".key"), *options],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    words = process.stdout.readline().split()
    try:
        process.grpc_port, process.http_port = int(words[1]), int(words[3])
        yield process
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, process.returncode
        contains(out, "drained", "in_flight 0 message_bytes 0")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def context(*protocols, client=None):
    one = ssl.create_default_context(cafile=path("authority.pem"))
    if protocols:
        one.set_alpn_protocols(list(protocols))
    if client:
        one.load_cert_chain(path(client + ".pem"), path(client + ".key"))
    return one


def connect(port, one):
    return one.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="localhost")


def refused(port, one, say=PREFACE):
    """With TLS 1.3 a client's certificate is judged after the client's handshake."""
    try:
        with connect(port, one) as connection:
            connection.sendall(say)
            return connection.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def http_request(connection, body=b"hello"):
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < len(body):
        data = connection.recv(1 << 20)
        assert data, answer[:300]
        answer += data
    return answer.split(b"\r\n\r\n", 1)[1]


def secure_channel(port, client=None):
    def read(name):
        with open(path(name), "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(read("authority.pem"), *((read(client + ".key"), read(client + ".pem")) if client else (None, None)))
    return grpc.secure_channel("localhost:%d" % port, credentials, [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])


@test
def grpc_calls_over_tls():
    if grpc is None:
        raise Skip("this machine has no grpcio (Debian: python3-grpcio)")
    with server() as one, secure_channel(one.grpc_port) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        for size in (0, 1, 1000, 16384, 100000, 16 << 20):
            data = os.urandom(size)
            assert unary(data) == data, size
        futures = [(unary.future(b"%d" % i), b"%d" % i) for i in range(1000)]
        assert all(future.result(timeout=30) == data for future, data in futures)
        sent = [os.urandom(i * 100) for i in range(200)]
        assert list(channel.stream_stream("/test.Echo/Stream")(iter(sent))) == sent
        assert sum(map(len, channel.unary_stream("/test.Echo/Many")(b"20 1000000"))) == 20000000


@test
def http_over_tls():
    with server() as one:
        with connect(one.http_port, context("http/1.1")) as connection:
            assert connection.selected_alpn_protocol() == "http/1.1" and connection.version() in ("TLSv1.2", "TLSv1.3")
            for size in (0, 1, 1000, 65536, 5 << 20):
                data = os.urandom(size)
                assert http_request(connection, data) == data, size
        if shutil.which("curl"):
            data = os.urandom(3 << 20)
            with open(path("body"), "wb") as file:
                file.write(data)
            done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--cacert", path("authority.pem"), "--data-binary", "@" + path("body"),
                                   "https://localhost:%d/" % one.http_port, "https://localhost:%d/" % one.http_port], capture_output=True, timeout=60)
            assert done.returncode == 0 and done.stdout == data + data, done.stderr


@test
def a_slow_reader_of_a_large_answer():
    with server() as one:
        with connect(one.http_port, context()) as connection:
            data = os.urandom(20 << 20)
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            time.sleep(0.3)
            answer = bytearray()
            while b"\r\n\r\n" not in answer or len(answer) - answer.index(b"\r\n\r\n") - 4 < len(data):
                answer += connection.recv(100000)
            assert answer.split(b"\r\n\r\n", 1)[1] == data


@test
def protocols_and_versions():
    with server() as one:
        with connect(one.grpc_port, context("http/1.1", "h2")) as connection:
            assert connection.selected_alpn_protocol() == "h2"
        assert refused(one.grpc_port, context("http/1.1"))
        assert refused(one.http_port, context("h2"))
        # Without ALPN there is nothing to choose.
        with connect(one.grpc_port, context()) as connection:
            connection.sendall(PREFACE)
            assert connection.recv(9)[3] == 4
        with connect(one.http_port, context()) as connection:
            assert http_request(connection) == b"hello"
        for version, good in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_1, False)):
            only = context()
            warnings.simplefilter("ignore", DeprecationWarning)
            only.minimum_version = ssl.TLSVersion.TLSv1
            only.maximum_version = version
            only.set_ciphers("DEFAULT@SECLEVEL=0")
            assert refused(one.http_port, only, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") != good, version


@test
def a_handshake_in_single_bytes():
    with server() as one:
        plain = socket.create_connection(("127.0.0.1", one.http_port), timeout=20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context().wrap_bio(incoming, outgoing, server_hostname="localhost")

        def drive(step):
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    result = None
                for byte in outgoing.read():
                    plain.sendall(bytes([byte]))
                if result is not None:
                    return result
                data = plain.recv(65536)
                assert data
                for byte in data:
                    incoming.write(bytes([byte]))

        drive(lambda: client.do_handshake() or True)
        drive(lambda: client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"))
        answer = b""
        while not answer.endswith(b"one"):
            answer += drive(lambda: client.read(1000))
        assert answer.startswith(b"HTTP/1.1 200")
        plain.close()


@test
def what_is_no_tls():
    with server("handshake_timeout_ns=300000000") as one:
        for port in (one.grpc_port, one.http_port):
            for sent, expected in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"This port speaks TLS"), (PREFACE, b""), (b"\x16\x03\x01\x00\x05hello", b""),
                                   (b"", b""), (b"\x16\x03\x01\x02\x00", b"")):
                with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
                    plain.sendall(sent)
                    answer = b""
                    with contextlib.suppress(ConnectionError):
                        while data := plain.recv(65536):
                            answer += data
                    assert expected in answer and (expected or len(answer) < 20), (port, sent, answer)
            # A connection that breaks off in the middle of a record.
            connection = connect(port, context())
            raw = socket.socket(fileno=connection.detach())
            raw.sendall(b"\x17\x03\x03\x01\x00abc")
            raw.close()
        with connect(one.http_port, context()) as connection:
            assert http_request(connection) == b"hello"


@test
def certificates_of_clients():
    with server("ca=" + path("authority.pem"), "clients=2") as one:
        assert refused(one.grpc_port, context("h2"))
        assert refused(one.grpc_port, context("h2", client="stranger"))
        assert not refused(one.grpc_port, context("h2", client="client"))
        with connect(one.http_port, context(client="client")) as connection:
            assert http_request(connection) == b"hello"
        if grpc is not None:
            with secure_channel(one.grpc_port, "client") as channel:
                assert channel.unary_unary("/test.Echo/Unary")(b"x") == b"x"
    with server("ca=" + path("authority.pem"), "clients=1") as one:
        assert not refused(one.grpc_port, context("h2"))
        assert refused(one.grpc_port, context("h2", client="stranger"))
        assert not refused(one.grpc_port, context("h2", client="client"))


@test
def certificates_change_under_way():
    for kind in ("pem", "key"):
        shutil.copy(path("server." + kind), path("live." + kind))

    def name(connection):
        return dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"]

    with server(certificate="live") as one:
        with connect(one.http_port, context()) as before:
            assert name(before) == "first" and http_request(before) == b"hello"
            for kind in ("pem", "key"):
                shutil.copy(path("renewed." + kind), path("live." + kind))
            one.send_signal(signal.SIGHUP)
            assert one.stdout.readline() == "reloaded\n"
            with connect(one.http_port, context()) as after:
                assert name(after) == "second" and http_request(after) == b"hello"
            assert http_request(before) == b"hello"
            shutil.copy(path("server.key"), path("live.key"))
            one.send_signal(signal.SIGHUP)
            contains(one.stdout.readline(), "does not belong to the certificate", "live.key", "live.pem")
            with connect(one.http_port, context()) as after:
                assert name(after) == "second" and http_request(after) == b"hello"


@test
def files_that_cannot_be_used():
    certificates.openssl(folder, "ec", "-in", "server.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    with open(path("empty"), "w"):
        pass
    os.mkfifo(path("fifo"))
    for options, words in ((("cert=/nowhere/c.pem", "key=" + path("server.key")), ("certificate '/nowhere/c.pem'", "no such file or directory")),
                           (("cert=" + path("server.pem"), "key=/nowhere/k"), ("key '/nowhere/k'", "no such file or directory")),
                           (("cert=" + path("server.pem"), "key=" + path("client.key")), ("does not belong to the certificate",)),
                           (("cert=" + path("server.pem"), "key=" + path("locked.key")), ("has a passphrase",)),
                           (("cert=" + path("empty"), "key=" + path("server.key")), ("cannot read the certificate", "PEM")),
                           (("cert=" + path("server.key"), "key=" + path("server.key")), ("cannot read the certificate", "PEM")),
                           (("cert=" + path("server.pem"), "key=" + path("server.key"), "ca=/nowhere/ca", "clients=2"),
                            ("client authorities '/nowhere/ca'", "no such file or directory")),
                           # Not waited for.
                           (("cert=" + path("fifo"), "key=" + path("server.key")), (path("fifo"), "is not a regular file")),
                           (("cert=" + path("server.pem"), "key=" + path("fifo")), (path("fifo"), "is not a regular file")),
                           (("cert=" + path("server.pem"), "key=" + path("server.key"), "ca=" + path("fifo"), "clients=2"),
                            (path("fifo"), "is not a regular file"))):
        done = subprocess.run([ECHO, *options], capture_output=True, text=True, timeout=30)
        assert done.returncode == 6, (options, done)
        contains(done.stderr, *words)


with tempfile.TemporaryDirectory() as folder:
    if not certificates.here():
        print("1..0 # SKIP this machine has no openssl")
        sys.exit(0)
    certificates.usual(folder)
    run()
