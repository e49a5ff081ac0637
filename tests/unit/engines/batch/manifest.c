/*
 * Reading manifests: split at every byte, with everything that can be wrong, and without memory.
 */
#include "engines/batch/manifest.c"

#include <unistd.h>

#include "tests/harness/test.h"

static const char good[] =
    "{\"manifest_version\":1,\"job\":\"a \\\"job\\\"\",\"finished\":\"now\",\"complete\":true,"
    "\"rows_in\":7,\"rows_out\":6,\"dead_letters\":1,\"inputs_found\":9,"
    "\"checksum_algorithm\":\"fnv1a64\",\"facts\":{\"parts\":\"[{\",\"k\\u00e9\":\"v\"},"
    "\"parts\":[\n"
    "{\"part\":\"part-00000.jsonl\",\"first_row\":0,\"rows_in\":4,\"rows\":4,\"bytes\":10,"
    "\"checksum\":\"00000000000000ff\",\"dead_letters\":0,\"more\":{\"x\":[1,\"]}\"]}},\n"
    "{\"part\":\"part-00012.jsonl\",\"first_row\":4,\"rows_in\":3,\"rows\":2,\"bytes\":11,"
    "\"checksum\":\"fedcba9876543210\",\"dead_letters\":1,\"dead_letter_bytes\":5,"
    "\"dead_letter_checksum\":\"0000000000000001\"}\n],\"later\":{\"parts\":[1,{}]}}\n";

struct seen {
    struct fm_manifest_part parts[4];
    size_t part_count;
    size_t fact_count;
    char fact[64];
};

static int part_keep(void *context, const struct fm_manifest_part *part)
{
    struct seen *seen = context;
    if (seen->part_count == 4) {
        return FM_ELIMIT;
    }
    seen->parts[seen->part_count++] = *part;
    return 0;
}

static int fact_keep(void *context, const struct fm_job_fact *fact)
{
    struct seen *seen = context;
    seen->fact_count++;
    (void)snprintf(seen->fact, sizeof(seen->fact), "%s=%s", fact->key, fact->value);
    return 0;
}

/* Feeds the text in two pieces. */
static int read_split(const char *text, size_t size, size_t split, struct seen *seen,
                      struct fm_manifest_head *head, struct fm_error *error)
{
    const struct fm_manifest_handlers handlers = {
        .part = part_keep, .fact = fact_keep, .context = seen};
    struct reader reader = {.path = "m", .handlers = &handlers, .reterr = error};
    *seen = (struct seen){.part_count = 0};
    *head = (struct fm_manifest_head){.complete = false};
    *error = (struct fm_error){0};
    int status = feed(&reader, text, split);
    status = status != 0 ? status : feed(&reader, text + split, size - split);
    status = status != 0 ? status : head_read(&reader, head);
    fm_text_deinit(&reader.head);
    fm_text_deinit(&reader.part);
    return status;
}

TEST(it_is_read_whatever_the_pieces)
{
    struct seen seen;
    struct fm_manifest_head head;
    struct fm_error error;
    size_t size = sizeof(good) - 1;
    for (size_t split = 0; split <= size; split++) {
        CHECK_INT_EQ(read_split(good, size, split, &seen, &head, &error), 0);
        CHECK_UINT_EQ(seen.part_count, 2);
        CHECK_UINT_EQ(seen.fact_count, 2);
        CHECK_STR_EQ(seen.fact, "k\xc3\xa9=v");
        CHECK_STR_EQ(head.job, "a \"job\"");
        CHECK(head.complete);
        CHECK_UINT_EQ(head.rows_in, 7);
        CHECK_UINT_EQ(head.inputs_found, 9);
        CHECK_UINT_EQ(seen.parts[0].files.part_checksum, 0xff);
        CHECK_UINT_EQ(seen.parts[1].number, 12);
        CHECK_UINT_EQ(seen.parts[1].rows_in, 3);
        CHECK_UINT_EQ(seen.parts[1].files.part_checksum, UINT64_C(0xfedcba9876543210));
        CHECK_UINT_EQ(seen.parts[1].files.letters_bytes, 5);
        CHECK_UINT_EQ(seen.parts[1].files.letters_checksum, 1);
    }
}

TEST(what_is_cut_off_is_damaged)
{
    struct seen seen;
    struct fm_manifest_head head;
    struct fm_error error;
    for (size_t size = 0; size < sizeof(good) - 2; size++) {
        CHECK_INT_EQ(read_split(good, size, 0, &seen, &head, &error), FM_ECORRUPT);
        CHECK_STR_CONTAINS(error.text, "'m' is not a manifest of Fermata");
    }
}

/* The good manifest with the first `from` replaced. */
static int read_changed(const char *from, const char *to, struct fm_error *error)
{
    char text[2 * sizeof(good)];
    struct seen seen;
    struct fm_manifest_head head;
    const char *at = strstr(good, from);
    if (at == NULL) {
        abort();
    }
    int length =
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    return read_split(text, (size_t)length, 0, &seen, &head, error);
}

TEST(what_is_wrong_is_refused)
{
    static const struct {
        const char *from;
        const char *to;
        int status;
        const char *words;
    } cases[] = {
        {"\"manifest_version\":1", "\"manifest_version\":2", FM_EUNSUPPORTED, "newer"},
        {"\"manifest_version\":1", "\"manifest_version\":0", FM_ECORRUPT, "not in it"},
        {"fnv1a64", "sha256", FM_EUNSUPPORTED, "newer"},
        {"\"rows_in\":7,", "", FM_ECORRUPT, "not in it"},
        {"\"rows_in\":7", "\"rows_in\":-7", FM_ECORRUPT, "another kind"},
        {"\"complete\":true", "\"complete\":1", FM_ECORRUPT, "another kind"},
        {"\"facts\":{", "\"facts\":{\"n\":1,", FM_ECORRUPT, "another kind"},
        {"\"parts\":[\n", "\"parts\":[,\n", FM_ECORRUPT, "else than parts"},
        {"}},\n{\"part\"", "}}\n{\"part\"", FM_ECORRUPT, "else than parts"},
        {"}\n],", "},\n],", FM_ECORRUPT, "else than parts"},
        {"\"parts\":[\n", "\"parts\":[\n[],", FM_ECORRUPT, "else than parts"},
        {"part-00000", "part-000000", FM_ECORRUPT, "cannot be understood"},
        {"part-00000.jsonl", "../../etc/passwd", FM_ECORRUPT, "cannot be understood"},
        {"\"bytes\":10,", "", FM_ECORRUPT, "cannot be understood"},
        {"\"dead_letter_bytes\":5,", "", FM_ECORRUPT, "cannot be understood"},
        {"00000000000000ff", "0000000000000ff", FM_ECORRUPT, "cannot be understood"},
        {"00000000000000ff", "00000000000000fg", FM_ECORRUPT, "cannot be understood"},
        {"\"first_row\":4", "\"first_row\":4.5", FM_ECORRUPT, "cannot be understood"},
        {"]}}\n", "]}}x\n", FM_ECORRUPT, "not a manifest"},
    };
    struct fm_error error;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        printf("# %s -> %s\n", cases[i].from, cases[i].to);
        CHECK_INT_EQ(read_changed(cases[i].from, cases[i].to, &error), cases[i].status);
        CHECK_STR_CONTAINS(error.text, cases[i].words);
    }
}

TEST(a_handler_ends_it)
{
    struct seen seen;
    struct fm_manifest_head head;
    struct fm_error error;
    char text[8192] = "{\"parts\":[";
    for (int i = 0; i < 5; i++) {
        size_t length = strlen(text);
        (void)snprintf(text + length, sizeof(text) - length,
                       "%s{\"part\":\"part-0000%d.jsonl\",\"first_row\":0,\"rows_in\":4,\"rows\":4,"
                       "\"bytes\":10,\"checksum\":\"00000000000000ff\",\"dead_letters\":0}",
                       i > 0 ? "," : "", i);
    }
    CHECK_INT_EQ(read_split(text, strlen(text), 0, &seen, &head, &error), FM_ELIMIT);
    CHECK_UINT_EQ(seen.part_count, 4);
}

TEST(lengths_are_limited)
{
    struct seen seen;
    struct fm_manifest_head head;
    struct fm_error error;
    size_t size = PART_BYTES_MAX + 64;
    char *text = malloc(size);
    CHECK(text != NULL);
    memset(text, ' ', size);
    memcpy(text, "{\"parts\":[{", 11);
    CHECK_INT_EQ(read_split(text, size, 0, &seen, &head, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "too long");
    free(text);
}

TEST(memory_that_runs_out_is_an_error)
{
    struct seen seen;
    struct fm_manifest_head head;
    struct fm_error error;
    int status = FM_ENOMEM;
    uint64_t countdown = 0;
    while (status != 0) {
        (void)fm_memory_fail_at(++countdown, 0);
        status = read_split(good, sizeof(good) - 1, 0, &seen, &head, &error);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
    }
    CHECK(countdown > 5);
}

TEST(a_file_is_read)
{
    char path[] = "/tmp/fermata-manifest-XXXXXX";
    struct seen seen = {.part_count = 0};
    struct fm_manifest_head head;
    struct fm_error error = {0};
    const struct fm_manifest_handlers handlers = {
        .part = part_keep, .fact = fact_keep, .context = &seen};
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0);
    CHECK_INT_EQ(write(descriptor, good, sizeof(good) - 1), (ssize_t)sizeof(good) - 1);
    close(descriptor);
    CHECK_INT_EQ(fm_manifest_read(path, &handlers, &head, &error), 0);
    CHECK_UINT_EQ(seen.part_count, 2);
    unlink(path);
    CHECK_INT_EQ(fm_manifest_read(path, &handlers, &head, &error), FM_ENOTFOUND);
}

TEST_MAIN()
