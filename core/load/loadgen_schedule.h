/*
 * The Server schedule of MLPerf LoadGen, bit for bit: when its queries are issued, from its seed
 * and rate.
 *
 * Owns: the schedule. Does not own: which samples are asked for, how long a run is. Thread rule:
 * pure; a schedule belongs to one thread.
 *
 * HOW IT WORKS. LoadGen (loadgen.cc) draws each gap by std::exponential_distribution<double> from
 * an std::mt19937, truncates it to nanoseconds by duration_cast and adds it, in integers, to the
 * time of the query before; the first query is at 0. The C++ standard leaves the distribution's
 * arithmetic open; libstdc++, which LoadGen's published schedules come from, takes two outputs a, b
 * of the generator, seeded by the low 32 bits of the 64-bit seed, as u = (a + 2^32 b) / 2^64, and
 * the gap as -log(1 - u) / rate. Rounded to double: the sum a + 2^32 b (should u become 1 by that,
 * the double below 1 is taken), 1 - u, the logarithm, the quotient, and its product with 1e9.
 *
 * LIMITATIONS. The logarithm is the C library's log(), the same function that libstdc++ calls:
 * with glibc the schedule is that of a LoadGen on the same machine. Unlike those of the other
 * arrival processes (core/load/portable_math.h) its bits are the C library's. glibc's log() errs by
 * less than 0.52 units in the last place, so that two of its versions, or processors with and
 * without fused multiply-add, may differ in the last bit of few results; a last bit moves a gap by
 * a nanosecond only where it carries over a whole one, which for a gap of 10 ms is one in 10^8 of
 * those. The unit test holds times that a program of C++ made (tests/data/loadgen_schedule.cc).
 */
#ifndef FM_CORE_LOAD_LOADGEN_SCHEDULE_H
#define FM_CORE_LOAD_LOADGEN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/load/mt19937.h"

/* Gaps are cut off to whole nanoseconds: far above, time would stand still. */
#define FM_LOADGEN_SCHEDULE_RATE_MAX_HZ 1e8

struct fm_loadgen_schedule {
    struct fm_mt19937 twister;
    double rate_hz;
    uint64_t time_ns; /* of the query last told; UINT64_MAX: beyond all times */
    bool started;
};

/* rate_hz: LoadGen's target_qps, above 0, at most FM_LOADGEN_SCHEDULE_RATE_MAX_HZ. seed: its
 * schedule_rng_seed. */
void fm_loadgen_schedule_init(struct fm_loadgen_schedule *schedule, double rate_hz, uint64_t seed);
/* The next query's time, not before the last one's; the first is 0. UINT64_MAX: beyond all times.
 */
uint64_t fm_loadgen_schedule_next(struct fm_loadgen_schedule *schedule);

#endif
