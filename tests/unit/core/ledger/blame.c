/*
 * Why a shard failed, as a text: there and back, and texts of other forms.
 */
#include "core/ledger/blame.h"

#include "fermata/status.h"
#include "tests/harness/test.h"

TEST(status_and_stage_go_there_and_back)
{
    char text[192];
    struct fm_blame blame;
    fm_blame_write(text, sizeof(text), FM_EDEADLINE, "detect", "it ran for 31 s");
    CHECK_STR_EQ(text, "[EDEADLINE detect] it ran for 31 s");
    fm_blame_read(text, &blame);
    CHECK_INT_EQ(blame.status, FM_EDEADLINE);
    CHECK_STR_EQ(blame.stage, "detect");
    CHECK_STR_EQ(blame.words, "it ran for 31 s");
}

TEST(a_stage_cannot_break_the_form)
{
    char text[192];
    struct fm_blame blame;
    fm_blame_write(text, sizeof(text), FM_ENOMEM, "a] b\n", "[x] y] z");
    fm_blame_read(text, &blame);
    CHECK_STR_EQ(blame.stage, "a? b?");
    CHECK_STR_EQ(blame.words, "[x] y] z");
}

TEST(what_is_cut_is_still_a_text)
{
    char text[12];
    struct fm_blame blame;
    fm_blame_write(text, sizeof(text), FM_EDEADLINE, "detect", "words");
    CHECK_STR_EQ(text, "[EDEADLINE ");
    fm_blame_read(text, &blame);
    CHECK_INT_EQ(blame.status, FM_EINTERNAL);
    CHECK_STR_EQ(blame.words, text);
}

TEST(other_texts_are_words_about_the_process)
{
    char longer[400];
    (void)snprintf(longer, sizeof(longer), "[EIO %0200d] x", 7);
    const char *const texts[] = {"",
                                 "the worker ended",
                                 "[",
                                 "[EIO",
                                 "[EIO ]",
                                 "[EIO] words",
                                 "[OK a] b",
                                 "[EUNKNOWN a] b",
                                 "[ a] b",
                                 "[EDEADLINEX a] b",
                                 "[EDEAD a] b",
                                 " [EIO a] b",
                                 "[EIO a]b",
                                 longer};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fm_blame blame;
        fm_blame_read(texts[i], &blame);
        CHECK_INT_EQ(blame.status, FM_EINTERNAL);
        CHECK_STR_EQ(blame.stage, "process");
        CHECK(blame.words == texts[i]);
    }
}

TEST_MAIN()
