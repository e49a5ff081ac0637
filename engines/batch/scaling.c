/*
 * How many workers a job wants. See scaling.h.
 */
#include "engines/batch/scaling.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/stats/progress.h"
#include "core/util/memory.h"

#define NS_PER_MS UINT64_C(1000000)
#define LOOK_NS   (200 * NS_PER_MS)
/* How it is decided; see core/ledger/demand.h. */
#define SETTLE_NS     (1000 * NS_PER_MS)
#define WINDOW_NS     (3000 * NS_PER_MS)
#define WINDOW_MAX_NS (60000 * NS_PER_MS)
#define HOLD_NS       (30000 * NS_PER_MS)
#define CEILING_NS    (600000 * NS_PER_MS)
#define IDLE_NS       (2000 * NS_PER_MS)
#define LATE_NS       (5000 * NS_PER_MS)
#define STARTUP_NS    (1000 * NS_PER_MS)

enum {
    WINDOW_ROWS = 8,
    OTHERS_MAX = 4096, /* workers of other hosts that are advised */
};

void fm_scaling_init(struct fm_scaling *scaling, const struct fm_scaling_options *options)
{
    static const struct fm_demand_options demand = {.settle_ns = SETTLE_NS,
                                                    .window_ns = WINDOW_NS,
                                                    .window_max_ns = WINDOW_MAX_NS,
                                                    .window_rows = WINDOW_ROWS,
                                                    .hold_ns = HOLD_NS,
                                                    .ceiling_ns = CEILING_NS,
                                                    .idle_ns = IDLE_NS,
                                                    .late_ns = LATE_NS,
                                                    .startup_ns = STARTUP_NS};
    *scaling = (struct fm_scaling){
        .options = *options, .wanted = options->workers_min, .own = options->workers_min};
    fm_demand_init(&scaling->demand, &demand);
}

/* "1200000 rows left" */
static int left_write(const struct fm_demand_look *look, char *text, size_t size)
{
    return snprintf(text, size, "%" PRIu64 "%s rows left", look->rows_left,
                    look->listing ? " or more" : "");
}

void fm_scaling_words(const struct fm_demand_advice *advice, const struct fm_demand_look *look,
                      char *text, size_t size)
{
    char time[32];
    char rate[24];
    char left[64];
    char each[64] = "";
    (void)left_write(look, left, sizeof(left));
    (void)fm_progress_format_duration(look->left_ns, time, sizeof(time));
    (void)fm_progress_format_rate(advice->rows_per_s, rate, sizeof(rate));
    if (advice->rows_per_s > 0) {
        (void)snprintf(each, sizeof(each), " at %s rows/s per worker", rate);
    }
    if (look->timed && look->left_ns == 0) {
        (void)snprintf(text, size, "finish_by has passed, %s%s", left, each);
    } else if (advice->late) {
        (void)snprintf(text, size, "finish_by in %s cannot be met: %s%s", time, left, each);
    } else if (look->timed) {
        (void)snprintf(text, size, "finish_by in %s, %s%s", time, left, each);
    } else {
        static const char *const words[FM_DEMAND_REASON_COUNT_] = {
            [FM_DEMAND_FIXED] = "as many as were asked for",
            [FM_DEMAND_MEASURING] = "measuring what the workers bring",
            [FM_DEMAND_FINISH_BY] = "as many as finish in time",
            [FM_DEMAND_LATE] = "as many as there may be",
            [FM_DEMAND_GROWING] = "more workers bring more",
            [FM_DEMAND_NO_GAIN] = "the workers added last brought less than 20 % of an older one",
            [FM_DEMAND_SHORT] = "the rest is too short for more",
            [FM_DEMAND_MOST] = "as many as there may be",
            [FM_DEMAND_NO_WORK] = "no work is left for more"};
        (void)snprintf(text, size, "%s, %s%s", words[advice->reason], left, each);
    }
}

/* How the workers stand, as the master knows them; `rates` has room for all of them. */
static void workers_look(const struct fm_master *master, double *rates, struct fm_demand_look *look)
{
    struct fm_master_worker worker;
    for (size_t i = 0; fm_master_worker(master, i, &worker); i++) {
        if (worker.connected) {
            look->idle += worker.shards == 0 ? 1 : 0;
            if (worker.rows_per_s > 0) {
                rates[look->rate_count++] = worker.rows_per_s;
            }
        }
    }
}

bool fm_scaling_update(struct fm_scaling *scaling, const struct fm_scaling_look *look,
                       const struct fm_master *master)
{
    const struct fm_scaling_options *options = &scaling->options;
    struct fm_master_progress progress;
    struct fm_master_worker worker;
    size_t count = 0;
    if (look->now_ns < scaling->next_ns) {
        return false;
    }
    scaling->next_ns = look->now_ns + LOOK_NS;
    while (fm_master_worker(master, count, &worker)) {
        count++;
    }
    double *rates = fm_alloc((count + 1) * sizeof(*rates));
    if (rates == NULL) {
        return false;
    }
    fm_master_progress(master, &progress);
    bool timed = options->finish_by_ms > 0;
    uint64_t done =
        progress.rows_done < progress.rows_total ? progress.rows_done : progress.rows_total;
    uint64_t left_ms =
        options->finish_by_ms > look->wall_ms ? options->finish_by_ms - look->wall_ms : 0;
    struct fm_demand_look demand = {.now_ns = look->now_ns,
                                    .min = options->workers_min + look->others,
                                    .max = options->workers_max + look->others,
                                    .timed = timed,
                                    .left_ns = left_ms * NS_PER_MS,
                                    .rows_done = done,
                                    .rows_left = progress.rows_total - done,
                                    .listing = look->listing,
                                    .paused = look->paused,
                                    .working = look->working + look->others,
                                    .rates = rates,
                                    .startup_ns = look->startup_ns};
    if (options->listens && timed && demand.max < OTHERS_MAX) {
        demand.max = OTHERS_MAX;
    }
    workers_look(master, rates, &demand);
    if (look->listing || progress.rows_done + progress.rows_in_work < progress.rows_total) {
        demand.idle = 0; /* there is something to hand out */
    }
    struct fm_demand_advice advice = fm_demand_update(&scaling->demand, &demand);
    uint32_t own = advice.workers > look->others ? advice.workers - look->others : 0;
    own = own > options->workers_min ? own : options->workers_min;
    scaling->own = own < options->workers_max ? own : options->workers_max;
    scaling->wanted = advice.workers;
    scaling->late = advice.late;
    fm_scaling_words(&advice, &demand, scaling->why, sizeof(scaling->why));
    fm_free(rates);
    return true;
}
