/*
 * Rows of DuckDB, taken down. See query_spool.h.
 *
 * HOW IT WORKS. The database is attached for reading to an instance in memory, where the query
 * writes its rows as Parquet.
 */
#include <inttypes.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/thread.h"
#include "host/source/duckdb_library.h"
#include "host/source/query_spool.h"

/* Readers begin at row groups, and pass over what comes before a row in its own. */
#define ROW_GROUP_ROWS "10240"
#define DATABASE       "fermata_query"

struct task {
    const struct fm_query *query;
    const char *path;
    struct fm_duckdb_session session;
    int status;
    struct fm_error error;
};

static void quoted_append(struct fm_text *sql, const char *text)
{
    fm_text_append_char(sql, '\'');
    for (; *text != '\0'; text++) {
        fm_text_append_string(sql, *text == '\'' ? "'" : "");
        fm_text_append_char(sql, *text);
    }
    fm_text_append_char(sql, '\'');
}

/* Runs the text, and frees it. Errors are told of the database. DuckDB says "IO Error" for a file
 * that is no database, or is not there, too; only one that is locked may be had later. */
static int run(struct task *task, struct fm_text *sql)
{
    const struct fm_duckdb *duck = task->session.duck;
    duckdb_result result;
    int status = 0;
    if (sql->failed) {
        fm_text_deinit(sql);
        return fm_error_set(&task->error, FM_ENOMEM, "out of memory for the query");
    }
    if (duck->query(task->session.connection, sql->data, &result) != DuckDBSuccess) {
        status = fm_duckdb_refuse(&task->session, FM_EINVAL, duck->result_error(&result),
                                  task->query->database, -1, &task->error);
        status = status == FM_EIO && strstr(task->error.text, "lock") == NULL ? FM_EINVAL : status;
        task->error.status = status;
    }
    duck->destroy_result(&result);
    fm_text_deinit(sql);
    return status;
}

static int database_attach(struct task *task)
{
    struct fm_file_facts facts;
    struct fm_text sql = {0};
    const char *path = task->query->database;
    int status = fm_file_stat(path, &facts, &task->error);
    if (status != 0) {
        return status;
    }
    if (facts.kind != FM_FILE_REGULAR) {
        return fm_error_set(&task->error, FM_ENOTFOUND, "the database '%s' %s", path,
                            facts.kind == FM_FILE_ABSENT ? "does not exist" : "is no file");
    }
    fm_text_append_string(&sql, "ATTACH ");
    quoted_append(&sql, path);
    fm_text_append_string(&sql, " AS " DATABASE " (TYPE duckdb, READ_ONLY)");
    status = run(task, &sql);
    if (status == 0) {
        struct fm_text use = {0};
        fm_text_append_string(&use, "USE " DATABASE);
        status = run(task, &use);
    }
    return status;
}

/* The query stands in brackets, on lines of its own: what is no query is no SQL there, and a
 * comment at its end ends with its line. */
static int rows_copy(struct task *task)
{
    struct fm_text sql = {0};
    const char *query = task->query->sql;
    size_t length = strlen(query);
    while (length > 0 && strchr(" \t\r\n;", query[length - 1]) != NULL) {
        length--;
    }
    fm_text_append_string(&sql, "COPY (SELECT * FROM (\n");
    fm_text_append(&sql, query, length);
    fm_text_append_string(&sql, "\n)");
    if (task->query->rows_max < INT64_MAX) {
        fm_text_append_format(&sql, " LIMIT %" PRIu64, task->query->rows_max);
    }
    fm_text_append_string(&sql, ") TO ");
    quoted_append(&sql, task->path);
    fm_text_append_string(&sql, " (FORMAT parquet, ROW_GROUP_SIZE " ROW_GROUP_ROWS ")");
    return run(task, &sql);
}

/* An error that came before is the one that is told. */
static void database_detach(struct task *task)
{
    struct fm_error first = task->error;
    struct fm_text use = {0};
    struct fm_text detach = {0};
    fm_text_append_string(&use, "USE memory");
    fm_text_append_string(&detach, "DETACH " DATABASE);
    int ignored = run(task, &use);
    ignored = run(task, &detach);
    (void)ignored;
    task->error = first;
}

static void spool(void *argument)
{
    struct task *task = argument;
    task->status = fm_duckdb_open(&task->session, &task->error);
    if (task->status != 0) {
        return;
    }
    task->status = database_attach(task);
    if (task->status == 0) {
        task->status = rows_copy(task);
        database_detach(task);
    }
    fm_duckdb_close(&task->session);
}

/* On a thread of its own, for DuckDB's need of a stack: see parquet_source.c. */
int fm_query_duckdb_spool(const struct fm_query *query, const char *path, struct fm_error *reterr)
{
    struct task task = {.query = query, .path = path};
    struct fm_thread thread = {0};
    int status = fm_thread_start(&thread, "query", spool, &task);
    if (status != 0) {
        return fm_error_set(reterr, status, "%s: no thread could be started", query->database);
    }
    fm_thread_join(&thread);
    return task.status == 0 ? 0 : fm_error_set(reterr, task.status, "%s", task.error.text);
}
