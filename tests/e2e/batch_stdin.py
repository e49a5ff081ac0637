"""`fermata batch` with rows on standard input: they are taken down whole or not at all, whatever ends the process meanwhile, and nobody else reads them."""
import os
import signal
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import NAME_MODEL, Job, wait_for  # noqa: E402
from tap import FERMATA, contains, fermata, fermata_json, run, test  # noqa: E402

SLOW_NAME_MODEL = """backend: emulated
max_batch_size: 1
settings: {inputs: "name:BYTES[-1,1]", outputs: "y:FP32[-1,2]", alpha: 1ms, beta: 40ms}
"""


class Input(Job):
    """Rows on standard input."""

    def __init__(self, given="format: jsonl, columns: {name: name}, id: id", output="{directory: out}", model=NAME_MODEL):
        super().__init__(count=0, model=model, keys="shard_rows: 4000\n", input='{files: "-", %s}' % given, output=output)

    def ids(self):
        return sorted(line["id"] for line in self.lines())

    def taken(self):
        """What is in the folder of rows that no job has begun with; None: there is none."""
        folder = self.out / ".fermata" / "spool.new"
        return sorted(os.listdir(folder)) if folder.exists() else None


def rows(count, prefix="i"):
    return "".join('{"id": "%s%d", "name": "n%d"}\n' % (prefix, i, i) for i in range(count)).encode()


def ids(count, prefix="i"):
    return sorted("%s%d" % (prefix, i) for i in range(count))


MANY = 20000  # several pieces of a copy



# nohup leaves it ignored, and children inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

@test
def a_copy_that_was_cut_short_is_not_taken_for_the_input():
    with Input() as job:
        fermata("batch", job.file, "--quiet", "--fault", "taking-down", stdin=rows(MANY), code=-9)
        assert job.taken() == ["stdin.part"], job.taken()
        contains(fermata("batch", job.file, "--resume", code=3)[1], "the input has no rows: standard input")
        fermata("batch", job.file, "--quiet", "--resume", "--fault", "taking-down:2", stdin=rows(MANY), code=-9)
        _, err = fermata("batch", job.file, "--resume", stdin=rows(MANY))
        assert job.ids() == ids(MANY) and job.manifest()["rows_in"] == MANY and "took down" not in err, err
        assert job.taken() is None
    with Input() as job:
        contains(fermata("batch", job.file, "--quiet", "--fault", "taking-down:2:error", stdin=rows(MANY), code=6)[1], "no space left on the device (injected at 'taking-down')")
        assert job.taken() is None


@test
def rows_that_were_taken_down_whole_are_used_and_said_to_be():
    for given in (b"", rows(3, "other")):
        with Input() as job:
            fermata("batch", job.file, "--quiet", "--fault", "taken-down", stdin=rows(MANY), code=-9)
            assert job.taken() == ["stdin"]
            _, err = fermata("batch", job.file, "--resume", stdin=given)
            contains(err, "note: the rows are those that a start before this one took down from standard input", "what is on it now is not read")
            assert job.ids() == ids(MANY) and job.taken() is None
            err = fermata("batch", job.file, "--resume", stdin=given)[1]
            assert "took down" not in err and "note: " not in err.replace("note: the job goes on with", ""), err
            with open(job.file, "rb") as file:  # a pipe may not have anything yet
                done = subprocess.run([FERMATA, "batch", job.file, "--resume"], stdin=file, capture_output=True)
            assert done.returncode == 0 and b"note: the job goes on with the rows that it was begun with; what is on standard input now is not read" in done.stderr, done
            done = subprocess.run([FERMATA, "batch", job.file, "--resume"], stdin=subprocess.DEVNULL, capture_output=True)
            assert done.returncode == 0 and b"note: " not in done.stderr, done
    with Input() as job:  # rows of another job are not those of this one's standard input
        fermata("batch", job.file, "--quiet", stdin=rows(50) + b"oops\n", code=4)
        again = ("--output", job.path / "again")
        fermata("batch", job.file, "--quiet", "--retry-dead-letters", job.out, *again, "--fault", "taken-down", code=-9)
        _, err = fermata("batch", job.file, "--resume", *again, stdin=rows(3, "new"))
        job.out = job.path / "again"
        assert [name for name in os.listdir(job.out / ".fermata") if name.startswith("spool")] == ["spool"]
        assert "took down" not in err and job.ids() == ids(3, "new"), err
    with Input() as job:
        fermata("batch", job.file, "--quiet", "--fault", "taken-down", stdin=rows(50), code=-9)
        fermata("batch", job.file, "--quiet", "--restart", stdin=rows(3, "other"))
        assert job.ids() == ids(3, "other")


@test
def a_start_that_is_refused_leaves_the_rows_that_another_one_took_down():
    with Input() as job:
        fermata("batch", job.file, "--quiet", stdin=rows(100))
        fermata("batch", job.file, "--quiet", "--restart", "--fault", "discarding", stdin=rows(7), code=-9)
        os.rename(job.path / "model", job.path / "elsewhere")
        fermata("batch", job.file, "--quiet", "--resume", code=3)
        assert job.taken() == ["stdin"]
        os.rename(job.path / "elsewhere", job.path / "model")
        fermata("batch", job.file, "--quiet", "--resume")
        assert job.ids() == ids(7)
    with Input() as job:  # rows that this start has taken down are not kept
        os.rename(job.path / "model", job.path / "elsewhere")
        fermata("batch", job.file, "--quiet", stdin=rows(7), code=3)
        assert job.taken() is None


@test
def rows_of_a_job_that_never_began_go_when_another_one_does():
    with Input() as job:
        fermata("batch", job.file, "--quiet", "--fault", "taken-down", stdin=rows(50), code=-9)
        assert job.taken() == ["stdin"]
        (job.path / "in" / "a.jsonl").write_bytes(rows(3, "file"))
        job.file.write_text(job.file.read_text().replace('files: "-"', "files: in"))
        fermata("batch", job.file, "--quiet", "--resume")
        assert job.ids() == ids(3, "file") and job.taken() is None


def begun(job, temporary, *options):
    """A process whose standard input stays open."""
    process = subprocess.Popen([FERMATA, "batch", job.file, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": temporary})
    process.stdin.write(rows(1000))
    process.stdin.flush()
    return process


def ended(process, number):
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, (process.returncode, out, err)


@test
def signals_while_rows_are_taken_down_leave_nothing():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for options in (("--dry-run",), ("--preview", "2")):
            with Input() as job, tempfile.TemporaryDirectory() as temporary:
                process = begun(job, temporary, *options)
                folder = lambda: [os.path.join(temporary, name) for name in os.listdir(temporary)]  # noqa: E731
                wait_for(lambda: folder() and os.listdir(folder()[0]))
                assert os.path.basename(folder()[0]).startswith("fermata-rows-") and "--" not in os.path.basename(folder()[0]), folder()
                assert stat.S_IMODE(os.stat(folder()[0]).st_mode) == 0o700
                for name in os.listdir(folder()[0]):
                    assert name == "stdin.part" and stat.S_IMODE(os.stat(os.path.join(folder()[0], name)).st_mode) == 0o600
                ended(process, number)
                assert folder() == [] and not job.out.exists(), folder()
        with Input() as job, tempfile.TemporaryDirectory() as temporary:
            process = begun(job, temporary)
            wait_for(lambda: job.taken())
            ended(process, number)
            assert job.taken() is None and os.listdir(temporary) == []
            fermata("batch", job.file, "--quiet", "--resume", stdin=rows(5))
            assert job.ids() == ids(5)


@test
def rows_that_are_being_taken_down_are_shown():
    with Input() as job, tempfile.TemporaryDirectory() as temporary:
        process = begun(job, temporary)
        wait_for(lambda: job.taken())
        shown = wait_for(lambda: (lambda found: found["bytes_taken_down"] == len(rows(1000)) and found)(fermata_json("job", "show", job.out, "--json")))
        assert shown["state"] == "running" and shown["process"] == process.pid and not shown["has_ledger"] and shown["master"] is None, shown
        out, err = fermata("job", "show", job.out)
        contains(out, "running by process %d" % process.pid, "(it has not begun)", "rows       are taken down before it begins, %d bytes so far" % len(rows(1000)))
        assert "shards" not in out and err == "", (out, err)
        process.communicate(timeout=60)
        assert process.returncode == 0 and fermata_json("job", "show", job.out, "--json")["bytes_taken_down"] is None
        process = subprocess.Popen([FERMATA, "batch", job.file, "--restart", "--quiet"], stdin=subprocess.PIPE)
        wait_for(lambda: job.taken())
        out, err = fermata("job", "show", job.out)
        contains(out, "rows       are taken down before another job begins", "rows       1000 of 1000 done")
        assert err == "", err
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 143 and job.ids() == ids(1000), "the former job stays as it was"


@test
def signals_while_rows_are_tried_leave_nothing():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Input(model=SLOW_NAME_MODEL) as job, tempfile.TemporaryDirectory() as temporary:
            process = begun(job, temporary, "--dry-run", "--sample", "1000")
            process.stdin.close()
            process.stdin = None
            wait_for(lambda: any(os.listdir(os.path.join(temporary, name)) == ["stdin"] for name in os.listdir(temporary)))
            ended(process, number)
            assert os.listdir(temporary) == []


@test
def a_signal_that_is_ignored_stays_ignored():
    with Input() as job, tempfile.TemporaryDirectory() as temporary:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = begun(job, temporary, "--dry-run")
        finally:
            signal.signal(signal.SIGINT, before)
        wait_for(lambda: os.listdir(temporary))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        contains(out.decode(), "1000 found")
        assert os.listdir(temporary) == []


run()
