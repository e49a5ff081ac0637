/*
 * Arrival processes: when requests come, as a seeded stream of times.
 *
 * Owns: the processes and their state. Does not own: clocks, what a request is, files (a trace's
 * times are the caller's). Thread rule: pure; a stream belongs to one thread. Used by the simulator
 * and by load generators: the same specification and seed give the same times everywhere.
 */
#ifndef FM_CORE_LOAD_ARRIVALS_H
#define FM_CORE_LOAD_ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_ARRIVALS_STATES_MAX 8u
#define FM_ARRIVALS_STEPS_MAX  4096u
#define FM_ARRIVALS_NEVER      UINT64_MAX

/* What a specification may ask for. */
#define FM_ARRIVALS_RATE_MIN_HZ 1e-9
#define FM_ARRIVALS_RATE_MAX_HZ 1e12
#define FM_ARRIVALS_SHAPE_MIN   1e-3
#define FM_ARRIVALS_SHAPE_MAX   1e6
#define FM_ARRIVALS_STATE_MIN_S 1e-4 /* bounds how many state changes a silence costs */
#define FM_ARRIVALS_STATE_MAX_S 1e9
#define FM_ARRIVALS_FACTOR_MAX  1e9
#define FM_ARRIVALS_SCALE_MIN   1e-18
#define FM_ARRIVALS_SCALE_MAX   1e9

enum fm_arrivals_kind {
    FM_ARRIVALS_CONSTANT, /* every 1/rate */
    FM_ARRIVALS_POISSON,
    FM_ARRIVALS_GAMMA,   /* gaps are gamma distributed with `shape`; below 1: bursts; 1: Poisson */
    FM_ARRIVALS_MMPP,    /* Poisson whose rate jumps between states */
    FM_ARRIVALS_TRACE,   /* the times given */
    FM_ARRIVALS_LOADGEN, /* MLPerf LoadGen's Server schedule (loadgen_schedule.h) */
    FM_ARRIVALS_KIND_COUNT_
};

struct fm_arrivals_state {
    double rate_hz;
    double mean_s; /* how long it lasts on average, exponentially distributed */
};

/* From at_ns on the rate is factor times the specification's; `ramp`: it moves there in a straight
 * line from the step before. In front of the first step, in each period, the factor is 1; 0 is
 * silence. Two steps at one time: a jump after a ramp. */
struct fm_arrivals_step {
    uint64_t at_ns;
    double factor;
    bool ramp;
};

struct fm_arrivals_spec {
    enum fm_arrivals_kind kind;
    double rate_hz; /* mean; MMPP: scales the states so that their mean is this, 0: as given */
    double shape;   /* GAMMA, above 0 */
    struct fm_arrivals_state states[FM_ARRIVALS_STATES_MAX]; /* MMPP */
    uint32_t state_count;
    const struct fm_arrivals_step
        *steps; /* borrowed for the stream's life; ascending; may be none */
    uint32_t step_count;
    uint64_t period_ns;       /* the steps repeat after it; 0: the last factor stays */
    const uint64_t *times_ns; /* TRACE: borrowed for the stream's life, ascending */
    uint64_t time_count;
    uint64_t loadgen_seed; /* LOADGEN: its schedule_rng_seed ... */
    bool loadgen_seeded;   /* ... or else the stream's own seed */
    double scale;          /* of the rate (of a trace: time runs this much faster); 0: 1 */
};

struct fm_arrivals;

/* Fields of other kinds are not looked at; LOADGEN takes no steps. FM_EINVAL with the field named
 * in reterr, FM_ENOMEM. */
int FM_NODISCARD fm_arrivals_create(const struct fm_arrivals_spec *spec, uint64_t seed,
                                    struct fm_arrivals **ret_arrivals, struct fm_error *reterr);
void fm_arrivals_destroy(struct fm_arrivals *arrivals); /* accepts NULL */
/* The next time, not before the last one; FM_ARRIVALS_NEVER: there is none, nor will there be. The
 * first is a gap after 0 (TRACE: the first given; LOADGEN: 0). docs/workloads.md has the formulas.
 */
uint64_t fm_arrivals_next(struct fm_arrivals *arrivals);

/* When a trace's time comes at a scale, without steps; never decreasing in the time. */
uint64_t fm_arrivals_trace_time_ns(uint64_t time_ns, double scale);

const char *fm_arrivals_kind_name(enum fm_arrivals_kind kind);
enum fm_arrivals_kind fm_arrivals_kind_parse(const char *name); /* KIND_COUNT_: unknown */

#endif
