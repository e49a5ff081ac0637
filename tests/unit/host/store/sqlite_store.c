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
    const struct fm_job_segment segment = {.rows = {.row_count = 10, .shard_rows = 4},
                                           .listing_checksum = 0xfedcba9876543210u};
    return store->functions->create(store, facts, 2, &segment, NULL);
}

static int shard_keep(void *context, const struct fm_job_shard *shard)
{
    struct fm_job_shard **next = context;
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
    struct fm_shard shard = {.number = 0, .row_count = 4, .epoch = 1, .owner = UINT64_MAX};
    CHECK_INT_EQ(store->functions->claim(store, &shard, NULL), 0);
    struct fm_job_shard done = {.shard = shard, .part_bytes = 77, .part_checksum = UINT64_MAX - 1};
    done.shard.row_count = 3;
    done.shard.rows_out = 2;
    done.shard.dead_letters = 1;
    struct fm_shard rest = {.number = 3, .first_row = 3, .row_count = 1};
    CHECK_INT_EQ(store->functions->commit(store, &done, &rest, NULL), 0);
    store->functions->close(store);

    store = store_open();
    CHECK(store != NULL);
    CHECK_INT_EQ(store->functions->fact(store, "pipeline", &value, NULL), 0);
    CHECK_STR_EQ(value.data, "abc");
    fm_text_deinit(&value);
    struct fm_job_segment segment;
    CHECK_INT_EQ(store->functions->segments(store, segment_keep, &segment, NULL), 0);
    CHECK_UINT_EQ(segment.listing_checksum, 0xfedcba9876543210u);
    struct fm_job_shard shards[4] = {0};
    struct fm_job_shard *next = shards;
    CHECK_INT_EQ(store->functions->shards(store, shard_keep, &next, NULL), 0);
    CHECK_INT_EQ(next - shards, 2);
    CHECK_INT_EQ(shards[0].shard.state, FM_SHARD_DONE);
    CHECK_UINT_EQ(shards[0].part_checksum, UINT64_MAX - 1);
    CHECK_UINT_EQ(shards[0].shard.owner, UINT64_MAX);
    CHECK_UINT_EQ(shards[0].shard.dead_letters, 1);
    CHECK_INT_EQ(shards[1].shard.state, FM_SHARD_READY);
    CHECK_UINT_EQ(shards[1].shard.first_row, 3);
    store->functions->close(store);
}

TEST(the_store_fences_by_itself)
{
    directory_make("ledger.db");
    struct fm_job_store *store = store_open();
    const struct fm_shard none = {0};
    struct fm_error error = {0};
    CHECK(store != NULL);
    CHECK_INT_EQ(job_begin(store), 0);
    struct fm_shard first = {.number = 0, .row_count = 4, .epoch = 1, .owner = 7};
    struct fm_shard second = {.number = 0, .row_count = 4, .epoch = 2, .owner = 8};
    CHECK_INT_EQ(store->functions->claim(store, &first, NULL), 0);
    CHECK_INT_EQ(store->functions->claim(store, &second, NULL), 0);
    CHECK_INT_EQ(store->functions->claim(store, &first, NULL), FM_ECANCELLED);
    struct fm_job_shard late = {.shard = first};
    late.shard.rows_out = 4;
    CHECK_INT_EQ(store->functions->commit(store, &late, &none, &error), FM_ECANCELLED);
    CHECK_INT_EQ(store->functions->release(store, &first, NULL), FM_ECANCELLED);
    struct fm_job_shard good = {.shard = second};
    good.shard.rows_out = 4;
    CHECK_INT_EQ(store->functions->commit(store, &good, &none, &error), 0);
    CHECK_INT_EQ(store->functions->commit(store, &good, &none, &error), FM_ECANCELLED);
    CHECK_INT_EQ(store->functions->claim(store, &second, NULL), FM_ECANCELLED);
    CHECK_INT_EQ(store->functions->release_all(store, NULL), 0);
    struct fm_job_shard now;
    CHECK_INT_EQ(store->functions->shard(store, 0, &now, NULL), 0);
    CHECK_INT_EQ(now.shard.state, FM_SHARD_DONE);
    CHECK_INT_EQ(store->functions->shard(store, 9, &now, NULL), FM_ENOTFOUND);
    store->functions->close(store);
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

TEST_MAIN()
