/*
 * `fermata job dead-letters`: which rows failed, and why.
 *
 * Owns: options, printing. Does not own: reading them, what is alike (engines/batch/letters.h).
 * Thread rule: the main thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/job.h"
#include "core/util/error.h"
#include "engines/batch/letters.h"

struct printer {
    const struct fm_call *call;
    uint64_t limit;
    uint64_t count;
};

static int on_letter(void *context, const struct fm_row_letter *letter, const char *line,
                     size_t length)
{
    struct printer *printer = context;
    if (printer->call->json) {
        (void)fwrite(line, 1, length, stdout);
        (void)fputc('\n', stdout);
    } else {
        fm_shown_put(stdout, letter->id.data, letter->id.length);
        printf(": %s at %s: ", letter->code.data, letter->stage.data);
        fm_shown_put(stdout, letter->message.data, letter->message.length);
        (void)fputc('\n', stdout);
    }
    return ++printer->count == printer->limit || ferror(stdout) ? 1 : 0;
}

static int print_all(const struct fm_call *call, struct fm_letters_options *options)
{
    struct fm_error error = {0};
    struct printer printer = {.call = call, .limit = (uint64_t)fm_call_integer(call, "limit")};
    options->each = on_letter;
    options->context = &printer;
    return fm_letters_each(options, &error) != 0 ? fm_call_fail(call, &error) : FM_EXIT_OK;
}

/* --- The summary --- */

static int on_letter_summed(void *context, const struct fm_row_letter *letter, const char *line,
                            size_t length)
{
    (void)line;
    (void)length;
    return fm_letter_summary_add(context, letter);
}

static int summary_json(const struct fm_call *call, const struct fm_letter_summary *summary,
                        size_t shown)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_member_uint(&json, "dead_letters", summary->total);
    fm_json_key(&json, "groups");
    fm_json_array_begin(&json);
    for (size_t i = 0; i < shown; i++) {
        const struct fm_letter_group *group = &summary->groups[i];
        fm_json_object_begin(&json);
        fm_json_member_uint(&json, "count", group->count);
        fm_json_member_string(&json, "stage", group->stage);
        fm_json_member_string(&json, "code", group->code);
        fm_json_member_string(&json, "pattern", group->pattern);
        fm_json_member_string(&json, "example_id", group->example);
        fm_json_member_string(&json, "example_message", group->message);
        fm_json_object_end(&json);
    }
    fm_json_array_end(&json);
    fm_json_member_uint(&json, "in_other_groups", summary->others);
    fm_json_object_end(&json);
    return fm_job_print_line(call, &text);
}

static void summary_text(const struct fm_letter_summary *summary, size_t shown)
{
    uint64_t rest = summary->total;
    printf("%" PRIu64 " dead letters\n", summary->total);
    for (size_t i = 0; i < shown; i++) {
        const struct fm_letter_group *group = &summary->groups[i];
        printf("%8" PRIu64 "  %s at %s: ", group->count, group->code, group->stage);
        fm_shown_put(stdout, group->pattern, strlen(group->pattern));
        printf("\n          such as ");
        fm_shown_put(stdout, group->example, strlen(group->example));
        (void)fputc('\n', stdout);
        rest -= group->count;
    }
    if (rest > 0) {
        printf("%8" PRIu64 "  others\n", rest);
    }
}

static int print_summary(const struct fm_call *call, struct fm_letters_options *options)
{
    struct fm_error error = {0};
    struct fm_letter_summary summary = {0};
    int exit_code = FM_EXIT_OK;
    uint64_t limit = (uint64_t)fm_call_integer(call, "limit");
    options->each = on_letter_summed;
    options->context = &summary;
    int status = fm_letters_each(options, &error);
    if (status != 0) {
        if (error.status == 0) {
            (void)fm_error_set(&error, status, "out of memory for the summary");
        }
        exit_code = fm_call_fail(call, &error);
    } else {
        fm_letter_summary_sort(&summary);
        size_t shown = limit > 0 && limit < summary.count ? (size_t)limit : summary.count;
        if (call->json) {
            exit_code = summary_json(call, &summary, shown);
        } else {
            summary_text(&summary, shown);
        }
    }
    fm_letter_summary_deinit(&summary);
    return exit_code;
}

static int run(const struct fm_call *call)
{
    struct fm_letters_options options = {.directory = fm_call_positional(call, 0),
                                         .stage = fm_call_string(call, "stage"),
                                         .code = fm_call_string(call, "code")};
    return fm_call_flag(call, "summary") ? print_summary(call, &options)
                                         : print_all(call, &options);
}

static const struct fm_positional positionals[] = {
    {.name = "DIR", .help = "the output directory of a job", .path = true},
    {.name = NULL},
};

static const struct fm_option options_table[] = {
    {.name = "stage",
     .kind = FM_OPTION_STRING,
     .value_name = "STAGE",
     .help = "only rows that failed at this stage: read, input, write, process, or one of the "
             "pipeline"},
    {.name = "code",
     .kind = FM_OPTION_STRING,
     .value_name = "CODE",
     .help = "only rows with this code, as ECORRUPT"},
    {.name = "summary",
     .kind = FM_OPTION_FLAG,
     .help = "count what failed alike, instead of every row"},
    {.name = "limit",
     .short_name = 'n',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .help = "print the first N, or the N largest groups"},
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {.text = "Why did rows fail?", .command = "fermata job dead-letters out --summary"},
    {.text = "The ids of rows with broken images, to try them again elsewhere",
     .command = "fermata job dead-letters out --code ECORRUPT --json | jq -r .id"},
    {.text = NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, 0};

const struct fm_command fm_command_job_dead_letters = {
    .name = "job dead-letters",
    .summary = "print or sum up the rows that failed",
    .description =
        "Prints a line for each dead letter of a job, or with --json the dead letter as it was "
        "written. With --summary, rows that failed at the same stage, with the same code and a "
        "message that differs in numbers and quoted names only are counted together. While a job "
        "runs, these are the dead letters of the shards that are committed.",
    .positionals = positionals,
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/jobs.md",
    .run = run,
};
