/*
 * Patterns against paths.
 */
#include "engines/batch/glob.h"

#include "tests/harness/test.h"

TEST(patterns)
{
    static const struct {
        const char *pattern;
        const char *path;
        bool matches;
    } cases[] = {
        {"a.jpg", "a.jpg", true},
        {"a.jpg", "a.jpgx", false},
        {"a.jpg", "b/a.jpg", false},
        {"*.jpg", "a.jpg", true},
        {"*.jpg", ".jpg", false},
        {".*", ".jpg", true},
        {"*.jpg", "b/a.jpg", false},
        {"**/*.jpg", "a.jpg", true},
        {"**/*.jpg", "b/c/a.jpg", true},
        {"**/*.jpg", "b/.c/a.jpg", false},
        {"x/**/*.jpg", "x/a.jpg", true},
        {"x/**/y/*.jpg", "x/1/y/2/y/a.jpg", true},
        {"x/**/y/*.jpg", "x/1/y/2/z/a.jpg", false},
        {"x/**", "x/a/b", true},
        {"?.jp[ge]", "a.jpg", true},
        {"?.jp[ge]", "a.jpx", false},
        {"[!a-c]", "d", true},
        {"[!a-c]", "b", false},
        {"[]x]", "]", true},
        {"[a", "[a", true},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
        {"*/b", "a/b", true},
        {"a/*", "a", false},
        {"", "a", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (fm_glob_matches(cases[i].pattern, cases[i].path) != cases[i].matches) {
            printf("# '%s' against '%s'\n", cases[i].pattern, cases[i].path);
        }
        CHECK_INT_EQ(fm_glob_matches(cases[i].pattern, cases[i].path), cases[i].matches);
    }
}

TEST(the_fixed_part_is_whole_directories)
{
    CHECK_UINT_EQ(fm_glob_fixed_length("pages/**/*.jpg"), 5);
    CHECK_UINT_EQ(fm_glob_fixed_length("pages/a*.jpg"), 5);
    CHECK_UINT_EQ(fm_glob_fixed_length("*.jpg"), 0);
    CHECK_UINT_EQ(fm_glob_fixed_length("/*.jpg"), 1);
    CHECK(fm_glob_is_pattern("a?") && !fm_glob_is_pattern("a/b.c"));
}

TEST_MAIN()
