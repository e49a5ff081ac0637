/*
 * Made-up inputs. See inputs.h.
 */
#include "engines/profile/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"

int fm_input_shape_parse(char *text, struct fm_input_shape *ret_shape, struct fm_error *reterr)
{
    *ret_shape = (struct fm_input_shape){0};
    char *equals = strrchr(text, '=');
    char *sizes = text;
    if (equals != NULL) {
        *equals = '\0';
        ret_shape->name = text;
        sizes = equals + 1;
    }
    while (sizes != NULL) {
        char *comma = strchr(sizes, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        int64_t size = 0;
        if (ret_shape->rank == FM_RANK_MAX || fm_parse_int64(sizes, &size) != 0 || size < 1) {
            return fm_error_set(reterr, FM_EINVAL,
                                "'%s' is not a size of at least 1; write a shape as "
                                "NAME=SIZE,SIZE,..., for example x=3,48,320",
                                sizes);
        }
        ret_shape->shape[ret_shape->rank++] = size;
        sizes = comma;
    }
    return 0;
}

/* "x=3,48,320" for the message: known sizes as they are, an example for the others. */
static const char *example_format(const struct fm_port *row, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s=", row->name);
    for (int32_t i = 0; i < row->rank && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i == 0 ? "" : ",",
                                 row->shape[i] < 0 ? 64 : row->shape[i]);
    }
    return text;
}

int fm_input_row_shape(const struct fm_port *port, bool batched,
                       const struct fm_input_shape *shapes, size_t shape_count, size_t port_count,
                       struct fm_port *ret_row, struct fm_error *reterr)
{
    *ret_row = *port;
    if (batched && port->rank > 0) {
        ret_row->rank = port->rank - 1;
        memmove(ret_row->shape, port->shape + 1, (size_t)ret_row->rank * sizeof *port->shape);
    }
    char text[160];
    char shown[128];
    const struct fm_input_shape *given = NULL;
    for (size_t i = 0; i < shape_count; i++) {
        if (shapes[i].name != NULL ? strcmp(shapes[i].name, port->name) == 0 : port_count == 1) {
            given = &shapes[i];
        }
    }
    if (ret_row->rank < 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "input '%s' has no known rank, so nothing can be made up for it",
                            port->name);
    }
    fm_shape_format(ret_row->shape, (uint32_t)ret_row->rank, shown, sizeof shown);
    if (given != NULL && given->rank != (uint32_t)ret_row->rank) {
        return fm_error_set(
            reterr, FM_EINVAL, "one row of input '%s' is %s: give %d sizes%s, not %" PRIu32,
            port->name, shown, ret_row->rank, batched ? " (without the batch)" : "", given->rank);
    }
    for (int32_t i = 0; i < ret_row->rank; i++) {
        if (given != NULL && ret_row->shape[i] >= 0 && ret_row->shape[i] != given->shape[i]) {
            return fm_error_set(reterr, FM_ETYPE,
                                "size %d of input '%s' is fixed at %" PRId64 ", not %" PRId64
                                " (one row is %s)",
                                i, port->name, ret_row->shape[i], given->shape[i], shown);
        }
        if (given == NULL && ret_row->shape[i] < 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "one row of input '%s' is %s: say which sizes to measure with, for "
                                "example --input-shape %s",
                                port->name, shown, example_format(ret_row, text, sizeof text));
        }
        ret_row->shape[i] = given != NULL ? given->shape[i] : ret_row->shape[i];
    }
    return 0;
}

static void numbers_fill(struct fm_tensor *tensor, struct fm_random *random)
{
    size_t size = fm_dtype_bits(tensor->dtype) / 8;
    if (size == 0) {
        memset(tensor->data, 0, tensor->size); /* below 8 bits: zeros */
        return;
    }
    unsigned char *bytes = tensor->data;
    bool complex = tensor->dtype == FM_DTYPE_COMPLEX64 || tensor->dtype == FM_DTYPE_COMPLEX128;
    memset(bytes, 0, tensor->size);
    for (size_t offset = 0; offset + size <= tensor->size && !complex; offset += size) {
        double value = fm_random_unit(random);
        float single = (float)value;
        uint16_t half;
        switch ((enum fm_dtype)tensor->dtype) {
        case FM_DTYPE_FP64:
            memcpy(bytes + offset, &value, sizeof value);
            break;
        case FM_DTYPE_FP32:
            memcpy(bytes + offset, &single, sizeof single);
            break;
        case FM_DTYPE_FP16:
        case FM_DTYPE_BF16:
            half = tensor->dtype == FM_DTYPE_FP16 ? fm_fp16_from_float(single)
                                                  : fm_bf16_from_float(single);
            memcpy(bytes + offset, &half, sizeof half);
            break;
        case FM_DTYPE_BOOL:
        case FM_DTYPE_UINT8:
        case FM_DTYPE_UINT16:
        case FM_DTYPE_UINT32:
        case FM_DTYPE_UINT64:
        case FM_DTYPE_INT8:
        case FM_DTYPE_INT16:
        case FM_DTYPE_INT32:
        case FM_DTYPE_INT64:
            bytes[offset] = value < 0.5; /* little-endian */
            break;
        case FM_DTYPE_INVALID:
        case FM_DTYPE_BYTES:
        case FM_DTYPE_FP8E4M3FN:
        case FM_DTYPE_FP8E4M3FNUZ:
        case FM_DTYPE_FP8E5M2:
        case FM_DTYPE_FP8E5M2FNUZ:
        case FM_DTYPE_COMPLEX64:
        case FM_DTYPE_COMPLEX128:
        case FM_DTYPE_UINT4:
        case FM_DTYPE_INT4:
        case FM_DTYPE_COUNT_:
            break; /* zeros */
        }
    }
}

int fm_input_fill(const struct fm_port *row, bool batched, uint32_t rows, struct fm_random *random,
                  struct fm_value *ret_value, struct fm_error *reterr)
{
    static const char packed[] = "\7\0\0\0fermata";
    int64_t shape[FM_RANK_MAX];
    uint32_t rank = 0;
    if (batched && row->rank < FM_RANK_MAX) {
        shape[rank++] = rows;
    }
    for (int32_t i = 0; i < row->rank; i++) {
        shape[rank++] = row->shape[i];
    }
    uint64_t count = 0;
    int status = fm_shape_element_count(shape, rank, &count);
    size_t string_bytes = row->dtype == FM_DTYPE_BYTES && count < SIZE_MAX / sizeof packed
                              ? count * (sizeof packed - 1)
                              : 0;
    if (status == 0) {
        status = fm_value_alloc(ret_value, row->dtype, shape, rank, string_bytes);
    }
    if (status != 0) {
        char shown[128];
        return fm_error_set(
            reterr, status, "cannot make an input of %s %s: %s", fm_dtype_name(row->dtype),
            fm_shape_format(shape, rank, shown, sizeof shown),
            status == FM_ENOMEM ? "out of memory; use smaller batches" : "it is too large");
    }
    if (row->dtype == FM_DTYPE_BYTES) {
        for (uint64_t i = 0; i < count; i++) {
            memcpy((char *)ret_value->tensor.data + i * (sizeof packed - 1), packed,
                   sizeof packed - 1);
        }
    } else {
        numbers_fill(&ret_value->tensor, random);
    }
    return 0;
}
