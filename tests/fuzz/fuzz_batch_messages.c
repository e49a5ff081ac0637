/*
 * Fuzzes core/proto/batch_messages: reading any bytes stays inside them and ends in a message that
 * makes sense or an error in words; what is read can be written, and reads the same again. The
 * first byte chooses the direction.
 */
#include <string.h>

#include "core/proto/batch_accelerators.h"
#include "core/proto/batch_messages.h"
#include "core/util/error.h"
#include "tests/fuzz/check.h"

/* Where the message that is read lies. */
struct place {
    const char *begin;
    const char *end;
};

static void check_view(const struct place *place, struct fm_batch_view view)
{
    FUZZ_CHECK(view.data != NULL);
    FUZZ_CHECK(view.size == 0 || (view.data >= place->begin && view.data <= place->end &&
                                  view.size <= (size_t)(place->end - view.data)));
}

static void check_rows(const struct place *place, const struct fm_batch_grant *grant)
{
    struct fm_batch_rows rows = grant->rows;
    struct fm_batch_row row;
    uint64_t count = 0;
    while (fm_batch_rows_next(&rows, &row)) {
        check_view(place, row.id);
        FUZZ_CHECK(row.id.size > 0 && !fm_fuzz_canary);
        FUZZ_CHECK(row.point_row <= row.first_row);
        FUZZ_CHECK(row.first_row + row.row_count >= row.first_row);
        count += row.row_count > 0 ? row.row_count : 1;
    }
    FUZZ_CHECK(count == grant->shard.row_count && grant->shard.epoch > 0);
    FUZZ_CHECK(!grant->shard.condemned || count == 1);
    check_view(place, grant->reason);
}

static void check_facts(const struct place *place, const struct fm_batch_welcome *welcome)
{
    struct fm_batch_facts facts = welcome->facts;
    struct fm_batch_fact fact;
    while (fm_batch_facts_next(&facts, &fact)) {
        check_view(place, fact.key);
        check_view(place, fact.value);
        FUZZ_CHECK(fact.key.size > 0);
    }
    check_view(place, welcome->job_text);
    FUZZ_CHECK(welcome->beat_ns < welcome->lease_ns);
    FUZZ_CHECK(welcome->halvings <= FM_CREW_HALVINGS_MAX);
}

static int read_master(const struct place *place, struct fm_batch_master_message *ret_message,
                       struct fm_error *error)
{
    int status = fm_batch_master_message_read(place->begin, (size_t)(place->end - place->begin),
                                              ret_message, error);
    if (status == 0 && ret_message->kind == FM_BATCH_MASTER_GRANT) {
        check_rows(place, &ret_message->grant);
    } else if (status == 0 && ret_message->kind == FM_BATCH_MASTER_WELCOME) {
        check_facts(place, &ret_message->welcome);
    }
    return status;
}

static int read_worker(const struct place *place, struct fm_batch_worker_message *ret_message,
                       struct fm_error *error)
{
    int status = fm_batch_worker_message_read(place->begin, (size_t)(place->end - place->begin),
                                              ret_message, error);
    if (status == 0 && ret_message->kind == FM_BATCH_WORKER_JOIN) {
        check_view(place, ret_message->join.host);
        check_view(place, ret_message->join.name);
    } else if (status == 0 && ret_message->kind == FM_BATCH_WORKER_HELLO) {
        FUZZ_CHECK(ret_message->hello.holdings.count <= FM_MASTER_SHARDS_OF_ONE_MAX);
        FUZZ_CHECK(ret_message->hello.shards_max <= FM_MASTER_SHARDS_OF_ONE_MAX);
    } else if (status == 0 && ret_message->kind == FM_BATCH_WORKER_BEAT) {
        FUZZ_CHECK(ret_message->beat.slowest_share >= 0 && ret_message->beat.slowest_share <= 1);
        check_view(place, ret_message->beat.slowest_stage);
        check_view(place, ret_message->beat.tuned.batches);
        for (uint32_t i = 0; i < ret_message->beat.stages.count; i++) {
            check_view(place, ret_message->beat.stages.items[i].name);
        }
        check_view(place, ret_message->beat.tuned.accelerators);
        struct fm_batch_view text = ret_message->beat.tuned.accelerators;
        struct fm_batch_accelerator accelerator;
        while (fm_batch_accelerator_next(&text, &accelerator)) {
            check_view(place, accelerator.name);
        }
        check_view(place, ret_message->beat.last_error);
        check_view(place, ret_message->beat.long_stage);
    } else if (status == 0 && ret_message->kind == FM_BATCH_WORKER_LEAVE) {
        FUZZ_CHECK((uint32_t)ret_message->leave.cause < FM_CREW_CAUSE_COUNT_);
    }
    return status;
}

/* Reads the message and writes it. */
static int rewrite(bool worker, const struct place *place, struct fm_text *text,
                   struct fm_error *error)
{
    struct fm_batch_worker_message from_worker;
    struct fm_batch_master_message from_master;
    fm_error_init(error);
    int status =
        worker ? read_worker(place, &from_worker, error) : read_master(place, &from_master, error);
    if (status != 0) {
        FUZZ_CHECK(error->status == status && error->text[0] != '\0');
        return status;
    }
    status = worker ? fm_batch_worker_message_write(text, &from_worker)
                    : fm_batch_master_message_write(text, &from_master);
    FUZZ_CHECK(status == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    bool worker = (data[0] & 1u) == 0;
    const struct place place = {(const char *)data + 1, (const char *)data + size};
    struct fm_error error;
    struct fm_text text = {0};
    struct fm_text again = {0};
    if (rewrite(worker, &place, &text, &error) == 0) {
        const struct place written = {text.data, text.data + text.length};
        FUZZ_CHECK(rewrite(worker, &written, &again, &error) == 0);
        FUZZ_CHECK(again.length == text.length && memcmp(again.data, text.data, text.length) == 0);
    }
    fm_text_deinit(&again);
    fm_text_deinit(&text);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

#define SEED(bytes)              \
    {                            \
        bytes, sizeof(bytes) - 1 \
    }

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const struct {
        const char *bytes;
        size_t size;
    } seeds[] = {
        /* A Grant with three rows, a Welcome with a fact, and the small ones of the master. */
        SEED("\x01\x12\x3E\x0A\x0B\x08\x03\x10\x80\x01\x18\x03\x20\x02\x30\x01\x1A\x0F\x0A\x0B"
             "pages/1.jpg\x10\x00\x1A\x0D\x0A\x0Bpages/2.jpg\x1A\x0F\x0A\x02\xFF\x00\x10"
             "\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
        SEED("\x01\x12\x15\x0A\x06\x18\x01\x20\x02\x28\x01\x12\x04why?\x1A\x05\x0A\x01x\x10\x09"),
        SEED("\x01\x0A\x28\x08\x01\x12\x03ocr\x1A\x03/j/\x22\x02{}\x2A\x02/o\x32\x08\x0A\x03key"
             "\x12\x01v\x38\x01\x40\x03\x48\x02\x52\x02/b"),
        SEED("\x01\x1A\x04\x08\x01\x10\x02"),
        SEED("\x01\x2A\x06\x08\x01\x10\x02\x18\x03"),
        SEED("\x01\x32\x02\x08\x01"),
        SEED("\x01\x3A\x00"),
        SEED("\x01\x0A\x0E\x08\x01\x38\x01\x40\x03\x48\x02\x58\x80\x80\x04\x60\x03"),
        SEED("\x01\x32\x04\x08\x01\x10\x01"),
        SEED("\x01\x3A\x0F\x08\xF7\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x12\x02no"),
        /* What workers say. */
        SEED("\x00\x0A\x12\x08\x01\x12\x03\x30.1\x1A\x01h\x20\x67\x2A\x04name"),
        SEED("\x00\x12\x27\x09\x10\x20\x30\x40\x50\x60\x70\x80\x10\x10\x1A\x02\x10\x01\x1A\x16"
             "\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x10\xAC\x02\x18\xF0\xA2\x04\x20\xF0"
             "\xA2\x04"),
        SEED("\x00\x1A\x1B\x0A\x08\x08\x01\x10\x02\x18\x05\x20\x01\x10\x80\x01\x1A\x01s\x21\x00"
             "\x00\x00\x00\x00\x00\xE0\x3F\x28\x64"),
        SEED("\x00\x22\x1E\x08\x01\x10\x02\x18\x05\x20\x01\x28\x09\x31"
             "12345678\x38\x09\x41"
             "12345678"),
        SEED("\x00\x2A\x0A\x08\x01\x10\x02\x18\x01\x22\x02no"),
        SEED("\x00\x32\x02\x10\x01"),
        SEED("\x00\x3A\x04\x10\x01\x18\x01"),
        SEED("\x00\x42\x0D\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x12\x00"),
        SEED("\x00\x42\x02\x18\x03"),
        SEED("\x00\x12\x0D\x09\x10\x20\x30\x40\x50\x60\x70\x80\x10\x10\x20\x01"),
    };
    if (index >= sizeof(seeds) / sizeof(seeds[0]) || seeds[index].size > capacity) {
        return 0;
    }
    memcpy(data, seeds[index].bytes, seeds[index].size);
    return seeds[index].size;
}
