"""NVIDIA's load generator perf_analyzer, as it is, against `fermata serve`.

    load.py PERF_ANALYZER RESULTS.json      FERMATA and FM_SOURCE_ROOT name the program and the sources; tools/conformance runs it

Owns: which options are tried, and that the numbers which the tool reads back from the server make sense. No figure of it is a measurement of
the server: windows are short, and the machine may be busy.
"""
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, HERE + "/../../e2e"]

import models
import results
import serving

HTTP, GRPC = "http", "grpc"
DATA = {"data": [{"INPUT0": {"content": list(range(16)), "shape": [16]}, "INPUT1": [1] * 16},
                 {"INPUT0": [7] * 16, "INPUT1": [5] * 16}],
        "validation_data": [{"OUTPUT0": [i + 1 for i in range(16)], "OUTPUT1": [i - 1 for i in range(16)]},
                            {"OUTPUT0": [12] * 16, "OUTPUT1": [2] * 16}]}
WRONG = {"data": DATA["data"][1:], "validation_data": [{"OUTPUT0": [13] * 16, "OUTPUT1": [2] * 16}]}
# protocol, what, options, model
CASES = [(protocol, name, options, model) for protocols, name, options, model in [
    ((HTTP, GRPC), "default", "", "simple"),
    ((HTTP, GRPC), "--sync", "--sync --concurrency-range 2", "simple"),
    ((HTTP, GRPC), "--async --concurrency-range 1:8:7", "--async --concurrency-range 1:8:7", "simple"),
    ((HTTP, GRPC), "--async, 64 in flight", "--async --concurrency-range 64", "simple"),
    ((GRPC,), "--streaming", "--streaming --concurrency-range 4", "simple"),
    ((GRPC,), "--streaming --request-rate-range", "--streaming --request-rate-range 200", "simple"),
    ((HTTP, GRPC), "-b 4", "-b 4", "simple"),
    ((HTTP, GRPC), "--shared-memory=system", "--shared-memory=system", "simple"),
    ((HTTP, GRPC), "--shared-memory=system -b 4 --async", "--shared-memory=system -b 4 --async --concurrency-range 4", "simple"),
    ((GRPC,), "--shared-memory=system --streaming", "--shared-memory=system --streaming", "simple"),
    ((HTTP, GRPC), "--request-rate-range 100:200:100", "--request-rate-range 100:200:100", "simple"),
    ((HTTP, GRPC), "--request-rate-range, poisson", "--request-rate-range 150 --request-distribution poisson", "simple"),
    ((HTTP, GRPC), "--request-intervals", "--request-intervals {directory}/intervals", "simple"),
    ((HTTP, GRPC), "--collect-metrics", "--collect-metrics --metrics-url {metrics} --metrics-interval 200", "simple"),
    ((HTTP, GRPC), "--percentile=95", "--percentile=95", "simple"),
    ((HTTP, GRPC), "--binary-search -l 1000", "--binary-search -l 1000 --concurrency-range 1:4", "simple"),
    ((HTTP, GRPC), "--measurement-mode count_windows", "--measurement-mode count_windows --measurement-request-count 200", "simple"),
    ((HTTP, GRPC), "--request-count", "--request-count 300", "simple"),
    ((HTTP, GRPC), "--input-data FILE, answers checked", "--input-data {directory}/data.json", "simple"),
    ((HTTP, GRPC), "--input-data zero, -x 1", "--input-data zero -x 1", "simple"),
    ((HTTP,), "--input-tensor-format json --output-tensor-format json", "--input-tensor-format json --output-tensor-format json", "simple"),
    ((GRPC,), "--grpc-compression-algorithm gzip", "--grpc-compression-algorithm gzip", "simple"),
    ((HTTP, GRPC), "BYTES: --string-length, --shape", "--shape INPUT0:16 --string-length 20", "simple_identity"),
    ((HTTP, GRPC), "BYTES through shared memory", "--shape INPUT0:16 --string-length 20 --shared-memory=system --output-shared-memory-size 1024", "simple_identity"),
    ((HTTP, GRPC), "a pipeline", "", "twice"),
    ((HTTP, GRPC), "CSV and profile files", "--verbose-csv -f {directory}/{protocol}.csv --profile-export-file {directory}/{protocol}.json", "simple"),
] for protocol in protocols]


def figures(text):
    """The last block of what the tool prints."""
    block = text[text.rindex("Client:"):]
    number = {}
    for key, pattern in [("requests", r"Request count: (\d+)"), ("rate", r"Throughput: ([\d.]+)"), ("client_us", r"(?:Avg|p95) latency: (\d+) usec"),
                         ("inferences", r"Inference count: (\d+)"), ("executions", r"Execution count: (\d+)"),
                         ("successes", r"Successful request count: (\d+)"), ("server_us", r"Avg request latency: (\d+) usec"),
                         ("queue", r"queue (\d+) usec"), ("infer", r"compute infer (\d+) usec")]:
        found = re.search(pattern, block)
        number[key] = float(found.group(1)) if found else None
    return number


class Load:
    def __init__(self, program, server, directory):
        self.program, self.server, self.directory = program, server, directory

    def tool(self, protocol, model, options, program=None):
        port = self.server.port if protocol == HTTP else self.server.grpc_port
        options = options.format(directory=self.directory, protocol=protocol, metrics="127.0.0.1:%d/metrics" % self.server.metrics_port).split()
        # Answers within any distance of each other count as stable: it is not speed that is looked at.
        return subprocess.run([program or self.program, "-m", model, "-u", "127.0.0.1:%d" % port, "-i", protocol, "-p", "400", "-r", "10", "-s", "999", *options],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)

    def case(self, protocol, options, model):
        done = self.tool(protocol, model, options)
        assert done.returncode == 0, "exit code %d: %s" % (done.returncode, done.stdout[-600:])
        got = figures(done.stdout)
        assert got["requests"] and got["rate"] > 0, done.stdout
        assert got["inferences"], "no figures of the server: " + done.stdout
        batch = int(re.search(r"-b (\d+)", options).group(1)) if "-b " in options else 1
        # Requests at the edges of the window may be counted without their batch, which another one counts.
        assert abs(got["inferences"] - batch * got["successes"]) <= 64 * batch, got
        assert got["executions"] <= got["inferences"], got
        assert got["successes"] >= 0.8 * got["requests"] and got["requests"] >= 0.8 * got["successes"], got
        assert got["queue"] is not None and got["infer"] is not None, "no queue and compute in: " + done.stdout
        if "--request-rate-range" in options:
            wanted = float(re.search(r"--request-rate-range (?:\d+:)?(\d+)", options).group(1))
            assert 0.7 * wanted < got["rate"] < 1.3 * wanted, got
        else:
            assert got["server_us"] <= got["client_us"] * 1.05 + 5, got
        if "-f " in options:
            with open("%s/%s.csv" % (self.directory, protocol)) as file:
                assert "Server Compute Infer" in file.readline()
            with open("%s/%s.json" % (self.directory, protocol)) as file:
                assert json.load(file)["experiments"][0]["requests"]
        return "%d requests, mean batch %.2f" % (got["requests"], got["inferences"] / got["executions"])

    def validation_finds_wrong_answers(self):
        """So that the case with checked answers means something."""
        done = self.tool(HTTP, "simple", "--input-data {directory}/wrong.json")
        assert done.returncode != 0 and "doesn't match expected output" in done.stdout, done.stdout[-500:]

    def unknown_model(self, protocol):
        done = self.tool(protocol, "nothing", "")
        assert done.returncode != 0 and "is not found" in done.stdout, done.stdout[-500:]

    def trace(self, protocol):
        done = self.tool(protocol, "simple", "--trace-level TIMESTAMPS --trace-rate 100 --trace-count 10 --log-frequency 0")
        assert done.returncode != 0 and "cannot be changed" in done.stdout, done.stdout[-500:]
        return "refused: the server records always; GET /debug/trace"

    def cuda(self, protocol):
        done = self.tool(protocol, "simple", "--shared-memory=cuda")
        assert done.returncode != 0, done.stdout[-500:]
        return "refused: " + " ".join(done.stdout.strip().splitlines()[-1].split())[:120]


def main():
    program, path = sys.argv[1:]
    directory = serving.temporary()
    paths = models.repository(directory.name)
    for name, content in (("data.json", json.dumps(DATA)), ("wrong.json", json.dumps(WRONG)), ("intervals", "5000\n10000\n2000\n")):
        models.write(directory.name + "/" + name, content)
    version = re.search(r"Version\s*(\S*)", subprocess.run([program, "--version"], capture_output=True, text=True).stdout)
    rows = results.Results("perf_analyzer" + (" " + version.group(1) if version and version.group(1)[:1].isdigit() else ""))
    with serving.Server(*paths, "--accelerators", 4, "--allow-client-shm") as server:
        load = Load(program, server, directory.name)
        for protocol, name, options, model in CASES:
            rows.run("perf_analyzer", name, protocol, load.case, protocol, options, model)
        rows.run("perf_analyzer", "--input-data FILE with wrong answers: found", HTTP, load.validation_finds_wrong_answers)
        for protocol in (HTTP, GRPC):
            rows.run("perf_analyzer", "unknown model: its words", protocol, load.unknown_model, protocol)
            rows.run("perf_analyzer", "--trace-level", protocol, load.trace, protocol)
            rows.run("perf_analyzer", "--shared-memory=cuda", protocol, load.cuda, protocol)
    rows.save(path)
    sys.exit(1 if rows.failures else 0)


main()
