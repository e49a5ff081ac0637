/*
 * How long bench tasks take. See task_estimate.h.
 */
#include "core/bench/task_estimate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

struct known {
    char key[FM_TASK_ESTIMATE_KEY_SIZE];
    struct fm_task_estimate_facts facts;
    uint64_t heard; /* order in which keys were heard of */
};

struct fm_task_estimator {
    struct fm_task_estimate_options options;
    struct known *known;
    struct fm_task_estimate_facts all;
    uint64_t heard;
    uint32_t count;
};

void fm_weighted_mean_add(struct fm_weighted_mean *mean, double value)
{
    mean->count++;
    uint64_t over = mean->count < FM_TASK_ESTIMATE_WEIGHT ? mean->count : FM_TASK_ESTIMATE_WEIGHT;
    double weight = 1 / (double)over;
    double difference = value - mean->mean;
    mean->mean += weight * difference;
    mean->variance = (1 - weight) * (mean->variance + weight * difference * difference);
}

double fm_weighted_mean_spread(const struct fm_weighted_mean *mean)
{
    return sqrt(mean->variance);
}

int fm_task_estimator_create(const struct fm_task_estimate_options *options,
                             struct fm_task_estimator **ret_estimator)
{
    FM_ASSERT(options->keys_max > 0 && options->keys_max <= FM_TASK_ESTIMATE_KEYS_MAX);
    *ret_estimator = NULL;
    struct fm_task_estimator *estimator = fm_alloc_zero(1, sizeof(*estimator));
    if (estimator == NULL) {
        return FM_ENOMEM;
    }
    estimator->options = *options;
    estimator->known = fm_alloc_zero(options->keys_max, sizeof(*estimator->known));
    if (estimator->known == NULL) {
        fm_free(estimator);
        return FM_ENOMEM;
    }
    *ret_estimator = estimator;
    return 0;
}

void fm_task_estimator_destroy(struct fm_task_estimator *estimator)
{
    if (estimator != NULL) {
        fm_free(estimator->known);
        fm_free(estimator);
    }
}

static struct known *known_find(const struct fm_task_estimator *estimator, const char *key)
{
    for (uint32_t i = 0; i < estimator->count; i++) {
        if (strncmp(estimator->known[i].key, key, FM_TASK_ESTIMATE_KEY_SIZE - 1) == 0) {
            return &estimator->known[i];
        }
    }
    return NULL;
}

static struct known *known_make(struct fm_task_estimator *estimator, const char *key)
{
    struct known *known = &estimator->known[0];
    if (estimator->count < estimator->options.keys_max) {
        known = &estimator->known[estimator->count++];
    } else {
        for (uint32_t i = 1; i < estimator->count; i++) {
            known = estimator->known[i].heard < known->heard ? &estimator->known[i] : known;
        }
    }
    *known = (struct known){0};
    (void)snprintf(known->key, sizeof(known->key), "%.*s", (int)sizeof(known->key) - 1, key);
    return known;
}

/* The mean of the key, of all keys, or what is assumed. */
static double mean_of(const struct fm_weighted_mean *own, const struct fm_weighted_mean *all,
                      uint64_t assumed)
{
    if (own != NULL && own->count > 0) {
        return own->mean;
    }
    return all->count > 0 ? all->mean : (double)assumed;
}

uint64_t fm_task_estimator_ns(const struct fm_task_estimator *estimator, const char *key,
                              const struct fm_task_shape *shape)
{
    const struct known *known = known_find(estimator, key);
    const struct fm_task_estimate_facts *own = known != NULL ? &known->facts : NULL;
    double load_ns = mean_of(own != NULL ? &own->load_ns : NULL, &estimator->all.load_ns,
                             estimator->options.load_ns);
    double request_ns = mean_of(own != NULL ? &own->request_ns : NULL, &estimator->all.request_ns,
                                estimator->options.request_ns);
    double gap_ns = shape->rate_hz > 0 ? 1e9 / shape->rate_hz : request_ns;
    double count_ns = (double)shape->requests * gap_ns;
    double measure_ns =
        (double)shape->duration_ns > count_ns ? (double)shape->duration_ns : count_ns;
    double each_ns = (double)shape->warmup_ns + measure_ns + (double)shape->drain_ns;
    double points = shape->points > 0 ? (double)shape->points : 1;
    double repeats = shape->repeats > 0 ? (double)shape->repeats : 1;
    double total_ns = load_ns + points * repeats * each_ns;
    if (!(total_ns < (double)FM_TASK_ESTIMATE_MAX_NS)) {
        return FM_TASK_ESTIMATE_MAX_NS;
    }
    return total_ns >= 1 ? (uint64_t)total_ns : 1;
}

static void facts_add(struct fm_task_estimate_facts *facts, const struct fm_task_record *record)
{
    fm_weighted_mean_add(&facts->load_ns, (double)record->load_ns);
    if (record->request_ns > 0) {
        fm_weighted_mean_add(&facts->request_ns, (double)record->request_ns);
    }
    if (record->estimate_ns > 0) {
        double error = (double)record->took_ns - (double)record->estimate_ns;
        fm_weighted_mean_add(&facts->error, error / (double)record->estimate_ns);
    }
}

void fm_task_estimator_learn(struct fm_task_estimator *estimator, const char *key,
                             const struct fm_task_record *record)
{
    struct known *known = known_find(estimator, key);
    known = known != NULL ? known : known_make(estimator, key);
    known->heard = ++estimator->heard;
    facts_add(&known->facts, record);
    facts_add(&estimator->all, record);
}

bool fm_task_estimator_facts(const struct fm_task_estimator *estimator, const char *key,
                             struct fm_task_estimate_facts *ret_facts)
{
    const struct known *known = key != NULL ? known_find(estimator, key) : NULL;
    bool any = key != NULL ? known != NULL : estimator->heard > 0;
    *ret_facts = known != NULL ? known->facts
                 : any         ? estimator->all
                               : (struct fm_task_estimate_facts){0};
    return any;
}
