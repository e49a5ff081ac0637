/*
 * The job store on SQLite. See sqlite_store.h.
 */
#include "host/store/sqlite_store.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/thread.h"
#include "host/store/sqlite_status.h"

#define APPLICATION_ID 0x464d4a42 /* "FMJB" */

enum statement {
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_ROLLBACK,
    STATEMENT_FACT_SET,
    STATEMENT_FACT_GET,
    STATEMENT_FACT_ALL,
    STATEMENT_SEGMENT_ADD,
    STATEMENT_SEGMENT_ALL,
    STATEMENT_SHARD_ALL,
    STATEMENT_SHARD_ALL_BY_ROW,
    STATEMENT_SHARD_ONE,
    STATEMENT_SHARD_PUT,
    STATEMENT_GENERATION_TAKE,
    STATEMENT_GENERATION_GET,
    STATEMENT_COUNT_
};

#define SHARD_COLUMNS                                                                             \
    "number, first_row, row_count, state, epoch, owner, infrastructure_failures, data_failures, " \
    "rows_out, dead_letters, attempt, part_bytes, part_checksum, letters_bytes, "                 \
    "letters_checksum, reason"

enum { SHARD_NUMBERS = 15, REASON_COLUMN = 15 };

/* States are stored as the numbers of enum fm_shard_state: 0 READY, 1 LEASED, 2 DONE, 3 DEAD. */
static const char *const statement_texts[STATEMENT_COUNT_] = {
    [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_ROLLBACK] = "ROLLBACK",
    [STATEMENT_FACT_SET] = "INSERT INTO fact(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE "
                           "SET value = excluded.value",
    [STATEMENT_FACT_GET] = "SELECT value FROM fact WHERE key = ?1",
    [STATEMENT_FACT_ALL] = "SELECT key, value FROM fact ORDER BY key",
    [STATEMENT_SEGMENT_ADD] = "INSERT INTO segment(first_row, row_count, grain_rows, "
                              "listing_checksum, rank) VALUES(?1, ?2, ?3, ?4, ?5)",
    [STATEMENT_SEGMENT_ALL] = "SELECT first_row, row_count, grain_rows, listing_checksum, rank "
                              "FROM segment ORDER BY first_row",
    [STATEMENT_SHARD_ALL] = "SELECT " SHARD_COLUMNS " FROM shard ORDER BY number",
    [STATEMENT_SHARD_ALL_BY_ROW] = "SELECT " SHARD_COLUMNS " FROM shard ORDER BY first_row",
    [STATEMENT_SHARD_ONE] = "SELECT " SHARD_COLUMNS " FROM shard WHERE number = ?1",
    [STATEMENT_SHARD_PUT] =
        "INSERT INTO shard(" SHARD_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
        "?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT(number) DO UPDATE SET row_count = "
        "excluded.row_count, state = excluded.state, epoch = excluded.epoch, owner = "
        "excluded.owner, infrastructure_failures = excluded.infrastructure_failures, "
        "data_failures = excluded.data_failures, rows_out = excluded.rows_out, dead_letters = "
        "excluded.dead_letters, attempt = excluded.attempt, part_bytes = excluded.part_bytes, "
        "part_checksum = excluded.part_checksum, letters_bytes = excluded.letters_bytes, "
        "letters_checksum = excluded.letters_checksum, reason = coalesce(excluded.reason, reason) "
        "WHERE state < 2 AND epoch <= excluded.epoch AND first_row = excluded.first_row AND "
        "row_count >= excluded.row_count",
    [STATEMENT_GENERATION_TAKE] = "UPDATE master SET generation = generation + 1",
    [STATEMENT_GENERATION_GET] = "SELECT generation FROM master",
};

static const char schema[] =
    "CREATE TABLE fact(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE segment(first_row INTEGER PRIMARY KEY, row_count INTEGER NOT NULL, grain_rows "
    "INTEGER NOT NULL, listing_checksum INTEGER NOT NULL, rank INTEGER NOT NULL);"
    "CREATE TABLE shard(number INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, row_count INTEGER "
    "NOT NULL, state INTEGER NOT NULL, epoch INTEGER NOT NULL, owner INTEGER NOT NULL, "
    "infrastructure_failures INTEGER NOT NULL, data_failures INTEGER NOT NULL, rows_out INTEGER "
    "NOT NULL, dead_letters INTEGER NOT NULL, attempt INTEGER NOT NULL, part_bytes INTEGER NOT "
    "NULL, part_checksum INTEGER NOT NULL, letters_bytes INTEGER NOT NULL, letters_checksum "
    "INTEGER NOT NULL, reason TEXT);"
    "CREATE TABLE master(generation INTEGER NOT NULL);"
    "INSERT INTO master VALUES(0);";

/* From version 1: shards had one size for each segment, one lease at most, and did not fail. */
static const char upgrade_from_1[] =
    "BEGIN IMMEDIATE;"
    "ALTER TABLE segment DROP COLUMN first_number;"
    "ALTER TABLE segment RENAME COLUMN shard_rows TO grain_rows;"
    "UPDATE segment SET grain_rows = 1;"
    "ALTER TABLE shard ADD COLUMN infrastructure_failures INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE shard ADD COLUMN data_failures INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE shard ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE shard ADD COLUMN reason TEXT;"
    "UPDATE shard SET attempt = epoch WHERE state = 2;"
    "CREATE TABLE master(generation INTEGER NOT NULL);"
    "INSERT INTO master VALUES(0);"
    "PRAGMA user_version = 2;"
    "COMMIT;";

/* From version 2: nothing was said of what comes first. 16 is FM_LEDGER_RANK_LAST. */
static const char upgrade_from_2[] =
    "BEGIN IMMEDIATE;"
    "ALTER TABLE segment ADD COLUMN rank INTEGER NOT NULL DEFAULT 16;"
    "PRAGMA user_version = 3;"
    "COMMIT;";
/* Who only reads has it beside the file. */
static const char view_of_2[] =
    "CREATE TEMP VIEW segment AS SELECT *, 16 AS rank FROM main.segment;";
static_assert(FM_LEDGER_RANK_LAST == 16, "what is said of older jobs has to mean it");

struct sqlite_store {
    struct fm_job_store base;
    struct fm_mutex mutex;
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT_];
    uint64_t generation; /* as this process took it; 0: it did not */
    bool reader;
    char *path;
};

static struct sqlite_store *from_base(struct fm_job_store *store)
{
    return FM_CONTAINER_OF(store, struct sqlite_store, base);
}

/* --- Errors --- */

static int fail(const struct sqlite_store *store, int result, const char *what,
                struct fm_error *reterr)
{
    int status = fm_sqlite_status(store->database, result);
    const char *why = store->reader && result == SQLITE_READONLY ? "it was opened for reading"
                                                                 : sqlite3_errmsg(store->database);
    return fm_error_set(reterr, status, "cannot %s the job's ledger '%s': %s%s", what, store->path,
                        why,
                        status == FM_ECORRUPT ? " (it is damaged or not a ledger of Fermata: put a "
                                                "good copy back, or --restart begins "
                                                "the job anew)"
                                              : "");
}

/* --- Running statements; the mutex is held --- */

static int bind_all(const struct sqlite_store *store, sqlite3_stmt *statement,
                    const uint64_t *values, int count)
{
    (void)store;
    for (int i = 0; i < count; i++) {
        int result = sqlite3_bind_int64(statement, i + 1, (sqlite3_int64)values[i]);
        if (result != SQLITE_OK) {
            return result;
        }
    }
    return SQLITE_OK;
}

/* Runs a statement that gives no rows. */
static int run(const struct sqlite_store *store, enum statement which, const uint64_t *values,
               int count)
{
    sqlite3_stmt *statement = store->statements[which];
    if (store->reader && which == STATEMENT_BEGIN) {
        return SQLITE_READONLY;
    }
    int result = bind_all(store, statement, values, count);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
    }
    (void)sqlite3_reset(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static void rollback(const struct sqlite_store *store)
{
    if (!store->reader && sqlite3_get_autocommit(store->database) == 0) {
        (void)run(store, STATEMENT_ROLLBACK, NULL, 0);
    }
}

static int facts_set(const struct sqlite_store *store, const struct fm_job_fact *facts,
                     size_t count)
{
    sqlite3_stmt *statement = store->statements[STATEMENT_FACT_SET];
    int result = SQLITE_OK;
    for (size_t i = 0; i < count && result == SQLITE_OK; i++) {
        result = sqlite3_bind_text(statement, 1, facts[i].key, -1, SQLITE_TRANSIENT);
        if (result == SQLITE_OK) {
            result = sqlite3_bind_text(statement, 2, facts[i].value, -1, SQLITE_TRANSIENT);
        }
        if (result == SQLITE_OK) {
            result = sqlite3_step(statement);
            result = result == SQLITE_DONE ? SQLITE_OK : result;
        }
        (void)sqlite3_reset(statement);
    }
    return result;
}

static int segment_add(const struct sqlite_store *store, const struct fm_job_segment *segment)
{
    const uint64_t values[] = {segment->rows.first_row, segment->rows.row_count,
                               segment->rows.grain_rows, segment->listing_checksum,
                               segment->rows.rank};
    return run(store, STATEMENT_SEGMENT_ADD, values, 5);
}

static int segment_and_facts(struct sqlite_store *store, const struct fm_job_fact *facts,
                             size_t count, const struct fm_job_segment *segment, const char *what,
                             struct fm_error *reterr)
{
    int status = 0;
    fm_mutex_lock(&store->mutex);
    int result = run(store, STATEMENT_BEGIN, NULL, 0);
    if (result == SQLITE_OK) {
        result = facts_set(store, facts, count);
    }
    if (result == SQLITE_OK) {
        result = segment_add(store, segment);
    }
    if (result == SQLITE_OK) {
        result = run(store, STATEMENT_COMMIT, NULL, 0);
    }
    if (result != SQLITE_OK) {
        status = result == SQLITE_CONSTRAINT
                     ? fm_error_set(reterr, FM_EEXIST, "the ledger '%s' holds these rows already",
                                    store->path)
                     : fail(store, result, what, reterr);
        rollback(store);
    }
    fm_mutex_unlock(&store->mutex);
    return status;
}

/* --- The interface --- */

static int store_create(struct fm_job_store *base, const struct fm_job_fact *facts, size_t count,
                        const struct fm_job_segment *segment, struct fm_error *reterr)
{
    return segment_and_facts(from_base(base), facts, count, segment, "begin", reterr);
}

static int store_grow(struct fm_job_store *base, const struct fm_job_fact *facts, size_t count,
                      const struct fm_job_segment *segment, struct fm_error *reterr)
{
    return segment_and_facts(from_base(base), facts, count, segment, "add rows to", reterr);
}

static int store_fact(struct fm_job_store *base, const char *key, struct fm_text *ret_value,
                      struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    fm_mutex_lock(&store->mutex);
    sqlite3_stmt *statement = store->statements[STATEMENT_FACT_GET];
    int result = sqlite3_bind_text(statement, 1, key, -1, SQLITE_TRANSIENT);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
    }
    if (result == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        if (text != NULL) {
            fm_text_append_string(ret_value, text);
        }
        /* The column is never NULL: no text means no memory to convert it. */
        status =
            text == NULL || ret_value->failed
                ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger '%s'", store->path)
                : 0;
    } else if (result == SQLITE_DONE) {
        status = fm_error_set(reterr, FM_ENOTFOUND, "the ledger '%s' does not hold '%s'",
                              store->path, key);
    } else {
        status = fail(store, result, "read", reterr);
    }
    (void)sqlite3_reset(statement);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int store_facts(struct fm_job_store *base,
                       int (*each)(void *context, const struct fm_job_fact *fact), void *context,
                       struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    int result = SQLITE_DONE;
    fm_mutex_lock(&store->mutex);
    sqlite3_stmt *statement = store->statements[STATEMENT_FACT_ALL];
    while (status == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct fm_job_fact fact = {.key = (const char *)sqlite3_column_text(statement, 0),
                                         .value = (const char *)sqlite3_column_text(statement, 1)};
        status =
            fact.key == NULL || fact.value == NULL
                ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger '%s'", store->path)
                : each(context, &fact);
    }
    if (status == 0 && result != SQLITE_DONE) {
        status = fail(store, result, "read", reterr);
    }
    (void)sqlite3_reset(statement);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static uint64_t column(sqlite3_stmt *statement, int index)
{
    return (uint64_t)sqlite3_column_int64(statement, index);
}

static int store_segments(struct fm_job_store *base,
                          int (*each)(void *context, const struct fm_job_segment *segment),
                          void *context, struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    int result = SQLITE_DONE;
    fm_mutex_lock(&store->mutex);
    sqlite3_stmt *statement = store->statements[STATEMENT_SEGMENT_ALL];
    while (status == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct fm_job_segment segment = {.rows = {.first_row = column(statement, 0),
                                                  .row_count = column(statement, 1),
                                                  .grain_rows = column(statement, 2),
                                                  .rank = (uint32_t)column(statement, 4)},
                                         .listing_checksum = column(statement, 3)};
        status = each(context, &segment);
    }
    if (status == 0 && result != SQLITE_DONE) {
        status = fail(store, result, "read", reterr);
    }
    (void)sqlite3_reset(statement);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int shard_read(const struct sqlite_store *store, sqlite3_stmt *statement,
                      struct fm_shard_record *ret_shard, struct fm_error *reterr)
{
    uint64_t state = column(statement, 3);
    if (state >= FM_SHARD_STATE_COUNT_) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the ledger '%s' has a shard in the unknown state %lld", store->path,
                            (long long)state);
    }
    *ret_shard = (struct fm_shard_record){
        .shard = {.number = column(statement, 0),
                  .first_row = column(statement, 1),
                  .row_count = column(statement, 2),
                  .state = (enum fm_shard_state)state,
                  .epoch = column(statement, 4),
                  .owner = column(statement, 5),
                  .failures = {(uint32_t)column(statement, 6), (uint32_t)column(statement, 7)},
                  .rows_out = column(statement, 8),
                  .dead_letters = column(statement, 9)},
        .files = {.attempt = column(statement, 10),
                  .part_bytes = column(statement, 11),
                  .part_checksum = column(statement, 12),
                  .letters_bytes = column(statement, 13),
                  .letters_checksum = column(statement, 14)},
    };
    const char *reason = (const char *)sqlite3_column_text(statement, REASON_COLUMN);
    if (reason != NULL) {
        (void)snprintf(ret_shard->reason, sizeof(ret_shard->reason), "%s", reason);
    }
    return 0;
}

static int store_shards(struct fm_job_store *base, bool by_row,
                        int (*each)(void *context, const struct fm_shard_record *shard),
                        void *context, struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    int result = SQLITE_DONE;
    fm_mutex_lock(&store->mutex);
    sqlite3_stmt *statement =
        store->statements[by_row ? STATEMENT_SHARD_ALL_BY_ROW : STATEMENT_SHARD_ALL];
    while (status == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct fm_shard_record shard;
        status = shard_read(store, statement, &shard, reterr);
        status = status != 0 ? status : each(context, &shard);
    }
    if (status == 0 && result != SQLITE_DONE) {
        status = fail(store, result, "read", reterr);
    }
    (void)sqlite3_reset(statement);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int store_shard(struct fm_job_store *base, uint64_t number,
                       struct fm_shard_record *ret_shard, struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    fm_mutex_lock(&store->mutex);
    sqlite3_stmt *statement = store->statements[STATEMENT_SHARD_ONE];
    int result = bind_all(store, statement, &number, 1);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
    }
    int status = result == SQLITE_ROW    ? shard_read(store, statement, ret_shard, reterr)
                 : result == SQLITE_DONE ? FM_ENOTFOUND
                                         : fail(store, result, "read", reterr);
    (void)sqlite3_reset(statement);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int generation_get(const struct sqlite_store *store, uint64_t *ret_generation)
{
    sqlite3_stmt *statement = store->statements[STATEMENT_GENERATION_GET];
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *ret_generation = column(statement, 0);
        result = SQLITE_OK;
    }
    (void)sqlite3_reset(statement);
    return result;
}

static int store_take(struct fm_job_store *base, struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    fm_mutex_lock(&store->mutex);
    int result = run(store, STATEMENT_BEGIN, NULL, 0);
    result = result == SQLITE_OK ? run(store, STATEMENT_GENERATION_TAKE, NULL, 0) : result;
    result = result == SQLITE_OK ? generation_get(store, &store->generation) : result;
    result = result == SQLITE_OK ? run(store, STATEMENT_COMMIT, NULL, 0) : result;
    int status = result == SQLITE_OK ? 0 : fail(store, result, "take", reterr);
    if (status != 0) {
        rollback(store);
    }
    fm_mutex_unlock(&store->mutex);
    return status;
}

/* Begins a transaction of whoever may change the job. */
static int change_begin(const struct sqlite_store *store, int *ret_status, struct fm_error *reterr)
{
    uint64_t generation = 0;
    int result = run(store, STATEMENT_BEGIN, NULL, 0);
    result = result == SQLITE_OK ? generation_get(store, &generation) : result;
    if (result == SQLITE_OK && generation != store->generation) {
        *ret_status = fm_error_set(reterr, FM_ECANCELLED,
                                   "another process has taken over the job of '%s'", store->path);
    }
    return result;
}

/* Commits, or takes everything back. */
static int change_end(const struct sqlite_store *store, int result, int status,
                      struct fm_error *reterr)
{
    if (result == SQLITE_OK && status == 0) {
        result = run(store, STATEMENT_COMMIT, NULL, 0);
    }
    if (result != SQLITE_OK) {
        status = fail(store, result, "commit to", reterr);
    }
    if (status != 0) {
        rollback(store);
    }
    return status;
}

static int store_facts_put(struct fm_job_store *base, const struct fm_job_fact *facts, size_t count,
                           struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    fm_mutex_lock(&store->mutex);
    int result = change_begin(store, &status, reterr);
    if (result == SQLITE_OK && status == 0) {
        result = facts_set(store, facts, count);
    }
    status = change_end(store, result, status, reterr);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int shard_put(const struct sqlite_store *store, const struct fm_shard_record *record)
{
    const struct fm_shard *shard = &record->shard;
    const uint64_t values[SHARD_NUMBERS] = {shard->number,
                                            shard->first_row,
                                            shard->row_count,
                                            (uint64_t)shard->state,
                                            shard->epoch,
                                            shard->owner,
                                            shard->failures[FM_SHARD_FAILURE_INFRASTRUCTURE],
                                            shard->failures[FM_SHARD_FAILURE_DATA],
                                            shard->rows_out,
                                            shard->dead_letters,
                                            record->files.attempt,
                                            record->files.part_bytes,
                                            record->files.part_checksum,
                                            record->files.letters_bytes,
                                            record->files.letters_checksum};
    sqlite3_stmt *statement = store->statements[STATEMENT_SHARD_PUT];
    int result = record->reason[0] != '\0' ? sqlite3_bind_text(statement, SHARD_NUMBERS + 1,
                                                               record->reason, -1, SQLITE_STATIC)
                                           : sqlite3_bind_null(statement, SHARD_NUMBERS + 1);
    return result == SQLITE_OK ? run(store, STATEMENT_SHARD_PUT, values, SHARD_NUMBERS) : result;
}

static int store_put(struct fm_job_store *base, const struct fm_shard_record *shards, size_t count,
                     struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    fm_mutex_lock(&store->mutex);
    int result = change_begin(store, &status, reterr);
    for (size_t i = 0; i < count && result == SQLITE_OK && status == 0; i++) {
        result = shard_put(store, &shards[i]);
        if (result == SQLITE_OK && sqlite3_changes(store->database) != 1) {
            status =
                fm_error_set(reterr, FM_ECANCELLED, "the ledger '%s' knows better about shard %llu",
                             store->path, (unsigned long long)shards[i].shard.number);
        }
    }
    status = change_end(store, result, status, reterr);
    fm_mutex_unlock(&store->mutex);
    return status;
}

static void store_close(struct fm_job_store *base)
{
    if (base == NULL) {
        return;
    }
    struct sqlite_store *store = from_base(base);
    for (size_t i = 0; i < STATEMENT_COUNT_; i++) {
        (void)sqlite3_finalize(store->statements[i]);
    }
    (void)sqlite3_close(store->database);
    fm_mutex_deinit(&store->mutex);
    fm_free(store->path);
    fm_free(store);
}

/* --- Opening --- */

static int schema_create(const struct sqlite_store *store)
{
    char text[sizeof(schema) + 160];
    (void)snprintf(
        text, sizeof(text),
        "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;", schema,
        APPLICATION_ID, FM_SQLITE_STORE_VERSION);
    return fm_sqlite_script(store->database, text);
}

/* In one transaction: somebody may be creating it. */
static int facts_get(const struct sqlite_store *store, int64_t *ret_application,
                     int64_t *ret_version, int64_t *ret_tables)
{
    int result = sqlite3_exec(store->database, "BEGIN", NULL, NULL, NULL);
    if (result != SQLITE_OK) {
        return result;
    }
    result = fm_sqlite_number(store->database, "SELECT count(*) FROM sqlite_master", ret_tables);
    if (result == SQLITE_OK) {
        result = fm_sqlite_number(store->database, "PRAGMA application_id", ret_application);
    }
    if (result == SQLITE_OK) {
        result = fm_sqlite_number(store->database, "PRAGMA user_version", ret_version);
    }
    (void)sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
    return result;
}

/* Makes sure that the file is ours, and of a version we know; a new file gets the schema. */
static int schema_check(const struct sqlite_store *store, struct fm_error *reterr)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    int result = facts_get(store, &application, &version, &tables);
    bool empty = application == 0 && version == 0 && tables == 0;
    if (result == SQLITE_OK && empty && !store->reader) {
        result = schema_create(store);
        return result == SQLITE_OK ? 0 : fail(store, result, "create", reterr);
    }
    if (result != SQLITE_OK) {
        return fail(store, result, "open", reterr);
    }
    if (empty) {
        return fm_error_set(reterr, FM_ENOTFOUND, "the ledger '%s' is empty", store->path);
    }
    if (application != APPLICATION_ID) {
        return fm_error_set(
            reterr, FM_ECORRUPT,
            "'%s' is a database of another program, not a job's ledger: put the ledger "
            "back, or --restart begins the job anew",
            store->path);
    }
    if (version == 2 && store->reader) {
        result = fm_sqlite_script(store->database, view_of_2);
        return result == SQLITE_OK ? 0 : fail(store, result, "read", reterr);
    }
    if (version == 1 && store->reader) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the ledger '%s' was made by an older Fermata: fermata batch --resume "
                            "brings it up to date",
                            store->path);
    }
    if (version == 1 || version == 2) {
        result = version == 1 ? fm_sqlite_script(store->database, upgrade_from_1) : SQLITE_OK;
        result = result == SQLITE_OK ? fm_sqlite_script(store->database, upgrade_from_2) : result;
        return result == SQLITE_OK ? 0 : fail(store, result, "bring up to date", reterr);
    }
    if (version != FM_SQLITE_STORE_VERSION) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the ledger '%s' has schema version %lld and this program knows "
                            "version %d: use the program that made it, or --restart",
                            store->path, (long long)version, FM_SQLITE_STORE_VERSION);
    }
    return 0;
}

/* Damage is told before anything is decided on it, whatever page it is in. A ledger is small: some
 * hundred bytes for a shard. */
static int health_check(const struct sqlite_store *store, struct fm_error *reterr)
{
    sqlite3_stmt *statement = NULL;
    int status = 0;
    int result = sqlite3_prepare_v2(store->database, "PRAGMA quick_check(1)", -1, &statement, NULL);
    result = result == SQLITE_OK ? sqlite3_step(statement) : result;
    if (result != SQLITE_ROW) {
        status = fail(store, result, "open", reterr);
    } else {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        if (text == NULL || strcmp(text, "ok") != 0) {
            status = fm_error_set(reterr, FM_ECORRUPT,
                                  "the job's ledger '%s' is damaged (%s): put a good copy back, or "
                                  "--restart begins the job anew",
                                  store->path, text != NULL ? text : "no answer");
        }
    }
    (void)sqlite3_finalize(statement);
    return status;
}

static int prepare_all(struct sqlite_store *store, struct fm_error *reterr)
{
    for (size_t i = 0; i < STATEMENT_COUNT_; i++) {
        if (store->reader && i == STATEMENT_SEGMENT_ADD) {
            continue; /* what it would change may be a view; it cannot begin */
        }
        int result = sqlite3_prepare_v3(store->database, statement_texts[i], -1,
                                        SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
        if (result != SQLITE_OK) {
            return fail(store, result, "open", reterr);
        }
    }
    return 0;
}

static int database_open(struct sqlite_store *store, struct fm_error *reterr)
{
    /* The store's own mutex serialises; SQLite's would be taken for every column that is read. */
    int result =
        sqlite3_open_v2(store->path, &store->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (store->database == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger '%s'", store->path);
    }
    if (result == SQLITE_OK) {
        result = sqlite3_busy_timeout(store->database, 5000);
    }
    if (result == SQLITE_OK) {
        result =
            sqlite3_exec(store->database, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
                         NULL, NULL, NULL);
    }
    if (result != SQLITE_OK) {
        return fail(store, result, "open", reterr);
    }
    int status = schema_check(store, reterr);
    status = status != 0 ? status : health_check(store, reterr);
    return status != 0 ? status : prepare_all(store, reterr);
}

/* "file:/a%3fb?immutable=1". NULL: no memory. */
static char *uri_make(const char *path, bool immutable)
{
    struct fm_text text = {0};
    fm_text_append_string(&text, "file:");
    for (; *path != '\0'; path++) {
        if (*path == '%' || *path == '?' || *path == '#') {
            fm_text_append_format(&text, "%%%02x", (unsigned)(unsigned char)*path);
        } else {
            fm_text_append_char(&text, *path);
        }
    }
    fm_text_append_string(&text, immutable ? "?immutable=1" : "");
    char *uri = fm_text_take(&text);
    fm_text_deinit(&text);
    return uri;
}

/* Without a write-ahead log beside it nobody writes, and then nothing needs to be locked, or to be
 * made in a directory that perhaps cannot be written to. */
static int reader_connect(struct sqlite_store *store, struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    struct fm_text log = {0};
    int status = fm_file_stat(store->path, &facts, reterr);
    if (status == 0 && facts.kind != FM_FILE_REGULAR) {
        return fm_error_set(reterr, FM_ENOTFOUND, "there is no ledger '%s'", store->path);
    }
    fm_text_append_format(&log, "%s-wal", store->path);
    status = status == 0 && log.failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory") : status;
    status = status != 0 ? status : fm_file_stat(log.data, &facts, reterr);
    fm_text_deinit(&log);
    if (status != 0) {
        return status;
    }
    char *uri = uri_make(store->path, facts.kind == FM_FILE_ABSENT);
    if (uri == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger '%s'", store->path);
    }
    int result = sqlite3_open_v2(
        uri, &store->database, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    fm_free(uri);
    if (store->database == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger '%s'", store->path);
    }
    result = result == SQLITE_OK ? sqlite3_busy_timeout(store->database, 5000) : result;
    return result == SQLITE_OK ? 0 : fail(store, result, "open", reterr);
}

static int reader_open(struct sqlite_store *store, struct fm_error *reterr)
{
    store->reader = true;
    int status = reader_connect(store, reterr);
    status = status != 0 ? status : schema_check(store, reterr);
    if (status != 0) {
        return status;
    }
    /* One transaction from here to the end: all that is read is of one moment, which begins with
     * the first reading. */
    int result =
        sqlite3_exec(store->database, "BEGIN; SELECT count(*) FROM master;", NULL, NULL, NULL);
    if (result != SQLITE_OK) {
        return fail(store, result, "read", reterr);
    }
    status = health_check(store, reterr);
    return status != 0 ? status : prepare_all(store, reterr);
}

static int store_make(const char *path, int (*open)(struct sqlite_store *, struct fm_error *),
                      struct fm_job_store **ret_store, struct fm_error *reterr)
{
    static const struct fm_job_store_functions functions = {
        .name = "sqlite",
        .take = store_take,
        .create = store_create,
        .grow = store_grow,
        .facts_put = store_facts_put,
        .facts = store_facts,
        .fact = store_fact,
        .segments = store_segments,
        .shards = store_shards,
        .shard = store_shard,
        .put = store_put,
        .close = store_close,
    };
    struct sqlite_store *store = fm_alloc_zero(1, sizeof(*store));
    char *copy = fm_strdup(path);
    if (store == NULL || copy == NULL) {
        fm_free(store);
        fm_free(copy);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger '%s'", path);
    }
    store->base.functions = &functions;
    store->path = copy;
    fm_mutex_init(&store->mutex);
    int status = open(store, reterr);
    if (status != 0) {
        store_close(&store->base);
        return status;
    }
    *ret_store = &store->base;
    return 0;
}

int fm_sqlite_store_open(const char *path, struct fm_job_store **ret_store, struct fm_error *reterr)
{
    return store_make(path, database_open, ret_store, reterr);
}

int fm_sqlite_store_open_reader(const char *path, struct fm_job_store **ret_store,
                                struct fm_error *reterr)
{
    return store_make(path, reader_open, ret_store, reterr);
}
