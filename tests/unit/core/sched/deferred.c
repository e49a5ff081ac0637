/*
 * The deferred policy in small worlds: holding, clearance, few accelerators at low load, rests,
 * and what becomes of the load that is too much.
 * Times are in ms.
 */
#include "core/sched/sched.h"

#include "core/util/assert.h"
#include "tests/harness/test.h"

#define MS           UINT64_C(1000000)
#define REQUESTS_MAX 16384u
#define BATCH_MAX    64u

struct world {
    struct fm_sched *sched;
    struct fm_sched_action items[256];
    uint32_t requests[1024];
    struct fm_sched_actions actions;
    uint32_t next_request;
    uint32_t starts; /* of the last step */
    uint32_t drops;
    uint32_t drops_of[2][FM_SCHED_DROP_COUNT_]; /* by whether the slot is odd, and by reason */
    struct fm_sched_action last_start;
    /* What runs, by accelerator; batch 0: nothing. */
    struct fm_sched_action running[8];
};

static void step(struct world *world, uint64_t now_ns, const struct fm_sched_event *event)
{
    uint32_t taken = 0;
    world->starts = 0;
    do {
        CHECK_INT_EQ(fm_sched_step(world->sched, now_ns, event, event != NULL ? 1 : 0,
                                   &world->actions, &taken),
                     0);
        event = NULL;
        for (uint32_t i = 0; i < world->actions.count; i++) {
            const struct fm_sched_action *action = &world->actions.items[i];
            if (action->kind == FM_SCHED_ACTION_START) {
                world->running[action->accelerator] = *action;
                world->last_start = *action;
                world->starts++;
            } else {
                world->drops++;
                world->drops_of[action->request % 2][action->reason]++;
            }
        }
    } while (world->actions.wake_ns <= now_ns);
    CHECK(fm_sched_validate(world->sched));
}

/* Lets time pass, with batches ending when they should and the scheduler called when it asks. */
static void advance(struct world *world, uint64_t until_ns)
{
    for (;;) {
        uint64_t next_ns = world->actions.wake_ns;
        uint32_t ends = UINT32_MAX;
        for (uint32_t i = 0; i < 8; i++) {
            if (world->running[i].batch != 0 && world->running[i].expected_ns <= next_ns) {
                next_ns = world->running[i].expected_ns;
                ends = i;
            }
        }
        if (next_ns > until_ns) {
            return;
        }
        struct fm_sched_event done = {.kind = FM_SCHED_EVENT_BATCH_DONE};
        if (ends != UINT32_MAX) {
            done.as.batch.accelerator = ends;
            done.as.batch.batch = world->running[ends].batch;
            world->running[ends].batch = 0;
        }
        step(world, next_ns, ends != UINT32_MAX ? &done : NULL);
    }
}

/* The first `fast` of them are of type 0, the others of type 1. */
static void open_mixed_world(struct world *world, uint32_t accelerators, uint32_t fast)
{
    *world = (struct world){0};
    world->actions = (struct fm_sched_actions){.items = world->items,
                                               .capacity = 256,
                                               .requests = world->requests,
                                               .request_capacity = 1024};
    const struct fm_sched_options options = {.policy = FM_SCHED_POLICY_DEFERRED,
                                             .models_max = 8,
                                             .accelerators_max = 8,
                                             .type_count = fast < accelerators ? 2 : 1,
                                             .requests_max = REQUESTS_MAX,
                                             .batch_max = BATCH_MAX};
    struct fm_error error;
    CHECK_INT_EQ(fm_sched_create(&options, &world->sched, &error), 0);
    for (uint32_t i = 0; i < accelerators; i++) {
        struct fm_sched_event up = {.kind = FM_SCHED_EVENT_ACCELERATOR_UP};
        up.as.accelerator.accelerator = i;
        up.as.accelerator.type = i < fast ? 0 : 1;
        step(world, 0, &up);
    }
}

static void open_world(struct world *world, uint32_t accelerators)
{
    open_mixed_world(world, accelerators, accelerators);
}

/* l(b) = b * alpha + beta. */
static void add_model(struct world *world, uint32_t id, uint64_t alpha_ms, uint64_t beta_ms,
                      uint64_t slo_ms, uint32_t batch_max, enum fm_sched_goal goal)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(fm_profile_add_affine(&profile, alpha_ms * MS, beta_ms * MS, BATCH_MAX, NULL), 0);
    const struct fm_sched_model model = {.model = id,
                                         .slo_ns = slo_ms * MS,
                                         .goal = goal,
                                         .batch_max = batch_max,
                                         .profiles = {&profile}};
    struct fm_sched_event set = {.kind = FM_SCHED_EVENT_MODEL_SET};
    set.as.model = &model;
    step(world, 0, &set);
}

static void request(struct world *world, uint64_t now_ns, uint32_t model, uint64_t slo_ms)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
    event.as.request.request = world->next_request++;
    event.as.request.model = model;
    event.as.request.deadline_ns = now_ns + slo_ms * MS;
    CHECK(world->next_request <= REQUESTS_MAX);
    step(world, now_ns, &event);
}

TEST(an_idle_accelerator_beyond_what_the_load_needs_has_a_rest)
{
    struct world world;
    open_world(&world, 4);
    step(&world, 0, NULL);
    CHECK(fm_sched_rest_until_ns(world.sched, 0, 3) == FM_SCHED_NEVER); /* no model at all */
    add_model(&world, 0, 1, 4, 40, 0, FM_SCHED_GOAL_EFFICIENCY);
    /* A single request can wait 40 - 5 = 35 ms; its half octave begins at 2^25 ns. */
    uint64_t patience_ns = UINT64_C(1) << 25;
    CHECK(fm_sched_rest_until_ns(world.sched, 0, 0) == 0); /* the load's own */
    CHECK(fm_sched_rest_until_ns(world.sched, 0, 1) == patience_ns);
    CHECK(fm_sched_rest_until_ns(world.sched, 7 * MS, 3) == 7 * MS + patience_ns);
    CHECK(fm_sched_rest_until_ns(world.sched, 0, 7) == 0); /* not up */
    CHECK(fm_sched_rest_until_ns(world.sched, 0, 99) == 0);
    /* A queued candidate will take accelerator 0; with a second one, 1 is needed too. */
    request(&world, MS, 0, 40);
    CHECK_INT_EQ(world.starts, 0);
    CHECK(fm_sched_rest_until_ns(world.sched, MS, 1) == MS + patience_ns);
    add_model(&world, 1, 1, 4, 40, 0, FM_SCHED_GOAL_EFFICIENCY);
    request(&world, MS, 1, 40);
    CHECK(fm_sched_rest_until_ns(world.sched, MS, 1) == MS);
    CHECK(fm_sched_rest_until_ns(world.sched, MS, 2) == MS + patience_ns);
    fm_sched_destroy(world.sched);
}

TEST(goals_decide_how_long_a_lone_request_waits)
{
    /* l(1) = 5, l(2) = 6, SLO 40. */
    const struct {
        enum fm_sched_goal goal;
        uint64_t start_ms_low;
        uint64_t start_ms_high;
    } cases[] = {
        {FM_SCHED_GOAL_LATENCY, 10, 10},
        {FM_SCHED_GOAL_BALANCED, 10, 10}, /* accelerator 0 is in use anyway */
        /* frontrun = 50 - 6; there is nobody else to wait for. */
        {FM_SCHED_GOAL_EFFICIENCY, 43, 44},
    };
    /* However patient the client is: it does not wait longer than the SLO promises. */
    static const uint64_t deadlines_ms[] = {40, 60000};
    for (size_t i = 0; i < FM_COUNT_OF(cases) * FM_COUNT_OF(deadlines_ms); i++) {
        size_t goal = i / FM_COUNT_OF(deadlines_ms);
        struct world world;
        open_world(&world, 2);
        add_model(&world, 0, 1, 4, 40, 0, cases[goal].goal);
        request(&world, 10 * MS, 0, deadlines_ms[i % FM_COUNT_OF(deadlines_ms)]);
        advance(&world, 100 * MS);
        CHECK(world.last_start.batch == 1);
        CHECK(world.last_start.start_ns >= cases[goal].start_ms_low * MS);
        CHECK(world.last_start.start_ns <= cases[goal].start_ms_high * MS);
        CHECK_INT_EQ(world.drops, 0);
        fm_sched_destroy(world.sched);
    }
}

TEST(long_batches_leave_room_for_tight_models)
{
    /* Model 0: one request every 4 ms, l(b) = b + 1, 10 ms. Model 1: batches of at most four that
     * take 100 ms, and so many requests that it would fill both accelerators. */
    struct world world;
    open_world(&world, 2);
    add_model(&world, 0, 1, 1, 10, 0, FM_SCHED_GOAL_BALANCED);
    add_model(&world, 1, 1, 96, 1000, 4, FM_SCHED_GOAL_BALANCED);
    uint32_t long_most = 0;
    for (uint64_t now_ms = 1; now_ms < 1000; now_ms++) {
        advance(&world, now_ms * MS);
        if (now_ms % 4 == 0) {
            request(&world, now_ms * MS, 0, 10);
        }
        if (now_ms > 100 && now_ms % 20 == 0) {
            request(&world, now_ms * MS, 1, 1000);
        }
        uint32_t longs = 0;
        for (uint32_t i = 0; i < 2; i++) {
            /* One that ends within the 8 ms that the tight model can wait is in nobody's way. */
            longs += world.running[i].batch != 0 && world.running[i].model == 1 &&
                     world.running[i].expected_ns > (now_ms + 8) * MS;
        }
        long_most = longs > long_most ? longs : long_most;
    }
    CHECK_INT_EQ(long_most, 1);
    CHECK_INT_EQ(world.drops, 0);
    struct fm_sched_model_stats stats;
    fm_sched_model_stats_get(world.sched, 1, &stats);
    CHECK(stats.batches > 0);
    fm_sched_destroy(world.sched);
}

TEST(batches_are_no_larger_than_pays)
{
    /* Ten requests at once, 400 ms. l(b) = 10 b + 1: two have 0.95 of the throughput of 39, eight
     * have 0.99. l(b) = b + 10: all ten. */
    const struct {
        uint64_t alpha_ms;
        uint64_t beta_ms;
        uint32_t batch;
    } cases[] = {{10, 0, 1}, {10, 1, 8}, {1, 10, 10}};
    for (size_t i = 0; i < FM_COUNT_OF(cases); i++) {
        struct world world;
        open_world(&world, 1);
        add_model(&world, 0, cases[i].alpha_ms, cases[i].beta_ms, 400, 0, FM_SCHED_GOAL_BALANCED);
        /* The accelerator is busy with the first one when the others come. */
        for (uint32_t j = 0; j <= 10; j++) {
            request(&world, MS, 0, 400);
        }
        advance(&world, MS + 11 * MS + 1);
        CHECK_UINT_EQ(world.last_start.request_count, cases[i].batch);
        fm_sched_destroy(world.sched);
    }
}

TEST(demand_is_counted_in_the_types_that_there_are)
{
    /* l(b) = b + 9 on type 0, four times that on type 1; 200 requests a second, 90 ms. On one of
     * type 0 and three of type 1 that is more than on four of type 0. */
    uint32_t busy_milli[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct world world;
        open_mixed_world(&world, 4, i == 0 ? 1 : 3);
        struct fm_profile fast = {0};
        struct fm_profile slow = {0};
        CHECK_INT_EQ(fm_profile_add_affine(&fast, MS, 9 * MS, BATCH_MAX, NULL), 0);
        CHECK_INT_EQ(fm_profile_add_affine(&slow, 4 * MS, 36 * MS, BATCH_MAX, NULL), 0);
        const struct fm_sched_model model = {
            .model = 0, .slo_ns = 90 * MS, .profiles = {&fast, &slow}};
        struct fm_sched_event set = {.kind = FM_SCHED_EVENT_MODEL_SET};
        set.as.model = &model;
        step(&world, 0, &set);
        for (uint64_t now_ms = 5; now_ms < 2000; now_ms += 5) {
            advance(&world, now_ms * MS);
            request(&world, now_ms * MS, 0, 90);
        }
        struct fm_sched_stats stats;
        fm_sched_stats_get(world.sched, &stats);
        busy_milli[i] = stats.busy_milli;
        CHECK_INT_EQ(world.drops, 0);
        fm_sched_destroy(world.sched);
    }
    CHECK(busy_milli[0] > busy_milli[1] * 3 / 2);
}

TEST(low_load_stays_on_the_lowest_accelerators)
{
    /* One request every 5 ms, l(b) = b + 9, 60 ms: less than one accelerator's work. */
    struct world world;
    open_world(&world, 8);
    add_model(&world, 0, 1, 9, 60, 0, FM_SCHED_GOAL_BALANCED);
    uint32_t highest = 0;
    for (uint64_t now_ms = 5; now_ms < 2000; now_ms += 5) {
        advance(&world, now_ms * MS);
        request(&world, now_ms * MS, 0, 60);
        for (uint32_t i = 0; i < 8; i++) {
            highest = world.running[i].batch != 0 && i > highest ? i : highest;
        }
    }
    CHECK(highest <= 1);
    CHECK_INT_EQ(world.drops, 0);
    fm_sched_destroy(world.sched);
}

/* Those that are down do not count among the lowest. */
TEST(low_load_stays_on_the_lowest_accelerators_that_are_up)
{
    struct world world;
    open_world(&world, 8);
    add_model(&world, 0, 1, 9, 60, 0, FM_SCHED_GOAL_BALANCED);
    for (uint32_t id = 0; id < 5; id++) {
        struct fm_sched_event down = {.kind = FM_SCHED_EVENT_ACCELERATOR_DOWN};
        down.as.accelerator.accelerator = id;
        step(&world, 1, &down);
    }
    request(&world, MS, 0, 60);
    CHECK_UINT_EQ(world.starts, 1); /* at once: not held back as if beyond what is in use */
    CHECK_UINT_EQ(world.last_start.accelerator, 5);
    CHECK_UINT_EQ(world.last_start.start_ns, MS);
    CHECK_UINT_EQ(fm_sched_rest_until_ns(world.sched, MS, 6) > MS, true);
    fm_sched_destroy(world.sched);
}

TEST(losses_widen_the_accelerators_in_use)
{
    /* One request every 5 ms, l(b) = b + 9, 60 ms; later one in ten can not be met. */
    struct world world;
    open_world(&world, 8);
    add_model(&world, 0, 1, 9, 60, 0, FM_SCHED_GOAL_BALANCED);
    struct fm_sched_stats stats;
    for (uint64_t now_ms = 5; now_ms < 2000; now_ms += 5) {
        advance(&world, now_ms * MS);
        request(&world, now_ms * MS, 0, 60);
    }
    fm_sched_stats_get(world.sched, &stats);
    uint32_t before = stats.accelerators_active;
    CHECK(before <= 2);
    for (uint64_t now_ms = 2000; now_ms < 6000; now_ms += 5) {
        advance(&world, now_ms * MS);
        request(&world, now_ms * MS, 0, now_ms % 50 == 0 ? 5 : 60);
    }
    fm_sched_stats_get(world.sched, &stats);
    CHECK(stats.accelerators_active > before);
    CHECK(stats.accelerators_active < 8);
    fm_sched_destroy(world.sched);
}

/* The share of a model's requests that were dropped, in percent. */
static uint64_t dropped_percent(const struct world *world, uint32_t model)
{
    struct fm_sched_model_stats stats;
    fm_sched_model_stats_get(world->sched, model, &stats);
    uint64_t dropped = stats.dropped[FM_SCHED_DROP_LATE] + stats.dropped[FM_SCHED_DROP_SACRIFICED];
    return dropped * 100 / stats.requests;
}

TEST(past_saturation_long_batches_do_not_starve_short_ones)
{
    /* Models 0 and 1: one request every ms, l(b) = b + 2, 20 ms: 1.2 accelerators' work each.
     * Models 2 to 5: one every 10 ms, l(b) = 10 b + 40, 800 ms: 1.1 each. All on four, which is 1.7
     * times what they can do: something like 40 % of the work has to be let go. */
    struct world world;
    open_world(&world, 4);
    for (uint32_t i = 0; i < 6; i++) {
        add_model(&world, i, i < 2 ? 1 : 10, i < 2 ? 2 : 40, i < 2 ? 20 : 800, 0,
                  FM_SCHED_GOAL_BALANCED);
    }
    for (uint64_t now_ms = 1; now_ms < 6000; now_ms++) {
        advance(&world, now_ms * MS);
        for (uint32_t i = 0; i < 6; i++) {
            if (i < 2 || now_ms % 10 == i) {
                request(&world, now_ms * MS, i, i < 2 ? 20 : 800);
            }
        }
    }
    for (uint32_t i = 0; i < 6; i++) {
        CHECK(dropped_percent(&world, i) < (i < 2 ? 40 : 70));
    }
    fm_sched_destroy(world.sched);
}

/* Half of the load has to be let go, and one in two requests is more important than the other. */
TEST(past_saturation_the_less_important_are_let_go)
{
    struct world world;
    open_world(&world, 1);
    add_model(&world, 0, 1, 9, 60, 0, FM_SCHED_GOAL_BALANCED);
    for (uint64_t now_ms = 1; now_ms < 10000; now_ms++) {
        advance(&world, now_ms * MS);
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
        event.as.request.request = world.next_request++;
        event.as.request.priority = event.as.request.request % 2 == 0 ? 1 : 2;
        event.as.request.deadline_ns = now_ms * MS + 60 * MS;
        step(&world, now_ms * MS, &event);
    }
    uint32_t outranked = world.drops_of[1][FM_SCHED_DROP_OUTRANKED];
    CHECK(outranked > 10000 / 5 && outranked < 10000 / 2);
    const uint32_t *important = world.drops_of[0];
    CHECK_UINT_EQ(important[FM_SCHED_DROP_OUTRANKED], 0);
    CHECK(important[FM_SCHED_DROP_LATE] + important[FM_SCHED_DROP_SACRIFICED] < 5000 / 20);
    /* With nobody waiting the least important is served. */
    advance(&world, 12000 * MS);
    world.drops = 0;
    for (uint64_t now_ms = 12000; now_ms < 13000; now_ms += 100) {
        request(&world, now_ms * MS, 0, 60);
        advance(&world, (now_ms + 99) * MS);
    }
    CHECK_UINT_EQ(world.drops, 0);
    fm_sched_destroy(world.sched);
}

/* So many requests 2 ms apart, and that again every 500 ms. Returns the size of the first batch of
 * the last time. */
static uint32_t first_batch_of_bursts(struct world *world, uint32_t size, uint64_t from_ms,
                                      uint32_t times)
{
    uint32_t first = 0;
    for (uint32_t burst = 0; burst < times; burst++) {
        uint64_t begin_ns = (from_ms + burst * 500) * MS;
        first = 0;
        for (uint32_t i = 0; i < size; i++) {
            advance(world, begin_ns + i * 2 * MS);
            request(world, begin_ns + i * 2 * MS, 0, 20);
            first = first == 0 && world->starts > 0 ? world->last_start.request_count : first;
        }
        advance(world, begin_ns + 100 * MS);
        first = first == 0 ? world->last_start.request_count : first;
    }
    return first;
}

TEST(in_bursts_a_tight_model_waits_for_those_who_come)
{
    struct world world;
    open_world(&world, 4);
    add_model(&world, 0, 1, 9, 20, 0, FM_SCHED_GOAL_BALANCED);
    /* What the rate tells is that nobody joins. */
    CHECK_UINT_EQ(first_batch_of_bursts(&world, 4, 500, 1), 1);
    CHECK_UINT_EQ(first_batch_of_bursts(&world, 4, 1000, 20), 4);
    CHECK_UINT_EQ(world.drops, 0);
    fm_sched_destroy(world.sched);

    /* Single requests that are as many. */
    open_world(&world, 4);
    add_model(&world, 0, 1, 9, 20, 0, FM_SCHED_GOAL_BALANCED);
    for (uint64_t now_ms = 125; now_ms < 10000; now_ms += 125) {
        request(&world, now_ms * MS, 0, 20);
        CHECK_UINT_EQ(world.starts, 1);
        advance(&world, (now_ms + 100) * MS);
    }
    fm_sched_destroy(world.sched);

    /* Where there is time to wait afterwards, the first starts at once. */
    open_world(&world, 4);
    add_model(&world, 0, 1, 9, 40, 0, FM_SCHED_GOAL_BALANCED);
    CHECK_UINT_EQ(first_batch_of_bursts(&world, 4, 500, 20), 1);
    fm_sched_destroy(world.sched);
}

TEST_MAIN()
