/*
 * The schedule of one run of load. See load_plan.h. Pure.
 */
#include "core/bench/load_plan.h"

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"

static const char *const mode_names[FM_LOAD_MODE_COUNT_] = {
    [FM_LOAD_OPEN] = "open",
    [FM_LOAD_CLOSED] = "closed",
    [FM_LOAD_BURST] = "burst",
};

static const char *const phase_names[FM_LOAD_PHASE_COUNT_] = {
    [FM_LOAD_WARMUP] = "warmup",
    [FM_LOAD_MEASURED] = "measured",
    [FM_LOAD_DRAIN] = "drain",
};

const char *fm_load_mode_name(enum fm_load_mode mode)
{
    return (unsigned)mode < FM_LOAD_MODE_COUNT_ ? mode_names[mode] : "unknown";
}

const char *fm_load_phase_name(enum fm_load_phase phase)
{
    return (unsigned)phase < FM_LOAD_PHASE_COUNT_ ? phase_names[phase] : "unknown";
}

int fm_load_windows_check(const struct fm_load_windows *windows, struct fm_error *reterr)
{
    if (windows->measured_ns == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "measured_ns: 0 leaves no window to measure in; give a duration");
    }
    /* One by one, so that the sum cannot wrap. */
    uint64_t left_ns = FM_LOAD_DURATION_MAX_NS;
    const uint64_t lengths_ns[] = {windows->warmup_ns, windows->measured_ns, windows->drain_ns};
    for (unsigned i = 0; i < 3; i++) {
        if (lengths_ns[i] > left_ns) {
            return fm_error_set(reterr, FM_EINVAL,
                                "%s_ns: with %llu a run would take longer than the %llu seconds "
                                "that one may take; shorten it",
                                phase_names[i], (unsigned long long)lengths_ns[i],
                                (unsigned long long)(FM_LOAD_DURATION_MAX_NS / 1000000000));
        }
        left_ns -= lengths_ns[i];
    }
    return 0;
}

uint64_t fm_load_windows_end_ns(const struct fm_load_windows *windows)
{
    return windows->warmup_ns + windows->measured_ns + windows->drain_ns;
}

enum fm_load_phase fm_load_windows_phase(const struct fm_load_windows *windows,
                                         uint64_t intended_ns)
{
    if (intended_ns < windows->warmup_ns) {
        return FM_LOAD_WARMUP;
    }
    return intended_ns - windows->warmup_ns < windows->measured_ns ? FM_LOAD_MEASURED
                                                                   : FM_LOAD_DRAIN;
}

static int check(const struct fm_load_plan_spec *spec, struct fm_error *reterr)
{
    if ((unsigned)spec->mode >= FM_LOAD_MODE_COUNT_) {
        return fm_error_set(reterr, FM_EINVAL, "mode: %u is none; there are open, closed and burst",
                            (unsigned)spec->mode);
    }
    if (spec->mode == FM_LOAD_OPEN && spec->arrivals == NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "arrivals: an open loop needs an arrival process; there is none");
    }
    if (spec->mode != FM_LOAD_OPEN &&
        (spec->concurrency == 0 || spec->concurrency > FM_LOAD_CONCURRENCY_MAX)) {
        return fm_error_set(reterr, FM_EINVAL, "concurrency: %u is not from 1 to %u",
                            spec->concurrency, FM_LOAD_CONCURRENCY_MAX);
    }
    return fm_load_windows_check(&spec->windows, reterr);
}

/* Memory for plan->count times. */
static int times_alloc(struct fm_load_plan *plan, struct fm_error *reterr)
{
    plan->times_ns = fm_alloc(plan->count * sizeof *plan->times_ns);
    if (plan->times_ns == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a plan of %llu requests",
                            (unsigned long long)plan->count);
    }
    return 0;
}

/* Draws the arrivals before the end of the drain: counts them into *ret_count and, unless times_ns
 * is NULL, writes them there. */
static int draw_arrivals(const struct fm_load_plan_spec *spec, uint64_t *times_ns,
                         uint64_t *ret_count, struct fm_error *reterr)
{
    struct fm_arrivals *arrivals = NULL;
    int status = fm_arrivals_create(spec->arrivals, spec->seed, &arrivals, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "arrivals");
    }
    uint64_t end_ns = fm_load_windows_end_ns(&spec->windows);
    uint64_t count = 0;
    for (uint64_t time_ns = fm_arrivals_next(arrivals); time_ns < end_ns;
         time_ns = fm_arrivals_next(arrivals)) {
        if (count == FM_LOAD_REQUESTS_MAX) {
            status = fm_error_set(reterr, FM_ETOOLARGE,
                                  "the run would have more than the %llu requests that one may "
                                  "have; lower the rate or shorten it",
                                  (unsigned long long)FM_LOAD_REQUESTS_MAX);
            break;
        }
        if (times_ns != NULL) {
            times_ns[count] = time_ns;
        }
        count++;
    }
    fm_arrivals_destroy(arrivals);
    *ret_count = count;
    return status;
}

/* Drawn twice, first to count: what is too much is refused before it has taken memory. */
static int add_arrivals(struct fm_load_plan *plan, const struct fm_load_plan_spec *spec,
                        struct fm_error *reterr)
{
    int status = draw_arrivals(spec, NULL, &plan->count, reterr);
    if (status == 0) {
        status = times_alloc(plan, reterr);
    }
    if (status == 0) {
        status = draw_arrivals(spec, plan->times_ns, &plan->count, reterr);
    }
    return status;
}

static int add_bursts(struct fm_load_plan *plan, struct fm_error *reterr)
{
    uint64_t warmup_ns = plan->windows.warmup_ns;
    uint64_t warmup_count = warmup_ns > 0 ? plan->concurrency : 0;
    plan->count = warmup_count + plan->concurrency;
    int status = times_alloc(plan, reterr);
    if (status != 0) {
        return status;
    }
    for (uint64_t i = 0; i < plan->count; i++) {
        plan->times_ns[i] = i < warmup_count ? 0 : warmup_ns;
    }
    return 0;
}

/* Byte by byte from the lowest, so that every machine gets the same. */
static uint64_t hash_uint(uint64_t hash, uint64_t value)
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    return fm_hash_add(hash, bytes, sizeof bytes);
}

static uint64_t plan_hash(const struct fm_load_plan *plan)
{
    uint64_t hash = hash_uint(FM_HASH_START, (uint64_t)plan->mode);
    hash = hash_uint(hash, plan->concurrency);
    hash = hash_uint(hash, plan->windows.warmup_ns);
    hash = hash_uint(hash, plan->windows.measured_ns);
    hash = hash_uint(hash, plan->windows.drain_ns);
    for (uint64_t i = 0; i < plan->count; i++) {
        hash = hash_uint(hash, plan->times_ns[i]);
    }
    return hash;
}

int fm_load_plan_init(const struct fm_load_plan_spec *spec, struct fm_load_plan *ret_plan,
                      struct fm_error *reterr)
{
    *ret_plan = (struct fm_load_plan){0};
    int status = check(spec, reterr);
    if (status != 0) {
        return status;
    }
    ret_plan->mode = spec->mode;
    ret_plan->windows = spec->windows;
    ret_plan->concurrency = spec->mode == FM_LOAD_OPEN ? 0 : spec->concurrency;
    if (spec->mode == FM_LOAD_OPEN) {
        status = add_arrivals(ret_plan, spec, reterr);
    } else if (spec->mode == FM_LOAD_BURST) {
        status = add_bursts(ret_plan, reterr);
    }
    if (status != 0) {
        fm_load_plan_deinit(ret_plan);
        return status;
    }
    for (uint64_t i = 0; i < ret_plan->count; i++) {
        ret_plan->counts[fm_load_windows_phase(&ret_plan->windows, ret_plan->times_ns[i])]++;
    }
    ret_plan->hash = plan_hash(ret_plan);
    return 0;
}

void fm_load_plan_deinit(struct fm_load_plan *plan)
{
    fm_free(plan->times_ns);
    *plan = (struct fm_load_plan){0};
}
