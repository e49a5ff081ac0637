/*
 * Fuzzes core/proto/protobuf: reading any bytes stays inside them and ends; fields that were read
 * and written again read the same; packed lists count what they hold.
 */
#include <string.h>

#include "core/proto/protobuf.h"
#include "tests/fuzz/check.h"

static void check_packed(const struct fm_protobuf_field *field, uint32_t type)
{
    uint64_t count = 0;
    uint64_t value = 0;
    uint64_t seen = 0;
    int more;
    if (field->type != FM_PROTOBUF_BYTES || fm_protobuf_packed_count(field, type, &count) != 0) {
        return;
    }
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(field->data, field->size);
    while ((more = fm_protobuf_packed_next(&reader, type, &value)) == 1) {
        seen++;
    }
    FUZZ_CHECK(more != 0 || seen == count);
    FUZZ_CHECK(seen <= count);
}

static void check_again(const struct fm_protobuf_field *field)
{
    struct fm_text text = {0};
    struct fm_protobuf_field again;
    if (field->type == FM_PROTOBUF_BYTES) {
        fm_protobuf_append_bytes(&text, field->number, field->data, field->size);
    } else {
        fm_protobuf_append_uint(&text, field->number, field->value);
    }
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(text.data, text.length);
    FUZZ_CHECK(text.failed || fm_protobuf_next(&reader, &again) == 1);
    FUZZ_CHECK(text.failed || (again.number == field->number && again.value == field->value &&
                               again.size == field->size && reader.at == reader.end));
    fm_text_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    const uint8_t *before = reader.at;
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        FUZZ_CHECK(reader.at > before && reader.at <= reader.end && !fm_fuzz_canary);
        FUZZ_CHECK(field.number > 0 && field.number < 1u << 29);
        FUZZ_CHECK(field.data >= before && field.data + field.size <= reader.end);
        check_again(&field);
        check_packed(&field, FM_PROTOBUF_VARINT);
        check_packed(&field, FM_PROTOBUF_FIXED32);
        check_packed(&field, FM_PROTOBUF_FIXED64);
        before = reader.at;
    }
    FUZZ_CHECK(more == FM_EINVAL || reader.at == reader.end);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char seed[] = "\x08\x96\x01\x1A\x05hello\x25\1\2\3\4\x0B\x10\1\x0C\x31"
                               "12345678";
    if (index > 0 || sizeof(seed) - 1 > capacity) {
        return 0;
    }
    memcpy(data, seed, sizeof(seed) - 1);
    return sizeof(seed) - 1;
}
