/*
 * The measured interval of loads that end. See traces.h.
 */
#include "engines/sim/traces.h"

#include "core/util/error.h"

/* Looks at the streams of a scenario, one after the other. */
struct looker {
    const struct fm_sim_scenario *scenario;
    double scale;
    struct fm_error *reterr;
    struct fm_sim_traces *traces;
    bool alone;      /* no stream but traces */
    bool measured;   /* second look: measured_end_ns is known */
    uint64_t end_ns; /* of the measured interval */
    double *shares;  /* of the models of a group; room for the largest */
};

static int out_of_memory(struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "out of memory for the simulation");
}

/* How many of a trace's times come at end_ns or later, at a scale. */
static uint64_t behind(const struct fm_arrivals_spec *spec, double scale, uint64_t end_ns)
{
    uint64_t low = 0;
    uint64_t high = spec->time_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (fm_arrivals_trace_time_ns(spec->times_ns[middle], scale) < end_ns) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return spec->time_count - low;
}

/* `count` streams of one trace at one scale. */
static void trace_look(struct looker *looker, const struct fm_arrivals_spec *spec, double scale,
                       uint32_t count, const char *name)
{
    struct fm_sim_traces *traces = looker->traces;
    uint64_t last_ns = fm_arrivals_trace_time_ns(spec->times_ns[spec->time_count - 1], scale);
    if (!looker->measured) {
        traces->end_ns = last_ns > traces->end_ns ? last_ns : traces->end_ns;
    } else if (last_ns >= looker->end_ns) {
        traces->left_out += behind(spec, scale, looker->end_ns) * count;
    } else if (traces->early == NULL || last_ns < traces->early_ns) {
        traces->early = name;
        traces->early_ns = last_ns;
    }
}

static int group_look(struct looker *looker, const struct fm_sim_group *group)
{
    if (group->silent) {
        return 0;
    }
    if (group->arrivals.kind != FM_ARRIVALS_TRACE) {
        looker->alone = false;
        return 0;
    }
    looker->traces->count += !looker->measured;
    if (group->popularity == 0) {
        trace_look(looker, &group->arrivals, looker->scale, group->count, group->name);
        return 0;
    }
    int status = fm_sim_group_shares(group, looker->shares, looker->reterr);
    for (uint32_t i = 0; status == 0 && i < group->count; i++) {
        trace_look(looker, &group->arrivals, looker->shares[i] * looker->scale, 1, group->name);
    }
    return status;
}

static int look(struct looker *looker)
{
    const struct fm_sim_scenario *scenario = looker->scenario;
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        status = group_look(looker, &scenario->groups[i]);
    }
    for (uint32_t i = 0; status == 0 && i < scenario->pipeline_count; i++) {
        const struct fm_sim_pipeline *pipeline = &scenario->pipelines[i];
        if (pipeline->arrivals.kind != FM_ARRIVALS_TRACE) {
            looker->alone = false;
            continue;
        }
        looker->traces->count += !looker->measured;
        trace_look(looker, &pipeline->arrivals, looker->scale, 1, pipeline->name);
    }
    return status;
}

/* Both looks; between them the end of the measured interval. */
static int measure(struct looker *looker, uint64_t *ret_measure_ns)
{
    const struct fm_sim_scenario *scenario = looker->scenario;
    struct fm_sim_traces *traces = looker->traces;
    uint64_t warmup_ns = scenario->warmup_ns;
    *ret_measure_ns = scenario->measure_ns;
    int status = look(looker);
    if (status != 0 || traces->count == 0) {
        return status;
    }
    if (scenario->ends_with_load && looker->alone &&
        traces->end_ns < warmup_ns + scenario->measure_ns) {
        if (traces->end_ns < warmup_ns) {
            return fm_error_set(looker->reterr, FM_EINVAL,
                                "%s: at %g times the load the last request of the traces comes at "
                                "%.9g s, before the measured interval begins, at %.9g s: give a "
                                "shorter 'warmup', or a longer trace",
                                scenario->file != NULL ? scenario->file : "scenario", looker->scale,
                                (double)traces->end_ns / 1e9, (double)warmup_ns / 1e9);
        }
        *ret_measure_ns = traces->end_ns + 1 - warmup_ns;
        traces->shortened = *ret_measure_ns < scenario->measure_ns;
    }
    looker->measured = true;
    looker->end_ns = warmup_ns + *ret_measure_ns;
    status = look(looker);
    if (looker->alone && scenario->ends_with_load) {
        traces->early = NULL; /* they end together with the interval */
    }
    return status;
}

static uint32_t largest_group(const struct fm_sim_scenario *scenario)
{
    uint32_t largest = 1;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        largest = scenario->groups[i].count > largest ? scenario->groups[i].count : largest;
    }
    return largest;
}

static int fitted_create(const struct fm_sim_scenario *scenario, double scale, uint64_t measure_ns,
                         struct fm_sim_scenario **ret_fitted, struct fm_error *reterr)
{
    struct fm_sim_scenario *fitted = fm_alloc(sizeof *fitted);
    struct fm_sim_event *events =
        fm_alloc((scenario->event_count > 0 ? scenario->event_count : 1) * sizeof *events);
    if (fitted == NULL || events == NULL) {
        fm_free(fitted);
        fm_free(events);
        return out_of_memory(reterr);
    }
    *fitted = *scenario;
    fitted->measure_ns = measure_ns;
    fitted->events = events;
    fitted->events_keep_pace = false;
    for (uint32_t i = 0; i < scenario->event_count; i++) {
        events[i] = scenario->events[i];
        if (scenario->events_keep_pace) {
            events[i].at_ns = fm_arrivals_trace_time_ns(events[i].at_ns, scale);
        }
    }
    *ret_fitted = fitted;
    return 0;
}

int fm_sim_scenario_fit(const struct fm_sim_scenario *scenario, double scale,
                        struct fm_sim_scenario **ret_fitted, struct fm_sim_traces *ret_traces,
                        struct fm_error *reterr)
{
    uint64_t measure_ns = 0;
    *ret_fitted = NULL;
    *ret_traces = (struct fm_sim_traces){0};
    struct looker looker = {.scenario = scenario,
                            .scale = scale,
                            .reterr = reterr,
                            .traces = ret_traces,
                            .alone = true,
                            .shares = fm_alloc(largest_group(scenario) * sizeof *looker.shares)};
    int status = looker.shares != NULL ? measure(&looker, &measure_ns) : out_of_memory(reterr);
    fm_free(looker.shares);
    bool otherwise = measure_ns != scenario->measure_ns ||
                     (scenario->events_keep_pace && scenario->event_count > 0 && scale != 1);
    return status == 0 && otherwise ? fitted_create(scenario, scale, measure_ns, ret_fitted, reterr)
                                    : status;
}

void fm_sim_scenario_fitted_free(struct fm_sim_scenario *fitted)
{
    if (fitted != NULL) {
        fm_free(fitted->events); /* all else is the scenario's */
        fm_free(fitted);
    }
}
