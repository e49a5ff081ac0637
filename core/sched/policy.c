/*
 * The table of policies, and those that are a line or two each. See docs/scheduling.md for sources.
 */
#include "core/sched/policy.h"

#include <string.h>

#include "core/util/assert.h"

/* Starts as soon as an accelerator is free. */
static void eager_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                        uint64_t deadline_ns, uint32_t count, struct fm_sched_readiness *readiness)
{
    (void)sched;
    (void)model;
    (void)deadline_ns;
    (void)count;
    readiness->willing_ns = 0;
    readiness->urgent_ns = 0;
}

/* The last moment at which the batch is still as early as the SLO promises. */
static uint64_t last_moment_ns(const struct fm_sched *sched,
                               const struct fm_sched_model_entry *model, uint64_t deadline_ns,
                               const struct fm_sched_readiness *readiness)
{
    uint64_t early_ns = deadline_ns - fm_sched_wished_ns(sched, model, deadline_ns);
    return readiness->latest_ns > early_ns ? readiness->latest_ns - early_ns : 0;
}

/* Starts at the last moment, or when the batch is full. */
static void latest_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                         uint64_t deadline_ns, uint32_t count, struct fm_sched_readiness *readiness)
{
    uint64_t last_ns = last_moment_ns(sched, model, deadline_ns, readiness);
    readiness->urgent_ns = count >= model->batch_max ? 0 : last_ns;
    readiness->willing_ns = readiness->urgent_ns;
}

/* Symphony as published: at frontrun, D - l(b + 1). */
static void symphony_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           uint64_t deadline_ns, uint32_t count,
                           struct fm_sched_readiness *readiness)
{
    uint64_t frontrun_ns = 0;
    if (count < model->batch_max) {
        uint64_t next_ns =
            model->tables[model->reference].total_ns[count + 1] + sched->options.control_ns;
        uint64_t wished_ns = fm_sched_wished_ns(sched, model, deadline_ns);
        frontrun_ns = wished_ns > next_ns ? wished_ns - next_ns : 0;
    }
    readiness->willing_ns = frontrun_ns;
    readiness->urgent_ns = frontrun_ns;
}

/* When the earliest request has waited long enough. */
static uint64_t delayed_ns(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           uint64_t deadline_ns)
{
    return fm_sched_arrived_ns(sched, model, deadline_ns) + model->queue_delay_ns;
}

/* The largest preferred size up to `count`; 0: none. */
static uint32_t preferred_size(const struct fm_sched_model_entry *model, uint32_t count)
{
    uint32_t size = count >= model->batch_max ? model->batch_max : 0;
    for (uint32_t i = 0; i < FM_SCHED_PREFERRED_MAX && model->preferred[i] != 0; i++) {
        if (model->preferred[i] <= count && model->preferred[i] <= model->batch_max) {
            size = model->preferred[i] > size ? model->preferred[i] : size;
        }
    }
    return size;
}

/* Starts when there is a preferred size, or when the earliest has waited long enough. */
static void timeout_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                          uint64_t deadline_ns, uint32_t count,
                          struct fm_sched_readiness *readiness)
{
    bool preferred = preferred_size(model, count) > 0;
    readiness->urgent_ns = preferred ? 0 : delayed_ns(sched, model, deadline_ns);
    readiness->willing_ns = readiness->urgent_ns;
}

/* As Triton's dynamic batcher: the largest preferred size until the delay is over, all there is
 * afterwards. Without a delay there is no afterwards. */
static uint32_t timeout_limit(const struct fm_sched *sched,
                              const struct fm_sched_model_entry *model, uint64_t deadline_ns,
                              uint32_t count)
{
    uint32_t size = preferred_size(model, count);
    bool delayed =
        model->queue_delay_ns > 0 && sched->now_ns >= delayed_ns(sched, model, deadline_ns);
    return size == 0 || delayed ? model->batch_max : size;
}

/* Starts at the target size, or at the last moment. */
static void target_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                         uint64_t deadline_ns, uint32_t count, struct fm_sched_readiness *readiness)
{
    uint64_t last_ns = last_moment_ns(sched, model, deadline_ns, readiness);
    readiness->urgent_ns = count >= model->target ? 0 : last_ns;
    readiness->willing_ns = readiness->urgent_ns;
}

const struct fm_sched_policy fm_sched_policies[FM_SCHED_POLICY_COUNT_] = {
    [FM_SCHED_POLICY_DEFERRED] = {.name = "deferred",
                                  .ready = fm_sched_deferred_ready,
                                  .sacrifice = fm_sched_deferred_sacrifice,
                                  .uses_clearance = true,
                                  .plans = true,
                                  .uses_fairness = true,
                                  .uses_priorities = true,
                                  .uses_outlook = true},
    [FM_SCHED_POLICY_EAGER] = {.name = "eager",
                               .ready = eager_ready,
                               .sacrifice = fm_sched_window_sacrifice},
    [FM_SCHED_POLICY_LATEST] = {.name = "latest",
                                .ready = latest_ready,
                                .sacrifice = fm_sched_window_sacrifice},
    [FM_SCHED_POLICY_TIMEOUT] = {.name = "timeout", .ready = timeout_ready, .limit = timeout_limit},
    [FM_SCHED_POLICY_TARGET] = {.name = "target",
                                .ready = target_ready,
                                .sacrifice = fm_sched_window_sacrifice},
    [FM_SCHED_POLICY_NEXUS] = {.name = "nexus",
                               .ready = eager_ready,
                               .init = fm_sched_nexus_init,
                               .deinit = fm_sched_nexus_deinit,
                               .epoch = fm_sched_nexus_epoch,
                               .choose = fm_sched_nexus_choose},
    [FM_SCHED_POLICY_SHEPHERD] = {.name = "shepherd",
                                  .ready = eager_ready,
                                  .preempts = true,
                                  .init = fm_sched_shepherd_init,
                                  .deinit = fm_sched_shepherd_deinit,
                                  .settled = fm_sched_shepherd_settled,
                                  .choose = fm_sched_shepherd_choose},
    [FM_SCHED_POLICY_CLOCKWORK] = {.name = "clockwork",
                                   .ready = eager_ready,
                                   .ahead_ns = FM_SCHED_CLOCKWORK_AHEAD_NS,
                                   .choose = fm_sched_clockwork_choose},
    [FM_SCHED_POLICY_SYMPHONY] = {.name = "symphony",
                                  .ready = symphony_ready,
                                  .sacrifice = fm_sched_window_sacrifice},
};

static const char *const goal_names[] = {"balanced", "efficiency", "latency"};
_Static_assert(FM_COUNT_OF(goal_names) == FM_SCHED_GOAL_COUNT_, "one name each");

static const char *const reason_names[] = {"infeasible", "late",       "sacrificed", "rejected",
                                           "cancelled",  "model_gone", "failed",     "outranked"};
_Static_assert(FM_COUNT_OF(reason_names) == FM_SCHED_DROP_COUNT_, "one name each");

const char *fm_sched_policy_name(enum fm_sched_policy_kind policy)
{
    FM_ASSERT(policy < FM_SCHED_POLICY_COUNT_);
    return fm_sched_policies[policy].name;
}

enum fm_sched_policy_kind fm_sched_policy_parse(const char *name)
{
    unsigned index = 0;
    while (index < FM_SCHED_POLICY_COUNT_ && strcmp(fm_sched_policies[index].name, name) != 0) {
        index++;
    }
    return (enum fm_sched_policy_kind)index;
}

bool fm_sched_policy_mixes(enum fm_sched_policy_kind scheduler, enum fm_sched_policy_kind model)
{
    return scheduler == model ||
           (fm_sched_policy_has_parts(scheduler) && fm_sched_policy_has_parts(model));
}

const char *fm_sched_goal_name(enum fm_sched_goal goal)
{
    FM_ASSERT(goal < FM_SCHED_GOAL_COUNT_);
    return goal_names[goal];
}

enum fm_sched_goal fm_sched_goal_parse(const char *name)
{
    unsigned index = 0;
    while (index < FM_SCHED_GOAL_COUNT_ && strcmp(goal_names[index], name) != 0) {
        index++;
    }
    return (enum fm_sched_goal)index;
}

const char *fm_sched_drop_reason_name(enum fm_sched_drop_reason reason)
{
    FM_ASSERT(reason < FM_SCHED_DROP_COUNT_);
    return reason_names[reason];
}
