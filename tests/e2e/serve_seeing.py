"""What `fermata serve` tells of itself while it serves: the page for Prometheus against what was asked, statistics of a pipeline's models, the
timeline, what a request costs against what strace and the allocator say, and that nobody waits for a page."""
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import prometheus_text
import serving
import tap
from hostile import settled
from serving import SLOW, Server, in_threads, tensor, wait_until
from tap import ROOT, Skip, fermata, test

BUILD = os.environ["FM_BUILD_ROOT"]
directory = serving.temporary()
repo = serving.repository(
    os.path.join(directory.name, "models"), echo=serving.ECHO, slow=serving.sleeper("50ms", batch=4),
    first='backend: identity\nmax_batch_size: 8\nsettings:\n  inputs: "x:FP32[-1,4]"\n  outputs: "y"\n',
    second=serving.sleeper("2ms", batch=8), brittle=serving.sleeper("1ms", more="  fail_every: 1\n"))
PIPELINE_SLO_S = 0.7 if SLOW == 1 else 7  # a sanitizer that finds races is slow
os.makedirs(os.path.join(repo, "both"))
with open(os.path.join(repo, "both", "pipeline.yaml"), "w") as file:
    file.write("""slo: %dms
inputs:
  - {name: x, dtype: FP32, shape: [4]}
stages:
  - {name: one, model: first, inputs: {x: x}}
  - {name: two, model: second, inputs: {x: one}}
  - {name: again, model: second, inputs: {x: two}}
outputs: {y: again}
""" % (1000 * PIPELINE_SLO_S))
ROW = {"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]}
server = Server(repo, "--accelerators", "2", "--loops", "2")


def page(one=server):
    status, headers, body = one.request("GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), (status, headers)
    return body.decode()


def value(families, name, family=None, **labels):
    return sum(number for sample, have, number in families[family or name][1]
               if sample == name and all(have.get(key) == label for key, label in labels.items()))


@test
def the_page_counts_what_was_asked():
    """Answers, errors, drops, deadlines, pipelines: each as often as it was asked for."""
    for _ in range(5):
        server.infer("echo", ROW)
    for _ in range(3):
        server.infer("echo", {"inputs": []}, 400)
    server.infer("brittle", ROW, 500)
    server.infer("both", {"inputs": [tensor("x", [4], "FP32", [1, 2, 3, 4])]})
    server.infer("slow", dict(ROW, parameters={"timeout": 1000}), 503)
    server.infer("echo", dict(ROW, parameters={"timeout": 60000000}))
    settled(server)
    families = prometheus_text.parse(page())
    for name, labels, expected in [
            ("nv_inference_request_success", {"model": "echo"}, 6), ("nv_inference_count", {"model": "echo"}, 6),
            ("nv_inference_request_failure", {"model": "echo"}, 3), ("nv_inference_request_failure", {"model": "brittle", "reason": "BACKEND"}, 1),
            ("nv_inference_request_failure", {"model": "slow", "reason": "REJECTED"}, 1), ("nv_inference_request_success", {"model": "both"}, 1),
            ("fermata_drops_total", {"model": "slow", "reason": "infeasible"}, 1), ("fermata_deadlines_total", {"model": "slow", "outcome": "missed"}, 1),
            ("fermata_deadlines_total", {"model": "echo", "outcome": "met"}, 1), ("fermata_good_answers_total", {"model": "echo"}, 6),
            ("fermata_stage_items_total", {"pipeline": "both", "stage": "one", "model": "first", "outcome": "done"}, 1),
            ("fermata_stage_items_total", {"pipeline": "both", "outcome": "failed"}, 0), ("fermata_stage_batches_total", {"stage": "again", "model": "second"}, 1),
            ("nv_inference_request_success", {"model": "first"}, 1), ("nv_inference_exec_count", {"model": "second"}, 2)]:
        assert value(families, name, **labels) == expected, (name, labels, value(families, name, **labels))
    for name, labels, least in [("fermata_allocations_total", {}, 1), ("fermata_system_calls_total", {"call": "read"}, 12), ("nv_cpu_memory_total_bytes", {}, 1),
                                ("fermata_model_slo_seconds", {"model": "both"}, PIPELINE_SLO_S)]:
        assert value(families, name, **labels) >= least, (name, value(families, name, **labels))
    assert 0 <= value(families, "nv_cpu_utilization") <= 1
    parts = [value(families, "fermata_stage_budget_seconds", pipeline="both", stage=stage) for stage in ("one", "two", "again")]
    assert all(part > 0 for part in parts) and sum(parts) <= PIPELINE_SLO_S + 1e-6, parts
    assert value(families, "fermata_stage_seconds_count", "fermata_stage_seconds", pipeline="both") == 3
    assert value(families, "fermata_window_wait_seconds_count", "fermata_window_wait_seconds", model="echo") == 6
    waited = value(families, "fermata_window_wait_seconds_sum", "fermata_window_wait_seconds", model="echo")
    assert 0 <= waited <= value(families, "fermata_queue_seconds_sum", "fermata_queue_seconds", model="echo"), waited


@test
def a_loop_runs_brief_batches_itself():
    if SLOW > 1:
        raise Skip("nothing is brief with a sanitizer")

    def brief():
        return value(prometheus_text.parse(page()), "fermata_accelerator_brief_batches_total")

    def some():
        server.infer("echo", ROW)
        return brief() > before
    before = brief()
    wait_until(some, "no batch was brief")
    before = brief()
    for _ in range(5):
        server.infer("second", ROW)
    assert brief() == before, "what waits is not brief"
    with Server(repo, "--no-brief-batches", "--model", "echo") as one:
        for _ in range(20):
            one.infer("echo", ROW)
        assert value(prometheus_text.parse(page(one)), "fermata_accelerator_brief_batches_total") == 0


@test
def what_runs_where_is_said():
    facts = json.loads(fermata("version", "--json")[0])
    (_, labels, number), = prometheus_text.parse(page())["fermata_build_info"][1]
    assert number == 1 and labels["version"] == facts["version"] and labels["commit"] == facts["commit"] != "", (labels, facts)
    assert labels["build"] == facts["compiler"] + " " + facts["build_type"], (labels, facts)
    state = server.get("/debug/state")["server"]
    assert (state["commit"], state["build"], state["host"]) == (labels["commit"], labels["build"], socket.gethostname()), state


@test
def the_page_is_as_it_should_be():
    """What `promtool check metrics` looks for, and promtool itself where there is one."""
    text = page()
    families = prometheus_text.parse(text)  # the format, duplicate series, histograms
    for name, (kind, samples) in families.items():
        helps = re.findall(r"(?m)^# HELP %s (.+)$" % name, text)
        assert len(helps) == 1 and len(helps[0]) > 5, name
        assert samples, name
        if name.startswith("nv_"):
            continue  # Triton's, as they are
        assert name == name.lower() and "__" not in name, name
        assert (kind == "counter") == name.endswith("_total"), (name, kind)
        assert not re.search(r"(_(ms|us|ns|milliseconds|microseconds|kb|mb|percent)(_|$))|(_count|_sum|_bucket|_info_total)$", name), name
        if kind == "histogram":
            assert name.endswith("_seconds") or name == "fermata_batch_size", name
        for _, labels, number in samples:
            assert number == number, name
            assert all(label == label.lower() for label in labels), labels
    with open(os.path.join(ROOT, "docs/metrics.md"), encoding="utf-8") as file:
        documented = set(re.findall(r"`((?:nv|fermata|process)_[a-z0-9_]+)`", file.read()))
    assert set(families) <= documented, sorted(set(families) - documented)
    tool = shutil.which("promtool")
    if tool:
        done = subprocess.run([tool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
        problems = [line for line in (done.stdout + done.stderr).decode().splitlines() if not line.startswith("nv_")]
        assert not problems, problems


@test
def a_pipeline_counts_for_its_models():
    """As Triton has it: the statistics of what an ensemble is composed of include what ran for it."""
    def counts(name):
        row = server.get("/v2/models/%s/stats" % name)["model_stats"][0]
        return int(row["inference_count"]), int(row["execution_count"]), int(row["inference_stats"]["success"]["count"])

    before = {name: counts(name) for name in ("both", "first", "second")}
    document = {"inputs": [tensor("x", [4], "FP32", [1, 2, 3, 4])]}
    in_threads(*[lambda: [server.infer("both", document) for _ in range(10)]] * 4)
    after = {name: counts(name) for name in before}
    for name in before:
        rows, runs, answers = (after[name][i] - before[name][i] for i in range(3))
        expected = 80 if name == "second" else 40  # two of its stages
        assert rows == expected and answers == expected and 1 <= runs <= expected, (name, rows, runs, answers)
    with Server(os.path.join(repo, "both", "pipeline.yaml")) as alone:  # none of its models is served under its own name
        alone.infer("both", document)
        models = {(model["name"], model["kind"]): model["counts"]["success"] for model in alone.get("/debug/state")["models"]}
        assert models == {("both", "pipeline"): 1, ("first", "stage"): 1, ("second", "stage"): 2}, models


@test
def the_timeline_shows_batches_windows_and_rests():
    for _ in range(20):
        server.infer("echo", ROW)
        server.infer("both", {"inputs": [tensor("x", [4], "FP32", [1, 2, 3, 4])]})
    time.sleep(2.2)  # rests are looked at once a second
    state = server.get("/debug/state")
    names, spans = state["timeline"]["models"], state["timeline"]["spans"]
    kinds = {kind: [span for span in spans if span[0] == kind] for kind in (0, 1, 2)}
    assert {names[span[4]] for span in kinds[0]} >= {"echo", "both/one", "both/two"}, names
    assert len(kinds[2]) >= 40 and len(kinds[1]) >= 2, {kind: len(some) for kind, some in kinds.items()}
    now = state["server"]["now_us"]
    for _, accelerator, start, length, _, _ in spans:
        assert accelerator in (0, 1) and start + length <= now, (start, length, now)
    for one in kinds[1]:  # nothing runs in a rest
        assert not [batch for batch in kinds[0] if batch[1] == one[1] and batch[2] < one[2] + one[3] - 1 and batch[2] + batch[3] > one[2] + 1], one
    for window in kinds[2]:
        assert [batch for batch in kinds[0] if batch[1:2] == window[1:2] and batch[4] == window[4] and batch[2] + batch[3] >= window[2]], window
    events = json.loads(server.request("GET", "/debug/trace?seconds=30")[2])["traceEvents"]
    names = {event["name"] for event in events}
    assert names >= {"window", "rest", "echo", "both/one", "queued", "queue", "held", "compute"}, names


def counted(one):
    families = prometheus_text.parse(page(one))
    calls = {name: value(families, "fermata_system_calls_total", call=name) for name in ("read", "write", "wait", "wake")}
    return dict(calls, allocations=value(families, "fermata_allocations_total"))


def ask(one, count):
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=60)
    body = json.dumps(ROW)
    for _ in range(count):
        connection.request("POST", "/v2/models/echo/infer", body)
        assert connection.getresponse().read()
    connection.close()


def near(ours, theirs, share, least):
    assert abs(ours - theirs) <= max(share * theirs, least), "counted %d, there were %d" % (ours, theirs)


@test
def system_calls_are_those_that_strace_sees():
    """Of connections and of what wakes loops within 5 %; waiting, and waking threads, where libraries do some by themselves, within 15 %."""
    tool = shutil.which("strace")
    if not tool or SLOW > 1:
        raise Skip("no strace here" if not tool else "sanitizers make calls of their own")
    with tempfile.TemporaryDirectory(prefix="fermata-strace-") as folder, Server(repo, "--model", "echo", "--loops", "2") as one:
        trace = os.path.join(folder, "trace")
        calls = "read,readv,write,writev,sendmsg,recvmsg,epoll_wait,epoll_pwait,futex,clock_nanosleep"
        tracer = subprocess.Popen([tool, "-f", "-yy", "-e", "trace=" + calls, "-o", trace, "-p", str(one.process.pid)], stderr=subprocess.PIPE)
        line = tracer.stderr.readline().decode()
        if "attached" not in line:
            tracer.wait()
            raise Skip("strace may not look here: " + line.strip())
        ask(one, 20)
        before, lines = counted(one), sum(1 for _ in open(trace))
        ask(one, 400)
        end = sum(1 for _ in open(trace))
        after = counted(one)
        tracer.terminate()
        tracer.wait()
        with open(trace) as file:
            rows = [row for row in list(file)[lines:end] if "resumed>" not in row]
    ours = {name: after[name] - before[name] for name in after}
    seen = {"read": 0, "write": 0, "wait": 0, "wake": 0}
    for row in rows:
        call = re.match(r"\d+ +(\w+)\((.*)", row)
        if not call:
            continue
        name, rest = call.groups()
        stream, event = "<TCP" in rest.split(",")[0] or "<socket" in rest.split(",")[0], "eventfd" in rest.split(",")[0]
        if name in ("read", "readv", "recvmsg") and (stream or event):
            seen["read"] += 1
        elif name in ("write", "writev", "sendmsg") and stream:
            seen["write"] += 1
        elif name.startswith("write") and event or name == "futex" and "FUTEX_WAKE" in rest:
            seen["wake"] += 1
        elif name.startswith("epoll") or name == "clock_nanosleep" or name == "futex" and "FUTEX_WAIT" in rest:
            seen["wait"] += 1
    print("# 400 requests: counted %s, strace saw %s" % (ours, seen))
    assert ours["read"] >= 400 and ours["write"] >= 400
    near(ours["read"], seen["read"], 0.05, 20)
    near(ours["write"], seen["write"], 0.05, 20)
    near(ours["wait"], seen["wait"], 0.15, 60)
    near(ours["wake"], seen["wake"], 0.15, 60)


@test
def allocations_are_those_that_the_allocator_sees():
    """Within 2 %, but for what the model allocates, which is a plug-in's: its answer."""
    shim = os.path.join(BUILD, "tests", "e2e", "libcount_malloc.so")
    if SLOW > 1 or not os.path.exists(shim):
        raise Skip("the sanitizers' allocator is another")
    with tempfile.NamedTemporaryFile() as total:
        total.write(bytes(8))
        total.flush()
        with Server(repo, "--model", "echo", env={"LD_PRELOAD": shim, "FM_COUNT_MALLOC": total.name}) as one:
            def theirs():
                with open(total.name, "rb") as file:
                    return int.from_bytes(file.read(8), sys.byteorder)

            ask(one, 100)
            before, there = counted(one)["allocations"], theirs()
            ask(one, 2000)
            now = theirs() - there
            ours = counted(one)["allocations"] - before
    print("# 2000 requests: counted %d allocations, the allocator saw %d: %.2f a request" % (ours, now, ours / 2000))
    assert now > 0
    near(ours + 2000, now, 0.02, 200)


def worked(one):
    """CPU time of the event loop, which is the main thread's where there is one loop, and of the observer."""
    def of(thread):
        with open("/proc/%d/task/%s/schedstat" % (one.process.pid, thread)) as file:
            return int(file.read().split()[0]) / 1e9

    for thread in os.listdir("/proc/%d/task" % one.process.pid):
        with open("/proc/%d/task/%s/comm" % (one.process.pid, thread)) as file:
            if file.read().strip() == "fm-observer":
                return of(one.process.pid), of(thread)
    raise AssertionError("nobody observes")


@test
def a_thread_of_its_own_writes_the_pages():
    """Those of hundreds of models take some 20 ms each: event loops only send them."""
    if not os.path.exists("/proc/self/schedstat"):
        raise Skip("this kernel does not tell what threads use")
    count = 300 if SLOW == 1 else 40
    many = serving.repository(os.path.join(directory.name, "many"), **{"m%d" % i: serving.sleeper("1ms") for i in range(count)})
    with Server(many, "--loops", "1", "--no-measure") as one:
        for i in range(count):
            one.infer("m%d" % i, ROW)
        before = worked(one)
        size = sum(len(one.request("GET", path)[2]) for path in ("/metrics", "/debug/state") for _ in range(10))
        loop, observer = (now - then for now, then in zip(worked(one), before))
        families = prometheus_text.parse(page(one))
    print("# 20 pages of %d KiB: %.1f ms of the loop's time each, %.1f ms of the observer's" % (size >> 10, 1e3 * loop / 20, 1e3 * observer / 20))
    assert observer > 2 * loop, (loop, observer)
    assert value(families, "fermata_loop_lag_seconds") >= 0


@test
def it_ends_well():
    server.stop()


tap.run()
