"""What a dead letter keeps of its row, and dead letters that are run again: after mending, both outputs together are the undisturbed one."""
import base64
import gzip
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import COLUMNS, Job, OperatorJob, Rows  # noqa: E402
from tap import ROOT, contains, fermata, run, test  # noqa: E402


def line_of(i, bad=()):
    return 'u%d,%d.5,%d,%s,%d,"say ""%d"", or\nnot"' % (i, i, -i, "oops" if i in bad else "0.01", i * 10**12, i)


def table(first, count, bad=()):
    return "\n".join(["user,a,b,c,d,label"] + [line_of(i, bad) for i in range(first, first + count)]) + "\n"


def retry(job, code=0, out="again", more=()):
    """Runs the job's dead letters; gives the lines of results and of dead letters, by id."""
    where = job.path / out
    fermata("batch", job.file, "--quiet", "--retry-dead-letters", job.out, "--output", where, *more, code=code)
    proof, _ = fermata("job", "verify", where, code=code)
    contains(proof, "proven")
    return parts(where), parts(where / "errors")


def parts(folder):
    lines = [json.loads(line) for part in sorted(folder.glob("part-*.jsonl")) for line in part.read_bytes().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines), "an id is there twice"
    return {line["id"]: line for line in lines}


@test
def dead_letters_of_another_source_are_refused():
    with Rows({"1.csv": table(0, 10, bad=(3,))}) as job:
        fermata("batch", job.file, "--quiet", code=4)
        text = job.file.read_text()
        for given, words in (("header: false, ", "quote 0x22, no header'"), ("format: jsonl, ", "'jsonl'")):
            job.file.write_text(text.replace("{files: ", "{" + given + "files: "))
            for hidden in (False, True):
                if hidden:  # the manifest says so, too
                    os.rename(job.out / ".fermata", job.path / "state")
                err = fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", job.path / "again", code=3)[1]
                contains(err, "are of another source: input.format was 'csv, delimiter 0x2c, quote 0x22', and that of '", words, "run them with the job that they are of")
                if hidden:
                    os.rename(job.path / "state", job.out / ".fermata")
        job.file.write_text(text)
        (job.path / "in" / "1.csv").write_text(table(0, 10))
        results, letters = retry(job)
        assert sorted(results) == ["u3"] and letters == {}


@test
def records_stand_in_their_dead_letters():
    files = {"1.csv": "\ufeff" + table(0, 30, bad=(7, 9)) + "u30,1,2\n"}
    with Rows(files, keys="shard_rows: 10\n") as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert sorted(letters) == ["1.csv:30", "u7", "u9"], letters
        assert letters["u7"]["raw"] == line_of(7, bad=(7,)) and letters["u7"]["file"] == "1.csv" and letters["u7"]["file_row"] == 7, letters["u7"]
        assert letters["1.csv:30"]["raw"] == "u30,1,2" and "raw_truncated" not in letters["1.csv:30"]
    rows = [json.dumps({"user": "u%d" % i, "x": [1, 2, 3], "d": "no" if i == 2 else 1}) for i in range(5)]
    with Rows({"1.jsonl": "\r\n".join(rows)}, given="columns: {x: x, t: d, name: user}, id: user") as job:
        fermata("batch", job.file, "--quiet", code=4)
        assert json.loads(job.letters()["u2"]["raw"])["d"] == "no" and not job.letters()["u2"]["raw"].endswith("\r")
    long = "\u00fc" * 20000
    files = {"1.csv": b"user,a,b,c,d\nu0,1,2,oops,3\xff\nu1,1,2,3,4\nu2,1,2,oo," + long.encode() + b"\nx" + long.encode() + b",1,2,oo,5\n"}
    with Rows(files, keys="errors: {max_ratio: 1}\n") as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert base64.b64decode(letters["u0"]["raw_base64"]) == b"u0,1,2,oops,3\xff" and "raw" not in letters["u0"], letters["u0"]
        for letter, head in ((letters["u2"], "u2,1,2,oo,"), (letters["x" + long], "x")):
            assert letter["raw_truncated"] and letter["raw"].startswith(head) and 16380 <= len(letter["raw"].encode()) <= 16384, (len(letter["raw"].encode()), letter["raw"][:20])


@test
def rows_that_fail_behind_parsing_have_their_record_too():
    model = 'backend: emulated\nmax_batch_size: 16\ninstances: 1\nsettings: {inputs: "x:FP32[-1]", outputs: "y:FP32[-1]", alpha: 0ms, beta: 0.1ms, fail_every: 7}\n'
    with Rows({"1.csv": "x,y\n" + "".join("%d,%d\n" % (i, i) for i in range(320))}, given="columns: {x: x}", model=model, keys="shard_rows: 64\nerrors: {max_ratio: 1}\n") as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert letters and all(letter["raw"] == "%d,%d" % (letter["file_row"], letter["file_row"]) == "%d,%d" % (letter["row"], letter["row"]) for letter in letters.values()), letters


@test
def formats_without_records_show_what_was_read():
    model = 'backend: emulated\nmax_batch_size: 16\ninstances: 1\nsettings: {inputs: "x:FP32[-1,3], t:INT64[-1], name:BYTES[-1,1]", outputs: "y:FP32[-1]", alpha: 0ms, beta: 0.1ms, fail_every: 7}\n'
    source = os.path.join(ROOT, "tests", "data", "rows.parquet")
    with Rows({"1.parquet": open(source, "rb").read()}, given=COLUMNS, model=model, keys="shard_rows: 200\nerrors: {max_ratio: 1}\n") as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert "columns" not in letters["u17"] and "raw" not in letters["u17"], letters["u17"]  # a NULL: nothing was read of it
        failed = [letter for letter in letters.values() if letter["stage"] == "model"]
        assert failed
        for letter in failed:
            i = letter["file_row"]
            assert letter["columns"] == {"x": [i + 0.5, -i, 0.01], "t": i * 10**12, "name": ["u%d" % i]}, letter


@test
def a_file_that_is_a_row_is_named_and_run_again():
    with OperatorJob(20, rows={3: "poison", 11: "poison"}) as job:
        (job.path / "in" / "row-0007").write_bytes(b"")
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.lines("errors")
        assert sorted(letter["id"] for letter in letters) == ["row-0003", "row-0007", "row-0011"] and all("raw" not in letter and "file" not in letter for letter in letters), letters
        (job.path / "in" / "row-0003").write_text("text of row 3")
        (job.path / "in" / "row-0007").unlink()
        good, bad = retry(job, code=4)
        assert list(good) == ["row-0003"] and sorted(bad) == ["row-0007", "row-0011"], (good, bad)
        assert bad["row-0007"]["stage"] == "read" and bad["row-0007"]["code"] == "ENOTFOUND", bad["row-0007"]
        assert good["row-0003"]["out_x"] == "text of row 3"


@test
def mended_rows_and_the_first_results_are_the_undisturbed_output():
    bad = (0, 7, 8, 9, 2400, 2999)
    with Rows({"1.csv": table(0, 3000), "2.csv": table(3000, 100)}) as whole:
        fermata("batch", whole.file, "--quiet")
        expected = whole.results()
    with Rows({"1.csv": table(0, 3000, bad), "2.csv": table(3000, 100, (3050,))}) as job:
        fermata("batch", job.file, "--quiet", code=4)
        first = job.results()
        assert len(first) == 3093 and len(job.letters()) == 7
        job.put("1.csv", table(0, 3000, bad=(8,)))  # all but one are mended
        job.put("2.csv", table(3000, 100))
        good, still = retry(job, code=4, more=("--workers", "2"))
        assert sorted(good) == sorted("u%d" % i for i in (0, 7, 9, 2400, 2999, 3050)) and list(still) == ["u8"], (good, still)
        job.put("1.csv", table(0, 3000))
        job.out = job.path / "again"
        last, none = retry(job, out="last")
        assert list(last) == ["u8"] and not none
        assert {**first, **good, **last} == expected
        manifest = json.loads((job.path / "last" / "_manifest.json").read_text())
        assert manifest["facts"]["input.dead_letters"] == str(job.path / "again"), manifest["facts"]


@test
def ids_that_are_made_of_numbers_stay():
    rows = ["1,2,3"] * 700
    for i in (5, 6, 7, 400):
        rows[i] = "no"
    with Rows({"d.jsonl": "\n".join('{"x": %s}' % (json.dumps("no") if row == "no" else "1") for row in rows)}, given="columns: {x: x}",
              model='backend: identity\nmax_batch_size: 4\nsettings: {inputs: "x:INT32[-1]"}\n') as job:
        fermata("batch", job.file, "--quiet", code=4)
        assert sorted(job.letters()) == ["d.jsonl:400", "d.jsonl:5", "d.jsonl:6", "d.jsonl:7"]
        job.put("d.jsonl", '{"x": 1}\n' * 700)
        good, bad = retry(job)
        assert sorted(good) == ["d.jsonl:400", "d.jsonl:5", "d.jsonl:6", "d.jsonl:7"] and not bad
        assert [line["id"] for line in map(json.loads, (job.path / "again" / "part-00000.jsonl").read_text().splitlines())] == ["d.jsonl:5", "d.jsonl:6", "d.jsonl:7", "d.jsonl:400"]


@test
def files_that_are_gone_or_shorter_say_so():
    with Rows({"1.csv": table(0, 100, bad=(50, 99)), "2.csv": table(100, 100, bad=(150,))}) as job:
        fermata("batch", job.file, "--quiet", code=4)
        job.put("1.csv", table(0, 60))
        (job.path / "in" / "2.csv").unlink()
        good, bad = retry(job, code=4, more=())
        assert list(good) == ["u50"] and sorted(bad) == ["1.csv:99", "2.csv:50"], (good, bad)
        contains(bad["1.csv:99"]["message"], "fewer rows than when the job was begun")
        assert bad["2.csv:50"]["stage"] == "read" and bad["2.csv:50"]["code"] == "ENOTFOUND", bad["2.csv:50"]


@test
def parquet_rows_are_run_again():
    model = 'backend: identity\nmax_batch_size: 16\nsettings: {inputs: "x:FP32[-1,3], t:INT64[-1], name:BYTES[-1,1]"}\n'
    source = os.path.join(ROOT, "tests", "data", "rows.parquet")
    with Rows({"1.parquet": open(source, "rb").read()}, given=COLUMNS, model=model) as job:
        fermata("batch", job.file, "--quiet", code=4)
        job.file.write_text(job.file.read_text().replace("[a, b, c]", "[a, b, a]"))
        good, bad = retry(job)
        assert sorted(good) == ["u17", "u500"] and not bad and good["u17"]["out_x"] == [17.5, -17, 17.5], good


@test
def a_retry_survives_crashes_and_is_resumed():
    bad = tuple(range(0, 300, 3))
    for point in ("listed", "created", "claimed:2", "row-written:30", "after-commit:2", "before-manifest"):
        with Rows({"1.csv": table(0, 300, bad)}, keys="shard_rows: 20\nerrors: {max_ratio: 1}\n") as job:
            fermata("batch", job.file, "--quiet", code=4)
            job.put("1.csv", table(0, 300))
            again = job.path / "again"
            order = ["batch", job.file, "--quiet", "--output", again]
            fermata(*order, "--retry-dead-letters", job.out, "--fault", point, code=0 if "row" in point else -9)
            if "row" not in point:
                # Without the option it is known what the job is of, once it has begun; and before that all inputs are not taken for it.
                if point == "listed":
                    _, err = fermata(*order, "--resume", code=3)
                    contains(err, "was begun to run the dead letters of '%s'" % job.out, "--retry-dead-letters", "--restart")
                    assert not list(again.glob("part-*"))
                fermata(*order, "--resume", *([] if point not in ("listed",) else ["--retry-dead-letters", job.out]))
            assert sorted(parts(again)) == sorted("u%d" % i for i in bad), point
            fermata(*order, "--resume", "--retry-dead-letters", job.out)
            contains(fermata("job", "verify", again)[0], "proven: 100 rows")
            assert json.loads((again / "_manifest.json").read_text())["facts"]["input.dead_letters"] == str(job.out)


@test
def what_cannot_be_run_again_is_told():
    with Rows({"1.csv": table(0, 30, bad=(7,))}) as job, Rows({"1.csv": table(0, 30)}) as good, Job(count=3) as files:
        for one, code in ((job, 4), (good, 0), (files, 0)):
            fermata("batch", one.file, "--quiet", code=code)
        again = job.path / "again"
        for of, words in [(job.out, "cannot be run into the same directory"), (good.out, "there are no dead letters in"), (job.path / "in", "there is no job in"),
                          (job.path / "nowhere", "there is no job in")]:
            where = job.out if of == job.out else again
            _, err = fermata("batch", job.file, "--retry-dead-letters", of, "--output", where, *(["--resume"] if of == job.out else []), code=3)
            contains(err, words)
        _, err = fermata("batch", files.file, "--retry-dead-letters", job.out, "--output", again, code=3)
        contains(err, "are of files that hold rows, and the inputs of")
        assert not again.exists()
        _, err = fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", again, "--limit", "3", code=2)
        contains(err, "give it without --limit")
        out, _ = fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", again, "--dry-run")
        contains(out, "1 found, 1 in the job")
        assert not again.exists()
        fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", again, "--quiet", code=4)
        shutil.copytree(job.out, job.path / "copy")
        _, err = fermata("batch", job.file, "--retry-dead-letters", job.path / "copy", "--output", again, "--resume", code=3)
        contains(err, "it runs the dead letters of '%s'" % job.out)
        _, err = fermata("batch", job.file, "--retry-dead-letters", again, "--output", job.out, "--resume", code=3)
        contains(err, "it runs all inputs")


@test
def dead_letters_that_are_not_all_there_are_refused():
    with Rows({"1.csv": table(0, 40, bad=(3, 25))}, keys="shard_rows: 20\n") as job:
        fermata("batch", job.file, "--quiet", code=4)
        (job.out / "errors" / "part-00001.jsonl").unlink()
        _, err = fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", job.path / "again", code=3)
        contains(err, "has 1 dead letters, and its manifest says 2")
        os.mkfifo(job.out / "errors" / "part-00001.jsonl")
        _, err = fermata("job", "dead-letters", job.out, code=None, timeout=20)
        contains(err, "no file that can be read at any place")


@test
def compressed_files_have_no_record_to_show_and_the_first_file_may_be_gone():
    files = {"1.csv.gz": gzip.compress(table(0, 20, bad=(3,)).encode()), "2.csv.gz": gzip.compress(table(20, 20, bad=(25,)).encode())}
    with Rows(files, keys="shard_rows: 20\n") as job:
        job.file.write_text(job.file.read_text().replace("in/*.gz", "in/*.csv.gz"))
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert sorted(letters) == ["u25", "u3"] and not any("raw" in letter or "raw_base64" in letter for letter in letters.values()), letters
        (job.path / "in" / "1.csv.gz").unlink()
        _, bad = retry(job, code=4)
        assert sorted(letter["stage"] for letter in bad.values()) == ["parse", "read"], bad


@test
def dead_letters_of_an_unfinished_job():
    with Rows({"1.csv": table(0, 200, bad=(3,))}, keys="shard_rows: 20\n") as job:
        fermata("batch", job.file, "--quiet", "--fault", "published:4", code=-9)
        _, err = fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", job.path / "again", code=4)
        contains(err, "is not complete: these are its dead letters so far")


run()
