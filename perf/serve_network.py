"""A network of any size as an ONNX file, for the serve_* measurements."""
import random
import struct

WIDTH = 2048


def field(number, value):
    """A field of a protobuf message: bytes, text or an integer."""
    def varint(rest):
        out = b""
        while rest >= 128:
            out, rest = out + bytes([rest & 127 | 128]), rest >> 7
        return out + bytes([rest])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def perceptron(path, layers=4, width=WIDTH, inputs=None, outputs=None):
    """Rows of numbers, `layers` times a matrix and a ReLU: `inputs` wide at first, `outputs` at last, `width` where not said and between."""
    rng = random.Random(1)
    row = [rng.uniform(-0.05, 0.05) for _ in range(width)]
    widths = [inputs or width] + [width] * (layers - 1) + [outputs or width]

    def weights(rows, columns):
        return b"".join(struct.pack("<%df" % columns, *(row[i % width:] + row[:i % width])[:columns]) for i in range(rows))

    def port(name, columns):
        shape = field(1, field(2, "n")) + field(1, field(1, columns))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))
    graph, last = b"", "x"
    for layer in range(layers):
        out = "y" if layer == layers - 1 else "h%d" % layer
        graph += field(1, field(1, last) + field(1, "w%d" % layer) + field(2, "m%d" % layer) + field(4, "MatMul"))
        graph += field(1, field(1, "m%d" % layer) + field(2, out) + field(4, "Relu"))
        last = out
    graph += field(2, "mlp")
    for layer in range(layers):
        shape = widths[layer:layer + 2]
        graph += field(5, field(1, shape[0]) + field(1, shape[1]) + field(2, 1) + field(8, "w%d" % layer) + field(9, weights(*shape)))
    graph += field(11, port("x", widths[0])) + field(12, port("y", widths[-1]))
    with open(path, "wb") as file:
        file.write(field(1, 8) + field(7, graph) + field(8, field(2, 17)))
