/*
 * A recording in memory. See recorder.h.
 */
#include "engines/sim/recorder.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

static void out_of_memory(struct fm_sim_recorder *recorder)
{
    (void)fm_error_set(&recorder->error, FM_ENOMEM,
                       "out of memory for the recording, after %zu bytes of it",
                       recorder->bytes.length);
}

/* What the writer holds goes to the bytes. */
static void drain(struct fm_sim_recorder *recorder)
{
    size_t size = 0;
    const void *data = fm_sched_record_take(recorder->writer, &size);
    fm_text_append(&recorder->bytes, data, size);
    if (recorder->bytes.failed) {
        out_of_memory(recorder);
    }
}

/* A buffer of at least `size`; the writer holds nothing. */
static void buffer_grow(struct fm_sim_recorder *recorder, size_t size)
{
    void *buffer = fm_alloc(size);
    if (buffer == NULL) {
        out_of_memory(recorder);
        return;
    }
    fm_free(recorder->buffer);
    recorder->buffer = buffer;
    recorder->buffer_size = size;
    fm_sched_record_buffer_set(recorder->writer, buffer, size);
}

void fm_sim_recorder_begin(struct fm_sim_recorder *recorder,
                           const struct fm_sched_record_header *header)
{
    FM_ASSERT(recorder->writer == NULL);
    recorder->writer = fm_alloc(sizeof *recorder->writer);
    recorder->buffer_size = FM_SCHED_RECORD_BUFFER_SIZE;
    recorder->buffer = fm_alloc(recorder->buffer_size);
    if (recorder->writer == NULL || recorder->buffer == NULL) {
        out_of_memory(recorder);
        return;
    }
    (void)!fm_sched_record_begin(recorder->writer, header, recorder->buffer, recorder->buffer_size,
                                 &recorder->error);
}

void fm_sim_recorder_step(struct fm_sim_recorder *recorder, const struct fm_sched_record_step *step)
{
    if (recorder->error.status != 0) {
        return;
    }
    /* Asked first: a buffer that is full is no error. */
    size_t bound = fm_sched_record_step_bound(step);
    if (recorder->writer->capacity - recorder->writer->length < bound) {
        drain(recorder);
        if (recorder->error.status == 0 && recorder->buffer_size < bound) {
            buffer_grow(recorder, bound);
        }
    }
    if (recorder->error.status == 0) {
        (void)!fm_sched_record_write(recorder->writer, step, &recorder->error);
    }
}

int fm_sim_recorder_finish(struct fm_sim_recorder *recorder, struct fm_error *reterr)
{
    FM_ASSERT(recorder->writer != NULL || recorder->error.status != 0);
    if (recorder->error.status == 0) {
        drain(recorder);
    }
    if (recorder->error.status == 0) {
        fm_sched_record_end(recorder->writer);
        drain(recorder);
    }
    if (recorder->error.status != 0 && reterr != NULL) {
        *reterr = recorder->error;
    }
    return recorder->error.status;
}

void fm_sim_recorder_deinit(struct fm_sim_recorder *recorder)
{
    fm_text_deinit(&recorder->bytes);
    fm_free(recorder->writer);
    fm_free(recorder->buffer);
    *recorder = (struct fm_sim_recorder){0};
}
