/*
 * The simulator's findings in two forms. See queue_sim_report.h.
 */
#include "engines/bench/queue_sim_report.h"

#include <inttypes.h>

#include "core/proto/json.h"

#define NS_PER_S UINT64_C(1000000000)

static const char *estimates_name(const struct fm_queue_sim_result *result, uint32_t wrong)
{
    if (wrong == 0) {
        return "true";
    }
    return result->own_estimates ? "the trace's" : "wrong";
}

static void table_head(const struct fm_queue_sim_result *result, struct fm_text *text)
{
    const struct fm_queue_sim_options *options = &result->options;
    fm_text_append_format(text, "%u task%s ", (unsigned)options->tasks,
                          options->tasks == 1 ? "" : "s");
    if (result->from_file) {
        fm_text_append_string(text, "of the trace");
    } else {
        fm_text_append_format(text, "of %s length, ", fm_queue_sim_mix_name(options->mix));
        if (options->poisson) {
            fm_text_append_format(text, "Poisson arrivals at load %g", options->load);
        } else {
            fm_text_append_string(text, "all at once");
        }
    }
    fm_text_append_format(text, ", %u follower%s", (unsigned)options->followers,
                          options->followers == 1 ? "" : "s");
    if (!result->from_file) {
        fm_text_append_format(text, ", %u seed%s from %" PRIu64, (unsigned)options->seeds,
                              options->seeds == 1 ? "" : "s", options->seed);
    }
    fm_text_append_format(text, ", ageing %u%%", (unsigned)options->ageing_percent);
    if (!result->own_estimates) {
        fm_text_append_format(text, "; wrong estimates: lognormal, sigma %g", options->sigma);
    }
    fm_text_append_string(text, "\n\n");
}

void fm_queue_sim_report_table(const struct fm_queue_sim_result *result, struct fm_text *text)
{
    table_head(result, text);
    fm_text_append_string(
        text,
        "                                           completion time        gain over baseline "
        "  bounded ratio    own ratio\n"
        "policy                        estimates      mean       p99    mean  least    p99"
        "     p99   most     p99    most\n");
    for (uint32_t i = 0; i < FM_QUEUE_SIM_POLICY_COUNT_ * 2; i++) {
        const struct fm_queue_sim_measures *measures = &result->measures[i / 2][i % 2];
        /* FIFO in turn asks for no estimates. */
        if (i == 1) {
            continue;
        }
        fm_text_append_format(
            text, "%-29s %-11s %7.0f s %7.0f s  %5.2fx %5.2fx %5.2fx  %6.2f %6.2f  %6.2f  %6.2f\n",
            fm_queue_sim_policy_name((enum fm_queue_sim_policy)(i / 2)),
            i == 0 ? "-" : estimates_name(result, i % 2), measures->mean_s, measures->p99_s,
            measures->gain, measures->gain_least, measures->p99_gain, measures->bounded_p99,
            measures->bounded_most, measures->own_p99, measures->own_most);
    }
    fm_text_append_string(
        text,
        "\ngain           the baseline's completion time (round-robin, FIFO) over the policy's; "
        "least: in the worst seed\n"
        "bounded ratio  waiting over FIFO waiting and half the longest task; at most 2: twice the "
        "FIFO waiting and one task's length\n"
        "own ratio      waiting over FIFO waiting, of tasks that wait a mean length or more under "
        "FIFO\n"
        "FIFO waiting   what the same task waits in the baseline; of tasks that arrive in one "
        "instant, what the last of them waits\n");
}

static void measures_write(struct fm_json_writer *writer,
                           const struct fm_queue_sim_measures *measures)
{
    fm_json_member_number(writer, "completion_mean_s", measures->mean_s);
    fm_json_member_number(writer, "completion_p99_s", measures->p99_s);
    fm_json_member_number(writer, "gain_mean", measures->gain);
    fm_json_member_number(writer, "gain_mean_least", measures->gain_least);
    fm_json_member_number(writer, "gain_p99", measures->p99_gain);
    fm_json_member_number(writer, "bounded_ratio_p99", measures->bounded_p99);
    fm_json_member_number(writer, "bounded_ratio_most", measures->bounded_most);
    fm_json_member_number(writer, "own_ratio_p99", measures->own_p99);
    fm_json_member_number(writer, "own_ratio_most", measures->own_most);
}

void fm_queue_sim_report_json(const struct fm_queue_sim_result *result, struct fm_text *text)
{
    const struct fm_queue_sim_options *options = &result->options;
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    if (!result->from_file) {
        fm_json_member_string(&writer, "mix", fm_queue_sim_mix_name(options->mix));
        fm_json_member_string(&writer, "arrivals", options->poisson ? "poisson" : "batch");
        if (options->poisson) {
            fm_json_member_number(&writer, "load", options->load);
        }
        fm_json_member_uint(&writer, "seed", options->seed);
        fm_json_member_uint(&writer, "seeds", options->seeds);
    }
    fm_json_member_uint(&writer, "tasks", options->tasks);
    fm_json_member_uint(&writer, "followers", options->followers);
    fm_json_member_uint(&writer, "ageing_percent", options->ageing_percent);
    if (!result->own_estimates) {
        fm_json_member_number(&writer, "sigma", options->sigma);
    }
    fm_json_key(&writer, "policies");
    fm_json_array_begin(&writer);
    for (uint32_t i = 0; i < FM_QUEUE_SIM_POLICY_COUNT_ * 2; i++) {
        if (i == 1) {
            continue;
        }
        fm_json_object_begin(&writer);
        fm_json_member_string(&writer, "policy",
                              fm_queue_sim_policy_name((enum fm_queue_sim_policy)(i / 2)));
        fm_json_member_string(&writer, "estimates", estimates_name(result, i % 2));
        measures_write(&writer, &result->measures[i / 2][i % 2]);
        fm_json_object_end(&writer);
    }
    fm_json_array_end(&writer);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

void fm_queue_trace_csv(const struct fm_queue_trace *trace, struct fm_text *text)
{
    fm_text_append_string(text, "arrival_s,length_s\n");
    for (uint32_t i = 0; i < trace->count; i++) {
        fm_text_append_format(text, "%" PRIu64 ".%09" PRIu64 ",%" PRIu64 ".%09" PRIu64 "\n",
                              trace->arrivals_ns[i] / NS_PER_S, trace->arrivals_ns[i] % NS_PER_S,
                              trace->lengths_ns[i] / NS_PER_S, trace->lengths_ns[i] % NS_PER_S);
    }
}
