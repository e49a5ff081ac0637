/*
 * `fermata job report`: a page of one file about a job.
 *
 * Owns: options, where it goes. Does not own: the page (engines/batch/job_report.h). Thread rule:
 * the main thread.
 */
#include "engines/batch/job_report.h"
#include "cmd/job.h"
#include "core/util/error.h"

static int run(const struct fm_call *call)
{
    struct fm_error error = {0};
    struct fm_text text = {0};
    const char *file = fm_call_string(call, "output");
    const struct fm_job_report_options options = {.directory = fm_call_positional(call, 0),
                                                  .price_per_hour =
                                                      fm_call_number(call, "price-per-hour")};
    int status = file != NULL ? fm_file_check_writable(file, &error) : 0;
    status = status != 0 ? status : fm_job_report_write(&options, &text, &error);
    if (status == 0 && file == NULL) {
        return fm_call_print(call, &text);
    }
    status = status != 0 ? status : fm_file_write_atomic(file, text.data, text.length, &error);
    fm_text_deinit(&text);
    return status != 0 ? fm_call_fail(call, &error) : FM_EXIT_OK;
}

static const struct fm_positional positionals[] = {
    {.name = "DIR", .help = "the output directory of a job", .path = true},
    {.name = NULL},
};

static const struct fm_option options_table[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "write the page there instead of to standard output"},
    {.name = "price-per-hour",
     .kind = FM_OPTION_NUMBER,
     .value_name = "PRICE",
     .help = "what one worker costs in an hour, for an estimate of the costs"},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {.text = "What became of this job, as a page",
     .command = "fermata job report out -o report.html --price-per-hour 2.5"},
    {.text = NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_UNAVAILABLE, 0};

const struct fm_command fm_command_job_report = {
    .name = "job report",
    .summary = "write a page about a job: speed over time, failures, costs",
    .description =
        "One HTML file with everything in it: completeness, rows per second and workers over time, "
        "slowest stages, retries and losses, slowest shards, dead letters by reason, facts. It "
        "needs no network and no script. The times come from the history that the master keeps in "
        "the job's directory, over all runs of the job.",
    .positionals = positionals,
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/jobs.md",
    .run = run,
};
