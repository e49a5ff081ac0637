/*
 * Autoscaling advice: how many accelerators the load deserves, said rarely and for good reason.
 *
 * Owns: the advice now in force, since when a lack or a surplus has lasted. Does not own: getting
 * or giving back accelerators, the measurement of load and bad rate (fm_sched_stats,
 * fm_sched_model_stats). Thread rule: pure; one thread at a time for each object.
 *
 * HOW IT WORKS. Each update makes a target of what it is told:
 *   by load:     ceil(need * (1 + headroom))
 *   by bad rate: up + ceil(up * bad / (1 - bad)) where bad exceeds what is tolerated
 * whichever is larger, within [min, max]. The advice grows to the target once a *lack* has lasted
 * lack_hold_ns: need * (1 + headroom / 2), or the target by bad rate, above the advice. It shrinks
 * once a *surplus* (the target below the advice) has lasted surplus_hold_ns without a break, to the
 * highest target met in that time. Between two changes lie at least cooldown_ns. The half of the
 * headroom between the two conditions is the dead band. An update costs a few divisions.
 *
 * WHAT HOLDS (the test proves each)
 * - No flapping: while all needs lie within [low, high] with high * (1 + headroom / 2) <=
 *   low * (1 + headroom), with no bad rate beyond tolerance, the advice never grows after it has
 *   shrunk. Beyond that the holds make it rare.
 * - Never short for long: with step_max 0 and max not reached, the need is not above the advice for
 *   longer than lack_hold_ns + cooldown_ns + the time between two updates.
 * - Monotone: of two updates of the same state, that with the higher bad rate, all else equal,
 *   never advises fewer accelerators.
 *
 * LIMITATIONS. A bad rate is an echo: it stays up for as long as its window after the accelerators
 * have come. cooldown_ns shorter than the time to start one plus that window makes bad rates
 * counted twice. Requests that no accelerator could have helped (FM_SCHED_DROP_INFEASIBLE) should
 * not be part of the bad rate given.
 *
 * Source of n * bad / (1 - bad): Symphony (arXiv 2308.07470); n accelerators that serve 1 - bad of
 * the load need n / (1 - bad) to serve it all.
 */
#ifndef FM_CORE_SCHED_ADVICE_H
#define FM_CORE_SCHED_ADVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_ADVICE_ACCELERATORS_LIMIT 1000000u
#define FM_ADVICE_HEADROOM_LIMIT     10000u /* permille: ten times the need on top */
#define FM_ADVICE_TIME_MAX_NS        (UINT64_C(1) << 60)

struct fm_advice_options {
    uint32_t accelerators_min;
    uint32_t accelerators_max;        /* min .. FM_ADVICE_ACCELERATORS_LIMIT, at least 1 */
    uint32_t headroom_permille;       /* on top of the need */
    uint32_t bad_tolerated_permyriad; /* below 10000; up to here a bad rate asks for nothing */
    uint32_t step_max;                /* largest change at once; 0: no limit */
    uint64_t surplus_hold_ns;         /* how long a surplus lasts before it is advised to go */
    uint64_t lack_hold_ns;            /* how long a lack lasts before growth is advised */
    uint64_t cooldown_ns;             /* least time between two changes, either way */
};

struct fm_advice_input {
    uint32_t accelerators_up;     /* fm_sched_stats.accelerators_up */
    uint32_t accelerators_active; /* fm_sched_stats.accelerators_active: those not to be let go,
                                     whatever the advice; 0 where the policy has no opinion */
    uint32_t need_milli;          /* fm_sched_stats.busy_milli: busy equivalents * 1000 */
    uint32_t bad_permyriad;       /* recent (dropped + late) / all; 0 .. 10000 */
};

struct fm_advice {
    uint32_t wanted;     /* accelerators, within [min, max] */
    uint32_t could_go;   /* of those up: the so many highest-numbered are not needed */
    uint32_t missing;    /* wanted and not up */
    uint64_t changed_ns; /* when `wanted` last changed; at first: the first update */
};

/* Private to advice.c, but the caller's memory. */
struct fm_advisor {
    struct fm_advice_options options;
    bool started;
    bool lacking;
    bool in_surplus;
    uint32_t wanted;
    uint32_t surplus_target_max; /* the highest target since surplus_since_ns */
    uint64_t now_ns;
    uint64_t changed_ns;
    uint64_t lack_since_ns;
    uint64_t surplus_since_ns;
};

/* FM_EINVAL with the option's name and limits in reterr; the advisor is then untouched. */
int FM_NODISCARD fm_advisor_init(struct fm_advisor *advisor,
                                 const struct fm_advice_options *options, struct fm_error *reterr);

/*
 * Takes what is measured at now_ns and gives the advice in force. The first update advises what is
 * up, within [min, max]: before anything was measured nothing is known to be superfluous. Time that
 * runs backwards, or beyond FM_ADVICE_TIME_MAX_NS, is taken as standing still; a bad rate above
 * 10000 as 10000.
 */
struct fm_advice fm_advisor_update(struct fm_advisor *advisor, uint64_t now_ns,
                                   const struct fm_advice_input *input);

/*
 * How many are missing by the bad rate alone: ceil(up * bad / (1 - bad)), at most
 * FM_ADVICE_ACCELERATORS_LIMIT, which is also the answer where everything is bad. At least one
 * where bad > 0 and none is up.
 */
uint32_t fm_advice_missing_by_bad(uint32_t accelerators_up, uint32_t bad_permyriad);

#endif
