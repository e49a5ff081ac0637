"""A server of objects for tests: over HTTP, and as S3 does it. It checks signatures itself, can be slow, fail, cut connections, and notes what it was asked."""
import base64
import hashlib
import hmac
import http.server
import socket
import ssl
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

EMPTY = hashlib.sha256(b"").hexdigest()


class Server:
    """Serves `objects` by path; of S3, paths are /bucket/key. `plan` holds what happens to the next requests for a path, before it is answered as usual:
    a number (that status), "cut" (half of the body), "close" (not a byte), "hang", "drip" (a few bytes a second), "flood" (a failure without end), ("to", location), or a dictionary of headers and a "status"."""

    def __init__(self, objects=None, delay=0.0, keys=None, region="us-east-1", page=1000, certificate=None):
        self.objects = objects or {}
        self.delay = delay
        self.plan = {}
        self.keys = keys  # (access key, secret key, session token or None): who may ask; None: anybody
        self.region = region
        self.page = page
        self.lock = threading.Lock()
        self.requests = []  # (path with its query, headers)
        self.times = []  # when each of them came
        self.connections = set()
        self.at_once = self.most_at_once = 0
        self.over = threading.Event()
        self.http = Listener(("127.0.0.1", 0), Handler)
        self.http.owner = self
        self.port = self.http.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = "%s://localhost:%d" % ("https" if certificate else "http", self.port)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()

    def asked(self, path):
        """The headers of each request for the path."""
        with self.lock:
            return [headers for asked, headers in self.requests if asked.split("?")[0] == path]

    def environment(self, **more):
        """What a client of this S3 needs."""
        access, secret, token = self.keys or (None, None, None)
        given = {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": self.region, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token, **more}
        return {name: value or "" for name, value in given.items()}


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Connections that break are what is tested."""


def hmac256(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature_problem(owner, method, path, query, headers):
    """What is wrong with a request's signature, as AWS Signature Version 4 has it; None: nothing."""
    access, secret, token = owner.keys
    authorization = headers.get("Authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return "AccessDenied"
    fields = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
    who, date, region, service, _ = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    if who != access or (token and (headers.get("X-Amz-Security-Token") != token or "x-amz-security-token" not in names)):
        return "InvalidAccessKeyId"
    if headers.get("x-amz-content-sha256") != EMPTY or "x-amz-content-sha256" not in names or names != sorted(names):
        return "MissingSecurityHeader"
    if region != owner.region or service != "s3":
        return "AuthorizationHeaderMalformed"
    lines = "".join("%s:%s\n" % (name, " ".join((headers.get(name) or "").split())) for name in names)
    canonical = "\n".join([method, path, "&".join(sorted(query.split("&"))) if query else "", lines, ";".join(names), headers["x-amz-content-sha256"]])
    scope = "%s/%s/s3/aws4_request" % (date, region)
    stamp = headers["X-Amz-Date"]
    signed = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = hmac256(hmac256(hmac256(hmac256(b"AWS4" + secret.encode(), date), region), "s3"), "aws4_request")
    good = hmac.compare_digest(hmac.new(key, signed.encode(), hashlib.sha256).hexdigest(), fields["Signature"])
    return None if good and "host" in names and stamp[:8] == date else "SignatureDoesNotMatch"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=None, cut=False):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def fail(self, status, code, headers=None):
        self.answer(status, b"<?xml version='1.0'?><Error><Code>%s</Code><Message>it is so</Message></Error>" % code.encode(), headers)

    def do_GET(self):
        owner = self.server.owner
        path, _, query = self.path.partition("?")
        with owner.lock:
            owner.requests.append((self.path, dict(self.headers.items())))
            owner.times.append(time.monotonic())
            owner.connections.add(self.client_address)
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
            planned = owner.plan.get(path)
            step = planned.pop(0) if planned else None
        try:
            if owner.delay:
                time.sleep(owner.delay)
            self.respond(owner, path, query, step)
        finally:
            with owner.lock:
                owner.at_once -= 1

    def respond(self, owner, path, query, step):
        if isinstance(step, int):
            self.fail(step, "Planned")
        elif isinstance(step, dict):
            self.fail(step["status"], "Planned", {name: value for name, value in step.items() if name != "status"})
        elif isinstance(step, tuple):
            self.answer(302, b"elsewhere", {"Location": step[1]})
        elif step == "close":
            self.close_connection = True
        elif step == "hang":
            owner.over.wait(60)
            self.close_connection = True
        elif step == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "900")
            self.end_headers()
            while not owner.over.wait(0.1):
                self.wfile.write(b"x")
        elif step == "flood":
            self.send_response(404)
            self.send_header("Content-Length", "1000000000000")
            self.end_headers()
            while not owner.over.is_set():
                self.wfile.write(bytes(1 << 16))
        elif owner.keys and signature_problem(owner, "GET", path, query, self.headers):
            self.fail(403, signature_problem(owner, "GET", path, query, self.headers))
        elif "list-type=2" in query.split("&"):
            self.list(owner, path, query)
        else:
            name = urllib.parse.unquote(path)
            body = owner.objects.get(self.path, owner.objects.get(name))
            if body is None:
                self.fail(404, "NoSuchKey")
            else:
                self.answer(200, body, cut=step == "cut")

    def list(self, owner, path, query):
        given = urllib.parse.parse_qs(query, keep_blank_values=True)
        bucket = path if path.endswith("/") else path + "/"
        prefix = given["prefix"][0]
        after = base64.b64decode(given["continuation-token"][0]).decode() if "continuation-token" in given else ""
        level = given.get("delimiter") == ["/"]
        keys = sorted(name[len(bucket):] for name in owner.objects if name.startswith(bucket + prefix))
        keys = [key for key in keys if key > after and not (level and "/" in key[len(prefix):])]
        page, more = keys[:owner.page], len(keys) > owner.page
        parts = ["<?xml version='1.0' encoding='UTF-8'?>\n<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"]
        parts.append("<Prefix>%s</Prefix><KeyCount>%d</KeyCount><EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>" % (escape(urllib.parse.quote_plus(prefix)), len(page), str(more).lower()))
        if more:
            parts.append("<NextContinuationToken>%s</NextContinuationToken>" % base64.b64encode(page[-1].encode()).decode())
        for key in page:
            parts.append("<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>%d</Size></Contents>" % (
                urllib.parse.quote_plus(key, safe="/"), len(owner.objects[bucket + key])))
        self.answer(200, "".join(parts + ["</ListBucketResult>"]).encode(), {"Content-Type": "application/xml"})
