/*
 * The wire form of protocol buffers. See protobuf.h. Pure.
 */
#include "core/proto/protobuf.h"

int fm_protobuf_varint_slow(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    const uint8_t *byte = *at;
    for (unsigned shift = 0; shift < 7 * FM_PROTOBUF_VARINT_MAX; shift += 7) {
        if (byte == end) {
            return FM_EINVAL;
        }
        value |= (uint64_t)(*byte & 0x7F) << shift;
        if (*byte++ < 0x80) {
            *at = byte;
            *ret_value = value;
            return 0;
        }
    }
    return FM_EINVAL;
}

static int fixed(struct fm_protobuf_reader *reader, size_t size, uint64_t *ret_value)
{
    uint64_t value = 0;
    if ((size_t)(reader->end - reader->at) < size) {
        return FM_EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)reader->at[i] << (8 * i);
    }
    reader->at += size;
    *ret_value = value;
    return 0;
}

static int tag(struct fm_protobuf_reader *reader, uint32_t *ret_number, uint32_t *ret_type)
{
    uint64_t value = 0;
    if (fm_protobuf_varint(&reader->at, reader->end, &value) != 0 || value > UINT32_MAX ||
        value < 8) {
        return FM_EINVAL;
    }
    *ret_number = (uint32_t)value >> 3;
    *ret_type = (uint32_t)value & 7u;
    return 0;
}

/* What stands behind a tag that opens no group and closes none. */
static int payload(struct fm_protobuf_reader *reader, struct fm_protobuf_field *field)
{
    field->value = 0;
    field->size = 0;
    field->data = reader->at;
    if (field->type == FM_PROTOBUF_BYTES) {
        uint64_t size = 0;
        if (fm_protobuf_varint(&reader->at, reader->end, &size) != 0 ||
            size > (size_t)(reader->end - reader->at)) {
            return FM_EINVAL;
        }
        field->data = reader->at;
        field->size = (size_t)size;
        reader->at += size;
        return 0;
    }
    if (field->type == FM_PROTOBUF_VARINT) {
        return fm_protobuf_varint(&reader->at, reader->end, &field->value);
    }
    if (field->type == FM_PROTOBUF_FIXED32) {
        return fixed(reader, 4, &field->value);
    }
    return field->type == FM_PROTOBUF_FIXED64 ? fixed(reader, 8, &field->value) : FM_EINVAL;
}

/* Behind the opening tag of group `number`: to behind its end. */
static int group_skip(struct fm_protobuf_reader *reader, uint32_t number)
{
    uint32_t open[FM_PROTOBUF_DEPTH_MAX];
    uint32_t depth = 0;
    open[depth++] = number;
    while (depth > 0) {
        struct fm_protobuf_field field;
        if (tag(reader, &field.number, &field.type) != 0) {
            return FM_EINVAL;
        }
        if (field.type == FM_PROTOBUF_GROUP_BEGIN) {
            if (depth == FM_PROTOBUF_DEPTH_MAX) {
                return FM_EINVAL;
            }
            open[depth++] = field.number;
        } else if (field.type == FM_PROTOBUF_GROUP_END) {
            if (open[--depth] != field.number) {
                return FM_EINVAL;
            }
        } else if (payload(reader, &field) != 0) {
            return FM_EINVAL;
        }
    }
    return 0;
}

int fm_protobuf_next_slow(struct fm_protobuf_reader *reader, struct fm_protobuf_field *ret_field)
{
    while (reader->at < reader->end) {
        if (tag(reader, &ret_field->number, &ret_field->type) != 0) {
            return FM_EINVAL;
        }
        if (ret_field->type != FM_PROTOBUF_GROUP_BEGIN) {
            return payload(reader, ret_field) == 0 ? 1 : FM_EINVAL;
        }
        if (group_skip(reader, ret_field->number) != 0) {
            return FM_EINVAL;
        }
    }
    return 0;
}

int fm_protobuf_packed_next(struct fm_protobuf_reader *reader, uint32_t type, uint64_t *ret_value)
{
    if (reader->at == reader->end) {
        return 0;
    }
    int status = type == FM_PROTOBUF_VARINT
                     ? fm_protobuf_varint(&reader->at, reader->end, ret_value)
                     : fixed(reader, type == FM_PROTOBUF_FIXED32 ? 4 : 8, ret_value);
    return status == 0 ? 1 : status;
}

int fm_protobuf_packed_count(const struct fm_protobuf_field *field, uint32_t type,
                             uint64_t *ret_count)
{
    if (field->type == type) {
        *ret_count = 1;
        return 0;
    }
    if (field->type != FM_PROTOBUF_BYTES) {
        return FM_EINVAL;
    }
    if (type != FM_PROTOBUF_VARINT) {
        size_t size = type == FM_PROTOBUF_FIXED32 ? 4 : 8;
        *ret_count = field->size / size;
        return field->size % size == 0 ? 0 : FM_EINVAL;
    }
    /* Each element ends with the one byte of it that has no continuation bit. */
    uint64_t count = 0;
    for (size_t i = 0; i < field->size; i++) {
        count += field->data[i] < 0x80;
    }
    *ret_count = count;
    return field->size == 0 || field->data[field->size - 1] < 0x80 ? 0 : FM_EINVAL;
}

void fm_protobuf_append_uint(struct fm_text *text, uint32_t number, uint64_t value)
{
    uint8_t bytes[2 * FM_PROTOBUF_VARINT_MAX];
    fm_text_append(text, bytes, (size_t)(fm_protobuf_put_uint(bytes, number, value) - bytes));
}

void fm_protobuf_append_fixed64(struct fm_text *text, uint32_t number, uint64_t value)
{
    uint8_t bytes[FM_PROTOBUF_VARINT_MAX + 8];
    uint8_t *out = fm_protobuf_put_tag(bytes, number, FM_PROTOBUF_FIXED64);
    for (size_t i = 0; i < 8; i++) {
        *out++ = (uint8_t)(value >> (8 * i));
    }
    fm_text_append(text, bytes, (size_t)(out - bytes));
}

void fm_protobuf_append_bytes(struct fm_text *text, uint32_t number, const void *data,
                              size_t length)
{
    uint8_t bytes[2 * FM_PROTOBUF_VARINT_MAX];
    fm_text_append(text, bytes, (size_t)(fm_protobuf_put_length(bytes, number, length) - bytes));
    fm_text_append(text, data, length);
}

void fm_protobuf_append_string(struct fm_text *text, uint32_t number, const char *string)
{
    fm_protobuf_append_bytes(text, number, string, strlen(string));
}
