"""fermata infer, on the identity and emulated backends and on the real orientation model when it is there."""
import json
import os
import struct
import tempfile
import zlib

from tap import MODELS, Skip, contains, fermata, fermata_json, run, test

FOLDER = tempfile.TemporaryDirectory()
CLS = os.path.join(MODELS, "ocr/cls")


def path(name):
    return os.path.join(FOLDER.name, name)


def write(name, data):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), "wb" if isinstance(data, bytes) else "w") as file:
        file.write(data)
    return path(name)


def npy(name, shape, values, letter="f", descr="<f4"):
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, repr(tuple(shape)))
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return write(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack("<%d%s" % (len(values), letter), *values))


def read_npy(name):
    with open(name, "rb") as file:
        data = file.read()
    length = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + length].decode(), {})  # a dictionary of constants that the program under test wrote
    return header["shape"], data[10 + length:]


def model(name, yaml):
    write("models/%s/model.yaml" % name, yaml)
    os.makedirs(path("models/%s/1" % name), exist_ok=True)
    return path("models/" + name)


def png(name, width, height, pixel):
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return write(name, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


ECHO = model("echo", "backend: identity\nsettings: {inputs: 'x:FP32[-1,4]', outputs: 'y'}\n")
TEXT = model("text", "backend: identity\nsettings: {inputs: 'x:BYTES[-1]', outputs: 'y'}\n")
PAIR = model("pair", "backend: identity\nsettings: {inputs: 'a:FP32[-1,2], b:INT64[-1,1]', outputs: 'c, d'}\n")
IMAGE = model("image", "backend: identity\nsettings: {inputs: 'x:FP32[-1,3,2,4]', outputs: 'y'}\n")
SLOW = model("slow", "backend: emulated\nsettings: {alpha: 5ms, beta: 1ms, inputs: 'x:FP32[-1,4]', outputs: 'y:FP32[-1,4]'}\n")
BROKEN = model("broken", "backend: emulated\nsettings: {fail_every: 2, inputs: 'x:FP32[4]', outputs: 'y:FP32[4]'}\n")


@test
def the_model_is_described():
    out, _ = fermata("infer", ECHO, "--inputs")
    contains(out, "echo version 1", "batches up to", "Inputs", "x ", "FP32", "[-1,4]", "Outputs", "takes .npy or raw numbers")
    facts = fermata_json("infer", PAIR, "--inputs", "--json")
    assert [port["name"] for port in facts["inputs"]] == ["a", "b"] and facts["inputs"][1]["datatype"] == "INT64", facts
    contains(fermata("infer", IMAGE, "--inputs")[0], "images: resized to 4 x 2, RGB, NCHW, pixel / 255")
    contains(fermata("infer", TEXT, "--inputs")[0], "takes any file as it is")


@test
def arrays_go_in_and_come_out():
    one = npy("one.npy", (1, 4), [1, 2, 3, 4])
    out, err = fermata("infer", ECHO, one)
    contains(out, "FP32", "[1,4]", "min 1  max 4  mean 2.5", " 1 2 3 4")
    row = npy("row.npy", (4,), [0.5, -1, 2, 8])  # one row without the batch dimension
    fermata("infer", ECHO, row, "--output", path("out.npy"))
    shape, data = read_npy(path("out.npy"))
    assert shape == (1, 4) and struct.unpack("<4f", data) == (0.5, -1, 2, 8)
    fermata("infer", ECHO, row, one, "-o", "y=" + path("two.npy"))
    assert read_npy(path("two.npy"))[0] == (2, 4)


@test
def several_inputs_are_one_batch():
    files = [npy("b%d.npy" % i, (4,), [i, i, i, i]) for i in range(5)]
    results = fermata_json("infer", ECHO, *files, "--json")["results"]
    assert [result["outputs"][0]["data"] for result in results] == [[float(i)] * 4 for i in range(5)], results
    assert all(result["batch_rows"] == 5 and result["outputs"][0]["shape"] == [1, 4] for result in results), results
    contains(fermata("infer", ECHO, *files)[0], "in a batch of 5")


@test
def raw_numbers_and_standard_input():
    raw = struct.pack("<8f", *range(8))
    out = fermata_json("infer", ECHO, "-", "--json", stdin=raw)
    assert out["results"][0]["outputs"][0]["shape"] == [2, 4]
    assert out["results"][0]["input"] == "standard input"
    out = fermata_json("infer", ECHO, "-", "--json", "--shape", "1,4", stdin=raw[:16])
    assert out["results"][0]["outputs"][0]["data"] == [0, 1, 2, 3]
    contains(fermata("infer", ECHO, "-", code=3, stdin=raw[:15])[1], "15 bytes", "needs")
    contains(fermata("infer", ECHO, "-", "--shape", "1,5", code=3, stdin=raw)[1], "[1,5]", "takes FP32 [-1,4]")
    contains(fermata("infer", ECHO, "-", "-", code=2, stdin=raw)[1], "given twice")


@test
def a_protocol_request_is_understood():
    body = {"inputs": [{"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.5]}, {"name": "b", "datatype": "INT64", "shape": [1, 1], "data": [7]}]}
    out = fermata_json("infer", PAIR, "-", "--json", stdin=json.dumps(body).encode())
    assert [output["data"] for output in out["results"][0]["outputs"]] == [[0.5, 1.5], [7]], out
    contains(fermata("infer", PAIR, "-", code=3, stdin=b'{"inputs": [{"name": "z"}]}')[1], "standard input")


@test
def several_inputs_are_named():
    a = npy("a.npy", (1, 2), [1, 2])
    b = npy("b.npy", (1, 1), [9], "q", "<i8")
    out = fermata_json("infer", PAIR, "a=" + a, "b=" + b, "--json")
    assert [output["data"] for output in out["results"][0]["outputs"]] == [[1, 2], [9]]
    contains(fermata("infer", PAIR, a, code=3)[1], "has 2 inputs (a, b): write NAME=FILE")
    contains(fermata("infer", PAIR, "a=" + a, code=2)[1], "input 'b' is missing: add b=FILE")
    contains(fermata("infer", PAIR, "a=" + a, "a=" + a, "b=" + b, code=2)[1], "input 'a' was given twice")
    contains(fermata("infer", PAIR, "a=" + a, b, code=2)[1], "has no input's name in front")
    contains(fermata("infer", PAIR, "a=" + a, "b=" + b, "-o", path("c.npy"), code=2)[1], "there are 2 outputs; write NAME=FILE.npy")


@test
def strings_are_printed_safely():
    out, _ = fermata("infer", TEXT, "-", stdin=b"first\nsecond \x1b[31m\xff \xc3\xa9")
    contains(out, "BYTES", "first\n    second \\x1b[31m\\xff \u00e9")
    assert "\033" not in out
    data = fermata_json("infer", TEXT, "-", "--json", stdin=b"hello")["results"][0]["outputs"][0]["data"]
    assert data == ["hello"]


@test
def images_are_prepared_as_stated():
    image = png("ramp.png", 4, 2, lambda x, y: (x * 50, y * 100, 255))
    out, err = fermata("infer", IMAGE, image, "--json", "--values", "0")
    data = json.loads(out)["results"][0]["outputs"][0]["data"]
    red, green, blue = data[:8], data[8:16], data[16:]
    assert all(abs(got - x * 50 / 255) < 1e-3 for got, x in zip(red, [0, 1, 2, 3] * 2)), red
    assert all(abs(got - y * 100 / 255) < 1e-3 for got, y in zip(green, [0] * 4 + [1] * 4)), green
    assert all(abs(got - 1) < 1e-3 for got in blue), blue
    contains(fermata("infer", IMAGE, image)[1], "note: images for 'x': resized to 4 x 2, RGB, NCHW, pixel / 255")
    assert fermata("infer", IMAGE, image, "-q")[1] == ""
    data = fermata_json("infer", IMAGE, image, "--json", "--scale", "1", "--mean", "10", "--std", "2,4,8", "--bgr")["results"][0]["outputs"][0]["data"]
    assert abs(data[0] - (255 - 10) / 2) < 1e-3 and abs(data[8] - (0 - 10) / 4) < 1e-3 and abs(data[17] - (50 - 10) / 8) < 0.1, data
    big = png("big.png", 64, 64, lambda x, y: (100, 100, 100))
    data = fermata_json("infer", IMAGE, big, "--json")["results"][0]["outputs"][0]["data"]
    assert all(abs(got - 100 / 255) < 1e-3 for got in data)
    contains(fermata("infer", IMAGE, image, "--size", "4", code=2)[1], "--size: '4' is not WIDTHxHEIGHT")
    contains(fermata("infer", IMAGE, image, "--mean", "1,2", code=2)[1], "--mean: '1,2' is not one number or three")


@test
def broken_files_give_one_clear_error():
    good = png("good.png", 4, 2, lambda x, y: (1, 2, 3))
    with open(good, "rb") as file:
        data = file.read()
    for name, content, says in (
            ("cut.png", data[:40], "cut.png"), ("cut.npy", b"\x93NUMPY\x01\x00", "not a .npy file"), ("empty", b"", "is empty"),
            ("fortran.npy", b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3, 2, 4), }", "ascontiguousarray")):
        out, err = fermata("infer", IMAGE, write(name, content), "-q", code=3)
        assert out == "" and err.count("\n") == 1, err
        contains(err, says)
    contains(fermata("infer", ECHO, good, code=3)[1], "is an image, but input 'x' (FP32 [-1,4]) does not look like one")
    contains(fermata("infer", ECHO, npy("wide.npy", (1, 5), [0] * 5), code=3)[1], "wide.npy' has the shape [1,5], but input 'x' takes FP32 [-1,4]")
    contains(fermata("infer", ECHO, npy("double.npy", (1, 4), [0] * 4, "d", "<f8"), code=3)[1], "holds FP64, but input 'x' takes FP32")
    contains(fermata("infer", ECHO, FOLDER.name, code=3)[1], "it is a directory")
    contains(fermata("infer", ECHO, path("absent"), code=3)[1], "No such file")


@test
def repositories_and_names():
    one = npy("one.npy", (1, 4), [1, 2, 3, 4])
    repository = path("models")
    contains(fermata("infer", repository, one, code=3)[1], "say which with --model", "echo")
    contains(fermata("infer", repository, one, "-m", "ehco", code=3)[1], "has no model 'ehco'; did you mean 'echo'?")
    contains(fermata("infer", repository, one, "--model", "echo")[0], "[1,4]")
    contains(fermata("infer", repository, one, "--model", "echo", "--model-version", "7", code=3)[1], "7")


@test
def classes_and_labels():
    scores = npy("scores.npy", (2, 4), [0.1, 0.7, 0.2, 0, 5, 5, 1, 2])
    labels = write("labels.txt", "cat\ndog\r\nbird\n")
    out, _ = fermata("infer", ECHO, scores, "--top", "2", "--labels", labels)
    contains(out, "row 0", "1.  0.7        class 1  dog", "2.  0.2        class 2  bird", "row 1", "1.  5          class 0  cat")
    top = fermata_json("infer", ECHO, scores, "--labels", labels, "--json", "--softmax", "--top", "4")["results"][0]["outputs"][0]["top"]
    assert [entry["class"] for entry in top[1]] == [0, 1, 3, 2] and abs(sum(entry["score"] for entry in top[1]) - 1) < 1e-9, top
    assert "label" not in top[1][2] and top[0][0]["label"] == "dog"
    contains(fermata("infer", ECHO, scores, "--labels", path("none"), code=3)[1], "--labels", "No such file")


@test
def repeating_prints_quantiles():
    one = npy("one.npy", (1, 4), [1, 2, 3, 4])
    contains(fermata("infer", SLOW, one, "--repeat", "5", "--warmup", "1")[0], "5 times: min ", "p50 ", "p99 ")
    latency = fermata_json("infer", SLOW, one, "-n", "5", "--json")["latency"]
    assert latency["count"] == 5 and latency["p50_ms"] >= 6, latency


@test
def a_failed_item_does_not_hide_the_others():
    files = [npy("f%d.npy" % i, (4,), [i] * 4) for i in range(2)]
    out, err = fermata("infer", BROKEN, *files, code=1)
    contains(out, "\n  failed\n", "[4]")
    contains(err, "fermata infer: '")
    assert (out + err).count("injected") <= err.count("fermata infer: ") and err.count("fermata infer: ") == 1, (out, err)


@test
def the_real_model_answers():
    if not os.path.isdir(CLS):
        raise Skip("no models here; tools/setup fetches them")
    image = png("line.png", 192, 48, lambda x, y: (255, 255, 255) if (x // 8) % 2 else (0, 0, 0))
    result = fermata_json("infer", CLS, image, "--size", "192x48", "--top", "2", "--json")["results"][0]
    assert result["outputs"][0]["shape"] == [1, 2] and abs(sum(result["outputs"][0]["data"]) - 1) < 1e-4, result
    both = fermata_json("infer", CLS, image, image, "--size", "192x48", "--json")["results"]
    for one in both:
        assert all(abs(a - b) < 1e-5 for a, b in zip(one["outputs"][0]["data"], result["outputs"][0]["data"])), both


@test
def nothing_is_left_in_the_home_folder():
    """ONNX Runtime's own telemetry would keep a database there."""
    if not os.path.isdir(CLS):
        raise Skip("no models here; tools/setup fetches them")
    home = path("home")
    os.mkdir(home)
    image = png("home.png", 192, 48, lambda x, y: (255, 255, 255))
    fermata("infer", CLS, image, "--size", "192x48", env={"HOME": home, "XDG_CACHE_HOME": home})
    assert os.listdir(home) == [], os.listdir(home)


run()
