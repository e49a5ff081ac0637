"""A stand-in for `fermata serve` that replays a plausible server to the dashboard: states that move, models that answer.

For work on web/ and for its tests: python3 tests/e2e/fake_server.py [PORT] serves the pages of web/ as they stand. The form of the
state is that of engines/serve/state_document.c; tests/e2e/dashboard.py compares the two.
"""
import http.server
import json
import math
import os
import pathlib
import random
import sys
import threading
import time

ROOT = pathlib.Path(os.environ.get("FM_SOURCE_ROOT", pathlib.Path(__file__).parents[2]))
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
BATCH, REST, WINDOW = 0, 1, 2
START_MS = int(time.time() * 1000) - 93784000


def port(name, datatype, *shape):
    return {"name": name, "datatype": datatype, "shape": list(shape)}


# name, version, backend, slo ms, l(1) ms, l(8) ms, requests a second, goal, inputs, outputs
MODELS = [
    ("bert-qa", "2", "onnxruntime", 80, 9.0, 21.0, 92, "balanced", [port("text", "BYTES", -1, 1)], [port("answer", "BYTES", -1, 1), port("score", "FP32", -1, 1)]),
    ("ocr-detect", "1", "onnxruntime", 60, 7.5, 24.0, 64, "balanced", [port("x", "FP32", -1, 3, -1, -1)], [port("map", "FP32", -1, 1, -1, -1)]),
    ("ocr-pages", "1", "", 250, 40.0, 40.0, 12, "", [port("image", "BYTES")], [port("text", "BYTES", -1)]),
    ("ranker", "14", "onnxruntime", 15, 1.1, 3.2, 410, "latency", [port("features", "FP32", -1, 64)], [port("score", "FP32", -1, 1)]),
    ("resnet50", "7", "onnxruntime", 25, 4.2, 11.5, 305, "efficiency", [port("image", "FP32", -1, 3, 224, 224)], [port("class", "FP32", -1, 1000)]),
    ("whisper-encoder", "1", "onnxruntime", 400, 61.0, 170.0, 7.5, "balanced", [port("mel", "FP32", -1, 80, 3000)], [port("state", "FP32", -1, 1500, 512)]),
]
BROKEN = ("style-transfer", "3", "LOADING", ""), ("yolo-next", "2", "UNAVAILABLE", "yolo-next/2/model.onnx: opset 23 is newer than this ONNX Runtime knows; export with opset 21 or lower")
ACCELERATORS = 8


class World:
    """Moves on its own clock: now_us. `calm` freezes nothing but makes every number the same in each run."""

    def __init__(self, seed=7):
        self.random = random.Random(seed)
        self.now_us = 93784000000
        self.wall_ms = START_MS + self.now_us // 1000
        self.counts = [dict(success=0, failure=0, good=0, late=0, met=0, missed=0, inferences=0, batches=0, cache_hits=0, cache_misses=0, last_ms=0, drops={}, sizes={}) for _ in MODELS]
        self.rates = [None] * len(MODELS)
        self.free_us = [self.now_us] * ACCELERATORS
        self.busy_us = [0.0] * ACCELERATORS
        self.batches = [0] * ACCELERATORS
        self.spans = []
        self.history = []
        self.log = []
        self.used = ACCELERATORS - 2
        for _ in range(300):
            self.step(1.0, spans=False)
        self.step(5.0)
        self.say("info", "server_ready", models=6, loops=2, accelerators=ACCELERATORS)
        self.say("info", "model_ready", model="resnet50", version=7, load_ms=1840)
        self.say("warning", "model_load_failed", model="yolo-next", version=2, reason=BROKEN[1][3], next="the version stays unavailable, retrying when its files change")
        self.say("info", "client_connected", peer="10.0.4.17", protocol="grpc")
        self.say("error", "inference_failed", model="bert-qa", request_id="a3f9-771", reason="Expand: invalid shape {1,0}", next="answered with an error")

    def say(self, level, event, **fields):
        ms = self.wall_ms - 60000 + len(self.log) * 9000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + ".%03dZ" % (ms % 1000)
        self.log.append({"time": stamp, "level": level, "event": event, **fields})

    def load(self, index):
        t = self.wall_ms / 1000 + index * 40
        wave = 1 + 0.25 * math.sin(t / 31) + 0.12 * math.sin(t / 7 + index)
        burst = 1.6 if (t % 170) > 150 and index in (3, 4) else 1.0
        return MODELS[index][6] * wave * burst

    def step(self, seconds, spans=True):
        good = late = failed = dropped = inferences = batches = 0
        for index, model in enumerate(MODELS):
            rate = self.load(index)
            requests = max(0, int(rate * seconds + self.random.gauss(0, math.sqrt(rate * seconds) / 2)))
            over = rate > MODELS[index][6] * 1.5
            n_late = sum(self.random.random() < (0.02 if over else 0.002) for _ in range(requests))
            n_drop = sum(self.random.random() < (0.08 if over else 0.004) for _ in range(requests))
            n_fail = 1 if self.random.random() < 0.02 * seconds and index == 0 else 0
            count = self.counts[index]
            answered = max(0, requests - n_drop - n_fail)
            mean = max(1.0, min(8.0, rate * model[3] / 1000 * 0.42 + 0.8))
            n_batches = max(1, int(answered / mean))
            count["success"] += answered
            count["failure"] += n_drop + n_fail
            count["good"] += answered - n_late
            count["met"] += answered - n_late
            count["late"] += n_late
            count["missed"] += n_late + n_drop + n_fail
            count["inferences"] += answered
            count["batches"] += n_batches
            count["last_ms"] = self.wall_ms
            for _ in range(min(n_batches, 400)):
                size = max(1, min(8, round(self.random.gauss(mean, 1.3))))
                count["sizes"][size] = count["sizes"].get(size, 0) + 1
            for _ in range(n_drop):
                reason = self.random.choices(["late", "sacrificed", "rejected", "infeasible", "queue_full", "cancelled"], [40, 22, 18, 9, 4, 7])[0]
                count["drops"][reason] = count["drops"].get(reason, 0) + 1
            self.rates[index] = {
                "span_ms": 7000.0, "requests": requests / seconds, "good": (answered - n_late) / seconds, "failures": (n_drop + n_fail) / seconds,
                "dropped": n_drop / seconds, "batch": mean, "met": (answered - n_late) / max(1, requests),
                "p50_ms": model[3] * (0.55 if model[7] == "efficiency" else 0.36) * self.random.uniform(0.96, 1.04),
                "p99_ms": model[3] * (1.04 if over else 0.91) * self.random.uniform(0.97, 1.02), "queue_p99_ms": model[3] * 0.5}
            good, late, failed, dropped = good + answered - n_late, late + n_late, failed + n_fail, dropped + n_drop
            inferences, batches = inferences + answered, batches + n_batches
        self.used = min(ACCELERATORS - 1, max(3, round(sum(self.load(i) * (MODELS[i][5] / 8) / 1000 for i in range(len(MODELS))) + 1.3)))
        self.wall_ms += int(seconds * 1000)
        self.now_us += int(seconds * 1e6)
        self.history.append([self.wall_ms, int(seconds * 1000), good, late, failed, dropped, inferences, batches,
                             self.random.randrange(6, 40), ACCELERATORS - 1, self.used, min(9, self.used + 1)])
        self.history = self.history[-300:]
        if spans:
            self.run_accelerators()
        else:
            self.free_us = [self.now_us] * ACCELERATORS

    def run_accelerators(self):
        weights = [self.load(i) for i in range(len(MODELS))]
        weights[2] = 0
        for accelerator in range(ACCELERATORS - 1):
            at = self.free_us[accelerator]
            crowd = max(0.0, min(1.0, self.used - accelerator))
            while at < self.now_us:
                if crowd <= 0 or self.random.random() > 0.35 + 0.6 * crowd:
                    rest = int(self.random.uniform(4000, 60000 if crowd < 1 else 14000))
                    self.spans.append([REST, accelerator, at, rest, -1, 0])
                    at += rest
                    continue
                index = self.random.choices(range(len(MODELS)), weights)[0]
                model = MODELS[index]
                size = max(1, min(8, round(self.random.gauss(self.rates[index]["batch"], 1.4))))
                length = int((model[4] + (model[5] - model[4]) * (size - 1) / 7) * 1000 * self.random.uniform(0.96, 1.05))
                slack = int(model[3] * 1000 * 0.22)
                self.spans.append([WINDOW, accelerator, at - slack, slack + int(slack * 0.4), index, size])
                self.spans.append([BATCH, accelerator, at, length, index, size])
                self.busy_us[accelerator] += length
                self.batches[accelerator] += 1
                at += length + self.random.randrange(200, 900)
            self.free_us[accelerator] = at
        self.spans = [span for span in self.spans if span[2] + span[3] > self.now_us - 10000000][-8000:]

    def model_state(self, index):
        name, version, backend, slo, _, _, _, goal, inputs, outputs = MODELS[index]
        count = dict(self.counts[index])
        count["sizes"] = sorted([size, n] for size, n in count["sizes"].items())
        rate = self.rates[index]
        return {"name": name, "version": version, "kind": "model" if backend else "pipeline", "state": "READY", "reason": "", "backend": backend,
                "policy": "deferred" if backend else "", "goal": goal, "inputs": inputs, "outputs": outputs, "slo_ms": float(slo),
                "load_ms": 300.0 + 410 * index, "memory": (index + 1) * 48000000, "batch_max": 8 if backend else 1, "instances": 2,
                "queued": int(rate["requests"] * rate["p50_ms"] / 2000), "in_flight": int(rate["requests"] * rate["p50_ms"] / 1000),
                "target": round(rate["batch"]), "arrivals": rate["requests"], "recent": rate, "counts": count}

    def broken_state(self, row):
        zero = dict(success=0, failure=0, good=0, late=0, met=0, missed=0, inferences=0, batches=0, cache_hits=0, cache_misses=0, last_ms=0, drops={}, sizes=[])
        return {"name": row[0], "version": row[1], "kind": "model", "state": row[2], "reason": row[3], "backend": "onnxruntime", "policy": "deferred",
                "goal": "balanced", "inputs": [], "outputs": [], "slo_ms": 0.0, "load_ms": 0.0, "memory": 0, "batch_max": 0, "instances": 0, "queued": 0,
                "in_flight": 0, "target": 0, "arrivals": 0.0, "recent": None, "counts": zero}

    def accelerator_state(self, index):
        down = index == ACCELERATORS - 1
        running = [s for s in self.spans if s[0] == BATCH and s[1] == index and s[2] <= self.now_us < s[2] + s[3]]
        last = [s for s in self.spans if s[0] == BATCH and s[1] == index]
        model = MODELS[(running or last)[-1][4]][0] if running or last else ""
        return {"name": "cpu-%d" % index, "type": "cpu", "state": "down" if down else "busy" if running else "idle", "model": model,
                "batches": self.batches[index], "failures": 0, "busy_ms": self.busy_us[index] / 1000, "rest_ms": None if down else 0.0 if running else 8.5}

    def state(self, since=0, history=0):
        wanted = self.history[-1][11]
        up = ACCELERATORS - 1
        return {
            "format": 1,
            "server": {"version": "0.1.0", "commit": "4be1c09a77d2", "build": "gcc 12.2.0, release", "host": "inference-3", "policy": "deferred",
                       "ready": True, "draining": False, "wall_ms": self.wall_ms, "start_ms": START_MS, "now_us": self.now_us, "cpus": 16,
                       "cpu_ms": 5423000.0 + self.now_us / 1e4, "resident": 734003200, "peak": 812646400, "threads": 21, "descriptors": 143,
                       "descriptors_max": 65536},
            "models": sorted([self.model_state(i) for i in range(len(MODELS))] + [self.broken_state(row) for row in BROKEN], key=lambda m: m["name"]),
            "models_omitted": 0,
            "accelerator_count": ACCELERATORS,
            "accelerators": [self.accelerator_state(i) for i in range(ACCELERATORS)],
            "scheduler": {"queued": self.history[-1][8], "up": up, "busy": min(up, self.used), "used": self.used, "needed": self.used - 0.35,
                          "advice": {"wanted": wanted, "missing": max(0, wanted - up), "could_go": max(0, up - wanted), "age_ms": 41000.0}},
            "timeline": {"models": [m[0] for m in MODELS], "spans": [s for s in self.spans if s[2] + s[3] > since and (s[0] != BATCH or s[2] + s[3] <= self.now_us)][-4096:]},
            "history": [row for row in self.history if row[0] > history],
            "loops": [{"requests": 40210000 + i, "rejected": 12, "cancelled": 88, "connections": 96 + i, "in_flight": 14, "received": 9 << 30,
                       "sent": 3 << 30, "cpu_ms": 912000.0, "lag_ms": 0.42} for i in range(2)],
            "log": self.log[-100:],
        }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, content_type, body, **headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, document, status=200):
        self.answer(status, "application/json", json.dumps(document).encode())

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.requests.append(self.path)
        if self.server.token and path.startswith(("/debug", "/v2")) and self.headers.get("Authorization") != "Bearer " + self.server.token:
            self.answer_json({"error": "a token is needed"}, 401)
            return
        if path == "/debug/state":
            if self.server.broken:
                self.answer_json({"error": "draining"}, 503)
                return
            values = dict(pair.split("=") for pair in query.split("&") if pair)
            with self.server.lock:
                if self.server.live:
                    now = time.monotonic()
                    self.server.world.step(max(0.05, now - self.server.last))
                    self.server.last = now
                self.answer_json(self.server.world.state(int(values.get("since", 0)), int(values.get("history", 0))))
            return
        if path.startswith("/v2/models/"):
            model = next((m for m in MODELS if m[0] == path.split("/")[3]), None)
            if model is None:
                self.answer_json({"error": "Request for unknown model: '%s' is not found" % path.split("/")[3]}, 404)
            else:
                self.answer_json({"name": model[0], "versions": [model[1]], "platform": "onnxruntime_onnx", "inputs": model[8], "outputs": model[9]})
            return
        name = {"/": "index.html", "/try": "try.html"}.get(path, path.lstrip("/"))
        file = ROOT / "web" / name
        if "/" in name or not file.is_file() or file.suffix not in TYPES:
            self.answer_json({"error": "not found"}, 404)
            return
        policy = (ROOT / "web" / "web.h").read_text().split("#define FM_WEB_POLICY")[1].split("\n\n")[0]
        policy = "".join(policy.split('"')[1::2])
        self.answer(200, TYPES[file.suffix], file.read_bytes(), Content_Security_Policy=policy)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.split("/")[3] if self.path.startswith("/v2/models/") else ""
        self.server.posts.append((self.path, dict(self.headers), body))
        if name == "resnet50":
            rows = ["11.204:207:golden retriever", "9.871:208:Labrador retriever", "7.330:219:cocker spaniel", "6.912:222:kuvasz", "6.404:852:tennis ball"]
            self.answer_json({"model_name": name, "model_version": "7", "outputs": [{"name": "class", "datatype": "BYTES", "shape": [1, 5], "data": rows}]})
        elif name == "ranker":
            self.answer_json({"model_name": name, "model_version": "14", "outputs": [{"name": "score", "datatype": "FP32", "shape": [1, 1], "data": [0.8312]}]})
        elif name == "bert-qa":
            self.answer_json({"error": "input 'text': 3 elements do not fill shape [1, 1]"}, 400)
        elif name == "ocr-pages":
            self.answer_json({"model_name": name, "model_version": "1", "outputs": [{"name": "text", "datatype": "BYTES", "shape": [2],
                                                                                   "data": ["The quick brown fox", "jumps over the lazy dog."]}]})
        else:
            self.answer_json({"model_name": name, "model_version": "1", "outputs": [{"name": "state", "datatype": "FP32", "shape": [1, 200],
                                                                                   "data": [math.sin(i / 9) * math.exp(-i / 90) for i in range(200)]}]})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, number=0, live=True):
        super().__init__(("127.0.0.1", number), Handler)
        self.world, self.lock, self.live, self.last, self.broken = World(), threading.Lock(), live, time.monotonic(), False
        self.requests, self.posts, self.token = [], [], ""
        self.port = self.server_address[1]


if __name__ == "__main__":
    server = Server(int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    print("http://127.0.0.1:%d/" % server.port, flush=True)
    server.serve_forever()
