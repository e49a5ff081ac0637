/*
 * arrivals: the distributions, the rate's course, the edges, and the same times everywhere.
 */
#include "core/load/arrivals.h"

#include "core/util/hash.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)

static struct fm_arrivals *create(struct fm_arrivals_spec spec, uint64_t seed)
{
    struct fm_arrivals *arrivals = NULL;
    struct fm_error error = {0};
    if (fm_arrivals_create(&spec, seed, &arrivals, &error) != 0) {
        printf("# %s\n", error.text);
        fm_test_failed = 1;
        abort();
    }
    return arrivals;
}

/* How many arrive up to and including end_ns; the stream has lost the one behind it. */
static uint64_t count_until(struct fm_arrivals *arrivals, uint64_t end_ns)
{
    uint64_t count = 0;
    while (fm_arrivals_next(arrivals) <= end_ns) {
        count++;
    }
    return count;
}

static uint64_t count_of(struct fm_arrivals_spec spec, uint64_t seed, uint64_t end_ns)
{
    struct fm_arrivals *arrivals = create(spec, seed);
    uint64_t count = count_until(arrivals, end_ns);
    fm_arrivals_destroy(arrivals);
    return count;
}

static struct fm_arrivals_spec poisson(double rate_hz)
{
    return (struct fm_arrivals_spec){.kind = FM_ARRIVALS_POISSON, .rate_hz = rate_hz};
}

static struct fm_arrivals_spec constant(double rate_hz)
{
    return (struct fm_arrivals_spec){.kind = FM_ARRIVALS_CONSTANT, .rate_hz = rate_hz};
}

static struct fm_arrivals_spec gamma_of(double rate_hz, double shape)
{
    return (struct fm_arrivals_spec){.kind = FM_ARRIVALS_GAMMA, .rate_hz = rate_hz, .shape = shape};
}

TEST(constant_does_not_drift)
{
    struct fm_arrivals *arrivals = create(constant(3), 1);
    for (uint64_t i = 1; i <= 3000000; i++) {
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), (i * SECOND + 1) / 3); /* to the nearest */
    }
    fm_arrivals_destroy(arrivals);
    arrivals = create(constant(1024), 1);
    for (uint64_t i = 1; i < 1024u * 3600; i++) {
        (void)fm_arrivals_next(arrivals);
    }
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 3600 * SECOND);
    fm_arrivals_destroy(arrivals);
}

#define GAPS 200000
static double gaps[GAPS];

/* Fills gaps, in units of the mean gap that the rate promises. */
static void draw_gaps(struct fm_arrivals_spec spec, uint64_t seed)
{
    struct fm_arrivals *arrivals = create(spec, seed);
    uint64_t last_ns = 0;
    for (int i = 0; i < GAPS; i++) {
        uint64_t time_ns = fm_arrivals_next(arrivals);
        gaps[i] = (double)(time_ns - last_ns) * spec.rate_hz / 1e9;
        last_ns = time_ns;
    }
    fm_arrivals_destroy(arrivals);
}

/* Mean and variance within 4.5 standard errors, where `fourth` is the fourth central moment. */
static void check_moments(double variance, double fourth)
{
    double mean = 0;
    double squares = 0;
    for (int i = 0; i < GAPS; i++) {
        mean += gaps[i] / GAPS;
        squares += (gaps[i] - 1) * (gaps[i] - 1) / GAPS;
    }
    CHECK_NEAR(mean, 1, 4.5 * sqrt(variance / GAPS));
    CHECK_NEAR(squares, variance, 4.5 * sqrt((fourth - variance * variance) / GAPS));
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Kolmogorov and Smirnov: the largest distance between the two distribution functions, which by
 * chance exceeds 1.95/sqrt(n) once in a thousand. */
static void check_distribution(double (*cumulative)(double))
{
    qsort(gaps, GAPS, sizeof(gaps[0]), compare);
    double distance = 0;
    for (int i = 0; i < GAPS; i++) {
        double expected = cumulative(gaps[i]);
        distance = fmax(distance, fabs(expected - (double)i / GAPS));
        distance = fmax(distance, fabs(expected - (double)(i + 1) / GAPS));
    }
    CHECK(distance < 1.95 / sqrt(GAPS));
}

static double exponential(double x)
{
    return 1 - exp(-x);
}

static double gamma_half(double x)
{
    return erf(sqrt(x / 2));
}

static double gamma_two(double x)
{
    return 1 - exp(-2 * x) * (1 + 2 * x);
}

static double gamma_three(double x)
{
    return 1 - exp(-3 * x) * (1 + 3 * x + 4.5 * x * x);
}

TEST(poisson_gaps_are_exponential)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        draw_gaps(poisson(1000), seed);
        check_moments(1, 9);
        check_distribution(exponential);
    }
}

TEST(poisson_gaps_are_independent)
{
    draw_gaps(poisson(1000), 4);
    for (int lag = 1; lag <= 3; lag++) {
        double sum = 0;
        for (int i = lag; i < GAPS; i++) {
            sum += (gaps[i] - 1) * (gaps[i - lag] - 1) / GAPS;
        }
        CHECK_NEAR(sum, 0, 4.5 / sqrt(GAPS));
    }
}

/* With shape k the variance is 1/k and the fourth central moment 3/k^2 + 6/k^3. */
TEST(gamma_gaps_have_their_shape)
{
    const struct {
        double shape;
        double (*cumulative)(double);
    } cases[] = {{0.5, gamma_half}, {1, exponential}, {2, gamma_two}, {3, gamma_three},
                 {0.1, NULL},       {0.9, NULL},      {20, NULL},     {1000, NULL}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double k = cases[i].shape;
        draw_gaps(gamma_of(1000, k), 10 + i);
        check_moments(1 / k, 3 / (k * k) + 6 / (k * k * k));
        if (cases[i].cumulative != NULL) {
            check_distribution(cases[i].cumulative);
        }
    }
}

TEST(gamma_at_the_ends_of_its_shape)
{
    CHECK_NEAR(count_of(gamma_of(100, FM_ARRIVALS_SHAPE_MAX), 1, 1000 * SECOND), 100000, 2);
    CHECK(count_of(gamma_of(1e6, FM_ARRIVALS_SHAPE_MIN), 1, SECOND) > 0);
}

static struct fm_arrivals_spec on_off(double rate_hz)
{
    return (struct fm_arrivals_spec){
        .kind = FM_ARRIVALS_MMPP,
        .rate_hz = rate_hz,
        .states = {{.rate_hz = 1000, .mean_s = 0.5}, {.rate_hz = 0, .mean_s = 1.5}},
        .state_count = 2,
    };
}

/* At 1,000 per second a gap of 40 ms is a silence: chance makes one in e^40. Silences shorter than
 * that are not seen, which leaves e^(-0.04/1.5) of them, longer by 0.04 s on average. */
TEST(mmpp_is_on_and_off_as_long_as_told)
{
    struct fm_arrivals *arrivals = create(on_off(0), 1);
    uint64_t last_ns = 0;
    double silence_s = 0;
    double silence_squares = 0;
    uint64_t silences = 0;
    uint64_t count = 0;
    while (last_ns < 20000 * SECOND) {
        uint64_t time_ns = fm_arrivals_next(arrivals);
        double gap_s = (double)(time_ns - last_ns) / 1e9;
        if (gap_s > 0.04) {
            silences++;
            silence_s += gap_s;
            silence_squares += gap_s * gap_s;
        }
        last_ns = time_ns;
        count++;
    }
    fm_arrivals_destroy(arrivals);
    CHECK_NEAR((double)silences, 10000 * exp(-0.04 / 1.5), 300);
    CHECK_NEAR(silence_s / 20000, 0.75, 0.01);
    double mean = silence_s / (double)silences;
    CHECK_NEAR(mean, 1.54, 0.06);
    CHECK_NEAR(silence_squares / (double)silences - mean * mean, 2.25, 0.25); /* exponential */
    CHECK_NEAR((double)count / 20000, 250, 10);
}

/* Which state a tenth of a second was in is seen from its count: 0, about 20, about 200. */
TEST(mmpp_spends_its_time_in_proportion)
{
    struct fm_arrivals_spec spec = {
        .kind = FM_ARRIVALS_MMPP,
        .states = {{200, 2}, {0, 1}, {2000, 3}},
        .state_count = 3,
    };
    struct fm_arrivals *arrivals = create(spec, 2);
    uint32_t windows[3] = {0};
    uint64_t time_ns = fm_arrivals_next(arrivals);
    for (uint64_t window = 1; window <= 60000; window++) {
        unsigned count = 0;
        for (; time_ns < window * SECOND / 10; time_ns = fm_arrivals_next(arrivals)) {
            count++;
        }
        windows[count == 0 ? 0 : count < 80 ? 1 : 2]++;
    }
    fm_arrivals_destroy(arrivals);
    CHECK_NEAR(windows[0] / 60000.0, 1.0 / 6, 0.03);
    CHECK_NEAR(windows[1] / 60000.0, 2.0 / 6, 0.03);
    CHECK_NEAR(windows[2] / 60000.0, 3.0 / 6, 0.03);
}

/* Heffes and Lucantoni (1986): in the long run the variance of a count is its mean times 1 +
 * 2 (a-b)^2 p q / ((p+q)^2 (a q + b p)) for rates a, b left at p, q per second. */
TEST(mmpp_counts_vary_as_theory_says)
{
    struct fm_arrivals_spec spec = {
        .kind = FM_ARRIVALS_MMPP, .states = {{300, 0.1}, {50, 0.2}}, .state_count = 2};
    struct fm_arrivals *arrivals = create(spec, 3);
    double mean = 0;
    double squares = 0;
    uint64_t time_ns = fm_arrivals_next(arrivals);
    for (uint64_t window = 1; window <= 5000; window++) {
        double count = 0;
        for (; time_ns < window * 10 * SECOND; time_ns = fm_arrivals_next(arrivals)) {
            count++;
        }
        mean += count / 5000;
        squares += count * count / 5000;
    }
    fm_arrivals_destroy(arrivals);
    double p = 10;
    double q = 5;
    double dispersion = 1 + 2 * 250.0 * 250.0 * p * q / ((p + q) * (p + q) * (300 * q + 50 * p));
    CHECK_NEAR(mean, 10 * (300.0 * q + 50 * p) / (p + q), 5);
    /* A variance of 5,000 counts has a standard error of 2 %; the window's ends cost under 1 %. */
    CHECK_NEAR((squares - mean * mean) / mean, dispersion, 0.1 * dispersion);
}

/* Only one state of three lets anything arrive, and at once: who sees that began in it. */
TEST(mmpp_begins_as_in_the_long_run)
{
    for (uint32_t busy = 0; busy < 3; busy++) {
        struct fm_arrivals_spec spec = {
            .kind = FM_ARRIVALS_MMPP,
            .states = {{0, 1}, {0, 2}, {0, 3}},
            .state_count = 3,
        };
        spec.states[busy].rate_hz = 1e6;
        unsigned began = 0;
        for (uint64_t seed = 0; seed < 6000; seed++) {
            struct fm_arrivals *arrivals = create(spec, seed);
            began += fm_arrivals_next(arrivals) < SECOND / 10000;
            fm_arrivals_destroy(arrivals);
        }
        CHECK_NEAR(began, 1000 * (busy + 1), 180);
    }
}

TEST(mmpp_mean_is_the_rate_given)
{
    CHECK_NEAR((double)count_of(on_off(50), 5, 20000 * SECOND) / 20000, 50, 2);
    struct fm_arrivals_spec spec = on_off(50);
    spec.scale = 3;
    CHECK_NEAR((double)count_of(spec, 5, 20000 * SECOND) / 20000, 150, 6);
}

/* 10 s at 1, a ramp to 3 over 10 s, 5 s of silence, a jump to 0.5. */
static const struct fm_arrivals_step course[] = {
    {.at_ns = 10 * SECOND, .factor = 1},
    {.at_ns = 20 * SECOND, .factor = 3, .ramp = true},
    {.at_ns = 20 * SECOND, .factor = 0},
    {.at_ns = 25 * SECOND, .factor = 0.5},
};

static const struct {
    uint64_t end_s;
    double expected; /* arrivals at rate 1 since the row before */
} course_counts[] = {{10, 10}, {15, 7.5}, {20, 12.5}, {25, 0}, {35, 5}, {1025, 495}};

static void check_course(struct fm_arrivals_spec spec, double rate_hz, double deviations)
{
    spec.steps = course;
    spec.step_count = 4;
    struct fm_arrivals *arrivals = create(spec, 6);
    uint64_t time_ns = fm_arrivals_next(arrivals);
    for (size_t i = 0; i < sizeof(course_counts) / sizeof(course_counts[0]); i++) {
        double count = 0;
        for (; time_ns <= course_counts[i].end_s * SECOND; time_ns = fm_arrivals_next(arrivals)) {
            count++;
        }
        double expected = course_counts[i].expected * rate_hz;
        CHECK_NEAR(count, expected, deviations * sqrt(expected) + (expected > 0 ? 1 : 0));
    }
    fm_arrivals_destroy(arrivals);
}

TEST(steps_and_ramps_give_their_counts)
{
    check_course(constant(1000), 1000, 0);
    check_course(poisson(1000), 1000, 4.5);
    check_course(gamma_of(1000, 4), 1000, 2.25);
    struct fm_arrivals_spec quick = {/* so quick that its states average out */
                                     .kind = FM_ARRIVALS_MMPP,
                                     .rate_hz = 1000,
                                     .states = {{1, 1e-4}, {3, 1e-4}},
                                     .state_count = 2};
    check_course(quick, 1000, 5);
}

/* A ramp from 0 to 1 in 10 s has let x^2/20 arrive after x seconds. */
TEST(ramp_is_inverted_exactly)
{
    const struct fm_arrivals_step steps[] = {{0, 0, false}, {10 * SECOND, 1, true}};
    struct fm_arrivals_spec spec = constant(1000);
    spec.steps = steps;
    spec.step_count = 2;
    struct fm_arrivals *arrivals = create(spec, 1);
    for (int i = 1; i <= 5000; i++) {
        CHECK_NEAR((double)fm_arrivals_next(arrivals), sqrt(i * 0.02) * 1e9, 1);
    }
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 10 * SECOND + SECOND / 1000);
    fm_arrivals_destroy(arrivals);
}

TEST(periods_repeat)
{
    /* Per period of 10 s: 2 s at 1, 4 s of silence, 4 s at 2: 10 seconds' worth. */
    const struct fm_arrivals_step steps[] = {{2 * SECOND, 0, false}, {6 * SECOND, 2, false}};
    struct fm_arrivals_spec spec = constant(100);
    spec.steps = steps;
    spec.step_count = 2;
    spec.period_ns = 10 * SECOND;
    struct fm_arrivals *arrivals = create(spec, 1);
    for (uint64_t period = 0; period < 1000; period++) {
        for (uint64_t i = 1; i <= 1000; i++) {
            uint64_t offset_ns =
                i <= 200 ? i * (SECOND / 100) : 6 * SECOND + (i - 200) * (SECOND / 200);
            CHECK_NEAR((double)(fm_arrivals_next(arrivals) - period * 10 * SECOND),
                       (double)offset_ns, 1);
        }
    }
    fm_arrivals_destroy(arrivals);
    spec.kind = FM_ARRIVALS_POISSON;
    CHECK_NEAR((double)count_of(spec, 7, 10000 * SECOND), 1e6, 4500);
    struct fm_arrivals_spec bursts = on_off(10);
    bursts.steps = steps;
    bursts.step_count = 2;
    bursts.period_ns = 10 * SECOND;
    CHECK_NEAR((double)count_of(bursts, 7, 100000 * SECOND), 1e6, 3e4);
}

/* A nanosecond's period under one arrival in ten years is jumped over, not walked through. */
TEST(short_periods_under_slow_rates_cost_nothing)
{
    const struct fm_arrivals_step steps[] = {{0, 1, false}, {1, 0, false}};
    struct fm_arrivals_spec spec = constant(1e-8);
    spec.steps = steps;
    spec.step_count = 2;
    spec.period_ns = 2;
    struct fm_arrivals *arrivals = create(spec, 1);
    CHECK_NEAR((double)fm_arrivals_next(arrivals), 2e17, 1e3);
    CHECK_NEAR((double)fm_arrivals_next(arrivals), 4e17, 1e3);
    fm_arrivals_destroy(arrivals);
}

TEST(silence_for_good_is_never)
{
    const struct fm_arrivals_step steps[] = {{5 * SECOND, 0, false}};
    struct fm_arrivals_spec specs[] = {constant(10), poisson(10), gamma_of(10, 0.5), on_off(10)};
    for (size_t i = 0; i < 4; i++) {
        specs[i].steps = steps;
        specs[i].step_count = 1;
        CHECK(count_of(specs[i], 1, 5 * SECOND) <= 5000);
        struct fm_arrivals *arrivals = create(specs[i], 1);
        uint64_t time_ns = 0;
        while (time_ns != FM_ARRIVALS_NEVER) {
            time_ns = fm_arrivals_next(arrivals);
            CHECK(time_ns == FM_ARRIVALS_NEVER || time_ns <= 5 * SECOND);
        }
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), FM_ARRIVALS_NEVER);
        fm_arrivals_destroy(arrivals);
        const struct fm_arrivals_step always[] = {{0, 0, false}};
        specs[i].steps = always;
        specs[i].period_ns = i % 2 == 0 ? 0 : SECOND;
        arrivals = create(specs[i], 1);
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), FM_ARRIVALS_NEVER);
        fm_arrivals_destroy(arrivals);
    }
}

TEST(time_ends_at_never)
{
    struct fm_arrivals_spec specs[] = {constant(1e-9), poisson(1e-9), gamma_of(1e-9, 1),
                                       on_off(1e-9)};
    specs[3].states[0].mean_s = 1e8;
    specs[3].states[1].mean_s = 1e8;
    for (size_t i = 0; i < 4; i++) {
        struct fm_arrivals *arrivals = create(specs[i], 1);
        uint64_t last_ns = 0;
        int finite = 0;
        for (int j = 0; j < 200; j++) {
            uint64_t time_ns = fm_arrivals_next(arrivals);
            CHECK(time_ns >= last_ns);
            finite += time_ns != FM_ARRIVALS_NEVER;
            last_ns = time_ns;
        }
        CHECK_UINT_EQ(last_ns, FM_ARRIVALS_NEVER);
        CHECK(i == 3 || finite > 2); /* 18 on average */
        fm_arrivals_destroy(arrivals);
    }
}

TEST(trace_comes_as_given)
{
    const uint64_t times[] = {0, 5, 5, SECOND, UINT64_C(9007199254740993), UINT64_MAX - 1};
    struct fm_arrivals_spec spec = {.kind = FM_ARRIVALS_TRACE, .times_ns = times, .time_count = 6};
    struct fm_arrivals *arrivals = create(spec, 1);
    for (int i = 0; i < 6; i++) {
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), times[i]);
    }
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), FM_ARRIVALS_NEVER);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), FM_ARRIVALS_NEVER);
    fm_arrivals_destroy(arrivals);
}

TEST(trace_runs_faster_and_along_the_steps)
{
    const uint64_t times[] = {2 * SECOND, 8 * SECOND, 10 * SECOND, 20 * SECOND};
    struct fm_arrivals_spec spec = {
        .kind = FM_ARRIVALS_TRACE, .times_ns = times, .time_count = 4, .scale = 4};
    struct fm_arrivals *arrivals = create(spec, 1);
    for (int i = 0; i < 4; i++) {
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), times[i] / 4);
    }
    fm_arrivals_destroy(arrivals);
    /* At half speed from 1 s on: what came at 1 + x comes at 1 + 2 x. Stands still from 4 s on. */
    const struct fm_arrivals_step steps[] = {{SECOND, 0.5, false}, {4 * SECOND, 0, false}};
    spec.steps = steps;
    spec.step_count = 2;
    arrivals = create(spec, 1);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), SECOND / 2);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 3 * SECOND);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 4 * SECOND);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), FM_ARRIVALS_NEVER);
    fm_arrivals_destroy(arrivals);
}

TEST(nothing_arrives_in_the_silence_at_the_start)
{
    const uint64_t times[] = {0, SECOND};
    const struct fm_arrivals_step steps[] = {{0, 0, false}, {3 * SECOND, 1, false}};
    struct fm_arrivals_spec spec = {.kind = FM_ARRIVALS_TRACE,
                                    .times_ns = times,
                                    .time_count = 2,
                                    .steps = steps,
                                    .step_count = 2};
    struct fm_arrivals *arrivals = create(spec, 1);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 3 * SECOND);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 4 * SECOND);
    fm_arrivals_destroy(arrivals);
}

TEST(scale_multiplies_the_rate)
{
    struct fm_arrivals_spec specs[] = {constant(100), poisson(100), gamma_of(100, 2)};
    for (size_t i = 0; i < 3; i++) {
        specs[i].scale = 2.5;
        CHECK_NEAR((double)count_of(specs[i], 8, 1000 * SECOND), 250000, i == 0 ? 0 : 2250);
    }
}

/* These are in the recorded seeds of simulations: a change of any is a change of all of those. */
TEST(same_seed_same_times_everywhere)
{
    static uint64_t times[100000];
    for (uint64_t i = 0; i < 100000; i++) {
        times[i] = i * i * 7919;
    }
    struct fm_arrivals_spec specs[] = {
        constant(777),
        poisson(1234.5),
        gamma_of(1000, 0.3),
        gamma_of(1000, 5),
        on_off(0),
        {.kind = FM_ARRIVALS_TRACE, .times_ns = times, .time_count = 100000, .scale = 0.7},
    };
    static const uint64_t expected[6][2] = {
        {UINT64_C(0xee1a05264edc3871), UINT64_C(0xad230c08f43b0f88)},
        {UINT64_C(0xc513342b30177748), UINT64_C(0xd389e038a610cbb7)},
        {UINT64_C(0xb8d432acfe4fd9ac), UINT64_C(0x2e700838a4240079)},
        {UINT64_C(0x964dd523102d4bb8), UINT64_C(0x298179eed625fb7c)},
        {UINT64_C(0xd9bf3fec7bf3f365), UINT64_C(0x4729f29534c8c46e)},
        {UINT64_C(0xc62b93f36f79f7ae), UINT64_C(0x9540316c8ead7a3d)},
    };
    for (size_t i = 0; i < 6; i++) {
        for (size_t stepped = 0; stepped < 2; stepped++) {
            specs[i].steps = stepped ? course : NULL;
            specs[i].step_count = stepped ? 4 : 0;
            specs[i].period_ns = stepped ? 30 * SECOND : 0;
            struct fm_arrivals *arrivals = create(specs[i], 42);
            uint64_t hash = FM_HASH_START;
            for (int j = 0; j < 100000; j++) {
                uint64_t time_ns = fm_arrivals_next(arrivals);
                hash = fm_hash_add(hash, &time_ns, sizeof(time_ns));
            }
            fm_arrivals_destroy(arrivals);
            CHECK_UINT_EQ(hash, expected[i][stepped]);
        }
    }
}

TEST(a_scaled_trace_is_each_time_scaled)
{
    /* Not a sum of scaled gaps, which would drift away from what it is a sum of. */
    static uint64_t times[100000];
    for (uint64_t i = 0; i < 100000; i++) {
        times[i] = i * UINT64_C(333333333);
    }
    struct fm_arrivals *arrivals = create(
        (struct fm_arrivals_spec){
            .kind = FM_ARRIVALS_TRACE, .times_ns = times, .time_count = 100000, .scale = 3},
        1);
    for (uint64_t i = 0; i < 100000; i++) {
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), i * UINT64_C(111111111));
    }
    fm_arrivals_destroy(arrivals);
    CHECK_UINT_EQ(fm_arrivals_trace_time_ns(UINT64_MAX, 1), UINT64_MAX);
    CHECK_UINT_EQ(fm_arrivals_trace_time_ns(1000, 3), 333);
    CHECK_UINT_EQ(fm_arrivals_trace_time_ns(UINT64_C(1) << 56, 1e-6), FM_ARRIVALS_NEVER);
}

/* The times themselves: unit test loadgen_schedule. */
TEST(loadgen_is_its_schedule)
{
    struct fm_arrivals_spec spec = {.kind = FM_ARRIVALS_LOADGEN,
                                    .rate_hz = 40,
                                    .scale = 2.5,
                                    .loadgen_seed = UINT64_C(3133965575612453542),
                                    .loadgen_seeded = true};
    static const uint64_t expected[] = {0, 16149182, 16541507, 43130892};
    struct fm_arrivals *arrivals = create(spec, 7);
    for (int i = 0; i < 4; i++) {
        CHECK_UINT_EQ(fm_arrivals_next(arrivals), expected[i]);
    }
    fm_arrivals_destroy(arrivals);
    spec.loadgen_seeded = false; /* then it is the stream's */
    arrivals = create(spec, UINT64_C(3133965575612453542));
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), 0);
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), expected[1]);
    fm_arrivals_destroy(arrivals);
    spec = (struct fm_arrivals_spec){.kind = FM_ARRIVALS_LOADGEN, .rate_hz = 1e-9};
    arrivals = create(spec, 1);
    for (int i = 0; i < 100; i++) {
        (void)fm_arrivals_next(arrivals);
    }
    CHECK_UINT_EQ(fm_arrivals_next(arrivals), FM_ARRIVALS_NEVER);
    fm_arrivals_destroy(arrivals);
}

TEST(seeds_differ)
{
    struct fm_arrivals *one = create(poisson(1), 1);
    struct fm_arrivals *two = create(poisson(1), 2);
    CHECK(fm_arrivals_next(one) != fm_arrivals_next(two));
    fm_arrivals_destroy(one);
    fm_arrivals_destroy(two);
}

TEST(out_of_memory)
{
    struct fm_arrivals_spec spec = poisson(1);
    struct fm_arrivals *arrivals = NULL;
    struct fm_error error = {0};
    (void)fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_arrivals_create(&spec, 1, &arrivals, &error), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    CHECK_PTR_EQ(arrivals, NULL);
    CHECK_STR_CONTAINS(error.text, "out of memory");
    spec.kind = FM_ARRIVALS_LOADGEN;
    for (uint64_t call = 1; call <= 2; call++) {
        (void)fm_memory_fail_at(call, 0);
        CHECK_INT_EQ(fm_arrivals_create(&spec, 1, &arrivals, &error), FM_ENOMEM);
        (void)fm_memory_fail_at(0, 0);
        CHECK_PTR_EQ(arrivals, NULL);
    }
    fm_arrivals_destroy(NULL);
}

/* The message, or "" when it was taken after all. */
static const char *refusal(struct fm_arrivals_spec spec)
{
    static struct fm_error error;
    struct fm_arrivals *arrivals = NULL;
    error = (struct fm_error){0};
    int status = fm_arrivals_create(&spec, 1, &arrivals, &error);
    fm_arrivals_destroy(arrivals);
    return status == FM_EINVAL && arrivals == NULL ? error.text : "";
}

TEST(numbers_that_are_refused)
{
    struct fm_arrivals_spec spec = poisson(1);
    spec.kind = FM_ARRIVALS_KIND_COUNT_;
    CHECK_STR_CONTAINS(refusal(spec), "kind: 6");
    const double wrong[] = {-1, 1e300, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        CHECK_STR_CONTAINS(refusal(constant(wrong[i])), "rate_hz: ");
        CHECK_STR_CONTAINS(refusal(poisson(wrong[i])), "rate_hz: ");
        CHECK_STR_CONTAINS(refusal(gamma_of(wrong[i], 1)), "rate_hz: ");
        CHECK_STR_CONTAINS(refusal(on_off(wrong[i])), "rate_hz: ");
        CHECK_STR_CONTAINS(refusal(gamma_of(1, wrong[i])), "shape: ");
        spec = poisson(1);
        spec.scale = wrong[i];
        CHECK_STR_CONTAINS(refusal(spec), "scale: ");
        spec = on_off(0);
        spec.states[1].rate_hz = wrong[i];
        CHECK_STR_CONTAINS(refusal(spec), "states[1].rate_hz: ");
        spec = on_off(0);
        spec.states[1].mean_s = wrong[i];
        CHECK_STR_CONTAINS(refusal(spec), "states[1].mean_s: ");
    }
    CHECK_STR_CONTAINS(refusal(constant(0)), "rate_hz: ");
    spec = (struct fm_arrivals_spec){.kind = FM_ARRIVALS_LOADGEN, .rate_hz = 0};
    CHECK_STR_CONTAINS(refusal(spec), "rate_hz: ");
    spec.rate_hz = 1e8;
    CHECK_STR_EQ(refusal(spec), "");
    spec.scale = 1.5;
    CHECK_STR_CONTAINS(refusal(spec), "times a scale of 1.5 is above 1e+08");
    CHECK_STR_CONTAINS(refusal(gamma_of(1, 0)), "shape: ");
    spec = on_off(0);
    spec.states[0].mean_s = 0;
    CHECK_STR_CONTAINS(refusal(spec), "states[0].mean_s: ");
    spec = on_off(0);
    spec.states[0].rate_hz = 0;
    CHECK_STR_CONTAINS(refusal(spec), "every rate_hz is 0");
    const uint32_t counts[] = {0, 1, FM_ARRIVALS_STATES_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        spec = on_off(0);
        spec.state_count = counts[i];
        CHECK_STR_CONTAINS(refusal(spec), "states: ");
    }
}

TEST(steps_that_are_refused)
{
    struct fm_arrivals_step steps[] = {{1, 1, false}, {2, 1, false}};
    struct fm_arrivals_spec spec = poisson(1);
    spec.step_count = 2;
    CHECK_STR_CONTAINS(refusal(spec), "steps: ");
    spec.steps = steps;
    CHECK_STR_EQ(refusal(spec), "");
    spec.step_count = FM_ARRIVALS_STEPS_MAX + 1;
    CHECK_STR_CONTAINS(refusal(spec), "step_count: ");
    spec.step_count = 2;
    steps[1].at_ns = 0;
    CHECK_STR_CONTAINS(refusal(spec), "steps[1].at_ns: ");
    steps[1].at_ns = UINT64_MAX;
    CHECK_STR_CONTAINS(refusal(spec), "steps[1].at_ns: ");
    steps[1].at_ns = 2;
    const double wrong[] = {-1, 1e300, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        steps[1].factor = wrong[i];
        CHECK_STR_CONTAINS(refusal(spec), "steps[1].factor: ");
    }
    steps[1].factor = 1;
    spec.period_ns = 1;
    CHECK_STR_CONTAINS(refusal(spec), "period_ns: ");
    spec.period_ns = 2;
    CHECK_STR_EQ(refusal(spec), "");
    spec.kind = FM_ARRIVALS_LOADGEN;
    CHECK_STR_CONTAINS(refusal(spec), "steps: LoadGen's schedule has one rate");
    spec.step_count = 0;
    CHECK_STR_CONTAINS(refusal(spec), "period_ns: ");
    spec.period_ns = 0;
    CHECK_STR_EQ(refusal(spec), "");
}

TEST(traces_that_are_refused)
{
    const uint64_t times[] = {1, 3, 2};
    struct fm_arrivals_spec spec = {.kind = FM_ARRIVALS_TRACE};
    CHECK_STR_CONTAINS(refusal(spec), "times_ns: ");
    spec.time_count = 3;
    CHECK_STR_CONTAINS(refusal(spec), "times_ns: ");
    spec.times_ns = times;
    CHECK_STR_CONTAINS(refusal(spec), "times_ns[2]: 2 is before");
    spec.time_count = 2;
    CHECK_STR_EQ(refusal(spec), "");
}

TEST(kinds_have_names)
{
    for (unsigned i = 0; i < FM_ARRIVALS_KIND_COUNT_; i++) {
        enum fm_arrivals_kind kind = (enum fm_arrivals_kind)i;
        CHECK_INT_EQ(fm_arrivals_kind_parse(fm_arrivals_kind_name(kind)), kind);
    }
    CHECK_INT_EQ(fm_arrivals_kind_parse("Poisson"), FM_ARRIVALS_KIND_COUNT_);
    CHECK_INT_EQ(fm_arrivals_kind_parse(""), FM_ARRIVALS_KIND_COUNT_);
    CHECK_STR_EQ(fm_arrivals_kind_name(FM_ARRIVALS_KIND_COUNT_), "unknown");
}

TEST_MAIN()
