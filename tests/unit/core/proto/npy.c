/*
 * Tests of core/proto/npy: round trips of every type, files as NumPy writes them, and every kind of
 * damage.
 */
#include "core/proto/npy.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

TEST(every_type_survives_a_round_trip)
{
    struct fm_random random;
    fm_random_init(&random, 7);
    for (uint32_t dtype = 1; dtype < FM_DTYPE_COUNT_; dtype++) {
        if (dtype == FM_DTYPE_BYTES) {
            continue;
        }
        for (uint32_t rank = 0; rank <= 4; rank++) {
            const int64_t shape[] = {2, 3, 1, 5};
            struct fm_value value = {0};
            struct fm_text text = {0};
            struct fm_error error = {0};
            CHECK_INT_EQ(fm_value_alloc(&value, dtype, shape, rank, 0), 0);
            for (size_t i = 0; i < value.tensor.size; i++) {
                ((unsigned char *)value.tensor.data)[i] =
                    (unsigned char)fm_random_below(&random, 2);
            }
            int status = fm_npy_write(&value.tensor, &text, &error);
            if (status == 0) {
                struct fm_value back = {0};
                CHECK_UINT_EQ((text.length - value.tensor.size) % 64, 0);
                CHECK_INT_EQ(fm_npy_read(text.data, text.length, &back, &error), 0);
                CHECK_UINT_EQ(back.tensor.dtype, dtype);
                CHECK_UINT_EQ(back.tensor.rank, rank);
                CHECK_UINT_EQ(back.tensor.size, value.tensor.size);
                CHECK_MEM_EQ(back.tensor.data, value.tensor.data, value.tensor.size);
                fm_value_unref(&back);
            } else {
                CHECK_INT_EQ(status, FM_EUNSUPPORTED);
                CHECK(dtype >= FM_DTYPE_BF16 && dtype != FM_DTYPE_COMPLEX64 &&
                      dtype != FM_DTYPE_COMPLEX128);
            }
            fm_text_deinit(&text);
            fm_value_unref(&value);
        }
    }
}

TEST(byte_strings_lose_only_trailing_zeros)
{
    static const char packed[] = "\3\0\0\0abc\0\0\0\0\2\0\0\0\0z";
    struct fm_tensor tensor = {.dtype = FM_DTYPE_BYTES,
                               .rank = 1,
                               .shape = {3},
                               .data = (void *)(uintptr_t)packed,
                               .size = sizeof packed - 1};
    struct fm_text text = {0};
    struct fm_value back = {0};
    CHECK_INT_EQ(fm_npy_write(&tensor, &text, NULL), 0);
    CHECK(strstr(text.data + 10, "'|S3'") != NULL);
    CHECK_INT_EQ(fm_npy_read(text.data, text.length, &back, NULL), 0);
    CHECK_UINT_EQ(back.tensor.size, tensor.size);
    CHECK_MEM_EQ(back.tensor.data, packed, tensor.size);
    fm_value_unref(&back);
    fm_text_deinit(&text);
}

/* A file with this header text (padded by us) and `size` zero bytes of data. */
static int read_text(const char *header, unsigned char version, size_t size,
                     struct fm_value *ret_value, struct fm_error *reterr)
{
    struct fm_text text = {0};
    size_t length = strlen(header);
    const char start[] = {'\x93',
                          'N',
                          'U',
                          'M',
                          'P',
                          'Y',
                          (char)version,
                          0,
                          (char)(length & 0xff),
                          (char)(length >> 8),
                          0,
                          0};
    fm_text_append(&text, start, version == 1 ? 10 : 12);
    fm_text_append_string(&text, header);
    char *data = fm_text_reserve(&text, size);
    if (data != NULL) {
        memset(data, 0, size);
    }
    int status = fm_npy_read(text.data, text.length, ret_value, reterr);
    fm_text_deinit(&text);
    return status;
}

TEST(headers_as_numpy_writes_them)
{
    static const struct {
        const char *header;
        unsigned char version;
        size_t size;
        uint32_t dtype;
        uint32_t rank;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n", 1, 24,
         FM_DTYPE_FP32, 2},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", 2, 4, FM_DTYPE_FP32, 0},
        {"{'shape': (3L,), 'descr': \"|u1\", 'fortran_order': False}", 3, 3, FM_DTYPE_UINT8, 1},
        {"{'descr': '>u1', 'fortran_order': False, 'shape': (0, 3), }", 1, 0, FM_DTYPE_UINT8, 2},
        {"{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }", 1, 16, FM_DTYPE_COMPLEX128,
         1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_value value = {0};
        struct fm_error error = {0};
        int status = read_text(cases[i].header, cases[i].version, cases[i].size, &value, &error);
        if (status != 0) {
            printf("# %s: %s\n", cases[i].header, error.text);
        }
        CHECK_INT_EQ(status, 0);
        CHECK_UINT_EQ(value.tensor.dtype, cases[i].dtype);
        CHECK_UINT_EQ(value.tensor.rank, cases[i].rank);
        fm_value_unref(&value);
    }
}

TEST(texts_become_utf8)
{
    static const uint32_t points[] = {'a', 0xE9, 0, 0x1F600, 0xD800, 0x20AC,
                                      0,   0,    0, 0,       0,      0x110000};
    static const char header[] = "\x93NUMPY\1\0\x3B\0"
                                 "{'descr': '<U3', 'fortran_order': False, 'shape': (4,), } \n";
    static const char expected[] = "\3\0\0\0a\xC3\xA9"
                                   "\xA\0\0\0\xF0\x9F\x98\x80\xEF\xBF\xBD\xE2\x82\xAC"
                                   "\0\0\0\0"
                                   "\5\0\0\0\0\0\xEF\xBF\xBD";
    char file[sizeof header - 1 + sizeof points];
    struct fm_value value = {0};
    struct fm_error error = {0};
    memcpy(file, header, sizeof header - 1);
    memcpy(file + sizeof header - 1, points, sizeof points);
    CHECK_INT_EQ(fm_npy_read(file, sizeof file, &value, &error), 0);
    CHECK_UINT_EQ(value.tensor.dtype, FM_DTYPE_BYTES);
    CHECK_INT_EQ(fm_tensor_check(&value.tensor, &error), 0);
    CHECK_UINT_EQ(value.tensor.size, sizeof expected - 1);
    CHECK_MEM_EQ(value.tensor.data, expected, sizeof expected - 1);
    fm_value_unref(&value);
}

TEST(bad_files_are_refused_with_a_reason)
{
    static const struct {
        const char *header;
        size_t size;
        int status;
        const char *says;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, FM_EUNSUPPORTED,
         "ascontiguousarray"},
        {"{'descr': '|S0', 'fortran_order': False, 'shape': (4000000000000000000,), }", 0,
         FM_EUNSUPPORTED, "no width ('|S0')"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24, FM_EUNSUPPORTED,
         "astype('<f4')"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 24, FM_EUNSUPPORTED, "'|O'"},
        {"{'descr': '>U5', 'fortran_order': False, 'shape': (2,), }", 40, FM_EUNSUPPORTED, "'>U5'"},
        {"{'descr': '<U0', 'fortran_order': False, 'shape': (2,), }", 0, FM_EUNSUPPORTED,
         "no width ('<U0')"},
        {"{'descr': '<U5', 'fortran_order': False, 'shape': (2,), }", 39, FM_ECORRUPT,
         "the data does not have the size"},
        {"{'descr': '<U1073741824', 'fortran_order': False, 'shape': (2,), }", 40, FM_EUNSUPPORTED,
         "'<U1073741824'"},
        {"{'descr': '', 'fortran_order': False, 'shape': (2,), }", 40, FM_EUNSUPPORTED, "''"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8, FM_EUNSUPPORTED,
         "structured"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23, FM_ECORRUPT, "cut off"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 25, FM_ECORRUPT,
         "too long"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, "
         "9223372036854775807), }",
         8, FM_ECORRUPT, ""},
        {"{'descr': '|S8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 8,
         FM_ECORRUPT, "size"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4, FM_ECORRUPT, "malformed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4, FM_ECORRUPT,
         "malformed"},
        {"{'descr': '<f4', 'fortran_order': False, }", 4, FM_ECORRUPT, "malformed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } trailing", 4, FM_ECORRUPT,
         "malformed"},
        {"{'descr': '<f4", 4, FM_ECORRUPT, "malformed"},
        {"", 4, FM_ECORRUPT, "malformed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_value value = {0};
        struct fm_error error = {0};
        int status = read_text(cases[i].header, 1, cases[i].size, &value, &error);
        if (status != cases[i].status) {
            printf("# %s: %s\n", cases[i].header, error.text);
        }
        CHECK_INT_EQ(status, cases[i].status);
        CHECK_STR_CONTAINS(error.text, cases[i].says);
        CHECK(value.buffer == NULL);
    }
    struct fm_value value = {0};
    CHECK_INT_EQ(fm_npy_read("hello", 5, &value, NULL), FM_ECORRUPT);
    CHECK_INT_EQ(fm_npy_read("\x93NUMPY\4\0\0\0\0\0", 12, &value, NULL), FM_EUNSUPPORTED);
}

TEST(every_cut_and_flip_is_survived)
{
    static const float numbers[] = {1, 2, 3};
    struct fm_tensor tensor = {.dtype = FM_DTYPE_FP32,
                               .rank = 1,
                               .shape = {3},
                               .data = (void *)(uintptr_t)numbers,
                               .size = sizeof numbers};
    struct fm_text text = {0};
    CHECK_INT_EQ(fm_npy_write(&tensor, &text, NULL), 0);
    for (size_t length = 0; length < text.length; length++) {
        char *copy = malloc(length + 1); /* exact size, for the address sanitizer */
        CHECK(copy != NULL);
        memcpy(copy, text.data, length);
        struct fm_value value = {0};
        CHECK_INT_NE(fm_npy_read(copy, length, &value, NULL), 0);
        free(copy);
    }
    for (size_t at = 0; at < text.length; at++) {
        for (unsigned flip = 1; flip < 256; flip *= 2) {
            text.data[at] = (char)(text.data[at] ^ (char)flip);
            struct fm_value value = {0};
            if (fm_npy_read(text.data, text.length, &value, NULL) == 0) {
                CHECK_INT_EQ(fm_tensor_check(&value.tensor, NULL), 0);
            }
            fm_value_unref(&value);
            text.data[at] = (char)(text.data[at] ^ (char)flip);
        }
    }
    fm_text_deinit(&text);
}

TEST_MAIN()
