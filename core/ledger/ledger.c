/*
 * Shard states and leases. See ledger.h.
 */
#include "core/ledger/ledger.h"

#include <assert.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/id_heap.h"
#include "core/util/memory.h"

/* Rank and row are one number, the key of a heap. */
static_assert(FM_LEDGER_RANKS <= UINT64_MAX / FM_LEDGER_ROWS_MAX, "they have room in 64 bits");

#define LEASES FM_LEDGER_LEASES_OF_ONE_MAX
#define NONE   UINT32_MAX
/* After so many lost workers a shard is cut, whatever is left of its budget: where workers live for
 * a shorter time than a shard takes, nothing would ever be finished. */
#define LOST_BEFORE_CUT 3u

struct segment {
    struct fm_ledger_segment record;
    uint64_t next_row; /* from here to the end nobody has claimed */
};

/* An unfinished shard. Its id is its index; ids are used again. */
struct record {
    struct fm_shard shard;
    struct fm_lease leases[LEASES];
    uint32_t lease_count;
    uint64_t not_before_ns; /* READY: not handed out before */
};

/* Where a number's record is; sorted by number. */
struct entry {
    uint64_t number;
    uint32_t id;
};

struct fm_ledger {
    struct fm_ledger_options options;
    struct segment *segments;
    size_t segment_count;
    size_t segment_capacity;
    size_t segment_next[FM_LEDGER_RANKS]; /* those of the rank before have nothing unclaimed */
    struct record *records;
    uint32_t *free_ids;
    struct entry *entries;
    uint32_t capacity; /* of the three */
    uint32_t free_count;
    uint32_t open_count;
    struct fm_id_heap ready;     /* record ids by rank and first row */
    struct fm_id_heap suspects;  /* likewise: READY, to be run alone */
    struct fm_id_heap delayed;   /* READY, but not yet: by not_before_ns */
    struct fm_id_heap deadlines; /* LEASES * id + lease, by deadline */
    uint32_t lease_count;
    struct fm_row_ranges done;
    struct fm_row_ranges dead;
    uint64_t row_count;
    uint64_t rows_unclaimed;
    uint64_t next_number;
    uint64_t rows_out;
    uint64_t dead_letters;
    bool closed;
    bool paused;
    struct fm_ledger_stats stats;
};

const char *fm_shard_state_name(enum fm_shard_state state)
{
    static const char *const names[] = {"READY", "LEASED", "DONE", "DEAD"};
    return (unsigned)state < FM_COUNT_OF(names) ? names[state] : "?";
}

int fm_ledger_create(const struct fm_ledger_options *options, struct fm_ledger **ret_ledger)
{
    FM_ASSERT(options->leases_max > 0);
    struct fm_ledger *ledger = fm_alloc_zero(1, sizeof(*ledger));
    if (ledger == NULL) {
        return FM_ENOMEM;
    }
    ledger->options = *options;
    if (fm_id_heap_init(&ledger->ready, 0, NULL) != 0 ||
        fm_id_heap_init(&ledger->suspects, 0, NULL) != 0 ||
        fm_id_heap_init(&ledger->delayed, 0, NULL) != 0 ||
        fm_id_heap_init(&ledger->deadlines, 0, NULL) != 0) {
        fm_ledger_destroy(ledger);
        return FM_ENOMEM;
    }
    *ret_ledger = ledger;
    return 0;
}

void fm_ledger_destroy(struct fm_ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    fm_id_heap_deinit(&ledger->ready);
    fm_id_heap_deinit(&ledger->suspects);
    fm_id_heap_deinit(&ledger->delayed);
    fm_id_heap_deinit(&ledger->deadlines);
    fm_row_ranges_deinit(&ledger->done);
    fm_row_ranges_deinit(&ledger->dead);
    fm_free(ledger->records);
    fm_free(ledger->free_ids);
    fm_free(ledger->entries);
    fm_free(ledger->segments);
    fm_free(ledger);
}

/* --- Segments --- */

static uint64_t segment_end(const struct segment *segment)
{
    return segment->record.first_row + segment->record.row_count;
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
    ledger->segments[ledger->segment_count++] =
        (struct segment){.record = *record, .next_row = record->first_row};
    ledger->row_count += record->row_count;
    ledger->rows_unclaimed += record->row_count;
    return 0;
}

/* Of a segment at the end of the job. */
static bool segment_fits(const struct fm_ledger *ledger, const struct fm_ledger_segment *segment)
{
    return segment->row_count > 0 && segment->grain_rows > 0 && segment->rank < FM_LEDGER_RANKS &&
           segment->row_count <= FM_LEDGER_ROWS_MAX - ledger->row_count;
}

int fm_ledger_add_rows(struct fm_ledger *ledger, const struct fm_ledger_segment *rows,
                       struct fm_ledger_segment *ret_segment)
{
    struct fm_ledger_segment record = *rows;
    record.first_row = ledger->row_count;
    if (!segment_fits(ledger, &record)) {
        return FM_EINVAL;
    }
    int status = segment_append(ledger, &record);
    if (status == 0) {
        *ret_segment = record;
    }
    return status;
}

int fm_ledger_restore_segment(struct fm_ledger *ledger, const struct fm_ledger_segment *segment)
{
    if (!segment_fits(ledger, segment) || segment->first_row != ledger->row_count) {
        return FM_ECORRUPT;
    }
    return segment_append(ledger, segment);
}

void fm_ledger_close(struct fm_ledger *ledger, bool closed)
{
    ledger->closed = closed;
}

void fm_ledger_pause(struct fm_ledger *ledger, bool paused)
{
    ledger->paused = paused;
}

/* Of the lowest rank that has one, the first segment with rows that nobody has claimed; NULL: none.
 */
static struct segment *segment_open(struct fm_ledger *ledger)
{
    for (uint32_t rank = 0; rank < FM_LEDGER_RANKS; rank++) {
        size_t *next = &ledger->segment_next[rank];
        for (; *next < ledger->segment_count; (*next)++) {
            struct segment *segment = &ledger->segments[*next];
            if (segment->record.rank == rank && segment->next_row < segment_end(segment)) {
                return segment;
            }
        }
    }
    return NULL;
}

/* The segment that has the row; segment_count: none has. */
static size_t segment_find(const struct fm_ledger *ledger, uint64_t row)
{
    size_t low = 0;
    size_t high = ledger->segment_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segment_end(&ledger->segments[middle]) > row) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* What comes first has the lower one: the rank, and below it the row. */
static uint64_t claim_key(const struct segment *segment, uint64_t row)
{
    return segment->record.rank * FM_LEDGER_ROWS_MAX + row;
}

/* --- Records --- */

/* Where `number` is, or would be. */
static uint32_t entry_find(const struct fm_ledger *ledger, uint64_t number)
{
    uint32_t low = 0;
    uint32_t high = ledger->open_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ledger->entries[middle].number >= number) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static struct record *record_find(const struct fm_ledger *ledger, uint64_t number)
{
    uint32_t at = entry_find(ledger, number);
    return at < ledger->open_count && ledger->entries[at].number == number
               ? &ledger->records[ledger->entries[at].id]
               : NULL;
}

/* Room for so many more records. */
static int records_reserve(struct fm_ledger *ledger, uint32_t more)
{
    if (ledger->free_count >= more) {
        return 0;
    }
    if (ledger->capacity > UINT32_MAX / 4 / LEASES) {
        return FM_ENOMEM;
    }
    uint32_t capacity = ledger->capacity == 0 ? 16 : ledger->capacity * 2;
    /* Each of them may keep its growth when a later one fails: `capacity` counts when all have
     * grown. */
    struct record *records = fm_realloc(ledger->records, capacity * sizeof(*records));
    if (records == NULL) {
        return FM_ENOMEM;
    }
    ledger->records = records;
    uint32_t *free_ids = fm_realloc(ledger->free_ids, capacity * sizeof(*free_ids));
    if (free_ids == NULL) {
        return FM_ENOMEM;
    }
    ledger->free_ids = free_ids;
    struct entry *entries = fm_realloc(ledger->entries, capacity * sizeof(*entries));
    if (entries == NULL) {
        return FM_ENOMEM;
    }
    ledger->entries = entries;
    if ((ledger->ready.bound < capacity && fm_id_heap_grow(&ledger->ready, capacity) != 0) ||
        (ledger->suspects.bound < capacity && fm_id_heap_grow(&ledger->suspects, capacity) != 0) ||
        (ledger->delayed.bound < capacity && fm_id_heap_grow(&ledger->delayed, capacity) != 0) ||
        (ledger->deadlines.bound < capacity * LEASES &&
         fm_id_heap_grow(&ledger->deadlines, capacity * LEASES) != 0)) {
        return FM_ENOMEM;
    }
    for (uint32_t id = capacity; id-- > ledger->capacity;) {
        free_ids[ledger->free_count++] = id;
    }
    ledger->capacity = capacity;
    return 0;
}

static uint32_t record_id(const struct fm_ledger *ledger, const struct record *record)
{
    return (uint32_t)(record - ledger->records);
}

static void ready_push(struct fm_ledger *ledger, struct record *record)
{
    uint32_t id = record_id(ledger, record);
    if (record->not_before_ns > 0) {
        fm_id_heap_set(&ledger->delayed, id, record->not_before_ns);
    } else {
        uint64_t row = record->shard.first_row;
        fm_id_heap_set(fm_shard_suspect(&record->shard) ? &ledger->suspects : &ledger->ready, id,
                       claim_key(&ledger->segments[segment_find(ledger, row)], row));
    }
}

/* A READY shard gets its record. There must be room. */
static struct record *record_add(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    FM_ASSERT(ledger->free_count > 0);
    uint32_t id = ledger->free_ids[--ledger->free_count];
    uint32_t at = entry_find(ledger, shard->number);
    struct record *record = &ledger->records[id];
    *record = (struct record){.shard = *shard};
    memmove(ledger->entries + at + 1, ledger->entries + at,
            (ledger->open_count - at) * sizeof(*ledger->entries));
    ledger->entries[at] = (struct entry){.number = shard->number, .id = id};
    ledger->open_count++;
    if (shard->number >= ledger->next_number) {
        ledger->next_number = shard->number + 1;
    }
    ready_push(ledger, record);
    return record;
}

static void record_remove(struct fm_ledger *ledger, const struct record *record)
{
    uint32_t at = entry_find(ledger, record->shard.number);
    memmove(ledger->entries + at, ledger->entries + at + 1,
            (ledger->open_count - at - 1) * sizeof(*ledger->entries));
    ledger->open_count--;
    ledger->free_ids[ledger->free_count++] = record_id(ledger, record);
}

/* --- Leases --- */

static uint64_t after(uint64_t now_ns, uint64_t delay_ns)
{
    return now_ns > UINT64_MAX - delay_ns ? UINT64_MAX : now_ns + delay_ns;
}

static uint64_t lease_deadline(const struct fm_ledger *ledger, uint64_t now_ns)
{
    uint64_t lease_ns = ledger->options.lease_ns;
    return lease_ns == 0 ? UINT64_MAX : after(now_ns, lease_ns);
}

/* Takes a READY shard out of its queue, as LEASED without a lease yet; or gives it back there. The
 * one place where an unfinished shard changes between the two. */
static void record_change_state(struct fm_ledger *ledger, struct record *record,
                                enum fm_shard_state state)
{
    uint32_t id = record_id(ledger, record);
    FM_ASSERT(record->lease_count == 0 && record->shard.state != state);
    record->shard.state = state;
    if (state == FM_SHARD_READY) {
        record->shard.deadline_ns = 0;
        ready_push(ledger, record);
    } else {
        struct fm_id_heap *queues[] = {&ledger->ready, &ledger->suspects, &ledger->delayed};
        for (size_t i = 0; i < FM_COUNT_OF(queues); i++) {
            if (fm_id_heap_holds(queues[i], id)) {
                fm_id_heap_remove(queues[i], id);
            }
        }
    }
}

static void lease_add(struct fm_ledger *ledger, struct record *record, const struct fm_lease *lease)
{
    FM_ASSERT(record->lease_count < LEASES);
    uint32_t index = record->lease_count++;
    record->leases[index] = *lease;
    record->shard.owner = lease->owner;
    record->shard.epoch = lease->epoch;
    record->shard.deadline_ns = lease->deadline_ns;
    fm_id_heap_set(&ledger->deadlines, record_id(ledger, record) * LEASES + index,
                   lease->deadline_ns);
    ledger->lease_count++;
}

/* The others move up. The shard shows the newest that is left. */
static void lease_remove(struct fm_ledger *ledger, struct record *record, uint32_t index)
{
    uint32_t first = record_id(ledger, record) * LEASES;
    FM_ASSERT(index < record->lease_count);
    for (uint32_t i = index; i + 1 < record->lease_count; i++) {
        record->leases[i] = record->leases[i + 1];
        fm_id_heap_set(&ledger->deadlines, first + i, record->leases[i].deadline_ns);
    }
    fm_id_heap_remove(&ledger->deadlines, first + --record->lease_count);
    ledger->lease_count--;
    if (record->lease_count > 0) {
        const struct fm_lease *newest = &record->leases[record->lease_count - 1];
        record->shard.owner = newest->owner;
        record->shard.deadline_ns = newest->deadline_ns;
    }
}

/* The record, and which of its leases it is; NULL when the lease is not there any more: counted. */
static struct record *lease_find(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                 uint64_t epoch, uint32_t *ret_index)
{
    struct record *record = record_find(ledger, number);
    for (uint32_t i = 0; record != NULL && i < record->lease_count; i++) {
        if (record->leases[i].owner == owner && record->leases[i].epoch == epoch) {
            *ret_index = i;
            return record;
        }
    }
    ledger->stats.stale++;
    return NULL;
}

/* The shard is over: its record goes, and every lease of it. */
static void record_end(struct fm_ledger *ledger, struct record *record)
{
    while (record->lease_count > 0) {
        lease_remove(ledger, record, record->lease_count - 1);
    }
    record_remove(ledger, record);
}

/* --- Failures --- */

/* A budget is used up, and there is nothing left to cut. */
static bool is_condemned(const struct fm_ledger *ledger, const struct fm_shard *shard,
                         uint32_t beyond)
{
    bool condemned = false;
    for (int kind = 0; kind < FM_SHARD_FAILURE_COUNT_; kind++) {
        uint32_t most = ledger->options.attempts_max[kind];
        condemned = condemned || (most > 0 && shard->failures[kind] >= most + beyond);
    }
    return condemned && shard->row_count == 1;
}

static uint64_t backoff(const struct fm_ledger *ledger, const struct fm_shard *shard)
{
    uint64_t delay_ns = ledger->options.backoff_ns;
    uint32_t failures = shard->failures[0] + shard->failures[1];
    for (uint32_t i = 1; i < failures && delay_ns < ledger->options.backoff_max_ns; i++) {
        delay_ns *= 2;
    }
    return delay_ns < ledger->options.backoff_max_ns ? delay_ns : ledger->options.backoff_max_ns;
}

/* The halves start so that the next failure of a half that is to blame cuts it again at once. A
 * lost worker says little about the rows: half of that budget comes back. */
static uint32_t failures_of_half(const struct fm_ledger *ledger, enum fm_shard_failure kind)
{
    uint32_t most = ledger->options.attempts_max[kind];
    return kind == FM_SHARD_FAILURE_DATA ? most - 1 : most / 2;
}

/* The shard keeps its first half; the other one, which is returned, has a record of its own. There
 * must be room. */
static struct fm_shard record_cut(struct fm_ledger *ledger, struct fm_shard *shard,
                                  enum fm_shard_failure kind)
{
    uint32_t failures = failures_of_half(ledger, kind);
    shard->failures[kind] = shard->failures[kind] < failures ? shard->failures[kind] : failures;
    struct fm_shard half = *shard;
    shard->row_count /= 2;
    half.first_row += shard->row_count;
    half.row_count -= shard->row_count;
    half.number = ledger->next_number;
    half.state = FM_SHARD_READY;
    half.owner = 0;
    half.epoch = ledger->options.epoch_first;
    half.deadline_ns = 0;
    half.condemned = is_condemned(ledger, &half, 0);
    (void)record_add(ledger, &half);
    ledger->stats.splits++;
    return half;
}

/* The lease is gone and the failure counted: READY again, cut in two, or DEAD. Without memory
 * nothing is cut or buried: the next failure tries again. */
static void failure_settle(struct fm_ledger *ledger, uint64_t now_ns, struct record *record,
                           enum fm_shard_failure kind, struct fm_ledger_outcome *outcome)
{
    struct fm_shard *shard = &record->shard;
    uint32_t most = ledger->options.attempts_max[kind];
    uint64_t delay_ns = backoff(ledger, shard);
    record->not_before_ns = delay_ns > 0 ? after(now_ns, delay_ns) : 0;
    if (is_condemned(ledger, shard, FM_LEDGER_CONDEMNED_ATTEMPTS) &&
        fm_row_ranges_add(&ledger->dead, shard->first_row, 1) == 0) {
        shard->state = FM_SHARD_DEAD;
        outcome->shard = *shard;
        record_end(ledger, record);
        return;
    }
    uint32_t failures = shard->failures[kind];
    bool lost_again = kind == FM_SHARD_FAILURE_INFRASTRUCTURE && failures % LOST_BEFORE_CUT == 0;
    bool wanted = most > 0 && (failures >= most || lost_again) && shard->row_count > 1;
    bool cut = wanted && records_reserve(ledger, 1) == 0;
    if (wanted) {
        record = record_find(ledger, outcome->shard.number); /* they may have moved, cut or not */
        shard = &record->shard;
    }
    if (cut) {
        outcome->half = record_cut(ledger, shard, kind);
    }
    shard->condemned = is_condemned(ledger, shard, 0);
    record_change_state(ledger, record, FM_SHARD_READY);
    outcome->shard = *shard;
}

static void lease_fail(struct fm_ledger *ledger, uint64_t now_ns, struct record *record,
                       uint32_t index, enum fm_shard_failure kind,
                       struct fm_ledger_outcome *outcome)
{
    *outcome = (struct fm_ledger_outcome){.owner = record->leases[index].owner,
                                          .epoch = record->leases[index].epoch};
    lease_remove(ledger, record, index);
    record->shard.failures[kind]++;
    ledger->stats.failures[kind]++;
    outcome->shard = record->shard;
    if (record->lease_count == 0) {
        failure_settle(ledger, now_ns, record, kind, outcome);
    }
}

/* --- Restoring --- */

static int cursor_move(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    size_t at = segment_find(ledger, shard->first_row);
    uint64_t end = shard->first_row + shard->row_count;
    if (at == ledger->segment_count || end > segment_end(&ledger->segments[at])) {
        return FM_ECORRUPT;
    }
    struct segment *segment = &ledger->segments[at];
    if (end > segment->next_row) {
        ledger->rows_unclaimed -= end - segment->next_row;
        segment->next_row = end;
    }
    return 0;
}

static int restore_done(struct fm_ledger *ledger, const struct fm_shard *shard)
{
    if (shard->rows_out > shard->row_count ||
        shard->rows_out + shard->dead_letters != shard->row_count) {
        return FM_ECORRUPT;
    }
    int status = fm_row_ranges_add(&ledger->done, shard->first_row, shard->row_count);
    if (status == 0) {
        ledger->rows_out += shard->rows_out;
        ledger->dead_letters += shard->dead_letters;
    }
    return status;
}

static int restore_open(struct fm_ledger *ledger, uint64_t now_ns, const struct fm_shard *shard)
{
    uint32_t at = entry_find(ledger, shard->number);
    if (at < ledger->open_count && ledger->entries[at].number == shard->number) {
        return FM_ECORRUPT;
    }
    int status = records_reserve(ledger, 1);
    if (status != 0) {
        return status;
    }
    struct fm_shard ready = *shard;
    ready.state = FM_SHARD_READY;
    ready.deadline_ns = 0;
    ready.condemned = is_condemned(ledger, &ready, 0);
    struct record *record = record_add(ledger, &ready);
    if (shard->state == FM_SHARD_LEASED) {
        struct fm_lease lease = {.owner = shard->owner,
                                 .epoch = shard->epoch,
                                 .granted_ns = now_ns,
                                 .deadline_ns = lease_deadline(ledger, now_ns)};
        record_change_state(ledger, record, FM_SHARD_LEASED);
        lease_add(ledger, record, &lease);
    }
    return 0;
}

int fm_ledger_restore_shard(struct fm_ledger *ledger, uint64_t now_ns, const struct fm_shard *shard)
{
    if (shard->row_count == 0 || shard->first_row + shard->row_count < shard->row_count ||
        shard->number == UINT64_MAX) {
        return FM_ECORRUPT;
    }
    int status = cursor_move(ledger, shard);
    if (status != 0) {
        return status;
    }
    switch (shard->state) {
    case FM_SHARD_DONE:
        status = restore_done(ledger, shard);
        break;
    case FM_SHARD_DEAD:
        status = fm_row_ranges_add(&ledger->dead, shard->first_row, shard->row_count);
        break;
    case FM_SHARD_READY:
    case FM_SHARD_LEASED:
        status = restore_open(ledger, now_ns, shard);
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

/* Every row below a segment's cursor is in exactly one of done, dead and the open shards. FM_ENOMEM
 * when that cannot be found out. */
static int rows_check(const struct fm_ledger *ledger)
{
    struct fm_row_ranges all = {0};
    int status = 0;
    uint64_t rows = ledger->rows_unclaimed;
    for (uint32_t i = 0; i < ledger->open_count && status == 0; i++) {
        const struct fm_shard *shard = &ledger->records[ledger->entries[i].id].shard;
        status = fm_row_ranges_add(&all, shard->first_row, shard->row_count);
    }
    for (size_t i = 0; i < ledger->dead.count && status == 0; i++) {
        const struct fm_row_range *range = &ledger->dead.items[i];
        status = fm_row_ranges_add(&all, range->first, range->end - range->first);
    }
    /* What is done may be many ranges; they are sorted already. */
    for (size_t i = 0; i < all.count && status == 0; i++) {
        status = fm_row_ranges_overlap(&ledger->done, all.items[i].first, all.items[i].end)
                     ? FM_ECORRUPT
                     : 0;
    }
    for (size_t i = 0; i < ledger->segment_count && status == 0; i++) {
        const struct segment *segment = &ledger->segments[i];
        bool taken =
            fm_row_ranges_overlap(&ledger->done, segment->next_row, segment_end(segment)) ||
            fm_row_ranges_overlap(&all, segment->next_row, segment_end(segment));
        status = taken ? FM_ECORRUPT : 0;
    }
    rows += all.rows + ledger->done.rows;
    fm_row_ranges_deinit(&all);
    if (status == 0 && rows != ledger->row_count) {
        return FM_ECORRUPT;
    }
    return status == FM_EEXIST ? FM_ECORRUPT : status;
}

int fm_ledger_restore_finish(struct fm_ledger *ledger)
{
    return rows_check(ledger);
}

/* --- Transitions --- */

static void delayed_wake(struct fm_ledger *ledger, uint64_t now_ns)
{
    while (!fm_id_heap_empty(&ledger->delayed) &&
           fm_id_heap_first(&ledger->delayed).key <= now_ns) {
        uint32_t id = fm_id_heap_first(&ledger->delayed).id;
        fm_id_heap_remove(&ledger->delayed, id);
        ledger->records[id].not_before_ns = 0;
        ready_push(ledger, &ledger->records[id]);
    }
}

/* Rows of the next shard of a segment: whole grains, or what is left. */
static uint64_t rows_to_cut(const struct segment *segment, uint64_t rows_max)
{
    uint64_t grain = segment->record.grain_rows;
    uint64_t left = segment_end(segment) - segment->next_row;
    uint64_t rows = rows_max / grain * grain;
    rows = rows == 0 ? grain : rows;
    /* A cursor that stands inside a grain, as after another grain was in force, comes back to its
     * raster. */
    uint64_t inside = (segment->next_row - segment->record.first_row) % grain;
    rows -= inside;
    return rows < left ? rows : left;
}

/* The unfinished shard of the lowest rank and rows that nobody holds, cut off if need be; NULL:
 * none. */
static int next_ready(struct fm_ledger *ledger, const struct fm_ledger_claim *claim,
                      struct record **ret_record)
{
    struct segment *segment = segment_open(ledger);
    *ret_record = NULL;
    if (claim->suspects && !fm_id_heap_empty(&ledger->suspects)) {
        *ret_record = &ledger->records[fm_id_heap_first(&ledger->suspects).id];
        return 0;
    }
    if (!fm_id_heap_empty(&ledger->ready) &&
        (segment == NULL ||
         fm_id_heap_first(&ledger->ready).key < claim_key(segment, segment->next_row))) {
        *ret_record = &ledger->records[fm_id_heap_first(&ledger->ready).id];
        return 0;
    }
    if (segment == NULL) {
        return 0;
    }
    int status = records_reserve(ledger, 1);
    if (status != 0) {
        return status;
    }
    struct fm_shard fresh = {.number = ledger->next_number,
                             .first_row = segment->next_row,
                             .row_count = rows_to_cut(segment, claim->rows_max),
                             .epoch = ledger->options.epoch_first,
                             .state = FM_SHARD_READY};
    segment->next_row += fresh.row_count;
    ledger->rows_unclaimed -= fresh.row_count;
    *ret_record = record_add(ledger, &fresh);
    return 0;
}

static void grant(struct fm_ledger *ledger, uint64_t now_ns, struct record *record, uint64_t owner,
                  struct fm_shard *ret_shard)
{
    struct fm_lease lease = {.owner = owner,
                             .epoch = record->shard.epoch + 1,
                             .granted_ns = now_ns,
                             .deadline_ns = lease_deadline(ledger, now_ns)};
    lease_add(ledger, record, &lease);
    *ret_shard = record->shard;
}

int fm_ledger_claim(struct fm_ledger *ledger, uint64_t now_ns, const struct fm_ledger_claim *claim,
                    enum fm_ledger_answer *ret_answer, struct fm_shard *ret_shard)
{
    struct record *record = NULL;
    *ret_answer = FM_LEDGER_WAIT;
    delayed_wake(ledger, now_ns);
    if (ledger->paused || ledger->lease_count >= ledger->options.leases_max) {
        return 0;
    }
    int status = next_ready(ledger, claim, &record);
    if (status != 0) {
        return status;
    }
    if (record == NULL) {
        *ret_answer = fm_ledger_finished(ledger) ? FM_LEDGER_FINISHED : FM_LEDGER_WAIT;
        return 0;
    }
    record_change_state(ledger, record, FM_SHARD_LEASED);
    grant(ledger, now_ns, record, claim->owner, ret_shard);
    ledger->stats.claims++;
    *ret_answer = FM_LEDGER_GRANTED;
    return 0;
}

int fm_ledger_lease_again(struct fm_ledger *ledger, uint64_t now_ns, uint64_t owner,
                          uint64_t number, struct fm_shard *ret_shard)
{
    struct record *record = record_find(ledger, number);
    if (record == NULL || record->shard.state != FM_SHARD_LEASED ||
        fm_shard_suspect(&record->shard) || is_condemned(ledger, &record->shard, 0)) {
        return FM_EINVAL;
    }
    for (uint32_t i = 0; i < record->lease_count; i++) {
        if (record->leases[i].owner == owner) {
            return FM_EINVAL;
        }
    }
    if (record->lease_count == LEASES || ledger->lease_count >= ledger->options.leases_max) {
        return FM_ELIMIT;
    }
    grant(ledger, now_ns, record, owner, ret_shard);
    ledger->stats.duplicates++;
    return 0;
}

int fm_ledger_renew(struct fm_ledger *ledger, uint64_t now_ns, uint64_t number, uint64_t owner,
                    uint64_t epoch)
{
    uint32_t index = 0;
    struct record *record = lease_find(ledger, number, owner, epoch, &index);
    if (record == NULL) {
        return FM_ECANCELLED;
    }
    record->leases[index].deadline_ns = lease_deadline(ledger, now_ns);
    fm_id_heap_set(&ledger->deadlines, record_id(ledger, record) * LEASES + index,
                   record->leases[index].deadline_ns);
    if (index + 1 == record->lease_count) {
        record->shard.deadline_ns = record->leases[index].deadline_ns;
    }
    return 0;
}

int fm_ledger_release(struct fm_ledger *ledger, uint64_t number, uint64_t owner, uint64_t epoch)
{
    uint32_t index = 0;
    struct record *record = lease_find(ledger, number, owner, epoch, &index);
    if (record == NULL) {
        return FM_ECANCELLED;
    }
    lease_remove(ledger, record, index);
    if (record->lease_count == 0) {
        record->not_before_ns = 0;
        record->shard.condemned = is_condemned(ledger, &record->shard, 0);
        record_change_state(ledger, record, FM_SHARD_READY);
    }
    ledger->stats.releases++;
    return 0;
}

/* What lies behind the first `rows` rows of a shard, as a shard of its own. */
static struct fm_shard rest_of(const struct fm_ledger *ledger, const struct fm_shard *shard,
                               uint64_t rows)
{
    struct fm_shard rest = {.number = ledger->next_number,
                            .first_row = shard->first_row + rows,
                            .row_count = shard->row_count - rows,
                            .epoch = ledger->options.epoch_first,
                            .state = FM_SHARD_READY};
    memcpy(rest.failures, shard->failures, sizeof(rest.failures));
    rest.condemned = is_condemned(ledger, &rest, 0);
    return rest;
}

int fm_ledger_commit(struct fm_ledger *ledger, uint64_t number, uint64_t owner, uint64_t epoch,
                     uint64_t rows_out, uint64_t dead_letters, struct fm_shard *ret_rest)
{
    uint32_t index = 0;
    struct record *record = lease_find(ledger, number, owner, epoch, &index);
    if (record == NULL) {
        return FM_ECANCELLED;
    }
    uint64_t rows = rows_out + dead_letters;
    if (rows == 0 || rows < rows_out || rows > record->shard.row_count) {
        return FM_EINVAL;
    }
    /* The shard's own record is about to be free, so that a rest always has one. */
    int status = fm_row_ranges_add(&ledger->done, record->shard.first_row, rows);
    FM_ASSERT(status == 0 || status == FM_ENOMEM);
    if (status != 0) {
        return status;
    }
    struct fm_shard rest = rest_of(ledger, &record->shard, rows);
    record_end(ledger, record);
    if (rest.row_count > 0) {
        (void)record_add(ledger, &rest);
    }
    ledger->rows_out += rows_out;
    ledger->dead_letters += dead_letters;
    ledger->stats.commits++;
    *ret_rest = rest;
    return 0;
}

int fm_ledger_trim(struct fm_ledger *ledger, uint64_t number, uint64_t owner, uint64_t epoch,
                   uint64_t keep_rows, struct fm_shard *ret_shard, struct fm_shard *ret_rest)
{
    uint32_t index = 0;
    struct record *record = lease_find(ledger, number, owner, epoch, &index);
    if (record == NULL) {
        return FM_ECANCELLED;
    }
    if (keep_rows == 0 || keep_rows >= record->shard.row_count || record->lease_count != 1) {
        return FM_EINVAL;
    }
    if (records_reserve(ledger, 1) != 0) {
        return FM_ENOMEM;
    }
    record = record_find(ledger, number);
    struct fm_shard rest = rest_of(ledger, &record->shard, keep_rows);
    record->shard.row_count = keep_rows;
    (void)record_add(ledger, &rest);
    ledger->stats.trims++;
    *ret_shard = record->shard;
    *ret_rest = rest;
    return 0;
}

int fm_ledger_fail(struct fm_ledger *ledger, uint64_t now_ns, uint64_t number, uint64_t owner,
                   uint64_t epoch, enum fm_shard_failure failure,
                   struct fm_ledger_outcome *ret_outcome)
{
    uint32_t index = 0;
    struct record *record = lease_find(ledger, number, owner, epoch, &index);
    if (record == NULL) {
        return FM_ECANCELLED;
    }
    lease_fail(ledger, now_ns, record, index, failure, ret_outcome);
    return 0;
}

bool fm_ledger_expire(struct fm_ledger *ledger, uint64_t now_ns,
                      struct fm_ledger_outcome *ret_outcome)
{
    delayed_wake(ledger, now_ns);
    if (ledger->options.lease_ns == 0 || fm_id_heap_empty(&ledger->deadlines) ||
        fm_id_heap_first(&ledger->deadlines).key > now_ns) {
        return false;
    }
    uint32_t slot = fm_id_heap_first(&ledger->deadlines).id;
    lease_fail(ledger, now_ns, &ledger->records[slot / LEASES], slot % LEASES,
               FM_SHARD_FAILURE_INFRASTRUCTURE, ret_outcome);
    ret_outcome->expired = true;
    ledger->stats.expiries++;
    return true;
}

/* --- Questions --- */

uint64_t fm_ledger_next_ns(const struct fm_ledger *ledger)
{
    uint64_t next_ns = UINT64_MAX;
    if (ledger->options.lease_ns > 0 && !fm_id_heap_empty(&ledger->deadlines)) {
        next_ns = fm_id_heap_first(&ledger->deadlines).key;
    }
    if (!fm_id_heap_empty(&ledger->delayed) && fm_id_heap_first(&ledger->delayed).key < next_ns) {
        next_ns = fm_id_heap_first(&ledger->delayed).key;
    }
    return next_ns;
}

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
    proof.complete = ledger->closed && proof.rows_in == proof.rows_out + proof.dead_letters &&
                     proof.rows_dead == 0 && proof.rows_missing == 0;
    *ret_proof = proof;
}

void fm_ledger_stats(const struct fm_ledger *ledger, struct fm_ledger_stats *ret_stats)
{
    *ret_stats = ledger->stats;
    ret_stats->open_shards = ledger->open_count;
    ret_stats->ready_suspects = ledger->suspects.count;
    ret_stats->leases = ledger->lease_count;
    ret_stats->done_ranges = ledger->done.count;
    ret_stats->rows_unclaimed = ledger->rows_unclaimed;
}

static void record_show(const struct record *record, struct fm_shard *ret_shard,
                        struct fm_lease *ret_leases, uint32_t *ret_lease_count)
{
    *ret_shard = record->shard;
    if (ret_leases != NULL) {
        memcpy(ret_leases, record->leases, sizeof(record->leases));
        *ret_lease_count = record->lease_count;
    }
}

bool fm_ledger_open_shard(const struct fm_ledger *ledger, uint64_t index,
                          struct fm_shard *ret_shard,
                          struct fm_lease ret_leases[FM_LEDGER_LEASES_OF_ONE_MAX],
                          uint32_t *ret_lease_count)
{
    if (index >= ledger->open_count) {
        return false;
    }
    record_show(&ledger->records[ledger->entries[index].id], ret_shard, ret_leases,
                ret_lease_count);
    return true;
}

bool fm_ledger_find(const struct fm_ledger *ledger, uint64_t number, struct fm_shard *ret_shard,
                    struct fm_lease ret_leases[FM_LEDGER_LEASES_OF_ONE_MAX],
                    uint32_t *ret_lease_count)
{
    const struct record *record = record_find(ledger, number);
    if (record != NULL) {
        record_show(record, ret_shard, ret_leases, ret_lease_count);
    }
    return record != NULL;
}

bool fm_ledger_finished(const struct fm_ledger *ledger)
{
    return ledger->closed && ledger->open_count == 0 && ledger->rows_unclaimed == 0;
}

bool fm_ledger_all_claimed(const struct fm_ledger *ledger)
{
    return ledger->closed && ledger->rows_unclaimed == 0 && ledger->ready.count == 0 &&
           ledger->suspects.count == 0 && ledger->delayed.count == 0;
}

static void record_validate(const struct fm_ledger *ledger, const struct record *record)
{
    const struct fm_shard *shard = &record->shard;
    uint32_t id = record_id(ledger, record);
    FM_ASSERT(shard->row_count > 0);
    FM_ASSERT(shard->number < ledger->next_number);
    FM_ASSERT(shard->state != FM_SHARD_READY || shard->condemned == is_condemned(ledger, shard, 0));
    int queues = (fm_id_heap_holds(&ledger->ready, id) ? 1 : 0) +
                 (fm_id_heap_holds(&ledger->suspects, id) ? 1 : 0) +
                 (fm_id_heap_holds(&ledger->delayed, id) ? 1 : 0);
    FM_ASSERT(queues == (shard->state == FM_SHARD_READY ? 1 : 0));
    FM_ASSERT(!fm_id_heap_holds(&ledger->suspects, id) || fm_shard_suspect(shard));
    FM_ASSERT(!fm_id_heap_holds(&ledger->ready, id) || !fm_shard_suspect(shard));
    FM_ASSERT((shard->state == FM_SHARD_LEASED) == (record->lease_count > 0));
    for (uint32_t i = 0; i < LEASES; i++) {
        FM_ASSERT(fm_id_heap_holds(&ledger->deadlines, id * LEASES + i) ==
                  (i < record->lease_count));
        FM_ASSERT(i >= record->lease_count || record->leases[i].epoch <= shard->epoch);
        FM_ASSERT(i == 0 || i >= record->lease_count ||
                  record->leases[i - 1].epoch < record->leases[i].epoch);
    }
}

void fm_ledger_validate(const struct fm_ledger *ledger)
{
    uint32_t leases = 0;
    for (uint32_t i = 0; i < ledger->open_count; i++) {
        const struct record *record = &ledger->records[ledger->entries[i].id];
        FM_ASSERT(record->shard.number == ledger->entries[i].number);
        FM_ASSERT(i == 0 || ledger->entries[i - 1].number < ledger->entries[i].number);
        record_validate(ledger, record);
        leases += record->lease_count;
    }
    FM_ASSERT(leases == ledger->lease_count);
    FM_ASSERT(ledger->open_count + ledger->free_count == ledger->capacity);
    FM_ASSERT(fm_id_heap_validate(&ledger->ready));
    FM_ASSERT(fm_id_heap_validate(&ledger->suspects));
    FM_ASSERT(fm_id_heap_validate(&ledger->delayed));
    FM_ASSERT(fm_id_heap_validate(&ledger->deadlines));
    FM_ASSERT(fm_row_ranges_validate(&ledger->done));
    FM_ASSERT(fm_row_ranges_validate(&ledger->dead));
    FM_ASSERT(ledger->rows_out + ledger->dead_letters == ledger->done.rows);
    FM_ASSERT(rows_check(ledger) == 0);
}
