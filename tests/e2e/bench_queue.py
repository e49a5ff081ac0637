"""fermata bench queue: its bars, the same numbers from a trace that it prints itself, and what it refuses."""
import os
import subprocess
import tempfile

from tap import ROOT, contains, fermata, fermata_json, run, test

FOLDER = tempfile.TemporaryDirectory(prefix="fermata-bench-queue-")


def trace(text):
    path = os.path.join(FOLDER.name, "trace.csv")
    with open(path, "w") as file:
        file.write(text)
    return path


def policies(*words):
    found = fermata_json("bench", "queue", "--json", *words)
    return {(policy["policy"], policy["estimates"]): policy for policy in found["policies"]}


@test
def the_bars():
    """The published traces: mean completion times against round-robin with FIFO, and what nobody waits longer than."""
    for words in (("--mix", "exponential"), ("--mix", "bimodal"), ("--mix", "uniform", "--arrivals", "poisson", "--load", "0.9")):
        found = policies(*words)
        true, wrong = found["two-tier", "true"], found["two-tier", "wrong"]
        assert true["gain_mean"] >= 1.43, (words, true)
        assert wrong["gain_mean"] >= 1.3, (words, wrong)
        assert true["bounded_ratio_most"] <= 2 and wrong["bounded_ratio_most"] <= 2, (words, true, wrong)
        assert true["own_ratio_most"] <= 2, (words, true)
        assert found["round-robin, FIFO", "true"]["gain_mean"] == 1, found
        assert len(found) == 9, found


@test
def ageing_is_what_bounds_waiting():
    """Without it, shortest-first lets single tasks wait for tens of times as long."""
    words = ("--mix", "uniform", "--arrivals", "poisson", "--seeds", "4")
    found = policies(*words)
    assert found["least work, shortest first", "true"]["bounded_ratio_most"] > 5, found
    late = policies(*words, "--ageing", "10000")["two-tier", "true"]
    assert late["gain_mean"] > found["two-tier", "true"]["gain_mean"] and late["bounded_ratio_most"] > 2, late


@test
def the_same_call_prints_the_same():
    words = ("bench", "queue", "--seeds", "3", "--json")
    assert fermata(*words)[0] == fermata(*words)[0]
    assert fermata(*words)[0] != fermata(*words, "--seed", "2")[0]


@test
def a_trace_that_was_printed_is_the_same_trace():
    words = ("--mix", "lognormal", "--arrivals", "poisson", "--tasks", "300")
    path = trace(fermata("bench", "queue", *words, "--seed", "7", "--print-trace")[0])
    made = policies(*words, "--seed", "7", "--seeds", "1")
    read = policies("--trace", path, "--seed", "7")
    assert made == read, (made, read)


@test
def estimates_of_a_trace():
    found = policies("--trace", trace("arrival_s,length_s,estimate_s,class\n0,1,9,a\n0,5,1,b\n0,5,2,a\n"), "--followers", "2")
    other = policies("--trace", trace("arrival_s,length_s,my_estimate_s\n0,1,x\n"))
    assert ("two-tier", "true") in other, "a column with another name is not used"
    assert ("two-tier", "the trace's") in found and found["two-tier", "the trace's"]["completion_mean_s"] > 5, found


@test
def for_people():
    text = fermata("bench", "queue", "--seeds", "2")[0]
    contains(text, "40 tasks of exponential length, all at once, 4 followers, 2 seeds from 1", "bounded ratio", "own ratio", "two-tier")
    text = fermata("bench", "queue", "--trace", trace("arrival_s,length_s\n0,1\n"))[0]
    contains(text, "1 task of the trace, 4 followers")


@test
def a_clock_that_has_run_for_long_changes_nothing():
    """Times are absolute, nothing is relative to their size: seconds since 1970 do as well."""
    text = fermata("bench", "queue", "--print-trace", "--mix", "uniform", "--arrivals", "poisson", "--load", "0.95", "--tasks", "500", "--seed", "3")[0]
    lines = text.splitlines()
    shifted = [lines[0]] + ["%d%s,%s" % (1763856000 + int(a.split(".")[0]), a[len(a.split(".")[0]):], rest) for a, rest in (line.split(",", 1) for line in lines[1:])]
    assert policies("--trace", trace(text)) == policies("--trace", trace("\n".join(shifted) + "\n"))


@test
def traces_that_are_refused():
    for text, words in (("arrival_s,length_s\n0,1\n1,x\n", "trace.csv:3: "), ("arrival_s,length_s\n5,1\n4,1\n", "trace.csv:3: "),
                        ("# one\narrival_s,length_s\n0,0\n", "trace.csv:3: length_s must be above 0"),
                        ("arrival_s\n1\n", "length_s"), ("", "trace.csv")):
        contains(fermata("bench", "queue", "--trace", trace(text), code=3)[1], words)
    many = trace("arrival_s,length_s\n" + "0,1\n" * 16385)
    contains(fermata("bench", "queue", "--trace", many, code=3)[1], "16384")


@test
def the_table_of_perf():
    done = subprocess.run([os.path.join(ROOT, "perf/bench_queue"), os.environ["FM_BUILD_ROOT"], "--seeds", "2"], capture_output=True)
    contains(done.stdout.decode(), "| exponential, 40 at once |", "| uniform, Poisson at load 0.9 |", "two-tier")


run()
