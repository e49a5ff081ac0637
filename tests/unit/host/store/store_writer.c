/*
 * The thread that stores: order, several pushes in one transaction, failure, the end. The store is
 * one that keeps what it is given, and that a test can hold.
 *
 * Thread rule: the test's thread pushes, the writer's is in `put` and in `stored`; `lab` has a
 * mutex.
 */
#include "host/store/store_writer.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { KEPT_MAX = 4096, CALLS_MAX = 4096 };

struct call {
    uint64_t sequence;
    int status;
    char text[64];
    size_t kept; /* records that the store had by then */
};

static struct {
    struct fm_job_store store;
    struct fm_mutex mutex;
    struct fm_condition changed;
    size_t held;   /* puts from this one on (from 1) wait; 0: none does */
    size_t failed; /* puts from this one on (from 1) fail; 0: none does */
    bool silent;   /* without words */
    size_t puts_begun;
    size_t puts;
    size_t put_counts[CALLS_MAX];
    uint64_t kept[KEPT_MAX]; /* numbers of shards */
    size_t kept_count;
    struct call calls[CALLS_MAX];
    size_t call_count;
} lab;

static int put(struct fm_job_store *store, const struct fm_shard_record *records, size_t count,
               struct fm_error *reterr)
{
    (void)store;
    fm_mutex_lock(&lab.mutex);
    size_t which = ++lab.puts_begun;
    fm_condition_broadcast(&lab.changed);
    while (lab.held > 0 && which >= lab.held) {
        fm_condition_wait(&lab.changed, &lab.mutex);
    }
    int status = lab.failed > 0 && which >= lab.failed ? FM_ENOSPC : 0;
    if (status == 0) {
        lab.put_counts[lab.puts++] = count;
        for (size_t i = 0; i < count; i++) {
            lab.kept[lab.kept_count++] = records[i].shard.number;
        }
    } else if (!lab.silent) {
        (void)fm_error_set(reterr, status, "the disk is full");
    }
    fm_mutex_unlock(&lab.mutex);
    return status;
}

static void stored(void *context, uint64_t sequence, int status, const struct fm_error *error)
{
    struct call call = {.sequence = sequence, .status = status};
    (void)snprintf(call.text, sizeof(call.text), "%.63s", error != NULL ? error->text : "");
    fm_mutex_lock(&lab.mutex);
    call.kept = lab.kept_count;
    lab.calls[lab.call_count++] = context == &lab ? call : (struct call){0};
    fm_condition_broadcast(&lab.changed);
    fm_mutex_unlock(&lab.mutex);
}

static struct fm_store_writer *writer_start(size_t held)
{
    static const struct fm_job_store_functions functions = {.name = "lab", .put = put};
    struct fm_store_writer *writer = NULL;
    memset(&lab, 0, sizeof(lab));
    lab.store.functions = &functions;
    lab.held = held;
    fm_mutex_init(&lab.mutex);
    fm_condition_init(&lab.changed);
    return fm_store_writer_start(&lab.store, stored, &lab, &writer, NULL) == 0 ? writer : NULL;
}

static void writer_end(struct fm_store_writer *writer)
{
    fm_store_writer_stop(writer);
    fm_condition_deinit(&lab.changed);
    fm_mutex_deinit(&lab.mutex);
}

/* Shards number `first` and following, as sequences first + 1 to first + count. */
static int push(struct fm_store_writer *writer, uint64_t first, size_t count)
{
    struct fm_shard_record records[16] = {0};
    for (size_t i = 0; i < count; i++) {
        records[i].shard.number = first + i;
    }
    return fm_store_writer_push(writer, records, count, first + count);
}

static void wait_for(const size_t *counter, size_t value)
{
    fm_mutex_lock(&lab.mutex);
    while (*counter < value) {
        fm_condition_wait(&lab.changed, &lab.mutex);
    }
    fm_mutex_unlock(&lab.mutex);
}

static void hold_from(size_t which)
{
    fm_mutex_lock(&lab.mutex);
    lab.held = which;
    fm_condition_broadcast(&lab.changed);
    fm_mutex_unlock(&lab.mutex);
}

TEST(a_lone_push_is_stored_at_once)
{
    struct fm_store_writer *writer = writer_start(0);
    CHECK(writer != NULL);
    CHECK_INT_EQ(push(writer, 0, 3), 0);
    wait_for(&lab.call_count, 1);
    CHECK_UINT_EQ(lab.calls[0].sequence, 3);
    CHECK_INT_EQ(lab.calls[0].status, 0);
    CHECK_STR_EQ(lab.calls[0].text, "");
    CHECK_UINT_EQ(lab.calls[0].kept, 3);
    CHECK_UINT_EQ(fm_store_writer_waiting(writer), 0);
    writer_end(writer);
    CHECK_UINT_EQ(lab.call_count, 1);
}

TEST(what_is_pushed_meanwhile_is_one_transaction)
{
    struct fm_store_writer *writer = writer_start(1);
    CHECK(writer != NULL);
    CHECK_INT_EQ(push(writer, 0, 1), 0);
    wait_for(&lab.puts_begun, 1);
    for (uint64_t i = 1; i < 40; i += 3) {
        CHECK_INT_EQ(push(writer, i, 3), 0);
    }
    CHECK_UINT_EQ(fm_store_writer_waiting(writer), 39);
    CHECK_UINT_EQ(lab.call_count, 0);
    hold_from(0);
    wait_for(&lab.call_count, 2);
    CHECK_UINT_EQ(lab.puts, 2);
    CHECK_UINT_EQ(lab.put_counts[0], 1);
    CHECK_UINT_EQ(lab.put_counts[1], 39);
    CHECK_UINT_EQ(lab.calls[0].sequence, 1);
    CHECK_UINT_EQ(lab.calls[1].sequence, 40);
    for (size_t i = 0; i < 40; i++) {
        CHECK_UINT_EQ(lab.kept[i], i);
    }
    writer_end(writer);
}

TEST(whatever_the_timing_order_and_sequences_are_right)
{
    struct fm_store_writer *writer = writer_start(0);
    uint64_t pushed = 0;
    CHECK(writer != NULL);
    for (size_t i = 0; pushed < 3000; i++) {
        CHECK_INT_EQ(push(writer, pushed, i % 7 + 1), 0);
        pushed += i % 7 + 1;
    }
    writer_end(writer);
    CHECK_UINT_EQ(lab.kept_count, pushed);
    for (size_t i = 0; i < lab.kept_count; i++) {
        CHECK_UINT_EQ(lab.kept[i], i);
    }
    CHECK_UINT_EQ(lab.call_count, lab.puts);
    CHECK_UINT_EQ(lab.calls[lab.call_count - 1].sequence, pushed);
    for (size_t i = 0; i < lab.call_count; i++) {
        CHECK_INT_EQ(lab.calls[i].status, 0);
        CHECK(i == 0 || lab.calls[i].sequence > lab.calls[i - 1].sequence);
        /* Numbers are sequences less one: exactly what is told is stored. */
        CHECK_UINT_EQ(lab.calls[i].kept, lab.calls[i].sequence);
    }
}

TEST(stop_stores_what_waits)
{
    struct fm_store_writer *writer = writer_start(1);
    CHECK(writer != NULL);
    CHECK_INT_EQ(push(writer, 0, 2), 0);
    wait_for(&lab.puts_begun, 1);
    CHECK_INT_EQ(push(writer, 2, 5), 0);
    CHECK_INT_EQ(push(writer, 7, 4), 0);
    hold_from(0);
    writer_end(writer);
    CHECK_UINT_EQ(lab.kept_count, 11);
    CHECK_UINT_EQ(lab.calls[lab.call_count - 1].sequence, 11);
    fm_store_writer_stop(NULL);
}

TEST(after_a_failure_nothing_is_stored)
{
    for (int silent = 0; silent < 2; silent++) {
        struct fm_store_writer *writer = writer_start(2);
        CHECK(writer != NULL);
        lab.failed = 2;
        lab.silent = silent == 1;
        CHECK_INT_EQ(push(writer, 0, 1), 0);
        wait_for(&lab.call_count, 1);
        CHECK_INT_EQ(push(writer, 1, 2), 0);
        wait_for(&lab.puts_begun, 2);
        CHECK_INT_EQ(push(writer, 3, 4), 0); /* waits when the failure happens */
        hold_from(0);
        wait_for(&lab.call_count, 2);
        CHECK_UINT_EQ(lab.calls[1].sequence, 3);
        CHECK_INT_EQ(lab.calls[1].status, FM_ENOSPC);
        CHECK_STR_CONTAINS(lab.calls[1].text, silent == 1 ? "cannot be stored" : "is full");
        CHECK_INT_EQ(push(writer, 7, 1), FM_ENOSPC);
        CHECK_INT_EQ(push(writer, 7, 1), FM_ENOSPC);
        CHECK_UINT_EQ(fm_store_writer_waiting(writer), 0);
        writer_end(writer);
        CHECK_UINT_EQ(lab.kept_count, 1);
        CHECK_UINT_EQ(lab.puts_begun, 2);
        CHECK_UINT_EQ(lab.call_count, 2);
    }
}

TEST(too_many_are_refused_until_there_is_room)
{
    static const struct fm_shard_record many[FM_STORE_WRITER_RECORDS_MAX + 1];
    struct fm_store_writer *writer = writer_start(1);
    CHECK(writer != NULL);
    CHECK_INT_EQ(push(writer, 0, 1), 0);
    wait_for(&lab.puts_begun, 1);
    CHECK_INT_EQ(push(writer, 1, 1), 0);
    uint64_t rest = FM_STORE_WRITER_RECORDS_MAX - 1;
    CHECK_INT_EQ(fm_store_writer_push(writer, many, rest + 1, rest + 3), FM_EAGAIN);
    CHECK_UINT_EQ(fm_store_writer_waiting(writer), 1);
    CHECK_INT_EQ(fm_store_writer_push(writer, many, rest, rest + 2), 0);
    CHECK_INT_EQ(push(writer, rest + 2, 1), FM_EAGAIN);
    CHECK_UINT_EQ(fm_store_writer_waiting(writer), FM_STORE_WRITER_RECORDS_MAX);
    lab.failed = 2; /* the lab has no room for so many */
    hold_from(0);
    writer_end(writer);
    CHECK_UINT_EQ(lab.kept_count, 1);
}

TEST(one_push_above_the_maximum_is_taken_alone)
{
    static const struct fm_shard_record many[FM_STORE_WRITER_RECORDS_MAX + 1];
    uint64_t count = FM_COUNT_OF(many);
    struct fm_store_writer *writer = writer_start(1);
    CHECK(writer != NULL);
    lab.failed = 2;
    CHECK_INT_EQ(push(writer, 0, 1), 0);
    wait_for(&lab.puts_begun, 1);
    CHECK_INT_EQ(fm_store_writer_push(writer, many, count, 1 + count), 0);
    CHECK_INT_EQ(push(writer, 1 + count, 1), FM_EAGAIN);
    hold_from(0);
    writer_end(writer);
}

TEST(out_of_memory_changes_nothing)
{
    struct fm_store_writer *writer = NULL;
    struct fm_error error = {0};
    static const struct fm_job_store_functions functions = {.name = "lab", .put = put};
    struct fm_job_store store = {.functions = &functions};
    /* The writer, and what its thread is started with. */
    for (uint64_t at = 1; at <= 2; at++) {
        (void)fm_memory_fail_at(at, 0);
        CHECK_INT_EQ(fm_store_writer_start(&store, stored, &lab, &writer, &error), FM_ENOMEM);
        CHECK_INT_EQ(error.status, FM_ENOMEM);
        CHECK(writer == NULL);
    }
    writer = writer_start(1);
    CHECK(writer != NULL);
    CHECK_INT_EQ(push(writer, 0, 1), 0);
    wait_for(&lab.puts_begun, 1);
    (void)fm_memory_fail_at(1, 1);
    CHECK_INT_EQ(push(writer, 1, 2), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    CHECK_UINT_EQ(fm_store_writer_waiting(writer), 0);
    CHECK_INT_EQ(push(writer, 1, 2), 0);
    (void)fm_memory_fail_at(1, 1);
    CHECK_INT_EQ(push(writer, 3, 16), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    hold_from(0);
    writer_end(writer);
    CHECK_UINT_EQ(lab.kept_count, 3);
    CHECK_UINT_EQ(lab.calls[lab.call_count - 1].sequence, 3);
}

TEST_MAIN()
