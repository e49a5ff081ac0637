"""`fermata serve` with the OCR pipeline and its real models: a page image goes in by every form of the protocol, text comes out."""
import json
import os
import struct
import sys
import zlib

import serving
import tap
from serving import Server, tensor
from tap import MODELS, ROOT, Skip, contains, test

PIPELINE = os.path.join(ROOT, "examples", "ocr", "pipeline.yaml")
if not os.path.exists(os.path.join(MODELS, "ocr", "det", "1", "model.onnx")):
    print("1..0 # SKIP the OCR models are not in .deps/models (run tools/setup)")
    sys.exit(0)

# 5x7 letters, enough for one word.
GLYPHS = {"H": "10001 10001 10001 11111 10001 10001 10001", "E": "11111 10000 10000 11110 10000 10000 11111",
          "L": "10000 10000 10000 10000 10000 10000 11111", "O": "01110 10001 10001 10001 10001 10001 01110"}


def png(width, height, rows):
    """A grey PNG of the given rows of bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))) + chunk(b"IEND", b""))


def page(word, scale=6):
    width, height = 640, 320
    rows = [bytearray([255] * width) for _ in range(height)]
    for index, letter in enumerate(word):
        for y, bits in enumerate(GLYPHS[letter].split()):
            for x, bit in enumerate(bits):
                if bit == "1":
                    for dy in range(scale):
                        left = 120 + (index * 6 + x) * scale
                        rows[130 + y * scale + dy][left:left + scale] = bytes(scale)
    return png(width, height, rows)


IMAGE = page("HELLO")
server = Server(PIPELINE)


def text_of(answer):
    return "".join(next(output for output in answer["outputs"] if output["name"] == "text")["data"]).upper().replace("0", "O")


@test
def metadata():
    document = server.get("/v2/models/ocr")
    assert document["platform"] == "fermata_pipeline" and document["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [1]}], document
    assert server.get("/v2/models/ocr/config")["max_batch_size"] == 0


@test
def an_image_as_it_is():
    status, headers, body = server.request("POST", "/v2/models/ocr/infer", IMAGE, {"Content-Type": "image/png"})
    assert status == 200, body
    contains(text_of(json.loads(body)), "HELLO")


@test
def a_bytes_tensor():
    document = {"inputs": [tensor("image", [1], "BYTES", binary_data_size=len(IMAGE) + 4)], "outputs": [{"name": "text"}]}
    answer, tail = server.infer_binary("ocr", document, [struct.pack("<I", len(IMAGE)), IMAGE])
    assert tail == b"" and len(answer["outputs"]) == 1
    contains(text_of(answer), "HELLO")


@test
def the_raw_form():
    status, headers, body = server.request("POST", "/v2/models/ocr/infer", IMAGE, {"Inference-Header-Content-Length": "0"})
    assert status == 200
    length = int(headers["Inference-Header-Content-Length"])
    names = [output["name"] for output in json.loads(body[:length])["outputs"]]
    assert "text" in names and len(body) > length


@test
def an_image_that_is_none():
    for data in [b"this is no image", IMAGE[:len(IMAGE) // 2], b"\xff\xd8\xff\xe0" + b"\0" * 100]:
        status, headers, body = server.request("POST", "/v2/models/ocr/infer", data, {"Content-Type": "image/jpeg"})
        assert status == 400 and json.loads(body)["error"], (status, body)
    status, headers, body = server.request("POST", "/v2/models/ocr/infer", b"", {"Content-Type": "image/jpeg"})
    assert status == 400 and "empty" in json.loads(body)["error"], body
    assert server.get("/v2/models/ocr/ready")["ready"]


@test
def it_ends_cleanly():
    contains(server.stop(), "stopped")


tap.run()
