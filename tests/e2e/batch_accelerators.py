"""Stages of a pipeline on accelerators of their own: where their batches run, what is shown of it, and what is refused."""
import http.client
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import ECHO_MODEL, Job, end_of, wait_for  # noqa: E402
from tap import FERMATA, contains, fermata, run, test  # noqa: E402

PIPELINE = """models: models
inputs:
  - {name: x, dtype: BYTES, shape: [1]}
stages:
  - {name: detect, model: detect, inputs: x%s}
  - {name: classify, model: classify, inputs: x%s}
  - {name: page, operator: image_decode, inputs: x}
outputs: {d: detect, c: classify}
"""
MODEL = 'backend: emulated\nmax_batch_size: 1\nsettings: {inputs: "x:BYTES[-1,1]", outputs: "y:FP32[-1,1]", alpha: 0ms, beta: %dms}\n'
MS = 20  # of a batch of either model
APART = "{groups: 'front=emulated:1,back=emulated:2', stages: {detect: front, classify: back}}"


class Pipeline(Job):
    """Rows that go through two models, with `accelerators` for the job file."""

    def __init__(self, count, accelerators, detect="", classify="", operator=False):
        super().__init__(count=count, keys="shard_rows: 10\nrows_in_flight: 16\n")
        for name in ("detect", "classify"):
            (self.path / "models" / name).mkdir(parents=True)
            (self.path / "models" / name / "model.yaml").write_text(MODEL % MS)
        text = PIPELINE % (detect, classify)
        self.pipeline = self.path / "pipeline.yaml"
        self.pipeline.write_text(text if operator else "".join(line for line in text.splitlines(True) if "operator:" not in line))
        self.given = self.file.read_text().replace("pipeline: model\n", "pipeline: pipeline.yaml\n")
        self.set(accelerators)

    def set(self, accelerators):
        self.file.write_text(self.given + ("accelerators: %s\n" % accelerators if accelerators else ""))

    def refused(self, *words):
        _, err = fermata("batch", self.file, code=3)
        contains(err, *words)
        assert not self.out.exists()


def seconds_of(job):
    begin = time.monotonic()
    fermata("batch", job.file)
    job.check_complete()
    return time.monotonic() - begin


@test
def stages_of_one_accelerator_take_turns():
    count = 50
    for accelerators in ("{groups: 'one=emulated:1', stages: {detect: one, classify: [one]}}", "one=emulated:1"):
        with Pipeline(count, accelerators) as job:
            assert seconds_of(job) >= 2 * count * MS / 1000
    # Of several they do not, whatever `instances` says.
    count = 150
    with Pipeline(count, "{groups: 'front=emulated:1,back=emulated:8', stages: {detect: back, classify: back}}", detect=", instances: 1") as job:
        assert 2 * count * MS / 1000 / 8 <= seconds_of(job) < 2 * count * MS / 1000


def page_of(job, *arguments):
    """The job begun, and what gets its pages."""
    child = subprocess.Popen([FERMATA, "batch", job.file, "--page", "127.0.0.1:0", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        if "a page about the job: " in line:
            address = line.split("http://")[1].strip().rstrip("/")
            break

    def get(path):
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    return child, get


def batches_of(text):
    """By accelerator, of /metrics."""
    return {name: int(count) for name, count in re.findall(r'fermata_batch_worker_accelerator_batches_total\{.*accelerator="([^"]*)"\} (\d+)', text)}


def used_of(accelerators, last, **stages):
    """What the accelerators have done when there are some batches of the one named last, and what the pages say."""
    with Pipeline(500, accelerators, **stages) as job:
        child, get = page_of(job)
        wait_for(lambda: batches_of(get("/metrics")).get(last, 0) >= 10)
        fermata("job", "pause", job.out)
        wait_for(lambda: json.loads(get("/status.json"))["rows_in_work"] == 0)
        before = None
        while batches_of(get("/metrics")) != before:  # what a beat told when nothing ran any more
            before = batches_of(get("/metrics"))
            time.sleep(2.5)
        said = {"counts": before, "rows": json.loads(get("/status.json"))["rows_done"], "metrics": get("/metrics"), "status": get("/status.json"), "page": get("/"),
                "show": fermata("job", "show", job.out)[0]}
        child.terminate()
        end_of(child, 143)
        return said


@test
def where_batches_run_is_shown():
    said = used_of("{groups: 'front=emulated:1,back=emulated:2,idle=emulated:1', stages: {detect: front, classify: back}}", "back.1")
    counts = said["counts"]
    assert sorted(counts) == ["back.0", "back.1", "front", "idle"], counts
    assert counts["idle"] == 0 and counts["front"] == said["rows"] == counts["back.0"] + counts["back.1"], said
    contains(said["metrics"], "# TYPE fermata_batch_worker_accelerator_busy_seconds_total counter", 'accelerator="front"} ')
    front = json.loads(said["status"])["workers"][0]["accelerators"][0]
    assert front["name"] == "front" and front["batches"] == counts["front"] and front["busy_seconds"] >= 0.9 * counts["front"] * MS / 1000, front
    contains(said["page"], "; accelerators: front ", " batches, back.0 ")
    assert re.search(r"  accelerators: front busy for [0-9.]+ s in %d batches, back\.0 busy for " % counts["front"], said["show"]), said["show"]


@test
def the_job_file_goes_before_the_pipeline_file():
    counts = used_of("a=emulated:1,b=emulated:1", "b", detect=", accelerators: a", classify=", accelerators: [b]")["counts"]
    assert counts["a"] == counts["b"], counts
    counts = used_of("{groups: 'a=emulated:1,b=emulated:1', stages: {classify: a}}", "a", detect=", accelerators: [a]", classify=", accelerators: [b]")["counts"]
    assert counts["b"] == 0, counts


@test
def a_job_is_resumed_on_other_accelerators():
    with Pipeline(30, APART) as job:
        fermata("batch", job.file, "--limit", 10)
        for accelerators in ("{groups: 'emulated:3', stages: {detect: emulated}}", ""):
            job.set(accelerators)
            fermata("batch", job.file, "--limit", 20 if accelerators else 30, "--resume")
        job.check_complete()
        # What the pipeline file says is a part of the pipeline.
        job.pipeline.write_text(PIPELINE.replace("  - {name: page, operator: image_decode, inputs: x}\n", "") % (", accelerators: front", ""))
        _, err = fermata("batch", job.file, "--resume", code=3)
        contains(err, "pipeline")


@test
def workers_of_a_job_have_the_same_accelerators_each():
    with Pipeline(80, APART) as job:
        fermata("batch", job.file, "--workers", 2)
        job.check_complete()


@test
def a_host_has_accelerators_of_its_own():
    with Pipeline(60, APART) as job:
        (job.path / "token").write_text("0123456789abcdef" * 4 + "\n")
        child, get = page_of(job, "--workers", "0", "--listen", "127.0.0.1:0", "--token-file", job.path / "token")
        where = "unix:%s" % (job.out / ".fermata" / "master.sock")
        wait_for(lambda: os.path.exists(where[5:]))
        # One of these the stages do not find.
        _, err = fermata("worker", "--join", where, "--accelerators", "front=emulated:1", code=3)
        contains(err, "stage 'classify'", "accelerators 'back', but there are only front (emulated)")
        _, err = fermata("worker", "--join", where, "--accelerators", "front=emulated:60,back=emulated:60", code=3)
        contains(err, "--accelerators: these are 120 accelerators")
        worker = subprocess.Popen([FERMATA, "worker", "--join", where, "--accelerators", "front=emulated:1,back=emulated:1"])
        counts = wait_for(lambda: (lambda found: found if found.get("back", 0) > 3 else None)(batches_of(get("/metrics"))))
        assert sorted(counts) == ["back", "front"], counts
        assert worker.wait(60) == 0
        end_of(child, 0)
        job.check_complete()


@test
def what_no_job_can_mean_is_refused():
    wrong = {
        "{groups: 'front=emulated:1', stages: {detect: rear}}": ("pipeline.yaml:5:5: stage 'detect'", "accelerators 'rear', but there are only front (emulated)"),
        "{groups: 'front=emulated:1', stages: {detct: front}}": ("the stage 'detct', which", "does not have; did you mean 'detect'?"),
        "{groups: 'front=emulated:1', stages: {detect: front, detect: front}}": ("detect",),
        "{groups: 'front=emulated:1', stages: {detect: [front, front]}}": ("job.yaml:7:", "the accelerators 'front' are named twice"),
        "{groups: 'front=emulated:1', stages: {detect: []}}": ("job.yaml:7:", "the name of a group, or a list of 1 to 8"),
        "{groups: 'front=emulated:1', stages: {detect: }}": ("name the accelerators of stage 'detect'",),
        "{groups: 'front=emulated:1', stages: {detect: {a: b}}}": ("job.yaml:7:", "the name of a group, or a list of 1 to 8"),
        "{groups: 'front=emulated:1', stages: {detect: 'a b'}}": ("'a b' is no name of a group",),
        "{groups: 'front=emulated:1', stages: [detect]}": ("job.yaml:7:",),
        "{groups: 'front=emulated:1', stage: {detect: front}}": ("unknown key 'stage'", "did you mean 'stages'?"),
        "{groups: 'emulated:1,emulated:2'}": ("two groups of accelerators are called 'emulated'",),
        "{groups: [front]}": ("job.yaml:7:",),
        "{stages: {detect: front}}": ("missing key 'groups'",),
        "front=warp:1": ("'warp' is no kind of accelerators",),
        "front=emulated:65": ("these are 65 accelerators, and a worker may have 64",),
        "[front]": ("job.yaml:7:",),
        "{groups: 'front=gpu:1,back=emulated:1', stages: {detect: front}}": ("stage 'detect'", "accelerators that its model may not use"),
    }
    with Pipeline(3, "") as job:
        for accelerators, words in wrong.items():
            job.set(accelerators)
            job.refused(*words)
    with Pipeline(3, "{groups: 'front=emulated:1', stages: {page: front}}", operator=True) as job:
        job.refused("the stage 'page', which is an operator: only models run on accelerators")
    with Job(3, model=ECHO_MODEL, keys="accelerators: {groups: 'front=cpu:1', stages: {detect: front}}\n") as job:
        _, err = fermata("batch", job.file, code=3)
        contains(err, "'model' is one model and has no stages")
    with Job(3, model=ECHO_MODEL, keys="accelerators: cpu:2\n") as job:
        fermata("batch", job.file)
        job.check_complete()


@test
def a_pipeline_says_where_it_runs_and_what_has_no_effect():
    with Pipeline(3, "", detect=", accelerators: front") as job:
        _, err = fermata("batch", job.file)
        contains(err, "the 'accelerators' of stage 'detect' have no effect, because no groups of accelerators are given")
        job.check_complete()
    for detect, words in {", accelerators: {a: b}": "pipeline.yaml:5:", ", accelerators: [a, a]": "named twice"}.items():
        with Pipeline(3, "", detect=detect) as job:
            job.refused(words)
    with Pipeline(3, "", operator=True) as job:
        job.pipeline.write_text(job.pipeline.read_text().replace("operator: image_decode,", "operator: image_decode, accelerators: a,"))
        job.refused("'accelerators'")


run()
