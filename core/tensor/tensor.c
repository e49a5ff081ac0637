/*
 * Element sizes, shapes, BYTES elements, buffers. See tensor.h.
 */
#include "core/tensor/tensor.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

struct dtype_row {
    const char *name;
    const char *config_name;
    uint32_t bits;
};

static const struct dtype_row dtypes[FM_DTYPE_COUNT_] = {
#define DTYPE_ROW(name, value, bits, oip, triton) [value] = {oip, triton, bits},
    FM_DTYPE_TABLE(DTYPE_ROW)
#undef DTYPE_ROW
};

static const struct dtype_row *dtype_row(uint32_t dtype)
{
    return &dtypes[dtype < FM_DTYPE_COUNT_ ? dtype : FM_DTYPE_INVALID];
}

const char *fm_dtype_name(uint32_t dtype)
{
    return dtype_row(dtype)->name;
}

const char *fm_dtype_config_name(uint32_t dtype)
{
    return dtype_row(dtype)->config_name;
}

uint32_t fm_dtype_bits(uint32_t dtype)
{
    return dtype_row(dtype)->bits;
}

uint32_t fm_dtype_parse(const char *name, size_t length)
{
    for (uint32_t dtype = 1; dtype < FM_DTYPE_COUNT_; dtype++) {
        const char *names[2] = {dtypes[dtype].name, dtypes[dtype].config_name};
        for (int i = 0; i < 2; i++) {
            if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
                return dtype;
            }
        }
    }
    return FM_DTYPE_INVALID;
}

int fm_shape_element_count(const int64_t *shape, uint32_t rank, uint64_t *ret_count)
{
    if (rank > FM_RANK_MAX) {
        return FM_EINVAL;
    }
    uint64_t count = 1;
    bool empty = false;
    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] < 0) {
            return FM_EINVAL;
        }
        if (shape[i] == 0) {
            empty = true;
        } else if (count > (uint64_t)INT64_MAX / (uint64_t)shape[i]) {
            return FM_ETOOLARGE;
        } else {
            count *= (uint64_t)shape[i];
        }
    }
    *ret_count = empty ? 0 : count;
    return 0;
}

int fm_tensor_bytes(uint32_t dtype, const int64_t *shape, uint32_t rank, size_t *ret_size)
{
    uint32_t bits = fm_dtype_bits(dtype);
    if (bits == 0) {
        return FM_ETYPE;
    }
    uint64_t count = 0;
    int status = fm_shape_element_count(shape, rank, &count);
    if (status != 0) {
        return status;
    }
    if (count > (uint64_t)INT64_MAX / bits) {
        return FM_ETOOLARGE;
    }
    *ret_size = (size_t)((count * bits + 7) / 8);
    return 0;
}

const char *fm_shape_format(const int64_t *shape, uint32_t rank, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i <= rank && i <= FM_RANK_MAX; i++) {
        char part[24] = "]";
        if (i < rank) {
            (void)snprintf(part, sizeof(part), "%s%lld", i == 0 ? "[" : ",", (long long)shape[i]);
        } else if (rank == 0) {
            (void)snprintf(part, sizeof(part), "[]");
        }
        size_t length = strlen(part);
        if (used + length + 1 > size) {
            break;
        }
        memcpy(text + used, part, length + 1);
        used += length;
    }
    return text;
}

bool fm_shape_matches(const struct fm_port *port, const int64_t *shape, uint32_t rank)
{
    if (port->rank < 0) {
        return true;
    }
    if ((uint32_t)port->rank != rank) {
        return false;
    }
    for (uint32_t i = 0; i < rank; i++) {
        if (port->shape[i] >= 0 && port->shape[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

static uint32_t read_u32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static int bytes_check(const struct fm_tensor *tensor, uint64_t count, struct fm_error *reterr)
{
    const unsigned char *data = tensor->data;
    size_t offset = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (tensor->size - offset < 4) {
            return fm_error_set(
                reterr, FM_ETYPE,
                "BYTES tensor of %llu elements ends inside the length of element %llu",
                (unsigned long long)count, (unsigned long long)i);
        }
        size_t length = read_u32(data + offset);
        offset += 4;
        if (length > tensor->size - offset) {
            return fm_error_set(
                reterr, FM_ETYPE,
                "BYTES element %llu claims %zu bytes, but only %zu are left in the tensor",
                (unsigned long long)i, length, tensor->size - offset);
        }
        offset += length;
    }
    if (offset != tensor->size) {
        return fm_error_set(reterr, FM_ETYPE, "BYTES tensor has %zu bytes behind its %llu elements",
                            tensor->size - offset, (unsigned long long)count);
    }
    return 0;
}

int fm_tensor_check(const struct fm_tensor *tensor, struct fm_error *reterr)
{
    char shape[160];
    uint64_t count = 0;
    if (tensor->dtype == FM_DTYPE_INVALID || tensor->dtype >= FM_DTYPE_COUNT_) {
        return fm_error_set(reterr, FM_ETYPE, "tensor has no valid data type (%u)", tensor->dtype);
    }
    if (fm_shape_element_count(tensor->shape, tensor->rank, &count) != 0) {
        return fm_error_set(
            reterr, FM_ETYPE, "tensor has an invalid shape %s",
            tensor->rank > FM_RANK_MAX
                ? "(too many dimensions)"
                : fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape)));
    }
    if (tensor->dtype == FM_DTYPE_BYTES) {
        return bytes_check(tensor, count, reterr);
    }
    size_t expected = 0;
    int status = fm_tensor_bytes(tensor->dtype, tensor->shape, tensor->rank, &expected);
    if (status != 0 || expected != tensor->size) {
        return fm_error_set(reterr, FM_ETYPE, "tensor of %s %s must have %zu bytes, but has %zu",
                            fm_dtype_name(tensor->dtype),
                            fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape)),
                            expected, tensor->size);
    }
    return 0;
}

int fm_bytes_get(const struct fm_tensor *tensor, uint64_t index, const char **ret_data,
                 size_t *ret_length)
{
    const unsigned char *data = tensor->data;
    size_t offset = 0;
    for (uint64_t i = 0;; i++) {
        if (tensor->size - offset < 4) {
            return FM_ENOTFOUND;
        }
        size_t length = read_u32(data + offset);
        if (length > tensor->size - offset - 4) {
            return FM_ECORRUPT;
        }
        if (i == index) {
            *ret_data = (const char *)data + offset + 4;
            *ret_length = length;
            return 0;
        }
        offset += 4 + length;
    }
}

/* Bytes of `elements` elements of a BYTES tensor from `offset` on; SIZE_MAX: they are not there. */
static size_t strings_bytes(const struct fm_tensor *whole, size_t offset, uint64_t elements)
{
    const unsigned char *data = whole->data;
    size_t at = offset;
    for (uint64_t i = 0; i < elements; i++) {
        if (whole->size - at < 4) {
            return SIZE_MAX;
        }
        size_t length = read_u32(data + at);
        at += 4;
        if (whole->size - at < length) {
            return SIZE_MAX;
        }
        at += length;
    }
    return at - offset;
}

int fm_tensor_rows_next(const struct fm_tensor *whole, size_t *offset, uint64_t rows,
                        struct fm_tensor *ret_view)
{
    uint64_t elements = rows;
    for (uint32_t i = 1; i < whole->rank; i++) {
        elements *= (uint64_t)whole->shape[i];
    }
    size_t size = whole->dtype == FM_DTYPE_BYTES
                      ? strings_bytes(whole, *offset, elements)
                      : (size_t)(elements * fm_dtype_bits(whole->dtype) / 8);
    if (size > whole->size - *offset) {
        return FM_ECORRUPT;
    }
    *ret_view = *whole;
    ret_view->shape[0] = (int64_t)rows;
    ret_view->data = (unsigned char *)whole->data + *offset;
    ret_view->size = size;
    *offset += size;
    return 0;
}

struct fm_buffer {
    atomic_uint references;
    void *data;
    size_t size;
    void (*release)(void *context); /* NULL: data lies behind this */
    void *context;
};

/* Where the bytes of a buffer's own begin: aligned as fm_alloc_tensor aligns. */
enum { BUFFER_HEAD = 64 };
_Static_assert(sizeof(struct fm_buffer) <= BUFFER_HEAD, "it fits in front");

struct fm_buffer *fm_buffer_wrap(void *data, size_t size, void (*release)(void *context),
                                 void *context)
{
    struct fm_buffer *buffer = fm_alloc(sizeof(*buffer));
    if (buffer != NULL) {
        atomic_init(&buffer->references, 1);
        buffer->data = data;
        buffer->size = size;
        buffer->release = release;
        buffer->context = context;
    }
    return buffer;
}

struct fm_buffer *fm_buffer_create(size_t size)
{
    struct fm_buffer *buffer =
        size <= SIZE_MAX - BUFFER_HEAD ? fm_alloc_tensor(BUFFER_HEAD + size) : NULL;
    if (buffer != NULL) {
        atomic_init(&buffer->references, 1);
        buffer->data = (unsigned char *)buffer + BUFFER_HEAD;
        buffer->size = size;
        buffer->release = NULL;
        buffer->context = NULL;
    }
    return buffer;
}

void *fm_buffer_data(struct fm_buffer *buffer)
{
    return buffer->data;
}

size_t fm_buffer_size(const struct fm_buffer *buffer)
{
    return buffer->size;
}

struct fm_buffer *fm_buffer_ref(struct fm_buffer *buffer)
{
    unsigned before = atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    FM_ASSERT(before > 0);
    return buffer;
}

void fm_buffer_unref(struct fm_buffer *buffer)
{
    if (buffer == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel);
    FM_ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    if (buffer->release != NULL) {
        buffer->release(buffer->context);
    }
    fm_free(buffer);
}

int fm_value_alloc(struct fm_value *ret_value, uint32_t dtype, const int64_t *shape, uint32_t rank,
                   size_t size)
{
    uint64_t count = 0;
    int status = fm_shape_element_count(shape, rank, &count);
    if (status != 0) {
        return status;
    }
    if (dtype != FM_DTYPE_BYTES) {
        status = fm_tensor_bytes(dtype, shape, rank, &size);
        if (status != 0) {
            return status;
        }
    }
    struct fm_buffer *buffer = fm_buffer_create(size);
    if (buffer == NULL) {
        return FM_ENOMEM;
    }
    *ret_value = (struct fm_value){
        .tensor = {.dtype = dtype, .rank = rank, .data = buffer->data, .size = size},
        .buffer = buffer};
    if (rank > 0) {
        memcpy(ret_value->tensor.shape, shape, rank * sizeof(shape[0]));
    }
    return 0;
}

int fm_value_from_bytes(struct fm_value *ret_value, const void *data, size_t length)
{
    static const int64_t one[1] = {1};
    if (length > UINT32_MAX) {
        return FM_ETOOLARGE;
    }
    int status = fm_value_alloc(ret_value, FM_DTYPE_BYTES, one, 1, length + 4);
    if (status != 0) {
        return status;
    }
    unsigned char *bytes = ret_value->tensor.data;
    for (int i = 0; i < 4; i++) {
        bytes[i] = (unsigned char)(length >> (8 * i));
    }
    if (length > 0) {
        memcpy(bytes + 4, data, length);
    }
    return 0;
}

struct fm_value fm_value_ref(const struct fm_value *value)
{
    if (value->buffer != NULL) {
        (void)fm_buffer_ref(value->buffer);
    }
    return *value;
}

void fm_value_unref(struct fm_value *value)
{
    if (value != NULL) {
        fm_buffer_unref(value->buffer);
        memset(value, 0, sizeof(*value));
    }
}
