/*
 * Sums of time. See path_meter.h.
 */
#include "engines/batch/path_meter.h"

#include "core/util/assert.h"

void fm_path_meter_advance(struct fm_path_meter *meter, uint64_t now_ns)
{
    uint64_t ns = now_ns > meter->at_ns ? now_ns - meter->at_ns : 0;
    meter->readers_busy_ns += ns * meter->readers_busy;
    meter->full_ns += meter->full ? ns : 0;
    meter->at_ns += ns;
}

void fm_path_meter_reader(struct fm_path_meter *meter, uint64_t now_ns, bool busy)
{
    FM_ASSERT(busy || meter->readers_busy > 0);
    fm_path_meter_advance(meter, now_ns);
    meter->readers_busy = busy ? meter->readers_busy + 1 : meter->readers_busy - 1;
}

void fm_path_meter_full(struct fm_path_meter *meter, uint64_t now_ns, bool full)
{
    fm_path_meter_advance(meter, now_ns);
    meter->full = full;
}
