/*
 * JSON and tables. See report.h.
 */
#include "engines/sim/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/assert.h"
#include "engines/sim/partition.h"

#define TABLE_MODELS_MAX 20u
#define PLACE_NAMES_MAX  4u /* of a sub-cluster, in its line */

/* --- JSON --------------------------------------------------------------------------------------
 */

/* As text: many JSON readers cannot hold 64 bits in a number. */
static void member_hash(struct fm_json_writer *writer, uint64_t hash)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%016" PRIx64, hash);
    fm_json_member_string(writer, "trace_hash", text);
}

static void latency_write(struct fm_json_writer *writer, const struct fm_log_histogram *latency)
{
    fm_json_key(writer, "latency_ms");
    fm_json_object_begin(writer);
    fm_json_member_number(writer, "mean", (double)fm_log_histogram_mean_ns(latency) / 1e6);
    /* null: beyond what the histogram tells apart. */
    fm_json_member_number(writer, "p50", fm_sim_quantile_ms(latency, 500));
    fm_json_member_number(writer, "p90", fm_sim_quantile_ms(latency, 900));
    fm_json_member_number(writer, "p99", fm_sim_quantile_ms(latency, 990));
    fm_json_member_number(writer, "max", (double)latency->max_ns / 1e6);
    fm_json_object_end(writer);
}

/* What became of the requests. */
static void outcomes_write(struct fm_json_writer *writer, const struct fm_sim_counts *counts)
{
    fm_json_member_uint(writer, "requests", counts->requests);
    fm_json_member_uint(writer, "good", counts->good);
    fm_json_member_uint(writer, "late", counts->late);
    fm_json_key(writer, "dropped");
    fm_json_object_begin(writer);
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        fm_json_member_uint(writer, fm_sched_drop_reason_name((enum fm_sched_drop_reason)i),
                            counts->dropped[i]);
    }
    fm_json_object_end(writer);
}

static void rates_write(struct fm_json_writer *writer, const struct fm_sim_counts *counts,
                        double seconds)
{
    fm_json_member_number(writer, "offered_rps", (double)counts->requests / seconds);
    fm_json_member_number(writer, "goodput_rps", (double)counts->good / seconds);
    fm_json_member_number(writer, "bad_rate", fm_sim_counts_bad_rate(counts));
}

static void counts_write(struct fm_json_writer *writer, const struct fm_sim_counts *counts,
                         double seconds)
{
    rates_write(writer, counts, seconds);
    fm_json_member_number(writer, "batch_mean", fm_sim_counts_batch_mean(counts));
    outcomes_write(writer, counts);
    fm_json_member_uint(writer, "batches", counts->batches);
}

static void audit_write(struct fm_json_writer *writer, const struct fm_sim_audit *audit)
{
    fm_json_key(writer, "audit");
    fm_json_object_begin(writer);
    fm_json_member_uint(writer, "violations", audit->violations);
    fm_json_member_uint(writer, "late_plans", audit->late_plans);
    fm_json_key(writer, "first");
    if (audit->violations > 0) {
        fm_json_string(writer, audit->first);
    } else {
        fm_json_null(writer);
    }
    fm_json_object_end(writer);
}

static void classes_write(struct fm_json_writer *writer, const struct fm_sim_model_result *model,
                          double seconds)
{
    fm_json_key(writer, "classes");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < model->class_count; i++) {
        const struct fm_sim_class_result *class = &model->classes[i];
        fm_json_object_begin(writer);
        fm_json_member_number(writer, "slo_ms", (double)class->slo_ns / 1e6);
        fm_json_member_uint(writer, "priority", class->priority);
        rates_write(writer, &class->counts, seconds);
        outcomes_write(writer, &class->counts);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

static void models_write(struct fm_json_writer *writer, const struct fm_sim_result *result,
                         double seconds)
{
    fm_json_key(writer, "models");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < result->model_count; i++) {
        const struct fm_sim_model_result *model = &result->models[i];
        char name[160];
        fm_json_object_begin(writer);
        fm_json_member_string(writer, "name",
                              fm_sim_scenario_model_name(result->scenario, i, name, sizeof name));
        counts_write(writer, &model->counts, seconds);
        latency_write(writer, &model->latency);
        if (model->class_count > 0) {
            classes_write(writer, model, seconds);
        }
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

/* When each stage is to answer, and how it did. */
static void stages_write(struct fm_json_writer *writer, const struct fm_sim_result *result,
                         uint32_t index)
{
    const struct fm_sim_pipeline *pipeline = &result->scenario->pipelines[index];
    fm_json_key(writer, "stages");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        char name[160];
        fm_json_object_begin(writer);
        fm_json_member_string(
            writer, "model",
            fm_sim_scenario_model_name(result->scenario, pipeline->stages[i], name, sizeof name));
        fm_json_member_number(writer, "share_ms", fm_sim_pipeline_share_ms(pipeline, i));
        outcomes_write(writer, &result->pipelines[index].stages[i]);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

static void pipelines_write(struct fm_json_writer *writer, const struct fm_sim_result *result,
                            double seconds)
{
    fm_json_key(writer, "pipelines");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < result->pipeline_count; i++) {
        const struct fm_sim_pipeline_result *pipeline = &result->pipelines[i];
        fm_json_object_begin(writer);
        fm_json_member_string(writer, "name", result->scenario->pipelines[i].name);
        rates_write(writer, &pipeline->counts, seconds);
        outcomes_write(writer, &pipeline->counts);
        latency_write(writer, &pipeline->latency);
        stages_write(writer, result, i);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

/* How much less goodput than on one pool, as a share of it. */
static double split_cost(const struct fm_sim_result *result)
{
    const struct fm_sim_counts *pool = &result->partition->pool;
    return pool->good > 0 ? 1 - (double)result->total.good / (double)pool->good : 0;
}

static double load_of(const struct fm_sim_division *division, const struct fm_sim_solve *solve,
                      uint32_t cluster)
{
    return (double)solve->clusters[cluster].demand_milli / 1000 / division->accelerators[cluster];
}

static void clusters_write(struct fm_json_writer *writer, const struct fm_sim_result *result,
                           double seconds)
{
    const struct fm_sim_division *division = result->partition->division;
    const struct fm_sim_solve *first = &division->solves[0];
    fm_json_key(writer, "clusters");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < division->cluster_count; i++) {
        const struct fm_sim_cluster_result *cluster = &result->partition->clusters[i];
        fm_json_object_begin(writer);
        fm_json_member_uint(writer, "accelerators", division->accelerators[i]);
        fm_json_member_uint(writer, "models", first->clusters[i].model_count);
        fm_json_member_number(writer, "demand", (double)first->clusters[i].demand_milli / 1000);
        fm_json_member_number(writer, "load", load_of(division, first, i));
        fm_json_member_uint(writer, "memory_bytes", first->clusters[i].memory_bytes);
        fm_json_member_number(writer, "busy_equivalent", (double)cluster->busy_ns / 1e9 / seconds);
        rates_write(writer, &cluster->total, seconds);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

/* What each solve came to; the placement of the first, and where later ones moved something. */
static void solves_write(struct fm_json_writer *writer, const struct fm_sim_result *result)
{
    const struct fm_sim_division *division = result->partition->division;
    fm_json_key(writer, "solves");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < division->solve_count; i++) {
        const struct fm_sim_solve *solve = &division->solves[i];
        fm_json_object_begin(writer);
        fm_json_member_number(writer, "at_s", (double)solve->at_ns / 1e9);
        fm_json_member_uint(writer, "moves", solve->result.move_count);
        fm_json_key(writer, "from_nothing");
        fm_json_bool(writer, solve->result.from_nothing);
        fm_json_member_number(writer, "load_max", (double)solve->result.load_max_permille / 1000);
        fm_json_member_number(writer, "load_mean", (double)solve->result.load_mean_permille / 1000);
        if (i == 0 || solve->result.move_count > 0) {
            fm_json_key(writer, "places");
            fm_json_array_begin(writer);
            for (uint32_t j = 0; j < solve->place_count; j++) {
                char name[160];
                fm_json_object_begin(writer);
                fm_json_member_string(writer, "model",
                                      fm_sim_scenario_model_name(result->scenario,
                                                                 solve->places[j].model, name,
                                                                 sizeof name));
                fm_json_member_uint(writer, "cluster", solve->places[j].cluster);
                fm_json_member_number(writer, "demand",
                                      (double)solve->places[j].demand_milli / 1000);
                fm_json_object_end(writer);
            }
            fm_json_array_end(writer);
        }
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

static void partition_write(struct fm_json_writer *writer, const struct fm_sim_result *result,
                            double seconds)
{
    const struct fm_sim_partition_result *partition = result->partition;
    fm_json_key(writer, "partition");
    fm_json_object_begin(writer);
    clusters_write(writer, result, seconds);
    solves_write(writer, result);
    if (partition->has_pool) {
        fm_json_key(writer, "one_pool");
        fm_json_object_begin(writer);
        rates_write(writer, &partition->pool, seconds);
        fm_json_object_end(writer);
        fm_json_member_number(writer, "goodput_cost", split_cost(result));
    }
    fm_json_object_end(writer);
}

static void autoscale_write(struct fm_json_writer *writer, const struct fm_sim_result *result)
{
    fm_json_key(writer, "autoscale");
    fm_json_object_begin(writer);
    fm_json_member_uint(writer, "changes", result->autoscale.changes);
    fm_json_member_uint(writer, "started", result->autoscale.started);
    fm_json_member_uint(writer, "stopped", result->autoscale.stopped);
    fm_json_object_end(writer);
}

/* One number for each part of the timeline. */
static double timeline_value(const struct fm_sim_result *result, unsigned column, uint32_t index)
{
    const struct fm_sim_bucket *bucket = &result->timeline[index];
    double bucket_ns = (double)result->bucket_ns;
    switch (column) {
    case 0:
        return (double)bucket->requests / (bucket_ns / 1e9);
    case 1:
        return bucket->requests > 0 ? (double)bucket->bad / (double)bucket->requests : 0;
    case 2:
        return (double)bucket->busy_ns / bucket_ns;
    case 3:
        return bucket->used;
    default:
        return (double)bucket->up_ns / bucket_ns;
    }
}

static void timeline_write(struct fm_json_writer *writer, const struct fm_sim_result *result)
{
    static const char *const columns[] = {"offered_rps", "bad_rate", "busy", "used", "up"};
    fm_json_key(writer, "timeline");
    fm_json_object_begin(writer);
    fm_json_member_number(writer, "part_s", (double)result->bucket_ns / 1e9);
    for (unsigned column = 0; column < FM_COUNT_OF(columns); column++) {
        fm_json_key(writer, columns[column]);
        fm_json_array_begin(writer);
        for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
            fm_json_number(writer, timeline_value(result, column, i));
        }
        fm_json_array_end(writer);
    }
    fm_json_object_end(writer);
}

/* What became of loads that end. */
static void traces_write(struct fm_json_writer *writer, const struct fm_sim_traces *traces)
{
    fm_json_key(writer, "traces");
    fm_json_object_begin(writer);
    fm_json_member_number(writer, "end_s", (double)traces->end_ns / 1e9);
    fm_json_key(writer, "measure_shortened");
    fm_json_bool(writer, traces->shortened);
    fm_json_member_uint(writer, "left_out", traces->left_out);
    fm_json_object_end(writer);
}

void fm_sim_report_json(const struct fm_sim_result *result, struct fm_text *text)
{
    struct fm_json_writer writer;
    double seconds = (double)result->scenario->measure_ns / 1e9;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_member_string(&writer, "policy", fm_sched_policy_name(result->policy));
    fm_json_member_uint(&writer, "seed", result->seed);
    fm_json_member_number(&writer, "scale", result->scale);
    fm_json_member_number(&writer, "measure_s", seconds);
    if (result->traces.count > 0) {
        traces_write(&writer, &result->traces);
    }
    counts_write(&writer, &result->total, seconds);
    fm_json_member_number(&writer, "bad_rate_worst_model", fm_sim_result_worst_bad_rate(result));
    latency_write(&writer, &result->latency);
    fm_json_key(&writer, "accelerators");
    fm_json_object_begin(&writer);
    fm_json_member_uint(&writer, "total", result->accelerator_count);
    fm_json_member_uint(&writer, "touched", fm_sim_result_touched(result));
    fm_json_member_number(&writer, "busy_equivalent", fm_sim_result_busy(result));
    fm_json_member_number(&writer, "up_mean", fm_sim_result_up(result));
    fm_json_member_uint(&writer, "up_min", result->up_min);
    fm_json_member_uint(&writer, "up_max", result->up_max);
    fm_json_member_number(&writer, "hours", fm_sim_result_accelerator_hours(result));
    fm_json_object_end(&writer);
    if (result->scenario->autoscale.on) {
        autoscale_write(&writer, result);
    }
    if (result->partition != NULL) {
        partition_write(&writer, result, seconds);
    }
    fm_json_member_uint(&writer, "batches_preempted", result->preempted);
    fm_json_member_uint(&writer, "batches_failed", result->failed);
    fm_json_member_uint(&writer, "requests_simulated", result->requests_all);
    fm_json_member_uint(&writer, "steps", result->steps);
    member_hash(&writer, result->trace_hash);
    audit_write(&writer, &result->audit);
    models_write(&writer, result, seconds);
    if (result->pipeline_count > 0) {
        pipelines_write(&writer, result, seconds);
    }
    timeline_write(&writer, result);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

static void summary_write(struct fm_json_writer *writer, const struct fm_sim_summary *summary)
{
    fm_json_member_number(writer, "goodput_rps", summary->goodput_rps);
    fm_json_member_number(writer, "offered_rps", summary->offered_rps);
    fm_json_member_number(writer, "scale", summary->scale);
    fm_json_member_number(writer, "bad_rate", summary->bad_rate);
    fm_json_member_number(writer, "bad_rate_worst_model", summary->bad_rate_worst_model);
    fm_json_member_number(writer, "batch_mean", summary->batch_mean);
    fm_json_key(writer, "latency_ms");
    fm_json_object_begin(writer);
    fm_json_member_number(writer, "mean", summary->latency_mean_ms);
    fm_json_member_number(writer, "p50", summary->latency_p50_ms);
    fm_json_member_number(writer, "p99", summary->latency_p99_ms);
    fm_json_object_end(writer);
    fm_json_key(writer, "accelerators");
    fm_json_object_begin(writer);
    fm_json_member_uint(writer, "touched", summary->touched);
    fm_json_member_number(writer, "busy_equivalent", summary->busy);
    fm_json_object_end(writer);
    member_hash(writer, summary->trace_hash);
    fm_json_member_uint(writer, "violations", summary->violations);
}

static void task_write(struct fm_json_writer *writer, const struct fm_sim_task *task)
{
    fm_json_object_begin(writer);
    fm_json_member_uint(writer, "seed", task->seed);
    summary_write(writer, &task->summary);
    fm_json_object_end(writer);
}

const struct fm_sim_task *fm_sim_report_median(const struct fm_sim_task *tasks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t below = 0;
        for (uint32_t j = 0; j < count; j++) {
            double left = tasks[j].summary.goodput_rps;
            double right = tasks[i].summary.goodput_rps;
            below += left < right || (left == right && j < i);
        }
        if (below == (count - 1) / 2) {
            return &tasks[i];
        }
    }
    return &tasks[0];
}

void fm_sim_report_goodput_json(const struct fm_sim_scenario *scenario, double bad_rate,
                                const struct fm_sim_task *tasks, uint32_t task_count,
                                struct fm_text *text)
{
    struct fm_json_writer writer;
    const struct fm_sim_task *median = fm_sim_report_median(tasks, task_count);
    uint32_t runs = 0;
    for (uint32_t i = 0; i < task_count; i++) {
        runs += tasks[i].run_count;
    }
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_member_string(&writer, "policy", fm_sched_policy_name(tasks[0].policy));
    fm_json_member_number(&writer, "bad_rate_max", bad_rate);
    fm_json_member_uint(&writer, "accelerators_total", fm_sim_scenario_accelerator_count(scenario));
    fm_json_member_number(&writer, "goodput_rps", median->summary.goodput_rps);
    fm_json_member_number(&writer, "offered_rps", median->summary.offered_rps);
    fm_json_member_number(&writer, "scale", median->summary.scale);
    fm_json_member_uint(&writer, "runs", runs);
    fm_json_key(&writer, "per_seed");
    fm_json_array_begin(&writer);
    for (uint32_t i = 0; i < task_count; i++) {
        task_write(&writer, &tasks[i]);
    }
    fm_json_array_end(&writer);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

void fm_sim_report_compare_json(const struct fm_sim_task *tasks, uint32_t task_count,
                                uint32_t seed_count, struct fm_text *text)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "policies");
    fm_json_array_begin(&writer);
    for (uint32_t i = 0; i < task_count; i += seed_count) {
        fm_json_object_begin(&writer);
        fm_json_member_string(&writer, "policy", fm_sched_policy_name(tasks[i].policy));
        summary_write(&writer, &fm_sim_report_median(tasks + i, seed_count)->summary);
        fm_json_key(&writer, "per_seed");
        fm_json_array_begin(&writer);
        for (uint32_t j = 0; j < seed_count; j++) {
            task_write(&writer, &tasks[i + j]);
        }
        fm_json_array_end(&writer);
        fm_json_object_end(&writer);
    }
    fm_json_array_end(&writer);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

/* --- tables ------------------------------------------------------------------------------------
 */

static void drops_line(const struct fm_sim_counts *counts, struct fm_text *text)
{
    bool any = false;
    fm_text_append_format(text, "dropped        ");
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        if (counts->dropped[i] > 0) {
            fm_text_append_format(text, "%s%" PRIu64 " %s", any ? ", " : "", counts->dropped[i],
                                  fm_sched_drop_reason_name((enum fm_sched_drop_reason)i));
            any = true;
        }
    }
    fm_text_append_string(text, any ? "\n" : "none\n");
}

/* "12.34", or that it is beyond what the histogram tells apart. */
static const char *quantile_text(double quantile_ms, const char *unit, char *text, size_t size)
{
    if (isinf(quantile_ms)) {
        (void)snprintf(text, size, "> 18 min");
    } else {
        (void)snprintf(text, size, "%.2f%s", quantile_ms, unit);
    }
    return text;
}

/* The last columns of a line: the median and the 99th percentile. */
static void quantile_columns(const struct fm_log_histogram *latency, struct fm_text *text)
{
    char median[32];
    char high[32];
    fm_text_append_format(
        text, " %9s %9s\n",
        quantile_text(fm_sim_quantile_ms(latency, 500), "", median, sizeof median),
        quantile_text(fm_sim_quantile_ms(latency, 990), "", high, sizeof high));
}

/* A line for each class: what differs between them, and how they fared. */
static void class_lines(const struct fm_sim_model_result *model, double seconds,
                        struct fm_text *text)
{
    for (uint32_t i = 0; i < model->class_count; i++) {
        const struct fm_sim_class_result *class = &model->classes[i];
        const struct fm_sim_class_result *last = &model->classes[model->class_count - 1];
        char slo[32] = "";
        char priority[32] = "";
        if (model->classes[0].slo_ns != last->slo_ns) {
            (void)snprintf(slo, sizeof slo, "%g ms", (double)class->slo_ns / 1e6);
        }
        if (model->classes[0].priority != last->priority) {
            (void)snprintf(priority, sizeof priority, "%spriority %" PRIu32,
                           slo[0] != '\0' ? ", " : "", class->priority);
        }
        int width = 18 - (int)strlen(slo);
        fm_text_append_format(text, "  %s%-*s %11.1f %11.1f %7.2f%%\n", slo, width > 0 ? width : 0,
                              priority, (double)class->counts.requests / seconds,
                              (double)class->counts.good / seconds,
                              fm_sim_counts_bad_rate(&class->counts) * 100);
    }
}

static void model_lines(const struct fm_sim_result *result, struct fm_text *text)
{
    double seconds = (double)result->scenario->measure_ns / 1e9;
    uint32_t count =
        result->model_count < TABLE_MODELS_MAX ? result->model_count : TABLE_MODELS_MAX;
    fm_text_append_format(text, "\n%-20s %11s %11s %8s %8s %9s %9s\n", "model", "offered/s",
                          "goodput/s", "bad", "batch", "p50 ms", "p99 ms");
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_sim_model_result *model = &result->models[i];
        char name[160];
        (void)fm_sim_scenario_model_name(result->scenario, i, name, sizeof name);
        fm_text_append_format(
            text, "%-20.20s %11.1f %11.1f %7.2f%% %8.2f", name,
            (double)model->counts.requests / seconds, (double)model->counts.good / seconds,
            fm_sim_counts_bad_rate(&model->counts) * 100, fm_sim_counts_batch_mean(&model->counts));
        quantile_columns(&model->latency, text);
        class_lines(model, seconds, text);
    }
    if (count < result->model_count) {
        fm_text_append_format(text, "... and %" PRIu32 " more (--json has all)\n",
                              result->model_count - count);
    }
}

static void pipeline_lines(const struct fm_sim_result *result, struct fm_text *text)
{
    double seconds = (double)result->scenario->measure_ns / 1e9;
    fm_text_append_format(text, "\n%-20s %11s %11s %8s %8s %9s %9s\n", "pipeline", "offered/s",
                          "goodput/s", "bad", "share ms", "p50 ms", "p99 ms");
    for (uint32_t i = 0; i < result->pipeline_count; i++) {
        const struct fm_sim_pipeline *given = &result->scenario->pipelines[i];
        const struct fm_sim_pipeline_result *pipeline = &result->pipelines[i];
        fm_text_append_format(
            text, "%-20.20s %11.1f %11.1f %7.2f%% %8.4g", given->name,
            (double)pipeline->counts.requests / seconds, (double)pipeline->counts.good / seconds,
            fm_sim_counts_bad_rate(&pipeline->counts) * 100, (double)given->slo_ns / 1e6);
        quantile_columns(&pipeline->latency, text);
        for (uint32_t j = 0; j < given->stage_count; j++) {
            const struct fm_sim_counts *stage = &pipeline->stages[j];
            char name[160];
            fm_text_append_format(
                text, "  %-18.18s %11.1f %11.1f %7.2f%% %8.4g\n",
                fm_sim_scenario_model_name(result->scenario, given->stages[j], name, sizeof name),
                (double)stage->requests / seconds, (double)stage->good / seconds,
                fm_sim_counts_bad_rate(stage) * 100, fm_sim_pipeline_share_ms(given, j));
        }
    }
}

/* The names of the models of a sub-cluster, as many as fit a line. */
static void place_names(const struct fm_sim_result *result, const struct fm_sim_solve *solve,
                        uint32_t cluster, struct fm_text *text)
{
    uint32_t shown = 0;
    uint32_t left = 0;
    for (uint32_t i = 0; i < solve->place_count; i++) {
        char name[160];
        if (solve->places[i].cluster != cluster) {
            continue;
        }
        if (shown == PLACE_NAMES_MAX) {
            left++;
            continue;
        }
        (void)fm_sim_scenario_model_name(result->scenario, solve->places[i].model, name,
                                         sizeof name);
        fm_text_append_format(text, "%s%.20s", shown > 0 ? ", " : "  ", name);
        shown++;
    }
    if (left > 0) {
        fm_text_append_format(text, " and %" PRIu32 " more", left);
    }
    fm_text_append_string(text, "\n");
}

static void partition_lines(const struct fm_sim_result *result, struct fm_text *text)
{
    const struct fm_sim_partition_result *partition = result->partition;
    const struct fm_sim_division *division = partition->division;
    const struct fm_sim_solve *first = &division->solves[0];
    double seconds = (double)result->scenario->measure_ns / 1e9;
    uint64_t moves = 0;
    for (uint32_t i = 1; i < division->solve_count; i++) {
        moves += division->solves[i].result.move_count;
    }
    fm_text_append_format(text,
                          "partition      %" PRIu32 " sub-clusters, load %.3f on average, at most "
                          "%.3f; solved again %" PRIu32 " times, %" PRIu64 " moves\n",
                          division->cluster_count, (double)first->result.load_mean_permille / 1000,
                          (double)first->result.load_max_permille / 1000, division->solve_count - 1,
                          moves);
    if (partition->has_pool) {
        fm_text_append_format(text,
                              "one pool       %.1f requests/s, %.3f%% bad: the split costs %.2f%% "
                              "of its goodput\n",
                              (double)partition->pool.good / seconds,
                              fm_sim_counts_bad_rate(&partition->pool) * 100,
                              split_cost(result) * 100);
    }
    fm_text_append_format(text, "\n%-11s %8s %7s %7s %8s %9s %11s %8s  %s\n", "sub-cluster",
                          "accel.", "demand", "load", "models", "mem. MiB", "goodput/s", "bad",
                          "models at the beginning");
    for (uint32_t i = 0; i < division->cluster_count; i++) {
        const struct fm_sim_counts *total = &partition->clusters[i].total;
        fm_text_append_format(
            text, "%-11" PRIu32 " %8" PRIu32 " %7.2f %7.3f %8" PRIu32 " %9.0f %11.1f %7.2f%%", i,
            division->accelerators[i], (double)first->clusters[i].demand_milli / 1000,
            load_of(division, first, i), first->clusters[i].model_count,
            (double)first->clusters[i].memory_bytes / 1048576, (double)total->good / seconds,
            fm_sim_counts_bad_rate(total) * 100);
        place_names(result, first, i, text);
    }
}

void fm_sim_report_table(const struct fm_sim_result *result, struct fm_text *text)
{
    struct fm_sim_summary summary;
    fm_sim_summarize(result, &summary);
    fm_text_append_format(text, "policy         %s, seed %" PRIu64 ", load x %g\n",
                          fm_sched_policy_name(result->policy), result->seed, result->scale);
    fm_text_append_format(text, "offered        %.1f requests/s\n", summary.offered_rps);
    fm_text_append_format(text, "goodput        %.1f requests/s\n", summary.goodput_rps);
    fm_text_append_format(text, "bad            %.3f%% (worst model %.3f%%), %" PRIu64 " late\n",
                          summary.bad_rate * 100, summary.bad_rate_worst_model * 100,
                          result->total.late);
    drops_line(&result->total, text);
    fm_text_append_format(text, "batch          %.2f on average\n", summary.batch_mean);
    char median[32];
    char high[32];
    fm_text_append_format(text, "latency        p50 %s, p99 %s, mean %.2f ms\n",
                          quantile_text(summary.latency_p50_ms, " ms", median, sizeof median),
                          quantile_text(summary.latency_p99_ms, " ms", high, sizeof high),
                          summary.latency_mean_ms);
    fm_text_append_format(text,
                          "accelerators   %" PRIu32 ", %" PRIu32 " touched, %.2f busy on average\n",
                          result->accelerator_count, summary.touched, summary.busy);
    if (result->scenario->autoscale.on) {
        fm_text_append_format(text,
                              "autoscaling    %.1f up on average (%" PRIu32 " to %" PRIu32
                              "), %.1f accelerator-hours; %" PRIu64 " changes, %" PRIu64
                              " started, %" PRIu64 " stopped\n",
                              fm_sim_result_up(result), result->up_min, result->up_max,
                              fm_sim_result_accelerator_hours(result), result->autoscale.changes,
                              result->autoscale.started, result->autoscale.stopped);
    }
    if (result->preempted + result->failed > 0) {
        fm_text_append_format(text, "batches lost   %" PRIu64 " preempted, %" PRIu64 " failed\n",
                              result->preempted, result->failed);
    }
    fm_text_append_format(text, "trace          %016" PRIx64 "\n", summary.trace_hash);
    if (result->partition != NULL) {
        partition_lines(result, text);
    }
    if (result->pipeline_count > 0) {
        pipeline_lines(result, text);
    }
    model_lines(result, text);
}

void fm_sim_report_goodput_table(double bad_rate, const struct fm_sim_task *tasks,
                                 uint32_t task_count, struct fm_text *text)
{
    fm_text_append_format(text, "highest load with at most %g%% bad, policy %s\n\n", bad_rate * 100,
                          fm_sched_policy_name(tasks[0].policy));
    fm_text_append_format(text, "%-20s %11s %11s %8s %8s %8s %8s %9s\n", "seed", "goodput/s",
                          "offered/s", "bad", "worst", "batch", "touched", "p99 ms");
    for (uint32_t i = 0; i < task_count; i++) {
        const struct fm_sim_summary *summary = &tasks[i].summary;
        char high[32];
        fm_text_append_format(
            text, "%-20" PRIu64 " %11.1f %11.1f %7.3f%% %7.3f%% %8.2f %8" PRIu32 " %9s\n",
            tasks[i].seed, summary->goodput_rps, summary->offered_rps, summary->bad_rate * 100,
            summary->bad_rate_worst_model * 100, summary->batch_mean, summary->touched,
            quantile_text(summary->latency_p99_ms, "", high, sizeof high));
    }
    fm_text_append_format(text, "\nmedian goodput: %.1f requests/s\n",
                          fm_sim_report_median(tasks, task_count)->summary.goodput_rps);
}

void fm_sim_report_compare_table(const struct fm_sim_task *tasks, uint32_t task_count,
                                 uint32_t seed_count, struct fm_text *text)
{
    fm_text_append_format(text, "%-12s %11s %11s %8s %8s %8s %8s %8s %9s\n", "policy", "goodput/s",
                          "offered/s", "bad", "worst", "batch", "touched", "busy", "p99 ms");
    for (uint32_t i = 0; i < task_count; i += seed_count) {
        const struct fm_sim_summary *summary =
            &fm_sim_report_median(tasks + i, seed_count)->summary;
        char high[32];
        fm_text_append_format(
            text, "%-12s %11.1f %11.1f %7.3f%% %7.3f%% %8.2f %8" PRIu32 " %8.2f %9s\n",
            fm_sched_policy_name(tasks[i].policy), summary->goodput_rps, summary->offered_rps,
            summary->bad_rate * 100, summary->bad_rate_worst_model * 100, summary->batch_mean,
            summary->touched, summary->busy,
            quantile_text(summary->latency_p99_ms, "", high, sizeof high));
    }
}
