/*
 * Which files are the rows, and the record of it: spellings, the output directory, damage, memory
 * that runs out.
 */
#include "engines/batch/row_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include "engines/batch/remote.h"
#include "tests/harness/test.h"

static char folder[64];

/* A path in the test's directory; four at a time. */
static const char *at(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void file_make(const char *name, const char *text)
{
    FILE *file = fopen(at(name), "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static void directory_make(const char *name)
{
    if (mkdir(at(name), 0755) != 0) {
        abort();
    }
}

/* in/1.txt, in/2.txt, in/sub/3.txt */
static void inputs_make(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/fermata-listing-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        abort();
    }
    directory_make("in");
    directory_make("in/sub");
    file_make("in/1.txt", "1");
    file_make("in/2.txt", "22");
    file_make("in/sub/3.txt", "333");
}

TEST(what_is_stopped_ends_before_it_finds_anything)
{
    inputs_make();
    const char *paths[] = {at("in"), NULL};
    const struct fm_job job = {.file = at("job.yaml"), .files = paths};
    atomic_bool stopping = true;
    struct fm_listing listing;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_listing_build(&job, NULL, &stopping, &listing, &error), FM_ECANCELLED);
    CHECK_STR_EQ(error.text, "stopped");
    atomic_store(&stopping, false);
    CHECK_INT_EQ(fm_listing_build(&job, NULL, &stopping, &listing, &error), 0);
    CHECK_UINT_EQ(listing.count, 3);
    fm_listing_deinit(&listing);
}

static int build(const char *files, const char *list, const char *output,
                 struct fm_listing *ret_listing, struct fm_error *reterr)
{
    const char *paths[] = {files, NULL};
    struct fm_job job = {.file = at("job.yaml"),
                         .files = files != NULL ? paths : NULL,
                         .list = list,
                         .base = list != NULL ? folder : NULL};
    return fm_listing_build(&job, output, NULL, ret_listing, reterr);
}

TEST(a_directory_is_sorted_and_known_by_size)
{
    struct fm_listing listing;
    inputs_make();
    CHECK_INT_EQ(build(at("in"), NULL, NULL, &listing, NULL), 0);
    CHECK_UINT_EQ(listing.count, 3);
    CHECK_STR_EQ(listing.entries[0].id, "1.txt");
    CHECK_STR_EQ(listing.entries[2].id, "sub/3.txt");
    CHECK_UINT_EQ(listing.entries[2].size, 3);
    fm_listing_deinit(&listing);
}

TEST(a_file_named_in_many_ways_is_one_row)
{
    struct fm_listing listing;
    char text[1024];
    inputs_make();
    (void)snprintf(text, sizeof(text),
                   "in//1.txt\nin/1.txt\n./in/1.txt\nin/../in/1.txt\nin/sub/../1.txt\n%s\n"
                   "../%s/in/1.txt\n",
                   at("in/1.txt"), folder + strlen("/tmp/"));
    file_make("list", text);
    CHECK_INT_EQ(build(NULL, at("list"), at("out"), &listing, NULL), 0);
    CHECK_UINT_EQ(listing.count, 1);
    CHECK_STR_EQ(listing.entries[0].id, "in/1.txt");
    CHECK_UINT_EQ(listing.duplicate_count, 6);
    CHECK_UINT_EQ(listing.entries[0].size, 1);
    fm_listing_deinit(&listing);
}

TEST(through_a_link_it_is_another_file)
{
    struct fm_listing listing;
    inputs_make();
    directory_make("other");
    directory_make("other/deep");
    file_make("other/1.txt", "another");
    CHECK_INT_EQ(symlink(at("other/deep"), at("link")), 0);
    file_make("list", "link/../1.txt\n1.txt\n");
    CHECK_INT_EQ(build(NULL, at("list"), NULL, &listing, NULL), 0);
    CHECK_UINT_EQ(listing.count, 2);
    CHECK_STR_EQ(listing.entries[1].id, "link/../1.txt");
    CHECK_UINT_EQ(listing.entries[1].size, 7);
    fm_listing_deinit(&listing);
}

TEST(the_output_directory_is_never_an_input)
{
    struct fm_listing listing;
    inputs_make();
    directory_make("in/out");
    directory_make("in/out/errors");
    file_make("in/out/part-00000.jsonl", "{}");
    CHECK_INT_EQ(symlink(at("in/out/part-00000.jsonl"), at("in/link.txt")), 0);
    CHECK_INT_EQ(symlink(at("in/out"), at("way")), 0);
    /* Inside the inputs: left out, links into it too, whatever it is called. */
    CHECK_INT_EQ(build(at("in"), NULL, at("way"), &listing, NULL), 0);
    CHECK_UINT_EQ(listing.count, 3);
    fm_listing_deinit(&listing);
    CHECK_INT_EQ(build(at("in/**/*"), NULL, at("in/out"), &listing, NULL), 0);
    CHECK_UINT_EQ(listing.count, 3);
    fm_listing_deinit(&listing);
    /* The same, above, or named: refused. */
    static const char *const inputs[] = {"in",          "in/sub",   "in/1.txt", "in/*.txt",
                                         "in/link.txt", "in/sub/*", "in/**"};
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        struct fm_error error = {0};
        CHECK_INT_EQ(build(at(inputs[i]), NULL, at("in"), &listing, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "is in the output directory");
    }
    CHECK_INT_EQ(build(at("way"), NULL, at("in/out"), &listing, NULL), FM_EINVAL);
    CHECK_INT_EQ(build(at("in/link.txt"), NULL, at("in/out"), &listing, NULL), FM_EINVAL);
    file_make("list", "in/1.txt\nway/part-00000.jsonl\n");
    CHECK_INT_EQ(build(NULL, at("list"), at("in/out"), &listing, NULL), FM_EINVAL);
    file_make("list", "in/1.txt\nnew/part-00000.jsonl\n");
    CHECK_INT_EQ(build(NULL, at("list"), at("new"), &listing, NULL), FM_EINVAL);
    CHECK_INT_EQ(build(NULL, at("list"), at("newer"), &listing, NULL), 0);
    fm_listing_deinit(&listing);
}

TEST(what_is_recorded_comes_back_and_damage_is_told)
{
    struct fm_listing listing;
    struct fm_row_source source = {0};
    struct fm_error error = {0};
    uint64_t checksum = 0;
    inputs_make();
    for (int i = 0; i < 300; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "in/x%03d", i);
        file_make(name, "four");
    }
    CHECK_INT_EQ(build(at("in"), NULL, NULL, &listing, NULL), 0);
    CHECK_INT_EQ(
        fm_listing_write(&listing, NULL, listing.count, false, at("inputs-0"), &checksum, NULL), 0);
    CHECK_INT_EQ(fm_row_source_add(&source, at("inputs-0"), NULL, 0, 303, checksum, NULL), 0);
    for (uint64_t row = 302; row < 303; row -= 7) {
        struct fm_row_place place;
        CHECK_INT_EQ(fm_row_source_get(&source, row, 9, &place, NULL), 0);
        CHECK_STR_EQ(place.id, listing.entries[row].id);
        CHECK_UINT_EQ(place.size, listing.entries[row].size);
        CHECK_UINT_EQ(place.row_count, 0);
    }
    size_t *added = NULL;
    size_t count = 9;
    CHECK_INT_EQ(fm_row_source_compare(&source, &listing, &added, &count, NULL), 0);
    CHECK_UINT_EQ(count, 0);
    fm_free(added);
    listing.entries[0].size = 99;
    CHECK_INT_EQ(fm_row_source_compare(&source, &listing, &added, &count, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "1.txt");
    fm_row_source_deinit(&source);
    source = (struct fm_row_source){0};
    CHECK_INT_EQ(fm_row_source_add(&source, at("inputs-0"), NULL, 0, 303, checksum ^ 1, &error),
                 FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "--restart");
    CHECK_INT_EQ(fm_row_source_add(&source, at("inputs-0"), NULL, 0, 302, checksum, NULL),
                 FM_ECORRUPT);
    fm_row_source_deinit(&source);
    fm_listing_deinit(&listing);
}

TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    int status = FM_ENOMEM;
    inputs_make();
    file_make("list", "in/1.txt\nin/2.txt\nnowhere\n");
    for (uint64_t n = 1; n < 10000 && status != 0; n++) {
        struct fm_listing listing = {0};
        struct fm_row_source source = {0};
        struct fm_error error = {0};
        size_t *added = NULL;
        size_t count = 0;
        uint64_t checksum = 0;
        const char *list = n % 2 == 0 ? NULL : at("list");
        (void)fm_memory_fail_at((n + 1) / 2, 0);
        status = build(list == NULL ? at("in/**/*.txt") : NULL, list, NULL, &listing, &error);
        bool built = status == 0;
        status = status != 0 ? status
                             : fm_listing_write(&listing, NULL, 3, false, at("inputs-0"), &checksum,
                                                &error);
        status = status != 0
                     ? status
                     : fm_row_source_add(&source, at("inputs-0"), NULL, 0, 3, checksum, &error);
        status =
            status != 0 ? status : fm_row_source_compare(&source, &listing, &added, &count, &error);
        (void)fm_memory_fail_at(0, 0);
        fm_free(added);
        fm_row_source_deinit(&source);
        if (built) {
            fm_listing_deinit(&listing);
        }
        CHECK(status == 0 || (status == FM_ENOMEM && error.text[0] != '\0'));
        CHECK(n > 2 || status != 0);
    }
    CHECK_INT_EQ(status, 0);
}

TEST(ids_of_what_is_behind_addresses)
{
    static const struct {
        const char *base;
        const char *address;
        const char *id;
    } cases[] = {
        {"s3://bucket/a", "s3://bucket/a/b/c", "b/c"},
        {"s3://bucket/a/", "s3://bucket/a/b", "b"},
        {"s3://bucket", "s3://bucket/a/b", "a/b"},
        {"s3://bucket/a", "s3://bucket/ab", "s3://bucket/ab"},
        {"s3://bucket/a", "s3://bucket/a", "s3://bucket/a"},
        {"s3://bucket/a", "s3://bucket/a/", "s3://bucket/a/"},
        {"s3://bucket/a", "s3://bucket/a//b", "s3://bucket/a//b"},
        {"s3://bucket/a", "s3://bucket/a/http://host", "s3://bucket/a/http://host"},
        {"s3://bucket/a", "https://host/a/b", "https://host/a/b"},
        {"/home", "https://host/a/b", "https://host/a/b"},
        {"", "https://host/a/b", "https://host/a/b"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char place[512];
        CHECK_STR_EQ(fm_remote_id(cases[i].base, cases[i].address), cases[i].id);
        CHECK(fm_remote_is(cases[i].base, cases[i].id));
        CHECK_INT_EQ(fm_remote_place(place, sizeof(place), cases[i].base, cases[i].id), 0);
        CHECK_STR_EQ(place, cases[i].address);
    }
    CHECK(!fm_remote_is("s3://bucket/a", "/home/x") && !fm_remote_is("/home", "x"));
    CHECK(!fm_remote_is("", "ftp://host/x") && !fm_remote_is("", "http:/host/x"));
    CHECK(fm_remote_is("", "HTTPS://host/x") && fm_remote_is("", "S3://bucket"));
}

TEST(addresses_of_many_objects)
{
    static const struct {
        const char *address;
        const char *base; /* NULL: it is one object */
    } cases[] = {
        {"s3://bucket", "s3://bucket"},
        {"s3://bucket/", "s3://bucket"},
        {"s3://bucket/a/", "s3://bucket/a"},
        {"s3://bucket/a//", "s3://bucket/a"},
        {"s3://bucket/*.jpg", "s3://bucket"},
        {"s3://bucket/a/b*/c", "s3://bucket/a"},
        {"s3://bucket/a/b\\*", "s3://bucket/a"},
        {"s3://bucket/a", NULL},
        {"https://host/a/", NULL},
        {"https://host/a?b=*", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char base[64];
        const char *files[] = {cases[i].address, NULL};
        const struct fm_job job = {.file = "job.yaml", .files = files};
        CHECK_INT_EQ(fm_remote_is_walk(cases[i].address), cases[i].base != NULL);
        CHECK_INT_EQ(fm_listing_is_walk(&job), cases[i].base != NULL);
        CHECK(fm_remote_may_be(&job));
        if (cases[i].base != NULL) {
            fm_remote_walk_base(cases[i].address, base, sizeof(base));
            CHECK_STR_EQ(base, cases[i].base);
        }
    }
}

TEST(lists_of_addresses)
{
    static const char *const headers[] = {"Name: value\n", "no header\n"};
    inputs_make();
    file_make("list", "https://host/b\nhttp://host/a?x=1\nhttps://host/b\n1.txt\n/in/2.txt\n");
    for (int i = 0; i < 2; i++) {
        struct fm_listing listing;
        struct fm_error error = {0};
        int status = FM_ENOMEM;
        file_make("headers", headers[i]);
        const struct fm_job job = {.file = at("job.yaml"),
                                   .list = at("list"),
                                   .base = folder,
                                   .headers_file = at("headers"),
                                   .requests = 2};
        for (uint64_t n = 1; status == FM_ENOMEM && n < 100; n++) {
            error = (struct fm_error){0};
            (void)fm_memory_fail_at(n, 0);
            status = fm_listing_build(&job, NULL, NULL, &listing, &error);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status == 0 || error.text[0] != '\0');
            CHECK(n > 2 || status == FM_ENOMEM);
        }
        if (i == 1) {
            CHECK_INT_EQ(status, FM_EINVAL);
            CHECK_STR_CONTAINS(error.text, "headers': line 1 must read 'Name: value'");
            break;
        }
        CHECK_INT_EQ(status, 0);
        CHECK_UINT_EQ(listing.count, 4);
        CHECK_UINT_EQ(listing.duplicate_count, 1);
        CHECK_STR_EQ(listing.entries[0].id, "/in/2.txt");
        CHECK_STR_EQ(listing.entries[1].id, "1.txt");
        CHECK_STR_EQ(listing.entries[2].id, "http://host/a?x=1");
        CHECK_STR_EQ(listing.entries[3].id, "https://host/b");
        CHECK(listing.entries[3].size == FM_LISTING_SIZE_UNKNOWN);
        fm_listing_deinit(&listing);
    }
}

TEST_MAIN()
