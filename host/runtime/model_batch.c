/*
 * Gather and scatter. See model_batch.h.
 */
#include "host/runtime/model_batch.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"

/* --- life --- */

void fm_model_batch_init(struct fm_model_batch *batch, const struct fm_pipeline *pipeline,
                         uint32_t stage, uint32_t item_count, uint32_t rows)
{
    const struct fm_pipeline_stage *info = &pipeline->stages[stage];
    *batch = (struct fm_model_batch){.stage = info,
                                     .pipeline = pipeline,
                                     .item_count = item_count,
                                     .rows = rows,
                                     .input_count = info->input_count,
                                     .output_count = info->output_count};
    batch->items = calloc((size_t)item_count * batch->input_count + 1, sizeof(*batch->items));
    batch->inputs = calloc((size_t)batch->input_count + 1, sizeof(*batch->inputs));
    batch->input_owners = calloc((size_t)batch->input_count + 1, sizeof(*batch->input_owners));
    batch->outputs = calloc((size_t)batch->output_count + 1, sizeof(*batch->outputs));
    batch->results = calloc((size_t)item_count * batch->output_count + 1, sizeof(*batch->results));
    batch->ready = batch->items != NULL && batch->inputs != NULL && batch->input_owners != NULL &&
                   batch->outputs != NULL && batch->results != NULL;
}

struct fm_value *fm_model_batch_item_input(struct fm_model_batch *batch, uint32_t item,
                                           uint32_t input)
{
    return &batch->items[(size_t)item * batch->input_count + input];
}

void fm_model_batch_deinit(struct fm_model_batch *batch)
{
    for (uint32_t i = 0; batch->items != NULL && i < batch->item_count * batch->input_count; i++) {
        fm_value_unref(&batch->items[i]);
    }
    for (uint32_t i = 0; batch->input_owners != NULL && i < batch->input_count; i++) {
        fm_value_unref(&batch->input_owners[i]);
    }
    for (uint32_t i = 0; batch->results != NULL && i < batch->item_count * batch->output_count;
         i++) {
        fm_value_unref(&batch->results[i]);
    }
    for (uint32_t i = 0; batch->outputs != NULL && i < batch->output_count; i++) {
        if (batch->outputs[i].release != NULL) {
            batch->outputs[i].release(batch->outputs[i].release_context);
        }
    }
    free(batch->items);
    free(batch->inputs);
    free(batch->input_owners);
    free(batch->outputs);
    free(batch->results);
    *batch = (struct fm_model_batch){0};
}

/* --- gather --- */

/* True when items lack the batch dimension that the model wants. */
static bool adds_batch_dimension(const struct fm_model_batch *batch)
{
    return batch->stage->ports.batch_max > 0 && !batch->stage->spec->items_have_rows;
}

static void tensor_add_dimension(struct fm_tensor *tensor, int64_t size)
{
    memmove(&tensor->shape[1], &tensor->shape[0], tensor->rank * sizeof(tensor->shape[0]));
    tensor->shape[0] = size;
    tensor->rank++;
}

static int gather_single(struct fm_model_batch *batch, uint32_t input, struct fm_error *reterr)
{
    struct fm_tensor *tensor = &batch->inputs[input];
    *tensor = fm_model_batch_item_input(batch, 0, input)->tensor;
    if (tensor->dtype != FM_DTYPE_INVALID && adds_batch_dimension(batch)) {
        if (tensor->rank >= FM_RANK_MAX) {
            return fm_error_set(reterr, FM_ETYPE,
                                "stage '%s': no room for a batch dimension in %u dimensions",
                                batch->stage->spec->name, tensor->rank);
        }
        tensor_add_dimension(tensor, 1);
    }
    return 0;
}

/* Writes `value` as one element of dtype to memory; only for the types that padding allows. */
static int element_encode(uint32_t dtype, double value, unsigned char *ret_bytes, size_t *ret_size)
{
    switch (dtype) {
    case FM_DTYPE_FP32: {
        float number = (float)value;
        memcpy(ret_bytes, &number, *ret_size = sizeof(number));
        return 0;
    }
    case FM_DTYPE_FP64:
        memcpy(ret_bytes, &value, *ret_size = sizeof(value));
        return 0;
    case FM_DTYPE_FP16:
    case FM_DTYPE_BF16: {
        uint16_t number = dtype == FM_DTYPE_FP16 ? fm_fp16_from_float((float)value)
                                                 : fm_bf16_from_float((float)value);
        memcpy(ret_bytes, &number, *ret_size = sizeof(number));
        return 0;
    }
    case FM_DTYPE_UINT8:
        ret_bytes[0] = (unsigned char)value;
        *ret_size = 1;
        return 0;
    case FM_DTYPE_INT8:
        ret_bytes[0] = (unsigned char)(signed char)value;
        *ret_size = 1;
        return 0;
    case FM_DTYPE_INT32: {
        int32_t number = (int32_t)value;
        memcpy(ret_bytes, &number, *ret_size = sizeof(number));
        return 0;
    }
    case FM_DTYPE_INT64: {
        int64_t number = (int64_t)value;
        memcpy(ret_bytes, &number, *ret_size = sizeof(number));
        return 0;
    }
    default:
        return FM_EUNSUPPORTED;
    }
}

/* Copies an item whose bucket axis is shorter than the batch's: rows along the axis, then padding.
 */
static void copy_padded(const struct fm_tensor *item, uint32_t axis, int64_t target,
                        size_t element_size, const unsigned char *pad, unsigned char *destination)
{
    size_t inner = element_size;
    size_t outer = 1;
    for (uint32_t i = 0; i < item->rank; i++) {
        if (i < axis) {
            outer *= (size_t)item->shape[i];
        } else if (i > axis) {
            inner *= (size_t)item->shape[i];
        }
    }
    const unsigned char *source = item->data;
    size_t source_run = inner * (size_t)item->shape[axis];
    size_t target_run = inner * (size_t)target;
    for (size_t i = 0; i < outer; i++) {
        memcpy(destination, source, source_run);
        for (size_t at = source_run; at < target_run; at += element_size) {
            memcpy(destination + at, pad, element_size);
        }
        source += source_run;
        destination += target_run;
    }
}

/* The shape that all items of the batch get, and the rows in all. */
static int batch_shape(struct fm_model_batch *batch, uint32_t input, struct fm_tensor *ret_shape,
                       bool *ret_pads, struct fm_error *reterr)
{
    const struct fm_batch_spec *spec = &batch->stage->spec->batch;
    bool pads = input == 0 && spec->bucket_step > 0;
    bool rows_inside = batch->stage->spec->items_have_rows;
    struct fm_tensor shape = fm_model_batch_item_input(batch, 0, input)->tensor;
    int64_t rows = 0;
    *ret_pads = false;
    for (uint32_t i = 0; i < batch->item_count; i++) {
        const struct fm_tensor *item = &fm_model_batch_item_input(batch, i, input)->tensor;
        bool equal = item->rank == shape.rank && item->dtype == shape.dtype;
        for (uint32_t axis = 0; equal && axis < item->rank; axis++) {
            if (item->shape[axis] == shape.shape[axis] || (rows_inside && axis == 0)) {
                continue;
            }
            equal = pads && (int32_t)axis == spec->bucket_axis;
            *ret_pads = true;
            if (item->shape[axis] > shape.shape[axis]) {
                shape.shape[axis] = item->shape[axis];
            }
        }
        if (!equal) {
            return fm_error_set(reterr, FM_EINTERNAL,
                                "stage '%s': items of different shapes in one batch",
                                batch->stage->spec->name);
        }
        rows += rows_inside ? item->shape[0] : 1;
    }
    if (rows_inside) {
        shape.shape[0] = rows;
    } else {
        if (shape.rank >= FM_RANK_MAX) {
            return fm_error_set(reterr, FM_ETYPE, "stage '%s': no room for a batch dimension",
                                batch->stage->spec->name);
        }
        tensor_add_dimension(&shape, rows);
    }
    *ret_shape = shape;
    return 0;
}

static int gather_many(struct fm_model_batch *batch, uint32_t input, struct fm_error *reterr)
{
    struct fm_tensor shape;
    bool pads = false;
    int status = batch_shape(batch, input, &shape, &pads, reterr);
    if (status != 0) {
        return status;
    }
    uint32_t bits = fm_dtype_bits(shape.dtype);
    unsigned char pad[16] = {0};
    size_t element_size = bits / 8;
    if (shape.dtype != FM_DTYPE_BYTES && bits % 8 != 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "stage '%s': %s tensors cannot be batched",
                            batch->stage->spec->name, fm_dtype_name(shape.dtype));
    }
    if (pads &&
        element_encode(shape.dtype, batch->stage->spec->batch.pad_value, pad, &element_size) != 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "stage '%s': %s tensors cannot be padded",
                            batch->stage->spec->name, fm_dtype_name(shape.dtype));
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < batch->item_count; i++) {
        bytes += fm_model_batch_item_input(batch, i, input)->tensor.size;
    }
    struct fm_value *owner = &batch->input_owners[input];
    status = fm_value_alloc(owner, shape.dtype, shape.shape, shape.rank, bytes);
    if (status != 0) {
        return fm_error_set(reterr, status, "stage '%s': cannot assemble a batch of %u: %s",
                            batch->stage->spec->name, batch->item_count, fm_status_text(status));
    }
    unsigned char *destination = owner->tensor.data;
    uint32_t axis = (uint32_t)(batch->stage->spec->batch.bucket_axis < 0
                                   ? 0
                                   : batch->stage->spec->batch.bucket_axis);
    for (uint32_t i = 0; i < batch->item_count; i++) {
        const struct fm_tensor *item = &fm_model_batch_item_input(batch, i, input)->tensor;
        if (pads) {
            copy_padded(item, axis, shape.shape[axis + 1], element_size, pad, destination);
            destination += owner->tensor.size / batch->item_count;
        } else if (item->size > 0) {
            memcpy(destination, item->data, item->size);
            destination += item->size;
        }
    }
    batch->inputs[input] = owner->tensor;
    return 0;
}

int fm_model_batch_gather(struct fm_model_batch *batch, struct fm_error *reterr)
{
    if (!batch->ready) {
        return fm_error_set(reterr, FM_ENOMEM, "stage '%s': out of memory for a batch of %u",
                            batch->stage->spec->name, batch->item_count);
    }
    for (uint32_t j = 0; j < batch->input_count; j++) {
        bool absent = fm_model_batch_item_input(batch, 0, j)->tensor.dtype == FM_DTYPE_INVALID;
        int status = batch->item_count == 1 || absent ? gather_single(batch, j, reterr)
                                                      : gather_many(batch, j, reterr);
        if (status != 0) {
            return status;
        }
    }
    for (uint32_t j = 0; j < batch->output_count; j++) {
        const struct fm_pipeline_value *value = &batch->pipeline->values[batch->stage->outputs[j]];
        batch->outputs[j].wanted = value->is_output || value->consumer_count > 0 ? 1 : 0;
    }
    return 0;
}

/* --- scatter --- */

/* Owns the backend's output: the buffer's release calls the backend's. */
static int output_wrap(struct fm_output *output, struct fm_value *ret_value)
{
    struct fm_buffer *buffer = fm_buffer_wrap(output->tensor.data, output->tensor.size,
                                              output->release, output->release_context);
    if (buffer == NULL) {
        return FM_ENOMEM;
    }
    output->release = NULL;
    *ret_value = (struct fm_value){.tensor = output->tensor, .buffer = buffer};
    return 0;
}

/* The view of item `item` into a batched output; moves *offset on. */
static int slice(const struct fm_model_batch *batch, const struct fm_value *whole, uint32_t item,
                 size_t *offset, struct fm_value *ret_value)
{
    int64_t rows = 1;
    if (batch->stage->spec->items_have_rows) {
        for (uint32_t j = 0; j < batch->input_count; j++) {
            const struct fm_tensor *input =
                &batch->items[(size_t)item * batch->input_count + j].tensor;
            if (input->dtype != FM_DTYPE_INVALID && input->rank > 0) {
                rows = input->shape[0];
                break;
            }
        }
    }
    struct fm_tensor rows_view;
    int status = fm_tensor_rows_next(&whole->tensor, offset, (uint64_t)rows, &rows_view);
    if (status != 0) {
        return status;
    }
    struct fm_value view = fm_value_ref(whole);
    view.tensor = rows_view;
    if (adds_batch_dimension(batch)) {
        view.tensor.rank--;
        memmove(&view.tensor.shape[0], &view.tensor.shape[1],
                view.tensor.rank * sizeof(view.tensor.shape[0]));
    }
    *ret_value = view;
    return 0;
}

static int scatter_output(struct fm_model_batch *batch, uint32_t output, struct fm_error *reterr)
{
    struct fm_value whole = {0};
    char shape[160];
    const struct fm_tensor *tensor = &batch->outputs[output].tensor;
    const char *name = batch->stage->ports.outputs[output].name;
    bool batched = batch->stage->ports.batch_max > 0;
    if (batched && (tensor->rank == 0 || tensor->shape[0] != (int64_t)batch->rows)) {
        return fm_error_set(reterr, FM_EINTERNAL,
                            "model '%s' answered a batch of %u rows with output '%s' of shape %s",
                            batch->stage->spec->target, batch->rows, name,
                            fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape)));
    }
    if (output_wrap(&batch->outputs[output], &whole) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for output '%s' of model '%s'", name,
                            batch->stage->spec->target);
    }
    int status = 0;
    size_t offset = 0;
    for (uint32_t i = 0; i < batch->item_count && status == 0; i++) {
        struct fm_value *result = &batch->results[(size_t)i * batch->output_count + output];
        if (batched) {
            status = slice(batch, &whole, i, &offset, result);
        } else {
            *result = fm_value_ref(&whole);
        }
    }
    fm_value_unref(&whole);
    if (status != 0) {
        return fm_error_set(reterr, status,
                            "model '%s' answered with a malformed BYTES tensor for output '%s'",
                            batch->stage->spec->target, name);
    }
    return 0;
}

int fm_model_batch_scatter(struct fm_model_batch *batch, struct fm_value **ret_items,
                           struct fm_error *reterr)
{
    for (uint32_t j = 0; j < batch->output_count; j++) {
        if (batch->outputs[j].wanted == 0) {
            continue;
        }
        int status = scatter_output(batch, j, reterr);
        if (status != 0) {
            return status;
        }
    }
    for (uint32_t i = 0; i < batch->item_count; i++) {
        ret_items[i] = &batch->results[(size_t)i * batch->output_count];
    }
    return 0;
}

/* --- stacking --- */

/* The shape of the stacked tensor; an empty one takes what the type says, with 0 for what it leaves
 * open. */
static void stacked_shape(const struct fm_pipeline_output *output, const struct fm_tensor *element,
                          uint32_t count, struct fm_tensor *ret_shape)
{
    if (element != NULL) {
        *ret_shape = *element;
        if (element->rank == 1 && element->shape[0] == 1) {
            ret_shape->shape[0] = count;
        } else {
            tensor_add_dimension(ret_shape, count);
        }
        return;
    }
    *ret_shape = (struct fm_tensor){
        .dtype = output->type.dtype == FM_DTYPE_INVALID ? FM_DTYPE_UINT8 : output->type.dtype,
        .rank = output->type.rank < 1 ? 1 : (uint32_t)output->type.rank};
    for (uint32_t i = 1; i < ret_shape->rank; i++) {
        ret_shape->shape[i] = output->type.shape[i] < 0 ? 0 : output->type.shape[i];
    }
}

int fm_model_batch_stack(const struct fm_pipeline_output *output,
                         const struct fm_value *const *elements, uint32_t count,
                         struct fm_value *ret_value, struct fm_error *reterr)
{
    struct fm_tensor shape;
    size_t bytes = 0;
    const struct fm_tensor *first = count > 0 ? &elements[0]->tensor : NULL;
    if (first != NULL && (first->rank >= FM_RANK_MAX || (first->dtype != FM_DTYPE_BYTES &&
                                                         fm_dtype_bits(first->dtype) % 8 != 0))) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "output '%s': %s tensors of %u dimensions cannot be stacked",
                            output->name, fm_dtype_name(first->dtype), first->rank);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_tensor *element = &elements[i]->tensor;
        if (element->dtype != first->dtype || element->rank != first->rank ||
            memcmp(element->shape, first->shape, first->rank * sizeof(first->shape[0])) != 0) {
            char shapes[2][160];
            return fm_error_set(
                reterr, FM_ETYPE,
                "output '%s': elements of shapes %s and %s cannot be stacked; collect them with an "
                "operator",
                output->name,
                fm_shape_format(first->shape, first->rank, shapes[0], sizeof(shapes[0])),
                fm_shape_format(element->shape, element->rank, shapes[1], sizeof(shapes[1])));
        }
        bytes += element->size;
    }
    stacked_shape(output, first, count, &shape);
    int status = fm_value_alloc(ret_value, shape.dtype, shape.shape, shape.rank, bytes);
    if (status != 0) {
        return fm_error_set(reterr, status, "output '%s': %s", output->name,
                            fm_status_text(status));
    }
    unsigned char *destination = ret_value->tensor.data;
    for (uint32_t i = 0; i < count; i++) {
        if (elements[i]->tensor.size > 0) {
            memcpy(destination, elements[i]->tensor.data, elements[i]->tensor.size);
            destination += elements[i]->tensor.size;
        }
    }
    return 0;
}
