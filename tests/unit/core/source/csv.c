/*
 * Tests of core/source/csv: fields as they should be, every refusal with its words, the header.
 */
#include "core/source/csv.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

enum { FIELDS_MAX = 8 };

static const struct fm_csv_options comma = {.delimiter = ',', .quote = '"'};

TEST(fields_are_taken_apart)
{
    static const struct {
        const char *record;
        const char *fields[FIELDS_MAX];
    } cases[] = {
        {"", {""}},
        {"a", {"a"}},
        {"a,b", {"a", "b"}},
        {",", {"", ""}},
        {" a , b ", {" a ", " b "}},
        {"\"a\"", {"a"}},
        {"\"\",\"\"", {"", ""}},
        {"\"a,b\",c", {"a,b", "c"}},
        {"\"a\nb\r\n\",c", {"a\nb\r\n", "c"}},
        {"\"a\"\"b\"", {"a\"b"}},
        {"\"\"\"\",\"\"\"\"\"\"", {"\"", "\"\""}},
        {"1,\"x\"\"y\",2,\"z\"\"\",\"\"\"w\"", {"1", "x\"y", "2", "z\"", "\"w"}},
        {"a\rb", {"a\rb"}},
        {"a,\"b\",", {"a", "b", ""}},
    };
    struct fm_text scratch = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_csv_field fields[FIELDS_MAX];
        struct fm_error error = {0};
        uint32_t count = 0;
        CHECK_INT_EQ(fm_csv_record_parse(&comma, cases[i].record, strlen(cases[i].record), &scratch,
                                         fields, FIELDS_MAX, &count, &error),
                     0);
        for (uint32_t k = 0; k < count; k++) {
            CHECK(cases[i].fields[k] != NULL);
            CHECK_UINT_EQ(fields[k].size, strlen(cases[i].fields[k]));
            CHECK_MEM_EQ(fields[k].data, cases[i].fields[k], fields[k].size);
        }
        CHECK(cases[i].fields[count] == NULL);
    }
    fm_text_deinit(&scratch);
}

TEST(other_characters_delimit_and_quote)
{
    static const struct fm_csv_options single = {.delimiter = ';', .quote = '\''};
    static const struct fm_csv_options tabs = {.delimiter = '\t'};
    struct fm_text scratch = {0};
    struct fm_csv_field fields[FIELDS_MAX];
    uint32_t count = 0;
    CHECK_INT_EQ(fm_csv_record_parse(&single, "'a;''b''';\"c,d", 14, &scratch, fields, FIELDS_MAX,
                                     &count, NULL),
                 0);
    CHECK_UINT_EQ(count, 2);
    CHECK_MEM_EQ(fields[0].data, "a;'b'", 5);
    CHECK_MEM_EQ(fields[1].data, "\"c,d", 4);
    CHECK_INT_EQ(
        fm_csv_record_parse(&tabs, "\"a\tb\"\"c\0d", 9, &scratch, fields, FIELDS_MAX, &count, NULL),
        0);
    CHECK_UINT_EQ(count, 2);
    CHECK_UINT_EQ(fields[1].size, 6);
    fm_text_deinit(&scratch);
    CHECK_INT_EQ(fm_csv_options_check(&single, NULL), 0);
    CHECK_INT_EQ(fm_csv_options_check(&tabs, NULL), 0);
    static const struct fm_csv_options bad[] = {{',', ','},  {'\n', '"'}, {'\r', '"'},
                                                {'\0', '"'}, {',', '\n'}, {',', '\r'}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_INT_EQ(fm_csv_options_check(&bad[i], NULL), FM_EINVAL);
    }
}

TEST(bad_records_are_refused_with_a_reason)
{
    static const struct {
        const char *record;
        int status;
        const char *says;
    } cases[] = {
        {"a,5\" disk", FM_ECORRUPT,
         "field 2 (byte 3 of the record): a quote in a field that does not begin with one"},
        {"a, \"b\"", FM_ECORRUPT, "field 2 (byte 3 of the record): a quote in a field"},
        {"\"a\"b,c", FM_ECORRUPT,
         "field 1 (byte 3 of the record): something follows its closing quote"},
        {"\"a\" ,c", FM_ECORRUPT, "something follows its closing quote"},
        {"a,\"b", FM_ECORRUPT, "field 2 (byte 2 of the record): its quote is never closed"},
        {"a,\"b\"\"", FM_ECORRUPT, "never closed"},
        {"\"", FM_ECORRUPT, "never closed"},
        {"a\nb", FM_ECORRUPT, "a line end in a field that is not in quotes"},
        {"a,b,c,d", FM_ETOOLARGE, "the record has 4 fields, but at most 3 are expected"},
    };
    struct fm_text scratch = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_csv_field fields[3];
        struct fm_error error = {0};
        uint32_t count = 0;
        CHECK_INT_EQ(fm_csv_record_parse(&comma, cases[i].record, strlen(cases[i].record), &scratch,
                                         fields, 3, &count, &error),
                     cases[i].status);
        CHECK_STR_CONTAINS(error.text, cases[i].says);
    }
    fm_text_deinit(&scratch);
}

TEST(rows_have_the_columns_of_the_header)
{
    struct fm_csv_header header = {0};
    struct fm_text scratch = {0};
    struct fm_csv_field fields[3];
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_csv_header_init(&header, &comma, "id,\"the \"\"age\"\"\",city", 21, &error), 0);
    CHECK_UINT_EQ(header.count, 3);
    CHECK_STR_EQ(header.names[1], "the \"age\"");
    CHECK_INT_EQ(fm_csv_row_parse(&header, &comma, "1,2,3", 5, &scratch, fields, &error), 0);
    CHECK_MEM_EQ(fields[2].data, "3", 1);
    CHECK_INT_EQ(fm_csv_row_parse(&header, &comma, "1,2", 3, &scratch, fields, &error),
                 FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text,
                       "has 2 of the header's 3 fields; the first that is missing is 'city'");
    CHECK_INT_EQ(fm_csv_row_parse(&header, &comma, "1,2,3,4,5", 9, &scratch, fields, &error),
                 FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "has 5 fields, but the header has only 3");
    CHECK_INT_EQ(fm_csv_row_parse(&header, &comma, "1,2,\"", 5, &scratch, fields, &error),
                 FM_ECORRUPT);
    uint32_t index = 0;
    CHECK_INT_EQ(fm_csv_header_find(&header, "city", &index, &error), 0);
    CHECK_UINT_EQ(index, 2);
    CHECK_INT_EQ(fm_csv_header_find(&header, "ctiy", &index, &error), FM_ENOTFOUND);
    CHECK_STR_EQ(error.text, "there is no column 'ctiy'; did you mean 'city'?");
    CHECK_INT_EQ(fm_csv_header_find(&header, "temperature", &index, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "the columns are id, the \"age\", city");
    fm_csv_header_deinit(&header);
    fm_csv_header_deinit(&header);
    fm_text_deinit(&scratch);
}

TEST(bad_headers_are_refused_with_a_reason)
{
    static const struct {
        const char *record;
        size_t size;
        int status;
        const char *says;
    } cases[] = {
        {"a,b,a", 5, FM_ECORRUPT, "the header names 'a' twice, as columns 1 and 3"},
        {"z,b,a,\"a\",z", 11, FM_ECORRUPT, "names 'a' twice, as columns 3 and 4"},
        {"a,,b", 4, FM_ECORRUPT, "column 2 of the header has no name"},
        {"a,b,", 4, FM_ECORRUPT, "column 3 of the header has no name"},
        {"", 0, FM_ECORRUPT, "column 1 of the header has no name"},
        {"a,b\0c", 5, FM_ECORRUPT, "column 2 of the header has a NUL in its name"},
        {"a,\"b", 4, FM_ECORRUPT, "the header cannot be used: field 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_csv_header header = {0};
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_csv_header_init(&header, &comma, cases[i].record, cases[i].size, &error),
                     cases[i].status);
        CHECK_STR_CONTAINS(error.text, cases[i].says);
        CHECK(header.names == NULL && header.count == 0);
    }
    size_t size = FM_CSV_COLUMNS_MAX * 2 + 1;
    char *wide = fm_alloc(size);
    struct fm_csv_header header = {0};
    struct fm_error error = {0};
    CHECK(wide != NULL);
    for (size_t i = 0; i < size; i++) {
        wide[i] = i % 2 == 0 ? 'a' : ',';
    }
    CHECK_INT_EQ(fm_csv_header_init(&header, &comma, wide, size, &error), FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "has 65537 fields, but at most 65536 are expected");
    fm_free(wide);
}

TEST(failing_memory_is_an_error)
{
    static const char text[] = "a,\"b\"\"\",c,d,e,f,g,h,i,j,k,l,m,n";
    for (uint64_t fail_at = 1;; fail_at++) {
        struct fm_csv_header header = {0};
        struct fm_error error = {0};
        (void)fm_memory_fail_at(fail_at, 0);
        int status = fm_csv_header_init(&header, &comma, text, strlen(text), &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            CHECK(fail_at > 15);
            CHECK_UINT_EQ(header.count, 14);
            uint32_t index = 0;
            CHECK_INT_EQ(fm_csv_header_find(&header, "temperature", &index, &error), FM_ENOTFOUND);
            CHECK_STR_CONTAINS(error.text, "a, b\", c, d, e, f, g, h, i, j, k, l, ...");
            fm_csv_header_deinit(&header);
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_STR_CONTAINS(error.text, "out of memory");
        CHECK(header.names == NULL);
    }
}

TEST_MAIN()
