"""The program under small limits of the shell it was started from: stacks (ulimit -s) and files (ulimit -f)."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import Job  # noqa: E402
from tap import FERMATA, MODELS, Skip, contains, fermata, run, test  # noqa: E402


def under(limit, *arguments, code=0):
    """Runs the program after `ulimit LIMIT`, soft and hard."""
    done = subprocess.run(["sh", "-c", "ulimit %s && exec \"$@\"" % limit, "sh", FERMATA, *map(str, arguments)], capture_output=True, timeout=120)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, "ulimit %s: fermata %s: exit code %d, expected %d\nstdout: %s\nstderr: %s" % (
        limit, " ".join(map(str, arguments)), done.returncode, code, out[-2000:], err[-2000:])
    return out, err


def skip_if_sanitized():
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("sanitizers need stack of their own before main()")


@test
def a_small_stack_is_enough_for_batch():
    skip_if_sanitized()
    for size in (64, 48):
        with Job(count=40) as job:
            under("-s %d" % size, "batch", job.file, "--quiet")
            job.check_complete()


@test
def a_small_stack_is_enough_for_operators_and_pipelines():
    skip_if_sanitized()
    with tempfile.TemporaryDirectory(prefix="fermata-limits-") as folder:
        path = pathlib.Path(folder)
        (path / "m" / "1").mkdir(parents=True)
        (path / "m" / "model.yaml").write_text('backend: identity\nmax_batch_size: 4\nsettings: {inputs: "x:FP32[-1,3]"}\n')
        (path / "p").mkdir()
        (path / "p" / "pipeline.yaml").write_text(
            "inputs: [{name: x, dtype: FP32, shape: [3]}]\nstages:\n  - {name: a, model: m, inputs: x}\n"
            "  - {name: b, operator: softmax, inputs: a}\noutputs: {y: b}\n")
        (path / "x.json").write_text('{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]}]}')
        out, _ = under("-s 64", "infer", path / "p" / "pipeline.yaml", path / "x.json", "--json")
        values = json.loads(out)["results"][0]["outputs"][0]["data"]
        assert abs(sum(values) - 1) < 1e-5 and values[2] > values[0], out


@test
def a_small_stack_is_enough_for_a_real_model():
    skip_if_sanitized()
    models = sorted(pathlib.Path(MODELS).rglob("*.onnx"), key=lambda p: p.stat().st_size) if MODELS else []
    if not models:
        raise Skip("no models: tools/setup fetches them")
    out, _ = under("-s 64", "profile", models[0], "--batch", "1,2", "--threads", "2", "--instances", "2", "--oversubscribe", "--duration", "20ms",
                   "--rounds", "1", "--input-shape", "x=3,48,192", "--no-save", "--json")
    json.loads(out)


@test
def a_misspelt_pipeline_is_explained_on_a_small_stack():
    skip_if_sanitized()
    with Job(count=1) as job:
        job.file.write_text(job.file.read_text().replace("pipeline:", "pipelin:"))
        _, err = under("-s 64", "batch", job.file, code=3)
        contains(err, "pipelin")


@test
def a_file_at_its_limit_ends_the_job_and_it_can_go_on():
    with Job(count=0, keys="shard_rows: 200\n") as job:
        for i in range(400):
            (job.path / "in" / ("row-%04d" % i)).write_text("%04d" % i * 1000)
        _, err = under("-f 600", "batch", job.file, "--quiet", code=6)
        contains(err, "File too large", "--resume")
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


run()
