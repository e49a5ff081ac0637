/*
 * The pace of workers. See pace.h.
 */
#include "core/ledger/pace.h"

#define NS_PER_S 1e9
/* How much the newest shard counts. Half: after a worker has slowed down to a quarter, two shards
 * tell most of it. */
#define NEWEST_SHARE 0.5
/* From one shard to the next: what was measured on few rows may be wrong by much. */
#define GROWTH_MAX 8

void fm_pace_observe(struct fm_pace *pace, uint64_t now_ns, uint64_t granted_ns, uint64_t rows)
{
    /* With two shards at once, one being read while the other computes, the time since the other's
     * end is what this one took. */
    uint64_t begin_ns = pace->last_ns > granted_ns ? pace->last_ns : granted_ns;
    uint64_t took_ns = now_ns > begin_ns ? now_ns - begin_ns : 1;
    double rate = (double)rows * NS_PER_S / (double)took_ns;
    pace->rows_per_s =
        pace->rows_per_s > 0 ? pace->rows_per_s * (1 - NEWEST_SHARE) + rate * NEWEST_SHARE : rate;
    pace->last_ns = now_ns;
    pace->last_rows = rows;
}

double fm_pace_rate(const struct fm_pace *pace, uint64_t now_ns, uint64_t granted_ns,
                    uint64_t rows_done)
{
    uint64_t begin_ns = pace->last_ns > granted_ns ? pace->last_ns : granted_ns;
    uint64_t took_ns = now_ns > begin_ns ? now_ns - begin_ns : 1;
    /* The row in work counts as done: the rate is not below this, and not above it by much. */
    double now_rate = (double)(rows_done + 1) * NS_PER_S / (double)took_ns;
    if (pace->rows_per_s > 0) {
        return now_rate < pace->rows_per_s ? now_rate : pace->rows_per_s;
    }
    return rows_done > 0 ? now_rate : 0;
}

uint64_t fm_pace_rows(const struct fm_pace_options *options, const struct fm_pace *pace,
                      const struct fm_pace_all *all)
{
    double left = (double)all->rows_left;
    double rate = pace->rows_per_s;
    double rows = (double)options->rows_first;
    double half = left / 2 / (all->workers > 0 ? all->workers : 1);
    double least = 1;
    if (rate > 0) {
        double steps = (double)pace->last_rows * GROWTH_MAX;
        rows = rate * (double)options->target_ns / NS_PER_S;
        rows = rows < steps ? rows : steps;
        half = left / 2 * (all->rows_per_s > rate ? rate / all->rows_per_s : 1);
        least = rate * (double)options->least_ns / NS_PER_S;
    }
    rows = rows < half ? rows : half;
    rows = rows > least ? rows : least;
    rows = rows < (double)options->rows_max ? rows : (double)options->rows_max;
    return rows > 1 ? (uint64_t)rows : 1;
}
