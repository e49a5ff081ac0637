/*
 * rate_search on simulated targets: queues of Poisson arrivals whose percentile of a finite run is
 * noisy, as measured ones are. What it finds is held against the rate at which a run of half a
 * million requests meets the SLO exactly.
 */
#include "core/bench/rate_search.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

enum { REQUESTS_MAX = 500000, SEARCHES = 60 };

/* One accelerator: a batch of b takes (fixed + row * b) of a second, and takes all that wait, up to
 * batch_max; the times of batches are lognormal with `sigma`. */
struct target {
    const char *name;
    double fixed_s;
    double row_s;
    unsigned batch_max;
    double sigma;
    double slo_s;
    double seconds; /* that a run lasts */
};

static double latencies[REQUESTS_MAX];

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static double gap_s(struct fm_random *random, double rate_hz)
{
    return -log(1 - fm_random_unit(random)) / rate_hz;
}

/* The 99th percentile of a run of `count` requests. */
static double percentile_s(const struct target *target, double rate_hz, unsigned count,
                           uint64_t seed)
{
    static double arrivals[REQUESTS_MAX];
    struct fm_random random;
    fm_random_init(&random, seed);
    double time_s = 0;
    for (unsigned i = 0; i < count; i++) {
        time_s += gap_s(&random, rate_hz);
        arrivals[i] = time_s;
    }
    double free_s = 0;
    for (unsigned first = 0; first < count;) {
        double begin_s = fmax(free_s, arrivals[first]);
        unsigned size = 1;
        while (size < target->batch_max && first + size < count &&
               arrivals[first + size] <= begin_s) {
            size++;
        }
        double factor = target->sigma > 0 ? exp(target->sigma * fm_random_normal(&random)) : 1;
        free_s = begin_s + (target->fixed_s + target->row_s * size) * factor;
        for (unsigned i = first; i < first + size; i++) {
            latencies[i] = free_s - arrivals[i];
        }
        first += size;
    }
    qsort(latencies, count, sizeof latencies[0], compare);
    return latencies[(unsigned)(0.99 * count)];
}

static double capacity_hz(const struct target *target)
{
    return target->batch_max / (target->fixed_s + target->row_s * target->batch_max);
}

/* By halving, with the same arrivals scaled: their percentile grows with the rate. */
static double truth_hz(const struct target *target)
{
    double low = 0.05 * capacity_hz(target);
    double high = capacity_hz(target);
    for (int i = 0; i < 10; i++) {
        double middle = (low + high) / 2;
        *(percentile_s(target, middle, REQUESTS_MAX, 99) <= target->slo_s ? &low : &high) = middle;
    }
    return (low + high) / 2;
}

static void search_once(const struct target *target, uint64_t seed, double start_hz,
                        struct fm_rate_search_result *ret_result)
{
    struct fm_rate_search search;
    struct fm_rate_search_options options = {.start_hz = start_hz};
    if (fm_rate_search_init(&search, &options, NULL) != 0) {
        abort();
    }
    for (uint64_t run = 0; fm_rate_search_next(&search) > 0; run++) {
        double rate_hz = fm_rate_search_next(&search);
        double wanted = rate_hz * target->seconds;
        unsigned count = wanted < REQUESTS_MAX ? (unsigned)wanted : REQUESTS_MAX;
        double margin =
            percentile_s(target, rate_hz, count < 100 ? 100 : count, seed * 1000 + run) /
            target->slo_s;
        fm_rate_search_take(&search, margin <= 1 ? FM_RATE_SEARCH_MET : FM_RATE_SEARCH_MISSED,
                            margin);
    }
    fm_rate_search_result(&search, ret_result);
}

/* Bounds of the median error and of the mean number of runs: measured, with a reserve. */
static void check_target(const struct target *target, double error_bound, double runs_bound)
{
    static double errors[SEARCHES];
    static double estimates[SEARCHES];
    double truth = truth_hz(target);
    double runs = 0;
    uint32_t runs_most = 0;
    unsigned found = 0;
    for (uint64_t seed = 0; seed < SEARCHES; seed++) {
        struct fm_rate_search_result result;
        struct fm_random random;
        fm_random_init(&random, seed);
        double start_hz = truth * exp(4 * (fm_random_unit(&random) - 0.5)); /* 1/7 to 7 times */
        search_once(target, seed, start_hz, &result);
        errors[seed] = fabs(result.met_hz / truth - 1);
        estimates[seed] = fabs(result.estimate_hz / truth - 1);
        runs += (double)result.runs / SEARCHES;
        runs_most = result.runs > runs_most ? result.runs : runs_most;
        found += result.end == FM_RATE_SEARCH_FOUND;
    }
    qsort(errors, SEARCHES, sizeof errors[0], compare);
    qsort(estimates, SEARCHES, sizeof estimates[0], compare);
    double median = errors[SEARCHES / 2];
    printf("# %s: truth %.1f/s (%.0f %% of capacity), error median %.2f %%, 90th %.2f %%, most "
           "%.2f %%; estimate median %.2f %%, most %.2f %%; runs mean %.1f, most %u; %u of %d "
           "ended with a bracket\n",
           target->name, truth, 100 * truth / capacity_hz(target), median * 100,
           errors[SEARCHES * 9 / 10] * 100, errors[SEARCHES - 1] * 100,
           estimates[SEARCHES / 2] * 100, estimates[SEARCHES - 1] * 100, runs, runs_most, found,
           SEARCHES);
    CHECK(median <= error_bound);
    CHECK(estimates[SEARCHES / 2] <= error_bound);
    CHECK(errors[SEARCHES * 9 / 10] <= 3 * error_bound);
    CHECK(runs <= runs_bound);
    CHECK(found >= SEARCHES * 9 / 10);
}

TEST(one_at_a_time)
{
    check_target(&(struct target){"M/D/1", 0.001, 0, 1, 0, 0.010, 20}, 0.02, 12);
}

TEST(one_at_a_time_with_a_tight_slo)
{
    check_target(&(struct target){"M/D/1, tight", 0.001, 0, 1, 0, 0.0025, 60}, 0.03, 15);
}

TEST(noisy_service)
{
    check_target(&(struct target){"M/G/1, sigma 0.5", 0.002, 0, 1, 0.5, 0.030, 30}, 0.02, 14);
}

TEST(batches)
{
    check_target(&(struct target){"batches up to 16", 0.005, 0.001, 16, 0.05, 0.040, 10}, 0.02, 13);
}

/* Under a thousand requests a run: their 99th percentile alone errs by a fifth. */
TEST(batches_in_short_runs)
{
    check_target(&(struct target){"batches up to 8, 3 s runs", 0.004, 0.002, 8, 0.1, 0.050, 3},
                 0.06, 14);
}

TEST_MAIN()
