/*
 * Policies for bench tasks side by side. See queue_sim.h.
 */
#include "engines/bench/queue_sim.h"

#include <stdlib.h>
#include <string.h>

#include "core/load/portable_math.h"
#include "core/util/assert.h"
#include "core/util/memory.h"
#include "engines/bench/queue_draw.h"

#define NONE UINT32_MAX

static const char *const policy_names[] = {
    "round-robin, FIFO",          "least work, FIFO", "round-robin, shortest first",
    "least work, shortest first", "two-tier",
};

const char *fm_queue_sim_policy_name(enum fm_queue_sim_policy policy)
{
    return policy_names[policy];
}

/* One trace under one policy. */
struct run {
    const struct fm_queue_trace *trace;
    const uint64_t *estimates_ns;
    uint64_t *begins_ns; /* what comes out */
    uint32_t *next;      /* of what waits at the same follower */
    uint32_t followers;
    uint32_t ageing_percent;
};

struct simple_follower {
    uint32_t first;      /* of what waits, in order of arrival */
    uint64_t waiting_ns; /* the sum of its estimates */
    uint32_t running;
    uint64_t begin_ns;
    uint64_t end_ns;
};

static uint64_t end_ns(const struct run *run, uint32_t task, uint64_t begin_ns)
{
    return begin_ns + run->trace->lengths_ns[task];
}

/* --- Simple policies: bound on arrival --- */

static uint64_t simple_work_ns(const struct run *run, const struct simple_follower *follower,
                               uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - follower->begin_ns;
    uint64_t estimate_ns = follower->running != NONE ? run->estimates_ns[follower->running] : 0;
    return follower->waiting_ns + (estimate_ns > elapsed_ns ? estimate_ns - elapsed_ns : 0);
}

static void simple_push(const struct run *run, struct simple_follower *follower, uint32_t task)
{
    uint32_t *link = &follower->first;
    while (*link != NONE) {
        link = &run->next[*link];
    }
    *link = task;
    run->next[task] = NONE;
    follower->waiting_ns += run->estimates_ns[task];
}

static void simple_begin(const struct run *run, struct simple_follower *follower, bool shortest,
                         uint64_t now_ns)
{
    uint32_t *found = &follower->first;
    if (follower->running != NONE || follower->first == NONE) {
        return;
    }
    for (uint32_t *link = found; shortest && *link != NONE; link = &run->next[*link]) {
        found = run->estimates_ns[*link] < run->estimates_ns[*found] ? link : found;
    }
    uint32_t task = *found;
    *found = run->next[task];
    follower->waiting_ns -= run->estimates_ns[task];
    follower->running = task;
    follower->begin_ns = now_ns;
    follower->end_ns = end_ns(run, task, now_ns);
    run->begins_ns[task] = now_ns;
}

static void simple_run(const struct run *run, bool least_work, bool shortest)
{
    struct simple_follower followers[FM_QUEUE_SIM_FOLLOWERS_MAX];
    uint32_t arrived = 0;
    uint32_t turn = 0;
    for (uint32_t i = 0; i < run->followers; i++) {
        followers[i] =
            (struct simple_follower){.first = NONE, .running = NONE, .end_ns = UINT64_MAX};
    }
    for (;;) {
        const struct fm_queue_trace *trace = run->trace;
        uint64_t now_ns = arrived < trace->count ? trace->arrivals_ns[arrived] : UINT64_MAX;
        for (uint32_t i = 0; i < run->followers; i++) {
            now_ns = followers[i].end_ns < now_ns ? followers[i].end_ns : now_ns;
        }
        if (now_ns == UINT64_MAX) {
            return;
        }
        for (uint32_t i = 0; i < run->followers; i++) {
            if (followers[i].end_ns == now_ns) {
                followers[i].running = NONE;
                followers[i].end_ns = UINT64_MAX;
            }
        }
        for (; arrived < trace->count && trace->arrivals_ns[arrived] == now_ns; arrived++) {
            uint32_t chosen = least_work ? 0 : turn++ % run->followers;
            for (uint32_t i = 1; least_work && i < run->followers; i++) {
                chosen = simple_work_ns(run, &followers[i], now_ns) <
                                 simple_work_ns(run, &followers[chosen], now_ns)
                             ? i
                             : chosen;
            }
            simple_push(run, &followers[chosen], arrived);
        }
        for (uint32_t i = 0; i < run->followers; i++) {
            simple_begin(run, &followers[i], shortest, now_ns);
        }
    }
}

/* --- The real one --- */

struct two_tier {
    const struct run *run;
    struct fm_job_queue *queue;
    uint64_t *ids; /* by task */
    uint64_t followers[FM_QUEUE_SIM_FOLLOWERS_MAX];
    uint32_t running[FM_QUEUE_SIM_FOLLOWERS_MAX]; /* by follower: a task, or NONE */
    uint64_t ends_ns[FM_QUEUE_SIM_FOLLOWERS_MAX];
    uint32_t arrived;
};

static int two_tier_begin(struct two_tier *world, const struct run *run)
{
    const struct fm_job_ability ability = {0};
    struct fm_job_queue_options options = {.tasks_max = run->trace->count,
                                           .followers_max = run->followers,
                                           .attempts_max = 1,
                                           .ageing_percent = run->ageing_percent};
    *world = (struct two_tier){.run = run};
    world->ids = fm_alloc_zero(run->trace->count, sizeof(*world->ids));
    int status = world->ids == NULL ? FM_ENOMEM : fm_job_queue_create(&options, &world->queue);
    for (uint32_t i = 0; status == 0 && i < run->followers; i++) {
        status = fm_job_queue_join(world->queue, 0, &ability, 1, &world->followers[i], NULL);
        world->running[i] = NONE;
        world->ends_ns[i] = UINT64_MAX;
    }
    return status;
}

static int two_tier_ends(struct two_tier *world, uint64_t now_ns)
{
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < world->run->followers; i++) {
        if (world->ends_ns[i] == now_ns) {
            status = fm_job_queue_ended(world->queue, now_ns, world->followers[i],
                                        world->ids[world->running[i]], FM_JOB_OUTCOME_DONE);
            world->running[i] = NONE;
            world->ends_ns[i] = UINT64_MAX;
        }
    }
    return status;
}

static int two_tier_arrivals(struct two_tier *world, uint64_t now_ns)
{
    const struct run *run = world->run;
    int status = 0;
    while (status == 0 && world->arrived < run->trace->count &&
           run->trace->arrivals_ns[world->arrived] == now_ns) {
        struct fm_job_task task = {.estimate_ns = run->estimates_ns[world->arrived]};
        status =
            fm_job_queue_submit(world->queue, now_ns, &task, &world->ids[world->arrived], NULL);
        world->arrived++;
    }
    return status;
}

static void two_tier_bind(struct two_tier *world, const struct fm_job_action *action,
                          uint64_t now_ns)
{
    uint32_t follower = 0;
    uint32_t task = 0;
    while (world->followers[follower] != action->follower) {
        follower++;
    }
    while (world->ids[task] != action->task) {
        task++;
    }
    FM_ASSERT(world->running[follower] == NONE);
    world->running[follower] = task;
    world->ends_ns[follower] = end_ns(world->run, task, now_ns);
    world->run->begins_ns[task] = now_ns;
}

static int two_tier_run(const struct run *run)
{
    struct two_tier world;
    struct fm_job_action action;
    int status = two_tier_begin(&world, run);
    while (status == 0) {
        uint64_t now_ns =
            world.arrived < run->trace->count ? run->trace->arrivals_ns[world.arrived] : UINT64_MAX;
        for (uint32_t i = 0; i < run->followers; i++) {
            now_ns = world.ends_ns[i] < now_ns ? world.ends_ns[i] : now_ns;
        }
        if (now_ns == UINT64_MAX) {
            break;
        }
        status = two_tier_ends(&world, now_ns);
        status = status == 0 ? two_tier_arrivals(&world, now_ns) : status;
        while (status == 0 && fm_job_queue_next_action(world.queue, now_ns, &action)) {
            if (action.kind == FM_JOB_BIND) {
                two_tier_bind(&world, &action, now_ns);
            }
        }
    }
    fm_job_queue_destroy(world.queue);
    fm_free(world.ids);
    return status;
}

static int policy_run(const struct run *run, enum fm_queue_sim_policy policy)
{
    if (policy == FM_QUEUE_SIM_TWO_TIER) {
        return two_tier_run(run);
    }
    simple_run(
        run, policy == FM_QUEUE_SIM_LEAST_WORK_FIFO || policy == FM_QUEUE_SIM_LEAST_WORK_SHORTEST,
        policy == FM_QUEUE_SIM_ROUND_ROBIN_SHORTEST || policy == FM_QUEUE_SIM_LEAST_WORK_SHORTEST);
    return 0;
}

/* --- Measures --- */

/* Of one policy, over all seeds. */
struct tally {
    double *completions_s;
    double *bounded;
    double *own;
    uint64_t count;
    uint64_t own_count;
    double seed_s; /* sum of completion times in this seed */
    double gain_least;
};

struct sim {
    const struct fm_queue_sim_options *options;
    const struct fm_queue_trace *trace;
    struct run run;
    uint64_t *fifo_ns;  /* waiting under FIFO, as the measures count it */
    uint64_t *drawn_ns; /* wrong estimates */
    uint64_t longest_ns;
    double mean_ns;
    struct tally tallies[FM_QUEUE_SIM_POLICY_COUNT_][2];
};

static void sim_deinit(struct sim *sim)
{
    for (uint32_t i = 0; i < FM_QUEUE_SIM_POLICY_COUNT_ * 2; i++) {
        struct tally *tally = &sim->tallies[i / 2][i % 2];
        fm_free(tally->completions_s);
        fm_free(tally->bounded);
        fm_free(tally->own);
    }
    fm_free(sim->run.begins_ns);
    fm_free(sim->run.next);
    fm_free(sim->fifo_ns);
    fm_free(sim->drawn_ns);
}

static int sim_init(struct sim *sim, uint32_t tasks, uint32_t seeds)
{
    bool whole = true;
    sim->run.begins_ns = fm_alloc_zero(tasks, sizeof(uint64_t));
    sim->run.next = fm_alloc_zero(tasks, sizeof(uint32_t));
    sim->fifo_ns = fm_alloc_zero(tasks, sizeof(uint64_t));
    sim->drawn_ns = fm_alloc_zero(tasks, sizeof(uint64_t));
    for (uint32_t i = 0; i < FM_QUEUE_SIM_POLICY_COUNT_ * 2; i++) {
        struct tally *tally = &sim->tallies[i / 2][i % 2];
        tally->completions_s = fm_alloc_zero((size_t)tasks * seeds, sizeof(double));
        tally->bounded = fm_alloc_zero((size_t)tasks * seeds, sizeof(double));
        tally->own = fm_alloc_zero((size_t)tasks * seeds, sizeof(double));
        whole =
            whole && tally->completions_s != NULL && tally->bounded != NULL && tally->own != NULL;
    }
    return whole && sim->run.begins_ns != NULL && sim->run.next != NULL && sim->fifo_ns != NULL &&
                   sim->drawn_ns != NULL
               ? 0
               : FM_ENOMEM;
}

/* Those that arrive in one instant have the waiting of the last of them. */
static void fifo_keep(struct sim *sim)
{
    const struct fm_queue_trace *trace = sim->trace;
    for (uint32_t begin = 0; begin < trace->count;) {
        uint64_t most_ns = 0;
        uint32_t end = begin;
        for (; end < trace->count && trace->arrivals_ns[end] == trace->arrivals_ns[begin]; end++) {
            uint64_t wait_ns = sim->run.begins_ns[end] - trace->arrivals_ns[end];
            most_ns = wait_ns > most_ns ? wait_ns : most_ns;
        }
        for (; begin < end; begin++) {
            sim->fifo_ns[begin] = most_ns;
        }
    }
}

static void tally_add(const struct sim *sim, struct tally *tally, const struct tally *baseline)
{
    const struct fm_queue_trace *trace = sim->trace;
    tally->seed_s = 0;
    for (uint32_t i = 0; i < trace->count; i++) {
        double wait_ns = (double)(sim->run.begins_ns[i] - trace->arrivals_ns[i]);
        double fifo_ns = (double)sim->fifo_ns[i];
        double completion_s = (wait_ns + (double)trace->lengths_ns[i]) / 1e9;
        tally->seed_s += completion_s;
        tally->completions_s[tally->count] = completion_s;
        tally->bounded[tally->count++] = wait_ns / (fifo_ns + (double)sim->longest_ns / 2);
        if (fifo_ns >= sim->mean_ns) {
            tally->own[tally->own_count++] = wait_ns / fifo_ns;
        }
    }
    double gain = baseline->seed_s / tally->seed_s;
    tally->gain_least =
        tally->gain_least == 0 || gain < tally->gain_least ? gain : tally->gain_least;
}

static void estimates_draw(struct sim *sim, uint64_t seed)
{
    struct fm_random random;
    fm_random_init(&random, seed ^ FM_QUEUE_DRAW_ESTIMATES);
    for (uint32_t i = 0; i < sim->trace->count; i++) {
        double wrong = fm_portable_exp(sim->options->sigma * fm_queue_draw_normal(&random));
        double estimate_ns = (double)sim->trace->lengths_ns[i] * wrong;
        estimate_ns = estimate_ns < (double)FM_JOB_QUEUE_ESTIMATE_MAX_NS
                          ? estimate_ns
                          : (double)FM_JOB_QUEUE_ESTIMATE_MAX_NS;
        sim->drawn_ns[i] = estimate_ns >= 1 ? (uint64_t)estimate_ns : 1;
    }
}

static int trace_run(struct sim *sim, const struct fm_queue_trace *trace, uint64_t seed)
{
    double sum_ns = 0;
    sim->trace = trace;
    sim->run.trace = trace;
    sim->longest_ns = 0;
    for (uint32_t i = 0; i < trace->count; i++) {
        uint64_t length_ns = trace->lengths_ns[i];
        sum_ns += (double)length_ns;
        sim->longest_ns = length_ns > sim->longest_ns ? length_ns : sim->longest_ns;
    }
    sim->mean_ns = sum_ns / trace->count;
    estimates_draw(sim, seed);
    for (uint32_t i = 0; i < FM_QUEUE_SIM_POLICY_COUNT_ * 2; i++) {
        enum fm_queue_sim_policy policy = (enum fm_queue_sim_policy)(i / 2);
        const uint64_t *wrong_ns =
            trace->estimates_ns != NULL ? trace->estimates_ns : sim->drawn_ns;
        sim->run.estimates_ns = i % 2 == 0 ? trace->lengths_ns : wrong_ns;
        int status = policy_run(&sim->run, policy);
        if (status != 0) {
            return status;
        }
        if (i == 0) {
            fifo_keep(sim);
        }
        tally_add(sim, &sim->tallies[policy][i % 2], &sim->tallies[0][0]);
    }
    return 0;
}

static int double_compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The least value that `permille` of all are at or below; 0 of none. */
static double quantile(double *values, uint64_t count, uint64_t permille)
{
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof(*values), double_compare);
    uint64_t rank = (count * permille + 999) / 1000;
    return values[rank > 0 ? rank - 1 : 0];
}

static void measures_fill(struct sim *sim, struct fm_queue_sim_result *result)
{
    for (uint32_t i = 0; i < FM_QUEUE_SIM_POLICY_COUNT_ * 2; i++) {
        struct tally *tally = &sim->tallies[i / 2][i % 2];
        struct fm_queue_sim_measures *measures = &result->measures[i / 2][i % 2];
        const struct fm_queue_sim_measures *baseline = &result->measures[0][0];
        double sum_s = 0;
        for (uint64_t j = 0; j < tally->count; j++) {
            sum_s += tally->completions_s[j];
        }
        measures->mean_s = sum_s / (double)tally->count;
        measures->p99_s = quantile(tally->completions_s, tally->count, 990);
        measures->gain = baseline->mean_s / measures->mean_s;
        measures->gain_least = tally->gain_least;
        measures->p99_gain = baseline->p99_s / measures->p99_s;
        measures->bounded_p99 = quantile(tally->bounded, tally->count, 990);
        measures->bounded_most = quantile(tally->bounded, tally->count, 1000);
        measures->own_p99 = quantile(tally->own, tally->own_count, 990);
        measures->own_most = quantile(tally->own, tally->own_count, 1000);
        result->tasks = tally->count;
    }
}

int fm_queue_sim_run(const struct fm_queue_sim_options *options, const struct fm_queue_trace *trace,
                     struct fm_queue_sim_result *ret_result)
{
    struct sim sim = {.options = options};
    uint32_t tasks = trace != NULL ? trace->count : options->tasks;
    sim.run.followers = options->followers;
    sim.run.ageing_percent = options->ageing_percent;
    *ret_result = (struct fm_queue_sim_result){.options = *options, .from_file = trace != NULL};
    ret_result->own_estimates = trace != NULL && trace->estimates_ns != NULL;
    ret_result->options.tasks = tasks;
    int status = sim_init(&sim, tasks, options->seeds);
    for (uint32_t i = 0; status == 0 && i < options->seeds; i++) {
        struct fm_queue_trace made = {0};
        uint64_t seed = options->seed + i;
        status = trace == NULL ? fm_queue_trace_make(options, seed, &made) : 0;
        status = status == 0 ? trace_run(&sim, trace != NULL ? trace : &made, seed) : status;
        fm_queue_trace_deinit(&made);
    }
    if (status == 0) {
        measures_fill(&sim, ret_result);
    }
    sim_deinit(&sim);
    return status;
}
