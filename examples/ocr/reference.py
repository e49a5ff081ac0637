#!/usr/bin/env python3
"""Recognition against a straightforward reference on ONNX Runtime's Python binding: numbers, not only text.

    python3 -m venv /tmp/reference && /tmp/reference/bin/pip install numpy onnxruntime
    /tmp/reference/bin/python examples/ocr/reference.py PAGES OUTPUT.jsonl [--lines 40]

PAGES is the folder of fetch-pages, OUTPUT what the job wrote for it. For lines spread evenly over the output, Fermata runs line.yaml on the page and
the box that the job found, and gives out its crop, the network's input, the network's output and the text. The reference starts from the same
crop and does the rest by itself. It checks that
  - the inputs of the network are equal to 1e-6,
  - the probabilities are equal to 5e-4 (two builds of ONNX Runtime may round differently),
  - the texts are equal, the reference's, line.yaml's and the job's.
Not part of any other target: it needs packages from PyPI.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy
import onnxruntime

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SPACE_THRESHOLD = 0.05


def tensor_of(crop):
    """UINT8 [48, W, 1] -> FP32 [3, 48, W rounded up to a multiple of 32]."""
    width = (crop.shape[1] + 31) // 32 * 32
    tensor = numpy.zeros((3, 48, width), numpy.float32)
    tensor[:, :, : crop.shape[1]] = (crop[:, :, 0].astype(numpy.float32) / 255 - 0.5) / 0.5
    return tensor


def text_of(probabilities, classes):
    """Greedy CTC; a space also where its class has some probability between two characters."""
    best = probabilities.argmax(axis=1)
    runs = []  # class, first step, last step
    for step, index in enumerate(best):
        if index != 0 and step > 0 and best[step - 1] == index:
            runs[-1][2] = step
        elif index != 0:
            runs.append([index, step, step])
    space = len(classes) - 1
    text = ""
    for i, (index, first, _) in enumerate(runs):
        if i > 0 and index != space and runs[i - 1][0] != space:
            if probabilities[runs[i - 1][2] : first + 1, space].max() > SPACE_THRESHOLD:
                text += " "
        text += classes[index]
    return text


def fermata_line(program, page, box, folder):
    """Runs line.yaml; returns its outputs."""
    quad = os.path.join(folder, "quad.npy")
    numpy.save(quad, numpy.array(box, numpy.float32).reshape(4, 2))
    command = [program, "infer", os.path.join(HERE, "line.yaml"), "image=" + page, "quad=" + quad, "--json"]
    arrays = {}
    for name in ("crop", "tensor", "probabilities"):
        command += ["--output", "%s=%s" % (name, os.path.join(folder, name + ".npy"))]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit("reference: %s\n%s" % (" ".join(command), result.stderr))
    for name in ("crop", "tensor", "probabilities"):
        arrays[name] = numpy.load(os.path.join(folder, name + ".npy"))
    outputs = json.loads(result.stdout)["results"][0]["outputs"]
    text = next(o for o in outputs if o["name"] == "text")["data"][0]
    return arrays, text


def lines_of(path, wanted):
    """(id, box, text) of `wanted` lines, spread evenly."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for record in map(json.loads, file):
            boxes = numpy.array(record["boxes"], numpy.float32).reshape(-1, 4, 2)
            lines += [(record["id"], box, text) for box, text in zip(boxes, record["lines"])]
    step = max(1, len(lines) // wanted)
    return lines[::step][:wanted]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages")
    parser.add_argument("output")
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--fermata", default=os.path.join(ROOT, "build", "fermata"))
    parser.add_argument("--models", default=os.path.join(ROOT, ".deps", "models", "ocr"))
    arguments = parser.parse_args()

    with open(os.path.join(arguments.models, "keys.txt"), encoding="utf-8", newline="\n") as file:
        classes = [""] + file.read().split("\n") + [" "]
    session = onnxruntime.InferenceSession(os.path.join(arguments.models, "rec", "1", "model.onnx"))
    name = session.get_inputs()[0].name

    worst_input = worst_output = 0.0
    failures = 0
    lines = lines_of(arguments.output, arguments.lines)
    with tempfile.TemporaryDirectory() as folder:
        for page, box, job_text in lines:
            arrays, text = fermata_line(arguments.fermata, os.path.join(arguments.pages, page), box, folder)
            tensor = tensor_of(arrays["crop"])
            probabilities = session.run(None, {name: tensor[None]})[0][0]
            if len(classes) != probabilities.shape[1]:
                sys.exit("reference: the key file does not fit the model")
            given = arrays["probabilities"].reshape(probabilities.shape)
            input_error = float(numpy.abs(arrays["tensor"].reshape(tensor.shape) - tensor).max())
            output_error = float(numpy.abs(given - probabilities).max())
            wanted = text_of(probabilities, classes)
            worst_input = max(worst_input, input_error)
            worst_output = max(worst_output, output_error)
            if input_error > 1e-6 or output_error > 5e-4 or not wanted == text == job_text:
                failures += 1
                print("%s: input off by %g, output by %g\n  reference %r\n  line.yaml %r\n  job       %r"
                      % (page, input_error, output_error, wanted, text, job_text))
    print("%d lines, %d differ; largest difference of inputs %g, of probabilities %g (ONNX Runtime %s)"
          % (len(lines), failures, worst_input, worst_output, onnxruntime.__version__))
    return 1 if failures or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
