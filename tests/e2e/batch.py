"""`fermata batch` as a user meets it: lines, dead letters, every exit code, every refusal."""
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import ECHO_MODEL, SLOW_MODEL, Job, Rows  # noqa: E402
from tap import FERMATA, MODELS, ROOT, Skip, contains, fermata, run, test  # noqa: E402


def events(text):
    return [json.loads(line) for line in text.splitlines()]


@test
def one_line_per_input_and_a_proof():
    with Job(count=40) as job:
        out, _ = fermata("batch", job.file)
        contains(out, "complete: 40 rows in = 40 results + 0 dead letters")
        job.check_complete()
        assert job.lines()[3] == {"id": "row-0003", "out_x": "text of row 3"}


@test
def timings_name_every_stage():
    with Job(count=3, output="{directory: out}") as job:
        fermata("batch", job.file, "--quiet")
        timings = job.lines()[0]["timings"]
        assert set(timings) == {"model", "total_ms"} and all(value >= 0 for value in timings.values()), timings


@test
def inputs_that_cannot_be_read_become_dead_letters():
    with Job(count=30, keys="limits: {file_bytes: 1KiB}\n") as job:
        inputs = job.path / "in"
        (inputs / "empty").write_bytes(b"")
        (inputs / "large").write_bytes(b"x" * 1025)
        (inputs / "limit").write_bytes(b"x" * 1024)
        os.symlink("/nonexistent/file", inputs / "dangling")
        os.mkfifo(inputs / "fifo")
        (inputs / "secret").write_bytes(b"x")
        (inputs / "secret").chmod(0)
        fermata("batch", job.file, "--quiet", code=4)
        job.check_complete()
        letters = {line["id"]: line for line in job.lines("errors")}
        assert letters["empty"]["message"] == "the file is empty" and letters["empty"]["stage"] == "read", letters["empty"]
        assert letters["large"]["code"] == "ETOOLARGE" and letters["dangling"]["code"] == "ENOTFOUND" and "fifo" in letters
        assert "limit" not in letters and ("secret" in letters or os.geteuid() == 0)
        assert letters["large"]["source"].endswith("in/large") and letters["large"]["attempts"] == 1


@test
def a_list_may_name_directories_and_files_that_are_not_there():
    with Job(count=3, input="{list: list.txt, base: in}") as job:
        (job.path / "in" / "folder").mkdir()
        (job.path / "list.txt").write_text("row-0001\n./row-0000\nfolder\n%s\nmissing\nrow-0001\n" % (job.path / "in" / "row-0002"))
        _, err = fermata("batch", job.file, code=4)
        contains(err, "1 inputs were named more than once")
        job.check_complete(["row-0000", "row-0001", "row-0002", "folder", "missing"])
        assert "directory" in {line["id"]: line["message"] for line in job.lines("errors")}["folder"]


@test
def names_with_newlines_and_invalid_utf8():
    with Job(count=1) as job:
        base = os.fsencode(job.path / "in")
        for name in (b"new\nline", b"invalid-\xff", b"quote\"\\"):
            with open(os.path.join(base, name), "wb") as file:
                file.write(b"content")
        fermata("batch", job.file, "--quiet")
        lines = job.lines()
        assert len(lines) == 4 and any(line["id"] == "new\nline" for line in lines)
        assert [line["id_base64"] for line in lines if "id_base64" in line] == ["aW52YWxpZC3/"], lines


@test
def a_list_on_standard_input_separated_by_nuls():
    with Job(count=3, input="{list: \"-\", base: in}") as job:
        (job.path / "in" / "new\nline").write_text("text")
        fermata("batch", job.file, "--quiet", stdin=b"row-0001\0new\nline\0row-0002\0")
        job.check_complete(["new\nline", "row-0001", "row-0002"])
        fermata("batch", job.file, "--restart", "--quiet", stdin=b"", code=3)


@test
def patterns_and_order():
    with Job(count=0, input="{files: 'in/**/*.txt', base: in}") as job:
        for name in ("b.txt", "a/z.txt", "a.txt", "a/b/c.txt", "a/skip.png", "B.txt", ".hidden.txt", "a/.git/x.txt"):
            path = job.path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
        out, err = fermata("batch", job.file)
        contains(err, "begin with a dot were left out")
        assert [line["id"] for line in job.lines()] == ["B.txt", "a/b/c.txt", "a/z.txt", "a.txt", "b.txt"]


@test
def bytes_as_base64():
    with Job(count=1, output="{directory: out, timings: false, bytes: base64}") as job:
        (job.path / "in" / "row-0000").write_bytes(b"\xff\x00\xfe")
        fermata("batch", job.file, "--quiet")
        assert job.lines() == [{"id": "row-0000", "out_x": "/wD+"}]


@test
def dry_run_touches_nothing():
    with Job(count=40) as job:
        out, _ = fermata("batch", job.file, "--dry-run")
        contains(out, "40 found", "of 7 rows", "nothing was written")
        assert not job.out.exists()
        plan = events(fermata("batch", job.file, "--dry-run", "--json", "--limit", "10")[0])[0]
        assert (plan["rows"], plan["inputs_found"], plan["shard_rows"], plan["tensor"]) == (10, 40, 7, "x"), plan


@test
def limit_then_all():
    with Job(count=40) as job:
        fermata("batch", job.file, "--limit", "10", "--quiet")
        job.check_complete(["row-%04d" % i for i in range(10)])
        assert job.manifest()["inputs_found"] == 10, "a walk ends at the limit"
        first = (job.out / "part-00000.jsonl").stat().st_mtime_ns
        out, err = fermata("batch", job.file, "--resume")
        contains(err, "30 new inputs", "10 of them done before")
        contains(out, "40 rows in = 40 results")
        job.check_complete()
        assert (job.out / "part-00000.jsonl").stat().st_mtime_ns == first


@test
def a_directory_with_a_job_is_refused_and_restart_begins_anew():
    with Job(count=10) as job:
        fermata("batch", job.file, "--quiet")
        _, err = fermata("batch", job.file, code=3)
        contains(err, "already holds a job", "--resume", "--restart", "--output")
        (job.out / "mine.txt").write_text("not the job's")
        job.add(50, 5)
        (job.path / "in" / "row-0000").unlink()
        fermata("batch", job.file, "--restart", "--quiet")
        job.check_complete()
        assert (job.out / "mine.txt").exists()
        fermata("batch", job.file, "--output", job.path / "other", "--quiet")
        assert (job.path / "other" / "_SUCCESS").exists()
        (job.path / "foreign").mkdir()
        (job.path / "foreign" / "part-00000.jsonl").write_text("{}\n")
        for option in ([], ["--resume"], ["--restart"]):
            _, err = fermata("batch", job.file, "--output", job.path / "foreign", *option, code=3)
            contains(err, "holds results but no ledger")
        fermata("batch", job.file, "--resume", "--restart", code=2)


@test
def resume_shows_what_is_different():
    with Job(count=10) as job:
        fermata("batch", job.file, "--quiet")
        text = job.file.read_text()
        job.file.write_text(text.replace("timings: false", "timings: true"))
        _, err = fermata("batch", job.file, "--resume", code=3)
        contains(err, "output.timings was 'false' and is 'true'", "--restart")
        job.file.write_text(text)
        model = job.path / "model" / "model.yaml"
        model.write_text(ECHO_MODEL.replace("}", ", outputs: y}"))
        _, err = fermata("batch", job.file, "--resume", code=3)
        contains(err, "pipeline and models was")
        model.write_text(ECHO_MODEL)
        (job.path / "in" / "row-0003").write_text("another size")
        (job.path / "in" / "row-0004").unlink()
        _, err = fermata("batch", job.file, "--resume", code=3)
        contains(err, "1 missing, 1 of another size", "row-0004")
        job.file.write_text(text.replace("shard_rows: 7", "shard_rows: 3"))
        (job.path / "in" / "row-0003").write_text("text of row 3")
        (job.path / "in" / "row-0004").write_text("text of row 4")
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def resume_sees_that_a_file_of_an_operator_has_changed():
    pipeline = """name: best
inputs:
  - {name: x, dtype: FP32, shape: [3]}
stages:
  - {name: best, operator: top_k, inputs: {scores: x}, parameters: {k: 1, labels_file: labels.txt}}
outputs: {label: best.labels}
"""
    with Rows({"1.csv": "id,a,b,c\n1,0,2,1\n"}, given="columns: {x: [a, b, c]}, id: id") as job:
        (job.path / "best.yaml").write_text(pipeline)
        (job.path / "labels.txt").write_text("none\nsome\nall\n")
        job.file.write_text(job.file.read_text().replace("pipeline: model", "pipeline: best.yaml"))
        fermata("batch", job.file, "--quiet")
        assert job.lines()[0]["label"] == ["some"], job.lines()
        fermata("batch", job.file, "--resume", "--quiet")
        (job.path / "labels.txt").write_text("none\nmost\nall\n")
        contains(fermata("batch", job.file, "--resume", code=3)[1], "pipeline and models was")
        (job.path / "labels.txt").write_text("none\nsome\nall\n")
        fermata("batch", job.file, "--resume", "--quiet")


@test
def a_wholly_wrong_job_stops_soon():
    model = SLOW_MODEL.replace("beta: 40ms", "beta: 1ms, fail_rate: 1")
    with Job(count=2000, model=model, keys="shard_rows: 100\n") as job:
        _, err = fermata("batch", job.file, "--quiet", code=7)
        contains(err, "errors.max_ratio", "the last of them")
        assert not (job.out / "_SUCCESS").exists() and len(job.lines("errors")) < 300
        (job.path / "model" / "model.yaml").write_text(model.replace("fail_rate: 1", "fail_rate: 0"))
        contains(fermata("batch", job.file, "--resume", code=3)[1], "pipeline and models")
    with Job(count=20, keys="errors: {max_rows: 2}\n") as job:
        for i in range(3):
            (job.path / "in" / ("row-%04d" % i)).write_bytes(b"")
        contains(fermata("batch", job.file, "--quiet", code=7)[1], "errors.max_rows", "the last of them: ", "empty")
        for i in range(3):
            (job.path / "in" / ("row-%04d" % i)).unlink()
            os.symlink("row-0009", job.path / "in" / ("row-%04d" % i))
        fermata("batch", job.file, "--restart", "--quiet")
        assert (job.out / "_SUCCESS").exists()


def stopped_by(number, job):
    child = subprocess.Popen([FERMATA, "batch", job.file, "--json", "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while True:
        event = json.loads(child.stdout.readline())
        if event["rows_done"] > 0:
            break
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    return child.returncode, events(out.decode()), err.decode()


@test
def the_first_signal_keeps_what_is_finished():
    with Job(count=600, model=SLOW_MODEL, keys="shard_rows: 1000\nrows_in_flight: 8\n") as job:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            returned, found, _ = stopped_by(number, job)
            assert returned == code, returned
            assert found[-1]["verdict"] == "stopped" and found[-1]["rows_out"] == len(job.lines()) > 0, found[-1]
        assert not (job.out / "_SUCCESS").exists()
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def the_second_signal_ends_at_once():
    model = SLOW_MODEL.replace("beta: 40ms", "beta: 1ms, hang_every: 3, hang: 30s")
    with Job(count=200, model=model, keys="shard_rows: 4\nrows_in_flight: 8\n") as job:
        child = subprocess.Popen([FERMATA, "batch", job.file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.readline()
        while not job.lines():
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        while child.poll() is None:  # the first is remembered as soon as it is delivered
            time.sleep(0.05)
            child.send_signal(signal.SIGINT)
        child.communicate()
        assert child.returncode == 130, child.returncode
        (job.path / "model" / "model.yaml").write_text(model)
        assert len({line["id"] for line in job.lines()}) == len(job.lines())


@test
def two_processes_cannot_work_in_one_directory():
    with Job(count=400, model=SLOW_MODEL) as job:
        child = subprocess.Popen([FERMATA, "batch", job.file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        child.stdout.readline()
        _, err = fermata("batch", job.file, "--resume", code=6)
        contains(err, "is being worked on by process %d" % child.pid)
        child.kill()
        child.communicate()
        fermata("batch", job.file, "--resume", "--quiet", "--limit", "20")


@test
def a_damaged_or_foreign_ledger_is_an_error_and_restart_helps():
    with Job(count=10) as job:
        ledger = job.out / ".fermata" / "ledger.db"
        fermata("batch", job.file, "--quiet")
        good = ledger.read_bytes()
        import sqlite3
        for damage in ("noise", "cut", "foreign", "newer"):
            for leftover in (job.out / ".fermata").glob("ledger.db*"):
                leftover.unlink()
            if damage == "noise":
                ledger.write_bytes(bytes((i * 7919) % 251 for i in range(len(good))))
            elif damage == "cut":
                ledger.write_bytes(good[: len(good) // 2])
            else:
                ledger.write_bytes(good if damage == "newer" else b"")
                with sqlite3.connect(ledger) as database:
                    database.execute("PRAGMA user_version = 9" if damage == "newer" else "CREATE TABLE songs(name)")
                database.close()
            _, err = fermata("batch", job.file, "--resume", code=3)
            assert err.count("\n") == 1 and "ledger" in err, err
        fermata("batch", job.file, "--restart", "--quiet")
        job.check_complete()


@test
def results_that_were_tampered_with_are_noticed():
    with Job(count=20) as job:
        fermata("batch", job.file, "--quiet")
        part = job.out / "part-00001.jsonl"
        text = part.read_bytes()
        part.write_bytes(text[:-5])
        contains(fermata("batch", job.file, "--resume", code=3)[1], "part-00001.jsonl", "it was changed")
        part.unlink()
        contains(fermata("batch", job.file, "--resume", code=3)[1], "is missing")
        part.write_bytes(text)
        listing = job.out / ".fermata" / "inputs-0"
        listing.write_bytes(listing.read_bytes().replace(b"row-0003", b"row-0009"))
        contains(fermata("batch", job.file, "--resume", code=3)[1], "list of inputs", "damaged")


@test
def a_part_edited_at_the_same_size_is_noticed():
    with Job(count=20) as job:
        fermata("batch", job.file, "--limit", "14", "--quiet")
        part = job.out / "part-00001.jsonl"
        text = part.read_bytes()
        part.write_bytes(text.replace(b"text of row 7", b"text of row 8"))
        for option in ("--limit", "--quiet"):
            _, err = fermata("batch", job.file, "--resume", option, *(["14"] if option == "--limit" else []), code=3)
            contains(err, "part-00001.jsonl' has the checksum", "it was changed", "--restart")
            assert err.count("\n") == 1, err
        part.write_bytes(text)
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def a_ledger_of_the_first_schema_is_brought_up_to_date():
    import sqlite3
    with Job(count=50) as job:
        fermata("batch", job.file, "--quiet", "--fault", "after-commit:3", code=-9)
        # The ledger as the first schema kept it: shards of one size, numbered by their segment.
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            database.executescript("""
                DROP TABLE master;
                ALTER TABLE segment DROP COLUMN rank;
                ALTER TABLE segment RENAME COLUMN grain_rows TO shard_rows;
                UPDATE segment SET shard_rows = 7;
                ALTER TABLE segment ADD COLUMN first_number INTEGER NOT NULL DEFAULT 0;
                ALTER TABLE shard DROP COLUMN infrastructure_failures;
                ALTER TABLE shard DROP COLUMN data_failures;
                ALTER TABLE shard DROP COLUMN attempt;
                ALTER TABLE shard DROP COLUMN reason;
                PRAGMA user_version = 1;""")
        fermata("batch", job.file, "--quiet", "--resume")
        job.check_complete()
        assert len(job.manifest()["parts"]) >= 8


@test
def a_ledger_of_the_second_version_is_read_and_resumed():
    import sqlite3
    with Job(count=50) as job:
        fermata("batch", job.file, "--quiet", "--fault", "after-commit:3", code=-9)
        # What comes first was not recorded.
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            database.executescript("ALTER TABLE segment DROP COLUMN rank; PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE);")
        contains(fermata("job", "show", job.out)[0], " of 50")
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            assert database.execute("PRAGMA user_version").fetchone() == (2,)
        fermata("batch", job.file, "--quiet", "--resume")
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            assert set(database.execute("SELECT rank FROM segment")) == {(16,)}
        job.check_complete()


@test
def a_ledger_that_is_empty_older_or_another_jobs_is_told():
    with Job(count=20) as job, Job(count=20) as other:
        ledger = job.out / ".fermata" / "ledger.db"
        fermata("batch", job.file, "--limit", "7", "--quiet")
        older = ledger.read_bytes()
        fermata("batch", job.file, "--resume", "--quiet")
        good = ledger.read_bytes()
        parts = {path.name: path.read_bytes() for path in job.out.glob("part-*")}
        (other.path / "in" / "row-0003").write_text("text of another size")
        fermata("batch", other.file, "--quiet")
        for text, expected in ((b"", "is empty although there are results"), (older, "does not know the results 'part-0000"),
                               ((other.out / ".fermata" / "ledger.db").read_bytes(), "another job's"),
                               (good[:4096], "damaged")):
            for leftover in (job.out / ".fermata").glob("ledger.db*"):
                leftover.unlink()
            ledger.write_bytes(text)
            _, err = fermata("batch", job.file, "--resume", code=3)
            contains(err, expected, "--restart", "back")
            assert err.count("\n") == 1, err
            assert parts == {path.name: path.read_bytes() for path in job.out.glob("part-*")}
        ledger.write_bytes(good)
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def the_output_directory_never_feeds_the_job():
    with Job(count=20, output="{directory: in/out, timings: false}") as job:
        job.out = job.path / "in" / "out"
        for options in (["--quiet"], ["--resume", "--quiet"], ["--restart", "--quiet"]):
            fermata("batch", job.file, *options)
            assert len(job.lines()) == 20 and job.manifest()["rows_in"] == 20
        os.symlink(job.out / "part-00000.jsonl", job.path / "in" / "link")
        os.symlink(job.out, job.path / "way")
        fermata("batch", job.file, "--resume", "--quiet", "--output", job.path / "way")
        assert len(job.lines()) == 20
        text = job.file.read_text()
        for files, output in (("in", "in"), ("in", "."), ("in/row-0000", "in"), ("'in/row-*'", "in"), ("way", "in/out"), ("in/link", "in/out")):
            job.file.write_text(text.replace("files: in", "files: %s" % files).replace("directory: in/out", "directory: %s" % output))
            for option in ("--quiet", "--resume", "--restart", "--dry-run"):
                _, err = fermata("batch", job.file, option, code=3)
                if output != "in/out" or option != "--quiet":  # there is a job already, and that is said first
                    contains(err, "is in the output directory", "choose")
                assert err.count("\n") == 1, err
        assert len(job.lines()) == 20 and not (job.path / "in" / ".fermata").exists()


@test
def one_file_named_in_many_ways_is_one_row():
    with Job(count=3, input="{list: list.txt}") as job:
        (job.path / "list.txt").write_text("in//row-0001\nin/row-0001\n./in/row-0001\nin/../in/row-0001\n%s\n" % (job.path / "in" / "row-0001"))
        _, err = fermata("batch", job.file)
        contains(err, "4 inputs were named more than once")
        assert [line["id"] for line in job.lines()] == ["in/row-0001"]


@test
def the_output_is_shown_as_one_would_write_it():
    with Job(count=3, output="{directory: in/../x//./out, timings: false}") as job:
        wanted = str(job.path / "x" / "out")
        plan = events(fermata("batch", job.file, "--dry-run", "--json")[0])[0]
        assert plan["output"] == wanted, plan
        contains(fermata("batch", job.file)[0], "results: %s/part-" % wanted)


@test
def an_output_directory_that_disappears_is_told():
    for away in (True, False):
        with Job(count=400, model=SLOW_MODEL, keys="shard_rows: 4\n") as job:
            child = subprocess.Popen([FERMATA, "batch", job.file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while json.loads(child.stdout.readline())["rows_done"] == 0:
                pass
            job.out.rename(job.path / "elsewhere")
            if not away:
                job.out.mkdir()
            _, err = child.communicate(timeout=30)
            text = json.loads(err)["error"]["message"]
            assert child.returncode == 6, (child.returncode, text)
            contains(text, "was removed or replaced while the job ran", "put it back", "--resume")
            if not away:
                job.out.rmdir()
            (job.path / "elsewhere").rename(job.out)
            fermata("batch", job.file, "--resume", "--quiet")
            job.check_complete()


@test
def no_memory_in_the_middle_keeps_what_is_committed():
    with Job(count=30) as job:
        _, err = fermata("batch", job.file, "--quiet", "--fault", "after-commit:2:memory", code=5)
        contains(err, "out of memory", "what is committed is kept", "--resume")
        assert err.count("\n") == 1, err
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def no_memory_in_a_worker_costs_that_worker():
    with Job(count=30) as job:
        out, _ = fermata("batch", job.file, "--json", "--fault", "row-written:20:memory")
        end = json.loads(out.splitlines()[-1])
        assert end["restarts"] == {"crash": 0, "hang": 0, "out_of_memory": 1, "recycled": 0, "lost": 0}, end
        assert end["memory_halvings"] == 1, end
        job.check_complete()
        out, err = fermata("batch", job.file, "--restart", "--fault", "row-written:20:memory")
        contains(out, "workers started again: 1 (1 out_of_memory)")
        contains(err, "worker 1 ran out of memory", "injected at 'row-written'", "half as many rows")


@test
def rows_that_were_given_up_are_told():
    import sqlite3
    with Job(count=30) as job:
        fermata("batch", job.file, "--quiet", "--fault", "claimed:3", code=-9)
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            database.execute("UPDATE shard SET state = 3 WHERE number = 2")
        database.close()
        _, err = fermata("batch", job.file, "--resume", "--quiet", code=5)
        contains(err, "7 rows were given up", "--restart")
        assert not (job.out / "_SUCCESS").exists() and len(job.lines()) == 23
        fermata("batch", job.file, "--restart", "--quiet")
        job.check_complete()


@test
def without_standard_files():
    for closed in ("<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"):
        with Job(count=20) as job:
            done = subprocess.run(["sh", "-c", '"$0" batch "$1" %s' % closed, FERMATA, job.file], capture_output=True, timeout=60)
            assert done.returncode == 0, (closed, done)
            job.check_complete()
            done = subprocess.run(["sh", "-c", '"$0" batch "$1" %s' % closed, FERMATA, job.file], capture_output=True, timeout=60)
            assert done.returncode == 3, (closed, done)
            if "2>" not in closed:
                contains(done.stderr.decode(), "already holds a job")
            job.check_complete()


@test
def mistakes_in_the_job_file():
    with Job(count=3) as job:
        text = job.file.read_text()
        for before, after, expected in (
                ("shard_rows: 7", "shard_row: 7", "did you mean 'shard_rows'?"),
                ("shard_rows: 7", "limits: {stage_time: 5ms}", "'stage_time' must be 100ms or more"),
                ("shard_rows: 7", "limits: {stage_time: soon}", "stage_time"),
                ("shard_rows: 7", "workers: {memory: 1MiB}", "'memory' must be 64MiB or more"),
                ("shard_rows: 7", "workers: {memory_budget: 1000}", "'memory_budget' must be 1MiB or more"),
                ("shard_rows: 7", "workers: {memory_budget: much}", "'memory_budget' must be "),
                ("shard_rows: 7", "workers: {nice: 20}", "'nice' must be"),
                ("shard_rows: 7", "workers: {nice: -1}", "'nice' must be"),
                ("shard_rows: 7", "workers: {memroy: 1GiB}", "did you mean 'memory'?"),
                ("shard_rows: 7", "workers: 4", "how many there are is not the job's: --workers 4"),
                ("shard_rows: 7", "shard_rows: -1", "shard_rows"),
                ("{files: in}", "{files: in, list: x}", "exactly one of"),
                ("{files: in}", "{files: nowhere}", "does not exist"),
                ("{files: in}", "{files: 'in/*.png'}", "nothing matches"),
                ("{files: in}", "{files: in, tensor: y}", "has no input 'y'"),
                ("pipeline: model", "pipeline: modell", "modell"),
                ("pipeline: model\n", "", "pipeline"),
                ("{directory: out, timings: false}", "{timings: false}", "directory"),
                ("{directory: out, timings: false}", "{directory: out, bytes: hex}", "base64"),
                ("{directory: out, timings: false}", "''", "'output' is empty"),
                ("{directory: out, timings: false}", "{directory: ''}", "'directory' is empty"),
                ("{directory: out, timings: false}", "", "a map is expected here, not nothing"),
                ("{directory: out, timings: false}", "{directory: job.yaml}", "must be a directory"),
        ):
            job.file.write_text(text.replace(before, after))
            _, err = fermata("batch", job.file, code=3)
            contains(err, expected)
            assert err.count("\n") == 1 and not job.out.exists(), err
        fermata("batch", job.path / "missing.yaml", code=3)
        fermata("batch", code=2)
        contains(fermata("batch", job.file, "--output", "", code=2)[1], "--output is empty")
        contains(fermata("batch", job.file, "--fault", "before-comit", code=2)[1], "did you mean 'before-commit'")


@test
def json_for_programs():
    with Job(count=10) as job:
        found = events(fermata("batch", job.file, "--json")[0])
        assert found[0]["event"] == "begin" and found[0]["rows_total"] == 10
        assert found[-1]["event"] == "end" and found[-1]["complete"] and found[-1]["rows_out"] == 10, found[-1]
        _, err = fermata("batch", job.file, "--json", code=3)
        assert "already holds a job" in json.loads(err)["error"]["message"]


@test
def a_bar_on_a_terminal():
    with Job(count=60, model=SLOW_MODEL) as job:
        master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
        child = subprocess.Popen([FERMATA, "batch", job.file], stdout=subprocess.DEVNULL, stderr=slave, env=environment)
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                break
            seen += piece
        assert child.wait(timeout=30) == 0
        text = seen.decode()
        contains(text, "\r\x1b[K[", "rows/s", "60/60  100%")
        assert "\x1b[3" not in text


@test
def memory_stays_flat():
    peaks = []
    for count in (300, 3000):
        with Job(count=count, keys="shard_rows: 50\nrows_in_flight: 32\n") as job:
            end = events(fermata("batch", job.file, "--json")[0])[-1]
            peaks.append(max(end["memory_peak_bytes"], end["worker_memory_peak_bytes"]))
    if os.environ.get("FM_SANITIZE", "none") != "none":
        raise Skip("sanitizers keep freed memory")
    assert peaks[1] < peaks[0] + (3 << 20), peaks


@test
def hostile_pages_through_the_real_pipeline():
    pipeline = pathlib.Path(ROOT) / "examples" / "ocr" / "pipeline.yaml"
    if not os.path.exists(os.path.join(MODELS, "ocr", "rec", "1", "model.onnx")):
        raise Skip("the networks of the example are not here")
    with Job(count=0, keys="errors: {max_ratio: 1}\n") as job:
        job.file.write_text(job.file.read_text().replace("pipeline: model", "pipeline: %s" % pipeline))
        inputs = job.path / "in"
        (inputs / "text.jpg").write_text("this is not an image")
        (inputs / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
        (inputs / "empty.jpg").write_bytes(b"")
        (inputs / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x30\x00\x00\x00\x30\x00\x08\x02\x00\x00\x00" + b"\x00" * 32)
        fermata("batch", job.file, "--quiet", code=4)
        job.check_complete()
        stages = {line["id"]: line["stage"] for line in job.lines("errors")}
        assert stages == {"text.jpg": "page", "cut.jpg": "page", "empty.jpg": "read", "huge.png": "page"}, stages


run()
