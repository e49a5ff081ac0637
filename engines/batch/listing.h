/*
 * The inputs of a job: which files are its rows, in which order, and the record of it that makes
 * row 1234 mean the same file for ever.
 *
 * Owns: finding the files (patterns, directories, lists), ids, sorting (bytewise), the listing
 * files in the job's state directory, comparing a new listing with the recorded one. Does not own:
 * reading the files. Thread rule: one thread.
 *
 * A listing file holds, for every row, "<size in bytes, or ?> <id>" and a NUL: any name that a file
 * can have fits. Memory: a listing in the making holds all its ids; a recorded one is read in
 * pieces, with one offset kept for every FM_LISTING_STRIDE rows.
 */
#ifndef FM_ENGINES_BATCH_LISTING_H
#define FM_ENGINES_BATCH_LISTING_H

#include "core/util/memory.h"
#include "engines/batch/job_file.h"
#include "host/os/file_reader.h"

#define FM_LISTING_STRIDE       64
#define FM_LISTING_ID_MAX       4096
#define FM_LISTING_SIZE_UNKNOWN UINT64_MAX

struct fm_listing_entry {
    const char *id; /* relative to the base; absolute when the file lies elsewhere */
    uint64_t size;
};

struct fm_listing {
    struct fm_arena arena;
    struct fm_listing_entry *entries; /* sorted by id, no two alike */
    size_t count;
    size_t capacity;
    char base[4096];          /* base + "/" + id opens the file */
    uint64_t hidden_count;    /* left out for a leading dot */
    uint64_t duplicate_count; /* left out because they were named more than once */
};

/* `exclude` (may be NULL) is the output directory, which may not exist yet: it is left out of every
 * search, links to files in it too, and an input that is named in it is FM_EINVAL. FM_ENOTFOUND:
 * nothing there, or a pattern without a match. */
int FM_NODISCARD fm_listing_build(const struct fm_job *job, const char *exclude,
                                  struct fm_listing *ret_listing, struct fm_error *reterr);
void fm_listing_deinit(struct fm_listing *listing);

/* Writes entries to a listing file, durably. `order` gives the indices; NULL: the first `count`. */
int FM_NODISCARD fm_listing_write(const struct fm_listing *listing, const size_t *order,
                                  size_t count, const char *path, uint64_t *ret_checksum,
                                  struct fm_error *reterr);

/* The recorded rows of a job, over all its segments. Zero-initialise. */
struct fm_row_source {
    struct fm_row_segment *segments;
    size_t segment_count;
    size_t segment_capacity;
    char *buffer;
    size_t buffer_size;
    size_t buffer_used;     /* of it, what is text */
    size_t buffer_position; /* where the next record starts */
    uint64_t buffer_offset; /* of the buffer in the file */
    size_t cursor_segment;
    uint64_t cursor_row; /* that the next record is; UINT64_MAX: no position yet */
};

/* Opens the segment's listing file and checks it: number of rows, checksum. FM_ECORRUPT. */
int FM_NODISCARD fm_row_source_add(struct fm_row_source *source, const char *path,
                                   uint64_t first_row, uint64_t row_count, uint64_t checksum,
                                   struct fm_error *reterr);
/* The row's id (borrowed until the next call) and recorded size. Fast when rows are asked for in
 * order. */
int FM_NODISCARD fm_row_source_get(struct fm_row_source *source, uint64_t row, const char **ret_id,
                                   uint64_t *ret_size, struct fm_error *reterr);
void fm_row_source_deinit(struct fm_row_source *source);

/*
 * Compares what is there now with what the job has recorded. FM_EINVAL, with examples, when
 * recorded inputs are missing or have another size. Else *ret_added (fm_free it) holds the indices
 * of entries that are new, in order.
 */
int FM_NODISCARD fm_listing_compare(const struct fm_listing *listing,
                                    struct fm_row_source *recorded, uint64_t recorded_count,
                                    size_t **ret_added, size_t *ret_added_count,
                                    struct fm_error *reterr);

#endif
