/*
 * Batches that run on the thread that brings them: to wake an accelerator's thread, and to be woken
 * by it, takes longer than they do. See pool_internal.h; which ones, core/sched/brief.h says.
 *
 * HOW IT WORKS. A submitter flushes, and the scheduler says on its thread what starts. Of a brief
 * batch whose accelerator's thread sleeps it takes the thread's place (`hold`), and does after the
 * flush what that would have done: runs the batch, reports it, and runs what may start then. Who
 * comes in between finds the place taken and leaves its batch in the mail, which wakes the thread,
 * as ever.
 */
#include "core/util/assert.h"
#include "host/os/os.h"
#include "host/pool/pool_internal.h"

/* The submitter whose thread this is, while it flushes or takes a worker's place; NONE: somebody
 * else's. */
static uint32_t flusher(const struct fm_pool *pool)
{
    uint32_t actor = fm_scheduler_actor(pool->scheduler);
    if (actor != FM_SCHED_NONE && actor >= pool->submitter_count) {
        actor = atomic_load_explicit(&pool->workers[actor - pool->submitter_count].helper,
                                     memory_order_relaxed);
    }
    /* The shared submitter's thread has other things to do. */
    return actor < pool->submitter_count - 1 ? actor : FM_SCHED_NONE;
}

static bool is_small(const struct fm_pool_batch *batch)
{
    uint64_t bytes = 0;
    const struct fm_pool_request *last = NULL;
    for (uint32_t i = 0; i < batch->slot_count && bytes <= FM_BRIEF_BYTES; i++) {
        const struct fm_pool_request *request = batch->pool->slots[batch->slots[i]].request;
        for (uint32_t input = 0; request != last && input < batch->model->input_count; input++) {
            bytes += request->inputs[input].tensor.size;
        }
        last = request;
    }
    return bytes <= FM_BRIEF_BYTES;
}

static bool is_brief(const struct fm_pool_batch *batch)
{
    uint32_t rows = atomic_load_explicit(&batch->model->brief_rows[batch->accelerator->type],
                                         memory_order_relaxed);
    return batch->slot_count <= rows && batch->start_ns <= batch->handed_ns && is_small(batch);
}

/* The worker's place, if it is free and nothing waits there that has to go first. */
static bool place_take(struct fm_pool_submitter *submitter, uint32_t index,
                       struct fm_pool_worker *worker)
{
    bool had = atomic_load_explicit(&worker->helper, memory_order_relaxed) == index;
    if (!had && (!fm_parker_sleeps(&worker->parker) || !fm_mutex_try_lock(&worker->hold))) {
        return false;
    }
    if (!had) {
        atomic_store_explicit(&worker->helper, index, memory_order_relaxed);
        worker->held_next = submitter->held;
        submitter->held = worker;
    }
    return atomic_load_explicit(&worker->mail, memory_order_acquire) == NULL;
}

static void places_leave(struct fm_pool_submitter *submitter)
{
    while (submitter->held != NULL) {
        struct fm_pool_worker *worker = submitter->held;
        submitter->held = worker->held_next;
        bool returning = worker->returning;
        atomic_store_explicit(&worker->helper, FM_SCHED_NONE, memory_order_relaxed);
        fm_mutex_unlock(&worker->hold);
        if (returning) {
            fm_parker_wake(&worker->parker);
        }
    }
}

bool fm_pool_brief_take(struct fm_pool *pool, struct fm_pool_batch *batch)
{
    uint32_t index = flusher(pool);
    if (index == FM_SCHED_NONE || !is_brief(batch)) {
        return false;
    }
    struct fm_pool_submitter *submitter = &pool->submitters[index];
    if (submitter->brief_until_ns == 0) {
        submitter->brief_until_ns = batch->handed_ns + FM_BRIEF_TURN_NS;
    }
    if (batch->handed_ns > submitter->brief_until_ns ||
        !place_take(submitter, index, batch->accelerator->worker) ||
        !fm_brief_may(&batch->accelerator->brief, batch->handed_ns)) {
        return false;
    }
    batch->next = NULL;
    if (submitter->brief_first == NULL) {
        submitter->brief_first = batch;
    } else {
        submitter->brief_last->next = batch;
    }
    submitter->brief_last = batch;
    return true;
}

void fm_pool_brief_run(struct fm_pool *pool, uint32_t index)
{
    struct fm_pool_submitter *submitter = &pool->submitters[index];
    uint64_t since_ns = 0;
    while (submitter->brief_first != NULL) {
        struct fm_pool_batch *batch = submitter->brief_first;
        struct fm_pool_accelerator *accelerator = batch->accelerator;
        submitter->brief_first = batch->next;
        /* Before the answers: who has one finds it counted. */
        atomic_fetch_add_explicit(&accelerator->brief_count, 1, memory_order_relaxed);
        since_ns = batch->handed_ns > since_ns ? batch->handed_ns : since_ns;
        bool ended = fm_pool_worker_work(accelerator->worker, batch);
        uint64_t now_ns = fm_os_now_ns();
        fm_brief_ran(&accelerator->brief, now_ns - since_ns, now_ns);
        since_ns = now_ns;
        if (ended) {
            fm_scheduler_report_flush(pool->scheduler, accelerator->worker->index);
        }
    }
    submitter->brief_until_ns = 0;
    places_leave(submitter);
}
