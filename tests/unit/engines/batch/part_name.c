/*
 * Names of parts and attempts.
 */
#include "engines/batch/part_name.h"

#include "engines/batch/sink.h"
#include "tests/harness/test.h"

TEST(names_of_parts)
{
    static const char *const names[] = {"part-00003.jsonl", "part-00003.csv", "part-00003.parquet"};
    char name[FM_PART_NAME_SIZE];
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct fm_sink *sink = NULL;
        CHECK(fm_part_name_read(names[i], &number, &sink));
        CHECK_UINT_EQ(number, 3);
        CHECK(sink == fm_sinks[i]);
        fm_part_name(3, sink, name);
        CHECK_STR_EQ(name, names[i]);
    }
    const struct fm_sink *sink = NULL;
    CHECK(fm_part_name_read("part-1234567.jsonl", &number, &sink));
    CHECK_UINT_EQ(number, 1234567);
    fm_part_name(7, NULL, name);
    CHECK_STR_EQ(name, "part-00007.jsonl");
    static const char *const others[] = {"part-3.jsonl",
                                         "part-000003.jsonl",
                                         "part-00003.json",
                                         "part-00003",
                                         "part-00003.7.jsonl",
                                         "part-00003.jsonl.xz",
                                         "part-.jsonl",
                                         "xpart-00003.jsonl",
                                         "part-99999999999999999999999.jsonl",
                                         ""};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        CHECK(!fm_part_name_read(others[i], &number, &sink));
    }
}

TEST(names_of_attempts)
{
    char name[FM_PART_NAME_SIZE];
    uint64_t number = 0;
    uint64_t epoch = 0;
    for (size_t i = 0; fm_sinks[i] != NULL; i++) {
        const struct fm_sink *sink = NULL;
        fm_attempt_name(3, 7, fm_sinks[i], name);
        CHECK(fm_attempt_name_read(name, &number, &epoch, &sink));
        CHECK(number == 3 && epoch == 7 && sink == fm_sinks[i]);
        CHECK(!fm_part_name_read(name, &number, &sink));
    }
    const struct fm_sink *sink = &fm_sink_jsonl;
    fm_attempt_name(12345678, 18446744073, NULL, name);
    CHECK_STR_EQ(name, "part-12345678.18446744073.errors.jsonl");
    CHECK(fm_attempt_name_read(name, &number, &epoch, &sink));
    CHECK(number == 12345678 && epoch == 18446744073 && sink == NULL);
    static const char *const others[] = {"part-00003.jsonl", "part-00003..jsonl",
                                         "part-00003.7.errors.csv", "part-00003.7.tmp",
                                         "part-00003.7"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        CHECK(!fm_attempt_name_read(others[i], &number, &epoch, &sink));
    }
}

TEST_MAIN()
