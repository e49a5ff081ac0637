/*
 * Deadlines over stages. See pipeline.h.
 */
#include "engines/sim/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/sched/budget.h"
#include "core/util/error.h"

_Static_assert(FM_SIM_STAGES_MAX <= FM_BUDGET_STAGES_MAX, "a pipeline fits into the split");

static int wrong(const struct fm_sim_scenario *scenario, const struct fm_sim_pipeline *pipeline,
                 const char *text, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EINVAL, "%s:%" PRIu32 ": pipeline '%.100s': %.300s",
                        scenario->file != NULL ? scenario->file : "scenario", pipeline->line,
                        pipeline->name, text);
}

/* The group of a model, and which of its models it is. */
static struct fm_sim_group *group_of(const struct fm_sim_scenario *scenario, uint32_t model)
{
    uint32_t index = 0;
    while (index + 1 < scenario->group_count && scenario->groups[index + 1].first <= model) {
        index++;
    }
    return &scenario->groups[index];
}

/* l(b) with the way of the inputs: that is what a stage's batch takes. */
static int table_create(const struct fm_sim_scenario *scenario, const struct fm_sim_group *group,
                        uint64_t total_ns, struct fm_latency_table *table)
{
    int status = fm_sim_group_table(scenario, group, group->profiles, total_ns, table);
    if (status == 0 && table->total_ns != table->latency_ns) {
        memcpy(table->latency_ns, table->total_ns,
               ((size_t)table->batch_max + 1) * sizeof *table->latency_ns);
    }
    return status;
}

/* Requests per second that a model gets from everybody. */
static double rate_of(const struct fm_sim_scenario *scenario, uint32_t model)
{
    double rate_hz = fm_sim_arrivals_rate_hz(&group_of(scenario, model)->arrivals);
    for (uint32_t i = 0; i < scenario->pipeline_count; i++) {
        const struct fm_sim_pipeline *pipeline = &scenario->pipelines[i];
        for (uint32_t j = 0; j < pipeline->stage_count; j++) {
            rate_hz +=
                pipeline->stages[j] == model ? fm_sim_arrivals_rate_hz(&pipeline->arrivals) : 0;
        }
    }
    return rate_hz;
}

static uint64_t within(double value, uint64_t least, uint64_t most)
{
    return value <= (double)least ? least : value >= (double)most ? most : (uint64_t)(value + 0.5);
}

/* The shares of all stages within total_ns. */
static int shares_of(const struct fm_sim_scenario *scenario, const struct fm_sim_pipeline *pipeline,
                     uint64_t total_ns, uint64_t *ret_shares_ns, struct fm_error *reterr)
{
    struct fm_latency_table tables[FM_SIM_STAGES_MAX] = {{0}};
    struct fm_budget_stage stages[FM_SIM_STAGES_MAX] = {{0}};
    struct fm_budget_edge edges[FM_SIM_STAGES_MAX];
    struct fm_budget_split split;
    struct fm_error error = {0};
    double rate_hz = fm_sim_arrivals_rate_hz(&pipeline->arrivals);
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < pipeline->stage_count; i++) {
        const struct fm_sim_group *group = group_of(scenario, pipeline->stages[i]);
        double rows = rate_hz > 0 ? rate_of(scenario, pipeline->stages[i]) / rate_hz : 1;
        status = table_create(scenario, group, total_ns, &tables[i]);
        stages[i] = (struct fm_budget_stage){
            .name = group->name,
            .table = &tables[i],
            .fan_out_permille = (uint32_t)within(rows * 1000, 1, FM_BUDGET_FAN_OUT_MAX),
        };
        edges[i] = (struct fm_budget_edge){.from = i, .to = i + 1};
    }
    if (status == 0) {
        status =
            fm_budget_split(&(struct fm_budget_pipeline){.stages = stages,
                                                         .stage_count = pipeline->stage_count,
                                                         .edges = edges,
                                                         .edge_count = pipeline->stage_count - 1,
                                                         .rate_millihertz = within(
                                                             rate_hz * 1000, 1, FM_BUDGET_RATE_MAX),
                                                         .total_ns = total_ns},
                            &split, &error);
    } else {
        status = fm_error_set(&error, status, "out of memory");
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        ret_shares_ns[i] = status == 0 ? split.shares[i].budget_ns : 0;
        fm_latency_table_deinit(&tables[i]);
    }
    if (status == FM_EINVAL) {
        return wrong(scenario, pipeline, error.text, reterr);
    }
    return status == 0 ? 0 : fm_error_set(reterr, status, "%s", error.text);
}

static int pipeline_split(struct fm_sim_scenario *scenario, struct fm_sim_pipeline *pipeline,
                          struct fm_error *reterr)
{
    uint64_t way_ns = scenario->control_ns + scenario->result_ns; /* of each stage */
    uint64_t ways_ns = way_ns * pipeline->stage_count;
    uint64_t shares_ns[FM_SIM_STAGES_MAX] = {0};
    char text[160];
    if (pipeline->slo_ns > FM_PROFILE_LATENCY_MAX_NS || ways_ns >= pipeline->slo_ns) {
        (void)snprintf(text, sizeof text,
                       "its slo of %g ms must be at most 19 hours, and above the %g ms that the "
                       "network takes",
                       (double)pipeline->slo_ns / 1e6, (double)ways_ns / 1e6);
        return wrong(scenario, pipeline, text, reterr);
    }
    int status = 0;
    if (pipeline->even) {
        for (uint32_t i = 0; i < pipeline->stage_count; i++) {
            shares_ns[i] = (pipeline->slo_ns - ways_ns) / pipeline->stage_count;
        }
    } else {
        status = shares_of(scenario, pipeline, pipeline->slo_ns - ways_ns, shares_ns, reterr);
    }
    uint64_t due_ns = 0;
    for (uint32_t i = 0; status == 0 && i < pipeline->stage_count; i++) {
        struct fm_sim_group *group = group_of(scenario, pipeline->stages[i]);
        uint64_t stage_ns = shares_ns[i] + way_ns;
        due_ns += stage_ns;
        pipeline->due_ns[i] = due_ns;
        group->stage_ns =
            group->stage_ns == 0 || stage_ns < group->stage_ns ? stage_ns : group->stage_ns;
    }
    /* What rounding left over. */
    pipeline->due_ns[pipeline->stage_count - 1] = pipeline->slo_ns;
    return status;
}

int fm_sim_pipelines_split(struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        scenario->groups[i].stage_ns = 0;
    }
    for (uint32_t i = 0; status == 0 && i < scenario->pipeline_count; i++) {
        status = pipeline_split(scenario, &scenario->pipelines[i], reterr);
    }
    return status;
}
