/*
 * Lines of results and dead letters, and which dead letters are alike.
 */
#include "engines/batch/letters.h"

#include <string.h>

#include "core/util/memory.h"
#include "tests/harness/test.h"

TEST(ids_of_lines)
{
    static const struct {
        const char *line;
        const char *id; /* NULL: it is refused */
    } cases[] = {
        {"{\"id\":\"a\"}", "a"},
        {" {\"x\":[{\"id\":1}],\"id\":\"\"} ", ""},
        {"{\"id\":\"\\ufffd\",\"id_base64\":\"/w==\",\"row\":\"text\"}", "\xff"},
        {"{\"id_base64\":\"/w==\",\"id\":\"\\ufffd\"}", "\xff"},
        {"{\"id_base64\":\"/w==\"}", NULL},
        {"{\"id\":\"a\",\"id_base64\":\"!\"}", NULL},
        {"{\"id\":\"a\",\"id_base64\":7}", NULL},
        {"{\"id\":null}", NULL},
        {"{}", NULL},
        {"", NULL},
        {"[]", NULL},
        {"\"id\"", NULL},
        {"{\"id\":\"a\"", NULL},
        {"{\"id\":\"a\"}{}", NULL},
        {"{\"id\":\"a\",}", NULL},
        {"{\"id\":\"a\",\"y\":[1,]}", NULL},
    };
    struct fm_text id = {0};
    struct fm_error error;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        printf("# %s\n", cases[i].line);
        int status = fm_row_line_id(cases[i].line, strlen(cases[i].line), &id, &error);
        CHECK_INT_EQ(status, cases[i].id != NULL ? 0 : FM_ECORRUPT);
        CHECK(cases[i].id == NULL || strcmp(id.data, cases[i].id) == 0);
    }
    fm_text_deinit(&id);
}

TEST(letters_are_read)
{
    static const char line[] = "{\"id\":\"a\",\"row\":17,\"source\":\"s\",\"stage\":\"read\","
                               "\"code\":\"EIO\",\"message\":\"m\\n\",\"attempts\":3}";
    struct fm_row_letter letter = {.row = 0};
    CHECK_INT_EQ(fm_row_letter_read(&letter, line, strlen(line), NULL), 0);
    CHECK_UINT_EQ(letter.row, 17);
    CHECK_UINT_EQ(letter.attempts, 3);
    CHECK_STR_EQ(letter.message.data, "m\n");
    CHECK_INT_EQ(fm_row_letter_read(&letter, "{\"id\":\"a\",\"row\":0}", 18, NULL), 0);
    CHECK_STR_EQ(letter.message.data, "");
    CHECK_UINT_EQ(letter.attempts, 0);
    CHECK_INT_EQ(fm_row_letter_read(&letter, "{\"id\":\"a\"}", 10, NULL), FM_ECORRUPT);
    CHECK_INT_EQ(fm_row_letter_read(&letter, "{\"id\":\"a\",\"row\":-1}", 19, NULL), FM_ECORRUPT);
    fm_row_letter_deinit(&letter);
}

TEST(patterns)
{
    static const struct {
        const char *message;
        const char *pattern;
    } cases[] = {
        {"", ""},
        {"the file has 17 bytes", "the file has # bytes"},
        {"cannot open 'a/b 3.jpg': no such file", "cannot open '...': no such file"},
        {"'a' and \"b\"", "'...' and \"...\""},
        {"isn't 5, isn't 6", "isn't #, isn't #"},
        {"1.5e3", "#.#e3"},
        {"part-00017", "part-#"},
        {"float32 is not int8", "float32 is not int8"},
        {"'open", "'open"},
        {"ended with signal 11 (Segmentation fault)", "ended with signal # (Segmentation fault)"},
    };
    char pattern[256];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fm_letter_pattern(cases[i].message, pattern, sizeof(pattern));
        CHECK_STR_EQ(pattern, cases[i].pattern);
    }
    /* Whatever room there is. */
    for (size_t size = 1; size < 40; size++) {
        char room[64];
        memset(room, 'x', sizeof(room));
        fm_letter_pattern("'abc' 17 'def' 18 more and more", room, size);
        CHECK(strlen(room) < size && room[size] == 'x');
    }
}

static int add(struct fm_letter_summary *summary, const char *stage, const char *message)
{
    struct fm_row_letter letter = {.row = 0};
    char line[512];
    int length = snprintf(line, sizeof(line),
                          "{\"id\":\"i%zu\",\"row\":0,\"stage\":\"%s\",\"code\":\"EIO\","
                          "\"message\":\"%s\"}",
                          (size_t)summary->total, stage, message);
    int status = fm_row_letter_read(&letter, line, (size_t)length, NULL);
    status = status != 0 ? status : fm_letter_summary_add(summary, &letter);
    fm_row_letter_deinit(&letter);
    return status;
}

TEST(what_failed_alike_is_counted_together)
{
    struct fm_letter_summary summary = {.total = 0};
    CHECK_INT_EQ(add(&summary, "read", "lone"), 0);
    for (int i = 0; i < 3; i++) {
        char message[64];
        (void)snprintf(message, sizeof(message), "row %d of 'x%d'", i, i);
        CHECK_INT_EQ(add(&summary, "read", message), 0);
        CHECK_INT_EQ(add(&summary, "write", message), 0);
    }
    CHECK_INT_EQ(add(&summary, "write", "row 7 of 'y'"), 0);
    fm_letter_summary_sort(&summary);
    CHECK_UINT_EQ(summary.count, 3);
    CHECK_UINT_EQ(summary.total, 8);
    CHECK_UINT_EQ(summary.groups[0].count, 4);
    CHECK_STR_EQ(summary.groups[0].stage, "write");
    CHECK_STR_EQ(summary.groups[0].example, "i2");
    CHECK_STR_EQ(summary.groups[0].message, "row 0 of 'x0'");
    CHECK_UINT_EQ(summary.groups[1].count, 3);
    CHECK_STR_EQ(summary.groups[2].pattern, "lone");
    fm_letter_summary_deinit(&summary);
}

TEST(groups_are_limited)
{
    struct fm_letter_summary summary = {.total = 0};
    for (size_t i = 0; i < FM_LETTER_GROUPS_MAX + 5; i++) {
        char stage[24];
        (void)snprintf(stage, sizeof(stage), "s%zu", i);
        CHECK_INT_EQ(add(&summary, stage, "m"), 0);
    }
    CHECK_UINT_EQ(summary.count, FM_LETTER_GROUPS_MAX);
    CHECK_UINT_EQ(summary.others, 5);
    fm_letter_summary_deinit(&summary);
}

TEST_MAIN()
