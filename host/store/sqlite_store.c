/*
 * The job store on SQLite. See sqlite_store.h.
 */
#include "host/store/sqlite_store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/thread.h"

#define APPLICATION_ID 0x464d4a42 /* "FMJB" */

enum statement {
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_ROLLBACK,
    STATEMENT_FACT_SET,
    STATEMENT_FACT_GET,
    STATEMENT_SEGMENT_ADD,
    STATEMENT_SEGMENT_ALL,
    STATEMENT_SHARD_ALL,
    STATEMENT_SHARD_ONE,
    STATEMENT_SHARD_CLAIM,
    STATEMENT_SHARD_RELEASE,
    STATEMENT_SHARD_RELEASE_ALL,
    STATEMENT_SHARD_COMMIT,
    STATEMENT_SHARD_REST,
    STATEMENT_COUNT_
};

#define SHARD_COLUMNS                                                                         \
    "number, first_row, row_count, state, epoch, owner, rows_out, dead_letters, part_bytes, " \
    "part_checksum, letters_bytes, letters_checksum"

/* States are stored as the numbers of enum fm_shard_state: 0 READY, 1 LEASED, 2 DONE, 3 DEAD. */
static const char *const statement_texts[STATEMENT_COUNT_] = {
    [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_ROLLBACK] = "ROLLBACK",
    [STATEMENT_FACT_SET] = "INSERT INTO fact(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE "
                           "SET value = excluded.value",
    [STATEMENT_FACT_GET] = "SELECT value FROM fact WHERE key = ?1",
    [STATEMENT_SEGMENT_ADD] = "INSERT INTO segment(first_row, row_count, shard_rows, first_number, "
                              "listing_checksum) VALUES(?1, ?2, ?3, ?4, ?5)",
    [STATEMENT_SEGMENT_ALL] = "SELECT first_row, row_count, shard_rows, first_number, "
                              "listing_checksum FROM segment ORDER BY first_row",
    [STATEMENT_SHARD_ALL] = "SELECT " SHARD_COLUMNS " FROM shard ORDER BY first_row",
    [STATEMENT_SHARD_ONE] = "SELECT " SHARD_COLUMNS " FROM shard WHERE number = ?1",
    [STATEMENT_SHARD_CLAIM] = "INSERT INTO shard(number, first_row, row_count, state, epoch, "
                              "owner) VALUES(?1, ?2, ?3, 1, ?4, ?5) "
                              "ON CONFLICT(number) DO UPDATE SET state = 1, epoch = "
                              "excluded.epoch, owner = excluded.owner "
                              "WHERE state < 2 AND epoch < excluded.epoch",
    [STATEMENT_SHARD_RELEASE] =
        "UPDATE shard SET state = 0 WHERE number = ?1 AND state = 1 AND epoch = ?2 AND owner = ?3",
    [STATEMENT_SHARD_RELEASE_ALL] = "UPDATE shard SET state = 0 WHERE state = 1",
    [STATEMENT_SHARD_COMMIT] = "UPDATE shard SET state = 2, row_count = ?4, rows_out = ?5, "
                               "dead_letters = ?6, part_bytes = ?7, part_checksum = ?8, "
                               "letters_bytes = ?9, letters_checksum = ?10 WHERE number = ?1 AND "
                               "state = 1 AND epoch = ?2 AND owner = ?3",
    [STATEMENT_SHARD_REST] = "INSERT INTO shard(number, first_row, row_count, state, epoch, owner) "
                             "VALUES(?1, ?2, ?3, 0, 0, 0)",
};

static const char schema[] =
    "CREATE TABLE fact(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE segment(first_row INTEGER PRIMARY KEY, row_count INTEGER NOT NULL, shard_rows "
    "INTEGER NOT NULL,"
    " first_number INTEGER NOT NULL, listing_checksum INTEGER NOT NULL);"
    "CREATE TABLE shard(number INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, row_count INTEGER "
    "NOT NULL, state INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, owner INTEGER NOT NULL, rows_out INTEGER NOT NULL DEFAULT 0, "
    "dead_letters INTEGER NOT NULL DEFAULT 0,"
    " part_bytes INTEGER NOT NULL DEFAULT 0, part_checksum INTEGER NOT NULL DEFAULT 0,"
    " letters_bytes INTEGER NOT NULL DEFAULT 0, letters_checksum INTEGER NOT NULL DEFAULT 0);";

struct sqlite_store {
    struct fm_job_store base;
    struct fm_mutex mutex;
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT_];
    char *path;
};

static struct sqlite_store *from_base(struct fm_job_store *store)
{
    return FM_CONTAINER_OF(store, struct sqlite_store, base);
}

/* --- Errors --- */

static int status_of(sqlite3 *database, int result)
{
    int system_error = sqlite3_system_errno(database);
    switch (result & 0xff) {
    case SQLITE_FULL:
        return FM_ENOSPC;
    case SQLITE_IOERR:
        return system_error == ENOSPC || system_error == EDQUOT ? FM_ENOSPC : FM_EIO;
    case SQLITE_CANTOPEN:
        return system_error == ENOSPC ? FM_ENOSPC : system_error == EACCES ? FM_EPERM : FM_EIO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* a table or column that should be there is not */
    case SQLITE_SCHEMA:
        return FM_ECORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return FM_EUNAVAILABLE;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return FM_EPERM;
    case SQLITE_NOMEM:
        return FM_ENOMEM;
    default:
        return FM_EINTERNAL;
    }
}

static int fail(const struct sqlite_store *store, int result, const char *what,
                struct fm_error *reterr)
{
    int status = status_of(store->database, result);
    return fm_error_set(reterr, status, "cannot %s the job's ledger '%s': %s%s", what, store->path,
                        sqlite3_errmsg(store->database),
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
    int result = bind_all(store, statement, values, count);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
    }
    (void)sqlite3_reset(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static void rollback(const struct sqlite_store *store)
{
    if (sqlite3_get_autocommit(store->database) == 0) {
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
                               segment->rows.shard_rows, segment->rows.first_number,
                               segment->listing_checksum};
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
                                                  .shard_rows = column(statement, 2),
                                                  .first_number = column(statement, 3)},
                                         .listing_checksum = column(statement, 4)};
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
                      struct fm_job_shard *ret_shard, struct fm_error *reterr)
{
    uint64_t state = column(statement, 3);
    if (state >= FM_SHARD_STATE_COUNT_) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the ledger '%s' has a shard in the unknown state %lld", store->path,
                            (long long)state);
    }
    *ret_shard = (struct fm_job_shard){
        .shard = {.number = column(statement, 0),
                  .first_row = column(statement, 1),
                  .row_count = column(statement, 2),
                  .state = (enum fm_shard_state)state,
                  .epoch = column(statement, 4),
                  .owner = column(statement, 5),
                  .rows_out = column(statement, 6),
                  .dead_letters = column(statement, 7)},
        .part_bytes = column(statement, 8),
        .part_checksum = column(statement, 9),
        .letters_bytes = column(statement, 10),
        .letters_checksum = column(statement, 11),
    };
    return 0;
}

static int store_shards(struct fm_job_store *base,
                        int (*each)(void *context, const struct fm_job_shard *shard), void *context,
                        struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    int status = 0;
    int result = SQLITE_DONE;
    fm_mutex_lock(&store->mutex);
    sqlite3_stmt *statement = store->statements[STATEMENT_SHARD_ALL];
    while (status == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct fm_job_shard shard;
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

static int store_shard(struct fm_job_store *base, uint64_t number, struct fm_job_shard *ret_shard,
                       struct fm_error *reterr)
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

/* One guarded statement: a change of no row means that somebody else holds the shard. */
static int shard_change(struct sqlite_store *store, enum statement which, const uint64_t *values,
                        int count, struct fm_error *reterr)
{
    int status = 0;
    fm_mutex_lock(&store->mutex);
    int result = run(store, which, values, count);
    if (result != SQLITE_OK) {
        status = fail(store, result, "write", reterr);
    } else if (sqlite3_changes(store->database) != 1) {
        status = fm_error_set(reterr, FM_ECANCELLED, "shard %llu is no longer ours",
                              (unsigned long long)values[0]);
    }
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int store_claim(struct fm_job_store *base, const struct fm_shard *shard,
                       struct fm_error *reterr)
{
    const uint64_t values[] = {shard->number, shard->first_row, shard->row_count, shard->epoch,
                               shard->owner};
    return shard_change(from_base(base), STATEMENT_SHARD_CLAIM, values, 5, reterr);
}

static int store_release(struct fm_job_store *base, const struct fm_shard *shard,
                         struct fm_error *reterr)
{
    const uint64_t values[] = {shard->number, shard->epoch, shard->owner};
    return shard_change(from_base(base), STATEMENT_SHARD_RELEASE, values, 3, reterr);
}

static int store_commit(struct fm_job_store *base, const struct fm_job_shard *record,
                        const struct fm_shard *rest, struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    const struct fm_shard *shard = &record->shard;
    const uint64_t values[] = {shard->number,         shard->epoch,
                               shard->owner,          shard->row_count,
                               shard->rows_out,       shard->dead_letters,
                               record->part_bytes,    record->part_checksum,
                               record->letters_bytes, record->letters_checksum};
    const uint64_t rest_values[] = {rest->number, rest->first_row, rest->row_count};
    int status = 0;
    fm_mutex_lock(&store->mutex);
    int result = run(store, STATEMENT_BEGIN, NULL, 0);
    if (result == SQLITE_OK) {
        result = run(store, STATEMENT_SHARD_COMMIT, values, 10);
    }
    if (result == SQLITE_OK && sqlite3_changes(store->database) != 1) {
        status = fm_error_set(reterr, FM_ECANCELLED, "shard %llu is no longer ours",
                              (unsigned long long)shard->number);
    }
    if (result == SQLITE_OK && status == 0 && rest->row_count > 0) {
        result = run(store, STATEMENT_SHARD_REST, rest_values, 3);
    }
    if (result == SQLITE_OK && status == 0) {
        result = run(store, STATEMENT_COMMIT, NULL, 0);
    }
    if (result != SQLITE_OK) {
        status = fail(store, result, "commit to", reterr);
    }
    if (status != 0) {
        rollback(store);
    }
    fm_mutex_unlock(&store->mutex);
    return status;
}

static int store_release_all(struct fm_job_store *base, struct fm_error *reterr)
{
    struct sqlite_store *store = from_base(base);
    fm_mutex_lock(&store->mutex);
    int result = run(store, STATEMENT_SHARD_RELEASE_ALL, NULL, 0);
    int status = result == SQLITE_OK ? 0 : fail(store, result, "write", reterr);
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

static int pragma_get(const struct sqlite_store *store, const char *text, int64_t *ret_value)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->database, text, -1, &statement, NULL);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
        if (result == SQLITE_ROW) {
            *ret_value = sqlite3_column_int64(statement, 0);
            result = SQLITE_OK;
        }
    }
    (void)sqlite3_finalize(statement);
    return result;
}

static int schema_create(const struct sqlite_store *store)
{
    char text[sizeof(schema) + 160];
    (void)snprintf(
        text, sizeof(text),
        "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;", schema,
        APPLICATION_ID, FM_SQLITE_STORE_VERSION);
    int result = sqlite3_exec(store->database, text, NULL, NULL, NULL);
    if (result != SQLITE_OK && sqlite3_get_autocommit(store->database) == 0) {
        (void)sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    }
    return result;
}

/* Makes sure that the file is ours, and of a version we know; a new file gets the schema. */
static int schema_check(const struct sqlite_store *store, struct fm_error *reterr)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    int result = pragma_get(store, "PRAGMA application_id", &application);
    if (result == SQLITE_OK) {
        result = pragma_get(store, "PRAGMA user_version", &version);
    }
    if (result == SQLITE_OK) {
        result = pragma_get(store, "SELECT count(*) FROM sqlite_master", &tables);
    }
    if (result == SQLITE_OK && application == 0 && version == 0 && tables == 0) {
        result = schema_create(store);
        return result == SQLITE_OK ? 0 : fail(store, result, "create", reterr);
    }
    if (result != SQLITE_OK) {
        return fail(store, result, "open", reterr);
    }
    if (application != APPLICATION_ID) {
        return fm_error_set(
            reterr, FM_ECORRUPT,
            "'%s' is a database of another program, not a job's ledger: put the ledger "
            "back, or --restart begins the job anew",
            store->path);
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
    int result =
        sqlite3_open_v2(store->path, &store->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
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

int fm_sqlite_store_open(const char *path, struct fm_job_store **ret_store, struct fm_error *reterr)
{
    static const struct fm_job_store_functions functions = {
        .name = "sqlite",
        .create = store_create,
        .grow = store_grow,
        .fact = store_fact,
        .segments = store_segments,
        .shards = store_shards,
        .shard = store_shard,
        .claim = store_claim,
        .release = store_release,
        .commit = store_commit,
        .release_all = store_release_all,
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
    int status = database_open(store, reterr);
    if (status != 0) {
        store_close(&store->base);
        return status;
    }
    *ret_store = &store->base;
    return 0;
}
