/* The scoring program's parts: folding, the distance against the textbook's, records. */
#define main score_main
int score_main(int argc, char **argv);
#include "examples/ocr/score.c"
#undef main

#include "core/util/random.h"
#include "tests/harness/test.h"

static int folds_to(const char *text, const char *wanted)
{
    struct letters letters = letters_make(text, strlen(text));
    int same = letters.count == strlen(wanted);
    for (size_t i = 0; same && i < letters.count; i++) {
        same = letters.items[i] == (unsigned char)wanted[i];
    }
    free(letters.items);
    return same;
}

TEST(folding)
{
    CHECK(folds_to("  a\n\n b\t", "a b"));
    CHECK(folds_to("\xef\xbc\x88x\xef\xbc\x89", "(x)")); /* full-width parentheses */
    CHECK(folds_to("\xe2\x80\x9cof\xef\xac\x81"
                   "ce\xe2\x80\x9d",
                   "\"office\""));
    CHECK(folds_to("a \xe2\x80\x94 b", "a - b"));
    CHECK(folds_to("1 Overview . . . . . . 12", "1 Overview . 12"));
    CHECK(folds_to("1 Overview.....12", "1 Overview.12"));
    CHECK(folds_to("cd .. x", "cd .. x"));
    CHECK(folds_to("\xe2\x80\xa6", "."));
    CHECK(folds_to("", ""));
}

static size_t distance_plain(const struct letters *a, const struct letters *b)
{
    size_t row[64];
    for (size_t j = 0; j <= b->count; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a->count; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b->count; j++) {
            size_t best = diagonal + (a->items[i - 1] != b->items[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b->count];
}

TEST(the_band_finds_the_same_distance)
{
    struct fm_random random;
    fm_random_init(&random, 5);
    for (int round = 0; round < 3000; round++) {
        uint32_t a_items[50];
        uint32_t b_items[50];
        struct letters a = {a_items, (size_t)fm_random_below(&random, 50)};
        struct letters b = {b_items, (size_t)fm_random_below(&random, 50)};
        for (size_t i = 0; i < 50; i++) {
            a_items[i] = (uint32_t)fm_random_below(&random, 3);
            b_items[i] = fm_random_below(&random, 4) == 0 ? (uint32_t)fm_random_below(&random, 3)
                                                          : a_items[i];
        }
        size_t wanted = distance_plain(&a, &b);
        CHECK_INT_EQ(distance(&a, &b), wanted);
        size_t row[64];
        for (size_t limit = 1; limit < 12; limit++) {
            size_t found = distance_within(&a, &b, limit, row);
            CHECK(wanted <= limit ? found == wanted : found > limit);
        }
    }
}

TEST(records)
{
    static const struct {
        const char *line;
        int good;
    } cases[] = {
        {"{\"id\":\"a/1.jpg\",\"boxes\":[[1,2]],\"text\":\"x\\ny\"}", 1},
        {"{\"text\":\"x\\ny\",\"more\":{\"text\":1},\"id\":\"a/1.jpg\"}", 1},
        {"{\"id\":\"a/1.jpg\"}", 0},
        {"{\"id\":\"a/1.jpg\",\"text\":null}", 0},
        {"{\"id\":\"a/1.jpg\",\"text\":\"x\"", 0},
        {"[]", 0},
        {"{}", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fm_text id = {0};
        struct fm_text text = {0};
        int good = record_read(cases[i].line, strlen(cases[i].line), &id, &text);
        CHECK_INT_EQ(good, cases[i].good);
        if (good) {
            CHECK_STR_EQ(id.data, "a/1.jpg");
            CHECK_STR_EQ(text.data, "x\ny");
        }
        fm_text_deinit(&id);
        fm_text_deinit(&text);
    }
}

TEST_MAIN()
