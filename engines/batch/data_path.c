/*
 * The data path of a worker. See data_path.h.
 */
#include "engines/batch/data_path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/plan/memory_budget.h"
#include "core/proto/batch_accelerators.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/block.h"
#include "engines/batch/listing.h"
#include "engines/batch/output.h"
#include "engines/batch/path_meter.h"
#include "engines/batch/remote.h"
#include "host/os/file.h"
#include "host/os/memory_limit.h"
#include "host/os/os.h"
#include "host/os/process_facts.h"
#include "host/os/thread.h"

enum { WRITE_BLOCKS_MAX = 64, BLOCKS_MIN = 2 };
#define NS_PER_MS       UINT64_C(1000000)
#define SLOWEST_OVER_NS (2000 * NS_PER_MS)
#define TUNE_NS         (200 * NS_PER_MS)
/* What a thread's stack counts for against a limit on memory. */
#define THREAD_BYTES (UINT64_C(8) << 20)
/* What an object of unknown size counts with at least; and, until one has come, with as much as it
 * may have. */
#define OBJECT_BYTES_MIN     (UINT64_C(1) << 20)
#define OBJECT_BYTES_UNKNOWN UINT64_MAX
/* Between two looks at the memory of the process. */
#define MEMORY_LOOK_NS (1 * NS_PER_MS)

struct shard_work;

/* A block in flight. Belongs to whoever took it; to the writer when it is finished. */
struct flight {
    struct fm_block block;
    struct fm_data_path *path;
    struct shard_work *shard;
    struct flight *next;      /* free, or to be formatted */
    struct flight *following; /* of its shard */
    uint64_t charged;         /* bytes counted against bytes_in_flight */
    uint64_t expected;        /* bytes counted against the budget of memory */
    uint64_t size;            /* as the budget measures it */
    uint64_t own;             /* bytes that it has outside of the executor */
    bool finished;
};

struct flight_queue {
    struct flight *first;
    struct flight *last;
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
    struct fm_arena arena; /* of the files and their ids */
    struct fm_data_path_row *files;
    struct fm_attempt attempt;
    bool attempt_open;
    uint64_t admitted; /* rows that are in a block */
    uint64_t written;
    uint64_t in_work;     /* blocks whose memory is not free again */
    uint64_t done;        /* rows that have their line ... */
    uint64_t bad;         /* ... and are dead letters */
    struct flight *first; /* blocks in row order, until they are written */
    struct flight *last;
    /* Where files hold rows: how far they were read. Of the thread that reads. */
    bool reading;
    struct fm_source_reader *reader; /* of files[file]; NULL: it is not open */
    size_t file;
    uint64_t file_done; /* rows of it */
    struct fm_data_path_event event;
    struct shard_work *next;
};

/* A thread that reads and formats. */
struct reader {
    struct fm_data_path *path;
    struct fm_thread thread;
    uint32_t number;
};

struct fm_data_path {
    struct fm_data_path_options options;
    struct fm_executor *executor;
    const struct fm_pipeline *pipeline;
    struct fm_block_plan plan;
    struct flight **flights; /* room for as many as there may ever be */
    uint32_t flight_count;
    struct reader *readers; /* likewise */
    uint32_t reader_count;
    struct fm_thread writer;
    bool has_writer;
    struct fm_objects *objects; /* NULL: all rows are files */
    struct fm_tuner *tuner;
    uint64_t tuned_ns;

    struct fm_mutex mutex;
    struct fm_condition work;   /* readers wait here ... */
    uint32_t readers_resting;   /* ... so many */
    bool reader_called;         /* one of them, and it has not looked yet */
    bool reader_due;            /* one of them has something to look for: path_unlock calls it */
    bool writer_due;            /* likewise */
    struct fm_condition parked; /* here those that are too many */
    struct fm_condition ready;  /* the writer */
    struct fm_condition gone;   /* close, for the last shard */
    uint32_t readers_max;       /* that work at once, by the settings */
    uint32_t flights_max;       /* in use at once, by the settings; rows_fetched more of those */
    uint32_t flights_used;
    uint32_t block_rows; /* that are read together, by the settings */
    struct fm_path_meter meter;
    struct flight *free_flights;
    struct flight_queue to_submit; /* fetched */
    struct flight_queue to_format;
    uint64_t object_bytes;     /* what an object of unknown size is expected to have */
    struct shard_work *shards; /* in the order in which they came */
    uint32_t rows_in_flight;
    uint64_t rows_finished;
    uint64_t bytes_in_flight;
    struct fm_memory_budget budget;
    bool warm;             /* memory_base is that of a process that has run something */
    bool memory_short;     /* something waits for the budget, since the last look of the tuner */
    uint64_t memory_base;  /* resident, without anything in work */
    uint64_t memory_known; /* of the blocks in flight, by the last look ... */
    uint64_t memory_most;  /* ... and the most that the process has had above memory_base */
    uint64_t own_bytes;    /* of all flights */
    uint64_t memory_look_ns;
    char batches[FM_ERROR_TEXT_SIZE];                   /* as they are told */
    char accelerators[FM_BATCH_ACCELERATORS_TEXT_SIZE]; /* likewise */
    struct fm_error starvation;                         /* the first; nothing is begun any more */
    bool starvation_told;
    bool ending; /* threads may go */
    struct fm_error failure;
    struct fm_error last_error;
    uint64_t *busy_before; /* by stage: for the slowest */
    uint64_t busy_at_ns;
    const char *slowest_stage;
    double slowest_share;
};

/* --- The lock, and who is called when it is left --- */

static void path_lock(struct fm_data_path *path)
{
    fm_mutex_lock(&path->mutex);
}

/* Whom to call. One reader at a time is enough: it looks at all there is, and has the next one
 * called. The lock is held. */
static void calls_take(struct fm_data_path *path, bool *ret_reader, bool *ret_writer)
{
    *ret_reader = path->reader_due && path->readers_resting > 0 && !path->reader_called;
    *ret_writer = path->writer_due;
    path->reader_called = path->reader_called || *ret_reader;
    path->reader_due = false;
    path->writer_due = false;
}

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

/* Calls when the lock is free, so that nobody wakes only to wait for it. Not for threads that may
 * outlive the path. */
static void path_unlock(struct fm_data_path *path)
{
    bool reader = false;
    bool writer = false;
    calls_take(path, &reader, &writer);
    fm_mutex_unlock(&path->mutex);
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

static struct flight *queue_pop(struct flight_queue *queue)
{
    struct flight *flight = queue->first;
    if (flight != NULL) {
        queue->first = flight->next;
        queue->last = queue->first == NULL ? NULL : queue->last;
        flight->next = NULL;
    }
    return flight;
}

static void charge(struct fm_data_path *path, struct flight *flight, uint64_t bytes)
{
    path->bytes_in_flight += bytes - flight->charged; /* modulo 2^64 it comes out right */
    flight->charged = bytes;
}

/* What the flight has by itself, beside what the executor has of it. */
static void own(struct fm_data_path *path, struct flight *flight, uint64_t bytes)
{
    path->own_bytes += bytes - flight->own; /* likewise */
    flight->own = bytes;
}

static void expect(struct fm_data_path *path, struct flight *flight, uint64_t bytes)
{
    fm_memory_budget_change(&path->budget, flight->expected, bytes);
    flight->expected = bytes;
}

/* Its size is known only now. */
static void expect_more(struct fm_data_path *path, struct flight *flight, uint64_t size)
{
    if (size > flight->size) {
        flight->size = size;
        expect(path, flight, fm_memory_budget_expect(&path->budget, size));
    }
}

/* What the block has taken at its most: a file is there twice when it becomes a tensor, and lines
 * are made while the outputs are there. */
static void learn(struct fm_data_path *path, const struct flight *flight)
{
    const struct fm_block *block = &flight->block;
    if (block->bad == block->row_count && block->request.bytes_most == 0) {
        return; /* it was never run */
    }
    uint64_t read = 2 * block->bytes;
    uint64_t run = block->request.bytes_most + block->lines.capacity;
    run += block->plan->columns != NULL ? block->bytes : 0; /* those inputs are the block's own */
    fm_memory_budget_learn(&path->budget, flight->size, run > read ? run : read);
}

static void flight_free(struct fm_data_path *path, struct flight *flight)
{
    path->rows_in_flight -= flight->block.row_count;
    charge(path, flight, 0);
    own(path, flight, 0);
    fm_memory_budget_end(&path->budget, flight->expected);
    flight->expected = 0;
    flight->shard->in_work--;
    flight->shard = NULL;
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

static struct shard_work *shard_find(const struct fm_data_path *path, uint64_t number)
{
    struct shard_work *shard = path->shards;
    while (shard != NULL && (shard->shard.number != number || shard->abandoned)) {
        shard = shard->next;
    }
    return shard;
}

static void shard_free(struct shard_work *shard)
{
    if (shard->reader != NULL) {
        shard->reader->format->close(shard->reader);
    }
    fm_arena_deinit(&shard->arena);
    fm_free(shard);
}

static void shard_remove(struct fm_data_path *path, struct shard_work *shard)
{
    struct shard_work **link = &path->shards;
    while (*link != shard) {
        link = &(*link)->next;
    }
    *link = shard->next;
    shard_free(shard);
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

/* The block has its lines: the writer's turn. */
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
    learn(path, flight);
    charge(path, flight, block->lines.length);
    own(path, flight, block->lines.capacity + fm_block_rows_bytes(block));
    expect(path, flight, flight->own);
    shard->done += block->row_count;
    shard->bad += block->bad;
    if (block->bad > 0) {
        path->last_error = block->last_error;
    }
    if (shard->abandoned) {
        flight_free(path, flight);
    } else {
        flight->finished = true;
    }
    path->writer_due = true;
}

/* --- Reading and formatting: reader threads --- */

static void request_done(struct fm_request *request)
{
    struct flight *flight = request->user;
    struct fm_data_path *path = flight->path;
    uint64_t bytes = fm_block_outputs_bytes(&flight->block);
    path_lock(path);
    own(path, flight, flight->own + bytes);
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
    queue_push(&path->to_submit, flight);
    path->reader_due = true;
    path_unlock(path);
}

static bool holds_rows(const struct shard_work *shard)
{
    return shard->files[0].row_count > 0;
}

/* Whether the next row, which is a file, is behind an address. */
static bool is_fetched(const struct fm_data_path *path, const struct shard_work *shard,
                       uint64_t row)
{
    return path->objects != NULL && fm_remote_is(path->options.base, shard->files[row].id);
}

/* What is counted for a block before it was read. */
static uint64_t expected_bytes(const struct fm_data_path *path, const struct shard_work *shard)
{
    uint64_t limit = path->options.setup->job->file_bytes_max;
    if (holds_rows(shard)) {
        return 0;
    }
    uint64_t size = shard->files[shard->admitted].size;
    if (size == FM_LISTING_SIZE_UNKNOWN) {
        size = is_fetched(path, shard, shard->admitted) ? path->object_bytes : 0;
    }
    return size < limit ? size : limit;
}

/* Whether a block that is expected to take so much may begin. The first one goes alone where the
 * budget is strict: only then is it known what the process takes by itself. */
static bool budget_allows(struct fm_data_path *path, uint64_t expected)
{
    if (!path->warm && path->flights_used == 0 && fm_memory_budget_knows(&path->budget)) {
        fm_process_memory_release();
        uint64_t resident = fm_memory_resident();
        path->memory_base = resident > path->memory_base ? resident : path->memory_base;
        path->warm = true;
    }
    bool may =
        (path->warm || path->flights_used == 0) && fm_memory_budget_may(&path->budget, expected);
    path->memory_short = path->memory_short || !may;
    return may;
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

/* The next block to read, when there is a free one, and bytes_in_flight and the budget of memory
 * have room for it (one block always may). Its rows are reserved. The lock is held. */
static struct flight *flight_admit(struct fm_data_path *path)
{
    struct shard_work *shard = shard_to_read(path);
    if (shard == NULL || path->failure.status != 0 || path->starvation.status != 0) {
        return NULL;
    }
    bool fetched = path->objects != NULL && is_fetched(path, shard, shard->admitted);
    uint32_t most_flights = path->flights_max + (fetched ? path->options.rows_fetched : 0);
    if (path->free_flights == NULL || path->flights_used >= most_flights) {
        if (!path->meter.full) {
            fm_path_meter_full(&path->meter, fm_os_now_ns(), true);
        }
        return NULL;
    }
    uint64_t bytes = expected_bytes(path, shard);
    uint64_t limit = path->options.setup->job->bytes_in_flight;
    if (path->bytes_in_flight > 0 &&
        (path->bytes_in_flight >= limit || bytes > limit - path->bytes_in_flight)) {
        return NULL;
    }
    uint64_t left = shard->shard.row_count - shard->admitted;
    uint64_t most = holds_rows(shard) ? path->block_rows : 1;
    uint32_t rows = (uint32_t)(left < most ? left : most);
    uint64_t size = holds_rows(shard) ? rows : bytes;
    uint64_t expected = fm_memory_budget_expect(&path->budget, size);
    if (!budget_allows(path, expected)) {
        return NULL;
    }
    struct flight *flight = path->free_flights;
    path->free_flights = flight->next;
    path->flights_used++;
    fm_memory_budget_begin(&path->budget, expected);
    flight->expected = expected;
    flight->size = size;
    flight->next = NULL;
    flight->following = NULL;
    flight->shard = shard;
    flight->block.first_row = shard->shard.first_row + shard->admitted;
    flight->block.row_count = rows;
    if (shard->last != NULL) {
        shard->last->following = flight;
    } else {
        shard->first = flight;
    }
    shard->last = flight;
    charge(path, flight, bytes);
    path->rows_in_flight += rows;
    shard->reading = holds_rows(shard);
    shard->admitted += rows;
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

/* What the next objects are expected to have: as the largest lately, and slowly less. */
static uint64_t object_bytes_next(uint64_t expected, uint64_t had)
{
    uint64_t less = expected != OBJECT_BYTES_UNKNOWN ? expected - expected / 64 : 0;
    less = less > OBJECT_BYTES_MIN ? less : OBJECT_BYTES_MIN;
    return had > less ? had : less;
}

/* What was fetched. False: the block has its lines already. */
static bool flight_go_on(struct fm_data_path *path, struct flight *flight)
{
    struct fm_block *block = &flight->block;
    bool taken = fm_block_fetch_end(block);
    path_lock(path);
    charge(path, flight, block->bytes);
    expect_more(path, flight, block->bytes);
    path->object_bytes = object_bytes_next(path->object_bytes, block->bytes);
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
        charge(path, flight, block->bytes); /* that may be more than was known */
        expect_more(path, flight, block->bytes);
        path_unlock(path);
        return fm_block_submit(block);
    }
    uint32_t reserved = block->row_count;
    bool read = rows_read(path, shard, block);
    path_lock(path);
    shard->admitted -= reserved - block->row_count;
    path->rows_in_flight -= reserved - block->row_count;
    charge(path, flight, block->bytes);
    own(path, flight, fm_block_rows_bytes(block));
    shard->reading = false; /* this thread comes for more itself */
    path_unlock(path);
    return read && fm_block_submit(block);
}

/* How much memory the process has. Called without the lock, and by one thread at a time often
 * enough: the executor's lock comes before this one. */
static void memory_look(struct fm_data_path *path, uint64_t now_ns)
{
    uint64_t known = fm_executor_bytes(path->executor);
    uint64_t resident = fm_memory_resident();
    path_lock(path);
    uint64_t seen = resident > path->memory_base ? resident - path->memory_base : 0;
    path->memory_known = known + path->own_bytes;
    if (path->warm) {
        path->memory_most = seen > path->memory_most ? seen : path->memory_most;
        fm_memory_budget_look(&path->budget, seen, path->memory_known);
    }
    path->memory_look_ns = now_ns;
    path_unlock(path);
}

/* Waits until there may be something to do. The lock is held, as in those below. */
static void reader_rest(struct fm_data_path *path)
{
    fm_path_meter_reader(&path->meter, fm_os_now_ns(), false);
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
static bool more_to_do(const struct fm_data_path *path)
{
    return path->to_format.first != NULL || path->to_submit.first != NULL ||
           (path->free_flights != NULL && shard_to_read(path) != NULL);
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
            flight = queue_pop(&path->to_submit);
            fetched = flight != NULL;
        }
        if (flight == NULL) {
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
        looks = now_ns - path->memory_look_ns >= MEMORY_LOOK_NS;
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
    shard_remove(path, shard);
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

/* --- Orders --- */

static int files_take(struct shard_work *work,
                      int (*get)(void *context, struct fm_data_path_row *ret_row), void *context)
{
    uint64_t rows = 0;
    work->files = fm_arena_alloc(&work->arena, work->shard.row_count * sizeof(*work->files));
    int status = work->files == NULL ? FM_ENOMEM : 0;
    for (size_t i = 0; rows < work->shard.row_count && status == 0; i++) {
        struct fm_data_path_row *file = &work->files[i];
        status = get(context, file);
        if (status == 0) {
            file->id = fm_arena_strdup(&work->arena, file->id);
            status = file->id == NULL ? FM_ENOMEM : 0;
            rows += file->row_count > 0 ? file->row_count : 1;
        }
    }
    return status;
}

int fm_data_path_run(struct fm_data_path *path, const struct fm_shard *shard, const char *reason,
                     int (*get)(void *context, struct fm_data_path_row *ret_row), void *context)
{
    struct shard_work *work = fm_alloc_zero(1, sizeof(*work));
    if (work == NULL) {
        return FM_ENOMEM;
    }
    work->shard = *shard;
    (void)snprintf(work->reason, sizeof(work->reason), "%s", reason);
    fm_blame_read(work->reason, &work->blame);
    fm_arena_init(&work->arena, 0);
    int status = files_take(work, get, context);
    if (status != 0) {
        shard_free(work);
        return status;
    }
    path_lock(path);
    struct shard_work **link = &path->shards;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = work;
    fm_condition_broadcast(&path->work);
    path_unlock(path);
    return 0;
}

/* Cuts off what has not begun, down to keep_rows. The lock is held. */
static uint64_t cut(struct fm_data_path *path, struct shard_work *shard, uint64_t keep_rows)
{
    uint64_t kept = keep_rows > shard->admitted ? keep_rows : shard->admitted;
    if (kept < shard->shard.row_count && shard->state == SHARD_RUNNING) {
        shard->shard.row_count = kept;
        path->writer_due = true; /* that may be all of it */
    }
    return shard->shard.row_count;
}

/* The lock is held. */
static void abandon(struct fm_data_path *path, struct shard_work *shard)
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

uint64_t fm_data_path_shorten(struct fm_data_path *path, uint64_t number, uint64_t keep_rows)
{
    path_lock(path);
    struct shard_work *shard = shard_find(path, number);
    uint64_t kept = shard != NULL ? cut(path, shard, keep_rows) : keep_rows;
    if (kept == 0 && shard != NULL) {
        abandon(path, shard);
    }
    path_unlock(path);
    return kept;
}

void fm_data_path_curtail(struct fm_data_path *path, uint64_t number)
{
    path_lock(path);
    struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        (void)cut(path, shard, 0);
    }
    path_unlock(path);
}

void fm_data_path_abandon(struct fm_data_path *path, uint64_t number)
{
    path_lock(path);
    struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        abandon(path, shard);
    }
    path_unlock(path);
}

bool fm_data_path_poll(struct fm_data_path *path, struct fm_data_path_event *ret_event)
{
    path_lock(path);
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
    path_unlock(path);
    return found;
}

bool fm_data_path_progress(struct fm_data_path *path, uint64_t number,
                           struct fm_master_holding *ret_holding)
{
    path_lock(path);
    const struct shard_work *shard = shard_find(path, number);
    if (shard != NULL) {
        *ret_holding = (struct fm_master_holding){.number = number,
                                                  .epoch = shard->shard.epoch,
                                                  .rows_done = shard->done,
                                                  .rows_bad = shard->bad};
    }
    path_unlock(path);
    return shard != NULL;
}

struct overdue_search {
    struct fm_data_path *path;
    uint64_t before_ns;
    struct fm_data_path_overdue *found;
    size_t count;
    size_t max;
};

/* Under the executor's lock, so that the block stays what it is. */
static bool overdue_visit(void *context, uint32_t stage, uint64_t start_ns,
                          struct fm_request *request)
{
    struct overdue_search *search = context;
    const struct flight *flight = FM_CONTAINER_OF(request, struct flight, block.request);
    if (start_ns >= search->before_ns || search->count == search->max) {
        return false;
    }
    fm_mutex_lock(&search->path->mutex);
    const struct shard_work *shard = flight->shard;
    bool new = true;
    for (size_t i = 0; i < search->count; i++) {
        new = new && search->found[i].number != shard->shard.number;
    }
    if (new) {
        search->found[search->count++] =
            (struct fm_data_path_overdue){.number = shard->shard.number,
                                          .held = !shard->abandoned,
                                          .stage = search->path->plan.stage_names[stage],
                                          .start_ns = start_ns,
                                          .row = flight->block.first_row};
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
        path->slowest_stage = path->plan.stage_names[slowest];
        path->slowest_share = (double)most / (double)total;
    }
}

/* What they have done since the path was opened. */
static void accelerators_get(struct fm_data_path *path)
{
    const struct fm_servable *servable = path->options.setup->servable;
    bool room = true;
    path->accelerators[0] = '\0';
    for (uint32_t i = 0; i < fm_servable_accelerator_count(servable) && room; i++) {
        struct fm_executor_accelerator_stats stats;
        fm_executor_accelerator_stats(path->executor, i, &stats);
        const struct fm_batch_accelerator accelerator = {
            .name = fm_batch_view_of(fm_servable_accelerator_name(servable, i)),
            .busy_ms = stats.busy_ns / 1000000,
            .batches = stats.batches};
        room = fm_batch_accelerator_append(path->accelerators, sizeof(path->accelerators),
                                           &accelerator);
    }
}

static void tuned_get(struct fm_data_path *path, struct fm_batch_tuned *ret_tuned)
{
    struct fm_tuner_settings settings;
    size_t used = 0;
    fm_tuner_settings(path->tuner, &settings);
    path->batches[0] = '\0';
    for (uint32_t i = 0; i < path->pipeline->stage_count; i++) {
        char word[FM_ERROR_TEXT_SIZE];
        int length = snprintf(word, sizeof(word), "%s%.200s %u", used > 0 ? ", " : "",
                              path->plan.stage_names[i], settings.batch[i]);
        if (settings.batch[i] > 0 && used + (size_t)length < sizeof(path->batches)) {
            memcpy(path->batches + used, word, (size_t)length + 1);
            used += (size_t)length;
        }
    }
    accelerators_get(path);
    *ret_tuned = (struct fm_batch_tuned){.readers = settings.readers,
                                         .operators = settings.operators,
                                         .rows = settings.rows,
                                         .batches = fm_batch_view_of(path->batches),
                                         .accelerators = fm_batch_view_of(path->accelerators)};
}

void fm_data_path_stats(struct fm_data_path *path, struct fm_data_path_stats *ret_stats)
{
    slowest_update(path, fm_os_now_ns());
    path_lock(path);
    *ret_stats = (struct fm_data_path_stats){.rows_in_flight = path->rows_in_flight,
                                             .rows_finished = path->rows_finished,
                                             .slowest_stage = path->slowest_stage,
                                             .slowest_share = path->slowest_share,
                                             .last_error = path->last_error,
                                             .memory = {.budget = path->budget.limit_bytes,
                                                        .base = path->memory_base,
                                                        .used = path->budget.seen_bytes,
                                                        .most = path->memory_most,
                                                        .rows = path->memory_known}};
    path_unlock(path);
    tuned_get(path, &ret_stats->tuned);
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

/* More memory than was expected, while rows wait for it: some of it may be the allocator's alone.
 */
static void memory_tidy(struct fm_data_path *path, uint64_t now_ns)
{
    path_lock(path);
    bool short_of_it = path->memory_short && path->budget.seen_bytes > path->memory_known;
    path->memory_short = false;
    path_unlock(path);
    if (short_of_it) {
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
    for (uint32_t i = 0; i < path->pipeline->stage_count; i++) {
        if (settings->batch[i] > 0) {
            fm_executor_batch_max_set(path->executor, i, settings->batch[i]);
        }
    }
    if (settings->operators > 0) {
        (void)fm_executor_operator_threads_set(path->executor, settings->operators);
    }
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

/* More threads only as far as their stacks take no more than an eighth of what memory there is. */
static struct fm_tuner_range threads_within(const struct fm_data_path *path,
                                            struct fm_tuner_range range)
{
    uint64_t limit = path->options.memory_bytes;
    uint64_t used = path->plan.memory_first;
    uint64_t room = limit > used ? (limit - used) / 8 / THREAD_BYTES : 0;
    if (limit > 0 && range.max - range.first > room) {
        range.max = range.first + (uint32_t)room;
    }
    return range;
}

static int tuner_create(struct fm_data_path *path, struct fm_error *reterr)
{
    struct fm_tuner_stage stages[FM_PIPELINE_STAGES_MAX] = {0};
    const struct fm_servable *servable = path->options.setup->servable;
    const struct fm_stage_binding *bindings = fm_servable_bindings(servable);
    struct fm_tuner_options options = {
        .rows = path->options.ranges.rows,
        .readers = threads_within(path, path->options.ranges.readers),
        .operators = threads_within(path, path->options.ranges.operators),
        .rows_step = path->options.setup->block_rows,
        .cpus = fm_os_cpu_count(),
        .stage_count = path->pipeline->stage_count,
        .stages = stages};
    for (uint32_t i = 0; i < options.stage_count; i++) {
        if (bindings[i].model != NULL) {
            stages[i] =
                (struct fm_tuner_stage){.slots = fm_servable_stage_slots(servable, i),
                                        .batch_max = fm_executor_batch_max(path->executor, i)};
        }
    }
    path->tuner = fm_alloc_zero(1, sizeof(*path->tuner));
    path->flights = fm_alloc_zero(blocks_of(path, options.rows.max) + path->options.rows_fetched,
                                  sizeof(struct flight *));
    path->readers = fm_alloc_zero(options.readers.max, sizeof(*path->readers));
    if (path->tuner == NULL || path->flights == NULL || path->readers == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    fm_tuner_init(path->tuner, &options);
    return 0;
}

static void sample_take(struct fm_data_path *path, uint64_t now_ns,
                        struct fm_tuner_sample *ret_sample)
{
    *ret_sample = (struct fm_tuner_sample){.now_ns = now_ns, .cpu_ns = fm_os_cpu_ns()};
    for (uint32_t i = 0; i < path->pipeline->stage_count; i++) {
        struct fm_executor_stage_stats stats;
        fm_executor_stats(path->executor, i, &stats);
        ret_sample->stages[i] = (struct fm_tuner_stage_sample){
            .busy_ns = stats.busy_ns, .batches = stats.batches, .rows = stats.rows};
    }
    path_lock(path);
    fm_path_meter_advance(&path->meter, now_ns);
    ret_sample->rows = path->rows_finished;
    ret_sample->full_ns = path->meter.full_ns;
    ret_sample->readers_busy_ns = path->meter.readers_busy_ns;
    path_unlock(path);
}

void fm_data_path_tune(struct fm_data_path *path, uint64_t now_ns)
{
    struct fm_tuner_sample sample;
    struct fm_error error = {0};
    if (now_ns - path->tuned_ns < TUNE_NS) {
        memory_look(path, now_ns);
        return;
    }
    path->tuned_ns = now_ns;
    memory_tidy(path, now_ns);
    sample_take(path, now_ns, &sample);
    path_lock(path);
    bool works = path->rows_in_flight > 0;
    path_unlock(path);
    if (!works) {
        fm_tuner_pause(path->tuner);
    } else if (fm_tuner_look(path->tuner, &sample)) {
        struct fm_tuner_settings settings;
        fm_tuner_settings(path->tuner, &settings);
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
    path->pipeline = fm_servable_pipeline(options->setup->servable);
    path->busy_at_ns = fm_os_now_ns();
    path->meter.at_ns = path->busy_at_ns;
    fm_mutex_init(&path->mutex);
    fm_condition_init(&path->work);
    fm_condition_init(&path->parked);
    fm_condition_init(&path->ready);
    fm_condition_init(&path->gone);
    path->object_bytes = OBJECT_BYTES_UNKNOWN;
    int status = fm_remote_may_be(options->setup->job)
                     ? fm_remote_open(options->setup->job, &path->objects, reterr)
                     : 0;
    status = status != 0 ? status
                         : fm_block_plan_init(&path->plan, options->setup, options->base, reterr);
    if (status == 0) {
        path->plan.single = options->single;
        path->plan.memory_bytes = options->memory_bytes;
        path->plan.memory_first = fm_memory_limit_used();
        path->memory_base = fm_memory_resident();
        path->warm = !options->memory_budget_strict;
        fm_memory_budget_init(&path->budget, options->memory_budget, options->memory_budget_strict);
        path->busy_before = fm_alloc_zero(path->pipeline->stage_count, sizeof(*path->busy_before));
        status = path->busy_before != NULL ? tuner_create(path, reterr)
                                           : fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    if (status == 0) {
        struct fm_tuner_settings settings;
        fm_tuner_settings(path->tuner, &settings);
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
            abandon(path, shard);
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
    fm_free(path->tuner);
    fm_block_plan_deinit(&path->plan);
    fm_free(path->busy_before);
    fm_condition_deinit(&path->gone);
    fm_condition_deinit(&path->ready);
    fm_condition_deinit(&path->parked);
    fm_condition_deinit(&path->work);
    fm_mutex_deinit(&path->mutex);
    fm_free(path);
}
