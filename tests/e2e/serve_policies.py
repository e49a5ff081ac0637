"""fermata serve with models that are scheduled differently: policies, goals and SLOs of their own, groups of unlike accelerators, and
models that hang for ever."""
import functools
import os
import re
import shutil
import signal
import time

import serving
import tap
from serving import Server, in_threads, tensor, wait_until
from tap import contains, fermata, fermata_json, test

directory = serving.temporary()
REQUEST = {"inputs": [tensor("x", [1, 4], "FP32", [1, 2, 3, 4])]}


def repository(name, **models):
    return serving.repository(os.path.join(directory.name, name), **models)


def triton(name, model, text):
    """A Triton model of the emulated backend: 1 ms for a batch, whatever its size."""
    path = os.path.join(directory.name, name, model)
    os.makedirs(os.path.join(path, "1"), exist_ok=True)
    with open(os.path.join(path, "config.pbtxt"), "w") as file:
        file.write('backend: "emulated" max_batch_size: 8\nparameters { key: "fermata.latency" value { string_value: "1:1ms, 8:1ms" } }\n' + text)
    return os.path.join(directory.name, name)


def emulated(more="", latency="1:1ms, 8:1ms"):
    return 'backend: emulated\nmax_batch_size: 8\nsettings: {latency: "%s"}\n%s' % (latency, more)


def state(server):
    return server.get("/debug/state")


def model_state(server, name):
    return next(model for model in state(server)["models"] if model["name"] == name)


def policies_of(server, name):
    """As the configuration says it, and as the dashboard shows it."""
    return [server.get("/v2/models/%s/config" % name)["parameters"]["fermata.policy"]["string_value"], model_state(server, name)["policy"]]


def policy_of(server, name):
    told, shown = policies_of(server, name)
    assert told == shown, (told, shown)
    return told


def took(server, model):
    """Of the fastest of some requests: a machine that stalls makes them longer only."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        server.infer(model, REQUEST)
        times.append(time.monotonic() - start)
    return min(times)


def batches(server):
    """By group of accelerators."""
    counts = {}
    for accelerator in state(server)["accelerators"]:
        counts[accelerator["type"]] = counts.get(accelerator["type"], 0) + accelerator["batches"]
    return counts


@test
def models_have_policies_goals_and_slos_of_their_own():
    repo = repository("own", plain=emulated(), waits=emulated("policy: timeout\nbatching: {max_queue_delay: 150ms}\n"),
                      hurries=emulated("policy: eager\nslo: 25s\ngoal: efficiency\nbatching: {max_queue_delay: 20s}\n"))
    with Server(repo, "--slo", "5s") as server:
        assert policy_of(server, "plain") == "deferred" and policy_of(server, "waits") == "timeout" and policy_of(server, "hurries") == "eager"
        assert took(server, "waits") >= 0.15
        assert took(server, "hurries") < 10
        hurries, plain = model_state(server, "hurries"), model_state(server, "plain")
        assert (hurries["slo_ms"], hurries["goal"], plain["slo_ms"], plain["goal"]) == (25000, "efficiency", 5000, "balanced"), (hurries, plain)
        assert state(server)["server"]["policy"] == "deferred"


@test
def the_delay_counts_for_requests_that_have_more_time():
    repo = repository("delay", waits=emulated("policy: timeout\nbatching: {max_queue_delay: 100ms}\n"))
    with Server(repo, "--slo", "1s") as server:
        start = time.monotonic()
        server.infer("waits", {**REQUEST, "parameters": {"timeout": 60000000}})
        assert 0.1 <= time.monotonic() - start < 5 * serving.SLOW


@test
def a_preferred_size_is_not_waited_for_longer():
    repo = repository("preferred", pairs=emulated("policy: timeout\nbatching: {preferred_sizes: [2], max_queue_delay: 20s}\n"))
    with Server(repo, "--slo", "30s") as server:
        start = time.monotonic()
        in_threads(*[functools.partial(server.infer, "pairs", REQUEST)] * 2)
        assert time.monotonic() - start < 15
        sizes = dict(map(tuple, model_state(server, "pairs")["counts"]["sizes"]))
        assert sizes == {2: 1}, sizes


@test
def tritons_batching_counts_where_it_is_chosen():
    batching = "dynamic_batching { max_queue_delay_microseconds: %d }\n"
    repo = triton("triton", "plain", batching % 20000000)
    triton("triton", "brief", batching % 150000)
    triton("triton", "chosen", batching % 150000 + 'parameters { key: "fermata.policy" value { string_value: "timeout" } }\n')
    with Server(repo) as server:
        note = [line for line in server.log if "fermata.policy" in line]
        assert len(note) == 2 and "brief" in note[0] + note[1] and "plain" in note[0] + note[1], server.log
        assert policy_of(server, "plain") == "deferred" and policy_of(server, "chosen") == "timeout"
        assert took(server, "plain") < 10
        assert took(server, "chosen") >= 0.15
    with Server(repo, "--policy", "timeout") as server:
        assert policy_of(server, "plain") == "timeout"
        assert took(server, "brief") >= 0.15


@test
def a_policy_changes_with_a_reload():
    repo = repository("reload", m=emulated("policy: timeout\nbatching: {max_queue_delay: 150ms}\n"))
    with Server(repo, "--model-control-mode", "poll", "--repository-poll-secs", "1h") as server:
        assert policy_of(server, "m") == "timeout" and took(server, "m") >= 0.15
        repository("reload", m=emulated("policy: eager\nbatching: {max_queue_delay: 20s}\n"))
        server.signal(signal.SIGHUP)
        wait_until(lambda: policies_of(server, "m") == ["eager", "eager"])
        assert took(server, "m") < 10


@test
def what_does_not_mix_is_refused():
    repo = repository("mix", good=emulated(), bad=emulated("policy: nexus\n"), odd=emulated("policy: hasty\n"),
                      many=emulated("policy: timeout\nbatching: {preferred_sizes: [1, 2, 3, 4, 5, 6, 7, 8, 8]}\n"))
    with Server(repo) as server:
        log = "\n".join(server.log)
        contains(log, "has policy nexus, which cannot be mixed with the server's policy deferred", "'hasty' is no policy; there are deferred",
                 "model 'many' has 9 preferred batch sizes, policy timeout knows 8 at most")
        server.infer("good", REQUEST)
    shutil.rmtree(os.path.join(repo, "odd"))
    shutil.rmtree(os.path.join(repo, "many"))
    with Server(repo, "--policy", "nexus") as server:
        assert policy_of(server, "bad") == "nexus" and policy_of(server, "good") == "nexus"
        server.infer("bad", REQUEST)
    # It stops batches that run: simulated accelerators can, others cannot.
    contains(fermata("serve", repo, *serving.ANY_PORTS, "--policy", "shepherd", code=2)[1], "--policy", "shepherd", "symphony")
    repository("mix", bad=emulated("policy: shepherd\n"))
    with Server(repo) as server:
        contains("\n".join(server.log), "has policy shepherd, which cannot be mixed", "shepherd is for simulations")


@test
def a_recording_has_the_policies():
    repo = repository("record", a=emulated("policy: timeout\nbatching: {max_queue_delay: 30ms}\n"), b=emulated("policy: eager\n"), c=emulated())
    path = os.path.join(directory.name, "policies.fmrec")
    with Server(repo, "--record", path) as server:
        for i in range(12):
            server.infer("abc"[i % 3], REQUEST)
        server.stop()
    answer = fermata_json("sim", "--replay", path, "--json")
    assert answer["identical"] is True, answer
    # Another policy for those that have none of their own, and one that cannot be mixed.
    fermata("sim", "--replay", path, "--what-if", "--policy", "eager")
    contains(fermata("sim", "--replay", path, "--what-if", "--policy", "shepherd", code=3)[1], "cannot be mixed with policy shepherd")


# --- groups of accelerators ---

FAST_AND_SLOW = 'accelerators:\n  fast: {settings: {latency: "1:2ms, 8:2ms"}}\n  slow: {settings: {latency: "1:%s, 8:%s"}}\n'


@test
def work_goes_to_the_first_group_that_is_in_time():
    repo = repository("groups", both=emulated(FAST_AND_SLOW % ("60ms", "60ms")), slow=emulated("accelerators: slow\n"), any=emulated())
    with Server(repo, "--accelerators", "fast=emulated:1,slow=emulated:2") as server:
        groups = server.get("/v2/models/both/config")["instance_group"]
        assert [(group["name"], group["count"]) for group in groups] == [("fast", 1), ("slow", 2)], groups
        assert [group["name"] for group in server.get("/v2/models/slow/config")["instance_group"]] == ["slow"]
        assert model_state(server, "both")["instances"] == 3
        assert [a["type"] for a in state(server)["accelerators"]] == ["fast", "slow", "slow"]
        for _ in range(10):
            server.infer("both", REQUEST)
        before = batches(server)
        # All but those that come before it is known that the one before them is done.
        assert before["fast"] > before["slow"] and sum(before.values()) == 10, before
        for _ in range(5):
            server.infer("slow", REQUEST)
        after = batches(server)
        assert after["slow"] == before["slow"] + 5 and after["fast"] == before["fast"], (before, after)
        # All of them at once are more than the fast one can do in time.
        in_threads(*[functools.partial(server.infer, "both", {"inputs": [tensor("x", [8, 4], "FP32", [0] * 32)]})] * 12)
        assert batches(server)["fast"] > after["fast"]
    # The slow ones come first, but are too slow for this SLO.
    repo = repository("slower", both=emulated(FAST_AND_SLOW % ("3s", "3s")))
    with Server(repo, "--accelerators", "slow=emulated:2,fast=emulated:1", "--slo", "2s") as server:
        for _ in range(5):
            server.infer("both", REQUEST)
        assert batches(server) == {"slow": 0, "fast": 5}, batches(server)


@test
def a_models_device_says_where_it_runs():
    repo = triton("kinds", "gpu", "instance_group { kind: KIND_GPU gpus: [ 1 ] }\n")
    triton("kinds", "cpu", "instance_group { kind: KIND_CPU count: 2 }\n")
    triton("kinds", "auto", "")
    triton("kinds", "named", 'parameters { key: "fermata.accelerators" value { string_value: "second, cpu" } }\n')
    with Server(repo, "--accelerators", "cpu:1,first=gpu:1@0,second=gpu:2@1") as server:
        config = {name: server.get("/v2/models/%s/config" % name)["instance_group"] for name in ("gpu", "cpu", "auto", "named")}
        assert [(g["name"], g["kind"], g["gpus"], g["count"]) for g in config["gpu"]] == [("second", "KIND_GPU", [1], 2)], config
        assert [g["name"] for g in config["cpu"]] == ["cpu"] and [g["name"] for g in config["auto"]] == ["cpu"], config
        assert [g["name"] for g in config["named"]] == ["cpu", "second"], config
        contains("\n".join(server.log), "2 instances are configured, but here there is one for each of the 1 accelerators")
        for _ in range(3):
            server.infer("gpu", REQUEST)
        assert batches(server) == {"cpu": 0, "first": 0, "second": 3}, batches(server)
        server.infer("named", REQUEST)
        server.infer("auto", REQUEST)
        assert batches(server)["cpu"] >= 1 and sum(batches(server).values()) == 5
    with Server(repo, "--accelerators", "cpu:1") as server:
        contains("\n".join(server.log), "model 'gpu' may use none of the accelerators: there are cpu (--accelerators), and its configuration asks for a GPU",
                 "model 'named' names accelerators 'second', but there are only cpu")
        server.infer("cpu", REQUEST)


@test
def groups_that_a_server_without_any_is_not_asked_for():
    repo = repository("no-groups", named=emulated("accelerators: [fast, slow]\n"), plain=emulated())
    with Server(repo, "--accelerators", "2") as server:
        server.wait_log(re.compile("warning note model=named text=.*its 'accelerators' have no effect.*--accelerators NAME=KIND:COUNT"))
        assert server.request("GET", "/v2/models/named/ready")[0] == 200
        server.stop()
        assert sum("have no effect" in line for line in server.log) == 1, server.log
    with Server(repo, "--accelerators", "fast=emulated:1,slow=emulated:1") as server:
        server.stop()
        assert not any("have no effect" in line for line in server.log), server.log


@test
def models_that_compute_stay_off_emulated_accelerators():
    repo = repository("computes", echo=serving.ECHO, sleeps=emulated())
    with Server(repo, "--accelerators", "emulated:4,cpu:1,wide=cpu:1x2") as server:
        config = {name: [g["name"] for g in server.get("/v2/models/%s/config" % name)["instance_group"]] for name in ("echo", "sleeps")}
        assert config == {"echo": ["cpu", "wide"], "sleeps": ["emulated", "cpu", "wide"]}, config
        server.infer("echo", REQUEST)
        server.infer("sleeps", REQUEST)


@test
def groups_are_written_as_they_are_read():
    for text, said in (("0", "1 to 256"), ("257", "1 to 256"), ("tpu:1", "'tpu' is no kind of accelerators"), ("cpu", "needs a number of accelerators"),
                       ("cpu:0", "from 1 to 256"), ("cpu:2,cpu:1x4", "two groups of accelerators are called 'cpu'"), ("cpu:1x0", "needs a number of threads from 1 to 1024"),
                       ("gpu:1x2", "nobody understands"), ("cpu:1@0", "nobody understands"), ("a b=cpu:1", "is no name"), ("cpu:1,", "is no kind"),
                       (",".join("g%d=cpu:1" % i for i in range(9)), "more than 8 groups")):
        contains(fermata("serve", directory.name, "--accelerators", text, code=2)[1], said)
    contains(fermata("serve", directory.name, "--accelerators", "cpu:1", "--emulated", code=2)[1], "write emulated:8")


# --- models that hang for ever ---

@test
def a_model_that_hangs_for_ever_is_unloaded_and_drained():
    repo = repository("hangs", hangs=emulated("warmup: 0\n").replace("latency:", "hang_every: 1, latency:"), good=emulated(),
                      last=emulated("warmup: 0\n").replace("latency:", "hang_every: 1, latency:"))
    with Server(repo, "--no-measure", "--hang-timeout", "1s", "--accelerators", "3", "--emulated", "--model-control-mode", "explicit",
                "--load-model", "*") as server:
        assert "does not answer" in server.infer("hangs", REQUEST, 500)["error"]
        status, _, body = server.request("POST", "/v2/repository/models/hangs/unload")
        assert status == 200, body
        contains(server.wait_log("model_abandoned"), "model=hangs")
        server.wait_log("model_unloaded model=hangs")
        contains(server.request("GET", "/metrics")[2].decode(), "fermata_models_abandoned 1\n")
        server.infer("hangs", REQUEST, 404)
        server.infer("good", REQUEST)
        # It can be loaded again, beside what is left of it; and the drain does not wait for one that hangs either.
        assert server.request("POST", "/v2/repository/models/hangs/load")[0] == 200
        server.infer("last", REQUEST, 500)
        start = time.monotonic()
        log = server.stop()
        assert time.monotonic() - start < 10 * serving.SLOW
        contains(log, "accelerator_hangs accelerator=1", " stopped requests=")


tap.run()
