"""`fermata serve`: the protocol by its documents, tensors in both forms, and every error a client can cause."""
import functools
import gzip
import json
import os
import struct

import serving
import tap
from serving import ECHO, Server, beside, echo, floats, in_threads, sleeper, tensor, wait_in_flight
from tap import contains, test

directory = serving.temporary()
repo = serving.repository(
    directory.name,
    echo=ECHO,
    types=echo("b:BOOL[-1], u8:UINT8[-1], u16:UINT16[-1], u32:UINT32[-1], u64:UINT64[-1], i8:INT8[-1], i16:INT16[-1], "
               "i32:INT32[-1], i64:INT64[-1], f32:FP32[-1], f64:FP64[-1], s:BYTES[-1]"),
    half=echo("h:FP16[-1], f:BF16[-1]"),
    bytes_one=echo("s:BYTES[1]"),
    failing=sleeper("1ms", more="  fail_every: 1\n"),
    slow=sleeper("1s"),
    **{"odd name %": ECHO})
os.makedirs(os.path.join(repo, "broken", "1"))
with open(os.path.join(repo, "broken", "1", "model.onnx"), "w") as file:
    file.write("this is no model")
server = Server(repo, "--requests-max", "2", "--max-body", "100k")


@test
def server_documents():
    document = server.get("/v2")
    assert document["name"] == "fermata" and "binary_tensor_data" in document["extensions"], document
    assert "sequence" not in document["extensions"], "what is advertised must work"
    assert server.get("/v2/health/live") == {"live": True}
    assert server.get("/v2/health/ready") == {"ready": True}
    status, headers, body = server.request("HEAD", "/v2")
    assert status == 200 and body == b"" and int(headers["Content-Length"]) > 10


@test
def model_documents():
    document = server.get("/v2/models/echo")
    assert document["name"] == "echo" and document["versions"] == ["1"], document
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}], document
    assert server.get("/v2/models/echo/versions/1")["name"] == "echo"
    assert server.get("/v2/models/echo/ready") == {"name": "echo", "ready": True}
    config = server.get("/v2/models/echo/config")
    assert config["max_batch_size"] == 8, config
    assert {"name": "x", "data_type": "TYPE_FP32", "dims": [-1], "optional": False}.items() <= config["input"][0].items(), config
    assert server.get("/v2/models/odd%20name%20%25/ready") == {"name": "odd name %", "ready": True}


@test
def a_model_that_does_not_load_is_reported_and_the_others_are_served():
    contains(server.wait_log("model_failed"), "model=broken", "serving without it")
    assert len([line for line in server.log if "model_failed" in line]) == 1
    assert server.get("/v2/models/broken/ready", 400) == {"name": "broken", "ready": False}
    contains(server.get("/v2/models/broken", 503)["error"], "model 'broken' is not ready", "model.onnx")
    status, headers, body = server.request("POST", "/v2/repository/index")
    rows = {row["name"]: row for row in json.loads(body)}
    assert rows["echo"] == {"name": "echo", "version": "1", "state": "READY"}, rows
    assert rows["broken"]["state"] == "UNAVAILABLE" and "model.onnx" in rows["broken"]["reason"], rows
    status, headers, body = server.request("POST", "/v2/repository/index", '{"ready":true}')
    assert "broken" not in [row["name"] for row in json.loads(body)]


@test
def unknown_things():
    contains(server.get("/v2/models/ecco", 404)["error"], "Request for unknown model:", "is not found", "did you mean 'echo'?")
    contains(server.get("/v2/models/zzzzzz", 404)["error"], "Request for unknown model: 'zzzzzz' is not found")
    contains(server.get("/v2/models/echo/versions/7", 404)["error"], "version 7 is not found")
    contains(server.get("/v2/models/echo/versions/x", 400)["error"], "positive number")
    for path in ["/no.js", "/v1", "/v2/", "/v2/models", "/v2/models/", "/v2/models/echo/", "/v2/models/echo/nothing", "/v2/%zz", "/v2%00",
                 "/v2/health", "/v2/health/live/x", "/metricss", "/v2/models/a%2", "/" + "v2/" * 20, "/v2/" + "x" * 5000]:
        assert server.get(path, 404) == {"error": "Not Found"}, path


@test
def what_is_compressed():
    """Metrics and inferences, but no other document of the protocol: tritonclient's asyncio client says that it takes gzip, and does not."""
    takes = {"Accept-Encoding": "gzip, deflate"}
    for method, path in (("GET", "/v2/models/stats"), ("GET", "/v2/models/types/config"), ("POST", "/v2/repository/index")):
        status, headers, body = server.request(method, path, headers=takes)
        assert status == 200 and headers["Content-Encoding"] is None and json.loads(body), (path, headers)
    assert len(server.request("GET", "/v2/models/stats")[2]) > 2000
    row = {"name": "x", "datatype": "FP32", "shape": [1, 1000], "data": [0.5] * 1000}
    for method, path, body in (("GET", "/metrics", None), ("POST", "/v2/models/echo/infer", json.dumps({"inputs": [row]}))):
        status, headers, body = server.request(method, path, body, takes)
        assert status == 200 and headers["Content-Encoding"] == "gzip" and gzip.decompress(body), (path, headers)


@test
def what_others_have():
    for path in ["/v2/models/echo/generate", "/v2/models/echo/versions/1/generate_stream"]:
        status, _, body = server.request("POST", path, "{}")
        assert status == 501 and "not supported" in json.loads(body)["error"], (path, status, body)


@test
def wrong_methods():
    for method, path, allow in [("POST", "/v2", "GET, HEAD, OPTIONS"), ("GET", "/v2/models/echo/infer", "POST, OPTIONS"), ("PUT", "/v2/models/echo", "GET, HEAD, OPTIONS"),
                                ("GET", "/v2/repository/index", "POST, OPTIONS"), ("DELETE", "/v2/health/live", "GET, HEAD, OPTIONS"), ("GET", "*", "OPTIONS")]:
        status, headers, body = server.request(method, path)
        assert status == 405 and headers["Allow"] == allow, (method, path, status, headers.items())
        assert json.loads(body) == {"error": "Method Not Allowed"}


@test
def options_say_what_is_allowed():
    for path, allow in [("*", "GET, HEAD, POST, OPTIONS"), ("/v2", "GET, HEAD, OPTIONS"), ("/v2/models/echo/infer", "POST, OPTIONS"),
                        ("/v2/repository/index", "POST, OPTIONS")]:
        status, headers, body = server.request("OPTIONS", path)
        assert (status, headers["Allow"], body) == (200, allow, b""), (path, status, headers.items(), body)
    assert server.request("OPTIONS", "/nowhere")[0] == 404


@test
def json_tensors():
    answer = server.infer("echo", {"id": "a\u00e9", "inputs": [tensor("x", [2, 2], "FP32", [[1, 2.5], [0.1, -3e-5]])]})
    assert answer == {"id": "a\u00e9", "model_name": "echo", "model_version": "1",
                      "outputs": [{"name": "out_x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, 0.1, -3e-5]}]}, answer
    assert "id" not in server.infer("echo", {"inputs": [tensor("x", [1, 2], "FP32", [1, 2])]})
    assert server.infer("odd%20name%20%25", {"inputs": [tensor("x", [1, 1], "FP32", [1])]})["model_name"] == "odd name %"


VALUES = {"b": ("BOOL", [True, False], "<2?"), "u8": ("UINT8", [0, 255], "<2B"), "u16": ("UINT16", [0, 65535], "<2H"),
          "u32": ("UINT32", [0, 2**32 - 1], "<2I"), "u64": ("UINT64", [0, 2**64 - 1], "<2Q"), "i8": ("INT8", [-128, 127], "<2b"),
          "i16": ("INT16", [-2**15, 2**15 - 1], "<2h"), "i32": ("INT32", [-2**31, 2**31 - 1], "<2i"),
          "i64": ("INT64", [-2**63, 2**63 - 1], "<2q"), "f32": ("FP32", [0.5, -1e30], "<2f"), "f64": ("FP64", [0.1, 5e-324], "<2d")}
TEXTS = ["", "a\u20ac\u0000\"\\"]


def pack(format, values):
    return struct.pack(format, *values)


def pack_texts(texts):
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


@test
def every_type_in_both_forms():
    texts = pack_texts(TEXTS)
    plain = [tensor(name, [2], row[0], row[1]) for name, row in VALUES.items()] + [tensor("s", [2], "BYTES", TEXTS)]
    answer = server.infer("types", {"inputs": plain})
    for output, (name, row) in zip(answer["outputs"], VALUES.items()):
        assert output["name"] == "out_" + name and output["datatype"] == row[0], output
        if row[0] == "FP32":
            assert [pack("<f", [value]) for value in output["data"]] == [pack("<f", [value]) for value in row[1]], output
        else:
            assert output["data"] == row[1], output
    assert answer["outputs"][-1]["data"] == TEXTS, answer["outputs"][-1]
    tensors = [pack(row[2], row[1]) for row in VALUES.values()] + [texts]
    names = list(VALUES) + ["s"]
    binary = [tensor(name, [2], VALUES[name][0] if name in VALUES else "BYTES", binary_data_size=len(data))
              for name, data in zip(names, tensors)]
    answer, tail = server.infer_binary("types", {"inputs": binary, "parameters": {"binary_data_output": True}}, tensors)
    assert tail == b"".join(tensors)
    assert [output["parameters"]["binary_data_size"] for output in answer["outputs"]] == [len(data) for data in tensors]


@test
def mixed_forms_and_chosen_outputs():
    plain = [tensor(name, [2], row[0], row[1]) for name, row in VALUES.items() if name != "u8"]
    document = {"inputs": plain[:3] + [tensor("u8", [2], "UINT8", binary_data_size=2)] + plain[3:] + [tensor("s", [2], "BYTES", TEXTS)],
                "outputs": [{"name": "out_s"}, {"name": "out_u8", "parameters": {"binary_data": True}}]}
    answer, tail = server.infer_binary("types", document, [b"\x07\x08"])
    assert [output["name"] for output in answer["outputs"]] == ["out_s", "out_u8"]
    assert answer["outputs"][0]["data"] == TEXTS and tail == b"\x07\x08"


@test
def half_precision_is_binary_only():
    inputs = [tensor("h", [1], "FP16", binary_data_size=2), tensor("f", [1], "BF16", binary_data_size=2)]
    answer, tail = server.infer_binary("half", {"inputs": inputs, "parameters": {"binary_data_output": True}}, [b"\x00\x3c", b"\x80\x3f"])
    assert tail == b"\x00\x3c\x80\x3f"
    contains(server.infer_binary("half", {"inputs": inputs}, [b"\x00\x3c", b"\x80\x3f"], 400)[0]["error"], "no JSON form")
    contains(server.infer("half", {"inputs": [tensor("h", [1], "FP16", [1])]}, 400)["error"], "no JSON form")


@test
def raw_requests_and_files():
    data = bytes(range(256)) * 3
    status, headers, body = server.request("POST", "/v2/models/bytes_one/infer", data, {"Inference-Header-Content-Length": "0"})
    length = int(headers["Inference-Header-Content-Length"])
    assert status == 200 and body[length:] == struct.pack("<I", len(data)) + data
    status, headers, body = server.request("POST", "/v2/models/echo/infer", floats(1, 2, 3), {"Inference-Header-Content-Length": "0"})
    assert json.loads(body[:int(headers["Inference-Header-Content-Length"])])["outputs"][0]["shape"] == [1, 3]
    status, headers, body = server.request("POST", "/v2/models/bytes_one/infer", b"a jpeg", {"Content-Type": "image/jpeg"})
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == ["a jpeg"], body


@test
def classification():
    answer = server.infer("echo", {"inputs": [tensor("x", [2, 3], "FP32", [1, 3, 2, 9, 8, 7])],
                                   "outputs": [{"name": "out_x", "parameters": {"classification": 2}}]})
    assert answer["outputs"] == [{"name": "out_x", "datatype": "BYTES", "shape": [2, 2],
                                  "data": ["3.000000:1", "2.000000:2", "9.000000:0", "8.000000:1"]}], answer


@test
def bad_bodies():
    x = tensor("x", [1, 2], "FP32", [1, 2])
    for body, *parts in [
            ("", "malformed"), ("{", "line 1, column 2"), ('{"inputs":[}', "malformed"), ("[" * 200, "must be a JSON object"),
            ({"inputs": []}, "input 'x' of model 'echo' is missing"), ({"inputs": [dict(x, name="y")]}, "no input 'y'"),
            ({"inputs": [dict(x, datatype="INT32")]}, "is FP32, but the request sends INT32"),
            ({"inputs": [dict(x, shape=[2])]}, "has shape [-1,-1]"), ({"inputs": [dict(x, shape=[1, 3])]}, "fewer"),
            ({"inputs": [dict(x, shape=[1, 10**12])]}, "fewer"), ({"inputs": [dict(x, shape=[2**62, 2**62])]}, ""),
            ({"inputs": [dict(x, data=[1, "2"])]}, "element 1"), ({"inputs": [x, x]}, "twice"),
            ({"inputs": [dict(x, shape=[9, 1], data=[0] * 9)]}, "batches of 1 to 8"),
            ({"inputs": [x], "outputs": [{"name": "y"}]}, "no output 'y'"),
            ({"inputs": [dict(x, parameters={"binary_data_size": 8})]}, "both data and binary_data_size")]:
        contains(server.infer("echo", body, 400)["error"], *parts)
    contains(server.infer("echo", {"inputs": [tensor("x", [1, 2], "FP32", shared_memory_region="r")]}, 400)["error"],
             "shared_memory_byte_size")
    contains(server.infer_binary("echo", {"inputs": [x]}, [b"tail"], 400)[0]["error"], "4 bytes at the end")
    for headers, status in [({"Inference-Header-Content-Length": "x"}, 400), ({"Inference-Header-Content-Length": "99999"}, 400),
                            ({"Content-Encoding": "gzip"}, 400), ({"Content-Encoding": "br"}, 415)]:
        got, answered, body = server.request("POST", "/v2/models/echo/infer", json.dumps({"inputs": [x]}), headers)
        assert got == status and json.loads(body)["error"], (got, body)


@test
def too_large_a_body():
    status, headers, body = server.request("POST", "/v2/models/echo/infer", b"x" * 200000)
    assert status == 413 and "larger" in json.loads(body)["error"], (status, body)


@test
def a_failing_model_answers_500_and_is_logged():
    contains(server.infer("failing", {"id": "r-1", "inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]}, 500)["error"], "injected failure of batch ")
    contains(server.wait_log("inference_failed"), "model=failing", "request_id=r-1")


@test
def a_full_queue_answers_503_and_says_when_to_come_back():
    document = json.dumps({"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]})
    results = in_threads(*[functools.partial(server.request, "POST", "/v2/models/slow/infer", document)] * 8)
    refused = [row for row in results if row[0] == 503]
    assert refused and len(refused) < 8, [row[0] for row in results]
    assert all(row[0] in (200, 503) for row in results)
    assert refused[0][1]["Retry-After"] == "1"
    contains(json.loads(refused[0][2])["error"], "Exceeds maximum queue size")


@test
def a_deadline_that_passes_answers_503():
    body = {"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]}
    join = beside(functools.partial(server.infer, "slow", body))
    wait_in_flight(server, "slow", 1)
    answer = server.infer("slow", dict(body, parameters={"timeout": 50000}), 503)
    contains(answer["error"], "Request timeout expired")
    join()


@test
def it_ends_cleanly():
    contains(server.stop(), "draining", "stopped")


tap.run()
