/*
 * Shard states and leases. See ledger.h.
 */
#include "core/ledger/ledger.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

struct segment {
    struct fm_ledger_segment record;
    uint64_t claimed; /* shards handed out at least once; the others exist only here */
};

struct fm_ledger {
    struct fm_ledger_options options;
    struct segment *segments;
    size_t segment_count;
    size_t segment_capacity;
    struct fm_shard *open; /* by first_row; READY or LEASED */
    size_t open_count;
    size_t open_capacity;
    uint32_t leased_count;
    struct fm_row_ranges done;
    struct fm_row_ranges dead;
    uint64_t row_count;
    uint64_t next_number;
    uint64_t rows_out;
    uint64_t dead_letters;
    struct fm_ledger_stats stats;
};

const char *fm_shard_state_name(enum fm_shard_state state)
{
    static const char *const names[] = {"READY", "LEASED", "DONE", "DEAD"};
    return (unsigned)state < FM_COUNT_OF(names) ? names[state] : "?";
}

int fm_ledger_create(const struct fm_ledger_options *options, struct fm_ledger **ret_ledger)
{
    struct fm_ledger *ledger = fm_alloc_zero(1, sizeof(*ledger));
    if (ledger == NULL) {
        return FM_ENOMEM;
    }
    FM_ASSERT(options->leases_max > 0);
    ledger->options = *options;
    *ret_ledger = ledger;
    return 0;
}

void fm_ledger_destroy(struct fm_ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    fm_row_ranges_deinit(&ledger->done);
    fm_row_ranges_deinit(&ledger->dead);
    fm_free(ledger->open);
    fm_free(ledger->segments);
    fm_free(ledger);
}

/* --- Segments --- */

static uint64_t segment_shard_count(const struct fm_ledger_segment *segment)
{
    return (segment->row_count - 1) / segment->shard_rows + 1;
}

static struct fm_shard segment_shard(const struct fm_ledger_segment *segment, uint64_t index)
{
    uint64_t offset = index * segment->shard_rows;
    uint64_t left = segment->row_count - offset;
    return (struct fm_shard){
        .number = segment->first_number + index,
        .first_row = segment->first_row + offset,
        .row_count = left < segment->shard_rows ? left : segment->shard_rows,
        .state = FM_SHARD_READY,
    };
}

static int segment_append(struct fm_ledger *ledger, const struct fm_ledger_segment *record)
{
    if (ledger->segment_count == ledger->segment_capacity) {
        size_t capacity = ledger->segment_capacity == 0 ? 4 : ledger->segment_capacity * 2;
        struct segment *grown = fm_realloc(ledger->segments, capacity * sizeof(*grown));
        if (grown == NULL) {
            return FM_ENOMEM;
        }
        ledger->segments = grown;
        ledger->segment_capacity = capacity;
    }
    ledger->segments[ledger->segment_count++] = (struct segment){.record = *record};
    ledger->row_count += record->row_count;
    ledger->next_number = record->first_number + segment_shard_count(record);
    return 0;
}

int fm_ledger_add_rows(struct fm_ledger *ledger, uint64_t row_count, uint64_t shard_rows,
                       struct fm_ledger_segment *ret_segment)
{
    if (row_count == 0 || shard_rows == 0 || ledger->row_count + row_count < row_count) {
        return FM_EINVAL;
    }
    struct fm_ledger_segment record = {.first_row = ledger->row_count,
                                       .row_count = row_count,
                                       .shard_rows = shard_rows,
                                       .first_number = ledger->next_number};
    int status = segment_append(ledger, &record);
    if (status == 0) {
        *ret_segment = record;
    }
    return status;
}

int fm_ledger_restore_segment(struct fm_ledger *ledger, const struct fm_ledger_segment *segment)
{
    if (segment->row_count == 0 || segment->shard_rows == 0 ||
        segment->first_row != ledger->row_count ||
        segment->first_row + segment->row_count < segment->row_count ||
        segment->first_number < ledger->next_number) {
        return FM_ECORRUPT;
    }
    return segment_append(ledger, segment);
}

/* --- Open shards --- */

/* Index of the first open shard at or behind `row`. */
static size_t open_find(const struct fm_ledger *ledger, uint64_t row)
{
    size_t low = 0;
    size_t high = ledger->open_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ledger->open[middle].first_row >= row) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int open_reserve(struct fm_ledger *ledger)
{
    if (ledger->open_count < ledger->open_capacity) {
        return 0;
    }
    size_t capacity = ledger->open_capacity == 0 ? 16 : ledger->open_capacity * 2;
    struct fm_shard *grown = fm_realloc(ledger->open, capacity * sizeof(*grown));
    if (grown == NULL) {
        return FM_ENOMEM;
    }
    ledger->open = grown;
    ledger->open_capacity = capacity;
    return 0;
}

static struct fm_shard *open_insert(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    FM_ASSERT(ledger->open_count < ledger->open_capacity);
    size_t at = open_find(ledger, shard->first_row);
    memmove(ledger->open + at + 1, ledger->open + at,
            (ledger->open_count - at) * sizeof(*ledger->open));
    ledger->open[at] = *shard;
    ledger->open_count++;
    return &ledger->open[at];
}

static void open_remove(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    size_t at = (size_t)(shard - ledger->open);
    memmove(ledger->open + at, ledger->open + at + 1,
            (ledger->open_count - at - 1) * sizeof(*ledger->open));
    ledger->open_count--;
}

/* The shard when it is leased to `owner` in `epoch`, else NULL and counted. */
static struct fm_shard *lease_find(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                   uint64_t epoch)
{
    for (size_t i = 0; i < ledger->open_count; i++) {
        struct fm_shard *shard = &ledger->open[i];
        if (shard->number == number) {
            if (shard->state == FM_SHARD_LEASED && shard->owner == owner && shard->epoch == epoch) {
                return shard;
            }
            break;
        }
    }
    ledger->stats.stale++;
    return NULL;
}

static uint64_t lease_deadline(const struct fm_ledger *ledger, uint64_t now_ns)
{
    uint64_t lease_ns = ledger->options.lease_ns;
    return lease_ns == 0 || now_ns > UINT64_MAX - lease_ns ? UINT64_MAX : now_ns + lease_ns;
}

/* The one place where an open shard changes state. */
static void shard_change_state(struct fm_ledger *ledger, struct fm_shard *shard,
                               enum fm_shard_state state)
{
    FM_ASSERT(shard->state == FM_SHARD_READY ? state == FM_SHARD_LEASED
                                             : shard->state == FM_SHARD_LEASED);
    if (shard->state == FM_SHARD_LEASED) {
        ledger->leased_count--;
    }
    shard->state = state;
    switch (state) {
    case FM_SHARD_LEASED:
        ledger->leased_count++;
        break;
    case FM_SHARD_READY:
        shard->deadline_ns = 0;
        break;
    case FM_SHARD_DONE:
    case FM_SHARD_DEAD:
        open_remove(ledger, shard);
        break;
    case FM_SHARD_STATE_COUNT_:
    default:
        FM_ASSERT(false);
    }
}

/* --- Restoring --- */

/* Notes that a shard of a segment was claimed. Its own boundaries, or a prefix of them, must be the
 * shard's. */
static int segment_mark(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    for (size_t i = 0; i < ledger->segment_count; i++) {
        struct segment *segment = &ledger->segments[i];
        uint64_t count = segment_shard_count(&segment->record);
        if (shard->number < segment->record.first_number ||
            shard->number - segment->record.first_number >= count) {
            continue;
        }
        uint64_t index = shard->number - segment->record.first_number;
        struct fm_shard own = segment_shard(&segment->record, index);
        if (shard->first_row != own.first_row || shard->row_count > own.row_count) {
            return FM_ECORRUPT;
        }
        segment->claimed = index + 1 > segment->claimed ? index + 1 : segment->claimed;
        return 0;
    }
    return 0; /* split off: numbered between or behind the segments */
}

int fm_ledger_restore_shard(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    if (shard->row_count == 0 || shard->first_row + shard->row_count < shard->row_count ||
        shard->first_row + shard->row_count > ledger->row_count) {
        return FM_ECORRUPT;
    }
    int status = segment_mark(ledger, shard);
    if (status != 0) {
        return status;
    }
    switch (shard->state) {
    case FM_SHARD_DONE:
        if (shard->rows_out + shard->dead_letters != shard->row_count) {
            return FM_ECORRUPT;
        }
        status = fm_row_ranges_add(&ledger->done, shard->first_row, shard->row_count);
        if (status == 0) {
            ledger->rows_out += shard->rows_out;
            ledger->dead_letters += shard->dead_letters;
        }
        break;
    case FM_SHARD_DEAD:
        status = fm_row_ranges_add(&ledger->dead, shard->first_row, shard->row_count);
        break;
    case FM_SHARD_READY:
    case FM_SHARD_LEASED:
        status = open_reserve(ledger);
        if (status == 0) {
            (void)open_insert(ledger, shard);
            ledger->leased_count += shard->state == FM_SHARD_LEASED ? 1 : 0;
        }
        break;
    case FM_SHARD_STATE_COUNT_:
    default:
        return FM_ECORRUPT;
    }
    if (status == 0 && shard->number >= ledger->next_number) {
        ledger->next_number = shard->number + 1;
    }
    return status == FM_EEXIST ? FM_ECORRUPT : status;
}

/* True when rows [0, row_count) are each in exactly one place. Walks all sets side by side. */
static bool rows_covered(const struct fm_ledger *ledger)
{
    size_t done = 0;
    size_t dead = 0;
    size_t open = 0;
    size_t segment = 0;
    uint64_t row = 0;
    while (row < ledger->row_count) {
        while (segment < ledger->segment_count &&
               row >= ledger->segments[segment].record.first_row +
                          ledger->segments[segment].record.row_count) {
            segment++;
        }
        const struct fm_ledger_segment *record = &ledger->segments[segment].record;
        uint64_t rest = record->first_row + ledger->segments[segment].claimed * record->shard_rows;
        if (done < ledger->done.count && ledger->done.items[done].first == row) {
            row = ledger->done.items[done++].end;
        } else if (dead < ledger->dead.count && ledger->dead.items[dead].first == row) {
            row = ledger->dead.items[dead++].end;
        } else if (open < ledger->open_count && ledger->open[open].first_row == row) {
            row += ledger->open[open++].row_count;
        } else if (rest == row && rest < record->first_row + record->row_count) {
            row = record->first_row + record->row_count;
        } else {
            return false;
        }
    }
    return row == ledger->row_count && done == ledger->done.count && dead == ledger->dead.count &&
           open == ledger->open_count;
}

int fm_ledger_restore_finish(struct fm_ledger *ledger)
{
    return rows_covered(ledger) ? 0 : FM_ECORRUPT;
}

/* --- Transitions --- */

/* The unfinished shard with the lowest rows that nobody holds, made open if need be; NULL: none. */
static int next_ready(struct fm_ledger *ledger, struct fm_shard **ret_shard)
{
    struct fm_shard *ready = NULL;
    for (size_t i = 0; i < ledger->open_count && ready == NULL; i++) {
        ready = ledger->open[i].state == FM_SHARD_READY ? &ledger->open[i] : NULL;
    }
    for (size_t i = 0; i < ledger->segment_count; i++) {
        struct segment *segment = &ledger->segments[i];
        if (segment->claimed == segment_shard_count(&segment->record)) {
            continue;
        }
        struct fm_shard fresh = segment_shard(&segment->record, segment->claimed);
        if (ready != NULL && ready->first_row < fresh.first_row) {
            break;
        }
        int status = open_reserve(ledger);
        if (status != 0) {
            return status;
        }
        segment->claimed++;
        ready = open_insert(ledger, &fresh);
        break;
    }
    *ret_shard = ready;
    return 0;
}

int fm_ledger_claim(struct fm_ledger *ledger, uint64_t now_ns, uint64_t owner,
                    enum fm_ledger_answer *ret_answer, struct fm_shard *ret_shard)
{
    (void)fm_ledger_expire(ledger, now_ns);
    if (ledger->leased_count == ledger->options.leases_max) {
        *ret_answer = FM_LEDGER_WAIT;
        return 0;
    }
    struct fm_shard *shard = NULL;
    int status = next_ready(ledger, &shard);
    if (status != 0) {
        return status;
    }
    if (shard == NULL) {
        *ret_answer = ledger->leased_count > 0 ? FM_LEDGER_WAIT : FM_LEDGER_FINISHED;
        return 0;
    }
    shard->epoch++;
    shard->owner = owner;
    shard->deadline_ns = lease_deadline(ledger, now_ns);
    shard_change_state(ledger, shard, FM_SHARD_LEASED);
    ledger->stats.claims++;
    *ret_answer = FM_LEDGER_GRANTED;
    *ret_shard = *shard;
    return 0;
}

int fm_ledger_renew(struct fm_ledger *ledger, uint64_t now_ns, uint64_t number, uint64_t owner,
                    uint64_t epoch)
{
    struct fm_shard *shard = lease_find(ledger, number, owner, epoch);
    if (shard == NULL) {
        return FM_ECANCELLED;
    }
    shard->deadline_ns = lease_deadline(ledger, now_ns);
    return 0;
}

int fm_ledger_release(struct fm_ledger *ledger, uint64_t number, uint64_t owner, uint64_t epoch)
{
    struct fm_shard *shard = lease_find(ledger, number, owner, epoch);
    if (shard == NULL) {
        return FM_ECANCELLED;
    }
    shard_change_state(ledger, shard, FM_SHARD_READY);
    ledger->stats.releases++;
    return 0;
}

int fm_ledger_kill(struct fm_ledger *ledger, uint64_t number, uint64_t owner, uint64_t epoch)
{
    struct fm_shard *shard = lease_find(ledger, number, owner, epoch);
    if (shard == NULL) {
        return FM_ECANCELLED;
    }
    int status = fm_row_ranges_add(&ledger->dead, shard->first_row, shard->row_count);
    FM_ASSERT(status == 0 || status == FM_ENOMEM);
    if (status == 0) {
        shard_change_state(ledger, shard, FM_SHARD_DEAD);
    }
    return status;
}

int fm_ledger_commit(struct fm_ledger *ledger, uint64_t number, uint64_t owner, uint64_t epoch,
                     uint64_t rows_out, uint64_t dead_letters, struct fm_shard *ret_rest)
{
    struct fm_shard *shard = lease_find(ledger, number, owner, epoch);
    if (shard == NULL) {
        return FM_ECANCELLED;
    }
    uint64_t rows = rows_out + dead_letters;
    if (rows == 0 || rows < rows_out || rows > shard->row_count) {
        return FM_EINVAL;
    }
    /* The shard's own place in `open` is about to be free, so that a rest always fits. */
    int status = fm_row_ranges_add(&ledger->done, shard->first_row, rows);
    FM_ASSERT(status == 0 || status == FM_ENOMEM);
    if (status != 0) {
        return status;
    }
    struct fm_shard rest = {.first_row = shard->first_row + rows,
                            .row_count = shard->row_count - rows,
                            .state = FM_SHARD_READY};
    shard_change_state(ledger, shard, FM_SHARD_DONE);
    if (rest.row_count > 0) {
        rest.number = ledger->next_number++;
        (void)open_insert(ledger, &rest);
    }
    ledger->rows_out += rows_out;
    ledger->dead_letters += dead_letters;
    ledger->stats.commits++;
    *ret_rest = rest;
    return 0;
}

uint32_t fm_ledger_expire(struct fm_ledger *ledger, uint64_t now_ns)
{
    uint32_t count = 0;
    if (ledger->options.lease_ns == 0) {
        return 0;
    }
    for (size_t i = 0; i < ledger->open_count; i++) {
        struct fm_shard *shard = &ledger->open[i];
        if (shard->state == FM_SHARD_LEASED && shard->deadline_ns <= now_ns) {
            shard_change_state(ledger, shard, FM_SHARD_READY);
            count++;
        }
    }
    ledger->stats.expiries += count;
    return count;
}

/* --- Questions --- */

uint64_t fm_ledger_row_count(const struct fm_ledger *ledger)
{
    return ledger->row_count;
}

void fm_ledger_prove(const struct fm_ledger *ledger, struct fm_ledger_proof *ret_proof)
{
    struct fm_ledger_proof proof = {
        .rows_in = ledger->row_count,
        .rows_out = ledger->rows_out,
        .dead_letters = ledger->dead_letters,
        .rows_dead = ledger->dead.rows,
        .rows_missing = ledger->row_count - ledger->done.rows - ledger->dead.rows,
    };
    proof.complete = proof.rows_in == proof.rows_out + proof.dead_letters && proof.rows_dead == 0 &&
                     proof.rows_missing == 0;
    *ret_proof = proof;
}

void fm_ledger_stats(const struct fm_ledger *ledger, struct fm_ledger_stats *ret_stats)
{
    *ret_stats = ledger->stats;
    ret_stats->open_shards = ledger->open_count;
    ret_stats->leased_shards = ledger->leased_count;
    ret_stats->done_ranges = ledger->done.count;
}

bool fm_ledger_open_shard(const struct fm_ledger *ledger, uint64_t index,
                          struct fm_shard *ret_shard)
{
    if (index >= ledger->open_count) {
        return false;
    }
    *ret_shard = ledger->open[index];
    return true;
}

void fm_ledger_validate(const struct fm_ledger *ledger)
{
    uint64_t leased = 0;
    for (size_t i = 0; i < ledger->open_count; i++) {
        const struct fm_shard *shard = &ledger->open[i];
        FM_ASSERT(shard->state == FM_SHARD_READY || shard->state == FM_SHARD_LEASED);
        FM_ASSERT(shard->row_count > 0);
        FM_ASSERT(shard->number < ledger->next_number);
        FM_ASSERT(i == 0 || shard[-1].first_row + shard[-1].row_count <= shard->first_row);
        leased += shard->state == FM_SHARD_LEASED ? 1 : 0;
        for (size_t k = 0; k < i; k++) {
            FM_ASSERT(ledger->open[k].number != shard->number);
        }
    }
    FM_ASSERT(leased == ledger->leased_count);
    FM_ASSERT(leased <= ledger->options.leases_max);
    const struct fm_row_ranges *sets[2] = {&ledger->done, &ledger->dead};
    for (size_t s = 0; s < 2; s++) {
        uint64_t rows = 0;
        for (size_t i = 0; i < sets[s]->count; i++) {
            FM_ASSERT(sets[s]->items[i].first < sets[s]->items[i].end);
            FM_ASSERT(i == 0 || sets[s]->items[i - 1].end < sets[s]->items[i].first);
            rows += sets[s]->items[i].end - sets[s]->items[i].first;
        }
        FM_ASSERT(rows == sets[s]->rows);
    }
    FM_ASSERT(ledger->rows_out + ledger->dead_letters == ledger->done.rows);
    FM_ASSERT(rows_covered(ledger));
}
