/*
 * The guided search on invented servers, of which the whole grid is known: how near the best it
 * comes with 15 % of the measurements, with and without guesses, with noise, with configurations
 * that cannot be used; and how it ends.
 */
#include "core/bench/guided_search.h"

#include <math.h>

#include "core/util/random.h"
#include "tests/harness/test.h"

enum {
    POLICIES = 3,
    BATCHES = 6,
    THREADS = 3,
    INSTANCES = 4,
    GRID = POLICIES * BATCHES * THREADS * INSTANCES
};

static const struct fm_guided_dimension dimensions[] = {
    {POLICIES, false}, {BATCHES, true}, {THREADS, true}, {INSTANCES, true}};

/* A server on some cores: a batch takes (alpha + beta * rows) / speed, as in the latency profiles
 * of core/sched. Its goodput is what batches that are answered in time bring. */
struct server {
    double alpha_ms;
    double beta_ms;
    double cores;
    double thread_gain; /* speed = threads^gain */
    double slo_ms;
    double patience[POLICIES]; /* how many batches' time a request takes */
    double worth[POLICIES];
    double crowd; /* what more threads than cores cost */
};

static struct server server_draw(struct fm_random *random)
{
    struct server server = {.alpha_ms = pow(10, 2 * fm_random_unit(random) - 0.5),
                            .cores = 2 << fm_random_below(random, 3),
                            .thread_gain = 0.5 + 0.45 * fm_random_unit(random),
                            .crowd = 0.05 + 0.3 * fm_random_unit(random)};
    server.beta_ms = server.alpha_ms * pow(10, 1.5 * fm_random_unit(random) - 1.3);
    server.slo_ms = (server.alpha_ms + server.beta_ms) * (3 + 30 * fm_random_unit(random));
    for (unsigned i = 0; i < POLICIES; i++) {
        server.patience[i] = 2 + 1.5 * fm_random_unit(random);
        server.worth[i] = 0.75 + 0.25 * fm_random_unit(random);
    }
    return server;
}

static double goodput(const struct server *server, const uint32_t *choice)
{
    double threads = 1 << choice[2];
    double instances = choice[3] + 1;
    double used = threads * instances;
    double share = used > server->cores
                       ? server->cores / used / (1 + server->crowd * log2(used / server->cores))
                       : 1;
    double best = 0;
    for (uint32_t rows = 1; rows <= 1u << choice[1]; rows *= 2) {
        double batch_ms =
            (server->alpha_ms + server->beta_ms * rows) / pow(threads, server->thread_gain) / share;
        if (batch_ms * server->patience[choice[0]] <= server->slo_ms) {
            best = fmax(best, instances * rows / batch_ms * 1000 * server->worth[choice[0]]);
        }
    }
    return best;
}

struct outcome {
    double share; /* of the best there is */
    uint32_t runs;
    enum fm_guided_end end;
};

/* How far measurements are off, and guesses; a grid with fewer values, where batches, threads and
 * instances are only every so-manieth. */
struct trial {
    const char *name;
    uint32_t counts[4];
    double noise;
    double guess_error; /* below 0: there are none */
    double near_min;    /* of the servers come within 5 % of the best */
};

static uint32_t grid_of(const struct trial *trial)
{
    return trial->counts[0] * trial->counts[1] * trial->counts[2] * trial->counts[3];
}

static struct outcome search_run(const struct trial *trial, uint64_t seed)
{
    struct fm_random random;
    struct fm_guided_search *search = NULL;
    struct fm_guided_dimension sizes[4];
    double truth[GRID];
    double guesses[GRID];
    double most = 0;
    struct outcome outcome = {.share = 0};
    fm_random_init(&random, seed);
    const struct server server = server_draw(&random);
    double bias = exp(0.3 * fm_random_normal(&random));
    for (uint32_t i = 0; i < 4; i++) {
        sizes[i] = (struct fm_guided_dimension){trial->counts[i], dimensions[i].ordered};
    }
    const struct fm_guided_options options = {.dimensions = sizes,
                                              .dimension_count = 4,
                                              .ratios = true,
                                              .guesses = trial->guess_error < 0 ? NULL : guesses,
                                              .seed = seed};
    for (uint32_t i = 0; i < grid_of(trial); i++) {
        uint32_t choice[4];
        uint32_t rest = i;
        for (uint32_t k = 4; k-- > 0;) {
            choice[k] = rest % trial->counts[k] * (dimensions[k].count / trial->counts[k]);
            rest /= trial->counts[k];
        }
        truth[i] = goodput(&server, choice);
        guesses[i] = truth[i] * bias * exp(trial->guess_error * fm_random_normal(&random));
        most = fmax(most, truth[i]);
    }
    if (most <= 0) {
        return (struct outcome){.share = 1, .end = FM_GUIDED_RUNS_OUT}; /* nothing meets this SLO */
    }
    if (fm_guided_search_create(&options, &search, NULL) != 0) {
        return outcome;
    }
    uint32_t index = 0;
    double score = 0;
    while (fm_guided_search_next(search, &index)) {
        score = truth[index] * exp(trial->noise * fm_random_normal(&random));
        if (fm_guided_search_tell(search, index, score) != 0) {
            return outcome;
        }
    }
    if (fm_guided_search_best(search, &index, &score)) {
        outcome.share = truth[index] / most;
    }
    outcome.runs = fm_guided_search_runs(search);
    outcome.end = fm_guided_search_end(search);
    fm_guided_search_destroy(search);
    return outcome;
}

TEST(near_the_best_with_few_measurements)
{
    enum { SERVERS = 40 };
    static const struct trial trials[] = {
        {"no guesses, no noise", {3, 6, 3, 4}, 0, -1, 0.85},
        {"no guesses, 2 % noise", {3, 6, 3, 4}, 0.02, -1, 0.85},
        {"guesses 20 % off, 2 % noise", {3, 6, 3, 4}, 0.02, 0.2, 0.95},
        {"guesses 50 % off, 2 % noise", {3, 6, 3, 4}, 0.02, 0.5, 0.85},
        {"a small grid, no guesses, 2 % noise", {2, 3, 3, 2}, 0.02, -1, 0.2},
        {"a small grid, guesses 10 % off, 2 % noise", {2, 3, 3, 2}, 0.02, 0.1, 0.85},
    };
    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        const struct trial *trial = &trials[i];
        uint32_t near = 0;
        double worst = 1;
        for (uint64_t seed = 1; seed <= SERVERS; seed++) {
            struct outcome outcome = search_run(trial, seed);
            near += outcome.share >= 0.95;
            worst = fmin(worst, outcome.share);
            CHECK(outcome.runs * 100 <= grid_of(trial) * 15);
            CHECK_INT_EQ(outcome.end, FM_GUIDED_RUNS_OUT);
        }
        printf(
            "# %s: %.1f %% of the servers within 5 %% of the best, the worst at %.2f, with 15 %% "
            "of %u runs\n",
            trial->name, 100.0 * near / SERVERS, worst, grid_of(trial));
        CHECK((double)near / SERVERS >= trial->near_min);
    }
}

TEST(a_search_without_end_of_runs_measures_everything_once)
{
    struct fm_guided_search *search = NULL;
    bool seen[GRID] = {false};
    uint32_t index = 0;
    uint32_t again = 0;
    double score = 0;
    const struct fm_guided_options options = {
        .dimensions = dimensions, .dimension_count = 4, .runs_max = 2 * GRID, .seed = 3};
    CHECK_INT_EQ(fm_guided_search_create(&options, &search, NULL), 0);
    CHECK(!fm_guided_search_best(search, &index, &score));
    /* Scores below 0, two of three configurations that cannot be used at all. */
    while (fm_guided_search_next(search, &index)) {
        CHECK(fm_guided_search_next(search, &again) && again == index);
        CHECK(index < GRID && !seen[index]);
        seen[index] = true;
        score = index % 3 == 0 ? -(double)index : -INFINITY;
        CHECK_INT_EQ(fm_guided_search_tell(search, index, score), 0);
        CHECK_INT_EQ(fm_guided_search_tell(search, index, score), FM_EEXIST);
    }
    CHECK_INT_EQ(fm_guided_search_end(search), FM_GUIDED_COMPLETE);
    CHECK_UINT_EQ(fm_guided_search_runs(search), GRID);
    CHECK(fm_guided_search_best(search, &index, &score) && index == 0 && score == 0);
    fm_guided_search_destroy(search);
}

TEST(what_was_known_before_counts_and_nothing_usable_is_told)
{
    struct fm_guided_search *search = NULL;
    uint32_t index = 0;
    double score = 0;
    uint32_t choice[4] = {0};
    const struct fm_guided_options options = {
        .dimensions = dimensions, .dimension_count = 4, .ratios = true, .runs_max = 10};
    CHECK_INT_EQ(fm_guided_search_create(&options, &search, NULL), 0);
    CHECK_INT_EQ(fm_guided_search_tell(search, GRID, 1), FM_EINVAL);
    CHECK_INT_EQ(fm_guided_search_tell(search, 0, NAN), FM_EINVAL);
    CHECK_INT_EQ(fm_guided_search_tell(search, 0, INFINITY), FM_EINVAL);
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_INT_EQ(fm_guided_search_tell(search, 17 * i, 0), 0);
    }
    CHECK(!fm_guided_search_best(search, &index, &score));
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(fm_guided_search_next(search, &index));
        fm_guided_search_choice(search, index, choice);
        CHECK_UINT_EQ(fm_guided_search_index(search, choice), index);
        CHECK_INT_EQ(fm_guided_search_tell(search, index, 0), 0);
    }
    CHECK(!fm_guided_search_next(search, &index));
    CHECK_INT_EQ(fm_guided_search_end(search), FM_GUIDED_RUNS_OUT);
    fm_guided_search_destroy(search);
}

TEST(options_that_make_no_search_are_told)
{
    struct fm_guided_search *search = NULL;
    struct fm_error error = {0};
    static const struct fm_guided_dimension none = {0, true};
    static const struct fm_guided_dimension many[] = {{300, true}, {300, true}};
    static const double guess = NAN;
    static const struct fm_guided_dimension one = {1, false};
    const struct {
        struct fm_guided_options options;
        const char *text;
    } cases[] = {{{.dimensions = dimensions}, "1 to 8 dimensions, not 0"},
                 {{.dimensions = dimensions, .dimension_count = 9}, "not 9"},
                 {{.dimensions = &none, .dimension_count = 1}, "dimension 1 has no values"},
                 {{.dimensions = many, .dimension_count = 2}, "more than 65536 configurations"},
                 {{.dimensions = &one, .dimension_count = 1, .guesses = &guess}, "not finite"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT_EQ(fm_guided_search_create(&cases[i].options, &search, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, cases[i].text);
    }
    const struct fm_guided_options single = {.dimensions = &one, .dimension_count = 1};
    uint32_t index = 7;
    CHECK_INT_EQ(fm_guided_search_create(&single, &search, &error), 0);
    CHECK(fm_guided_search_next(search, &index) && index == 0);
    fm_guided_search_destroy(search);
    fm_guided_search_destroy(NULL);
}

TEST_MAIN()
