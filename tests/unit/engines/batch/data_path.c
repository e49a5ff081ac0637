/*
 * The data path of a worker with the test's operator: bytes in flight, stages that run too long,
 * memory that is not there, and what becomes of shards then.
 *
 * Thread rule: `woken` is the path's threads', everything else the test's.
 */
#include "engines/batch/data_path.h"

#include <stdatomic.h>

#include "engines/batch/job_setup.h"
#include "engines/batch/listing.h"
#include "engines/batch/output.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { ROWS_MAX = 32 };

#define NS_PER_MS UINT64_C(1000000)

/* A folder with inputs, a pipeline and an output; a path over them. */
static struct {
    char folder[64];
    char ids[ROWS_MAX][16];
    struct fm_job job;
    struct fm_job_setup setup;
    struct fm_data_path *path;
    atomic_uint wakes;
} rig;

static void text_put(const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", rig.folder, name);
    if (fm_file_write_atomic(path, text, strlen(text), NULL) != 0) {
        abort();
    }
}

static const char *at(const char *name)
{
    static char paths[2][256];
    static int next;
    char *path = paths[next++ % 2];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", rig.folder, name);
    return path;
}

static void woken(void *context)
{
    (void)context;
    atomic_fetch_add(&rig.wakes, 1);
}

/* `text`: what is in every row; budget: of memory, strict; 0: none. */
static void rig_open_within(uint32_t rows, const char *text, uint64_t bytes_in_flight, bool single,
                            uint64_t budget)
{
    char pipeline[512];
    const struct fm_job_setup_options options = {0};
    struct fm_error error = {0};
    memset(&rig, 0, sizeof(rig));
    (void)snprintf(rig.folder, sizeof(rig.folder), "/tmp/fermata-path-XXXXXX");
    if (mkdtemp(rig.folder) == NULL) {
        abort();
    }
    (void)snprintf(pipeline, sizeof(pipeline),
                   "name: p\nplugins: [%s/libfm_operator_test_crash.so]\n"
                   "inputs:\n  - {name: x, dtype: BYTES, shape: [1]}\n"
                   "stages:\n  - {name: crash, operator: test_crash, inputs: x}\n"
                   "outputs: {out_x: crash.out}\n",
                   getenv("FM_TEST_PLUGINS"));
    text_put("pipeline.yaml", pipeline);
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        (void)snprintf(rig.ids[i], sizeof(rig.ids[i]), "row-%02u", i);
        text_put(rig.ids[i], text);
    }
    rig.job = (struct fm_job){.file = "job.yaml",
                              .pipeline = strdup(at("pipeline.yaml")),
                              .output = strdup(at("out")),
                              .sink = &fm_sink_jsonl,
                              .compression = fm_sink_jsonl.compressions[0],
                              .rows_in_flight = rows,
                              .bytes_in_flight = bytes_in_flight,
                              .read_threads = 2,
                              .operator_threads = 4,
                              .file_bytes_max = 1 << 20};
    if (fm_output_prepare(rig.job.output, &error) != 0 ||
        fm_job_setup_open(&rig.setup, &rig.job, &options, &error) != 0) {
        printf("# %s\n", error.text);
        abort();
    }
    struct fm_data_path_options path = {.setup = &rig.setup,
                                        .base = rig.folder,
                                        .single = single,
                                        .memory_budget = budget,
                                        .memory_budget_strict = budget > 0,
                                        .wake = woken};
    fm_job_setup_ranges(&rig.setup, &path.ranges);
    if (fm_data_path_open(&path, &rig.path, &error) != 0) {
        printf("# %s\n", error.text);
        abort();
    }
}

static void rig_open(uint32_t rows, const char *text, uint64_t bytes_in_flight, bool single)
{
    rig_open_within(rows, text, bytes_in_flight, single, 0);
}

static void rig_close(void)
{
    fm_data_path_close(rig.path);
    fm_job_setup_close(&rig.setup);
    free((void *)(uintptr_t)rig.job.pipeline);
    free((void *)(uintptr_t)rig.job.output);
    if (fm_file_remove_tree(rig.folder, NULL) != 0) {
        abort();
    }
}

static int row_get(void *context, struct fm_data_path_row *ret_row)
{
    uint64_t *next = context;
    *ret_row = (struct fm_data_path_row){.id = rig.ids[(*next)++], .size = FM_LISTING_SIZE_UNKNOWN};
    return 0;
}

static void shard_run(uint64_t number, uint64_t first, uint64_t rows)
{
    const struct fm_shard shard = {
        .number = number, .first_row = first, .row_count = rows, .epoch = 1};
    uint64_t next = first;
    if (fm_data_path_run(rig.path, &shard, "", row_get, &next) != 0) {
        abort();
    }
}

/* The next event; waits for it, 20 s at most. */
static bool event_get(struct fm_data_path_event *event)
{
    uint64_t end_ns = fm_os_now_ns() + 20000 * NS_PER_MS;
    while (fm_os_now_ns() < end_ns) {
        if (fm_data_path_poll(rig.path, event)) {
            return true;
        }
        fm_sleep_until(fm_os_now_ns() + NS_PER_MS);
    }
    return false;
}

TEST(rows_of_unknown_size_count_when_they_are_read)
{
    struct fm_data_path_event event;
    struct fm_data_path_stats stats;
    char text[700];
    uint32_t most = 0;
    (void)snprintf(text, sizeof(text), "take 1 %0600d", 0);
    rig_open(16, text, 1000, false);
    shard_run(0, 0, 16);
    bool found = false;
    for (uint64_t i = 0; i < 10000 && !found; i++) {
        fm_data_path_stats(rig.path, &stats);
        most = stats.rows_in_flight > most ? stats.rows_in_flight : most;
        fm_sleep_until(fm_os_now_ns() + NS_PER_MS);
        found = fm_data_path_poll(rig.path, &event);
    }
    CHECK(found);
    CHECK_INT_EQ(event.kind, FM_DATA_PATH_DONE);
    CHECK_UINT_EQ(event.done.rows_out, 16);
    fm_data_path_stats(rig.path, &stats);
    CHECK_UINT_EQ(stats.rows_finished, 16);
    /* Two fill it, and each reader may have had one in hand. */
    printf("# at most %u rows at once\n", most);
    CHECK(most >= 1 && most <= 4);
    rig_close();
}

/* The most rows that were there at once, of 16. */
static void most_within(uint64_t budget, uint32_t *ret_most)
{
    enum { ROW_BYTES = 400 << 10 };
    struct fm_data_path_event event;
    struct fm_data_path_stats stats;
    uint32_t most = 0;
    char *text = calloc(1, ROW_BYTES + 1);
    if (text == NULL) {
        abort();
    }
    size_t words = (size_t)snprintf(text, ROW_BYTES, "sleep 20 ");
    memset(text + words, 'x', ROW_BYTES - words);
    rig_open_within(16, text, 1 << 30, false, budget);
    free(text);
    shard_run(0, 0, 16);
    bool found = false;
    for (uint64_t i = 0; i < 20000 && !found; i++) {
        fm_data_path_stats(rig.path, &stats);
        most = stats.rows_in_flight > most ? stats.rows_in_flight : most;
        fm_data_path_tune(rig.path, fm_os_now_ns());
        fm_sleep_until(fm_os_now_ns() + NS_PER_MS);
        found = fm_data_path_poll(rig.path, &event);
    }
    CHECK(found);
    CHECK_INT_EQ(event.kind, FM_DATA_PATH_DONE);
    CHECK_UINT_EQ(event.done.rows_out, 16);
    fm_data_path_stats(rig.path, &stats);
    CHECK_UINT_EQ(stats.memory.budget, budget);
    CHECK(stats.memory.base > 0);
    CHECK_UINT_EQ(stats.memory.rows, 0); /* all are through */
    CHECK_UINT_EQ(stats.tuned.readers, 2);
    CHECK_UINT_EQ(stats.tuned.operators, 4);
    CHECK_UINT_EQ(stats.tuned.rows, 16);
    CHECK_UINT_EQ(stats.tuned.batches.size, 0); /* there is no model */
    rig_close();
    *ret_most = most;
}

TEST(rows_wait_for_the_budget_of_memory)
{
    uint32_t all = 0;
    uint32_t some = 0;
    uint32_t one = 0;
    most_within(0, &all);
    most_within(6 << 20, &some);
    most_within(1 << 20, &one);
    printf("# at most %u, %u and %u rows at once\n", all, some, one);
    CHECK(all > 4);
    CHECK(some >= 1 && some <= 6); /* each takes more than 1 MiB */
    CHECK_UINT_EQ(one, 1);         /* each is larger than the budget, and goes alone */
}

TEST(a_stage_that_runs_for_long_is_found_with_its_shards)
{
    struct fm_data_path_overdue overdue[4];
    struct fm_data_path_event event;
    rig_open(8, "take 1", 1 << 20, false);
    uint64_t before_ns = fm_os_now_ns();
    CHECK_UINT_EQ(fm_data_path_overdue(rig.path, UINT64_MAX, overdue, 4), 0);
    shard_run(5, 0, 3);
    shard_run(6, 3, 3);
    size_t count = 0;
    for (int i = 0; i < 5000 && count < 2; i++) {
        count = fm_data_path_overdue(rig.path, UINT64_MAX, overdue, 4);
        fm_sleep_until(fm_os_now_ns() + NS_PER_MS);
    }
    CHECK_UINT_EQ(count, 2); /* each shard once */
    CHECK_UINT_EQ(overdue[0].number, 5);
    CHECK_UINT_EQ(overdue[1].number, 6);
    CHECK_STR_EQ(overdue[0].stage, "crash");
    CHECK(overdue[0].held && overdue[0].row < 3 && overdue[0].start_ns >= before_ns);
    CHECK(overdue[1].start_ns >= overdue[0].start_ns);
    CHECK_UINT_EQ(fm_data_path_overdue(rig.path, UINT64_MAX, overdue, 1), 1);
    /* None began before that. */
    CHECK_UINT_EQ(fm_data_path_overdue(rig.path, before_ns, overdue, 4), 0);
    CHECK(event_get(&event) && event_get(&event));
    CHECK_UINT_EQ(fm_data_path_overdue(rig.path, UINT64_MAX, overdue, 4), 0);
    rig_close();
}

TEST(a_row_without_memory_ends_its_shard_before_it)
{
    struct fm_data_path_event event;
    rig_open(8, "a row", 1 << 20, false);
    text_put("row-03", "take 100000000");
    shard_run(1, 0, 8);
    shard_run(2, 8, 8);
    uint64_t rows = 0;
    bool starved = false;
    for (int i = 0; i < 3; i++) {
        CHECK(event_get(&event));
        if (event.kind == FM_DATA_PATH_STARVED) {
            starved = true;
            CHECK_INT_EQ(event.error.status, FM_ENOMEM);
            fm_data_path_curtail(rig.path, 1);
            fm_data_path_curtail(rig.path, 2);
        } else if (event.done.number == 1) {
            CHECK_INT_EQ(event.kind, FM_DATA_PATH_DONE);
            CHECK_UINT_EQ(event.done.rows_out, 3);
            CHECK_UINT_EQ(event.done.dead_letters, 0);
        } else {
            rows = event.kind == FM_DATA_PATH_DONE ? event.done.rows_out : 0;
        }
    }
    CHECK(starved);
    CHECK(rows <= 8);
    CHECK(!fm_data_path_poll(rig.path, &event)); /* once */
    rig_close();
}

TEST(a_first_row_without_memory_gives_the_shard_back)
{
    struct fm_data_path_event event;
    rig_open(8, "take 100000000", 1 << 20, false);
    shard_run(1, 0, 8);
    bool released = false;
    bool starved = false;
    for (int i = 0; i < 2; i++) {
        CHECK(event_get(&event));
        starved = starved || event.kind == FM_DATA_PATH_STARVED;
        released = released || (event.kind == FM_DATA_PATH_RELEASED && event.done.number == 1);
    }
    CHECK(starved && released);
    CHECK(!fm_data_path_poll(rig.path, &event));
    rig_close();
}

TEST(alone_a_row_without_memory_is_a_dead_letter)
{
    struct fm_data_path_event event;
    rig_open(1, "a row", 1 << 20, true);
    text_put("row-01", "take 100000000");
    shard_run(1, 0, 3);
    CHECK(event_get(&event));
    CHECK_INT_EQ(event.kind, FM_DATA_PATH_DONE);
    CHECK_UINT_EQ(event.done.rows_out, 2);
    CHECK_UINT_EQ(event.done.dead_letters, 1);
    CHECK(!fm_data_path_poll(rig.path, &event));
    rig_close();
}

TEST(halvings_end_with_one_row_and_batches_of_one)
{
    struct fm_job_setup setup;
    struct fm_error error = {0};
    char folder[] = "/tmp/fermata-path-XXXXXX";
    CHECK_PTR_NE(mkdtemp(folder), NULL);
    (void)snprintf(rig.folder, sizeof(rig.folder), "%s", folder);
    text_put("model.yaml", "backend: identity\nmax_batch_size: 8\n"
                           "settings: {inputs: \"x:BYTES[-1,1]\"}\n");
    const struct fm_job job = {.file = "job.yaml", .pipeline = folder, .rows_in_flight = 3};
    const struct {
        uint32_t halvings;
        uint32_t rows;
        bool single; /* the largest batch is of 8 */
    } cases[] = {{0, 3, false}, {1, 1, false}, {2, 1, false}, {3, 1, true}, {20, 1, true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fm_job_setup_options options = {.halvings = cases[i].halvings};
        CHECK_INT_EQ(fm_job_setup_open(&setup, &job, &options, &error), 0);
        CHECK_UINT_EQ(fm_job_setup_rows_in_flight(&setup), cases[i].rows);
        CHECK(fm_job_setup_is_single(&setup) == cases[i].single);
        fm_job_setup_close(&setup);
    }
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

/* Rows that are read in batches: one that runs and one that waits for each instance, and two that
 * are read or written. */
TEST(rows_that_are_read_in_batches_begin_with_four_of_them_for_each_instance)
{
    char folder[] = "/tmp/fermata-path-XXXXXX";
    const struct fm_source_format *format = NULL;
    struct fm_job_setup setup;
    struct fm_error error = {0};
    const struct {
        int batch;
        int instances;
        bool records;
        uint32_t rows;
    } cases[] = {{256, 2, true, 2048},  {256, 1, true, 1024}, {64, 3, true, 768},
                 {1024, 4, true, 4096}, {256, 2, false, 512}, {64, 3, false, 384}};
    CHECK_PTR_NE(mkdtemp(folder), NULL);
    (void)snprintf(rig.folder, sizeof(rig.folder), "%s", folder);
    CHECK_INT_EQ(fm_source_format_find("csv", &format, &error), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[160];
        (void)snprintf(text, sizeof(text),
                       "backend: identity\nmax_batch_size: %d\ninstances: %d\n"
                       "settings: {inputs: \"x:%s\"}\n",
                       cases[i].batch, cases[i].instances,
                       cases[i].records ? "FP32[-1,2]" : "BYTES[-1,1]");
        text_put("model.yaml", text);
        const struct fm_job job = {
            .file = "job.yaml", .pipeline = folder, .format = cases[i].records ? format : NULL};
        const struct fm_job_setup_options options = {.halvings = 0};
        CHECK_INT_EQ(fm_job_setup_open(&setup, &job, &options, &error), 0);
        CHECK_UINT_EQ(fm_job_setup_rows_in_flight(&setup), cases[i].rows);
        fm_job_setup_close(&setup);
    }
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

TEST(a_condemned_row_says_who_is_to_blame)
{
    struct fm_data_path_event event;
    char *text = NULL;
    size_t size = 0;
    uint64_t first = 4;
    rig_open(1, "a row", 1 << 20, false);
    const struct fm_shard shard = {
        .number = 9, .first_row = 4, .row_count = 1, .epoch = 1, .condemned = true};
    CHECK_INT_EQ(
        fm_data_path_run(rig.path, &shard, "[EDEADLINE detect] it ran for 31 s", row_get, &first),
        0);
    CHECK(event_get(&event));
    CHECK_UINT_EQ(event.done.dead_letters, 1);
    CHECK_INT_EQ(fm_file_read(at("out/stage/part-00009.1.errors.jsonl"), 4096, &text, &size, NULL),
                 0);
    CHECK(memmem(text, size, "\"stage\":\"detect\",\"code\":\"EDEADLINE\"", 35) != NULL);
    CHECK(memmem(text, size, "\"it ran for 31 s\"", 17) != NULL);
    free(text);
    rig_close();
}

TEST_MAIN()
