/*
 * The flow state machine. See flow.h. Pure; memory through core/util/memory.
 */
#include "core/plan/flow.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"

/* How far into a queue the batch former looks for items of the head's bucket. */
enum { BUCKET_SCAN_MAX = 512 };

struct queue {
    struct fm_flow_item *head;
    struct fm_flow_item *tail;
    uint32_t count;
};

struct stage_state {
    struct queue queue;
    struct fm_flow_stats stats;
    uint32_t slots_of;   /* the stage whose slots this one uses */
    uint32_t slots_used; /* by all stages that use this one's slots */
    uint32_t slots_max;
    uint32_t batch_max;
    uint32_t batch_limit;  /* what it was made with */
    uint64_t accelerators; /* that it may use, where there are any */
};

struct accelerator {
    struct fm_flow_accelerator_stats stats;
    uint32_t stages; /* that may use it */
};

/* The child frames of one frame in one child scope. */
struct group {
    struct fm_flow_frame **frames;
    uint32_t count;
    bool open;           /* the opening stage has run */
    uint32_t *delivered; /* by local value of the child scope: frames that have it */
};

struct fm_flow_frame {
    struct fm_flow_request *request;
    struct fm_flow_frame *parent;
    struct fm_flow_frame *next_of_request;
    uint32_t scope;
    struct fm_value *values;    /* by local value */
    uint32_t *uses;             /* consumers that have not run yet, outputs count as one */
    bool *present;              /* delivered (and perhaps released again) */
    struct fm_flow_item *items; /* by local stage */
    struct group *groups;       /* by local child scope */
};

struct fm_flow_request {
    struct fm_flow *flow;
    void *user;
    struct fm_flow_frame *root;
    struct fm_flow_frame *frames; /* all of them */
    struct fm_flow_request *next; /* finished list */
    struct fm_flow_request *next_live;
    struct fm_flow_request *previous_live;
    struct fm_flow_timing *timings;
    struct fm_error error;
    int failed_stage;
    uint64_t deadline_ns;
    uint32_t rows;
    uint32_t outstanding; /* items ready or running */
    uint32_t outputs_missing;
    uint64_t bytes; /* of the values that are there */
    uint64_t bytes_most;
    bool finished;
    const struct fm_pipeline *pipeline;
};

struct fm_flow {
    const struct fm_pipeline *pipeline;
    struct stage_state *stages;
    uint32_t *by_depth; /* stages, deepest first */
    uint32_t requests_max;
    uint32_t requests;
    uint32_t operator_slots;
    uint32_t operator_slots_most; /* that there have been */
    uint32_t operators_running;
    uint32_t accelerator_slots;
    uint32_t models_running;
    bool has_accelerators;
    uint64_t accelerators_busy; /* bit n: number n */
    struct accelerator accelerators[FM_FLOW_ACCELERATORS_MAX];
    uint64_t bytes;       /* of all requests */
    struct queue running; /* in the order in which they began */
    struct fm_flow_request *live;
    struct fm_flow_request *finished_head;
    struct fm_flow_request *finished_tail;
};

static const struct fm_pipeline_stage *stage_of(const struct fm_flow *flow, uint32_t stage)
{
    return &flow->pipeline->stages[stage];
}

static bool is_model(const struct fm_flow *flow, uint32_t stage)
{
    return stage_of(flow, stage)->spec->kind == FM_STAGE_MODEL;
}

/* --- creation --- */

static void accelerators_set(struct fm_flow *flow, uint32_t stage,
                             const struct fm_flow_options *options)
{
    if (!flow->has_accelerators || !is_model(flow, stage)) {
        return;
    }
    FM_ASSERT(options->accelerators[stage] != 0);
    flow->stages[stage].accelerators = options->accelerators[stage];
    for (uint32_t i = 0; i < FM_FLOW_ACCELERATORS_MAX; i++) {
        flow->accelerators[i].stages += (uint32_t)(options->accelerators[stage] >> i & 1);
    }
}

int fm_flow_create(const struct fm_pipeline *pipeline, const struct fm_flow_options *options,
                   struct fm_flow **ret_flow)
{
    struct fm_flow *flow = fm_alloc_zero(1, sizeof(*flow));
    if (flow == NULL) {
        return FM_ENOMEM;
    }
    flow->pipeline = pipeline;
    flow->requests_max = options->requests_max;
    flow->operator_slots = options->operator_slots;
    flow->operator_slots_most = options->operator_slots;
    flow->accelerator_slots = options->accelerator_slots;
    flow->stages = fm_alloc_zero(pipeline->stage_count, sizeof(*flow->stages));
    flow->by_depth = fm_alloc_zero(pipeline->stage_count, sizeof(*flow->by_depth));
    if (flow->stages == NULL || flow->by_depth == NULL) {
        fm_flow_destroy(flow);
        return FM_ENOMEM;
    }
    flow->has_accelerators = options->accelerators != NULL;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        uint32_t batch_max = options->batch_max[i];
        flow->stages[i].slots_max = options->stage_slots[i];
        flow->stages[i].slots_of = options->slots_of != NULL ? options->slots_of[i] : i;
        FM_ASSERT(flow->stages[i].slots_of <= i);
        flow->stages[i].batch_max = batch_max == 0 ? 1 : batch_max;
        flow->stages[i].batch_limit = flow->stages[i].batch_max;
        flow->by_depth[pipeline->stage_count - 1 - pipeline->stages[i].depth] = i;
        accelerators_set(flow, i, options);
    }
    *ret_flow = flow;
    return 0;
}

void fm_flow_destroy(struct fm_flow *flow)
{
    if (flow != NULL) {
        FM_ASSERT(flow->requests == 0);
        fm_free(flow->stages);
        fm_free(flow->by_depth);
        fm_free(flow);
    }
}

/* --- what values take --- */

/* What somebody else owns is not counted. */
static uint64_t value_bytes(const struct fm_value *value)
{
    return value->buffer != NULL ? value->tensor.size : 0;
}

/* The request has, or has had for a while, so much more than its values. */
static void bytes_seen(struct fm_flow_request *request, uint64_t more)
{
    uint64_t bytes = request->bytes + more;
    request->bytes_most = bytes > request->bytes_most ? bytes : request->bytes_most;
}

/* Nobody needs the value any more. */
static void value_release(struct fm_flow_frame *frame, uint32_t local)
{
    uint64_t bytes = value_bytes(&frame->values[local]);
    frame->request->bytes -= bytes;
    frame->request->flow->bytes -= bytes;
    fm_value_unref(&frame->values[local]);
}

/* --- frames --- */

static void frame_free(const struct fm_pipeline *pipeline, struct fm_flow_frame *frame)
{
    const struct fm_pipeline_scope *scope = &pipeline->scopes[frame->scope];
    for (uint32_t i = 0; frame->values != NULL && i < scope->value_count; i++) {
        fm_value_unref(&frame->values[i]);
    }
    for (uint32_t i = 0; frame->groups != NULL && i < scope->child_count; i++) {
        fm_free(frame->groups[i].frames);
        fm_free(frame->groups[i].delivered);
    }
    fm_free(frame->values);
    fm_free(frame->uses);
    fm_free(frame->present);
    fm_free(frame->items);
    fm_free(frame->groups);
    fm_free(frame);
}

/* The frame of `scope` on the line from `frame` to the root. */
static struct fm_flow_frame *frame_at(struct fm_flow_frame *frame, uint32_t scope)
{
    while (frame->scope != scope) {
        frame = frame->parent;
        FM_ASSERT(frame != NULL);
    }
    return frame;
}

static uint32_t initial_missing(const struct fm_flow *flow, struct fm_flow_frame *frame,
                                uint32_t stage)
{
    const struct fm_pipeline_stage *info = stage_of(flow, stage);
    uint32_t missing = 0;
    for (uint32_t j = 0; j < info->input_count; j++) {
        if (info->inputs[j].value < 0) {
            continue;
        }
        const struct fm_pipeline_value *value = &flow->pipeline->values[info->inputs[j].value];
        bool above = value->scope != frame->scope && !info->inputs[j].collects;
        if (!above || !frame_at(frame, value->scope)->present[value->local]) {
            missing++;
        }
    }
    return missing;
}

static struct fm_flow_frame *frame_create(struct fm_flow *flow, struct fm_flow_request *request,
                                          struct fm_flow_frame *parent, uint32_t scope_index)
{
    const struct fm_pipeline_scope *scope = &flow->pipeline->scopes[scope_index];
    struct fm_flow_frame *frame = fm_alloc_zero(1, sizeof(*frame));
    if (frame == NULL) {
        return NULL;
    }
    frame->request = request;
    frame->parent = parent;
    frame->scope = scope_index;
    frame->values = fm_alloc_zero(scope->value_count, sizeof(*frame->values));
    frame->uses = fm_alloc_zero(scope->value_count, sizeof(*frame->uses));
    frame->present = fm_alloc_zero(scope->value_count, sizeof(*frame->present));
    frame->items = fm_alloc_zero(scope->stage_count, sizeof(*frame->items));
    frame->groups = fm_alloc_zero(scope->child_count, sizeof(*frame->groups));
    bool complete = frame->values != NULL && frame->uses != NULL && frame->present != NULL &&
                    frame->items != NULL && frame->groups != NULL;
    for (uint32_t i = 0; complete && i < scope->child_count; i++) {
        uint32_t child_values = flow->pipeline->scopes[scope->children[i]].value_count;
        frame->groups[i].delivered = fm_alloc_zero(child_values, sizeof(uint32_t));
        complete = frame->groups[i].delivered != NULL;
    }
    if (!complete) {
        frame_free(flow->pipeline, frame);
        return NULL;
    }
    for (uint32_t i = 0; i < scope->value_count; i++) {
        const struct fm_pipeline_value *value = &flow->pipeline->values[scope->values[i]];
        frame->uses[i] = value->consumer_count + (value->is_output ? 1 : 0);
    }
    for (uint32_t i = 0; i < scope->stage_count; i++) {
        frame->items[i] = (struct fm_flow_item){.frame = frame, .stage = scope->stages[i]};
        frame->items[i].missing = initial_missing(flow, frame, scope->stages[i]);
    }
    frame->next_of_request = request->frames;
    request->frames = frame;
    return frame;
}

/* --- queues --- */

static void queue_push(struct queue *queue, struct fm_flow_item *item)
{
    item->next = NULL;
    item->previous = queue->tail;
    if (queue->tail != NULL) {
        queue->tail->next = item;
    } else {
        queue->head = item;
    }
    queue->tail = item;
    queue->count++;
}

static void queue_remove(struct queue *queue, struct fm_flow_item *item)
{
    *(item->previous != NULL ? &item->previous->next : &queue->head) = item->next;
    *(item->next != NULL ? &item->next->previous : &queue->tail) = item->previous;
    item->next = NULL;
    item->previous = NULL;
    FM_ASSERT(queue->count > 0);
    queue->count--;
}

/* --- finishing --- */

static void request_check_finished(struct fm_flow *flow, struct fm_flow_request *request)
{
    if (request->finished || request->outstanding > 0) {
        return;
    }
    if (request->error.status == 0 && request->outputs_missing > 0) {
        return;
    }
    request->finished = true;
    *(request->previous_live != NULL ? &request->previous_live->next_live : &flow->live) =
        request->next_live;
    if (request->next_live != NULL) {
        request->next_live->previous_live = request->previous_live;
    }
    request->next = NULL;
    *(flow->finished_tail != NULL ? &flow->finished_tail->next : &flow->finished_head) = request;
    flow->finished_tail = request;
}

void fm_flow_fail(struct fm_flow *flow, struct fm_flow_request *request, int stage,
                  const struct fm_error *error)
{
    if (request->finished || request->error.status != 0) {
        return;
    }
    FM_ASSERT(error->status < 0);
    request->error = *error;
    request->failed_stage = stage;
    for (struct fm_flow_frame *frame = request->frames; frame != NULL;
         frame = frame->next_of_request) {
        uint32_t count = flow->pipeline->scopes[frame->scope].stage_count;
        for (uint32_t i = 0; i < count; i++) {
            struct fm_flow_item *item = &frame->items[i];
            if (item->state == FM_FLOW_ITEM_READY) {
                queue_remove(&flow->stages[item->stage].queue, item);
                item->state = FM_FLOW_ITEM_DONE;
                request->outstanding--;
            }
        }
    }
    request_check_finished(flow, request);
}

/* --- delivery --- */

/* What the batch former groups by: exact shape sizes or a rounded width. Items of one bucket can
 * share a batch. */
static int64_t item_bucket(const struct fm_flow *flow, struct fm_flow_item *item)
{
    const struct fm_pipeline_stage *stage = stage_of(flow, item->stage);
    uint64_t hash = FM_HASH_START;
    const struct fm_batch_spec *batch = &stage->spec->batch;
    for (uint32_t j = 0; j < stage->input_count; j++) {
        int32_t index = stage->inputs[j].value;
        if (index < 0) {
            continue;
        }
        const struct fm_pipeline_value *value = &flow->pipeline->values[index];
        const struct fm_tensor *tensor =
            &frame_at(item->frame, value->scope)->values[value->local].tensor;
        for (uint32_t axis = 0; axis < tensor->rank; axis++) {
            int64_t size = tensor->shape[axis];
            if (j == 0 && batch->bucket_step > 0 && (int32_t)axis == batch->bucket_axis) {
                size = (size + batch->bucket_step - 1) / batch->bucket_step;
            } else if (axis == 0 && stage->spec->items_have_rows) {
                size = 0; /* rows may differ between the requests of a batch */
            }
            hash = fm_hash_add(hash, &size, sizeof(size));
        }
        const uint32_t kind[2] = {tensor->rank, (uint32_t)tensor->dtype};
        hash = fm_hash_add(hash, kind, sizeof(kind));
    }
    return (int64_t)hash;
}

static void item_make_ready(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item)
{
    FM_ASSERT(item->state == FM_FLOW_ITEM_WAITING);
    item->state = FM_FLOW_ITEM_READY;
    item->ready_ns = now_ns;
    item->bucket = is_model(flow, item->stage) ? item_bucket(flow, item) : 0;
    item->frame->request->outstanding++;
    queue_push(&flow->stages[item->stage].queue, item);
}

static void item_input_arrived(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_frame *frame,
                               uint32_t stage)
{
    struct fm_flow_item *item = &frame->items[stage_of(flow, stage)->local];
    FM_ASSERT(item->missing > 0);
    item->missing--;
    if (item->missing == 0) {
        item_make_ready(flow, now_ns, item);
    }
}

static void value_use(struct fm_flow_frame *frame, uint32_t local)
{
    FM_ASSERT(frame->uses[local] > 0);
    frame->uses[local]--;
    if (frame->uses[local] == 0) {
        value_release(frame, local);
    }
}

/* Tells every frame of the stage's scope below `frame` that an input from above is there. Recursion
 * is bounded by the number of scopes. */
static void deliver_below(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_frame *frame,
                          uint32_t stage)
{
    uint32_t target = stage_of(flow, stage)->scope;
    if (frame->scope == target) {
        item_input_arrived(flow, now_ns, frame, stage);
        return;
    }
    uint32_t child = target;
    while ((uint32_t)flow->pipeline->scopes[child].parent != frame->scope) {
        child = (uint32_t)flow->pipeline->scopes[child].parent;
    }
    struct group *group = &frame->groups[flow->pipeline->scopes[child].local];
    for (uint32_t i = 0; i < group->count; i++) {
        deliver_below(flow, now_ns, group->frames[i], stage);
    }
}

/* True when the collected input is complete: the group is open and every child has delivered. */
static void collected_check(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_frame *parent,
                            uint32_t value_index)
{
    const struct fm_pipeline_value *value = &flow->pipeline->values[value_index];
    struct group *group = &parent->groups[flow->pipeline->scopes[value->scope].local];
    if (!group->open || group->delivered[value->local] != group->count) {
        return;
    }
    for (uint32_t i = 0; i < value->consumer_count; i++) {
        const struct fm_pipeline_consumer *consumer = &value->consumers[i];
        if (stage_of(flow, consumer->stage)->inputs[consumer->input].collects) {
            item_input_arrived(flow, now_ns, parent, consumer->stage);
        }
    }
    if (value->is_output) {
        /* A stacked output counts once; bind_outputs allows them only directly below the root. */
        FM_ASSERT(parent->request->outputs_missing > 0);
        parent->request->outputs_missing--;
    }
}

/* Puts a value in its frame and tells everybody who waits for it. Takes the value. */
static void deliver(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_frame *frame,
                    uint32_t value_index, struct fm_value *take_value)
{
    const struct fm_pipeline_value *value = &flow->pipeline->values[value_index];
    FM_ASSERT(frame->scope == value->scope);
    FM_ASSERT(!frame->present[value->local]);
    frame->values[value->local] = *take_value;
    memset(take_value, 0, sizeof(*take_value));
    uint64_t bytes = value_bytes(&frame->values[value->local]);
    frame->request->bytes += bytes;
    flow->bytes += bytes;
    bytes_seen(frame->request, 0);
    frame->present[value->local] = true;
    for (uint32_t i = 0; i < value->consumer_count; i++) {
        const struct fm_pipeline_consumer *consumer = &value->consumers[i];
        if (!stage_of(flow, consumer->stage)->inputs[consumer->input].collects) {
            deliver_below(flow, now_ns, frame, consumer->stage);
        }
    }
    if (frame->uses[value->local] == 0) {
        value_release(frame, value->local);
    }
    if (frame->parent != NULL) {
        struct group *group = &frame->parent->groups[flow->pipeline->scopes[frame->scope].local];
        group->delivered[value->local]++;
        collected_check(flow, now_ns, frame->parent, value_index);
    } else if (value->is_output) {
        frame->request->outputs_missing--;
    }
}

/*
 * A fan-out of n elements turns one expected use by a stage in the new scope (or below) into n:
 * adjusts the values of this frame and those above it.
 */
static void adjust_uses(struct fm_flow *flow, struct fm_flow_frame *frame, uint32_t child_scope,
                        uint32_t count)
{
    for (struct fm_flow_frame *holder = frame; holder != NULL; holder = holder->parent) {
        const struct fm_pipeline_scope *scope = &flow->pipeline->scopes[holder->scope];
        for (uint32_t i = 0; i < scope->value_count; i++) {
            const struct fm_pipeline_value *value = &flow->pipeline->values[scope->values[i]];
            uint32_t below = 0;
            for (uint32_t c = 0; c < value->consumer_count; c++) {
                const struct fm_pipeline_stage *stage = stage_of(flow, value->consumers[c].stage);
                int32_t walk = (int32_t)stage->scope;
                while (walk >= 0 && (uint32_t)walk != child_scope) {
                    walk = flow->pipeline->scopes[walk].parent;
                }
                below += walk >= 0 ? 1 : 0;
            }
            if (below == 0) {
                continue;
            }
            FM_ASSERT(holder->uses[i] >= below);
            holder->uses[i] = holder->uses[i] - below + below * count;
            if (holder->uses[i] == 0 && holder->present[i]) {
                value_release(holder, i);
            }
        }
    }
}

/* Opens the child frames of a fan-out. False: out of memory, nothing is open. */
static bool group_open(struct fm_flow *flow, struct fm_flow_frame *frame, uint32_t child_scope,
                       uint32_t count)
{
    struct group *group = &frame->groups[flow->pipeline->scopes[child_scope].local];
    FM_ASSERT(!group->open);
    struct fm_flow_frame **frames = fm_alloc_zero(count, sizeof(struct fm_flow_frame *));
    if (frames == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        frames[i] = frame_create(flow, frame->request, frame, child_scope);
        if (frames[i] == NULL) {
            /* Frames made so far hang on the request's list and go with it: the request fails now.
             */
            fm_free(frames);
            return false;
        }
    }
    adjust_uses(flow, frame, child_scope, count);
    group->frames = frames;
    group->count = count;
    group->open = true;
    return true;
}

/* With no elements nothing will ever be delivered from the new scope: what is collected from it is
 * complete at once. */
static void group_close_empty(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_frame *frame,
                              uint32_t child_scope)
{
    const struct fm_pipeline_scope *scope = &flow->pipeline->scopes[child_scope];
    for (uint32_t i = 0; i < scope->value_count; i++) {
        collected_check(flow, now_ns, frame, scope->values[i]);
    }
}

/* --- requests --- */

static void request_free(struct fm_flow_request *request)
{
    struct fm_flow_frame *frame = request->frames;
    while (frame != NULL) {
        struct fm_flow_frame *next = frame->next_of_request;
        frame_free(request->pipeline, frame);
        frame = next;
    }
    fm_free(request->timings);
    fm_free(request);
}

void fm_flow_request_free(struct fm_flow_request *request)
{
    if (request != NULL) {
        request_free(request);
    }
}

int fm_flow_admit(struct fm_flow *flow, uint64_t now_ns, struct fm_value *take_inputs,
                  uint32_t rows, uint64_t deadline_ns, void *user,
                  struct fm_flow_request **ret_request)
{
    if (flow->requests >= flow->requests_max) {
        return FM_EAGAIN;
    }
    struct fm_flow_request *request = fm_alloc_zero(1, sizeof(*request));
    if (request == NULL) {
        return FM_ENOMEM;
    }
    request->flow = flow;
    request->pipeline = flow->pipeline;
    request->user = user;
    request->deadline_ns = deadline_ns;
    request->rows = rows;
    request->failed_stage = -1;
    request->timings = fm_alloc_zero(flow->pipeline->stage_count, sizeof(*request->timings));
    if (request->timings != NULL) {
        request->root = frame_create(flow, request, NULL, 0);
    }
    if (request->root == NULL) {
        request_free(request);
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < flow->pipeline->value_count; i++) {
        request->outputs_missing += flow->pipeline->values[i].is_output ? 1 : 0;
    }
    request->next_live = flow->live;
    if (flow->live != NULL) {
        flow->live->previous_live = request;
    }
    flow->live = request;
    flow->requests++;
    for (uint32_t i = 0; i < flow->pipeline->spec->input_count; i++) {
        deliver(flow, now_ns, request->root, i, &take_inputs[i]);
    }
    uint32_t stage_count = flow->pipeline->scopes[0].stage_count;
    for (uint32_t i = 0; i < stage_count; i++) {
        struct fm_flow_item *item = &request->root->items[i];
        if (item->missing == 0 && item->state == FM_FLOW_ITEM_WAITING) {
            item_make_ready(flow, now_ns, item);
        }
    }
    *ret_request = request;
    request_check_finished(flow, request);
    return 0;
}

/* --- choosing --- */

static bool item_expired(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item)
{
    struct fm_flow_request *request = item->frame->request;
    if (request->deadline_ns == 0 || now_ns <= request->deadline_ns) {
        return false;
    }
    struct fm_error error = {0};
    (void)fm_error_set(&error, FM_EDEADLINE,
                       "Request timeout expired: its deadline passed %.3f ms before stage '%s' "
                       "could start; allow more time or send less load",
                       (double)(now_ns - request->deadline_ns) / 1e6,
                       stage_of(flow, item->stage)->spec->name);
    fm_flow_fail(flow, request, (int)item->stage, &error);
    return true;
}

static uint32_t item_rows(const struct fm_flow *flow, const struct fm_flow_item *item)
{
    return stage_of(flow, item->stage)->spec->items_have_rows ? item->frame->request->rows : 1;
}

static void task_add(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_task *task,
                     struct fm_flow_item *item)
{
    queue_remove(&flow->stages[item->stage].queue, item);
    item->state = FM_FLOW_ITEM_RUNNING;
    item->start_ns = now_ns;
    queue_push(&flow->running, item);
    task->rows += item_rows(flow, item);
    task->items[task->item_count++] = item;
}

/* More items may still come to this stage while anything above it in the pipeline is queued or
 * running. */
static bool more_may_come(const struct fm_flow *flow, uint32_t stage)
{
    for (uint32_t i = 0; i < flow->pipeline->stage_count; i++) {
        if (flow->pipeline->stages[i].depth < flow->pipeline->stages[stage].depth &&
            (flow->stages[i].queue.count > 0 || flow->stages[i].stats.running > 0)) {
            return true;
        }
    }
    return false;
}

static void form_batch(struct fm_flow *flow, uint64_t now_ns, uint32_t stage,
                       struct fm_flow_task *task)
{
    struct stage_state *state = &flow->stages[stage];
    struct fm_flow_item *head = state->queue.head;
    int64_t bucket = head->bucket;
    bool alone = head->alone;
    struct fm_flow_item *item = head->next;
    task_add(flow, now_ns, task, head);
    for (uint32_t scanned = 0; !alone && item != NULL && scanned < BUCKET_SCAN_MAX; scanned++) {
        struct fm_flow_item *next = item->next;
        if (task->item_count == FM_FLOW_BATCH_ITEMS_MAX || task->rows >= state->batch_max) {
            break;
        }
        if (item->bucket == bucket && !item->alone &&
            task->rows + item_rows(flow, item) <= state->batch_max) {
            task_add(flow, now_ns, task, item);
        }
        item = next;
    }
}

void fm_flow_operator_slots_set(struct fm_flow *flow, uint32_t slots)
{
    FM_ASSERT(slots > 0);
    flow->operator_slots = slots;
    flow->operator_slots_most =
        slots > flow->operator_slots_most ? slots : flow->operator_slots_most;
}

void fm_flow_batch_max_set(struct fm_flow *flow, uint32_t stage, uint32_t rows)
{
    struct stage_state *state = &flow->stages[stage];
    FM_ASSERT(is_model(flow, stage) && rows > 0 && rows <= state->batch_limit);
    state->batch_max = rows;
}

static bool stage_may_run(const struct fm_flow *flow, uint32_t stage)
{
    const struct stage_state *state = &flow->stages[stage];
    if (state->queue.count == 0) {
        return false;
    }
    if (!is_model(flow, stage)) {
        return flow->operators_running < flow->operator_slots &&
               (state->slots_max == 0 || state->stats.running < state->slots_max);
    }
    if (flow->stages[state->slots_of].slots_used >= state->slots_max ||
        (flow->accelerator_slots > 0 && flow->models_running >= flow->accelerator_slots) ||
        (flow->has_accelerators && (state->accelerators & ~flow->accelerators_busy) == 0)) {
        return false;
    }
    return state->queue.count >= stage_of(flow, stage)->spec->batch.wait_for ||
           !more_may_come(flow, stage);
}

/* Of those that are free the one that the fewest stages may use. There is one. */
static uint32_t accelerator_take(struct fm_flow *flow, uint32_t stage)
{
    uint64_t free_ones = flow->stages[stage].accelerators & ~flow->accelerators_busy;
    uint32_t best = FM_FLOW_ACCELERATORS_MAX;
    for (uint32_t i = 0; i < FM_FLOW_ACCELERATORS_MAX; i++) {
        if ((free_ones >> i & 1) != 0 &&
            (best == FM_FLOW_ACCELERATORS_MAX ||
             flow->accelerators[i].stages < flow->accelerators[best].stages)) {
            best = i;
        }
    }
    FM_ASSERT(best < FM_FLOW_ACCELERATORS_MAX);
    flow->accelerators_busy |= UINT64_C(1) << best;
    return best;
}

static bool take_from(struct fm_flow *flow, uint64_t now_ns, uint32_t stage,
                      struct fm_flow_task *task)
{
    struct stage_state *state = &flow->stages[stage];
    while (state->queue.head != NULL && item_expired(flow, now_ns, state->queue.head)) {
    }
    if (state->queue.head == NULL) {
        return false;
    }
    task->stage = stage;
    task->item_count = 0;
    task->rows = 0;
    task->accelerator = 0;
    if (is_model(flow, stage)) {
        form_batch(flow, now_ns, stage, task);
        task->accelerator = flow->has_accelerators ? accelerator_take(flow, stage) : 0;
        flow->models_running++;
        flow->stages[state->slots_of].slots_used++;
    } else {
        task_add(flow, now_ns, task, state->queue.head);
        flow->operators_running++;
    }
    state->stats.running++;
    return true;
}

bool fm_flow_may_run(const struct fm_flow *flow, enum fm_stage_kind kind)
{
    for (uint32_t i = 0; i < flow->pipeline->stage_count; i++) {
        if (stage_of(flow, i)->spec->kind == kind && stage_may_run(flow, i)) {
            return true;
        }
    }
    return false;
}

bool fm_flow_next(struct fm_flow *flow, uint64_t now_ns, enum fm_stage_kind kind,
                  struct fm_flow_task *ret_task)
{
    for (uint32_t i = 0; i < flow->pipeline->stage_count; i++) {
        uint32_t stage = flow->by_depth[i];
        if (stage_of(flow, stage)->spec->kind == kind && stage_may_run(flow, stage) &&
            take_from(flow, now_ns, stage, ret_task)) {
            return true;
        }
    }
    return false;
}

/* --- inputs and results --- */

uint32_t fm_flow_input_count(const struct fm_flow *flow, const struct fm_flow_item *item,
                             uint32_t input)
{
    const struct fm_pipeline_input *info = &stage_of(flow, item->stage)->inputs[input];
    if (info->value < 0) {
        return 0;
    }
    if (!info->collects) {
        const struct fm_pipeline_value *value = &flow->pipeline->values[info->value];
        const struct fm_flow_frame *frame = frame_at(item->frame, value->scope);
        return frame->values[value->local].tensor.dtype == FM_DTYPE_INVALID ? 0 : 1;
    }
    uint32_t scope = flow->pipeline->values[info->value].scope;
    return item->frame->groups[flow->pipeline->scopes[scope].local].count;
}

void fm_flow_input_get(const struct fm_flow *flow, const struct fm_flow_item *item, uint32_t input,
                       struct fm_value *ret_values)
{
    const struct fm_pipeline_input *info = &stage_of(flow, item->stage)->inputs[input];
    if (info->value < 0) {
        return;
    }
    const struct fm_pipeline_value *value = &flow->pipeline->values[info->value];
    if (!info->collects) {
        const struct fm_flow_frame *frame = frame_at(item->frame, value->scope);
        if (frame->values[value->local].tensor.dtype != FM_DTYPE_INVALID) {
            ret_values[0] = fm_value_ref(&frame->values[value->local]);
        }
        return;
    }
    const struct group *group = &item->frame->groups[flow->pipeline->scopes[value->scope].local];
    for (uint32_t i = 0; i < group->count; i++) {
        ret_values[i] = fm_value_ref(&group->frames[i]->values[value->local]);
    }
}

/* The item has run: its inputs are used once less. */
static void release_inputs(struct fm_flow *flow, struct fm_flow_item *item)
{
    const struct fm_pipeline_stage *stage = stage_of(flow, item->stage);
    for (uint32_t j = 0; j < stage->input_count; j++) {
        if (stage->inputs[j].value < 0) {
            continue;
        }
        const struct fm_pipeline_value *value = &flow->pipeline->values[stage->inputs[j].value];
        if (!stage->inputs[j].collects) {
            value_use(frame_at(item->frame, value->scope), value->local);
            continue;
        }
        struct group *group = &item->frame->groups[flow->pipeline->scopes[value->scope].local];
        for (uint32_t i = 0; i < group->count; i++) {
            value_use(group->frames[i], value->local);
        }
    }
}

static void values_drop(const struct fm_pipeline_stage *stage, struct fm_value *const *values,
                        const uint32_t *counts)
{
    for (uint32_t j = 0; j < stage->output_count; j++) {
        for (uint32_t i = 0; i < counts[j]; i++) {
            fm_value_unref(&values[j][i]);
        }
    }
}

static uint64_t values_bytes(const struct fm_pipeline_stage *stage, struct fm_value *const *values,
                             const uint32_t *counts)
{
    uint64_t bytes = 0;
    for (uint32_t j = 0; j < stage->output_count; j++) {
        for (uint32_t i = 0; i < counts[j]; i++) {
            bytes += value_bytes(&values[j][i]);
        }
    }
    return bytes;
}

static void item_leave(struct fm_flow *flow, struct fm_flow_item *item, bool failed)
{
    FM_ASSERT(item->state == FM_FLOW_ITEM_RUNNING);
    queue_remove(&flow->running, item);
    item->state = FM_FLOW_ITEM_DONE;
    flow->stages[item->stage].stats.items++;
    flow->stages[item->stage].stats.failures += failed ? 1 : 0;
}

/* Hands a stage's outputs to the frames they belong to. */
static int outputs_deliver(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item,
                           struct fm_value *const *values, const uint32_t *counts)
{
    const struct fm_pipeline_stage *stage = stage_of(flow, item->stage);
    struct fm_flow_frame *frame = item->frame;
    struct group *group = NULL;
    if (stage->child_scope >= 0) {
        uint32_t count = 0;
        for (uint32_t j = 0; j < stage->output_count; j++) {
            if ((stage->ports.outputs[j].flags & FM_PORT_MANY) != 0) {
                count = counts[j];
            }
        }
        if (!group_open(flow, frame, (uint32_t)stage->child_scope, count)) {
            return FM_ENOMEM;
        }
        group = &frame->groups[flow->pipeline->scopes[stage->child_scope].local];
    }
    /* Plain outputs first: an inner stage then finds everything from above in place. */
    for (uint32_t j = 0; j < stage->output_count; j++) {
        if ((stage->ports.outputs[j].flags & FM_PORT_MANY) == 0) {
            FM_ASSERT(counts[j] == 1);
            deliver(flow, now_ns, frame, stage->outputs[j], &values[j][0]);
        }
    }
    if (group == NULL) {
        return 0;
    }
    for (uint32_t j = 0; j < stage->output_count; j++) {
        if ((stage->ports.outputs[j].flags & FM_PORT_MANY) != 0) {
            FM_ASSERT(counts[j] == group->count);
            for (uint32_t i = 0; i < group->count; i++) {
                deliver(flow, now_ns, group->frames[i], stage->outputs[j], &values[j][i]);
            }
        }
    }
    if (group->count == 0) {
        group_close_empty(flow, now_ns, frame, (uint32_t)stage->child_scope);
    }
    return 0;
}

void fm_flow_item_done(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item,
                       uint64_t run_ns, struct fm_value *const *take_values, const uint32_t *counts)
{
    struct fm_flow_request *request = item->frame->request;
    const struct fm_pipeline_stage *stage = stage_of(flow, item->stage);
    struct fm_flow_timing *timing = &request->timings[item->stage];
    timing->wait_ns += item->start_ns - item->ready_ns;
    timing->run_ns += run_ns;
    timing->items++;
    item_leave(flow, item, false);
    if (request->error.status == 0) {
        /* While it ran there were its inputs and its outputs. */
        bytes_seen(request, values_bytes(stage, take_values, counts));
        release_inputs(flow, item);
        if (outputs_deliver(flow, now_ns, item, take_values, counts) != 0) {
            struct fm_error error = {0};
            (void)fm_error_set(&error, FM_ENOMEM, "stage '%s': out of memory for its results",
                               stage->spec->name);
            fm_flow_fail(flow, request, (int)item->stage, &error);
        }
    }
    values_drop(stage, take_values, counts);
    request->outstanding--;
    request_check_finished(flow, request);
}

void fm_flow_item_took(struct fm_flow_item *item, uint64_t bytes)
{
    bytes_seen(item->frame->request, bytes);
}

void fm_flow_item_failed(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item,
                         const struct fm_error *error)
{
    struct fm_flow_request *request = item->frame->request;
    (void)now_ns;
    item_leave(flow, item, true);
    request->outstanding--;
    fm_flow_fail(flow, request, (int)item->stage, error);
    request_check_finished(flow, request);
}

void fm_flow_item_retry_alone(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item)
{
    struct fm_flow_request *request = item->frame->request;
    FM_ASSERT(item->state == FM_FLOW_ITEM_RUNNING);
    queue_remove(&flow->running, item);
    request->outstanding--;
    if (request->error.status != 0) {
        item->state = FM_FLOW_ITEM_DONE;
        request_check_finished(flow, request);
        return;
    }
    item->state = FM_FLOW_ITEM_WAITING;
    item->alone = true;
    item_make_ready(flow, now_ns, item);
}

void fm_flow_task_end(struct fm_flow *flow, uint64_t now_ns, uint64_t start_ns,
                      const struct fm_flow_task *task)
{
    struct stage_state *state = &flow->stages[task->stage];
    FM_ASSERT(state->stats.running > 0);
    state->stats.running--;
    state->stats.batches++;
    state->stats.rows += task->rows;
    state->stats.busy_ns += now_ns > start_ns ? now_ns - start_ns : 0;
    uint32_t *running =
        is_model(flow, task->stage) ? &flow->models_running : &flow->operators_running;
    FM_ASSERT(*running > 0);
    (*running)--;
    if (is_model(flow, task->stage)) {
        uint32_t *used = &flow->stages[state->slots_of].slots_used;
        FM_ASSERT(*used > 0);
        (*used)--;
    }
    if (is_model(flow, task->stage) && flow->has_accelerators) {
        struct accelerator *accelerator = &flow->accelerators[task->accelerator];
        FM_ASSERT((flow->accelerators_busy >> task->accelerator & 1) != 0);
        flow->accelerators_busy &= ~(UINT64_C(1) << task->accelerator);
        accelerator->stats.batches++;
        accelerator->stats.busy_ns += now_ns > start_ns ? now_ns - start_ns : 0;
    }
}

/* --- finished requests --- */

struct fm_flow_request *fm_flow_finished(struct fm_flow *flow)
{
    struct fm_flow_request *request = flow->finished_head;
    if (request != NULL) {
        flow->finished_head = request->next;
        if (flow->finished_head == NULL) {
            flow->finished_tail = NULL;
        }
        request->next = NULL;
        FM_ASSERT(flow->requests > 0);
        flow->requests--;
        flow->bytes -= request->bytes;
    }
    return request;
}

const struct fm_flow_item *fm_flow_running(const struct fm_flow *flow)
{
    return flow->running.head;
}

void *fm_flow_item_user(const struct fm_flow_item *item)
{
    return item->frame->request->user;
}

void *fm_flow_request_user(const struct fm_flow_request *request)
{
    return request->user;
}

const struct fm_error *fm_flow_request_error(const struct fm_flow_request *request)
{
    return &request->error;
}

int fm_flow_request_failed_stage(const struct fm_flow_request *request)
{
    return request->failed_stage;
}

const struct fm_flow_timing *fm_flow_request_timings(const struct fm_flow_request *request)
{
    return request->timings;
}

uint64_t fm_flow_request_bytes_most(const struct fm_flow_request *request)
{
    return request->bytes_most;
}

static const struct group *output_group(const struct fm_flow_request *request,
                                        const struct fm_pipeline_value *value)
{
    return &request->root->groups[request->pipeline->scopes[value->scope].local];
}

uint32_t fm_flow_output_count(const struct fm_flow_request *request, uint32_t output)
{
    const struct fm_pipeline_output *info = &request->pipeline->outputs[output];
    return info->stacks ? output_group(request, &request->pipeline->values[info->value])->count : 1;
}

const struct fm_value *fm_flow_output_get(const struct fm_flow_request *request, uint32_t output,
                                          uint32_t index)
{
    const struct fm_pipeline_output *info = &request->pipeline->outputs[output];
    const struct fm_pipeline_value *value = &request->pipeline->values[info->value];
    const struct fm_flow_frame *frame =
        info->stacks ? output_group(request, value)->frames[index] : request->root;
    return &frame->values[value->local];
}

uint32_t fm_flow_in_flight(const struct fm_flow *flow)
{
    return flow->requests;
}

uint64_t fm_flow_bytes(const struct fm_flow *flow)
{
    return flow->bytes;
}

void fm_flow_stats(const struct fm_flow *flow, uint32_t stage, struct fm_flow_stats *ret_stats)
{
    *ret_stats = flow->stages[stage].stats;
    ret_stats->queued = flow->stages[stage].queue.count;
}

void fm_flow_accelerator_stats(const struct fm_flow *flow, uint32_t accelerator,
                               struct fm_flow_accelerator_stats *ret_stats)
{
    FM_ASSERT(accelerator < FM_FLOW_ACCELERATORS_MAX);
    *ret_stats = flow->accelerators[accelerator].stats;
}

/* --- checking --- */

static uint32_t request_running(const struct fm_flow *flow, const struct fm_flow_request *request)
{
    uint32_t running = 0;
    for (const struct fm_flow_frame *frame = request->frames; frame != NULL;
         frame = frame->next_of_request) {
        uint32_t count = flow->pipeline->scopes[frame->scope].stage_count;
        for (uint32_t i = 0; i < count; i++) {
            running += frame->items[i].state == FM_FLOW_ITEM_RUNNING ? 1 : 0;
        }
    }
    return running;
}

static uint64_t request_bytes(const struct fm_flow_request *request)
{
    uint64_t bytes = 0;
    for (const struct fm_flow_frame *frame = request->frames; frame != NULL;
         frame = frame->next_of_request) {
        uint32_t count = request->pipeline->scopes[frame->scope].value_count;
        for (uint32_t i = 0; i < count; i++) {
            bytes += value_bytes(&frame->values[i]);
        }
    }
    return bytes;
}

static uint32_t request_outstanding(const struct fm_flow *flow,
                                    const struct fm_flow_request *request)
{
    uint32_t outstanding = 0;
    for (const struct fm_flow_frame *frame = request->frames; frame != NULL;
         frame = frame->next_of_request) {
        uint32_t count = flow->pipeline->scopes[frame->scope].stage_count;
        for (uint32_t i = 0; i < count; i++) {
            uint8_t state = frame->items[i].state;
            outstanding += state == FM_FLOW_ITEM_READY || state == FM_FLOW_ITEM_RUNNING ? 1 : 0;
            FM_ASSERT(state != FM_FLOW_ITEM_READY || frame->items[i].missing == 0);
        }
    }
    return outstanding;
}

static void running_validate(const struct fm_flow *flow)
{
    uint32_t count = 0;
    for (const struct fm_flow_item *item = flow->running.head; item != NULL; item = item->next) {
        FM_ASSERT(item->state == FM_FLOW_ITEM_RUNNING);
        FM_ASSERT(item->next == NULL || item->next->previous == item);
        FM_ASSERT(item->next == NULL || item->start_ns <= item->next->start_ns);
        count++;
    }
    FM_ASSERT(count == flow->running.count);
    for (const struct fm_flow_request *request = flow->live; request != NULL;
         request = request->next_live) {
        count -= request_running(flow, request);
    }
    FM_ASSERT(count == 0);
}

static void slots_validate(const struct fm_flow *flow, uint32_t stage)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < flow->pipeline->stage_count; i++) {
        used += is_model(flow, i) && flow->stages[i].slots_of == stage
                    ? flow->stages[i].stats.running
                    : 0;
    }
    FM_ASSERT(used == flow->stages[stage].slots_used);
    FM_ASSERT(used == 0 || used <= flow->stages[stage].slots_max);
}

void fm_flow_validate(const struct fm_flow *flow)
{
    uint32_t models = 0;
    uint32_t operators = 0;
    for (uint32_t i = 0; i < flow->pipeline->stage_count; i++) {
        const struct stage_state *state = &flow->stages[i];
        uint32_t count = 0;
        for (const struct fm_flow_item *item = state->queue.head; item != NULL; item = item->next) {
            FM_ASSERT(item->state == FM_FLOW_ITEM_READY);
            FM_ASSERT(item->stage == i);
            FM_ASSERT(item->next == NULL || item->next->previous == item);
            count++;
        }
        FM_ASSERT(count == state->queue.count);
        *(is_model(flow, i) ? &models : &operators) += state->stats.running;
        FM_ASSERT(is_model(flow, i) || state->slots_max == 0 ||
                  state->stats.running <= state->slots_max);
        slots_validate(flow, i);
    }
    FM_ASSERT(models == flow->models_running);
    uint32_t busy = 0;
    for (uint32_t i = 0; i < FM_FLOW_ACCELERATORS_MAX; i++) {
        busy += (uint32_t)(flow->accelerators_busy >> i & 1);
    }
    FM_ASSERT(busy == (flow->has_accelerators ? models : 0));
    FM_ASSERT(operators == flow->operators_running);
    FM_ASSERT(operators <= flow->operator_slots_most);
    running_validate(flow);
    uint32_t requests = 0;
    uint64_t bytes = 0;
    for (const struct fm_flow_request *request = flow->live; request != NULL;
         request = request->next_live) {
        FM_ASSERT(request_bytes(request) == request->bytes);
        FM_ASSERT(request->bytes <= request->bytes_most);
        bytes += request->bytes;
        FM_ASSERT(request_outstanding(flow, request) == request->outstanding);
        FM_ASSERT(!request->finished);
        FM_ASSERT(request->outstanding > 0);
        requests++;
    }
    for (const struct fm_flow_request *request = flow->finished_head; request != NULL;
         request = request->next) {
        FM_ASSERT(request->outstanding == 0);
        FM_ASSERT(request_bytes(request) == request->bytes);
        bytes += request->bytes;
        requests++;
    }
    FM_ASSERT(requests == flow->requests);
    FM_ASSERT(bytes == flow->bytes);
}
