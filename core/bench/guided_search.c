/*
 * The guided search. See guided_search.h.
 */
#include "core/bench/guided_search.h"

#include <math.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/random.h"

#define DEFAULT_PERCENT  15u
#define DEFAULT_RUNS_MIN 2u
/* Of the variance of scores: what repeats of one configuration differ by. */
#define NOISE 1e-3
/* Scores further below the median than this many spreads above it are taken as just there. */
#define FLOOR_SPREADS 2.0
/* Guesses are believed to be right as if so many measurements had said so, until more is known. */
#define SLOPE_BELIEF 0.25
#define SLOPE_MAX    3.0
/* Rounds of choosing length scales, one dimension after the other. */
#define SCALE_ROUNDS 2

/* Shares of a dimension's extent; of unordered ones, how much a difference counts. */
static const double length_scales[] = {0.15, 0.3, 0.6, 1.2, 3.0};
/* Shares of the variance. */
static const double roughnesses[] = {0.001, 0.03, 0.1, 0.3, 0.7};

struct told {
    uint32_t index;
    double score; /* as it is modelled */
    double raw;
};

struct fm_guided_search {
    struct fm_guided_dimension dimensions[FM_GUIDED_DIMENSIONS_MAX];
    uint32_t dimension_count;
    uint32_t grid;
    double *guesses; /* as scores are kept; NULL: none */
    bool ratios;     /* scores are kept as logarithms */
    uint32_t runs_max;
    struct fm_random random;
    bool *known; /* by configuration */
    struct told told[FM_GUIDED_RUNS_MAX];
    uint32_t told_count;
    enum fm_guided_end end;
    bool asked;
    uint32_t next;
    /* The process, of what was told. */
    double scales[FM_GUIDED_DIMENSIONS_MAX];
    double roughness; /* the share of the variance that no neighbour knows of */
    double slope;     /* of the scores over their guesses */
    double guess_variance;
    double guess_range;
    double center;   /* of the scores, less what follows from their guesses ... */
    double spread;   /* ... and their standard deviation */
    double *factor;  /* Cholesky's, of the kernel's matrix, by row */
    double *weights; /* the matrix's inverse times the scores */
    double *row;     /* room for one */
};

/* --- Configurations --- */

void fm_guided_search_choice(const struct fm_guided_search *search, uint32_t index,
                             uint32_t *ret_choice)
{
    for (uint32_t i = search->dimension_count; i-- > 0;) {
        ret_choice[i] = index % search->dimensions[i].count;
        index /= search->dimensions[i].count;
    }
}

uint32_t fm_guided_search_index(const struct fm_guided_search *search, const uint32_t *choice)
{
    uint32_t index = 0;
    for (uint32_t i = 0; i < search->dimension_count; i++) {
        FM_ASSERT(choice[i] < search->dimensions[i].count);
        index = index * search->dimensions[i].count + choice[i];
    }
    return index;
}

/* How far apart two configurations are, in length scales. */
static double distance(const struct fm_guided_search *search, uint32_t one, uint32_t other)
{
    uint32_t a[FM_GUIDED_DIMENSIONS_MAX];
    uint32_t b[FM_GUIDED_DIMENSIONS_MAX];
    double sum = 0;
    fm_guided_search_choice(search, one, a);
    fm_guided_search_choice(search, other, b);
    for (uint32_t i = 0; i < search->dimension_count; i++) {
        const struct fm_guided_dimension *dimension = &search->dimensions[i];
        double far = a[i] == b[i]         ? 0
                     : dimension->ordered ? fabs((double)a[i] - b[i]) / (dimension->count - 1)
                                          : 1;
        sum += far * far / (search->scales[i] * search->scales[i]);
    }
    return sqrt(sum);
}

/* Matern 5/2. */
static double kernel(double far)
{
    double r = sqrt(5.0) * far;
    return (1 + r + r * r / 3) * exp(-r);
}

/* Of two different configurations. */
static double covariance(const struct fm_guided_search *search, uint32_t one, uint32_t other)
{
    return (1 - search->roughness) * kernel(distance(search, one, other));
}

/* --- The model --- */

/* What follows from the guess alone. */
static double guess_of(const struct fm_guided_search *search, uint32_t index)
{
    return search->guesses != NULL ? search->slope * search->guesses[index] : 0;
}

static void sort(double *values, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        double value = values[i];
        uint32_t k = i;
        for (; k > 0 && values[k - 1] > value; k--) {
            values[k] = values[k - 1];
        }
        values[k] = value;
    }
}

/* The lowest score that counts as what it is. */
static double floor_of(const struct fm_guided_search *search)
{
    double sorted[FM_GUIDED_RUNS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < search->told_count; i++) {
        if (isfinite(search->told[i].score)) {
            sorted[count++] = search->told[i].score;
        }
    }
    if (count == 0) {
        return 0;
    }
    sort(sorted, count);
    double median = sorted[count / 2];
    double above = sorted[count - 1] - median;
    double lowest = above > 0 ? fmax(median - FLOOR_SPREADS * above, sorted[0]) : sorted[0];
    /* What cannot be used is worse than what can: by half, or by as much as others differ. */
    double range = sorted[count - 1] - lowest;
    double less = search->ratios ? log(2) : range > 0 ? range : fmax(fabs(lowest), 1) / 2;
    return count < search->told_count ? lowest - less : lowest;
}

/* The slope that fits best, as far as it is known: a guess that is right has 1, and one that says
 * nothing 0. */
static void slope_fit(struct fm_guided_search *search, double lowest)
{
    double guesses = 0;
    double scores = 0;
    double products = SLOPE_BELIEF * search->guess_variance;
    double squares = SLOPE_BELIEF * search->guess_variance;
    for (uint32_t i = 0; i < search->told_count && search->guesses != NULL; i++) {
        guesses += search->guesses[search->told[i].index] / search->told_count;
        scores += fmax(search->told[i].score, lowest) / search->told_count;
    }
    for (uint32_t i = 0; i < search->told_count && search->guesses != NULL; i++) {
        double guess = search->guesses[search->told[i].index] - guesses;
        products += guess * (fmax(search->told[i].score, lowest) - scores);
        squares += guess * guess;
    }
    search->slope = squares > 0 ? fmin(fmax(products / squares, 0), SLOPE_MAX) : 0;
}

/* Scores as they are modelled, centred and scaled, into `values`. */
static void scores_take(struct fm_guided_search *search, double *values)
{
    double lowest = floor_of(search);
    double sum = 0;
    double squares = 0;
    slope_fit(search, lowest);
    for (uint32_t i = 0; i < search->told_count; i++) {
        double score = fmax(search->told[i].score, lowest);
        values[i] = score - guess_of(search, search->told[i].index);
        sum += values[i];
    }
    search->center = sum / search->told_count;
    for (uint32_t i = 0; i < search->told_count; i++) {
        values[i] -= search->center;
        squares += values[i] * values[i];
    }
    search->spread = sqrt(squares / search->told_count);
    for (uint32_t i = 0; i < search->told_count; i++) {
        values[i] = search->spread > 0 ? values[i] / search->spread : 0;
    }
}

/* Factors the kernel's matrix, and solves for the weights. Returns the logarithm of the marginal
 * likelihood, but for what does not depend on the length scales. */
static double model_fit(struct fm_guided_search *search, const double *values)
{
    uint32_t count = search->told_count;
    double *factor = search->factor;
    double likelihood = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k <= i; k++) {
            double sum = i == k ? 1 + NOISE
                                : covariance(search, search->told[i].index, search->told[k].index);
            for (uint32_t j = 0; j < k; j++) {
                sum -= factor[(size_t)i * count + j] * factor[(size_t)k * count + j];
            }
            factor[(size_t)i * count + k] =
                i == k ? sqrt(fmax(sum, NOISE * NOISE)) : sum / factor[(size_t)k * count + k];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        double sum = values[i];
        for (uint32_t k = 0; k < i; k++) {
            sum -= factor[(size_t)i * count + k] * search->weights[k];
        }
        search->weights[i] = sum / factor[(size_t)i * count + i];
        likelihood -= search->weights[i] * search->weights[i] / 2;
        likelihood -= log(factor[(size_t)i * count + i]);
    }
    for (uint32_t i = count; i-- > 0;) {
        double sum = search->weights[i];
        for (uint32_t k = i + 1; k < count; k++) {
            sum -= factor[(size_t)k * count + i] * search->weights[k];
        }
        search->weights[i] = sum / factor[(size_t)i * count + i];
    }
    return likelihood;
}

/* Length scales, one dimension after the other, and the model with them. */
static void model_choose(struct fm_guided_search *search)
{
    double values[FM_GUIDED_RUNS_MAX];
    scores_take(search, values);
    double best = model_fit(search, values);
    for (unsigned round = 0; round < SCALE_ROUNDS; round++) {
        for (uint32_t i = 0; i < search->dimension_count; i++) {
            double kept = search->scales[i];
            for (size_t k = 0; k < FM_COUNT_OF(length_scales) && search->dimensions[i].count > 1;
                 k++) {
                search->scales[i] = length_scales[k];
                double likelihood = model_fit(search, values);
                if (likelihood > best) {
                    best = likelihood;
                    kept = length_scales[k];
                }
            }
            search->scales[i] = kept;
        }
        double kept = search->roughness;
        for (size_t k = 0; k < FM_COUNT_OF(roughnesses); k++) {
            search->roughness = roughnesses[k];
            double likelihood = model_fit(search, values);
            if (likelihood > best) {
                best = likelihood;
                kept = roughnesses[k];
            }
        }
        search->roughness = kept;
    }
    (void)model_fit(search, values);
}

/* What a configuration is expected to score, and how uncertain that is. */
static void predict(const struct fm_guided_search *search, uint32_t index, double *ret_mean,
                    double *ret_deviation)
{
    uint32_t count = search->told_count;
    double *row = search->row;
    double mean = 0;
    double variance = 1;
    for (uint32_t i = 0; i < count; i++) {
        double sum = covariance(search, index, search->told[i].index);
        mean += sum * search->weights[i];
        for (uint32_t k = 0; k < i; k++) {
            sum -= search->factor[(size_t)i * count + k] * row[k];
        }
        row[i] = sum / search->factor[(size_t)i * count + i];
        variance -= row[i] * row[i];
    }
    *ret_mean = search->center + search->spread * mean + guess_of(search, index);
    *ret_deviation = search->spread * sqrt(fmax(variance, 0));
}

static double expected_improvement(double mean, double deviation, double best)
{
    if (deviation <= 0) {
        return fmax(mean - best, 0);
    }
    double z = (mean - best) / deviation;
    double below = erfc(-z / sqrt(2.0)) / 2;
    double density = exp(-z * z / 2) / sqrt(2 * 3.14159265358979323846);
    return deviation * (z * below + density);
}

/* --- What is next --- */

/* Among equals by lot. */
struct choice {
    uint32_t index;
    double worth;
    uint32_t equals;
};

static void choice_offer(struct fm_guided_search *search, struct choice *choice, uint32_t index,
                         double worth)
{
    if (choice->equals == 0 || worth > choice->worth) {
        *choice = (struct choice){.index = index, .worth = worth, .equals = 1};
    } else if (worth == choice->worth) {
        choice->equals++;
        if (fm_random_below(&search->random, choice->equals) == 0) {
            choice->index = index;
        }
    }
}

/* The middle of every ordered dimension, and the first of others. */
static uint32_t middle(const struct fm_guided_search *search)
{
    uint32_t choice[FM_GUIDED_DIMENSIONS_MAX];
    for (uint32_t i = 0; i < search->dimension_count; i++) {
        choice[i] = search->dimensions[i].ordered ? search->dimensions[i].count / 2 : 0;
    }
    return fm_guided_search_index(search, choice);
}

static uint32_t first_choice(struct fm_guided_search *search)
{
    struct choice choice = {.equals = 0};
    if (search->guesses == NULL) {
        return middle(search);
    }
    for (uint32_t i = 0; i < search->grid; i++) {
        choice_offer(search, &choice, i, search->guesses[i]);
    }
    return choice.index;
}

/* Far from all that is known: where nothing is known of scores, but that they are all alike. */
static uint32_t far_choice(struct fm_guided_search *search)
{
    struct choice choice = {.equals = 0};
    for (uint32_t i = 0; i < search->grid; i++) {
        double nearest = INFINITY;
        for (uint32_t k = 0; k < search->told_count && !search->known[i]; k++) {
            nearest = fmin(nearest, distance(search, i, search->told[k].index));
        }
        if (!search->known[i]) {
            choice_offer(search, &choice, i,
                         nearest + (search->guess_range > 0
                                        ? 1e-9 * search->guesses[i] / search->guess_range
                                        : 0));
        }
    }
    return choice.index;
}

static void next_choose(struct fm_guided_search *search)
{
    struct choice choice = {.equals = 0};
    uint32_t best_index = 0;
    double best = 0;
    search->asked = true;
    if (search->told_count == 0) {
        search->next = first_choice(search);
        return;
    }
    model_choose(search);
    if (!fm_guided_search_best(search, &best_index, &best) || search->spread <= 0) {
        search->next = far_choice(search);
        return;
    }
    best = search->ratios ? log(best) : best;
    for (uint32_t i = 0; i < search->grid; i++) {
        double mean = 0;
        double deviation = 0;
        if (!search->known[i]) {
            predict(search, i, &mean, &deviation);
            choice_offer(search, &choice, i, expected_improvement(mean, deviation, best));
        }
    }
    search->next = choice.index;
}

bool fm_guided_search_next(struct fm_guided_search *search, uint32_t *ret_index)
{
    if (!search->asked && search->end == FM_GUIDED_GOES_ON) {
        if (search->told_count >= search->grid) {
            search->end = FM_GUIDED_COMPLETE;
        } else if (search->told_count >= search->runs_max) {
            search->end = FM_GUIDED_RUNS_OUT;
        } else {
            next_choose(search);
        }
    }
    *ret_index = search->next;
    return search->asked;
}

/* As the process sees it. */
static double score_kept(const struct fm_guided_search *search, double score)
{
    return !search->ratios ? score : score > 0 ? log(score) : -INFINITY;
}

int fm_guided_search_tell(struct fm_guided_search *search, uint32_t index, double score)
{
    if (index >= search->grid || isnan(score) || score == INFINITY) {
        return FM_EINVAL;
    }
    if (search->known[index]) {
        return FM_EEXIST;
    }
    if (search->told_count == FM_GUIDED_RUNS_MAX) {
        return FM_ETOOLARGE;
    }
    search->known[index] = true;
    search->told[search->told_count++] =
        (struct told){.index = index, .score = score_kept(search, score), .raw = score};
    search->asked = search->asked && index != search->next;
    return 0;
}

enum fm_guided_end fm_guided_search_end(const struct fm_guided_search *search)
{
    return search->end;
}

bool fm_guided_search_best(const struct fm_guided_search *search, uint32_t *ret_index,
                           double *ret_score)
{
    double best = -INFINITY;
    for (uint32_t i = 0; i < search->told_count; i++) {
        if (search->told[i].score > best) {
            best = search->told[i].score;
            *ret_index = search->told[i].index;
            *ret_score = search->told[i].raw;
        }
    }
    return best > -INFINITY;
}

uint32_t fm_guided_search_runs(const struct fm_guided_search *search)
{
    return search->told_count;
}

/* --- Life --- */

static int options_check(const struct fm_guided_options *options, uint32_t *ret_grid,
                         struct fm_error *reterr)
{
    uint64_t grid = 1;
    if (options->dimension_count == 0 || options->dimension_count > FM_GUIDED_DIMENSIONS_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "a guided search has 1 to %u dimensions, not %u",
                            FM_GUIDED_DIMENSIONS_MAX, options->dimension_count);
    }
    for (uint32_t i = 0; i < options->dimension_count; i++) {
        if (options->dimensions[i].count == 0) {
            return fm_error_set(reterr, FM_EINVAL, "dimension %u has no values", i + 1);
        }
        grid *= options->dimensions[i].count;
        if (grid > FM_GUIDED_GRID_MAX) {
            return fm_error_set(reterr, FM_EINVAL,
                                "there are more than %u configurations: leave some values out",
                                FM_GUIDED_GRID_MAX);
        }
    }
    for (uint32_t i = 0; options->guesses != NULL && i < grid; i++) {
        if (!isfinite(options->guesses[i])) {
            return fm_error_set(reterr, FM_EINVAL, "the guess for configuration %u is not finite",
                                i);
        }
    }
    *ret_grid = (uint32_t)grid;
    return 0;
}

static uint32_t runs_of(const struct fm_guided_options *options, uint32_t grid)
{
    uint32_t share = (uint32_t)((uint64_t)grid * DEFAULT_PERCENT / 100);
    uint32_t runs = options->runs_max > 0      ? options->runs_max
                    : share > DEFAULT_RUNS_MIN ? share
                                               : DEFAULT_RUNS_MIN;
    return runs < FM_GUIDED_RUNS_MAX ? runs : FM_GUIDED_RUNS_MAX;
}

/* Where guesses are ratios, those of 0 and below are a little lower than all others. */
static void guesses_keep(struct fm_guided_search *search, const double *guesses)
{
    double lowest = INFINITY;
    double mean = 0;
    double low = INFINITY;
    double high = -INFINITY;
    for (uint32_t i = 0; i < search->grid; i++) {
        lowest = guesses[i] > 0 ? fmin(lowest, guesses[i]) : lowest;
    }
    for (uint32_t i = 0; i < search->grid; i++) {
        double guess = !search->ratios     ? guesses[i]
                       : guesses[i] > 0    ? log(guesses[i])
                       : lowest < INFINITY ? log(lowest / 2)
                                           : 0;
        search->guesses[i] = guess;
        mean += guess / search->grid;
        low = fmin(low, guess);
        high = fmax(high, guess);
    }
    for (uint32_t i = 0; i < search->grid; i++) {
        double off = search->guesses[i] - mean;
        search->guess_variance += off * off / search->grid;
    }
    search->guess_range = high - low;
}

int fm_guided_search_create(const struct fm_guided_options *options,
                            struct fm_guided_search **ret_search, struct fm_error *reterr)
{
    uint32_t grid = 0;
    int status = options_check(options, &grid, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_guided_search *search = fm_alloc_zero(1, sizeof(*search));
    if (search == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    memcpy(search->dimensions, options->dimensions,
           options->dimension_count * sizeof(search->dimensions[0]));
    search->dimension_count = options->dimension_count;
    search->grid = grid;
    search->runs_max = runs_of(options, grid);
    search->ratios = options->ratios;
    search->roughness = roughnesses[0];
    search->slope = 1;
    fm_random_init(&search->random, options->seed);
    for (uint32_t i = 0; i < search->dimension_count; i++) {
        search->scales[i] = 0.6;
    }
    search->known = fm_alloc_zero(grid, sizeof(*search->known));
    search->guesses = options->guesses != NULL ? fm_alloc(grid * sizeof(*search->guesses)) : NULL;
    search->factor = fm_alloc_zero((size_t)FM_GUIDED_RUNS_MAX * FM_GUIDED_RUNS_MAX, sizeof(double));
    search->weights = fm_alloc_zero(FM_GUIDED_RUNS_MAX, sizeof(double));
    search->row = fm_alloc_zero(FM_GUIDED_RUNS_MAX, sizeof(double));
    if (search->known == NULL || search->factor == NULL || search->weights == NULL ||
        search->row == NULL || (options->guesses != NULL && search->guesses == NULL)) {
        fm_guided_search_destroy(search);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for %u configurations", grid);
    }
    if (search->guesses != NULL) {
        guesses_keep(search, options->guesses);
    }
    *ret_search = search;
    return 0;
}

void fm_guided_search_destroy(struct fm_guided_search *search)
{
    if (search != NULL) {
        fm_free(search->known);
        fm_free(search->guesses);
        fm_free(search->factor);
        fm_free(search->weights);
        fm_free(search->row);
        fm_free(search);
    }
}
