/*
 * The wire form: hand-made bytes, every way of being cut off, groups, packed lists, and what the
 * writer makes.
 */
#include "core/proto/protobuf.h"

#include "tests/harness/test.h"

static struct fm_protobuf_reader reader_over(const void *data, size_t size)
{
    return fm_protobuf_reader_make(data, size);
}

TEST(fields_of_every_type)
{
    static const uint8_t message[] = {0x08, 0x96, 0x01,            /* 1: varint 150 */
                                      0x11, 1,    2,    3,   4,    /* 2: fixed64 */
                                      5,    6,    7,    8,         /* */
                                      0x1A, 2,    'h',  'i',       /* 3: bytes */
                                      0x25, 1,    0,    0,   0x80, /* 4: fixed32 */
                                      0xC2, 0x3E, 0};              /* 1000: empty bytes */
    struct fm_protobuf_reader reader = reader_over(message, sizeof(message));
    struct fm_protobuf_field field;
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK_INT_EQ(field.number, 1);
    CHECK_INT_EQ(field.value, 150);
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK_INT_EQ(field.value, 0x0807060504030201);
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK(fm_protobuf_equals(&field, "hi"));
    CHECK(!fm_protobuf_equals(&field, "ho"));
    CHECK(!fm_protobuf_equals(&field, "h"));
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK_INT_EQ(field.value, 0x80000001);
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK_INT_EQ(field.number, 1000);
    CHECK_INT_EQ(field.size, 0);
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 0);
    reader = reader_over(NULL, 0);
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 0);
    /* Cut anywhere, the message either ends between fields or is malformed. */
    for (size_t size = 0; size < sizeof(message); size++) {
        int more;
        size_t fields = 0;
        reader = reader_over(message, size);
        while ((more = fm_protobuf_next(&reader, &field)) == 1) {
            fields++;
        }
        bool between = size == 0 || size == 3 || size == 12 || size == 16 || size == 21;
        CHECK_INT_EQ(more, between ? 0 : FM_EINVAL);
        CHECK_INT_LT(fields, 5);
    }
}

struct bad {
    const char *bytes;
    size_t size;
};

TEST(malformed_messages)
{
    static const struct bad bad[] = {
        {"\x00\x00", 2},                                          /* field 0 */
        {"\x0E", 1},                                              /* type 6 */
        {"\x0F", 1},                                              /* type 7 */
        {"\x0C", 1},                                              /* the end of no group */
        {"\x0B", 1},                                              /* a group without an end */
        {"\x0B\x14", 2},                                          /* ended as another */
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12}, /* eleven bytes */
        {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11},     /* a huge length */
        {"\x80\x80\x80\x80\x80\x01\x00", 7},                      /* a tag beyond 32 bits */
    };
    struct fm_protobuf_field field;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_protobuf_reader reader = reader_over(bad[i].bytes, bad[i].size);
        CHECK_INT_EQ(fm_protobuf_next(&reader, &field), FM_EINVAL);
    }
}

TEST(groups_are_stepped_over)
{
    static const uint8_t message[] = {0x0B, 0x13, 0x08, 1, 0x1A, 1, 'x', 0x14, 0x0C, 0x10, 7};
    struct fm_protobuf_reader reader = reader_over(message, sizeof(message));
    struct fm_protobuf_field field;
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK_INT_EQ(field.number, 2);
    CHECK_INT_EQ(field.value, 7);
    uint8_t deep[2 * (FM_PROTOBUF_DEPTH_MAX + 1)];
    for (size_t levels = FM_PROTOBUF_DEPTH_MAX; levels <= FM_PROTOBUF_DEPTH_MAX + 1; levels++) {
        memset(deep, 0x0B, levels);
        memset(deep + levels, 0x0C, levels);
        reader = reader_over(deep, 2 * levels);
        CHECK_INT_EQ(fm_protobuf_next(&reader, &field),
                     levels <= FM_PROTOBUF_DEPTH_MAX ? 0 : FM_EINVAL);
    }
}

TEST(numbers_survive)
{
    static const uint64_t values[] = {0,     1,          127,        128,       16383,
                                      16384, UINT32_MAX, 1ull << 63, UINT64_MAX};
    struct fm_text text = {0};
    struct fm_protobuf_field field;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        size_t before = text.length;
        fm_protobuf_append_uint(&text, 15, values[i]);
        CHECK_INT_EQ(text.length - before, 1 + fm_protobuf_varint_size(values[i]));
    }
    fm_protobuf_append_string(&text, 16, "end");
    struct fm_protobuf_reader reader = reader_over(text.data, text.length);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
        CHECK_INT_EQ(field.value, values[i]);
    }
    CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
    CHECK(fm_protobuf_equals(&field, "end"));
    fm_text_deinit(&text);
}

TEST(fixed_numbers_have_eight_bytes)
{
    struct fm_text text = {0};
    fm_protobuf_append_fixed64(&text, 16, 0x0807060504030201);
    CHECK_INT_EQ(text.length, 10);
    CHECK_MEM_EQ(text.data, "\x81\x01\1\2\3\4\5\6\7\10", 10);
    fm_text_deinit(&text);
}

TEST(packed_lists)
{
    static const uint8_t varints[] = {3, 0x80, 1, 5};
    struct fm_protobuf_field field = {
        .number = 1, .type = FM_PROTOBUF_BYTES, .data = varints, .size = sizeof(varints)};
    uint64_t count = 0;
    CHECK_INT_EQ(fm_protobuf_packed_count(&field, FM_PROTOBUF_VARINT, &count), 0);
    CHECK_INT_EQ(count, 3);
    struct fm_protobuf_reader reader = reader_over(varints, sizeof(varints));
    uint64_t value = 0;
    uint64_t sum = 0;
    while (fm_protobuf_packed_next(&reader, FM_PROTOBUF_VARINT, &value) == 1) {
        sum += value;
    }
    CHECK_INT_EQ(sum, 3 + 128 + 5);
    CHECK_INT_EQ(fm_protobuf_packed_count(&field, FM_PROTOBUF_FIXED32, &count), 0);
    CHECK_INT_EQ(count, 1);
    CHECK_INT_EQ(fm_protobuf_packed_count(&field, FM_PROTOBUF_FIXED64, &count), FM_EINVAL);
    field.size = 2;
    CHECK_INT_EQ(fm_protobuf_packed_count(&field, FM_PROTOBUF_VARINT, &count), FM_EINVAL);
    field = (struct fm_protobuf_field){.type = FM_PROTOBUF_VARINT};
    CHECK_INT_EQ(fm_protobuf_packed_count(&field, FM_PROTOBUF_VARINT, &count), 0);
    CHECK_INT_EQ(count, 1);
    CHECK_INT_EQ(fm_protobuf_packed_count(&field, FM_PROTOBUF_FIXED32, &count), FM_EINVAL);
}

TEST_MAIN()
