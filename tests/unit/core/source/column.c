/*
 * Tests of core/source/column: what stands for which value, in CSV and in JSON, and the words for
 * what does not.
 */
#include "core/source/column.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

/* `size` is how many of the result's bytes there are; `bytes` are they. */
struct good {
    struct fm_column column;
    const char *field; /* NULL: only in JSON */
    const char *json;  /* NULL: only in CSV */
    size_t size;
    const void *bytes;
};

#define COLUMN(type, ...)                                                                    \
    {                                                                                        \
        .name = "x", .dtype = FM_DTYPE_##type, .rank = sizeof((int64_t[]){__VA_ARGS__}) / 8, \
        .shape = {                                                                           \
            __VA_ARGS__                                                                      \
        }                                                                                    \
    }
#define SCALAR(type)                          \
    {                                         \
        .name = "x", .dtype = FM_DTYPE_##type \
    }
#define ARE(type, ...)                            \
    sizeof((type[]){__VA_ARGS__}), (const type[]) \
    {                                             \
        __VA_ARGS__                               \
    }

static const struct good goods[] = {
    {SCALAR(BOOL), "true", "true", ARE(uint8_t, 1)},
    {SCALAR(BOOL), "FALSE", "false", ARE(uint8_t, 0)},
    {SCALAR(BOOL), " 1\t", "1", ARE(uint8_t, 1)},
    {SCALAR(BOOL), "0", "0", ARE(uint8_t, 0)},
    {SCALAR(UINT8), "255", "255", ARE(uint8_t, 255)},
    {SCALAR(UINT8), "+007", "7", ARE(uint8_t, 7)},
    {SCALAR(UINT8), "-0", "-0", ARE(uint8_t, 0)},
    {SCALAR(UINT16), "65535", "65535", ARE(uint16_t, 65535)},
    {SCALAR(UINT32), "4294967295", "4294967295", ARE(uint32_t, UINT32_MAX)},
    {SCALAR(UINT64), "18446744073709551615", "18446744073709551615", ARE(uint64_t, UINT64_MAX)},
    {SCALAR(INT8), "-128", "-128", ARE(int8_t, -128)},
    {SCALAR(INT16), "-32768", "-32768", ARE(int16_t, -32768)},
    {SCALAR(INT32), "2147483647", "2147483647", ARE(int32_t, INT32_MAX)},
    {SCALAR(INT32), "-0012", "-12", ARE(int32_t, -12)},
    {SCALAR(INT64), "-9223372036854775808", "-9223372036854775808", ARE(int64_t, INT64_MIN)},
    {SCALAR(FP16), "65504", "65504", ARE(uint16_t, 0x7BFF)},
    {SCALAR(FP16), "65519.99", "65519.99", ARE(uint16_t, 0x7BFF)},
    {SCALAR(FP16), "1e-300", "1e-300", ARE(uint16_t, 0)},
    {SCALAR(FP16), "-1e-300", "-1e-300", ARE(uint16_t, 0x8000)},
    /* Just above the middle of two: twice rounded to nearest even, it would go down. */
    {SCALAR(FP16), "1.000488281250001", "1.000488281250001", ARE(uint16_t, 0x3C01)},
    /* And just below it, where the float lies above the value. */
    {SCALAR(FP16), "1.000488281249999", "1.000488281249999", ARE(uint16_t, 0x3C00)},
    {SCALAR(FP16), "1.001464843749999", "1.001464843749999", ARE(uint16_t, 0x3C01)},
    {SCALAR(FP16), "1.00048828125", "1.00048828125", ARE(uint16_t, 0x3C00)},
    {SCALAR(BF16), "1.003906250000001", "1.003906250000001", ARE(uint16_t, 0x3F80 + 1)},
    {SCALAR(BF16), "-3.5", "-3.5", ARE(uint16_t, 0xC060)},
    {SCALAR(FP32), "0.1", "0.1", ARE(float, 0.1f)},
    {SCALAR(FP32), " -1.5E+3 ", "-1.5E+3", ARE(float, -1500)},
    {SCALAR(FP32), "-Infinity", "\"-Infinity\"", ARE(float, -INFINITY)},
    {SCALAR(FP32), "1.", NULL, ARE(float, 1)},
    {SCALAR(FP32), ".5", NULL, ARE(float, 0.5f)},
    {SCALAR(FP32), "+.5", NULL, ARE(float, 0.5f)},
    {SCALAR(FP32), "-.5e1", NULL, ARE(float, -5)},
    {SCALAR(FP64), "-12.E-1", NULL, ARE(double, -1.2)},
    {COLUMN(FP32, 2), "[\"inf\", 1]", "[\"Infinity\", 1]", ARE(float, INFINITY, 1)},
    {SCALAR(FP32), "+inf", NULL, ARE(float, INFINITY)},
    {SCALAR(FP64), "0.1", "0.1", ARE(double, 0.1)},
    {SCALAR(BYTES), " a ", "\" a \"", 7, "\3\0\0\0 a "},
    {SCALAR(BYTES), "", "\"\"", 4, "\0\0\0\0"},
    {SCALAR(BYTES), "[1]", NULL, 7, "\3\0\0\0[1]"},
    {SCALAR(BYTES), NULL, "\"\\u00e9\\n\"", 7, "\3\0\0\0\xC3\xA9\n"},
    {COLUMN(BYTES, 1), "a\nb", "\"a\\nb\"", 7, "\3\0\0\0a\nb"},
    {COLUMN(INT32, 1), "5", "5", ARE(int32_t, 5)},
    {COLUMN(INT32, 1), "[5]", "[5]", ARE(int32_t, 5)},
    {COLUMN(INT32, 1, 1), "[[5]]", "[5]", ARE(int32_t, 5)},
    {COLUMN(INT32, 3), " [1, 2,3] ", "[1,2,3]", ARE(int32_t, 1, 2, 3)},
    {COLUMN(FP32, 2, 2), "[[1,2],[3,4]]", "[1,2,3,4]", ARE(float, 1, 2, 3, 4)},
    {COLUMN(INT8, -1), "[1,2]", "[1,2]", ARE(int8_t, 1, 2)},
    {COLUMN(INT8, -1, 2), "[[1,2]]", "[[1,2]]", ARE(int8_t, 1, 2)},
    {COLUMN(INT8, 2, -1), "[[1],[2]]", "[[1],[2]]", ARE(int8_t, 1, 2)},
    {COLUMN(BOOL, 2), "[true,0]", "[1,false]", ARE(uint8_t, 1, 0)},
    {COLUMN(BYTES, 2), "[\"a\",\"\"]", "[\"a\",\"\"]", 9, "\1\0\0\0a\0\0\0\0"},
};

#define FIRST "first" /* what out holds before */

static int read_good(const struct good *good, bool json, struct fm_text *out, int64_t *shape,
                     struct fm_error *error)
{
    fm_text_append_string(out, FIRST);
    if (!json) {
        return fm_column_from_field(&good->column, good->field, strlen(good->field), out, shape,
                                    error);
    }
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, good->json, strlen(good->json));
    int status = fm_column_from_json(&good->column, &reader, out, shape, error);
    return status == 0 && fm_json_next(&reader) != FM_JSON_END ? FM_EINTERNAL : status;
}

TEST(values_are_read)
{
    for (size_t i = 0; i < 2 * (sizeof goods / sizeof goods[0]); i++) {
        const struct good *good = &goods[i / 2];
        bool json = i % 2 == 1;
        struct fm_text out = {0};
        struct fm_error error = {0};
        int64_t shape[FM_RANK_MAX];
        if ((json ? good->json : good->field) == NULL) {
            continue;
        }
        CHECK_INT_EQ(fm_column_check(&good->column, &error), 0);
        int status = read_good(good, json, &out, shape, &error);
        if (status != 0) {
            printf("# %zu: %s\n", i / 2, error.text);
        }
        CHECK_INT_EQ(status, 0);
        CHECK_UINT_EQ(out.length, strlen(FIRST) + good->size);
        if (memcmp(out.data + strlen(FIRST), good->bytes, good->size) != 0) {
            printf("# %zu\n", i / 2);
        }
        CHECK_MEM_EQ(out.data + strlen(FIRST), good->bytes, good->size);
        struct fm_tensor tensor = {.dtype = good->column.dtype,
                                   .rank = good->column.rank,
                                   .data = out.data + strlen(FIRST),
                                   .size = good->size};
        memcpy(tensor.shape, shape, tensor.rank * sizeof shape[0]);
        CHECK_INT_EQ(fm_tensor_check(&tensor, &error), 0);
        fm_text_deinit(&out);
    }
}

TEST(nan_is_a_number_in_csv)
{
    struct fm_column column = SCALAR(FP16);
    struct fm_text out = {0};
    CHECK_INT_EQ(fm_column_from_field(&column, "NaN", 3, &out, NULL, NULL), 0);
    column.dtype = FM_DTYPE_FP64;
    CHECK_INT_EQ(fm_column_from_field(&column, "nan", 3, &out, NULL, NULL), 0);
    uint16_t half;
    double number;
    CHECK_UINT_EQ(out.length, 10);
    memcpy(&half, out.data, sizeof half);
    memcpy(&number, out.data + 2, sizeof number);
    CHECK(isnan(fm_fp16_to_float(half)) && isnan(number));
    fm_text_deinit(&out);
}

TEST(variable_shapes_are_told)
{
    static const struct {
        struct fm_column column;
        const char *text;
        int64_t shape[3];
    } cases[] = {
        {COLUMN(INT8, -1), "[]", {0}},
        {COLUMN(INT8, -1, 3), "[]", {0, 3}},
        {COLUMN(INT8, -1, -1), "[]", {0, 0}},
        {COLUMN(INT8, -1, -1), "[[],[]]", {2, 0}},
        {COLUMN(INT8, 2, -1), "[[1,2,3],[4,5,6]]", {2, 3}},
        {COLUMN(INT8, -1, 1, -1), "[[[1,2]],[[3,4]],[[5,6]]]", {3, 1, 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_text out = {0};
        struct fm_error error = {0};
        int64_t shape[FM_RANK_MAX] = {0};
        CHECK_INT_EQ(fm_column_from_field(&cases[i].column, cases[i].text, strlen(cases[i].text),
                                          &out, shape, &error),
                     0);
        CHECK_MEM_EQ(shape, cases[i].shape, cases[i].column.rank * sizeof shape[0]);
        fm_text_deinit(&out);
    }
}

struct bad {
    struct fm_column column;
    const char *field;
    const char *json;
    const char *says;
};

static const struct bad bads[] = {
    {SCALAR(UINT8), "300", "300", "column 'x': '300' is no UINT8: it must be 0 to 255"},
    {SCALAR(UINT8), "-1", "-1", "it must be 0 to 255"},
    {SCALAR(INT8), "128", "128", "'128' is no INT8: it must be -128 to 127"},
    {SCALAR(INT64), "9223372036854775808", "9223372036854775808", "to 9223372036854775807"},
    {SCALAR(UINT64), "18446744073709551616", "18446744073709551616", "18446744073709551615"},
    {SCALAR(INT32), "12x", NULL, "column 'x': '12x' is no INT32"},
    {SCALAR(INT32), "12.0", "12.0", "is no INT32: it must be a number without fraction"},
    {SCALAR(INT32), "1e3", "1e3", "without fraction or exponent"},
    {SCALAR(INT32), "", NULL, "column 'x': the field is empty, which is no INT32"},
    {SCALAR(INT32), "  ", NULL, "the field is empty"},
    {SCALAR(INT32), "+-1", NULL, "'+-1' is no INT32"},
    {SCALAR(INT32), "nan", NULL, "'nan' is no INT32"},
    {SCALAR(INT32), "0x10", NULL, "'0x10' is no INT32"},
    {SCALAR(INT32), "1 2", NULL, "'1 2' is no INT32"},
    {SCALAR(INT32), "-", NULL, "'-' is no INT32"},
    {SCALAR(INT32), NULL, "\"12\"", "'12' is no INT32: it is a string"},
    {SCALAR(INT32), NULL, "null", "'null' is no INT32: there is no value"},
    {SCALAR(INT32), NULL, "true", "'true' is no INT32"},
    {SCALAR(INT32), NULL, "{}", "an object is no INT32"},
    {SCALAR(INT32), "[1]", "[1]", ""},
    {SCALAR(INT32), NULL, "12x", ""},
    {SCALAR(INT32), NULL, "[", "it is an array"},
    {SCALAR(INT32), NULL, "}", "its JSON is malformed: line 1, column 1"},
    {SCALAR(FP16), "65520", "65520", "it must be within 65504 of zero"},
    {SCALAR(BF16), "3.4e38", "3.4e38", "'3.4e38' is no BF16: it must be within"},
    {SCALAR(FP32), "1e39", "1e39", "it must be within 3.40282e+38 of zero"},
    {SCALAR(FP64), "1e999", "1e999", "it must be within 1.79769e+308 of zero"},
    {SCALAR(FP32), ".", NULL, "'.' is no FP32"},
    {SCALAR(FP32), "-.", NULL, "'-.' is no FP32"},
    {SCALAR(FP32), ".e1", NULL, "'.e1' is no FP32"},
    {SCALAR(FP32), "1.5.", NULL, "'1.5.' is no FP32"},
    {SCALAR(FP32), "\"inf\"", "\"info\"", "is no FP32"},
    {SCALAR(INT32), NULL, "\"NaN\"", "'NaN' is no INT32: it is a string"},
    {SCALAR(FP32), "1e", NULL, "'1e' is no FP32"},
    {SCALAR(FP32), "1,5", NULL, "'1,5' is no FP32"},
    {SCALAR(FP32), "-nan", NULL, "'-nan' is no FP32"},
    {SCALAR(BOOL), "maybe", NULL, "'maybe' is no BOOL: it must be true, false, 1 or 0"},
    {SCALAR(BOOL), "2", "2", "it must be true, false, 1 or 0"},
    {SCALAR(BOOL), "", NULL, "the field is empty, which is no BOOL"},
    {SCALAR(BYTES), NULL, "5", "'5' is no BYTES: it is a number"},
    {COLUMN(INT32, 2), "5", "5", "the value has not the shape [2]: "},
    {COLUMN(INT32, 2), "", NULL, "the field must hold a JSON array"},
    {COLUMN(INT32, 2), "[1]", "[1]", "an array at level 1 has 1 entries instead of 2"},
    {COLUMN(INT32, 2), "[1,2,3]", "[1,2,3]", "has 3 entries instead of 2"},
    {COLUMN(INT32, 2), "[1,[2]]", "[1,[2]]", "nested too deeply"},
    {COLUMN(INT32, 2), "[1,\"a\"]", "[1,\"a\"]", "'a' is no INT32: it is a string"},
    {COLUMN(INT32, 2), "[1,2]]", NULL, "its JSON is malformed: line 1, column 6"},
    {COLUMN(INT32, 2), "[1,2", "[1,2", "its JSON is malformed"},
    {COLUMN(INT32, 2), "[1 2]", "[1 2]", "its JSON is malformed"},
    {COLUMN(INT32, 2, 2), "[1,2,3]", "[1,2,3]", "it has 3 elements instead of 4"},
    {COLUMN(INT32, 2, 2), "[1,[2,3]]", "[1,[2,3]]", "nested too deeply"},
    {COLUMN(INT32, 2, 2), "[[1,2],3]", "[[1,2],3]", "an element stands where an array was"},
    {COLUMN(INT32, 2, 3), "[[1,2],[3,4],[5,6]]", "[[1,2],[3,4],[5,6]]",
     "an array at level 2 has 2 entries instead of 3"},
    {COLUMN(INT32, -1, -1), "[[1,2],[3]]", "[[1,2],[3]]", "level 2 has 1 entries instead of 2"},
    {COLUMN(INT32, -1, 2), "[1,2]", "[1,2]", "an element stands where an array was expected"},
    {SCALAR(INT32), "12345678901234567890123456789012345678\xC3\xA9\xC3\xA9x", NULL,
     "'12345678901234567890123456789012345678\xC3\xA9...' is no INT32"},
};

TEST(bad_values_are_refused_with_a_reason)
{
    for (size_t i = 0; i < 2 * (sizeof bads / sizeof bads[0]); i++) {
        const struct bad *bad = &bads[i / 2];
        const char *text = i % 2 == 1 ? bad->json : bad->field;
        struct fm_text out = {0};
        struct fm_error error = {0};
        int status = 0;
        if (text == NULL) {
            continue;
        }
        fm_text_append_string(&out, FIRST);
        if (i % 2 == 1) {
            struct fm_json_reader reader;
            fm_json_reader_init(&reader, text, strlen(text));
            status = fm_column_from_json(&bad->column, &reader, &out, NULL, &error);
            /* Here only the value is looked at; what follows it is found later. */
            if (status == 0 && fm_json_next(&reader) == FM_JSON_ERROR) {
                fm_text_deinit(&out);
                continue;
            }
        } else {
            status = fm_column_from_field(&bad->column, text, strlen(text), &out, NULL, &error);
        }
        if (status == 0 || strstr(error.text, bad->says) == NULL) {
            printf("# %zu: \"%s\" and not \"%s\"\n", i / 2, error.text, bad->says);
        }
        CHECK(status == FM_ETYPE || status == FM_EINVAL);
        CHECK_INT_EQ(error.status, status);
        CHECK_STR_CONTAINS(error.text, bad->says);
        CHECK_STR_EQ(out.data, FIRST);
        CHECK_UINT_EQ(out.length, strlen(FIRST));
        fm_text_deinit(&out);
    }
}

TEST(not_every_type_is_text)
{
    uint32_t known = 0;
    for (uint32_t dtype = 0; dtype < FM_DTYPE_COUNT_; dtype++) {
        struct fm_column column = {.name = "x", .dtype = dtype, .rank = 1, .shape = {-1}};
        struct fm_error error = {0};
        int status = fm_column_check(&column, &error);
        CHECK(status == 0 || status == FM_EUNSUPPORTED);
        known += status == 0;
    }
    CHECK_UINT_EQ(known, 14);
    struct fm_column column = COLUMN(FP32, INT64_MAX, INT64_MAX);
    CHECK_INT_EQ(fm_column_check(&column, NULL), FM_ETOOLARGE);
    column.shape[0] = -2;
    CHECK_INT_EQ(fm_column_check(&column, NULL), FM_EINVAL);
    column.rank = FM_RANK_MAX + 1;
    CHECK_INT_EQ(fm_column_check(&column, NULL), FM_EINVAL);
}

TEST(failing_memory_is_an_error)
{
    static const struct fm_column columns[] = {COLUMN(INT64, -1), COLUMN(BYTES, -1)};
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct fm_text json = {0};
            struct fm_text out = {0};
            struct fm_error error = {0};
            for (int k = 0; k < 100; k++) {
                fm_text_append_string(&json, k == 0 ? "[" : ",");
                fm_text_append_string(&json, i == 0 ? "1234567" : "\"some text\"");
            }
            fm_text_append_string(&json, "]");
            CHECK(!json.failed);
            (void)fm_memory_fail_at(fail_at, 0);
            int status =
                fm_column_from_field(&columns[i], json.data, json.length, &out, NULL, &error);
            (void)fm_memory_fail_at(0, 0);
            size_t length = out.length;
            fm_text_deinit(&json);
            fm_text_deinit(&out);
            if (status == 0) {
                CHECK(fail_at > 3);
                break;
            }
            CHECK_INT_EQ(status, FM_ENOMEM);
            CHECK_UINT_EQ(length, 0);
            CHECK_STR_CONTAINS(error.text, "out of memory");
        }
    }
}

TEST_MAIN()
