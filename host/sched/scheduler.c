/*
 * Matcher and shards on threads, and the way to whole.c where there are none. See scheduler.h.
 */
#include "host/sched/scheduler.h"

#include <stdatomic.h>
#include <stdio.h>

#include "core/sched/parts.h"
#include "core/sched/request_queue.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/ring.h"
#include "host/os/thread.h"
#include "host/sched/whole.h"

#define ACTIONS  1024u
#define MESSAGES 256u
/* So often a shard looks for more of the matcher's work, before it leaves it to the matcher. */
#define HELP_ROUNDS 4u

/* Events that all parts, or some, have to take; the caller waits. */
struct control {
    const struct fm_sched_event *events;
    uint32_t count;
    int status;
    bool pending;
};

/* A message on its way. */
struct parcel {
    struct fm_sched_message message;
    uint64_t since_ns; /* when that came about which it follows from; 0: not known, or long ago */
};

/*
 * A part and its thread. Whoever has the matcher's `hold` does the matcher's work: its own thread,
 * or a shard's that finds it asleep. What is not of the work is atomic, or under the scheduler's
 * lock.
 */
struct part {
    struct fm_scheduler *scheduler;
    struct fm_mutex hold;     /* matcher */
    uint64_t asleep_until_ns; /* matcher */
    bool told;                /* shard: the matcher has to be told of messages */
    struct fm_sched *sched;
    uint32_t index; /* of the shard; the matcher: shard_count */
    struct fm_thread thread;
    struct fm_parker parker;
    struct fm_ring *inputs; /* shard: of submitters; matcher: of reporters */
    uint32_t input_count;
    struct fm_ring from_matcher; /* shard */
    struct fm_ring to_matcher;   /* shard */
    uint64_t wake_ns;
    uint64_t exchange_ns;
    bool loaded; /* something is asked for: exchanges go on */

    /* Of the step. */
    struct fm_sched_event events[MESSAGES];
    struct fm_sched_action items[ACTIONS];
    struct fm_sched_message messages[MESSAGES];
    uint32_t *requests;
    uint32_t request_capacity;
    uint64_t cause_ns;  /* shard: of what its offers are about */
    uint64_t *since_ns; /* by model: of the offer, or the grant, that is being looked at */

    /* Under the scheduler's lock. */
    struct control control;
    _Atomic bool controlled; /* there is a control to look at */
    _Atomic bool stopping;
    struct fm_sched_load load;
    struct fm_scheduler_stats published;

    struct fm_scheduler_stats stats; /* the thread's own */
};

struct fm_scheduler {
    struct fm_scheduler_options options;
    struct fm_whole *whole; /* without shards; nothing below is then used */
    struct fm_request_table table;
    struct part *parts; /* shards, then the matcher */
    uint32_t part_count;
    bool *touched; /* [submitter * shard_count + shard]: put into since the last flush */

    struct fm_mutex lock;
    struct fm_condition controlled;
    struct fm_mutex control_lock; /* one control at a time */
    struct fm_sched_pool pool;
};

static struct part *matcher_of(struct fm_scheduler *scheduler)
{
    return &scheduler->parts[scheduler->part_count - 1];
}

static bool is_matcher(const struct part *part)
{
    return part->index == part->scheduler->part_count - 1;
}

static struct part *shard_of(struct fm_scheduler *scheduler, uint32_t model)
{
    return &scheduler->parts[model % scheduler->options.shard_count];
}

const char *fm_scheduler_hop_name(enum fm_scheduler_hop hop)
{
    static const char *const names[] = {"submit", "report", "offer", "grant", "timer"};
    _Static_assert(FM_COUNT_OF(names) == FM_SCHEDULER_HOP_COUNT_, "one name each");
    return names[hop];
}

/* --- a thread's work ---------------------------------------------------------------------------
 */

/* Sends what a step has left. The matcher's rings have room for all there can be; a shard's has as
 * much as the step was given. */
static void messages_send(struct part *part, const struct fm_sched_actions *actions)
{
    struct fm_scheduler *scheduler = part->scheduler;
    if (actions->message_count == 0) {
        return;
    }
    uint64_t now_ns = fm_os_now_ns();
    part->stats.messages += actions->message_count;
    if (!is_matcher(part)) {
        for (uint32_t i = 0; i < actions->message_count; i++) {
            const struct fm_sched_message *message = &actions->messages[i];
            struct parcel parcel = {
                .message = *message,
                .since_ns = message->kind == FM_SCHED_MESSAGE_OFFER ? part->cause_ns : 0,
            };
            bool put = fm_ring_put(&part->to_matcher, &parcel, sizeof parcel);
            FM_ASSERT(put);
            bool declines =
                message->kind == FM_SCHED_MESSAGE_ANSWER && message->as.answer.count == 0;
            part->stats.declined += declines ? 1 : 0;
        }
        fm_ring_stamp(&part->to_matcher, now_ns);
        part->told = true;
        return;
    }
    for (uint32_t i = 0; i < actions->message_count; i++) {
        uint32_t model = actions->messages[i].model;
        struct part *shard = shard_of(scheduler, model);
        struct parcel parcel = {
            .message = actions->messages[i],
            .since_ns =
                actions->messages[i].kind == FM_SCHED_MESSAGE_GRANT ? part->since_ns[model] : 0,
        };
        bool put = fm_ring_put(&shard->from_matcher, &parcel, sizeof parcel);
        FM_ASSERT(put);
        fm_ring_stamp(&shard->from_matcher, now_ns);
        bool last = i + 1 == actions->message_count ||
                    shard_of(scheduler, actions->messages[i + 1].model) != shard;
        if (last) {
            fm_parker_wake(&shard->parker);
        }
    }
}

/* Of a batch whose accelerator was there when it was offered. */
static void delay_add(struct part *part, uint32_t model)
{
    uint64_t since_ns = part->since_ns[model];
    if (since_ns != 0) {
        uint64_t now_ns = fm_os_now_ns();
        fm_log_histogram_add(&part->stats.delay, now_ns > since_ns ? now_ns - since_ns : 0);
        part->since_ns[model] = 0;
    }
}

static void actions_hand_out(struct part *part, const struct fm_sched_actions *actions)
{
    const struct fm_scheduler_options *options = &part->scheduler->options;
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct fm_sched_action *action = &actions->items[i];
        if (action->kind == FM_SCHED_ACTION_START) {
            part->stats.batches++;
            part->stats.started += action->request_count;
            delay_add(part, action->model);
        } else if (action->kind == FM_SCHED_ACTION_DROP) {
            part->stats.dropped[action->reason]++;
        }
        options->on_action(options->context, part->index, action,
                           actions->requests + action->request_first);
    }
}

/* A shard waits for room towards the matcher: its ring is long enough for this to be rare. */
static uint32_t message_room(struct part *part)
{
    if (is_matcher(part)) {
        return MESSAGES;
    }
    uint64_t room = fm_ring_room(&part->to_matcher);
    while (room == 0) {
        fm_parker_wake(&matcher_of(part->scheduler)->parker);
        fm_sleep_until(fm_os_now_ns() + 20000);
        room = fm_ring_room(&part->to_matcher);
    }
    return room < MESSAGES ? (uint32_t)room : MESSAGES;
}

/* Steps until the events are taken and nothing more is to be said. Returns the step's status. */
static int part_step(struct part *part, const struct fm_sched_event *events, uint32_t count)
{
    for (;;) {
        struct fm_sched_actions actions = {
            .items = part->items,
            .capacity = ACTIONS,
            .requests = part->requests,
            .request_capacity = part->request_capacity,
            .messages = part->messages,
            .message_capacity = message_room(part),
        };
        uint32_t taken;
        uint64_t now_ns = fm_os_now_ns();
        int status = fm_sched_step(part->sched, now_ns, events, count, &actions, &taken);
        part->stats.steps++;
        /* In this order: who hears of a batch that stands behind another has heard of that. */
        actions_hand_out(part, &actions);
        messages_send(part, &actions);
        events += taken;
        count -= taken;
        part->wake_ns = actions.wake_ns;
        if (status != 0 || (count == 0 && actions.wake_ns > now_ns)) {
            return status;
        }
    }
}

static void hop_add(struct part *part, enum fm_scheduler_hop hop, uint64_t since_ns)
{
    if (since_ns != 0) {
        uint64_t now_ns = fm_os_now_ns();
        fm_log_histogram_add(&part->stats.hops[hop], now_ns > since_ns ? now_ns - since_ns : 0);
    }
}

/* What is still there waits since then, too. */
static void stamp_back(struct fm_ring *ring, uint64_t since_ns)
{
    if (since_ns != 0 && !fm_ring_empty(ring)) {
        fm_ring_stamp(ring, since_ns);
    }
}

/* Events that lie in a ring as they are. */
static bool events_take(struct part *part, struct fm_ring *ring, enum fm_scheduler_hop hop)
{
    uint32_t count;
    const struct fm_sched_event *events = fm_ring_peek(ring, &count);
    if (events == NULL) {
        return false;
    }
    uint64_t since_ns = fm_ring_stamp_take(ring);
    count = count < FM_SCHEDULER_STEP ? count : FM_SCHEDULER_STEP;
    part->cause_ns = since_ns;
    int status = part_step(part, events, count);
    FM_ASSERT(status == 0); /* only MODEL_SET can fail */
    part->cause_ns = 0;
    fm_ring_take(ring, count);
    stamp_back(ring, since_ns);
    hop_add(part, hop, since_ns);
    part->stats.requests += hop == FM_SCHEDULER_HOP_SUBMIT ? count : 0;
    return true;
}

static bool messages_take(struct part *part, struct fm_ring *ring, enum fm_scheduler_hop hop)
{
    uint32_t count;
    const struct parcel *parcels = fm_ring_peek(ring, &count);
    if (parcels == NULL) {
        return false;
    }
    uint64_t since_ns = fm_ring_stamp_take(ring);
    count = count < MESSAGES ? count : MESSAGES;
    for (uint32_t i = 0; i < count; i++) {
        part->events[i] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MESSAGE,
                                                  .as.message = &parcels[i].message};
        if (parcels[i].since_ns != 0) {
            part->since_ns[parcels[i].message.model] = parcels[i].since_ns;
        }
    }
    int status = part_step(part, part->events, count);
    FM_ASSERT(status == 0);
    for (uint32_t i = 0; i < count; i++) {
        part->since_ns[parcels[i].message.model] = 0; /* what is not granted by now has to wait */
    }
    fm_ring_take(ring, count);
    stamp_back(ring, since_ns);
    hop_add(part, hop, since_ns);
    return true;
}

static bool control_take(struct part *part)
{
    if (!atomic_load_explicit(&part->controlled, memory_order_acquire)) {
        return false;
    }
    atomic_store_explicit(&part->controlled, false, memory_order_relaxed);
    struct fm_scheduler *scheduler = part->scheduler;
    /* The caller waits and holds the events still: no lock is needed to read them. */
    struct fm_sched_stats before;
    struct fm_sched_stats after;
    fm_sched_stats_get(part->sched, &before);
    int status = part_step(part, part->control.events, part->control.count);
    fm_sched_stats_get(part->sched, &after);
    fm_mutex_lock(&scheduler->lock);
    part->control.status = status == 0 && after.refused != before.refused ? FM_EINVAL : status;
    part->control.pending = false;
    fm_condition_broadcast(&scheduler->controlled);
    fm_mutex_unlock(&scheduler->lock);
    return true;
}

/* What others may know of this part, and what it may know of them. */
static void exchange(struct part *part, uint64_t now_ns)
{
    struct fm_scheduler *scheduler = part->scheduler;
    part->exchange_ns = now_ns + FM_SCHED_EXCHANGE_NS;
    if (part->loaded) {
        int status = part_step(part, NULL, 0); /* demand that has gone is noticed in steps */
        FM_ASSERT(status == 0);
    }
    part->stats.cpu_ns = fm_os_thread_cpu_ns();
    fm_mutex_lock(&scheduler->lock);
    if (is_matcher(part)) {
        for (uint32_t i = 0; i < scheduler->options.shard_count; i++) {
            fm_sched_matcher_load_set(part->sched, i, &scheduler->parts[i].load);
        }
        fm_sched_matcher_pool_get(part->sched, &scheduler->pool);
    } else {
        fm_sched_shard_load_get(part->sched, &part->load);
        fm_sched_shard_pool_set(part->sched, &scheduler->pool);
    }
    fm_sched_stats_get(part->sched, &part->stats.matcher);
    part->published = part->stats;
    fm_mutex_unlock(&scheduler->lock);
    part->loaded = part->stats.matcher.busy_milli > 0 || part->stats.matcher.queued > 0;
}

static bool inputs_take(struct part *part)
{
    bool any = control_take(part);
    if (is_matcher(part)) {
        struct fm_scheduler *scheduler = part->scheduler;
        for (uint32_t i = 0; i < part->input_count; i++) {
            any = events_take(part, &part->inputs[i], FM_SCHEDULER_HOP_REPORT) || any;
        }
        for (uint32_t i = 0; i < scheduler->options.shard_count; i++) {
            any =
                messages_take(part, &scheduler->parts[i].to_matcher, FM_SCHEDULER_HOP_OFFER) || any;
        }
        return any;
    }
    any = messages_take(part, &part->from_matcher, FM_SCHEDULER_HOP_GRANT) || any;
    for (uint32_t i = 0; i < part->input_count; i++) {
        any = events_take(part, &part->inputs[i], FM_SCHEDULER_HOP_SUBMIT) || any;
    }
    return any;
}

static bool inputs_empty(struct part *part)
{
    bool empty = !atomic_load_explicit(&part->controlled, memory_order_acquire) &&
                 !atomic_load_explicit(&part->stopping, memory_order_acquire);
    for (uint32_t i = 0; empty && i < part->input_count; i++) {
        empty = fm_ring_empty(&part->inputs[i]);
    }
    if (is_matcher(part)) {
        for (uint32_t i = 0; empty && i < part->scheduler->options.shard_count; i++) {
            empty = fm_ring_empty(&part->scheduler->parts[i].to_matcher);
        }
        return empty;
    }
    return empty && fm_ring_empty(&part->from_matcher);
}

/* Takes what is there and is due. False: there was nothing. */
static bool part_work(struct part *part)
{
    bool any = inputs_take(part);
    part->loaded = part->loaded || any; /* the exchange tells what it led to */
    if (part->wake_ns > fm_os_now_ns()) {
        return any;
    }
    uint64_t due_ns = part->wake_ns;
    part->cause_ns = due_ns;
    int status = part_step(part, NULL, 0);
    FM_ASSERT(status == 0);
    part->cause_ns = 0;
    hop_add(part, FM_SCHEDULER_HOP_TIMER, due_ns);
    return true;
}

/* When it wants to be awake, whatever comes. */
static uint64_t part_until_ns(const struct part *part)
{
    return part->loaded && part->exchange_ns < part->wake_ns ? part->exchange_ns : part->wake_ns;
}

/*
 * A shard has put something for the matcher. To wake a thread takes longer than what it would do:
 * while the matcher sleeps the shard does its work.
 */
static void matcher_tell(struct part *shard)
{
    struct part *matcher = matcher_of(shard->scheduler);
    if (!fm_parker_sleeps(&matcher->parker) || !fm_mutex_try_lock(&matcher->hold)) {
        fm_parker_wake(&matcher->parker);
        return;
    }
    /* Until its own thread is awake, who can do it as well. */
    for (uint32_t i = 0;
         i < HELP_ROUNDS && fm_parker_sleeps(&matcher->parker) && part_work(matcher); i++) {
    }
    bool left = !inputs_empty(matcher) || part_until_ns(matcher) < matcher->asleep_until_ns;
    fm_mutex_unlock(&matcher->hold);
    if (left) {
        fm_parker_wake(&matcher->parker);
    }
}

static void part_hold(struct part *part)
{
    if (is_matcher(part)) {
        fm_mutex_lock(&part->hold);
    }
}

static void part_let_go(struct part *part)
{
    if (is_matcher(part)) {
        fm_mutex_unlock(&part->hold);
    }
}

static void part_run(void *argument)
{
    struct part *part = argument;
    fm_thread_timers_exact();
    while (!atomic_load_explicit(&part->stopping, memory_order_acquire)) {
        part_hold(part);
        uint64_t now_ns = fm_os_now_ns();
        if (now_ns >= part->exchange_ns) {
            exchange(part, now_ns);
        }
        bool sleeps = false;
        uint64_t until_ns = 0;
        bool any = part_work(part);
        if (part->told) {
            part->told = false;
            matcher_tell(part);
        } else if (!any) {
            fm_parker_prepare(&part->parker);
            sleeps = inputs_empty(part);
            until_ns = part_until_ns(part);
            part->asleep_until_ns = until_ns;
            part->stats.parks += sleeps ? 1 : 0;
        }
        part_let_go(part);
        if (sleeps) {
            fm_parker_park(&part->parker, until_ns);
        } else {
            fm_parker_stay(&part->parker);
        }
    }
}

/* --- creation ----------------------------------------------------------------------------------
 */

static int part_init(struct fm_scheduler *scheduler, uint32_t index, struct fm_error *reterr)
{
    const struct fm_scheduler_options *options = &scheduler->options;
    struct part *part = &scheduler->parts[index];
    bool matcher = index == options->shard_count;
    struct fm_sched_options of = options->sched;
    of.part = matcher ? FM_SCHED_PART_MATCHER : FM_SCHED_PART_SHARD;
    of.shard_count = matcher ? options->shard_count : 0;
    of.offer_slack_ns = matcher ? 0 : options->offer_slack_ns;
    of.requests = matcher ? NULL : &scheduler->table;
    int status = fm_sched_create(&of, &part->sched, reterr);
    if (status != 0) {
        return status;
    }
    part->input_count = matcher ? options->reporter_count : options->submitter_count;
    part->wake_ns = FM_SCHED_NEVER;
    part->request_capacity = of.batch_max * 8;
    part->requests = fm_alloc((size_t)part->request_capacity * sizeof *part->requests);
    part->inputs = fm_alloc_zero(part->input_count, sizeof *part->inputs);
    part->since_ns = fm_alloc_zero(of.models_max, sizeof *part->since_ns);
    if (part->requests == NULL || part->inputs == NULL || part->since_ns == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler's threads");
    }
    /* Towards a shard: for each accelerator at most an end, a grant behind it and the next end wait
     * to be looked at; what is looked at in one lot keeps its place until the lot is done, while
     * what it led to comes in. Reports: one for each batch. */
    uint32_t most = of.accelerators_max * 4 + MESSAGES;
    uint32_t submits =
        options->submit_capacity > 0 ? options->submit_capacity : FM_SCHEDULER_SUBMIT_DEFAULT;
    for (uint32_t i = 0; status == 0 && i < part->input_count; i++) {
        status =
            fm_ring_init(&part->inputs[i], matcher ? most : submits, sizeof(struct fm_sched_event));
    }
    if (status == 0 && !matcher) {
        status = fm_ring_init(&part->from_matcher, most, sizeof(struct parcel));
    }
    if (status == 0 && !matcher) {
        status = fm_ring_init(&part->to_matcher, most + of.models_max, sizeof(struct parcel));
    }
    return status == 0 ? 0 : fm_error_set(reterr, status, "no memory for the scheduler's rings");
}

static int options_check(const struct fm_scheduler_options *options, struct fm_error *reterr)
{
    const struct {
        const char *name;
        uint32_t value;
        uint32_t least;
        uint32_t most;
    } counts[] = {
        {"shard_count", options->shard_count, 0, FM_SCHED_SHARDS_LIMIT},
        {"submitter_count", options->submitter_count, 1, FM_SCHEDULER_ENDPOINTS_MAX},
        {"reporter_count", options->reporter_count, 1, FM_SCHEDULER_ENDPOINTS_MAX},
    };
    for (size_t i = 0; i < FM_COUNT_OF(counts); i++) {
        if (counts[i].value < counts[i].least || counts[i].value > counts[i].most) {
            return fm_error_set(reterr, FM_EINVAL, "%s is %u, must be %u to %u", counts[i].name,
                                (unsigned)counts[i].value, (unsigned)counts[i].least,
                                (unsigned)counts[i].most);
        }
    }
    if (options->shard_count > 0 && options->on_step != NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "steps can be followed only where one scheduler makes them all "
                            "(shard_count 0)");
    }
    if (options->submit_capacity > FM_SCHEDULER_SUBMIT_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "submit_capacity is %u, must be at most %u",
                            (unsigned)options->submit_capacity, FM_SCHEDULER_SUBMIT_MAX);
    }
    FM_ASSERT(options->on_action != NULL);
    return 0;
}

static int parts_start(struct fm_scheduler *scheduler, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < scheduler->part_count; i++) {
        struct part *part = &scheduler->parts[i];
        char name[24] = "fm-match";
        if (!is_matcher(part)) {
            (void)snprintf(name, sizeof name, "fm-shard-%u", (unsigned)i);
        }
        int status = fm_thread_start(&part->thread, name, part_run, part);
        if (status != 0) {
            return fm_error_set(reterr, status, "the scheduler's thread %s did not start", name);
        }
    }
    return 0;
}

void fm_scheduler_record_header(const struct fm_scheduler_options *options,
                                struct fm_sched_record_header *ret_header)
{
    FM_ASSERT(options->shard_count == 0);
    fm_whole_record_header(options, ret_header);
}

int fm_scheduler_create(const struct fm_scheduler_options *options,
                        struct fm_scheduler **ret_scheduler, struct fm_error *reterr)
{
    int status = options_check(options, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_scheduler *scheduler = fm_alloc_zero(1, sizeof *scheduler);
    if (scheduler == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler");
    }
    scheduler->options = *options;
    if (options->shard_count == 0) {
        status = fm_whole_create(options, &scheduler->whole, reterr);
        if (status != 0) {
            fm_free(scheduler);
            return status;
        }
        *ret_scheduler = scheduler;
        return 0;
    }
    scheduler->part_count = options->shard_count + 1;
    fm_mutex_init(&scheduler->lock);
    fm_mutex_init(&scheduler->control_lock);
    fm_condition_init(&scheduler->controlled);
    scheduler->touched =
        fm_alloc_zero((size_t)options->submitter_count * options->shard_count, sizeof(bool));
    scheduler->parts = fm_alloc_zero(scheduler->part_count, sizeof *scheduler->parts);
    if (scheduler->parts == NULL || scheduler->touched == NULL) {
        scheduler->part_count = scheduler->parts == NULL ? 0 : scheduler->part_count;
        status = fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler");
    }
    for (uint32_t i = 0; scheduler->parts != NULL && i < scheduler->part_count; i++) {
        scheduler->parts[i].scheduler = scheduler;
        scheduler->parts[i].index = i;
        fm_parker_init(&scheduler->parts[i].parker);
        fm_mutex_init(&scheduler->parts[i].hold);
    }
    if (status == 0 && options->sched.requests_max >= 1 &&
        options->sched.requests_max <= FM_SCHED_REQUESTS_LIMIT &&
        fm_request_table_init(&scheduler->table, options->sched.requests_max) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler's slots");
    }
    for (uint32_t i = scheduler->part_count; status == 0 && i > 0; i--) {
        status = part_init(scheduler, i - 1, reterr);
    }
    status = status != 0 ? status : parts_start(scheduler, reterr);
    if (status != 0) {
        fm_scheduler_destroy(scheduler);
        return status;
    }
    *ret_scheduler = scheduler;
    return 0;
}

static void part_deinit(struct part *part)
{
    fm_mutex_deinit(&part->hold);
    for (uint32_t i = 0; part->inputs != NULL && i < part->input_count; i++) {
        fm_ring_deinit(&part->inputs[i]);
    }
    fm_ring_deinit(&part->from_matcher);
    fm_ring_deinit(&part->to_matcher);
    fm_free(part->since_ns);
    fm_free(part->inputs);
    fm_free(part->requests);
    fm_sched_destroy(part->sched);
}

void fm_scheduler_destroy(struct fm_scheduler *scheduler)
{
    if (scheduler == NULL) {
        return;
    }
    if (scheduler->whole != NULL) {
        fm_whole_destroy(scheduler->whole);
        fm_free(scheduler);
        return;
    }
    /* The matcher last: shards may wait for it. */
    for (uint32_t i = 0; i < scheduler->part_count; i++) {
        struct part *part = &scheduler->parts[i];
        atomic_store_explicit(&part->stopping, true, memory_order_release);
        fm_parker_wake(&part->parker);
        fm_thread_join(&part->thread);
    }
    for (uint32_t i = 0; i < scheduler->part_count; i++) {
        part_deinit(&scheduler->parts[i]);
    }
    fm_request_table_deinit(&scheduler->table);
    fm_condition_deinit(&scheduler->controlled);
    fm_mutex_deinit(&scheduler->control_lock);
    fm_mutex_deinit(&scheduler->lock);
    fm_free(scheduler->touched);
    fm_free(scheduler->parts);
    fm_free(scheduler);
}

/* --- from other threads ------------------------------------------------------------------------
 */

bool fm_scheduler_submit(struct fm_scheduler *scheduler, uint32_t submitter, uint32_t model,
                         const struct fm_sched_event *event)
{
    FM_ASSERT(submitter < scheduler->options.submitter_count);
    FM_ASSERT(event->kind == FM_SCHED_EVENT_REQUEST || event->kind == FM_SCHED_EVENT_CANCEL);
    if (scheduler->whole != NULL) {
        return fm_whole_submit(scheduler->whole, submitter, event);
    }
    struct part *shard = shard_of(scheduler, model);
    if (!fm_ring_put(&shard->inputs[submitter], event, sizeof *event)) {
        return false;
    }
    scheduler->touched[submitter * scheduler->options.shard_count + shard->index] = true;
    return true;
}

void fm_scheduler_flush(struct fm_scheduler *scheduler, uint32_t submitter)
{
    uint32_t shards = scheduler->options.shard_count;
    if (shards == 0) {
        fm_whole_submit_flush(scheduler->whole, submitter);
    }
    for (uint32_t i = 0; i < shards; i++) {
        bool *touched = &scheduler->touched[submitter * shards + i];
        if (*touched) {
            *touched = false;
            fm_ring_stamp(&scheduler->parts[i].inputs[submitter], fm_os_now_ns());
            fm_parker_wake(&scheduler->parts[i].parker);
        }
    }
}

bool fm_scheduler_report(struct fm_scheduler *scheduler, uint32_t reporter,
                         const struct fm_sched_event *event)
{
    FM_ASSERT(reporter < scheduler->options.reporter_count);
    FM_ASSERT(event->kind == FM_SCHED_EVENT_BATCH_DONE ||
              event->kind == FM_SCHED_EVENT_BATCH_FAILED);
    if (scheduler->whole != NULL) {
        return fm_whole_report(scheduler->whole, reporter, event);
    }
    return fm_ring_put(&matcher_of(scheduler)->inputs[reporter], event, sizeof *event);
}

void fm_scheduler_report_flush(struct fm_scheduler *scheduler, uint32_t reporter)
{
    if (scheduler->whole != NULL) {
        fm_whole_report_flush(scheduler->whole, reporter);
        return;
    }
    struct part *matcher = matcher_of(scheduler);
    fm_ring_stamp(&matcher->inputs[reporter], fm_os_now_ns());
    fm_parker_wake(&matcher->parker);
}

static int control_send(struct fm_scheduler *scheduler, struct part *part,
                        const struct fm_sched_event *events, uint32_t count)
{
    fm_mutex_lock(&scheduler->lock);
    part->control = (struct control){.events = events, .count = count, .pending = true};
    atomic_store_explicit(&part->controlled, true, memory_order_release);
    fm_parker_wake(&part->parker);
    while (part->control.pending) {
        fm_condition_wait(&scheduler->controlled, &scheduler->lock);
    }
    int status = part->control.status;
    fm_mutex_unlock(&scheduler->lock);
    return status;
}

/* The model an event is about; NONE: it is about an accelerator. */
static bool control_model(const struct fm_sched_event *event, uint32_t *ret_model)
{
    if (event->kind == FM_SCHED_EVENT_MODEL_SET) {
        *ret_model = event->as.model->model;
        return true;
    }
    if (event->kind == FM_SCHED_EVENT_MODEL_REMOVED) {
        *ret_model = event->as.model_removed;
        return true;
    }
    *ret_model = FM_SCHED_NONE;
    return event->kind == FM_SCHED_EVENT_ACCELERATOR_UP ||
           event->kind == FM_SCHED_EVENT_ACCELERATOR_DOWN ||
           event->kind == FM_SCHED_EVENT_ACCELERATOR_SLOW;
}

/* To those that hold something back. */
static int drain_to_parts(struct fm_scheduler *scheduler, const struct fm_sched_event *event)
{
    int status = 0;
    fm_mutex_lock(&scheduler->control_lock);
    for (uint32_t shard = 0; shard < scheduler->options.shard_count; shard++) {
        int own = control_send(scheduler, &scheduler->parts[shard], event, 1);
        status = status == 0 ? own : status;
    }
    fm_mutex_unlock(&scheduler->control_lock);
    return status;
}

static int controls_check(const struct fm_scheduler *scheduler, const struct fm_sched_event *events,
                          uint32_t count, struct fm_error *reterr)
{
    const struct fm_sched_options *limits = &scheduler->options.sched;
    if (count == 1 && events[0].kind == FM_SCHED_EVENT_DRAIN) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t model;
        if (!control_model(&events[i], &model) || events[i].kind != events[0].kind) {
            return fm_error_set(reterr, FM_EINVAL,
                                "requests and ends of batches are not controls, and several "
                                "controls at once are of one kind");
        }
        if (model == FM_SCHED_NONE
                ? events[i].as.accelerator.accelerator >= limits->accelerators_max
                : model >= limits->models_max) {
            return fm_error_set(reterr, FM_EINVAL,
                                "there are %u accelerators and %u models at most",
                                (unsigned)limits->accelerators_max, (unsigned)limits->models_max);
        }
    }
    return 0;
}

/* Tells each shard those that are about its models. `own` has room for all. */
static int controls_to_shards(struct fm_scheduler *scheduler, const struct fm_sched_event *events,
                              uint32_t count, struct fm_sched_event *own)
{
    int status = 0;
    for (uint32_t shard = 0; shard < scheduler->options.shard_count; shard++) {
        uint32_t own_count = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t model = FM_SCHED_NONE;
            (void)control_model(&events[i], &model);
            if (shard_of(scheduler, model)->index == shard) {
                own[own_count++] = events[i];
            }
        }
        if (own_count > 0) {
            int own_status = control_send(scheduler, &scheduler->parts[shard], own, own_count);
            status = status == 0 ? own_status : status;
        }
    }
    return status;
}

static int controls_to_parts(struct fm_scheduler *scheduler, const struct fm_sched_event *events,
                             uint32_t count)
{
    int status = 0;
    if (events[0].kind == FM_SCHED_EVENT_DRAIN) {
        return drain_to_parts(scheduler, &events[0]);
    }
    struct fm_sched_event *own = fm_alloc((size_t)count * sizeof *own);
    if (own == NULL) {
        return FM_ENOMEM;
    }
    fm_mutex_lock(&scheduler->control_lock);
    /* The matcher knows a model before its shard offers it, and as long as the shard does. */
    if (events[0].kind == FM_SCHED_EVENT_MODEL_REMOVED) {
        status = controls_to_shards(scheduler, events, count, own);
    }
    int of_matcher = control_send(scheduler, matcher_of(scheduler), events, count);
    status = status == 0 ? of_matcher : status;
    if (status != FM_ENOMEM && events[0].kind == FM_SCHED_EVENT_MODEL_SET) {
        int of_shards = controls_to_shards(scheduler, events, count, own);
        status = status == 0 ? of_shards : status;
    }
    fm_mutex_unlock(&scheduler->control_lock);
    fm_free(own);
    return status;
}

int fm_scheduler_controls(struct fm_scheduler *scheduler, const struct fm_sched_event *events,
                          uint32_t count, struct fm_error *reterr)
{
    int status = controls_check(scheduler, events, count, reterr);
    if (status != 0 || count == 0) {
        return status;
    }
    status = scheduler->whole != NULL ? fm_whole_controls(scheduler->whole, events, count)
                                      : controls_to_parts(scheduler, events, count);
    if (status == FM_EINVAL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the scheduler refuses it: an SLO or a profile that cannot be, or what "
                            "is not there, or is there already");
    }
    return status == 0 ? 0 : fm_error_set(reterr, status, "no memory for what it has to know");
}

int fm_scheduler_control(struct fm_scheduler *scheduler, const struct fm_sched_event *event,
                         struct fm_error *reterr)
{
    return fm_scheduler_controls(scheduler, event, 1, reterr);
}

uint32_t fm_scheduler_actor(const struct fm_scheduler *scheduler)
{
    FM_ASSERT(scheduler->whole != NULL);
    return fm_whole_actor(scheduler->whole);
}

void fm_scheduler_look(struct fm_scheduler *scheduler, fm_scheduler_look_fn *look, void *context)
{
    FM_ASSERT(scheduler->whole != NULL);
    fm_whole_look(scheduler->whole, look, context);
}

void fm_scheduler_stats_get(struct fm_scheduler *scheduler, struct fm_scheduler_stats *ret_stats)
{
    if (scheduler->whole != NULL) {
        fm_whole_stats_get(scheduler->whole, ret_stats);
        return;
    }
    *ret_stats = (struct fm_scheduler_stats){0};
    fm_mutex_lock(&scheduler->lock);
    for (uint32_t i = 0; i < scheduler->part_count; i++) {
        const struct fm_scheduler_stats *of = &scheduler->parts[i].published;
        ret_stats->refused += of->matcher.refused;
        ret_stats->requests += of->requests;
        ret_stats->started += of->started;
        ret_stats->batches += of->batches;
        ret_stats->messages += of->messages;
        ret_stats->declined += of->declined;
        ret_stats->steps += of->steps;
        ret_stats->parks += of->parks;
        ret_stats->cpu_ns += of->cpu_ns;
        for (uint32_t reason = 0; reason < FM_SCHED_DROP_COUNT_; reason++) {
            ret_stats->dropped[reason] += of->dropped[reason];
        }
        for (uint32_t hop = 0; hop < FM_SCHEDULER_HOP_COUNT_; hop++) {
            fm_log_histogram_merge(&ret_stats->hops[hop], &of->hops[hop]);
        }
        fm_log_histogram_merge(&ret_stats->delay, &of->delay);
        if (is_matcher(&scheduler->parts[i])) {
            ret_stats->matcher = of->matcher;
        }
    }
    fm_mutex_unlock(&scheduler->lock);
}
