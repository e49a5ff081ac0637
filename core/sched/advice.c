/*
 * Autoscaling advice with hysteresis. See advice.h.
 */
#include "core/sched/advice.h"

#include "core/util/assert.h"
#include "core/util/error.h"

#define ALL_BAD_PERMYRIAD 10000u

static uint64_t divide_up(uint64_t dividend, uint64_t divisor)
{
    return dividend / divisor + (dividend % divisor != 0 ? 1u : 0u);
}

static uint32_t at_most(uint64_t value, uint32_t limit)
{
    return value < limit ? (uint32_t)value : limit;
}

int fm_advisor_init(struct fm_advisor *advisor, const struct fm_advice_options *options,
                    struct fm_error *reterr)
{
    if (options->accelerators_max == 0 ||
        options->accelerators_max > FM_ADVICE_ACCELERATORS_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL,
                            "autoscaling: accelerators_max is %u, must be 1 to %u",
                            options->accelerators_max, FM_ADVICE_ACCELERATORS_LIMIT);
    }
    if (options->accelerators_min > options->accelerators_max) {
        return fm_error_set(reterr, FM_EINVAL,
                            "autoscaling: accelerators_min is %u, above accelerators_max, which "
                            "is %u",
                            options->accelerators_min, options->accelerators_max);
    }
    if (options->headroom_permille > FM_ADVICE_HEADROOM_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL,
                            "autoscaling: headroom_permille is %u, must be at most %u",
                            options->headroom_permille, FM_ADVICE_HEADROOM_LIMIT);
    }
    if (options->bad_tolerated_permyriad >= ALL_BAD_PERMYRIAD) {
        return fm_error_set(reterr, FM_EINVAL,
                            "autoscaling: bad_tolerated_permyriad is %u, must be below %u",
                            options->bad_tolerated_permyriad, ALL_BAD_PERMYRIAD);
    }
    const struct {
        const char *name;
        uint64_t value_ns;
    } times[] = {
        {"surplus_hold_ns", options->surplus_hold_ns},
        {"lack_hold_ns", options->lack_hold_ns},
        {"cooldown_ns", options->cooldown_ns},
    };
    for (unsigned i = 0; i < FM_COUNT_OF(times); i++) {
        if (times[i].value_ns > FM_ADVICE_TIME_MAX_NS) {
            return fm_error_set(reterr, FM_EINVAL, "autoscaling: %s is %llu, must be at most %llu",
                                times[i].name, (unsigned long long)times[i].value_ns,
                                (unsigned long long)FM_ADVICE_TIME_MAX_NS);
        }
    }
    *advisor = (struct fm_advisor){.options = *options};
    return 0;
}

uint32_t fm_advice_missing_by_bad(uint32_t accelerators_up, uint32_t bad_permyriad)
{
    if (bad_permyriad == 0) {
        return 0;
    }
    if (bad_permyriad >= ALL_BAD_PERMYRIAD) {
        return FM_ADVICE_ACCELERATORS_LIMIT;
    }
    if (accelerators_up == 0) {
        return 1;
    }
    uint64_t missing =
        divide_up((uint64_t)accelerators_up * bad_permyriad, ALL_BAD_PERMYRIAD - bad_permyriad);
    return at_most(missing, FM_ADVICE_ACCELERATORS_LIMIT);
}

static uint32_t clamp(const struct fm_advice_options *options, uint64_t count)
{
    uint32_t clamped = at_most(count, options->accelerators_max);
    return clamped > options->accelerators_min ? clamped : options->accelerators_min;
}

static uint32_t by_load(const struct fm_advice_options *options, uint32_t need_milli,
                        uint32_t headroom_permille)
{
    uint64_t parts = (uint64_t)need_milli * (1000u + headroom_permille);
    return clamp(options, divide_up(parts, 1000000u));
}

static uint32_t by_bad(const struct fm_advisor *advisor, const struct fm_advice_input *input)
{
    const struct fm_advice_options *options = &advisor->options;
    if (input->bad_permyriad <= options->bad_tolerated_permyriad) {
        return options->accelerators_min;
    }
    uint64_t count = (uint64_t)input->accelerators_up +
                     fm_advice_missing_by_bad(input->accelerators_up, input->bad_permyriad);
    uint32_t target = clamp(options, count);
    /* What was advised may still be on its way: no surplus while answers are bad. */
    return target > advisor->wanted ? target : advisor->wanted;
}

/* Follows since when the advice has been too low or too high. */
static void observe(struct fm_advisor *advisor, uint32_t lack_target, uint32_t target)
{
    bool lacking = lack_target > advisor->wanted;
    if (lacking && !advisor->lacking) {
        advisor->lack_since_ns = advisor->now_ns;
    }
    advisor->lacking = lacking;
    bool in_surplus = target < advisor->wanted;
    if (in_surplus && (!advisor->in_surplus || target > advisor->surplus_target_max)) {
        advisor->surplus_target_max = target;
    }
    if (in_surplus && !advisor->in_surplus) {
        advisor->surplus_since_ns = advisor->now_ns;
    }
    advisor->in_surplus = in_surplus;
}

/* Moves the advice towards `target`, by a step at most. */
static void change(struct fm_advisor *advisor, uint32_t target)
{
    bool up = target > advisor->wanted;
    uint32_t distance = up ? target - advisor->wanted : advisor->wanted - target;
    uint32_t step_max = advisor->options.step_max;
    bool reached = step_max == 0 || distance <= step_max;
    uint32_t step = reached ? distance : step_max;
    advisor->wanted = up ? advisor->wanted + step : advisor->wanted - step;
    advisor->changed_ns = advisor->now_ns;
    /* A change cut short by its step goes on after the cool-down alone: it has been waited for. */
    if (reached) {
        advisor->lacking = false;
        advisor->in_surplus = false;
    }
}

static void decide(struct fm_advisor *advisor, uint32_t target)
{
    const struct fm_advice_options *options = &advisor->options;
    uint64_t now_ns = advisor->now_ns;
    if (now_ns - advisor->changed_ns < options->cooldown_ns) {
        return;
    }
    if (advisor->lacking && now_ns - advisor->lack_since_ns >= options->lack_hold_ns) {
        change(advisor, target);
    } else if (advisor->in_surplus &&
               now_ns - advisor->surplus_since_ns >= options->surplus_hold_ns) {
        change(advisor, advisor->surplus_target_max);
    }
}

struct fm_advice fm_advisor_update(struct fm_advisor *advisor, uint64_t now_ns,
                                   const struct fm_advice_input *input)
{
    const struct fm_advice_options *options = &advisor->options;
    FM_ASSERT(options->accelerators_max > 0);
    if (now_ns > advisor->now_ns && now_ns <= FM_ADVICE_TIME_MAX_NS) {
        advisor->now_ns = now_ns;
    }
    if (!advisor->started) {
        advisor->started = true;
        advisor->wanted = clamp(options, input->accelerators_up);
        advisor->changed_ns = advisor->now_ns;
    }
    uint32_t bad_target = by_bad(advisor, input);
    uint32_t target = by_load(options, input->need_milli, options->headroom_permille);
    uint32_t lack_target = by_load(options, input->need_milli, options->headroom_permille / 2);
    target = target > bad_target ? target : bad_target;
    lack_target = lack_target > bad_target ? lack_target : bad_target;
    observe(advisor, lack_target, target);
    decide(advisor, target);
    struct fm_advice advice = {.wanted = advisor->wanted, .changed_ns = advisor->changed_ns};
    uint32_t up = input->accelerators_up;
    uint32_t kept =
        advice.wanted > input->accelerators_active ? advice.wanted : input->accelerators_active;
    advice.could_go = up > kept ? up - kept : 0;
    advice.missing = advice.wanted > up ? advice.wanted - up : 0;
    return advice;
}
