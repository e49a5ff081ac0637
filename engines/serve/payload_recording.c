/*
 * Requests into copies, copies into lines. See payload_recording.h.
 *
 * HOW IT WORKS. Copies are pushed onto a stack (one atomic exchange), which the thread takes whole
 * and turns around. The thread looks by itself every 50 ms, so that no loop has to wake it for a
 * request; only one that finds a quarter of the room taken does.
 */
#include "engines/serve/payload_recording.h"

#include <stdatomic.h>
#include <string.h>

#include "core/util/error.h"
#include "host/os/file.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/thread.h"

#define LOOK_NS UINT64_C(50000000)
/* At the end, while somebody still copies a request. */
#define LAST_LOOK_NS UINT64_C(1000000)
/* The log says so often that requests are left out. */
#define TELL_NS UINT64_C(10000000000)
/* Lines are gathered until they are so many bytes. */
#define WRITE_BYTES (UINT64_C(1) << 18)
/* The last line has room, however full the file is. */
#define END_BYTES 256u

struct record {
    struct record *next;
    size_t bytes; /* of this block */
    struct fm_payload payload;
};

struct fm_payload_recording {
    struct fm_file_writer file;
    struct fm_thread thread;
    struct fm_parker parker;
    uint64_t bytes_max;
    double share;
    uint64_t start_ns;
    _Atomic bool stopping;
    struct record *_Atomic stack;
    _Atomic uint64_t waiting_bytes;
    _Atomic uint64_t bytes;
    _Atomic uint64_t recorded;
    _Atomic uint64_t left_out;
    _Atomic uint64_t sampled_out;

    /* The thread's. */
    struct fm_text text;
    uint64_t text_count; /* requests in it */
    uint64_t told;       /* of left_out: in the log */
    uint64_t tell_ns;    /* the next time */
    bool full;
    bool failed;
};

/* --- the thread --------------------------------------------------------------------------------
 */

static void leave_out(struct fm_payload_recording *recording, uint64_t count)
{
    atomic_fetch_add_explicit(&recording->left_out, count, memory_order_relaxed);
}

/* What was gathered goes to the file. */
static void text_write(struct fm_payload_recording *recording)
{
    struct fm_error error = {0};
    struct fm_text *text = &recording->text;
    if (recording->failed || text->failed) {
        leave_out(recording, recording->text_count);
    } else if (text->length > 0 &&
               fm_file_writer_append(&recording->file, text->data, text->length, &error) != 0) {
        recording->failed = true;
        leave_out(recording, recording->text_count);
        fm_log(FM_LOG_ERROR, "payload_recording_failed", FM_LOG_TEXT("reason", error.text),
               FM_LOG_TEXT("next", "no request is recorded any more; what is in the file is good"));
    } else {
        atomic_fetch_add_explicit(&recording->recorded, recording->text_count,
                                  memory_order_relaxed);
        atomic_store_explicit(&recording->bytes, recording->file.size, memory_order_relaxed);
    }
    recording->text_count = 0;
    if (text->capacity > 4 * WRITE_BYTES) {
        fm_text_deinit(text); /* it was a large one */
    }
    fm_text_clear(text);
}

static void record_write(struct fm_payload_recording *recording, const struct record *record)
{
    struct fm_text *text = &recording->text;
    size_t before = text->length;
    if (recording->failed || recording->full) {
        leave_out(recording, 1);
        return;
    }
    fm_payload_write(text, &record->payload);
    if (!text->failed && recording->file.size + text->length > recording->bytes_max - END_BYTES) {
        text->length = before;
        recording->full = true;
        leave_out(recording, 1);
        fm_log(FM_LOG_WARNING, "payload_recording_full", FM_LOG_TEXT("file", recording->file.path),
               FM_LOG_UINT("bytes_max", recording->bytes_max),
               FM_LOG_TEXT("next", "no request is recorded any more"));
        return;
    }
    recording->text_count++;
    if (text->failed || text->length >= WRITE_BYTES) {
        text_write(recording);
    }
}

/* Not that nothing is recorded any more: that was said. */
static void left_out_tell(struct fm_payload_recording *recording)
{
    uint64_t left_out = atomic_load_explicit(&recording->left_out, memory_order_relaxed);
    uint64_t now_ns = fm_os_now_ns();
    if (left_out > recording->told && !recording->failed && !recording->full &&
        now_ns >= recording->tell_ns) {
        fm_log(FM_LOG_WARNING, "payloads_left_out", FM_LOG_UINT("requests", left_out),
               FM_LOG_TEXT("next", "serving them all the same"));
        recording->told = left_out;
        recording->tell_ns = now_ns + TELL_NS;
    }
}

static void records_write(struct fm_payload_recording *recording)
{
    struct record *taken = atomic_exchange_explicit(&recording->stack, NULL, memory_order_acquire);
    struct record *first = NULL;
    while (taken != NULL) {
        struct record *next = taken->next;
        taken->next = first;
        first = taken;
        taken = next;
    }
    while (first != NULL) {
        struct record *next = first->next;
        record_write(recording, first);
        atomic_fetch_sub_explicit(&recording->waiting_bytes, first->bytes, memory_order_relaxed);
        fm_free(first);
        first = next;
    }
    text_write(recording);
    left_out_tell(recording);
}

static void writer_run(void *argument)
{
    struct fm_payload_recording *recording = argument;
    for (;;) {
        fm_parker_prepare(&recording->parker);
        bool stopping = atomic_load(&recording->stopping);
        records_write(recording);
        if (stopping && atomic_load(&recording->waiting_bytes) == 0) {
            return;
        }
        fm_parker_park(&recording->parker, fm_os_now_ns() + (stopping ? LAST_LOOK_NS : LOOK_NS));
    }
}

/* --- life --------------------------------------------------------------------------------------
 */

static int begin(struct fm_payload_recording *recording,
                 const struct fm_payload_recording_options *options, struct fm_error *reterr)
{
    const struct fm_payload payload = {
        .kind = FM_PAYLOAD_BEGIN, .server = options->server, .start_wall_ns = fm_os_wall_ns()};
    int status = fm_file_writer_open_private(&recording->file, options->path, reterr);
    if (status == FM_EEXIST) {
        return fm_error_set(reterr, FM_EEXIST,
                            "'%.400s' is there already; name another file for the payloads, or "
                            "remove that one",
                            options->path);
    }
    if (status != 0) {
        return status;
    }
    fm_payload_write(&recording->text, &payload);
    status = recording->text.failed
                 ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the recording of payloads")
                 : fm_file_writer_append(&recording->file, recording->text.data,
                                         recording->text.length, reterr);
    fm_text_clear(&recording->text);
    if (status == 0 &&
        fm_thread_start(&recording->thread, "fm-payloads", writer_run, recording) != 0) {
        status = fm_error_set(reterr, FM_ELIMIT, "cannot start the thread that writes payloads");
    }
    if (status != 0) {
        fm_file_writer_abandon(&recording->file);
    }
    return status;
}

int fm_payload_recording_open(const struct fm_payload_recording_options *options,
                              struct fm_payload_recording **ret_recording, struct fm_error *reterr)
{
    struct fm_payload_recording *recording = fm_alloc_zero(1, sizeof *recording);
    if (recording == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the recording of payloads");
    }
    fm_parker_init(&recording->parker);
    recording->bytes_max = options->bytes_max > END_BYTES ? options->bytes_max : END_BYTES;
    recording->share = options->share;
    recording->start_ns = fm_os_now_ns();
    int status = begin(recording, options, reterr);
    if (status != 0) {
        fm_text_deinit(&recording->text);
        fm_free(recording);
        return status;
    }
    *ret_recording = recording;
    return 0;
}

static void end_write(struct fm_payload_recording *recording)
{
    struct fm_payload_recording_stats stats;
    struct fm_error error = {0};
    fm_payload_recording_stats(recording, &stats);
    const struct fm_payload payload = {.kind = FM_PAYLOAD_END,
                                       .time_ns = fm_os_now_ns() - recording->start_ns,
                                       .recorded = stats.recorded,
                                       .left_out = stats.left_out,
                                       .sampled_out = stats.sampled_out};
    fm_payload_write(&recording->text, &payload);
    text_write(recording);
    int status = fm_file_writer_commit(&recording->file, &error);
    if (status != 0 && !recording->failed) {
        fm_log(FM_LOG_ERROR, "payload_recording_failed", FM_LOG_TEXT("reason", error.text),
               FM_LOG_TEXT("next", "what is in the file is good up to where it ends"));
        return;
    }
    fm_log(FM_LOG_INFO, "payloads_recorded", FM_LOG_TEXT("file", recording->file.path),
           FM_LOG_UINT("requests", stats.recorded), FM_LOG_UINT("left_out", stats.left_out),
           FM_LOG_UINT("sampled_out", stats.sampled_out));
}

void fm_payload_recording_end(struct fm_payload_recording *recording)
{
    if (recording == NULL || atomic_exchange(&recording->stopping, true)) {
        return;
    }
    fm_parker_wake(&recording->parker);
    fm_thread_join(&recording->thread);
    end_write(recording);
}

void fm_payload_recording_close(struct fm_payload_recording *recording)
{
    if (recording == NULL) {
        return;
    }
    fm_payload_recording_end(recording);
    fm_text_deinit(&recording->text);
    fm_free(recording);
}

/* --- requests ----------------------------------------------------------------------------------
 */

bool fm_payload_recording_wants(struct fm_payload_recording *recording, struct fm_random *random)
{
    if (recording->share >= 1 || fm_random_unit(random) < recording->share) {
        return true;
    }
    atomic_fetch_add_explicit(&recording->sampled_out, 1, memory_order_relaxed);
    return false;
}

static size_t aligned(size_t size)
{
    return (size + 15) & ~(size_t)15;
}

static size_t text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static size_t record_size(const struct fm_payload *payload)
{
    size_t size = aligned(sizeof(struct record)) +
                  aligned(payload->input_count * sizeof(struct fm_payload_input)) +
                  aligned(payload->output_count * sizeof(struct fm_payload_output)) +
                  text_size(payload->model) + text_size(payload->protocol) +
                  (payload->id != NULL ? payload->id_length + 1 : 0);
    for (uint32_t i = 0; i < payload->input_count; i++) {
        size += text_size(payload->inputs[i].name) + payload->inputs[i].tensor.size;
    }
    for (uint32_t i = 0; i < payload->output_count; i++) {
        size += text_size(payload->outputs[i].name);
    }
    return size;
}

/* `size` bytes at *at, which moves behind them. */
static void *take(char **at, const void *data, size_t size)
{
    char *copy = *at;
    if (size > 0) {
        memcpy(copy, data, size);
    }
    *at += size;
    return copy;
}

static const char *take_text(char **at, const char *text)
{
    return text != NULL ? take(at, text, strlen(text) + 1) : NULL;
}

/* Everything in the record's own block. */
static void record_fill(struct record *record, const struct fm_payload *payload)
{
    char *at = (char *)record + aligned(sizeof *record);
    struct fm_payload *copy = &record->payload;
    struct fm_payload_input *inputs =
        take(&at, payload->inputs, payload->input_count * sizeof *inputs);
    at = (char *)inputs + aligned(payload->input_count * sizeof *inputs);
    struct fm_payload_output *outputs =
        take(&at, payload->outputs, payload->output_count * sizeof *outputs);
    at = (char *)outputs + aligned(payload->output_count * sizeof *outputs);
    *copy = *payload;
    copy->inputs = inputs;
    copy->outputs = outputs;
    copy->server = NULL;
    copy->model = take_text(&at, payload->model);
    copy->protocol = take_text(&at, payload->protocol);
    if (payload->id != NULL) {
        copy->id = take(&at, payload->id, payload->id_length);
        *at++ = '\0';
    }
    for (uint32_t i = 0; i < payload->input_count; i++) {
        inputs[i].name = take_text(&at, inputs[i].name);
        inputs[i].tensor.data = take(&at, inputs[i].tensor.data, inputs[i].tensor.size);
    }
    for (uint32_t i = 0; i < payload->output_count; i++) {
        outputs[i].name = take_text(&at, outputs[i].name);
    }
}

void fm_payload_recording_put(struct fm_payload_recording *recording,
                              const struct fm_payload *payload)
{
    size_t size = record_size(payload);
    /* In this order, and the thread's in the other: either it waits for this record, or this sees
     * that nobody does. */
    uint64_t before = atomic_fetch_add(&recording->waiting_bytes, size);
    struct record *record =
        before + size <= FM_PAYLOAD_WAITING_BYTES_MAX && !atomic_load(&recording->stopping)
            ? fm_alloc(size)
            : NULL;
    if (record == NULL) {
        atomic_fetch_sub_explicit(&recording->waiting_bytes, size, memory_order_relaxed);
        leave_out(recording, 1);
        return;
    }
    record->bytes = size;
    record_fill(record, payload);
    record->payload.time_ns =
        payload->time_ns > recording->start_ns ? payload->time_ns - recording->start_ns : 0;
    record->next = atomic_load_explicit(&recording->stack, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&recording->stack, &record->next, record,
                                                  memory_order_release, memory_order_relaxed)) {
    }
    if (before + size > FM_PAYLOAD_WAITING_BYTES_MAX / 4) {
        fm_parker_wake(&recording->parker);
    }
}

void fm_payload_recording_lost(struct fm_payload_recording *recording)
{
    leave_out(recording, 1);
}

void fm_payload_recording_stats(const struct fm_payload_recording *recording,
                                struct fm_payload_recording_stats *ret_stats)
{
    *ret_stats = (struct fm_payload_recording_stats){
        .bytes = atomic_load_explicit(&recording->bytes, memory_order_relaxed),
        .recorded = atomic_load_explicit(&recording->recorded, memory_order_relaxed),
        .left_out = atomic_load_explicit(&recording->left_out, memory_order_relaxed),
        .sampled_out = atomic_load_explicit(&recording->sampled_out, memory_order_relaxed)};
}
