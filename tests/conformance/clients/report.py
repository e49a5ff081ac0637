"""Writes the tables of docs/conformance.md from the results of a run, and says in one line how it went.

    report.py DOCUMENT RESULTS.json...      with FM_COMMIT and FM_PLATFORM: what was tried, on what

The example programs have a part of the document to themselves; a part of which nothing was tried stays as it is.
"""
import datetime
import json
import os
import sys

BEGIN, END = "<!-- begin: written by tools/conformance%s -->", "<!-- end: written by tools/conformance%s -->"
EXAMPLES = "published examples"
CLIENTS = ["http", "http.aio", "grpc", "grpc.aio"]


def cell(rows, versions):
    """What happened in all versions: one word where they agree."""
    by_version = {version: row["outcome"] for version, row in rows}
    if not by_version:
        return ""
    outcomes = set(by_version.values())
    if len(outcomes) == 1:
        return outcomes.pop() + ("" if len(by_version) == len(versions) else " (%s)" % ", ".join(by_version))
    return ", ".join("%s (%s)" % (outcome, version) for version, outcome in by_version.items())


def table(area, runs):
    versions = [run["version"] for run in runs if any(row["area"] == area for row in run["rows"])]
    rows = [(run["version"], row) for run in runs for row in run["rows"] if row["area"] == area]
    clients = [client for client in CLIENTS if any(row["client"] == client for _, row in rows)]
    names = list(dict.fromkeys(row["name"] for _, row in rows))
    lines = ["### %s" % (area[0].upper() + area[1:]), "", "| what | %s | remark |" % " | ".join(clients), "|---|" + "---|" * (len(clients) + 1)]
    for name in names:
        of = [(version, row) for version, row in rows if row["name"] == name]
        cells = [cell([(version, row) for version, row in of if row["client"] == client], versions) for client in clients]
        remark = next((row["remark"] for _, row in of if row["remark"]), "")
        lines.append("| %s | %s | %s |" % (name.replace("|", "\\|"), " | ".join(cells), remark.replace("|", "\\|").replace("<", "&lt;")))
    return lines + [""]


def part(runs, others, counts):
    """The lines of one part of the document."""
    rows = [row for run in runs for row in run["rows"]]
    summary = "%d cases: " % len(rows) + ", ".join("%d %s" % (counts[outcome], words) for outcome, words in OUTCOMES if counts[outcome] or outcome in ("ok", "FAILED"))
    versions = list(dict.fromkeys(run["version"] for run in runs))
    lines = ["%s. Run on %s, Fermata %s, %s.  " % (summary, datetime.date.today(), os.environ.get("FM_COMMIT", "?"), os.environ.get("FM_PLATFORM", "?")),
             "Tried: tritonclient %s%s." % (" and ".join(one for one in versions if one[0].isdigit()), others), ""]
    for area in dict.fromkeys(row["area"] for row in rows):
        lines += table(area, runs)
    return summary, lines


OUTCOMES = [("ok", "ok"), ("refused", "refused as documented"), ("own fault", "at fault themselves"), ("FAILED", "failed")]


def main():
    document, paths = sys.argv[1], sys.argv[2:]
    runs = []
    for path in paths:
        with open(path) as file:
            runs.append(json.load(file))
    with open(document) as file:
        text = file.read()
    failed = False
    for mark, chosen in (("", lambda row: row["area"] != EXAMPLES), (", examples", lambda row: row["area"] == EXAMPLES)):
        some = [{"version": run["version"], "rows": [row for row in run["rows"] if chosen(row)]} for run in runs]
        some = [run for run in some if run["rows"]]
        if not some:
            continue
        others = "" if mark else "; " + (", ".join(run["version"] for run in some if not run["version"][0].isdigit()) or "no perf_analyzer")
        counts = {outcome: sum(row["outcome"] == outcome for run in some for row in run["rows"]) for outcome, _ in OUTCOMES}
        summary, lines = part(some, others, counts)
        begin, end = BEGIN % mark, END % mark
        head, _, rest = text.partition(begin)
        text = head + "\n".join([begin, "", *lines, end]) + rest.partition(end)[2]
        failed = failed or counts["FAILED"] > 0
        print("conformance%s: %s" % (mark, summary))
    with open(document, "w") as file:
        file.write(text)
    sys.exit(1 if failed else 0)


main()
