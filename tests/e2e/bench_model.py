"""fermata bench model: every family is written, runs, and is what was said; nothing that is there is lost."""
import hashlib
import json
import os
import signal
import stat
import struct
import subprocess
import tempfile

from batch_job import wait_for
from serving import Server, tensor
from tap import FERMATA, contains, fermata, fermata_json, run, test

FOLDER = tempfile.TemporaryDirectory(prefix="fermata-bench-model-")
# Family, words that make it small, elements of each input's row, elements of the output's row.
FAMILIES = [
    ("mlp", "--layers 3 --hidden 20 --inputs 7 --outputs 3", {"x": 7}, 3),
    ("cnn", "--layers 3 --channels 4 --image 12 --kernel 5 --outputs 2", {"x": 3 * 12 * 12}, 2),
    ("rnn", "--layers 1 --hidden 9 --inputs 4 --sequence 6 --outputs 5", {"x": 24}, 5),
    ("lstm", "--layers 2 --hidden 9 --inputs 4 --sequence 6 --outputs 5", {"x": 24}, 5),
    ("transformer", "--layers 1 --hidden 12 --heads 3 --sequence 5 --expansion 2", {"x": 60}, 60),
    ("dlrm", "--dense 4 --tables 3 --rows 20 --width 4 --hidden 8 --bottom 1 --top 1", {"dense": 4, "indices": 3}, 1),
]


def path(name):
    return os.path.join(FOLDER.name, name)


def content(name):
    with open(path(name), "rb") as file:
        return file.read()


def raw(name, elements):
    """A file of one row: floats, or for indices any integers."""
    with open(path(name), "wb") as file:
        file.write(struct.pack("<%dq" % elements, *(17 * i - 40 for i in range(elements))) if name == "indices" else
                   struct.pack("<%df" % elements, *(0.25 * (i % 5) - 0.5 for i in range(elements))))
    return name


def made(*words):
    """What bench model says of one model."""
    models = fermata_json("bench", "model", *words, "--json", cwd=FOLDER.name)["models"]
    assert len(models) == 1, models
    return models[0]


def answer(model, inputs):
    """What infer says of one row."""
    named = ["%s=%s" % (name, raw(name, elements)) for name, elements in inputs.items()]
    return fermata_json("infer", model, *(named if len(named) > 1 else [next(iter(inputs))]), "--values", "100", "--json", cwd=FOLDER.name)


@test
def every_family_is_inferred():
    for family, words, inputs, outputs in FAMILIES:
        said = made(family, *words.split(), "-o", "all/" + family)
        assert said["file_bytes"] == os.path.getsize(path(said["model_path"])), said
        assert said["config_path"] == "all/%s/model.yaml" % family, said
        assert sum(4 if name != "indices" else 8 for name, n in inputs.items() for _ in range(n)) == said["per_row"]["input_bytes"], said
        found = json.dumps(answer("all/" + family, inputs))
        contains(found, '"y"', "FP32")
        assert said["per_row"]["output_bytes"] == 4 * outputs, said
        assert "null" not in found and "NaN" not in found, found
    # All of them lie in a repository.
    for family, _, inputs, _ in FAMILIES:
        fermata("infer", "all", "--model", family, "--inputs", cwd=FOLDER.name)


@test
def serve_and_batch_take_them():
    """All answer online; offline and online, one row and many, are the same."""
    with Server(path("all")) as server:
        answers = {}
        for family, _, inputs, outputs in FAMILIES:
            shapes = {port["name"]: port["shape"] for port in server.get("/v2/models/%s" % family)["inputs"]}
            rows = 3
            tensors = [tensor(name, [rows, *shapes[name][1:]], "INT64" if name == "indices" else "FP32",
                              [i * 7 - 3 if name == "indices" else i % 11 / 8 - 0.5 for i in range(rows * inputs[name])]) for name in shapes]
            answers[family] = server.infer(family, {"inputs": tensors})["outputs"][0]["data"]
            assert len(answers[family]) == rows * outputs, (family, answers[family])
        server.stop()
    rows = [{"x": [i % 11 / 8 - 0.5 for i in range(7 * row, 7 * row + 7)]} for row in range(3)]
    with open(path("rows.jsonl"), "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with open(path("job.yaml"), "w") as file:
        file.write("pipeline: all/mlp\ninput: {files: rows.jsonl, columns: {x: x}}\noutput: out\n")
    fermata("batch", path("job.yaml"), "--quiet")
    found = []
    for part in sorted(os.listdir(path("out"))):
        if part.startswith("part-"):
            found += [json.loads(line) for line in content("out/" + part).decode().splitlines()]
    offline = [value for row in sorted(found, key=lambda row: row["id"]) for value in row["y"]]
    assert len(offline) == len(answers["mlp"]), found
    assert all(abs(a - b) < 1e-5 for a, b in zip(offline, answers["mlp"])), (offline, answers["mlp"])


@test
def a_single_file_is_a_model():
    out, _ = fermata("bench", "model", "mlp", "-o", "one.onnx", cwd=FOLDER.name)
    contains(out, "mlp layers=2 hidden=256 inputs=128 outputs=10 seed=1", "per row:", "written: one.onnx")
    assert stat.S_IMODE(os.stat(path("one.onnx")).st_mode) & 0o444 == 0o444
    answer("one.onnx", {"x": 128})


@test
def the_seed_makes_the_weights():
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fermata("bench", "model", "lstm", "--hidden", "8", "--seed", seed, "-o", name + ".onnx", cwd=FOLDER.name)
    hashes = [hashlib.sha256(content(name + ".onnx")).hexdigest() for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2], hashes


@test
def nothing_is_written_unless_asked():
    before = sorted(os.listdir(FOLDER.name))
    said = made("mlp", "--layers", "1", "--hidden", "4", "--inputs", "3", "--outputs", "2", "--batch", "2,1000000")
    assert sorted(os.listdir(FOLDER.name)) == before
    assert said["specification"] == {"layers": 1, "hidden": 4, "inputs": 3, "outputs": 2, "seed": 1}, said
    assert said["parameters"] == 26 and said["per_row"]["flop"] == 50, said
    assert [point["batch"] for point in said["traffic"]] == [2, 1000000], said
    assert said["traffic"][0]["bytes_per_row"] == 26 * 4 / 2 + 12 + 8 + 64 and said["traffic"][0]["least_bytes_per_row"] == 72, said
    assert "model_path" not in said, said


@test
def what_is_there_stays():
    fermata("bench", "model", "mlp", "-o", "kept.onnx", cwd=FOLDER.name)
    fermata("bench", "model", "mlp", "-o", "kept", cwd=FOLDER.name)
    before = [content(name) for name in ("kept.onnx", "kept/1/model.onnx", "kept/model.yaml")]
    for name in ("kept.onnx", "kept"):
        out, err = fermata("bench", "model", "mlp", "--seed", "9", "-o", name, code=3, cwd=FOLDER.name)
        contains(err, "is there already, and nothing was written: give another name, or --force")
        assert out == "", out
    assert before == [content(name) for name in ("kept.onnx", "kept/1/model.onnx", "kept/model.yaml")]
    for name in ("kept.onnx", "kept"):
        fermata("bench", "model", "mlp", "--seed", "9", "--force", "-o", name, cwd=FOLDER.name)
    assert content("kept.onnx") == content("kept/1/model.onnx") != before[0]
    contains(content("kept/model.yaml").decode(), "seed=9", "max_batch_size: 32")
    # A link stays one, and what it names is replaced.
    os.symlink("kept.onnx", path("link.onnx"))
    fermata("bench", "model", "mlp", "--seed", "5", "--force", "-o", "link.onnx", cwd=FOLDER.name)
    assert os.path.islink(path("link.onnx")) and content("kept.onnx") != content("kept/1/model.onnx")


@test
def other_things_are_not_written_into():
    for name in ("config.pbtxt", "pipeline.yaml"):
        os.makedirs(path("holds-" + name))
        with open(path("holds-%s/%s" % (name, name)), "w"):
            pass
        err = fermata("bench", "model", "mlp", "--force", "-o", "holds-" + name, code=3, cwd=FOLDER.name)[1]
        contains(err, "holds something else, as its %s says" % name)
        assert os.listdir(path("holds-" + name)) == [name]
    os.makedirs(path("folder.onnx"))
    contains(fermata("bench", "model", "mlp", "--force", "-o", "folder.onnx", code=3, cwd=FOLDER.name)[1], "is no regular file")
    os.mkfifo(path("pipe.onnx"))
    contains(fermata("bench", "model", "mlp", "--force", "-o", "pipe.onnx", code=3, cwd=FOLDER.name)[1], "is no regular file")


@test
def a_model_does_not_hide_others():
    """Not into a repository, nor in place of a link, wherever that leads."""
    fermata("bench", "model", "mlp", "--layers", "1,2", "--hidden", "8", "--output", path("hidden-repository"))
    before = sorted(os.listdir(path("hidden-repository")))
    contains(fermata("bench", "model", "mlp", "--output", path("hidden-repository"), code=None)[1], "holds other things", "give another name")
    assert sorted(os.listdir(path("hidden-repository"))) == before
    os.symlink("nowhere.onnx", path("dangling.onnx"))
    err = fermata("bench", "model", "mlp", "--hidden", "8", "--output", path("dangling.onnx"), code=None)[1]
    contains(err, "a link that leads nowhere", "--force")
    assert os.readlink(path("dangling.onnx")) == "nowhere.onnx" and not os.path.exists(path("nowhere.onnx")), err


@test
def of_two_at_once_one_writes():
    words = [FERMATA, "bench", "model", "mlp", "--hidden", "1000", "--output", path("race.onnx"), "--seed"]
    runs = [subprocess.Popen([*words, str(seed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for seed in range(4)]
    codes = [each.wait(timeout=60) for each in runs]
    assert codes.count(0) == 1, codes


@test
def an_interrupted_one_leaves_nothing():
    os.mkdir(path("interrupted"))
    process = subprocess.Popen([FERMATA, "bench", "model", "mlp", "--hidden", "12000", "--output", path("interrupted/big.onnx")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: os.listdir(path("interrupted")))
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 128 + signal.SIGTERM and os.listdir(path("interrupted")) == [], (process.returncode, err)


@test
def a_disk_that_is_full_leaves_nothing():
    """A limit on the size of files stands for it."""
    os.makedirs(path("full"))
    done = subprocess.run(["sh", "-c", "ulimit -f 100; exec \"$0\" bench model mlp --hidden 2000 -o full/x.onnx", FERMATA], cwd=FOLDER.name,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "cannot write" in done.stderr and "full/x.onnx" in done.stderr, done
    assert os.listdir(path("full")) == [], os.listdir(path("full"))


@test
def several_values_are_a_repository():
    words = ("bench", "model", "mlp", "--layers", "3,1", "--hidden", "8,16", "--inputs", "4", "--batch", "1,4", "-o", "grid")
    names = ["mlp-layers3-hidden8", "mlp-layers3-hidden16", "mlp-layers1-hidden8", "mlp-layers1-hidden16"]
    models = fermata_json(*words, "--json", cwd=FOLDER.name)["models"]
    assert [model["name"] for model in models] == names, models
    assert sorted(os.listdir(path("grid"))) == sorted(names)
    for model in models:
        assert model["model_path"] == "grid/%s/1/model.onnx" % model["name"], model
        alone = made("mlp", "--layers", model["specification"]["layers"], "--hidden", model["specification"]["hidden"], "--inputs", "4", "--batch", "1,4")
        for key in ("specification", "parameters", "per_row", "traffic", "file_bytes"):
            assert alone[key] == model[key], (alone, model)
        fermata("infer", "grid", raw("x", 4), "--model", model["name"], cwd=FOLDER.name)
    # One is there: nothing is written, not even those that would come before it.
    before = {name: content("grid/%s/1/model.onnx" % name) for name in names}
    os.rename(path("grid/" + names[3]), path("moved"))
    contains(fermata(*words, "--seed", "4", code=3, cwd=FOLDER.name)[1], "'grid/mlp-layers3-hidden8/model.yaml' is there already")
    assert not os.path.exists(path("grid/" + names[3]))
    assert all(before[name] == content("grid/%s/1/model.onnx" % name) for name in names[:3])
    out, _ = fermata(*words, "--seed", "4", "--force", cwd=FOLDER.name)
    contains(out, "batch 4", "mlp-layers1-hidden16", "written: 4 models of ")
    assert before[names[0]] != content("grid/%s/1/model.onnx" % names[0])
    out, _ = fermata("bench", "model", "mlp", "--layers", "1,2", cwd=FOLDER.name)
    contains(out, "not written: 2 models of ")


@test
def repositories_that_are_something_else():
    fermata("bench", "model", "mlp", "-o", "taken", cwd=FOLDER.name)
    contains(fermata("bench", "model", "mlp", "--layers", "1,2", "-o", "taken", code=3, cwd=FOLDER.name)[1],
             "'taken' holds something else, as its model.yaml says")
    assert sorted(os.listdir(path("taken"))) == ["1", "model.yaml"]


@test
def the_largest_batch_is_said():
    fermata("bench", "model", "mlp", "--max-batch", "4", "-o", "small", cwd=FOLDER.name)
    contains(fermata("infer", "small", "--inputs", cwd=FOLDER.name)[0], "batches up to 4 rows")


run()
