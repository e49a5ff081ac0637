/*
 * The wire form of protocol buffers: a pull reader that works in place, and a writer.
 *
 * Owns: tags, varints, fixed-size numbers, length-delimited fields, packed lists, the skipping of
 * what is unknown (groups too), and every bounds check. Does not own: which field means what.
 * Nothing is allocated by the reader; views point into the message. Thread rule: caller's memory.
 *
 * Deliberately like the other implementations: a varint of more than 64 bits loses its upper bits,
 * a tag may be written in more bytes than it needs, and the end of a group that was never opened is
 * malformed.
 */
#ifndef FM_CORE_PROTO_PROTOBUF_H
#define FM_CORE_PROTO_PROTOBUF_H

#include <stdbool.h>
#include <string.h>

#include "core/util/text.h"

#define FM_PROTOBUF_DEPTH_MAX  100 /* groups in groups that are skipped */
#define FM_PROTOBUF_VARINT_MAX 10  /* bytes of the longest varint */

enum fm_protobuf_type {
    FM_PROTOBUF_VARINT = 0,
    FM_PROTOBUF_FIXED64 = 1,
    FM_PROTOBUF_BYTES = 2,
    FM_PROTOBUF_GROUP_BEGIN = 3,
    FM_PROTOBUF_GROUP_END = 4,
    FM_PROTOBUF_FIXED32 = 5,
};

struct fm_protobuf_reader {
    const uint8_t *at;
    const uint8_t *end;
};

struct fm_protobuf_field {
    uint32_t number;
    uint32_t type;       /* VARINT, FIXED64, BYTES or FIXED32 */
    uint64_t value;      /* of the numbers; 0 for BYTES */
    const uint8_t *data; /* BYTES: where they stand in the message; never NULL */
    size_t size;         /* BYTES: how many; else 0 */
};

static inline struct fm_protobuf_reader fm_protobuf_reader_make(const void *data, size_t size)
{
    const uint8_t *at = size > 0 ? data : (const uint8_t *)"";
    return (struct fm_protobuf_reader){.at = at, .end = at + size};
}

/* The varint at *at, which moves behind it. FM_EINVAL when it is cut off or longer than ten bytes.
 */
int FM_NODISCARD fm_protobuf_varint_slow(const uint8_t **at, const uint8_t *end,
                                         uint64_t *ret_value);

static inline int FM_NODISCARD fm_protobuf_varint(const uint8_t **at, const uint8_t *end,
                                                  uint64_t *ret_value)
{
    if (*at < end && **at < 0x80) {
        *ret_value = *(*at)++;
        return 0;
    }
    return fm_protobuf_varint_slow(at, end, ret_value);
}

int FM_NODISCARD fm_protobuf_next_slow(struct fm_protobuf_reader *reader,
                                       struct fm_protobuf_field *ret_field);

/*
 * The next field. 1: there is one; 0: the message is over, cleanly; FM_EINVAL: it is malformed or
 * cut off, and reading must stop. Groups are stepped over.
 */
static inline int FM_NODISCARD fm_protobuf_next(struct fm_protobuf_reader *reader,
                                                struct fm_protobuf_field *ret_field)
{
    /* Names, small messages and parameters: a tag of one byte and a length of one byte. */
    const uint8_t *at = reader->at;
    ptrdiff_t left = reader->end - at - 2;
    if (left >= 0 && (at[0] & 0x87) == FM_PROTOBUF_BYTES && at[0] >= 8 && at[1] < 0x80 &&
        at[1] <= left) {
        ret_field->number = at[0] >> 3;
        ret_field->type = FM_PROTOBUF_BYTES;
        ret_field->value = 0;
        ret_field->data = at + 2;
        ret_field->size = at[1];
        reader->at = at + 2 + at[1];
        return 1;
    }
    return left == -2 ? 0 : fm_protobuf_next_slow(reader, ret_field);
}

/* True when the field is BYTES and holds exactly `text`. */
static inline bool fm_protobuf_equals(const struct fm_protobuf_field *field, const char *text)
{
    size_t length = strlen(text);
    return field->type == FM_PROTOBUF_BYTES && field->size == length &&
           memcmp(field->data, text, length) == 0;
}

/* How many elements a field of a repeated number adds: packed ones are counted, else 1. `type` is
 * the type of one element. FM_EINVAL when the field has another type or is cut off. */
int FM_NODISCARD fm_protobuf_packed_count(const struct fm_protobuf_field *field, uint32_t type,
                                          uint64_t *ret_count);
/* The next element of such a field; `reader` stands over field->data. 1, 0 at the end, FM_EINVAL.
 */
int FM_NODISCARD fm_protobuf_packed_next(struct fm_protobuf_reader *reader, uint32_t type,
                                         uint64_t *ret_value);

/* --- Writing into the caller's buffer: each returns where the next byte goes --- */

static inline size_t fm_protobuf_varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static inline uint8_t *fm_protobuf_put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

static inline uint8_t *fm_protobuf_put_tag(uint8_t *out, uint32_t number, uint32_t type)
{
    return fm_protobuf_put_varint(out, (uint64_t)number << 3 | type);
}

/* Tag and length; the bytes themselves are the caller's business. */
static inline uint8_t *fm_protobuf_put_length(uint8_t *out, uint32_t number, size_t length)
{
    return fm_protobuf_put_varint(fm_protobuf_put_tag(out, number, FM_PROTOBUF_BYTES), length);
}

static inline uint8_t *fm_protobuf_put_bytes(uint8_t *out, uint32_t number, const void *data,
                                             size_t length)
{
    out = fm_protobuf_put_length(out, number, length);
    if (length > 0) {
        memcpy(out, data, length);
    }
    return out + length;
}

static inline uint8_t *fm_protobuf_put_uint(uint8_t *out, uint32_t number, uint64_t value)
{
    return fm_protobuf_put_varint(fm_protobuf_put_tag(out, number, FM_PROTOBUF_VARINT), value);
}

/* --- Writing at the end of a text; check text->failed at the end --- */

void fm_protobuf_append_uint(struct fm_text *text, uint32_t number, uint64_t value);
/* A fixed64, or the bits of a double. */
void fm_protobuf_append_fixed64(struct fm_text *text, uint32_t number, uint64_t value);
void fm_protobuf_append_bytes(struct fm_text *text, uint32_t number, const void *data,
                              size_t length);
void fm_protobuf_append_string(struct fm_text *text, uint32_t number, const char *string);

#endif
