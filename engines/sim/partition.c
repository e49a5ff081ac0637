/*
 * Plans of sub-clusters, and the sum of their runs. See partition.h.
 */
#include "engines/sim/partition.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"

#define NAME_SIZE      160u
#define FACTOR_SAMPLES 32u /* of a load that changes within a placement */
/* Divided models need places on top of one each. */
#define EXTRA_PLACES(clusters) ((clusters)*4u + 1024u)

struct planner {
    const struct fm_sim_scenario *scenario;
    double scale;
    struct fm_error *reterr;
    struct fm_sim_division *division;
    struct fm_latency_table *tables; /* by group, then by event; batch_max 0: not needed */
    uint32_t table_count;
    double *rates_hz;                         /* by model: the mean, without steps */
    const struct fm_latency_table **promises; /* by model: what the scheduler is told now */
    bool *present;                            /* by model, now */
    uint32_t *groups;                         /* by model */
    struct fm_partition_model *models;
    char (*names)[NAME_SIZE]; /* by model, for messages */
    struct fm_partition_cluster *clusters;
    struct fm_partition_place *places;
    struct fm_partition_place *previous;
    uint32_t previous_count;
    uint32_t place_capacity;
};

static int out_of_memory(const struct planner *planner)
{
    return fm_error_set(planner->reterr, FM_ENOMEM, "out of memory for the partition");
}

/* --- accelerators ------------------------------------------------------------------------------
 */

/* Equal runs of each type's accelerators. */
static int accelerators_divide(struct planner *planner)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    struct fm_sim_division *division = planner->division;
    uint32_t counts[FM_SCHED_TYPES_LIMIT] = {0};
    uint32_t seen[FM_SCHED_TYPES_LIMIT] = {0};
    for (uint32_t i = 0; i < scenario->pool_count; i++) {
        counts[scenario->pools[i].type] += scenario->pools[i].count;
    }
    for (uint32_t type = 0; type < scenario->type_count; type++) {
        if (counts[type] < division->cluster_count) {
            return fm_error_set(planner->reterr, FM_EINVAL,
                                "%s: %" PRIu32 " sub-clusters, but only %" PRIu32
                                " accelerators of type '%s': each sub-cluster needs one; give "
                                "fewer 'clusters'",
                                scenario->file != NULL ? scenario->file : "scenario",
                                division->cluster_count, counts[type], scenario->types[type]);
        }
    }
    uint32_t id = 0;
    for (uint32_t i = 0; i < scenario->pool_count; i++) {
        uint32_t type = scenario->pools[i].type;
        for (uint32_t j = 0; j < scenario->pools[i].count; j++, id++) {
            uint32_t cluster =
                (uint32_t)((uint64_t)seen[type]++ * division->cluster_count / counts[type]);
            division->accelerator_clusters[id] = cluster;
            division->locals[id] = division->accelerators[cluster]++;
        }
    }
    for (uint32_t i = 1; i < division->cluster_count; i++) {
        division->first[i] = division->first[i - 1] + division->accelerators[i - 1];
    }
    for (uint32_t i = 0; i < division->accelerator_count; i++) {
        division
            ->members[division->first[division->accelerator_clusters[i]] + division->locals[i]] = i;
    }
    uint64_t memory_bytes = scenario->partition.memory_bytes;
    for (uint32_t i = 0; i < division->cluster_count; i++) {
        planner->clusters[i] = (struct fm_partition_cluster){
            .accelerators = division->accelerators[i],
            .memory_bytes = memory_bytes > 0 ? memory_bytes : FM_PARTITION_MEMORY_MAX_BYTES,
        };
    }
    return 0;
}

/* --- demand ------------------------------------------------------------------------------------
 */

/* As far as the scheduler would batch. */
static int table_create(struct planner *planner, const struct fm_sim_group *group,
                        const struct fm_profile *const *profiles, struct fm_latency_table *table)
{
    int status = fm_sim_group_table(planner->scenario, group, profiles,
                                    fm_sim_group_told_ns(group) * 2, table);
    return status == 0 ? 0 : out_of_memory(planner);
}

static int tables_create(struct planner *planner)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        status = table_create(planner, group, group->profiles, &planner->tables[i]);
        for (uint32_t j = 0; j < group->count; j++) {
            planner->promises[group->first + j] = &planner->tables[i];
            planner->present[group->first + j] = !group->absent;
            planner->groups[group->first + j] = i;
            planner->models[group->first + j].name = fm_sim_scenario_model_name(
                scenario, group->first + j, planner->names[group->first + j], NAME_SIZE);
        }
        double *rates_hz = planner->rates_hz + group->first;
        status = status == 0 ? fm_sim_group_shares(group, rates_hz, planner->reterr) : status;
        for (uint32_t j = 0; status == 0 && j < group->count; j++) {
            rates_hz[j] *= fm_sim_arrivals_rate_hz(&group->arrivals) * planner->scale;
        }
    }
    for (uint32_t i = 0; status == 0 && i < scenario->event_count; i++) {
        const struct fm_sim_event *event = &scenario->events[i];
        if (event->kind == FM_SIM_EVENT_REPROFILED && event->change != FM_SIM_CHANGE_TRUTH) {
            const struct fm_sim_group *group = &scenario->groups[planner->groups[event->first]];
            status = table_create(planner, group, event->profiles,
                                  &planner->tables[scenario->group_count + i]);
        }
    }
    return status;
}

/* The factor of the steps at a time. */
static double factor_at(const struct fm_arrivals_spec *spec, uint64_t time_ns)
{
    double factor = 1;
    uint64_t from_ns = 0;
    time_ns = spec->period_ns > 0 ? time_ns % spec->period_ns : time_ns;
    for (uint32_t i = 0; i < spec->step_count; i++) {
        const struct fm_arrivals_step *step = &spec->steps[i];
        if (step->at_ns > time_ns) {
            double way = (double)(time_ns - from_ns) / (double)(step->at_ns - from_ns);
            return step->ramp ? factor + (step->factor - factor) * way : factor;
        }
        factor = step->factor;
        from_ns = step->at_ns;
    }
    return factor;
}

/* How many of ascending times are before one. */
static uint64_t count_before(const struct fm_arrivals_spec *spec, double time_ns)
{
    uint64_t low = 0;
    uint64_t high = spec->time_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        *((double)spec->times_ns[middle] < time_ns ? &low : &high) =
            (double)spec->times_ns[middle] < time_ns ? middle + 1 : middle;
    }
    return low;
}

/* What the scenario's load of a group is in an interval, as a multiple of its mean. */
static double load_factor(const struct planner *planner, const struct fm_sim_group *group,
                          uint64_t from_ns, uint64_t to_ns)
{
    const struct fm_arrivals_spec *spec = &group->arrivals;
    if (spec->kind == FM_ARRIVALS_TRACE) {
        /* Scaled, it runs that much faster, and then is over. */
        uint64_t count = count_before(spec, (double)to_ns * planner->scale) -
                         count_before(spec, (double)from_ns * planner->scale);
        double mean_hz = fm_sim_arrivals_rate_hz(&group->arrivals) * planner->scale;
        return mean_hz > 0 ? (double)count * 1e9 / (double)(to_ns - from_ns) / mean_hz : 0;
    }
    double sum = 0;
    for (uint32_t i = 0; i < FACTOR_SAMPLES; i++) {
        sum += factor_at(spec, from_ns + (to_ns - from_ns) / FACTOR_SAMPLES * i +
                                   (to_ns - from_ns) / FACTOR_SAMPLES / 2);
    }
    return sum / FACTOR_SAMPLES;
}

/* Accelerators kept busy by batches that gather and run within the SLO, in thousandths. */
static uint64_t demand_of(const struct planner *planner, uint32_t id, double rate_hz)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    const struct fm_latency_table *table = planner->promises[id];
    if (!planner->present[id] || !(rate_hz > 0)) {
        return 0;
    }
    uint64_t fixed_ns = scenario->control_ns + scenario->result_ns;
    uint64_t slo_ns = fm_sim_group_told_ns(&scenario->groups[planner->groups[id]]);
    double gap_ns = 1e9 / rate_hz;
    uint64_t row_ns =
        gap_ns < (double)FM_PROFILE_LATENCY_MAX_NS ? (uint64_t)gap_ns : FM_PROFILE_LATENCY_MAX_NS;
    uint32_t batch =
        fm_latency_table_within_growing(table, slo_ns > fixed_ns ? slo_ns - fixed_ns : 0, row_ns);
    batch = batch > 0 ? batch : 1;
    double milli = (double)table->latency_ns[batch] / batch / gap_ns * 1000;
    return milli < (double)FM_PARTITION_DEMAND_MAX_MILLI ? (uint64_t)(milli + 0.5)
                                                         : FM_PARTITION_DEMAND_MAX_MILLI;
}

/* --- placements --------------------------------------------------------------------------------
 */

/* Whether the event may change where models belong. */
static bool is_cause(const struct fm_sim_event *event)
{
    return event->kind == FM_SIM_EVENT_MODEL_ADDED || event->kind == FM_SIM_EVENT_MODEL_REMOVED ||
           (event->kind == FM_SIM_EVENT_REPROFILED && event->change != FM_SIM_CHANGE_TRUTH);
}

/* The times of placements, ascending; the first is 0. */
static int times_plan(struct planner *planner, uint64_t end_ns)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    struct fm_sim_division *division = planner->division;
    uint64_t every_ns = scenario->partition.every_ns;
    uint64_t most = 1 + (uint64_t)scenario->event_count + (every_ns > 0 ? end_ns / every_ns : 0);
    if (most > FM_SIM_SOLVES_MAX + (uint64_t)scenario->event_count ||
        most * division->model_count > FM_SIM_PLACES_MAX) {
        return fm_error_set(planner->reterr, FM_EINVAL,
                            "%s: a partition that is solved up to %" PRIu64 " times for %" PRIu32
                            " models is too much; give a longer 'every'",
                            scenario->file != NULL ? scenario->file : "scenario", most,
                            division->model_count);
    }
    division->solves = fm_alloc_zero((size_t)most, sizeof *division->solves);
    if (division->solves == NULL) {
        return out_of_memory(planner);
    }
    uint64_t next_ns = 0;
    uint32_t event = 0;
    while (next_ns < end_ns) {
        division->solves[division->solve_count++].at_ns = next_ns;
        while (event < scenario->event_count &&
               (scenario->events[event].at_ns <= next_ns || !is_cause(&scenario->events[event]))) {
            event++;
        }
        uint64_t regular_ns = every_ns > 0 ? (next_ns / every_ns + 1) * every_ns : UINT64_MAX;
        uint64_t cause_ns =
            event < scenario->event_count ? scenario->events[event].at_ns : UINT64_MAX;
        next_ns = regular_ns < cause_ns ? regular_ns : cause_ns;
    }
    return 0;
}

/* What is known of the models at a time; events in order of time, each once. */
static void models_advance(struct planner *planner, uint32_t *event_next, uint64_t now_ns)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    for (; *event_next < scenario->event_count && scenario->events[*event_next].at_ns <= now_ns;
         (*event_next)++) {
        const struct fm_sim_event *event = &scenario->events[*event_next];
        for (uint32_t i = 0; is_cause(event) && i < event->count; i++) {
            if (event->kind == FM_SIM_EVENT_REPROFILED) {
                planner->promises[event->first + i] =
                    &planner->tables[scenario->group_count + *event_next];
            } else {
                planner->present[event->first + i] = event->kind == FM_SIM_EVENT_MODEL_ADDED;
            }
        }
    }
}

/* Demands and memory until `to_ns`. */
static void problem_fill(struct planner *planner, uint64_t from_ns, uint64_t to_ns)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        double factor = load_factor(planner, group, from_ns, to_ns);
        for (uint32_t id = group->first; id < group->first + group->count; id++) {
            planner->models[id].demand_milli =
                demand_of(planner, id, planner->rates_hz[id] * factor);
            planner->models[id].memory_bytes = planner->present[id] ? group->memory_bytes : 0;
        }
    }
}

/* Where the requests of divided models go, and what each sub-cluster has. */
static void shares_fill(const struct planner *planner, struct fm_sim_solve *solve)
{
    uint32_t place = 0;
    for (uint32_t id = 0; id < planner->division->model_count; id++) {
        uint64_t demand = planner->models[id].demand_milli;
        uint64_t sum = 0;
        solve->first[id] = place;
        for (; place < solve->place_count && planner->places[place].model == id; place++) {
            const struct fm_partition_place *found = &planner->places[place];
            struct fm_sim_cluster_plan *cluster = &solve->clusters[found->cluster];
            sum += found->demand_milli;
            solve->places[place] = (struct fm_sim_place){
                .model = id,
                .cluster = found->cluster,
                .demand_milli = found->demand_milli,
                .below = demand > 0 ? sum * FM_SIM_DRAW_END / demand : FM_SIM_DRAW_END,
            };
            cluster->model_count += planner->present[id];
            cluster->demand_milli += found->demand_milli;
            cluster->memory_bytes += planner->models[id].memory_bytes;
        }
    }
    solve->first[planner->division->model_count] = place;
}

static int solve(struct planner *planner, struct fm_sim_solve *solve)
{
    const struct fm_sim_partition *settings = &planner->scenario->partition;
    const struct fm_sim_division *division = planner->division;
    struct fm_error error = {0};
    struct fm_partition_problem problem = {
        .models = planner->models,
        .model_count = division->model_count,
        .clusters = planner->clusters,
        .cluster_count = division->cluster_count,
        .threshold_permille = settings->threshold_permille,
        .gain_permille = settings->gain_permille,
    };
    int status =
        fm_partition_solve(&problem, planner->previous, planner->previous_count, planner->places,
                           planner->place_capacity, &solve->result, &error);
    if (status != 0) {
        return fm_error_set(planner->reterr, status, "at %g s: %s", (double)solve->at_ns / 1e9,
                            error.text);
    }
    solve->place_count = solve->result.place_count;
    solve->places = fm_alloc((size_t)solve->place_count * sizeof *solve->places);
    solve->first = fm_alloc(((size_t)division->model_count + 1) * sizeof *solve->first);
    solve->clusters = fm_alloc_zero(division->cluster_count, sizeof *solve->clusters);
    if (solve->places == NULL || solve->first == NULL || solve->clusters == NULL) {
        return out_of_memory(planner);
    }
    shares_fill(planner, solve);
    memcpy(planner->previous, planner->places, solve->place_count * sizeof *planner->places);
    planner->previous_count = solve->place_count;
    return 0;
}

static int plan(struct planner *planner)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    struct fm_sim_division *division = planner->division;
    uint64_t end_ns = scenario->warmup_ns + scenario->measure_ns;
    uint32_t event_next = 0;
    int status = accelerators_divide(planner);
    status = status == 0 ? tables_create(planner) : status;
    status = status == 0 ? times_plan(planner, end_ns) : status;
    for (uint32_t i = 0; status == 0 && i < division->solve_count; i++) {
        uint64_t from_ns = division->solves[i].at_ns;
        models_advance(planner, &event_next, from_ns);
        problem_fill(planner, from_ns,
                     i + 1 < division->solve_count ? division->solves[i + 1].at_ns : end_ns);
        status = solve(planner, &division->solves[i]);
    }
    return status;
}

static int planner_create(struct planner *planner)
{
    const struct fm_sim_scenario *scenario = planner->scenario;
    struct fm_sim_division *division = planner->division;
    uint32_t models = division->model_count;
    division->accelerator_clusters =
        fm_alloc_zero(division->accelerator_count, sizeof *division->accelerator_clusters);
    division->accelerators = fm_alloc_zero(division->cluster_count, sizeof *division->accelerators);
    division->locals = fm_alloc_zero(division->accelerator_count, sizeof *division->locals);
    division->members = fm_alloc_zero(division->accelerator_count, sizeof *division->members);
    division->first = fm_alloc_zero(division->cluster_count, sizeof *division->first);
    planner->table_count = scenario->group_count + scenario->event_count;
    planner->place_capacity = models + EXTRA_PLACES(division->cluster_count);
    planner->tables = fm_alloc_zero(planner->table_count, sizeof *planner->tables);
    planner->rates_hz = fm_alloc_zero(models, sizeof *planner->rates_hz);
    planner->promises = fm_alloc_zero(models, sizeof *planner->promises);
    planner->present = fm_alloc_zero(models, sizeof *planner->present);
    planner->groups = fm_alloc_zero(models, sizeof *planner->groups);
    planner->models = fm_alloc_zero(models, sizeof *planner->models);
    planner->names = fm_alloc_zero(models, sizeof *planner->names);
    planner->clusters = fm_alloc_zero(division->cluster_count, sizeof *planner->clusters);
    planner->places = fm_alloc_zero(planner->place_capacity, sizeof *planner->places);
    planner->previous = fm_alloc_zero(planner->place_capacity, sizeof *planner->previous);
    return division->accelerator_clusters == NULL || division->accelerators == NULL ||
                   division->locals == NULL || division->members == NULL ||
                   division->first == NULL || planner->tables == NULL ||
                   planner->rates_hz == NULL || planner->promises == NULL ||
                   planner->present == NULL || planner->groups == NULL || planner->models == NULL ||
                   planner->names == NULL || planner->clusters == NULL || planner->places == NULL ||
                   planner->previous == NULL
               ? out_of_memory(planner)
               : 0;
}

static void planner_destroy(struct planner *planner)
{
    for (uint32_t i = 0; planner->tables != NULL && i < planner->table_count; i++) {
        fm_latency_table_deinit(&planner->tables[i]);
    }
    fm_free(planner->tables);
    fm_free(planner->rates_hz);
    fm_free(planner->promises);
    fm_free(planner->present);
    fm_free(planner->groups);
    fm_free(planner->models);
    fm_free(planner->names);
    fm_free(planner->clusters);
    fm_free(planner->places);
    fm_free(planner->previous);
}

int fm_sim_division_create(const struct fm_sim_scenario *scenario, double scale,
                           struct fm_sim_division **ret_division, struct fm_error *reterr)
{
    struct fm_sim_division *division = fm_alloc_zero(1, sizeof *division);
    if (division == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the partition");
    }
    division->cluster_count = scenario->partition.clusters;
    division->model_count = fm_sim_scenario_model_count(scenario);
    division->accelerator_count = fm_sim_scenario_accelerator_count(scenario);
    struct planner planner = {
        .scenario = scenario, .scale = scale, .reterr = reterr, .division = division};
    int status = planner_create(&planner);
    status = status == 0 ? plan(&planner) : status;
    planner_destroy(&planner);
    if (status != 0) {
        fm_sim_division_destroy(division);
        return status;
    }
    *ret_division = division;
    return 0;
}

void fm_sim_division_destroy(struct fm_sim_division *division)
{
    if (division == NULL) {
        return;
    }
    for (uint32_t i = 0; i < division->solve_count; i++) {
        fm_free(division->solves[i].places);
        fm_free(division->solves[i].first);
        fm_free(division->solves[i].clusters);
    }
    fm_free(division->solves);
    fm_free(division->accelerator_clusters);
    fm_free(division->accelerators);
    fm_free(division->locals);
    fm_free(division->members);
    fm_free(division->first);
    fm_free(division);
}

bool fm_sim_division_has(const struct fm_sim_division *division, uint32_t cluster, uint32_t model)
{
    for (uint32_t i = 0; i < division->solve_count; i++) {
        const struct fm_sim_solve *solve = &division->solves[i];
        for (uint32_t j = solve->first[model]; j < solve->first[model + 1]; j++) {
            if (solve->places[j].cluster == cluster) {
                return true;
            }
        }
    }
    return false;
}

/* --- the sum of runs ---------------------------------------------------------------------------
 */

static void counts_add(struct fm_sim_counts *sum, const struct fm_sim_counts *counts)
{
    sum->requests += counts->requests;
    sum->good += counts->good;
    sum->late += counts->late;
    sum->batches += counts->batches;
    sum->rows += counts->rows;
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        sum->dropped[i] += counts->dropped[i];
    }
}

static void models_add(struct fm_sim_result *sum, const struct fm_sim_result *part)
{
    for (uint32_t i = 0; i < sum->model_count; i++) {
        counts_add(&sum->models[i].counts, &part->models[i].counts);
        fm_log_histogram_merge(&sum->models[i].latency, &part->models[i].latency);
        for (uint32_t j = 0; j < sum->models[i].class_count; j++) {
            counts_add(&sum->models[i].classes[j].counts, &part->models[i].classes[j].counts);
        }
    }
}

/* Adds a sub-cluster's run to those before it. */
static void result_add(struct fm_sim_result *sum, const struct fm_sim_result *part)
{
    models_add(sum, part);
    counts_add(&sum->total, &part->total);
    fm_log_histogram_merge(&sum->latency, &part->latency);
    for (uint32_t i = 0; i <= sum->batch_max; i++) {
        sum->batch_sizes[i] += part->batch_sizes[i];
    }
    for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
        sum->timeline[i].busy_ns += part->timeline[i].busy_ns;
        sum->timeline[i].up_ns += part->timeline[i].up_ns;
        sum->timeline[i].used += part->timeline[i].used;
        sum->timeline[i].requests += part->timeline[i].requests;
        sum->timeline[i].bad += part->timeline[i].bad;
    }
    sum->trace_hash = fm_hash_add(sum->trace_hash, &part->trace_hash, sizeof part->trace_hash);
    sum->steps += part->steps;
    sum->requests_all += part->requests_all;
    sum->preempted += part->preempted;
    sum->failed += part->failed;
    sum->up_ns += part->up_ns;
    if (sum->audit.violations == 0) {
        memcpy(sum->audit.first, part->audit.first, sizeof sum->audit.first);
    }
    sum->audit.violations += part->audit.violations;
    sum->audit.late_plans += part->audit.late_plans;
}

/* How many were up at once is not the sum of how many were up in each: from the events. */
static int up_extremes(struct fm_sim_result *sum, struct fm_error *reterr)
{
    const struct fm_sim_scenario *scenario = sum->scenario;
    uint64_t end_ns = scenario->warmup_ns + scenario->measure_ns;
    uint64_t from_ns = scenario->warmup_ns;
    uint32_t up = sum->accelerator_count;
    bool *down = fm_alloc_zero(sum->accelerator_count, sizeof *down);
    if (down == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the simulation");
    }
    sum->up_min = UINT32_MAX;
    sum->up_max = 0;
    for (uint32_t i = 0; i <= scenario->event_count; i++) {
        const struct fm_sim_event *event = i < scenario->event_count ? &scenario->events[i] : NULL;
        uint64_t to_ns = event != NULL && event->at_ns < end_ns ? event->at_ns : end_ns;
        if (to_ns > from_ns) {
            sum->up_min = up < sum->up_min ? up : sum->up_min;
            sum->up_max = up > sum->up_max ? up : sum->up_max;
            from_ns = to_ns;
        }
        bool falls = event != NULL && event->kind == FM_SIM_EVENT_DOWN;
        bool rises = event != NULL && event->kind == FM_SIM_EVENT_UP;
        for (uint32_t j = 0; (falls || rises) && j < event->count; j++) {
            if (down[event->first + j] != falls) {
                down[event->first + j] = falls;
                up = falls ? up - 1 : up + 1;
            }
        }
    }
    fm_free(down);
    return 0;
}

void fm_sim_partition_result_free(struct fm_sim_partition_result *partition)
{
    if (partition != NULL) {
        fm_sim_division_destroy(partition->division);
        fm_free(partition->clusters);
        fm_free(partition);
    }
}

/* The same load on one pool, for its counts. */
static int pool_run(const struct fm_sim_scenario *scenario,
                    const struct fm_sim_run_options *options,
                    struct fm_sim_partition_result *partition, struct fm_error *reterr)
{
    struct fm_sim_scenario whole = *scenario; /* the arena stays the scenario's */
    struct fm_sim_run_options alone = {
        .policy = options->policy, .seed = options->seed, .scale = options->scale};
    struct fm_sim_result *result = NULL;
    whole.partition.clusters = 0;
    int status = fm_sim_run(&whole, &alone, &result, reterr);
    if (status == 0) {
        partition->has_pool = true;
        partition->pool = result->total;
    }
    fm_sim_result_free(result);
    return status;
}

/* Says where it was. */
static void audit_place(struct fm_sim_audit *audit, uint32_t cluster)
{
    char first[sizeof audit->first];
    if (audit->violations > 0) {
        memcpy(first, audit->first, sizeof first);
        (void)snprintf(audit->first, sizeof audit->first, "in sub-cluster %" PRIu32 ", %.200s",
                       cluster, first);
    }
}

/* What is of this sub-cluster alone. */
static void cluster_take(struct fm_sim_partition_result *partition, uint32_t cluster,
                         const struct fm_sim_result *part,
                         struct fm_sim_accelerator_result *accelerators)
{
    const struct fm_sim_division *division = partition->division;
    partition->clusters[cluster].total = part->total;
    for (uint32_t i = 0; i < part->accelerator_count; i++) {
        partition->clusters[cluster].busy_ns += part->accelerators[i].busy_ns;
        accelerators[division->members[division->first[cluster] + i]] = part->accelerators[i];
    }
}

static int clusters_run(const struct fm_sim_scenario *scenario,
                        const struct fm_sim_run_options *options,
                        struct fm_sim_partition_result *partition,
                        struct fm_sim_result **ret_result, struct fm_error *reterr)
{
    int status = 0;
    struct fm_sim_accelerator_result *accelerators =
        fm_alloc_zero(partition->division->accelerator_count, sizeof *accelerators);
    if (accelerators == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the partition");
    }
    for (uint32_t i = 0; status == 0 && i < partition->division->cluster_count; i++) {
        struct fm_sim_run_options part_options = *options;
        struct fm_sim_result *part = NULL;
        part_options.division = partition->division;
        part_options.cluster = i;
        status = fm_sim_run(scenario, &part_options, &part, reterr);
        if (status != 0) {
            break;
        }
        audit_place(&part->audit, i);
        cluster_take(partition, i, part, accelerators);
        if (*ret_result == NULL) {
            *ret_result = part; /* the others are added to the first */
            uint64_t hash = part->trace_hash;
            part->trace_hash = fm_hash_add(FM_HASH_START, &hash, sizeof hash);
        } else {
            result_add(*ret_result, part);
            fm_sim_result_free(part);
        }
    }
    if (*ret_result == NULL) {
        fm_free(accelerators);
        return status;
    }
    fm_free((*ret_result)->accelerators);
    (*ret_result)->accelerators = accelerators;
    (*ret_result)->accelerator_count = partition->division->accelerator_count;
    return status == 0 ? up_extremes(*ret_result, reterr) : status;
}

int fm_sim_partition_run(const struct fm_sim_scenario *scenario,
                         const struct fm_sim_run_options *options,
                         struct fm_sim_result **ret_result, struct fm_error *reterr)
{
    FM_ASSERT(options->recorder == NULL);
    struct fm_sim_result *result = NULL;
    struct fm_sim_partition_result *partition = fm_alloc_zero(1, sizeof *partition);
    if (partition == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the partition");
    }
    int status = fm_sim_division_create(scenario, options->scale, &partition->division, reterr);
    if (status == 0) {
        partition->clusters =
            fm_alloc_zero(partition->division->cluster_count, sizeof *partition->clusters);
        status = partition->clusters != NULL
                     ? 0
                     : fm_error_set(reterr, FM_ENOMEM, "out of memory for the partition");
    }
    status =
        status == 0 && options->with_pool ? pool_run(scenario, options, partition, reterr) : status;
    status = status == 0 ? clusters_run(scenario, options, partition, &result, reterr) : status;
    if (status != 0) {
        fm_sim_partition_result_free(partition);
        fm_sim_result_free(result);
        return status;
    }
    result->partition = partition;
    *ret_result = result;
    return 0;
}
