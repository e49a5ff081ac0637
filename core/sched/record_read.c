/*
 * Reading a recording. See record.h and docs/record.md.
 */
#include <inttypes.h>
#include <string.h>

#include "core/sched/record_format.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"

/* Reads on from `at`; the first thing that is not as the format says is kept in `wrong`, and from
 * then on only zeros are read. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    const char *wrong;
    bool newer; /* what is wrong may be right in a later version */
};

static void wrong(struct cursor *cursor, const char *what)
{
    if (cursor->wrong == NULL) {
        cursor->wrong = what;
        cursor->end = cursor->at;
    }
}

static void wrong_newer(struct cursor *cursor, const char *what)
{
    cursor->newer = cursor->newer || cursor->wrong == NULL;
    wrong(cursor, what);
}

static uint8_t get_byte(struct cursor *cursor)
{
    if (cursor->at == cursor->end) {
        wrong(cursor, "ends in the middle of its contents");
        return 0;
    }
    return *cursor->at++;
}

static uint64_t get(struct cursor *cursor)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = get_byte(cursor);
        if (shift == 63 && byte > 1) {
            break;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    wrong(cursor, "has a number of more than 64 bits");
    return 0;
}

static uint32_t get32(struct cursor *cursor)
{
    uint64_t value = get(cursor);
    if (value > UINT32_MAX) {
        wrong(cursor, "has a number of more than 32 bits where ids and counts have 32");
    }
    return (uint32_t)value;
}

static uint32_t get_count(struct cursor *cursor, uint32_t most, const char *what)
{
    uint64_t value = get(cursor);
    if (value > most) {
        wrong(cursor, what);
        value = 0;
    }
    return (uint32_t)value;
}

/* A policy's. */
static void name_get(struct cursor *cursor, char name[RECORD_NAME_MAX + 1])
{
    uint32_t length = get_count(cursor, RECORD_NAME_MAX, "has a policy's name that is too long");
    for (uint32_t i = 0; i < length; i++) {
        name[i] = (char)get_byte(cursor);
    }
    name[length] = '\0';
}

static uint64_t get_change(struct cursor *cursor, uint64_t from)
{
    uint64_t value = get(cursor);
    return from + ((value >> 1) ^ (0 - (value & 1)));
}

static uint32_t get_change32(struct cursor *cursor, uint32_t from)
{
    uint32_t value = get32(cursor);
    return from + ((value >> 1) ^ (0 - (value & 1)));
}

static uint64_t fixed(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static int fail(struct fm_sched_record_reader *reader, int status, struct fm_error *reterr)
{
    reader->status = status;
    return fm_error_prefix(reterr, status, "at byte %zu", reader->block_begin);
}

/* Opens the block at `offset`, once its hash is right. *ret_kind 0: the data end in front of it. */
static int block_open(struct fm_sched_record_reader *reader, unsigned *ret_kind,
                      struct fm_error *reterr)
{
    const uint8_t *head = reader->data + reader->offset;
    size_t left = reader->size - reader->offset;
    reader->block_begin = reader->offset;
    *ret_kind = 0;
    if (left == 0) {
        return 0;
    }
    uint64_t length = left >= RECORD_HEAD_SIZE ? fixed(head + 1, RECORD_HEAD_SIZE - 1) : 0;
    if (length > FM_SCHED_RECORD_BLOCK_MAX) {
        (void)fm_error_set(reterr, FM_ECORRUPT,
                           "the block that begins here is damaged: it claims %" PRIu64
                           " bytes, a block has at most %u",
                           length, FM_SCHED_RECORD_BLOCK_MAX);
        return fail(reader, FM_ECORRUPT, reterr);
    }
    if (left < RECORD_HEAD_SIZE + RECORD_CHECK_SIZE ||
        left - RECORD_HEAD_SIZE - RECORD_CHECK_SIZE < length) {
        (void)fm_error_set(reterr, FM_ECORRUPT,
                           "the recording ends at byte %zu, in the middle of the block that begins "
                           "here: it was cut off, is still being written, or is damaged",
                           reader->size);
        return fail(reader, FM_ECORRUPT, reterr);
    }
    const uint8_t *check = head + RECORD_HEAD_SIZE + length;
    uint64_t hash = fm_hash_add(reader->hash, head, RECORD_HEAD_SIZE + (size_t)length);
    if (hash != fixed(check, RECORD_CHECK_SIZE)) {
        (void)fm_error_set(reterr, FM_ECORRUPT,
                           "the block that begins here, up to byte %zu, is damaged: its hash is "
                           "another",
                           (size_t)(check - reader->data) + RECORD_CHECK_SIZE);
        return fail(reader, FM_ECORRUPT, reterr);
    }
    reader->hash = fm_hash_add(hash, check, RECORD_CHECK_SIZE);
    reader->offset += RECORD_HEAD_SIZE;
    reader->block_end = reader->offset + (size_t)length;
    *ret_kind = head[0];
    return 0;
}

static void block_close(struct fm_sched_record_reader *reader)
{
    reader->offset = reader->block_end + RECORD_CHECK_SIZE;
    reader->block_end = 0;
}

static struct cursor block_cursor(const struct fm_sched_record_reader *reader)
{
    return (struct cursor){.at = reader->data + reader->offset,
                           .end = reader->data + reader->block_end};
}

/* What is wrong with contents whose hash is right: nobody wrote them as docs/record.md says. */
static int contents_fail(struct fm_sched_record_reader *reader, const struct cursor *cursor,
                         struct fm_error *reterr)
{
    int status = cursor->newer ? FM_EUNSUPPORTED : FM_ECORRUPT;
    reader->block_begin = reader->offset;
    (void)fm_error_set(reterr, status, "%s %s%s",
                       reader->memory.step_count == 0 && reader->header.events_max == 0
                           ? "the header"
                           : "the step that begins here",
                       cursor->wrong,
                       cursor->newer ? ": it was recorded by a newer version; replay it with that"
                                     : "");
    return fail(reader, status, reterr);
}

/* --- header and end ----------------------------------------------------------------------------
 */

static void header_fields_get(struct cursor *cursor, uint64_t *fields)
{
    uint64_t before = 0;
    while (cursor->at < cursor->end) {
        uint64_t field = get(cursor);
        uint64_t value = get(cursor);
        if (field <= before) {
            wrong(cursor, "has its fields out of order");
        } else if (field >= RECORD_FIELD_COUNT_) {
            wrong_newer(cursor, "has an option that is not known here");
        } else {
            fields[field] = value;
            before = field;
        }
    }
}

static void header_get(struct cursor *cursor, struct fm_sched_record_header *header)
{
    char name[RECORD_NAME_MAX + 1];
    name_get(cursor, name);
    uint64_t fields[RECORD_FIELD_COUNT_] = {0};
    header_fields_get(cursor, fields);
    for (unsigned i = 1; i < RECORD_FIELD_COUNT_; i++) {
        bool is_time = i >= RECORD_FIELD_CONTROL_NS && i <= RECORD_FIELD_RESULT_NS;
        if (fields[i] > UINT32_MAX && !is_time) {
            wrong(cursor, "has a number of more than 32 bits where limits have 32");
        }
    }
    if (fields[RECORD_FIELD_LEARN] > 1 || fields[RECORD_FIELD_ADMIT] > 1 ||
        fields[RECORD_FIELD_HAS_ACTIONS] > 1) {
        wrong_newer(cursor, "has a switch that is neither on nor off");
    }
    *header = (struct fm_sched_record_header){
        .options = {.policy = fm_sched_policy_parse(name),
                    .models_max = (uint32_t)fields[RECORD_FIELD_MODELS_MAX],
                    .accelerators_max = (uint32_t)fields[RECORD_FIELD_ACCELERATORS_MAX],
                    .type_count = (uint32_t)fields[RECORD_FIELD_TYPE_COUNT],
                    .requests_max = (uint32_t)fields[RECORD_FIELD_REQUESTS_MAX],
                    .batch_max = (uint32_t)fields[RECORD_FIELD_BATCH_MAX],
                    .control_ns = fields[RECORD_FIELD_CONTROL_NS],
                    .data_ns = fields[RECORD_FIELD_DATA_NS],
                    .result_ns = fields[RECORD_FIELD_RESULT_NS],
                    .attempts_max = (uint32_t)fields[RECORD_FIELD_ATTEMPTS_MAX],
                    .learn = fields[RECORD_FIELD_LEARN] != 0,
                    .admit = fields[RECORD_FIELD_ADMIT] != 0},
        .events_max = (uint32_t)fields[RECORD_FIELD_EVENTS_MAX],
        .action_capacity = (uint32_t)fields[RECORD_FIELD_ACTION_CAPACITY],
        .request_capacity = (uint32_t)fields[RECORD_FIELD_REQUEST_CAPACITY],
        .has_actions = fields[RECORD_FIELD_HAS_ACTIONS] != 0,
    };
    if (header->options.policy == FM_SCHED_POLICY_COUNT_) {
        wrong_newer(cursor, "names a policy that is not known here");
    }
    if (header->events_max == 0 || header->events_max > FM_SCHED_RECORD_EVENTS_MAX ||
        header->action_capacity == 0 || header->action_capacity > FM_SCHED_RECORD_ACTIONS_MAX ||
        header->request_capacity == 0 || header->request_capacity > FM_SCHED_RECORD_STARTED_MAX ||
        header->options.batch_max == 0 || header->request_capacity < header->options.batch_max) {
        wrong(cursor, "has a limit that cannot be");
    }
}

int fm_sched_record_open(struct fm_sched_record_reader *reader, const void *data, size_t size,
                         struct fm_error *reterr)
{
    memset(reader, 0, sizeof *reader); /* too large for a temporary on the stack */
    reader->data = data;
    reader->size = size;
    reader->hash = FM_HASH_START;
    reader->memory.wake_ns = FM_SCHED_NEVER;
    size_t magic = size < RECORD_MAGIC_SIZE ? size : RECORD_MAGIC_SIZE;
    if (magic == 0 || memcmp(data, RECORD_MAGIC, magic) != 0) {
        reader->status = FM_ECORRUPT;
        return fm_error_set(reterr, FM_ECORRUPT,
                            "this is not a recording: it does not begin like one");
    }
    if (size < RECORD_FIRST_SIZE) {
        reader->status = FM_ECORRUPT;
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the recording ends at byte %zu, before anything was recorded", size);
    }
    uint64_t version =
        fixed(reader->data + RECORD_MAGIC_SIZE, RECORD_FIRST_SIZE - RECORD_MAGIC_SIZE);
    if (version != FM_SCHED_RECORD_VERSION) {
        reader->status = FM_EUNSUPPORTED;
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the recording has version %" PRIu64
                            " of the format, only version %u is known here",
                            version, FM_SCHED_RECORD_VERSION);
    }
    reader->hash = fm_hash_add(reader->hash, data, RECORD_FIRST_SIZE);
    reader->offset = RECORD_FIRST_SIZE;
    unsigned kind = 0;
    int status = block_open(reader, &kind, reterr);
    if (status != 0) {
        return status;
    }
    if (kind != RECORD_HEADER) {
        (void)fm_error_set(reterr, FM_ECORRUPT, "the recording has no header");
        return fail(reader, FM_ECORRUPT, reterr);
    }
    struct cursor cursor = block_cursor(reader);
    struct fm_sched_record_header header;
    header_get(&cursor, &header);
    if (cursor.wrong != NULL) {
        return contents_fail(reader, &cursor, reterr);
    }
    reader->header = header;
    block_close(reader);
    return 0;
}

static int end_read(struct fm_sched_record_reader *reader, struct fm_error *reterr)
{
    struct cursor cursor = block_cursor(reader);
    uint64_t steps = get(&cursor);
    uint64_t requests = get(&cursor);
    block_close(reader);
    if (cursor.wrong != NULL || cursor.at != cursor.end || steps != reader->memory.step_count ||
        requests != reader->memory.request_count) {
        (void)fm_error_set(reterr, FM_ECORRUPT,
                           "the end mark speaks of %" PRIu64 " steps and %" PRIu64
                           " requests, there are %" PRIu64 " and %" PRIu64,
                           steps, requests, reader->memory.step_count,
                           reader->memory.request_count);
        return fail(reader, FM_ECORRUPT, reterr);
    }
    if (reader->offset != reader->size) {
        reader->block_begin = reader->offset;
        (void)fm_error_set(reterr, FM_ECORRUPT, "there is something behind the end mark");
        return fail(reader, FM_ECORRUPT, reterr);
    }
    reader->ended = true;
    return 0;
}

/* --- events ------------------------------------------------------------------------------------
 */

/* What a step is read with. */
struct reading {
    struct fm_sched_record_reader *reader;
    const struct fm_sched_record_arrays *arrays;
    struct fm_arena *arena;
    struct cursor cursor;
    bool no_memory;
};

static void *arena_take(struct reading *reading, size_t size)
{
    void *memory = reading->no_memory ? NULL : fm_arena_alloc(reading->arena, size);
    if (memory == NULL && !reading->no_memory) {
        reading->no_memory = true;
        wrong(&reading->cursor, "describes more models than there is memory for");
    }
    return memory;
}

static void profile_here_get(struct reading *reading, struct fm_profile *profile)
{
    struct cursor *cursor = &reading->cursor;
    uint32_t count =
        get_count(cursor, FM_PROFILE_POINTS_MAX, "has a profile of too many measured points");
    uint32_t batch = 0;
    *profile = (struct fm_profile){0};
    for (uint32_t i = 0; i < count; i++) {
        struct fm_profile_point point = {0};
        batch += get32(cursor);
        point.batch = batch;
        point.sample_count = get32(cursor);
        uint64_t latency_ns = get(cursor);
        point.latency_ns[FM_PROFILE_MEAN] = latency_ns;
        point.latency_ns[FM_PROFILE_P50] = latency_ns = get_change(cursor, latency_ns);
        point.latency_ns[FM_PROFILE_P90] = latency_ns = get_change(cursor, latency_ns);
        point.latency_ns[FM_PROFILE_P99] = get_change(cursor, latency_ns);
        profile->points[i] = point;
    }
    profile->point_count = count;
    if (cursor->wrong == NULL && !fm_profile_validate(profile)) {
        wrong(cursor, "has a profile that no model can have");
    }
}

static const struct fm_profile *profile_get(struct reading *reading)
{
    struct fm_sched_record_reader *reader = reading->reader;
    struct fm_sched_record_memory *memory = &reader->memory;
    uint64_t place = get(&reading->cursor);
    if (place == RECORD_PROFILE_NONE) {
        return NULL;
    }
    if (place > RECORD_PROFILE_HERE) {
        wrong(&reading->cursor, "names a profile that is not there");
        return NULL;
    }
    uint32_t row = (uint32_t)place - 1;
    if (place == RECORD_PROFILE_HERE) {
        row = memory->profile_next;
        memory->profile_next = (row + 1) % FM_SCHED_RECORD_PROFILES;
        profile_here_get(reading, &memory->profiles[row]);
        reader->step_profiles[row] = NULL;
    }
    if (reader->step_profiles[row] == NULL) {
        struct fm_profile *copy = arena_take(reading, sizeof *copy);
        if (copy != NULL) {
            *copy = memory->profiles[row];
        }
        reader->step_profiles[row] = copy;
    }
    return reader->step_profiles[row];
}

static enum fm_sched_goal goal_of(uint8_t code)
{
    switch (code) {
    case RECORD_GOAL_BALANCED:
        return FM_SCHED_GOAL_BALANCED;
    case RECORD_GOAL_EFFICIENCY:
        return FM_SCHED_GOAL_EFFICIENCY;
    case RECORD_GOAL_LATENCY:
        return FM_SCHED_GOAL_LATENCY;
    default:
        return FM_SCHED_GOAL_COUNT_;
    }
}

static enum fm_profile_statistic statistic_of(uint8_t code)
{
    switch (code) {
    case RECORD_STATISTIC_MEAN:
        return FM_PROFILE_MEAN;
    case RECORD_STATISTIC_P50:
        return FM_PROFILE_P50;
    case RECORD_STATISTIC_P90:
        return FM_PROFILE_P90;
    case RECORD_STATISTIC_P99:
        return FM_PROFILE_P99;
    default:
        return FM_PROFILE_STATISTIC_COUNT_;
    }
}

static const struct fm_sched_model *model_get(struct reading *reading)
{
    struct cursor *cursor = &reading->cursor;
    struct fm_sched_model *model = arena_take(reading, sizeof *model);
    if (model == NULL) {
        return NULL;
    }
    model->model = get32(cursor);
    model->slo_ns = get(cursor);
    uint8_t goal = get_byte(cursor);
    uint8_t statistic = get_byte(cursor);
    model->goal = goal_of(goal);
    model->statistic = statistic_of(statistic);
    if ((model->goal == FM_SCHED_GOAL_COUNT_ && goal != RECORD_CODE_UNKNOWN) ||
        (model->statistic == FM_PROFILE_STATISTIC_COUNT_ && statistic != RECORD_CODE_UNKNOWN)) {
        wrong_newer(cursor, "has a model with a goal or statistic that is not known here");
    }
    model->batch_max = get32(cursor);
    model->queue_delay_ns = get(cursor);
    uint32_t preferred =
        get_count(cursor, FM_SCHED_PREFERRED_MAX, "has a model with too many preferred sizes");
    for (uint32_t i = 0; i < preferred; i++) {
        model->preferred[i] = get32(cursor);
    }
    for (uint32_t i = 0; i < FM_SCHED_TYPES_LIMIT; i++) {
        model->profiles[i] = profile_get(reading);
    }
    uint8_t setting = get_byte(cursor);
    if (setting == RECORD_SETTING_POLICY) {
        char name[RECORD_NAME_MAX + 1];
        name_get(cursor, name);
        model->policy_given = true;
        model->policy = fm_sched_policy_parse(name);
        if (model->policy == FM_SCHED_POLICY_COUNT_ && name[0] != '\0') {
            wrong_newer(cursor, "has a model with a policy that is not known here");
        }
        setting = get_byte(cursor);
    }
    if (setting != RECORD_SETTING_NONE) {
        wrong_newer(cursor, "has a model with a setting that is not known here");
    }
    return model;
}

static void request_get(struct reading *reading, unsigned tag, struct fm_sched_event *event)
{
    struct fm_sched_record_memory *memory = &reading->reader->memory;
    struct cursor *cursor = &reading->cursor;
    memory->arrived_slot = get_change32(cursor, memory->arrived_slot);
    if ((tag & RECORD_REQUEST_MODEL) != 0) {
        memory->arrived_model = get32(cursor);
    }
    uint32_t row = memory->arrived_model % FM_SCHED_RECORD_ROWS;
    if ((tag & RECORD_REQUEST_BUDGET) != 0) {
        memory->rows[row].budget_ns = get_change(cursor, 0);
    }
    if ((tag & RECORD_REQUEST_PRIORITY) != 0) {
        memory->rows[row].priority = get32(cursor);
    }
    event->kind = FM_SCHED_EVENT_REQUEST;
    event->as.request.request = memory->arrived_slot;
    event->as.request.model = memory->arrived_model;
    event->as.request.deadline_ns = memory->now_ns + memory->rows[row].budget_ns;
    event->as.request.priority = memory->rows[row].priority;
    memory->request_count++;
}

static void batch_get(struct reading *reading, enum fm_sched_event_kind kind,
                      struct fm_sched_event *event)
{
    struct fm_sched_record_memory *memory = &reading->reader->memory;
    event->kind = kind;
    event->as.batch.accelerator = get32(&reading->cursor);
    memory->ended_batch = get_change(&reading->cursor, memory->ended_batch);
    event->as.batch.batch = memory->ended_batch;
}

static void event_get(struct reading *reading, unsigned tag, struct fm_sched_event *event)
{
    struct cursor *cursor = &reading->cursor;
    unsigned code = tag & RECORD_EVENT_MASK;
    *event = (struct fm_sched_event){.kind = FM_SCHED_EVENT_COUNT_};
    if (code != RECORD_EVENT_REQUEST && (tag & ~(RECORD_EVENT_MASK | RECORD_MORE)) != 0) {
        wrong_newer(cursor, "has an event with flags that are not known here");
        return;
    }
    switch (code) {
    case RECORD_EVENT_TICK:
        event->kind = FM_SCHED_EVENT_TICK;
        break;
    case RECORD_EVENT_REQUEST:
        request_get(reading, tag, event);
        break;
    case RECORD_EVENT_CANCEL:
        event->kind = FM_SCHED_EVENT_CANCEL;
        event->as.cancel.request = get32(cursor);
        break;
    case RECORD_EVENT_UP:
        event->kind = FM_SCHED_EVENT_ACCELERATOR_UP;
        event->as.accelerator.accelerator = get32(cursor);
        event->as.accelerator.type = get32(cursor);
        break;
    case RECORD_EVENT_DOWN:
        event->kind = FM_SCHED_EVENT_ACCELERATOR_DOWN;
        event->as.accelerator.accelerator = get32(cursor);
        break;
    case RECORD_EVENT_SLOW:
        event->kind = FM_SCHED_EVENT_ACCELERATOR_SLOW;
        event->as.accelerator.accelerator = get32(cursor);
        event->as.accelerator.permille = get32(cursor);
        break;
    case RECORD_EVENT_DONE:
        batch_get(reading, FM_SCHED_EVENT_BATCH_DONE, event);
        break;
    case RECORD_EVENT_FAILED:
        batch_get(reading, FM_SCHED_EVENT_BATCH_FAILED, event);
        break;
    case RECORD_EVENT_MODEL_SET:
        event->kind = FM_SCHED_EVENT_MODEL_SET;
        event->as.model = model_get(reading);
        break;
    case RECORD_EVENT_MODEL_REMOVED:
        event->kind = FM_SCHED_EVENT_MODEL_REMOVED;
        event->as.model_removed = get32(cursor);
        break;
    case RECORD_EVENT_DRAIN:
        event->kind = FM_SCHED_EVENT_DRAIN;
        break;
    case RECORD_EVENT_UNKNOWN:
        break;
    default:
        wrong_newer(cursor, "has an event of a kind that is not known here");
        break;
    }
}

static uint32_t events_get(struct reading *reading)
{
    uint32_t count = 0;
    unsigned tag = RECORD_MORE;
    while ((tag & RECORD_MORE) != 0 && reading->cursor.wrong == NULL) {
        if (count == reading->reader->header.events_max) {
            wrong(&reading->cursor, "has more events than the header says");
            break;
        }
        tag = get_byte(&reading->cursor);
        event_get(reading, tag, &reading->arrays->events[count++]);
    }
    return count;
}

/* --- actions -----------------------------------------------------------------------------------
 */

static void start_get(struct reading *reading, unsigned tag, uint32_t first,
                      struct fm_sched_action *action)
{
    struct fm_sched_record_memory *memory = &reading->reader->memory;
    struct cursor *cursor = &reading->cursor;
    if ((tag & RECORD_START_MODEL) != 0) {
        memory->action_model = get32(cursor);
    }
    action->kind = FM_SCHED_ACTION_START;
    action->model = memory->action_model;
    action->accelerator = get32(cursor);
    memory->started_batch = (tag & RECORD_START_BATCH) != 0
                                ? get_change(cursor, memory->started_batch)
                                : memory->started_batch + 1;
    action->batch = memory->started_batch;
    action->start_ns =
        (tag & RECORD_START_TIME) != 0 ? get_change(cursor, memory->now_ns) : memory->now_ns;
    action->expected_ns = get_change(cursor, action->start_ns);
    action->request_first = first;
    action->request_count = get_count(cursor, reading->reader->header.request_capacity - first,
                                      "starts more requests than the header says");
    for (uint32_t i = 0; i < action->request_count && cursor->wrong == NULL; i++) {
        memory->action_slot = get_change32(cursor, memory->action_slot);
        reading->arrays->requests[first + i] = memory->action_slot;
    }
    action->request = FM_SCHED_NONE;
}

static void drop_get(struct reading *reading, unsigned tag, struct fm_sched_action *action)
{
    static const enum fm_sched_drop_reason reasons[] = {
        [RECORD_DROP_INFEASIBLE] = FM_SCHED_DROP_INFEASIBLE,
        [RECORD_DROP_LATE] = FM_SCHED_DROP_LATE,
        [RECORD_DROP_SACRIFICED] = FM_SCHED_DROP_SACRIFICED,
        [RECORD_DROP_REJECTED] = FM_SCHED_DROP_REJECTED,
        [RECORD_DROP_CANCELLED] = FM_SCHED_DROP_CANCELLED,
        [RECORD_DROP_MODEL_GONE] = FM_SCHED_DROP_MODEL_GONE,
        [RECORD_DROP_FAILED] = FM_SCHED_DROP_FAILED,
        [RECORD_DROP_OUTRANKED] = FM_SCHED_DROP_OUTRANKED,
    };
    struct fm_sched_record_memory *memory = &reading->reader->memory;
    unsigned reason = (tag >> RECORD_DROP_SHIFT) & RECORD_DROP_MASK;
    if (reason >= FM_COUNT_OF(reasons)) {
        wrong_newer(&reading->cursor, "drops a request for a reason that is not known here");
        return;
    }
    action->kind = FM_SCHED_ACTION_DROP;
    action->model = get32(&reading->cursor);
    action->accelerator = FM_SCHED_NONE;
    memory->action_slot = get_change32(&reading->cursor, memory->action_slot);
    action->request = memory->action_slot;
    action->reason = reasons[reason];
}

/* Returns the requests started. */
static uint32_t action_get(struct reading *reading, unsigned tag, uint32_t first,
                           struct fm_sched_action *action)
{
    struct cursor *cursor = &reading->cursor;
    static const uint8_t flags[] = {
        [RECORD_ACTION_START] = RECORD_START_BATCH | RECORD_START_TIME | RECORD_START_MODEL,
        [RECORD_ACTION_DROP] = RECORD_DROP_MASK << RECORD_DROP_SHIFT,
        [RECORD_ACTION_PREEMPT] = 0,
        [RECORD_ACTION_MASK] = 0,
    };
    unsigned kind = tag & RECORD_ACTION_MASK;
    *action = (struct fm_sched_action){0};
    if ((tag & ~(flags[kind] | RECORD_ACTION_MASK | RECORD_MORE)) != 0) {
        wrong_newer(cursor, "has an action with flags that are not known here");
        return 0;
    }
    switch (kind) {
    case RECORD_ACTION_START:
        start_get(reading, tag, first, action);
        return action->request_count;
    case RECORD_ACTION_DROP:
        drop_get(reading, tag, action);
        return 0;
    case RECORD_ACTION_PREEMPT:
        action->kind = FM_SCHED_ACTION_PREEMPT;
        action->model = get32(cursor);
        action->accelerator = get32(cursor);
        action->batch = get_change(cursor, reading->reader->memory.started_batch);
        action->request = FM_SCHED_NONE;
        return 0;
    default:
        wrong_newer(cursor, "has an action of a kind that is not known here");
        return 0;
    }
}

static void actions_get(struct reading *reading, struct fm_sched_record_step *step)
{
    unsigned tag = RECORD_MORE;
    while ((tag & RECORD_MORE) != 0 && reading->cursor.wrong == NULL) {
        if (step->action_count == reading->reader->header.action_capacity) {
            wrong(&reading->cursor, "has more actions than the header says");
            break;
        }
        tag = get_byte(&reading->cursor);
        step->request_count += action_get(reading, tag, step->request_count,
                                          &reading->arrays->actions[step->action_count++]);
    }
}

/* --- steps -------------------------------------------------------------------------------------
 */

static uint64_t wake_get(struct reading *reading, unsigned flags)
{
    struct fm_sched_record_memory *memory = &reading->reader->memory;
    uint64_t wake_ns = FM_SCHED_NEVER;
    unsigned code = (flags >> RECORD_STEP_WAKE_SHIFT) & RECORD_STEP_WAKE_MASK;
    switch (code) {
    case RECORD_WAKE_NEVER:
        break;
    case RECORD_WAKE_SAME:
        wake_ns = memory->wake_ns;
        break;
    case RECORD_WAKE_AGAIN:
        wake_ns = memory->wake_ns + memory->wake_change_ns;
        break;
    case RECORD_WAKE_AFTER:
        wake_ns = memory->now_ns + get(&reading->cursor);
        record_wake_remember(memory, wake_ns);
        break;
    case RECORD_WAKE_BEFORE:
        wake_ns = memory->now_ns - get(&reading->cursor);
        record_wake_remember(memory, wake_ns);
        break;
    default:
        wrong_newer(&reading->cursor, "has flags that are not known here");
        break;
    }
    memory->wake_ns = wake_ns;
    return wake_ns;
}

static void step_get(struct reading *reading, struct fm_sched_record_step *step)
{
    struct fm_sched_record_memory *memory = &reading->reader->memory;
    struct cursor *cursor = &reading->cursor;
    unsigned flags = get_byte(cursor);
    unsigned of_actions =
        RECORD_STEP_ACTIONS | ((unsigned)RECORD_STEP_WAKE_MASK << RECORD_STEP_WAKE_SHIFT);
    bool has_actions = reading->reader->header.has_actions;
    if (!has_actions && (flags & of_actions) != 0) {
        wrong_newer(cursor, "has flags that are not known here");
        return;
    }
    *step = (struct fm_sched_record_step){.events = reading->arrays->events,
                                          .actions = reading->arrays->actions,
                                          .requests = reading->arrays->requests,
                                          .wake_ns = FM_SCHED_NEVER};
    memory->now_ns += (flags & RECORD_STEP_LATER) != 0 ? get(cursor) : 0;
    memory->now_ns -= (flags & RECORD_STEP_EARLIER) != 0 ? get(cursor) : 0;
    step->now_ns = memory->now_ns;
    uint64_t rest = (flags & RECORD_STEP_REST) != 0 ? get(cursor) : 0;
    step->out_of_memory = (rest & 1) != 0;
    step->event_count = (flags & RECORD_STEP_EVENTS) != 0 ? events_get(reading) : 0;
    if (rest >> 1 > step->event_count) {
        wrong(cursor, "takes fewer events than none");
    }
    step->taken = step->event_count - (uint32_t)(rest >> 1);
    if ((flags & RECORD_STEP_ACTIONS) != 0) {
        actions_get(reading, step);
    }
    if (has_actions) {
        step->wake_ns = wake_get(reading, flags);
    }
}

/* Opens the next block, unless one is open. */
static int block_find(struct fm_sched_record_reader *reader, struct fm_error *reterr)
{
    if (reader->block_end != 0) {
        return 0;
    }
    unsigned kind = 0;
    int status = block_open(reader, &kind, reterr);
    if (status != 0) {
        return status;
    }
    switch (kind) {
    case RECORD_STEPS:
        if (reader->offset < reader->block_end) {
            return 0;
        }
        (void)fm_error_set(reterr, FM_ECORRUPT, "there is a block without steps");
        return fail(reader, FM_ECORRUPT, reterr);
    case RECORD_END:
        return end_read(reader, reterr);
    case 0:
        (void)fm_error_set(reterr, FM_ECORRUPT,
                           "the recording ends here without its end mark: it was cut off, or is "
                           "still being written");
        return fail(reader, FM_ECORRUPT, reterr);
    default:
        (void)fm_error_set(reterr, FM_EUNSUPPORTED,
                           "there is a block of kind %u, which is not known here", kind);
        return fail(reader, FM_EUNSUPPORTED, reterr);
    }
}

int fm_sched_record_read(struct fm_sched_record_reader *reader,
                         const struct fm_sched_record_arrays *arrays, struct fm_arena *arena,
                         struct fm_sched_record_step *ret_step, bool *ret_end,
                         struct fm_error *reterr)
{
    *ret_end = reader->ended;
    if (reader->ended) {
        return 0;
    }
    if (reader->status != 0) {
        return fm_error_set(reterr, reader->status, "the recording could not be read further");
    }
    int status = block_find(reader, reterr);
    *ret_end = reader->ended;
    if (status != 0 || reader->ended) {
        return status;
    }
    struct reading reading = {
        .reader = reader, .arrays = arrays, .arena = arena, .cursor = block_cursor(reader)};
    memset(reader->step_profiles, 0, sizeof reader->step_profiles);
    step_get(&reading, ret_step);
    if (reading.cursor.wrong != NULL) {
        status = contents_fail(reader, &reading.cursor, reterr);
        reader->status = reading.no_memory ? FM_ENOMEM : status;
        if (reading.no_memory && reterr != NULL) {
            reterr->status = FM_ENOMEM;
        }
        return reader->status;
    }
    reader->memory.step_count++;
    reader->offset = (size_t)(reading.cursor.at - reader->data);
    if (reader->offset == reader->block_end) {
        block_close(reader);
    }
    return 0;
}
