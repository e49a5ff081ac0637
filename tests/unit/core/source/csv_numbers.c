/*
 * Tests of core/source/csv_numbers: what goes the fast way, what is left to the slow one, and that
 * both say the same of random records.
 */
#include "core/source/csv_numbers.h"

#include "core/source/column.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { COUNT = 3, RECORDS = 20000, RECORD_MAX = 200 };

static const struct fm_csv_options comma = {.delimiter = ',', .quote = '"'};

TEST(plain_numbers_and_texts_are_taken)
{
    static const uint32_t places[COUNT] = {1, FM_CSV_NUMBERS_TEXT, 0};
    static const char record[] = "-12.5,a b ,0.0625";
    float elements[2] = {0};
    struct fm_csv_field fields[COUNT] = {{0}};
    CHECK(fm_csv_numbers_parse(&comma, record, sizeof record - 1, places, COUNT, elements, fields));
    CHECK(elements[0] == 0.0625f);
    CHECK(elements[1] == -12.5f);
    CHECK_INT_EQ(fields[1].size, 4);
    CHECK(fields[1].data == record + 6);
}

TEST(all_else_is_left_to_the_slow_way)
{
    static const uint32_t places[COUNT] = {0, 1, FM_CSV_NUMBERS_TEXT};
    static const char *const records[] = {"",
                                          "1",
                                          "1,2",
                                          "1,2,x,y",
                                          "1,,x",
                                          ",2,x",
                                          "1e3,2,x",
                                          "+1,2,x",
                                          " 1,2,x",
                                          "1 ,2,x",
                                          "1.,2,x",
                                          ".5,2,x",
                                          "\"1\",2,x",
                                          "1,2,\"x\"",
                                          "1,2,a\"b",
                                          "1,2,a\nb",
                                          "1,nan,x",
                                          "1,2x,x",
                                          "1,--2,x",
                                          "1,-,x",
                                          "1,2,x,",
                                          "9007199254740993,2,x",
                                          "1,0.12345678901234567890,x"};
    float elements[2];
    struct fm_csv_field fields[COUNT];
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        CHECK(!fm_csv_numbers_parse(&comma, records[i], strlen(records[i]), places, COUNT, elements,
                                    fields));
    }
}

TEST(a_delimiter_that_numbers_hold_is_left_to_the_slow_way)
{
    static const uint32_t places[2] = {0, 1};
    float elements[2];
    struct fm_csv_field fields[2];
    const struct fm_csv_options options[] = {
        {.delimiter = '.'}, {.delimiter = '-'}, {.delimiter = '5'}};
    for (size_t i = 0; i < 3; i++) {
        const char record[] = {'1', options[i].delimiter, '2'};
        CHECK(!fm_csv_numbers_parse(&options[i], record, 3, places, 2, elements, fields));
    }
}

/* A record of pieces that numbers are made of, mostly well. */
static size_t record_make(struct fm_random *random, char record[RECORD_MAX])
{
    static const char *const pieces[] = {"1",      "20",    "305",          "-7", "0.5",   "3.25",
                                         "-0.125", "00.10", "1e2",          "x",  "\"4\"", "",
                                         " 6",     "+8",    "123456789012", "."};
    size_t size = 0;
    for (uint64_t i = 0, count = 1 + fm_random_below(random, 4); i < count; i++) {
        uint64_t kinds = fm_random_below(random, 8) == 0 ? 16 : 8;
        const char *piece = pieces[fm_random_below(random, kinds)];
        size += (size_t)snprintf(record + size, RECORD_MAX - size, "%s%s", i > 0 ? "," : "", piece);
    }
    return size;
}

TEST(both_ways_say_the_same)
{
    const struct fm_column column = {.name = "x", .dtype = FM_DTYPE_FP32};
    struct fm_random random;
    struct fm_text scratch = {0};
    uint32_t fast = 0;
    fm_random_init(&random, 1);
    for (uint32_t i = 0; i < RECORDS; i++) {
        static const uint32_t places[COUNT] = {2, 0, 1};
        char record[RECORD_MAX];
        float elements[COUNT];
        struct fm_csv_field views[COUNT];
        struct fm_csv_field fields[COUNT];
        struct fm_text out = {0};
        uint32_t count = 0;
        size_t size = record_make(&random, record);
        bool taken = fm_csv_numbers_parse(&comma, record, size, places, COUNT, elements, views);
        fast += taken;
        int status =
            fm_csv_record_parse(&comma, record, size, &scratch, fields, COUNT, &count, NULL);
        for (uint32_t k = 0; k < COUNT && taken; k++) {
            CHECK_INT_EQ(status, 0);
            CHECK_INT_EQ(count, COUNT);
            CHECK_INT_EQ(
                fm_column_from_field(&column, fields[k].data, fields[k].size, &out, NULL, NULL), 0);
            CHECK(memcmp(out.data + k * sizeof(float), &elements[places[k]], sizeof(float)) == 0);
        }
        fm_text_deinit(&out);
    }
    CHECK(fast > RECORDS / 10);
    fm_text_deinit(&scratch);
}

TEST_MAIN()
