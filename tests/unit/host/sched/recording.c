/*
 * The recording of a scheduler in real time: what goes in can be read, and what goes wrong is said.
 */
#include "host/sched/recording.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { STEPS = 200000 };

static struct fm_sched_record_header header(void)
{
    return (struct fm_sched_record_header){.options = {.policy = FM_SCHED_POLICY_EAGER,
                                                       .models_max = 4,
                                                       .accelerators_max = 2,
                                                       .type_count = 1,
                                                       .requests_max = 1024,
                                                       .batch_max = 8},
                                           .events_max = 64,
                                           .action_capacity = 64,
                                           .request_capacity = 64,
                                           .has_actions = true};
}

static struct fm_sched_record_step step_of(uint64_t number, struct fm_sched_event *event)
{
    *event = (struct fm_sched_event){.kind = FM_SCHED_EVENT_REQUEST};
    event->as.request.request = (uint32_t)(number % 1024);
    event->as.request.model = (uint32_t)(number % 4);
    event->as.request.deadline_ns = number * 1000 + 5000000;
    return (struct fm_sched_record_step){.now_ns = number * 1000,
                                         .events = event,
                                         .event_count = 1,
                                         .taken = 1,
                                         .wake_ns = FM_SCHED_NEVER};
}

TEST(what_is_written_can_be_read)
{
    char path[] = "/tmp/fm-recording-XXXXXX";
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0);
    (void)close(descriptor);
    struct fm_error error = {0};
    struct fm_recording *recording = NULL;
    struct fm_sched_record_header of = header();
    CHECK_INT_EQ(fm_recording_open(path, &of, &recording, &error), FM_EEXIST);
    CHECK_STR_CONTAINS(error.text, "is there already");
    CHECK_INT_EQ(unlink(path), 0);
    CHECK_INT_EQ(fm_recording_open(path, &of, &recording, &error), 0);
    for (uint64_t i = 1; i <= STEPS; i++) {
        struct fm_sched_event event;
        struct fm_sched_record_step step = step_of(i, &event);
        fm_recording_step(recording, &step);
    }
    struct fm_recording_stats stats;
    fm_recording_stats_get(recording, &stats);
    CHECK_UINT_EQ(stats.steps, STEPS);
    CHECK(!stats.ended);
    CHECK_INT_EQ(fm_recording_close(recording, &error), 0);
    char *data = NULL;
    size_t size = 0;
    CHECK_INT_EQ(fm_file_read(path, (size_t)1 << 30, &data, &size, &error), 0);
    static struct fm_sched_record_reader reader;
    CHECK_INT_EQ(fm_sched_record_open(&reader, data, size, &error), 0);
    CHECK_INT_EQ(reader.header.options.policy, FM_SCHED_POLICY_EAGER);
    struct fm_arena arena;
    fm_arena_init(&arena, 0);
    static struct fm_sched_event events[64];
    static struct fm_sched_action actions[64];
    static uint32_t requests[64];
    const struct fm_sched_record_arrays arrays = {
        .events = events, .actions = actions, .requests = requests};
    bool end = false;
    uint64_t steps = 0;
    error = (struct fm_error){0};
    while (!end && error.status == 0) {
        struct fm_sched_record_step step;
        CHECK_INT_EQ(fm_sched_record_read(&reader, &arrays, &arena, &step, &end, &error), 0);
        steps += end ? 0 : 1;
    }
    CHECK_UINT_EQ(steps, STEPS);
    fm_arena_deinit(&arena);
    fm_free(data);
    CHECK_INT_EQ(unlink(path), 0);
}

TEST(a_file_that_cannot_be_written_is_said)
{
    struct fm_error error = {0};
    struct fm_recording *recording = NULL;
    struct fm_sched_record_header of = header();
    CHECK(fm_recording_open("/nowhere/at/all.fmrec", &of, &recording, &error) != 0);
    CHECK_STR_CONTAINS(error.text, "/nowhere/at/all.fmrec");
    CHECK_INT_EQ(fm_recording_close(NULL, &error), 0);
}

/* Waits until `bytes` are in the file, or the recording ended. */
static void written_wait(const struct fm_recording *recording, uint64_t bytes,
                         struct fm_recording_stats *ret_stats)
{
    for (uint32_t i = 0; i < 30000; i++) {
        fm_recording_stats_get(recording, ret_stats);
        if (ret_stats->ended || ret_stats->bytes >= bytes) {
            return;
        }
        fm_sleep_until(fm_os_now_ns() + 1000000);
    }
}

TEST(what_is_flushed_is_in_the_file_and_a_full_disk_is_said)
{
    char path[64];
    struct fm_error error = {0};
    struct fm_recording *recording = NULL;
    struct fm_recording_stats stats;
    struct fm_sched_event event;
    struct fm_sched_record_header of = header();
    struct rlimit before;
    (void)snprintf(path, sizeof path, "/tmp/fm-recording-%ld", (long)getpid());
    (void)unlink(path);
    CHECK_INT_EQ(fm_recording_open(path, &of, &recording, &error), 0);
    struct fm_sched_record_step step = step_of(1, &event);
    fm_recording_step(recording, &step);
    CHECK_INT_EQ(fm_recording_flush(recording, &error), 0);
    written_wait(recording, 1, &stats);
    CHECK(stats.bytes > 0 && !stats.ended);
    CHECK_INT_EQ(fm_recording_flush(recording, &error), 0); /* with nothing to say */

    /* As on a full disk. */
    (void)signal(SIGXFSZ, SIG_IGN);
    CHECK_INT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit none = {.rlim_cur = 1, .rlim_max = before.rlim_max};
    CHECK_INT_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
    int status = 0;
    for (uint64_t i = 2; i < 30000 && status == 0; i++) {
        step = step_of(i, &event);
        fm_recording_step(recording, &step);
        status = fm_recording_flush(recording, &error);
        fm_sleep_until(fm_os_now_ns() + 1000000);
    }
    CHECK_INT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK_INT_LT(status, 0);
    CHECK_STR_CONTAINS(error.text, path);
    fm_recording_stats_get(recording, &stats);
    CHECK(stats.ended);
    CHECK_INT_EQ(fm_recording_flush(recording, &error), status);
    CHECK_INT_EQ(fm_recording_close(recording, &error), status);
    CHECK_INT_EQ(unlink(path), 0);
}

int main(int argc, char **argv)
{
    return fm_test_main(argc, argv);
}
