/*
 * Which bench task runs where next. See job_queue.h.
 */
#include "core/bench/job_queue.h"

#include <inttypes.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NONE UINT32_MAX
/* The shadow may be behind the truth by as many tasks as wait at most. */
#define SHADOW_PER_TASK 2u

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_RUNNING, SLOT_CANCELLING, SLOT_OVER };

struct slot {
    enum slot_state state;
    enum fm_job_end end; /* OVER */
    struct fm_job_task task;
    uint64_t sequence; /* order of submission */
    uint64_t arrival_ns;
    uint64_t behind_ns; /* how much later the last of those that arrived with it begins, in FIFO */
    uint64_t start_ns;  /* RUNNING, CANCELLING */
    uint64_t share_ns;  /* WAITING: what it counts for each follower that can run it */
    uint32_t shadow;    /* its entry; FM_FIFO_SHADOW_NONE: there was no room */
    uint32_t generation;
    uint32_t attempts;
    uint32_t follower; /* RUNNING, CANCELLING */
    uint32_t device;
    uint32_t place; /* WAITING: in `waiting` */
    uint32_t next;  /* of those to tell, or of the free ones */
    bool fresh;     /* behind_ns is not known yet */
    bool telling;   /* it is in the list of those to tell */
};

struct follower {
    struct fm_job_ability devices[FM_JOB_QUEUE_DEVICES_MAX];
    uint32_t tasks[FM_JOB_QUEUE_DEVICES_MAX]; /* by device; NONE: it is free */
    uint64_t share_ns;                        /* of what waits */
    uint32_t device_count;
    uint32_t running;
    uint32_t generation;
    bool there;
    bool leaving;
};

struct fm_job_queue {
    struct fm_job_queue_options options;
    struct fm_fifo_shadow *shadow;
    struct slot *slots;
    struct follower *followers;
    uint32_t *waiting; /* slots, in no order */
    uint32_t waiting_count;
    uint32_t running_count;
    uint32_t follower_count;
    uint32_t free_devices; /* that may be given tasks */
    uint32_t free;         /* slots */
    uint32_t tell_first;
    uint32_t tell_last;
    uint32_t releases; /* followers that wait for RELEASE */
    uint64_t sequence;
    uint64_t fresh_ns; /* when the fresh ones arrived */
    uint64_t look_ns;
    uint32_t fresh_count;
    bool changed; /* since the shadow was looked at */
    bool draining;
    uint64_t ended[FM_JOB_END_COUNT_];
    uint64_t lost;
};

static uint64_t id_of(uint32_t generation, uint32_t index)
{
    return ((uint64_t)generation << 32) | index;
}

static struct slot *slot_find(const struct fm_job_queue *queue, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= queue->options.tasks_max) {
        return NULL;
    }
    struct slot *slot = &queue->slots[index];
    return slot->state != SLOT_FREE && slot->generation == (uint32_t)(id >> 32) ? slot : NULL;
}

static struct follower *follower_find(const struct fm_job_queue *queue, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= queue->options.followers_max) {
        return NULL;
    }
    struct follower *follower = &queue->followers[index];
    return follower->there && follower->generation == (uint32_t)(id >> 32) ? follower : NULL;
}

static uint32_t slot_index(const struct fm_job_queue *queue, const struct slot *slot)
{
    return (uint32_t)(slot - queue->slots);
}

static uint64_t since(uint64_t now_ns, uint64_t then_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* --- Life --- */

int fm_job_queue_create(const struct fm_job_queue_options *options, struct fm_job_queue **ret_queue)
{
    FM_ASSERT(options->tasks_max > 0 && options->tasks_max <= FM_JOB_QUEUE_TASKS_MAX);
    FM_ASSERT(options->followers_max > 0 && options->followers_max <= FM_JOB_QUEUE_FOLLOWERS_MAX);
    FM_ASSERT(options->attempts_max > 0 && options->attempts_max <= FM_JOB_QUEUE_ATTEMPTS_MAX);
    FM_ASSERT(options->ageing_percent >= FM_JOB_QUEUE_AGEING_MIN &&
              options->ageing_percent <= FM_JOB_QUEUE_AGEING_MAX);
    *ret_queue = NULL;
    struct fm_job_queue *queue = fm_alloc_zero(1, sizeof(*queue));
    if (queue == NULL) {
        return FM_ENOMEM;
    }
    queue->options = *options;
    queue->slots = fm_alloc_zero(options->tasks_max, sizeof(*queue->slots));
    queue->waiting = fm_alloc_zero(options->tasks_max, sizeof(*queue->waiting));
    queue->followers = fm_alloc_zero(options->followers_max, sizeof(*queue->followers));
    if (queue->slots == NULL || queue->waiting == NULL || queue->followers == NULL ||
        fm_fifo_shadow_create(options->followers_max * FM_JOB_QUEUE_DEVICES_MAX,
                              options->tasks_max * SHADOW_PER_TASK, &queue->shadow) != 0) {
        fm_job_queue_destroy(queue);
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < options->tasks_max; i++) {
        queue->slots[i].next = i + 1 < options->tasks_max ? i + 1 : NONE;
    }
    queue->tell_first = NONE;
    queue->tell_last = NONE;
    *ret_queue = queue;
    return 0;
}

void fm_job_queue_destroy(struct fm_job_queue *queue)
{
    if (queue != NULL) {
        fm_fifo_shadow_destroy(queue->shadow);
        fm_free(queue->followers);
        fm_free(queue->waiting);
        fm_free(queue->slots);
        fm_free(queue);
    }
}

/* --- Tier 1: outstanding work --- */

static bool device_suffices(const struct follower *follower, uint32_t device,
                            const struct slot *slot)
{
    return fm_job_ability_suffices(&follower->devices[device], &slot->task.needed);
}

static bool follower_suffices(const struct follower *follower, const struct slot *slot)
{
    if (!follower->there || follower->leaving) {
        return false;
    }
    for (uint32_t i = 0; i < follower->device_count; i++) {
        if (device_suffices(follower, i, slot)) {
            return true;
        }
    }
    return false;
}

static void share_add(struct fm_job_queue *queue, struct slot *slot)
{
    uint32_t able = 0;
    for (uint32_t i = 0; i < queue->options.followers_max; i++) {
        able += follower_suffices(&queue->followers[i], slot) ? 1 : 0;
    }
    slot->share_ns = able > 0 ? slot->task.estimate_ns / able : 0;
    for (uint32_t i = 0; i < queue->options.followers_max && able > 0; i++) {
        struct follower *follower = &queue->followers[i];
        follower->share_ns += follower_suffices(follower, slot) ? slot->share_ns : 0;
    }
}

static void share_remove(struct fm_job_queue *queue, const struct slot *slot)
{
    for (uint32_t i = 0; i < queue->options.followers_max && slot->share_ns > 0; i++) {
        struct follower *follower = &queue->followers[i];
        follower->share_ns -= follower_suffices(follower, slot) ? slot->share_ns : 0;
    }
}

/* Other followers than before can run what waits. */
static void shares_redo(struct fm_job_queue *queue)
{
    for (uint32_t i = 0; i < queue->options.followers_max; i++) {
        queue->followers[i].share_ns = 0;
    }
    for (uint32_t i = 0; i < queue->waiting_count; i++) {
        share_add(queue, &queue->slots[queue->waiting[i]]);
    }
}

/* What a task that runs is believed to take in all. */
static uint64_t length_ns(const struct slot *slot, uint64_t now_ns)
{
    uint64_t elapsed_ns = since(now_ns, slot->start_ns);
    return elapsed_ns < slot->task.estimate_ns
               ? slot->task.estimate_ns
               : elapsed_ns + elapsed_ns / FM_JOB_QUEUE_OVERRUN_DIVISOR;
}

static uint64_t outstanding_ns(const struct fm_job_queue *queue, const struct follower *follower,
                               uint64_t now_ns)
{
    uint64_t sum_ns = follower->share_ns;
    for (uint32_t i = 0; i < follower->device_count; i++) {
        if (follower->tasks[i] != NONE) {
            const struct slot *slot = &queue->slots[follower->tasks[i]];
            sum_ns += length_ns(slot, now_ns) - since(now_ns, slot->start_ns);
        }
    }
    return sum_ns;
}

/* --- Tasks --- */

static void waiting_push(struct fm_job_queue *queue, struct slot *slot)
{
    slot->state = SLOT_WAITING;
    slot->place = queue->waiting_count;
    queue->waiting[queue->waiting_count++] = slot_index(queue, slot);
    share_add(queue, slot);
}

static void waiting_remove(struct fm_job_queue *queue, struct slot *slot)
{
    uint32_t last = queue->waiting[--queue->waiting_count];
    queue->waiting[slot->place] = last;
    queue->slots[last].place = slot->place;
    queue->fresh_count -= slot->fresh ? 1 : 0;
    slot->fresh = false;
    share_remove(queue, slot);
}

static void tell(struct fm_job_queue *queue, struct slot *slot)
{
    if (slot->telling) {
        return;
    }
    uint32_t index = slot_index(queue, slot);
    slot->telling = true;
    slot->next = NONE;
    if (queue->tell_first == NONE) {
        queue->tell_first = index;
    } else {
        queue->slots[queue->tell_last].next = index;
    }
    queue->tell_last = index;
}

/* The one place where a task comes to its end; `took_ns`: its last attempt. */
static void end(struct fm_job_queue *queue, struct slot *slot, enum fm_job_end how,
                uint64_t took_ns)
{
    slot->state = SLOT_OVER;
    slot->end = how;
    queue->ended[how]++;
    queue->changed = true;
    if (slot->shadow != FM_FIFO_SHADOW_NONE) {
        fm_fifo_shadow_end(queue->shadow, slot->shadow, took_ns);
    }
    tell(queue, slot);
}

/* The one place where a device becomes free. */
static void unbind(struct fm_job_queue *queue, struct slot *slot)
{
    struct follower *follower = &queue->followers[slot->follower];
    FM_ASSERT(follower->tasks[slot->device] == slot_index(queue, slot));
    follower->tasks[slot->device] = NONE;
    follower->running--;
    queue->running_count--;
    queue->changed = true;
    if (!follower->leaving) {
        queue->free_devices++;
    } else if (follower->running == 0) {
        queue->releases++;
    }
}

/* It did not come to its end there. */
static void wait_again(struct fm_job_queue *queue, uint64_t now_ns, struct slot *slot)
{
    uint64_t took_ns = since(now_ns, slot->start_ns);
    if (slot->state == SLOT_CANCELLING) {
        end(queue, slot, FM_JOB_END_CANCELLED, took_ns);
    } else if (slot->attempts >= queue->options.attempts_max) {
        end(queue, slot, FM_JOB_END_GIVEN_UP, took_ns);
    } else {
        waiting_push(queue, slot);
        if (slot->shadow != FM_FIFO_SHADOW_NONE) {
            fm_fifo_shadow_expect(queue->shadow, slot->shadow, slot->task.estimate_ns);
        }
    }
}

/* The shadow, and with it when tasks are due, as of now. */
static void shadow_look(struct fm_job_queue *queue, uint64_t now_ns)
{
    if (!queue->changed && queue->look_ns == now_ns) {
        return;
    }
    for (uint32_t i = 0; i < queue->options.followers_max && queue->running_count > 0; i++) {
        const struct follower *follower = &queue->followers[i];
        for (uint32_t j = 0; follower->there && j < follower->device_count; j++) {
            const struct slot *slot =
                follower->tasks[j] != NONE ? &queue->slots[follower->tasks[j]] : NULL;
            if (slot != NULL && slot->shadow != FM_FIFO_SHADOW_NONE) {
                fm_fifo_shadow_expect(queue->shadow, slot->shadow, length_ns(slot, now_ns));
            }
        }
    }
    fm_fifo_shadow_look(queue->shadow, now_ns);
    queue->changed = false;
    queue->look_ns = now_ns;
}

/* UINT64_MAX: no device could take it. */
static uint64_t fifo_ns(const struct fm_job_queue *queue, const struct slot *slot)
{
    if (slot->shadow == FM_FIFO_SHADOW_NONE) {
        return slot->arrival_ns;
    }
    return fm_fifo_shadow_begin_ns(queue->shadow, slot->shadow);
}

/* Those that arrived in one instant, together: each counts as the last of them. */
static void fresh_settle(struct fm_job_queue *queue)
{
    uint64_t last_ns = 0;
    if (queue->fresh_count == 0) {
        return;
    }
    shadow_look(queue, queue->fresh_ns);
    for (uint32_t i = 0; i < queue->waiting_count; i++) {
        const struct slot *slot = &queue->slots[queue->waiting[i]];
        uint64_t begin_ns = slot->fresh ? fifo_ns(queue, slot) : 0;
        last_ns = begin_ns != UINT64_MAX && begin_ns > last_ns ? begin_ns : last_ns;
    }
    for (uint32_t i = 0; i < queue->waiting_count; i++) {
        struct slot *slot = &queue->slots[queue->waiting[i]];
        if (slot->fresh) {
            slot->behind_ns = since(last_ns, fifo_ns(queue, slot));
            slot->fresh = false;
        }
    }
    queue->fresh_count = 0;
}

static uint64_t due_ns(const struct fm_job_queue *queue, const struct slot *slot)
{
    uint64_t begin_ns = fifo_ns(queue, slot);
    uint64_t wait_ns = since(begin_ns, slot->arrival_ns);
    uint64_t percent = queue->options.ageing_percent;
    wait_ns = wait_ns > UINT64_MAX - slot->behind_ns ? UINT64_MAX : wait_ns + slot->behind_ns;
    if (begin_ns == UINT64_MAX || wait_ns / 100 > (UINT64_MAX - slot->arrival_ns) / percent) {
        return UINT64_MAX;
    }
    return slot->arrival_ns + wait_ns / 100 * percent;
}

static int estimate_check(uint64_t estimate_ns)
{
    return estimate_ns > 0 && estimate_ns <= FM_JOB_QUEUE_ESTIMATE_MAX_NS ? 0 : FM_EINVAL;
}

int fm_job_queue_submit(struct fm_job_queue *queue, uint64_t now_ns, const struct fm_job_task *task,
                        uint64_t *ret_task, struct fm_error *reterr)
{
    *ret_task = 0;
    if (estimate_check(task->estimate_ns) != 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a task's estimate of %" PRIu64 " ns is not above 0 and up to a year",
                            task->estimate_ns);
    }
    if (queue->draining) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "the leader takes no more tasks: it ends those that it has");
    }
    if (queue->free == NONE) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "the leader has %" PRIu32 " tasks, which is its limit; try again when "
                            "some have ended",
                            queue->options.tasks_max);
    }
    if (queue->fresh_count > 0 && queue->fresh_ns != now_ns) {
        fresh_settle(queue);
    }
    uint32_t index = queue->free;
    struct slot *slot = &queue->slots[index];
    queue->free = slot->next;
    *slot = (struct slot){.task = *task,
                          .sequence = queue->sequence++,
                          .arrival_ns = now_ns,
                          .generation = slot->generation + 1,
                          .fresh = true};
    slot->shadow = fm_fifo_shadow_add(queue->shadow, now_ns, &task->needed, task->estimate_ns);
    queue->fresh_ns = now_ns;
    queue->fresh_count++;
    queue->changed = true;
    waiting_push(queue, slot);
    *ret_task = id_of(slot->generation, index);
    return 0;
}

int fm_job_queue_estimate(struct fm_job_queue *queue, uint64_t now_ns, uint64_t task,
                          uint64_t estimate_ns)
{
    struct slot *slot = slot_find(queue, task);
    if (slot == NULL || slot->state == SLOT_OVER) {
        return FM_ENOTFOUND;
    }
    if (estimate_check(estimate_ns) != 0) {
        return FM_EINVAL;
    }
    bool waits = slot->state == SLOT_WAITING;
    if (waits) {
        share_remove(queue, slot);
    }
    slot->task.estimate_ns = estimate_ns;
    if (waits) {
        share_add(queue, slot);
    }
    if (slot->shadow != FM_FIFO_SHADOW_NONE) {
        fm_fifo_shadow_expect(queue->shadow, slot->shadow,
                              waits ? estimate_ns : length_ns(slot, now_ns));
    }
    queue->changed = true;
    return 0;
}

int fm_job_queue_cancel(struct fm_job_queue *queue, uint64_t task)
{
    struct slot *slot = slot_find(queue, task);
    if (slot == NULL || slot->state == SLOT_OVER) {
        return FM_ENOTFOUND;
    }
    if (slot->state == SLOT_WAITING) {
        waiting_remove(queue, slot);
        end(queue, slot, FM_JOB_END_CANCELLED, 0);
    } else if (slot->state == SLOT_RUNNING) {
        slot->state = SLOT_CANCELLING;
        tell(queue, slot);
    }
    return 0;
}

void fm_job_queue_drain(struct fm_job_queue *queue)
{
    queue->draining = true;
}

/* --- Followers --- */

int fm_job_queue_join(struct fm_job_queue *queue, uint64_t now_ns,
                      const struct fm_job_ability *devices, uint32_t device_count,
                      uint64_t *ret_follower, struct fm_error *reterr)
{
    uint32_t index = 0;
    *ret_follower = 0;
    if (device_count == 0 || device_count > FM_JOB_QUEUE_DEVICES_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a follower offers %" PRIu32 " devices; it must be 1 to %u",
                            device_count, FM_JOB_QUEUE_DEVICES_MAX);
    }
    while (index < queue->options.followers_max && queue->followers[index].there) {
        index++;
    }
    if (index == queue->options.followers_max) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "the leader has %" PRIu32 " followers, which is its limit",
                            queue->options.followers_max);
    }
    struct follower *follower = &queue->followers[index];
    *follower = (struct follower){
        .device_count = device_count, .generation = follower->generation + 1, .there = true};
    for (uint32_t i = 0; i < device_count; i++) {
        follower->devices[i] = devices[i];
        follower->tasks[i] = NONE;
        fm_fifo_shadow_open(queue->shadow, now_ns, index * FM_JOB_QUEUE_DEVICES_MAX + i,
                            &devices[i]);
    }
    queue->follower_count++;
    queue->free_devices += device_count;
    queue->changed = true;
    shares_redo(queue);
    *ret_follower = id_of(follower->generation, index);
    return 0;
}

/* It gets nothing more. */
static void follower_close(struct fm_job_queue *queue, uint64_t now_ns, struct follower *follower)
{
    uint32_t index = (uint32_t)(follower - queue->followers);
    follower->leaving = true;
    queue->free_devices -= follower->device_count - follower->running;
    for (uint32_t i = 0; i < follower->device_count; i++) {
        fm_fifo_shadow_close(queue->shadow, now_ns, index * FM_JOB_QUEUE_DEVICES_MAX + i);
    }
    queue->changed = true;
    shares_redo(queue);
}

int fm_job_queue_leave(struct fm_job_queue *queue, uint64_t now_ns, uint64_t id)
{
    struct follower *follower = follower_find(queue, id);
    if (follower == NULL) {
        return FM_ENOTFOUND;
    }
    if (!follower->leaving) {
        follower_close(queue, now_ns, follower);
        queue->releases += follower->running == 0 ? 1 : 0;
    }
    return 0;
}

static void follower_forget(struct fm_job_queue *queue, struct follower *follower)
{
    follower->there = false;
    queue->follower_count--;
}

int fm_job_queue_lose(struct fm_job_queue *queue, uint64_t now_ns, uint64_t id)
{
    struct follower *follower = follower_find(queue, id);
    if (follower == NULL) {
        return FM_ENOTFOUND;
    }
    /* Once it leaves and runs nothing it counts as one to release; nobody is told of that. */
    bool releasing = follower->leaving || follower->running > 0;
    if (!follower->leaving) {
        follower_close(queue, now_ns, follower);
    }
    for (uint32_t i = 0; i < follower->device_count; i++) {
        if (follower->tasks[i] != NONE) {
            struct slot *slot = &queue->slots[follower->tasks[i]];
            unbind(queue, slot);
            queue->lost++;
            wait_again(queue, now_ns, slot);
        }
    }
    queue->releases -= releasing ? 1 : 0;
    follower_forget(queue, follower);
    return 0;
}

int fm_job_queue_ended(struct fm_job_queue *queue, uint64_t now_ns, uint64_t follower_id,
                       uint64_t task, enum fm_job_outcome outcome)
{
    struct slot *slot = slot_find(queue, task);
    const struct follower *follower = follower_find(queue, follower_id);
    if (slot == NULL || follower == NULL ||
        (slot->state != SLOT_RUNNING && slot->state != SLOT_CANCELLING) ||
        &queue->followers[slot->follower] != follower) {
        return FM_ENOTFOUND;
    }
    uint64_t took_ns = since(now_ns, slot->start_ns);
    unbind(queue, slot);
    if (outcome == FM_JOB_OUTCOME_DONE) {
        end(queue, slot, FM_JOB_END_DONE, took_ns);
    } else if (outcome == FM_JOB_OUTCOME_FAILED && slot->state == SLOT_RUNNING) {
        end(queue, slot, FM_JOB_END_FAILED, took_ns);
    } else if (outcome == FM_JOB_OUTCOME_FAILED) {
        end(queue, slot, FM_JOB_END_CANCELLED, took_ns);
    } else {
        wait_again(queue, now_ns, slot);
    }
    return 0;
}

/* --- What to do --- */

/* Of what could be bound now. */
struct candidates {
    struct slot *shortest;
    struct slot *first_due;
    uint64_t due_ns; /* of first_due */
};

/* When the next device is free, as is believed, if this task is bound now; whatever it can run. */
static uint64_t next_free_ns(const struct fm_job_queue *queue, const struct slot *slot,
                             uint64_t now_ns)
{
    uint64_t least_ns = slot->task.estimate_ns;
    for (uint32_t i = 0; i < queue->options.followers_max && queue->running_count > 0; i++) {
        const struct follower *follower = &queue->followers[i];
        bool stays = follower->there && !follower->leaving;
        for (uint32_t j = 0; stays && j < follower->device_count; j++) {
            const struct slot *other =
                follower->tasks[j] != NONE ? &queue->slots[follower->tasks[j]] : NULL;
            uint64_t left_ns = other != NULL
                                   ? length_ns(other, now_ns) - since(now_ns, other->start_ns)
                                   : least_ns;
            least_ns = left_ns < least_ns ? left_ns : least_ns;
        }
    }
    return now_ns + least_ns;
}

/* The free device for a task: of the follower with the least outstanding work; there the one that
 * has the least memory to spare. False: there is none. */
static bool device_choose(const struct fm_job_queue *queue, const struct slot *slot,
                          uint64_t now_ns, uint32_t *ret_follower, uint32_t *ret_device)
{
    uint64_t least_ns = UINT64_MAX;
    uint64_t least_memory = UINT64_MAX;
    bool found = false;
    for (uint32_t i = 0; i < queue->options.followers_max; i++) {
        const struct follower *follower = &queue->followers[i];
        bool may =
            follower->there && !follower->leaving && follower->running < follower->device_count;
        uint64_t work_ns = may ? outstanding_ns(queue, follower, now_ns) : 0;
        for (uint32_t j = 0; may && j < follower->device_count; j++) {
            uint64_t memory = follower->devices[j].memory_bytes;
            if (follower->tasks[j] == NONE && device_suffices(follower, j, slot) &&
                (!found || work_ns < least_ns ||
                 (work_ns == least_ns && *ret_follower == i && memory < least_memory))) {
                found = true;
                least_ns = work_ns;
                least_memory = memory;
                *ret_follower = i;
                *ret_device = j;
            }
        }
    }
    return found;
}

static bool device_free(const struct fm_job_queue *queue, const struct slot *slot)
{
    for (uint32_t i = 0; i < queue->options.followers_max; i++) {
        const struct follower *follower = &queue->followers[i];
        bool may =
            follower->there && !follower->leaving && follower->running < follower->device_count;
        for (uint32_t j = 0; may && j < follower->device_count; j++) {
            if (follower->tasks[j] == NONE && device_suffices(follower, j, slot)) {
                return true;
            }
        }
    }
    return false;
}

static void candidate_add(const struct fm_job_queue *queue, struct candidates *candidates,
                          struct slot *slot)
{
    const struct slot *shortest = candidates->shortest;
    uint64_t due = due_ns(queue, slot);
    bool shorter = shortest == NULL || slot->task.estimate_ns < shortest->task.estimate_ns ||
                   (slot->task.estimate_ns == shortest->task.estimate_ns &&
                    slot->sequence < shortest->sequence);
    bool earlier = candidates->first_due == NULL || due < candidates->due_ns ||
                   (due == candidates->due_ns && slot->sequence < candidates->first_due->sequence);
    if ((shorter || earlier) && device_free(queue, slot)) {
        candidates->shortest = shorter ? slot : candidates->shortest;
        candidates->first_due = earlier ? slot : candidates->first_due;
        candidates->due_ns = earlier ? due : candidates->due_ns;
    }
}

/* Tier 2. */
static struct slot *task_choose(struct fm_job_queue *queue, uint64_t now_ns)
{
    struct candidates candidates = {0};
    for (uint32_t i = 0; i < queue->waiting_count; i++) {
        candidate_add(queue, &candidates, &queue->slots[queue->waiting[i]]);
    }
    if (candidates.shortest == NULL) {
        return NULL;
    }
    return candidates.due_ns <= next_free_ns(queue, candidates.shortest, now_ns)
               ? candidates.first_due
               : candidates.shortest;
}

static bool bind(struct fm_job_queue *queue, uint64_t now_ns, struct fm_job_action *ret_action)
{
    if (queue->free_devices == 0 || queue->waiting_count == 0) {
        return false;
    }
    struct slot *first = task_choose(queue, now_ns);
    if (first == NULL || !device_choose(queue, first, now_ns, &first->follower, &first->device)) {
        return false;
    }
    struct follower *follower = &queue->followers[first->follower];
    waiting_remove(queue, first);
    first->state = SLOT_RUNNING;
    first->start_ns = now_ns;
    first->attempts++;
    follower->tasks[first->device] = slot_index(queue, first);
    follower->running++;
    queue->free_devices--;
    queue->running_count++;
    *ret_action = (struct fm_job_action){
        .kind = FM_JOB_BIND,
        .task = id_of(first->generation, slot_index(queue, first)),
        .follower = id_of(follower->generation, first->follower),
        .device = first->device,
        .attempt = first->attempts,
    };
    return true;
}

static bool tell_next(struct fm_job_queue *queue, struct fm_job_action *ret_action)
{
    if (queue->tell_first == NONE) {
        return false;
    }
    uint32_t index = queue->tell_first;
    struct slot *slot = &queue->slots[index];
    queue->tell_first = slot->next;
    slot->telling = false;
    *ret_action = (struct fm_job_action){.kind = FM_JOB_ENDED,
                                         .end = slot->end,
                                         .task = id_of(slot->generation, index),
                                         .attempt = slot->attempts};
    if (slot->state == SLOT_CANCELLING) {
        ret_action->kind = FM_JOB_CANCEL;
        ret_action->device = slot->device;
        ret_action->follower = id_of(queue->followers[slot->follower].generation, slot->follower);
    } else {
        FM_ASSERT(slot->state == SLOT_OVER);
        slot->state = SLOT_FREE;
        slot->next = queue->free;
        queue->free = index;
    }
    return true;
}

static bool release_next(struct fm_job_queue *queue, struct fm_job_action *ret_action)
{
    for (uint32_t i = 0; i < queue->options.followers_max && queue->releases > 0; i++) {
        struct follower *follower = &queue->followers[i];
        if (follower->there && follower->leaving && follower->running == 0) {
            *ret_action = (struct fm_job_action){.kind = FM_JOB_RELEASE,
                                                 .follower = id_of(follower->generation, i)};
            follower_forget(queue, follower);
            queue->releases--;
            return true;
        }
    }
    return false;
}

bool fm_job_queue_next_action(struct fm_job_queue *queue, uint64_t now_ns,
                              struct fm_job_action *ret_action)
{
    *ret_action = (struct fm_job_action){0};
    if (tell_next(queue, ret_action) || release_next(queue, ret_action)) {
        return true;
    }
    fresh_settle(queue);
    shadow_look(queue, now_ns);
    return bind(queue, now_ns, ret_action);
}

/* --- Questions --- */

int fm_job_queue_look(struct fm_job_queue *queue, uint64_t now_ns, uint64_t task,
                      struct fm_job_look *ret_look)
{
    static const enum fm_job_state states[] = {[SLOT_WAITING] = FM_JOB_WAITING,
                                               [SLOT_RUNNING] = FM_JOB_RUNNING,
                                               [SLOT_CANCELLING] = FM_JOB_CANCELLING,
                                               [SLOT_OVER] = FM_JOB_OVER};
    const struct slot *slot = slot_find(queue, task);
    *ret_look = (struct fm_job_look){0};
    if (slot == NULL) {
        return FM_ENOTFOUND;
    }
    bool runs = slot->state == SLOT_RUNNING || slot->state == SLOT_CANCELLING;
    ret_look->state = states[slot->state];
    ret_look->attempts = slot->attempts;
    ret_look->arrival_ns = slot->arrival_ns;
    if (runs) {
        ret_look->left_ns = length_ns(slot, now_ns) - since(now_ns, slot->start_ns);
        ret_look->follower = id_of(queue->followers[slot->follower].generation, slot->follower);
    } else if (slot->state == SLOT_WAITING) {
        shadow_look(queue, now_ns);
        ret_look->left_ns = slot->task.estimate_ns;
        ret_look->due_ns = due_ns(queue, slot);
    }
    return 0;
}

uint64_t fm_job_queue_outstanding_ns(const struct fm_job_queue *queue, uint64_t now_ns,
                                     uint64_t follower_id)
{
    const struct follower *follower = follower_find(queue, follower_id);
    return follower != NULL ? outstanding_ns(queue, follower, now_ns) : 0;
}

void fm_job_queue_counts(const struct fm_job_queue *queue, struct fm_job_queue_counts *ret_counts)
{
    ret_counts->waiting = queue->waiting_count;
    ret_counts->running = queue->running_count;
    ret_counts->followers = queue->follower_count;
    ret_counts->lost = queue->lost;
    memcpy(ret_counts->ended, queue->ended, sizeof(queue->ended));
}

static void followers_validate(const struct fm_job_queue *queue)
{
    uint32_t running = 0;
    uint32_t free_devices = 0;
    uint32_t there = 0;
    uint32_t releases = 0;
    for (uint32_t i = 0; i < queue->options.followers_max; i++) {
        const struct follower *follower = &queue->followers[i];
        uint32_t own = 0;
        uint64_t share_ns = 0;
        for (uint32_t j = 0; follower->there && j < follower->device_count; j++) {
            if (follower->tasks[j] != NONE) {
                const struct slot *slot = &queue->slots[follower->tasks[j]];
                FM_ASSERT(slot->state == SLOT_RUNNING || slot->state == SLOT_CANCELLING);
                FM_ASSERT(slot->follower == i && slot->device == j);
                FM_ASSERT(device_suffices(follower, j, slot));
                own++;
            }
        }
        for (uint32_t j = 0; j < queue->waiting_count; j++) {
            const struct slot *slot = &queue->slots[queue->waiting[j]];
            share_ns += follower_suffices(follower, slot) ? slot->share_ns : 0;
        }
        FM_ASSERT(!follower->there || follower->leaving || follower->share_ns == share_ns);
        FM_ASSERT(!follower->there || own == follower->running);
        running += own;
        there += follower->there ? 1 : 0;
        free_devices += follower->there && !follower->leaving ? follower->device_count - own : 0;
        releases += follower->there && follower->leaving && own == 0 ? 1 : 0;
    }
    FM_ASSERT(running == queue->running_count && there == queue->follower_count);
    FM_ASSERT(free_devices == queue->free_devices && releases == queue->releases);
}

void fm_job_queue_validate(const struct fm_job_queue *queue)
{
    uint32_t counts[SLOT_OVER + 1] = {0};
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < queue->options.tasks_max; i++) {
        const struct slot *slot = &queue->slots[i];
        counts[slot->state]++;
        fresh += slot->state == SLOT_WAITING && slot->fresh ? 1 : 0;
        FM_ASSERT(slot->state != SLOT_WAITING || queue->waiting[slot->place] == i);
        FM_ASSERT(slot->state != SLOT_OVER || slot->telling);
        FM_ASSERT(slot->attempts <= queue->options.attempts_max);
    }
    FM_ASSERT(counts[SLOT_WAITING] == queue->waiting_count && fresh == queue->fresh_count);
    FM_ASSERT(counts[SLOT_RUNNING] + counts[SLOT_CANCELLING] == queue->running_count);
    followers_validate(queue);
    fm_fifo_shadow_validate(queue->shadow);
}
