/*
 * Arrivals under random courses of the rate, against plain integration: the k-th arrival of a
 * constant stream comes when the integrated rate reaches k, whatever steps, ramps, silences and
 * periods make of it; the random kinds put their gaps through the same clock.
 */
#include "core/load/arrivals.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

enum { STEPS = 12, CASES = 100, ARRIVALS = 300 };

struct plan {
    struct fm_arrivals_step steps[STEPS];
    struct fm_arrivals_spec spec;
};

static void random_plan(struct fm_random *random, struct plan *plan)
{
    uint64_t at_ns = 0;
    uint64_t stride_ns = UINT64_C(1) << (10 + fm_random_below(random, 28));
    plan->spec = (struct fm_arrivals_spec){
        .kind = FM_ARRIVALS_CONSTANT,
        .rate_hz = 1e9 / (double)(1 + fm_random_below(random, stride_ns)),
        .scale = fm_random_below(random, 2) == 0 ? 0 : 0.1 + 2 * fm_random_unit(random),
        .steps = plan->steps,
        .step_count = (uint32_t)fm_random_below(random, STEPS + 1),
    };
    for (uint32_t i = 0; i < plan->spec.step_count; i++) {
        at_ns += fm_random_below(random, 4) == 0 ? 0 : fm_random_below(random, stride_ns);
        plan->steps[i] = (struct fm_arrivals_step){
            .at_ns = at_ns,
            .factor = fm_random_below(random, 3) == 0 ? 0 : 3 * fm_random_unit(random),
            .ramp = fm_random_below(random, 2) == 0,
        };
    }
    if (plan->spec.step_count > 0 && fm_random_below(random, 2) == 0) {
        plan->spec.period_ns = at_ns + fm_random_below(random, stride_ns) + 1;
    }
}

/* The integral of the factor from 0 to time_ns of one period, in nanoseconds. */
static long double within_period(const struct plan *plan, uint64_t time_ns)
{
    long double area = 0;
    long double factor = 1;
    uint64_t start_ns = 0;
    for (uint32_t i = 0; i < plan->spec.step_count; i++) {
        const struct fm_arrivals_step *step = &plan->steps[i];
        uint64_t end_ns = step->at_ns < time_ns ? step->at_ns : time_ns;
        if (end_ns > start_ns) {
            long double x = (long double)(end_ns - start_ns);
            long double length = (long double)(step->at_ns - start_ns);
            long double slope = step->ramp ? ((long double)step->factor - factor) / length : 0;
            area += factor * x + slope * x * x / 2;
        }
        if (step->at_ns >= time_ns) {
            return area;
        }
        start_ns = step->at_ns;
        factor = (long double)step->factor;
    }
    return area + factor * (long double)(time_ns - start_ns);
}

static long double integral(const struct plan *plan, uint64_t time_ns)
{
    uint64_t period_ns = plan->spec.period_ns;
    if (period_ns == 0) {
        return within_period(plan, time_ns);
    }
    return (long double)(time_ns / period_ns) * within_period(plan, period_ns) +
           within_period(plan, time_ns % period_ns);
}

/* Half a nanosecond of rounding on either side, and what doubles lose. */
static bool reached(const struct plan *plan, uint64_t time_ns, long double target)
{
    long double slack = 1e-9L * target + 1e-9L;
    return integral(plan, time_ns + 1) >= target - slack &&
           integral(plan, time_ns > 0 ? time_ns - 1 : 0) <= target + slack;
}

static void check_plan(const struct plan *plan, uint64_t seed)
{
    struct fm_arrivals *arrivals = NULL;
    CHECK_INT_EQ(fm_arrivals_create(&plan->spec, seed, &arrivals, NULL), 0);
    double scale = plan->spec.scale == 0 ? 1 : plan->spec.scale;
    long double gap = 1e9L / ((long double)plan->spec.rate_hz * (long double)scale);
    uint64_t last_ns = 0;
    for (unsigned k = 1; k <= ARRIVALS; k++) {
        uint64_t time_ns = fm_arrivals_next(arrivals);
        if (time_ns == FM_ARRIVALS_NEVER) {
            /* Honest only when the whole of time does not hold it. */
            CHECK(integral(plan, UINT64_MAX / 4) < gap * k * (1 + 1e-9L) + 1e-9L);
            break;
        }
        CHECK(time_ns >= last_ns);
        CHECK(reached(plan, time_ns, gap * k));
        last_ns = time_ns;
    }
    fm_arrivals_destroy(arrivals);
}

TEST(constant_follows_the_integrated_rate)
{
    for (uint64_t seed = 0; seed < CASES && fm_test_failed == 0; seed++) {
        struct fm_random random;
        struct plan plan;
        fm_random_init(&random, seed);
        random_plan(&random, &plan);
        check_plan(&plan, seed);
        if (fm_test_failed != 0) {
            printf("# seed %" PRIu64 "\n", seed);
        }
    }
}

/* Random gaps at unit rate are the integrals between the arrivals: put through a course, a stream
 * must show the integrals that the same stream shows as times without it. */
static void check_gaps(struct plan *plan, enum fm_arrivals_kind kind, uint64_t seed)
{
    plan->spec.kind = kind;
    plan->spec.shape = 0.7;
    struct fm_arrivals_spec plain = plan->spec;
    plain.steps = NULL;
    plain.step_count = 0;
    plain.period_ns = 0;
    struct fm_arrivals *coursed = NULL;
    struct fm_arrivals *straight = NULL;
    CHECK_INT_EQ(fm_arrivals_create(&plan->spec, seed, &coursed, NULL), 0);
    CHECK_INT_EQ(fm_arrivals_create(&plain, seed, &straight, NULL), 0);
    for (unsigned k = 1; k <= ARRIVALS; k++) {
        uint64_t time_ns = fm_arrivals_next(coursed);
        uint64_t plain_ns = fm_arrivals_next(straight);
        if (time_ns == FM_ARRIVALS_NEVER) {
            break;
        }
        long double slack = 1e-9L * (long double)plain_ns + 1;
        CHECK(integral(plan, time_ns + 1) >= (long double)plain_ns - slack);
        CHECK(integral(plan, time_ns > 0 ? time_ns - 1 : 0) <= (long double)plain_ns + slack);
    }
    fm_arrivals_destroy(coursed);
    fm_arrivals_destroy(straight);
}

TEST(random_kinds_follow_it_too)
{
    for (uint64_t seed = 0; seed < CASES && fm_test_failed == 0; seed++) {
        struct fm_random random;
        struct plan plan;
        fm_random_init(&random, seed + 1000);
        random_plan(&random, &plan);
        check_gaps(&plan, seed % 2 == 0 ? FM_ARRIVALS_POISSON : FM_ARRIVALS_GAMMA, seed);
        if (fm_test_failed != 0) {
            printf("# seed %" PRIu64 "\n", seed + 1000);
        }
    }
}

/* Of MMPP, whose states live in real time: order, silence where the factor is 0, the same twice. */
static void check_mmpp(struct plan *plan, uint64_t seed)
{
    plan->spec.kind = FM_ARRIVALS_MMPP;
    plan->spec.state_count = 3;
    plan->spec.states[0] = (struct fm_arrivals_state){1, 0.01};
    plan->spec.states[1] = (struct fm_arrivals_state){0, 0.02};
    plan->spec.states[2] = (struct fm_arrivals_state){5, 0.001};
    struct fm_arrivals *one = NULL;
    struct fm_arrivals *two = NULL;
    CHECK_INT_EQ(fm_arrivals_create(&plan->spec, seed, &one, NULL), 0);
    CHECK_INT_EQ(fm_arrivals_create(&plan->spec, seed, &two, NULL), 0);
    uint64_t last_ns = 0;
    for (unsigned k = 1; k <= ARRIVALS && last_ns != FM_ARRIVALS_NEVER; k++) {
        uint64_t time_ns = fm_arrivals_next(one);
        CHECK_UINT_EQ(fm_arrivals_next(two), time_ns);
        CHECK(time_ns >= last_ns);
        if (time_ns != FM_ARRIVALS_NEVER) {
            CHECK(integral(plan, time_ns + 1) > integral(plan, time_ns > 0 ? time_ns - 1 : 0));
        }
        last_ns = time_ns;
    }
    fm_arrivals_destroy(one);
    fm_arrivals_destroy(two);
}

TEST(mmpp_keeps_silence)
{
    for (uint64_t seed = 0; seed < CASES && fm_test_failed == 0; seed++) {
        struct fm_random random;
        struct plan plan;
        fm_random_init(&random, seed + 2000);
        random_plan(&random, &plan);
        check_mmpp(&plan, seed);
        if (fm_test_failed != 0) {
            printf("# seed %" PRIu64 "\n", seed + 2000);
        }
    }
}

TEST_MAIN()
