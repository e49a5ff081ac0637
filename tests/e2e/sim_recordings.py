"""fermata sim --record, --replay and --what-if: recordings come back as they were, and what is wrong with one is said with its place."""
import json
import os
import struct
import tempfile

import recording
from tap import ROOT, contains, fermata, fermata_json, run, test

FOLDER = tempfile.TemporaryDirectory()
EXAMPLES = os.path.join(ROOT, "examples/sim")
SCENARIO = """
accelerators: 3
warmup: 100ms
measure: 400ms
attempts: 2
%s
cancels: {share: 0.02, delay: 3ms}
models:
  - {name: a, count: 3, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {kind: gamma, shape: 0.2, rate: 300}}
  - {name: b, slo: 80ms, priority: 1, profile: {table: {1: 9ms, 4: 11ms, 16: 30ms}}, arrivals: {kind: poisson, rate: 100}}
events:
  - {at: 200ms, kind: down, accelerator: 1}
  - {at: 300ms, kind: up, accelerator: 1}
  - {at: 350ms, kind: slow, accelerator: 2, factor: 1.5}
"""


def path(name):
    return os.path.join(FOLDER.name, name)


def write(name, data):
    with open(path(name), "wb" if isinstance(data, bytes) else "w") as file:
        file.write(data)
    return path(name)


def read(name):
    with open(path(name), "rb") as file:
        return file.read()


SMALL = write("small.yaml", SCENARIO % "batch_failures: {share: 0.05}")
RUN = fermata_json("sim", SMALL, "--record", path("small.fmrec"), "--json")
RECORDING = read("small.fmrec")


def rehashed(data):
    """The same with the hashes made right."""
    out, at = data[:12], 12
    while at < len(data):
        end = at + 5 + struct.unpack("<I", data[at + 1:at + 5])[0]
        out += data[at:end]
        out += struct.pack("<Q", recording.fnv(out))
        at = end + 8
    return out


def with_policy(name):
    """The recording, as if another policy had been asked for."""
    length = struct.unpack("<I", RECORDING[13:17])[0]
    header = RECORDING[17:17 + length]
    header = bytes([len(name)]) + name + header[1 + header[0]:]
    return rehashed(RECORDING[:13] + struct.pack("<I", len(header)) + header + RECORDING[17 + length:])


@test
def a_replay_gives_the_same_actions_for_every_policy():
    for policy in ["deferred", "eager", "latest", "timeout", "target", "nexus", "shepherd", "clockwork", "symphony"]:
        found = fermata_json("sim", SMALL, "--policy", policy, "--record", path("one.fmrec"), "--json")
        again = fermata_json("sim", "--replay", path("one.fmrec"), "--record", path("two.fmrec"), "--json")
        assert again["identical"] is True and again["compared"] is True and again["difference"] is None, again
        assert again["policy"] == policy and again["trace_hash"] == found["trace_hash"], (found["trace_hash"], again)
        assert read("one.fmrec") == read("two.fmrec"), policy


@test
def the_examples_are_recorded_alike_and_replayed():
    for name in sorted(os.listdir(EXAMPLES)):
        scenario = os.path.join(EXAMPLES, name)
        if name == "partition.yaml":
            continue  # several schedulers: no recording
        found = fermata_json("sim", scenario, "--record", path("one.fmrec"), "--json")
        fermata("sim", scenario, "--record", path("two.fmrec"))
        assert read("one.fmrec") == read("two.fmrec"), name
        out, err = fermata("sim", "--replay", path("one.fmrec"))
        contains(out, " steps, ", " requests, ", " batches: identical\n", found["trace_hash"])
        contains(err, "requests replayed in", "per second")


@test
def recordings_are_small():
    fermata("sim", os.path.join(EXAMPLES, "first.yaml"), "--record", path("one.fmrec"))
    again = fermata_json("sim", "--replay", path("one.fmrec"), "--json")
    assert len(read("one.fmrec")) <= 10 * again["requests"], (len(read("one.fmrec")), again["requests"])


@test
def the_document_is_enough_to_read_one():
    reader = recording.Reader(RECORDING)
    steps = list(reader)
    events = [event for step in steps for event in step["events"][:step["taken"]]]
    actions = [action for step in steps for action in step["actions"]]
    again = fermata_json("sim", "--replay", path("small.fmrec"), "--json")
    assert reader.header["policy"] == "deferred" and reader.header["models_max"] == 4 and reader.header["attempts_max"] == 2, reader.header
    count = {kind: sum(event["kind"] == kind for event in events) for kind in recording.EVENTS}
    assert count["model_set"] == 4 and count["up"] == 4 and count["down"] == 1 and count["slow"] == 1 and count["cancel"] > 0 and count["failed"] > 0, count
    assert len(steps) == again["steps"] and count["request"] == again["requests"], (count, again)
    starts = [action for action in actions if action["kind"] == "start"]
    assert len(starts) == again["batches"] and len([1 for action in actions if action["kind"] == "drop"]) == again["dropped"]
    assert [start["batch"] for start in starts] == list(range(1, len(starts) + 1))
    ended = {event["batch"] for event in events if event["kind"] in ("done", "failed")}
    assert ended <= {start["batch"] for start in starts} and len(ended) > 0.9 * len(starts) - 3
    budgets = {event["model"]: event["deadline"] - step["now"] for step in steps for event in step["events"] if event["kind"] == "request"}
    assert budgets == {0: 25000000, 1: 25000000, 2: 25000000, 3: 80000000}, budgets
    models = [event for event in events if event["kind"] == "model_set"]
    assert [(point[0], point[2]) for point in models[3]["profiles"][0]] == [(1, 9000000), (4, 11000000), (16, 30000000)], models[3]
    assert models[0]["profiles"][1] is None and models[0]["profiles"] == models[2]["profiles"]
    assert steps[0]["now"] == again["first_ns"] and steps[-1]["now"] == again["last_ns"]
    waiting = {event["request"] for event in steps[10]["events"] if event["kind"] == "request"}
    assert all(0 <= slot < reader.header["requests_max"] for slot in waiting)


@test
def another_scheduler_is_noticed():
    write("other.fmrec", with_policy(b"eager"))
    out, err = fermata("sim", "--replay", path("other.fmrec"), code=1)
    contains(out, "identical, and then a difference")
    contains(err, "other.fmrec", "the scheduler decides otherwise", "step ", " was: ", "now it is: start batch ")
    found = json.loads(fermata("sim", "--replay", path("other.fmrec"), "--json", code=1)[0])
    assert found["identical"] is False and "now it is" in found["difference"], found
    write("two.fmrec", b"kept")
    fermata("sim", "--replay", path("other.fmrec"), "--record", path("two.fmrec"), code=1)
    assert read("two.fmrec") == b"kept"


@test
def a_recorded_load_meets_another_policy():
    same = fermata_json("sim", "--replay", path("small.fmrec"), "--what-if", "--json")
    other = fermata_json("sim", "--replay", path("small.fmrec"), "--what-if", "--policy", "eager", "--json")
    everything = fermata_json("sim", "--replay", path("small.fmrec"), "--json")["requests"]
    assert same["policy"] == "deferred" and other["policy"] == "eager"
    assert same["requests"] == other["requests"] == everything, (same["requests"], everything)
    assert same["trace_hash"] != other["trace_hash"] and same["audit"]["violations"] == other["audit"]["violations"] == 0
    assert [model["name"] for model in same["models"]] == ["model.0", "model.1", "model.2", "model.3"]
    contains(fermata("sim", "--replay", path("small.fmrec"), "--what-if")[1], "not taken over", "cancels", "failed batches")
    out, _ = fermata("sim", "--replay", path("small.fmrec"), "--what-if", "--compare", "deferred,eager", "--find-goodput")
    contains(out, "deferred", "eager")


@test
def a_recorded_load_is_measured_as_long_as_it_lasts():
    told = "accelerators: 8\nseed: 11\nwarmup: 100ms\nmeasure: %s\nmodels: [{name: a, slo: 25ms, profile: {alpha: 1053us, beta: 5072us}, arrivals: {rate: 5000}}]\n"
    fermata("sim", write("short.yaml", told % "500ms"), "--record", path("short.fmrec"))
    found = {scale: fermata_json("sim", "--replay", path("short.fmrec"), "--what-if", "--scale", scale, "--json") for scale in (0.5, 1, 2, 4)}
    for scale, each in found.items():
        assert each["requests"] == found[1]["requests"] and each["traces"]["left_out"] == 0, each["traces"]
        assert abs(each["offered_rps"] / found[1]["offered_rps"] - scale) < 0.001, (scale, each["offered_rps"])
    assert found[1]["good"] == found[1]["requests"] and found[2]["goodput_rps"] > 5800 and found[4]["goodput_rps"] > 6000, {scale: each["goodput_rps"] for scale, each in found.items()}
    assert "the load ends" not in fermata("sim", "--replay", path("short.fmrec"), "--what-if")[1]
    scenario = write("long.yaml", told % "3s")
    fermata("sim", scenario, "--record", path("long.fmrec"))
    searched = fermata_json("sim", "--replay", path("long.fmrec"), "--what-if", "--find-goodput", "--json")["goodput_rps"]
    of_scenario = fermata_json("sim", scenario, "--find-goodput", "--json")["goodput_rps"]
    assert abs(searched / of_scenario - 1) < 0.03, (searched, of_scenario)


@test
def what_happened_keeps_pace_with_a_recorded_load():
    told = """
accelerators: 2
warmup: 0s
measure: 1s
policy: eager
models:
  - {name: a, present: false, clients: leave, slo: 50ms, profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: constant, rate: 100}}
  - {name: b, slo: 50ms, profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: constant, rate: 10}}
events:
  - {at: 495ms, kind: model_added, model: a}
  - {at: 600ms, kind: down, accelerator: 0, count: 2}
  - {at: 700ms, kind: up, accelerator: 0, count: 2}
"""
    fermata("sim", write("pace.yaml", told), "--record", path("pace.fmrec"))
    found = [fermata_json("sim", "--replay", path("pace.fmrec"), "--what-if", "--scale", scale, "--json") for scale in (1, 3)]
    assert found[0]["requests"] == found[1]["requests"] > 50, [each["requests"] for each in found]
    assert found[0]["good"] < found[0]["requests"] and abs(found[0]["accelerators"]["up_mean"] - found[1]["accelerators"]["up_mean"]) < 0.01, [each["accelerators"] for each in found]


@test
def a_recorded_load_is_the_load_that_was():
    text = (SCENARIO % "").replace("cancels: {share: 0.02, delay: 3ms}\n", "")
    plain = write("plain.yaml", text.replace("warmup: 100ms", "warmup: 0s"))
    found = fermata_json("sim", plain, "--record", path("plain.fmrec"), "--json")
    again = fermata_json("sim", "--replay", path("plain.fmrec"), "--what-if", "--record", path("again.fmrec"), "--json")
    assert again["requests"] == found["requests"] and again["dropped"] == found["dropped"], (found["dropped"], again["dropped"])
    assert abs(again["good"] - found["good"]) <= 0.02 * found["good"], (found["good"], again["good"])

    def arrivals(name):
        times = [(step["now"], event["model"], event["deadline"] - step["now"], event["priority"])
                 for step in recording.Reader(read(name)) for event in step["events"] if event["kind"] == "request"]
        return [(time - times[0][0], *rest) for time, *rest in times]
    assert arrivals("plain.fmrec") == arrivals("again.fmrec")


@test
def a_recorded_load_brings_what_happened_to_its_models():
    told = """
accelerators: 3
warmup: 0s
measure: 900ms
policy: eager
models:
  - {name: a, count: 2, clients: leave, slo: {25ms: 0.5, 60ms: 0.5}, profile: {alpha: 1ms, beta: 5ms}, arrivals: {kind: poisson, rate: 300}}
  - {name: b, present: false, clients: leave, slo: 50ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {kind: poisson, rate: 200}}
events:
  - {at: 200ms, kind: model_added, model: b}
  - {at: 400ms, kind: reprofiled, model: a.1, factor: 1.5}
  - {at: 500ms, kind: model_removed, model: a.0}
  - {at: 700ms, kind: model_added, model: a.0}
"""
    was = fermata_json("sim", write("models.yaml", told), "--record", path("models.fmrec"), "--json")
    again = fermata_json("sim", "--replay", path("models.fmrec"), "--what-if", "--json")
    assert again["audit"]["violations"] == 0, again["audit"]
    for key in ("requests", "good", "late", "dropped", "batches"):
        assert was[key] == again[key], (key, was[key], again[key])
    assert "not taken over" not in fermata("sim", "--replay", path("models.fmrec"), "--what-if")[1]


@test
def damage_is_named_by_its_place():
    contains(fermata("sim", "--replay", path("absent.fmrec"), code=3)[1], "absent.fmrec")
    contains(fermata("sim", "--replay", FOLDER.name, code=3)[1], FOLDER.name)
    contains(fermata("sim", "--replay", write("empty.fmrec", b""), code=3)[1], "empty.fmrec", "not a recording")
    contains(fermata("sim", "--replay", SMALL, code=3)[1], "small.yaml", "not a recording")
    version = write("version.fmrec", RECORDING[:8] + b"\x02" + RECORDING[9:])
    contains(fermata("sim", "--replay", version, code=3)[1], "version 2 of the format, only version 1 is known here")
    contains(fermata("sim", "--replay", write("policy.fmrec", with_policy(b"clever")), code=3)[1], "policy that is not known here", "newer version")
    flipped = bytearray(RECORDING)
    flipped[len(flipped) // 2] ^= 1
    block = 17 + struct.unpack("<I", RECORDING[13:17])[0] + 8
    for arguments in ([], ["--what-if"]):
        contains(fermata("sim", "--replay", write("flipped.fmrec", bytes(flipped)), *arguments, code=3)[1], "at byte %d" % block, "damaged")
        contains(fermata("sim", "--replay", write("cut.fmrec", RECORDING[:-30]), *arguments, code=3)[1], "at byte %d" % block, "cut off", "%d" % (len(RECORDING) - 30))
    last = list(recording.blocks(RECORDING, check=False))[-1][1]
    whole = RECORDING[:-(13 + len(last.data))]
    err = fermata("sim", "--replay", write("noend.fmrec", whole), code=3)[1]
    contains(err, "at byte %d" % len(whole), "without its end mark", "steps in front of it are identical")
    contains(fermata("sim", "--replay", write("more.fmrec", RECORDING + b"x"), code=3)[1], "at byte %d" % len(RECORDING), "behind the end mark")
    error = json.loads(fermata("sim", "--replay", path("cut.fmrec"), "--json", code=3)[1])["error"]
    assert error["exit_code"] == 3 and "cut off" in error["message"], error


@test
def a_recording_without_requests_has_nothing_to_simulate():
    quiet = write("quiet.yaml", "accelerators: 1\nwarmup: 0s\nmeasure: 1ms\nmodels: [{name: a, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {rate: 0.001}}]\n")
    fermata("sim", quiet, "--record", path("quiet.fmrec"))
    contains(fermata("sim", "--replay", path("quiet.fmrec"))[0], " 0 requests, 0 batches: identical")
    contains(fermata("sim", "--replay", path("quiet.fmrec"), "--what-if", code=3)[1], "quiet.fmrec", "holds no requests")


@test
def wrong_calls_are_explained():
    record = ["--record", path("x.fmrec")]
    contains(fermata("sim", SMALL, "--find-goodput", *record, code=2)[1], "--record records one run")
    contains(fermata("sim", SMALL, "--compare", "eager,latest", *record, code=2)[1], "--record records one run")
    contains(fermata("sim", SMALL, "--what-if", code=2)[1], "--what-if is for --replay")
    contains(fermata("sim", SMALL, "--replay", path("small.fmrec"), code=2)[1], "give SCENARIO or --replay, not both")
    for option in (["--policy", "eager"], ["--seed", "3"], ["--find-goodput"], ["--trace", "t.json"], ["--scale", "2"]):
        contains(fermata("sim", "--replay", path("small.fmrec"), *option, code=2)[1], option[0] + " cannot change", "--what-if")
    for option in (["--seed", "5"], ["--compare", "deferred", "--seeds", "1,2,3"]):
        contains(fermata("sim", "--replay", path("small.fmrec"), "--what-if", *option)[1], "changes nothing: a recording's requests come when they came")
    fermata("sim", "--replay", path("small.fmrec"), "--what-if", "--partition", "1", "--seed", "5")
    for more in ([], ["--what-if"]):
        contains(fermata("sim", "--replay", path("small.fmrec"), *more, "--record", path("./small.fmrec"), code=2)[1], "--record would overwrite --replay")
    assert read("small.fmrec") == RECORDING
    assert not os.path.exists(path("x.fmrec"))
    out, err = fermata("sim", SMALL, "--record", "/nonexistent/x.fmrec", code=3)
    assert out == ""  # said before anything is run
    contains(err, "/nonexistent")
    contains(fermata("sim", "--replay", path("small.fmrec"), "--record", FOLDER.name, code=3)[1], FOLDER.name)


run()
