/*
 * A whole elastic job in virtual time: the real master and the real holders of leases, a store that
 * loses what was not durable, a disk with attempt files, a network that delays, cuts and breaks,
 * workers that are killed, stopped, slowed and restarted, rows that end whoever runs them or hang,
 * so that the worker says so and goes, and a master that is killed between any two steps.
 * Everything from a seed. Usage: elastic [seed-count] [first-seed].
 *
 * Safety, at every moment: what is published was committed, whole, and no row is published twice.
 * Safety, at the end: every row is there once; those that end a process, hang or are bad, and only
 * those, are dead letters. Liveness: when the faults stop, the job ends. Speed: slow workers do not
 * hold up the end, and a kill costs one lease of work at most.
 */
#include "core/ledger/holder.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { WORKERS_MAX = 8, ROWS_MAX = 3000, SHARDS_MAX = 60000, ATTEMPTS_MAX = 60000, RUNS_MAX = 16 };

#define MS UINT64_C(1000000)
#define S  (1000 * MS)

enum row_kind { ROW_GOOD, ROW_BAD, ROW_POISON, ROW_HANG };

/* Swarm: each of them is drawn for a seed, many are off. */
struct faults {
    double kill_worker_per_s;
    double stop_worker_per_s; /* SIGSTOP, for a while */
    double slow_worker_per_s;
    double break_link_per_s;
    double mute_link_per_s; /* nothing gets through, and nobody knows */
    double kill_master_per_s;
    double pause_per_s; /* and, as often, its end */
    double no_memory;   /* share of what the master hears */
    uint64_t until_ns;
};

/* One shard in a worker's data path. */
struct run {
    struct fm_shard shard;
    uint64_t done;
    uint64_t bad;
    bool curtailed;
    bool syncing;
};

struct process {
    struct fm_holder *holder; /* NULL: it does not run */
    uint64_t id;
    uint64_t incarnation;
    uint64_t connection;           /* as it thinks; 0: none */
    uint64_t connection_of_master; /* as the master thinks ... */
    uint64_t connected_id;         /* ... and whose it is */
    bool row_running;
    uint64_t frozen_until_ns;
    double slowness;
    double speed; /* of the host */
    struct run runs[RUNS_MAX];
    uint32_t run_count;
    bool hung; /* it goes when it holds nothing any more */
    bool exited;
};

struct attempt {
    uint64_t number;
    uint64_t epoch;
    uint64_t first_row;
    uint64_t rows;
    uint64_t bad;
};

enum event_kind {
    EVENT_TO_MASTER,
    EVENT_TO_WORKER,
    EVENT_BROKEN_MASTER, /* the master's end of a connection notices */
    EVENT_BROKEN_WORKER,
    EVENT_CONNECT,
    EVENT_WORKER_START,
    EVENT_WORKER_TICK,
    EVENT_DIED, /* who started the process tells how it ended */
    EVENT_LEFT, /* likewise of one that went by itself, and had given everything back */
    EVENT_ROW,
    EVENT_SYNCED,
    EVENT_STORED,
    EVENT_MASTER_START,
    EVENT_MASTER_TICK,
    EVENT_FAULT,
};

struct event {
    uint64_t at_ns;
    uint64_t order;
    enum event_kind kind;
    uint32_t worker;
    uint64_t incarnation; /* of the worker, the master or the connection: stale ones are dropped */
    uint64_t number;
    uint64_t sequence;
    uint64_t id;
    enum fm_shard_failure failure;
    struct fm_master_action order_to_worker;
    struct fm_holder_action word;
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    size_t holding_count;
};

struct connection {
    uint64_t id;
    uint64_t last_ns[2]; /* delivery stays in order, each way */
    bool muted;
};

struct world {
    struct fm_random random;
    struct faults faults;
    uint64_t now_ns;
    uint64_t event_order;
    struct event **events; /* a heap */
    size_t event_count;
    size_t event_capacity;
    uint64_t row_count;
    uint8_t kinds[ROWS_MAX];
    uint64_t row_ns;
    uint32_t worker_count;
    struct process workers[WORKERS_MAX];
    struct connection connections[WORKERS_MAX]; /* of each worker, the newest */
    uint64_t next_id;
    struct fm_master_options options;
    struct fm_master *master; /* NULL: it is dead */
    uint64_t master_incarnation;
    bool storing;
    bool paused;
    uint64_t leases_at_pause; /* that the ledger had given until then, of this master */
    /* The store, durable. */
    struct fm_ledger_segment segments[8];
    uint32_t segment_count;
    struct fm_shard_record *shards; /* by number */
    bool *shard_there;
    uint64_t shard_count;
    /* Being stored. */
    struct fm_shard_record *writing;
    size_t writing_count;
    /* The disk. */
    struct attempt *attempts;
    size_t attempt_count;
    uint8_t *published; /* by shard number */
    uint8_t rows_seen[ROWS_MAX];
    uint64_t letters_seen;
    uint64_t ended_ns;
    uint64_t rows_computed;
    uint64_t kills;      /* of workers and of the master */
    uint64_t lease_rows; /* of the largest lease that a worker began */
    bool kill_at_worst;  /* a worker whose shard is about to be durable, now and then */
    uint64_t hash;
    bool bad;
    char why[200];
};

#define EXPECT(world, condition)                                                                  \
    do {                                                                                          \
        if (!(condition) && !(world)->bad) {                                                      \
            (world)->bad = true;                                                                  \
            (void)snprintf((world)->why, sizeof((world)->why), "line %d at %.3f s: %s", __LINE__, \
                           (double)(world)->now_ns / 1e9, #condition);                            \
        }                                                                                         \
    } while (0)

static uint64_t below(struct world *world, uint64_t bound)
{
    return fm_random_below(&world->random, bound);
}

static void note(struct world *world, uint64_t what)
{
    world->hash = (world->hash ^ what) * 1099511628211u;
}

/* --- Events --- */

static bool before(const struct event *left, const struct event *right)
{
    return left->at_ns < right->at_ns ||
           (left->at_ns == right->at_ns && left->order < right->order);
}

static void event_put(struct world *world, struct event *event)
{
    if (world->event_count == world->event_capacity) {
        world->event_capacity = world->event_capacity * 2 + 64;
        world->events = realloc(world->events, world->event_capacity * sizeof(*world->events));
    }
    size_t at = world->event_count++;
    while (at > 0 && before(event, world->events[(at - 1) / 2])) {
        world->events[at] = world->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->events[at] = event;
}

static struct event *event_new(struct world *world, enum event_kind kind, uint64_t delay_ns,
                               uint32_t worker, uint64_t incarnation)
{
    struct event *event = calloc(1, sizeof(*event));
    event->at_ns = world->now_ns + delay_ns;
    event->order = world->event_order++;
    event->kind = kind;
    event->worker = worker;
    event->incarnation = incarnation;
    return event;
}

static struct event *event_add(struct world *world, enum event_kind kind, uint64_t delay_ns,
                               uint32_t worker, uint64_t incarnation)
{
    struct event *event = event_new(world, kind, delay_ns, worker, incarnation);
    event_put(world, event);
    return event;
}

static struct event *event_take(struct world *world)
{
    struct event *first = world->events[0];
    struct event *last = world->events[--world->event_count];
    size_t at = 0;
    while (at * 2 + 1 < world->event_count) {
        size_t child = at * 2 + 1;
        if (child + 1 < world->event_count &&
            before(world->events[child + 1], world->events[child])) {
            child++;
        }
        if (!before(world->events[child], last)) {
            break;
        }
        world->events[at] = world->events[child];
        at = child;
    }
    if (world->event_count > 0) {
        world->events[at] = last;
    }
    return first;
}

/* --- The network --- */

/* A message on a worker's connection: in order, some milliseconds later; muted: never. */
static struct event *message_new(struct world *world, enum event_kind kind, uint32_t worker)
{
    struct connection *connection = &world->connections[worker];
    int way = kind == EVENT_TO_MASTER ? 0 : 1;
    uint64_t at_ns = world->now_ns + MS / 10 + below(world, 3 * MS);
    at_ns = at_ns > connection->last_ns[way] ? at_ns : connection->last_ns[way];
    connection->last_ns[way] = at_ns;
    struct event *event = event_new(world, kind, at_ns - world->now_ns, worker, connection->id);
    if (connection->muted) {
        event->incarnation = 0; /* no connection has that number */
    }
    return event;
}

static void connection_break(struct world *world, uint32_t worker, uint64_t delay_ns)
{
    struct connection *connection = &world->connections[worker];
    if (connection->id == 0) {
        return;
    }
    (void)event_add(world, EVENT_BROKEN_MASTER, delay_ns, worker, connection->id);
    (void)event_add(world, EVENT_BROKEN_WORKER, delay_ns, worker, connection->id);
    if (delay_ns == 0) {
        connection->id = 0;
    }
}

/* --- The store and the disk --- */

static struct attempt *attempt_find(struct world *world, uint64_t number, uint64_t epoch)
{
    for (size_t i = world->attempt_count; i-- > 0;) {
        if (world->attempts[i].number == number && world->attempts[i].epoch == epoch) {
            return &world->attempts[i];
        }
    }
    return NULL;
}

/* Gives an attempt's file its final name. What is seen must be committed, whole and new. */
static void publish(struct world *world, uint64_t number)
{
    const struct fm_shard_record *record = &world->shards[number];
    EXPECT(world, number < world->shard_count && world->shard_there[number]);
    EXPECT(world, record->shard.state == FM_SHARD_DONE);
    if (world->bad || world->published[number]) {
        return;
    }
    const struct attempt *attempt = attempt_find(world, number, record->files.attempt);
    EXPECT(world, attempt != NULL);
    if (attempt == NULL) {
        return;
    }
    EXPECT(world, attempt->first_row == record->shard.first_row);
    EXPECT(world, attempt->rows == record->shard.row_count);
    EXPECT(world, attempt->bad == record->shard.dead_letters);
    world->published[number] = 1;
    world->letters_seen += attempt->bad;
    uint64_t bad = 0;
    for (uint64_t i = 0; i < attempt->rows; i++) {
        uint64_t row = attempt->first_row + i;
        EXPECT(world, !world->rows_seen[row]);
        world->rows_seen[row] = 1;
        bad += world->kinds[row] != ROW_GOOD ? 1 : 0;
    }
    /* A row that ended a process is a letter, and so is a bad one. A good one may be a letter only
     * when it is blamed, which the end checks. */
    EXPECT(world, attempt->bad == bad);
}

/* What fm_sqlite_store does with records, all or none. */
static void store_apply(struct world *world)
{
    for (size_t i = 0; i < world->writing_count; i++) {
        const struct fm_shard_record *record = &world->writing[i];
        uint64_t number = record->shard.number;
        EXPECT(world, number < SHARDS_MAX);
        if (world->bad) {
            return;
        }
        struct fm_shard_record *stored = &world->shards[number];
        if (world->shard_there[number]) {
            EXPECT(world, stored->shard.state < FM_SHARD_DONE);
            EXPECT(world, stored->shard.epoch <= record->shard.epoch);
            EXPECT(world, stored->shard.first_row == record->shard.first_row);
            EXPECT(world, stored->shard.row_count >= record->shard.row_count);
        }
        *stored = *record;
        world->shard_there[number] = true;
        world->shard_count = number + 1 > world->shard_count ? number + 1 : world->shard_count;
        EXPECT(world, record->shard.state != FM_SHARD_DEAD);
        note(world, number * 8 + (uint64_t)record->shard.state);
    }
    world->writing_count = 0;
}

/* --- The master --- */

static void master_work(struct world *world);

static void master_kill(struct world *world)
{
    if (world->master == NULL) {
        return;
    }
    world->kills++;
    fm_master_destroy(world->master);
    world->master = NULL;
    world->paused = false; /* the next one knows nothing of it */
    world->master_incarnation++;
    if (world->storing && below(world, 2) == 0) {
        store_apply(world); /* the transaction was durable, the answer got lost */
    }
    world->writing_count = 0;
    world->storing = false;
    for (uint32_t i = 0; i < world->worker_count; i++) {
        connection_break(world, i, 0);
        world->workers[i].connection_of_master = 0;
    }
    (void)event_add(world, EVENT_MASTER_START, 10 * MS + below(world, 2 * S), 0, 0);
}

/* All rows of the job, in up to four segments with ranks of their own. */
static void rows_add(struct world *world)
{
    uint64_t left = world->row_count;
    while (left > 0) {
        bool last = world->segment_count == 3 || below(world, 2) == 0;
        const struct fm_ledger_segment rows = {.row_count = last ? left : 1 + below(world, left),
                                               .grain_rows = 1,
                                               .rank = (uint32_t)below(world, FM_LEDGER_RANKS)};
        EXPECT(world, fm_master_add_rows(world->master, world->now_ns, &rows,
                                         &world->segments[world->segment_count]) == 0);
        world->segment_count++;
        left -= rows.row_count;
    }
}

static void master_start(struct world *world)
{
    EXPECT(world, fm_master_create(&world->options, &world->master) == 0);
    struct fm_ledger *ledger = fm_master_ledger(world->master);
    for (uint32_t i = 0; i < world->segment_count; i++) {
        EXPECT(world, fm_ledger_restore_segment(ledger, &world->segments[i]) == 0);
    }
    for (uint64_t i = 0; i < world->shard_count; i++) {
        if (world->shard_there[i]) {
            EXPECT(world,
                   fm_master_restore_shard(world->master, world->now_ns, &world->shards[i]) == 0);
            if (world->shards[i].shard.state == FM_SHARD_DONE) {
                publish(world, i);
            }
        }
    }
    EXPECT(world, fm_ledger_restore_finish(ledger) == 0);
    if (world->segment_count == 0) {
        rows_add(world);
    }
    fm_master_close(world->master, world->now_ns, true);
    (void)event_add(world, EVENT_MASTER_TICK, 0, 0, world->master_incarnation);
    master_work(world);
}

/* Stores what there is, one transaction at a time, and does what may be done. */
static void master_work(struct world *world)
{
    struct fm_master_action action;
    if (world->master == NULL) {
        return;
    }
    if (!world->storing) {
        const struct fm_shard_record *records = NULL;
        uint64_t sequence = 0;
        size_t waiting = fm_master_records_waiting(world->master);
        size_t count = fm_master_take_records(world->master, &records, &sequence);
        EXPECT(world, waiting == count && fm_master_records_waiting(world->master) == 0);
        if (count > 0) {
            world->writing = realloc(world->writing, count * sizeof(*records));
            memcpy(world->writing, records, count * sizeof(*records));
            world->writing_count = count;
            world->storing = true;
            event_add(world, EVENT_STORED, MS + below(world, 5 * MS), 0, world->master_incarnation)
                ->sequence = sequence;
        }
    }
    while (!world->bad && fm_master_next_action(world->master, &action)) {
        if (action.kind == FM_MASTER_COMMITTED) {
            publish(world, action.shard.number);
        }
        for (uint32_t i = 0; i < world->worker_count; i++) {
            if (world->connections[i].id != 0 && world->workers[i].id == action.worker) {
                struct event *event = message_new(world, EVENT_TO_WORKER, i);
                event->order_to_worker = action;
                event_put(world, event);
            }
        }
        note(world, (uint64_t)action.kind * 1000 + action.shard.number);
    }
    if (world->ended_ns == 0 && fm_master_over(world->master)) {
        world->ended_ns = world->now_ns;
    }
    fm_master_validate(world->master);
}

static int master_told(struct world *world, const struct event *event)
{
    const struct fm_holder_action *word = &event->word;
    uint64_t now_ns = world->now_ns;
    int status = FM_EINTERNAL;
    switch (word->kind) {
    case FM_HOLDER_HELLO:
        status = fm_master_hello(world->master, now_ns, event->id, 2, event->holdings,
                                 event->holding_count);
        break;
    case FM_HOLDER_BEAT:
        status =
            fm_master_beat(world->master, now_ns, event->id, event->holdings, event->holding_count);
        break;
    case FM_HOLDER_DONE:
        status = fm_master_done(world->master, now_ns, event->id, &word->done);
        break;
    case FM_HOLDER_FAILED:
        status = fm_master_failed(world->master, now_ns, event->id, word->shard.number,
                                  word->shard.epoch, word->failure, word->reason);
        break;
    case FM_HOLDER_RELEASED:
        status = fm_master_released(world->master, now_ns, event->id, word->shard.number,
                                    word->shard.epoch);
        break;
    case FM_HOLDER_TRIMMED:
        status = fm_master_trimmed(world->master, now_ns, event->id, word->shard.number,
                                   word->shard.epoch, word->keep_rows);
        break;
    case FM_HOLDER_RUN:
    case FM_HOLDER_SHORTEN:
    case FM_HOLDER_CURTAIL:
    case FM_HOLDER_ABANDON:
    case FM_HOLDER_EXIT:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        break;
    }
    return status;
}

static void master_hear(struct world *world, const struct event *event)
{
    bool starved = fm_random_unit(&world->random) < world->faults.no_memory;
    (void)fm_memory_fail_at(starved ? 1 + below(world, 4) : 0, 0);
    int status = master_told(world, event);
    (void)fm_memory_fail_at(0, 0);
    if (starved && status == FM_ENOMEM) {
        fm_master_validate(world->master);
        status = master_told(world, event);
    }
    EXPECT(world, status == 0);
    master_work(world);
}

/* --- Workers --- */

static void worker_work(struct world *world, uint32_t who);

static void row_begin(struct world *world, uint32_t who)
{
    struct process *process = &world->workers[who];
    const struct run *run = NULL;
    for (uint32_t i = 0; i < process->run_count && run == NULL; i++) {
        run = process->runs[i].syncing || process->runs[i].curtailed ? NULL : &process->runs[i];
    }
    if (run != NULL && !process->row_running) {
        double cost = (double)world->row_ns * process->slowness / process->speed;
        process->row_running = true;
        event_add(world, EVENT_ROW, (uint64_t)cost + 1, who, process->incarnation)->number =
            run->shard.number;
    }
}

static struct run *run_find(struct process *process, uint64_t number)
{
    for (uint32_t i = 0; i < process->run_count; i++) {
        if (process->runs[i].shard.number == number) {
            return &process->runs[i];
        }
    }
    return NULL;
}

static void run_remove(struct process *process, const struct run *run)
{
    size_t at = (size_t)(run - process->runs);
    memmove(process->runs + at, process->runs + at + 1,
            (process->run_count - at - 1) * sizeof(*run));
    process->run_count--;
}

/* The shard has all the rows that it will have. */
static void run_finish(struct world *world, uint32_t who, struct run *run)
{
    struct process *process = &world->workers[who];
    uint64_t number = run->shard.number;
    if (run->syncing) {
        return;
    }
    if (run->done == 0) {
        run_remove(process, run);
        fm_holder_released(process->holder, number);
        return;
    }
    run->syncing = true;
    event_add(world, EVENT_SYNCED, MS + below(world, 4 * MS), who, process->incarnation)->number =
        number;
}

static void worker_stop(struct world *world, uint32_t who)
{
    struct process *process = &world->workers[who];
    fm_holder_destroy(process->holder);
    process->holder = NULL;
    process->incarnation++;
    process->run_count = 0;
    process->row_running = false;
    process->hung = false;
    process->connection = 0;
    connection_break(world, who, 0);
}

/* The process ends; whoever started it may tell the master how, and starts another. */
static void worker_kill(struct world *world, uint32_t who, enum fm_shard_failure failure)
{
    struct process *process = &world->workers[who];
    if (process->holder == NULL) {
        return;
    }
    world->kills++;
    worker_stop(world, who);
    if (failure == FM_SHARD_FAILURE_DATA || below(world, 2) == 0) {
        struct event *event = event_add(world, EVENT_DIED, MS + below(world, 20 * MS), who, 0);
        event->id = process->id;
        event->failure = failure;
    }
    (void)event_add(world, EVENT_WORKER_START, 50 * MS + below(world, S), who,
                    process->incarnation);
}

/* A stage hangs: the shard has failed, everything else is given back, and when the master has heard
 * that the process goes. */
static void worker_hang(struct world *world, uint32_t who, const struct run *run)
{
    struct process *process = &world->workers[who];
    uint64_t number = run->shard.number;
    run_remove(process, run);
    process->hung = true;
    process->row_running = true; /* for ever */
    fm_holder_failed(process->holder, number, FM_SHARD_FAILURE_DATA, "it hangs");
    fm_holder_stop(process->holder, true);
    worker_work(world, who);
}

static void worker_leave(struct world *world, uint32_t who)
{
    struct process *process = &world->workers[who];
    struct event *event = event_add(world, EVENT_LEFT, MS + below(world, 20 * MS), who, 0);
    event->id = process->id;
    worker_stop(world, who);
    (void)event_add(world, EVENT_WORKER_START, 50 * MS + below(world, S), who,
                    process->incarnation);
}

static void worker_start(struct world *world, uint32_t who)
{
    struct process *process = &world->workers[who];
    process->id = world->next_id++;
    const struct fm_holder_options options = {.beat_ns = S / 2, .give_up_ns = 3600 * S};
    EXPECT(world, fm_holder_create(&options, world->now_ns, &process->holder) == 0);
    (void)event_add(world, EVENT_CONNECT, MS, who, process->incarnation);
    (void)event_add(world, EVENT_WORKER_TICK, S / 2, who, process->incarnation);
}

static void worker_connect(struct world *world, uint32_t who)
{
    struct process *process = &world->workers[who];
    if (world->connections[who].id != 0) {
        return;
    }
    if (world->master == NULL) {
        (void)event_add(world, EVENT_CONNECT, 100 * MS, who, process->incarnation);
        return;
    }
    world->connections[who] = (struct connection){.id = world->next_id++};
    process->connection = world->connections[who].id;
    process->connection_of_master = process->connection;
    process->connected_id = process->id;
    fm_holder_connected(process->holder, world->now_ns);
    worker_work(world, who);
}

static void worker_obey(struct world *world, const struct event *event)
{
    struct process *process = &world->workers[event->worker];
    const struct fm_master_action *action = &event->order_to_worker;
    switch (action->kind) {
    case FM_MASTER_GRANT:
        EXPECT(world, fm_holder_granted(process->holder, &action->shard, action->reason) == 0);
        break;
    case FM_MASTER_COMMITTED:
        fm_holder_committed(process->holder, action->shard.number, action->shard.epoch);
        break;
    case FM_MASTER_REFUSED:
        fm_holder_refused(process->holder, action->shard.number, action->shard.epoch);
        break;
    case FM_MASTER_TRIM:
        fm_holder_asked(process->holder, action->shard.number, action->shard.epoch,
                        action->keep_rows);
        break;
    case FM_MASTER_END:
        fm_holder_ended(process->holder);
        break;
    case FM_MASTER_STOP:
    case FM_MASTER_DROP:
    case FM_MASTER_ACTION_COUNT_:
    default:
        EXPECT(world, false);
        break;
    }
    worker_work(world, event->worker);
}

/* The first rows stay, and the one that runs. */
static void run_shorten(struct world *world, uint32_t who, uint64_t number, uint64_t keep)
{
    struct process *process = &world->workers[who];
    struct run *run = run_find(process, number);
    if (run->syncing) {
        fm_holder_shortened(process->holder, number, run->shard.row_count);
        return;
    }
    bool works = process->row_running && run == &process->runs[0];
    uint64_t begun = run->done + (works ? 1 : 0);
    uint64_t kept = keep > begun ? keep : begun;
    kept = kept < run->shard.row_count ? kept : run->shard.row_count;
    run->shard.row_count = kept;
    fm_holder_shortened(process->holder, number, kept);
    if (kept == 0) {
        run_remove(process, run);
    } else if (run->done == kept) {
        run_finish(world, who, run);
    }
}

static void worker_work(struct world *world, uint32_t who)
{
    struct process *process = &world->workers[who];
    struct fm_holder_action action;
    while (!world->bad && process->holder != NULL &&
           fm_holder_next_action(process->holder, &action)) {
        struct run *run = run_find(process, action.shard.number);
        switch (action.kind) {
        case FM_HOLDER_RUN:
            EXPECT(world, process->run_count < RUNS_MAX);
            process->runs[process->run_count++] = (struct run){.shard = action.shard};
            world->lease_rows = action.shard.row_count > world->lease_rows ? action.shard.row_count
                                                                           : world->lease_rows;
            /* Suspects run alone: nothing else may be blamed with them. */
            EXPECT(world, !fm_shard_suspect(&action.shard) || process->run_count == 1);
            break;
        case FM_HOLDER_SHORTEN:
            EXPECT(world, run != NULL);
            run_shorten(world, who, action.shard.number, action.keep_rows);
            break;
        case FM_HOLDER_CURTAIL:
            run->curtailed = true;
            run_finish(world, who, run);
            break;
        case FM_HOLDER_ABANDON:
            if (run != NULL && process->row_running && run == &process->runs[0]) {
                process->row_running = false; /* its ROW comes, and finds nobody */
            }
            if (run != NULL) {
                run_remove(process, run);
            }
            break;
        case FM_HOLDER_EXIT:
            process->exited = true;
            break;
        case FM_HOLDER_HELLO:
        case FM_HOLDER_BEAT:
        case FM_HOLDER_DONE:
        case FM_HOLDER_FAILED:
        case FM_HOLDER_RELEASED:
        case FM_HOLDER_TRIMMED:
        case FM_HOLDER_ACTION_COUNT_:
        default:
            if (world->connections[who].id != 0) {
                struct event *event = message_new(world, EVENT_TO_MASTER, who);
                event->word = action;
                event->id = process->id;
                event->holding_count = fm_holder_holdings(process->holder, event->holdings);
                event_put(world, event);
            }
            break;
        }
    }
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    if (process->exited && process->holder != NULL) {
        worker_stop(world, who);
    } else if (process->hung && fm_holder_holdings(process->holder, holdings) == 0) {
        worker_leave(world, who);
    } else if (process->holder != NULL && !process->hung) {
        row_begin(world, who);
    }
}

static void row_end(struct world *world, const struct event *event)
{
    struct process *process = &world->workers[event->worker];
    struct run *run = run_find(process, event->number);
    process->row_running = false;
    if (run == NULL || run->syncing) {
        worker_work(world, event->worker);
        return;
    }
    uint64_t row = run->shard.first_row + run->done;
    world->rows_computed++;
    if (world->kinds[row] == ROW_POISON && !run->shard.condemned) {
        worker_kill(world, event->worker, FM_SHARD_FAILURE_DATA);
        return;
    }
    if (world->kinds[row] == ROW_HANG && !run->shard.condemned) {
        worker_hang(world, event->worker, run);
        return;
    }
    run->bad += world->kinds[row] != ROW_GOOD || run->shard.condemned ? 1 : 0;
    run->done++;
    const struct fm_master_holding progress = {.number = run->shard.number,
                                               .epoch = run->shard.epoch,
                                               .rows_done = run->done,
                                               .rows_bad = run->bad};
    fm_holder_progress(process->holder, &progress);
    if (run->done == run->shard.row_count) {
        run_finish(world, event->worker, run);
    }
    worker_work(world, event->worker);
}

static void synced(struct world *world, const struct event *event)
{
    struct process *process = &world->workers[event->worker];
    struct run *run = run_find(process, event->number);
    if (run == NULL || !run->syncing) {
        return; /* abandoned meanwhile */
    }
    if (world->kill_at_worst && below(world, 4) == 0) {
        worker_kill(world, event->worker, FM_SHARD_FAILURE_INFRASTRUCTURE);
        return;
    }
    EXPECT(world, world->attempt_count < ATTEMPTS_MAX);
    EXPECT(world, attempt_find(world, run->shard.number, run->shard.epoch) == NULL);
    if (world->bad) {
        return;
    }
    world->attempts[world->attempt_count++] = (struct attempt){.number = run->shard.number,
                                                               .epoch = run->shard.epoch,
                                                               .first_row = run->shard.first_row,
                                                               .rows = run->done,
                                                               .bad = run->bad};
    const struct fm_master_done done = {.number = run->shard.number,
                                        .epoch = run->shard.epoch,
                                        .rows_out = run->done - run->bad,
                                        .dead_letters = run->bad};
    run_remove(process, run);
    fm_holder_done(process->holder, &done);
    worker_work(world, event->worker);
}

/* --- Pauses --- */

static uint64_t leases_given(const struct world *world)
{
    struct fm_ledger_stats stats;
    fm_ledger_stats(fm_master_ledger(world->master), &stats);
    return stats.claims + stats.duplicates;
}

static void pause_set(struct world *world, bool paused)
{
    if (world->master != NULL) {
        world->paused = paused;
        world->leases_at_pause = leases_given(world);
        fm_master_pause(world->master, world->now_ns, paused);
        master_work(world);
    }
}

/* Nothing is handed out while the job is paused. */
static void pause_check(struct world *world)
{
    if (world->paused && world->master != NULL) {
        EXPECT(world, leases_given(world) == world->leases_at_pause);
    }
}

/* --- Faults --- */

static bool happens(struct world *world, double per_s, uint64_t every_ns)
{
    return fm_random_unit(&world->random) < per_s * (double)every_ns / 1e9;
}

static void fault(struct world *world)
{
    const struct faults *faults = &world->faults;
    const uint64_t every_ns = 50 * MS;
    uint32_t who = (uint32_t)below(world, world->worker_count);
    struct process *process = &world->workers[who];
    if (happens(world, faults->kill_worker_per_s, every_ns)) {
        worker_kill(world, who, FM_SHARD_FAILURE_INFRASTRUCTURE);
    }
    if (happens(world, faults->stop_worker_per_s, every_ns)) {
        /* Never shorter than before: what it was to get waits until then, in order. */
        uint64_t until_ns = world->now_ns + below(world, 15 * S);
        process->frozen_until_ns =
            until_ns > process->frozen_until_ns ? until_ns : process->frozen_until_ns;
    }
    if (happens(world, faults->slow_worker_per_s, every_ns)) {
        process->slowness = 1 + (double)below(world, 6);
    }
    if (happens(world, faults->break_link_per_s, every_ns)) {
        connection_break(world, who, 0);
    }
    if (happens(world, faults->mute_link_per_s, every_ns) && world->connections[who].id != 0) {
        world->connections[who].muted = true;
        connection_break(world, who, 1 + below(world, 20 * S));
    }
    if (happens(world, faults->kill_master_per_s, every_ns)) {
        master_kill(world);
    }
    if (happens(world, faults->pause_per_s, every_ns)) {
        pause_set(world, !world->paused);
    }
    if (world->now_ns < faults->until_ns) {
        (void)event_add(world, EVENT_FAULT, every_ns, 0, 0);
    } else if (world->paused) {
        pause_set(world, false);
    }
}

/* --- The world --- */

static void broken(struct world *world, const struct event *event, bool at_master)
{
    struct process *process = &world->workers[event->worker];
    struct connection *connection = &world->connections[event->worker];
    if (connection->id == event->incarnation) {
        connection->id = 0; /* a muted one, that was found out */
    }
    if (at_master) {
        if (world->master != NULL && process->connection_of_master == event->incarnation) {
            process->connection_of_master = 0;
            fm_master_lost(world->master, process->connected_id);
            master_work(world);
        }
    } else if (process->holder != NULL && process->connection == event->incarnation) {
        process->connection = 0;
        fm_holder_disconnected(process->holder, world->now_ns);
        (void)event_add(world, EVENT_CONNECT, 20 * MS + below(world, S), event->worker,
                        process->incarnation);
        worker_work(world, event->worker);
    }
}

static void happen(struct world *world, struct event *event)
{
    struct process *process = &world->workers[event->worker];
    bool of_process = event->incarnation == process->incarnation && process->holder != NULL;
    bool of_master = event->incarnation == world->master_incarnation && world->master != NULL;
    bool on_connection =
        event->incarnation != 0 && event->incarnation == world->connections[event->worker].id;
    switch (event->kind) {
    case EVENT_TO_MASTER:
        if (on_connection && world->master != NULL) {
            master_hear(world, event);
        }
        break;
    case EVENT_TO_WORKER:
        if (on_connection && process->holder != NULL) {
            worker_obey(world, event);
        }
        break;
    case EVENT_BROKEN_MASTER:
    case EVENT_BROKEN_WORKER:
        broken(world, event, event->kind == EVENT_BROKEN_MASTER);
        break;
    case EVENT_CONNECT:
        if (of_process) {
            worker_connect(world, event->worker);
        }
        break;
    case EVENT_WORKER_START:
        if (event->incarnation == process->incarnation && !process->exited) {
            worker_start(world, event->worker);
        }
        break;
    case EVENT_WORKER_TICK:
        if (of_process) {
            fm_holder_tick(process->holder, world->now_ns);
            worker_work(world, event->worker);
            (void)event_add(world, EVENT_WORKER_TICK, S / 4, event->worker, event->incarnation);
        }
        break;
    case EVENT_DIED:
        if (world->master != NULL) {
            EXPECT(world, fm_master_gone(world->master, world->now_ns, event->id, event->failure,
                                         "it ended") == 0);
            master_work(world);
        }
        break;
    case EVENT_LEFT:
        if (world->master != NULL) {
            EXPECT(world, fm_master_gone(world->master, world->now_ns, event->id,
                                         FM_SHARD_FAILURE_INFRASTRUCTURE, NULL) == 0);
            master_work(world);
        }
        break;
    case EVENT_ROW:
        if (of_process && !process->hung) {
            row_end(world, event);
        }
        break;
    case EVENT_SYNCED:
        if (of_process) {
            synced(world, event);
        }
        break;
    case EVENT_STORED:
        if (of_master) {
            store_apply(world);
            world->storing = false;
            if (below(world, 50) == 0 && world->faults.kill_master_per_s > 0 &&
                world->now_ns < world->faults.until_ns) {
                master_kill(world); /* committed, and not published */
                break;
            }
            fm_master_persisted(world->master, event->sequence);
            master_work(world);
        }
        break;
    case EVENT_MASTER_START:
        master_start(world);
        break;
    case EVENT_MASTER_TICK:
        if (of_master) {
            EXPECT(world, fm_master_tick(world->master, world->now_ns) == 0);
            EXPECT(world, fm_master_next_ns(world->master, world->now_ns) > world->now_ns);
            master_work(world);
            (void)event_add(world, EVENT_MASTER_TICK, 100 * MS, 0, event->incarnation);
        }
        break;
    case EVENT_FAULT:
        fault(world);
        break;
    }
}

/* Whatever a stopped process would do, it does later. */
static bool is_frozen(struct world *world, struct event *event)
{
    const struct process *process = &world->workers[event->worker];
    bool its = event->kind == EVENT_TO_WORKER || event->kind == EVENT_BROKEN_WORKER ||
               event->kind == EVENT_CONNECT || event->kind == EVENT_WORKER_TICK ||
               event->kind == EVENT_ROW || event->kind == EVENT_SYNCED;
    if (!its || process->frozen_until_ns <= world->now_ns) {
        return false;
    }
    event->at_ns = process->frozen_until_ns;
    event_put(world, event);
    return true;
}

static void happen_next(struct world *world, uint64_t limit_ns)
{
    struct event *event = event_take(world);
    world->now_ns = event->at_ns;
    EXPECT(world, world->now_ns < limit_ns);
    if (!is_frozen(world, event)) {
        happen(world, event);
        pause_check(world);
        free(event);
    }
}

static void run_until_over(struct world *world, uint64_t limit_ns)
{
    while (!world->bad && world->ended_ns == 0 && world->event_count > 0) {
        for (uint32_t i = 0; i < world->worker_count && world->now_ns >= world->faults.until_ns;
             i++) {
            world->workers[i].slowness = 1; /* the faults are over: everything works again */
        }
        happen_next(world, limit_ns);
    }
}

static struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof(*world));
    fm_random_init(&world->random, seed);
    world->shards = calloc(SHARDS_MAX, sizeof(*world->shards));
    world->shard_there = calloc(SHARDS_MAX, sizeof(*world->shard_there));
    world->published = calloc(SHARDS_MAX, 1);
    world->attempts = calloc(ATTEMPTS_MAX, sizeof(*world->attempts));
    world->next_id = 1;
    world->options = (struct fm_master_options){
        .ledger = {.leases_max = 1000,
                   .lease_ns = 5 * S,
                   .attempts_max = {20, 2},
                   .backoff_ns = 50 * MS,
                   .backoff_max_ns = 2 * S},
        .pace = {.target_ns = 2 * S, .least_ns = 100 * MS, .rows_first = 8, .rows_max = 500},
        .workers_max = 2 * WORKERS_MAX * 100,
        .limits = {.bad_rows_max = UINT64_MAX, .bad_ratio_max = 1},
        .relief_ns = 500 * MS,
        .duplicate_ns = 2 * S};
    return world;
}

static void world_destroy(struct world *world)
{
    fm_master_destroy(world->master);
    for (uint32_t i = 0; i < world->worker_count; i++) {
        fm_holder_destroy(world->workers[i].holder);
    }
    for (size_t i = 0; i < world->event_count; i++) {
        free(world->events[i]);
    }
    free(world->events);
    free(world->shards);
    free(world->shard_there);
    free(world->published);
    free(world->attempts);
    free(world->writing);
    free(world);
}

static void world_begin(struct world *world)
{
    for (uint32_t i = 0; i < world->worker_count; i++) {
        struct process *process = &world->workers[i];
        process->slowness = 1;
        process->speed = process->speed > 0 ? process->speed : 1;
        worker_start(world, i);
    }
    master_start(world);
    if (world->faults.until_ns > 0) {
        (void)event_add(world, EVENT_FAULT, 0, 0, 0);
    }
}

static double drawn(struct world *world, double most)
{
    return below(world, 2) == 0 ? 0 : most * fm_random_unit(&world->random);
}

static uint64_t simulate(uint64_t seed, char *ret_why, size_t size)
{
    struct world *world = world_create(seed);
    world->row_count = 1 + below(world, ROWS_MAX);
    world->row_ns = 1 * MS + below(world, 40 * MS);
    world->worker_count = 1 + (uint32_t)below(world, WORKERS_MAX);
    world->options.shard_rows = below(world, 3) == 0 ? 1 + below(world, 100) : 0;
    double bad = drawn(world, 0.2);
    double poison = drawn(world, 0.004);
    double hang = drawn(world, 0.004);
    for (uint64_t row = 0; row < world->row_count; row++) {
        double draw = fm_random_unit(&world->random);
        world->kinds[row] = draw < poison                ? ROW_POISON
                            : draw < poison + hang       ? ROW_HANG
                            : draw < poison + hang + bad ? ROW_BAD
                                                         : ROW_GOOD;
    }
    world->faults = (struct faults){.kill_worker_per_s = drawn(world, 1),
                                    .stop_worker_per_s = drawn(world, 0.3),
                                    .slow_worker_per_s = drawn(world, 0.3),
                                    .break_link_per_s = drawn(world, 0.5),
                                    .mute_link_per_s = drawn(world, 0.3),
                                    .kill_master_per_s = drawn(world, 0.3),
                                    .no_memory = drawn(world, 0.2),
                                    .pause_per_s = drawn(world, 0.5),
                                    .until_ns = 60 * S};
    world_begin(world);
    run_until_over(world, 7200 * S);
    EXPECT(world, world->ended_ns > 0);
    for (uint64_t i = 0; i < world->shard_count && !world->bad; i++) {
        if (world->shard_there[i] && world->shards[i].shard.state == FM_SHARD_DONE) {
            publish(world, i);
        }
    }
    uint64_t letters = 0;
    for (uint64_t row = 0; row < world->row_count; row++) {
        EXPECT(world, world->rows_seen[row]);
        letters += world->kinds[row] != ROW_GOOD ? 1 : 0;
    }
    EXPECT(world, world->letters_seen == letters);
    uint64_t hash = world->hash;
    (void)snprintf(ret_why, size, "%s", world->bad ? world->why : "");
    world_destroy(world);
    return hash;
}

static uint64_t seed_count = 200;
static uint64_t seed_first = 1;

TEST(nothing_is_lost_and_nothing_is_there_twice)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        char why[200];
        char again[200];
        uint64_t hash = simulate(seed, why, sizeof(why));
        if (why[0] != '\0') {
            printf("# to see it again: elastic 1 %llu\n", (unsigned long long)seed);
        }
        CHECK_STR_EQ(why, "");
        if (seed % 16 == 0) {
            CHECK_UINT_EQ(simulate(seed, again, sizeof(again)), hash);
        }
    }
}

/* A job without random faults, of ROWS_MAX rows of 20 ms, on four workers. */
struct quiet {
    double speeds[4];
    uint64_t shard_rows; /* 0: as the master thinks */
    uint64_t stop_at_ns; /* worker 0 is stopped then, for good; 0: never */
    uint64_t slow_at_ns; /* worker 0 has a tenth of its speed from then on; 0: never */
    struct fm_ledger_stats stats;
};

/* Its time over the least possible one. */
static double stretch(struct quiet *quiet)
{
    struct world *world = world_create(7);
    double speed = 0;
    world->row_count = ROWS_MAX;
    world->row_ns = 20 * MS;
    world->worker_count = 4;
    world->options.shard_rows = quiet->shard_rows;
    world->options.ledger.lease_ns = 60 * S;
    for (uint32_t i = 0; i < 4; i++) {
        world->workers[i].speed = quiet->speeds[i];
        speed += quiet->speeds[i];
    }
    world_begin(world);
    while (!world->bad && world->ended_ns == 0 && world->event_count > 0) {
        if (quiet->stop_at_ns > 0 && world->now_ns >= quiet->stop_at_ns) {
            world->workers[0].frozen_until_ns = UINT64_MAX;
        }
        if (quiet->slow_at_ns > 0 && world->now_ns >= quiet->slow_at_ns) {
            world->workers[0].slowness = 10;
        }
        happen_next(world, 100000 * S);
    }
    double ideal_ns = (double)world->row_count * (double)world->row_ns / speed;
    double stretched = world->bad ? INFINITY : (double)world->ended_ns / ideal_ns;
    if (!world->bad) {
        fm_ledger_stats(fm_master_ledger(world->master), &quiet->stats);
    }
    world_destroy(world);
    return stretched;
}

TEST(a_slow_worker_does_not_hold_up_the_end)
{
    struct quiet jobs[] = {{.speeds = {1, 1, 1, 1}},
                           {.speeds = {1, 1, 1, 0.5}},
                           {.speeds = {1, 1, 1, 0.25}},
                           {.speeds = {1, 0.1, 0.1, 0.1}}};
    for (size_t i = 0; i < 4; i++) {
        const double *speeds = jobs[i].speeds;
        double slowest = speeds[0];
        double all = 0;
        for (size_t k = 0; k < 4; k++) {
            slowest = speeds[k] < slowest ? speeds[k] : slowest;
            all += speeds[k];
        }
        double stretched = stretch(&jobs[i]);
        double even = all / 4 / slowest; /* an even split ends when the slowest does */
        printf("# speeds %g %g %g %g: %.3f of the ideal time, an even split %.3f\n", speeds[0],
               speeds[1], speeds[2], speeds[3], stretched, even);
        CHECK(stretched <= 1.05);
        CHECK(i == 0 || stretched <= 0.7 * even);
    }
}

TEST(who_is_behind_at_the_end_is_relieved)
{
    /* Ten shards for four workers: two of them would work on when the others have ended. */
    struct quiet coarse = {.speeds = {1, 1, 1, 1}, .shard_rows = ROWS_MAX / 10};
    double stretched = stretch(&coarse);
    printf("# ten shards for four workers: %.3f, without relief 1.2; %llu shards cut\n", stretched,
           (unsigned long long)coarse.stats.trims);
    CHECK(stretched <= 1.05);
    CHECK(coarse.stats.trims > 0);
    /* A worker that becomes slow with its last shard in hand. */
    struct quiet slow = {.speeds = {1, 1, 1, 1}, .shard_rows = 150, .slow_at_ns = 13 * S};
    stretched = stretch(&slow);
    printf("# ten times slower near the end: %.3f\n", stretched);
    CHECK(stretched <= 1.15); /* it has lost nearly two of fifteen seconds, of one of four */
}

TEST(who_does_not_answer_gets_company)
{
    struct quiet stopped = {.speeds = {1, 1, 1, 1}, .stop_at_ns = 14 * S};
    double stretched = stretch(&stopped);
    printf("# a worker that stops near the end, with a minute of lease: %.3f; %llu second leases\n",
           stretched, (unsigned long long)stopped.stats.duplicates);
    CHECK(stopped.stats.duplicates > 0);
    CHECK(stretched <= 1.5);
}

/* --- What a kill costs --- */

/* A job in which processes are killed, and nothing else happens. */
struct killing {
    double workers_per_s;
    double master_per_s;
    bool at_worst; /* workers are killed with a whole shard on their hands, done and not durable */
    uint64_t kills;
    uint64_t lease_rows; /* of the largest lease */
    uint64_t row_ns;
    uint64_t lost_rows; /* that were done and had to be done again */
};

static void kill_and_count(uint64_t seed, struct killing *killing, char *ret_why, size_t size)
{
    struct world *world = world_create(seed);
    world->row_count = 1 + below(world, ROWS_MAX);
    world->row_ns = 1 * MS + below(world, 40 * MS);
    world->worker_count = 1 + (uint32_t)below(world, WORKERS_MAX);
    world->options.shard_rows = below(world, 3) == 0 ? 1 + below(world, 100) : 0;
    world->kill_at_worst = killing->at_worst;
    world->faults = (struct faults){.kill_worker_per_s = killing->workers_per_s,
                                    .kill_master_per_s = killing->master_per_s,
                                    .until_ns = 60 * S};
    world_begin(world);
    run_until_over(world, 7200 * S);
    EXPECT(world, world->ended_ns > 0);
    EXPECT(world, world->rows_computed >= world->row_count);
    killing->kills = world->kills;
    killing->lease_rows = world->lease_rows;
    killing->row_ns = world->row_ns;
    killing->lost_rows = world->rows_computed - world->row_count;
    (void)snprintf(ret_why, size, "%s", world->bad ? world->why : "");
    world_destroy(world);
}

/* A worker has one shard on its hands, and what it has done of the next one while that was made
 * durable, which takes 5 ms at most. A killed master costs nothing: workers go on, and keep what
 * they hold. */
TEST(a_kill_costs_one_lease_of_work_at_most)
{
    const struct killing kinds[] = {{.workers_per_s = 1},
                                    {.master_per_s = 0.5},
                                    {.workers_per_s = 0.5, .master_per_s = 0.3},
                                    {.at_worst = true}};
    for (size_t kind = 0; kind < 4; kind++) {
        uint64_t kills = 0;
        double worst = 0;
        for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
            char why[200];
            struct killing killing = kinds[kind];
            kill_and_count(seed, &killing, why, sizeof(why));
            uint64_t meanwhile = killing.at_worst ? 5 * MS / killing.row_ns + 1 : 0;
            uint64_t bound = killing.kills * (killing.lease_rows + meanwhile);
            if (why[0] != '\0' || killing.lost_rows > bound) {
                printf("# kind %zu; to see it again: elastic 1 %llu\n", kind,
                       (unsigned long long)seed);
            }
            CHECK_STR_EQ(why, "");
            CHECK(killing.lost_rows <= bound);
            CHECK(killing.workers_per_s > 0 || killing.at_worst || killing.lost_rows == 0);
            kills += killing.kills;
            worst = killing.kills > 0 && (double)killing.lost_rows / (double)bound > worst
                        ? (double)killing.lost_rows / (double)bound
                        : worst;
        }
        printf("# %g workers and %g masters killed a second%s: %llu kills, at worst %.2f of the "
               "bound\n",
               kinds[kind].workers_per_s, kinds[kind].master_per_s,
               kinds[kind].at_worst ? ", or each at the worst moment" : "",
               (unsigned long long)kills, worst);
        CHECK(seed_count < 50 || kills > seed_count);
    }
}

int main(int argc, char **argv)
{
    seed_count = argc > 1 ? strtoull(argv[1], NULL, 10) : seed_count;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
