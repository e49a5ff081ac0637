/*
 * The crew: worker processes of the master's machine. See crew.h.
 */
#include "core/ledger/crew.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/ledger/blame.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NS_PER_S UINT64_C(1000000000)

enum place_state {
    PLACE_EMPTY,    /* a process is due at due_ns */
    PLACE_STARTING, /* it has not asked for work yet */
    PLACE_WORKING,
    PLACE_LEAVING, /* it says that it goes */
};

struct place {
    enum place_state state;
    bool open; /* a process is wanted here; else what is here is to go */
    double value;
    uint64_t due_ns;
    uint64_t start_ns;
    uint64_t delay_ns; /* before the last start */
    uint64_t heard_ns;
    uint64_t leave_by_ns;
    enum fm_crew_cause cause; /* LEAVING */
    uint32_t halvings;
    bool single;
    bool joined; /* it has asked for work */
    bool worked;
    bool asked;  /* to make way */
    bool silent; /* it was killed because it said nothing ... */
    bool tardy;  /* ... or because it did not begin */
    bool killed;
    bool retiring; /* it is not wanted any more ... */
    bool dropped;  /* ... and was killed, because it held nothing yet */
    /* Actions that nobody has taken out yet. */
    bool to_start;
    bool to_kill;
    bool to_recycle;
    bool to_retire;
};

struct fm_crew {
    struct fm_crew_options options;
    struct place places[FM_CREW_PLACES_MAX];
    uint32_t halvings;
    uint64_t calm_ns; /* without lack of memory, before a halving is taken back */
    uint64_t calm_until_ns;
    bool grown; /* one was taken back since the last lack of memory */
    uint64_t ticked_ns;
    uint64_t end_ns;
    bool ending;
    uint64_t startup_ns; /* in the mean; 0: not known */
    uint32_t in_vain;    /* processes in a row that ended before they asked for work ... */
    uint32_t doubt;      /* ... and how much they say: FM_CREW_KILLS_PER_FAILURE for a failure,
                            1 for one that somebody killed */
    bool to_give_up;
    bool given_up;
    struct fm_error error; /* why */
    uint64_t restarts[FM_CREW_REASON_COUNT_];
};

static const char *const reason_names[FM_CREW_REASON_COUNT_] = {
    [FM_CREW_REASON_CRASH] = "crash",
    [FM_CREW_REASON_HANG] = "hang",
    [FM_CREW_REASON_MEMORY] = "out_of_memory",
    [FM_CREW_REASON_RECYCLED] = "recycled",
    [FM_CREW_REASON_LOST] = "lost",
};

const char *fm_crew_reason_name(enum fm_crew_reason reason)
{
    FM_ASSERT(reason < FM_CREW_REASON_COUNT_);
    return reason_names[reason];
}

int fm_crew_create(const struct fm_crew_options *options, uint64_t now_ns,
                   struct fm_crew **ret_crew)
{
    FM_ASSERT(options->places <= FM_CREW_PLACES_MAX);
    struct fm_crew *crew = fm_alloc_zero(1, sizeof(*crew));
    if (crew == NULL) {
        return FM_ENOMEM;
    }
    crew->options = *options;
    crew->calm_ns = options->calm_ns;
    crew->ticked_ns = now_ns;
    crew->end_ns = UINT64_MAX;
    for (uint32_t i = 0; i < options->places; i++) {
        crew->places[i].open = true;
    }
    *ret_crew = crew;
    return 0;
}

void fm_crew_destroy(struct fm_crew *crew)
{
    fm_free(crew);
}

static struct place *place_of(struct fm_crew *crew, uint32_t place)
{
    FM_ASSERT(place < crew->options.places);
    return &crew->places[place];
}

static bool is_over(const struct fm_crew *crew)
{
    return crew->ending || crew->given_up;
}

uint32_t fm_crew_running(const struct fm_crew *crew)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        count += crew->places[i].state != PLACE_EMPTY ? 1 : 0;
    }
    return count;
}

uint32_t fm_crew_working(const struct fm_crew *crew)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        count += crew->places[i].state == PLACE_WORKING && !crew->places[i].retiring ? 1 : 0;
    }
    return count;
}

uint32_t fm_crew_wanted(const struct fm_crew *crew)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        count += crew->places[i].open ? 1 : 0;
    }
    return count;
}

uint64_t fm_crew_startup_ns(const struct fm_crew *crew)
{
    return crew->startup_ns;
}

/* --- Ends --- */

/* Whether somebody got so far as to ask for work. */
static bool somebody_works(const struct fm_crew *crew)
{
    for (uint32_t i = 0; i < crew->options.places; i++) {
        if (crew->places[i].state != PLACE_EMPTY && crew->places[i].joined) {
            return true;
        }
    }
    return false;
}

/* One more that ended before it asked for work. Others that are still loading may do better, but
 * not for ever. */
static void count_in_vain(struct fm_crew *crew, bool killed, const char *how)
{
    uint32_t most = crew->options.in_vain_max * FM_CREW_KILLS_PER_FAILURE;
    crew->in_vain++;
    crew->doubt += killed ? 1 : FM_CREW_KILLS_PER_FAILURE;
    if (is_over(crew) || crew->doubt < most || somebody_works(crew) ||
        (fm_crew_running(crew) > 0 && crew->doubt < most * fm_crew_wanted(crew))) {
        return;
    }
    crew->given_up = true;
    crew->to_give_up = true;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        crew->places[i].to_start = false;
        crew->places[i].to_recycle = false;
        crew->places[i].to_retire = false;
    }
    (void)fm_error_set(&crew->error, FM_EINTERNAL,
                       "%" PRIu32 " workers in a row could not begin to work; the last one: %s",
                       crew->in_vain, how);
}

/* The place becomes free; when the next process is due. */
static void vacate(struct fm_crew *crew, uint64_t now_ns, struct place *place, bool at_once)
{
    const struct fm_crew_options *options = &crew->options;
    uint64_t longer = place->delay_ns < options->restart_max_ns / 2 ? place->delay_ns * 2
                                                                    : options->restart_max_ns;
    uint64_t delay_ns =
        place->worked || longer < options->restart_ns ? options->restart_ns : longer;
    *place = (struct place){.state = PLACE_EMPTY, .open = place->open, .delay_ns = delay_ns};
    place->due_ns = at_once ? now_ns : now_ns + delay_ns;
}

/* Somebody with so many halvings had no memory. False: there is nothing left to halve. */
static bool halve(struct fm_crew *crew, uint64_t now_ns, uint32_t halvings, bool single)
{
    if (single || halvings >= FM_CREW_HALVINGS_MAX) {
        return false;
    }
    crew->halvings = halvings + 1 > crew->halvings ? halvings + 1 : crew->halvings;
    if (crew->grown) {
        /* That was too soon. */
        crew->grown = false;
        crew->calm_ns = crew->calm_ns < crew->options.calm_max_ns / 2 ? crew->calm_ns * 2
                                                                      : crew->options.calm_max_ns;
    }
    crew->calm_until_ns = now_ns + crew->calm_ns;
    return true;
}

/* One that has finished something has shown that its process was large enough, and has grown. */
static void judge_memory(struct fm_crew *crew, uint64_t now_ns, uint32_t halvings, bool single,
                         bool worked, struct fm_crew_verdict *verdict)
{
    verdict->reason = FM_CREW_REASON_MEMORY;
    verdict->smaller = halve(crew, now_ns, halvings, single);
    verdict->harmless = verdict->smaller || worked;
    verdict->failure = FM_SHARD_FAILURE_DATA;
    fm_blame_write(verdict->words, sizeof(verdict->words), FM_ENOMEM, "process",
                   "a worker with nothing else in work ran out of memory: this row alone does not "
                   "fit");
}

static void judge_exit(enum fm_crew_exit exit, const char *how, struct fm_crew_verdict *verdict)
{
    bool crash = exit == FM_CREW_EXIT_CRASH;
    verdict->reason = crash ? FM_CREW_REASON_CRASH : FM_CREW_REASON_LOST;
    verdict->failure = crash ? FM_SHARD_FAILURE_DATA : FM_SHARD_FAILURE_INFRASTRUCTURE;
    verdict->harmless = exit == FM_CREW_EXIT_CLEAN;
    (void)snprintf(verdict->words, sizeof(verdict->words), "the worker that ran it ended with %s",
                   how);
}

static void judge_silence(const struct fm_crew *crew, struct fm_crew_verdict *verdict)
{
    char words[FM_SHARD_REASON_SIZE];
    (void)snprintf(words, sizeof(words),
                   "the worker that ran it was not heard of for %" PRIu64 " s, and was ended",
                   crew->options.silent_ns / NS_PER_S);
    verdict->reason = FM_CREW_REASON_HANG;
    verdict->failure = FM_SHARD_FAILURE_INFRASTRUCTURE;
    fm_blame_write(verdict->words, sizeof(verdict->words), FM_EDEADLINE, "process", words);
}

/* It held nothing: no row is to blame. */
static void judge_tardiness(const struct fm_crew *crew, struct fm_crew_verdict *verdict)
{
    verdict->reason = FM_CREW_REASON_HANG;
    verdict->harmless = true;
    (void)snprintf(verdict->words, sizeof(verdict->words),
                   "it had not asked for work after %.1f s (limits.begin_time), and was ended",
                   (double)crew->options.begin_ns / (double)NS_PER_S);
}

static void judge(struct fm_crew *crew, uint64_t now_ns, const struct place *place,
                  enum fm_crew_exit exit, const char *how, struct fm_crew_verdict *verdict)
{
    bool said = place->state == PLACE_LEAVING;
    if ((said && place->cause == FM_CREW_STARVED) || (!said && exit == FM_CREW_EXIT_MEMORY)) {
        judge_memory(crew, now_ns, place->halvings, place->single, place->worked, verdict);
    } else if (said && place->cause != FM_CREW_WENT) {
        /* What it held it has failed, or given back. */
        verdict->reason =
            place->cause == FM_CREW_HUNG ? FM_CREW_REASON_HANG : FM_CREW_REASON_RECYCLED;
        verdict->harmless = true;
    } else if (place->silent) {
        judge_silence(crew, verdict);
    } else if (place->tardy) {
        judge_tardiness(crew, verdict);
    } else {
        judge_exit(exit, how, verdict);
        verdict->harmless = verdict->harmless || said || place->dropped;
    }
}

void fm_crew_ended(struct fm_crew *crew, uint64_t now_ns, uint32_t index, enum fm_crew_exit exit,
                   const char *how, struct fm_crew_verdict *ret_verdict)
{
    struct place *place = place_of(crew, index);
    FM_ASSERT(place->state != PLACE_EMPTY);
    *ret_verdict = (struct fm_crew_verdict){.wanted = is_over(crew)};
    judge(crew, now_ns, place, exit, how, ret_verdict);
    bool joined = place->joined;
    bool killed = exit == FM_CREW_EXIT_KILLED && !place->killed; /* by somebody else */
    bool retired = place->retiring && (!joined || ret_verdict->harmless);
    ret_verdict->wanted = ret_verdict->wanted || retired;
    if (!ret_verdict->wanted) {
        crew->restarts[ret_verdict->reason]++;
    }
    vacate(crew, now_ns, place, retired || ret_verdict->reason == FM_CREW_REASON_RECYCLED);
    if (!joined && !retired) {
        count_in_vain(crew, killed, ret_verdict->harmless ? ret_verdict->words : how);
    }
}

void fm_crew_starved_elsewhere(struct fm_crew *crew, uint64_t now_ns, uint32_t halvings,
                               bool single, bool worked, struct fm_crew_verdict *ret_verdict)
{
    *ret_verdict = (struct fm_crew_verdict){.wanted = is_over(crew)};
    judge_memory(crew, now_ns, halvings, single, worked, ret_verdict);
}

/* --- What happens --- */

void fm_crew_start_failed(struct fm_crew *crew, uint64_t now_ns, uint32_t index, const char *reason)
{
    struct place *place = place_of(crew, index);
    FM_ASSERT(place->state == PLACE_STARTING);
    vacate(crew, now_ns, place, false);
    count_in_vain(crew, false, reason);
}

void fm_crew_joined(struct fm_crew *crew, uint64_t now_ns, uint32_t index, bool single)
{
    struct place *place = place_of(crew, index);
    FM_ASSERT(place->state != PLACE_EMPTY);
    uint64_t took_ns = now_ns > place->start_ns ? now_ns - place->start_ns : 1;
    crew->in_vain = 0;
    crew->doubt = 0;
    crew->startup_ns = crew->startup_ns > 0 ? (crew->startup_ns + took_ns) / 2 : took_ns;
    place->joined = true;
    place->single = single;
    place->heard_ns = now_ns;
    if (place->state == PLACE_STARTING) {
        place->state = PLACE_WORKING;
    }
}

void fm_crew_heard(struct fm_crew *crew, uint64_t now_ns, uint32_t index)
{
    place_of(crew, index)->heard_ns = now_ns;
}

void fm_crew_worked(struct fm_crew *crew, uint32_t index)
{
    place_of(crew, index)->worked = true;
}

void fm_crew_leaving(struct fm_crew *crew, uint64_t now_ns, uint32_t index,
                     enum fm_crew_cause cause)
{
    struct place *place = place_of(crew, index);
    FM_ASSERT(place->state != PLACE_EMPTY && cause < FM_CREW_CAUSE_COUNT_);
    if (place->state != PLACE_LEAVING) {
        place->state = PLACE_LEAVING;
        place->cause = cause;
        place->leave_by_ns = now_ns + crew->options.leave_ns;
    }
}

uint32_t fm_crew_welcome(struct fm_crew *crew, uint32_t index)
{
    if (index < crew->options.places) {
        crew->places[index].halvings = crew->halvings;
    }
    return crew->halvings;
}

void fm_crew_end(struct fm_crew *crew, uint64_t end_ns)
{
    crew->ending = true;
    crew->end_ns = end_ns < crew->end_ns ? end_ns : crew->end_ns;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        crew->places[i].to_start = false;
        crew->places[i].to_recycle = false;
        crew->places[i].to_retire = false;
    }
}

/* --- How many --- */

void fm_crew_value(struct fm_crew *crew, uint32_t index, double value)
{
    place_of(crew, index)->value = value;
}

static void kill_once(struct place *place)
{
    if (!place->killed) {
        place->killed = true;
        place->to_kill = true;
    }
}

/* A place that is closed early costs little. */
static int stage_of(const struct place *place)
{
    if (place->killed || place->retiring) {
        return 1;
    }
    switch (place->state) {
    case PLACE_EMPTY:
        return 0;
    case PLACE_LEAVING:
        return 1;
    case PLACE_STARTING:
        return 2;
    case PLACE_WORKING:
    default:
        return 3;
    }
}

static void place_close(struct place *place)
{
    place->open = false;
    place->to_start = false;
    place->to_recycle = false;
    if (place->killed || place->retiring) {
        return; /* it ends anyway; and a second signal would end it at once */
    }
    if (place->state == PLACE_STARTING) {
        place->retiring = true;
        place->dropped = true;
        kill_once(place);
    } else if (place->state == PLACE_WORKING) {
        place->retiring = true;
        place->to_retire = true;
    }
}

/* The one to close: the cheapest; of equals the last one. */
static struct place *place_to_close(struct fm_crew *crew)
{
    struct place *found = NULL;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        struct place *place = &crew->places[i];
        if (place->open && (found == NULL || stage_of(place) < stage_of(found) ||
                            (stage_of(place) == stage_of(found) && place->value <= found->value))) {
            found = place;
        }
    }
    return found;
}

/* The one to open: one without a process, if there is one; it need not wait for anything. */
static struct place *place_to_open(struct fm_crew *crew)
{
    struct place *found = NULL;
    for (uint32_t i = 0; i < crew->options.places; i++) {
        struct place *place = &crew->places[i];
        if (!place->open &&
            (found == NULL || (found->state != PLACE_EMPTY && place->state == PLACE_EMPTY))) {
            found = place;
        }
    }
    return found;
}

void fm_crew_want(struct fm_crew *crew, uint64_t now_ns, uint32_t count)
{
    FM_ASSERT(count <= crew->options.places);
    uint32_t open = fm_crew_wanted(crew);
    for (; open < count && !is_over(crew); open++) {
        struct place *place = place_to_open(crew);
        place->open = true; /* where one is still going, it is followed by another */
        place->due_ns = place->due_ns > now_ns ? place->due_ns : now_ns;
    }
    for (; open > count && !is_over(crew); open--) {
        place_close(place_to_close(crew));
    }
}

/* --- Time --- */

static void place_look(struct fm_crew *crew, uint64_t now_ns, struct place *place)
{
    const struct fm_crew_options *options = &crew->options;
    if (place->state == PLACE_EMPTY) {
        place->to_start = place->open && now_ns >= place->due_ns && !is_over(crew);
        place->start_ns = now_ns;
        return;
    }
    if (now_ns >= crew->end_ns || (place->state == PLACE_LEAVING && now_ns >= place->leave_by_ns)) {
        kill_once(place);
    } else if (place->state == PLACE_WORKING && options->silent_ns > 0 && !crew->ending &&
               now_ns - place->heard_ns >= options->silent_ns) {
        place->silent = true;
        kill_once(place);
    } else if (place->state == PLACE_STARTING && options->begin_ns > 0 && !crew->ending &&
               now_ns - place->start_ns >= options->begin_ns) {
        place->tardy = true;
        kill_once(place);
    }
}

/* After calm: more at once again. One process after the other makes way, so that the job goes on
 * meanwhile. */
static void grow_look(struct fm_crew *crew, uint64_t now_ns)
{
    struct place *behind = NULL;
    if (is_over(crew)) {
        return;
    }
    if (crew->halvings > 0 && now_ns >= crew->calm_until_ns) {
        crew->halvings--;
        crew->grown = true;
        crew->calm_until_ns = now_ns + crew->calm_ns;
    }
    for (uint32_t i = 0; i < crew->options.places; i++) {
        struct place *place = &crew->places[i];
        if (place->state == PLACE_EMPTY && !place->open) {
            continue;
        }
        if (place->state != PLACE_WORKING || place->asked || place->retiring) {
            return;
        }
        behind = behind == NULL && place->halvings > crew->halvings ? place : behind;
    }
    if (behind != NULL) {
        behind->asked = true;
        behind->to_recycle = true;
    }
}

/* This process stood still: what the others said meanwhile has not been read. */
static void pause_forgive(struct fm_crew *crew, uint64_t now_ns)
{
    uint64_t gap_ns = now_ns - crew->ticked_ns;
    crew->ticked_ns = now_ns;
    if (gap_ns < crew->options.pause_ns) {
        return;
    }
    for (uint32_t i = 0; i < crew->options.places; i++) {
        crew->places[i].heard_ns += gap_ns;
        crew->places[i].leave_by_ns += gap_ns;
        crew->places[i].start_ns += gap_ns;
    }
}

void fm_crew_tick(struct fm_crew *crew, uint64_t now_ns)
{
    pause_forgive(crew, now_ns);
    for (uint32_t i = 0; i < crew->options.places; i++) {
        place_look(crew, now_ns, &crew->places[i]);
    }
    grow_look(crew, now_ns);
}

/* --- What to do --- */

static bool place_action(struct fm_crew *crew, struct place *place,
                         struct fm_crew_action *ret_action)
{
    if (place->to_start) {
        ret_action->kind = FM_CREW_START;
        place->to_start = false;
        place->state = PLACE_STARTING;
        place->halvings = crew->halvings;
        return true;
    }
    if (place->to_kill) {
        ret_action->kind = FM_CREW_KILL;
        place->to_kill = false;
        return true;
    }
    if (place->to_recycle) {
        ret_action->kind = FM_CREW_RECYCLE;
        place->to_recycle = false;
        return true;
    }
    if (place->to_retire) {
        ret_action->kind = FM_CREW_RETIRE;
        place->to_retire = false;
        return true;
    }
    return false;
}

bool fm_crew_next_action(struct fm_crew *crew, struct fm_crew_action *ret_action)
{
    *ret_action = (struct fm_crew_action){0};
    if (crew->to_give_up) {
        crew->to_give_up = false;
        ret_action->kind = FM_CREW_GIVE_UP;
        ret_action->error = crew->error;
        return true;
    }
    for (uint32_t i = 0; i < crew->options.places; i++) {
        if (place_action(crew, &crew->places[i], ret_action)) {
            ret_action->place = i;
            return true;
        }
    }
    return false;
}

/* --- Questions --- */

void fm_crew_counts(const struct fm_crew *crew, struct fm_crew_counts *ret_counts)
{
    memcpy(ret_counts->restarts, crew->restarts, sizeof(crew->restarts));
    ret_counts->halvings = crew->halvings;
}

void fm_crew_validate(const struct fm_crew *crew)
{
    uint32_t asked = 0;
    FM_ASSERT(crew->halvings <= FM_CREW_HALVINGS_MAX);
    FM_ASSERT(!crew->to_give_up || crew->given_up);
    for (uint32_t i = 0; i < crew->options.places; i++) {
        const struct place *place = &crew->places[i];
        bool empty = place->state == PLACE_EMPTY;
        FM_ASSERT(!place->to_start || (empty && place->open && !is_over(crew)));
        FM_ASSERT(!empty || (!place->to_kill && !place->to_recycle && !place->to_retire));
        FM_ASSERT(!empty || !place->joined);
        FM_ASSERT(!place->to_retire || place->retiring);
        FM_ASSERT(!place->dropped || (place->retiring && place->killed));
        FM_ASSERT(!place->to_kill || place->killed);
        FM_ASSERT(place->state != PLACE_WORKING || place->joined);
        FM_ASSERT(place->delay_ns <= crew->options.restart_max_ns);
        asked += place->asked && place->state == PLACE_WORKING ? 1 : 0;
    }
    FM_ASSERT(asked <= 1);
}
