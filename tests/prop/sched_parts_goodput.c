/*
 * `deferred` goes by the demand of all models, which parts know only as last exchanged, and with a
 * slack they do not look at every request: what they lose by it, against one scheduler for all.
 * Messages arrive at once here; whole and parts see the same requests.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "core/sched/parts.h"
#include "core/sched/request_queue.h"
#include "core/util/assert.h"
#include "core/util/id_heap.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define US UINT64_C(1000)
#define MS (1000 * US)

enum { ACCELERATORS = 8, SHARDS = 2, SLOTS = 8192, ITEMS = 1024, MESSAGES = 4096 };

/* alpha 1053 us, beta 5072 us and 25 ms, as the reference is measured with. */
#define ALPHA_NS   (1053 * US)
#define BETA_NS    (5072 * US)
#define SLO_NS     (25 * MS)
#define SECONDS    12
#define WARMUP_NS  (3000 * MS)
#define NEVER_PART UINT32_MAX

struct part {
    struct fm_sched *sched;
    uint64_t wake_ns;
};

struct world {
    struct part parts[SHARDS + 1]; /* shards, then the matcher; or the whole one alone */
    uint32_t part_count;
    struct fm_request_table table;
    struct fm_sched_message messages[MESSAGES]; /* on their way, in order */
    uint32_t message_first;
    uint32_t message_count;
    uint64_t now_ns;
    uint64_t batches[ACCELERATORS];
    struct fm_id_heap ends; /* accelerators */
    uint64_t arrivals_ns[SLOTS];
    uint32_t free_slots[SLOTS];
    uint32_t free_count;
    uint64_t good;
    uint64_t bad;
    uint32_t slots_of[ACCELERATORS][64];
    uint32_t counts[ACCELERATORS];
};

static bool parted(const struct world *world)
{
    return world->part_count > 1;
}

static void slot_end(struct world *world, uint32_t slot, bool good)
{
    if (world->arrivals_ns[slot] >= WARMUP_NS) {
        *(good ? &world->good : &world->bad) += 1;
    }
    world->free_slots[world->free_count++] = slot;
}

static void act(struct world *world, const struct fm_sched_actions *actions)
{
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct fm_sched_action *action = &actions->items[i];
        if (action->kind == FM_SCHED_ACTION_DROP) {
            slot_end(world, action->request, false);
        } else if (action->kind == FM_SCHED_ACTION_START) {
            uint32_t id = action->accelerator;
            world->batches[id] = action->batch;
            world->counts[id] = action->request_count;
            for (uint32_t k = 0; k < action->request_count; k++) {
                uint32_t slot = actions->requests[action->request_first + k];
                world->slots_of[id][k] = slot;
                FM_ASSERT(action->expected_ns <= world->arrivals_ns[slot] + SLO_NS);
            }
            fm_id_heap_set(&world->ends, id, action->expected_ns);
        }
    }
    for (uint32_t i = 0; i < actions->message_count; i++) {
        FM_ASSERT(world->message_count < MESSAGES);
        uint32_t at = (world->message_first + world->message_count++) % MESSAGES;
        world->messages[at] = actions->messages[i];
    }
}

static void step(struct world *world, uint32_t index, const struct fm_sched_event *event)
{
    static struct fm_sched_action items[ITEMS];
    static uint32_t requests[ITEMS];
    static struct fm_sched_message messages[ITEMS];
    struct part *part = &world->parts[index];
    uint32_t count = event != NULL ? 1 : 0;
    do {
        struct fm_sched_actions actions = {.items = items,
                                           .capacity = ITEMS,
                                           .requests = requests,
                                           .request_capacity = ITEMS,
                                           .messages = messages,
                                           .message_capacity = ITEMS};
        uint32_t taken;
        int status = fm_sched_step(part->sched, world->now_ns, event, count, &actions, &taken);
        FM_ASSERT(status == 0);
        count -= taken;
        part->wake_ns = actions.wake_ns;
        act(world, &actions);
    } while (count > 0 || part->wake_ns <= world->now_ns);
}

static uint32_t part_of(const struct world *world, uint32_t model)
{
    return parted(world) ? model % SHARDS : 0;
}

static uint32_t matcher_of(const struct world *world)
{
    return world->part_count - 1;
}

static void deliver(struct world *world)
{
    while (world->message_count > 0) {
        struct fm_sched_message message = world->messages[world->message_first];
        world->message_first = (world->message_first + 1) % MESSAGES;
        world->message_count--;
        bool up = message.kind == FM_SCHED_MESSAGE_OFFER || message.kind == FM_SCHED_MESSAGE_ANSWER;
        const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MESSAGE,
                                             .as.message = &message};
        step(world, up ? matcher_of(world) : part_of(world, message.model), &event);
    }
}

static void exchange(struct world *world)
{
    struct fm_sched *matcher = world->parts[matcher_of(world)].sched;
    struct fm_sched_pool pool;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct fm_sched_load load;
        step(world, i, NULL);
        fm_sched_shard_load_get(world->parts[i].sched, &load);
        fm_sched_matcher_load_set(matcher, i, &load);
    }
    step(world, matcher_of(world), NULL);
    fm_sched_matcher_pool_get(matcher, &pool);
    for (uint32_t i = 0; i < SHARDS; i++) {
        fm_sched_shard_pool_set(world->parts[i].sched, &pool);
    }
}

static void populate(struct world *world, uint32_t models, const struct fm_profile *profile)
{
    for (uint32_t id = 0; id < models; id++) {
        const struct fm_sched_model model = {.model = id, .slo_ns = SLO_NS, .profiles = {profile}};
        const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
        step(world, matcher_of(world), &event);
        if (parted(world)) {
            step(world, part_of(world, id), &event);
        }
    }
    for (uint32_t id = 0; id < ACCELERATORS; id++) {
        const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_ACCELERATOR_UP,
                                             .as.accelerator = {.accelerator = id}};
        step(world, matcher_of(world), &event);
    }
    deliver(world);
}

static void world_create(struct world *world, uint32_t models, bool parts, uint64_t slack_ns)
{
    struct fm_sched_options options = {.policy = FM_SCHED_POLICY_DEFERRED,
                                       .models_max = models,
                                       .accelerators_max = ACCELERATORS,
                                       .type_count = 1,
                                       .requests_max = SLOTS,
                                       .batch_max = 64};
    *world = (struct world){.part_count = parts ? SHARDS + 1 : 1};
    int status = fm_request_table_init(&world->table, SLOTS);
    status = status != 0 ? status : fm_id_heap_init(&world->ends, ACCELERATORS, NULL);
    for (uint32_t i = 0; status == 0 && i < world->part_count; i++) {
        bool shard = parts && i < SHARDS;
        options.part = shard   ? FM_SCHED_PART_SHARD
                       : parts ? FM_SCHED_PART_MATCHER
                               : FM_SCHED_PART_WHOLE;
        options.shard_count = parts && !shard ? SHARDS : 0;
        options.requests = shard ? &world->table : NULL;
        options.offer_slack_ns = shard ? slack_ns : 0;
        status = fm_sched_create(&options, &world->parts[i].sched, NULL);
        world->parts[i].wake_ns = FM_SCHED_NEVER;
    }
    struct fm_profile profile = {0};
    status = status != 0 ? status : fm_profile_add_affine(&profile, ALPHA_NS, BETA_NS, 64, NULL);
    FM_ASSERT(status == 0);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        world->free_slots[world->free_count++] = slot;
    }
    populate(world, models, &profile);
}

static void world_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->part_count; i++) {
        fm_sched_destroy(world->parts[i].sched);
    }
    fm_id_heap_deinit(&world->ends);
    fm_request_table_deinit(&world->table);
}

static void end_first(struct world *world)
{
    uint32_t id = fm_id_heap_first(&world->ends).id;
    fm_id_heap_remove(&world->ends, id);
    uint32_t slots[64];
    uint32_t count = world->counts[id];
    for (uint32_t k = 0; k < count; k++) {
        slots[k] = world->slots_of[id][k];
    }
    const struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_BATCH_DONE,
        .as.batch = {.accelerator = id, .batch = world->batches[id]}};
    step(world, matcher_of(world), &event);
    deliver(world);
    for (uint32_t k = 0; k < count; k++) {
        slot_end(world, slots[k], true);
    }
}

static void arrive(struct world *world, uint32_t model)
{
    FM_ASSERT(world->free_count > 0);
    uint32_t slot = world->free_slots[--world->free_count];
    world->arrivals_ns[slot] = world->now_ns;
    const struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_REQUEST,
        .as.request = {.request = slot, .model = model, .deadline_ns = world->now_ns + SLO_NS}};
    step(world, part_of(world, model), &event);
    deliver(world);
}

/* The share of a Poisson stream's requests that is not served in time. */
static double bad_rate(uint32_t models, double rate_hz, bool parts, uint64_t slack_ns)
{
    static struct world world;
    struct fm_random random;
    fm_random_init(&random, 5);
    world_create(&world, models, parts, slack_ns);
    double arrival_ns = 1;
    uint64_t exchange_ns = FM_SCHED_EXCHANGE_NS;
    while (world.now_ns < SECONDS * 1000 * MS) {
        uint64_t next_ns = (uint64_t)arrival_ns;
        uint32_t wakes = NEVER_PART;
        for (uint32_t i = 0; i < world.part_count; i++) {
            if (world.parts[i].wake_ns <= next_ns) {
                next_ns = world.parts[i].wake_ns;
                wakes = i;
            }
        }
        bool ends = !fm_id_heap_empty(&world.ends) && fm_id_heap_first(&world.ends).key <= next_ns;
        next_ns = ends ? fm_id_heap_first(&world.ends).key : next_ns;
        bool exchanges = parts && exchange_ns <= next_ns;
        next_ns = exchanges ? exchange_ns : next_ns;
        world.now_ns = next_ns;
        if (exchanges) {
            exchange(&world);
            exchange_ns += FM_SCHED_EXCHANGE_NS;
            deliver(&world);
        } else if (ends) {
            end_first(&world);
        } else if (wakes != NEVER_PART) {
            step(&world, wakes, NULL);
            deliver(&world);
        } else {
            arrive(&world, (uint32_t)fm_random_below(&random, models));
            arrival_ns += -log1p(-fm_random_unit(&random)) * 1e9 / rate_hz;
        }
    }
    double bad = (double)world.bad / (double)(world.good + world.bad);
    world_destroy(&world);
    return bad;
}

TEST(parts_serve_about_as_much_as_one_scheduler)
{
    const struct {
        uint32_t models;
        double rate_hz; /* of all, somewhat below and above what eight accelerators can do */
    } loads[] = {{1, 5300}, {1, 6000}, {8, 4000}, {8, 5000}, {40, 3000}};
    for (uint32_t i = 0; i < FM_COUNT_OF(loads); i++) {
        double whole = bad_rate(loads[i].models, loads[i].rate_hz, false, 0);
        double exact = bad_rate(loads[i].models, loads[i].rate_hz, true, 0);
        double lax = bad_rate(loads[i].models, loads[i].rate_hz, true, SLO_NS / 16);
        printf("# %" PRIu32 " models, %.0f/s: whole %.2f %%, parts %.2f %%, with a slack %.2f %%\n",
               loads[i].models, loads[i].rate_hz, whole * 100, exact * 100, lax * 100);
        CHECK(exact <= whole * 1.1 + 0.005);
        CHECK(lax <= whole * 1.1 + 0.005);
    }
}

TEST_MAIN()
