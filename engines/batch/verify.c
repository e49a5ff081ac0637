/*
 * The completeness proof, repeated. See verify.h.
 */
#include "engines/batch/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/lister.h"
#include "engines/batch/manifest.h"
#include "engines/batch/output.h"
#include "engines/batch/part_name.h"
#include "engines/batch/part_reader.h"
#include "engines/batch/row_line.h"
#include "engines/batch/unique_ids.h"
#include "host/os/file_lock.h"
#include "host/os/os.h"
#include "host/store/sqlite_store.h"

#define PROGRESS_NS UINT64_C(200000000)

enum {
    IDS_IN_MEMORY = 4 << 20, /* 64 MiB */
    DOUBLES_MAX = 200,       /* rows with suspicious ids that are looked at */
    ROWS_BETWEEN_LOOKS = 1024,
};

/* The names in a directory, and which of them somebody vouches for. */
struct names {
    struct fm_file_list list;
    bool *vouched;
};

/* What the rows are walked for. */
enum pass {
    PASS_CHECK, /* everything */
    PASS_IDS,   /* their ids come once more (unique_ids.h) */
    PASS_NAME,  /* the ids of suspicious rows are wanted */
};

/* A row whose id may be another one's, too. */
struct double_row {
    uint64_t row;
    char *id; /* NULL: not seen */
    size_t size;
    char part[64];
};

struct verify {
    const struct fm_verify_options *options;
    struct fm_verify_report *report;
    const char *directory;
    struct names parts;
    struct names letters;
    struct fm_job_store *store; /* NULL: there is none */
    struct fm_row_source inputs;
    uint64_t inputs_rows;
    uint64_t ledger_rows; /* of its segments */
    uint64_t ledger_done;
    uint64_t ledger_given_up;
    uint64_t ledger_parts;
    uint64_t next_row;          /* behind the parts seen so far */
    const struct fm_sink *sink; /* as the ledger says */
    struct fm_part_reader results;
    struct fm_part_reader errors;
    struct fm_text id;
    struct fm_row_letter letter;
    struct fm_unique_ids *ids;
    bool ids_given; /* they are values of a column of the input, which may have them twice */
    bool answers;   /* they tell which request is answered, so none may be there twice */
    enum pass pass;
    struct double_row doubles[DOUBLES_MAX];
    size_t double_count;
    uint64_t start_ns;
    uint64_t shown_ns;
    uint64_t rows_seen;
    struct fm_error *reterr;
};

static void problem(struct verify *verify, const char *format, ...) FM_PRINTF(2, 3);

static void problem(struct verify *verify, const char *format, ...)
{
    char text[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    verify->report->problems++;
    if (verify->options->problem != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        verify->options->problem(verify->options->context, text);
    }
}

static void note(struct verify *verify, const char *format, ...) FM_PRINTF(2, 3);

static void note(struct verify *verify, const char *format, ...)
{
    char text[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    if (verify->options->note != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        verify->options->note(verify->options->context, text);
    }
}

static int path_of(const struct verify *verify, const char *folder, const char *name,
                   char *ret_path)
{
    int length = snprintf(ret_path, FM_OUTPUT_PATH_MAX, "%s/%s%s%s", verify->directory,
                          folder != NULL ? folder : "", folder != NULL ? "/" : "", name);
    return length >= 0 && length < FM_OUTPUT_PATH_MAX
               ? 0
               : fm_error_set(verify->reterr, FM_ETOOLARGE, "the path '%.200s...' is too long",
                              verify->directory);
}

static int facts_of(const struct verify *verify, const char *folder, const char *name,
                    struct fm_file_facts *ret_facts)
{
    char path[FM_OUTPUT_PATH_MAX];
    int status = path_of(verify, folder, name, path);
    return status != 0 ? status : fm_file_stat(path, ret_facts, verify->reterr);
}

/* Now and then: how far, and whether to go on. */
static int look_up(struct verify *verify)
{
    const struct fm_verify_options *options = verify->options;
    uint64_t now_ns = fm_os_now_ns();
    if (now_ns - verify->shown_ns < PROGRESS_NS) {
        return 0;
    }
    verify->shown_ns = now_ns;
    if (options->progress != NULL) {
        const struct fm_verify_progress progress = {
            .bytes = verify->report->bytes + verify->results.bytes + verify->errors.bytes,
            .rows = verify->rows_seen,
            .parts = verify->report->parts,
            .elapsed_ns = now_ns - verify->start_ns};
        options->progress(options->context, &progress);
    }
    return options->stop != NULL && options->stop(options->context)
               ? fm_error_set(verify->reterr, FM_ECANCELLED, "stopped: nothing was proven")
               : 0;
}

/* --- Names --- */

static int names_load(const struct verify *verify, const char *folder, struct names *names)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    int status = path_of(verify, NULL, folder, path);
    status = status != 0 ? status : fm_file_stat(path, &facts, verify->reterr);
    if (status != 0 || facts.kind != FM_FILE_DIRECTORY) {
        return status;
    }
    status = fm_file_list(path, &names->list, verify->reterr);
    names->vouched = status == 0 ? fm_alloc_zero(names->list.count + 1, sizeof(bool)) : NULL;
    return status != 0              ? status
           : names->vouched == NULL ? fm_error_set(verify->reterr, FM_ENOMEM, "out of memory")
                                    : 0;
}

static void names_free(struct names *names)
{
    fm_file_list_free(&names->list);
    fm_free(names->vouched);
}

static int name_compare(const void *name, const void *item)
{
    return strcmp(name, *(const char *const *)item);
}

enum vouching { NAME_ABSENT, NAME_VOUCHED, NAME_VOUCHED_TWICE };

static enum vouching name_vouch(const struct names *names, const char *name)
{
    char **item = names->list.count > 0 ? bsearch(name, names->list.names, names->list.count,
                                                  sizeof(*names->list.names), name_compare)
                                        : NULL;
    if (item == NULL) {
        return NAME_ABSENT;
    }
    bool *vouched = &names->vouched[item - names->list.names];
    bool before = *vouched;
    *vouched = true;
    return before ? NAME_VOUCHED_TWICE : NAME_VOUCHED;
}

static bool is_known(const char *name)
{
    static const char *const known[] = {FM_OUTPUT_STATE_DIRECTORY, FM_OUTPUT_STAGE_DIRECTORY,
                                        FM_OUTPUT_ERRORS_DIRECTORY, FM_OUTPUT_MANIFEST_FILE,
                                        FM_OUTPUT_SUCCESS_FILE};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool looks_like_a_part(const char *name)
{
    const char *end = strrchr(name, '.');
    return strncmp(name, "part-", 5) == 0 && end != NULL && fm_sink_of_ending(end) != NULL;
}

/* Files that nobody vouches for: whoever reads part-* would read them, too. */
static void strangers_tell(struct verify *verify, const char *folder, const struct names *names)
{
    for (size_t i = 0; i < names->list.count; i++) {
        const char *name = names->list.names[i];
        if (names->vouched[i] || (folder[0] == '\0' && is_known(name))) {
            continue;
        }
        if (looks_like_a_part(name)) {
            problem(verify, "%s%s: nobody vouches for it: it is not among the parts of the job",
                    folder, name);
        } else {
            note(verify, "%s%s is not of the job", folder, name);
        }
    }
}

static int stage_tell(struct verify *verify)
{
    struct names stage = {.vouched = NULL};
    int status = names_load(verify, FM_OUTPUT_STAGE_DIRECTORY, &stage);
    for (size_t i = 0; i < stage.list.count && status == 0; i++) {
        note(verify, "%s/%s is of an attempt that did not count, and can go",
             FM_OUTPUT_STAGE_DIRECTORY, stage.list.names[i]);
    }
    names_free(&stage);
    return status;
}

/* --- Rows --- */

static int row_is_expected(struct verify *verify, const char *part, uint64_t row, bool *told)
{
    struct fm_row_place place;
    char made[FM_LISTING_ID_MAX + 32];
    if (*told || verify->ids_given || row >= verify->inputs_rows) {
        return 0;
    }
    int status = fm_row_source_get(&verify->inputs, row, 1, &place, verify->reterr);
    const char *id = place.id;
    if (status == 0 && place.row_count > 0) {
        (void)snprintf(made, sizeof(made), "%s:%" PRIu64, place.id, place.first_row);
        id = made;
    }
    if (status == 0 &&
        (strlen(id) != verify->id.length || memcmp(id, verify->id.data, verify->id.length) != 0)) {
        problem(verify,
                "%s: row %" PRIu64 " should be '%.150s', as recorded, and is '%.150s'; others may "
                "differ, too",
                part, row, id, verify->id.data);
        *told = true;
    }
    return status;
}

/* The row's id is in verify->id. `told`: one wrong id of the part was told. */
static int row_take(struct verify *verify, const char *part, uint64_t row, bool *told)
{
    int status = ++verify->rows_seen % ROWS_BETWEEN_LOOKS == 0 ? look_up(verify) : 0;
    if (status == 0 && verify->pass == PASS_CHECK) {
        status = row_is_expected(verify, part, row, told);
    }
    if (status == 0 && verify->pass != PASS_NAME) {
        return fm_unique_ids_add(verify->ids, verify->id.data, verify->id.length, row,
                                 verify->reterr);
    }
    for (size_t i = 0; i < verify->double_count && status == 0; i++) {
        struct double_row *found = &verify->doubles[i];
        if (found->row == row && found->id == NULL) {
            found->id = fm_strndup(verify->id.data, verify->id.length);
            found->size = verify->id.length;
            (void)snprintf(found->part, sizeof(found->part), "%s", part);
            status =
                found->id == NULL ? fm_error_set(verify->reterr, FM_ENOMEM, "out of memory") : 0;
        }
    }
    return status;
}

/* One of the two files of a part. */
struct side {
    struct fm_part_reader *reader;
    const struct fm_sink *sink;
    const char *name;
    const char *prefix; /* of its name in messages: "", "errors/" */
    bool open;
    bool broken; /* one line that cannot be read was told */
};

static const char *unit_of(const struct side *side)
{
    return side->sink->source == NULL ? "line" : "row";
}

/* The next result's id, or dead letter. */
static int row_read(struct verify *verify, const struct side *side, bool letter, bool *ret_found,
                    struct fm_error *reterr)
{
    const char *line = NULL;
    size_t length = 0;
    if (!letter) {
        return fm_part_reader_next(side->reader, &verify->id, ret_found, reterr);
    }
    *ret_found = false;
    int status = fm_part_reader_line(side->reader, &line, &length, reterr);
    if (status == 0 && line != NULL) {
        status = fm_row_letter_read(&verify->letter, line, length, reterr);
        *ret_found = status == 0;
    }
    return status;
}

/* A row that says what it should; others are told (the first of a file) and passed over.
 * *ret_found false: no more. */
static int row_next(struct verify *verify, struct side *side, bool letter, bool *ret_found)
{
    *ret_found = false;
    while (side->open) {
        struct fm_error why = {0};
        int status = row_read(verify, side, letter, ret_found, &why);
        if (status == 0) {
            return 0;
        }
        if (status != FM_ECORRUPT) {
            *verify->reterr = why;
            return status;
        }
        if (!side->broken && verify->pass == PASS_CHECK) {
            problem(verify, "%s%s: %s %" PRIu64 ": %s; others may be wrong, too", side->prefix,
                    side->name, unit_of(side), side->reader->rows, why.text);
        }
        side->broken = true;
    }
    return 0;
}

/* Results and dead letters side by side, until both are at their end. */
static int rows_walk(struct verify *verify, const struct fm_manifest_part *part,
                     struct side *results, struct side *errors)
{
    bool told = false;
    bool letter = false;
    bool result = true;
    bool strange = false;
    uint64_t row = part->first_row;
    int status = row_next(verify, errors, true, &letter);
    while (status == 0 && (letter || result)) {
        uint64_t end = part->first_row + part->rows_in;
        if (letter && (verify->letter.row < row || verify->letter.row >= end)) {
            if (!strange && verify->pass == PASS_CHECK) {
                problem(verify,
                        "errors/%s: line %" PRIu64 ": the dead letter of row %" PRIu64
                        " does not belong there; others may be wrong, too",
                        errors->name, errors->reader->rows, verify->letter.row);
            }
            strange = true;
            status = row_next(verify, errors, true, &letter);
            continue;
        }
        if (letter && (verify->letter.row == row || !result)) {
            row = verify->letter.row;
            fm_text_clear(&verify->id);
            fm_text_append(&verify->id, verify->letter.id.data, verify->letter.id.length);
            status = verify->id.failed ? fm_error_set(verify->reterr, FM_ENOMEM, "out of memory")
                                       : row_take(verify, part->name, row, &told);
            status = status != 0 ? status : row_next(verify, errors, true, &letter);
            row++;
            continue;
        }
        status = row_next(verify, results, false, &result);
        told = told || results->broken || errors->broken; /* which row is which is not sure then */
        if (status == 0 && result) {
            status = row_take(verify, part->name, row, &told);
            row++;
        }
    }
    return status;
}

/* --- Files of a part --- */

static void file_compare(struct verify *verify, const struct side *side, uint64_t bytes,
                         uint64_t checksum, uint64_t rows)
{
    const struct fm_part_reader *reader = side->reader;
    if (reader->bytes != bytes) {
        problem(verify, "%s%s: has %" PRIu64 " bytes instead of %" PRIu64, side->prefix, side->name,
                reader->bytes, bytes);
    } else if (reader->checksum != checksum) {
        problem(verify, "%s%s: has the checksum %016" PRIx64 " instead of %016" PRIx64,
                side->prefix, side->name, reader->checksum, checksum);
    }
    if (reader->rows != rows) {
        problem(verify, "%s%s: has %" PRIu64 " %ss instead of %" PRIu64, side->prefix, side->name,
                reader->rows, unit_of(side), rows);
    } else if (reader->unterminated) {
        problem(verify, "%s%s: ends in the middle of a line", side->prefix, side->name);
    }
}

/* Committed but not there under its name: a killed master had no time to give it one. */
static bool is_staged(const struct verify *verify, const struct fm_manifest_part *part,
                      const struct fm_sink *sink)
{
    char name[FM_PART_NAME_SIZE];
    struct fm_file_facts facts = {0};
    fm_attempt_name(part->number, part->files.attempt, sink, name);
    return part->files.attempt != 0 &&
           facts_of(verify, FM_OUTPUT_STAGE_DIRECTORY, name, &facts) == 0 &&
           facts.kind == FM_FILE_REGULAR;
}

static int side_open(struct verify *verify, const struct fm_manifest_part *part, struct side *side,
                     bool letters)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_error why = {0};
    enum vouching vouching =
        verify->pass == PASS_CHECK
            ? name_vouch(letters ? &verify->letters : &verify->parts, side->name)
            : NAME_VOUCHED;
    if (vouching == NAME_ABSENT) {
        problem(verify, "%s%s: is missing%s", side->prefix, side->name,
                is_staged(verify, part, letters ? NULL : side->sink)
                    ? ": it is committed and lies in stage/; fermata batch --resume publishes it"
                    : "");
        return 0;
    }
    if (vouching == NAME_VOUCHED_TWICE) {
        problem(verify, "%s%s: is named more than once", side->prefix, side->name);
        return 0;
    }
    int status = path_of(verify, letters ? FM_OUTPUT_ERRORS_DIRECTORY : NULL, side->name, path);
    status = status != 0 ? status : fm_part_reader_open(side->reader, side->sink, path, &why);
    side->open = status == 0;
    if (status == FM_ENOTFOUND && verify->pass != PASS_CHECK) {
        return 0; /* told in the first pass */
    }
    if (status == FM_ECORRUPT || (status == FM_EUNSUPPORTED && side->reader->bytes > 0)) {
        /* It cannot be entered at all, but has bytes to be compared. */
        side->open = true;
        side->broken = true;
        if (verify->pass == PASS_CHECK) {
            problem(verify, "%s%s: %s", side->prefix, side->name, why.text);
        }
        return 0;
    }
    if (status != 0 && why.status != 0) {
        *verify->reterr = why;
    }
    return status;
}

static int part_walk(struct verify *verify, const struct fm_manifest_part *part)
{
    char letters_name[FM_PART_NAME_SIZE];
    struct side results = {
        .reader = &verify->results, .sink = part->sink, .name = part->name, .prefix = ""};
    struct side errors = {.reader = &verify->errors,
                          .sink = &fm_sink_jsonl,
                          .name = letters_name,
                          .prefix = FM_OUTPUT_ERRORS_DIRECTORY "/"};
    fm_part_name(part->number, NULL, letters_name);
    int status = side_open(verify, part, &results, false);
    if (status == 0 && part->dead_letters > 0) {
        status = side_open(verify, part, &errors, true);
    }
    status = status != 0 ? status : rows_walk(verify, part, &results, &errors);
    if (status == 0 && verify->pass == PASS_CHECK) {
        if (results.open) {
            file_compare(verify, &results, part->files.part_bytes, part->files.part_checksum,
                         part->rows);
            verify->report->rows_out += results.reader->rows;
        }
        if (errors.open) {
            file_compare(verify, &errors, part->files.letters_bytes, part->files.letters_checksum,
                         part->dead_letters);
            verify->report->dead_letters += errors.reader->rows;
        }
    }
    verify->report->bytes +=
        (results.open ? results.reader->bytes : 0) + (errors.open ? errors.reader->bytes : 0);
    fm_part_reader_close(results.reader);
    fm_part_reader_close(errors.reader);
    verify->results.bytes = 0;
    verify->errors.bytes = 0;
    return status != 0 ? status : look_up(verify);
}

/* What manifest and ledger say of one part. */
static int part_compare(struct verify *verify, const struct fm_manifest_part *part)
{
    struct fm_shard_record record;
    const struct fm_shard *shard = &record.shard;
    const struct fm_part_facts *files = &record.files;
    int status =
        verify->store->functions->shard(verify->store, part->number, &record, verify->reterr);
    if (status != 0 && status != FM_ENOTFOUND) {
        return status;
    }
    bool alike =
        status == 0 && shard->state == FM_SHARD_DONE && shard->first_row == part->first_row &&
        shard->row_count == part->rows_in && shard->rows_out == part->rows &&
        shard->dead_letters == part->dead_letters && files->part_bytes == part->files.part_bytes &&
        files->part_checksum == part->files.part_checksum &&
        files->letters_bytes == part->files.letters_bytes &&
        (files->letters_bytes == 0 || files->letters_checksum == part->files.letters_checksum);
    if (!alike) {
        problem(verify, "%s: manifest and ledger say different things of it", part->name);
    }
    return 0;
}

static int part_check(struct verify *verify, const struct fm_manifest_part *part)
{
    verify->report->parts++;
    if (part->rows + part->dead_letters != part->rows_in) {
        problem(verify,
                "%s: %" PRIu64 " rows in are not %" PRIu64 " results and %" PRIu64 " dead letters",
                part->name, part->rows_in, part->rows, part->dead_letters);
    }
    if (part->first_row > verify->next_row) {
        problem(verify, "rows %" PRIu64 " to %" PRIu64 " are in no part", verify->next_row,
                part->first_row - 1);
    } else if (part->first_row < verify->next_row) {
        problem(verify,
                "%s: begins at row %" PRIu64 ", but rows up to %" PRIu64 " are in parts before it",
                part->name, part->first_row, verify->next_row - 1);
    }
    uint64_t end = part->first_row + part->rows_in;
    verify->next_row = end > verify->next_row ? end : verify->next_row;
    return part_walk(verify, part);
}

static int manifest_part(void *context, const struct fm_manifest_part *part)
{
    struct verify *verify = context;
    if (verify->pass != PASS_CHECK) {
        return part_walk(verify, part);
    }
    int status = verify->store != NULL ? part_compare(verify, part) : 0;
    return status != 0 ? status : part_check(verify, part);
}

static int ledger_part(void *context, const struct fm_shard_record *record)
{
    struct verify *verify = context;
    struct fm_manifest_part part = {.number = record->shard.number,
                                    .first_row = record->shard.first_row,
                                    .rows_in = record->shard.row_count,
                                    .rows = record->shard.rows_out,
                                    .dead_letters = record->shard.dead_letters,
                                    .files = record->files};
    part.sink = verify->sink;
    fm_part_name(part.number, part.sink, part.name);
    if (record->shard.state != FM_SHARD_DONE) {
        return 0;
    }
    if (verify->pass != PASS_CHECK) {
        return part_walk(verify, &part);
    }
    /* Rows without a part are still to do: what is missing is told once, at the end. */
    verify->next_row = verify->next_row < part.first_row ? part.first_row : verify->next_row;
    return part_check(verify, &part);
}

/* --- The ledger --- */

struct ledger_walk {
    struct verify *verify;
    uint32_t segment;
    bool broken; /* the list of inputs */
};

static int segment_take(void *context, const struct fm_job_segment *segment)
{
    struct ledger_walk *walk = context;
    struct verify *verify = walk->verify;
    struct fm_segment_paths paths;
    struct fm_file_facts facts = {0};
    struct fm_file_facts index = {0};
    struct fm_error why = {0};
    verify->ledger_rows += segment->rows.row_count;
    int status = fm_segment_paths_make(verify->directory, walk->segment++, &paths, verify->reterr);
    status = status != 0 ? status : fm_file_stat(paths.listing, &facts, verify->reterr);
    status = status != 0 ? status : fm_file_stat(paths.index, &index, verify->reterr);
    if (status != 0 || walk->broken) {
        return status;
    }
    status =
        facts.kind == FM_FILE_ABSENT
            ? fm_error_set(&why, FM_ECORRUPT, "the list of inputs '%s' is missing", paths.listing)
            : fm_row_source_add(&verify->inputs, paths.listing,
                                index.kind == FM_FILE_ABSENT ? NULL : paths.index,
                                segment->rows.first_row, segment->rows.row_count,
                                segment->listing_checksum, &why);
    if (status == FM_ECORRUPT) {
        walk->broken = true;
        problem(verify, "%s", why.text);
        return 0;
    }
    if (status == 0) {
        verify->inputs_rows += segment->rows.row_count;
    } else {
        *verify->reterr = why;
    }
    return status;
}

static int shard_count(void *context, const struct fm_shard_record *record)
{
    struct verify *verify = context;
    bool done = record->shard.state == FM_SHARD_DONE;
    verify->ledger_parts += done ? 1 : 0;
    verify->ledger_done += done ? record->shard.row_count : 0;
    verify->ledger_given_up += record->shard.state == FM_SHARD_DEAD ? record->shard.row_count : 0;
    return 0;
}

static int ledger_open(struct verify *verify)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    struct fm_error why = {0};
    struct ledger_walk walk = {.verify = verify};
    struct fm_text id_column = {0};
    struct fm_text format = {0};
    int status = fm_output_state_path(verify->directory, FM_OUTPUT_LEDGER_FILE, path, sizeof(path),
                                      verify->reterr);
    status = status != 0 ? status : fm_file_stat(path, &facts, verify->reterr);
    if (status != 0 || facts.kind == FM_FILE_ABSENT) {
        return status;
    }
    status = fm_sqlite_store_open_reader(path, &verify->store, &why);
    if (status == FM_ECORRUPT || status == FM_ENOTFOUND || status == FM_EUNSUPPORTED) {
        problem(verify, "%s", why.text);
        return 0;
    }
    if (status != 0) {
        *verify->reterr = why;
        return status;
    }
    verify->report->has_ledger = true;
    const struct fm_job_store_functions *store = verify->store->functions;
    verify->ids_given =
        store->fact(verify->store, FM_JOB_FACT_ID, &id_column, NULL) == 0 && id_column.length > 0;
    fm_text_deinit(&id_column);
    if (store->fact(verify->store, FM_JOB_FACT_FORMAT, &format, NULL) == 0 && format.length > 0) {
        verify->sink = fm_sink_of_fact(format.data);
        verify->answers = verify->sink->answers;
    }
    fm_text_deinit(&format);
    status = store->segments(verify->store, segment_take, &walk, verify->reterr);
    verify->report->has_inputs = !walk.broken && verify->inputs_rows > 0 && !verify->ids_given;
    return status != 0 ? status
                       : store->shards(verify->store, false, shard_count, verify, verify->reterr);
}

/* --- Ids that stand twice --- */

static int doubles_compare(const void *left, const void *right)
{
    const struct double_row *a = left;
    const struct double_row *b = right;
    size_t common = a->size < b->size ? a->size : b->size;
    int order = a->id == NULL || b->id == NULL ? (a->id != NULL) - (b->id != NULL)
                                               : memcmp(a->id, b->id, common);
    return order != 0           ? order
           : a->size != b->size ? (a->size < b->size ? -1 : 1)
           : a->row != b->row   ? (a->row < b->row ? -1 : 1)
                                : 0;
}

static void doubles_tell(struct verify *verify)
{
    qsort(verify->doubles, verify->double_count, sizeof(verify->doubles[0]), doubles_compare);
    for (size_t i = 1; i < verify->double_count; i++) {
        const struct double_row *a = &verify->doubles[i - 1];
        const struct double_row *b = &verify->doubles[i];
        if (a->id != NULL && b->id != NULL && a->size == b->size &&
            memcmp(a->id, b->id, a->size) == 0) {
            void (*tell)(struct verify *, const char *, ...) =
                verify->ids_given && !verify->answers ? note : problem;
            tell(verify,
                 "the id '%.200s' stands twice: as row %" PRIu64 " (%s) and as row %" PRIu64
                 " (%s)",
                 a->id, a->row, a->part, b->row, b->part);
        }
    }
}

static int manifest_fact(void *context, const struct fm_job_fact *fact)
{
    struct verify *verify = context;
    verify->ids_given =
        verify->ids_given || (strcmp(fact->key, FM_JOB_FACT_ID) == 0 && fact->value[0] != '\0');
    verify->answers = verify->answers || (strcmp(fact->key, FM_JOB_FACT_FORMAT) == 0 &&
                                          fm_sink_of_fact(fact->value)->answers);
    return 0;
}

static int parts_walk(struct verify *verify, struct fm_manifest_head *ret_head)
{
    char path[FM_OUTPUT_PATH_MAX];
    const struct fm_manifest_handlers handlers = {
        .part = manifest_part, .fact = manifest_fact, .context = verify};
    if (!verify->report->has_manifest) {
        return verify->store->functions->shards(verify->store, true, ledger_part, verify,
                                                verify->reterr);
    }
    int status = path_of(verify, NULL, FM_OUTPUT_MANIFEST_FILE, path);
    return status != 0 ? status : fm_manifest_read(path, &handlers, ret_head, verify->reterr);
}

static int ids_check(struct verify *verify)
{
    uint64_t rows[DOUBLES_MAX];
    bool again = false;
    struct fm_manifest_head head;
    int status = fm_unique_ids_finish(verify->ids, rows, DOUBLES_MAX, &verify->double_count, &again,
                                      verify->reterr);
    if (status == 0 && again) {
        verify->pass = PASS_IDS;
        status = parts_walk(verify, &head);
        status = status != 0 ? status
                             : fm_unique_ids_finish(verify->ids, rows, DOUBLES_MAX,
                                                    &verify->double_count, &again, verify->reterr);
    }
    if (status != 0 || verify->double_count == 0) {
        return status;
    }
    for (size_t i = 0; i < verify->double_count; i++) {
        verify->doubles[i].row = rows[i];
    }
    verify->pass = PASS_NAME;
    status = parts_walk(verify, &head);
    if (status == 0) {
        doubles_tell(verify);
    }
    return status;
}

/* --- The whole --- */

static int open_all(struct verify *verify)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_file_facts facts = {0};
    bool held = false;
    long holder = 0;
    int status = fm_file_stat(verify->directory, &facts, verify->reterr);
    if (status == 0 && facts.kind != FM_FILE_DIRECTORY) {
        return fm_error_set(verify->reterr, FM_ENOTFOUND, "there is no directory '%s'",
                            verify->directory);
    }
    status = status != 0 ? status
                         : fm_output_state_path(verify->directory, FM_OUTPUT_LOCK_FILE, path,
                                                sizeof(path), verify->reterr);
    if (status != 0) {
        return status;
    }
    fm_file_lock_look(path, &held, &holder);
    if (held) {
        return fm_error_set(verify->reterr, FM_EUNAVAILABLE,
                            "process %ld is working on '%s': what is proven now is wrong in a "
                            "moment; wait for its end (fermata job show says how far it is)",
                            holder, verify->directory);
    }
    status = names_load(verify, ".", &verify->parts);
    status =
        status != 0 ? status : names_load(verify, FM_OUTPUT_ERRORS_DIRECTORY, &verify->letters);
    status = status != 0 ? status : facts_of(verify, NULL, FM_OUTPUT_MANIFEST_FILE, &facts);
    verify->report->has_manifest = status == 0 && facts.kind == FM_FILE_REGULAR;
    status = status != 0 ? status : ledger_open(verify);
    if (status == 0 && !verify->report->has_manifest && verify->store == NULL) {
        status = fm_error_set(verify->reterr, FM_ENOTFOUND,
                              "'%s' holds neither a manifest nor a ledger that can be read: it is "
                              "not the output of a job",
                              verify->directory);
    }
    size_t in_memory = verify->options->ids_in_memory;
    return status != 0 ? status
                       : fm_unique_ids_create(in_memory > 0 ? in_memory : IDS_IN_MEMORY,
                                              &verify->ids, verify->reterr);
}

/* The sums, and what only manifest or ledger can say. */
static int sums_check(struct verify *verify, const struct fm_manifest_head *head)
{
    struct fm_verify_report *report = verify->report;
    struct fm_file_facts facts = {0};
    if (!report->has_manifest) {
        report->rows_in = verify->ledger_rows;
        problem(verify,
                "there is no %s: the job is not complete: of %" PRIu64 " rows %" PRIu64
                " are done and %" PRIu64 " given up; fermata batch --resume does the rest",
                FM_OUTPUT_MANIFEST_FILE, verify->ledger_rows, verify->ledger_done,
                verify->ledger_given_up);
        return 0;
    }
    report->rows_in = head->rows_in;
    (void)snprintf(report->job, sizeof(report->job), "%s", head->job);
    if (!head->complete) {
        problem(verify, "the manifest itself says that the job is not complete");
    }
    if (verify->next_row != head->rows_in) {
        problem(verify, "the parts end at row %" PRIu64 ", but there were %" PRIu64 " rows",
                verify->next_row, head->rows_in);
    }
    if (report->rows_out + report->dead_letters != head->rows_in ||
        report->rows_out != head->rows_out || report->dead_letters != head->dead_letters) {
        problem(verify,
                "%" PRIu64 " rows in should be %" PRIu64 " results and %" PRIu64
                " dead letters, and %" PRIu64 " results and %" PRIu64 " dead letters were counted",
                head->rows_in, head->rows_out, head->dead_letters, report->rows_out,
                report->dead_letters);
    }
    if (report->has_ledger &&
        (verify->ledger_rows != head->rows_in || verify->ledger_done != head->rows_in ||
         verify->ledger_parts != report->parts)) {
        problem(verify,
                "the ledger knows %" PRIu64 " rows, %" PRIu64 " of them done in %" PRIu64
                " parts; the manifest %" PRIu64 " rows in %" PRIu64 " parts",
                verify->ledger_rows, verify->ledger_done, verify->ledger_parts, head->rows_in,
                report->parts);
    }
    int status = facts_of(verify, NULL, FM_OUTPUT_SUCCESS_FILE, &facts);
    if (status == 0 && facts.kind == FM_FILE_ABSENT) {
        note(verify, "%s is not there: some programs wait for it", FM_OUTPUT_SUCCESS_FILE);
    }
    return status;
}

static int run(struct verify *verify)
{
    struct fm_manifest_head head = {.complete = false};
    struct fm_verify_report *report = verify->report;
    int status = open_all(verify);
    if (status == 0) {
        status = parts_walk(verify, &head);
        if ((status == FM_ECORRUPT || status == FM_EUNSUPPORTED) && report->has_manifest) {
            /* What it says cannot be relied on: nothing else can be proven with it. */
            problem(verify, "%s", verify->reterr->text);
            *verify->reterr = (struct fm_error){0};
            return 0;
        }
    }
    status = status != 0 ? status : ids_check(verify);
    verify->pass = PASS_CHECK;
    status = status != 0 ? status : sums_check(verify, &head);
    if (status == 0) {
        strangers_tell(verify, "", &verify->parts);
        strangers_tell(verify, FM_OUTPUT_ERRORS_DIRECTORY "/", &verify->letters);
        status = stage_tell(verify);
    }
    return status;
}

int fm_verify_run(const struct fm_verify_options *options, struct fm_verify_report *ret_report,
                  struct fm_error *reterr)
{
    struct fm_error local = {0};
    struct verify *verify = fm_alloc_zero(1, sizeof(*verify));
    *ret_report = (struct fm_verify_report){.verdict = FM_VERIFY_NOT_PROVEN};
    if (verify == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    verify->options = options;
    verify->sink = fm_sinks[0];
    verify->report = ret_report;
    verify->directory = options->directory;
    verify->reterr = reterr != NULL ? reterr : &local;
    verify->start_ns = fm_os_now_ns();
    verify->shown_ns = verify->start_ns;
    int status = run(verify);
    if (status == 0 && ret_report->problems == 0) {
        ret_report->verdict =
            ret_report->dead_letters > 0 ? FM_VERIFY_PROVEN_WITH_LETTERS : FM_VERIFY_PROVEN;
    }
    ret_report->elapsed_ns = fm_os_now_ns() - verify->start_ns;
    for (size_t i = 0; i < verify->double_count; i++) {
        fm_free(verify->doubles[i].id);
    }
    if (verify->store != NULL) {
        verify->store->functions->close(verify->store);
    }
    fm_unique_ids_destroy(verify->ids);
    fm_row_source_deinit(&verify->inputs);
    fm_part_reader_deinit(&verify->results);
    fm_part_reader_deinit(&verify->errors);
    fm_text_deinit(&verify->id);
    fm_row_letter_deinit(&verify->letter);
    names_free(&verify->parts);
    names_free(&verify->letters);
    fm_free(verify);
    return status;
}
