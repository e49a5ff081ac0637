"""Process operators in `infer`, `serve` and `batch`: the examples, a process that hangs, ends of all kinds, a script that changes."""
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from batch_job import ECHO_MODEL, Job
from process_job import all_gone, pipeline_write, processes_of
from serving import Server, tensor
from tap import FERMATA, ROOT, contains, fermata, fermata_json, run, test

EXAMPLE = os.path.join(ROOT, "examples", "process-operator")


def text_request(text):
    return {"inputs": [tensor("x", [1], "BYTES", data=[text])]}


@test
def the_example_in_python():
    out = fermata_json("infer", os.path.join(EXAMPLE, "pipeline.yaml"), "-", "--json", stdin=b"Hold this note until the conductor says go, Fermata")
    assert out["results"][0]["outputs"][0]["data"] == [3, 4, 2, 5, 1, 6, 7, 8, 0], out
    err = fermata("infer", os.path.join(EXAMPLE, "pipeline.yaml"), "-", code=None, stdin=b"\xff\xfe")[1]
    contains(err, "UnicodeDecodeError")


@test
def the_example_in_c():
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(os.path.join(os.environ["FM_BUILD_ROOT"], "examples", "process-operator", "normalize"), directory)
        with open(os.path.join(EXAMPLE, "normalize.yaml")) as file, open(directory + "/normalize.yaml", "w") as copy:
            copy.write(file.read())
        request = {"inputs": [tensor("x", [3], "FP32", data=[1, 2, 4])]}
        out = fermata_json("infer", directory + "/normalize.yaml", "-", "--json", stdin=json.dumps(request).encode())
        assert out["results"][0]["outputs"][0]["data"] == [0.25, 0.5, 1], out
        request["inputs"][0]["data"] = [-1, 0, -4]
        err = fermata("infer", directory + "/normalize.yaml", "-", code=None, stdin=json.dumps(request).encode())[1]
        contains(err, "operator 'process': no number is above 0")


@test
def a_program_that_is_not_there_or_does_not_start():
    with tempfile.TemporaryDirectory() as directory:
        path = pipeline_write(directory, "p.yaml", start="exit")
        err = fermata("infer", path, "-", code=None, stdin=b"text")[1]
        contains(err, "p.yaml:4:5: stage 'step': operator 'process': process ", "ended with exit code 3 while it started", "'no such vocabulary'")
        # Only looked at, it is not started.
        fermata("infer", path, "--inputs")
        path.write_text(path.read_text().replace("python3", "no-such-python"))
        contains(fermata("infer", path, "--inputs", code=None)[1], "there is no program 'no-such-python' on PATH")
        all_gone(directory)


@test
def where_memory_cannot_be_shared_tensors_go_through_pipes():
    with tempfile.TemporaryDirectory() as directory:
        path = pipeline_write(directory, "p.yaml", start="shared")
        limited = ["bash", "-c", 'ulimit -f 1024; exec "$0" "$@"', FERMATA, "infer", path, "-", "--json"]
        text = "x" * 100000  # large enough to be shared
        done = subprocess.run(limited, input=text.encode(), capture_output=True)
        assert done.returncode == 0, done.stderr
        plain = fermata_json("infer", path, "-", "--json", stdin=text.encode())
        assert json.loads(done.stdout)["results"][0]["outputs"] == plain["results"][0]["outputs"] and text in json.dumps(plain)
        said = [line for line in done.stderr.decode().splitlines() if "shared_memory" in line]
        assert len(said) == 1, done.stderr
        contains(said[0], "stage 'step': cannot share 134217728 bytes of memory with a process: File too large; tensors go through pipes")
        path = pipeline_write(directory, "p.yaml", more="shared_memory: 0")
        done = subprocess.run(limited, input=text.encode(), capture_output=True)
        assert done.returncode == 0 and b"shared_memory" not in done.stderr, done.stderr
        all_gone(directory)


@test
def online_a_process_that_hangs_holds_up_its_own_pipeline_only():
    with tempfile.TemporaryDirectory() as directory:
        models = os.path.join(directory, "models")
        pipeline_write(os.path.join(models, "slow"), "pipeline.yaml", more="time_limit: 2s\n      attempts: 1")
        pipeline_write(os.path.join(models, "good"), "pipeline.yaml")
        os.makedirs(os.path.join(models, "echo"))
        with open(os.path.join(models, "echo", "model.yaml"), "w") as file:
            file.write(ECHO_MODEL)
        with Server(models) as server:
            hung = []
            thread = threading.Thread(target=lambda: hung.append(server.infer("slow", text_request("hang"), status=503)))
            thread.start()
            for i in range(30):
                assert server.infer("good", text_request("item %d" % i))["outputs"][0]["data"] == ["item %d" % i]
                server.infer("echo", {"inputs": [tensor("x", [1, 1], "BYTES", data=["text"])]})
            assert thread.is_alive()
            thread.join()
            contains(hung[0]["error"], "has not answered within 2 s (time_limit)")
            status, _, body = server.request("POST", "/v2/models/slow/infer", json.dumps(text_request("exit 3")).encode())
            assert status == 500, (status, body)
            contains(body.decode(), "ended with exit code 3", "'with 3'")
            server.wait_log("has not answered within 2 s (time_limit)")
            server.wait_log("about to exit")
            assert server.infer("slow", text_request("again"))["outputs"][0]["data"] == ["again"]
            status, _, body = server.request("POST", "/v2/models/good/infer", json.dumps(text_request("fail no such word")).encode())
            assert status == 400 and "no such word" in body.decode(), (status, body)
            assert processes_of(os.path.join(models, "slow")) and processes_of(os.path.join(models, "good"))
        all_gone(os.path.join(models, "slow"))
        all_gone(os.path.join(models, "good"))


def quiet_request(server, text):
    try:
        server.request("POST", "/v2/models/p/infer", json.dumps(text_request(text)).encode())
    except (OSError, http.client.HTTPException):
        pass  # the server is killed meanwhile


@test
def processes_die_with_the_server_however_it_dies():
    with tempfile.TemporaryDirectory() as directory:
        for number, busy in (signal.SIGTERM, "sleep 1"), (signal.SIGKILL, "hang"):
            path = pipeline_write(directory, "p.yaml", more="processes: 3")
            server = Server(path)
            assert server.infer("p", text_request("text"))["outputs"][0]["data"] == ["text"]
            assert len(processes_of(directory)) == 3
            # One of them has something to do just then, and does not see its pipes close.
            thread = threading.Thread(target=quiet_request, args=(server, "say busy"))
            thread.start()
            server.wait_log(": busy")
            thread.join()
            thread = threading.Thread(target=quiet_request, args=(server, busy))
            thread.start()
            time.sleep(0.2)
            server.process.send_signal(number)
            server.process.wait(60)
            all_gone(directory)
            thread.join()


def job_with(job, more="", start="tag"):
    pipeline_write(job.path / "pipe", "pipeline.yaml", start, more)
    job.file.write_text(job.file.read_text().replace("pipeline: model", "pipeline: pipe/pipeline.yaml"))
    return job


@test
def batch_rows_that_fail_and_rows_that_end_their_process():
    with job_with(Job(count=60)) as job:
        (job.path / "in" / "row-0007").write_text("fail not this one")
        (job.path / "in" / "row-0020").write_text("signal 11")
        (job.path / "in" / "row-0031").write_text("garbage")
        fermata("batch", job.file, "--dry-run")
        fermata("batch", job.file, code=4)
        job.check_complete()
        letters = {line["id"]: line for line in job.lines("errors")}
        assert sorted(letters) == ["row-0007", "row-0020", "row-0031"], letters
        assert all(letter["stage"] == "step" for letter in letters.values())
        contains(letters["row-0007"]["message"], "not this one")
        contains(letters["row-0020"]["message"], "tried 2 times", "signal 11 (Segmentation fault)")
        contains(letters["row-0031"]["message"], "it wrote 'Hell'")
        all_gone(job.path / "pipe")


@test
def batch_does_not_resume_with_another_script():
    with job_with(Job(count=20)) as job:
        fermata("batch", job.file, "--limit", 10)
        script = job.path / "pipe" / "peer.py"
        text = script.read_text()
        script.write_text(text + "# changed\n")
        contains(fermata("batch", job.file, "--resume", code=3)[1], "pipeline")
        script.write_text(text)
        fermata("batch", job.file, "--resume")
        job.check_complete()


run()
