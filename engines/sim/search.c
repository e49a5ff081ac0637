/*
 * Parallel runs and the bisection. See search.h.
 */
#include "engines/sim/search.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/os/thread.h"

#define THREADS_MAX    256u
#define BRACKET_FACTOR 1.3
#define BRACKET_WIDTH  1.001
#define SCALE_FACTOR   65536.0 /* how far from the start the search goes, up and down */
/* Nor further up than to runs of so many requests, and so many times those of the first. */
#define REQUESTS_MOST   UINT64_C(20000000)
#define REQUESTS_FACTOR 100u

struct search {
    const struct fm_sim_scenario *scenario;
    const struct fm_sim_search_options *options;
    struct fm_sim_task *tasks;
    uint32_t task_count;
    atomic_uint next;
};

static double milliseconds(uint64_t ns)
{
    return (double)ns / 1e6;
}

void fm_sim_summarize(const struct fm_sim_result *result, struct fm_sim_summary *ret_summary)
{
    *ret_summary = (struct fm_sim_summary){
        .scale = result->scale,
        .offered_rps = fm_sim_result_offered_rps(result),
        .goodput_rps = fm_sim_result_goodput_rps(result),
        .bad_rate = fm_sim_counts_bad_rate(&result->total),
        .bad_rate_worst_model = fm_sim_result_worst_bad_rate(result),
        .batch_mean = fm_sim_counts_batch_mean(&result->total),
        .latency_mean_ms = milliseconds(fm_log_histogram_mean_ns(&result->latency)),
        .latency_p50_ms = fm_sim_quantile_ms(&result->latency, 500),
        .latency_p99_ms = fm_sim_quantile_ms(&result->latency, 990),
        .busy = fm_sim_result_busy(result),
        .touched = fm_sim_result_touched(result),
        .requests = result->requests_all,
        .measured = result->total.requests,
        .trace_hash = result->trace_hash,
        .violations = result->audit.violations,
        .traces = result->traces,
    };
    (void)snprintf(ret_summary->violation, sizeof ret_summary->violation, "%s",
                   result->audit.first);
}

static int task_run(const struct search *search, struct fm_sim_task *task, double scale,
                    struct fm_sim_summary *ret_summary)
{
    struct fm_sim_run_options options = {
        .policy = task->policy,
        .seed = task->seed,
        .scale = scale,
    };
    struct fm_sim_result *result = NULL;
    int status = fm_sim_run(search->scenario, &options, &result, &task->error);
    if (status == 0) {
        fm_sim_summarize(result, ret_summary);
        task->run_count++;
    }
    fm_sim_result_free(result);
    return status;
}

/* Runs at `scale`; when it keeps the bad rate it is the best so far. A load of which nothing was
 * measured is too low to be judged: it is good, and no result. */
static int task_try(const struct search *search, struct fm_sim_task *task, double scale,
                    bool *ret_good, uint64_t *ret_requests)
{
    struct fm_sim_summary summary;
    int status = task_run(search, task, scale, &summary);
    if (status != 0) {
        return status;
    }
    *ret_good = summary.bad_rate <= search->options->bad_rate || summary.measured == 0;
    *ret_requests = summary.requests;
    if (*ret_good && summary.measured > 0) {
        uint64_t violations = task->summary.violations;
        task->summary = summary;
        task->summary.violations += violations;
    } else if (summary.violations > 0) {
        task->summary.violations += summary.violations;
        memcpy(task->summary.violation, summary.violation, sizeof summary.violation);
    }
    return 0;
}

static int limit_reached(struct fm_sim_task *task, double scale)
{
    if (task->summary.measured == 0) {
        return fm_error_set(&task->error, FM_EINVAL,
                            "not even at %.3g times the load does a request arrive in the measured "
                            "interval: measure longer, or give arrivals that lie in it",
                            scale);
    }
    return fm_error_set(&task->error, FM_ELIMIT,
                        "even %.3g times the load (%.0f requests a second) keeps the bad rate: "
                        "give more load, or start higher with --scale",
                        scale, task->summary.offered_rps);
}

/* Brackets the load by steps of BRACKET_FACTOR from where it begins, then halves the bracket. */
static int task_search(const struct search *search, struct fm_sim_task *task)
{
    double low = 0;
    double high = 0;
    double scale = task->scale;
    bool good = false;
    uint64_t requests = 0;
    int status = task_try(search, task, scale, &good, &requests);
    uint64_t most = requests * REQUESTS_FACTOR;
    most = most > REQUESTS_MOST ? most : REQUESTS_MOST;
    most = search->options->requests_max > 0 ? search->options->requests_max : most;
    while (status == 0 && (low == 0 || high == 0)) {
        if (good) {
            low = scale;
            scale *= BRACKET_FACTOR;
        } else {
            high = scale;
            scale /= BRACKET_FACTOR;
        }
        if (low > 0 && high > 0) {
            break;
        }
        if (scale > task->scale * SCALE_FACTOR || requests > most) {
            return limit_reached(task, low);
        }
        if (scale < task->scale / SCALE_FACTOR) {
            return 0; /* no load keeps it: the summary says 0 */
        }
        status = task_try(search, task, scale, &good, &requests);
    }
    while (status == 0 && high / low >= BRACKET_WIDTH) {
        scale = low + (high - low) / 2;
        status = task_try(search, task, scale, &good, &requests);
        *(good ? &low : &high) = scale;
    }
    return status;
}

static void worker(void *argument)
{
    struct search *search = argument;
    for (;;) {
        uint32_t index = atomic_fetch_add(&search->next, 1);
        if (index >= search->task_count) {
            return;
        }
        struct fm_sim_task *task = &search->tasks[index];
        task->status = search->options->find_goodput
                           ? task_search(search, task)
                           : task_run(search, task, task->scale, &task->summary);
    }
}

int fm_sim_search(const struct fm_sim_scenario *scenario,
                  const struct fm_sim_search_options *options, struct fm_sim_task *tasks,
                  uint32_t task_count, struct fm_error *reterr)
{
    FM_ASSERT(options->thread_count > 0);
    struct search search = {
        .scenario = scenario, .options = options, .tasks = tasks, .task_count = task_count};
    struct fm_thread threads[THREADS_MAX];
    memset(threads, 0, sizeof threads);
    uint32_t wanted = options->thread_count < task_count ? options->thread_count : task_count;
    wanted = wanted < THREADS_MAX ? wanted : THREADS_MAX;
    uint32_t started = 0;
    /* This thread works too, and alone when no other can be had: slower, with the same results. */
    while (started + 1 < wanted &&
           fm_thread_start(&threads[started], "fm-sim", worker, &search) == 0) {
        started++;
    }
    worker(&search);
    for (uint32_t i = 0; i < started; i++) {
        fm_thread_join(&threads[i]);
    }
    for (uint32_t i = 0; i < task_count; i++) {
        if (tasks[i].status != 0) {
            if (reterr != NULL) {
                *reterr = tasks[i].error;
            }
            return tasks[i].status;
        }
    }
    return 0;
}
