"""fermata serve while what is served changes: load, unload, reload, polling, versions, failures, and that no request notices."""
import base64
import functools
import http.client
import json
import os
import shutil
import signal
import threading
import time

import serving
import tap
from serving import ANY_PORTS, Server, beside, echo, in_threads, tensor, wait_in_flight, wait_until
from tap import contains, fermata, test

directory = serving.temporary()


def put(*parts):
    """A file below the test's directory: put("repo", "m", "model.yaml", text). It appears whole."""
    path = os.path.join(directory.name, *parts[:-1])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as file:
        file.write(parts[-1])
    os.rename(path + ".new", path)
    return path


def repository(name, **models):
    return serving.repository(os.path.join(directory.name, name), **models)


def adder(value=0):
    """A model whose answer says which copy of it answered: the emulated backend fills its outputs with zeros, so the shape says it."""
    return 'backend: emulated\nmax_batch_size: 8\nsettings:\n  latency: "1:0.1ms, 8:0.2ms"\n  inputs: "x:FP32[-1,2]"\n  outputs: "y:FP32[-1,%d]"\n' % (value + 1)


REQUEST = {"inputs": [tensor("x", [1, 2], "FP32", [1, 2])]}


def answer(server, model, version=None):
    """The width of the model's answer: which copy it was."""
    path = model if version is None else "%s/versions/%d" % (model, version)
    return server.infer(path, REQUEST)["outputs"][0]["shape"][1] - 1


def index(server, ready=None):
    status, _, body = server.request("POST", "/v2/repository/index", json.dumps({"ready": True}) if ready else None)
    assert status == 200, body
    return {(row["name"], int(row.get("version") or 0)): (row.get("state", ""), row.get("reason", "")) for row in json.loads(body)}


def control(server, model, verb, status=200, **parameters):
    body = json.dumps({"parameters": parameters}) if parameters else None
    got, _, text = server.request("POST", "/v2/repository/models/%s/%s" % (model, verb), body)
    assert got == status, (got, text)
    return text.decode()


def polling(*arguments, every="0.1s", **options):
    return Server(*arguments, "--model-control-mode", "poll", "--repository-poll-secs", every, **options)


def explicit(*arguments, **options):
    return Server(*arguments, "--model-control-mode", "explicit", **options)


class Load:
    """Clients that ask one after the other until told to stop; every answer has to be 200, and one of `expected`."""

    def __init__(self, server, model, expected, clients=6):
        self.server, self.model, self.expected = server, model, expected
        self.wrong, self.counts = [], [0] * clients
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

    def _run(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        body = json.dumps(REQUEST)
        while not self.stop.is_set():
            try:
                connection.request("POST", "/v2/models/%s/infer" % self.model, body)
                got = connection.getresponse()
                text = got.read()
            except (OSError, http.client.HTTPException) as problem:
                self.wrong.append(repr(problem))
                return
            if got.status != 200 or json.loads(text)["outputs"][0]["shape"][1] - 1 not in self.expected:
                self.wrong.append((got.status, text))
                return
            self.counts[number] += 1
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.wrong or all(self.counts))
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.wrong == [], self.wrong[:3]

    def more(self):
        """Every client has had another answer."""
        before = list(self.counts)
        wait_until(lambda: self.wrong or all(now > then for now, then in zip(self.counts, before)))


@test
def explicit_mode_serves_what_it_is_asked_to():
    repo = repository("explicit", a=adder(), b=adder())
    with explicit(repo) as server:
        assert server.get("/v2/health/ready") == {"ready": True}
        assert index(server) == {("a", 0): ("UNAVAILABLE", "not loaded"), ("b", 0): ("UNAVAILABLE", "not loaded")}, index(server)
        contains(server.infer("a", REQUEST, 404)["error"], "Request for unknown model: 'a'", "not loaded")
        control(server, "a", "load")
        assert answer(server, "a") == 0
        assert index(server, ready=True) == {("a", 1): ("READY", "")}
        control(server, "a", "load")
        control(server, "a", "unload")
        server.infer("a", REQUEST, 404)
        wait_until(lambda: index(server)[("a", 1)] == ("UNAVAILABLE", "unloaded"))
        control(server, "a", "unload")
        control(server, "never-heard-of", "unload")
        control(server, "a", "load")
        assert answer(server, "a") == 0
    contains("\n".join(server.log), "model_ready model=a", "model_unloaded model=a")


@test
def what_explicit_mode_loads_at_the_start():
    repo = repository("load-model", a=adder(), b=adder())
    with explicit(repo, "--load-model", "b") as server:
        assert answer(server, "b") == 0
        server.infer("a", REQUEST, 404)
    with explicit(repo, "--load-model", "*") as server:
        assert answer(server, "a") == 0 and answer(server, "b") == 0
    contains(fermata("serve", repo, "--load-model", "b", code=2)[1], "--model-control-mode explicit")
    contains(fermata("serve", repo, "--model-control-mode", "explicit", "--load-model", "c", *ANY_PORTS, code=3)[1],
             "none of the given paths holds a model 'c'")


@test
def a_new_directory_can_be_loaded():
    repo = repository("later", a=adder())
    with explicit(repo) as server:
        contains(control(server, "b", "load", 404), "failed to load 'b'")
        put("later", "b", "model.yaml", adder(3))
        assert index(server)[("b", 0)] == ("UNAVAILABLE", "not loaded")
        control(server, "b", "load")
        assert answer(server, "b") == 3
        shutil.rmtree(os.path.join(repo, "b"))
        assert answer(server, "b") == 3
        contains(control(server, "b", "load", 400), "failed to load 'b'", "goes on answering")
        assert answer(server, "b") == 3
        control(server, "b", "unload")
        wait_until(lambda: [key for key in index(server) if key[0] == "b"] == [])


@test
def names_that_lead_elsewhere_are_refused():
    repo = repository("names", a=adder())
    put("secret", "model.yaml", adder())
    with explicit(repo) as server:
        for name in ("%2e%2e%2fsecret", "..", ".hidden", "a%2f..%2f..%2fsecret"):
            got, _, text = server.request("POST", "/v2/repository/models/%s/load" % name)
            assert got in (400, 404), (name, got, text)


@test
def other_modes_refuse_operations():
    repo = repository("refuse", a=adder())
    with Server(repo) as server:
        contains(control(server, "a", "load", 501), "--model-control-mode explicit")
        contains(control(server, "a", "unload", 501), "not allowed")
        assert answer(server, "a") == 0
        assert server.request("GET", "/v2/repository/models/a/load")[0] == 405
        got, _, text = server.request("POST", "/v2/repository/models/a/load", "[]")
        assert got == 400, text


@test
def a_failed_reload_leaves_the_old_version():
    repo = repository("rollback", a=adder(1))
    with explicit(repo, "--load-model", "a") as server:
        with Load(server, "a", {1}) as load:
            put("rollback", "a", "model.yaml", "backend: nosuch\n")
            contains(control(server, "a", "load", 400), "failed to load 'a'", "nosuch", "goes on answering")
            load.more()
            state, reason = index(server)[("a", 1)]
            assert state == "READY" and "nosuch" in reason, (state, reason)
            put("rollback", "a", "model.yaml", "max_batch_size: [\n")
            contains(control(server, "a", "load", 400), "model.yaml")
            load.more()
            assert index(server)[("a", 1)][0] == "READY"
            assert server.get("/v2/health/ready") == {"ready": True}
        put("rollback", "a", "model.yaml", adder(2))
        control(server, "a", "load")
        assert answer(server, "a") == 2 and index(server)[("a", 1)] == ("READY", "")


@test
def a_broken_new_version_takes_nothing_away():
    repo = os.path.join(directory.name, "versions")
    put("versions", "a", "model.yaml", "backend: emulated\nfile: m.txt\nmax_batch_size: 8\nsettings:\n  latency: \"1:0.1ms\"\n"
        "  inputs: \"x:FP32[-1,2]\"\n  outputs: \"y:FP32[-1,1]\"\n")
    put("versions", "a", "1", "m.txt", "one")
    with polling(repo) as server:
        assert answer(server, "a") == 0
        os.makedirs(os.path.join(repo, "a", "2"))
        wait_until(lambda: "a" in {name for (name, version), (state, reason) in index(server).items() if "m.txt" in reason})
        assert answer(server, "a") == 0 and answer(server, "a", 1) == 0
        put("versions", "a", "2", "m.txt", "two")
        wait_until(lambda: server.get("/v2/models/a")["versions"] == ["2"])
        assert index(server) == {("a", 2): ("READY", "")} or wait_until(lambda: index(server) == {("a", 2): ("READY", "")}) is None
        server.get("/v2/models/a/versions/1", 404)


@test
def version_policies():
    repo = os.path.join(directory.name, "policies")
    for name, policy in (("latest", "latest"), ("two", "{latest: 2}"), ("all", "all"), ("some", "{specific: [1, 3]}")):
        put("policies", name, "model.yaml", "backend: emulated\nfile: m.txt\nmax_batch_size: 8\nversion_policy: %s\nsettings:\n  latency: \"1:0.1ms\"\n"
            "  inputs: \"x:FP32[-1,2]\"\n  outputs: \"y:FP32[-1,1]\"\n" % policy)
        for version in "123":
            put("policies", name, version, "m.txt", version)
    with polling(repo) as server:
        versions = {name: server.get("/v2/models/" + name)["versions"] for name in ("latest", "two", "all", "some")}
        assert versions == {"latest": ["3"], "two": ["2", "3"], "all": ["1", "2", "3"], "some": ["1", "3"]}, versions
        before = sum("model_ready" in line for line in server.log)
        put("policies", "all", "4", "m.txt", "4")
        put("policies", "two", "4", "m.txt", "4")
        wait_until(lambda: server.get("/v2/models/two")["versions"] == ["3", "4"])
        wait_until(lambda: server.get("/v2/models/all")["versions"] == ["1", "2", "3", "4"])
        # What did not change was not loaded again.
        assert sum("model_ready" in line for line in server.log) == before + 2, "\n".join(server.log)
        shutil.rmtree(os.path.join(repo, "all", "2"))
        wait_until(lambda: server.get("/v2/models/all")["versions"] == ["1", "3", "4"])


@test
def polling_follows_the_repository():
    repo = repository("poll", a=adder(1))
    with polling(repo) as server:
        assert answer(server, "a") == 1
        put("poll", "b", "model.yaml", adder(2))
        wait_until(lambda: ("b", 1) in index(server, ready=True))
        assert answer(server, "b") == 2
        put("poll", "a", "model.yaml", adder(5))
        wait_until(lambda: answer(server, "a") == 5)
        shutil.rmtree(os.path.join(repo, "b"))
        wait_until(lambda: not any(name == "b" for name, _ in index(server)))
        server.infer("b", REQUEST, 404)
        put("poll", "c", "model.yaml", "backend: nosuch\n")
        wait_until(lambda: index(server).get(("c", 1), ("", ""))[0] == "UNAVAILABLE")
        assert server.get("/v2/health/ready") == {"ready": True}
        put("poll", "c", "model.yaml", adder(7))
        wait_until(lambda: ("c", 1) in index(server, ready=True))
        assert answer(server, "c") == 7
        # A repository that cannot be read takes nothing away.
        os.rename(repo, repo + ".away")
        server.wait_log("poll_failed")
        assert answer(server, "a") == 5 and answer(server, "c") == 7
        os.rename(repo + ".away", repo)
        contains("\n".join(server.log), "model_failed model=c", "serving what is loaded")


@test
def a_name_that_two_repositories_have():
    one, two = repository("clash-one", a=adder(1)), repository("clash-two", b=adder(2))
    with polling(one, two) as server:
        put("clash-one", "b", "model.yaml", adder(7))
        wait_until(lambda: "another repository" in index(server)[("b", 1)][1])
        assert answer(server, "b") == 2
        shutil.rmtree(os.path.join(two, "b"))
        wait_until(lambda: answer(server, "b") == 7)
    put("clash-two", "a", "model.yaml", adder(3))
    contains(fermata("serve", one, two, *ANY_PORTS, code=3)[1], "model 'a' comes from two of the given paths")


@test
def a_single_model_is_followed_too():
    repo = repository("alone", a=adder(1))
    with polling(os.path.join(repo, "a")) as server:
        put("alone", "a", "model.yaml", adder(2))
        wait_until(lambda: answer(server, "a") == 2)
        put("alone", "a", "model.yaml", "max_batch_size: [\n")
        wait_until(lambda: index(server)[("a", 1)][1] != "")
        assert answer(server, "a") == 2


@test
def a_directory_that_goes_while_it_is_being_loaded():
    slow = (adder(1) + "warmup: 40\n").replace("1:0.1ms, 8:0.2ms", "1:20ms, 8:20ms")
    repo = repository("vanish", a=slow, b=adder(2))
    with explicit(repo, "--load-model", "b") as server:
        join = beside(functools.partial(control, server, "a", "load"))
        wait_until(lambda: index(server).get(("a", 1), ("", ""))[0] == "LOADING")
        shutil.rmtree(os.path.join(repo, "a"))
        join()
        # It was read before; and whoever asks again is told.
        assert answer(server, "a") == 1
        contains(control(server, "a", "load", 400), "failed to load 'a'")
        assert answer(server, "a") == 1 and answer(server, "b") == 2


@test
def polling_waits_until_files_have_settled():
    repo = repository("settle", a=adder())
    with polling(repo, every="0.5s") as server:
        path = os.path.join(repo, "b", "model.yaml")
        os.makedirs(os.path.dirname(path))
        text = adder(4)
        for end in range(40, len(text) + 40, 40):
            with open(path, "w") as file:
                file.write(text[:end])
            time.sleep(0.2)
        wait_until(lambda: ("b", 1) in index(server, ready=True))
        assert answer(server, "b") == 4
        server.stop()
        assert not any("model_failed" in line for line in server.log), "\n".join(server.log)


@test
def a_poll_may_start_with_nothing():
    repo = repository("empty")
    os.makedirs(repo)
    with polling(repo) as server:
        assert index(server) == {}
        put("empty", "a", "model.yaml", adder())
        wait_until(lambda: ("a", 1) in index(server, ready=True))


@test
def a_hangup_is_one_poll_now():
    repo = repository("hangup", a=adder(1))
    with Server(repo) as server:
        put("hangup", "a", "model.yaml", adder(2))
        put("hangup", "b", "model.yaml", adder(3))
        time.sleep(0.3)
        assert answer(server, "a") == 1
        server.signal(signal.SIGHUP)
        wait_until(lambda: answer(server, "a") == 2 and ("b", 1) in index(server, ready=True))
        assert answer(server, "b") == 3
    with explicit(repo, "--load-model", "a") as server:
        put("hangup", "a", "model.yaml", adder(4))
        server.signal(signal.SIGHUP)
        wait_until(lambda: answer(server, "a") == 4)
        server.infer("b", REQUEST, 404)


@test
def a_hangup_during_a_look_is_another_look():
    repo = repository("twice", a=adder(0))
    for number in range(4000):
        os.makedirs(os.path.join(repo, "m%05d" % number, "1"))
    with explicit(repo, "--load-model", "a") as server:
        for turn in range(1, 9):
            begun = sum(" polling " in line for line in server.log)
            server.signal(signal.SIGHUP)
            wait_until(lambda: sum(" polling " in line for line in server.log) > begun)
            # Somewhere in the middle of the look, which may have passed the model already.
            time.sleep(0.01 * turn)
            put("twice", "a", "model.yaml", adder(turn))
            server.signal(signal.SIGHUP)
            wait_until(lambda: answer(server, "a") == turn)
    shutil.rmtree(repo)


@test
def a_pipeline_is_reloaded_with_its_models():
    repo = repository("chain", numbers=echo("x:FP32[-1,2]", 8))
    put("chain", "pipe", "pipeline.yaml", "inputs: [{name: x, dtype: FP32, shape: [2]}]\nstages:\n  - {name: last, model: numbers, inputs: x}\noutputs: {y: last}\n")
    request = {"inputs": [tensor("x", [2], "FP32", [1, 2])]}
    with polling(repo) as server:
        assert server.infer("pipe", request)["outputs"][0]["data"] == [1, 2]
        put("chain", "numbers", "model.yaml", echo("x:FP32[-1,3]", 8))
        # The pipeline does not fit its model any more: it is tried, and the old one stays.
        wait_until(lambda: "last" in index(server)[("pipe", 1)][1])
        assert index(server)[("pipe", 1)][0] == "READY"
        assert server.infer("pipe", request)["outputs"][0]["data"] == [1, 2]
        put("chain", "numbers", "model.yaml", echo("x:FP32[-1,2]", 4))
        wait_until(lambda: index(server)[("pipe", 1)] == ("READY", ""))
        assert sum("model_ready model=pipe" in line for line in server.log) == 2, "\n".join(server.log)


@test
def unloading_a_pipeline_with_what_it_uses():
    repo = os.path.join(directory.name, "chain")
    with explicit(repo, "--load-model", "*") as server:
        control(server, "numbers", "unload")
        assert index(server, ready=True) == {("pipe", 1): ("READY", "")}
        control(server, "numbers", "load")
        control(server, "pipe", "unload", unload_dependents=True)
        assert index(server, ready=True) == {}, index(server)
        control(server, "pipe", "load")
        control(server, "numbers", "load")
        control(server, "pipe", "unload")
        assert index(server, ready=True) == {("numbers", 1): ("READY", "")}


TRITON = {"backend": "emulated", "max_batch_size": 8,
          "parameters": {"fermata.latency": {"string_value": "1:0.1ms"}, "fermata.inputs": {"string_value": "x:FP32[-1,2]"},
                         "fermata.outputs": {"string_value": "y:FP32[-1,7]"}}}


@test
def a_configuration_with_the_request():
    repo = repository("config", a=adder(1))
    with explicit(repo) as server:
        control(server, "a", "load", config=json.dumps(TRITON))
        assert answer(server, "a") == 6
        control(server, "a", "load")
        assert answer(server, "a") == 1
        text = 'backend: "emulated" max_batch_size: 8 parameters { key: "fermata.latency" value: { string_value: "1:0.1ms" } }' \
               'parameters { key: "fermata.inputs" value: { string_value: "x:FP32[-1,2]" } } parameters { key: "fermata.outputs" value: { string_value: "y:FP32[-1,4]" } }'
        control(server, "a", "load", config=text)
        assert answer(server, "a") == 3
        contains(control(server, "a", "load", 400, config='{"max_batch_sizes": 3}'), "the given configuration:1:", "did you mean 'max_batch_size'")
        contains(control(server, "a", "load", 400, config='{"backend": "emulated",}'), "the given configuration")
        contains(control(server, "a", "load", 400, config=17), "'config' must be a string")
        # What a client sends says nothing about files that are not the model's: not by itself, and not by what a message quotes of them.
        outside = os.path.join(directory.name, "kept-secret")
        with open(outside, "w") as file:
            file.write("the-secret control\n")
        for path in (outside, "../../kept-secret", "1/../../../kept-secret", ".."):
            for wrong in ({"parameters": {"fermata.profile": {"string_value": path}}}, {"default_model_filename": path},
                          {"output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4], "label_filename": path}]}):
                refused = control(server, "a", "load", 400, config=json.dumps(dict(TRITON, **wrong)))
                contains(refused, "leads out of the model's directory")
                assert "the-secret" not in str(refused), refused
        contains(control(server, "a", "load", 400, config='{"backend": "/tmp/libx.so"}'), "backend '/tmp/libx.so' is a file")
        contains(control(server, "a", "load", 400, **{"config": json.dumps(TRITON), "file:1/a\0b": "aGFsbG8="}), "has a NUL character")
        assert answer(server, "a") == 3
        camel = dict(TRITON, maxBatchSize="4", instanceGroup=[{"count": 2, "kind": "KIND_CPU"}], versionPolicy={"latest": {"numVersions": 1}})
        del camel["max_batch_size"]
        control(server, "a", "load", config=json.dumps(camel))
        assert server.get("/v2/models/a/config")["max_batch_size"] == 4


@test
def files_with_the_request():
    repo = repository("files", a=adder(1))
    config = json.dumps(dict(TRITON, default_model_filename="m.txt", version_policy={"all": {}}))
    scratch = os.path.join(directory.name, "tmp")
    os.makedirs(scratch)
    content = base64.b64encode(b"some bytes").decode()
    with explicit(repo, env={"TMPDIR": scratch}) as server:
        control(server, "a", "load", **{"config": config, "file:1/m.txt": content, "file:5/m.txt": content})
        assert server.get("/v2/models/a")["versions"] == ["1", "5"]
        [folder] = os.listdir(scratch)
        assert os.stat(os.path.join(scratch, folder)).st_mode & 0o077 == 0
        with open(os.path.join(scratch, folder, "5", "m.txt")) as file:
            assert file.read() == "some bytes"
        # A model that no repository has.
        control(server, "fresh", "load", **{"config": config, "file:1/m.txt": content})
        assert answer(server, "fresh") == 6
        for path in ("../m.txt", "/etc/m.txt", "1/../../m.txt", "1/", "1", "0/m.txt", "x/m.txt", "1/.hidden", "1//m.txt", "99999999999999999999999/m.txt",
                     "A" * 256, "1/" + "A" * 256, "1/" + "A" * 256 + "/m.txt", "1/" + "A/" * 3000 + "m.txt"):
            contains(control(server, "a", "load", 400, **{"config": config, "file:" + path: content}), "Invalid file path", "does not name a file of a version")
        control(server, "a", "load", **{"config": config, "file:1/m.txt": content, "file:1/" + "A" * 255: content})
        contains(control(server, "a", "load", 400, **{"config": config, "file:1/m.txt": "not base64!"}), "is not base64")
        contains(control(server, "a", "load", 400, **{"file:1/m.txt": content}), "need a configuration with them")
        assert answer(server, "a") == 6
        control(server, "a", "unload")
        control(server, "fresh", "unload")
        wait_until(lambda: os.listdir(scratch) == [])
        control(server, "a", "load")
        assert answer(server, "a") == 1
        control(server, "a", "load", **{"config": config, "file:1/m.txt": content})
    assert os.listdir(scratch) == []


@test
def strict_is_for_the_start():
    repo = repository("strict", a=adder())
    with polling(repo, "--strict") as server:
        put("strict", "bad", "model.yaml", "backend: nosuch\n")
        contains(server.wait_log("model_failed"), "model=bad", "nosuch", "serving without it")
        assert answer(server, "a") == 0
    err = fermata("serve", repo, *ANY_PORTS, "--strict", code=None)[1]
    contains(err, "model 'bad' does not load", "nosuch")
    assert "model_failed" not in err, err


@test
def strict_readiness():
    repo = repository("ready", a=adder(), bad="backend: nosuch\n")
    with Server(repo) as server:
        assert server.get("/v2/health/ready") == {"ready": True}
    with Server(repo, "--strict-readiness") as server:
        assert server.get("/v2/health/ready", 400) == {"ready": False}
        put("ready", "bad", "model.yaml", adder())
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.request("GET", "/v2/health/ready")[0] == 200)
    with explicit(repo, "--strict-readiness") as server:
        assert server.get("/v2/health/ready") == {"ready": True}


@test
def a_slow_load_holds_up_no_other():
    slow = adder(1) + "warmup: 200\n"
    slow = slow.replace("1:0.1ms, 8:0.2ms", "1:20ms, 8:20ms")
    repo = repository("slow-load", slow=slow, fast=adder(2))
    with explicit(repo, "--load-threads", "2") as server:
        begun = time.monotonic()
        join = beside(functools.partial(control, server, "slow", "load"))
        wait_until(lambda: index(server).get(("slow", 1), ("", ""))[0] == "LOADING" or index(server).get(("slow", 0), ("", ""))[0] == "LOADING")
        control(server, "fast", "load")
        assert answer(server, "fast") == 2
        contains(server.infer("slow", REQUEST, 503)["error"], "is being loaded")
        control(server, "fast", "unload")
        control(server, "fast", "load")
        assert ("slow", 1) not in index(server, ready=True) and time.monotonic() - begun < 3 * serving.SLOW
        join()
        assert answer(server, "slow") == 1


@test
def a_client_that_leaves_while_its_model_is_being_loaded():
    slow = (adder(1) + "warmup: 40\n").replace("1:0.1ms, 8:0.2ms", "1:20ms, 8:20ms")
    repo = repository("leaves", a=slow)
    with explicit(repo) as server:
        client = server.connect()
        client.sendall(b"POST /v2/repository/models/a/load HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        wait_until(lambda: any(value[0] == "LOADING" for value in index(server).values()))
        client.close()
        wait_until(lambda: ("a", 1) in index(server, ready=True))
        assert answer(server, "a") == 1


@test
def twenty_reloads_under_load_lose_nothing():
    repo = repository("reloads", a=adder(0), b=adder(0))
    with explicit(repo, "--load-model", "*") as server:
        with Load(server, "a", set(range(21))) as first, Load(server, "b", {0}) as second:
            for number in range(1, 21):
                put("reloads", "a", "model.yaml", adder(number))
                control(server, "a", "load")
                # Whoever was told that it is loaded is answered by it.
                assert answer(server, "a") == number
                first.more()
            second.more()
        assert sum(first.counts) > 100


@test
def a_request_in_flight_keeps_its_model():
    slow = adder(1).replace("1:0.1ms, 8:0.2ms", "1:700ms, 8:700ms")
    repo = repository("in-flight", a=slow)
    with explicit(repo, "--load-model", "a") as server:
        join = beside(*[functools.partial(answer, server, "a")] * 3)
        wait_in_flight(server, "a", 3)
        control(server, "a", "unload")
        server.infer("a", REQUEST, 404)
        assert index(server)[("a", 1)][0] == "UNLOADING" or serving.SLOW > 1, index(server)
        put("in-flight", "a", "model.yaml", adder(2))
        control(server, "a", "load")
        assert answer(server, "a") == 2
        assert join() == [1, 1, 1]


@test
def operations_on_one_model_take_turns():
    repo = repository("turns", a=adder(1))
    with explicit(repo) as server:
        def many(verb):
            for _ in range(30):
                control(server, "a", verb)

        in_threads(*[functools.partial(many, verb) for verb in ("load", "unload", "load", "unload")])
        control(server, "a", "load")
        assert answer(server, "a") == 1


@test
def a_drain_while_a_model_is_being_loaded():
    slow = (adder(1) + "warmup: 20\n").replace("1:0.1ms, 8:0.2ms", "1:50ms, 8:50ms")
    repo = repository("drain-load", a=slow, b=slow, c=slow)
    with explicit(repo) as server:
        join = beside(*[functools.partial(server.request, "POST", "/v2/repository/models/%s/load" % name) for name in "abc"])
        wait_until(lambda: [state for state, _ in index(server).values()] == ["LOADING"] * 3)
        server.signal()
        got = {status: body for status, _, body in join()}
        server.ended(0)
        # Two are loaded at a time, and end well; the third has not begun. Where everything takes longer, no other may have either.
        assert "the server is ending" in got.pop(503).decode()
        assert set(got) == {200} or not got and serving.SLOW > 1, got


@test
def ten_thousand_models():
    repo = os.path.join(directory.name, "many")
    for number in range(10000):
        os.makedirs(os.path.join(repo, "m%05d" % number))
    for number in range(0, 10000, 100):
        put("many", "m%05d" % number, "model.yaml", adder())
    begun = time.monotonic()
    with explicit(repo, "--load-model", "m00000", "--load-model", "m09900") as server:
        started = time.monotonic() - begun
        begun = time.monotonic()
        assert len(index(server)) == 10000
        listed = time.monotonic() - begun
        begun = time.monotonic()
        for number in range(100, 2100, 100):
            control(server, "m%05d" % number, "load")
        loaded = time.monotonic() - begun
        assert len(index(server, ready=True)) == 22
        print("# 10,000 models: start %.2f s, index %.3f s, a load %.4f s" % (started, listed, loaded / 20))
        assert started < 10 * serving.SLOW and listed < 2 * serving.SLOW and loaded < 6 * serving.SLOW
    shutil.rmtree(repo)


def resident(server):
    with open("/proc/%d/statm" % server.process.pid) as file:
        return int(file.read().split()[1]) * 4096


@test
def a_thousand_reloads_keep_memory_flat():
    if serving.SLOW > 1:
        raise tap.Skip("sanitizers keep freed memory")
    repo = repository("leak", a=adder(1))
    with explicit(repo, "--load-model", "a") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        sizes = []
        with Load(server, "a", {1}, clients=2):
            for number in range(1000):
                connection.request("POST", "/v2/repository/models/a/load", json.dumps({"parameters": {"config": json.dumps(
                    dict(TRITON, parameters=dict(TRITON["parameters"], **{"fermata.outputs": {"string_value": "y:FP32[-1,2]"}})))}}))
                got = connection.getresponse()
                text = got.read()
                assert got.status == 200, text
                if number in (199, 999):
                    sizes.append(resident(server))
        print("# resident after 200 reloads %.1f MB, after 1000 %.1f MB" % (sizes[0] / 1e6, sizes[1] / 1e6))
        assert sizes[1] < sizes[0] * 1.05 + 1e6, sizes
        assert len(os.listdir("/proc/%d/task" % server.process.pid)) < 60


tap.run()
