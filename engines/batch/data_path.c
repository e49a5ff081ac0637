/*
 * The data path of a worker. See data_path.h.
 */
#include "engines/batch/data_path_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/listing.h"
#include "engines/batch/remote.h"
#include "host/os/file.h"
#include "host/os/memory_limit.h"
#include "host/os/os.h"
#include "host/os/process_facts.h"

enum { WRITE_BLOCKS_MAX = 64, BLOCKS_MIN = 2 };

/* --- Who is called when the lock is left --- */

/* Calls with the lock held: where the caller waits, or may outlive the path. */
static void calls_make(struct fm_data_path *path)
{
    bool reader = false;
    bool writer = false;
    calls_take(path, &reader, &writer);
    if (reader) {
        fm_condition_signal(&path->work);
    }
    if (writer) {
        fm_condition_signal(&path->ready);
    }
}

/* --- Rows and shards; the lock is held --- */

static void queue_push(struct flight_queue *queue, struct flight *flight)
{
    flight->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = flight;
    } else {
        queue->first = flight;
    }
    queue->last = flight;
}

/* The one behind `before`; NULL: the first one. */
static struct flight *queue_take(struct flight_queue *queue, struct flight *before)
{
    struct flight **link = before != NULL ? &before->next : &queue->first;
    struct flight *flight = *link;
    if (flight != NULL) {
        *link = flight->next;
        queue->last = queue->last == flight ? before : queue->last;
        flight->next = NULL;
    }
    return flight;
}

static struct flight *queue_pop(struct flight_queue *queue)
{
    return queue_take(queue, NULL);
}

static void flight_free(struct fm_data_path *path, struct flight *flight)
{
    path->rows_in_flight -= flight->block.row_count;
    fm_path_memory_end(&path->memory, &flight->piece);
    flight->shard->in_work--;
    flight->shard = NULL;
    path->flights_finished -= flight->finished ? 1 : 0;
    flight->finished = false;
    fm_block_clear(&flight->block);
    flight->next = path->free_flights;
    path->free_flights = flight;
    path->flights_used--;
    if (path->meter.full) {
        fm_path_meter_full(&path->meter, fm_os_now_ns(), false);
    }
    path->reader_due = true;
}

void fm_data_path_shard_free(struct shard_work *shard)
{
    if (shard->reader != NULL) {
        shard->reader->format->close(shard->reader);
    }
    fm_arena_deinit(&shard->arena);
    fm_free(shard);
}

void fm_data_path_shard_remove(struct fm_data_path *path, struct shard_work *shard)
{
    struct shard_work **link = &path->shards;
    while (*link != shard) {
        link = &(*link)->next;
    }
    *link = shard->next;
    fm_data_path_shard_free(shard);
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

void fm_data_path_shard_abandon(struct fm_data_path *path, struct shard_work *shard)
{
    struct flight *flight = shard->first;
    shard->abandoned = true;
    shard->first = NULL;
    shard->last = NULL;
    while (flight != NULL) {
        struct flight *following = flight->following;
        if (flight->finished) {
            flight_free(path, flight);
        }
        flight = following;
    }
    path->writer_due = true;
}

/* Takes the block out of its shard, whose rows it has not done. */
static void flight_drop(struct fm_data_path *path, struct flight *flight)
{
    struct shard_work *shard = flight->shard;
    struct flight **link = &shard->first;
    struct flight *before = NULL;
    while (*link != flight) {
        before = *link;
        link = &before->following;
    }
    *link = flight->following;
    shard->last = shard->last == flight ? before : shard->last;
    if (flight->finished) { /* they were counted */
        shard->done -= flight->block.row_count;
        shard->bad -= flight->block.bad;
    }
    flight_free(path, flight);
}

/* Where a block begins in its shard. */
static uint64_t offset_of(const struct flight *flight)
{
    return flight->block.first_row - flight->shard->shard.first_row;
}

/* There was no memory for the block: its shard ends before it, and with that the path. Blocks
 * behind it that are in work are dropped when they are through. */
static void starve(struct fm_data_path *path, struct flight *starved)
{
    struct shard_work *shard = starved->shard;
    uint64_t from = offset_of(starved);
    if (path->starvation.status == 0) {
        path->starvation = starved->block.starvation;
    }
    shard->shard.row_count = from < shard->shard.row_count ? from : shard->shard.row_count;
    struct flight *flight = shard->first;
    while (flight != NULL) {
        struct flight *following = flight->following;
        if (flight == starved || (flight->finished && offset_of(flight) >= from)) {
            flight_drop(path, flight);
        }
        flight = following;
    }
    path->writer_due = true;
    path->options.wake(path->options.context);
}

static bool holds_rows(const struct shard_work *shard)
{
    return shard->files[0].row_count > 0;
}

/* Whether it is the writer's turn. For blocks of records, of which thousands may come in a second,
 * it comes for several at once, unless they are the last of their shard. */
static bool is_worth_writing(const struct fm_data_path *path, const struct shard_work *shard)
{
    return shard->abandoned || !holds_rows(shard) || shard->done >= shard->shard.row_count ||
           path->flights_finished >= (path->flights_used + 3) / 4;
}

/* The block has its lines. */
static void deliver(struct fm_data_path *path, struct flight *flight)
{
    struct shard_work *shard = flight->shard;
    const struct fm_block *block = &flight->block;
    if (block->starved && !shard->abandoned) {
        starve(path, flight);
        return;
    }
    if (!shard->abandoned && offset_of(flight) >= shard->shard.row_count) {
        flight_drop(path, flight);
        path->writer_due = true;
        return;
    }
    path->rows_finished += block->row_count;
    fm_path_memory_through(&path->memory, &flight->piece, block);
    shard->done += block->row_count;
    shard->bad += block->bad;
    if (block->bad > 0) {
        path->last_error = block->last_error;
    }
    if (shard->abandoned) {
        flight_free(path, flight);
    } else {
        flight->finished = true;
        path->flights_finished++;
    }
    path->writer_due = path->writer_due || is_worth_writing(path, shard);
}

/* --- Reading and formatting: reader threads --- */

static void request_done(struct fm_request *request)
{
    struct flight *flight = request->user;
    struct fm_data_path *path = flight->path;
    uint64_t bytes = fm_block_outputs_bytes(&flight->block);
    path_lock(path);
    fm_path_memory_own(&path->memory, &flight->piece, flight->piece.own_bytes + bytes);
    queue_push(&path->to_format, flight);
    path->reader_due = true;
    calls_make(path); /* the path may end as soon as the lock is free */
    fm_mutex_unlock(&path->mutex);
}

static void fetch_done(struct fm_fetch *fetch)
{
    struct flight *flight = FM_CONTAINER_OF(fetch, struct flight, block.fetch);
    struct fm_data_path *path = flight->path;
    path_lock(path);
    fm_path_memory_own(&path->memory, &flight->piece, fetch->body.length);
    queue_push(&path->to_submit, flight);
    path->reader_due = true;
    path_unlock(path);
}

/* Whether the next row, which is a file, is behind an address. */
static bool is_fetched(const struct fm_data_path *path, const struct shard_work *shard,
                       uint64_t row)
{
    return path->objects != NULL && fm_remote_is(path->options.base, shard->files[row].id);
}

/* What the next block has, as far as it is known before it was read. */
static uint64_t size_next(const struct fm_data_path *path, const struct shard_work *shard)
{
    uint64_t limit = path->options.setup->job->file_bytes_max;
    uint64_t left = shard->shard.row_count - shard->admitted;
    if (holds_rows(shard)) {
        return left < path->block_rows ? left : path->block_rows;
    }
    uint64_t size = shard->files[shard->admitted].size;
    if (size == FM_LISTING_SIZE_UNKNOWN) {
        return is_fetched(path, shard, shard->admitted) ? FM_MEMORY_SIZE_UNKNOWN : 0;
    }
    return size < limit ? size : limit;
}

/* What is counted for it against bytes_in_flight. */
static uint64_t bytes_next(const struct fm_data_path *path, const struct shard_work *shard,
                           uint64_t size)
{
    if (holds_rows(shard)) {
        return 0;
    }
    return size != FM_MEMORY_SIZE_UNKNOWN
               ? size
               : fm_memory_budget_late_size(&path->memory.budget,
                                            path->options.setup->job->file_bytes_max);
}

/* The shard that a row may be read of next, or NULL. The lock is held. */
static struct shard_work *shard_to_read(const struct fm_data_path *path)
{
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->state != SHARD_RUNNING || shard->abandoned || shard->reading ||
                             shard->admitted >= shard->shard.row_count)) {
        shard = shard->next;
    }
    return shard;
}

/* A block that may begin. */
struct admission {
    struct shard_work *shard;
    uint32_t rows;
    uint64_t size;  /* as the budget knows it */
    uint64_t bytes; /* what is counted for it before it was read */
};

/* The next block to read, when there is a free one, and bytes_in_flight and the budget of memory
 * have room for it (one block always may). The lock is held. */
static bool admission_find(struct fm_data_path *path, struct admission *ret_admission)
{
    struct shard_work *shard = shard_to_read(path);
    if (shard == NULL || path->failure.status != 0 || path->starvation.status != 0) {
        return false;
    }
    bool fetched = path->objects != NULL && is_fetched(path, shard, shard->admitted);
    uint32_t most_flights = path->flights_max + (fetched ? path->options.rows_fetched : 0);
    if (path->free_flights == NULL || path->flights_used >= most_flights) {
        if (!path->meter.full) {
            fm_path_meter_full(&path->meter, fm_os_now_ns(), true);
        }
        return false;
    }
    uint64_t size = size_next(path, shard);
    uint32_t rows = holds_rows(shard) ? (uint32_t)size : 1;
    uint64_t bytes = bytes_next(path, shard, size);
    uint64_t limit = path->options.setup->job->bytes_in_flight;
    uint64_t charged = path->memory.bytes_in_flight;
    if (charged > 0 && (charged >= limit || bytes > limit - charged)) {
        return false;
    }
    *ret_admission = (struct admission){.shard = shard, .rows = rows, .size = size, .bytes = bytes};
    return fm_path_memory_may(&path->memory, size);
}

/* Begins a block, whose rows are reserved by that. NULL: none may begin. The lock is held. */
static struct flight *flight_admit(struct fm_data_path *path)
{
    struct admission admission;
    if (!admission_find(path, &admission)) {
        return NULL;
    }
    struct shard_work *shard = admission.shard;
    struct flight *flight = path->free_flights;
    path->free_flights = flight->next;
    path->flights_used++;
    fm_memory_budget_begin(&path->memory.budget, &flight->piece.piece, admission.size);
    fm_path_memory_charge(&path->memory, &flight->piece, admission.bytes);
    flight->next = NULL;
    flight->following = NULL;
    flight->shard = shard;
    flight->block.first_row = shard->shard.first_row + shard->admitted;
    flight->block.row_count = admission.rows;
    if (shard->last != NULL) {
        shard->last->following = flight;
    } else {
        shard->first = flight;
    }
    shard->last = flight;
    path->rows_in_flight += admission.rows;
    shard->reading = holds_rows(shard);
    shard->admitted += admission.rows;
    shard->in_work++;
    return flight;
}

/* The reader of the file at hand, where the next rows begin. */
static int file_open(const struct fm_data_path *path, struct shard_work *shard,
                     struct fm_error *reterr)
{
    const struct fm_data_path_row *file = &shard->files[shard->file];
    const struct fm_source_format *format = path->options.setup->source.format;
    char name[2 * FM_LISTING_ID_MAX];
    if (fm_path_join(name, sizeof(name), path->options.base, file->id) != 0) {
        (void)snprintf(name, sizeof(name), "%s", file->id);
    }
    int status =
        format->open(&path->options.setup->source, name, &file->point, &shard->reader, reterr);
    if (status == 0) {
        uint64_t at = file->first_row + shard->file_done;
        status = format->skip(shard->reader, at - file->point.row, reterr);
    }
    return status;
}

static void file_close(struct shard_work *shard)
{
    if (shard->reader != NULL) {
        shard->reader->format->close(shard->reader);
        shard->reader = NULL;
    }
}

/* Fills a block with the rows that were reserved for it, or with as many as there are together. One
 * at least: rows that cannot be had are bad ones. False: the block has its lines. */
static bool rows_read(const struct fm_data_path *path, struct shard_work *shard,
                      struct fm_block *block)
{
    const struct fm_data_path_row *file = &shard->files[shard->file];
    struct fm_error error = {0};
    uint64_t left = file->row_count - shard->file_done;
    uint32_t rows = left < block->row_count ? (uint32_t)left : block->row_count;
    uint64_t row = block->first_row;
    uint64_t file_row = file->first_row + shard->file_done;
    if (shard->shard.condemned) {
        fm_block_condemn(block, file->id, row, file_row, &shard->blame);
        return false;
    }
    int status = shard->reader == NULL ? file_open(path, shard, &error) : 0;
    status = status != 0
                 ? status
                 : fm_block_read(block, shard->reader, file->id, row, file_row, rows, &error);
    if (status == 0 && block->row_count == 0) {
        status = fm_error_set(&error, FM_ENOTFOUND,
                              "the file has fewer rows than when the job was begun");
    }
    if (status != 0) {
        file_close(shard);
        fm_block_clear(block);
        fm_block_fail(block, file->id, row, file_row, rows, &error);
    }
    shard->file_done += block->row_count;
    if (shard->file_done == file->row_count) {
        file_close(shard);
        shard->file++;
        shard->file_done = 0;
    }
    return status == 0;
}

/* The block was read, and has so much. The lock is held. */
static void flight_was_read(struct fm_data_path *path, struct flight *flight)
{
    const struct fm_block *block = &flight->block;
    bool rows = holds_rows(flight->shard);
    fm_path_memory_charge(&path->memory, &flight->piece, block->bytes);
    fm_path_memory_own(&path->memory, &flight->piece, fm_block_rows_bytes(block));
    fm_memory_budget_go_on(&path->memory.budget, &flight->piece.piece,
                           rows ? block->row_count : block->bytes);
}

/* The next block that was fetched and for which there is memory. It may overtake others: one of
 * them may wait for just this one. The lock is held. */
static struct flight *fetched_find(struct fm_data_path *path, struct flight **ret_before)
{
    struct flight *flight = path->to_submit.first;
    *ret_before = NULL;
    while (flight != NULL && !fm_memory_budget_may_go_on(&path->memory.budget, &flight->piece.piece,
                                                         flight->block.fetch.body.length)) {
        *ret_before = flight;
        flight = flight->next;
    }
    return flight;
}

static struct flight *flight_fetched(struct fm_data_path *path)
{
    struct flight *before = NULL;
    return fetched_find(path, &before) != NULL ? queue_take(&path->to_submit, before) : NULL;
}

/* What was fetched. False: the block has its lines already. */
static bool flight_go_on(struct fm_data_path *path, struct flight *flight)
{
    struct fm_block *block = &flight->block;
    bool taken = fm_block_fetch_end(block);
    path_lock(path);
    flight_was_read(path, flight);
    path_unlock(path);
    return taken && fm_block_submit(block);
}

/* Reads and submits. False: the block has its lines already. */
static bool flight_start(struct fm_data_path *path, struct flight *flight)
{
    struct shard_work *shard = flight->shard;
    struct fm_block *block = &flight->block;
    if (!holds_rows(shard)) {
        uint64_t row = block->first_row;
        const char *id = shard->files[row - shard->shard.first_row].id;
        if (shard->shard.condemned) {
            fm_block_condemn(block, id, row, 0, &shard->blame);
            return false;
        }
        if (is_fetched(path, shard, row - shard->shard.first_row)) {
            fm_block_fetch_begin(block, path->objects, id, row);
            return true;
        }
        if (!fm_block_read_file(block, id, row)) {
            return false;
        }
        path_lock(path);
        flight_was_read(path, flight); /* that may be more than was known, or less */
        path_unlock(path);
        return fm_block_submit(block);
    }
    uint32_t reserved = block->row_count;
    bool read = rows_read(path, shard, block);
    path_lock(path);
    shard->admitted -= reserved - block->row_count;
    path->rows_in_flight -= reserved - block->row_count;
    flight_was_read(path, flight);
    shard->reading = false; /* this thread comes for more itself */
    path_unlock(path);
    return read && fm_block_submit(block);
}

/* How much memory the process has. Called without the lock, which comes after the executor's. Some
 * reader does it after a row when the last look was a millisecond ago, and who tunes. */
static void memory_look(struct fm_data_path *path, uint64_t now_ns)
{
    struct fm_path_measure measure;
    fm_path_memory_measure(path->executor, &measure);
    path_lock(path);
    fm_path_memory_look(&path->memory, &measure, now_ns);
    path->reader_due = path->reader_due || path->memory.budget.waits; /* there may be room now */
    path_unlock(path);
}

/* Waits until there may be something to do. The lock is held, as in those below. */
static void reader_rest(struct fm_data_path *path)
{
    fm_path_meter_reader(&path->meter, fm_os_now_ns(), false);
    /* What others wait for may be the memory of blocks that are finished. */
    path->writer_due = path->writer_due || path->memory.budget.waits;
    calls_make(path);
    path->readers_resting++;
    fm_condition_wait(&path->work, &path->mutex);
    path->readers_resting--;
    path->reader_called = false;
    fm_path_meter_reader(&path->meter, fm_os_now_ns(), true);
}

/* Waits until it is not one too many. */
static void reader_park(struct fm_data_path *path)
{
    fm_path_meter_reader(&path->meter, fm_os_now_ns(), false);
    path->reader_due = true; /* another one looks in its place */
    calls_make(path);
    fm_condition_wait(&path->parked, &path->mutex);
    fm_path_meter_reader(&path->meter, fm_os_now_ns(), true);
}

/* Whether another reader would find something. */
static bool more_to_do(struct fm_data_path *path)
{
    struct admission next;
    struct flight *before = NULL;
    return path->to_format.first != NULL || fetched_find(path, &before) != NULL ||
           (path->to_submit.first == NULL && admission_find(path, &next));
}

static void reader_thread(void *argument)
{
    const struct reader *reader = argument;
    struct fm_data_path *path = reader->path;
    bool looks = true;
    path_lock(path);
    fm_path_meter_reader(&path->meter, fm_os_now_ns(), true);
    for (;;) {
        if (reader->number >= path->readers_max && !path->ending) {
            reader_park(path);
            continue;
        }
        struct flight *flight = queue_pop(&path->to_format);
        bool formatting = flight != NULL;
        bool fetched = false;
        if (flight == NULL) {
            flight = flight_fetched(path);
            fetched = flight != NULL;
        }
        if (flight == NULL && path->to_submit.first == NULL) {
            flight = flight_admit(path);
        }
        if (flight == NULL) {
            if (path->ending) {
                break;
            }
            reader_rest(path);
            continue;
        }
        path->reader_due = more_to_do(path);
        path_unlock(path);
        bool finished = formatting;
        if (formatting) {
            fm_block_finish(&flight->block);
        } else if (fetched) {
            finished = !flight_go_on(path, flight);
        } else {
            finished = !flight_start(path, flight);
        }
        uint64_t now_ns = fm_os_now_ns();
        if (looks) {
            memory_look(path, now_ns);
        }
        path_lock(path);
        looks = fm_path_memory_is_due(&path->memory, now_ns);
        if (finished) {
            deliver(path, flight);
        }
    }
    path_unlock(path);
}

/* --- Writing: the writer thread --- */

static struct flight *next_lines(const struct fm_data_path *path, const struct shard_work *shard)
{
    struct flight *first = shard->first;
    return shard->abandoned || path->failure.status != 0 || first == NULL || !first->finished
               ? NULL
               : first;
}

/* Lines of one kind that follow each other go in one piece; with a fault to be reached each goes by
 * itself. */
static int block_write(struct fm_data_path *path, struct shard_work *shard,
                       const struct fm_block *block, struct fm_error *reterr)
{
    const char *lines = block->lines.data;
    uint32_t from = 0;
    size_t size = 0;
    int status = 0;
    if (block->sealed) {
        status = fm_attempt_append_sealed(&shard->attempt, block->row_count, lines,
                                          block->lines.length, reterr);
        for (uint32_t i = 0; i < block->row_count && status == 0; i++) {
            status = fm_fault_hit(path->options.fault, FM_FAULT_ROW_WRITTEN, reterr);
        }
        return status;
    }
    for (uint32_t i = 0; i < block->row_count && status == 0; i++) {
        const struct fm_block_line *line = &block->line[i];
        if (line->size == 0) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the line of row %" PRIu64,
                                block->first_row + i);
        }
        size += line->size;
        if (i + 1 < block->row_count && line[1].good == line->good && path->options.fault == NULL) {
            continue;
        }
        status = fm_attempt_append(&shard->attempt, line->good, i + 1 - from, lines, size, reterr);
        status =
            status != 0 ? status : fm_fault_hit(path->options.fault, FM_FAULT_ROW_WRITTEN, reterr);
        lines += size;
        from = i + 1;
        size = 0;
    }
    return status;
}

/* Appends the lines that are ready, in order. Called and returns with the lock; works without. */
static void write_lines(struct fm_data_path *path, struct shard_work *shard)
{
    struct flight *flights[WRITE_BLOCKS_MAX];
    struct flight *flight = NULL;
    size_t count = 0;
    struct fm_error error = {0};
    int status = 0;
    while (count < WRITE_BLOCKS_MAX && (flight = next_lines(path, shard)) != NULL) {
        flights[count++] = flight;
        shard->first = flight->following;
        shard->last = shard->first == NULL ? NULL : shard->last;
        shard->written += flight->block.row_count;
    }
    path_unlock(path);
    if (!shard->attempt_open) {
        status =
            fm_attempt_open(&shard->attempt, path->options.setup->job->output, &path->plan.format,
                            shard->shard.number, shard->shard.epoch, &error);
        shard->attempt_open = status == 0;
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        status = block_write(path, shard, &flights[i]->block, &error);
    }
    path_lock(path);
    for (size_t i = 0; i < count; i++) {
        flight_free(path, flights[i]);
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
    path_unlock(path);
    int status = fm_fault_hit(path->options.fault, FM_FAULT_BEFORE_SYNC, &error);
    status = status != 0 ? status : fm_attempt_sync(&shard->attempt, &record, &error);
    status =
        status != 0 ? status : fm_fault_hit(path->options.fault, FM_FAULT_BEFORE_COMMIT, &error);
    path_lock(path);
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
    struct fm_attempt attempt = shard->attempt;
    bool open = shard->attempt_open;
    fm_data_path_shard_remove(path, shard);
    path_unlock(path);
    if (open) {
        fm_attempt_abandon(&attempt);
    }
    path_lock(path);
}

/* Something to do for one shard. False: nothing. */
static bool write_step(struct fm_data_path *path)
{
    for (struct shard_work *shard = path->shards; shard != NULL; shard = shard->next) {
        if (shard->abandoned && shard->in_work == 0) {
            throw_away(path, shard);
            return true;
        }
        if (next_lines(path, shard) != NULL) {
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
    path_lock(path);
    for (;;) {
        if (write_step(path)) {
            continue;
        }
        if (path->ending && path->shards == NULL) {
            break;
        }
        calls_make(path);
        fm_condition_wait(&path->ready, &path->mutex);
    }
    path_unlock(path);
}

/* --- Life --- */

/* Up to so many. */
static int flights_create(struct fm_data_path *path, uint32_t wanted, struct fm_error *reterr)
{
    uint32_t rows_max = path->options.setup->block_rows;
    for (uint32_t i = path->flight_count; i < wanted; i++) {
        struct flight *flight = fm_alloc_zero(1, sizeof(*flight));
        int status = flight == NULL ? FM_ENOMEM
                                    : fm_block_init(&flight->block, &path->plan, rows_max,
                                                    request_done, flight);
        if (status != 0) {
            fm_free(flight);
            return fm_error_set(reterr, status, "out of memory for %u blocks of %u rows", wanted,
                                rows_max);
        }
        flight->path = path;
        flight->block.fetch.done = fetch_done;
        path->flights[path->flight_count++] = flight;
        path_lock(path);
        flight->next = path->free_flights;
        path->free_flights = flight;
        path_unlock(path);
    }
    return 0;
}

/* Likewise. */
static int readers_start(struct fm_data_path *path, uint32_t wanted, struct fm_error *reterr)
{
    for (uint32_t i = path->reader_count; i < wanted; i++) {
        path->readers[i] = (struct reader){.path = path, .number = i};
        int status =
            fm_thread_start(&path->readers[i].thread, "fm-read", reader_thread, &path->readers[i]);
        if (status != 0) {
            return fm_error_set(reterr, status, "cannot start reader %u of %u", i + 1, wanted);
        }
        path->reader_count++;
    }
    return 0;
}

static uint32_t blocks_of(const struct fm_data_path *path, uint32_t rows)
{
    uint32_t rows_max = path->options.setup->block_rows;
    uint32_t blocks = (rows + rows_max - 1) / rows_max;
    return blocks > BLOCKS_MIN ? blocks : BLOCKS_MIN;
}

/* Some of what the process has may be the allocator's alone. */
static void memory_tidy(struct fm_data_path *path, uint64_t now_ns)
{
    path_lock(path);
    bool trims = fm_memory_budget_trims(&path->memory.budget);
    path_unlock(path);
    if (trims) {
        fm_process_memory_release();
    }
    memory_look(path, now_ns);
    path_lock(path);
    path->reader_due = true;
    path_unlock(path);
}

/* What the settings say, as far as there are memory and threads for it. */
static int settings_apply(struct fm_data_path *path, const struct fm_tuner_settings *settings,
                          struct fm_error *reterr)
{
    uint32_t blocks = blocks_of(path, settings->rows);
    int status = flights_create(path, blocks + path->options.rows_fetched, reterr);
    bool batched = path->options.setup->batched;
    fm_path_tuner_apply(path->tuner, settings);
    path_lock(path);
    uint32_t rows_max = path->options.setup->block_rows;
    uint32_t batch = batched ? settings->batch[0] : 1;
    path->block_rows = batch < rows_max ? batch : rows_max;
    path->readers_max = settings->readers;
    path->flights_max = blocks;
    fm_path_meter_full(&path->meter, fm_os_now_ns(), path->flights_used >= blocks);
    fm_condition_broadcast(&path->work); /* those that are too many go and park */
    fm_condition_broadcast(&path->parked);
    path_unlock(path);
    return status != 0 ? status : readers_start(path, settings->readers, reterr);
}

static int tuner_create(struct fm_data_path *path, struct fm_error *reterr)
{
    const struct fm_path_tuner_options options = {.plan = &path->plan,
                                                  .ranges = path->options.ranges};
    int status = fm_path_tuner_open(&options, &path->tuner, reterr);
    if (status != 0) {
        return status;
    }
    uint32_t blocks = blocks_of(path, fm_path_tuner_rows_max(path->tuner));
    path->flights = fm_alloc_zero(blocks + path->options.rows_fetched, sizeof(struct flight *));
    path->readers = fm_alloc_zero(fm_path_tuner_readers_max(path->tuner), sizeof(*path->readers));
    return path->flights != NULL && path->readers != NULL
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

void fm_data_path_tune(struct fm_data_path *path, uint64_t now_ns)
{
    struct fm_tuner_sample sample = {0};
    struct fm_error error = {0};
    if (!fm_path_tuner_is_due(path->tuner, now_ns)) {
        memory_look(path, now_ns);
        return;
    }
    memory_tidy(path, now_ns);
    path_lock(path);
    fm_path_meter_advance(&path->meter, now_ns);
    sample.rows = path->rows_finished;
    sample.full_ns = path->meter.full_ns;
    sample.readers_busy_ns = path->meter.readers_busy_ns;
    bool works = path->rows_in_flight > 0;
    path_unlock(path);
    if (fm_path_tuner_look(path->tuner, now_ns, works, &sample)) {
        struct fm_tuner_settings settings;
        fm_path_tuner_settings(path->tuner, &settings);
        /* Where threads or memory are at their end, it goes on with what there is; that it brings
         * nothing the tuner will see. */
        (void)settings_apply(path, &settings, &error);
    }
}

int fm_data_path_open(const struct fm_data_path_options *options, struct fm_data_path **ret_path,
                      struct fm_error *reterr)
{
    struct fm_data_path *path = fm_alloc_zero(1, sizeof(*path));
    if (path == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    path->options = *options;
    path->executor = fm_servable_executor(options->setup->servable);
    path->meter.at_ns = fm_os_now_ns();
    fm_mutex_init(&path->mutex);
    fm_condition_init(&path->work);
    fm_condition_init(&path->parked);
    fm_condition_init(&path->ready);
    fm_condition_init(&path->gone);
    int status = fm_remote_may_be(options->setup->job)
                     ? fm_remote_open(options->setup->job, &path->objects, reterr)
                     : 0;
    status = status != 0 ? status
                         : fm_block_plan_init(&path->plan, options->setup, options->base, reterr);
    if (status == 0) {
        path->plan.single = options->single;
        path->plan.memory_bytes = options->memory_bytes;
        path->plan.memory_first = fm_memory_limit_used();
        fm_path_memory_init(&path->memory, options->memory_budget, options->memory_budget_strict);
        status = fm_stage_watch_init(&path->watch, path->plan.stage_names,
                                     fm_servable_pipeline(options->setup->servable)->stage_count,
                                     path->meter.at_ns);
        status = status == 0 ? tuner_create(path, reterr)
                             : fm_error_set(reterr, status, "out of memory");
    }
    if (status == 0) {
        struct fm_tuner_settings settings;
        fm_path_tuner_settings(path->tuner, &settings);
        status = settings_apply(path, &settings, reterr);
    }
    if (status == 0) {
        status = fm_thread_start(&path->writer, "fm-write", writer_thread, path);
        path->has_writer = status == 0;
        status =
            status == 0 ? 0 : fm_error_set(reterr, status, "cannot start the thread that writes");
    }
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
    path_lock(path);
    for (struct shard_work *shard = path->shards; shard != NULL; shard = shard->next) {
        if (!shard->abandoned) {
            fm_data_path_shard_abandon(path, shard);
        }
    }
    path_unlock(path);
    fm_objects_cancel(path->objects);
    path_lock(path);
    while (path->shards != NULL && waits) {
        waits = fm_condition_wait_until(&path->gone, &path->mutex, until_ns);
    }
    bool drained = path->shards == NULL;
    path_unlock(path);
    return drained;
}

void fm_data_path_close(struct fm_data_path *path)
{
    if (path == NULL) {
        return;
    }
    while (!fm_data_path_drain(path, UINT64_MAX)) {
    }
    path_lock(path);
    path->ending = true;
    fm_condition_broadcast(&path->work);
    fm_condition_broadcast(&path->parked);
    fm_condition_broadcast(&path->ready);
    path_unlock(path);
    for (uint32_t i = 0; i < path->reader_count; i++) {
        fm_thread_join(&path->readers[i].thread);
    }
    if (path->has_writer) {
        fm_thread_join(&path->writer);
    }
    fm_objects_close(path->objects);
    for (uint32_t i = 0; i < path->flight_count; i++) {
        fm_block_deinit(&path->flights[i]->block);
        fm_free(path->flights[i]);
    }
    fm_free(path->flights);
    fm_free(path->readers);
    fm_path_tuner_close(path->tuner);
    fm_block_plan_deinit(&path->plan);
    fm_stage_watch_deinit(&path->watch);
    fm_condition_deinit(&path->gone);
    fm_condition_deinit(&path->ready);
    fm_condition_deinit(&path->parked);
    fm_condition_deinit(&path->work);
    fm_mutex_deinit(&path->mutex);
    fm_free(path);
}
