/*
 * The checksum of a file, read from its first byte to its last.
 *
 * Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_FILE_SUM_H
#define FM_ENGINES_BATCH_FILE_SUM_H

#include <stdint.h>

#include "fermata/status.h"

/* As core/util/hash.h; *ret_bytes: how many there were. FM_ENOTFOUND, FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_file_sum(const char *path, uint64_t *ret_checksum, uint64_t *ret_bytes,
                             struct fm_error *reterr);

#endif
