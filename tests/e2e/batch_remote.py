"""`fermata batch` over what lies behind addresses: objects over HTTP and HTTPS, and of stores that speak like S3."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import certificates  # noqa: E402
from batch_job import Job, end_of, start, wait_for  # noqa: E402
from batch_remote_job import KEYS, NO_STORE, Remote  # noqa: E402
from object_server import Server  # noqa: E402
from tap import FERMATA, Skip, contains, fermata, run, test  # noqa: E402

def texts(prefix, count):
    return {"%s%04d" % (prefix, i): b"text %d" % i for i in range(count)}


@test
def addresses_in_a_list():
    with Server(texts("/a/", 200)) as server:
        urls = [server.url + path for path in server.objects]
        with Remote(urls) as job:
            (job.path / "local").write_text("a file")
            with open(job.path / "list.txt", "a", encoding="ascii") as file:
                file.write("local\n%s\n" % urls[0])
            _, err = fermata("batch", job.file, env=NO_STORE)
            contains(err, "1 inputs were named more than once")
            assert job.results() == {**{server.url + path: body.decode() for path, body in server.objects.items()}, "local": "a file"}
            assert job.manifest()["complete"]
            assert len(server.requests) == 200, len(server.requests)
            assert len(server.connections) <= 32, "connections are kept and used again: %d" % len(server.connections)
            assert "Authorization" not in server.requests[0][1]
            job.run("--resume")
            assert len(server.requests) == 200, "what is done is not fetched again"


@test
def addresses_as_files_and_under_a_base():
    with Server({"/x?v=1": b"query", "/b/one": b"1", "/b/c/two": b"2"}) as server:
        with Remote(given="files: ['%s/x?v=1', %s/b/one]" % (server.url, server.url)) as job:
            job.run()
            assert job.results() == {server.url + "/x?v=1": "query", server.url + "/b/one": "1"}, job.results()
        with Remote(["one", "c/two", server.url + "/b/one", server.url + "/x?v=1"], given="base: '%s/b'" % server.url) as job:
            job.run()
            assert job.results() == {"one": "1", "c/two": "2", server.url + "/x?v=1": "query"}, job.results()
        with Remote(given="files: %s/b/one" % server.url) as job:
            job.run()
            assert job.results() == {server.url + "/b/one": "1"}
            out, _ = fermata("batch", job.file, "--restart", "--dry-run", env=NO_STORE)
            contains(out, "1")


@test
def many_transfers_at_once_with_few_threads():
    """20 rows that take 100 ms each, one after the other, are 2 s: as many as there may be are under way at once, whatever the number of reading threads."""
    with Server(texts("/", 400), delay=0.1) as server:
        urls = [server.url + path for path in server.objects]
        with Remote(urls, keys="read_threads: 1\nrows_in_flight: 0\n") as job:
            before = time.monotonic()
            job.run()
            took = time.monotonic() - before
            assert len(job.results()) == 400
            assert 24 <= server.most_at_once <= 32, server.most_at_once
            assert took < 20, "400 rows of 100 ms took %.1f s: 40 s one after the other" % took
        server.most_at_once = 0
        with Remote(urls[:40], given="requests: 3") as job:
            job.run()
            assert server.most_at_once == 3, server.most_at_once
        server.most_at_once = 0
        with Remote(urls[:40], keys="rows_in_flight: 5\n") as job:
            job.run()
            assert server.most_at_once <= 5, server.most_at_once


@test
def what_fails_is_tried_again_or_a_dead_letter():
    with Server({"/%s" % name: b"body of %s" % name.encode() for name in ("good", "busy", "later", "cut", "closed", "always", "large", "loop", "there", "empty")}) as server:
        server.objects["/large"] = b"x" * 2000
        server.objects["/empty"] = b""
        server.plan = {"/busy": [503, 500], "/later": [{"status": 429, "Retry-After": "1"}], "/cut": ["cut"], "/closed": ["close", "close"], "/always": [503] * 9, "/moved": [("to", "/there")],
                       "/loop": [("to", "/loop")] * 20, "/forbidden": [403], "/odd": [418], "/elsewhere": [("to", "ftp://localhost/x")]}
        names = ["good", "busy", "later", "cut", "closed", "always", "large", "loop", "moved", "forbidden", "odd", "elsewhere", "absent", "empty"]
        with Remote([server.url + "/" + name for name in names], keys="limits: {file_bytes: 1000}\nerrors: {max_ratio: 1}\n") as job:
            before = time.monotonic()
            job.run(code=4)
            assert time.monotonic() - before >= 1, "Retry-After is heeded"
            results = {key.rsplit("/", 1)[1]: value for key, value in job.results().items()}
            assert results == {"good": "body of good", "busy": "body of busy", "later": "body of later", "cut": "body of cut", "closed": "body of closed", "moved": "body of there"}, results
            letters = {key.rsplit("/", 1)[1]: letter for key, letter in job.letters().items()}
            expected = {"always": ("EUNAVAILABLE", 3, "status 503"), "large": ("ETOOLARGE", 1, "larger than the limit of 1000 bytes"), "loop": ("EINVAL", 1, "redirects again and again"),
                        "forbidden": ("EPERM", 1, "status 403"), "odd": ("EINVAL", 1, "status 418"), "elsewhere": ("EPERM", 1, "no HTTP at all"), "absent": ("ENOTFOUND", 1, "status 404"),
                        "empty": ("ECORRUPT", 1, "the file is empty")}
            assert set(letters) == set(expected), letters.keys()
            for name, (code, attempts, words) in expected.items():
                letter = letters[name]
                assert (letter["code"], letter["attempts"], letter["stage"]) == (code, attempts, "read"), letter
                contains(letter["message"], words)
                assert letter["source"] == server.url + "/" + name, letter
                assert name == "empty" or letter["message"].startswith(server.url + "/" + name + ": "), letter
            assert len(server.asked("/always")) == 3 and len(server.asked("/loop")) == 6, (len(server.asked("/always")), len(server.asked("/loop")))


@test
def one_that_waits_keeps_no_place_from_others():
    with Server(texts("/", 10)) as server:
        first = min(server.objects)
        server.plan = {first: [{"status": 503, "Retry-After": "3"}]}
        with Remote([server.url + path for path in server.objects], given="requests: 1", keys="read_threads: 1\n") as job:
            job.run()
            assert len(job.results()) == 10
        paths = [path for path, _ in server.requests]
        assert len(paths) == 11 and paths[0] == paths[10] == first, paths
        assert server.times[9] - server.times[0] < 2.5, "the others were fetched meanwhile"
        assert 3 <= server.times[10] - server.times[0] < 30, server.times


@test
def a_body_without_a_length_is_limited_too():
    with Server({"/a": b"y" * 5000}) as server:
        plain = server.http.RequestHandlerClass.answer
        def chunked(handler, status, body=b"", headers=None, cut=False):
            if status != 200:
                return plain(handler, status, body, headers, cut)
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for at in range(0, len(body), 700):
                piece = body[at:at + 700]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
        server.http.RequestHandlerClass = type("Chunked", (server.http.RequestHandlerClass,), {"answer": chunked})
        with Remote([server.url + "/a"], keys="limits: {file_bytes: 4999}\nerrors: {max_ratio: 1}\n") as job:
            job.run(code=4)
            contains(job.letters()[server.url + "/a"]["message"], "larger than the limit of 4999 bytes")
        with Remote([server.url + "/a"], keys="limits: {file_bytes: 5000}\n") as job:
            job.run()
            assert job.results() == {server.url + "/a": "y" * 5000}


@test
def servers_that_hang_and_that_are_not_there():
    with Server({"/a": b"1", "/b": b"2"}) as server:
        server.plan = {"/a": ["hang"]}
        with Remote([server.url + "/a", server.url + "/b"], given="stall_time: 1s") as job:
            job.run()
            assert job.results() == {server.url + "/a": "1", server.url + "/b": "2"}
            assert len(server.asked("/a")) == 2
        nowhere = "http://127.0.0.1:9/x"
        with Remote([nowhere, server.url + "/b"]) as job:
            job.run(code=4)
            letter = job.letters()[nowhere]
            assert letter["code"] == "EUNAVAILABLE" and letter["attempts"] == 3, letter
            contains(letter["message"], nowhere, "127.0.0.1")


@test
def servers_that_send_next_to_nothing_and_failures_without_end():
    with Server({"/slow": b"1", "/good": b"2", "/flood": b"3", "/wordy": b"4"}) as server:
        server.plan = {"/slow": ["drip"] * 3, "/flood": ["flood"]}
        plain = server.http.RequestHandlerClass.fail
        def wordy(handler, status, code, headers=None):
            return handler.answer(403, b"w" * 5000) if handler.path == "/wordy" else plain(handler, status, code, headers)
        server.http.RequestHandlerClass = type("Wordy", (server.http.RequestHandlerClass,), {"fail": wordy})
        server.plan["/wordy"] = [403]
        with Remote([server.url + path for path in server.objects], given="stall_time: 1s", keys="limits: {file_bytes: 1000}\nerrors: {max_ratio: 1}\n") as job:
            job.run(code=4)
            assert job.results() == {server.url + "/good": "2"}, job.results()
            letters = {key.rsplit("/", 1)[1]: letter for key, letter in job.letters().items()}
            assert (letters["slow"]["code"], letters["slow"]["attempts"]) == ("EDEADLINE", 3), letters
            contains(letters["slow"]["message"], "Operation too slow. Less than 1024 bytes/sec")
            assert (letters["flood"]["code"], letters["flood"]["attempts"]) == ("ENOTFOUND", 1), letters
            contains(letters["flood"]["message"], "status 404")
            contains(letters["wordy"]["message"], "status 403")  # its body is beyond file_bytes, and no object


@test
def headers_go_to_the_server_and_not_where_it_redirects():
    with Server({"/there": b"there", "/here": b"here"}) as other, Server({"/a": b"a"}) as server:
        server.plan = {"/moved": [("to", other.url + "/there")], "/near": [("to", "/a")]}
        with Remote([server.url + "/a", server.url + "/moved", server.url + "/near"], given="headers_file: headers") as job:
            (job.path / "headers").write_text("# who we are\nAuthorization: Bearer secret-1\r\nX-Key: secret-2\n\n")
            job.run()
            assert sorted(job.results().values()) == ["a", "a", "there"]
            for path in ("/a", "/moved", "/near"):
                for headers in server.asked(path):
                    assert headers["Authorization"] == "Bearer secret-1" and headers["X-Key"] == "secret-2", headers
            for headers in other.asked("/there"):
                assert "Authorization" not in headers and "X-Key" not in headers, headers
            (job.path / "headers").write_text("Authorization Bearer\n")
            _, err = job.run("--restart", code=3)
            contains(err, "headers", "line 1 must read 'Name: value'")
            assert "Bearer" not in err, err
            (job.path / "headers").unlink()
            _, err = job.run("--restart", code=3)
            contains(err, "input.headers_file", "headers")


@test
def what_no_job_takes():
    cases = [("files: 'http://localhost:secret@localhost/a'", "", "headers_file"), ("list: list.txt", "http://localhost:secret@localhost/a", "headers_file"),
             ("files: 'https://'", "", "is no address"), ("files: 's3://Not_A_Bucket/x'", "", "names no bucket"), ("files: 's3://bu*/x'", "", "names no bucket"),
             ("list: list.txt", "http://", "is no address"), ("list: list.txt, format: csv", "http://localhost/a.csv", "fetch them first"),
             ("files: 'http://localhost/a.csv', format: csv", "", "fetch them first"), ("files: in, base: 's3://bucket/a'", "", "'input.base' is an address"),
             ("files: in, requests: 0", "", "requests"), ("files: in, requests: 513", "", "requests"), ("files: in, stall_time: 10ms", "", "1s or more"),
             ("files: in, request: 1", "", "did you mean 'requests'?")]
    for given, line, words in cases:
        with Remote(given=given) as job:
            (job.path / "in" / "a").write_text("a")
            (job.path / "list.txt").write_text(line + "\n")
            _, err = job.run(code=3)
            contains(err, words)
            assert "secret" not in err, err
            assert not job.out.exists(), "nothing is written"


@test
def https_and_whom_to_trust():
    if not certificates.here():
        raise Skip("no openssl")
    with tempfile.TemporaryDirectory() as folder:
        certificates.usual(folder)
        pair = (os.path.join(folder, "server.pem"), os.path.join(folder, "server.key"))
        with Server({"/a": b"safe"}, certificate=pair) as server:
            with Remote([server.url + "/a"], given="ca: '%s/authority.pem'" % folder) as job:
                job.run()
                assert job.results() == {server.url + "/a": "safe"}
            with Remote([server.url + "/a"], given="ca: '%s/other.pem'" % folder) as job:
                job.run(code=4)
                letter = job.letters()[server.url + "/a"]
                assert letter["code"] == "EPERM" and letter["attempts"] == 1, letter
                contains(letter["message"], "certificate")
            server.plan = {"/a": [("to", "http://localhost:9/a")]}
            with Remote([server.url + "/a"], given="ca: '%s/authority.pem'" % folder) as job:
                job.run(code=4)
                contains(job.letters()[server.url + "/a"]["message"], "redirects to what is no HTTPS")


def bucket():
    return {"/data/" + key: b"body of " + key.encode() for key in
            ["a/1.jpg", "a/2.jpg", "a/3 and + %&=.jpg", "a/deep/4.jpg", "a/ü/5.jpg", "a/.hidden.jpg", "a/.git/6.jpg", "a/note.txt", "b/7.jpg", "top.jpg"]} | {"/data/a/": b""}


def bodies(ids, prefix):
    return {name: "body of " + prefix + name for name in ids}


@test
def objects_of_a_store_by_pattern_and_prefix():
    everything = ["1.jpg", "2.jpg", "3 and + %&=.jpg", "deep/4.jpg", "ü/5.jpg"]
    cases = [("s3://data/a/*.jpg", everything[:3], "a/"), ("s3://data/a/**/*.jpg", everything, "a/"), ("s3://data/a/[12]*", everything[:2], "a/"),
             ("s3://data/a/", everything + ["note.txt"], "a/"), ("s3://data", ["a/" + name for name in everything + ["note.txt"]] + ["b/7.jpg", "top.jpg"], ""),
             ("s3://data/*.jpg", ["top.jpg"], ""), ("s3://data/a/.*.jpg", [".hidden.jpg"], "a/"), ("s3://data/*/7.jpg", ["b/7.jpg"], "")]
    for keys in (KEYS, KEYS[:2] + ("a/token+of=session",), None):
        with Server(bucket(), keys=keys, region="eu-north-1", page=2) as server:
            for address, names, prefix in cases if keys == KEYS else cases[:1]:
                with Remote(given="files: '%s'" % address) as job:
                    job.run(env=server.environment())
                    assert job.results() == bodies(names, prefix), (address, job.results())
                    assert job.manifest()["complete"]
            assert all(("Authorization" in headers) == (keys is not None) for _, headers in server.requests)
    with Server(bucket(), keys=KEYS) as server:
        with Remote(["s3://data/b/7.jpg", "s3://data/a/3 and + %&=.jpg", "s3://data/none"]) as job:
            job.run(code=4, env=server.environment())
            assert job.results() == {"s3://data/" + key: "body of " + key for key in ("b/7.jpg", "a/3 and + %&=.jpg")}
            letter = job.letters()["s3://data/none"]
            assert letter["code"] == "ENOTFOUND" and letter["source"] == "s3://data/none", letter
            contains(letter["message"], "s3://data/none: the server answers with status 404 (NoSuchKey: it is so)")
        with Remote(given="files: ['s3://data/a/*.txt', 's3://data/b/'], base: 's3://data'") as job:
            job.run(env=server.environment())
            assert job.results() == bodies(["a/note.txt", "b/7.jpg"], "")


@test
def listings_that_fail():
    with Server(bucket(), keys=KEYS) as server:
        with Remote(given="files: 's3://data/a/*.jpg'") as job:
            _, err = job.run(code=3, env=server.environment(AWS_SECRET_ACCESS_KEY="wrong"))
            contains(err, "cannot list s3://data/a/", "status 403 (SignatureDoesNotMatch: it is so)")
            _, err = job.run(code=3, env=server.environment(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""))
            contains(err, "status 403 (AccessDenied: it is so)")
            _, err = job.run(code=3, env=server.environment(AWS_SECRET_ACCESS_KEY=""))
            contains(err, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together")
            _, err = job.run(code=3, env=server.environment(AWS_ENDPOINT_URL="http://localhost:secret@localhost"))
            contains(err, "AWS_ENDPOINT_URL must be")
            assert "secret" not in err, err
            server.plan = {"/data": [{"status": 301, "x-amz-bucket-region": "mars-1"}]}
            _, err = job.run(code=3, env=server.environment())
            contains(err, "status 301", "set AWS_REGION to the bucket's region, mars-1")
            server.plan = {"/data": [503, 503]}
            job.run(env=server.environment())
            assert len(job.results()) == 3
        for address, words in (("s3://data/none/", "no objects below 's3://data/none/'"), ("s3://data/*.gif", "nothing matches 's3://data/*.gif'")):
            with Remote(given="files: '%s'" % address) as job:
                _, err = job.run(code=3, env=server.environment())
                contains(err, words)
    with Server({"/data/": b"<html>no store</html>"}) as server:
        server.objects = {}
        server.http.RequestHandlerClass = type("Other", (server.http.RequestHandlerClass,), {"list": lambda self, *_: self.answer(200, b"<html>no store</html>")})
        with Remote(given="files: 's3://data/'") as job:
            _, err = job.run(code=3, env=server.environment())
            contains(err, "cannot list s3://data/", "it is no ListBucketResult")
        page = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
        server.http.RequestHandlerClass = type("Again", (server.http.RequestHandlerClass,), {"list": lambda self, *_: self.answer(200, page)})
        with Remote(given="files: 's3://data/'") as job:
            _, err = job.run(code=3, env=server.environment())
            contains(err, "cannot list s3://data/", "the same pages again and again")
        for circle in (2, 3, 7):
            def round_it_goes(handler, *_, circle=circle):
                at = int(urllib.parse.parse_qs(handler.path.partition("?")[2]).get("continuation-token", ["0"])[0])
                following = at + 1 if at < circle + 1 else 2
                handler.answer(200, page.replace(b">t<", b">%d<" % following))
            server.http.RequestHandlerClass = type("Circle", (server.http.RequestHandlerClass,), {"list": round_it_goes})
            server.requests.clear()
            with Remote(given="files: 's3://data/'") as job:
                _, err = job.run(code=3, env=server.environment())
                contains(err, "the same pages again and again")
                assert circle <= len(server.requests) <= 4 * circle + 4, len(server.requests)


@test
def work_begins_before_a_listing_is_whole_and_new_objects_are_more_inputs():
    with Server(texts("/data/", 200), page=20, delay=0.05) as server:
        with Remote(given="files: 's3://data/'") as job:
            job.run(env=server.environment())
            assert len(job.results()) == 200
            kinds = ["list-type" in path for path, _ in server.requests]
            assert False in kinds[:len(kinds) - 1 - kinds[::-1].index(True)], "objects were fetched before the last page was asked for"
            server.objects.update(texts("/data/new", 7))
            job.run("--resume", env=server.environment())
            assert len(job.results()) == 207 and job.manifest()["complete"]
            del server.objects["/data/new0003"]
            _, err = job.run("--resume", code=3, env=server.environment())
            contains(err, "1 missing", "new0003")


@test
def the_first_ctrl_c_ends_a_listing_that_hangs():
    with Server(texts("/data/", 150), page=100, delay=0.15) as server:  # so slow that work begins with what the first page has
        plain = server.http.RequestHandlerClass.list
        def first_page_only(handler, owner, path, query):
            return server.over.wait(60) if "continuation-token" in query else plain(handler, owner, path, query)
        server.http.RequestHandlerClass = type("First", (server.http.RequestHandlerClass,), {"list": first_page_only})
        with Remote(given="files: 's3://data/'") as job:
            process = subprocess.Popen([FERMATA, "batch", job.file], stderr=subprocess.PIPE, text=True, env={**os.environ, **NO_STORE, **server.environment()})
            wait_for(lambda: sum("list-type" not in path for path, _ in server.requests) >= 30)
            before = time.monotonic()
            process.send_signal(signal.SIGINT)
            end_of(process, 130)
            assert time.monotonic() - before < 10, "a page may take 30 s, and is tried three times"
            server.http.RequestHandlerClass.list = plain
            job.run("--resume", env=server.environment())
            assert len(job.results()) == 150 and job.manifest()["complete"]


@test
def killed_and_stopped_while_fetching():
    with Server(texts("/data/", 300), delay=0.05) as server:
        environment = {**os.environ, **NO_STORE, **server.environment()}
        with Remote(given="files: 's3://data/', requests: 8", keys="shard_rows: 10\n") as job:
            os.environ.update({name: environment[name] for name in NO_STORE})
            for number in (signal.SIGKILL, signal.SIGTERM):
                process = start(job, "--resume")
                seen = len(server.requests)
                wait_for(lambda: len(server.requests) > seen + 40)
                process.send_signal(number)
                end_of(process, -9 if number == signal.SIGKILL else 143)
            job.run("--resume", env=server.environment())
            assert len(job.results()) == 300 and len(job.lines()) == 300 and job.manifest()["complete"]
            assert json.loads((job.out / "_manifest.json").read_text())["rows_in"] == 300


run()
