/*
 * Finding inputs while the job runs. See lister.h.
 */
#include "engines/batch/lister.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/batch/output.h"
#include "engines/batch/priority.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#define NS_PER_MS     UINT64_C(1000000)
#define CUT_FIRST_NS  (100 * NS_PER_MS)
#define CUT_MOST_NS   (20000 * NS_PER_MS)
#define SEGMENT_FILES ((size_t)1 << 20)
/* Each segment is a file and a transaction. */
#define RANK_CUTS_MAX 250u
/* What ends a walk, or the counting of a file, of which no more is wanted. */
#define ENOUGH 1

struct fm_lister {
    struct fm_lister_options options;
    struct fm_thread thread;
    atomic_bool stopping;

    /* Of the thread. */
    struct fm_listing walked;  /* files, until they are in a segment */
    struct fm_listing segment; /* of files that hold rows: what the next segment has */
    struct fm_row_index_writer index;
    uint64_t segment_rows;       /* of it, in the entries before the last */
    struct fm_listing_entry *at; /* the last: the file whose rows are being counted */
    bool begun;                  /* it has its first point */
    struct fm_record_point before;
    size_t wanted; /* of a retry: the next row of its that has no place */
    uint64_t rows; /* of all segments so far */
    uint32_t segments;
    uint32_t rank_cuts; /* segments that ended because the next file has another rank */
    uint32_t file_rank; /* of the file whose rows are being counted */
    uint64_t cut_ns;    /* when the next one is due */
    uint64_t cut_after_ns;
    bool last; /* no other segment comes */
    struct fm_error error;

    struct fm_mutex mutex;
    struct fm_condition news;
    struct fm_job_segment *found;
    size_t found_count;
    size_t found_capacity;
    size_t shown; /* of those, which may be taken: the last one comes together with the end */
    size_t taken;
    bool ended;
    struct fm_lister_counts counts;
};

int fm_segment_paths_make(const char *directory, uint32_t segment,
                          struct fm_segment_paths *ret_paths, struct fm_error *reterr)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "inputs-%" PRIu32, segment);
    int status = fm_output_state_path(directory, name, ret_paths->listing,
                                      sizeof(ret_paths->listing), reterr);
    (void)snprintf(name, sizeof(name), "rows-%" PRIu32, segment);
    return status != 0 ? status
                       : fm_output_state_path(directory, name, ret_paths->index,
                                              sizeof(ret_paths->index), reterr);
}

/* --- Segments --- */

static bool is_due(const struct fm_lister *lister)
{
    return fm_os_now_ns() >= lister->cut_ns;
}

static int found_add(struct fm_lister *lister, const struct fm_job_segment *segment)
{
    int status = 0;
    fm_mutex_lock(&lister->mutex);
    if (lister->found_count == lister->found_capacity) {
        size_t capacity = lister->found_capacity == 0 ? 16 : lister->found_capacity * 2;
        struct fm_job_segment *grown = fm_realloc(lister->found, capacity * sizeof(*grown));
        status = grown != NULL ? 0 : FM_ENOMEM;
        lister->found = grown != NULL ? grown : lister->found;
        lister->found_capacity = grown != NULL ? capacity : lister->found_capacity;
    }
    if (status == 0) {
        lister->found[lister->found_count++] = *segment;
        lister->shown = lister->last ? lister->shown : lister->found_count;
        fm_condition_signal(&lister->news);
    }
    fm_mutex_unlock(&lister->mutex);
    return status == 0 ? 0 : fm_error_set(&lister->error, status, "out of memory for the inputs");
}

/* Of a file, as far as it matters. */
static uint32_t rank_of(const struct fm_lister *lister, const char *id)
{
    return lister->options.retry != NULL ? FM_LEDGER_RANK_LAST
                                         : fm_priority_rank(lister->options.job, id);
}

/* Of a segment: the lowest of its files. */
static uint32_t rank_lowest(const struct fm_lister *lister, const struct fm_listing *listing,
                            const size_t *order, size_t count)
{
    uint32_t lowest = FM_LEDGER_RANK_LAST;
    for (size_t i = 0; i < count && lister->options.job->priority_count > 0 && lowest > 0; i++) {
        uint32_t rank = rank_of(lister, listing->entries[order != NULL ? order[i] : i].id);
        lowest = rank < lowest ? rank : lowest;
    }
    return lowest;
}

/* Files first, then the store, then whoever waits. */
static int segment_store(struct fm_lister *lister, const struct fm_listing *listing,
                         const size_t *order, size_t count, uint64_t rows)
{
    const struct fm_lister_options *options = &lister->options;
    const struct fm_job_store_functions *store = options->store->functions;
    struct fm_error *error = &lister->error;
    struct fm_segment_paths paths;
    bool has_rows = options->source != NULL;
    bool first = lister->segments == 0 && options->fact_count > 0;
    uint64_t index_checksum = 0;
    struct fm_job_segment segment = {.rows = {.first_row = options->first_row + lister->rows,
                                              .row_count = rows,
                                              .grain_rows = 1,
                                              .rank = rank_lowest(lister, listing, order, count)}};
    int status = fm_segment_paths_make(options->job->output,
                                       options->first_segment + lister->segments, &paths, error);
    if (status == 0 && has_rows) {
        status = fm_row_index_write(&lister->index, paths.index, &index_checksum, error);
    }
    status = status != 0 ? status
                         : fm_listing_write(listing, order, count, has_rows, paths.listing,
                                            &segment.listing_checksum, error);
    if (has_rows) {
        segment.listing_checksum = fm_row_source_checksum(segment.listing_checksum, index_checksum);
    }
    status = status != 0 ? status
                         : fm_fault_hit(options->fault,
                                        first ? FM_FAULT_LISTED : FM_FAULT_GROWN_LISTED, error);
    if (status == 0) {
        status = first ? store->create(options->store, options->facts, options->fact_count,
                                       &segment, error)
                       : store->grow(options->store, NULL, 0, &segment, error);
    }
    status = status != 0
                 ? status
                 : fm_fault_hit(options->fault, first ? FM_FAULT_CREATED : FM_FAULT_GROWN, error);
    if (status != 0) {
        return status;
    }
    lister->rows += rows;
    lister->segments++;
    if (is_due(lister)) {
        lister->cut_after_ns =
            lister->cut_after_ns < CUT_MOST_NS / 2 ? 2 * lister->cut_after_ns : CUT_MOST_NS;
        lister->cut_ns = fm_os_now_ns() + lister->cut_after_ns;
    }
    return found_add(lister, &segment);
}

/* --- Files that are rows --- */

/* A segment for each run of files that have the same rank. */
static int runs_store(struct fm_lister *lister, const struct fm_listing *listing,
                      const size_t *order, size_t count)
{
    bool last = lister->last;
    size_t end = 0;
    int status = 0;
    for (size_t first = 0; first < count && status == 0; first = end) {
        uint32_t rank = rank_of(lister, listing->entries[order[first]].id);
        bool same = true;
        for (end = first; end < count && same; end += same ? 1 : 0) {
            same = lister->rank_cuts == RANK_CUTS_MAX ||
                   rank_of(lister, listing->entries[order[end]].id) == rank;
        }
        lister->rank_cuts += same ? 0 : 1;
        lister->last = last && end == count;
        status = segment_store(lister, listing, order + first, end - first, end - first);
    }
    lister->last = last;
    return status;
}

static int files_store(struct fm_lister *lister, const struct fm_listing *listing,
                       const size_t *order, size_t count)
{
    if (lister->options.job->priority_count == 0) {
        return segment_store(lister, listing, order, count, count);
    }
    size_t *all = order == NULL ? fm_alloc(count * sizeof(*all)) : NULL;
    if (order == NULL && all == NULL) {
        return fm_error_set(&lister->error, FM_ENOMEM, "out of memory for the inputs");
    }
    for (size_t i = 0; i < count && all != NULL; i++) {
        all[i] = i;
    }
    int status = runs_store(lister, listing, order != NULL ? order : all, count);
    fm_free(all);
    return status;
}

static int files_cut(struct fm_lister *lister)
{
    struct fm_listing *walked = &lister->walked;
    uint64_t room = lister->options.rows_max - lister->rows;
    size_t count = walked->count < room ? walked->count : (size_t)room;
    int status = count > 0 ? files_store(lister, walked, NULL, count) : 0;
    fm_listing_clear(walked);
    return status;
}

/* A walk has come by one more file. */
static int file_found(void *context)
{
    struct fm_lister *lister = context;
    size_t count = lister->walked.count;
    if (atomic_load(&lister->stopping)) {
        return fm_error_set(&lister->error, FM_ECANCELLED, "stopped");
    }
    if (lister->rows + count >= lister->options.rows_max) {
        return ENOUGH;
    }
    bool look = count % 64 == 0;
    return count >= SEGMENT_FILES || (look && is_due(lister)) ? files_cut(lister) : 0;
}

static int files_walk(struct fm_lister *lister)
{
    int status =
        fm_listing_walk(lister->options.job, lister->options.job->output, &lister->stopping,
                        file_found, lister, &lister->walked, &lister->error);
    lister->last = true;
    return status < 0 ? status : files_cut(lister);
}

static int files_given(struct fm_lister *lister)
{
    const struct fm_lister_options *options = &lister->options;
    size_t all = options->order != NULL ? options->order_count : options->listing->count;
    size_t count = all < options->rows_max ? all : (size_t)options->rows_max;
    lister->last = true;
    return count > 0 ? files_store(lister, options->listing, options->order, count) : 0;
}

/* --- Rows of files --- */

/* One more entry in the segment: rows of this file from first_row on. */
static int entry_begin(struct fm_lister *lister, const struct fm_listing_entry *file,
                       uint64_t first_row)
{
    const struct fm_listing_entry entry = {.id = file->id,
                                           .size = file->size,
                                           .first_row = first_row,
                                           .rows_total = FM_LISTING_ROWS_UNKNOWN};
    int status = fm_listing_add(&lister->segment, &entry);
    if (status != 0) {
        return fm_error_set(&lister->error, status, "out of memory for the list of inputs");
    }
    lister->at = &lister->segment.entries[lister->segment.count - 1];
    lister->begun = false;
    return 0;
}

static int point_put(struct fm_lister *lister, uint64_t file_row,
                     const struct fm_record_point *point)
{
    const struct fm_row_point one = {.row = lister->segment_rows + file_row - lister->at->first_row,
                                     .entry = lister->segment.count - 1,
                                     .file_row = file_row,
                                     .point = *point};
    lister->begun = true;
    return fm_row_index_put(&lister->index, &one, &lister->error);
}

/* The entry's rows end before this one, or at the file's end. */
static void entry_end(struct fm_lister *lister, uint64_t file_row)
{
    uint64_t first = lister->at->first_row;
    lister->at->row_count = file_row > first ? file_row - first : 0;
    lister->segment_rows += lister->at->row_count;
}

static int rows_cut(struct fm_lister *lister)
{
    int status = 0;
    if (lister->segment_rows > 0) {
        status = segment_store(lister, &lister->segment, NULL, lister->segment.count,
                               lister->segment_rows);
    }
    fm_listing_clear(&lister->segment);
    fm_row_index_clear(&lister->index);
    lister->segment_rows = 0;
    lister->at = NULL;
    return status;
}

/* In the middle of a file. */
static int cut_at(struct fm_lister *lister, const struct fm_record_point *point)
{
    struct fm_listing_entry file = *lister->at;
    char id[FM_LISTING_ID_MAX];
    (void)snprintf(id, sizeof(id), "%s", file.id); /* it goes with the segment */
    file.id = id;
    entry_end(lister, point->row);
    int status = rows_cut(lister);
    return status != 0 ? status : entry_begin(lister, &file, point->row);
}

/* Rows that are wanted beyond those that the segment's entries have, the last one excluded. */
static uint64_t rows_room(const struct fm_lister *lister)
{
    return lister->options.rows_max - lister->rows - lister->segment_rows;
}

static int take(void *context, const struct fm_record_point *point)
{
    struct fm_lister *lister = context;
    uint64_t first = lister->at->first_row;
    int status = 0;
    if (atomic_load(&lister->stopping)) {
        return fm_error_set(&lister->error, FM_ECANCELLED, "stopped");
    }
    if (point->row > first) {
        if (!lister->begun) {
            status = point_put(lister, first, &lister->before);
        }
        if (status == 0 && point->row - first >= rows_room(lister)) {
            return ENOUGH;
        }
        if (status == 0 && is_due(lister)) {
            status = cut_at(lister, point);
        }
    }
    if (status == 0 && point->row >= lister->at->first_row) {
        status = point_put(lister, point->row, point);
    }
    lister->before = *point;
    return status;
}

static int file_count(struct fm_lister *lister, const char *base,
                      const struct fm_listing_entry *file)
{
    const struct fm_source_spec *source = lister->options.source;
    char path[2 * FM_LISTING_ID_MAX];
    uint64_t rows = 0;
    if (fm_path_join(path, sizeof(path), base, file->id) != 0) {
        return fm_error_set(&lister->error, FM_ETOOLARGE, "the path '%.200s...' is too long",
                            file->id);
    }
    int status = entry_begin(lister, file, file->first_row);
    status = status != 0 ? status
                         : source->format->count(source, path, take, lister, &rows, &lister->error);
    if (status == FM_ECORRUPT && lister->at != NULL && lister->at->first_row > 0) {
        const struct fm_error why = lister->error;
        return fm_error_set(&lister->error, status,
                            "%s; what is committed is kept, but rows of this file are in the job "
                            "already, and a job keeps to files as it found them: mend it and begin "
                            "anew with --restart",
                            why.text);
    }
    if (status < 0) {
        return status;
    }
    uint64_t first = lister->at->first_row;
    uint64_t room = rows_room(lister);
    bool enough = status == ENOUGH;
    if (!enough) {
        lister->at->rows_total = rows;
    }
    status =
        !enough && rows > first && !lister->begun ? point_put(lister, first, &lister->before) : 0;
    entry_end(lister, enough || (rows > first && rows - first > room) ? first + room : rows);
    return status;
}

static int rows_count(struct fm_lister *lister, const struct fm_listing *listing)
{
    const struct fm_lister_options *options = &lister->options;
    size_t count = options->order != NULL ? options->order_count : listing->count;
    int status = 0;
    for (size_t i = 0; i < count && status == 0 && rows_room(lister) > 0; i++) {
        size_t entry = options->order != NULL ? options->order[i] : i;
        uint32_t rank = rank_of(lister, listing->entries[entry].id);
        if (lister->segment_rows > 0 && rank != lister->file_rank &&
            lister->rank_cuts < RANK_CUTS_MAX) {
            lister->rank_cuts++;
            status = rows_cut(lister);
        }
        lister->file_rank = rank;
        status = status != 0 ? status : file_count(lister, listing->base, &listing->entries[entry]);
        if (status == 0 && is_due(lister)) {
            status = rows_cut(lister);
        }
    }
    lister->last = true;
    return status != 0 ? status : rows_cut(lister);
}

/* --- Rows that are wanted by their numbers --- */

/* Gives the wanted rows of a file that come before `end` their place: behind the last point. */
static int wanted_place(struct fm_lister *lister, const struct fm_listing_entry *file, size_t entry,
                        uint64_t end)
{
    const struct fm_retry *retry = lister->options.retry;
    int status = 0;
    while (status == 0 && lister->wanted < retry->count &&
           retry->rows[lister->wanted].entry == entry && retry->rows[lister->wanted].row < end) {
        uint64_t first = retry->rows[lister->wanted].row;
        uint64_t count = 0;
        for (; lister->wanted < retry->count && retry->rows[lister->wanted].entry == entry &&
               retry->rows[lister->wanted].row == first + count && first + count < end;
             count++) {
            lister->wanted++;
        }
        status = entry_begin(lister, file, first);
        status = status != 0 ? status : point_put(lister, first, &lister->before);
        if (status == 0) {
            entry_end(lister, first + count);
        }
    }
    return status;
}

struct wanted_file {
    struct fm_lister *lister;
    const struct fm_listing_entry *file;
    size_t entry;
    int status; /* of the lister itself; else it is the file's */
};

static int wanted_take(void *context, const struct fm_record_point *point)
{
    struct wanted_file *wanted = context;
    struct fm_lister *lister = wanted->lister;
    if (atomic_load(&lister->stopping)) {
        wanted->status = fm_error_set(&lister->error, FM_ECANCELLED, "stopped");
    } else {
        wanted->status = wanted_place(lister, wanted->file, wanted->entry, point->row);
    }
    lister->before = *point;
    return wanted->status;
}

/* A file that is gone, or is none any more, is one to whoever reads its rows: they say so. */
static int wanted_find(struct fm_lister *lister, size_t entry)
{
    const struct fm_source_spec *source = lister->options.source;
    const struct fm_listing *listing = lister->options.listing;
    const struct fm_listing_entry *file = &listing->entries[entry];
    struct wanted_file wanted = {.lister = lister, .file = file, .entry = entry};
    struct fm_error of_file = {0};
    char path[2 * FM_LISTING_ID_MAX];
    uint64_t rows = 0;
    if (fm_path_join(path, sizeof(path), listing->base, file->id) != 0) {
        return fm_error_set(&lister->error, FM_ETOOLARGE, "the path '%.200s...' is too long",
                            file->id);
    }
    lister->before = (struct fm_record_point){.line = 1};
    int status = source->format->count(source, path, wanted_take, &wanted, &rows, &of_file);
    if (wanted.status != 0) {
        return wanted.status;
    }
    if (status == FM_ENOMEM) {
        return fm_error_set(&lister->error, status, "%s", of_file.text);
    }
    return wanted_place(lister, file, entry, UINT64_MAX);
}

static int wanted_list(struct fm_lister *lister)
{
    int status = 0;
    for (size_t i = 0; i < lister->options.listing->count && status == 0; i++) {
        status = wanted_find(lister, i);
    }
    lister->last = true;
    return status != 0 ? status : rows_cut(lister);
}

/* --- The thread --- */

static int rows_list(struct fm_lister *lister)
{
    const struct fm_lister_options *options = &lister->options;
    if (options->retry != NULL) {
        return wanted_list(lister);
    }
    if (options->listing != NULL) {
        return rows_count(lister, options->listing);
    }
    int status = fm_listing_build(options->job, options->job->output, &lister->stopping,
                                  &lister->walked, &lister->error);
    return status != 0 ? status : rows_count(lister, &lister->walked);
}

static void run(void *argument)
{
    struct fm_lister *lister = argument;
    const struct fm_lister_options *options = &lister->options;
    int status = options->source != NULL    ? rows_list(lister)
                 : options->listing != NULL ? files_given(lister)
                                            : files_walk(lister);
    const struct fm_listing *listing =
        options->listing != NULL ? options->listing : &lister->walked;
    FM_ASSERT(status <= 0);
    fm_mutex_lock(&lister->mutex);
    lister->error.status = status;
    lister->counts = (struct fm_lister_counts){.hidden = listing->hidden_count,
                                               .duplicates = listing->duplicate_count};
    lister->shown = lister->found_count;
    lister->ended = true;
    fm_condition_signal(&lister->news);
    fm_mutex_unlock(&lister->mutex);
}

/* --- Life --- */

int fm_lister_start(const struct fm_lister_options *options, struct fm_lister **ret_lister,
                    struct fm_error *reterr)
{
    struct fm_lister *lister = fm_alloc_zero(1, sizeof(*lister));
    if (lister == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the inputs");
    }
    lister->options = *options;
    lister->cut_after_ns = CUT_FIRST_NS;
    lister->cut_ns = fm_os_now_ns() + CUT_FIRST_NS;
    fm_mutex_init(&lister->mutex);
    fm_condition_init(&lister->news);
    int status = fm_thread_start(&lister->thread, "fm-list", run, lister);
    if (status != 0) {
        fm_condition_deinit(&lister->news);
        fm_mutex_deinit(&lister->mutex);
        fm_free(lister);
        return fm_error_set(reterr, status, "cannot start the thread that lists the inputs");
    }
    *ret_lister = lister;
    return 0;
}

void fm_lister_wait(struct fm_lister *lister)
{
    fm_mutex_lock(&lister->mutex);
    while (lister->shown == 0 && !lister->ended) {
        fm_condition_wait(&lister->news, &lister->mutex);
    }
    fm_mutex_unlock(&lister->mutex);
}

enum fm_lister_state fm_lister_next(struct fm_lister *lister, struct fm_job_segment *ret_segment,
                                    struct fm_error *reterr)
{
    enum fm_lister_state state = FM_LISTER_BUSY;
    fm_mutex_lock(&lister->mutex);
    if (lister->taken < lister->shown) {
        *ret_segment = lister->found[lister->taken++];
        state = FM_LISTER_SEGMENT;
    } else if (lister->ended) {
        state = FM_LISTER_ENDED;
        if (lister->error.status != 0) {
            *reterr = lister->error;
        }
    }
    fm_mutex_unlock(&lister->mutex);
    return state;
}

void fm_lister_counts(const struct fm_lister *lister, struct fm_lister_counts *ret_counts)
{
    *ret_counts = lister->counts;
}

void fm_lister_stop(struct fm_lister *lister)
{
    if (lister == NULL) {
        return;
    }
    atomic_store(&lister->stopping, true);
    fm_thread_join(&lister->thread);
    fm_listing_deinit(&lister->walked);
    fm_listing_deinit(&lister->segment);
    fm_row_index_writer_deinit(&lister->index);
    fm_condition_deinit(&lister->news);
    fm_mutex_deinit(&lister->mutex);
    fm_free(lister->found);
    fm_free(lister);
}
