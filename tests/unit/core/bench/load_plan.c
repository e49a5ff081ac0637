/*
 * Schedules of load: the times of every mode, the parts of a run, hashes, what is refused.
 */
#include "core/bench/load_plan.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

static const struct fm_load_windows windows = {
    .warmup_ns = 2 * S, .measured_ns = 10 * S, .drain_ns = S};

static struct fm_load_plan_spec open_spec(const struct fm_arrivals_spec *arrivals)
{
    return (struct fm_load_plan_spec){
        .mode = FM_LOAD_OPEN, .arrivals = arrivals, .seed = 7, .windows = windows};
}

TEST(an_open_loop_has_the_times_of_its_arrivals)
{
    struct fm_arrivals_spec arrivals = {.kind = FM_ARRIVALS_POISSON, .rate_hz = 200};
    struct fm_load_plan_spec spec = open_spec(&arrivals);
    struct fm_load_plan plan;
    CHECK_INT_EQ(fm_load_plan_init(&spec, &plan, NULL), 0);
    struct fm_arrivals *stream = NULL;
    CHECK_INT_EQ(fm_arrivals_create(&arrivals, 7, &stream, NULL), 0);
    uint64_t counts[FM_LOAD_PHASE_COUNT_] = {0};
    for (uint64_t i = 0; i < plan.count; i++) {
        uint64_t time_ns = fm_arrivals_next(stream);
        CHECK_UINT_EQ(plan.times_ns[i], time_ns);
        counts[time_ns < 2 * S ? 0 : time_ns < 12 * S ? 1 : 2]++;
    }
    CHECK(fm_arrivals_next(stream) >= 13 * S);
    for (unsigned phase = 0; phase < FM_LOAD_PHASE_COUNT_; phase++) {
        CHECK_UINT_EQ(plan.counts[phase], counts[phase]);
    }
    /* 2,000 expected, with a standard deviation of 45. */
    CHECK(plan.counts[FM_LOAD_MEASURED] > 1800 && plan.counts[FM_LOAD_MEASURED] < 2200);
    CHECK_UINT_EQ(plan.concurrency, 0);
    fm_arrivals_destroy(stream);
    fm_load_plan_deinit(&plan);
    CHECK(plan.times_ns == NULL);
}

TEST(the_parts_of_a_run_begin_where_the_one_before_ends)
{
    CHECK_INT_EQ(fm_load_windows_phase(&windows, 0), FM_LOAD_WARMUP);
    CHECK_INT_EQ(fm_load_windows_phase(&windows, 2 * S - 1), FM_LOAD_WARMUP);
    CHECK_INT_EQ(fm_load_windows_phase(&windows, 2 * S), FM_LOAD_MEASURED);
    CHECK_INT_EQ(fm_load_windows_phase(&windows, 12 * S - 1), FM_LOAD_MEASURED);
    CHECK_INT_EQ(fm_load_windows_phase(&windows, 12 * S), FM_LOAD_DRAIN);
    CHECK_INT_EQ(fm_load_windows_phase(&windows, UINT64_MAX), FM_LOAD_DRAIN);
    CHECK_UINT_EQ(fm_load_windows_end_ns(&windows), 13 * S);
}

/* A metronome of 1/s: its k-th request at k seconds; that at the end of the drain is left out. */
TEST(a_metronome_by_hand)
{
    struct fm_arrivals_spec arrivals = {.kind = FM_ARRIVALS_CONSTANT, .rate_hz = 1};
    struct fm_load_plan_spec spec = open_spec(&arrivals);
    struct fm_load_plan plan;
    CHECK_INT_EQ(fm_load_plan_init(&spec, &plan, NULL), 0);
    CHECK_UINT_EQ(plan.count, 12);
    CHECK_UINT_EQ(plan.times_ns[11], 12 * S);
    CHECK_UINT_EQ(plan.counts[FM_LOAD_WARMUP], 1);
    CHECK_UINT_EQ(plan.counts[FM_LOAD_MEASURED], 10);
    CHECK_UINT_EQ(plan.counts[FM_LOAD_DRAIN], 1);
    fm_load_plan_deinit(&plan);
}

TEST(bursts_come_at_once)
{
    struct fm_load_plan_spec spec = {
        .mode = FM_LOAD_BURST, .concurrency = 3000, .windows = windows};
    struct fm_load_plan plan;
    CHECK_INT_EQ(fm_load_plan_init(&spec, &plan, NULL), 0);
    CHECK_UINT_EQ(plan.count, 6000);
    CHECK_UINT_EQ(plan.times_ns[2999], 0);
    CHECK_UINT_EQ(plan.times_ns[3000], 2 * S);
    CHECK_UINT_EQ(plan.times_ns[5999], 2 * S);
    CHECK_UINT_EQ(plan.counts[FM_LOAD_MEASURED], 3000);
    fm_load_plan_deinit(&plan);
    spec.windows.warmup_ns = 0;
    CHECK_INT_EQ(fm_load_plan_init(&spec, &plan, NULL), 0);
    CHECK_UINT_EQ(plan.count, 3000);
    CHECK_UINT_EQ(plan.counts[FM_LOAD_WARMUP], 0);
    fm_load_plan_deinit(&plan);
}

TEST(a_closed_loop_has_no_times)
{
    struct fm_load_plan_spec spec = {.mode = FM_LOAD_CLOSED, .concurrency = 4, .windows = windows};
    struct fm_load_plan plan;
    CHECK_INT_EQ(fm_load_plan_init(&spec, &plan, NULL), 0);
    CHECK_UINT_EQ(plan.count, 0);
    CHECK(plan.times_ns == NULL);
    CHECK_UINT_EQ(plan.concurrency, 4);
    fm_load_plan_deinit(&plan);
}

/* 0: it cannot be made. */
static uint64_t hash_of(const struct fm_load_plan_spec *spec)
{
    struct fm_load_plan plan;
    uint64_t hash = fm_load_plan_init(spec, &plan, NULL) == 0 ? plan.hash : 0;
    fm_load_plan_deinit(&plan);
    return hash;
}

TEST(the_hash_knows_whatever_changes_the_schedule)
{
    struct fm_arrivals_spec arrivals = {.kind = FM_ARRIVALS_GAMMA, .rate_hz = 100, .shape = 0.5};
    struct fm_load_plan_spec spec = open_spec(&arrivals);
    uint64_t first = hash_of(&spec);
    CHECK(first != 0);
    CHECK_UINT_EQ(hash_of(&spec), first);
    spec.concurrency = 5; /* of another mode: not looked at */
    CHECK_UINT_EQ(hash_of(&spec), first);
    spec.seed = 8;
    CHECK(hash_of(&spec) != first);
    spec.seed = 7;
    arrivals.rate_hz = 101;
    CHECK(hash_of(&spec) != first);
    struct fm_load_plan_spec closed = {
        .mode = FM_LOAD_CLOSED, .concurrency = 4, .windows = windows};
    uint64_t four = hash_of(&closed);
    closed.concurrency = 5;
    CHECK(hash_of(&closed) != four);
    closed.concurrency = 4;
    closed.windows.drain_ns += 1;
    CHECK(hash_of(&closed) != four);
}

static void check_refused(const struct fm_load_plan_spec *spec, int status, const char *word)
{
    struct fm_load_plan plan;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_load_plan_init(spec, &plan, &error), status);
    CHECK_STR_CONTAINS(error.text, word);
    CHECK(plan.times_ns == NULL && plan.count == 0);
}

TEST(what_makes_no_sense_is_refused)
{
    struct fm_arrivals_spec arrivals = {.kind = FM_ARRIVALS_CONSTANT, .rate_hz = 0};
    struct fm_load_plan_spec spec = open_spec(&arrivals);
    check_refused(&spec, FM_EINVAL, "arrivals: rate_hz");
    arrivals.rate_hz = 1e10;
    check_refused(&spec, FM_ETOOLARGE, "67108864 requests");
    spec.arrivals = NULL;
    check_refused(&spec, FM_EINVAL, "arrivals: an open loop");
    struct fm_load_plan_spec closed = {.mode = FM_LOAD_CLOSED, .windows = windows};
    check_refused(&closed, FM_EINVAL, "concurrency: 0");
    closed.concurrency = FM_LOAD_CONCURRENCY_MAX + 1;
    check_refused(&closed, FM_EINVAL, "concurrency: 1048577");
    closed.concurrency = 1;
    closed.windows.measured_ns = 0;
    check_refused(&closed, FM_EINVAL, "measured_ns: 0");
    closed.windows.measured_ns = FM_LOAD_DURATION_MAX_NS;
    check_refused(&closed, FM_EINVAL, "measured_ns: with");
    closed.windows = (struct fm_load_windows){.measured_ns = 1, .drain_ns = UINT64_MAX};
    check_refused(&closed, FM_EINVAL, "drain_ns: with");
    closed.mode = FM_LOAD_MODE_COUNT_;
    check_refused(&closed, FM_EINVAL, "mode: 3");
}

TEST(without_memory_there_is_no_plan)
{
    struct fm_arrivals_spec arrivals = {.kind = FM_ARRIVALS_CONSTANT, .rate_hz = 500};
    struct fm_load_plan_spec spec = open_spec(&arrivals);
    struct fm_load_plan plan;
    uint64_t fail_at = 1;
    for (;; fail_at++) {
        fm_memory_fail_at(fail_at, 0);
        struct fm_error error = {0};
        int status = fm_load_plan_init(&spec, &plan, &error);
        fm_memory_fail_at(0, 0);
        if (status == 0) {
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK(plan.times_ns == NULL);
    }
    CHECK_UINT_EQ(fail_at, 4); /* the stream, the times, the stream again */
    CHECK_UINT_EQ(plan.count, 6499);
    fm_load_plan_deinit(&plan);
}

TEST_MAIN()
