/*
 * `fermata job pause`, `resume` and `cancel`.
 *
 * Owns: options, printing. Does not own: asking the master (engines/batch/steer.h). Thread rule:
 * the main thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/job.h"
#include "core/util/error.h"
#include "engines/batch/status_document.h"
#include "engines/batch/steer.h"

#define PATIENCE_NS UINT64_C(10000000000)

/* How the job stands now, as the master says. */
static int answer_print(const struct fm_call *call, const char *what,
                        const struct fm_batch_status *status)
{
    if (call->json) {
        struct fm_text text = {0};
        struct fm_json_writer json;
        fm_json_writer_init(&json, &text);
        fm_status_document_write(&json, status);
        return fm_job_print_line(call, &text);
    }
    printf("%.*s: %s; %" PRIu64 " of %" PRIu64 " rows committed, %" PRIu64 " in work\n",
           (int)status->job.size, status->job.data, what, status->rows_committed,
           status->rows_total, status->rows_in_work);
    return FM_EXIT_OK;
}

static int ask(const struct fm_call *call, enum fm_steer what, const char *done)
{
    struct fm_error error = {0};
    struct fm_steer_answer answer = {.bytes = {0}};
    int status = fm_steer_ask(fm_call_positional(call, 0), what, PATIENCE_NS, &answer, &error);
    int exit_code =
        status != 0 ? fm_call_fail(call, &error) : answer_print(call, done, &answer.status);
    fm_steer_answer_deinit(&answer);
    return exit_code;
}

/* Where nobody works on the job, it is marked. */
static int ask_or_mark(const struct fm_call *call, enum fm_steer what, const char *done)
{
    const char *directory = fm_call_positional(call, 0);
    bool cancelled = what == FM_STEER_CANCEL;
    bool changed = false;
    struct fm_error error = {0};
    struct fm_steer_answer answer = {.bytes = {0}};
    int exit_code = FM_EXIT_OK;
    int status = fm_steer_ask(directory, what, PATIENCE_NS, &answer, &error);
    if (status == 0) {
        exit_code = answer_print(call, done, &answer.status);
        fm_steer_answer_deinit(&answer);
        return exit_code;
    }
    fm_steer_answer_deinit(&answer);
    if (status == FM_EUNAVAILABLE) {
        error = (struct fm_error){0};
        status = fm_steer_mark(directory, cancelled, &changed, &error);
    }
    if (status != 0) {
        return fm_call_fail(call, &error);
    }
    if (!changed && !cancelled) {
        return fm_call_fail_with(call, FM_EXIT_UNAVAILABLE,
                                 "nobody is working on the job in '%s', and it was not cancelled: "
                                 "fermata batch --resume goes on with it",
                                 directory);
    }
    if (call->json) {
        struct fm_text text = {0};
        struct fm_json_writer json;
        fm_json_writer_init(&json, &text);
        fm_json_object_begin(&json);
        fm_json_key(&json, "cancelled");
        fm_json_bool(&json, cancelled);
        fm_json_key(&json, "changed");
        fm_json_bool(&json, changed);
        fm_json_object_end(&json);
        return fm_job_print_line(call, &text);
    }
    printf("%s: %s\n", directory,
           !changed    ? "it was cancelled before"
           : cancelled ? "cancelled; nobody was working on it"
                       : "not cancelled any more; fermata batch --resume goes on with it");
    return FM_EXIT_OK;
}

static int pause_run(const struct fm_call *call)
{
    return ask(call, FM_STEER_PAUSE, "paused");
}

static int resume_run(const struct fm_call *call)
{
    return ask_or_mark(call, FM_STEER_RESUME, "goes on");
}

static int cancel_run(const struct fm_call *call)
{
    return ask_or_mark(call, FM_STEER_CANCEL, "cancelled");
}

static const struct fm_positional positionals[] = {
    {.name = "DIR", .help = "the output directory of the job", .path = true},
    {.name = NULL},
};

static const struct fm_option options[] = {
    FM_OPTION_JSON,
    {.name = NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_UNAVAILABLE, 0};

static const struct fm_example pause_examples[] = {
    {.text = "Leave the machine to somebody else for a while",
     .command = "fermata job pause out; sleep 3600; fermata job resume out"},
    {.text = NULL},
};

const struct fm_command fm_command_job_pause = {
    .name = "job pause",
    .summary = "let a running job rest: nothing more is handed out",
    .description =
        "What workers have in hand is finished and committed; then they wait. `fermata job resume` "
        "goes on. A pause lasts as long as the process: a job that is stopped or killed meanwhile, "
        "and started again with `fermata batch --resume`, runs.",
    .positionals = positionals,
    .options = options,
    .examples = pause_examples,
    .exit_codes = exit_codes,
    .see_also = "docs/jobs.md",
    .run = pause_run,
};

static const struct fm_example resume_examples[] = {
    {.text = "Go on after a pause", .command = "fermata job resume out"},
    {.text = "Go on with a job that was cancelled",
     .command = "fermata job resume out && fermata batch job.yaml --resume"},
    {.text = NULL},
};

const struct fm_command fm_command_job_resume = {
    .name = "job resume",
    .summary = "end a pause, or take a cancellation back",
    .description =
        "A job that is paused goes on. One that was cancelled, and on which nobody works, may be "
        "continued with `fermata batch --resume` again.",
    .positionals = positionals,
    .options = options,
    .examples = resume_examples,
    .exit_codes = exit_codes,
    .see_also = "docs/jobs.md",
    .run = resume_run,
};

static const struct fm_example cancel_examples[] = {
    {.text = "Stop a job that is not wanted any more", .command = "fermata job cancel out"},
    {.text = NULL},
};

const struct fm_command fm_command_job_cancel = {
    .name = "job cancel",
    .summary = "stop a job, and see to it that it is not resumed by accident",
    .description =
        "As with Ctrl-C, the rows in work are finished, and what is finished is committed and "
        "kept. Besides, the job is marked: `fermata batch --resume` refuses it until `fermata job "
        "resume` takes the mark back. (--restart begins anew, as ever.) A job on which nobody "
        "works is only marked.",
    .positionals = positionals,
    .options = options,
    .examples = cancel_examples,
    .exit_codes = exit_codes,
    .see_also = "docs/jobs.md",
    .run = cancel_run,
};
