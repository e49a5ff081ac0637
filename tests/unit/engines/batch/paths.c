/*
 * One spelling for one file, without changing which file is meant.
 */
#include "engines/batch/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness/test.h"

TEST(spellings_become_one)
{
    static const struct {
        const char *path;
        const char *tidy;
    } cases[] = {
        {"a/b", "a/b"},
        {"a//b", "a/b"},
        {"./a/b", "a/b"},
        {"a/./b", "a/b"},
        {"a/x/../b", "a/b"},
        {"a/b/", "a/b"},
        {"x/..", "."},
        {"", "."},
        {".", "."},
        {"./", "."},
        {"/", "/"},
        {"//", "/"},
        {"/..", "/"},
        {"/../a", "/a"},
        {"//a///b", "/a/b"},
        {"..", ".."},
        {"../a", "../a"},
        {"../../a", "../../a"},
        {"x/../../a", "../a"},
        {"a/.b/..c", "a/.b/..c"},
        {"x/y/../../z", "z"},
        {".../a", ".../a"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char tidy[64];
        CHECK_INT_EQ(fm_paths_tidy("", cases[i].path, tidy, sizeof(tidy)), 0);
        CHECK_STR_EQ(tidy, cases[i].tidy);
    }
}

TEST(a_link_is_not_taken_out)
{
    char folder[] = "/tmp/fermata-paths-XXXXXX";
    char path[128];
    char tidy[256];
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof(path), "%s/real", folder);
    CHECK_INT_EQ(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/link", folder);
    CHECK_INT_EQ(symlink("/usr/lib", path), 0);
    CHECK_INT_EQ(fm_paths_tidy(folder, "real/../x", tidy, sizeof(tidy)), 0);
    CHECK_STR_EQ(tidy, "x");
    CHECK_INT_EQ(fm_paths_tidy(folder, "link/../x", tidy, sizeof(tidy)), 0);
    CHECK_STR_EQ(tidy, "link/../x");
    (void)snprintf(path, sizeof(path), "%s//link/./../x", folder);
    CHECK_INT_EQ(fm_paths_tidy("", path, tidy, sizeof(tidy)), 0);
    CHECK_STR_CONTAINS(tidy, "/link/../x");
}

TEST(what_is_missing_is_appended)
{
    char found[256];
    CHECK_INT_EQ(fm_paths_resolve("/nowhere/at/all", found, sizeof(found), NULL), 0);
    CHECK_STR_EQ(found, "/nowhere/at/all");
    CHECK_INT_EQ(fm_paths_resolve("/usr/../nowhere/", found, sizeof(found), NULL), 0);
    CHECK_STR_EQ(found, "/nowhere");
    CHECK_INT_EQ(fm_paths_resolve("missing", found, sizeof(found), NULL), 0);
    CHECK(found[0] == '/');
    CHECK_STR_CONTAINS(found, "/missing");
    CHECK_INT_EQ(fm_paths_resolve("/", found, sizeof(found), NULL), 0);
    CHECK_STR_EQ(found, "/");
}

TEST(what_is_too_long_is_refused)
{
    static char path[5000];
    char tidy[4096];
    memset(path, 'a', sizeof(path) - 1);
    CHECK_INT_EQ(fm_paths_tidy("", path, tidy, sizeof(tidy)), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_paths_resolve(path, tidy, sizeof(tidy), NULL), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_paths_tidy("", "abc", tidy, 3), FM_ETOOLARGE);
}

TEST(below)
{
    CHECK_STR_EQ(fm_paths_below("/a", "/a/b"), "b");
    CHECK_STR_EQ(fm_paths_below("/a", "/a"), "");
    CHECK_STR_EQ(fm_paths_below("/", "/a"), "a");
    CHECK_PTR_EQ(fm_paths_below("/a", "/ab"), NULL);
    CHECK_PTR_EQ(fm_paths_below("/a/b", "/a"), NULL);
}

TEST_MAIN()
