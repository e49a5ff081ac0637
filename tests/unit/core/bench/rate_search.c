/*
 * rate_search: brackets, ends, repeats at the edge, ceilings, and that it ends whatever comes.
 */
#include "core/bench/rate_search.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

static struct fm_rate_search search;
static struct fm_rate_search_result result;

static void begin(struct fm_rate_search_options options)
{
    struct fm_error error = {0};
    if (fm_rate_search_init(&search, &options, &error) != 0) {
        printf("# %s\n", error.text);
        abort();
    }
}

/* A target that meets up to `truth` exactly, with the margin of a queue of that capacity or, where
 * `silent`, none. */
static void run_exact(double truth, bool silent)
{
    while (fm_rate_search_next(&search) > 0) {
        double rate = fm_rate_search_next(&search);
        double capacity = truth * 1.1;
        double margin = rate < capacity ? 0.1 * truth / (capacity - rate) : 1e6;
        fm_rate_search_take(&search, rate <= truth ? FM_RATE_SEARCH_MET : FM_RATE_SEARCH_MISSED,
                            silent ? 0 : margin);
    }
    fm_rate_search_result(&search, &result);
}

static void check_found(double truth, double precision)
{
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_FOUND);
    CHECK(result.met_hz <= truth);
    CHECK(result.missed_hz > truth);
    CHECK(result.missed_hz <= result.met_hz * (1 + precision) * (1 + 1e-12));
    CHECK_UINT_EQ(result.met_runs, 2);
    CHECK_UINT_EQ(result.met_of, 2);
    CHECK_UINT_EQ(result.missed_runs, 2);
    CHECK_UINT_EQ(result.missed_of, 2);
    CHECK_NEAR(result.met_confidence, 0.75, 0);
    CHECK_NEAR(result.missed_confidence, 0.75, 0);
}

TEST(brackets_whatever_the_start)
{
    uint32_t most = 0;
    uint32_t most_silent = 0;
    for (double truth = 10; truth < 100000; truth *= 1.37) {
        for (double start = 10; start < 100000; start *= 3.1) {
            begin((struct fm_rate_search_options){.start_hz = start});
            run_exact(truth, false);
            check_found(truth, 0.02);
            most = result.runs > most ? result.runs : most;
            begin((struct fm_rate_search_options){.start_hz = start});
            run_exact(truth, true);
            check_found(truth, 0.02);
            most_silent = result.runs > most_silent ? result.runs : most_silent;
        }
    }
    /* Up to 14 to double, 6 to halve an octave to 2 %, 2 to repeat. */
    printf("# at most %u runs with margins, %u without\n", most, most_silent);
    CHECK(most <= 22);
    CHECK(most_silent <= 23);
}

/* From within an octave. */
TEST(margins_save_runs)
{
    uint32_t runs = 0;
    uint32_t runs_silent = 0;
    for (unsigned i = 0; i < 100; i++) {
        double start = 600 + 4 * i;
        begin((struct fm_rate_search_options){.start_hz = start, .precision = 0.002});
        run_exact(1000, false);
        check_found(1000, 0.002);
        runs += result.runs;
        begin((struct fm_rate_search_options){.start_hz = start, .precision = 0.002});
        run_exact(1000, true);
        check_found(1000, 0.002);
        runs_silent += result.runs;
    }
    printf("# %.2f runs with margins, %.2f without\n", runs / 100.0, runs_silent / 100.0);
    CHECK(runs <= 950);
    CHECK(runs_silent > runs + 250);
}

/* A target that is fast up to its limit and then a little late: the line through the margins points
 * near the upper end each time. A precision a run would take 38; every third run halves. */
TEST(margins_that_mislead)
{
    for (double truth = 101; truth < 200; truth += 7) {
        begin((struct fm_rate_search_options){.start_hz = 100, .runs_max = 100});
        while (fm_rate_search_next(&search) > 0) {
            bool met = fm_rate_search_next(&search) <= truth;
            fm_rate_search_take(&search, met ? FM_RATE_SEARCH_MET : FM_RATE_SEARCH_MISSED,
                                met ? 0.01 : 1.5);
        }
        fm_rate_search_result(&search, &result);
        check_found(truth, 0.02);
        CHECK(result.runs <= 19);
    }
}

TEST(the_first_rates)
{
    begin((struct fm_rate_search_options){.start_hz = 100});
    CHECK_NEAR(fm_rate_search_next(&search), 100, 0);
    CHECK_NEAR(fm_rate_search_next(&search), 100, 0); /* until its outcome is taken */
    fm_rate_search_take(&search, FM_RATE_SEARCH_MET, 0);
    CHECK_NEAR(fm_rate_search_next(&search), 200, 0);
    fm_rate_search_take(&search, FM_RATE_SEARCH_MISSED, 0);
    CHECK_NEAR(fm_rate_search_next(&search), sqrt(100 * 200.0), 1e-9);
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_GOES_ON);
    CHECK_NEAR(result.met_hz, 100, 0);
    CHECK_NEAR(result.missed_hz, 200, 0);
    CHECK_NEAR(result.met_confidence, 0.5, 0);
    begin((struct fm_rate_search_options){.start_hz = 100});
    fm_rate_search_take(&search, FM_RATE_SEARCH_MISSED, 0);
    CHECK_NEAR(fm_rate_search_next(&search), 50, 0);
    fm_rate_search_take(&search, FM_RATE_SEARCH_MET, 0.5);
    fm_rate_search_result(&search, &result);
    CHECK_NEAR(result.estimate_hz, sqrt(50 * 100.0), 1e-9);
    /* Only one end has a margin: the middle. */
    CHECK_NEAR(fm_rate_search_next(&search), sqrt(50 * 100.0), 1e-9);
    begin((struct fm_rate_search_options){.start_hz = 100});
    fm_rate_search_take(&search, FM_RATE_SEARCH_MET, 0.5);
    fm_rate_search_take(&search, FM_RATE_SEARCH_MISSED, 2);
    /* 1/margin falls from 2 to 1/2: it is 1 two thirds of the way. */
    CHECK_NEAR(fm_rate_search_next(&search), 100 + 200 / 3.0, 1e-9);
    fm_rate_search_take(&search, FM_RATE_SEARCH_MET, 1 / 1.1);
    fm_rate_search_take(&search, FM_RATE_SEARCH_MISSED, 1 / 0.9);
    double met_hz = 100 + 200 / 3.0;
    fm_rate_search_result(&search, &result);
    CHECK_NEAR(result.met_hz, met_hz, 1e-9);
    /* A line through (met, 1.1), (missed, 0.9) and (200, 0.5). */
    double x[3] = {met_hz, result.missed_hz, 200};
    double y[3] = {0.1, -0.1, -0.5};
    double x_mean = (x[0] + x[1] + x[2]) / 3;
    double y_mean = (y[0] + y[1] + y[2]) / 3;
    double product = 0;
    double square = 0;
    for (int i = 0; i < 3; i++) {
        product += (x[i] - x_mean) * (y[i] - y_mean);
        square += (x[i] - x_mean) * (x[i] - x_mean);
    }
    CHECK_NEAR(result.estimate_hz, x_mean - y_mean * square / product, 1e-6);
}

TEST(margins_that_are_none)
{
    const double wrong[] = {-1, 0, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        begin((struct fm_rate_search_options){.start_hz = 100});
        fm_rate_search_take(&search, FM_RATE_SEARCH_MET, wrong[i]);
        fm_rate_search_take(&search, FM_RATE_SEARCH_MISSED, 2);
        CHECK_NEAR(fm_rate_search_next(&search), sqrt(100 * 200.0), 1e-9);
    }
    /* One that contradicts its outcome (errors miss, too) says nothing either. */
    begin((struct fm_rate_search_options){.start_hz = 100});
    fm_rate_search_take(&search, FM_RATE_SEARCH_MET, 0.5);
    fm_rate_search_take(&search, FM_RATE_SEARCH_MISSED, 0.7);
    CHECK_NEAR(fm_rate_search_next(&search), sqrt(100 * 200.0), 1e-9);
}

/* Takes outcomes from a string: + met, - missed, ! not valid. */
static void take(const char *outcomes)
{
    for (; *outcomes != '\0'; outcomes++) {
        fm_rate_search_take(&search,
                            *outcomes == '+'   ? FM_RATE_SEARCH_MET
                            : *outcomes == '-' ? FM_RATE_SEARCH_MISSED
                                               : FM_RATE_SEARCH_INVALID,
                            0);
    }
}

TEST(ends_are_tried_again)
{
    const struct fm_rate_search_options wide = {.start_hz = 100, .precision = 1};
    begin(wide);
    take("+-"); /* 100 met, 200 missed: as narrow as asked */
    CHECK_NEAR(fm_rate_search_next(&search), 100, 0);
    take("-"); /* a tie: again */
    CHECK_NEAR(fm_rate_search_next(&search), 100, 0);
    take("+");
    CHECK_NEAR(fm_rate_search_next(&search), 200, 0);
    take("-");
    CHECK_NEAR(fm_rate_search_next(&search), 0, 0);
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_FOUND);
    CHECK_UINT_EQ(result.met_runs, 2);
    CHECK_UINT_EQ(result.met_of, 3);
    CHECK_NEAR(result.met_confidence, 0.5, 0);
    CHECK_UINT_EQ(result.runs, 5);

    /* The lower end changes sides: the bracket moves down. */
    begin(wide);
    take("+---");
    CHECK_NEAR(fm_rate_search_next(&search), 50, 0);
    take("++");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_FOUND);
    CHECK_NEAR(result.met_hz, 50, 0);
    CHECK_NEAR(result.missed_hz, 100, 0);
    CHECK_UINT_EQ(result.missed_of, 3);

    /* The upper end does: it moves up. */
    begin(wide);
    take("+-+++");
    CHECK_NEAR(fm_rate_search_next(&search), 400, 0);

    /* One run at each end is enough where it is said so; many, where that is. */
    begin((struct fm_rate_search_options){.start_hz = 100, .precision = 1, .repeats = 1});
    take("+-");
    CHECK_NEAR(fm_rate_search_next(&search), 0, 0);
    begin((struct fm_rate_search_options){.start_hz = 100, .precision = 1, .repeats = 9});
    take("+-++++----");
    CHECK_NEAR(fm_rate_search_next(&search), 0, 0);
    fm_rate_search_result(&search, &result);
    CHECK_NEAR(result.met_confidence, 1 - 1 / 32.0, 0);
}

TEST(rates_that_cannot_be_sent)
{
    const struct fm_rate_search_options wide = {.start_hz = 100, .precision = 1};
    begin(wide);
    take("+!");
    CHECK_NEAR(fm_rate_search_next(&search), 200, 0); /* once more */
    take("-");
    CHECK_NEAR(fm_rate_search_next(&search), 100, 0); /* it was but the one run */
    begin(wide);
    take("+!!+");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_CEILING);
    CHECK_NEAR(result.met_hz, 100, 0);
    CHECK_NEAR(result.missed_hz, 200, 0);
    CHECK_UINT_EQ(result.missed_of, 0);
    CHECK_NEAR(result.missed_confidence, 0, 0);
    /* An end that can no longer be tried stays what it was. */
    begin(wide);
    take("+-!!-");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_FOUND);
    CHECK_UINT_EQ(result.met_of, 1);
    /* Nothing is ever valid: down to the lowest rate. */
    begin((struct fm_rate_search_options){.start_hz = 100, .rate_min_hz = 30});
    take("!!!!");
    CHECK_NEAR(fm_rate_search_next(&search), 30, 0);
    take("!!");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_AT_MIN);
    CHECK_NEAR(result.met_hz, 0, 0);
}

/* Runs that are not valid do not go on for ever, whatever the others said. */
TEST(invalid_runs_are_bounded_at_each_rate)
{
    begin((struct fm_rate_search_options){.start_hz = 100, .runs_max = 60});
    uint32_t at_start = 0;
    for (uint32_t i = 0; fm_rate_search_next(&search) > 0; i++) {
        double rate = fm_rate_search_next(&search);
        at_start += rate == 100;
        enum fm_rate_search_outcome outcome = rate != 100     ? FM_RATE_SEARCH_MISSED
                                              : at_start == 1 ? FM_RATE_SEARCH_MET
                                              : at_start == 2 ? FM_RATE_SEARCH_MISSED
                                                              : FM_RATE_SEARCH_INVALID;
        outcome = rate < 100 ? FM_RATE_SEARCH_MET : outcome;
        fm_rate_search_take(&search, outcome, 0);
    }
    fm_rate_search_result(&search, &result);
    CHECK(result.end == FM_RATE_SEARCH_CEILING || result.end == FM_RATE_SEARCH_FOUND);
    CHECK(at_start <= 4 && result.runs < 60);
}

TEST(lowest_and_highest_rate)
{
    begin((struct fm_rate_search_options){.start_hz = 100, .rate_max_hz = 300});
    take("++");
    CHECK_NEAR(fm_rate_search_next(&search), 300, 0);
    take("+");
    CHECK_NEAR(fm_rate_search_next(&search), 300, 0);
    take("+");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_AT_MAX);
    CHECK_NEAR(fm_rate_search_next(&search), 0, 0);
    CHECK_NEAR(result.met_hz, 300, 0);
    CHECK_NEAR(result.missed_hz, 0, 0);
    CHECK_NEAR(result.missed_confidence, 0, 0);
    begin((struct fm_rate_search_options){.start_hz = 100, .rate_min_hz = 30});
    take("--");
    CHECK_NEAR(fm_rate_search_next(&search), 30, 0);
    take("--");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_AT_MIN);
    CHECK_NEAR(result.missed_hz, 30, 0);
    begin((struct fm_rate_search_options){
        .start_hz = 100, .rate_min_hz = 100, .rate_max_hz = 100, .repeats = 1});
    take("+");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_AT_MAX);
}

TEST(runs_are_used_up)
{
    begin((struct fm_rate_search_options){.start_hz = 100, .runs_max = 5});
    take("++-++");
    CHECK_NEAR(fm_rate_search_next(&search), 0, 0);
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_RUNS);
    CHECK(result.met_hz > 200 && result.missed_hz == 400);
    CHECK_UINT_EQ(result.runs, 5);
    /* The last run may be the one that was missing. */
    begin((struct fm_rate_search_options){.start_hz = 100, .precision = 1, .runs_max = 4});
    take("+-+-");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_FOUND);
    begin((struct fm_rate_search_options){.start_hz = 100, .runs_max = 3});
    take("!!!");
    fm_rate_search_result(&search, &result);
    CHECK_INT_EQ(result.end, FM_RATE_SEARCH_RUNS);
    CHECK_NEAR(result.missed_hz, 100, 0);
}

/* Outcomes without sense: it ends all the same, and what it says is true of what it was told. */
TEST(ends_whatever_comes)
{
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct fm_random random;
        fm_random_init(&random, seed);
        uint32_t runs_max = 1 + (uint32_t)fm_random_below(&random, FM_RATE_SEARCH_RUNS_LIMIT);
        begin((struct fm_rate_search_options){
            .start_hz = 1 + 1000 * fm_random_unit(&random),
            .precision = fm_random_below(&random, 2) == 0 ? 0.02 : FM_RATE_SEARCH_PRECISION_MIN,
            .repeats = 1 + 2 * (uint32_t)fm_random_below(&random, 5),
            .rate_max_hz = fm_random_below(&random, 2) == 0 ? 0 : 1e4,
            .rate_min_hz = fm_random_below(&random, 2) == 0 ? 0 : 0.5,
            .runs_max = runs_max,
        });
        uint32_t runs = 0;
        uint64_t kinds = 1 + fm_random_below(&random, 3);
        for (; fm_rate_search_next(&search) > 0; runs++) {
            CHECK(runs < runs_max);
            CHECK(fm_rate_search_next(&search) >= search.options.rate_min_hz);
            CHECK(fm_rate_search_next(&search) <= search.options.rate_max_hz);
            fm_rate_search_take(&search,
                                (enum fm_rate_search_outcome)fm_random_below(&random, kinds),
                                fm_random_unit(&random) * 3 - 0.5);
        }
        fm_rate_search_result(&search, &result);
        CHECK_UINT_EQ(result.runs, runs);
        CHECK(result.end != FM_RATE_SEARCH_GOES_ON);
        CHECK(result.met_hz < result.missed_hz || result.missed_hz == 0);
        CHECK(result.met_hz == 0 || result.met_runs * 2 > result.met_of);
    }
}

/* The message, or "" when they are taken. */
static const char *refusal(struct fm_rate_search_options options)
{
    static struct fm_error error;
    error = (struct fm_error){0};
    int status = fm_rate_search_init(&search, &options, &error);
    return status == FM_EINVAL && fm_rate_search_next(&search) == 0 ? error.text : "";
}

TEST(options_that_are_refused)
{
    const double wrong[] = {-1, 1e300, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        CHECK_STR_CONTAINS(refusal((struct fm_rate_search_options){.start_hz = wrong[i]}),
                           "start_hz: ");
        CHECK_STR_CONTAINS(
            refusal((struct fm_rate_search_options){.start_hz = 1, .rate_min_hz = wrong[i]}),
            "rate_min_hz: ");
        CHECK_STR_CONTAINS(
            refusal((struct fm_rate_search_options){.start_hz = 1, .rate_max_hz = wrong[i]}),
            "rate_max_hz: ");
        CHECK_STR_CONTAINS(
            refusal((struct fm_rate_search_options){.start_hz = 1, .precision = wrong[i]}),
            "precision: ");
    }
    CHECK_STR_CONTAINS(refusal((struct fm_rate_search_options){0}), "start_hz: 0 is not between");
    CHECK_STR_CONTAINS(
        refusal((struct fm_rate_search_options){.start_hz = 1, .rate_min_hz = 2, .rate_max_hz = 1}),
        "rate_max_hz: 1 is not a rate from rate_min_hz (2)");
    CHECK_STR_CONTAINS(refusal((struct fm_rate_search_options){.start_hz = 1, .repeats = 2}),
                       "repeats: 2 is not an odd number");
    CHECK_STR_CONTAINS(refusal((struct fm_rate_search_options){.start_hz = 1, .repeats = 33}),
                       "repeats: 33 is not an odd number up to 31");
    CHECK_STR_CONTAINS(refusal((struct fm_rate_search_options){.start_hz = 1, .runs_max = 201}),
                       "runs_max: 201 is above the limit of 200");
    CHECK_STR_EQ(refusal((struct fm_rate_search_options){
                     .start_hz = 1, .repeats = 31, .runs_max = 200, .precision = 1e-4}),
                 "");
}

TEST_MAIN()
