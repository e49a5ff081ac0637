"""perf/serve_*: the measurements of the server still run (nothing is judged here), and the load generator tells right answers from wrong ones."""
import json
import os
import subprocess
import sys

from tap import FERMATA, ROOT, Skip, run, test

BUILD = os.path.dirname(os.path.abspath(FERMATA))
sys.path.insert(0, os.path.join(ROOT, "perf"))
from serve_common import Echo, Server, load, repository

GOOD = {"http": "200", "grpc": "0"}
MODEL = 'backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,-1]"\n'


def quick(name):
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("measuring says nothing here, and takes long")
    done = subprocess.run([os.path.join(ROOT, "perf", name), BUILD, "--quick", "--json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert rows and all(row["value"] >= 0 for row in rows if "p50 added" not in row["name"]), rows
    assert any("bar" in row for row in rows), rows


def needs(program):
    if not os.path.exists(os.path.join(BUILD, program)):
        raise Skip(program + " was not built")


@test
def overhead():
    quick("serve_overhead")


@test
def pool():
    quick("serve_pool")


@test
def pipeline():
    quick("serve_pipeline")


@test
def models():
    needs("perf/serve_bare")
    quick("serve_models")


@test
def reload():
    needs("perf/serve_bare")
    quick("serve_reload")


@test
def soak():
    quick("serve_soak")


@test
def answers_are_checked():
    with Echo(BUILD) as echo:
        for protocol in "http", "grpc":
            # The echo gives back what it got; that the answer ends with the tensor is what is looked at.
            right = load(BUILD, echo, protocol, requests=50, check=True)
            assert right["statuses"] == {GOOD[protocol]: 50} and right["counted"] == 50, right
    with repository({"echo": MODEL}) as directory, Server(BUILD, directory) as server:
        for protocol in "http", "grpc":
            right = load(BUILD, server, protocol, requests=50, check=True, connections=2)
            assert right["statuses"] == {GOOD[protocol]: 50}, right
            wrong = load(BUILD, server, protocol, requests=50, model="nobody")
            assert wrong["statuses"] == {"404" if protocol == "http" else "5": 50} and wrong["goodput"] == 0, wrong
            # A second row than what was sent: the shape and the bytes do not agree.
            wrong = load(BUILD, server, protocol, requests=50, shape="2,256")
            assert wrong["statuses"] == {"400" if protocol == "http" else "3": 50}, wrong


@test
def tensors_are_not_copied_behind_the_transport():
    """What comes as binary lies aligned where it was received, whatever the length of the JSON before it."""
    names = "e", "ec", "ech", "echo"
    with repository({name: MODEL for name in names}) as directory, Server(BUILD, directory) as server:
        for name in names:
            for protocol in "http", "grpc":
                # The timeout's digits make JSON of every length modulo four.
                load(BUILD, server, protocol, model=name, requests=20, check=True, timeout_ms=10 ** (len(name) + 1))
        copied = [value for key, value in server.scrape().items() if key.startswith("fermata_request_copied_bytes_total")]
        assert copied and not any(copied), copied


@test
def latency_counts_from_when_a_request_was_due():
    """One place, 20 ms each, twice what it can do: waiting for the place is latency, and all that was due is answered or lost."""
    slow = 'backend: emulated\nmax_batch_size: 1\ninstances: 1\nsettings:\n  latency: "1:20ms"\n  inputs: "x:FP32[-1,-1]"\n'
    with repository({"slow": slow}) as directory, Server(BUILD, directory, "-a", 1, "--emulated") as server:
        result = load(BUILD, server, "grpc", model="slow", rate=100, seconds=2, warmup=0, slo_ms=100)
        assert result["latency_us"]["p99"] > 500e3, result
        assert 120 < result["counted"] < 300 and sum(result["statuses"].values()) == result["counted"], result
        assert 0 < result["goodput"] < 30, result


run()
