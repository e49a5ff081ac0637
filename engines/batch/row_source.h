/*
 * The recorded inputs of a job, over all its segments: row 1234 means the same file, or the same
 * row of a file, for ever.
 *
 * Owns: reading listing files and their indexes, checking them, comparing them with what is there
 * now. Does not own: writing them (listing.h, row_index.h). Thread rule: one thread.
 *
 * Recorded listings are read in pieces, with one offset kept for every FM_ROW_SOURCE_STRIDE files.
 */
#ifndef FM_ENGINES_BATCH_ROW_SOURCE_H
#define FM_ENGINES_BATCH_ROW_SOURCE_H

#include "engines/batch/row_index.h"

#define FM_ROW_SOURCE_STRIDE 64

/* Zero-initialise. */
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
    uint64_t cursor_entry; /* that the next record is; UINT64_MAX: no position yet */
};

/* The sum of a listing whose files hold rows: of both its files. */
uint64_t fm_row_source_checksum(uint64_t listing_checksum, uint64_t index_checksum);

/* Opens a segment's listing file, and its index where files hold rows (else NULL), and checks them:
 * number of rows, checksum. FM_ECORRUPT. */
int FM_NODISCARD fm_row_source_add(struct fm_row_source *source, const char *path,
                                   const char *index_path, uint64_t first_row, uint64_t row_count,
                                   uint64_t checksum, struct fm_error *reterr);

/* A file that is a row, or rows of a file that holds many. */
struct fm_row_place {
    const char *id;               /* of the file; borrowed until the next call */
    uint64_t size;                /* of the file, as recorded */
    uint64_t row_count;           /* of the file's rows; 0: it is one */
    uint64_t first_row;           /* in the file */
    struct fm_record_point point; /* from which they are reached */
};

/* Where the row lies, with up to rows_max rows that follow it in the same file. Fast when rows are
 * asked for in order. */
int FM_NODISCARD fm_row_source_get(struct fm_row_source *source, uint64_t row, uint64_t rows_max,
                                   struct fm_row_place *ret_place, struct fm_error *reterr);
void fm_row_source_deinit(struct fm_row_source *source);

/*
 * Compares what is there now with what the job has recorded. FM_EINVAL, with examples, when
 * recorded inputs are missing or have another size. Else *ret_added (fm_free it) holds the indices
 * of entries that are new, in order; and of files that hold rows also those that were recorded in
 * part, with their first_row behind what is recorded.
 */
int FM_NODISCARD fm_row_source_compare(struct fm_row_source *source, struct fm_listing *listing,
                                       size_t **ret_added, size_t *ret_added_count,
                                       struct fm_error *reterr);

#endif
