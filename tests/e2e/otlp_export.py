"""The trace exporter against a collector: what arrives, and what happens when the collector refuses, stumbles or hangs."""
import http.server
import json
import os
import subprocess
import threading

from tap import run, test

PROGRAM = os.path.join(os.environ["FM_BUILD_ROOT"], "tests", "unit_host_net_otlp_exporter")


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 0:  # hang up without an answer
            self.close_connection = True
            return
        if status == 200:
            self.server.taken.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def export(answers, path=""):
    """(requests taken, what the exporter printed)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.daemon_threads = True
    server.answers, server.taken = list(answers), []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        done = subprocess.run([PROGRAM, "to_a_collector"], capture_output=True, timeout=100,
                              env={**os.environ, "FM_OTLP_ENDPOINT": "http://127.0.0.1:%d%s" % (server.server_address[1], path)})
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return server.taken, done.stdout.decode()
    finally:
        server.shutdown()
        server.server_close()


def spans_of(taken):
    return [span for _, _, document in taken for resource in document["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]


@test
def every_span_arrives_once():
    taken, text = export([])
    ids = [int(span["spanId"], 16) for span in spans_of(taken)]
    assert sorted(ids) == list(range(1, 97)), ids
    assert "sent 95 dropped 0 failed 0" in text, text
    path, headers, document = taken[0]
    assert path == "/v1/traces" and headers["Content-Type"] == "application/json", (path, headers)
    assert headers["x-team"] == "vision" and headers["x-key"] == "a b", headers
    names = {row["key"]: row["value"]["stringValue"] for row in document["resourceSpans"][0]["resource"]["attributes"]}
    assert names["service.name"] == "cameras", names
    span = spans_of(taken)[0]
    assert span["traceId"] == "%032x" % (0xabc << 64 | 0xdef) and span["parentSpanId"] == "%016x" % 7, span
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 5000000, span
    assert max(len(spans_of([row])) for row in taken) <= 10


@test
def a_base_may_end_in_a_path():
    taken, _ = export([], "/collect/")
    assert {row[0] for row in taken} == {"/collect/v1/traces"}, taken[0][0]


@test
def a_collector_that_stumbles_is_asked_again():
    taken, text = export([0, 503, 429, 200, 502])
    assert sorted(int(span["spanId"], 16) for span in spans_of(taken)) == list(range(1, 97))
    assert "sent 95 dropped 0 failed 4" in text, text


@test
def what_it_refuses_is_dropped_and_counted():
    taken, text = export([400])
    assert len(spans_of(taken)) == 86, len(spans_of(taken))
    assert "sent 85 dropped 10 failed 1" in text, text


run()
