/*
 * Requests, accelerators and time around the scheduler's threads. See sched_stress.h.
 */
#include "engines/bench/sched_stress.h"

#include <math.h>
#include <stdatomic.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/id_heap.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/ring.h"
#include "host/os/thread.h"

#define GAPS           4096u /* quantiles of the gaps between arrivals */
#define BURST          256u  /* requests submitted between two looks at the clock */
#define CLUMP_NS       UINT64_C(20000)
#define BATCH_LEAST    16.0
#define BATCH_MOST     1024.0
#define BATCH_LIMIT    2048u /* twice what is chosen: models have tables of it */
#define LATENCY_S      0.005 /* a batch takes, where that makes a batch of these sizes */
#define LATENCY_MOST_S 0.25  /* with few requests for many accelerators these are idle instead */
#define BETA_ALPHAS    4.8
#define SLO_LEAST_NS   UINT64_C(25000000)
#define SLOTS_LEAST    4096.0
#define DROPPED        0x80000000u
#define RING_AT_MAX    2048u

struct begun {
    uint64_t batch;
    uint64_t start_ns;
    uint64_t expected_ns;
    uint32_t accelerator;
};

/* What a shard's thread tells the load's. */
struct shard_output {
    struct fm_ring begun; /* struct begun */
    struct fm_ring freed; /* uint32_t: slot, DROPPED set or not */
};

struct running {
    struct begun batches[2];
    uint32_t count;
};

struct stress {
    struct fm_sched_stress_options options;
    struct fm_scheduler *scheduler;
    struct fm_random random;
    struct fm_parker parker;
    struct shard_output *outputs;
    struct fm_sched_model *models;
    struct fm_profile profile;
    uint32_t batch_max;

    uint32_t slot_count;
    uint32_t *free_slots; /* the last one freed is used first: its memory is still near */
    uint32_t free_count;
    uint64_t *deadlines_ns; /* by slot */

    struct running *running; /* by accelerator */
    bool *touched;
    struct fm_id_heap ends; /* accelerators by when their first batch ends */
    bool reported;          /* since the last flush */

    uint64_t gaps_ns_q8[GAPS];
    uint64_t arrival_ns; /* of the next request */
    uint32_t arrival_part_q8;

    bool measuring;
    uint64_t begin_ns; /* of what is measured, and its end */
    uint64_t end_ns;
    uint64_t busy_ns;
    struct fm_scheduler_stats before;
    struct fm_sched_stress_result result;
};

/* --- what is asked -----------------------------------------------------------------------------
 */

/* The batch size that accelerators need to keep up, and what it takes. */
static void profile_choose(struct fm_sched_stress_options *options)
{
    if (options->alpha_ns == 0 && options->beta_ns == 0) {
        double rate_hz = options->rate_hz > 0 ? options->rate_hz : FM_SCHED_STRESS_ASSUMED_HZ;
        double each_hz = rate_hz / (FM_SCHED_STRESS_BUSY * options->accelerators);
        double batch = fmin(fmax(each_hz * LATENCY_S, BATCH_LEAST), BATCH_MOST);
        double latency_ns = fmin(batch / each_hz, LATENCY_MOST_S) * 1e9;
        double alpha_ns = latency_ns / (batch + BETA_ALPHAS);
        options->alpha_ns = (uint64_t)fmax(alpha_ns, 1.0);
        options->beta_ns = (uint64_t)fmax(alpha_ns * BETA_ALPHAS, 1.0);
        uint64_t slo_ns = (uint64_t)(latency_ns * 3.0);
        slo_ns = slo_ns > SLO_LEAST_NS ? slo_ns : SLO_LEAST_NS;
        options->slo_ns = options->slo_ns > 0 ? options->slo_ns : slo_ns;
    }
    if (options->slo_ns == 0) {
        uint64_t slo_ns = 3 * (options->beta_ns + (uint64_t)BATCH_LEAST * options->alpha_ns);
        options->slo_ns = slo_ns > SLO_LEAST_NS ? slo_ns : SLO_LEAST_NS;
    }
}

static int options_check(const struct fm_sched_stress_options *options, struct fm_error *reterr)
{
    uint64_t one_ns = options->alpha_ns + options->beta_ns;
    if (options->slo_ns <= one_ns) {
        return fm_error_set(reterr, FM_EINVAL,
                            "an SLO of %.6f ms is too short: a batch of one request takes %.6f ms; "
                            "give a longer --slo or a shorter --alpha and --beta",
                            (double)options->slo_ns / 1e6, (double)one_ns / 1e6);
    }
    return 0;
}

static int models_make(struct stress *stress, struct fm_error *reterr)
{
    const struct fm_sched_stress_options *options = &stress->options;
    uint64_t fits = (options->slo_ns - options->slo_ns / 8) / (options->alpha_ns + 1);
    uint32_t batch_max = fits < BATCH_LIMIT ? (uint32_t)fits : BATCH_LIMIT;
    stress->batch_max = batch_max > 1 ? batch_max : 1;
    int status = fm_profile_add_affine(&stress->profile, options->alpha_ns, options->beta_ns,
                                       stress->batch_max, reterr);
    if (status != 0) {
        return status;
    }
    stress->models = fm_alloc_zero(options->models, sizeof *stress->models);
    if (stress->models == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for %u models",
                            (unsigned)options->models);
    }
    for (uint32_t id = 0; id < options->models; id++) {
        stress->models[id] = (struct fm_sched_model){
            .model = id,
            .slo_ns = options->slo_ns,
            .profiles = {&stress->profile},
            .queue_delay_ns = options->slo_ns / 4,
        };
    }
    return 0;
}

/* As many slots as requests can be on their way at that rate, twice. */
static uint32_t slots_needed(const struct fm_sched_stress_options *options)
{
    double rate_hz = options->rate_hz > 0 ? options->rate_hz : FM_SCHED_STRESS_ASSUMED_HZ;
    double count = 2.0 * rate_hz * ((double)options->slo_ns / 1e9 + 0.05);
    count = fmax(count, SLOTS_LEAST);
    return count < (double)FM_SCHED_REQUESTS_LIMIT ? (uint32_t)count : FM_SCHED_REQUESTS_LIMIT;
}

/* Gaps of a Poisson stream: the middles of GAPS parts of equal probability, in 1/256 ns. */
static void gaps_make(struct stress *stress)
{
    double mean_ns = stress->options.rate_hz > 0 ? 1e9 / stress->options.rate_hz : 0;
    for (uint32_t i = 0; i < GAPS; i++) {
        double gap_ns = -log1p(-((double)i + 0.5) / GAPS) * mean_ns * 256.0;
        stress->gaps_ns_q8[i] = (uint64_t)gap_ns;
    }
}

/* --- on the shards' threads --------------------------------------------------------------------
 */

static void on_action(void *context, uint32_t shard, const struct fm_sched_action *action,
                      const uint32_t *requests)
{
    struct stress *stress = context;
    struct shard_output *output = &stress->outputs[shard];
    bool put = true;
    if (action->kind == FM_SCHED_ACTION_START) {
        struct begun begun = {.batch = action->batch,
                              .start_ns = action->start_ns,
                              .expected_ns = action->expected_ns,
                              .accelerator = action->accelerator};
        put = fm_ring_put(&output->begun, &begun, sizeof begun);
        fm_parker_wake(&stress->parker);
    } else if (action->kind == FM_SCHED_ACTION_DROP) {
        uint32_t slot = action->request | DROPPED;
        put = fm_ring_put(&output->freed, &slot, sizeof slot);
    } else if (action->kind == FM_SCHED_ACTION_DONE) {
        for (uint32_t i = 0; put && i < action->request_count; i++) {
            put = fm_ring_put(&output->freed, &requests[i], sizeof requests[i]);
        }
    }
    FM_ASSERT(put); /* the rings hold all batches and all slots there are */
}

/* --- the load's thread -------------------------------------------------------------------------
 */

static uint64_t later(uint64_t left, uint64_t right)
{
    return left > right ? left : right;
}

static bool begun_take(struct stress *stress, struct fm_ring *ring)
{
    uint32_t count;
    const struct begun *begun = fm_ring_peek(ring, &count);
    for (uint32_t i = 0; i < count; i++) {
        struct running *running = &stress->running[begun[i].accelerator];
        FM_ASSERT(running->count < 2);
        running->batches[running->count++] = begun[i];
        if (running->count == 1) {
            fm_id_heap_set(&stress->ends, begun[i].accelerator, begun[i].expected_ns);
        }
        uint64_t begin_ns = later(begun[i].start_ns, stress->begin_ns);
        if (begin_ns < begun[i].expected_ns && begin_ns < stress->end_ns) {
            uint64_t end_ns = begun[i].expected_ns;
            stress->touched[begun[i].accelerator] = true;
            stress->busy_ns += (end_ns < stress->end_ns ? end_ns : stress->end_ns) - begin_ns;
        }
    }
    if (count > 0) {
        fm_ring_take(ring, count);
    }
    return count > 0;
}

static bool freed_take(struct stress *stress, struct fm_ring *ring, uint64_t now_ns)
{
    uint32_t count;
    const uint32_t *freed = fm_ring_peek(ring, &count);
    uint64_t dropped = 0;
    uint64_t late = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = freed[i] & ~DROPPED;
        bool drop = (freed[i] & DROPPED) != 0;
        dropped += drop ? 1 : 0;
        late += !drop && stress->deadlines_ns[slot] < now_ns ? 1 : 0;
        stress->free_slots[stress->free_count++] = slot;
    }
    if (stress->measuring) {
        stress->result.dropped += dropped;
        stress->result.late += late;
        stress->result.served += count - dropped - late;
    }
    if (count > 0) {
        fm_ring_take(ring, count);
    }
    return count > 0;
}

static void ends_report(struct stress *stress, uint64_t now_ns)
{
    while (!fm_id_heap_empty(&stress->ends) && fm_id_heap_first(&stress->ends).key <= now_ns) {
        uint32_t id = fm_id_heap_first(&stress->ends).id;
        struct running *running = &stress->running[id];
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_BATCH_DONE};
        event.as.batch.accelerator = id;
        event.as.batch.batch = running->batches[0].batch;
        if (!fm_scheduler_report(stress->scheduler, 0, &event)) {
            break;
        }
        stress->reported = true;
        running->batches[0] = running->batches[1];
        running->count--;
        if (running->count > 0) {
            fm_id_heap_set(&stress->ends, id, running->batches[0].expected_ns);
        } else {
            fm_id_heap_remove(&stress->ends, id);
        }
    }
}

static bool request_submit(struct stress *stress, uint64_t arrival_ns)
{
    if (stress->free_count == 0) {
        return false;
    }
    uint32_t slot = stress->free_slots[stress->free_count - 1];
    uint32_t model = (uint32_t)fm_random_below(&stress->random, stress->options.models);
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
    event.as.request.request = slot;
    event.as.request.model = model;
    event.as.request.deadline_ns = arrival_ns + stress->options.slo_ns;
    if (!fm_scheduler_submit(stress->scheduler, 0, model, &event)) {
        return false;
    }
    stress->deadlines_ns[slot] = event.as.request.deadline_ns;
    stress->free_count--;
    stress->result.submitted += stress->measuring ? 1 : 0;
    return true;
}

/* Submits what should have arrived by now; true: there is more than was taken. */
static bool arrivals_submit(struct stress *stress, uint64_t now_ns)
{
    bool paced = stress->options.rate_hz > 0;
    uint32_t count = 0;
    if (stress->measuring && paced && stress->arrival_ns <= now_ns) {
        fm_log_histogram_add(&stress->result.lag, now_ns - stress->arrival_ns);
    }
    while (count < BURST && (!paced || stress->arrival_ns <= now_ns) &&
           request_submit(stress, paced ? stress->arrival_ns : now_ns)) {
        count++;
        if (paced) {
            uint32_t draw = (uint32_t)(fm_random_next(&stress->random) >> 40) % GAPS;
            uint64_t step_q8 = stress->arrival_part_q8 + stress->gaps_ns_q8[draw];
            stress->arrival_ns += step_q8 >> 8;
            stress->arrival_part_q8 = (uint32_t)(step_q8 & 255);
        }
    }
    if (count > 0) {
        fm_scheduler_flush(stress->scheduler, 0);
    }
    return count == BURST;
}

static bool outputs_empty(struct stress *stress)
{
    bool empty = true;
    for (uint32_t i = 0; empty && i < stress->options.shards; i++) {
        empty =
            fm_ring_empty(&stress->outputs[i].begun) && fm_ring_empty(&stress->outputs[i].freed);
    }
    return empty;
}

static void load_sleep(struct stress *stress, uint64_t now_ns, uint64_t until_ns)
{
    uint64_t next_ns = until_ns;
    if (!fm_id_heap_empty(&stress->ends) && fm_id_heap_first(&stress->ends).key < next_ns) {
        next_ns = fm_id_heap_first(&stress->ends).key;
    }
    /* Arrivals are looked at in clumps: a sleep costs more than a request. Where the scheduler is
     * behind (no slots, or full rings) there is nothing to submit before it moves. */
    uint64_t arrival_ns = now_ns + CLUMP_NS;
    if (stress->options.rate_hz > 0 && stress->arrival_ns > arrival_ns) {
        arrival_ns = stress->arrival_ns;
    }
    next_ns = arrival_ns < next_ns ? arrival_ns : next_ns;
    fm_parker_prepare(&stress->parker);
    if (outputs_empty(stress)) {
        fm_parker_park(&stress->parker, next_ns);
    } else {
        fm_parker_stay(&stress->parker);
    }
}

static void load_until(struct stress *stress, uint64_t until_ns)
{
    for (;;) {
        uint64_t now_ns = fm_os_now_ns();
        if (now_ns >= until_ns) {
            return;
        }
        bool any = false;
        for (uint32_t i = 0; i < stress->options.shards; i++) {
            any = begun_take(stress, &stress->outputs[i].begun) || any;
            any = freed_take(stress, &stress->outputs[i].freed, now_ns) || any;
        }
        ends_report(stress, now_ns);
        if (stress->reported) {
            stress->reported = false;
            fm_scheduler_report_flush(stress->scheduler, 0);
        }
        any = arrivals_submit(stress, now_ns) || any;
        if (!any) {
            load_sleep(stress, now_ns, until_ns);
        }
    }
}

/* --- a run -------------------------------------------------------------------------------------
 */

static int memory_take(struct stress *stress)
{
    uint32_t accelerators = stress->options.accelerators;
    stress->slot_count = slots_needed(&stress->options);
    stress->free_slots = fm_alloc((size_t)stress->slot_count * sizeof *stress->free_slots);
    stress->deadlines_ns = fm_alloc_zero(stress->slot_count, sizeof *stress->deadlines_ns);
    stress->running = fm_alloc_zero(accelerators, sizeof *stress->running);
    stress->touched = fm_alloc_zero(accelerators, sizeof *stress->touched);
    stress->outputs = fm_alloc_zero(stress->options.shards, sizeof *stress->outputs);
    if (stress->free_slots == NULL || stress->deadlines_ns == NULL || stress->running == NULL ||
        stress->touched == NULL || stress->outputs == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t slot = 0; slot < stress->slot_count; slot++) {
        stress->free_slots[slot] = stress->slot_count - 1 - slot;
    }
    stress->free_count = stress->slot_count;
    int status = fm_id_heap_init(&stress->ends, accelerators, NULL);
    for (uint32_t i = 0; status == 0 && i < stress->options.shards; i++) {
        status = fm_ring_init(&stress->outputs[i].begun, accelerators * 2, sizeof(struct begun));
        if (status == 0) {
            status = fm_ring_init(&stress->outputs[i].freed, stress->slot_count, sizeof(uint32_t));
        }
    }
    return status;
}

static void memory_give(struct stress *stress)
{
    for (uint32_t i = 0; stress->outputs != NULL && i < stress->options.shards; i++) {
        fm_ring_deinit(&stress->outputs[i].begun);
        fm_ring_deinit(&stress->outputs[i].freed);
    }
    fm_id_heap_deinit(&stress->ends);
    fm_free(stress->outputs);
    fm_free(stress->touched);
    fm_free(stress->running);
    fm_free(stress->deadlines_ns);
    fm_free(stress->free_slots);
    fm_free(stress->models);
}

/* Tells the scheduler of all models and accelerators. */
static int world_tell(struct stress *stress, struct fm_error *reterr)
{
    uint32_t models = stress->options.models;
    uint32_t accelerators = stress->options.accelerators;
    uint32_t most = models > accelerators ? models : accelerators;
    struct fm_sched_event *events = fm_alloc_zero(most, sizeof *events);
    if (events == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for %u events", (unsigned)most);
    }
    for (uint32_t id = 0; id < models; id++) {
        events[id] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_SET,
                                             .as.model = &stress->models[id]};
    }
    int status = fm_scheduler_controls(stress->scheduler, events, models, reterr);
    for (uint32_t id = 0; id < accelerators; id++) {
        events[id] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_ACCELERATOR_UP,
                                             .as.accelerator = {.accelerator = id}};
    }
    if (status == 0) {
        status = fm_scheduler_controls(stress->scheduler, events, accelerators, reterr);
    }
    fm_free(events);
    return status;
}

static int scheduler_start(struct stress *stress, struct fm_error *reterr)
{
    const struct fm_scheduler_options options = {
        .sched = {.policy = stress->options.policy,
                  .models_max = stress->options.models,
                  .accelerators_max = stress->options.accelerators,
                  .type_count = 1,
                  .requests_max = stress->slot_count,
                  .batch_max = stress->batch_max},
        .shard_count = stress->options.shards,
        .submitter_count = 1,
        .reporter_count = 1,
        /* As fast as it goes: what waits in the ring would wait for nothing else. */
        .submit_capacity = stress->options.rate_hz > 0 ? 0 : RING_AT_MAX,
        .offer_slack_ns = stress->options.slo_ns / 16,
        .on_action = on_action,
        .context = stress,
    };
    int status = fm_scheduler_create(&options, &stress->scheduler, reterr);
    return status == 0 ? world_tell(stress, reterr) : status;
}

static void histogram_subtract(struct fm_log_histogram *histogram,
                               const struct fm_log_histogram *before)
{
    histogram->count -= before->count;
    histogram->sum_ns -= before->sum_ns;
    for (uint32_t i = 0; i < FM_LOG_HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] -= before->buckets[i];
    }
}

/* What was counted between two looks. */
static void stats_subtract(struct fm_scheduler_stats *stats,
                           const struct fm_scheduler_stats *before)
{
    stats->requests -= before->requests;
    stats->started -= before->started;
    stats->batches -= before->batches;
    stats->messages -= before->messages;
    stats->declined -= before->declined;
    stats->steps -= before->steps;
    stats->parks -= before->parks;
    stats->cpu_ns -= before->cpu_ns;
    for (uint32_t reason = 0; reason < FM_SCHED_DROP_COUNT_; reason++) {
        stats->dropped[reason] -= before->dropped[reason];
    }
    for (uint32_t hop = 0; hop < FM_SCHEDULER_HOP_COUNT_; hop++) {
        histogram_subtract(&stats->hops[hop], &before->hops[hop]);
    }
    histogram_subtract(&stats->delay, &before->delay);
}

static void measure(struct stress *stress)
{
    struct fm_sched_stress_result *result = &stress->result;
    uint64_t begin_ns = fm_os_now_ns();
    stress->arrival_ns = begin_ns;
    stress->begin_ns = begin_ns + stress->options.warmup_ns;
    stress->end_ns = stress->begin_ns + stress->options.measure_ns;
    load_until(stress, stress->begin_ns);
    begin_ns = fm_os_now_ns();
    uint64_t cpu_ns = fm_os_thread_cpu_ns();
    fm_scheduler_stats_get(stress->scheduler, &stress->before);
    stress->measuring = true;
    load_until(stress, stress->end_ns);
    fm_scheduler_stats_get(stress->scheduler, &result->scheduler);
    result->load_cpu_ns = fm_os_thread_cpu_ns() - cpu_ns;
    result->seconds = (double)(fm_os_now_ns() - begin_ns) / 1e9;
    stats_subtract(&result->scheduler, &stress->before);
    result->busy = (double)stress->busy_ns / (double)stress->options.measure_ns;
    for (uint32_t id = 0; id < stress->options.accelerators; id++) {
        result->touched += stress->touched[id] ? 1u : 0u;
    }
    result->options = stress->options;
    result->batch_max = stress->batch_max;
}

int fm_sched_stress_run(const struct fm_sched_stress_options *options,
                        struct fm_sched_stress_result *ret_result, struct fm_error *reterr)
{
    struct stress *stress = fm_alloc_zero(1, sizeof *stress);
    if (stress == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the load");
    }
    stress->options = *options;
    profile_choose(&stress->options);
    fm_random_init(&stress->random, options->seed);
    fm_parker_init(&stress->parker);
    gaps_make(stress);
    int status = options_check(&stress->options, reterr);
    status = status != 0 ? status : models_make(stress, reterr);
    if (status == 0 && memory_take(stress) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "no memory for %u requests on their way",
                              (unsigned)slots_needed(&stress->options));
    }
    status = status != 0 ? status : scheduler_start(stress, reterr);
    if (status == 0) {
        fm_thread_timers_exact();
        measure(stress);
        *ret_result = stress->result;
    }
    fm_scheduler_destroy(stress->scheduler);
    memory_give(stress);
    fm_free(stress);
    return status;
}
