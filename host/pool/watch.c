/*
 * Runs that do not come back, and accelerators that are down until they do. See pool_internal.h.
 *
 * Owns: the thread that looks, what is told to the scheduler of it. Does not own: the runs; what a
 * model that hangs is reading and writing stays as it is until it returns. Thread rule: per
 * function.
 */
#include <stdio.h>

#include "core/util/assert.h"
#include "host/os/os.h"
#include "host/pool/pool_internal.h"

/* So often within the time that a run may take is looked. */
#define LOOKS        8u
#define INTERVAL_MAX UINT64_C(1000000000)
#define INTERVAL_MIN UINT64_C(1000000)
/* As much of a model's name as is told. */
#define TOLD_NAME_MAX 256u

static void tell(const struct fm_pool *pool, const struct fm_pool_accelerator *accelerator,
                 const char *model, uint64_t ran_ns, bool over)
{
    if (pool->options.on_hang != NULL) {
        const struct fm_pool_hang hang = {.accelerator = accelerator->index,
                                          .type = pool->type_names[accelerator->type],
                                          .model = model,
                                          .ran_ns = ran_ns,
                                          .over = over};
        pool->options.on_hang(pool->options.context, &hang);
    }
}

static void control(struct fm_pool *pool, const struct fm_pool_accelerator *accelerator,
                    enum fm_sched_event_kind kind)
{
    struct fm_sched_event event = {.kind = kind};
    event.as.accelerator.accelerator = accelerator->index;
    event.as.accelerator.type = accelerator->type;
    struct fm_error error;
    int status = fm_scheduler_control(pool->scheduler, &event, &error);
    FM_ASSERT(status == 0); /* both need no memory */
}

/* Rows of the batch that have been answered: the scheduler takes them for lost with the others. */
static void over_mark(struct fm_pool_batch *batch)
{
    uint32_t at = 0;
    uint32_t member = 0;
    for (uint32_t i = 0; i < batch->group_count; i++) {
        const struct fm_pool_group *group = &batch->groups[i];
        bool runs = member < batch->member_count && batch->members[member] == i;
        member += runs ? 1 : 0;
        for (uint32_t row = 0; row < group->rows; row++, at++) {
            if (group->taken && !runs) {
                batch->pool->slots[batch->slots[at]].row = FM_POOL_ROW_OVER;
            }
        }
    }
    FM_ASSERT(at == batch->slot_count);
}

/* Gives up a run: what the scheduler takes for lost with the accelerator is answered by its drops.
 * False: it has returned in the meantime. */
static bool give_up(struct fm_pool *pool, struct fm_pool_batch *batch, uint64_t run,
                    char ret_name[TOLD_NAME_MAX])
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    fm_mutex_lock(&pool->watch.lock);
    bool ours = atomic_compare_exchange_strong_explicit(&batch->run, &run, run | FM_POOL_RUN_LOST,
                                                        memory_order_acq_rel, memory_order_relaxed);
    if (ours) {
        over_mark(batch);
        /* As soon as the others hear of it the model may be unloaded. */
        (void)snprintf(ret_name, TOLD_NAME_MAX, "%s", batch->model->name);
        atomic_fetch_add_explicit(&batch->model->lost, 1, memory_order_relaxed);
        atomic_store_explicit(&accelerator->down, true, memory_order_relaxed);
        atomic_fetch_add_explicit(&accelerator->hangs, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&pool->watch.down_count, 1, memory_order_relaxed);
        control(pool, accelerator, FM_SCHED_EVENT_ACCELERATOR_DOWN);
        /* One that was handed out behind it has been lost as well, and nothing more comes: the
         * worker begins none before it has been here. */
        for (uint32_t i = 0; i < FM_POOL_BATCHES; i++) {
            struct fm_pool_batch *other = &accelerator->batches[i];
            if (other != batch && atomic_load_explicit(&other->used, memory_order_acquire)) {
                atomic_fetch_add_explicit(&other->model->lost, 1, memory_order_relaxed);
                atomic_fetch_or_explicit(&other->run, FM_POOL_RUN_LOST, memory_order_release);
            }
        }
    }
    fm_mutex_unlock(&pool->watch.lock);
    return ours;
}

static void look(struct fm_pool *pool, struct fm_pool_accelerator *accelerator)
{
    for (uint32_t i = 0; i < FM_POOL_BATCHES; i++) {
        struct fm_pool_batch *batch = &accelerator->batches[i];
        uint64_t run = atomic_load_explicit(&batch->run, memory_order_acquire);
        if (run % 2 == 0 || (run & FM_POOL_RUN_LOST) != 0) {
            continue;
        }
        /* Of a later run, if that has begun since: then it is another number that is given up. */
        uint64_t start_ns = atomic_load_explicit(&batch->run_start_ns, memory_order_relaxed);
        uint64_t limit_ns = atomic_load_explicit(&batch->run_limit_ns, memory_order_relaxed);
        uint64_t now_ns = fm_os_now_ns();
        char name[TOLD_NAME_MAX];
        if (now_ns > start_ns && now_ns - start_ns > limit_ns && give_up(pool, batch, run, name)) {
            tell(pool, accelerator, name, now_ns - start_ns, false);
        }
    }
}

static void watch_run(void *argument)
{
    struct fm_pool *pool = argument;
    struct fm_pool_watch *watch = &pool->watch;
    uint64_t interval_ns = pool->options.hang_ns / LOOKS;
    interval_ns = interval_ns < INTERVAL_MIN ? INTERVAL_MIN : interval_ns;
    interval_ns = interval_ns > INTERVAL_MAX ? INTERVAL_MAX : interval_ns;
    fm_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        uint64_t until_ns = fm_os_now_ns() + interval_ns;
        while (!watch->stopping && fm_condition_wait_until(&watch->wake, &watch->lock, until_ns)) {
        }
        fm_mutex_unlock(&watch->lock);
        for (uint32_t i = 0; i < pool->accelerator_count; i++) {
            look(pool, &pool->accelerators[i]);
        }
        /* Whoever meant to visit it is held up. */
        for (uint32_t i = 0; i < pool->worker_count; i++) {
            if (atomic_load_explicit(&pool->workers[i].mail, memory_order_acquire) != NULL) {
                fm_parker_wake(&pool->workers[i].parker);
            }
        }
        fm_mutex_lock(&watch->lock);
    }
    fm_mutex_unlock(&watch->lock);
}

int fm_pool_watch_start(struct fm_pool *pool)
{
    if (pool->options.hang_ns == 0) {
        return 0;
    }
    int status = fm_thread_start(&pool->watch.thread, "fm-watch", watch_run, pool);
    pool->watch.running = status == 0;
    return status;
}

void fm_pool_watch_stop(struct fm_pool *pool)
{
    if (!pool->watch.running) {
        return;
    }
    fm_mutex_lock(&pool->watch.lock);
    pool->watch.stopping = true;
    fm_condition_signal(&pool->watch.wake);
    fm_mutex_unlock(&pool->watch.lock);
    fm_thread_join(&pool->watch.thread);
    pool->watch.running = false;
}

void fm_pool_watch_wait(struct fm_pool *pool)
{
    fm_mutex_lock(&pool->watch.lock);
    fm_mutex_unlock(&pool->watch.lock);
}

void fm_pool_watch_up(struct fm_pool *pool, struct fm_pool_accelerator *accelerator)
{
    atomic_store_explicit(&accelerator->down, false, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool->watch.down_count, 1, memory_order_relaxed);
    control(pool, accelerator, FM_SCHED_EVENT_ACCELERATOR_UP);
    tell(pool, accelerator, "", 0, true);
}
