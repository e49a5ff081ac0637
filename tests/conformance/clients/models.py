"""The model repository that clients are tried against, with ONNX files written here, byte by byte.

Owns: the models that the examples of NVIDIA's client expect (`simple`: sum and difference of two rows of 16 INT32, and its kin), and
models for datatypes, waiting and pipelines. Needs nothing but Python.
"""
import os

FLOAT, INT8, INT32, STRING = 1, 3, 6, 8


def varint(value):
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def port(name, element, shape):
    """A ValueInfoProto; a size that is text is symbolic."""
    dims = b"".join(block(1, block(2, size) if isinstance(size, str) else number(1, size)) for size in shape)
    return block(1, name) + block(2, block(1, number(1, element) + block(2, dims)))


def node(operation, inputs, outputs, **integers):
    attributes = b"".join(block(5, block(1, key) + number(3, value) + number(20, 2)) for key, value in integers.items())
    return block(1, b"".join(block(1, name) for name in inputs) + b"".join(block(2, name) for name in outputs)
                 + block(3, outputs[0] + "_node") + block(4, operation) + attributes)


def onnx(nodes, inputs, outputs):
    graph = b"".join(nodes) + block(2, "graph") + b"".join(block(11, one) for one in inputs) + b"".join(block(12, one) for one in outputs)
    return number(1, 8) + block(2, "conformance") + block(7, graph) + block(8, block(1, "") + number(2, 17))


def add_sub(element):
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1; of types that have no sums through INT32."""
    names = ["INPUT0", "INPUT1"]
    nodes, sums = [], ["OUTPUT0", "OUTPUT1"]
    if element != INT32:
        nodes += [node("Cast", [name], [name + "_number"], to=INT32) for name in names]
        nodes += [node("Cast", [name + "_number"], [name], to=element) for name in sums]
        names, sums = [name + "_number" for name in names], [name + "_number" for name in sums]
    between = [node("Add", names, [sums[0]]), node("Sub", names, [sums[1]])]
    nodes = nodes[:2] + between + nodes[2:]
    shape = ["batch", 16]
    return onnx(nodes, [port(name, element, shape) for name in ("INPUT0", "INPUT1")],
                [port(name, element, shape) for name in ("OUTPUT0", "OUTPUT1")])


def identity(element, suffix="0"):
    shape, names = ["batch", "length"], ("INPUT" + suffix, "OUTPUT" + suffix)
    return onnx([node("Identity", [names[0]], [names[1]])], [port(names[0], element, shape)], [port(names[1], element, shape)])


def pixels():
    """An image in, shares that add up to 1 out: what grpc_client.py asks of the model that it names."""
    nodes = [node("GlobalAveragePool", ["input"], ["pooled"]), node("Flatten", ["pooled"], ["rows"]), node("Softmax", ["rows"], [PIXELS_OUTPUT])]
    return onnx(nodes, [port("input", FLOAT, ["batch", 299, 299, 3])], [port(PIXELS_OUTPUT, FLOAT, ["batch", 299])])


def config(name, kind, dims, names=("0", "1"), batch=8):
    """A config.pbtxt as Triton's repositories have it."""
    def tensors(field, prefix):
        return "%s [\n%s\n]\n" % (field, ",\n".join('  { name: "%s%s" data_type: TYPE_%s dims: [ %d ] }' % (prefix, suffix, kind, dims)
                                                  for suffix in names))
    return 'name: "%s"\nplatform: "onnxruntime_onnx"\nmax_batch_size: %d\n%s%sdynamic_batching { }\n' % (
        name, batch, tensors("input", "INPUT"), tensors("output", "OUTPUT"))


PIXELS_OUTPUT = "InceptionV3/Predictions/Softmax"
PIXELS = """name: "densenet_onnx"
platform: "onnxruntime_onnx"
max_batch_size: 1
input [ { name: "input" data_type: TYPE_FP32 dims: [ 299, 299, 3 ] } ]
output [ { name: "%s" data_type: TYPE_FP32 dims: [ 299 ] } ]
""" % PIXELS_OUTPUT
# Triton's are kept by a backend of its own; here the model answers, and what makes it a sequence is refused.
SEQUENCE = """sequence_batching {
  max_sequence_idle_microseconds: 5000000
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ]
}
"""
REPEAT = """name: "repeat_int32"
backend: "repeat"
max_batch_size: 0
model_transaction_policy { decoupled: True }
input [
  { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
  { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
  { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] }
]
output [
  { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
]
instance_group [ { kind: KIND_CPU } ]
"""
DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES"]
FILES = {"simple": (add_sub(INT32), config("simple", "INT32", 16)),
         "simple_int8": (add_sub(INT8), config("simple_int8", "INT8", 16)),
         "simple_string": (add_sub(STRING), config("simple_string", "STRING", 16)),
         "simple_identity": (identity(STRING), config("simple_identity", "STRING", -1, names=("0",)))}
# The repository of the example programs: the simple ones are seven, one that takes images is the eighth.
SEVEN = {**FILES, **{name: (identity(INT32, ""), config(name, "INT32", 1, names=("",)).replace("dynamic_batching { }\n", SEQUENCE))
                     for name in ("simple_sequence", "simple_dyna_sequence", "simple_string_dyna_sequence")}}
EXAMPLES = {**SEVEN, "densenet_onnx": (pixels(), PIXELS)}
MORE_EXAMPLES = {**EXAMPLES, "custom_identity_int32": (identity(INT32), config("custom_identity_int32", "INT32", -1, names=("0",))),
                 "repeat_int32": (b"", REPEAT)}
DESCRIPTIONS = {
    "types": 'backend: identity\nmax_batch_size: 0\nsettings:\n  inputs: "%s"\n' % ", ".join("%s:%s[-1]" % (name, name) for name in DATATYPES),
    "scores": 'backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,4]"\nlabels: {out_x: labels.txt}\n',
    "slow": 'backend: emulated\nmax_batch_size: 1\ninstances: 1\nsettings:\n  latency: "1:300ms"\n'}
PIPELINE = ("name: twice\nmodels: %s\ninputs:\n  - {name: A, dtype: INT32, shape: [16]}\n  - {name: B, dtype: INT32, shape: [16]}\n"
            "stages:\n  - {name: first, model: simple, inputs: {INPUT0: A, INPUT1: B}}\n"
            "  - {name: second, model: simple, inputs: {INPUT0: first.OUTPUT0, INPUT1: first.OUTPUT1}}\n"
            "outputs: {C: second.OUTPUT0}\n")


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_models(folder, files):
    """A repository as Triton has it; returns its path."""
    for name, (model, text) in files.items():
        write("%s/%s/1/model.onnx" % (folder, name), model)
        write("%s/%s/config.pbtxt" % (folder, name), text)
    return folder


def repository(directory):
    """Writes the models of the calls and of the load generator below `directory`; returns the paths to serve."""
    folder = write_models(directory + "/models", FILES)
    for name, text in DESCRIPTIONS.items():
        write("%s/%s/model.yaml" % (folder, name), text)
    write("%s/scores/labels.txt" % folder, "north\neast\nsouth\nwest\n")
    write(directory + "/twice.yaml", PIPELINE % folder)
    return [folder, directory + "/twice.yaml"]
