/*
 * Files to tensors. See input.h.
 */
#include "engines/infer/input.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/npy.h"
#include "core/util/error.h"

enum { JSON_LOOKAHEAD = 4096, SHAPE_TEXT_SIZE = 128 };

enum fm_input_kind fm_input_recognize(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    if (size >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0) {
        return FM_INPUT_NPY;
    }
    if ((size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) ||
        (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)) {
        return FM_INPUT_IMAGE;
    }
    size_t at = fm_text_after_bom((const char *)bytes, size);
    while (at < size &&
           (bytes[at] == ' ' || bytes[at] == '\n' || bytes[at] == '\r' || bytes[at] == '\t')) {
        at++;
    }
    size_t window = size < JSON_LOOKAHEAD ? size : JSON_LOOKAHEAD;
    if (at < size && bytes[at] == '{' && memmem(bytes, window, "\"inputs\"", 8) != NULL) {
        return FM_INPUT_JSON;
    }
    return FM_INPUT_RAW;
}

/* "FP32 [-1,3,48,192]" */
static const char *port_format(const struct fm_port *port, char *text, size_t size)
{
    char shape[SHAPE_TEXT_SIZE];
    (void)snprintf(text, size, "%s %s", fm_dtype_name(port->dtype),
                   fm_shape_format(port->shape, port->rank < 0 ? 0 : (uint32_t)port->rank, shape,
                                   sizeof shape));
    return text;
}

/* Puts a batch dimension of 1 in front where the tensor holds one row. */
static void row_to_batch(const struct fm_port *port, bool batched, struct fm_tensor *tensor)
{
    if (batched && port->rank > 0 && tensor->rank + 1 == (uint32_t)port->rank) {
        memmove(tensor->shape + 1, tensor->shape, tensor->rank * sizeof *tensor->shape);
        tensor->shape[0] = 1;
        tensor->rank++;
    }
}

static int fit_check(const struct fm_input_file *file, const struct fm_port *port,
                     const struct fm_tensor *tensor, struct fm_error *reterr)
{
    char wanted[SHAPE_TEXT_SIZE + 32];
    char shape[SHAPE_TEXT_SIZE];
    if (port->dtype != FM_DTYPE_INVALID && tensor->dtype != port->dtype) {
        return fm_error_set(reterr, FM_ETYPE,
                            "'%s' holds %s, but input '%s' takes %s; convert it before",
                            file->label, fm_dtype_name(tensor->dtype), port->name,
                            port_format(port, wanted, sizeof wanted));
    }
    if (!fm_shape_matches(port, tensor->shape, tensor->rank)) {
        return fm_error_set(reterr, FM_ETYPE, "'%s' has the shape %s, but input '%s' takes %s",
                            file->label,
                            fm_shape_format(tensor->shape, tensor->rank, shape, sizeof shape),
                            port->name, port_format(port, wanted, sizeof wanted));
    }
    return 0;
}

/* Completes the shape of raw numbers: what the user said, or the port's where at most one dimension
 * is open. */
static int raw_shape(const struct fm_input_file *file, const struct fm_port *port,
                     struct fm_tensor *tensor, struct fm_error *reterr)
{
    char wanted[SHAPE_TEXT_SIZE + 32];
    if (file->shape != NULL) {
        memcpy(tensor->shape, file->shape, file->rank * sizeof *file->shape);
        tensor->rank = file->rank;
        return 0;
    }
    uint64_t known = 1;
    int32_t open = -1;
    for (int32_t i = 0; i < port->rank; i++) {
        tensor->shape[i] = port->shape[i];
        if (port->shape[i] >= 0) {
            known *= (uint64_t)port->shape[i];
        } else if (open < 0) {
            open = i;
        } else {
            return fm_error_set(reterr, FM_EINVAL,
                                "'%s' is raw data and input '%s' is %s: say its shape with --shape",
                                file->label, port->name, port_format(port, wanted, sizeof wanted));
        }
    }
    uint64_t elements = (uint64_t)file->size * 8 / fm_dtype_bits(port->dtype);
    tensor->rank = port->rank < 0 ? 0 : (uint32_t)port->rank;
    if (open >= 0) {
        tensor->shape[open] = known > 0 ? (int64_t)(elements / known) : 0;
    }
    return 0;
}

static int raw_convert(const struct fm_input_file *file, const struct fm_port *port, bool batched,
                       struct fm_value *ret_value, struct fm_error *reterr)
{
    char shape[SHAPE_TEXT_SIZE];
    struct fm_tensor tensor = {.dtype = port->dtype};
    if (fm_dtype_bits(port->dtype) == 0) {
        return fm_error_set(
            reterr, FM_ETYPE,
            "'%s': input '%s' has no fixed type, so raw bytes cannot be read for it", file->label,
            port->name);
    }
    if (file->size == 0) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' is empty", file->label);
    }
    int status = raw_shape(file, port, &tensor, reterr);
    if (status != 0) {
        return status;
    }
    row_to_batch(port, batched, &tensor);
    status = fit_check(file, port, &tensor, reterr);
    if (status != 0) {
        return status;
    }
    size_t size = 0;
    if (fm_tensor_bytes(tensor.dtype, tensor.shape, tensor.rank, &size) != 0 ||
        size != file->size) {
        return fm_error_set(
            reterr, FM_ETYPE, "'%s' has %zu bytes; %s of shape %s for input '%s' needs %zu",
            file->label, file->size, fm_dtype_name(tensor.dtype),
            fm_shape_format(tensor.shape, tensor.rank, shape, sizeof shape), port->name, size);
    }
    status = fm_value_alloc(ret_value, tensor.dtype, tensor.shape, tensor.rank, 0);
    if (status != 0) {
        return fm_error_set(reterr, status, "'%s': out of memory", file->label);
    }
    if (size > 0) {
        memcpy(ret_value->tensor.data, file->data, size);
    }
    return 0;
}

/* The whole file as one string. */
static int bytes_convert(const struct fm_input_file *file, const struct fm_port *port, bool batched,
                         struct fm_value *ret_value, struct fm_error *reterr)
{
    int status = fm_value_from_bytes(ret_value, file->data, file->size);
    if (status != 0) {
        return fm_error_set(reterr, status, "'%s': out of memory", file->label);
    }
    struct fm_tensor *tensor = &ret_value->tensor;
    row_to_batch(port, batched, tensor);
    /* One element has as many dimensions of size 1 as the port wants. */
    while (port->rank >= 0 && tensor->rank < (uint32_t)port->rank && tensor->rank < FM_RANK_MAX) {
        tensor->shape[tensor->rank++] = 1;
    }
    if (port->rank == 0) {
        tensor->rank = 0;
    }
    return fit_check(file, port, tensor, reterr);
}

int fm_input_convert(const struct fm_input_file *file, const struct fm_port *port, bool batched,
                     const struct fm_image_plan *plan, struct fm_value *ret_value,
                     struct fm_error *reterr)
{
    char wanted[SHAPE_TEXT_SIZE + 32];
    int status = 0;
    enum fm_input_kind kind = fm_input_recognize(file->data, file->size);
    *ret_value = (struct fm_value){0};
    if (kind == FM_INPUT_NPY) {
        status = fm_npy_read(file->data, file->size, ret_value, reterr);
        if (status != 0) {
            return fm_error_prefix(reterr, status, "'%s'", file->label);
        }
        row_to_batch(port, batched, &ret_value->tensor);
        status = fit_check(file, port, &ret_value->tensor, reterr);
    } else if (port->dtype == FM_DTYPE_BYTES) {
        status = bytes_convert(file, port, batched, ret_value, reterr);
    } else if (kind == FM_INPUT_IMAGE && !plan->usable) {
        status = fm_error_set(
            reterr, FM_ETYPE,
            "'%s' is an image, but input '%s' (%s) does not look like one: give a .npy array",
            file->label, port->name, port_format(port, wanted, sizeof wanted));
    } else if (kind == FM_INPUT_IMAGE) {
        status = fm_image_convert(plan, file->label, file->data, file->size, ret_value, reterr);
        if (status == 0) {
            row_to_batch(port, port->rank > (int32_t)ret_value->tensor.rank, &ret_value->tensor);
            status = fit_check(file, port, &ret_value->tensor, reterr);
        }
    } else {
        status = raw_convert(file, port, batched, ret_value, reterr);
    }
    if (status != 0) {
        fm_value_unref(ret_value);
    }
    return status;
}

int fm_input_stack(const struct fm_value *values, size_t count, struct fm_value *ret_value,
                   struct fm_error *reterr)
{
    char first[SHAPE_TEXT_SIZE];
    char other[SHAPE_TEXT_SIZE];
    const struct fm_tensor *head = &values[0].tensor;
    int64_t shape[FM_RANK_MAX];
    size_t size = 0;
    memcpy(shape, head->shape, sizeof shape);
    shape[0] = 0;
    for (size_t i = 0; i < count; i++) {
        const struct fm_tensor *tensor = &values[i].tensor;
        bool same =
            tensor->rank == head->rank && tensor->dtype == head->dtype && tensor->rank > 0 &&
            memcmp(tensor->shape + 1, head->shape + 1, (head->rank - 1) * sizeof *head->shape) == 0;
        if (!same) {
            return fm_error_set(reterr, FM_ETYPE, "inputs of shapes %s and %s cannot be one batch",
                                fm_shape_format(head->shape, head->rank, first, sizeof first),
                                fm_shape_format(tensor->shape, tensor->rank, other, sizeof other));
        }
        shape[0] += tensor->shape[0];
        size += tensor->size;
    }
    int status = fm_value_alloc(ret_value, head->dtype, shape, head->rank, size);
    if (status != 0) {
        return fm_error_set(reterr, status, "out of memory for a batch of %" PRId64 " rows",
                            shape[0]);
    }
    char *out = ret_value->tensor.data;
    for (size_t i = 0; i < count; i++) {
        if (values[i].tensor.size > 0) {
            memcpy(out, values[i].tensor.data, values[i].tensor.size);
        }
        out += values[i].tensor.size;
    }
    return 0;
}
