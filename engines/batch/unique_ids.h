/*
 * Are the ids of all rows different? In memory that does not grow with their number.
 *
 * Owns: fingerprints of the ids, in memory and, where they are too many, in files in a directory of
 * its own under $TMPDIR. Does not own: the ids. Thread rule: one thread at a time.
 *
 * HOW IT WORKS. Ids that come in ascending order are different; that costs nothing, and is how a
 * job's rows usually lie. Otherwise each id leaves 16 bytes: a hash and its row. So many as fit are
 * sorted in memory, more are dealt into files by their hash and sorted file by file. Equal hashes
 * are only a suspicion: who asks has to look at the ids of the rows that are named.
 *
 * LIMITATIONS. Fingerprints of ids in ascending order are given up when there is no room for more
 * (they would not be needed). When the order breaks after that, all ids have to come once more.
 */
#ifndef FM_ENGINES_BATCH_UNIQUE_IDS_H
#define FM_ENGINES_BATCH_UNIQUE_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

struct fm_unique_ids;

/* in_memory > 0: fingerprints that may lie in memory, 16 bytes each. FM_ENOMEM. */
int FM_NODISCARD fm_unique_ids_create(size_t in_memory, struct fm_unique_ids **ret_ids,
                                      struct fm_error *reterr);
/* Removes its files. Accepts NULL. */
void fm_unique_ids_destroy(struct fm_unique_ids *ids);
/* One more; `row` is what it is named by. FM_ENOMEM, FM_ENOSPC, FM_EIO. */
int FM_NODISCARD fm_unique_ids_add(struct fm_unique_ids *ids, const char *id, size_t size,
                                   uint64_t row, struct fm_error *reterr);
/*
 * All have come. *ret_again: they have to come once more, from the first (it has begun anew).
 * Else rows[0 .. *ret_count) are rows, ascending, whose ids may be those of others among them: at
 * most rows_max, though there may be more. 0 of them: all ids are different.
 */
int FM_NODISCARD fm_unique_ids_finish(struct fm_unique_ids *ids, uint64_t *rows, size_t rows_max,
                                      size_t *ret_count, bool *ret_again, struct fm_error *reterr);

#endif
