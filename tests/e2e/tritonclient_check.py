"""`fermata serve` driven by NVIDIA's own Python client. Not part of the two commands: it needs the PyPI packages tritonclient[http] and numpy.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install 'tritonclient[http]'
    FERMATA=build/fermata FM_SOURCE_ROOT=. /tmp/venv/bin/python tests/e2e/tritonclient_check.py
"""
import sys

import serving
import tap
from serving import ECHO, Server, echo, sleeper
from tap import contains, test

try:
    import numpy
    import tritonclient.http as client_module
    from tritonclient.utils import InferenceServerException
except ImportError as problem:
    print("1..0 # SKIP %s; see the head of this file" % problem)
    sys.exit(0)

directory = serving.temporary()
repo = serving.repository(
    directory.name, echo=ECHO, slow=sleeper("400ms"),
    types=echo("BOOL:BOOL[-1], UINT8:UINT8[-1], UINT16:UINT16[-1], UINT32:UINT32[-1], UINT64:UINT64[-1], INT8:INT8[-1], "
               "INT16:INT16[-1], INT32:INT32[-1], INT64:INT64[-1], FP16:FP16[-1], FP32:FP32[-1], FP64:FP64[-1], BYTES:BYTES[-1]"))
server = Server(repo)
client = client_module.InferenceServerClient("127.0.0.1:%d" % server.port, concurrency=8)
TYPES = {"BOOL": numpy.bool_, "UINT8": numpy.uint8, "UINT16": numpy.uint16, "UINT32": numpy.uint32, "UINT64": numpy.uint64,
         "INT8": numpy.int8, "INT16": numpy.int16, "INT32": numpy.int32, "INT64": numpy.int64, "FP16": numpy.float16,
         "FP32": numpy.float32, "FP64": numpy.float64, "BYTES": numpy.object_}


def values(name):
    if name == "BYTES":
        return numpy.array([b"one", "z\u00fcrich".encode(), b""], dtype=numpy.object_)
    return numpy.array([0, 1, 100], dtype=TYPES[name])


def wrap(name, array, datatype, binary=True):
    wrapped = client_module.InferInput(name, list(array.shape), datatype)
    wrapped.set_data_from_numpy(array, binary_data=binary)
    return wrapped


@test
def health_and_metadata():
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("echo")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "fermata"
    assert client.get_model_metadata("echo")["inputs"][0]["shape"] == [-1, -1]
    assert client.get_model_config("echo")["max_batch_size"] == 8
    assert {row["name"]: row["state"] for row in client.get_model_repository_index()} == {"echo": "READY", "slow": "READY", "types": "READY"}


@test
def every_type_with_binary_tensors():
    result = client.infer("types", [wrap(name, values(name), name) for name in TYPES], request_id="r1")
    assert result.get_response()["id"] == "r1"
    for name in TYPES:
        got = result.as_numpy("out_" + name)
        assert got.dtype == TYPES[name] and list(got) == list(values(name)), (name, got)


@test
def json_tensors_and_mixed_outputs():
    names = [name for name in TYPES if name != "FP16"]
    inputs = [wrap(name, values(name), name, binary=False) for name in names] + [wrap("FP16", values("FP16"), "FP16")]
    outputs = [client_module.InferRequestedOutput("out_" + name, binary_data=index % 2 == 0) for index, name in enumerate(names)]
    result = client.infer("types", inputs, outputs=outputs)
    for name in names:
        got = list(result.as_numpy("out_" + name))
        if name == "BYTES":
            got = [text if isinstance(text, bytes) else text.encode() for text in got]
        assert got == list(values(name)), (name, got)
    assert result.as_numpy("out_FP16") is None


@test
def batches_classes_and_priorities():
    array = numpy.array([[1, 3, 2], [9, 8, 7]], dtype=numpy.float32)
    outputs = [client_module.InferRequestedOutput("out_x", class_count=2)]
    result = client.infer("echo", [wrap("x", array, "FP32")], outputs=outputs, priority=1, timeout=5000000)
    assert [text.decode() for text in result.as_numpy("out_x").flatten()] == ["3.000000:1", "2.000000:2", "9.000000:0", "8.000000:1"]


@test
def many_at_once():
    arrays = [numpy.full((1, 1000), i, dtype=numpy.float32) for i in range(100)]
    waiting = [client.async_infer("echo", [wrap("x", array, "FP32")]) for array in arrays]
    for array, pending in zip(arrays, waiting):
        assert (pending.get_result().as_numpy("out_x") == array).all()


@test
def errors_arrive_as_the_client_expects():
    array = numpy.zeros((1, 4), dtype=numpy.float32)
    for call, parts in [(lambda: client.get_model_metadata("nothing"), ["Request for unknown model", "is not found"]),
                        (lambda: client.infer("nothing", [wrap("x", array, "FP32")]), ["is not found"]),
                        (lambda: client.infer("echo", [wrap("y", array, "FP32")]), ["no input 'y'"]),
                        (lambda: client.infer("echo", [wrap("x", array.astype(numpy.int32), "INT32")]), ["FP32", "INT32"]),
                        (lambda: client.infer("echo", [wrap("x", array, "FP32")], sequence_id=5), ["not supported"])]:
        try:
            call()
        except InferenceServerException as error:
            contains(error.message(), *parts)
        else:
            raise AssertionError("no error: %s" % parts)


@test
def it_ends_cleanly():
    client.close()
    contains(server.stop(), "stopped")


tap.run()
