/*
 * The requests that wait for a model, in the order of their deadlines.
 *
 * Owns: the order. Slots and their links live in one table shared by all queues
 * (fm_request_table); a slot is in at most one queue. Does not own: what a request is. Thread rule:
 * pure; one thread at a time for a queue and for the slots in it. Copies of a table share its
 * nodes, so that threads with queues of their own may use one memory.
 *
 * HOW IT WORKS. A skip list over slots (Pugh, 1990) of three levels: a request whose deadline is
 * the latest so far is appended in O(1), which is every request where all deadlines are arrival +
 * SLO; any other finds its place in O(length / 256 + 32) expected. Of equal deadlines the more
 * important priority goes first, then the one that came first. Levels come from a hash of the
 * sequence number, so the same requests give the same list. A queue's slots lie anywhere in memory;
 * a node without a link on the top level names there the slot that was appended AHEAD after it, of
 * which nothing is believed but that it may be worth fetching. LIMITATIONS. Beyond some 100,000
 * requests in one queue out-of-order insertion grows linear (with 1/256).
 */
#ifndef FM_CORE_SCHED_REQUEST_QUEUE_H
#define FM_CORE_SCHED_REQUEST_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_REQUEST_QUEUE_LEVELS 3u
#define FM_REQUEST_QUEUE_AHEAD  8u
#define FM_REQUEST_QUEUE_END    UINT32_MAX
#define FM_REQUEST_OWNER_NONE   0xfffffu

/* Half a cache line: whoever schedules a million of them a second waits for these. */
struct fm_request_node {
    uint64_t deadline_ns;
    uint64_t sequence;   /* order of arrival */
    uint32_t owner : 20; /* the user's: the model, or a mark that the slot is not queued */
    uint32_t attempts : 8;
    uint32_t priority : 2;
    uint32_t level_count : 2;
    uint32_t next[FM_REQUEST_QUEUE_LEVELS];
};

struct fm_request_table {
    struct fm_request_node *nodes; /* by slot; lies on cache lines */
    void *memory;                  /* what they lie in */
    uint32_t slot_count;
    uint64_t sequence; /* of the last insertion */
};

struct fm_request_queue {
    uint64_t last_deadline_ns; /* unless it is empty */
    uint32_t first[FM_REQUEST_QUEUE_LEVELS];
    uint32_t last[FM_REQUEST_QUEUE_LEVELS]; /* END: empty on this level */
    uint32_t count;
    uint32_t appended;                       /* in a row: nothing else has changed the order */
    uint32_t recent[FM_REQUEST_QUEUE_AHEAD]; /* the last that were */
};

/* All slots are nobody's (FM_REQUEST_OWNER_NONE). FM_ENOMEM. */
int FM_NODISCARD fm_request_table_init(struct fm_request_table *table, uint32_t slot_count);
void fm_request_table_deinit(struct fm_request_table *table); /* accepts a zeroed one */

void fm_request_queue_init(struct fm_request_queue *queue);
/* Inserts a slot whose deadline_ns and priority are set. `keep_sequence`: it comes back to where
 * its first arrival put it. */
void fm_request_queue_insert(struct fm_request_queue *queue, struct fm_request_table *table,
                             uint32_t slot, bool keep_sequence);
/* Takes the earliest out; the queue must not be empty. */
uint32_t fm_request_queue_pop(struct fm_request_queue *queue, struct fm_request_table *table);
/* Takes any out; it must be in this queue. */
void fm_request_queue_remove(struct fm_request_queue *queue, struct fm_request_table *table,
                             uint32_t slot);

static inline void fm_request_node_own(struct fm_request_node *node, uint32_t owner)
{
    node->owner = owner & FM_REQUEST_OWNER_NONE;
}

/* Fetches what was noted to come AHEAD after a slot. */
static inline void fm_request_table_fetch(const struct fm_request_table *table, uint32_t slot)
{
    uint32_t ahead = table->nodes[slot].next[FM_REQUEST_QUEUE_LEVELS - 1];
    if (ahead < table->slot_count) {
        __builtin_prefetch(&table->nodes[ahead], 1);
    }
}

/* Notes it, where the node has no use for the place. */
static inline void fm_request_table_note(struct fm_request_table *table, uint32_t slot,
                                         uint32_t ahead)
{
    if (table->nodes[slot].level_count < FM_REQUEST_QUEUE_LEVELS) {
        table->nodes[slot].next[FM_REQUEST_QUEUE_LEVELS - 1] = ahead;
    }
}

static inline uint32_t fm_request_queue_first(const struct fm_request_queue *queue)
{
    return queue->first[0];
}

bool fm_request_queue_validate(const struct fm_request_queue *queue,
                               const struct fm_request_table *table);

#endif
