"""What the batch tests share: small jobs over files, the check that every input has exactly one line, and processes of a job."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from tap import FERMATA

ECHO_MODEL = """backend: identity
max_batch_size: 8
settings: {inputs: "x:BYTES[-1,1]"}
"""
SLOW_MODEL = """backend: emulated
max_batch_size: 4
instances: 2
settings: {inputs: "x:BYTES[-1,1]", outputs: "y:FP32[-1,2]", alpha: 1ms, beta: 40ms}
"""
TABLE_MODEL = """backend: identity
max_batch_size: 16
settings: {inputs: "x:FP32[-1,3], t:INT64[-1], name:BYTES[-1,1]"}
"""
NAME_MODEL = """backend: identity
max_batch_size: 16
settings: {inputs: "name:BYTES[-1,1]"}
"""
COLUMNS = "columns: {x: [a, b, c], t: d, name: user}, id: user"

OPERATOR_PIPELINE = """name: crash
plugins: [%s/libfm_operator_test_crash.so]
inputs:
  - {name: x, dtype: BYTES, shape: [1]}
stages:
  - {name: crash, operator: test_crash, inputs: x}
outputs: {out_x: crash.out}
""" % os.environ.get("FM_TEST_PLUGINS", "")


class Job:
    """A directory with a model, inputs and a job file; removed at the end of `with`."""

    def __init__(self, count=40, model=ECHO_MODEL, keys="shard_rows: 7\nrows_in_flight: 16\n", input="{files: in}", output="{directory: out, timings: false}",
                 directory=None):
        self.path = pathlib.Path(directory or tempfile.mkdtemp(prefix="fermata-batch-"))
        (self.path / "model").mkdir()
        (self.path / "in").mkdir()
        (self.path / "model" / "1").mkdir()
        (self.path / "model" / "model.yaml").write_text(model)
        self.file = self.path / "job.yaml"
        self.file.write_text("name: test\npipeline: model\ninput: %s\noutput: %s\n%s" % (input, output, keys))
        self.out = self.path / "out"
        self.add(0, count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def add(self, first, count):
        for i in range(first, first + count):
            (self.path / "in" / ("row-%04d" % i)).write_text("text of row %d" % i)

    def lines(self, folder=""):
        found = []
        for part in sorted((self.out / folder).glob("part-*.jsonl")):
            text = part.read_bytes()
            assert text == b"" or text.endswith(b"\n"), "%s ends in the middle of a line" % part
            found += [json.loads(line) for line in text.splitlines()]
        return found

    def manifest(self):
        return json.loads((self.out / "_manifest.json").read_text())

    def check_complete(self, inputs=None):
        """Every input once, as a line or as a dead letter; the manifest says the same; nothing is left over."""
        expected = sorted(inputs if inputs is not None else (str(p.relative_to(self.path / "in")) for p in (self.path / "in").rglob("*") if not p.is_dir()))
        good = [line["id"] for line in self.lines()]
        bad = [line["id"] for line in self.lines("errors")]
        assert sorted(good + bad) == expected, "lines %d + %d, inputs %d" % (len(good), len(bad), len(expected))
        manifest = self.manifest()
        assert manifest["complete"] and manifest["rows_in"] == len(expected)
        assert manifest["rows_out"] == len(good) and manifest["dead_letters"] == len(bad)
        assert (self.out / "_SUCCESS").exists()
        assert os.listdir(self.out / "stage") == []
        rows = 0
        for part in manifest["parts"]:
            text = (self.out / part["part"]).read_bytes()
            assert part["bytes"] == len(text) and part["checksum"] == "%016x" % fnv1a64(text), part
            assert part["first_row"] == rows, "the parts of the manifest leave a hole before row %d" % part["first_row"]
            rows += part["rows_in"]
        assert len(list(self.out.glob("part-*.jsonl"))) == len(manifest["parts"])
        for line in self.lines():
            if "out_x" in line:
                assert line["out_x"] == (self.path / "in" / line["id"]).read_text(), line


def fnv1a64(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


class Rows(Job):
    """A job over one or several files, `files` by name."""

    def __init__(self, files, given=COLUMNS, model=TABLE_MODEL, output="{directory: out}", keys="shard_rows: 40\n"):
        pattern = "in/*" + os.path.splitext(next(iter(files)))[1]
        super().__init__(count=0, model=model, keys=keys, input="{files: '%s', %s}" % (pattern, given), output=output)
        for name, text in files.items():
            self.put(name, text)

    def put(self, name, text):
        (self.path / "in" / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def results(self):
        return {line["id"]: line for line in self.lines()}

    def letters(self):
        return {line["id"]: line for line in self.lines("errors")}


def read_back(job, sink, passed):
    """The parts as another job reads them: every column as it is passed to lines of JSON."""
    with Rows({"x": ""}, given="columns: {name: id}, id: id", model=NAME_MODEL, output="{directory: out, passthrough: [%s]}" % ", ".join(passed)) as again:
        (again.path / "in" / "x").unlink()
        for part in job.out.glob("part-*." + sink):
            shutil.copy(part, again.path / "in")
        again.file.write_text(again.file.read_text().replace("in/*", "in/*." + sink))
        subprocess.run([FERMATA, "batch", again.file, "--quiet"], check=True)
        results = again.results()
        assert len(again.lines()) == len(results), "an id is there twice"
        for key, row in results.items():
            assert row.pop("out_name") == key
        return results


class OperatorJob(Job):
    """A job whose only stage is the test's operator, which does what the rows say."""

    def __init__(self, count, rows=None, keys=""):
        super().__init__(count=count, keys=keys)
        (self.path / "pipeline.yaml").write_text(OPERATOR_PIPELINE)
        self.file.write_text(self.file.read_text().replace("pipeline: model", "pipeline: pipeline.yaml"))
        for i, text in (rows or {}).items():
            (self.path / "in" / ("row-%04d" % i)).write_text(text)


def start(job, *arguments):
    return subprocess.Popen([FERMATA, "batch", job.file, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers_of(process):
    """The workers that `process` has started; LeakSanitizer has a child of its own there, which must not be killed."""
    workers = []
    try:
        with open("/proc/%d/task/%d/children" % (process.pid, process.pid), encoding="ascii") as children:
            for word in children.read().split():
                with open("/proc/%s/cmdline" % word, "rb") as line:
                    if line.read().split(b"\0")[1:2] == [b"worker"]:
                        workers.append(int(word))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return workers


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come")


def end_of(process, code, seconds=120):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == code, "exit code %d, expected %d: %s" % (process.returncode, code, err)
    return out, err


def signalled(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def listening(process):
    """Where a master listens: it says so on its standard error."""
    for line in process.stderr:
        if "listening for workers" in line:
            return line.split("--join ")[1].split()[0]
    raise AssertionError("the master did not say where it listens")
