/*
 * Processes of a stage. See process_pool.h.
 *
 * HOW IT WORKS. A place holds one process, or none. Whoever has an item takes a free place, sees to
 * it that a process runs there, and talks to it. A process that misbehaves in any way is ended with
 * all that it has started; the next item on that place starts another one, after the pauses of
 * restart.h. So nothing is started that nobody needs, and a process that cannot start costs five
 * tries, then one every half minute.
 *
 * An item whose process ends by itself is tried again: it may have been killed from outside (by the
 * kernel, for memory), and most often it was not the item's fault. An item that hung, or that was
 * answered with garbage, is not: that would take as long, and give the same.
 */
#include "host/runtime/operators/process_pool.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/plan/restart.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/private_memory.h"
#include "host/os/program_keeper.h"
#include "host/os/program_pipe.h"
#include "host/os/thread.h"

/* A process that has closed a pipe is about to end: how it did is worth waiting for. */
#define LAST_MOMENT_NS UINT64_C(200000000)
/* After the end of its input a process may still tidy up. */
#define FAREWELL_NS UINT64_C(2000000000)
/* Lines that go to the log: at once, and then one every so often. */
#define LINES_AT_ONCE 20
#define LINE_NS       UINT64_C(100000000)

enum { LAST_LINE_SIZE = 201, END_SIZE = 64 };

struct place {
    bool taken;
    bool running; /* a process was started here and has not been ended by us */
    uint32_t item;
    struct fm_program program;
    struct fm_private_memory memory; /* of the process that runs */
    size_t half;                     /* of that memory; 0: there is none */
    bool shares;                     /* it wants to use it */
    struct fm_process_request request;
    struct fm_process_answer answer;
    char last_line[LAST_LINE_SIZE]; /* of its standard error; behind the lock */
};

struct fm_process_pool {
    struct fm_process_pool_options options;
    char *stage;
    struct fm_keeper *keeper;
    struct fm_mutex mutex;
    struct fm_condition freed;
    struct fm_restart restart;   /* behind the lock, as all that follows */
    struct fm_error start_error; /* of the latest start that failed */
    bool memory_told;            /* that there is no memory to share */
    uint64_t lines_ns;           /* up to when lines are paid for */
    uint64_t lines_left_out;
    struct place *places;
};

/* --- The log --- */

/* Whether a line may go out now; how many did not since the last one that did. */
static bool line_allowed(struct fm_process_pool *pool, uint64_t *ret_left_out)
{
    uint64_t now_ns = fm_os_now_ns();
    fm_mutex_lock(&pool->mutex);
    if (pool->lines_ns + LINES_AT_ONCE * LINE_NS < now_ns) {
        pool->lines_ns = now_ns - LINES_AT_ONCE * LINE_NS;
    }
    bool allowed = pool->lines_ns + LINE_NS <= now_ns;
    pool->lines_ns += allowed ? LINE_NS : 0;
    pool->lines_left_out += allowed ? 0 : 1;
    *ret_left_out = pool->lines_left_out;
    pool->lines_left_out = allowed ? 0 : pool->lines_left_out;
    fm_mutex_unlock(&pool->mutex);
    return allowed;
}

static void say(struct fm_process_pool *pool, const char *format, ...) FM_PRINTF(2, 3);
static void say(struct fm_process_pool *pool, const char *format, ...)
{
    char words[FM_KEEPER_LINE_BYTES_MAX + 64];
    char text[sizeof(words) + 160];
    char gap[64] = "";
    uint64_t left_out = 0;
    va_list arguments;
    if (!line_allowed(pool, &left_out)) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    if (left_out > 0) {
        (void)snprintf(gap, sizeof(gap), " (%" PRIu64 " lines were left out before)", left_out);
    }
    (void)snprintf(text, sizeof(text), "stage '%.64s': %s%s", pool->stage, words, gap);
    pool->options.host->log(FM_LOG_WARNING, text);
}

/* On the keeper's thread. */
static void line_come(void *context, uint32_t seat, int process, const char *text)
{
    struct fm_process_pool *pool = context;
    fm_mutex_lock(&pool->mutex);
    (void)snprintf(pool->places[seat].last_line, LAST_LINE_SIZE, "%s", text);
    fm_mutex_unlock(&pool->mutex);
    say(pool, "process %d: %s", process, text);
}

/* "; its last line on standard error: 'ValueError: ...'", or nothing. */
static void last_line_get(struct fm_process_pool *pool, const struct place *place, char *text,
                          size_t size)
{
    fm_mutex_lock(&pool->mutex);
    (void)snprintf(text, size, "%s%s%s",
                   place->last_line[0] != '\0' ? "; its last line on standard error: '" : "",
                   place->last_line, place->last_line[0] != '\0' ? "'" : "");
    fm_mutex_unlock(&pool->mutex);
}

/* --- One process --- */

static uint32_t place_index(const struct fm_process_pool *pool, const struct place *place)
{
    return (uint32_t)(place - pool->places);
}

/* Memory to share with the next process. It only saves copies: where there is none to be had (a
 * filter of system calls, a limit), tensors go through the pipes. */
static void memory_create(struct fm_process_pool *pool, struct place *place)
{
    struct fm_error error = {0};
    place->memory = (struct fm_private_memory){.descriptor = -1};
    place->half = pool->options.memory_half;
    if (place->half == 0 ||
        fm_private_memory_create(2 * place->half, &place->memory, &error) == 0) {
        return;
    }
    place->half = 0;
    fm_mutex_lock(&pool->mutex);
    bool told = pool->memory_told;
    pool->memory_told = true;
    fm_mutex_unlock(&pool->mutex);
    if (!told) {
        say(pool, "%s; tensors go through pipes, which is slower (shared_memory: 0 says so)",
            error.text);
    }
}

static int process_spawn(struct fm_process_pool *pool, struct place *place, struct fm_error *reterr)
{
    struct fm_program_command command = pool->options.command;
    fm_mutex_lock(&pool->mutex);
    place->last_line[0] = '\0';
    fm_mutex_unlock(&pool->mutex);
    /* New for each: the one before may have left somebody who still writes. */
    memory_create(pool, place);
    command.memory = place->memory.descriptor;
    int status =
        fm_keeper_start(pool->keeper, place_index(pool, place), &command, &place->program, reterr);
    fm_private_memory_descriptor_close(&place->memory);
    if (status != 0) {
        fm_private_memory_destroy(&place->memory);
    }
    place->running = status == 0;
    place->shares = false;
    place->item = 0;
    return status;
}

/* Ends it, at kill_ns at the latest, and says how it ended: *ret_killed, by us. */
static void process_end(struct fm_process_pool *pool, struct place *place, uint64_t kill_ns,
                        bool *ret_killed, char how[END_SIZE])
{
    struct fm_program_end end;
    *ret_killed = fm_keeper_end(pool->keeper, place_index(pool, place), kill_ns, &end);
    fm_program_describe(&end, how, END_SIZE);
    fm_program_descriptor_close(&place->program.input);
    fm_program_descriptor_close(&place->program.output);
    fm_private_memory_destroy(&place->memory);
    place->running = false;
}

/*
 * An exchange went wrong: ends the process and finds the words. `doing` is what it was about, as
 * "while it worked on this item"; `limit` the name of the time limit, and its value.
 */
static int process_failed(struct fm_process_pool *pool, struct place *place,
                          enum fm_exchange_end end, const char *doing, const char *limit,
                          uint64_t limit_ns, struct fm_error *reterr)
{
    char how[END_SIZE];
    char line[LAST_LINE_SIZE + 64];
    bool killed = false;
    int process = place->program.process;
    uint64_t kill_ns = end == FM_EXCHANGE_CLOSED ? fm_os_now_ns() + LAST_MOMENT_NS : 0;
    process_end(pool, place, kill_ns, &killed, how);
    last_line_get(pool, place, line, sizeof(line));
    if (end == FM_EXCHANGE_LATE) {
        return fm_error_set(reterr, FM_EDEADLINE,
                            "process %d has not answered within %g s (%s) %s, and was ended%s",
                            process, (double)limit_ns / 1e9, limit, doing, line);
    }
    if (end != FM_EXCHANGE_CLOSED) {
        return fm_error_set(reterr, place->answer.error.status, "process %d was ended %s: %s%s",
                            process, doing, place->answer.error.text, line);
    }
    if (killed) {
        return fm_error_set(reterr, FM_EINTERNAL,
                            "process %d has closed its standard input or output %s, and was "
                            "ended%s",
                            process, doing, line);
    }
    return fm_error_set(reterr, FM_EINTERNAL, "process %d ended with %s %s%s", process, how, doing,
                        line);
}

static int no_output(void *context, uint32_t port, const struct fm_tensor *like, void **ret_data)
{
    (void)context;
    (void)port;
    (void)like;
    (void)ret_data;
    return FM_EINTERNAL;
}

/* Says hello and waits until the process is ready; one that is not is ended. */
static int process_greet(struct fm_process_pool *pool, struct place *place, struct fm_error *reterr)
{
    const struct fm_process_pool_options *options = &pool->options;
    struct fm_process_answer_options expected = {
        .starting = true, .bytes_max = options->answer_bytes_max, .emit = no_output};
    struct fm_text hello = {0};
    bool killed = false;
    char how[END_SIZE];
    fm_process_hello(&hello, pool->stage, options->inputs, options->input_count, options->outputs,
                     options->output_count, place->half);
    if (hello.failed) {
        fm_text_deinit(&hello);
        process_end(pool, place, 0, &killed, how);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a greeting");
    }
    const struct fm_process_piece piece = {hello.data, hello.length};
    fm_process_answer_begin(&place->answer, &expected);
    enum fm_exchange_end end = fm_program_exchange(&place->program, &piece, 1, &place->answer,
                                                   fm_os_now_ns() + options->start_limit_ns);
    fm_text_deinit(&hello);
    if (end != FM_EXCHANGE_DONE) {
        return process_failed(pool, place, end, "while it started", "start_limit",
                              options->start_limit_ns, reterr);
    }
    if (place->answer.frame == FM_PROCESS_FRAME_FAIL) {
        process_end(pool, place, fm_os_now_ns() + LAST_MOMENT_NS, &killed, how);
        return fm_error_set(reterr, FM_EINVAL, "the program refuses to start: %s",
                            place->answer.words);
    }
    place->shares = place->answer.shares && place->half > 0;
    return 0;
}

/* The process of a place that was found to have ended while nobody needed it. */
static void process_bury(struct fm_process_pool *pool, struct place *place)
{
    char how[END_SIZE];
    bool killed = false;
    int process = place->program.process;
    process_end(pool, place, 0, &killed, how);
    say(pool, "process %d ended with %s while it had no item; another one is started", process,
        how);
    fm_mutex_lock(&pool->mutex);
    fm_restart_ended(&pool->restart, fm_os_now_ns());
    fm_mutex_unlock(&pool->mutex);
}

/* May a process be started now? Waits out a pause. FM_EUNAVAILABLE: none can be. */
static int pause_wait(struct fm_process_pool *pool, struct fm_error *reterr)
{
    uint64_t at_ns = 0;
    uint64_t now_ns = fm_os_now_ns();
    struct fm_error cause;
    fm_mutex_lock(&pool->mutex);
    bool may = fm_restart_may(&pool->restart, now_ns, &at_ns);
    cause = pool->start_error;
    fm_mutex_unlock(&pool->mutex);
    if (!may) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "no process can be started, the next try is in %" PRIu64 " s: %s",
                            (at_ns - now_ns) / 1000000000 + 1, cause.text);
    }
    if (at_ns > now_ns) {
        fm_sleep_until(at_ns);
    }
    return 0;
}

/* Sees to it that a process runs on the place. */
static int process_need(struct fm_process_pool *pool, struct place *place, struct fm_error *reterr)
{
    if (place->running && !fm_keeper_runs(pool->keeper, place_index(pool, place))) {
        process_bury(pool, place);
    }
    while (!place->running) {
        struct fm_error error = {0};
        int status = pause_wait(pool, reterr);
        if (status != 0) {
            return status;
        }
        status = process_spawn(pool, place, &error);
        status = status == 0 ? process_greet(pool, place, &error) : status;
        fm_mutex_lock(&pool->mutex);
        if (status == 0) {
            fm_restart_begun(&pool->restart);
        } else {
            fm_restart_failed(&pool->restart, fm_os_now_ns());
            pool->start_error = error;
        }
        fm_mutex_unlock(&pool->mutex);
        if (status != 0) {
            say(pool, "cannot start another process: %s", error.text);
        }
    }
    return 0;
}

/* --- Items --- */

static struct place *place_take(struct fm_process_pool *pool)
{
    struct place *found = NULL;
    fm_mutex_lock(&pool->mutex);
    while (found == NULL) {
        for (uint32_t i = 0; i < pool->options.processes; i++) {
            struct place *place = &pool->places[i];
            /* One with a process is better, since it need not be started. */
            if (!place->taken && (found == NULL || (place->running && !found->running))) {
                found = place;
            }
        }
        if (found == NULL) {
            fm_condition_wait(&pool->freed, &pool->mutex);
        }
    }
    found->taken = true;
    fm_mutex_unlock(&pool->mutex);
    return found;
}

static void place_return(struct fm_process_pool *pool, struct place *place)
{
    fm_mutex_lock(&pool->mutex);
    place->taken = false;
    fm_condition_signal(&pool->freed);
    fm_mutex_unlock(&pool->mutex);
}

static int output_emit(void *context, uint32_t port, const struct fm_tensor *like, void **ret_data)
{
    struct fm_operator_call *call = context;
    return call->emit(call, port, like, ret_data);
}

/* The process has answered, if only that it cannot. */
static int answer_judge(struct fm_process_pool *pool, const struct place *place,
                        struct fm_operator_call *call)
{
    const struct fm_process_answer *answer = &place->answer;
    fm_mutex_lock(&pool->mutex);
    fm_restart_worked(&pool->restart);
    fm_mutex_unlock(&pool->mutex);
    if (answer->frame == FM_PROCESS_FRAME_FAIL) {
        return fm_error_set(&call->error, FM_EINVAL, "%s",
                            answer->words[0] != '\0'
                                ? answer->words
                                : "its process refused the item without words");
    }
    if (answer->item_status != 0 && answer->error.status != 0) {
        call->error = answer->error;
    }
    return answer->item_status;
}

/* The item is tried once. *ret_again: its process ended by itself, nothing of its answer was used.
 */
static int item_try(struct fm_process_pool *pool, struct place *place,
                    struct fm_operator_call *call, bool *ret_again)
{
    const struct fm_process_pool_options *options = &pool->options;
    *ret_again = false;
    int status = process_need(pool, place, &call->error);
    if (status != 0) {
        return status;
    }
    const struct fm_process_memory memory = {.data = place->memory.data, .half = place->half};
    struct fm_process_answer_options expected = {.id = ++place->item,
                                                 .outputs = options->outputs,
                                                 .output_count = options->output_count,
                                                 .bytes_max = options->answer_bytes_max,
                                                 .emit = output_emit,
                                                 .context = call};
    status =
        fm_process_request_make(&place->request, place->item, call->inputs, options->input_count);
    if (status != 0) {
        return fm_error_set(&call->error, status, "out of memory for a request to its process");
    }
    if (place->shares) {
        expected.memory =
            (struct fm_process_memory){.data = memory.data + memory.half, .half = memory.half};
        fm_process_request_share(&place->request, &memory);
    }
    fm_process_answer_begin(&place->answer, &expected);
    enum fm_exchange_end end =
        fm_program_exchange(&place->program, place->request.pieces, place->request.piece_count,
                            &place->answer, fm_os_now_ns() + options->time_limit_ns);
    if (end == FM_EXCHANGE_DONE) {
        return answer_judge(pool, place, call);
    }
    status = process_failed(pool, place, end, "while it worked on an item", "time_limit",
                            options->time_limit_ns, &call->error);
    say(pool, "%s; another one is started", call->error.text);
    fm_mutex_lock(&pool->mutex);
    fm_restart_ended(&pool->restart, fm_os_now_ns());
    fm_mutex_unlock(&pool->mutex);
    *ret_again = end == FM_EXCHANGE_CLOSED && place->answer.emitted == 0;
    return status;
}

int fm_process_pool_run(struct fm_process_pool *pool, struct fm_operator_call *call)
{
    struct place *place = place_take(pool);
    bool again = true;
    int status = 0;
    for (uint32_t i = 0; i < pool->options.attempts && again; i++) {
        status = item_try(pool, place, call, &again);
        if (status != 0 && again && i > 0) {
            (void)fm_error_prefix(&call->error, status, "tried %u times", i + 1);
        }
    }
    place_return(pool, place);
    return status;
}

/* --- Life --- */

/* All at once: their starts take as long as one's. */
static int processes_start(struct fm_process_pool *pool, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < pool->options.processes && status == 0; i++) {
        status = process_spawn(pool, &pool->places[i], reterr);
    }
    for (uint32_t i = 0; i < pool->options.processes && status == 0; i++) {
        status = process_greet(pool, &pool->places[i], reterr);
    }
    return status;
}

int fm_process_pool_start(const struct fm_process_pool_options *options, const char *stage,
                          struct fm_process_pool **ret_pool, struct fm_error *reterr)
{
    struct fm_process_pool *pool = fm_alloc_zero(1, sizeof(*pool));
    if (pool == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for its processes");
    }
    pool->options = *options;
    fm_mutex_init(&pool->mutex);
    fm_condition_init(&pool->freed);
    pool->stage = fm_strdup(stage);
    pool->places = fm_alloc_zero(options->processes, sizeof(pool->places[0]));
    struct fm_keeper_options keeper = {
        .seats = options->processes, .line = line_come, .context = pool};
    int status = 0;
    if (pool->stage == NULL || pool->places == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for its processes");
    }
    status = status == 0 ? fm_keeper_create(&keeper, &pool->keeper, reterr) : status;
    status = status == 0 ? processes_start(pool, reterr) : status;
    if (status != 0) {
        fm_process_pool_stop(pool);
        return status;
    }
    *ret_pool = pool;
    return 0;
}

void fm_process_pool_stop(struct fm_process_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    uint64_t kill_ns = fm_os_now_ns() + FAREWELL_NS;
    for (uint32_t i = 0; pool->places != NULL && i < pool->options.processes; i++) {
        if (pool->places[i].running) {
            fm_program_descriptor_close(&pool->places[i].program.input);
        }
    }
    for (uint32_t i = 0; pool->places != NULL && i < pool->options.processes; i++) {
        bool killed = false;
        char how[END_SIZE];
        if (pool->places[i].running) {
            process_end(pool, &pool->places[i], kill_ns, &killed, how);
        }
        fm_process_request_deinit(&pool->places[i].request);
    }
    fm_keeper_destroy(pool->keeper);
    fm_condition_deinit(&pool->freed);
    fm_mutex_deinit(&pool->mutex);
    fm_free(pool->places);
    fm_free(pool->stage);
    fm_free(pool);
}
