/*
 * Dead letters as inputs. See retry.h.
 */
#include "engines/batch/retry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/batch/job_look.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/letters.h"
#include "engines/batch/manifest.h"
#include "engines/batch/output.h"
#include "host/os/file.h"

struct gatherer {
    const struct fm_job *job;
    const char *from;
    struct fm_arena arena;         /* of the ids */
    struct fm_listing_entry *rows; /* their files' ids, and each one's number as first_row */
    size_t count;
    size_t capacity;
    struct fm_error *reterr;
};

static int wanted_compare(const void *left, const void *right)
{
    const struct fm_listing_entry *a = left;
    const struct fm_listing_entry *b = right;
    int order = fm_listing_compare(a, b);
    return order != 0                     ? order
           : a->first_row == b->first_row ? 0
           : a->first_row < b->first_row  ? -1
                                          : 1;
}

static int letter_take(void *context, const struct fm_row_letter *letter, const char *line,
                       size_t length)
{
    struct gatherer *gatherer = context;
    bool records = gatherer->job->format != NULL;
    const struct fm_text *id = records ? &letter->file : &letter->id;
    (void)line;
    (void)length;
    if (records != (letter->file.length > 0)) {
        return fm_error_set(gatherer->reterr, FM_EINVAL,
                            "the dead letters of '%s' are of files that %s, and the inputs of '%s' "
                            "are not: run them with the job that they are of",
                            gatherer->from, records ? "are a row each" : "hold rows",
                            gatherer->job->file);
    }
    if (gatherer->count == gatherer->capacity) {
        size_t capacity = gatherer->capacity > 0 ? gatherer->capacity * 2 : 64;
        struct fm_listing_entry *rows = fm_realloc(gatherer->rows, capacity * sizeof(*rows));
        if (rows == NULL) {
            return fm_error_set(gatherer->reterr, FM_ENOMEM, "out of memory for dead letters");
        }
        gatherer->rows = rows;
        gatherer->capacity = capacity;
    }
    char *copy = fm_arena_strdup(&gatherer->arena, id->data);
    if (copy == NULL) {
        return fm_error_set(gatherer->reterr, FM_ENOMEM, "out of memory for dead letters");
    }
    gatherer->rows[gatherer->count++] =
        (struct fm_listing_entry){.id = copy, .first_row = records ? letter->file_row : 0};
    return 0;
}

/* The file as it is among the inputs; else one whose size nobody knows. */
static struct fm_listing_entry entry_of(const struct fm_listing *listing,
                                        const struct fm_listing_entry *wanted)
{
    const struct fm_listing_entry *found =
        listing->count > 0 ? bsearch(wanted, listing->entries, listing->count,
                                     sizeof(*listing->entries), fm_listing_compare)
                           : NULL;
    return (struct fm_listing_entry){.id = wanted->id,
                                     .size = found != NULL ? found->size : FM_LISTING_SIZE_UNKNOWN,
                                     .rows_total = FM_LISTING_ROWS_UNKNOWN};
}

/* `fewer` becomes the files, and *retry their rows. */
static int files_choose(struct fm_retry *retry, const struct gatherer *gatherer,
                        const struct fm_listing *listing, struct fm_listing *fewer)
{
    for (size_t i = 0; i < gatherer->count; i++) {
        const struct fm_listing_entry *wanted = &gatherer->rows[i];
        const struct fm_listing_entry *before = i > 0 ? &gatherer->rows[i - 1] : NULL;
        bool same_file = before != NULL && fm_listing_compare(before, wanted) == 0;
        if (same_file && before->first_row == wanted->first_row) {
            continue;
        }
        const struct fm_listing_entry entry = entry_of(listing, wanted);
        if (!same_file && fm_listing_add(fewer, &entry) != 0) {
            return FM_ENOMEM;
        }
        retry->rows[retry->count++] =
            (struct fm_retry_row){.entry = fewer->count - 1, .row = wanted->first_row};
    }
    return 0;
}

/* A manifest, where there is one, knows how many there are. */
static int count_check(const char *from, size_t count, struct fm_error *reterr)
{
    const struct fm_manifest_handlers handlers = {.context = NULL};
    struct fm_manifest_head head;
    char path[FM_OUTPUT_PATH_MAX];
    int status = fm_path_join(path, sizeof(path), from, FM_OUTPUT_MANIFEST_FILE);
    status = status != 0 ? FM_ENOTFOUND : fm_manifest_read(path, &handlers, &head, reterr);
    if (status == FM_ENOTFOUND) {
        *reterr = (struct fm_error){0};
        return 0; /* it has not ended yet */
    }
    return status != 0 || head.dead_letters == count
               ? status
               : fm_error_set(reterr, FM_ECORRUPT,
                              "'%s' has %zu dead letters, and its manifest says %llu: put errors/ "
                              "back as it was",
                              from, count, (unsigned long long)head.dead_letters);
}

/* Row 17 of another query, or of the file read as another format, is another row. What was recorded
 * is in the manifest or the ledger; where neither can be read, others say so. */
static int source_check(const char *from, const struct fm_job *job, struct fm_error *reterr)
{
    char source[FM_JOB_FACT_SIZE];
    int status = 0;
    struct fm_job_look *look = fm_alloc(sizeof(*look));
    if (look == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for dead letters");
    }
    fm_job_source_describe(job, source, sizeof(source));
    bool known = fm_job_look(from, look, NULL) == 0;
    for (uint32_t i = 0; known && i < look->fact_count && status == 0; i++) {
        if (strcmp(look->facts[i].key, FM_JOB_FACT_SOURCE) == 0 &&
            strcmp(look->facts[i].value, source) != 0) {
            status = fm_error_set(reterr, FM_EINVAL,
                                  "the dead letters of '%s' are of another source: input.format "
                                  "was '%s', and that of '%s' is '%s': run them with the job that "
                                  "they are of",
                                  from, look->facts[i].value, job->file, source);
        }
    }
    fm_free(look);
    return status;
}

int fm_retry_choose(struct fm_retry *retry, const char *from, const struct fm_job *job,
                    struct fm_listing *listing, struct fm_error *reterr)
{
    struct fm_error local = {0};
    struct gatherer gatherer = {
        .job = job, .from = from, .reterr = reterr != NULL ? reterr : &local};
    struct fm_listing fewer = {.hidden_count = listing->hidden_count,
                               .duplicate_count = listing->duplicate_count};
    const struct fm_letters_options letters = {
        .directory = from, .each = letter_take, .context = &gatherer};
    fm_arena_init(&gatherer.arena, 0);
    fm_arena_init(&fewer.arena, 0);
    (void)snprintf(fewer.base, sizeof(fewer.base), "%s", listing->base);
    int status = fm_letters_each(&letters, gatherer.reterr);
    status = status != 0 ? status : source_check(from, job, gatherer.reterr);
    status = status != 0 ? status : count_check(from, gatherer.count, gatherer.reterr);
    if (status == 0 && gatherer.count == 0) {
        status = fm_error_set(reterr, FM_ENOTFOUND,
                              "there are no dead letters in '%s': there is nothing to run", from);
    }
    if (status == 0) {
        qsort(gatherer.rows, gatherer.count, sizeof(*gatherer.rows), wanted_compare);
        retry->rows = fm_alloc(gatherer.count * sizeof(*retry->rows));
        status = retry->rows != NULL ? files_choose(retry, &gatherer, listing, &fewer) : FM_ENOMEM;
        status = status == 0 ? 0 : fm_error_set(reterr, status, "out of memory for dead letters");
    }
    if (status == 0) {
        fm_listing_deinit(listing);
        *listing = fewer;
    } else {
        fm_listing_deinit(&fewer);
    }
    fm_free(gatherer.rows);
    fm_arena_deinit(&gatherer.arena);
    return status;
}

void fm_retry_deinit(struct fm_retry *retry)
{
    fm_free(retry->rows);
    *retry = (struct fm_retry){0};
}
