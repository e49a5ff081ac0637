/*
 * The SQLite job store: what is written comes back after closing, and stale changes are refused by
 * the store itself.
 */
#include "host/store/sqlite_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness/test.h"

static char path[256];

static struct fm_job_store *store_open(void)
{
    struct fm_job_store *store = NULL;
    struct fm_error error = {0};
    if (fm_sqlite_store_open(path, &store, &error) != 0) {
        printf("# %s\n", error.text);
    }
    return store;
}

static void directory_make(const char *name)
{
    char directory[128] = "/tmp/fermata-store-XXXXXX";
    if (mkdtemp(directory) == NULL) {
        abort();
    }
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
}

static int job_begin(struct fm_job_store *store)
{
    const struct fm_job_fact facts[] = {{"pipeline", "abc"}, {"bytes", "text"}};
    const struct fm_job_segment segment = {.rows = {.row_count = 10, .grain_rows = 4, .rank = 3},
                                           .listing_checksum = 0xfedcba9876543210u};
    return store->functions->create(store, facts, 2, &segment, NULL);
}

static int shard_keep(void *context, const struct fm_shard_record *shard)
{
    struct fm_shard_record **next = context;
    *(*next)++ = *shard;
    return 0;
}

static int segment_keep(void *context, const struct fm_job_segment *segment)
{
    *(struct fm_job_segment *)context = *segment;
    return 0;
}

TEST(what_is_committed_comes_back)
{
    directory_make("ledger.db");
    struct fm_job_store *store = store_open();
    struct fm_text value = {0};
    CHECK(store != NULL);
    CHECK_INT_EQ(store->functions->fact(store, "pipeline", &value, NULL), FM_ENOTFOUND);
    CHECK_INT_EQ(job_begin(store), 0);
    CHECK_INT_EQ(job_begin(store), FM_EEXIST);
    CHECK_INT_EQ(store->functions->take(store, NULL), 0);
    struct fm_shard_record records[2] = {
        {.shard = {.row_count = 4, .epoch = 1, .owner = UINT64_MAX, .state = FM_SHARD_LEASED}}};
    CHECK_INT_EQ(store->functions->put(store, records, 1, NULL), 0);
    records[0].shard.state = FM_SHARD_DONE;
    records[0].shard.row_count = 3;
    records[0].shard.rows_out = 2;
    records[0].shard.dead_letters = 1;
    records[0].files.attempt = 1;
    records[0].files.part_bytes = 77;
    records[0].files.part_checksum = UINT64_MAX - 1;
    records[1].shard =
        (struct fm_shard){.number = 3, .first_row = 3, .row_count = 1, .failures = {4, 5}};
    (void)snprintf(records[1].reason, sizeof(records[1].reason), "it \"crashed\"");
    CHECK_INT_EQ(store->functions->put(store, records, 2, NULL), 0);
    store->functions->close(store);

    store = store_open();
    CHECK(store != NULL);
    CHECK_INT_EQ(store->functions->fact(store, "pipeline", &value, NULL), 0);
    CHECK_STR_EQ(value.data, "abc");
    fm_text_deinit(&value);
    struct fm_job_segment segment;
    CHECK_INT_EQ(store->functions->segments(store, segment_keep, &segment, NULL), 0);
    CHECK_UINT_EQ(segment.listing_checksum, 0xfedcba9876543210u);
    CHECK_UINT_EQ(segment.rows.rank, 3);
    struct fm_shard_record shards[4] = {0};
    struct fm_shard_record *next = shards;
    CHECK_INT_EQ(store->functions->shards(store, false, shard_keep, &next, NULL), 0);
    CHECK_INT_EQ(next - shards, 2);
    CHECK_INT_EQ(shards[0].shard.state, FM_SHARD_DONE);
    CHECK_UINT_EQ(shards[0].files.part_checksum, UINT64_MAX - 1);
    CHECK_UINT_EQ(shards[0].shard.owner, UINT64_MAX);
    CHECK_UINT_EQ(shards[0].shard.dead_letters, 1);
    CHECK_INT_EQ(shards[1].shard.state, FM_SHARD_READY);
    CHECK_UINT_EQ(shards[1].shard.first_row, 3);
    CHECK_UINT_EQ(shards[1].shard.failures[FM_SHARD_FAILURE_INFRASTRUCTURE], 4);
    CHECK_UINT_EQ(shards[1].shard.failures[FM_SHARD_FAILURE_DATA], 5);
    CHECK_STR_EQ(shards[1].reason, "it \"crashed\"");
    store->functions->close(store);
}

TEST(the_store_fences_by_itself)
{
    directory_make("ledger.db");
    struct fm_job_store *store = store_open();
    struct fm_error error = {0};
    CHECK(store != NULL);
    CHECK_INT_EQ(job_begin(store), 0);
    struct fm_shard_record first = {
        .shard = {.row_count = 4, .epoch = 1, .owner = 7, .state = FM_SHARD_LEASED}};
    struct fm_shard_record second = first;
    second.shard.epoch = 2;
    CHECK_INT_EQ(store->functions->take(store, NULL), 0);
    CHECK_INT_EQ(store->functions->put(store, &first, 1, NULL), 0);
    CHECK_INT_EQ(store->functions->put(store, &second, 1, NULL), 0);
    CHECK_INT_EQ(store->functions->put(store, &first, 1, &error), FM_ECANCELLED);
    CHECK_STR_CONTAINS(error.text, "shard 0");
    /* All or none. */
    struct fm_shard_record both[2] = {{.shard = {.number = 1, .first_row = 4, .row_count = 4}},
                                      first};
    CHECK_INT_EQ(store->functions->put(store, both, 2, NULL), FM_ECANCELLED);
    struct fm_shard_record now;
    CHECK_INT_EQ(store->functions->shard(store, 1, &now, NULL), FM_ENOTFOUND);
    second.shard.state = FM_SHARD_DONE;
    second.shard.rows_out = 4;
    CHECK_INT_EQ(store->functions->put(store, &second, 1, NULL), 0);
    second.shard.epoch = 3;
    CHECK_INT_EQ(store->functions->put(store, &second, 1, NULL), FM_ECANCELLED);
    CHECK_INT_EQ(store->functions->shard(store, 0, &now, NULL), 0);
    CHECK_INT_EQ(now.shard.state, FM_SHARD_DONE);
    CHECK_UINT_EQ(now.shard.epoch, 2);
    store->functions->close(store);
}

TEST(who_was_master_before_is_refused)
{
    directory_make("ledger.db");
    struct fm_job_store *old = store_open();
    struct fm_shard_record record = {
        .shard = {.row_count = 4, .epoch = 1, .state = FM_SHARD_LEASED}};
    struct fm_error error = {0};
    CHECK(old != NULL);
    CHECK_INT_EQ(old->functions->put(old, &record, 1, NULL), 0); /* nobody has taken it yet */
    CHECK_INT_EQ(old->functions->take(old, NULL), 0);
    CHECK_INT_EQ(old->functions->put(old, &record, 1, NULL), 0);
    struct fm_job_store *new = store_open();
    CHECK(new != NULL);
    CHECK_INT_EQ(new->functions->take(new, NULL), 0);
    CHECK_INT_EQ(old->functions->put(old, &record, 1, &error), FM_ECANCELLED);
    CHECK_STR_CONTAINS(error.text, "another process");
    CHECK_INT_EQ(new->functions->put(new, &record, 1, NULL), 0);
    new->functions->close(new);
    old->functions->close(old);
}

TEST(a_file_of_another_kind_is_refused)
{
    directory_make("ledger.db");
    FILE *file = fopen(path, "w");
    struct fm_job_store *store = NULL;
    struct fm_error error = {0};
    CHECK(file != NULL);
    for (int i = 0; i < 1000; i++) {
        fputs("not a database ", file);
    }
    fclose(file);
    CHECK_INT_EQ(fm_sqlite_store_open(path, &store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "--restart");
    directory_make("missing/ledger.db");
    CHECK(fm_sqlite_store_open(path, &store, &error) != 0);
}

static int fact_keep(void *context, const struct fm_job_fact *fact)
{
    struct fm_text *text = context;
    fm_text_append_format(text, "%s=%s;", fact->key, fact->value);
    return text->failed ? FM_ENOMEM : 0;
}

static struct fm_job_store *reader_open(struct fm_error *error)
{
    struct fm_job_store *store = NULL;
    *error = (struct fm_error){0};
    return fm_sqlite_store_open_reader(path, &store, error) == 0 ? store : NULL;
}

static bool is_there(const char *suffix)
{
    char name[300];
    (void)snprintf(name, sizeof(name), "%s%s", path, suffix);
    return access(name, F_OK) == 0;
}

TEST(a_reader_sees_one_moment_and_changes_nothing)
{
    directory_make("ledger%3f #?.db");
    struct fm_job_store *store = store_open();
    struct fm_error error = {0};
    struct fm_text facts = {0};
    struct fm_shard_record record = {
        .shard = {.row_count = 4, .epoch = 1, .owner = 7, .state = FM_SHARD_LEASED}};
    const struct fm_job_fact note = {"bytes", "other"};
    CHECK(store != NULL);
    CHECK_INT_EQ(job_begin(store), 0);
    CHECK_INT_EQ(store->functions->take(store, NULL), 0);
    struct fm_job_store *reader = reader_open(&error);
    CHECK(reader != NULL);
    CHECK_INT_EQ(store->functions->put(store, &record, 1, NULL), 0);
    CHECK_INT_EQ(store->functions->facts_put(store, &note, 1, NULL), 0);
    struct fm_shard_record found;
    CHECK_INT_EQ(reader->functions->shard(reader, 0, &found, NULL), FM_ENOTFOUND);
    CHECK_INT_EQ(reader->functions->facts(reader, fact_keep, &facts, NULL), 0);
    CHECK_STR_EQ(facts.data, "bytes=text;pipeline=abc;");
    CHECK_INT_EQ(reader->functions->put(reader, &record, 1, &error), FM_EPERM);
    CHECK_STR_CONTAINS(error.text, "it was opened for reading");
    CHECK_INT_EQ(reader->functions->take(reader, NULL), FM_EPERM);
    CHECK_INT_EQ(reader->functions->facts_put(reader, &note, 1, NULL), FM_EPERM);
    CHECK_INT_EQ(job_begin(reader), FM_EPERM);
    reader->functions->close(reader);
    reader = reader_open(&error);
    CHECK(reader != NULL);
    CHECK_INT_EQ(reader->functions->shard(reader, 0, &found, NULL), 0);
    fm_text_clear(&facts);
    CHECK_INT_EQ(reader->functions->facts(reader, fact_keep, &facts, NULL), 0);
    CHECK_STR_EQ(facts.data, "bytes=other;pipeline=abc;");
    store->functions->close(store);
    reader->functions->close(reader);
    fm_text_deinit(&facts);
}

TEST(a_reader_of_what_nobody_writes_leaves_no_files)
{
    directory_make("ledger.db");
    struct fm_error error = {0};
    CHECK(reader_open(&error) == NULL);
    CHECK_INT_EQ(error.status, FM_ENOTFOUND);
    CHECK(!is_there(""));
    struct fm_job_store *store = store_open();
    CHECK(store != NULL);
    CHECK_INT_EQ(job_begin(store), 0);
    store->functions->close(store);
    CHECK(!is_there("-wal"));
    struct fm_job_store *reader = reader_open(&error);
    CHECK(reader != NULL);
    CHECK(!is_there("-wal") && !is_there("-shm"));
    reader->functions->close(reader);
    CHECK(!is_there("-wal") && !is_there("-shm"));
    /* An empty file, as a crash leaves it. */
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fclose(file);
    CHECK(reader_open(&error) == NULL);
    CHECK_INT_EQ(error.status, FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "is empty");
}

TEST(notes_of_who_was_master_before_are_refused)
{
    directory_make("ledger.db");
    struct fm_job_store *old = store_open();
    struct fm_job_store *new = store_open();
    const struct fm_job_fact note = {"k", "v"};
    struct fm_text value = {0};
    CHECK(old != NULL && new != NULL);
    CHECK_INT_EQ(old->functions->take(old, NULL), 0);
    CHECK_INT_EQ(new->functions->take(new, NULL), 0);
    CHECK_INT_EQ(old->functions->facts_put(old, &note, 1, NULL), FM_ECANCELLED);
    CHECK_INT_EQ(new->functions->fact(new, "k", &value, NULL), FM_ENOTFOUND);
    CHECK_INT_EQ(new->functions->facts_put(new, &note, 1, NULL), 0);
    CHECK_INT_EQ(new->functions->fact(new, "k", &value, NULL), 0);
    CHECK_STR_EQ(value.data, "v");
    fm_text_deinit(&value);
    old->functions->close(old);
    new->functions->close(new);
}

TEST_MAIN()
