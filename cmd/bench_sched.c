/*
 * `fermata bench sched`: measures the scheduler by itself.
 *
 * Owns: options, printing. Does not own: what is measured (engines/bench). Thread rule: the main
 * thread.
 */
#include "cmd/command.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/bench/sched_stress.h"
#include "engines/bench/sched_stress_report.h"

/* A load that is later than this part of the SLO says more of the machine than of what it loads. */
#define LAG_DIVISOR 4

/* Those that have a form in parts, core/sched/parts.h. */
static const char *const policies[] = {"deferred", "eager",    "latest", "timeout",
                                       "target",   "symphony", NULL};

static struct fm_sched_stress_options options_read(const struct fm_call *call)
{
    int policy = fm_call_choice(call, "policy");
    return (struct fm_sched_stress_options){
        .policy = fm_sched_policy_parse(policies[policy]),
        .models = (uint32_t)fm_call_integer(call, "models"),
        .accelerators = (uint32_t)fm_call_integer(call, "accelerators"),
        .shards = (uint32_t)fm_call_integer(call, "shards"),
        .rate_hz = fm_call_flag(call, "max") ? 0 : fm_call_number(call, "rate"),
        .warmup_ns = fm_call_duration_ns(call, "warmup"),
        .measure_ns = fm_call_duration_ns(call, "seconds"),
        .alpha_ns = fm_call_duration_ns(call, "alpha"),
        .beta_ns = fm_call_duration_ns(call, "beta"),
        .slo_ns = fm_call_duration_ns(call, "slo"),
        .seed = (uint64_t)fm_call_integer(call, "seed"),
    };
}

static int options_check(const struct fm_call *call, const struct fm_sched_stress_options *options)
{
    if (fm_call_flag(call, "max") && fm_call_given(call, "rate")) {
        return fm_call_usage(call, "give --rate or --max, not both");
    }
    if (fm_call_given(call, "beta") && !fm_call_given(call, "alpha")) {
        return fm_call_usage(call, "--beta needs --alpha: a profile is both");
    }
    if (fm_call_given(call, "alpha") && options->alpha_ns == 0) {
        return fm_call_usage(call, "--alpha must be above 0: each request takes some time");
    }
    if (options->alpha_ns > UINT64_C(60000000000) || options->beta_ns > UINT64_C(60000000000)) {
        return fm_call_usage(call, "--alpha and --beta must be 1m at most");
    }
    if (fm_call_given(call, "slo") && options->slo_ns == 0) {
        return fm_call_usage(call, "--slo must be above 0");
    }
    if (options->measure_ns < 100000000u || options->measure_ns > UINT64_C(3600000000000)) {
        return fm_call_usage(call, "--seconds must be 100ms to 1h");
    }
    if (options->warmup_ns > UINT64_C(3600000000000)) {
        return fm_call_usage(call, "--warmup must be 1h at most");
    }
    if (options->slo_ns > UINT64_C(60000000000)) {
        return fm_call_usage(call, "--slo must be 60s at most");
    }
    if (options->slo_ns > 0 && options->slo_ns <= options->alpha_ns + options->beta_ns) {
        return fm_call_usage(call, "--slo must be above --alpha and --beta together: not even one "
                                   "request could be met");
    }
    return FM_EXIT_OK;
}

static int run(const struct fm_call *call)
{
    struct fm_sched_stress_options options = options_read(call);
    int exit_code = options_check(call, &options);
    if (exit_code != FM_EXIT_OK) {
        return exit_code;
    }
    static struct fm_sched_stress_result result;
    struct fm_error error = {0};
    if (fm_sched_stress_run(&options, &result, &error) != 0) {
        return fm_call_fail(call, &error);
    }
    uint64_t lag_ns = fm_log_histogram_quantile_ns(&result.lag, 990);
    if (lag_ns > result.options.slo_ns / LAG_DIVISOR) {
        fm_call_note(
            call,
            "in one of 100 looks the load's thread was %.3g ms behind or more: this machine "
            "does not keep up with that rate, and bad rate and delay show that and not "
            "the scheduler",
            (double)lag_ns / 1e6);
    }
    if (options.measure_ns < result.options.slo_ns) {
        fm_call_note(call,
                     "measured for less than the SLO of %.3g s: most requests had no outcome by "
                     "then; see --seconds",
                     (double)result.options.slo_ns / 1e9);
    }
    struct fm_text text = {0};
    if (call->json) {
        fm_sched_stress_report_json(&result, &text);
    } else {
        fm_sched_stress_report_table(&result, &text);
    }
    return fm_call_print(call, &text);
}

static const struct fm_option options_table[] = {
    {.name = "models",
     .short_name = 'm',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1",
     .min = 1,
     .max = FM_SCHED_STRESS_MODELS_MAX,
     .help = "how many models the requests are for",
     .group = "The load"},
    {.name = "accelerators",
     .short_name = 'a',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "8",
     .min = 1,
     .max = FM_SCHED_ACCELERATORS_LIMIT,
     .help = "how many accelerators are played by timers"},
    {.name = "rate",
     .short_name = 'r',
     .kind = FM_OPTION_NUMBER,
     .value_name = "N",
     .default_value = "1000000",
     .number_min = 1,
     .number_max = FM_SCHED_STRESS_RATE_MAX_HZ,
     .help = "requests per second, a Poisson stream"},
    {.name = "max",
     .kind = FM_OPTION_FLAG,
     .help = "submit as fast as the scheduler takes requests, instead of at a rate"},
    {.name = "alpha",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .help = "a batch of b takes alpha * b + beta (without this, made from the rate)"},
    {.name = "beta", .kind = FM_OPTION_DURATION, .value_name = "TIME", .help = "see --alpha"},
    {.name = "slo",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .help = "from arrival to deadline (without this, at least 25ms and 3 batches)"},
    {.name = "policy",
     .short_name = 'p',
     .kind = FM_OPTION_CHOICE,
     .value_name = "POLICY",
     .default_value = "deferred",
     .choices = policies,
     .help = "how to schedule",
     .group = "The run"},
    {.name = "shards",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1",
     .min = 1,
     .max = FM_SCHED_SHARDS_LIMIT,
     .help = "threads that the models are spread over, beside the matcher's"},
    {.name = "seconds",
     .short_name = 's',
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "5",
     .help = "how long to measure"},
    {.name = "warmup",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "1s",
     .help = "how long to run before that"},
    {.name = "seed",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1",
     .help = "of the arrivals"},
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"What does scheduling a request cost?",
     "fermata bench sched --models 1 --accelerators 8 --rate 1000000"},
    {"The same for a large cluster",
     "fermata bench sched --models 1000 --accelerators 10000 --rate 1000000"},
    {"How many requests per second can this machine schedule?",
     "fermata bench sched --models 100 --accelerators 1000 --max --json"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_UNAVAILABLE, 0};

const struct fm_command fm_command_bench_sched = {
    .name = "bench sched",
    .summary = "measure the scheduler by itself, in real time",
    .description =
        "Runs the scheduler on threads, one for the matcher and one for "
        "each shard of the models, under a load from one more thread. Accelerators are timers in "
        "that thread: a batch that is started is reported done when its latency profile says so. "
        "No model runs.\n\n"
        "CPU per request is that of the scheduler's threads; the load's is given beside it. The "
        "scheduling delay is how long it takes from a request's submission, or from the time at "
        "which a held batch was to start, until the batch is handed out, where an accelerator is "
        "free. The bad rate counts requests that were dropped or answered late.",
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/bench-sched.md",
    .run = run,
};
