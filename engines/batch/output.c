/*
 * The output directory. See output.h.
 */
#include "engines/batch/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "engines/batch/file_sum.h"
#include "engines/batch/part_name.h"
#include "host/os/os.h"

#define STATE_DIRECTORY  FM_OUTPUT_STATE_DIRECTORY
#define STAGE_DIRECTORY  FM_OUTPUT_STAGE_DIRECTORY
#define ERRORS_DIRECTORY FM_OUTPUT_ERRORS_DIRECTORY
#define LEDGER_FILE      FM_OUTPUT_LEDGER_FILE
#define DISCARD_MARK     "discarded"
#define MANIFEST_FILE    FM_OUTPUT_MANIFEST_FILE
#define MANIFEST_DRAFT   "manifest.tmp"
#define SUCCESS_FILE     FM_OUTPUT_SUCCESS_FILE

/* --- Names --- */

static int path_of(const char *directory, const char *folder, const char *name, char *ret_path,
                   struct fm_error *reterr)
{
    int length = folder != NULL
                     ? snprintf(ret_path, FM_OUTPUT_PATH_MAX, "%s/%s/%s", directory, folder, name)
                     : snprintf(ret_path, FM_OUTPUT_PATH_MAX, "%s/%s", directory, name);
    if (length < 0 || length >= FM_OUTPUT_PATH_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the path of the output directory '%.200s...' is too long", directory);
    }
    return 0;
}

static bool is_part_name(const char *name)
{
    uint64_t number = 0;
    const struct fm_sink *sink = NULL;
    return fm_part_name_read(name, &number, &sink);
}

/* In errors/: lines of JSON, whatever the results are. */
static bool is_letters_name(const char *name)
{
    uint64_t number = 0;
    const struct fm_sink *sink = NULL;
    return fm_part_name_read(name, &number, &sink) && sink == &fm_sink_jsonl;
}

int fm_output_state_path(const char *directory, const char *name, char *ret_path, size_t size,
                         struct fm_error *reterr)
{
    int length = snprintf(ret_path, size, "%s/" STATE_DIRECTORY "/%s", directory, name);
    if (length < 0 || (size_t)length >= size) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the path of the output directory '%.200s...' is too long", directory);
    }
    return 0;
}

/* --- The directory as a whole --- */

static int exists(const char *directory, const char *folder, const char *name, bool *ret_exists,
                  struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    int status = path_of(directory, folder, name, path, reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    *ret_exists = status == 0 && facts.kind != FM_FILE_ABSENT;
    return status;
}

/* Calls each(context, name) for the names in a folder (NULL: the directory itself). A folder that
 * is not there has none. */
static int names_each(const char *directory, const char *folder,
                      int (*each)(void *context, const char *name), void *context,
                      struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_list list;
    struct fm_file_facts facts = {0};
    int status = path_of(directory, NULL, folder != NULL ? folder : ".", path, reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    if (status != 0 || facts.kind != FM_FILE_DIRECTORY) {
        return status;
    }
    status = fm_file_list(path, &list, reterr);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < list.count && status == 0; i++) {
        status = each(context, list.names[i]);
    }
    fm_file_list_free(&list);
    return status;
}

static int result_note(void *context, const char *name)
{
    bool *found = context;
    *found = *found || is_part_name(name) || strcmp(name, SUCCESS_FILE) == 0 ||
             strcmp(name, MANIFEST_FILE) == 0;
    return 0;
}

int fm_output_has_results(const char *directory, bool *ret_results, struct fm_error *reterr)
{
    *ret_results = false;
    int status = names_each(directory, NULL, result_note, ret_results, reterr);
    return status != 0 ? status
                       : names_each(directory, ERRORS_DIRECTORY, result_note, ret_results, reterr);
}

int fm_output_look(const char *directory, enum fm_output_state *ret_state, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    bool discarded = false;
    bool ledger = false;
    int status = fm_file_stat(directory, &facts, reterr);
    *ret_state = FM_OUTPUT_EMPTY;
    if (status != 0 || facts.kind == FM_FILE_ABSENT) {
        return status;
    }
    if (facts.kind != FM_FILE_DIRECTORY) {
        return fm_error_set(reterr, FM_EEXIST,
                            "the output '%s' must be a directory, but something else has that name",
                            directory);
    }
    status = exists(directory, STATE_DIRECTORY, DISCARD_MARK, &discarded, reterr);
    status =
        status != 0 ? status : exists(directory, STATE_DIRECTORY, LEDGER_FILE, &ledger, reterr);
    if (status != 0 || discarded || ledger) {
        *ret_state = discarded ? FM_OUTPUT_DISCARDED : FM_OUTPUT_JOB;
        return status;
    }
    bool results = false;
    status = fm_output_has_results(directory, &results, reterr);
    *ret_state = results ? FM_OUTPUT_FOREIGN : FM_OUTPUT_EMPTY;
    return status;
}

/* Makes a directory and those above it that are missing, each with its name on the disk: what is
 * committed below must not vanish with a directory above. */
static int directories_make(const char *directory, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    char parent[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    size_t length = strlen(directory);
    int status = 0;
    for (size_t i = 1; i <= length && status == 0; i++) {
        if (directory[i] != '/' && directory[i] != '\0') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%.*s", (int)i, directory);
        status = fm_file_stat(path, &facts, reterr);
        if (status != 0 || facts.kind != FM_FILE_ABSENT) {
            continue;
        }
        status = fm_file_make_directories(path, reterr);
        if (status == 0 && fm_path_directory(parent, sizeof(parent), path) == 0) {
            status = fm_file_sync_directory(parent, reterr);
        }
    }
    /* Whatever has this name now: it must be a directory. */
    return status != 0 ? status : fm_file_make_directories(directory, reterr);
}

int fm_output_prepare(const char *directory, struct fm_error *reterr)
{
    static const char *const folders[] = {STATE_DIRECTORY, STAGE_DIRECTORY, ERRORS_DIRECTORY};
    char path[FM_OUTPUT_PATH_MAX];
    int status = path_of(directory, NULL, MANIFEST_FILE, path, reterr);
    status = status != 0 ? status : directories_make(directory, reterr);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]) && status == 0; i++) {
        status = path_of(directory, NULL, folders[i], path, reterr);
        status = status != 0 ? status : fm_file_make_directories(path, reterr);
    }
    return status != 0 ? status : fm_file_sync_directory(directory, reterr);
}

static int remove_one(const char *directory, const char *folder, const char *name,
                      struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    int status = path_of(directory, folder, name, path, reterr);
    return status != 0 ? status : fm_file_remove(path, reterr);
}

struct remover {
    const char *directory;
    const char *folder;
    bool (*ours)(const char *name);
    struct fm_error *reterr;
};

static int remove_ours(void *context, const char *name)
{
    const struct remover *remover = context;
    return remover->ours(name)
               ? remove_one(remover->directory, remover->folder, name, remover->reterr)
               : 0;
}

/* Removes the files of a folder (NULL: the directory itself) whose names are a job's, for good. */
static int remove_where(const char *directory, const char *folder, bool (*ours)(const char *name),
                        struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    struct remover remover = {
        .directory = directory, .folder = folder, .ours = ours, .reterr = reterr};
    int status = names_each(directory, folder, remove_ours, &remover, reterr);
    status = status != 0 ? status
                         : path_of(directory, NULL, folder != NULL ? folder : ".", path, reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    return status != 0 || facts.kind != FM_FILE_DIRECTORY ? status
                                                          : fm_file_sync_directory(path, reterr);
}

static bool ours_in_stage(const char *name)
{
    uint64_t number = 0;
    uint64_t epoch = 0;
    const struct fm_sink *sink = NULL;
    return fm_attempt_name_read(name, &number, &epoch, &sink);
}

static bool ours_in_state(const char *name)
{
    return strncmp(name, "inputs-", 7) == 0 || strncmp(name, "rows-", 5) == 0 ||
           strcmp(name, FM_OUTPUT_HISTORY_FILE) == 0 || strcmp(name, MANIFEST_DRAFT) == 0 ||
           strncmp(name, LEDGER_FILE, strlen(LEDGER_FILE)) == 0;
}

int fm_output_reopen(const char *directory, struct fm_error *reterr)
{
    int status = remove_one(directory, NULL, SUCCESS_FILE, reterr);
    status = status != 0 ? status : remove_one(directory, NULL, MANIFEST_FILE, reterr);
    return status != 0 ? status : fm_file_sync_directory(directory, reterr);
}

int fm_output_discard(const char *directory, struct fm_fault *fault, struct fm_error *reterr)
{
    char mark[FM_OUTPUT_PATH_MAX];
    char spool[FM_OUTPUT_PATH_MAX];
    int status = path_of(directory, STATE_DIRECTORY, DISCARD_MARK, mark, reterr);
    status = status != 0 ? status : fm_file_write_atomic(mark, "", 0, reterr);
    status = status != 0 ? status : fm_output_reopen(directory, reterr);
    status = status != 0 ? status : fm_fault_hit(fault, FM_FAULT_DISCARDING, reterr);
    status = status != 0 ? status : remove_where(directory, NULL, is_part_name, reterr);
    status =
        status != 0 ? status : remove_where(directory, ERRORS_DIRECTORY, is_letters_name, reterr);
    status = status != 0 ? status : remove_where(directory, STAGE_DIRECTORY, ours_in_stage, reterr);
    status = status != 0 ? status : remove_where(directory, STATE_DIRECTORY, ours_in_state, reterr);
    status =
        status != 0 ? status : path_of(directory, STATE_DIRECTORY, FM_OUTPUT_SPOOL, spool, reterr);
    status = status != 0 ? status : fm_file_remove_tree(spool, reterr);
    status = status != 0 ? status : fm_file_remove(mark, reterr);
    return status != 0 ? status : fm_file_sync_directory(directory, reterr);
}

/* --- Attempts --- */

int fm_attempt_open(struct fm_attempt *attempt, const char *directory,
                    const struct fm_row_format *format, uint64_t number, uint64_t epoch,
                    struct fm_error *reterr)
{
    char name[FM_PART_NAME_SIZE];
    char path[FM_OUTPUT_PATH_MAX];
    *attempt = (struct fm_attempt){.directory = directory,
                                   .sink = format->sink,
                                   .number = number,
                                   .epoch = epoch,
                                   .letters_checksum = FM_HASH_START};
    fm_attempt_name(number, epoch, format->sink, name);
    int status = path_of(directory, STAGE_DIRECTORY, name, path, reterr);
    return status != 0 ? status : format->sink->open(format, path, &attempt->part, reterr);
}

static int letters_open(struct fm_attempt *attempt, struct fm_error *reterr)
{
    char name[FM_PART_NAME_SIZE];
    char path[FM_OUTPUT_PATH_MAX];
    fm_attempt_name(attempt->number, attempt->epoch, NULL, name);
    int status = path_of(attempt->directory, STAGE_DIRECTORY, name, path, reterr);
    return status != 0 ? status : fm_file_writer_open(&attempt->letters, path, reterr);
}

int fm_attempt_append_sealed(struct fm_attempt *attempt, uint64_t rows, const char *sealed,
                             size_t size, struct fm_error *reterr)
{
    attempt->rows_out += rows;
    return attempt->sink->append_sealed(attempt->part, sealed, size, reterr);
}

int fm_attempt_append(struct fm_attempt *attempt, bool good, uint64_t rows, const char *data,
                      size_t size, struct fm_error *reterr)
{
    int status = 0;
    if (good) {
        attempt->rows_out += rows;
        return attempt->sink->append(attempt->part, data, size, reterr);
    }
    if (!attempt->letters.open) {
        status = letters_open(attempt, reterr);
    }
    status = status != 0 ? status : fm_file_writer_append(&attempt->letters, data, size, reterr);
    attempt->letters_checksum = fm_hash_add(attempt->letters_checksum, data, size);
    attempt->dead_letters += rows;
    return status;
}

int fm_attempt_sync(struct fm_attempt *attempt, struct fm_shard_record *ret_record,
                    struct fm_error *reterr)
{
    char stage[FM_OUTPUT_PATH_MAX];
    struct fm_part_facts *files = &ret_record->files;
    int status =
        attempt->sink->finish(attempt->part, &files->part_bytes, &files->part_checksum, reterr);
    attempt->part = NULL;
    if (status == 0 && attempt->dead_letters > 0) {
        status = fm_file_writer_commit(&attempt->letters, reterr);
    }
    status =
        status != 0 ? status : path_of(attempt->directory, NULL, STAGE_DIRECTORY, stage, reterr);
    status = status != 0 ? status : fm_file_sync_directory(stage, reterr);
    if (status != 0) {
        return status;
    }
    ret_record->shard.row_count = attempt->rows_out + attempt->dead_letters;
    ret_record->shard.rows_out = attempt->rows_out;
    ret_record->shard.dead_letters = attempt->dead_letters;
    files->letters_bytes = attempt->dead_letters > 0 ? attempt->letters.size : 0;
    files->letters_checksum = attempt->dead_letters > 0 ? attempt->letters_checksum : 0;
    return 0;
}

/* `sink` NULL: the dead letters. */
static int publish_file(const char *directory, const struct fm_sink *sink, uint64_t number,
                        uint64_t epoch, struct fm_error *reterr)
{
    char name[FM_PART_NAME_SIZE];
    char from[FM_OUTPUT_PATH_MAX];
    char to[FM_OUTPUT_PATH_MAX];
    fm_attempt_name(number, epoch, sink, name);
    int status = path_of(directory, STAGE_DIRECTORY, name, from, reterr);
    fm_part_name(number, sink, name);
    status = status != 0
                 ? status
                 : path_of(directory, sink == NULL ? ERRORS_DIRECTORY : NULL, name, to, reterr);
    return status != 0 ? status : fm_file_rename(from, to, reterr);
}

static bool attempt_has(const char *directory, const struct fm_sink *sink, uint64_t number,
                        uint64_t epoch, uint64_t bytes)
{
    char name[FM_PART_NAME_SIZE];
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    fm_attempt_name(number, epoch, sink, name);
    return path_of(directory, STAGE_DIRECTORY, name, path, NULL) == 0 &&
           fm_file_stat(path, &facts, NULL) == 0 && facts.kind == FM_FILE_REGULAR &&
           facts.size == bytes;
}

bool fm_output_attempt_is_there(const char *directory, const struct fm_sink *sink, uint64_t number,
                                uint64_t epoch, const struct fm_part_facts *files)
{
    return attempt_has(directory, sink, number, epoch, files->part_bytes) &&
           (files->letters_bytes == 0 ||
            attempt_has(directory, NULL, number, epoch, files->letters_bytes));
}

int fm_output_publish(const char *directory, const struct fm_sink *sink, uint64_t number,
                      uint64_t epoch, bool letters, struct fm_fault *fault, struct fm_error *reterr)
{
    int status = 0;
    /* The dead letters first: whoever sees a part can count on its dead letters being there. */
    if (letters) {
        status = publish_file(directory, NULL, number, epoch, reterr);
        status = status != 0 ? status : fm_fault_hit(fault, FM_FAULT_LETTERS_PUBLISHED, reterr);
    }
    status = status != 0 ? status : publish_file(directory, sink, number, epoch, reterr);
    return status != 0 ? status : fm_fault_hit(fault, FM_FAULT_PUBLISHED, reterr);
}

bool fm_output_is_complete(const char *directory)
{
    bool complete = false;
    return exists(directory, NULL, SUCCESS_FILE, &complete, NULL) == 0 && complete;
}

void fm_output_attempt_remove(const char *directory, const struct fm_sink *sink, uint64_t number,
                              uint64_t epoch)
{
    const struct fm_sink *const both[] = {sink, NULL};
    for (size_t i = 0; i < sizeof(both) / sizeof(both[0]); i++) {
        char name[FM_PART_NAME_SIZE];
        fm_attempt_name(number, epoch, both[i], name);
        /* A leftover is removed when the job is resumed. */
        int ignored = remove_one(directory, STAGE_DIRECTORY, name, NULL);
        (void)ignored;
    }
}

void fm_attempt_abandon(struct fm_attempt *attempt)
{
    if (attempt->directory != NULL) {
        if (attempt->part != NULL) {
            attempt->sink->abandon(attempt->part);
        }
        fm_file_writer_abandon(&attempt->letters);
        fm_output_attempt_remove(attempt->directory, attempt->sink, attempt->number,
                                 attempt->epoch);
    }
    attempt->part = NULL;
    attempt->directory = NULL;
}

/* --- Reconciling --- */

struct reconciler {
    const char *directory;
    const struct fm_sink *sink;
    const char *folder; /* being looked at; NULL: the directory itself */
    bool keep_held;     /* attempts at shards that are leased are still being made */
    struct fm_job_store *store;
    struct fm_error *reterr;
};

static int reconcile_attempt(void *context, const char *name)
{
    const struct reconciler *reconciler = context;
    uint64_t number = 0;
    uint64_t epoch = 0;
    const struct fm_sink *sink = NULL;
    struct fm_shard_record record = {0};
    if (!fm_attempt_name_read(name, &number, &epoch, &sink)) {
        return 0;
    }
    int status =
        reconciler->store->functions->shard(reconciler->store, number, &record, reconciler->reterr);
    if (status != 0 && status != FM_ENOTFOUND) {
        return status;
    }
    bool committed = status == 0 && record.shard.state == FM_SHARD_DONE &&
                     record.files.attempt == epoch && (sink == reconciler->sink || sink == NULL);
    bool held = status == 0 && record.shard.state == FM_SHARD_LEASED && record.shard.epoch == epoch;
    if (held && reconciler->keep_held) {
        return 0;
    }
    return committed ? publish_file(reconciler->directory, sink, number, epoch, reconciler->reterr)
                     : remove_one(reconciler->directory, STAGE_DIRECTORY, name, reconciler->reterr);
}

/* A part gets its name after its commit, so one that the ledger does not know tells that the ledger
 * is not this directory's: an older copy, or another job's. */
static int reconcile_part(void *context, const char *name)
{
    const struct reconciler *reconciler = context;
    uint64_t number = 0;
    const struct fm_sink *sink = NULL;
    struct fm_shard_record record = {0};
    bool letters = reconciler->folder != NULL;
    if (!fm_part_name_read(name, &number, &sink)) {
        return 0;
    }
    int status =
        reconciler->store->functions->shard(reconciler->store, number, &record, reconciler->reterr);
    if (status != 0 && status != FM_ENOTFOUND) {
        return status;
    }
    bool known = status == 0 && record.shard.state == FM_SHARD_DONE &&
                 (letters ? sink == &fm_sink_jsonl && record.files.letters_bytes > 0
                          : sink == reconciler->sink);
    return known
               ? 0
               : fm_error_set(reconciler->reterr, FM_ECORRUPT,
                              "the ledger of '%s' does not know the results '%s%s': it is another "
                              "job's, or an older copy; put the right ledger.db back, or "
                              "--restart begins the job anew",
                              reconciler->directory, letters ? ERRORS_DIRECTORY "/" : "", name);
}

static int part_changed(const char *path, const char *how, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ECORRUPT,
                        "'%s' %s, although the job has committed it otherwise: it was changed; put "
                        "it back, or --restart",
                        path, how);
}

/* The file is what was committed, byte for byte. `sink` NULL: the dead letters. */
static int part_check(const char *directory, const struct fm_sink *sink, uint64_t number,
                      uint64_t bytes, uint64_t checksum, struct fm_error *reterr)
{
    char name[FM_PART_NAME_SIZE];
    char path[FM_OUTPUT_PATH_MAX];
    char how[64];
    struct fm_file_facts facts;
    uint64_t found = 0;
    uint64_t size = 0;
    fm_part_name(number, sink, name);
    int status = path_of(directory, sink == NULL ? ERRORS_DIRECTORY : NULL, name, path, reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, reterr);
    if (status == 0 && facts.kind == FM_FILE_ABSENT) {
        return fm_error_set(
            reterr, FM_ECORRUPT,
            "'%s' is missing, although the job has committed it: put it back, or --restart", path);
    }
    if (status == 0 && facts.size != bytes) {
        (void)snprintf(how, sizeof(how), "has %" PRIu64 " bytes instead of %" PRIu64, facts.size,
                       bytes);
        return part_changed(path, how, reterr);
    }
    status = status != 0 ? status : fm_file_sum(path, &found, &size, reterr);
    if (status == 0 && found != checksum) {
        (void)snprintf(how, sizeof(how), "has the checksum %016" PRIx64, found);
        return part_changed(path, how, reterr);
    }
    return status;
}

struct checker {
    const char *directory;
    const struct fm_sink *sink;
    struct fm_error *reterr;
};

static int check_each(void *context, const struct fm_shard_record *record)
{
    const struct checker *checker = context;
    if (record->shard.state != FM_SHARD_DONE) {
        return 0;
    }
    int status = part_check(checker->directory, checker->sink, record->shard.number,
                            record->files.part_bytes, record->files.part_checksum, checker->reterr);
    if (status == 0 && record->files.letters_bytes > 0) {
        status =
            part_check(checker->directory, NULL, record->shard.number, record->files.letters_bytes,
                       record->files.letters_checksum, checker->reterr);
    }
    return status;
}

int fm_output_reconcile(const char *directory, const struct fm_sink *sink,
                        struct fm_job_store *store, bool keep_held, struct fm_fault *fault,
                        struct fm_error *reterr)
{
    struct reconciler reconciler = {.directory = directory,
                                    .sink = sink,
                                    .keep_held = keep_held,
                                    .store = store,
                                    .reterr = reterr};
    struct checker checker = {.directory = directory, .sink = sink, .reterr = reterr};
    /* Before anything is changed: whether ledger and results belong together. */
    int status = names_each(directory, NULL, reconcile_part, &reconciler, reterr);
    reconciler.folder = ERRORS_DIRECTORY;
    status = status != 0
                 ? status
                 : names_each(directory, ERRORS_DIRECTORY, reconcile_part, &reconciler, reterr);
    status = status != 0
                 ? status
                 : names_each(directory, STAGE_DIRECTORY, reconcile_attempt, &reconciler, reterr);
    status =
        status != 0 ? status : store->functions->shards(store, false, check_each, &checker, reterr);
    return status != 0 ? status : fm_fault_hit(fault, FM_FAULT_RECONCILED, reterr);
}

/* --- The end --- */

struct manifest {
    const char *directory;
    const struct fm_sink *sink;
    struct fm_file_writer writer;
    struct fm_text text;
    struct fm_json_writer json;
    uint64_t rows_out;
    uint64_t dead_letters;
    uint64_t parts;
    struct fm_error *reterr;
};

static int manifest_flush(struct manifest *manifest, size_t threshold)
{
    if (manifest->text.failed) {
        return fm_error_set(manifest->reterr, FM_ENOMEM, "out of memory for the manifest");
    }
    if (manifest->text.length < threshold) {
        return 0;
    }
    int status = fm_file_writer_append(&manifest->writer, manifest->text.data,
                                       manifest->text.length, manifest->reterr);
    fm_text_clear(&manifest->text);
    return status;
}

static void checksum_write(struct fm_json_writer *json, const char *key, uint64_t checksum)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%016" PRIx64, checksum);
    fm_json_key(json, key);
    fm_json_string(json, text);
}

static int manifest_part(void *context, const struct fm_shard_record *record)
{
    struct manifest *manifest = context;
    struct checker checker = {
        .directory = manifest->directory, .sink = manifest->sink, .reterr = manifest->reterr};
    struct fm_json_writer *json = &manifest->json;
    char name[FM_PART_NAME_SIZE];
    if (record->shard.state != FM_SHARD_DONE) {
        return 0;
    }
    int status = check_each(&checker, record);
    if (status != 0) {
        return status;
    }
    fm_part_name(record->shard.number, manifest->sink, name);
    fm_text_append_char(&manifest->text, '\n');
    fm_json_object_begin(json);
    fm_json_key(json, "part");
    fm_json_string(json, name);
    fm_json_key(json, "first_row");
    fm_json_uint(json, record->shard.first_row);
    fm_json_key(json, "rows_in");
    fm_json_uint(json, record->shard.row_count);
    fm_json_key(json, "rows");
    fm_json_uint(json, record->shard.rows_out);
    fm_json_key(json, "bytes");
    fm_json_uint(json, record->files.part_bytes);
    checksum_write(json, "checksum", record->files.part_checksum);
    fm_json_key(json, "dead_letters");
    fm_json_uint(json, record->shard.dead_letters);
    if (record->files.letters_bytes > 0) {
        fm_json_key(json, "dead_letter_bytes");
        fm_json_uint(json, record->files.letters_bytes);
        checksum_write(json, "dead_letter_checksum", record->files.letters_checksum);
    }
    fm_json_object_end(json);
    manifest->rows_out += record->shard.rows_out;
    manifest->dead_letters += record->shard.dead_letters;
    manifest->parts++;
    return manifest_flush(manifest, 1 << 16);
}

static void manifest_head(struct manifest *manifest, const struct fm_output_summary *summary)
{
    char time[32];
    struct fm_json_writer *json = &manifest->json;
    fm_os_format_time(summary->finished_wall_ns, time, sizeof(time));
    fm_json_object_begin(json);
    fm_json_key(json, "manifest_version");
    fm_json_uint(json, 1);
    fm_json_key(json, "job");
    fm_json_string(json, summary->name);
    fm_json_key(json, "finished");
    fm_json_string(json, time);
    fm_json_key(json, "complete");
    fm_json_bool(json, summary->proof->complete);
    fm_json_key(json, "rows_in");
    fm_json_uint(json, summary->proof->rows_in);
    fm_json_key(json, "rows_out");
    fm_json_uint(json, summary->proof->rows_out);
    fm_json_key(json, "dead_letters");
    fm_json_uint(json, summary->proof->dead_letters);
    fm_json_key(json, "inputs_found");
    fm_json_uint(json, summary->rows_found);
    fm_json_key(json, "order");
    fm_json_string(json, "by first_row");
    fm_json_key(json, "checksum_algorithm");
    fm_json_string(json, "fnv1a64");
    fm_json_key(json, "facts");
    fm_json_object_begin(json);
    for (size_t i = 0; i < summary->fact_count; i++) {
        fm_json_key(json, summary->facts[i].key);
        fm_json_string(json, summary->facts[i].value);
    }
    fm_json_object_end(json);
    fm_json_key(json, "parts");
    fm_json_array_begin(json);
}

static int manifest_write(struct manifest *manifest, struct fm_job_store *store,
                          const struct fm_output_summary *summary, const char *path)
{
    int status = fm_file_writer_open(&manifest->writer, path, manifest->reterr);
    if (status != 0) {
        return status;
    }
    fm_json_writer_init(&manifest->json, &manifest->text);
    manifest_head(manifest, summary);
    status = store->functions->shards(store, true, manifest_part, manifest, manifest->reterr);
    if (status == 0) {
        fm_text_append_char(&manifest->text, '\n');
        fm_json_array_end(&manifest->json);
        fm_json_object_end(&manifest->json);
        fm_text_append_char(&manifest->text, '\n');
        status = manifest_flush(manifest, 0);
    }
    const struct fm_ledger_proof *proof = summary->proof;
    if (status == 0 &&
        (manifest->rows_out != proof->rows_out || manifest->dead_letters != proof->dead_letters ||
         manifest->rows_out + manifest->dead_letters != proof->rows_in)) {
        status = fm_error_set(manifest->reterr, FM_ECORRUPT,
                              "the parts do not add up: %" PRIu64 " results and %" PRIu64
                              " dead letters of %" PRIu64 " rows; --restart begins the job anew",
                              manifest->rows_out, manifest->dead_letters, proof->rows_in);
    }
    if (status == 0) {
        status = fm_file_writer_commit(&manifest->writer, manifest->reterr);
    }
    fm_file_writer_abandon(&manifest->writer);
    return status;
}

static int directories_sync(const char *directory, struct fm_error *reterr)
{
    char errors[FM_OUTPUT_PATH_MAX];
    int status = path_of(directory, NULL, ERRORS_DIRECTORY, errors, reterr);
    status = status != 0 ? status : fm_file_sync_directory(errors, reterr);
    return status != 0 ? status : fm_file_sync_directory(directory, reterr);
}

int fm_output_finish(const char *directory, struct fm_job_store *store,
                     const struct fm_output_summary *summary, struct fm_fault *fault,
                     struct fm_error *reterr)
{
    char temporary[FM_OUTPUT_PATH_MAX];
    char path[FM_OUTPUT_PATH_MAX];
    struct manifest manifest = {.directory = directory, .sink = summary->sink, .reterr = reterr};
    struct reconciler reconciler = {
        .directory = directory, .sink = summary->sink, .store = store, .reterr = reterr};
    int status = fm_fault_hit(fault, FM_FAULT_BEFORE_MANIFEST, reterr);
    /* What workers left that were lost, or late. */
    status = status != 0
                 ? status
                 : names_each(directory, STAGE_DIRECTORY, reconcile_attempt, &reconciler, reterr);
    status = status != 0 ? status
                         : path_of(directory, STATE_DIRECTORY, MANIFEST_DRAFT, temporary, reterr);
    status = status != 0 ? status : path_of(directory, NULL, MANIFEST_FILE, path, reterr);
    status = status != 0 ? status : directories_sync(directory, reterr);
    status = status != 0 ? status : manifest_write(&manifest, store, summary, temporary);
    fm_text_deinit(&manifest.text);
    status = status != 0 ? status : fm_file_rename(temporary, path, reterr);
    status = status != 0 ? status : fm_file_sync_directory(directory, reterr);
    status = status != 0 ? status : fm_fault_hit(fault, FM_FAULT_AFTER_MANIFEST, reterr);
    status = status != 0 ? status : path_of(directory, NULL, SUCCESS_FILE, path, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_file_writer success = {0};
    status = fm_file_writer_open(&success, path, reterr);
    status = status != 0 ? status : fm_file_writer_commit(&success, reterr);
    return status != 0 ? status : fm_file_sync_directory(directory, reterr);
}
