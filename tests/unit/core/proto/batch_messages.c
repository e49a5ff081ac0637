/*
 * The messages between a batch master and its workers: every kind there and back, every way of
 * being cut off, what makes no sense, limits, unknown fields, and running out of memory.
 */
#include "core/proto/batch_messages.h"

#include "core/proto/protobuf.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static struct fm_batch_view view(const char *text)
{
    return (struct fm_batch_view){text, strlen(text)};
}

static bool views_equal(struct fm_batch_view a, struct fm_batch_view b)
{
    return a.data != NULL && a.size == b.size &&
           (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* --- Samples of every kind --- */

static const struct fm_batch_holdings some_holdings = {
    .count = 2,
    .items = {{.number = 0, .epoch = 1},
              {.number = UINT64_MAX, .epoch = 300, .rows_done = 70000, .rows_bad = 70000}}};

static struct fm_batch_worker_message worker_sample(enum fm_batch_worker_kind kind)
{
    struct fm_batch_worker_message message;
    memset(&message, 0, sizeof(message));
    message.kind = kind;
    switch (kind) {
    case FM_BATCH_WORKER_JOIN:
        message.join = (struct fm_batch_join){.protocol_version = UINT32_MAX,
                                              .fermata_version = view("0.1.0"),
                                              .host = view("h\xFFst"),
                                              .process = 4711,
                                              .name = view("")};
        break;
    case FM_BATCH_WORKER_HELLO:
        message.hello = (struct fm_batch_hello){.worker = 0x8070605040302010,
                                                .shards_max = FM_MASTER_SHARDS_OF_ONE_MAX,
                                                .holdings = some_holdings};
        break;
    case FM_BATCH_WORKER_BEAT:
        message.beat =
            (struct fm_batch_beat){.holdings = some_holdings,
                                   .memory_bytes = 1ull << 40,
                                   .slowest_stage = view("det"),
                                   .slowest_share = 0.625,
                                   .rows_per_minute = 12345,
                                   .last_error = view("the file is empty"),
                                   .tuned = {.readers = 2,
                                             .operators = 7,
                                             .rows = 4096,
                                             .batches = view("det 8, rec 16"),
                                             .accelerators = view("front 10 2")},
                                   .memory = {.budget = 1ull << 30,
                                              .base = 12345678,
                                              .used = 987654321,
                                              .most = 1ull << 31,
                                              .rows = 3},
                                   .stages = {.count = 2,
                                              .items = {{.name = view("read"), .busy = 0.125},
                                                        {.name = view("det"), .busy = 1}}}};
        break;
    case FM_BATCH_WORKER_DONE:
        message.done = (struct fm_master_done){.number = 7,
                                               .epoch = 2,
                                               .rows_out = 998,
                                               .dead_letters = 2,
                                               .files = {.attempt = 2,
                                                         .part_bytes = 1234567,
                                                         .part_checksum = UINT64_MAX,
                                                         .letters_bytes = 99,
                                                         .letters_checksum = 1}};
        break;
    case FM_BATCH_WORKER_FAILED:
        message.failed = (struct fm_batch_failed){.number = 8,
                                                  .epoch = 3,
                                                  .failure = FM_SHARD_FAILURE_DATA,
                                                  .reason = view("the backend hung")};
        break;
    case FM_BATCH_WORKER_RELEASED:
        message.released = (struct fm_batch_lease){.number = 9, .epoch = 1};
        break;
    case FM_BATCH_WORKER_TRIMMED:
        message.trimmed = (struct fm_batch_trim){.number = 10, .epoch = 1, .keep_rows = 1};
        break;
    case FM_BATCH_WORKER_LEAVE:
        message.leave = (struct fm_batch_leave){
            .status = INT32_MIN, .reason = view("SIGTERM"), .cause = FM_CREW_STARVED};
        break;
    case FM_BATCH_WORKER_COUNT_:
        break;
    }
    return message;
}

enum { SOME_ROWS_OF_ONE = 200 };

static const struct fm_batch_fact some_facts[] = {
    {{"model", 5}, {"m", 1}}, {{"empty", 5}, {"", 0}}, {{"nul", 3}, {"\0\0", 2}}};
static const struct fm_batch_row some_rows[] = {
    {.id = {"pages/1.jpg", 11}, .size = 0},
    {.id = {"pages/2.jpg", 11}, .size = FM_BATCH_SIZE_UNKNOWN},
    {.id = {"\xFF\0", 2}, .size = UINT64_MAX - 1},
    {.id = {"rows.csv", 8},
     .size = 1 << 20,
     .row_count = SOME_ROWS_OF_ONE,
     .first_row = 300,
     .point_row = 256,
     .point_offset = 70000,
     .point_line = 258}};

static struct fm_batch_master_message master_sample(enum fm_batch_master_kind kind)
{
    struct fm_batch_master_message message;
    memset(&message, 0, sizeof(message));
    message.kind = kind;
    switch (kind) {
    case FM_BATCH_MASTER_WELCOME:
        message.welcome = (struct fm_batch_welcome){
            .protocol_version = FM_BATCH_PROTOCOL_VERSION,
            .job = view("ocr"),
            .job_file = view("/jobs/ocr/job.yaml"),
            .job_text = view("name: ocr\npipeline: pipeline.yaml\n# a text of more than 127 bytes: "
                             "its length needs two bytes, and so does that of what it stands in\n"),
            .output = view("/jobs/ocr/out"),
            .facts = {.items = some_facts, .count = COUNT_OF(some_facts)},
            .beat_ns = 2000000000,
            .give_up_ns = UINT64_MAX,
            .lease_ns = 10000000000,
            .base = view("/jobs/ocr"),
            .memory_bytes = UINT64_C(4) << 30,
            .halvings = FM_CREW_HALVINGS_MAX,
            .sharers = 200};
        break;
    case FM_BATCH_MASTER_GRANT:
        message.grant = (struct fm_batch_grant){
            .shard = {.number = 3,
                      .first_row = 128,
                      .row_count = COUNT_OF(some_rows) - 1 + SOME_ROWS_OF_ONE,
                      .epoch = 2,
                      .state = FM_SHARD_LEASED,
                      .failures = {[FM_SHARD_FAILURE_DATA] = 1}},
            .reason = view(""),
            .rows = {.items = some_rows, .count = COUNT_OF(some_rows)}};
        break;
    case FM_BATCH_MASTER_COMMITTED:
        message.committed = (struct fm_batch_lease){.number = 0, .epoch = 1};
        break;
    case FM_BATCH_MASTER_REFUSED:
        message.refused = (struct fm_batch_lease){.number = 1, .epoch = UINT64_MAX};
        break;
    case FM_BATCH_MASTER_TRIM:
        message.trim = (struct fm_batch_trim){.number = 1, .epoch = 2, .keep_rows = 0};
        break;
    case FM_BATCH_MASTER_STOP:
        message.stop = (struct fm_batch_stop){.drop = true, .again = true};
        break;
    case FM_BATCH_MASTER_END:
        message.end = (struct fm_batch_end){.status = -9, .reason = view("the disk is full")};
        break;
    case FM_BATCH_MASTER_COUNT_:
        break;
    }
    return message;
}

/* --- Comparison --- */

static bool holdings_equal(const struct fm_batch_holdings *a, const struct fm_batch_holdings *b)
{
    return a->count == b->count && memcmp(a->items, b->items, a->count * sizeof(a->items[0])) == 0;
}

static bool stages_equal(const struct fm_batch_stages *a, const struct fm_batch_stages *b)
{
    bool equal = a->count == b->count;
    for (uint32_t i = 0; i < a->count && equal; i++) {
        equal =
            views_equal(a->items[i].name, b->items[i].name) && a->items[i].busy == b->items[i].busy;
    }
    return equal;
}

static bool workers_equal(const struct fm_batch_worker_message *a,
                          const struct fm_batch_worker_message *b)
{
    switch (a->kind == b->kind ? a->kind : FM_BATCH_WORKER_COUNT_) {
    case FM_BATCH_WORKER_JOIN:
        return a->join.protocol_version == b->join.protocol_version &&
               views_equal(a->join.fermata_version, b->join.fermata_version) &&
               views_equal(a->join.host, b->join.host) && a->join.process == b->join.process &&
               views_equal(a->join.name, b->join.name);
    case FM_BATCH_WORKER_HELLO:
        return a->hello.worker == b->hello.worker && a->hello.shards_max == b->hello.shards_max &&
               holdings_equal(&a->hello.holdings, &b->hello.holdings) &&
               a->hello.single == b->hello.single;
    case FM_BATCH_WORKER_BEAT:
        return holdings_equal(&a->beat.holdings, &b->beat.holdings) &&
               a->beat.memory_bytes == b->beat.memory_bytes &&
               views_equal(a->beat.slowest_stage, b->beat.slowest_stage) &&
               a->beat.slowest_share == b->beat.slowest_share &&
               a->beat.rows_per_minute == b->beat.rows_per_minute &&
               views_equal(a->beat.last_error, b->beat.last_error) &&
               views_equal(a->beat.long_stage, b->beat.long_stage) &&
               a->beat.long_ns == b->beat.long_ns &&
               a->beat.tuned.readers == b->beat.tuned.readers &&
               a->beat.tuned.operators == b->beat.tuned.operators &&
               a->beat.tuned.rows == b->beat.tuned.rows &&
               views_equal(a->beat.tuned.batches, b->beat.tuned.batches) &&
               views_equal(a->beat.tuned.accelerators, b->beat.tuned.accelerators) &&
               memcmp(&a->beat.memory, &b->beat.memory, sizeof(a->beat.memory)) == 0 &&
               stages_equal(&a->beat.stages, &b->beat.stages);
    case FM_BATCH_WORKER_DONE:
        return memcmp(&a->done, &b->done, sizeof(a->done)) == 0;
    case FM_BATCH_WORKER_FAILED:
        return a->failed.number == b->failed.number && a->failed.epoch == b->failed.epoch &&
               a->failed.failure == b->failed.failure &&
               views_equal(a->failed.reason, b->failed.reason);
    case FM_BATCH_WORKER_RELEASED:
        return memcmp(&a->released, &b->released, sizeof(a->released)) == 0;
    case FM_BATCH_WORKER_TRIMMED:
        return memcmp(&a->trimmed, &b->trimmed, sizeof(a->trimmed)) == 0;
    case FM_BATCH_WORKER_LEAVE:
        return a->leave.status == b->leave.status &&
               views_equal(a->leave.reason, b->leave.reason) && a->leave.cause == b->leave.cause;
    case FM_BATCH_WORKER_COUNT_:
        break;
    }
    return false;
}

static bool facts_equal(struct fm_batch_facts a, struct fm_batch_facts b)
{
    struct fm_batch_fact one;
    struct fm_batch_fact other;
    bool equal = a.count == b.count;
    while (equal && fm_batch_facts_next(&a, &one) && fm_batch_facts_next(&b, &other)) {
        equal = views_equal(one.key, other.key) && views_equal(one.value, other.value);
    }
    return equal && a.count == 0 && b.count == 0;
}

static bool rows_equal(struct fm_batch_rows a, struct fm_batch_rows b)
{
    struct fm_batch_row one;
    struct fm_batch_row other;
    bool equal = a.count == b.count;
    while (equal && fm_batch_rows_next(&a, &one) && fm_batch_rows_next(&b, &other)) {
        equal = views_equal(one.id, other.id) && one.size == other.size &&
                one.row_count == other.row_count && one.first_row == other.first_row &&
                one.point_row == other.point_row && one.point_offset == other.point_offset &&
                one.point_line == other.point_line;
    }
    return equal && a.count == 0 && b.count == 0;
}

static bool masters_equal(const struct fm_batch_master_message *a,
                          const struct fm_batch_master_message *b)
{
    switch (a->kind == b->kind ? a->kind : FM_BATCH_MASTER_COUNT_) {
    case FM_BATCH_MASTER_WELCOME:
        return a->welcome.protocol_version == b->welcome.protocol_version &&
               views_equal(a->welcome.job, b->welcome.job) &&
               views_equal(a->welcome.job_file, b->welcome.job_file) &&
               views_equal(a->welcome.job_text, b->welcome.job_text) &&
               views_equal(a->welcome.output, b->welcome.output) &&
               facts_equal(a->welcome.facts, b->welcome.facts) &&
               a->welcome.beat_ns == b->welcome.beat_ns &&
               a->welcome.give_up_ns == b->welcome.give_up_ns &&
               a->welcome.lease_ns == b->welcome.lease_ns &&
               views_equal(a->welcome.base, b->welcome.base) &&
               a->welcome.memory_bytes == b->welcome.memory_bytes &&
               a->welcome.halvings == b->welcome.halvings &&
               a->welcome.sharers == b->welcome.sharers;
    case FM_BATCH_MASTER_GRANT:
        return a->grant.shard.number == b->grant.shard.number &&
               a->grant.shard.first_row == b->grant.shard.first_row &&
               a->grant.shard.row_count == b->grant.shard.row_count &&
               a->grant.shard.epoch == b->grant.shard.epoch &&
               a->grant.shard.state == b->grant.shard.state &&
               a->grant.shard.condemned == b->grant.shard.condemned &&
               fm_shard_suspect(&a->grant.shard) == fm_shard_suspect(&b->grant.shard) &&
               views_equal(a->grant.reason, b->grant.reason) &&
               rows_equal(a->grant.rows, b->grant.rows);
    case FM_BATCH_MASTER_COMMITTED:
    case FM_BATCH_MASTER_REFUSED:
        return memcmp(&a->committed, &b->committed, sizeof(a->committed)) == 0;
    case FM_BATCH_MASTER_TRIM:
        return memcmp(&a->trim, &b->trim, sizeof(a->trim)) == 0;
    case FM_BATCH_MASTER_STOP:
        return a->stop.drop == b->stop.drop && a->stop.again == b->stop.again;
    case FM_BATCH_MASTER_END:
        return a->end.status == b->end.status && views_equal(a->end.reason, b->end.reason);
    case FM_BATCH_MASTER_COUNT_:
        break;
    }
    return false;
}

/* --- There and back --- */

/* Both directions behind one face: `message` is one of the worker's or of the master's. */
static int read_either(bool worker, const void *data, size_t size, struct fm_error *error)
{
    struct fm_batch_worker_message from_worker;
    struct fm_batch_master_message from_master;
    fm_error_init(error);
    return worker ? fm_batch_worker_message_read(data, size, &from_worker, error)
                  : fm_batch_master_message_read(data, size, &from_master, error);
}

/* The sample of one kind, written; both directions have fewer kinds than this. */
enum { KINDS = FM_BATCH_WORKER_COUNT_ + FM_BATCH_MASTER_COUNT_ };

static bool is_worker(uint32_t kind)
{
    return kind < FM_BATCH_WORKER_COUNT_;
}

static int write_sample(uint32_t kind, struct fm_text *text)
{
    if (is_worker(kind)) {
        struct fm_batch_worker_message message = worker_sample((enum fm_batch_worker_kind)kind);
        return fm_batch_worker_message_write(text, &message);
    }
    struct fm_batch_master_message message =
        master_sample((enum fm_batch_master_kind)(kind - FM_BATCH_WORKER_COUNT_));
    return fm_batch_master_message_write(text, &message);
}

TEST(every_kind_of_a_worker_there_and_back)
{
    for (uint32_t kind = 0; kind < FM_BATCH_WORKER_COUNT_; kind++) {
        struct fm_batch_worker_message message = worker_sample((enum fm_batch_worker_kind)kind);
        struct fm_batch_worker_message back;
        struct fm_error error = {0};
        struct fm_text text = {0};
        struct fm_text again = {0};
        CHECK_INT_EQ(fm_batch_worker_message_write(&text, &message), 0);
        int status = fm_batch_worker_message_read(text.data, text.length, &back, &error);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        CHECK(workers_equal(&back, &message));
        /* What was read can be written, and gives the same bytes. */
        CHECK_INT_EQ(fm_batch_worker_message_write(&again, &back), 0);
        CHECK_INT_EQ(again.length, text.length);
        CHECK_MEM_EQ(again.data, text.data, text.length);
        fm_text_deinit(&again);
        fm_text_deinit(&text);
    }
}

TEST(every_kind_of_a_master_there_and_back)
{
    for (uint32_t kind = 0; kind < FM_BATCH_MASTER_COUNT_; kind++) {
        struct fm_batch_master_message message = master_sample((enum fm_batch_master_kind)kind);
        struct fm_batch_master_message back;
        struct fm_error error = {0};
        struct fm_text text = {0};
        struct fm_text again = {0};
        CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), 0);
        int status = fm_batch_master_message_read(text.data, text.length, &back, &error);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        CHECK(masters_equal(&back, &message));
        CHECK_INT_EQ(fm_batch_master_message_write(&again, &back), 0);
        CHECK_INT_EQ(again.length, text.length);
        CHECK_MEM_EQ(again.data, text.data, text.length);
        fm_text_deinit(&again);
        fm_text_deinit(&text);
    }
}

TEST(kinds_have_names)
{
    CHECK_STR_EQ(fm_batch_worker_kind_name(FM_BATCH_WORKER_JOIN), "Join");
    CHECK_STR_EQ(fm_batch_worker_kind_name(FM_BATCH_WORKER_LEAVE), "Leave");
    CHECK_STR_EQ(fm_batch_master_kind_name(FM_BATCH_MASTER_WELCOME), "Welcome");
    CHECK_STR_EQ(fm_batch_master_kind_name(FM_BATCH_MASTER_END), "End");
}

/* The bytes are the protocol's: other versions of the program have to read them. */
TEST(bytes_stay_what_they_are)
{
    struct fm_text text = {0};
    CHECK_INT_EQ(write_sample(FM_BATCH_WORKER_HELLO, &text), 0);
    static const char hello[] = "\x12\x27\x09\x10\x20\x30\x40\x50\x60\x70\x80\x10\x10"
                                "\x1A\x02\x10\x01"
                                "\x1A\x16\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"
                                "\x10\xAC\x02\x18\xF0\xA2\x04\x20\xF0\xA2\x04";
    CHECK_INT_EQ(text.length, sizeof(hello) - 1);
    CHECK_MEM_EQ(text.data, hello, sizeof(hello) - 1);
    fm_text_clear(&text);
    CHECK_INT_EQ(write_sample(FM_BATCH_WORKER_COUNT_ + FM_BATCH_MASTER_GRANT, &text), 0);
    static const char grant[] =
        "\x12\x5F"
        "\x0A\x0C\x08\x03\x10\x80\x01\x18\xCB\x01\x20\x02\x30\x01"
        "\x1A\x0F\x0A\x0Bpages/1.jpg\x10\x00"
        "\x1A\x0D\x0A\x0Bpages/2.jpg"
        "\x1A\x0F\x0A\x02\xFF\x00\x10\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"
        "\x1A\x1E\x0A\x08rows.csv\x10\x80\x80\x40\x18\xC8\x01\x20\xAC\x02"
        "\x28\x80\x02\x30\xF0\xA2\x04\x38\x82\x02";
    CHECK_INT_EQ(text.length, sizeof(grant) - 1);
    CHECK_MEM_EQ(text.data, grant, sizeof(grant) - 1);
    fm_text_clear(&text);
    CHECK_INT_EQ(write_sample(FM_BATCH_WORKER_COUNT_ + FM_BATCH_MASTER_END, &text), 0);
    static const char end[] = "\x3A\x1D"
                              "\x08\xF7\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"
                              "\x12\x10the disk is full";
    CHECK_INT_EQ(text.length, sizeof(end) - 1);
    CHECK_MEM_EQ(text.data, end, sizeof(end) - 1);
    fm_text_deinit(&text);
}

/* What the data of a message leaves out is zero, "" or not known. */
TEST(absent_fields)
{
    struct fm_batch_worker_message worker;
    struct fm_batch_master_message master;
    struct fm_error error;
    CHECK_INT_EQ(fm_batch_worker_message_read("\x0A\x02\x08\x01", 4, &worker, &error), 0);
    CHECK_INT_EQ(worker.join.protocol_version, 1);
    CHECK(worker.join.name.data != NULL);
    CHECK_INT_EQ(worker.join.name.size, 0);
    CHECK_INT_EQ(fm_batch_worker_message_read("\x1A\x00", 2, &worker, &error), 0);
    CHECK_INT_EQ(worker.kind, FM_BATCH_WORKER_BEAT);
    CHECK_INT_EQ(worker.beat.holdings.count, 0);
    CHECK_INT_EQ(fm_batch_master_message_read("\x32\x00", 2, &master, &error), 0);
    CHECK_INT_EQ(master.kind, FM_BATCH_MASTER_STOP);
    CHECK(!master.stop.drop);
}

/* A shard that failed for its data and is condemned by now is no suspect any more. */
TEST(condemned_rows)
{
    struct fm_batch_master_message message = master_sample(FM_BATCH_MASTER_GRANT);
    struct fm_batch_master_message back;
    struct fm_error error = {0};
    struct fm_text text = {0};
    message.grant.shard.row_count = 1;
    message.grant.shard.condemned = true;
    message.grant.shard.failures[FM_SHARD_FAILURE_DATA] = 5;
    message.grant.rows.count = 1;
    message.grant.reason = view("the worker died 3 times");
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), 0);
    CHECK_INT_EQ(fm_batch_master_message_read(text.data, text.length, &back, &error), 0);
    CHECK(masters_equal(&back, &message));
    CHECK(back.grant.shard.condemned);
    CHECK_INT_EQ(back.grant.shard.failures[FM_SHARD_FAILURE_DATA], 0);
    message.grant.shard.condemned = false;
    fm_text_clear(&text);
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), 0);
    CHECK_INT_EQ(fm_batch_master_message_read(text.data, text.length, &back, &error), 0);
    CHECK(fm_shard_suspect(&back.grant.shard));
    CHECK_INT_EQ(back.grant.shard.failures[FM_SHARD_FAILURE_DATA], 1);
    fm_text_deinit(&text);
}

/* --- Malformed, and what makes no sense --- */

/* Reads it from memory of exactly its size, so that a sanitizer sees every byte beyond. */
static int read_exactly(bool worker, const void *data, size_t size, struct fm_error *error)
{
    void *copy = malloc(size > 0 ? size : 1);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    int status = read_either(worker, copy, size, error);
    free(copy);
    return status;
}

TEST(cut_off_anywhere)
{
    struct fm_error error;
    size_t shorter = 0;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        struct fm_text text = {0};
        CHECK_INT_EQ(write_sample(kind, &text), 0);
        for (size_t size = 0; size < text.length; size++) {
            CHECK_INT_EQ(read_exactly(is_worker(kind), text.data, size, &error), FM_EINVAL);
            CHECK(error.text[0] != '\0');
        }
        /* What stands inside, cut off, with the length that it has then. */
        struct fm_protobuf_reader reader = fm_protobuf_reader_make(text.data, text.length);
        struct fm_protobuf_field field;
        CHECK_INT_EQ(fm_protobuf_next(&reader, &field), 1);
        for (size_t size = 0; size < field.size; size++) {
            struct fm_text cut = {0};
            fm_protobuf_append_bytes(&cut, field.number, field.data, size);
            int status = read_exactly(is_worker(kind), cut.data, cut.length, &error);
            CHECK(status == 0 || status == FM_EINVAL);
            CHECK_INT_EQ(error.status, status);
            shorter += status == 0;
            fm_text_deinit(&cut);
        }
        fm_text_deinit(&text);
    }
    CHECK_INT_LT(5, shorter);
}

struct bad {
    bool worker;
    uint8_t size;
    const char *bytes;
    const char *words;
};

TEST(malformed_messages)
{
    static const struct bad bad[] = {
        {true, 0, "", "a worker's message says nothing"},
        {false, 0, "", "a master's message says nothing"},
        {true, 2, "\x4A\x00", "the kind 9, which is not known"},
        {false, 2, "\x42\x00", "the kind 8, which is not known"},
        {true, 2, "\x08\x00", "a kind of another type"},
        {true, 2, "\x0A\x01", "malformed or cut off"},
        {true, 3, "\x0A\x01\x08", "the message Join is malformed or cut off"},
        {true, 4, "\x0A\x02\x0A\x00", "the field protocol_version of Join has another type"},
        {true, 4, "\x0A\x02\x10\x01", "the field fermata_version of Join has another type"},
        {true, 4, "\x12\x02\x08\x01", "the field worker of Hello has another type"},
        {true, 4, "\x12\x02\x18\x01", "the field holdings of Hello has another type"},
        {true, 8, "\x0A\x06\x08\x80\x80\x80\x80\x10", "the field protocol_version of Join is too"},
        {true, 8, "\x42\x06\x08\x80\x80\x80\x80\x08", "the field status of Leave is too large"},
        {true, 5, "\x12\x03\x1A\x01\x08", "the message Holding is malformed"},
        {false, 5, "\x0A\x03\x32\x01\x0A", "the message Fact is malformed"},
        {false, 5, "\x12\x03\x0A\x01\x08", "the message Shard is malformed"},
        {false, 5, "\x12\x03\x1A\x01\x0A", "the message Row is malformed"},
    };
    struct fm_error error;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK_INT_EQ(read_exactly(bad[i].worker, bad[i].bytes, bad[i].size, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, bad[i].words);
        CHECK_INT_EQ(read_either(bad[i].worker, bad[i].bytes, bad[i].size, &error), FM_EINVAL);
    }
    /* Words are wanted by nobody. */
    struct fm_batch_worker_message message;
    CHECK_INT_EQ(fm_batch_worker_message_read("", 0, &message, NULL), FM_EINVAL);
}

TEST(numbers_that_make_no_sense)
{
    static const struct bad bad[] = {
        {true, 2, "\x0A\x00", "Join lacks the version"},
        {true, 4, "\x12\x02\x10\x01", "Hello lacks the worker's number"},
        {true, 11, "\x12\x09\x09\1\0\0\0\0\0\0\0", "up to 0 shards"},
        {true, 13, "\x12\x0B\x09\1\0\0\0\0\0\0\0\x10\x11", "up to 17 shards"},
        {true, 15, "\x12\x0D\x09\1\0\0\0\0\0\0\0\x10\x01\x1A\x00", "Hello is of the epoch 0"},
        {true, 10, "\x1A\x08\x0A\x06\x10\x01\x18\x01\x20\x02", "2 bad rows among 1"},
        {true, 10, "\x1A\x08\x0A\x02\x10\x01\x0A\x02\x10\x02", "Beat holds shard 0 twice"},
        {true, 5, "\x1A\x03\x92\x01\x00", "a stage that lacks a name"},
        {true, 17, "\x1A\x0F\x92\x01\x0C\x0A\x01x\x11\0\0\0\0\0\0\0\x40", "busy for 2"},
        {true, 11, "\x1A\x09\x21\0\0\0\0\0\0\xF8\x7F", "slowest_share nan"},
        {true, 11, "\x1A\x09\x21\0\0\0\0\0\0\xF8\xBF", "slowest_share -1.5"},
        {true, 11, "\x1A\x09\x21\0\0\0\0\0\0\xF8\x3F", "slowest_share 1.5"},
        {true, 4, "\x22\x02\x10\x01", "of 0 rows and 0 dead letters"},
        {true, 17, "\x22\x0F\x10\x01\x18\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x20\x01",
         "no more than can be counted"},
        {true, 8, "\x22\x06\x10\x01\x18\x01\x38\x05", "dead-letter part of 5 bytes without"},
        {true, 4, "\x22\x02\x18\x01", "Done is of the epoch 0"},
        {true, 6, "\x2A\x04\x10\x01\x18\x02", "the failure 2, which is not known"},
        {true, 2, "\x2A\x00", "Failed is of the epoch 0"},
        {true, 2, "\x32\x00", "Released is of the epoch 0"},
        {true, 4, "\x3A\x02\x10\x01", "Trimmed keeps no row"},
        {true, 4, "\x3A\x02\x18\x01", "Trimmed is of the epoch 0"},
        {true, 4, "\x42\x02\x18\x04", "the cause 4, which is not known"},
        {false, 6, "\x0A\x04\x38\x01\x48\x02", "give_up_ns 0"},
        {false, 12, "\x0A\x0A\x08\x01\x38\x01\x40\x03\x48\x02\x60\x15", "21 halvings"},
        {false, 6, "\x0A\x04\x40\x01\x48\x02", "beat_ns 0"},
        {false, 8, "\x0A\x06\x38\x02\x40\x01\x48\x02", "a beat comes within a lease"},
        {false, 8, "\x0A\x06\x38\x01\x40\x01\x48\x02", "Welcome lacks the version"},
        {false, 4, "\x0A\x02\x32\x00", "a fact without a key"},
        {false, 2, "\x12\x00", "Grant is of 0 rows"},
        {false, 17, "\x12\x0F\x0A\x0D\x10\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x18\x01",
         "1 rows from row 18446744073709551615 on"},
        {false, 6, "\x12\x04\x0A\x02\x18\x01", "names 0 rows of a shard that has 1"},
        {false, 4, "\x12\x02\x1A\x00", "a row without an id"},
        {false, 9, "\x12\x07\x1A\x05\x0A\x01x\x20\x01", "0 rows of a file from row 1 on"},
        {false, 11, "\x12\x09\x1A\x07\x0A\x01x\x18\x01\x28\x01",
         "from row 0 on, to be read from row 1"},
        {false, 18, "\x12\x10\x0A\x04\x18\x02\x28\x01\x1A\x03\x0A\x01x\x1A\x03\x0A\x01y",
         "condemns 2 rows at once"},
        {false, 11, "\x12\x09\x0A\x02\x18\x01\x1A\x03\x0A\x01x", "Grant is of the epoch 0"},
        {false, 2, "\x1A\x00", "Committed is of the epoch 0"},
        {false, 2, "\x22\x00", "Refused is of the epoch 0"},
        {false, 2, "\x2A\x00", "Trim is of the epoch 0"},
    };
    struct fm_error error;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        int status = read_exactly(bad[i].worker, bad[i].bytes, bad[i].size, &error);
        CHECK_STR_CONTAINS(error.text, bad[i].words);
        CHECK_INT_EQ(status, FM_EINVAL);
    }
}

/* What could not be read cannot be written, and the text stays what it was. */
TEST(nonsense_is_not_written)
{
    static const struct fm_batch_row nameless = {.id = {"", 0}, .size = 1};
    static const struct fm_batch_fact keyless = {{"", 0}, {"v", 1}};
    struct fm_text text = {0};
    fm_text_append_string(&text, "before");
    struct fm_batch_worker_message worker = worker_sample(FM_BATCH_WORKER_HELLO);
    worker.hello.holdings.count = FM_MASTER_SHARDS_OF_ONE_MAX + 1;
    CHECK_INT_EQ(fm_batch_worker_message_write(&text, &worker), FM_ELIMIT);
    worker.hello.holdings = some_holdings;
    worker.hello.holdings.items[1].number = 0;
    CHECK_INT_EQ(fm_batch_worker_message_write(&text, &worker), FM_EINVAL);
    struct fm_batch_master_message master = master_sample(FM_BATCH_MASTER_GRANT);
    master.grant.rows.count--;
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &master), FM_EINVAL);
    master.grant.shard.row_count = 1;
    master.grant.rows = (struct fm_batch_rows){.items = &nameless, .count = 1};
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &master), FM_EINVAL);
    master = master_sample(FM_BATCH_MASTER_WELCOME);
    master.welcome.facts = (struct fm_batch_facts){.items = &keyless, .count = 1};
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &master), FM_EINVAL);
    CHECK_STR_EQ(text.data, "before");
    CHECK_INT_EQ(text.length, 6);
    CHECK(!text.failed);
    fm_text_deinit(&text);
}

/* --- Limits --- */

TEST(holdings_have_a_limit)
{
    struct fm_batch_worker_message message = worker_sample(FM_BATCH_WORKER_BEAT);
    struct fm_batch_worker_message back;
    struct fm_error error = {0};
    struct fm_text text = {0};
    message.beat.holdings.count = FM_MASTER_SHARDS_OF_ONE_MAX;
    for (uint32_t i = 0; i < FM_MASTER_SHARDS_OF_ONE_MAX; i++) {
        message.beat.holdings.items[i] = (struct fm_master_holding){.number = i, .epoch = 1};
    }
    CHECK_INT_EQ(fm_batch_worker_message_write(&text, &message), 0);
    CHECK_INT_EQ(fm_batch_worker_message_read(text.data, text.length, &back, &error), 0);
    CHECK(workers_equal(&back, &message));
    fm_text_deinit(&text);
    struct fm_text inner = {0};
    for (uint32_t i = 0; i <= FM_MASTER_SHARDS_OF_ONE_MAX; i++) {
        const uint8_t holding[] = {0x08, (uint8_t)i, 0x10, 0x01};
        fm_protobuf_append_bytes(&inner, 1, holding, sizeof(holding));
    }
    fm_protobuf_append_bytes(&text, 3, inner.data, inner.length);
    CHECK_INT_EQ(fm_batch_worker_message_read(text.data, text.length, &back, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "more than 16 holdings");
    fm_text_deinit(&inner);
    fm_text_deinit(&text);
}

TEST(texts_have_limits)
{
    struct fm_error error;
    char *long_text = calloc(1, FM_BATCH_NAME_BYTES_MAX + 1);
    CHECK(long_text != NULL);
    for (size_t size = FM_BATCH_NAME_BYTES_MAX; size <= FM_BATCH_NAME_BYTES_MAX + 1; size++) {
        int expected = size == FM_BATCH_NAME_BYTES_MAX ? 0 : FM_ETOOLARGE;
        struct fm_text text = {0};
        struct fm_text inner = {0};
        struct fm_batch_worker_message message = worker_sample(FM_BATCH_WORKER_JOIN);
        message.join.name = (struct fm_batch_view){long_text, size};
        CHECK_INT_EQ(fm_batch_worker_message_write(&text, &message), expected);
        fm_text_clear(&text);
        fm_protobuf_append_uint(&inner, 1, 1);
        fm_protobuf_append_bytes(&inner, 5, long_text, size);
        fm_protobuf_append_bytes(&text, 1, inner.data, inner.length);
        CHECK_INT_EQ(read_either(true, text.data, text.length, &error), expected);
        CHECK_STR_EQ(error.text,
                     expected == 0 ? "" : "the field name of Join has 256 bytes, 255 are possible");
        fm_text_deinit(&inner);
        fm_text_deinit(&text);
    }
    free(long_text);
}

TEST(facts_have_a_limit)
{
    struct fm_batch_fact *facts = calloc(FM_BATCH_FACTS_MAX + 1, sizeof(*facts));
    CHECK(facts != NULL);
    for (uint32_t i = 0; i <= FM_BATCH_FACTS_MAX; i++) {
        facts[i] = (struct fm_batch_fact){{"k", 1}, {"v", 1}};
    }
    for (uint32_t count = FM_BATCH_FACTS_MAX; count <= FM_BATCH_FACTS_MAX + 1; count++) {
        struct fm_text text = {0};
        struct fm_text inner = {0};
        struct fm_error error;
        int expected = count == FM_BATCH_FACTS_MAX ? 0 : FM_ELIMIT;
        struct fm_batch_master_message message = master_sample(FM_BATCH_MASTER_WELCOME);
        message.welcome.facts = (struct fm_batch_facts){.items = facts, .count = count};
        CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), expected);
        fm_text_clear(&text);
        fm_text_append(&inner, "\x08\x01\x38\x01\x40\x01\x48\x02", 8);
        for (uint32_t i = 0; i < count; i++) {
            fm_protobuf_append_bytes(&inner, 6, "\x0A\x01k", 3);
        }
        fm_protobuf_append_bytes(&text, 1, inner.data, inner.length);
        CHECK_INT_EQ(read_either(false, text.data, text.length, &error), expected);
        fm_text_deinit(&inner);
        fm_text_deinit(&text);
    }
    free(facts);
}

TEST(messages_have_a_limit)
{
    enum { ROWS = 17000 }; /* of 4 KiB: together more than a message may have */
    struct fm_error error;
    CHECK_INT_EQ(read_either(true, "", (size_t)FM_BATCH_MESSAGE_BYTES_MAX + 1, &error),
                 FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "67108865 bytes");
    char *id = calloc(1, FM_BATCH_ID_BYTES_MAX + 1);
    struct fm_batch_row *rows = calloc(ROWS, sizeof(*rows));
    CHECK(id != NULL);
    CHECK(rows != NULL);
    for (size_t i = 0; i < ROWS; i++) {
        rows[i] =
            (struct fm_batch_row){.id = {id, FM_BATCH_ID_BYTES_MAX}, .size = FM_BATCH_SIZE_UNKNOWN};
    }
    struct fm_text text = {0};
    struct fm_batch_master_message message = master_sample(FM_BATCH_MASTER_GRANT);
    message.grant.rows.items = rows;
    message.grant.rows.count = message.grant.shard.row_count = ROWS;
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), FM_ETOOLARGE);
    CHECK_INT_EQ(text.length, 0);
    CHECK(!text.failed);
    message.grant.rows.count = message.grant.shard.row_count = 16000;
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), 0);
    struct fm_batch_master_message back;
    CHECK_INT_EQ(fm_batch_master_message_read(text.data, text.length, &back, &error), 0);
    CHECK(masters_equal(&back, &message));
    rows[0].id.size = FM_BATCH_ID_BYTES_MAX + 1;
    message.grant.rows.count = message.grant.shard.row_count = 2;
    fm_text_clear(&text);
    CHECK_INT_EQ(fm_batch_master_message_write(&text, &message), FM_ETOOLARGE);
    fm_text_deinit(&text);
    free(rows);
    free(id);
}

/* --- Fields that are not known here --- */

/* Copies a message, with fields of all types that nobody knows before, between and behind its own;
 * `depth` messages deep. */
static void append_with_strangers(struct fm_text *text, const uint8_t *data, size_t size,
                                  uint32_t depth)
{
    static const char strangers[] = "\xA0\x06\x05\xA2\x06\x03new\xA5\x06"
                                    "1234\xA1\x06"
                                    "12345678"
                                    "\xA3\x06\x08\x01\xA4\x06";
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    struct fm_protobuf_field field;
    fm_text_append(text, strangers, sizeof(strangers) - 1);
    while (fm_protobuf_next(&reader, &field) == 1) {
        if (field.type == FM_PROTOBUF_VARINT) {
            fm_protobuf_append_uint(text, field.number, field.value);
        } else if (field.type == FM_PROTOBUF_FIXED64) {
            fm_protobuf_append_fixed64(text, field.number, field.value);
        } else if (depth > 0) {
            struct fm_text inner = {0};
            append_with_strangers(&inner, field.data, field.size, depth - 1);
            fm_protobuf_append_bytes(text, field.number, inner.data, inner.length);
            fm_text_deinit(&inner);
        } else {
            fm_protobuf_append_bytes(text, field.number, field.data, field.size);
        }
        fm_text_append(text, strangers, sizeof(strangers) - 1);
    }
}

TEST(unknown_fields_are_stepped_over)
{
    struct fm_error error;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        struct fm_text text = {0};
        struct fm_text strange = {0};
        CHECK_INT_EQ(write_sample(kind, &text), 0);
        append_with_strangers(&strange, (const uint8_t *)text.data, text.length, 1);
        CHECK_INT_LT(text.length, strange.length);
        if (is_worker(kind)) {
            struct fm_batch_worker_message message = worker_sample((enum fm_batch_worker_kind)kind);
            struct fm_batch_worker_message back;
            CHECK_INT_EQ(fm_batch_worker_message_read(strange.data, strange.length, &back, &error),
                         0);
            CHECK(workers_equal(&back, &message));
        } else {
            struct fm_batch_master_message message =
                master_sample((enum fm_batch_master_kind)(kind - FM_BATCH_WORKER_COUNT_));
            struct fm_batch_master_message back;
            CHECK_INT_EQ(fm_batch_master_message_read(strange.data, strange.length, &back, &error),
                         0);
            CHECK(masters_equal(&back, &message));
        }
        fm_text_deinit(&strange);
        fm_text_deinit(&text);
    }
}

TEST(strangers_in_holdings_and_shards)
{
    static const char beat[] = "\x1A\x0A\x0A\x08\x7A\x02hi\x10\x01\x18\x07";
    struct fm_batch_worker_message message;
    struct fm_error error;
    CHECK_INT_EQ(fm_batch_worker_message_read(beat, sizeof(beat) - 1, &message, &error), 0);
    CHECK_INT_EQ(message.beat.holdings.items[0].rows_done, 7);
}

/* Of several kinds the last counts, whole, and so does the last of several texts. */
TEST(the_last_kind_counts)
{
    struct fm_text text = {0};
    struct fm_batch_worker_message message;
    struct fm_error error;
    CHECK_INT_EQ(write_sample(FM_BATCH_WORKER_HELLO, &text), 0);
    fm_text_append(&text, "\x0A\x07\x08\x02\x2A\x03old", 9);
    fm_text_append(&text, "\x0A\x0A\x08\x01\x2A\x01n\x2A\x03new", 12);
    CHECK_INT_EQ(fm_batch_worker_message_read(text.data, text.length, &message, &error), 0);
    CHECK_INT_EQ(message.kind, FM_BATCH_WORKER_JOIN);
    CHECK_INT_EQ(message.join.protocol_version, 1);
    CHECK(views_equal(message.join.name, view("new")));
    fm_text_deinit(&text);
}

/* --- Memory --- */

TEST(out_of_memory_while_writing)
{
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        uint64_t refused = 0;
        for (uint64_t at = 1;; at++) {
            struct fm_text text = {0};
            (void)fm_memory_fail_at(at, 1);
            int status = write_sample(kind, &text);
            (void)fm_memory_fail_at(0, 0);
            if (status == 0) {
                CHECK(text.length > 0);
                fm_text_deinit(&text);
                break;
            }
            CHECK_INT_EQ(status, FM_ENOMEM);
            CHECK(text.failed);
            CHECK_INT_EQ(text.length, 0);
            refused++;
            fm_text_deinit(&text);
        }
        CHECK_INT_LE(1, refused);
    }
}

TEST(small_messages_need_no_memory)
{
    char memory[64];
    struct fm_text text;
    fm_text_begin(&text, memory, sizeof(memory));
    (void)fm_memory_fail_at(1, 1);
    int status = write_sample(FM_BATCH_WORKER_TRIMMED, &text);
    (void)fm_memory_fail_at(0, 0);
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(text.length, 8);
    fm_text_deinit(&text);
}

TEST_MAIN()
