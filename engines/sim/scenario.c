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
#include "engines/sim/pipeline.h"

#define SECOND_NS        1e9
#define REQUESTS_DEFAULT 65536u
#define TRACE_REQUESTS   (1u << 18)

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
        .partition = {.threshold_permille = 100, .gain_permille = 20},
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

double fm_sim_arrivals_rate_hz(const struct fm_arrivals_spec *spec)
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
        rate += fm_sim_arrivals_rate_hz(&scenario->groups[i].arrivals) * scenario->groups[i].count;
    }
    for (uint32_t i = 0; i < scenario->pipeline_count; i++) {
        rate += fm_sim_arrivals_rate_hz(&scenario->pipelines[i].arrivals);
    }
    return rate;
}

/* What a load brings in four times its SLO, and room for bursts of a trace. */
static double under_way(const struct fm_arrivals_spec *spec, uint64_t slo_ns, double scale)
{
    double peak = spec->rate_hz;
    for (uint32_t i = 0; i < spec->state_count; i++) {
        peak = spec->states[i].rate_hz > peak ? spec->states[i].rate_hz : peak;
    }
    double factor = 1;
    for (uint32_t i = 0; i < spec->step_count; i++) {
        factor = spec->steps[i].factor > factor ? spec->steps[i].factor : factor;
    }
    return 4 * peak * factor * scale * (double)slo_ns / 1e9 +
           (spec->kind == FM_ARRIVALS_TRACE ? TRACE_REQUESTS : 0);
}

uint32_t fm_sim_scenario_requests_max(const struct fm_sim_scenario *scenario, double scale)
{
    if (scenario->requests_max > 0) {
        return scenario->requests_max;
    }
    double wanted = REQUESTS_DEFAULT;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        wanted += under_way(&group->arrivals, fm_sim_group_slo_max_ns(group), group->count * scale);
    }
    for (uint32_t i = 0; i < scenario->pipeline_count; i++) {
        wanted += under_way(&scenario->pipelines[i].arrivals, scenario->pipelines[i].slo_ns, scale);
    }
    return wanted < FM_SCHED_REQUESTS_LIMIT ? (uint32_t)wanted : FM_SCHED_REQUESTS_LIMIT;
}

uint64_t fm_sim_group_slo_min_ns(const struct fm_sim_group *group)
{
    return group->slo_choice_count > 0 ? group->slo_choices[0].value : group->slo_ns;
}

uint64_t fm_sim_group_slo_max_ns(const struct fm_sim_group *group)
{
    return group->slo_choice_count > 0 ? group->slo_choices[group->slo_choice_count - 1].value
                                       : group->slo_ns;
}

uint64_t fm_sim_group_told_ns(const struct fm_sim_group *group)
{
    return group->stage_ns > 0 && (group->slo_ns == 0 || group->stage_ns < group->slo_ns)
               ? group->stage_ns
               : group->slo_ns;
}

int fm_sim_group_table(const struct fm_sim_scenario *scenario, const struct fm_sim_group *group,
                       const struct fm_profile *const *profiles, uint64_t most_ns,
                       struct fm_latency_table *ret_table)
{
    const struct fm_profile *best = NULL;
    uint64_t best_ns = UINT64_MAX;
    for (uint32_t type = 0; type < scenario->type_count; type++) {
        uint64_t one_ns = profiles[type] == NULL
                              ? UINT64_MAX
                              : fm_profile_latency_ns(profiles[type], group->statistic, 1);
        best = one_ns < best_ns ? profiles[type] : best;
        best_ns = one_ns < best_ns ? one_ns : best_ns;
    }
    uint32_t batch_max = group->batch_max > 0 && group->batch_max < scenario->batch_max
                             ? group->batch_max
                             : scenario->batch_max;
    uint32_t limit = fm_profile_batch_within(best, group->statistic, most_ns, batch_max);
    return fm_latency_table_set(ret_table, best, group->statistic, limit > 0 ? limit : 1,
                                scenario->data_ns);
}

double fm_sim_pipeline_share_ms(const struct fm_sim_pipeline *pipeline, uint32_t stage)
{
    uint64_t before_ns = stage > 0 ? pipeline->due_ns[stage - 1] : 0;
    return (double)(pipeline->due_ns[stage] - before_ns) / 1e6;
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

static bool is_drawn(const struct fm_arrivals_spec *arrivals)
{
    return arrivals->kind != FM_ARRIVALS_TRACE && arrivals->kind != FM_ARRIVALS_CONSTANT &&
           !(arrivals->kind == FM_ARRIVALS_LOADGEN && arrivals->loadgen_seeded);
}

bool fm_sim_scenario_draws(const struct fm_sim_scenario *scenario)
{
    /* A model of several sub-clusters: where each request goes. */
    bool draws = scenario->partition.clusters > 0;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        draws = draws ||
                (!group->silent && (is_drawn(&group->arrivals) || group->slo_choice_count > 1 ||
                                    group->priority_choice_count > 1));
    }
    for (uint32_t i = 0; i < scenario->pipeline_count; i++) {
        draws = draws || is_drawn(&scenario->pipelines[i].arrivals);
    }
    return draws;
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

/* The stream itself is the best judge of its numbers. */
static int stream_check(const struct fm_sim_scenario *scenario, const struct fm_arrivals_spec *spec,
                        const char *what, const char *name, uint32_t line, struct fm_error *reterr)
{
    char text[320];
    struct fm_arrivals *arrivals = NULL;
    struct fm_error error = {0};
    int status = fm_arrivals_create(spec, 1, &arrivals, &error);
    fm_arrivals_destroy(arrivals);
    if (status == 0) {
        return 0;
    }
    (void)snprintf(text, sizeof text, "arrivals of %s '%.60s': %.200s", what, name, error.text);
    return status == FM_EINVAL ? wrong(scenario, line, reterr, text)
                               : fm_error_set(reterr, status, "%s", text);
}

static int group_check(const struct fm_sim_scenario *scenario, const struct fm_sim_group *group,
                       struct fm_error *reterr)
{
    char text[320];
    bool runs = false;
    uint64_t fixed_ns = scenario->control_ns + scenario->data_ns + scenario->result_ns;
    uint64_t shortest_ns = UINT64_MAX;
    uint64_t slo_ns = fm_sim_group_slo_min_ns(group);
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
    if (fm_sim_group_slo_max_ns(group) > FM_PROFILE_LATENCY_MAX_NS) {
        (void)snprintf(text, sizeof text,
                       "model '%.100s': its slo is longer than the 19 hours that the scheduler "
                       "plans ahead",
                       group->name);
        return wrong(scenario, group->line, reterr, text);
    }
    if (group->queue_delay_ns > FM_PROFILE_LATENCY_MAX_NS) {
        (void)snprintf(text, sizeof text,
                       "model '%.100s': its queue_delay is longer than the 19 hours that the "
                       "scheduler plans ahead",
                       group->name);
        return wrong(scenario, group->line, reterr, text);
    }
    if (shortest_ns + fixed_ns > slo_ns && slo_ns > 0) {
        (void)snprintf(text, sizeof text,
                       "model '%.100s' can never meet its slo of %g ms: a batch of one takes %g ms "
                       "and the network %g ms",
                       group->name, (double)slo_ns / 1e6, (double)shortest_ns / 1e6,
                       (double)fixed_ns / 1e6);
        return wrong(scenario, group->line, reterr, text);
    }
    return group->silent ? 0
                         : stream_check(scenario, &group->arrivals, "model", group->name,
                                        group->line, reterr);
}

/* A model without arrivals, or without an SLO, of its own is a stage. */
static int stages_check(const struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        if ((group->silent || group->slo_ns == 0) && group->stage_ns == 0) {
            char text[240];
            (void)snprintf(text, sizeof text,
                           "missing key '%s': model '%.100s' is a stage of no pipeline",
                           group->slo_ns == 0 ? "slo" : "arrivals", group->name);
            return wrong(scenario, group->line, reterr, text);
        }
        if (group->slo_ns == 0 && !group->silent) {
            return wrong(scenario, group->line, reterr,
                         "missing key 'slo': the model has arrivals of its own");
        }
    }
    return 0;
}

static int pipelines_check(struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    int status = 0;
    if (scenario->pipeline_count > 0 && scenario->partition.clusters > 0) {
        return wrong(scenario, scenario->partition.line, reterr,
                     "'partition' and 'pipelines' do not go together: a pipeline's stages would be "
                     "in several sub-clusters, which are simulated one after the other");
    }
    for (uint32_t i = 0; status == 0 && i < scenario->pipeline_count; i++) {
        const struct fm_sim_pipeline *pipeline = &scenario->pipelines[i];
        if (pipeline->slo_ns > FM_PROFILE_LATENCY_MAX_NS) {
            return wrong(scenario, pipeline->line, reterr,
                         "the pipeline's slo is longer than the 19 hours that the scheduler plans "
                         "ahead");
        }
        status = stream_check(scenario, &pipeline->arrivals, "pipeline", pipeline->name,
                              pipeline->line, reterr);
    }
    status = status == 0 ? fm_sim_pipelines_split(scenario, reterr) : status;
    return status == 0 ? stages_check(scenario, reterr) : status;
}

static int place_check(const struct fm_sim_scenario *scenario, const struct fm_sim_event *event,
                       const char *what, uint32_t limit, struct fm_error *reterr)
{
    char text[160];
    if (event->first < limit && event->count <= limit - event->first) {
        return 0;
    }
    (void)snprintf(text, sizeof text,
                   "the event is for %s %" PRIu32 " to %" PRIu64 ", but the last one is %" PRIu32,
                   what, event->first, (uint64_t)event->first + event->count - 1, limit - 1);
    return wrong(scenario, event->line, reterr, text);
}

static bool is_of_models(const struct fm_sim_event *event)
{
    return event->kind == FM_SIM_EVENT_MODEL_ADDED || event->kind == FM_SIM_EVENT_MODEL_REMOVED ||
           event->kind == FM_SIM_EVENT_REPROFILED;
}

/* A batch may stand behind another when its model's profile changes: it must find one. */
static int types_check(const struct fm_sim_scenario *scenario, const struct fm_sim_event *event,
                       struct fm_error *reterr)
{
    char text[320];
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        bool concerned = event->first < group->first + group->count &&
                         group->first < event->first + event->count;
        for (uint32_t type = 0; concerned && type < scenario->type_count; type++) {
            if ((group->profiles[type] == NULL) != (event->profiles[type] == NULL)) {
                (void)snprintf(text, sizeof text,
                               "the new profile must be for the same types of accelerators: model "
                               "'%.100s' %s on type '%.63s', the new profile %s",
                               group->name, group->profiles[type] != NULL ? "runs" : "does not run",
                               scenario->types[type],
                               event->profiles[type] != NULL ? "has it" : "has it not");
                return wrong(scenario, event->line, reterr, text);
            }
        }
    }
    return 0;
}

/* Coming and going of models, in order of time; `present`: of each. */
static int presence_check(const struct fm_sim_scenario *scenario, const struct fm_sim_event *event,
                          bool *present, struct fm_error *reterr)
{
    bool comes = event->kind == FM_SIM_EVENT_MODEL_ADDED;
    bool any = false;
    for (uint32_t i = 0; i < event->count; i++) {
        any = any || present[event->first + i] != comes;
        present[event->first + i] = comes;
    }
    if (any) {
        return 0;
    }
    char text[320];
    char name[160];
    (void)snprintf(text, sizeof text, "model '%s' is %s at %g s%s",
                   fm_sim_scenario_model_name(scenario, event->first, name, sizeof name),
                   comes ? "there already" : "not there", (double)event->at_ns / 1e9,
                   comes ? ": one that comes later has 'present: false'"
                         : ": it cannot be removed");
    return wrong(scenario, event->line, reterr, text);
}

static int models_events_check(const struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    uint32_t models = fm_sim_scenario_model_count(scenario);
    bool *present = fm_alloc(models * sizeof *present);
    if (present == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while checking the scenario");
    }
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        memset(present + group->first, group->absent ? 0 : 1, group->count);
    }
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->event_count; i++) {
        const struct fm_sim_event *event = &scenario->events[i];
        if (!is_of_models(event)) {
            continue;
        }
        status = place_check(scenario, event, "models", models, reterr);
        if (status == 0) {
            status = event->kind == FM_SIM_EVENT_REPROFILED
                         ? types_check(scenario, event, reterr)
                         : presence_check(scenario, event, present, reterr);
        }
    }
    fm_free(present);
    return status;
}

static int events_check(struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    uint32_t accelerators = fm_sim_scenario_accelerator_count(scenario);
    int status = 0;
    bool of_models = false;
    for (uint32_t i = 0; status == 0 && i < scenario->event_count; i++) {
        struct fm_sim_event event = scenario->events[i];
        of_models = of_models || is_of_models(&event);
        if (!is_of_models(&event)) {
            status = place_check(scenario, &event, "accelerators", accelerators, reterr);
        }
        /* Insertion: few, mostly in order, and equal times stay as they were written. */
        uint32_t place = i;
        while (place > 0 && scenario->events[place - 1].at_ns > event.at_ns) {
            scenario->events[place] = scenario->events[place - 1];
            place--;
        }
        scenario->events[place] = event;
    }
    return status == 0 && of_models ? models_events_check(scenario, reterr) : status;
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

static int partition_check(const struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    const struct fm_sim_partition *partition = &scenario->partition;
    if (partition->clusters > 0 && scenario->autoscale.on) {
        return wrong(scenario, partition->line, reterr,
                     "'partition' and 'autoscale' do not go together: accelerators of a "
                     "sub-cluster do not come and go with the load");
    }
    return 0;
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
    status = status == 0 ? pipelines_check(scenario, reterr) : status;
    status = status == 0 ? autoscale_check(scenario, reterr) : status;
    status = status == 0 ? partition_check(scenario, reterr) : status;
    return status == 0 ? events_check(scenario, reterr) : status;
}
