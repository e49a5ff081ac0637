/*
 * Finds a good configuration among many with few measurements.
 *
 * Owns: which configuration of a grid is measured next, and when it is enough. Does not own:
 * measuring, what a score is, files. Thread rule: pure; a search belongs to one thread.
 *
 * HOW IT WORKS. Bayesian optimisation on the grid: what was measured is modelled by a Gaussian
 * process with a Matern 5/2 kernel (Rasmussen and Williams, Gaussian Processes for Machine
 * Learning, 2006, equations 2.25, 2.26 and 4.17), with one length scale for each dimension, chosen
 * by the marginal likelihood (5.8) among a few; the next configuration is the one with the largest
 * expected improvement (Jones, Schonlau and Welch 1998, equation 15). Ordered dimensions are places
 * on a line, others are equal or not. Scores that are far below the rest count as a little below
 * it: how bad a bad one is does not matter. Where the caller has a guess for each configuration
 * (a simulation of it), the process models what the guess is off by, and the first to be measured
 * is the best guess; without, it begins in the middle of the grid and then far from what it knows.
 *
 * LIMITATIONS. It finds what scores well where scores change smoothly along ordered dimensions, or
 * a guess is near; with 15 % of a small grid and no guesses it rarely does
 * (tests/prop/guided_search prints how often). It knows nothing of noise but its size: a
 * configuration is measured once.
 */
#ifndef FM_CORE_BENCH_GUIDED_SEARCH_H
#define FM_CORE_BENCH_GUIDED_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_GUIDED_DIMENSIONS_MAX 8u
#define FM_GUIDED_GRID_MAX       65536u /* configurations */
#define FM_GUIDED_RUNS_MAX \
    512u /* a step costs their third power, and their square for each configuration */

struct fm_guided_dimension {
    uint32_t count; /* of its values, above 0 */
    bool ordered;   /* neighbours are alike: batch sizes, threads; else: policies */
};

struct fm_guided_options {
    const struct fm_guided_dimension *dimensions; /* copied */
    uint32_t dimension_count;
    /* By configuration (fm_guided_search_index): what its score is going to be, about; finite.
     * NULL: no idea. Copied. It need not have the right size: of many times as much as it is, the
     * best is the same. */
    const double *guesses;
    bool ratios; /* scores and guesses are compared by ratio, as rates are; those of 0 and
                    below cannot be used */
    /* Told ones, those known before included; 0: 15 % of the grid, rounded down, but 2 at least;
     * FM_GUIDED_RUNS_MAX at the most. */
    uint32_t runs_max;
    uint64_t seed; /* of what is drawn among equals */
};

enum fm_guided_end {
    FM_GUIDED_GOES_ON,
    FM_GUIDED_RUNS_OUT, /* of runs_max */
    FM_GUIDED_COMPLETE, /* all of the grid was measured */
};

struct fm_guided_search;

/* FM_EINVAL (which option, in reterr), FM_ENOMEM. */
int FM_NODISCARD fm_guided_search_create(const struct fm_guided_options *options,
                                         struct fm_guided_search **ret_search,
                                         struct fm_error *reterr);
void fm_guided_search_destroy(struct fm_guided_search *search); /* accepts NULL */

/* The number of a configuration: the last dimension runs fastest. */
uint32_t fm_guided_search_index(const struct fm_guided_search *search, const uint32_t *choice);
void fm_guided_search_choice(const struct fm_guided_search *search, uint32_t index,
                             uint32_t *ret_choice);

/* The configuration to be measured next. false: it is over. The same one until it was told. */
bool fm_guided_search_next(struct fm_guided_search *search, uint32_t *ret_index);
/*
 * What a configuration scores; higher is better. -INFINITY: it cannot be used (it does not start).
 * Also for one that was not asked for, which was known before. FM_EEXIST: it was told already;
 * FM_EINVAL: no configuration, NaN or +INFINITY; FM_ETOOLARGE: more than FM_GUIDED_RUNS_MAX.
 */
int FM_NODISCARD fm_guided_search_tell(struct fm_guided_search *search, uint32_t index,
                                       double score);
/* Why it is over. */
enum fm_guided_end fm_guided_search_end(const struct fm_guided_search *search);
/* The best of what was told. false: nothing was, or nothing can be used. */
bool fm_guided_search_best(const struct fm_guided_search *search, uint32_t *ret_index,
                           double *ret_score);
uint32_t fm_guided_search_runs(const struct fm_guided_search *search); /* told so far */

#endif
