"""`fermata job`: jobs are found, shown, proven, and their dead letters told, whatever state their directories are in."""
import html.parser
import http.client
import http.server
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import SLOW_MODEL, Job, Rows, fnv1a64, wait_for  # noqa: E402
from tap import FERMATA, contains, fermata, fermata_json, run, test  # noqa: E402

UNPROVEN = 8


def verify(directory, code=0):
    """The document, after a run with --json."""
    out, _ = fermata("job", "verify", directory, "--json", code=code)
    return json.loads(out)


def problems(directory):
    found = verify(directory, code=UNPROVEN)
    assert found["verdict"] == "not proven" and found["problem_count"] == len(found["problems"]) > 0, found
    return "\n".join(found["problems"])


def finished(job, *options, code=0):
    fermata("batch", job.file, "--quiet", *options, code=code)
    return job


def with_letters(job):
    for i in (3, 8, 9):
        (job.path / "in" / ("row-%04d" % i)).write_bytes(b"")
    os.symlink("/nonexistent/file", job.path / "in" / "row-0777")
    return finished(job, code=4)


def copied(job):
    """What somebody would copy elsewhere: results and manifest."""
    to = job.path / "copy"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(job.out, to, ignore=shutil.ignore_patterns(".fermata", "stage"))
    return to


def manifest_change(directory, change):
    path = directory / "_manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def listed(root):
    return {line["directory"]: line for line in map(json.loads, fermata("job", "list", root, "--json")[0].splitlines())}


def tree(directory):
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in directory.rglob("*")}


# --- verify ---


@test
def a_complete_job_is_proven_and_left_as_it_is():
    with Job(count=40) as job:
        before = tree(finished(job).out)
        out, err = fermata("job", "verify", job.out)
        contains(out, "test: proven: 40 rows in, 40 results + 0 dead letters counted in 6 parts", "MB/s", "recorded inputs")
        assert err == "", err
        found = verify(job.out)
        assert (found["verdict"], found["rows_in"], found["rows_out"], found["parts"], found["inputs_compared"]) == ("proven", 40, 40, 6, True), found
        assert tree(job.out) == before


@test
def dead_letters_have_an_exit_code_of_their_own():
    with Job(count=20) as job:
        found = verify(with_letters(job).out, code=4)
        assert (found["verdict"], found["rows_out"], found["dead_letters"]) == ("proven with dead letters", 17, 4), found
        assert verify(copied(job), code=4)["problems"] == []


@test
def a_copy_of_results_and_manifest_is_proven():
    with Job(count=40) as job:
        copy = copied(finished(job))
        found = verify(copy)
        assert (found["ledger"], found["inputs_compared"], found["rows_out"]) == (False, False, 40), found
        (copy / "_SUCCESS").unlink()
        (copy / "notes.txt").write_text("mine")
        os.rmdir(copy / "errors")
        found = verify(copy)
        assert len(found["notes"]) == 2 and "notes.txt" in found["notes"][1], found
        manifest_change(copy, lambda manifest: manifest.update(later_addition={"parts": [1, 2]}))
        verify(copy)


@test
def every_damage_is_named():
    with Job(count=40) as job:
        out = copied(finished(job))
        part = out / "part-00001.jsonl"
        good = part.read_bytes()
        lines = good.splitlines(keepends=True)

        def damaged(text, *words):
            part.write_bytes(text)
            contains(problems(out), *words)
            part.write_bytes(good)

        damaged(good[:-3], "part-00001.jsonl: has %d bytes instead of %d" % (len(good) - 3, len(good)), "line 7: it is not JSON")
        damaged(good.replace(b"text of row 8", b"text of row 7"), "part-00001.jsonl: has the checksum %016x" % fnv1a64(good.replace(b"text of row 8", b"text of row 7")))
        damaged(good + b'{"id":"row-0099"}\n', "has 8 lines instead of 7", "41 results")
        damaged(b"".join(lines[:-1]), "has 6 lines instead of 7", "39 results")
        damaged(b"".join(lines[1:] + lines[-1:]), "the id 'row-0013' stands twice: as row 12 (part-00001.jsonl) and as row 13 (part-00001.jsonl)")
        damaged(b"".join(lines[:-1]) + (out / "part-00004.jsonl").read_bytes().splitlines(keepends=True)[0],
                "the id 'row-0028' stands twice: as row 13 (part-00001.jsonl) and as row 28 (part-00004.jsonl)")
        damaged(b"".join(lines[:3]) + b"[1]\n" + b"".join(lines[4:]), "part-00001.jsonl: line 4: it is no JSON object")
        damaged(b"".join(lines[:3]) + b'{"out_x":1}\n' + b"".join(lines[4:]), "line 4: it has no id")
        damaged(b"".join(lines[:3]) + b'{"id":7}\n' + b"".join(lines[4:]), "of another kind")
        damaged(good[:-1] + b" ", "ends in the middle of a line")
        part.unlink()
        contains(problems(out), "part-00001.jsonl: is missing")
        part.write_bytes(good)
        (out / "part-00099.jsonl").write_bytes(good)
        contains(problems(out), "part-00099.jsonl: nobody vouches for it")
        (out / "part-00099.jsonl").rename(out / "part-00001.copy.jsonl")
        contains(problems(out), "part-00001.copy.jsonl: nobody vouches for it")
        (out / "part-00001.copy.jsonl").unlink()
        (out / "errors" / "part-00000.jsonl").write_bytes(b"{}\n")
        contains(problems(out), "errors/part-00000.jsonl: nobody vouches for it")
        (out / "errors" / "part-00000.jsonl").unlink()
        verify(out)


@test
def rows_that_are_not_the_recorded_ones_are_named():
    with Job(count=40) as job:
        part = finished(job).out / "part-00001.jsonl"
        part.write_bytes(part.read_bytes().replace(b"row-0008", b"row-9998"))
        contains(problems(job.out), "part-00001.jsonl: row 8 should be 'row-0008', as recorded, and is 'row-9998'")


@test
def damaged_dead_letters_are_named():
    with Job(count=20) as job:
        out = copied(with_letters(job))
        letters = out / "errors" / "part-00001.jsonl"
        good = letters.read_bytes()
        letters.write_bytes(good.replace(b'"row":8', b'"row":2'))
        contains(problems(out), "errors/part-00001.jsonl: line 1: the dead letter of row 2 does not belong there", "checksum")
        letters.write_bytes(good.replace(b'"row":8', b'"rov":8'))
        contains(problems(out), "it does not say which row it is of")
        letters.unlink()
        contains(problems(out), "errors/part-00001.jsonl: is missing")


@test
def a_manifest_that_lies_is_named():
    def change(key, value):
        return lambda manifest: manifest["parts"][2].update({key: value})

    with Job(count=40) as job:
        finished(job)
        for changes, words in ((change("first_row", 13), "begins at row 13, but rows up to 13 are in parts before it"),
                               (change("first_row", 15), "rows 14 to 14 are in no part"),
                               (change("rows_in", 8), "8 rows in are not 7 results and 0 dead letters"),
                               (change("part", "part-00000.jsonl"), "is named more than once"),
                               (change("part", "../out/part-00000.jsonl"), "is not a manifest of Fermata"),
                               (change("part", "part-0.jsonl"), "is not a manifest of Fermata"),
                               (change("checksum", "xyz"), "cannot be understood"),
                               (change("bytes", -1), "cannot be understood"),
                               (lambda m: m["parts"].pop(), "the parts end at row 35, but there were 40 rows"),
                               (lambda m: m["parts"].insert(0, 7), "holds something else than parts"),
                               (lambda m: m.update(rows_out=39), "should be 39 results"),
                               (lambda m: m.update(complete=False), "says that the job is not complete"),
                               (lambda m: m.update(manifest_version=2), "newer Fermata"),
                               (lambda m: m.update(checksum_algorithm="md5"), "newer Fermata"),
                               (lambda m: m.pop("rows_in"), "is not in it"),
                               (lambda m: m.update(parts={}), "is not a manifest of Fermata")):
            copy = copied(job)
            manifest_change(copy, changes)
            contains(problems(copy), words)
        text = (copy / "_manifest.json").read_text()
        for cut in (0, 1, len(text) // 2, len(text) - 1):
            (copy / "_manifest.json").write_text(text[:cut])
            contains(problems(copy), "is not a manifest of Fermata")


@test
def manifest_and_ledger_must_agree():
    with Job(count=40) as job:
        finished(job)
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            database.execute("UPDATE shard SET part_checksum = 1 WHERE number = 2")
            database.execute("UPDATE shard SET state = 0 WHERE number = 3")
        database.close()
        contains(problems(job.out), "part-00002.jsonl: manifest and ledger say different things", "the ledger knows 40 rows, 33 of them done")
        (job.out / ".fermata" / "inputs-0").write_bytes(b"1 x\0")
        contains(problems(job.out), "list of inputs")
        (job.out / ".fermata" / "ledger.db").write_bytes(b"noise " * 1000)
        contains(problems(job.out), "ledger")
        shutil.rmtree(job.out / ".fermata")
        verify(job.out)


@test
def a_job_that_is_not_at_its_end_is_not_proven():
    with Job(count=40) as job:
        fermata("batch", job.file, "--quiet", "--fault", "after-commit:3", code=-9)
        text = problems(job.out)
        contains(text, "the job is not complete: of 40 rows ", " are done and 0 given up", "is missing: it is committed and lies in stage/; fermata batch --resume")
        fermata("batch", job.file, "--quiet", "--resume")
        verify(job.out)


@test
def new_inputs_of_a_resumed_job_are_proven_too():
    with Job(count=30) as job:
        finished(job)
        job.add(100, 10)
        (job.path / "in" / "row-0003a").write_text("between")
        finished(job, "--resume")
        assert verify(job.out)["rows_out"] == 41
        copy = copied(job)
        assert verify(copy)["rows_out"] == 41  # the ids are not in one order any more
        part = copy / "part-00000.jsonl"
        part.write_bytes(part.read_bytes().replace(b'"id":"row-0004"', b'"id":"row-0105"'))
        contains(problems(copy), "the id 'row-0105' stands twice")


@test
def ids_of_any_bytes_are_compared():
    with Job(count=2) as job:
        base = os.fsencode(job.path / "in")
        for name in (b"new\nline", b"invalid-\xff", b"invalid-\xfe", b"quote\"\\"):
            with open(os.path.join(base, name), "wb") as file:
                file.write(b"content")
        found = verify(finished(job).out)
        assert found["rows_out"] == 6 and found["inputs_compared"], found
        verify(copied(job))


@test
def what_cannot_be_proven_at_all_is_an_error():
    with Job(count=3) as job:
        contains(fermata("job", "verify", job.path / "nowhere", code=3)[1], "there is no directory")
        contains(fermata("job", "verify", job.path / "in", code=3)[1], "it is not the output of a job")
        contains(fermata("job", "verify", job.file, code=3)[1], "there is no directory")


# --- list, show, dead-letters ---


@test
def jobs_are_listed_in_every_state():
    with Job(count=40) as job:
        finished(job)
        fermata("batch", job.file, "--quiet", "--output", job.path / "deep" / "killed", "--fault", "after-commit:3", code=-9)
        fermata("batch", job.file, "--quiet", "--output", job.path / "deep" / "er" / "removed")
        (job.path / "deep" / "er" / "removed" / ".fermata" / "discarded").write_text("")
        copied(job)
        (job.path / "damaged" / ".fermata").mkdir(parents=True)
        (job.path / "damaged" / ".fermata" / "ledger.db").write_bytes(b"noise " * 1000)
        (job.path / "empty" / ".fermata").mkdir(parents=True)
        (job.path / "empty" / ".fermata" / "ledger.db").write_bytes(b"")
        found = listed(job.path)
        states = {os.path.relpath(directory, job.path): line["state"] for directory, line in found.items()}
        assert states == {"out": "complete", "copy": "complete", "deep/killed": "stopped", "deep/er/removed": "being removed", "damaged": "unreadable",
                          "empty": "unreadable"}, states
        killed = found[str(job.path / "deep" / "killed")]
        assert (killed["rows_total"], killed["reason"], killed["job"]) == (40, "it was killed", "test") and 0 < killed["rows_done"] <= 40, killed
        assert killed["rows_done"] + killed["rows_in_work"] + killed["rows_waiting"] + killed["rows_unclaimed"] == 40, killed
        out, _ = fermata("job", "list", job.path)
        contains(out, "STATE", "stopped (it was killed)", "%d/40" % killed["rows_done"], "complete  ")
        out, _ = fermata("job", "list", cwd=job.path)
        contains(out, "test  out\n", "test  deep/killed\n")
        _, err = fermata("job", "list", job.path / "in")
        contains(err, "there is no job")
        contains(fermata("job", "list", job.path / "nowhere", code=3)[1], "there is no directory")


@test
def a_job_with_dead_letters_is_listed_as_such():
    with Job(count=20) as job:
        with_letters(job)
        assert [line["state"] for line in listed(job.path).values()] == ["complete with dead letters"]
        stopped = "errors: {max_rows: 1}\n"
        job.file.write_text(job.file.read_text() + stopped)
        fermata("batch", job.file, "--restart", "--quiet", code=7)
        out, _ = fermata("job", "list", job.path)
        contains(out, "stopped (too many failed rows)")


@test
def a_running_job_is_shown_and_not_disturbed():
    with Job(count=3000, model=SLOW_MODEL) as job:
        child = subprocess.Popen([FERMATA, "batch", job.file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while json.loads(child.stdout.readline())["rows_committed"] == 0:
            pass
        for _ in range(20):
            shown = fermata_json("job", "show", job.out, "--json")
            assert shown["state"] == "running" and shown["process"] == child.pid and shown["rows_total"] == 3000, shown
            assert sum(shown["shards"].values()) > 0 and shown["facts"]["line format"], shown
        contains(fermata("job", "list", job.path)[0], "running by process %d" % child.pid)
        _, err = fermata("job", "verify", job.out, code=6)
        contains(err, "process %d is working on" % child.pid)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 143, (child.returncode, err)
        shown = fermata_json("job", "show", job.out, "--json")
        assert (shown["state"], shown["reason"], shown["process"]) == ("stopped", "stopped", None), shown
        assert shown["rows_done"] == json.loads(out.splitlines()[-1])["rows_out"], shown
        contains(problems(job.out), "the job is not complete")


@test
def looking_all_the_time_hinders_nobody():
    """Somebody who looks holds the lock for a moment; a master that begins then waits that moment."""
    with Job(count=10) as job:
        finished(job)
        lookers = [subprocess.Popen(["sh", "-c", "while :; do \"$0\" job show \"$1\" >/dev/null 2>&1; done", FERMATA, job.out]) for _ in range(2)]
        try:
            for _ in range(5):
                finished(job, "--resume")
        finally:
            for looker in lookers:
                looker.kill()
                looker.wait()
        verify(job.out)


@test
def show_tells_all_of_it():
    with Job(count=20) as job:
        with_letters(job)
        out, _ = fermata("job", "show", job.out)
        contains(out, "test: complete with dead letters", "rows       21 of 21 done (100%): 17 results, 4 dead letters", "done", "facts", "line format = ",
                 "job file   %s" % job.file, "finished   20")
        out, _ = fermata("job", "show", copied(job))
        contains(out, "test: complete with dead letters", "results only: there is no ledger", "21 of 21 done")
        contains(fermata("job", "show", job.path / "in", code=3)[1], "there is no job in")
        with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
            database.execute("PRAGMA user_version = 9")
        database.close()
        contains(fermata("job", "show", job.out, code=3)[1], "schema version 9")


@test
def failed_attempts_and_their_reasons_are_shown():
    with Job(count=40, model=SLOW_MODEL) as job:
        fermata("batch", job.file, "--quiet", "--fault", "row-written:3")
        shown = fermata_json("job", "show", job.out, "--json")
        assert shown["workers_lost"] + shown["attempts_failed"] >= 1, shown
        assert shown["worst_shards"][0]["reason"] and "Killed" in shown["worst_shards"][0]["reason"], shown
        contains(fermata("job", "show", job.out)[0], "failed 1 times: the worker that ran it ended with")


@test
def what_comes_from_outside_steers_no_terminal():
    """Control characters are shown as question marks; in JSON they stand as they are, escaped."""
    evil = "\x1b]0;title\x07\x1b[31m\x9b1m\x7fü"
    with Rows({"a.csv": "user,a,b,c,d\nu%s,1,2,%s,4\nv,1,2,3,4\n" % (evil, evil)}) as job:
        fermata("batch", job.file, "--quiet", code=4)
        shown = "]0;title?" + "?[31m" + "??1m" + "?ü"
        for option in ([], ["--summary"]):
            out, _ = fermata("job", "dead-letters", job.out, *option)
            contains(out, shown)
            assert not any(ord(c) < 0x20 and c != "\n" or 0x7f <= ord(c) < 0xa0 for c in out), repr(out)
        assert json.loads(fermata("job", "dead-letters", job.out, "--json")[0])["id"] == "u" + evil
        job.file.write_text(job.file.read_text().replace("id: user", "id: \"x\\e[31m\""))
        _, err = fermata("batch", job.file, "--restart", code=3)
        contains(err, "x?[31m")
        assert "\x1b" not in err, repr(err)
        # What is no UTF-8 may be Latin-1, but not its control characters.
        done = subprocess.run([FERMATA, "batch", os.fsencode(job.path) + b"/\x9b31m\xc3\xa9\xe9\xc2\x9b\xc2"], capture_output=True)
        assert b"/?31m\xc3\xa9\xe9??\xc2" in done.stderr, done.stderr


@test
def dead_letters_are_printed_and_summed_up():
    with Job(count=20, keys="shard_rows: 7\nlimits: {file_bytes: 1KiB}\n") as job:
        for i in (1, 2):
            (job.path / "in" / ("large-%d" % i)).write_bytes(b"x" * (2000 + i))
        with_letters(job)
        out, _ = fermata("job", "dead-letters", job.out)
        assert out.count("\n") == 6, out
        contains(out, "row-0003: EINVAL at read: the file is empty\n" if "EINVAL" in out else "row-0003: ", "row-0777: ENOTFOUND at read: ")
        lines = [json.loads(line) for line in fermata("job", "dead-letters", job.out, "--json")[0].splitlines()]
        assert sorted(lines, key=str) == sorted(job.lines("errors"), key=str) and [line["row"] for line in lines] == sorted(line["row"] for line in lines)
        summary = fermata_json("job", "dead-letters", job.out, "--summary", "--json")
        assert summary["dead_letters"] == 6 and [group["count"] for group in summary["groups"]] == [3, 2, 1], summary
        assert summary["groups"][1]["code"] == "ETOOLARGE" and summary["groups"][1]["example_id"] == "large-1", summary
        out, _ = fermata("job", "dead-letters", job.out, "--summary", "--limit", "1")
        contains(out, "6 dead letters", "3  ", "such as row-0003", "3  others")
        assert fermata("job", "dead-letters", job.out, "--code", "ETOOLARGE")[0].count("\n") == 2
        assert fermata("job", "dead-letters", job.out, "--stage", "process")[0] == ""
        assert fermata("job", "dead-letters", job.out, "-n", "4")[0].count("\n") == 4
        (job.out / "errors" / "part-00000.jsonl").write_text("{}\n")
        contains(fermata("job", "dead-letters", job.out, code=3)[1], "part-00000.jsonl', line 1: it has no id")
        contains(fermata("job", "dead-letters", job.path / "in", code=3)[1], "there is no job in")
    with Job(count=3) as job:
        assert fermata("job", "dead-letters", finished(job).out)[0] == ""
        contains(fermata("job", "dead-letters", job.out, "--summary")[0], "0 dead letters")


# --- history and report ---


class Page(html.parser.HTMLParser):
    """A page whose elements are closed in order, and that needs nothing from elsewhere."""
    VOID = {"meta", "br", "img", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.rows, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open
        assert not {"script", "link", "img", "iframe"} & set(self.tags) and "http://" not in text and "https://" not in text
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert all(not name.startswith("on") for name, _ in attrs), attrs
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def history_of(job):
    lines = [json.loads(line) for line in (job.out / ".fermata" / "history").read_text().splitlines()]
    return [line for line in lines if "at" in line], [line for line in lines if "shard" in line]


@test
def a_job_keeps_its_history_over_its_runs():
    with Job(count=1200, model=SLOW_MODEL, keys="shard_rows: 5\n") as job:
        child = begin(job, "--workers", "2")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        fermata("batch", job.file, "--resume", "--quiet", "--fault", "row-written:3")
        samples, shards = history_of(job)
        assert [sample.get("begin") for sample in samples].count(True) == 2 and samples[0]["begin"], samples
        assert samples[-1]["done"] == samples[-1]["committed"] == 1200 and samples[-1]["lost"] > 0, samples[-1]
        assert all(a["at"] <= b["at"] and a["done"] <= b["done"] for a, b in zip(samples, samples[1:])), samples
        assert 10 <= len({shard["shard"] for shard in shards}) and all(shard["ms"] > 0 and 0 < shard["rows"] <= 5 for shard in shards), shards
        page = Page(fermata("job", "report", job.out, "--price-per-hour", "3600")[0])
        contains(page.words, "test: complete", "1200 rows in = 1200 results + 0 dead letters", "1200 of 1200", "time, all runs", "cost so far, estimated", "Slowest shards",
                 "Shards that failed most", "ended with signal 9", "slowest for", "input.tensor", "rows per second over time")
        assert page.tags.count("svg") == 2
        fermata("batch", job.file, "--restart", "--quiet")
        samples, _ = history_of(job)
        assert [sample.get("begin") for sample in samples].count(True) == 1, samples


@test
def a_report_takes_names_and_reasons_as_text():
    nasty = "<script>alert(1)</script>&\"'"
    with Job(count=20) as job:
        (job.path / "in" / nasty.replace("/", "_")).write_bytes(b"")
        job.file.write_text(job.file.read_text().replace("name: test", "name: '%s'" % nasty.replace("'", "''")))
        finished(job, code=4)
        fermata("job", "report", job.out, "-o", job.path / "report.html")
        text = (job.path / "report.html").read_text()
        page = Page(text)
        assert "<script>" not in text
        contains(page.words, nasty + ": complete with dead letters", "the file is empty", "20 results + 1 dead letters")
        os.utime(job.out / "_manifest.json")
        contains(Page(fermata("job", "report", copied(job))[0]).words, "There is no history of this job", "complete")
        contains(fermata("job", "report", job.path / "in", code=3)[1], "there is no job in")
        contains(fermata("job", "report", job.out, "-o", job.path / "absent" / "x.html", code=3)[1], "there is no directory")
        (job.out / ".fermata" / "ledger.db").write_bytes(b"noise " * 1000)
        (job.out / "errors" / "part-00000.jsonl").write_text("{}\n")
        contains(Page(fermata("job", "report", job.out)[0]).words, "unreadable", "it has no id")


@test
def a_history_that_cannot_be_written_is_no_failure():
    with Job(count=20) as job:
        (job.out / ".fermata" / "history").mkdir(parents=True)
        _, err = fermata("batch", job.file)
        contains(err, "note: the job's history is not written any more: ")
        job.check_complete()
        os.rmdir(job.out / ".fermata" / "history")
        (job.out / ".fermata" / "history").write_bytes(b'{"at":1,"done":2,"begin":true}\n\xff{"at":\n{"at":"x"}\n{"at":3,"done":1}\n[]\n{"at":7,"do')
        job.add(100, 5)
        fermata("batch", job.file, "--resume", "--quiet")
        samples, _ = history_of(job)
        assert [sample["at"] for sample in samples[:2]] == [1, 3] and samples[-1]["done"] == 25, samples
        Page(fermata("job", "report", job.out)[0])


def get(address, path, method="GET"):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer


@test
def a_page_is_served_while_the_job_runs():
    with Job(count=300, model=SLOW_MODEL, keys=STEERED) as job:
        child = subprocess.Popen([FERMATA, "batch", job.file, "--page", "127.0.0.1:0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        address = None
        while address is None:
            line = child.stderr.readline()
            address = line.split("http://")[1].strip().rstrip("/") if "a page about the job: " in line else None
        now = wait_for(lambda: (lambda status, text, _: status == 200 and json.loads(text))(*get(address, "/status.json")))
        now = wait_for(lambda: (lambda found: found["rows_committed"] > 0 and found["workers"] and found)(json.loads(get(address, "/status.json")[1])))
        assert now["job"] == "test" and now["rows_total"] == 300 and now["process"] == child.pid and now["workers"][0]["connected"], now
        status, text, answer = get(address, "/")
        page = Page(text)
        contains(page.words, "test: running", "Now", "rows per second", "of 300")
        contains(text, '<meta http-equiv="refresh" content="5">')
        assert status == 200 and "default-src 'none'" in answer.getheader("Content-Security-Policy")
        status, text, answer = get(address, "/metrics")
        contains(text, '# TYPE fermata_batch_rows gauge', 'fermata_batch_rows{job_name="test"} 300', "fermata_batch_worker_memory_bytes{", "fermata_batch_workers{")
        assert answer.getheader("Content-Type").startswith("text/plain; version=0.0.4")
        assert get(address, "/nosuch")[0] == 404 and get(address, "/", "POST")[0] == 405 and get(address, "/", "HEAD")[:2] == (200, "")
        assert get(address, "/../../etc/passwd")[0] == 404
        fermata("job", "pause", job.out)
        wait_for(lambda: "paused" in get(address, "/")[1])
        wait_for(lambda: 'fermata_batch_paused{job_name="test"} 1' in get(address, "/metrics")[1])
        worker = wait_for(lambda: (lambda found: found["tuned"] and found["memory"] and found)(json.loads(get(address, "/status.json")[1])["workers"][0]))
        tuned, memory = worker["tuned"], worker["memory"]
        assert tuned["read_threads"] >= 2 and tuned["operator_threads"] == 0 and tuned["rows_in_flight"] == 8 and tuned["batches"].startswith("model "), tuned
        assert memory["budget_bytes"] > 1 << 20 and memory["base_bytes"] > 1 << 20 and memory["used_bytes"] <= memory["most_bytes"], memory
        wait_for(lambda: " read, 8 rows; batches: model " in Page(get(address, "/")[1]).words)
        stages = wait_for(lambda: json.loads(get(address, "/status.json")[1])["stages"])  # after two seconds
        shown = fermata("job", "show", job.out)[0]
        contains(shown, " readers, 0 operator threads, 8 rows in flight, batches: model ", " MiB without any\n", ", of a budget of ")
        text = get(address, "/metrics")[1]
        contains(text, 'fermata_batch_worker_read_threads{job_name="test",', "fermata_batch_worker_operator_threads{", "fermata_batch_worker_rows_in_flight{",
                 "fermata_batch_worker_memory_budget_bytes{", "fermata_batch_worker_memory_used_bytes{",
                 'fermata_batch_stage_busy_ratio{job_name="test",stage="model"}', 'fermata_batch_stage_busy_ratio{job_name="test",stage="read"}')
        assert list(stages) == ["read", "model"] and all(0 <= share <= 1 for share in stages.values()), stages
        contains(shown, "busy: read ", ", model ")
        _, err = fermata("batch", job.file, "--output", job.path / "other", "--page", address, code=6)
        contains(err, address.rpartition(":")[2])
        child.terminate()
        child.communicate(timeout=60)
        assert child.returncode == 143, child.returncode


@test
def what_a_worker_does_in_a_minute_is_told():
    with Job(count=2000, model=SLOW_MODEL) as job:
        child = subprocess.Popen([FERMATA, "batch", job.file, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: (job.out / ".fermata" / "ledger.db").exists())
            wait_for(lambda: any(worker["rows_per_minute"] > 60 for worker in (json.loads(fermata("job", "show", job.out, "--json")[0])["master"] or {"workers": []})["workers"]))
        finally:
            child.kill()
            child.wait(60)


class Listener:
    """A server that keeps what is posted; `code` is its answer, None: it never answers."""

    def __init__(self, code=200):
        self.documents = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.documents.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                assert self.headers["Content-Type"] == "application/json" and self.path == "/hook?token=secret"
                if code is None:
                    time.sleep(60)
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d/hook?token=secret" % self.server.server_port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@test
def a_webhook_is_told_how_the_job_begins_and_ends():
    with Listener() as listener, Job(count=20) as job:
        job.file.write_text(job.file.read_text() + "notify: {webhook: '%s'}\n" % listener.url)
        with_letters(job)
        begin_, end = listener.documents
        assert (begin_["event"], begin_["job"], begin_["rows_in"], begin_["verdict"]) == ("begin", "test", 21, None), begin_
        assert (end["event"], end["verdict"], end["rows_out"], end["dead_letters"], end["rows_left"], end["error"]) == ("end", "complete", 17, 4, 0, None), end
        assert end["output"].endswith("out") and end["host"] and end["time"].startswith("20"), end
    with Listener() as listener, Job(count=300, model=SLOW_MODEL, keys=STEERED) as job:
        child = begin(job, "--webhook", listener.url)
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        assert [(one["event"], one["verdict"]) for one in listener.documents] == [("begin", None), ("stopped", "stopped")], listener.documents
        fermata("batch", job.file, "--resume", "--webhook", listener.url, "--quiet", "--fault", "before-manifest:1:error", code=6)
        assert listener.documents[-1]["event"] == "failed" and listener.documents[-1]["error"] and listener.documents[-2]["rows_before"] > 0, listener.documents


@test
def a_webhook_that_fails_is_no_failure():
    with Listener(code=500) as listener, Job(count=5) as job:
        _, err = fermata("batch", job.file, "--webhook", listener.url)
        contains(err, "note: the webhook did not take everything: its server answers with status 500")
        assert "secret" not in err and len(listener.documents) == 2
        listener.server.server_close()
        _, err = fermata("batch", job.file, "--restart", "--webhook", "http://127.0.0.1:9/hook?token=secret")
        contains(err, "note: the webhook did not take everything: ")
        assert "secret" not in err
        job.check_complete()
    with Listener(code=None) as listener, Job(count=5) as job:
        begun = time.monotonic()
        _, err = fermata("batch", job.file, "--webhook", listener.url)
        contains(err, "note: the webhook did not take everything: ")
        assert time.monotonic() - begun < 30
        job.check_complete()
    with Job(count=5) as job:
        for url in ("ftp://127.0.0.1/", "http://", "nonsense"):
            _, err = fermata("batch", job.file, "--webhook", url, code=3)
            contains(err, "the webhook's address must begin with http:// or https://")
        assert not job.out.exists()


# --- pause, resume, cancel ---


def begin(job, *arguments):
    """A running job, of which something is committed."""
    child = subprocess.Popen([FERMATA, "batch", job.file, "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while json.loads(child.stdout.readline())["rows_committed"] == 0:
        pass
    return child


def master_of(job):
    return fermata_json("job", "show", job.out, "--json")["master"]


def last_event(child):
    out, err = child.communicate(timeout=60)
    return json.loads(out.splitlines()[-1]), err.decode()


STEERED = "shard_rows: 5\nrows_in_flight: 8\n"


@test
def a_paused_job_finishes_what_it_has_and_waits():
    with Job(count=300, model=SLOW_MODEL, keys=STEERED) as job:
        child = begin(job, "--workers", "2")
        contains(fermata("job", "pause", job.out)[0], "test: paused; ", " of 300 rows committed")
        assert fermata_json("job", "pause", job.out, "--json")["paused"]
        rested = wait_for(lambda: (lambda now: now["rows_in_work"] == 0 and now)(master_of(job)))
        assert rested["paused"] and rested["rows_committed"] == rested["rows_done"] < 300 and rested["seconds_left"] is None, rested
        assert len(rested["workers"]) == 2 and all(one["connected"] and one["shards"] == 0 for one in rested["workers"]), rested
        contains(fermata("job", "show", job.out)[0], "; paused\n", "workers    2\n", " rows/min, ")
        while not json.loads(child.stdout.readline())["paused"]:
            pass
        time.sleep(1)
        assert master_of(job)["rows_committed"] == rested["rows_committed"]
        contains(fermata("job", "resume", job.out)[0], "test: goes on; ")
        end, _ = last_event(child)
        assert end["verdict"] == "complete", end
        job.check_complete()
        for what in ("pause", "resume"):
            contains(fermata("job", what, job.out, code=6)[1], "nobody is working on the job")


@test
def a_pause_ends_with_its_process():
    with Job(count=200, model=SLOW_MODEL, keys=STEERED) as job:
        child = begin(job)
        fermata("job", "pause", job.out)
        child.kill()
        child.communicate()
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()
    with Job(count=200, model=SLOW_MODEL, keys=STEERED) as job:
        child = begin(job)
        fermata("job", "pause", job.out)
        child.send_signal(signal.SIGINT)
        end, _ = last_event(child)
        assert child.returncode == 130 and end["verdict"] == "stopped", end


@test
def a_cancelled_job_is_not_resumed_by_accident():
    with Job(count=300, model=SLOW_MODEL, keys=STEERED) as job:
        child = begin(job)
        contains(fermata("job", "cancel", job.out)[0], "test: cancelled; ")
        end, err = last_event(child)
        assert (child.returncode, end["verdict"], end["rows_out"] > 0, end["rows_left"] > 0) == (5, "cancelled", True, True), (child.returncode, end, err)
        assert [line["state"] for line in listed(job.path).values()] == ["cancelled"]
        _, err = fermata("batch", job.file, "--resume", code=3)
        contains(err, "was cancelled", "fermata job resume %s" % job.out)
        contains(fermata("job", "cancel", job.out)[0], "it was cancelled before")
        contains(fermata("job", "resume", job.out)[0], "not cancelled any more")
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()
        contains(fermata("job", "cancel", job.out, code=3)[1], "is complete: there is nothing to cancel")


@test
def a_cancelled_job_that_is_killed_stays_cancelled():
    with Job(count=300, model=SLOW_MODEL.replace("beta: 40ms", "beta: 1s"), keys="shard_rows: 50\nrows_in_flight: 8\n") as job:
        child = subprocess.Popen([FERMATA, "batch", job.file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.readline()
        wait_for(lambda: fermata("job", "cancel", job.out, code=None)[0])
        child.kill()
        child.communicate()
        contains(fermata("batch", job.file, "--resume", code=3)[1], "was cancelled")
        contains(fermata("job", "list", job.path)[0], "cancelled")
        (job.path / "model" / "model.yaml").write_text(SLOW_MODEL)
        fermata("batch", job.file, "--restart", "--quiet")
        job.check_complete()


@test
def a_job_on_which_nobody_works_can_be_cancelled():
    with Job(count=40) as job:
        fermata("batch", job.file, "--quiet", "--fault", "after-commit:3", code=-9)
        assert fermata_json("job", "cancel", job.out, "--json") == {"cancelled": True, "changed": True}
        contains(fermata("batch", job.file, "--resume", code=3)[1], "was cancelled")
        assert fermata_json("job", "resume", job.out, "--json") == {"cancelled": False, "changed": True}
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()
        for what in ("pause", "resume", "cancel"):
            contains(fermata("job", what, job.path / "in", code=3)[1], "there is no job in")


@test
def a_long_path_does_not_hide_the_master():
    with Job(count=200, model=SLOW_MODEL, keys=STEERED, output="{directory: %s/out}" % ("d" * 120)) as job:
        job.out = job.path / ("d" * 120) / "out"
        child = begin(job)
        fermata("job", "cancel", job.out)
        assert last_event(child)[0]["verdict"] == "cancelled"


@test
def workers_of_other_hosts_cannot_steer():
    import http2
    with Job(count=300, model=SLOW_MODEL, keys=STEERED) as job:
        (job.path / "token").write_text("0123456789abcdef0123456789abcdef\n")
        child = subprocess.Popen([FERMATA, "batch", job.file, "--listen", "127.0.0.1:0", "--token-file", job.path / "token"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in child.stderr:
            if "listening for workers" in line:
                break
        port = int(line.split("--join ")[1].split()[0].rpartition(":")[2])
        for method in ("GetStatus", "Pause", "Resume", "Cancel"):
            with http2.Client(port) as client:
                _, _, trailer = client.call("/fermata.batch.v1.Control/" + method, b"", authorization="Bearer 0123456789abcdef0123456789abcdef")
            assert trailer["grpc-status"] == "7" and "only" in trailer["grpc-message"], trailer
        now = wait_for(lambda: master_of(job))
        assert not now["paused"] and not now["cancelled"], now
        child.terminate()
        child.communicate()


run()
