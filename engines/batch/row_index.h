/*
 * Where the rows of a job lie in files that hold many: counting them, and the index by which a row
 * is found again.
 *
 * Owns: the index files in the job's state directory. Does not own: how a file is counted
 * (host/source), which files there are (listing.h). Thread rule: one thread; a reader may be used
 * by any number of them.
 *
 * An index file belongs to a listing file, and holds points of 48 bytes: six little-endian numbers
 * of 64 bits each. They are in the order of the rows, and every file that has rows has one for its
 * first. A row is found by bisection on the disk, so memory does not grow with the job.
 */
#ifndef FM_ENGINES_BATCH_ROW_INDEX_H
#define FM_ENGINES_BATCH_ROW_INDEX_H

#include "core/util/text.h"
#include "engines/batch/listing.h"
#include "host/os/file_reader.h"
#include "host/source/source.h"

struct fm_row_point {
    uint64_t row;                 /* of the listing's rows, from 0 */
    uint64_t entry;               /* of the listing: which file */
    uint64_t file_row;            /* that it is in the file */
    struct fm_record_point point; /* at or before it */
};

/* Points in the making. Zero-initialise. */
struct fm_row_index_writer {
    struct fm_text text;
};

/* In the order of their rows. FM_ENOMEM. */
int FM_NODISCARD fm_row_index_put(struct fm_row_index_writer *writer,
                                  const struct fm_row_point *point, struct fm_error *reterr);
/* Writes the file; the listing, which is written behind it, brings its name to the disk. */
int FM_NODISCARD fm_row_index_write(struct fm_row_index_writer *writer, const char *path,
                                    uint64_t *ret_checksum, struct fm_error *reterr);
void fm_row_index_clear(struct fm_row_index_writer *writer); /* keeps the memory */
void fm_row_index_writer_deinit(struct fm_row_index_writer *writer);

/* Counts the rows of the listing's files, up to rows_max, and sets the entries' row_count. What is
 * wrong with a file names it. */
int FM_NODISCARD fm_row_index_count(struct fm_listing *listing, const struct fm_source_spec *source,
                                    uint64_t rows_max, uint64_t *ret_rows, struct fm_error *reterr);

/*
 * Reads the first rows of the listing's first file that has some (of the first few files): FM_ETYPE
 * when none of them fits the columns, with what is wrong with the first. Else what is wrong with a
 * file.
 */
int FM_NODISCARD fm_row_index_try(const struct fm_listing *listing,
                                  const struct fm_source_spec *source, struct fm_error *reterr);

/* Zero-initialise. */
struct fm_row_index {
    struct fm_file_reader file;
    uint64_t count; /* points */
};

/* Goes on with *checksum, which begins as FM_HASH_START or as another file's sum. */
int FM_NODISCARD fm_row_index_open(struct fm_row_index *index, const char *path, uint64_t *checksum,
                                   struct fm_error *reterr);
/* The last point at or before the row. FM_ECORRUPT: there is none. */
int FM_NODISCARD fm_row_index_find(const struct fm_row_index *index, uint64_t row,
                                   struct fm_row_point *ret_point, struct fm_error *reterr);
void fm_row_index_close(struct fm_row_index *index); /* fine when not open */

#endif
