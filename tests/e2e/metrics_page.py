"""The page for Prometheus and the trace for Perfetto, as the encoders write them, read by readers that are not ours to please."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import prometheus_text
from tap import ROOT, Skip, run, test

BUILD = os.environ["FM_BUILD_ROOT"]
TRITON = """nv_inference_request_success nv_inference_request_failure nv_inference_count nv_inference_exec_count
nv_inference_request_duration_us nv_inference_queue_duration_us nv_inference_compute_input_duration_us nv_inference_compute_infer_duration_us
nv_inference_compute_output_duration_us nv_inference_pending_request_count nv_model_load_duration_secs nv_cache_num_hits_per_model
nv_cache_num_misses_per_model nv_cache_hit_duration_per_model nv_cache_miss_duration_per_model""".split()


def sample(program, name):
    """What a unit test's sample looks like."""
    with tempfile.TemporaryDirectory(prefix="fermata-sample-") as folder:
        subprocess.run([os.path.join(BUILD, "tests", program), "sample"], env={**os.environ, "FM_SAMPLE_OUT": folder}, check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read()


@test
def the_page_is_what_the_format_says():
    families = prometheus_text.parse(sample("unit_engines_serve_metrics", "metrics.prom"))
    assert len(families) > 60, len(families)
    for name in TRITON:
        assert name in families, name
        assert families[name][0] == ("gauge" if "pending" in name or "load" in name else "counter"), name
        assert all({"model", "version"} <= set(labels) for _, labels, _ in families[name][1]), name
    reasons = {labels["reason"] for _, labels, _ in families["nv_inference_request_failure"][1]}
    assert reasons == {"REJECTED", "CANCELED", "BACKEND", "OTHER"}, reasons
    models = {labels["model"] for _, labels, _ in families["nv_inference_count"][1]}
    assert 'odd "name"\\\n' in models, models
    for name in ("queue", "window_wait", "compute", "request"):
        assert families["fermata_%s_seconds" % name][0] == "histogram"


@test
def every_family_is_documented():
    families = prometheus_text.parse(sample("unit_engines_serve_metrics", "metrics.prom"))
    with open(os.path.join(ROOT, "docs/metrics.md"), encoding="utf-8") as file:
        documented = set(re.findall(r"`((?:nv|fermata|process)_[a-z0-9_]+)`", file.read()))
    missing = sorted(set(families) - documented)
    gone = sorted(documented - set(families))
    assert not missing, "not in docs/metrics.md: %s" % missing
    assert not gone, "in docs/metrics.md only: %s" % gone


@test
def promtool_agrees():
    tool = shutil.which("promtool")
    if not tool:
        raise Skip("no promtool here (package prometheus)")
    page = sample("unit_engines_serve_metrics", "metrics.prom")
    done = subprocess.run([tool, "check", "metrics"], input=page.encode(), capture_output=True, timeout=60)
    # It also has an opinion on names; Triton's are as they are.
    problems = [line for line in (done.stdout + done.stderr).decode().splitlines() if not line.startswith("nv_")]
    assert not [line for line in problems if "error" in line.lower() or "parse" in line.lower()], problems


@test
def the_strict_reader_can_fail():
    head = "# HELP a x\n# TYPE a %s\n"
    for text in ["a 1", "a 1\n", head % "counter" + "a -1\n", head % "gauge" + "b 1\n", head % "gauge" + "a 1\na 1\n", head % "gauge" + 'a{x="1} 1\n',
                 head % "gauge" + 'a{x="1",} 1\n', head % "gauge" + 'a{x="\\t"} 1\n', head % "gauge" + "a  1\n", head % "gauge" + "a 0x1\n",
                 head % "what" + "a 1\n", head % "gauge", head % "histogram" + 'a_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
                 head % "histogram" + 'a_bucket{le="+Inf"} 1\na_sum 1\na_count 2\n', head % "gauge" + "a 1\n\n", head % "gauge" * 2 + "a 1\n"]:
        try:
            prometheus_text.parse(text)
        except prometheus_text.Bad:
            continue
        raise AssertionError("accepted: %r" % text)
    prometheus_text.parse(head % "gauge" + 'a{x="q\\"\\\\\\n"} +Inf\na NaN\n')


@test
def the_trace_opens_in_a_viewer():
    events = json.loads(sample("unit_engines_serve_debug_trace", "trace.json"))["traceEvents"]
    named = {(event["pid"], event["tid"]) for event in events if event["ph"] == "M" and event["name"] == "thread_name"}
    opened = {}
    for event in events:
        assert {"ph", "name", "pid", "tid"} <= set(event), event
        if event["ph"] == "M":
            continue
        assert event["ts"] >= 0, event
        assert (event["pid"], event["tid"]) in named or event["ph"] == "C", event
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] in "be":
            key = (event["cat"], event["id"], event["name"])
            opened[key] = opened.get(key, 0) + (1 if event["ph"] == "b" else -1)
    assert set(opened.values()) == {0}, opened
    arrows = {phase: {event["id"] for event in events if event["ph"] == phase} for phase in "sf"}
    assert arrows["s"] and arrows["s"] <= arrows["f"], arrows
    phases = {event["name"] for event in events if event["ph"] == "b"}
    assert phases >= {"decode", "queue", "held", "compute", "encode", "cache", "rest", "window"}, phases


run()
