/*
 * The queue of bench tasks over the followers of a leader: who runs which task next. A pure state
 * machine.
 *
 * Owns: tasks from their submission to their end, followers with their devices, attempts, and the
 * decision which waiting task is bound to which free device. Does not own: what a task is, its
 * estimate (task_estimate.h), connections, how one notices that a follower is lost. Thread rule:
 * one thread at a time.
 *
 * HOW IT WORKS. A device runs one task at a time, because every task measures: two on one device
 * would measure each other. A device is therefore whatever a measurement needs to itself; where two
 * accelerators share a socket whose CPUs the measurement needs, too, the follower offers one device
 * with the abilities of both.
 *
 * Tier 1, between followers: a task goes to the follower that can run it and has the least
 * estimated outstanding work: what is left of what it runs, and its share of what waits (a waiting
 * task counts for each follower that can run it, in equal parts). Tasks are bound late: one that
 * waits belongs to nobody until a device is free, so that the work that is outstanding is compared
 * when most is known of it. Bound on arrival, a task would wait behind one that takes longer than
 * was thought while another follower stands idle; and each follower would have to find the shortest
 * task among its own.
 *
 * Tier 2, inside a follower: of what waits and its free device can run, the shortest estimate
 * first, of equals the first that came. Ageing: each task has a time at which it is due, and a task
 * that is due, or would be before the next device of a follower that stays is believed to be free
 * (whatever that can run), goes before all others; of several the one that is due first. It is
 *
 *     due = arrival + ageing_percent / 100 * (begin in FIFO order - arrival)
 *
 * where the begin in FIFO order is that of the same tasks dealt to the same devices in turn
 * (fifo_shadow.h). What arrives in one instant has no order: each such task counts as the last of
 * them. So nobody pays much more for the shortest-first order than a multiple of what the plain
 * order would have cost. 100 keeps closest to FIFO, more gains more time on the mean
 * (docs/bench-queue.md has the figures).
 *
 * THE BOUND. A task that is due is passed over only for tasks that were due before it, or on
 * devices that cannot run it; nothing that arrives after it is due is begun before it on a device
 * that can run it. What runs is not interrupted: so it waits, once it is due, for the devices that
 * can run it to end what they run and what was due earlier, and for nothing else.
 *
 * Estimates. What runs past its estimate is believed to take a quarter more than it has taken so
 * far (FM_JOB_QUEUE_OVERRUN_DIVISOR). A follower that is lost costs its tasks an attempt: they
 * wait again, with their first arrival, until attempts_max.
 *
 * LIMITATIONS. A binding costs time in proportion to the tasks that wait. A device stands idle
 * while the leader learns that it is free and the next task travels: milliseconds against minutes.
 * A follower that returns a task at once may be given it again at once, up to attempts_max.
 */
#ifndef FM_CORE_BENCH_JOB_QUEUE_H
#define FM_CORE_BENCH_JOB_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bench/fifo_shadow.h"
#include "fermata/status.h"

#define FM_JOB_QUEUE_TASKS_MAX       16384u
#define FM_JOB_QUEUE_FOLLOWERS_MAX   256u
#define FM_JOB_QUEUE_DEVICES_MAX     16u /* of one follower */
#define FM_JOB_QUEUE_ATTEMPTS_MAX    100u
#define FM_JOB_QUEUE_AGEING_MIN      100u   /* percent */
#define FM_JOB_QUEUE_AGEING_MAX      10000u /* percent */
#define FM_JOB_QUEUE_AGEING_DEFAULT  140u   /* percent */
#define FM_JOB_QUEUE_OVERRUN_DIVISOR 4u
#define FM_JOB_QUEUE_ESTIMATE_MAX_NS UINT64_C(31536000000000000) /* a year */

struct fm_job_queue_options {
    uint32_t tasks_max;      /* up to FM_JOB_QUEUE_TASKS_MAX */
    uint32_t followers_max;  /* up to FM_JOB_QUEUE_FOLLOWERS_MAX */
    uint32_t attempts_max;   /* up to FM_JOB_QUEUE_ATTEMPTS_MAX */
    uint32_t ageing_percent; /* FM_JOB_QUEUE_AGEING_MIN to FM_JOB_QUEUE_AGEING_MAX */
};

struct fm_job_task {
    struct fm_job_ability needed;
    uint64_t estimate_ns; /* above 0, up to FM_JOB_QUEUE_ESTIMATE_MAX_NS */
};

/* How the follower says that a task ended. */
enum fm_job_outcome {
    FM_JOB_OUTCOME_DONE,
    FM_JOB_OUTCOME_FAILED,   /* by itself: it would fail again */
    FM_JOB_OUTCOME_RETURNED, /* the follower could not run it: it waits again, an attempt older */
};

enum fm_job_end {
    FM_JOB_END_DONE,
    FM_JOB_END_FAILED,
    FM_JOB_END_CANCELLED,
    FM_JOB_END_GIVEN_UP, /* after attempts_max attempts */
    FM_JOB_END_COUNT_
};

enum fm_job_action_kind {
    FM_JOB_BIND,    /* start `task` on `device` of `follower` */
    FM_JOB_CANCEL,  /* `follower` is to end `task`, and to say when it has */
    FM_JOB_ENDED,   /* `task` has ended, in this way, and its id means nothing any more */
    FM_JOB_RELEASE, /* `follower` was asked to leave and has no task any more: the same */
};

struct fm_job_action {
    enum fm_job_action_kind kind;
    enum fm_job_end end; /* ENDED */
    uint64_t task;
    uint64_t follower;
    uint32_t device;
    uint32_t attempt; /* BIND, ENDED: from 1; 0: it was never bound */
};

enum fm_job_state {
    FM_JOB_WAITING,
    FM_JOB_RUNNING,
    FM_JOB_CANCELLING, /* its follower has still to say that it has ended */
    FM_JOB_OVER,       /* to be told with ENDED */
};

struct fm_job_look {
    enum fm_job_state state;
    uint32_t attempts;
    uint64_t arrival_ns;
    uint64_t due_ns;  /* WAITING: see above, as if nothing more arrived in this instant; UINT64_MAX:
                         no follower can run it */
    uint64_t left_ns; /* what it is believed to take still, once it is bound */
    uint64_t follower; /* RUNNING, CANCELLING */
};

struct fm_job_queue_counts {
    uint32_t waiting;
    uint32_t running; /* also those that are being cancelled */
    uint32_t followers;
    uint64_t ended[FM_JOB_END_COUNT_];
    uint64_t lost; /* attempts, with their followers */
};

struct fm_job_queue;

/* FM_ENOMEM. Options beyond their limits are a programmer's error. */
int FM_NODISCARD fm_job_queue_create(const struct fm_job_queue_options *options,
                                     struct fm_job_queue **ret_queue);
void fm_job_queue_destroy(struct fm_job_queue *queue); /* accepts NULL */

/* Ids of tasks and followers are never 0 and are not used again. FM_EINVAL: the estimate;
 * FM_ELIMIT: tasks_max; FM_EUNAVAILABLE: after fm_job_queue_drain. */
int FM_NODISCARD fm_job_queue_submit(struct fm_job_queue *queue, uint64_t now_ns,
                                     const struct fm_job_task *task, uint64_t *ret_task,
                                     struct fm_error *reterr);
/* A better estimate. FM_ENOTFOUND; FM_EINVAL. */
int FM_NODISCARD fm_job_queue_estimate(struct fm_job_queue *queue, uint64_t now_ns, uint64_t task,
                                       uint64_t estimate_ns);
/* What waits is over at once; what runs, when its follower says so. Twice is once. FM_ENOTFOUND. */
int FM_NODISCARD fm_job_queue_cancel(struct fm_job_queue *queue, uint64_t task);
/* No more tasks are taken; those that are there go on to their ends. */
void fm_job_queue_drain(struct fm_job_queue *queue);

/* 1 to FM_JOB_QUEUE_DEVICES_MAX devices, else FM_EINVAL; FM_ELIMIT: followers_max. */
int FM_NODISCARD fm_job_queue_join(struct fm_job_queue *queue, uint64_t now_ns,
                                   const struct fm_job_ability *devices, uint32_t device_count,
                                   uint64_t *ret_follower, struct fm_error *reterr);
/* It ends what it runs and gets nothing more; RELEASE follows. FM_ENOTFOUND. */
int FM_NODISCARD fm_job_queue_leave(struct fm_job_queue *queue, uint64_t now_ns, uint64_t follower);
/* It is gone, with what it ran. FM_ENOTFOUND. */
int FM_NODISCARD fm_job_queue_lose(struct fm_job_queue *queue, uint64_t now_ns, uint64_t follower);
/* FM_ENOTFOUND: that follower does not run that task (any more): the word came too late, and means
 * nothing. */
int FM_NODISCARD fm_job_queue_ended(struct fm_job_queue *queue, uint64_t now_ns, uint64_t follower,
                                    uint64_t task, enum fm_job_outcome outcome);

/* The next thing to do; false: nothing until something happens. Tasks that were submitted in one
 * instant, with no call of this in between, have no order. */
bool fm_job_queue_next_action(struct fm_job_queue *queue, uint64_t now_ns,
                              struct fm_job_action *ret_action);

/* FM_ENOTFOUND. */
int FM_NODISCARD fm_job_queue_look(struct fm_job_queue *queue, uint64_t now_ns, uint64_t task,
                                   struct fm_job_look *ret_look);
/* The estimated outstanding work of a follower, tier 1; 0: it is not there. */
uint64_t fm_job_queue_outstanding_ns(const struct fm_job_queue *queue, uint64_t now_ns,
                                     uint64_t follower);
void fm_job_queue_counts(const struct fm_job_queue *queue, struct fm_job_queue_counts *ret_counts);

/* Checks the whole structure; aborts when something is wrong. For tests. */
void fm_job_queue_validate(const struct fm_job_queue *queue);

#endif
