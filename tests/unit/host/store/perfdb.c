/*
 * Tests of host/store/perfdb: what is added comes back and stays, whoever asks; what is no run is
 * refused; files of others are told from ours; many processes add to one file.
 */
#include "host/store/perfdb.h"

#include <math.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "tests/harness/test.h"

static char folder[64];
static char path[128];

static void folder_make(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/fermata-perfdb-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        abort();
    }
    (void)snprintf(path, sizeof(path), "%s/perf.db", folder);
}

static void folder_remove(void)
{
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

static const struct fm_perfdb_value two_values[] = {{"response_p99_ms", "ms", 12.5},
                                                    {"goodput", "1/s", 1e6 / 3}};

static struct fm_perfdb_run run_of(const char *study, const char *point, uint32_t repeat)
{
    return (struct fm_perfdb_run){.study = study,
                                  .point = point,
                                  .repeat = repeat,
                                  .kind = "load",
                                  .label = "rate 50, batch 8",
                                  .created_ms = 1700000000123,
                                  .config = "{\"rate\": 50}",
                                  .build = "{}",
                                  .machine = "{\"cpus\": 2}",
                                  .model = "null",
                                  .result = "{\"schema\": \"fermata.load/1\"}",
                                  .verdict = "valid",
                                  .values = two_values,
                                  .value_count = 2};
}

struct seen {
    uint32_t count;
    uint64_t ids[64];
    char points[64][16];
    struct fm_perfdb_run last; /* numbers only */
    double values[2];
    bool texts;
    bool others;
};

static int keep(void *context, const struct fm_perfdb_run *run, struct fm_error *reterr)
{
    struct seen *seen = context;
    (void)reterr;
    seen->ids[seen->count] = run->id;
    (void)snprintf(seen->points[seen->count], sizeof(seen->points[0]), "%s", run->point);
    seen->count++;
    seen->last = *run;
    seen->texts = run->config != NULL && strcmp(run->config, "{\"rate\": 50}") == 0 &&
                  strcmp(run->machine, "{\"cpus\": 2}") == 0 && strcmp(run->build, "{}") == 0 &&
                  strcmp(run->model, "null") == 0 &&
                  strcmp(run->result, "{\"schema\": \"fermata.load/1\"}") == 0;
    seen->others = strcmp(run->kind, "load") == 0 && strcmp(run->label, "rate 50, batch 8") == 0 &&
                   strcmp(run->verdict, "valid") == 0 && run->value_count == 2 &&
                   strcmp(run->values[0].name, "response_p99_ms") == 0 &&
                   strcmp(run->values[1].unit, "1/s") == 0;
    seen->values[0] = run->values[0].value;
    seen->values[1] = run->values[1].value;
    return 0;
}

static int stop(void *context, const struct fm_perfdb_run *run, struct fm_error *reterr)
{
    (void)run;
    *(unsigned *)context += 1;
    return fm_error_set(reterr, FM_ECANCELLED, "enough");
}

static struct fm_perfdb *opened(enum fm_perfdb_mode mode)
{
    struct fm_perfdb *perfdb = NULL;
    struct fm_error error = {0};
    if (fm_perfdb_open(path, mode, &perfdb, &error) != 0) {
        printf("# %s\n", error.text);
        abort();
    }
    return perfdb;
}

TEST(what_is_added_comes_back_after_closing)
{
    uint64_t ids[3] = {0};
    bool has = false;
    struct seen seen = {.count = 0};
    folder_make();
    struct fm_perfdb *perfdb = opened(FM_PERFDB_WRITE);
    const struct fm_perfdb_run runs[] = {run_of("a", "p1", 0), run_of("a", "p1", 1),
                                         run_of("b", "p1", 0)};
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT_EQ(fm_perfdb_add(perfdb, &runs[i], &ids[i], NULL), 0);
    }
    CHECK(ids[0] > 0 && ids[0] < ids[1] && ids[1] < ids[2]);
    fm_perfdb_close(perfdb);

    perfdb = opened(FM_PERFDB_READ);
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){0}, keep, &seen, NULL), 0);
    CHECK_UINT_EQ(seen.count, 3);
    CHECK(seen.texts && seen.others && seen.ids[2] == ids[2]);
    CHECK(seen.values[0] == 12.5 && seen.values[1] == 1e6 / 3);
    CHECK_UINT_EQ(seen.last.created_ms, 1700000000123);
    seen.count = 0;
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){.study = "a", .brief = true},
                                 keep, &seen, NULL),
                 0);
    CHECK_UINT_EQ(seen.count, 2);
    CHECK(seen.last.config == NULL && seen.last.repeat == 1);
    seen.count = 0;
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){.id = ids[2], .kind = "load"},
                                 keep, &seen, NULL),
                 0);
    CHECK_UINT_EQ(seen.count, 1);
    seen.count = 0;
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){.kind = "cold_start"}, keep,
                                 &seen, NULL),
                 0);
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){.point = "p' OR 1 --"}, keep,
                                 &seen, NULL),
                 0);
    CHECK_UINT_EQ(seen.count, 0);
    unsigned calls = 0;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){0}, stop, &calls, &error),
                 FM_ECANCELLED);
    CHECK_UINT_EQ(calls, 1);
    CHECK_STR_EQ(error.text, "enough");
    CHECK_INT_EQ(fm_perfdb_has(perfdb, "a", "p1", 1, &has, NULL), 0);
    CHECK(has);
    CHECK_INT_EQ(fm_perfdb_has(perfdb, "a", "p1", 2, &has, NULL), 0);
    CHECK(!has);
    CHECK_INT_EQ(fm_perfdb_add(perfdb, &runs[0], &ids[0], &error), FM_EPERM);
    CHECK_STR_CONTAINS(error.text, "opened for reading");
    fm_perfdb_close(perfdb);
    folder_remove();
}

TEST(what_is_no_run_is_refused_and_leaves_nothing)
{
    const struct fm_perfdb_value not_finite = {"x", "", INFINITY};
    const struct fm_perfdb_value no_name = {"a b", "", 1};
    const struct fm_perfdb_value twice[] = {{"x", "", 1}, {"x", "", 2}};
    struct fm_error error = {0};
    uint64_t id = 0;
    folder_make();
    struct fm_perfdb *perfdb = opened(FM_PERFDB_WRITE);
    struct fm_perfdb_run runs[7];
    for (size_t i = 0; i < 7; i++) {
        runs[i] = run_of("a", "p1", 0);
    }
    runs[0].study = "";
    runs[1].config = "{rate: 50}";
    runs[2].verdict = "good";
    runs[3].values = &not_finite;
    runs[3].value_count = 1;
    runs[4].values = &no_name;
    runs[4].value_count = 1;
    runs[5].values = twice;
    runs[6].result = NULL;
    const char *const texts[] = {
        "without 'study'",  "JSON",       "valid, invalid or failed", "'x' is not finite",
        "'a b' is no name", "value.name", "without 'result'"};
    for (size_t i = 0; i < 7; i++) {
        CHECK_INT_EQ(fm_perfdb_add(perfdb, &runs[i], &id, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, texts[i]);
        CHECK_UINT_EQ(id, 0);
    }
    struct seen seen = {.count = 0};
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){0}, keep, &seen, NULL), 0);
    CHECK_UINT_EQ(seen.count, 0);
    runs[0] = run_of("a", "p1", 0);
    CHECK_INT_EQ(fm_perfdb_add(perfdb, &runs[0], &id, &error), 0);
    CHECK_INT_EQ(fm_perfdb_add(perfdb, &runs[0], &id, &error), FM_EEXIST);
    CHECK_STR_CONTAINS(error.text, "repeat 0 of point 'p1' of the study 'a'");
    fm_perfdb_close(perfdb);
    folder_remove();
}

TEST(nobody_changes_what_is_there)
{
    static const char *const statements[] = {
        "REPLACE INTO run SELECT 1, 'a', 'p1', 0, 'load', '', 0, 'failed', '1', '1', '1', '1', '1'",
        "REPLACE INTO value VALUES(1, 'goodput', '', 0)",
        "UPDATE run SET verdict = 'invalid'",
        "DELETE FROM run",
        "UPDATE value SET value = 0",
        "DELETE FROM value"};
    uint64_t id = 0;
    sqlite3 *database = NULL;
    folder_make();
    struct fm_perfdb *perfdb = opened(FM_PERFDB_WRITE);
    const struct fm_perfdb_run run = run_of("a", "p1", 0);
    CHECK_INT_EQ(fm_perfdb_add(perfdb, &run, &id, NULL), 0);
    CHECK_INT_EQ(sqlite3_open(path, &database), SQLITE_OK);
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        char *why = NULL;
        CHECK_INT_EQ(sqlite3_exec(database, statements[i], NULL, NULL, &why), SQLITE_CONSTRAINT);
        CHECK_STR_CONTAINS(why, "append-only");
        sqlite3_free(why);
    }
    (void)sqlite3_close(database);
    fm_perfdb_close(perfdb);
    folder_remove();
}

/* With `status`, and with both the file and `text` in what is told. */
static void open_fails(enum fm_perfdb_mode mode, int status, const char *text)
{
    struct fm_perfdb *perfdb = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_perfdb_open(path, mode, &perfdb, &error), status);
    CHECK_STR_CONTAINS(error.text, text);
    CHECK_STR_CONTAINS(error.text, path);
}

static void sql(const char *text)
{
    sqlite3 *database = NULL;
    CHECK_INT_EQ(sqlite3_open(path, &database), SQLITE_OK);
    CHECK_INT_EQ(sqlite3_exec(database, text, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(database);
}

/* The numbers of the header's versions for reading and writing: 1 is a rollback journal, 2 a
 * write-ahead log. */
static void journal_is(char version)
{
    char *data = NULL;
    size_t size = 0;
    CHECK_INT_EQ(fm_file_read(path, 1 << 20, &data, &size, NULL), 0);
    CHECK(size > 20 && data[18] == version && data[19] == version);
    fm_free(data);
}

TEST(files_of_others_are_told_from_ours)
{
    folder_make();
    open_fails(FM_PERFDB_READ, FM_ENOTFOUND, "there is no database");
    sql("PRAGMA user_version = 0; CREATE TABLE t(x); PRAGMA application_id = 7;");
    open_fails(FM_PERFDB_READ, FM_ECORRUPT, "of another program");
    open_fails(FM_PERFDB_WRITE, FM_ECORRUPT, "of another program");
    journal_is(1);
    CHECK_INT_EQ(unlink(path), 0);
    fm_perfdb_close(opened(FM_PERFDB_WRITE));
    sql("PRAGMA user_version = 2");
    open_fails(FM_PERFDB_WRITE, FM_EUNSUPPORTED, "schema version 2");
    CHECK_INT_EQ(unlink(path), 0);
    CHECK_INT_EQ(fm_file_write_atomic(path, "not a database, but long enough to be one, if it were",
                                      53, NULL),
                 0);
    open_fails(FM_PERFDB_READ, FM_ECORRUPT, "damaged");
    CHECK_INT_EQ(unlink(path), 0);
    CHECK_INT_EQ(fm_file_write_atomic(path, "", 0, NULL), 0);
    open_fails(FM_PERFDB_READ, FM_ENOTFOUND, "is empty");
    folder_remove();
}

/* All of them create it at once, too. */
TEST(processes_add_to_one_file)
{
    enum { PROCESSES = 4, RUNS = 12 };
    pid_t children[PROCESSES];
    folder_make();
    for (uint32_t i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct fm_perfdb *perfdb = NULL;
            struct fm_error error = {0};
            int status = fm_perfdb_open(path, FM_PERFDB_WRITE, &perfdb, &error);
            for (uint32_t k = 0; k < RUNS && status == 0; k++) {
                uint64_t id = 0;
                const struct fm_perfdb_run run = run_of("a", "p", i * RUNS + k);
                status = fm_perfdb_add(perfdb, &run, &id, &error);
            }
            _exit(status == 0 ? 0 : 1);
        }
    }
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int how = -1;
        CHECK_INT_EQ(waitpid(children[i], &how, 0), children[i]);
        CHECK_INT_EQ(how, 0);
    }
    struct seen seen = {.count = 0};
    struct fm_perfdb *perfdb = opened(FM_PERFDB_READ);
    CHECK_INT_EQ(fm_perfdb_visit(perfdb, &(struct fm_perfdb_filter){0}, keep, &seen, NULL), 0);
    CHECK_UINT_EQ(seen.count, PROCESSES * RUNS);
    fm_perfdb_close(perfdb);
    folder_remove();
}

TEST_MAIN()
