"""A batch job over what lies behind addresses, for the tests of that."""
from batch_job import Job
from tap import fermata

KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
# Whatever the tests run under must not lead to another store.
NO_STORE = {name: "" for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
                                 "http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")}


class Remote(Job):
    """A job over a list of addresses, or what `given` says."""

    def __init__(self, urls=None, given="", keys="", **options):
        inputs = "{list: list.txt%s}" % (", " + given if given else "") if urls is not None else "{%s}" % given
        super().__init__(count=0, keys=keys, input=inputs, **options)
        if urls is not None:
            (self.path / "list.txt").write_text("".join(url + "\n" for url in urls))

    def run(self, *arguments, code=0, env=None):
        return fermata("batch", self.file, "--quiet", *arguments, code=code, env={**NO_STORE, **(env or {})})

    def results(self):
        return {line["id"]: line["out_x"] for line in self.lines()}

    def letters(self):
        return {line["id"]: line for line in self.lines("errors")}
