/*
 * Group commit on a thread. See store_writer.h.
 */
#include "host/store/store_writer.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/thread.h"

struct records {
    struct fm_shard_record *items;
    size_t count;
    size_t capacity;
};

struct fm_store_writer {
    struct fm_job_store *store;
    fm_store_writer_stored_fn *on_stored;
    void *context;
    struct fm_thread thread;
    struct records writing; /* the thread's */
    /* The mutex guards what follows. */
    struct fm_mutex mutex;
    struct fm_condition wake;
    struct records waiting;
    uint64_t sequence; /* of the last record that was pushed */
    int failed;        /* nothing is stored any more */
    bool stopping;
};

static int records_append(struct records *records, const struct fm_shard_record *items,
                          size_t count)
{
    size_t wanted = records->count + count;
    if (wanted > records->capacity) {
        size_t capacity = records->capacity * 2 > wanted ? records->capacity * 2 : wanted;
        if (capacity > SIZE_MAX / sizeof(*items)) {
            return FM_ENOMEM;
        }
        struct fm_shard_record *grown = fm_realloc(records->items, capacity * sizeof(*items));
        if (grown == NULL) {
            return FM_ENOMEM;
        }
        records->items = grown;
        records->capacity = capacity;
    }
    memcpy(records->items + records->count, items, count * sizeof(*items));
    records->count = wanted;
    return 0;
}

/* Waits for something to store, and takes all of it; false: there is nothing, and the writer is
 * being stopped. */
static bool take_all(struct fm_store_writer *writer, uint64_t *ret_sequence)
{
    fm_mutex_lock(&writer->mutex);
    while (writer->waiting.count == 0 && !writer->stopping) {
        fm_condition_wait(&writer->wake, &writer->mutex);
    }
    struct records empty = writer->writing;
    empty.count = 0;
    writer->writing = writer->waiting;
    writer->waiting = empty;
    *ret_sequence = writer->sequence;
    fm_mutex_unlock(&writer->mutex);
    return writer->writing.count > 0;
}

static void fail(struct fm_store_writer *writer, int status)
{
    fm_mutex_lock(&writer->mutex);
    writer->failed = status;
    writer->waiting.count = 0; /* they stand on what has not been stored */
    fm_mutex_unlock(&writer->mutex);
}

static void run(void *argument)
{
    struct fm_store_writer *writer = argument;
    uint64_t sequence = 0;
    while (take_all(writer, &sequence)) {
        struct fm_error error;
        fm_error_init(&error);
        int status = writer->store->functions->put(writer->store, writer->writing.items,
                                                   writer->writing.count, &error);
        if (status != 0) {
            if (error.status == 0) {
                (void)fm_error_set(&error, status, "the job's ledger cannot be stored");
            }
            fail(writer, status);
            writer->on_stored(writer->context, sequence, status, &error);
            return;
        }
        writer->on_stored(writer->context, sequence, 0, NULL);
    }
}

static void destroy(struct fm_store_writer *writer)
{
    fm_condition_deinit(&writer->wake);
    fm_mutex_deinit(&writer->mutex);
    fm_free(writer->writing.items);
    fm_free(writer->waiting.items);
    fm_free(writer);
}

int fm_store_writer_start(struct fm_job_store *store, fm_store_writer_stored_fn *on_stored,
                          void *context, struct fm_store_writer **ret_writer,
                          struct fm_error *reterr)
{
    struct fm_store_writer *writer = fm_alloc_zero(1, sizeof(*writer));
    if (writer == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the job's ledger");
    }
    writer->store = store;
    writer->on_stored = on_stored;
    writer->context = context;
    fm_mutex_init(&writer->mutex);
    fm_condition_init(&writer->wake);
    int status = fm_thread_start(&writer->thread, "fm-store", run, writer);
    if (status != 0) {
        destroy(writer);
        return fm_error_set(reterr, status, "cannot start the thread that stores the job's ledger");
    }
    *ret_writer = writer;
    return 0;
}

int fm_store_writer_push(struct fm_store_writer *writer, const struct fm_shard_record *records,
                         size_t count, uint64_t sequence)
{
    FM_ASSERT(count > 0);
    fm_mutex_lock(&writer->mutex);
    FM_ASSERT(sequence > writer->sequence);
    size_t there = writer->waiting.count;
    int status = writer->failed;
    if (status == 0 && there > 0 &&
        (there >= FM_STORE_WRITER_RECORDS_MAX || count > FM_STORE_WRITER_RECORDS_MAX - there)) {
        status = FM_EAGAIN;
    }
    status = status != 0 ? status : records_append(&writer->waiting, records, count);
    if (status == 0) {
        writer->sequence = sequence;
        if (there == 0) {
            fm_condition_signal(&writer->wake);
        }
    }
    fm_mutex_unlock(&writer->mutex);
    return status;
}

void fm_store_writer_stop(struct fm_store_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    fm_mutex_lock(&writer->mutex);
    writer->stopping = true;
    fm_condition_signal(&writer->wake);
    fm_mutex_unlock(&writer->mutex);
    fm_thread_join(&writer->thread);
    destroy(writer);
}

size_t fm_store_writer_waiting(struct fm_store_writer *writer)
{
    fm_mutex_lock(&writer->mutex);
    size_t count = writer->waiting.count;
    fm_mutex_unlock(&writer->mutex);
    return count;
}
