/*
 * How long a bench task will take: from what its configuration says, and from what tasks like it
 * have taken.
 *
 * Owns: the formula, and per key what was learnt: the time to load and make ready, the time of a
 * request when nothing limits the rate, and how wrong the estimates were. Does not own: what a key
 * stands for (a model on a class of devices, say), where records come from. Thread rule: one thread
 * at a time.
 *
 * HOW IT WORKS. A task measures `points` of a sweep, each `repeats` times:
 *
 *     estimate = load + points * repeats * (warmup + measure + drain)
 *     measure  = max(duration, requests / rate)          an open loop
 *              = max(duration, requests * request time)  without a rate, one after the other
 *
 * so a duration and a count of requests that are both given must both be reached, as LoadGen has
 * it. Load and request time are means over the records of the key, exponentially weighted: the
 * n-th counts with 1/n, and later ones with 1/FM_TASK_ESTIMATE_WEIGHT, so that what has changed is
 * followed. The spread is the square root of the variance weighted the same way (T. Finch,
 * Incremental calculation of weighted mean and variance, 2009). What no record tells is taken from
 * the records of all keys, and before there are any from the options.
 *
 * LIMITATIONS. The error is kept and told, not used to correct the estimate: most of a task is what
 * its configuration says, and is known. Keys beyond keys_max take the place of the one that was
 * heard of longest ago.
 */
#ifndef FM_CORE_BENCH_TASK_ESTIMATE_H
#define FM_CORE_BENCH_TASK_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_TASK_ESTIMATE_KEYS_MAX 4096u
#define FM_TASK_ESTIMATE_KEY_SIZE 96u /* with its end */
#define FM_TASK_ESTIMATE_WEIGHT   8u
#define FM_TASK_ESTIMATE_MAX_NS   UINT64_C(31536000000000000) /* a year */

struct fm_task_estimate_options {
    uint32_t keys_max;   /* up to FM_TASK_ESTIMATE_KEYS_MAX */
    uint64_t load_ns;    /* before anything is known */
    uint64_t request_ns; /* the same */
};

/* What the configuration of a task says. */
struct fm_task_shape {
    uint64_t points;  /* of its sweep; at least 1 */
    uint64_t repeats; /* of each; at least 1 */
    uint64_t warmup_ns;
    uint64_t duration_ns;
    uint64_t drain_ns;
    uint64_t requests; /* 0: the duration alone says when it ends */
    double rate_hz;    /* 0: one request after the other */
};

/* A mean and a spread, weighted as above. */
struct fm_weighted_mean {
    uint64_t count;
    double mean;
    double variance;
};

void fm_weighted_mean_add(struct fm_weighted_mean *mean, double value);
double fm_weighted_mean_spread(const struct fm_weighted_mean *mean);

/* What a task took, when it has ended. */
struct fm_task_record {
    uint64_t estimate_ns; /* that it was given; 0: none */
    uint64_t took_ns;
    uint64_t load_ns;
    uint64_t request_ns; /* mean service time; 0: not measured, or not one after the other */
};

struct fm_task_estimate_facts {
    struct fm_weighted_mean load_ns;
    struct fm_weighted_mean request_ns;
    struct fm_weighted_mean error; /* (took - estimate) / estimate */
};

struct fm_task_estimator;

/* FM_ENOMEM. */
int FM_NODISCARD fm_task_estimator_create(const struct fm_task_estimate_options *options,
                                          struct fm_task_estimator **ret_estimator);
void fm_task_estimator_destroy(struct fm_task_estimator *estimator); /* accepts NULL */

/* The estimate; at least 1 and at most FM_TASK_ESTIMATE_MAX_NS, whatever the shape says. */
uint64_t fm_task_estimator_ns(const struct fm_task_estimator *estimator, const char *key,
                              const struct fm_task_shape *shape);
/* Learns from a task that has ended. Keys are compared up to FM_TASK_ESTIMATE_KEY_SIZE - 1 bytes.
 */
void fm_task_estimator_learn(struct fm_task_estimator *estimator, const char *key,
                             const struct fm_task_record *record);
/* What is known of a key, or with NULL of all. False: nothing. */
bool fm_task_estimator_facts(const struct fm_task_estimator *estimator, const char *key,
                             struct fm_task_estimate_facts *ret_facts);

#endif
