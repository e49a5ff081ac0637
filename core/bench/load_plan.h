/*
 * The schedule of one run of load: when every request is to be sent, known before the first is.
 *
 * Owns: the times of an open loop and of a burst, the windows of a run, and the hash that tells two
 * schedules apart. Does not own: clocks, connections, what a request is, what came of it
 * (load_record.h). Thread rule: pure; a plan that was made does not change, so any number of
 * threads may read it.
 *
 * A run is warm-up, then the measured window, then the drain; times count from the run's start. A
 * request belongs to the part that its intended time lies in, whenever it ends. In the drain the
 * load goes on as before, so that the last requests of the window meet the same company as the
 * first; what is intended there is not measured.
 */
#ifndef FM_CORE_BENCH_LOAD_PLAN_H
#define FM_CORE_BENCH_LOAD_PLAN_H

#include <stdint.h>

#include "core/load/arrivals.h"
#include "fermata/status.h"

#define FM_LOAD_REQUESTS_MAX    (UINT64_C(1) << 26) /* of one plan: half a gigabyte of times */
#define FM_LOAD_CONCURRENCY_MAX (UINT32_C(1) << 20)
#define FM_LOAD_DURATION_MAX_NS (UINT64_C(86400) * 1000000000) /* of a run: one day */

enum fm_load_mode {
    FM_LOAD_OPEN,   /* requests at the times of an arrival process, whatever is answered */
    FM_LOAD_CLOSED, /* `concurrency` clients, each with one request at a time; 1: blocking */
    FM_LOAD_BURST,  /* `concurrency` requests at once at the window's start */
    FM_LOAD_MODE_COUNT_
};

/* The parts of a run, in their order. */
enum fm_load_phase { FM_LOAD_WARMUP, FM_LOAD_MEASURED, FM_LOAD_DRAIN, FM_LOAD_PHASE_COUNT_ };

struct fm_load_windows {
    uint64_t warmup_ns;
    uint64_t measured_ns; /* above 0 */
    uint64_t drain_ns;
};

struct fm_load_plan_spec {
    enum fm_load_mode mode;
    const struct fm_arrivals_spec *arrivals; /* OPEN: borrowed for the call */
    uint64_t seed;                           /* OPEN */
    uint32_t concurrency;                    /* CLOSED, BURST: from 1 */
    struct fm_load_windows windows;
};

struct fm_load_plan {
    enum fm_load_mode mode;
    uint32_t concurrency; /* OPEN: 0 */
    struct fm_load_windows windows;
    uint64_t *times_ns; /* intended, ascending; CLOSED: NULL, the answers say when */
    uint64_t count;     /* CLOSED: 0 */
    uint64_t counts[FM_LOAD_PHASE_COUNT_];
    uint64_t hash; /* of mode, concurrency, windows and every time */
};

/*
 * Makes the schedule. OPEN: every arrival before the end of the drain. BURST: `concurrency` times
 * at the window's start and, where there is a warm-up, as many at 0. FM_EINVAL with the field named
 * in reterr, FM_ETOOLARGE when there would be more than FM_LOAD_REQUESTS_MAX, FM_ENOMEM; ret_plan
 * is then empty. Otherwise fm_load_plan_deinit it.
 */
int FM_NODISCARD fm_load_plan_init(const struct fm_load_plan_spec *spec,
                                   struct fm_load_plan *ret_plan, struct fm_error *reterr);
void fm_load_plan_deinit(struct fm_load_plan *plan);

/* FM_EINVAL with the field named in reterr: no window, or a run of more than a day. */
int FM_NODISCARD fm_load_windows_check(const struct fm_load_windows *windows,
                                       struct fm_error *reterr);
/* When the last request may be intended, exclusive. */
uint64_t fm_load_windows_end_ns(const struct fm_load_windows *windows);
/* Where an intended time belongs. */
enum fm_load_phase fm_load_windows_phase(const struct fm_load_windows *windows,
                                         uint64_t intended_ns);

const char *fm_load_mode_name(enum fm_load_mode mode);
const char *fm_load_phase_name(enum fm_load_phase phase);

#endif
