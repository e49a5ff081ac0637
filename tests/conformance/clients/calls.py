"""Every call of tritonclient's four clients against `fermata serve`.

    calls.py RESULTS.json        FERMATA and FM_SOURCE_ROOT name the program and the sources; tools/conformance runs it

Owns: what is called and what counts as right. The repository control has a server of its own, in mode explicit; so has security.
"""
import base64
import json
import os
import queue
import ssl
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, HERE + "/../../e2e"]

import numpy
from importlib.metadata import version
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.utils import InferenceServerException

import certificates
import models
import results
import serving
from facade import KINDS, Client, loop, refused

try:
    from ml_dtypes import bfloat16 as BFLOAT16  # newer clients want this type,
except ImportError:
    BFLOAT16 = numpy.float32  # older ones make BF16 of this one
GRPC, HTTP = ["grpc", "grpc.aio"], ["http", "http.aio"]
NUMPY = {"BOOL": numpy.bool_, "UINT8": numpy.uint8, "UINT16": numpy.uint16, "UINT32": numpy.uint32, "UINT64": numpy.uint64,
         "INT8": numpy.int8, "INT16": numpy.int16, "INT32": numpy.int32, "INT64": numpy.int64, "FP16": numpy.float16,
         "FP32": numpy.float32, "FP64": numpy.float64, "BF16": BFLOAT16, "BYTES": numpy.object_}
cases = []
NUMBERS = numpy.arange(16, dtype=numpy.int32).reshape(1, 16)
ONES = numpy.ones((1, 16), dtype=numpy.int32)


def case(area, name, kinds=KINDS):
    def register(function):
        cases.append((area, name, kinds, function))
        return function
    return register


def simple_inputs(c, rows=1, binary=True):
    return [c.input("INPUT0", numpy.repeat(NUMBERS, rows, 0), "INT32", binary=binary),
            c.input("INPUT1", numpy.repeat(ONES, rows, 0), "INT32", binary=binary)]


def check_simple(result, rows=1):
    assert (result.as_numpy("OUTPUT0") == numpy.repeat(NUMBERS + 1, rows, 0)).all()
    assert (result.as_numpy("OUTPUT1") == numpy.repeat(NUMBERS - 1, rows, 0)).all()


# --- health and documents


@case("health", "is_server_live, is_server_ready")
def server_health(c):
    assert c.is_server_live() is True and c.is_server_ready() is True


@case("health", "is_model_ready, with and without version, unknown model")
def model_health(c):
    assert c.is_model_ready("simple") is True and c.is_model_ready("simple", "1") is True
    assert c.is_model_ready("nothing") is False and c.is_model_ready("simple", "9") is False


@case("documents", "get_server_metadata")
def server_metadata(c):
    answer = c.document("get_server_metadata")
    assert answer["name"] == "fermata" and "binary_tensor_data" in answer["extensions"] and answer["version"]


@case("documents", "get_model_metadata, with and without version")
def model_metadata(c):
    for version in ("", "1"):
        answer = c.document("get_model_metadata", "simple", version)
        assert answer["name"] == "simple" and answer["platform"] == "onnxruntime_onnx" and answer["versions"] == [1]
        assert answer["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}, answer
    refused(lambda: c.get_model_metadata("nothing"), "Request for unknown model", "is not found")


@case("documents", "get_model_config")
def model_config(c):
    answer = c.document("get_model_config", "simple")
    answer = answer.get("config", answer)
    assert answer["max_batch_size"] == 8 and answer["input"][1]["dims"] == [16] and "dynamic_batching" in answer, answer
    refused(lambda: c.get_model_config("nothing"), "is not found")


@case("documents", "get_model_metadata, get_model_config of a pipeline")
def pipeline_config(c):
    answer = c.document("get_model_config", "twice")
    answer = answer.get("config", answer)
    assert answer["platform"] == "fermata_pipeline" and answer["input"][0]["dims"] == [16], answer
    assert c.document("get_model_metadata", "twice")["inputs"][1]["shape"] == [16]


@case("documents", "get_inference_statistics, of one model and of all")
def statistics(c):
    c.infer("simple", simple_inputs(c, 3))
    rows = c.document("get_inference_statistics", "simple")["model_stats"]
    c.infer("simple", simple_inputs(c, 3))
    again = c.document("get_inference_statistics", "simple", "1")["model_stats"]
    assert again[0]["inference_count"] - rows[0]["inference_count"] == 3
    assert 1 <= again[0]["execution_count"] - rows[0]["execution_count"] <= 3  # accelerators may share a request's rows
    assert again[0]["inference_stats"]["success"]["count"] == rows[0]["inference_stats"]["success"]["count"] + 1
    assert again[0]["inference_stats"]["compute_infer"]["ns"] > rows[0]["inference_stats"]["compute_infer"]["ns"]
    assert again[0]["inference_stats"]["compute_infer"]["count"] == rows[0]["inference_stats"]["compute_infer"]["count"] + 1
    assert sum(row["compute_infer"]["count"] for row in again[0]["batch_stats"]) == again[0]["execution_count"]
    assert {"simple", "slow", "types"} <= {row["name"] for row in c.document("get_inference_statistics")["model_stats"]}
    refused(lambda: c.get_inference_statistics("nothing"), "is not found")


@case("documents", "get_trace_settings, update_trace_settings")
def trace(c):
    answer = c.document("get_trace_settings")
    assert "trace_level" in answer.get("settings", answer), answer
    try:
        c.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "500"})
    except InferenceServerException as error:
        return "refused: %s" % error.message()


@case("documents", "get_log_settings, update_log_settings")
def log(c):
    answer = c.document("get_log_settings")
    assert "log_info" in answer.get("settings", answer), answer
    try:
        c.update_log_settings({"log_verbose_level": 1, "log_info": True})
        c.update_log_settings({"log_verbose_level": 0})
    except InferenceServerException as error:
        return "refused: %s" % error.message()


# --- inference


@case("infer", "infer")
def infer(c):
    check_simple(c.infer("simple", simple_inputs(c)))
    check_simple(c.infer("simple", simple_inputs(c), model_version="1"))


@case("infer", "JSON inputs and outputs", HTTP)
def infer_json(c):
    outputs = [c.output("OUTPUT0", binary=False), c.output("OUTPUT1", binary=True)]
    check_simple(c.infer("simple", simple_inputs(c, binary=False), outputs=outputs))


@case("infer", "batches from 1 to max_batch_size, and one too large")
def batches(c):
    for rows in range(1, 9):
        check_simple(c.infer("simple", simple_inputs(c, rows)), rows)
    refused(lambda: c.infer("simple", simple_inputs(c, 9)), "8")


@case("infer", "requested outputs: some, in an order of their own")
def requested(c):
    result = c.infer("simple", simple_inputs(c), outputs=[c.output("OUTPUT1")])
    assert (result.as_numpy("OUTPUT1") == NUMBERS - 1).all() and result.as_numpy("OUTPUT0") is None
    check_simple(c.infer("simple", simple_inputs(c), outputs=[c.output("OUTPUT1"), c.output("OUTPUT0")]))
    refused(lambda: c.infer("simple", simple_inputs(c), outputs=[c.output("OUTPUT2")]), "OUTPUT2")


def values(datatype):
    if datatype == "BYTES":
        return numpy.array([b"one", "z\u00fcrich".encode(), b"", b"\x00\xff"], dtype=numpy.object_)
    return numpy.array([0, 1, 100], dtype=NUMPY[datatype])


@case("infer", "all datatypes, with FP16, BF16 and BYTES")
def datatypes(c):
    result = c.infer("types", [c.input(name, values(name), name) for name in models.DATATYPES])
    for name in models.DATATYPES:
        got = result.as_numpy("out_" + name)
        assert list(got) == list(values(name)) and (got.dtype == NUMPY[name] or name == "BF16"), (name, got)


@case("infer", "empty tensors")
def empty(c):
    result = c.infer("types", [c.input(name, values(name)[:0], name) for name in models.DATATYPES])
    for name in models.DATATYPES:
        assert c.output_shape(result, "out_" + name) == [0], name


@case("infer", "classification (class_count), with labels")
def classification(c):
    array = numpy.array([[1, 3, 2, 0], [9, 8, 7, 6]], dtype=numpy.float32)
    result = c.infer("scores", [c.input("x", array, "FP32")], outputs=[c.output("out_x", class_count=2)])
    got = [text.decode() for text in result.as_numpy("out_x").flatten()]
    assert got == ["3.000000:1:east", "2.000000:2:south", "9.000000:0:north", "8.000000:1:east"], got


@case("infer", "request_id, priority, timeout that suffices, parameters of one's own")
def parameters(c):
    result = c.infer("simple", simple_inputs(c), request_id="my id", priority=1, timeout=5000000, parameters={"mine": "text", "count": 3, "on": True})
    assert c.response(result)["id"] == "my id"
    check_simple(result)


@case("infer", "timeout that does not suffice")
def timeout(c):
    row = [c.input("x", numpy.zeros((1, 1), dtype=numpy.float32), "FP32")]
    begin = time.monotonic()
    error = refused(lambda: c.infer("slow", slow_inputs(c), timeout=20000), "")
    assert time.monotonic() - begin < 0.25, "answered after %.3f s" % (time.monotonic() - begin)
    return "%s %s" % (error.status() or "", error.message())


def slow_inputs(c):
    shape = slow_inputs.metadata["shape"]
    return [c.input(slow_inputs.metadata["name"], numpy.zeros([1 if size < 0 else size for size in shape], dtype=NUMPY[slow_inputs.metadata["datatype"]]),
                    slow_inputs.metadata["datatype"])]


@case("infer", "client_timeout: the call's deadline reaches the server", GRPC)
def client_timeout(c):
    begin = time.monotonic()
    error = refused(lambda: c.infer("slow", slow_inputs(c), client_timeout=0.1), "")
    assert time.monotonic() - begin < 0.29
    assert "DEADLINE_EXCEEDED" in str(error.status()) or "Deadline" in str(error) or "UNAVAILABLE" in str(error.status()), error
    return "%s %s" % (error.status() or "", error.message())


@case("infer", "mistakes: unknown model, input, type, shape")
def mistakes(c):
    refused(lambda: c.infer("nothing", simple_inputs(c)), "Request for unknown model", "is not found")
    refused(lambda: c.infer("simple", simple_inputs(c), model_version="7"), "is not found")
    refused(lambda: c.infer("simple", simple_inputs(c)[:1]), "INPUT1")
    refused(lambda: c.infer("simple", [*simple_inputs(c), c.input("INPUT2", ONES, "INT32")]), "INPUT2")
    refused(lambda: c.infer("simple", [simple_inputs(c)[0], c.input("INPUT1", ONES.astype(numpy.float32), "FP32")]), "FP32", "INT32")
    refused(lambda: c.infer("simple", [simple_inputs(c)[0], c.input("INPUT1", ONES[:, :8], "INT32")]), "INPUT1")


@case("infer", "sequence_id: refused as unsupported")
def sequence(c):
    return refused(lambda: c.infer("simple", simple_inputs(c), sequence_id=7, sequence_start=True), "not supported").message()


@case("infer", "compression: gzip and deflate, of requests and answers")
def compression(c):
    for name in ("gzip", "deflate"):
        options = {"compression_algorithm": name} if not c.is_http else {"request_compression_algorithm": name, "response_compression_algorithm": name}
        check_simple(c.infer("simple", simple_inputs(c, 8), **options), 8)


@case("infer", "headers of one's own")
def headers(c):
    check_simple(c.infer("simple", simple_inputs(c), headers={"x-mine": "1"}))


@case("infer", "query_params", HTTP)
def query(c):
    check_simple(c.infer("simple", simple_inputs(c), query_params={"a": "1", "b": 2}))


@case("infer", "a tensor of 16 MB")
def large(c):
    array = numpy.arange(4 << 20, dtype=numpy.float32)
    inputs = [c.input(name, array if name == "FP32" else values(name), name) for name in models.DATATYPES]
    assert (c.infer("types", inputs).as_numpy("out_FP32") == array).all()


@case("infer", "a pipeline")
def pipeline(c):
    result = c.infer("twice", [c.input("A", NUMBERS[0], "INT32"), c.input("B", ONES[0], "INT32")])
    assert (result.as_numpy("C") == 2 * NUMBERS[0]).all()


@case("infer", "async_infer, 200 at once", ["http", "grpc"])
def async_infer(c):
    arrays = [numpy.full((1, 16), i, dtype=numpy.int32) for i in range(200)]
    inputs = [[c.input("INPUT0", array, "INT32"), c.input("INPUT1", ONES, "INT32")] for array in arrays]
    if c.is_http:
        waiting = [c.async_infer("simple", one) for one in inputs]
        got = [one.get_result() for one in waiting]
    else:
        done = queue.Queue()
        for i, one in enumerate(inputs):
            c.async_infer("simple", one, lambda result, error, i=i: done.put((i, result, error)))
        rows = sorted((done.get(timeout=30) for _ in inputs), key=lambda row: row[0])
        assert not [row for row in rows if row[2]], rows
        got = [row[1] for row in rows]
    for array, result in zip(arrays, got):
        assert (result.as_numpy("OUTPUT0") == array + 1).all()


@case("infer", "200 at once", ["http.aio", "grpc.aio"])
def gathered(c):
    import asyncio
    arrays = [numpy.full((1, 16), i, dtype=numpy.int32) for i in range(200)]

    async def all_of_them():
        return await asyncio.gather(*[c.client.infer("simple", [c.input("INPUT0", array, "INT32"), c.input("INPUT1", ONES, "INT32")]) for array in arrays])
    for array, result in zip(arrays, c.wait(all_of_them())):
        assert (result.as_numpy("OUTPUT0") == array + 1).all()


@case("infer", "cancel of async_infer", ["grpc"])
def cancel(c):
    done = queue.Queue()
    handle = c.async_infer("slow", slow_inputs(c), lambda result, error: done.put(error))
    handle.cancel()
    error = done.get(timeout=10)
    assert "CANCEL" in str(error).upper(), error


@case("infer", "cancel of a task", ["grpc.aio", "http.aio"])
def cancel_task(c):
    import asyncio

    async def one():
        task = asyncio.ensure_future(c.client.infer("slow", slow_inputs(c)))
        await asyncio.sleep(0.05)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, InferenceServerException):
            return
        raise AssertionError("it was answered")
    c.wait(one())


@case("infer", "InferResult.from_response_body, generate_request_body", ["http"])
def bodies(c):
    body, length = c.module.InferenceServerClient.generate_request_body(simple_inputs(c))
    headers_sent = {"Content-Type": "application/octet-stream"}
    if length is not None:
        headers_sent["Inference-Header-Content-Length"] = str(length)
    status, answer_headers, answer = c.server.request("POST", "/v2/models/simple/infer", body, headers_sent)
    assert status == 200, answer
    length = answer_headers.get("Inference-Header-Content-Length")
    check_simple(c.module.InferenceServerClient.parse_response_body(answer, header_length=int(length) if length else None))


@case("infer", "reuse of InferInput and InferRequestedOutput with and without shared memory")
def reuse(c):
    shared(c, reuse_objects=True)


# --- streams


@case("stream", "start_stream, async_stream_infer: 100 requests in order, stop_stream", ["grpc"])
def stream(c):
    done = queue.Queue()
    c.start_stream(lambda result, error: done.put((result, error)))
    for i in range(100):
        c.async_stream_infer("simple", [c.input("INPUT0", numpy.full((1, 16), i, dtype=numpy.int32), "INT32"), c.input("INPUT1", ONES, "INT32")],
                             request_id=str(i), enable_empty_final_response=i % 2 == 0)
    for i in range(100):
        result, error = done.get(timeout=30)
        assert error is None, error
        assert result.get_response().id == str(i) and (result.as_numpy("OUTPUT0") == i + 1).all()
    c.stop_stream()


@case("stream", "an error inside a stream, which lives on; sequence parameters refused", ["grpc"])
def stream_error(c):
    done = queue.Queue()
    c.start_stream(lambda result, error: done.put((result, error)))
    c.async_stream_infer("nothing", simple_inputs(c), request_id="a")
    c.async_stream_infer("simple", simple_inputs(c), request_id="b", sequence_id=5, sequence_start=True)
    c.async_stream_infer("simple", simple_inputs(c)[:1], request_id="c")
    c.async_stream_infer("simple", simple_inputs(c), request_id="d")
    for part in ("is not found", "not supported", "INPUT1"):
        result, error = done.get(timeout=30)
        assert error is not None and part in str(error), (part, error, result)
        assert result is None or result.get_response().id, "the id is not in the answer"
    result, error = done.get(timeout=30)
    assert error is None and result.get_response().id == "d", error
    c.stop_stream()


@case("stream", "stop_stream(cancel_requests=True)", ["grpc"])
def stream_cancel(c):
    done = queue.Queue()
    c.start_stream(lambda result, error: done.put((result, error)))
    for _ in range(3):
        c.async_stream_infer("slow", slow_inputs(c))
    begin = time.monotonic()
    c.stop_stream(cancel_requests=True)
    assert time.monotonic() - begin < 1


@case("stream", "stream_timeout: the stream's deadline", ["grpc"])
def stream_timeout(c):
    done = queue.Queue()
    c.start_stream(lambda result, error: done.put((result, error)), stream_timeout=0.1)
    c.async_stream_infer("slow", slow_inputs(c))
    result, error = done.get(timeout=5)
    assert error is not None, result
    c.stop_stream()
    return error.message()


@case("stream", "stream_infer: 100 requests in order, an error among them", ["grpc.aio"])
def stream_aio(c):
    async def requests():
        for i in range(100):
            yield {"model_name": "nothing" if i == 50 else "simple", "request_id": str(i),
                   "inputs": [c.input("INPUT0", numpy.full((1, 16), i, dtype=numpy.int32), "INT32"), c.input("INPUT1", ONES, "INT32")]}

    async def all_of_them():
        i = 0
        async for result, error in c.client.stream_infer(requests()):
            assert (error is not None) == (i == 50), (i, error)
            assert error is not None or (result.get_response().id == str(i) and (result.as_numpy("OUTPUT0") == i + 1).all())
            i += 1
        assert i == 100, i
    c.wait(all_of_them())


# --- shared memory


def shared(c, reuse_objects=False):
    size = 64
    name = "fm_conformance_%d" % os.getpid()
    handles = {part: shared_memory.create_shared_memory_region(part, "/%s_%s" % (name, part), 2 * size) for part in ("in", "out")}
    try:
        c.unregister_system_shared_memory()
        c.unregister_cuda_shared_memory()
        shared_memory.set_shared_memory_region(handles["in"], [NUMBERS, ONES])
        for part in handles:
            c.register_system_shared_memory(part, "/%s_%s" % (name, part), 2 * size)
        status = c.document("get_system_shared_memory_status")
        rows = {row["name"]: row for row in status} if c.is_http else status["regions"]
        assert rows["in"]["byte_size"] == 2 * size and rows["out"]["key"] == "/%s_out" % name, status
        assert c.document("get_system_shared_memory_status", "in")
        inputs = [c.module.InferInput("INPUT%d" % i, [1, 16], "INT32") for i in range(2)]
        outputs = [c.output("OUTPUT%d" % i) for i in range(2)]
        for turn in range(3 if reuse_objects else 1):
            if turn == 1:
                for one, array in zip(inputs, (NUMBERS, ONES)):
                    one.set_data_from_numpy(array)
                for one in outputs:
                    one.unset_shared_memory()
                check_simple(c.infer("simple", inputs, outputs=outputs))
                continue
            for i, (one, two) in enumerate(zip(inputs, outputs)):
                one.set_shared_memory("in", size, offset=i * size)
                two.set_shared_memory("out", size, offset=i * size)
            result = c.infer("simple", inputs, outputs=outputs)
            for i, expected in enumerate((NUMBERS + 1, NUMBERS - 1)):
                assert c.output_shape(result, "OUTPUT%d" % i) == [1, 16]
                got = shared_memory.get_contents_as_numpy(handles["out"], numpy.int32, [1, 16], offset=i * size)
                assert (got == expected).all(), got
        inputs[1].set_shared_memory("in", size, offset=size + 4)
        if not reuse_objects:
            refused(lambda: c.infer("simple", inputs, outputs=outputs), "in")
        c.unregister_system_shared_memory("in")
        refused(lambda: c.infer("simple", inputs, outputs=outputs), "in")
        c.unregister_system_shared_memory()
        status = c.document("get_system_shared_memory_status")
        assert not (status if c.is_http else status.get("regions")), status
    finally:
        for handle in handles.values():
            shared_memory.destroy_shared_memory_region(handle)


@case("shared memory", "system: register, status, infer in and out, unregister one and all, out of bounds refused")
def shared_system(c):
    shared(c)


@case("shared memory", "system: BYTES in and out")
def shared_strings(c):
    array = numpy.array([[str(i).encode() for i in range(16)]], dtype=numpy.object_)
    from tritonclient.utils import serialize_byte_tensor
    packed = serialize_byte_tensor(array)
    size = len(packed.item()) if packed.size == 1 else packed.size
    name = "/fm_conformance_text_%d" % os.getpid()
    handle = shared_memory.create_shared_memory_region("text", name, 4096)
    try:
        shared_memory.set_shared_memory_region(handle, [packed])
        c.register_system_shared_memory("text", name, 4096)
        one, two = c.module.InferInput("INPUT0", [1, 16], "BYTES"), c.output("OUTPUT0")
        one.set_shared_memory("text", size)
        two.set_shared_memory("text", 2048, offset=2048)
        c.infer("simple_identity", [one], outputs=[two])
        got = shared_memory.get_contents_as_numpy(handle, numpy.object_, [1, 16], offset=2048)
        assert (got == array).all(), got
        c.unregister_system_shared_memory("text")
    finally:
        shared_memory.destroy_shared_memory_region(handle)


@case("shared memory", "system: a region that does not exist, a name twice")
def shared_mistakes(c):
    refused(lambda: c.register_system_shared_memory("x", "/fm_conformance_no_such_thing", 64), "fm_conformance_no_such_thing")
    refused(lambda: c.get_system_shared_memory_status("x"), "x")


@case("shared memory", "CUDA: status, unregister; register refused as unsupported")
def shared_cuda(c):
    status = c.document("get_cuda_shared_memory_status")
    assert not (status if c.is_http else status.get("regions")), status
    c.unregister_cuda_shared_memory()
    c.unregister_cuda_shared_memory("x")
    return refused(lambda: c.register_cuda_shared_memory("x", base64.b64encode(b"handle"), 0, 64), "CUDA").message()


# --- the examples' other models


@case("examples", "simple_string: sums of numbers written as text")
def strings(c):
    def text(array):
        return numpy.array([[str(one).encode() for one in array[0]]], dtype=numpy.object_)
    result = c.infer("simple_string", [c.input("INPUT0", text(NUMBERS), "BYTES"), c.input("INPUT1", text(ONES), "BYTES")])
    assert [int(one) for one in result.as_numpy("OUTPUT0")[0]] == list((NUMBERS + 1)[0])
    assert [int(one) for one in result.as_numpy("OUTPUT1")[0]] == list((NUMBERS - 1)[0])


@case("examples", "simple_identity: texts with NUL and beyond ASCII")
def texts(c):
    array = numpy.array([["a\0b".encode(), "\u6771\u4eac".encode()]], dtype=numpy.object_)
    assert (c.infer("simple_identity", [c.input("INPUT0", array, "BYTES")]).as_numpy("OUTPUT0") == array).all()


@case("examples", "simple_int8")
def int8(c):
    result = c.infer("simple_int8", [c.input("INPUT0", NUMBERS.astype(numpy.int8), "INT8"), c.input("INPUT1", ONES.astype(numpy.int8), "INT8")])
    assert (result.as_numpy("OUTPUT0") == NUMBERS + 1).all()


@case("examples", "typed contents instead of raw bytes (explicit content)", ["grpc"])
def contents(c):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc
    with grpc.insecure_channel(c.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for model, datatype, field, one, two in [("simple", "INT32", "int_contents", range(16), [1] * 16), ("simple_int8", "INT8", "int_contents", range(16), [1] * 16),
                                                 ("simple_string", "BYTES", "bytes_contents", [b"%d" % i for i in range(16)], [b"1"] * 16)]:
            request = service_pb2.ModelInferRequest(model_name=model)
            for name, data in (("INPUT0", one), ("INPUT1", two)):
                tensor = service_pb2.ModelInferRequest().InferInputTensor(name=name, datatype=datatype, shape=[1, 16])
                getattr(tensor.contents, field).extend(data)
                request.inputs.append(tensor)
            answer = stub.ModelInfer(request)
            assert len(answer.outputs) == 2 and len(answer.raw_output_contents) == 2, answer


@case("examples", "keep-alive options, arguments for the channel", ["grpc", "grpc.aio"])
def keepalive(c):
    options = c.module.KeepAliveOptions(keepalive_time_ms=200, keepalive_timeout_ms=1000, keepalive_permit_without_calls=True, http2_max_pings_without_data=0)
    other = Client(c.kind, c.server, keepalive_options=options)
    check_simple(other.infer("simple", simple_inputs(other)))
    (loop.run_until_complete(__import__("asyncio").sleep(1)) if c.is_aio else time.sleep(1))
    check_simple(other.infer("simple", simple_inputs(other)))
    other.close()
    other = Client(c.kind, c.server, channel_args=[("grpc.primary_user_agent", "conformance"), ("grpc.max_receive_message_length", 1 << 20)])
    check_simple(other.infer("simple", simple_inputs(other)))
    other.close()


# --- repository control, on a server of its own


@case("repository", "get_model_repository_index")
def index(c):
    rows = c.document("get_model_repository_index")
    rows = rows if c.is_http else rows["models"]
    names = {row["name"]: row.get("state") for row in rows}
    assert set(names) >= {"simple", "simple_identity"}, rows


@case("repository", "load_model, unload_model, unknown model")
def load(c):
    c.load_model("simple")
    assert c.is_model_ready("simple")
    check_simple(c.infer("simple", simple_inputs(c)))
    c.unload_model("simple")
    gone(c, "simple")
    refused(lambda: c.load_model("wrong_model_name"), "failed to load")


def gone(c, name):
    assert c.is_model_ready(name) is False


@case("repository", "load_model with a configuration of one's own, and with a broken one")
def load_config(c):
    c.load_model("simple")
    refused(lambda: c.load_model("simple", config='"parameters": {"config": {{"max_batch_size": "16"}}}'), "failed to load")
    c.load_model("simple", config='{"max_batch_size":"16"}')
    answer = c.document("get_model_config", "simple")
    assert answer.get("config", answer)["max_batch_size"] == 16
    check_simple(c.infer("simple", simple_inputs(c, 16)), 16)
    c.unload_model("simple")


@case("repository", "load_model with files")
def load_files(c):
    text = json.dumps({"name": "mine", "platform": "onnxruntime_onnx", "max_batch_size": 4})
    c.load_model("mine", config=text, files={"file:1/model.onnx": models.add_sub(models.INT32)})
    check_simple(c.infer("mine", simple_inputs(c, 4)), 4)
    c.unload_model("mine", unload_dependents=True)
    gone(c, "mine")


# --- security, on a server with TLS and tokens


TOKEN = "conformance-token-0123456789"


def secured(c, client=None, **options):
    """A client that trusts the authority of the server's certificate; `client`: shows a certificate of its own."""
    path = lambda name: os.path.join(c.server.folder, name)
    key, chain = (path(client + ".key"), path(client + ".pem")) if client else (None, None)
    if c.kind == "http":
        own = {"keyfile": key, "certfile": chain} if client else {}
        return Client(c.kind, c.server, ssl=True, ssl_options={"ca_certs": path("authority.pem"), **own}, **options)
    if c.kind == "http.aio":
        context = ssl.create_default_context(cafile=path("authority.pem"))
        if client:
            context.load_cert_chain(chain, key)
        return Client(c.kind, c.server, ssl=True, ssl_context=context, **options)
    return Client(c.kind, c.server, ssl=True, root_certificates=path("authority.pem"), private_key=key, certificate_chain=chain, **options)


def reaches(c):
    """Whether the server says that it is alive. A connection that is refused has no words that all clients share."""
    try:
        return c.is_server_live()
    except Exception:
        return False


@case("security", "ssl: an authority of one's own, a certificate of the client's")
def tls(c):
    one = secured(c, "client")
    check_simple(one.infer("simple", simple_inputs(one), headers={"Authorization": "Bearer " + TOKEN} if one.is_http else {"authorization": "Bearer " + TOKEN}))
    one.close()


@case("security", "ssl: without a certificate, with a stranger's, without ssl")
def tls_refused(c):
    for client in (None, "stranger"):
        one = secured(c, client)
        assert not reaches(one)
        one.close()
    assert not reaches(c)


@case("security", "tokens in headers: none, a wrong one, one that may not load")
def tokens(c):
    one = secured(c, "client")
    name = "Authorization" if one.is_http else "authorization"
    refused(lambda: one.infer("simple", simple_inputs(one)), "token")
    refused(lambda: one.infer("simple", simple_inputs(one), headers={name: "Bearer " + TOKEN[::-1]}), "token")
    refused(lambda: one.unload_model("simple", headers={name: "Bearer " + TOKEN}), "control")
    one.close()


@case("security", "register_plugin: a token for every call")
def plugin(c):
    from tritonclient._plugin import InferenceServerClientPlugin

    class Bearer(InferenceServerClientPlugin):
        def __call__(self, request):
            request.headers["authorization"] = "Bearer " + TOKEN

    one = secured(c, "client")
    one.client.register_plugin(Bearer())
    check_simple(one.infer("simple", simple_inputs(one)))
    assert one.is_model_ready("simple")
    one.client.unregister_plugin()
    refused(lambda: one.infer("simple", simple_inputs(one)), "token")
    one.close()


def secure_server(path, folder):
    certificates.usual(folder)
    tokens = os.path.join(folder, "tokens")
    with open(os.path.join(folder, "tokens"), "w") as file:
        file.write("conformance %s infer read\n" % TOKEN)
    os.chmod(tokens, 0o600)
    name = lambda one: os.path.join(folder, one)
    server = serving.Server(path, "--tls-cert", name("server.pem"), "--tls-key", name("server.key"), "--tls-client-ca", name("authority.pem"),
                            "--token-file", tokens)
    server.folder = folder
    return server


def run(results_path):
    kinds = sys.argv[2:] or KINDS
    directory, folder = serving.temporary(), serving.temporary()
    paths = models.repository(directory.name)
    rows = results.Results(version("tritonclient"))
    # Accelerators enough, because it is not overload that is tried here: `slow` holds one for long.
    with serving.Server(*paths, "--accelerators", 4, "--allow-client-shm") as server, serving.Server(paths[0], "--model-control-mode", "explicit") as explicit, \
            secure_server(paths[0], folder.name) as secure:
        slow_inputs.metadata = server.get("/v2/models/slow")["inputs"][0]
        for kind in kinds:
            clients = {None: Client(kind, server), "repository": Client(kind, explicit), "security": Client(kind, secure)}
            for area, name, of, function in cases:
                if kind in of:
                    rows.run(area, name, kind, function, clients.get(area, clients[None]))
            for one in clients.values():
                one.close()
    rows.save(results_path)
    return rows.failures


if __name__ == "__main__":
    sys.exit(1 if run(sys.argv[1]) else 0)
