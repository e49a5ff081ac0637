/*
 * core/ledger against a naive model that has one record per row and one per shard, with workers
 * that crash, sleep through their leases and come back, shards that fail until they are cut and
 * condemned, a master that is restarted from what a store would hold, and failing allocations.
 * Seeded. Usage: ledger [seed-count] [first-seed].
 *
 * Safety: a row is done at most once; a lease that is gone is refused, and every other one is not;
 * nothing is handed out that is held, has to wait or is behind something lower; a shard is cut, and
 * a row given up, when its budget says so and not before; the proof says complete exactly when
 * every row is done. Liveness: without faults every job ends.
 */
#include "core/ledger/ledger.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { ROWS_MAX = 400, SHARDS_MAX = 4000, WORKERS = 6, STEPS = 600, LEASE_NS = 50 };

/* A shard as the model knows it, with all of its leases. */
struct known {
    bool there;
    struct fm_shard shard;
    struct fm_lease leases[FM_LEDGER_LEASES_OF_ONE_MAX];
    uint32_t lease_count;
    uint64_t not_before_ns;
};

struct worker {
    bool busy;
    uint64_t number;
    uint64_t epoch;
    uint64_t rows; /* as it was told */
};

/* What the store would hold, and the naive truth by row. */
struct world {
    struct fm_random random;
    struct fm_ledger *ledger;
    struct fm_ledger_options options;
    struct fm_ledger_segment segments[8];
    uint64_t cursors[8];
    uint32_t segment_count;
    struct known shards[SHARDS_MAX]; /* by number */
    uint8_t rows[ROWS_MAX];          /* 0 open, 1 good, 2 dead letter, 3 in a dead shard */
    uint64_t row_count;
    uint64_t now_ns;
    uint64_t hash;
    struct worker workers[WORKERS];
    uint64_t stale_expected;
    bool ranked; /* segments have ranks of all kinds */
    bool paused;
    bool closed;
    bool bad;
    char why[160];
};

#define EXPECT(world, condition)                                                        \
    do {                                                                                \
        if (!(condition) && !(world)->bad) {                                            \
            (world)->bad = true;                                                        \
            (void)snprintf((world)->why, sizeof((world)->why), "line %d: %s", __LINE__, \
                           #condition);                                                 \
        }                                                                               \
    } while (0)

static uint64_t below(struct world *world, uint64_t bound)
{
    return fm_random_below(&world->random, bound);
}

static void note(struct world *world, uint64_t what)
{
    world->hash = (world->hash ^ what) * 1099511628211u;
}

/* The next allocation fails, now and then. */
static bool starve(struct world *world)
{
    bool starved = below(world, 20) == 0;
    (void)fm_memory_fail_at(starved ? 1 + below(world, 3) : 0, 0);
    return starved;
}

static void feed(void)
{
    (void)fm_memory_fail_at(0, 0);
}

static struct known *known_of(struct world *world, uint64_t number)
{
    EXPECT(world, number < SHARDS_MAX);
    return &world->shards[number < SHARDS_MAX ? number : 0];
}

static bool condemned(const struct world *world, const struct fm_shard *shard, uint32_t beyond)
{
    bool any = false;
    for (int kind = 0; kind < FM_SHARD_FAILURE_COUNT_; kind++) {
        uint32_t most = world->options.attempts_max[kind];
        any = any || (most > 0 && shard->failures[kind] >= most + beyond);
    }
    return any && shard->row_count == 1;
}

/* A new READY shard. */
static void shard_new(struct world *world, const struct fm_shard *shard)
{
    struct known *known = known_of(world, shard->number);
    EXPECT(world, !known->there && shard->state == FM_SHARD_READY);
    EXPECT(world, shard->condemned == condemned(world, shard, 0));
    *known = (struct known){.there = true, .shard = *shard};
}

static uint32_t lease_total(const struct world *world)
{
    uint32_t count = 0;
    for (size_t i = 0; i < SHARDS_MAX; i++) {
        count += world->shards[i].lease_count;
    }
    return count;
}

static void add_rows(struct world *world)
{
    uint64_t count = 1 + below(world, 60);
    uint64_t grain = below(world, 2) == 0 ? 1 : 1 + below(world, 9);
    if (world->row_count + count > ROWS_MAX || world->segment_count == 8) {
        return;
    }
    struct fm_ledger_segment segment;
    const struct fm_ledger_segment rows = {
        .row_count = count,
        .grain_rows = grain,
        .rank = world->ranked ? (uint32_t)below(world, FM_LEDGER_RANKS) : FM_LEDGER_RANK_LAST};
    bool starved = starve(world);
    int status = fm_ledger_add_rows(world->ledger, &rows, &segment);
    feed();
    if (starved && status == FM_ENOMEM) {
        return;
    }
    EXPECT(world, status == 0 && segment.first_row == world->row_count);
    EXPECT(world, segment.rank == rows.rank);
    world->cursors[world->segment_count] = segment.first_row;
    world->segments[world->segment_count++] = segment;
    world->row_count += count;
}

/* Index of the lease in the model; negative: the model says that it is gone. */
static int lease_index(const struct known *known, uint64_t owner, uint64_t epoch)
{
    for (uint32_t i = 0; i < known->lease_count; i++) {
        if (known->leases[i].owner == owner && known->leases[i].epoch == epoch) {
            return (int)i;
        }
    }
    return -1;
}

static void lease_drop(struct known *known, uint32_t index)
{
    for (uint32_t i = index; i + 1 < known->lease_count; i++) {
        known->leases[i] = known->leases[i + 1];
    }
    known->lease_count--;
    if (known->lease_count == 0) {
        known->shard.state = FM_SHARD_READY;
    }
}

/* What a failure must lead to, computed from the budgets alone. */
static void outcome_apply(struct world *world, const struct fm_ledger_outcome *outcome,
                          enum fm_shard_failure kind, bool starved)
{
    struct known *known = known_of(world, outcome->shard.number);
    struct fm_shard *shard = &known->shard;
    int index = lease_index(known, outcome->owner, outcome->epoch);
    uint32_t most = world->options.attempts_max[kind];
    EXPECT(world, index >= 0);
    if (world->bad) {
        return;
    }
    lease_drop(known, (uint32_t)index);
    shard->failures[kind]++;
    if (known->lease_count > 0) {
        EXPECT(world, outcome->shard.state == FM_SHARD_LEASED && outcome->half.row_count == 0);
        return;
    }
    uint64_t delay_ns = world->options.backoff_ns;
    for (uint32_t i = 1; i < shard->failures[0] + shard->failures[1]; i++) {
        delay_ns = delay_ns * 2 < 1000000 ? delay_ns * 2 : delay_ns;
    }
    delay_ns = delay_ns < world->options.backoff_max_ns ? delay_ns : world->options.backoff_max_ns;
    known->not_before_ns = world->now_ns + delay_ns;
    if (condemned(world, shard, FM_LEDGER_CONDEMNED_ATTEMPTS) &&
        (!starved || outcome->shard.state == FM_SHARD_DEAD)) {
        EXPECT(world, outcome->shard.state == FM_SHARD_DEAD);
        shard->state = FM_SHARD_DEAD;
        world->rows[shard->first_row] = 3;
        return;
    }
    EXPECT(world, outcome->shard.state == FM_SHARD_READY);
    bool third = kind == FM_SHARD_FAILURE_INFRASTRUCTURE && shard->failures[kind] % 3 == 0;
    bool cut = most > 0 && (shard->failures[kind] >= most || third) && shard->row_count > 1;
    if (cut && (!starved || outcome->half.row_count > 0)) {
        EXPECT(world, outcome->shard.row_count + outcome->half.row_count == shard->row_count);
        EXPECT(world, outcome->half.first_row == shard->first_row + outcome->shard.row_count);
        EXPECT(world, outcome->half.row_count - outcome->shard.row_count <= 1);
        shard->row_count = outcome->shard.row_count;
        shard->failures[kind] = outcome->half.failures[kind];
        EXPECT(world, shard->failures[kind] < most);
        shard_new(world, &outcome->half);
    } else {
        EXPECT(world, outcome->half.row_count == 0);
    }
    for (int i = 0; i < FM_SHARD_FAILURE_COUNT_; i++) {
        EXPECT(world, outcome->shard.failures[i] == shard->failures[i]);
    }
    EXPECT(world, outcome->shard.condemned == condemned(world, shard, 0));
}

static void expire(struct world *world)
{
    struct fm_ledger_outcome outcome;
    bool starved = starve(world);
    while (fm_ledger_expire(world->ledger, world->now_ns, &outcome)) {
        EXPECT(world, outcome.expired);
        const struct known *known = known_of(world, outcome.shard.number);
        int index = lease_index(known, outcome.owner, outcome.epoch);
        EXPECT(world, index >= 0 && known->leases[index].deadline_ns <= world->now_ns);
        outcome_apply(world, &outcome, FM_SHARD_FAILURE_INFRASTRUCTURE, starved);
        note(world, outcome.shard.number);
    }
    feed();
    uint64_t next_ns = UINT64_MAX;
    for (size_t i = 0; i < SHARDS_MAX; i++) {
        const struct known *known = &world->shards[i];
        for (uint32_t k = 0; k < known->lease_count; k++) {
            EXPECT(world, known->leases[k].deadline_ns > world->now_ns);
            next_ns =
                known->leases[k].deadline_ns < next_ns ? known->leases[k].deadline_ns : next_ns;
        }
    }
    EXPECT(world, fm_ledger_next_ns(world->ledger) <= next_ns);
}

static void lease_note(struct world *world, uint32_t who, const struct fm_shard *granted)
{
    struct known *known = known_of(world, granted->number);
    struct fm_shard *shard = &known->shard;
    EXPECT(world, granted->state == FM_SHARD_LEASED && granted->owner == who);
    EXPECT(world, granted->first_row == shard->first_row);
    EXPECT(world, granted->row_count == shard->row_count);
    EXPECT(world, granted->epoch == shard->epoch + 1);
    EXPECT(world, granted->condemned == condemned(world, shard, 0));
    shard->epoch++;
    shard->owner = who;
    shard->state = FM_SHARD_LEASED;
    known->leases[known->lease_count++] = (struct fm_lease){
        .owner = who, .epoch = granted->epoch, .deadline_ns = world->now_ns + LEASE_NS};
    world->workers[who] = (struct worker){
        .busy = true, .number = granted->number, .epoch = granted->epoch, .rows = shard->row_count};
}

/* Of two rows the one that is to be handed out first; UINT64_MAX: none. */
static uint64_t sooner(const struct world *world, uint64_t left, uint64_t right)
{
    uint32_t ranks[2] = {UINT32_MAX, UINT32_MAX};
    for (uint32_t i = 0; i < world->segment_count; i++) {
        const struct fm_ledger_segment *segment = &world->segments[i];
        for (int k = 0; k < 2; k++) {
            uint64_t row = k == 0 ? left : right;
            if (row >= segment->first_row && row - segment->first_row < segment->row_count) {
                ranks[k] = segment->rank;
            }
        }
    }
    return ranks[0] != ranks[1] ? (ranks[0] < ranks[1] ? left : right)
                                : (left < right ? left : right);
}

/* The row of the lowest rank that may be handed out first, and whether anything is unfinished. */
static uint64_t first_free(const struct world *world, bool suspects, bool *ret_open)
{
    uint64_t first = UINT64_MAX;
    uint64_t first_suspect = UINT64_MAX;
    *ret_open = false;
    for (size_t i = 0; i < SHARDS_MAX; i++) {
        const struct known *known = &world->shards[i];
        if (!known->there || known->shard.state > FM_SHARD_LEASED) {
            continue;
        }
        *ret_open = true;
        bool suspect =
            known->shard.failures[FM_SHARD_FAILURE_DATA] > 0 && !condemned(world, &known->shard, 0);
        uint64_t *least = suspect ? &first_suspect : &first;
        if (known->shard.state == FM_SHARD_READY && known->not_before_ns <= world->now_ns) {
            *least = sooner(world, known->shard.first_row, *least);
        }
    }
    if (suspects && first_suspect < UINT64_MAX) {
        return first_suspect; /* which is open */
    }
    for (uint32_t i = 0; i < world->segment_count; i++) {
        if (world->cursors[i] < world->segments[i].first_row + world->segments[i].row_count) {
            *ret_open = true;
            first = sooner(world, world->cursors[i], first);
        }
    }
    return first;
}

/* A shard that no one had before: cut off a segment, on its raster. */
static void fresh_check(struct world *world, const struct fm_shard *shard, uint64_t rows_max)
{
    uint32_t i = 0;
    while (i < world->segment_count &&
           shard->first_row >= world->segments[i].first_row + world->segments[i].row_count) {
        i++;
    }
    EXPECT(world, i < world->segment_count && world->cursors[i] == shard->first_row);
    if (world->bad) {
        return;
    }
    const struct fm_ledger_segment *segment = &world->segments[i];
    uint64_t end = shard->first_row + shard->row_count;
    uint64_t most = rows_max > segment->grain_rows ? rows_max : segment->grain_rows;
    EXPECT(world, shard->row_count <= most);
    EXPECT(world, end <= segment->first_row + segment->row_count);
    EXPECT(world, (end - segment->first_row) % segment->grain_rows == 0 ||
                      end == segment->first_row + segment->row_count);
    world->cursors[i] = end;
    struct fm_shard ready = *shard;
    ready.state = FM_SHARD_READY;
    ready.epoch = 0;
    shard_new(world, &ready);
}

static void claim(struct world *world, uint32_t who)
{
    enum fm_ledger_answer answer = FM_LEDGER_WAIT;
    struct fm_shard shard = {0};
    const struct fm_ledger_claim wish = {
        .owner = who, .rows_max = 1 + below(world, 14), .suspects = below(world, 2) == 0};
    bool open = false;
    expire(world);
    uint64_t first = first_free(world, wish.suspects, &open);
    bool starved = starve(world);
    int status = fm_ledger_claim(world->ledger, world->now_ns, &wish, &answer, &shard);
    feed();
    if (status != 0) {
        EXPECT(world, status == FM_ENOMEM && starved);
        return;
    }
    note(world, (uint64_t)answer * 1000 + shard.number);
    bool barred = world->paused || lease_total(world) >= world->options.leases_max;
    if (answer != FM_LEDGER_GRANTED) {
        EXPECT(world, barred || first == UINT64_MAX);
        EXPECT(world, (answer == FM_LEDGER_FINISHED) == (!open && world->closed && !barred));
        return;
    }
    EXPECT(world, !barred && shard.first_row == first);
    if (!known_of(world, shard.number)->there) {
        fresh_check(world, &shard, wish.rows_max);
    }
    lease_note(world, who, &shard);
}

static void lease_again(struct world *world, uint32_t who)
{
    uint64_t number = world->workers[below(world, WORKERS)].number;
    const struct known *known = known_of(world, number);
    struct fm_shard shard = {0};
    bool mine = false;
    for (uint32_t i = 0; i < known->lease_count; i++) {
        mine = mine || known->leases[i].owner == who;
    }
    bool may = known->lease_count > 0 && !mine && !fm_shard_suspect(&known->shard) &&
               !condemned(world, &known->shard, 0);
    bool room = known->lease_count < FM_LEDGER_LEASES_OF_ONE_MAX &&
                lease_total(world) < world->options.leases_max;
    int status = fm_ledger_lease_again(world->ledger, world->now_ns, who, number, &shard);
    EXPECT(world, status == (!may ? FM_EINVAL : room ? 0 : FM_ELIMIT));
    if (status == 0) {
        lease_note(world, who, &shard);
    }
}

/* All leases of the shard are gone with it. */
static void commit(struct world *world, uint32_t who)
{
    struct worker *worker = &world->workers[who];
    struct known *known = known_of(world, worker->number);
    bool valid = lease_index(known, who, worker->epoch) >= 0;
    uint64_t most = valid ? known->shard.row_count : worker->rows;
    uint64_t rows = below(world, 4) == 0 ? 1 + below(world, most) : most;
    uint64_t letters = below(world, rows + 1);
    struct fm_shard rest = {0};
    bool starved = starve(world);
    int status = fm_ledger_commit(world->ledger, worker->number, who, worker->epoch, rows - letters,
                                  letters, &rest);
    feed();
    if (starved && status == FM_ENOMEM) {
        return;
    }
    EXPECT(world, status == (valid ? 0 : FM_ECANCELLED));
    worker->busy = false;
    if (status != 0) {
        world->stale_expected++;
        return;
    }
    struct fm_shard *done = &known->shard;
    EXPECT(world, rest.row_count == done->row_count - rows);
    known->lease_count = 0;
    done->row_count = rows;
    done->state = FM_SHARD_DONE;
    done->rows_out = rows - letters;
    done->dead_letters = letters;
    if (rest.row_count > 0) {
        EXPECT(world, rest.first_row == done->first_row + rows);
        shard_new(world, &rest);
    }
    for (uint64_t row = 0; row < rows; row++) {
        EXPECT(world, world->rows[done->first_row + row] == 0);
        world->rows[done->first_row + row] = row < letters ? 2 : 1;
    }
}

static void trim(struct world *world, uint32_t who)
{
    struct worker *worker = &world->workers[who];
    struct known *known = known_of(world, worker->number);
    bool valid = lease_index(known, who, worker->epoch) >= 0;
    uint64_t keep = below(world, worker->rows + 2);
    struct fm_shard shard = {0};
    struct fm_shard rest = {0};
    bool starved = starve(world);
    int status =
        fm_ledger_trim(world->ledger, worker->number, who, worker->epoch, keep, &shard, &rest);
    feed();
    if (starved && status == FM_ENOMEM) {
        return;
    }
    bool possible = keep > 0 && keep < known->shard.row_count && known->lease_count == 1;
    EXPECT(world, status == (!valid ? FM_ECANCELLED : possible ? 0 : FM_EINVAL));
    world->stale_expected += valid ? 0 : 1;
    worker->busy = valid;
    if (status == 0) {
        EXPECT(world, shard.row_count == keep && shard.epoch == known->shard.epoch);
        EXPECT(world, rest.row_count == known->shard.row_count - keep);
        known->shard.row_count = keep;
        worker->rows = keep;
        shard_new(world, &rest);
    }
}

static void end_otherwise(struct world *world, uint32_t who)
{
    struct worker *worker = &world->workers[who];
    struct known *known = known_of(world, worker->number);
    int index = lease_index(known, who, worker->epoch);
    uint64_t what = below(world, 9);
    int status = 0;
    if (what < 3) {
        struct fm_ledger_outcome outcome;
        enum fm_shard_failure kind =
            what == 0 ? FM_SHARD_FAILURE_INFRASTRUCTURE : FM_SHARD_FAILURE_DATA;
        bool starved = starve(world);
        status = fm_ledger_fail(world->ledger, world->now_ns, worker->number, who, worker->epoch,
                                kind, &outcome);
        feed();
        if (status == 0) {
            EXPECT(world, outcome.owner == who && outcome.epoch == worker->epoch);
            outcome_apply(world, &outcome, kind, starved);
        }
    } else if (what < 6) {
        status = fm_ledger_renew(world->ledger, world->now_ns, worker->number, who, worker->epoch);
        if (status == 0 && index >= 0) {
            known->leases[index].deadline_ns = world->now_ns + LEASE_NS;
        }
    } else {
        status = fm_ledger_release(world->ledger, worker->number, who, worker->epoch);
        if (status == 0 && index >= 0) {
            lease_drop(known, (uint32_t)index);
            known->not_before_ns = 0;
        }
    }
    EXPECT(world, status == (index >= 0 ? 0 : FM_ECANCELLED));
    world->stale_expected += index >= 0 ? 0 : 1;
    worker->busy = status == 0 && what >= 3 && what < 6;
}

/* The master dies and comes back with what the store holds: of several leases the newest. Workers
 * keep theirs, and may be surprised. */
static void restart(struct world *world)
{
    struct fm_ledger_stats stats;
    fm_ledger_stats(world->ledger, &stats);
    EXPECT(world, stats.stale == world->stale_expected);
    world->stale_expected = 0;
    fm_ledger_destroy(world->ledger);
    world->ledger = NULL;
    EXPECT(world, fm_ledger_create(&world->options, &world->ledger) == 0);
    for (uint32_t i = 0; i < world->segment_count; i++) {
        EXPECT(world, fm_ledger_restore_segment(world->ledger, &world->segments[i]) == 0);
    }
    bool forget = below(world, 2) == 0;
    for (size_t i = SHARDS_MAX; i-- > 0;) {
        struct known *known = &world->shards[i];
        if (!known->there) {
            continue;
        }
        known->not_before_ns = 0;
        while (known->lease_count > (forget ? 0 : 1)) {
            lease_drop(known, 0);
        }
        /* A store keeps the newest lease; that one may have been given back while an older went on.
         */
        if (known->lease_count > 0) {
            known->shard.owner = known->leases[0].owner;
            if (known->leases[0].epoch != known->shard.epoch) {
                lease_drop(known, 0);
            } else {
                known->leases[0].deadline_ns = world->now_ns + LEASE_NS;
            }
        }
        EXPECT(world, fm_ledger_restore_shard(world->ledger, world->now_ns, &known->shard) == 0);
    }
    EXPECT(world, fm_ledger_restore_finish(world->ledger) == 0);
    fm_ledger_close(world->ledger, world->closed);
    fm_ledger_pause(world->ledger, world->paused);
}

static void check(struct world *world)
{
    struct fm_ledger_proof proof;
    uint64_t counts[4] = {0};
    for (uint64_t row = 0; row < world->row_count; row++) {
        counts[world->rows[row]]++;
    }
    fm_ledger_validate(world->ledger);
    fm_ledger_prove(world->ledger, &proof);
    EXPECT(world, proof.rows_in == world->row_count);
    EXPECT(world, proof.rows_missing == counts[0]);
    EXPECT(world, proof.rows_out == counts[1]);
    EXPECT(world, proof.dead_letters == counts[2]);
    EXPECT(world, proof.rows_dead == counts[3]);
    EXPECT(world, proof.complete == (counts[0] == 0 && counts[3] == 0 && world->closed));
    note(world, proof.rows_missing);
}

static void step(struct world *world)
{
    uint32_t who = (uint32_t)below(world, WORKERS);
    world->now_ns += below(world, 10);
    uint64_t what = below(world, 100);
    if (what < 3) {
        add_rows(world);
    } else if (what < 5) {
        restart(world);
    } else if (what < 7) {
        world->workers[who].busy = false; /* it crashed: only the lease's deadline tells */
    } else if (what < 8) {
        world->now_ns += LEASE_NS; /* everybody slept */
    } else if (what < 9) {
        world->paused = !world->paused;
        fm_ledger_pause(world->ledger, world->paused);
    } else if (what < 10) {
        world->closed = !world->closed;
        fm_ledger_close(world->ledger, world->closed);
    } else if (!world->workers[who].busy) {
        if (what < 20) {
            lease_again(world, who);
        } else {
            claim(world, who);
        }
    } else if (what < 60) {
        commit(world, who);
    } else if (what < 68) {
        trim(world, who);
    } else {
        end_otherwise(world, who);
    }
}

/* Faults off: every row must come to an end in as many steps as there are rows. */
static void drain(struct world *world)
{
    world->closed = true;
    fm_ledger_pause(world->ledger, false);
    fm_ledger_close(world->ledger, true);
    for (uint32_t i = 0; i < 4 * ROWS_MAX && !world->bad; i++) {
        enum fm_ledger_answer answer = FM_LEDGER_WAIT;
        struct fm_shard shard;
        struct fm_shard rest;
        struct fm_ledger_outcome outcome;
        world->now_ns += 100000; /* past every lease and every wait */
        while (fm_ledger_expire(world->ledger, world->now_ns, &outcome)) {
            if (outcome.shard.state == FM_SHARD_DEAD) {
                world->rows[outcome.shard.first_row] = 3;
            }
        }
        world->now_ns += 100000;
        const struct fm_ledger_claim wish = {.owner = 99, .rows_max = 7, .suspects = true};
        EXPECT(world, fm_ledger_claim(world->ledger, world->now_ns, &wish, &answer, &shard) == 0);
        if (answer == FM_LEDGER_FINISHED) {
            break;
        }
        EXPECT(world, answer == FM_LEDGER_GRANTED);
        EXPECT(world, fm_ledger_commit(world->ledger, shard.number, 99, shard.epoch,
                                       shard.row_count, 0, &rest) == 0);
        memset(world->rows + shard.first_row, 1, shard.row_count);
    }
    struct fm_ledger_proof proof;
    fm_ledger_prove(world->ledger, &proof);
    EXPECT(world, proof.rows_missing == 0);
    check(world);
}

static uint64_t simulate(uint64_t seed, char *ret_why, size_t size)
{
    struct world *world = calloc(1, sizeof(*world));
    fm_random_init(&world->random, seed);
    world->options = (struct fm_ledger_options){
        .leases_max = 1 + (uint32_t)below(world, WORKERS),
        .lease_ns = LEASE_NS,
        .attempts_max = {(uint32_t)below(world, 8), (uint32_t)below(world, 4)},
        .backoff_ns = below(world, 2) * 20,
        .backoff_max_ns = 200};
    world->ranked = below(world, 2) == 1;
    EXPECT(world, fm_ledger_create(&world->options, &world->ledger) == 0);
    add_rows(world);
    for (uint32_t i = 0; i < STEPS && !world->bad; i++) {
        step(world);
        check(world);
    }
    drain(world);
    uint64_t hash = world->hash;
    (void)snprintf(ret_why, size, "%s", world->bad ? world->why : "");
    fm_ledger_destroy(world->ledger);
    free(world);
    return hash;
}

static uint64_t seed_count = 200;
static uint64_t seed_first = 1;

TEST(ledger_equals_the_naive_model)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        char why[160];
        char again[160];
        uint64_t hash = simulate(seed, why, sizeof(why));
        if (why[0] != '\0') {
            printf("# to see it again: ledger 1 %llu\n", (unsigned long long)seed);
        }
        CHECK_STR_EQ(why, "");
        if (seed % 16 == 0) {
            CHECK_UINT_EQ(simulate(seed, again, sizeof(again)), hash);
        }
    }
}

int main(int argc, char **argv)
{
    seed_count = argc > 1 ? strtoull(argv[1], NULL, 10) : seed_count;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
