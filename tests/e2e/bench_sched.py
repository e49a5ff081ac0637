"""fermata bench sched: its numbers fit together, and mistakes are explained."""
import time

from tap import fermata, fermata_json, run, test


def stress(*words):
    return fermata_json("bench", "sched", "--json", "--warmup", "300ms", "--seconds", "700ms", *words)


@test
def the_numbers_fit_together():
    found = stress("--models", "5", "--accelerators", "16", "--rate", "20000", "--shards", "2")
    assert 10000 < found["requests_per_second"] < 30000, found
    assert found["cpu_ns_per_request"] > 0 and found["load_cpu_ns_per_request"] > 0, found
    ended = found["served"] + found["late"] + sum(found["dropped"].values())
    assert abs(ended - found["submitted"]) < 0.3 * found["submitted"], found
    assert found["served"] > 0 and 0 <= found["bad_rate"] <= 1, found
    pool = found["accelerators"]
    assert pool["total"] == 16 and 1 <= pool["touched"] <= 16 and 0 < pool["busy_equivalent"] <= 16, pool
    assert found["batch_mean"] >= 1 and found["messages_per_batch"] >= 3, found
    assert set(found["hops_us"]) == {"submit", "report", "offer", "grant", "timer"}, found["hops_us"]
    delay = found["scheduling_delay_us"]
    assert 0 < delay["p50"] <= delay["p99"], delay


@test
def as_fast_as_it_goes():
    found = stress("--max", "--models", "3")
    assert found["rate_rps"] == 0 and found["requests_per_second"] > 20000, found


@test
def the_profile_can_be_given():
    found = stress("--alpha", "1ms", "--beta", "5ms", "--slo", "25ms", "--rate", "1000", "--policy", "eager")
    assert (found["alpha_us"], found["beta_us"], found["slo_ms"], found["policy"]) == (1000, 5000, 25, "eager"), found


@test
def for_people():
    text = fermata("bench", "sched", "--rate", "5000", "--warmup", "200ms", "--seconds", "300ms")[0]
    for words in ("requests per second", "CPU per request", "scheduling delay", "bad rate"):
        assert words in text, text


@test
def no_more_is_busy_than_there_is():
    """Batches longer than what is measured count with the part that lies in it."""
    found = stress("--alpha", "1ms", "--beta", "1ms", "--slo", "40s", "--rate", "20000", "--accelerators", "2")
    assert 0 < found["accelerators"]["busy_equivalent"] <= 2.0001, found["accelerators"]
    few = stress("--rate", "20")
    assert few["accelerators"]["busy_equivalent"] <= 8 and few["slo_ms"] <= 1000, few


@test
def many_models_are_there_soon():
    begin = time.monotonic()
    found = stress("--models", "20000", "--accelerators", "10000", "--rate", "10000", "--shards", "2")
    assert found["models"] == 20000 and time.monotonic() - begin < 60, found
    assert found["accelerators"]["total"] == 10000 and found["served"] > 0, found


run()
