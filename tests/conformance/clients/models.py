"""The model repository that clients are tried against, with ONNX files written here, byte by byte.

Owns: the models that the examples of NVIDIA's client expect (`simple`: sum and difference of two rows of 16 INT32, and its kin), and
models for datatypes, waiting and pipelines. Needs nothing but Python.
"""
import os

INT8, INT32, STRING = 3, 6, 8


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


def identity(element):
    shape = ["batch", "length"]
    return onnx([node("Identity", ["INPUT0"], ["OUTPUT0"])], [port("INPUT0", element, shape)], [port("OUTPUT0", element, shape)])


def config(name, kind, dims, names=("0", "1"), batch=8):
    """A config.pbtxt as Triton's repositories have it."""
    def tensors(field, prefix):
        return "%s [\n%s\n]\n" % (field, ",\n".join('  { name: "%s%s" data_type: TYPE_%s dims: [ %d ] }' % (prefix, suffix, kind, dims)
                                                  for suffix in names))
    return 'name: "%s"\nplatform: "onnxruntime_onnx"\nmax_batch_size: %d\n%s%sdynamic_batching { }\n' % (
        name, batch, tensors("input", "INPUT"), tensors("output", "OUTPUT"))


DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES"]
FILES = {"simple": (add_sub(INT32), config("simple", "INT32", 16)),
         "simple_int8": (add_sub(INT8), config("simple_int8", "INT8", 16)),
         "simple_string": (add_sub(STRING), config("simple_string", "STRING", 16)),
         "simple_identity": (identity(STRING), config("simple_identity", "STRING", -1, names=("0",)))}
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


def repository(directory, names=None):
    """Writes the models (all, or those named) below `directory`; returns the paths to serve."""
    for name, (model, text) in FILES.items():
        if names is None or name in names:
            write("%s/models/%s/1/model.onnx" % (directory, name), model)
            write("%s/models/%s/config.pbtxt" % (directory, name), text)
    for name, text in DESCRIPTIONS.items():
        if names is None or name in names:
            write("%s/models/%s/model.yaml" % (directory, name), text)
    if names is None or "scores" in names:
        write("%s/models/scores/labels.txt" % directory, "north\neast\nsouth\nwest\n")
    paths = [directory + "/models"]
    if names is None or "twice" in names:
        write(directory + "/twice.yaml", PIPELINE % (directory + "/models"))
        paths.append(directory + "/twice.yaml")
    return paths
