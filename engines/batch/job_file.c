/*
 * Reading the job file. See job_file.h.
 */
#include "engines/batch/job_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/ledger/ledger.h"
#include "core/plan/flow.h"
#include "core/source/request_line.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/paths.h"
#include "engines/batch/sink.h"
#include "host/config/config.h"
#include "host/net/objects.h"
#include "host/os/file.h"
#include "host/source/formats.h"

/* Of models that do not say theirs, where rows are small. */
#define BATCH_OF_ROWS 64

/* A directory name is taken literally even where it looks like a pattern. */
static const char *resolve_in(struct fm_job *job, const char *directory, const char *path,
                              bool escape)
{
    char escaped[4096];
    char joined[4096];
    size_t used = 0;
    for (const char *c = directory; *c != '\0' && used + 3 < sizeof(escaped); c++) {
        if (escape && strchr("*?[\\", *c) != NULL) {
            escaped[used++] = '\\';
        }
        escaped[used++] = *c;
    }
    escaped[used] = '\0';
    if (fm_path_join(joined, sizeof(joined), escaped, path) != 0) {
        return NULL;
    }
    return fm_arena_strdup(&job->arena, joined);
}

/* What looks like an address of another kind would be taken for a path. */
static int check_foreign(const struct fm_config *node, const char *text, struct fm_error *reterr)
{
    return fm_object_is_foreign(text)
               ? fm_config_error(node, reterr,
                                 "'%.200s' is an address that cannot be read, unlike those of s3, "
                                 "https and http; a path with such a name begins with ./",
                                 text)
               : 0;
}

/* Where no address will do. */
static int check_path(const struct fm_config *node, const char *key, const char *text,
                      struct fm_error *reterr)
{
    return fm_object_is_foreign(text) || fm_object_is_address(text)
               ? fm_config_error(node, reterr,
                                 "'%.200s' is an address, and '%s' is a path; a path with such a "
                                 "name begins with ./",
                                 text, key)
               : 0;
}

static int resolve(struct fm_job *job, const struct fm_config *node, const char *path,
                   const char **ret_path, struct fm_error *reterr)
{
    char directory[4096];
    char tidy[4096];
    const char *found = fm_path_directory(directory, sizeof(directory), job->file) == 0
                            ? resolve_in(job, directory, path, false)
                            : NULL;
    if (found == NULL || fm_paths_tidy("", found, tidy, sizeof(tidy)) != 0) {
        return fm_config_error(node, reterr, "the path is too long");
    }
    *ret_path = fm_arena_strdup(&job->arena, tidy);
    return *ret_path != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", job->file);
}

/* An address stays as it is written. */
static int read_address(struct fm_job *job, const struct fm_config *node, const char **ret_address,
                        struct fm_error *reterr)
{
    struct fm_error bad = {0};
    int status = fm_object_check(node->text, &bad);
    if (status != 0) {
        return fm_config_error(node, reterr, "%s", bad.text);
    }
    *ret_address = fm_arena_strdup(&job->arena, node->text);
    return *ret_address != NULL ? 0
                                : fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", job->file);
}

static int read_path(struct fm_job *job, struct fm_config *mapping, const char *key,
                     const char **ret_path, struct fm_error *reterr)
{
    const char *text = NULL;
    int status = fm_config_string(mapping, key, &text, reterr);
    if (status != 0 || text == NULL) {
        return status;
    }
    if (text[0] == '\0') {
        return fm_config_error(fm_config_get(mapping, key), reterr, "'%s' is empty", key);
    }
    status = check_path(fm_config_get(mapping, key), key, text, reterr);
    return status != 0 ? status : resolve(job, mapping, text, ret_path, reterr);
}

static int read_pattern(struct fm_job *job, const struct fm_config *node, const char **ret_path,
                        struct fm_error *reterr)
{
    char directory[4096];
    int status = fm_config_expect(node, FM_CONFIG_SCALAR, reterr);
    if (status != 0) {
        return status;
    }
    if (node->text[0] == '\0') {
        return fm_config_error(node, reterr, "an empty path");
    }
    if (fm_object_is_address(node->text)) {
        return read_address(job, node, ret_path, reterr);
    }
    status = check_foreign(node, node->text, reterr);
    if (status != 0) {
        return status;
    }
    bool plain = strpbrk(node->text, "*?[\\") == NULL;
    *ret_path = fm_path_directory(directory, sizeof(directory), job->file) == 0
                    ? resolve_in(job, directory, node->text, !plain)
                    : NULL;
    return *ret_path != NULL ? 0 : fm_config_error(node, reterr, "the path is too long");
}

static int read_files(struct fm_job *job, const struct fm_config *node, struct fm_error *reterr)
{
    bool many = node->kind == FM_CONFIG_SEQUENCE;
    if (node->kind == FM_CONFIG_SCALAR && strcmp(node->text, "-") == 0) {
        job->standard_input = true;
        return 0;
    }
    size_t count = many ? node->count : 1;
    if (count == 0) {
        return fm_config_error(node, reterr,
                               "'files' is an empty list: name a file, a directory or a pattern");
    }
    job->files = fm_arena_alloc(&job->arena, (count + 1) * sizeof(*job->files));
    if (job->files == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", job->file);
    }
    for (size_t i = 0; i < count; i++) {
        int status = read_pattern(job, many ? &node->children[i] : node, &job->files[i], reterr);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* --- Sources of records --- */

static int no_memory(const struct fm_job *job, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", job->file);
}

/* "pixel{0..783}": 784 names, with as many digits as the first number has. False: no such thing. */
static bool range_parse(const char *text, const char **ret_open, const char **ret_close,
                        uint64_t *ret_first, uint64_t *ret_last, int *ret_digits)
{
    const char *open = strchr(text, '{');
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    const char *dots = open != NULL ? strstr(open, "..") : NULL;
    char first[24];
    char last[24];
    if (close == NULL || dots == NULL || dots > close ||
        (size_t)(dots - open - 1) >= sizeof(first) || (size_t)(close - dots - 2) >= sizeof(last)) {
        return false;
    }
    (void)snprintf(first, sizeof(first), "%.*s", (int)(dots - open - 1), open + 1);
    (void)snprintf(last, sizeof(last), "%.*s", (int)(close - dots - 2), dots + 2);
    if (strspn(first, "0123456789") != strlen(first) ||
        strspn(last, "0123456789") != strlen(last) || fm_parse_uint64(first, ret_first) != 0 ||
        fm_parse_uint64(last, ret_last) != 0 || *ret_last < *ret_first ||
        *ret_last - *ret_first >= FM_CSV_COLUMNS_MAX) {
        return false;
    }
    *ret_open = open;
    *ret_close = close;
    *ret_digits = (int)strlen(first);
    return true;
}

/* Appends a name, or those that a range stands for. */
static int name_add(struct fm_job *job, const struct fm_config *node, const char **names,
                    uint32_t *count, uint32_t names_max, struct fm_error *reterr)
{
    const char *open = NULL;
    const char *close = NULL;
    uint64_t first = 0;
    uint64_t last = 0;
    int digits = 0;
    int status = fm_config_expect(node, FM_CONFIG_SCALAR, reterr);
    if (status != 0) {
        return status;
    }
    if (node->text[0] == '\0') {
        return fm_config_error(node, reterr, "an empty column name");
    }
    bool range = range_parse(node->text, &open, &close, &first, &last, &digits);
    for (uint64_t i = first; i <= last; i++) {
        char name[FM_ERROR_TEXT_SIZE];
        int length = range ? snprintf(name, sizeof(name), "%.*s%0*llu%s", (int)(open - node->text),
                                      node->text, digits, (unsigned long long)i, close + 1)
                           : snprintf(name, sizeof(name), "%s", node->text);
        if (length < 0 || (size_t)length >= sizeof(name) || *count == names_max) {
            return fm_config_error(node, reterr, "the column names are too long or too many");
        }
        names[*count] = fm_arena_strdup(&job->arena, name);
        if (names[(*count)++] == NULL) {
            return no_memory(job, reterr);
        }
    }
    return 0;
}

/* One name, or a list of them. */
static int read_names(struct fm_job *job, const struct fm_config *node, const char ***ret_names,
                      uint32_t *ret_count, struct fm_error *reterr)
{
    bool many = node->kind == FM_CONFIG_SEQUENCE;
    size_t count = many ? node->count : 1;
    const char **names = fm_alloc_zero(FM_CSV_COLUMNS_MAX, sizeof(*names));
    uint32_t found = 0;
    int status = names != NULL ? 0 : no_memory(job, reterr);
    if (status == 0 && count == 0) {
        status = fm_config_error(node, reterr, "an empty list of columns");
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        status = name_add(job, many ? &node->children[i] : node, names, &found, FM_CSV_COLUMNS_MAX,
                          reterr);
    }
    if (status == 0) {
        *ret_names = fm_arena_alloc(&job->arena, found * sizeof(*names));
        status = *ret_names != NULL ? 0 : no_memory(job, reterr);
    }
    if (status == 0) {
        memcpy(*ret_names, names, found * sizeof(*names));
        *ret_count = found;
    }
    fm_free(names);
    return status;
}

static int read_columns(struct fm_job *job, struct fm_config *columns, struct fm_error *reterr)
{
    int status = columns != NULL ? fm_config_expect(columns, FM_CONFIG_MAPPING, reterr) : 0;
    if (status != 0 || columns == NULL) {
        return status;
    }
    struct fm_job_column *read = fm_arena_alloc(&job->arena, (columns->count + 1) * sizeof(*read));
    if (read == NULL) {
        return no_memory(job, reterr);
    }
    for (size_t i = 0; i < columns->count && status == 0; i++) {
        struct fm_config *names = fm_config_get(columns, columns->keys[i]);
        read[i].input = fm_arena_strdup(&job->arena, columns->keys[i]);
        status = read[i].input == NULL
                     ? no_memory(job, reterr)
                     : read_names(job, names, &read[i].names, &read[i].name_count, reterr);
    }
    job->columns = read;
    job->column_count = (uint32_t)columns->count;
    return status;
}

static int read_character(struct fm_config *mapping, const char *key, char *value,
                          struct fm_error *reterr)
{
    const char *text = NULL;
    int status = fm_config_string(mapping, key, &text, reterr);
    if (status != 0 || text == NULL) {
        return status;
    }
    if (strcmp(text, "\\t") == 0 || strcmp(text, "tab") == 0) {
        *value = '\t';
        return 0;
    }
    if (strcmp(text, "none") == 0) {
        *value = '\0';
        return 0;
    }
    if (strlen(text) != 1) {
        return fm_config_error(fm_config_get(mapping, key), reterr,
                               "'%s' is one character, tab, or none; not '%s'", key, text);
    }
    *value = text[0];
    return 0;
}

/* What a file name says about its format, where the job does not. */
static int format_of_files(struct fm_job *job, const struct fm_config *input,
                           struct fm_error *reterr)
{
    const char *file = job->standard_input ? "-" : job->files != NULL ? job->files[0] : job->list;
    job->format = fm_source_format_of(file);
    return job->format != NULL
               ? 0
               : fm_config_error(input, reterr,
                                 "'columns' are of files that hold rows, and the name '%.200s' "
                                 "does not say in which format: add 'format'",
                                 file);
}

/* Records come one after the other there, so their format must be one that is read like that. */
static int check_standard_input(const struct fm_job *job, const struct fm_config *input,
                                struct fm_error *reterr)
{
    static const struct fm_source_format *const formats[] = {
        &fm_source_csv, &fm_source_tsv, &fm_source_jsonl, &fm_source_openai_batch};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (job->format == formats[i]) {
            return 0;
        }
    }
    return fm_config_error(input, reterr,
                           "the files '-' are the rows on standard input: say their 'format', "
                           "which may be csv, tsv, jsonl or openai_batch (a list of files on "
                           "standard input is 'list: -')");
}

/* --- Queries --- */

/* What the database's name says about who reads it. */
static enum fm_job_engine engine_of(const char *database)
{
    const char *ending = fm_path_extension(database);
    return strcmp(ending, ".duckdb") == 0 || strcmp(ending, ".ddb") == 0 ? FM_JOB_ENGINE_DUCKDB
                                                                         : FM_JOB_ENGINE_SQLITE;
}

static int read_query(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    static const char *const engines[] = {"sqlite", "duckdb", NULL};
    static const char *const others[] = {"database", "engine"};
    const char *query = NULL;
    int status = fm_config_string(input, "query", &query, reterr);
    for (size_t i = 0; status == 0 && query == NULL && i < 2; i++) {
        if (fm_config_get(input, others[i]) != NULL) {
            status = fm_config_error(fm_config_get(input, others[i]), reterr,
                                     "'%s' means something with 'query' only", others[i]);
        }
    }
    if (status != 0 || query == NULL) {
        return status;
    }
    status = read_path(job, input, "database", &job->database, reterr);
    if (status == 0 && job->database == NULL) {
        status = fm_config_error(input, reterr,
                                 "'query' needs 'database', the file of SQLite or DuckDB that it "
                                 "asks");
    }
    if (status == 0 && strspn(query, " \t\r\n;") == strlen(query)) {
        status = fm_config_error(fm_config_get(input, "query"), reterr, "'query' is empty");
    }
    int engine = status == 0 ? (int)engine_of(job->database) : 0;
    status = status != 0 ? status : fm_config_enum(input, "engine", engines, &engine, reterr);
    job->engine = (enum fm_job_engine)engine;
    job->query = status == 0 ? fm_arena_strdup(&job->arena, query) : NULL;
    return status == 0 && job->query == NULL ? no_memory(job, reterr) : status;
}

/* Rows of a query are in the form in which they were taken down. */
static int format_of_query(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    struct fm_config *format = fm_config_get(input, "format");
    job->format = job->engine == FM_JOB_ENGINE_DUCKDB ? &fm_source_parquet : &fm_source_query;
    return format != NULL ? fm_config_error(format, reterr,
                                            "'format' is of files, and the rows come from a query")
                          : read_columns(job, fm_config_get(input, "columns"), reterr);
}

static int read_format(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    const char *format = NULL;
    struct fm_error unknown = {0};
    struct fm_config *columns = fm_config_get(input, "columns");
    if (job->query != NULL) {
        return format_of_query(job, input, reterr);
    }
    int status = fm_config_string(input, "format", &format, reterr);
    if (status == 0 && format != NULL && strcmp(format, "files") != 0 &&
        fm_source_format_find(format, &job->format, &unknown) != 0) {
        return fm_config_error(fm_config_get(input, "format"), reterr,
                               "%s, and 'files': each file is a row", unknown.text);
    }
    if (status == 0 && format == NULL && columns != NULL) {
        status = format_of_files(job, input, reterr);
    }
    status = status != 0 ? status : read_columns(job, columns, reterr);
    if (status == 0 && job->format == NULL && columns != NULL) {
        status = fm_config_error(columns, reterr, "'columns' mean nothing where a file is a row");
    }
    return status == 0 && job->standard_input ? check_standard_input(job, input, reterr) : status;
}

static int read_records(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    const char *id = NULL;
    struct fm_error bad = {0};
    int status = read_format(job, input, reterr);
    if (status != 0 || job->format == NULL) {
        return status;
    }
    if (job->tensor != NULL) {
        return fm_config_error(fm_config_get(input, "tensor"), reterr,
                               "'tensor' is for files that are a row each: say 'columns'");
    }
    bool tabs = strcmp(job->format->name, "tsv") == 0;
    status = fm_config_string(input, "id", &id, reterr);
    if (status == 0 && job->format == &fm_source_openai_batch) {
        if (id != NULL) {
            return fm_config_error(fm_config_get(input, "id"), reterr,
                                   "requests of an OpenAI batch have their " FM_REQUEST_LINE_ID
                                   " for an id: leave 'id' out");
        }
        id = FM_REQUEST_LINE_ID;
    }
    if (status == 0 && id != NULL && (job->id_column = fm_arena_strdup(&job->arena, id)) == NULL) {
        status = no_memory(job, reterr);
    }
    if (strcmp(job->format->name, "csv") == 0 || tabs) {
        job->csv =
            (struct fm_csv_options){.delimiter = tabs ? '\t' : ',', .quote = tabs ? '\0' : '"'};
        status =
            status != 0 ? status : read_character(input, "delimiter", &job->csv.delimiter, reterr);
        status = status != 0 ? status : read_character(input, "quote", &job->csv.quote, reterr);
        status = status != 0 ? status : fm_config_bool(input, "header", &job->csv_header, reterr);
        if (status == 0 && fm_csv_options_check(&job->csv, &bad) != 0) {
            status = fm_config_error(input, reterr, "%s", bad.text);
        }
    }
    return status;
}

static int read_base(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    const char *text = NULL;
    int status = fm_config_string(input, "base", &text, reterr);
    bool is_address = status == 0 && text != NULL && fm_object_is_address(text);
    return status != 0  ? status
           : is_address ? read_address(job, fm_config_get(input, "base"), &job->base, reterr)
                        : read_path(job, input, "base", &job->base, reterr);
}

/* How inputs behind addresses are got. */
static int read_transfers(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    int64_t requests = job->requests;
    int status = fm_config_int(input, "requests", 1, FM_JOB_REQUESTS_MAX, &requests, reterr);
    status =
        status != 0 ? status : fm_config_duration_ns(input, "stall_time", &job->stall_ns, reterr);
    status = status != 0 ? status : read_path(job, input, "ca", &job->ca_file, reterr);
    status =
        status != 0 ? status : read_path(job, input, "headers_file", &job->headers_file, reterr);
    if (status == 0 && job->stall_ns < FM_JOB_STALL_MIN_NS) {
        status = fm_config_error(fm_config_get(input, "stall_time"), reterr,
                                 "'stall_time' must be 1s or more");
    }
    job->requests = (uint32_t)requests;
    return status;
}

/* Formats are read at any place of a file, which what is behind an address is not. */
static int check_addresses(const struct fm_job *job, const struct fm_config *input,
                           struct fm_error *reterr)
{
    bool any = job->base != NULL && fm_object_is_address(job->base);
    for (size_t i = 0; job->files != NULL && job->files[i] != NULL; i++) {
        any = any || fm_object_is_address(job->files[i]);
    }
    return any && job->format != NULL
               ? fm_config_error(input, reterr,
                                 "files that hold rows ('%s') are read from a file system, not "
                                 "from an address: fetch them first",
                                 job->format->name)
               : 0;
}

static int read_priority(struct fm_job *job, struct fm_config *input, struct fm_error *reterr)
{
    struct fm_config *node = fm_config_get(input, "priority");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    bool many = node->kind == FM_CONFIG_SEQUENCE;
    size_t count = many ? node->count : 1;
    if (fm_job_is_spooled(job)) {
        return fm_config_error(node, reterr, "'priority' is of files, and there are none");
    }
    if (count == 0 || count > FM_LEDGER_RANK_LAST) {
        return fm_config_error(node, reterr,
                               "'priority' is a pattern, or a list of 1 to %u of them: what the "
                               "first one matches is done first",
                               FM_LEDGER_RANK_LAST);
    }
    job->priority = fm_arena_alloc(&job->arena, count * sizeof(*job->priority));
    if (job->priority == NULL) {
        return no_memory(job, reterr);
    }
    for (size_t i = 0; i < count; i++) {
        const struct fm_config *child = many ? &node->children[i] : node;
        int status = fm_config_expect(child, FM_CONFIG_SCALAR, reterr);
        if (status == 0 && child->text[0] == '\0') {
            status = fm_config_error(child, reterr, "an empty pattern in 'priority'");
        }
        for (size_t k = 0; k < i && status == 0; k++) {
            status =
                strcmp(job->priority[k], child->text) == 0
                    ? fm_config_error(child, reterr, "'priority' names '%.200s' twice", child->text)
                    : 0;
        }
        if (status != 0) {
            return status;
        }
        job->priority[i] = fm_arena_strdup(&job->arena, child->text);
        if (job->priority[i] == NULL) {
            return no_memory(job, reterr);
        }
    }
    job->priority_count = (uint32_t)count;
    return 0;
}

static int read_input(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    struct fm_config *input = NULL;
    const char *list = NULL;
    int status = fm_config_require(root, "input", &input, reterr);
    status = status != 0 ? status : fm_config_expect(input, FM_CONFIG_MAPPING, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_config *files = fm_config_get(input, "files");
    status = fm_config_string(input, "list", &list, reterr);
    status = status != 0 ? status : read_query(job, input, reterr);
    if (status == 0 && (files != NULL) + (list != NULL) + (job->query != NULL) != 1) {
        status = fm_config_error(input, reterr,
                                 "'input' needs exactly one of 'files', 'list' and 'query'");
    }
    if (status == 0 && files != NULL) {
        status = read_files(job, files, reterr);
    } else if (status == 0 && list != NULL && strcmp(list, "-") == 0) {
        job->list = "-";
    } else if (status == 0) {
        status = read_path(job, input, "list", &job->list, reterr);
    }
    if (status == 0 && fm_job_is_spooled(job) && fm_config_get(input, "base") != NULL) {
        status = fm_config_error(fm_config_get(input, "base"), reterr,
                                 "'base' is of files, and there are none");
    }
    status = status != 0 ? status : read_priority(job, input, reterr);
    status = status != 0 ? status : read_base(job, input, reterr);
    status = status != 0 ? status : read_transfers(job, input, reterr);
    const char *tensor = NULL;
    status = status != 0 ? status : fm_config_string(input, "tensor", &tensor, reterr);
    if (status == 0 && tensor != NULL &&
        (job->tensor = fm_arena_strdup(&job->arena, tensor)) == NULL) {
        status = no_memory(job, reterr);
    }
    status = status != 0 ? status : read_records(job, input, reterr);
    status = status != 0 ? status : check_addresses(job, input, reterr);
    return status != 0 ? status : fm_config_finish(input, reterr);
}

static int read_passed(struct fm_job *job, struct fm_config *output, struct fm_error *reterr)
{
    struct fm_config *passed = fm_config_get(output, "passthrough");
    if (passed == NULL) {
        return 0;
    }
    if (job->format == NULL) {
        return fm_config_error(passed, reterr,
                               "'passthrough' is of columns, and each file is a row here");
    }
    int status = read_names(job, passed, &job->passed, &job->passed_count, reterr);
    for (uint32_t i = 0; status == 0 && i < job->passed_count; i++) {
        for (uint32_t k = 0; k < i && status == 0; k++) {
            status = strcmp(job->passed[k], job->passed[i]) == 0
                         ? fm_config_error(passed, reterr, "'passthrough' names '%s' twice",
                                           job->passed[i])
                         : 0;
        }
    }
    return status;
}

static int read_sink(struct fm_job *job, struct fm_config *output, struct fm_error *reterr)
{
    const char *format = NULL;
    const char *compression = NULL;
    struct fm_error unknown = {0};
    int status = fm_config_string(output, "format", &format, reterr);
    status = status != 0 ? status : fm_config_string(output, "compression", &compression, reterr);
    if (status == 0 && format != NULL && fm_sink_find(format, &job->sink, &unknown) != 0) {
        return fm_config_error(fm_config_get(output, "format"), reterr, "%s", unknown.text);
    }
    job->compression = job->sink->compressions[0];
    if (status == 0 && compression != NULL &&
        fm_sink_compression(&job->sink, compression, &job->compression, &unknown) != 0) {
        return fm_config_error(fm_config_get(output, "compression"), reterr, "%s", unknown.text);
    }
    return status;
}

/* What an OpenAI batch answers with. */
static int read_answers(struct fm_job *job, struct fm_config *output, struct fm_error *reterr)
{
    static const char *const passed[] = {FM_REQUEST_LINE_MODEL};
    const char *embedding = NULL;
    int status = fm_config_string(output, "embedding", &embedding, reterr);
    if (status != 0) {
        return status;
    }
    if (!job->sink->answers) {
        return embedding == NULL ? 0
                                 : fm_config_error(fm_config_get(output, "embedding"), reterr,
                                                   "'embedding' means something with 'format: "
                                                   "openai_batch' only");
    }
    if (job->passed_count > 0) {
        return fm_config_error(fm_config_get(output, "passthrough"), reterr,
                               "the answers of an OpenAI batch have no place for columns that are "
                               "passed through");
    }
    if (job->timings) {
        return fm_config_error(output, reterr,
                               "the answers of an OpenAI batch have no place for 'timings'");
    }
    if (embedding == NULL) {
        return 0;
    }
    job->embedding = fm_arena_strdup(&job->arena, embedding);
    if (job->format == &fm_source_openai_batch) {
        job->passed = fm_arena_alloc(&job->arena, sizeof(passed));
        job->passed_count = job->passed != NULL ? 1 : 0;
    }
    if (job->passed_count > 0) {
        memcpy(job->passed, passed, sizeof(passed));
    }
    return job->embedding != NULL &&
                   (job->passed_count > 0 || job->format != &fm_source_openai_batch)
               ? 0
               : no_memory(job, reterr);
}

static int read_output(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    static const char *const bytes_names[] = {"text", "base64", NULL};
    struct fm_config *output = NULL;
    int bytes = FM_JOB_BYTES_TEXT;
    int status = fm_config_require(root, "output", &output, reterr);
    if (status == 0 && output->kind == FM_CONFIG_SCALAR && output->text[0] == '\0') {
        return fm_config_error(output, reterr,
                               "'output' is empty: name the directory where the results go");
    }
    if (status == 0 && output->kind == FM_CONFIG_SCALAR) {
        status = check_path(output, "output", output->text, reterr);
        return status != 0 ? status : resolve(job, output, output->text, &job->output, reterr);
    }
    status = status != 0 ? status : fm_config_expect(output, FM_CONFIG_MAPPING, reterr);
    status = status != 0 ? status : read_path(job, output, "directory", &job->output, reterr);
    if (status == 0 && job->output == NULL) {
        status = fm_config_error(output, reterr, "missing key 'directory': where the results go");
    }
    status = status != 0 ? status : read_sink(job, output, reterr);
    status = status != 0 ? status : fm_config_enum(output, "bytes", bytes_names, &bytes, reterr);
    job->timings = job->timings && !job->sink->answers;
    status = status != 0 ? status : fm_config_bool(output, "timings", &job->timings, reterr);
    status = status != 0 ? status : read_passed(job, output, reterr);
    status = status != 0 ? status : read_answers(job, output, reterr);
    job->bytes = (enum fm_job_bytes)bytes;
    return status != 0 ? status : fm_config_finish(output, reterr);
}

static int read_limits(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    int64_t max_rows = -1;
    int64_t min_sample = (int64_t)job->errors_min_sample;
    struct fm_config *errors = fm_config_get(root, "errors");
    struct fm_config *limits = fm_config_get(root, "limits");
    int status = fm_config_int(errors, "max_rows", 0, INT64_MAX, &max_rows, reterr);
    status = status != 0
                 ? status
                 : fm_config_double(errors, "max_ratio", 0, 1, &job->errors_max_ratio, reterr);
    status = status != 0 ? status
                         : fm_config_int(errors, "min_sample", 1, INT64_MAX, &min_sample, reterr);
    status = status != 0 || errors == NULL ? status : fm_config_finish(errors, reterr);
    status =
        status != 0 ? status : fm_config_bytes(limits, "file_bytes", &job->file_bytes_max, reterr);
    status = status != 0 ? status
                         : fm_config_bytes(limits, "record_bytes", &job->record_bytes_max, reterr);
    status = status != 0 ? status
                         : fm_config_duration_ns(limits, "stage_time", &job->stage_time_ns, reterr);
    status = status != 0 ? status
                         : fm_config_duration_ns(limits, "begin_time", &job->begin_time_ns, reterr);
    status = status != 0 || limits == NULL ? status : fm_config_finish(limits, reterr);
    if (status == 0 && job->stage_time_ns > 0 && job->stage_time_ns < FM_JOB_STAGE_TIME_MIN_NS) {
        status = fm_config_error(fm_config_get(limits, "stage_time"), reterr,
                                 "'stage_time' must be 100ms or more, or 0 for no limit");
    }
    if (status == 0 && job->begin_time_ns > 0 && job->begin_time_ns < FM_JOB_BEGIN_TIME_MIN_NS) {
        status = fm_config_error(fm_config_get(limits, "begin_time"), reterr,
                                 "'begin_time' must be 1s or more, or 0 for no limit");
    }
    if (status == 0 && (job->record_bytes_max == 0 || job->record_bytes_max > UINT32_MAX - 16)) {
        status = fm_config_error(limits, reterr, "'record_bytes' must be from 1 byte to 4 GiB");
    }
    if (status == 0 && (job->file_bytes_max == 0 || job->file_bytes_max > UINT32_MAX - 16)) {
        status = fm_config_error(limits, reterr, "'file_bytes' must be from 1 byte to 4 GiB");
    }
    job->errors_max_rows = max_rows < 0 ? UINT64_MAX : (uint64_t)max_rows;
    job->errors_min_sample = (uint64_t)min_sample;
    return status;
}

static int read_notify(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    struct fm_config *notify = fm_config_get(root, "notify");
    const char *webhook = NULL;
    int status = fm_config_string(notify, "webhook", &webhook, reterr);
    status = status != 0 || notify == NULL ? status : fm_config_finish(notify, reterr);
    if (status == 0 && webhook != NULL) {
        job->webhook = fm_arena_strdup(&job->arena, webhook);
        status = job->webhook == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", job->file)
                     : 0;
    }
    return status;
}

static int read_workers(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    struct fm_config *workers = fm_config_get(root, "workers");
    int64_t nice_value = 0;
    if (workers != NULL && workers->kind == FM_CONFIG_SCALAR && !fm_config_is_empty(workers)) {
        return fm_config_error(workers, reterr,
                               "'workers' holds what each worker may take, as 'memory: 2GiB'; how "
                               "many there are is not the job's: --workers %.40s",
                               workers->text);
    }
    int status = fm_config_bytes(workers, "memory", &job->worker_memory_bytes, reterr);
    status = status != 0 ? status
                         : fm_config_bytes(workers, "memory_budget", &job->memory_budget, reterr);
    status = status != 0 ? status : fm_config_int(workers, "nice", 0, 19, &nice_value, reterr);
    job->worker_nice = (uint32_t)nice_value;
    status = status != 0 || workers == NULL ? status : fm_config_finish(workers, reterr);
    if (status == 0 && job->memory_budget > 0 && job->memory_budget < FM_MEMORY_BUDGET_MIN) {
        status = fm_config_error(fm_config_get(workers, "memory_budget"), reterr,
                                 "'memory_budget' must be 1MiB or more, or 0 for none");
    }
    if (status == 0 && job->worker_memory_bytes > 0 &&
        job->worker_memory_bytes < FM_JOB_MEMORY_MIN) {
        status = fm_config_error(fm_config_get(workers, "memory"), reterr,
                                 "'memory' must be 64MiB or more, or 0 for no limit");
    }
    return status;
}

static int read_stage_groups(struct fm_job *job, const struct fm_config *stages,
                             struct fm_error *reterr)
{
    if (stages == NULL || stages->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(stages, FM_CONFIG_MAPPING, reterr);
    if (status == 0 && stages->count > FM_PIPELINE_STAGES_MAX) {
        status = fm_config_error(stages, reterr, "more than %d stages", FM_PIPELINE_STAGES_MAX);
    }
    if (status != 0) {
        return status;
    }
    struct fm_stage_groups *groups =
        fm_arena_alloc(&job->arena, (stages->count + 1) * sizeof(*groups));
    if (groups == NULL) {
        return no_memory(job, reterr);
    }
    for (size_t i = 0; i < stages->count && status == 0; i++) {
        const struct fm_config *child = &stages->children[i];
        groups[i] =
            (struct fm_stage_groups){.stage = fm_arena_strdup(&job->arena, stages->keys[i])};
        status = groups[i].stage == NULL
                     ? no_memory(job, reterr)
                     : fm_stage_groups_read(child, &job->arena, &groups[i], reterr);
        if (status == 0 && groups[i].name_count == 0) {
            status = fm_config_error(child, reterr, "name the accelerators of stage '%s'",
                                     groups[i].stage);
        }
    }
    job->stage_groups = groups;
    job->stage_group_count = (uint32_t)stages->count;
    return status;
}

int fm_job_accelerators_set(struct fm_job *job, const char *text, struct fm_error *reterr)
{
    uint32_t total = 0;
    int status = fm_accelerator_groups_parse(text, job->groups, &job->group_count, reterr);
    for (uint32_t i = 0; i < job->group_count && status == 0; i++) {
        total += job->groups[i].accelerators;
    }
    return total > FM_FLOW_ACCELERATORS_MAX
               ? fm_error_set(reterr, FM_EINVAL,
                              "these are %" PRIu32 " accelerators, and a worker may have %d", total,
                              FM_FLOW_ACCELERATORS_MAX)
               : status;
}

/* "front=emulated:1,back=emulated:2", or {groups: ..., stages: {detect: front}}. */
static int read_accelerators(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    struct fm_config *node = fm_config_get(root, "accelerators");
    struct fm_config *groups = node;
    struct fm_error bad = {0};
    int status = 0;
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    if (node->kind != FM_CONFIG_SCALAR) {
        status = fm_config_expect(node, FM_CONFIG_MAPPING, reterr);
        status = status != 0 ? status : fm_config_require(node, "groups", &groups, reterr);
        status =
            status != 0 ? status : read_stage_groups(job, fm_config_get(node, "stages"), reterr);
        status = status != 0 ? status : fm_config_finish(node, reterr);
        status = status != 0 ? status : fm_config_expect(groups, FM_CONFIG_SCALAR, reterr);
    }
    if (status == 0 && fm_job_accelerators_set(job, groups->text, &bad) != 0) {
        status = fm_config_error(groups, reterr, "%s", bad.text);
    }
    return status;
}

static int read_finish_by(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    struct fm_error bad = {0};
    const char *text = NULL;
    int status = fm_config_string(root, "finish_by", &text, reterr);
    if (status == 0 && text != NULL && fm_finish_by_parse(text, &job->finish_by, &bad) != 0) {
        status = fm_config_error(fm_config_get(root, "finish_by"), reterr, "%s", bad.text);
    }
    return status;
}

static int read_sizes(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    int64_t shard_rows = 0;
    int64_t rows_in_flight = 0;
    int64_t read_threads = job->read_threads;
    int64_t operator_threads = 0;
    int64_t max_batch_size = job->format != NULL ? BATCH_OF_ROWS : 0;
    int status = fm_config_int(root, "shard_rows", 0, FM_JOB_SHARD_ROWS_MAX, &shard_rows, reterr);
    status = status != 0 ? status
                         : fm_config_int(root, "rows_in_flight", 0, FM_JOB_ROWS_IN_FLIGHT_MAX,
                                         &rows_in_flight, reterr);
    status = status != 0 ? status
                         : fm_config_bytes(root, "bytes_in_flight", &job->bytes_in_flight, reterr);
    status = status != 0 ? status
                         : fm_config_int(root, "read_threads", 0, FM_JOB_READ_THREADS_MAX,
                                         &read_threads, reterr);
    status = status != 0
                 ? status
                 : fm_config_int(root, "operator_threads", 0, 256, &operator_threads, reterr);
    status = status != 0 ? status
                         : fm_config_int(root, "max_batch_size", 1, FM_JOB_BATCH_MAX,
                                         &max_batch_size, reterr);
    job->shard_rows = (uint64_t)shard_rows;
    job->max_batch_size = (uint32_t)max_batch_size;
    job->rows_in_flight = (uint32_t)rows_in_flight;
    job->read_threads = (uint32_t)read_threads;
    job->operator_threads = (uint32_t)operator_threads;
    return status;
}

static int read_root(struct fm_job *job, struct fm_config *root, struct fm_error *reterr)
{
    struct fm_config *pipeline = NULL;
    const char *name = NULL;
    int status = fm_config_expect(root, FM_CONFIG_MAPPING, reterr);
    status = status != 0 ? status : fm_config_string(root, "name", &name, reterr);
    status = status != 0 ? status : fm_config_require(root, "pipeline", &pipeline, reterr);
    status = status != 0 ? status : read_path(job, root, "pipeline", &job->pipeline, reterr);
    status = status != 0 ? status : read_input(job, root, reterr);
    job->timings = job->format == NULL; /* they would be most of a small row's line */
    status = status != 0 ? status : read_output(job, root, reterr);
    status = status != 0 ? status : read_sizes(job, root, reterr);
    status = status != 0 ? status : read_limits(job, root, reterr);
    status = status != 0 ? status : read_notify(job, root, reterr);
    status = status != 0 ? status : read_workers(job, root, reterr);
    status = status != 0 ? status : read_finish_by(job, root, reterr);
    status = status != 0 ? status : read_accelerators(job, root, reterr);
    status = status != 0 ? status : fm_config_finish(root, reterr);
    if (status == 0 && job->pipeline == NULL) {
        status = fm_config_error(pipeline, reterr, "'pipeline' is empty");
    }
    if (status == 0) {
        job->name = fm_arena_strdup(&job->arena, name != NULL ? name : fm_path_base(job->file));
        status =
            job->name != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", job->file);
    }
    return status;
}

bool fm_job_is_spooled(const struct fm_job *job)
{
    return job->standard_input || job->query != NULL;
}

int fm_job_load(const char *path, struct fm_job *ret_job, struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    struct fm_job job = {
        .bytes_in_flight = 256u << 20,
        .memory_budget = FM_MEMORY_BUDGET_UNSAID,
        .requests = 32,
        .stall_ns = UINT64_C(30000000000),
        .errors_max_rows = UINT64_MAX,
        .errors_max_ratio = 0.5,
        .errors_min_sample = 50,
        .file_bytes_max = 64u << 20,
        .csv_header = true,
        .sink = fm_sinks[0],
        .compression = fm_sinks[0]->compressions[0],
        .record_bytes_max = 16u << 20,
        .begin_time_ns = FM_JOB_BEGIN_TIME_NS,
    };
    int status = fm_config_load(path, &root, reterr);
    if (status != 0) {
        return status;
    }
    fm_arena_init(&job.arena, 0);
    job.file = fm_arena_strdup(&job.arena, path);
    status = job.file == NULL ? fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", path)
                              : read_root(&job, root, reterr);
    fm_config_free(root);
    if (status != 0) {
        fm_arena_deinit(&job.arena);
        return status;
    }
    *ret_job = job;
    return 0;
}

void fm_job_deinit(struct fm_job *job)
{
    fm_arena_deinit(&job->arena);
    *job = (struct fm_job){0};
}
