/*
 * Deterministic simulation of core/sched: random options, models, loads and faults from a seed,
 * against an auditor that knows the contract (sched.h) and nothing of how it is kept.
 *
 * Safety: every request gets exactly one outcome, with a reason that holds; what starts can finish
 * by its deadline as the profile says, within the limits, the earliest deadlines first, on an
 * accelerator that is up and not busy beyond what lead times allow, never past a lower-numbered
 * free one; eager leaves none idle that somebody could use; after set-up only MODEL_SET allocates;
 * the state is valid after every step. Liveness: the driver calls at events and at wake_ns only;
 * what waits is let go in time, everything drains, and afterwards every model still answers. The
 * same seed gives the same actions, and so does a recording of it. Usage: sched [seed-count]
 * [first-seed].
 */
#include "core/sched/sched.h"

#include <unistd.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "engines/sim/recorder.h"
#include "engines/sim/replay.h"
#include "tests/harness/test.h"

enum {
    MODELS_MAX = 40,
    ACCELERATORS_MAX = 30,
    TYPES_MAX = 3,
    SLOTS_MAX = 400,
    PENDING_MAX = 4096,
    ACTIONS_MAX = 256,
    STEP_EVENTS_MAX = 64,
    ARRIVALS = 800,
    SECONDS_STUCK_MAX = 60
};
#define MS UINT64_C(1000000)

enum request_state { REQUEST_FREE, REQUEST_QUEUED, REQUEST_RUNNING };

struct request {
    enum request_state state;
    uint32_t model;
    uint64_t deadline_ns;
    uint32_t priority;
    uint64_t order; /* of arrival */
    uint32_t attempts;
    bool cancelled;
};

struct model {
    bool present;
    struct fm_sched_model given;
    struct fm_profile profiles[TYPES_MAX];
    uint32_t weight; /* of arrivals */
};

struct batch {
    uint64_t number;
    uint64_t expected_ns;
    uint64_t report_ns; /* when the world says that it is done */
    uint32_t model;
    uint32_t count;
    uint32_t requests[FM_SCHED_BATCH_LIMIT / 16];
};

struct accelerator {
    bool up;
    uint32_t type;
    uint32_t permille;
    uint32_t running_count;
    struct batch running[2];
};

struct pending {
    uint64_t at_ns;
    uint64_t order;
    struct fm_sched_event event;
};

struct world {
    struct fm_random random;
    uint64_t seed;
    struct fm_sched_options options;
    struct fm_sched *sched;
    uint64_t now_ns;
    uint64_t seen_ns; /* the latest time the scheduler was told */
    uint64_t wake_ns;
    struct request requests[SLOTS_MAX];
    uint32_t queued[MODELS_MAX];
    struct model models[MODELS_MAX];
    struct accelerator accelerators[ACCELERATORS_MAX];
    struct pending pending[PENDING_MAX];
    uint32_t pending_count;
    uint64_t order;
    struct fm_sched_action items[ACTIONS_MAX];
    uint32_t action_requests[FM_SCHED_BATCH_LIMIT];
    struct fm_sched_actions actions;
    uint64_t batch_last;
    uint64_t late_reports;
    uint64_t steps;
    uint64_t hash;
    uint64_t gap_ns;
    uint32_t noise_permille; /* real durations differ from expected ones by up to this */
    bool faults;
    bool validates;
    bool records;
    struct fm_sim_recorder recorder;
    uint64_t done;
    uint64_t dropped[FM_SCHED_DROP_COUNT_];
};

#define MUST(world, condition)                                                                   \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("# seed %" PRIu64 ", %s, step %" PRIu64 ", %" PRIu64 " ns: %s:%d: %s\n",      \
                   (world)->seed, fm_sched_policy_name((world)->options.policy), (world)->steps, \
                   (world)->now_ns, __FILE__, __LINE__, #condition);                             \
            fflush(stdout);                                                                      \
            abort();                                                                             \
        }                                                                                        \
    } while (0)

static uint64_t below(struct world *world, uint64_t bound)
{
    return fm_random_below(&world->random, bound);
}

static uint64_t between(struct world *world, uint64_t least, uint64_t most)
{
    return least + below(world, most - least + 1);
}

static bool chance(struct world *world, uint32_t permille)
{
    return below(world, 1000) < permille;
}

static void note(struct world *world, uint64_t what)
{
    world->hash = (world->hash ^ what) * UINT64_C(1099511628211);
}

/* --- the world ---------------------------------------------------------------------------------
 */

static void pend(struct world *world, uint64_t at_ns, struct fm_sched_event event)
{
    MUST(world, world->pending_count < PENDING_MAX);
    world->pending[world->pending_count++] =
        (struct pending){.at_ns = at_ns, .order = world->order++, .event = event};
}

/* The first of what is due by `by_ns`; false: none. */
static bool pending_take(struct world *world, uint64_t by_ns, struct fm_sched_event *ret_event)
{
    uint32_t first = UINT32_MAX;
    for (uint32_t i = 0; i < world->pending_count; i++) {
        const struct pending *it = &world->pending[i];
        if (it->at_ns <= by_ns && (first == UINT32_MAX || it->at_ns < world->pending[first].at_ns ||
                                   (it->at_ns == world->pending[first].at_ns &&
                                    it->order < world->pending[first].order))) {
            first = i;
        }
    }
    if (first == UINT32_MAX) {
        return false;
    }
    *ret_event = world->pending[first].event;
    world->pending[first] = world->pending[--world->pending_count];
    return true;
}

static uint64_t pending_next_ns(const struct world *world)
{
    uint64_t next_ns = FM_SCHED_NEVER;
    for (uint32_t i = 0; i < world->pending_count; i++) {
        next_ns = world->pending[i].at_ns < next_ns ? world->pending[i].at_ns : next_ns;
    }
    return next_ns;
}

static void profile_make(struct world *world, struct fm_profile *profile)
{
    *profile = (struct fm_profile){0};
    if (chance(world, 600)) {
        uint64_t alpha_ns = between(world, 5000, chance(world, 500) ? 300000 : 4000000);
        uint64_t beta_ns = below(world, chance(world, 500) ? 500000 : 15000000);
        MUST(world, fm_profile_add_affine(profile, alpha_ns, beta_ns,
                                          (uint32_t)between(world, 2, 64), NULL) == 0);
        return;
    }
    /* A measured table: any shape, also falling latencies and throughputs. */
    uint32_t batch = 1;
    uint64_t latency_ns = between(world, 20000, 10 * MS);
    for (uint32_t i = 0; i < 6; i++) {
        struct fm_profile_point point = {.batch = batch, .sample_count = 3};
        for (unsigned statistic = 0; statistic < FM_PROFILE_STATISTIC_COUNT_; statistic++) {
            point.latency_ns[statistic] = latency_ns + statistic * latency_ns / 50;
        }
        MUST(world, fm_profile_add(profile, &point, NULL) == 0);
        batch += 1 + (uint32_t)below(world, 20);
        latency_ns = latency_ns * between(world, 950, 2200) / 1000;
    }
}

static uint64_t latency_of(const struct model *model, uint32_t type, uint32_t batch)
{
    return fm_profile_latency_ns(model->given.profiles[type], model->given.statistic, batch);
}

/* The least that one request needs from its grant to its answer, on the fastest type. */
static uint64_t least_needed(const struct world *world, uint32_t id)
{
    uint64_t least_ns = FM_SCHED_NEVER;
    for (uint32_t type = 0; type < world->options.type_count; type++) {
        if (world->models[id].given.profiles[type] != NULL) {
            uint64_t latency_ns = latency_of(&world->models[id], type, 1);
            least_ns = latency_ns < least_ns ? latency_ns : least_ns;
        }
    }
    return least_ns + world->options.control_ns + world->options.data_ns + world->options.result_ns;
}

static void model_make(struct world *world, uint32_t id, struct model *model)
{
    memset(model, 0, sizeof *model);
    struct fm_sched_model *given = &model->given;
    given->model = id;
    given->goal = (enum fm_sched_goal)below(world, FM_SCHED_GOAL_COUNT_);
    given->statistic = (enum fm_profile_statistic)below(world, FM_PROFILE_STATISTIC_COUNT_);
    given->batch_max = chance(world, 700) ? 0 : (uint32_t)between(world, 1, 20);
    uint32_t sure = (uint32_t)below(world, world->options.type_count);
    uint64_t latency_ns = 0;
    for (uint32_t type = 0; type < world->options.type_count; type++) {
        if (type == sure || chance(world, 600)) {
            profile_make(world, &model->profiles[type]);
            given->profiles[type] = &model->profiles[type];
            latency_ns = latency_of(model, type, 1);
        }
    }
    given->slo_ns = latency_ns * between(world, 1000, 9000) / 1000 + world->options.result_ns +
                    world->options.control_ns;
    given->slo_ns = chance(world, 100) ? between(world, 1, 500 * MS) : given->slo_ns;
    given->queue_delay_ns = below(world, given->slo_ns);
    for (uint32_t i = 0; chance(world, 500) && i < 3; i++) {
        given->preferred[i] = 4 * (i + 1);
    }
    given->policy = (enum fm_sched_policy_kind)below(world, FM_SCHED_POLICY_COUNT_);
    given->policy_given =
        chance(world, 400) && fm_sched_policy_mixes(world->options.policy, given->policy);
    model->weight = chance(world, 300) ? 20 : 1 + (uint32_t)below(world, 4);
    model->present = true;
}

static enum fm_sched_policy_kind policy_of(const struct world *world, uint32_t id)
{
    const struct fm_sched_model *given = &world->models[id].given;
    return given->policy_given ? given->policy : world->options.policy;
}

static void pointers_mend(struct model *model)
{
    for (uint32_t type = 0; type < TYPES_MAX; type++) {
        if (model->given.profiles[type] != NULL) {
            model->given.profiles[type] = &model->profiles[type];
        }
    }
}

/* --- the auditor: what has happened ------------------------------------------------------------
 */

static void batch_pop(struct accelerator *accelerator)
{
    accelerator->running[0] = accelerator->running[1];
    accelerator->running_count--;
}

static void batch_return(struct world *world, struct accelerator *accelerator)
{
    struct batch *batch = &accelerator->running[0];
    for (uint32_t i = 0; i < batch->count; i++) {
        struct request *request = &world->requests[batch->requests[i]];
        request->state = REQUEST_QUEUED;
        world->queued[request->model]++;
    }
    batch_pop(accelerator);
}

static void apply_batch(struct world *world, const struct fm_sched_event *event)
{
    struct accelerator *accelerator = &world->accelerators[event->as.batch.accelerator];
    if (event->as.batch.accelerator >= world->options.accelerators_max ||
        accelerator->running_count == 0 ||
        accelerator->running[0].number != event->as.batch.batch) {
        world->late_reports++;
        return;
    }
    if (event->kind == FM_SCHED_EVENT_BATCH_FAILED) {
        batch_return(world, accelerator);
        return;
    }
    struct batch *batch = &accelerator->running[0];
    for (uint32_t i = 0; i < batch->count; i++) {
        world->requests[batch->requests[i]].state = REQUEST_FREE;
        world->done++;
    }
    batch_pop(accelerator);
}

static void apply_accelerator(struct world *world, const struct fm_sched_event *event)
{
    uint32_t id = event->as.accelerator.accelerator;
    if (id >= world->options.accelerators_max) {
        return;
    }
    struct accelerator *accelerator = &world->accelerators[id];
    if (event->kind == FM_SCHED_EVENT_ACCELERATOR_SLOW) {
        uint32_t permille = event->as.accelerator.permille;
        accelerator->permille =
            permille > 0 && permille <= 1000000 ? permille : accelerator->permille;
    } else if (event->kind == FM_SCHED_EVENT_ACCELERATOR_DOWN) {
        while (accelerator->up && accelerator->running_count > 0) {
            batch_return(world, accelerator);
        }
        accelerator->up = false;
    } else if (!accelerator->up && event->as.accelerator.type < world->options.type_count) {
        accelerator->up = true;
        accelerator->type = event->as.accelerator.type;
        accelerator->permille = 1000;
    }
}

static void apply_request(struct world *world, const struct fm_sched_event *event)
{
    uint32_t slot = event->as.request.request;
    if (slot >= world->options.requests_max || world->requests[slot].state != REQUEST_FREE) {
        return; /* refused */
    }
    uint64_t deadline_ns = event->as.request.deadline_ns;
    world->requests[slot] = (struct request){
        .state = REQUEST_QUEUED,
        .order = world->order++,
        .model = event->as.request.model,
        .deadline_ns = deadline_ns < FM_SCHED_TIME_MAX_NS ? deadline_ns : FM_SCHED_TIME_MAX_NS,
        .priority = event->as.request.priority < FM_SCHED_PRIORITY_COUNT
                        ? event->as.request.priority
                        : FM_SCHED_PRIORITY_COUNT - 1,
    };
    if (event->as.request.model < world->options.models_max) {
        world->queued[event->as.request.model]++;
    }
}

static void apply(struct world *world, const struct fm_sched_event *event)
{
    if (event->kind == FM_SCHED_EVENT_REQUEST) {
        apply_request(world, event);
    } else if (event->kind == FM_SCHED_EVENT_CANCEL) {
        uint32_t slot = event->as.cancel.request;
        if (slot < world->options.requests_max && world->requests[slot].state == REQUEST_QUEUED) {
            world->requests[slot].cancelled = true;
        }
    } else if (event->kind == FM_SCHED_EVENT_BATCH_DONE ||
               event->kind == FM_SCHED_EVENT_BATCH_FAILED) {
        apply_batch(world, event);
    } else if (event->kind == FM_SCHED_EVENT_MODEL_REMOVED) {
        if (event->as.model_removed < world->options.models_max) {
            world->models[event->as.model_removed].present = false;
        }
    } else if (event->kind == FM_SCHED_EVENT_ACCELERATOR_UP ||
               event->kind == FM_SCHED_EVENT_ACCELERATOR_DOWN ||
               event->kind == FM_SCHED_EVENT_ACCELERATOR_SLOW) {
        apply_accelerator(world, event);
    }
}

/* --- the auditor: what may be done -------------------------------------------------------------
 */

/* The policies that grant the lowest-numbered free accelerator whatever the model, and the earliest
 * deadlines first; the others have rules of their own (docs/scheduling.md). */
static bool common_rules(enum fm_sched_policy_kind policy)
{
    return policy != FM_SCHED_POLICY_NEXUS && policy != FM_SCHED_POLICY_SHEPHERD &&
           policy != FM_SCHED_POLICY_CLOCKWORK;
}

static void audit_drop(struct world *world, const struct fm_sched_action *action)
{
    MUST(world, action->request < world->options.requests_max);
    MUST(world, action->reason < FM_SCHED_DROP_COUNT_);
    struct request *request = &world->requests[action->request];
    MUST(world, request->state == REQUEST_QUEUED);
    bool known = request->model < world->options.models_max;
    bool present = known && world->models[request->model].present;
    bool too_late =
        present && world->seen_ns + least_needed(world, request->model) > request->deadline_ns;
    switch (action->reason) {
    case FM_SCHED_DROP_CANCELLED:
        MUST(world, request->cancelled);
        break;
    case FM_SCHED_DROP_MODEL_GONE:
        MUST(world, !present);
        break;
    case FM_SCHED_DROP_FAILED:
        MUST(world, request->attempts > 0);
        MUST(world, !present || world->options.learn || too_late ||
                        request->attempts >= world->options.attempts_max);
        break;
    case FM_SCHED_DROP_INFEASIBLE:
        MUST(world, present && (too_late || world->options.learn));
        break;
    case FM_SCHED_DROP_LATE:
        MUST(world,
             present && (too_late || world->options.learn || !common_rules(world->options.policy)));
        break;
    case FM_SCHED_DROP_REJECTED:
        MUST(world, world->options.admit && request->attempts == 0);
        break;
    case FM_SCHED_DROP_OUTRANKED:
        MUST(world, present && request->attempts == 0 && request->priority > 0);
        break;
    case FM_SCHED_DROP_SACRIFICED:
    case FM_SCHED_DROP_COUNT_:
        break;
    }
    request->state = REQUEST_FREE;
    if (known) {
        world->queued[request->model]--;
    }
    world->dropped[action->reason]++;
}

static void audit_place(struct world *world, const struct fm_sched_action *action)
{
    const struct accelerator *accelerator = &world->accelerators[action->accelerator];
    const struct fm_sched_options *options = &world->options;
    MUST(world, accelerator->up);
    bool leads =
        options->control_ns + options->data_ns > 0 || options->policy == FM_SCHED_POLICY_CLOCKWORK;
    if (accelerator->running_count > 0) {
        MUST(world, accelerator->running_count == 1 && leads);
        MUST(world, action->start_ns >= accelerator->running[0].expected_ns);
    }
    MUST(world, action->start_ns >= world->seen_ns + options->control_ns +
                                        action->request_count * options->data_ns);
    for (uint32_t id = 0; id < action->accelerator && common_rules(options->policy); id++) {
        const struct accelerator *lower = &world->accelerators[id];
        /* One that is slowed may be too slow for it. */
        MUST(world, !lower->up || lower->type != accelerator->type || lower->running_count > 0 ||
                        lower->permille > 1000);
    }
}

static void audit_batch(struct world *world, const struct fm_sched_action *action)
{
    const struct accelerator *accelerator = &world->accelerators[action->accelerator];
    const struct model *model = &world->models[action->model];
    MUST(world, model->present && model->given.profiles[accelerator->type] != NULL);
    const struct fm_profile *profile = model->given.profiles[accelerator->type];
    uint32_t count = action->request_count;
    MUST(world, count > 0 && count <= world->options.batch_max);
    MUST(world, model->given.batch_max == 0 || count <= model->given.batch_max);
    MUST(world, count <= fm_profile_batch_max(profile));
    uint64_t profiled_ns = latency_of(model, accelerator->type, count);
    uint64_t takes_ns = action->expected_ns - action->start_ns;
    if (world->options.learn) {
        uint64_t scaled_ns = profiled_ns * accelerator->permille / 1000;
        MUST(world, takes_ns >= scaled_ns / 5 && takes_ns <= scaled_ns * 20);
        profiled_ns = 1;
    } else {
        MUST(world, takes_ns == profiled_ns / 1000 * accelerator->permille ||
                        (accelerator->permille == 1000 && takes_ns == profiled_ns));
    }
    /* Those that are there to compare with do not know what is slowed. */
    uint64_t planned_ns = common_rules(world->options.policy) ? takes_ns : profiled_ns;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = world->actions.requests[action->request_first + i];
        MUST(world, slot < world->options.requests_max);
        struct request *request = &world->requests[slot];
        MUST(world, request->state == REQUEST_QUEUED && request->model == action->model);
        MUST(world,
             action->start_ns + planned_ns + world->options.result_ns <= request->deadline_ns);
        request->state = REQUEST_RUNNING;
        world->queued[request->model]--;
        request->attempts++;
        MUST(world, request->attempts <= world->options.attempts_max);
    }
}

static bool goes_before(const struct request *left, const struct request *right)
{
    if (left->deadline_ns != right->deadline_ns) {
        return left->deadline_ns < right->deadline_ns;
    }
    return left->priority != right->priority ? left->priority < right->priority
                                             : left->order < right->order;
}

/* Nobody who stays behind has an earlier deadline, or the same and is more important, or the same
 * and came first, also where it came back from a batch that failed. */
static void audit_order(struct world *world, const struct fm_sched_action *action)
{
    const struct request *last = NULL;
    for (uint32_t i = 0; i < action->request_count; i++) {
        const struct request *request =
            &world->requests[world->actions.requests[action->request_first + i]];
        MUST(world, last == NULL || goes_before(last, request));
        last = request;
    }
    for (uint32_t slot = 0; slot < world->options.requests_max; slot++) {
        const struct request *request = &world->requests[slot];
        if (request->state == REQUEST_QUEUED && request->model == action->model &&
            common_rules(world->options.policy)) {
            MUST(world, goes_before(last, request));
        }
    }
}

/* How the world runs it: as expected, or not. */
static void batch_begin(struct world *world, const struct fm_sched_action *action)
{
    struct accelerator *accelerator = &world->accelerators[action->accelerator];
    struct batch *batch = &accelerator->running[accelerator->running_count];
    uint64_t begin_ns = action->start_ns;
    if (accelerator->running_count > 0 && accelerator->running[0].report_ns > begin_ns) {
        begin_ns = accelerator->running[0].report_ns;
    }
    uint64_t takes_ns = action->expected_ns - action->start_ns;
    takes_ns = takes_ns *
               between(world, 1000 - world->noise_permille / 4, 1000 + world->noise_permille) /
               1000;
    batch->number = action->batch;
    batch->expected_ns = action->expected_ns;
    batch->model = action->model;
    batch->count = action->request_count;
    batch->report_ns = begin_ns + takes_ns;
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->requests[i] = world->actions.requests[action->request_first + i];
    }
    accelerator->running_count++;
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_BATCH_DONE};
    event.as.batch.accelerator = action->accelerator;
    event.as.batch.batch = action->batch;
    if (world->faults && chance(world, 30)) {
        event.kind = FM_SCHED_EVENT_BATCH_FAILED;
    } else if (world->faults && chance(world, 20)) {
        batch->report_ns += below(world, 200 * MS); /* a late report */
    } else if (world->faults && chance(world, 10)) {
        /* It hangs, until somebody takes the accelerator away. */
        event.kind = FM_SCHED_EVENT_ACCELERATOR_DOWN;
        event.as.accelerator.accelerator = action->accelerator;
        batch->report_ns += below(world, 2000 * MS);
    }
    pend(world, batch->report_ns, event);
}

static void audit_start(struct world *world, const struct fm_sched_action *action)
{
    MUST(world, action->accelerator < world->options.accelerators_max);
    MUST(world, action->model < world->options.models_max);
    MUST(world, action->batch > world->batch_last);
    MUST(world, action->request_first + action->request_count <= world->actions.request_count);
    world->batch_last = action->batch;
    audit_place(world, action);
    audit_batch(world, action);
    audit_order(world, action);
    batch_begin(world, action);
}

static void audit_preempt(struct world *world, const struct fm_sched_action *action)
{
    MUST(world, action->accelerator < world->options.accelerators_max);
    struct accelerator *accelerator = &world->accelerators[action->accelerator];
    MUST(world, accelerator->up && accelerator->running_count > 0);
    MUST(world, accelerator->running[0].number == action->batch);
    for (uint32_t i = 0; i < accelerator->running[0].count; i++) {
        world->requests[accelerator->running[0].requests[i]].attempts--; /* it does not count */
    }
    batch_return(world, accelerator);
}

static void audit_actions(struct world *world)
{
    MUST(world, world->actions.count <= world->actions.capacity);
    MUST(world, world->actions.request_count <= world->actions.request_capacity);
    for (uint32_t i = 0; i < world->actions.count; i++) {
        const struct fm_sched_action *action = &world->actions.items[i];
        note(world, action->kind);
        note(world, action->kind == FM_SCHED_ACTION_DROP ? action->request : action->batch);
        note(world, action->accelerator);
        note(world, action->start_ns);
        if (action->kind == FM_SCHED_ACTION_DROP) {
            audit_drop(world, action);
        } else if (action->kind == FM_SCHED_ACTION_START) {
            audit_start(world, action);
        } else {
            MUST(world, action->kind == FM_SCHED_ACTION_PREEMPT);
            audit_preempt(world, action);
        }
    }
    note(world, world->actions.wake_ns);
}

/* --- the auditor: what must hold between steps -------------------------------------------------
 */

/* Whether an accelerator stands idle on which the earliest request of its model would make it. */
static bool could_start(const struct world *world, const struct request *request)
{
    const struct model *model = &world->models[request->model];
    for (uint32_t slot = 0; slot < world->options.requests_max; slot++) {
        const struct request *other = &world->requests[slot];
        if (other->state == REQUEST_QUEUED && other->model == request->model &&
            other->deadline_ns < request->deadline_ns) {
            return false;
        }
    }
    for (uint32_t id = 0; id < world->options.accelerators_max; id++) {
        const struct accelerator *accelerator = &world->accelerators[id];
        if (accelerator->up && accelerator->running_count == 0 && accelerator->permille <= 1000 &&
            model->given.profiles[accelerator->type] != NULL &&
            world->seen_ns + world->options.control_ns + world->options.data_ns +
                    latency_of(model, accelerator->type, 1) + world->options.result_ns <=
                request->deadline_ns) {
            return true;
        }
    }
    return false;
}

static void audit_rest(struct world *world)
{
    uint32_t queued = 0;
    for (uint32_t slot = 0; slot < world->options.requests_max; slot++) {
        const struct request *request = &world->requests[slot];
        if (request->state != REQUEST_QUEUED) {
            continue;
        }
        queued++;
        MUST(world, request->model < world->options.models_max);
        MUST(world, world->models[request->model].present && !request->cancelled);
        if (!world->options.learn) {
            MUST(world,
                 world->seen_ns + least_needed(world, request->model) <= request->deadline_ns);
        }
        /* With lead times candidates may wait their turn for an accelerator about to come free. */
        if (policy_of(world, request->model) == FM_SCHED_POLICY_EAGER &&
            world->options.policy == FM_SCHED_POLICY_EAGER && !world->options.learn &&
            world->options.control_ns + world->options.data_ns == 0) {
            MUST(world, !could_start(world, request));
        }
    }
    struct fm_sched_stats stats;
    fm_sched_stats_get(world->sched, &stats);
    MUST(world, stats.queued == queued);
    MUST(world, stats.late_reports == world->late_reports);
    uint32_t up = 0;
    uint32_t busy = 0;
    for (uint32_t id = 0; id < world->options.accelerators_max; id++) {
        up += world->accelerators[id].up ? 1u : 0u;
        busy += world->accelerators[id].running_count > 0 ? 1u : 0u;
    }
    MUST(world, stats.accelerators_up == up && stats.accelerators_busy == busy);
    for (uint32_t id = 0; id < world->options.models_max; id++) {
        struct fm_sched_model_stats of;
        fm_sched_model_stats_get(world->sched, id, &of);
        MUST(world, of.queued == world->queued[id]);
    }
}

/* --- the driver --------------------------------------------------------------------------------
 */

static void step_record(struct world *world, uint64_t told_ns, const struct fm_sched_event *events,
                        uint32_t count, uint32_t taken, int status)
{
    fm_sim_recorder_step(&world->recorder, &(struct fm_sched_record_step){
                                               .now_ns = told_ns,
                                               .events = events,
                                               .event_count = count,
                                               .taken = taken,
                                               .out_of_memory = status == FM_ENOMEM,
                                               .actions = world->actions.items,
                                               .action_count = world->actions.count,
                                               .requests = world->actions.requests,
                                               .request_count = world->actions.request_count,
                                               .wake_ns = world->actions.wake_ns,
                                           });
}

/* One call. Returns how many events were taken. */
static uint32_t step_once(struct world *world, uint64_t told_ns,
                          const struct fm_sched_event *events, uint32_t count, uint32_t *applied,
                          int *ret_status)
{
    bool sets = count > 0 && events[0].kind == FM_SCHED_EVENT_MODEL_SET;
    if (!sets) {
        (void)fm_memory_fail_at(0, 0);
    }
    uint32_t taken = UINT32_MAX;
    *ret_status = fm_sched_step(world->sched, told_ns, events, count, &world->actions, &taken);
    uint64_t allocations = fm_memory_fail_at(0, 0);
    MUST(world, sets || (allocations == 0 && *ret_status == 0));
    if (world->records) {
        step_record(world, told_ns, events, count, taken, *ret_status);
    }
    MUST(world, taken <= count);
    world->seen_ns = told_ns > world->seen_ns ? told_ns : world->seen_ns;
    world->steps++;
    /* The one that was not taken may have begun. */
    for (; *applied < count && *applied <= taken; (*applied)++) {
        apply(world, &events[*applied]);
    }
    if (taken < count && *ret_status == 0) {
        MUST(world, world->actions.count == world->actions.capacity);
        MUST(world, world->actions.wake_ns <= told_ns);
    }
    audit_actions(world);
    if (world->validates) {
        MUST(world, fm_sched_validate(world->sched));
    }
    return taken;
}

/* Calls until all events are taken and the scheduler does not ask to come back at once. */
static void step(struct world *world, const struct fm_sched_event *events, uint32_t count)
{
    uint64_t told_ns = world->now_ns;
    if (world->faults && chance(world, 10)) {
        told_ns -= below(world, told_ns + 1);
    }
    uint32_t applied = 0;
    for (uint32_t calls = 0;; calls++) {
        MUST(world, calls < 20000);
        int status;
        uint32_t taken = step_once(world, told_ns, events, count, &applied, &status);
        MUST(world, status == 0 || status == FM_ENOMEM);
        if (status == 0 && taken == count && world->actions.wake_ns > told_ns) {
            break;
        }
        events += taken;
        count -= taken;
        applied -= taken;
    }
    world->wake_ns = world->actions.wake_ns;
    audit_rest(world);
}

static void model_set(struct world *world, uint32_t id)
{
    /* Borrowed during the call only: the scheduler gets a copy that does not live on. */
    struct model *model = &world->models[id];
    model_make(world, id, model);
    pointers_mend(model);
    struct model copy = *model;
    pointers_mend(&copy);
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &copy.given};
    (void)fm_memory_fail_at(world->faults && chance(world, 300) ? between(world, 1, 3) : 0, 0);
    step(world, &event, 1);
    memset(&copy, 0xee, sizeof copy);
}

static uint32_t slot_free(struct world *world)
{
    uint32_t slot = (uint32_t)below(world, world->options.requests_max);
    for (uint32_t i = 0; i < world->options.requests_max; i++) {
        if (world->requests[slot].state == REQUEST_FREE) {
            return slot;
        }
        slot = slot + 1 < world->options.requests_max ? slot + 1 : 0;
    }
    return FM_SCHED_NONE;
}

static uint32_t model_pick(struct world *world)
{
    uint64_t sum = 0;
    for (uint32_t id = 0; id < world->options.models_max; id++) {
        sum += world->models[id].present ? world->models[id].weight : 0;
    }
    uint64_t at = sum > 0 ? below(world, sum) : 0;
    for (uint32_t id = 0; id < world->options.models_max; id++) {
        uint32_t weight = world->models[id].present ? world->models[id].weight : 0;
        if (at < weight) {
            return id;
        }
        at -= weight;
    }
    return 0;
}

/* As much time as some batch takes that is granted now, or a nanosecond less or more. */
static uint64_t deadline_exact(struct world *world, uint32_t id)
{
    const struct model *model = &world->models[id];
    uint32_t batch = (uint32_t)between(world, 1, 4);
    uint64_t needed_ns = least_needed(world, id) + (batch - 1) * world->options.data_ns;
    for (uint32_t type = 0; type < world->options.type_count; type++) {
        if (model->given.profiles[type] != NULL) {
            needed_ns += latency_of(model, type, batch) - latency_of(model, type, 1);
            break;
        }
    }
    return world->now_ns + needed_ns + below(world, 3) - 1;
}

static uint64_t deadline_make(struct world *world, uint32_t model)
{
    uint64_t slo_ns = world->models[model].given.slo_ns;
    switch (below(world, 20)) {
    case 0:
        return world->now_ns + below(world, slo_ns * 3 + 1);
    case 1:
        return below(world, world->now_ns + 1);
    case 2:
        return world->now_ns + slo_ns + below(world, 30000 * MS);
    case 3:
        return world->now_ns / MS * MS + slo_ns; /* equal ones */
    case 4:
    case 5:
        return deadline_exact(world, model);
    default:
        return world->now_ns + slo_ns;
    }
}

static struct fm_sched_event request_make(struct world *world, uint32_t slot, uint32_t model)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
    event.as.request.request = slot;
    event.as.request.model = model;
    event.as.request.deadline_ns = model < world->options.models_max && world->models[model].present
                                       ? deadline_make(world, model)
                                       : world->now_ns;
    event.as.request.priority = (uint32_t)below(world, chance(world, 900) ? 4 : 9);
    return event;
}

/* Requests of one moment, each of a slot of its own. */
static uint32_t arrivals_make(struct world *world, struct fm_sched_event *events, uint32_t count)
{
    uint32_t made = 0;
    uint32_t model = model_pick(world);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = slot_free(world);
        if (slot == FM_SCHED_NONE) {
            break;
        }
        model = chance(world, 500) ? model : model_pick(world);
        events[made] = request_make(world, slot, model);
        world->requests[slot].state = REQUEST_RUNNING; /* reserved */
        made++;
    }
    for (uint32_t i = 0; i < made; i++) {
        world->requests[events[i].as.request.request].state = REQUEST_FREE;
    }
    return made;
}

static struct fm_sched_event accelerator_event(enum fm_sched_event_kind kind, uint32_t id,
                                               uint32_t type, uint32_t permille)
{
    struct fm_sched_event event = {.kind = kind};
    event.as.accelerator.accelerator = id;
    event.as.accelerator.type = type;
    event.as.accelerator.permille = permille;
    return event;
}

/* Something that should not be, or should not be often. Alone in its step. */
static void fault(struct world *world)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_TICK};
    uint32_t slot = (uint32_t)below(world, world->options.requests_max);
    uint32_t id = (uint32_t)below(world, world->options.accelerators_max);
    uint32_t model = (uint32_t)below(world, world->options.models_max);
    uint32_t type = (uint32_t)below(world, world->options.type_count);
    switch (below(world, 12)) {
    case 0: /* a slot in use, or one beyond the limit */
        event = request_make(world, chance(world, 800) ? slot : UINT32_MAX - slot, model);
        break;
    case 1:
        slot = slot_free(world);
        event = request_make(world, slot, chance(world, 500) ? model : FM_SCHED_NONE - model);
        break;
    case 2:
    case 3:
        event.kind = FM_SCHED_EVENT_CANCEL;
        event.as.cancel.request = chance(world, 950) ? slot : UINT32_MAX;
        break;
    case 4:
        event = accelerator_event(FM_SCHED_EVENT_ACCELERATOR_DOWN, id, 0, 0);
        pend(world, world->now_ns + below(world, 500 * MS),
             accelerator_event(FM_SCHED_EVENT_ACCELERATOR_UP, id, type, 0));
        break;
    case 5:
        event = accelerator_event(FM_SCHED_EVENT_ACCELERATOR_UP, id,
                                  chance(world, 900) ? type : type + TYPES_MAX, 0);
        break;
    case 6:
        event = accelerator_event(FM_SCHED_EVENT_ACCELERATOR_SLOW, id, 0,
                                  (uint32_t)below(world, chance(world, 900) ? 5000 : 2000000));
        break;
    case 7:
        event.kind = FM_SCHED_EVENT_BATCH_DONE;
        event.as.batch.accelerator = id;
        event.as.batch.batch = below(world, world->batch_last + 2);
        break;
    case 8:
        event.kind = FM_SCHED_EVENT_MODEL_REMOVED;
        event.as.model_removed = chance(world, 900) ? model : UINT32_MAX;
        break;
    case 9:
    case 10:
        model_set(world, model);
        return;
    default:
        if (chance(world, 50)) {
            event.kind = FM_SCHED_EVENT_DRAIN;
        } else {
            world->now_ns += below(world, 3000 * MS); /* the clock jumps */
        }
        break;
    }
    step(world, &event, 1);
}

/* Everything that is due, then the scheduler's own wish. */
static void due_deliver(struct world *world)
{
    struct fm_sched_event events[STEP_EVENTS_MAX];
    uint32_t count = 0;
    uint32_t most = (uint32_t)between(world, 1, STEP_EVENTS_MAX);
    while (count < most && pending_take(world, world->now_ns, &events[count])) {
        count++;
    }
    if (count > 0 || world->wake_ns <= world->now_ns) {
        step(world, events, count);
    }
}

/* Goes to the next moment at which something happens, by `until_ns` at the latest. */
static bool advance(struct world *world, uint64_t until_ns)
{
    uint64_t next_ns = pending_next_ns(world);
    next_ns = world->wake_ns < next_ns ? world->wake_ns : next_ns;
    if (next_ns > until_ns) {
        bool ends = until_ns < FM_SCHED_NEVER - 1; /* draining has no end of its own */
        world->now_ns = ends && until_ns > world->now_ns ? until_ns : world->now_ns;
        return false;
    }
    world->now_ns = next_ns > world->now_ns ? next_ns : world->now_ns;
    due_deliver(world);
    return true;
}

static void options_make(struct world *world)
{
    struct fm_sched_options *options = &world->options;
    options->policy = (enum fm_sched_policy_kind)below(world, FM_SCHED_POLICY_COUNT_);
    bool small = chance(world, 300);
    options->models_max = (uint32_t)between(world, 1, small ? 3 : MODELS_MAX);
    options->accelerators_max = (uint32_t)between(world, 1, small ? 4 : ACCELERATORS_MAX);
    options->type_count = chance(world, 500) ? 1 : (uint32_t)between(world, 1, TYPES_MAX);
    options->requests_max = (uint32_t)between(world, 4, SLOTS_MAX);
    options->batch_max = (uint32_t)between(world, 1, chance(world, 200) ? 4 : 64);
    if (chance(world, 400)) {
        options->control_ns = below(world, 500000);
        options->data_ns = below(world, 2) * below(world, 100000);
        options->result_ns = below(world, 2 * MS);
    }
    options->attempts_max = (uint32_t)below(world, 4);
    options->learn = chance(world, 200);
    options->admit = chance(world, 200);
}

static void world_create(struct world *world, uint64_t seed, bool validates)
{
    static const uint32_t capacities[] = {1, 1, 2, 3, 8, 64, ACTIONS_MAX, ACTIONS_MAX};
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->validates = validates;
    world->records = !validates;
    fm_random_init(&world->random, seed);
    world->hash = UINT64_C(14695981039346656037);
    options_make(world);
    struct fm_error error;
    MUST(world, fm_sched_create(&world->options, &world->sched, &error) == 0);
    world->options.attempts_max =
        world->options.attempts_max == 0 ? 1 : world->options.attempts_max;
    world->actions.items = world->items;
    world->actions.capacity = capacities[below(world, 8)];
    world->actions.requests = world->action_requests;
    world->actions.request_capacity =
        chance(world, 500) ? world->options.batch_max : FM_SCHED_BATCH_LIMIT;
    if (world->records) {
        fm_sim_recorder_begin(&world->recorder,
                              &(struct fm_sched_record_header){
                                  .options = world->options,
                                  .events_max = STEP_EVENTS_MAX,
                                  .action_capacity = world->actions.capacity,
                                  .request_capacity = world->actions.request_capacity,
                                  .has_actions = true,
                              });
    }
    world->wake_ns = FM_SCHED_NEVER;
    world->now_ns = chance(world, 300) ? 0 : below(world, UINT64_C(1) << 50);
    world->noise_permille = chance(world, 500) ? 0 : (uint32_t)below(world, 500);
    world->faults = chance(world, 700);
    for (uint32_t id = 0; id < world->options.models_max; id++) {
        if (chance(world, 900)) {
            model_set(world, id);
        }
    }
    for (uint32_t id = 0; id < world->options.accelerators_max; id++) {
        struct fm_sched_event event =
            accelerator_event(FM_SCHED_EVENT_ACCELERATOR_UP, id,
                              (uint32_t)below(world, world->options.type_count), 0);
        if (chance(world, 900)) {
            step(world, &event, 1);
        }
    }
    world->gap_ns = between(world, 1, chance(world, 500) ? 300000 : 5 * MS);
}

/* Lets everything come to its end; nobody waits for ever, and no wake is lost. */
static void drain(struct world *world)
{
    uint64_t steps = world->steps;
    while (advance(world, FM_SCHED_NEVER - 1)) {
        MUST(world, world->steps < steps + 200000);
    }
    for (uint32_t slot = 0; slot < world->options.requests_max; slot++) {
        MUST(world, world->requests[slot].state == REQUEST_FREE);
    }
}

/* With all accelerators back and idle, a request with time enough is answered, whatever was before.
 */
static void probe(struct world *world, uint32_t id)
{
    const struct model *model = &world->models[id];
    uint32_t fastest = 0;
    for (uint32_t type = 0; type < world->options.type_count; type++) {
        if (model->given.profiles[type] != NULL &&
            (model->given.profiles[fastest] == NULL ||
             latency_of(model, type, 1) < latency_of(model, fastest, 1))) {
            fastest = type;
        }
    }
    bool there = false;
    for (uint32_t i = 0; i < world->options.accelerators_max; i++) {
        there = there || world->accelerators[i].type == fastest;
    }
    /* `timeout` waits as long as it is told to, whatever the deadline; `nexus` may have no place
     * for a model where there are types, or many models for an accelerator (policy_nexus.c). */
    bool nexus = world->options.policy == FM_SCHED_POLICY_NEXUS &&
                 (world->options.type_count > 1 ||
                  world->options.models_max > 8 * world->options.accelerators_max);
    if (!there || policy_of(world, id) == FM_SCHED_POLICY_TIMEOUT || nexus) {
        return;
    }
    uint32_t slot = slot_free(world);
    struct fm_sched_event event = request_make(world, slot, id);
    event.as.request.deadline_ns = world->now_ns + 3 * least_needed(world, id) + 100 * MS;
    uint64_t done = world->done;
    step(world, &event, 1);
    drain(world);
    MUST(world, world->done == done + 1);
}

static void world_end(struct world *world)
{
    world->faults = false;
    world->noise_permille = 0;
    drain(world);
    for (uint32_t id = 0; id < world->options.accelerators_max; id++) {
        uint32_t type = (uint32_t)below(world, world->options.type_count);
        struct fm_sched_event events[] = {
            accelerator_event(FM_SCHED_EVENT_ACCELERATOR_DOWN, id, 0, 0),
            accelerator_event(FM_SCHED_EVENT_ACCELERATOR_UP, id, type, 0)};
        step(world, events, 2);
    }
    for (uint32_t id = 0; id < world->options.models_max; id++) {
        if (world->models[id].present) {
            probe(world, id);
        }
    }
}

/* What was recorded gives the same actions once more, and the same recording. */
static void replay(struct world *world)
{
    static struct fm_sim_replay found;
    struct fm_sim_recorder again = {0};
    struct fm_error error = {0};
    struct fm_text *bytes = &world->recorder.bytes;
    MUST(world, fm_sim_recorder_finish(&world->recorder, &error) == 0);
    int status = fm_sim_replay(bytes->data, bytes->length, &again, &found, &error);
    if (status != 0 || found.differs) {
        printf("# %s%s\n", error.text, found.difference);
    }
    MUST(world, status == 0 && !found.differs && found.steps == world->steps);
    MUST(world, fm_sim_recorder_finish(&again, &error) == 0);
    MUST(world, again.bytes.length == bytes->length &&
                    memcmp(again.bytes.data, bytes->data, bytes->length) == 0);
    fm_sim_recorder_deinit(&again);
    fm_sim_recorder_deinit(&world->recorder);
}

static uint64_t run_seed(uint64_t seed, bool validates, struct world *world)
{
    alarm(SECONDS_STUCK_MAX);
    world_create(world, seed, validates);
    uint32_t arrivals = 0;
    while (arrivals < ARRIVALS) {
        uint64_t until_ns = world->now_ns + below(world, 2 * world->gap_ns + 1);
        while (world->now_ns < until_ns && advance(world, until_ns)) {
        }
        if (world->faults && chance(world, 100)) {
            fault(world);
        }
        struct fm_sched_event events[STEP_EVENTS_MAX];
        uint32_t burst = chance(world, 30) ? (uint32_t)between(world, 2, STEP_EVENTS_MAX) : 1;
        uint32_t made = arrivals_make(world, events, burst);
        step(world, events, made);
        arrivals += burst;
    }
    world_end(world);
    fm_sched_destroy(world->sched);
    world->sched = NULL;
    if (world->records) {
        replay(world);
    }
    return world->hash;
}

static uint64_t seeds_wanted = 200;
static uint64_t seed_first = 1;

TEST(random_worlds_keep_every_promise)
{
    static struct world world;
    uint64_t done = 0;
    uint64_t dropped = 0;
    uint64_t steps = 0;
    uint64_t hash = 0;
    for (uint64_t seed = seed_first; seed < seed_first + seeds_wanted; seed++) {
        /* Assertions abort: the line says which seed it was. */
        fprintf(stderr, "\rsched: seed %" PRIu64 " ", seed);
        uint64_t first = run_seed(seed, true, &world);
        hash = (hash ^ first) * UINT64_C(1099511628211);
        done += world.done;
        steps += world.steps;
        for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
            dropped += world.dropped[i];
        }
        uint64_t second = run_seed(seed, false, &world);
        CHECK_UINT_EQ(first, second);
    }
    fprintf(stderr, "\n");
    /* The same line from every compiler and build type. */
    printf("# %" PRIu64 " seeds: %" PRIu64 " steps, %" PRIu64 " requests served, %" PRIu64
           " dropped, actions %016" PRIx64 "\n",
           seeds_wanted, steps, done, dropped, hash);
    /* The worlds are neither all lost nor all easy. */
    CHECK(seeds_wanted < 50 || (done * 5 > dropped && dropped * 5 > done));
}

/* One model of a millisecond and one of fifty on two accelerators; the second one is taken away.
 * What was to stay clear of two must not keep the long model from the one that is left. */
TEST(a_smaller_pool_is_not_kept_clear_for_ever)
{
    struct fm_sched_options options = {.policy = FM_SCHED_POLICY_DEFERRED,
                                       .models_max = 2,
                                       .accelerators_max = 2,
                                       .type_count = 1,
                                       .requests_max = 8,
                                       .batch_max = 4};
    struct fm_profile profiles[2] = {0};
    CHECK_INT_EQ(fm_profile_add_affine(&profiles[0], 1000, 999000, 4, NULL), 0);
    CHECK_INT_EQ(fm_profile_add_affine(&profiles[1], 1000, 50 * MS, 4, NULL), 0);
    struct fm_sched *sched = NULL;
    CHECK_INT_EQ(fm_sched_create(&options, &sched, NULL), 0);
    struct fm_sched_action items[8];
    uint32_t requests[8];
    struct fm_sched_actions actions = {
        .items = items, .capacity = 8, .requests = requests, .request_capacity = 8};
    struct fm_sched_model models[2] = {
        {.model = 0, .slo_ns = 5 * MS, .profiles = {&profiles[0]}},
        {.model = 1, .slo_ns = 500 * MS, .profiles = {&profiles[1]}}};
    struct fm_sched_event events[4] = {{.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[0]},
                                       {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[1]},
                                       accelerator_event(FM_SCHED_EVENT_ACCELERATOR_UP, 0, 0, 0),
                                       accelerator_event(FM_SCHED_EVENT_ACCELERATOR_UP, 1, 0, 0)};
    uint32_t taken;
    CHECK_INT_EQ(fm_sched_step(sched, 0, events, 4, &actions, &taken), 0);
    /* A second of the short model, 200 a second. */
    uint64_t now_ns = 0;
    for (uint32_t i = 0; i < 200; i++) {
        now_ns += 5 * MS;
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
        event.as.request.deadline_ns = now_ns + 5 * MS;
        CHECK_INT_EQ(fm_sched_step(sched, now_ns, &event, 1, &actions, &taken), 0);
        CHECK_UINT_EQ(actions.count, 1);
        CHECK_INT_EQ(items[0].kind, FM_SCHED_ACTION_START);
        struct fm_sched_event done = {.kind = FM_SCHED_EVENT_BATCH_DONE};
        done.as.batch.accelerator = items[0].accelerator;
        done.as.batch.batch = items[0].batch;
        CHECK_INT_EQ(fm_sched_step(sched, now_ns + MS, &done, 1, &actions, &taken), 0);
    }
    now_ns += 2 * MS;
    struct fm_sched_event down = accelerator_event(FM_SCHED_EVENT_ACCELERATOR_DOWN, 1, 0, 0);
    CHECK_INT_EQ(fm_sched_step(sched, now_ns, &down, 1, &actions, &taken), 0);
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
    event.as.request.model = 1;
    event.as.request.deadline_ns = now_ns + 500 * MS;
    CHECK_INT_EQ(fm_sched_step(sched, now_ns + 1, &event, 1, &actions, &taken), 0);
    while (actions.count == 0 && actions.wake_ns != FM_SCHED_NEVER) {
        now_ns = actions.wake_ns;
        CHECK_INT_EQ(fm_sched_step(sched, now_ns, NULL, 0, &actions, &taken), 0);
    }
    CHECK_UINT_EQ(actions.count, 1);
    CHECK_INT_EQ(items[0].kind, FM_SCHED_ACTION_START);
    /* Not only when it has become urgent, hundreds of milliseconds later. */
    CHECK(items[0].start_ns < event.as.request.deadline_ns - 450 * MS);
    CHECK(fm_sched_validate(sched));
    fm_sched_destroy(sched);
}

TEST(creation_fails_cleanly_for_every_policy)
{
    for (unsigned policy = 0; policy < FM_SCHED_POLICY_COUNT_; policy++) {
        struct fm_sched_options options = {.policy = (enum fm_sched_policy_kind)policy,
                                           .models_max = 4,
                                           .accelerators_max = 4,
                                           .type_count = 3,
                                           .requests_max = 4,
                                           .batch_max = 4};
        struct fm_sched *sched = NULL;
        int status = FM_ENOMEM;
        for (uint64_t nth = 1; status != 0; nth++) {
            (void)fm_memory_fail_at(nth, 0);
            status = fm_sched_create(&options, &sched, NULL);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status == 0 || status == FM_ENOMEM);
        }
        CHECK(fm_sched_validate(sched));
        fm_sched_destroy(sched);
    }
}

/* Every allocation of creation fails once; so does every one of adding models. */
TEST(allocation_failures_are_survived)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(fm_profile_add_affine(&profile, 1000000, 5000000, 16, NULL), 0);
    struct fm_sched_options options = {.policy = FM_SCHED_POLICY_DEFERRED,
                                       .models_max = 3,
                                       .accelerators_max = 5,
                                       .type_count = 2,
                                       .requests_max = 20,
                                       .batch_max = 8};
    struct fm_sched *sched = NULL;
    struct fm_error error;
    uint64_t nth = 1;
    for (;; nth++) {
        (void)fm_memory_fail_at(nth, 0);
        int status = fm_sched_create(&options, &sched, &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_STR_CONTAINS(error.text, "no memory");
    }
    CHECK(nth > 10);
    struct fm_sched_action items[8];
    uint32_t requests[8];
    struct fm_sched_actions actions = {
        .items = items, .capacity = 8, .requests = requests, .request_capacity = 8};
    struct fm_sched_model model = {.slo_ns = 100 * MS, .profiles = {&profile, &profile}};
    for (uint32_t round = 0; round < 2; round++) {
        struct fm_sched_event events[3] = {{.kind = FM_SCHED_EVENT_TICK},
                                           {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model},
                                           {.kind = FM_SCHED_EVENT_TICK}};
        uint32_t taken = 0;
        for (nth = 1;; nth++) {
            (void)fm_memory_fail_at(nth, 0);
            int status = fm_sched_step(sched, MS, events, 3, &actions, &taken);
            (void)fm_memory_fail_at(0, 0);
            CHECK(fm_sched_validate(sched));
            if (status == 0) {
                break;
            }
            CHECK_INT_EQ(status, FM_ENOMEM);
            CHECK_UINT_EQ(taken, 1);
        }
        CHECK_UINT_EQ(taken, 3);
        CHECK_UINT_EQ(nth, 3); /* one for each type */
    }
    fm_sched_destroy(sched);
}

/* What cannot be is refused with the field's name. */
TEST(options_out_of_range_are_refused)
{
    const struct fm_sched_options good = {
        .models_max = 1, .accelerators_max = 1, .type_count = 1, .requests_max = 1, .batch_max = 1};
    struct fm_sched_options bad[6];
    const char *names[6] = {"models_max",   "accelerators_max", "type_count",
                            "requests_max", "batch_max",        "attempts_max"};
    for (uint32_t i = 0; i < 6; i++) {
        bad[i] = good;
    }
    bad[0].models_max = 0;
    bad[1].accelerators_max = FM_SCHED_ACCELERATORS_LIMIT + 1;
    bad[2].type_count = FM_SCHED_TYPES_LIMIT + 1;
    bad[3].requests_max = 0;
    bad[4].batch_max = FM_SCHED_BATCH_LIMIT + 1;
    bad[5].attempts_max = 256;
    for (uint32_t i = 0; i < 6; i++) {
        struct fm_sched *sched = NULL;
        struct fm_error error;
        CHECK_INT_EQ(fm_sched_create(&bad[i], &sched, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, names[i]);
    }
}

int main(int argc, char **argv)
{
    seeds_wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : seeds_wanted;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
