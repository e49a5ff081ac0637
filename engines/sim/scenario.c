/*
 * Checks and small answers about scenarios. See scenario.h.
 */
#include "engines/sim/scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/load/popularity.h"
#include "core/util/error.h"
#include "core/util/hash.h"

#define SECOND_NS 1e9

void fm_sim_scenario_init(struct fm_sim_scenario *scenario)
{
    *scenario = (struct fm_sim_scenario){
        .seed = 1,
        .warmup_ns = UINT64_C(3000000000),
        .measure_ns = UINT64_C(8000000000),
        .policy = FM_SCHED_POLICY_DEFERRED,
        .batch_max = 1024,
        .attempts_max = 1,
        .spread_seed = 1,
        .failure_seed = 1,
        .cancel_seed = 1,
        .autoscale =
            {
                .initial = FM_SIM_INITIAL_MAX,
                .interval_ns = UINT64_C(5000000000),
                .start_delay_ns = UINT64_C(30000000000),
                .advice =
                    {
                        .accelerators_min = 1,
                        .headroom_permille = 100,
                        .bad_tolerated_permyriad = 100,
                        .surplus_hold_ns = UINT64_C(600000000000),
                        .lack_hold_ns = UINT64_C(20000000000),
                        .cooldown_ns = UINT64_C(40000000000),
                    },
            },
    };
    fm_arena_init(&scenario->arena, 0);
}

void fm_sim_scenario_deinit(struct fm_sim_scenario *scenario)
{
    fm_arena_deinit(&scenario->arena);
}

uint32_t fm_sim_scenario_model_count(const struct fm_sim_scenario *scenario)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        count += scenario->groups[i].count;
    }
    return count;
}

uint32_t fm_sim_scenario_accelerator_count(const struct fm_sim_scenario *scenario)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < scenario->pool_count; i++) {
        count += scenario->pools[i].count;
    }
    return count;
}

static double spec_rate_hz(const struct fm_arrivals_spec *spec)
{
    if (spec->kind == FM_ARRIVALS_TRACE) {
        uint64_t last_ns = spec->time_count > 0 ? spec->times_ns[spec->time_count - 1] : 0;
        return last_ns > 0 ? (double)spec->time_count * SECOND_NS / (double)last_ns : 0;
    }
    if (spec->kind != FM_ARRIVALS_MMPP || spec->rate_hz > 0) {
        return spec->rate_hz;
    }
    double requests = 0;
    double seconds = 0;
    for (uint32_t i = 0; i < spec->state_count; i++) {
        requests += spec->states[i].rate_hz * spec->states[i].mean_s;
        seconds += spec->states[i].mean_s;
    }
    return seconds > 0 ? requests / seconds : 0;
}

double fm_sim_scenario_rate_hz(const struct fm_sim_scenario *scenario)
{
    double rate = 0;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        rate += spec_rate_hz(&scenario->groups[i].arrivals) * scenario->groups[i].count;
    }
    return rate;
}

int fm_sim_group_shares(const struct fm_sim_group *group, double *ret_shares,
                        struct fm_error *reterr)
{
    int status = fm_popularity_zipf(group->popularity, group->count, ret_shares, reterr);
    for (uint32_t i = 0; status == 0 && i < group->count; i++) {
        ret_shares[i] *= group->count;
    }
    return status;
}

const char *fm_sim_scenario_model_name(const struct fm_sim_scenario *scenario, uint32_t model,
                                       char *text, size_t size)
{
    uint32_t low = 0;
    uint32_t high = scenario->group_count;
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        *(scenario->groups[middle].first <= model ? &low : &high) = middle;
    }
    const struct fm_sim_group *group = &scenario->groups[low];
    if (group->count == 1) {
        (void)snprintf(text, size, "%s", group->name);
    } else {
        (void)snprintf(text, size, "%s.%" PRIu32, group->name, model - group->first);
    }
    return text;
}

uint64_t fm_sim_seed(uint64_t seed, const char *concern, uint64_t index)
{
    uint64_t hash = fm_hash_add(FM_HASH_START, concern, strlen(concern) + 1);
    hash = fm_hash_add(hash, &seed, sizeof seed);
    return fm_hash_add(hash, &index, sizeof index);
}

static int wrong(const struct fm_sim_scenario *scenario, uint32_t line, struct fm_error *reterr,
                 const char *text)
{
    const char *file = scenario->file != NULL ? scenario->file : "scenario";
    return line > 0 ? fm_error_set(reterr, FM_EINVAL, "%s:%" PRIu32 ": %s", file, line, text)
                    : fm_error_set(reterr, FM_EINVAL, "%s: %s", file, text);
}

static int group_check(const struct fm_sim_scenario *scenario, const struct fm_sim_group *group,
                       struct fm_error *reterr)
{
    char text[320];
    bool runs = false;
    uint64_t fixed_ns = scenario->control_ns + scenario->data_ns + scenario->result_ns;
    uint64_t shortest_ns = UINT64_MAX;
    for (uint32_t i = 0; i < scenario->type_count; i++) {
        if (group->profiles[i] != NULL) {
            uint64_t one_ns = fm_profile_latency_ns(group->profiles[i], group->statistic, 1);
            shortest_ns = one_ns < shortest_ns ? one_ns : shortest_ns;
            runs = true;
        }
    }
    if (!runs) {
        (void)snprintf(text, sizeof text,
                       "model '%.100s' has no profile for any type of accelerator", group->name);
        return wrong(scenario, group->line, reterr, text);
    }
    if (shortest_ns + fixed_ns > group->slo_ns) {
        (void)snprintf(text, sizeof text,
                       "model '%.100s' can never meet its slo of %g ms: a batch of one takes %g ms "
                       "and the network %g ms",
                       group->name, (double)group->slo_ns / 1e6, (double)shortest_ns / 1e6,
                       (double)fixed_ns / 1e6);
        return wrong(scenario, group->line, reterr, text);
    }
    /* The stream itself is the best judge of its numbers. */
    struct fm_arrivals *arrivals = NULL;
    struct fm_error error = {0};
    int status = fm_arrivals_create(&group->arrivals, 1, &arrivals, &error);
    fm_arrivals_destroy(arrivals);
    if (status != 0) {
        (void)snprintf(text, sizeof text, "arrivals of model '%.60s': %.200s", group->name,
                       error.text);
        return status == FM_EINVAL ? wrong(scenario, group->line, reterr, text)
                                   : fm_error_set(reterr, status, "%s", text);
    }
    return 0;
}

static int faults_check(struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    uint32_t accelerators = fm_sim_scenario_accelerator_count(scenario);
    for (uint32_t i = 0; i < scenario->fault_count; i++) {
        struct fm_sim_fault fault = scenario->faults[i];
        if (fault.first >= accelerators || fault.count > accelerators - fault.first) {
            char text[160];
            (void)snprintf(text, sizeof text,
                           "the event is for accelerators %" PRIu32 " to %" PRIu64
                           ", but the last one is %" PRIu32,
                           fault.first, (uint64_t)fault.first + fault.count - 1, accelerators - 1);
            return wrong(scenario, fault.line, reterr, text);
        }
        /* Insertion: few, mostly in order, and equal times stay as they were written. */
        uint32_t place = i;
        while (place > 0 && scenario->faults[place - 1].at_ns > fault.at_ns) {
            scenario->faults[place] = scenario->faults[place - 1];
            place--;
        }
        scenario->faults[place] = fault;
    }
    return 0;
}

static int autoscale_check(struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    struct fm_sim_autoscale *autoscale = &scenario->autoscale;
    struct fm_advice_options *advice = &autoscale->advice;
    uint32_t total = fm_sim_scenario_accelerator_count(scenario);
    char text[200];
    if (!autoscale->on) {
        return 0;
    }
    if (advice->accelerators_max > total) {
        (void)snprintf(text, sizeof text,
                       "'autoscale': 'max' is %" PRIu32 ", but there are only %" PRIu32
                       " accelerators",
                       advice->accelerators_max, total);
        return wrong(scenario, autoscale->line, reterr, text);
    }
    advice->accelerators_max = advice->accelerators_max > 0 ? advice->accelerators_max : total;
    if (advice->accelerators_min > advice->accelerators_max) {
        (void)snprintf(text, sizeof text,
                       "'autoscale': 'min' is %" PRIu32 ", above 'max', which is %" PRIu32,
                       advice->accelerators_min, advice->accelerators_max);
        return wrong(scenario, autoscale->line, reterr, text);
    }
    if (autoscale->initial == FM_SIM_INITIAL_MAX) {
        autoscale->initial = advice->accelerators_max;
    }
    if (autoscale->initial < advice->accelerators_min ||
        autoscale->initial > advice->accelerators_max) {
        (void)snprintf(text, sizeof text,
                       "'autoscale': 'initial' is %" PRIu32
                       ", must be between 'min' and 'max', %" PRIu32 " and %" PRIu32,
                       autoscale->initial, advice->accelerators_min, advice->accelerators_max);
        return wrong(scenario, autoscale->line, reterr, text);
    }
    struct fm_advisor advisor;
    struct fm_error error = {0};
    return fm_advisor_init(&advisor, advice, &error) == 0
               ? 0
               : wrong(scenario, autoscale->line, reterr, error.text);
}

int fm_sim_scenario_check(struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    uint64_t models = 0;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        scenario->groups[i].first = (uint32_t)models;
        models += scenario->groups[i].count;
    }
    uint64_t accelerators = 0;
    for (uint32_t i = 0; i < scenario->pool_count; i++) {
        accelerators += scenario->pools[i].count;
    }
    char text[160];
    if (models == 0 || models > FM_SCHED_MODELS_LIMIT) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " models; there may be 1 to %u", models,
                       FM_SCHED_MODELS_LIMIT);
        return wrong(scenario, 0, reterr, text);
    }
    if (accelerators == 0 || accelerators > FM_SCHED_ACCELERATORS_LIMIT) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " accelerators; there may be 1 to %u",
                       accelerators, FM_SCHED_ACCELERATORS_LIMIT);
        return wrong(scenario, 0, reterr, text);
    }
    if (scenario->measure_ns == 0 || scenario->measure_ns > FM_SIM_TIME_MAX_NS ||
        scenario->warmup_ns > FM_SIM_TIME_MAX_NS) {
        return wrong(scenario, 0, reterr,
                     "'measure' must be above 0, and both it and 'warmup' at most "
                     "two years");
    }
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        status = group_check(scenario, &scenario->groups[i], reterr);
    }
    status = status == 0 ? autoscale_check(scenario, reterr) : status;
    return status == 0 ? faults_check(scenario, reterr) : status;
}
