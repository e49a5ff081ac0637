/*
 * The master of a job. See master.h.
 */
#include "core/ledger/master.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NS_PER_S UINT64_C(1000000000)
/* Between two looks at who needs relief. */
#define RELIEF_EVERY_NS (NS_PER_S / 10)
/* Records and actions that one event can lead to at most, beside those for each lease. */
enum { EVENT_RECORDS = 4, EVENT_ACTIONS = 4 };

/* A lease that a worker has: the ledger's, and how far it is. */
struct holding {
    struct fm_master_holding told;
    uint64_t granted_ns;
    uint64_t rows;
    bool suspect;
    uint64_t asked_ns;   /* for its end; 0: it was not */
    uint64_t asked_done; /* what it had done by then */
};

struct worker {
    uint64_t id;
    bool connected;
    bool silent;    /* a lease of it expired, and it was not heard of since */
    bool hungry;    /* in the queue of those that want more */
    bool dismissed; /* END is under way */
    uint32_t shards_max;
    uint32_t holding_count;
    struct holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    struct fm_pace pace;
    uint64_t rows_committed;
    uint64_t heard_ns;
};

struct queued {
    struct fm_master_action action;
    uint64_t sequence; /* of the last record that must be durable before */
};

/* First in, first out. */
struct queue {
    struct queued *items;
    size_t capacity;
    size_t first;
    size_t count;
};

/* Why an unfinished shard failed. */
struct note {
    uint64_t number;
    char reason[FM_SHARD_REASON_SIZE];
};

struct fm_master {
    struct fm_master_options options;
    struct fm_ledger *ledger;
    struct worker **workers; /* by id */
    size_t worker_count;
    size_t worker_capacity;
    uint64_t *hungry; /* ids, a ring of workers_max */
    size_t hungry_first;
    size_t hungry_count;
    uint64_t taker; /* whom the next suspect shard waits for */
    bool has_taker;
    struct fm_shard_record *records;
    size_t record_count;
    size_t record_capacity;
    uint64_t sequence;  /* records there were */
    uint64_t persisted; /* of them */
    struct queue told;  /* wait for their records */
    struct queue said;  /* need not */
    struct note *notes; /* by number */
    size_t note_count;
    size_t note_capacity;
    uint64_t relief_next_ns;
    bool paused;
    bool stopping;
    bool dropping;
    bool dismissing; /* everybody got END, and whoever comes gets it */
    struct fm_error limit;
    uint64_t rows_committed; /* since the start ... */
    uint64_t bad_committed;  /* ... and of these dead letters */
};

/* --- Room --- */

static int grow(void **items, size_t *capacity, size_t wanted, size_t size)
{
    if (wanted <= *capacity) {
        return 0;
    }
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    more = more > wanted ? more : wanted;
    void *grown = fm_realloc(*items, more * size);
    if (grown == NULL) {
        return FM_ENOMEM;
    }
    *items = grown;
    *capacity = more;
    return 0;
}

static int queue_reserve(struct queue *queue, size_t more)
{
    if (queue->first > 0 && queue->count + more > queue->capacity - queue->first) {
        memmove(queue->items, queue->items + queue->first, queue->count * sizeof(*queue->items));
        queue->first = 0;
    }
    return grow((void **)&queue->items, &queue->capacity, queue->first + queue->count + more,
                sizeof(*queue->items));
}

/* Room for what an event with so many leases in it may lead to. Only after this may the ledger
 * change. */
static int reserve(struct fm_master *master, size_t leases)
{
    size_t records = EVENT_RECORDS + 2 * leases;
    size_t actions = EVENT_ACTIONS + 2 * leases;
    int status = grow((void **)&master->records, &master->record_capacity,
                      master->record_count + records, sizeof(*master->records));
    status = status != 0 ? status : queue_reserve(&master->told, actions);
    status = status != 0 ? status : queue_reserve(&master->said, actions);
    return status != 0 ? status
                       : grow((void **)&master->notes, &master->note_capacity,
                              master->note_count + records, sizeof(*master->notes));
}

/* --- Notes --- */

static size_t note_find(const struct fm_master *master, uint64_t number)
{
    size_t low = 0;
    size_t high = master->note_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (master->notes[middle].number >= number) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static const char *note_get(const struct fm_master *master, uint64_t number)
{
    size_t at = note_find(master, number);
    return at < master->note_count && master->notes[at].number == number ? master->notes[at].reason
                                                                         : "";
}

static void note_drop(struct fm_master *master, uint64_t number)
{
    size_t at = note_find(master, number);
    if (at < master->note_count && master->notes[at].number == number) {
        memmove(master->notes + at, master->notes + at + 1,
                (master->note_count - at - 1) * sizeof(*master->notes));
        master->note_count--;
    }
}

static void note_set(struct fm_master *master, uint64_t number, const char *reason)
{
    size_t at = note_find(master, number);
    if (at == master->note_count || master->notes[at].number != number) {
        FM_ASSERT(master->note_count < master->note_capacity);
        memmove(master->notes + at + 1, master->notes + at,
                (master->note_count - at) * sizeof(*master->notes));
        master->notes[at].number = number;
        master->note_count++;
    }
    (void)snprintf(master->notes[at].reason, FM_SHARD_REASON_SIZE, "%s", reason);
}

/* --- Records and actions --- */

static struct fm_shard_record *record_push(struct fm_master *master, const struct fm_shard *shard)
{
    FM_ASSERT(master->record_count < master->record_capacity);
    struct fm_shard_record *record = &master->records[master->record_count++];
    *record = (struct fm_shard_record){.shard = *shard};
    master->sequence++;
    return record;
}

static struct fm_master_action *queue_push(struct queue *queue, enum fm_master_action_kind kind,
                                           uint64_t worker, uint64_t sequence)
{
    FM_ASSERT(queue->first + queue->count < queue->capacity);
    struct queued *item = &queue->items[queue->first + queue->count++];
    *item = (struct queued){.action = {.kind = kind, .worker = worker}, .sequence = sequence};
    return &item->action;
}

/* At once. */
static struct fm_master_action *say(struct fm_master *master, enum fm_master_action_kind kind,
                                    uint64_t worker)
{
    return queue_push(&master->said, kind, worker, 0);
}

/* When every record so far is durable. */
static struct fm_master_action *tell(struct fm_master *master, enum fm_master_action_kind kind,
                                     uint64_t worker)
{
    return queue_push(&master->told, kind, worker, master->sequence);
}

static void refuse(struct fm_master *master, uint64_t worker, uint64_t number, uint64_t epoch)
{
    struct fm_master_action *action = say(master, FM_MASTER_REFUSED, worker);
    action->shard.number = number;
    action->shard.epoch = epoch;
}

/* --- Workers --- */

static size_t worker_place(const struct fm_master *master, uint64_t id)
{
    size_t low = 0;
    size_t high = master->worker_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (master->workers[middle]->id >= id) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static struct worker *worker_find(const struct fm_master *master, uint64_t id)
{
    size_t at = worker_place(master, id);
    return at < master->worker_count && master->workers[at]->id == id ? master->workers[at] : NULL;
}

static uint64_t *hungry_at(struct fm_master *master, size_t index)
{
    return &master->hungry[(master->hungry_first + index) % master->options.workers_max];
}

/* It gets nothing, for now. */
static void hungry_leave(struct fm_master *master, struct worker *worker)
{
    size_t kept = 0;
    for (size_t i = 0; i < master->hungry_count && worker->hungry; i++) {
        uint64_t id = *hungry_at(master, i);
        if (id != worker->id) {
            *hungry_at(master, kept++) = id;
        }
    }
    master->hungry_count = worker->hungry ? kept : master->hungry_count;
    worker->hungry = false;
    if (master->has_taker && master->taker == worker->id) {
        master->has_taker = false;
    }
}

static void worker_remove(struct fm_master *master, struct worker *worker)
{
    hungry_leave(master, worker);
    size_t at = worker_place(master, worker->id);
    memmove(master->workers + at, master->workers + at + 1,
            (master->worker_count - at - 1) * sizeof(struct worker *));
    master->worker_count--;
    fm_free(worker);
}

static void worker_remove_if_gone(struct fm_master *master, struct worker *worker)
{
    if (!worker->connected && worker->holding_count == 0) {
        worker_remove(master, worker);
    }
}

static int worker_add(struct fm_master *master, uint64_t id, struct worker **ret_worker)
{
    if (master->worker_count == master->options.workers_max) {
        return FM_ELIMIT;
    }
    struct worker *worker = fm_alloc_zero(1, sizeof(*worker));
    if (worker == NULL || grow((void **)&master->workers, &master->worker_capacity,
                               master->worker_count + 1, sizeof(struct worker *)) != 0) {
        fm_free(worker);
        return FM_ENOMEM;
    }
    size_t at = worker_place(master, id);
    worker->id = id;
    memmove(master->workers + at + 1, master->workers + at,
            (master->worker_count - at) * sizeof(struct worker *));
    master->workers[at] = worker;
    master->worker_count++;
    *ret_worker = worker;
    return 0;
}

/* NULL: the worker, which may be NULL, does not hold it. */
static struct holding *holding_find(struct worker *worker, uint64_t number, uint64_t epoch)
{
    for (uint32_t i = 0; worker != NULL && i < worker->holding_count; i++) {
        struct holding *holding = &worker->holdings[i];
        if (holding->told.number == number && holding->told.epoch == epoch) {
            return holding;
        }
    }
    return NULL;
}

static void holding_add(struct worker *worker, const struct fm_shard *shard, uint64_t epoch,
                        uint64_t granted_ns)
{
    FM_ASSERT(worker->holding_count < FM_MASTER_SHARDS_OF_ONE_MAX);
    worker->holdings[worker->holding_count++] =
        (struct holding){.told = {.number = shard->number, .epoch = epoch},
                         .granted_ns = granted_ns,
                         .rows = shard->row_count,
                         .suspect = fm_shard_suspect(shard)};
}

static void holding_remove(struct worker *worker, const struct holding *holding)
{
    size_t at = (size_t)(holding - worker->holdings);
    memmove(worker->holdings + at, worker->holdings + at + 1,
            (worker->holding_count - at - 1) * sizeof(*worker->holdings));
    worker->holding_count--;
}

static bool wants_more(const struct worker *worker)
{
    bool alone = worker->holding_count > 0 && worker->holdings[0].suspect;
    return worker->connected && !worker->silent && !alone &&
           worker->holding_count < worker->shards_max;
}

static void hungry_push(struct fm_master *master, struct worker *worker)
{
    if (worker->hungry || !wants_more(worker)) {
        return;
    }
    FM_ASSERT(master->hungry_count < master->options.workers_max);
    *hungry_at(master, master->hungry_count++) = worker->id;
    worker->hungry = true;
}

/* The next in the queue, taken out; NULL: none. */
static struct worker *hungry_pop(struct fm_master *master)
{
    if (master->hungry_count == 0) {
        return NULL;
    }
    struct worker *worker = worker_find(master, *hungry_at(master, 0));
    FM_ASSERT(worker != NULL);
    master->hungry_first = (master->hungry_first + 1) % master->options.workers_max;
    master->hungry_count--;
    worker->hungry = false;
    return worker;
}

/* --- Handing out --- */

static struct fm_pace_all pace_all(const struct fm_master *master)
{
    struct fm_ledger_stats stats;
    struct fm_pace_all all = {0};
    fm_ledger_stats(master->ledger, &stats);
    all.rows_left = stats.rows_unclaimed;
    for (size_t i = 0; i < master->worker_count; i++) {
        const struct worker *worker = master->workers[i];
        all.workers += worker->connected ? 1 : 0;
        all.rows_per_s += worker->connected ? worker->pace.rows_per_s : 0;
    }
    return all;
}

static void granted(struct fm_master *master, uint64_t now_ns, struct worker *worker,
                    const struct fm_shard *shard)
{
    (void)record_push(master, shard);
    holding_add(worker, shard, shard->epoch, now_ns);
    struct fm_master_action *action = tell(master, FM_MASTER_GRANT, worker->id);
    action->shard = *shard;
    if (shard->condemned) {
        (void)snprintf(action->reason, sizeof(action->reason), "%s",
                       note_get(master, shard->number));
    }
}

/* One shard for one worker. *ret_answer is WAIT also when it has to become free for a suspect one.
 */
static int feed(struct fm_master *master, uint64_t now_ns, struct worker *worker,
                const struct fm_pace_all *all, enum fm_ledger_answer *ret_answer)
{
    struct fm_ledger_stats stats;
    struct fm_shard shard;
    fm_ledger_stats(master->ledger, &stats);
    if (stats.ready_suspects == 0) {
        master->has_taker = false;
    } else if (!master->has_taker) {
        master->has_taker = true;
        master->taker = worker->id;
    }
    bool taker = master->has_taker && master->taker == worker->id;
    *ret_answer = FM_LEDGER_WAIT;
    if (taker && worker->holding_count > 0) {
        return 0;
    }
    struct fm_ledger_claim claim = {.owner = worker->id, .suspects = worker->holding_count == 0};
    claim.rows_max = master->options.shard_rows > 0
                         ? master->options.shard_rows
                         : fm_pace_rows(&master->options.pace, &worker->pace, all);
    int status = reserve(master, 1);
    status =
        status != 0 ? status : fm_ledger_claim(master->ledger, now_ns, &claim, ret_answer, &shard);
    if (status == 0 && *ret_answer == FM_LEDGER_GRANTED) {
        granted(master, now_ns, worker, &shard);
        if (taker) {
            master->has_taker = false;
        }
    }
    return status;
}

/* Everybody may go. */
static int dismiss(struct fm_master *master)
{
    int status = reserve(master, master->worker_count);
    if (status != 0) {
        return status;
    }
    master->dismissing = true;
    for (size_t i = 0; i < master->worker_count; i++) {
        if (master->workers[i]->connected && !master->workers[i]->dismissed) {
            master->workers[i]->dismissed = true;
            (void)tell(master, FM_MASTER_END, master->workers[i]->id);
        }
    }
    return 0;
}

static bool nothing_is_held(const struct fm_master *master)
{
    struct fm_ledger_stats stats;
    fm_ledger_stats(master->ledger, &stats);
    return stats.leases == 0;
}

/* Shards for those that want some, as long as there are any. */
static int serve(struct fm_master *master, uint64_t now_ns)
{
    size_t tries = master->hungry_count;
    int status = 0;
    if (!master->dismissing &&
        (fm_ledger_finished(master->ledger) || (master->stopping && nothing_is_held(master)))) {
        return dismiss(master);
    }
    if (master->paused || master->stopping || tries == 0) {
        return 0;
    }
    struct fm_pace_all all = pace_all(master);
    while (tries-- > 0 && status == 0) {
        struct worker *worker = hungry_pop(master);
        enum fm_ledger_answer answer = FM_LEDGER_GRANTED;
        if (worker == NULL) {
            break;
        }
        while (status == 0 && answer == FM_LEDGER_GRANTED && wants_more(worker)) {
            status = feed(master, now_ns, worker, &all, &answer);
            struct fm_ledger_stats stats;
            fm_ledger_stats(master->ledger, &stats);
            all.rows_left = stats.rows_unclaimed;
        }
        hungry_push(master, worker);
        struct fm_ledger_stats stats;
        fm_ledger_stats(master->ledger, &stats);
        if (answer != FM_LEDGER_GRANTED && stats.ready_suspects == 0) {
            break; /* what is not there for this one is not there for the next */
        }
    }
    return status;
}

/* What an event did stays done when there is no memory to hand out what it made free: the next tick
 * does that, and is due. */
static void serve_soon(struct fm_master *master, uint64_t now_ns)
{
    if (serve(master, now_ns) != 0) {
        master->relief_next_ns = now_ns;
    }
}

/* --- What becomes of leases --- */

/* The ledger has settled a failure: what to store, and what the worker has to know. */
static void settle(struct fm_master *master, const struct fm_ledger_outcome *outcome,
                   const char *reason)
{
    struct fm_shard_record *record = record_push(master, &outcome->shard);
    (void)snprintf(record->reason, sizeof(record->reason), "%s", reason);
    if (outcome->shard.state == FM_SHARD_DEAD) {
        note_drop(master, outcome->shard.number);
    } else {
        note_set(master, outcome->shard.number, reason);
    }
    if (outcome->half.row_count > 0) {
        record = record_push(master, &outcome->half);
        (void)snprintf(record->reason, sizeof(record->reason), "%s", reason);
        note_set(master, outcome->half.number, reason);
    }
}

/* A lease that was given back unharmed. */
static void settle_release(struct fm_master *master, uint64_t number)
{
    struct fm_shard shard;
    if (fm_ledger_find(master->ledger, number, &shard, NULL, NULL)) {
        (void)record_push(master, &shard);
    }
}

/* More rows have failed than the job allows, as far as it is known. */
static void limit_check(struct fm_master *master)
{
    const struct fm_master_limits *limits = &master->options.limits;
    struct fm_ledger_proof proof;
    uint64_t rows = master->rows_committed;
    uint64_t bad = master->bad_committed;
    fm_ledger_prove(master->ledger, &proof);
    for (size_t i = 0; i < master->worker_count; i++) {
        const struct worker *worker = master->workers[i];
        for (uint32_t k = 0; k < worker->holding_count; k++) {
            rows += worker->holdings[k].told.rows_done;
            bad += worker->holdings[k].told.rows_bad;
        }
    }
    uint64_t bad_in_all = proof.dead_letters + bad - master->bad_committed;
    if (bad_in_all > limits->bad_rows_max) {
        (void)fm_error_set(&master->limit, FM_ELIMIT,
                           "%" PRIu64 " rows failed, and the job allows %" PRIu64
                           " (errors.max_rows)",
                           bad_in_all, limits->bad_rows_max);
    } else if (rows > 0 && rows >= limits->bad_ratio_after &&
               (double)bad > limits->bad_ratio_max * (double)rows) {
        (void)fm_error_set(&master->limit, FM_ELIMIT,
                           "%" PRIu64 " of the first %" PRIu64
                           " rows failed, and the job allows a share of %g (errors.max_ratio)",
                           bad, rows, limits->bad_ratio_max);
    }
}

static int not_held(struct fm_master *master, uint64_t worker, uint64_t number, uint64_t epoch)
{
    refuse(master, worker, number, epoch);
    return 0;
}

/* --- Life --- */

int fm_master_create(const struct fm_master_options *options, struct fm_master **ret_master)
{
    FM_ASSERT(options->workers_max > 0 && options->ledger.lease_ns > 0);
    struct fm_master *master = fm_alloc_zero(1, sizeof(*master));
    if (master == NULL) {
        return FM_ENOMEM;
    }
    master->options = *options;
    master->hungry = fm_alloc_zero(options->workers_max, sizeof(*master->hungry));
    if (master->hungry == NULL || fm_ledger_create(&options->ledger, &master->ledger) != 0) {
        fm_master_destroy(master);
        return FM_ENOMEM;
    }
    *ret_master = master;
    return 0;
}

void fm_master_destroy(struct fm_master *master)
{
    if (master == NULL) {
        return;
    }
    for (size_t i = 0; i < master->worker_count; i++) {
        fm_free(master->workers[i]);
    }
    fm_ledger_destroy(master->ledger);
    fm_free(master->workers);
    fm_free(master->hungry);
    fm_free(master->records);
    fm_free(master->told.items);
    fm_free(master->said.items);
    fm_free(master->notes);
    fm_free(master);
}

struct fm_ledger *fm_master_ledger(struct fm_master *master)
{
    return master->ledger;
}

int fm_master_restore_shard(struct fm_master *master, uint64_t now_ns,
                            const struct fm_shard_record *record)
{
    enum fm_shard_state state = record->shard.state;
    int status = reserve(master, 0);
    status = status != 0 ? status : fm_ledger_restore_shard(master->ledger, now_ns, &record->shard);
    if (status == 0 && record->reason[0] != '\0' &&
        (state == FM_SHARD_READY || state == FM_SHARD_LEASED)) {
        note_set(master, record->shard.number, record->reason);
    }
    return status;
}

int fm_master_add_rows(struct fm_master *master, uint64_t now_ns,
                       const struct fm_ledger_segment *rows, struct fm_ledger_segment *ret_segment)
{
    int status = fm_ledger_add_rows(master->ledger, rows, ret_segment);
    if (status == 0) {
        serve_soon(master, now_ns);
    }
    return status;
}

void fm_master_close(struct fm_master *master, uint64_t now_ns, bool closed)
{
    fm_ledger_close(master->ledger, closed);
    master->relief_next_ns = now_ns; /* a tick is due: the job may be over */
}

void fm_master_pause(struct fm_master *master, uint64_t now_ns, bool paused)
{
    master->paused = paused;
    fm_ledger_pause(master->ledger, paused || master->stopping);
    master->relief_next_ns = now_ns;
}

int fm_master_stop(struct fm_master *master, uint64_t now_ns, bool drop)
{
    int status = reserve(master, master->worker_count);
    if (status != 0 || (master->stopping && (master->dropping || !drop))) {
        return status;
    }
    master->stopping = true;
    master->dropping = drop;
    fm_ledger_pause(master->ledger, true);
    for (size_t i = 0; i < master->worker_count; i++) {
        if (master->workers[i]->connected) {
            (void)say(master, drop ? FM_MASTER_DROP : FM_MASTER_STOP, master->workers[i]->id);
        }
    }
    serve_soon(master, now_ns);
    return 0;
}

/* Stops the job when the limit on failed rows is passed: what passes it is not kept, so that the
 * rows are done again when the cause is mended. */
static bool limit_stop(struct fm_master *master, uint64_t now_ns)
{
    if (master->limit.status == 0 && !master->stopping) {
        limit_check(master);
        if (master->limit.status != 0 && fm_master_stop(master, now_ns, true) != 0) {
            master->limit.status = 0; /* no memory: the next look tries again */
        }
    }
    return master->limit.status != 0;
}

/* --- What workers say --- */

/* Takes over what it says about a lease that it has. False: it has not. */
static bool holding_hear(struct fm_master *master, uint64_t now_ns, struct worker *worker,
                         const struct fm_master_holding *told)
{
    struct fm_shard shard;
    if (fm_ledger_renew(master->ledger, now_ns, told->number, worker->id, told->epoch) != 0) {
        return false;
    }
    struct holding *holding = holding_find(worker, told->number, told->epoch);
    if (holding == NULL) {
        /* From before the master was restarted. */
        bool found = fm_ledger_find(master->ledger, told->number, &shard, NULL, NULL);
        FM_ASSERT(found);
        if (worker->holding_count == FM_MASTER_SHARDS_OF_ONE_MAX) {
            return false;
        }
        holding_add(worker, &shard, told->epoch, now_ns);
        holding = &worker->holdings[worker->holding_count - 1];
    }
    if (told->rows_done <= holding->rows && told->rows_bad <= told->rows_done) {
        holding->told = *told;
    }
    return true;
}

/* What the ledger thinks a worker holds, and the worker does not say. */
static int holdings_reconcile(struct fm_master *master, struct worker *worker,
                              const struct fm_master_holding *holdings, size_t count)
{
    struct fm_shard shard;
    struct fm_lease leases[FM_LEDGER_LEASES_OF_ONE_MAX];
    uint32_t lease_count = 0;
    for (uint64_t i = 0; fm_ledger_open_shard(master->ledger, i, &shard, leases, &lease_count);
         i++) {
        for (uint32_t k = 0; k < lease_count; k++) {
            bool said = leases[k].owner != worker->id;
            for (size_t n = 0; n < count; n++) {
                said = said ||
                       (holdings[n].number == shard.number && holdings[n].epoch == leases[k].epoch);
            }
            if (said) {
                continue;
            }
            int status = reserve(master, 1);
            if (status != 0) {
                return status;
            }
            struct holding *holding = holding_find(worker, shard.number, leases[k].epoch);
            if (holding != NULL) {
                holding_remove(worker, holding);
            }
            status = fm_ledger_release(master->ledger, shard.number, worker->id, leases[k].epoch);
            FM_ASSERT(status == 0);
            settle_release(master, shard.number);
        }
    }
    return 0;
}

int fm_master_hello(struct fm_master *master, uint64_t now_ns, uint64_t id, uint32_t shards_max,
                    const struct fm_master_holding *holdings, size_t count)
{
    struct worker *worker = worker_find(master, id);
    if (shards_max == 0 || shards_max > FM_MASTER_SHARDS_OF_ONE_MAX ||
        count > FM_MASTER_SHARDS_OF_ONE_MAX) {
        return FM_EINVAL;
    }
    int status = reserve(master, count + FM_MASTER_SHARDS_OF_ONE_MAX);
    if (status == 0 && worker == NULL) {
        status = worker_add(master, id, &worker);
    }
    status = status != 0 ? status : holdings_reconcile(master, worker, holdings, count);
    if (status != 0) {
        return status;
    }
    worker->connected = true;
    worker->silent = false;
    worker->dismissed = master->dismissing;
    worker->shards_max = shards_max;
    worker->heard_ns = now_ns;
    for (size_t i = 0; i < count; i++) {
        if (!holding_hear(master, now_ns, worker, &holdings[i])) {
            refuse(master, id, holdings[i].number, holdings[i].epoch);
        }
    }
    if (master->dismissing) {
        (void)tell(master, FM_MASTER_END, id);
    } else if (master->stopping) {
        (void)say(master, master->dropping ? FM_MASTER_DROP : FM_MASTER_STOP, id);
    }
    hungry_push(master, worker);
    serve_soon(master, now_ns);
    return 0;
}

int fm_master_beat(struct fm_master *master, uint64_t now_ns, uint64_t id,
                   const struct fm_master_holding *holdings, size_t count)
{
    struct worker *worker = worker_find(master, id);
    if (worker == NULL || count > FM_MASTER_SHARDS_OF_ONE_MAX) {
        return FM_EINVAL;
    }
    int status = reserve(master, count);
    if (status != 0) {
        return status;
    }
    worker->heard_ns = now_ns;
    worker->silent = false;
    for (size_t i = 0; i < count; i++) {
        if (!holding_hear(master, now_ns, worker, &holdings[i])) {
            refuse(master, id, holdings[i].number, holdings[i].epoch);
        }
    }
    hungry_push(master, worker);
    serve_soon(master, now_ns);
    return 0;
}

/* The other holder of a shard that is done works for nothing. */
static void others_refuse(struct fm_master *master, uint64_t number, uint64_t worker,
                          const struct fm_lease *leases, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct worker *other =
            leases[i].owner != worker ? worker_find(master, leases[i].owner) : NULL;
        struct holding *holding = holding_find(other, number, leases[i].epoch);
        if (holding != NULL) {
            holding_remove(other, holding);
            refuse(master, other->id, number, leases[i].epoch);
            hungry_push(master, other);
            worker_remove_if_gone(master, other);
        }
    }
}

int fm_master_done(struct fm_master *master, uint64_t now_ns, uint64_t id,
                   const struct fm_master_done *done)
{
    struct fm_shard shard;
    struct fm_shard rest;
    struct fm_lease leases[FM_LEDGER_LEASES_OF_ONE_MAX];
    uint32_t lease_count = 0;
    struct worker *worker = worker_find(master, id);
    int status = reserve(master, 1);
    if (status != 0) {
        return status;
    }
    struct holding *holding = holding_find(worker, done->number, done->epoch);
    if (holding == NULL ||
        !fm_ledger_find(master->ledger, done->number, &shard, leases, &lease_count)) {
        return not_held(master, id, done->number, done->epoch);
    }
    if (holding->rows >= done->rows_out + done->dead_letters) {
        holding->told.rows_done = done->rows_out + done->dead_letters;
        holding->told.rows_bad = done->dead_letters;
    }
    if (limit_stop(master, now_ns)) {
        return fm_master_released(master, now_ns, id, done->number, done->epoch);
    }
    status = fm_ledger_commit(master->ledger, done->number, id, done->epoch, done->rows_out,
                              done->dead_letters, &rest);
    if (status != 0) {
        return status == FM_ECANCELLED ? not_held(master, id, done->number, done->epoch) : status;
    }
    uint64_t rows = done->rows_out + done->dead_letters;
    shard.state = FM_SHARD_DONE;
    shard.row_count = rows;
    shard.rows_out = done->rows_out;
    shard.dead_letters = done->dead_letters;
    struct fm_shard_record *record = record_push(master, &shard);
    record->files = done->files;
    record->files.attempt = done->epoch;
    struct fm_master_action *action = tell(master, FM_MASTER_COMMITTED, id);
    if (rest.row_count > 0) {
        (void)record_push(master, &rest);
        if (note_get(master, shard.number)[0] != '\0') {
            note_set(master, rest.number, note_get(master, shard.number));
        }
        master->told.items[master->told.first + master->told.count - 1].sequence =
            master->sequence; /* the rest is part of the same decision */
    }
    note_drop(master, shard.number);
    action->shard = shard;
    action->shard.epoch = done->epoch;
    action->files = record->files;
    fm_pace_observe(&worker->pace, now_ns, holding->granted_ns, rows);
    worker->rows_committed += rows;
    worker->heard_ns = now_ns;
    holding_remove(worker, holding);
    master->rows_committed += rows;
    master->bad_committed += done->dead_letters;
    others_refuse(master, shard.number, id, leases, lease_count);
    hungry_push(master, worker);
    serve_soon(master, now_ns);
    return 0;
}

int fm_master_failed(struct fm_master *master, uint64_t now_ns, uint64_t id, uint64_t number,
                     uint64_t epoch, enum fm_shard_failure failure, const char *reason)
{
    struct fm_ledger_outcome outcome;
    struct worker *worker = worker_find(master, id);
    int status = reserve(master, 1);
    if (status != 0) {
        return status;
    }
    struct holding *holding = holding_find(worker, number, epoch);
    if (holding == NULL ||
        fm_ledger_fail(master->ledger, now_ns, number, id, epoch, failure, &outcome) != 0) {
        return not_held(master, id, number, epoch);
    }
    holding_remove(worker, holding);
    settle(master, &outcome, reason);
    /* The worker says it until it is answered. */
    struct fm_master_action *action = tell(master, FM_MASTER_REFUSED, id);
    action->shard.number = number;
    action->shard.epoch = epoch;
    hungry_push(master, worker);
    serve_soon(master, now_ns);
    return 0;
}

int fm_master_released(struct fm_master *master, uint64_t now_ns, uint64_t id, uint64_t number,
                       uint64_t epoch)
{
    struct worker *worker = worker_find(master, id);
    int status = reserve(master, 1);
    if (status != 0) {
        return status;
    }
    struct holding *holding = holding_find(worker, number, epoch);
    if (holding == NULL || fm_ledger_release(master->ledger, number, id, epoch) != 0) {
        return not_held(master, id, number, epoch);
    }
    holding_remove(worker, holding);
    settle_release(master, number);
    /* It is on its way out, or has enough to do: it is not given the next one at once, but when it
     * is heard of again. */
    hungry_leave(master, worker);
    serve_soon(master, now_ns);
    return 0;
}

int fm_master_trimmed(struct fm_master *master, uint64_t now_ns, uint64_t id, uint64_t number,
                      uint64_t epoch, uint64_t keep_rows)
{
    struct fm_shard shard;
    struct fm_shard rest;
    struct worker *worker = worker_find(master, id);
    int status = reserve(master, 1);
    if (status != 0) {
        return status;
    }
    struct holding *holding = holding_find(worker, number, epoch);
    if (holding == NULL) {
        return not_held(master, id, number, epoch);
    }
    if (keep_rows < holding->told.rows_done) {
        return FM_EINVAL;
    }
    if (keep_rows >= holding->rows) {
        return 0; /* it stays asked: there is nothing to get, for a while */
    }
    status = fm_ledger_trim(master->ledger, number, id, epoch, keep_rows, &shard, &rest);
    if (status == FM_ECANCELLED) {
        return not_held(master, id, number, epoch);
    }
    if (status == FM_EINVAL) {
        return 0; /* somebody else has it, too: what it gave up comes back with its commit */
    }
    if (status != 0) {
        return status;
    }
    holding->rows = keep_rows;
    holding->asked_ns = 0;
    (void)record_push(master, &shard);
    (void)record_push(master, &rest);
    serve_soon(master, now_ns);
    return 0;
}

void fm_master_lost(struct fm_master *master, uint64_t id)
{
    struct worker *worker = worker_find(master, id);
    if (worker != NULL) {
        worker->connected = false;
        hungry_leave(master, worker);
        worker_remove_if_gone(master, worker);
    }
}

int fm_master_gone(struct fm_master *master, uint64_t now_ns, uint64_t id,
                   enum fm_shard_failure failure, const char *reason)
{
    struct worker *worker = worker_find(master, id);
    if (worker == NULL) {
        return 0;
    }
    int status = reserve(master, worker->holding_count);
    if (status != 0) {
        return status;
    }
    while (worker->holding_count > 0) {
        struct fm_master_holding told = worker->holdings[worker->holding_count - 1].told;
        struct fm_ledger_outcome outcome;
        worker->holding_count--;
        if (reason == NULL) {
            status = fm_ledger_release(master->ledger, told.number, id, told.epoch);
            FM_ASSERT(status == 0);
            settle_release(master, told.number);
        } else {
            status = fm_ledger_fail(master->ledger, now_ns, told.number, id, told.epoch, failure,
                                    &outcome);
            FM_ASSERT(status == 0);
            settle(master, &outcome, reason);
        }
    }
    worker_remove(master, worker);
    serve_soon(master, now_ns);
    return 0;
}

/* --- Relief --- */

/* The worker that would end last, and when. */
struct late {
    struct worker *worker;
    struct holding *holding; /* the last one that it got: what it does last */
    double rows;             /* that it has not done */
    double rows_per_s;
    double left_s;
};

/* It was asked, and has the time to answer; or has answered that it can give nothing, and goes on.
 */
static bool is_asked(const struct fm_master *master, uint64_t now_ns, const struct holding *holding)
{
    return holding->asked_ns > 0 && now_ns - holding->asked_ns < master->options.duplicate_ns;
}

static void late_look(const struct fm_master *master, uint64_t now_ns, struct worker *worker,
                      double rate_of_others, struct late *latest)
{
    struct late late = {.worker = worker, .rows_per_s = worker->pace.rows_per_s};
    if (worker->holding_count == 0) {
        return;
    }
    for (uint32_t i = 0; i < worker->holding_count; i++) {
        const struct holding *holding = &worker->holdings[i];
        late.rows += (double)(holding->rows - holding->told.rows_done);
    }
    /* Only the first, which it works on, tells about its pace; the others wait. */
    double rate = fm_pace_rate(&worker->pace, now_ns, worker->holdings[0].granted_ns,
                               worker->holdings[0].told.rows_done);
    late.rows_per_s = rate > 0 ? rate : late.rows_per_s > 0 ? late.rows_per_s : rate_of_others;
    late.holding = &worker->holdings[worker->holding_count - 1];
    late.left_s = late.rows_per_s > 0 ? late.rows / late.rows_per_s : 0;
    if (late.left_s > latest->left_s && !late.holding->suspect &&
        !is_asked(master, now_ns, late.holding)) {
        *latest = late;
    }
}

/* Asks for the end of the shard, as much as brings both to their end at the same time. */
static void ask(struct fm_master *master, const struct late *late, double give)
{
    const struct holding *holding = late->holding;
    uint64_t left = holding->rows - holding->told.rows_done;
    uint64_t rows = give < (double)left ? (uint64_t)give : left;
    bool begun = late->worker->holding_count == 1 || holding->told.rows_done > 0;
    uint64_t keep = holding->rows - rows;
    /* The row in work stays. */
    keep = begun && keep <= holding->told.rows_done ? holding->told.rows_done + 1 : keep;
    if (keep >= holding->rows || reserve(master, 0) != 0) {
        return;
    }
    struct fm_master_action *action = say(master, FM_MASTER_TRIM, late->worker->id);
    action->shard.number = holding->told.number;
    action->shard.epoch = holding->told.epoch;
    action->keep_rows = keep;
}

/* Company for who was asked in vain. */
static int duplicate(struct fm_master *master, uint64_t now_ns, struct worker *worker,
                     const struct holding *holding)
{
    struct fm_shard shard;
    int status = reserve(master, 1);
    status = status != 0 ? status
                         : fm_ledger_lease_again(master->ledger, now_ns, worker->id,
                                                 holding->told.number, &shard);
    if (status == 0) {
        granted(master, now_ns, worker, &shard);
    }
    return status == FM_ENOMEM ? status : 0;
}

/* `worker`, which has nothing to do, takes from who would end last. */
static int relieve_by(struct fm_master *master, uint64_t now_ns, struct worker *worker, double mean)
{
    struct late late = {0};
    double rate = worker->pace.rows_per_s > 0 ? worker->pace.rows_per_s : mean;
    double relief_s = (double)master->options.relief_ns / NS_PER_S;
    for (size_t i = 0; i < master->worker_count; i++) {
        late_look(master, now_ns, master->workers[i], rate, &late);
    }
    if (late.worker == NULL) {
        return 0;
    }
    struct holding *holding = late.holding;
    rate = rate > 0 ? rate : late.rows_per_s;
    double give = late.rows * rate / (rate + late.rows_per_s);
    double gain_s = late.left_s - (late.rows - give) / late.rows_per_s;
    if (gain_s < relief_s) {
        return 0;
    }
    bool in_vain = holding->asked_ns > 0 && holding->told.rows_done == holding->asked_done;
    if (in_vain && master->options.duplicate_ns > 0) {
        return duplicate(master, now_ns, worker, holding);
    }
    ask(master, &late, give > 1 ? give : 1);
    holding->asked_ns = now_ns;
    holding->asked_done = holding->told.rows_done;
    return 0;
}

static int relieve(struct fm_master *master, uint64_t now_ns)
{
    struct fm_pace_all all = pace_all(master);
    size_t tries = master->hungry_count;
    uint32_t known = 0;
    int status = 0;
    for (size_t i = 0; i < master->worker_count; i++) {
        known += master->workers[i]->pace.rows_per_s > 0 ? 1 : 0;
    }
    while (tries-- > 0 && status == 0) {
        struct worker *worker = hungry_pop(master);
        if (worker == NULL) {
            break;
        }
        if (worker->holding_count == 0) {
            status = relieve_by(master, now_ns, worker, known > 0 ? all.rows_per_s / known : 0);
        }
        hungry_push(master, worker);
    }
    return status;
}

/* --- Time --- */

static int expire(struct fm_master *master, uint64_t now_ns)
{
    struct fm_ledger_outcome outcome;
    int status = reserve(master, 1);
    while (status == 0 && fm_ledger_expire(master->ledger, now_ns, &outcome)) {
        char reason[FM_SHARD_REASON_SIZE];
        struct worker *worker = worker_find(master, outcome.owner);
        (void)snprintf(reason, sizeof(reason),
                       "nothing was heard of worker %016" PRIx64 " while it held the shard",
                       outcome.owner);
        settle(master, &outcome, reason);
        refuse(master, outcome.owner, outcome.shard.number, outcome.epoch);
        struct holding *holding = holding_find(worker, outcome.shard.number, outcome.epoch);
        if (holding != NULL) {
            holding_remove(worker, holding);
            worker->silent = true;
            hungry_leave(master, worker);
            worker_remove_if_gone(master, worker);
        }
        status = reserve(master, 1);
    }
    return status;
}

int fm_master_tick(struct fm_master *master, uint64_t now_ns)
{
    int status = expire(master, now_ns);
    (void)limit_stop(master, now_ns);
    status = status != 0 ? status : serve(master, now_ns);
    if (status == 0 && now_ns >= master->relief_next_ns) {
        master->relief_next_ns = now_ns + RELIEF_EVERY_NS;
        if (!master->paused && !master->stopping && fm_ledger_all_claimed(master->ledger)) {
            status = relieve(master, now_ns);
        }
    }
    return status;
}

uint64_t fm_master_next_ns(const struct fm_master *master, uint64_t now_ns)
{
    uint64_t next_ns = fm_ledger_next_ns(master->ledger);
    if (master->relief_next_ns > now_ns) {
        next_ns = master->relief_next_ns < next_ns ? master->relief_next_ns : next_ns;
    } else {
        next_ns = now_ns;
    }
    return next_ns;
}

/* --- What to do --- */

size_t fm_master_records_waiting(const struct fm_master *master)
{
    return master->record_count;
}

size_t fm_master_take_records(struct fm_master *master, const struct fm_shard_record **ret_records,
                              uint64_t *ret_sequence)
{
    size_t count = master->record_count;
    *ret_records = master->records;
    *ret_sequence = master->sequence;
    master->record_count = 0;
    return count;
}

void fm_master_persisted(struct fm_master *master, uint64_t sequence)
{
    FM_ASSERT(sequence <= master->sequence);
    master->persisted = sequence > master->persisted ? sequence : master->persisted;
}

static struct queued queue_pop(struct queue *queue)
{
    struct queued item = queue->items[queue->first++];
    queue->count--;
    if (queue->count == 0) {
        queue->first = 0;
    }
    return item;
}

/* A grant that has been taken back meanwhile is not told. */
static bool is_current(const struct fm_master *master, const struct fm_master_action *action)
{
    const struct worker *worker = worker_find(master, action->worker);
    if (action->kind != FM_MASTER_GRANT) {
        return true;
    }
    for (uint32_t i = 0; worker != NULL && i < worker->holding_count; i++) {
        if (worker->holdings[i].told.number == action->shard.number &&
            worker->holdings[i].told.epoch == action->shard.epoch) {
            return worker->connected;
        }
    }
    return false;
}

bool fm_master_next_action(struct fm_master *master, struct fm_master_action *ret_action)
{
    if (master->said.count > 0) {
        *ret_action = queue_pop(&master->said).action;
        return true;
    }
    while (master->told.count > 0 &&
           master->told.items[master->told.first].sequence <= master->persisted) {
        *ret_action = queue_pop(&master->told).action;
        if (is_current(master, ret_action)) {
            return true;
        }
    }
    return false;
}

/* --- Questions --- */

bool fm_master_over(const struct fm_master *master)
{
    bool done = fm_ledger_finished(master->ledger) || (master->stopping && nothing_is_held(master));
    return done && master->persisted == master->sequence && master->told.count == 0;
}

bool fm_master_limit_passed(const struct fm_master *master, struct fm_error *ret_how)
{
    *ret_how = master->limit;
    return master->limit.status != 0;
}

bool fm_master_holds(const struct fm_master *master, uint64_t worker, uint64_t number,
                     uint64_t epoch)
{
    return holding_find(worker_find(master, worker), number, epoch) != NULL;
}

bool fm_master_worker(const struct fm_master *master, size_t index,
                      struct fm_master_worker *ret_worker)
{
    if (index >= master->worker_count) {
        return false;
    }
    const struct worker *worker = master->workers[index];
    *ret_worker = (struct fm_master_worker){.worker = worker->id,
                                            .connected = worker->connected,
                                            .shards = worker->holding_count,
                                            .rows_committed = worker->rows_committed,
                                            .rows_per_s = worker->pace.rows_per_s,
                                            .heard_ns = worker->heard_ns};
    for (uint32_t i = 0; i < worker->holding_count; i++) {
        ret_worker->rows_in_work += worker->holdings[i].rows;
    }
    return true;
}

void fm_master_progress(const struct fm_master *master, struct fm_master_progress *ret_progress)
{
    struct fm_ledger_proof proof;
    struct fm_pace_all all = pace_all(master);
    fm_ledger_prove(master->ledger, &proof);
    *ret_progress =
        (struct fm_master_progress){.rows_total = proof.rows_in,
                                    .rows_committed = proof.rows_out + proof.dead_letters,
                                    .rows_done = proof.rows_out + proof.dead_letters,
                                    .dead_letters = proof.dead_letters,
                                    .workers = all.workers,
                                    .rows_per_s = all.rows_per_s};
    for (size_t i = 0; i < master->worker_count; i++) {
        const struct worker *worker = master->workers[i];
        for (uint32_t k = 0; k < worker->holding_count; k++) {
            ret_progress->rows_done += worker->holdings[k].told.rows_done;
            ret_progress->rows_in_work +=
                worker->holdings[k].rows - worker->holdings[k].told.rows_done;
            ret_progress->dead_letters += worker->holdings[k].told.rows_bad;
        }
    }
    /* A shard that two work on counts twice until it is done. */
    if (ret_progress->rows_done > ret_progress->rows_total) {
        ret_progress->rows_done = ret_progress->rows_total;
    }
}

static void worker_validate(const struct fm_master *master, const struct worker *worker)
{
    FM_ASSERT(worker->connected || worker->holding_count > 0);
    for (uint32_t i = 0; i < worker->holding_count; i++) {
        const struct holding *holding = &worker->holdings[i];
        struct fm_shard shard;
        struct fm_lease leases[FM_LEDGER_LEASES_OF_ONE_MAX];
        uint32_t count = 0;
        bool found = fm_ledger_find(master->ledger, holding->told.number, &shard, leases, &count);
        FM_ASSERT(found);
        found = false;
        for (uint32_t k = 0; k < count; k++) {
            found =
                found || (leases[k].owner == worker->id && leases[k].epoch == holding->told.epoch);
        }
        FM_ASSERT(found);
        FM_ASSERT(holding->rows == shard.row_count);
        FM_ASSERT(holding->told.rows_done <= holding->rows);
        /* Whoever holds a suspect shard holds nothing else. */
        FM_ASSERT(!holding->suspect || worker->holding_count == 1);
    }
}

void fm_master_validate(const struct fm_master *master)
{
    fm_ledger_validate(master->ledger);
    for (size_t i = 0; i < master->worker_count; i++) {
        FM_ASSERT(i == 0 || master->workers[i - 1]->id < master->workers[i]->id);
        worker_validate(master, master->workers[i]);
    }
    FM_ASSERT(master->persisted <= master->sequence);
    FM_ASSERT(master->hungry_count <= master->options.workers_max);
}
