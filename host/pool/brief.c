/*
 * Batches that run on the thread that brings them: to wake an accelerator's thread, and to be woken
 * by it, takes longer than they do. See pool_internal.h; which ones, core/sched/brief.h says.
 *
 * HOW IT WORKS. A submitter flushes, and the scheduler says on its thread what starts. A brief
 * batch whose accelerator's thread sleeps goes into the mail like any other, but wakes nobody:
 * after the flush the submitter visits the worker, takes its place (`hold`) and does what its
 * thread would have done: runs what is in the mail, reports it, and what that starts. Where
 * somebody has the place, something in the mail is not brief, or the turn's time is over, it wakes
 * the thread after all. A place is had only while its mail is run, so a run that does not come back
 * holds up nobody but its own loop and accelerator; batches that wait for that loop's visit are
 * found by the watch (watch.c).
 */
#include "host/os/os.h"
#include "host/pool/pool_internal.h"

/* --- what is brief -----------------------------------------------------------------------------
 */

static struct fm_brief model_brief(const struct fm_pool_model *model, uint32_t type)
{
    return (struct fm_brief){
        .debt_ns = atomic_load_explicit(&model->brief_debt_ns[type], memory_order_relaxed),
        .paused_until_ns =
            atomic_load_explicit(&model->brief_paused_until_ns[type], memory_order_relaxed)};
}

/* One run, of not much. */
static bool is_small(const struct fm_pool_batch *batch)
{
    const struct fm_pool_slot *slots = batch->pool->slots;
    const struct fm_pool_request *first = slots[batch->slots[0]].request;
    const struct fm_pool_request *last = NULL;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < batch->slot_count; i++) {
        const struct fm_pool_request *request = slots[batch->slots[i]].request;
        if (request == last) {
            continue;
        }
        last = request;
        for (uint32_t input = 0; input < batch->model->input_count; input++) {
            bytes += request->inputs[input].tensor.size;
        }
        if (bytes > FM_BRIEF_BYTES ||
            !fm_pool_fit_together(batch->model, first->inputs, request->inputs)) {
            return false;
        }
    }
    return true;
}

static bool is_brief(const struct fm_pool_batch *batch)
{
    const struct fm_pool_model *model = batch->model;
    uint32_t type = batch->accelerator->type;
    struct fm_brief brief = model_brief(model, type);
    return batch->slot_count <= model->brief_rows[type] && batch->start_ns <= batch->handed_ns &&
           fm_brief_may(&brief, batch->handed_ns) && is_small(batch);
}

/* --- on the way --------------------------------------------------------------------------------
 */

/* The submitter whose thread this is, while it flushes or has a worker's place; NONE: somebody
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

bool fm_pool_brief_take(struct fm_pool *pool, struct fm_pool_batch *batch)
{
    struct fm_pool_worker *worker = batch->accelerator->worker;
    uint32_t index = flusher(pool);
    if (index == FM_SCHED_NONE || !fm_parker_sleeps(&worker->parker) || !is_brief(batch)) {
        return false;
    }
    struct fm_pool_submitter *submitter = &pool->submitters[index];
    if (submitter->visit_count == FM_BRIEF_TURN_BATCHES) {
        return false;
    }
    submitter->visits[submitter->visit_count++] = worker;
    return true;
}

/* --- the visit ---------------------------------------------------------------------------------
 */

/* What is in the mail, as it came, if all of it is brief and can begin. NULL: nothing, or not. */
static struct fm_pool_batch *mail_take(struct fm_pool_worker *worker)
{
    struct fm_pool_batch *last = atomic_load_explicit(&worker->mail, memory_order_acquire);
    for (struct fm_pool_batch *batch = last; batch != NULL; batch = batch->next) {
        if (!batch->brief || batch->accelerator->running != NULL) {
            return NULL;
        }
    }
    /* Only who has the place takes. Whoever has put something on top meanwhile: its thread shall.
     */
    if (last == NULL ||
        !atomic_compare_exchange_strong_explicit(&worker->mail, &last, NULL, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return NULL;
    }
    return fm_pool_worker_order(last);
}

/* Workers that say so at the same time may forget what one of them said. */
void fm_pool_brief_over(struct fm_pool_batch *batch, uint64_t now_ns)
{
    struct fm_pool_model *model = batch->model;
    uint32_t type = batch->accelerator->type;
    if (batch->visited_ns == 0) {
        return;
    }
    struct fm_brief brief = model_brief(model, type);
    fm_brief_ran(&brief, now_ns - batch->visited_ns, now_ns);
    atomic_store_explicit(&model->brief_debt_ns[type], brief.debt_ns, memory_order_relaxed);
    atomic_store_explicit(&model->brief_paused_until_ns[type], brief.paused_until_ns,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&batch->accelerator->brief_count, 1, memory_order_relaxed);
}

/* Whether another visit to the worker is to come. */
static bool is_expected(const struct fm_pool_submitter *submitter, uint32_t next,
                        const struct fm_pool_worker *worker)
{
    for (uint32_t i = next; i < submitter->visit_count; i++) {
        if (submitter->visits[i] == worker) {
            return true;
        }
    }
    return false;
}

static void visit(struct fm_pool *pool, uint32_t index, uint32_t number)
{
    struct fm_pool_submitter *submitter = &pool->submitters[index];
    struct fm_pool_worker *worker = submitter->visits[number];
    if (!fm_mutex_try_lock(&worker->hold)) {
        fm_parker_wake(&worker->parker);
        return;
    }
    atomic_store_explicit(&worker->helper, index, memory_order_relaxed);
    struct fm_pool_batch *batch = mail_take(worker);
    bool ended = false;
    while (batch != NULL) {
        struct fm_pool_batch *next = batch->next;
        batch->visited_ns = fm_os_now_ns();
        ended = fm_pool_worker_work(worker, batch) || ended;
        batch = next;
    }
    if (ended) {
        fm_scheduler_report_flush(pool->scheduler, worker->index);
    }
    bool returning = worker->returning;
    atomic_store_explicit(&worker->helper, FM_SCHED_NONE, memory_order_relaxed);
    fm_mutex_unlock(&worker->hold);
    if (returning || (atomic_load_explicit(&worker->mail, memory_order_acquire) != NULL &&
                      !is_expected(submitter, number + 1, worker))) {
        fm_parker_wake(&worker->parker);
    }
}

void fm_pool_brief_run(struct fm_pool *pool, uint32_t index)
{
    struct fm_pool_submitter *submitter = &pool->submitters[index];
    uint64_t start_ns = submitter->visit_count > 0 ? fm_os_now_ns() : 0;
    /* A visit may lead to others. */
    for (uint32_t i = 0; i < submitter->visit_count; i++) {
        if (fm_os_now_ns() - start_ns < FM_BRIEF_TURN_NS) {
            visit(pool, index, i);
        } else {
            fm_parker_wake(&submitter->visits[i]->parker);
        }
    }
    submitter->visit_count = 0;
}
