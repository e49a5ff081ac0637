"""The response cache of `fermata serve`: equal requests get equal bytes whatever form they come in, a reload forgets, the bound holds,
failures are not kept, and what is told of it is true.

Runs under /usr/bin/python3 where this interpreter has no grpcio; without it the gRPC part is left out.
"""
import functools
import json
import os
import re
import signal
import struct
import time

import serving
from serving import Server, floats, in_threads, sleeper, tensor, wait_until
from tap import Skip, contains, fermata, run, test
from with_grpc import grpc

CACHED = "response_cache: true\n"
TWO = 'backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,4], s:BYTES[-1,1]"\n  outputs: "y,t"\n' + CACHED
ONE = 'backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,-1]"\n  outputs: "y"\n' + CACHED
ZEROS = 'backend: emulated\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,-1]"\n  outputs: "y:FP32[-1,4]"\n  latency: "1:1ms"\n' + CACHED
directory = serving.temporary()
PIPELINE = """name: twice
models: MODELS
response_cache: true
inputs: [{name: x, dtype: FP32, shape: [4]}]
stages:
  - {name: a, model: one, inputs: {x: x}}
outputs: {out: a.y}
"""


def repository(name, **models):
    return serving.repository(os.path.join(directory.name, name), **models)


def stats(server, model):
    return server.get("/v2/models/%s/stats" % model)["model_stats"][0]


def counts(server, model):
    """(hits, misses, batches)"""
    of = stats(server, model)
    return of["inference_stats"]["cache_hit"]["count"], of["inference_stats"]["cache_miss"]["count"], of["execution_count"]


def metric(server, name, **labels):
    for line in server.request("GET", "/metrics")[2].decode().splitlines():
        if line.split("{")[0].split(" ")[0] == name and all('%s="%s"' % pair in line for pair in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return None


def one(*values):
    return {"inputs": [tensor("x", [1, len(values)], "FP32", list(values))]}


def field(number, data):
    data = data.encode() if isinstance(data, str) else data
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def grpc_infer(server, model, values):
    """The answer's bytes."""
    message = field(1, model) + field(5, field(1, "x") + field(2, "FP32") + field(3, varint(1) + varint(len(values)))) + field(7, floats(*values))
    with grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port) as channel:
        return channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)(message, timeout=30)


@test
def without_the_option_nothing_is_kept():
    with Server(repository("off", one=ONE, plain=serving.ECHO)) as server:
        contains(server.wait_log("response_cache_off"), "one", "--response-cache 64MiB")
        assert not any("response_cache_off" in line and "plain" in line for line in server.log)
        for _ in range(2):
            server.infer("one", one(1, 2))
        assert counts(server, "one") == (0, 0, 2), counts(server, "one")
        assert metric(server, "fermata_response_cache_bytes") is None
        assert server.get("/v2/models/one/config")["response_cache"] == {"enable": True}
        assert not (server.get("/v2/models/plain/config").get("response_cache") or {}).get("enable")
    with Server(repository("off", one=ONE, plain=serving.ECHO), "--response-cache", "8MiB") as server:
        for _ in range(2):
            server.infer("plain", one(1, 2))
        assert counts(server, "plain") == (0, 0, 2)
    contains(fermata("serve", "x", "--response-cache", "10k", code=2)[1], "--response-cache", "64MiB")


@test
def the_same_bytes_in_every_form():
    key = "fermata-cache-%d" % os.getpid()
    with Server(repository("forms", two=TWO, one=ONE), "--response-cache", "64MiB", "--allow-client-shm") as server:
        x, s = [1.5, -0.0, 3e-38, 4], ["\u00e4", ""]
        document = {"id": "a", "inputs": [tensor("x", [2, 4], "FP32", x + x), tensor("s", [2, 1], "BYTES", s)]}
        first = server.request("POST", "/v2/models/two/infer", json.dumps(document))[2]
        second = server.request("POST", "/v2/models/two/infer", json.dumps(document))[2]
        assert first == second and counts(server, "two")[:2] == (1, 1), (first, second)
        # The id is of the request, not of the answer; classes are of the form.
        assert server.infer("two", dict(document, id="b"))["id"] == "b"
        classes = server.infer("two", dict(document, outputs=[{"name": "y", "parameters": {"classification": 1}}, {"name": "t"}]))
        assert classes["outputs"][0]["data"] == ["4.000000:3", "4.000000:3"], classes
        assert counts(server, "two")[:2] == (3, 1), counts(server, "two")
        # Binary tensors, in and out.
        raw = floats(*x, *x)
        texts = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in s)
        head = {"inputs": [tensor("x", [2, 4], "FP32", binary_data_size=len(raw)), tensor("s", [2, 1], "BYTES", binary_data_size=len(texts))],
                "parameters": {"binary_data_output": True}}
        assert server.infer_binary("two", head, [raw, texts])[1] == raw + texts
        assert counts(server, "two")[:2] == (4, 1), counts(server, "two")
        # Fewer outputs are another question.
        assert [output["name"] for output in server.infer("two", dict(document, outputs=[{"name": "t"}]))["outputs"]] == ["t"]
        assert server.infer("two", dict(document, outputs=[{"name": "t"}]))["outputs"][0]["data"] == s
        assert counts(server, "two")[:2] == (5, 2), counts(server, "two")
        # Shared memory, in and out.
        with open("/dev/shm/" + key, "w+b") as memory:
            try:
                memory.write(floats(1, 2, 3, 4) + bytes(16))
                memory.flush()
                assert server.request("POST", "/v2/systemsharedmemory/region/r/register", json.dumps({"key": "/" + key, "offset": 0, "byte_size": 32}))[0] == 200
                place = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
                shared = {"inputs": [tensor("x", [1, 4], "FP32", **place)], "outputs": [dict(name="y", parameters=dict(place, shared_memory_offset=16))]}
                for index, values in enumerate([(1, 2, 3, 4), (1, 2, 3, 4), (5, 6, 7, 8), (1, 2, 3, 4), (5, 6, 7, 8)]):
                    memory.seek(0)
                    memory.write(floats(*values) + bytes(16))
                    memory.flush()
                    server.infer("one", shared)
                    memory.seek(16)
                    assert memory.read(16) == floats(*values), (index, values)
                assert counts(server, "one")[:2] == (3, 2), counts(server, "one")
                assert server.infer("one", one(5, 6, 7, 8))["outputs"][0]["data"] == [5, 6, 7, 8]
                assert counts(server, "one")[:2] == (4, 2), counts(server, "one")
            finally:
                os.unlink("/dev/shm/" + key)


@test
def over_grpc():
    if grpc is None:
        raise Skip("this machine has no grpcio (Debian: python3-grpcio)")
    with Server(repository("grpc", one=ONE), "--response-cache", "64MiB") as server:
        answers = [grpc_infer(server, "one", (1, 2, 3)) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2] and answers[0].endswith(floats(1, 2, 3)), answers
        assert counts(server, "one")[:2] == (2, 1), counts(server, "one")
        assert server.infer("one", one(1, 2, 3))["outputs"][0]["data"] == [1, 2, 3]
        assert counts(server, "one")[:2] == (3, 1), counts(server, "one")


@test
def a_reload_forgets():
    models = repository("reload", one=ONE)
    with Server(models, "--response-cache", "64MiB", "--model-control-mode", "explicit", "--load-model", "one") as server:
        for _ in range(2):
            assert server.infer("one", one(1, 2, 3, 4))["outputs"][0]["data"] == [1, 2, 3, 4]
        assert counts(server, "one")[:2] == (1, 1)
        repository("reload", one=ZEROS)
        assert server.request("POST", "/v2/repository/models/one/load", "{}")[0] == 200
        for _ in range(2):
            assert server.infer("one", one(1, 2, 3, 4))["outputs"][0]["data"] == [0, 0, 0, 0]
        assert counts(server, "one")[:2] == (1, 1), counts(server, "one")


@test
def a_changed_model_makes_its_pipeline_forget():
    models = repository("changed", one=ONE)
    pipeline = os.path.join(directory.name, "changed.yaml")
    with open(pipeline, "w") as file:
        file.write(PIPELINE.replace("MODELS", models).replace("name: twice", "name: changed"))
    with Server(models, pipeline, "--response-cache", "64MiB", "--no-measure") as server:
        def ask():
            return server.infer("changed", {"inputs": [tensor("x", [4], "FP32", [1, 2, 3, 4])]})["outputs"][0]["data"]
        assert ask() == ask() == [1, 2, 3, 4]
        assert counts(server, "changed")[:2] == (1, 1)
        repository("changed", one=ZEROS)
        server.signal(signal.SIGHUP)
        server.wait_log(re.compile("model_ready model=changed .*replaces=true"))
        wait_until(lambda: ask() == [0, 0, 0, 0])  # it was logged before the loop sees it
        assert ask() == [0, 0, 0, 0] and counts(server, "changed")[0] >= 1


@test
def triton_configuration_and_pipelines():
    models = os.path.join(directory.name, "more")
    os.makedirs(os.path.join(models, "triton"))
    with open(os.path.join(models, "triton", "config.pbtxt"), "w") as file:
        file.write('backend: "identity"\nmax_batch_size: 4\nparameters { key: "inputs" value { string_value: "x:FP32[-1,4]" } }\n'
                   "response_cache { enable: true }\n")
    serving.repository(models, one=ONE)
    pipeline = os.path.join(directory.name, "twice.yaml")
    with open(pipeline, "w") as file:
        file.write(PIPELINE.replace("MODELS", models))
    with Server(models, pipeline, "--response-cache", "64MiB") as server:
        assert server.get("/v2/models/triton/config")["response_cache"] == {"enable": True}
        for name, shape in (("triton", [1, 4]), ("twice", [4])):
            def ask(*values):
                return server.infer(name, {"inputs": [tensor("x", shape, "FP32", list(values))]})["outputs"][0]["data"]
            assert ask(1, 2, 3, 4) == ask(1, 2, 3, 4) == [1, 2, 3, 4]
            assert counts(server, name) == (1, 1, 1), (name, counts(server, name))
            assert ask(1, 2, 3, 5) == [1, 2, 3, 5]
    with open(os.path.join(models, "triton", "config.pbtxt"), "a") as file:
        file.write("response_cache { enable: 7 }\n")
    contains(fermata("serve", models, "--strict", *serving.ANY_PORTS, code=3)[1], "config.pbtxt:5")


@test
def failures_are_not_kept():
    fails = sleeper("1ms", more="  fail_every: 1\n" + CACHED)
    with Server(repository("fails", fails=fails), "--response-cache", "64MiB", "--no-measure") as server:
        for _ in range(3):
            server.infer("fails", one(1, 2, 3, 4), 500)
        assert counts(server, "fails")[0] == 0
        assert metric(server, "fermata_response_cache_entries") == 0
        # What cannot be decoded is no question at all.
        server.infer("fails", {"inputs": []}, 400)
        assert counts(server, "fails")[1] == 3, counts(server, "fails")


@test
def the_bound_holds():
    size = 100000
    with Server(repository("bound", one=ONE), "--response-cache", "1MiB") as server:
        def ask(number, length=size):
            raw = struct.pack("<f", number) * (length // 4)
            head = {"inputs": [tensor("x", [1, length // 4], "FP32", binary_data_size=length)], "parameters": {"binary_data_output": True}}
            assert server.infer_binary("one", head, [raw])[1] == raw
        for number in range(40):
            ask(number)
            ask(0)
            assert metric(server, "fermata_response_cache_bytes") <= 1 << 20
        entries, evicted = (metric(server, "fermata_response_cache_" + name) for name in ("entries", "evicted_total"))
        assert entries + evicted == 40 == metric(server, "fermata_response_cache_inserted_total"), (entries, evicted)
        assert 8 <= entries <= 10 and metric(server, "fermata_response_cache_bytes_max") == 1 << 20, entries
        # 0 is asked for again and again, and so stays; 1 had to go.
        assert counts(server, "one")[:2] == (40, 40), counts(server, "one")
        ask(1)
        assert counts(server, "one")[:2] == (40, 41)
        ask(5, 1 << 20)
        ask(5, 1 << 20)
        assert counts(server, "one")[:2] == (40, 43)
        assert metric(server, "fermata_response_cache_not_kept_total", reason="too_large") == 2


@test
def what_is_told_is_true():
    slow = sleeper("500ms", more=CACHED)
    with Server(repository("told", slow=slow), "--response-cache", "64MiB", "--slo", "30s", "--no-measure") as server:
        server.infer("slow", one(1, 2, 3, 4))
        begin = time.monotonic()
        for _ in range(10):
            server.infer("slow", one(1, 2, 3, 4))
        took = time.monotonic() - begin
        assert took < 5, took  # ten times 500 ms
        of = stats(server, "slow")
        inside = of["inference_stats"]
        assert inside["cache_hit"]["count"] == 10 and inside["cache_miss"]["count"] == 1, inside
        assert inside["success"]["count"] == 11 and inside["queue"]["count"] == 11, inside
        assert inside["compute_infer"]["count"] == 1 == of["execution_count"] == of["inference_count"], of
        assert 0 < inside["cache_hit"]["ns"] < 5e9 and inside["cache_miss"]["ns"] > 0, inside
        assert metric(server, "nv_cache_num_hits_per_model", model="slow") == 10
        assert metric(server, "nv_cache_num_misses_per_model", model="slow") == 1
        assert metric(server, "nv_cache_hit_duration_per_model", model="slow") == inside["cache_hit"]["ns"] // 1000
        assert metric(server, "nv_cache_miss_duration_per_model", model="slow") == inside["cache_miss"]["ns"] // 1000
        assert metric(server, "nv_inference_count", model="slow") == 1
        assert metric(server, "fermata_good_answers_total", model="slow") == 11
        model = next(model for model in server.get("/debug/state")["models"] if model["name"] == "slow")
        assert model["counts"]["cache_hits"] == 10 and model["counts"]["cache_misses"] == 1, model["counts"]
        for _ in range(32):  # one in sixteen shows its phases
            server.infer("slow", one(1, 2, 3, 4))
        trace = server.request("GET", "/debug/trace?seconds=60")[2].decode()
        contains(trace, '"cache"')


@test
def many_at_once():
    threads, rounds, kinds = 8, 60, 7
    with Server(repository("many", one=ONE), "--response-cache", "1MiB", "--loops", "2") as server:
        def ask(first):
            for i in range(rounds):
                values = [float((first + i) % kinds)] * 1000
                assert server.infer("one", one(*values))["outputs"][0]["data"] == values, values[0]

        in_threads(*[functools.partial(ask, i) for i in range(threads)])
        hits, misses, _ = counts(server, "one")
        assert hits + misses == threads * rounds and kinds <= misses <= kinds * threads, (hits, misses)
        assert metric(server, "fermata_response_cache_entries") == kinds


run()
