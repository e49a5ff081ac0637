"""fermata profile on emulated models whose l(b) is known, and on the real orientation model when it is there."""
import os
import re
import resource
import signal
import subprocess
import tempfile
import xml.dom.minidom

from tap import FERMATA, MODELS, Skip, contains, fermata, fermata_json, run, test

FOLDER = tempfile.TemporaryDirectory()


def model(name, settings):
    folder = os.path.join(FOLDER.name, name)
    os.makedirs(os.path.join(folder, "1"))
    with open(os.path.join(folder, "model.yaml"), "w") as file:
        file.write("backend: emulated\nmax_batch_size: 16\nsettings: {inputs: 'x:FP32[-1,4]', outputs: 'y:FP32[-1,4]', %s}\n" % settings)
    return folder


AFFINE = model("affine", "alpha: 1ms, beta: 4ms")
CONVEX = model("convex", "latency: '1:10ms, 4:80ms'")
STEEP = model("steep", "alpha: 30ms, beta: 40ms")
QUICK = ("--duration", "60ms", "--rounds", "3")


@test
def the_table_is_that_of_the_model():
    found = fermata_json("profile", AFFINE, "--batch", "1,4,16", "--instances", "1,2", *QUICK, "--no-save", "--json")
    assert found["complete"] and found["model"] == "affine" and found["backend"] == "emulated", found
    assert [(s["threads"], s["instances"]) for s in found["settings"]] == [(1, 1), (1, 2)], found["settings"]
    for setting in found["settings"]:
        for point in setting["points"]:
            expected = (4 + point["batch"]) * 1e6
            assert expected <= point["p50_ns"] <= expected * 5, point
            assert point["p50_ns"] <= point["p90_ns"] <= point["p99_ns"] and point["samples"] >= 3, point
            assert 0.1 < point["rate"] / (setting["instances"] * point["batch"] * 1e9 / expected) <= 1.01, point
            assert point["rate_low"] <= point["rate"] <= point["rate_high"], point
    assert found["recommended"]["instances"] == 2 and found["recommended"]["batch"] == 16, found["recommended"]


@test
def small_batches_win_where_latency_is_convex():
    found = fermata_json("profile", CONVEX, "--batch", "1,4", "--instances", "1", "--duration", "200ms", "--rounds", "3", "--no-save", "--json")
    assert found["recommended"]["batch"] == 1 and found["settings"][0]["knee"] == 1, found


@test
def the_slo_limits_the_choice():
    found = fermata_json("profile", STEEP, "--batch", "1,4,16", "--instances", "1", *QUICK, "--slo", "500ms", "--no-save", "--json")
    assert found["recommended"]["batch"] == 4, found["recommended"]
    found = fermata_json("profile", AFFINE, "--batch", "1", "--instances", "1", *QUICK, "--slo", "1ms", "--no-save", "--json")
    assert found["recommended"] is None
    contains(fermata("profile", AFFINE, "--batch", "1", "--instances", "1", *QUICK, "--slo", "1ms", "--no-save")[0], "Nothing that was measured keeps p99 within 1 ms")


@test
def files_are_written_where_asked():
    yaml = os.path.join(FOLDER.name, "out.yaml")
    out, _ = fermata("profile", AFFINE, "--batch", "1,2", "--instances", "1", *QUICK, "--output", yaml)
    contains(out, "Wrote " + yaml, "Recommended:", "knee: batch", "rows per second", "batch size (rows)")
    assert max(map(len, out.splitlines())) <= 100
    with open(yaml) as file:
        contains(file.read(), "format: fermata-profile/1", "complete: true", "recommended: {threads: 1, instances: 1, batch: 2}", "batch: 1, samples:")
    picture = xml.dom.minidom.parse(os.path.join(FOLDER.name, "out.svg"))
    text = picture.toxml()
    contains(text, "prefers-color-scheme: dark", "batch size (rows)", "rows per second", "latency of a batch, ms", "(recommended)", "Latency profile of affine")
    fermata("profile", AFFINE, "--batch", "1", "--instances", "1", *QUICK, cwd=FOLDER.name)
    assert os.path.exists(os.path.join(FOLDER.name, "affine.profile.yaml")) and os.path.exists(os.path.join(FOLDER.name, "affine.profile.svg"))
    out, err = fermata("profile", AFFINE, "--batch", "1", "--instances", "1", *QUICK, "--output", "/nonexistent/x.yaml", code=3)
    assert out == ""  # said before anything is measured
    contains(err, "/nonexistent")


def disk_full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@test
def what_was_measured_is_shown_where_it_cannot_be_written():
    late = os.path.join(FOLDER.name, "late.yaml")
    done = subprocess.run([FERMATA, "profile", AFFINE, "--batch", "1", "--instances", "1", *QUICK, "--output", late],
                          capture_output=True, text=True, timeout=60, preexec_fn=disk_full)
    assert done.returncode == 1, done
    contains(done.stdout, "Recommended:")
    contains(done.stderr, "late.yaml", "File too large")
    assert not [name for name in os.listdir(FOLDER.name) if name.startswith("late")], os.listdir(FOLDER.name)


@test
def ctrl_c_keeps_what_was_measured():
    yaml = os.path.join(FOLDER.name, "partial.yaml")
    terminal, theirs = os.openpty()  # what is measured is told on a terminal only
    process = subprocess.Popen([FERMATA, "profile", AFFINE, "--batch", "1,4", "--instances", "1", "--duration", "60s", "--rounds", "100", "-o", yaml],
                               stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    said = b""
    while not re.search(rb" [3-9]/\d+:", said):
        said += os.read(terminal, 1000)
    process.send_signal(signal.SIGINT)
    try:
        while True:
            said += os.read(terminal, 1000)
    except OSError:  # the other end is closed, and all of it read
        os.close(terminal)
    process.communicate(timeout=60)
    assert process.returncode == 5, (process.returncode, said)
    contains(said.decode(), "interrupted", "marked as incomplete")
    with open(yaml) as file:
        contains(file.read(), "complete: false", "batch: ")


@test
def mistakes_are_explained():
    contains(fermata("profile", AFFINE, "--input-shape", "x=3", code=2)[1], "fixed at 4, not 3")
    contains(fermata("profile", AFFINE, "--input-shape", "x=1,4", code=2)[1], "give 1 sizes (without the batch), not 2")
    contains(fermata("profile", AFFINE, "--input-shape", "z=4", code=2)[1], "'z', which is not an input of the model; its first is 'x'")
    contains(fermata("profile", AFFINE, "--input-shape", "x=a", code=2)[1], "--input-shape", "'a' is not a size")
    contains(fermata("profile", AFFINE, "--set", "alhpa=1ms", code=3)[1], "alhpa")
    contains(fermata("profile", AFFINE, "--set", "x", code=2)[1], "--set: 'x' is not KEY=VALUE")
    contains(fermata("profile", AFFINE, "--vary", "x", code=2)[1], "--vary: 'x' is not KEY=VALUE")
    contains(fermata("profile", AFFINE, "--instances", "64", "--threads", "1024", code=3)[1], "--oversubscribe")
    contains(fermata("profile", AFFINE, "--output", "x.svg", *QUICK, "-b", "1", code=2)[1], "--output is the profile file (.yaml)")


@test
def settings_can_be_varied():
    found = fermata_json("profile", AFFINE, "--batch", "1", "--instances", "1", "--vary", "alpha=1ms,20ms", *QUICK, "--no-save", "--json")
    rates = {setting["options"]: setting["points"][0]["rate"] for setting in found["settings"]}
    assert rates["alpha=1ms"] > 2 * rates["alpha=20ms"], rates
    assert found["recommended"]["options"] == "alpha=1ms"


@test
def the_real_model_is_measured():
    cls = os.path.join(MODELS, "ocr/cls")
    if not os.path.isdir(cls):
        raise Skip("no models here; tools/setup fetches them")
    if "thread" in os.environ.get("FM_SANITIZE", ""):
        raise Skip("ONNX Runtime's own thread pool is not built for ThreadSanitizer")
    _, err = fermata("profile", cls, code=2)
    contains(err, "one row of input 'x' is [3,-1,-1]", "--input-shape x=3,64,64")
    found = fermata_json("profile", cls, "--input-shape", "x=3,48,192", "--batch", "1,2", *QUICK, "--no-save", "--json", timeout=110)
    settings = {(s["threads"], s["instances"]) for s in found["settings"]}
    assert (1, 1) in settings and all(s["points"] for s in found["settings"]), found
    assert re.search(r"CPU", found["machine"]), found["machine"]


run()
