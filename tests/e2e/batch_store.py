"""`fermata batch` over a server of S3 that is not ours (s3rver, from npm, put into .deps by tools/setup --test): it verifies signatures of version 4 and lists in pages of 1,000.

It skips where that server or node is not there.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_remote_job import KEYS, Remote  # noqa: E402
from tap import ROOT, Skip, contains, run, test  # noqa: E402

MODULES = os.path.join(ROOT, ".deps", "s3", "node_modules")
# Without what XML escapes: this server does that twice. (batch_remote.py has such names.)
ODD = ["3 and + %=.jpg", "deep/4.jpg", "ü/5~(1)!*;:@$,.jpg", "100%25?#.jpg"]


class Store:
    """The server over a folder with the objects that are given, as its own uploads would leave them."""

    def __init__(self, objects):
        if not os.path.isdir(MODULES) or not shutil.which("node"):
            raise Skip("no node here, or no .deps/s3 (tools/setup --test)")
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="fermata-store-"))
        for key, body in objects.items():
            file = self.path / "data" / (key + "._S3rver_object")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        # Its continuation tokens are made with a cipher that OpenSSL 3 calls legacy.
        launcher = os.path.join(ROOT, "tests", "e2e", "s3_server.js")
        self.process = subprocess.Popen(["node", "--openssl-legacy-provider", launcher, MODULES, self.path, *KEYS[:2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=20)
        shutil.rmtree(self.path, ignore_errors=True)

    def environment(self, access=KEYS[0], secret=KEYS[1]):
        return {"AWS_ENDPOINT_URL": "http://127.0.0.1:%d" % self.port, "AWS_REGION": "eu-north-1", "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}


def body(key):
    return b"body of " + key.encode()


def objects(prefix, count):
    return {key: body(key) for key in ["%s%04d.txt" % (prefix, i) for i in range(count)]}


@test
def more_objects_than_a_page_are_listed_and_read():
    everything = {**objects("many/", 2100), "other/1.txt": b"not wanted", "many.txt": b"nor this"}
    with Store(everything) as store, Remote(given="files: 's3://data/many/'") as job:
        job.run(env=store.environment())
        assert job.results() == {"%04d.txt" % i: "body of many/%04d.txt" % i for i in range(2100)}
        assert job.manifest()["complete"]
        (store.path / "data" / "many" / "9999.txt._S3rver_object").write_bytes(b"one more")
        job.run("--resume", env=store.environment())
        assert len(job.results()) == 2101 and job.results()["9999.txt"] == "one more"


@test
def names_that_have_to_be_escaped_and_patterns():
    keys = ["a/" + name for name in ["1.jpg", "2.jpg", *ODD, "note.txt"]]
    with Store({key: body(key) for key in keys}) as store:
        for given, wanted in (("'s3://data/a/**/*.jpg'", keys[:-1]), ("'s3://data/a/*.jpg'", [key for key in keys[:-1] if key.count("/") == 1]), ("'s3://data/a/[12].*'", keys[:2])):
            with Remote(given="files: " + given) as job:
                job.run(env=store.environment())
                assert job.results() == {key[2:]: "body of " + key for key in wanted}, (given, job.results())
        with Remote(["s3://data/a/" + name for name in ODD] + ["s3://data/none"]) as job:
            job.run(code=4, env=store.environment())
            assert job.results() == {"s3://data/a/" + name: "body of a/" + name for name in ODD}
            contains(job.letters()["s3://data/none"]["message"], "status 404 (NoSuchKey: ")


@test
def a_wrong_key_is_refused():
    with Store(objects("few/", 3)) as store, Remote(given="files: 's3://data/few/'") as job:
        _, err = job.run(code=3, env=store.environment(secret="wrong"))
        contains(err, "cannot list s3://data/few/", "status 403 (SignatureDoesNotMatch: ")
        _, err = job.run(code=3, env=store.environment(access="nobody"))
        contains(err, "status 403 (InvalidAccessKeyId: ")
        job.run(env=store.environment())
        assert len(job.results()) == 3
    with Store(objects("few/", 3)) as store, Remote(["s3://data/few/0000.txt"]) as job:
        job.run(code=4, env=store.environment(secret="wrong"))
        contains(job.letters()["s3://data/few/0000.txt"]["message"], "status 403 (SignatureDoesNotMatch: ")


run()
