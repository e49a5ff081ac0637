/*
 * Tests of host/os/file: limits, kinds, durable writing, and the words of every failure.
 */
#include "host/os/file.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "tests/harness/test.h"

static char directory[64];

static void path_in(char *ret_path, size_t size, const char *name)
{
    if (directory[0] == '\0') {
        (void)snprintf(directory, sizeof(directory), "/tmp/fm-file-XXXXXX");
        if (mkdtemp(directory) == NULL) {
            abort();
        }
    }
    (void)snprintf(ret_path, size, "%s/%s", directory, name);
}

TEST(what_is_written_is_read)
{
    char path[128];
    char *data = NULL;
    size_t size = 0;
    struct fm_error error = {0};
    path_in(path, sizeof(path), "a");
    CHECK_INT_EQ(fm_file_write_atomic(path, "hello", 5, &error), 0);
    CHECK_INT_EQ(fm_file_write_atomic(path, "hello again", 11, &error), 0);
    CHECK_INT_EQ(fm_file_read(path, 100, &data, &size, &error), 0);
    CHECK_UINT_EQ(size, 11);
    CHECK_STR_EQ(data, "hello again");
    fm_free(data);
}

/* What another left at the name that was used once is neither touched nor in the way, and nothing
 * is left behind. */
TEST(files_beside_it_stay_what_they_are)
{
    char path[128];
    char beside[128];
    char *data = NULL;
    size_t size = 0;
    struct fm_error error = {0};
    struct fm_file_list list;
    path_in(path, sizeof(path), "own");
    CHECK_INT_EQ(fm_file_make_directories(path, &error), 0);
    path_in(path, sizeof(path), "own/a");
    path_in(beside, sizeof(beside), "own/a.tmp");
    CHECK_INT_EQ(fm_file_write_atomic(beside, "kept", 4, &error), 0);
    CHECK_INT_EQ(fm_file_write_atomic(path, "new", 3, &error), 0);
    CHECK_INT_EQ(fm_file_read(beside, 10, &data, &size, &error), 0);
    CHECK_STR_EQ(data, "kept");
    fm_free(data);
    path_in(path, sizeof(path), "own");
    CHECK_INT_EQ(fm_file_list(path, &list, &error), 0);
    CHECK_UINT_EQ(list.count, 2);
    fm_file_list_free(&list);
}

TEST(limits_hold_exactly)
{
    char path[128];
    char *data = NULL;
    size_t size = 0;
    struct fm_error error = {0};
    path_in(path, sizeof(path), "limit");
    CHECK_INT_EQ(fm_file_write_atomic(path, "12345678", 8, &error), 0);
    CHECK_INT_EQ(fm_file_read(path, 8, &data, &size, &error), 0);
    fm_free(data);
    CHECK_INT_EQ(fm_file_read(path, 7, &data, &size, &error), FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "its 8 bytes are more than the limit of 7");
}

TEST(links_are_followed_and_devices_stay)
{
    char path[128];
    char link[128];
    char *data = NULL;
    size_t size = 0;
    struct stat facts;
    struct fm_error error = {0};
    path_in(path, sizeof(path), "linked");
    path_in(link, sizeof(link), "link");
    CHECK_INT_EQ(fm_file_write_atomic(path, "old", 3, &error), 0);
    CHECK_INT_EQ(symlink(path, link), 0);
    CHECK_INT_EQ(fm_file_write_atomic(link, "new", 3, &error), 0);
    CHECK_INT_EQ(lstat(link, &facts), 0);
    CHECK(S_ISLNK(facts.st_mode));
    CHECK_INT_EQ(fm_file_read(path, 10, &data, &size, &error), 0);
    CHECK_STR_EQ(data, "new");
    fm_free(data);
    path_in(path, sizeof(path), "pipe");
    CHECK_INT_EQ(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    CHECK(reader >= 0);
    CHECK_INT_EQ(fm_file_write_atomic(path, "through", 7, &error), 0);
    char got[8] = {0};
    CHECK_INT_EQ(read(reader, got, 7), 7);
    CHECK_STR_EQ(got, "through");
    CHECK_INT_EQ(lstat(path, &facts), 0);
    CHECK(S_ISFIFO(facts.st_mode));
    close(reader);
}

TEST(a_path_is_checked_without_touching_it)
{
    char path[128];
    char inner[160];
    struct fm_file_facts facts;
    struct fm_error error = {0};
    path_in(path, sizeof(path), "checked");
    CHECK_INT_EQ(fm_file_check_writable(path, &error), 0);
    CHECK_INT_EQ(fm_file_stat(path, &facts, &error), 0);
    CHECK_INT_EQ(facts.kind, FM_FILE_ABSENT);
    CHECK_INT_EQ(fm_file_write_atomic(path, "kept", 4, &error), 0);
    CHECK_INT_EQ(fm_file_check_writable(path, &error), 0);
    CHECK_INT_EQ(fm_file_stat(path, &facts, &error), 0);
    CHECK_UINT_EQ(facts.size, 4);
    (void)snprintf(inner, sizeof(inner), "%s/x", path);
    CHECK(fm_file_check_writable(inner, &error) != 0);
    CHECK_INT_EQ(fm_file_check_writable(directory, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "it is a directory");
    (void)snprintf(inner, sizeof(inner), "%s/absent/x", directory);
    CHECK_INT_EQ(fm_file_check_writable(inner, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "there is no directory");
    CHECK_INT_EQ(fm_file_check_writable("", &error), FM_EINVAL);
    CHECK_INT_EQ(fm_file_check_writable("/dev/null", &error), 0);
}

TEST(one_file_has_many_names)
{
    char there[128];
    char link_there[128];
    char hard[128];
    char absent[128];
    char detour[160];
    char link_absent[128];
    char other[128];
    path_in(there, sizeof(there), "same");
    path_in(link_there, sizeof(link_there), "same.link");
    path_in(hard, sizeof(hard), "same.hard");
    path_in(absent, sizeof(absent), "none");
    path_in(link_absent, sizeof(link_absent), "none.link");
    path_in(other, sizeof(other), "none.other");
    (void)snprintf(detour, sizeof(detour), "%s/../%s/./none", directory,
                   strrchr(directory, '/') + 1);
    CHECK_INT_EQ(fm_file_write_atomic(there, "x", 1, NULL), 0);
    CHECK_INT_EQ(symlink("same", link_there), 0);
    CHECK_INT_EQ(link(there, hard), 0);
    CHECK_INT_EQ(symlink("none", link_absent), 0);
    CHECK(fm_file_is_same(there, there));
    CHECK(fm_file_is_same(there, link_there));
    CHECK(fm_file_is_same(hard, there));
    CHECK(fm_file_is_same(absent, detour));
    CHECK(fm_file_is_same(link_absent, absent));
    CHECK(!fm_file_is_same(there, absent));
    CHECK(!fm_file_is_same(other, absent));
    CHECK(!fm_file_is_same("/nonexistent/a", "/nonexistent/a"));
    /* A link that leads to itself leads nowhere. */
    CHECK_INT_EQ(symlink("none.other", other), 0);
    CHECK(!fm_file_is_same(other, other));
    CHECK_INT_EQ(unlink(other), 0);
    CHECK_INT_EQ(unlink(link_there), 0);
    CHECK_INT_EQ(unlink(link_absent), 0);
    CHECK_INT_EQ(unlink(hard), 0);
    CHECK_INT_EQ(unlink(there), 0);
}

TEST(an_empty_file_is_empty)
{
    char path[128];
    char *data = NULL;
    size_t size = 9;
    struct fm_error error = {0};
    path_in(path, sizeof(path), "empty");
    CHECK_INT_EQ(fm_file_write_atomic(path, NULL, 0, &error), 0);
    CHECK_INT_EQ(fm_file_read(path, 10, &data, &size, &error), 0);
    CHECK_UINT_EQ(size, 0);
    CHECK_STR_EQ(data, "");
    fm_free(data);
}

TEST(what_is_no_file_is_refused)
{
    char path[128];
    char *data = NULL;
    size_t size = 0;
    struct fm_error error = {0};
    path_in(path, sizeof(path), "absent");
    CHECK_INT_EQ(fm_file_read(path, 10, &data, &size, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "No such file");
    CHECK_INT_EQ(fm_file_read(directory, 10, &data, &size, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "is a directory");
    path_in(path, sizeof(path), "fifo");
    CHECK_INT_EQ(mkfifo(path, 0600), 0);
    CHECK_INT_EQ(fm_file_read(path, 10, &data, &size, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "not a regular file");
    if (getuid() != 0) {
        path_in(path, sizeof(path), "secret");
        CHECK_INT_EQ(fm_file_write_atomic(path, "x", 1, &error), 0);
        CHECK_INT_EQ(chmod(path, 0), 0);
        CHECK_INT_EQ(fm_file_read(path, 10, &data, &size, &error), FM_EPERM);
    }
}

TEST(listings_are_sorted_by_bytes)
{
    char path[128];
    struct fm_error error = {0};
    struct fm_file_list list;
    static const char *const names[] = {"list/b", "list/a", "list/B", "list/a.txt",
                                        "list/\xc3\xa9"};
    path_in(path, sizeof(path), "list");
    CHECK_INT_EQ(fm_file_make_directories(path, &error), 0);
    for (size_t i = 0; i < 5; i++) {
        path_in(path, sizeof(path), names[i]);
        CHECK_INT_EQ(fm_file_write_atomic(path, "", 0, &error), 0);
    }
    path_in(path, sizeof(path), "list");
    CHECK_INT_EQ(fm_file_list(path, &list, &error), 0);
    CHECK_UINT_EQ(list.count, 5);
    CHECK_STR_EQ(list.names[0], "B");
    CHECK_STR_EQ(list.names[1], "a");
    CHECK_STR_EQ(list.names[2], "a.txt");
    CHECK_STR_EQ(list.names[4], "\xc3\xa9");
    fm_file_list_free(&list);
    path_in(path, sizeof(path), "nowhere");
    CHECK_INT_EQ(fm_file_list(path, &list, &error), FM_ENOTFOUND);
}

TEST(directories_are_made_along_the_way)
{
    char path[128];
    struct fm_error error = {0};
    path_in(path, sizeof(path), "x/y/z");
    CHECK_INT_EQ(fm_file_make_directories(path, &error), 0);
    CHECK_INT_EQ(fm_file_make_directories(path, &error), 0);
    path_in(path, sizeof(path), "plain");
    CHECK_INT_EQ(fm_file_write_atomic(path, "", 0, &error), 0);
    CHECK_INT_EQ(fm_file_make_directories(path, &error), FM_EEXIST);
    path_in(path, sizeof(path), "plain/below");
    CHECK_INT_EQ(fm_file_make_directories(path, &error), FM_ENOTFOUND);
}

TEST(an_abandoned_writer_leaves_nothing)
{
    char path[128];
    struct fm_error error = {0};
    struct fm_file_writer writer = {0};
    struct fm_file_facts facts;
    path_in(path, sizeof(path), "half");
    CHECK_INT_EQ(fm_file_writer_open(&writer, path, &error), 0);
    CHECK_INT_EQ(fm_file_writer_append(&writer, "abc", 3, &error), 0);
    CHECK_UINT_EQ(writer.size, 3);
    fm_file_writer_abandon(&writer);
    fm_file_writer_abandon(&writer);
    CHECK_INT_EQ(fm_file_stat(path, &facts, &error), 0);
    CHECK_INT_EQ(facts.kind, FM_FILE_ABSENT);
}

/* How many names there are in the test's folder. */
static size_t names_count(void)
{
    char path[128];
    struct fm_file_list list = {0};
    path_in(path, sizeof(path), "beside");
    if (fm_file_list(path, &list, NULL) != 0) {
        return SIZE_MAX;
    }
    size_t count = list.count;
    fm_file_list_free(&list);
    return count;
}

TEST(a_file_appears_when_it_is_whole)
{
    char folder[128];
    char path[192];
    char *data = NULL;
    size_t size = 0;
    struct fm_error error = {0};
    struct fm_file_writer writer = {0};
    path_in(folder, sizeof(folder), "beside");
    CHECK_INT_EQ(fm_file_make_directories(folder, &error), 0);
    (void)snprintf(path, sizeof(path), "%s/big", folder);
    CHECK_INT_EQ(fm_file_write_atomic(path, "old", 3, &error), 0);
    CHECK_INT_EQ(fm_file_writer_open_beside(&writer, path, &error), 0);
    CHECK_INT_EQ(fm_file_writer_append(&writer, "ne", 2, &error), 0);
    CHECK_INT_EQ(fm_file_writer_append(&writer, "w one", 5, &error), 0);
    CHECK_UINT_EQ(names_count(), 2);
    CHECK_INT_EQ(fm_file_read(path, 100, &data, &size, &error), 0);
    CHECK_STR_EQ(data, "old");
    fm_free(data);
    CHECK_INT_EQ(fm_file_writer_commit_as(&writer, path, &error), 0);
    CHECK_INT_EQ(fm_file_read(path, 100, &data, &size, &error), 0);
    CHECK_STR_EQ(data, "new one");
    fm_free(data);
    CHECK_UINT_EQ(names_count(), 1);
    /* Given up, and where it cannot have that name: nothing of it is left. */
    CHECK_INT_EQ(fm_file_writer_open_beside(&writer, path, &error), 0);
    fm_file_writer_abandon(&writer);
    CHECK_UINT_EQ(names_count(), 1);
    CHECK_INT_EQ(fm_file_writer_open_beside(&writer, path, &error), 0);
    CHECK(fm_file_writer_commit_as(&writer, folder, &error) != 0);
    CHECK_STR_CONTAINS(error.text, "cannot write '");
    CHECK_UINT_EQ(names_count(), 1);
    (void)snprintf(path, sizeof(path), "%s/absent/big", folder);
    CHECK_INT_EQ(fm_file_writer_open_beside(&writer, path, &error), FM_ENOTFOUND);
}

/* /dev/full answers every write with "no space left". */
TEST(a_full_disk_is_said)
{
    struct fm_error error = {0};
    struct fm_file_writer writer = {0};
    CHECK_INT_EQ(fm_file_writer_open(&writer, "/dev/full", &error), 0);
    CHECK_INT_EQ(fm_file_writer_append(&writer, "abc", 3, &error), FM_ENOSPC);
    CHECK_STR_CONTAINS(error.text, "cannot write '/dev/full': No space left on device");
    close(writer.descriptor);
}

TEST(paths_are_taken_apart_and_joined)
{
    char path[32];
    CHECK_INT_EQ(fm_path_join(path, sizeof(path), "a/b", "c"), 0);
    CHECK_STR_EQ(path, "a/b/c");
    CHECK_INT_EQ(fm_path_join(path, sizeof(path), "a/", "c"), 0);
    CHECK_STR_EQ(path, "a/c");
    CHECK_INT_EQ(fm_path_join(path, sizeof(path), "a", "/c"), 0);
    CHECK_STR_EQ(path, "/c");
    CHECK_INT_EQ(fm_path_join(path, 4, "abc", "d"), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_path_directory(path, sizeof(path), "a/b.yaml"), 0);
    CHECK_STR_EQ(path, "a");
    CHECK_INT_EQ(fm_path_directory(path, sizeof(path), "b.yaml"), 0);
    CHECK_STR_EQ(path, ".");
    CHECK_INT_EQ(fm_path_directory(path, sizeof(path), "/b"), 0);
    CHECK_STR_EQ(path, "/");
    CHECK_STR_EQ(fm_path_base("a/b.c"), "b.c");
    CHECK_STR_EQ(fm_path_extension("a.d/b.tar.gz"), ".gz");
    CHECK_STR_EQ(fm_path_extension("a.d/.hidden"), "");
    CHECK_STR_EQ(fm_path_extension("a.d/b"), "");
}

static int entry_remove(const char *path, const struct stat *facts, int kind, struct FTW *where)
{
    (void)facts;
    (void)kind;
    (void)where;
    return remove(path);
}

int main(int argc, char **argv)
{
    int status = fm_test_main(argc, argv);
    if (directory[0] != '\0' && nftw(directory, entry_remove, 8, FTW_DEPTH | FTW_PHYS) != 0) {
        return 1;
    }
    return status;
}
