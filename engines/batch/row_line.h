/*
 * Reading a line that row_format.h has written: which row it is of, and why it failed.
 *
 * Thread rule: pure, on the caller's memory.
 */
#ifndef FM_ENGINES_BATCH_ROW_LINE_H
#define FM_ENGINES_BATCH_ROW_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"

/* Reads a line of results, all of it; *ret_id, which may hold something, becomes the id's bytes,
 * also where they are not UTF-8. FM_ECORRUPT, with why: it is not JSON, no object, or has no id;
 * FM_ENOMEM. */
int FM_NODISCARD fm_row_line_id(const char *text, size_t length, struct fm_text *ret_id,
                                struct fm_error *reterr);

/* A dead letter. Zero-initialise, use for any number of lines, deinit. */
struct fm_row_letter {
    struct fm_text id;
    struct fm_text source;
    struct fm_text file; /* of a file that holds rows: its id; it has no file_row without it */
    struct fm_text stage;
    struct fm_text code;
    struct fm_text message;
    uint64_t row;
    uint64_t file_row;
    uint64_t attempts;
};

/* As fm_row_line_id; FM_ECORRUPT also without a row. Other things that are missing are "" or 0. */
int FM_NODISCARD fm_row_letter_read(struct fm_row_letter *letter, const char *text, size_t length,
                                    struct fm_error *reterr);
void fm_row_letter_deinit(struct fm_row_letter *letter);

#endif
