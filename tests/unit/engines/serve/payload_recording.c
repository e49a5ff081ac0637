/*
 * The recording of payloads: what goes in can be read, by several threads too; what does not fit is
 * counted; the file is its owner's only.
 */
#include "engines/serve/payload_recording.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/error.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

static char path[80];

static struct fm_payload_recording *recording_open(uint64_t bytes_max, double share)
{
    struct fm_payload_recording *recording = NULL;
    (void)snprintf(path, sizeof path, "/tmp/fm-payloads-%ld", (long)getpid());
    (void)unlink(path);
    const struct fm_payload_recording_options options = {
        .path = path, .server = "test", .bytes_max = bytes_max, .share = share};
    return fm_payload_recording_open(&options, &recording, NULL) == 0 ? recording : NULL;
}

/* A request of `size` bytes that all are `number`. */
static void put(struct fm_payload_recording *recording, unsigned char number, size_t size)
{
    unsigned char *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return;
    }
    memset(bytes, number, size + 1);
    const struct fm_payload_input input = {"x",
                                           {.dtype = FM_DTYPE_UINT8,
                                            .rank = 1,
                                            .shape = {(int64_t)size},
                                            .data = bytes,
                                            .size = size}};
    const struct fm_payload_output output = {"y", number};
    char id[8];
    (void)snprintf(id, sizeof id, "%u", number);
    const struct fm_payload payload = {.kind = FM_PAYLOAD_REQUEST,
                                       .time_ns = fm_os_now_ns(),
                                       .model = "model",
                                       .protocol = "http",
                                       .id = id,
                                       .id_length = strlen(id),
                                       .inputs = &input,
                                       .input_count = 1,
                                       .outputs = &output,
                                       .output_count = 1};
    fm_payload_recording_put(recording, &payload);
    free(bytes);
}

struct found {
    uint32_t begins;
    uint32_t requests;
    uint32_t wrong;
    uint64_t bytes;
    struct fm_payload end;
};

static void line_look(const char *line, size_t length, struct found *found)
{
    struct fm_arena arena;
    struct fm_payload payload;
    fm_arena_init(&arena, 0);
    if (fm_payload_read(line, length, &arena, &payload, NULL) != 0) {
        found->wrong++;
    } else if (payload.kind == FM_PAYLOAD_REQUEST) {
        const struct fm_tensor *tensor = &payload.inputs[0].tensor;
        const unsigned char *bytes = tensor->data;
        found->requests++;
        found->bytes += tensor->size;
        found->wrong += payload.time_ns > UINT64_C(60000000000);
        for (size_t i = 0; i < tensor->size; i++) {
            found->wrong += bytes[i] != payload.outputs[0].classes;
        }
        char id[8];
        (void)snprintf(id, sizeof id, "%u", (unsigned)payload.outputs[0].classes);
        found->wrong += strcmp(payload.id, id) != 0;
    } else if (payload.kind == FM_PAYLOAD_END) {
        found->end = payload;
    } else {
        found->begins++;
    }
    fm_arena_deinit(&arena);
}

static void file_look(struct found *ret_found)
{
    char *data = NULL;
    size_t size = 0;
    *ret_found = (struct found){0};
    if (fm_file_read(path, SIZE_MAX / 2, &data, &size, NULL) != 0) {
        ret_found->wrong = 1;
        return;
    }
    for (const char *line = data; line < data + size;) {
        const char *end = memchr(line, '\n', (size_t)(data + size - line));
        end = end != NULL ? end : data + size;
        line_look(line, (size_t)(end - line), ret_found);
        line = end + 1;
    }
    fm_free(data);
}

TEST(what_goes_in_comes_out)
{
    struct found found;
    struct stat facts;
    struct fm_payload_recording *recording = recording_open(UINT64_C(1) << 30, 1);
    CHECK(recording != NULL);
    for (uint32_t i = 0; i < 2000; i++) {
        put(recording, (unsigned char)i, i);
    }
    put(recording, 1, 5000000);
    fm_payload_recording_close(recording);
    file_look(&found);
    CHECK_UINT_EQ(found.wrong, 0);
    CHECK_UINT_EQ(found.begins, 1);
    CHECK_UINT_EQ(found.requests, 2001);
    CHECK_UINT_EQ(found.bytes, 1999 * 1000 + 5000000);
    CHECK_UINT_EQ(found.end.recorded, 2001);
    CHECK_UINT_EQ(found.end.left_out, 0);
    CHECK_INT_EQ(stat(path, &facts), 0);
    CHECK_INT_EQ(facts.st_mode & 0777, 0600);
    (void)unlink(path);
}

TEST(a_file_that_is_there_stays)
{
    struct fm_payload_recording *recording = recording_open(UINT64_C(1) << 30, 1);
    CHECK(recording != NULL);
    struct fm_payload_recording *other = NULL;
    struct fm_error error = {0};
    const struct fm_payload_recording_options options = {
        .path = path, .bytes_max = 1000, .share = 1};
    CHECK_INT_EQ(fm_payload_recording_open(&options, &other, &error), FM_EEXIST);
    CHECK_STR_CONTAINS(error.text, "is there already");
    fm_payload_recording_close(recording);
    const struct fm_payload_recording_options nowhere = {
        .path = "/tmp/no/such/folder", .bytes_max = 1000, .share = 1};
    CHECK_INT_LT(fm_payload_recording_open(&nowhere, &other, &error), 0);
    (void)unlink(path);
}

TEST(what_does_not_fit_is_counted)
{
    struct found found;
    struct stat facts;
    struct fm_payload_recording *recording = recording_open(20000, 1);
    CHECK(recording != NULL);
    for (uint32_t i = 0; i < 100; i++) {
        put(recording, (unsigned char)i, 1000);
    }
    put(recording, 1, FM_PAYLOAD_WAITING_BYTES_MAX); /* more than may wait */
    fm_payload_recording_lost(recording);
    fm_payload_recording_close(recording);
    file_look(&found);
    CHECK_UINT_EQ(found.wrong, 0);
    CHECK(found.requests > 5 && found.requests < 15);
    CHECK_UINT_EQ(found.end.recorded, found.requests);
    CHECK_UINT_EQ(found.end.left_out, 102 - found.requests);
    CHECK_INT_EQ(stat(path, &facts), 0);
    CHECK(facts.st_size <= 20000);
    (void)unlink(path);
}

TEST(without_memory)
{
    struct found found;
    struct fm_payload_recording *recording = recording_open(UINT64_C(1) << 30, 1);
    CHECK(recording != NULL);
    (void)fm_memory_fail_at(1, 1);
    put(recording, 1, 100);
    (void)fm_memory_fail_at(0, 0);
    put(recording, 2, 100);
    fm_payload_recording_close(recording);
    file_look(&found);
    CHECK_UINT_EQ(found.wrong, 0);
    CHECK_UINT_EQ(found.end.left_out, 1);
    CHECK_UINT_EQ(found.end.recorded, 1);
    (void)unlink(path);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        (void)fm_memory_fail_at(nth, 0);
        recording = recording_open(1000, 1);
        (void)fm_memory_fail_at(0, 0);
        CHECK_PTR_EQ(recording, NULL);
        CHECK_INT_LT(access(path, F_OK), 0); /* nothing is left */
    }
}

TEST(a_share)
{
    struct fm_random random;
    struct fm_payload_recording_stats stats;
    uint32_t wanted = 0;
    struct fm_payload_recording *recording = recording_open(1000, 0.25);
    CHECK(recording != NULL);
    fm_random_init(&random, 1);
    for (uint32_t i = 0; i < 10000; i++) {
        wanted += fm_payload_recording_wants(recording, &random);
    }
    fm_payload_recording_stats(recording, &stats);
    CHECK(wanted > 2300 && wanted < 2700);
    CHECK_UINT_EQ(stats.sampled_out, 10000 - wanted);
    fm_payload_recording_close(recording);
    (void)unlink(path);
}

enum { THREADS = 4, EACH = 3000 };
static struct fm_payload_recording *shared;

static void use(void *argument)
{
    for (uint32_t i = 0; i < EACH; i++) {
        put(shared, (unsigned char)(uintptr_t)argument, i % 300);
    }
}

TEST(several_threads)
{
    struct fm_thread threads[THREADS];
    struct found found;
    shared = recording_open(UINT64_C(1) << 30, 1);
    CHECK(shared != NULL);
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK_INT_EQ(fm_thread_start(&threads[i], "test", use, (void *)(i + 1)), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        fm_thread_join(&threads[i]);
    }
    fm_payload_recording_close(shared);
    file_look(&found);
    CHECK_UINT_EQ(found.wrong, 0);
    CHECK_UINT_EQ(found.requests + found.end.left_out, THREADS * EACH);
    CHECK_UINT_EQ(found.end.left_out, 0);
    (void)unlink(path);
}

static void use_until(void *argument)
{
    const _Atomic bool *over = argument;
    for (uint32_t i = 0; !atomic_load(over); i++) {
        put(shared, 7, i % 300);
        if (i % 8 == 0) {
            fm_sleep_until(fm_os_now_ns() + 20000); /* so that the files stay small */
        }
    }
}

TEST(an_end_while_others_go_on)
{
    for (uint32_t round = 0; round < 5; round++) {
        struct fm_thread threads[THREADS];
        struct fm_payload_recording_stats stats;
        struct found found;
        _Atomic bool over = false;
        shared = recording_open(UINT64_C(1) << 30, 1);
        CHECK(shared != NULL);
        for (uint32_t i = 0; i < THREADS; i++) {
            CHECK_INT_EQ(fm_thread_start(&threads[i], "test", use_until, &over), 0);
        }
        do {
            fm_payload_recording_stats(shared, &stats);
        } while (stats.recorded < 20);
        fm_payload_recording_end(shared);
        fm_payload_recording_stats(shared, &stats);
        file_look(&found); /* whole, though they still put */
        atomic_store(&over, true);
        for (uint32_t i = 0; i < THREADS; i++) {
            fm_thread_join(&threads[i]);
        }
        CHECK_UINT_EQ(found.wrong, 0);
        CHECK_UINT_EQ(found.requests, stats.recorded);
        CHECK_UINT_EQ(found.end.recorded, stats.recorded);
        fm_payload_recording_close(shared);
        (void)unlink(path);
    }
}

TEST_MAIN()
