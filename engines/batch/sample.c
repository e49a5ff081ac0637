/*
 * Some rows of a job, run in this process. See sample.h.
 */
#include "engines/batch/sample.h"

#include <string.h>

#include "core/source/element.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/block.h"
#include "engines/batch/path_memory.h"
#include "engines/batch/sink.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/process_facts.h"
#include "host/os/thread.h"

enum { VALUES_SHOWN = 8, BYTES_SHOWN = 64 };

struct flight {
    struct sample *sample;
    struct fm_block block;
    struct fm_path_piece piece;
    struct fm_value kept; /* a file's bytes, where they are shown */
    bool busy;
    bool over; /* the request is; the lock is held to look */
};

struct sample {
    const struct fm_sample_options *options;
    struct fm_block_plan plan;
    struct flight *flights;
    uint32_t flight_count;
    struct fm_tensor *tensors; /* by input: what is shown */
    size_t file;               /* of the listing, the next one to read */
    uint64_t file_row;
    struct fm_source_reader *reader;
    uint64_t rows; /* that were begun */
    struct fm_sample_result *result;
    struct fm_path_memory memory; /* of the calling thread */
    struct fm_mutex mutex;
    struct fm_condition changed;
};

static void request_done(struct fm_request *request)
{
    struct flight *flight = request->user;
    struct sample *sample = flight->sample;
    fm_mutex_lock(&sample->mutex);
    flight->over = true;
    fm_condition_signal(&sample->changed);
    fm_mutex_unlock(&sample->mutex);
}

static void row_show(const struct flight *flight, const char *line, size_t size, bool good)
{
    const struct fm_sample_options *options = flight->sample->options;
    const struct fm_job_setup *setup = options->setup;
    struct fm_tensor *tensors = flight->sample->tensors;
    uint32_t count = 0;
    const struct fm_port *ports = fm_servable_inputs(setup->servable, &count);
    const struct fm_block *block = &flight->block;
    memset(tensors, 0, count * sizeof(*tensors));
    if (setup->job->format == NULL) {
        tensors[setup->input] = flight->kept.tensor;
    } else if (block->rows.good_count > 0) {
        for (uint32_t i = 0; i < block->rows.tensor_count; i++) {
            const struct fm_column *column = &flight->sample->plan.columns[i];
            struct fm_tensor *tensor = &tensors[setup->inputs[i]];
            *tensor = (struct fm_tensor){.dtype = column->dtype,
                                         .rank = column->rank,
                                         .data = block->rows.tensors[i].data,
                                         .size = block->rows.tensors[i].length};
            memcpy(tensor->shape, block->rows.shapes[i], column->rank * sizeof(tensor->shape[0]));
        }
    }
    const struct fm_sample_row row = {.row = block->first_row,
                                      .ports = ports,
                                      .tensors = tensors,
                                      .input_count = count,
                                      .line = line,
                                      .line_size = size > 0 ? size - 1 : 0,
                                      .good = good};
    options->show(options->context, &row);
}

/* Its lines are there. */
static void flight_end(struct flight *flight)
{
    struct sample *sample = flight->sample;
    struct fm_block *block = &flight->block;
    const char *line = block->lines.data;
    sample->result->rows += block->row_count;
    sample->result->dead_letters += block->bad;
    for (uint32_t i = 0; i < block->row_count && sample->options->show != NULL; i++) {
        row_show(flight, line, block->line[i].size, block->line[i].good);
        line += block->line[i].size;
    }
    fm_value_unref(&flight->kept);
    fm_path_memory_through(&sample->memory, &flight->piece, block);
    fm_block_clear(block);
    fm_path_memory_end(&sample->memory, &flight->piece);
    flight->busy = false;
}

static void reader_close(struct sample *sample)
{
    if (sample->reader != NULL) {
        sample->reader->format->close(sample->reader);
        sample->reader = NULL;
    }
    sample->file++;
    sample->file_row = 0;
}

/* The next rows of files that hold many. False: there are none, or the block has its lines: those
 * of a file that cannot be read are one. */
static bool records_read(struct sample *sample, struct fm_block *block, uint32_t rows)
{
    const struct fm_listing *listing = sample->options->listing;
    const struct fm_source_spec *spec = &sample->options->setup->source;
    while (sample->file < listing->count) {
        const char *id = listing->entries[sample->file].id;
        char path[2 * FM_LISTING_ID_MAX];
        struct fm_error error = {0};
        int status = fm_path_join(path, sizeof(path), sample->plan.base, id);
        if (status == 0 && sample->reader == NULL) {
            status = spec->format->open(spec, path, NULL, &sample->reader, &error);
        }
        status = status != 0 ? status
                             : fm_block_read(block, sample->reader, id, sample->rows,
                                             sample->file_row, rows, &error);
        if (status != 0) {
            error.status = status;
            fm_block_clear(block);
            fm_block_fail(block, id, sample->rows, sample->file_row, 1, &error);
            reader_close(sample);
            return false;
        }
        if (block->row_count > 0) {
            sample->file_row += block->row_count;
            return true;
        }
        reader_close(sample);
        fm_block_clear(block);
    }
    return false;
}

/* What the next rows have, as far as it is known; 0: there are none, or it
 * is not known. */
static uint64_t size_next(const struct sample *sample, uint32_t rows)
{
    const struct fm_listing *listing = sample->options->listing;
    const struct fm_job *job = sample->options->setup->job;
    if (job->format != NULL || sample->file >= listing->count) {
        return rows;
    }
    uint64_t size = listing->entries[sample->file].size;
    size = size == FM_LISTING_SIZE_UNKNOWN ? 0 : size;
    return size < job->file_bytes_max ? size : job->file_bytes_max;
}

static uint32_t rows_next(const struct flight *flight)
{
    const struct sample *sample = flight->sample;
    uint64_t left = sample->options->rows - sample->rows;
    return left < flight->block.rows_max ? (uint32_t)left : flight->block.rows_max;
}

/* Whether there is memory for them: else others have to be through before. */
static bool flight_may_begin(const struct flight *flight)
{
    struct sample *sample = flight->sample;
    return fm_path_memory_may(&sample->memory, size_next(sample, rows_next(flight)));
}

/* The block was read, or there was nothing to read. */
static void flight_was_read(struct flight *flight)
{
    struct fm_path_memory *memory = &flight->sample->memory;
    const struct fm_block *block = &flight->block;
    bool records = flight->sample->options->setup->job->format != NULL;
    fm_path_memory_own(memory, &flight->piece, fm_block_rows_bytes(block));
    fm_memory_budget_go_on(&memory->budget, &flight->piece.piece,
                           records ? block->row_count : block->bytes);
}

/* True: rows were begun. */
static bool flight_begin(struct flight *flight)
{
    struct sample *sample = flight->sample;
    struct fm_block *block = &flight->block;
    const struct fm_job_setup *setup = sample->options->setup;
    uint32_t rows = rows_next(flight);
    bool read = false;
    if (rows == 0) {
        return false;
    }
    fm_memory_budget_begin(&sample->memory.budget, &flight->piece.piece, size_next(sample, rows));
    if (setup->job->format != NULL) {
        read = records_read(sample, block, rows);
    } else if (sample->file < sample->options->listing->count) {
        read = fm_block_read_file(block, sample->options->listing->entries[sample->file++].id,
                                  sample->rows);
    }
    sample->rows += block->row_count;
    if (block->row_count == 0) {
        fm_path_memory_end(&sample->memory, &flight->piece);
        return false;
    }
    flight_was_read(flight);
    if (read && sample->options->show != NULL && setup->job->format == NULL) {
        flight->kept = fm_value_ref(&block->inputs[setup->input]);
    }
    flight->busy = true;
    flight->over = false;
    if (!read || !fm_block_submit(block)) {
        flight_end(flight);
    }
    return true;
}

static void memory_look(struct sample *sample)
{
    struct fm_path_measure measure;
    if (fm_memory_budget_trims(&sample->memory.budget)) {
        fm_process_memory_release();
    }
    fm_path_memory_measure(fm_servable_executor(sample->options->setup->servable), &measure);
    fm_path_memory_look(&sample->memory, &measure, fm_os_now_ns());
}

/* Waits until something is over, and takes it. */
static void flights_wait(struct sample *sample)
{
    struct flight *found = NULL;
    fm_mutex_lock(&sample->mutex);
    while (found == NULL) {
        for (uint32_t i = 0; i < sample->flight_count && found == NULL; i++) {
            found = sample->flights[i].busy && sample->flights[i].over ? &sample->flights[i] : NULL;
        }
        if (found == NULL) {
            fm_condition_wait(&sample->changed, &sample->mutex);
        }
    }
    fm_mutex_unlock(&sample->mutex);
    fm_path_memory_own(&sample->memory, &found->piece,
                       found->piece.own_bytes + fm_block_outputs_bytes(&found->block));
    fm_block_finish(&found->block);
    memory_look(sample);
    flight_end(found);
}

static void rows_run(struct sample *sample)
{
    bool more = true;
    uint64_t start_ns = fm_os_now_ns();
    for (;;) {
        uint32_t busy = 0;
        for (uint32_t i = 0; i < sample->flight_count; i++) {
            struct flight *flight = &sample->flights[i];
            while (more && !flight->busy && flight_may_begin(flight)) {
                more = flight_begin(flight);
            }
            busy += flight->busy ? 1 : 0;
        }
        if (busy == 0 && !more) {
            break;
        }
        if (busy > 0) {
            flights_wait(sample);
        }
    }
    sample->result->took_ns = fm_os_now_ns() - start_ns;
}

static int flights_make(struct sample *sample)
{
    const struct fm_job_setup *setup = sample->options->setup;
    bool one = sample->options->show != NULL;
    uint32_t block_rows = one || setup->job->format == NULL ? 1 : setup->block_rows;
    uint32_t count = one ? 1 : fm_job_setup_rows_in_flight(setup) / block_rows;
    uint32_t inputs = 0;
    int status = 0;
    count = count > 0 ? count : 1;
    (void)fm_servable_inputs(setup->servable, &inputs);
    sample->tensors = fm_alloc_zero(inputs + 1, sizeof(*sample->tensors));
    sample->flights = fm_alloc_zero(count, sizeof(*sample->flights));
    if (sample->flights == NULL || sample->tensors == NULL) {
        return FM_ENOMEM;
    }
    for (; sample->flight_count < count && status == 0; sample->flight_count++) {
        struct flight *flight = &sample->flights[sample->flight_count];
        flight->sample = sample;
        status = fm_block_init(&flight->block, &sample->plan, block_rows, request_done, flight);
    }
    return status;
}

int fm_sample_run(const struct fm_sample_options *options, struct fm_sample_result *ret_result,
                  struct fm_error *reterr)
{
    struct sample sample = {.options = options, .result = ret_result};
    *ret_result = (struct fm_sample_result){0};
    int status = fm_block_plan_init(&sample.plan, options->setup, options->listing->base, reterr);
    if (status != 0) {
        return status;
    }
    fm_mutex_init(&sample.mutex);
    fm_condition_init(&sample.changed);
    if (options->show != NULL) {
        /* For people: lines, whatever the job writes; answers to requests are such. */
        sample.plan.format.sink =
            sample.plan.format.sink->answers ? &fm_sink_openai_batch : &fm_sink_jsonl;
    }
    bool strict = fm_path_memory_is_strict(options->setup->job);
    uint64_t most = options->setup->job->worker_memory_bytes;
    if (strict) {
        fm_process_memory_keep_little();
    }
    fm_path_memory_init(&sample.memory,
                        fm_path_memory_limit(options->setup->job, most, options->sharers), strict);
    sample.plan.single = true; /* a row that gets no memory is a dead letter: nobody else comes */
    status = flights_make(&sample);
    if (status == 0) {
        rows_run(&sample);
    } else {
        (void)fm_error_set(reterr, status, "out of memory for rows to try");
    }
    if (sample.reader != NULL) {
        sample.reader->format->close(sample.reader);
    }
    for (uint32_t i = 0; i < sample.flight_count; i++) {
        fm_block_deinit(&sample.flights[i].block);
    }
    fm_free(sample.flights);
    fm_free(sample.tensors);
    fm_condition_deinit(&sample.changed);
    fm_mutex_deinit(&sample.mutex);
    fm_block_plan_deinit(&sample.plan);
    return status;
}

/* --- Inputs as JSON --- */

static bool is_text(const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t length = (unsigned char)data[done] < 0x20 && strchr("\t\r\n", data[done]) == NULL
                            ? 0
                            : fm_utf8_sequence(data + done, size - done);
        if (length == 0) {
            return false;
        }
        done += length;
    }
    return true;
}

static void string_write(struct fm_json_writer *json, const struct fm_tensor *tensor,
                         uint64_t index)
{
    const char *data = NULL;
    size_t size = 0;
    if (fm_bytes_get(tensor, index, &data, &size) != 0 || !is_text(data, size)) {
        fm_json_null(json);
        return;
    }
    size_t shown = 0;
    while (shown < size && shown + fm_utf8_sequence(data + shown, size - shown) <= BYTES_SHOWN) {
        shown += fm_utf8_sequence(data + shown, size - shown);
    }
    fm_json_string_n(json, data, shown);
}

void fm_sample_input_write(struct fm_json_writer *json, const char *name,
                           const struct fm_tensor *tensor)
{
    uint64_t count = 0;
    bool bytes = tensor->dtype == FM_DTYPE_BYTES;
    if (tensor->data == NULL || fm_shape_element_count(tensor->shape, tensor->rank, &count) != 0) {
        count = 0;
    }
    fm_json_object_begin(json);
    fm_json_member_string(json, "name", name);
    fm_json_member_string(json, "dtype", fm_dtype_name(tensor->dtype));
    fm_json_key(json, "shape");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        fm_json_int(json, tensor->shape[i]);
    }
    fm_json_array_end(json);
    fm_json_member_uint(json, "bytes", tensor->size);
    fm_json_key(json, "values");
    fm_json_array_begin(json);
    for (uint64_t i = 0; i < count && i < VALUES_SHOWN; i++) {
        if (bytes) {
            string_write(json, tensor, i);
        } else if (fm_element_is_number(tensor->dtype)) {
            fm_element_write_json(json, tensor->dtype, tensor->data, i);
        }
    }
    fm_json_array_end(json);
    fm_json_object_end(json);
}
