/*
 * Feeding a recording to a scheduler. See replay.h.
 */
#include "engines/sim/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "engines/sim/world.h"

#define ACTION_TEXT 200u

struct player {
    struct fm_sched_record_reader *reader; /* too large for the stack */
    struct fm_sim_replay_arrays arrays;
    struct fm_sched *sched;
    struct fm_sched_actions actions;
    struct fm_sim_recorder *recorder;
    struct fm_sim_replay *replay;
};

/* --- reading -----------------------------------------------------------------------------------
 */

int fm_sim_replay_arrays_create(struct fm_sim_replay_arrays *arrays,
                                const struct fm_sched_record_header *header,
                                struct fm_error *reterr)
{
    *arrays = (struct fm_sim_replay_arrays){0};
    arrays->arrays.events = fm_alloc_zero(header->events_max, sizeof *arrays->arrays.events);
    arrays->arrays.actions = fm_alloc_zero(header->action_capacity, sizeof *arrays->arrays.actions);
    arrays->arrays.requests =
        fm_alloc_zero(header->request_capacity, sizeof *arrays->arrays.requests);
    fm_arena_init(&arrays->arena, FM_SIM_REPLAY_ARENA_MAX);
    if (arrays->arrays.events == NULL || arrays->arrays.actions == NULL ||
        arrays->arrays.requests == NULL) {
        fm_sim_replay_arrays_deinit(arrays);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for reading the recording");
    }
    return 0;
}

void fm_sim_replay_arrays_deinit(struct fm_sim_replay_arrays *arrays)
{
    fm_free(arrays->arrays.events);
    fm_free(arrays->arrays.actions);
    fm_free(arrays->arrays.requests);
    fm_arena_deinit(&arrays->arena);
    *arrays = (struct fm_sim_replay_arrays){0};
}

int fm_sim_replay_read(struct fm_sched_record_reader *reader, struct fm_sim_replay_arrays *arrays,
                       struct fm_sched_record_step *ret_step, bool *ret_end,
                       struct fm_error *reterr)
{
    if (arrays->arena.bytes > 0) {
        fm_arena_deinit(&arrays->arena);
        fm_arena_init(&arrays->arena, FM_SIM_REPLAY_ARENA_MAX);
    }
    return fm_sched_record_read(reader, &arrays->arrays, &arrays->arena, ret_step, ret_end, reterr);
}

/* --- comparing ---------------------------------------------------------------------------------
 */

static const char *action_text(const struct fm_sched_action *action, char *text, size_t size)
{
    switch ((unsigned)action->kind) {
    case FM_SCHED_ACTION_START:
        (void)snprintf(text, size,
                       "start batch %" PRIu64 " of model %" PRIu32 " with %" PRIu32
                       " requests on accelerator %" PRIu32 " at %" PRIu64 " ns until %" PRIu64
                       " ns",
                       action->batch, action->model, action->request_count, action->accelerator,
                       action->start_ns, action->expected_ns);
        break;
    case FM_SCHED_ACTION_DROP:
        (void)snprintf(text, size, "drop request %" PRIu32 " of model %" PRIu32 " as %s",
                       action->request, action->model, fm_sched_drop_reason_name(action->reason));
        break;
    case FM_SCHED_ACTION_PREEMPT:
        (void)snprintf(text, size,
                       "preempt batch %" PRIu64 " of model %" PRIu32 " on accelerator %" PRIu32,
                       action->batch, action->model, action->accelerator);
        break;
    default:
        (void)snprintf(text, size, "an action of kind %u", (unsigned)action->kind);
        break;
    }
    return text;
}

/* Whether both say the same, as far as their kind uses what they say. */
static bool action_equal(const struct fm_sched_action *left, const uint32_t *left_requests,
                         const struct fm_sched_action *right, const uint32_t *right_requests)
{
    if (left->kind != right->kind || left->model != right->model) {
        return false;
    }
    if (left->kind == FM_SCHED_ACTION_DROP) {
        return left->request == right->request && left->reason == right->reason;
    }
    if (left->accelerator != right->accelerator || left->batch != right->batch) {
        return false;
    }
    return left->kind != FM_SCHED_ACTION_START ||
           (left->start_ns == right->start_ns && left->expected_ns == right->expected_ns &&
            left->request_count == right->request_count &&
            memcmp(left_requests + left->request_first, right_requests + right->request_first,
                   left->request_count * sizeof *left_requests) == 0);
}

/* The place of the first action that is not the recorded one; the count when all are. */
static uint32_t actions_compare(const struct fm_sched_record_step *step,
                                const struct fm_sched_actions *actions)
{
    uint32_t count = step->action_count < actions->count ? step->action_count : actions->count;
    uint32_t i = 0;
    while (i < count &&
           action_equal(&step->actions[i], step->requests, &actions->items[i], actions->requests)) {
        i++;
    }
    return i;
}

static const char *nth_action_text(const struct fm_sched_action *items, uint32_t count,
                                   uint32_t index, char *text, size_t size)
{
    return index < count ? action_text(&items[index], text, size) : "no further action";
}

static bool step_compare(struct player *player, const struct fm_sched_record_step *step,
                         uint32_t taken)
{
    const struct fm_sched_actions *actions = &player->actions;
    char recorded[ACTION_TEXT];
    char replayed[ACTION_TEXT];
    char *text = player->replay->difference;
    size_t size = sizeof player->replay->difference;
    int length =
        snprintf(text, size, "step %" PRIu64 " (of %" PRIu64 " ns): ", player->replay->steps + 1,
                 step->now_ns);
    text += length;
    size -= (size_t)length;
    uint32_t place = actions_compare(step, actions);
    if (place < step->action_count || place < actions->count) {
        const char *left =
            nth_action_text(step->actions, step->action_count, place, recorded, sizeof recorded);
        const char *right =
            nth_action_text(actions->items, actions->count, place, replayed, sizeof replayed);
        (void)snprintf(text, size, "action %" PRIu32 " was: %s; now it is: %s%s", place + 1, left,
                       right, strcmp(left, right) == 0 ? ", with other requests" : "");
    } else if (step->wake_ns != actions->wake_ns) {
        (void)snprintf(text, size,
                       "it asked to be called again by %" PRIu64 " ns, now by %" PRIu64 " ns",
                       step->wake_ns, actions->wake_ns);
    } else if (step->taken != taken) {
        (void)snprintf(text, size, "it took %" PRIu32 " of %" PRIu32 " events, now %" PRIu32,
                       step->taken, step->event_count, taken);
    } else {
        player->replay->difference[0] = '\0';
        return true;
    }
    player->replay->differs = true;
    return false;
}

/* --- playing -----------------------------------------------------------------------------------
 */

static void step_count(struct fm_sim_replay *replay, const struct fm_sched_record_step *step,
                       const struct fm_sched_actions *actions)
{
    for (uint32_t i = 0; i < step->event_count; i++) {
        /* An event that was not taken comes again. */
        replay->requests += i < step->taken && step->events[i].kind == FM_SCHED_EVENT_REQUEST;
    }
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct fm_sched_action *action = &actions->items[i];
        replay->batches += action->kind == FM_SCHED_ACTION_START;
        replay->dropped += action->kind == FM_SCHED_ACTION_DROP;
        replay->trace_hash = fm_sim_action_hash(replay->trace_hash, step->now_ns, action,
                                                actions->requests + action->request_first);
    }
    replay->first_ns = replay->steps == 0 ? step->now_ns : replay->first_ns;
    replay->last_ns = step->now_ns;
    replay->steps++;
}

/* A step that failed for want of memory and took nothing left no trace; one that took something has
 * not decided on it, and memory that runs out at the same place cannot be had again. */
static int play_out_of_memory(struct player *player, const struct fm_sched_record_step *step,
                              struct fm_error *reterr)
{
    if (step->taken > 0 || step->action_count > 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "step %" PRIu64 " (of %" PRIu64
                            " ns) failed in its middle for want of memory when it was recorded: "
                            "what followed cannot be replayed",
                            player->replay->steps + 1, step->now_ns);
    }
    if (player->recorder != NULL) {
        fm_sim_recorder_step(player->recorder, step);
    }
    step_count(player->replay, step, &(struct fm_sched_actions){0});
    return 0;
}

static int play(struct player *player, const struct fm_sched_record_step *step,
                struct fm_error *reterr)
{
    uint32_t taken = 0;
    if (step->out_of_memory) {
        return play_out_of_memory(player, step, reterr);
    }
    int status = fm_sched_step(player->sched, step->now_ns, step->events, step->event_count,
                               &player->actions, &taken);
    if (status != 0) {
        return fm_error_set(reterr, status, "the scheduler failed at step %" PRIu64,
                            player->replay->steps + 1);
    }
    if (player->recorder != NULL) {
        fm_sim_recorder_step(player->recorder, &(struct fm_sched_record_step){
                                                   .now_ns = step->now_ns,
                                                   .events = step->events,
                                                   .event_count = step->event_count,
                                                   .taken = taken,
                                                   .actions = player->actions.items,
                                                   .action_count = player->actions.count,
                                                   .requests = player->actions.requests,
                                                   .request_count = player->actions.request_count,
                                                   .wake_ns = player->actions.wake_ns,
                                               });
    }
    if (!player->reader->header.has_actions || step_compare(player, step, taken)) {
        step_count(player->replay, step, &player->actions);
    }
    return 0;
}

static int player_create(struct player *player, const void *data, size_t size,
                         struct fm_error *reterr)
{
    player->reader = fm_alloc(sizeof *player->reader);
    if (player->reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for reading the recording");
    }
    int status = fm_sched_record_open(player->reader, data, size, reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_sched_record_header *header = &player->reader->header;
    player->replay->header = *header;
    status = fm_sched_create(&header->options, &player->sched, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "the scheduler it was recorded from");
    }
    status = fm_sim_replay_arrays_create(&player->arrays, header, reterr);
    if (status != 0) {
        return status;
    }
    player->actions.capacity = header->action_capacity;
    player->actions.request_capacity = header->request_capacity;
    player->actions.items = fm_alloc_zero(header->action_capacity, sizeof *player->actions.items);
    player->actions.requests =
        fm_alloc_zero(header->request_capacity, sizeof *player->actions.requests);
    if (player->actions.items == NULL || player->actions.requests == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for replaying the recording");
    }
    if (player->recorder != NULL) {
        struct fm_sched_record_header complete = *header;
        complete.has_actions = true;
        fm_sim_recorder_begin(player->recorder, &complete);
    }
    return 0;
}

int fm_sim_replay(const void *data, size_t size, struct fm_sim_recorder *recorder,
                  struct fm_sim_replay *ret_replay, struct fm_error *reterr)
{
    struct player player = {.recorder = recorder, .replay = ret_replay};
    *ret_replay = (struct fm_sim_replay){.trace_hash = FM_HASH_START};
    int status = player_create(&player, data, size, reterr);
    bool end = false;
    while (status == 0 && !end && !ret_replay->differs) {
        struct fm_sched_record_step step;
        status = fm_sim_replay_read(player.reader, &player.arrays, &step, &end, reterr);
        if (status == 0 && !end) {
            status = play(&player, &step, reterr);
        }
    }
    fm_sched_destroy(player.sched);
    fm_sim_replay_arrays_deinit(&player.arrays);
    fm_free(player.actions.items);
    fm_free(player.actions.requests);
    fm_free(player.reader);
    return status;
}

/* --- saying ------------------------------------------------------------------------------------
 */

void fm_sim_replay_json(const struct fm_sim_replay *replay, uint64_t elapsed_ns,
                        struct fm_text *text)
{
    struct fm_json_writer writer;
    char hash[20];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, replay->trace_hash);
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "policy");
    fm_json_string(&writer, fm_sched_policy_name(replay->header.options.policy));
    fm_json_key(&writer, "compared");
    fm_json_bool(&writer, replay->header.has_actions);
    fm_json_key(&writer, "identical");
    if (replay->header.has_actions) {
        fm_json_bool(&writer, !replay->differs);
    } else {
        fm_json_null(&writer);
    }
    fm_json_key(&writer, "difference");
    if (replay->differs) {
        fm_json_string(&writer, replay->difference);
    } else {
        fm_json_null(&writer);
    }
    fm_json_member_uint(&writer, "steps", replay->steps);
    fm_json_member_uint(&writer, "requests", replay->requests);
    fm_json_member_uint(&writer, "batches", replay->batches);
    fm_json_member_uint(&writer, "dropped", replay->dropped);
    fm_json_member_uint(&writer, "first_ns", replay->first_ns);
    fm_json_member_uint(&writer, "last_ns", replay->last_ns);
    fm_json_key(&writer, "trace_hash");
    fm_json_string(&writer, hash);
    fm_json_key(&writer, "replay_seconds");
    fm_json_number(&writer, (double)elapsed_ns / 1e9);
    fm_json_key(&writer, "requests_per_second");
    fm_json_number(&writer,
                   elapsed_ns > 0 ? (double)replay->requests * 1e9 / (double)elapsed_ns : 0);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

void fm_sim_replay_table(const struct fm_sim_replay *replay, struct fm_text *text)
{
    fm_text_append_format(text,
                          "%" PRIu64 " steps, %" PRIu64 " requests, %" PRIu64 " batches: %s\n",
                          replay->steps, replay->requests, replay->batches,
                          !replay->header.has_actions ? "replayed; the recording holds no actions "
                                                        "to compare with"
                          : replay->differs           ? "identical, and then a difference"
                                                      : "identical");
    fm_text_append_format(text, "policy %s, %.3f s recorded, trace hash %016" PRIx64 "\n",
                          fm_sched_policy_name(replay->header.options.policy),
                          (double)(replay->last_ns - replay->first_ns) / 1e9, replay->trace_hash);
}
