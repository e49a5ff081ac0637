"""Traces of the server: whoever sends a sampled traceparent finds the server's spans at the collector, as children of its own."""
import http.server
import json
import os
import threading

import serving
from serving import ECHO, Server, tensor
from tap import contains, fermata, run, test

directory = serving.temporary()
repo = serving.repository(os.path.join(directory.name, "models"), echo=ECHO)
BODY = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in document["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                self.server.spans.extend(scope["spans"])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def collected(environment, *options, requests):
    """The spans that the collector got of a server to which `requests` (lists of header fields) were sent."""
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    collector.daemon_threads, collector.spans = True, []
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d" % collector.server_port
    try:
        with Server(repo, *[option.replace("URL", url) for option in options],
                    env={name: value.replace("URL", url) for name, value in environment.items()}) as server:
            for fields in requests:
                assert server.request("POST", "/v2/models/echo/infer", BODY, fields)[0] == 200
            server.stop()  # what is not sent yet is sent
        return collector.spans
    finally:
        collector.shutdown()
        collector.server_close()


def traceparent(flags):
    return {"traceparent": "00-%s-%s-%s" % (TRACE, PARENT, flags)}


@test
def a_sampled_parent_gets_its_children():
    spans = collected({}, "--otlp-endpoint", "URL", "--trace-rate", "0", requests=[traceparent("01"), traceparent("00"), {}])
    assert {span["name"] for span in spans} == {"infer", "queue", "compute"} and len(spans) == 3, spans
    whole = next(span for span in spans if span["name"] == "infer")
    assert whole["traceId"] == TRACE and whole["parentSpanId"] == PARENT, whole
    for part in spans:
        assert part["traceId"] == TRACE and int(part["startTimeUnixNano"]) <= int(part["endTimeUnixNano"]), part
        assert part is whole or part["parentSpanId"] == whole["spanId"], part


@test
def without_a_parent_the_rate_decides():
    fields = [{}] * 20
    assert collected({}, "--otlp-endpoint", "URL", "--trace-rate", "0", requests=fields) == []
    spans = collected({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL"}, "--trace-rate", "1", requests=fields)
    assert len({span["traceId"] for span in spans}) == 20 and len(spans) == 60, len(spans)
    garbage = [{"traceparent": "00-xyz-1-1"}, {"traceparent": ""}, {"traceparent": "0" * 500}]
    assert len(collected({}, "--otlp-endpoint", "URL", "--trace-rate", "1", requests=garbage)) == 9


@test
def an_endpoint_that_cannot_be():
    contains(fermata("serve", repo, *serving.ANY_PORTS, "--otlp-endpoint", "ftp://127.0.0.1", code=3)[1], "ftp://127.0.0.1")
    fermata("serve", repo, *serving.ANY_PORTS, "--trace-rate", "2", code=2)


run()
