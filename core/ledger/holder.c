/*
 * A worker's side of the ledger. See holder.h.
 */
#include "core/ledger/holder.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

/* What one event can lead to: two for every shard, and two more. */
enum { ACTIONS_MAX = 2 * FM_MASTER_SHARDS_OF_ONE_MAX + 2 };

struct held {
    struct fm_shard shard;
    struct fm_master_holding progress;
    bool is_done; /* reported: from here on it is the master's */
    struct fm_master_done done;
    bool is_failed; /* reported: only the master's answer is missing */
    enum fm_shard_failure failure;
    char reason[FM_SHARD_REASON_SIZE];
};

struct fm_holder {
    struct fm_holder_options options;
    struct held held[FM_MASTER_SHARDS_OF_ONE_MAX];
    uint32_t held_count;
    struct fm_holder_action actions[ACTIONS_MAX];
    uint32_t action_first;
    uint32_t action_count;
    uint64_t beat_ns;  /* when the next is due */
    uint64_t alone_ns; /* since when there is no connection */
    bool connected;
    bool stopping;
    bool over;
};

int fm_holder_create(const struct fm_holder_options *options, uint64_t now_ns,
                     struct fm_holder **ret_holder)
{
    struct fm_holder *holder = fm_alloc_zero(1, sizeof(*holder));
    if (holder == NULL) {
        return FM_ENOMEM;
    }
    holder->options = *options;
    holder->alone_ns = now_ns;
    *ret_holder = holder;
    return 0;
}

void fm_holder_destroy(struct fm_holder *holder)
{
    fm_free(holder);
}

static struct fm_holder_action *push(struct fm_holder *holder, enum fm_holder_action_kind kind)
{
    FM_ASSERT(holder->action_count < ACTIONS_MAX);
    uint32_t at = (holder->action_first + holder->action_count++) % ACTIONS_MAX;
    holder->actions[at] = (struct fm_holder_action){.kind = kind};
    return &holder->actions[at];
}

static struct fm_holder_action *push_for(struct fm_holder *holder, enum fm_holder_action_kind kind,
                                         const struct held *held)
{
    struct fm_holder_action *action = push(holder, kind);
    action->shard.number = held->shard.number;
    action->shard.epoch = held->shard.epoch;
    return action;
}

static struct held *held_find(struct fm_holder *holder, uint64_t number)
{
    for (uint32_t i = 0; i < holder->held_count; i++) {
        if (holder->held[i].shard.number == number) {
            return &holder->held[i];
        }
    }
    return NULL;
}

static struct held *held_find_epoch(struct fm_holder *holder, uint64_t number, uint64_t epoch)
{
    struct held *held = held_find(holder, number);
    return held != NULL && held->shard.epoch == epoch ? held : NULL;
}

static bool is_running(const struct held *held)
{
    return !held->is_done && !held->is_failed;
}

/* What the data path speaks of: it must be there, and not be reported. */
static struct held *held_running(struct fm_holder *holder, uint64_t number)
{
    struct held *held = held_find(holder, number);
    FM_ASSERT(held != NULL);
    FM_ASSERT(is_running(held));
    return held;
}

static void held_remove(struct fm_holder *holder, const struct held *held)
{
    size_t at = (size_t)(held - holder->held);
    memmove(holder->held + at, holder->held + at + 1,
            (holder->held_count - at - 1) * sizeof(*holder->held));
    holder->held_count--;
}

static void exit_once(struct fm_holder *holder, bool given_up)
{
    if (!holder->over) {
        holder->over = true;
        push(holder, FM_HOLDER_EXIT)->given_up = given_up;
    }
}

/* --- The connection --- */

static void say_done(struct fm_holder *holder, const struct held *held)
{
    if (holder->connected) {
        push_for(holder, FM_HOLDER_DONE, held)->done = held->done;
    }
}

static void say_failed(struct fm_holder *holder, const struct held *held)
{
    if (holder->connected) {
        struct fm_holder_action *action = push_for(holder, FM_HOLDER_FAILED, held);
        action->failure = held->failure;
        memcpy(action->reason, held->reason, sizeof(action->reason)); /* both end in NUL */
    }
}

void fm_holder_connected(struct fm_holder *holder, uint64_t now_ns)
{
    holder->connected = true;
    holder->beat_ns = now_ns + holder->options.beat_ns;
    (void)push(holder, FM_HOLDER_HELLO);
    for (uint32_t i = 0; i < holder->held_count; i++) {
        if (holder->held[i].is_done) {
            say_done(holder, &holder->held[i]);
        } else if (holder->held[i].is_failed) {
            say_failed(holder, &holder->held[i]);
        }
    }
}

void fm_holder_disconnected(struct fm_holder *holder, uint64_t now_ns)
{
    if (holder->connected) {
        holder->connected = false;
        holder->alone_ns = now_ns;
    }
}

void fm_holder_tick(struct fm_holder *holder, uint64_t now_ns)
{
    if (holder->connected && now_ns >= holder->beat_ns) {
        holder->beat_ns = now_ns + holder->options.beat_ns;
        (void)push(holder, FM_HOLDER_BEAT);
    }
    if (holder->connected || holder->over ||
        now_ns - holder->alone_ns < holder->options.give_up_ns) {
        return;
    }
    for (uint32_t i = 0; i < holder->held_count; i++) {
        if (is_running(&holder->held[i])) {
            (void)push_for(holder, FM_HOLDER_ABANDON, &holder->held[i]);
        }
    }
    /* What was reported as done stays: it may count. */
    for (uint32_t i = holder->held_count; i-- > 0;) {
        if (!holder->held[i].is_done) {
            held_remove(holder, &holder->held[i]);
        }
    }
    exit_once(holder, true);
}

uint64_t fm_holder_next_ns(const struct fm_holder *holder)
{
    return holder->connected ? holder->beat_ns : holder->alone_ns + holder->options.give_up_ns;
}

/* --- The master --- */

int fm_holder_granted(struct fm_holder *holder, const struct fm_shard *shard, const char *reason)
{
    if (holder->held_count == FM_MASTER_SHARDS_OF_ONE_MAX || shard->row_count == 0 ||
        held_find(holder, shard->number) != NULL) {
        return FM_EINVAL;
    }
    struct held *held = &holder->held[holder->held_count++];
    *held = (struct held){.shard = *shard,
                          .progress = {.number = shard->number, .epoch = shard->epoch}};
    if (holder->stopping || holder->over) {
        (void)push_for(holder, FM_HOLDER_RELEASED, held);
        held_remove(holder, held);
        return 0;
    }
    struct fm_holder_action *action = push(holder, FM_HOLDER_RUN);
    action->shard = *shard;
    (void)snprintf(action->reason, sizeof(action->reason), "%s", reason);
    return 0;
}

void fm_holder_committed(struct fm_holder *holder, uint64_t number, uint64_t epoch)
{
    const struct held *held = held_find_epoch(holder, number, epoch);
    if (held != NULL && held->is_done) {
        held_remove(holder, held);
    }
}

void fm_holder_refused(struct fm_holder *holder, uint64_t number, uint64_t epoch)
{
    const struct held *held = held_find_epoch(holder, number, epoch);
    if (held == NULL) {
        return;
    }
    if (is_running(held)) {
        (void)push_for(holder, FM_HOLDER_ABANDON, held);
    }
    held_remove(holder, held);
}

void fm_holder_asked(struct fm_holder *holder, uint64_t number, uint64_t epoch, uint64_t keep_rows)
{
    const struct held *held = held_find_epoch(holder, number, epoch);
    if (held != NULL && is_running(held) && keep_rows < held->shard.row_count) {
        push_for(holder, FM_HOLDER_SHORTEN, held)->keep_rows = keep_rows;
    }
}

void fm_holder_stop(struct fm_holder *holder, bool drop)
{
    holder->stopping = true;
    for (uint32_t i = holder->held_count; i-- > 0;) {
        const struct held *held = &holder->held[i];
        if (!is_running(held)) {
            continue;
        }
        (void)push_for(holder, drop ? FM_HOLDER_ABANDON : FM_HOLDER_CURTAIL, held);
        if (drop) {
            (void)push_for(holder, FM_HOLDER_RELEASED, held);
            held_remove(holder, held);
        }
    }
}

void fm_holder_ended(struct fm_holder *holder)
{
    exit_once(holder, false);
}

/* --- The data path --- */

void fm_holder_progress(struct fm_holder *holder, const struct fm_master_holding *progress)
{
    struct held *held = held_running(holder, progress->number);
    held->progress.rows_done = progress->rows_done;
    held->progress.rows_bad = progress->rows_bad;
}

void fm_holder_shortened(struct fm_holder *holder, uint64_t number, uint64_t keep_rows)
{
    struct held *held = held_running(holder, number);
    FM_ASSERT(keep_rows <= held->shard.row_count);
    if (keep_rows == 0) {
        (void)push_for(holder, FM_HOLDER_RELEASED, held);
        held_remove(holder, held);
        return;
    }
    held->shard.row_count = keep_rows;
    push_for(holder, FM_HOLDER_TRIMMED, held)->keep_rows = keep_rows;
}

void fm_holder_done(struct fm_holder *holder, const struct fm_master_done *done)
{
    struct held *held = held_running(holder, done->number);
    FM_ASSERT(done->epoch == held->shard.epoch);
    held->is_done = true;
    held->done = *done;
    held->progress.rows_done = done->rows_out + done->dead_letters;
    held->progress.rows_bad = done->dead_letters;
    say_done(holder, held);
}

void fm_holder_failed(struct fm_holder *holder, uint64_t number, enum fm_shard_failure failure,
                      const char *reason)
{
    struct held *held = held_running(holder, number);
    held->is_failed = true;
    held->failure = failure;
    (void)snprintf(held->reason, sizeof(held->reason), "%s", reason);
    say_failed(holder, held);
}

void fm_holder_released(struct fm_holder *holder, uint64_t number)
{
    const struct held *held = held_running(holder, number);
    (void)push_for(holder, FM_HOLDER_RELEASED, held);
    held_remove(holder, held);
}

bool fm_holder_is_reported(const struct fm_holder *holder, uint64_t number)
{
    for (uint32_t i = 0; i < holder->held_count; i++) {
        if (holder->held[i].shard.number == number) {
            return holder->held[i].is_done;
        }
    }
    return false;
}

/* --- What to do --- */

bool fm_holder_next_action(struct fm_holder *holder, struct fm_holder_action *ret_action)
{
    if (holder->action_count == 0) {
        return false;
    }
    *ret_action = holder->actions[holder->action_first];
    holder->action_first = (holder->action_first + 1) % ACTIONS_MAX;
    holder->action_count--;
    return true;
}

size_t fm_holder_holdings(const struct fm_holder *holder,
                          struct fm_master_holding ret_holdings[FM_MASTER_SHARDS_OF_ONE_MAX])
{
    for (uint32_t i = 0; i < holder->held_count; i++) {
        ret_holdings[i] = holder->held[i].progress;
    }
    return holder->held_count;
}
