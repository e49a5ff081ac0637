/*
 * The data path of a worker. See data_path.h.
 */
#include "engines/batch/data_path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/ledger/blame.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/listing.h"
#include "engines/batch/output.h"
#include "engines/batch/row_format.h"
#include "host/os/file.h"
#include "host/os/memory_limit.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { WRITE_ROWS_MAX = 64, READ_ATTEMPTS_MAX = 3 };
/* A process has grown when it has more than this part of its limit above what it began with. */
enum { GROWN_PART = 8 };
/* So near to the limit, what fails may well fail for lack of memory. */
enum { NEAR_PERCENT = 80 };
#define NS_PER_MS       UINT64_C(1000000)
#define SLOWEST_OVER_NS (2000 * NS_PER_MS)

struct shard_work;

/* One row in flight. Belongs to whoever took it; to the writer when it is finished. */
struct row {
    struct fm_data_path *path;
    struct shard_work *shard;
    struct row *next;
    uint64_t index;   /* in the shard */
    uint64_t charged; /* bytes counted against bytes_in_flight: of its file, then of its line */
    uint64_t start_ns;
    uint32_t attempts;
    bool finished;
    bool good;
    bool starved;           /* there was no memory for it: somebody else may do better */
    uint64_t memory_before; /* of the process, where it is the only row */
    const char *id;         /* the shard's */
    struct fm_request request;
    struct fm_value *inputs;
    struct fm_value *outputs;
    struct fm_stage_timing *timings;
    struct fm_error error;
    const char *failed_stage;
    struct fm_text line;
};

struct row_queue {
    struct row *first;
    struct row *last;
};

enum shard_state {
    SHARD_RUNNING,
    SHARD_SYNCING, /* the writer brings it to the disk */
    SHARD_ENDED,   /* `event` waits to be collected */
};

/* A shard between run and poll. */
struct shard_work {
    struct fm_shard shard; /* row_count: those that are to be run */
    enum shard_state state;
    bool abandoned;
    char reason[FM_SHARD_REASON_SIZE];
    struct fm_blame blame; /* what it says */
    struct fm_arena arena; /* of the ids */
    struct fm_data_path_row *rows;
    struct fm_attempt files;
    bool files_open;
    uint64_t admitted;
    uint64_t written;
    uint64_t in_work;   /* rows admitted whose memory is not free again */
    uint64_t done;      /* rows that have their line ... */
    uint64_t bad;       /* ... and are dead letters */
    struct row **slots; /* rows [written, admitted) by index modulo rows_in_flight */
    struct fm_data_path_event event;
    struct shard_work *next;
};

struct fm_data_path {
    struct fm_data_path_options options;
    struct fm_executor *executor;
    const struct fm_pipeline *pipeline;
    struct fm_row_format format;
    const char **stage_names;
    struct row *rows;
    struct fm_thread *threads; /* readers, then the writer */
    uint32_t thread_count;

    struct fm_mutex mutex;
    struct fm_condition work;  /* readers wait here */
    struct fm_condition ready; /* the writer */
    struct fm_condition gone;  /* close, for the last shard */
    struct row *free_rows;
    struct row_queue to_format;
    struct shard_work *shards; /* in the order in which they came */
    uint32_t in_flight;
    uint64_t rows_finished;
    uint64_t bytes_in_flight;
    uint64_t memory_first;      /* of the process, before the first row */
    struct fm_error starvation; /* the first; nothing is begun any more */
    bool starvation_told;
    bool ending; /* threads may go */
    struct fm_error failure;
    struct fm_error last_error;
    uint64_t *busy_before; /* by stage: for the slowest */
    uint64_t busy_at_ns;
    const char *slowest_stage;
    double slowest_share;
};

/* --- Rows and shards; the lock is held --- */

static void queue_push(struct row_queue *queue, struct row *row)
{
    row->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = row;
    } else {
        queue->first = row;
    }
    queue->last = row;
}

static struct row *queue_pop(struct row_queue *queue)
{
    struct row *row = queue->first;
    if (row != NULL) {
        queue->first = row->next;
        queue->last = queue->first == NULL ? NULL : queue->last;
        row->next = NULL;
    }
    return row;
}

static void row_charge(struct fm_data_path *path, struct row *row, uint64_t bytes)
{
    path->bytes_in_flight = path->bytes_in_flight - row->charged + bytes;
    row->charged = bytes;
}

static void row_free(struct fm_data_path *path, struct row *row)
{
    row_charge(path, row, 0);
    row->shard->in_work--;
    row->shard = NULL;
    row->finished = false;
    fm_text_clear(&row->line);
    row->next = path->free_rows;
    path->free_rows = row;
    path->in_flight--;
    fm_condition_signal(&path->work);
}

static struct shard_work *shard_find(const struct fm_data_path *path, uint64_t number)
{
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->shard.number != number || shard->abandoned)) {
        shard = shard->next;
    }
    return shard;
}

static void shard_remove(struct fm_data_path *path, struct shard_work *shard)
{
    struct shard_work **link = &path->shards;
    while (*link != shard) {
        link = &(*link)->next;
    }
    *link = shard->next;
    fm_arena_deinit(&shard->arena);
    fm_free(shard->slots);
    fm_free(shard);
    if (path->shards == NULL) {
        fm_condition_signal(&path->gone);
    }
}

static void shard_end(struct fm_data_path *path, struct shard_work *shard,
                      enum fm_data_path_event_kind kind)
{
    shard->state = SHARD_ENDED;
    shard->event.kind = kind;
    shard->event.done.number = shard->shard.number;
    shard->event.done.epoch = shard->shard.epoch;
    path->options.wake(path->options.context);
}

/* The first failure is the one that is told. */
static void fail(struct fm_data_path *path, const struct fm_error *error)
{
    if (path->failure.status == 0) {
        path->failure = *error;
    }
    path->options.wake(path->options.context);
}

static void row_drop(struct fm_data_path *path, struct row *row)
{
    row->shard->slots[row->index % path->options.rows_in_flight] = NULL;
    row_free(path, row);
}

/* There was no memory for the row: its shard ends before it, and with that the path. Rows behind it
 * that are in work are dropped when they are through. */
static void starve(struct fm_data_path *path, struct row *row)
{
    struct shard_work *shard = row->shard;
    uint64_t end = row->index < shard->shard.row_count ? row->index : shard->shard.row_count;
    if (path->starvation.status == 0) {
        path->starvation = row->error;
    }
    for (uint64_t i = end; i < shard->admitted; i++) {
        struct row *behind = shard->slots[i % path->options.rows_in_flight];
        if (behind != NULL && (behind == row || behind->finished)) {
            row_drop(path, behind);
        }
    }
    shard->shard.row_count = end;
    fm_condition_signal(&path->ready);
    path->options.wake(path->options.context);
}

/* The row has its line: the writer's turn. */
static void deliver(struct fm_data_path *path, struct row *row)
{
    struct shard_work *shard = row->shard;
    if (row->starved) {
        starve(path, row);
        return;
    }
    if (row->index >= shard->shard.row_count) {
        row_drop(path, row);
        fm_condition_signal(&path->ready);
        return;
    }
    row_charge(path, row, row->line.length);
    path->rows_finished++;
    shard->done++;
    if (!row->good) {
        shard->bad++;
        path->last_error = row->error;
    }
    if (shard->abandoned) {
        row_free(path, row);
    } else {
        row->finished = true;
    }
    fm_condition_signal(&path->ready);
    fm_condition_signal(&path->work); /* bytes_in_flight may have room again */
}

/* --- Reading and formatting: reader threads --- */

static void source_path(const struct row *row, char *ret_path, size_t size)
{
    if (fm_path_join(ret_path, size, row->path->options.base, row->id) != 0) {
        (void)snprintf(ret_path, size, "%s", row->id);
    }
}

static int row_read(struct row *row, char **ret_data, size_t *ret_size)
{
    char path[2 * FM_LISTING_ID_MAX];
    size_t bytes_max = (size_t)row->path->options.job->file_bytes_max;
    source_path(row, path, sizeof(path));
    for (;;) {
        int status = fm_file_read(path, bytes_max, ret_data, ret_size, &row->error);
        row->attempts++;
        bool passing = status == FM_EIO || status == FM_ELIMIT || status == FM_ENOMEM;
        if (status == 0 || !passing || row->attempts == READ_ATTEMPTS_MAX) {
            return status;
        }
        fm_sleep_until(fm_os_now_ns() + 50 * NS_PER_MS * row->attempts);
    }
}

/* A BYTES tensor of one string, in the shape that the port wants: every dimension 1. */
static int input_make(const struct row *row, const char *data, size_t size,
                      struct fm_value *ret_value)
{
    uint32_t count = 0;
    const struct fm_data_path_options *options = &row->path->options;
    const struct fm_port *port = &fm_servable_inputs(options->servable, &count)[options->input];
    int status = fm_value_from_bytes(ret_value, data, size);
    if (status == 0 && port->rank >= 0) {
        ret_value->tensor.rank = (uint32_t)port->rank;
        for (int32_t i = 0; i < port->rank; i++) {
            ret_value->tensor.shape[i] = 1;
        }
    }
    return status;
}

static void request_done(struct fm_request *request)
{
    struct row *row = request->user;
    struct fm_data_path *path = row->path;
    fm_mutex_lock(&path->mutex);
    queue_push(&path->to_format, row);
    fm_condition_signal(&path->work);
    fm_mutex_unlock(&path->mutex);
}

static int row_fail(struct row *row, const char *stage, int status)
{
    row->failed_stage = stage;
    if (row->error.status == 0) {
        (void)fm_error_set(&row->error, status, "%s", fm_status_text(status));
    }
    return status;
}

/* Reads and submits. Not 0: the row has failed and was not submitted. */
static int row_start(struct row *row)
{
    char *data = NULL;
    size_t size = 0;
    struct fm_value *input = &row->inputs[row->path->options.input];
    row->start_ns = fm_os_now_ns();
    row->attempts = 0;
    row->error = (struct fm_error){0};
    row->failed_stage = NULL;
    row->memory_before = row->path->options.single ? fm_memory_limit_used() : 0;
    if (row->shard->shard.condemned) {
        const struct fm_blame *blame = &row->shard->blame;
        int status = fm_error_set(&row->error, blame->status, "%s", blame->words);
        return row_fail(row, blame->stage, status);
    }
    int status = row_read(row, &data, &size);
    if (status == 0 && size == 0) {
        status = fm_error_set(&row->error, FM_ECORRUPT, "the file is empty");
    }
    if (status != 0) {
        fm_free(data);
        return row_fail(row, "read", status);
    }
    row->error = (struct fm_error){0};
    fm_mutex_lock(&row->path->mutex);
    row_charge(row->path, row, size); /* that may be more than was known */
    fm_mutex_unlock(&row->path->mutex);
    status = input_make(row, data, size, input);
    fm_free(data);
    if (status != 0) {
        return row_fail(row, "read", status);
    }
    memset(row->timings, 0, row->path->pipeline->stage_count * sizeof(*row->timings));
    row->request = (struct fm_request){.inputs = row->inputs,
                                       .outputs = row->outputs,
                                       .timings = row->timings,
                                       .rows = 1,
                                       .done = request_done,
                                       .user = row};
    status = fm_executor_submit(row->path->executor, &row->request);
    if (status != 0) {
        row->error = row->request.error;
        fm_value_unref(input);
        return row_fail(row, "input", status);
    }
    return 0;
}

/* A thread needs memory for its stack, and says something else when there is none. */
static bool lacks_memory(const struct row *row)
{
    uint64_t most = row->path->options.memory_bytes;
    return row->error.status == FM_ENOMEM || (row->error.status == FM_ELIMIT && most > 0 &&
                                              fm_memory_limit_used() >= most / 100 * NEAR_PERCENT);
}

/* For lack of memory a row is to blame only where it had all to itself, in a process that had not
 * grown. */
static bool is_starved(const struct row *row)
{
    const struct fm_data_path *path = row->path;
    uint64_t most = path->memory_first + path->options.memory_bytes / GROWN_PART;
    bool grown = path->options.memory_bytes > 0 && row->memory_before > most;
    return row->error.status == FM_ENOMEM && !row->shard->shard.condemned &&
           (!path->options.single || grown);
}

/* The row has failed: it becomes a dead letter, or is left to another process. */
static void letter_write(struct row *row)
{
    char path[2 * FM_LISTING_ID_MAX];
    row->error.status = lacks_memory(row) ? FM_ENOMEM : row->error.status;
    row->starved = is_starved(row);
    if (row->starved) {
        fm_text_clear(&row->line);
        return;
    }
    source_path(row, path, sizeof(path));
    struct fm_dead_letter letter = {.id = row->id,
                                    .source = path,
                                    .row = row->shard->shard.first_row + row->index,
                                    .stage = row->failed_stage,
                                    .status = row->error.status,
                                    .message = row->error.text,
                                    .attempts = row->attempts};
    fm_text_clear(&row->line);
    row->good = false;
    /* Without memory for even this the line stays empty, and the writer takes that as the path's
     * failure. */
    if (fm_row_format_letter(&letter, &row->line) != 0) {
        fm_text_clear(&row->line);
    }
}

static void row_format(struct row *row)
{
    const struct fm_data_path *path = row->path;
    uint64_t stage_ns[FM_PIPELINE_STAGES_MAX];
    int status = row->request.error.status;
    if (status != 0) {
        int stage = row->request.failed_stage;
        row->error = row->request.error;
        row->failed_stage = stage >= 0 ? path->stage_names[stage] : "pipeline";
    } else {
        for (uint32_t i = 0; i < path->pipeline->stage_count; i++) {
            stage_ns[i] = row->timings[i].run_ns;
        }
        status =
            fm_row_format_result(&path->format, row->id, row->outputs, stage_ns,
                                 row->request.done_ns - row->start_ns, &row->line, &row->error);
        row->failed_stage = "write";
        row->good = true;
    }
    for (uint32_t i = 0; i < path->pipeline->output_count; i++) {
        fm_value_unref(&row->outputs[i]);
    }
    if (status != 0) {
        (void)row_fail(row, row->failed_stage, status);
        letter_write(row);
    }
}

/* The next row to read, when there is a free one and bytes_in_flight has room for it (one row
 * always may). The lock is held. */
static struct row *row_admit(struct fm_data_path *path)
{
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->state != SHARD_RUNNING || shard->abandoned ||
                             shard->admitted >= shard->shard.row_count)) {
        shard = shard->next;
    }
    if (shard == NULL || path->free_rows == NULL || path->failure.status != 0 ||
        path->starvation.status != 0) {
        return NULL;
    }
    const struct fm_data_path_row *source = &shard->rows[shard->admitted];
    uint64_t limit = path->options.job->file_bytes_max;
    uint64_t charge = source->size < limit                      ? source->size
                      : source->size == FM_LISTING_SIZE_UNKNOWN ? 0
                                                                : limit;
    if (path->bytes_in_flight > 0 &&
        path->bytes_in_flight + charge > path->options.job->bytes_in_flight) {
        return NULL;
    }
    struct row *row = path->free_rows;
    path->free_rows = row->next;
    path->in_flight++;
    path->bytes_in_flight += charge;
    row->next = NULL;
    row->shard = shard;
    row->charged = charge;
    row->index = shard->admitted;
    row->id = source->id;
    row->good = false;
    row->starved = false;
    shard->slots[shard->admitted % path->options.rows_in_flight] = row;
    shard->admitted++;
    shard->in_work++;
    return row;
}

static void reader_thread(void *argument)
{
    struct fm_data_path *path = argument;
    fm_mutex_lock(&path->mutex);
    for (;;) {
        struct row *row = queue_pop(&path->to_format);
        bool formatting = row != NULL;
        if (row == NULL) {
            row = row_admit(path);
        }
        if (row == NULL) {
            if (path->ending) {
                break;
            }
            fm_condition_wait(&path->work, &path->mutex);
            continue;
        }
        if (!formatting) {
            fm_condition_signal(&path->work); /* there may be more: one wakes the next */
        }
        fm_mutex_unlock(&path->mutex);
        bool finished = formatting;
        if (formatting) {
            row_format(row);
        } else if (row_start(row) != 0) {
            letter_write(row);
            finished = true;
        }
        fm_mutex_lock(&path->mutex);
        if (finished) {
            deliver(path, row);
        }
    }
    fm_mutex_unlock(&path->mutex);
}

/* --- Writing: the writer thread --- */

static struct row *next_line(const struct fm_data_path *path, const struct shard_work *shard)
{
    if (shard->written == shard->admitted || shard->written == shard->shard.row_count ||
        shard->abandoned || path->failure.status != 0) {
        return NULL;
    }
    struct row *row = shard->slots[shard->written % path->options.rows_in_flight];
    return row->finished ? row : NULL;
}

/* Appends the lines that are ready, in order. Called and returns with the lock; works without. */
static void write_lines(struct fm_data_path *path, struct shard_work *shard)
{
    struct row *rows[WRITE_ROWS_MAX];
    struct row *row = NULL;
    size_t count = 0;
    struct fm_error error = {0};
    int status = 0;
    while (count < WRITE_ROWS_MAX && (row = next_line(path, shard)) != NULL) {
        rows[count++] = row;
        shard->written++;
    }
    fm_mutex_unlock(&path->mutex);
    if (!shard->files_open) {
        status = fm_attempt_open(&shard->files, path->options.job->output, shard->shard.number,
                                 shard->shard.epoch, &error);
        shard->files_open = status == 0;
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        if (rows[i]->line.length == 0) {
            status = fm_error_set(&error, FM_ENOMEM, "out of memory for the line of row %" PRIu64,
                                  shard->shard.first_row + rows[i]->index);
            break;
        }
        status = fm_attempt_append(&shard->files, rows[i]->good, rows[i]->line.data,
                                   rows[i]->line.length, &error);
        status =
            status != 0 ? status : fm_fault_hit(path->options.fault, FM_FAULT_ROW_WRITTEN, &error);
    }
    fm_mutex_lock(&path->mutex);
    for (size_t i = 0; i < count; i++) {
        row_free(path, rows[i]);
    }
    if (status != 0) {
        fail(path, &error);
    }
}

/* All lines are there: on the disk with it. Called and returns with the lock; works without. */
static void sync_files(struct fm_data_path *path, struct shard_work *shard)
{
    struct fm_shard_record record = {.shard = shard->shard};
    struct fm_error error = {0};
    shard->state = SHARD_SYNCING;
    fm_mutex_unlock(&path->mutex);
    int status = fm_fault_hit(path->options.fault, FM_FAULT_BEFORE_SYNC, &error);
    status = status != 0 ? status : fm_attempt_sync(&shard->files, &record, &error);
    status =
        status != 0 ? status : fm_fault_hit(path->options.fault, FM_FAULT_BEFORE_COMMIT, &error);
    fm_mutex_lock(&path->mutex);
    if (status != 0) {
        fail(path, &error);
        return;
    }
    shard->event.done = (struct fm_master_done){.rows_out = record.shard.rows_out,
                                                .dead_letters = record.shard.dead_letters,
                                                .files = record.files};
    shard_end(path, shard, FM_DATA_PATH_DONE);
}

/* The last trace of a shard that nobody wants. Called and returns with the lock. */
static void throw_away(struct fm_data_path *path, struct shard_work *shard)
{
    struct fm_attempt files = shard->files;
    bool open = shard->files_open;
    shard_remove(path, shard);
    fm_mutex_unlock(&path->mutex);
    if (open) {
        fm_attempt_abandon(&files);
    }
    fm_mutex_lock(&path->mutex);
}

/* Something to do for one shard. False: nothing. */
static bool write_step(struct fm_data_path *path)
{
    for (struct shard_work *shard = path->shards; shard != NULL; shard = shard->next) {
        if (shard->abandoned && shard->in_work == 0) {
            throw_away(path, shard);
            return true;
        }
        if (next_line(path, shard) != NULL) {
            write_lines(path, shard);
            return true;
        }
        if (shard->state == SHARD_RUNNING && !shard->abandoned && path->failure.status == 0 &&
            shard->written == shard->shard.row_count && shard->in_work == 0) {
            if (shard->written > 0) {
                sync_files(path, shard);
            } else {
                shard_end(path, shard, FM_DATA_PATH_RELEASED);
            }
            return true;
        }
    }
    return false;
}

static void writer_thread(void *argument)
{
    struct fm_data_path *path = argument;
    fm_mutex_lock(&path->mutex);
    for (;;) {
        if (write_step(path)) {
            continue;
        }
        if (path->ending && path->shards == NULL) {
            break;
        }
        fm_condition_wait(&path->ready, &path->mutex);
    }
    fm_mutex_unlock(&path->mutex);
}

/* --- Orders --- */

static int rows_take(struct shard_work *work,
                     int (*get)(void *context, uint64_t index, struct fm_data_path_row *ret_row),
                     void *context)
{
    uint64_t count = work->shard.row_count;
    work->rows = fm_arena_alloc(&work->arena, count * sizeof(*work->rows));
    int status = work->rows == NULL ? FM_ENOMEM : 0;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        status = get(context, i, &work->rows[i]);
        if (status == 0) {
            work->rows[i].id = fm_arena_strdup(&work->arena, work->rows[i].id);
            status = work->rows[i].id == NULL ? FM_ENOMEM : 0;
        }
    }
    return status;
}

int fm_data_path_run(struct fm_data_path *path, const struct fm_shard *shard, const char *reason,
                     int (*get)(void *context, uint64_t index, struct fm_data_path_row *ret_row),
                     void *context)
{
    struct shard_work *work = fm_alloc_zero(1, sizeof(*work));
    if (work == NULL) {
        return FM_ENOMEM;
    }
    work->shard = *shard;
    work->slots = fm_alloc_zero(path->options.rows_in_flight, sizeof(struct row *));
    (void)snprintf(work->reason, sizeof(work->reason), "%s", reason);
    fm_blame_read(work->reason, &work->blame);
    fm_arena_init(&work->arena, 0);
    int status = work->slots == NULL ? FM_ENOMEM : rows_take(work, get, context);
    if (status != 0) {
        fm_arena_deinit(&work->arena);
        fm_free(work->slots);
        fm_free(work);
        return status;
    }
    fm_mutex_lock(&path->mutex);
    struct shard_work **link = &path->shards;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = work;
    fm_condition_broadcast(&path->work);
    fm_mutex_unlock(&path->mutex);
    return 0;
}

/* Cuts off what has not begun, down to keep_rows. The lock is held. */
static uint64_t cut(struct fm_data_path *path, struct shard_work *shard, uint64_t keep_rows)
{
    uint64_t kept = keep_rows > shard->admitted ? keep_rows : shard->admitted;
    if (kept < shard->shard.row_count && shard->state == SHARD_RUNNING) {
        shard->shard.row_count = kept;
        fm_condition_signal(&path->ready); /* that may be all of it */
    }
    return shard->shard.row_count;
}

/* The lock is held. */
static void abandon(struct fm_data_path *path, struct shard_work *shard)
{
    shard->abandoned = true;
    for (uint64_t i = shard->written; i < shard->admitted; i++) {
        struct row *row = shard->slots[i % path->options.rows_in_flight];
        if (row != NULL && row->finished) {
            row_drop(path, row);
        }
    }
    fm_condition_signal(&path->ready);
}

uint64_t fm_data_path_shorten(struct fm_data_path *path, uint64_t number, uint64_t keep_rows)
{
    fm_mutex_lock(&path->mutex);
    struct shard_work *shard = shard_find(path, number);
    uint64_t kept = shard != NULL ? cut(path, shard, keep_rows) : keep_rows;
    if (kept == 0 && shard != NULL) {
        abandon(path, shard);
    }
    fm_mutex_unlock(&path->mutex);
    return kept;
}

void fm_data_path_curtail(struct fm_data_path *path, uint64_t number)
{
    fm_mutex_lock(&path->mutex);
    struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        (void)cut(path, shard, 0);
    }
    fm_mutex_unlock(&path->mutex);
}

void fm_data_path_abandon(struct fm_data_path *path, uint64_t number)
{
    fm_mutex_lock(&path->mutex);
    struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        abandon(path, shard);
    }
    fm_mutex_unlock(&path->mutex);
}

bool fm_data_path_poll(struct fm_data_path *path, struct fm_data_path_event *ret_event)
{
    fm_mutex_lock(&path->mutex);
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->state != SHARD_ENDED || shard->abandoned)) {
        shard = shard->next;
    }
    bool found = shard != NULL;
    if (shard != NULL) {
        *ret_event = shard->event;
        shard_remove(path, shard);
    } else if (path->starvation.status != 0 && !path->starvation_told) {
        path->starvation_told = true;
        *ret_event =
            (struct fm_data_path_event){.kind = FM_DATA_PATH_STARVED, .error = path->starvation};
        found = true;
    } else if (path->failure.status != 0) {
        *ret_event =
            (struct fm_data_path_event){.kind = FM_DATA_PATH_BROKEN, .error = path->failure};
        found = true;
    }
    fm_mutex_unlock(&path->mutex);
    return found;
}

bool fm_data_path_progress(struct fm_data_path *path, uint64_t number,
                           struct fm_master_holding *ret_holding)
{
    fm_mutex_lock(&path->mutex);
    const struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        *ret_holding = (struct fm_master_holding){.number = number,
                                                  .epoch = shard->shard.epoch,
                                                  .rows_done = shard->done,
                                                  .rows_bad = shard->bad};
    }
    fm_mutex_unlock(&path->mutex);
    return shard != NULL;
}

struct overdue_search {
    struct fm_data_path *path;
    uint64_t before_ns;
    struct fm_data_path_overdue *found;
    size_t count;
    size_t max;
};

/* Under the executor's lock, so that the row stays what it is. */
static bool overdue_visit(void *context, uint32_t stage, uint64_t start_ns,
                          struct fm_request *request)
{
    struct overdue_search *search = context;
    const struct row *row = request->user;
    if (start_ns >= search->before_ns || search->count == search->max) {
        return false;
    }
    fm_mutex_lock(&search->path->mutex);
    const struct shard_work *shard = row->shard;
    bool new = true;
    for (size_t i = 0; i < search->count; i++) {
        new = new && search->found[i].number != shard->shard.number;
    }
    if (new) {
        search->found[search->count++] =
            (struct fm_data_path_overdue){.number = shard->shard.number,
                                          .held = !shard->abandoned,
                                          .stage = search->path->stage_names[stage],
                                          .start_ns = start_ns,
                                          .row = shard->shard.first_row + row->index};
    }
    fm_mutex_unlock(&search->path->mutex);
    return true;
}

size_t fm_data_path_overdue(struct fm_data_path *path, uint64_t before_ns,
                            struct fm_data_path_overdue *ret_overdue, size_t max)
{
    struct overdue_search search = {
        .path = path, .before_ns = before_ns, .found = ret_overdue, .max = max};
    fm_executor_running(path->executor, overdue_visit, &search);
    return search.count;
}

/* The stage that used most of the computing time since the last look. */
static void slowest_update(struct fm_data_path *path, uint64_t now_ns)
{
    uint64_t total = 0;
    uint64_t most = 0;
    uint32_t slowest = 0;
    if (now_ns - path->busy_at_ns < SLOWEST_OVER_NS) {
        return;
    }
    for (uint32_t i = 0; i < path->pipeline->stage_count; i++) {
        struct fm_executor_stage_stats stats;
        fm_executor_stats(path->executor, i, &stats);
        uint64_t busy = stats.busy_ns - path->busy_before[i];
        path->busy_before[i] = stats.busy_ns;
        total += busy;
        if (busy > most) {
            most = busy;
            slowest = i;
        }
    }
    path->busy_at_ns = now_ns;
    if (total > 0) {
        path->slowest_stage = path->stage_names[slowest];
        path->slowest_share = (double)most / (double)total;
    }
}

void fm_data_path_stats(struct fm_data_path *path, struct fm_data_path_stats *ret_stats)
{
    slowest_update(path, fm_os_now_ns());
    fm_mutex_lock(&path->mutex);
    *ret_stats = (struct fm_data_path_stats){.rows_in_flight = path->in_flight,
                                             .rows_finished = path->rows_finished,
                                             .slowest_stage = path->slowest_stage,
                                             .slowest_share = path->slowest_share,
                                             .last_error = path->last_error};
    fm_mutex_unlock(&path->mutex);
}

/* --- Life --- */

static int rows_create(struct fm_data_path *path, struct fm_error *reterr)
{
    uint32_t input_count = 0;
    uint32_t count = path->options.rows_in_flight;
    (void)fm_servable_inputs(path->options.servable, &input_count);
    path->rows = fm_alloc_zero(count, sizeof(*path->rows));
    for (uint32_t i = 0; path->rows != NULL && i < count; i++) {
        struct row *row = &path->rows[i];
        row->path = path;
        row->inputs = fm_alloc_zero(input_count, sizeof(*row->inputs));
        row->outputs = fm_alloc_zero(path->pipeline->output_count, sizeof(*row->outputs));
        row->timings = fm_alloc_zero(path->pipeline->stage_count, sizeof(*row->timings));
        if (row->inputs == NULL || row->outputs == NULL || row->timings == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for %u rows in flight", count);
        }
        row->next = path->free_rows;
        path->free_rows = row;
    }
    return path->rows != NULL
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "out of memory for %u rows in flight", count);
}

static int names_create(struct fm_data_path *path, struct fm_error *reterr)
{
    uint32_t count = path->pipeline->stage_count;
    path->stage_names = fm_alloc_zero(count, sizeof(*path->stage_names));
    path->busy_before = fm_alloc_zero(count, sizeof(*path->busy_before));
    if (path->stage_names == NULL || path->busy_before == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_stage_spec *spec = path->pipeline->stages[i].spec;
        path->stage_names[i] = spec->items_have_rows ? spec->target : spec->name;
    }
    path->format.outputs = fm_servable_outputs(path->options.servable, &path->format.output_count);
    path->format.strip_rows = path->pipeline->stages[0].spec->items_have_rows &&
                              path->pipeline->stages[0].ports.batch_max > 0;
    path->format.bytes = path->options.job->bytes;
    path->format.timings = path->options.job->timings;
    path->format.stage_names = path->stage_names;
    path->format.stage_count = count;
    return 0;
}

static int threads_start(struct fm_data_path *path, struct fm_error *reterr)
{
    uint32_t readers = path->options.job->read_threads;
    path->threads = fm_alloc_zero(readers + 1, sizeof(*path->threads));
    if (path->threads == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for threads");
    }
    for (uint32_t i = 0; i <= readers; i++) {
        int status = fm_thread_start(&path->threads[i], i < readers ? "fm-read" : "fm-write",
                                     i < readers ? reader_thread : writer_thread, path);
        if (status != 0) {
            return fm_error_set(reterr, status, "cannot start thread %u of %u", i + 1, readers + 1);
        }
        path->thread_count++;
    }
    return 0;
}

int fm_data_path_open(const struct fm_data_path_options *options, struct fm_data_path **ret_path,
                      struct fm_error *reterr)
{
    struct fm_data_path *path = fm_alloc_zero(1, sizeof(*path));
    if (path == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    path->options = *options;
    path->executor = fm_servable_executor(options->servable);
    path->pipeline = fm_servable_pipeline(options->servable);
    path->busy_at_ns = fm_os_now_ns();
    path->memory_first = fm_memory_limit_used();
    fm_mutex_init(&path->mutex);
    fm_condition_init(&path->work);
    fm_condition_init(&path->ready);
    fm_condition_init(&path->gone);
    int status = names_create(path, reterr);
    status = status != 0 ? status : fm_row_format_check(&path->format, reterr);
    status = status != 0 ? status : rows_create(path, reterr);
    status = status != 0 ? status : threads_start(path, reterr);
    if (status != 0) {
        fm_data_path_close(path);
        return status;
    }
    *ret_path = path;
    return 0;
}

bool fm_data_path_drain(struct fm_data_path *path, uint64_t until_ns)
{
    bool waits = true;
    fm_mutex_lock(&path->mutex);
    for (struct shard_work *shard = path->shards; shard != NULL; shard = shard->next) {
        if (!shard->abandoned) {
            abandon(path, shard);
        }
    }
    while (path->shards != NULL && waits) {
        waits = fm_condition_wait_until(&path->gone, &path->mutex, until_ns);
    }
    bool drained = path->shards == NULL;
    fm_mutex_unlock(&path->mutex);
    return drained;
}

void fm_data_path_close(struct fm_data_path *path)
{
    if (path == NULL) {
        return;
    }
    while (!fm_data_path_drain(path, UINT64_MAX)) {
    }
    fm_mutex_lock(&path->mutex);
    path->ending = true;
    fm_condition_broadcast(&path->work);
    fm_condition_broadcast(&path->ready);
    fm_mutex_unlock(&path->mutex);
    for (uint32_t i = 0; i < path->thread_count; i++) {
        fm_thread_join(&path->threads[i]);
    }
    for (uint32_t i = 0; path->rows != NULL && i < path->options.rows_in_flight; i++) {
        fm_text_deinit(&path->rows[i].line);
        fm_free(path->rows[i].inputs);
        fm_free(path->rows[i].outputs);
        fm_free(path->rows[i].timings);
    }
    fm_free(path->rows);
    fm_free(path->threads);
    fm_free(path->stage_names);
    fm_free(path->busy_before);
    fm_condition_deinit(&path->gone);
    fm_condition_deinit(&path->ready);
    fm_condition_deinit(&path->work);
    fm_mutex_deinit(&path->mutex);
    fm_free(path);
}
