/*
 * Deadline order as a skip list. See request_queue.h.
 */
#include "core/sched/request_queue.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

#define LEVELS FM_REQUEST_QUEUE_LEVELS
#define END    FM_REQUEST_QUEUE_END
#define LINE   64u

_Static_assert(sizeof(struct fm_request_node) == LINE / 2, "a node never lies on two lines");

int fm_request_table_init(struct fm_request_table *table, uint32_t slot_count)
{
    *table = (struct fm_request_table){.slot_count = slot_count};
    table->memory =
        fm_alloc_zero((size_t)slot_count + LINE / sizeof *table->nodes, sizeof *table->nodes);
    if (table->memory == NULL) {
        return FM_ENOMEM;
    }
    uintptr_t begin = (uintptr_t)table->memory;
    table->nodes = (void *)((unsigned char *)table->memory + (LINE - begin % LINE) % LINE);
    for (uint32_t i = 0; i < slot_count; i++) {
        table->nodes[i].owner = FM_REQUEST_OWNER_NONE;
    }
    return 0;
}

void fm_request_table_deinit(struct fm_request_table *table)
{
    fm_free(table->memory);
    *table = (struct fm_request_table){0};
}

void fm_request_queue_init(struct fm_request_queue *queue)
{
    queue->last_deadline_ns = 0;
    queue->count = 0;
    queue->appended = 0;
    for (unsigned level = 0; level < LEVELS; level++) {
        queue->first[level] = END;
        queue->last[level] = END;
    }
}

static bool before(const struct fm_request_node *left, const struct fm_request_node *right)
{
    if (left->deadline_ns != right->deadline_ns) {
        return left->deadline_ns < right->deadline_ns;
    }
    if (left->priority != right->priority) {
        return left->priority < right->priority;
    }
    return left->sequence < right->sequence;
}

/* 1 to LEVELS, each further level with probability 1/16. */
static uint32_t levels_of(uint64_t sequence)
{
    uint64_t hash = sequence * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    hash >>= 40;
    uint32_t count = 1;
    while (count < LEVELS && (hash & 15) == 0) {
        count++;
        hash >>= 4;
    }
    return count;
}

static uint32_t *link_of(struct fm_request_queue *queue, struct fm_request_table *table,
                         uint32_t previous, unsigned level)
{
    return previous == END ? &queue->first[level] : &table->nodes[previous].next[level];
}

/* The last slot before `node` on every level; END: the queue's beginning. */
static void find(const struct fm_request_queue *queue, const struct fm_request_table *table,
                 const struct fm_request_node *node, uint32_t *ret_previous)
{
    uint32_t previous = END;
    for (unsigned level = LEVELS; level-- > 0;) {
        uint32_t next = previous == END ? queue->first[level] : table->nodes[previous].next[level];
        while (next != END && before(&table->nodes[next], node)) {
            previous = next;
            next = table->nodes[next].next[level];
        }
        ret_previous[level] = previous;
    }
}

void fm_request_queue_insert(struct fm_request_queue *queue, struct fm_request_table *table,
                             uint32_t slot, bool keep_sequence)
{
    FM_ASSERT(slot < table->slot_count);
    struct fm_request_node *node = &table->nodes[slot];
    if (!keep_sequence) {
        node->sequence = ++table->sequence;
    }
    uint32_t level_count = levels_of(node->sequence);
    node->level_count = level_count & 3;
    uint32_t found[LEVELS];
    const uint32_t *previous = queue->last;
    if (queue->count > 0 && node->deadline_ns <= queue->last_deadline_ns &&
        before(node, &table->nodes[queue->last[0]])) {
        find(queue, table, node, found);
        previous = found;
        queue->appended = 0;
    } else {
        /* Whatever is not surely in this queue any more may be anybody's. */
        uint32_t *recent = &queue->recent[queue->appended % FM_REQUEST_QUEUE_AHEAD];
        if (queue->appended >= FM_REQUEST_QUEUE_AHEAD && queue->count >= FM_REQUEST_QUEUE_AHEAD) {
            fm_request_table_note(table, *recent, slot);
        }
        *recent = slot;
        queue->appended++;
    }
    if (previous == queue->last) {
        queue->last_deadline_ns = node->deadline_ns;
    }
    for (unsigned level = 0; level < level_count; level++) {
        uint32_t *link = link_of(queue, table, previous[level], level);
        node->next[level] = previous == queue->last ? END : *link;
        *link = slot;
        if (node->next[level] == END) {
            queue->last[level] = slot;
        }
    }
    queue->count++;
}

uint32_t fm_request_queue_pop(struct fm_request_queue *queue, struct fm_request_table *table)
{
    FM_ASSERT(queue->count > 0);
    uint32_t slot = queue->first[0];
    const struct fm_request_node *node = &table->nodes[slot];
    fm_request_table_fetch(table, slot);
    for (unsigned level = 0; level < node->level_count; level++) {
        queue->first[level] = node->next[level];
        if (node->next[level] == END) {
            queue->last[level] = END;
        }
    }
    queue->count--;
    return slot;
}

void fm_request_queue_remove(struct fm_request_queue *queue, struct fm_request_table *table,
                             uint32_t slot)
{
    FM_ASSERT(slot < table->slot_count);
    const struct fm_request_node *node = &table->nodes[slot];
    uint32_t previous[LEVELS];
    find(queue, table, node, previous);
    queue->appended = 0;
    for (unsigned level = 0; level < node->level_count; level++) {
        uint32_t *link = link_of(queue, table, previous[level], level);
        FM_ASSERT(*link == slot);
        *link = node->next[level];
        if (node->next[level] == END) {
            queue->last[level] = previous[level];
        }
    }
    queue->count--;
    if (queue->count > 0) {
        queue->last_deadline_ns = table->nodes[queue->last[0]].deadline_ns;
    }
}

bool fm_request_queue_validate(const struct fm_request_queue *queue,
                               const struct fm_request_table *table)
{
    for (unsigned level = 0; level < LEVELS; level++) {
        uint32_t count = 0;
        uint32_t last = END;
        for (uint32_t slot = queue->first[level]; slot != END;
             slot = table->nodes[slot].next[level]) {
            if (slot >= table->slot_count || count++ > queue->count ||
                table->nodes[slot].level_count <= level ||
                (last != END && !before(&table->nodes[last], &table->nodes[slot]))) {
                return false;
            }
            last = slot;
        }
        if (last != queue->last[level] || (level == 0 && count != queue->count)) {
            return false;
        }
    }
    return queue->count == 0 || table->nodes[queue->last[0]].deadline_ns == queue->last_deadline_ns;
}
