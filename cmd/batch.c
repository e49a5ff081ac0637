/*
 * `fermata batch`: runs a job file to its end and tells how it goes.
 *
 * Owns: options, progress, Ctrl-C, printing, exit codes. Does not own: the job (engines/batch).
 * Thread rule: the main thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"
#include "core/proto/json.h"
#include "core/stats/progress.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/batch.h"
#include "engines/batch/results_copy.h"
#include "engines/batch/sink.h"
#include "engines/batch/status_document.h"
#include "fermata_build_facts.h"
#include "host/net/objects.h"
#include "host/os/os.h"
#include "host/os/standard_files.h"
#include "host/os/stop_signal.h"

enum { LINE_SIZE = 512, BAR_WIDTH_MAX = 40, BAR_WIDTH_MIN = 8 };
#define SECOND_NS      UINT64_C(1000000000)
#define RATE_WINDOW_NS (20 * SECOND_NS)

/* How progress is shown: at most one of the three. */
struct watcher {
    const struct fm_call *call;
    const struct fm_job *job;
    struct fm_progress progress;
    bool bar;   /* one line of a terminal, drawn over itself */
    bool plain; /* a line now and then */
    bool json;
    FILE *words;  /* where the summary goes: standard output, unless the results go there */
    bool visible; /* the bar is on the screen */
    uint32_t workers_max;
    uint64_t start_ns;
    uint64_t shown_ns;
    uint64_t shown_rows;
};

/* --- Progress --- */

static void bar_clear(struct watcher *watcher)
{
    if (watcher->visible) {
        (void)fprintf(stderr, "\r\033[K");
        watcher->visible = false;
    }
}

static void on_note(void *context, const char *text)
{
    struct watcher *watcher = context;
    bar_clear(watcher);
    fm_call_note(watcher->call, "%s", text);
}

static unsigned percent_of(uint64_t done, uint64_t total)
{
    return total == 0 ? 100 : (unsigned)((double)done * 100 / (double)total);
}

/* Why workers were started again, by reason; and how often what they hold in memory is halved. */
static void restarts_members(struct fm_json_writer *json, const struct fm_crew_counts *crew)
{
    fm_json_key(json, "restarts");
    fm_json_object_begin(json);
    for (int reason = 0; reason < FM_CREW_REASON_COUNT_; reason++) {
        fm_json_key(json, fm_crew_reason_name((enum fm_crew_reason)reason));
        fm_json_uint(json, crew->restarts[reason]);
    }
    fm_json_object_end(json);
    fm_json_key(json, "memory_halvings");
    fm_json_uint(json, crew->halvings);
}

/* Over all workers. */
static void tuned_members(struct fm_json_writer *json, const struct fm_run_progress *progress)
{
    const struct {
        const char *key;
        uint64_t value;
    } members[] = {{"read_threads", progress->read_threads},
                   {"operator_threads", progress->operator_threads},
                   {"rows_in_flight", progress->rows_in_flight},
                   {"memory_used_bytes", progress->memory_used},
                   {"memory_budget_bytes", progress->memory_budget}};
    fm_json_key(json, "tuned");
    fm_json_object_begin(json);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        fm_json_key(json, members[i].key);
        fm_json_uint(json, members[i].value);
    }
    fm_json_object_end(json);
}

static uint64_t restarts_all(const struct fm_crew_counts *crew)
{
    uint64_t all = 0;
    for (int reason = 0; reason < FM_CREW_REASON_COUNT_; reason++) {
        all += crew->restarts[reason];
    }
    return all;
}

/* "132/480  27%  2.31 rows/s  2:31 left  3 failed  slowest: rec 61%" */
static void words_write(const struct watcher *watcher, const struct fm_run_progress *progress,
                        uint64_t now_ns, char *text, size_t size)
{
    char rate[24];
    char rest[32];
    uint64_t rest_ns = 0;
    struct fm_text line = {0};
    (void)fm_progress_format_rate(fm_progress_rate_recent(&watcher->progress), rate, sizeof(rate));
    if (progress->listing) { /* of how many is not known */
        fm_text_append_format(&line, "%" PRIu64 " of %" PRIu64 " or more  %s rows/s",
                              progress->rows_done, progress->rows_total, rate);
    } else {
        fm_text_append_format(&line, "%" PRIu64 "/%" PRIu64 "  %u%%  %s rows/s",
                              progress->rows_done, progress->rows_total,
                              percent_of(progress->rows_done, progress->rows_total), rate);
    }
    if (!progress->listing && !progress->paused && progress->rows_done < progress->rows_total &&
        fm_progress_rest_ns(&watcher->progress, now_ns, &rest_ns)) {
        fm_text_append_format(&line, "  %s left",
                              fm_progress_format_duration(rest_ns, rest, sizeof(rest)));
    }
    if (progress->paused) {
        fm_text_append_string(&line, "  paused");
    }
    if (progress->dead_letters > 0) {
        fm_text_append_format(&line, "  %" PRIu64 " failed", progress->dead_letters);
    }
    if (progress->workers != watcher->workers_max ||
        progress->workers_wanted != progress->workers) {
        fm_text_append_format(&line, "  %" PRIu32 " of %" PRIu32 " workers", progress->workers,
                              progress->workers_wanted);
    }
    if (progress->late) {
        fm_text_append_string(&line, "  late");
    }
    if (restarts_all(&progress->crew) > 0) {
        fm_text_append_format(&line, "  %" PRIu64 " restarts", restarts_all(&progress->crew));
    }
    if (progress->slowest_stage != NULL) {
        fm_text_append_format(&line, "  slowest: %s %.0f%%", progress->slowest_stage,
                              progress->slowest_share * 100);
    }
    (void)snprintf(text, size, "%s", line.data != NULL ? line.data : "");
    fm_text_deinit(&line);
}

static void bar_draw(struct watcher *watcher, const struct fm_run_progress *progress,
                     uint64_t now_ns)
{
    char words[LINE_SIZE];
    char bar[4 * BAR_WIDTH_MAX];
    bool color = watcher->call->color_err;
    uint32_t columns = fm_os_terminal_columns(2);
    if (now_ns - watcher->shown_ns < SECOND_NS / 10 && progress->rows_done < progress->rows_total) {
        return;
    }
    words_write(watcher, progress, now_ns, words, sizeof(words));
    uint32_t used = (uint32_t)strlen(words) + 5;
    uint32_t width = columns > used ? columns - used : 0;
    width = width > BAR_WIDTH_MAX ? BAR_WIDTH_MAX : width;
    (void)fprintf(stderr, "\r\033[K");
    if (width >= BAR_WIDTH_MIN) {
        (void)fprintf(stderr, "[%s%s%s] ", fm_style(color, FM_STYLE_GREEN),
                      fm_progress_format_bar(progress->rows_done, progress->rows_total, width, "#",
                                             ".", bar, sizeof(bar)),
                      fm_style(color, FM_STYLE_RESET));
        fm_shown_put(stderr, words, strlen(words));
    } else {
        uint32_t room = columns > 1 ? columns - 1 : 0;
        fm_shown_put(stderr, words, room < strlen(words) ? room : strlen(words));
    }
    (void)fflush(stderr);
    watcher->visible = true;
    watcher->shown_ns = now_ns;
}

static void progress_members(const struct watcher *watcher, struct fm_json_writer *json,
                             const struct fm_run_progress *progress, uint64_t now_ns)
{
    uint64_t rest_ns = 0;
    fm_json_key(json, "rows_total");
    fm_json_uint(json, progress->rows_total);
    fm_json_key(json, "listing");
    fm_json_bool(json, progress->listing);
    fm_json_key(json, "rows_done");
    fm_json_uint(json, progress->rows_done);
    fm_json_key(json, "rows_committed");
    fm_json_uint(json, progress->rows_committed);
    fm_json_key(json, "dead_letters");
    fm_json_uint(json, progress->dead_letters);
    fm_json_key(json, "rows_in_flight");
    fm_json_uint(json, progress->rows_in_work);
    fm_json_key(json, "paused");
    fm_json_bool(json, progress->paused);
    fm_json_key(json, "rate");
    fm_json_number(json, fm_progress_rate_recent(&watcher->progress));
    fm_json_key(json, "seconds_left");
    if (!progress->listing && !progress->paused &&
        fm_progress_rest_ns(&watcher->progress, now_ns, &rest_ns)) {
        fm_json_number(json, (double)(rest_ns / 1000000) / 1000);
    } else {
        fm_json_null(json);
    }
    fm_json_key(json, "workers");
    fm_json_uint(json, progress->workers);
    fm_json_key(json, "workers_wanted");
    fm_json_uint(json, progress->workers_wanted);
    fm_json_key(json, "workers_wanted_why");
    if (progress->workers_why != NULL) {
        fm_json_string(json, progress->workers_why);
    } else {
        fm_json_null(json);
    }
    fm_json_key(json, "late");
    fm_json_bool(json, progress->late);
    tuned_members(json, progress);
    restarts_members(json, &progress->crew);
    fm_json_key(json, "slowest_stage");
    if (progress->slowest_stage != NULL) {
        fm_json_string(json, progress->slowest_stage);
    } else {
        fm_json_null(json);
    }
    fm_json_key(json, "stages");
    fm_stage_uses_write(&progress->stages, json);
}

static void event_print(struct fm_text *text)
{
    fm_text_append_char(text, '\n');
    if (!text->failed) {
        (void)fwrite(text->data, 1, text->length, stdout);
        (void)fflush(stdout);
    }
    fm_text_deinit(text);
}

static void event_progress(const struct watcher *watcher, const char *event,
                           const struct fm_run_progress *progress, uint64_t now_ns)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_key(&json, "event");
    fm_json_string(&json, event);
    fm_json_key(&json, "job");
    fm_json_string(&json, watcher->job->name);
    progress_members(watcher, &json, progress, now_ns);
    fm_json_object_end(&json);
    event_print(&text);
}

static void on_begin(void *context, const struct fm_run_progress *progress)
{
    struct watcher *watcher = context;
    watcher->start_ns = fm_os_now_ns();
    watcher->shown_ns = watcher->start_ns;
    watcher->shown_rows = progress->rows_done;
    fm_progress_start(&watcher->progress, watcher->start_ns, progress->rows_done,
                      progress->rows_total, RATE_WINDOW_NS);
    /* Until here the signals end the process at once: there is nothing that it would be worth
     * waiting for. */
    fm_stop_signal_install();
    if (watcher->json) {
        event_progress(watcher, "begin", progress, watcher->start_ns);
    } else if (watcher->plain) {
        (void)fprintf(stderr,
                      "fermata batch: %s: %" PRIu64 " rows%s, %" PRIu64 " of them done before\n",
                      watcher->job->name, progress->rows_total, progress->listing ? " so far" : "",
                      progress->rows_done);
    }
}

static void on_progress(void *context, const struct fm_run_progress *progress)
{
    struct watcher *watcher = context;
    char words[LINE_SIZE];
    uint64_t now_ns = fm_os_now_ns();
    watcher->progress.total = progress->rows_total; /* it grows while inputs are found */
    fm_progress_update(&watcher->progress, now_ns, progress->rows_done);
    if (watcher->bar) {
        bar_draw(watcher, progress, now_ns);
        return;
    }
    if (watcher->json) {
        if (now_ns - watcher->shown_ns >= SECOND_NS) {
            watcher->shown_ns = now_ns;
            event_progress(watcher, "progress", progress, now_ns);
        }
        return;
    }
    bool tenth = progress->rows_done - watcher->shown_rows >= (progress->rows_total + 9) / 10 &&
                 now_ns - watcher->shown_ns >= SECOND_NS;
    if (watcher->plain && (tenth || now_ns - watcher->shown_ns >= 10 * SECOND_NS)) {
        watcher->shown_ns = now_ns;
        watcher->shown_rows = progress->rows_done;
        words_write(watcher, progress, now_ns, words, sizeof(words));
        (void)fprintf(stderr, "fermata batch: %s: ", watcher->job->name);
        fm_shown_put(stderr, words, strlen(words));
        (void)fputc('\n', stderr);
    }
}

static bool on_stop(void *context)
{
    (void)context;
    return fm_stop_signal_get() != 0;
}

/* --- The end --- */

static const char *verdict_name(enum fm_batch_verdict verdict)
{
    switch (verdict) {
    case FM_BATCH_COMPLETE:
        return "complete";
    case FM_BATCH_COMPLETE_WITH_LETTERS:
        return "complete with dead letters";
    case FM_BATCH_STOPPED:
        return "stopped";
    case FM_BATCH_CANCELLED:
        return "cancelled";
    case FM_BATCH_THRESHOLD:
        return "too many failed rows";
    case FM_BATCH_INCOMPLETE:
    default:
        return "incomplete";
    }
}

static int verdict_exit_code(enum fm_batch_verdict verdict)
{
    switch (verdict) {
    case FM_BATCH_COMPLETE:
        return FM_EXIT_OK;
    case FM_BATCH_COMPLETE_WITH_LETTERS:
        return FM_EXIT_PARTIAL;
    case FM_BATCH_STOPPED:
        return 128 + fm_stop_signal_get();
    case FM_BATCH_THRESHOLD:
        return FM_EXIT_THRESHOLD;
    case FM_BATCH_CANCELLED:
    case FM_BATCH_INCOMPLETE:
    default:
        return FM_EXIT_INCOMPLETE;
    }
}

/* "workers started again: 3 (2 crash, 1 hang)" */
static void restarts_text(const struct watcher *watcher, const struct fm_crew_counts *crew)
{
    const char *between = "";
    if (restarts_all(crew) == 0) {
        return;
    }
    (void)fprintf(watcher->words, "workers started again: %" PRIu64 " (", restarts_all(crew));
    for (int reason = 0; reason < FM_CREW_REASON_COUNT_; reason++) {
        if (crew->restarts[reason] > 0) {
            (void)fprintf(watcher->words, "%s%" PRIu64 " %s", between, crew->restarts[reason],
                          fm_crew_reason_name((enum fm_crew_reason)reason));
            between = ", ";
        }
    }
    (void)fprintf(watcher->words, ")\n");
}

/* Whether it was finished by the time that was given. */
static void finish_by_text(const struct watcher *watcher, const struct fm_batch_report *report)
{
    char time[32];
    char by[32];
    bool late = report->ended_ms > report->finish_by_ms;
    uint64_t apart_ms =
        late ? report->ended_ms - report->finish_by_ms : report->finish_by_ms - report->ended_ms;
    if (report->finish_by_ms == 0 || report->ended_ms == 0) {
        return;
    }
    fm_os_format_time(report->finish_by_ms * 1000000, time, sizeof(time));
    (void)fprintf(watcher->words, "to be finished by %s: %s %s\n", time,
                  fm_progress_format_duration(apart_ms * 1000000, by, sizeof(by)),
                  late ? "late" : "before that");
}

static void report_json(const struct watcher *watcher, const struct fm_batch_report *report)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    const struct {
        const char *key;
        uint64_t value;
    } members[] = {
        {"rows_in", report->proof.rows_in},
        {"rows_out", report->proof.rows_out},
        {"dead_letters", report->proof.dead_letters},
        {"rows_left", report->proof.rows_missing},
        {"rows_given_up", report->proof.rows_dead},
        {"rows_before", report->rows_before},
        {"inputs_found", report->rows_found},
        {"memory_peak_bytes", report->memory_peak},
        {"worker_memory_peak_bytes", report->worker_memory_peak},
    };
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_key(&json, "event");
    fm_json_string(&json, "end");
    fm_json_key(&json, "job");
    fm_json_string(&json, watcher->job->name);
    fm_json_key(&json, "verdict");
    fm_json_string(&json, verdict_name(report->verdict));
    fm_json_key(&json, "complete");
    fm_json_bool(&json, report->proof.complete);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        fm_json_key(&json, members[i].key);
        fm_json_uint(&json, members[i].value);
    }
    restarts_members(&json, &report->crew);
    fm_status_document_time(&json, "finish_by", report->finish_by_ms);
    fm_json_key(&json, "late");
    fm_json_bool(&json, report->finish_by_ms > 0 && report->ended_ms > report->finish_by_ms);
    fm_json_key(&json, "seconds");
    fm_json_number(&json, (double)(report->elapsed_ns / 1000000) / 1000);
    fm_json_key(&json, "output");
    fm_json_string(&json, watcher->job->output);
    fm_json_object_end(&json);
    event_print(&text);
}

static void report_text(const struct watcher *watcher, const struct fm_batch_report *report)
{
    char duration[32];
    char rate[24];
    const struct fm_ledger_proof *proof = &report->proof;
    uint64_t done = proof->rows_out + proof->dead_letters - report->rows_before;
    double seconds = (double)report->elapsed_ns / (double)SECOND_NS;
    (void)fprintf(watcher->words,
                  "%s: %s: %" PRIu64 " rows in = %" PRIu64 " results + %" PRIu64 " dead letters",
                  watcher->job->name, verdict_name(report->verdict), proof->rows_in,
                  proof->rows_out, proof->dead_letters);
    if (!proof->complete) {
        (void)fprintf(watcher->words, " + %" PRIu64 " still to do", proof->rows_missing);
    }
    if (proof->rows_dead > 0) {
        (void)fprintf(watcher->words, " + %" PRIu64 " given up", proof->rows_dead);
    }
    (void)fprintf(
        watcher->words,
        "\n%" PRIu64 " rows in %s (%s rows/s), peak memory %" PRIu64 " MiB, of a worker %" PRIu64
        " MiB\n",
        done, fm_progress_format_duration(report->elapsed_ns, duration, sizeof(duration)),
        fm_progress_format_rate(seconds > 0 ? (double)done / seconds : 0, rate, sizeof(rate)),
        report->memory_peak >> 20, report->worker_memory_peak >> 20);
    restarts_text(watcher, &report->crew);
    finish_by_text(watcher, report);
    (void)fprintf(watcher->words, "results: %s/part-*%s\n", watcher->job->output,
                  watcher->job->sink->ending);
    if (proof->dead_letters > 0) {
        (void)fprintf(watcher->words, "dead letters: %s/errors/part-*.jsonl\n",
                      watcher->job->output);
    }
    if (report->verdict == FM_BATCH_CANCELLED) {
        (void)fprintf(
            watcher->words,
            "what is finished is kept; should it go on after all: fermata job resume %s\n",
            watcher->job->output);
    }
    if (report->verdict == FM_BATCH_STOPPED) {
        (void)fprintf(watcher->words,
                      "what is finished is kept; go on with: fermata batch %s --resume\n",
                      watcher->job->file);
    }
}

/* `began`: rows were being done, so that there is something to go on with. */
static int failure_print(const struct fm_call *call, int status, bool began,
                         const struct fm_error *error)
{
    /* Whatever the disk and the lock answer can pass; the rest is for the person to mend. */
    if (status == FM_ENOSPC || status == FM_EIO) {
        return fm_call_fail_with(
            call, FM_EXIT_UNAVAILABLE,
            "%s; what is committed is kept: make room or mend the disk, then go on with --resume",
            error->text);
    }
    int exit_code = fm_exit_code_from_status(status);
    if (began && (exit_code == FM_EXIT_FAILURE || exit_code == FM_EXIT_INTERRUPTED)) {
        return fm_call_fail_with(call, FM_EXIT_INCOMPLETE,
                                 "%s; what is committed is kept: go on with --resume", error->text);
    }
    return fm_call_fail(call, error);
}

/* "4", "1..8": how many workers. */
static int workers_read(const char *text, uint32_t *ret_min, uint32_t *ret_max)
{
    char first[8];
    uint64_t min = 0;
    uint64_t max = 0;
    const char *dots = strstr(text, "..");
    size_t length = dots != NULL ? (size_t)(dots - text) : strlen(text);
    if (length >= sizeof(first)) {
        return FM_EINVAL;
    }
    (void)snprintf(first, sizeof(first), "%.*s", (int)length, text);
    if (fm_parse_uint64(first, &min) != 0 ||
        fm_parse_uint64(dots != NULL ? dots + 2 : first, &max) != 0 || min > max ||
        max > FM_BATCH_WORKERS_MAX) {
        return FM_EINVAL;
    }
    *ret_min = (uint32_t)min;
    *ret_max = (uint32_t)max;
    return 0;
}

/* What an option gives, or nothing: it was looked at before. */
static struct fm_finish_by finish_by_of(const struct fm_call *call)
{
    struct fm_finish_by finish_by = {.given = false};
    const char *text = fm_call_string(call, "finish-by");
    return text != NULL && fm_finish_by_parse(text, &finish_by, NULL) == 0
               ? finish_by
               : (struct fm_finish_by){.given = false};
}

/* --- Results on standard output --- */

static int bytes_print(void *context, const char *data, size_t size)
{
    (void)context;
    return fwrite(data, 1, size, stdout) == size ? 0 : FM_EIO;
}

static int results_print(const struct fm_call *call, const struct fm_job *job)
{
    struct fm_error error = {0};
    int status = fm_results_copy(job->output, bytes_print, NULL, &error);
    if (status != 0 && error.status != 0) {
        return fm_call_fail(call, &error);
    }
    if (status == 0 && fflush(stdout) == 0 && fm_standard_output_is_writable()) {
        return FM_EXIT_OK;
    }
    return fm_standard_output_abandoned()
               ? FM_EXIT_ABANDONED
               : fm_call_fail_with(call, FM_EXIT_UNAVAILABLE,
                                   "cannot write the results to standard output; they are all in "
                                   "%s, and --resume --stdout writes them again",
                                   job->output);
}

static int output_check(const struct fm_call *call)
{
    const char *output = fm_call_given(call, "output") ? fm_call_string(call, "output") : "";
    return !fm_object_is_address(output) && !fm_object_is_foreign(output)
               ? FM_EXIT_OK
               : fm_call_usage(call,
                               "--output %.200s is an address, and results are written to a "
                               "directory; a path with such a name begins with ./",
                               output);
}

/* What standard output gets has to be lines. */
static int results_check(const struct fm_call *call, const struct fm_job *job)
{
    return !fm_call_flag(call, "stdout") || job->sink->lines
               ? FM_EXIT_OK
               : fm_call_usage(call,
                               "--stdout writes lines of JSON, and the job's output.format is %s: "
                               "leave it out, or make it jsonl",
                               job->sink->name);
}

static int job_run(const struct fm_call *call, const struct fm_job *job, struct fm_fault *fault,
                   const struct fm_batch_listen *listen, const struct fm_page_listen *page)
{
    uint32_t workers_min = 0;
    uint32_t workers_max = 0;
    (void)workers_read(fm_call_string(call, "workers"), &workers_min, &workers_max);
    bool quiet = fm_call_flag(call, "quiet");
    bool terminal = fm_os_is_terminal(2);
    struct fm_error error = {0};
    struct fm_batch_report report;
    struct watcher watcher = {.call = call,
                              .job = job,
                              .json = call->json,
                              .words = fm_call_flag(call, "stdout") ? stderr : stdout,
                              .workers_max = workers_max,
                              .bar = terminal && !quiet && !call->json,
                              .plain = !terminal && !quiet && !call->json};
    struct fm_batch_options options = {
        .resume = fm_call_flag(call, "resume"),
        .restart = fm_call_flag(call, "restart"),
        .retry = fm_call_string(call, "retry-dead-letters"),
        .limit = (uint64_t)fm_call_integer(call, "limit"),
        .fault = fault,
        .fault_text = fm_call_string(call, "fault"),
        .workers_min = workers_min,
        .workers_max = workers_max,
        .finish_by = finish_by_of(call),
        .listen = listen,
        .page = page,
        .version = FM_BUILD_VERSION,
        .hooks = {.stop = on_stop, .progress = on_progress, .context = &watcher},
        .note = on_note,
        .begin = on_begin,
        .context = &watcher};
    int status = fm_batch_run(job, &options, &report, &error);
    bar_clear(&watcher);
    if (status != 0) {
        return failure_print(call, status, report.began, &error);
    }
    if (watcher.json) {
        report_json(&watcher, &report);
    } else if (!quiet) {
        report_text(&watcher, &report);
    }
    if (fm_call_flag(call, "stdout") && report.proof.complete) {
        int written = results_print(call, job);
        return written != FM_EXIT_OK ? written : verdict_exit_code(report.verdict);
    }
    if (report.verdict == FM_BATCH_THRESHOLD) {
        return fm_call_fail_with(call, FM_EXIT_THRESHOLD, "%s", report.error.text);
    }
    if (report.verdict == FM_BATCH_INCOMPLETE) {
        return fm_call_fail_with(call, FM_EXIT_INCOMPLETE,
                                 "%" PRIu64 " rows were given up and %" PRIu64
                                 " are missing; --restart does them again, with all others",
                                 report.proof.rows_dead, report.proof.rows_missing);
    }
    return verdict_exit_code(report.verdict);
}

/* --- --preview --- */

static void preview_json(const struct fm_sample_row *row)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "event", "row");
    fm_json_member_uint(&json, "row", row->row);
    fm_json_key(&json, "inputs");
    fm_json_array_begin(&json);
    for (uint32_t i = 0; i < row->input_count; i++) {
        if (row->tensors[i].data != NULL) {
            fm_sample_input_write(&json, row->ports[i].name, &row->tensors[i]);
        }
    }
    fm_json_array_end(&json);
    fm_json_key(&json, row->good ? "result" : "dead_letter");
    fm_json_raw(&json, row->line, row->line_size);
    fm_json_object_end(&json);
    event_print(&text);
}

static void preview_text(const struct fm_sample_row *row)
{
    for (uint32_t i = 0; i < row->input_count; i++) {
        struct fm_text text = {0};
        struct fm_json_writer json;
        if (row->tensors[i].data != NULL) {
            fm_json_writer_init(&json, &text);
            fm_sample_input_write(&json, row->ports[i].name, &row->tensors[i]);
            printf("row %" PRIu64 " input        %s\n", row->row,
                   text.data != NULL ? text.data : "");
        }
        fm_text_deinit(&text);
    }
    printf("row %" PRIu64 " %s  %.*s\n", row->row, row->good ? "result     " : "dead letter",
           (int)row->line_size, row->line);
}

static void on_preview(void *context, const struct fm_sample_row *row)
{
    const struct fm_call *call = context;
    if (call->json) {
        preview_json(row);
    } else {
        preview_text(row);
    }
}

static int job_preview(const struct fm_call *call, const struct fm_job *job)
{
    struct fm_error error = {0};
    struct fm_sample_result result;
    struct watcher watcher = {.call = call, .job = job};
    struct fm_call shown = *call;
    struct fm_batch_options options = {.note = on_note, .context = &watcher};
    uint64_t count = (uint64_t)fm_call_integer(call, "preview");
    uint64_t limit = (uint64_t)fm_call_integer(call, "limit");
    count = limit > 0 && limit < count ? limit : count;
    int status = fm_batch_preview(job, &options, count, on_preview, &shown, &result, &error);
    if (status != 0) {
        return failure_print(call, status, false, &error);
    }
    if (!call->json) {
        printf("%" PRIu64 " rows, %" PRIu64 " of them dead letters; nothing was written\n",
               result.rows, result.dead_letters);
    }
    return result.dead_letters > 0 ? FM_EXIT_PARTIAL : FM_EXIT_OK;
}

/* --- --dry-run --- */

/* What the job would take, by the rows that were tried. */
struct estimate {
    uint32_t workers;
    double rows_per_s; /* of one worker; 0: nothing was tried */
    double seconds;
    double cost; /* 0: no price was given */
};

static struct estimate estimate_of(const struct fm_call *call, const struct fm_batch_plan *plan)
{
    struct estimate estimate = {.workers = 1};
    uint32_t least = 0;
    uint32_t most = 0;
    (void)workers_read(fm_call_string(call, "workers"), &least, &most);
    estimate.workers = most > 0 ? most : 1;
    if (plan->sample.rows > 0 && plan->sample.took_ns > 0) {
        estimate.rows_per_s =
            (double)plan->sample.rows * (double)SECOND_NS / (double)plan->sample.took_ns;
        estimate.seconds = (double)plan->rows / estimate.rows_per_s / estimate.workers;
        estimate.cost =
            estimate.seconds / 3600 * estimate.workers * fm_call_number(call, "price-per-hour");
    }
    return estimate;
}

static void estimate_json(struct fm_json_writer *json, const struct fm_batch_plan *plan,
                          const struct estimate *estimate)
{
    fm_json_key(json, "sample");
    if (estimate->rows_per_s <= 0) {
        fm_json_null(json);
        return;
    }
    fm_json_object_begin(json);
    fm_json_member_uint(json, "rows", plan->sample.rows);
    fm_json_member_uint(json, "dead_letters", plan->sample.dead_letters);
    fm_json_member_number(json, "rows_per_second", estimate->rows_per_s);
    fm_json_member_uint(json, "workers", estimate->workers);
    fm_json_member_number(json, "seconds", estimate->seconds);
    fm_json_member_uint(json, "worker_memory_bytes", plan->sample_memory);
    fm_json_key(json, "cost");
    if (estimate->cost > 0) {
        fm_json_number(json, estimate->cost);
    } else {
        fm_json_null(json);
    }
    fm_json_object_end(json);
}

static void estimate_text(const struct fm_batch_plan *plan, const struct estimate *estimate)
{
    char rate[24];
    char time[32];
    if (estimate->rows_per_s <= 0) {
        return;
    }
    printf("sample    %" PRIu64 " rows, %" PRIu64
           " of them dead letters: %s rows/s per worker, %" PRIu64 " MiB\n",
           plan->sample.rows, plan->sample.dead_letters,
           fm_progress_format_rate(estimate->rows_per_s, rate, sizeof(rate)),
           plan->sample_memory >> 20);
    printf("estimate  %s with %" PRIu32 " workers, if they do not slow each other down",
           fm_progress_format_duration((uint64_t)(estimate->seconds * (double)SECOND_NS), time,
                                       sizeof(time)),
           estimate->workers);
    if (estimate->cost > 0) {
        printf("; cost %.4g", estimate->cost);
    }
    printf("\n");
}

static void plan_json(const struct fm_job *job, const struct fm_batch_plan *plan,
                      const struct estimate *estimate)
{
    struct fm_text text = {0};
    struct fm_json_writer json;
    const struct {
        const char *key;
        uint64_t value;
    } members[] = {
        {"files_found", plan->files},
        {"inputs_found", plan->rows_found},
        {"rows", plan->rows},
        {"input_bytes", plan->bytes},
        {"shard_rows", plan->shard_rows},
        {"rows_in_flight", plan->rows_in_flight},
        {"stages", plan->stages},
        {"hidden_left_out", plan->hidden_count},
        {"duplicates_left_out", plan->duplicate_count},
    };
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_key(&json, "event");
    fm_json_string(&json, "plan");
    fm_json_key(&json, "job");
    fm_json_string(&json, job->name);
    fm_json_key(&json, "pipeline");
    fm_json_string(&json, plan->pipeline);
    fm_json_key(&json, "tensor");
    fm_json_string(&json, plan->tensor);
    fm_json_key(&json, "format");
    fm_json_string(&json, plan->format);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        fm_json_key(&json, members[i].key);
        fm_json_uint(&json, members[i].value);
    }
    fm_json_key(&json, "output");
    fm_json_string(&json, job->output);
    fm_json_key(&json, "output_holds_job");
    fm_json_bool(&json, plan->output_holds_job);
    estimate_json(&json, plan, estimate);
    fm_json_object_end(&json);
    event_print(&text);
}

static int job_plan(const struct fm_call *call, const struct fm_job *job)
{
    struct fm_error error = {0};
    struct fm_batch_plan plan;
    struct watcher watcher = {.call = call, .job = job};
    struct fm_batch_options options = {.retry = fm_call_string(call, "retry-dead-letters"),
                                       .limit = (uint64_t)fm_call_integer(call, "limit"),
                                       .sample = (uint64_t)fm_call_integer(call, "sample"),
                                       .note = on_note,
                                       .context = &watcher};
    (void)workers_read(fm_call_string(call, "workers"), &options.workers_min, &options.workers_max);
    int status = fm_batch_plan(job, &options, &plan, &error);
    if (status != 0) {
        return failure_print(call, status, false, &error);
    }
    const struct estimate estimate = estimate_of(call, &plan);
    if (call->json) {
        plan_json(job, &plan, &estimate);
        return FM_EXIT_OK;
    }
    printf("job       %s\n", job->name);
    bool files = strcmp(plan.format, "files") == 0;
    printf("pipeline  %s (%" PRIu32 " stages), %s to input '%s'\n", plan.pipeline, plan.stages,
           files ? "files go" : "columns go", plan.tensor);
    if (!files) {
        printf("format    %s, %" PRIu64 " files\n", plan.format, plan.files);
    }
    printf("inputs    %" PRIu64 " found, %" PRIu64 " in the job, %" PRIu64 " bytes\n",
           plan.rows_found, plan.rows, plan.bytes);
    if (plan.shard_rows > 0) {
        printf("shards    of %" PRIu64 " rows", plan.shard_rows);
    } else {
        printf("shards    of as many rows as a worker does in some seconds");
    }
    printf("; %" PRIu32 " rows in flight in each worker\n", plan.rows_in_flight);
    estimate_text(&plan, &estimate);
    printf("output    %s%s\n", job->output,
           plan.output_holds_job ? " (holds a job: --resume or --restart)" : "");
    printf("nothing was written\n");
    return FM_EXIT_OK;
}

/* --- The command --- */

/* "HOST:PORT", "[::]:PORT". */
static int address_read(const struct fm_call *call, const char *option, const char *text,
                        const char **ret_host, uint16_t *ret_port, struct fm_error *reterr)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;
    if (colon == NULL || colon == text || fm_parse_uint64(colon + 1, &port) != 0 || port > 65535) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--%s: '%s' is not HOST:PORT, as 0.0.0.0:7070 or [::]:7070", option,
                            text);
    }
    bool brackets = text[0] == '[' && colon[-1] == ']';
    *ret_host = fm_arena_strndup(call->arena, text + (brackets ? 1 : 0),
                                 (size_t)(colon - text) - (brackets ? 2 : 0));
    *ret_port = (uint16_t)port;
    return *ret_host == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory") : 0;
}

/* --listen and what belongs to it. *ret_listen stays NULL without it. */
static int listen_take(const struct fm_call *call, struct fm_batch_listen *listen,
                       struct fm_batch_token *token, const struct fm_batch_listen **ret_listen,
                       struct fm_error *reterr)
{
    const char *text = fm_call_string(call, "listen");
    const char *token_file = fm_call_string(call, "token-file");
    *listen = (struct fm_batch_listen){.tls_certificate_path = fm_call_string(call, "tls-cert"),
                                       .tls_key_path = fm_call_string(call, "tls-key"),
                                       .tls_client_ca_path = fm_call_string(call, "tls-client-ca")};
    bool tls = listen->tls_certificate_path != NULL;
    if (text == NULL) {
        return token_file == NULL && !tls && listen->tls_key_path == NULL &&
                       listen->tls_client_ca_path == NULL
                   ? 0
                   : fm_error_set(reterr, FM_EINVAL,
                                  "--token-file, --tls-cert, --tls-key and --tls-client-ca mean "
                                  "something with --listen only");
    }
    int status = address_read(call, "listen", text, &listen->host, &listen->port, reterr);
    if (status != 0) {
        return status;
    }
    if (tls != (listen->tls_key_path != NULL) || (listen->tls_client_ca_path != NULL && !tls)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--tls-cert and --tls-key go together, and --tls-client-ca with them");
    }
    if (token_file == NULL && listen->tls_client_ca_path == NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--listen needs --token-file or --tls-client-ca: without them, whoever "
                            "reaches the port could take part in the job");
    }
    if (token_file != NULL) {
        listen->token = token;
    }
    *ret_listen = listen;
    return token_file != NULL ? fm_batch_token_read(token_file, token, reterr) : 0;
}

/* What is wrong with the options that were given together; NULL: nothing. */
static const char *options_clash(const struct fm_call *call)
{
    bool resumes = fm_call_flag(call, "resume");
    bool restarts = fm_call_flag(call, "restart");
    bool plans = fm_call_flag(call, "dry-run");
    if (resumes && restarts) {
        return "--resume continues the job and --restart begins it anew: give one of them";
    }
    if (fm_call_given(call, "retry-dead-letters") && fm_call_given(call, "limit")) {
        return "--retry-dead-letters runs exactly the rows that failed: give it without --limit";
    }
    if (fm_call_given(call, "preview") && (resumes || restarts || plans)) {
        return "--preview writes nothing and looks at no job: leave out --resume, --restart and "
               "--dry-run";
    }
    if (fm_call_given(call, "retry-dead-letters") &&
        (fm_call_given(call, "preview") || fm_call_given(call, "sample"))) {
        return "--preview and --sample try the first rows of all inputs: give them without "
               "--retry-dead-letters";
    }
    if (fm_call_flag(call, "stdout") && (call->json || plans || fm_call_given(call, "preview"))) {
        return "--stdout writes the results to standard output: leave out --json, --dry-run and "
               "--preview, which write something else there";
    }
    if (!plans && (fm_call_given(call, "sample") || fm_call_given(call, "price-per-hour"))) {
        return "--sample and --price-per-hour go with --dry-run";
    }
    return NULL;
}

static int run(const struct fm_call *call)
{
    struct fm_error error = {0};
    struct fm_batch_listen listen;
    struct fm_batch_token token;
    struct fm_page_listen page = {.host = NULL};
    const struct fm_batch_listen *wanted_listen = NULL;
    struct fm_job job;
    struct fm_fault fault = {.status = 0};
    const char *fault_text = fm_call_string(call, "fault");
    const char *clash = options_clash(call);
    if (clash != NULL) {
        return fm_call_usage(call, "%s", clash);
    }
    if (fault_text != NULL && fm_fault_parse(fault_text, &fault, &error) != 0) {
        return fm_call_usage(call, "--fault: %s", error.text);
    }
    if (fm_call_given(call, "output") && fm_call_string(call, "output")[0] == '\0') {
        return fm_call_usage(call, "--output is empty: name the directory where the results go");
    }
    const char *workers = fm_call_string(call, "workers");
    uint32_t workers_min = 0;
    uint32_t workers_max = 0;
    if (workers_read(workers, &workers_min, &workers_max) != 0) {
        return fm_call_usage(call,
                             "--workers: '%s' is neither how many, as 4, nor from how many to how "
                             "many, as 1..8; %u at most",
                             workers, FM_BATCH_WORKERS_MAX);
    }
    if (workers_min == 0 && workers_max > 0) {
        return fm_call_usage(call, "--workers: from 1 on, as 1..8, or 0 for none");
    }
    if (fm_call_given(call, "finish-by")) {
        struct fm_finish_by finish_by;
        if (fm_finish_by_parse(fm_call_string(call, "finish-by"), &finish_by, &error) != 0) {
            return fm_call_usage(call, "--finish-by: %s", error.text);
        }
    }
    if (workers_max == 0 && !fm_call_given(call, "listen")) {
        return fm_call_usage(call, "--workers 0 leaves nobody to work: let others come with "
                                   "--listen");
    }
    if (fm_call_given(call, "worker-memory") && fm_call_bytes(call, "worker-memory") > 0 &&
        fm_call_bytes(call, "worker-memory") < FM_JOB_MEMORY_MIN) {
        return fm_call_usage(call, "--worker-memory: 64MiB or more, or 0 for no limit");
    }
    if (listen_take(call, &listen, &token, &wanted_listen, &error) != 0) {
        return fm_call_usage(call, "%s", error.text);
    }
    if (fm_call_given(call, "page") && address_read(call, "page", fm_call_string(call, "page"),
                                                    &page.host, &page.port, &error) != 0) {
        return fm_call_usage(call, "%s", error.text);
    }
    if (fm_job_load(fm_call_positional(call, 0), &job, &error) != 0) {
        return fm_call_fail(call, &error);
    }
    if (output_check(call) != FM_EXIT_OK || results_check(call, &job) != FM_EXIT_OK) {
        fm_job_deinit(&job);
        return FM_EXIT_USAGE;
    }
    if (fm_call_given(call, "output")) {
        job.output = fm_call_string(call, "output");
    }
    if (fm_call_given(call, "webhook")) {
        job.webhook = fm_call_string(call, "webhook");
    }
    if (fm_call_given(call, "worker-memory")) {
        job.worker_memory_bytes = fm_call_bytes(call, "worker-memory");
    }
    fm_stop_signal_end_at_once();
    int exit_code = fm_call_given(call, "preview") ? job_preview(call, &job)
                    : fm_call_flag(call, "dry-run")
                        ? job_plan(call, &job)
                        : job_run(call, &job, fault_text != NULL ? &fault : NULL, wanted_listen,
                                  page.host != NULL ? &page : NULL);
    fm_job_deinit(&job);
    return exit_code;
}

static const struct fm_positional positionals[] = {
    {.name = "JOB", .help = "the job file", .path = true},
    {.name = NULL},
};

static const struct fm_option options[] = {
    {.name = "resume",
     .kind = FM_OPTION_FLAG,
     .help = "continue the job in the output directory, or begin it when there is none"},
    {.name = "restart",
     .kind = FM_OPTION_FLAG,
     .help = "remove the job in the output directory, with its results, and begin anew"},
    {.name = "limit",
     .short_name = 'n',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .help = "do the first N inputs only; resuming without it does the rest"},
    {.name = "retry-dead-letters",
     .kind = FM_OPTION_PATH,
     .value_name = "DIR",
     .help = "do exactly the inputs that became dead letters in the output directory DIR, from "
             "their files, with the ids that they had; needs another --output"},
    {.name = "output",
     .short_name = 'o',
     .kind = FM_OPTION_PATH,
     .value_name = "DIR",
     .help = "write here instead of where the job file says"},
    {.name = "stdout",
     .kind = FM_OPTION_FLAG,
     .help = "write the results to standard output, too, in the order of the inputs, once the job "
             "is complete; what is said otherwise goes to standard error"},
    {.name = "dry-run",
     .kind = FM_OPTION_FLAG,
     .help = "list the inputs and check the pipeline; write nothing"},
    {.name = "sample",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 1000000,
     .help = "with --dry-run: run the first N inputs for their speed, and say what the job would "
             "take"},
    {.name = "price-per-hour",
     .kind = FM_OPTION_NUMBER,
     .value_name = "PRICE",
     .help = "with --dry-run and --sample: what one worker costs in an hour"},
    {.name = "preview",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 10000,
     .help = "run the first N inputs and show what goes in and what comes out; write nothing"},
    {.name = "workers",
     .short_name = 'w',
     .kind = FM_OPTION_STRING,
     .value_name = "N|MIN..MAX",
     .default_value = "1",
     .help = "worker processes on this machine: what ends one of them ends no other, and not the "
             "job; MIN..MAX: as many as finish in time (--finish-by), or as more of them bring "
             "something; 0: none, with --listen"},
    {.name = "finish-by",
     .kind = FM_OPTION_STRING,
     .value_name = "TIME",
     .help = "when the job is to be finished, as 2026-11-23T06:00:00Z, or how long after it was "
             "begun, as 2h, instead of what the job file says; a resumed job keeps it; none: at no "
             "time"},
    {.name = "page",
     .kind = FM_OPTION_STRING,
     .value_name = "HOST:PORT",
     .help = "serve a page about the job there while it runs, with /status.json and /metrics; "
             "whoever reaches the port can read them"},
    {.name = "webhook",
     .kind = FM_OPTION_STRING,
     .value_name = "URL",
     .help = "post a JSON document there when the job begins and when it ends, instead of where "
             "the job file says"},
    {.name = "worker-memory",
     .kind = FM_OPTION_BYTES,
     .value_name = "SIZE",
     .help =
         "memory that each worker may have, instead of what the job file says (workers.memory); "
         "0: no limit"},
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = "listen",
     .kind = FM_OPTION_STRING,
     .value_name = "HOST:PORT",
     .group = "Workers of other hosts",
     .help = "let workers of other hosts join here (fermata worker --join); needs --token-file or "
             "--tls-client-ca"},
    {.name = "token-file",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "workers have to show the token in this file"},
    {.name = "tls-cert",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "speak TLS there, with this certificate (PEM, its chain behind it)"},
    {.name = "tls-key",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "the certificate's key (PEM, without a passphrase)"},
    {.name = "tls-client-ca",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "workers need a certificate of these authorities (PEM)"},
    {.name = "fault",
     .kind = FM_OPTION_STRING,
     .value_name = "POINT[:N][:HOW]",
     .group = "Testing recovery",
     .help = "die at the N-th time of this point; with HOW, fail there for lack of space (error) "
             "or of memory (memory); docs/batch.md lists them"},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {.text = "Read pages of the example, 4 of them first",
     .command = "fermata batch examples/ocr/job.yaml --output build/ocr/first --limit 4"},
    {.text = "Go on after Ctrl-C, a crash, a full disk, or with more pages",
     .command = "fermata batch examples/ocr/job.yaml --output build/ocr/first --resume"},
    {.text = "Run what failed once more, after mending",
     .command = "fermata batch job.yaml --retry-dead-letters out --output again"},
    {.text = "See what would be done", .command = "fermata batch job.yaml --dry-run"},
    {.text = "Give the inputs on standard input (the job file says input: {list: -})",
     .command = "find scans -name '*.png' -print0 | fermata batch job.yaml --json"},
    {.text = "Rows in, results out (the job file says input: {files: \"-\", format: jsonl})",
     .command = "cat rows.jsonl | fermata batch job.yaml --stdout > results.jsonl"},
    {.text = NULL},
};

static const int exit_codes[] = {
    FM_EXIT_INPUT,     FM_EXIT_PARTIAL,     FM_EXIT_INCOMPLETE, FM_EXIT_UNAVAILABLE,
    FM_EXIT_THRESHOLD, FM_EXIT_INTERRUPTED, FM_EXIT_TERMINATED, 0};

const struct fm_command fm_command_batch = {
    .name = "batch",
    .summary = "run a model or pipeline over many files or rows, one result each",
    .description =
        "Runs every input of the job through its pipeline and writes one result per input, as JSON "
        "lines, CSV or Parquet, to part files in the output directory. "
        "Inputs that cannot be done become dead letters with their reason, and the job goes on.\n\n"
        "Whatever is killed, whenever: a part file is either complete and final or not there, and "
        "--resume continues where the job stands. At the end the rows are counted: "
        "rows in = results + dead letters, or the job is not complete.\n\n"
        "The first Ctrl-C stops taking new rows, finishes those in work and keeps them; the second "
        "ends at once. Both can be resumed.",
    .positionals = positionals,
    .options = options,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/batch.md",
    .results_elsewhere = true,
    .run = run,
};
