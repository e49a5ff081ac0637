"""Looking before a job is run: the first rows with what goes in and what comes out, what the whole would take; nothing is written."""
import json
import os
import struct
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import SLOW_MODEL, Job, Rows  # noqa: E402
from tap import contains, fermata, fermata_json, run, test  # noqa: E402

CSV = {"1.csv": "a,b,c,d,user\n1,2,3,4,anna\n1,oops,3,4,bert\n", "2.csv": "a,b,c,d,user\n5,6,7,8,carl\n9,9,9,9,dora\n"}
DECODE = """name: look
inputs:
  - {name: image, dtype: BYTES, shape: [1]}
stages:
  - {name: page, operator: image_decode, inputs: image}
outputs: {pixels: page.image}
"""


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes([9] * width) for _ in range(height)))) + chunk(b"IEND", b""))


def rows_of(job, count, code=0):
    out, _ = fermata("batch", job.file, "--preview", str(count), "--json", code=code)
    return [json.loads(line) for line in out.splitlines()]


def untouched(job):
    assert sorted(path.name for path in job.path.iterdir() if path.name not in ("model", "pipeline.yaml")) == ["in", "job.yaml"]


@test
def files_are_shown_with_what_goes_in_and_what_comes_out():
    with Job(count=40) as job:
        rows = rows_of(job, 3)
        assert [row["row"] for row in rows] == [0, 1, 2]
        assert rows[2]["inputs"] == [{"name": "x", "dtype": "BYTES", "shape": [1, 1], "bytes": 17, "values": ["text of row 2"]}], rows[2]
        assert rows[2]["result"] == {"id": "row-0002", "out_x": "text of row 2"}, rows[2]
        out, _ = fermata("batch", job.file, "--preview", "2")
        contains(out, 'row 1 input ', '"values":["text of row 1"]', 'row 1 result', "2 rows, 0 of them dead letters; nothing was written")
        for preview, limit, rows in ((3, 1, 1), (1, 3, 1), (2, 2, 2)):
            contains(fermata("batch", job.file, "--preview", str(preview), "--limit", str(limit))[0], "%d rows, 0 of them" % rows)
        untouched(job)


@test
def rows_of_files_are_shown_over_the_ends_of_files():
    with Rows(CSV) as job:
        rows = rows_of(job, 3, code=4)
        x, t, name = rows[2]["inputs"]
        assert (x["name"], x["dtype"], x["shape"], x["values"]) == ("x", "FP32", [3], [5, 6, 7]), x
        assert (t["dtype"], t["values"], name["values"]) == ("INT64", [8], ["carl"]), rows[2]
        assert rows[2]["result"]["id"] == "carl" and len(rows) == 3
        letter = rows[1]["dead_letter"]
        assert letter["stage"] == "parse" and "column 'b'" in letter["message"] and rows[1]["inputs"] == [], rows[1]
        out, _ = fermata("batch", job.file, "--preview", "9", code=4)
        contains(out, "row 1 dead letter", "4 rows, 1 of them dead letters; nothing was written")
        untouched(job)


@test
def answers_to_requests_are_shown_as_they_would_be_written():
    line = '{"custom_id": "%s", "method": "%s", "url": "/v1/x", "body": {"input": "text"}}\n'
    for compression in ("none", "gzip"):
        with Rows({"1.jsonl": line % ("a", "POST") + line % ("b", "GET")}, given="format: openai_batch, columns: {x: body.input}",
                  model='backend: identity\nmax_batch_size: 4\nsettings: {inputs: "x:BYTES[-1,1]"}\n', output="{directory: out, format: openai_batch, compression: %s}" % compression) as job:
            good, bad = rows_of(job, 2, code=4)
            assert good["result"] == {"id": "a", "custom_id": "a", "response": {"status_code": 200, "request_id": "a", "body": {"out_x": "text"}}, "error": None}, good
            assert bad["dead_letter"]["custom_id"] == "b" and bad["dead_letter"]["response"] is None and "POST" in bad["dead_letter"]["error"]["message"], bad
            contains(fermata("batch", job.file, "--preview", "1")[0], '"custom_id":"a","response":{"status_code":200')
            untouched(job)


@test
def images_go_through_their_pipeline_and_bad_ones_say_why():
    with Job(count=0) as job:
        (job.path / "pipeline.yaml").write_text(DECODE)
        job.file.write_text(job.file.read_text().replace("pipeline: model", "pipeline: pipeline.yaml"))
        (job.path / "in" / "a.png").write_bytes(png(3, 2))
        (job.path / "in" / "b.png").write_bytes(b"no image")
        (job.path / "in" / "c.png").write_bytes(b"")
        good, broken, empty = rows_of(job, 5, code=4)
        assert good["inputs"][0]["values"] == [None] and good["inputs"][0]["bytes"] == len(png(3, 2)) + 4, good
        assert good["result"]["id"] == "a.png" and good["result"]["pixels"], good
        assert broken["dead_letter"]["stage"] == "page" and empty["dead_letter"]["stage"] == "read", (broken, empty)
        untouched(job)


@test
def a_job_that_is_there_is_not_touched():
    with Job(count=5) as job:
        fermata("batch", job.file, "--quiet")
        before = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
        assert len(rows_of(job, 2)) == 2
        fermata("batch", job.file, "--dry-run", "--sample", "3")
        assert before == {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}


@test
def a_sample_says_what_the_job_would_take():
    with Job(count=200, model=SLOW_MODEL) as job:
        plan = fermata_json("batch", job.file, "--dry-run", "--sample", "40", "--workers", "1..4", "--price-per-hour", "36", "--json")
        sample = plan["sample"]
        assert sample["rows"] == 40 and sample["dead_letters"] == 0 and sample["workers"] == 4, sample
        # Two instances, batches of up to four in 44 ms.
        assert 20 < sample["rows_per_second"] < 200 and sample["worker_memory_bytes"] > 1 << 20, sample
        assert abs(sample["seconds"] - 200 / sample["rows_per_second"] / 4) < 1e-6, sample
        assert abs(sample["cost"] - sample["seconds"] * 4 * 36 / 3600) < 1e-6, sample
        out, _ = fermata("batch", job.file, "--dry-run", "--sample", "10", "--price-per-hour", "2")
        contains(out, "sample    10 rows, 0 of them dead letters: ", "rows/s per worker", "estimate  0:", "with 1 workers", "cost ")
        assert fermata_json("batch", job.file, "--dry-run", "--json")["sample"] is None
        untouched(job)


@test
def a_sample_of_rows_of_files_counts_the_bad_ones():
    with Rows(CSV) as job:
        sample = fermata_json("batch", job.file, "--dry-run", "--sample", "100", "--json")["sample"]
        assert sample["rows"] == 4 and sample["dead_letters"] == 1 and sample["cost"] is None, sample
        untouched(job)


@test
def what_goes_with_what():
    with Job(count=2) as job:
        for option in ("--resume", "--restart", "--dry-run"):
            contains(fermata("batch", job.file, "--preview", "1", option, code=2)[1], "--preview writes nothing")
        contains(fermata("batch", job.file, "--sample", "1", code=2)[1], "go with --dry-run")
        contains(fermata("batch", job.file, "--price-per-hour", "1", code=2)[1], "go with --dry-run")
        contains(fermata("batch", job.file, "--preview", "0", code=2)[1], "--preview")
        (job.path / "in" / "row-0000").unlink()
        (job.path / "in" / "row-0001").unlink()
        fermata("batch", job.file, "--preview", "1", code=3)


run()
