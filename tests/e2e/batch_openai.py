"""`fermata batch` over OpenAI batch files: requests in, answers out, and what cannot be answered."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import Rows  # noqa: E402
from tap import contains, fermata, run, test  # noqa: E402

MODEL = """backend: identity
max_batch_size: 8
settings: {inputs: "text:BYTES[-1,1], v:FP32[-1,2]"}
"""
GIVEN = "format: openai_batch, columns: {text: body.input, v: body.extra.v}"
EMBEDDINGS = "{directory: out, format: openai_batch, embedding: out_v}"


def request(i, url="/v1/embeddings", method="POST", **body):
    return {"custom_id": "r%d" % i, "method": method, "url": url, "body": {"model": "m%d" % (i % 2), "input": "text %d" % i, "extra": {"v": [i, 0.5]}, **body}}


def lines(requests):
    return "".join(json.dumps(r) + "\n" for r in requests)


@test
def embeddings_are_answered_as_their_address_answers_them():
    with Rows({"1.jsonl": lines(request(i) for i in range(300))}, given=GIVEN, model=MODEL, output=EMBEDDINGS) as job:
        out, _ = fermata("batch", job.file)
        contains(out, "complete: 300 rows in = 300 results + 0 dead letters")
        assert len(job.lines()) == 300
        for i in range(300):
            assert job.results()["r%d" % i] == {
                "id": "r%d" % i, "custom_id": "r%d" % i,
                "response": {"status_code": 200, "request_id": "r%d" % i,
                             "body": {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [i, 0.5]}], "model": "m%d" % (i % 2)}},
                "error": None}
        contains(fermata("job", "verify", job.out)[0], "proven: 300 rows in")
        fermata("batch", job.file, "--resume", "--quiet")
        text = job.file.read_text()
        job.file.write_text(text.replace("embedding: out_v", "embedding: out_text"))
        contains(fermata("batch", job.file, "--resume", code=3)[1], "the output 'out_text' is BYTES, and an embedding is numbers")
        job.file.write_text(text.replace(", embedding: out_v", ""))
        contains(fermata("batch", job.file, "--resume", code=3)[1], "embedding out_v")


@test
def other_addresses_are_answered_with_the_outputs_by_name():
    requests = [request(0, url="/v1/anything"), request(1, url="/v1/embeddings")]
    with Rows({"1.jsonl": lines(requests)}, given=GIVEN, model=MODEL, output="{directory: out, format: openai_batch}") as job:
        fermata("batch", job.file, "--quiet")
        assert job.results()["r0"]["response"]["body"] == {"out_text": "text 0", "out_v": [0, 0.5]}
        assert set(job.results()) == {"r0", "r1"}


@test
def an_id_that_no_text_can_hold_is_refused():
    text = lines([request(0), request(1), request(2), request(3)])
    text = text.replace('"r1"', '"a\\ud83d"').replace('"r2"', '"b\\ud83d\\ude00"').replace('"r3"', '"c\\ufffd"')
    with Rows({"1.jsonl": text}, given=GIVEN, model=MODEL, output=EMBEDDINGS) as job:
        fermata("batch", job.file, "--quiet", code=4)
        assert set(job.results()) == {"r0", "b\U0001f600", "c\ufffd"}, set(job.results())
        letter = job.lines("errors")[0]
        assert len(job.lines("errors")) == 1 and letter["row"] == 1, letter
        contains(letter["message"], 'the custom_id is "a\\ud83d", in which a surrogate stands alone')


@test
def what_cannot_be_answered_is_an_error_in_the_same_form():
    bad = [request(1, url="/v1/chat/completions"), request(2, method="GET"), request(3, input=7), request(4, extra={}), {**request(5), "custom_id": 5},
           {**request(6), "body": "text"}, {"custom_id": "r7"}]
    text = lines([request(0)] + bad) + 'oops\n{"custom_id": "r9", "custom_id": "r9"}\n'
    with Rows({"1.jsonl": text}, given=GIVEN, model=MODEL, output=EMBEDDINGS) as job:
        fermata("batch", job.file, "--quiet", code=4)
        assert set(job.results()) == {"r0"}
        letters = {letter["row"]: letter for letter in job.lines("errors")}
        assert sorted(letters) == list(range(1, 10)), sorted(letters)
        words = {1: "the url is", 2: "the method is", 3: "it is a number", 4: "'body.extra.v' is missing", 5: "the member 'custom_id' is no string",
                 6: "the member 'body' is no object", 7: "the member 'method' is missing", 8: "no JSON object", 9: "occurs twice"}
        for row, word in words.items():
            letter = letters[row]
            assert letter["response"] is None and letter["custom_id"] == letter["id"], letter
            assert letter["error"] == {"code": letter["code"], "message": letter["message"]}, letter
            contains(letter["message"], "line %d: " % (row + 1), word)
        assert [letters[row]["custom_id"] for row in (1, 2, 3, 4, 7, 8)] == ["r1", "r2", "r3", "r4", "r7", "1.jsonl:8"]
        contains(fermata("job", "dead-letters", job.out, "--summary")[0], "ECORRUPT")
        (job.path / "in" / "1.jsonl").write_text(text.replace('"GET"', '"POST"'))
        again = job.path / "again"
        fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", again, "--quiet", code=4)
        job.out = again
        assert set(job.results()) == {"r2"}, "mended requests are answered"


@test
def an_id_that_stands_twice_is_seen_by_the_proof():
    with Rows({"1.jsonl": lines([request(1), request(1)])}, given=GIVEN, model=MODEL, output=EMBEDDINGS) as job:
        fermata("batch", job.file, "--quiet")
        contains("".join(fermata("job", "verify", job.out, code=8)), "the id 'r1' stands twice")
        os.rename(job.out / ".fermata", job.path / "state")  # its manifest alone says so, too
        contains("".join(fermata("job", "verify", job.out, code=8)), "the id 'r1' stands twice")


@test
def a_job_file_that_cannot_be_is_refused_before_anything_is_written():
    table = [(GIVEN + ", id: x", EMBEDDINGS, "leave 'id' out"),
             (GIVEN.replace("body.input", "input"), EMBEDDINGS, "did you mean 'body.input'?"),
             (GIVEN, EMBEDDINGS.replace("out_v", "out_w"), "no output 'out_w'; did you mean 'out_v'?"),
             (GIVEN, EMBEDDINGS.replace("directory", "passthrough: [url], directory"), "no place for columns"),
             (GIVEN, EMBEDDINGS.replace("directory", "timings: true, directory"), "no place for 'timings'"),
             (GIVEN, "{directory: out, embedding: out_v}", "'format: openai_batch' only"),
             (GIVEN, EMBEDDINGS.replace("directory", "compression: zstd, directory"), "an OpenAI batch has no compression 'zstd'")]
    for given, output, words in table:
        with Rows({"1.jsonl": lines([request(0)])}, given=given, model=MODEL, output=output) as job:
            contains(fermata("batch", job.file, code=3)[1], words)
            assert not job.out.exists()


@test
def rows_of_any_source_can_be_answers():
    with Rows({"1.csv": 'user,name,v\na,x,"[1,2]"\n'}, given="columns: {text: name, v: v}, id: user", model=MODEL, output=EMBEDDINGS) as job:
        fermata("batch", job.file, "--quiet")
        body = job.results()["a"]["response"]["body"]
        assert body == {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1, 2]}]}, body


run()
