"""`fermata serve` over gRPC, through Debian's gRPC client with messages made from our proto files: every method, status codes and their
words, streams, deadlines, cancels, health, reflection, drain.

Runs under /usr/bin/python3 where this interpreter lacks grpcio or protobuf; skips without them.
"""
import os
import queue
import shutil
import struct
import subprocess
import sys
import time

import with_grpc

with_grpc.skip_without("grpc", "google.protobuf")
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import serving
from serving import ECHO, Server, echo, floats, sleeper, wait_in_flight
from tap import ROOT, Skip, contains, run, test

Code = grpc.StatusCode
directory = serving.temporary()
FILES = ["inference.proto", "model_config.proto", "health.proto", "reflection_v1.proto", "reflection_v1alpha.proto"]


def load_messages():
    path = directory.name + "/messages"
    subprocess.run(["protoc", "--proto_path", ROOT + "/proto", "--include_imports", "--descriptor_set_out", path, *FILES], check=True)
    with open(path, "rb") as file:
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for one in files.file:
        pool.Add(one)
    return files, pool


try:
    files, pool = load_messages()
except FileNotFoundError:
    print("1..0 # SKIP there is no protoc (Debian: protobuf-compiler)")
    sys.exit(0)


def message_class(descriptor):
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def message(name, package="inference", /, **fields):
    return message_class(pool.FindMessageTypeByName(package + "." + name))(**fields)


def method(channel, name, service="inference.GRPCInferenceService"):
    """A method by its descriptor, with the right classes and the right kind."""
    descriptor = pool.FindServiceByName(service).FindMethodByName(name)
    proto = descriptor_pb2.MethodDescriptorProto()
    descriptor.CopyToProto(proto)
    kind = "%s_%s" % ("stream" if proto.client_streaming else "unary", "stream" if proto.server_streaming else "unary")
    answer = message_class(descriptor.output_type)
    return getattr(channel, kind)("/%s/%s" % (service, name), request_serializer=lambda one: one.SerializeToString(),
                                  response_deserializer=answer.FromString)


class Connected:
    """A server with a channel to it."""

    def __init__(self, *arguments, options=()):
        self.server = Server(*arguments, "--allow-client-shm")
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % self.server.grpc_port,
                                             [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), *options])

    def call(self, name, service="inference.GRPCInferenceService"):
        return method(self.channel, name, service)

    def ask(self, method_name, /, **fields):
        return self.call(method_name)(message(method_name + "Request", **fields), timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.channel.close()
        return self.server.__exit__(kind, value, trace)


TYPES = "BOOL:BOOL[-1], UINT8:UINT8[-1], INT16:INT16[-1], UINT32:UINT32[-1], INT64:INT64[-1], FP16:FP16[-1], FP32:FP32[-1], FP64:FP64[-1], BF16:BF16[-1], BYTES:BYTES[-1]"
repo = serving.repository(directory.name + "/models", echo=ECHO, slow=sleeper("300ms", batch=1), types=echo(TYPES), one=sleeper("300ms", batch=1))
PLAIN = ["--accelerators", "4"]
main = Connected(repo, *PLAIN, "--max-body", "1MiB", "--id", "triton")


def request(model="echo", values=(1.0, 2.0), shape=None, name="x", datatype="FP32", raw=True, **fields):
    result = message("ModelInferRequest", model_name=model, **fields)
    tensor = result.inputs.add(name=name, datatype=datatype, shape=shape or [1, len(values)])
    if raw:
        result.raw_input_contents.append(floats(*values))
    else:
        tensor.contents.fp32_contents.extend(values)
    return result


def slow(model="slow"):
    tensor = main.server.get("/v2/models/" + model)["inputs"][0]
    result = message("ModelInferRequest", model_name=model)
    shape = [1 if size < 0 else size for size in tensor["shape"]]
    result.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=shape)
    size = {"FP32": 4, "INT32": 4, "INT64": 8, "UINT8": 1}[tensor["datatype"]]
    for one in shape:
        size *= one
    result.raw_input_contents.append(bytes(size))
    return result


def fails(code, function, *parts):
    try:
        function()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        contains(error.details(), *parts)
        return error
    raise AssertionError("the call succeeded, expected %s" % code)


def infer(one, timeout=30, **options):
    return main.call("ModelInfer")(one, timeout=timeout, **options)


@test
def server_and_models_say_what_they_are():
    assert main.ask("ServerLive").live and main.ask("ServerReady").ready
    server = main.ask("ServerMetadata")
    assert server.name == "triton" and "system_shared_memory" in server.extensions, server
    assert main.ask("ModelReady", name="echo").ready and main.ask("ModelReady", name="echo", version="1").ready
    metadata = main.ask("ModelMetadata", name="echo")
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [("x", "FP32", [-1, -1])], metadata
    assert list(metadata.versions) == ["1"], metadata
    config = main.ask("ModelConfig", name="echo").config
    assert config.name == "echo" and config.max_batch_size == 8 and config.input[0].data_type == 11, config
    assert [row.name for row in main.ask("RepositoryIndex").models] == ["echo", "one", "slow", "types"]


@test
def unknown_names_and_methods():
    assert not main.ask("ModelReady", name="nothing").ready and not main.ask("ModelReady", name="echo", version="9").ready
    for name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        if name != "ModelReady":
            fails(Code.NOT_FOUND, lambda: main.ask(name, name="nothing"), "Request for unknown model", "'nothing'", "is not found")
            fails(Code.NOT_FOUND, lambda: main.ask(name, name="echo", version="9"), "is not found")
        fails(Code.INVALID_ARGUMENT, lambda: main.ask(name, name="echo", version="x"), "failed to get model version from specified version string 'x'")
    fails(Code.NOT_FOUND, lambda: infer(request("nothing")), "Request for unknown model", "is not found")
    fails(Code.NOT_FOUND, lambda: infer(request(model_version="9")), "is not found")
    for path in ("/inference.GRPCInferenceService/Nothing", "/x.Y/Z", "/"):
        fails(Code.UNIMPLEMENTED, lambda: main.channel.unary_unary(path)(b"", timeout=30), "no method")


@test
def an_inference():
    answer = infer(request(id="my id"))
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "1", "my id")
    assert answer.outputs[0].name == "out_x" and list(answer.outputs[0].shape) == [1, 2]
    assert list(answer.raw_output_contents) == [floats(1, 2)]
    assert list(infer(request(raw=False)).raw_output_contents) == [floats(1, 2)]
    assert list(infer(request(model_version="1", values=[0.5] * 6, shape=[3, 2])).outputs[0].shape) == [3, 2]


@test
def every_kind_of_contents():
    values = {"BOOL": ("bool_contents", [True, False], "<2?"), "UINT8": ("uint_contents", [1, 255], "<2B"), "INT16": ("int_contents", [-5, 7], "<2h"),
              "UINT32": ("uint_contents", [1, 4294967295], "<2I"), "INT64": ("int64_contents", [-1, 1 << 40], "<2q"),
              "FP32": ("fp32_contents", [1.5, -2], "<2f"), "FP64": ("fp64_contents", [1e300, -2], "<2d"), "BYTES": ("bytes_contents", [b"a", b"\0bc"], None),
              "FP16": None, "BF16": None}
    typed, raw = message("ModelInferRequest", model_name="types"), message("ModelInferRequest", model_name="types")
    expected = []
    for name, how in values.items():
        if how is None:
            data = struct.pack("<2H", 0x3C00, 0x4000)
        else:
            field, items, form = how
            data = struct.pack(form, *items) if form else b"".join(struct.pack("<I", len(item)) + item for item in items)
            tensor = typed.inputs.add(name=name, datatype=name, shape=[2])
            getattr(tensor.contents, field).extend(items)
        raw.inputs.add(name=name, datatype=name, shape=[2])
        raw.raw_input_contents.append(data)
        expected.append(data)
    answer = infer(raw)
    by_name = dict(zip([tensor.name for tensor in answer.outputs], answer.raw_output_contents))
    assert [by_name["out_" + name] for name in values] == expected, by_name
    fails(Code.INVALID_ARGUMENT, lambda: infer(typed), "FP16")


@test
def requested_outputs_and_parameters():
    one = request(values=[3, 1, 2], shape=[1, 3])
    wanted = one.outputs.add(name="out_x")
    wanted.parameters["classification"].int64_param = 2
    answer = infer(one)
    assert answer.outputs[0].datatype == "BYTES" and list(answer.outputs[0].shape)[-1] == 2, answer
    assert b"3.000000:0" in answer.raw_output_contents[0], answer
    one = request()
    one.parameters["priority"].uint64_param = 1
    one.parameters["timeout"].int64_param = 10000000
    one.parameters["triton_enable_empty_final_response"].bool_param = True
    one.parameters["mine"].string_param = "kept"
    one.parameters["number"].double_param = 1.5
    assert list(infer(one).raw_output_contents) == [floats(1, 2)]
    one.parameters["sequence_id"].int64_param = 5
    fails(Code.UNIMPLEMENTED, lambda: infer(one), "sequence_id", "not supported")


@test
def mistakes_are_invalid_arguments():
    cases = [(request(name="y"), ["no input 'y'"]), (request(datatype="INT32"), ["FP32", "INT32"]), (request(shape=[1, 3]), ["x"]),
             (request(shape=[9, 2], values=[0.0] * 18), ["8"]), (request(shape=[1, -2]), ["shape"])]
    for one, parts in cases:
        fails(Code.INVALID_ARGUMENT, lambda: infer(one), *parts)
    one = request()
    one.outputs.add(name="nothing")
    fails(Code.INVALID_ARGUMENT, lambda: infer(one), "nothing")
    one = request()
    one.raw_input_contents.append(b"more")
    fails(Code.INVALID_ARGUMENT, lambda: infer(one), "raw_input_contents")
    one = request()
    one.inputs[0].contents.fp32_contents.append(1)
    fails(Code.INVALID_ARGUMENT, lambda: infer(one))
    raw = main.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for text in (b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x08\x01"):
        try:
            raw(text, timeout=30)
            raise AssertionError(text)
        except grpc.RpcError as error:
            assert error.code() in (Code.INVALID_ARGUMENT, Code.NOT_FOUND), (text, error.code(), error.details())


@test
def too_large_is_resource_exhausted():
    fails(Code.RESOURCE_EXHAUSTED, lambda: infer(request(values=[0.0] * 400000)))
    assert infer(request(values=[0.0] * 200000)).outputs[0].shape[1] == 200000


@test
def deadlines_of_calls_are_deadlines_of_requests():
    begin = time.monotonic()
    fails(Code.DEADLINE_EXCEEDED, lambda: infer(slow(), timeout=0.1))
    assert time.monotonic() - begin < 0.29
    one = slow()
    one.parameters["timeout"].int64_param = 50000
    fails(Code.DEADLINE_EXCEEDED, lambda: infer(one), "Request timeout expired")
    infer(slow())
    statistics = main.ask("ModelStatistics", name="slow").model_stats[0]
    assert statistics.execution_count == 1, "late work was started: %s" % statistics


@test
def statistics_add_up():
    before = main.ask("ModelStatistics", name="echo").model_stats[0]
    infer(request(values=[0.0] * 6, shape=[3, 2]))
    after = main.ask("ModelStatistics", name="echo", version="1").model_stats[0]
    assert after.inference_count - before.inference_count == 3, (before, after)
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert getattr(after.inference_stats, part).count - getattr(before.inference_stats, part).count == 1, part
    assert sum(row.batch_size * row.compute_infer.count for row in after.batch_stats) == after.inference_count
    assert sorted(row.name for row in main.ask("ModelStatistics").model_stats) == ["echo", "one", "slow", "types"]


@test
def rows_that_accelerators_share_are_counted_once():
    with Connected(repo, *PLAIN) as it:
        infer_there = it.call("ModelInfer")
        rows = 0
        for size in [1, 3, 5, 7, 8] * 40:
            infer_there(request(values=[0.0] * size, shape=[size, 1]), timeout=30)
            rows += size
            got = it.ask("ModelStatistics", name="echo").model_stats[0]
            assert got.inference_count == rows, (got.inference_count, rows)


@test
def a_full_server_is_unavailable():
    with Connected(repo, *PLAIN, "--requests-max", "2") as it:
        waiting = [it.call("ModelInfer").future(slow(), timeout=30) for _ in range(6)]
        codes = sorted(str(one.code()) for one in waiting)
        assert codes == ["StatusCode.OK"] * 2 + ["StatusCode.UNAVAILABLE"] * 4, codes
        contains([one for one in waiting if one.code() == Code.UNAVAILABLE][0].details(), "Exceeds maximum queue size")


class Stream:
    """One ModelStreamInfer."""

    def __init__(self, it, **options):
        self.requests = queue.Queue()
        self.answers = it.call("ModelStreamInfer")(iter(self.requests.get, None), **{"timeout": 60, **options})

    def send(self, one):
        self.requests.put(one)

    def close(self):
        self.requests.put(None)


@test
def a_stream_answers_in_order():
    stream = Stream(main)
    for i in range(300):
        stream.send(slow() if i == 100 else request(values=[i], shape=[1, 1], id=str(i)))
    stream.close()
    for i, answer in enumerate(stream.answers):
        assert answer.error_message == "", answer
        if i != 100:
            assert answer.infer_response.id == str(i) and answer.infer_response.raw_output_contents[0] == floats(i), (i, answer)
    assert i == 299 and stream.answers.code() == Code.OK


@test
def a_failed_request_leaves_its_stream_alive():
    stream = Stream(main)
    bad = request(id="sequence")
    bad.parameters["sequence_id"].int64_param = 5
    for one, text in [(request("nothing", id="unknown"), "is not found"), (request(shape=[1, 7], id="shape"), "x"), (bad, "not supported")]:
        stream.send(one)
        answer = next(stream.answers)
        contains(answer.error_message, text)
        assert answer.infer_response.id == one.id, answer
    stream.send(request(id="good"))
    assert next(stream.answers).infer_response.id == "good"
    stream.close()
    assert list(stream.answers) == [] and stream.answers.code() == Code.OK


@test
def many_streams_at_once():
    streams = [Stream(main) for _ in range(40)]
    for i in range(25):
        for number, stream in enumerate(streams):
            stream.send(request(values=[number, i], id="%d" % i))
    for number, stream in enumerate(streams):
        stream.close()
        got = [answer.infer_response for answer in stream.answers]
        assert [one.id for one in got] == [str(i) for i in range(25)]
        assert all(one.raw_output_contents[0] == floats(number, i) for i, one in enumerate(got))


@test
def cancels_take_work_back():
    before = main.ask("ModelStatistics", name="one").model_stats[0].execution_count
    calls = [main.call("ModelInfer").future(slow("one"), timeout=30) for _ in range(10)]
    stream = Stream(main)
    for _ in range(10):
        stream.send(slow("one"))
    wait_in_flight(main.server, "one", 20)
    for call in calls:
        call.cancel()
    stream.answers.cancel()
    assert all(call.code() == Code.CANCELLED for call in calls)
    infer(slow("one"))
    done = main.ask("ModelStatistics", name="one").model_stats[0].execution_count - before
    assert done <= 8, "%d of 20 cancelled requests ran" % done


@test
def an_empty_stream_and_a_deadline_of_a_stream():
    stream = Stream(main)
    stream.close()
    assert list(stream.answers) == [] and stream.answers.code() == Code.OK
    stream = Stream(main, timeout=0.2)
    fails(Code.DEADLINE_EXCEEDED, lambda: list(stream.answers))
    stream.close()


@test
def shared_memory():
    name = "/fm_serve_grpc_%d" % os.getpid()
    path = "/dev/shm" + name
    with open(path, "wb") as file:
        file.write(floats(1, 2) + bytes(24))
    try:
        main.ask("SystemSharedMemoryRegister", name="r", key=name, offset=0, byte_size=32)
        fails(Code.ALREADY_EXISTS, lambda: main.ask("SystemSharedMemoryRegister", name="r", key=name, offset=0, byte_size=16), "'r'")
        region = main.ask("SystemSharedMemoryStatus").regions["r"]
        assert (region.key, region.offset, region.byte_size) == (name, 0, 32)
        one = request()
        del one.raw_input_contents[:]
        one.inputs[0].parameters["shared_memory_region"].string_param = "r"
        one.inputs[0].parameters["shared_memory_byte_size"].int64_param = 8
        wanted = one.outputs.add(name="out_x")
        wanted.parameters["shared_memory_region"].string_param = "r"
        wanted.parameters["shared_memory_byte_size"].int64_param = 8
        wanted.parameters["shared_memory_offset"].int64_param = 16
        answer = infer(one)
        assert list(answer.raw_output_contents) == [b""], answer
        with open(path, "rb") as file:
            assert file.read()[16:24] == floats(1, 2)
        one.inputs[0].parameters["shared_memory_offset"].int64_param = 28
        fails(Code.INVALID_ARGUMENT, lambda: infer(one), "r")
        main.ask("SystemSharedMemoryUnregister", name="r")
        assert not main.ask("SystemSharedMemoryStatus").regions
        try:
            infer(one)
            raise AssertionError("a region that is gone was used")
        except grpc.RpcError as error:
            contains(error.details(), "'r'")
    finally:
        os.unlink(path)
    assert not main.ask("CudaSharedMemoryStatus").regions
    main.ask("CudaSharedMemoryUnregister", name="")
    fails(Code.UNIMPLEMENTED, lambda: main.ask("CudaSharedMemoryRegister", name="c", byte_size=8), "CUDA")


@test
def settings():
    assert "trace_level" in main.ask("TraceSetting").settings
    assert "log_info" in main.ask("LogSettings").settings


@test
def repository_control_needs_its_mode():
    fails(Code.UNIMPLEMENTED, lambda: main.ask("RepositoryModelLoad", model_name="echo"), "explicit")
    with Connected(repo, "--model-control-mode", "explicit") as it:
        assert not [row for row in it.ask("RepositoryIndex", ready=True).models]
        it.ask("RepositoryModelLoad", model_name="echo")
        assert [row.name for row in it.ask("RepositoryIndex", ready=True).models] == ["echo"]
        assert it.ask("ModelReady", name="echo").ready
        load = message("RepositoryModelLoadRequest", model_name="echo")
        load.parameters["config"].string_param = "nonsense {"
        fails(Code.INVALID_ARGUMENT, lambda: it.call("RepositoryModelLoad")(load, timeout=30), "failed to load 'echo'")
        assert it.ask("ModelReady", name="echo").ready
        it.ask("RepositoryModelUnload", model_name="echo")
        assert not it.ask("ModelReady", name="echo").ready
        fails(Code.NOT_FOUND, lambda: it.ask("RepositoryModelLoad", model_name="nothing"), "failed to load 'nothing'")


HEALTH = "grpc.health.v1.Health"


def health(it, service, kind="Check"):
    return it.call(kind, HEALTH)(message("HealthCheckRequest", "grpc.health.v1", service=service), timeout=60)


@test
def health_checks():
    for service in ("", "inference.GRPCInferenceService", HEALTH, "echo"):
        assert health(main, service).status == 1, service
    fails(Code.NOT_FOUND, lambda: health(main, "nothing"), "nothing")
    watch = health(main, "nothing", "Watch")
    assert next(watch).status == 3
    watch.cancel()


@test
def a_drain_answers_what_it_took_and_tells_watchers():
    with Connected(repo, *PLAIN) as it:
        watch = health(it, "", "Watch")
        assert next(watch).status == 1
        call = it.call("ModelInfer").future(slow(), timeout=30)
        stream = Stream(it)
        stream.send(request(id="before"))
        assert next(stream.answers).infer_response.id == "before"
        it.server.signal()
        assert [one.status for one in watch] == [2] and watch.code() == Code.OK
        # The stream had its answers; whoever wants more is told to go elsewhere.
        try:
            assert list(stream.answers) == []
        except grpc.RpcError as error:
            assert error.code() == Code.UNAVAILABLE and "shutting down" in error.details(), error
        else:
            raise AssertionError("the stream ended as if its client had ended it")
        stream.close()
        assert call.code() == Code.OK, call.details()
        contains(it.server.ended(), "stopped")


@test
def a_drain_says_so_to_a_stream_that_sent_more_before_it_ended():
    """A stream of which a message came too late does not end as if everything had been answered, although its client is through."""
    models = serving.repository(directory.name + "/late", echo=ECHO, late=sleeper("2s", batch=1))
    with Connected(models, *PLAIN, "--no-measure", "--slo", "60s") as it:
        watch = health(it, "", "Watch")
        assert next(watch).status == 1
        stream = Stream(it)
        stream.send(request("late", values=(1.0, 2.0, 3.0, 4.0), id="before"))
        wait_in_flight(it.server, "late", 1)
        it.server.signal()
        assert [one.status for one in watch] == [2]
        stream.send(request(id="late"))
        stream.close()
        assert next(stream.answers).infer_response.id == "before"
        fails(Code.UNAVAILABLE, lambda: next(stream.answers), "shutting down")
        contains(it.server.ended(), "stopped")


def reflect(it, version, **fields):
    package = "grpc.reflection." + version
    call = it.call("ServerReflectionInfo", package + ".ServerReflection")
    return next(call(iter([message("ServerReflectionRequest", package, **fields)]), timeout=30))


@test
def reflection_gives_the_files_that_the_messages_were_made_from():
    for version in ("v1", "v1alpha"):
        services = [one.name for one in reflect(main, version, list_services="*").list_services_response.service]
        assert {"inference.GRPCInferenceService", HEALTH, "grpc.reflection.v1.ServerReflection"} <= set(services), services
        for fields in ({"file_containing_symbol": "inference.GRPCInferenceService"}, {"file_containing_symbol": "inference.ModelInferRequest"},
                       {"file_by_filename": "inference.proto"}):
            got = [descriptor_pb2.FileDescriptorProto.FromString(data)
                   for data in reflect(main, version, **fields).file_descriptor_response.file_descriptor_proto]
            assert "inference.proto" in [one.name for one in got], fields
            for one in got:
                ours = [file for file in files.file if file.name == one.name][0]
                assert [entry.name for entry in one.message_type] == [entry.name for entry in ours.message_type]
        answer = reflect(main, version, file_containing_symbol="no.such.Thing")
        assert answer.error_response.error_code == Code.NOT_FOUND.value[0], answer


@test
def compressed_calls():
    for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        values = [1.0] * 5000
        assert infer(request(values=values), compression=how).raw_output_contents[0] == floats(*values)


@test
def unary_calls_with_no_message_or_two():
    path = "/inference.GRPCInferenceService/ServerLive"
    two = main.channel.stream_unary(path)
    fails(Code.INVALID_ARGUMENT, lambda: two(iter([]), timeout=30), "no message")


@test
def h2load_gets_an_answer_for_every_call():
    if shutil.which("h2load") is None:
        raise Skip("no h2load (Debian: nghttp2-client)")
    data = request(values=[1.0] * 256).SerializeToString()
    path = directory.name + "/infer"
    with open(path, "wb") as file:
        file.write(b"\0" + struct.pack(">I", len(data)) + data)
    out = subprocess.run(["h2load", "-n", "5000", "-c", "4", "-m", "16", "-d", path, "-H", "content-type: application/grpc", "-H", "te: trailers",
                          "http://127.0.0.1:%d/inference.GRPCInferenceService/ModelInfer" % main.server.grpc_port], capture_output=True, text=True, timeout=60).stdout
    contains(out, "5000 succeeded, 0 failed")


@test
def it_ends_cleanly():
    main.channel.close()
    contains(main.server.stop(), "stopped")


run()
