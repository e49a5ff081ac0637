/*
 * l(b) as a table. See latency_table.h.
 */
#include "core/sched/latency_table.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

#define DRIFT_ONE           (UINT64_C(1) << 20)
#define DRIFT_LOW           (DRIFT_ONE / 4)
#define DRIFT_HIGH          (DRIFT_ONE * 16)
#define DRIFT_STEP_PERMILLE 20u

__extension__ typedef unsigned __int128 wide;

/* The batch from which throughput grows by less than 1/1000. */
static uint32_t batch_worth(const uint64_t *latency_ns, uint32_t limit)
{
    uint32_t best = 1;
    for (uint32_t batch = 2; batch <= limit; batch++) {
        /* batch / l(batch) > best / l(best) * 1001/1000 */
        if ((wide)batch * latency_ns[best] * 1000u > (wide)best * latency_ns[batch] * 1001u) {
            best = batch;
        }
    }
    return best;
}

static void fill(struct fm_latency_table *table)
{
    for (uint32_t batch = 0; batch <= table->batch_max; batch++) {
        uint64_t scaled_ns = table->profiled_ns[batch] * table->drift_permille / 1000;
        /* Nothing takes no time: a deadline of this moment cannot be met. */
        table->latency_ns[batch] = scaled_ns > 0 || batch == 0 ? scaled_ns : 1;
        if (table->data_ns > 0) {
            table->total_ns[batch] = table->latency_ns[batch] + batch * table->data_ns;
        }
    }
}

int fm_latency_table_set(struct fm_latency_table *table, const struct fm_profile *profile,
                         enum fm_profile_statistic statistic, uint32_t batch_limit,
                         uint64_t data_ns)
{
    FM_ASSERT(batch_limit > 0 && profile->point_count > 0);
    uint32_t limit = fm_profile_batch_max(profile);
    limit = limit < batch_limit ? limit : batch_limit;
    size_t arrays = data_ns > 0 ? 3 : 2;
    uint64_t *profiled = fm_alloc(((size_t)limit + 1) * arrays * sizeof *profiled);
    if (profiled == NULL) {
        return FM_ENOMEM;
    }
    profiled[0] = 0;
    for (uint32_t batch = 1; batch <= limit; batch++) {
        profiled[batch] = fm_profile_latency_ns(profile, statistic, batch);
    }
    fm_latency_table_deinit(table);
    table->profiled_ns = profiled;
    table->latency_ns = profiled + limit + 1;
    table->total_ns = data_ns > 0 ? profiled + 2 * ((size_t)limit + 1) : table->latency_ns;
    table->data_ns = data_ns;
    table->batch_max = batch_worth(profiled, limit);
    table->drift_permille = 1000;
    table->drift_q20 = DRIFT_ONE;
    fill(table);
    return 0;
}

void fm_latency_table_deinit(struct fm_latency_table *table)
{
    fm_free(table->profiled_ns);
    *table = (struct fm_latency_table){0};
}

uint32_t fm_latency_table_within_growing(const struct fm_latency_table *table, uint64_t budget_ns,
                                         uint64_t per_row_ns)
{
    uint32_t low = 0;
    uint32_t high = table->batch_max + 1;
    /* batch * per_row_ns must not overflow: beyond the budget the product is of no interest. */
    uint64_t row_ns = per_row_ns < budget_ns ? per_row_ns : budget_ns + 1;
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        if (table->total_ns[middle] + middle * row_ns <= budget_ns) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t fm_latency_table_share(const struct fm_latency_table *table, uint64_t batch_q8,
                                uint32_t permille)
{
    uint64_t most_q8 = (uint64_t)table->batch_max << 8;
    batch_q8 = batch_q8 < most_q8 ? batch_q8 : most_q8;
    uint32_t high = (uint32_t)(batch_q8 >> 8);
    uint64_t latency_ns = table->latency_ns[high];
    uint64_t part = batch_q8 & 255;
    if (part > 0) {
        latency_ns += (table->latency_ns[high + 1] - latency_ns) * part / 256;
        high++;
    }
    uint32_t low = 0;
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((wide)middle * latency_ns * 256000u <
            (wide)batch_q8 * table->latency_ns[middle] * permille) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high > 0 ? high : 1;
}

bool fm_latency_table_learn(struct fm_latency_table *table, uint32_t batch, uint64_t measured_ns)
{
    if (batch == 0 || batch > table->batch_max || measured_ns > FM_PROFILE_LATENCY_MAX_NS) {
        return false;
    }
    uint64_t profiled_ns = table->profiled_ns[batch];
    uint64_t ratio = measured_ns / profiled_ns >= 16
                         ? DRIFT_HIGH
                         : (uint64_t)((wide)measured_ns * DRIFT_ONE / profiled_ns);
    int64_t move = ((int64_t)ratio - (int64_t)table->drift_q20) / 64;
    int64_t move_max = (int64_t)(table->drift_q20 / 256);
    move = move > move_max ? move_max : move < -move_max ? -move_max : move;
    int64_t drift = (int64_t)table->drift_q20 + move;
    drift = drift < (int64_t)DRIFT_LOW    ? (int64_t)DRIFT_LOW
            : drift > (int64_t)DRIFT_HIGH ? (int64_t)DRIFT_HIGH
                                          : drift;
    table->drift_q20 = (uint64_t)drift;
    uint32_t permille = (uint32_t)((table->drift_q20 * 1000 + DRIFT_ONE / 2) / DRIFT_ONE);
    uint32_t apart = permille > table->drift_permille ? permille - table->drift_permille
                                                      : table->drift_permille - permille;
    if (apart * 1000u < DRIFT_STEP_PERMILLE * table->drift_permille) {
        return false;
    }
    table->drift_permille = permille;
    fill(table);
    return true;
}
