/*
 * `fermata bench queue`: how a leader shares bench tasks among followers, in virtual time, against
 * simpler ways.
 *
 * Owns: options, reading the trace, printing. Does not own: the simulator (engines/bench). Thread
 * rule: the main thread.
 */
#include "cmd/command.h"
#include "core/util/error.h"
#include "engines/bench/queue_sim.h"
#include "engines/bench/queue_sim_report.h"
#include "host/os/file.h"

#define TRACE_BYTES_MAX (UINT64_C(64) << 20)
#define TASKS_BATCH     40
#define TASKS_POISSON   2000

static const char *const mixes[] = {"uniform", "exponential", "bimodal", "lognormal", NULL};
static const char *const arrivals[] = {"batch", "poisson", NULL};
/* What makes a trace: not with one from a file. */
static const char *const making[] = {"mix", "arrivals", "load", "tasks", "seeds", "print-trace"};

static struct fm_queue_sim_options options_read(const struct fm_call *call)
{
    bool poisson = fm_call_choice(call, "arrivals") == 1;
    uint32_t tasks = poisson ? TASKS_POISSON : TASKS_BATCH;
    bool from_file = fm_call_given(call, "trace");
    return (struct fm_queue_sim_options){
        .mix = (enum fm_queue_sim_mix)fm_call_choice(call, "mix"),
        .poisson = poisson,
        .load = fm_call_number(call, "load"),
        .tasks = fm_call_given(call, "tasks") ? (uint32_t)fm_call_integer(call, "tasks") : tasks,
        .followers = (uint32_t)fm_call_integer(call, "followers"),
        .seed = (uint64_t)fm_call_integer(call, "seed"),
        .seeds = from_file ? 1 : (uint32_t)fm_call_integer(call, "seeds"),
        .sigma = fm_call_number(call, "sigma"),
        .ageing_percent = (uint32_t)fm_call_integer(call, "ageing"),
    };
}

static int options_check(const struct fm_call *call, const struct fm_queue_sim_options *options)
{
    for (size_t i = 0; i < sizeof(making) / sizeof(making[0]); i++) {
        if (fm_call_given(call, "trace") && fm_call_given(call, making[i])) {
            return fm_call_usage(
                call, "--%s is for traces that are made: leave it out with --trace", making[i]);
        }
    }
    if (fm_call_given(call, "load") && !options->poisson) {
        return fm_call_usage(call, "--load needs --arrivals poisson: a batch comes all at once");
    }
    if ((uint64_t)options->tasks * options->seeds > FM_QUEUE_SIM_SUM_MAX) {
        return fm_call_usage(call, "--tasks times --seeds must be %u at most",
                             FM_QUEUE_SIM_SUM_MAX);
    }
    return FM_EXIT_OK;
}

static int trace_read(const char *path, struct fm_queue_trace *ret_trace, struct fm_error *reterr)
{
    char *data = NULL;
    size_t size = 0;
    int status = fm_file_read(path, TRACE_BYTES_MAX, &data, &size, reterr);
    if (status == 0) {
        status = fm_queue_trace_parse(path, data, size, ret_trace, reterr);
    }
    fm_free(data);
    return status;
}

static int trace_print(const struct fm_call *call, const struct fm_queue_sim_options *options)
{
    struct fm_queue_trace trace;
    struct fm_text text = {0};
    struct fm_error error = {0};
    int status = fm_queue_trace_make(options, options->seed, &trace);
    if (status != 0) {
        (void)fm_error_cannot(&error, status, "make the trace");
        return fm_call_fail(call, &error);
    }
    fm_queue_trace_csv(&trace, &text);
    fm_queue_trace_deinit(&trace);
    return fm_call_print(call, &text);
}

static int run(const struct fm_call *call)
{
    struct fm_queue_sim_options options = options_read(call);
    const char *path = fm_call_string(call, "trace");
    struct fm_queue_sim_result result;
    struct fm_queue_trace trace = {0};
    struct fm_error error = {0};
    struct fm_text text = {0};
    int exit_code = options_check(call, &options);
    if (exit_code != FM_EXIT_OK) {
        return exit_code;
    }
    if (fm_call_flag(call, "print-trace")) {
        return trace_print(call, &options);
    }
    int status = path != NULL ? trace_read(path, &trace, &error) : 0;
    if (status == 0) {
        status = fm_queue_sim_run(&options, path != NULL ? &trace : NULL, &result);
        status = status != 0 ? fm_error_cannot(&error, status, "run the simulation") : 0;
    }
    fm_queue_trace_deinit(&trace);
    if (status != 0) {
        return fm_call_fail(call, &error);
    }
    if (call->json) {
        fm_queue_sim_report_json(&result, &text);
    } else {
        fm_queue_sim_report_table(&result, &text);
    }
    return fm_call_print(call, &text);
}

static const struct fm_option options_table[] = {
    {.name = "mix",
     .kind = FM_OPTION_CHOICE,
     .value_name = "MIX",
     .default_value = "exponential",
     .choices = mixes,
     .help = "lengths of tasks: 1 to 10 min; mean 5 min; 100 s and one in five 1000 s; median "
             "5 min, sigma 1",
     .group = "The trace"},
    {.name = "arrivals",
     .kind = FM_OPTION_CHOICE,
     .value_name = "KIND",
     .default_value = "batch",
     .choices = arrivals,
     .help = "all at once, or a Poisson stream"},
    {.name = "load",
     .kind = FM_OPTION_NUMBER,
     .value_name = "PART",
     .default_value = "0.9",
     .number_min = 0.01,
     .number_max = 2,
     .help = "of a Poisson stream: which part of the followers' time it takes"},
    {.name = "tasks",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = FM_QUEUE_SIM_TASKS_MAX,
     .help = "how many tasks (without this, 40 in a batch and 2000 in a stream)"},
    {.name = "seeds",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "30",
     .min = 1,
     .max = FM_QUEUE_SIM_SEEDS_MAX,
     .help = "how many traces are made, each from the seed after that of the one before"},
    {.name = "seed",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1",
     .help = "the first one; also of wrong estimates"},
    {.name = "print-trace",
     .kind = FM_OPTION_FLAG,
     .help = "print the trace of --seed as CSV and run nothing"},
    {.name = "trace",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help =
         "run this trace: CSV with columns arrival_s, length_s and, if there is one, estimate_s"},
    {.name = "followers",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "4",
     .min = 1,
     .max = FM_QUEUE_SIM_FOLLOWERS_MAX,
     .help = "how many followers there are, with one device each",
     .group = "The run"},
    {.name = "sigma",
     .kind = FM_OPTION_NUMBER,
     .value_name = "N",
     .default_value = "0.5",
     .number_min = 0,
     .number_max = FM_QUEUE_SIM_SIGMA_MAX,
     .help = "how wrong the wrong estimates are: the length times e^(N * normal)"},
    {.name = "ageing",
     .kind = FM_OPTION_INTEGER,
     .value_name = "PERCENT",
     .default_value = "140",
     .min = FM_JOB_QUEUE_AGEING_MIN,
     .max = FM_JOB_QUEUE_AGEING_MAX,
     .help = "of its FIFO waiting, after which a task goes first"},
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"What does the queue bring when 40 tasks are submitted at once?",
     "fermata bench queue --mix exponential"},
    {"And in a stream of tasks that takes nine tenths of the followers?",
     "fermata bench queue --mix uniform --arrivals poisson --load 0.9"},
    {"A trace of one's own", "fermata bench queue --trace tasks.csv --followers 8 --json"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, 0};

const struct fm_command fm_command_bench_queue = {
    .name = "bench queue",
    .summary = "compare ways to share bench tasks among followers, in virtual time",
    .description =
        "Runs traces of tasks through the queue that a leader of benchmarks has (two tiers: least "
        "estimated outstanding work between followers, shortest task first with ageing inside), "
        "and through simpler policies, and prints what each does to completion times and to the "
        "waiting of single tasks. Nothing is measured and nothing waits: the same call prints the "
        "same numbers everywhere.\n\n"
        "Each policy is run with the true lengths as estimates, and with wrong ones.",
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/bench-queue.md",
    .run = run,
};
