/*
 * One-shot execution. See run.h.
 */
#include "engines/infer/run.h"

#include <inttypes.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/infer/input.h"
#include "host/os/thread.h"

enum { WAVE_MAX = 256 }; /* requests in flight at once; servables take 1024 by default */

/* One request of a wave: a run of items that fit into one batch. */
struct unit {
    struct fm_request request;
    struct fm_value *inputs;  /* input_count */
    struct fm_value *outputs; /* output_count */
    size_t first;             /* item */
    size_t count;
    struct wave *wave;
};

struct wave {
    struct fm_mutex mutex;
    struct fm_condition condition;
    uint32_t pending;
};

static void request_done(struct fm_request *request)
{
    struct wave *wave = ((struct unit *)request->user)->wave;
    fm_mutex_lock(&wave->mutex);
    wave->pending--;
    if (wave->pending == 0) {
        fm_condition_signal(&wave->condition);
    }
    fm_mutex_unlock(&wave->mutex);
}

/* Whether two items can share a batch: every input has the same dtype and row shape. */
static bool items_match(const struct fm_infer_item *a, const struct fm_infer_item *b,
                        uint32_t input_count)
{
    for (uint32_t i = 0; i < input_count; i++) {
        const struct fm_tensor *left = &a->inputs[i].tensor;
        const struct fm_tensor *right = &b->inputs[i].tensor;
        if (left->dtype != right->dtype || left->rank != right->rank || left->rank == 0 ||
            memcmp(left->shape + 1, right->shape + 1, (left->rank - 1) * sizeof *left->shape) !=
                0) {
            return false;
        }
    }
    return true;
}

/* Prepares the request of items[first ...], as many as fit into one batch. */
static int unit_prepare(struct unit *unit, struct fm_servable *servable,
                        const struct fm_infer_item *items, size_t first, size_t count,
                        struct fm_error *reterr)
{
    uint32_t input_count = 0;
    (void)fm_servable_inputs(servable, &input_count);
    const struct fm_model *model = fm_servable_model(servable);
    uint32_t batch_max = model != NULL ? fm_model_batch_max(model) : 0;
    uint32_t rows = items[first].rows;
    unit->first = first;
    unit->count = 1;
    while (batch_max > 0 && first + unit->count < count &&
           rows + items[first + unit->count].rows <= batch_max && unit->count < WAVE_MAX &&
           items_match(&items[first], &items[first + unit->count], input_count)) {
        rows += items[first + unit->count].rows;
        unit->count++;
    }
    unit->request.rows = rows;
    for (uint32_t i = 0; i < input_count; i++) {
        if (unit->count == 1) {
            unit->inputs[i] = fm_value_ref(&items[first].inputs[i]);
            continue;
        }
        struct fm_value *column = fm_alloc(unit->count * sizeof(*column));
        if (column == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for a batch of %zu inputs",
                                unit->count);
        }
        for (size_t j = 0; j < unit->count; j++) {
            column[j] = items[first + j].inputs[i];
        }
        int status = column[0].tensor.dtype != FM_DTYPE_INVALID
                         ? fm_input_stack(column, unit->count, &unit->inputs[i], reterr)
                         : 0;
        fm_free(column);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static size_t string_offset(const struct fm_tensor *tensor, uint64_t elements)
{
    size_t offset = 0;
    for (uint64_t i = 0; i < elements; i++) {
        uint32_t length = 0;
        memcpy(&length, (const char *)tensor->data + offset, sizeof length);
        offset += sizeof length + length;
    }
    return offset;
}

int fm_infer_slice(const struct fm_value *value, uint32_t first, uint32_t count,
                   struct fm_value *ret_value, struct fm_error *reterr)
{
    const struct fm_tensor *tensor = &value->tensor;
    uint64_t row_elements = 1;
    if (tensor->rank == 0 || tensor->shape[0] < (int64_t)first + count ||
        fm_shape_element_count(tensor->shape + 1, tensor->rank - 1, &row_elements) != 0) {
        return fm_error_set(reterr, FM_EINTERNAL, "an output has fewer rows than went in");
    }
    size_t start = 0;
    size_t size = 0;
    if (tensor->dtype == FM_DTYPE_BYTES) {
        start = string_offset(tensor, first * row_elements);
        size = string_offset(tensor, (first + (uint64_t)count) * row_elements) - start;
    } else {
        uint64_t row_bits = row_elements * fm_dtype_bits(tensor->dtype);
        if (row_bits % 8 != 0) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "rows of %s do not end at a byte: give one input at a time",
                                fm_dtype_name(tensor->dtype));
        }
        start = (size_t)(first * row_bits / 8);
        size = (size_t)(count * row_bits / 8);
    }
    *ret_value = fm_value_ref(value);
    ret_value->tensor.shape[0] = count;
    ret_value->tensor.data = (char *)tensor->data + start;
    ret_value->tensor.size = size;
    return 0;
}

/* Hands each item its part of what the request gave. */
static void unit_collect(struct unit *unit, const struct fm_infer_item *items,
                         struct fm_infer_result *results, uint32_t output_count)
{
    uint32_t row = 0;
    for (size_t i = 0; i < unit->count; i++) {
        struct fm_infer_result *result = &results[unit->first + i];
        uint32_t rows = items[unit->first + i].rows;
        result->error = unit->request.error;
        result->latency_ns = unit->request.done_ns - unit->request.submitted_ns;
        result->batch_rows = unit->request.rows;
        for (uint32_t j = 0; j < output_count && result->error.status == 0; j++) {
            if (unit->count == 1) {
                result->outputs[j] = unit->outputs[j];
                unit->outputs[j] = (struct fm_value){0};
            } else {
                (void)!fm_infer_slice(&unit->outputs[j], row, rows, &result->outputs[j],
                                      &result->error);
            }
        }
        row += rows;
    }
}

static void unit_deinit(struct unit *unit, uint32_t input_count, uint32_t output_count)
{
    for (uint32_t i = 0; unit->inputs != NULL && i < input_count; i++) {
        fm_value_unref(&unit->inputs[i]);
    }
    for (uint32_t i = 0; unit->outputs != NULL && i < output_count; i++) {
        fm_value_unref(&unit->outputs[i]);
    }
    fm_free(unit->inputs);
    fm_free(unit->outputs);
}

/* Builds up to WAVE_MAX requests from items[*next ...], runs them at once, and waits for all. */
static int wave_run(struct fm_servable *servable, const struct fm_infer_item *items, size_t count,
                    size_t *next, struct fm_infer_result *results, struct unit *units,
                    struct fm_error *reterr)
{
    struct wave wave = {
        .pending = 1}; /* one for the submitter, so that an early finisher does not end the wave */
    uint32_t input_count = 0;
    uint32_t output_count = 0;
    (void)fm_servable_inputs(servable, &input_count);
    (void)fm_servable_outputs(servable, &output_count);
    fm_mutex_init(&wave.mutex);
    fm_condition_init(&wave.condition);
    int status = 0;
    uint32_t used = 0;
    while (status == 0 && used < WAVE_MAX && *next < count) {
        struct unit *unit = &units[used++];
        *unit = (struct unit){
            .wave = &wave,
            .inputs = fm_alloc_zero((size_t)input_count + 1, sizeof *unit->inputs),
            .outputs = fm_alloc_zero((size_t)output_count + 1, sizeof *unit->outputs)};
        if (unit->inputs == NULL || unit->outputs == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "out of memory for a request");
            break;
        }
        status = unit_prepare(unit, servable, items, *next, count, reterr);
        if (status != 0) {
            break;
        }
        *next += unit->count;
        unit->request.inputs = unit->inputs;
        unit->request.outputs = unit->outputs;
        unit->request.done = request_done;
        unit->request.user = unit;
        fm_mutex_lock(&wave.mutex);
        wave.pending++;
        fm_mutex_unlock(&wave.mutex);
        if (fm_executor_submit(fm_servable_executor(servable), &unit->request) != 0) {
            request_done(&unit->request); /* refused: its error says why */
        }
    }
    fm_mutex_lock(&wave.mutex);
    wave.pending--;
    while (wave.pending > 0) {
        fm_condition_wait(&wave.condition, &wave.mutex);
    }
    fm_mutex_unlock(&wave.mutex);
    for (uint32_t i = 0; i < used; i++) {
        if (status == 0) {
            unit_collect(&units[i], items, results, output_count);
        }
        unit_deinit(&units[i], input_count, output_count);
    }
    fm_condition_deinit(&wave.condition);
    fm_mutex_deinit(&wave.mutex);
    return status;
}

int fm_infer_run(struct fm_servable *servable, const struct fm_infer_item *items, size_t count,
                 struct fm_infer_result *results, struct fm_error *reterr)
{
    uint32_t output_count = 0;
    (void)fm_servable_outputs(servable, &output_count);
    for (size_t i = 0; i < count; i++) {
        results[i].outputs = fm_alloc_zero((size_t)output_count + 1, sizeof *results[i].outputs);
        if (results[i].outputs == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for %zu results", count);
        }
    }
    struct unit *units = fm_alloc_zero(WAVE_MAX, sizeof *units);
    if (units == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a request");
    }
    size_t next = 0;
    int status = 0;
    while (status == 0 && next < count) {
        status = wave_run(servable, items, count, &next, results, units, reterr);
    }
    fm_free(units);
    return status;
}

void fm_infer_result_deinit(struct fm_infer_result *result, uint32_t output_count)
{
    for (uint32_t i = 0; result->outputs != NULL && i < output_count; i++) {
        fm_value_unref(&result->outputs[i]);
    }
    fm_free(result->outputs);
    *result = (struct fm_infer_result){0};
}
