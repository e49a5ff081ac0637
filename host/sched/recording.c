/*
 * Steps into buffers, buffers into a file. See recording.h.
 */
#include "host/sched/recording.h"

#include <stdatomic.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/thread.h"

/* A buffer goes to the file so often, however little is in it. */
#define HAND_OVER_NS UINT64_C(1000000000)

/* Written when `size` is set, free again when it is 0. */
struct buffer {
    void *data;
    _Atomic size_t size;
};

struct fm_recording {
    struct fm_file_writer file;
    struct fm_thread thread;
    struct fm_parker parker;
    _Atomic bool stopping;
    _Atomic bool failed; /* the file's side */
    struct fm_error file_error;
    struct buffer buffers[FM_RECORDING_BUFFERS];
    _Atomic uint64_t bytes;
    _Atomic uint64_t steps;

    /* Who steps. */
    struct fm_sched_record_writer writer;
    uint32_t current;
    uint64_t handed_ns;
    _Atomic bool ended;
    struct fm_error error;
};

/* --- the file's side ---------------------------------------------------------------------------
 */

static void buffers_write(struct fm_recording *recording, uint32_t *next)
{
    for (;;) {
        struct buffer *buffer = &recording->buffers[*next];
        size_t size = atomic_load_explicit(&buffer->size, memory_order_acquire);
        if (size == 0) {
            return;
        }
        if (!atomic_load_explicit(&recording->failed, memory_order_relaxed)) {
            if (fm_file_writer_append(&recording->file, buffer->data, size,
                                      &recording->file_error) == 0) {
                atomic_fetch_add_explicit(&recording->bytes, size, memory_order_relaxed);
            } else {
                atomic_store_explicit(&recording->failed, true, memory_order_release);
            }
        }
        atomic_store_explicit(&buffer->size, 0, memory_order_release);
        *next = (*next + 1) % FM_RECORDING_BUFFERS;
    }
}

static void writer_run(void *argument)
{
    struct fm_recording *recording = argument;
    uint32_t next = 0;
    for (;;) {
        fm_parker_prepare(&recording->parker);
        bool stopping = atomic_load_explicit(&recording->stopping, memory_order_acquire);
        buffers_write(recording, &next);
        if (stopping) {
            return;
        }
        fm_parker_park(&recording->parker, FM_PARKER_FOREVER);
    }
}

/* --- who steps ---------------------------------------------------------------------------------
 */

static void end_early(struct fm_recording *recording)
{
    atomic_store_explicit(&recording->ended, true, memory_order_release);
}

/* Gives the buffer to the file and takes the next one. */
static void hand_over(struct fm_recording *recording)
{
    size_t size;
    (void)fm_sched_record_take(&recording->writer, &size);
    recording->handed_ns = fm_os_now_ns();
    if (size == 0) {
        return;
    }
    atomic_store_explicit(&recording->buffers[recording->current].size, size, memory_order_release);
    fm_parker_wake(&recording->parker);
    recording->current = (recording->current + 1) % FM_RECORDING_BUFFERS;
    struct buffer *buffer = &recording->buffers[recording->current];
    if (atomic_load_explicit(&recording->failed, memory_order_acquire)) {
        end_early(recording);
    } else if (atomic_load_explicit(&buffer->size, memory_order_acquire) != 0) {
        (void)fm_error_set(&recording->error, FM_ELIMIT,
                           "'%.400s' is written more slowly than the scheduler goes on",
                           recording->file.path);
        end_early(recording);
    } else {
        fm_sched_record_buffer_set(&recording->writer, buffer->data, FM_RECORDING_BUFFER_BYTES);
    }
}

void fm_recording_step(struct fm_recording *recording, const struct fm_sched_record_step *step)
{
    if (atomic_load_explicit(&recording->ended, memory_order_relaxed)) {
        return;
    }
    size_t bound = fm_sched_record_step_bound(step);
    if (recording->writer.capacity - recording->writer.length < bound ||
        fm_os_now_ns() - recording->handed_ns > HAND_OVER_NS) {
        hand_over(recording);
    }
    if (atomic_load_explicit(&recording->ended, memory_order_relaxed)) {
        return;
    }
    if (fm_sched_record_write(&recording->writer, step, &recording->error) != 0) {
        end_early(recording);
        return;
    }
    atomic_fetch_add_explicit(&recording->steps, 1, memory_order_relaxed);
}

/* Why it ended. Not before. */
static int failure_get(const struct fm_recording *recording, struct fm_error *reterr)
{
    const struct fm_error *error = atomic_load_explicit(&recording->failed, memory_order_acquire)
                                       ? &recording->file_error
                                       : &recording->error;
    if (error->status != 0 && reterr != NULL) {
        *reterr = *error;
    }
    return error->status;
}

int fm_recording_flush(struct fm_recording *recording, struct fm_error *reterr)
{
    if (!atomic_load_explicit(&recording->ended, memory_order_relaxed)) {
        hand_over(recording);
    }
    if (atomic_load_explicit(&recording->failed, memory_order_acquire)) {
        end_early(recording);
    }
    return atomic_load_explicit(&recording->ended, memory_order_relaxed)
               ? failure_get(recording, reterr)
               : 0;
}

/* --- life --------------------------------------------------------------------------------------
 */

static void recording_free(struct fm_recording *recording)
{
    for (uint32_t i = 0; i < FM_RECORDING_BUFFERS; i++) {
        fm_free(recording->buffers[i].data);
    }
    fm_free(recording);
}

static int begin(struct fm_recording *recording, const char *path,
                 const struct fm_sched_record_header *header, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    for (uint32_t i = 0; i < FM_RECORDING_BUFFERS; i++) {
        recording->buffers[i].data = fm_alloc(FM_RECORDING_BUFFER_BYTES);
        if (recording->buffers[i].data == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the recording");
        }
    }
    int status = fm_file_stat(path, &facts, reterr);
    if (status == 0 && facts.kind != FM_FILE_ABSENT) {
        return fm_error_set(reterr, FM_EEXIST,
                            "'%.400s' is there already; name another file for the recording, or "
                            "remove that one",
                            path);
    }
    status = status != 0
                 ? status
                 : fm_sched_record_begin(&recording->writer, header, recording->buffers[0].data,
                                         FM_RECORDING_BUFFER_BYTES, reterr);
    status = status != 0 ? status : fm_file_writer_open(&recording->file, path, reterr);
    if (status != 0) {
        return status;
    }
    status = fm_thread_start(&recording->thread, "fm-record", writer_run, recording);
    if (status != 0) {
        fm_file_writer_abandon(&recording->file);
        return fm_error_set(reterr, status, "cannot start the thread that writes the recording");
    }
    return 0;
}

int fm_recording_open(const char *path, const struct fm_sched_record_header *header,
                      struct fm_recording **ret_recording, struct fm_error *reterr)
{
    struct fm_recording *recording = fm_alloc_zero(1, sizeof *recording);
    if (recording == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the recording");
    }
    fm_parker_init(&recording->parker);
    recording->handed_ns = fm_os_now_ns();
    int status = begin(recording, path, header, reterr);
    if (status != 0) {
        recording_free(recording);
        return status;
    }
    *ret_recording = recording;
    return 0;
}

int fm_recording_close(struct fm_recording *recording, struct fm_error *reterr)
{
    if (recording == NULL) {
        return 0;
    }
    if (!atomic_load_explicit(&recording->ended, memory_order_relaxed)) {
        hand_over(recording);
    }
    if (!atomic_load_explicit(&recording->ended, memory_order_relaxed)) {
        fm_sched_record_end(&recording->writer);
        hand_over(recording);
    }
    atomic_store_explicit(&recording->stopping, true, memory_order_release);
    fm_parker_wake(&recording->parker);
    fm_thread_join(&recording->thread);
    int status = failure_get(recording, reterr);
    int committed = fm_file_writer_commit(&recording->file, status != 0 ? NULL : reterr);
    status = status != 0 ? status : committed;
    recording_free(recording);
    return status;
}

void fm_recording_stats_get(const struct fm_recording *recording,
                            struct fm_recording_stats *ret_stats)
{
    *ret_stats = (struct fm_recording_stats){
        .bytes = atomic_load_explicit(&recording->bytes, memory_order_relaxed),
        .steps = atomic_load_explicit(&recording->steps, memory_order_relaxed),
        .ended = atomic_load_explicit(&recording->ended, memory_order_relaxed)};
}
