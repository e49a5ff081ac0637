/*
 * Models without a profile. See warmup.h. Pure.
 */
#include "core/sched/warmup.h"

#include "core/util/assert.h"

/* So long a model is tried in all, and one batch size. */
#define TRY_NS     UINT64_C(300000000)
#define TRY_ONE_NS UINT64_C(60000000)
/* The largest batch is tried even if it is expected to take so long. */
#define TRY_LARGEST_NS UINT64_C(4000000000)
#define RUNS_MIN       3u
/* What is believed of a model that cannot be tried. */
#define GUESS_ALPHA_NS UINT64_C(1000000)
#define GUESS_BETA_NS  UINT64_C(1000000)
/* An SLO that was not given. */
#define SLO_LEAST_NS  UINT64_C(10000000000)
#define SLO_LATENCIES 20u
/* So many batches of a size say what it takes; and by so much they have to differ to be believed.
 */
#define LEARN_BATCHES  8u
#define LEARN_PERMILLE 250u

/* --- trying ------------------------------------------------------------------------------------
 */

uint32_t fm_warmup_next(const struct fm_profile *profile, uint32_t batch_max, uint64_t spent_ns)
{
    if (profile->point_count == 0) {
        return 1;
    }
    uint32_t tried = fm_profile_batch_max(profile);
    uint32_t next = tried * 2;
    if (next < batch_max) {
        uint64_t next_ns = fm_profile_latency_ns(profile, FM_PROFILE_MEAN, next);
        next_ns *= next_ns < TRY_ONE_NS ? RUNS_MIN + 1 : 1;
        if (spent_ns + next_ns <= TRY_NS) {
            return next;
        }
    }
    next = batch_max;
    while (next > tried && fm_profile_latency_ns(profile, FM_PROFILE_MEAN, next) > TRY_LARGEST_NS) {
        next /= 2;
    }
    return next > tried ? next : 0;
}

bool fm_warmup_repeats(uint32_t count, uint64_t spent_ns)
{
    return count < FM_WARMUP_RUNS_MAX && (count < RUNS_MIN || spent_ns < TRY_ONE_NS);
}

bool fm_warmup_counts_first(uint64_t took_ns)
{
    return took_ns >= TRY_ONE_NS;
}

void fm_warmup_guess(uint32_t batch_max, struct fm_profile *ret_profile)
{
    *ret_profile = (struct fm_profile){0};
    int status = fm_profile_add_affine(ret_profile, GUESS_ALPHA_NS, GUESS_BETA_NS, batch_max, NULL);
    FM_ASSERT(status == 0);
}

uint64_t fm_warmup_slo_ns(uint64_t latency_ns)
{
    FM_ASSERT(latency_ns <= FM_PROFILE_LATENCY_MAX_NS);
    uint64_t slo_ns = latency_ns * SLO_LATENCIES;
    return slo_ns > SLO_LEAST_NS ? slo_ns : SLO_LEAST_NS;
}

/* --- following ---------------------------------------------------------------------------------
 */

/* What batches of a size took since they were last believed; 0: too few to say. */
static uint64_t recent_ns(const struct fm_batch_row_total *now, struct fm_batch_row_total *before)
{
    uint64_t batches = now->batches - before->batches;
    if (batches < LEARN_BATCHES) {
        return 0;
    }
    uint64_t ns = now->input_ns - before->input_ns + now->infer_ns - before->infer_ns +
                  now->output_ns - before->output_ns;
    *before = *now;
    uint64_t mean_ns = ns / batches;
    mean_ns = mean_ns < FM_PROFILE_LATENCY_MAX_NS ? mean_ns : FM_PROFILE_LATENCY_MAX_NS;
    return mean_ns > 0 ? mean_ns : 1;
}

/* False: there is no room for one more size, and what is there already says enough. */
static bool point_set(struct fm_profile *profile, uint32_t batch, uint64_t latency_ns)
{
    struct fm_profile_point point = {.batch = batch, .sample_count = LEARN_BATCHES};
    for (uint32_t i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        point.latency_ns[i] = latency_ns;
    }
    for (uint32_t i = 0; i < profile->point_count; i++) {
        if (profile->points[i].batch == batch) {
            profile->points[i] = point;
            return true;
        }
    }
    return fm_profile_add(profile, &point, NULL) == 0;
}

bool fm_warmup_follow(struct fm_profile *profile, bool *guessed,
                      const struct fm_batch_row_total *rows, struct fm_batch_row_total *learnt,
                      uint32_t row_count)
{
    bool changed = false;
    for (uint32_t batch = 1; batch < row_count; batch++) {
        uint64_t measured_ns = recent_ns(&rows[batch], &learnt[batch]);
        if (measured_ns == 0) {
            continue;
        }
        uint64_t known_ns = fm_profile_latency_ns(profile, FM_PROFILE_MEAN, batch);
        uint64_t apart_ns =
            measured_ns > known_ns ? measured_ns - known_ns : known_ns - measured_ns;
        if (*guessed) {
            *profile = (struct fm_profile){0};
            *guessed = false;
        } else if (apart_ns <= known_ns / 1000 * LEARN_PERMILLE) {
            continue;
        }
        changed = point_set(profile, batch, measured_ns) || changed;
    }
    return changed;
}
