/*
 * What a matcher and a shard make of single messages: several grants at once, ends that come before
 * an answer, cancels that come too late. Random worlds are in tests/prop/sched_parts.c.
 */
#include "core/sched/parts.h"

#include "core/sched/request_queue.h"
#include "core/sched/state.h"
#include "core/util/assert.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

enum { MODELS = 4, ACCELERATORS = 8, SLOTS = 64, BATCH = 8, ITEMS = 64 };

static struct fm_profile profile;
static struct fm_request_table table;
static struct fm_sched_action items[ITEMS];
static struct fm_sched_message messages[ITEMS];
static uint32_t requests[SLOTS];
static struct fm_sched_actions actions;

static struct fm_sched *part_with(enum fm_sched_policy_kind policy, enum fm_sched_part part,
                                  uint64_t offer_slack_ns, const struct fm_request_table *slots)
{
    struct fm_sched *sched = NULL;
    struct fm_error error;
    const struct fm_sched_options options = {
        .policy = policy,
        .models_max = MODELS,
        .accelerators_max = ACCELERATORS,
        .type_count = 1,
        .requests_max = SLOTS,
        .batch_max = BATCH,
        .attempts_max = 2,
        .part = part,
        .shard_count = part == FM_SCHED_PART_MATCHER ? 1 : 0,
        .offer_slack_ns = offer_slack_ns,
        .requests = part == FM_SCHED_PART_SHARD ? slots : NULL,
    };
    profile = (struct fm_profile){0};
    int status = fm_profile_add_affine(&profile, MS, 4 * MS, BATCH, NULL);
    status = status != 0 ? status : fm_sched_create(&options, &sched, &error);
    FM_ASSERT(status == 0);
    return sched;
}

static struct fm_sched *part_of(enum fm_sched_part part, uint64_t offer_slack_ns)
{
    return part_with(FM_SCHED_POLICY_EAGER, part, offer_slack_ns, &table);
}

static void tell(struct fm_sched *sched, uint64_t now_ns, const struct fm_sched_event *event)
{
    uint32_t taken;
    actions = (struct fm_sched_actions){.items = items,
                                        .capacity = ITEMS,
                                        .requests = requests,
                                        .request_capacity = SLOTS,
                                        .messages = messages,
                                        .message_capacity = ITEMS};
    CHECK_INT_EQ(fm_sched_step(sched, now_ns, event, 1, &actions, &taken), 0);
    CHECK_UINT_EQ(taken, 1);
    CHECK(fm_sched_validate(sched));
}

static void model_set(struct fm_sched *sched, uint32_t id)
{
    const struct fm_sched_model model = {.model = id, .slo_ns = 50 * MS, .profiles = {&profile}};
    const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
    tell(sched, 0, &event);
}

static void accelerator_is(struct fm_sched *sched, uint64_t now_ns, uint32_t id,
                           enum fm_sched_event_kind kind)
{
    const struct fm_sched_event event = {.kind = kind, .as.accelerator = {.accelerator = id}};
    tell(sched, now_ns, &event);
}

static void message(struct fm_sched *sched, uint64_t now_ns, const struct fm_sched_message *given)
{
    const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MESSAGE, .as.message = given};
    tell(sched, now_ns, &event);
}

static void offer(struct fm_sched *sched, uint32_t model, uint64_t key_ns, uint16_t want)
{
    const struct fm_sched_message given = {
        .kind = FM_SCHED_MESSAGE_OFFER,
        .model = model,
        .as.offer = {.key_ns = key_ns,
                     .deadline_ns = key_ns + 10 * MS,
                     .count = want * 4u,
                     .state = FM_SCHED_MODEL_URGENT,
                     .want = want,
                     .known = true},
    };
    message(sched, MS, &given);
}

static uint32_t grants_of(uint32_t model)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < actions.message_count; i++) {
        count += messages[i].kind == FM_SCHED_MESSAGE_GRANT && messages[i].model == model ? 1 : 0;
    }
    return count;
}

TEST(a_model_gets_as_many_as_it_wants_lowest_first)
{
    struct fm_sched *matcher = part_of(FM_SCHED_PART_MATCHER, 0);
    model_set(matcher, 0);
    for (uint32_t id = 0; id < 5; id++) {
        accelerator_is(matcher, 0, id, FM_SCHED_EVENT_ACCELERATOR_UP);
    }
    offer(matcher, 0, 20 * MS, 3);
    CHECK_UINT_EQ(grants_of(0), 3);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_UINT_EQ(messages[i].accelerator, i);
        CHECK_UINT_EQ(messages[i].batch, i + 1);
    }
    /* Out of the running until it has answered all three. */
    offer(matcher, 0, 20 * MS, 1);
    CHECK_UINT_EQ(actions.message_count, 0);
    for (uint32_t i = 0; i < 3; i++) {
        const struct fm_sched_message answer = {
            .kind = FM_SCHED_MESSAGE_ANSWER,
            .accelerator = i,
            .batch = i + 1,
            .as.answer = {.count = 4,
                          .start_ns = MS,
                          .expected_ns = 9 * MS,
                          .offer = {.key_ns = 30 * MS,
                                    .deadline_ns = 40 * MS,
                                    .count = 4,
                                    .state = FM_SCHED_MODEL_URGENT,
                                    .want = 1,
                                    .known = true}},
        };
        message(matcher, 2 * MS, &answer);
        CHECK_UINT_EQ(grants_of(0), i == 2 ? 1 : 0);
    }
    fm_sched_destroy(matcher);
}

TEST(a_model_that_wants_many_leaves_others_theirs)
{
    struct fm_sched *matcher = part_of(FM_SCHED_PART_MATCHER, 0);
    model_set(matcher, 0);
    model_set(matcher, 1);
    offer(matcher, 0, 20 * MS, 16);
    offer(matcher, 1, 21 * MS, 1);
    CHECK_UINT_EQ(actions.message_count, 0); /* nothing is up */
    accelerator_is(matcher, MS, 0, FM_SCHED_EVENT_ACCELERATOR_UP);
    CHECK_UINT_EQ(grants_of(0), 1);
    accelerator_is(matcher, MS, 1, FM_SCHED_EVENT_ACCELERATOR_UP);
    CHECK_UINT_EQ(grants_of(1), 1);
    fm_sched_destroy(matcher);

    matcher = part_of(FM_SCHED_PART_MATCHER, 0);
    model_set(matcher, 0);
    model_set(matcher, 1);
    /* Three come free in one step: two for the first, and the other one's. */
    struct fm_sched_event events[5] = {0};
    struct fm_sched_message offers[2] = {{.kind = FM_SCHED_MESSAGE_OFFER, .model = 0},
                                         {.kind = FM_SCHED_MESSAGE_OFFER, .model = 1}};
    for (uint32_t i = 0; i < 2; i++) {
        offers[i].as.offer = (struct fm_sched_offer){.key_ns = (20 + i) * MS,
                                                     .deadline_ns = 40 * MS,
                                                     .count = 64,
                                                     .state = FM_SCHED_MODEL_URGENT,
                                                     .want = i == 0 ? 16 : 1,
                                                     .known = true};
        events[i].kind = FM_SCHED_EVENT_MESSAGE;
        events[i].as.message = &offers[i];
    }
    for (uint32_t i = 0; i < 3; i++) {
        events[2 + i].kind = FM_SCHED_EVENT_ACCELERATOR_UP;
        events[2 + i].as.accelerator.accelerator = i;
    }
    uint32_t taken;
    actions.message_count = 0;
    CHECK_INT_EQ(fm_sched_step(matcher, MS, events, 5, &actions, &taken), 0);
    CHECK_UINT_EQ(taken, 5);
    CHECK_UINT_EQ(grants_of(0), 2);
    CHECK_UINT_EQ(grants_of(1), 1);
    fm_sched_destroy(matcher);
}

/* The shard has started it and the accelerator is done before the matcher hears of the start. */
TEST(what_was_reported_before_the_answer_counts_and_the_first_report_only)
{
    struct fm_sched *matcher = part_of(FM_SCHED_PART_MATCHER, 0);
    model_set(matcher, 0);
    accelerator_is(matcher, 0, 0, FM_SCHED_EVENT_ACCELERATOR_UP);
    offer(matcher, 0, 20 * MS, 1);
    CHECK_UINT_EQ(grants_of(0), 1);
    const struct fm_sched_event done = {.kind = FM_SCHED_EVENT_BATCH_DONE,
                                        .as.batch = {.accelerator = 0, .batch = 1}};
    tell(matcher, 7 * MS, &done);
    CHECK_UINT_EQ(actions.message_count, 0);
    accelerator_is(matcher, 8 * MS, 0, FM_SCHED_EVENT_ACCELERATOR_DOWN);
    CHECK_UINT_EQ(actions.message_count, 0);
    const struct fm_sched_message answer = {
        .kind = FM_SCHED_MESSAGE_ANSWER,
        .batch = 1,
        .as.answer = {.count = 2, .start_ns = MS, .expected_ns = 7 * MS, .offer = {.known = true}},
    };
    message(matcher, 9 * MS, &answer);
    CHECK_UINT_EQ(actions.message_count, 1);
    CHECK_INT_EQ(messages[0].kind, FM_SCHED_MESSAGE_ENDED);
    CHECK_INT_EQ(messages[0].as.ended.end, FM_SCHED_END_DONE);
    fm_sched_destroy(matcher);
}

TEST(a_cancel_does_not_reach_what_is_another_shards_by_now)
{
    CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
    struct fm_sched *first = part_of(FM_SCHED_PART_SHARD, 0);
    struct fm_sched *second = part_of(FM_SCHED_PART_SHARD, 0);
    model_set(first, 0);
    model_set(second, 1);
    const struct fm_sched_event request = {
        .kind = FM_SCHED_EVENT_REQUEST,
        .as.request = {.request = 5, .model = 1, .deadline_ns = 60 * MS}};
    tell(second, MS, &request);
    const struct fm_sched_event cancel = {.kind = FM_SCHED_EVENT_CANCEL, .as.cancel.request = 5};
    tell(first, MS, &cancel);
    CHECK_UINT_EQ(actions.count, 0);
    struct fm_sched_stats stats;
    fm_sched_stats_get(first, &stats);
    CHECK_UINT_EQ(stats.refused, 1);
    tell(second, MS, &cancel);
    CHECK_UINT_EQ(actions.count, 1);
    CHECK_INT_EQ(items[0].reason, FM_SCHED_DROP_CANCELLED);
    fm_sched_destroy(second);
    fm_sched_destroy(first);
    fm_request_table_deinit(&table);
}

/* A grant that finds nothing is declined, and what the model offers goes with the answer. */
TEST(a_grant_for_nothing_is_declined)
{
    CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
    struct fm_sched *shard = part_of(FM_SCHED_PART_SHARD, MS / 10);
    model_set(shard, 2);
    const struct fm_sched_message grant = {
        .kind = FM_SCHED_MESSAGE_GRANT,
        .model = 2,
        .accelerator = 3,
        .batch = 9,
        .as.grant = {.permille = 1000, .at_ns = MS},
    };
    message(shard, 2 * MS, &grant);
    CHECK_UINT_EQ(actions.count, 0);
    CHECK_UINT_EQ(actions.message_count, 1);
    CHECK_INT_EQ(messages[0].kind, FM_SCHED_MESSAGE_ANSWER);
    CHECK_UINT_EQ(messages[0].batch, 9);
    CHECK_UINT_EQ(messages[0].as.answer.count, 0);
    CHECK(messages[0].as.answer.offer.known &&
          messages[0].as.answer.offer.state == FM_SCHED_MODEL_IDLE);
    fm_sched_destroy(shard);
    fm_request_table_deinit(&table);
}

/* When a shard first says that its model is ready, for requests that come at these times; and how
 * many offers it took. */
static uint64_t ready_after(enum fm_sched_policy_kind policy, uint64_t offer_slack_ns,
                            const uint64_t *arrivals_ns, uint32_t count, uint32_t *ret_offers)
{
    struct fm_request_table slots;
    int status = fm_request_table_init(&slots, SLOTS);
    FM_ASSERT(status == 0);
    struct fm_sched *shard = part_with(policy, FM_SCHED_PART_SHARD, offer_slack_ns, &slots);
    model_set(shard, 0);
    const struct fm_sched_pool pool = {.up_count = 1000, .model_count = 1};
    fm_sched_shard_pool_set(shard, &pool);
    uint64_t ready_ns = FM_SCHED_NEVER;
    uint32_t next = 0;
    *ret_offers = 0;
    while (ready_ns == FM_SCHED_NEVER && (next < count || actions.wake_ns != FM_SCHED_NEVER)) {
        bool arrives = next < count && arrivals_ns[next] <= actions.wake_ns;
        uint64_t now_ns = arrives ? arrivals_ns[next] : actions.wake_ns;
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_TICK};
        if (arrives) {
            event = (struct fm_sched_event){
                .kind = FM_SCHED_EVENT_REQUEST,
                .as.request = {.request = next, .deadline_ns = arrivals_ns[next] + 50 * MS}};
            next++;
        }
        tell(shard, now_ns, &event);
        for (uint32_t i = 0; i < actions.message_count; i++) {
            ++*ret_offers;
            ready_ns = messages[i].as.offer.state == FM_SCHED_MODEL_URGENT ? now_ns : ready_ns;
        }
    }
    fm_sched_destroy(shard);
    fm_request_table_deinit(&slots);
    return ready_ns;
}

TEST(what_is_not_looked_for_is_still_ready_in_time)
{
    static const enum fm_sched_policy_kind policies[] = {
        FM_SCHED_POLICY_SYMPHONY, FM_SCHED_POLICY_LATEST, FM_SCHED_POLICY_TIMEOUT,
        FM_SCHED_POLICY_TARGET, FM_SCHED_POLICY_DEFERRED};
    struct fm_random random;
    fm_random_init(&random, 3);
    uint32_t exact_offers = 0;
    uint32_t lax_offers = 0;
    for (uint32_t round = 0; round < 500; round++) {
        enum fm_sched_policy_kind policy = policies[round % FM_COUNT_OF(policies)];
        uint64_t arrivals_ns[20];
        uint32_t count = 1 + (uint32_t)fm_random_below(&random, FM_COUNT_OF(arrivals_ns));
        uint64_t now_ns = MS;
        for (uint32_t i = 0; i < count; i++) {
            now_ns += fm_random_below(&random, 8 * MS);
            arrivals_ns[i] = now_ns;
        }
        uint64_t slack_ns = 1 + fm_random_below(&random, 6 * MS);
        uint32_t offers;
        uint64_t exact_ns = ready_after(policy, 0, arrivals_ns, count, &offers);
        exact_offers += offers;
        CHECK_UINT_EQ(ready_after(policy, slack_ns, arrivals_ns, count, &offers), exact_ns);
        lax_offers += offers;
        CHECK(exact_ns != FM_SCHED_NEVER);
    }
    CHECK(lax_offers < exact_offers);
}

/* Both parts see batches end later than was promised, and promise more from then on. */
TEST(matcher_and_shard_learn_the_same)
{
    CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
    struct fm_sched *shard = part_of(FM_SCHED_PART_SHARD, 0);
    struct fm_sched *matcher = part_of(FM_SCHED_PART_MATCHER, 0);
    shard->options.learn = true;
    matcher->options.learn = true;
    model_set(matcher, 0);
    model_set(shard, 0);
    accelerator_is(matcher, 0, 0, FM_SCHED_EVENT_ACCELERATOR_UP);
    uint64_t now_ns = MS;
    for (uint64_t batch = 1; batch <= 600; batch++) {
        const struct fm_sched_event request = {
            .kind = FM_SCHED_EVENT_REQUEST,
            .as.request = {.request = 0, .deadline_ns = now_ns + 50 * MS}};
        tell(shard, now_ns, &request);
        for (uint32_t way = 0; way < 3; way++) { /* offer, grant, answer */
            CHECK_UINT_EQ(actions.message_count, 1);
            const struct fm_sched_message given = messages[0];
            message(way == 1 ? shard : matcher, now_ns, &given);
        }
        now_ns += 5 * MS * 13 / 10;
        const struct fm_sched_event done = {.kind = FM_SCHED_EVENT_BATCH_DONE,
                                            .as.batch = {.accelerator = 0, .batch = batch}};
        tell(matcher, now_ns, &done);
        CHECK_UINT_EQ(actions.message_count, 1);
        const struct fm_sched_message ended = messages[0];
        message(shard, now_ns, &ended);
    }
    uint64_t learnt_ns = shard->models[0].tables[0].latency_ns[1];
    CHECK_UINT_EQ(matcher->models[0].tables[0].latency_ns[1], learnt_ns);
    CHECK(learnt_ns > 5 * MS * 125 / 100 && learnt_ns < 5 * MS * 135 / 100);
    CHECK_UINT_EQ(shard->models[0].least_ns, shard->models[0].tables[0].total_ns[1]);
    fm_sched_destroy(matcher);
    fm_sched_destroy(shard);
    fm_request_table_deinit(&table);
}

/* A request of model 0, on its way from the shard's offer to its answer. With `behind` the grant
 * comes when the accelerator is about to be free. Returns when the batch should be done. */
static uint64_t request_run(struct fm_sched *shard, struct fm_sched *matcher, uint64_t *now_ns,
                            uint32_t slot, bool behind)
{
    const struct fm_sched_event request = {
        .kind = FM_SCHED_EVENT_REQUEST,
        .as.request = {.request = slot, .deadline_ns = *now_ns + 50 * MS}};
    tell(shard, *now_ns, &request);
    struct fm_sched_message given = messages[0];
    message(matcher, *now_ns, &given);
    if (behind) {
        const struct fm_sched_event tick = {.kind = FM_SCHED_EVENT_TICK};
        *now_ns = actions.wake_ns;
        tell(matcher, *now_ns, &tick);
    }
    FM_ASSERT(actions.message_count == 1);
    given = messages[0];
    message(shard, *now_ns, &given);
    FM_ASSERT(actions.count == 1 && actions.message_count == 1);
    uint64_t expected_ns = items[0].expected_ns;
    given = messages[0];
    message(matcher, *now_ns, &given);
    return expected_ns;
}

/* The first of two batches ends late, and the one behind it takes what it should: the shard, which
 * does not know when that began, is told how long it ran. */
TEST(what_stood_behind_a_late_batch_is_learnt_right)
{
    CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
    struct fm_sched *shard = part_of(FM_SCHED_PART_SHARD, 0);
    struct fm_sched *matcher = part_of(FM_SCHED_PART_MATCHER, 0);
    struct fm_sched *both[] = {matcher, shard};
    for (uint32_t i = 0; i < 2; i++) {
        both[i]->options.learn = true;
        both[i]->options.control_ns = 2 * MS;
        model_set(both[i], 0);
    }
    accelerator_is(matcher, 0, 0, FM_SCHED_EVENT_ACCELERATOR_UP);
    uint64_t now_ns = MS;
    uint64_t batch = 0;
    for (uint32_t round = 0; round < 600; round++) {
        uint64_t expected_ns = request_run(shard, matcher, &now_ns, 0, false);
        (void)request_run(shard, matcher, &now_ns, 1, true);
        now_ns = expected_ns + 4 * MS;
        for (uint32_t i = 0; i < 2; i++) {
            const struct fm_sched_event done = {.kind = FM_SCHED_EVENT_BATCH_DONE,
                                                .as.batch = {.accelerator = 0, .batch = ++batch}};
            tell(matcher, now_ns, &done);
            CHECK_UINT_EQ(actions.message_count, 1);
            const struct fm_sched_message ended = messages[0];
            message(shard, now_ns, &ended);
            now_ns += 5 * MS;
        }
    }
    uint64_t learnt_ns = matcher->models[0].tables[0].latency_ns[1];
    CHECK_UINT_EQ(shard->models[0].tables[0].latency_ns[1], learnt_ns);
    CHECK(learnt_ns > 5 * MS && learnt_ns < 9 * MS); /* between the two */
    fm_sched_destroy(matcher);
    fm_sched_destroy(shard);
    fm_request_table_deinit(&table);
}

TEST(what_is_told_is_never_off_by_more_than_the_slack)
{
    struct fm_random random;
    fm_random_init(&random, 5);
    uint32_t looks = 0;
    for (uint32_t round = 0; round < 500; round++) {
        CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
        uint64_t slack_ns = 1 + fm_random_below(&random, 4 * MS);
        struct fm_sched *shard = part_of(FM_SCHED_PART_SHARD, slack_ns);
        model_set(shard, 0);
        const struct fm_sched_pool pool = {.up_count = 1000, .model_count = 1};
        fm_sched_shard_pool_set(shard, &pool);
        uint64_t now_ns = MS;
        for (uint32_t i = 0; i < 40; i++) {
            now_ns += fm_random_below(&random, 3 * MS);
            const struct fm_sched_event request = {
                .kind = FM_SCHED_EVENT_REQUEST,
                .as.request = {.request = i, .deadline_ns = now_ns + 50 * MS}};
            tell(shard, now_ns, &request);
            const struct fm_sched_model_entry *model = &shard->models[0];
            const struct fm_sched_offer *told = &shard->offers[0];
            if (model->state != FM_SCHED_MODEL_URGENT) {
                continue;
            }
            uint32_t count = model->queue.count;
            uint32_t batch = count < model->batch_max ? count : model->batch_max;
            uint64_t key_ns =
                fm_sched_candidate_deadline_ns(shard, 0) - model->tables[0].total_ns[batch];
            CHECK((key_ns > told->key_ns ? key_ns - told->key_ns : told->key_ns - key_ns) <=
                  slack_ns);
            CHECK(fm_sched_offer_want(model, count) < 2u * told->want || told->want > 1);
            looks++;
        }
        fm_sched_destroy(shard);
        fm_request_table_deinit(&table);
    }
    CHECK(looks > 10000);
}

TEST_MAIN()
