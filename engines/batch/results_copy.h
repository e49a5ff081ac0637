/*
 * All results of a complete job, one part behind the other, in the order of its inputs.
 *
 * Owns: which parts, in which order. Does not own: where they go. Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_RESULTS_COPY_H
#define FM_ENGINES_BATCH_RESULTS_COPY_H

#include <stddef.h>

#include "fermata/status.h"

/* Calls take(context, data, size) with the bytes of all parts that the manifest of `directory`
 * names, decompressed. What it returns, where it is not 0, ends the copying and is returned,
 * without words. What is wrong with the manifest or a part; FM_ENOMEM. */
int FM_NODISCARD fm_results_copy(const char *directory,
                                 int (*take)(void *context, const char *data, size_t size),
                                 void *context, struct fm_error *reterr);

#endif
