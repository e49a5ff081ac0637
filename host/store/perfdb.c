/*
 * PerfDB on SQLite. See perfdb.h.
 */
#include "host/store/perfdb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/store/sqlite_status.h"

#define APPLICATION_ID 0x464d5044 /* "FMPD" */

enum { BUSY_MS = 10000, VALUES_MAX = 1024 };

enum statement {
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_RUN_ADD,
    STATEMENT_VALUE_ADD,
    STATEMENT_HAS,
    STATEMENT_VISIT,
    STATEMENT_VISIT_BRIEF,
    STATEMENT_VALUES,
    STATEMENT_COUNT_
};

#define FACTS "id, repeat, created_ms, study, point, kind, label, verdict"
#define TEXTS "config, build, machine, model, result"
#define WHERE                                                                        \
    " FROM run WHERE (?1 = 0 OR id = ?1) AND (?2 IS NULL OR study = ?2) AND (?3 IS " \
    "NULL OR point = ?3) AND (?4 IS NULL OR kind = ?4) ORDER BY id"

enum { NUMBERS = 3, FACT_COLUMNS = 8 }; /* of FACTS: numbers first */

static const char *const statement_texts[STATEMENT_COUNT_] = {
    [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_RUN_ADD] =
        "INSERT INTO run(repeat, created_ms, study, point, kind, label, verdict, " TEXTS
        ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [STATEMENT_VALUE_ADD] = "INSERT INTO value(run, name, unit, value) VALUES(?1, ?2, ?3, ?4)",
    [STATEMENT_HAS] = "SELECT 1 FROM run WHERE study = ?1 AND point = ?2 AND repeat = ?3",
    [STATEMENT_VISIT] = "SELECT " FACTS ", " TEXTS WHERE,
    [STATEMENT_VISIT_BRIEF] = "SELECT " FACTS WHERE,
    [STATEMENT_VALUES] = "SELECT name, unit, value FROM value WHERE run = ?1 ORDER BY rowid",
};

static const char schema[] =
    "CREATE TABLE run(id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, point TEXT NOT "
    "NULL, repeat INTEGER NOT NULL, kind TEXT NOT NULL, label TEXT NOT NULL, created_ms INTEGER "
    "NOT "
    "NULL, verdict TEXT NOT NULL CHECK(verdict IN ('valid', 'invalid', 'failed')), "
    "config TEXT NOT NULL CHECK(json_valid(config)), build TEXT NOT NULL CHECK(json_valid(build)), "
    "machine TEXT NOT NULL CHECK(json_valid(machine)), model TEXT NOT NULL "
    "CHECK(json_valid(model)), result TEXT NOT NULL CHECK(json_valid(result)), "
    "UNIQUE(study, point, repeat));"
    "CREATE TABLE value(run INTEGER NOT NULL REFERENCES run(id), name TEXT NOT NULL, unit TEXT NOT "
    "NULL, value REAL NOT NULL, UNIQUE(run, name));"
    "CREATE TRIGGER run_is_new BEFORE INSERT ON run WHEN EXISTS(SELECT 1 FROM run WHERE id = "
    "NEW.id OR "
    "(study = NEW.study AND point = NEW.point AND repeat = NEW.repeat)) BEGIN SELECT RAISE(ABORT, "
    "'run.study, point and repeat are there: PerfDB is append-only'); END;"
    "CREATE TRIGGER value_is_new BEFORE INSERT ON value WHEN EXISTS(SELECT 1 FROM value WHERE run "
    "= "
    "NEW.run AND name = NEW.name) BEGIN SELECT RAISE(ABORT, 'value.name is there: PerfDB is "
    "append-only'); END;"
    "CREATE TRIGGER run_stays BEFORE UPDATE ON run BEGIN SELECT RAISE(ABORT, 'PerfDB is "
    "append-only'); END;"
    "CREATE TRIGGER run_is_kept BEFORE DELETE ON run BEGIN SELECT RAISE(ABORT, 'PerfDB is "
    "append-only'); END;"
    "CREATE TRIGGER value_stays BEFORE UPDATE ON value BEGIN SELECT RAISE(ABORT, 'PerfDB is "
    "append-only'); END;"
    "CREATE TRIGGER value_is_kept BEFORE DELETE ON value BEGIN SELECT RAISE(ABORT, 'PerfDB is "
    "append-only'); END;";

struct fm_perfdb {
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT_];
    char *path;
    bool reader;
    bool visits; /* a visitor may not visit: the statement is in use */
};

static int fail(const struct fm_perfdb *perfdb, int result, const char *what,
                struct fm_error *reterr)
{
    int status = fm_sqlite_status(perfdb->database, result);
    return fm_error_set(
        reterr, status, "cannot %s the database of results '%s': %s%s", what, perfdb->path,
        sqlite3_errmsg(perfdb->database),
        status == FM_ECORRUPT ? " (it is damaged, or none of Fermata's: name another file)" : "");
}

/* --- Adding --- */

static int bind_text(sqlite3_stmt *statement, int place, const char *text)
{
    return text != NULL ? sqlite3_bind_text(statement, place, text, -1, SQLITE_STATIC)
                        : sqlite3_bind_null(statement, place);
}

/* Runs a statement that gives no rows. */
static int step(sqlite3_stmt *statement)
{
    int result = sqlite3_step(statement);
    (void)sqlite3_reset(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static int run_check(const struct fm_perfdb_run *run, struct fm_error *reterr)
{
    const struct {
        const char *name;
        const char *text;
        bool may_be_empty;
    } fields[] = {{"study", run->study, false},     {"point", run->point, false},
                  {"kind", run->kind, false},       {"label", run->label, true},
                  {"config", run->config, false},   {"build", run->build, false},
                  {"machine", run->machine, false}, {"model", run->model, false},
                  {"result", run->result, false},   {"verdict", run->verdict, false}};
    for (size_t i = 0; i < FM_COUNT_OF(fields); i++) {
        if (fields[i].text == NULL || (fields[i].text[0] == '\0' && !fields[i].may_be_empty)) {
            return fm_error_set(reterr, FM_EINVAL, "a run without '%s' cannot be kept",
                                fields[i].name);
        }
    }
    if (run->value_count > VALUES_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "a run has %zu values, %d are possible",
                            run->value_count, VALUES_MAX);
    }
    for (size_t i = 0; i < run->value_count; i++) {
        const char *name = run->values[i].name;
        if (name[0] == '\0' ||
            strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") != strlen(name)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "'%s' is no name of a value: a to z, 0 to 9, _ and . can be in it",
                                name);
        }
        if (!isfinite(run->values[i].value)) {
            return fm_error_set(reterr, FM_EINVAL, "the value '%s' is not finite", name);
        }
    }
    return 0;
}

static int run_insert(const struct fm_perfdb *perfdb, const struct fm_perfdb_run *run)
{
    sqlite3_stmt *statement = perfdb->statements[STATEMENT_RUN_ADD];
    const char *const texts[] = {run->study,  run->point, run->kind,    run->label, run->verdict,
                                 run->config, run->build, run->machine, run->model, run->result};
    int result = sqlite3_bind_int64(statement, 1, run->repeat);
    result = result == SQLITE_OK ? sqlite3_bind_int64(statement, 2, (sqlite3_int64)run->created_ms)
                                 : result;
    for (size_t i = 0; i < FM_COUNT_OF(texts) && result == SQLITE_OK; i++) {
        result = bind_text(statement, (int)i + 3, texts[i]);
    }
    return result == SQLITE_OK ? step(statement) : result;
}

static int values_insert(const struct fm_perfdb *perfdb, const struct fm_perfdb_run *run,
                         sqlite3_int64 id)
{
    sqlite3_stmt *statement = perfdb->statements[STATEMENT_VALUE_ADD];
    int result = SQLITE_OK;
    for (size_t i = 0; i < run->value_count && result == SQLITE_OK; i++) {
        const struct fm_perfdb_value *value = &run->values[i];
        result = sqlite3_bind_int64(statement, 1, id);
        result = result == SQLITE_OK ? bind_text(statement, 2, value->name) : result;
        result = result == SQLITE_OK ? bind_text(statement, 3, value->unit) : result;
        result = result == SQLITE_OK ? sqlite3_bind_double(statement, 4, value->value) : result;
        result = result == SQLITE_OK ? step(statement) : result;
    }
    return result;
}

/* Why the database refused it: its own checks, of which two have words of ours. */
static int refused(const struct fm_perfdb *perfdb, const struct fm_perfdb_run *run, int extended,
                   struct fm_error *reterr)
{
    if (extended == SQLITE_CONSTRAINT_CHECK) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the run cannot be kept: %s (config, build, machine, model and result "
                            "are JSON, the verdict is valid, invalid or failed)",
                            sqlite3_errmsg(perfdb->database));
    }
    if (strstr(sqlite3_errmsg(perfdb->database), "run.study") != NULL) {
        return fm_error_set(reterr, FM_EEXIST,
                            "repeat %" PRIu32 " of point '%s' of the study '%s' is in '%s' already",
                            run->repeat, run->point, run->study, perfdb->path);
    }
    return fm_error_set(reterr, FM_EINVAL, "the run cannot be kept: %s",
                        sqlite3_errmsg(perfdb->database));
}

int fm_perfdb_add(struct fm_perfdb *perfdb, const struct fm_perfdb_run *run, uint64_t *ret_id,
                  struct fm_error *reterr)
{
    int status = run_check(run, reterr);
    if (status != 0) {
        return status;
    }
    if (perfdb->reader) {
        return fm_error_set(reterr, FM_EPERM, "the database of results '%s' was opened for reading",
                            perfdb->path);
    }
    int result = step(perfdb->statements[STATEMENT_BEGIN]);
    if (result != SQLITE_OK) {
        return fail(perfdb, result, "write to", reterr);
    }
    result = run_insert(perfdb, run);
    sqlite3_int64 id = sqlite3_last_insert_rowid(perfdb->database);
    result = result == SQLITE_OK ? values_insert(perfdb, run, id) : result;
    if ((result & 0xff) == SQLITE_CONSTRAINT) {
        status = refused(perfdb, run, sqlite3_extended_errcode(perfdb->database), reterr);
    } else if (result == SQLITE_OK) {
        result = step(perfdb->statements[STATEMENT_COMMIT]);
    }
    if (status == 0 && result != SQLITE_OK) {
        status = fail(perfdb, result, "write to", reterr);
    }
    if (sqlite3_get_autocommit(perfdb->database) == 0) {
        (void)sqlite3_exec(perfdb->database, "ROLLBACK", NULL, NULL, NULL);
    }
    *ret_id = status == 0 ? (uint64_t)id : 0;
    return status;
}

/* --- Reading --- */

int fm_perfdb_has(struct fm_perfdb *perfdb, const char *study, const char *point, uint32_t repeat,
                  bool *ret_has, struct fm_error *reterr)
{
    sqlite3_stmt *statement = perfdb->statements[STATEMENT_HAS];
    int result = bind_text(statement, 1, study);
    result = result == SQLITE_OK ? bind_text(statement, 2, point) : result;
    result = result == SQLITE_OK ? sqlite3_bind_int64(statement, 3, repeat) : result;
    result = result == SQLITE_OK ? sqlite3_step(statement) : result;
    *ret_has = result == SQLITE_ROW;
    (void)sqlite3_reset(statement);
    return result == SQLITE_ROW || result == SQLITE_DONE ? 0 : fail(perfdb, result, "read", reterr);
}

/* NULL: no memory; the columns are never NULL. */
static const char *text_of(sqlite3_stmt *statement, int place)
{
    return (const char *)sqlite3_column_text(statement, place);
}

static char *text_keep(struct fm_arena *arena, const char *text)
{
    return text != NULL ? fm_arena_strdup(arena, text) : NULL;
}

/* The texts of values are copied: the next step takes them away. */
static int values_read(const struct fm_perfdb *perfdb, uint64_t id, struct fm_arena *arena,
                       struct fm_perfdb_run *run)
{
    sqlite3_stmt *statement = perfdb->statements[STATEMENT_VALUES];
    struct fm_perfdb_value *values = fm_arena_alloc(arena, VALUES_MAX * sizeof(*values));
    int result =
        values == NULL ? SQLITE_NOMEM : sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
    run->values = values;
    while (result == SQLITE_OK && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        if (run->value_count == VALUES_MAX) {
            result = SQLITE_CORRUPT; /* add has never put so many there */
            break;
        }
        struct fm_perfdb_value *value = &values[run->value_count++];
        value->name = text_keep(arena, text_of(statement, 0));
        value->unit = text_keep(arena, text_of(statement, 1));
        value->value = sqlite3_column_double(statement, 2);
        result = value->name != NULL && value->unit != NULL ? SQLITE_OK : SQLITE_NOMEM;
    }
    (void)sqlite3_reset(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

/* False: no memory. */
static bool run_read(sqlite3_stmt *statement, bool brief, struct fm_perfdb_run *ret_run)
{
    for (int i = NUMBERS; i < sqlite3_column_count(statement); i++) {
        if (text_of(statement, i) == NULL) {
            return false;
        }
    }
    *ret_run = (struct fm_perfdb_run){.id = (uint64_t)sqlite3_column_int64(statement, 0),
                                      .repeat = (uint32_t)sqlite3_column_int64(statement, 1),
                                      .created_ms = (uint64_t)sqlite3_column_int64(statement, 2),
                                      .study = text_of(statement, 3),
                                      .point = text_of(statement, 4),
                                      .kind = text_of(statement, 5),
                                      .label = text_of(statement, 6),
                                      .verdict = text_of(statement, 7)};
    if (!brief) {
        ret_run->config = text_of(statement, FACT_COLUMNS);
        ret_run->build = text_of(statement, FACT_COLUMNS + 1);
        ret_run->machine = text_of(statement, FACT_COLUMNS + 2);
        ret_run->model = text_of(statement, FACT_COLUMNS + 3);
        ret_run->result = text_of(statement, FACT_COLUMNS + 4);
    }
    return true;
}

static int filter_bind(sqlite3_stmt *statement, const struct fm_perfdb_filter *filter)
{
    int result = sqlite3_bind_int64(statement, 1, (sqlite3_int64)filter->id);
    result = result == SQLITE_OK ? bind_text(statement, 2, filter->study) : result;
    result = result == SQLITE_OK ? bind_text(statement, 3, filter->point) : result;
    return result == SQLITE_OK ? bind_text(statement, 4, filter->kind) : result;
}

int fm_perfdb_visit(struct fm_perfdb *perfdb, const struct fm_perfdb_filter *filter,
                    int (*visit)(void *context, const struct fm_perfdb_run *run,
                                 struct fm_error *reterr),
                    void *context, struct fm_error *reterr)
{
    sqlite3_stmt *statement =
        perfdb->statements[filter->brief ? STATEMENT_VISIT_BRIEF : STATEMENT_VISIT];
    int status = 0;
    FM_ASSERT(!perfdb->visits);
    perfdb->visits = true;
    int result = filter_bind(statement, filter);
    while (status == 0 && result == SQLITE_OK && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct fm_perfdb_run run;
        struct fm_arena arena;
        fm_arena_init(&arena, 0);
        result = run_read(statement, filter->brief, &run)
                     ? values_read(perfdb, run.id, &arena, &run)
                     : SQLITE_NOMEM;
        status = result == SQLITE_OK ? visit(context, &run, reterr) : 0;
        fm_arena_deinit(&arena);
    }
    (void)sqlite3_reset(statement);
    perfdb->visits = false;
    if (status == 0 && result != SQLITE_OK && result != SQLITE_DONE) {
        status = result == SQLITE_NOMEM ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                        : fail(perfdb, result, "read", reterr);
    }
    return status;
}

/* --- Opening --- */

static int schema_create(const struct fm_perfdb *perfdb)
{
    char text[sizeof(schema) + 160];
    (void)snprintf(text, sizeof(text),
                   "%s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;", schema,
                   APPLICATION_ID, FM_PERFDB_VERSION);
    return fm_sqlite_script(perfdb->database, text);
}

/* Whose file it is; a new one gets the schema. In one transaction: others may be creating it. */
static int schema_check(const struct fm_perfdb *perfdb, struct fm_error *reterr)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    sqlite3 *database = perfdb->database;
    int result =
        sqlite3_exec(database, perfdb->reader ? "BEGIN" : "BEGIN IMMEDIATE", NULL, NULL, NULL);
    result = result == SQLITE_OK
                 ? fm_sqlite_number(database, "SELECT count(*) FROM sqlite_master", &tables)
                 : result;
    result = result == SQLITE_OK ? fm_sqlite_number(database, "PRAGMA application_id", &application)
                                 : result;
    result =
        result == SQLITE_OK ? fm_sqlite_number(database, "PRAGMA user_version", &version) : result;
    bool empty = application == 0 && version == 0 && tables == 0;
    if (result == SQLITE_OK && empty && !perfdb->reader) {
        result = schema_create(perfdb);
        return result == SQLITE_OK ? 0 : fail(perfdb, result, "create", reterr);
    }
    if (result != SQLITE_OK) {
        return fail(perfdb, result, "open", reterr);
    }
    (void)sqlite3_exec(database, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
    if (empty) {
        return fm_error_set(reterr, FM_ENOTFOUND, "the database of results '%s' is empty",
                            perfdb->path);
    }
    if (application != APPLICATION_ID) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "'%s' is a database of another program, not one of results: name "
                            "another file",
                            perfdb->path);
    }
    if (version != FM_PERFDB_VERSION) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the database of results '%s' has schema version %" PRId64
                            " and this program knows version %d: use the program that made it",
                            perfdb->path, version, FM_PERFDB_VERSION);
    }
    return 0;
}

/* Whoever reads holds up nobody. The change of the journal does not wait by itself while others
 * use the file. */
static int journal_set(const struct fm_perfdb *perfdb)
{
    int result = SQLITE_BUSY;
    for (int waited_ms = 0; result == SQLITE_BUSY && waited_ms < BUSY_MS; waited_ms += 10) {
        result = sqlite3_exec(perfdb->database, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (result == SQLITE_BUSY) {
            (void)sqlite3_sleep(10);
        }
    }
    return result;
}

static int database_open(struct fm_perfdb *perfdb, struct fm_error *reterr)
{
    int flags = perfdb->reader ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int result =
        sqlite3_open_v2(perfdb->path, &perfdb->database, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (perfdb->database == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    result = result == SQLITE_OK ? sqlite3_busy_timeout(perfdb->database, BUSY_MS) : result;
    if (result == SQLITE_OK && !perfdb->reader) {
        result =
            sqlite3_exec(perfdb->database, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                         NULL, NULL, NULL);
    }
    if (result != SQLITE_OK) {
        return fail(perfdb, result, "open", reterr);
    }
    int status = schema_check(perfdb, reterr);
    if (status == 0 && !perfdb->reader) {
        result = journal_set(perfdb);
        status = result == SQLITE_OK ? 0 : fail(perfdb, result, "open", reterr);
    }
    for (size_t i = 0; i < STATEMENT_COUNT_ && status == 0; i++) {
        result = sqlite3_prepare_v3(perfdb->database, statement_texts[i], -1,
                                    SQLITE_PREPARE_PERSISTENT, &perfdb->statements[i], NULL);
        status = result == SQLITE_OK ? 0 : fail(perfdb, result, "open", reterr);
    }
    return status;
}

int fm_perfdb_open(const char *path, enum fm_perfdb_mode mode, struct fm_perfdb **ret_perfdb,
                   struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    struct fm_perfdb *perfdb = fm_alloc_zero(1, sizeof(*perfdb));
    int status = perfdb == NULL || (perfdb->path = fm_strdup(path)) == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                     : 0;
    if (status == 0 && mode == FM_PERFDB_READ) {
        perfdb->reader = true;
        status = fm_file_stat(path, &facts, reterr);
        if (status == 0 && facts.kind != FM_FILE_REGULAR) {
            status =
                fm_error_set(reterr, FM_ENOTFOUND, "there is no database of results '%s'", path);
        }
    }
    status = status != 0 ? status : database_open(perfdb, reterr);
    if (status != 0) {
        fm_perfdb_close(perfdb);
        return status;
    }
    *ret_perfdb = perfdb;
    return 0;
}

void fm_perfdb_close(struct fm_perfdb *perfdb)
{
    if (perfdb == NULL) {
        return;
    }
    for (size_t i = 0; i < STATEMENT_COUNT_; i++) {
        (void)sqlite3_finalize(perfdb->statements[i]);
    }
    (void)sqlite3_close(perfdb->database);
    fm_free(perfdb->path);
    fm_free(perfdb);
}
