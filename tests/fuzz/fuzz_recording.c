/*
 * Fuzzes core/sched/record and what stands on it: any bytes are replayed, or are an error that
 * names a place. The first byte chooses whether the hashes are made right first, as otherwise no
 * mutation gets past them, and whether a what-if is made of it, too.
 */
#include "core/sched/record.h"

#include <string.h>

#include "core/util/hash.h"
#include "core/util/memory.h"
#include "engines/sim/recorder.h"
#include "engines/sim/replay.h"
#include "engines/sim/what_if.h"
#include "engines/sim/world.h"
#include "tests/fuzz/check.h"

enum {
    FIRST_SIZE = 12,
    FRAME_SIZE = 13,
    SIZE_MAX_SMALL = 1 << 12,
    POLICIES = FM_SCHED_POLICY_COUNT_
};

/* Longer ones are fine, but policies that look around every second take theirs. */
#define MEASURE_MAX_NS UINT64_C(100000000000)

/* Makes the hash of every whole block right. */
static void rehash(uint8_t *bytes, size_t size)
{
    if (size < FIRST_SIZE) {
        return;
    }
    uint64_t hash = fm_hash_add(FM_HASH_START, bytes, FIRST_SIZE);
    for (size_t at = FIRST_SIZE; size - at >= FRAME_SIZE;) {
        size_t length = 0;
        for (unsigned i = 0; i < 4; i++) {
            length |= (size_t)bytes[at + 1 + i] << (8 * i);
        }
        if (length > size - at - FRAME_SIZE) {
            return;
        }
        uint8_t *check = bytes + at + 5 + length;
        hash = fm_hash_add(hash, bytes + at, 5 + length);
        for (unsigned i = 0; i < 8; i++) {
            check[i] = (uint8_t)(hash >> (8 * i));
        }
        hash = fm_hash_add(hash, check, 8);
        at += length + FRAME_SIZE;
    }
}

/* A scheduler of the header's size would be made: only small ones, which do not take seconds. */
static bool is_small(const uint8_t *bytes, size_t size)
{
    struct fm_sched_record_reader *reader = fm_alloc(sizeof *reader);
    struct fm_error error = {0};
    bool small = false;
    if (reader != NULL && fm_sched_record_open(reader, bytes, size, &error) == 0) {
        const struct fm_sched_options *options = &reader->header.options;
        small = options->models_max <= 64 && options->accelerators_max <= 64 &&
                options->requests_max <= SIZE_MAX_SMALL && options->batch_max <= 64 &&
                reader->header.events_max <= SIZE_MAX_SMALL &&
                reader->header.action_capacity <= SIZE_MAX_SMALL &&
                reader->header.request_capacity <= SIZE_MAX_SMALL;
    } else {
        FUZZ_CHECK(reader == NULL || error.text[0] != '\0');
    }
    fm_free(reader);
    return small;
}

static void replay(const uint8_t *bytes, size_t size)
{
    struct fm_sim_replay found;
    struct fm_sim_recorder recorder = {0};
    struct fm_error error = {0};
    int status = fm_sim_replay(bytes, size, &recorder, &found, &error);
    FUZZ_CHECK(status == error.status);
    FUZZ_CHECK(status == 0 || error.text[0] != '\0');
    FUZZ_CHECK(found.differs == (found.difference[0] != '\0'));
    FUZZ_CHECK(status != 0 || found.differs || found.steps == 0 || !fm_fuzz_canary);
    if (status == 0 && !found.differs) {
        /* What was replayed without a difference is recorded the same way and replays, too. */
        struct fm_sim_replay again;
        FUZZ_CHECK(fm_sim_recorder_finish(&recorder, &error) == 0);
        status = fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &again, &error);
        FUZZ_CHECK(status == 0 && !again.differs && again.steps == found.steps &&
                   again.trace_hash == found.trace_hash);
    }
    fm_sim_recorder_deinit(&recorder);
}

static void what_if(const uint8_t *bytes, size_t size)
{
    struct fm_sim_scenario scenario;
    struct fm_sim_what_if rest;
    struct fm_error error = {0};
    int status = fm_sim_what_if_load("fuzz", bytes, size, &scenario, &rest, &error);
    FUZZ_CHECK(status == error.status);
    if (status == 0) {
        FUZZ_CHECK(fm_sim_scenario_model_count(&scenario) > 0);
        FUZZ_CHECK(fm_sim_scenario_accelerator_count(&scenario) > 0);
        if (scenario.measure_ns < MEASURE_MAX_NS) {
            struct fm_sim_result *result = NULL;
            struct fm_sim_run_options options = {.policy = scenario.policy, .seed = 1, .scale = 1};
            status = fm_sim_run(&scenario, &options, &result, &error);
            FUZZ_CHECK(status == 0 || error.text[0] != '\0');
            fm_sim_result_free(result);
        }
    }
    fm_sim_scenario_deinit(&scenario);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned form = size > 0 ? data[0] : 0;
    size_t length = size > 0 ? size - 1 : 0;
    /* A copy of the exact size, so that a read beyond the end is seen. */
    uint8_t *bytes = fm_alloc(length);
    if (bytes == NULL) {
        return 0;
    }
    if (length > 0) {
        memcpy(bytes, data + 1, length);
    }
    if ((form & 1u) != 0) {
        rehash(bytes, length);
    }
    if (is_small(bytes, length)) {
        replay(bytes, length);
        if ((form & 2u) != 0) {
            what_if(bytes, length);
        }
    }
    fm_free(bytes);
    return 0;
}

/* --- seeds -------------------------------------------------------------------------------------
 * Small lives of a scheduler, one for each policy, driven by hand. */

static void step(struct fm_sched *sched, struct fm_sim_recorder *recorder, uint64_t now_ns,
                 const struct fm_sched_event *events, uint32_t count)
{
    struct fm_sched_action items[32];
    uint32_t requests[64];
    struct fm_sched_actions actions = {
        .items = items, .capacity = 32, .requests = requests, .request_capacity = 64};
    uint32_t taken = 0;
    if (fm_sched_step(sched, now_ns, events, count, &actions, &taken) == 0) {
        fm_sim_recorder_step(recorder,
                             &(struct fm_sched_record_step){.now_ns = now_ns,
                                                            .events = events,
                                                            .event_count = count,
                                                            .taken = taken,
                                                            .actions = items,
                                                            .action_count = actions.count,
                                                            .requests = requests,
                                                            .request_count = actions.request_count,
                                                            .wake_ns = actions.wake_ns});
    }
}

static void live(struct fm_sched *sched, struct fm_sim_recorder *recorder)
{
    struct fm_profile profile = {0};
    (void)!fm_profile_add_affine(&profile, 1000000, 5000000, 16, NULL);
    struct fm_sched_model model = {
        .slo_ns = 25000000, .profiles = {&profile}, .preferred = {4}, .queue_delay_ns = 5000000};
    struct fm_sched_event begin[] = {
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model},
        {.kind = FM_SCHED_EVENT_ACCELERATOR_UP, .as.accelerator = {.accelerator = 0}},
        {.kind = FM_SCHED_EVENT_ACCELERATOR_UP, .as.accelerator = {.accelerator = 1}},
        {.kind = FM_SCHED_EVENT_ACCELERATOR_SLOW,
         .as.accelerator = {.accelerator = 1, .permille = 1500}},
    };
    step(sched, recorder, 0, begin, 4);
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t now_ns = 1000000 + i * UINT64_C(1300000);
        struct fm_sched_event events[] = {
            {.kind = i % 6 == 5 ? FM_SCHED_EVENT_BATCH_DONE : FM_SCHED_EVENT_BATCH_FAILED,
             .as.batch = {.accelerator = i % 2, .batch = i / 3}},
            {.kind = FM_SCHED_EVENT_REQUEST,
             .as.request = {.request = i, .deadline_ns = now_ns + 25000000, .priority = i % 2}},
            {.kind = FM_SCHED_EVENT_CANCEL, .as.cancel = {.request = i / 2}},
        };
        uint32_t first = i % 3 == 2 ? 0 : 1; /* most steps have no batch that ends */
        step(sched, recorder, now_ns, events + first, (i % 5 == 0 ? 3 : 2) - first);
    }
    struct fm_sched_event end[] = {
        {.kind = FM_SCHED_EVENT_ACCELERATOR_DOWN, .as.accelerator = {.accelerator = 0}},
        {.kind = FM_SCHED_EVENT_MODEL_REMOVED, .as.model_removed = 0},
        {.kind = FM_SCHED_EVENT_DRAIN},
        {.kind = FM_SCHED_EVENT_TICK},
    };
    step(sched, recorder, 40000000, end, 4);
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    if (index >= POLICIES) {
        return 0;
    }
    struct fm_sched_record_header header = {
        .options = {.policy = (enum fm_sched_policy_kind)index,
                    .models_max = 2,
                    .accelerators_max = 2,
                    .type_count = 1,
                    .requests_max = 64,
                    .batch_max = 16,
                    .attempts_max = 2,
                    .learn = true},
        .events_max = 16,
        .action_capacity = 32,
        .request_capacity = 64,
        .has_actions = true,
    };
    struct fm_sched *sched = NULL;
    struct fm_sim_recorder recorder = {0};
    size_t length = 0;
    if (fm_sched_create(&header.options, &sched, NULL) == 0) {
        fm_sim_recorder_begin(&recorder, &header);
        live(sched, &recorder);
        if (fm_sim_recorder_finish(&recorder, NULL) == 0 && recorder.bytes.length < capacity) {
            data[0] = 3;
            memcpy(data + 1, recorder.bytes.data, recorder.bytes.length);
            length = recorder.bytes.length + 1;
        }
    }
    fm_sim_recorder_deinit(&recorder);
    fm_sched_destroy(sched);
    return length;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
