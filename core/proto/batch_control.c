/*
 * The status of a batch job as bytes. See batch_control.h. Pure.
 *
 * HOW IT WORKS. As batch_messages.c: a table says which fields there are and where they belong; one
 * walker reads by it, and another writes.
 */
#include "core/proto/batch_control.h"

#include <string.h>

#include "core/proto/protobuf.h"
#include "core/util/assert.h"
#include "core/util/error.h"

enum { STATUS_WORKERS = 14, WORKER_STAGES = 24 };

enum kind {
    KIND_UINT64,
    KIND_PRESENT_UINT64,
    KIND_UINT32,
    KIND_BOOL,
    KIND_FIXED64,
    KIND_DOUBLE,
    KIND_TEXT
};

struct member {
    uint32_t number;
    enum kind kind;
    size_t offset;
    size_t bytes_max; /* TEXT */
    const char *name;
};

#define MEMBER(number, type, name, kind)             \
    {                                                \
        number, kind, offsetof(type, name), 0, #name \
    }
#define TEXT(number, type, name, bytes_max)                       \
    {                                                             \
        number, KIND_TEXT, offsetof(type, name), bytes_max, #name \
    }

static const struct member worker_members[] = {
    MEMBER(1, struct fm_batch_worker_status, worker, KIND_FIXED64),
    TEXT(2, struct fm_batch_worker_status, name, FM_BATCH_NAME_BYTES_MAX),
    TEXT(3, struct fm_batch_worker_status, host, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(4, struct fm_batch_worker_status, process, KIND_UINT32),
    MEMBER(5, struct fm_batch_worker_status, connected, KIND_BOOL),
    MEMBER(6, struct fm_batch_worker_status, shards, KIND_UINT32),
    MEMBER(7, struct fm_batch_worker_status, rows_in_work, KIND_UINT64),
    MEMBER(8, struct fm_batch_worker_status, rows_committed, KIND_UINT64),
    MEMBER(9, struct fm_batch_worker_status, rows_per_minute, KIND_UINT64),
    MEMBER(10, struct fm_batch_worker_status, memory_bytes, KIND_UINT64),
    TEXT(11, struct fm_batch_worker_status, slowest_stage, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(12, struct fm_batch_worker_status, slowest_share, KIND_DOUBLE),
    TEXT(13, struct fm_batch_worker_status, last_error, FM_BATCH_REASON_BYTES_MAX),
    MEMBER(14, struct fm_batch_worker_status, silent_ns, KIND_UINT64),
    MEMBER(15, struct fm_batch_worker_status, tuned.readers, KIND_UINT32),
    MEMBER(16, struct fm_batch_worker_status, tuned.operators, KIND_UINT32),
    MEMBER(17, struct fm_batch_worker_status, tuned.rows, KIND_UINT32),
    TEXT(18, struct fm_batch_worker_status, tuned.batches, FM_BATCH_REASON_BYTES_MAX),
    MEMBER(19, struct fm_batch_worker_status, memory.budget, KIND_UINT64),
    MEMBER(20, struct fm_batch_worker_status, memory.base, KIND_UINT64),
    MEMBER(21, struct fm_batch_worker_status, memory.used, KIND_UINT64),
    MEMBER(22, struct fm_batch_worker_status, memory.most, KIND_UINT64),
    MEMBER(23, struct fm_batch_worker_status, memory.rows, KIND_UINT64),
    TEXT(25, struct fm_batch_worker_status, tuned.accelerators, FM_BATCH_REASON_BYTES_MAX),
    /* 24: WORKER_STAGES */
};

static const struct member stage_members[] = {
    TEXT(1, struct fm_batch_stage, name, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(2, struct fm_batch_stage, busy, KIND_DOUBLE),
};

static const struct member status_members[] = {
    TEXT(1, struct fm_batch_status, job, FM_BATCH_NAME_BYTES_MAX),
    TEXT(2, struct fm_batch_status, version, FM_BATCH_NAME_BYTES_MAX),
    MEMBER(3, struct fm_batch_status, process, KIND_UINT32),
    MEMBER(4, struct fm_batch_status, paused, KIND_BOOL),
    MEMBER(5, struct fm_batch_status, stopping, KIND_BOOL),
    MEMBER(6, struct fm_batch_status, cancelled, KIND_BOOL),
    MEMBER(7, struct fm_batch_status, rows_total, KIND_UINT64),
    MEMBER(8, struct fm_batch_status, rows_committed, KIND_UINT64),
    MEMBER(9, struct fm_batch_status, rows_done, KIND_UINT64),
    MEMBER(10, struct fm_batch_status, dead_letters, KIND_UINT64),
    MEMBER(11, struct fm_batch_status, rows_in_work, KIND_UINT64),
    MEMBER(12, struct fm_batch_status, rows_per_s, KIND_DOUBLE),
    MEMBER(13, struct fm_batch_status, running_ns, KIND_UINT64),
    /* 14: STATUS_WORKERS */
    MEMBER(15, struct fm_batch_status, rest_ns, KIND_PRESENT_UINT64),
    MEMBER(16, struct fm_batch_status, workers_wanted, KIND_UINT32),
    TEXT(17, struct fm_batch_status, workers_why, FM_BATCH_REASON_BYTES_MAX),
    MEMBER(18, struct fm_batch_status, finish_by_ms, KIND_UINT64),
    MEMBER(19, struct fm_batch_status, late, KIND_BOOL),
};

/* --- Reading --- */

static int malformed(struct fm_error *reterr, const char *what)
{
    return fm_error_set(reterr, FM_EINVAL, "the status is malformed: %s", what);
}

static uint32_t wire_type(enum kind kind)
{
    return kind == KIND_TEXT                             ? FM_PROTOBUF_BYTES
           : kind == KIND_FIXED64 || kind == KIND_DOUBLE ? FM_PROTOBUF_FIXED64
                                                         : FM_PROTOBUF_VARINT;
}

static int member_read(const struct member *member, const struct fm_protobuf_field *field,
                       char *base, struct fm_error *reterr)
{
    char *place = base + member->offset;
    uint64_t value = field->value;
    if (field->type != wire_type(member->kind) ||
        (member->kind == KIND_UINT32 && value > UINT32_MAX)) {
        return malformed(reterr, member->name);
    }
    if (member->kind == KIND_TEXT && field->size > member->bytes_max) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the status has a %s of %zu bytes", member->name,
                            field->size);
    }
    if (member->kind == KIND_TEXT) {
        const struct fm_batch_view view = {.data = (const char *)field->data, .size = field->size};
        memcpy(place, &view, sizeof(view));
    } else if (member->kind == KIND_UINT32) {
        uint32_t narrow = (uint32_t)value;
        memcpy(place, &narrow, sizeof(narrow));
    } else if (member->kind == KIND_BOOL) {
        bool flag = value != 0;
        memcpy(place, &flag, sizeof(flag));
    } else {
        memcpy(place, &value, sizeof(value)); /* a double's bits, too */
    }
    return 0;
}

static const struct member *member_find(const struct member *members, size_t count, uint32_t number)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].number == number) {
            return &members[i];
        }
    }
    return NULL;
}

/* A message of `members`; one that is inside it goes to `inner`, which may be NULL. */
static int message_read(const void *data, size_t size, const struct member *members, size_t count,
                        void *base,
                        int (*inner)(void *base, const struct fm_protobuf_field *field,
                                     struct fm_error *reterr),
                        struct fm_error *reterr)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    int status = 0;
    int more = 0;
    while (status == 0 && (more = fm_protobuf_next(&reader, &field)) == 1) {
        const struct member *member = member_find(members, count, field.number);
        if (member != NULL) {
            status = member_read(member, &field, base, reterr);
        } else if (inner != NULL) {
            status = inner(base, &field, reterr);
        }
    }
    return status != 0 ? status : more < 0 ? malformed(reterr, "it is cut off") : 0;
}

static int stage_read(void *base, const struct fm_protobuf_field *field, struct fm_error *reterr)
{
    struct fm_batch_stages *stages = &((struct fm_batch_worker_status *)base)->stages;
    if (field->number != WORKER_STAGES) {
        return 0;
    }
    if (field->type != FM_PROTOBUF_BYTES) {
        return malformed(reterr, "stages");
    }
    if (stages->count == FM_BATCH_STAGES_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "a worker of the status has more than %u stages",
                            FM_BATCH_STAGES_MAX);
    }
    return message_read(field->data, field->size, stage_members, FM_COUNT_OF(stage_members),
                        &stages->items[stages->count++], NULL, reterr);
}

static int worker_read(const struct fm_protobuf_field *field,
                       struct fm_batch_worker_status *ret_worker, struct fm_error *reterr)
{
    *ret_worker = (struct fm_batch_worker_status){.worker = 0};
    return message_read(field->data, field->size, worker_members, FM_COUNT_OF(worker_members),
                        ret_worker, stage_read, reterr);
}

static int worker_count(void *base, const struct fm_protobuf_field *field, struct fm_error *reterr)
{
    struct fm_batch_worker_statuses *workers = &((struct fm_batch_status *)base)->workers;
    struct fm_batch_worker_status worker;
    if (field->number != STATUS_WORKERS) {
        return 0;
    }
    workers->count++;
    return field->type != FM_PROTOBUF_BYTES ? malformed(reterr, "workers")
           : workers->count > FM_BATCH_STATUS_WORKERS_MAX
               ? fm_error_set(reterr, FM_ELIMIT, "the status has more than %u workers",
                              FM_BATCH_STATUS_WORKERS_MAX)
               : worker_read(field, &worker, reterr);
}

int fm_batch_status_read(const void *data, size_t size, struct fm_batch_status *ret_status,
                         struct fm_error *reterr)
{
    *ret_status = (struct fm_batch_status){.rest_ns = FM_BATCH_REST_UNKNOWN,
                                           .workers = {.wire = {.data = data, .size = size}}};
    if (size > FM_BATCH_STATUS_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the status has %zu bytes", size);
    }
    return message_read(data, size, status_members, FM_COUNT_OF(status_members), ret_status,
                        worker_count, reterr);
}

bool fm_batch_worker_statuses_next(struct fm_batch_worker_statuses *workers,
                                   struct fm_batch_worker_status *ret_worker)
{
    struct fm_protobuf_reader reader =
        fm_protobuf_reader_make(workers->wire.data, workers->wire.size);
    struct fm_protobuf_field field;
    if (workers->count == 0) {
        return false;
    }
    workers->count--;
    if (workers->items != NULL) {
        *ret_worker = *workers->items++;
        return true;
    }
    int more = 0;
    do {
        more = fm_protobuf_next(&reader, &field);
    } while (more == 1 && field.number != STATUS_WORKERS);
    FM_ASSERT(more == 1); /* it was counted when it was read */
    int status = worker_read(&field, ret_worker, NULL);
    FM_ASSERT(status == 0); /* likewise */
    workers->wire = (struct fm_batch_view){.data = (const char *)reader.at,
                                           .size = (size_t)(reader.end - reader.at)};
    return true;
}

/* --- Writing --- */

static int member_write(struct fm_text *text, const struct member *member, const char *base)
{
    const char *place = base + member->offset;
    uint64_t value = 0;
    struct fm_batch_view view = {.size = 0};
    if (member->kind == KIND_TEXT) {
        memcpy(&view, place, sizeof(view));
        if (view.size > member->bytes_max) {
            return FM_ETOOLARGE;
        }
        if (view.size > 0) {
            fm_protobuf_append_bytes(text, member->number, view.data, view.size);
        }
        return 0;
    }
    if (member->kind == KIND_UINT32) {
        uint32_t narrow = 0;
        memcpy(&narrow, place, sizeof(narrow));
        value = narrow;
    } else if (member->kind == KIND_BOOL) {
        bool flag = false;
        memcpy(&flag, place, sizeof(flag));
        value = flag ? 1 : 0;
    } else {
        memcpy(&value, place, sizeof(value));
    }
    if (member->kind == KIND_PRESENT_UINT64) {
        if (value != FM_BATCH_REST_UNKNOWN) {
            fm_protobuf_append_uint(text, member->number, value);
        }
    } else if (value != 0 && wire_type(member->kind) == FM_PROTOBUF_FIXED64) {
        fm_protobuf_append_fixed64(text, member->number, value);
    } else if (value != 0) {
        fm_protobuf_append_uint(text, member->number, value);
    }
    return 0;
}

static int members_write(struct fm_text *text, const struct member *members, size_t count,
                         const void *base)
{
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        status = member_write(text, &members[i], base);
    }
    return status;
}

static int stages_write(struct fm_text *text, const struct fm_batch_stages *stages)
{
    struct fm_text one = {0};
    int status = stages->count > FM_BATCH_STAGES_MAX ? FM_ELIMIT : 0;
    for (uint32_t i = 0; i < stages->count && status == 0; i++) {
        fm_text_clear(&one);
        status = members_write(&one, stage_members, FM_COUNT_OF(stage_members), &stages->items[i]);
        if (status == 0) {
            fm_protobuf_append_bytes(text, WORKER_STAGES, one.data, one.length);
        }
        text->failed = text->failed || one.failed;
    }
    fm_text_deinit(&one);
    return status;
}

static int workers_write(struct fm_text *text, struct fm_batch_worker_statuses workers)
{
    struct fm_batch_worker_status worker;
    struct fm_text one = {0};
    int status = workers.count > FM_BATCH_STATUS_WORKERS_MAX ? FM_ELIMIT : 0;
    while (status == 0 && fm_batch_worker_statuses_next(&workers, &worker)) {
        fm_text_clear(&one);
        status = members_write(&one, worker_members, FM_COUNT_OF(worker_members), &worker);
        status = status != 0 ? status : stages_write(&one, &worker.stages);
        if (status == 0) {
            fm_protobuf_append_bytes(text, STATUS_WORKERS, one.data, one.length);
        }
        text->failed = text->failed || one.failed;
    }
    fm_text_deinit(&one);
    return status;
}

int fm_batch_status_write(struct fm_text *text, const struct fm_batch_status *status)
{
    size_t before = text->length;
    int result = members_write(text, status_members, FM_COUNT_OF(status_members), status);
    result = result != 0 ? result : workers_write(text, status->workers);
    result = result != 0                                         ? result
             : text->failed                                      ? FM_ENOMEM
             : text->length - before > FM_BATCH_STATUS_BYTES_MAX ? FM_ETOOLARGE
                                                                 : 0;
    if (result != 0 && text->data != NULL) {
        text->length = before;
        text->data[before] = '\0';
        text->failed = false;
    }
    return result;
}
