/*
 * The processes of a job's master: started, told to go, ended, and how many of them there are.
 *
 * Owns: carrying out what the crew (core/ledger/crew.h) and the job's demand (scaling.h) say, what
 * the end of a process means in words. Does not own: the workers' streams (host.c). Thread rule:
 * the loop's thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "core/util/error.h"
#include "engines/batch/host_internal.h"
#include "host/os/memory_facts.h"
#include "host/os/os.h"

#define NS_PER_MS UINT64_C(1000000)
/* How long the last words of a child that ended may be on their way. */
#define LAST_READ_NS (200 * NS_PER_MS)
/* How the crew is led; see core/ledger/crew.h. A job file may say how long a start may take. */
#define RESTART_NS     (50 * NS_PER_MS)
#define RESTART_MAX_NS (5000 * NS_PER_MS)
#define SILENT_NS      (30000 * NS_PER_MS)
#define CHILD_LEAVE_NS (5000 * NS_PER_MS)
#define CALM_NS        (60000 * NS_PER_MS)
#define CALM_MAX_NS    (3600000 * NS_PER_MS)

enum {
    STARTS_IN_VAIN_MAX = 3, /* children in a row that end before they ask for work */
    MEMORY_NEAR = 80,       /* percent of its limit: what happens then may be for lack of memory */
};

static bool child_has_stream(const struct child *child)
{
    const struct session *session = child->host->sessions;
    while (session != NULL && (session->child != child || session->call == NULL)) {
        session = session->next;
    }
    return session != NULL;
}

uint32_t fm_batch_host_children_running(const struct host *host)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < host->options->workers_max; i++) {
        count += host->children[i].process != NULL ? 1 : 0;
    }
    return count;
}

/* What a person has to know of an end. */
static void end_note(const struct child *child, const struct fm_crew_verdict *verdict)
{
    char text[FM_ERROR_TEXT_SIZE];
    uint32_t number = child->place + 1;
    switch (verdict->reason) {
    case FM_CREW_REASON_RECYCLED:
        (void)snprintf(text, sizeof(text), "worker %" PRIu32 " was recycled: %s", number,
                       child->last_words);
        break;
    case FM_CREW_REASON_MEMORY:
        (void)snprintf(text, sizeof(text), "worker %" PRIu32 " ran out of memory (%s); %s", number,
                       child->last_words[0] != '\0' ? child->last_words : child->how,
                       verdict->smaller
                           ? "another one takes its place, with half as many rows and batches half "
                             "as large"
                       : verdict->harmless
                           ? "another one takes its place"
                           : "it had one row at a time, so that this row is to blame");
        break;
    case FM_CREW_REASON_HANG:
        (void)snprintf(text, sizeof(text),
                       "worker %" PRIu32 " was hanging: %s; another one takes its place", number,
                       child->last_words[0] != '\0' ? child->last_words : verdict->words);
        break;
    case FM_CREW_REASON_CRASH:
    case FM_CREW_REASON_LOST:
    case FM_CREW_REASON_COUNT_:
    default:
        (void)snprintf(text, sizeof(text),
                       "worker %" PRIu32 " ended with %s; another one takes its place", number,
                       child->how);
        break;
    }
    fm_batch_host_note(child->host, text);
}

/* All that it said has been read, or time enough has passed: what it held goes to others. */
static void child_settle(struct child *child, uint64_t now_ns)
{
    struct host *host = child->host;
    struct fm_crew_verdict verdict;
    for (struct session *session = host->sessions; session != NULL; session = session->next) {
        if (session->child == child) {
            session->child = NULL;
            fm_batch_host_session_finish(session, FM_GRPC_OK, NULL);
        }
    }
    char how[sizeof(child->how) + sizeof(child->last_words) + 4];
    (void)snprintf(how, sizeof(how), child->last_words[0] != '\0' ? "%s (%s)" : "%s%s", child->how,
                   child->last_words);
    fm_crew_ended(host->crew, now_ns, child->place, child->exit, how, &verdict);
    if (child->worker != 0) {
        fm_batch_host_check(host,
                            fm_master_gone(host->master, now_ns, child->worker, verdict.failure,
                                           verdict.harmless ? NULL : verdict.words),
                            "account for a worker that ended");
    }
    child->ended_ns = 0;
    child->worker = 0;
    if (!verdict.wanted && host->failure.status == 0) {
        end_note(child, &verdict);
    }
}

/* A signal to end at once that is not from us may be the kernel's, for lack of memory. Libraries
 * that get none crash: near to the limit that is not held against the rows before they were alone.
 */
static enum fm_crew_exit exit_of(const struct child *child, int64_t exit_status, int signal_number)
{
    uint64_t limit = child->host->options->job->worker_memory_bytes;
    if (fm_child_is_crash(signal_number)) {
        return limit > 0 && child->memory_bytes >= limit / 100 * MEMORY_NEAR ? FM_CREW_EXIT_MEMORY
                                                                             : FM_CREW_EXIT_CRASH;
    }
    if (fm_child_is_kill(signal_number)) {
        bool memory = !child->killed && fm_memory_kills() != child->memory_kills;
        return memory ? FM_CREW_EXIT_MEMORY : FM_CREW_EXIT_KILLED;
    }
    return exit_status == 0 && signal_number == 0 ? FM_CREW_EXIT_CLEAN : FM_CREW_EXIT_OTHER;
}

static void child_ended(void *context, int64_t exit_status, int signal_number)
{
    struct child *child = context;
    fm_child_describe(exit_status, signal_number, child->how, sizeof(child->how));
    child->exit = exit_of(child, exit_status, signal_number);
    child->ended_ns = fm_os_now_ns();
    fm_child_close(child->process);
    child->process = NULL;
    fm_batch_host_hand_on(child->host);
}

static void child_start(struct child *child)
{
    struct host *host = child->host;
    struct fm_error error = {0};
    /* Only the first of all gets the fault: what takes its place has to survive. */
    bool faulty = host->options->worker_fault != NULL && child->place == 0 && !child->started;
    /* What it has to say it says to the master. */
    const char *const arguments[] = {"fermata",
                                     "worker",
                                     "--quiet",
                                     "--join",
                                     host->url,
                                     faulty ? "--fault" : NULL,
                                     host->options->worker_fault,
                                     NULL};
    const struct fm_child_options wanted = {
        .arguments = arguments, .ended = child_ended, .context = child};
    child->started = true;
    child->killed = false;
    child->worker = 0;
    child->last_words[0] = '\0';
    child->memory_bytes = 0;
    child->memory_kills = fm_memory_kills();
    if (fm_child_start(host->loop, &wanted, &child->process, &error) != 0) {
        fm_batch_host_note(host, error.text);
        fm_crew_start_failed(host->crew, fm_os_now_ns(), child->place, error.text);
    }
}

/* It gives back what it holds, and ends. */
static void child_retire(const struct child *child)
{
    if (child->process != NULL) {
        fm_child_terminate(child->process);
    }
}

static void child_kill(struct child *child)
{
    if (child->process != NULL) {
        child->killed = true;
        fm_child_kill(child->process);
    }
}

/* The worker is to make way for a fresh process. */
static void child_recycle(const struct child *child)
{
    const struct fm_batch_master_message message = {.kind = FM_BATCH_MASTER_STOP,
                                                    .stop = {.again = true}};
    for (struct session *session = child->host->sessions; session != NULL;
         session = session->next) {
        if (session->child == child) {
            fm_batch_host_say(session, &message);
        }
    }
}

void fm_batch_host_crew_work(struct host *host, uint64_t now_ns)
{
    struct fm_crew_action action;
    for (uint32_t i = 0; i < host->options->workers_max; i++) {
        struct child *child = &host->children[i];
        if (child->ended_ns > 0 &&
            (!child_has_stream(child) || now_ns - child->ended_ns >= LAST_READ_NS)) {
            child_settle(child, now_ns);
        }
    }
    fm_crew_tick(host->crew, now_ns);
    while (fm_crew_next_action(host->crew, &action)) {
        struct child *child = &host->children[action.place];
        switch (action.kind) {
        case FM_CREW_START:
            child_start(child);
            break;
        case FM_CREW_KILL:
            child_kill(child);
            break;
        case FM_CREW_RECYCLE:
            child_recycle(child);
            break;
        case FM_CREW_RETIRE:
            child_retire(child);
            break;
        case FM_CREW_GIVE_UP:
        default:
            fm_batch_host_fail(host, &action.error);
            break;
        }
    }
}

/* Who it is the kernel says, not the worker: a child is trusted with what its place holds. */
struct child *fm_batch_host_child_of(struct host *host, const struct fm_grpc_call *call)
{
    int process = fm_grpc_call_process(call);
    for (uint32_t i = 0; i < host->options->workers_max && process != 0; i++) {
        struct child *child = &host->children[i];
        if (child->process != NULL && fm_child_process(child->process) == process) {
            return child;
        }
    }
    return NULL;
}

/* --- How many --- */

/* Workers that are not children of this process. */
static uint32_t others_count(const struct host *host)
{
    uint32_t count = 0;
    for (const struct session *session = host->sessions; session != NULL; session = session->next) {
        count += session->call != NULL && session->worker != 0 && session->child == NULL ? 1 : 0;
    }
    return count;
}

/* What each of the crew is worth: who has nothing to do goes first, then who is slow. */
static void crew_value(struct host *host)
{
    struct fm_master_worker worker;
    for (size_t i = 0; fm_master_worker(host->master, i, &worker); i++) {
        const struct session *session = fm_batch_host_session_of(host, worker.worker);
        if (session != NULL && session->child != NULL) {
            fm_crew_value(host->crew, session->child->place,
                          worker.shards == 0 ? 0 : 1 + worker.rows_per_s);
        }
    }
}

/* As many workers as the job wants. */
void fm_batch_host_scale(struct host *host, uint64_t now_ns)
{
    char text[FM_ERROR_TEXT_SIZE];
    const struct fm_scaling_look look = {.now_ns = now_ns,
                                         .wall_ms = fm_os_wall_ns() / NS_PER_MS,
                                         .listing = !host->listed,
                                         .paused = host->paused,
                                         .working = fm_crew_working(host->crew),
                                         .others = others_count(host),
                                         .startup_ns = fm_crew_startup_ns(host->crew)};
    if (host->stopped || !fm_scaling_update(&host->scaling, &look, host->master)) {
        return;
    }
    if (host->scaling.own != fm_crew_wanted(host->crew)) {
        crew_value(host);
        fm_crew_want(host->crew, now_ns, host->scaling.own);
    }
    if (host->scaling.late && !host->told_late) {
        host->told_late = true;
        (void)snprintf(text, sizeof(text), "%s, with %" PRIu32 " workers", host->scaling.why,
                       host->scaling.wanted);
        fm_batch_host_note(host, text);
    }
}

int fm_batch_host_crew_make(struct host *host, struct fm_error *reterr)
{
    const struct fm_scaling_options scaling = {.workers_min = host->options->workers_min,
                                               .workers_max = host->options->workers_max,
                                               .listens = host->options->listen != NULL,
                                               .finish_by_ms = host->options->finish_by_ms};
    const struct fm_crew_options options = {.places = host->options->workers_max,
                                            .restart_ns = RESTART_NS,
                                            .restart_max_ns = RESTART_MAX_NS,
                                            .in_vain_max = STARTS_IN_VAIN_MAX,
                                            .begin_ns = host->options->job->begin_time_ns,
                                            .silent_ns = SILENT_NS,
                                            .leave_ns = CHILD_LEAVE_NS,
                                            .calm_ns = CALM_NS,
                                            .calm_max_ns = CALM_MAX_NS,
                                            .pause_ns = FM_BATCH_HOST_PAUSE_NS};
    uint64_t now_ns = fm_os_now_ns();
    fm_scaling_init(&host->scaling, &scaling);
    int status = fm_crew_create(&options, now_ns, &host->crew);
    if (status == 0) {
        fm_crew_want(host->crew, now_ns, host->options->workers_min);
    }
    return status != 0 ? fm_error_set(reterr, status, "out of memory") : 0;
}
