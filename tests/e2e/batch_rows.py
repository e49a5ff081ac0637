"""`fermata batch` over files that hold rows: csv, tsv, JSON lines, Parquet, npy and npz."""
import ctypes
import gzip
import io
import json
import os
import random
import struct
import sys
import tarfile
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import COLUMNS, Rows  # noqa: E402
from tap import ROOT, contains, fermata, run, test  # noqa: E402


def table(first, count, bad=()):
    """A csv of `count` users from number `first` on."""
    rows = ["user,a,b,c,d,label"]
    for i in range(first, first + count):
        rows.append('u%d,%d.5,%d,%s,%d,"say ""%d"", or\nnot"' % (i, i, -i, "oops" if i in bad else "1e-2", i * 10**12, i))
    return "\n".join(rows) + "\n"


def expected(i):
    return {"id": "u%d" % i, "out_x": [i + 0.5, -i, 0.01], "out_t": i * 10**12, "out_name": "u%d" % i}


def check(job, rows, bad=()):
    results = job.results()
    assert len(results) == len(job.lines()) == rows - len(bad), (len(results), len(job.lines()), rows)
    for i in range(rows):
        if i not in bad:
            line = results["u%d" % i]
            line.pop("label", None)
            assert line == expected(i), line
    manifest = job.manifest()
    assert manifest["complete"] and manifest["rows_in"] == rows and manifest["dead_letters"] == len(bad), manifest


@test
def columns_fill_tensors_and_rows_keep_their_ids():
    with Rows({"1.csv": table(0, 700), "2.csv": table(700, 300)}, output="{directory: out, passthrough: [label]}") as job:
        out, _ = fermata("batch", job.file)
        contains(out, "complete: 1000 rows in = 1000 results + 0 dead letters")
        assert job.results()["u17"]["label"] == 'say "17", or\nnot'
        lines = [line["id"] for line in job.lines()]
        assert lines[:40] == ["u%d" % i for i in range(40)], "rows of a part are in the order of the file"
        check(job, 1000)


@test
def rows_that_do_not_fit_are_dead_letters_and_their_neighbours_are_not():
    with Rows({"1.csv": table(0, 300, bad=(7, 8, 100)) + "u300,1,2\nu301,1,2,3,4,5,6\n"}) as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert set(letters) == {"u7", "u8", "u100", "1.csv:300", "1.csv:301"}, letters
        letter = letters["u7"]
        assert letter["stage"] == "parse" and letter["code"] == "ETYPE" and letter["row"] == 7 and letter["line"] == 16, letter
        contains(letter["message"], "line 16: column 'c': 'oops' is no FP32")
        assert letter["source"].endswith("in/1.csv"), letter
        assert len(job.lines()) == 297


@test
def without_columns_the_names_are_the_same_and_ids_are_numbers():
    with Rows({"1.csv": "name,t,x\na,1,\"[1,2,3]\"\nb,2,\"[4,5,6]\"\n"}, given="format: csv") as job:
        fermata("batch", job.file, "--quiet")
        assert job.results() == {"1.csv:0": {"id": "1.csv:0", "out_x": [1, 2, 3], "out_t": 1, "out_name": "a"},
                                 "1.csv:1": {"id": "1.csv:1", "out_x": [4, 5, 6], "out_t": 2, "out_name": "b"}}


@test
def other_delimiters_no_header_and_numbered_columns():
    model = 'backend: identity\nmax_batch_size: 4\nsettings: {inputs: "x:FP32[-1,12]"}\n'
    rows = "\r\n".join(";".join(str(i * 12 + k) for k in range(12)) for i in range(30))
    with Rows({"1.txt": b"\xef\xbb\xbf" + rows.encode()}, given="format: csv, delimiter: ';', header: false, columns: {x: ['{0..11}']}", model=model) as job:
        fermata("batch", job.file, "--quiet")
        assert job.results()["1.txt:29"]["out_x"] == [29 * 12 + k for k in range(12)], job.results()["1.txt:29"]
    rows = "\t".join("f%02d" % k for k in range(12)) + "\n" + "\t".join(str(k) for k in range(12)) + "\n"
    with Rows({"1.tsv": rows}, given="columns: {x: 'f{00..11}'}", model=model) as job:
        fermata("batch", job.file, "--quiet")
        assert job.lines() == [{"id": "1.tsv:0", "out_x": list(range(12))}], job.lines()


@test
def json_lines():
    good = [{"user": "u%d" % i, "v": {"deep": [1]}, "x": [i, i, i], "d": i, "extra": None} for i in range(50)]
    lines = [json.dumps(row) for row in good]
    lines.insert(10, '{"user": "late", "x": [1, 2, 3]}')
    lines.insert(11, '{"user": "null", "x": [1, 2, 3], "d": null}')
    lines.insert(12, '{"user": "short", "x": [1, 2], "d": 1}')
    lines.insert(13, "[1, 2, 3]")
    lines.insert(14, '{"user": "cut", "x": [1, 2, 3], "d')
    lines.insert(15, '{"user": "twice", "x": [1, 2, 3], "d": 1, "d": 2}')
    lines.insert(16, '{"user": ["no", "id"], "x": [1, 2, 3], "d": 1}')
    lines.insert(17, "")
    lines.insert(18, '{"d": 5, "x": [7.5, 8, 9], "user": "\\u00fc \\"q\\""}')
    with Rows({"a.jsonl": "\n".join(lines)}, given="columns: {x: x, t: d, name: user}, id: user", output="{directory: out, passthrough: [v]}") as job:
        fermata("batch", job.file, "--quiet", code=4)
        results = job.results()
        assert results["u49"] == {"id": "u49", "v": {"deep": [1]}, "out_x": [49, 49, 49], "out_t": 49, "out_name": "u49"}, results["u49"]
        assert results['ü "q"'] == {"id": 'ü "q"', "v": None, "out_x": [7.5, 8, 9], "out_t": 5, "out_name": 'ü "q"'}
        letters = job.letters()
        assert len(results) == 51 and len(letters) == 7, (len(results), letters.keys())
        contains(letters["late"]["message"], "line 11: the column 'd' is missing")
        contains(letters["short"]["message"], "'x'")
        contains(letters["a.jsonl:13"]["message"], "no JSON object")
        contains(letters["a.jsonl:14"]["message"], "line 15: the line is no JSON object: column ")
        contains(letters["a.jsonl:15"]["message"], "'d' occurs twice")
        contains(letters["a.jsonl:16"]["message"], "neither a string nor a number")


@test
def rows_of_different_shapes_do_not_share_a_batch():
    model = 'backend: identity\nmax_batch_size: 8\nsettings: {inputs: "x:INT32[-1,-1]"}\n'
    chance = random.Random(3)
    rows = [[chance.randrange(100) for _ in range(chance.choice([1, 1, 1, 2, 5]))] for _ in range(200)]
    with Rows({"a.jsonl": "\n".join(json.dumps({"x": row}) for row in rows)}, given="format: jsonl", model=model) as job:
        fermata("batch", job.file, "--quiet")
        results = job.results()
        assert [results["a.jsonl:%d" % i]["out_x"] for i in range(200)] == rows


@test
def a_batch_that_fails_is_tried_row_by_row():
    model = 'backend: emulated\nmax_batch_size: 16\ninstances: 1\nsettings: {inputs: "x:FP32[-1]", outputs: "y:FP32[-1]", alpha: 0ms, beta: 0.1ms, fail_every: 7}\n'
    with Rows({"1.csv": "x\n" + "1\n" * 640}, given="format: csv", model=model, keys="shard_rows: 64\nerrors: {max_ratio: 1}\n") as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert len(job.lines()) + len(letters) == 640
        # About 6 of the 40 batches fail, and of the rows of each every seventh; without a second try it would be all 16 of each.
        assert 0 < len(letters) < 40, "%d rows failed, although only every seventh run does" % len(letters)
        assert all(letter["stage"] == "model" for letter in letters.values())


@test
def large_files_are_entered_in_the_middle():
    """Every shard begins somewhere in a file of several index points, in lines that hold line ends."""
    lines = ["user,a,b,c,d,label"] + ['u%d,%d.5,%d,0.01,%d,"%s"' % (i, i, -i, i * 10**12, "x\n,\"\"" * (i % 90)) for i in range(9000)]
    with Rows({"1.csv": "\n".join(lines)}, keys="shard_rows: 333\n") as job:
        assert (job.path / "in" / "1.csv").stat().st_size > 4 * 262144
        fermata("batch", job.file, "--quiet", "--workers", "2")
        check(job, 9000)


@test
def limit_then_more_then_all_and_files_that_come_later():
    with Rows({"1.csv": table(0, 100), "2.csv": table(100, 50)}) as job:
        fermata("batch", job.file, "--quiet", "--limit", "30")
        assert sorted(job.results()) == sorted("u%d" % i for i in range(30))
        fermata("batch", job.file, "--quiet", "--limit", "120", "--resume")
        assert sorted(job.results()) == sorted("u%d" % i for i in range(120))
        fermata("batch", job.file, "--quiet", "--resume")
        check(job, 150)
        job.put("0.csv", table(150, 20))
        fermata("batch", job.file, "--quiet", "--resume")
        check(job, 170)
        fermata("batch", job.file, "--quiet", "--resume")
        check(job, 170)


@test
def resume_shows_what_is_different():
    with Rows({"1.csv": table(0, 100)}) as job:
        fermata("batch", job.file, "--quiet", "--limit", "30")
        text = job.file.read_text()
        for change, words in [(("x: [a, b, c]", "x: [a, c, b]"), "input.columns was 'x=a,b,c;"), (("id: user", "format: tsv, id: user"), "input.format was 'csv"),
                              (("shard_rows", "limits: {record_bytes: 1KiB}\nshard_rows"), "limits.record_bytes")]:
            job.file.write_text(text.replace(*change))
            _, err = fermata("batch", job.file, "--quiet", "--resume", code=3)
            contains(err, "would differ" if "tsv" not in change[1] else "")
            if "tsv" not in change[1]:
                contains(err, words)
        job.file.write_text(text)
        job.put("1.csv", table(0, 101))
        _, err = fermata("batch", job.file, "--quiet", "--resume", code=3)
        contains(err, "of another size")


@test
def a_file_that_changed_behind_the_jobs_back():
    """Contents are not compared, but no row gets lost: those that are gone are dead letters."""
    with Rows({"1.csv": table(0, 400)}, keys="shard_rows: 40\nerrors: {max_ratio: 1}\n") as job:
        fermata("batch", job.file, "--quiet", "--fault", "claimed:4", code=None)
        whole, half = table(0, 400), table(0, 200)
        job.put("1.csv", half + "\n" * (len(whole) - len(half)))  # the same size
        fermata("batch", job.file, "--quiet", "--resume", code=4)
        letters = job.letters()
        assert sorted(job.results()) == sorted("u%d" % i for i in range(200)) and len(letters) == 200
        letter = letters["1.csv:399"]
        assert letter["stage"] == "read" and letter["code"] == "ENOTFOUND" and letter["row"] == 399, letter
        contains(letter["message"], "fewer rows than when the job was begun")


@test
def nothing_is_begun_when_no_row_fits():
    with Rows({"1.csv": table(0, 100).replace("1e-2", "none")}) as job:
        _, err = fermata("batch", job.file, code=3)
        contains(err, "none of the first 100 rows fits input.columns; the first of them: line 2: column 'c': 'none' is no FP32")
        assert not job.out.exists()


@test
def files_without_rows():
    with Rows({"0.csv": "user,a,b,c,d\n", "1.csv": table(0, 10), "2.csv": "user,a,b,c,d\n"}) as job:
        fermata("batch", job.file, "--quiet")
        check(job, 10)
    with Rows({"0.csv": "user,a,b,c,d\n"}) as job:
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "the input has no rows: ")
    with Rows({"0.csv": ""}) as job:
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "0.csv: the file is empty; a header was expected")


@test
def damaged_files_are_told_before_anything_runs():
    for files, words in [({"1.csv": table(0, 20), "2.csv": "user,a,b,d\n1,2,3,4\n"}, "2.csv: there is no column 'c'"),
                         ({"1.csv": table(0, 20) + 'u20,1,2,3,4,"open'}, "1.csv: "),
                         ({"1.csv": "user,a,a,c,d\n"}, "names 'a' twice"),
                         ({"1.csv": gzip.compress(gzip.compress(table(0, 20).encode()))}, "1.csv is compressed twice: decompress it first"),
                         ({"1.csv": b"\xfd7zXZ\0" + bytes(100)}, "1.csv is compressed with xz: decompress it first"),
                         ({"1.csv": gzip.compress(table(0, 20).encode())[:-5]}, "of the gzip file: the file ends in the middle: it was cut off"),
                         ({"1.csv": zstd(table(0, 20).encode())[:-5]}, "of the zstd file: the file ends in the middle: it was cut off"),
                         ({"1.csv": gzip.compress(table(0, 20).encode())[:-6] + b"wrong!"}, "of the gzip file: incorrect"),
                         ({"1.csv": gzip.compress(table(0, 20).encode() + bytes(50_000_000))}, "1.csv: "),
                         ({"1.csv": table(0, 20).encode("utf-16")}, "1.csv is UTF-16: save it as UTF-8"),
                         ({"1.csv": table(0, 20) + "x" * 2000}, "1.csv: ")]:
        with Rows(files, keys="limits: {record_bytes: 1KiB}\n") as job:
            _, err = fermata("batch", job.file, "--quiet", code=3)
            contains(err, words)


@test
def mistakes_in_the_job_file():
    model = 'backend: identity\nmax_batch_size: 8\nsettings: {inputs: "x:FP32[-1,3], y:FP32[-1,-1]"}\n'
    for given, words in [
            ("format: jsnl", "'jsnl' is no input format; did you mean 'jsonl'?"),
            ("columns: {x: a}, format: files", "'columns' mean nothing where a file is a row"),
            ("columns: {z: a}", "has no input 'z'"),
            ("columns: {x: [a, b], y: a}", "'x' is given 2 columns, but a row of it has 3 elements"),
            ("columns: {x: [], y: a}", "an empty list of columns"),
            ("columns: {x: [a, b, c], y: [a, nope]}", "there is no column 'nope'"),
            ("columns: {x: [a, b, c], y: a}, tensor: x", "'tensor' is for files that are a row each"),
            ("columns: {x: [a, b, c], y: a}, delimiter: ';;'", "one character, tab, or none"),
            ("columns: {x: [a, b, c], y: a}, delimiter: '\"'", "is no line end and not the delimiter"),
            ("columns: {x: [a, b, c], y: a}, id: nope", "there is no column 'nope'"),
            ("format: jsonl, columns: {x: [a, b, c], y: a}, delimiter: ','", "unknown key 'delimiter'"),
            ("format: csv", "there is no column 'x'")]:
        with Rows({"1.csv": table(0, 3)}, given=given, model=model) as job:
            _, err = fermata("batch", job.file, "--quiet", code=3)
            contains(err, words)
    with Rows({"1.csv": table(0, 3)}, output="{directory: out, passthrough: [out_x]}") as job:
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "out_x")
    with Rows({"1.dat": table(0, 3)}) as job:
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "does not say in which format")


def npy(shape, descr, data):
    """An array as NumPy saves it."""
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, shape)
    header += " " * ((64 - (10 + len(header) + 1) % 64) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@test
def arrays_of_numpy():
    model = 'backend: identity\nmax_batch_size: 16\nsettings: {inputs: "x:FP32[-1,3]"}\n'
    array = npy((700, 3), "<f4", b"".join(struct.pack("<3f", i, i + 0.5, -i) for i in range(700)))
    with Rows({"1.npy": array, "2.npy": array}, given="format: npy", model=model) as job:
        fermata("batch", job.file, "--quiet")
        results = job.results()
        assert len(results) == 1400 and all(results["%d.npy:%d" % (n, i)]["out_x"] == [i, i + 0.5, -i] for n in (1, 2) for i in range(700))
    with Rows({"1.npy": array}, given="columns: {x: a}", model=model) as job:
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "one array without a name")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", array)
        archive.writestr("label.npy", npy((700,), "<i8", b"".join(struct.pack("<q", i) for i in range(700))))
    with Rows({"1.npz": packed.getvalue()}, given="columns: {x: image}, id: label", model=model, output="{directory: out, passthrough: [label]}") as job:
        fermata("batch", job.file, "--quiet", "--workers", "2")
        assert sorted(job.results()) == sorted(str(i) for i in range(700))
        assert job.results()["42"] == {"id": "42", "label": 42, "out_x": [42, 42.5, -42]}, job.results()["42"]


def zstd(data):
    """Python has no module for it yet; the library is there, because the program is linked with it."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compressBound.restype = library.ZSTD_compress.restype = ctypes.c_size_t
    size = library.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    packed = ctypes.create_string_buffer(size)
    used = library.ZSTD_compress(packed, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)), 3)
    return packed.raw[:used]


def tar(samples, form=tarfile.PAX_FORMAT, prefix=""):
    """An archive of samples: dictionaries of fields, by their names."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, fields in samples.items():
            for field, data in fields.items():
                info = tarfile.TarInfo("%s%s.%s" % (prefix, name, field))
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


@test
def archives_of_samples():
    model = 'backend: identity\nmax_batch_size: 16\nsettings: {inputs: "image:BYTES[-1,1], label:INT64[-1]"}\n'
    given = "columns: {image: jpg, label: cls}, id: __key__"
    samples = {"s%04d" % i: {"jpg": b"image %d " % i * (i % 90), "cls": b"%d\n" % i, "json": json.dumps({"n": i}, indent=1).encode()} for i in range(1200)}
    keys = sorted(samples)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        prefix = "" if form == tarfile.USTAR_FORMAT else "folder/" + "long" * 40 + "/"
        files = {"a-000.tar": tar({key: samples[key] for key in keys[:900]}, form, prefix), "a-001.tar": tar({key: samples[key] for key in keys[900:]}, form, prefix)}
        with Rows(files, given=given, model=model, output="{directory: out, passthrough: [json]}", keys="shard_rows: 100\n") as job:
            fermata("batch", job.file, "--quiet", "--limit", "450")
            assert len(job.lines()) == 450
            fermata("batch", job.file, "--quiet", "--resume", "--workers", "2")
            results = job.results()
            assert len(results) == 1200
            for i, key in enumerate(keys):
                line = results[prefix + key]
                assert line == {"id": prefix + key, "json": {"n": i}, "out_image": samples[key]["jpg"].decode(), "out_label": i}, line
    with Rows({"b.tar": tar({"x": {"jpg": b"1", "cls": b"1"}, "y": {"jpg": b"2"}, "z": {"jpg": b"3", "cls": b"three"}})}, given="columns: {image: jpg, label: cls}", model=model) as job:
        fermata("batch", job.file, "--quiet", code=4)
        assert job.results() == {"b.tar:0": {"id": "b.tar:0", "out_image": "1", "out_label": 1}}
        letters = job.letters()
        contains(letters["b.tar:1"]["message"], "sample 1: the field 'cls' is missing; there are jpg")
        contains(letters["b.tar:2"]["message"], "sample 2: column 'cls': 'three' is no INT64")
        assert letters["b.tar:1"]["stage"] == "parse", letters
    whole = tar({"x": {"jpg": b"1" * 5000, "cls": b"1"}})
    for data, words in ((whole[:3000], "b.tar: byte 0: the archive ends within the member that begins there: it was cut off"), (b"no archive" * 100, "b.tar: byte 0: what is there is no header of a tar archive"),
                        (gzip.compress(whole), "b.tar: byte 0: ")):
        with Rows({"b.tar": data}, given=given, model=model) as job:
            _, err = fermata("batch", job.file, "--quiet", code=3)
            contains(err, words)
    with Rows({"b.tar": whole}, given="columns: {image: png, label: cls}", model=model) as job:
        _, err = fermata("batch", job.file, "--quiet", code=3)
        contains(err, "none of the first 1 rows fits input.columns", "the field 'png' is missing; there are jpg, cls")


@test
def compressed_files():
    """8000 rows are more than a point's stretch, so that shards begin behind it; of two members, and of both kinds."""
    rows = table(0, 9000)
    places = [rows.index("u%d," % i) for i in (4000, 8000)]
    texts = [rows[:places[1]].encode(), (rows[:rows.index("\n") + 1] + rows[places[1]:]).encode()]
    files = {"1.csv.gz": gzip.compress(texts[0][:places[0] + 7]) + gzip.compress(texts[0][places[0] + 7:]), "2.csv.zst": zstd(texts[1])}
    for name in ("in", "'in/*.csv.*'"):
        with Rows(files, keys="shard_rows: 700\n", output="{directory: out, passthrough: [label]}") as job:
            job.file.write_text(job.file.read_text().replace("'in/*.gz'", name).replace("columns", "format: csv, columns"))
            fermata("batch", job.file, "--quiet", "--limit", "4500")
            assert len(job.lines()) == 4500
            fermata("batch", job.file, "--quiet", "--resume", "--workers", "2")
            check(job, 9000)
    with Rows({"1.csv.gz": files["1.csv.gz"]}, keys="shard_rows: 3000\n") as job:
        job.file.write_text(job.file.read_text().replace("in/*.gz", "in/*.csv.gz"))
        fermata("batch", job.file, "--quiet")
        check(job, 8000)
    lines = "".join('{"user": "u%d", "x": [%d, %d, 0.01], "d": %d}\n' % (i, i, -i, i) for i in range(50)).encode()
    for name, data in (("a.jsonl.gz", gzip.compress(lines)), ("a.ndjson.zst", zstd(lines))):
        with Rows({name: data}, given="columns: {x: x, t: d, name: user}, id: user") as job:
            job.file.write_text(job.file.read_text().replace("'in/*.%s'" % name.rsplit(".", 1)[1], "in/" + name))
            fermata("batch", job.file, "--quiet")
            assert len(job.lines()) == 50 and job.results()["u7"]["out_t"] == 7


@test
def parquet():
    """The file is pyarrow's: write_table(table, row_group_size=130, compression="zstd"); two values of c are null."""
    model = 'backend: identity\nmax_batch_size: 16\nsettings: {inputs: "x:FP32[-1,3], t:INT64[-1], name:BYTES[-1,1]"}\n'
    source = os.path.join(ROOT, "tests", "data", "rows.parquet")
    with Rows({"1.parquet": open(source, "rb").read()}, given=COLUMNS, model=model, output="{directory: out, passthrough: [label]}") as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = job.letters()
        assert sorted(letters) == ["u17", "u500"] and all(letter["stage"] == "parse" for letter in letters.values()), letters
        assert len(job.lines()) == 998 and job.results()["u3"] == {**expected(3), "label": "l3"}, job.results()["u3"]


@test
def dry_run_counts_rows():
    with Rows({"1.csv": table(0, 700), "2.csv": table(700, 300)}) as job:
        out, _ = fermata("batch", job.file, "--dry-run")
        contains(out, "format    csv, 2 files")
        contains(out, "1000 found, 1000 in the job")
        assert not job.out.exists()


@test
def patterns_are_looked_for_no_deeper_than_they_reach():
    with Rows({"1.csv": table(0, 5)}) as job:
        deep = job.path / "in" / "deep" / ".hidden"
        deep.mkdir(parents=True)
        (job.path / "in" / "deep" / "2.csv").write_text(table(5, 5))
        _, err = fermata("batch", job.file)
        assert "begin with a dot" not in err, err
        assert len(job.lines()) == 5
        job.file.write_text(job.file.read_text().replace("in/*.csv", "in/*/*.csv"))
        fermata("batch", job.file, "--quiet", "--restart")
        assert sorted(job.results()) == ["u%d" % i for i in range(5, 10)]


@test
def damage_behind_rows_that_are_in_the_job_already():
    model = 'backend: emulated\nmax_batch_size: 16\nsettings: {inputs: "x:FP32[-1,2]", outputs: "y:FP32[-1,1]", alpha: 1ms}\n'
    with Rows({"b.csv": ""}, given="columns: {x: [a, b]}", model=model) as job:
        with open(job.path / "in" / "b.csv", "wb") as file:
            file.write(b"a,b\n")
            for _ in range(250):  # 250 MB: longer than it takes until the first rows are handed out
                file.write(b"1,2\n" * (1 << 18))
            file.write(b'3,"4\n')
        _, err = fermata("batch", job.file, code=3)
        contains(err, "b.csv: line 65536002", "the quote that opens here is never closed", "rows of this file are in the job already", "--restart")
        with open(job.path / "in" / "b.csv", "r+b") as file:
            file.truncate(file.seek(-1, os.SEEK_END))
        contains(fermata("batch", job.file, "--resume", code=3)[1], "of another size", "'b.csv'")
    with Rows({"a.csv": "a,b\n1,2\n", "b.csv": 'a,b\n3,"4\n'}, given="columns: {x: [a, b]}", model=model) as job:
        _, err = fermata("batch", job.file, code=3)
        contains(err, "b.csv: line 2", "the quote that opens here is never closed")
        assert "--restart" not in err, err
        job.put("b.csv", "a,b\n3,4\n")
        fermata("batch", job.file, "--resume", "--quiet")
        assert sorted(line["id"] for line in job.lines()) == ["a.csv:0", "b.csv:0"]


@test
def a_passed_column_is_named_once():
    with Rows({"1.csv": table(0, 5)}, output="{directory: out, passthrough: [label, label]}") as job:
        _, err = fermata("batch", job.file, code=3)
        contains(err, "'passthrough' names 'label' twice")


run()
