/*
 * `fermata job`: the group, and the commands that look: `fermata job list` and `fermata job show`.
 *
 * Owns: options, tables, JSON. Does not own: what the states mean (engines/batch/job_look.h).
 * Thread rule: the main thread.
 */
#include "cmd/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/batch_accelerators.h"
#include "core/stats/progress.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/job_look.h"
#include "engines/batch/job_notes.h"
#include "engines/batch/status_document.h"
#include "engines/batch/steer.h"
#include "host/os/os.h"

/* How long the master may take to say how it stands. */
#define STATUS_PATIENCE_NS UINT64_C(2000000000)

unsigned fm_job_percent(uint64_t done, uint64_t total)
{
    return total == 0 ? 100 : (unsigned)((double)done * 100 / (double)total);
}

int fm_job_print_line(const struct fm_call *call, struct fm_text *text)
{
    fm_text_append_char(text, '\n');
    return fm_call_print(call, text);
}

/* "0:42 ago"; "" when it is not known. */
static const char *age_of(uint64_t wall_ns, char *text, size_t size)
{
    char duration[32];
    uint64_t now_ns = fm_os_wall_ns();
    text[0] = '\0';
    if (wall_ns > 0) {
        uint64_t age_ns = now_ns > wall_ns ? now_ns - wall_ns : 0;
        (void)snprintf(text, size, "%s ago",
                       fm_progress_format_duration(age_ns, duration, sizeof(duration)));
    }
    return text;
}

/* Why it does not go on, in words; "" where there is nothing to say. */
static const char *reason_of(const struct fm_job_look *look)
{
    switch (look->standing) {
    case FM_JOB_UNREADABLE:
        return look->trouble.text;
    case FM_JOB_STOPPED:
        return strcmp(look->state, FM_JOB_STATE_RUNNING) == 0 ? "it was killed" : look->state;
    case FM_JOB_CANCELLED:
    case FM_JOB_INCOMPLETE:
        return look->state;
    case FM_JOB_RUNNING:
    case FM_JOB_COMPLETE:
    case FM_JOB_COMPLETE_WITH_LETTERS:
    case FM_JOB_DISCARDED:
    case FM_JOB_STANDING_COUNT_:
    default:
        return "";
    }
}

/* "running by process 4711", "stopped (too many failed rows)". */
static void standing_write(const struct fm_job_look *look, char *text, size_t size)
{
    const char *name = fm_job_standing_name(look->standing);
    const char *reason = reason_of(look);
    if (look->standing == FM_JOB_RUNNING && look->process > 0) {
        (void)snprintf(text, size, "%s by process %ld", name, look->process);
    } else if (look->standing == FM_JOB_STOPPED && reason[0] != '\0' &&
               strcmp(reason, FM_JOB_STATE_STOPPED) != 0) {
        (void)snprintf(text, size, "%s (%s)", name, reason);
    } else {
        (void)snprintf(text, size, "%s", name);
    }
}

/* --- JSON --- */

static void nullable(struct fm_json_writer *json, const char *key, const char *value)
{
    fm_json_key(json, key);
    if (value[0] != '\0') {
        fm_json_string(json, value);
    } else {
        fm_json_null(json);
    }
}

static void time_member(struct fm_json_writer *json, const char *key, uint64_t wall_ns)
{
    char text[32] = "";
    if (wall_ns > 0) {
        fm_os_format_time(wall_ns, text, sizeof(text));
    }
    nullable(json, key, text);
}

static void look_members(struct fm_json_writer *json, const char *directory,
                         const struct fm_job_look *look)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"rows_total", look->rows_total},
        {"rows_done", look->rows_out + look->dead_letters},
        {"rows_out", look->rows_out},
        {"dead_letters", look->dead_letters},
        {"rows_in_work", look->rows_leased},
        {"rows_waiting", look->rows_waiting},
        {"rows_unclaimed", look->rows_unclaimed},
        {"rows_given_up", look->rows_given_up},
        {"output_bytes", look->bytes},
        {"workers_lost", look->failures[FM_SHARD_FAILURE_INFRASTRUCTURE]},
        {"attempts_failed", look->failures[FM_SHARD_FAILURE_DATA]},
    };
    fm_json_member_string(json, "directory", directory);
    nullable(json, "job", look->name);
    fm_json_member_string(json, "state", fm_job_standing_name(look->standing));
    nullable(json, "reason", reason_of(look));
    fm_json_key(json, "process");
    if (look->standing == FM_JOB_RUNNING && look->process > 0) {
        fm_json_int(json, look->process);
    } else {
        fm_json_null(json);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        fm_json_member_uint(json, numbers[i].key, numbers[i].value);
    }
    time_member(json, "begun", look->begun_wall_ns);
    time_member(json, "changed", look->changed_wall_ns);
}

/* --- list --- */

struct lister {
    const struct fm_call *call;
    uint64_t count;
    int exit_code;
    struct fm_job_look look;
};

static void list_line(const char *directory, const struct fm_job_look *look)
{
    char state[320];
    char rows[48];
    char age[48];
    uint64_t done = look->rows_out + look->dead_letters;
    standing_write(look, state, sizeof(state));
    (void)snprintf(rows, sizeof(rows), "%" PRIu64 "/%" PRIu64, done, look->rows_total);
    printf("%-28s %17s %3u%% %6" PRIu64 "  %12s  %s  %s\n", state, rows,
           fm_job_percent(done, look->rows_total), look->dead_letters,
           age_of(look->changed_wall_ns, age, sizeof(age)),
           look->name[0] != '\0' ? look->name : "?", directory);
}

static int job_list_one(void *context, const char *directory)
{
    struct lister *lister = context;
    struct fm_job_look *look = &lister->look;
    struct fm_error error = {0};
    /* "./out" of the default directory. */
    const char *shown = strncmp(directory, "./", 2) == 0 ? directory + 2 : directory;
    int status = fm_job_look(directory, look, &error);
    if (status == FM_ENOTFOUND) {
        return 0; /* it was taken away just now */
    }
    if (status != 0) {
        look->standing = FM_JOB_UNREADABLE;
        look->trouble = error;
    }
    if (lister->call->json) {
        struct fm_text text = {0};
        struct fm_json_writer json;
        fm_json_writer_init(&json, &text);
        fm_json_object_begin(&json);
        look_members(&json, shown, look);
        fm_json_object_end(&json);
        lister->exit_code = fm_job_print_line(lister->call, &text);
    } else {
        if (lister->count == 0) {
            printf("%-28s %17s %4s %6s  %12s  %s\n", "STATE", "ROWS DONE", "", "DEAD", "CHANGED",
                   "JOB, DIRECTORY");
        }
        list_line(shown, look);
        if (look->standing == FM_JOB_UNREADABLE) {
            fm_call_note(lister->call, "%s", look->trouble.text);
        }
    }
    lister->count++;
    return lister->exit_code == FM_EXIT_OK ? 0 : FM_ECANCELLED;
}

static void on_trouble(void *context, const char *text)
{
    const struct lister *lister = context;
    fm_call_note(lister->call, "%s", text);
}

static int list_run(const struct fm_call *call)
{
    struct lister lister = {.call = call};
    for (uint32_t i = 0; i == 0 || i < call->positional_count; i++) {
        const char *root = call->positional_count > 0 ? fm_call_positional(call, i) : ".";
        struct fm_file_facts facts = {0};
        struct fm_error error = {0};
        if (fm_file_stat(root, &facts, &error) != 0) {
            return fm_call_fail(call, &error);
        }
        if (facts.kind != FM_FILE_DIRECTORY) {
            return fm_call_fail_with(call, FM_EXIT_INPUT, "there is no directory '%s'", root);
        }
        if (fm_job_find(root, job_list_one, on_trouble, &lister) != 0) {
            return lister.exit_code;
        }
    }
    if (lister.count == 0) {
        fm_call_note(call, "there is no job");
    }
    return FM_EXIT_OK;
}

/* --- show --- */

static void rows_print(const struct fm_job_look *look)
{
    uint64_t done = look->rows_out + look->dead_letters;
    printf("rows       %" PRIu64 " of %" PRIu64 " done (%u%%): %" PRIu64 " results, %" PRIu64
           " dead letters\n",
           done, look->rows_total, fm_job_percent(done, look->rows_total), look->rows_out,
           look->dead_letters);
    if (done < look->rows_total) {
        printf("           %" PRIu64 " in work, %" PRIu64 " given back or failed, %" PRIu64
               " not handed out yet, %" PRIu64 " given up\n",
               look->rows_leased, look->rows_waiting, look->rows_unclaimed, look->rows_given_up);
    }
}

static void shards_print(const struct fm_job_look *look)
{
    printf("shards    ");
    for (int state = FM_SHARD_STATE_COUNT_ - 1; state >= 0; state--) {
        if (look->shards[state] > 0 || state == FM_SHARD_DONE) {
            printf(" %" PRIu64 " %s%s", look->shards[state],
                   fm_shard_state_name((enum fm_shard_state)state), state > 0 ? "," : "");
        }
    }
    printf(" %" PRIu64 " bytes of results\n", look->bytes);
    printf("attempts   %" PRIu64 " failed with their worker, %" PRIu64 " by their rows\n",
           look->failures[FM_SHARD_FAILURE_INFRASTRUCTURE], look->failures[FM_SHARD_FAILURE_DATA]);
    for (uint32_t i = 0; i < look->worst_count; i++) {
        const struct fm_shard_record *record = &look->worst[i];
        printf("           shard %" PRIu64 " (%s, rows %" PRIu64 " to %" PRIu64 ") failed %" PRIu32
               " times%s",
               record->shard.number, fm_shard_state_name(record->shard.state),
               record->shard.first_row, record->shard.first_row + record->shard.row_count - 1,
               record->shard.failures[0] + record->shard.failures[1],
               record->reason[0] != '\0' ? ": " : "");
        fm_shown_put(stdout, record->reason, strlen(record->reason));
        (void)fputc('\n', stdout);
    }
}

static void accelerators_print(struct fm_batch_view text)
{
    struct fm_batch_accelerator accelerator;
    const char *before = "             accelerators: ";
    while (fm_batch_accelerator_next(&text, &accelerator)) {
        printf("%s", before);
        fm_shown_put(stdout, accelerator.name.data, accelerator.name.size);
        printf(" busy for %.1f s in %" PRIu64 " batches", (double)accelerator.busy_ms / 1000,
               accelerator.batches);
        before = ", ";
    }
    if (before[0] == ',') {
        (void)fputc('\n', stdout);
    }
}

/* What a worker has set itself to, and what its rows take; nothing where it does not say. */
static void tuned_print(const struct fm_batch_worker_status *worker)
{
    const struct fm_batch_tuned *tuned = &worker->tuned;
    const struct fm_batch_memory *memory = &worker->memory;
    for (uint32_t i = 0; i < worker->stages.count; i++) {
        const struct fm_batch_stage *stage = &worker->stages.items[i];
        printf("%s", i == 0 ? "             busy: " : ", ");
        fm_shown_put(stdout, stage->name.data, stage->name.size);
        printf(" %.0f%%", stage->busy * 100);
    }
    printf("%s", worker->stages.count > 0 ? "\n" : "");
    if (tuned->readers > 0) {
        printf("             tuned to %" PRIu32 " readers, %" PRIu32 " operator threads, %" PRIu32
               " rows in flight%s",
               tuned->readers, tuned->operators, tuned->rows,
               tuned->batches.size > 0 ? ", batches: " : "");
        fm_shown_put(stdout, tuned->batches.data, tuned->batches.size);
        (void)fputc('\n', stdout);
    }
    accelerators_print(tuned->accelerators);
    if (memory->base > 0) {
        printf("             rows take %" PRIu64 " MiB, %" PRIu64 " at most", memory->used >> 20,
               memory->most >> 20);
        if (memory->budget > 0) {
            printf(", of a budget of %" PRIu64, memory->budget >> 20);
        }
        printf(", above %" PRIu64 " MiB without any\n", memory->base >> 20);
    }
}

/* What only the master knows. */
static void status_print(const struct fm_batch_status *status)
{
    char rate[24];
    char text[64];
    struct fm_batch_worker_statuses workers = status->workers;
    struct fm_batch_worker_status worker;
    printf("speed      %s rows/s", fm_progress_format_rate(status->rows_per_s, rate, sizeof(rate)));
    if (status->rest_ns != FM_BATCH_REST_UNKNOWN) {
        printf(", %s left", fm_progress_format_duration(status->rest_ns, text, sizeof(text)));
    }
    printf("; running for %s%s\n",
           fm_progress_format_duration(status->running_ns, text, sizeof(text)),
           status->cancelled  ? "; cancelled, finishes what is in work"
           : status->stopping ? "; finishes what is in work"
           : status->paused   ? "; paused"
                              : "");
    printf("workers    %" PRIu64 "\n", status->workers.count);
    while (fm_batch_worker_statuses_next(&workers, &worker)) {
        printf("           ");
        fm_shown_put(stdout, worker.name.data, worker.name.size);
        printf(" (");
        fm_shown_put(stdout, worker.host.data, worker.host.size);
        printf(", process %" PRIu32 "): %" PRIu64 " rows/min, %" PRIu64 " MiB, %" PRIu32
               " shards, %" PRIu64 " rows committed",
               worker.process, worker.rows_per_minute, worker.memory_bytes >> 20, worker.shards,
               worker.rows_committed);
        if (worker.slowest_stage.size > 0) {
            printf(", slowest: ");
            fm_shown_put(stdout, worker.slowest_stage.data, worker.slowest_stage.size);
            printf(" %.0f%%", worker.slowest_share * 100);
        }
        printf("%s\n", worker.connected ? "" : ", not connected");
        tuned_print(&worker);
        if (worker.last_error.size > 0) {
            printf("             last failed row: ");
            fm_shown_put(stdout, worker.last_error.data, worker.last_error.size);
            (void)fputc('\n', stdout);
        }
    }
}

static void show_text(const char *directory, const struct fm_job_look *look)
{
    char state[320];
    char age[48];
    char time[32] = "";
    standing_write(look, state, sizeof(state));
    printf("%s: %s\n", look->name[0] != '\0' ? look->name : "a job", state);
    printf("directory  %s%s\n", directory,
           look->has_ledger                   ? ""
           : look->standing == FM_JOB_RUNNING ? " (it has not begun)"
                                              : " (results only: there is no ledger)");
    if (look->taking) {
        printf("rows       are taken down before %s begins, %" PRIu64 " bytes so far\n",
               look->has_ledger ? "another job" : "it", look->taken_bytes);
    }
    if (look->file[0] != '\0') {
        printf("job file   %s\n", look->file);
    }
    if (look->begun_wall_ns > 0) {
        fm_os_format_time(look->begun_wall_ns, time, sizeof(time));
        printf("begun      %s\n", time);
    }
    if (look->finished[0] != '\0') {
        printf("finished   %s\n", look->finished);
    }
    printf("changed    %s\n", age_of(look->changed_wall_ns, age, sizeof(age)));
    if (look->has_ledger || look->standing != FM_JOB_RUNNING) {
        rows_print(look);
        shards_print(look);
    }
    for (uint32_t i = 0; i < look->fact_count; i++) {
        printf("%s %s = %s\n", i == 0 ? "facts     " : "          ", look->facts[i].key,
               look->facts[i].value);
    }
}

static void show_json(struct fm_json_writer *json, const char *directory,
                      const struct fm_job_look *look, const struct fm_batch_status *status)
{
    fm_json_object_begin(json);
    look_members(json, directory, look);
    nullable(json, "job_file", look->file);
    nullable(json, "finished", look->finished);
    fm_json_key(json, "has_ledger");
    fm_json_bool(json, look->has_ledger);
    fm_json_key(json, "bytes_taken_down");
    if (look->taking) {
        fm_json_uint(json, look->taken_bytes);
    } else {
        fm_json_null(json);
    }
    fm_json_key(json, "shards");
    fm_json_object_begin(json);
    for (int state = 0; state < FM_SHARD_STATE_COUNT_; state++) {
        fm_json_member_uint(json, fm_shard_state_name((enum fm_shard_state)state),
                            look->shards[state]);
    }
    fm_json_object_end(json);
    fm_json_key(json, "worst_shards");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < look->worst_count; i++) {
        const struct fm_shard *shard = &look->worst[i].shard;
        fm_json_object_begin(json);
        fm_json_member_uint(json, "number", shard->number);
        fm_json_member_string(json, "state", fm_shard_state_name(shard->state));
        fm_json_member_uint(json, "first_row", shard->first_row);
        fm_json_member_uint(json, "rows", shard->row_count);
        fm_json_member_uint(json, "workers_lost", shard->failures[FM_SHARD_FAILURE_INFRASTRUCTURE]);
        fm_json_member_uint(json, "attempts_failed", shard->failures[FM_SHARD_FAILURE_DATA]);
        nullable(json, "reason", look->worst[i].reason);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
    fm_json_key(json, "facts");
    fm_json_object_begin(json);
    for (uint32_t i = 0; i < look->fact_count; i++) {
        fm_json_member_string(json, look->facts[i].key, look->facts[i].value);
    }
    fm_json_object_end(json);
    fm_json_key(json, "master");
    if (status != NULL) {
        fm_status_document_write(json, status);
    } else {
        fm_json_null(json);
    }
    fm_json_object_end(json);
}

static int show_run(const struct fm_call *call)
{
    const char *directory = fm_call_positional(call, 0);
    struct fm_error error = {0};
    static struct fm_job_look look;
    if (fm_job_look(directory, &look, &error) != 0) {
        return fm_call_fail(call, &error);
    }
    if (look.standing == FM_JOB_UNREADABLE) {
        return fm_call_fail(call, &look.trouble);
    }
    struct fm_steer_answer answer = {.bytes = {0}};
    const struct fm_batch_status *status = NULL;
    if (look.standing == FM_JOB_RUNNING && look.has_ledger &&
        !look.taking) { /* else none listens */
        if (fm_steer_ask(directory, FM_STEER_STATUS, STATUS_PATIENCE_NS, &answer, &error) == 0) {
            status = &answer.status;
        } else {
            fm_call_note(call, "%s", error.text);
        }
    }
    int exit_code = FM_EXIT_OK;
    if (call->json) {
        struct fm_text text = {0};
        struct fm_json_writer json;
        fm_json_writer_init(&json, &text);
        show_json(&json, directory, &look, status);
        exit_code = fm_job_print_line(call, &text);
    } else {
        show_text(directory, &look);
        if (status != NULL) {
            status_print(status);
        }
    }
    fm_steer_answer_deinit(&answer);
    return exit_code;
}

/* --- The tables --- */

static const struct fm_positional list_positionals[] = {
    {.name = "DIR",
     .help = "where to look for jobs; without it, here and below",
     .optional = true,
     .repeat = true,
     .path = true},
    {.name = NULL},
};

static const struct fm_option list_options[] = {
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = NULL},
};

static const struct fm_example list_examples[] = {
    {.text = "Which jobs are there below this directory?", .command = "fermata job list"},
    {.text = "The directories of the jobs that do not run and are not complete",
     .command =
         "fermata job list results --json | jq -r 'select(.state == \"stopped\").directory'"},
    {.text = NULL},
};

static const int look_exit_codes[] = {FM_EXIT_INPUT, 0};

const struct fm_command fm_command_job_list = {
    .name = "job list",
    .summary = "list the jobs in and below directories, and how they stand",
    .description =
        "Looks for output directories of batch jobs and prints a line for each: its state (running "
        "by which process, stopped, cancelled, complete, complete with dead letters, incomplete, "
        "unreadable), rows done of all, dead letters, and when something was written last. "
        "Nothing is changed, and a job that runs is not disturbed. Names that begin with a dot and "
        "links are not entered; nor is what lies below a job.",
    .positionals = list_positionals,
    .options = list_options,
    .examples = list_examples,
    .exit_codes = look_exit_codes,
    .see_also = "docs/jobs.md",
    .run = list_run,
};

static const struct fm_positional show_positionals[] = {
    {.name = "DIR", .help = "the output directory of a job", .path = true},
    {.name = NULL},
};

static const struct fm_option show_options[] = {
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_example show_examples[] = {
    {.text = "How does this job stand?", .command = "fermata job show out"},
    {.text = NULL},
};

const struct fm_command fm_command_job_show = {
    .name = "job show",
    .summary = "show how one job stands: rows, shards, failures, facts",
    .description =
        "Reads the ledger in the output directory of a job as it is at this moment, whether a "
        "process works there or not, and changes nothing. Where one does, it is asked for its "
        "speed and its workers. Where the ledger is gone, the manifest says what there is to say.",
    .positionals = show_positionals,
    .options = show_options,
    .examples = show_examples,
    .exit_codes = look_exit_codes,
    .see_also = "docs/jobs.md",
    .run = show_run,
};

static int group_run(const struct fm_call *call)
{
    return fm_call_usage(call, "'%s' has to stand right behind 'fermata job'",
                         fm_call_positional(call, 0));
}

static const struct fm_positional group_positionals[] = {
    {.name = "COMMAND", .help = "what to do"},
    {.name = NULL},
};

static const struct fm_example group_examples[] = {
    {.text = "Which jobs are there, and how far are they?", .command = "fermata job list"},
    {.text = "Are these results complete, and as they were written?",
     .command = "fermata job verify out"},
    {.text = "Why did rows fail?", .command = "fermata job dead-letters out --summary"},
    {.text = NULL},
};

const struct fm_command fm_command_job = {
    .name = "job",
    .summary = "look at batch jobs, prove their results, steer them",
    .description = "A batch job lives in its output directory. These commands look at it from "
                   "outside, while it runs and for as long as it lies there; and steer it.",
    .positionals = group_positionals,
    .examples = group_examples,
    .see_also = "docs/jobs.md",
    .group = true,
    .run = group_run,
};
