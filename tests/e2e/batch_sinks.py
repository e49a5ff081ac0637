"""What a job writes its results as: JSON lines, CSV, Parquet; each of them resumed, killed, proven, and read again by another job."""
import contextlib
import csv
import json
import os
import re
import shutil
import sqlite3
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import COLUMNS, NAME_MODEL, SLOW_MODEL, Job, Rows, read_back  # noqa: E402
from tap import contains, fermata, run, test  # noqa: E402

SINKS = ("jsonl", "csv", "parquet")


def table(first, count, bad=()):
    rows = ["user,a,b,c,d,label"]
    for i in range(first, first + count):
        rows.append('u%d,%d.5,%d,%s,%d,"say ""%d"", or\nnot"' % (i, i, -i, "oops" if i in bad else "1e-2", i * 10**12, i))
    return "\n".join(rows) + "\n"


def output(sink, more=""):
    return "{directory: out, format: %s%s}" % (sink, more)


def csv_rows(job):
    """Every row by its id; each part has its header."""
    found = {}
    for part in sorted(job.out.glob("part-*.csv")):
        with open(part, newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                assert None not in row and None not in row.values(), row
                assert row["id"] not in found, "%s is there twice" % row["id"]
                found[row["id"]] = row
    return found


def verified(job, code=0):
    out, err = fermata("job", "verify", job.out, code=code)
    return out + err


@test
def csv_parts_are_tables_with_a_header_each():
    with Rows({"1.csv": table(0, 300, bad=(7,))}, output=output("csv", ", passthrough: [label]")) as job:
        fermata("batch", job.file, "--quiet", code=4)
        parts = sorted(job.out.glob("part-*"))
        assert len(parts) == 8 and all(part.name.endswith(".csv") for part in parts), parts
        assert all(part.read_text().startswith("id,label,out_x,out_t,out_name\n") for part in parts)
        rows = csv_rows(job)
        assert len(rows) == 299 and list(job.letters()) == ["u7"]
        assert 'u0,"say ""0"", or' in parts[0].read_text()
        assert rows["u17"] == {"id": "u17", "label": 'say "17", or\nnot', "out_x": "[17.5,-17.0,0.01]", "out_t": str(17 * 10**12), "out_name": "u17"}, rows["u17"]
        contains(verified(job, code=4), "proven with dead letters: 300 rows in, 299 results + 1 dead letters counted in 8 parts")


@test
def what_one_job_writes_another_reads():
    for sink in ("csv", "parquet"):
        with Rows({"1.csv": table(0, 500)}, output=output(sink, ", passthrough: [label]")) as first, Rows({"x.%s" % sink: ""}, output=output(sink), given=(
                "columns: {x: out_x, t: out_t, name: out_name}, id: id")) as second:
            fermata("batch", first.file, "--quiet")
            (second.path / "in" / ("x." + sink)).unlink()
            for part in first.out.glob("part-*"):
                shutil.copy(part, second.path / "in")
            fermata("batch", second.file, "--quiet", "--workers", "2")
            contains(verified(first), "proven: 500 rows")
            contains(verified(second), "proven: 500 rows")
            if sink == "csv":
                assert csv_rows(second)["u99"]["out_x"] == "[99.5,-99.0,0.01]", csv_rows(second)["u99"]
            rows = read_back(second, sink, ["out_x", "out_t", "out_name"][:2] if sink == "parquet" else ["out_x"])
            assert len(rows) == 500
            assert rows["u99"]["out_x"] == ([99.5, -99, 0.01] if sink == "parquet" else "[99.5,-99.0,0.01]"), rows["u99"]


TYPES = {"b": ("BOOL", "true"), "u1": ("UINT8", 255), "u2": ("UINT16", 65535), "u4": ("UINT32", 2**32 - 1), "u8": ("UINT64", 2**64 - 1), "i1": ("INT8", -128),
         "i2": ("INT16", -32768), "i4": ("INT32", -2**31), "i8": ("INT64", -2**63), "h": ("FP16", 0.333), "f": ("FP32", 0.1), "d": ("FP64", 0.1)}


@test
def every_type_and_shape_comes_back_as_it_is():
    inputs = ["%s:%s[-1]" % (name, dtype) for name, (dtype, _) in TYPES.items()]
    inputs += ["s:BYTES[-1,1]", "v:INT16[-1,-1]", "m:FP32[-1,2,2]", "one:FP32[-1,1]", "w:BYTES[-1,-1]", "e:INT32[-1,-1]"]
    model = 'backend: identity\nmax_batch_size: 8\nsettings: {inputs: "%s"}\n' % ", ".join(inputs)
    rows = []
    for i in range(50):
        row = {name: (i % 2 == 0 if name == "b" else value) for name, (_, value) in TYPES.items()}
        row.update(s='text "%d", \u00fc\n' % i, v=list(range(i % 4)), m=[[i, 1], [2, 3.5]], one=i, w=["a", "", "\u00fc,%d" % i], e=[])
        rows.append(row)
    plain = {}
    for sink in SINKS:
        with Rows({"1.jsonl": "\n".join(json.dumps(row) for row in rows)}, given="format: jsonl", model=model, output=output(sink)) as job:
            fermata("batch", job.file, "--quiet")
            contains(verified(job), "proven: 50 rows")
            if sink == "jsonl":
                plain = job.results()
            elif sink == "csv":
                found = csv_rows(job)
                assert found["1.jsonl:3"]["out_u8"] == str(2**64 - 1) and found["1.jsonl:3"]["out_one"] == "3.0" and found["1.jsonl:3"]["out_b"] == "false"
                assert found["1.jsonl:3"]["out_s"] == 'text "3", \u00fc\n' and json.loads(found["1.jsonl:3"]["out_m"]) == [[3, 1], [2, 3.5]]
                for key, row in found.items():
                    for name, value in plain[key].items():
                        value = value[0] if name == "out_one" else value
                        assert row[name] == (value if isinstance(value, str) else row[name]) and (isinstance(value, str) or json.loads(row[name]) == value), (name, row)
            else:
                found = read_back(job, sink, [name for name in plain["1.jsonl:0"] if name not in ("id", "out_name")])
                for key, row in plain.items():
                    row["out_one"] = row["out_one"][0]  # one value in each row is a plain one
                    assert {name: as_double(name, value) for name, value in found[key].items()} == {name: as_double(name, value) for name, value in row.items()}, (found[key], row)


def as_double(name, value):
    """A half is a float in Parquet, whose shortest form has more digits."""
    return round(value, 3) if name == "out_h" else value


@test
def numbers_that_are_none():
    model = 'backend: identity\nmax_batch_size: 8\nsettings: {inputs: "x:FP32[-1]"}\n'
    for sink, expected in (("csv", ["nan", "inf", "-inf", "1.5"]), ("parquet", [None, None, None, 1.5])):
        with Rows({"1.csv": "x\nnan\ninf\n-inf\n1.5\n"}, given="columns: {x: x}", model=model, output=output(sink)) as job:
            fermata("batch", job.file, "--quiet")
            rows = csv_rows(job) if sink == "csv" else read_back(job, sink, ["out_x"])
            assert [rows["1.csv:%d" % i]["out_x"] for i in range(4)] == expected, rows


@test
def bytes_are_text_or_as_they_are():
    rows = [b"plain", b"\xff\xfe", b""]
    for sink in ("csv", "parquet"):
        for form in ("text", "base64"):
            with Job(count=0, output=output(sink, ", bytes: %s" % form), keys="errors: {max_ratio: 1}\n") as job:
                for i, data in enumerate(rows):
                    (job.path / "in" / ("row-%d" % i)).write_bytes(data)
                fermata("batch", job.file, "--quiet", code=4)  # an empty file is a dead letter
                found = csv_rows(job) if sink == "csv" else read_back(job, sink, ["out_x"])
                texts = {"text": ["plain", "\ufffd\ufffd"], "base64": ["cGxhaW4=", "//4="]}[form if sink == "csv" else "text"]
                assert [found["row-%d" % i]["out_x"] for i in range(2)] == texts, (sink, form, found)
                contains(verified(job, code=4), "3 rows in, 2 results + 1 dead letters")


@test
def passed_columns_keep_their_types():
    """jsonl has none, so they are JSON there; what Parquet says of its columns stays."""
    with Rows({"1.csv": table(0, 100)}, output=output("parquet", ", timings: true, passthrough: [label, a]")) as first:
        fermata("batch", first.file, "--quiet")
        rows = read_back(first, "parquet", ["a", "label", "out_t", "timings.total_ms"])
        assert rows["u5"]["a"] == "5.5" and rows["u5"]["out_t"] == 5 * 10**12 and isinstance(rows["u5"]["timings.total_ms"], float), rows["u5"]
        with Rows({"x.parquet": ""}, given="columns: {name: id}, id: id", model=NAME_MODEL, output=output("parquet", ", passthrough: [out_t, label, out_x, timings.total_ms]")) as second:
            (second.path / "in" / "x.parquet").unlink()
            for part in first.out.glob("part-*"):
                shutil.copy(part, second.path / "in")
            fermata("batch", second.file, "--quiet", "--workers", "2")
            assert second.manifest()["facts"]["output.types"] == "INT64,TEXT,JSON,FP64", second.manifest()["facts"]
            again = read_back(second, "parquet", ["out_t", "label", "timings.total_ms"])
            assert again == {key: {"id": key, "out_t": row["out_t"], "label": row["label"], "timings.total_ms": row["timings.total_ms"]} for key, row in rows.items()}, again["u5"]


@test
def a_file_whose_column_has_another_type_gives_dead_letters():
    model = 'backend: identity\nmax_batch_size: 16\nsettings: {inputs: "name:BYTES[-1,1], t:FP64[-1]"}\n'
    with Rows({"1.jsonl": '{"name": "a", "t": 1}\n'}, given="columns: {name: name, t: t}, id: name", model=model.replace("FP64", "INT64"), output=output("parquet")) as whole, Rows(
            {"1.jsonl": '{"name": "b", "t": 1.5}\n'}, given="columns: {name: name, t: t}, id: name", model=model, output=output("parquet")) as broken:
        for job in (whole, broken):
            fermata("batch", job.file, "--quiet")
        with Rows({"x.parquet": ""}, given="columns: {name: id}, id: id", model=NAME_MODEL, output=output("parquet", ", passthrough: [out_t]"), keys="errors: {max_ratio: 1}\n") as both:
            (both.path / "in" / "x.parquet").unlink()
            shutil.copy(whole.out / "part-00000.parquet", both.path / "in" / "1.parquet")
            shutil.copy(broken.out / "part-00000.parquet", both.path / "in" / "2.parquet")
            fermata("batch", both.file, "--quiet", code=4)
            letter = both.letters()["b"]
            assert letter["stage"] == "write" and letter["code"] == "ETYPE", letter
            contains(letter["message"], "the column 'out_t' cannot be written: column 'out_t': '1.5' is no INT64")
            contains(verified(both, code=4), "2 rows in, 1 results + 1 dead letters")


@test
def names_of_files_that_are_no_text():
    for sink in ("csv", "parquet"):
        with Job(count=3, output=output(sink), keys="errors: {max_ratio: 1}\n") as job:
            with open(os.path.join(os.fsencode(job.path / "in"), b"bad-\xff"), "wb") as file:
                file.write(b"text")
            fermata("batch", job.file, "--quiet", code=4)
            letter = job.lines("errors")[0]
            assert letter["stage"] == "write" and letter["code"] == "EUNSUPPORTED" and letter["id_base64"] == "YmFkLf8=", letter
            contains(letter["message"], "the id is not UTF-8")
            contains(letter["message"], "output.format: jsonl without compression can hold it")
            contains(verified(job, code=4), "4 rows in, 3 results + 1 dead letters")


@test
def limits_growth_and_another_format():
    for sink in ("csv", "parquet"):
        with Rows({"1.csv": table(0, 100), "2.csv": table(100, 50)}, output=output(sink)) as job:
            fermata("batch", job.file, "--quiet", "--limit", "30")
            contains(verified(job), "proven: 30 rows")
            fermata("batch", job.file, "--quiet", "--limit", "120", "--resume")
            fermata("batch", job.file, "--quiet", "--resume")
            job.put("0.csv", table(150, 20))
            fermata("batch", job.file, "--quiet", "--resume")
            contains(verified(job), "proven: 170 rows")
            rows = csv_rows(job) if sink == "csv" else read_back(job, sink, ["out_t"])
            assert sorted(rows) == sorted("u%d" % i for i in range(170))
            job.file.write_text(job.file.read_text().replace("format: " + sink, "format: jsonl"))
            _, err = fermata("batch", job.file, "--quiet", "--resume", code=3)
            contains(err, "output.format was '%s, compression %s' and is 'jsonl, compression none'" % (sink, "none" if sink == "csv" else "snappy"))
            fermata("batch", job.file, "--quiet", "--restart")
            assert not list(job.out.glob("part-*." + sink)) and len(job.results()) == 170
            contains(verified(job), "proven: 170 rows")


@test
def workers_that_are_killed_and_files_that_are_gone():
    for sink in ("csv", "parquet"):
        with Rows({"1.csv": table(0, 300, bad=(7, 250))}, output=output(sink, ", passthrough: [label]"), keys="shard_rows: 20\n") as whole:
            fermata("batch", whole.file, "--quiet", code=4)
            expected = csv_rows(whole) if sink == "csv" else read_back(whole, sink, ["label", "out_x", "out_t"])
        for point in ("row-written:50", "before-sync:3", "before-commit:2"):
            with Rows({"1.csv": table(0, 300, bad=(7, 250))}, output=output(sink, ", passthrough: [label]"), keys="shard_rows: 20\n") as job:
                fermata("batch", job.file, "--quiet", "--fault", point, code=4)
                contains(verified(job, code=4), "300 rows in, 298 results + 2 dead letters")
                assert (csv_rows(job) if sink == "csv" else read_back(job, sink, ["label", "out_x", "out_t"])) == expected
                assert sorted(job.letters()) == ["u250", "u7"] and os.listdir(job.out / "stage") == []
        for point in ("claimed:4", "after-commit:3", "published:2", "before-manifest"):
            with Rows({"1.csv": table(0, 300, bad=(7, 250))}, output=output(sink, ", passthrough: [label]"), keys="shard_rows: 20\n") as job:
                fermata("batch", job.file, "--quiet", "--fault", point, code=-9)
                contains(verified(job, code=8), "the job is not complete")
                fermata("batch", job.file, "--quiet", "--resume", code=4)
                contains(verified(job, code=4), "300 rows in, 298 results + 2 dead letters")
                assert (csv_rows(job) if sink == "csv" else read_back(job, sink, ["label", "out_x", "out_t"])) == expected


@test
def a_full_disk_and_lack_of_memory_are_told_and_resumed():
    for sink in ("csv", "parquet"):
        for fault in ("row-written:60:error", "before-sync:2:error", "row-written:60:memory"):
            with Rows({"1.csv": table(0, 200)}, output=output(sink), keys="shard_rows: 20\n") as job:
                _, err = fermata("batch", job.file, "--quiet", "--fault", fault, code=0 if "memory" in fault else 6)
                if "error" in fault:
                    contains(err, "no space")
                    fermata("batch", job.file, "--quiet", "--resume")
                contains(verified(job), "proven: 200 rows")


@test
def parts_that_were_changed_are_found():
    changes = {"csv": [(lambda text: text.replace(b"u3,", b"u9,", 1), "has the checksum"), (lambda text: text[:-5], "bytes instead of"),
                       (lambda text: re.sub(rb"u5,.*\n", b"", text), "has 19 rows instead of 20"), (lambda text: text + b'"open', "part-00000.csv"),
                       (lambda text: text.replace(b"u5,", b"u5,more,", 1), "part-00000.csv: row 6: line 7: "),
                       (lambda text: text.replace(b"id,", b"it,", 1), "part-00000.csv"), (lambda _: b"", "the file is empty")],
               "parquet": [(lambda text: text[:-20], "bytes instead of"), (lambda text: text[:200] + bytes([text[200] ^ 255]) + text[201:], "part-00000.parquet: has the checksum"), (lambda _: b"", "bytes instead of")]}
    for sink, cases in changes.items():
        with Rows({"1.csv": table(0, 60)}, output=output(sink), keys="shard_rows: 20\n") as job:
            fermata("batch", job.file, "--quiet")
            part = job.out / ("part-00000." + sink)
            whole = part.read_bytes()
            for change, words in cases:
                part.write_bytes(change(whole))
                contains(verified(job, code=8), words)
                _, err = fermata("batch", job.file, "--quiet", "--resume", code=3)
                contains(err, "it was changed")
            part.write_bytes(whole)
            contains(verified(job), "proven")
            shutil.copy(part, job.out / ("part-00009." + sink))
            contains(verified(job, code=8), "nobody vouches for it")
            part.unlink()
            contains(verified(job, code=8), "part-00000.%s: is missing" % sink)


@test
def compressions_of_parquet():
    sizes = {}
    rows = "name\n" + "\n".join("the same long text again and again %d" % (i % 7) for i in range(3000)) + "\n"
    for compression in ("none", "snappy", "gzip", "zstd"):
        with Rows({"1.csv": rows}, given="columns: {name: name}", model=NAME_MODEL, output=output("parquet", ", compression: " + compression), keys="shard_rows: 3000\n") as job:
            fermata("batch", job.file, "--quiet")
            contains(verified(job), "proven: 3000 rows")
            sizes[compression] = sum(part.stat().st_size for part in job.out.glob("part-*"))
    assert sizes["none"] > sizes["snappy"] > sizes["zstd"], sizes


@test
def mistakes_are_told_before_anything_runs():
    model = 'backend: identity\nmax_batch_size: 8\nsettings: {inputs: "x:FP32[-1], X:FP32[-1]"}\n'
    for more, given, words in [
            ("parqet", COLUMNS, "'parqet' is no output format (jsonl, csv, parquet, openai_batch); did you mean 'parquet'?"),
            ("csv, compression: zstd", COLUMNS, "CSV has no compression 'zstd', but: none"),
            ("parquet, compression: lz4", COLUMNS, "Parquet has no compression 'lz4', but: snappy, zstd, gzip, none"),
            ("csv, passthrough: [label, label]", COLUMNS, "'passthrough' names 'label' twice")]:
        with Rows({"1.csv": table(0, 3)}, given=given, output=output(more)) as job:
            _, err = fermata("batch", job.file, "--quiet", code=3)
            contains(err, words)
            assert not job.out.exists()
    for sink, code in (("csv", 0), ("parquet", 3)):
        with Rows({"1.csv": "x\n1\n"}, given="columns: {x: x, X: x}", model=model, output=output(sink)) as job:
            _, err = fermata("batch", job.file, "--quiet", code=code)
            contains(err, "the columns 'out_X' and 'out_x', which are one to readers of Parquet" if code else "")


@test
def jobs_that_were_begun_before_there_were_formats():
    with Rows({"1.csv": table(0, 100)}) as job:
        fermata("batch", job.file, "--quiet", "--limit", "30")
        with contextlib.closing(sqlite3.connect(job.out / ".fermata" / "ledger.db")) as ledger:
            assert ledger.execute("DELETE FROM fact WHERE key IN ('output.format', 'output.types')").rowcount == 2
            ledger.commit()
        text = job.file.read_text()
        job.file.write_text(text.replace("{directory: out}", output("csv")))
        _, err = fermata("batch", job.file, "--quiet", "--resume", code=3)
        contains(err, "output.format was 'jsonl, compression none' and is 'csv, compression none'")
        job.file.write_text(text)
        fermata("batch", job.file, "--quiet", "--resume")
        contains(verified(job), "proven: 100 rows")


@test
def what_is_told_and_listed_names_the_parts():
    with Job(count=8, model=SLOW_MODEL, output=output("parquet")) as job:
        out, _ = fermata("batch", job.file)
        contains(out, "/part-*.parquet")
        assert all(part["part"].endswith(".parquet") for part in job.manifest()["parts"])
        assert job.manifest()["facts"]["output.format"] == "parquet, compression snappy"
        contains(verified(job), "proven: 8 rows")
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "already holds a job")


run()
