"""A job whose input grows: only the new inputs are done, by workers of this host and of others; what was committed is not touched."""
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import COLUMNS, SLOW_MODEL, Job, Rows, end_of, wait_for, workers_of  # noqa: E402
from tap import FERMATA, contains, fermata, run, test  # noqa: E402

KEYS = "shard_rows: 7\nrows_in_flight: 8\n"


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


class Grown:
    """A job with a master on a port that stays the same, and workers of other hosts."""

    def __init__(self, job):
        self.job, self.port, self.helpers = job, free_port(), []
        (job.path / "token").write_text("0123456789abcdef" * 4 + "\n")
        self.token = ["--token-file", job.path / "token"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for helper in self.helpers:
            if helper.poll() is None:
                helper.kill()
            helper.communicate()

    def master(self, *arguments):
        return subprocess.Popen([FERMATA, "batch", self.job.file, "--listen", "127.0.0.1:%d" % self.port, *self.token, *map(str, arguments)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def helper(self, name):
        helper = subprocess.Popen([FERMATA, "worker", "--join", "grpc://127.0.0.1:%d" % self.port, "--name", name, "--patience", "60s", *self.token],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.helpers.append(helper)
        return helper

    def committed(self):
        """Everything that readers may have seen: names, contents, and the files themselves."""
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in self.job.out.glob("part-*")}

    def untouched(self, before):
        now = self.committed()
        assert {name: now.get(name) for name in before} == before, "committed parts were touched"
        return len(now) - len(before)

    def proven(self, rows):
        self.job.check_complete()
        contains(fermata("job", "verify", self.job.out)[0], "proven: %d rows in, %d results" % (rows, rows), "every row's id was compared")


@test
def a_finished_job_does_its_new_inputs_only():
    with Job(count=40, model=SLOW_MODEL, keys=KEYS) as job, Grown(job) as grown:
        helper = grown.helper("first")
        end_of(grown.master("--workers", 1), 0)
        end_of(helper, 0)
        grown.proven(40)
        before = grown.committed()
        # Between those that were there, and behind them.
        job.add(100, 30)
        (job.path / "in" / "row-0010a").write_text("text of row 10a")
        out, err = end_of(grown.master("--workers", 1, "--resume"), 0)
        contains(err, "31 new inputs since the job was begun")
        contains(out, "31 rows in 0:0")
        assert grown.untouched(before) == 5
        grown.proven(71)
        # Only others work; and once more nothing is new.
        before = grown.committed()
        job.add(200, 20)
        helper = grown.helper("second")
        out, err = end_of(grown.master("--workers", 0, "--resume"), 0)
        end_of(helper, 0)
        contains(err, "20 new inputs since the job was begun")
        assert grown.untouched(before) == 3
        grown.proven(91)
        before = grown.committed()
        end_of(grown.master("--workers", 1, "--resume"), 0)
        assert grown.untouched(before) == 0
        grown.proven(91)


@test
def a_master_that_is_killed_comes_back_to_more_inputs_and_its_helpers_stay():
    with Job(count=200, model=SLOW_MODEL, keys=KEYS) as job, Grown(job) as grown:
        helper = grown.helper("stays")
        process = grown.master("--workers", 1)
        wait_for(lambda: len(grown.committed()) >= 6)
        children = workers_of(process)
        process.send_signal(signal.SIGKILL)
        end_of(process, -9)
        wait_for(lambda: not any(os.path.exists("/proc/%d" % child) for child in children))
        before = grown.committed()
        job.add(300, 60)
        out, err = end_of(grown.master("--workers", 1, "--resume"), 0)
        contains(err, "60 new inputs since the job was begun")
        _, told = end_of(helper, 0)
        assert grown.untouched(before) > 20
        grown.proven(260)


@test
def a_stopped_job_goes_on_with_more_inputs():
    with Job(count=150, model=SLOW_MODEL, keys=KEYS) as job, Grown(job) as grown:
        helper = grown.helper("one")
        process = grown.master("--workers", 1)
        wait_for(lambda: len(grown.committed()) >= 4)
        process.terminate()
        end_of(process, 143)
        end_of(helper, 0)  # the job was stopped: it is not needed until somebody begins it again
        before = grown.committed()
        job.add(400, 25)
        helper = grown.helper("two")
        end_of(grown.master("--workers", 1, "--resume"), 0)
        end_of(helper, 0)
        grown.untouched(before)
        grown.proven(175)


def table(first, count):
    return "a,b,c,d,user\n" + "".join("1,2,3,4,u%d\n" % i for i in range(first, first + count))


@test
def rows_belong_into_new_files():
    with Rows({"1.csv": table(0, 100)}, given=COLUMNS) as job, Grown(job) as grown:
        fermata("batch", job.file)
        before = grown.committed()
        # A file that was counted keeps its rows: appended ones are refused, and nothing is touched.
        job.put("1.csv", table(0, 110))
        _, err = fermata("batch", job.file, "--resume", code=3)
        contains(err, "1.csv", "of another size")
        assert grown.untouched(before) == 0
        job.put("1.csv", table(0, 100))
        job.put("2.csv", table(100, 10))
        helper = grown.helper("rows")
        _, err = end_of(grown.master("--workers", 0, "--resume"), 0)
        end_of(helper, 0)
        contains(err, "10 new inputs since the job was begun")
        assert grown.untouched(before) == 1
        assert sorted(job.results()) == sorted("u%d" % i for i in range(110))
        contains(fermata("job", "verify", job.out)[0], "proven: 110 rows in, 110 results")


run()
