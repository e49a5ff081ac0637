/*
 * The output directory step by step: what each state of ledger and disk becomes, what is refused,
 * and memory that runs out on the way.
 */
#include "engines/batch/output.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "engines/batch/results_copy.h"
#include "host/store/sqlite_store.h"
#include "tests/harness/test.h"

static char folder[64];

static const char *at(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/out/%s", folder, name);
    return path;
}

static const char *out(void)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/out", folder);
    return path;
}

static bool is_there(const char *name)
{
    return access(at(name), F_OK) == 0;
}

static void file_make(const char *name, const char *text)
{
    FILE *file = fopen(at(name), "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static const struct fm_row_format lines = {.sink = &fm_sink_jsonl};

/* A directory with a ledger of eight rows in shards of four. */
static struct fm_job_store *job_make(void)
{
    struct fm_job_store *store = NULL;
    const struct fm_job_fact fact = {"line format", "1"};
    const struct fm_job_segment segment = {.rows = {.row_count = 8, .grain_rows = 4}};
    (void)snprintf(folder, sizeof(folder), "/tmp/fermata-output-XXXXXX");
    if (mkdtemp(folder) == NULL || fm_output_prepare(out(), NULL) != 0 ||
        fm_sqlite_store_open(at(".fermata/ledger.db"), &store, NULL) != 0 ||
        store->functions->create(store, &fact, 1, &segment, NULL) != 0) {
        abort();
    }
    return store;
}

/* Four rows of shard `number`, one of them a dead letter; committed, and published if wanted. */
static int shard_do(struct fm_job_store *store, uint64_t number, bool publish)
{
    struct fm_attempt attempt = {0};
    struct fm_shard_record record = {0};
    record.shard = (struct fm_shard){
        .number = number, .first_row = 4 * number, .row_count = 4, .epoch = 1, .owner = 5};
    record.shard.state = FM_SHARD_LEASED;
    int status = store->functions->put(store, &record, 1, NULL);
    status = status != 0 ? status : fm_attempt_open(&attempt, out(), &lines, number, 1, NULL);
    for (int i = 0; i < 4 && status == 0; i++) {
        status = fm_attempt_append(&attempt, i != 2, 1, i != 2 ? "{\"a\":1}\n" : "{\"bad\":1}\n",
                                   i != 2 ? 8 : 10, NULL);
    }
    status = status != 0 ? status : fm_attempt_sync(&attempt, &record, NULL);
    record.shard.state = FM_SHARD_DONE;
    record.files.attempt = 1;
    status = status != 0 ? status : store->functions->put(store, &record, 1, NULL);
    return status != 0 || !publish
               ? status
               : fm_output_publish(out(), &fm_sink_jsonl, number, 1, true, NULL, NULL);
}

static int reconcile(struct fm_job_store *store, struct fm_error *reterr)
{
    *reterr = (struct fm_error){0};
    return fm_output_reconcile(out(), &fm_sink_jsonl, store, false, NULL, reterr);
}

TEST(looking)
{
    enum fm_output_state state = FM_OUTPUT_JOB;
    struct fm_job_store *store = job_make();
    CHECK_INT_EQ(fm_output_look(out(), &state, NULL), 0);
    CHECK_INT_EQ(state, FM_OUTPUT_JOB);
    store->functions->close(store);
    CHECK_INT_EQ(fm_output_discard(out(), NULL, NULL), 0);
    CHECK_INT_EQ(fm_output_look(out(), &state, NULL), 0);
    CHECK_INT_EQ(state, FM_OUTPUT_EMPTY);
    file_make("mine.jsonl", "x");
    file_make("stage/part-00000.1.jsonl", "x");
    CHECK_INT_EQ(fm_output_look(out(), &state, NULL), 0);
    CHECK_INT_EQ(state, FM_OUTPUT_EMPTY);
    file_make("errors/part-00000.jsonl", "x");
    CHECK_INT_EQ(fm_output_look(out(), &state, NULL), 0);
    CHECK_INT_EQ(state, FM_OUTPUT_FOREIGN);
    CHECK_INT_EQ(fm_output_look(at("nowhere"), &state, NULL), 0);
    CHECK_INT_EQ(state, FM_OUTPUT_EMPTY);
    CHECK_INT_EQ(fm_output_look(at("mine.jsonl"), &state, NULL), FM_EEXIST);
}

TEST(what_a_crash_left_is_put_right)
{
    struct fm_error error;
    struct fm_job_store *store = job_make();
    CHECK_INT_EQ(shard_do(store, 0, false), 0);
    file_make("stage/part-00001.1.jsonl", "cut");
    file_make("stage/mine", "not ours");
    CHECK_INT_EQ(reconcile(store, &error), 0);
    CHECK(is_there("part-00000.jsonl") && is_there("errors/part-00000.jsonl"));
    CHECK(!is_there("stage/part-00000.1.jsonl") && !is_there("stage/part-00001.1.jsonl"));
    CHECK(is_there("stage/mine"));
    CHECK_INT_EQ(reconcile(store, &error), 0);
    store->functions->close(store);
}

TEST(changed_and_missing_parts_are_told)
{
    struct fm_error error;
    struct fm_job_store *store = job_make();
    CHECK_INT_EQ(shard_do(store, 0, true), 0);
    file_make("part-00000.jsonl", "{\"a\":1}\n{\"a\":2}\n{\"a\":1}\n");
    CHECK_INT_EQ(reconcile(store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "part-00000.jsonl' has the checksum");
    file_make("part-00000.jsonl", "{\"a\":1}\n{\"a\":1}\n{\"a\":1}\n");
    CHECK_INT_EQ(reconcile(store, &error), 0);
    file_make("errors/part-00000.jsonl", "{\"bad\":2}\n");
    CHECK_INT_EQ(reconcile(store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "errors/part-00000.jsonl");
    file_make("errors/part-00000.jsonl", "{}\n");
    CHECK_INT_EQ(reconcile(store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "has 3 bytes instead of 10");
    CHECK_INT_EQ(unlink(at("errors/part-00000.jsonl")), 0);
    CHECK_INT_EQ(reconcile(store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "is missing");
    store->functions->close(store);
}

TEST(results_that_the_ledger_does_not_know_are_told_and_nothing_is_touched)
{
    struct fm_error error;
    struct fm_job_store *store = job_make();
    file_make("stage/part-00001.1.jsonl", "cut");
    file_make("part-00001.jsonl", "{}\n");
    CHECK_INT_EQ(reconcile(store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "does not know the results 'part-00001.jsonl'");
    CHECK(is_there("stage/part-00001.1.jsonl"));
    CHECK_INT_EQ(unlink(at("part-00001.jsonl")), 0);
    file_make("errors/part-00001.jsonl", "{}\n");
    CHECK_INT_EQ(reconcile(store, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "'errors/part-00001.jsonl'");
    store->functions->close(store);
}

TEST(the_end_is_written_only_over_parts_that_are_right)
{
    struct fm_error error = {0};
    struct fm_job_store *store = job_make();
    struct fm_ledger_proof proof = {
        .rows_in = 8, .rows_out = 6, .dead_letters = 2, .complete = true};
    const struct fm_output_summary summary = {
        .name = "test", .sink = &fm_sink_jsonl, .proof = &proof, .rows_found = 8};
    CHECK_INT_EQ(shard_do(store, 0, true), 0);
    CHECK_INT_EQ(fm_output_finish(out(), store, &summary, NULL, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "do not add up");
    CHECK_INT_EQ(shard_do(store, 1, true), 0);
    file_make("part-00001.jsonl", "{\"a\":1}\n{\"a\":2}\n{\"a\":1}\n");
    CHECK_INT_EQ(fm_output_finish(out(), store, &summary, NULL, &error), FM_ECORRUPT);
    CHECK(!is_there("_SUCCESS") && !is_there("_manifest.json"));
    file_make("part-00001.jsonl", "{\"a\":1}\n{\"a\":1}\n{\"a\":1}\n");
    CHECK_INT_EQ(fm_output_finish(out(), store, &summary, NULL, &error), 0);
    CHECK(is_there("_SUCCESS") && is_there("_manifest.json"));
    CHECK_INT_EQ(fm_output_reopen(out(), NULL), 0);
    CHECK(!is_there("_SUCCESS") && !is_there("_manifest.json"));
    store->functions->close(store);
}

TEST(discarding_removes_the_job_and_nothing_else)
{
    enum fm_output_state state = FM_OUTPUT_JOB;
    struct fm_fault fault = {.point = FM_FAULT_DISCARDING, .status = FM_ENOSPC};
    struct fm_job_store *store = job_make();
    CHECK_INT_EQ(shard_do(store, 0, true), 0);
    store->functions->close(store);
    file_make("mine", "x");
    file_make("errors/mine", "x");
    atomic_store(&fault.countdown, 1);
    CHECK_INT_EQ(fm_output_discard(out(), &fault, NULL), FM_ENOSPC);
    CHECK_INT_EQ(fm_output_look(out(), &state, NULL), 0);
    CHECK_INT_EQ(state, FM_OUTPUT_DISCARDED);
    CHECK_INT_EQ(fm_output_discard(out(), &fault, NULL), 0);
    CHECK(is_there("mine") && is_there("errors/mine"));
    CHECK(!is_there("part-00000.jsonl") && !is_there("errors/part-00000.jsonl") &&
          !is_there(".fermata/ledger.db") && !is_there(".fermata/discarded"));
}

TEST(every_failing_allocation_is_an_error_and_the_directory_stays_usable)
{
    int status = FM_ENOMEM;
    struct fm_error error = {0};
    struct fm_job_store *store = job_make();
    struct fm_ledger_proof proof = {
        .rows_in = 8, .rows_out = 6, .dead_letters = 2, .complete = true};
    const struct fm_output_summary summary = {
        .name = "test", .sink = &fm_sink_jsonl, .proof = &proof, .rows_found = 8};
    CHECK_INT_EQ(shard_do(store, 0, false), 0);
    CHECK_INT_EQ(shard_do(store, 1, true), 0);
    for (uint64_t n = 1; n < 10000 && status != 0; n++) {
        enum fm_output_state state = FM_OUTPUT_JOB;
        error = (struct fm_error){0};
        (void)fm_memory_fail_at(n, 0);
        status = fm_output_look(out(), &state, &error);
        status = status != 0
                     ? status
                     : fm_output_reconcile(out(), &fm_sink_jsonl, store, false, NULL, &error);
        status = status != 0 ? status : fm_output_finish(out(), store, &summary, NULL, &error);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || (status == FM_ENOMEM && error.text[0] != '\0'));
        CHECK(status == 0 || !is_there("_SUCCESS"));
        CHECK(n > 1 || status != 0);
    }
    CHECK_INT_EQ(status, 0);
    CHECK(is_there("_SUCCESS"));
    store->functions->close(store);
}

static int bytes_count(void *context, const char *data, size_t size)
{
    size_t *bytes = context;
    (void)data;
    *bytes += size;
    return 0;
}

TEST(results_in_order_wherever_memory_runs_out)
{
    int status = FM_ENOMEM;
    size_t bytes = 0;
    struct fm_error error = {0};
    struct fm_job_store *store = job_make();
    struct fm_ledger_proof proof = {
        .rows_in = 8, .rows_out = 6, .dead_letters = 2, .complete = true};
    const struct fm_output_summary summary = {
        .name = "test", .sink = &fm_sink_jsonl, .proof = &proof, .rows_found = 8};
    CHECK_INT_EQ(shard_do(store, 0, true), 0);
    CHECK_INT_EQ(shard_do(store, 1, true), 0);
    CHECK_INT_EQ(fm_output_finish(out(), store, &summary, NULL, &error), 0);
    for (uint64_t n = 1; n < 10000 && status != 0; n++) {
        error = (struct fm_error){0};
        bytes = 0;
        (void)fm_memory_fail_at(n, 0);
        status = fm_results_copy(out(), bytes_count, &bytes, &error);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || (status == FM_ENOMEM && error.status == FM_ENOMEM));
        CHECK_STR_CONTAINS(error.text, status == 0 ? "" : "out of memory");
        CHECK(n > 1 || status != 0);
    }
    CHECK_INT_EQ(status, 0);
    CHECK_UINT_EQ(bytes, 6 * strlen("{\"a\":1}\n"));
    store->functions->close(store);
}

TEST_MAIN()
