/*
 * When tasks would begin in FIFO order. See fifo_shadow.h.
 */
#include "core/bench/fifo_shadow.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

struct entry {
    struct fm_job_ability needed;
    uint64_t arrival_ns;
    uint64_t length_ns;
    uint64_t begin_ns;
    uint64_t sequence; /* order of arrival */
    uint32_t next;     /* in its lane, or in the list of free ones */
    bool there;
    bool ended; /* in truth */
};

/* Entries in order of arrival. */
struct line {
    uint32_t first;
    uint32_t last;
};

struct lane {
    struct line line;
    struct fm_job_ability ability;
    uint64_t free_ns; /* when the last entry that was forgotten ended */
    bool open;
};

struct fm_fifo_shadow {
    struct entry *entries;
    struct lane *lanes;
    struct line stranded; /* no lane can take these */
    uint64_t sequence;
    uint32_t entries_max;
    uint32_t lanes_max;
    uint32_t turn; /* the lane that is next in turn */
    uint32_t free;
    uint32_t count;
};

static const struct line line_empty = {FM_FIFO_SHADOW_NONE, FM_FIFO_SHADOW_NONE};

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static struct entry *entry_of(struct fm_fifo_shadow *shadow, uint32_t index)
{
    FM_ASSERT(index < shadow->entries_max && shadow->entries[index].there);
    return &shadow->entries[index];
}

int fm_fifo_shadow_create(uint32_t lanes_max, uint32_t entries_max,
                          struct fm_fifo_shadow **ret_shadow)
{
    struct fm_fifo_shadow *shadow = fm_alloc_zero(1, sizeof(*shadow));
    *ret_shadow = NULL;
    if (shadow == NULL) {
        return FM_ENOMEM;
    }
    shadow->entries = fm_alloc_zero(entries_max, sizeof(*shadow->entries));
    shadow->lanes = fm_alloc_zero(lanes_max, sizeof(*shadow->lanes));
    if (shadow->entries == NULL || shadow->lanes == NULL) {
        fm_fifo_shadow_destroy(shadow);
        return FM_ENOMEM;
    }
    shadow->entries_max = entries_max;
    shadow->lanes_max = lanes_max;
    shadow->stranded = line_empty;
    for (uint32_t i = 0; i < entries_max; i++) {
        shadow->entries[i].next = i + 1 < entries_max ? i + 1 : FM_FIFO_SHADOW_NONE;
    }
    shadow->free = entries_max > 0 ? 0 : FM_FIFO_SHADOW_NONE;
    *ret_shadow = shadow;
    return 0;
}

void fm_fifo_shadow_destroy(struct fm_fifo_shadow *shadow)
{
    if (shadow != NULL) {
        fm_free(shadow->entries);
        fm_free(shadow->lanes);
        fm_free(shadow);
    }
}

/* --- Lines --- */

static void line_push(struct fm_fifo_shadow *shadow, struct line *line, uint32_t index)
{
    shadow->entries[index].next = FM_FIFO_SHADOW_NONE;
    if (line->first == FM_FIFO_SHADOW_NONE) {
        line->first = index;
    } else {
        shadow->entries[line->last].next = index;
    }
    line->last = index;
}

static uint32_t line_take(struct fm_fifo_shadow *shadow, struct line *line)
{
    uint32_t index = line->first;
    line->first = shadow->entries[index].next;
    if (line->first == FM_FIFO_SHADOW_NONE) {
        line->last = FM_FIFO_SHADOW_NONE;
    }
    return index;
}

/* Where it belongs by its arrival: only what is dealt anew comes before others. */
static void line_insert(struct fm_fifo_shadow *shadow, struct line *line, uint32_t index)
{
    uint64_t sequence = shadow->entries[index].sequence;
    uint32_t before = FM_FIFO_SHADOW_NONE;
    if (line->first == FM_FIFO_SHADOW_NONE || shadow->entries[line->last].sequence < sequence) {
        line_push(shadow, line, index);
        return;
    }
    for (uint32_t at = line->first; shadow->entries[at].sequence < sequence;
         at = shadow->entries[at].next) {
        before = at;
    }
    if (before == FM_FIFO_SHADOW_NONE) {
        shadow->entries[index].next = line->first;
        line->first = index;
    } else {
        shadow->entries[index].next = shadow->entries[before].next;
        shadow->entries[before].next = index;
    }
}

static void entry_forget(struct fm_fifo_shadow *shadow, uint32_t index)
{
    shadow->entries[index].there = false;
    shadow->entries[index].next = shadow->free;
    shadow->free = index;
    shadow->count--;
}

/* --- Dealing --- */

static void deal(struct fm_fifo_shadow *shadow, uint32_t index)
{
    struct entry *entry = &shadow->entries[index];
    for (uint32_t i = 0; i < shadow->lanes_max; i++) {
        uint32_t at = (shadow->turn + i) % shadow->lanes_max;
        struct lane *lane = &shadow->lanes[at];
        if (lane->open && fm_job_ability_suffices(&lane->ability, &entry->needed)) {
            shadow->turn = (at + 1) % shadow->lanes_max;
            line_insert(shadow, &lane->line, index);
            return;
        }
    }
    entry->begin_ns = UINT64_MAX;
    line_insert(shadow, &shadow->stranded, index);
}

static void deal_again(struct fm_fifo_shadow *shadow, struct line line)
{
    while (line.first != FM_FIFO_SHADOW_NONE) {
        uint32_t index = line_take(shadow, &line);
        if (shadow->entries[index].ended) {
            entry_forget(shadow, index);
        } else {
            deal(shadow, index);
        }
    }
}

void fm_fifo_shadow_open(struct fm_fifo_shadow *shadow, uint64_t now_ns, uint32_t index,
                         const struct fm_job_ability *ability)
{
    FM_ASSERT(index < shadow->lanes_max && !shadow->lanes[index].open);
    struct line stranded = shadow->stranded;
    shadow->lanes[index] =
        (struct lane){.line = line_empty, .ability = *ability, .free_ns = now_ns, .open = true};
    shadow->stranded = line_empty;
    deal_again(shadow, stranded);
}

void fm_fifo_shadow_close(struct fm_fifo_shadow *shadow, uint64_t now_ns, uint32_t index)
{
    FM_ASSERT(index < shadow->lanes_max && shadow->lanes[index].open);
    fm_fifo_shadow_look(shadow, now_ns);
    struct line line = shadow->lanes[index].line;
    shadow->lanes[index].open = false;
    shadow->lanes[index].line = line_empty;
    deal_again(shadow, line);
}

uint32_t fm_fifo_shadow_add(struct fm_fifo_shadow *shadow, uint64_t now_ns,
                            const struct fm_job_ability *needed, uint64_t length_ns)
{
    uint32_t index = shadow->free;
    if (index == FM_FIFO_SHADOW_NONE) {
        return FM_FIFO_SHADOW_NONE;
    }
    shadow->free = shadow->entries[index].next;
    shadow->count++;
    shadow->entries[index] = (struct entry){.needed = *needed,
                                            .arrival_ns = now_ns,
                                            .length_ns = length_ns,
                                            .begin_ns = now_ns,
                                            .sequence = shadow->sequence++,
                                            .there = true};
    deal(shadow, index);
    return index;
}

void fm_fifo_shadow_expect(struct fm_fifo_shadow *shadow, uint32_t index, uint64_t length_ns)
{
    entry_of(shadow, index)->length_ns = length_ns;
}

void fm_fifo_shadow_end(struct fm_fifo_shadow *shadow, uint32_t index, uint64_t length_ns)
{
    struct entry *entry = entry_of(shadow, index);
    entry->length_ns = length_ns;
    entry->ended = true;
}

/* --- Time --- */

static void lane_look(struct fm_fifo_shadow *shadow, uint64_t now_ns, struct lane *lane)
{
    while (lane->line.first != FM_FIFO_SHADOW_NONE) {
        const struct entry *entry = &shadow->entries[lane->line.first];
        uint64_t begin_ns = lane->free_ns > entry->arrival_ns ? lane->free_ns : entry->arrival_ns;
        uint64_t end_ns = add_saturating(begin_ns, entry->length_ns);
        if (!entry->ended || end_ns > now_ns) {
            break;
        }
        lane->free_ns = end_ns;
        entry_forget(shadow, line_take(shadow, &lane->line));
    }
    uint64_t free_ns = lane->free_ns;
    for (uint32_t at = lane->line.first; at != FM_FIFO_SHADOW_NONE; at = shadow->entries[at].next) {
        struct entry *entry = &shadow->entries[at];
        entry->begin_ns = free_ns > entry->arrival_ns ? free_ns : entry->arrival_ns;
        free_ns = add_saturating(entry->begin_ns, entry->length_ns);
    }
}

/* Those that ended without a device that could take them: cancelled. */
static void stranded_look(struct fm_fifo_shadow *shadow)
{
    struct line line = shadow->stranded;
    shadow->stranded = line_empty;
    while (line.first != FM_FIFO_SHADOW_NONE) {
        uint32_t index = line_take(shadow, &line);
        if (shadow->entries[index].ended) {
            entry_forget(shadow, index);
        } else {
            line_push(shadow, &shadow->stranded, index);
        }
    }
}

void fm_fifo_shadow_look(struct fm_fifo_shadow *shadow, uint64_t now_ns)
{
    for (uint32_t i = 0; i < shadow->lanes_max; i++) {
        if (shadow->lanes[i].open) {
            lane_look(shadow, now_ns, &shadow->lanes[i]);
        }
    }
    stranded_look(shadow);
}

uint64_t fm_fifo_shadow_begin_ns(const struct fm_fifo_shadow *shadow, uint32_t index)
{
    FM_ASSERT(index < shadow->entries_max && shadow->entries[index].there);
    return shadow->entries[index].begin_ns;
}

uint32_t fm_fifo_shadow_count(const struct fm_fifo_shadow *shadow)
{
    return shadow->count;
}

static uint32_t line_validate(const struct fm_fifo_shadow *shadow, const struct line *line)
{
    uint32_t count = 0;
    uint32_t last = FM_FIFO_SHADOW_NONE;
    for (uint32_t at = line->first; at != FM_FIFO_SHADOW_NONE; at = shadow->entries[at].next) {
        FM_ASSERT(shadow->entries[at].there);
        FM_ASSERT(last == FM_FIFO_SHADOW_NONE ||
                  shadow->entries[last].sequence < shadow->entries[at].sequence);
        last = at;
        count++;
    }
    FM_ASSERT(last == line->last);
    return count;
}

void fm_fifo_shadow_validate(const struct fm_fifo_shadow *shadow)
{
    uint32_t count = line_validate(shadow, &shadow->stranded);
    for (uint32_t i = 0; i < shadow->lanes_max; i++) {
        if (shadow->lanes[i].open) {
            count += line_validate(shadow, &shadow->lanes[i].line);
        }
    }
    FM_ASSERT(count == shadow->count);
}
