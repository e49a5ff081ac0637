/*
 * One scheduler, worked by whoever brings something. See whole.h.
 */
#include "host/sched/whole.h"

#include <stdatomic.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/ring.h"
#include "host/os/thread.h"

#define ACTIONS 1024u
/* So often a submitter or reporter looks for more, before it leaves the work to the thread. */
#define HELP_ROUNDS 4u
/* Ends of batches that are taken at once. */
#define REPORTS 64u

/* What the caller waits for: events, or a look. */
struct control {
    const struct fm_sched_event *events;
    uint32_t count;
    fm_scheduler_look_fn *look;
    void *context;
    int status;
    bool pending;
};

struct fm_whole {
    struct fm_scheduler_options options;
    struct fm_ring *inputs; /* of submitters, then of reporters */
    uint32_t input_count;
    _Atomic bool *put; /* by input: something was put since the last flush */

    /* How often work was asked for since somebody took it on; 0: nobody is at work. */
    _Atomic uint64_t asked;
    _Atomic bool handed; /* who had the work has left it to the thread */
    _Atomic bool stopping;
    /* The thread sleeps so long; FM_SCHED_NEVER: it has not looked. */
    _Atomic uint64_t asleep_until_ns;
    struct fm_parker parker;
    struct fm_thread thread;

    /* Whoever is at work has these. */
    struct fm_sched *sched;
    uint64_t wake_ns;
    uint64_t cause_ns; /* when that came about which the step is for; 0: not known */
    uint32_t actor;    /* by input; NONE: the thread, or a control's caller */
    struct fm_sched_action items[ACTIONS];
    uint32_t *requests;        /* of batches that start */
    uint32_t *ended;           /* of batches that end */
    uint32_t request_capacity; /* of each */
    struct fm_scheduler_stats stats;

    struct fm_mutex lock;
    struct fm_condition controlled;
    struct fm_mutex control_lock; /* one control at a time */
    struct control control;       /* under lock; its events are the caller's, who waits */
    _Atomic bool has_control;
};

/* --- the work ----------------------------------------------------------------------------------
 */

static void actions_hand_out(struct fm_whole *whole, const struct fm_sched_actions *actions)
{
    const struct fm_scheduler_options *options = &whole->options;
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct fm_sched_action *action = &actions->items[i];
        if (action->kind == FM_SCHED_ACTION_START) {
            whole->stats.batches++;
            whole->stats.started += action->request_count;
            if (whole->cause_ns != 0) {
                uint64_t now_ns = fm_os_now_ns();
                fm_log_histogram_add(&whole->stats.delay,
                                     now_ns > whole->cause_ns ? now_ns - whole->cause_ns : 0);
            }
        } else if (action->kind == FM_SCHED_ACTION_DROP) {
            whole->stats.dropped[action->reason]++;
        }
        options->on_action(options->context, 0, action, actions->requests + action->request_first);
    }
}

static void step_record(struct fm_whole *whole, uint64_t now_ns,
                        const struct fm_sched_event *events, uint32_t count, uint32_t taken,
                        int status, const struct fm_sched_actions *actions)
{
    if (whole->options.on_step == NULL) {
        return;
    }
    const struct fm_sched_record_step step = {.now_ns = now_ns,
                                              .events = events,
                                              .event_count = count,
                                              .taken = taken,
                                              .out_of_memory = status != 0,
                                              .actions = actions->items,
                                              .action_count = actions->count,
                                              .requests = actions->requests,
                                              .request_count = actions->request_count,
                                              .wake_ns = actions->wake_ns};
    whole->options.on_step(whole->options.context, &step);
}

/* Steps until the events are taken and nothing more is to be said. */
static int step(struct fm_whole *whole, const struct fm_sched_event *events, uint32_t count)
{
    for (;;) {
        struct fm_sched_actions actions = {
            .items = whole->items,
            .capacity = ACTIONS,
            .requests = whole->requests,
            .request_capacity = whole->request_capacity,
        };
        uint32_t taken;
        uint64_t now_ns = fm_os_now_ns();
        int status = fm_sched_step(whole->sched, now_ns, events, count, &actions, &taken);
        whole->stats.steps++;
        step_record(whole, now_ns, events, count, taken, status, &actions);
        actions_hand_out(whole, &actions);
        events += taken;
        count -= taken;
        whole->wake_ns = actions.wake_ns;
        if (status != 0 || (count == 0 && actions.wake_ns > now_ns)) {
            return status;
        }
    }
}

static void hop_add(struct fm_whole *whole, enum fm_scheduler_hop hop, uint64_t since_ns)
{
    if (since_ns != 0) {
        uint64_t now_ns = fm_os_now_ns();
        fm_log_histogram_add(&whole->stats.hops[hop], now_ns > since_ns ? now_ns - since_ns : 0);
    }
}

/* Ends of batches. Then their slots are the caller's again, unless a batch was lost before. Returns
 * how many were taken: as many as there is room to name the slots of. */
static uint32_t reports_step(struct fm_whole *whole, const struct fm_sched_event *events,
                             uint32_t count)
{
    struct fm_sched_action done[REPORTS];
    uint32_t done_count = 0;
    uint32_t named = 0;
    uint32_t taken = 0;
    while (taken < count && taken < REPORTS) {
        const struct fm_sched_event *event = &events[taken];
        uint32_t room = whole->request_capacity - named;
        uint32_t requests =
            event->kind != FM_SCHED_EVENT_BATCH_DONE
                ? 0
                : fm_sched_batch_requests(whole->sched, event->as.batch.accelerator,
                                          event->as.batch.batch, whole->ended + named, room);
        if (requests > room) {
            break;
        }
        if (requests > 0) {
            done[done_count++] =
                (struct fm_sched_action){.kind = FM_SCHED_ACTION_DONE,
                                         .model = FM_SCHED_NONE,
                                         .accelerator = event->as.batch.accelerator,
                                         .batch = event->as.batch.batch,
                                         .request_first = named,
                                         .request_count = requests};
        }
        named += requests;
        taken++;
    }
    int status = step(whole, events, taken);
    FM_ASSERT(status == 0); /* only MODEL_SET can fail */
    for (uint32_t i = 0; i < done_count; i++) {
        whole->options.on_action(whole->options.context, 0, &done[i],
                                 whole->ended + done[i].request_first);
    }
    return taken;
}

static bool input_take(struct fm_whole *whole, uint32_t index)
{
    struct fm_ring *ring = &whole->inputs[index];
    uint32_t count;
    const struct fm_sched_event *events = fm_ring_peek(ring, &count);
    if (events == NULL) {
        return false;
    }
    bool reports = index >= whole->options.submitter_count;
    uint64_t since_ns = fm_ring_stamp_take(ring);
    count = count < FM_SCHEDULER_STEP ? count : FM_SCHEDULER_STEP;
    whole->cause_ns = since_ns;
    if (reports) {
        count = reports_step(whole, events, count);
    } else {
        int status = step(whole, events, count);
        FM_ASSERT(status == 0);
        whole->stats.requests += count;
    }
    whole->cause_ns = 0;
    fm_ring_take(ring, count);
    if (since_ns != 0 && !fm_ring_empty(ring)) {
        fm_ring_stamp(ring, since_ns);
    }
    hop_add(whole, reports ? FM_SCHEDULER_HOP_REPORT : FM_SCHEDULER_HOP_SUBMIT, since_ns);
    return true;
}

static void control_take(struct fm_whole *whole)
{
    if (!atomic_load_explicit(&whole->has_control, memory_order_acquire)) {
        return;
    }
    atomic_store_explicit(&whole->has_control, false, memory_order_relaxed);
    /* The caller waits and holds it still: no lock is needed to read it. */
    const struct control *control = &whole->control;
    int status = 0;
    if (control->look != NULL) {
        control->look(control->context, whole->sched, &whole->stats);
    } else {
        struct fm_sched_stats before;
        struct fm_sched_stats after;
        fm_sched_stats_get(whole->sched, &before);
        status = step(whole, control->events, control->count);
        fm_sched_stats_get(whole->sched, &after);
        status = status == 0 && after.refused != before.refused ? FM_EINVAL : status;
    }
    fm_mutex_lock(&whole->lock);
    whole->control.status = status;
    whole->control.pending = false;
    fm_condition_broadcast(&whole->controlled);
    fm_mutex_unlock(&whole->lock);
}

/* Takes what is there and is due. */
static void look_once(struct fm_whole *whole)
{
    control_take(whole);
    /* Ends first: what they free is there for the requests behind them. */
    for (uint32_t i = whole->input_count; i > 0; i--) {
        while (input_take(whole, i - 1)) {
        }
    }
    uint64_t now_ns = fm_os_now_ns();
    if (whole->wake_ns <= now_ns) {
        uint64_t due_ns = whole->wake_ns;
        whole->cause_ns = due_ns;
        int status = step(whole, NULL, 0);
        FM_ASSERT(status == 0);
        whole->cause_ns = 0;
        hop_add(whole, FM_SCHEDULER_HOP_TIMER, due_ns);
    }
}

/* Who calls has the work. */
static void work(struct fm_whole *whole, uint32_t actor)
{
    whole->actor = actor;
    for (uint32_t round = 0; round < HELP_ROUNDS; round++) {
        uint64_t seen = atomic_load_explicit(&whole->asked, memory_order_acquire);
        look_once(whole);
        uint64_t wake_ns = whole->wake_ns;
        if (atomic_compare_exchange_strong_explicit(&whole->asked, &seen, 0, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            if (wake_ns < atomic_load_explicit(&whole->asleep_until_ns, memory_order_acquire)) {
                fm_parker_wake(&whole->parker);
            }
            return;
        }
    }
    atomic_store_explicit(&whole->handed, true, memory_order_release);
    fm_parker_wake(&whole->parker);
}

static void work_ask(struct fm_whole *whole, uint32_t actor)
{
    if (atomic_fetch_add_explicit(&whole->asked, 1, memory_order_acq_rel) == 0) {
        work(whole, actor);
    }
}

static void thread_run(void *argument)
{
    struct fm_whole *whole = argument;
    fm_thread_timers_exact();
    while (!atomic_load_explicit(&whole->stopping, memory_order_acquire)) {
        uint64_t until_ns = FM_SCHED_NEVER;
        fm_parker_prepare(&whole->parker);
        /* Before the work is asked for: whoever has it then looks again, and sees this. */
        atomic_store_explicit(&whole->asleep_until_ns, FM_SCHED_NEVER, memory_order_release);
        if (atomic_exchange_explicit(&whole->handed, false, memory_order_acq_rel) ||
            atomic_fetch_add_explicit(&whole->asked, 1, memory_order_acq_rel) == 0) {
            uint64_t seen;
            whole->actor = FM_SCHED_NONE;
            do {
                seen = atomic_load_explicit(&whole->asked, memory_order_acquire);
                look_once(whole);
                until_ns = whole->wake_ns;
                atomic_store_explicit(&whole->asleep_until_ns, until_ns, memory_order_release);
            } while (!atomic_compare_exchange_strong_explicit(
                &whole->asked, &seen, 0, memory_order_acq_rel, memory_order_acquire));
        }
        if (!atomic_load_explicit(&whole->stopping, memory_order_acquire)) {
            fm_parker_park(&whole->parker,
                           until_ns == FM_SCHED_NEVER ? FM_PARKER_FOREVER : until_ns);
        }
    }
}

/* --- from other threads ------------------------------------------------------------------------
 */

static bool input_put(struct fm_whole *whole, uint32_t index, const struct fm_sched_event *event)
{
    if (!fm_ring_put(&whole->inputs[index], event, sizeof *event)) {
        return false;
    }
    atomic_store_explicit(&whole->put[index], true, memory_order_release);
    return true;
}

static void input_flush(struct fm_whole *whole, uint32_t index)
{
    if (atomic_load_explicit(&whole->put[index], memory_order_relaxed) &&
        atomic_exchange_explicit(&whole->put[index], false, memory_order_acquire)) {
        fm_ring_stamp(&whole->inputs[index], fm_os_now_ns());
        work_ask(whole, index);
    }
}

bool fm_whole_submit(struct fm_whole *whole, uint32_t submitter, const struct fm_sched_event *event)
{
    return input_put(whole, submitter, event);
}

void fm_whole_submit_flush(struct fm_whole *whole, uint32_t submitter)
{
    input_flush(whole, submitter);
}

bool fm_whole_report(struct fm_whole *whole, uint32_t reporter, const struct fm_sched_event *event)
{
    return input_put(whole, whole->options.submitter_count + reporter, event);
}

void fm_whole_report_flush(struct fm_whole *whole, uint32_t reporter)
{
    input_flush(whole, whole->options.submitter_count + reporter);
}

static int control_send(struct fm_whole *whole, const struct control *control)
{
    fm_mutex_lock(&whole->control_lock);
    fm_mutex_lock(&whole->lock);
    whole->control = *control;
    whole->control.pending = true;
    fm_mutex_unlock(&whole->lock);
    atomic_store_explicit(&whole->has_control, true, memory_order_release);
    work_ask(whole, FM_SCHED_NONE);
    fm_mutex_lock(&whole->lock);
    while (whole->control.pending) {
        fm_condition_wait(&whole->controlled, &whole->lock);
    }
    int status = whole->control.status;
    fm_mutex_unlock(&whole->lock);
    fm_mutex_unlock(&whole->control_lock);
    return status;
}

int fm_whole_controls(struct fm_whole *whole, const struct fm_sched_event *events, uint32_t count)
{
    return control_send(whole, &(struct control){.events = events, .count = count});
}

uint32_t fm_whole_actor(const struct fm_whole *whole)
{
    return whole->actor;
}

void fm_whole_look(struct fm_whole *whole, fm_scheduler_look_fn *look, void *context)
{
    int status = control_send(whole, &(struct control){.look = look, .context = context});
    FM_ASSERT(status == 0);
}

static void stats_copy(void *context, const struct fm_sched *sched,
                       const struct fm_scheduler_stats *stats)
{
    struct fm_scheduler_stats *ret_stats = context;
    *ret_stats = *stats;
    fm_sched_stats_get(sched, &ret_stats->matcher);
    ret_stats->refused = ret_stats->matcher.refused;
}

void fm_whole_stats_get(struct fm_whole *whole, struct fm_scheduler_stats *ret_stats)
{
    fm_whole_look(whole, stats_copy, ret_stats);
}

/* Batches whose requests one call can name. */
static uint32_t request_capacity(const struct fm_scheduler_options *options)
{
    return options->sched.batch_max * 8;
}

void fm_whole_record_header(const struct fm_scheduler_options *options,
                            struct fm_sched_record_header *ret_header)
{
    *ret_header = (struct fm_sched_record_header){.options = options->sched,
                                                  .events_max = FM_SCHED_RECORD_EVENTS_MAX,
                                                  .action_capacity = ACTIONS,
                                                  .request_capacity = request_capacity(options),
                                                  .has_actions = true};
}

/* --- creation ----------------------------------------------------------------------------------
 */

static int memory_take(struct fm_whole *whole, struct fm_error *reterr)
{
    const struct fm_scheduler_options *options = &whole->options;
    whole->input_count = options->submitter_count + options->reporter_count;
    whole->request_capacity = request_capacity(options);
    whole->requests = fm_alloc((size_t)whole->request_capacity * sizeof *whole->requests);
    whole->ended = fm_alloc((size_t)whole->request_capacity * sizeof *whole->ended);
    whole->inputs = fm_alloc_zero(whole->input_count, sizeof *whole->inputs);
    whole->put = fm_alloc_zero(whole->input_count, sizeof *whole->put);
    if (whole->requests == NULL || whole->ended == NULL || whole->inputs == NULL ||
        whole->put == NULL) {
        whole->input_count = whole->inputs == NULL ? 0 : whole->input_count;
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler");
    }
    uint32_t submits =
        options->submit_capacity > 0 ? options->submit_capacity : FM_SCHEDULER_SUBMIT_DEFAULT;
    for (uint32_t i = 0; i < whole->input_count; i++) {
        /* Reports: two for each accelerator, since one may wait behind the one that runs. */
        uint32_t capacity =
            i < options->submitter_count ? submits : options->sched.accelerators_max * 2;
        int status = fm_ring_init(&whole->inputs[i], capacity, sizeof(struct fm_sched_event));
        if (status != 0) {
            return fm_error_set(reterr, status, "no memory for the scheduler's rings");
        }
    }
    return 0;
}

int fm_whole_create(const struct fm_scheduler_options *options, struct fm_whole **ret_whole,
                    struct fm_error *reterr)
{
    struct fm_whole *whole = fm_alloc_zero(1, sizeof *whole);
    if (whole == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler");
    }
    whole->options = *options;
    whole->wake_ns = FM_SCHED_NEVER;
    atomic_init(&whole->asleep_until_ns, FM_SCHED_NEVER);
    fm_parker_init(&whole->parker);
    fm_mutex_init(&whole->lock);
    fm_mutex_init(&whole->control_lock);
    fm_condition_init(&whole->controlled);
    int status = fm_sched_create(&options->sched, &whole->sched, reterr);
    status = status != 0 ? status : memory_take(whole, reterr);
    if (status == 0) {
        status = fm_thread_start(&whole->thread, "fm-sched", thread_run, whole);
        if (status != 0) {
            (void)fm_error_set(reterr, status, "the scheduler's thread did not start");
        }
    }
    if (status != 0) {
        fm_whole_destroy(whole);
        return status;
    }
    *ret_whole = whole;
    return 0;
}

void fm_whole_destroy(struct fm_whole *whole)
{
    if (whole == NULL) {
        return;
    }
    atomic_store_explicit(&whole->stopping, true, memory_order_release);
    fm_parker_wake(&whole->parker);
    fm_thread_join(&whole->thread);
    for (uint32_t i = 0; whole->inputs != NULL && i < whole->input_count; i++) {
        fm_ring_deinit(&whole->inputs[i]);
    }
    fm_condition_deinit(&whole->controlled);
    fm_mutex_deinit(&whole->control_lock);
    fm_mutex_deinit(&whole->lock);
    fm_free(whole->inputs);
    fm_free(whole->put);
    fm_free(whole->requests);
    fm_free(whole->ended);
    fm_sched_destroy(whole->sched);
    fm_free(whole);
}
