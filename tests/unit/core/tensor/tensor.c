/*
 * Tests of core/tensor/tensor: byte counts, overflow, BYTES elements, buffers.
 */
#include "core/tensor/tensor.h"

#include "tests/harness/test.h"

TEST(names_parse_back)
{
    for (uint32_t dtype = 1; dtype < FM_DTYPE_COUNT_; dtype++) {
        const char *name = fm_dtype_name(dtype);
        const char *config = fm_dtype_config_name(dtype);
        CHECK_UINT_EQ(fm_dtype_parse(name, strlen(name)), dtype);
        CHECK_UINT_EQ(fm_dtype_parse(config, strlen(config)), dtype);
    }
    CHECK_UINT_EQ(fm_dtype_parse("FP31", 4), FM_DTYPE_INVALID);
    CHECK_UINT_EQ(fm_dtype_parse("FP3", 3), FM_DTYPE_INVALID);
    CHECK_STR_EQ(fm_dtype_name(1000), "INVALID");
}

TEST(byte_counts)
{
    size_t size = 0;
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, (int64_t[]){2, 3, 4}, 3, &size), 0);
    CHECK_UINT_EQ(size, 96);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, NULL, 0, &size), 0);
    CHECK_UINT_EQ(size, 4);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_INT4, (int64_t[]){3}, 1, &size), 0);
    CHECK_UINT_EQ(size, 2);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, (int64_t[]){5, 0}, 2, &size), 0);
    CHECK_UINT_EQ(size, 0);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_BYTES, (int64_t[]){1}, 1, &size), FM_ETYPE);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, (int64_t[]){-1}, 1, &size), FM_EINVAL);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, (int64_t[]){INT64_MAX, 2}, 2, &size), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP64, (int64_t[]){INT64_MAX / 8}, 1, &size),
                 FM_ETOOLARGE);
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, (int64_t[]){1}, FM_RANK_MAX + 1, &size), FM_EINVAL);
    /* A zero dimension anywhere makes the tensor empty, however large the others are. */
    CHECK_INT_EQ(fm_tensor_bytes(FM_DTYPE_FP32, (int64_t[]){INT64_MAX, INT64_MAX, 0}, 3, &size),
                 FM_ETOOLARGE);
}

TEST(shapes_print_and_cut)
{
    char text[160];
    char small[6];
    CHECK_STR_EQ(fm_shape_format((int64_t[]){1, -1, 48}, 3, text, sizeof(text)), "[1,-1,48]");
    CHECK_STR_EQ(fm_shape_format(NULL, 0, text, sizeof(text)), "[]");
    CHECK_STR_EQ(fm_shape_format((int64_t[]){1000, 2000}, 2, small, sizeof(small)), "[1000");
}

TEST(shapes_match_ports)
{
    struct fm_port port = {.rank = 2, .shape = {-1, 3}};
    CHECK(fm_shape_matches(&port, (int64_t[]){7, 3}, 2));
    CHECK(!fm_shape_matches(&port, (int64_t[]){7, 4}, 2));
    CHECK(!fm_shape_matches(&port, (int64_t[]){3}, 1));
    port.rank = -1;
    CHECK(fm_shape_matches(&port, (int64_t[]){3}, 1));
}

TEST(bytes_elements)
{
    struct fm_value value = {0};
    const char *data = NULL;
    size_t length = 0;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_value_from_bytes(&value, "hello", 5), 0);
    CHECK_INT_EQ(fm_tensor_check(&value.tensor, &error), 0);
    CHECK_INT_EQ(fm_bytes_get(&value.tensor, 0, &data, &length), 0);
    CHECK_UINT_EQ(length, 5);
    CHECK_MEM_EQ(data, "hello", 5);
    CHECK_INT_EQ(fm_bytes_get(&value.tensor, 1, &data, &length), FM_ENOTFOUND);
    fm_value_unref(&value);
    CHECK_PTR_EQ(value.tensor.data, NULL);
}

TEST(hostile_bytes_are_refused)
{
    struct fm_error error = {0};
    unsigned char claims_too_much[] = {255, 255, 255, 255, 'a'};
    struct fm_tensor tensor = {
        .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .data = claims_too_much, .size = 5};
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "claims 4294967295 bytes");
    tensor.size = 3;
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "ends inside the length");
    unsigned char trailing[] = {1, 0, 0, 0, 'a', 'b'};
    tensor.data = trailing;
    tensor.size = 6;
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "1 bytes behind its 1 elements");
    const char *data = NULL;
    size_t length = 0;
    tensor.data = claims_too_much;
    tensor.size = 5;
    CHECK_INT_EQ(fm_bytes_get(&tensor, 0, &data, &length), FM_ECORRUPT);
}

TEST(wrong_sizes_are_refused)
{
    struct fm_error error = {0};
    float numbers[4] = {0};
    struct fm_tensor tensor = {
        .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {2, 2}, .data = numbers, .size = 15};
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "FP32 [2,2] must have 16 bytes, but has 15");
    tensor.size = 16;
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), 0);
    tensor.dtype = 999;
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), FM_ETYPE);
    tensor.dtype = FM_DTYPE_FP32;
    tensor.rank = 99;
    CHECK_INT_EQ(fm_tensor_check(&tensor, &error), FM_ETYPE);
}

static int releases;

static void count_release(void *context)
{
    releases += *(int *)context;
}

TEST(wrapped_bytes_are_released_once)
{
    int weight = 1;
    char bytes[4];
    releases = 0;
    struct fm_buffer *buffer = fm_buffer_wrap(bytes, sizeof(bytes), count_release, &weight);
    struct fm_value first = {
        .tensor = {.dtype = FM_DTYPE_UINT8, .rank = 1, .shape = {4}, .data = bytes, .size = 4},
        .buffer = buffer};
    struct fm_value second = fm_value_ref(&first);
    fm_value_unref(&first);
    CHECK_INT_EQ(releases, 0);
    fm_value_unref(&second);
    CHECK_INT_EQ(releases, 1);
    fm_value_unref(&second);
    fm_value_unref(NULL);
    CHECK_INT_EQ(releases, 1);
}

TEST_MAIN()
