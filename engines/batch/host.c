/*
 * The master of a job as a process. See host.h.
 */
#include "engines/batch/host_internal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/batch_control.h"
#include "core/proto/batch_messages.h"
#include "core/stats/progress.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/batch/history.h"
#include "engines/batch/job_notes.h"
#include "engines/batch/output.h"
#include "host/net/child.h"
#include "host/net/grpc_server.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/process.h"
#include "host/os/thread.h"
#include "host/os/unix_socket.h"
#include "host/store/store_writer.h"

#define NS_PER_MS UINT64_C(1000000)
#define TICK_NS   (20 * NS_PER_MS)
/* Between two questions to the hooks. */
#define HOOKS_NS (100 * NS_PER_MS)
#define BEAT_NS  (500 * NS_PER_MS)
/* Between two states of the page that is served. */
#define PAGE_NS (500 * NS_PER_MS)
/* Children go when their master is gone: the next one starts its own. Others wait for it. */
#define GIVE_UP_CHILD_NS NS_PER_MS
#define GIVE_UP_NS       (120000 * NS_PER_MS)
/* How long children may take to go at the end, and others to say that they go. */
#define GO_NS         (10000 * NS_PER_MS)
#define LAST_WORDS_NS (2000 * NS_PER_MS)
/* How far back the rate reaches that is told. */
#define RATE_WINDOW_NS (20000 * NS_PER_MS)

#define SOCKET_FILE "master.sock"
#define WORK_PATH   "/fermata.batch.v1.Ledger/Work"

void fm_batch_host_fail(struct host *host, const struct fm_error *error)
{
    fm_error_keep(&host->failure, error);
}

/* For what can only be lack of memory. */
void fm_batch_host_check(struct host *host, int status, const char *what)
{
    struct fm_error error = {0};
    if (status != 0) {
        (void)fm_error_cannot(&error, status, what);
        fm_batch_host_fail(host, &error);
    }
}

void fm_batch_host_note(const struct host *host, const char *text)
{
    if (host->options->note != NULL) {
        host->options->note(host->options->note_context, text);
    }
}

/* --- Streams --- */

struct outgoing {
    struct fm_text bytes;
    struct fm_grpc_part part;
};

static void outgoing_free(void *context)
{
    struct outgoing *outgoing = context;
    fm_text_deinit(&outgoing->bytes);
    fm_free(outgoing);
}

void fm_batch_host_session_finish(struct session *session, int code, const char *text)
{
    struct fm_grpc_call *call = session->call;
    if (call != NULL) {
        session->call = NULL;
        call->user = NULL;
        fm_grpc_finish(call, code, text, NULL, 0);
    }
}

void fm_batch_host_say(struct session *session, const struct fm_batch_master_message *message)
{
    if (session->call == NULL) {
        return;
    }
    struct outgoing *outgoing = fm_alloc_zero(1, sizeof(*outgoing));
    int status =
        outgoing != NULL ? fm_batch_master_message_write(&outgoing->bytes, message) : FM_ENOMEM;
    if (status != 0) {
        if (outgoing != NULL) {
            outgoing_free(outgoing);
        }
        fm_batch_host_check(session->host, status == FM_ENOMEM ? 0 : status,
                            "put a message for a worker");
        /* It comes back, and is told what it has to know then. */
        fm_batch_host_session_finish(session, FM_GRPC_UNAVAILABLE,
                                     "the master has no memory for a message");
        return;
    }
    outgoing->part =
        (struct fm_grpc_part){.data = outgoing->bytes.data, .size = outgoing->bytes.length};
    const struct fm_grpc_message wire = {
        .parts = &outgoing->part, .part_count = 1, .release = outgoing_free, .context = outgoing};
    fm_grpc_send(session->call, &wire);
}

struct session *fm_batch_host_session_of(const struct host *host, uint64_t worker)
{
    struct session *session = host->sessions;
    while (session != NULL && (session->worker != worker || session->call == NULL)) {
        session = session->next;
    }
    return session;
}

/* The stream is over. */
static void session_end(struct session *session)
{
    struct host *host = session->host;
    host->current = host->current == session ? NULL : host->current;
    struct session **link = &host->sessions;
    fm_batch_host_session_finish(session, FM_GRPC_OK, NULL);
    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
    /* It may have another one by now. */
    if (session->worker != 0 && fm_batch_host_session_of(host, session->worker) == NULL) {
        fm_master_lost(host->master, session->worker);
    }
    fm_free(session);
}

/* --- What workers say --- */

/* Workers on the machine of a new one, with it: all that may be started here, where it is here, and
 * those that have come by themselves. A stream of the same process is one that was lost. */
static uint32_t sharers_of(const struct session *session)
{
    char here[sizeof(session->host_name)];
    fm_os_host_name(here, sizeof(here));
    bool ours = session->child != NULL || strcmp(session->host_name, here) == 0;
    uint32_t count = ours ? session->host->options->workers_max : 0;
    count += session->child == NULL ? 1 : 0;
    for (const struct session *other = session->host->sessions; other != NULL;
         other = other->next) {
        bool came = other != session && other->joined && other->child == NULL;
        count += came && other->process != session->process &&
                         strcmp(other->host_name, session->host_name) == 0
                     ? 1
                     : 0;
    }
    return count;
}

static void welcome(struct session *session)
{
    struct host *host = session->host;
    const struct fm_batch_host_options *run = host->options;
    struct fm_batch_fact facts[FM_JOB_FACTS];
    for (size_t i = 0; i < FM_JOB_FACTS; i++) {
        facts[i] =
            (struct fm_batch_fact){.key = fm_batch_view_of(host->options->facts->items[i].key),
                                   .value = fm_batch_view_of(host->options->facts->items[i].value)};
    }
    struct fm_batch_view name = fm_batch_view_of(run->job->name);
    name.size = name.size < FM_BATCH_NAME_BYTES_MAX ? name.size : FM_BATCH_NAME_BYTES_MAX;
    session->halvings = fm_crew_welcome(host->crew, session->child != NULL ? session->child->place
                                                                           : FM_CREW_PLACES_MAX);
    const struct fm_batch_master_message message = {
        .kind = FM_BATCH_MASTER_WELCOME,
        .welcome = {.protocol_version = FM_BATCH_PROTOCOL_VERSION,
                    .job = name,
                    .job_file = fm_batch_view_of(run->job->file),
                    .output = fm_batch_view_of(run->job->output),
                    .base = fm_batch_view_of(run->base),
                    .facts = {.items = facts, .count = FM_JOB_FACTS},
                    .beat_ns = BEAT_NS,
                    .give_up_ns = session->child != NULL ? GIVE_UP_CHILD_NS : GIVE_UP_NS,
                    .lease_ns = run->lease_ns,
                    .memory_bytes = run->job->worker_memory_bytes,
                    .halvings = session->halvings,
                    .sharers = sharers_of(session)}};
    fm_batch_host_say(session, &message);
}

static void joined(struct session *session, const struct fm_batch_join *join)
{
    if (join->protocol_version < FM_BATCH_PROTOCOL_VERSION) {
        fm_batch_host_session_finish(
            session, FM_GRPC_UNIMPLEMENTED,
            "the worker speaks an older version of the protocol: bring it to the "
            "master's version");
        return;
    }
    session->joined = true;
    fm_batch_view_copy(join->name, session->name, sizeof(session->name));
    fm_batch_view_copy(join->host, session->host_name, sizeof(session->host_name));
    session->process = join->process;
    session->child = session->local ? fm_batch_host_child_of(session->host, session->call) : NULL;
    welcome(session);
}

/* One of ours goes. What it held it has given back, or that is settled when it has ended. */
static void child_left(struct session *session, const struct fm_batch_leave *leave)
{
    struct host *host = session->host;
    struct child *child = session->child;
    struct fm_error error = {0};
    fm_batch_view_copy(leave->reason, child->last_words, sizeof(child->last_words));
    fm_crew_leaving(host->crew, fm_os_now_ns(), child->place, leave->cause);
    if (leave->cause == FM_CREW_WENT && leave->status != 0) {
        /* What is wrong here is wrong for the next one, too. */
        (void)fm_error_set(&error, leave->status, "%.*s", (int)leave->reason.size,
                           leave->reason.data);
        fm_batch_host_fail(host, &error);
    }
}

/* Likewise one of another host, or one that was started by hand. */
static void other_left(struct session *session, const struct fm_batch_leave *leave)
{
    struct host *host = session->host;
    struct fm_crew_verdict verdict = {.harmless =
                                          leave->cause != FM_CREW_WENT || leave->status == 0};
    char words[FM_ERROR_TEXT_SIZE];
    if (leave->cause == FM_CREW_STARVED) {
        fm_crew_starved_elsewhere(host->crew, fm_os_now_ns(), session->halvings, session->single,
                                  session->worked, &verdict);
    } else {
        fm_batch_view_copy(leave->reason, verdict.words, sizeof(verdict.words));
    }
    if (leave->status != 0) {
        (void)snprintf(words, sizeof(words), "the worker %.100s left: %.*s", session->name,
                       (int)(leave->reason.size < 300 ? leave->reason.size : 300),
                       leave->reason.data);
        fm_batch_host_note(host, words);
    }
    if (session->worker != 0) {
        fm_batch_host_check(host,
                            fm_master_gone(host->master, fm_os_now_ns(), session->worker,
                                           verdict.failure,
                                           verdict.harmless ? NULL : verdict.words),
                            "account for a worker that left");
        session->worker = 0;
    }
}

/* The older of two streams of one worker: it has come back before its end was noticed. */
static void older_finish(const struct session *session)
{
    for (struct session *other = session->host->sessions; other != NULL; other = other->next) {
        if (other != session && other->worker == session->worker) {
            other->worker = 0;
            other->child = NULL;
            fm_batch_host_session_finish(other, FM_GRPC_CANCELLED,
                                         "the worker has come on another stream");
        }
    }
}

static void end_say(struct session *session)
{
    const struct fm_error *failure = &session->host->failure;
    const struct fm_batch_master_message message = {
        .kind = FM_BATCH_MASTER_END,
        .end = {.status = failure->status, .reason = fm_batch_view_of(failure->text)}};
    fm_batch_host_say(session, &message);
}

static int said_hello(struct session *session, uint64_t now_ns, const struct fm_batch_hello *hello)
{
    struct host *host = session->host;
    if (session->worker != 0) {
        return FM_EINVAL; /* once in a stream */
    }
    session->worker = hello->worker;
    session->single = hello->single;
    older_finish(session);
    if (session->child != NULL) {
        session->child->worker = session->worker;
        fm_crew_joined(host->crew, now_ns, session->child->place, hello->single);
    }
    if (host->failure.status != 0) {
        end_say(session);
        return 0;
    }
    return fm_master_hello(host->master, now_ns, session->worker, hello->shards_max,
                           hello->holdings.items, hello->holdings.count);
}

/* What it says to have written has to be seen from here, before it counts. What it says again,
 * because it did not hear that it was committed, lies where it was published. */
static int done(struct session *session, uint64_t now_ns, const struct fm_master_done *done)
{
    struct host *host = session->host;
    if (!fm_master_holds(host->master, session->worker, done->number, done->epoch) ||
        fm_output_attempt_is_there(host->options->job->output, host->options->job->sink,
                                   done->number, done->epoch, &done->files)) {
        return fm_master_done(host->master, now_ns, session->worker, done);
    }
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    if (session->local || fm_output_look(host->options->job->output, &state, NULL) != 0 ||
        state != FM_OUTPUT_JOB) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_ENOTFOUND,
                           "what a worker has written for shard %" PRIu64 " is not in '%s'",
                           done->number, host->options->job->output);
        fm_batch_host_fail(host, &error);
        return 0;
    }
    fm_batch_host_session_finish(
        session, FM_GRPC_INVALID_ARGUMENT,
        "what this worker has written is not in the master's output directory: the "
        "directory has to be the same one on all hosts");
    return fm_master_failed(host->master, now_ns, session->worker, done->number, done->epoch,
                            FM_SHARD_FAILURE_INFRASTRUCTURE,
                            "the worker's files are not in the master's output directory");
}

static void long_stage_note(struct session *session, const struct fm_batch_beat *beat)
{
    char text[FM_ERROR_TEXT_SIZE];
    if (beat->long_stage.size > 0 && !session->told_long) {
        session->told_long = true;
        (void)snprintf(text, sizeof(text),
                       "stage '%.*s' of the worker %.100s has been running for %" PRIu64
                       " s; limits.stage_time in the job file would end it",
                       (int)beat->long_stage.size, beat->long_stage.data, session->name,
                       beat->long_ns / (1000 * NS_PER_MS));
        fm_batch_host_note(session->host, text);
    }
}

static int heard(struct session *session, const struct fm_batch_worker_message *message)
{
    struct host *host = session->host;
    struct fm_master *master = host->master;
    uint64_t now_ns = fm_os_now_ns();
    uint64_t worker = session->worker;
    char text[FM_ERROR_TEXT_SIZE];
    if (session->child != NULL) {
        fm_crew_heard(host->crew, now_ns, session->child->place);
    }
    switch (message->kind) {
    case FM_BATCH_WORKER_HELLO:
        return said_hello(session, now_ns, &message->hello);
    case FM_BATCH_WORKER_BEAT:
        fm_batch_view_copy(message->beat.slowest_stage, session->slowest_stage,
                           sizeof(session->slowest_stage));
        session->slowest_share = message->beat.slowest_share;
        session->memory_bytes = message->beat.memory_bytes;
        session->rows_per_minute = message->beat.rows_per_minute;
        session->memory = message->beat.memory;
        fm_stage_uses_set(&session->stages, &message->beat.stages);
        session->tuned = message->beat.tuned;
        fm_batch_view_copy(message->beat.tuned.batches, session->batches, sizeof(session->batches));
        session->tuned.batches = fm_batch_view_of(session->batches);
        fm_batch_view_copy(message->beat.tuned.accelerators, session->accelerators,
                           sizeof(session->accelerators));
        session->tuned.accelerators = fm_batch_view_of(session->accelerators);
        if (session->child != NULL) {
            session->child->memory_bytes = message->beat.memory_bytes;
        }
        fm_batch_view_copy(message->beat.last_error, text, sizeof(text));
        if (text[0] != '\0') {
            memcpy(host->last_error, text, sizeof(text));
            memcpy(session->last_error, text, sizeof(text));
        }
        long_stage_note(session, &message->beat);
        return fm_master_beat(master, now_ns, worker, message->beat.holdings.items,
                              message->beat.holdings.count);
    case FM_BATCH_WORKER_DONE:
        session->worked = true;
        if (session->child != NULL) {
            fm_crew_worked(host->crew, session->child->place);
        }
        return done(session, now_ns, &message->done);
    case FM_BATCH_WORKER_FAILED:
        fm_batch_view_copy(message->failed.reason, text, FM_SHARD_REASON_SIZE);
        return fm_master_failed(master, now_ns, worker, message->failed.number,
                                message->failed.epoch, message->failed.failure, text);
    case FM_BATCH_WORKER_RELEASED:
        return fm_master_released(master, now_ns, worker, message->released.number,
                                  message->released.epoch);
    case FM_BATCH_WORKER_TRIMMED:
        return fm_master_trimmed(master, now_ns, worker, message->trimmed.number,
                                 message->trimmed.epoch, message->trimmed.keep_rows);
    case FM_BATCH_WORKER_LEAVE:
        if (session->child != NULL) {
            child_left(session, &message->leave);
        } else {
            other_left(session, &message->leave);
        }
        return 0;
    case FM_BATCH_WORKER_JOIN:
    case FM_BATCH_WORKER_COUNT_:
    default:
        return FM_EINVAL;
    }
}

static void progress_get(const struct host *host, struct fm_run_progress *ret_progress)
{
    struct fm_master_progress progress;
    fm_master_progress(host->master, &progress);
    *ret_progress = (struct fm_run_progress){
        .rows_total = progress.rows_total,
        .listing = !host->listed,
        .rows_done = progress.rows_done,
        .rows_committed = progress.rows_committed,
        .dead_letters = progress.dead_letters,
        .rows_in_work = progress.rows_in_work,
        .paused = host->paused,
        .workers = progress.workers,
        .workers_wanted = host->scaling.wanted,
        .workers_why = host->scaling.why[0] != '\0' ? host->scaling.why : NULL,
        .late = host->scaling.late};
    fm_crew_counts(host->crew, &ret_progress->crew);
    for (const struct session *session = host->sessions; session != NULL; session = session->next) {
        if (session->slowest_stage[0] != '\0' &&
            session->slowest_share > ret_progress->slowest_share) {
            ret_progress->slowest_stage = session->slowest_stage;
            ret_progress->slowest_share = session->slowest_share;
        }
        ret_progress->read_threads += session->tuned.readers;
        ret_progress->operator_threads += session->tuned.operators;
        ret_progress->rows_in_flight += session->tuned.rows;
        ret_progress->memory_budget += session->memory.budget;
        ret_progress->memory_used += session->memory.used;
        fm_stage_uses_add(&ret_progress->stages, &session->stages);
    }
}

/* --- Steering --- */

static void worker_status(const struct host *host, const struct fm_master_worker *worker,
                          uint64_t now_ns, struct fm_batch_worker_status *ret_status)
{
    const struct session *session = fm_batch_host_session_of(host, worker->worker);
    *ret_status = (struct fm_batch_worker_status){
        .worker = worker->worker,
        .connected = worker->connected,
        .shards = worker->shards,
        .rows_in_work = worker->rows_in_work,
        .rows_committed = worker->rows_committed,
        .silent_ns = now_ns > worker->heard_ns ? now_ns - worker->heard_ns : 0};
    if (session != NULL) {
        ret_status->name = fm_batch_view_of(session->name);
        ret_status->host = fm_batch_view_of(session->host_name);
        ret_status->process = session->process;
        ret_status->rows_per_minute = session->rows_per_minute;
        ret_status->memory_bytes = session->memory_bytes;
        ret_status->slowest_stage = fm_batch_view_of(session->slowest_stage);
        ret_status->slowest_share = session->slowest_share;
        ret_status->last_error = fm_batch_view_of(session->last_error);
        ret_status->tuned = session->tuned;
        ret_status->memory = session->memory;
        fm_stage_uses_view(&session->stages, &ret_status->stages);
    }
}

/* A text that is cut to what a name may have. */
static struct fm_batch_view name_view(const char *text)
{
    struct fm_batch_view view = fm_batch_view_of(text);
    view.size = view.size < FM_BATCH_NAME_BYTES_MAX ? view.size : FM_BATCH_NAME_BYTES_MAX;
    return view;
}

static int status_write(const struct host *host, struct fm_text *text)
{
    uint64_t now_ns = fm_os_now_ns();
    struct fm_master_progress progress;
    struct fm_master_worker worker;
    uint64_t rest_ns = FM_BATCH_REST_UNKNOWN;
    size_t count = 0;
    while (count < FM_BATCH_STATUS_WORKERS_MAX && fm_master_worker(host->master, count, &worker)) {
        count++;
    }
    struct fm_batch_worker_status *workers = fm_alloc((count + 1) * sizeof(*workers));
    if (workers == NULL) {
        return FM_ENOMEM;
    }
    for (size_t i = 0; i < count && fm_master_worker(host->master, i, &worker); i++) {
        worker_status(host, &worker, now_ns, &workers[i]);
    }
    fm_master_progress(host->master, &progress);
    if (host->paused || !host->listed || !fm_progress_rest_ns(&host->rate, now_ns, &rest_ns)) {
        rest_ns = FM_BATCH_REST_UNKNOWN;
    }
    const struct fm_batch_status status = {.job = name_view(host->options->job->name),
                                           .version = name_view(host->options->version),
                                           .process = (uint32_t)fm_process_id(),
                                           .paused = host->paused,
                                           .stopping = host->stopped,
                                           .cancelled = host->cancelled,
                                           .rows_total = progress.rows_total,
                                           .rows_committed = progress.rows_committed,
                                           .rows_done = progress.rows_done,
                                           .dead_letters = progress.dead_letters,
                                           .rows_in_work = progress.rows_in_work,
                                           .rows_per_s = fm_progress_rate_recent(&host->rate),
                                           .rest_ns = rest_ns,
                                           .running_ns = now_ns - host->begun_ns,
                                           .workers_wanted = host->scaling.wanted,
                                           .workers_why = fm_batch_view_of(host->scaling.why),
                                           .finish_by_ms = host->options->finish_by_ms,
                                           .late = host->scaling.late,
                                           .workers = {.items = workers, .count = count}};
    int result = fm_batch_status_write(text, &status);
    fm_free(workers);
    return result;
}

static void pause_set(struct host *host, bool paused)
{
    if (host->paused != paused && !host->stopped && !host->ending) {
        host->paused = paused;
        fm_master_pause(host->master, fm_os_now_ns(), paused);
        fm_batch_host_note(
            host, paused ? "paused: what is in work is finished, and nothing more handed out; "
                           "fermata job resume goes on"
                         : "goes on");
    }
}

/* First it is noted, so that the job is not resumed by accident, however this process ends. */
static int cancel(struct host *host, struct fm_error *reterr)
{
    const struct fm_job_fact fact = {FM_JOB_NOTE_STATE, FM_JOB_STATE_CANCELLED};
    if (host->cancelled || host->ending) {
        return 0;
    }
    int status = host->options->store->functions->facts_put(host->options->store, &fact, 1, reterr);
    if (status == 0) {
        host->cancelled = true;
        host->stopped = true;
        fm_batch_host_note(host, "cancelled: what is in work is finished and kept");
        fm_batch_host_check(host, fm_master_stop(host->master, fm_os_now_ns(), false), "stop");
    }
    return status;
}

/* Does what a call of the service Control asks for, and answers how the job stands then. */
static void control(struct host *host, struct fm_grpc_call *call)
{
    struct fm_error error = {0};
    int status = 0;
    if (fm_grpc_call_address(call).kind != FM_PEER_UNIX) {
        fm_grpc_finish(call, FM_GRPC_PERMISSION_DENIED,
                       "a job is steered over the socket in its directory only", NULL, 0);
        return;
    }
    if (strcmp(call->path, FM_BATCH_CONTROL_CANCEL) == 0) {
        status = cancel(host, &error);
    } else if (strcmp(call->path, FM_BATCH_CONTROL_STATUS) != 0) {
        pause_set(host, strcmp(call->path, FM_BATCH_CONTROL_PAUSE) == 0);
    }
    struct outgoing *outgoing = fm_alloc_zero(1, sizeof(*outgoing));
    status = status != 0        ? status
             : outgoing == NULL ? FM_ENOMEM
                                : status_write(host, &outgoing->bytes);
    if (status != 0) {
        if (outgoing != NULL) {
            outgoing_free(outgoing);
        }
        fm_grpc_finish(call, FM_GRPC_UNAVAILABLE,
                       error.status != 0 ? error.text : fm_status_text(status), NULL, 0);
        return;
    }
    outgoing->part =
        (struct fm_grpc_part){.data = outgoing->bytes.data, .size = outgoing->bytes.length};
    const struct fm_grpc_message wire = {
        .parts = &outgoing->part, .part_count = 1, .release = outgoing_free, .context = outgoing};
    fm_grpc_send(call, &wire);
    fm_grpc_finish(call, FM_GRPC_OK, NULL, NULL, 0);
}

static bool is_control(const char *path)
{
    static const char *const paths[] = {FM_BATCH_CONTROL_STATUS, FM_BATCH_CONTROL_PAUSE,
                                        FM_BATCH_CONTROL_RESUME, FM_BATCH_CONTROL_CANCEL};
    for (size_t i = 0; i < FM_COUNT_OF(paths); i++) {
        if (strcmp(paths[i], path) == 0) {
            return true;
        }
    }
    return false;
}

/* --- Calls --- */

static void on_begin(void *context, struct fm_grpc_call *call)
{
    struct host *host = context;
    call->user = NULL;
    if (is_control(call->path)) {
        control(host, call);
        fm_batch_host_hand_on(host);
        return;
    }
    if (strcmp(call->path, WORK_PATH) != 0) {
        fm_grpc_finish(call, FM_GRPC_UNIMPLEMENTED, "this is the master of a batch job", NULL, 0);
        return;
    }
    /* Whoever reaches the Unix socket may read and write the job's files. */
    const struct fm_batch_listen *listen = host->options->listen;
    bool local = fm_grpc_call_address(call).kind == FM_PEER_UNIX;
    if (!local && listen != NULL && listen->token != NULL &&
        !fm_batch_token_is(listen->token, fm_grpc_call_metadata(call, "authorization"))) {
        fm_grpc_finish(call, FM_GRPC_UNAUTHENTICATED,
                       "the master wants a token, and this is not it: see --token-file", NULL, 0);
        return;
    }
    struct session *session = fm_alloc_zero(1, sizeof(*session));
    if (session == NULL) {
        fm_grpc_finish(call, FM_GRPC_UNAVAILABLE, "out of memory", NULL, 0);
        return;
    }
    session->host = host;
    session->local = local;
    session->call = call;
    session->next = host->sessions;
    host->sessions = session;
    call->user = session;
}

static void on_message(void *context, struct fm_grpc_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    struct host *host = context;
    struct session *session = call->user;
    struct fm_batch_worker_message message;
    struct fm_error error = {0};
    (void)buffer;
    if (session == NULL) {
        return;
    }
    fm_grpc_handled(call); /* first: the call may be over when the message has been taken */
    host->current = session;
    int status = fm_batch_worker_message_read(data, size, &message, &error);
    if (status == 0 && !session->joined && message.kind == FM_BATCH_WORKER_JOIN) {
        joined(session, &message.join);
    } else if (status == 0 && session->joined &&
               (session->worker != 0 || message.kind == FM_BATCH_WORKER_HELLO ||
                message.kind == FM_BATCH_WORKER_LEAVE)) {
        status = heard(session, &message);
    } else if (status == 0) {
        status = fm_error_set(&error, FM_EINVAL, "a %s does not come here",
                              fm_batch_worker_kind_name(message.kind));
    }
    if (status != 0 && host->current != NULL) {
        /* Memory and places may come back, and so may the worker. */
        bool passing = status == FM_ENOMEM || status == FM_ELIMIT;
        fm_batch_host_session_finish(session,
                                     passing ? FM_GRPC_UNAVAILABLE : FM_GRPC_INVALID_ARGUMENT,
                                     error.status != 0 ? error.text
                                     : passing         ? "the master has no room for this now"
                                                       : "the worker says what it cannot mean");
    }
    host->current = NULL;
    fm_batch_host_hand_on(host);
}

static void on_gone(void *context, struct fm_grpc_call *call)
{
    struct host *host = context;
    struct session *session = call->user;
    if (session != NULL) {
        session_end(session);
        fm_batch_host_hand_on(host);
    }
}

/* --- What the master decides --- */

/* The files of a shard's rows. */
static int rows_list(const struct host *host, const struct fm_shard *shard, struct fm_arena *arena,
                     struct fm_batch_rows *ret_rows, struct fm_error *reterr)
{
    struct fm_batch_row *rows = fm_arena_alloc(arena, shard->row_count * sizeof(*rows));
    uint64_t count = 0;
    int status = rows != NULL ? 0 : FM_ENOMEM;
    for (uint64_t done = 0; done < shard->row_count && status == 0; count++) {
        struct fm_row_place place;
        status = fm_row_source_get(host->options->source, shard->first_row + done,
                                   shard->row_count - done, &place, reterr);
        if (status != 0) {
            return status;
        }
        char *id = fm_arena_strdup(arena, place.id);
        status = id != NULL ? 0 : FM_ENOMEM;
        rows[count] = (struct fm_batch_row){.id = fm_batch_view_of(id != NULL ? id : ""),
                                            .size = place.size,
                                            .row_count = place.row_count,
                                            .first_row = place.first_row,
                                            .point_row = place.point.row,
                                            .point_offset = place.point.offset,
                                            .point_line = place.point.line};
        done += place.row_count > 0 ? place.row_count : 1;
    }
    *ret_rows = (struct fm_batch_rows){.items = rows, .count = count};
    return status == 0 ? 0 : fm_error_set(reterr, status, "out of memory for a shard");
}

static void grant(struct host *host, struct session *session, const struct fm_master_action *action)
{
    struct fm_error error = {0};
    struct fm_batch_rows rows = {0};
    struct fm_arena arena;
    fm_arena_init(&arena, 0);
    int status = rows_list(host, &action->shard, &arena, &rows, &error);
    if (status == 0) {
        const struct fm_batch_master_message message = {
            .kind = FM_BATCH_MASTER_GRANT,
            .grant = {
                .shard = action->shard, .reason = fm_batch_view_of(action->reason), .rows = rows}};
        fm_batch_host_say(session, &message);
    } else {
        fm_batch_host_fail(host, &error);
    }
    fm_arena_deinit(&arena);
}

static void publish(struct host *host, const struct fm_master_action *action)
{
    struct fm_error error = {0};
    const struct fm_batch_host_options *run = host->options;
    int status = fm_fault_hit(run->fault, FM_FAULT_AFTER_COMMIT, &error);
    status = status != 0 ? status
                         : fm_output_publish(run->job->output, run->job->sink, action->shard.number,
                                             action->files.attempt, action->files.letters_bytes > 0,
                                             run->fault, &error);
    if (status != 0) {
        fm_batch_host_fail(host, &error);
    }
}

/* --- History --- */

static void history_sample(struct host *host, uint64_t now_ns)
{
    struct fm_error error = {0};
    struct fm_master_progress master;
    struct fm_ledger_stats stats;
    fm_master_progress(host->master, &master);
    fm_ledger_stats(fm_master_ledger(host->master), &stats);
    struct fm_history_sample sample = {.wall_ms = fm_os_wall_ns() / NS_PER_MS,
                                       .rows_done = master.rows_done,
                                       .rows_committed = master.rows_committed,
                                       .dead_letters = master.dead_letters,
                                       .workers = master.workers,
                                       .workers_lost =
                                           stats.failures[FM_SHARD_FAILURE_INFRASTRUCTURE],
                                       .attempts_failed = stats.failures[FM_SHARD_FAILURE_DATA],
                                       .shards_cut = stats.splits,
                                       .stage_share = host->stage_share,
                                       .stages = host->stages};
    memcpy(sample.stage, host->stage, sizeof(sample.stage));
    fm_history_add(host->history, now_ns, &sample);
    if (fm_history_trouble(host->history, &error)) {
        char words[FM_ERROR_TEXT_SIZE];
        (void)snprintf(words, sizeof(words), "the job's history is not written any more: %.300s",
                       error.text[0] != '\0' ? error.text : fm_status_text(error.status));
        fm_batch_host_note(host, words);
    }
}

static void history_hear(struct host *host, const struct fm_master_action *action)
{
    const struct fm_shard *shard = &action->shard;
    uint64_t now_ns = fm_os_now_ns();
    if (host->history != NULL && action->kind == FM_MASTER_GRANT) {
        const struct fm_history_shard granted = {
            .number = shard->number, .first_row = shard->first_row, .rows = shard->row_count};
        fm_history_granted(host->history, now_ns, shard->epoch, &granted);
    } else if (host->history != NULL && action->kind == FM_MASTER_COMMITTED) {
        fm_history_committed(host->history, now_ns, shard->number, shard->epoch);
    }
}

static void carry_out(struct host *host, const struct fm_master_action *action)
{
    struct fm_error error = {0};
    struct fm_batch_master_message message = {0};
    const struct fm_batch_lease lease = {.number = action->shard.number,
                                         .epoch = action->shard.epoch};
    struct session *session = fm_batch_host_session_of(host, action->worker);
    history_hear(host, action);
    if (action->kind == FM_MASTER_COMMITTED) {
        publish(host, action);
    } else if (action->kind == FM_MASTER_GRANT &&
               fm_fault_hit(host->options->fault, FM_FAULT_CLAIMED, &error) != 0) {
        fm_batch_host_fail(host, &error);
    }
    if (session == NULL || host->failure.status != 0) {
        return; /* what it has to know it is told when it comes back */
    }
    switch (action->kind) {
    case FM_MASTER_GRANT:
        grant(host, session, action);
        return;
    case FM_MASTER_COMMITTED:
        message.kind = FM_BATCH_MASTER_COMMITTED;
        message.committed = lease;
        break;
    case FM_MASTER_REFUSED:
        message.kind = FM_BATCH_MASTER_REFUSED;
        message.refused = lease;
        break;
    case FM_MASTER_TRIM:
        message.kind = FM_BATCH_MASTER_TRIM;
        message.trim = (struct fm_batch_trim){
            .number = lease.number, .epoch = lease.epoch, .keep_rows = action->keep_rows};
        break;
    case FM_MASTER_STOP:
    case FM_MASTER_DROP:
        message.kind = FM_BATCH_MASTER_STOP;
        message.stop.drop = action->kind == FM_MASTER_DROP;
        break;
    case FM_MASTER_END:
        message.kind = FM_BATCH_MASTER_END;
        break;
    case FM_MASTER_ACTION_COUNT_:
    default:
        FM_ASSERT(false);
    }
    fm_batch_host_say(session, &message);
}

static void stored_take(struct host *host)
{
    fm_mutex_lock(&host->mutex);
    uint64_t stored = host->stored;
    struct fm_error failure = host->store_failure;
    fm_mutex_unlock(&host->mutex);
    fm_master_persisted(host->master, stored);
    if (failure.status != 0) {
        fm_batch_host_fail(host, &failure);
    }
}

static void records_give(struct host *host)
{
    const struct fm_shard_record *records = NULL;
    uint64_t sequence = 0;
    size_t waiting = fm_store_writer_waiting(host->writer);
    if (waiting > 0 &&
        waiting + fm_master_records_waiting(host->master) > (size_t)FM_STORE_WRITER_RECORDS_MAX) {
        return; /* the disk is behind: when it has stored some, we are called again */
    }
    size_t count = fm_master_take_records(host->master, &records, &sequence);
    int status = count > 0 ? fm_store_writer_push(host->writer, records, count, sequence) : 0;
    if (status != 0) {
        stored_take(host); /* it has the words, where the store has failed meanwhile */
        fm_batch_host_check(host, status, "hand decisions to the ledger");
    }
}

/* Everybody goes: the workers by themselves; after a failure ours at once, and the others are told
 * why. */
static void end_begin(struct host *host)
{
    bool failed = host->failure.status != 0;
    host->ending = true;
    host->ending_ns = fm_os_now_ns();
    fm_crew_end(host->crew, failed ? 0 : host->ending_ns + GO_NS);
    fm_batch_host_crew_work(host, host->ending_ns);
    for (struct session *session = host->sessions; session != NULL && failed;
         session = session->next) {
        if (session->child == NULL && session->joined) {
            end_say(session);
        }
    }
}

static void end_look(struct host *host, uint64_t now_ns)
{
    if (!host->ending) {
        return;
    }
    bool patient = now_ns - host->ending_ns < LAST_WORDS_NS;
    if (fm_batch_host_children_running(host) == 0 && (host->sessions == NULL || !patient)) {
        fm_loop_stop(host->loop);
    }
}

void fm_batch_host_hand_on(struct host *host)
{
    struct fm_master_action action;
    if (host->writer == NULL) {
        return; /* it is over: what still comes finds nobody */
    }
    while (host->failure.status == 0 && fm_master_next_action(host->master, &action)) {
        carry_out(host, &action);
    }
    if (host->failure.status == 0) {
        records_give(host);
    }
    if (!host->ending && (host->failure.status != 0 || fm_master_over(host->master))) {
        end_begin(host);
    }
    end_look(host, fm_os_now_ns());
}

/* --- The store's writer --- */

static void stored_handle(struct fm_loop_task *task)
{
    struct host *host = FM_CONTAINER_OF(task, struct host, stored_task);
    atomic_store(&host->stored_posted, false);
    stored_take(host);
    fm_batch_host_hand_on(host);
}

static void on_stored(void *context, uint64_t sequence, int status, const struct fm_error *error)
{
    struct host *host = context;
    fm_mutex_lock(&host->mutex);
    if (status == 0) {
        host->stored = sequence;
    } else if (host->store_failure.status == 0) {
        host->store_failure = *error;
    }
    fm_mutex_unlock(&host->mutex);
    if (!atomic_exchange(&host->stored_posted, true)) {
        fm_loop_post(host->loop, &host->stored_task);
    }
}

/* --- Time --- */

static void page_update(struct host *host)
{
    struct fm_text text = {0};
    if (status_write(host, &text) == 0) {
        fm_page_server_update(host->page, text.data, text.length);
    }
    fm_text_deinit(&text);
}

static void hooks_ask(struct host *host, uint64_t now_ns)
{
    const struct fm_run_hooks *hooks = &host->options->hooks;
    if (now_ns < host->hooks_next_ns) {
        return;
    }
    host->hooks_next_ns = now_ns + HOOKS_NS;
    if (!host->stopped && hooks->stop != NULL && hooks->stop(hooks->context)) {
        host->stopped = true;
        fm_crew_end(host->crew, UINT64_MAX);
        fm_batch_host_check(host, fm_master_stop(host->master, now_ns, false), "stop");
    }
    struct fm_run_progress progress;
    progress_get(host, &progress);
    host->rate.total = progress.rows_total; /* it grows while inputs are found */
    fm_progress_update(&host->rate, now_ns, progress.rows_done);
    if (progress.slowest_stage != NULL) {
        (void)snprintf(host->stage, sizeof(host->stage), "%.60s", progress.slowest_stage);
        host->stage_share = progress.slowest_share;
    }
    host->stages = progress.stages;
    if (host->page != NULL && now_ns >= host->page_next_ns) {
        host->page_next_ns = now_ns + PAGE_NS;
        page_update(host);
    }
    if (host->history != NULL && fm_history_due(host->history, now_ns)) {
        history_sample(host, now_ns);
    }
    if (hooks->progress != NULL) {
        hooks->progress(hooks->context, &progress);
    }
}

/* Streams that we have ended, or that had to be. */
static void sessions_reap(struct host *host)
{
    struct session *session = host->sessions;
    while (session != NULL) {
        struct session *next = session->next;
        if (session->call == NULL) {
            session_end(session);
        }
        session = next;
    }
}

/* Rows that were found meanwhile. */
static void rows_hear(struct host *host, uint64_t now_ns)
{
    struct fm_error error = {0};
    if (host->listed || host->stopped) {
        return;
    }
    int status = host->options->more_rows(host->options->more_context, &error);
    if (status < 0) {
        fm_batch_host_fail(host, &error);
    } else if (status == 0) {
        host->listed = true;
        fm_master_close(host->master, now_ns, true);
    }
}

static void tick(void *context)
{
    struct host *host = context;
    uint64_t now_ns = fm_os_now_ns();
    fm_loop_alarm(host->loop, TICK_NS, tick, host);
    sessions_reap(host);
    rows_hear(host, now_ns);
    /* After a pause of this process its workers' beats lie in the sockets: they are read before
     * anybody's lease is looked at. */
    bool late = now_ns - host->ticked_ns > FM_BATCH_HOST_PAUSE_NS;
    host->ticked_ns = now_ns;
    if (!host->ending) {
        if (!late) {
            fm_batch_host_check(host, fm_master_tick(host->master, now_ns), "hand out shards");
        }
        hooks_ask(host, now_ns);
        fm_batch_host_scale(host, now_ns);
    }
    fm_batch_host_crew_work(host, now_ns);
    fm_batch_host_hand_on(host);
}

/* --- Life --- */

static void options_make(struct host *host, struct fm_grpc_options *options)
{
    fm_grpc_options_init(options);
    options->message_bytes_max = FM_BATCH_MESSAGE_BYTES_MAX;
    options->unsent_max = 4096;
    options->events = (struct fm_grpc_events){
        .begin = on_begin, .message = on_message, .half_closed = on_gone, .cancelled = on_gone};
    options->context = host;
}

static int server_make(struct host *host, struct fm_error *reterr)
{
    const struct fm_batch_host_options *run = host->options;
    struct fm_grpc_options options;
    char state[FM_OUTPUT_PATH_MAX];
    int status = fm_output_state_path(run->job->output, SOCKET_FILE, host->socket_path,
                                      sizeof(host->socket_path), reterr);
    /* One that a killed master has left. This process has the job's lock. */
    status = status != 0 ? status : fm_file_remove(host->socket_path, reterr);
    if (status != 0) {
        return status;
    }
    (void)snprintf(host->url, sizeof(host->url), "unix:%s", host->socket_path);
    if (strlen(host->socket_path) > FM_UNIX_SOCKET_PATH_MAX) {
        /* The kernel takes no longer name for a socket; this one leads to the same place. */
        status = fm_output_state_path(run->job->output, ".", state, sizeof(state), reterr);
        status =
            status != 0 ? status : fm_file_directory_open(state, &host->state_directory, reterr);
        if (status != 0) {
            return status;
        }
        (void)snprintf(host->socket_path, sizeof(host->socket_path), "/proc/self/fd/%d/%s",
                       host->state_directory, SOCKET_FILE);
        (void)snprintf(host->url, sizeof(host->url), "unix:/proc/%d/fd/%d/%s", fm_process_id(),
                       host->state_directory, SOCKET_FILE);
    }
    options_make(host, &options);
    options.unix_path = host->socket_path;
    return fm_grpc_server_create(host->loop, &options, &host->server, reterr);
}

/* For workers of other hosts: a server of its own, because TLS is for all that a server listens on.
 */
static int far_make(struct host *host, struct fm_error *reterr)
{
    const struct fm_batch_listen *listen = host->options->listen;
    struct fm_grpc_options options;
    char text[256];
    int status = 0;
    if (listen == NULL) {
        return 0;
    }
    if (listen->tls_certificate_path != NULL) {
        const struct fm_tls_options tls = {.certificate_path = listen->tls_certificate_path,
                                           .key_path = listen->tls_key_path,
                                           .client_ca_path = listen->tls_client_ca_path,
                                           .clients = listen->tls_client_ca_path != NULL
                                                          ? FM_TLS_CLIENTS_REQUIRED
                                                          : FM_TLS_CLIENTS_ANY};
        status = fm_tls_create(&tls, &host->tls, reterr);
    }
    options_make(host, &options);
    options.host = listen->host;
    options.port = listen->port;
    options.tls = host->tls;
    /* A host that is gone says nothing: what it held is given to others when its lease ends, and
     * its connection is closed some time later. */
    options.keepalive_ns = 10000 * NS_PER_MS;
    options.keepalive_timeout_ns = 10000 * NS_PER_MS;
    status = status != 0 ? status : fm_grpc_server_create(host->loop, &options, &host->far, reterr);
    if (status == 0) {
        (void)snprintf(
            text, sizeof(text), "listening for workers: fermata worker --join %s://%s:%u",
            host->tls != NULL ? "grpcs" : "grpc", listen->host, fm_grpc_server_port(host->far));
        fm_batch_host_note(host, text);
    }
    return status;
}

static int page_make(struct host *host, struct fm_error *reterr)
{
    const struct fm_page_listen *listen = host->options->page;
    char text[256];
    if (listen == NULL) {
        return 0;
    }
    int status = fm_page_server_start(listen, host->options->job->output, &host->page, reterr);
    if (status == 0) {
        bool brackets = strchr(listen->host, ':') != NULL;
        (void)snprintf(text, sizeof(text), "a page about the job: http://%s%.200s%s:%u/",
                       brackets ? "[" : "", listen->host, brackets ? "]" : "",
                       fm_page_server_port(host->page));
        fm_batch_host_note(host, text);
    }
    return status;
}

static int history_open(struct host *host, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    int status = fm_output_state_path(host->options->job->output, FM_OUTPUT_HISTORY_FILE, path,
                                      sizeof(path), reterr);
    host->history = status == 0 ? fm_history_open(path, fm_os_now_ns()) : NULL;
    return status;
}

static enum fm_run_end end_of(const struct host *host, struct fm_error *reterr)
{
    struct fm_error limit;
    if (host->failure.status != 0) {
        *reterr = host->failure;
        return FM_RUN_FAILED;
    }
    if (fm_master_limit_passed(host->master, &limit)) {
        (void)fm_error_set(reterr, limit.status, "stopped: %.250s; the last of them: %.200s",
                           limit.text, host->last_error);
        return FM_RUN_THRESHOLD;
    }
    return !host->stopped || fm_ledger_finished(fm_master_ledger(host->master)) ? FM_RUN_FINISHED
           : host->cancelled                                                    ? FM_RUN_CANCELLED
                                                                                : FM_RUN_STOPPED;
}

int fm_batch_host_run(const struct fm_batch_host_options *options, enum fm_run_end *ret_end,
                      struct fm_run_progress *ret_progress, struct fm_error *reterr)
{
    struct host *host = fm_alloc_zero(1, sizeof(*host));
    if (host == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    FM_ASSERT(options->workers_min <= options->workers_max);
    FM_ASSERT(options->workers_max <= FM_BATCH_WORKERS_MAX);
    host->options = options;
    host->master = options->master;
    host->stored_task.run = stored_handle;
    host->ticked_ns = fm_os_now_ns();
    host->begun_ns = host->ticked_ns;
    fm_mutex_init(&host->mutex);
    for (uint32_t i = 0; i < options->workers_max; i++) {
        host->children[i] = (struct child){.host = host, .place = i};
    }
    int status = fm_batch_host_crew_make(host, reterr);
    if (status == 0) {
        progress_get(host, ret_progress);
        fm_progress_start(&host->rate, host->begun_ns, ret_progress->rows_done,
                          ret_progress->rows_total, RATE_WINDOW_NS);
    }
    status = status != 0 ? status : fm_loop_create(&host->loop, reterr);
    status = status != 0 ? status : server_make(host, reterr);
    status = status != 0 ? status : far_make(host, reterr);
    status = status != 0 ? status : history_open(host, reterr);
    status = status != 0 ? status : page_make(host, reterr);
    status = status != 0
                 ? status
                 : fm_store_writer_start(options->store, on_stored, host, &host->writer, reterr);
    if (status == 0) {
        fm_loop_alarm(host->loop, 0, tick, host);
        fm_loop_run(host->loop);
        if (host->history != NULL) {
            history_sample(host, fm_os_now_ns());
        }
        *ret_end = end_of(host, reterr);
        status = *ret_end == FM_RUN_FAILED ? host->failure.status : 0;
        progress_get(host, ret_progress);
        ret_progress->slowest_stage = NULL; /* it goes with the sessions, and this with the host */
        ret_progress->workers_why = NULL;
        if (options->hooks.progress != NULL) {
            options->hooks.progress(options->hooks.context, ret_progress);
        }
    }
    struct fm_store_writer *writer = host->writer;
    host->writer = NULL;
    fm_store_writer_stop(writer);
    while (host->sessions != NULL) {
        session_end(host->sessions);
    }
    fm_grpc_server_destroy(host->server);
    fm_grpc_server_destroy(host->far);
    fm_tls_destroy(host->tls);
    fm_file_directory_close(host->state_directory);
    fm_page_server_stop(host->page);
    fm_history_close(host->history);
    fm_loop_destroy(host->loop);
    fm_mutex_deinit(&host->mutex);
    fm_crew_destroy(host->crew);
    fm_free(host);
    return status;
}
