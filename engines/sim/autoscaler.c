/*
 * Who comes and who goes. See autoscaler.h.
 */
#include "engines/sim/autoscaler.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

#define NEVER_NS     UINT64_MAX
#define PERMYRIAD    10000u
#define OUTCOMES_MAX (UINT64_MAX / PERMYRIAD)

int fm_sim_autoscaler_init(struct fm_sim_autoscaler *autoscaler,
                           const struct fm_sim_autoscale *settings, uint32_t accelerator_count)
{
    *autoscaler = (struct fm_sim_autoscaler){
        .settings = settings,
        .count = accelerator_count,
        .look_ns = settings->interval_ns,
        .start_next_ns = NEVER_NS,
        .wanted = settings->initial,
    };
    int status = fm_advisor_init(&autoscaler->advisor, &settings->advice, NULL);
    FM_ASSERT(status == 0);
    autoscaler->presences = fm_alloc_zero(accelerator_count, sizeof *autoscaler->presences);
    autoscaler->starts_ns = fm_alloc_zero(accelerator_count, sizeof *autoscaler->starts_ns);
    if (autoscaler->presences == NULL || autoscaler->starts_ns == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < settings->initial; i++) {
        autoscaler->presences[i] = FM_SIM_PRESENCE_UP;
    }
    return status;
}

void fm_sim_autoscaler_deinit(struct fm_sim_autoscaler *autoscaler)
{
    fm_free(autoscaler->presences);
    fm_free(autoscaler->starts_ns);
    *autoscaler = (struct fm_sim_autoscaler){0};
}

bool fm_sim_autoscaler_is_lack(enum fm_sched_drop_reason reason)
{
    return reason == FM_SCHED_DROP_LATE || reason == FM_SCHED_DROP_SACRIFICED ||
           reason == FM_SCHED_DROP_REJECTED || reason == FM_SCHED_DROP_OUTRANKED;
}

uint64_t fm_sim_autoscaler_next_ns(const struct fm_sim_autoscaler *autoscaler)
{
    return autoscaler->start_next_ns < autoscaler->look_ns ? autoscaler->start_next_ns
                                                           : autoscaler->look_ns;
}

/* Few starts, rarely: a scan is simpler than an order, and costs less than one request a second. */
static void starts_review(struct fm_sim_autoscaler *autoscaler)
{
    autoscaler->start_next_ns = NEVER_NS;
    for (uint32_t i = 0; autoscaler->starting_count > 0 && i < autoscaler->count; i++) {
        if (autoscaler->presences[i] == FM_SIM_PRESENCE_STARTING &&
            autoscaler->starts_ns[i] < autoscaler->start_next_ns) {
            autoscaler->start_next_ns = autoscaler->starts_ns[i];
        }
    }
}

uint32_t fm_sim_autoscaler_started(struct fm_sim_autoscaler *autoscaler, uint64_t now_ns)
{
    if (autoscaler->start_next_ns > now_ns) {
        return FM_SCHED_NONE;
    }
    for (uint32_t i = 0; i < autoscaler->count; i++) {
        if (autoscaler->presences[i] == FM_SIM_PRESENCE_STARTING &&
            autoscaler->starts_ns[i] <= now_ns) {
            autoscaler->presences[i] = FM_SIM_PRESENCE_UP;
            autoscaler->starting_count--;
            return i;
        }
    }
    starts_review(autoscaler);
    return FM_SCHED_NONE;
}

/* Starts the lowest-numbered ones that are away, or calls off the highest-numbered starts, until
 * `missing` are starting or there is no other. */
static void starts_adjust(struct fm_sim_autoscaler *autoscaler, uint64_t now_ns, uint32_t missing)
{
    for (uint32_t i = 0; autoscaler->starting_count < missing && i < autoscaler->count; i++) {
        if (autoscaler->presences[i] == FM_SIM_PRESENCE_AWAY) {
            autoscaler->presences[i] = FM_SIM_PRESENCE_STARTING;
            autoscaler->starts_ns[i] = now_ns + autoscaler->settings->start_delay_ns;
            autoscaler->starting_count++;
        }
    }
    for (uint32_t i = autoscaler->count; autoscaler->starting_count > missing && i > 0; i--) {
        if (autoscaler->presences[i - 1] == FM_SIM_PRESENCE_STARTING) {
            autoscaler->presences[i - 1] = FM_SIM_PRESENCE_AWAY;
            autoscaler->starting_count--;
        }
    }
    starts_review(autoscaler);
}

/* The `could_go` highest-numbered ones that are up are leaving, the others are not. */
static void leaving_adjust(struct fm_sim_autoscaler *autoscaler, uint32_t could_go)
{
    for (uint32_t i = autoscaler->count; i > 0; i--) {
        uint8_t *presence = &autoscaler->presences[i - 1];
        if (*presence == FM_SIM_PRESENCE_UP || *presence == FM_SIM_PRESENCE_LEAVING) {
            *presence = could_go > 0 ? FM_SIM_PRESENCE_LEAVING : FM_SIM_PRESENCE_UP;
            could_go -= could_go > 0;
        }
    }
}

bool fm_sim_autoscaler_look(struct fm_sim_autoscaler *autoscaler, uint64_t now_ns,
                            const struct fm_sched_stats *stats)
{
    if (now_ns < autoscaler->look_ns) {
        return false;
    }
    FM_ASSERT(autoscaler->outcome_count < OUTCOMES_MAX);
    struct fm_advice_input input = {
        .accelerators_up = stats->accelerators_up,
        .accelerators_active = stats->accelerators_active,
        .need_milli = stats->busy_milli,
    };
    if (autoscaler->outcome_count > 0) {
        input.bad_permyriad =
            (uint32_t)(autoscaler->bad_count * PERMYRIAD / autoscaler->outcome_count);
    }
    autoscaler->outcome_count = 0;
    autoscaler->bad_count = 0;
    autoscaler->look_ns = now_ns + autoscaler->settings->interval_ns;
    struct fm_advice advice = fm_advisor_update(&autoscaler->advisor, now_ns, &input);
    autoscaler->changes += advice.wanted != autoscaler->wanted;
    autoscaler->wanted = advice.wanted;
    starts_adjust(autoscaler, now_ns, advice.missing);
    leaving_adjust(autoscaler, advice.could_go);
    return advice.could_go > 0;
}

void fm_sim_autoscaler_left(struct fm_sim_autoscaler *autoscaler, uint32_t accelerator)
{
    FM_ASSERT(autoscaler->presences[accelerator] == FM_SIM_PRESENCE_LEAVING);
    autoscaler->presences[accelerator] = FM_SIM_PRESENCE_AWAY;
}

void fm_sim_autoscaler_break(struct fm_sim_autoscaler *autoscaler, uint32_t accelerator,
                             bool broken)
{
    uint8_t *presence = &autoscaler->presences[accelerator];
    if (broken) {
        autoscaler->starting_count -= *presence == FM_SIM_PRESENCE_STARTING;
        *presence = FM_SIM_PRESENCE_BROKEN;
        starts_review(autoscaler);
    } else if (*presence == FM_SIM_PRESENCE_BROKEN) {
        *presence = FM_SIM_PRESENCE_AWAY;
    }
}
