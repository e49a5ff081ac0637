/*
 * request_queue against a sorted array.
 */
#include "core/sched/request_queue.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { SLOTS = 10000 };

static struct fm_request_table table;
static uint32_t sorted[SLOTS];
static uint32_t sorted_count;
static uint32_t out[SLOTS]; /* slots not queued, a stack */
static uint32_t out_count;
static bool was_in[SLOTS];

static bool naive_before(uint32_t left, uint32_t right)
{
    const struct fm_request_node *a = &table.nodes[left];
    const struct fm_request_node *b = &table.nodes[right];
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns
           : a->priority != b->priority     ? a->priority < b->priority
                                            : a->sequence < b->sequence;
}

static void naive_insert(uint32_t slot)
{
    uint32_t low = 0;
    uint32_t high = sorted_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (naive_before(sorted[middle], slot)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    memmove(&sorted[low + 1], &sorted[low], (sorted_count - low) * sizeof *sorted);
    sorted[low] = slot;
    sorted_count++;
}

static void naive_remove(uint32_t index)
{
    out[out_count++] = sorted[index];
    memmove(&sorted[index], &sorted[index + 1], (sorted_count - index - 1) * sizeof *sorted);
    sorted_count--;
}

static void compare(const struct fm_request_queue *queue)
{
    CHECK(fm_request_queue_validate(queue, &table));
    CHECK_UINT_EQ(queue->count, sorted_count);
    uint32_t slot = fm_request_queue_first(queue);
    for (uint32_t i = 0; i < sorted_count; i++) {
        CHECK_UINT_EQ(slot, sorted[i]);
        slot = table.nodes[slot].next[0];
    }
    CHECK_UINT_EQ(slot, FM_REQUEST_QUEUE_END);
}

static void begin(struct fm_request_queue *queue)
{
    CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
    fm_request_queue_init(queue);
    memset(was_in, 0, sizeof was_in);
    sorted_count = 0;
    out_count = SLOTS;
    for (uint32_t i = 0; i < SLOTS; i++) {
        CHECK_UINT_EQ(table.nodes[i].owner, FM_REQUEST_OWNER_NONE);
        out[i] = SLOTS - 1 - i;
    }
}

/* A slot that was queued before comes back where it was, half the time. */
static void insert_one(struct fm_request_queue *queue, struct fm_random *random, uint64_t deadline)
{
    uint32_t index = (uint32_t)fm_random_below(random, out_count);
    uint32_t slot = out[index];
    out[index] = out[--out_count];
    bool keep = was_in[slot] && fm_random_below(random, 2) == 0;
    uint64_t sequence = table.nodes[slot].sequence;
    if (!keep) {
        table.nodes[slot].deadline_ns = deadline;
        table.nodes[slot].priority = fm_random_below(random, 4) & 3;
    }
    fm_request_queue_insert(queue, &table, slot, keep);
    CHECK_UINT_EQ(table.nodes[slot].sequence, keep ? sequence : table.sequence);
    was_in[slot] = true;
    naive_insert(slot);
}

static void run(uint64_t seed, uint32_t length, uint32_t steps, uint64_t deadlines)
{
    struct fm_request_queue queue;
    struct fm_random random;
    fm_random_init(&random, seed);
    begin(&queue);
    for (uint32_t step = 0; step < steps; step++) {
        bool grow = sorted_count < length && fm_random_below(&random, 3) > 0;
        if (sorted_count == 0 || (grow && out_count > 0)) {
            /* Deadlines that grow with time, and a few that do not. */
            uint64_t spread = fm_random_below(&random, deadlines);
            insert_one(&queue, &random, deadlines > 10 && spread % 4 > 0 ? step : spread);
        } else if (fm_random_below(&random, 2) == 0) {
            CHECK_UINT_EQ(fm_request_queue_pop(&queue, &table), sorted[0]);
            naive_remove(0);
        } else {
            uint32_t index = (uint32_t)fm_random_below(&random, sorted_count);
            fm_request_queue_remove(&queue, &table, sorted[index]);
            naive_remove(index);
        }
        if (step % 997 == 0 || (length < 100 && step % 7 == 0)) {
            compare(&queue);
        }
        CHECK_INT_EQ(fm_test_failed, 0);
    }
    compare(&queue);
    while (sorted_count > 0) {
        CHECK_UINT_EQ(fm_request_queue_pop(&queue, &table), sorted[0]);
        naive_remove(0);
    }
    compare(&queue);
    fm_request_table_deinit(&table);
}

TEST(short_queues_are_in_order)
{
    run(1, 3, 3000, 3);
    run(2, 40, 5000, 1000000);
    run(3, 40, 5000, 1); /* all deadlines equal: priority, then arrival */
}

TEST(ten_thousand_are_in_order)
{
    run(4, SLOTS, 40000, 50000);
    run(5, SLOTS, 40000, 5);
}

/* Several queues over one table. */
TEST(queues_of_one_table_do_not_mix)
{
    struct fm_request_queue queues[4];
    CHECK_INT_EQ(fm_request_table_init(&table, SLOTS), 0);
    for (uint32_t i = 0; i < 4; i++) {
        fm_request_queue_init(&queues[i]);
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        table.nodes[slot].deadline_ns = slot * UINT64_C(7919) % 1000;
        fm_request_queue_insert(&queues[slot % 4], &table, slot, false);
    }
    for (uint32_t i = 0; i < 4; i++) {
        CHECK(fm_request_queue_validate(&queues[i], &table));
        uint64_t last_ns = 0;
        while (queues[i].count > 0) {
            uint32_t slot = fm_request_queue_pop(&queues[i], &table);
            CHECK_UINT_EQ(slot % 4, i);
            CHECK(table.nodes[slot].deadline_ns >= last_ns);
            last_ns = table.nodes[slot].deadline_ns;
        }
    }
    fm_request_table_deinit(&table);
}

TEST(validate_sees_what_is_wrong)
{
    struct fm_request_queue queue;
    struct fm_random random;
    fm_random_init(&random, 6);
    begin(&queue);
    for (uint32_t i = 0; i < 20; i++) {
        insert_one(&queue, &random, i);
    }
    CHECK(fm_request_queue_validate(&queue, &table));
    table.nodes[sorted[5]].deadline_ns = 1000;
    CHECK(!fm_request_queue_validate(&queue, &table));
    table.nodes[sorted[5]].deadline_ns = 5;
    queue.count++;
    CHECK(!fm_request_queue_validate(&queue, &table));
    queue.count--;
    CHECK(fm_request_queue_validate(&queue, &table));
    fm_request_table_deinit(&table);
}

TEST(no_memory_is_said)
{
    (void)fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_request_table_init(&table, 100), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    fm_request_table_deinit(&table);
}

TEST_MAIN()
