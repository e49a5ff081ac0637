"""fermata sim: numbers, searches, comparisons, traces, pages, and what it says about mistakes."""
import json
import os
import random
import re
import subprocess
import tempfile

from tap import FERMATA, ROOT, contains, fermata, fermata_json, run, test

FOLDER = tempfile.TemporaryDirectory()
FIRST = os.path.join(ROOT, "examples/sim/first.yaml")


def write(name, text):
    path = os.path.join(FOLDER.name, name)
    with open(path, "w") as file:
        file.write(text)
    return path


SMALL = write("small.yaml", """
accelerators: 4
warmup: 200ms
measure: 800ms
models:
  - {name: a, count: 2, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {kind: poisson, rate: 300}}
""")


@test
def the_numbers_are_there_and_fit_together():
    found = fermata_json("sim", FIRST, "--json")
    assert found["policy"] == "deferred" and found["seed"] == 11, found
    assert found["audit"] == {"violations": 0, "late_plans": 0, "first": None}, found["audit"]
    assert 4800 < found["offered_rps"] < 5200 and found["goodput_rps"] <= found["offered_rps"], found
    bad = found["late"] + sum(count for reason, count in found["dropped"].items() if reason != "cancelled")
    assert abs(found["bad_rate"] - bad / found["requests"]) < 1e-12, found
    assert found["good"] + bad + found["dropped"]["cancelled"] == found["requests"], found
    assert 5 <= found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= 25, found["latency_ms"]
    pool = found["accelerators"]
    assert pool["total"] == 8 and 1 <= pool["touched"] <= 8 and pool["busy_equivalent"] <= 8, pool
    assert [model["name"] for model in found["models"]] == ["m0"]
    assert re.fullmatch("[0-9a-f]{16}", found["trace_hash"])


@test
def the_same_seed_gives_the_same_run():
    one = fermata("sim", SMALL, "--json")[0]
    assert one == fermata("sim", SMALL, "--json")[0]
    assert json.loads(one)["trace_hash"] != fermata_json("sim", SMALL, "--json", "--seed", "2")["trace_hash"]
    assert json.loads(one)["trace_hash"] != fermata_json("sim", SMALL, "--json", "--policy", "eager")["trace_hash"]


@test
def more_load_is_more_load():
    low = fermata_json("sim", SMALL, "--json", "--scale", "0.5")
    high = fermata_json("sim", SMALL, "--json", "--scale", "20")
    assert low["bad_rate"] < 0.01 < 0.5 < high["bad_rate"], (low["bad_rate"], high["bad_rate"])
    assert high["audit"]["violations"] == 0, high["audit"]


@test
def the_highest_load_is_found():
    found = fermata_json("sim", SMALL, "--find-goodput", "--bad-rate", "0.01", "--seeds", "11,22,33", "--json")
    rates = sorted(seed["goodput_rps"] for seed in found["per_seed"])
    assert [seed["seed"] for seed in found["per_seed"]] == [11, 22, 33]
    assert found["goodput_rps"] == rates[1] and all(seed["bad_rate"] <= 0.01 for seed in found["per_seed"]), found
    again = fermata_json("sim", SMALL, "--find-goodput", "--seeds", "11,22,33", "--json", "--threads", "1")
    assert found == again
    # Half a percent more is too much, or nearly: the bracket was that narrow.
    seed = found["per_seed"][0]
    above = fermata_json("sim", SMALL, "--seed", "11", "--scale", seed["scale"] * 1.05, "--json")
    assert above["bad_rate"] > 0.008, above["bad_rate"]
    contains(fermata("sim", SMALL, "--find-goodput")[0], "median goodput:")


@test
def policies_are_compared():
    found = fermata_json("sim", SMALL, "--compare", "deferred,eager", "--json")
    assert [policy["policy"] for policy in found["policies"]] == ["deferred", "eager"]
    assert found["policies"][0]["trace_hash"] == fermata_json("sim", SMALL, "--json")["trace_hash"]
    out, _ = fermata("sim", SMALL, "--compare", "deferred,eager,latest", "--find-goodput", "--seeds", "1,2")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["policy", "deferred", "eager", "latest"], out
    contains(lines[0], "goodput/s", "bad", "worst", "batch", "touched", "p99 ms")


@test
def trace_and_page_are_written():
    trace, page = os.path.join(FOLDER.name, "t.json"), os.path.join(FOLDER.name, "p.html")
    fermata("sim", SMALL, "--trace", trace, "--report", page)
    with open(trace) as file:
        events = json.load(file)["traceEvents"]
    batches = [event for event in events if event["ph"] == "X"]
    assert len(batches) > 100 and {event["tid"] for event in batches} <= {0, 1, 2, 3}
    ends = {}
    for event in sorted(batches, key=lambda event: event["ts"]):
        assert event["ts"] >= ends.get(event["tid"], 0) - 0.002, event  # one batch at a time
        ends[event["tid"]] = event["ts"] + event["dur"]
    with open(page) as file:
        html = file.read()
    contains(html, "Goodput over load", "<svg", "<canvas", "</html>")
    assert "http" not in html and "src=" not in html
    fermata("sim", SMALL, "--compare", "deferred,eager", "--report", page)
    with open(page) as file:
        contains(file.read(), ">deferred</text>", ">eager</text>")


@test
def the_examples_run():
    folder = os.path.join(ROOT, "examples/sim")
    for name in sorted(os.listdir(folder)):
        found = fermata_json("sim", os.path.join(folder, name), "--json")
        assert found["audit"]["violations"] == 0 and found["good"] > 0, (name, found["audit"])


@test
def accelerators_follow_the_load():
    path = os.path.join(ROOT, "examples/sim/autoscale.yaml")
    found = fermata_json("sim", path, "--json")
    pool, timeline = found["accelerators"], found["timeline"]
    assert found["audit"]["violations"] == 0 and found["bad_rate"] < 0.01 and found["batches_failed"] == 0, found["audit"]
    assert found["autoscale"]["started"] > 5 and found["autoscale"]["stopped"] > 5 and found["autoscale"]["changes"] < 40, found["autoscale"]
    assert pool["busy_equivalent"] < pool["up_mean"] < pool["up_max"] <= 40 and 2 <= pool["up_min"] < 10, pool
    assert pool["up_mean"] <= pool["hours"] < pool["up_mean"] * 1.05, pool  # an hour, and what starting takes
    assert {len(timeline[key]) for key in ("offered_rps", "bad_rate", "busy", "used", "up")} == {240}, timeline.keys()
    assert all(busy <= up + 1e-9 for busy, up in zip(timeline["busy"], timeline["up"])), timeline
    assert abs(timeline["part_s"] - 65 * 60 / 240) < 1e-9, timeline["part_s"]
    at_least, most = min(timeline["up"]), max(timeline["up"])
    assert timeline["up"][129] > 0.8 * most > 1.5 * at_least, timeline["up"]  # at 35 minutes the load is highest
    assert found["trace_hash"] == fermata_json("sim", path, "--json")["trace_hash"]
    page = os.path.join(FOLDER.name, "autoscale.html")
    contains(fermata("sim", path, "--report", page)[0], "autoscaling", "up on average", "accelerator-hours")
    with open(page) as file:
        contains(file.read(), ">up</text>")
    small = fermata_json("sim", SMALL, "--json")  # without: all are up, and nothing is said of it
    assert small["accelerators"]["up_mean"] == 4 and "autoscale" not in small, small["accelerators"]
    with open(SMALL) as file:
        many = write("many.yaml", file.read() + "autoscale: {max: 5}\n")
    contains(fermata("sim", many, code=3)[1], "many.yaml:7: 'autoscale': 'max' is 5, but there are only 4 accelerators")


@test
def requests_draw_their_slo_and_priority():
    path = write("mix.yaml", """
accelerators: 4
warmup: 200ms
measure: 3s
models:
  - {name: a, slo: {20ms: 0.7, 100ms: 0.3}, priority: {0: 0.5, 2: 0.5}, profile: {alpha: 1ms, beta: 5ms}, arrivals: {rate: 3000}}
  - {name: b, slo: {50ms: 1}, profile: {alpha: 1ms, beta: 5ms}, arrivals: {rate: 100}}
""")
    found = fermata_json("sim", path, "--json")
    model, other = found["models"]
    assert found["audit"]["violations"] == 0 and "classes" not in other, found["audit"]
    classes = model["classes"]
    assert [(c["slo_ms"], c["priority"]) for c in classes] == [(20, 0), (20, 2), (100, 0), (100, 2)], classes
    assert all(sum(c[key] for c in classes) == model[key] for key in ("requests", "good", "late")), (classes, model)
    assert all(c["good"] + c["late"] + sum(c["dropped"].values()) == c["requests"] for c in classes), classes
    assert abs((classes[0]["requests"] + classes[1]["requests"]) / model["requests"] - 0.7) < 0.03, classes
    # Too much load: the less important go first, and of the important ones those who can wait are served.
    assert classes[2]["bad_rate"] <= classes[0]["bad_rate"] < min(classes[1]["bad_rate"], classes[3]["bad_rate"]), classes
    out = fermata("sim", path)[0]
    contains(out, "  20 ms, priority 0 ", "  100 ms, priority 2 ")
    assert found["trace_hash"] == fermata_json("sim", path, "--json")["trace_hash"]
    assert found["trace_hash"] != fermata_json("sim", path, "--json", "--seed", "2")["trace_hash"]


@test
def models_come_go_and_change():
    path = os.path.join(ROOT, "examples/sim/rollout.yaml")
    found = fermata_json("sim", path, "--json")
    search, first, second, vision = found["models"]
    assert found["audit"]["violations"] == 0, found["audit"]
    # A second of fourteen: its clients ask for it in vain.
    assert 0.05 < first["dropped"]["model_gone"] / first["requests"] < 0.1, first
    assert second["dropped"]["model_gone"] == vision["dropped"]["model_gone"] == 0, (second, vision)
    assert 0.8 < vision["requests"] / (300 * 12) < 1.2, vision  # from 3 s on
    recording = os.path.join(FOLDER.name, "rollout.fmrec")
    fermata("sim", path, "--record", recording)
    assert fermata_json("sim", "--replay", recording, "--json")["identical"]
    lines = fermata("sim", path, "--compare", "deferred,eager,latest,timeout,target,nexus,shepherd,clockwork,symphony")[0].splitlines()
    assert len(lines) == 10, lines  # and the auditor found nothing with any of them
    with open(path) as file:
        told = file.read()
    # Whom nobody tells, and who does not learn, plans what cannot be kept.
    blind = fermata_json("sim", write("blind.yaml", told.replace("learn: true", "learn: false")), "--json")
    assert blind["models"][2]["late"] > 2 * second["late"], (blind["models"][2], second)


@test
def sub_clusters_have_a_scheduler_each():
    path = os.path.join(ROOT, "examples/sim/partition.yaml")
    found = fermata_json("sim", path, "--json")
    plan = found["partition"]
    assert found["audit"]["violations"] == 0, found["audit"]
    assert [c["accelerators"] for c in plan["clusters"]] == [6] * 4 and sum(c["models"] for c in plan["clusters"]) >= 60, plan["clusters"]
    assert all(0 < c["memory_bytes"] <= 16e9 and c["busy_equivalent"] <= 6 for c in plan["clusters"]), plan["clusters"]
    assert abs(sum(c["goodput_rps"] for c in plan["clusters"]) - found["goodput_rps"]) < 1e-6, plan["clusters"]
    assert plan["one_pool"]["offered_rps"] == found["offered_rps"] and plan["one_pool"]["bad_rate"] <= found["bad_rate"], plan["one_pool"]
    assert abs(plan["goodput_cost"] - (1 - found["goodput_rps"] / plan["one_pool"]["goodput_rps"])) < 1e-9, plan
    assert [s["at_s"] for s in plan["solves"]] == [0, 6, 12], plan["solves"]
    assert len(plan["solves"][0]["places"]) >= 60 and all(s["moves"] < 10 for s in plan["solves"][1:]), plan["solves"]
    assert found["trace_hash"] == fermata_json("sim", path, "--json")["trace_hash"]
    out = fermata("sim", path, "--partition", "2")[0]
    contains(out, "2 sub-clusters", "one pool", "the split costs", "sub-cluster ", "models at the beginning")
    # All numbers of one sub-cluster are those of the pool, whatever happens there.
    for name in ("first", "faults", "mixed", "rollout"):
        example = os.path.join(ROOT, "examples/sim/%s.yaml" % name)
        pool, one = fermata_json("sim", example, "--json"), fermata_json("sim", example, "--partition", "1", "--json")
        assert "partition" not in pool and one["partition"]["goodput_cost"] == 0, name
        del pool["trace_hash"], one["trace_hash"], one["partition"]
        assert pool == one, name
    lines = fermata("sim", SMALL, "--partition", "2", "--compare", "deferred,eager", "--find-goodput")[0].splitlines()
    assert len(lines) == 3, lines
    trace = os.path.join(FOLDER.name, "parts.json")
    fermata("sim", SMALL, "--partition", "2", "--trace", trace)
    with open(trace) as file:
        assert {event["tid"] for event in json.load(file)["traceEvents"] if event["ph"] == "X"} == {0, 1, 2, 3}


@test
def sub_clusters_that_cannot_be_are_refused():
    contains(fermata("sim", SMALL, "--partition", "5", code=3)[1], "small.yaml: 5 sub-clusters, but only 4 accelerators of type 'default'", "fewer 'clusters'")
    contains(fermata("sim", SMALL, "--partition", "0", code=2)[1], "--partition")
    contains(fermata("sim", SMALL, "--partition", "2", "--record", "r.fmrec", code=2)[1], "--record records one scheduler")
    contains(fermata("sim", "--replay", "r.fmrec", "--partition", "2", code=2)[1], "--partition cannot change")
    autoscale = os.path.join(ROOT, "examples/sim/autoscale.yaml")
    contains(fermata("sim", autoscale, "--partition", "2", code=3)[1], "'partition' and 'autoscale' do not go together")
    path = os.path.join(ROOT, "examples/sim/partition.yaml")
    contains(fermata("sim", path, "--record", os.path.join(FOLDER.name, "r.fmrec"), code=3)[1], "partition.yaml' has a 'partition'")
    with open(path) as file:
        told = file.read()
    contains(fermata("sim", write("full.yaml", told.replace("memory: 16GB", "memory: 7GB")), code=6)[1], "at 0 s: partition: ", "memory")
    contains(fermata("sim", write("huge.yaml", told.replace("memory: 16GB", "memory: 800MB")), code=3)[1], "tagger")
    contains(fermata("sim", write("often.yaml", told.replace("every: 6s", "every: 1us")), code=3)[1], "give a longer 'every'")
    contains(fermata("sim", write("key.yaml", told.replace("every: 6s", "evry: 6s")), code=3)[1], "unknown key 'evry'; did you mean 'every'?")


@test
def pipelines_are_counted_once():
    path = os.path.join(ROOT, "examples/sim/pipeline.yaml")
    found = fermata_json("sim", path, "--json", "--scale", "1.6")
    pipeline, alone = found["pipelines"][0], found["models"][2]
    stages = pipeline["stages"]
    assert found["audit"]["violations"] == 0, found["audit"]
    assert found["requests"] == pipeline["requests"] + alone["requests"] and found["models"][0]["requests"] == 0, found
    assert abs(sum(s["share_ms"] for s in stages) - 120) < 1e-6 and stages[1]["share_ms"] < stages[0]["share_ms"] / 3, stages
    assert stages[0]["requests"] == pipeline["requests"] and pipeline["bad_rate"] > 0, stages
    for before, after in zip(stages, stages[1:]):
        assert before["good"] + before["late"] == after["requests"], stages
    for reason, count in pipeline["dropped"].items():
        assert sum(s["dropped"][reason] for s in stages) == count, (reason, stages)
    assert pipeline["latency_ms"]["max"] <= 120 + 1e-6, pipeline["latency_ms"]
    assert found["trace_hash"] == fermata_json("sim", path, "--json", "--scale", "1.6")["trace_hash"]
    contains(fermata("sim", path)[0], "pipeline  ", "share ms", "  detect ", "  recognise ")
    with open(path) as file:
        told = file.read()
    even = write("even.yaml", told.replace("split: budget", "split: even"))
    assert [s["share_ms"] for s in fermata_json("sim", even, "--json")["pipelines"][0]["stages"]] == [40, 40, 40]
    goodput = [fermata_json("sim", each, "--find-goodput", "--json")["goodput_rps"] for each in (path, even)]
    assert goodput[0] > 1.05 * goodput[1], goodput
    contains(fermata("sim", write("short.yaml", told.replace("slo: 120ms", "slo: 30ms")), code=3)[1], "short.yaml:6: pipeline 'read': deadline split: 30000 us do not hold", "detect -> rectify -> recognise needs")
    contains(fermata("sim", path, "--partition", "2", code=3)[1], "'partition' and 'pipelines' do not go together")
    contains(fermata("sim", write("nowhere.yaml", told.replace("[detect, ", "[detekt, ")), code=3)[1], "nowhere.yaml:8:", "there is no model 'detekt'")
    recording = os.path.join(FOLDER.name, "pipeline.fmrec")
    fermata("sim", path, "--record", recording)
    assert fermata_json("sim", "--replay", recording, "--json")["identical"]


@test
def traces_of_arrivals_are_read():
    write("times.txt", "# three\n0.1\n\n0.1005\r\n0.2\n")
    text = "accelerators: 1\nwarmup: 0s\nmeasure: 1s\nmodels: [{name: a, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {kind: trace, file: %s}}]\n"
    found = fermata_json("sim", write("trace.yaml", text % "times.txt"), "--json", "--policy", "eager")
    assert found["requests"] == 3 and found["good"] == 3 and found["latency_ms"]["max"] == 11.5, found
    write("log.csv", "when,what\n1000.1,x\n1000.2,y\n")
    found = fermata_json("sim", write("csv.yaml", text % "log.csv, column: when, from_first: true"), "--json")
    assert found["requests"] == 2, found
    write("due.csv", "when,what,due,before\n1000.1,x,1000.35,1000\n1000.2,y,1000.204,1000\n1000.3,z,1000.31,1000\n")
    due = text % "due.csv, column: when, deadline_column: due, from_first: true"
    found = fermata_json("sim", write("due.yaml", due), "--json", "--policy", "eager")
    assert (found["good"], found["dropped"]["infeasible"]) == (2, 1), found  # l(1) is 6 ms, the second has 4
    late = write("late.yaml", text % "due.csv, column: when, deadline_column: before")
    contains(fermata("sim", late, code=3)[1], "late.yaml:4:", "request 1 of", "due.csv", "of 1000.1 s, has its deadline at 1000 s")
    alone = write("alone.yaml", text % "times.txt, deadline_column: due")
    contains(fermata("sim", alone, code=3)[1], "alone.yaml:4:", "'deadline_column' is for CSV files")
    write("falling.txt", "2\n1\n")
    contains(fermata("sim", write("falling.yaml", text % "falling.txt"), code=3)[1], "falling.txt:2:", "before the time in front of it")
    write("words.txt", "soon\n")
    contains(fermata("sim", write("words.yaml", text % "words.txt"), code=3)[1], "words.txt", "soon")
    write("none.txt", "#\n")
    contains(fermata("sim", write("none.yaml", text % "none.txt"), code=3)[1], "none.txt")


def poisson_times(seconds, rate):
    draw, now, times = random.Random(7), 0.0, []
    while True:
        now += draw.expovariate(rate)
        if now >= seconds:
            return "".join("%.9f\n" % time for time in times)
        times.append(now)


ENDING = """
accelerators: 8
warmup: 0s
measure: %s
models:
  - {name: a, slo: 25ms, profile: {alpha: 1053us, beta: 5072us}, arrivals: {kind: trace, file: poisson.txt}}
"""


@test
def loads_that_end_are_measured_until_then():
    write("poisson.txt", poisson_times(1, 5000))
    whole = write("ending.yaml", ENDING % "8s")
    found = {scale: fermata_json("sim", whole, "--scale", scale, "--json") for scale in (0.1, 1, 2, 4)}
    for scale in (1, 2, 4):
        each = found[scale]
        assert abs(each["measure_s"] - 1 / scale) < 0.01 / scale and each["traces"]["left_out"] == 0 and each["traces"]["measure_shortened"], each["traces"]
        assert abs(each["offered_rps"] / found[1]["offered_rps"] - scale) < 0.001, (scale, each["offered_rps"])
        assert each["accelerators"]["busy_equivalent"] <= 8, each["accelerators"]
    assert found[4]["goodput_rps"] > 5500 and found[2]["accelerators"]["busy_equivalent"] > 7.5, found[4]["goodput_rps"]
    # At a tenth of the load ten seconds come, of which eight are measured.
    assert found[0.1]["measure_s"] == 8 and not found[0.1]["traces"]["measure_shortened"], found[0.1]["traces"]
    assert found[0.1]["traces"]["left_out"] + found[0.1]["requests"] == found[1]["requests"] > found[0.1]["requests"], found[0.1]["traces"]
    contains(fermata("sim", whole)[1], "the load ends with the last request of the traces, at 0.99")
    contains(fermata("sim", whole, "--scale", "0.1")[1], "%d requests of traces come after the measured interval" % found[0.1]["traces"]["left_out"])
    # The trace and the process it was drawn from are the same load.
    drawn = write("drawn.yaml", ENDING.replace("kind: trace, file: poisson.txt", "rate: 5000") % "1s")
    searched = fermata_json("sim", whole, "--find-goodput", "--json")["goodput_rps"]
    of_process = fermata_json("sim", drawn, "--find-goodput", "--seeds", "1,2,3", "--json")["goodput_rps"]
    assert abs(searched / of_process - 1) < 0.04, (searched, of_process)
    mixed = write("beside.yaml", ENDING % "2s" + "  - {name: b, slo: 25ms, profile: {alpha: 1ms, beta: 1ms}, arrivals: {rate: 5}}\n")
    assert fermata_json("sim", mixed, "--json")["measure_s"] == 2
    contains(fermata("sim", mixed)[1], "the trace of 'a' ends at 0.99", "before the measured interval does")
    over = write("over.yaml", (ENDING % "2s").replace("warmup: 0s", "warmup: 3s"))
    contains(fermata("sim", over, code=3)[1], "over.yaml: at 1 times the load the last request of the traces comes at 0.99", "shorter 'warmup'")
    assert "traces" not in fermata_json("sim", SMALL, "--json")


@test
def a_search_without_an_end_is_ended():
    rare = write("rare.yaml", "accelerators: 1\nwarmup: 0s\nmeasure: 1ms\nmodels: [{name: a, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {rate: 0.001}}]\n")
    contains(fermata("sim", rare)[1], "no request arrived in the measured interval, so that every number is 0")
    contains(fermata("sim", rare, "--find-goodput", code=3)[1], "does a request arrive in the measured interval")
    idle = write("idle.yaml", "accelerators: 1\nwarmup: 0s\nmeasure: 1s\nmodels: [{name: a, slo: 25ms, profile: {alpha: 1ns, beta: 1ns}, arrivals: {kind: constant, rate: 10}}]\n")
    contains(fermata("sim", idle, "--find-goodput", code=6)[1], "times the load", "keeps the bad rate: give more load")
    contains(fermata("sim", SMALL, "--find-goodput", "--bad-rate", "1", code=2)[1], "--bad-rate: any load at all keeps a share of 1")


@test
def schedules_of_loadgen_and_traces_of_azure():
    text = "accelerators: 1\nwarmup: 0s\nmeasure: 10s\nmodels:\n  - {name: a, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {%s}}\n"
    path = write("loadgen.yaml", text % "kind: loadgen, rate: 100, seed: 3133965575612453542")
    found = fermata_json("sim", path, "--json")
    assert 900 < found["requests"] < 1100, found
    assert fermata_json("sim", path, "--json", "--seed", "5")["trace_hash"] == found["trace_hash"]
    contains(fermata("sim", path, "--seed", "5")[1], "--seed changes nothing")
    drawn = write("drawn.yaml", text % "kind: loadgen, rate: 100")
    assert fermata_json("sim", drawn, "--json", "--seed", "5")["trace_hash"] != fermata_json("sim", drawn, "--json")["trace_hash"]
    contains(fermata("sim", write("steps.yaml", text % "kind: loadgen, rate: 100, steps: []"), code=3)[1], "unknown key 'steps'")
    data = os.path.join(ROOT, "tests/data")
    path = write("azure.yaml", text % f"kind: trace, format: azure2021, file: {data}/azure_2021.csv")
    assert fermata_json("sim", path, "--json")["requests"] == 6
    path = write("wrong.yaml", text % f"kind: trace, format: azure2019, file: {data}/azure_2021.csv")
    contains(fermata("sim", path, code=3)[1], "azure_2021.csv:1: column 1 is \"app\", must be \"HashOwner\"")


@test
def seeds_are_for_what_they_decide():
    contains(fermata("sim", SMALL, "--find-goodput", "--seeds", "1,1,2", code=2)[1], "--seeds: 1 is named twice")
    still = write("still.yaml", "accelerators: 1\nmodels: [{name: a, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {kind: constant, rate: 10}}]\n")
    contains(fermata("sim", still, "--seed", "5")[1], "--seed changes nothing: all requests of this scenario come at times that are given")
    contains(fermata("sim", still, "--compare", "eager", "--seeds", "5,6")[1], "--seeds changes nothing")
    contains(fermata("sim", SMALL, "--seed", str(2**63), code=2)[1], "'9223372036854775808' is too large: at most 9223372036854775807")
    fermata("sim", SMALL, "--seed", str(2**63 - 1))


@test
def no_result_lies_over_what_is_read():
    write("poisson.txt", poisson_times(0.1, 100))
    kept = write("kept.yaml", ENDING % "1s")
    os.symlink(kept, os.path.join(FOLDER.name, "kept.link"))
    with open(kept) as file:
        text = file.read()
    for option in ("--record", "--trace", "--report"):
        for name in ("kept.yaml", "kept.link", "./kept.yaml"):
            contains(fermata("sim", kept, option, os.path.join(FOLDER.name, name), code=2)[1], option + " would overwrite SCENARIO", "kept.yaml")
        contains(fermata("sim", kept, option, os.path.join(FOLDER.name, "poisson.txt"), code=2)[1], option + " would overwrite a file that the scenario names")
    with open(kept) as file:
        assert file.read() == text
    both = os.path.join(FOLDER.name, "both")
    for one, other in (("--trace", "--report"), ("--trace", "--record"), ("--record", "--report")):
        out, err = fermata("sim", kept, one, both, other, "./both", code=2, cwd=FOLDER.name)
        assert out == "" and one in err and other in err and "are the same file" in err, err
    assert not os.path.exists(both)
    contains(fermata("sim", kept, "--trace", "-", code=2)[1], "--trace: '-' is not a file; write /dev/stdout")
    fermata("sim", kept, "--trace", "/dev/null", "--report", "/dev/null")


@test
def a_result_that_nobody_can_have_is_no_success():
    closed = subprocess.run([FERMATA, "sim", SMALL], stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1), timeout=60)
    assert closed.returncode == 1, closed
    contains(closed.stderr.decode(), "cannot write to standard output: it is closed")
    # A reader that leaves: more than a pipe holds is written to it.
    trace = os.path.join(FOLDER.name, "long.json")
    fermata("sim", FIRST, "--trace", trace)
    assert os.path.getsize(trace) > 100000, os.path.getsize(trace)
    with subprocess.Popen([FERMATA, "sim", FIRST, "-q", "--trace", "/dev/stdout"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        left.stdout.read(10)
        left.stdout.close()
        assert (left.stderr.read(), left.wait(timeout=60)) == (b"", 141), left.returncode


@test
def latencies_beyond_the_histogram_are_no_number():
    slow = write("slow.yaml", """
accelerators: 1
warmup: 0s
measure: 10m
models:
  - {name: a, slo: 15h, batch_max: 1, profile: {table: {1: 30m}}, arrivals: {kind: constant, rate: 0.01}}
""")
    found = fermata_json("sim", slow, "--json", "--policy", "eager")
    assert found["latency_ms"]["p50"] is None and found["latency_ms"]["p99"] is None, found["latency_ms"]
    assert found["latency_ms"]["max"] > found["latency_ms"]["mean"] > 30 * 60e3 - 1, found["latency_ms"]
    contains(fermata("sim", slow, "--policy", "eager")[0], "p50 > 18 min, p99 > 18 min, mean ")
    assert fermata("sim", slow, "--compare", "eager")[0].splitlines()[1].endswith(" > 18 min")


@test
def mistakes_are_explained():
    contains(fermata("sim", code=2)[1], "SCENARIO")
    contains(fermata("sim", "/nonexistent.yaml", code=3)[1], "/nonexistent.yaml")
    wrong = write("wrong.yaml", "accelerators: 1\nmodles: []\n")
    contains(fermata("sim", wrong, code=3)[1], "wrong.yaml:2:1:", "misspelling")
    contains(fermata("sim", SMALL, "--policy", "defered", code=2)[1], "defered", "deferred")
    contains(fermata("sim", SMALL, "--compare", "eager,defered", code=2)[1], "did you mean 'deferred'?")
    contains(fermata("sim", SMALL, "--compare", "eager,eager", code=2)[1], "named twice")
    contains(fermata("sim", SMALL, "--compare", "eager,", code=2)[1], "no policy ''")
    contains(fermata("sim", SMALL, "--seeds", "1,2", code=2)[1], "--seeds is for")
    contains(fermata("sim", SMALL, "--bad-rate", "0.1", code=2)[1], "--bad-rate is for")
    contains(fermata("sim", SMALL, "--scale", "0", code=2)[1], "--scale")
    contains(fermata("sim", SMALL, "--find-goodput", "--trace", "t.json", code=2)[1], "--trace records one run")
    out, err = fermata("sim", SMALL, "--trace", "/nonexistent/t.json", code=3)
    assert out == ""  # said before anything is run
    contains(err, "/nonexistent")
    contains(fermata("sim", SMALL, "--report", FOLDER.name, code=3)[1], FOLDER.name)
    error = json.loads(fermata("sim", wrong, "--json", code=3)[1])["error"]
    assert error["exit_code"] == 3 and "modles" in error["message"], error
    with open(SMALL) as file:
        few = write("few.yaml", file.read() + "requests_max: 3\n")
    contains(fermata("sim", few, "--policy", "latest", code=6)[1], "raise 'requests_max'")


@test
def ten_thousand_models_on_ten_thousand_accelerators():
    big = write("big.yaml", "accelerators: 10000\nwarmup: 200ms\nmeasure: 600ms\nmodels: [{name: m, count: 10000, popularity: 0.5, slo: 80ms, "
                            "profile: {alpha: 2ms, beta: 20ms}, arrivals: {rate: 8}}]\n")
    found = fermata_json("sim", big, "--json")
    assert len(found["models"]) == 10000 and found["accelerators"]["total"] == 10000, (len(found["models"]), found["accelerators"])
    assert found["requests"] > 40000 and found["bad_rate"] < 0.001, (found["requests"], found["bad_rate"])
    assert 1000 < found["accelerators"]["touched"] < 10000, found["accelerators"]


run()
