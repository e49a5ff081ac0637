/*
 * LoadGen's Server schedule. See loadgen_schedule.h. Pure.
 */
#include "core/load/loadgen_schedule.h"

#include <math.h>

#include "core/util/assert.h"

#define NS_PER_S 1e9
#define BELOW_1  0x1.fffffffffffffp-1

void fm_loadgen_schedule_init(struct fm_loadgen_schedule *schedule, double rate_hz, uint64_t seed)
{
    FM_ASSERT(rate_hz > 0 && rate_hz <= FM_LOADGEN_SCHEDULE_RATE_MAX_HZ);
    fm_mt19937_init(&schedule->twister, (uint32_t)seed);
    schedule->rate_hz = rate_hz;
    schedule->time_ns = 0;
    schedule->started = false;
}

static double draw_gap_ns(struct fm_loadgen_schedule *schedule)
{
    double low = (double)fm_mt19937_next(&schedule->twister);
    double high = (double)fm_mt19937_next(&schedule->twister);
    double u = (low + high * 0x1.0p+32) / 0x1.0p+64;
    u = u < 1.0 ? u : BELOW_1;
    return -log(1.0 - u) / schedule->rate_hz * NS_PER_S;
}

uint64_t fm_loadgen_schedule_next(struct fm_loadgen_schedule *schedule)
{
    if (!schedule->started) {
        schedule->started = true;
        return 0;
    }
    if (schedule->time_ns == UINT64_MAX) {
        return UINT64_MAX;
    }
    double gap_ns = draw_gap_ns(schedule);
    bool fits = gap_ns < 0x1.0p+63 && (uint64_t)gap_ns < UINT64_MAX - schedule->time_ns;
    schedule->time_ns = fits ? schedule->time_ns + (uint64_t)gap_ns : UINT64_MAX;
    return schedule->time_ns;
}
