/*
 * What is read off a finished run. See world.h.
 */
#include "engines/sim/world.h"

#include <math.h>

#include "core/util/hash.h"
#include "engines/sim/partition.h"

void fm_sim_result_free(struct fm_sim_result *result)
{
    if (result != NULL) {
        for (uint32_t i = 0; result->models != NULL && i < result->model_count; i++) {
            fm_free(result->models[i].classes);
        }
        fm_free(result->models);
        fm_free(result->pipelines);
        fm_free(result->accelerators);
        fm_free(result->batch_sizes);
        fm_sim_partition_result_free(result->partition);
        fm_sim_scenario_fitted_free(result->fitted);
        fm_free(result);
    }
}

uint64_t fm_sim_action_hash(uint64_t hash, uint64_t now_ns, const struct fm_sched_action *action,
                            const uint32_t *requests)
{
    const uint64_t words[] = {
        now_ns,
        ((uint64_t)action->kind << 32) | action->model,
        ((uint64_t)action->accelerator << 32) | action->request_count,
        action->batch,
        action->start_ns,
        action->expected_ns,
        ((uint64_t)action->request << 32) | (uint64_t)action->reason,
    };
    hash = fm_hash_add(hash, words, sizeof words);
    return fm_hash_add(hash, requests, action->request_count * sizeof *requests);
}

uint64_t fm_sim_counts_bad(const struct fm_sim_counts *counts)
{
    uint64_t bad = counts->late;
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        bad += i == FM_SCHED_DROP_CANCELLED ? 0 : counts->dropped[i];
    }
    return bad;
}

double fm_sim_counts_bad_rate(const struct fm_sim_counts *counts)
{
    return counts->requests > 0 ? (double)fm_sim_counts_bad(counts) / (double)counts->requests : 0;
}

double fm_sim_quantile_ms(const struct fm_log_histogram *latency, uint32_t permille)
{
    uint64_t value_ns = fm_log_histogram_quantile_ns(latency, permille);
    /* The last bucket holds all that is longer. */
    bool beyond = latency->max_ns >= fm_log_histogram_edge_ns(FM_LOG_HISTOGRAM_BUCKETS) &&
                  value_ns >= fm_log_histogram_edge_ns(FM_LOG_HISTOGRAM_BUCKETS - 1);
    return beyond ? INFINITY : (double)value_ns / 1e6;
}

double fm_sim_counts_batch_mean(const struct fm_sim_counts *counts)
{
    return counts->batches > 0 ? (double)counts->rows / (double)counts->batches : 0;
}

/* The worse of a rate and that of counts which say something. */
static double worse(double worst, const struct fm_sim_counts *counts)
{
    double rate = fm_sim_counts_bad_rate(counts);
    return counts->requests >= FM_SIM_WORST_REQUESTS && rate > worst ? rate : worst;
}

double fm_sim_result_worst_bad_rate(const struct fm_sim_result *result)
{
    double worst = 0;
    for (uint32_t i = 0; i < result->model_count; i++) {
        worst = worse(worst, &result->models[i].counts);
    }
    for (uint32_t i = 0; i < result->pipeline_count; i++) {
        worst = worse(worst, &result->pipelines[i].counts);
    }
    return worst;
}

static double measured_s(const struct fm_sim_result *result)
{
    return (double)result->scenario->measure_ns / 1e9;
}

double fm_sim_result_goodput_rps(const struct fm_sim_result *result)
{
    return (double)result->total.good / measured_s(result);
}

double fm_sim_result_offered_rps(const struct fm_sim_result *result)
{
    return (double)result->total.requests / measured_s(result);
}

uint32_t fm_sim_result_touched(const struct fm_sim_result *result)
{
    uint32_t touched = 0;
    for (uint32_t i = 0; i < result->accelerator_count; i++) {
        touched += result->accelerators[i].batches > 0;
    }
    return touched;
}

double fm_sim_result_up(const struct fm_sim_result *result)
{
    return (double)result->up_ns / (double)result->scenario->measure_ns;
}

double fm_sim_result_accelerator_hours(const struct fm_sim_result *result)
{
    return (double)(result->up_ns + result->starting_ns) / 3600e9;
}

double fm_sim_result_busy(const struct fm_sim_result *result)
{
    double busy_ns = 0;
    for (uint32_t i = 0; i < result->accelerator_count; i++) {
        busy_ns += (double)result->accelerators[i].busy_ns;
    }
    return busy_ns / (double)result->scenario->measure_ns;
}
