"""What a run of the conformance cases found: collected, written as JSON, and made into the tables of docs/conformance.md."""
import json
import sys
import traceback

OTHER_OUTCOMES = ["refused", "own fault"]  # what a case says in front of its remark


class Results:
    def __init__(self, version):
        self.version = version
        self.rows = []

    def run(self, area, name, client, function, *arguments):
        """A case is right when it returns; a text that it returns is a remark for the table."""
        try:
            outcome, remark = "ok", function(*arguments)
        except Exception as problem:
            outcome, remark = "FAILED", "%s: %s" % (type(problem).__name__, " ".join(str(problem).split())[:200])
            traceback.print_exc()
        for other in OTHER_OUTCOMES:
            if isinstance(remark, str) and remark.startswith(other + ": "):
                outcome, remark = other, remark[len(other) + 2:]
        self.rows.append({"area": area, "name": name, "client": client, "outcome": outcome, "remark": " ".join((remark or "").split())})
        print("%-7s %-9s %s: %s%s" % (outcome, client, area, name, "  (%s)" % remark if remark else ""), flush=True)

    @property
    def failures(self):
        return [row for row in self.rows if row["outcome"] == "FAILED"]

    def save(self, path):
        with open(path, "w") as file:
            json.dump({"version": self.version, "rows": self.rows}, file, indent=1)
        print("%s: %d cases, %d failed" % (self.version, len(self.rows), len(self.failures)), file=sys.stderr)
