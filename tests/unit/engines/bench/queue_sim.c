/*
 * The simulator of the queue of bench tasks: its traces, its simple policies against cases worked
 * out by hand, files that are wrong, and memory.
 */
#include "engines/bench/queue_sim.h"

#include "core/util/memory.h"
#include "core/util/text.h"
#include "engines/bench/queue_sim_report.h"
#include "tests/harness/test.h"

static const struct fm_queue_sim_options options = {.mix = FM_QUEUE_SIM_UNIFORM,
                                                    .load = 0.9,
                                                    .tasks = 3000,
                                                    .followers = 2,
                                                    .seed = 1,
                                                    .seeds = 1,
                                                    .sigma = 0.5,
                                                    .ageing_percent = 100};

static int parse(const char *text, struct fm_queue_trace *ret_trace, struct fm_error *reterr)
{
    return fm_queue_trace_parse("t.csv", text, strlen(text), ret_trace, reterr);
}

TEST(lengths_have_the_mean_they_should)
{
    static const double means_s[] = {330, 300, 280, 494.6};
    for (uint32_t mix = 0; mix < FM_QUEUE_SIM_MIX_COUNT_; mix++) {
        struct fm_queue_sim_options own = options;
        struct fm_queue_trace trace;
        double sum_s = 0;
        own.mix = (enum fm_queue_sim_mix)mix;
        own.poisson = true;
        CHECK_INT_EQ(fm_queue_trace_make(&own, 5, &trace), 0);
        for (uint32_t i = 0; i < trace.count; i++) {
            sum_s += (double)trace.lengths_ns[i] / 1e9;
            CHECK(i == 0 || trace.arrivals_ns[i] >= trace.arrivals_ns[i - 1]);
        }
        double last_s = (double)trace.arrivals_ns[trace.count - 1] / 1e9;
        CHECK_NEAR(sum_s / trace.count / means_s[mix], 1, 0.1);
        CHECK_NEAR(sum_s / (last_s * own.followers * own.load), 1, 0.1);
        fm_queue_trace_deinit(&trace);
    }
}

/* Two followers; lengths 4, 1, 1, 3 s at once. */
TEST(policies_by_hand)
{
    struct fm_queue_trace trace;
    struct fm_queue_sim_result result;
    struct fm_queue_sim_options own = options;
    own.tasks = 4;
    CHECK_INT_EQ(parse("arrival_s,length_s\n0,4\n0,1\n0,1\n0,3\n", &trace, NULL), 0);
    CHECK_INT_EQ(fm_queue_sim_run(&own, &trace, &result), 0);
    /* In turn: 4 and 1 on one, 1 and 3 on the other, in this order or the shortest first. */
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_ROUND_ROBIN_FIFO][0].mean_s, (4 + 5 + 1 + 4) / 4.0, 0);
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_ROUND_ROBIN_SHORTEST][0].mean_s, (1 + 5 + 1 + 4) / 4.0,
               0);
    /* Least work: 4 on one, 1, 1 and 3 on the other. */
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_LEAST_WORK_FIFO][0].mean_s, (4 + 1 + 2 + 5) / 4.0, 0);
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_TWO_TIER][0].mean_s, (1 + 1 + 4 + 5) / 4.0, 0);
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_TWO_TIER][0].gain, 14 / 11.0, 1e-12);
    /* The last of them waits 4 s under FIFO; 1 s and 1 s of 4 + 4/2. */
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_TWO_TIER][0].bounded_most, 1 / 6.0, 1e-12);
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_TWO_TIER][0].own_most, 0.25, 1e-12);
    fm_queue_trace_deinit(&trace);
}

TEST(a_trace_is_read_back)
{
    struct fm_queue_trace trace;
    struct fm_queue_trace again;
    struct fm_text text = {0};
    struct fm_queue_sim_options own = options;
    own.poisson = true;
    CHECK_INT_EQ(fm_queue_trace_make(&own, 9, &trace), 0);
    fm_queue_trace_csv(&trace, &text);
    CHECK(!text.failed);
    CHECK_INT_EQ(parse(text.data, &again, NULL), 0);
    CHECK_UINT_EQ(again.count, trace.count);
    CHECK(again.estimates_ns == NULL);
    CHECK_MEM_EQ(again.arrivals_ns, trace.arrivals_ns, trace.count * sizeof(uint64_t));
    CHECK_MEM_EQ(again.lengths_ns, trace.lengths_ns, trace.count * sizeof(uint64_t));
    fm_text_deinit(&text);
    fm_queue_trace_deinit(&again);
    fm_queue_trace_deinit(&trace);
}

TEST(estimates_of_the_trace)
{
    struct fm_queue_trace trace;
    struct fm_queue_sim_result result;
    CHECK_INT_EQ(parse("# one\n\nclass,estimate_s,length_s,arrival_s\na,9,1,0\nb,1,5,0\nc,2,5,0\n",
                       &trace, NULL),
                 0);
    CHECK(trace.estimates_ns != NULL && trace.estimates_ns[2] == UINT64_C(2000000000));
    CHECK_INT_EQ(fm_queue_sim_run(&options, &trace, &result), 0);
    CHECK(result.own_estimates && result.tasks == 3);
    /* The one that is short waits for the two that seem to be. */
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_TWO_TIER][0].mean_s, (1 + 5 + 6) / 3.0, 1e-12);
    CHECK_NEAR(result.measures[FM_QUEUE_SIM_TWO_TIER][1].mean_s, (5 + 5 + 6) / 3.0, 1e-12);
    fm_queue_trace_deinit(&trace);
}

TEST(traces_that_are_wrong)
{
    static const struct {
        const char *text;
        const char *words;
    } wrong[] = {
        {"", "t.csv: "},
        {"arrival_s,length_s\n18446744000,31536000\n18446744001,10\n", "292 years at the most"},
        {"arrival_s,length_s\n 0,1\n  # note\n0,0\n", "t.csv:4: length_s must"},
        {"arrival_s\n0\n", "length_s"},
        {"length_s\n1\n", "arrival_s"},
        {"arrival_s,length_s\n", "t.csv"},
        {"arrival_s,length_s\n0,1\n1,x\n", "t.csv:3: "},
        {"arrival_s,length_s\n5,1\n4,1\n", "t.csv:3: "},
        {"# one\n\narrival_s,length_s\n0,1\n# two\n1,0\n", "t.csv:6: length_s must be above 0"},
        {"arrival_s,length_s\n0,31536001\n", "t.csv:2: length_s must be above 0 and at most"},
        {"arrival_s,length_s,estimate_s\n0,1,0\n", "t.csv:2: estimate_s must"},
        {"arrival_s,length_s,estimate_s\n0,1,-1\n", "t.csv:2: "},
        {"arrival_s,length_s\n0,1,2\n", "t.csv:2: "},
    };
    for (uint32_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct fm_queue_trace trace;
        struct fm_error error = {0};
        CHECK_INT_EQ(parse(wrong[i].text, &trace, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, wrong[i].words);
        CHECK(trace.arrivals_ns == NULL && trace.lengths_ns == NULL && trace.count == 0);
    }
}

TEST(no_memory_leaves_nothing)
{
    struct fm_queue_sim_options own = options;
    int status = FM_ENOMEM;
    own.tasks = 3;
    own.seeds = 2;
    for (uint64_t nth = 1; status != 0; nth++) {
        struct fm_queue_sim_result result;
        (void)fm_memory_fail_at(nth, 0);
        status = fm_queue_sim_run(&own, NULL, &result);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
        CHECK_INT_LT(nth, 1000);
    }
}

TEST_MAIN()
