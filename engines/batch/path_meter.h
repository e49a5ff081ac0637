/*
 * How busy a data path is: sums of time that the tuner looks at.
 *
 * Owns: the sums. Does not own: what they mean (core/plan/tuner). Thread rule: under the caller's
 * lock.
 */
#ifndef FM_ENGINES_BATCH_PATH_METER_H
#define FM_ENGINES_BATCH_PATH_METER_H

#include <stdbool.h>
#include <stdint.h>

/* Zero-initialise. */
struct fm_path_meter {
    uint64_t readers_busy_ns; /* over all readers */
    uint64_t full_ns;
    /* Internal. */
    uint64_t at_ns;
    uint32_t readers_busy;
    bool full;
};

/* Brings the sums up to now. */
void fm_path_meter_advance(struct fm_path_meter *meter, uint64_t now_ns);
/* A reader begins to work, or has nothing to do. */
void fm_path_meter_reader(struct fm_path_meter *meter, uint64_t now_ns, bool busy);
/* Whether as many rows are in flight as may be. */
void fm_path_meter_full(struct fm_path_meter *meter, uint64_t now_ns, bool full);

#endif
