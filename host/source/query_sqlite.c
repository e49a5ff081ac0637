/*
 * Rows of SQLite, taken down. See query_spool.h.
 *
 * LIMITATIONS. A query may have as many columns as a table, less one: 1999.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/source/query_spool.h"
#include "host/source/sqlite_uri.h"

/* That another program, which writes, is waited for. */
enum { BUSY_MS = 5000 };

struct spool {
    const struct fm_query *query;
    const char *path;
    sqlite3 *from;
    sqlite3 *to;
    sqlite3_stmt *rows;
    sqlite3_stmt *insert;
    int columns;
};

static int status_of(int code)
{
    switch (code & 0xFF) {
    case SQLITE_NOMEM:
        return FM_ENOMEM;
    case SQLITE_FULL:
        return FM_ENOSPC;
    case SQLITE_IOERR:
        return FM_EIO;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return FM_EPERM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return FM_EUNAVAILABLE;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return FM_ECORRUPT;
    default:
        return FM_EINVAL;
    }
}

/* In SQLite's words. */
static int refuse(const char *path, sqlite3 *database, struct fm_error *reterr)
{
    return fm_error_set(reterr, status_of(sqlite3_extended_errcode(database)), "%s: %s", path,
                        sqlite3_errmsg(database));
}

static bool has_bytes(const char *path)
{
    struct fm_file_facts facts = {0};
    return path == NULL || fm_file_stat(path, &facts, NULL) != 0 || facts.size > 0;
}

/* Whether a log or a journal of it has anything: what is in there is of the database, or is to be
 * taken back from it. SQLite knows where they lie, which is beside the file and not beside a link
 * to it. */
static bool has_log(sqlite3 *database)
{
    const char *path = sqlite3_db_filename(database, "main");
    return path == NULL || has_bytes(sqlite3_filename_wal(path)) ||
           has_bytes(sqlite3_filename_journal(path));
}

/*
 * A database with a write-ahead log (WAL) is read together with an index of the log, in a file
 * beside it that readers make, too. Where that cannot be made, and there is no log, the database is
 * all there is: it is read as a file that nobody changes.
 */
static int log_avoid(struct spool *spool, struct fm_error *reterr)
{
    const char *path = spool->query->database;
    int code = sqlite3_exec(spool->from, "SELECT 1 FROM sqlite_master", NULL, NULL, NULL) & 0xFF;
    if (code == SQLITE_OK) {
        return 0;
    }
    if ((code != SQLITE_CANTOPEN && code != SQLITE_READONLY) || has_log(spool->from)) {
        return refuse(path, spool->from, reterr);
    }
    struct fm_text uri = {0};
    fm_sqlite_immutable_uri(path, &uri);
    (void)sqlite3_close(spool->from);
    spool->from = NULL;
    code =
        uri.failed
            ? SQLITE_NOMEM
            : sqlite3_open_v2(uri.data, &spool->from,
                              SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI, NULL);
    fm_text_deinit(&uri);
    return spool->from == NULL
               ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the database '%s'", path)
           : code == SQLITE_OK ? 0
                               : refuse(path, spool->from, reterr);
}

static int source_open(struct spool *spool, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    const char *path = spool->query->database;
    int status = fm_file_stat(path, &facts, reterr);
    if (status != 0) {
        return status;
    }
    if (facts.kind != FM_FILE_REGULAR) {
        return fm_error_set(reterr, FM_ENOTFOUND, "the database '%s' %s", path,
                            facts.kind == FM_FILE_ABSENT ? "does not exist" : "is no file");
    }
    int code =
        sqlite3_open_v2(path, &spool->from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (spool->from == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the database '%s'", path);
    }
    if (code != SQLITE_OK) {
        return refuse(path, spool->from, reterr);
    }
    (void)sqlite3_busy_timeout(spool->from, BUSY_MS);
    return log_avoid(spool, reterr);
}

/* One statement that gives rows and changes nothing. */
static int query_prepare(struct spool *spool, struct fm_error *reterr)
{
    const char *path = spool->query->database;
    const char *tail = NULL;
    int code = sqlite3_prepare_v2(spool->from, spool->query->sql, -1, &spool->rows, &tail);
    if (code != SQLITE_OK) {
        return refuse(path, spool->from, reterr);
    }
    sqlite3_stmt *other = NULL;
    bool more =
        tail[0] != '\0' &&
        (sqlite3_prepare_v2(spool->from, tail, -1, &other, NULL) != SQLITE_OK || other != NULL);
    (void)sqlite3_finalize(other);
    spool->columns = sqlite3_column_count(spool->rows);
    if (more || spool->rows == NULL || spool->columns == 0 || !sqlite3_stmt_readonly(spool->rows)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "%s: the query must be one statement that gives rows and changes "
                            "nothing, as SELECT",
                            path);
    }
    int parameters = sqlite3_bind_parameter_count(spool->rows);
    if (parameters > 0) {
        const char *name = sqlite3_bind_parameter_name(spool->rows, parameters);
        return fm_error_set(reterr, FM_EINVAL,
                            "%s: the query has a parameter, '%s', and nothing gives it a value: "
                            "write the value itself",
                            path, name != NULL ? name : "?");
    }
    for (int i = 0; i < spool->columns; i++) {
        for (int k = 0; k < i; k++) {
            const char *name = sqlite3_column_name(spool->rows, i);
            const char *before = sqlite3_column_name(spool->rows, k);
            if (name == NULL || before == NULL || strcmp(name, before) == 0) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "%s: the query has two columns of the name '%s': give one of "
                                    "them another name with AS",
                                    path, name != NULL ? name : "?");
            }
        }
    }
    return 0;
}

static int run(struct spool *spool, const char *sql, struct fm_error *reterr)
{
    return sqlite3_exec(spool->to, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : refuse(spool->path, spool->to, reterr);
}

static int tables_make(struct spool *spool, struct fm_error *reterr)
{
    struct fm_text table = {0};
    struct fm_text insert = {0};
    sqlite3_stmt *names = NULL;
    fm_text_append_string(&table, "CREATE TABLE row(number INTEGER PRIMARY KEY");
    fm_text_append_string(&insert, "INSERT INTO row VALUES(NULL");
    for (int i = 0; i < spool->columns; i++) {
        fm_text_append_format(&table, ", c%d", i); /* without a type: values stay what they are */
        fm_text_append_string(&insert, ", ?");
    }
    fm_text_append_string(&table, "); CREATE TABLE name(number INTEGER PRIMARY KEY, name TEXT)");
    fm_text_append_string(&insert, ")");
    int status = table.failed || insert.failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                               : run(spool, table.data, reterr);
    if (status == 0 &&
        (sqlite3_prepare_v2(spool->to, insert.data, -1, &spool->insert, NULL) != SQLITE_OK ||
         sqlite3_prepare_v2(spool->to, "INSERT INTO name VALUES(?, ?)", -1, &names, NULL) !=
             SQLITE_OK)) {
        status = refuse(spool->path, spool->to, reterr);
    }
    for (int i = 0; i < spool->columns && status == 0; i++) {
        (void)sqlite3_bind_int(names, 1, i);
        (void)sqlite3_bind_text(names, 2, sqlite3_column_name(spool->rows, i), -1,
                                SQLITE_TRANSIENT);
        status = sqlite3_step(names) == SQLITE_DONE ? 0 : refuse(spool->path, spool->to, reterr);
        (void)sqlite3_reset(names);
    }
    (void)sqlite3_finalize(names);
    fm_text_deinit(&table);
    fm_text_deinit(&insert);
    return status;
}

/* Nobody reads the file before it is whole, so it needs no journal; SYNCHRONOUS brings it to the
 * disk at the end. */
static int target_open(struct spool *spool, struct fm_error *reterr)
{
    int code =
        sqlite3_open_v2(spool->path, &spool->to,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (spool->to == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the file '%s'", spool->path);
    }
    int status = code == SQLITE_OK ? 0 : refuse(spool->path, spool->to, reterr);
    status = status != 0
                 ? status
                 : run(spool, "PRAGMA journal_mode=OFF; PRAGMA synchronous=FULL; BEGIN", reterr);
    return status != 0 ? status : tables_make(spool, reterr);
}

static int row_copy(struct spool *spool, struct fm_error *reterr)
{
    for (int i = 0; i < spool->columns; i++) {
        if (sqlite3_bind_value(spool->insert, i + 1, sqlite3_column_value(spool->rows, i)) !=
            SQLITE_OK) {
            return refuse(spool->path, spool->to, reterr);
        }
    }
    if (sqlite3_step(spool->insert) != SQLITE_DONE) {
        return refuse(spool->path, spool->to, reterr);
    }
    (void)sqlite3_reset(spool->insert);
    return 0;
}

static int rows_copy(struct spool *spool, struct fm_error *reterr)
{
    int status = 0;
    for (uint64_t rows = 0; status == 0 && rows < spool->query->rows_max; rows++) {
        int code = sqlite3_step(spool->rows);
        if (code == SQLITE_DONE) {
            break;
        }
        status = code == SQLITE_ROW ? row_copy(spool, reterr)
                                    : refuse(spool->query->database, spool->from, reterr);
    }
    return status != 0 ? status : run(spool, "COMMIT", reterr);
}

int fm_query_sqlite_spool(const struct fm_query *query, const char *path, struct fm_error *reterr)
{
    struct spool spool = {.query = query, .path = path};
    int status = source_open(&spool, reterr);
    status = status != 0 ? status : query_prepare(&spool, reterr);
    status = status != 0 ? status : target_open(&spool, reterr);
    status = status != 0 ? status : rows_copy(&spool, reterr);
    (void)sqlite3_finalize(spool.insert);
    (void)sqlite3_finalize(spool.rows);
    (void)sqlite3_close(spool.to);
    (void)sqlite3_close(spool.from);
    return status;
}
