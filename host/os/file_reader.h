/*
 * Reading parts of a file that is too large to hold.
 *
 * Thread rule: read_at from any number of threads at once; open and close from one.
 */
#ifndef FM_HOST_OS_FILE_READER_H
#define FM_HOST_OS_FILE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

/* Zero-initialise. */
struct fm_file_reader {
    int descriptor;
    bool open;
    char path[4096];
};

int FM_NODISCARD fm_file_reader_open(struct fm_file_reader *reader, const char *path,
                                     struct fm_error *reterr);
/* Up to `size` bytes from `offset`; fewer only at the end of the file (*ret_size says how many). */
int FM_NODISCARD fm_file_reader_read_at(const struct fm_file_reader *reader, uint64_t offset,
                                        void *data, size_t size, size_t *ret_size,
                                        struct fm_error *reterr);
void fm_file_reader_close(struct fm_file_reader *reader); /* fine when not open */

#endif
