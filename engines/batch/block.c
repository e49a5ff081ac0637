/*
 * Rows on their way through the pipeline. See block.h.
 */
#include "engines/batch/block.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/listing.h"
#include "engines/batch/remote.h"
#include "engines/batch/sink.h"
#include "host/os/file.h"
#include "host/os/file_reader.h"
#include "host/os/memory_limit.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { READ_ATTEMPTS_MAX = 3 };
/* A process has grown when it has more than this part of its limit above what it began with. */
enum { GROWN_PART = 8 };
/* So near to the limit, what fails may well fail for lack of memory. */
enum { NEAR_PERCENT = 80 };
#define NS_PER_MS UINT64_C(1000000)
/* Of each text that a block fills again and again. */
#define KEPT_BYTES_MAX (UINT64_C(1) << 20)
/* Compressed by themselves: with less of them the file would grow by some percent. */
#define SEALED_BYTES_MIN ((size_t)4096)
/* An id of a row that has none of its own: the file's, and the row's number in it. */
#define ID_MAX (FM_LISTING_ID_MAX + 32)

/* --- The plan --- */

static bool is_records(const struct fm_block_plan *plan)
{
    return plan->setup->job->format != NULL;
}

static int names_make(struct fm_block_plan *plan)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(plan->setup->servable);
    plan->stage_names = fm_alloc_zero(pipeline->stage_count, sizeof(*plan->stage_names));
    if (plan->stage_names == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_stage_spec *spec = pipeline->stages[i].spec;
        plan->stage_names[i] = spec->items_have_rows ? spec->target : spec->name;
    }
    return 0;
}

int fm_block_plan_init(struct fm_block_plan *ret_plan, const struct fm_job_setup *setup,
                       const char *base, struct fm_error *reterr)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(setup->servable);
    const struct fm_job *job = setup->job;
    struct fm_block_plan plan = {.setup = setup, .base = base};
    int status = names_make(&plan);
    if (status == 0 && job->format != NULL) {
        status = fm_source_columns(&setup->source, &plan.columns);
    }
    if (status != 0) {
        fm_block_plan_deinit(&plan);
        return fm_error_set(reterr, status, "out of memory");
    }
    plan.format = (struct fm_row_format){
        .sink = job->sink,
        .compression = job->compression,
        .strip_rows = setup->batched,
        .bytes = job->bytes,
        .timings = job->timings,
        .stage_names = plan.stage_names,
        .stage_count = pipeline->stage_count,
        .passed = job->passed,
        .passed_count = job->passed_count,
        .passed_types = setup->passed_types,
        .embedding = job->embedding,
    };
    plan.format.outputs = fm_servable_outputs(setup->servable, &plan.format.output_count);
    status = fm_row_format_check(&plan.format, reterr);
    if (status != 0) {
        fm_block_plan_deinit(&plan);
        return status;
    }
    *ret_plan = plan;
    return 0;
}

void fm_block_plan_deinit(struct fm_block_plan *plan)
{
    fm_free(plan->stage_names);
    fm_free(plan->columns);
    *plan = (struct fm_block_plan){0};
}

/* --- Life --- */

int fm_block_init(struct fm_block *ret_block, const struct fm_block_plan *plan, uint32_t rows_max,
                  void (*done)(struct fm_request *request), void *user)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(plan->setup->servable);
    uint32_t input_count = 0;
    uint32_t output_count = pipeline->output_count;
    struct fm_block block = {.plan = plan, .rows_max = rows_max};
    (void)fm_servable_inputs(plan->setup->servable, &input_count);
    uint32_t most = input_count > output_count ? input_count : output_count;
    block.line = fm_alloc_zero(rows_max, sizeof(*block.line));
    block.inputs = fm_alloc_zero(input_count + 1, sizeof(*block.inputs));
    block.alone_inputs = fm_alloc_zero(input_count + 1, sizeof(*block.alone_inputs));
    block.outputs = fm_alloc_zero(output_count + 1, sizeof(*block.outputs));
    block.views = fm_alloc_zero(output_count + 1, sizeof(*block.views));
    block.offsets = fm_alloc_zero(most + 1, sizeof(*block.offsets));
    block.timings = fm_alloc_zero(pipeline->stage_count + 1, sizeof(*block.timings));
    block.stage_ns = fm_alloc_zero(pipeline->stage_count + 1, sizeof(*block.stage_ns));
    block.request.done = done;
    block.request.user = user;
    int status = block.line == NULL || block.inputs == NULL || block.alone_inputs == NULL ||
                         block.outputs == NULL || block.views == NULL || block.offsets == NULL ||
                         block.timings == NULL || block.stage_ns == NULL
                     ? FM_ENOMEM
                     : 0;
    if (status == 0 && is_records(plan)) {
        status = fm_row_block_init(&block.rows, plan->columns, plan->setup->source.tensor_count,
                                   plan->setup->source.passed_count, rows_max);
    }
    if (status != 0) {
        fm_block_deinit(&block);
        return status;
    }
    *ret_block = block;
    return 0;
}

void fm_block_deinit(struct fm_block *block)
{
    fm_row_block_deinit(&block->rows);
    fm_text_deinit(&block->lines);
    fm_text_deinit(&block->fetch.body);
    fm_text_deinit(&block->url);
    fm_free(block->address);
    fm_free(block->line);
    fm_free(block->inputs);
    fm_free(block->alone_inputs);
    fm_free(block->outputs);
    fm_free(block->views);
    fm_free(block->offsets);
    fm_free(block->timings);
    fm_free(block->stage_ns);
    *block = (struct fm_block){0};
}

/* Lines of a large row are not kept for small ones. */
static void text_clear(struct fm_text *text)
{
    if (text->capacity > KEPT_BYTES_MAX) {
        fm_text_deinit(text);
    }
    fm_text_clear(text);
}

uint64_t fm_block_rows_bytes(const struct fm_block *block)
{
    uint64_t bytes = block->rows.texts.capacity;
    for (uint32_t i = 0; i < block->rows.tensor_count; i++) {
        bytes += block->rows.tensors[i].capacity;
    }
    return bytes;
}

uint64_t fm_block_outputs_bytes(const struct fm_block *block)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < block->plan->format.output_count; i++) {
        bytes += block->outputs[i].buffer != NULL ? block->outputs[i].tensor.size : 0;
    }
    return bytes;
}

void fm_block_clear(struct fm_block *block)
{
    text_clear(&block->lines);
    text_clear(&block->rows.texts);
    for (uint32_t i = 0; i < block->rows.tensor_count; i++) {
        text_clear(&block->rows.tensors[i]);
    }
    fm_row_block_clear(&block->rows);
    block->row_count = 0;
    block->bytes = 0;
    block->bad = 0;
    block->attempts = 0;
    block->starved = false;
    block->sealed = false;
    block->error = (struct fm_error){0};
}

static void begin(struct fm_block *block, const char *id, uint64_t row, uint64_t file_row,
                  uint32_t row_count)
{
    FM_ASSERT(row_count <= block->rows_max);
    block->id = id;
    block->first_row = row;
    block->file_row = file_row;
    block->row_count = row_count;
    block->request.bytes_most = 0;
    block->start_ns = fm_os_now_ns();
    block->memory_before = block->plan->single ? fm_memory_limit_used() : 0;
}

/* --- Lines --- */

static void source_path(const struct fm_block *block, char *ret_path, size_t size)
{
    if (fm_remote_place(ret_path, size, block->plan->base, block->id) != 0) {
        (void)snprintf(ret_path, size, "%s", block->id);
    }
}

/* The row's id, in `room` where it has to be made. */
static struct fm_row_id id_of(const struct fm_block *block, uint32_t index, char *room, size_t size)
{
    if (!is_records(block->plan)) {
        return (struct fm_row_id){block->id, strlen(block->id)};
    }
    const struct fm_block_row *row =
        index < block->rows.row_count ? &block->rows.rows[index] : NULL;
    if (row != NULL && row->id != SIZE_MAX) {
        return (struct fm_row_id){block->rows.texts.data + row->id, row->id_size};
    }
    (void)snprintf(room, size, "%s:%" PRIu64, block->id, block->file_row + index);
    return (struct fm_row_id){room, strlen(room)};
}

/* The record of a row, read once more where it lies: rows that are good need not be kept for it.
 * false: it cannot be had. */
static bool raw_read(const struct fm_block_row *row, const char *path, struct fm_text *text)
{
    struct fm_file_reader file = {0};
    size_t wanted = row->size < FM_LETTER_RAW_MAX ? row->size : FM_LETTER_RAW_MAX;
    size_t got = 0;
    char *room = fm_text_reserve(text, wanted);
    int status = room != NULL ? fm_file_reader_open(&file, path, NULL) : FM_ENOMEM;
    status =
        status != 0 ? status : fm_file_reader_read_at(&file, row->offset, room, wanted, &got, NULL);
    fm_file_reader_close(&file);
    return status == 0 && got == wanted;
}

/* What was read of a good row, by input; false: there is nothing, or too much. */
static bool columns_write(const struct fm_block *block, uint32_t index, struct fm_text *text)
{
    struct fm_json_writer json;
    uint32_t good = 0;
    bool whole = true;
    for (uint32_t i = 0; i < index; i++) {
        good += block->rows.rows[i].status == 0 ? 1 : 0;
    }
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    for (uint32_t i = 0; i < block->rows.tensor_count && whole; i++) {
        const struct fm_column *column = &block->plan->columns[i];
        struct fm_tensor all = {.dtype = column->dtype,
                                .rank = column->rank + 1,
                                .shape = {block->rows.good_count},
                                .data = block->rows.tensors[i].data,
                                .size = block->rows.tensors[i].length};
        struct fm_tensor row = {0};
        size_t offset = 0;
        if (column->rank == FM_RANK_MAX) {
            return false;
        }
        memcpy(&all.shape[1], block->rows.shapes[i], column->rank * sizeof(all.shape[0]));
        for (uint32_t n = 0; n <= good && whole; n++) {
            whole = fm_tensor_rows_next(&all, &offset, 1, &row) == 0;
        }
        whole = whole && row.size <= FM_LETTER_RAW_MAX;
        fm_json_key(&json, column->name);
        if (!whole || fm_row_tensor_write(&row, 1, FM_JOB_BYTES_TEXT, &json) != 0) {
            return false;
        }
    }
    fm_json_object_end(&json);
    return whole && !text->failed && text->length <= 2 * FM_LETTER_RAW_MAX;
}

/* What the row was, as far as it is known: into the letter, which borrows `text`. */
static void origin_add(const struct fm_block *block, uint32_t index, struct fm_dead_letter *letter,
                       struct fm_text *text)
{
    const struct fm_block_row *row =
        index < block->rows.row_count ? &block->rows.rows[index] : NULL;
    letter->file = is_records(block->plan) ? block->id : NULL;
    letter->file_row = block->file_row + index;
    if (row == NULL) {
        return;
    }
    letter->line = row->line;
    if (row->size > 0 && raw_read(row, letter->source, text)) {
        letter->raw = text->data;
        letter->raw_size = text->length;
        letter->raw_truncated = text->length < row->size;
    } else if (row->size == 0 && row->status == 0 && columns_write(block, index, text)) {
        letter->columns = text->data;
    }
}

/* Makes the row a dead letter. */
static void condemn(struct fm_block *block, uint32_t index, const char *stage,
                    const struct fm_error *error)
{
    char path[2 * FM_LISTING_ID_MAX];
    char room[ID_MAX];
    struct fm_text origin = {0};
    source_path(block, path, sizeof(path));
    struct fm_dead_letter letter = {
        .id = id_of(block, index, room, sizeof(room)),
        .source = path,
        .row = block->first_row + index,
        .stage = stage,
        .status = error->status,
        .message = error->text[0] != '\0' ? error->text : fm_status_text(error->status),
        .attempts = block->attempts,
        .answer = block->plan->format.sink->answers,
    };
    origin_add(block, index, &letter, &origin);
    size_t before = block->lines.length;
    /* Without memory for even this the line stays empty: the path's owner sees that. */
    if (fm_row_format_letter(&letter, &block->lines) != 0) {
        FM_ASSERT(block->lines.length == before);
    }
    fm_text_deinit(&origin);
    block->line[index] = (struct fm_block_line){.size = block->lines.length - before};
    block->bad++;
    block->last_error = *error;
}

/* A thread needs memory for its stack, and says something else when there is none. */
static bool lacks_memory(const struct fm_block *block, const struct fm_error *error)
{
    uint64_t most = block->plan->memory_bytes;
    return error->status == FM_ENOMEM || (error->status == FM_ELIMIT && most > 0 &&
                                          fm_memory_limit_used() >= most / 100 * NEAR_PERCENT);
}

/* For lack of memory a row is to blame only where it had all to itself, in a process that had not
 * grown. */
static bool is_starved(const struct fm_block *block)
{
    const struct fm_block_plan *plan = block->plan;
    uint64_t most = plan->memory_first + plan->memory_bytes / GROWN_PART;
    bool grown = plan->memory_bytes > 0 && block->memory_before > most;
    return !plan->single || grown;
}

/* A row that has failed; with it its whole block, where that is starved. */
static void letter_write(struct fm_block *block, uint32_t index, const char *stage,
                         const struct fm_error *error)
{
    struct fm_error seen = *error;
    seen.status = lacks_memory(block, error) ? FM_ENOMEM : error->status;
    if (block->starved || (seen.status == FM_ENOMEM && is_starved(block))) {
        block->starvation = block->starved ? block->starvation : seen;
        block->starved = true;
        return;
    }
    condemn(block, index, stage, &seen);
}

/* block->views are the row's outputs. */
static void result_write(struct fm_block *block, uint32_t index)
{
    char room[ID_MAX];
    struct fm_error error = {0};
    size_t before = block->lines.length;
    const struct fm_row_block *rows = &block->rows;
    const struct fm_result result = {
        .id = id_of(block, index, room, sizeof(room)),
        .passed = rows->passed_count > 0 ? rows->texts.data + rows->rows[index].passed : NULL,
        .outputs = block->views,
        .stage_ns = block->stage_ns,
        .total_ns = block->request.done_ns - block->start_ns,
    };
    const struct fm_row_format *format = &block->plan->format;
    int status = format->sink->pack(format, &result, &block->lines, &error);
    if (status != 0) {
        letter_write(block, index, "write", &error);
        return;
    }
    block->line[index] = (struct fm_block_line){.size = block->lines.length - before, .good = true};
}

static void outputs_release(struct fm_block *block)
{
    for (uint32_t i = 0; i < block->plan->format.output_count; i++) {
        fm_value_unref(&block->outputs[i]);
    }
}

static void stage_times(struct fm_block *block, uint32_t rows)
{
    for (uint32_t i = 0; i < block->plan->format.stage_count; i++) {
        block->stage_ns[i] = block->timings[i].run_ns / rows;
    }
}

static const char *failed_stage(const struct fm_block *block)
{
    int stage = block->request.failed_stage;
    return stage >= 0 ? block->plan->stage_names[stage] : "pipeline";
}

void fm_block_fail(struct fm_block *block, const char *id, uint64_t row, uint64_t file_row,
                   uint32_t row_count, const struct fm_error *error)
{
    begin(block, id, row, file_row, row_count);
    fm_row_block_clear(&block->rows);
    for (uint32_t i = 0; i < row_count; i++) {
        letter_write(block, i, "read", error);
    }
}

void fm_block_condemn(struct fm_block *block, const char *id, uint64_t row, uint64_t file_row,
                      const struct fm_blame *blame)
{
    struct fm_error error = {0};
    begin(block, id, row, file_row, 1);
    (void)fm_error_set(&error, blame->status, "%s", blame->words);
    condemn(block, 0, blame->stage, &error);
}

/* --- A row that is a file --- */

static int file_read(struct fm_block *block, char **ret_data, size_t *ret_size)
{
    char path[2 * FM_LISTING_ID_MAX];
    size_t bytes_max = (size_t)block->plan->setup->job->file_bytes_max;
    source_path(block, path, sizeof(path));
    for (;;) {
        int status = fm_file_read(path, bytes_max, ret_data, ret_size, &block->error);
        block->attempts++;
        bool passing = status == FM_EIO || status == FM_ELIMIT || status == FM_ENOMEM;
        if (status == 0 || !passing || block->attempts == READ_ATTEMPTS_MAX) {
            return status;
        }
        fm_sleep_until(fm_os_now_ns() + 50 * NS_PER_MS * block->attempts);
    }
}

/* A BYTES tensor of one string, in the shape that the port wants: every dimension 1. */
static int file_input(const struct fm_block *block, const char *data, size_t size,
                      struct fm_value *ret_value)
{
    uint32_t count = 0;
    const struct fm_job_setup *setup = block->plan->setup;
    const struct fm_port *port = &fm_servable_inputs(setup->servable, &count)[setup->input];
    int status = fm_value_from_bytes(ret_value, data, size);
    if (status == 0 && port->rank >= 0) {
        ret_value->tensor.rank = (uint32_t)port->rank;
        for (int32_t i = 0; i < port->rank; i++) {
            ret_value->tensor.shape[i] = 1;
        }
    }
    return status;
}

static void request_prepare(struct fm_block *block, struct fm_value *inputs, uint32_t rows)
{
    const struct fm_request kept = block->request;
    memset(block->timings, 0, block->plan->format.stage_count * sizeof(*block->timings));
    block->request = (struct fm_request){.inputs = inputs,
                                         .outputs = block->outputs,
                                         .timings = block->timings,
                                         .rows = rows,
                                         .done = kept.done,
                                         .user = kept.user};
}

/* What came of reading: block->error, where status is not 0, else the row's bytes. */
static bool file_take(struct fm_block *block, int status, const char *data, size_t size)
{
    struct fm_value *input = &block->inputs[block->plan->setup->input];
    if (status == 0) {
        block->error = (struct fm_error){0};
        status = size > 0 ? file_input(block, data, size, input)
                          : fm_error_set(&block->error, FM_ECORRUPT, "the file is empty");
    }
    if (status != 0) {
        block->error.status = status;
        letter_write(block, 0, "read", &block->error);
        return false;
    }
    block->bytes = size;
    return true;
}

bool fm_block_read_file(struct fm_block *block, const char *id, uint64_t row)
{
    char *data = NULL;
    size_t size = 0;
    begin(block, id, row, 0, 1);
    int status = file_read(block, &data, &size);
    bool taken = file_take(block, status, data, size);
    fm_free(data);
    return taken;
}

void fm_block_fetch_begin(struct fm_block *block, struct fm_objects *objects, const char *id,
                          uint64_t row)
{
    char address[2 * FM_LISTING_ID_MAX];
    begin(block, id, row, 0, 1);
    source_path(block, address, sizeof(address));
    block->fetch.bytes_max = (size_t)block->plan->setup->job->file_bytes_max;
    block->address = fm_strdup(address);
    if (block->address == NULL) {
        block->fetch.attempts = 1;
        block->fetch.status = fm_error_set(&block->fetch.error, FM_ENOMEM, "out of memory");
        block->fetch.done(&block->fetch);
        return;
    }
    fm_objects_get(objects, block->address, &block->url, &block->fetch);
}

bool fm_block_fetch_end(struct fm_block *block)
{
    struct fm_fetch *fetch = &block->fetch;
    block->attempts = fetch->attempts;
    block->error = fetch->error;
    bool taken = file_take(block, fetch->status, fetch->body.data, fetch->body.length);
    fm_text_deinit(&fetch->body); /* the input has a copy */
    fm_free(block->address);
    block->address = NULL;
    return taken;
}

/* --- Rows of a file --- */

int fm_block_read(struct fm_block *block, struct fm_source_reader *reader, const char *id,
                  uint64_t row, uint64_t file_row, uint32_t rows_max, struct fm_error *reterr)
{
    begin(block, id, row, file_row, 0);
    block->attempts = 1;
    int status = reader->format->read(
        reader, rows_max < block->rows_max ? rows_max : block->rows_max, &block->rows, reterr);
    block->row_count = status == 0 ? block->rows.row_count : 0;
    block->bytes = block->rows.texts.length;
    for (uint32_t i = 0; i < block->rows.tensor_count; i++) {
        block->bytes += block->rows.tensors[i].length;
    }
    return status;
}

/* The tensors that were read as the pipeline's inputs: views of the block's own bytes, which stay
 * until the request is done. */
static void rows_inputs(struct fm_block *block)
{
    const struct fm_job_setup *setup = block->plan->setup;
    for (uint32_t i = 0; i < block->rows.tensor_count; i++) {
        const struct fm_column *column = &block->plan->columns[i];
        struct fm_tensor *tensor = &block->inputs[setup->inputs[i]].tensor;
        uint32_t lead = setup->batched ? 1 : 0;
        *tensor = (struct fm_tensor){.dtype = column->dtype,
                                     .rank = column->rank + lead,
                                     .data = block->rows.tensors[i].data,
                                     .size = block->rows.tensors[i].length};
        if (setup->batched) {
            tensor->shape[0] = block->rows.good_count;
        }
        memcpy(&tensor->shape[lead], block->rows.shapes[i],
               column->rank * sizeof(tensor->shape[0]));
    }
}

static void bad_rows_write(struct fm_block *block, uint32_t index)
{
    const struct fm_block_row *row = &block->rows.rows[index];
    struct fm_error error = {.status = row->status};
    (void)snprintf(error.text, sizeof(error.text), "%s", block->rows.texts.data + row->words);
    letter_write(block, index, "parse", &error);
}

/* Every row's line, when none of the good ones could be run. */
static void rows_refuse(struct fm_block *block, const char *stage, const struct fm_error *error)
{
    for (uint32_t i = 0; i < block->row_count; i++) {
        if (block->rows.rows[i].status != 0) {
            bad_rows_write(block, i);
        } else {
            letter_write(block, i, stage, error);
        }
    }
}

bool fm_block_submit(struct fm_block *block)
{
    const struct fm_job_setup *setup = block->plan->setup;
    bool records = is_records(block->plan);
    uint32_t rows = 1;
    if (records && block->rows.good_count == 0) {
        rows_refuse(block, "parse", &block->error);
        return false;
    }
    if (records) {
        rows_inputs(block);
        rows = setup->batched ? block->rows.good_count : 1;
    }
    request_prepare(block, block->inputs, rows);
    if (fm_executor_submit(fm_servable_executor(setup->servable), &block->request) == 0) {
        return true;
    }
    const struct fm_error error = block->request.error;
    if (records) {
        rows_refuse(block, "input", &error);
    } else {
        fm_value_unref(&block->inputs[setup->input]);
        letter_write(block, 0, "input", &error);
    }
    return false;
}

/* --- What came of it --- */

static void offsets_reset(struct fm_block *block, uint32_t count)
{
    memset(block->offsets, 0, count * sizeof(*block->offsets));
}

/* The next row of every output, as a view. */
static int views_next(struct fm_block *block, struct fm_error *reterr)
{
    const struct fm_block_plan *plan = block->plan;
    for (uint32_t i = 0; i < plan->format.output_count; i++) {
        const struct fm_tensor *whole = &block->outputs[i].tensor;
        block->views[i] = *whole;
        if (!plan->setup->batched || block->request.rows == 1 || whole->dtype == FM_DTYPE_INVALID) {
            continue;
        }
        int status = whole->rank == 0 || whole->shape[0] != (int64_t)block->request.rows
                         ? FM_ECORRUPT
                         : fm_tensor_rows_next(whole, &block->offsets[i], 1, &block->views[i]);
        if (status != 0) {
            return fm_error_set(reterr, status,
                                "the output '%s' has no row for each row of the input",
                                plan->format.outputs[i].name);
        }
    }
    return 0;
}

static void results_write(struct fm_block *block)
{
    stage_times(block, block->request.rows);
    offsets_reset(block, block->plan->format.output_count);
    for (uint32_t i = 0; i < block->row_count; i++) {
        struct fm_error error = {0};
        if (is_records(block->plan) && block->rows.rows[i].status != 0) {
            bad_rows_write(block, i);
        } else if (views_next(block, &error) != 0) {
            letter_write(block, i, "write", &error);
        } else {
            result_write(block, i);
        }
    }
    outputs_release(block);
}

/* One row of a batch that failed, by itself, while the caller waits. */
static void row_again(struct fm_block *block, uint32_t index)
{
    const struct fm_job_setup *setup = block->plan->setup;
    struct fm_error error = {0};
    int status = 0;
    for (uint32_t i = 0; i < block->rows.tensor_count && status == 0; i++) {
        uint32_t input = setup->inputs[i];
        block->alone_inputs[input] = (struct fm_value){0};
        status = fm_tensor_rows_next(&block->inputs[input].tensor, &block->offsets[i], 1,
                                     &block->alone_inputs[input].tensor);
    }
    FM_ASSERT(status == 0); /* the readers have put them there */
    void (*done)(struct fm_request * request) = block->request.done;
    void *user = block->request.user;
    request_prepare(block, block->alone_inputs, 1);
    status = fm_executor_run(fm_servable_executor(setup->servable), &block->request);
    block->request.done = done;
    block->request.user = user;
    if (status != 0) {
        error = block->request.error;
        letter_write(block, index, failed_stage(block), &error);
        return;
    }
    stage_times(block, 1);
    for (uint32_t i = 0; i < block->plan->format.output_count; i++) {
        block->views[i] = block->outputs[i].tensor;
    }
    result_write(block, index);
    outputs_release(block);
}

static void rows_again(struct fm_block *block)
{
    rows_inputs(block);
    offsets_reset(block, block->rows.tensor_count);
    for (uint32_t i = 0; i < block->row_count; i++) {
        if (block->rows.rows[i].status != 0) {
            bad_rows_write(block, i);
        } else {
            row_again(block, i);
        }
    }
}

/* Few bytes compress worse by themselves: they are left to the writer, which compresses them with
 * their neighbours, and so are lines among which there are dead letters. */
static void lines_seal(struct fm_block *block)
{
    const struct fm_sink *sink = block->plan->format.sink;
    bool whole = block->bad == 0 && !block->starved && block->lines.length >= SEALED_BYTES_MIN;
    for (uint32_t i = 0; i < block->row_count && whole; i++) {
        whole = block->line[i].good && block->line[i].size > 0;
    }
    struct fm_text sealed = {0};
    if (sink->seal == NULL || !whole || sink->seal(&block->lines, &sealed) != 0) {
        fm_text_deinit(&sealed);
        return; /* without memory, too: the writer needs less of it */
    }
    fm_text_deinit(&block->lines);
    block->lines = sealed;
    block->sealed = true;
}

void fm_block_finish(struct fm_block *block)
{
    const struct fm_error error = block->request.error;
    if (error.status == 0) {
        results_write(block);
        lines_seal(block);
        return;
    }
    outputs_release(block);
    if (!is_records(block->plan)) {
        letter_write(block, 0, failed_stage(block), &error);
    } else if (block->plan->setup->batched && block->rows.good_count > 1 &&
               !lacks_memory(block, &error)) {
        rows_again(block);
    } else {
        rows_refuse(block, failed_stage(block), &error);
    }
}
