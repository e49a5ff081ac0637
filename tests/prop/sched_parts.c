/*
 * The scheduler in parts (core/sched/parts.h), in random worlds from a seed.
 *
 * Same: where messages arrive at once, a matcher with any number of shards decides as one whole
 * scheduler does: the same batches of the same requests on the same accelerators at the same times,
 * and the same drops. Late: where messages take their time, each in order on its own way, and
 * accelerators fail, slow down and come back, models come and go and requests are cancelled, every
 * request still gets exactly one outcome, no accelerator is given a batch it has no place for, what
 * starts can be met, the parts stay valid, and everything drains. Usage: sched_parts [seed-count]
 * [first-seed].
 */
#include "core/sched/parts.h"
#include "core/sched/request_queue.h"
#include "core/util/assert.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum {
    SHARDS_MAX = 4,
    MODELS = 12,
    ACCELERATORS = 10,
    TYPES = 2,
    SLOTS = 300,
    BATCH = 32,
    REQUESTS = 600,
    LINK = 4096,
    ITEMS = 256,
    ENDS = 64
};
#define MS UINT64_C(1000000)

struct link {
    struct fm_sched_message messages[LINK];
    uint64_t due_ns[LINK];
    uint32_t first;
    uint32_t count;
};

struct end {
    uint64_t at_ns; /* NEVER: none */
    uint64_t batch;
    uint32_t accelerator;
    bool fails;
    bool lost; /* its accelerator went */
};

struct request {
    bool live;
    uint64_t batch; /* in which it runs; 0: none */
    uint32_t model;
    uint64_t deadline_ns;
};

struct place {
    bool up;
    uint64_t lost_until; /* batches up to this number went with it */
};

struct world {
    struct fm_random random;
    uint64_t seed;
    struct fm_sched_options options;
    struct fm_sched *whole; /* NULL: parts with delays only */
    struct fm_sched *matcher;
    struct fm_sched *shards[SHARDS_MAX];
    uint32_t shard_count;
    struct fm_request_table table;
    struct link up[SHARDS_MAX];   /* to the matcher */
    struct link down[SHARDS_MAX]; /* from it */
    uint64_t delay_max_ns;
    uint64_t now_ns;
    uint64_t wake_ns;
    uint64_t exchange_ns;
    struct request requests[SLOTS];
    struct place places[ACCELERATORS];
    struct end ends[ENDS];
    struct fm_profile profiles[MODELS][TYPES];
    struct fm_sched_model models[MODELS];
    bool present[MODELS];
    uint64_t offer_slack_ns;                 /* without a whole one */
    uint64_t whole_batches[ACCELERATORS][2]; /* the whole one's numbers of what runs */
    uint64_t digest_whole;                   /* of the step */
    uint64_t digest_parts;
    uint64_t started;
    uint64_t dropped;
    uint64_t done;
    uint64_t granted; /* the last batch's number */
};

static struct fm_sched_action items[ITEMS];
static uint32_t action_capacity = ITEMS; /* small ones make steps stop in the middle of an event */
static uint32_t slots[BATCH * 8];
static struct fm_sched_message out[ITEMS];

#define MUST(world, condition)                                                               \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            printf("# seed %" PRIu64 ", %s, %" PRIu64 " ns: %s:%d: %s\n", (world)->seed,     \
                   fm_sched_policy_name((world)->options.policy), (world)->now_ns, __FILE__, \
                   __LINE__, #condition);                                                    \
            fflush(stdout);                                                                  \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

static uint64_t between(struct world *world, uint64_t least, uint64_t most)
{
    return least + fm_random_below(&world->random, most - least + 1);
}

static bool chance(struct world *world, uint32_t permille)
{
    return fm_random_below(&world->random, 1000) < permille;
}

static struct fm_sched_actions actions_make(uint32_t message_capacity)
{
    return (struct fm_sched_actions){.items = items,
                                     .capacity = action_capacity,
                                     .requests = slots,
                                     .request_capacity = FM_COUNT_OF(slots),
                                     .messages = out,
                                     .message_capacity = message_capacity};
}

static uint32_t shard_of(const struct world *world, uint32_t model)
{
    return model % world->shard_count;
}

/* --- what the world makes of actions -----------------------------------------------------------
 */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

/* Actions of a step are a set: parts have no common order. Numbers of batches are left out. */
static uint64_t digest(const struct fm_sched_action *action)
{
    uint64_t hash = mix(mix(1 + (uint64_t)action->kind, action->model), action->request);
    if (action->kind == FM_SCHED_ACTION_DROP) {
        return mix(hash, action->reason);
    }
    hash = mix(mix(mix(hash, action->accelerator), action->start_ns), action->expected_ns);
    for (uint32_t i = 0; i < action->request_count; i++) {
        hash = mix(hash, slots[action->request_first + i]);
    }
    return hash;
}

static void end_plan(struct world *world, const struct fm_sched_action *action)
{
    uint32_t index = 0;
    while (index < ENDS && world->ends[index].at_ns != FM_SCHED_NEVER) {
        index++;
    }
    MUST(world, index < ENDS);
    bool late = world->whole == NULL;
    world->ends[index] = (struct end){
        .at_ns = action->expected_ns + (late ? between(world, 0, MS) : 0),
        .batch = action->batch,
        .accelerator = action->accelerator,
        .fails = late && chance(world, 30),
        .lost = action->batch <= world->places[action->accelerator].lost_until,
    };
    /* The one behind another is not reported before it. */
    for (uint32_t i = 0; i < ENDS; i++) {
        if (world->ends[i].at_ns != FM_SCHED_NEVER && i != index &&
            world->ends[i].accelerator == action->accelerator &&
            world->ends[i].at_ns >= world->ends[index].at_ns) {
            world->ends[index].at_ns = world->ends[i].at_ns + 1;
        }
    }
}

static void act_start(struct world *world, const struct fm_sched_action *action)
{
    bool leads = world->options.control_ns + world->options.data_ns > 0;
    uint32_t running = 0;
    for (uint32_t i = 0; i < ENDS; i++) {
        const struct end *end = &world->ends[i];
        bool runs = end->at_ns != FM_SCHED_NEVER && !end->lost;
        running += runs && end->accelerator == action->accelerator ? 1u : 0u;
    }
    MUST(world, running < (leads ? 2u : 1u));
    for (uint32_t i = 0; i < action->request_count; i++) {
        struct request *request = &world->requests[slots[action->request_first + i]];
        MUST(world, request->live && request->batch == 0 && request->model == action->model);
        MUST(world, action->expected_ns + world->options.result_ns <= request->deadline_ns);
        bool lost = action->batch <= world->places[action->accelerator].lost_until;
        request->batch = lost ? 0 : action->batch;
    }
    world->started += action->request_count;
    end_plan(world, action);
}

static void act(struct world *world, const struct fm_sched_actions *actions)
{
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct fm_sched_action *action = &actions->items[i];
        if (action->kind == FM_SCHED_ACTION_START) {
            act_start(world, action);
        } else if (action->kind == FM_SCHED_ACTION_DROP) {
            struct request *request = &world->requests[action->request];
            MUST(world, request->live);
            *request = (struct request){0};
            world->dropped++;
        } else if (action->kind == FM_SCHED_ACTION_PREEMPT) {
            MUST(world, action->batch <= world->places[action->accelerator].lost_until);
        } else {
            MUST(world, action->kind == FM_SCHED_ACTION_DONE);
            for (uint32_t slot = 0; slot < action->request_count; slot++) {
                struct request *request = &world->requests[slots[action->request_first + slot]];
                MUST(world, request->live && request->batch == action->batch);
                *request = (struct request){0};
                world->done++;
            }
        }
        if (action->kind == FM_SCHED_ACTION_START || action->kind == FM_SCHED_ACTION_DROP) {
            world->digest_parts += digest(action);
        }
    }
}

/* --- carrying messages -------------------------------------------------------------------------
 */

static void link_put(struct world *world, struct link *link, const struct fm_sched_message *message)
{
    MUST(world, link->count < LINK);
    uint64_t due_ns =
        world->now_ns +
        (world->delay_max_ns > 0 ? fm_random_below(&world->random, world->delay_max_ns) : 0);
    uint32_t last = (link->first + link->count - 1) % LINK;
    due_ns = link->count > 0 && link->due_ns[last] > due_ns ? link->due_ns[last] : due_ns;
    uint32_t at = (link->first + link->count++) % LINK;
    link->messages[at] = *message;
    link->due_ns[at] = due_ns;
}

static void send(struct world *world, uint32_t shard, bool up,
                 const struct fm_sched_actions *actions)
{
    for (uint32_t i = 0; i < actions->message_count; i++) {
        const struct fm_sched_message *message = &actions->messages[i];
        uint32_t to = up ? shard : shard_of(world, message->model);
        link_put(world, up ? &world->up[to] : &world->down[to], message);
        world->granted = message->kind == FM_SCHED_MESSAGE_GRANT ? message->batch : world->granted;
    }
}

/* Steps a part until it has taken the events and asks for nothing more. */
static void part_step(struct world *world, uint32_t shard, bool matcher,
                      const struct fm_sched_event *events, uint32_t count,
                      uint32_t message_capacity)
{
    struct fm_sched *part = matcher ? world->matcher : world->shards[shard];
    for (uint32_t calls = 0;; calls++) {
        MUST(world, calls < 10000);
        struct fm_sched_actions actions = actions_make(message_capacity);
        uint32_t taken;
        MUST(world, fm_sched_step(part, world->now_ns, events, count, &actions, &taken) == 0);
        MUST(world, fm_random_below(&world->random, 16) > 0 || fm_sched_validate(part));
        events += taken;
        count -= taken;
        act(world, &actions);
        send(world, shard, !matcher, &actions);
        if (count == 0 && actions.wake_ns > world->now_ns) {
            world->wake_ns = actions.wake_ns < world->wake_ns ? actions.wake_ns : world->wake_ns;
            return;
        }
        if (matcher && count == 0 && actions.message_count == message_capacity) {
            return; /* one grant at a time: its answer first */
        }
    }
}

/* Takes a message that is due from a link; false: none is. */
static bool link_take(struct world *world, struct link *link, struct fm_sched_message *ret_message)
{
    if (link->count == 0 || link->due_ns[link->first] > world->now_ns) {
        return false;
    }
    *ret_message = link->messages[link->first];
    link->first = (link->first + 1) % LINK;
    link->count--;
    return true;
}

/* Tells the matcher `events` and all messages that are due. In a world with a whole one it may
 * grant once: the whole one looks at a model again before it grants to the next. */
static bool matcher_step(struct world *world, const struct fm_sched_event *events, uint32_t count)
{
    static struct fm_sched_event all[LINK];
    static struct fm_sched_message messages[LINK];
    uint32_t message_count = 0;
    uint32_t room = 1;
    for (uint32_t i = 0; i < count; i++) {
        all[i] = events[i];
        room += events[i].kind == FM_SCHED_EVENT_BATCH_DONE ? 1u : 0u;
    }
    for (uint32_t i = 0; i < world->shard_count; i++) {
        while (link_take(world, &world->up[i], &messages[message_count])) {
            all[count++] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MESSAGE,
                                                   .as.message = &messages[message_count++]};
        }
    }
    part_step(world, 0, true, all, count, world->whole != NULL ? room : ITEMS);
    return message_count > 0;
}

static void exchange(struct world *world)
{
    struct fm_sched_pool pool;
    for (uint32_t i = 0; i < world->shard_count; i++) {
        struct fm_sched_load load;
        fm_sched_shard_load_get(world->shards[i], &load);
        fm_sched_matcher_load_set(world->matcher, i, &load);
    }
    fm_sched_matcher_pool_get(world->matcher, &pool);
    for (uint32_t i = 0; i < world->shard_count; i++) {
        fm_sched_shard_pool_set(world->shards[i], &pool);
    }
}

/* Messages to and fro until none is due. */
static void settle(struct world *world)
{
    bool moved = true;
    while (moved) {
        moved = false;
        for (uint32_t i = 0; i < world->shard_count; i++) {
            struct fm_sched_message message;
            while (link_take(world, &world->down[i], &message)) {
                struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MESSAGE,
                                               .as.message = &message};
                part_step(world, i, false, &event, 1, ITEMS);
                moved = true;
            }
        }
        moved = matcher_step(world, NULL, 0) || moved;
    }
}

/* --- one moment --------------------------------------------------------------------------------
 */

/* A grant that is not used takes a number, too: the whole one's are others. */
static void whole_number(struct world *world, struct fm_sched_event *event)
{
    if (event->kind == FM_SCHED_EVENT_BATCH_DONE) {
        uint64_t *batches = world->whole_batches[event->as.batch.accelerator];
        event->as.batch.batch = batches[0];
        batches[0] = batches[1];
        batches[1] = 0;
    }
}

static void whole_step(struct world *world, struct fm_sched_event *events, uint32_t count)
{
    world->digest_whole = 0;
    uint32_t taken;
    for (uint32_t i = 0; i < count; i++) {
        whole_number(world, &events[i]);
    }
    do {
        struct fm_sched_actions actions = actions_make(0);
        MUST(world,
             fm_sched_step(world->whole, world->now_ns, events, count, &actions, &taken) == 0);
        events += taken;
        count -= taken;
        for (uint32_t i = 0; i < actions.count; i++) {
            const struct fm_sched_action *action = &actions.items[i];
            world->digest_whole += digest(action);
            if (action->kind == FM_SCHED_ACTION_START) {
                uint64_t *batches = world->whole_batches[action->accelerator];
                batches[batches[0] != 0 ? 1 : 0] = action->batch;
            }
        }
        world->wake_ns = actions.wake_ns < world->wake_ns ? actions.wake_ns : world->wake_ns;
    } while (count > 0 || world->wake_ns <= world->now_ns);
}

static uint32_t event_model(const struct world *world, const struct fm_sched_event *event)
{
    if (event->kind == FM_SCHED_EVENT_REQUEST) {
        return event->as.request.model;
    }
    if (event->kind == FM_SCHED_EVENT_CANCEL) {
        return world->requests[event->as.cancel.request].model;
    }
    if (event->kind == FM_SCHED_EVENT_MODEL_SET) {
        return event->as.model->model;
    }
    return event->kind == FM_SCHED_EVENT_MODEL_REMOVED ? event->as.model_removed : FM_SCHED_NONE;
}

static void moment(struct world *world, struct fm_sched_event *events, uint32_t count)
{
    world->wake_ns = FM_SCHED_NEVER;
    world->digest_parts = 0;
    if (world->whole != NULL || world->now_ns >= world->exchange_ns) {
        exchange(world);
        world->exchange_ns = world->now_ns + FM_SCHED_EXCHANGE_NS;
    }
    for (uint32_t i = 0; i < world->shard_count; i++) {
        part_step(world, i, false, NULL, 0, ITEMS);
    }
    struct fm_sched_event others[ENDS + 8];
    uint32_t other_count = 0;
    others[0] = (struct fm_sched_event){0}; /* gcc does not see that nobody reads it */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t model = event_model(world, &events[i]);
        if (model != FM_SCHED_NONE) {
            part_step(world, shard_of(world, model), false, &events[i], 1, ITEMS);
        }
        if (events[i].kind != FM_SCHED_EVENT_REQUEST && events[i].kind != FM_SCHED_EVENT_CANCEL) {
            others[other_count++] = events[i];
        }
    }
    (void)matcher_step(world, others, other_count);
    settle(world);
    if (world->whole != NULL) {
        uint64_t wake_ns = world->wake_ns;
        world->wake_ns = FM_SCHED_NEVER;
        whole_step(world, events, count);
        world->wake_ns = wake_ns < world->wake_ns ? wake_ns : world->wake_ns;
        MUST(world, world->digest_whole == world->digest_parts);
    }
    for (uint32_t i = 0; i < world->shard_count; i++) {
        const struct link *links[] = {&world->up[i], &world->down[i]};
        for (uint32_t link = 0; link < 2; link++) {
            uint64_t due_ns = links[link]->due_ns[links[link]->first];
            if (links[link]->count > 0 && due_ns < world->wake_ns) {
                world->wake_ns = due_ns;
            }
        }
    }
}

/* --- the world ---------------------------------------------------------------------------------
 */

static void model_make(struct world *world, uint32_t id)
{
    struct fm_sched_model *model = &world->models[id];
    *model = (struct fm_sched_model){.model = id};
    for (uint32_t type = 0; type < world->options.type_count; type++) {
        world->profiles[id][type] = (struct fm_profile){0};
        MUST(world, fm_profile_add_affine(&world->profiles[id][type], between(world, 50000, 2 * MS),
                                          between(world, 0, 8 * MS),
                                          (uint32_t)between(world, 2, BATCH), NULL) == 0);
        model->profiles[type] = &world->profiles[id][type];
    }
    uint64_t one_ns = fm_profile_latency_ns(&world->profiles[id][0], model->statistic, 1);
    model->slo_ns = one_ns * between(world, 2, 12) + world->options.control_ns +
                    world->options.result_ns + 2 * world->delay_max_ns;
    model->queue_delay_ns = fm_random_below(&world->random, model->slo_ns);
    model->preferred[0] = 4;
    world->present[id] = true;
}

static void part_create(struct world *world, enum fm_sched_part part, struct fm_sched **ret_sched)
{
    struct fm_sched_options options = world->options;
    options.part = part;
    options.shard_count = part == FM_SCHED_PART_MATCHER ? world->shard_count : 0;
    options.requests = part == FM_SCHED_PART_SHARD ? &world->table : NULL;
    options.offer_slack_ns =
        part == FM_SCHED_PART_SHARD && world->whole == NULL ? world->offer_slack_ns : 0;
    struct fm_error error;
    int status = fm_sched_create(&options, ret_sched, &error);
    if (status != 0) {
        printf("# %s\n", error.text);
    }
    MUST(world, status == 0);
}

static void world_create(struct world *world, uint64_t seed, bool late)
{
    static const enum fm_sched_policy_kind exact[] = {
        FM_SCHED_POLICY_EAGER,  FM_SCHED_POLICY_LATEST,   FM_SCHED_POLICY_TIMEOUT,
        FM_SCHED_POLICY_TARGET, FM_SCHED_POLICY_SYMPHONY,
    };
    memset(world, 0, sizeof *world);
    fm_random_init(&world->random, seed);
    world->seed = seed;
    bool deferred = late && chance(world, 600);
    world->options = (struct fm_sched_options){
        .policy = deferred ? FM_SCHED_POLICY_DEFERRED
                           : exact[fm_random_below(&world->random, FM_COUNT_OF(exact))],
        .models_max = MODELS,
        .accelerators_max = ACCELERATORS,
        .type_count = (uint32_t)between(world, 1, TYPES),
        .requests_max = SLOTS,
        .batch_max = BATCH,
        .control_ns = chance(world, 300) ? between(world, 1, MS) : 0,
        .data_ns = chance(world, 200) ? between(world, 1, MS / 20) : 0,
        .result_ns = chance(world, 300) ? between(world, 1, MS) : 0,
        .attempts_max = (uint32_t)between(world, 1, 3),
        .admit = late && chance(world, 200), /* judged by demand as last told */
        .learn = late && chance(world, 300),
    };
    world->shard_count = (uint32_t)between(world, 1, SHARDS_MAX);
    action_capacity = late && chance(world, 300) ? (uint32_t)between(world, 1, 4) : ITEMS;
    world->delay_max_ns = late ? between(world, 1, 2 * MS) : 0;
    world->offer_slack_ns = late && chance(world, 500) ? between(world, 1, 10 * MS) : MS / 20;
    MUST(world, fm_request_table_init(&world->table, SLOTS) == 0);
    if (!late) {
        part_create(world, FM_SCHED_PART_WHOLE, &world->whole);
    }
    part_create(world, FM_SCHED_PART_MATCHER, &world->matcher);
    for (uint32_t i = 0; i < world->shard_count; i++) {
        part_create(world, FM_SCHED_PART_SHARD, &world->shards[i]);
    }
    for (uint32_t i = 0; i < ENDS; i++) {
        world->ends[i].at_ns = FM_SCHED_NEVER;
    }
}

static void world_destroy(struct world *world)
{
    fm_sched_destroy(world->whole);
    fm_sched_destroy(world->matcher);
    for (uint32_t i = 0; i < world->shard_count; i++) {
        fm_sched_destroy(world->shards[i]);
    }
    fm_request_table_deinit(&world->table);
}

/* The requests of a batch that failed or was lost may run again. */
static void batch_forget(struct world *world, uint64_t batch)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        world->requests[slot].batch =
            world->requests[slot].batch == batch ? 0 : world->requests[slot].batch;
    }
}

static void accelerator_turn(struct world *world, uint32_t id, struct fm_sched_event *event)
{
    struct place *place = &world->places[id];
    *event = (struct fm_sched_event){.as.accelerator = {.accelerator = id, .permille = 1000}};
    event->kind = place->up ? FM_SCHED_EVENT_ACCELERATOR_DOWN : FM_SCHED_EVENT_ACCELERATOR_UP;
    event->as.accelerator.type =
        (uint32_t)fm_random_below(&world->random, world->options.type_count);
    place->up = !place->up;
    if (place->up) {
        return;
    }
    place->lost_until = world->granted;
    for (uint32_t i = 0; i < ENDS; i++) {
        struct end *end = &world->ends[i];
        if (end->at_ns != FM_SCHED_NEVER && end->accelerator == id) {
            end->lost = true;
            batch_forget(world, end->batch);
        }
    }
}

/* What ends by now. The end of a batch that went with its accelerator is told all the same. */
static uint32_t ends_due(struct world *world, struct fm_sched_event *events)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < ENDS; i++) {
        struct end *end = &world->ends[i];
        if (end->at_ns > world->now_ns) {
            continue;
        }
        events[count] = (struct fm_sched_event){.kind = end->fails ? FM_SCHED_EVENT_BATCH_FAILED
                                                                   : FM_SCHED_EVENT_BATCH_DONE};
        events[count].as.batch.accelerator = end->accelerator;
        events[count++].as.batch.batch = end->batch;
        end->at_ns = FM_SCHED_NEVER;
        if (end->fails) {
            batch_forget(world, end->batch);
        }
    }
    return count;
}

static uint32_t requests_due(struct world *world, struct fm_sched_event *events)
{
    uint32_t count = (uint32_t)between(world, 1, 4);
    uint32_t made = 0;
    for (uint32_t slot = 0; slot < SLOTS && made < count; slot++) {
        uint32_t model = (uint32_t)fm_random_below(&world->random, MODELS);
        if (world->requests[slot].live || !world->present[model]) {
            continue;
        }
        const struct fm_sched_model *of = &world->models[model];
        uint64_t deadline_ns = world->now_ns + of->slo_ns;
        deadline_ns += chance(world, 200) ? fm_random_below(&world->random, of->slo_ns) : 0;
        world->requests[slot] =
            (struct request){.live = true, .model = model, .deadline_ns = deadline_ns};
        events[made] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_REQUEST};
        events[made].as.request.request = slot;
        events[made].as.request.model = model;
        events[made].as.request.priority = (uint32_t)fm_random_below(&world->random, 2);
        events[made++].as.request.deadline_ns = deadline_ns;
    }
    return made;
}

/* One of the things that go wrong, or none. */
static uint32_t trouble(struct world *world, struct fm_sched_event *event)
{
    uint32_t id = (uint32_t)fm_random_below(&world->random, ACCELERATORS);
    uint32_t model = (uint32_t)fm_random_below(&world->random, MODELS);
    uint32_t slot = (uint32_t)fm_random_below(&world->random, SLOTS);
    switch (fm_random_below(&world->random, 60)) {
    case 0:
        accelerator_turn(world, id, event);
        return 1;
    case 1:
        *event = (struct fm_sched_event){
            .kind = FM_SCHED_EVENT_ACCELERATOR_SLOW,
            .as.accelerator = {.accelerator = id, .permille = (uint32_t)between(world, 500, 3000)}};
        return 1;
    case 2:
        if (world->present[model] && chance(world, 500)) {
            world->present[model] = false;
            *event = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_REMOVED,
                                             .as.model_removed = model};
        } else {
            /* New, or as another one of the same number. */
            world->models[model].slo_ns += world->present[model] ? MS / 10 : 0;
            world->present[model] = true;
            *event = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_SET,
                                             .as.model = &world->models[model]};
        }
        return 1;
    case 3:
    case 4:
    case 5:
        if (world->requests[slot].live && world->requests[slot].batch == 0) {
            *event =
                (struct fm_sched_event){.kind = FM_SCHED_EVENT_CANCEL, .as.cancel.request = slot};
            return 1;
        }
        return 0;
    default:
        return 0;
    }
}

static void populate(struct world *world)
{
    for (uint32_t id = 0; id < MODELS; id++) {
        model_make(world, id);
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET,
                                       .as.model = &world->models[id]};
        moment(world, &event, 1);
    }
    for (uint32_t id = 0; id < ACCELERATORS; id++) {
        struct fm_sched_event event;
        accelerator_turn(world, id, &event);
        moment(world, &event, 1);
    }
}

static uint64_t next_ns(struct world *world, uint64_t arrival_ns)
{
    uint64_t time_ns = arrival_ns < world->wake_ns ? arrival_ns : world->wake_ns;
    for (uint32_t i = 0; i < ENDS; i++) {
        time_ns = world->ends[i].at_ns < time_ns ? world->ends[i].at_ns : time_ns;
    }
    return time_ns > world->now_ns ? time_ns : world->now_ns + 1;
}

static uint32_t live_count(const struct world *world)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        count += world->requests[slot].live ? 1u : 0u;
    }
    return count;
}

/* Whatever is down comes back, so that what is queued can end. */
static void drain(struct world *world)
{
    uint64_t until_ns = world->now_ns + 60000 * MS;
    while (live_count(world) > 0) {
        struct fm_sched_event events[ENDS];
        world->now_ns = next_ns(world, FM_SCHED_NEVER - 1);
        MUST(world, world->now_ns < until_ns);
        moment(world, events, ends_due(world, events));
    }
}

static uint64_t run(uint64_t seed, bool late)
{
    static struct world world;
    world_create(&world, seed, late);
    populate(&world);
    uint64_t arrival_ns = world.now_ns + 1;
    uint64_t gap_ns = between(&world, 20000, 3 * MS);
    uint64_t requests = 0;
    while (requests < REQUESTS) {
        struct fm_sched_event events[ENDS + 8];
        world.now_ns = next_ns(&world, arrival_ns);
        uint32_t count = ends_due(&world, events);
        if (world.now_ns >= arrival_ns) {
            uint32_t made = requests_due(&world, &events[count]);
            requests += made > 0 ? made : 1;
            count += made;
            arrival_ns = world.now_ns + fm_random_below(&world.random, 2 * gap_ns);
        }
        if (late) {
            count += trouble(&world, &events[count]);
        }
        moment(&world, events, count);
    }
    drain(&world);
    MUST(&world, world.done > 0);
    uint64_t hash = mix(mix(world.done, world.dropped), world.started);
    world_destroy(&world);
    return hash;
}

static uint64_t seed_first = 0;
static uint64_t seed_count = 200;

TEST(without_delays_parts_decide_as_one)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        (void)run(seed, false);
    }
}

TEST(with_delays_and_faults_every_request_has_one_outcome)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        uint64_t hash = run(seed, true);
        if (seed % 16 == 0) {
            CHECK_UINT_EQ(run(seed, true), hash);
        }
    }
}

int main(int argc, char **argv)
{
    seed_count = argc > 1 ? strtoull(argv[1], NULL, 10) : seed_count;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
