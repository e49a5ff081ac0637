/*
 * Rows that are taken down. See spool.h.
 */
#include "engines/batch/spool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/batch/file_sum.h"
#include "engines/batch/output.h"
#include "host/os/file.h"
#include "host/os/file_reader.h"
#include "host/os/stop_signal.h"
#include "host/source/query_spool.h"

enum { PIECE = 1 << 18 };

/* What a copy is called until it is whole: of standard input FM_OUTPUT_SPOOL_STDIN_PART. */
#define PART ".part"

/* What ids of rows without one begin with. */
static const char *name_of(const struct fm_job *job)
{
    return job->query != NULL ? FM_OUTPUT_SPOOL_QUERY : FM_OUTPUT_SPOOL_STDIN;
}

static int path_of(const struct fm_spool *spool, const struct fm_job *job, char *ret_path,
                   size_t size, struct fm_error *reterr)
{
    return fm_path_join(ret_path, size, spool->folder, name_of(job)) == 0
               ? 0
               : fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long",
                              spool->folder);
}

/* --- Taking down --- */

/* Pieces of another file, or (NULL) of standard input. */
static int pieces_copy(const struct fm_spool_options *options, const struct fm_file_reader *from,
                       struct fm_file_writer *writer, struct fm_error *reterr)
{
    size_t got = PIECE;
    char *piece = fm_alloc(PIECE);
    int status =
        piece != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "out of memory for '%s'", writer->path);
    for (uint64_t offset = 0; status == 0 && got > 0; offset += got) {
        status = from != NULL ? fm_file_reader_read_at(from, offset, piece, PIECE, &got, reterr)
                              : fm_file_stdin_take(piece, PIECE, &got, reterr);
        status = status != 0 ? status : fm_file_writer_append(writer, piece, got, reterr);
        status = status != 0 ? status : fm_fault_hit(options->fault, FM_FAULT_TAKING_DOWN, reterr);
    }
    fm_free(piece);
    return status;
}

/* The file has its name when it is whole, and on the disk: what has it after a crash can be used.
 */
static int copy(const struct fm_spool_options *options, const char *from, const char *path,
                struct fm_error *reterr)
{
    char part[2 * FM_LISTING_ID_MAX + sizeof(PART)];
    struct fm_file_reader reader = {0};
    struct fm_file_writer writer = {0};
    (void)snprintf(part, sizeof(part), "%s" PART, path);
    int status = from != NULL ? fm_file_reader_open(&reader, from, reterr) : 0;
    status = status != 0          ? status
             : options->temporary ? fm_file_writer_open_private(&writer, part, reterr)
                                  : fm_file_writer_open(&writer, part, reterr);
    status =
        status != 0 ? status : pieces_copy(options, from != NULL ? &reader : NULL, &writer, reterr);
    status = status != 0 ? status : fm_file_writer_commit(&writer, reterr);
    fm_file_writer_abandon(&writer);
    fm_file_reader_close(&reader);
    return status != 0 ? status : fm_file_rename(part, path, reterr);
}

static int retry_copy(const struct fm_spool_options *options, const char *path,
                      struct fm_error *reterr)
{
    char from[FM_LISTING_ID_MAX];
    struct fm_file_facts facts = {0};
    char name[32];
    (void)snprintf(name, sizeof(name), FM_OUTPUT_SPOOL "/%s", name_of(options->job));
    int status = fm_output_state_path(options->retry, name, from, sizeof(from), reterr);
    status = status != 0 ? status : fm_file_stat(from, &facts, reterr);
    if (status == 0 && facts.kind != FM_FILE_REGULAR) {
        status = fm_error_set(reterr, FM_ENOTFOUND,
                              "'%s' holds no rows of such a job, which its dead letters could be "
                              "read from",
                              options->retry);
    }
    return status != 0 ? status : copy(options, from, path, reterr);
}

static int query_run(const struct fm_spool_options *options, const char *path,
                     struct fm_error *reterr)
{
    const struct fm_job *job = options->job;
    const struct fm_query query = {
        .database = job->database, .sql = job->query, .rows_max = options->rows_max};
    int status = job->engine == FM_JOB_ENGINE_DUCKDB ? fm_query_duckdb_spool(&query, path, reterr)
                                                     : fm_query_sqlite_spool(&query, path, reterr);
    status = status != 0 ? fm_error_prefix(reterr, status, "%s: input.query", job->file)
                         : fm_file_sync(path, reterr);
    return status;
}

static int rows_take(const struct fm_spool *spool, const struct fm_spool_options *options,
                     struct fm_error *reterr)
{
    char path[2 * FM_LISTING_ID_MAX];
    /* A temporary directory is there, for nobody else to enter. */
    int status = options->temporary ? 0 : fm_file_remove_tree(spool->folder, reterr);
    status = status != 0 || options->temporary ? status
                                               : fm_file_make_directories(spool->folder, reterr);
    status = status != 0 ? status : path_of(spool, options->job, path, sizeof(path), reterr);
    if (status != 0) {
        return status;
    }
    fm_stop_signal_folder(spool->folder);
    status = options->retry != NULL        ? retry_copy(options, path, reterr)
             : options->job->query != NULL ? query_run(options, path, reterr)
                                           : copy(options, NULL, path, reterr);
    status = status != 0 ? status : fm_file_sync_directory(spool->folder, reterr);
    if (status == 0 && !options->temporary) {
        /* They can be had once only: from here on a signal leaves them for --resume. */
        fm_stop_signal_folder(NULL);
    }
    return status != 0 ? status : fm_fault_hit(options->fault, FM_FAULT_TAKEN_DOWN, reterr);
}

/* --- Where it lies --- */

static int other_rows(const struct fm_spool_options *options, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ECORRUPT,
                        "the rows in '%s' are not those the job was begun with: put "
                        ".fermata/" FM_OUTPUT_SPOOL " back, or --restart begins the job anew",
                        options->job->output);
}

/* Whether there are rows that a start has taken down whole, and that was cut short before the job
 * had begun with them. */
static int taken_look(const struct fm_spool *spool, const struct fm_spool_options *options,
                      bool *ret_taken, struct fm_error *reterr)
{
    char path[2 * FM_LISTING_ID_MAX];
    struct fm_file_facts facts = {0};
    int status = path_of(spool, options->job, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    *ret_taken = status == 0 && facts.kind == FM_FILE_REGULAR && facts.size > 0;
    return status;
}

/* *ret_there: they are where they stay; spool->taken: they are where they do not stay yet. */
static int places_choose(struct fm_spool *spool, const struct fm_spool_options *options,
                         bool *ret_there, struct fm_error *reterr)
{
    char path[2 * FM_LISTING_ID_MAX];
    struct fm_file_facts facts = {0};
    const char *output = options->job->output;
    if (options->temporary) {
        return fm_file_make_temporary("fermata-rows", spool->folder, sizeof(spool->folder), reterr);
    }
    int status =
        fm_output_state_path(output, FM_OUTPUT_SPOOL, spool->folder, sizeof(spool->folder), reterr);
    status = status != 0 ? status : path_of(spool, options->job, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    *ret_there = status == 0 && facts.kind == FM_FILE_REGULAR &&
                 (options->recorded != NULL ||
                  (options->resumes && options->job->standard_input && options->retry == NULL));
    if (status == 0 && options->recorded != NULL && !*ret_there) {
        return other_rows(options, reterr);
    }
    if (status != 0 || *ret_there) {
        return status;
    }
    spool->output = output;
    status = fm_output_state_path(
        output, options->retry != NULL ? FM_OUTPUT_SPOOL_RETRY : FM_OUTPUT_SPOOL_NEW, spool->folder,
        sizeof(spool->folder), reterr);
    if (status == 0 && options->continues && options->job->standard_input &&
        options->retry == NULL) {
        status = taken_look(spool, options, &spool->taken, reterr);
    }
    return status;
}

int fm_spool_open(struct fm_spool *spool, const struct fm_spool_options *options,
                  struct fm_error *reterr)
{
    char path[2 * FM_LISTING_ID_MAX];
    bool there = false;
    uint64_t checksum = 0;
    uint64_t bytes = 0;
    int status = places_choose(spool, options, &there, reterr);
    if (status != 0) {
        return status;
    }
    spool->made = !there && !spool->taken;
    spool->settles = !there && !options->temporary;
    status = spool->made ? rows_take(spool, options, reterr) : 0;
    status = status != 0 ? status : path_of(spool, options->job, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_sum(path, &checksum, &bytes, reterr);
    (void)snprintf(spool->checksum, sizeof(spool->checksum), "%016" PRIx64, checksum);
    if (status == 0 && options->recorded != NULL &&
        strcmp(options->recorded, spool->checksum) != 0) {
        status = other_rows(options, reterr);
    }
    if (status != 0) {
        fm_spool_close(spool);
    }
    return status;
}

int fm_spool_list(const struct fm_spool *spool, const struct fm_job *job,
                  struct fm_listing *ret_listing, struct fm_error *reterr)
{
    char path[2 * FM_LISTING_ID_MAX];
    struct fm_file_facts facts = {0};
    *ret_listing = (struct fm_listing){0};
    int status = path_of(spool, job, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_listing_entry entry = {.id = name_of(job), .size = facts.size};
    (void)snprintf(ret_listing->base, sizeof(ret_listing->base), "%s", spool->folder);
    fm_arena_init(&ret_listing->arena, 0);
    if (fm_listing_add(ret_listing, &entry) != 0) {
        fm_listing_deinit(ret_listing);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
    }
    return 0;
}

int fm_spool_settle(struct fm_spool *spool, struct fm_error *reterr)
{
    char path[FM_LISTING_ID_MAX];
    if (!spool->settles) {
        return 0;
    }
    int status = fm_output_state_path(spool->output, FM_OUTPUT_SPOOL, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_remove_tree(path, reterr);
    status = status != 0 ? status : fm_file_rename(spool->folder, path, reterr);
    if (status != 0) {
        return status;
    }
    (void)snprintf(spool->folder, sizeof(spool->folder), "%s", path);
    spool->settles = false;
    spool->made = false; /* it is the job's now */
    status = fm_output_state_path(spool->output, ".", path, sizeof(path), reterr);
    return status != 0 ? status : fm_file_sync_directory(path, reterr);
}

void fm_spool_error(const struct fm_spool *spool, const struct fm_job *job, struct fm_error *error)
{
    char path[2 * FM_LISTING_ID_MAX + 1];
    char text[FM_ERROR_TEXT_SIZE];
    if (error == NULL || spool->folder[0] == '\0' ||
        path_of(spool, job, path, sizeof(path) - 1, NULL) != 0) {
        return;
    }
    /* "path: what is wrong"; what is wrong with the file itself, as a full disk, has quotes. */
    size_t length = strlen(path);
    (void)snprintf(path + length, 2, ":");
    const char *found = strstr(error->text, path);
    if (found != NULL) {
        (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(found - error->text), error->text,
                       job->query != NULL ? "the rows of the query" : "standard input",
                       found + length);
        (void)snprintf(error->text, sizeof(error->text), "%s", text);
    }
}

void fm_spool_close(struct fm_spool *spool)
{
    if (spool->made) {
        /* What is left is overwritten by the next one. */
        int ignored = fm_file_remove_tree(spool->folder, NULL);
        (void)ignored;
        fm_stop_signal_folder(NULL);
    }
    spool->made = false;
    spool->settles = false;
}
