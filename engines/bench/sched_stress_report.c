/*
 * Numbers of a stress as JSON and as a table. See sched_stress_report.h.
 */
#include "engines/bench/sched_stress_report.h"

#include "core/proto/json.h"

/* What is asked of a run, worked out once for both forms. */
struct figures {
    double requests_hz;
    double cpu_ns;
    double load_cpu_ns;
    double batches_hz;
    double batch_mean;
    double messages_per_batch;
    double bad_rate;
    uint64_t delay_ns[2]; /* median, 99 of 100 */
};

static const uint32_t permilles[] = {500, 990};

static double per(double amount, uint64_t count)
{
    return count > 0 ? amount / (double)count : 0;
}

static struct figures figures_of(const struct fm_sched_stress_result *result)
{
    const struct fm_scheduler_stats *stats = &result->scheduler;
    uint64_t ended = result->served + result->late + result->dropped;
    struct figures figures = {
        .requests_hz = (double)stats->requests / result->seconds,
        .cpu_ns = per((double)stats->cpu_ns, stats->requests),
        .load_cpu_ns = per((double)result->load_cpu_ns, stats->requests),
        .batches_hz = (double)stats->batches / result->seconds,
        .batch_mean = per((double)stats->started, stats->batches),
        .messages_per_batch = per((double)stats->messages, stats->batches),
        .bad_rate = per((double)(result->late + result->dropped), ended),
    };
    for (uint32_t i = 0; i < 2; i++) {
        figures.delay_ns[i] = fm_log_histogram_quantile_ns(&stats->delay, permilles[i]);
    }
    return figures;
}

static void options_write(struct fm_json_writer *writer,
                          const struct fm_sched_stress_options *options)
{
    fm_json_key(writer, "policy");
    fm_json_string(writer, fm_sched_policy_name(options->policy));
    fm_json_member_uint(writer, "models", options->models);
    fm_json_member_uint(writer, "shards", options->shards);
    fm_json_member_uint(writer, "seed", options->seed);
    fm_json_member_number(writer, "rate_rps", options->rate_hz);
    fm_json_member_number(writer, "alpha_us", (double)options->alpha_ns / 1e3);
    fm_json_member_number(writer, "beta_us", (double)options->beta_ns / 1e3);
    fm_json_member_number(writer, "slo_ms", (double)options->slo_ns / 1e6);
}

static void quantiles_write(struct fm_json_writer *writer, const struct fm_log_histogram *histogram)
{
    fm_json_member_number(writer, "p50",
                          (double)fm_log_histogram_quantile_ns(histogram, 500) / 1e3);
    fm_json_member_number(writer, "p99",
                          (double)fm_log_histogram_quantile_ns(histogram, 990) / 1e3);
}

static void hops_write(struct fm_json_writer *writer, const struct fm_scheduler_stats *stats)
{
    fm_json_key(writer, "hops_us");
    fm_json_object_begin(writer);
    for (uint32_t hop = 0; hop < FM_SCHEDULER_HOP_COUNT_; hop++) {
        const struct fm_log_histogram *histogram = &stats->hops[hop];
        fm_json_key(writer, fm_scheduler_hop_name((enum fm_scheduler_hop)hop));
        fm_json_object_begin(writer);
        fm_json_member_uint(writer, "count", histogram->count);
        quantiles_write(writer, histogram);
        fm_json_object_end(writer);
    }
    fm_json_object_end(writer);
}

void fm_sched_stress_report_json(const struct fm_sched_stress_result *result, struct fm_text *text)
{
    const struct fm_scheduler_stats *stats = &result->scheduler;
    struct figures figures = figures_of(result);
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    options_write(&writer, &result->options);
    fm_json_member_number(&writer, "seconds", result->seconds);
    fm_json_member_number(&writer, "requests_per_second", figures.requests_hz);
    fm_json_member_number(&writer, "cpu_ns_per_request", figures.cpu_ns);
    fm_json_member_number(&writer, "load_cpu_ns_per_request", figures.load_cpu_ns);
    fm_json_member_number(&writer, "batches_per_second", figures.batches_hz);
    fm_json_member_number(&writer, "batch_mean", figures.batch_mean);
    fm_json_member_number(&writer, "messages_per_batch", figures.messages_per_batch);
    fm_json_member_number(&writer, "declined_per_batch",
                          per((double)stats->declined, stats->batches));
    fm_json_member_number(&writer, "parks_per_second", (double)stats->parks / result->seconds);
    fm_json_key(&writer, "scheduling_delay_us");
    fm_json_object_begin(&writer);
    fm_json_member_uint(&writer, "count", stats->delay.count);
    quantiles_write(&writer, &stats->delay);
    fm_json_object_end(&writer);
    hops_write(&writer, stats);
    fm_json_key(&writer, "load_lag_us");
    fm_json_object_begin(&writer);
    quantiles_write(&writer, &result->lag);
    fm_json_object_end(&writer);
    fm_json_member_number(&writer, "bad_rate", figures.bad_rate);
    fm_json_member_uint(&writer, "submitted", result->submitted);
    fm_json_member_uint(&writer, "served", result->served);
    fm_json_member_uint(&writer, "late", result->late);
    fm_json_key(&writer, "dropped");
    fm_json_object_begin(&writer);
    for (uint32_t i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        fm_json_member_uint(&writer, fm_sched_drop_reason_name((enum fm_sched_drop_reason)i),
                            stats->dropped[i]);
    }
    fm_json_object_end(&writer);
    fm_json_key(&writer, "accelerators");
    fm_json_object_begin(&writer);
    fm_json_member_uint(&writer, "total", result->options.accelerators);
    fm_json_member_uint(&writer, "touched", result->touched);
    fm_json_member_number(&writer, "busy_equivalent", result->busy);
    fm_json_object_end(&writer);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

void fm_sched_stress_report_table(const struct fm_sched_stress_result *result, struct fm_text *text)
{
    const struct fm_sched_stress_options *options = &result->options;
    const struct fm_scheduler_stats *stats = &result->scheduler;
    struct figures figures = figures_of(result);
    fm_text_append_format(text,
                          "%u models on %u accelerators, %s, %u shard%s and the matcher, %.1f s\n",
                          (unsigned)options->models, (unsigned)options->accelerators,
                          fm_sched_policy_name(options->policy), (unsigned)options->shards,
                          options->shards == 1 ? "" : "s", result->seconds);
    fm_text_append_format(text, "l(b) = %.2f us * b + %.2f us, SLO %.1f ms\n\n",
                          (double)options->alpha_ns / 1e3, (double)options->beta_ns / 1e3,
                          (double)options->slo_ns / 1e6);
    fm_text_append_format(text, "requests per second     %.0f\n", figures.requests_hz);
    fm_text_append_format(text, "CPU per request         %.0f ns (load: %.0f ns)\n", figures.cpu_ns,
                          figures.load_cpu_ns);
    fm_text_append_format(text, "batches per second      %.0f of %.1f requests\n",
                          figures.batches_hz, figures.batch_mean);
    fm_text_append_format(text, "messages per batch      %.2f\n", figures.messages_per_batch);
    fm_text_append_format(text, "scheduling delay        %.0f us median, %.0f us p99\n",
                          (double)figures.delay_ns[0] / 1e3, (double)figures.delay_ns[1] / 1e3);
    fm_text_append_format(text, "bad rate                %.4f\n", figures.bad_rate);
    fm_text_append_format(text, "accelerators            %u touched, %.1f busy\n\n",
                          (unsigned)result->touched, result->busy);
    fm_text_append_string(text, "hop         count       p50       p99\n");
    for (uint32_t hop = 0; hop < FM_SCHEDULER_HOP_COUNT_; hop++) {
        const struct fm_log_histogram *histogram = &stats->hops[hop];
        fm_text_append_format(text, "%-7s %9llu %6.0f us %6.0f us\n",
                              fm_scheduler_hop_name((enum fm_scheduler_hop)hop),
                              (unsigned long long)histogram->count,
                              (double)fm_log_histogram_quantile_ns(histogram, 500) / 1e3,
                              (double)fm_log_histogram_quantile_ns(histogram, 990) / 1e3);
    }
}
