/*
 * `fermata job verify`: the completeness proof once more, and what it found in words.
 *
 * Owns: options, progress, printing, exit codes. Does not own: the proof (engines/batch/verify.h).
 * Thread rule: the main thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/job.h"
#include "core/stats/progress.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/verify.h"
#include "host/os/os.h"
#include "host/os/stop_signal.h"

/* So many problems are told; the others are counted. */
enum { PROBLEMS_SHOWN_MAX = 100 };

struct watcher {
    const struct fm_call *call;
    bool bar;     /* progress, on a terminal */
    bool visible; /* it stands there */
    uint64_t problems;
    struct fm_text notes; /* JSON: the elements of the two arrays */
    struct fm_text problem_texts;
};

static double megabytes_per_s(uint64_t bytes, uint64_t elapsed_ns)
{
    return elapsed_ns > 0 ? (double)bytes * 1e3 / (double)elapsed_ns : 0;
}

static void bar_clear(struct watcher *watcher)
{
    if (watcher->visible) {
        (void)fprintf(stderr, "\r\033[K");
        watcher->visible = false;
    }
}

static void element_add(struct fm_text *elements, const char *text)
{
    struct fm_json_writer json;
    if (elements->length > 0) {
        fm_text_append_char(elements, ',');
    }
    fm_json_writer_init(&json, elements);
    fm_json_string(&json, text);
}

static void on_problem(void *context, const char *text)
{
    struct watcher *watcher = context;
    bar_clear(watcher);
    if (++watcher->problems > PROBLEMS_SHOWN_MAX) {
        return;
    }
    if (watcher->call->json) {
        element_add(&watcher->problem_texts, text);
    } else {
        printf("wrong: %s\n", text);
    }
}

static void on_note(void *context, const char *text)
{
    struct watcher *watcher = context;
    bar_clear(watcher);
    if (watcher->call->json) {
        element_add(&watcher->notes, text);
    } else {
        fm_call_note(watcher->call, "%s", text);
    }
}

static void on_progress(void *context, const struct fm_verify_progress *progress)
{
    struct watcher *watcher = context;
    if (watcher->bar) {
        (void)fprintf(stderr, "\r\033[K%" PRIu64 " rows in %" PRIu64 " parts, %.1f MB, %.0f MB/s",
                      progress->rows, progress->parts, (double)progress->bytes / 1e6,
                      megabytes_per_s(progress->bytes, progress->elapsed_ns));
        (void)fflush(stderr);
        watcher->visible = true;
    }
}

static bool on_stop(void *context)
{
    (void)context;
    return fm_stop_signal_get() != 0;
}

static const char *verdict_name(enum fm_verify_verdict verdict)
{
    return verdict == FM_VERIFY_PROVEN                ? "proven"
           : verdict == FM_VERIFY_PROVEN_WITH_LETTERS ? "proven with dead letters"
                                                      : "not proven";
}

static int verdict_exit_code(enum fm_verify_verdict verdict)
{
    return verdict == FM_VERIFY_PROVEN                ? FM_EXIT_OK
           : verdict == FM_VERIFY_PROVEN_WITH_LETTERS ? FM_EXIT_PARTIAL
                                                      : FM_EXIT_UNPROVEN;
}

static int report_json(const struct watcher *watcher, const struct fm_verify_report *report)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"rows_in", report->rows_in},
        {"rows_out", report->rows_out},
        {"dead_letters", report->dead_letters},
        {"parts", report->parts},
        {"bytes", report->bytes},
        {"problem_count", report->problems},
    };
    const struct {
        const char *key;
        bool value;
    } flags[] = {{"manifest", report->has_manifest},
                 {"ledger", report->has_ledger},
                 {"inputs_compared", report->has_inputs}};
    const struct {
        const char *key;
        const struct fm_text *elements;
    } lists[] = {{"problems", &watcher->problem_texts}, {"notes", &watcher->notes}};
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "directory", fm_call_positional(watcher->call, 0));
    fm_json_member_string(&json, "job", report->job);
    fm_json_member_string(&json, "verdict", verdict_name(report->verdict));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        fm_json_member_uint(&json, numbers[i].key, numbers[i].value);
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        fm_json_key(&json, flags[i].key);
        fm_json_bool(&json, flags[i].value);
    }
    fm_json_member_number(&json, "seconds", (double)(report->elapsed_ns / 1000000) / 1000);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        fm_json_key(&json, lists[i].key);
        fm_json_array_begin(&json);
        if (lists[i].elements->length > 0) {
            fm_json_raw(&json, lists[i].elements->data, lists[i].elements->length);
        }
        fm_json_array_end(&json);
        text.failed = text.failed || lists[i].elements->failed;
    }
    fm_json_object_end(&json);
    return fm_job_print_line(watcher->call, &text);
}

static void report_text(const struct fm_verify_report *report)
{
    char duration[32];
    if (report->problems > PROBLEMS_SHOWN_MAX) {
        printf("and %" PRIu64 " more\n", report->problems - PROBLEMS_SHOWN_MAX);
    }
    printf("%s%s%s: %" PRIu64 " rows in, %" PRIu64 " results + %" PRIu64
           " dead letters counted in %" PRIu64 " parts\n",
           report->job, report->job[0] != '\0' ? ": " : "", verdict_name(report->verdict),
           report->rows_in, report->rows_out, report->dead_letters, report->parts);
    printf("%.1f MB read in %s (%.0f MB/s); %s\n", (double)report->bytes / 1e6,
           fm_progress_format_duration(report->elapsed_ns, duration, sizeof(duration)),
           megabytes_per_s(report->bytes, report->elapsed_ns),
           report->has_inputs   ? "every row's id was compared with the recorded inputs"
           : report->has_ledger ? "the recorded inputs could not be compared"
                                : "without the job's ledger: ids were compared with each other");
}

static int run(const struct fm_call *call)
{
    struct fm_error error = {0};
    struct fm_verify_report report;
    struct watcher watcher = {
        .call = call, .bar = fm_os_is_terminal(2) && !call->json && !fm_call_flag(call, "quiet")};
    const struct fm_verify_options options = {.directory = fm_call_positional(call, 0),
                                              .problem = on_problem,
                                              .note = on_note,
                                              .progress = on_progress,
                                              .stop = on_stop,
                                              .context = &watcher};
    fm_stop_signal_install();
    int status = fm_verify_run(&options, &report, &error);
    int exit_code = FM_EXIT_OK;
    bar_clear(&watcher);
    if (status == 0 && call->json) {
        exit_code = report_json(&watcher, &report);
    } else if (status == 0) {
        report_text(&report);
    }
    fm_text_deinit(&watcher.notes);
    fm_text_deinit(&watcher.problem_texts);
    if (status == FM_ECANCELLED) {
        return fm_call_fail_with(call, 128 + fm_stop_signal_get(), "%s", error.text);
    }
    if (status != 0) {
        return fm_call_fail(call, &error);
    }
    if (exit_code == FM_EXIT_OK && report.verdict == FM_VERIFY_NOT_PROVEN) {
        return fm_call_fail_with(call, FM_EXIT_UNPROVEN, "'%s' is not proven: %" PRIu64 " %s wrong",
                                 options.directory, report.problems,
                                 report.problems == 1 ? "thing is" : "things are");
    }
    return exit_code != FM_EXIT_OK ? exit_code : verdict_exit_code(report.verdict);
}

static const struct fm_positional positionals[] = {
    {.name = "DIR", .help = "the output directory of a job, or a copy of it", .path = true},
    {.name = NULL},
};

static const struct fm_option options_table[] = {
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {.text = "Are these results complete, and as they were written?",
     .command = "fermata job verify out"},
    {.text = "The same for a copy on another machine",
     .command = "fermata job verify /mnt/archive/scans-2026 --json"},
    {.text = NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT,
                                 FM_EXIT_PARTIAL,
                                 FM_EXIT_UNAVAILABLE,
                                 FM_EXIT_UNPROVEN,
                                 FM_EXIT_INTERRUPTED,
                                 FM_EXIT_TERMINATED,
                                 0};

const struct fm_command fm_command_job_verify = {
    .name = "job verify",
    .summary = "prove that the results of a job are complete and as they were written",
    .description =
        "Reads everything that the manifest vouches for: size and checksum of every file, every "
        "line (JSON, with an id), and counts: rows in = results + dead letters, without a hole or "
        "an id that stands twice (a note, where ids come from a column of the input). Where the "
        "job's ledger is there, manifest and ledger must agree, "
        "and every row must have the id that was recorded for it; a copy of manifest and parts "
        "alone is proven without. Parts that nobody vouches for are named. Nothing is changed.\n\n"
        "0: proven, every row has a result. 4: proven, some rows are dead letters. 8: not proven; "
        "what is wrong is said, also when the job is merely not at its end.",
    .positionals = positionals,
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/jobs.md",
    .run = run,
};
