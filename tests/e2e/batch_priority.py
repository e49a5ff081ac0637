"""input.priority: which shards are handed out first, that it is recorded, and that nothing else changes."""
import json
import os
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import SLOW_MODEL, Job, Rows, end_of, wait_for, workers_of  # noqa: E402
from tap import FERMATA, contains, fermata, run, test  # noqa: E402


def list_only(job):
    """All inputs are recorded, and no row is done: nobody comes to work."""
    (job.path / "token").write_text("t" * 40 + "\n")
    child = subprocess.Popen([FERMATA, "batch", job.file, "--listen", "127.0.0.1:0", "--workers", "0", "--token-file", job.path / "token", "--json"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and not event["listing"]:
            break
    child.terminate()
    end_of(child, 143)


def in_order_of_claims(job):
    """Ids, by the numbers of their parts: with one worker that is how its shards were handed out."""
    return [line["id"] for line in job.lines()]


def ranks(job):
    with sqlite3.connect(job.out / ".fermata" / "ledger.db") as database:
        return [rank for rank, in database.execute("SELECT rank FROM segment ORDER BY first_row")]


def in_order_of_inputs(job):
    parts = sorted(job.manifest()["parts"], key=lambda part: part["first_row"])
    return [json.loads(line) for part in parts for line in (job.out / part["part"]).read_text().splitlines()]


class Folders(Job):
    """20 files in each of the folders a, b, c, d."""

    def __init__(self, priority, **options):
        super().__init__(count=0, input="{files: in%s}" % (", priority: %s" % priority if priority else ""), keys="shard_rows: 7\nrows_in_flight: 7\n", **options)
        for folder in "abcd":
            self.folder(folder)

    def folder(self, name):
        (self.path / "in" / name).mkdir()
        for i in range(20):
            (self.path / "in" / name / ("%02d" % i)).write_text("%s %d" % (name, i))


@test
def what_the_first_pattern_matches_is_done_first():
    with Folders("[c/*, a]") as job, Folders("") as plain:
        list_only(job)
        assert ranks(job) == [1, 16, 0, 16]
        # They are those of the inputs, whatever the job file says now.
        job.file.write_text(job.file.read_text().replace("[c/*, a]", "d"))
        fermata("batch", job.file, "--resume")
        job.check_complete()
        order = in_order_of_claims(job)
        assert [name[0] for name in order] == ["c"] * 20 + ["a"] * 20 + ["b"] * 20 + ["d"] * 20, order
        assert order[:20] == sorted(order[:20])
        fermata("batch", plain.file)
        assert ranks(plain) == [16]
        assert in_order_of_inputs(job) == in_order_of_inputs(plain)
        # New inputs have the priorities of now.
        job.folder("d/new")
        job.folder("e")
        job.file.write_text(job.file.read_text().replace("priority: d", "priority: [e]"))
        fermata("batch", job.file, "--resume")
        job.check_complete()
        assert ranks(job)[4:] == [16, 0]
        contains(fermata("job", "verify", job.out)[0], "proven: 120 rows in")


@test
def what_is_found_later_goes_before_what_waits():
    with Folders("d", model=SLOW_MODEL) as job:
        fermata("batch", job.file)
        order = [name[0] for name in in_order_of_claims(job)]
        # A shard or two may have been begun before the list was whole.
        assert order.index("d") <= 21 and order[order.index("d"):][:20] == ["d"] * 20, order
        job.check_complete()


@test
def files_of_rows_have_the_priority_of_their_file():
    files = {name + ".csv": "a,b,c,d,user\n" + "".join("1,2,3,4,%s%03d\n" % (name, i) for i in range(100)) for name in ("one", "three", "two")}
    with Rows(files, given="columns: {x: [a, b, c], t: d, name: user}, id: user, priority: [two.csv, one*]") as job:
        list_only(job)
        assert ranks(job) == [1, 16, 0]
        fermata("batch", job.file, "--resume")
        order = in_order_of_claims(job)
        assert order == sorted(order, key=lambda name: {"t": 0 if name[1] == "w" else 2, "o": 1}[name[0]]) and len(order) == 300, order
        contains(fermata("job", "verify", job.out)[0], "proven: 300 rows in")


@test
def many_changes_of_priority_do_not_make_as_many_segments():
    with Job(count=600, keys="", input="{files: in, priority: '*[02468]'}") as job:
        fermata("batch", job.file)
        job.check_complete()
        found = ranks(job)
        assert len(found) == 251 and found[:3] == [0, 16, 0] and found[-3:] == [0, 16, 0], (len(found), found[-5:])


def nice_values(process):
    values = {}
    for thread in os.listdir("/proc/%d/task" % process):
        with open("/proc/%d/task/%s/stat" % (process, thread), encoding="ascii") as stat:
            name, _, rest = stat.read().rpartition(")")
            values[name.partition("(")[2]] = int(rest.split()[16])
    return values


@test
def workers_give_way_to_others():
    for nice, started, expected in ((7, 0, 7), (3, 5, 5), (0, 2, 2)):
        with Job(count=400, model=SLOW_MODEL, keys="workers: {nice: %d}\n" % nice) as job:
            child = subprocess.Popen(["nice", "-n", str(started), FERMATA, "batch", job.file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            worker = wait_for(lambda: workers_of(child))[0]
            values = wait_for(lambda: (lambda found: found if any(name.startswith("fm-write") for name in found) else None)(nice_values(worker)))
            mine = os.getpriority(os.PRIO_PROCESS, 0)
            assert {value for name, value in values.items() if name.startswith("fm-")} == {min(mine + expected, 19) if nice <= started else max(nice, mine)}, values
            assert nice_values(child.pid)["fermata"] == min(mine + started, 19)
            child.terminate()
            end_of(child, 143)


@test
def what_no_priority_can_be_is_refused():
    wrong = {"[]": ("list of 1 to 16",), "[%s]" % ", ".join("p%d" % i for i in range(17)): ("list of 1 to 16",), "[a, a]": ("names 'a' twice",),
             "[a, '']": ("an empty pattern",), "{a: b}": ("job.yaml:3:",), "''": ("an empty pattern",)}
    for given, words in wrong.items():
        with Folders(given) as job:
            _, err = fermata("batch", job.file, code=3)
            contains(err, "job.yaml:3:", *words)
            assert not job.out.exists()
    with Job(0, input="{files: '-', format: jsonl, priority: a}") as job:
        _, err = fermata("batch", job.file, code=3)
        contains(err, "'priority' is of files, and there are none")


run()
