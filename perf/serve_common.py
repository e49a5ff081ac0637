"""What the serve_* measurements share: servers as processes, the load generator, bars."""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


def options_parse(text, rounds=5, seconds=3.0, **more):
    """--quick is for a smoke test: everything runs, nothing is measured well enough to be believed."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default=os.path.join(ROOT, "build"))
    parser.add_argument("--quick", action="store_true", help="a smoke test: short, and bars are not judged")
    parser.add_argument("--json", action="store_true", help="the results as JSON, too")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds)
    for name, arguments in more.items():
        parser.add_argument("--" + name.replace("_", "-"), **arguments)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    return options


class Process:
    """A server: `command` prints where it listens on standard error. Use as a context manager."""

    def __init__(self, command, wait="", wrapper=()):
        self.process = subprocess.Popen([*wrapper, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.pid = self.process.pid
        self.log = []
        self.seen = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        if wait:
            self.wait(wait)

    def _read(self):
        for line in self.process.stdout:
            with self.seen:
                self.log.append(line)
                self.seen.notify_all()
        with self.seen:
            self.log.append(None)
            self.seen.notify_all()

    def wait(self, pattern, seconds=120):
        with self.seen:
            found = []

            def look():
                found[:] = [match for match in (re.search(pattern, line or "") for line in self.log) if match]
                return found or None in self.log
            self.seen.wait_for(look, seconds)
            if not found:
                raise SystemExit("no %r in: %s" % (pattern, "".join(line or "" for line in self.log)))
            return found[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with self.seen:
            self.seen.wait_for(lambda: None in self.log, 10)


class Server(Process):
    def __init__(self, build, *arguments, wrapper=()):
        super().__init__([os.path.join(build, "fermata"), "serve", *map(str, arguments), *PORTS], wait=" ready models=", wrapper=wrapper)
        self.http, self.grpc, self.metrics = (int(self.wait(r"url=\S*?:(\d+)\"? for=%s" % name).group(1))
                                              for name in ("http", "grpc", "metrics"))

    def scrape(self):
        """{'name{labels}': value}"""
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % self.metrics, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}


class Echo(Process):
    def __init__(self, build, wrapper=()):
        super().__init__([os.path.join(build, "perf/serve_echo")], wrapper=wrapper)
        self.http, self.grpc = map(int, self.wait(r"http (\d+) grpc (\d+)").groups())


def load(build, server, protocol, **options):
    """One run of the generator; options: those of perf/serve_load.c, True for flags."""
    words = ["--" + protocol, getattr(server, protocol), "--pid", server.pid]
    for name, value in options.items():
        if value is True:
            words.append("--" + name.replace("_", "-"))
        elif value is not None and value is not False:
            words += ["--" + name.replace("_", "-"), value]
    done = subprocess.run([os.path.join(build, "perf/serve_load"), *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("%s\n%s" % (done.stderr.strip(), "".join(line or "" for line in server.log[-5:])))
    return json.loads(done.stdout)


def repository(models):
    """A model repository in a temporary directory (an object with .name) from {name: model.yaml}."""
    directory = tempfile.TemporaryDirectory(prefix="fermata-perf-")
    for name, text in models.items():
        os.makedirs(os.path.join(directory.name, name))
        with open(os.path.join(directory.name, name, "model.yaml"), "w") as file:
            file.write(text)
    return directory


median = statistics.median


class Bars:
    """Prints what was measured beside its bar, and remembers whether all were met."""

    def __init__(self, options):
        self.quick = options.quick
        self.rows = []

    def add(self, name, value, bar, most=True, unit=""):
        met = value <= bar if most else value >= bar
        self.rows.append({"name": name, "value": value, "bar": bar, "met": met})
        print("%-68s %10.3f%-3s bar %s %g%s: %s" % (name, value, unit, "<=" if most else ">=", bar, unit,
                                                    "not judged" if self.quick else "met" if met else "MISSED"), flush=True)

    def tell(self, name, value, unit=""):
        self.rows.append({"name": name, "value": value})
        print("%-68s %10.3f%s" % (name, value, unit), flush=True)

    def end(self, options):
        if options.json:
            print(json.dumps(self.rows))
        return 0 if self.quick or all(row.get("met", True) for row in self.rows) else 1
