/*
 * Writing a recording. See record.h and docs/record.md.
 */
#include <inttypes.h>
#include <string.h>

#include "core/sched/record_format.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"

#define CAPACITY_LEAST 1024u
#define STEP_BOUND     64u
#define EVENT_BOUND    32u
#define ACTION_BOUND   64u
#define REQUEST_BOUND  5u
/* A model without its profiles, and a profile without its points. */
#define MODEL_BOUND   192u
#define PROFILE_BOUND 8u
#define POINT_BOUND   52u

/* Kinds that only parts of a scheduler know have no code: parts are not recorded. */
#define CODE(code) ((code) + 1u)
static const uint8_t event_codes[FM_SCHED_EVENT_COUNT_] = {
    [FM_SCHED_EVENT_REQUEST] = CODE(RECORD_EVENT_REQUEST),
    [FM_SCHED_EVENT_CANCEL] = CODE(RECORD_EVENT_CANCEL),
    [FM_SCHED_EVENT_ACCELERATOR_UP] = CODE(RECORD_EVENT_UP),
    [FM_SCHED_EVENT_ACCELERATOR_DOWN] = CODE(RECORD_EVENT_DOWN),
    [FM_SCHED_EVENT_ACCELERATOR_SLOW] = CODE(RECORD_EVENT_SLOW),
    [FM_SCHED_EVENT_BATCH_DONE] = CODE(RECORD_EVENT_DONE),
    [FM_SCHED_EVENT_BATCH_FAILED] = CODE(RECORD_EVENT_FAILED),
    [FM_SCHED_EVENT_MODEL_SET] = CODE(RECORD_EVENT_MODEL_SET),
    [FM_SCHED_EVENT_MODEL_REMOVED] = CODE(RECORD_EVENT_MODEL_REMOVED),
    [FM_SCHED_EVENT_DRAIN] = CODE(RECORD_EVENT_DRAIN),
    [FM_SCHED_EVENT_TICK] = CODE(RECORD_EVENT_TICK),
};

static unsigned event_code(const struct fm_sched_event *event)
{
    unsigned kind = (unsigned)event->kind;
    unsigned code = kind < FM_SCHED_EVENT_COUNT_ ? event_codes[kind] : 0;
    return code != 0 ? code - 1 : RECORD_EVENT_UNKNOWN;
}

static const uint8_t action_codes[FM_SCHED_ACTION_COUNT_] = {
    [FM_SCHED_ACTION_START] = CODE(RECORD_ACTION_START),
    [FM_SCHED_ACTION_DROP] = CODE(RECORD_ACTION_DROP),
    [FM_SCHED_ACTION_PREEMPT] = CODE(RECORD_ACTION_PREEMPT),
};
#define ACTION_UNKNOWN 3u

static unsigned action_code(const struct fm_sched_action *action)
{
    unsigned kind = (unsigned)action->kind;
    unsigned code = kind < FM_SCHED_ACTION_COUNT_ ? action_codes[kind] : 0;
    return code != 0 ? code - 1 : ACTION_UNKNOWN;
}

static const uint8_t drop_codes[] = {
    [FM_SCHED_DROP_INFEASIBLE] = RECORD_DROP_INFEASIBLE,
    [FM_SCHED_DROP_LATE] = RECORD_DROP_LATE,
    [FM_SCHED_DROP_SACRIFICED] = RECORD_DROP_SACRIFICED,
    [FM_SCHED_DROP_REJECTED] = RECORD_DROP_REJECTED,
    [FM_SCHED_DROP_CANCELLED] = RECORD_DROP_CANCELLED,
    [FM_SCHED_DROP_MODEL_GONE] = RECORD_DROP_MODEL_GONE,
    [FM_SCHED_DROP_FAILED] = RECORD_DROP_FAILED,
    [FM_SCHED_DROP_OUTRANKED] = RECORD_DROP_OUTRANKED,
};
_Static_assert(FM_COUNT_OF(drop_codes) == FM_SCHED_DROP_COUNT_, "one code each");

static const uint8_t goal_codes[] = {
    [FM_SCHED_GOAL_BALANCED] = RECORD_GOAL_BALANCED,
    [FM_SCHED_GOAL_EFFICIENCY] = RECORD_GOAL_EFFICIENCY,
    [FM_SCHED_GOAL_LATENCY] = RECORD_GOAL_LATENCY,
};
_Static_assert(FM_COUNT_OF(goal_codes) == FM_SCHED_GOAL_COUNT_, "one code each");

static const uint8_t statistic_codes[] = {
    [FM_PROFILE_MEAN] = RECORD_STATISTIC_MEAN,
    [FM_PROFILE_P50] = RECORD_STATISTIC_P50,
    [FM_PROFILE_P90] = RECORD_STATISTIC_P90,
    [FM_PROFILE_P99] = RECORD_STATISTIC_P99,
};
_Static_assert(FM_COUNT_OF(statistic_codes) == FM_PROFILE_STATISTIC_COUNT_, "one code each");

/* --- bytes -------------------------------------------------------------------------------------
 * The bound of a step was checked before the first byte of it is written. Each returns the byte
 * behind what it wrote. */

static uint8_t *put_byte(uint8_t *at, unsigned value)
{
    *at = (uint8_t)value;
    return at + 1;
}

static uint8_t *put(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at = (uint8_t)value;
    return at + 1;
}

/* A policy's. */
static uint8_t *put_name(uint8_t *at, const char *name)
{
    size_t length = strlen(name);
    FM_ASSERT(length <= RECORD_NAME_MAX);
    at = put(at, length);
    for (size_t i = 0; i < length; i++) {
        *at++ = (uint8_t)name[i];
    }
    return at;
}

/* The difference modulo 2^64, small whichever way it goes. */
static uint8_t *put_change(uint8_t *at, uint64_t value, uint64_t from)
{
    uint64_t change = value - from;
    return put(at, (change << 1) ^ (0 - (change >> 63)));
}

/* The same modulo 2^32. */
static uint8_t *put_change32(uint8_t *at, uint32_t value, uint32_t from)
{
    uint32_t change = value - from;
    return put(at, (uint32_t)(change << 1) ^ (0 - (change >> 31)));
}

static uint8_t *put_fixed(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at = put_byte(at, (unsigned)(value >> (8 * i)) & 0xff);
    }
    return at;
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static uint8_t *block_open(struct fm_sched_record_writer *writer, enum record_block kind)
{
    writer->block_begin = writer->length;
    writer->length += RECORD_HEAD_SIZE;
    uint8_t *head = writer->buffer + writer->block_begin;
    head[0] = (uint8_t)kind;
    return head + RECORD_HEAD_SIZE;
}

static void block_close(struct fm_sched_record_writer *writer)
{
    if (writer->block_begin == writer->length) {
        return;
    }
    uint8_t *head = writer->buffer + writer->block_begin;
    size_t size = writer->length - writer->block_begin;
    (void)put_fixed(head + 1, size - RECORD_HEAD_SIZE, RECORD_HEAD_SIZE - 1);
    writer->hash = fm_hash_add(writer->hash, head, size);
    (void)put_fixed(head + size, writer->hash, RECORD_CHECK_SIZE);
    writer->hash = fm_hash_add(writer->hash, head + size, RECORD_CHECK_SIZE);
    writer->length += RECORD_CHECK_SIZE;
    writer->block_begin = writer->length;
}

const void *fm_sched_record_take(struct fm_sched_record_writer *writer, size_t *ret_size)
{
    block_close(writer);
    *ret_size = writer->length;
    writer->length = 0;
    writer->block_begin = 0;
    return writer->buffer;
}

void fm_sched_record_buffer_set(struct fm_sched_record_writer *writer, void *buffer,
                                size_t capacity)
{
    FM_ASSERT(writer->length == 0);
    FM_ASSERT(capacity >= CAPACITY_LEAST);
    writer->buffer = buffer;
    writer->capacity = capacity;
}

/* --- header and end ----------------------------------------------------------------------------
 */

static int header_check(const struct fm_sched_record_header *header, struct fm_error *reterr)
{
    const struct {
        const char *name;
        uint32_t value;
        uint32_t least;
        uint32_t most;
    } limits[] = {
        {"policy", header->options.policy, 0, FM_SCHED_POLICY_COUNT_ - 1},
        {"events_max", header->events_max, 1, FM_SCHED_RECORD_EVENTS_MAX},
        {"action_capacity", header->action_capacity, 1, FM_SCHED_RECORD_ACTIONS_MAX},
        {"request_capacity", header->request_capacity,
         header->options.batch_max > 1 ? header->options.batch_max : 1,
         FM_SCHED_RECORD_STARTED_MAX},
    };
    for (size_t i = 0; i < FM_COUNT_OF(limits); i++) {
        if (limits[i].value < limits[i].least || limits[i].value > limits[i].most) {
            return fm_error_set(reterr, FM_EINVAL,
                                "recording: %s is %" PRIu32 ", must be %" PRIu32 " to %" PRIu32,
                                limits[i].name, limits[i].value, limits[i].least, limits[i].most);
        }
    }
    if (header->options.part != FM_SCHED_PART_WHOLE) {
        return fm_error_set(reterr, FM_EINVAL,
                            "recording: only a whole scheduler can be recorded, not its parts");
    }
    return 0;
}

int fm_sched_record_begin(struct fm_sched_record_writer *writer,
                          const struct fm_sched_record_header *header, void *buffer,
                          size_t capacity, struct fm_error *reterr)
{
    int status = header_check(header, reterr);
    if (status != 0) {
        return status;
    }
    FM_ASSERT(capacity >= CAPACITY_LEAST);
    memset(writer, 0, sizeof *writer); /* too large for a temporary on the stack */
    writer->buffer = buffer;
    writer->capacity = capacity;
    writer->hash = FM_HASH_START;
    writer->header = *header;
    writer->memory.wake_ns = FM_SCHED_NEVER;
    const struct fm_sched_options *options = &header->options;
    const uint64_t fields[] = {
        [RECORD_FIELD_MODELS_MAX] = options->models_max,
        [RECORD_FIELD_ACCELERATORS_MAX] = options->accelerators_max,
        [RECORD_FIELD_TYPE_COUNT] = options->type_count,
        [RECORD_FIELD_REQUESTS_MAX] = options->requests_max,
        [RECORD_FIELD_BATCH_MAX] = options->batch_max,
        [RECORD_FIELD_CONTROL_NS] = options->control_ns,
        [RECORD_FIELD_DATA_NS] = options->data_ns,
        [RECORD_FIELD_RESULT_NS] = options->result_ns,
        [RECORD_FIELD_ATTEMPTS_MAX] = options->attempts_max,
        [RECORD_FIELD_LEARN] = options->learn,
        [RECORD_FIELD_ADMIT] = options->admit,
        [RECORD_FIELD_EVENTS_MAX] = header->events_max,
        [RECORD_FIELD_ACTION_CAPACITY] = header->action_capacity,
        [RECORD_FIELD_REQUEST_CAPACITY] = header->request_capacity,
        [RECORD_FIELD_HAS_ACTIONS] = header->has_actions,
    };
    memcpy(writer->buffer, RECORD_MAGIC, RECORD_MAGIC_SIZE);
    (void)put_fixed(writer->buffer + RECORD_MAGIC_SIZE, FM_SCHED_RECORD_VERSION,
                    RECORD_FIRST_SIZE - RECORD_MAGIC_SIZE);
    writer->hash = fm_hash_add(writer->hash, writer->buffer, RECORD_FIRST_SIZE);
    writer->length = RECORD_FIRST_SIZE;
    uint8_t *at = block_open(writer, RECORD_HEADER);
    const char *name = fm_sched_policy_name(options->policy);
    FM_ASSERT(name[0] != '\0');
    at = put_name(at, name);
    for (unsigned i = 1; i < RECORD_FIELD_COUNT_; i++) {
        if (fields[i] != 0) {
            at = put(at, i);
            at = put(at, fields[i]);
        }
    }
    writer->length = (size_t)(at - writer->buffer);
    block_close(writer);
    return 0;
}

void fm_sched_record_end(struct fm_sched_record_writer *writer)
{
    block_close(writer);
    FM_ASSERT(writer->capacity - writer->length >= CAPACITY_LEAST / 2);
    uint8_t *at = block_open(writer, RECORD_END);
    at = put(at, writer->memory.step_count);
    at = put(at, writer->memory.request_count);
    writer->length = (size_t)(at - writer->buffer);
    block_close(writer);
}

/* --- events ------------------------------------------------------------------------------------
 */

static bool profile_equal(const struct fm_profile *left, const struct fm_profile *right)
{
    return left->point_count == right->point_count &&
           memcmp(left->points, right->points, left->point_count * sizeof left->points[0]) == 0;
}

static uint8_t *profile_put(struct fm_sched_record_memory *memory, uint8_t *at,
                            const struct fm_profile *profile)
{
    if (profile == NULL) {
        return put(at, RECORD_PROFILE_NONE);
    }
    for (uint32_t i = 0; i < FM_SCHED_RECORD_PROFILES; i++) {
        if (memory->profiles[i].point_count > 0 && profile_equal(&memory->profiles[i], profile)) {
            return put(at, i + 1);
        }
    }
    at = put(at, RECORD_PROFILE_HERE);
    at = put(at, profile->point_count);
    uint32_t batch = 0;
    for (uint32_t i = 0; i < profile->point_count; i++) {
        const struct fm_profile_point *point = &profile->points[i];
        at = put(at, point->batch - batch);
        at = put(at, point->sample_count);
        at = put(at, point->latency_ns[FM_PROFILE_MEAN]);
        at = put_change(at, point->latency_ns[FM_PROFILE_P50], point->latency_ns[FM_PROFILE_MEAN]);
        at = put_change(at, point->latency_ns[FM_PROFILE_P90], point->latency_ns[FM_PROFILE_P50]);
        at = put_change(at, point->latency_ns[FM_PROFILE_P99], point->latency_ns[FM_PROFILE_P90]);
        batch = point->batch;
    }
    memory->profiles[memory->profile_next] = *profile;
    memory->profile_next = (memory->profile_next + 1) % FM_SCHED_RECORD_PROFILES;
    return at;
}

static uint8_t *model_put(struct fm_sched_record_memory *memory, uint8_t *at,
                          const struct fm_sched_model *model)
{
    uint32_t preferred = FM_SCHED_PREFERRED_MAX;
    while (preferred > 0 && model->preferred[preferred - 1] == 0) {
        preferred--;
    }
    at = put(at, model->model);
    at = put(at, model->slo_ns);
    at = put_byte(at, (unsigned)model->goal < FM_SCHED_GOAL_COUNT_ ? goal_codes[model->goal]
                                                                   : RECORD_CODE_UNKNOWN);
    at = put_byte(at, (unsigned)model->statistic < FM_PROFILE_STATISTIC_COUNT_
                          ? statistic_codes[model->statistic]
                          : RECORD_CODE_UNKNOWN);
    at = put(at, model->batch_max);
    at = put(at, model->queue_delay_ns);
    at = put(at, preferred);
    for (uint32_t i = 0; i < preferred; i++) {
        at = put(at, model->preferred[i]);
    }
    for (uint32_t i = 0; i < FM_SCHED_TYPES_LIMIT; i++) {
        at = profile_put(memory, at, model->profiles[i]);
    }
    if (model->policy_given) {
        /* One the scheduler refuses has no name. */
        bool known = (unsigned)model->policy < FM_SCHED_POLICY_COUNT_;
        at = put_byte(at, RECORD_SETTING_POLICY);
        at = put_name(at, known ? fm_sched_policy_name(model->policy) : "");
    }
    return put_byte(at, RECORD_SETTING_NONE);
}

static uint8_t *request_put(struct fm_sched_record_memory *memory, uint8_t *at, unsigned more,
                            const struct fm_sched_event *event)
{
    uint32_t model = event->as.request.model;
    uint64_t budget_ns = event->as.request.deadline_ns - memory->now_ns;
    uint64_t *row_budget_ns = &memory->rows[model % FM_SCHED_RECORD_ROWS].budget_ns;
    uint32_t *row_priority = &memory->rows[model % FM_SCHED_RECORD_ROWS].priority;
    uint8_t *tag = at;
    unsigned flags = RECORD_EVENT_REQUEST | more;
    at = put_change32(at + 1, event->as.request.request, memory->arrived_slot);
    if (model != memory->arrived_model) {
        flags |= RECORD_REQUEST_MODEL;
        at = put(at, model);
    }
    if (budget_ns != *row_budget_ns) {
        flags |= RECORD_REQUEST_BUDGET;
        at = put_change(at, budget_ns, 0);
    }
    if (event->as.request.priority != *row_priority) {
        flags |= RECORD_REQUEST_PRIORITY;
        at = put(at, event->as.request.priority);
    }
    (void)put_byte(tag, flags);
    memory->arrived_slot = event->as.request.request;
    memory->arrived_model = model;
    *row_budget_ns = budget_ns;
    *row_priority = event->as.request.priority;
    memory->request_count++;
    return at;
}

static uint8_t *event_put(struct fm_sched_record_memory *memory, uint8_t *at, unsigned more,
                          const struct fm_sched_event *event)
{
    if (event->kind == FM_SCHED_EVENT_REQUEST) {
        return request_put(memory, at, more, event);
    }
    unsigned code = event_code(event);
    at = put_byte(at, code | more);
    switch (code) {
    case RECORD_EVENT_CANCEL:
        return put(at, event->as.cancel.request);
    case RECORD_EVENT_UP:
        at = put(at, event->as.accelerator.accelerator);
        return put(at, event->as.accelerator.type);
    case RECORD_EVENT_DOWN:
        return put(at, event->as.accelerator.accelerator);
    case RECORD_EVENT_SLOW:
        at = put(at, event->as.accelerator.accelerator);
        return put(at, event->as.accelerator.permille);
    case RECORD_EVENT_DONE:
    case RECORD_EVENT_FAILED:
        at = put(at, event->as.batch.accelerator);
        at = put_change(at, event->as.batch.batch, memory->ended_batch);
        memory->ended_batch = event->as.batch.batch;
        return at;
    case RECORD_EVENT_MODEL_SET:
        return model_put(memory, at, event->as.model);
    case RECORD_EVENT_MODEL_REMOVED:
        return put(at, event->as.model_removed);
    default: /* TICK, DRAIN, UNKNOWN */
        return at;
    }
}

/* --- actions -----------------------------------------------------------------------------------
 */

static uint8_t *start_put(struct fm_sched_record_memory *memory, uint8_t *at, unsigned more,
                          const struct fm_sched_action *action, const uint32_t *requests)
{
    uint8_t *tag = at;
    unsigned flags = RECORD_ACTION_START | more;
    at++;
    if (action->model != memory->action_model) {
        flags |= RECORD_START_MODEL;
        at = put(at, action->model);
    }
    at = put(at, action->accelerator);
    if (action->batch != memory->started_batch + 1) {
        flags |= RECORD_START_BATCH;
        at = put_change(at, action->batch, memory->started_batch);
    }
    if (action->start_ns != memory->now_ns) {
        flags |= RECORD_START_TIME;
        at = put_change(at, action->start_ns, memory->now_ns);
    }
    at = put_change(at, action->expected_ns, action->start_ns);
    at = put(at, action->request_count);
    for (uint32_t i = 0; i < action->request_count; i++) {
        at = put_change32(at, requests[i], memory->action_slot);
        memory->action_slot = requests[i];
    }
    (void)put_byte(tag, flags);
    memory->action_model = action->model;
    memory->started_batch = action->batch;
    return at;
}

static uint8_t *action_put(struct fm_sched_record_memory *memory, uint8_t *at, unsigned more,
                           const struct fm_sched_action *action, const uint32_t *requests)
{
    unsigned code = action_code(action);
    if (code == RECORD_ACTION_START) {
        return start_put(memory, at, more, action, requests);
    }
    if (code == RECORD_ACTION_PREEMPT) {
        at = put_byte(at, RECORD_ACTION_PREEMPT | more);
        at = put(at, action->model);
        at = put(at, action->accelerator);
        return put_change(at, action->batch, memory->started_batch);
    }
    FM_ASSERT(code == RECORD_ACTION_DROP);
    unsigned reason = drop_codes[action->reason];
    at = put_byte(at, RECORD_ACTION_DROP | (reason << RECORD_DROP_SHIFT) | more);
    at = put(at, action->model);
    at = put_change32(at, action->request, memory->action_slot);
    memory->action_slot = action->request;
    return at;
}

/* --- steps -------------------------------------------------------------------------------------
 */

size_t fm_sched_record_step_bound(const struct fm_sched_record_step *step)
{
    size_t bound = STEP_BOUND + (size_t)step->event_count * EVENT_BOUND +
                   (size_t)step->action_count * ACTION_BOUND +
                   (size_t)step->request_count * REQUEST_BOUND;
    for (uint32_t i = 0; i < step->event_count; i++) {
        if (step->events[i].kind != FM_SCHED_EVENT_MODEL_SET) {
            continue;
        }
        bound += MODEL_BOUND;
        for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
            const struct fm_profile *profile = step->events[i].as.model->profiles[type];
            bound += profile != NULL ? PROFILE_BOUND + profile->point_count * POINT_BOUND : 0;
        }
    }
    return bound;
}

static int events_check(const struct fm_sched_record_step *step, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < step->event_count; i++) {
        if (step->events[i].kind != FM_SCHED_EVENT_MODEL_SET) {
            continue;
        }
        const struct fm_sched_model *model = step->events[i].as.model;
        for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
            if (model->profiles[type] != NULL && !fm_profile_validate(model->profiles[type])) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "recording: the profile of model %" PRIu32
                                    " on accelerators of type %" PRIu32 " is not valid",
                                    model->model, type);
            }
        }
    }
    return 0;
}

static int actions_check(const struct fm_sched_record_step *step, struct fm_error *reterr)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < step->action_count; i++) {
        const struct fm_sched_action *action = &step->actions[i];
        unsigned code = action_code(action);
        bool known = code != ACTION_UNKNOWN && (code != RECORD_ACTION_DROP ||
                                                (unsigned)action->reason < FM_SCHED_DROP_COUNT_);
        bool starts = code == RECORD_ACTION_START;
        if (!known || (starts && (action->request_first != first ||
                                  action->request_count > step->request_count - first))) {
            return fm_error_set(reterr, FM_EINVAL,
                                "recording: action %" PRIu32 " is none that a scheduler gives", i);
        }
        first += starts ? action->request_count : 0;
    }
    if (first != step->request_count) {
        return fm_error_set(reterr, FM_EINVAL, "recording: requests that are in no batch");
    }
    return 0;
}

static int step_check(const struct fm_sched_record_writer *writer,
                      const struct fm_sched_record_step *step, size_t bound,
                      struct fm_error *reterr)
{
    const struct fm_sched_record_header *header = &writer->header;
    if (step->event_count > header->events_max ||
        bound > FM_SCHED_RECORD_BLOCK_MAX - RECORD_HEAD_SIZE ||
        (header->has_actions && (step->action_count > header->action_capacity ||
                                 step->request_count > header->request_capacity))) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "recording: a step of %" PRIu32 " events, %" PRIu32
                            " actions and %" PRIu32
                            " started requests is more than the header says",
                            step->event_count, step->action_count, step->request_count);
    }
    if (step->taken > step->event_count) {
        return fm_error_set(reterr, FM_EINVAL, "recording: more events taken than given");
    }
    int status = events_check(step, reterr);
    return status == 0 && header->has_actions ? actions_check(step, reterr) : status;
}

static unsigned wake_code(const struct fm_sched_record_memory *memory, uint64_t wake_ns)
{
    if (wake_ns == FM_SCHED_NEVER) {
        return RECORD_WAKE_NEVER;
    }
    if (wake_ns == memory->wake_ns) {
        return RECORD_WAKE_SAME;
    }
    if (wake_ns == memory->wake_ns + memory->wake_change_ns) {
        return RECORD_WAKE_AGAIN;
    }
    return wake_ns > memory->now_ns ? RECORD_WAKE_AFTER : RECORD_WAKE_BEFORE;
}

static uint8_t *step_put(struct fm_sched_record_writer *writer, uint8_t *at,
                         const struct fm_sched_record_step *step)
{
    struct fm_sched_record_memory *memory = &writer->memory;
    uint8_t *tag = at;
    unsigned flags = 0;
    at++;
    if (step->now_ns != memory->now_ns) {
        bool later = step->now_ns > memory->now_ns;
        flags |= later ? RECORD_STEP_LATER : RECORD_STEP_EARLIER;
        at = put(at, later ? step->now_ns - memory->now_ns : memory->now_ns - step->now_ns);
        memory->now_ns = step->now_ns;
    }
    if (step->taken != step->event_count || step->out_of_memory) {
        flags |= RECORD_STEP_REST;
        at = put(at, ((uint64_t)(step->event_count - step->taken) << 1) | step->out_of_memory);
    }
    flags |= step->event_count > 0 ? RECORD_STEP_EVENTS : 0;
    for (uint32_t i = 0; i < step->event_count; i++) {
        at = event_put(memory, at, i + 1 < step->event_count ? RECORD_MORE : 0, &step->events[i]);
    }
    if (writer->header.has_actions) {
        flags |= step->action_count > 0 ? RECORD_STEP_ACTIONS : 0;
        for (uint32_t i = 0; i < step->action_count; i++) {
            const struct fm_sched_action *action = &step->actions[i];
            at = action_put(memory, at, i + 1 < step->action_count ? RECORD_MORE : 0, action,
                            step->requests + action->request_first);
        }
        unsigned wake = wake_code(memory, step->wake_ns);
        flags |= wake << RECORD_STEP_WAKE_SHIFT;
        if (wake == RECORD_WAKE_AFTER || wake == RECORD_WAKE_BEFORE) {
            at = put(at, wake == RECORD_WAKE_AFTER ? step->wake_ns - memory->now_ns
                                                   : memory->now_ns - step->wake_ns);
            record_wake_remember(memory, step->wake_ns);
        }
        memory->wake_ns = step->wake_ns;
    }
    (void)put_byte(tag, flags);
    memory->step_count++;
    return at;
}

int fm_sched_record_write(struct fm_sched_record_writer *writer,
                          const struct fm_sched_record_step *step, struct fm_error *reterr)
{
    size_t bound = fm_sched_record_step_bound(step);
    int status = step_check(writer, step, bound, reterr);
    if (status != 0) {
        return status;
    }
    size_t room = writer->capacity - writer->length;
    if (room < bound) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "recording: the buffer has room for %zu bytes, the step needs %zu",
                            room, bound);
    }
    if (writer->block_begin != writer->length &&
        writer->length - writer->block_begin + bound > FM_SCHED_RECORD_BLOCK_MAX) {
        block_close(writer);
    }
    uint8_t *at = writer->block_begin == writer->length ? block_open(writer, RECORD_STEPS)
                                                        : writer->buffer + writer->length;
    const uint8_t *begin = at;
    at = step_put(writer, at, step);
    /* The bound holds a head and the checks of two blocks, too. */
    FM_ASSERT((size_t)(at - begin) + RECORD_HEAD_SIZE + 2 * RECORD_CHECK_SIZE <= bound);
    writer->length = (size_t)(at - writer->buffer);
    return 0;
}
