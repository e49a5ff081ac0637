/*
 * Priorities when the load is more than the accelerators can serve. See state.h.
 *
 * HOW IT WORKS. While the load asks for more than a share (`room`) of the accelerators that are up,
 * the excess is let go on arrival, from the least important priority on, by what its requests cost:
 * more important ones never get to compete with them. The most important one that there is is never
 * let go here; what is too much of it is the policy's business. How large the share is follows from
 * what the most important ones still lose, ten times a second. Where only one priority is asked for
 * nothing happens.
 */
#include "core/sched/state.h"

#define REVIEW_NS      UINT64_C(100000000)
#define SEEN_NS        UINT64_C(1000000000) /* so long others than the first priority count */
#define OUTCOMES_LEAST 50u                  /* before they are judged */
#define ROOM_FIRST     950u
#define ROOM_LEAST     500u
#define ROOM_MOST      1000u
#define LOST_TOLERATED 2500u  /* in 10^-6: below, there is room for more */
#define LOST_BEARABLE  10000u /* above, there is too little */
#define LOST_MOST      100000u
#define ROOM_RISE      5u
#define ALL            65536u
/* A priority with less than this part of the load is not there. */
#define PRESENT_DIVISOR 10000u

bool fm_sched_shed_arrival(struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           uint32_t priority)
{
    struct fm_sched_shed *shed = &sched->shed;
    if (priority > 0) {
        shed->until_ns = sched->now_ns + SEEN_NS;
    } else if (sched->now_ns >= shed->until_ns) {
        return false; /* there are no others */
    }
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    shed->asked_ns[priority] += table->latency_ns[model->target] / model->target;
    if (sched->queued_count == 0) {
        return false; /* nobody waits, whatever was so lately */
    }
    shed->owed[priority] += shed->refuses[priority];
    if (shed->owed[priority] < ALL) {
        return false;
    }
    shed->owed[priority] -= ALL;
    return true;
}

static void outcomes_forget(struct fm_sched_shed *shed)
{
    for (uint32_t i = 0; i < FM_SCHED_PRIORITY_COUNT; i++) {
        shed->lost[i] = 0;
        shed->served[i] = 0;
    }
}

/* Moves the share by what the most important ones have lost. */
static void room_review(struct fm_sched_shed *shed, uint32_t first)
{
    uint64_t outcomes = shed->lost[first] + shed->served[first];
    if (outcomes < OUTCOMES_LEAST) {
        return;
    }
    uint64_t lost_ppm = shed->lost[first] * 1000000 / outcomes;
    lost_ppm = lost_ppm < LOST_MOST ? lost_ppm : LOST_MOST;
    if (lost_ppm > LOST_BEARABLE) {
        uint32_t fall = (uint32_t)(shed->room_permille * lost_ppm / 2000000) + 1;
        shed->room_permille =
            shed->room_permille > ROOM_LEAST + fall ? shed->room_permille - fall : ROOM_LEAST;
    } else if (lost_ppm < LOST_TOLERATED && shed->room_permille < ROOM_MOST) {
        shed->room_permille += ROOM_RISE;
    }
    outcomes_forget(shed);
}

void fm_sched_shed_epoch(struct fm_sched *sched)
{
    struct fm_sched_shed *shed = &sched->shed;
    if (sched->now_ns < shed->review_ns) {
        return;
    }
    shed->review_ns = sched->now_ns + REVIEW_NS;
    if (sched->now_ns >= shed->until_ns) {
        *shed = (struct fm_sched_shed){.review_ns = shed->review_ns};
        return;
    }
    shed->room_permille = shed->room_permille > 0 ? shed->room_permille : ROOM_FIRST;
    uint64_t sum_ns = 0;
    for (uint32_t i = 0; i < FM_SCHED_PRIORITY_COUNT; i++) {
        /* The last one counts for a quarter: as fast as a rate is known. */
        shed->recent_ns[i] = shed->recent_ns[i] - shed->recent_ns[i] / 4 + shed->asked_ns[i] / 4;
        shed->asked_ns[i] = 0;
        shed->refuses[i] = 0;
        sum_ns += shed->recent_ns[i];
    }
    uint32_t first = 0;
    while (first < FM_SCHED_PRIORITY_COUNT && shed->recent_ns[first] <= sum_ns / PRESENT_DIVISOR) {
        first++;
    }
    if (first == FM_SCHED_PRIORITY_COUNT || shed->recent_ns[first] == sum_ns) {
        outcomes_forget(shed);
        return;
    }
    room_review(shed, first);
    uint64_t busy_milli = fm_sched_busy_micro(sched) / 1000;
    uint64_t room_milli = (uint64_t)sched->up_count * shed->room_permille;
    if (busy_milli <= room_milli) {
        return;
    }
    /* Of what is asked for, in parts of it, the more important first. */
    uint64_t unit_ns = sum_ns / ALL + 1;
    uint64_t left = room_milli * (sum_ns / unit_ns) / busy_milli;
    for (uint32_t i = 0; i < FM_SCHED_PRIORITY_COUNT; i++) {
        uint64_t part = shed->recent_ns[i] / unit_ns;
        if (i > first && part > left) {
            shed->refuses[i] = ALL - (uint32_t)(left * ALL / part);
        }
        left -= part < left ? part : left;
    }
}
