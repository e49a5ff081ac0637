/*
 * A part read back, for a proof: its bytes, its checksum, and the id of every row in it.
 *
 * Owns: how a part of each format is walked. Does not own: what has to hold (verify.h). Thread
 * rule: a reader belongs to one thread.
 */
#ifndef FM_ENGINES_BATCH_PART_READER_H
#define FM_ENGINES_BATCH_PART_READER_H

#include "engines/batch/line_reader.h"
#include "engines/batch/sink.h"

/* Zero-initialise. One may be opened again after it was closed, and keeps its memory until deinit.
 */
struct fm_part_reader {
    uint64_t bytes; /* read so far; at the end: the file's size */
    uint64_t checksum;
    uint64_t rows;     /* so far, those that cannot be read included */
    bool unterminated; /* a text that ends in the middle of a line */

    /* Internal. */
    const struct fm_sink *sink;
    struct fm_line_reader lines;
    struct fm_source_spec spec;
    struct fm_source_reader *source; /* NULL: they are lines, or it is over */
    struct fm_row_block block;
    bool has_block;
    uint32_t at; /* of the block's rows */
};

/* FM_ECORRUPT and others, with words that name the file: it is no such file. FM_ENOTFOUND, FM_EIO,
 * FM_ENOMEM. The sums are there all the same, but for the last two. */
int FM_NODISCARD fm_part_reader_open(struct fm_part_reader *reader, const struct fm_sink *sink,
                                     const char *path, struct fm_error *reterr);
/*
 * The next row: *ret_found false: there is none. Its id is put into *id. FM_ECORRUPT, with why: it
 * is none, and others may come. FM_ENOMEM, FM_EIO, FM_ETOOLARGE: the file cannot be read.
 */
int FM_NODISCARD fm_part_reader_next(struct fm_part_reader *reader, struct fm_text *id,
                                     bool *ret_found, struct fm_error *reterr);
/* The next line of a text, borrowed until the next call; NULL: there is none. As above. */
int FM_NODISCARD fm_part_reader_line(struct fm_part_reader *reader, const char **ret_line,
                                     size_t *ret_length, struct fm_error *reterr);
void fm_part_reader_close(struct fm_part_reader *reader);
void fm_part_reader_deinit(struct fm_part_reader *reader);

#endif
