/*
 * The auditor: watches what the scheduler is told and what it answers, and finds what must not be.
 *
 * Owns: a book of its own over every request and accelerator, kept from events and actions only; it
 * shares nothing with the scheduler or the simulator. Checks: every request gets exactly one
 * outcome; a batch holds waiting requests of its model; no batch is granted to an accelerator that
 * is down, or busy (where granting ahead is allowed a second one may follow, planned after the
 * first); none is started of a model that is not there; batch numbers rise; nothing is planned to
 * end after a deadline in it. Does not own: what to do about it. Cost: a few nanoseconds a request.
 * Thread rule: one thread at a time for each object.
 */
#ifndef FM_ENGINES_SIM_AUDITOR_H
#define FM_ENGINES_SIM_AUDITOR_H

#include "core/sched/sched.h"

struct fm_sim_audit {
    uint64_t violations;
    /* Batches planned to end too late where that is nobody's fault: on a slowed accelerator, or
     * while the scheduler follows latencies it measures. */
    uint64_t late_plans;
    char first[256]; /* the first violation in words; "" : none */
};

struct fm_sim_auditor_options {
    uint32_t requests_max;
    uint32_t accelerator_count;
    uint32_t batch_max;
    uint32_t model_count; /* whose coming and going is told; 0: all are always there */
    uint64_t result_ns;
    /* A batch may be granted before the one before it has ended: inputs travel meanwhile. */
    bool ahead;
    bool learn;
};

struct fm_sim_auditor;

/* FM_ENOMEM. */
int FM_NODISCARD fm_sim_auditor_create(const struct fm_sim_auditor_options *options,
                                       struct fm_sim_auditor **ret_auditor,
                                       struct fm_error *reterr);
void fm_sim_auditor_destroy(struct fm_sim_auditor *auditor); /* accepts NULL */

/* What happens. */
void fm_sim_auditor_arrived(struct fm_sim_auditor *auditor, uint64_t now_ns, uint32_t request,
                            uint32_t model, uint64_t deadline_ns);
/* The request's batch has ended: with an answer, or (failed, preempted, its accelerator went) it
 * waits again. */
void fm_sim_auditor_returned(struct fm_sim_auditor *auditor, uint64_t now_ns, uint32_t request,
                             bool answered);
void fm_sim_auditor_batch_ended(struct fm_sim_auditor *auditor, uint64_t now_ns,
                                uint32_t accelerator, uint64_t batch);
void fm_sim_auditor_accelerator(struct fm_sim_auditor *auditor, uint32_t accelerator, bool up,
                                bool slowed);
/* A model comes or goes, before the step that tells so; at first none is there. */
void fm_sim_auditor_model(struct fm_sim_auditor *auditor, uint32_t model, bool present);

/* What is answered. `latency_ns`: how long a batch of that size takes by its profile, as far as the
 * scheduler was told (START). A
 * PREEMPT is followed by the fm_sim_auditor_returned of its requests and batch_ended. False: the
 * action is impossible, do not carry it out. */
bool fm_sim_auditor_action(struct fm_sim_auditor *auditor, uint64_t now_ns,
                           const struct fm_sched_action *action, const uint32_t *requests,
                           uint64_t latency_ns);

/* For what only the caller can see; counts as a violation. */
void fm_sim_auditor_blame(struct fm_sim_auditor *auditor, uint64_t now_ns, const char *format, ...)
    FM_PRINTF(3, 4);
/* Everything is over: a request without an outcome is a violation. */
void fm_sim_auditor_finish(struct fm_sim_auditor *auditor, uint64_t now_ns);
void fm_sim_auditor_get(const struct fm_sim_auditor *auditor, struct fm_sim_audit *ret_audit);

#endif
