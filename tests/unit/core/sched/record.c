/*
 * The recording's codec: every kind of event and action with extreme values comes back as it went
 * in, and no damage is believed.
 */
#include "core/sched/record.h"

#include "core/util/hash.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

enum { BYTES_MAX = 1 << 16, EVENTS_MAX = 64, ACTIONS_MAX = 16, STARTED_MAX = 64, STEPS_MAX = 8 };

/* Far too large for the stack; tests run one after the other. */
static struct fm_sched_record_writer writer;
static struct fm_sched_record_reader reader;
static uint8_t bytes[BYTES_MAX];
static size_t byte_count;
static struct fm_sched_event events[EVENTS_MAX];
static struct fm_sched_action actions[ACTIONS_MAX];
static uint32_t requests[STARTED_MAX];
static const struct fm_sched_record_arrays arrays = {events, actions, requests};

static struct fm_sched_record_header header_of(bool has_actions)
{
    return (struct fm_sched_record_header){
        .options = {.policy = FM_SCHED_POLICY_SHEPHERD,
                    .models_max = 65536,
                    .accelerators_max = 3,
                    .type_count = 2,
                    .requests_max = 1u << 24,
                    .batch_max = 33,
                    .control_ns = 1,
                    .data_ns = UINT64_C(1) << 34,
                    .result_ns = UINT64_MAX,
                    .attempts_max = 255,
                    .learn = true,
                    .admit = true},
        .events_max = EVENTS_MAX,
        .action_capacity = ACTIONS_MAX,
        .request_capacity = STARTED_MAX,
        .has_actions = has_actions,
    };
}

static struct fm_profile profile_of(uint32_t point_count, uint64_t latency_ns)
{
    struct fm_profile profile = {.point_count = point_count};
    for (uint32_t i = 0; i < point_count; i++) {
        profile.points[i] = (struct fm_profile_point){
            .batch = i + 1 == point_count ? FM_PROFILE_BATCH_MAX : i + 1,
            .sample_count = i % 2 == 0 ? 0 : UINT32_MAX,
            .latency_ns = {latency_ns + i, 1, latency_ns + i, FM_PROFILE_LATENCY_MAX_NS},
        };
    }
    return profile;
}

/* All bytes of `steps`, in blocks of one step where `split`. */
static void record(const struct fm_sched_record_header *header,
                   const struct fm_sched_record_step *steps, size_t count, bool split)
{
    static uint8_t buffer[BYTES_MAX];
    struct fm_error error = {0};
    size_t size = 0;
    byte_count = 0;
    CHECK_INT_EQ(fm_sched_record_begin(&writer, header, buffer, sizeof buffer, &error), 0);
    for (size_t i = 0; i < count; i++) {
        int status = fm_sched_record_write(&writer, &steps[i], &error);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        if (split) {
            const void *data = fm_sched_record_take(&writer, &size);
            memcpy(bytes + byte_count, data, size);
            byte_count += size;
        }
    }
    fm_sched_record_end(&writer);
    const void *data = fm_sched_record_take(&writer, &size);
    memcpy(bytes + byte_count, data, size);
    byte_count += size;
}

static bool model_equal(const struct fm_sched_model *one, const struct fm_sched_model *other)
{
    bool equal = one->model == other->model && one->slo_ns == other->slo_ns &&
                 one->goal == other->goal && one->policy_given == other->policy_given &&
                 one->policy == other->policy && one->batch_max == other->batch_max &&
                 one->statistic == other->statistic &&
                 one->queue_delay_ns == other->queue_delay_ns &&
                 memcmp(one->preferred, other->preferred, sizeof one->preferred) == 0;
    for (uint32_t i = 0; equal && i < FM_SCHED_TYPES_LIMIT; i++) {
        const struct fm_profile *mine = one->profiles[i];
        const struct fm_profile *theirs = other->profiles[i];
        equal = (mine == NULL) == (theirs == NULL) &&
                (mine == NULL || (mine->point_count == theirs->point_count &&
                                  memcmp(mine->points, theirs->points, sizeof mine->points) == 0));
    }
    return equal;
}

static bool event_equal(const struct fm_sched_event *left, const struct fm_sched_event *right)
{
    if (left->kind != right->kind) {
        return false;
    }
    switch ((unsigned)left->kind) {
    case FM_SCHED_EVENT_REQUEST:
        return left->as.request.request == right->as.request.request &&
               left->as.request.model == right->as.request.model &&
               left->as.request.deadline_ns == right->as.request.deadline_ns &&
               left->as.request.priority == right->as.request.priority;
    case FM_SCHED_EVENT_CANCEL:
        return left->as.cancel.request == right->as.cancel.request;
    case FM_SCHED_EVENT_ACCELERATOR_UP:
    case FM_SCHED_EVENT_ACCELERATOR_DOWN:
    case FM_SCHED_EVENT_ACCELERATOR_SLOW:
        return left->as.accelerator.accelerator == right->as.accelerator.accelerator &&
               left->as.accelerator.type == right->as.accelerator.type &&
               left->as.accelerator.permille == right->as.accelerator.permille;
    case FM_SCHED_EVENT_BATCH_DONE:
    case FM_SCHED_EVENT_BATCH_FAILED:
        return left->as.batch.accelerator == right->as.batch.accelerator &&
               left->as.batch.batch == right->as.batch.batch;
    case FM_SCHED_EVENT_MODEL_SET:
        return model_equal(left->as.model, right->as.model);
    case FM_SCHED_EVENT_MODEL_REMOVED:
        return left->as.model_removed == right->as.model_removed;
    default:
        return true;
    }
}

static void step_check(const struct fm_sched_record_step *left,
                       const struct fm_sched_record_step *right, bool has_actions)
{
    CHECK_UINT_EQ(left->now_ns, right->now_ns);
    CHECK_UINT_EQ(left->event_count, right->event_count);
    CHECK_UINT_EQ(left->taken, right->taken);
    CHECK(left->out_of_memory == right->out_of_memory);
    for (uint32_t i = 0; i < left->event_count; i++) {
        CHECK(event_equal(&left->events[i], &right->events[i]));
    }
    CHECK_UINT_EQ(right->action_count, has_actions ? left->action_count : 0);
    CHECK_UINT_EQ(right->request_count, has_actions ? left->request_count : 0);
    CHECK_UINT_EQ(right->wake_ns, has_actions ? left->wake_ns : FM_SCHED_NEVER);
    for (uint32_t i = 0; i < right->action_count; i++) {
        const struct fm_sched_action *one = &left->actions[i];
        const struct fm_sched_action *other = &right->actions[i];
        CHECK(one->kind == other->kind && one->model == other->model &&
              one->accelerator == other->accelerator && one->batch == other->batch &&
              one->start_ns == other->start_ns && one->expected_ns == other->expected_ns &&
              one->request_first == other->request_first &&
              one->request_count == other->request_count && one->request == other->request &&
              one->reason == other->reason);
    }
    if (right->request_count > 0) {
        CHECK_MEM_EQ(left->requests, right->requests,
                     right->request_count * sizeof *right->requests);
    }
}

static void options_check(const struct fm_sched_options *left, const struct fm_sched_options *right)
{
    CHECK_INT_EQ(left->policy, right->policy);
    CHECK_UINT_EQ(left->models_max, right->models_max);
    CHECK_UINT_EQ(left->accelerators_max, right->accelerators_max);
    CHECK_UINT_EQ(left->type_count, right->type_count);
    CHECK_UINT_EQ(left->requests_max, right->requests_max);
    CHECK_UINT_EQ(left->batch_max, right->batch_max);
    CHECK_UINT_EQ(left->control_ns, right->control_ns);
    CHECK_UINT_EQ(left->data_ns, right->data_ns);
    CHECK_UINT_EQ(left->result_ns, right->result_ns);
    CHECK_UINT_EQ(left->attempts_max, right->attempts_max);
    CHECK(left->learn == right->learn && left->admit == right->admit);
    CHECK(left->part == FM_SCHED_PART_WHOLE && left->requests == NULL);
}

static void round_trip(const struct fm_sched_record_header *header,
                       const struct fm_sched_record_step *steps, size_t count, bool split)
{
    struct fm_error error = {0};
    struct fm_sched_record_step step;
    bool end = false;
    record(header, steps, count, split);
    int status = fm_sched_record_open(&reader, bytes, byte_count, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    options_check(&reader.header.options, &header->options);
    CHECK(reader.header.has_actions == header->has_actions);
    CHECK_UINT_EQ(reader.header.events_max, header->events_max);
    CHECK_UINT_EQ(reader.header.action_capacity, header->action_capacity);
    CHECK_UINT_EQ(reader.header.request_capacity, header->request_capacity);
    for (size_t i = 0; i < count; i++) {
        struct fm_arena arena = {0};
        status = fm_sched_record_read(&reader, &arrays, &arena, &step, &end, &error);
        CHECK_STR_EQ(error.text, "");
        CHECK(status == 0 && !end);
        step_check(&steps[i], &step, header->has_actions);
        fm_arena_deinit(&arena);
        if (fm_test_failed) {
            printf("# in step %zu\n", i);
            return;
        }
    }
    for (int i = 0; i < 2; i++) { /* the end stays the end */
        CHECK_INT_EQ(fm_sched_record_read(&reader, &arrays, NULL, &step, &end, &error), 0);
        CHECK(end);
    }
}

/* --- everything there is -----------------------------------------------------------------------
 */

#define U32 UINT32_MAX
#define U64 UINT64_MAX

static struct fm_profile profiles[3];
static struct fm_sched_model models[3];

static void models_make(void)
{
    profiles[0] = profile_of(FM_PROFILE_POINTS_MAX, 1);
    profiles[1] = profile_of(1, FM_PROFILE_LATENCY_MAX_NS - 70);
    profiles[2] = profile_of(0, 1);
    models[0] = (struct fm_sched_model){.model = U32,
                                        .slo_ns = U64,
                                        .goal = FM_SCHED_GOAL_LATENCY,
                                        .batch_max = U32,
                                        .statistic = FM_PROFILE_P99,
                                        .preferred = {1, 2, 3, 4, 5, 6, 7, U32},
                                        .queue_delay_ns = U64};
    for (uint32_t i = 0; i < FM_SCHED_TYPES_LIMIT; i++) {
        models[0].profiles[i] = &profiles[i % 3];
    }
    models[1] = models[0];
    models[1].goal = FM_SCHED_GOAL_COUNT_;
    models[1].statistic = FM_PROFILE_STATISTIC_COUNT_;
    models[1].profiles[3] = NULL;
    models[2] = (struct fm_sched_model){.profiles = {NULL, &profiles[1]}};
}

static struct fm_sched_event request_of(uint32_t slot, uint32_t model, uint64_t deadline_ns,
                                        uint32_t priority)
{
    return (struct fm_sched_event){.kind = FM_SCHED_EVENT_REQUEST,
                                   .as.request = {slot, model, deadline_ns, priority}};
}

static const struct fm_sched_action some_actions[] = {
    {.kind = FM_SCHED_ACTION_START,
     .model = U32,
     .accelerator = U32,
     .batch = U64,
     .start_ns = U64,
     .expected_ns = 0,
     .request_count = 3,
     .request = FM_SCHED_NONE},
    {.kind = FM_SCHED_ACTION_START,
     .start_ns = 0,
     .expected_ns = U64,
     .request_first = 3,
     .request_count = 1,
     .request = FM_SCHED_NONE},
    {.kind = FM_SCHED_ACTION_DROP,
     .model = FM_SCHED_NONE,
     .accelerator = FM_SCHED_NONE,
     .request = U32,
     .reason = FM_SCHED_DROP_FAILED},
    {.kind = FM_SCHED_ACTION_DROP,
     .accelerator = FM_SCHED_NONE,
     .reason = FM_SCHED_DROP_INFEASIBLE},
    {.kind = FM_SCHED_ACTION_PREEMPT, .model = 7, .batch = U64, .request = FM_SCHED_NONE},
    {.kind = FM_SCHED_ACTION_PREEMPT,
     .model = U32,
     .accelerator = U32,
     .batch = 1,
     .request = FM_SCHED_NONE},
    {.kind = FM_SCHED_ACTION_START,
     .accelerator = 1,
     .batch = 1,
     .start_ns = 5,
     .expected_ns = 6,
     .request_first = 4,
     .request_count = 1,
     .request = FM_SCHED_NONE},
    {.kind = FM_SCHED_ACTION_START,
     .accelerator = 1,
     .batch = 2,
     .start_ns = U64,
     .expected_ns = 6,
     .request_first = 5,
     .request_count = 0,
     .request = FM_SCHED_NONE},
};
static const uint32_t some_requests[] = {0, U32, 1u << 31, 9, 10};

static size_t steps_make(struct fm_sched_record_step *steps)
{
    static struct fm_sched_event given[16];
    models_make();
    size_t count = 0;
    const struct fm_sched_event list[] = {
        request_of(0, 0, 0, 0),
        request_of(U32, U32, U64, U32),
        request_of(1u << 31, U32, U64, 3),
        request_of(7, 255, 0, U32),
        request_of(8, 511, 1, 0),
        {.kind = FM_SCHED_EVENT_CANCEL, .as.cancel = {U32}},
        {.kind = FM_SCHED_EVENT_ACCELERATOR_UP, .as.accelerator = {U32, U32, 0}},
        {.kind = FM_SCHED_EVENT_ACCELERATOR_DOWN, .as.accelerator = {U32, 0, 0}},
        {.kind = FM_SCHED_EVENT_ACCELERATOR_SLOW, .as.accelerator = {U32, 0, U32}},
        {.kind = FM_SCHED_EVENT_BATCH_DONE, .as.batch = {U32, U64}},
        {.kind = FM_SCHED_EVENT_BATCH_FAILED, .as.batch = {0, 0}},
        {.kind = FM_SCHED_EVENT_MODEL_REMOVED, .as.model_removed = U32},
        {.kind = FM_SCHED_EVENT_TICK},
        {.kind = FM_SCHED_EVENT_COUNT_},
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[0]},
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[1]},
    };
    static const struct fm_sched_event last = {.kind = FM_SCHED_EVENT_MODEL_SET,
                                               .as.model = &models[2]};
    memcpy(given, list, sizeof list);
    steps[count++] = (struct fm_sched_record_step){.wake_ns = FM_SCHED_NEVER};
    steps[count++] = (struct fm_sched_record_step){.now_ns = U64,
                                                   .events = given,
                                                   .event_count = 16,
                                                   .taken = 16,
                                                   .actions = some_actions,
                                                   .action_count = 8,
                                                   .requests = some_requests,
                                                   .request_count = 5,
                                                   .wake_ns = 0};
    steps[count++] = (struct fm_sched_record_step){
        .now_ns = 5, .events = given, .event_count = 16, .wake_ns = 6};
    steps[count++] = (struct fm_sched_record_step){
        .now_ns = 5, .events = &last, .event_count = 1, .taken = 1, .wake_ns = 12};
    steps[count++] = (struct fm_sched_record_step){.now_ns = 6,
                                                   .events = given,
                                                   .event_count = 2,
                                                   .taken = 1,
                                                   .out_of_memory = true,
                                                   .wake_ns = 18};
    steps[count++] = (struct fm_sched_record_step){.now_ns = 6, .wake_ns = 18};
    steps[count++] = (struct fm_sched_record_step){.now_ns = 7,
                                                   .actions = some_actions,
                                                   .action_count = 1,
                                                   .requests = some_requests,
                                                   .request_count = 3,
                                                   .wake_ns = 7};
    steps[count++] = (struct fm_sched_record_step){.now_ns = 7, .wake_ns = U64 - 1};
    return count;
}

TEST(every_event_and_action_comes_back)
{
    static struct fm_sched_record_step steps[STEPS_MAX];
    size_t count = steps_make(steps);
    for (int i = 0; i < 4; i++) {
        struct fm_sched_record_header header = header_of(i % 2 == 0);
        round_trip(&header, steps, count, i / 2 == 0);
    }
}

/* What a model has besides is written only where it has it, and each policy comes back. */
TEST(policies_of_models_come_back)
{
    const struct fm_sched_record_header header = header_of(false);
    for (unsigned policy = 0; policy <= FM_SCHED_POLICY_COUNT_; policy++) {
        struct fm_sched_record_step steps[2] = {{.event_count = 1, .taken = 1},
                                                {.event_count = 1, .taken = 1}};
        struct fm_sched_event given[2] = {
            {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[0]},
            {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[2]}};
        models_make();
        models[0].policy_given = true;
        models[0].policy = (enum fm_sched_policy_kind)policy;
        steps[0].events = &given[0];
        steps[1].events = &given[1];
        round_trip(&header, steps, 2, policy % 2 == 0);
    }
    models[0].policy_given = false;
}

TEST(a_drain_comes_back)
{
    const struct fm_sched_record_header header = header_of(false);
    const struct fm_sched_event drain = {.kind = FM_SCHED_EVENT_DRAIN};
    const struct fm_sched_record_step steps[1] = {{.events = &drain, .event_count = 1, .taken = 1}};
    round_trip(&header, steps, 1, true);
}

/* Version 1 is promised to stay (docs/record.md): when this fails, recordings that people keep can
 * no longer be read, or the same run is no longer recorded the same way. */
TEST(the_format_stays)
{
    static struct fm_sched_record_step steps[STEPS_MAX];
    struct fm_sched_record_header header = header_of(true);
    record(&header, steps, steps_make(steps), true);
    CHECK_UINT_EQ(byte_count, 2652);
    CHECK_UINT_EQ(fm_hash_add(FM_HASH_START, bytes, byte_count), UINT64_C(0x76b12ded79fe4251));
}

TEST(a_common_request_takes_few_bytes)
{
    struct fm_sched_record_header header = header_of(true);
    struct fm_error error = {0};
    size_t before = 0;
    CHECK_INT_EQ(fm_sched_record_begin(&writer, &header, bytes, sizeof bytes, &error), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t now_ns = UINT64_C(1000000000) + i * UINT64_C(200000);
        struct fm_sched_event event = request_of(i % 64, 0, now_ns + 25000000, 0);
        struct fm_sched_record_step step = {.now_ns = now_ns,
                                            .events = &event,
                                            .event_count = 1,
                                            .taken = 1,
                                            .wake_ns = now_ns + 20000000 - i % 64 * 1000000};
        before = i == 1 ? writer.length : before;
        CHECK_INT_EQ(fm_sched_record_write(&writer, &step, &error), 0);
    }
    CHECK_INT_LE(writer.length - before, 999 * 7);
}

/* --- damage ------------------------------------------------------------------------------------
 */

/* Reads to the end or to the first error, which it returns. */
static int read_all(const uint8_t *data, size_t size, size_t *ret_steps, struct fm_error *error)
{
    struct fm_sched_record_step step;
    bool end = false;
    *ret_steps = 0;
    *error = (struct fm_error){0};
    int status = fm_sched_record_open(&reader, data, size, error);
    while (status == 0 && !end) {
        struct fm_arena arena = {.bytes_max = 1u << 20};
        status = fm_sched_record_read(&reader, &arrays, &arena, &step, &end, error);
        *ret_steps += status == 0 && !end;
        fm_arena_deinit(&arena);
    }
    return status;
}

/* A copy of the exact size, so that a read beyond its end is seen. */
static int read_copy(const uint8_t *data, size_t size, size_t *ret_steps, struct fm_error *error)
{
    uint8_t *copy = fm_alloc(size);
    memcpy(copy, data, size);
    int status = read_all(copy, size, ret_steps, error);
    fm_free(copy);
    return status;
}

TEST(a_recording_cut_off_anywhere_is_noticed)
{
    static struct fm_sched_record_step steps[STEPS_MAX];
    struct fm_sched_record_header header = header_of(true);
    struct fm_error error;
    size_t count = steps_make(steps);
    size_t whole = 0;
    size_t most = 0;
    record(&header, steps, count, true);
    for (size_t size = 0; size < byte_count; size++) {
        CHECK_INT_EQ(read_copy(bytes, size, &whole, &error), FM_ECORRUPT);
        CHECK_INT_EQ(error.status, FM_ECORRUPT);
        CHECK_STR_CONTAINS(error.text, size < 8    ? size == 0 ? "not a recording" : "byte"
                                       : size < 12 ? "before anything"
                                                   : "at byte ");
        CHECK_INT_GE(whole, most); /* all whole blocks are good */
        most = whole;
    }
    CHECK_UINT_EQ(most, count);
    CHECK_INT_EQ(read_copy(bytes, byte_count, &whole, &error), 0);
    bytes[byte_count] = 0;
    CHECK_INT_EQ(read_copy(bytes, byte_count + 1, &whole, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "behind the end mark");
}

TEST(a_flipped_byte_anywhere_is_noticed)
{
    static struct fm_sched_record_step steps[STEPS_MAX];
    struct fm_sched_record_header header = header_of(true);
    struct fm_error error;
    size_t count = steps_make(steps);
    size_t whole = 0;
    record(&header, steps, count, true);
    for (size_t i = 0; i < byte_count; i++) {
        for (unsigned flip = 1; flip < 256; flip = flip * 2 + (flip == 64)) {
            bytes[i] ^= (uint8_t)flip;
            int status = read_copy(bytes, byte_count, &whole, &error);
            CHECK(status == FM_ECORRUPT || (status == FM_EUNSUPPORTED && i >= 8 && i < 12));
            CHECK(error.text[0] != '\0');
            CHECK_INT_LE(whole, count);
            bytes[i] ^= (uint8_t)flip;
        }
    }
}

/* Makes the hashes right again, as an attacker would. */
static void rehash(void)
{
    uint64_t hash = fm_hash_add(FM_HASH_START, bytes, 12);
    for (size_t at = 12; at + 13 <= byte_count;) {
        size_t length = bytes[at + 1] | ((size_t)bytes[at + 2] << 8) |
                        ((size_t)bytes[at + 3] << 16) | ((size_t)bytes[at + 4] << 24);
        if (length > byte_count - at - 13) {
            return;
        }
        hash = fm_hash_add(hash, bytes + at, 5 + length);
        for (unsigned i = 0; i < 8; i++) {
            bytes[at + 5 + length + i] = (uint8_t)(hash >> (8 * i));
        }
        hash = fm_hash_add(hash, bytes + at + 5 + length, 8);
        at += length + 13;
    }
}

/* Nothing is said of the result but that there is one: the sanitizers judge. */
TEST(forged_bytes_do_no_harm)
{
    static struct fm_sched_record_step steps[STEPS_MAX];
    static uint8_t good[BYTES_MAX];
    struct fm_sched_record_header header = header_of(true);
    struct fm_error error;
    size_t whole = 0;
    record(&header, steps, steps_make(steps), false);
    memcpy(good, bytes, byte_count);
    for (size_t i = 12; i < byte_count; i++) {
        static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        for (size_t j = 0; j < sizeof values; j++) {
            bytes[i] = values[j];
            rehash();
            int status = read_copy(bytes, byte_count, &whole, &error);
            CHECK((status == 0) == (error.status == 0));
            CHECK(status == 0 || status == FM_ECORRUPT || status == FM_EUNSUPPORTED ||
                  status == FM_ENOMEM);
            memcpy(bytes, good, byte_count);
        }
    }
}

TEST(what_is_not_known_here_is_said)
{
    struct fm_sched_record_header header = header_of(true);
    const struct fm_sched_record_step step = {.wake_ns = FM_SCHED_NEVER};
    struct fm_error error;
    size_t whole = 0;
    record(&header, &step, 1, true);
    bytes[8] = 2;
    CHECK_INT_EQ(read_all(bytes, byte_count, &whole, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "version 2");
    record(&header, &step, 1, true);
    memcpy(bytes + 18, "sheperdd", 8);
    rehash();
    CHECK_INT_EQ(read_all(bytes, byte_count, &whole, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "policy that is not known");
    CHECK_STR_CONTAINS(error.text, "newer version");
    record(&header, &step, 1, true);
    CHECK_INT_EQ(read_all((const uint8_t *)"\x7f"
                                           "ELF and so on",
                          14, &whole, &error),
                 FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "not a recording");
    /* The error stays. */
    struct fm_sched_record_step read;
    bool end = false;
    CHECK_INT_EQ(fm_sched_record_read(&reader, &arrays, NULL, &read, &end, &error), FM_ECORRUPT);
    CHECK(!end);
}

/* --- what cannot be written --------------------------------------------------------------------
 */

TEST(limits_are_refused)
{
    struct fm_error error = {0};
    struct fm_sched_record_header header = header_of(true);
    header.events_max = 0;
    CHECK_INT_EQ(fm_sched_record_begin(&writer, &header, bytes, 1024, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "events_max is 0, must be 1 to 65536");
    header = header_of(true);
    header.request_capacity = header.options.batch_max - 1;
    CHECK_INT_EQ(fm_sched_record_begin(&writer, &header, bytes, 1024, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "request_capacity is 32, must be 33 to");
    header = header_of(true);
    header.options.part = FM_SCHED_PART_SHARD;
    CHECK_INT_EQ(fm_sched_record_begin(&writer, &header, bytes, 1024, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "whole scheduler");
}

static int write_one(const struct fm_sched_record_step *step, struct fm_error *error)
{
    *error = (struct fm_error){0};
    size_t length = writer.length;
    int status = fm_sched_record_write(&writer, step, error);
    return status != 0 && writer.length != length ? FM_EINTERNAL : status;
}

TEST(steps_that_cannot_be_are_refused)
{
    static struct fm_sched_event many[EVENTS_MAX + 1];
    struct fm_sched_record_header header = header_of(true);
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_sched_record_begin(&writer, &header, bytes, 1024, &error), 0);
    CHECK_INT_EQ(
        write_one(&(struct fm_sched_record_step){.events = many, .event_count = 65}, &error),
        FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "65 events");
    CHECK_INT_EQ(
        write_one(&(struct fm_sched_record_step){.events = many, .event_count = 64}, &error),
        FM_ELIMIT);
    CHECK_INT_EQ(write_one(&(struct fm_sched_record_step){.taken = 1}, &error), FM_EINVAL);
    struct fm_sched_action action = some_actions[0];
    struct fm_sched_record_step step = {
        .actions = &action, .action_count = 1, .requests = some_requests, .request_count = 2};
    CHECK_INT_EQ(write_one(&step, &error), FM_EINVAL);
    step.request_count = 4;
    CHECK_INT_EQ(write_one(&step, &error), FM_EINVAL);
    step.request_count = 3;
    action.request_first = 1;
    CHECK_INT_EQ(write_one(&step, &error), FM_EINVAL);
    action.request_first = 0;
    action.kind = FM_SCHED_ACTION_COUNT_;
    CHECK_INT_EQ(write_one(&step, &error), FM_EINVAL);
    models_make();
    profiles[1].points[0].latency_ns[FM_PROFILE_MEAN] = 0;
    many[0] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[2]};
    CHECK_INT_EQ(
        write_one(&(struct fm_sched_record_step){.events = many, .event_count = 1}, &error),
        FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "profile of model 0 on accelerators of type 1");
    /* And after all that the recording goes on. */
    CHECK_INT_EQ(write_one(&(struct fm_sched_record_step){.wake_ns = 3}, &error), 0);
}

TEST_MAIN()
