/*
 * The work of accelerators: batches are taken, run, and reported, on a thread for it or by whoever
 * has its place (brief.c). See pool_internal.h.
 *
 * The mail is a stack that others push onto and its thread takes as a whole: without locks, and
 * order does not matter but for batches of one accelerator, which their numbers tell.
 */
#include "core/util/assert.h"
#include "host/os/os.h"
#include "host/pool/pool_internal.h"

void fm_pool_worker_mail(struct fm_pool_worker *worker, struct fm_pool_batch *batch)
{
    bool wakes = !batch->brief; /* once it is in the mail it may be over, and used again */
    struct fm_pool_batch *first = atomic_load_explicit(&worker->mail, memory_order_relaxed);
    do {
        batch->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&worker->mail, &first, batch,
                                                    memory_order_release, memory_order_relaxed));
    if (wakes) {
        fm_parker_wake(&worker->parker);
    }
}

static void report(struct fm_pool_worker *worker, const struct fm_pool_batch *batch)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_BATCH_DONE};
    event.as.batch.accelerator = batch->accelerator->index;
    event.as.batch.batch = batch->number;
    bool put = fm_scheduler_report(worker->pool->scheduler, worker->index, &event);
    FM_ASSERT(put); /* there is room for all batches of all accelerators */
}

void fm_pool_worker_relieve(struct fm_pool_accelerator *accelerator, struct fm_pool *pool)
{
    uint64_t now_ns = fm_os_now_ns();
    atomic_store_explicit(&accelerator->idle_since_ns, now_ns, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&accelerator->handed_count, 1, memory_order_release) == 1 &&
        atomic_fetch_sub_explicit(&pool->busy_count, 1, memory_order_relaxed) ==
            pool->accelerator_count) {
        atomic_store_explicit(&pool->idle_since_ns, now_ns, memory_order_relaxed);
    }
}

/* Nothing of it is the scheduler's, nor its requests' any more. */
static void batch_discard(struct fm_pool_batch *batch)
{
    struct fm_pool_model *model = batch->model;
    /* All of them were given up. In this order: never more lost than in use. */
    atomic_fetch_sub_explicit(&model->lost, 1, memory_order_relaxed);
    uint64_t run = atomic_load_explicit(&batch->run, memory_order_relaxed) & ~FM_POOL_RUN_LOST;
    fm_pool_worker_relieve(batch->accelerator, batch->pool);
    atomic_store_explicit(&batch->run, run + run % 2, memory_order_relaxed);
    batch->lost = false;
    atomic_store_explicit(&batch->used, false, memory_order_release);
    atomic_fetch_sub_explicit(&model->in_use, 1, memory_order_release);
}

/* A run that had been given up is back, and so will be its accelerator. */
static void batch_lost(struct fm_pool_worker *worker, struct fm_pool_batch *batch)
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    fm_pool_watch_wait(worker->pool);
    fm_pool_brief_over(batch, fm_os_now_ns());
    atomic_store_explicit(&accelerator->busy, false, memory_order_relaxed);
    accelerator->running = NULL;
    accelerator->returns = true;
    worker->returning = true;
    batch_discard(batch);
    if (accelerator->behind != NULL) {
        batch_discard(accelerator->behind);
        accelerator->behind = NULL;
    }
}

/* What was lost is not in the mail any more: what comes now is new. */
static void accelerators_return(struct fm_pool_worker *worker)
{
    struct fm_pool *pool = worker->pool;
    worker->returning = false;
    for (uint32_t i = 0; i < pool->accelerator_count; i++) {
        struct fm_pool_accelerator *accelerator = &pool->accelerators[i];
        if (accelerator->worker == worker && accelerator->returns) {
            accelerator->returns = false;
            fm_pool_watch_up(pool, accelerator);
        }
    }
}

/* The batch is over: counts it, gives it back, and tells the scheduler. */
static void batch_over(struct fm_pool_worker *worker, struct fm_pool_batch *batch)
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    struct fm_pool_model *model = batch->model;
    uint64_t now_ns = fm_os_now_ns();
    atomic_fetch_add_explicit(&accelerator->busy_ns, now_ns - batch->start_ns,
                              memory_order_relaxed);
    fm_pool_brief_over(batch, now_ns);
    atomic_store_explicit(&accelerator->busy, false, memory_order_relaxed);
    /* Before the report: what is told may lead to the next batch for this accelerator. */
    fm_pool_worker_relieve(accelerator, worker->pool);
    report(worker, batch);
    accelerator->running = NULL;
    /* Before the flush: what is flushed may lead to the next batch for this accelerator. */
    atomic_store_explicit(&batch->used, false, memory_order_release);
    atomic_fetch_sub_explicit(&model->in_use, 1, memory_order_release);
}

static void batch_begin(struct fm_pool_batch *batch)
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    accelerator->running = batch;
    atomic_store_explicit(&accelerator->busy, true, memory_order_relaxed);
    if (batch->start_ns > batch->handed_ns) {
        fm_sleep_until(batch->start_ns); /* a policy that plans ahead */
    } else {
        batch->start_ns = batch->handed_ns;
    }
    batch->begun_ns = batch->start_ns;
}

bool fm_pool_worker_work(struct fm_pool_worker *worker, struct fm_pool_batch *batch)
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    bool ended = false;
    if (!batch->submitted) {
        struct fm_pool_batch *first = accelerator->running;
        if (first != NULL) {
            /* Two are there at most, and this one is the second. */
            FM_ASSERT(accelerator->behind == NULL);
            accelerator->behind = batch;
            return false;
        }
        if ((atomic_load_explicit(&batch->run, memory_order_acquire) & FM_POOL_RUN_LOST) != 0) {
            batch_discard(batch);
            return false;
        }
        batch_begin(batch);
    }
    while (fm_pool_batch_go_on(batch)) {
        if (batch->lost) {
            batch_lost(worker, batch);
            break;
        }
        batch_over(worker, batch);
        ended = true;
        if (accelerator->behind == NULL) {
            break;
        }
        /* Told before the next one, which may hang. */
        fm_scheduler_report_flush(worker->pool->scheduler, worker->index);
        batch = accelerator->behind;
        accelerator->behind = NULL;
        batch_begin(batch);
    }
    return ended;
}

struct fm_pool_batch *fm_pool_worker_order(struct fm_pool_batch *last)
{
    struct fm_pool_batch *first = NULL;
    while (last != NULL) {
        struct fm_pool_batch *before = last->next;
        last->next = first;
        first = last;
        last = before;
    }
    return first;
}

static struct fm_pool_batch *mail_take(struct fm_pool_worker *worker)
{
    return fm_pool_worker_order(
        atomic_exchange_explicit(&worker->mail, NULL, memory_order_acquire));
}

static void worker_run(void *argument)
{
    struct fm_pool_worker *worker = argument;
    fm_thread_timers_exact();
    fm_mutex_lock(&worker->hold);
    for (;;) {
        bool returning = worker->returning;
        struct fm_pool_batch *batch = mail_take(worker);
        if (batch == NULL && !returning) {
            if (atomic_load_explicit(&worker->stopping, memory_order_acquire)) {
                fm_mutex_unlock(&worker->hold);
                return;
            }
            fm_parker_prepare(&worker->parker);
            if (atomic_load_explicit(&worker->mail, memory_order_acquire) == NULL &&
                !atomic_load_explicit(&worker->stopping, memory_order_acquire)) {
                fm_mutex_unlock(&worker->hold);
                fm_parker_park(&worker->parker, FM_PARKER_FOREVER);
                fm_mutex_lock(&worker->hold);
            } else {
                fm_parker_stay(&worker->parker);
            }
        }
        bool ended = false;
        while (batch != NULL) {
            struct fm_pool_batch *next = batch->next;
            ended = fm_pool_worker_work(worker, batch) || ended;
            batch = next;
        }
        if (ended) {
            fm_scheduler_report_flush(worker->pool->scheduler, worker->index);
        }
        if (returning) {
            accelerators_return(worker);
        }
    }
}

int fm_pool_worker_start(struct fm_pool_worker *worker)
{
    fm_parker_init(&worker->parker);
    fm_mutex_init(&worker->hold);
    atomic_init(&worker->helper, FM_SCHED_NONE);
    return fm_thread_start(&worker->thread, "fm-accel", worker_run, worker);
}

void fm_pool_worker_stop(struct fm_pool_worker *worker)
{
    atomic_store_explicit(&worker->stopping, true, memory_order_release);
    fm_parker_wake(&worker->parker);
    fm_thread_join(&worker->thread);
    fm_mutex_deinit(&worker->hold);
}
