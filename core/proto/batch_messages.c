/*
 * The messages between a batch master and its workers. See batch_messages.h. Pure.
 *
 * HOW IT WORKS. A table says once which fields a message has and where in its struct they belong;
 * one walker reads by it, and another writes. What a table cannot say (numbers that contradict each
 * other) is checked on the finished struct, after reading and before writing.
 */
#include "core/proto/batch_messages.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "core/proto/protobuf.h"
#include "core/util/assert.h"
#include "core/util/error.h"

struct fm_batch_view fm_batch_view_of(const char *text)
{
    return (struct fm_batch_view){.data = text, .size = strlen(text)};
}

void fm_batch_view_copy(struct fm_batch_view view, char *ret_text, size_t size)
{
    size_t length = view.size < size ? view.size : size - 1;
    memcpy(ret_text, view.data != NULL ? view.data : "", length);
    ret_text[length] = '\0';
}

/* --- What the messages look like --- */

enum member_kind {
    MEMBER_UINT64,
    MEMBER_OPTIONAL_UINT64, /* UINT64_MAX: absent */
    MEMBER_UINT32,
    MEMBER_INT32,
    MEMBER_BOOL,
    MEMBER_FLAG, /* a bool on the wire, a uint32_t in the struct */
    MEMBER_FIXED64,
    MEMBER_DOUBLE,
    MEMBER_TEXT,
    /* Messages inside a message; all but SHARD are repeated. */
    MEMBER_HOLDINGS,
    MEMBER_STAGES,
    MEMBER_SHARD,
    MEMBER_FACTS,
    MEMBER_ROWS,
    MEMBER_KIND_COUNT_
};

struct member {
    uint32_t number;
    enum member_kind kind;
    size_t offset;
    size_t bytes_max; /* TEXT */
    const char *name;
};

struct layout {
    const char *name;
    const struct member *members;
    size_t member_count;
};

#define LAYOUT(name, members)               \
    {                                       \
        name, members, FM_COUNT_OF(members) \
    }
#define MEMBER(number, type, name, kind)             \
    {                                                \
        number, kind, offsetof(type, name), 0, #name \
    }
#define TEXT(number, type, name, bytes_max)                         \
    {                                                               \
        number, MEMBER_TEXT, offsetof(type, name), bytes_max, #name \
    }

static const struct member holding_members[] = {
    MEMBER(1, struct fm_master_holding, number, MEMBER_UINT64),
    MEMBER(2, struct fm_master_holding, epoch, MEMBER_UINT64),
    MEMBER(3, struct fm_master_holding, rows_done, MEMBER_UINT64),
    MEMBER(4, struct fm_master_holding, rows_bad, MEMBER_UINT64),
};

static const struct member stage_members[] = {
    TEXT(1, struct fm_batch_stage, name, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(2, struct fm_batch_stage, busy, MEMBER_DOUBLE),
};

static const struct member join_members[] = {
    MEMBER(1, struct fm_batch_join, protocol_version, MEMBER_UINT32),
    TEXT(2, struct fm_batch_join, fermata_version, FM_BATCH_NAME_BYTES_MAX),
    TEXT(3, struct fm_batch_join, host, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(4, struct fm_batch_join, process, MEMBER_UINT32),
    TEXT(5, struct fm_batch_join, name, FM_BATCH_NAME_BYTES_MAX),
};

static const struct member hello_members[] = {
    MEMBER(1, struct fm_batch_hello, worker, MEMBER_FIXED64),
    MEMBER(2, struct fm_batch_hello, shards_max, MEMBER_UINT32),
    MEMBER(3, struct fm_batch_hello, holdings, MEMBER_HOLDINGS),
    MEMBER(4, struct fm_batch_hello, single, MEMBER_BOOL),
};

static const struct member beat_members[] = {
    MEMBER(1, struct fm_batch_beat, holdings, MEMBER_HOLDINGS),
    MEMBER(2, struct fm_batch_beat, memory_bytes, MEMBER_UINT64),
    TEXT(3, struct fm_batch_beat, slowest_stage, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(4, struct fm_batch_beat, slowest_share, MEMBER_DOUBLE),
    MEMBER(5, struct fm_batch_beat, rows_per_minute, MEMBER_UINT64),
    TEXT(6, struct fm_batch_beat, last_error, FM_BATCH_REASON_BYTES_MAX),
    TEXT(7, struct fm_batch_beat, long_stage, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(8, struct fm_batch_beat, long_ns, MEMBER_UINT64),
    MEMBER(9, struct fm_batch_beat, tuned.readers, MEMBER_UINT32),
    MEMBER(10, struct fm_batch_beat, tuned.operators, MEMBER_UINT32),
    MEMBER(11, struct fm_batch_beat, tuned.rows, MEMBER_UINT32),
    TEXT(12, struct fm_batch_beat, tuned.batches, FM_BATCH_REASON_BYTES_MAX),
    MEMBER(13, struct fm_batch_beat, memory.budget, MEMBER_UINT64),
    MEMBER(14, struct fm_batch_beat, memory.base, MEMBER_UINT64),
    MEMBER(15, struct fm_batch_beat, memory.used, MEMBER_UINT64),
    MEMBER(16, struct fm_batch_beat, memory.most, MEMBER_UINT64),
    MEMBER(17, struct fm_batch_beat, memory.rows, MEMBER_UINT64),
    MEMBER(18, struct fm_batch_beat, stages, MEMBER_STAGES),
    TEXT(19, struct fm_batch_beat, tuned.accelerators, FM_BATCH_REASON_BYTES_MAX),
};

static const struct member done_members[] = {
    MEMBER(1, struct fm_master_done, number, MEMBER_UINT64),
    MEMBER(2, struct fm_master_done, epoch, MEMBER_UINT64),
    MEMBER(3, struct fm_master_done, rows_out, MEMBER_UINT64),
    MEMBER(4, struct fm_master_done, dead_letters, MEMBER_UINT64),
    MEMBER(5, struct fm_master_done, files.part_bytes, MEMBER_UINT64),
    MEMBER(6, struct fm_master_done, files.part_checksum, MEMBER_FIXED64),
    MEMBER(7, struct fm_master_done, files.letters_bytes, MEMBER_UINT64),
    MEMBER(8, struct fm_master_done, files.letters_checksum, MEMBER_FIXED64),
};

static_assert(sizeof(enum fm_shard_failure) == sizeof(uint32_t), "it is read and written as one");
static const struct member failed_members[] = {
    MEMBER(1, struct fm_batch_failed, number, MEMBER_UINT64),
    MEMBER(2, struct fm_batch_failed, epoch, MEMBER_UINT64),
    MEMBER(3, struct fm_batch_failed, failure, MEMBER_UINT32),
    TEXT(4, struct fm_batch_failed, reason, FM_BATCH_REASON_BYTES_MAX),
};

static const struct member lease_members[] = {
    MEMBER(1, struct fm_batch_lease, number, MEMBER_UINT64),
    MEMBER(2, struct fm_batch_lease, epoch, MEMBER_UINT64),
};

static const struct member trim_members[] = {
    MEMBER(1, struct fm_batch_trim, number, MEMBER_UINT64),
    MEMBER(2, struct fm_batch_trim, epoch, MEMBER_UINT64),
    MEMBER(3, struct fm_batch_trim, keep_rows, MEMBER_UINT64),
};

static_assert(sizeof(enum fm_crew_cause) == sizeof(uint32_t), "it is read and written as one");
static const struct member leave_members[] = {
    MEMBER(1, struct fm_batch_leave, status, MEMBER_INT32),
    TEXT(2, struct fm_batch_leave, reason, FM_BATCH_REASON_BYTES_MAX),
    MEMBER(3, struct fm_batch_leave, cause, MEMBER_UINT32),
};

static const struct member fact_members[] = {
    TEXT(1, struct fm_batch_fact, key, FM_BATCH_NAME_BYTES_MAX),
    TEXT(2, struct fm_batch_fact, value, FM_BATCH_FACT_BYTES_MAX),
};

enum { WELCOME_FACTS = 6, GRANT_ROWS = 3 };

static const struct member welcome_members[] = {
    MEMBER(1, struct fm_batch_welcome, protocol_version, MEMBER_UINT32),
    TEXT(2, struct fm_batch_welcome, job, FM_BATCH_NAME_BYTES_MAX),
    TEXT(3, struct fm_batch_welcome, job_file, FM_BATCH_PATH_BYTES_MAX),
    TEXT(4, struct fm_batch_welcome, job_text, FM_BATCH_JOB_BYTES_MAX),
    TEXT(5, struct fm_batch_welcome, output, FM_BATCH_PATH_BYTES_MAX),
    MEMBER(WELCOME_FACTS, struct fm_batch_welcome, facts, MEMBER_FACTS),
    MEMBER(7, struct fm_batch_welcome, beat_ns, MEMBER_UINT64),
    MEMBER(8, struct fm_batch_welcome, give_up_ns, MEMBER_UINT64),
    MEMBER(9, struct fm_batch_welcome, lease_ns, MEMBER_UINT64),
    TEXT(10, struct fm_batch_welcome, base, FM_BATCH_PATH_BYTES_MAX),
    MEMBER(11, struct fm_batch_welcome, memory_bytes, MEMBER_UINT64),
    MEMBER(12, struct fm_batch_welcome, halvings, MEMBER_UINT32),
    MEMBER(13, struct fm_batch_welcome, sharers, MEMBER_UINT32),
};

/* Suspect is a shard that failed for its data, see fm_shard_suspect. */
static const struct member shard_members[] = {
    MEMBER(1, struct fm_shard, number, MEMBER_UINT64),
    MEMBER(2, struct fm_shard, first_row, MEMBER_UINT64),
    MEMBER(3, struct fm_shard, row_count, MEMBER_UINT64),
    MEMBER(4, struct fm_shard, epoch, MEMBER_UINT64),
    MEMBER(5, struct fm_shard, condemned, MEMBER_BOOL),
    MEMBER(6, struct fm_shard, failures[FM_SHARD_FAILURE_DATA], MEMBER_FLAG),
};

static const struct member row_members[] = {
    TEXT(1, struct fm_batch_row, id, FM_BATCH_ID_BYTES_MAX),
    MEMBER(2, struct fm_batch_row, size, MEMBER_OPTIONAL_UINT64),
    MEMBER(3, struct fm_batch_row, row_count, MEMBER_UINT64),
    MEMBER(4, struct fm_batch_row, first_row, MEMBER_UINT64),
    MEMBER(5, struct fm_batch_row, point_row, MEMBER_UINT64),
    MEMBER(6, struct fm_batch_row, point_offset, MEMBER_UINT64),
    MEMBER(7, struct fm_batch_row, point_line, MEMBER_UINT64),
};

static const struct member grant_members[] = {
    MEMBER(1, struct fm_batch_grant, shard, MEMBER_SHARD),
    TEXT(2, struct fm_batch_grant, reason, FM_BATCH_REASON_BYTES_MAX),
    MEMBER(GRANT_ROWS, struct fm_batch_grant, rows, MEMBER_ROWS),
};

static const struct member stop_members[] = {
    MEMBER(1, struct fm_batch_stop, drop, MEMBER_BOOL),
    MEMBER(2, struct fm_batch_stop, again, MEMBER_BOOL),
};

static const struct member end_members[] = {
    MEMBER(1, struct fm_batch_end, status, MEMBER_INT32),
    TEXT(2, struct fm_batch_end, reason, FM_BATCH_REASON_BYTES_MAX),
};

static const struct layout holding_layout = LAYOUT("Holding", holding_members);
static const struct layout stage_layout = LAYOUT("StageUse", stage_members);
static const struct layout shard_layout = LAYOUT("Shard", shard_members);
static const struct layout fact_layout = LAYOUT("Fact", fact_members);
static const struct layout row_layout = LAYOUT("Row", row_members);

/* The number of a kind's field is the kind and 1. */
static const struct layout worker_layouts[FM_BATCH_WORKER_COUNT_] = {
    [FM_BATCH_WORKER_JOIN] = LAYOUT("Join", join_members),
    [FM_BATCH_WORKER_HELLO] = LAYOUT("Hello", hello_members),
    [FM_BATCH_WORKER_BEAT] = LAYOUT("Beat", beat_members),
    [FM_BATCH_WORKER_DONE] = LAYOUT("Done", done_members),
    [FM_BATCH_WORKER_FAILED] = LAYOUT("Failed", failed_members),
    [FM_BATCH_WORKER_RELEASED] = LAYOUT("Released", lease_members),
    [FM_BATCH_WORKER_TRIMMED] = LAYOUT("Trimmed", trim_members),
    [FM_BATCH_WORKER_LEAVE] = LAYOUT("Leave", leave_members),
};

static const struct layout master_layouts[FM_BATCH_MASTER_COUNT_] = {
    [FM_BATCH_MASTER_WELCOME] = LAYOUT("Welcome", welcome_members),
    [FM_BATCH_MASTER_GRANT] = LAYOUT("Grant", grant_members),
    [FM_BATCH_MASTER_COMMITTED] = LAYOUT("Committed", lease_members),
    [FM_BATCH_MASTER_REFUSED] = LAYOUT("Refused", lease_members),
    [FM_BATCH_MASTER_TRIM] = LAYOUT("Trim", trim_members),
    [FM_BATCH_MASTER_STOP] = LAYOUT("Stop", stop_members),
    [FM_BATCH_MASTER_END] = LAYOUT("End", end_members),
};

const char *fm_batch_worker_kind_name(enum fm_batch_worker_kind kind)
{
    FM_ASSERT(kind < FM_BATCH_WORKER_COUNT_);
    return worker_layouts[kind].name;
}

const char *fm_batch_master_kind_name(enum fm_batch_master_kind kind)
{
    FM_ASSERT(kind < FM_BATCH_MASTER_COUNT_);
    return master_layouts[kind].name;
}

/* --- What makes no sense --- */

static int check_lease(const char *name, uint64_t epoch, struct fm_error *reterr)
{
    return epoch > 0 ? 0
                     : fm_error_set(reterr, FM_EINVAL,
                                    "the message %s is of the epoch 0, and they begin at 1", name);
}

static int check_holdings(const char *name, const struct fm_batch_holdings *holdings,
                          struct fm_error *reterr)
{
    if (holdings->count > FM_MASTER_SHARDS_OF_ONE_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "the message %s has more than %u holdings", name,
                            FM_MASTER_SHARDS_OF_ONE_MAX);
    }
    for (uint32_t i = 0; i < holdings->count; i++) {
        const struct fm_master_holding *holding = &holdings->items[i];
        int status = check_lease(name, holding->epoch, reterr);
        if (status != 0) {
            return status;
        }
        if (holding->rows_bad > holding->rows_done) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the message %s has %" PRIu64 " bad rows among %" PRIu64
                                " finished ones of shard %" PRIu64,
                                name, holding->rows_bad, holding->rows_done, holding->number);
        }
        for (uint32_t before = 0; before < i; before++) {
            if (holdings->items[before].number == holding->number) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "the message %s holds shard %" PRIu64 " twice", name,
                                    holding->number);
            }
        }
    }
    return 0;
}

static int check_hello(const struct fm_batch_hello *hello, struct fm_error *reterr)
{
    if (hello->worker == 0) {
        return fm_error_set(reterr, FM_EINVAL, "the message Hello lacks the worker's number");
    }
    if (hello->shards_max == 0 || hello->shards_max > FM_MASTER_SHARDS_OF_ONE_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Hello wants up to %" PRIu32
                            " shards at once: 1 to %u are possible",
                            hello->shards_max, FM_MASTER_SHARDS_OF_ONE_MAX);
    }
    return check_holdings("Hello", &hello->holdings, reterr);
}

static int check_beat(const struct fm_batch_beat *beat, struct fm_error *reterr)
{
    if (!(beat->slowest_share >= 0 && beat->slowest_share <= 1)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Beat has the slowest_share %g: it is 0 to 1",
                            beat->slowest_share);
    }
    for (uint32_t i = 0; i < beat->stages.count && i < FM_BATCH_STAGES_MAX; i++) {
        const struct fm_batch_stage *stage = &beat->stages.items[i];
        if (stage->name.size == 0 || !(stage->busy >= 0 && stage->busy <= 1)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the message Beat has a stage that lacks a name, or is busy for "
                                "%g of its time: that is 0 to 1",
                                stage->busy);
        }
    }
    return beat->stages.count <= FM_BATCH_STAGES_MAX
               ? check_holdings("Beat", &beat->holdings, reterr)
               : fm_error_set(reterr, FM_ELIMIT, "the message Beat has more than %u stages",
                              FM_BATCH_STAGES_MAX);
}

static int check_done(const struct fm_master_done *done, struct fm_error *reterr)
{
    if (done->rows_out > UINT64_MAX - done->dead_letters ||
        done->rows_out + done->dead_letters == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Done is of %" PRIu64 " rows and %" PRIu64
                            " dead letters: together they are 1 at least, and no more than can "
                            "be counted",
                            done->rows_out, done->dead_letters);
    }
    if (done->dead_letters == 0 && done->files.letters_bytes > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Done has a dead-letter part of %" PRIu64
                            " bytes without dead letters",
                            done->files.letters_bytes);
    }
    return check_lease("Done", done->epoch, reterr);
}

static int check_failed(const struct fm_batch_failed *failed, struct fm_error *reterr)
{
    if ((uint32_t)failed->failure >= FM_SHARD_FAILURE_COUNT_) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Failed has the failure %" PRIu32 ", which is not known",
                            (uint32_t)failed->failure);
    }
    return check_lease("Failed", failed->epoch, reterr);
}

static int check_leave(const struct fm_batch_leave *leave, struct fm_error *reterr)
{
    return (uint32_t)leave->cause < FM_CREW_CAUSE_COUNT_
               ? 0
               : fm_error_set(reterr, FM_EINVAL,
                              "the message Leave has the cause %" PRIu32 ", which is not known",
                              (uint32_t)leave->cause);
}

static int check_version(const char *name, uint32_t version, struct fm_error *reterr)
{
    return version > 0 ? 0
                       : fm_error_set(reterr, FM_EINVAL,
                                      "the message %s lacks the version of the protocol", name);
}

static int check_worker(const struct fm_batch_worker_message *message, struct fm_error *reterr)
{
    switch (message->kind) {
    case FM_BATCH_WORKER_JOIN:
        return check_version("Join", message->join.protocol_version, reterr);
    case FM_BATCH_WORKER_HELLO:
        return check_hello(&message->hello, reterr);
    case FM_BATCH_WORKER_BEAT:
        return check_beat(&message->beat, reterr);
    case FM_BATCH_WORKER_DONE:
        return check_done(&message->done, reterr);
    case FM_BATCH_WORKER_FAILED:
        return check_failed(&message->failed, reterr);
    case FM_BATCH_WORKER_RELEASED:
        return check_lease("Released", message->released.epoch, reterr);
    case FM_BATCH_WORKER_TRIMMED:
        if (message->trimmed.keep_rows == 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the message Trimmed keeps no row: that is said by Released");
        }
        return check_lease("Trimmed", message->trimmed.epoch, reterr);
    case FM_BATCH_WORKER_LEAVE:
        return check_leave(&message->leave, reterr);
    case FM_BATCH_WORKER_COUNT_:
        break;
    }
    return 0;
}

static int check_welcome(const struct fm_batch_welcome *welcome, struct fm_error *reterr)
{
    if (welcome->beat_ns == 0 || welcome->beat_ns >= welcome->lease_ns ||
        welcome->give_up_ns == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Welcome has beat_ns %" PRIu64 ", lease_ns %" PRIu64
                            " and give_up_ns %" PRIu64
                            ": a beat comes within a lease, and none is 0",
                            welcome->beat_ns, welcome->lease_ns, welcome->give_up_ns);
    }
    if (welcome->halvings > FM_CREW_HALVINGS_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Welcome has %" PRIu32
                            " halvings of what a worker holds: 0 to %u are possible",
                            welcome->halvings, FM_CREW_HALVINGS_MAX);
    }
    if (welcome->facts.count > FM_BATCH_FACTS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "the message Welcome has more than %u facts",
                            FM_BATCH_FACTS_MAX);
    }
    return check_version("Welcome", welcome->protocol_version, reterr);
}

static int count_row(struct fm_batch_rows *rows, const struct fm_batch_row *row,
                     struct fm_error *reterr)
{
    uint64_t more = row->row_count > 0 ? row->row_count : 1;
    if (rows->row_count > UINT64_MAX - more) {
        return fm_error_set(reterr, FM_EINVAL, "the message Grant names too many rows");
    }
    rows->row_count += more;
    return 0;
}

/* 0, which no shard has, when they are too many. */
static uint64_t rows_together(const struct fm_batch_rows *rows)
{
    struct fm_batch_rows all = {0};
    for (uint64_t i = 0; rows->items != NULL && i < rows->count; i++) {
        if (count_row(&all, &rows->items[i], NULL) != 0) {
            return 0;
        }
    }
    return rows->items != NULL ? all.row_count : rows->row_count;
}

static int check_grant(const struct fm_batch_grant *grant, struct fm_error *reterr)
{
    const struct fm_shard *shard = &grant->shard;
    uint64_t named = rows_together(&grant->rows);
    if (shard->row_count == 0 || shard->first_row > UINT64_MAX - shard->row_count) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Grant is of %" PRIu64 " rows from row %" PRIu64 " on",
                            shard->row_count, shard->first_row);
    }
    if (shard->row_count != named) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Grant names %" PRIu64 " rows of a shard that has %" PRIu64,
                            named, shard->row_count);
    }
    if (shard->condemned && shard->row_count != 1) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Grant condemns %" PRIu64 " rows at once: only one can be",
                            shard->row_count);
    }
    return check_lease("Grant", shard->epoch, reterr);
}

static int check_master(const struct fm_batch_master_message *message, struct fm_error *reterr)
{
    switch (message->kind) {
    case FM_BATCH_MASTER_WELCOME:
        return check_welcome(&message->welcome, reterr);
    case FM_BATCH_MASTER_GRANT:
        return check_grant(&message->grant, reterr);
    case FM_BATCH_MASTER_COMMITTED:
        return check_lease("Committed", message->committed.epoch, reterr);
    case FM_BATCH_MASTER_REFUSED:
        return check_lease("Refused", message->refused.epoch, reterr);
    case FM_BATCH_MASTER_TRIM:
        return check_lease("Trim", message->trim.epoch, reterr);
    case FM_BATCH_MASTER_STOP:
    case FM_BATCH_MASTER_END:
    case FM_BATCH_MASTER_COUNT_:
        break;
    }
    return 0;
}

static int check_fact(const struct fm_batch_fact *fact, struct fm_error *reterr)
{
    return fact->key.size > 0
               ? 0
               : fm_error_set(reterr, FM_EINVAL, "the message Welcome has a fact without a key");
}

static int check_row(const struct fm_batch_row *row, struct fm_error *reterr)
{
    if (row->id.size == 0) {
        return fm_error_set(reterr, FM_EINVAL, "the message Grant has a row without an id");
    }
    if (row->row_count == 0
            ? (row->first_row | row->point_row | row->point_offset | row->point_line) != 0
            : row->point_row > row->first_row || row->first_row > UINT64_MAX - row->row_count) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the message Grant has %" PRIu64 " rows of a file from row %" PRIu64
                            " on, to be read from row %" PRIu64,
                            row->row_count, row->first_row, row->point_row);
    }
    return 0;
}

/* --- Reading --- */

static const uint8_t wire_types[MEMBER_KIND_COUNT_] = {
    [MEMBER_UINT64] = FM_PROTOBUF_VARINT,   [MEMBER_OPTIONAL_UINT64] = FM_PROTOBUF_VARINT,
    [MEMBER_UINT32] = FM_PROTOBUF_VARINT,   [MEMBER_INT32] = FM_PROTOBUF_VARINT,
    [MEMBER_BOOL] = FM_PROTOBUF_VARINT,     [MEMBER_FLAG] = FM_PROTOBUF_VARINT,
    [MEMBER_FIXED64] = FM_PROTOBUF_FIXED64, [MEMBER_DOUBLE] = FM_PROTOBUF_FIXED64,
    [MEMBER_TEXT] = FM_PROTOBUF_BYTES,      [MEMBER_HOLDINGS] = FM_PROTOBUF_BYTES,
    [MEMBER_SHARD] = FM_PROTOBUF_BYTES,     [MEMBER_FACTS] = FM_PROTOBUF_BYTES,
    [MEMBER_ROWS] = FM_PROTOBUF_BYTES,      [MEMBER_STAGES] = FM_PROTOBUF_BYTES,
};

static struct fm_batch_view view_of(const struct fm_protobuf_field *field)
{
    return (struct fm_batch_view){(const char *)field->data, field->size};
}

/* What a struct holds where its message says nothing, beside the zeros that are there. */
static void values_begin(const struct layout *layout, void *values)
{
    const uint64_t absent = UINT64_MAX;
    const struct fm_batch_view empty = {"", 0};
    for (size_t i = 0; i < layout->member_count; i++) {
        const struct member *member = &layout->members[i];
        if (member->kind == MEMBER_TEXT) {
            memcpy((char *)values + member->offset, &empty, sizeof(empty));
        } else if (member->kind == MEMBER_OPTIONAL_UINT64) {
            memcpy((char *)values + member->offset, &absent, sizeof(absent));
        }
    }
}

static bool number_fits(enum member_kind kind, uint64_t value)
{
    if (kind == MEMBER_INT32) {
        /* Of a negative number all upper bits are set. */
        return value <= INT32_MAX || value >= UINT64_MAX - INT32_MAX;
    }
    return kind != MEMBER_UINT32 || value <= UINT32_MAX;
}

static void number_store(enum member_kind kind, uint64_t value, void *at)
{
    const bool flag = value != 0;
    const uint32_t narrow = kind == MEMBER_FLAG ? flag : (uint32_t)value;
    if (kind == MEMBER_BOOL) {
        memcpy(at, &flag, sizeof(flag));
    } else if (kind == MEMBER_UINT32 || kind == MEMBER_INT32 || kind == MEMBER_FLAG) {
        memcpy(at, &narrow, sizeof(narrow));
    } else {
        memcpy(at, &value, sizeof(value));
    }
}

static int read_members(const struct layout *layout, struct fm_batch_view wire, void *values,
                        struct fm_error *reterr);

/* A message that stands inside `wire`, once more or for the first time. */
static int read_inner(const struct member *member, struct fm_batch_view wire,
                      struct fm_batch_view inner, void *at, struct fm_error *reterr)
{
    if (member->kind == MEMBER_SHARD) {
        return read_members(&shard_layout, inner, at, reterr);
    }
    if (member->kind == MEMBER_HOLDINGS) {
        struct fm_batch_holdings *holdings = at;
        if (holdings->count == FM_MASTER_SHARDS_OF_ONE_MAX) {
            return fm_error_set(reterr, FM_ELIMIT, "a message has more than %u holdings",
                                FM_MASTER_SHARDS_OF_ONE_MAX);
        }
        return read_members(&holding_layout, inner, &holdings->items[holdings->count++], reterr);
    }
    if (member->kind == MEMBER_STAGES) {
        struct fm_batch_stages *stages = at;
        if (stages->count == FM_BATCH_STAGES_MAX) {
            return fm_error_set(reterr, FM_ELIMIT, "a message has more than %u stages",
                                FM_BATCH_STAGES_MAX);
        }
        struct fm_batch_stage *stage = &stages->items[stages->count++];
        values_begin(&stage_layout, stage);
        return read_members(&stage_layout, inner, stage, reterr);
    }
    if (member->kind == MEMBER_FACTS) {
        struct fm_batch_facts *facts = at;
        struct fm_batch_fact fact;
        facts->count++;
        facts->wire = wire;
        values_begin(&fact_layout, &fact);
        int status = read_members(&fact_layout, inner, &fact, reterr);
        return status != 0 ? status : check_fact(&fact, reterr);
    }
    struct fm_batch_rows *rows = at;
    struct fm_batch_row row = {0};
    rows->count++;
    rows->wire = wire;
    values_begin(&row_layout, &row);
    int status = read_members(&row_layout, inner, &row, reterr);
    status = status != 0 ? status : check_row(&row, reterr);
    return status != 0 ? status : count_row(rows, &row, reterr);
}

static int read_member(const struct layout *layout, const struct member *member,
                       struct fm_batch_view wire, const struct fm_protobuf_field *field,
                       void *values, struct fm_error *reterr)
{
    void *at = (char *)values + member->offset;
    if (field->type != wire_types[member->kind]) {
        return fm_error_set(reterr, FM_EINVAL, "the field %s of %s has another type", member->name,
                            layout->name);
    }
    const struct fm_batch_view view = view_of(field);
    if (member->kind < MEMBER_TEXT) {
        if (!number_fits(member->kind, field->value)) {
            return fm_error_set(reterr, FM_EINVAL, "the field %s of %s is too large a number",
                                member->name, layout->name);
        }
        number_store(member->kind, field->value, at);
        return 0;
    }
    if (member->kind > MEMBER_TEXT) {
        return read_inner(member, wire, view, at, reterr);
    }
    if (view.size > member->bytes_max) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the field %s of %s has %zu bytes, %zu are possible", member->name,
                            layout->name, view.size, member->bytes_max);
    }
    memcpy(at, &view, sizeof(view));
    return 0;
}

/* NULL: the field is not known. */
static const struct member *member_find(const struct layout *layout, uint32_t number)
{
    for (size_t i = 0; i < layout->member_count; i++) {
        if (layout->members[i].number == number) {
            return &layout->members[i];
        }
    }
    return NULL;
}

/* All fields of a message into its struct, whose other members stay. Goes two deep at most. */
static int read_members(const struct layout *layout, struct fm_batch_view wire, void *values,
                        struct fm_error *reterr)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(wire.data, wire.size);
    struct fm_protobuf_field field;
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        const struct member *member = member_find(layout, field.number);
        int status = member != NULL ? read_member(layout, member, wire, &field, values, reterr) : 0;
        if (status != 0) {
            return status;
        }
    }
    return more == 0 ? 0
                     : fm_error_set(reterr, FM_EINVAL, "the message %s is malformed or cut off",
                                    layout->name);
}

/* The kind of a message and what it says: the last one that is known. */
static int read_kind(const char *whose, uint32_t kind_count, const void *data, size_t size,
                     uint32_t *ret_kind, struct fm_batch_view *ret_wire, struct fm_error *reterr)
{
    if (size > FM_BATCH_MESSAGE_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "%s has %zu bytes, %u are possible", whose, size,
                            FM_BATCH_MESSAGE_BYTES_MAX);
    }
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    uint32_t unknown = 0;
    int more;
    *ret_kind = kind_count;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number > kind_count) {
            unknown = field.number;
            continue;
        }
        if (field.type != FM_PROTOBUF_BYTES) {
            return fm_error_set(reterr, FM_EINVAL, "%s has a kind of another type", whose);
        }
        *ret_kind = field.number - 1;
        *ret_wire = view_of(&field);
    }
    if (more != 0) {
        return fm_error_set(reterr, FM_EINVAL, "%s is malformed or cut off", whose);
    }
    if (*ret_kind == kind_count) {
        return unknown != 0
                   ? fm_error_set(reterr, FM_EINVAL,
                                  "%s has the kind %" PRIu32 ", which is not known here", whose,
                                  unknown)
                   : fm_error_set(reterr, FM_EINVAL, "%s says nothing: it has no kind", whose);
    }
    return 0;
}

int fm_batch_worker_message_read(const void *data, size_t size,
                                 struct fm_batch_worker_message *ret_message,
                                 struct fm_error *reterr)
{
    uint32_t kind = 0;
    struct fm_batch_view wire = {"", 0};
    int status =
        read_kind("a worker's message", FM_BATCH_WORKER_COUNT_, data, size, &kind, &wire, reterr);
    if (status != 0) {
        return status;
    }
    void *values = (char *)ret_message + offsetof(struct fm_batch_worker_message, join);
    memset(ret_message, 0, sizeof(*ret_message));
    ret_message->kind = (enum fm_batch_worker_kind)kind;
    values_begin(&worker_layouts[kind], values);
    status = read_members(&worker_layouts[kind], wire, values, reterr);
    if (kind == FM_BATCH_WORKER_DONE) {
        ret_message->done.files.attempt = ret_message->done.epoch;
    }
    return status != 0 ? status : check_worker(ret_message, reterr);
}

int fm_batch_master_message_read(const void *data, size_t size,
                                 struct fm_batch_master_message *ret_message,
                                 struct fm_error *reterr)
{
    uint32_t kind = 0;
    struct fm_batch_view wire = {"", 0};
    int status =
        read_kind("a master's message", FM_BATCH_MASTER_COUNT_, data, size, &kind, &wire, reterr);
    if (status != 0) {
        return status;
    }
    void *values = (char *)ret_message + offsetof(struct fm_batch_master_message, welcome);
    memset(ret_message, 0, sizeof(*ret_message));
    ret_message->kind = (enum fm_batch_master_kind)kind;
    values_begin(&master_layouts[kind], values);
    status = read_members(&master_layouts[kind], wire, values, reterr);
    if (kind == FM_BATCH_MASTER_GRANT) {
        ret_message->grant.shard.state = FM_SHARD_LEASED;
    }
    return status != 0 ? status : check_master(ret_message, reterr);
}

/* --- Lists --- */

/* Takes the first element off a list that was read, which is known to be well-formed. */
static void element_take(struct fm_batch_view *wire, uint32_t number, const struct layout *layout,
                         void *ret_values)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(wire->data, wire->size);
    struct fm_protobuf_field field;
    do {
        int more = fm_protobuf_next(&reader, &field);
        FM_ASSERT(more == 1);
    } while (field.number != number);
    *wire = (struct fm_batch_view){(const char *)reader.at, (size_t)(reader.end - reader.at)};
    values_begin(layout, ret_values);
    int status = read_members(layout, view_of(&field), ret_values, NULL);
    FM_ASSERT(status == 0);
}

bool fm_batch_facts_next(struct fm_batch_facts *facts, struct fm_batch_fact *ret_fact)
{
    if (facts->count == 0) {
        return false;
    }
    facts->count--;
    if (facts->items != NULL) {
        *ret_fact = *facts->items++;
    } else {
        element_take(&facts->wire, WELCOME_FACTS, &fact_layout, ret_fact);
    }
    return true;
}

bool fm_batch_rows_next(struct fm_batch_rows *rows, struct fm_batch_row *ret_row)
{
    if (rows->count == 0) {
        return false;
    }
    rows->count--;
    if (rows->items != NULL) {
        *ret_row = *rows->items++;
    } else {
        *ret_row = (struct fm_batch_row){0};
        element_take(&rows->wire, GRANT_ROWS, &row_layout, ret_row);
    }
    return true;
}

/* --- Writing --- */

struct writer {
    struct fm_text *text;
    size_t begin;
    int status; /* of what the text's own failure does not say */
};

/* A message inside a message is written behind one byte for its length, and moves when that takes
 * more. Returns where it begins. */
static size_t inner_open(struct writer *writer, uint32_t number)
{
    uint8_t head[FM_PROTOBUF_VARINT_MAX + 1];
    uint8_t *end = fm_protobuf_put_length(head, number, 0);
    fm_text_append(writer->text, head, (size_t)(end - head));
    return writer->text->length;
}

static void inner_close(struct writer *writer, size_t begin)
{
    struct fm_text *text = writer->text;
    if (text->failed) {
        return;
    }
    size_t size = text->length - begin;
    size_t more = fm_protobuf_varint_size(size) - 1;
    if (more > 0) {
        if (fm_text_reserve(text, more) == NULL) {
            return;
        }
        memmove(text->data + begin + more, text->data + begin, size);
    }
    (void)fm_protobuf_put_varint((uint8_t *)text->data + begin - 1, size);
}

static void write_number(struct writer *writer, const struct member *member, const void *at)
{
    uint64_t value = 0;
    if (member->kind == MEMBER_BOOL) {
        value = *(const bool *)at;
    } else if (member->kind == MEMBER_INT32) {
        int32_t number;
        memcpy(&number, at, sizeof(number));
        value = (uint64_t)(int64_t)number;
    } else if (member->kind == MEMBER_UINT32 || member->kind == MEMBER_FLAG) {
        uint32_t number;
        memcpy(&number, at, sizeof(number));
        value = number;
    } else {
        memcpy(&value, at, sizeof(value));
    }
    if (value == (member->kind == MEMBER_OPTIONAL_UINT64 ? UINT64_MAX : 0)) {
        return; /* what readers take for granted */
    }
    if (wire_types[member->kind] == FM_PROTOBUF_FIXED64) {
        fm_protobuf_append_fixed64(writer->text, member->number, value);
    } else {
        fm_protobuf_append_uint(writer->text, member->number, value);
    }
}

static void write_text(struct writer *writer, const struct member *member,
                       const struct fm_batch_view *view)
{
    if (view->size > member->bytes_max) {
        writer->status = FM_ETOOLARGE;
    } else if (view->size > 0) {
        fm_protobuf_append_bytes(writer->text, member->number, view->data, view->size);
    }
}

/* Whether to go on: a list may be far longer than a message can be. */
static bool write_goes_on(struct writer *writer)
{
    if (writer->text->length - writer->begin > FM_BATCH_MESSAGE_BYTES_MAX) {
        writer->status = FM_ETOOLARGE;
    }
    return writer->status == 0 && !writer->text->failed;
}

static void write_members(struct writer *writer, const struct layout *layout, const void *values);

static void write_inner(struct writer *writer, const struct member *member,
                        const struct layout *layout, const void *values)
{
    size_t begin = inner_open(writer, member->number);
    write_members(writer, layout, values);
    inner_close(writer, begin);
}

static void write_list(struct writer *writer, const struct member *member, const void *at)
{
    if (member->kind == MEMBER_HOLDINGS) {
        const struct fm_batch_holdings *holdings = at;
        for (uint32_t i = 0; i < holdings->count; i++) {
            write_inner(writer, member, &holding_layout, &holdings->items[i]);
        }
    } else if (member->kind == MEMBER_STAGES) {
        const struct fm_batch_stages *stages = at;
        for (uint32_t i = 0; i < stages->count; i++) {
            write_inner(writer, member, &stage_layout, &stages->items[i]);
        }
    } else if (member->kind == MEMBER_FACTS) {
        struct fm_batch_facts facts = *(const struct fm_batch_facts *)at;
        struct fm_batch_fact fact;
        while (write_goes_on(writer) && fm_batch_facts_next(&facts, &fact)) {
            writer->status = check_fact(&fact, NULL);
            write_inner(writer, member, &fact_layout, &fact);
        }
    } else {
        struct fm_batch_rows rows = *(const struct fm_batch_rows *)at;
        struct fm_batch_row row;
        while (write_goes_on(writer) && fm_batch_rows_next(&rows, &row)) {
            writer->status = check_row(&row, NULL);
            write_inner(writer, member, &row_layout, &row);
        }
    }
}

static void write_members(struct writer *writer, const struct layout *layout, const void *values)
{
    for (size_t i = 0; i < layout->member_count; i++) {
        const struct member *member = &layout->members[i];
        const void *at = (const char *)values + member->offset;
        if (member->kind < MEMBER_TEXT) {
            write_number(writer, member, at);
        } else if (member->kind == MEMBER_TEXT) {
            write_text(writer, member, at);
        } else if (member->kind == MEMBER_SHARD) {
            struct fm_shard shard = *(const struct fm_shard *)at;
            shard.failures[FM_SHARD_FAILURE_DATA] = fm_shard_suspect(&shard);
            write_inner(writer, member, &shard_layout, &shard);
        } else {
            write_list(writer, member, at);
        }
    }
}

static int write_message(struct fm_text *text, uint32_t kind, const struct layout *layout,
                         const void *values)
{
    struct writer writer = {.text = text, .begin = text->length};
    size_t begin = inner_open(&writer, kind + 1);
    write_members(&writer, layout, values);
    inner_close(&writer, begin);
    if (write_goes_on(&writer)) {
        return 0;
    }
    text->length = writer.begin;
    if (text->data != NULL) {
        text->data[text->length] = '\0';
    }
    return writer.status != 0 ? writer.status : FM_ENOMEM;
}

int fm_batch_worker_message_write(struct fm_text *text,
                                  const struct fm_batch_worker_message *message)
{
    FM_ASSERT(message->kind < FM_BATCH_WORKER_COUNT_);
    int status = check_worker(message, NULL);
    return status != 0
               ? status
               : write_message(text, message->kind, &worker_layouts[message->kind], &message->join);
}

int fm_batch_master_message_write(struct fm_text *text,
                                  const struct fm_batch_master_message *message)
{
    FM_ASSERT(message->kind < FM_BATCH_MASTER_COUNT_);
    const char *values = (const char *)message + offsetof(struct fm_batch_master_message, welcome);
    int status = check_master(message, NULL);
    return status != 0 ? status
                       : write_message(text, message->kind, &master_layouts[message->kind], values);
}
